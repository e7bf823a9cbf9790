/* SPDX-License-Identifier: Apache-2.0 */
#include "core/pool.h"
#include "base/hash.h"
#include "core/labels.h"
#include "core/state.h"
#include "weir/weir.h"
#include <stdlib.h>

/* ---- members ----
   A worker's offers stand in one array, those of one service beside each other, the plain one first. */

static bool reserve(struct worker *w) {
    if (w->offer_count < w->offer_room) return true;
    unsigned room = w->offer_room ? w->offer_room * 2 : 2;
    struct offer **offers = realloc(w->offers, room * sizeof(struct offer *));
    if (!offers) return false;
    w->offers = offers;
    w->offer_room = room;
    return true;
}

struct offer *core_offer_new(struct worker *w) {
    struct offer *o = reserve(w) ? calloc(1, sizeof *o) : NULL;
    if (!o) return NULL;
    o->worker = w;
    list_init(&o->ready.link);
    list_init(&o->link);
    return o;
}

static void join(struct pool *p, struct offer *o) {
    struct worker *w = o->worker;
    o->pool = p;
    list_push_back(&p->offers, &o->link);
    unsigned at = 0;
    while (at < w->offer_count && w->offers[at]->pool->service != p->service) at++;
    if (at < w->offer_count) at++;
    memmove(w->offers + at + 1, w->offers + at, (w->offer_count - at) * sizeof(struct offer *));
    w->offers[at] = o;
    w->offer_count++;
    core_ready_grow(&p->ready, w->slots);
    if (w->ready_at != WORKER_NOT_READY) core_ready_add(&p->ready, &o->ready, (unsigned)w->ready_at);
}

static int join_new(struct pool *p, struct worker *w) {
    struct offer *o = core_offer_new(w);
    if (o) join(p, o);
    return o ? 0 : WEIR_ENOMEM;
}

static void part(struct worker *w, unsigned at) {
    struct offer *o = w->offers[at];
    if (w->ready_at != WORKER_NOT_READY) core_ready_remove(&o->pool->ready, &o->ready);
    list_del(&o->link);
    free(o);
    w->offer_count--;
    memmove(w->offers + at, w->offers + at + 1, (w->offer_count - at) * sizeof(struct offer *));
}

/* The index of the worker's offer; offer_count: it is no member. */
static unsigned offer_of(const struct worker *w, const struct pool *p) {
    unsigned i = 0;
    while (i < w->offer_count && w->offers[i]->pool != p) i++;
    return i;
}

static int join_fulfilled(struct service *s, struct worker *w) {
    LIST_FOR (node, &s->pools) {
        struct pool *p = CONTAINER_OF(node, struct pool, link);
        bool member = offer_of(w, p) < w->offer_count;
        int err = !member && core_labels_fulfil(w->labels, p->need) ? join_new(p, w) : 0;
        if (err != 0) return err;
    }
    return 0;
}

int core_pools_join(struct service *s, struct offer *plain) {
    struct worker *w = plain->worker;
    join(&s->plain, plain);
    int err = join_fulfilled(s, w);
    for (unsigned i = w->offer_count; err != 0 && i-- > 0;)
        if (w->offers[i]->pool->service == s) part(w, i);
    return err;
}

int core_pool_admit(struct pool *p, struct worker *w) {
    return join_new(p, w);
}

void core_pool_expel(struct pool *p, struct worker *w) {
    part(w, offer_of(w, p));
}

void core_pools_part(struct worker *w) {
    while (w->offer_count > 0) part(w, w->offer_count - 1);
    free(w->offers);
    w->offers = NULL;
}

/* Somebody there takes jobs, though perhaps not now: its slots may be none for a moment. */
static bool has_workers(const struct pool *p) {
    LIST_FOR (node, &p->offers) {
        const struct worker *w = CONTAINER_OF(node, struct offer, link)->worker;
        if (!w->draining) return true;
    }
    return false;
}

uint64_t core_pool_settle_at(const struct job *job) {
    if (!job->place.later) return UINT64_MAX;
    if (!has_workers(job->place.pool)) return job->queued_at;
    return core_time_add(job->queued_at, job->service->config.prefer_us);
}

/* Without workers, a pool's jobs look for others. */
static void check_workers(struct core *core, struct pool *p) {
    if (p->jobs > 0 && p->need.n > 0 && !has_workers(p)) core_queue_each(core, &p->queue, core_request_hurry);
}

void core_pools_leave(struct core *core, struct worker *w) {
    for (unsigned i = 0; i < w->offer_count; i++) check_workers(core, w->offers[i]->pool);
}

int core_pools_relabel(struct core *core, struct worker *w) {
    for (unsigned i = w->offer_count; i-- > 0;) {
        struct pool *p = w->offers[i]->pool;
        if (core_labels_fulfil(w->labels, p->need)) continue;
        part(w, i);
        check_workers(core, p);
    }
    int err = 0;
    for (unsigned i = 0; i < w->offer_count && err == 0; i++) {
        struct pool *p = w->offers[i]->pool;
        if (p == &p->service->plain && !p->service->keyed) err = join_fulfilled(p->service, w);
    }
    w->unjoined = err != 0;
    return err;
}

/* ---- pools ---- */

void core_pool_init(struct pool *p, struct service *s) {
    *p = (struct pool){.service = s};
    list_init(&p->link);
    list_init(&p->owed);
    list_init(&p->idle);
    list_init(&p->offers);
    core_queue_init(&p->queue);
    core_ready_init(&p->ready);
}

void core_pool_fini(struct pool *p) {
    list_del(&p->owed);
    core_queue_fini(&p->queue);
    core_ready_fini(&p->ready);
}

