/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The deciding part: services with their queues, workers with their slots, requests and jobs.
 * Pure: no clock, no I/O, no threads, no globals. Everything that happens comes in as a call with
 * the time; what is to be done comes out of core_next_action. Drain the actions after each call or
 * batch of calls.
 *
 * Times are microseconds on a clock that never goes back (a smaller value counts as the last one).
 * Things are named by ids that are never used again; a call that names something that has ended is
 * counted (core_stats.late) and otherwise without effect, so that late and doubled messages do no harm.
 *
 * A request is what a client wants; a job is one hop of it, standing in one service's queue or at one
 * worker. Life of a job:
 *
 *   QUEUED --> RUNNING --> ANSWERING --> (done)     slot released by core_slot_free
 *      ^          |  \---------\-------> LEAVING    the request no longer depends on it, but the
 *      '--retry---'                                 worker's slot is busy until core_slot_free
 *
 * A job that goes back to its queue after its worker has been given it has a new id when that worker is still
 * there: a late word about the first attempt cannot be taken for one about the second.
 *
 * Every call that brings the time first lets happen what was due before it, as core_tick does. The core's
 * callbacks (release, replayable) must not call the core.
 */
#ifndef CORE_CORE_H
#define CORE_CORE_H

#include "base/slice.h"
#include "core/requester.h"

struct core;

enum { CORE_PRIORITIES = 10, CORE_PRIORITY_DEFAULT = 4 };

/* What the core may ask about a message: the value of that name, p NULL when it has none. */
enum core_value { CORE_VALUE_HEADER, CORE_VALUE_QUERY, CORE_VALUE_PATH };

/* How a service behaves; what is not configured has the default. */
struct core_service_config {
    size_t max_queued;         /* default 10,000 */
    uint64_t max_queued_bytes; /* default 64 MiB */
    uint64_t queue_time_us;    /* longest wait in the queue before 503; 0: no limit; default 30 s */
    uint64_t target_wait_us;   /* aim: a worker serves the one most behind of its services; default 100 ms */
    uint64_t age_us;           /* a class moves up one per wait of its oldest job; default 10 s; 0: never */
    unsigned attempts;         /* default 3 */
    unsigned full_status;      /* 503 or 429; default 503 */
    bool retry_always;         /* retry what is not idempotent too */
    bool admit_by_deadline;    /* refuse at once what, as measured, would wait beyond its deadline */
    bool shortest_first;    /* within a tenant's jobs of a class the cheapest first (see core_request.cost) */
    unsigned best_priority; /* the lowest class number that jobs of it may have; default 0 */
    /* Labels that a worker must have (require), or that are waited for as long as prefer_us (prefer): "k=v,
       k", with ${name} for a header of the message. The texts are borrowed for the core's life. */
    struct slice require, prefer;
    uint64_t prefer_us; /* default 100 ms */
    /* Not empty: a keyed service. The value of that name is a request's key; jobs with the same key run in
       order, one at a time, at the worker that owns the key. Labels do not count then. Set when the service
       is defined first. */
    struct slice key;
    enum core_value key_from;
    /* Overload: when the queue has not been empty for shed_after_us (default 1 s), jobs that have waited
       longer than shed_wait_us are refused. 0: never. */
    uint64_t shed_wait_us, shed_after_us;
};

/* What holds for a tenant. */
struct core_tenant_config {
    uint32_t weight;        /* its share beside other tenants, 1 or more; default 1 */
    unsigned best_priority; /* the lowest class number that it may ask for; default 0 */
    uint64_t rate_per_h;    /* requests per hour; 0: no limit */
    uint64_t burst;         /* requests at once after a pause; 0 is as 1 */
};

/* A worker that could run a job; the fewest running first, then idle longest. */
struct core_candidate {
    uint64_t worker;
    struct slice id, labels;
    unsigned slots, running;
};
enum { CORE_CANDIDATES = 32 };

