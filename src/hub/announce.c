/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/announce.h"
#include "weir/weir.h"
#include "wire/beacon.h"
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { EVERY_MS = 1000 };

struct announcer {
    uv_udp_t udp;
    uv_timer_t timer;
    unsigned handles;
    struct sockaddr_storage to;
    size_t count;
    struct {
        char text[BEACON_MAX + 1];
        size_t size;
    } beacons[];
};

static bool to_loopback(const struct sockaddr_storage *to) {
    if (to->ss_family == AF_INET6) return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)to)->sin6_addr);
    return (ntohl(((const struct sockaddr_in *)to)->sin_addr.s_addr) >> 24) == 127;
}

/* A listener that those whom the beacon reaches can reach. */
static bool reachable(const char *address, bool loopback, struct beacon *b) {
    struct io_address a;
    uint64_t port;
    if (io_address_parse(address, &a) != 0 || a.is_unix || !slice_u64(slice_of(a.port), &port)) return false;
    bool any = strcmp(a.host, "0.0.0.0") == 0 || strcmp(a.host, "::") == 0;
    bool local = strncmp(a.host, "127.", 4) == 0 || strcmp(a.host, "::1") == 0;
    if (local && !loopback) return false;
    const char *colon = strrchr(address, ':'); /* the host as it stands there: an IPv6 one in brackets */
    b->host = any ? SLICE("*") : (struct slice){address, (size_t)(colon - address)};
    b->port = (unsigned)port;
    return true;
}

static void on_timer(uv_timer_t *timer) {
    struct announcer *an = timer->data;
    for (size_t i = 0; i < an->count; i++) {
        uv_buf_t buf = uv_buf_init(an->beacons[i].text, (unsigned)an->beacons[i].size);
        (void)uv_udp_try_send(&an->udp, &buf, 1, (struct sockaddr *)&an->to); /* the next comes soon */
    }
}

static void on_closed(uv_handle_t *handle) {
    struct announcer *an = handle->data;
    if (--an->handles == 0) free(an);
}

void announce_stop(struct announcer **announcer) {
    struct announcer *an = announcer ? *announcer : NULL;
    if (!an) return;
    *announcer = NULL;
    uv_close((uv_handle_t *)&an->udp, on_closed);
    uv_close((uv_handle_t *)&an->timer, on_closed);
}

static int open_socket(struct announcer *an, struct io_loop *loop) {
    struct sockaddr_storage any = {.ss_family = an->to.ss_family};
    uv_udp_init(&loop->uv, &an->udp);
    uv_timer_init(&loop->uv, &an->timer);
    an->udp.data = an->timer.data = an;
    an->handles = 2;
    uv_unref((uv_handle_t *)&an->udp);
    uv_unref((uv_handle_t *)&an->timer);
    if (uv_udp_bind(&an->udp, (struct sockaddr *)&any, 0) != 0 || uv_udp_set_broadcast(&an->udp, 1) != 0)
        return WEIR_EIO;
    uv_timer_start(&an->timer, on_timer, 0, EVERY_MS);
    return 0;
}

int announce_start(struct io_loop *loop, const struct attach *attach, const char *address, const char *group,
                   struct announcer **ret, const char **ret_why) {
    size_t listeners = 0;
    while (attach_address(attach, listeners, NULL)) listeners++;
    struct announcer *an = calloc(1, sizeof(*an) + listeners * sizeof(an->beacons[0]));
    if (!an) return WEIR_ENOMEM;
    struct io_address to;
    socklen_t size;
    *ret_why = "no such address";
    if (io_address_parse(address, &to) != 0 || to.is_unix ||
        io_address_resolve(&to, false, 0, &an->to, &size) != 0) {
        free(an);
        return WEIR_ECONFIG;
    }
    const char *listener, *service;
    for (size_t i = 0; (listener = attach_address(attach, i, &service)); i++) {
        struct beacon b = {.group = slice_of(group)};
        if (service || !reachable(listener, to_loopback(&an->to), &b)) continue;
        an->beacons[an->count].size = beacon_write(&b, an->beacons[an->count].text);
        if (an->beacons[an->count].size > 0) an->count++;
    }
    if (an->count == 0) {
        free(an);
        *ret_why = "no workers listener can be reached from there";
        return WEIR_ECONFIG;
    }
    int err = open_socket(an, loop);
    if (err != 0) {
        *ret_why = "no UDP socket can be opened";
        announce_stop(&an);
    } else {
        *ret = an;
    }
    return err;
}
