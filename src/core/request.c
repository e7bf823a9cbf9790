/* SPDX-License-Identifier: Apache-2.0 */
/* Requests: submitted, cancelled, out of time, failed, over. */
#include "core/state.h"
#include "weir/weir.h"
#include <stdlib.h>

/* ---- in ---- */

static int refuse(struct core *core, const struct core_request *request, const struct service *s,
                  struct failure *ret_why) {
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
    struct demand demand = {request->bytes, request->priority, request->deadline};
    return core_limits_admit(core, s, &demand, ret_why);
}

static struct request *request_new(struct core *core, const struct core_request *from) {
    uint64_t id;
    struct request *r = slab_new(&core->requests, &id);
    if (!r) return NULL;
    *r = (struct request){
        .id = id,
        .requester = from->requester,
        .message = from->message,
        .deadline = from->deadline,
        .bytes = from->bytes,
        .priority = (uint8_t)(from->priority < CORE_PRIORITIES ? from->priority : CORE_PRIORITIES - 1),
        .idempotent = from->idempotent};
    wheel_timer_init(&r->timer);
    list_init(&r->action.link);
    return r;
}

int core_submit(struct core *core, uint64_t now, const struct core_request *request, uint64_t *ret_request,
                struct failure *ret_why) {
    core_enter(core, now);
    struct service *s = core_service_find(core, request->service);
    int err = refuse(core, request, s, ret_why);
    if (err != 0) return err;
    struct request *r = request_new(core, request);
    struct job *job = r ? core_job_new(core, r, s) : NULL;
    if (!job) {
        if (r) slab_free(&core->requests, r->id);
        return ret_why->error = WEIR_ENOMEM;
    }
    r->job = job;
    core->stats.submitted++;
    s->submitted++;
    *ret_request = r->id;
    core_queue_put(core, job, false);
    core_dispatch_service(core, s);
    return 0;
}

/* ---- out ---- */

/* Nobody works for it any more: its timer and its message go. */
static void let_go(struct core *core, struct request *r) {
    ASSERT(!r->job);
    wheel_del(&core->wheel, &r->timer);
    void *message = r->message;
    r->message = NULL;
    if (message) core->config.release(core->config.ctx, message);
}

void core_request_end(struct core *core, struct request *r) {
    let_go(core, r);
    core_action_undo(&r->action);
    free(r->why_name);
    slab_free(&core->requests, r->id);
}

void core_request_fail(struct core *core, struct request *r, const struct failure *why) {
    core->stats.failed++;
    r->why = *why;
    core_action_add(core, &r->action, CORE_FAIL);
    let_go(core, r);
}

void core_request_drop_job(struct core *core, struct request *r, enum core_cause cause) {
    struct job *job = r->job;
    struct worker *w = job->worker;
    r->job = NULL;
    if (job->state == CORE_QUEUED) {
        core->stats.cancelled[CORE_PHASE_QUEUED][cause]++;
        core_queue_remove(core, job);
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
    if (r->job) core_request_drop_job(core, r, cause);
    core_request_end(core, r);
}

/* ---- time ---- */

/* A job on a worker keeps the timer of its queue time, which then finds nothing to do: cheaper than taking it
   out each time. */
void core_request_arm(struct core *core, struct request *r) {
    uint64_t due = r->deadline ? r->deadline : UINT64_MAX;
    const struct job *job = r->job;
    uint64_t queue_time = job->service->config.queue_time_us;
    if (job->state == CORE_QUEUED && queue_time) {
        uint64_t end = core_time_add(job->queued_at, queue_time);
        if (end < due) due = end;
    }
    if (due == UINT64_MAX) return;
    uint64_t ms = core_ms_after(due);
    if (!wheel_pending(&r->timer) || r->timer.when > ms) wheel_add(&core->wheel, &r->timer, ms);
}

void core_request_timer(struct core *core, struct request *r) {
    const struct job *job = r->job;
    struct service *s = job->service;
    uint64_t queue_time = s->config.queue_time_us;
    uint64_t now = core->now / 1000 * 1000; /* when it rings must not show in what happens */
    struct failure why = {.service = s->name};
    if (r->deadline && r->deadline <= now) {
        core->stats.rejected_deadline++;
        why.error = WEIR_EDEADLINE;
        core_request_drop_job(core, r, CORE_DEADLINE);
        core_request_fail(core, r, &why);
    } else if (job->state == CORE_QUEUED && queue_time && core_time_add(job->queued_at, queue_time) <= now) {
        core->stats.rejected_queue_time++;
        why.error = WEIR_EQUEUETIME;
        why.retry_after_s = core_limits_retry_after(s, core->now);
        core_queue_remove(core, r->job);
        core_job_free(core, r->job);
        r->job = NULL;
        core_request_fail(core, r, &why);
    } else {
        core_request_arm(core, r);
    }
}
