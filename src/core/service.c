/* SPDX-License-Identifier: Apache-2.0 */
/* Services by name: a table that only grows; and what stands in their queues, counted. */
#include "core/state.h"
#include "weir/weir.h"
#include <stdlib.h>

enum { NAME_MAX_BYTES = 255, FIRST_ROOM = 8 };

/* 1 to 255 bytes of [A-Za-z0-9._~-] (RFC 3986's unreserved). */
static bool name_ok(struct slice name) {
    if (name.n == 0 || name.n > NAME_MAX_BYTES) return false;
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!alnum && c != '.' && c != '_' && c != '~' && c != '-') return false;
    }
    return true;
}

/* FNV-1a. Only configuration and workers add names, so nobody gains from collisions. */
static size_t hash(struct slice name) {
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < name.n; i++) h = (h ^ (unsigned char)name.p[i]) * UINT64_C(0x100000001b3);
    return (size_t)(h ^ h >> 32);
}

struct service *core_service_find(const struct core *core, struct slice name) {
    if (core->names_size == 0) return NULL;
    for (size_t i = hash(name);; i++) {
        uint32_t index = core->names[i & (core->names_size - 1)];
        if (index == 0) return NULL;
        struct service *s = core->services[index - 1];
        if (slice_eq(s->name, name)) return s;
    }
}

static void enter_name(uint32_t *names, size_t size, struct slice name, size_t index) {
    size_t i = hash(name);
    while (names[i & (size - 1)]) i++;
    names[i & (size - 1)] = (uint32_t)index + 1;
}

/* Room for one more service. The hash table is at most half full. */
static bool grow(struct core *core) {
    if (core->service_count < core->service_room) return true;
    size_t room = core->service_room ? core->service_room * 2 : FIRST_ROOM, size = room * 2;
    struct service **services = realloc(core->services, room * sizeof(struct service *));
    if (!services) return false;
    core->services = services;
    uint32_t *names = calloc(size, sizeof *names);
    if (!names) return false;
    for (size_t i = 0; i < core->service_count; i++) enter_name(names, size, services[i]->name, i);
    free(core->names);
    core->names = names;
    core->names_size = size;
    core->service_room = room;
    return true;
}

static struct service *service_new(struct core *core, struct slice name,
                                   const struct core_service_config *config) {
    struct service *s = calloc(1, sizeof *s + name.n + 1);
    if (!s) return NULL;
    memcpy(s->text, name.p, name.n);
    s->name = (struct slice){s->text, name.n};
    s->config = *config;
    core_pool_init(&s->plain, s);
    core_shares_init(s);
    list_init(&s->pools);
    list_init(&s->idle_pools);
    if (config->key.n && !(s->keyed = core_keyed_new(s))) {
        free(s);
        return NULL;
    }
    core_rate_run(&s->finished, core->now, true);
    return s;
}

int core_service_get(struct core *core, struct slice name, const struct core_service_config *config,
                     struct service **ret) {
    struct service *s = core_service_find(core, name);
    if (!s) {
        if (!name_ok(name)) return WEIR_EINVAL;
        if (core->service_count >= core->config.max_services) return WEIR_EFULL;
        s = grow(core) ? service_new(core, name, config) : NULL;
        if (!s) return WEIR_ENOMEM;
        enter_name(core->names, core->names_size, s->name, core->service_count);
        core->services[core->service_count++] = s;
    }
    *ret = s;
    return 0;
}

int core_service_expect(struct core *core, struct slice name) {
    MAGIC_CHECK(core, CORE_MAGIC);
    struct service *s;
    return core_service_get(core, name, &core->config.service, &s);
}

int core_service_define(struct core *core, struct slice name, const struct core_service_config *config) {
    MAGIC_CHECK(core, CORE_MAGIC);
    struct service *s;
    int err = core_service_get(core, name, config, &s);
    if (err != 0) return err;
    const struct core_service_config *c = &s->config;
    if (!slice_eq(c->key, config->key) || (c->key.n && c->key_from != config->key_from)) return WEIR_ESTATE;
    s->config = *config;
    return 0;
}

bool core_service_known(const struct core *core, struct slice name) {
    MAGIC_CHECK(core, CORE_MAGIC);
    return core_service_find(core, name) != NULL;
}

/* ---- what waits ---- */

static void count(struct core *core, struct service *s, struct job *job) {
    if (s->queued++ == 0) core_rate_run(&s->drained, core->now, true);
    s->waiting[job->priority]++;
    s->queued_bytes += job->request->bytes;
    core->queued++;
    core->queued_bytes += job->request->bytes;
    core_share_enter(core, job);
}

static void uncount(struct core *core, struct service *s, struct job *job) {
    core_share_leave(core, job);
    if (--s->queued == 0) core_rate_run(&s->drained, core->now, false);
    s->waiting[job->priority]--;
    s->queued_bytes -= job->request->bytes;
    core->queued--;
    core->queued_bytes -= job->request->bytes;
}

void core_service_put(struct core *core, struct job *job, bool back) {
    job->state = CORE_QUEUED;
    job->sent_at = 0;
    count(core, job->service, job);
    if (back && core_pool_settle_at(job) <= core->now) {
        core_pool_settle(job);
        core_dispatch_later(core, job->place.pool); /* the caller knows of the other one only */
    }
    if (!job->key) core_queue_put(core, &job->place.pool->queue, job, back);
    core_request_arm(core, job->request);
    if (job->key) core_keyed_put(core, job, back);
}

void core_service_take(struct core *core, struct job *job, bool turn) {
    if (!job->queue) /* behind its key's head, or parked */
        list_del(&job->link);
    else if (turn)
        core_queue_take(core, job);
    else
        core_queue_drop(core, job);
    uncount(core, job->service, job);
}

uint64_t core_service_oldest_wait(const struct service *s, uint64_t now) {
    uint64_t longest = core_queue_oldest_wait(&s->plain.queue, now);
    LIST_FOR (node, &s->pools) {
        uint64_t wait = core_queue_oldest_wait(&CONTAINER_OF(node, struct pool, link)->queue, now);
        if (wait > longest) longest = wait;
    }
    for (size_t i = 0; s->keyed && i < s->keyed->member_count; i++) {
        uint64_t wait = core_queue_oldest_wait(&s->keyed->members[i]->pool.queue, now);
        if (wait > longest) longest = wait;
    }
    return longest;
}

void core_services_free(struct core *core) {
    for (size_t i = 0; i < core->service_count; i++) {
        core_pools_free(core, core->services[i]);
        core_keyed_free(core->services[i]->keyed);
        core_pool_fini(&core->services[i]->plain);
        heap_fini(&core->services[i]->shares);
        free(core->services[i]);
    }
    free(core->services);
    free(core->names);
}
