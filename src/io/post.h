/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POST requests to http and https URLs, by libcurl on the loop. Loop thread only; nothing here waits: names
 * are looked up by threads of libcurl's.
 *
 * So many are sent at once, the others wait for their turn. Redirects are not followed, proxies of the
 * environment are not used, certificates are checked. Of an answer only the status counts: what comes behind
 * the first 64 KiB is not read.
 */
#ifndef IO_POST_H
#define IO_POST_H

#include "base/slice.h"
#include "io/stream.h"

enum { POST_AT_ONCE = 16, POST_ANSWER = 64 * 1024 };

struct post;

struct post_config {
    struct io_loop *loop;
    uint64_t timeout_ms;    /* of each, from its turn to the end of the answer */
    const char *user_agent; /* copied */
    const char
        *ca_file; /* PEM, instead of the system's certificates; NULL: these. Borrowed for the post's life */
};

struct post_request {
    const char *url;
    struct slice body;         /* borrowed until done, or post_close */
    const char *const *fields; /* "Name: value"; NULL ends the list */
};

/* 0, WEIR_ENOMEM, or WEIR_EIO with *ret_text (static): what libcurl lacks. */
int post_new(const struct post_config *config, struct post **ret, const char **ret_text);
/* done is called once, not from within: with the answer's status; or with 0, and why (static) there is none.
   0, WEIR_ENOMEM, or WEIR_EINVAL: not a URL that libcurl takes; then done is not called. */
int post_send(struct post *p, const struct post_request *r,
              void (*done)(void *ctx, unsigned status, const char *why), void *ctx);
/* Gives up what is under way, without its done. Frees it when the loop has let go of it. NULL is fine. Not
   from within a done. */
void post_close(struct post **p);

#endif
