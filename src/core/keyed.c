/* SPDX-License-Identifier: Apache-2.0 */
#include "core/keyed.h"
#include "base/hash.h"
#include "core/state.h"
#include "weir/weir.h"
#include <stdlib.h>

enum { FIRST_BUCKETS = 64 };

struct key {
    struct key *next; /* in its bucket */
    struct keyed *keyed;
    struct job *head;
    struct list jobs; /* behind the head */
    size_t count;     /* the head too */
    uint64_t hash;
    unsigned slice;
    struct slice name;
    char text[];
};

struct keyed *core_keyed_new(struct service *s) {
    struct keyed *k = calloc(1, sizeof *k);
    if (!k) return NULL;
    k->service = s;
    list_init(&k->pending);
    list_init(&k->parked);
    return k;
}

static void member_free(struct member *m) {
    core_pool_fini(&m->pool);
    free(m);
}

void core_keyed_free(struct keyed *k) {
    if (!k) return;
    for (size_t i = 0; i < k->key_size; i++)
        for (struct key *key = k->keys[i], *next; key; key = next) {
            next = key->next;
            free(key);
        }
    for (size_t i = 0; i < k->member_count; i++) member_free(k->members[i]);
    resize_fini(&k->resize);
    free(k->members);
    free(k->keys);
    free(k);
}

/* ---- keys ---- */

int core_keyed_key(const struct core *core, const struct keyed *k, const void *message, struct slice *ret,
                   const char **ret_why) {
    const struct core_service_config *c = &k->service->config;
    *ret = core->config.value ? core->config.value(core->config.ctx, message, c->key_from, c->key)
                              : (struct slice){0};
    if (ret->n > 0 && ret->n <= KEY_MOST) return 0;
    *ret_why = ret->n > 0 ? "its key is longer than 1024 bytes" : "it has no key, which the service asks for";
    return WEIR_EINVAL;
}

static struct key *key_find(const struct keyed *k, struct slice name, uint64_t hash) {
    struct key *key = k->key_size ? k->keys[hash & (k->key_size - 1)] : NULL;
    while (key && !(key->hash == hash && slice_eq(key->name, name))) key = key->next;
    return key;
}

/* As long as there are buckets at all, longer chains do when memory for more is lacking. */
static bool grow(struct keyed *k) {
    if (k->key_count < k->key_size) return true;
    size_t size = k->key_size ? k->key_size * 2 : FIRST_BUCKETS;
    struct key **keys = calloc(size, sizeof(struct key *));
    if (!keys) return k->key_size > 0;
    for (size_t i = 0; i < k->key_size; i++)
        for (struct key *key = k->keys[i], *next; key; key = next) {
            next = key->next;
            key->next = keys[key->hash & (size - 1)];
            keys[key->hash & (size - 1)] = key;
        }
    free(k->keys);
    k->keys = keys;
    k->key_size = size;
    return true;
}

static struct key *key_new(struct keyed *k, struct slice name, uint64_t hash) {
    struct key *key = grow(k) ? malloc(sizeof *key + name.n) : NULL;
    if (!key) return NULL;
    struct key **bucket = &k->keys[hash & (k->key_size - 1)];
    *key = (struct key){.next = *bucket, .keyed = k, .hash = hash, .slice = ring_slice(name)};
    memcpy(key->text, name.p, name.n);
    key->name = (struct slice){key->text, name.n};
    list_init(&key->jobs);
    *bucket = key;
    k->key_count++;
    return key;
}

static void key_free(struct key *key) {
    struct keyed *k = key->keyed;
    struct key **at = &k->keys[key->hash & (k->key_size - 1)];
    while (*at != key) at = &(*at)->next;
    *at = key->next;
    k->key_count--;
    free(key);
}

int core_key_join(struct core *core, struct job *job, struct slice name) {
    struct keyed *k = job->service->keyed;
    uint64_t hash = hash_bytes(name, core->config.seed);
    struct key *key = key_find(k, name, hash);
    if (!key) key = key_new(k, name, hash);
    if (!key) return WEIR_ENOMEM;
    key->count++;
    job->key = key;
    return 0;
}

void core_key_replace(struct job *job, struct job *by) {
    by->key = job->key;
    job->key = NULL;
    if (by->key->head == job) by->key->head = by;
}

/* ---- places ---- */

static int by_id(const void *a, const void *b) {
    uint64_t x = (*(struct member *const *)a)->id, y = (*(struct member *const *)b)->id;
    return (x > y) - (x < y);
}

