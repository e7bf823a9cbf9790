/* SPDX-License-Identifier: Apache-2.0 */
/* Requests: submitted, cancelled, out of time, failed, over. */
#include "core/state.h"
#include "weir/weir.h"
#include <stdlib.h>

/* ---- in ---- */

static int refuse(struct core *core, const struct core_request *request, const struct service *s,
                  struct tenant *t, struct failure *ret_why) {
    *ret_why = (struct failure){.service = s ? s->name : request->service};
    if (core->draining) {
        core->stats.rejected_draining++;
        return ret_why->error = WEIR_EDRAINING;
    }
    if (!s) {
        core->stats.rejected_no_service++;
        return ret_why->error = WEIR_ENOSERVICE;
    }
    if (request->deadline && request->deadline <= core->now) {
        core->stats.rejected_deadline++;
        return ret_why->error = WEIR_EDEADLINE;
    }
    uint64_t wait = request->durable ? 0 : core_tenant_wait(t, core->now);
    if (wait > 0) {
        core->stats.rejected_rate++;
        t->rejected_rate++;
        ret_why->retry_after_s = (unsigned)((wait + 999999) / 1000000);
        return ret_why->error = WEIR_ERATE;
    }
    return 0;
}

/* As asked for, as far as the tenant allows. */
static unsigned priority_of(const struct core_request *request, const struct tenant *t) {
    unsigned p = request->priority < t->config.best_priority ? t->config.best_priority : request->priority;
    return p < CORE_PRIORITIES ? p : CORE_PRIORITIES - 1;
}

struct request *core_request_new(struct core *core, const struct core_request *from, unsigned priority,
                                 struct tenant *t) {
    uint64_t id;
    struct request *r = slab_new(&core->requests, &id);
    if (!r) return NULL;
    *r = (struct request){.id = id,
                          .requester = from->requester,
                          .message = from->message,
                          .tenant = t,
                          .deadline = from->deadline,
                          .cost = from->cost,
                          .bytes = from->bytes,
                          .priority = (uint8_t)priority,
                          .hop = from->hop,
                          .attempt = from->attempt,
                          .idempotent = from->idempotent,
                          .durable = from->durable,
                          .patient = from->durable};
    wheel_timer_init(&r->timer);
    list_init(&r->action.link);
    list_init(&r->parts);
    list_init(&r->sibling);
    return r;
}

static int submit(struct core *core, const struct core_request *request, struct tenant *t,
                  uint64_t *ret_request, struct failure *ret_why) {
    struct service *s = core_service_find(core, request->service);
    int err = refuse(core, request, s, t, ret_why);
    if (err != 0) return err;
    struct place place;
    unsigned priority = priority_of(request, t);
    struct demand demand = {request->message, t, request->bytes, core_service_priority(s, priority),
                            request->deadline};
    err = core_limits_admit(core, s, &demand, &place, ret_why);
    if (err != 0) return err;
    struct request *r = core_request_new(core, request, priority, t);
    struct job *job = r ? core_job_new(core, r, place) : NULL;
    if (!job) {
        if (r) slab_free(&core->requests, r->id);
        return ret_why->error = WEIR_ENOMEM;
    }
    r->job = job;
    if (!request->durable) core_tenant_take(t, core->now);
    t->submitted++;
    core->stats.submitted++;
    s->submitted++;
    *ret_request = r->id;
    core_service_put(core, job, false);
    core_dispatch_pool(core, place.pool);
    return 0;
}

int core_submit(struct core *core, uint64_t now, const struct core_request *request, uint64_t *ret_request,
                struct failure *ret_why) {
    core_enter(core, now);
    struct tenant *t = core_tenant_enter(core, request->tenant);
    int err = submit(core, request, t, ret_request, ret_why);
    if (err != 0) core_tenant_leave(core, t);
    return err;
}

