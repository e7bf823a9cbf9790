/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ZMQ_FD tells by edges, and any call on the socket may swallow one (zmq_getsockopt(3), ZMQ_FD). So whenever
 * the socket has been used in a turn, its events are asked for before the loop sleeps.
 */
#include "io/zrouter.h"
#include "base/assert.h"
#include "io/private.h"
#include "weir/weir.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <zmq.h>

enum {
    ZROUTER_MAGIC = 0x7a726f75,
    TURN_MESSAGES = 256,   /* read at once, before others have their turn */
    SETTLE_READS = 100000, /* messages after which a busy socket counts as read to its end */
    SEND_QUEUE = 100000,   /* messages that wait for one peer */
    RECEIVE_QUEUE = 256
};

struct zrouter {
    unsigned magic;
    struct zrouter_config config;
    struct io_source source;
    void *context, *socket, *monitor;
    uv_poll_t socket_poll, monitor_poll;
    uv_idle_t idle; /* runs while there is more to read */
    char **endpoints;
    size_t endpoint_count;
    unsigned open_handles, reads;
    bool used, unsettled, closing;
};

/* ---- receiving ---- */

/* Returns false when there is none. */
static bool read_message(struct zrouter *z) {
    zmq_msg_t parts[ZROUTER_FRAMES], rest;
    struct slice frames[ZROUTER_FRAMES];
    unsigned count = 0, kept = 0;
    int more = 1, connection = -1;
    while (more) {
        zmq_msg_t *part = kept < ZROUTER_FRAMES ? &parts[kept] : &rest;
        zmq_msg_init(part);
        if (zmq_msg_recv(part, z->socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(part);
            break;
        }
        more = zmq_msg_more(part);
        count++;
        if (part == &rest) {
            zmq_msg_close(part);
            continue;
        }
        if (count == 2) connection = zmq_msg_get(part, ZMQ_SRCFD);
        frames[kept++] = (struct slice){zmq_msg_data(part), zmq_msg_size(part)};
    }
    if (count > 0 && !more) z->config.message(z->config.ctx, connection, frames, count);
    for (unsigned i = 0; i < kept; i++) zmq_msg_close(&parts[i]);
    return count > 0;
}

static void on_idle(uv_idle_t *idle);

static void read_messages(struct zrouter *z) {
    unsigned n = 0;
    while (n < TURN_MESSAGES && !z->closing && read_message(z)) n++;
    if (z->closing) return;
    z->used = true;
    z->reads += n;
    bool all = n < TURN_MESSAGES;
    if (z->unsettled && (all || z->reads > SETTLE_READS)) {
        z->unsettled = false;
        z->config.settled(z->config.ctx);
    }
    if (all)
        uv_idle_stop(&z->idle);
    else
        uv_idle_start(&z->idle, on_idle);
}

static void on_idle(uv_idle_t *idle) {
    CAST(struct zrouter, z, idle->data, ZROUTER_MAGIC);
    uv_idle_stop(idle);
    read_messages(z);
}

static void on_socket(uv_poll_t *poll, int status, int events) {
    (void)status, (void)events;
    CAST(struct zrouter, z, poll->data, ZROUTER_MAGIC);
    read_messages(z);
}

/* An event of the monitor: two frames, the first of which holds its number and the descriptor
 * (zmq_socket_monitor(3)). */
static bool read_event(struct zrouter *z, int *ret_connection) {
    zmq_msg_t part;
    int32_t value = -1;
    int more = 1, frame = 0;
    while (more) {
        zmq_msg_init(&part);
        if (zmq_msg_recv(&part, z->monitor, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&part);
            return false;
        }
        if (frame++ == 0 && zmq_msg_size(&part) >= 6)
            memcpy(&value, (const char *)zmq_msg_data(&part) + 2, sizeof(value));
        more = zmq_msg_more(&part);
        zmq_msg_close(&part);
    }
    *ret_connection = value;
    return true;
}

void zrouter_look(struct zrouter *z) {
    int connection;
    while (read_event(z, &connection)) {
        z->unsettled = true;
        z->reads = 0;
        z->config.ended(z->config.ctx, connection);
    }
    if (z->unsettled) uv_idle_start(&z->idle, on_idle);
}

static void on_monitor(uv_poll_t *poll, int status, int events) {
    (void)status, (void)events;
    CAST(struct zrouter, z, poll->data, ZROUTER_MAGIC);
    zrouter_look(z);
}

static void before_sleep(struct io_source *source) {
    struct zrouter *z = CONTAINER_OF(source, struct zrouter, source);
    if (!z->used) return;
    z->used = false;
    int events = 0;
    size_t size = sizeof(events);
    if (zmq_getsockopt(z->socket, ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLIN))
        uv_idle_start(&z->idle, on_idle);
}

/* ---- sending ---- */

int zrouter_send(struct zrouter *z, struct slice to, const struct slice *frames, unsigned count) {
    z->used = true;
    if (zmq_send(z->socket, to.p, to.n, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0)
        return errno == EAGAIN ? WEIR_EAGAIN : errno == ENOMEM ? WEIR_ENOMEM : WEIR_ENOTFOUND;
    for (unsigned i = 0; i < count; i++) {
        int flags = ZMQ_DONTWAIT | (i + 1 < count ? ZMQ_SNDMORE : 0);
        if (zmq_send(z->socket, frames[i].n ? frames[i].p : "", frames[i].n, flags) < 0) return WEIR_ENOMEM;
    }
    return 0;
}

/* ---- opening and closing ---- */

static int set_int(struct zrouter *z, int option, int value) {
    return zmq_setsockopt(z->socket, option, &value, sizeof(value)) == 0 ? 0 : WEIR_EIO;
}

static int set_options(struct zrouter *z) {
    int64_t max_frame = (int64_t)z->config.max_frame;
    int err = set_int(z, ZMQ_ROUTER_MANDATORY, 1);
    if (err == 0) err = set_int(z, ZMQ_ROUTER_HANDOVER, 1);
    if (err == 0) err = set_int(z, ZMQ_LINGER, 0);
    if (err == 0) err = set_int(z, ZMQ_SNDHWM, SEND_QUEUE);
    if (err == 0) err = set_int(z, ZMQ_RCVHWM, RECEIVE_QUEUE);
    if (err == 0 && zmq_setsockopt(z->socket, ZMQ_MAXMSGSIZE, &max_frame, sizeof(max_frame)) != 0)
        err = WEIR_EIO;
    if (err != 0 || !z->config.secret) return err;
    err = set_int(z, ZMQ_CURVE_SERVER, 1);
    bool fine = zmq_setsockopt(z->socket, ZMQ_CURVE_SECRETKEY, z->config.secret, 41) == 0;
    return err != 0 ? err : fine ? 0 : WEIR_EINVAL;
}

static int open_sockets(struct zrouter *z) {
    char name[64];
    snprintf(name, sizeof(name), "inproc://weir-monitor-%p", (void *)z);
    z->context = zmq_ctx_new();
    if (!z->context) return WEIR_ENOMEM;
    z->socket = zmq_socket(z->context, ZMQ_ROUTER);
    if (!z->socket) return WEIR_EIO;
    int err = set_options(z);
    if (err != 0) return err;
    if (zmq_socket_monitor(z->socket, name, ZMQ_EVENT_DISCONNECTED) != 0) return WEIR_EIO;
    z->monitor = zmq_socket(z->context, ZMQ_PAIR);
    return z->monitor && zmq_connect(z->monitor, name) == 0 ? 0 : WEIR_EIO;
}

static int start_poll(struct zrouter *z, void *socket, uv_poll_t *poll, uv_poll_cb cb) {
    int fd;
    size_t size = sizeof(fd);
    if (zmq_getsockopt(socket, ZMQ_FD, &fd, &size) != 0) return WEIR_EIO;
    if (uv_poll_init(&z->config.loop->uv, poll, fd) != 0) return WEIR_EIO;
    poll->data = z;
    z->open_handles++;
    uv_poll_start(poll, UV_READABLE, cb);
    uv_unref((uv_handle_t *)poll);
    return 0;
}

static void close_sockets(struct zrouter *z) {
    if (z->monitor) zmq_close(z->monitor);
    if (z->socket) zmq_close(z->socket);
    if (z->context) zmq_ctx_term(z->context);
    for (size_t i = 0; i < z->endpoint_count; i++) free(z->endpoints[i]);
    free(z->endpoints);
    z->magic = 0;
    free(z);
}

int zrouter_open(const struct zrouter_config *config, struct zrouter **ret) {
    struct zrouter *z = calloc(1, sizeof(*z));
    if (!z) return WEIR_ENOMEM;
    z->magic = ZROUTER_MAGIC;
    z->config = *config;
    z->source.before_sleep = before_sleep;
    list_init(&z->source.node);
    int err = open_sockets(z);
    if (err != 0) {
        close_sockets(z);
        return err;
    }
    uv_idle_init(&config->loop->uv, &z->idle);
    z->idle.data = z;
    z->open_handles = 1;
    list_push_back(&config->loop->sources, &z->source.node);
    err = start_poll(z, z->socket, &z->socket_poll, on_socket);
    if (err == 0) err = start_poll(z, z->monitor, &z->monitor_poll, on_monitor);
    z->used = true;
    if (err != 0)
        zrouter_close(&z);
    else
        *ret = z;
    return err;
}

static void on_closed(uv_handle_t *handle) {
    CAST(struct zrouter, z, handle->data, ZROUTER_MAGIC);
    if (--z->open_handles == 0) close_sockets(z);
}

void zrouter_close(struct zrouter **router) {
    struct zrouter *z = *router;
    if (!z) return;
    *router = NULL;
    z->closing = true;
    list_del(&z->source.node);
    uv_close((uv_handle_t *)&z->idle, on_closed);
    if (z->socket_poll.data) uv_close((uv_handle_t *)&z->socket_poll, on_closed);
    if (z->monitor_poll.data) uv_close((uv_handle_t *)&z->monitor_poll, on_closed);
}

int zrouter_bind(struct zrouter *z, const char *endpoint, const char **ret_text) {
    char bound[512];
    size_t size = sizeof(bound);
    char **more = realloc(z->endpoints, (z->endpoint_count + 1) * sizeof(*more));
    if (!more) return WEIR_ENOMEM;
    z->endpoints = more;
    if (set_int(z, ZMQ_IPV6, strchr(endpoint, '[') != NULL) != 0) return WEIR_EIO;
    if (zmq_bind(z->socket, endpoint) != 0) {
        *ret_text = errno == ENODEV ? "no such network interface" : zmq_strerror(errno);
        return errno == EINVAL || errno == EPROTONOSUPPORT ? WEIR_EINVAL : WEIR_EIO;
    }
    if (zmq_getsockopt(z->socket, ZMQ_LAST_ENDPOINT, bound, &size) != 0) return WEIR_EIO;
    if (!(more[z->endpoint_count] = strdup(bound))) return WEIR_ENOMEM;
    z->endpoint_count++;
    return 0;
}

const char *zrouter_endpoint(const struct zrouter *z, size_t index) {
    return index < z->endpoint_count ? z->endpoints[index] : NULL;
}

void *zrouter_context(const struct zrouter *z) {
    return z->context;
}

void zrouter_peer(int connection, char *text, size_t size) {
    struct sockaddr_storage sa;
    socklen_t n = sizeof(sa);
    if (connection < 0)
        snprintf(text, size, "inproc");
    else if (getpeername(connection, (struct sockaddr *)&sa, &n) != 0 || sa.ss_family == AF_UNIX)
        snprintf(text, size, "unix");
    else
        io_sockaddr_text((struct sockaddr *)&sa, text, size);
}
