/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold for any bytes that come over an HTTP/1 connection; ASSERTs that it does. */
#ifndef FUZZ_HTTP1_CHECK_H
#define FUZZ_HTTP1_CHECK_H

#include "wire/http1.h"

/* One message as a connection reads it. */
struct http1_run {
    struct arena arena;
    struct http_head head; /* when head_size > 0 and error is 0 or the body's */
    size_t skipped, head_size, body_size;
    struct buffer payload;
    int error; /* the first one, of whatever stage; 0: read to the end */
    bool parsed;
};

/* Reads a message in steps of step bytes. request_method empty: the message is a request. */
void http1_run(struct http1_run *ret, struct slice data, size_t step, struct slice request_method);
void http1_run_fini(struct http1_run *run);
/* The same came out. */
void http1_check_equal(const struct http1_run *a, const struct http1_run *b);
/* No text that could break out of its place; the flags agree with the fields. */
void http1_check_head(const struct http_head *head);
/* Equal but for the version and what follows from it. */
void http1_check_same_head(const struct http_head *a, const struct http_head *b);
/* The functions that take fields out leave a head in order and none of those fields. */
void http1_check_strip(struct http_head *head);
/* How the input is split makes no difference; calls check (with the whole run) when a head was read. */
void http1_check_splits(struct slice data, struct slice request_method, void (*check)(struct http1_run *run));

#endif