int core_accept(struct core *core, uint64_t now, struct slice tenant, struct slice service,
                unsigned *priority, struct failure *ret_why) {
    core_enter(core, now);
    struct tenant *t = core_tenant_enter(core, tenant);
    struct service *s = core_service_find(core, service);
    struct core_request request = {.service = service, .priority = *priority};
    int err = refuse(core, &request, s, t, ret_why);
    if (err == 0) {
        core_tenant_take(t, core->now);
        *priority = core_service_priority(s, priority_of(&request, t));
    }
    core_tenant_leave(core, t);
    return err;
}

/* ---- out ---- */

/* Nobody works for it any more: its timer and its message go. */
static void let_go(struct core *core, struct request *r) {
    ASSERT(!r->job);
    if (r->tenant) core_tenant_leave(core, r->tenant);
    r->tenant = NULL;
    wheel_del(&core->wheel, &r->timer);
    void *message = r->message;
    r->message = NULL;
    if (message) core->config.release(core->config.ctx, message);
}

void core_request_end(struct core *core, struct request *r) {
    ASSERT(list_empty(&r->parts));
    list_del(&r->sibling);
    let_go(core, r);
    core_action_undo(&r->action);
    free(r->why_name);
    slab_free(&core->requests, r->id);
}

void core_request_fail(struct core *core, struct request *r, const struct failure *why) {
    core->stats.failed++;
    core_request_drop_parts(core, r);
    r->why = *why;
    core_action_add(core, &r->action, CORE_FAIL);
    let_go(core, r);
}

void core_request_withdraw(struct core *core, struct request *r) {
    if (!r->gatherer) {
        core_request_end(core, r);
        return;
    }
    core_request_drop_parts(core, r);
    core_action_undo(&r->action);
    core_action_add(core, &r->action, CORE_GONE);
    let_go(core, r);
}

void core_request_drop_job(struct core *core, struct request *r, enum core_cause cause) {
    struct job *job = r->job;
    struct worker *w = job->worker;
    r->job = NULL;
    if (job->state == CORE_QUEUED) {
        core->stats.cancelled[CORE_PHASE_QUEUED][cause]++;
        core_service_take(core, job, false);
        core_job_free(core, job);
        return;
    }
    core->stats.cancelled[job->state == CORE_RUNNING ? CORE_PHASE_RUNNING : CORE_PHASE_ANSWERING][cause]++;
    if (job->action.kind == CORE_SEND) { /* the worker has not heard of it */
        core_job_off_worker(core, job);
        core_job_free(core, job);
        core_dispatch_worker(core, w);
        return;
    }
    core_job_leave(core, job);
    job->cause = (uint8_t)cause;
    core_action_add(core, &job->action, CORE_CANCEL);
}

static const char *const cause_texts[CORE_CAUSES] = {[CORE_CLIENT_GONE] = "client gone",
                                                     [CORE_DEADLINE] = "deadline",
                                                     [CORE_DELETED] = "deleted",
                                                     [CORE_PARENT_GONE] = "parent gone",
                                                     [CORE_DRAIN_OVER] = "drain over"};

const char *core_cause_text(enum core_cause cause) {
    return (unsigned)cause < CORE_CAUSES ? cause_texts[cause] : "unknown";
}

void core_cancel(struct core *core, uint64_t now, uint64_t request, enum core_cause cause) {
    core_enter(core, now);
    struct request *r = core_request_at(core, request);
    if (!r) {
        core->stats.late++;
        return;
    }
    if (r->job)
        core_request_drop_job(core, r, cause);
    else if (r->gathers_from)
        core->stats.cancelled[CORE_PHASE_RUNNING][cause]++;
    core_request_withdraw(core, r);
}

bool core_request_alive(const struct core *core, uint64_t request) {
    return slab_get(&core->requests, request) != NULL;
}

/* ---- time ---- */

