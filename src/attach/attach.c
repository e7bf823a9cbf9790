/* SPDX-License-Identifier: Apache-2.0 */
#include "attach/attach.h"
#include "attach/link.h"
#include "attach/zmq.h"
#include "base/assert.h"
#include "weir/weir.h"
#include <stdlib.h>

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
    zworkers_heartbeat(a->zworkers);
}

int attach_new(const struct attach_config *config, struct attach **ret) {
    struct attach *a = calloc(1, sizeof(*a));
    if (!a) return WEIR_ENOMEM;
    a->config = *config;
    list_init(&a->links);
    list_init(&a->quiet);
    list_init(&a->groups);
    a->exchange = (struct exchange_config){
        .core = config->core,
        .buffered_body = config->buffered_body,
        .gathers = {.core = config->core,
                    .loop = config->loop,
                    .max_head = config->max_head,
                    .max_bytes = config->max_gather,
                    .max_total = config->max_gather_total},
    };
    gathers_init(&a->exchange.gathers);
    uv_timer_init(&config->loop->uv, &a->timer);
    a->timer.data = a;
    a->timer_open = true;
    uint64_t ms = config->heartbeat_us / 1000;
    uv_timer_start(&a->timer, on_timer, ms, ms);
    uv_unref((uv_handle_t *)&a->timer);
    *ret = a;
    return 0;
}

/* A TCP peer that is silent is noticed by the heartbeat of its protocol, where there is one; the kernel's
   probes on a connection that waits are the net below it. (TCP_USER_TIMEOUT would also end a worker that just
   does not read.) */
static void harden_tcp(struct link *l) {
    uv_os_fd_t fd;
    if (uv_fileno(&l->stream.u.handle, &fd) != 0) return;
    struct attach_config *c = &l->attach->config;
    int s = (int)(c->heartbeat_us / 1000000);
    if (s == 0) s = 1;
    io_keep_alive(fd, s, s, (int)c->heartbeat_missed);
}

int attach_offer(struct attach *a, uint64_t worker, struct slice services) {
    int err = services.p ? 0 : WEIR_EINVAL;
    while (services.p && err == 0) {
        struct slice name = slice_next(&services, ',');
        err = core_worker_offer(a->config.core, io_now_us(a->config.loop), worker, name);
    }
    return err;
}

int attach_admit(const struct attach *a, struct slice token, const char **ret_why) {
    const struct attach_config *c = &a->config;
    if (c->token_required && !token.p) {
        *ret_why = "a token is required";
        return WEIR_ETOKEN;
    }
    if (c->token_required && !c->token_name(c->ctx, token)) {
        *ret_why = "this token is not known";
        return WEIR_EFORBIDDEN;
    }
    return 0;
}

static struct stream *on_accept(struct listener *listener, void *ctx) {
    struct door *d = ctx;
    struct attach *a = d->attach;
    if (a->draining || a->stats.links >= a->config.max_links) return NULL;
    struct link *l = link_new(a, strncmp(listener_address(listener), "unix:", 5) == 0);
    if (!l) return NULL;
    l->door = d;
    return &l->stream;
}

static void on_accept_done(struct stream *s) {
    struct link *l = CONTAINER_OF(s, struct link, stream);
    if (s->u.handle.type == UV_TCP) harden_tcp(l);
    link_accepted(l);
}

static void door_free(struct door *d) {
    if (d->listener) listener_close(&d->listener);
    free(d->service);
    free(d);
}

static struct door *door_new(struct attach *a, const char *service) {
    struct door *d = calloc(1, sizeof(*d));
    if (!d) return NULL;
    d->attach = a;
    if (service && !(d->service = strdup(service))) {
        free(d);
        return NULL;
    }
    return d;
}

int attach_listen(struct attach *a, const char *address, const char *service, const char **ret_text) {
    struct door **more = realloc(a->doors, (a->door_count + 1) * sizeof(*more));
    if (!more) return WEIR_ENOMEM;
    a->doors = more;
    struct door *d = door_new(a, service);
    if (!d) return WEIR_ENOMEM;
    int err = listener_open(a->config.loop, address, on_accept, d, &d->listener, ret_text);
    if (err != 0) {
        door_free(d);
        return err;
    }
    listener_on_accepted(d->listener, on_accept_done);
    more[a->door_count++] = d;
    return 0;
}

const char *attach_address(const struct attach *a, size_t index, const char **ret_service) {
    if (index >= a->door_count) return NULL;
    if (ret_service) *ret_service = a->doors[index]->service;
    return listener_address(a->doors[index]->listener);
}

int attach_bind(struct attach *a, const char *endpoint, const char **ret_text) {
    int err = a->zworkers ? 0 : zworkers_open(a, a->config.zmq_secret, &a->zworkers);
    return err == 0 ? zworkers_bind(a->zworkers, endpoint, ret_text) : err;
}

const char *attach_endpoint(const struct attach *a, size_t index) {
    return zworkers_endpoint(a->zworkers, index);
}

void *attach_zmq_context(const struct attach *a) {
    return zworkers_context(a->zworkers);
}

bool attach_turn(struct attach *a) {
    bool gathered = gathers_turn(&a->exchange.gathers);
    return zworkers_turn(a->zworkers) || gathered;
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

int attach_scatter(struct attach *a, const struct gather_stored *stored, struct buffer *body,
                   uint64_t *ret_request, struct failure *ret_why) {
    return gather_resume(&a->exchange.gathers, io_now_us(a->config.loop), stored, body, ret_request, ret_why);
}

static void close_doors(struct attach *a) {
    for (size_t i = 0; i < a->door_count; i++) door_free(a->doors[i]);
    free(a->doors);
    a->doors = NULL;
    a->door_count = 0;
}

void attach_drain(struct attach *a) {
    if (!a->draining) zworkers_drain(a->zworkers);
    a->draining = true;
    close_doors(a);
}

void attach_close(struct attach *a) {
    attach_drain(a);
    if (a->timer_open) uv_close((uv_handle_t *)&a->timer, NULL);
    a->timer_open = false;
    zworkers_close(&a->zworkers);
    list_splice_back(&a->links, &a->quiet);
    LIST_FOR (node, &a->links)
        link_close(CONTAINER_OF(node, struct link, node), LOG_DEBUG, "worker-closed", "the hub ends");
}

void attach_free(struct attach **a) {
    if (!*a) return;
    ASSERT(list_empty(&(*a)->links) && !(*a)->timer_open);
    gathers_free(&(*a)->exchange.gathers);
    free(*a);
    *a = NULL;
}

void attach_stats(const struct attach *a, struct attach_stats *ret) {
    *ret = a->stats;
}