struct core_config {
    size_t max_queued;                  /* jobs queued in the whole hub; default 100,000 */
    uint64_t max_queued_bytes;          /* and their bytes; default 256 MiB */
    unsigned max_hops;                  /* default 1,000 */
    unsigned max_parts;                 /* that one request may be scattered into; default 10,000 */
    unsigned max_services;              /* default 10,000 */
    unsigned max_workers;               /* default 100,000 */
    size_t max_tenants;                 /* with requests or a rate limit at once; default 10,000 */
    uint64_t seed;                      /* of hash tables; should be secret */
    struct core_service_config service; /* for services that only a worker's offer has named */
    struct core_tenant_config tenant;   /* for tenants that are not configured */
    /* Called when the core needs a request's message no more; it was given by core_submit or
       core_job_forward. */
    void (*release)(void *ctx, void *message);
    /* May the message's body be sent from its beginning again? Asked before a retry. */
    bool (*replayable)(void *ctx, const void *message);
    /* NULL: messages have no values. */
    struct slice (*value)(void *ctx, const void *message, enum core_value kind, struct slice name);
    /* Which of n workers (2 to CORE_CANDIDATES) is to run this message of the service: its index, or n for
       the first. NULL: always the first. */
    size_t (*choose)(void *ctx, struct slice service, const void *message,
                     const struct core_candidate *workers, size_t n);
    void *ctx;
};

void core_service_defaults(struct core_service_config *c);
void core_tenant_defaults(struct core_tenant_config *c);
void core_defaults(struct core_config *c);

/* NULL: out of memory. */
struct core *core_new(const struct core_config *config, uint64_t now);
/* Another config.choose from now on; NULL: always the first. */
void core_set_choose(struct core *core, size_t (*choose)(void *ctx, struct slice service, const void *message,
                                                         const struct core_candidate *workers, size_t n));
/* Releases everything, without actions. */
void core_free(struct core *core);

/* Names a service and sets how it behaves (again: changes it). 0, WEIR_ENOMEM, WEIR_EINVAL (name),
   WEIR_EFULL (max_services), WEIR_ESTATE (it was keyed otherwise). */
int core_service_define(struct core *core, struct slice name, const struct core_service_config *config);
bool core_service_known(const struct core *core, struct slice name);
/* Sets what holds for a tenant (an empty name: for all requests that name none). 0, WEIR_ENOMEM, WEIR_EINVAL.
 */
int core_tenant_define(struct core *core, struct slice name, const struct core_tenant_config *config);

/* ---- requests ---- */

struct core_request {
    struct requester *requester; /* borrowed until the request's terminal event */
    void *message;               /* the core owns it on success; given back through config.release */
    size_t bytes;                /* its size, for the bounds */
    struct slice service;
    struct slice tenant; /* may be empty */
    uint64_t deadline;   /* absolute time; 0: none */
    uint64_t cost;     /* how long it will take, in any unit that the service's requests share; 0: unknown */
    unsigned priority; /* 0 (first) .. 9; the tenant or the service may allow less */
    bool idempotent;   /* by method or Idempotency-Key: may be retried */
    /* Of a durable job: it (and each of its parts) waits in the queue as long as it takes, whatever the load;
       the core neither runs it again nor on at another service (core_job_hand_over), for the requester does,
       and does not count it against its tenant's rate (core_accept has). hop, attempt: what it has behind it.
     */
    bool durable;
    unsigned hop, attempt;
};

/* Queues it (and hands it out at once if a slot is free: then no bound of the queue counts). 0 and
   *ret_request; or, with nothing kept, *ret_why filled: WEIR_ENOSERVICE, WEIR_EFULL, WEIR_EDRAINING,
   WEIR_EDEADLINE, WEIR_ERATE, WEIR_EINVAL, WEIR_ENOMEM. */
int core_submit(struct core *core, uint64_t now, const struct core_request *request, uint64_t *ret_request,
                struct failure *ret_why);

/* May a request of this tenant for this service come in, to be submitted later? Counts against the tenant's
   rate, and makes *priority what both allow. 0; WEIR_ENOSERVICE, WEIR_EDRAINING or WEIR_ERATE, with *ret_why
   filled. */
int core_accept(struct core *core, uint64_t now, struct slice tenant, struct slice service,
                unsigned *priority, struct failure *ret_why);