static struct pool **chain(const struct service *s, uint64_t hash) {
    return &s->pool_names[hash % POOL_BUCKETS];
}

static void drop(struct core *core, struct pool *p) {
    struct pool **at = chain(p->service, hash_bytes(p->need, core->config.seed));
    while (*at != p) at = &(*at)->next;
    *at = p->next;
    while (!list_empty(&p->offers)) {
        struct worker *w = CONTAINER_OF(p->offers.next, struct offer, link)->worker;
        part(w, offer_of(w, p));
    }
    list_del(&p->link);
    list_del(&p->idle);
    p->service->pool_count--;
    core_pool_fini(p);
    free(p);
}

void core_pools_free(struct core *core, struct service *s) {
    while (!list_empty(&s->pools)) drop(core, CONTAINER_OF(s->pools.next, struct pool, link));
    free(s->pool_names);
}

/* For a new one two of those go that were used longest ago, if there are many: after a crowd of different
   needs their number falls again. */
static bool make_room(struct core *core, struct service *s) {
    unsigned kept = s->pool_count < POOLS_MOST ? POOLS_IDLE_MOST : 1;
    for (int i = 0; i < 2 && s->pool_count - s->busy_pools >= kept; i++)
        drop(core, CONTAINER_OF(s->idle_pools.next, struct pool, idle));
    return s->pool_count < POOLS_MOST;
}

static int pool_new(struct core *core, struct service *s, struct slice need, uint64_t hash,
                    struct pool **ret) {
    if (!make_room(core, s)) return WEIR_EFULL;
    if (!s->pool_names) s->pool_names = calloc(POOL_BUCKETS, sizeof(struct pool *));
    struct pool *p = s->pool_names ? malloc(sizeof *p + need.n) : NULL;
    if (!p) return WEIR_ENOMEM;
    core_pool_init(p, s);
    memcpy((char *)(p + 1), need.p, need.n);
    p->need = (struct slice){(char *)(p + 1), need.n};
    p->next = *chain(s, hash);
    *chain(s, hash) = p;
    list_push_back(&s->pools, &p->link);
    list_push_back(&s->idle_pools, &p->idle);
    s->pool_count++;
    LIST_FOR (node, &s->plain.offers) {
        struct worker *w = CONTAINER_OF(node, struct offer, link)->worker;
        if (!core_labels_fulfil(w->labels, need) || join_new(p, w) == 0) continue;
        drop(core, p);
        return WEIR_ENOMEM;
    }
    *ret = p;
    return 0;
}

/* The pool for a need, made when there is none; the plain one for an empty need. */
static int pool_get(struct core *core, struct service *s, struct slice need, struct pool **ret) {
    *ret = &s->plain;
    if (need.n == 0) return 0;
    uint64_t hash = hash_bytes(need, core->config.seed);
    for (struct pool *p = s->pool_names ? *chain(s, hash) : NULL; p; p = p->next) {
        if (!slice_eq(p->need, need)) continue;
        if (p->jobs == 0) { /* it was used now */
            list_del(&p->idle);
            list_push_back(&s->idle_pools, &p->idle);
        }
        *ret = p;
        return 0;
    }
    return pool_new(core, s, need, hash, ret);
}

static void enter(struct pool *p) {
    struct service *s = p->service;
    if (p->jobs++ > 0 || p == &s->plain) return;
    list_del(&p->idle);
    s->busy_pools++;
}

static void leave(struct pool *p) {
    struct service *s = p->service;
    if (--p->jobs > 0 || p == &s->plain) return;
    list_push_back(&s->idle_pools, &p->idle);
    s->busy_pools--;
}

static int find(struct core *core, struct service *s, const void *message, struct place *ret) {
    const struct core_service_config *c = &s->config;
    char need[LABELS_MOST];
    size_t n = 0;
    int err = core_labels_resolve(&core->config, message, c->require, need, &n);
    if (err == 0) err = pool_get(core, s, (struct slice){need, n}, &ret->pool);
    if (err != 0 || c->prefer.n == 0) return err;
    size_t required = n;
    if (core_labels_resolve(&core->config, message, c->prefer, need, &n) != 0 || n == required) return 0;
    struct pool *any = ret->pool;
    enter(any); /* so that making the other one does not drop it */
    err = pool_get(core, s, (struct slice){need, n}, &ret->pool);
    leave(any);
    bool worth_it =
        err == 0 && has_workers(ret->pool) && (c->prefer_us > 0 || core_ready_best(&ret->pool->ready));
    if (worth_it)
        ret->later = any;
    else
        ret->pool = any; /* it was a wish only */
    return 0;
}

int core_pool_find(struct core *core, struct service *s, const void *message, struct place *ret,
                   const char **ret_why) {
    *ret = (struct place){.pool = &s->plain};
    if (s->keyed) return core_keyed_key(core, s->keyed, message, &ret->key, ret_why);
    if (s->config.require.n == 0 && s->config.prefer.n == 0) return 0;
    int err = find(core, s, message, ret);
    if (err == WEIR_EFULL) *ret_why = "requests with too many different needs are waiting";
    if (err == WEIR_EINVAL) *ret_why = "a header that chooses the worker has a value that no label can have";
    return err;
}

void core_pool_enter(struct place place) {
    enter(place.pool);
    if (place.later) enter(place.later);
}

void core_pool_settle(struct job *job) {
    struct pool *p = job->place.later;
    leave(job->place.pool);
    job->place = (struct place){.pool = p};
}

void core_pool_leave(struct place place) {
    leave(place.pool);
    if (place.later) leave(place.later);
}
