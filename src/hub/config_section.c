/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sections that have a name, [service NAME] and [tenant NAME]: alike but for what a row of config_kinds says.
 *
 * A key that a section does not give has the hub-wide value. config_check copies it as it is, so a text is
 * borrowed from there then; only what was given is the section's own, to be freed with it.
 */
#include "hub/config.h"

#include "core/core.h"
#include "hub/config_value.h"
#include "wire/head.h"

#include <stdlib.h>
#include <weir/weir.h>

#define STRING(x) #x
#define ROW(struct_, type_, field_, flag_, argument_, hub_field_, low_, high_, help_, index_)                \
    {.type = CONFIG_##type_,                                                                                 \
     .flag = flag_,                                                                                          \
     .argument = argument_,                                                                                  \
     .standard = STRING(hub_field_),                                                                         \
     .help = help_,                                                                                          \
     .low = low_,                                                                                            \
     .high = high_,                                                                                          \
     .offset = offsetof(struct_, field_),                                                                    \
     .hub_offset = offsetof(struct config, hub_field_),                                                      \
     .size = sizeof(CONFIG_C_##type_),                                                                       \
     .index = index_},

enum service_index {
#define SERVICE_KEY(type, field, flag, argument, hub_field, low, high, help) SERVICE_KEY_##field,
#include "hub/config.def"
    SERVICE_KEY_COUNT
};
enum tenant_index {
#define TENANT_KEY(type, field, flag, argument, hub_field, low, high, help) TENANT_KEY_##field,
#include "hub/config.def"
    TENANT_KEY_COUNT
};
_Static_assert(SERVICE_KEY_COUNT <= 32 && TENANT_KEY_COUNT <= 32, "section.given has a bit for each");

static const struct config_key service_keys[] = {
#define SERVICE_KEY(type, field, flag, argument, hub_field, low, high, help)                                 \
    ROW(struct config_service, type, field, flag, argument, hub_field, low, high, help, SERVICE_KEY_##field)
#include "hub/config.def"
};
static const struct config_key tenant_keys[] = {
#define TENANT_KEY(type, field, flag, argument, hub_field, low, high, help)                                  \
    ROW(struct config_tenant, type, field, flag, argument, hub_field, low, high, help, TENANT_KEY_##field)
#include "hub/config.def"
};

/* Visible ASCII; '=' and ',' would end it in NAME.KEY=VALUE, and ']' in a section's title. */
static bool is_tenant(struct slice s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] >= 0x7f || strchr("=,]", s.p[i])) return false;
    return s.n > 0 && s.n <= 255;
}

const struct config_kind config_kinds[] = {
    {.title = "service",
     .about = "How one service behaves.",
     .keys = service_keys,
     .keys_count = SERVICE_KEY_COUNT,
     .size = sizeof(struct config_service),
     .list_offset = offsetof(struct config, service),
     .default_offset = offsetof(struct config, service_default),
     .name_fits = text_is_service},
    {.title = "tenant",
     .about =
         "What holds for one tenant. Its name is 1 to 255 visible ASCII characters without `=`, `,` and `]`.",
     .keys = tenant_keys,
     .keys_count = TENANT_KEY_COUNT,
     .size = sizeof(struct config_tenant),
     .list_offset = offsetof(struct config, tenant),
     .default_offset = offsetof(struct config, tenant_default),
     .name_fits = is_tenant},
};
const size_t config_kinds_count = sizeof config_kinds / sizeof config_kinds[0];

const struct config_kind *config_kind_find(struct slice title) {
    for (size_t i = 0; i < config_kinds_count; i++)
        if (slice_eq(slice_of(config_kinds[i].title), title)) return &config_kinds[i];
    return NULL;
}

/* ---- finding ---- */

static struct config_sections *list_of(const struct config_kind *kind, struct config *c) {
    return (void *)((char *)c + kind->list_offset);
}

static const struct config_sections *list_of_const(const struct config_kind *kind, const struct config *c) {
    return (const void *)((const char *)c + kind->list_offset);
}

static struct config_section *section_at(const struct config_kind *kind, const struct config_sections *all,
                                         size_t i) {
    return (void *)((char *)all->items + i * kind->size);
}

static struct config_section *find(const struct config_kind *kind, const struct config_sections *all,
                                   struct slice name) {
    for (size_t i = 0; i < all->count; i++) {
        struct config_section *s = section_at(kind, all, i);
        if (slice_eq(slice_of(s->name), name)) return s;
    }
    return NULL;
}

const struct config_service *config_service_find(const struct config *c, struct slice name) {
    const struct config_section *s = find(config_kind_find(SLICE("service")), &c->service, name);
    return s ? (const void *)s : &c->service_default;
}

/* ---- setting ---- */

/* Makes room for one more. */
static int grow(const struct config_kind *kind, struct config_sections *all) {
    size_t n = all->count;
    if (n > 0 && (n & (n - 1)) != 0) return 0; /* rooms are 1, 2, 4, ... */
    void *items = realloc(all->items, (n ? 2 * n : 1) * kind->size);
    if (!items) return WEIR_ENOMEM;
    all->items = items;
    return 0;
}

int config_section_get(struct config *c, const struct config_kind *kind, struct slice name,
                       struct config_section **ret, char **ret_text) {
    struct config_sections *all = list_of(kind, c);
    if ((*ret = find(kind, all, name))) return 0;
    if (!kind->name_fits(name))
        return config_fail(ret_text, "\"%.*s\" is not a %s's name", SLICE_ARG(name), kind->title);
    if (all->count >= CONFIG_MAX_ITEMS)
        return config_fail(ret_text, "more than %d %ss", CONFIG_MAX_ITEMS, kind->title);
    char *copy = grow(kind, all) == 0 ? strndup(name.p, name.n) : NULL;
    if (!copy) return WEIR_ENOMEM;
    *ret = section_at(kind, all, all->count++);
    memset(*ret, 0, kind->size);
    (*ret)->name = copy;
    return 0;
}

int config_section_set(const struct config_kind *kind, struct config_section *s, struct slice key,
                       const char *value, char **ret_text) {
    const struct config_key *row = config_key_find(kind->keys, kind->keys_count, key);
    if (!row) return config_fail_unknown(kind->keys, kind->keys_count, key, ret_text);
    bool given = s->given & (1u << row->index);
    if (!given) memset((char *)s + row->offset, 0, row->size); /* what is borrowed is not its own to free */
    int err = config_value_set(row, s, value, true, ret_text);
    if (!err) s->given |= 1u << row->index;
    return err;
}

static int set_one(struct config *c, const struct config_kind *kind, struct slice line, char **ret_text) {
    struct slice value = line, path = slice_next(&value, '=');
    const char *dot = path.n ? memrchr(path.p, '.', path.n) : NULL; /* a name may hold dots, a key may not */
    if (!dot || !value.p) return config_fail(ret_text, "\"%.*s\" is not NAME.KEY=VALUE", SLICE_ARG(line));
    struct slice name = {path.p, (size_t)(dot - path.p)}, key = {dot + 1, path.n - name.n - 1};
    value = slice_trim(value);
    char *copy = strndup(value.p, value.n);
    if (!copy) return WEIR_ENOMEM;
    struct config_section *s;
    int err = config_section_get(c, kind, name, &s, ret_text);
    if (!err) err = config_section_set(kind, s, key, copy, ret_text);
    free(copy);
    return err;
}

int config_section_lines(struct config *c, const struct config_kind *kind, const char *text,
                         char **ret_text) {
    if (strcmp(text, "off") == 0) return 0;
    int err = 0;
    for (struct slice rest = slice_of(text); rest.p && !err;)
        err = set_one(c, kind, slice_next(&rest, ','), ret_text);
    return err;
}

/* ---- completing, printing, freeing ---- */

/* Keys that were not given have the hub-wide value. */
static void complete(const struct config *c, const struct config_kind *kind, struct config_section *s) {
    for (size_t i = 0; i < kind->keys_count; i++) {
        const struct config_key *row = &kind->keys[i];
        if (s->given & (1u << row->index)) continue;
        memcpy((char *)s + row->offset, (const char *)c + row->hub_offset, row->size);
    }
}

void config_sections_complete(struct config *c) {
    for (size_t k = 0; k < config_kinds_count; k++) {
        const struct config_kind *kind = &config_kinds[k];
        const struct config_sections *all = list_of(kind, c);
        complete(c, kind, (void *)((char *)c + kind->default_offset));
        for (size_t i = 0; i < all->count; i++) complete(c, kind, section_at(kind, all, i));
    }
}

static int print(const struct config_kind *kind, const struct config_section *s, struct buffer *out) {
    int err = buffer_printf(out, "\n[%s %s]\n", kind->title, s->name);
    for (size_t i = 0; i < kind->keys_count && !err; i++)
        if (s->given & (1u << kind->keys[i].index)) err = config_value_print(&kind->keys[i], s, out);
    return err;
}

int config_sections_print(const struct config *c, struct buffer *out) {
    int err = 0;
    for (size_t k = 0; k < config_kinds_count; k++) {
        const struct config_kind *kind = &config_kinds[k];
        const struct config_sections *all = list_of_const(kind, c);
        for (size_t i = 0; i < all->count && !err; i++) err = print(kind, section_at(kind, all, i), out);
    }
    return err;
}

void config_sections_fini(struct config *c) {
    for (size_t k = 0; k < config_kinds_count; k++) {
        const struct config_kind *kind = &config_kinds[k];
        struct config_sections *all = list_of(kind, c);
        for (size_t i = 0; i < all->count; i++) {
            struct config_section *s = section_at(kind, all, i);
            for (size_t j = 0; j < kind->keys_count; j++)
                if (s->given & (1u << kind->keys[j].index)) config_value_fini(&kind->keys[j], s);
            free(s->name);
        }
        free(all->items);
        *all = (struct config_sections){0};
    }
}

/* ---- for the core ---- */

/* "header NAME" and the like, as config_value.c has let it pass. */
static void set_key(const char *text, struct core_service_config *ret) {
    struct slice name = slice_of(text), kind = slice_next(&name, ' ');
    ret->key = slice_trim(name);
    ret->key_from = slice_eq(kind, SLICE("query"))  ? CORE_VALUE_QUERY
                    : slice_eq(kind, SLICE("path")) ? CORE_VALUE_PATH
                                                    : CORE_VALUE_HEADER;
}

void config_service_core(const struct config_service *s, struct core_service_config *ret) {
    *ret = (struct core_service_config){
        .max_queued = s->max_queued,
        .max_queued_bytes = s->max_queued_bytes,
        .queue_time_us = s->queue_time * 1000,
        .target_wait_us = s->target_wait * 1000,
        .age_us = s->age * 1000,
        .attempts = (unsigned)s->attempts,
        .full_status = s->full_status == CONFIG_FULL_429 ? 429 : 503,
        .retry_always = s->retry == CONFIG_RETRY_ALWAYS,
        .admit_by_deadline = s->admission == CONFIG_ADMISSION_DEADLINE,
        .shortest_first = s->order == CONFIG_ORDER_SHORTEST,
        .best_priority = (unsigned)s->best_priority,
        .require = slice_of(s->require),
        .prefer = slice_of(s->prefer),
        .prefer_us = s->prefer_wait * 1000,
        .shed_wait_us = s->shed_wait * 1000,
        .shed_after_us = s->shed_after * 1000,
    };
    if (s->key) set_key(s->key, ret);
}

void config_tenant_core(const struct config_tenant *t, struct core_tenant_config *ret) {
    *ret = (struct core_tenant_config){
        .weight = (uint32_t)t->weight,
        .best_priority = (unsigned)t->best_priority,
        .rate_per_h = t->rate,
        .burst = t->burst,
    };
}
