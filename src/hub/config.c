/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration as a whole: its table of keys (made from config.def), layers, checks.
 *
 * Layers decide whether a list is added to or replaced: each file and each environment is one, and so are
 * the config_set calls between them. set_in[key] tells in which layer a key was last set.
 */
#include "hub/config.h"

#include "hub/config_value.h"
#include "wire/head.h"

#include <stdio.h>
#include <stdlib.h>
#include <weir/weir.h>

const struct config_key config_keys[] = {
#define GROUP(title) {.type = CONFIG_GROUP, .help = title},
#define KEY(type_, field, flag_, argument_, standard_, low_, high_, help_)                                   \
    {.type = CONFIG_##type_,                                                                                 \
     .flag = flag_,                                                                                          \
     .argument = argument_,                                                                                  \
     .standard = standard_,                                                                                  \
     .help = help_,                                                                                          \
     .low = low_,                                                                                            \
     .high = high_,                                                                                          \
     .offset = offsetof(struct config, field),                                                               \
     .size = sizeof(CONFIG_C_##type_),                                                                       \
     .index = CONFIG_KEY_##field},
#include "hub/config.def"
};
const size_t config_keys_count = sizeof config_keys / sizeof config_keys[0];

bool config_key_repeats(const struct config_key *key) {
    return key->type == CONFIG_ADDRESSES || key->type == CONFIG_ENDPOINTS || key->type == CONFIG_ORIGINS ||
           key->type == CONFIG_URLS || key->type == CONFIG_ROUTES || key->type == CONFIG_SILENT ||
           key->type == CONFIG_TOKENS || key->type == CONFIG_SECTIONS;
}

void config_env_name(const char *flag, char *ret, size_t size) {
    snprintf(ret, size, "WEIR_%s", flag);
    for (char *p = ret; *p; p++) {
        if (*p >= 'a' && *p <= 'z') *p = (char)(*p - ('a' - 'A'));
        if (*p == '-') *p = '_';
    }
}

/* ---- names ---- */

const struct config_key *config_key_find(const struct config_key *keys, size_t n, struct slice name) {
    for (size_t i = 0; i < n; i++) {
        if (keys[i].type != CONFIG_GROUP && slice_eq(slice_of(keys[i].flag), name)) return &keys[i];
    }
    return NULL;
}

enum { NAME_MOST = 40 }; /* longer than any key with its mistakes */

/* Edits (insert, drop, replace) that make a into b (Levenshtein, 1966); both at most NAME_MOST bytes. */
static unsigned distance(struct slice a, struct slice b) {
    unsigned row[NAME_MOST + 1];
    for (size_t j = 0; j <= b.n; j++) row[j] = (unsigned)j;
    for (size_t i = 0; i < a.n; i++) {
        unsigned corner = row[0];
        row[0] = (unsigned)i + 1;
        for (size_t j = 0; j < b.n; j++) {
            unsigned best = corner + (a.p[i] != b.p[j]);
            corner = row[j + 1];
            if (corner + 1 < best) best = corner + 1;
            if (row[j] + 1 < best) best = row[j] + 1;
            row[j + 1] = best;
        }
    }
    return row[b.n];
}

const char *config_key_nearest(const struct config_key *keys, size_t n, struct slice name) {
    const char *nearest = NULL;
    unsigned best = (unsigned)(name.n / 3 < 2 ? 2 : name.n / 3) + 1; /* farther is a guess, not a help */
    for (size_t i = 0; i < n && name.n <= NAME_MOST; i++) {
        if (keys[i].type == CONFIG_GROUP) continue;
        unsigned d = distance(slice_of(keys[i].flag), name);
        if (d < best) {
            best = d;
            nearest = keys[i].flag;
        }
    }
    return nearest;
}

int config_fail_unknown(const struct config_key *keys, size_t n, struct slice name, char **ret_text) {
    const char *nearest = config_key_nearest(keys, n, name);
    if (nearest) return config_fail(ret_text, "unknown key; did you mean %s?", nearest);
    return config_fail(ret_text, "unknown key");
}

/* ---- life ---- */

int config_init(struct config *c) {
    *c = (struct config){0};
    for (size_t i = 0; i < config_keys_count; i++) {
        const struct config_key *row = &config_keys[i];
        if (row->type == CONFIG_GROUP || row->type == CONFIG_SECTIONS) continue;
        int err = config_value_set(row, c, row->standard, true, NULL);
        if (err) return err;
    }
    c->layer = 1;
    return 0;
}

void config_fini(struct config *c) {
    config_sections_fini(c);
    for (size_t i = 0; i < config_keys_count; i++) {
        if (config_keys[i].type != CONFIG_GROUP) config_value_fini(&config_keys[i], c);
    }
    config_pairs_fini(&c->file_tokens);
    config_pairs_fini(&c->file_client_tokens);
    config_tokens_fini(&c->worker_tokens);
    config_tokens_fini(&c->client_tokens);
    free(c->callback_secret);
    *c = (struct config){0};
}

/* ---- setting ---- */

int config_set_key(struct config *c, struct slice name, const char *value, char **ret_text) {
    const struct config_key *row = config_key_find(config_keys, config_keys_count, name);
    if (!row) return config_fail_unknown(config_keys, config_keys_count, name, ret_text);
    if (row->type == CONFIG_SECTIONS)
        return config_section_lines(c, config_kind_find(slice_of(row->flag)), value, ret_text);
    int err = config_value_set(row, c, value, c->set_in[row->index] != c->layer, ret_text);
    if (!err) c->set_in[row->index] = c->layer;
    return err;
}

int config_set(struct config *c, const char *key, const char *value, char **ret_text) {
    char *why = NULL;
    int err = config_set_key(c, slice_of(key), value, ret_text ? &why : NULL);
    if (err == WEIR_ECONFIG) config_fail(ret_text, "%s: %s", key, why ? why : "wrong");
    free(why);
    return err;
}

static const char *env_find(char *const *environment, const char *name) {
    size_t n = strlen(name);
    for (; *environment; environment++) {
        if (strncmp(*environment, name, n) == 0 && (*environment)[n] == '=') return *environment + n + 1;
    }
    return NULL;
}

int config_env(struct config *c, char *const *environment, char **ret_text) {
    int err = 0;
    c->layer++;
    for (size_t i = 0; i < config_keys_count && !err; i++) {
        if (config_keys[i].type == CONFIG_GROUP) continue;
        char name[64], *why = NULL;
        config_env_name(config_keys[i].flag, name, sizeof name);
        const char *value = env_find(environment, name);
        if (!value || !*value) continue;
        err = config_set_key(c, slice_of(config_keys[i].flag), value, ret_text ? &why : NULL);
        if (err == WEIR_ECONFIG) config_fail(ret_text, "%s: %s", name, why ? why : "wrong");
        free(why);
    }
    c->layer++;
    return err;
}

/* ---- checking ---- */

static int check_routes(const struct config *c, char **ret_text) {
    for (size_t i = 0; i < c->route.count; i++) {
        const char *path = c->route.items[i].name;
        if (strncmp(path, "/-/", 3) == 0)
            return config_fail(ret_text, "route: %s: paths below /-/ are the hub's own", path);
        for (size_t j = 0; j < i; j++) {
            if (strcmp(path, c->route.items[j].name) == 0)
                return config_fail(ret_text, "route: %s is given twice, for %s and %s", path,
                                   c->route.items[j].value, c->route.items[i].value);
        }
    }
    return 0;
}

/* Port 0 may repeat: each is another port. */
static bool same_address(const char *a, const char *b) {
    size_t n = strlen(a);
    return strcmp(a, b) == 0 && !(n >= 2 && strcmp(a + n - 2, ":0") == 0);
}

static const char *listener_at(const struct config *c, size_t i) {
    if (i < c->listen.count) return c->listen.items[i];
    i -= c->listen.count;
    return i < c->workers.count ? c->workers.items[i] : c->admin;
}

static int check_listeners(const struct config *c, char **ret_text) {
    if (c->listen.count == 0) return config_fail(ret_text, "listen: at least one address is needed");
    size_t n = c->listen.count + c->workers.count + (c->admin != NULL);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i; j++) {
            if (same_address(listener_at(c, i), listener_at(c, j)))
                return config_fail(ret_text, "%s is given for two listeners", listener_at(c, i));
        }
    }
    return 0;
}

