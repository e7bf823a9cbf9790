/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Durable jobs without a hub: the engine with a real core, the model of a store behind a gate that lets
 * operations take effect and be told one by one (or fail, or stand still), and workers that are acted out by
 * hand. Time stands still unless it is moved. Used by unit tests and by the simulator; what must not happen
 * ends the program with a message.
 *
 * The world's own allocations neither count nor fail (test/lib/fault.h); those of the engine and the core do.
 */
#ifndef TEST_UNIT_DURABLE_WORLD_H
#define TEST_UNIT_DURABLE_WORLD_H

#include "base/buffer.h"
#include "core/core.h"
#include "durable/jobs.h"
#include "store/model.h"

enum { DW_WORKERS = 24, DW_LEASES = 1024, DW_OPS = 4096, DW_SERVICES = 8, DW_HEAD = 8192 };

/* ---- the gate before the store ---- */

struct gate_op {
    struct store_op *op;
    void (*done)(struct store_op *op);
    bool applied; /* it has taken effect (or failed), and nobody has heard */
};
struct gate {
    struct store base;
    struct store *model;
    struct gate_op ops[DW_OPS]; /* in the order of submission */
    size_t count;
    bool held;  /* dw_settle lets nothing through */
    bool dead;  /* a crash: nothing takes effect any more, and all that is told is an error */
    bool loose; /* operations about different things in any order, as store.h allows */
    /* 0, or what this operation fails with; NULL: none does. */
    int (*fault)(void *ctx, const struct store_op *op);
    /* It has taken effect, or failed; it is to be told now. NULL: of no interest. */
    void (*applied)(void *ctx, const struct store_op *op);
    void (*telling)(void *ctx, const struct store_op *op);
    void *ctx;
};
/* May operation i take effect now, may it be told? */
bool gate_may_apply(const struct gate *g, size_t i);
bool gate_may_tell(const struct gate *g, size_t i);
void gate_apply(struct gate *g, size_t i);
void gate_tell(struct gate *g, size_t i);
/* All of them, and those that come of it. */
void gate_flush(struct gate *g);

/* ---- workers ---- */

enum lease_state { LEASE_NONE, LEASE_RUNNING, LEASE_REPLYING, LEASE_HANDING, LEASE_LEAVING };

struct dw_lease {
    enum lease_state state; /* HANDING: its next hop's body is still coming; the core has let it go */
    uint64_t worker, job;
    struct message *message; /* a reference */
    struct body *body;       /* of the answer or the next hop, while it comes in; a reference */
    unsigned hop, attempt;
    bool cancelled, durable; /* durable: not a part */
    enum core_cause cause;   /* why it is cancelled */
    uint64_t sent_ms;
    uint64_t read, sum; /* bytes of the request's body that have been read, and dw_sum of them */
    char service[16], target[64];
    uint64_t tag; /* the user's */
};

struct dw {
    struct gate gate;
    struct core *core;
    struct jobs *jobs;
    struct jobs_config config;
    struct core_config core_config;
    struct core_service_config service_config;
    uint64_t ms; /* Unix time; the core's is the same in microseconds */
    uint64_t random;
    uint64_t workers[DW_WORKERS];
    struct dw_lease leases[DW_LEASES];
    struct list gathers, busy;
    size_t gathering;
    void (*sent)(void *ctx, struct dw_lease *l);      /* a worker is given a job; NULL: of no interest */
    void (*cancelled)(void *ctx, struct dw_lease *l); /* a worker is told to stop */
    void *ctx;
};

/* A world with an empty store and a hub of services "a" to "h"; config as dw_defaults left it, and changed.
 */
void dw_defaults(struct dw *w);
void dw_open(struct dw *w);
/* The engine and the core begin on what the store has. 0 or WEIR_ENOMEM (then nothing is there). */
int dw_start(struct dw *w);
/* They end in order, what is under way in the store completes. */
void dw_stop(struct dw *w);
/* They are gone as if killed: of what is under way in the store each is kept or forgotten. */
void dw_crash(struct dw *w, bool (*keep)(const struct store_op *op, void *ctx), void *ctx);
/* Stops what runs; then the store goes. */
void dw_close(struct dw *w);

