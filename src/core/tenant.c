/* SPDX-License-Identifier: Apache-2.0 */
#include "core/tenant.h"
#include "base/hash.h"
#include "core/state.h"
#include "weir/weir.h"
#include <stdlib.h>

enum {
    FIRST_BUCKETS = 16,
    NAME_MOST = 255,
    FORGOTTEN_AT_ONCE = 4,
    BURST_MOST = 1000000,
    USED_PER_JOB = 1 << 20
};
#define HOUR_NS (UINT64_C(3600) * 1000000000)

/* ---- rates ----
   The generic cell rate algorithm (ITU-T I.371, virtual scheduling): a bucket that gets `rate` tokens an hour
   and holds `burst` of them is one time, that at which it will be full. */

static uint64_t token_ns(const struct core_tenant_config *c) {
    return HOUR_NS / c->rate_per_h;
}

static uint64_t burst_of(const struct core_tenant_config *c) {
    return c->burst == 0 ? 1 : c->burst < BURST_MOST ? c->burst : BURST_MOST;
}

/* ---- the table ---- */

void core_tenants_init(struct core *core) {
    list_init(&core->tenants.idle);
    struct tenant *nobody = &core->tenants.nobody;
    list_init(&nobody->idle);
    list_init(&nobody->shares);
    nobody->config = core->config.tenant;
    nobody->configured = true;
}

void core_tenants_free(struct core *core) {
    struct tenants *all = &core->tenants;
    for (size_t i = 0; i < all->size; i++)
        for (struct tenant *t = all->buckets[i], *next; t; t = next) {
            next = t->next;
            free(t);
        }
    free(all->buckets);
}

static struct tenant *find(const struct tenants *all, struct slice name, uint64_t hash) {
    struct tenant *t = all->size ? all->buckets[hash & (all->size - 1)] : NULL;
    while (t && !(t->hash == hash && slice_eq(t->name, name))) t = t->next;
    return t;
}

/* A longer chain does as well when memory for more buckets is lacking, but for the first ones. */
static bool grow(struct tenants *all) {
    if (all->count < all->size) return true;
    size_t size = all->size ? all->size * 2 : FIRST_BUCKETS;
    struct tenant **buckets = calloc(size, sizeof(struct tenant *));
    if (!buckets) return all->size > 0;
    for (size_t i = 0; i < all->size; i++)
        for (struct tenant *t = all->buckets[i], *next; t; t = next) {
            next = t->next;
            t->next = buckets[t->hash & (size - 1)];
            buckets[t->hash & (size - 1)] = t;
        }
    free(all->buckets);
    all->buckets = buckets;
    all->size = size;
    return true;
}

static struct tenant *add(struct core *core, struct slice name, uint64_t hash) {
    struct tenants *all = &core->tenants;
    struct tenant *t = grow(all) ? calloc(1, sizeof *t + name.n + 1) : NULL;
    if (!t) return NULL;
    memcpy(t->text, name.p, name.n);
    t->name = (struct slice){t->text, name.n};
    t->hash = hash;
    t->config = core->config.tenant;
    list_init(&t->idle);
    list_init(&t->shares);
    t->next = all->buckets[hash & (all->size - 1)];
    all->buckets[hash & (all->size - 1)] = t;
    all->count++;
    return t;
}

static void drop(struct tenants *all, struct tenant *t) {
    struct tenant **at = &all->buckets[t->hash & (all->size - 1)];
    while (*at != t) at = &(*at)->next;
    *at = t->next;
    list_del(&t->idle);
    all->count--;
    free(t);
}

static bool is_full(const struct core *core, const struct tenant *t) {
    return t->full_at_ns <= core->now * 1000;
}

/* Forgets those whose bucket is full again: looks at a few for each new one, so that they cannot pile up. */
static void make_room(struct core *core) {
    struct tenants *all = &core->tenants;
    for (int i = 0; i < FORGOTTEN_AT_ONCE && !list_empty(&all->idle); i++) {
        struct tenant *t = CONTAINER_OF(list_pop_front(&all->idle), struct tenant, idle);
        if (is_full(core, t))
            drop(all, t);
        else
            list_push_back(&all->idle, &t->idle);
    }
}

