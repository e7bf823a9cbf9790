/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs that wait, and whose turn it is. Priority classes are strict but for ageing; within a class tenants
 * take turns (deficit round robin, Shreedhar and Varghese 1996, with jobs as the unit: a turn is as many jobs
 * as the tenant's weight says); a tenant's jobs in a class form a lane, which is in order of arrival, or
 * cheapest first. Jobs that have come back from a worker go before all others of their class: they have had
 * their turn. A class ages with its oldest job, whosever turn it is, so that nobody behind a lane of young
 * jobs waits for ever.
 *
 * The first lane of a class always has credit left, so whose turn it is can be seen without changing
 * anything. Nothing here can fail: without memory for a lane of its own a tenant's job stands in the common
 * one, and a job that does not fit into a lane's heap is found through its list.
 */
#ifndef CORE_QUEUE_H
#define CORE_QUEUE_H

#include "base/heap.h"
#include "base/list.h"
#include "base/slab.h"
#include "core/core.h"

struct job;
struct tenant;

struct lane {
    struct list turn; /* in its class's turns while it has jobs */
    struct list jobs; /* as they came */
    size_t count;
    struct job *moved;     /* the last one that was put between others */
    struct heap cheap;     /* order = shortest: the same jobs, the cheapest first */
    struct tenant *tenant; /* NULL: the common lane */
    struct lane *next;     /* in its bucket of core.lanes */
    struct queue *queue;
    uint64_t id;      /* in core.lane_slab */
    size_t oldest_at; /* in queue.oldest, or HEAP_NOWHERE */
    uint32_t credit;  /* jobs that it may still have handed out in this turn */
    uint8_t priority;
};

struct queue {
    unsigned occupied;                     /* bit p: class p has jobs */
    uint64_t busy_since;                   /* since when it has not been empty, if it is not */
    struct list returned[CORE_PRIORITIES]; /* what came back; who has waited longest first */
    size_t back[CORE_PRIORITIES];          /* how many */
    struct list turns[CORE_PRIORITIES];
    struct heap oldest[CORE_PRIORITIES]; /* the same lanes, by their oldest job */
    unsigned lanes[CORE_PRIORITIES];     /* how many have turns */
    struct lane common[CORE_PRIORITIES];
};

/* All lanes that are not common ones, by queue, class and tenant. */
struct lanes {
    struct slab slab;
    struct lane **buckets; /* a power of two of them, or none */
    size_t size;
};

void core_lanes_init(struct lanes *l);
void core_lanes_fini(struct lanes *l);

void core_queue_init(struct queue *q);
void core_queue_fini(struct queue *q);

/* Puts the job at the tail of its tenant's lane; or, when it comes back from a worker, before all others of
   its class. */
void core_queue_put(struct core *core, struct queue *q, struct job *job, bool back);
/* Puts a job that stood in another queue among those of its lane by when it came. */
void core_queue_move(struct core *core, struct queue *q, struct job *job);
/* Its turn: uses up credit of its lane. */
void core_queue_take(struct core *core, struct job *job);
/* It waits no longer, for another reason. */
void core_queue_drop(struct core *core, struct job *job);
/* The job whose turn it is: lowest class after ageing, then the one that has waited longest. NULL: none. */
struct job *core_queue_next(const struct queue *q, uint64_t now, uint64_t age_us);
/* Of two jobs of one service whose turn it is in different queues: lowest class after ageing; then what came
   back; of different tenants, the one that has had less (see tenant.used); of the same one, as in a lane. */
bool core_queue_before(const struct core *core, const struct job *a, const struct job *b);
uint64_t core_queue_oldest_wait(const struct queue *q, uint64_t now);
/* How many jobs of this class go before one of the tenant that comes now, about. */
size_t core_queue_ahead(const struct core *core, const struct queue *q, const struct tenant *t,
                        unsigned priority);
/* Calls visit for every job. It must not change the queue. */
void core_queue_each(struct core *core, const struct queue *q,
                     void (*visit)(struct core *core, struct job *job));

#endif
