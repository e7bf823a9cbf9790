/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must be true of a core, kept beside it: what each worker holds, where each request is, what the core
 * owes whom. Written from the contract (core.h) and knows nothing of the core's insides. Each model_... call
 * makes the core's call of that name, compares what it returns, and notes what must follow; model_act takes
 * the core's actions and compares them; model_check then holds the invariants against each other.
 *
 * When several calls are made before model_act (as a loop does in one turn), the model cannot know which
 * jobs have been handed out already: what depends on that is not compared then (see batched).
 */
#ifndef TEST_SIM_MODEL_H
#define TEST_SIM_MODEL_H

#include "core/core.h"

enum {
    SERVICES = 6,
    WORKERS = 16,
    SLOTS = 6,
    LEASES = WORKERS * SLOTS * 2,
    REQUESTS = 640,
    TOKENS = REQUESTS * 2,
    PAST = 256,
    TENANTS = 4,      /* number 0: the requests that name none */
    MESSAGE_KEYS = 6, /* for keyed services; number 0: none */
    LABELS = 4,       /* of one name, "l"; a message asks for number 0 (none) to LABELS */
    KEYS = SERVICES * (LABELS + 1) * (LABELS + 1) * CORE_PRIORITIES
};

/* Numbers of the list in the design of the core. */
enum invariant {
    ONE_END = 1,       /* every request has exactly one end */
    RUN_ONCE = 2,      /* no job at two workers, no two attempts at once */
    NO_IDLE_SLOT = 3,  /* no free slot while an eligible job waits */
    FAIR = 4,          /* tenants' shares within one turn of each other */
    KEYED = 5,         /* keys in order, at one worker at a time */
    NOTHING_GROWS = 6, /* what is gone leaves nothing behind */
    LIMITS = 7,        /* hops, attempts */
    BOUNDS = 8,        /* of queues */
    CONTRACT = 10,     /* anything else that core.h says */
    IN_TIME = 11,      /* deadlines and queue times */
    ORDER = 12         /* FIFO, heads and tails, priorities */
};

enum place {
    NOWHERE, /* not in use */
    WAITING, /* in a queue, or handed out and not yet heard of */
    AT_WORK, /* at a worker that has not answered */
    REPLYING,
    GATHERING, /* its parts are elsewhere */
    FAILING,   /* a FAIL is due */
    LEAVING,   /* a GONE is due */
    CUT        /* an ENDED is due */
};

struct token {
    bool in_core;
    char must[2], may[2], key[2]; /* the values of the headers that choose workers; "" for none */
};

struct mrequest {
    struct requester requester; /* first */
    enum place place;
    uint64_t id;
    unsigned service, priority, asked, hop, attempts, tenant; /* asked: before the service had a say */
    uint64_t deadline, queued_at, returned_at, cost;
    unsigned key;        /* 0: its service is not keyed */
    unsigned need, wish; /* labels: must have, and waits for; 0: none (any more) */
    bool wish_unknown;   /* it may have been put where the wish does not count */
    size_t bytes;
    bool idempotent, replayable, given;
    bool returned;    /* came back to the queue: no bound holds it off */
    bool unordered;   /* its position in the queue is not known */
    int64_t position; /* in its class */
    struct token *token;
    struct mlease *lease;
    struct mrequest *parent;  /* of a part */
    struct gatherer gatherer; /* only its address counts */
    bool has_gatherer;        /* GATHERING, or it was when it failed */
    unsigned parts_left;      /* of one that gathers */
    unsigned scattered;       /* of one that is no part: all the parts that it has been scattered into */
    int error;                /* of the FAIL due */
    unsigned status;
    bool may_lack_memory; /* ENOMEM is fine instead */
    bool maybe_overdue;   /* batched: its queue time has passed, unless it had been handed out before */
    bool maybe_shed;      /* its pool was overloaded, as it left it for another */
    char named[32];       /* service in the failure, when it is none of ours */
};

struct mlease {
    uint64_t job; /* 0: not in use */
    unsigned key;
    uint64_t request, order;
    struct mworker *worker;
    struct mrequest *r; /* NULL: leaving */
    unsigned service;
    bool cancel_due;
    enum core_cause cause;
};

struct mworker {
    uint64_t id;                          /* 0: not in use */
    unsigned slots, busy, offers, labels; /* bits */
    bool draining;
    uint64_t gate_until;
    uint64_t changed_ms; /* when something that makes it a member of keyed services last did */
    bool silent;         /* the schedule's: says nothing any more */
};

struct mservice {
    char name[8];
    bool known;
    struct core_service_config config;
    struct mbusy {
        uint64_t since; /* this pool's queue has not been empty */
        bool unsure;
    } busy[(LABELS + 1) * (LABELS + 1)]; /* by model_pool */
};

struct mtenant {
    struct core_tenant_config config;
    uint64_t full_at; /* its token bucket */
};

/* What the tenants that wait in one class of one pool have had since they began to wait there together. */
struct mshare {
    uint64_t epoch, served[TENANTS], since[TENANTS][TENANTS];
};

/* A job that is over, for late messages. */
struct past {
    uint64_t worker, job, request;
};