/* There are jobs for it, so it exists, as if a worker had offered it. As core_service_define. */
int core_service_expect(struct core *core, struct slice name);

enum core_cause {
    CORE_CLIENT_GONE,
    CORE_DEADLINE,
    CORE_DELETED,
    CORE_PARENT_GONE,
    CORE_DRAIN_OVER,
    CORE_CAUSES
};
const char *core_cause_text(enum core_cause cause);
/* The requester takes it back: no reply or fail will be called, not even one that core_next_action has yet to
   give out. Wherever it is, it is cancelled. */
void core_cancel(struct core *core, uint64_t now, uint64_t request, enum core_cause cause);
/* It has not had its terminal event. */
bool core_request_alive(const struct core *core, uint64_t request);

/* ---- workers ---- */

struct core_worker {
    void *port;                              /* the adapter's own handle, given back in actions */
    struct slice id;                         /* for status and logs; copied */
    struct slice labels, address, transport; /* copied */
};

/* A worker without services and slots. 0, WEIR_ENOMEM, WEIR_ETOOMANY, WEIR_EDRAINING. */
int core_worker_attach(struct core *core, uint64_t now, const struct core_worker *worker,
                       uint64_t *ret_worker);
/* It offers a service, which exists from now on. 0, WEIR_EINVAL, WEIR_ENOMEM, WEIR_EFULL. */
int core_worker_offer(struct core *core, uint64_t now, uint64_t worker, struct slice service);
/* How many jobs it can run at once from now on. Fewer than now run is fine: it gets none until enough have
   ended. */
void core_worker_slots(struct core *core, uint64_t now, uint64_t worker, unsigned slots);
/* It carries these labels from now on. What it runs goes on. 0, WEIR_EINVAL (no such worker), or WEIR_ENOMEM:
   it gets fewer jobs than it could; try again. */
int core_worker_labels(struct core *core, uint64_t now, uint64_t worker, struct slice labels);
/* It takes no further job (GOAWAY, BYE); what runs goes on. */
void core_worker_drain(struct core *core, uint64_t now, uint64_t worker);
/* It is gone with its slots. Its jobs follow the retry rule; a reply that has begun is cut by its body's
   abort (which is the adapter's to do), without an action. */
void core_worker_gone(struct core *core, uint64_t now, uint64_t worker);

/* ---- what a worker says of a job; each names the worker, and is late unless that worker has the job ---- */

/* The handler has started (transports that can tell). */
void core_job_started(struct core *core, uint64_t now, uint64_t worker, uint64_t job);
/* Who asked, to be told how far it is; NULL: it is not running, or this is late. */
struct requester *core_job_requester(struct core *core, uint64_t now, uint64_t worker, uint64_t job);
/* The first byte of the reply is about to be passed on: no retry and no deadline from here. Returns who
   asked (pass the reply on to it), or NULL when the answer is late: drop it. */
struct requester *core_job_answer(struct core *core, uint64_t now, uint64_t worker, uint64_t job);
/* The reply has been received whole (after core_job_answer). Terminal for the request. */
void core_job_done(struct core *core, uint64_t now, uint64_t worker, uint64_t job);
/* Instead of a reply: the request goes on at service with a new message (owned by the core on success; on
   failure the caller still owns it, and the core has failed the request: WEIR_ENOSERVICE becomes a 502
   that names it, WEIR_EHOPS, WEIR_EFULL, WEIR_ENOMEM; or WEIR_ESTATE: late, no effect). The slot stays busy
   until core_slot_free. The request stays as idempotent as it was: if the client may repeat it, a stage may
   be repeated. */
struct core_hop {
    struct slice service;
    void *message;
    size_t bytes;
    uint64_t cost; /* as in core_request; 0: as before */
};
int core_job_forward(struct core *core, uint64_t now, uint64_t worker, uint64_t job,
                     const struct core_hop *hop);
/* Of a durable job, before core_job_forward: the requester is to run it on, to whom the hop must be told
   (requester_ops.forward). Terminal for the request. NULL: it is none, or this is late. The slot stays busy
   until core_slot_free. */
