/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values of configuration keys: strict parsers, one per type, each of which either takes a text whole or
 * refuses it with a reason; and their way back into text, such that parsing the text gives the same value.
 */
#include "hub/config_value.h"

#include "base/assert.h"
#include "io/stream.h"
#include "wire/head.h"
#include "wire/url.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <weir/weir.h>

int config_fail(char **ret_text, const char *format, ...) {
    if (!ret_text) return WEIR_ECONFIG;
    va_list args;
    va_start(args, format);
    char *text = NULL;
    int n = vasprintf(&text, format, args);
    va_end(args);
    *ret_text = n < 0 ? NULL : text;
    return WEIR_ECONFIG;
}

static void *field_of(const struct config_key *key, void *base) {
    return (char *)base + key->offset;
}

static const void *field_of_const(const struct config_key *key, const void *base) {
    return (const char *)base + key->offset;
}

static bool is_off(const char *text) {
    return strcmp(text, "off") == 0;
}

/* ---- single texts ---- */

static bool all_in(struct slice s, const char *also) {
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!alnum && (c == '\0' || !strchr(also, c))) return false;
    }
    return true;
}

static int check_address(const char *text, char **ret_text) {
    struct io_address address;
    if (io_address_parse(text, &address) == 0) return 0;
    return config_fail(ret_text, "\"%s\" is not an address (HOST:PORT or unix:PATH)", text);
}

/* Visible ASCII without what would end a path in a target (RFC 3986 3.3). */
static int check_path(const char *text, char **ret_text) {
    bool fine = text[0] == '/';
    for (const char *p = text; *p && fine; p++) fine = *p > ' ' && *p < 0x7f && *p != '?' && *p != '#';
    return fine ? 0 : config_fail(ret_text, "\"%s\" is not a path (it begins with / and has no query)", text);
}

static int check_endpoint(const char *text, char **ret_text) {
    static const char *const schemes[] = {"tcp://", "ipc://", "inproc://"};
    for (size_t i = 0; i < 3; i++) {
        size_t n = strlen(schemes[i]);
        if (strncmp(text, schemes[i], n) == 0 && text[n]) return 0;
    }
    return config_fail(
        ret_text, "\"%s\" is not a ZeroMQ endpoint (tcp://HOST:PORT, ipc://PATH or inproc://NAME)", text);
}

static int check_origin(const char *text, char **ret_text) {
    const char *host = strstr(text, "://");
    if (strcmp(text, "*") == 0) return 0;
    if (host && host > text && all_in((struct slice){text, (size_t)(host - text)}, "+-.")) {
        struct slice rest = slice_of(host + 3);
        if (rest.n > 0 && all_in(rest, ".-_:[]")) return 0;
    }
    return config_fail(ret_text, "\"%s\" is not an origin (*, or scheme://host[:port])", text);
}

/* What a URL may be below. */
static int check_url(const char *text, char **ret_text) {
    struct url url;
    if (url_parse(slice_of(text), &url) && !url.query.p) return 0;
    return config_fail(ret_text,
                       "\"%s\" is not what a URL can begin with (https://HOST[:PORT][/PATH], or http)", text);
}

/* Where a key is, in two words. */
static int check_keyed(struct slice s, char **ret_text) {
    struct slice name = s, kind = slice_next(&name, ' ');
    uint64_t n;
    name = slice_trim(name);
    bool fine = slice_eq(kind, SLICE("header")) ? text_is_token(name)
                : slice_eq(kind, SLICE("query"))
                    ? name.n > 0 && all_in(name, "-._~%+!*'()")
                    : slice_eq(kind, SLICE("path")) && slice_u64(name, &n) && n > 0;
    if (fine) return 0;
    return config_fail(ret_text, "\"%.*s\" is not where a key can be (header NAME, query NAME or path N)",
                       SLICE_ARG(s));
}

