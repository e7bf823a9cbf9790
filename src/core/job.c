/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs, and what workers say of them. Every report names the worker and the job, and counts only when that
 * worker has been given that job: a job that runs again at the same worker has a new id, so that a late word
 * about the first attempt is not taken for one about the second.
 */
#include "core/state.h"
#include "weir/weir.h"

struct job *core_job_new(struct core *core, struct request *r, struct place place) {
    uint64_t id;
    struct job *job = slab_new(&core->jobs, &id);
    if (!job) return NULL;
    *job = (struct job){.id = id,
                        .request = r,
                        .service = place.pool->service,
                        .place = place,
                        .heap_at = HEAP_NOWHERE,
                        .cost = r->cost ? r->cost : UINT64_MAX,
                        .request_id = r->id,
                        .queued_at = core->now,
                        .hop = r->hop,
                        .attempt = r->attempt,
                        .priority = (uint8_t)core_service_priority(place.pool->service, r->priority)};
    list_init(&job->link);
    list_init(&job->action.link);
    job->place.key = (struct slice){0};
    if (place.key.n && core_key_join(core, job, place.key) != 0) {
        slab_free(&core->jobs, id);
        return NULL;
    }
    core_pool_enter(place);
    return job;
}

void core_job_free(struct core *core, struct job *job) {
    ASSERT(list_empty(&job->link));
    core_action_undo(&job->action);
    if (job->key) core_key_leave(core, job);
    core_pool_leave(job->place);
    slab_free(&core->jobs, job->id);
}

void core_job_off_worker(struct core *core, struct job *job) {
    list_del(&job->link);
    job->worker->running--;
    job->worker = NULL;
    if (job->state == CORE_LEAVING) {
        core->leaving--;
    } else {
        core->running--;
        job->service->running--;
    }
    if (job->key) core_keyed_stop(core, job);
}

void core_job_leave(struct core *core, struct job *job) {
    job->request = NULL;
    job->state = CORE_LEAVING;
    core->running--;
    job->service->running--;
    core->leaving++;
}

/* The same job under an id that its worker does not know. NULL: out of memory; job is as before. */
static struct job *renewed(struct core *core, struct job *job) {
    struct job *fresh = core_job_new(core, job->request, job->place);
    if (!fresh) return NULL;
    fresh->queued_at = job->queued_at;
    fresh->priority = job->priority;
    fresh->attempt = job->attempt;
    if (job->key) core_key_replace(job, fresh);
    core_job_free(core, job);
    return fresh;
}

/* Puts a job that is off its worker at the head of its queue again. */
static void put_back(struct core *core, struct job *job, bool renew) {
    struct request *r = job->request;
    struct job *fresh = renew ? renewed(core, job) : job;
    r->job = fresh;
    if (fresh) {
        core_service_put(core, fresh, true);
        return;
    }
    struct failure why = {.error = WEIR_ENOMEM, .service = job->service->name};
    core_job_free(core, job);
    core_request_fail(core, r, &why);
}

/* Why a job whose worker was lost may not run again; NULL: it may. */
static const char *no_retry(const struct core *core, const struct job *job) {
    const struct request *r = job->request;
    const struct core_service_config *config = &job->service->config;
    if (r->durable) return "its worker went away";
    if (!r->idempotent && !config->retry_always)
        return "its worker went away, and it is not safe to run it again";
    if (job->attempt >= config->attempts) return "its worker went away, as often as it may be tried";
    if (!core->config.replayable(core->config.ctx, r->message))
        return "its worker went away, and its body cannot be sent again";
    return NULL;
}

/* A job that has not been answered has lost its worker: it runs again, or its request fails. */
static void retry_or_fail(struct core *core, struct job *job, bool renew) {
    struct request *r = job->request;
    const char *why_not = no_retry(core, job);
    if (!why_not) {
        core->stats.retried++;
        job->queued_at = core->now;
        put_back(core, job, renew);
        return;
    }
    struct failure why = {.error = WEIR_EWORKERGONE, .service = job->service->name, .detail = why_not};
    r->job = NULL;
    core_job_free(core, job);
    core_request_fail(core, r, &why);
}

void core_job_retry(struct core *core, struct job *job, bool renew) {
    struct request *r = job->request;
    core_job_off_worker(core, job);
    if (job->action.kind == CORE_SEND) { /* it never got there */
        core_action_undo(&job->action);
        job->attempt--;
        put_back(core, job, false);
        return;
    }
    if (!r) {
        core_job_free(core, job);
        return;
    }
    core->stats.lost++;
    if (job->state == CORE_RUNNING) {
        retry_or_fail(core, job, renew);
        return;
    }
    core->stats.failed++; /* the requester learns it from the body of the reply that has begun */
    r->job = NULL;
    core_job_free(core, job);
    core_request_end(core, r);
}

/* ---- what workers say ---- */

struct job *core_job_of(struct core *core, uint64_t worker, uint64_t id) {
    struct job *job = slab_get(&core->jobs, id);
    if (job && job->worker && job->worker->id == worker && job->action.kind != CORE_SEND) return job;
    core->stats.late++;
    return NULL;
}

