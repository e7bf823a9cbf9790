/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to a hub's listener for clients, one after the other on a kept connection; blocking, but never for
 * longer than it is told. For libweir's client and for the commands that are clients. One thread at a time.
 */
#ifndef LIB_DIALOG_H
#define LIB_DIALOG_H

#include "base/buffer.h"
#include "io/stream.h"
#include "wire/http1.h"

#include <signal.h>

struct dialog {
    struct io_address to;
    char *url, *host, *base, *token; /* its own; base: what stands before each target; token NULL: none */
    int fd;                          /* -1: not connected */
    struct buffer in;
    size_t max_body;     /* bytes of an answer's body, beyond which it is WEIR_ETOOBIG */
    uint64_t silence_ms; /* how long the hub may neither send nor take a byte */
    uint64_t until_ms;   /* on the monotonic clock: when to give up, whatever comes */
    /* For who ends waits by a signal, whose handler sets *stop: it keeps the signal blocked, and these are
       let through while the hub is waited for. stop NULL: waits go on. */
    volatile sig_atomic_t *stop;
    sigset_t unmasked;
    /* Of the last try: it was on a connection that had been used before; bytes of it were sent; some of its
       answer came. */
    bool kept, sent, heard;
};

struct dialog_answer {
    unsigned status;
    struct http_head head;
    struct arena arena;
    struct buffer body;
};

/* url: http://HOST[:PORT][/BASE], HOST:PORT or unix:SOCKET[:/BASE]; base: when it names none. Without limits
   of time and size. Does not connect. 0, WEIR_EINVAL or WEIR_ENOMEM; dialog_close is wanted in any case. */
int dialog_init(struct dialog *d, const char *url, const char *base);
/* NULL or "": none. WEIR_EINVAL when it cannot be sent in a header, WEIR_ENOMEM. */
int dialog_set_token(struct dialog *d, const char *token);
void dialog_close(struct dialog *d);

/* One try of a request. target: behind the base. fields: whole header lines, or "". 0 and *ret, which
   dialog_answer_fini frees; WEIR_ECONNECT, WEIR_ETIMEDOUT, WEIR_ECLOSED or WEIR_ECUT, WEIR_ECANCELLED (stop),
   WEIR_EMALFORMED, WEIR_EHEADTOOBIG, WEIR_ETOOBIG, WEIR_ENOMEM, WEIR_EIO (no descriptors). */
int dialog_try(struct dialog *d, const char *method, const char *target, const char *fields,
               const struct slice *body, struct dialog_answer *ret);
void dialog_answer_fini(struct dialog_answer *a);

/* Append TEXT, or /TEXT, percent-encoded. */
void dialog_add_text(struct buffer *target, const char *text);
void dialog_add_segment(struct buffer *target, const char *text);

#endif
