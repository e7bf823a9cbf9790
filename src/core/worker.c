/* SPDX-License-Identifier: Apache-2.0 */
/* Workers: who is there, with how many slots, for which services. */
#include "core/worker.h"
#include "core/state.h"
#include "weir/weir.h"
#include <stdlib.h>

static struct slice copy(char **at, struct slice s) {
    struct slice ret = {*at, s.n};
    if (s.n) memcpy(*at, s.p, s.n);
    *at += s.n;
    return ret;
}

static bool copy_texts(struct worker *w, const struct core_worker *from) {
    char *at = malloc(from->id.n + from->labels.n + from->address.n + from->transport.n + 1);
    w->text = at;
    if (!at) return false;
    w->name = copy(&at, from->id);
    w->labels = copy(&at, from->labels);
    w->address = copy(&at, from->address);
    w->transport = copy(&at, from->transport);
    return true;
}

int core_worker_attach(struct core *core, uint64_t now, const struct core_worker *worker,
                       uint64_t *ret_worker) {
    core_enter(core, now);
    if (core->draining) return WEIR_EDRAINING;
    if (core->workers.count >= core->config.max_workers) return WEIR_ETOOMANY;
    uint64_t id;
    struct worker *w = slab_new(&core->workers, &id);
    if (!w) return WEIR_ENOMEM;
    *w = (struct worker){
        .id = id, .port = worker->port, .ready_at = WORKER_NOT_READY, .attached_us = core->now};
    list_init(&w->jobs);
    list_init(&w->gate);
    if (!copy_texts(w, worker)) {
        slab_free(&core->workers, id);
        return WEIR_ENOMEM;
    }
    core->stats.workers_attached++;
    *ret_worker = id;
    return 0;
}

void core_worker_free(struct worker *w) {
    core_pools_part(w);
    free(w->own_labels);
    free(w->text);
}

static bool offers(const struct worker *w, const struct service *s) {
    for (unsigned i = 0; i < w->offer_count; i++)
        if (w->offers[i]->pool == &s->plain) return true;
    return false;
}

int core_worker_offer(struct core *core, uint64_t now, uint64_t worker, struct slice name) {
    core_enter(core, now);
    struct worker *w = core_worker_at(core, worker);
    if (!w) return WEIR_EINVAL;
    struct offer *o = core_offer_new(w);
    if (!o) return WEIR_ENOMEM;
    struct service *s;
    int err = core_service_get(core, name, &core->config.service, &s);
    if (err != 0 || offers(w, s)) {
        free(o);
        return err;
    }
    err = core_pools_join(s, o);
    if (err != 0) return err;
    s->workers++;
    if (!w->draining) s->slots += w->slots;
    if (s->keyed) core_keyed_changed(core, s->keyed, w);
    core_dispatch_worker(core, w);
    return 0;
}

int core_worker_labels(struct core *core, uint64_t now, uint64_t worker, struct slice labels) {
    core_enter(core, now);
    struct worker *w = core_worker_at(core, worker);
    if (!w) return WEIR_EINVAL;
    if (slice_eq(w->labels, labels) && !w->unjoined) return 0;
    char *copy = malloc(labels.n + 1);
    if (copy && labels.n) memcpy(copy, labels.p, labels.n);
    free(w->own_labels);
    w->own_labels = copy;
    w->labels = (struct slice){copy, copy ? labels.n : 0}; /* without memory: none, rather than wrong ones */
    int err = core_pools_relabel(core, w);
    if (!copy) w->unjoined = true;
    core_dispatch_worker(core, w);
    return w->unjoined ? WEIR_ENOMEM : err;
}

/* Brings the sums of slots up to date; a draining worker's do not count. */
static void count_slots(struct core *core, const struct worker *w, unsigned before, unsigned after) {
    core->slots += after;
    core->slots -= before;
    for (unsigned i = 0; i < w->offer_count; i++) {
        if (!core_offer_is_plain(w->offers[i])) continue;
        struct service *s = w->offers[i]->pool->service;
        s->slots += after;
        s->slots -= before;
    }
}

/* The keyed services of a worker: start with *at 0; NULL at the end. */
static struct keyed *next_keyed(const struct worker *w, unsigned *at) {
    while (*at < w->offer_count) {
        const struct offer *o = w->offers[(*at)++];
        if (core_offer_is_plain(o) && o->pool->service->keyed) return o->pool->service->keyed;
    }
    return NULL;
}

void core_worker_slots(struct core *core, uint64_t now, uint64_t worker, unsigned slots) {
    core_enter(core, now);
    struct worker *w = core_worker_at(core, worker);
    if (!w) return;
    if (!w->draining) count_slots(core, w, w->slots, slots);
    w->slots = slots;
    for (unsigned i = 0; i < w->offer_count; i++) core_ready_grow(&w->offers[i]->pool->ready, slots);
    core_worker_ungate(w);
    struct keyed *k;
    for (unsigned at = 0; (k = next_keyed(w, &at));) core_keyed_changed(core, k, w);
    core_dispatch_worker(core, w);
}

static void drain(struct core *core, struct worker *w) {
    if (w->draining) return;
    count_slots(core, w, w->slots, 0);
    w->draining = true;
    core_worker_ungate(w);
    core_worker_place(w);
    struct keyed *k;
    for (unsigned at = 0; (k = next_keyed(w, &at));) core_keyed_leave(core, k, w);
    core_pools_leave(core, w);
}

void core_worker_drain(struct core *core, uint64_t now, uint64_t worker) {
    core_enter(core, now);
    struct worker *w = core_worker_at(core, worker);
    if (w) drain(core, w);
}

void core_worker_gone(struct core *core, uint64_t now, uint64_t worker) {
    core_enter(core, now);
    struct worker *w = core_worker_at(core, worker);
    if (!w) return;
    drain(core, w);
    /* Oldest first: they stand in their queues in this order again. */
    while (!list_empty(&w->jobs)) core_job_retry(core, CONTAINER_OF(w->jobs.next, struct job, link), false);
    for (unsigned i = 0; i < w->offer_count; i++) {
        if (!core_offer_is_plain(w->offers[i])) continue;
        w->offers[i]->pool->service->workers--;
        core_dispatch_service(core, w->offers[i]->pool->service);
    }
    core_worker_free(w);
    slab_free(&core->workers, worker);
    core->stats.workers_gone++;
}

void core_worker_gate(struct core *core, struct worker *w) {
    if (w->draining) return;
    list_del(&w->gate);
    /* Whole milliseconds, as time is looked at no more often. */
    w->gate_until = core_ms_after(core_time_add(core->now, CORE_GATE_US)) * 1000;
    list_push_back(&core->gated, &w->gate);
    core_worker_place(w);
}

void core_worker_place(struct worker *w) {
    int64_t at = core_worker_has_room(w) ? (int64_t)w->running : WORKER_NOT_READY;
    if (at == w->ready_at) return;
    for (unsigned i = 0; i < w->offer_count; i++) {
        struct offer *o = w->offers[i];
        if (w->ready_at != WORKER_NOT_READY) core_ready_remove(&o->pool->ready, &o->ready);
        if (at != WORKER_NOT_READY) core_ready_add(&o->pool->ready, &o->ready, (unsigned)at);
    }
    w->ready_at = at;
}
