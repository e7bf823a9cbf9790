/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to a hub's API, one after the other on a kept connection; blocking. For commands that are its
 * clients. */
#ifndef CLI_DIALOG_H
#define CLI_DIALOG_H

#include "base/buffer.h"
#include "cli/cli.h"
#include "io/stream.h"
#include "wire/http1.h"

#include <signal.h>

struct dialog {
    struct io_address to;
    char *url, *host, *base, *token; /* its own; base: what stands before the API's paths; token NULL: none */
    int fd;                          /* -1: not connected */
    struct buffer in;
    uint64_t patience_ms;
    /* For who ends waits by a signal, whose handler sets *stop: it keeps the signal blocked, and these are
       let through while an answer is waited for. stop NULL: waits go on. */
    volatile sig_atomic_t *stop;
    sigset_t unmasked;
};

/* Of the next answer. */
struct dialog_answer {
    unsigned status;
    struct http_head head;
    struct arena arena;
    struct buffer body;
};

enum { DIALOG_HUB, DIALOG_TOKEN, DIALOG_TOKEN_FILE, DIALOG_OPTIONS };
/* The first rows of a command that has a dialog. */
#define DIALOG_OPTION_ROWS                                                                                   \
    [DIALOG_HUB] =                                                                                           \
        {"hub", 0, "URL",                                                                                    \
         "the hub: http://HOST[:PORT][/BASE] or unix:SOCKET[:/BASE] (the configuration's listen; "           \
         "http://127.0.0.1:8080)"},                                                                          \
    [DIALOG_TOKEN] = {"token", 0, "SECRET", "a client-token of the hub; --token-file hides it from ps"},     \
    [DIALOG_TOKEN_FILE] = {"token-file", 0, "FILE", "the token is the first line of FILE"}

/* What was given for these rows. */
struct dialog_options {
    const char *hub, *token, *token_file;
};
/* True when it was one of them. */
bool dialog_take(struct dialog_options *o, int option, const char *value);

/* base: where the API is when the URL has no path. -1, or the exit status with which it has failed. */
int dialog_open(struct cli *cli, const struct dialog_options *o, const char *base, struct dialog *ret);
void dialog_close(struct dialog *d);
/* target: behind the base. fields: whole header lines, or "". wait_ms: how long the hub may take besides. 0
   and *ret, which dialog_answer_fini frees; WEIR_ECONNECT, WEIR_ETIMEDOUT, WEIR_ECLOSED, WEIR_ECANCELLED
   (stop), WEIR_EMALFORMED, WEIR_ENOMEM. */
int dialog_ask(struct dialog *d, const char *method, const char *target, const char *fields,
               const struct slice *body, uint64_t wait_ms, struct dialog_answer *ret);
void dialog_answer_fini(struct dialog_answer *a);
/* Says that a request has failed; returns the exit status. */
int dialog_fail(struct cli *cli, const struct dialog *d, int err);
/* Says what a hub has answered that was not wanted; returns CLI_FAILED. */
int dialog_refused(struct cli *cli, const struct dialog_answer *a);
/* Appends /NAME, percent-encoded. */
void dialog_add_segment(struct buffer *target, const char *name);

#endif
