/* SPDX-License-Identifier: Apache-2.0 */
#include "base/slice.h"

static unsigned char lower(char c) {
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
}

bool slice_eq_nocase(struct slice a, struct slice b) {
    if (a.n != b.n) return false;
    for (size_t i = 0; i < a.n; i++)
        if (lower(a.p[i]) != lower(b.p[i])) return false;
    return true;
}

static bool blank(char c) {
    return c == ' ' || c == '\t';
}

struct slice slice_trim(struct slice s) {
    while (s.n && blank(s.p[0])) s.p++, s.n--;
    while (s.n && blank(s.p[s.n - 1])) s.n--;
    return s;
}

struct slice slice_next(struct slice *rest, char sep) {
    struct slice item = *rest;
    const char *at = item.n ? memchr(item.p, sep, item.n) : NULL;
    if (at) {
        item.n = (size_t)(at - item.p);
        *rest = (struct slice){at + 1, rest->n - item.n - 1};
    } else {
        *rest = (struct slice){NULL, 0};
    }
    return slice_trim(item);
}

/* Takes the leading digits off s. */
static bool take_u64(struct slice *s, uint64_t *ret_value) {
    uint64_t value = 0;
    size_t i = 0;
    for (; i < s->n && s->p[i] >= '0' && s->p[i] <= '9'; i++)
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(s->p[i] - '0'), &value))
            return false;
    if (i == 0) return false;
    *ret_value = value;
    s->p += i;
    s->n -= i;
    return true;
}

bool slice_u64(struct slice s, uint64_t *ret_value) {
    uint64_t value;
    if (!take_u64(&s, &value) || s.n) return false;
    *ret_value = value;
    return true;
}

bool slice_hex(struct slice s, uint64_t *ret_value) {
    uint64_t value = 0;
    if (s.n == 0 || s.n > 16) return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool digit = c >= '0' && c <= '9';
        if (!digit && !(c >= 'a' && c <= 'f')) return false;
        value = value << 4 | (uint64_t)(digit ? c - '0' : c - 'a' + 10);
    }
    *ret_value = value;
    return true;
}

struct slice slice_from_u64(char text[static SLICE_U64], uint64_t value) {
    char digits[SLICE_U64];
    size_t n = 0;
    do digits[SLICE_U64 - ++n] = (char)('0' + value % 10);
    while (value /= 10);
    memcpy(text, digits + SLICE_U64 - n, n);
    return (struct slice){text, n};
}

struct slice slice_from_hex(char text[static SLICE_U64], uint64_t value) {
    char digits[SLICE_U64];
    size_t n = 0;
    do digits[SLICE_U64 - ++n] = "0123456789abcdef"[value % 16];
    while (value /= 16);
    memcpy(text, digits + SLICE_U64 - n, n);
    return (struct slice){text, n};
}

struct unit {
    const char *name;
    uint64_t factor;
};

/* A number and one of the units; the table ends with a NULL name. */
static bool parse_with_unit(struct slice s, const struct unit *units, uint64_t *ret_value) {
    uint64_t value;
    if (!take_u64(&s, &value)) return false;
    while (units->name && !slice_eq(s, slice_of(units->name))) units++;
    if (!units->name || __builtin_mul_overflow(value, units->factor, &value)) return false;
    *ret_value = value;
    return true;
}

bool slice_duration_ms(struct slice s, uint64_t *ret_ms) {
    static const struct unit units[] = {{"ms", 1},      {"s", 1000},     {"", 1000}, {"m", 60000},
                                        {"h", 3600000}, {"d", 86400000}, {NULL, 0}};
    return parse_with_unit(s, units, ret_ms);
}

bool slice_size(struct slice s, uint64_t *ret_bytes) {
    static const struct unit units[] = {{"", 1},          {"K", 1 << 10}, {"KiB", 1 << 10}, {"M", 1 << 20},
                                        {"MiB", 1 << 20}, {"G", 1 << 30}, {"GiB", 1 << 30}, {NULL, 0}};
    return parse_with_unit(s, units, ret_bytes);
}

ptrdiff_t slice_percent_decode(struct slice s, bool plus, char *dst) {
    char *out = dst;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '+' && plus) {
            c = ' ';
        } else if (c == '%') {
            if (s.n - i < 3) return -1;
            int high = hex_digit(s.p[i + 1]), low = hex_digit(s.p[i + 2]);
            if (high < 0 || low < 0) return -1;
            c = (char)(high << 4 | low);
            i += 2;
        }
        *out++ = c;
    }
    return out - dst;
}
