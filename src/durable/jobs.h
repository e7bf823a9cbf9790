/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Durable jobs: requests that are answered 202 once they are stored, and then are run, hop by hop, until they
 * have ended, whatever dies in between. The store remembers them; the core schedules them beside all other
 * requests; this brings the two together. Pure, as the core is: time and randomness come in, I/O is the
 * store's. Loop thread.
 *
 * A job is leased to this hub (held) from when it is given to the core until it has ended or been given back.
 * Only so many of each line (service, tenant, priority) are held at once; the others wait in the store, which
 * gives them out in order. What a worker has answered, and where it sends the job on, counts when the store
 * has it.
 */
#ifndef DURABLE_JOBS_H
#define DURABLE_JOBS_H

#include "base/wheel.h"
#include "core/core.h"
#include "store/store.h"
#include "wire/message.h"

struct jobs;
struct callbacks;
struct buffer;

/* A scattered hop: its parts are for service, what is gathered is for gather; parts have answered before. */
struct jobs_scatter {
    struct core_request request;
    struct slice service, gather;
    const struct store_part *parts; /* their bodies in place, whatever their size */
    size_t count;
};

struct jobs_config {
    struct store *store;         /* borrowed */
    struct core *core;           /* borrowed */
    struct callbacks *callbacks; /* borrowed; NULL: none are made */
    uint32_t shard;
    uint64_t (*now_ms)(void *ctx); /* Unix time, which does not jump */
    uint64_t (*now_us)(void *ctx); /* the core's time */
    /* 64 bits that nobody can guess, for who knows a job's id may have its answer. 0 or WEIR_EIO. */
    int (*random)(uint64_t *ret_bits);
    size_t max_head; /* a stored head may hold four times as much */
    unsigned max_hops;
    unsigned attempts;                    /* of each hop */
    uint64_t backoff_ms, backoff_most_ms; /* between them */
    uint64_t timeout_ms;                  /* of one attempt */
    uint64_t ttl_ms, dead_ttl_ms, key_ttl_ms;
    uint64_t max_body;
    /* Runs a scattered hop (attach/gather.h): request with its message, of which the reference is handed over
       on success, as is body. 0 and *ret_request; or why not. */
    int (*scatter)(void *ctx, const struct jobs_scatter *scatter, struct buffer *body, uint64_t *ret_request,
                   struct failure *ret_why);
    void *ctx;
};

/* Rows: id, help. Counters that only grow. */
#define JOBS_COUNTERS(X)                                                                                     \
    X(accepted, "durable jobs accepted")                                                                     \
    X(repeated, "requests whose Idempotency-Key named a job that was there")                                 \
    X(conflicts, "requests whose Idempotency-Key had come with another request")                             \
    X(steps, "hops of durable jobs finished by a forward")                                                   \
    X(tried_again, "attempts of durable jobs that failed and are to be repeated")                            \
    X(done, "durable jobs ended: done")                                                                      \
    X(failed, "durable jobs ended: failed")                                                                  \
    X(cancelled, "durable jobs ended: cancelled")                                                            \
    X(dead, "durable jobs ended: dead, all attempts used")                                                   \
    X(late, "results of durable jobs refused: somebody else had the job by then, or it had ended")           \
    X(store_retries, "operations of durable jobs repeated because the store could not do them")

struct jobs_stats {
#define JOBS_COUNTER_FIELD(id, help) uint64_t id;
    JOBS_COUNTERS(JOBS_COUNTER_FIELD)
#undef JOBS_COUNTER_FIELD
    uint64_t held; /* now */
};

/* Loads what a hub before has left. 0 or WEIR_ENOMEM. */
int jobs_new(const struct jobs_config *config, struct jobs **ret);
/* Lets happen what is due. */
void jobs_tick(struct jobs *j, uint64_t now_ms);
/* When jobs_tick is wanted next; UINT64_MAX: never. */
uint64_t jobs_next_time(const struct jobs *j);
/* No more is given to the core; what no worker has yet stays in the store. Who waits is told (ended false).
 */
void jobs_drain(struct jobs *j);
/* While it drains: nothing of what workers have answered, or clients have sent, is still on its way to the
 * store. */
bool jobs_idle(const struct jobs *j);
/* Lets go of all that is held. Before the store is closed. */
void jobs_close(struct jobs *j);
/* After the store is closed. NULL is fine. */
void jobs_free(struct jobs **j);
void jobs_stats(const struct jobs *j, struct jobs_stats *ret);
/* For operations that only look. */
struct store *jobs_store(const struct jobs *j);
struct callbacks *jobs_callbacks(const struct jobs *j);
uint64_t jobs_now_ms(const struct jobs *j);

/* ---- coming in ---- */

struct jobs_order {
    struct message *message; /* as a worker is to get it; a reference is taken, and its body taken in */
    struct slice service, tenant;
    struct slice key;      /* Idempotency-Key; empty: none */
    struct slice callback; /* URL; empty: none */
    uint64_t delay_ms;
    uint64_t timeout_ms; /* for all of it, from now on; 0: none */
    uint64_t cost;
    unsigned priority;
    /* Once: it is stored (err 0; repeated: the key had named it before), or why not. */
    void (*done)(void *ctx, int err, struct store_id id, bool repeated);
    void *ctx;
};
struct jobs_ticket;
/* 0 and *ret_ticket, valid until done is called, which may be before this returns (then it is NULL). Or, with
 *ret_why filled: WEIR_ENOSERVICE, WEIR_EDRAINING, WEIR_ERATE, WEIR_EHEADTOOBIG, WEIR_ENOMEM. */
int jobs_accept(struct jobs *j, const struct jobs_order *order, struct jobs_ticket **ret_ticket,
                struct failure *ret_why);
/* Nobody waits for done any more. What has not been given to the store yet is forgotten; the rest is a job.
 */
void jobs_ticket_drop(struct jobs_ticket *t);

/* ---- looking ---- */

struct jobs_view {
    bool running;          /* a worker has it */
    uint64_t started_ms;   /* since when */
    struct slice progress; /* what the worker has said last; borrowed until the next call */
};
/* How it stands with a job that this hub holds; false: it does not hold it. */
bool jobs_look(const struct jobs *j, struct store_id id, struct jobs_view *ret);

/* Somebody waits for a job to end. The caller's memory. */
struct jobs_watch {
    struct list link;
    struct wheel_timer timer;
    struct store_id id;
    /* Once, after the store has its end; or, with ended false, because it has taken too long, or the hub
     * drains.
     */
    void (*told)(struct jobs_watch *w, bool ended);
};
/* Until then (Unix ms). One that has ended before is not told of: look after this, not before. Call
   jobs_watch_init once before these. */
void jobs_watch_init(struct jobs_watch *w);
void jobs_watch(struct jobs *j, struct jobs_watch *w, uint64_t until_ms);
void jobs_unwatch(struct jobs *j, struct jobs_watch *w);

/* ---- changing ---- */

/* The caller's memory, until done is called: once, not from within the call. */
struct jobs_call {
    struct store_op op;
    struct jobs *jobs;
    void (*done)(struct jobs_call *c, int err);
};
/* Ends it as cancelled, wherever it is. WEIR_ENOTFOUND, WEIR_ESTATE: it has ended before, ... */
void jobs_cancel(struct jobs *j, struct store_id id, struct jobs_call *c);
/* Queues a dead one again. WEIR_ENOTFOUND, WEIR_ESTATE: it is not dead, ... */
void jobs_revive(struct jobs *j, struct store_id id, struct jobs_call *c);

#endif
