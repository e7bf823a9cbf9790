/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/target.h"

struct slice target_path(struct slice target) {
    const char *question = target.n ? memchr(target.p, '?', target.n) : NULL;
    return (struct slice){target.p, question ? (size_t)(question - target.p) : target.n};
}

struct slice target_query(struct slice target) {
    size_t path = target_path(target).n;
    if (path == target.n) return (struct slice){0};
    return (struct slice){target.p + path + 1, target.n - path - 1};
}

struct slice query_raw(struct slice query, struct slice name) {
    while (query.p) {
        struct slice value = slice_next(&query, '&'), key = slice_next(&value, '=');
        if (slice_eq(key, name)) return value.p ? value : SLICE("");
    }
    return (struct slice){0};
}

static struct slice decoded(struct slice s, struct arena *a) {
    char *text = arena_bytes(a, s.n + 1);
    ptrdiff_t n = text ? slice_percent_decode(s, true, text) : -1;
    if (n < 0) return (struct slice){0};
    text[n] = '\0';
    return (struct slice){text, (size_t)n};
}

struct slice query_value(struct slice query, struct slice name, struct arena *a) {
    while (query.p) {
        struct slice pair = slice_next(&query, '&');
        const char *equals = pair.n ? memchr(pair.p, '=', pair.n) : NULL;
        struct slice key = {pair.p, equals ? (size_t)(equals - pair.p) : pair.n};
        struct slice value = {equals ? equals + 1 : "", equals ? pair.n - key.n - 1 : 0};
        struct slice text = decoded(key, a);
        if (text.p && slice_eq(text, name)) return decoded(value, a);
    }
    return (struct slice){0};
}

struct slice path_segment(struct slice path, uint64_t number) {
    if (number == 0 || path.n == 0 || path.p[0] != '/') return (struct slice){0};
    struct slice segment = slice_next(&path, '/'); /* what stands before the first '/': nothing */
    for (; number > 0 && path.p; number--) segment = slice_next(&path, '/');
    return number == 0 ? segment : (struct slice){0};
}
