/* SPDX-License-Identifier: Apache-2.0 */
/* A hub over a TCP or unix socket: dialling, the upgrade (docs/protocol.md "Reverse HTTP"), reading and
   writing. Behind the upgrade is HTTP/2: http2.c. */
#include "lib/worker.h"
#include "wire/http1.h"
#include "wire/ptth.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DIAL_LIMIT_MS = 5000 };

static void flush(struct uplink *l);

static short events_wanted(const struct uplink *l) {
    switch (l->state) {
    case UPLINK_CONNECTING:
        return POLLOUT;
    case UPLINK_UPGRADING:
    case UPLINK_OPEN:
        return (short)(POLLIN | (buffer_size(&l->out) ? POLLOUT : 0));
    default:
        return 0;
    }
}

/* Dials the next of the name's addresses that can be dialled. */
static void dial_next(struct uplink *l) {
    struct sockaddr_storage sa;
    socklen_t size;
    while (lookup_address(l->lookup, l->address_index, &sa, &size)) {
        l->address_index++;
        int one = 1, fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0) break;
        if (sa.ss_family != AF_UNIX) (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (connect(fd, (struct sockaddr *)&sa, size) == 0 || errno == EINPROGRESS) {
            l->fd = fd;
            l->armed = 0;
            l->state = UPLINK_CONNECTING;
            l->due_ms = worker_now_ms() + DIAL_LIMIT_MS;
            return;
        }
        close(fd);
    }
    uplink_close(l, l->address_index == 0 ? "cannot look up its name" : "cannot connect");
}

static void dial(struct uplink *l) {
    l->address_index = 0;
    l->lookup = lookup_start(&l->address, l->worker->wake_fd);
    l->state = UPLINK_RESOLVING;
    l->due_ms = worker_now_ms() + DIAL_LIMIT_MS;
    if (!l->lookup)
        uplink_close(l, "cannot look up its name");
    else if (lookup_done(l->lookup))
        dial_next(l);
}

static int write_upgrade(struct uplink *l) {
    struct weir_worker *w = l->worker;
    struct buffer services;
    buffer_init(&services);
    int err = 0;
    for (size_t i = 0; i < w->service_count && err == 0; i++)
        err = buffer_printf(&services, "%s%s", i ? "," : "", w->services[i].name);
    struct slice host = l->given || l->address.is_unix ? SLICE("localhost") : slice_of(l->name);
    if (err == 0)
        err = ptth_write_request(&l->out, PTTH_H2, host, buffer_slice(&services), slice_of(w->id),
                                 slice_of(w->labels), slice_of(w->token));
    buffer_fini(&services);
    return err;
}

static void connected(struct uplink *l) {
    int err = 0;
    socklen_t n = sizeof(err);
    if (!l->given && (getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &err, &n) != 0 || err != 0)) {
        struct sockaddr_storage sa;
        if (lookup_address(l->lookup, l->address_index, &sa, &n)) { /* there is another one */
            close(l->fd);
            l->fd = -1;
            dial_next(l);
        } else {
            uplink_close(l, strerror(err));
        }
        return;
    }
    lookup_free(&l->lookup);
    if (l->given) (void)fcntl(l->fd, F_SETFL, fcntl(l->fd, F_GETFL) | O_NONBLOCK);
    l->state = UPLINK_UPGRADING;
    l->due_ms = worker_now_ms() + DIAL_LIMIT_MS;
    if (write_upgrade(l) != 0)
        uplink_close(l, "out of memory");
    else
        flush(l);
}

/* The hub's answer to the upgrade: 101, or why not. */
static void upgraded(struct uplink *l, const char *bytes, size_t n) {
    if (buffer_append(&l->in, bytes, n) != 0) {
        uplink_close(l, "out of memory");
        return;
    }
    ptrdiff_t size = http1_scan(buffer_slice(&l->in), &l->scanned, 64 * 1024);
    if (size == 0) return;
    struct arena arena;
    struct http_head head = {0};
    arena_init(&arena, 0, NULL, 0);
    const char *why = "not an HTTP answer";
    int err = size < 0
                  ? (int)size
                  : http1_response((struct slice){buffer_slice(&l->in).p, (size_t)size}, &arena, &head, &why);
    char text[256] = "";
    if (err == 0 && head.status != 101) {
        struct slice rest = {buffer_slice(&l->in).p + size, buffer_size(&l->in) - (size_t)size};
        snprintf(text, sizeof(text), "refused with status %u: %.*s", head.status,
                 (int)(rest.n < 180 ? rest.n : 180), rest.n ? rest.p : "");
        why = text;
        err = WEIR_ECONNECT;
    }
    arena_fini(&arena);
    if (err == 0) err = http2_start(l);
    if (err != 0) {
        uplink_close(l, why);
        return;
    }
    uplink_opened(l);
    struct buffer rest = l->in;
    buffer_init(&l->in);
    buffer_consume(&rest, (size_t)size);
    if (buffer_size(&rest) > 0) l->broken = http2_feed(l, buffer_slice(&rest).p, buffer_size(&rest)) != 0;
    buffer_fini(&rest);
}

static void readable(struct uplink *l) {
    char *bytes = l->worker->read_buffer;
    ssize_t n = recv(l->fd, bytes, WORKER_READ, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        uplink_close(l, n == 0 ? "the hub closed the connection" : strerror(errno));
    } else if (l->state == UPLINK_UPGRADING) {
        upgraded(l, bytes, (size_t)n);
    } else {
        l->pings_missed = 0;
        if (http2_feed(l, bytes, (size_t)n) != 0) l->broken = true;
    }
}

static void step(struct uplink *l, short events) {
    if (l->state == UPLINK_RESOLVING && lookup_done(l->lookup)) dial_next(l);
    if (l->state == UPLINK_CONNECTING && (l->given || events)) connected(l);
    if ((l->state == UPLINK_UPGRADING || l->state == UPLINK_OPEN) && (events & (POLLIN | POLLHUP | POLLERR)))
        readable(l);
}

static void flush(struct uplink *l) {
    l->unsent = 0;
    if (l->fd < 0 || l->broken || l->state < UPLINK_UPGRADING) return;
    for (;;) {
        if (l->session) http2_gather(l);
        size_t size = buffer_size(&l->out);
        if (size == 0 || l->broken) break;
        ssize_t n = send(l->fd, buffer_slice(&l->out).p, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) buffer_consume(&l->out, (size_t)n);
        if (n < 0 && errno != EAGAIN && errno != EINTR) l->broken = true;
        if (n < (ssize_t)size) break;
    }
    /* What is left is for whoever waits for the socket, who must know of it. */
    if ((l->broken || buffer_size(&l->out) > 0) && l->armed) worker_wake(l->worker);
}

static void hang_up(struct uplink *l) {
    http2_stop(l);
    if (l->fd >= 0) close(l->fd);
    lookup_free(&l->lookup);
    buffer_reset(&l->in);
    buffer_reset(&l->out);
    l->scanned = 0;
}

const struct transport h2_transport = {.dial = dial,
                                       .events = events_wanted,
                                       .step = step,
                                       .flush = flush,
                                       .hang_up = hang_up,
                                       .ping = http2_ping,
                                       .announce = http2_announce,
                                       .leave = http2_leave,
                                       .begin = http2_begin,
                                       .more = http2_more,
                                       .give_up = http2_give_up,
                                       .consumed = http2_consumed,
                                       .redirect = http2_redirect,
                                       .progress = http2_progress};
