/* SPDX-License-Identifier: Apache-2.0 */
/* Durable jobs as JSON, and what of a request speaks of them. */
#ifndef EDGE_JOBS_PAGE_H
#define EDGE_JOBS_PAGE_H

#include "durable/jobs.h"
#include <jansson.h>

/* The state that clients see: a leased one runs only when a worker has it. */
const char *jobs_page_state(const struct jobs *j, const struct store_job *job);
/* One job; NULL: out of memory. */
json_t *jobs_page_job(const struct jobs *j, const struct store_job *job);
/* The states of a comma list, as a mask; all when it is empty. False: one of them is none. */
bool jobs_page_states(struct slice list, unsigned *ret_mask);

/* Prefer (RFC 7240): is respond-async in it, and wait (ms; 0: not). */
bool jobs_page_prefer(const struct http_head *head, uint64_t *ret_wait_ms);

#endif
