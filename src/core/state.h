/* SPDX-License-Identifier: Apache-2.0 */
/* The whole state of one core. */
#ifndef CORE_STATE_H
#define CORE_STATE_H

#include "base/assert.h"
#include "base/slab.h"
#include "core/job.h"
#include "core/keyed.h"
#include "core/service.h"
#include "core/tenant.h"
#include "core/worker.h"

#define CORE_MAGIC 0x436f7265u

struct core {
    uint32_t magic;
    bool draining;
    uint64_t now;     /* of the present call */
    uint64_t look_at; /* the millisecond after which the timers are to be looked at again */
    struct list actions;
    struct list gated;    /* workers, by gate_until */
    struct list resizing; /* keyed services with something to do as time passes */
    struct list owed;     /* pools to be dispatched when what is being dispatched is done */
    bool dispatching;
    struct slab requests, jobs, workers, shares;
    struct tenants tenants;
    struct lanes lanes;
    int64_t first_order, last_order; /* of jobs: see job.order */
    uint64_t used;                   /* see tenant.used */
    struct service **services;       /* in order of definition */
    size_t service_count, service_room;
    uint32_t *names; /* hash table of indexes into services, plus 1; its size is a power of two */
    size_t names_size;
    size_t queued;
    uint64_t queued_bytes, running, leaving, slots;
    struct core_stats stats; /* the counters in it */
    struct core_config config;
    char *said;         /* a service's name in the last action taken */
    struct wheel wheel; /* of request.timer, in milliseconds */
};

/* Begins every call that brings the time: what was due happens before it. */
void core_enter(struct core *core, uint64_t now);
/* The job that this worker has been given and that has not ended; else NULL, and counted as late. */
struct job *core_job_of(struct core *core, uint64_t worker, uint64_t job);
/* The same in the given state. */
struct job *core_job_in(struct core *core, uint64_t worker, uint64_t job, enum core_job_state state);

static inline struct request *core_request_at(struct core *core, uint64_t id) {
    return slab_get(&core->requests, id);
}
static inline struct worker *core_worker_at(struct core *core, uint64_t id) {
    struct worker *w = slab_get(&core->workers, id);
    if (!w) core->stats.late++;
    return w;
}
/* a + b, or the end of time. */
static inline uint64_t core_time_add(uint64_t a, uint64_t b) {
    return a + b < a ? UINT64_MAX : a + b;
}
/* The first whole millisecond that is not before us. */
static inline uint64_t core_ms_after(uint64_t us) {
    return us / 1000 + (us % 1000 != 0);
}

#endif
