/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A subscription as a stream of server-sent events (WHATWG HTML, 9.2): the id is the message's, data is its
 * body. What is no UTF-8 text, has a carriage return (which would not come out as it went in) or is a blob,
 * comes as an event "base64". At most WINDOW bytes and one message wait to be written. A message counts as
 * arrived when the client's TCP has acknowledged all of it.
 */
#include "base/base64.h"
#include "base/utf8.h"
#include "edge/topics_api.h"
#include "weir/weir.h"
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>

enum { WINDOW = 64 * 1024, BEAT_MS = 15000, PEER_GONE_MS = 60000, LINE = 3 * 1024 };

struct events {
    struct api_call call;
    struct topics_reader reader;
    struct topics_call resuming;
    struct ask *ask;
    struct body *to;
    struct body *from; /* of a blob that is being written */
    char rest[LINE];   /* of it: what does not fill a line yet */
    size_t rest_size;
    bool begun;
};

static struct events *events_of(const struct topics_reader *r) {
    return CONTAINER_OF((uintptr_t)r, struct events, reader);
}

/* Nothing more is to be done for the request, which goes on by itself. */
static void events_end(struct events *s) {
    topics_reader_leave(&s->reader);
    topics_call_leave(&s->resuming);
    body_leave(&s->from);
    s->ask->call = NULL;
    body_producer(s->to, (struct body_side){0});
    body_unref(s->to);
    free(s);
}

static void on_left(struct api_call *call) {
    events_end(CONTAINER_OF(call, struct events, call));
}

/* There is no way to go on: the client is to come back. */
static void events_cut(struct events *s) {
    struct body *to = body_ref(s->to);
    events_end(s);
    body_abort(to, WEIR_ENOMEM);
    body_unref(to);
}

/* ---- events ---- */

static void put_line(struct buffer *out, struct slice line) {
    (void)buffer_append_slice(out, SLICE("data: "));
    (void)buffer_append_slice(out, line);
    (void)buffer_append_slice(out, SLICE("\n"));
}

static void put_text(struct buffer *out, struct slice text) {
    for (const char *end; (end = text.n ? memchr(text.p, '\n', text.n) : NULL);) {
        struct slice line = {text.p, (size_t)(end - text.p)};
        put_line(out, line);
        text = (struct slice){end + 1, text.n - line.n - 1};
    }
    put_line(out, text);
}

static void put_encoded(struct buffer *out, struct slice bytes) {
    (void)buffer_append_slice(out, SLICE("data: "));
    char *at = buffer_reserve(out, base64_size(bytes.n));
    if (!at) return; /* out->starved tells */
    base64_encode(bytes, at);
    buffer_commit(out, base64_size(bytes.n));
    (void)buffer_append_slice(out, SLICE("\n"));
}

static bool is_text(struct slice s) {
    return !(s.n && memchr(s.p, '\r', s.n)) && utf8_valid(s);
}

/* All of an event but what a blob holds. */
static void put_event(struct buffer *out, const struct topics_message *m) {
    struct slice bytes = m->body.bytes;
    bool text = !m->body.blob && is_text(bytes);
    (void)buffer_printf(out, "id: %llu\n%s", (unsigned long long)m->id, text ? "" : "event: base64\n");
    if (m->body.blob) return;
    if (text)
        put_text(out, bytes);
    else
        put_encoded(out, bytes);
    (void)buffer_append_slice(out, SLICE("\n"));
}

/* Hands on what was gathered. False: out of memory, and nothing more may follow. */
static bool write_out(struct events *s, struct buffer *out) {
    bool ok = !out->starved && body_write(s->to, buffer_slice(out).p, buffer_size(out)) != WEIR_ENOMEM;
    buffer_fini(out);
    s->reader.written = body_passed(s->to);
    s->reader.room = body_room(s->to);
    return ok;
}

/* Goes on with a blob, as far as there is room. False: the stream has been cut. */
static bool write_blob(struct events *s) {
    bool over = false;
    while (!over && body_room(s->to) > 0) {
        s->rest_size += body_read(s->from, s->rest + s->rest_size, LINE - s->rest_size);
        over = body_finished(s->from);
        if (s->rest_size < LINE && !over) break;
        struct buffer out;
        buffer_init(&out);
        if (s->rest_size) put_encoded(&out, (struct slice){s->rest, s->rest_size});
        if (over) (void)buffer_append_slice(&out, SLICE("\n"));
        s->rest_size = 0;
        if (!write_out(s, &out)) {
            events_cut(s);
            return false;
        }
    }
    if (body_error(s->from)) { /* it may have been dropped meanwhile */
        events_cut(s);
        return false;
    }
    if (over) {
        body_leave(&s->from);
        s->reader.busy = false;
    }
    return true;
}

static void on_blob(void *ctx, size_t n) {
    (void)n;
    struct events *s = ctx;
    if (write_blob(s) && !s->from) topics_reader_ready(&s->reader);
}

