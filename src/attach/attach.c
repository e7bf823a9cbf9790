/* SPDX-License-Identifier: Apache-2.0 */
#include "attach/attach.h"
#include "attach/link.h"
#include "base/assert.h"
#include "weir/weir.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

static void on_timer(uv_timer_t *timer) {
    struct attach *a = timer->data;
    uint64_t now = io_now_us(a->config.loop);
    LIST_FOR (node, &a->links) {
        struct link *l = CONTAINER_OF(node, struct link, node);
        if (l->closing) continue;
        if (l->protocol)
            l->protocol->heartbeat(l);
        else if (now - l->opened_us > a->config.upgrade_timeout_us)
            link_close(l, LOG_INFO, "worker-refused", "sent no upgrade in time");
    }
}

int attach_new(const struct attach_config *config, struct attach **ret) {
    struct attach *a = calloc(1, sizeof(*a));
    if (!a) return WEIR_ENOMEM;
    a->config = *config;
    list_init(&a->links);
    uv_timer_init(&config->loop->uv, &a->timer);
    a->timer.data = a;
    a->timer_open = true;
    uint64_t ms = config->heartbeat_us / 1000;
    uv_timer_start(&a->timer, on_timer, ms, ms);
    uv_unref((uv_handle_t *)&a->timer);
    *ret = a;
    return 0;
}

/* A silent TCP peer is noticed by the heartbeat; the kernel's own limits are the net below it. */
static void harden_tcp(struct link *l) {
    uv_os_fd_t fd;
    if (uv_fileno(&l->stream.u.handle, &fd) != 0) return;
    struct attach_config *c = &l->attach->config;
    unsigned ms = (unsigned)(c->heartbeat_us / 1000) * (c->heartbeat_missed + 1);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
}

static struct stream *on_accept(struct listener *listener, void *ctx) {
    struct attach *a = ctx;
    if (a->draining || a->stats.links >= a->config.max_links) return NULL;
    struct link *l = link_new(a, strncmp(listener_address(listener), "unix:", 5) == 0);
    return l ? &l->stream : NULL;
}

static void on_accept_done(struct stream *s) {
    struct link *l = CONTAINER_OF(s, struct link, stream);
    if (s->u.handle.type == UV_TCP) harden_tcp(l);
}

int attach_listen(struct attach *a, const char *address, const char **ret_text) {
    struct listener **more = realloc(a->listeners, (a->listener_count + 1) * sizeof(*more));
    if (!more) return WEIR_ENOMEM;
    a->listeners = more;
    int err = listener_open(a->config.loop, address, on_accept, a, &more[a->listener_count], ret_text);
    if (err != 0) return err;
    listener_on_accepted(more[a->listener_count], on_accept_done);
    a->listener_count++;
    return 0;
}

const char *attach_address(const struct attach *a, size_t index) {
    return index < a->listener_count ? listener_address(a->listeners[index]) : NULL;
}

int attach_adopt(struct attach *a, int fd) {
    struct link *l = link_new(a, true);
    if (!l) return WEIR_ENOMEM;
    int err = stream_adopt(&l->stream, fd);
    if (err == 0)
        stream_read_start(&l->stream);
    else
        stream_close(&l->stream);
    return err;
}

static void close_listeners(struct attach *a) {
    for (size_t i = 0; i < a->listener_count; i++) listener_close(&a->listeners[i]);
    free(a->listeners);
    a->listeners = NULL;
    a->listener_count = 0;
}

void attach_drain(struct attach *a) {
    a->draining = true;
    close_listeners(a);
}

void attach_close(struct attach *a) {
    attach_drain(a);
    if (a->timer_open) uv_close((uv_handle_t *)&a->timer, NULL);
    a->timer_open = false;
    LIST_FOR (node, &a->links)
        link_close(CONTAINER_OF(node, struct link, node), LOG_DEBUG, "worker-closed", "the hub ends");
}

void attach_free(struct attach **a) {
    if (!*a) return;
    ASSERT(list_empty(&(*a)->links) && !(*a)->timer_open);
    free(*a);
    *a = NULL;
}

void attach_stats(const struct attach *a, struct attach_stats *ret) {
    *ret = a->stats;
}
