/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store in memory, written for obvious rightness: what src/store/store.h promises, in arrays that are
 * walked from end to end. The conformance suite holds other stores against it; a simulator of a hub uses it
 * as the store that can crash, fail and stand still. One thread, no clock, no I/O.
 *
 * Operations take effect and complete in store_turn, in the order in which they were submitted. Those that
 * are submitted by a done wait for the next store_turn. Out of memory ends the program: this is test code.
 */
#ifndef TEST_STORE_MODEL_H
#define TEST_STORE_MODEL_H

#include "store/store.h"

struct store *model_new(void);

/* The process dies: of the operations under way each is kept or forgotten, as keep says, without its done;
   one that comes after a forgotten one about the same job, topic, blob, value or key is forgotten with it.
   Then what a start does: blobs that nothing refers to are gone. The caller finishes its ops by itself, and
   goes on with STORE_JOB_LOAD. */
void model_crash(struct store *s, bool (*keep)(const struct store_op *op, void *ctx), void *ctx);
/* Whether these two are about the same thing, so that their order counts. */
bool model_ordered(const struct store_op *a, const struct store_op *b);
/* The next n operations to complete fail with error and change nothing. */
void model_fail(struct store *s, int error, unsigned n);
/* While held, nothing completes. */
void model_hold(struct store *s, bool hold);
/* Operations that have been submitted and are not done. */
size_t model_under_way(const struct store *s);

/* Wrong on purpose, to show that a comparison finds it. X(name, what it does). */
#define MODEL_MUTATIONS(X)                                                                                   \
    X(FENCE_UNCHECKED, "a stale fence is as good as any")                                                    \
    X(FENCE_STAYS, "a lease does not change the fence")                                                      \
    X(ENDS_TWICE, "an ended job may be ended again")                                                         \
    X(REVIVE_KEEPS_ATTEMPT, "a revived job's attempts count on")                                             \
    X(REVIVE_ANYTHING, "every ended job may be revived")                                                     \
    X(DEAD_LOSES_MESSAGE, "a dead job's message is dropped")                                                 \
    X(STEP_KEEPS_PARTS, "answers of parts survive a step")                                                   \
    X(PART_REPLACED, "a doubled answer of a part replaces the first")                                        \
    X(LEASE_NEWEST, "a lease takes the newest jobs of a line")                                               \
    X(DUE_EARLY, "a job is due one millisecond early")                                                       \
    X(NEXT_FORGOTTEN, "next is 0 when the limit was reached")                                                \
    X(LOAD_KEEPS_LEASES, "what was leased stays leased at a start")                                          \
    X(KEY_NEVER_EXPIRES, "an expired key still counts")                                                      \
    X(KEY_ANY_TENANT, "tenants share their keys")                                                            \
    X(KEY_OUTLIVES_JOB, "a dropped job's key still counts")                                                  \
    X(PURGE_ANY_TENANT, "a purge does not look at the tenant")                                               \
    X(SWEEP_EARLY, "an ended job is dropped one millisecond early")                                          \
    X(ACK_SHORT, "up_to leaves the message itself")                                                          \
    X(ACK_TWICE, "acknowledging again succeeds")                                                             \
    X(SUBSCRIBE_EARLY, "a subscription begins before the last message")                                      \
    X(SUBSCRIBE_AGAIN, "a second subscribe begins anew")                                                     \
    X(IDS_AGAIN, "a topic whose subscriptions have all gone begins with its first id")                       \
    X(READ_ANY_SIZE, "most_bytes is not looked at")                                                          \
    X(TAKE_KEEPS, "what is taken is not acknowledged")                                                       \
    X(CONF_ANY_REVISION, "the expected revision is not looked at")                                           \
    X(BLOB_SHORT, "a blob loses the last byte of every fourth write")                                        \
    X(BLOB_ORPHANED, "a dropped job's blobs stay")                                                           \
    X(CRASH_DISORDERED, "a crash keeps what comes after something forgotten about the same thing")           \
    X(CRASH_LOSES_LAST, "the last completed write of a topic is lost in a crash")
enum model_mutation {
    MODEL_RIGHT,
#define MODEL_MUTATION_ENUM(name, text) MODEL_##name,
    MODEL_MUTATIONS(MODEL_MUTATION_ENUM)
#undef MODEL_MUTATION_ENUM
        MODEL_MUTATION_COUNT
};
struct store *model_new_mutant(enum model_mutation mutation);

#endif