static struct tenant *get(struct core *core, struct slice name) {
    struct tenants *all = &core->tenants;
    if (name.n == 0 || name.n > NAME_MOST) return &all->nobody;
    uint64_t hash = hash_bytes(name, core->config.seed);
    struct tenant *t = find(all, name, hash);
    if (t) return t;
    make_room(core);
    t = all->count < core->config.max_tenants ? add(core, name, hash) : NULL;
    return t ? t : &all->nobody;
}

struct tenant *core_tenant_enter(struct core *core, struct slice name) {
    struct tenant *t = get(core, name);
    if (t->requests++ == 0 && t->used < core->used) t->used = core->used;
    list_del(&t->idle);
    return t;
}

void core_tenant_leave(struct core *core, struct tenant *t) {
    if (--t->requests > 0 || t->configured) return;
    if (is_full(core, t))
        drop(&core->tenants, t);
    else
        list_push_back(&core->tenants.idle, &t->idle);
}

uint64_t core_tenant_used(const struct core *core, const struct tenant *t) {
    uint64_t least = core->used > 2 * USED_PER_JOB ? core->used - 2 * USED_PER_JOB : 0;
    return t->used < least ? least : t->used;
}

void core_tenant_use(struct core *core, struct tenant *t) {
    uint64_t used = core_tenant_used(core, t);
    if (core->used < used) core->used = used;
    t->used = used + USED_PER_JOB / t->config.weight;
}

void core_tenant_defaults(struct core_tenant_config *c) {
    *c = (struct core_tenant_config){.weight = 1};
}

int core_tenant_define(struct core *core, struct slice name, const struct core_tenant_config *config) {
    MAGIC_CHECK(core, CORE_MAGIC);
    if (name.n > NAME_MOST || config->weight == 0) return WEIR_EINVAL;
    struct tenant *t = &core->tenants.nobody;
    if (name.n) {
        uint64_t hash = hash_bytes(name, core->config.seed);
        t = find(&core->tenants, name, hash);
        if (!t) t = add(core, name, hash);
        if (!t) return WEIR_ENOMEM;
    }
    list_del(&t->idle);
    t->configured = true;
    t->config = *config;
    uint64_t latest = core->now * 1000 + (config->rate_per_h ? burst_of(config) * token_ns(config) : 0);
    if (t->full_at_ns > latest) t->full_at_ns = latest; /* a higher rate holds at once */
    return 0;
}

uint64_t core_tenant_wait(const struct tenant *t, uint64_t now) {
    const struct core_tenant_config *c = &t->config;
    if (c->rate_per_h == 0) return 0;
    uint64_t slack = (burst_of(c) - 1) * token_ns(c);
    uint64_t full = t->full_at_ns > now * 1000 ? t->full_at_ns - now * 1000 : 0;
    return full > slack ? (full - slack + 999) / 1000 : 0;
}

void core_tenant_take(struct tenant *t, uint64_t now) {
    if (t->config.rate_per_h == 0) return;
    t->full_at_ns = (t->full_at_ns > now * 1000 ? t->full_at_ns : now * 1000) + token_ns(&t->config);
}

bool core_tenant_next(const struct core *core, struct core_tenant_cursor *cursor,
                      struct core_tenant_view *ret) {
    MAGIC_CHECK(core, CORE_MAGIC);
    const struct tenants *all = &core->tenants;
    const struct tenant *t = cursor->begun ? cursor->next : &all->nobody;
    cursor->begun = true;
    for (;; t = t->next) { /* those that are about to be forgotten are passed over */
        while (!t && cursor->bucket < all->size) t = all->buckets[cursor->bucket++];
        if (!t) return false;
        if (t->configured || t->requests > 0 || !is_full(core, t)) break;
    }
    cursor->next = t == &all->nobody ? NULL : t->next;
    *ret = (struct core_tenant_view){.name = t->name,
                                     .requests = t->requests,
                                     .submitted = t->submitted,
                                     .dispatched = t->dispatched,
                                     .rejected_rate = t->rejected_rate,
                                     .config = &t->config};
    return true;
}