struct job *core_job_in(struct core *core, uint64_t worker, uint64_t id, enum core_job_state state) {
    struct job *job = core_job_of(core, worker, id);
    if (!job || job->state == state) return job;
    core->stats.late++;
    return NULL;
}

void core_job_started(struct core *core, uint64_t now, uint64_t worker, uint64_t id) {
    core_enter(core, now);
    (void)core_job_of(core, worker, id); /* a lost job may have started whether or not its worker said so */
}

struct requester *core_job_requester(struct core *core, uint64_t now, uint64_t worker, uint64_t id) {
    core_enter(core, now);
    struct job *job = core_job_in(core, worker, id, CORE_RUNNING);
    return job ? job->request->requester : NULL;
}

struct requester *core_job_answer(struct core *core, uint64_t now, uint64_t worker, uint64_t id) {
    core_enter(core, now);
    struct job *job = core_job_in(core, worker, id, CORE_RUNNING);
    if (!job) return NULL;
    job->state = CORE_ANSWERING;
    job->request->deadline = 0;
    wheel_del(&core->wheel, &job->request->timer);
    return job->request->requester;
}

void core_job_done(struct core *core, uint64_t now, uint64_t worker, uint64_t id) {
    core_enter(core, now);
    struct job *job = core_job_in(core, worker, id, CORE_ANSWERING);
    if (!job) return;
    struct request *r = job->request;
    core_job_finished(core, job);
    core_job_leave(core, job);
    core->stats.done++;
    r->job = NULL;
    core_request_end(core, r);
}

bool core_job_durable(const struct core *core, uint64_t worker, uint64_t id) {
    const struct job *job = slab_get(&core->jobs, id);
    return job && job->worker && job->worker->id == worker && job->request && job->request->durable;
}

struct requester *core_job_hand_over(struct core *core, uint64_t now, uint64_t worker, uint64_t id) {
    core_enter(core, now);
    struct job *job = core_job_of(core, worker, id);
    struct request *r = job ? job->request : NULL;
    if (!r || !r->durable || job->state != CORE_RUNNING) return NULL;
    struct requester *requester = r->requester;
    core_job_finished(core, job);
    core_job_leave(core, job);
    r->job = NULL;
    core->stats.forwarded++;
    core_request_end(core, r);
    return requester;
}

void core_job_finished(struct core *core, struct job *job) {
    struct service *s = job->service;
    s->done++;
    core_rate_add(&s->finished, core->now);
    core_histogram_add(&s->run, core->now - job->sent_at);
}

void core_job_fail(struct core *core, uint64_t now, uint64_t worker, uint64_t id, const struct failure *why) {
    core_enter(core, now);
    struct job *job = core_job_of(core, worker, id);
    if (!job) return;
    struct request *r = job->request;
    if (!r) {
        core->stats.late++;
        return;
    }
    bool answering = job->state == CORE_ANSWERING;
    if (why->error == WEIR_EBADANSWER) core->stats.bad_answers++;
    core_job_leave(core, job);
    r->job = NULL;
    if (answering) {
        core->stats.failed++;
        core_request_end(core, r);
    } else {
        struct failure failure = *why;
        failure.service = job->service->name;
        core_request_fail(core, r, &failure);
    }
}

/* The job's slot is free: the worker may get another, after the ready workers of the service had their
 * chance. */
static void slot_ended(struct core *core, struct worker *w, struct pool *p) {
    core_dispatch_pool(core, p);
    core_dispatch_worker(core, w);
}

static void lost(struct core *core, uint64_t worker, uint64_t id) {
    struct job *job = core_job_of(core, worker, id);
    if (!job) return;
    struct worker *w = job->worker;
    struct pool *p = job->place.pool;
    core_worker_ungate(w);
    core_job_retry(core, job, true);
    slot_ended(core, w, p);
}

void core_job_lost(struct core *core, uint64_t now, uint64_t worker, uint64_t id) {
    core_enter(core, now);
    lost(core, worker, id);
}

void core_slot_free(struct core *core, uint64_t now, uint64_t worker, uint64_t id) {
    core_enter(core, now);
    lost(core, worker, id);
}

void core_job_handed_back(struct core *core, uint64_t now, uint64_t worker, uint64_t id) {
    core_enter(core, now);
    struct job *job = core_job_of(core, worker, id);
    if (!job) return;
    if (job->state != CORE_RUNNING) {
        lost(core, worker, id);
        return;
    }
    struct worker *w = job->worker;
    struct pool *p = job->place.pool;
    struct request *r = job->request;
    core->stats.handed_back++;
    core_job_off_worker(core, job);
    core_worker_gate(core, w);
    if (!r->durable && core->config.replayable(core->config.ctx, r->message)) {
        job->attempt--;
        put_back(core, job, true);
    } else {
        struct failure why = {.error = WEIR_EWORKERGONE,
                              .status = 503, /* unlike 502: nothing has been run, the client may try again */
                              .service = job->service->name,
                              .detail = r->durable
                                            ? "its worker handed it back"
                                            : "its worker handed it back, and its body cannot be sent again"};
        r->job = NULL;
        core_job_free(core, job);
        core_request_fail(core, r, &why);
    }
    slot_ended(core, w, p);
}