static int check_limits(const struct config *c, char **ret_text) {
    for (size_t i = 0; i < c->cors_origin.count; i++) {
        if (strcmp(c->cors_origin.items[i], "*") == 0 && c->cors_origin.count > 1)
            return config_fail(ret_text, "cors-origin: * stands for all; give nothing else with it");
    }
    if (c->service.count > c->max_services)
        return config_fail(ret_text, "more services are configured than max-services allows");
    if (c->tenant.count > c->max_tenants)
        return config_fail(ret_text, "more tenants are configured than max-tenants allows");
    return 0;
}

/* Who owns a key does not depend on labels, and nobody else may run it. */
static int check_keyed(const struct config *c, char **ret_text) {
    const struct config_service *all = c->service.items;
    for (size_t i = 0; i <= c->service.count; i++) {
        const struct config_service *s = i < c->service.count ? &all[i] : &c->service_default;
        if (s->key && (s->require || s->prefer))
            return config_fail(ret_text, "%s%s: key cannot be combined with require or prefer",
                               i < c->service.count ? "service " : "",
                               i < c->service.count ? s->section.name : "key");
    }
    return 0;
}

static int read_callback_secret(struct config *c, char **ret_text) {
    const char *path = c->callback_secret_file;
    free(c->callback_secret);
    c->callback_secret = NULL;
    if (!path) return 0;
    struct buffer text;
    buffer_init(&text);
    int err = config_read(path, &text, ret_text);
    struct slice rest = buffer_slice(&text), line = rest.p ? slice_next(&rest, '\n') : rest;
    if (line.n && line.p[line.n - 1] == '\r') line.n--;
    if (!err && line.n == 0) err = config_fail(ret_text, "%s: has no secret in its first line", path);
    if (!err && !(c->callback_secret = strndup(line.p, line.n))) err = WEIR_ENOMEM;
    buffer_fini(&text);
    return err;
}