uint64_t dw_us(const struct dw *w);
/* What the core and the gathers have to do now. Returns whether there was anything. */
bool dw_act(struct dw *w);
/* Until nothing happens at this time; the store completes all unless it is held. */
void dw_settle(struct dw *w);
/* Time goes by, event by event. */
void dw_pass(struct dw *w, uint64_t ms);

/* Bytes that can be told from others of their kind, and what dw_lease.sum of them is. */
void dw_fill(struct buffer *out, uint64_t seed, size_t n);
uint64_t dw_sum(uint64_t sum, const void *bytes, size_t n);
/* The target of the next stage: what stands behind the dot, if there is one, is one more. */
void dw_next_target(const char *target, char ret[64]);
/* A request; with whole false its body is open. The caller's reference. */
struct message *dw_message(struct dw *w, const char *target, const void *bytes, size_t n, bool whole);

/* A worker with slots for some of the services ("ab"). Its number. */
unsigned dw_attach(struct dw *w, const char *services, unsigned slots);
void dw_gone(struct dw *w, unsigned worker);
/* The only job at work whose target is that; NULL: there is none. */
struct dw_lease *dw_find(struct dw *w, const char *target);
/* How many workers' slots are busy with jobs that they have not been told to stop. */
unsigned dw_running(const struct dw *w);
void dw_read(struct dw *w, struct dw_lease *l);

struct dw_answer {
    unsigned status;
    const char *name, *value; /* one more field */
    const void *bytes;
    size_t n;
    bool open; /* the rest is to follow */
};
/* It answers. False: too late. The slot is busy until dw_free. */
bool dw_reply(struct dw *w, struct dw_lease *l, const struct dw_answer *a);
bool dw_forward(struct dw *w, struct dw_lease *l, const char *service, const char *target,
                const struct dw_answer *a);
/* Into count parts; the body holds n bytes besides. gather: "" for none. */
bool dw_scatter(struct dw *w, struct dw_lease *l, const char *service, const char *gather, unsigned count,
                const struct dw_answer *a);
/* More of what is open, and its end. */
void dw_more(struct dw *w, struct dw_lease *l, const void *bytes, size_t n);
void dw_end(struct dw *w, struct dw_lease *l);
void dw_free(struct dw *w, struct dw_lease *l);
void dw_lose(struct dw *w, struct dw_lease *l);
void dw_hand_back(struct dw *w, struct dw_lease *l);
/* Replies 200 with a small body, and is free. */
void dw_done(struct dw *w, struct dw_lease *l);

/* ---- clients ---- */

enum { DW_PENDING = 1 };

struct dw_put {
    int err; /* DW_PENDING until it is told */
    struct store_id id;
    bool repeated;
    unsigned told;
    struct jobs_ticket *ticket;
    struct failure why;
};
/* A request comes in (order: all but message, done and ctx; service NULL: "a"). Returns what jobs_accept
 * does. */
int dw_submit(struct dw *w, struct dw_put *p, const char *target, const struct slice body,
              struct jobs_order order);

struct dw_call {
    struct jobs_call call;
    int err; /* DW_PENDING until it is told */
};
void dw_cancel(struct dw *w, struct store_id id, struct dw_call *c);
void dw_revive(struct dw *w, struct store_id id, struct dw_call *c);

/* ---- looking ---- */

/* STORE_STATES: there is no such job. */
enum store_job_state dw_state(struct dw *w, struct store_id id);
struct jobs_stats dw_stats(const struct dw *w);

/* As the store has it now, past the gate; its texts live until dw_forget. False: there is no such job. */
bool dw_get(struct dw *w, struct store_id id, struct store_op *op);
void dw_forget(struct store_op *op);
/* All of them. */
void dw_list(struct dw *w, struct store_op *op);

/* durable_gather.c, for durable_world.c: jobs_config.scatter; what gathers has to do; all of them go; whether
   that is a part. */
int dw_gather_run(void *ctx, const struct jobs_scatter *s, struct buffer *body, uint64_t *ret_request,
                  struct failure *ret_why);
bool dw_gather_turn(struct dw *w);
void dw_gather_drop(struct dw *w);
bool dw_gather_part(const struct requester *r);

/* Ends the program, as something is wrong with the test. */
void dw_must(bool condition, const char *what);
/* Ends the program. */
_Noreturn void dw_violated(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
