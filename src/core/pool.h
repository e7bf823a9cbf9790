/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jobs of a service that the same workers can run, and those workers. Every service has its plain pool,
 * of all jobs that ask for nothing special and all workers that offer the service. Jobs that need labels
 * stand in a pool of their needs, which has the workers that carry these labels; it is made when a job asks
 * for it, and kept for the next one for a while.
 *
 * Invariant between calls: a pool with queued jobs has no ready worker.
 */
#ifndef CORE_POOL_H
#define CORE_POOL_H

#include "core/queue.h"
#include "core/ready.h"

struct job;
struct service;
struct worker;

/* The most pools with needs of one service: more that are in use at once are refused; and so many that are
   not in use are kept. */
enum { POOLS_MOST = 10000, POOLS_IDLE_MOST = 64, POOL_BUCKETS = 1024 };

/* A worker's membership of a pool. */
struct offer {
    struct ready_link ready;
    struct list link; /* in pool.offers */
    struct worker *worker;
    struct pool *pool;
};

struct pool {
    struct queue queue;
    struct ready ready;
    struct list offers;
    struct service *service;
    struct list link;  /* in service.pools; the plain one is in no list */
    struct list idle;  /* in service.idle_pools while it has no jobs */
    struct pool *next; /* in its chain of service.pool_names */
    struct list owed;  /* in core.owed: see core_dispatch_pool */
    size_t jobs;       /* that stand here, or may come here */
    struct slice need; /* labels, with commas, in the same piece of memory; empty: the plain one */
};

/* Where a job stands, and where it goes when it has waited for prefer-wait (NULL: it stays). In a keyed
   service the pool is the plain one; the key, borrowed from the message, says more. */
struct place {
    struct pool *pool, *later;
    struct slice key;
};

void core_pool_init(struct pool *p, struct service *s);
void core_pool_fini(struct pool *p);
/* Where a job with this message is to stand. 0; or WEIR_ENOMEM, WEIR_EFULL (too many different needs at
   once), WEIR_EINVAL (no key, or a header that no label can be made of) and *ret_why. */
int core_pool_find(struct core *core, struct service *s, const void *message, struct place *ret,
                   const char **ret_why);
/* When a job no longer waits for whom it prefers; UINT64_MAX: it prefers nobody. */
uint64_t core_pool_settle_at(const struct job *job);
/* From now on. It stands in no queue. */
void core_pool_settle(struct job *job);
/* A job takes this place, or needs it no more. */
void core_pool_enter(struct place place);
void core_pool_leave(struct place place);
/* All pools of a service but the plain one. */
void core_pools_free(struct core *core, struct service *s);

/* For core_pools_join, made beforehand. NULL: out of memory. */
struct offer *core_offer_new(struct worker *w);
/* The worker joins the plain pool of the service, by the offer given, which it owns from now on, and all
   pools whose needs it fulfils. 0 or WEIR_ENOMEM: none of them; never for a service that is new. */
int core_pools_join(struct service *s, struct offer *plain);
/* One worker joins or leaves one pool. 0 or WEIR_ENOMEM. */
int core_pool_admit(struct pool *p, struct worker *w);
void core_pool_expel(struct pool *p, struct worker *w);
/* It takes no more jobs: those who wait for it, and for nobody else, need not. */
void core_pools_leave(struct core *core, struct worker *w);
/* It leaves all its pools, which lose nothing else. */
void core_pools_part(struct worker *w);
/* Its labels have changed: it joins and leaves pools. 0, or WEIR_ENOMEM: it has joined fewer than it could.
 */
int core_pools_relabel(struct core *core, struct worker *w);

#endif