static int check_callbacks(struct config *c, char **ret_text) {
    if (c->callback.count > 0 && !c->data)
        return config_fail(ret_text,
                           "callback: only durable jobs have callbacks, and there are none without data");
    if (c->callback.count > 0 && !c->callback_secret_file)
        return config_fail(ret_text,
                           "callback: callbacks are signed, so callback-secret-file must be set too");
    return read_callback_secret(c, ret_text);
}

int config_check(struct config *c, char **ret_text) {
    int err = check_listeners(c, ret_text);
    if (!err) err = check_routes(c, ret_text);
    if (!err) err = check_limits(c, ret_text);
    if (!err) err = check_callbacks(c, ret_text);
    if (!err) err = config_tokens_make(c, ret_text);
    if (err) return err;
    config_sections_complete(c);
    return check_keyed(c, ret_text);
}

/* ---- printing ---- */

int config_print(const struct config *c, struct buffer *out) {
    int err = buffer_printf(out, "[hub]\n");
    for (size_t i = 0; i < config_keys_count && !err; i++) {
        const struct config_key *row = &config_keys[i];
        if (row->type == CONFIG_GROUP)
            err = buffer_printf(out, "%s# %s\n", i ? "\n" : "", row->help);
        else if (row->type != CONFIG_SECTIONS)
            err = config_value_print(row, c, out);
    }
    return err ? err : config_sections_print(c, out);
}