static int check_text(enum config_type type, const char *text, char **ret_text) {
    struct slice s = slice_of(text);
    if (s.n == 0) return config_fail(ret_text, "is empty (say off instead)");
    switch (type) {
    case CONFIG_ADDRESSES:
    case CONFIG_ADDRESS:
        return check_address(text, ret_text);
    case CONFIG_ENDPOINTS:
        return check_endpoint(text, ret_text);
    case CONFIG_PATH:
        return check_path(text, ret_text);
    case CONFIG_ORIGINS:
        return check_origin(text, ret_text);
    case CONFIG_URLS:
        return check_url(text, ret_text);
    case CONFIG_HEADER:
        if (!text_is_token(s)) return config_fail(ret_text, "\"%s\" is not a header's name", text);
        return 0;
    case CONFIG_FIELD:
        if (!text_is_field_value(s)) return config_fail(ret_text, "\"%s\" is not a header's value", text);
        return 0;
    case CONFIG_KEYED:
        return check_keyed(s, ret_text);
    default:
        return 0;
    }
}

static int set_text(const struct config_key *key, char **field, const char *text, char **ret_text) {
    char *copy = NULL;
    if (!is_off(text)) {
        int err = check_text(key->type, text, ret_text);
        if (err) return err;
        if (!(copy = strdup(text))) return WEIR_ENOMEM;
    }
    for (char *p = copy; key->type == CONFIG_HEADER && p && *p; p++) {
        if (*p >= 'A' && *p <= 'Z') *p = (char)(*p + ('a' - 'A'));
    }
    free(*field);
    *field = copy;
    return 0;
}

/* ---- labels ---- */

/* "k" or "k=v" of visible ASCII; "${" begins a header's name and "}" ends it. */
static bool is_label(struct slice s) {
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] <= ' ' || s.p[i] >= 0x7f || s.p[i] == '}') return false;
        if (s.p[i] != '$' || i + 1 == s.n || s.p[i + 1] != '{') continue;
        const char *close = memchr(s.p + i, '}', s.n - i);
        size_t end = close ? (size_t)(close - s.p) : i + 2;
        if (!close || !text_is_token((struct slice){s.p + i + 2, end - i - 2})) return false;
        i = end;
    }
    return s.n > 0 && s.p[0] != '=';
}

/* Items stand between blanks or commas, and are kept with commas, as the core has them. */
static int set_labels(char **field, const char *text, char **ret_text) {
    size_t n = 0, size = strlen(text);
    if (is_off(text)) {
        free(*field);
        *field = NULL;
        return 0;
    }
    if (size > CONFIG_MAX_LABELS)
        return config_fail(ret_text, "labels are longer than %d bytes", CONFIG_MAX_LABELS);
    char *copy = malloc(size + 1);
    if (!copy) return WEIR_ENOMEM;
    for (const char *p = text, *end; *(p += strspn(p, " \t,")); p = end) {
        end = p + strcspn(p, " \t,");
        struct slice item = {p, (size_t)(end - p)};
        if (!is_label(item)) {
            free(copy);
            return config_fail(ret_text, "\"%.*s\" is not a label (k or k=v, with ${HEADER})",
                               SLICE_ARG(item));
        }
        if (n) copy[n++] = ',';
        memcpy(copy + n, item.p, item.n);
        n += item.n;
    }
    copy[n] = '\0';
    if (n == 0) {
        free(copy);
        return config_fail(ret_text, "is empty (say off instead)");
    }
    free(*field);
    *field = copy;
    return 0;
}

/* ---- lists ---- */

/* Makes room for one more item. */
static int list_grow(void **items, size_t count, size_t size, char **ret_text) {
    if (count >= CONFIG_MAX_ITEMS) return config_fail(ret_text, "more than %d values", CONFIG_MAX_ITEMS);
    if (count > 0 && (count < 4 || (count & (count - 1)) != 0)) return 0; /* rooms are 4, 8, 16, ... */
    void *grown = realloc(*items, (count < 4 ? 4 : 2 * count) * size);
    if (!grown) return WEIR_ENOMEM;
    *items = grown;
    return 0;
}

