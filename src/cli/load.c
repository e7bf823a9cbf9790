/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The load generator. A connection is DOWN (to be made again at `again`), CONNECTING, IDLE, BUSY (one request
 * is out) or CLOSING. The target is cut at its {n} once, so that sending is a few copies; answers that come
 * in one piece, which is nearly all, are parsed where they were read.
 */
#include "cli/load.h"

#include "base/clock.h"
#include "base/random.h"
#include "wire/http1.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <weir/weir.h>

enum {
    HEAD_MOST = 64 * 1024,
    ARENA_MOST = 256 * 1024,
    ROOM = 8 * 1024,
    TICK_MS = 20,
    AGAIN_NS = 100 * 1000 * 1000
};
#define NS_PER_MS 1000000ull

enum state { DOWN, CONNECTING, IDLE, BUSY, CLOSING };

struct conn {
    struct stream stream;
    struct load *load;
    struct list idle; /* in load.idle when IDLE and open loop */
    enum state state;
    bool in_body, keep;
    unsigned status;
    uint64_t number, due, deadline; /* of the request that is out; deadline also while connecting */
    uint64_t again;
    size_t scanned;
    struct http1_body framing;
    struct buffer in, body;
};

struct load {
    struct load_options o;
    struct io_loop loop;
    uv_timer_t timer;
    uv_poll_t due_poll;
    int due_fd;
    struct conn *conns;
    struct list idle;
    unsigned busy, open;  /* connections that are BUSY; that have a handle */
    struct slice *pieces; /* of the request's text, between the counters */
    size_t piece_count;
    char *text; /* that they lie in */
    uint64_t next_number;
    struct random random;
    uint64_t started_ns, end_ns; /* end_ns UINT64_MAX: none */
    double next_due_ns;          /* open loop; from started_ns on */
    uint64_t armed_ns;           /* what due_fd is set to */
    uint64_t alive_ns;           /* when the server last took a connection or answered; 0: never */
    bool over, ending;
    int err;
    volatile sig_atomic_t stopped;
    struct load_result result;
    _Alignas(max_align_t) char room[ROOM];
};

static void conn_open(struct conn *c);

/* ---- the end ---- */

static void end_all(struct load *l) {
    if (l->ending) return;
    l->ending = true;
    l->over = true;
    l->result.elapsed_ns = clock_mono_ns() - l->started_ns;
    for (unsigned i = 0; i < l->o.connections; i++) {
        struct conn *c = &l->conns[i];
        if (c->state != DOWN && c->state != CLOSING) {
            c->state = CLOSING;
            stream_close(&c->stream);
        }
    }
    uv_close((uv_handle_t *)&l->timer, NULL);
    if (l->due_poll.data) uv_close((uv_handle_t *)&l->due_poll, NULL);
}

/* Nothing more is to be sent: the run is over when what is out has come back. */
static bool exhausted(struct load *l, uint64_t now) {
    if (!l->over && ((l->o.requests && l->result.started >= l->o.requests) || now >= l->end_ns))
        l->over = true;
    return l->over;
}

/* ---- sending ---- */

static int append_number(struct buffer *out, uint64_t n) {
    char digits[20], *p = digits + sizeof digits;
    do *--p = (char)('0' + n % 10);
    while (n /= 10);
    return buffer_append(out, p, (size_t)(digits + sizeof digits - p));
}

static void send_request(struct conn *c, uint64_t due, uint64_t now) {
    struct load *l = c->load;
    struct buffer *out = stream_out(&c->stream);
    size_t before = buffer_size(out);
    int err = buffer_append_slice(out, l->pieces[0]);
    for (size_t i = 1; i < l->piece_count && !err; i++) {
        err = append_number(out, l->next_number);
        if (!err) err = buffer_append_slice(out, l->pieces[i]);
    }
    l->result.started++;
    l->result.bytes_out += buffer_size(out) - before;
    c->number = l->next_number;
    c->due = due;
    c->deadline = now + l->o.timeout_ms * NS_PER_MS;
    c->state = BUSY;
    l->busy++;
    l->next_number = l->o.last - l->next_number < l->o.step ? l->o.from : l->next_number + l->o.step;
    if (err) { /* half a request is in the buffer: only closing helps; the peer's answer will be missing */
        c->deadline = now;
        return;
    }
    stream_dirty(&c->stream);
}

