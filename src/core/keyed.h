/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keyed services: jobs with the same key run in the order in which they came, one at a time, at the worker
 * that the ring says owns the key.
 *
 * The first job of each key (its head) stands in its owner's pool, which has no other worker; the others wait
 * behind it. A head that has no owner, or whose slice is held as it changes hands, is parked. A key is taken
 * until the worker's side of its job has ended (its slot is free), so no two workers ever work on it at once,
 * not even when the first job was cancelled.
 *
 * Members are the workers that offer the service, do not drain and have had a slot; a member's weight is the
 * most slots that it has had, and its place in the ring comes of its name, so that a worker that comes back
 * gets its keys back. When they change, the next epoch is proposed within a millisecond, for all changes at
 * once. A slice with jobs that run stays held until they have ended, or for KEYED_SYNC_US: after that only
 * its keys that are taken wait.
 */
#ifndef CORE_KEYED_H
#define CORE_KEYED_H

#include "core/pool.h"
#include "core/resize.h"

struct job;
struct key;

/* How long a slice is held for the jobs that still run. */
#define KEYED_SYNC_US UINT64_C(5000000)
/* The longest key. */
enum { KEY_MOST = 1024 };

/* A member's pool. */
struct member {
    struct pool pool; /* first */
    struct worker *worker;
    uint64_t id; /* in the ring */
    unsigned weight;
};

struct keyed {
    struct service *service;
    struct list pending; /* in core.resizing: members have changed (dirty), or slices are held */
    bool dirty;
    struct resize resize;
    uint64_t sync_until;     /* of an epoch that is not committed */
    struct member **members; /* by id */
    size_t member_count;
    struct key **keys; /* a hash table; a power of two of buckets */
    size_t key_size, key_count;
    struct list parked;            /* heads without a place */
    uint32_t running[RING_SLICES]; /* jobs at workers */
};

/* NULL: out of memory. */
struct keyed *core_keyed_new(struct service *s);
void core_keyed_free(struct keyed *k);
/* Finds a message's key. 0, or WEIR_EINVAL and *ret_why: it has none. */
int core_keyed_key(const struct core *core, const struct keyed *k, const void *message, struct slice *ret,
                   const char **ret_why);
/* Would a job with this key be handed out at once? */
bool core_keyed_ready(const struct core *core, const struct keyed *k, struct slice key);

/* The job belongs to a key from now on: 0 or WEIR_ENOMEM. */
int core_key_join(struct core *core, struct job *job, struct slice key);
/* Another one takes its place. */
void core_key_replace(struct job *job, struct job *by);
/* It is over: the next one of its key goes on. */
void core_key_leave(struct core *core, struct job *job);

/* Queues a job that has a key, and hands it out if it can be. back: it has been at a worker. */
void core_keyed_put(struct core *core, struct job *job, bool back);
/* The job goes to a worker, or has come from one. */
void core_keyed_start(struct job *job);
void core_keyed_stop(struct core *core, struct job *job);

/* What the worker could be as a member has changed. */
void core_keyed_changed(struct core *core, struct keyed *k, const struct worker *w);
/* It takes no more jobs: is no member any more. */
void core_keyed_leave(struct core *core, struct keyed *k, struct worker *w);
/* Proposes the next epoch, if members have changed; lets one that has waited long enough end. */
void core_keyed_tick(struct core *core, struct keyed *k);
/* When core_keyed_tick is wanted for one that is pending. */
uint64_t core_keyed_due(const struct core *core, const struct keyed *k);
/* Whose key it is; NULL: nobody's. */
const struct worker *core_keyed_owner(const struct keyed *k, struct slice key, bool *ret_held);
/* The worker's slices; 0: it is no member. */
unsigned core_keyed_share(const struct keyed *k, const struct worker *w);

#endif
