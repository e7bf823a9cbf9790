/* SPDX-License-Identifier: Apache-2.0 */
/* The core's side of the hub: what it is told (configuration), and what it asks back (about messages, and
   whom to choose). Loop thread only. */
#include "base/assert.h"
#include "base/random.h"
#include "hub/private.h"
#include "weir/weir.h"
#include "wire/message.h"
#include "wire/target.h"

/* ---- what it asks ---- */

static void release_message(void *ctx, void *message) {
    (void)ctx;
    message_unref(message);
}

static bool message_replayable(void *ctx, const void *message) {
    (void)ctx;
    const struct message *m = message;
    return !m->body || body_replayable(m->body);
}

static struct slice numbered_segment(struct slice target, struct slice number) {
    uint64_t n;
    return slice_u64(number, &n) ? path_segment(target_path(target), n) : (struct slice){0};
}

struct slice hub_value(void *ctx, const void *message, enum core_value kind, struct slice name) {
    (void)ctx;
    const struct http_head *head = &((const struct message *)message)->head;
    switch (kind) {
    case CORE_VALUE_HEADER:
        return head_get_name(head, name);
    case CORE_VALUE_QUERY:
        return query_raw(target_query(head->target), name);
    case CORE_VALUE_PATH:
        return numbered_segment(head->target, name);
    }
    return (struct slice){0};
}

/* ---- what it is told ---- */

/* Services that a route or a listener names exist. */
static int define_named(struct core *core, const struct config_pairs *pairs,
                        const struct core_service_config *config) {
    int err = 0;
    for (size_t i = 0; i < pairs->count && err == 0; i++) {
        struct slice name = slice_of(pairs->items[i].value);
        if (!core_service_known(core, name)) err = core_service_define(core, name, config);
    }
    return err;
}

static int define_services(struct core *core, const struct config *cfg) {
    const struct config_service *all = cfg->service.items;
    int err = 0;
    for (size_t i = 0; i < cfg->service.count && err == 0; i++) {
        struct core_service_config c;
        config_service_core(&all[i], &c);
        err = core_service_define(core, slice_of(all[i].section.name), &c);
    }
    return err;
}

static int define_tenants(struct core *core, const struct config *cfg) {
    const struct config_tenant *all = cfg->tenant.items;
    int err = 0;
    for (size_t i = 0; i < cfg->tenant.count && err == 0; i++) {
        struct core_tenant_config c;
        config_tenant_core(&all[i], &c);
        err = core_tenant_define(core, slice_of(all[i].section.name), &c);
    }
    return err;
}

int hub_make_core(struct hub *h) {
    const struct config *cfg = h->config;
    struct core_config c;
    core_defaults(&c);
    c.max_queued = cfg->max_queued;
    c.max_queued_bytes = cfg->max_queued_bytes;
    c.max_hops = (unsigned)cfg->max_hops;
    c.max_parts = (unsigned)cfg->max_parts;
    c.max_services = (unsigned)cfg->max_services;
    c.max_workers = (unsigned)cfg->max_workers;
    c.max_tenants = cfg->max_tenants;
    c.release = release_message;
    c.replayable = message_replayable;
    c.value = hub_value;
    c.ctx = h;
    config_service_core(&cfg->service_default, &c.service);
    config_tenant_core(&cfg->tenant_default, &c.tenant);
    int err = random_entropy(&c.seed);
    if (err != 0) return err;
    h->core = core_new(&c, io_now_us(&h->loop));
    if (!h->core) return WEIR_ENOMEM;
    err = define_services(h->core, cfg);
    if (err == 0) err = define_tenants(h->core, cfg);
    if (err == 0) err = define_named(h->core, &cfg->route, &c.service);
    if (err == 0) err = define_named(h->core, &cfg->workers_silent, &c.service);
    return err;
}

/* ---- an embedding program's choice ---- */

struct weir_choice {
    const char *service;
    const struct http_head *head;
    struct arena texts; /* what it was told, with a NUL behind each text */
};

const char *weir_choice_service(const weir_choice *choice) {
    return choice->service;
}

const char *weir_choice_header(weir_choice *choice, const char *name) {
    struct slice value = head_get_name(choice->head, slice_of(name));
    return value.p ? arena_copy(&choice->texts, value).p : NULL;
}

static int ask(const struct hub *h, struct weir_choice *choice, const struct core_candidate *workers,
               size_t n) {
    weir_candidate all[CORE_CANDIDATES];
    for (size_t i = 0; i < n; i++) {
        all[i] = (weir_candidate){.id = arena_copy(&choice->texts, workers[i].id).p,
                                  .labels = arena_copy(&choice->texts, workers[i].labels).p,
                                  .slots = workers[i].slots,
                                  .running = workers[i].running};
        if (!all[i].id || !all[i].labels) return -1;
    }
    return h->choose(choice, all, n, h->choose_arg);
}

size_t hub_choice(void *ctx, struct slice service, const void *message, const struct core_candidate *workers,
                  size_t n) {
    CAST(struct hub, h, ctx, HUB_MAGIC);
    char room[2048];
    struct weir_choice choice = {.head = &((const struct message *)message)->head};
    arena_init(&choice.texts, 0, room, sizeof(room));
    choice.service = arena_copy(&choice.texts, service).p;
    int at = choice.service ? ask(h, &choice, workers, n) : -1;
    arena_fini(&choice.texts);
    return at >= 0 && (size_t)at < n ? (size_t)at : n;
}
