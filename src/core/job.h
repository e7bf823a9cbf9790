/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests and jobs inside the core. Both live in slabs and do not move; a request has one job (its present
 * hop), or none once it has failed and only its FAIL or ENDED action waits to be taken.
 *
 * What is to be done stands in one list of actions, linked through the job (SEND, CANCEL) or the request
 * (FAIL, ENDED) that it is about: no action needs memory, so none can be lost, and one is undone by unlinking
 * it.
 */
#ifndef CORE_JOB_H
#define CORE_JOB_H

#include "base/list.h"
#include "base/wheel.h"
#include "core/pool.h"

struct service;
struct key;
struct tenant;
struct worker;

struct action {
    struct list link;
    enum core_action_kind kind; /* CORE_NOTHING: not pending */
};

struct request {
    uint64_t id;
    struct requester *requester;
    void *message;
    struct job *job;          /* NULL: failed, or it gathers */
    struct wheel_timer timer; /* for the deadline or the queue time; may ring early */
    struct tenant *tenant;
    uint64_t deadline; /* 0: none (any more) */
    uint64_t cost;     /* 0: unknown */
    size_t bytes;
    struct action action;
    struct failure why;           /* of a FAIL */
    char *why_name;               /* holds why.service when no service has that name */
    struct gatherer *gatherer;    /* NULL: it does not gather */
    struct service *gathers_from; /* the service that scattered it */
    struct request *parent;       /* of a part */
    struct list parts, sibling;   /* of one that gathers: its parts that are alive; in parent.parts */
    unsigned parts_left;          /* of one that gathers: how many may yet be submitted */
    unsigned scattered;           /* of one that is no part: all the parts that came of it */
    unsigned hop, attempt;        /* attempt: how often it was tried before it was submitted */
    uint8_t priority;
    bool idempotent, durable;
    bool patient; /* of a durable job, or a part of one: waits in the queue as long as it takes */
    bool given;   /* a worker has been given the present message */
};

struct job {
    uint64_t id;
    struct request *request; /* NULL: LEAVING */
    struct service *service;
    struct worker *worker; /* NULL: QUEUED */
    struct list link;      /* in its lane of the queue, or in the worker's jobs */
    struct place place;
    struct key *key;     /* of a keyed service's */
    struct queue *queue; /* QUEUED, unless it is behind its key's head, or parked */
    struct lane *lane;   /* in it; NULL: it has come back */
    size_t heap_at;      /* in lane.cheap, or HEAP_NOWHERE */
    int64_t order;       /* among all that were ever queued; negative: it has come back */
    uint64_t cost;       /* the request's, the unknown ones last */
    struct share *share; /* QUEUED: its tenant's in the service; NULL: memory lacked */
    struct list share_link;
    struct action action;
    uint64_t request_id;
    uint64_t queued_at, sent_at;
    unsigned hop, attempt; /* attempt: how many times it was started */
    uint8_t state;         /* enum core_job_state */
    uint8_t priority;
    uint8_t cause; /* of a CANCEL */
};

/* A job for the request, in no queue yet. NULL: out of memory. */
struct job *core_job_new(struct core *core, struct request *r, struct place place);
/* The request goes on as the job of another service, in *ret; or why it cannot. */
int core_job_next_hop(struct core *core, struct request *r, const struct core_hop *hop, struct job **ret,
                      struct failure *ret_why);
/* The request is that job, with that message, from now on. */
void core_job_go_on(struct core *core, struct request *r, struct job *job, const struct core_hop *hop);
/* The same from the other side: it cannot go on, for that reason, which may name a service that does not
 * exist. */
void core_job_go_nowhere(struct core *core, struct request *r, struct failure *why);
/* Frees a job that is in no queue and at no worker, and its action. */
void core_job_free(struct core *core, struct job *job);
/* Takes a job away from its worker, whose slot is free then (see core_dispatch_worker). */
void core_job_off_worker(struct core *core, struct job *job);
/* The request depends on a running job no more; its slot stays busy. */
void core_job_leave(struct core *core, struct job *job);
/* It was answered or forwarded: counts it. */
void core_job_finished(struct core *core, struct job *job);
/* A job whose worker was lost: off the worker, and back to its queue or the request fails. The caller
   lets the service and the worker dispatch. renew: it must get a new id, as the worker may still speak of it.
 */
void core_job_retry(struct core *core, struct job *job, bool renew);

/* Wherever the request's job is, nobody wants it any more: off the queue, or undone, or a CANCEL for its
   worker. Leaves the request without a job. */
void core_request_drop_job(struct core *core, struct request *r, enum core_cause cause);
/* The request gathers no more, for whatever reason: its parts are cancelled. */
void core_request_drop_parts(struct core *core, struct request *r);
/* For a request without a job: it is over, its requester need not be told; but its gatherer, if it has one.
 */
void core_request_withdraw(struct core *core, struct request *r);
/* A request that is queued for the first time. NULL: out of memory. */
struct request *core_request_new(struct core *core, const struct core_request *from, unsigned priority,
                                 struct tenant *t);
/* For a request without a job: FAIL is to be told to the requester. */
void core_request_fail(struct core *core, struct request *r, const struct failure *why);
/* For a request without a job: it is over. */
void core_request_end(struct core *core, struct request *r);
/* Its job stands where nobody will take it: it is looked at soon. */
void core_request_hurry(struct core *core, struct job *job);
/* Sees to it that its timer rings by the time that anything about it is due. */
void core_request_arm(struct core *core, struct request *r);
/* Its job has waited too long for an overloaded service. */
void core_request_shed(struct core *core, struct request *r);
/* Its queued job makes room in a full queue. */
void core_request_push_out(struct core *core, struct request *r);
/* Its timer has rung. */
void core_request_timer(struct core *core, struct request *r);

void core_action_add(struct core *core, struct action *a, enum core_action_kind kind);
void core_action_undo(struct action *a);

#endif
