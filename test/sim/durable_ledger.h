/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must be true of durable jobs, kept beside the engine: what clients were told, what has taken effect in
 * the store and who has heard of it, and what workers have been given. Written from docs/protocol.md and
 * store.h; knows nothing of the engine's insides. Each job's target is /jTOKEN.STAGE, where the stage is one
 * more after each forward, scatter and gather; so a worker's job says for itself what it is.
 */
#ifndef TEST_SIM_DURABLE_LEDGER_H
#define TEST_SIM_DURABLE_LEDGER_H

#include "durable_world.h"

enum { LEDGER_ENTRIES = 1024, LEDGER_PARTS = 64 };

/* A body that can be told from others. */
struct stamp {
    uint64_t size, sum;
};

struct entry {
    uint64_t token; /* 0: not in use */
    struct store_id id;
    struct dw_put put;
    bool asked, left;     /* its client waits for an answer; has left before it had one */
    bool accepted;        /* was told that it is stored */
    bool repeated;        /* its Idempotency-Key named another */
    bool stored, dropped; /* the store has it; has had it, and was told to drop it */
    bool put_told;        /* the engine has heard that it is stored */
    /* As the store has it. */
    enum store_job_state state;
    enum store_hop_kind kind;
    unsigned attempt, stage;
    uint64_t fence, not_before, deadline;
    struct stamp body;
    uint64_t parts, parts_listed; /* bits: that have answered; of which the engine knows in this attempt */
    unsigned stage_told;          /* the engine has heard that it stands there */
    bool end_told;                /* the engine, or a client, has heard of its end */
    /* What workers have had. */
    bool begun;
    unsigned begun_stage, starts, excused; /* starts: of this stage, in this life of the hub */
    bool failed;                           /* an attempt has failed since it was last given to a worker */
    unsigned faults;          /* how many faults there had been when it was leased, or took its last step */
    unsigned replied;         /* the status of a whole answer; 0: none */
    bool answering;           /* its answer, or its next hop, is coming */
    struct stamp reply, next; /* of that; of what was forwarded */
    unsigned scattered;       /* into so many parts */
    /* What clients ask for. */
    struct dw_call cancel, revive;
    bool cancelling, reviving;
    bool ending; /* its end may have taken effect as the hub died, and a purge after it */
    struct jobs_watch watch;
    bool watching;
};

struct ledger {
    struct dw *w;
    struct entry entries[LEDGER_ENTRIES];
    uint64_t tokens;
    unsigned faults;      /* of the store and of memory: they excuse */
    unsigned drop_faults; /* of dropping blobs: these stay until the next start */
    bool dying;           /* what the engine says now is nothing to anybody */
    /* What was met on the way. */
    uint64_t accepted, sent, parts, ended[STORE_STATES], steps, released, uncounted, revived, late, crashes,
        drains, closes;
};

void ledger_init(struct ledger *l, struct dw *w);
struct entry *ledger_new(struct ledger *l);
struct entry *ledger_by_id(struct ledger *l, struct store_id id);
/* Of a lease's target; *ret_part: -1 when it is none. */
struct entry *ledger_by_target(struct ledger *l, const char *target, unsigned *ret_stage, int *ret_part);
/* The client has been told how its request went. */
void ledger_put_told(struct ledger *l, struct entry *e);
/* Hooks of the world. */
void ledger_applied(void *ctx, const struct store_op *op);
void ledger_telling(void *ctx, const struct store_op *op);
void ledger_sent(void *ctx, struct dw_lease *lease);
void ledger_cancelled(void *ctx, struct dw_lease *lease);
/* An attempt has failed; an attempt ended without it counting. */
void ledger_failed(struct ledger *l, const struct dw_lease *lease);
void ledger_excused(struct ledger *l, const struct dw_lease *lease);
/* Compares it with what the store has. crashed: operations may have taken effect unseen. */
void ledger_check(struct ledger *l, bool crashed);
/* The hub has begun anew: nobody has anything. */
void ledger_new_life(struct ledger *l);
/* All jobs have ended, and nothing is under way: nothing is left of them. */
void ledger_check_quiet(struct ledger *l);
/* Nothing is under way in the store, and what was due has happened: what could run does. */
void ledger_check_busy(struct ledger *l);

struct stamp stamp_of(const void *bytes, size_t n);

#define FOR_ENTRIES(l, e)                                                                                    \
    for (struct entry *e = (l)->entries; e < (l)->entries + LEDGER_ENTRIES; e++)                             \
        if (e->token)

#endif
