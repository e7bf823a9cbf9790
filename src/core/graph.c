/* SPDX-License-Identifier: Apache-2.0 */
/* The graph of stages: a worker sends its request on to a service, which may be the same one (again). */
#include "core/state.h"
#include "weir/weir.h"
#include <string.h>

enum { NAME_SHOWN = 255 };

int core_job_next_hop(struct core *core, struct request *r, const struct core_hop *hop, struct job **ret,
                      struct failure *ret_why) {
    struct service *s = core_service_find(core, hop->service);
    ret_why->service = s ? s->name : hop->service;
    if (r->hop >= core->config.max_hops) {
        core->stats.rejected_hops++;
        return ret_why->error = WEIR_EHOPS;
    }
    if (!s) {
        core->stats.rejected_no_service++;
        ret_why->status = 502; /* the client asked for something that exists */
        ret_why->detail = "a worker forwarded the request to a service that does not exist";
        return ret_why->error = WEIR_ENOSERVICE;
    }
    struct place place;
    struct demand demand = {hop->message, r->tenant, hop->bytes, core_service_priority(s, r->priority),
                            r->deadline};
    int err = core_limits_admit(core, s, &demand, &place, ret_why);
    if (err == WEIR_EINVAL) ret_why->status = 502; /* as above: a worker has said it */
    if (err != 0) return err;
    r->hop++;
    if (hop->cost) r->cost = hop->cost;
    *ret = core_job_new(core, r, place);
    return *ret ? 0 : (ret_why->error = WEIR_ENOMEM);
}

/* The name of no service outlives the call only as a copy; without memory for one it is left out. */
static void keep_name(struct core *core, struct request *r, struct failure *why) {
    if (core_service_find(core, why->service)) return;
    size_t n = why->service.n < NAME_SHOWN ? why->service.n : NAME_SHOWN;
    r->why_name = n ? strndup(why->service.p, n) : NULL;
    why->service = slice_of(r->why_name);
}

void core_job_go_nowhere(struct core *core, struct request *r, struct failure *why) {
    keep_name(core, r, why);
    core_request_fail(core, r, why);
}

void core_job_go_on(struct core *core, struct request *r, struct job *job, const struct core_hop *hop) {
    void *old = r->message;
    r->job = job;
    r->message = hop->message;
    r->bytes = hop->bytes;
    r->given = false;
    core->stats.forwarded++;
    job->service->submitted++;
    core_service_put(core, job, false);
    core_dispatch_pool(core, job->place.pool);
    core->config.release(core->config.ctx, old);
}

int core_job_forward(struct core *core, uint64_t now, uint64_t worker, uint64_t id,
                     const struct core_hop *hop) {
    core_enter(core, now);
    struct job *job = core_job_in(core, worker, id, CORE_RUNNING), *next = NULL;
    if (!job) return WEIR_ESTATE;
    struct request *r = job->request;
    struct failure why = {0};
    int err = core_job_next_hop(core, r, hop, &next, &why);
    if (err == 0) core_job_finished(core, job);
    core_job_leave(core, job);
    r->job = NULL;
    if (err == 0)
        core_job_go_on(core, r, next, hop);
    else
        core_job_go_nowhere(core, r, &why);
    return err;
}