struct requester *core_job_hand_over(struct core *core, uint64_t now, uint64_t worker, uint64_t job);
/* Is it a durable job's, running at that worker? */
bool core_job_durable(const struct core *core, uint64_t worker, uint64_t job);
/* Given back unstarted: always safe to run elsewhere; goes to the head of its queue, its waiting time going
   on. Frees the slot. Does not use up an attempt. The worker gets no job for the next 100 ms, unless
   core_worker_slots is called or another of its jobs ends before: a closed gate must not make jobs bounce. */
void core_job_handed_back(struct core *core, uint64_t now, uint64_t worker, uint64_t job);
/* Its transport broke before it was done (stream reset, connection closed): the retry rule decides; a reply
   that has begun is cut as by core_worker_gone. Frees the slot. */
void core_job_lost(struct core *core, uint64_t now, uint64_t worker, uint64_t job);
/* Ended for good with an error of the worker's (WEIR_EBADANSWER: nonsense). The slot stays busy until
   core_slot_free. why.service is set by the core. */
void core_job_fail(struct core *core, uint64_t now, uint64_t worker, uint64_t job, const struct failure *why);
/* The worker's side of a job has ended: the slot can take another. For a job that is still RUNNING or
   ANSWERING the same as core_job_lost. */
void core_slot_free(struct core *core, uint64_t now, uint64_t worker, uint64_t job);

/* ---- scatter and gather: a request waits for its parts, which are requests too ---- */

/* Instead of a reply: the request goes on as count parts, which the caller (the gatherer) submits, and when
   they have answered it says what becomes of the request. Until then its deadline counts; when it ends
   before, for whatever reason, the parts are cancelled without a word to their requesters, and an action
   tells the gatherer. 0 and *ret_request; WEIR_EPARTS: more than max_parts, the core has failed the request;
   WEIR_ESTATE: late, no effect. The slot stays busy until core_slot_free. */
int core_job_scatter(struct core *core, uint64_t now, uint64_t worker, uint64_t job, unsigned count,
                     struct gatherer *gatherer, uint64_t *ret_request);
/* The same for a durable job whose scattered hop has been stored: the request (its message: of that hop)
   begins as one that gathers. 0; WEIR_EDRAINING, WEIR_EDEADLINE, WEIR_EPARTS, WEIR_ENOMEM with nothing kept.
 */
int core_scatter(struct core *core, uint64_t now, const struct core_request *request, unsigned count,
                 struct gatherer *gatherer, uint64_t *ret_request, struct failure *ret_why);
/* A part of that request, as core_submit. Tenant, deadline, priority and idempotence are the request's. Also
   while the hub drains. WEIR_ESTATE: the request does not gather (any more); WEIR_EPARTS: it has had its
   count of parts. */
struct core_part {
    struct requester *requester; /* borrowed until the part's terminal event or the request's */
    void *message;               /* the core owns it on success */
    size_t bytes;
    struct slice service;
    uint64_t cost; /* 0: the request's */
};
int core_part_submit(struct core *core, uint64_t now, uint64_t request, const struct core_part *part,
                     uint64_t *ret_part, struct failure *ret_why);
/* The request goes on at a service with what was gathered, as by core_job_forward. Parts that are left are
 * cancelled. WEIR_ESTATE: late, no effect; as with the two below, also when the deadline passes in this very
 * call. Then, and only then, the gatherer is told by an action, and must be there until it is. */
int core_gather_forward(struct core *core, uint64_t now, uint64_t request, const struct core_hop *hop);
/* As core_job_hand_over, before core_gather_forward. */
struct requester *core_gather_hand_over(struct core *core, uint64_t now, uint64_t request);
/* What was gathered is the reply: who asked (pass it on whole), or NULL: too late. Terminal for the request.
 */
struct requester *core_gather_reply(struct core *core, uint64_t now, uint64_t request);
/* It has failed. why.service is set by the core. 0, or WEIR_ESTATE: late, no effect. */
int core_gather_fail(struct core *core, uint64_t now, uint64_t request, const struct failure *why);

