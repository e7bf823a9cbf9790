/* SPDX-License-Identifier: Apache-2.0 */
#include "edge/edge.h"
#include "base/assert.h"
#include "base/random.h"
#include "edge/conn.h"
#include "weir/weir.h"
#include <stdlib.h>

/* A connection has waited too long for what its wait says. */
static void overdue(struct conn *c) {
    struct edge *e = c->edge;
    struct ask *a = c->ask;
    switch (c->wait) {
    case WAIT_IDLE:
        if (stream_unsent(&c->stream) < c->unsent)
            conn_wait(c, WAIT_IDLE); /* it still reads the last answer */
        else
            conn_close(c);
        break;
    case WAIT_HEAD:
        reply_bare(c, WEIR_ESLOW, "the request's head did not come within head-timeout");
        break;
    case WAIT_BODY:
        e->stats.slow_clients++;
        if (a->replied) { /* there is no room for another answer */
            conn_cut(c);
            break;
        }
        if (a->request) core_cancel(e->config.core, io_now_us(e->config.loop), a->request, CORE_CLIENT_GONE);
        a->request = 0;
        reply_problem(a, WEIR_ESLOW, 0, "no byte of the body came within body-timeout", 0, true);
        break;
    case WAIT_WRITE:
        if (stream_unsent(&c->stream) < c->unsent) { /* slow, but it reads */
            conn_wait(c, WAIT_WRITE);
            break;
        }
        e->stats.slow_clients++;
        conn_cut(c);
        break;
    case WAIT_NONE:
        break;
    }
}

static void on_timer(uv_timer_t *timer) {
    struct edge *e = timer->data;
    uint64_t now_ms = io_now_us(e->config.loop) / 1000;
    struct wheel_timer *t;
    while ((t = wheel_expire(&e->wheel, now_ms)) != NULL) overdue(CONTAINER_OF(t, struct conn, timer));
    LIST_FOR (node, &e->conns) { /* who is not read from could leave unnoticed */
        struct conn *c = CONTAINER_OF(node, struct conn, node);
        bool unread = c->ask && !c->stream.reading && !c->closing && !c->half_closed;
        if (unread && e->config.half_close && e->config.half_close(e->config.ctx, c->ask->service)) continue;
        if (!unread || !stream_peer_gone(&c->stream)) continue;
        e->stats.clients_left++;
        conn_close(c);
    }
}

int edge_new(const struct edge_config *config, struct edge **ret) {
    struct edge *e = calloc(1, sizeof(*e));
    if (!e) return WEIR_ENOMEM;
    if (random_entropy(&e->random[0]) != 0 || random_entropy(&e->random[1]) != 0) {
        free(e);
        return WEIR_EIO;
    }
    e->config = *config;
    list_init(&e->conns);
    list_init(&e->ready);
    wheel_init(&e->wheel, io_now_us(config->loop) / 1000);
    uv_timer_init(&config->loop->uv, &e->timer);
    e->timer.data = e;
    e->timer_open = true;
    uv_timer_start(&e->timer, on_timer, EDGE_TICK_MS, EDGE_TICK_MS);
    uv_unref((uv_handle_t *)&e->timer);
    *ret = e;
    return 0;
}

static struct stream *on_accept(struct listener *l, void *ctx) {
    struct edge *e = ctx;
    if (e->stats.open >= e->config.max_connections) {
        e->stats.connections_refused++;
        return NULL;
    }
    struct conn *c = conn_new(e, strncmp(listener_address(l), "unix:", 5) == 0);
    return c ? &c->stream : NULL;
}

int edge_listen(struct edge *e, const char *address, const char **ret_text) {
    struct listener **more = realloc(e->listeners, (e->listener_count + 1) * sizeof(*more));
    if (!more) return WEIR_ENOMEM;
    e->listeners = more;
    int err = listener_open(e->config.loop, address, on_accept, e, &more[e->listener_count], ret_text);
    if (err == 0) e->listener_count++;
    return err;
}

const char *edge_address(const struct edge *e, size_t index) {
    return index < e->listener_count ? listener_address(e->listeners[index]) : NULL;
}

void edge_turn(struct edge *e) {
    struct list now;
    list_init(&now);
    list_splice_back(&now, &e->ready);
    struct list *node;
    while ((node = list_pop_front(&now)) != NULL) conn_resume(CONTAINER_OF(node, struct conn, ready));
}

static void close_listeners(struct edge *e) {
    for (size_t i = 0; i < e->listener_count; i++) listener_close(&e->listeners[i]);
    free(e->listeners);
    e->listeners = NULL;
    e->listener_count = 0;
}

void edge_drain(struct edge *e) {
    e->draining = true;
    close_listeners(e);
    LIST_FOR (node, &e->conns) {
        struct conn *c = CONTAINER_OF(node, struct conn, node);
        if (!c->ask && c->wait == WAIT_IDLE && buffer_size(&c->in) == 0 && !c->closing) {
            c->closing = true;
            stream_close_after_write(&c->stream);
        }
    }
}

bool edge_idle(const struct edge *e) {
    return list_empty(&e->conns);
}

void edge_close(struct edge *e) {
    e->draining = true;
    close_listeners(e);
    if (e->timer_open) uv_close((uv_handle_t *)&e->timer, NULL);
    e->timer_open = false;
    LIST_FOR (node, &e->conns) conn_close(CONTAINER_OF(node, struct conn, node));
}

void edge_free(struct edge **e) {
    if (!*e) return;
    ASSERT(list_empty(&(*e)->conns) && !(*e)->timer_open);
    free(*e);
    *e = NULL;
}

void edge_stats(const struct edge *e, struct edge_stats *ret) {
    *ret = e->stats;
}
