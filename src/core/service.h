/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A service inside the core: its pools of jobs and workers, and what was measured. Services are never
 * removed.
 */
#ifndef CORE_SERVICE_H
#define CORE_SERVICE_H

#include "core/job.h"
#include "core/limits.h"
#include "core/pool.h"
#include "core/share.h"

struct service {
    struct pool plain;
    struct list pools,
        idle_pools;           /* those with needs; of them those without jobs, the one used last is last */
    struct pool **pool_names; /* a hash table of them by need: POOL_BUCKETS chains, or NULL */
    unsigned pool_count, busy_pools; /* busy: with jobs */
    size_t waiting[CORE_PRIORITIES]; /* queued jobs by class, in all pools */
    struct heap shares;              /* of tenants in what is queued, the largest first */
    size_t queued;
    uint64_t queued_bytes;
    struct keyed *keyed; /* NULL: it is not */
    struct core_service_config config;
    struct slice name;
    uint64_t running, workers, slots, submitted, dispatched, done;
    struct rate drained;  /* jobs that waited, per second in which some did: how fast a full queue empties */
    struct rate finished; /* jobs answered or forwarded */
    struct core_histogram wait, run;
    char text[]; /* the name */
};

struct service *core_service_find(const struct core *core, struct slice name);
/* The same, made with the config when there is none yet. 0, WEIR_EINVAL, WEIR_ENOMEM, WEIR_EFULL. */
int core_service_get(struct core *core, struct slice name, const struct core_service_config *config,
                     struct service **ret);
void core_services_free(struct core *core);

/* A class, as far as the service allows. */
static inline unsigned core_service_priority(const struct service *s, unsigned priority) {
    unsigned best = s->config.best_priority < CORE_PRIORITIES ? s->config.best_priority : CORE_PRIORITIES - 1;
    return priority < best ? best : priority;
}
/* Puts a job into the queue of its place; back: it has been at a worker. One that has a key is handed out at
   once, if it can be; for others see core_dispatch_pool. */
void core_service_put(struct core *core, struct job *job, bool back);
/* Takes a queued job out; turn: it goes to a worker. */
void core_service_take(struct core *core, struct job *job, bool turn);
/* How long its oldest queued job has waited; 0: none. */
uint64_t core_service_oldest_wait(const struct service *s, uint64_t now);

/* Hands out queued jobs of the pool while it has ready workers; when called from within a core_dispatch_...,
   after that. */
void core_dispatch_pool(struct core *core, struct pool *p);
/* The same, at the end of the next core_dispatch_... of any kind. */
void core_dispatch_later(struct core *core, struct pool *p);
/* The same for all pools of the service. */
void core_dispatch_service(struct core *core, struct service *s);
/* Fills the worker's free slots from its pools, and puts it where it belongs in their ready lists: to be
   called after any change of what it can take. */
void core_dispatch_worker(struct core *core, struct worker *w);

#endif