/* ---- open loop ---- */

static double gap_ns(struct load *l) {
    double mean = 1e9 / l->o.rate;
    return l->o.poisson ? -log(1.0 - random_unit(&l->random)) * mean : mean;
}

static void arm(struct load *l, uint64_t when) {
    if (l->armed_ns == when) return;
    struct itimerspec at = {
        .it_value = {.tv_sec = (time_t)(when / 1000000000), .tv_nsec = (long)(when % 1000000000)}};
    timerfd_settime(l->due_fd, TFD_TIMER_ABSTIME, &at, NULL);
    l->armed_ns = when;
}

/* Sends what is due while connections are free, also when this comes late; sets the clock for the next. */
static void pump(struct load *l, uint64_t now) {
    while (!list_empty(&l->idle)) {
        uint64_t due = l->started_ns + (uint64_t)l->next_due_ns;
        if (exhausted(l, due < l->end_ns ? due : now)) return;
        if (due > now) {
            arm(l, due);
            return;
        }
        struct conn *c = CONTAINER_OF(list_pop_front(&l->idle), struct conn, idle);
        send_request(c, due, now);
        l->next_due_ns += gap_ns(l);
    }
}

static void maybe_end(struct load *l, uint64_t now) {
    if (l->o.rate > 0) pump(l, now);
    if (exhausted(l, now) && l->busy == 0) end_all(l);
}

/* The connection can take a request. */
static void conn_ready(struct conn *c, uint64_t now) {
    struct load *l = c->load;
    c->state = IDLE;
    if (l->o.rate <= 0 && !exhausted(l, now)) {
        send_request(c, now, now);
    } else if (l->o.rate > 0 && now < l->end_ns) { /* what finds none before the end is not sent */
        list_push_back(&l->idle, &c->idle);
        pump(l, now);
    }
    if (l->over) maybe_end(l, now);
}

static void on_due(uv_poll_t *poll, int status, int events) {
    struct load *l = poll->data;
    uint64_t times, now = clock_mono_ns();
    (void)status;
    (void)events;
    if (read(l->due_fd, &times, sizeof times) < 0) return; /* woken for nothing */
    pump(l, now);
    if (l->over) maybe_end(l, now);
}

/* Requests that were due before the end and found no connection. */
static void count_unsent(struct load *l) {
    if (l->o.rate <= 0 || l->end_ns == UINT64_MAX || l->stopped) return;
    double left = (double)(l->end_ns - l->started_ns) - l->next_due_ns;
    double unsent = left > 0 ? ceil(left * l->o.rate / 1e9 - 1e-6) : 0;
    if (l->o.requests && unsent > (double)(l->o.requests - l->result.started))
        unsent = (double)(l->o.requests - l->result.started);
    l->result.errors[LOAD_unsent] += (uint64_t)unsent;
}

/* ---- answers ---- */

static void drop(struct conn *c) {
    if (c->state == CLOSING) return;
    if (c->state == BUSY) c->load->busy--;
    c->state = CLOSING;
    list_del(&c->idle);
    stream_close(&c->stream);
}

static void fail(struct conn *c, enum load_error error) {
    if (c->state == BUSY) c->load->result.errors[error]++;
    drop(c);
    maybe_end(c->load, clock_mono_ns());
}

