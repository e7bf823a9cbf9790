/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams. A write tries the socket at once; only what the kernel does not take waits in a uv_write of its
 * own, while further output gathers in s->out.
 */
#include "base/assert.h"
#include "io/private.h"
#include "weir/weir.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

struct stream_write {
    uv_write_t req;
    struct stream *stream;
    struct buffer bytes;
};

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    (void)suggested;
    struct stream *s = handle->data;
    *buf = uv_buf_init(s->loop->read_buffer, IO_READ_SIZE);
}

static void on_read(uv_stream_t *handle, ssize_t n, const uv_buf_t *buf) {
    struct stream *s = handle->data;
    if (s->close_after_write) { /* what comes now is dropped: see stream_close_after_write */
        if (n < 0 && !list_empty(&s->lingering)) stream_close(s);
        if (n < 0) stream_read_stop(s);
    } else if (n > 0) {
        s->ops->data(s, buf->base, (size_t)n);
    } else if (n < 0) {
        stream_read_stop(s);
        if (n != UV_EOF) s->broken = true;
        s->ops->eof(s, n == UV_EOF ? 0 : WEIR_ECLOSED);
    }
}

int stream_init(struct stream *s, struct io_loop *loop, bool is_unix, const struct stream_ops *ops) {
    *s = (struct stream){.ops = ops, .loop = loop};
    int err = is_unix ? uv_pipe_init(&loop->uv, &s->u.pipe, 0) : uv_tcp_init(&loop->uv, &s->u.tcp);
    if (err != 0) return WEIR_EIO;
    s->u.handle.data = s;
    list_init(&s->dirty);
    list_init(&s->lingering);
    buffer_init(&s->out);
    return 0;
}

int stream_adopt(struct stream *s, int fd) {
    int err = s->u.handle.type == UV_TCP ? uv_tcp_open(&s->u.tcp, fd) : uv_pipe_open(&s->u.pipe, fd);
    return err == 0 ? 0 : WEIR_EIO;
}

struct connecting {
    uv_connect_t req;
    struct stream *stream;
    void (*done)(struct stream *s, int err);
};

static void on_connect(uv_connect_t *req, int status) {
    struct connecting *c = CONTAINER_OF(req, struct connecting, req);
    struct stream *s = c->stream;
    void (*done)(struct stream *, int) = c->done;
    free(c);
    if (s->closing) return;
    if (status == 0 && s->u.handle.type == UV_TCP) uv_tcp_nodelay(&s->u.tcp, 1);
    done(s, status == 0 ? 0 : WEIR_ECONNECT);
}

int stream_connect(struct stream *s, const struct io_address *to, void (*done)(struct stream *s, int err)) {
    struct sockaddr_storage sa;
    socklen_t size;
    if (!to->is_unix && io_address_resolve(to, false, 0, &sa, &size) != 0) return WEIR_ECONNECT;
    struct connecting *c = malloc(sizeof(*c));
    if (!c) return WEIR_ENOMEM;
    c->stream = s;
    c->done = done;
    int err = 0;
    if (to->is_unix)
        uv_pipe_connect(&c->req, &s->u.pipe, to->path, on_connect);
    else
        err = uv_tcp_connect(&c->req, &s->u.tcp, (const struct sockaddr *)&sa, on_connect);
    if (err == 0) return 0;
    free(c);
    return WEIR_ECONNECT;
}