static void list_fini(struct config_list *l) {
    for (size_t i = 0; i < l->count; i++) free(l->items[i]);
    free(l->items);
    *l = (struct config_list){0};
}

void config_pairs_fini(struct config_pairs *p) {
    for (size_t i = 0; i < p->count; i++) {
        free(p->items[i].name);
        free(p->items[i].value);
    }
    free(p->items);
    *p = (struct config_pairs){0};
}

static int list_add(const struct config_key *key, struct config_list *l, struct slice item, char **ret_text) {
    char *copy = strndup(item.p, item.n);
    if (!copy) return WEIR_ENOMEM;
    int err = check_text(key->type, copy, ret_text);
    if (!err) err = list_grow((void **)&l->items, l->count, sizeof *l->items, ret_text);
    if (err) {
        free(copy);
        return err;
    }
    l->items[l->count++] = copy;
    return 0;
}

static int pairs_add(struct config_pairs *p, struct slice name, struct slice value, char **ret_text) {
    int err = list_grow((void **)&p->items, p->count, sizeof *p->items, ret_text);
    if (err) return err;
    struct config_pair pair = {strndup(name.p, name.n), strndup(value.p, value.n)};
    if (!pair.name || !pair.value) {
        free(pair.name);
        free(pair.value);
        return WEIR_ENOMEM;
    }
    p->items[p->count++] = pair;
    return 0;
}

/* PATH=SERVICE or ADDR=SERVICE; what stands first may hold '=', a service's name may not. */
static int route_add(const struct config_key *key, struct config_pairs *to, struct slice text,
                     char **ret_text) {
    const char *eq = text.n ? memrchr(text.p, '=', text.n) : NULL;
    if (!eq) return config_fail(ret_text, "\"%.*s\" is not %s", SLICE_ARG(text), key->argument);
    struct slice first = slice_trim((struct slice){text.p, (size_t)(eq - text.p)});
    struct slice service = slice_trim((struct slice){eq + 1, text.n - (size_t)(eq + 1 - text.p)});
    if (!text_is_service(service))
        return config_fail(ret_text, "\"%.*s\" is not a service's name", SLICE_ARG(service));
    int err = pairs_add(to, first, service, ret_text);
    if (err) return err;
    struct config_pair *added = &to->items[to->count - 1];
    err = key->type == CONFIG_ROUTES ? check_path(added->name, ret_text)
                                     : check_text(CONFIG_ADDRESS, added->name, ret_text);
    if (err) {
        free(added->name);
        free(added->value);
        to->count--;
    }
    return err;
}

/* The secret has the alphabet of RFC 6750 2.1. It is not shown in messages. */
int config_token_add(struct config_pairs *to, struct slice text, char **ret_text) {
    const char *eq = text.n ? memchr(text.p, '=', text.n) : NULL;
    if (!eq) return config_fail(ret_text, "a token is NAME=SECRET");
    struct slice name = slice_trim((struct slice){text.p, (size_t)(eq - text.p)});
    struct slice secret = slice_trim((struct slice){eq + 1, text.n - (size_t)(eq + 1 - text.p)});
    if (!text_is_service(name)) return config_fail(ret_text, "a token's name is of letters, digits and ._~-");
    if (secret.n == 0 || !all_in(secret, "-._~+/="))
        return config_fail(ret_text,
                           "the secret of \"%.*s\" is not of letters, digits and -._~+/=", SLICE_ARG(name));
    return pairs_add(to, name, secret, ret_text);
}

static int list_parse(const struct config_key *key, struct config_list *to, const char *text,
                      char **ret_text) {
    for (struct slice rest = slice_of(text); rest.p;) {
        int err = list_add(key, to, slice_next(&rest, ','), ret_text);
        if (err) return err;
    }
    return 0;
}

static int pairs_parse(const struct config_key *key, struct config_pairs *to, const char *text,
                       char **ret_text) {
    for (struct slice rest = slice_of(text); rest.p;) {
        struct slice item = slice_next(&rest, ',');
        int err = key->type == CONFIG_TOKENS ? config_token_add(to, item, ret_text)
                                             : route_add(key, to, item, ret_text);
        if (err) return err;
    }
    return 0;
}