static void answered(struct conn *c, struct slice body) {
    struct load *l = c->load;
    uint64_t now = l->alive_ns = clock_mono_ns();
    l->result.answered++;
    l->result.status[c->status / 100 < 6 ? c->status / 100 : 0]++;
    histogram_add(&l->result.latency, now > c->due ? now - c->due : 0);
    if (l->o.answer) l->o.answer(l->o.ctx, c->number, c->status, body);
    buffer_consume(&c->body, buffer_size(&c->body));
    c->in_body = false;
    c->scanned = 0;
    if (c->keep) {
        l->busy--;
        conn_ready(c, now);
    } else {
        drop(c);
        maybe_end(l, now);
    }
}

/* Reads a head from d. Returns how many bytes it took, 0: not complete yet, or a WEIR_E*. */
static ptrdiff_t read_head(struct conn *c, struct slice d) {
    struct load *l = c->load;
    struct arena arena;
    struct http_head head;
    ptrdiff_t size = http1_scan(d, &c->scanned, HEAD_MOST);
    if (size <= 0) return size;
    arena_init(&arena, ARENA_MOST, l->room, sizeof l->room);
    int err = http1_response((struct slice){d.p, (size_t)size}, &arena, &head, NULL);
    if (!err && head.status == 101) err = WEIR_EMALFORMED; /* nobody asked for an upgrade */
    if (!err) {
        c->scanned = 0;
        if (head.status >= 200) {
            c->status = head.status;
            c->keep = head.keep_alive;
            c->in_body = true;
            http1_body_init(&c->framing, &head, slice_of(l->o.method));
            if (c->framing.framing == HTTP1_UNTIL_CLOSE) c->keep = false;
        }
    }
    arena_fini(&arena);
    return err ? err : size;
}

/* Keeps a piece of the body for the answer callback. Returns what of the body can be shown at its end. */
static struct slice keep_body(struct conn *c, struct slice piece) {
    size_t held = buffer_size(&c->body);
    if (!c->load->o.answer) return (struct slice){0};
    if (held == 0 && c->framing.done) {
        if (piece.n > LOAD_BODY_MOST) piece.n = LOAD_BODY_MOST;
        return piece;
    }
    size_t room = LOAD_BODY_MOST - held;
    buffer_append(&c->body, piece.p, piece.n < room ? piece.n : room); /* without memory it is cut */
    return buffer_slice(&c->body);
}

/* Takes bytes off d: a head, or a piece of body. Returns how many; 0: more are needed; or a WEIR_E*. */
static ptrdiff_t take_bytes(struct conn *c, struct slice d) {
    struct slice piece = {0};
    ptrdiff_t used = 0;
    if (!c->in_body) {
        used = read_head(c, d);
        if (used <= 0 || !c->in_body || !c->framing.done) return used;
    } else {
        used = http1_body_next(&c->framing, d, &piece);
        if (used < 0) return used;
    }
    struct slice body = piece.n || c->framing.done ? keep_body(c, piece) : piece;
    if (c->framing.done) answered(c, body);
    return used;
}

static void on_data(struct stream *s, const char *bytes, size_t n) {
    struct conn *c = CONTAINER_OF(s, struct conn, stream);
    bool held = buffer_size(&c->in) > 0;
    c->load->result.bytes_in += n;
    if (held && buffer_append(&c->in, bytes, n)) {
        fail(c, LOAD_closed);
        return;
    }
    struct slice d = held ? buffer_slice(&c->in) : (struct slice){bytes, n};
    size_t total = d.n;
    uint64_t before = c->load->result.answered;
    while (d.n > 0) {
        /* What comes without a request is an answer to none: no answer after it could be trusted. */
        bool asked = c->state == BUSY && c->load->result.answered == before;
        ptrdiff_t used = asked ? take_bytes(c, d) : WEIR_EMALFORMED;
        if (c->state == CLOSING) return;
        if (used < 0) {
            fail(c, LOAD_malformed);
            return;
        }
        if (used == 0) break;
        d = (struct slice){d.p + used, d.n - (size_t)used};
    }
    if (held)
        buffer_consume(&c->in, total - d.n);
    else if (d.n > 0 && buffer_append_slice(&c->in, d))
        fail(c, LOAD_closed);
}