/* ---- time ---- */

/* Lets deadlines and queue times pass. */
void core_tick(struct core *core, uint64_t now);
/* When core_tick is wanted next, at the earliest; UINT64_MAX: never. */
uint64_t core_next_time(const struct core *core);

/* ---- drain ---- */

/* New requests are refused and no workers attach; what is queued or running goes on. */
void core_drain(struct core *core, uint64_t now);
/* Drain time over: everything left is cancelled with WEIR_EDRAINING (or cut, when a reply has begun). */
void core_drain_over(struct core *core, uint64_t now);
/* No requests are left. */
bool core_idle(const struct core *core);

/* ---- what is to be done ---- */

enum core_action_kind {
    CORE_NOTHING,
    CORE_SEND,   /* give the job to the worker; body_rewind first when attempt or retry asks for it */
    CORE_CANCEL, /* the worker's job is no longer wanted; core_slot_free when its side has ended */
    CORE_FAIL,   /* tell the requester */
    CORE_GONE,   /* the request is over for its gatherer; nobody else is to be told */
    CORE_ENDED   /* the request that began a reply has been ended by the hub (drain): cut it */
};

struct core_action {
    enum core_action_kind kind;
    uint64_t request, job, worker;
    void *port;                  /* SEND, CANCEL: the worker's */
    void *message;               /* SEND: borrowed until the job ends */
    struct requester *requester; /* SEND, FAIL, ENDED */
    struct gatherer *gatherer;   /* FAIL, GONE, ENDED: NULL, or to be told that it gathers no more */
    struct failure why;          /* FAIL */
    enum core_cause cause;       /* CANCEL */
    struct slice service;        /* SEND; borrowed until the next call */
    unsigned hop, attempt;       /* SEND; attempt counts from 1 */
    bool resend;                 /* SEND: the message has been given to a worker before */
    uint64_t deadline;           /* SEND; 0: none */
};

/* The next action in *ret and true; false when there is none. After FAIL and ENDED the requester is not
   touched again. */
bool core_next_action(struct core *core, struct core_action *ret);

/* ---- looking ---- */

/* Bucket bounds of core_histogram, in microseconds; the last bucket is for everything above. */
#define CORE_BOUNDS_US                                                                                       \
    {                                                                                                        \
        100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000,      \
            5000000, 10000000, 30000000, 60000000                                                            \
    }
enum { CORE_BOUNDS = 18 };
struct core_histogram {
    uint64_t count, sum_us, buckets[CORE_BOUNDS + 1];
};
/* Counts one value. */
void core_histogram_add(struct core_histogram *h, uint64_t us);

/* Rows: id, help. Counters that only grow. */
#define CORE_COUNTERS(X)                                                                                     \
    X(submitted, "requests accepted into a queue")                                                           \
    X(done, "requests whose reply was received whole")                                                       \
    X(failed, "accepted requests that the hub ended with an error, or whose reply was cut")                  \
    X(dispatched, "jobs handed to workers, retries included")                                                \
    X(forwarded, "jobs that a worker sent on to a service")                                                  \
    X(scattered, "jobs that a worker scattered into parts")                                                  \
    X(parts, "parts submitted")                                                                              \
    X(rejected_parts, "requests refused: more parts than max-parts")                                         \
    X(retried, "jobs run again after their worker was lost")                                                 \
    X(handed_back, "jobs given back unstarted by a worker")                                                  \
    X(lost, "jobs whose worker was lost while they ran")                                                     \
    X(late, "messages about jobs that had ended, or from a worker that did not have them")                   \
    X(bad_answers, "answers of workers that were nonsense")                                                  \
    X(rejected_full, "requests refused: queue full")                                                         \
    X(rejected_admission, "requests refused: they would have waited beyond their deadline")                  \
    X(rejected_overload, "requests refused: the service was overloaded")                                     \
    X(rejected_rate, "requests refused: their tenant was over its rate")                                     \
    X(rejected_labels, "requests refused: no labels could be made of their headers, or too many")            \
    X(rejected_no_service, "requests refused: no such service")                                              \
    X(rejected_draining, "requests refused: draining")                                                       \
    X(rejected_queue_time, "requests refused: waited longer than the queue time")                            \
    X(rejected_deadline, "requests whose deadline passed before their reply began")                          \
    X(rejected_hops, "requests refused: more hops than max-hops")                                            \
    X(workers_attached, "workers that attached")                                                             \
    X(workers_gone, "workers that went away")

