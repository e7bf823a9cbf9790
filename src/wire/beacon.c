/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/beacon.h"
#include "wire/head.h"
#include <stdio.h>

static bool is_host(struct slice s) {
    if (slice_eq(s, SLICE("*"))) return true;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && !memchr(".-:[]%", c, 6)) return false;
    }
    return s.n > 0;
}

size_t beacon_write(const struct beacon *b, char text[static BEACON_MAX + 1]) {
    if (!text_is_service(b->group) || !is_host(b->host) || b->port == 0 || b->port > UINT16_MAX) return 0;
    int n = snprintf(text, BEACON_MAX + 1, "WEIR1 %.*s %.*s:%u", SLICE_ARG(b->group), SLICE_ARG(b->host),
                     b->port);
    return n > 0 && n <= BEACON_MAX ? (size_t)n : 0;
}

bool beacon_parse(struct slice datagram, struct beacon *ret) {
    struct slice rest = datagram;
    if (datagram.n == 0 || datagram.n > BEACON_MAX || !slice_eq(slice_next(&rest, ' '), SLICE("WEIR1")))
        return false;
    struct beacon b = {.group = slice_next(&rest, ' ')};
    const char *colon = rest.p && rest.n ? memrchr(rest.p, ':', rest.n) : NULL;
    if (!colon || !text_is_service(b.group)) return false;
    b.host = (struct slice){rest.p, (size_t)(colon - rest.p)};
    uint64_t port;
    if (!is_host(b.host) || !slice_u64((struct slice){colon + 1, rest.n - b.host.n - 1}, &port)) return false;
    if (port == 0 || port > UINT16_MAX) return false;
    b.port = (unsigned)port;
    *ret = b;
    return true;
}