static void on_eof(struct stream *s, int err) {
    struct conn *c = CONTAINER_OF(s, struct conn, stream);
    if (!err && c->state == BUSY && c->in_body && http1_body_eof(&c->framing) == 0)
        answered(c, buffer_slice(&c->body));
    else
        fail(c, LOAD_closed);
}

/* ---- connections ---- */

static void on_closed(struct stream *s) {
    struct conn *c = CONTAINER_OF(s, struct conn, stream);
    struct load *l = c->load;
    buffer_reset(&c->in);
    buffer_reset(&c->body);
    c->in_body = false;
    c->scanned = 0;
    c->state = DOWN;
    l->open--;
    if (!l->over && c->again <= clock_mono_ns()) conn_open(c);
}

static const struct stream_ops conn_ops = {.data = on_data, .eof = on_eof, .closed = on_closed};

static void connect_failed(struct conn *c) {
    struct load *l = c->load;
    uint64_t now = clock_mono_ns();
    l->result.connects_failed++;
    c->again = now + AGAIN_NS;
    drop(c);
    /* Never yet, and each has tried; or not any more, for long. */
    bool never = l->alive_ns == 0 && l->result.connects_failed >= l->o.connections;
    bool no_more = l->alive_ns && now - l->alive_ns > l->o.timeout_ms * NS_PER_MS;
    if (never || no_more) {
        l->err = WEIR_ECONNECT;
        end_all(l);
    }
}

static void on_connected(struct stream *s, int err) {
    struct conn *c = CONTAINER_OF(s, struct conn, stream);
    if (err) {
        connect_failed(c);
        return;
    }
    c->load->alive_ns = clock_mono_ns();
    stream_read_start(s);
    conn_ready(c, c->load->alive_ns);
}

static void conn_open(struct conn *c) {
    struct load *l = c->load;
    c->again = clock_mono_ns() + AGAIN_NS;
    if (stream_init(&c->stream, &l->loop, l->o.to.is_unix, &conn_ops)) return;
    l->open++;
    c->state = CONNECTING;
    c->deadline = clock_mono_ns() + l->o.timeout_ms * NS_PER_MS;
    if (stream_connect(&c->stream, &l->o.to, on_connected))
        connect_failed(c);
    else
        c->again = 0;
}

static void on_timer(uv_timer_t *timer) {
    struct load *l = timer->data;
    uint64_t now = clock_mono_ns();
    for (unsigned i = 0; i < l->o.connections && !l->ending; i++) {
        struct conn *c = &l->conns[i];
        if (c->state == DOWN && !l->over && c->again <= now)
            conn_open(c);
        else if (c->state == BUSY && c->deadline <= now)
            fail(c, LOAD_timeout);
        else if (c->state == CONNECTING && c->deadline <= now)
            connect_failed(c);
    }
    if (l->ending) return;
    if (l->o.tick) l->o.tick(l->o.ctx, l);
    maybe_end(l, now);
}

static void on_woken(void *ctx) {
    struct load *l = ctx;
    if (l->stopped) end_all(l);
}

/* ---- making one ---- */