/* What was there before comes first; on failure it is left alone and what was added is taken out again. */
static int set_list(const struct config_key *key, struct config_list *field, const char *text, bool replace,
                    char **ret_text) {
    struct config_list fresh = {0}, *to = replace || is_off(text) ? &fresh : field;
    size_t before = to->count;
    int err = is_off(text) ? 0 : list_parse(key, to, text, ret_text);
    if (err) {
        while (to->count > before) free(to->items[--to->count]);
        if (to == &fresh) list_fini(&fresh);
    } else if (to == &fresh) {
        list_fini(field);
        *field = fresh;
    }
    return err;
}

static int set_pairs(const struct config_key *key, struct config_pairs *field, const char *text, bool replace,
                     char **ret_text) {
    struct config_pairs fresh = {0}, *to = replace || is_off(text) ? &fresh : field;
    size_t before = to->count;
    int err = is_off(text) ? 0 : pairs_parse(key, to, text, ret_text);
    if (err) {
        while (to->count > before) {
            to->count--;
            free(to->items[to->count].name);
            free(to->items[to->count].value);
        }
        if (to == &fresh) config_pairs_fini(&fresh);
    } else if (to == &fresh) {
        config_pairs_fini(field);
        *field = fresh;
    }
    return err;
}

/* ---- numbers ---- */

static int print_size(struct buffer *out, uint64_t v) {
    static const char *const units[] = {"", "KiB", "MiB", "GiB"};
    unsigned unit = 0;
    while (unit < 3 && v && v % 1024 == 0) {
        v /= 1024;
        unit++;
    }
    return buffer_printf(out, "%llu%s", (unsigned long long)v, units[unit]);
}

static int print_duration(struct buffer *out, uint64_t ms) {
    if (ms % 1000) return buffer_printf(out, "%llums", (unsigned long long)ms);
    uint64_t s = ms / 1000;
    if (s && s % 3600 == 0) return buffer_printf(out, "%lluh", (unsigned long long)(s / 3600));
    if (s && s % 60 == 0) return buffer_printf(out, "%llum", (unsigned long long)(s / 60));
    return buffer_printf(out, "%llus", (unsigned long long)s);
}

static int print_rate(struct buffer *out, uint64_t per_h) {
    if (per_h == 0) return buffer_printf(out, "off");
    if (per_h % 3600 == 0) return buffer_printf(out, "%llu/s", (unsigned long long)(per_h / 3600));
    if (per_h % 60 == 0) return buffer_printf(out, "%llu/m", (unsigned long long)(per_h / 60));
    return buffer_printf(out, "%llu/h", (unsigned long long)per_h);
}

static int print_number(enum config_type type, struct buffer *out, uint64_t v) {
    if (type == CONFIG_SIZE) return print_size(out, v);
    if (type == CONFIG_DURATION) return print_duration(out, v);
    if (type == CONFIG_RATE) return print_rate(out, v);
    return buffer_printf(out, "%llu", (unsigned long long)v);
}

static int fail_range(const struct config_key *key, const char *text, char **ret_text) {
    struct buffer b;
    buffer_init(&b);
    int err = print_number(key->type, &b, key->low);
    if (!err) err = buffer_append(&b, " and ", 5);
    if (!err) err = print_number(key->type, &b, key->high);
    if (!err) {
        struct slice range = buffer_slice(&b);
        err = config_fail(ret_text, "\"%s\" is not between %.*s", text, SLICE_ARG(range));
    }
    buffer_fini(&b);
    return err;
}

