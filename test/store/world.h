/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two stores side by side: the model, and the one under test (the subject). What is done to one is done to
 * the other, and every result is compared. Ids that a store gives by itself (of blobs, messages, revisions)
 * differ; the world keeps the pairs, so that all else can be said in the model's ids.
 *
 * Everything random comes from one seed and from the model's answers alone: a run can be repeated without the
 * subject, which is how a parent knows what its killed child did (crash.c).
 */
#ifndef TEST_STORE_WORLD_H
#define TEST_STORE_WORLD_H

#include "base/random.h"
#include "model.h"
#include "weir/weir.h"
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>

enum {
    SERVICES = 3,
    TENANTS = 2,
    KEYS = 3,
    TOPICS = 4,
    NAMES = 4,
    VALUES = 3,
    BATCH = 6, /* operations under way at once */
    ALL = 1000 /* a limit that is never reached */
};
extern const struct slice world_services[SERVICES], world_tenants[TENANTS], world_keys[KEYS],
    world_topics[TOPICS], world_names[NAMES], world_values[VALUES];

struct world;

/* The store under test. */
struct subject {
    const char *name;
    /* Opens it, again too. NULL: it cannot, and w has failed. */
    struct store *(*open)(struct world *w);
    /* Closes it, which completes what is under way; what persists is found by the next open. */
    void (*close)(struct world *w);
    /* The process dies with what is under way, instead of closing. NULL: only a process of its own can die.
     */
    void (*crash)(struct world *w);
    bool persists;
};

struct pair {
    uint64_t model, real;
};
struct pairs {
    struct pair *at;
    size_t count;
};

struct blob { /* that the caller holds: nothing refers to it */
    uint64_t id;
    bool closed;
    bool busy, named; /* an operation of this batch takes it; is about it */
    uint64_t size;
};

/* The blob of a leased job's message. */
struct carried {
    struct store_id job;
    uint64_t blob, size;
};
enum { CARRIED = 8, TAKEN = 8 };

enum side { MODEL, REAL };

struct step {
    struct world *w;
    size_t index;
    struct store_op op[2]; /* by side */
    bool done[2];
};

struct batch {
    struct step steps[BATCH];
    size_t count;
    struct arena memory; /* of what the operations are given */
};

struct world {
    struct random random;
    uint64_t seed, batches, operations, clock, next_id, next_body;
    struct store *store[2];
    const struct subject *subject;
    const char *dir; /* of a subject that has one */
    bool unsafe_ack;
    enum model_mutation mutation;
    sem_t wake;
    pthread_t thread;                   /* that runs all of this */
    bool submitting, verbose, crashing; /* crashing: only what is decided after a crash at any moment */
    void (*report)(struct world *w, struct step *step); /* the subject has completed it; NULL: none */
    int report_to;
    unsigned dies_after; /* completions */
    char *failure;       /* NULL: none */
    struct store *kept;  /* the subject model's, while it is closed */

    struct pairs blobs, messages[TOPICS], revisions[VALUES];
    struct blob *loose;
    size_t loose_count;
    struct carried carried[CARRIED]; /* the last ones, in a ring */
    uint64_t taken[TAKEN];           /* blobs that something has referred to; the last ones */
    uint64_t carried_count, taken_count;
    struct store_op snapshot; /* all jobs, as the model lists them before each batch */
};

void world_init(struct world *w, const struct subject *subject, uint64_t seed);
void world_fini(struct world *w);
/* Opens the subject for the first time; false: it failed. */
bool world_open(struct world *w);
/* Notes the first difference. Always false. */
bool world_fail(struct world *w, const char *format, ...) WEIR_PRINTF(2, 3);

/* Runs one operation to its end; its err. */
int world_run(struct world *w, enum side side, struct store_op *op);
/* Runs a batch on both, compares. */
bool world_batch(struct world *w, struct batch *b);
/* The same, but the subject is closed while the batch is under way, and both are opened again. */
bool world_batch_close(struct world *w, struct batch *b);
/* Submits to the subject alone. */
void world_submit(struct world *w, struct batch *b);
/* Starts the model again, as world_started does. */
void world_restart_model(struct world *w);
/* Those of the batch that are in the mask, on the model alone; what the subject said of those in known is in
   the steps' REAL ops. */
bool world_replay(struct world *w, struct batch *b, unsigned mask, unsigned known);
/* Both stores have started again: JOB_LOAD, compared. */
bool world_started(struct world *w);
/* What the caller held is gone. */
void world_forget(struct world *w);
/* After a crash: pairs of ids that nobody was told. */
void world_resync(struct world *w);
/* Compares all that can be read. */
bool world_compare(struct world *w);
/* The same with the messages of jobs; all of them are leased afterwards. */
bool world_compare_whole(struct world *w);

uint64_t pairs_real(const struct pairs *p, uint64_t model);
uint64_t pairs_model(const struct pairs *p, uint64_t real);
/* By its name. */
size_t world_topic(struct slice name);
size_t world_value(struct slice key);

/* ---- generate.c ---- */

/* A batch to run now; batch_fini afterwards. */
void batch_generate(struct world *w, struct batch *b);
void batch_fini(struct batch *b);

/* ---- text.c: results as text, in the model's ids ---- */

/* All of them are the caller's to free. */
char *text_of_request(const struct store_op *op);
/* deep: with the bytes of blobs. */
char *text_of_result(struct world *w, enum side side, struct store_op *op, bool deep);
/* All that can be read, in no store's ids; whole: with the messages of jobs (see above). */
char *text_of_dump(struct world *w, enum side side, bool whole);
/* The first lines that differ. */
char *text_difference(const char *model, const char *real);

/* ---- crash.c ---- */

/* One round: both run, the subject dies, starts again, and must be as the model is after all that was
   acknowledged and a part of what was under way. */
bool crash_round(struct world *w);

/* ---- subjects.c ---- */

extern const struct subject subject_model, subject_memory, subject_sqlite;

#endif
