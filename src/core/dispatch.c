/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Brings queued jobs and free slots together. Work conserving: called after every change on either
 * side, it leaves no service with both a queued job and a ready worker.
 */
#include "core/state.h"

static void start(struct core *core, struct job *job, struct worker *w) {
    struct service *s = job->service;
    if (core->now > job->queued_at) core_rate_add(&s->drained, core->now);
    core_queue_remove(core, job);
    job->state = CORE_RUNNING;
    job->worker = w;
    job->sent_at = core->now;
    job->attempt++;
    list_push_back(&w->jobs, &job->link);
    w->running++;
    s->running++;
    core->running++;
    core_action_add(core, &job->action, CORE_SEND);
}

void core_dispatch_service(struct core *core, struct service *s) {
    struct ready_link *l;
    while (s->occupied && (l = core_ready_best(&s->ready))) {
        struct worker *w = CONTAINER_OF(l, struct offer, ready)->worker;
        start(core, core_queue_next(s, core->now), w);
        core_worker_place(w);
    }
}

/* How far behind its aim a service is, by the job that it would hand out. */
static double behind(const struct core *core, const struct service *s, const struct job *job) {
    uint64_t target = s->config.target_wait_us;
    return (double)(core->now - job->queued_at) / (double)(target ? target : 1);
}

static struct job *next_for(const struct core *core, const struct worker *w) {
    struct job *best = NULL;
    double most = 0;
    for (unsigned i = 0; i < w->offer_count; i++) {
        const struct service *s = w->offers[i]->service;
        struct job *job = core_queue_next(s, core->now);
        if (!job) continue;
        if (w->offer_count == 1) return job;
        double b = behind(core, s, job);
        if (best && b <= most) continue;
        best = job;
        most = b;
    }
    return best;
}

void core_dispatch_worker(struct core *core, struct worker *w) {
    struct job *job;
    while (core_worker_has_room(w) && (job = next_for(core, w))) start(core, job, w);
    core_worker_place(w);
}
