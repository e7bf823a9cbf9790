/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scatter and gather: a request whose worker has made parts of it has no job until they have answered. Parts
 * are requests, whose parent it is; they end by themselves, or with it.
 */
#include "core/state.h"
#include "weir/weir.h"

static struct request *root_of(struct request *r) {
    while (r->parent) r = r->parent;
    return r;
}

/* The request with this id, if it gathers; else NULL, and counted as late. */
static struct request *gathering(struct core *core, uint64_t id) {
    struct request *r = core_request_at(core, id);
    if (r && r->gathers_from) return r;
    core->stats.late++;
    return NULL;
}

int core_job_scatter(struct core *core, uint64_t now, uint64_t worker, uint64_t id, unsigned count,
                     struct gatherer *gatherer, uint64_t *ret_request) {
    core_enter(core, now);
    struct job *job = core_job_in(core, worker, id, CORE_RUNNING);
    if (!job) return WEIR_ESTATE;
    struct request *r = job->request, *root = root_of(r);
    bool fits = count <= core->config.max_parts - root->scattered;
    if (fits) core_job_finished(core, job);
    core_job_leave(core, job);
    r->job = NULL;
    if (!fits) {
        core->stats.rejected_parts++;
        const char *detail = "a worker scattered more parts than max-parts, those of its parts included";
        core_request_fail(
            core, r,
            &(struct failure){.error = WEIR_EPARTS, .service = job->service->name, .detail = detail});
        return WEIR_EPARTS;
    }
    root->scattered += count;
    r->gatherer = gatherer;
    r->parts_left = count;
    r->gathers_from = job->service;
    core->stats.scattered++;
    core_request_arm(core, r);
    *ret_request = r->id;
    return 0;
}

static int begin_scattered(struct core *core, const struct core_request *request, unsigned count,
                           struct tenant *t, struct request **ret, struct failure *ret_why) {
    struct service *s = core_service_find(core, request->service);
    *ret_why = (struct failure){.service = s ? s->name : request->service};
    if (core->draining) return ret_why->error = WEIR_EDRAINING;
    if (!s) return ret_why->error = WEIR_ENOSERVICE;
    if (request->deadline && request->deadline <= core->now) return ret_why->error = WEIR_EDEADLINE;
    if (count > core->config.max_parts) {
        core->stats.rejected_parts++;
        return ret_why->error = WEIR_EPARTS;
    }
    struct request *r = core_request_new(core, request, request->priority, t);
    if (!r) return ret_why->error = WEIR_ENOMEM;
    r->scattered = r->parts_left = count;
    r->gathers_from = s;
    *ret = r;
    return 0;
}

int core_scatter(struct core *core, uint64_t now, const struct core_request *request, unsigned count,
                 struct gatherer *gatherer, uint64_t *ret_request, struct failure *ret_why) {
    core_enter(core, now);
    struct tenant *t = core_tenant_enter(core, request->tenant);
    struct request *r = NULL;
    int err = begin_scattered(core, request, count, t, &r, ret_why);
    if (err != 0) {
        core_tenant_leave(core, t);
        return err;
    }
    r->gatherer = gatherer;
    t->submitted++;
    core->stats.submitted++;
    core->stats.scattered++;
    core_request_arm(core, r);
    *ret_request = r->id;
    return 0;
}

static int part_new(struct core *core, struct request *parent, const struct core_part *from,
                    struct request **ret, struct failure *ret_why) {
    struct core_request part = {.requester = from->requester,
                                .message = from->message,
                                .bytes = from->bytes,
                                .deadline = parent->deadline,
                                .cost = from->cost ? from->cost : parent->cost,
                                .idempotent = parent->idempotent};
    struct request *r = core_request_new(core, &part, parent->priority, core_tenant_share(parent->tenant));
    if (!r) {
        core_tenant_leave(core, parent->tenant);
        return ret_why->error = WEIR_ENOMEM;
    }
    r->hop = parent->hop;
    r->patient = parent->patient;
    struct core_hop hop = {.service = from->service, .message = from->message, .bytes = from->bytes};
    int err = core_job_next_hop(core, r, &hop, &r->job, ret_why);
    if (err == 0) {
        *ret = r;
        return 0;
    }
    r->message = NULL; /* still the caller's */
    core_request_end(core, r);
    return err;
}