struct model {
    struct core *core;
    struct core_config config;
    uint64_t now;
    bool ring_due;         /* members have changed, or slices are held: something may happen as time passes */
    uint64_t unsettled_ms; /* when owners of keys were last without a new one */
    bool draining, lacking, verbose;
    unsigned calls;       /* since model_act */
    unsigned last_tenant; /* that has come in */
    bool may_have_pushed;
    unsigned pushed; /* came into a full queue: so many must have made room */
    bool gone_since; /* a worker went away since model_act */
    bool relabelled; /* in one of several calls: by which labels it was chosen is not known */
    bool uncertain;  /* so the counters of ends cannot be told this time */
    bool choosing;   /* which worker is chosen is up to us */
    uint64_t chosen;
    struct mservice services[SERVICES];
    struct mtenant tenants[TENANTS];
    struct mshare shares[KEYS];
    uint64_t share_epoch; /* a share of an older one means nothing */
    struct mworker workers[WORKERS];
    struct mlease leases[LEASES];
    struct mrequest requests[REQUESTS];
    struct token tokens[TOKENS];
    struct past past[PAST];
    uint64_t past_count, order;
    int64_t first_position, last_position;
    unsigned live;            /* requests in use */
    struct mrequest *arrival; /* submitted in this very call */
    struct core_stats want;   /* the counters */
    void (*violated)(void *ctx, enum invariant which, const char *text);
    void *ctx;
};

/* A new core with the config; the model must be zero but for violated, ctx and verbose. False: out of memory.
 */
bool model_begin(struct model *m, const struct core_config *config, uint64_t now);
/* Frees the core, whatever state it is in. */
void model_end(struct model *m);

struct marrival {
    const char *service; /* one of ours or any other name */
    bool idempotent, replayable;
    unsigned priority, tenant, need, wish, key;
    uint64_t deadline, cost;
    size_t bytes;
};
void model_submit(struct model *m, uint64_t now, const struct marrival *a);
void model_cancel(struct model *m, uint64_t now, uint64_t request);
void model_define(struct model *m, unsigned service, const struct core_service_config *config);
void model_tenant(struct model *m, unsigned tenant, const struct core_tenant_config *config);
void model_attach(struct model *m, uint64_t now, unsigned labels);
void model_relabel(struct model *m, uint64_t now, struct mworker *w, unsigned labels);
void model_offer(struct model *m, uint64_t now, struct mworker *w, unsigned service);
void model_slots(struct model *m, uint64_t now, uint64_t worker, unsigned slots);
void model_worker_drain(struct model *m, uint64_t now, uint64_t worker);
void model_gone(struct model *m, uint64_t now, uint64_t worker);
void model_started(struct model *m, uint64_t now, uint64_t worker, uint64_t job);
void model_answer(struct model *m, uint64_t now, uint64_t worker, uint64_t job);
void model_done(struct model *m, uint64_t now, uint64_t worker, uint64_t job);
struct mforward {
    const char *service;
    size_t bytes;
    bool replayable;
    unsigned need, wish, key;
    uint64_t cost;
};
void model_forward(struct model *m, uint64_t now, uint64_t worker, uint64_t job, const struct mforward *f);
void model_scatter(struct model *m, uint64_t now, uint64_t worker, uint64_t job, unsigned count);
/* A part of the request, which may have ended. */
void model_part(struct model *m, uint64_t now, uint64_t request, const struct mforward *f);
/* What was gathered goes on. */
void model_gathered(struct model *m, uint64_t now, uint64_t request, const struct mforward *f);
void model_gather_reply(struct model *m, uint64_t now, uint64_t request);
void model_gather_fail(struct model *m, uint64_t now, uint64_t request);
void model_handed_back(struct model *m, uint64_t now, uint64_t worker, uint64_t job);
/* core_slot_free, or core_job_lost. */
void model_slot_free(struct model *m, uint64_t now, uint64_t worker, uint64_t job, bool lost);
void model_fail(struct model *m, uint64_t now, uint64_t worker, uint64_t job, int error);
void model_tick(struct model *m, uint64_t now);
void model_drain(struct model *m, uint64_t now);
void model_drain_over(struct model *m, uint64_t now);

/* check.c */
void model_act(struct model *m);
/* After model_act. deep: walks everything that can be looked at. */
void model_check(struct model *m, bool deep);

/* For model.c and check.c. */
void model_violated(struct model *m, enum invariant which, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void model_say(const struct model *m, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *model_error(int error);
int model_service(const struct model *m, struct slice name);
bool model_batched(const struct model *m);
bool model_has_room(const struct mworker *w);
bool model_overdue(const struct model *m, const struct mrequest *r);
/* Which pool of its service it waits in: that of all the labels that it needs and wishes for. */
static inline unsigned model_pool(const struct mrequest *r) {
    return r->need ? r->need * (LABELS + 1) + r->wish : r->wish * (LABELS + 1);
}
void model_look_for_wished(struct model *m, struct mrequest *r);
/* May this worker run it, now? */
bool model_eligible(const struct mworker *w, const struct mrequest *r);
/* The core may refuse it as the service is overloaded; certain: it must not give it to a worker. */
bool model_may_shed(const struct model *m, const struct mrequest *r, bool certain);
void model_lease_end(struct model *m, struct mlease *l);
void model_request_end(struct mrequest *r, struct model *m);
void model_expect_fail(struct model *m, struct mrequest *r, int error, unsigned status);

/* share.c: the tenant's first request begins to wait in its pool's class. */
void share_begin(struct model *m, const struct mrequest *r);
/* It was handed out, while these others waited. */
void share_served(struct model *m, const struct mrequest *r);

#define FOR_REQUESTS(m, r)                                                                                   \
    for (struct mrequest *r = (m)->requests; r < (m)->requests + REQUESTS; r++)                              \
        if (r->place != NOWHERE)
#define FOR_WORKERS(m, w)                                                                                    \
    for (struct mworker *w = (m)->workers; w < (m)->workers + WORKERS; w++)                                  \
        if (w->id)
#define FOR_LEASES(m, l)                                                                                     \
    for (struct mlease *l = (m)->leases; l < (m)->leases + LEASES; l++)                                      \
        if (l->job)

#endif
