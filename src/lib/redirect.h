/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bulk answers, fetched by the client from the worker itself: the hub passes on a 303 to a one-time address
 * on the worker's own listener. See redirect.c.
 */
#ifndef LIB_REDIRECT_H
#define LIB_REDIRECT_H

#include <stdbool.h>
#include <stddef.h>
#include <weir/weir.h>

struct weir_worker;
struct redirects;

/* Listens. 0; WEIR_EINVAL for an address that cannot be, WEIR_EIO when it cannot be listened on. */
int redirects_open(struct weir_worker *w, const weir_worker_options *o);
void redirects_free(struct weir_worker *w);
/* The thread that serves them. 0 or WEIR_ENOMEM. */
int redirects_start(struct weir_worker *w);
void redirects_stop(struct weir_worker *w);
/* Ends what has not been fetched. Under the lock. */
void redirects_cancel(struct weir_worker *w);

/* May an answer with this status be redirected at all? */
bool redirect_allowed(const weir_job *job, unsigned status);
/* From how many bytes on it is. */
size_t redirect_threshold(const weir_job *job);
/* Answers the hub with the 303; the answer's fields go with the body. 0 or a WEIR_E*. */
int redirect_begin(weir_job *job);
/* More of the body. WEIR_ECANCELLED: nobody fetches it. */
int redirect_write(weir_job *job, const void *bytes, size_t size);
/* The body is whole: waits until it has been fetched or has expired. */
int redirect_end(weir_job *job);
/* The handler has returned; a body that is not whole is cut. */
void redirect_over(weir_job *job);

#endif
