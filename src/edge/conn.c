/* SPDX-License-Identifier: Apache-2.0 */
/* A client's connection: cuts its input into requests, and times it. */
#include "edge/conn.h"
#include "base/assert.h"
#include "weir/weir.h"
#include <stdlib.h>

static struct conn *conn_of(struct stream *s) {
    struct conn *c = CONTAINER_OF(s, struct conn, stream);
    MAGIC_CHECK(c, CONN_MAGIC);
    return c;
}

void conn_wait(struct conn *c, enum conn_wait wait) {
    const struct edge_config *cfg = &c->edge->config;
    uint64_t us = 0;
    switch (wait) {
    case WAIT_IDLE:
        us = cfg->idle_timeout_us;
        break;
    case WAIT_HEAD:
        us = cfg->head_timeout_us;
        break;
    case WAIT_BODY:
    case WAIT_WRITE:
        us = cfg->body_timeout_us;
        break;
    case WAIT_NONE:
        break;
    }
    c->wait = wait;
    if (wait == WAIT_WRITE || wait == WAIT_IDLE) c->unsent = stream_unsent(&c->stream);
    if (us == 0)
        wheel_del(&c->edge->wheel, &c->timer);
    else
        wheel_add(&c->edge->wheel, &c->timer, (io_now_us(cfg->loop) + us) / 1000);
}

void conn_close(struct conn *c) {
    c->closing = true;
    if (c->ask) {
        ask_left(c->ask);
        ask_free(c->ask);
        c->ask = NULL;
    }
    conn_wait(c, WAIT_NONE);
    list_del(&c->ready);
    stream_close(&c->stream);
}

void conn_cut(struct conn *c) {
    if (c->ask && c->ask->until_close) stream_reset(&c->stream);
    conn_close(c);
}

/* Cuts requests out of data; returns how much of it was taken up. */
static size_t take_up(struct conn *c, struct slice data) {
    size_t used = 0;
    while (used < data.n && !c->closing) {
        struct slice rest = {data.p + used, data.n - used};
        if (!c->ask) {
            if (stream_pending(&c->stream) >= IO_WRITE_AHEAD) { /* pipelined, and does not read its answers */
                c->blocked = true;
                stream_read_stop(&c->stream);
                conn_wait(c, WAIT_WRITE);
                stream_dirty(&c->stream);
                break;
            }
            size_t skip = c->scanned == 0 ? http1_skip(rest) : 0;
            used += skip;
            rest.p += skip;
            rest.n -= skip;
            if (rest.n == 0) break;
            ptrdiff_t size = http1_scan(rest, &c->scanned, c->edge->config.max_head);
            if (size < 0) {
                reply_bare(c, (int)size, "the request's head is not valid HTTP/1.1, or over a limit");
                break;
            }
            if (size == 0) {
                if (c->wait != WAIT_HEAD) conn_wait(c, WAIT_HEAD);
                break;
            }
            c->scanned = 0;
            used += (size_t)size;
            conn_wait(c, WAIT_NONE);
            ask_begin(c, (struct slice){rest.p, (size_t)size});
        } else if (!c->ask->input_over) {
            ptrdiff_t n = ask_body(c->ask, rest);
            if (n <= 0) break;
            used += (size_t)n;
        } else {
            break; /* pipelined: waits until this response is complete */
        }
    }
    return used;
}

static void keep(struct conn *c, struct slice rest) {
    if (rest.n == 0 || c->closing) return;
    if (buffer_append(&c->in, rest.p, rest.n) != 0)
        conn_close(c);
    else if (c->ask && buffer_size(&c->in) > c->edge->config.max_head)
        stream_read_stop(&c->stream);
}

void conn_resume(struct conn *c) {
    if (c->closing || c->blocked) return; /* on_drained resumes it */
    size_t used = take_up(c, buffer_slice(&c->in));
    buffer_consume(&c->in, used);
    if (c->closing || c->blocked || (c->ask && (buffer_size(&c->in) > 0 || ask_full(c->ask)))) return;
    stream_read_start(&c->stream);
}

void conn_resume_soon(struct conn *c) {
    if (list_empty(&c->ready)) list_push_back(&c->edge->ready, &c->ready);
    stream_dirty(&c->stream);
}

static void on_data(struct stream *s, const char *bytes, size_t n) {
    struct conn *c = conn_of(s);
    c->edge->stats.bytes_in += n;
    if (c->closing) return;
    if (buffer_size(&c->in) > 0) {
        keep(c, (struct slice){bytes, n});
        if (!c->closing && (!c->ask || !c->ask->input_over)) conn_resume(c);
        return;
    }
    size_t used = take_up(c, (struct slice){bytes, n});
    keep(c, (struct slice){bytes + used, n - used});
}

static void on_eof(struct stream *s, int err) {
    struct conn *c = conn_of(s);
    const struct edge_config *cfg = &c->edge->config;
    struct ask *a = c->ask;
    if (err == 0 && a && a->input_over && cfg->half_close && cfg->half_close(cfg->ctx, a->service)) {
        a->keep_alive = false;
        c->half_closed = true;
        return;
    }
    if (a) c->edge->stats.clients_left++;
    conn_close(c);
}

static void on_drained(struct stream *s) {
    struct conn *c = conn_of(s);
    if (c->blocked && !c->closing) {
        c->blocked = false;
        conn_wait(c, WAIT_IDLE);
        conn_resume_soon(c);
    }
    if (!c->ask || !c->ask->body) return;
    conn_wait(c, WAIT_WRITE);
    stream_dirty(s);
}

static void on_before_write(struct stream *s) {
    struct conn *c = conn_of(s);
    if (c->ask && c->ask->body) reply_pump(c->ask);
}

static void on_closed(struct stream *s) {
    struct conn *c = conn_of(s);
    c->edge->stats.open--;
    wheel_del(&c->edge->wheel, &c->timer);
    list_del(&c->node);
    list_del(&c->ready);
    buffer_fini(&c->in);
    c->magic = 0;
    free(c);
}

static const struct stream_ops stream_ops = {.data = on_data,
                                             .eof = on_eof,
                                             .drained = on_drained,
                                             .before_write = on_before_write,
                                             .closed = on_closed};

struct conn *conn_new(struct edge *e, bool is_unix) {
    struct conn *c = calloc(1, sizeof(*c));
    if (!c) return NULL;
    if (stream_init(&c->stream, e->config.loop, is_unix, &stream_ops) != 0) {
        free(c);
        return NULL;
    }
    c->magic = CONN_MAGIC;
    c->edge = e;
    buffer_init(&c->in);
    list_init(&c->ready);
    wheel_timer_init(&c->timer);
    list_push_back(&e->conns, &c->node);
    e->stats.connections++;
    e->stats.open++;
    conn_wait(c, WAIT_IDLE);
    return c;
}

void conn_next(struct conn *c) {
    struct ask *a = c->ask;
    bool keep_on = a->keep_alive && a->input_over && !c->closing && !c->edge->draining;
    access_log(a);
    ask_free(a);
    c->ask = NULL;
    if (!keep_on) {
        c->closing = true;
        list_del(&c->ready);
        conn_wait(c, WAIT_WRITE); /* a client that does not read is closed in the end */
        stream_close_after_write(&c->stream);
        return;
    }
    conn_wait(c, WAIT_IDLE);
    if (buffer_size(&c->in) > 0)
        conn_resume_soon(c);
    else
        stream_read_start(&c->stream);
}