/* The member with this id; NULL: none, or not any more. */
static struct member *member_of(const struct keyed *k, uint64_t id) {
    struct member wanted = {.id = id}, *p = &wanted;
    struct member **found =
        k->member_count ? bsearch(&p, k->members, k->member_count, sizeof(struct member *), by_id) : NULL;
    return found ? *found : NULL;
}

/* Where heads of the slice go now; NULL: they are parked. */
static struct member *place_of(const struct keyed *k, unsigned slice) {
    return resize_holds(&k->resize, slice) ? NULL : member_of(k, resize_owner(&k->resize, slice));
}

bool core_keyed_ready(const struct core *core, const struct keyed *k, struct slice name) {
    if (key_find(k, name, hash_bytes(name, core->config.seed))) return false;
    const struct member *m = place_of(k, ring_slice(name));
    return m && core_ready_best(&m->pool.ready);
}

/* One that came back keeps its right to go first, wherever it goes. Its pool is to be dispatched; NULL: it is
   parked. */
static struct pool *stand(struct core *core, struct job *job) {
    struct keyed *k = job->key->keyed;
    struct member *m = place_of(k, job->key->slice);
    if (!m) {
        list_push_back(&k->parked, &job->link);
        return NULL;
    }
    if (job->order < 0)
        core_queue_move(core, &m->pool.queue, job);
    else
        core_queue_put(core, &m->pool.queue, job, false);
    core_request_arm(core, job->request);
    return &m->pool;
}

static void place(struct core *core, struct job *job) {
    struct pool *p = stand(core, job);
    if (p) core_dispatch_pool(core, p);
}

/* Those of this slice (RING_SLICES: of any) that have a place now go there. */
static void unpark(struct core *core, struct keyed *k, unsigned slice) {
    LIST_FOR (node, &k->parked) {
        struct job *job = CONTAINER_OF(node, struct job, link);
        if ((slice != RING_SLICES && job->key->slice != slice) || !place_of(k, job->key->slice)) continue;
        list_del(&job->link);
        core_dispatch_later(core, stand(core, job));
    }
    core_dispatch_pool(core, &k->service->plain); /* and those, now that all are there */
}

void core_keyed_put(struct core *core, struct job *job, bool back) {
    struct key *key = job->key;
    job->order = back ? --core->first_order : 0;
    if (!key->head) key->head = job;
    if (key->head == job)
        place(core, job);
    else
        list_push_back(&key->jobs, &job->link);
}

void core_key_leave(struct core *core, struct job *job) {
    struct key *key = job->key;
    job->key = NULL;
    key->count--;
    if (key->head != job) return;
    struct list *next = list_pop_front(&key->jobs);
    key->head = next ? CONTAINER_OF(next, struct job, link) : NULL;
    if (key->head)
        place(core, key->head);
    else
        key_free(key);
}

/* ---- running ---- */

void core_keyed_start(struct job *job) {
    job->key->keyed->running[job->key->slice]++;
}

static void give_up(struct core *core, struct keyed *k, unsigned slice) {
    if (resize_synced(&k->resize, k->resize.epoch, slice) == 0) unpark(core, k, slice);
}

void core_keyed_stop(struct core *core, struct job *job) {
    struct keyed *k = job->key->keyed;
    unsigned slice = job->key->slice;
    if (--k->running[slice] == 0 && resize_holds(&k->resize, slice)) give_up(core, k, slice);
}

/* ---- members ---- */

static void mark(struct core *core, struct keyed *k) {
    k->dirty = true;
    list_del(&k->pending);
    list_push_back(&core->resizing, &k->pending);
}

/* A worker is in no other pools of a keyed service but the plain one and its own. */
static struct member *member_at(const struct keyed *k, const struct worker *w) {
    for (unsigned i = 0; i < w->offer_count; i++) {
        struct pool *p = w->offers[i]->pool;
        if (p->service == k->service && p != &k->service->plain) return CONTAINER_OF(p, struct member, pool);
    }
    return NULL;
}

static bool can_be_member(const struct worker *w) {
    return w->slots > 0 && !w->draining;
}

void core_keyed_changed(struct core *core, struct keyed *k, const struct worker *w) {
    const struct member *m = member_at(k, w);
    if (can_be_member(w) && (!m || m->weight < w->slots)) mark(core, k);
}

void core_keyed_leave(struct core *core, struct keyed *k, struct worker *w) {
    struct member *m = member_at(k, w);
    if (!m) return;
    size_t i = 0;
    while (k->members[i] != m) i++;
    memmove(k->members + i, k->members + i + 1, (--k->member_count - i) * sizeof(struct member *));
    struct job *job;
    while ((job = core_queue_next(&m->pool.queue, core->now, 0))) {
        core_queue_drop(core, job);
        list_push_back(&k->parked, &job->link);
    }
    core_pool_expel(&m->pool, w);
    member_free(m);
    mark(core, k);
}

