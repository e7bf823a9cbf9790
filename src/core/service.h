/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A service inside the core: its queue, those of its workers that have a free slot, and what was measured.
 * Services are never removed. Invariant between calls: a service with queued jobs has no ready worker.
 */
#ifndef CORE_SERVICE_H
#define CORE_SERVICE_H

#include "core/job.h"
#include "core/limits.h"
#include "core/ready.h"

struct service {
    /* The queue: FIFO per priority class. */
    unsigned occupied; /* bit p: classes[p] has jobs */
    struct list classes[CORE_PRIORITIES];
    size_t waiting[CORE_PRIORITIES]; /* jobs in each */
    size_t queued;
    uint64_t queued_bytes;
    struct ready ready;
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

/* Puts a job into its service's queue; at the head when it has been there before. */
void core_queue_put(struct core *core, struct job *job, bool head);
void core_queue_remove(struct core *core, struct job *job);
/* The job whose turn it is: lowest class after ageing, then longest waiting. NULL: none. */
struct job *core_queue_next(const struct service *s, uint64_t now);
uint64_t core_queue_oldest_wait(const struct service *s, uint64_t now);

/* Hands out queued jobs of the service while it has ready workers. */
void core_dispatch_service(struct core *core, struct service *s);
/* Fills the worker's free slots from its services, and puts it where it belongs in their ready lists: to be
   called after any change of what it can take. */
void core_dispatch_worker(struct core *core, struct worker *w);

#endif