enum core_phase { CORE_PHASE_QUEUED, CORE_PHASE_RUNNING, CORE_PHASE_ANSWERING, CORE_PHASES };
const char *core_phase_text(enum core_phase phase);

struct core_stats {
#define CORE_COUNTER_FIELD(id, help) uint64_t id;
    CORE_COUNTERS(CORE_COUNTER_FIELD)
#undef CORE_COUNTER_FIELD
    /* Deadlines and drain among them, which count as failed too. */
    uint64_t cancelled[CORE_PHASES][CORE_CAUSES];
    /* Now. slots: of the workers that do not drain, busy ones included. */
    uint64_t requests, queued, queued_bytes, running, leaving, workers, slots;
    bool draining;
};
void core_stats(const struct core *core, struct core_stats *ret);

struct core_service_view {
    struct slice name;
    uint64_t queued, queued_bytes, running, workers, slots;
    uint64_t done_per_s_milli; /* measured rate, in 1/1000 per s */
    uint64_t submitted, dispatched, done, oldest_wait_us;
    const struct core_histogram *wait, *run; /* borrowed until the next call */
    const struct core_service_config *config;
    /* A keyed service: */
    uint64_t epoch, keys; /* keys: that have jobs */
    unsigned members;
    bool pending;                 /* members have changed since, or slices are held */
    const char *phase;            /* of the epoch; NULL: it is not keyed */
    unsigned slices, held, moved; /* all of them; that wait for their owner; that this epoch moves */
    uint64_t changes;             /* slices that have changed hands, ever */
};
/* Which worker owns a key of a keyed service (0: none yet), and whether it is held because it changes hands.
   False: there is no such service. */
bool core_key_owner(const struct core *core, struct slice service, struct slice key, uint64_t *ret_worker,
                    bool *ret_held);
/* Slots of the workers that offer it; 0 for a service that does not exist. */
uint64_t core_service_slots(const struct core *core, struct slice name);
/* Walks the services: start with *cursor 0; false at the end. Order of definition. */
bool core_service_next(const struct core *core, uint32_t *cursor, struct core_service_view *ret);

struct core_tenant_view {
    struct slice name; /* empty: all requests without a tenant of their own */
    uint64_t requests; /* alive now */
    uint64_t submitted, dispatched, rejected_rate;
    const struct core_tenant_config *config;
};
struct core_tenant_cursor {
    bool begun;
    size_t bucket;
    const void *next;
};
/* Walks the tenants that there are now: start with a zeroed cursor; no other call in between. */
bool core_tenant_next(const struct core *core, struct core_tenant_cursor *cursor,
                      struct core_tenant_view *ret);

struct core_worker_view {
    uint64_t worker;
    struct slice id, labels, address, transport;
    unsigned slots, running;
    bool draining;
    uint64_t attached_us, dispatched;
};
bool core_worker_next(const struct core *core, uint32_t *cursor, struct core_worker_view *ret);
/* The services of a worker: start with *cursor 0. *ret_slices (may be NULL): of a keyed one's ring,
   that it owns. */
bool core_worker_service_next(const struct core *core, uint64_t worker, uint32_t *cursor,
                              struct slice *ret_service, unsigned *ret_slices);

enum core_job_state { CORE_QUEUED, CORE_RUNNING, CORE_ANSWERING, CORE_LEAVING };
struct core_job_view {
    uint64_t job, request, worker;
    struct slice service;
    enum core_job_state state;
    unsigned hop, attempt, priority;
    uint64_t queued_at, sent_at; /* times; sent_at 0 when queued */
};
bool core_job_next(const struct core *core, uint32_t *cursor, struct core_job_view *ret);

#endif