/* Of its name, so that it is the same when it comes back; unless another member has that name. */
static uint64_t ring_id(const struct keyed *k, const struct worker *w) {
    uint64_t id = hash_bytes(w->name, 0);
    while (id == 0 || member_of(k, id))
        id = hash_bytes((struct slice){(const char *)&w->id, sizeof w->id}, id + 1);
    return id;
}

static int member_add(struct keyed *k, struct worker *w) {
    struct member **members = realloc(k->members, (k->member_count + 1) * sizeof(struct member *));
    if (!members) return WEIR_ENOMEM;
    k->members = members;
    struct member *m = calloc(1, sizeof *m);
    if (!m) return WEIR_ENOMEM;
    m->worker = w;
    m->id = ring_id(k, w);
    core_pool_init(&m->pool, k->service);
    if (core_pool_admit(&m->pool, w) != 0) {
        member_free(m);
        return WEIR_ENOMEM;
    }
    size_t at = k->member_count++;
    for (; at > 0 && k->members[at - 1]->id > m->id; at--) k->members[at] = k->members[at - 1];
    k->members[at] = m;
    return 0;
}

/* Who can be a member is one, with the weight that it has now. */
static int update_members(struct keyed *k) {
    LIST_FOR (node, &k->service->plain.offers) {
        struct worker *w = CONTAINER_OF(node, struct offer, link)->worker;
        if (!can_be_member(w) || (!member_at(k, w) && k->member_count == RING_MEMBERS_MAX)) continue;
        int err = member_at(k, w) ? 0 : member_add(k, w);
        if (err != 0) return err;
        struct member *m = member_at(k, w);
        if (m->weight < w->slots) m->weight = w->slots;
    }
    return 0;
}

static int propose(struct keyed *k) {
    struct ring_member *members = malloc((k->member_count + 1) * sizeof *members);
    if (!members) return WEIR_ENOMEM;
    for (size_t i = 0; i < k->member_count; i++)
        members[i] = (struct ring_member){k->members[i]->id, k->members[i]->weight};
    int err = resize_propose(&k->resize, members, k->member_count);
    free(members);
    return err;
}

/* Heads that stand where they no longer belong are parked. */
static void collect(struct core *core, struct keyed *k) {
    for (size_t i = 0; i < k->key_size; i++)
        for (struct key *key = k->keys[i]; key; key = key->next) {
            struct job *head = key->head;
            const struct member *m = place_of(k, key->slice);
            if (!head->queue || (m && head->queue == &m->pool.queue)) continue;
            core_queue_drop(core, head);
            list_push_back(&k->parked, &head->link);
        }
}

static void next_epoch(struct core *core, struct keyed *k) {
    if (update_members(k) != 0 || propose(k) != 0) return; /* without memory: again in a millisecond */
    k->dirty = false;
    struct resize *r = &k->resize;
    (void)resize_prepared(r, r->epoch); /* all members are here, and hold what moves */
    for (unsigned s = 0; (s = resize_next_held(r, s)) < RING_SLICES; s++)
        if (k->running[s] == 0) (void)resize_synced(r, r->epoch, s);
    k->sync_until = core_ms_after(core_time_add(core->now, KEYED_SYNC_US)) * 1000;
    collect(core, k);
    unpark(core, k, RING_SLICES);
}

static void end_epoch(struct core *core, struct keyed *k) {
    struct resize *r = &k->resize;
    for (unsigned s = 0; (s = resize_next_held(r, s)) < RING_SLICES; s++) (void)resize_synced(r, r->epoch, s);
    unpark(core, k, RING_SLICES);
}

void core_keyed_tick(struct core *core, struct keyed *k) {
    if (k->dirty) next_epoch(core, k);
    if (k->resize.held > 0 && core->now >= k->sync_until) end_epoch(core, k);
    if (!k->dirty && k->resize.held == 0) list_del(&k->pending);
}

uint64_t core_keyed_due(const struct core *core, const struct keyed *k) {
    return k->dirty ? core->look_at : k->sync_until;
}

unsigned core_keyed_share(const struct keyed *k, const struct worker *w) {
    const struct member *m = member_at(k, w);
    return m && k->resize.ring ? ring_share(k->resize.ring, m->id) : 0;
}

const struct worker *core_keyed_owner(const struct keyed *k, struct slice name, bool *ret_held) {
    unsigned slice = ring_slice(name);
    const struct member *m = member_of(k, resize_owner(&k->resize, slice));
    *ret_held = resize_holds(&k->resize, slice);
    return m ? m->worker : NULL;
}
