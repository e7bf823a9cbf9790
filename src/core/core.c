/* SPDX-License-Identifier: Apache-2.0 */
/* One core from beginning to end, and how time passes in it. */
#include "core/state.h"
#include <stdlib.h>

void core_service_defaults(struct core_service_config *c) {
    *c = (struct core_service_config){.max_queued = 10000,
                                      .max_queued_bytes = UINT64_C(64) << 20,
                                      .queue_time_us = 30 * 1000 * 1000,
                                      .target_wait_us = 100 * 1000,
                                      .age_us = 10 * 1000 * 1000,
                                      .prefer_us = 100 * 1000,
                                      .shed_after_us = 1000 * 1000,
                                      .attempts = 3,
                                      .full_status = 503};
}

void core_defaults(struct core_config *c) {
    *c = (struct core_config){.max_queued = 100000,
                              .max_queued_bytes = UINT64_C(256) << 20,
                              .max_hops = 1000,
                              .max_parts = 10000,
                              .max_services = 10000,
                              .max_workers = 100000,
                              .max_tenants = 10000};
    core_service_defaults(&c->service);
    core_tenant_defaults(&c->tenant);
}

struct core *core_new(const struct core_config *config, uint64_t now) {
    ASSERT(config->release && config->replayable);
    struct core *core = calloc(1, sizeof *core);
    if (!core) return NULL;
    core->magic = CORE_MAGIC;
    core->config = *config;
    core->now = now;
    core->look_at = (now / 1000 + 1) * 1000;
    list_init(&core->actions);
    list_init(&core->gated);
    list_init(&core->resizing);
    list_init(&core->owed);
    slab_init(&core->requests, sizeof(struct request));
    slab_init(&core->jobs, sizeof(struct job));
    slab_init(&core->workers, sizeof(struct worker));
    slab_init(&core->shares, sizeof(struct share));
    core_tenants_init(core);
    core_lanes_init(&core->lanes);
    wheel_init(&core->wheel, now / 1000);
    return core;
}

void core_set_choose(struct core *core, size_t (*choose)(void *ctx, struct slice service, const void *message,
                                                         const struct core_candidate *workers, size_t n)) {
    MAGIC_CHECK(core, CORE_MAGIC);
    core->config.choose = choose;
}

void core_free(struct core *core) {
    if (!core) return;
    MAGIC_CHECK(core, CORE_MAGIC);
    uint64_t id;
    struct request *r;
    for (uint32_t cursor = 0; (r = slab_next(&core->requests, &cursor, &id));) {
        if (r->message) core->config.release(core->config.ctx, r->message);
        free(r->why_name);
    }
    struct worker *w;
    for (uint32_t cursor = 0; (w = slab_next(&core->workers, &cursor, &id));) core_worker_free(w);
    core_services_free(core);
    core_lanes_fini(&core->lanes);
    core_tenants_free(core);
    slab_fini(&core->requests);
    slab_fini(&core->jobs);
    slab_fini(&core->workers);
    slab_fini(&core->shares);
    free(core->said);
    core->magic = 0;
    free(core);
}

/* ---- time ---- */

static void open_gates(struct core *core) {
    while (!list_empty(&core->gated)) {
        struct worker *w = CONTAINER_OF(core->gated.next, struct worker, gate);
        if (w->gate_until > core->now) return;
        core_worker_ungate(w);
        core_dispatch_worker(core, w);
    }
}

static void pass_time(struct core *core) {
    uint64_t ms = core->now / 1000;
    core->look_at = (ms + 1) * 1000;
    struct wheel_timer *t;
    while ((t = wheel_expire(&core->wheel, ms)))
        core_request_timer(core, CONTAINER_OF(t, struct request, timer));
    open_gates(core);
    LIST_FOR (node, &core->resizing) core_keyed_tick(core, CONTAINER_OF(node, struct keyed, pending));
}

void core_enter(struct core *core, uint64_t now) {
    MAGIC_CHECK(core, CORE_MAGIC);
    if (now > core->now) core->now = now;
    if (core->now >= core->look_at) pass_time(core);
}

void core_tick(struct core *core, uint64_t now) {
    MAGIC_CHECK(core, CORE_MAGIC);
    if (now > core->now) core->now = now;
    pass_time(core);
}

uint64_t core_next_time(const struct core *core) {
    uint64_t ms = wheel_next(&core->wheel), next = ms > UINT64_MAX / 1000 ? UINT64_MAX : ms * 1000;
    if (!list_empty(&core->gated)) {
        uint64_t gate = CONTAINER_OF(core->gated.next, struct worker, gate)->gate_until;
        if (gate < next) next = gate;
    }
    LIST_FOR (node, &core->resizing) {
        uint64_t due = core_keyed_due(core, CONTAINER_OF(node, struct keyed, pending));
        if (due < next) next = due;
    }
    return next;
}