/* "10/s", "600/m", "5000/h", or "10": per second. */
static bool parse_rate(struct slice s, uint64_t *ret_per_h) {
    static const struct {
        struct slice unit;
        uint64_t times;
    } units[] = {{{"s", 1}, 3600}, {{"m", 1}, 60}, {{"h", 1}, 1}};
    if (slice_eq(s, SLICE("off"))) {
        *ret_per_h = 0;
        return true;
    }
    const char *slash = s.n ? memchr(s.p, '/', s.n) : NULL;
    size_t digits = slash ? (size_t)(slash - s.p) : s.n;
    struct slice unit = slash ? (struct slice){slash + 1, s.n - digits - 1} : units[0].unit;
    if (!slice_u64((struct slice){s.p, digits}, ret_per_h)) return false;
    for (size_t i = 0; i < 3; i++)
        if (slice_eq(unit, units[i].unit))
            return !__builtin_mul_overflow(*ret_per_h, units[i].times, ret_per_h);
    return false;
}

static int set_number(const struct config_key *key, uint64_t *field, const char *text, char **ret_text) {
    struct slice s = slice_of(text);
    uint64_t v;
    if (key->type == CONFIG_SIZE) {
        if (!slice_size(s, &v))
            return config_fail(ret_text, "\"%s\" is not a size (bytes, or with KiB, MiB, GiB)", text);
    } else if (key->type == CONFIG_DURATION) {
        if (!slice_duration_ms(s, &v))
            return config_fail(ret_text, "\"%s\" is not a time (seconds, or with ms, s, m, h)", text);
    } else if (key->type == CONFIG_RATE) {
        if (!parse_rate(s, &v))
            return config_fail(ret_text, "\"%s\" is not a rate (10/s, 600/m, 5000/h, or off)", text);
    } else if (!slice_u64(s, &v)) {
        return config_fail(ret_text, "\"%s\" is not a number", text);
    }
    if (v < key->low || v > key->high) return fail_range(key, text, ret_text);
    *field = v;
    return 0;
}

static int set_bool(bool *field, const char *text, char **ret_text) {
    static const char *const yes[] = {"yes", "true", "on", "1"}, *const no[] = {"no", "false", "off", "0"};
    for (size_t i = 0; i < 4; i++) {
        bool is_yes = strcmp(text, yes[i]) == 0;
        if (is_yes || strcmp(text, no[i]) == 0) {
            *field = is_yes;
            return 0;
        }
    }
    return config_fail(ret_text, "\"%s\" is neither yes nor no", text);
}

static int set_choice(const struct config_key *key, unsigned *field, const char *text, char **ret_text) {
    unsigned index = 0;
    for (struct slice rest = slice_of(key->argument); rest.p; index++) {
        if (slice_eq(slice_next(&rest, '|'), slice_of(text))) {
            *field = index;
            return 0;
        }
    }
    return config_fail(ret_text, "\"%s\" is none of %s", text, key->argument);
}

static struct slice choice_text(const struct config_key *key, unsigned index) {
    struct slice rest = slice_of(key->argument), item = slice_next(&rest, '|');
    while (index-- > 0 && rest.p) item = slice_next(&rest, '|');
    return item;
}

/* ---- any type ---- */

int config_value_set(const struct config_key *key, void *base, const char *text, bool replace,
                     char **ret_text) {
    void *field = field_of(key, base);
    switch (key->type) {
    case CONFIG_ADDRESSES:
    case CONFIG_ENDPOINTS:
    case CONFIG_ORIGINS:
    case CONFIG_URLS:
        return set_list(key, field, text, replace, ret_text);
    case CONFIG_ROUTES:
    case CONFIG_SILENT:
    case CONFIG_TOKENS:
        return set_pairs(key, field, text, replace, ret_text);
    case CONFIG_ADDRESS:
    case CONFIG_FILE:
    case CONFIG_PATH:
    case CONFIG_HEADER:
    case CONFIG_FIELD:
    case CONFIG_KEYED:
        return set_text(key, field, text, ret_text);
    case CONFIG_LABELS:
        return set_labels(field, text, ret_text);
    case CONFIG_SIZE:
    case CONFIG_DURATION:
    case CONFIG_RATE:
    case CONFIG_COUNT:
        return set_number(key, field, text, ret_text);
    case CONFIG_BOOL:
        return set_bool(field, text, ret_text);
    case CONFIG_CHOICE:
        return set_choice(key, field, text, ret_text);
    case CONFIG_SECTIONS:
    case CONFIG_GROUP:
        break;
    }
    assert_failed(__FILE__, __LINE__, "a type that has no value of its own");
    return WEIR_EINVAL;
}

