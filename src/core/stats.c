/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at the core from outside; changes nothing. */
#include "core/state.h"

void core_histogram_add(struct core_histogram *h, uint64_t us) {
    static const uint64_t bounds[CORE_BOUNDS] = CORE_BOUNDS_US;
    unsigned i = 0;
    while (i < CORE_BOUNDS && us > bounds[i]) i++;
    h->buckets[i]++;
    h->count++;
    h->sum_us += us;
}

const char *core_phase_text(enum core_phase phase) {
    static const char *const texts[CORE_PHASES] = {[CORE_PHASE_QUEUED] = "queued",
                                                   [CORE_PHASE_RUNNING] = "running",
                                                   [CORE_PHASE_ANSWERING] = "answering"};
    return (unsigned)phase < CORE_PHASES ? texts[phase] : "unknown";
}

void core_stats(const struct core *core, struct core_stats *ret) {
    MAGIC_CHECK(core, CORE_MAGIC);
    *ret = core->stats;
    ret->requests = core->requests.count;
    ret->queued = core->queued;
    ret->queued_bytes = core->queued_bytes;
    ret->running = core->running;
    ret->leaving = core->leaving;
    ret->workers = core->workers.count;
    ret->slots = core->slots;
    ret->draining = core->draining;
}

bool core_key_owner(const struct core *core, struct slice service, struct slice key, uint64_t *ret_worker,
                    bool *ret_held) {
    MAGIC_CHECK(core, CORE_MAGIC);
    const struct service *s = core_service_find(core, service);
    if (!s || !s->keyed) return false;
    const struct worker *w = core_keyed_owner(s->keyed, key, ret_held);
    *ret_worker = w ? w->id : 0;
    return true;
}

uint64_t core_service_slots(const struct core *core, struct slice name) {
    MAGIC_CHECK(core, CORE_MAGIC);
    const struct service *s = core_service_find(core, name);
    return s ? s->slots : 0;
}

bool core_service_next(const struct core *core, uint32_t *cursor, struct core_service_view *ret) {
    MAGIC_CHECK(core, CORE_MAGIC);
    if (*cursor >= core->service_count) return false;
    struct service *s = core->services[(*cursor)++];
    *ret = (struct core_service_view){.name = s->name,
                                      .queued = s->queued,
                                      .queued_bytes = s->queued_bytes,
                                      .running = s->running,
                                      .workers = s->workers,
                                      .slots = s->slots,
                                      .done_per_s_milli =
                                          (uint64_t)(core_rate_per_s(&s->finished, core->now) * 1000),
                                      .submitted = s->submitted,
                                      .dispatched = s->dispatched,
                                      .done = s->done,
                                      .oldest_wait_us = core_service_oldest_wait(s, core->now),
                                      .wait = &s->wait,
                                      .run = &s->run,
                                      .config = &s->config};
    if (!s->keyed) return true;
    const struct resize *r = &s->keyed->resize;
    ret->epoch = r->epoch;
    ret->keys = s->keyed->key_count;
    ret->members = (unsigned)s->keyed->member_count;
    ret->pending = !list_empty(&s->keyed->pending);
    ret->phase = resize_phase_text(r->phase);
    ret->slices = RING_SLICES;
    ret->held = r->held;
    ret->moved = r->moved;
    ret->changes = r->changes;
    return true;
}

bool core_worker_next(const struct core *core, uint32_t *cursor, struct core_worker_view *ret) {
    MAGIC_CHECK(core, CORE_MAGIC);
    uint64_t id;
    const struct worker *w = slab_next(&core->workers, cursor, &id);
    if (!w) return false;
    *ret = (struct core_worker_view){.worker = id,
                                     .id = w->name,
                                     .labels = w->labels,
                                     .address = w->address,
                                     .transport = w->transport,
                                     .slots = w->slots,
                                     .running = w->running,
                                     .draining = w->draining,
                                     .attached_us = w->attached_us,
                                     .dispatched = w->dispatched};
    return true;
}

bool core_worker_service_next(const struct core *core, uint64_t worker, uint32_t *cursor,
                              struct slice *ret_service, unsigned *ret_slices) {
    MAGIC_CHECK(core, CORE_MAGIC);
    const struct worker *w = slab_get(&core->workers, worker);
    while (w && *cursor < w->offer_count) {
        const struct offer *o = w->offers[(*cursor)++];
        if (!core_offer_is_plain(o)) continue;
        const struct service *s = o->pool->service;
        *ret_service = s->name;
        if (ret_slices) *ret_slices = s->keyed ? core_keyed_share(s->keyed, w) : 0;
        return true;
    }
    return false;
}

bool core_job_next(const struct core *core, uint32_t *cursor, struct core_job_view *ret) {
    MAGIC_CHECK(core, CORE_MAGIC);
    uint64_t id;
    const struct job *job = slab_next(&core->jobs, cursor, &id);
    if (!job) return false;
    *ret = (struct core_job_view){.job = id,
                                  .request = job->request_id,
                                  .worker = job->worker ? job->worker->id : 0,
                                  .service = job->service->name,
                                  .state = job->state,
                                  .hop = job->hop,
                                  .attempt = job->attempt,
                                  .priority = job->priority,
                                  .queued_at = job->queued_at,
                                  .sent_at = job->sent_at};
    return true;
}