/* Writes the request's text and cuts it at each {n} of the target. */
static int make_pieces(struct load *l) {
    const struct load_options *o = &l->o;
    struct buffer b;
    buffer_init(&b);
    int err = buffer_printf(&b, "%s %s", o->method, o->target);
    size_t target_end = buffer_size(&b), count = 1;
    if (!err) err = buffer_printf(&b, " HTTP/1.1\r\nHost: %s\r\n%s", o->host, o->headers ? o->headers : "");
    if (!err && o->has_body) err = buffer_printf(&b, "Content-Length: %zu\r\n", o->body.n);
    if (!err) err = buffer_append(&b, "\r\n", 2);
    if (!err && o->has_body) err = buffer_append_slice(&b, o->body);
    for (const char *p = o->target; (p = strstr(p, "{n}")); p += 3) count++;
    l->text = err ? NULL : malloc(buffer_size(&b));
    l->pieces = calloc(count, sizeof *l->pieces);
    if (l->text && l->pieces) {
        memcpy(l->text, buffer_slice(&b).p, buffer_size(&b));
        char *at = l->text, *end = at + buffer_size(&b), *stop = l->text + target_end;
        for (char *p; (p = memmem(at, (size_t)(stop - at), "{n}", 3)); at = p + 3)
            l->pieces[l->piece_count++] = (struct slice){at, (size_t)(p - at)};
        l->pieces[l->piece_count++] = (struct slice){at, (size_t)(end - at)};
    }
    buffer_fini(&b);
    return l->text && l->pieces ? 0 : WEIR_ENOMEM;
}

static int make_due_clock(struct load *l) {
    uint64_t seed;
    if (l->o.rate <= 0) return 0;
    if (random_entropy(&seed)) return WEIR_EIO;
    random_seed(&l->random, seed);
    l->due_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (l->due_fd < 0 || uv_poll_init(&l->loop.uv, &l->due_poll, l->due_fd)) return WEIR_EIO;
    l->due_poll.data = l;
    return 0;
}

int load_new(const struct load_options *options, struct load **ret) {
    struct load *l = calloc(1, sizeof *l);
    if (!l) return WEIR_ENOMEM;
    l->o = *options;
    l->due_fd = -1;
    l->next_number = options->from;
    list_init(&l->idle);
    histogram_init(&l->result.latency);
    int err = io_loop_init(&l->loop);
    if (err) {
        free(l);
        return err;
    }
    l->loop.ctx = l;
    l->loop.woken = on_woken;
    uv_timer_init(&l->loop.uv, &l->timer);
    l->timer.data = l;
    l->conns = calloc(options->connections, sizeof *l->conns);
    if (!l->conns) l->o.connections = 0;
    err = l->conns ? make_pieces(l) : WEIR_ENOMEM;
    if (!err) err = make_due_clock(l);
    if (err) {
        load_free(&l);
        return err;
    }
    *ret = l;
    return 0;
}

int load_run(struct load *l) {
    uv_timer_start(&l->timer, on_timer, TICK_MS, TICK_MS);
    if (l->due_poll.data) uv_poll_start(&l->due_poll, UV_READABLE, on_due);
    l->started_ns = clock_mono_ns();
    l->end_ns = l->o.duration_ms ? l->started_ns + l->o.duration_ms * NS_PER_MS : UINT64_MAX;
    for (unsigned i = 0; i < l->o.connections && !l->ending; i++) {
        struct conn *c = &l->conns[i];
        c->load = l;
        list_init(&c->idle);
        buffer_init(&c->in);
        buffer_init(&c->body);
        conn_open(c);
    }
    if (l->stopped) end_all(l);
    io_loop_run(&l->loop);
    count_unsent(l);
    return l->err;
}

void load_stop(struct load *l) {
    l->stopped = 1;
    io_loop_wake(&l->loop);
}

const struct load_result *load_result(struct load *l) {
    if (!l->ending) l->result.elapsed_ns = clock_mono_ns() - l->started_ns;
    return &l->result;
}

uint64_t load_errors(const struct load_result *r) {
    uint64_t sum = 0;
    for (int i = 0; i < LOAD_ERROR_COUNT; i++) sum += r->errors[i];
    return sum;
}

void load_free(struct load **load) {
    struct load *l = *load;
    if (!l) return;
    *load = NULL;
    end_all(l);
    io_loop_fini(&l->loop);
    if (l->due_fd >= 0) close(l->due_fd);
    free(l->conns);
    free(l->pieces);
    free(l->text);
    free(l);
}