/* Without blanks where they would make it another value when read again: ' ;' begins a comment, and the lines
   of inih have an end. */
static int print_line(struct buffer *out, const char *flag, const char *value) {
    bool tight = value[0] == ';' || strlen(flag) + strlen(value) > 180;
    return buffer_printf(out, tight ? "%s=%s\n" : "%s = %s\n", flag, value);
}

static int print_list(const struct config_key *key, const struct config_list *l, struct buffer *out) {
    int err = l->count ? 0 : print_line(out, key->flag, "off");
    for (size_t i = 0; i < l->count && !err; i++) err = print_line(out, key->flag, l->items[i]);
    return err;
}

static int print_route(struct buffer *out, const char *flag, const struct config_pair *pair) {
    bool tight = strlen(flag) + strlen(pair->name) + strlen(pair->value) > 180;
    return buffer_printf(out, tight ? "%s=%s=%s\n" : "%s = %s=%s\n", flag, pair->name, pair->value);
}

static int print_pairs(const struct config_key *key, const struct config_pairs *p, struct buffer *out) {
    int err = p->count ? 0 : print_line(out, key->flag, "off");
    for (size_t i = 0; i < p->count && !err; i++) {
        const struct config_pair *pair = &p->items[i];
        if (key->type == CONFIG_TOKENS)
            err = buffer_printf(out, "# %s = %s=(not shown)\n", key->flag, pair->name);
        else
            err = print_route(out, key->flag, pair);
    }
    return err;
}

int config_value_print(const struct config_key *key, const void *base, struct buffer *out) {
    const void *field = field_of_const(key, base);
    switch (key->type) {
    case CONFIG_ADDRESSES:
    case CONFIG_ENDPOINTS:
    case CONFIG_ORIGINS:
    case CONFIG_URLS:
        return print_list(key, field, out);
    case CONFIG_ROUTES:
    case CONFIG_SILENT:
    case CONFIG_TOKENS:
        return print_pairs(key, field, out);
    case CONFIG_BOOL:
        return print_line(out, key->flag, *(const bool *)field ? "yes" : "no");
    case CONFIG_CHOICE: {
        struct slice choice = choice_text(key, *(const unsigned *)field);
        return buffer_printf(out, "%s = %.*s\n", key->flag, SLICE_ARG(choice));
    }
    case CONFIG_SIZE:
    case CONFIG_DURATION:
    case CONFIG_RATE:
    case CONFIG_COUNT: {
        int err = buffer_printf(out, "%s = ", key->flag);
        if (!err) err = print_number(key->type, out, *(const uint64_t *)field);
        return err ? err : buffer_append(out, "\n", 1);
    }
    default: {
        const char *text = *(char *const *)field;
        return print_line(out, key->flag, text ? text : "off");
    }
    }
}

void config_value_fini(const struct config_key *key, void *base) {
    void *field = field_of(key, base);
    switch (key->type) {
    case CONFIG_ADDRESSES:
    case CONFIG_ENDPOINTS:
    case CONFIG_ORIGINS:
    case CONFIG_URLS:
        list_fini(field);
        break;
    case CONFIG_ROUTES:
    case CONFIG_SILENT:
    case CONFIG_TOKENS:
        config_pairs_fini(field);
        break;
    case CONFIG_ADDRESS:
    case CONFIG_FILE:
    case CONFIG_PATH:
    case CONFIG_HEADER:
    case CONFIG_FIELD:
    case CONFIG_KEYED:
    case CONFIG_LABELS:
        free(*(char **)field);
        *(char **)field = NULL;
        break;
    default:
        break;
    }
}