bool stream_peer_gone(const struct stream *s) {
    uv_os_fd_t fd;
    if (s->closing || uv_fileno(&s->u.handle, &fd) != 0) return false;
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

void stream_read_start(struct stream *s) {
    if (s->reading || s->closing) return;
    s->reading = uv_read_start(&s->u.stream, on_alloc, on_read) == 0;
}

void stream_read_stop(struct stream *s) {
    if (!s->reading) return;
    s->reading = false;
    uv_read_stop(&s->u.stream);
}

size_t stream_pending(const struct stream *s) {
    return buffer_size(&s->out) + (s->writing ? buffer_size(&s->writing->bytes) : 0);
}

size_t stream_unsent(const struct stream *s) {
    return buffer_size(&s->out) + uv_stream_get_write_queue_size(&s->u.stream);
}

void stream_dirty(struct stream *s) {
    if (s->closing || !list_empty(&s->dirty)) return;
    if (s->first)
        list_push_front(&s->loop->dirty, &s->dirty);
    else
        list_push_back(&s->loop->dirty, &s->dirty);
}

static void fail(struct stream *s) {
    bool first = !s->broken;
    s->broken = true;
    buffer_reset(&s->out);
    stream_read_stop(s);
    if (s->close_after_write)
        stream_close(s);
    else if (first)
        s->ops->eof(s, WEIR_ECLOSED);
}

static void say_goodbye(struct stream *s);

static void on_written(uv_write_t *req, int status) {
    struct stream_write *w = CONTAINER_OF(req, struct stream_write, req);
    struct stream *s = w->stream;
    s->writing = NULL;
    buffer_fini(&w->bytes);
    free(w);
    if (s->closing) return;
    if (status != 0) {
        fail(s);
        return;
    }
    stream_write_out(s);
    if (!s->writing && !s->closing && !s->close_after_write && s->ops->drained) s->ops->drained(s);
}

/* Hands what is left in s->out to the loop. */
static void write_later(struct stream *s) {
    struct stream_write *w = malloc(sizeof(*w));
    if (!w) {
        fail(s);
        return;
    }
    w->stream = s;
    w->bytes = s->out;
    buffer_init(&s->out);
    uv_buf_t buf = uv_buf_init(w->bytes.data + w->bytes.start, (unsigned)buffer_size(&w->bytes));
    s->writing = w;
    if (uv_write(&w->req, &s->u.stream, &buf, 1, on_written) != 0) {
        s->writing = NULL;
        buffer_fini(&w->bytes);
        free(w);
        fail(s);
    }
}

void stream_write_out(struct stream *s) {
    if (s->closing || s->broken) return;
    if (s->ops->before_write && !s->close_after_write) s->ops->before_write(s);
    if (s->out.starved && !s->closing) {
        fail(s); /* nothing may follow a gap */
        return;
    }
    if (s->writing || s->closing) return;
    size_t size = buffer_size(&s->out);
    if (size > 0) {
        uv_buf_t buf = uv_buf_init(s->out.data + s->out.start, (unsigned)size);
        int n = uv_try_write(&s->u.stream, &buf, 1);
        if (n > 0) buffer_consume(&s->out, (size_t)n);
        if (n < 0 && n != UV_EAGAIN) {
            fail(s);
            return;
        }
        if (buffer_size(&s->out) > 0)
            write_later(s);
        else if (size >= IO_WRITE_AHEAD && !s->close_after_write && s->ops->drained)
            s->ops->drained(s);
    }
    if (s->close_after_write && !s->writing) say_goodbye(s);
}

static void on_shutdown(uv_shutdown_t *req, int status) {
    struct stream *s = req->data;
    free(req);
    if (status != 0 && !s->closing) stream_close(s);
}

static void say_goodbye(struct stream *s) {
    if (!list_empty(&s->lingering)) return;
    uv_shutdown_t *req = malloc(sizeof(*req));
    if (!req) {
        stream_close(s);
        return;
    }
    req->data = s;
    if (uv_shutdown(req, &s->u.stream, on_shutdown) != 0) {
        free(req);
        stream_close(s);
        return;
    }
    s->linger_until_us = io_now_us(s->loop) + IO_LINGER_MS * 1000;
    list_push_back(&s->loop->lingering, &s->lingering);
    stream_read_start(s);
    if (!uv_is_active((uv_handle_t *)&s->loop->linger_timer))
        uv_timer_start(&s->loop->linger_timer, s->loop->on_linger, IO_LINGER_MS / 4, IO_LINGER_MS / 4);
}

bool stream_end(struct stream *s) {
    uv_os_fd_t fd;
    if (s->closing || s->broken || stream_pending(s) > 0 || uv_fileno(&s->u.handle, &fd) != 0) return false;
    return shutdown(fd, SHUT_WR) == 0;
}

void stream_user_timeout(struct stream *s, unsigned ms) {
    uv_os_fd_t fd;
    if (s->u.handle.type == UV_TCP && uv_fileno(&s->u.handle, &fd) == 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
}

void io_keep_alive(int fd, int idle_s, int every_s, int times) {
    static const int on = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof(every_s));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof(times));
}

void stream_close_after_write(struct stream *s) {
    if (s->closing || s->close_after_write) return;
    s->close_after_write = true;
    stream_dirty(s);
}

static void on_closed(uv_handle_t *handle) {
    struct stream *s = handle->data;
    s->ops->closed(s);
}

static void let_go(struct stream *s) {
    s->closing = true;
    s->reading = false;
    list_del(&s->dirty);
    list_del(&s->lingering);
    buffer_fini(&s->out);
    buffer_init(&s->out);
}

void stream_close(struct stream *s) {
    if (s->closing) return;
    let_go(s);
    uv_close(&s->u.handle, on_closed);
}

void stream_reset(struct stream *s) {
    if (s->closing) return;
    if (s->u.handle.type == UV_TCP && uv_tcp_close_reset(&s->u.tcp, on_closed) == 0)
        let_go(s);
    else
        stream_close(s);
}

void stream_peer(const struct stream *s, char *text, size_t size) {
    struct sockaddr_storage sa;
    int n = sizeof(sa);
    if (s->u.handle.type == UV_TCP && uv_tcp_getpeername(&s->u.tcp, (struct sockaddr *)&sa, &n) == 0)
        io_sockaddr_text((struct sockaddr *)&sa, text, size);
    else
        snprintf(text, size, "unix");
}