/* The client has taken some. */
static void on_room(void *ctx, size_t n) {
    (void)n;
    struct events *s = ctx;
    if (body_abandoned(s->to)) return;
    s->reader.room = body_room(s->to);
    if (s->reader.room == 0) return;
    if (s->from && !write_blob(s)) return;
    if (!s->from) topics_reader_ready(&s->reader);
}

static bool on_give(struct topics_reader *r, const struct topics_message *m) {
    struct events *s = events_of(r);
    struct buffer out;
    buffer_init(&out);
    put_event(&out, m);
    bool ok = write_out(s, &out);
    if (ok && m->body.blob) {
        ok = topics_let_out(topics_of(s->ask), &m->body, &s->from) == 0;
        r->busy = ok;
        if (ok) body_consumer(s->from, (struct body_side){on_blob, s});
    }
    if (!ok) events_cut(s);
    return ok;
}

/* ---- the stream ---- */

static void on_begun(struct topics_reader *r) {
    struct events *s = events_of(r);
    struct ask *a = s->ask;
    struct head_field fields[] = {
        {.name = "content-type",
         .name_size = 12,
         .value = "text/event-stream",
         .value_size = 17,
         .id = HEAD_CONTENT_TYPE},
        {.name = "cache-control", .name_size = 13, .value = "no-store", .value_size = 8, .id = HEAD_OTHER}};
    struct http_head head = {
        .status = 200, .fields = fields, .count = 2, .seen = UINT64_C(1) << HEAD_CONTENT_TYPE};
    s->begun = true;
    stream_user_timeout(&a->conn->stream, PEER_GONE_MS);
    body_producer(s->to, (struct body_side){on_room, s});
    a->requester.ops->reply(&a->requester, &head, s->to);
}

static void on_over(struct topics_reader *r, int err) {
    struct events *s = events_of(r);
    struct ask *a = s->ask;
    struct body *to = body_ref(s->to);
    bool begun = s->begun, amid = s->from != NULL;
    events_end(s);
    if (!begun)
        topics_refuse(a, err != 0 ? err : WEIR_EDRAINING, "no such subscription");
    else if (amid)
        body_abort(to, WEIR_ECUT);
    else
        body_end(to);
    body_unref(to);
}

/* How many bytes of the events have reached the client's kernel, at least: what chunks add counts as missing.
 */
static uint64_t on_sent(const struct topics_reader *r) {
    const struct events *s = events_of(r);
    const struct stream *stream = &s->ask->conn->stream;
    uv_os_fd_t fd;
    int unacknowledged = 0;
    if (stream->broken || uv_fileno(&stream->u.handle, &fd) != 0 || ioctl(fd, SIOCOUTQ, &unacknowledged) != 0)
        return 0;
    uint64_t missing = body_queued(s->to) + stream_unsent(stream) + (uint64_t)unacknowledged;
    uint64_t passed = body_passed(s->to);
    return passed > missing ? passed - missing : 0;
}

static void on_beat(struct topics_reader *r) {
    struct events *s = events_of(r);
    if (body_queued(s->to) == 0 && !s->from) (void)body_write(s->to, ":\n\n", 3);
}

static const struct topics_reader_ops events_ops = {
    .give = on_give, .over = on_over, .begun = on_begun, .sent = on_sent, .beat = on_beat};

/* What had been given before is acknowledged, or was; then it goes on. */
static void on_resumed(struct topics_call *c, int err) {
    struct events *s = CONTAINER_OF(c, struct events, resuming);
    if (err == 0 || err == WEIR_ENOTFOUND)
        topics_read(topics_of(s->ask), &s->reader);
    else
        on_over(&s->reader, err);
}

void topics_stream(struct ask *a, const struct topics_get *get) {
    const struct edge_config *cfg = &a->conn->edge->config;
    struct events *s = calloc(1, sizeof *s);
    if (s) s->to = body_new(WINDOW, 0);
    if (!s || !s->to) {
        free(s);
        topics_refuse(a, WEIR_ENOMEM, NULL);
        return;
    }
    s->call.left = on_left;
    s->resuming.done = on_resumed;
    s->ask = a;
    a->call = &s->call;
    uint64_t beat_ms =
        cfg->body_timeout_us / 3000; /* no byte for body-timeout, and the connection is closed */
    s->reader.ops = &events_ops;
    s->reader.topic = get->topic;
    s->reader.name = get->name;
    s->reader.stream = true;
    s->reader.acknowledges = get->acknowledges;
    s->reader.lease_ms = get->lease_ms;
    s->reader.after = get->resumes ? get->after : 0;
    s->reader.room = WINDOW;
    s->reader.beat_ms = beat_ms > 0 && beat_ms < BEAT_MS ? beat_ms : BEAT_MS;
    if (get->resumes && get->after > 0)
        topics_acknowledge(topics_of(a), get->topic, get->name, get->after, true, &s->resuming);
    else
        topics_read(topics_of(a), &s->reader);
}