/* The next time at which something is to happen to the request. */
static uint64_t due(const struct request *r) {
    uint64_t due = r->deadline && !r->parent ? r->deadline : UINT64_MAX; /* a part ends with its parent */
    const struct job *job = r->job;
    if (!job || job->state != CORE_QUEUED) return due;
    const struct core_service_config *c = &job->service->config;
    uint64_t queue_time = core_time_add(job->queued_at, c->queue_time_us);
    uint64_t shed = core_limits_shed_at(job), settle = core_pool_settle_at(job);
    if (c->queue_time_us && !r->patient && queue_time < due) due = queue_time;
    if (shed < due) due = shed;
    if (settle < due) due = settle;
    return due;
}

void core_request_hurry(struct core *core, struct job *job) {
    core_request_arm(core, job->request);
}

/* A job on a worker keeps the timer of its queue time, which then finds nothing to do: cheaper than taking it
   out each time. */
void core_request_arm(struct core *core, struct request *r) {
    uint64_t when = due(r);
    if (when == UINT64_MAX) return;
    uint64_t ms = core_ms_after(when);
    if (!wheel_pending(&r->timer) || r->timer.when > ms) wheel_add(&core->wheel, &r->timer, ms);
}

/* It has waited in vain. */
static void refuse_queued(struct core *core, struct request *r, int error, unsigned status,
                          const char *detail) {
    struct service *s = r->job->service;
    struct failure why = {.error = error,
                          .status = status,
                          .service = s->name,
                          .detail = detail,
                          .retry_after_s = core_limits_retry_after(s, core->now)};
    core_service_take(core, r->job, false);
    core_job_free(core, r->job);
    r->job = NULL;
    core_request_fail(core, r, &why);
}

void core_request_shed(struct core *core, struct request *r) {
    core->stats.rejected_overload++;
    refuse_queued(core, r, WEIR_EQUEUETIME, r->job->service->config.full_status, "the service is overloaded");
}

void core_request_push_out(struct core *core, struct request *r) {
    core->stats.rejected_full++;
    refuse_queued(core, r, WEIR_EFULL, r->job->service->config.full_status,
                  "the service's queue is full, and others have less in it");
}

/* Nobody whom it prefers had time: from now on it may go to others too. */
static void settle_for_any(struct core *core, struct job *job) {
    core_queue_drop(core, job);
    core_pool_settle(job);
    struct pool *p = job->place.pool;
    core_queue_move(core, &p->queue, job);
    core_request_arm(core, job->request);
    core_dispatch_pool(core, p);
}

static void miss_deadline(struct core *core, struct request *r) {
    struct service *s = r->job ? r->job->service : r->gathers_from;
    struct failure why = {.error = WEIR_EDEADLINE, .service = s->name};
    core->stats.rejected_deadline++;
    if (r->job)
        core_request_drop_job(core, r, CORE_DEADLINE);
    else
        core->stats.cancelled[CORE_PHASE_RUNNING][CORE_DEADLINE]++;
    core_request_fail(core, r, &why);
}

void core_request_timer(struct core *core, struct request *r) {
    const struct job *queued = r->job && r->job->state == CORE_QUEUED ? r->job : NULL;
    const struct core_service_config *c = queued ? &queued->service->config : NULL;
    uint64_t now = core->now / 1000 * 1000; /* when it rings must not show in what happens */
    if (r->deadline && !r->parent && r->deadline <= now) {
        miss_deadline(core, r);
    } else if (queued && c->queue_time_us && !r->patient &&
               core_time_add(queued->queued_at, c->queue_time_us) <= now) {
        core->stats.rejected_queue_time++;
        refuse_queued(core, r, WEIR_EQUEUETIME, 0, NULL);
    } else if (queued && core_limits_shed_at(queued) <= now) {
        core_request_shed(core, r);
    } else if (queued && core_pool_settle_at(queued) <= now) {
        settle_for_any(core, r->job);
    } else {
        core_request_arm(core, r);
    }
}
