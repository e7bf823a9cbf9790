/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a hub: nothing new comes in, what is there finishes, and then the rest is ended. */
#include "core/state.h"
#include "weir/weir.h"

void core_drain(struct core *core, uint64_t now) {
    core_enter(core, now);
    core->draining = true;
}

void core_drain_over(struct core *core, uint64_t now) {
    core_enter(core, now);
    core->draining = true;
    uint64_t id;
    struct request *r;
    for (uint32_t cursor = 0; (r = slab_next(&core->requests, &cursor, &id));) {
        if (r->parent || (!r->job && !r->gathers_from)) continue; /* parts go with their parents */
        bool answering = r->job && r->job->state == CORE_ANSWERING;
        struct slice service = (r->job ? r->job->service : r->gathers_from)->name;
        if (r->job)
            core_request_drop_job(core, r, CORE_DRAIN_OVER);
        else
            core->stats.cancelled[CORE_PHASE_RUNNING][CORE_DRAIN_OVER]++;
        core_request_fail(core, r, &(struct failure){.error = WEIR_EDRAINING, .service = service});
        if (answering) r->action.kind = CORE_ENDED;
    }
}

bool core_idle(const struct core *core) {
    MAGIC_CHECK(core, CORE_MAGIC);
    return core->requests.count == 0;
}