int core_part_submit(struct core *core, uint64_t now, uint64_t request, const struct core_part *part,
                     uint64_t *ret_part, struct failure *ret_why) {
    core_enter(core, now);
    *ret_why = (struct failure){.service = part->service};
    struct request *parent = gathering(core, request), *r = NULL;
    if (!parent) return ret_why->error = WEIR_ESTATE;
    if (parent->parts_left == 0) return ret_why->error = WEIR_EPARTS;
    int err = part_new(core, parent, part, &r, ret_why);
    if (err != 0) return err;
    parent->parts_left--;
    r->parent = parent;
    list_push_back(&parent->parts, &r->sibling);
    r->tenant->submitted++;
    core->stats.submitted++;
    core->stats.parts++;
    r->job->service->submitted++;
    *ret_part = r->id;
    core_service_put(core, r->job, false);
    core_dispatch_pool(core, r->job->place.pool);
    return 0;
}

/* Parts of parts are taken into the same list, so that deep nesting is no deep recursion. */
void core_request_drop_parts(struct core *core, struct request *r) {
    r->gathers_from = NULL;
    while (!list_empty(&r->parts)) {
        struct request *part = CONTAINER_OF(list_pop_front(&r->parts), struct request, sibling);
        part->parent = NULL;
        list_splice_back(&r->parts, &part->parts);
        if (part->job)
            core_request_drop_job(core, part, CORE_PARENT_GONE);
        else if (part->gathers_from)
            core->stats.cancelled[CORE_PHASE_RUNNING][CORE_PARENT_GONE]++;
        part->gathers_from = NULL;
        core_request_withdraw(core, part);
    }
}

/* It gathers no more, and whoever did the gathering knows. */
static void stop_gathering(struct core *core, struct request *r) {
    core_request_drop_parts(core, r);
    r->gatherer = NULL;
}

int core_gather_forward(struct core *core, uint64_t now, uint64_t request, const struct core_hop *hop) {
    core_enter(core, now);
    struct request *r = gathering(core, request);
    if (!r) return WEIR_ESTATE;
    stop_gathering(core, r);
    struct job *next = NULL;
    struct failure why = {0};
    int err = core_job_next_hop(core, r, hop, &next, &why);
    if (err == 0)
        core_job_go_on(core, r, next, hop);
    else
        core_job_go_nowhere(core, r, &why);
    return err;
}

struct requester *core_gather_hand_over(struct core *core, uint64_t now, uint64_t request) {
    core_enter(core, now);
    struct request *r = core_request_at(core, request);
    if (!r || !r->gathers_from || !r->durable) return NULL;
    struct requester *requester = r->requester;
    stop_gathering(core, r);
    core->stats.forwarded++;
    core_request_end(core, r);
    return requester;
}

struct requester *core_gather_reply(struct core *core, uint64_t now, uint64_t request) {
    core_enter(core, now);
    struct request *r = gathering(core, request);
    if (!r) return NULL;
    struct requester *requester = r->requester;
    stop_gathering(core, r);
    core->stats.done++;
    core_request_end(core, r);
    return requester;
}

int core_gather_fail(struct core *core, uint64_t now, uint64_t request, const struct failure *why) {
    core_enter(core, now);
    struct request *r = gathering(core, request);
    if (!r) return WEIR_ESTATE;
    struct failure failure = *why;
    failure.service = r->gathers_from->name;
    stop_gathering(core, r);
    core_request_fail(core, r, &failure);
    return 0;
}
