/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scatter and gather: a worker's multipart answer becomes parts, each a request of its own; their answers are
 * put together again, in part order, and go to a service or to the client. A gather is the requester of its
 * parts and the core's gatherer of the request that was scattered. Parts are submitted as slots become free,
 * so that a large scatter does not fill its service's queue. Loop thread only.
 */
#ifndef ATTACH_GATHER_H
#define ATTACH_GATHER_H

#include "base/buffer.h"
#include "core/core.h"
#include "wire/message.h"

struct io_loop;

/* All gathers of a hub. */
struct gathers {
    struct core *core;
    struct io_loop *loop;
    size_t max_head;    /* of a part */
    size_t max_bytes;   /* of one scattered body, and of the answers to it with their fields */
    uint64_t max_total; /* of all of them */
    uint64_t held;
    struct list all, busy; /* busy: with something to do in this turn */
};

void gathers_init(struct gathers *g);
void gathers_free(struct gathers *g);
/* Once per turn; true: the core may have decided something by that. */
bool gathers_turn(struct gathers *g);
/* Counts n more bytes held for a scattered body that holds held already; false: too many. */
bool gathers_hold(struct gathers *g, size_t held, size_t n);
void gathers_release(struct gathers *g, size_t n);

/* Why there is no message for the next hop; err is message_forward's. */
struct failure gather_hop_failure(int err);

/* How many parts such a body has; or WEIR_EBADANSWER with *ret_why. */
int gather_count(struct slice body, struct slice boundary, size_t *ret_count, const char **ret_why);

/* The worker's answer to this job scatters the message's request: body (which is taken over, and counted as
   held) with this boundary. 0; WEIR_EBADANSWER with *ret_why, WEIR_ENOMEM: the caller fails the job;
   WEIR_ESTATE, WEIR_EPARTS: the core knows. */
struct gather_job {
    uint64_t worker, job;
    struct message *message;
    const struct answer *answer;
    const char *boundary;
};
int gather_start(struct gathers *g, uint64_t now, const struct gather_job *job, struct buffer *body,
                 const char **ret_why);

/* A part that has answered before. */
struct gather_known {
    unsigned index, status;
    struct slice fields, body; /* fields: lines, each ended by CRLF */
};
/* A scattered hop of a durable job, stored and read again: request is as for core_scatter, with its message,
   and its requester is told of each part that answers; body is taken over. 0; or with nothing taken, and
   *ret_why filled: what core_scatter says, WEIR_EBADANSWER, WEIR_ETOOBIG (max-gather), WEIR_EFULL (beside
   others, now), WEIR_ENOMEM. */
struct gather_stored {
    struct core_request request;
    struct slice service, gather;
    const struct gather_known *known;
    size_t known_count;
};
int gather_resume(struct gathers *g, uint64_t now, const struct gather_stored *stored, struct buffer *body,
                  uint64_t *ret_request, struct failure *ret_why);

#endif
