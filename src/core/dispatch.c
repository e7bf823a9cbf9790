/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Brings queued jobs and free slots together. Work conserving: called after every change on either
 * side, it leaves no pool with both a queued job and a ready worker.
 */
#include "core/state.h"

static void start(struct core *core, struct job *job, struct worker *w) {
    struct service *s = job->service;
    if (core->now > job->queued_at) core_rate_add(&s->drained, core->now);
    core_service_take(core, job, true);
    job->state = CORE_RUNNING;
    job->worker = w;
    job->sent_at = core->now;
    job->attempt++;
    if (job->key) core_keyed_start(job);
    list_push_back(&w->jobs, &job->link);
    w->running++;
    s->running++;
    core->running++;
    core_action_add(core, &job->action, CORE_SEND);
}

/* The pool's next job; those that have waited too long for an overloaded service are refused on the way. */
static struct job *next_of(struct core *core, struct pool *p) {
    const struct service *s = p->service;
    for (;;) {
        struct job *job = core_queue_next(&p->queue, core->now, s->config.age_us);
        if (!job || core_limits_shed_at(job) > core->now) return job;
        core_request_shed(core, job->request);
    }
}

/* ---- which worker ---- */

static struct worker *worker_of(struct ready_link *l) {
    return CONTAINER_OF(l, struct offer, ready)->worker;
}

static struct worker *choose(struct core *core, const struct pool *p, const struct job *job,
                             struct ready_link *first) {
    struct core_candidate all[CORE_CANDIDATES];
    struct ready_link *links[CORE_CANDIDATES];
    size_t n = 0;
    for (struct ready_link *l = first; l && n < CORE_CANDIDATES; l = core_ready_after(&p->ready, l)) {
        const struct worker *w = worker_of(l);
        links[n] = l;
        all[n++] = (struct core_candidate){w->id, w->name, w->labels, w->slots, w->running};
    }
    size_t at = 0;
    if (n > 1) at = core->config.choose(core->config.ctx, p->service->name, job->request->message, all, n);
    return worker_of(links[at < n ? at : 0]);
}

static void fill_pool(struct core *core, struct pool *p) {
    struct ready_link *l;
    struct job *job;
    while (p->queue.occupied && (l = core_ready_best(&p->ready)) && (job = next_of(core, p))) {
        struct worker *w = core->config.choose ? choose(core, p, job, l) : worker_of(l);
        start(core, job, w);
        core_worker_place(w);
    }
}

/* A job that is refused as its turn comes lets the next one of its key go on, in whatever pool: not in the
   midst of this, as that one may be about the same worker. */
static void settle_debts(struct core *core) {
    struct list *owed;
    while ((owed = list_pop_front(&core->owed))) fill_pool(core, CONTAINER_OF(owed, struct pool, owed));
    core->dispatching = false;
}

void core_dispatch_later(struct core *core, struct pool *p) {
    list_del(&p->owed);
    list_push_back(&core->owed, &p->owed);
}

void core_dispatch_pool(struct core *core, struct pool *p) {
    if (core->dispatching) {
        core_dispatch_later(core, p);
        return;
    }
    list_del(&p->owed);
    core->dispatching = true;
    fill_pool(core, p);
    settle_debts(core);
}

void core_dispatch_service(struct core *core, struct service *s) {
    core_dispatch_pool(core, &s->plain);
    LIST_FOR (node, &s->pools) core_dispatch_pool(core, CONTAINER_OF(node, struct pool, link));
}

/* ---- which job ---- */

/* How far behind its aim a service is, by the job that it would hand out. */
static double behind(const struct core *core, const struct job *job) {
    uint64_t target = job->service->config.target_wait_us;
    return (double)(core->now - job->queued_at) / (double)(target ? target : 1);
}

/* The worker's next job of the service whose pools stand from *at on; moves *at behind them. */
static struct job *next_of_service(struct core *core, const struct worker *w, unsigned *at) {
    const struct service *s = w->offers[*at]->pool->service;
    struct job *best = NULL;
    for (; *at < w->offer_count && w->offers[*at]->pool->service == s; ++*at) {
        struct pool *p = w->offers[*at]->pool;
        struct job *job = p->queue.occupied ? next_of(core, p) : NULL;
        if (job && (!best || core_queue_before(core, job, best))) best = job;
    }
    return best;
}

static struct job *next_for(struct core *core, const struct worker *w) {
    struct job *best = NULL;
    double most = 0;
    for (unsigned at = 0; at < w->offer_count;) {
        struct job *job = next_of_service(core, w, &at);
        if (!job) continue;
        double b = behind(core, job);
        if (best && b <= most) continue;
        best = job;
        most = b;
    }
    return best;
}

void core_dispatch_worker(struct core *core, struct worker *w) {
    struct job *job;
    ASSERT(!core->dispatching);
    core->dispatching = true;
    while (core_worker_has_room(w) && (job = next_for(core, w))) start(core, job, w);
    core_worker_place(w);
    settle_debts(core);
}
