/* SPDX-License-Identifier: Apache-2.0 */
/* A response goes out: a worker's reply as it streams, or an answer that the hub makes itself. */
#include "base/clock.h"
#include "edge/conn.h"
#include "weir/weir.h"
#include "wire/problem.h"
#include <stdlib.h>
#include <time.h>

enum { WRITE_AHEAD = 256 * 1024 }; /* output of a reply gathered before the client has taken the last */

static void note_status(struct ask *a, unsigned status) {
    struct edge_stats *s = &a->conn->edge->stats;
    a->status = status;
    a->replied = true;
    switch (status / 100) {
    case 2:
        s->responses_2xx++;
        break;
    case 3:
        s->responses_3xx++;
        break;
    case 4:
        s->responses_4xx++;
        break;
    default:
        s->responses_5xx++;
        break;
    }
}

static struct slice date_now(struct edge *e) {
    uint64_t s = clock_unix_ms() / 1000;
    if (s != e->date_s) {
        time_t t = (time_t)s;
        struct tm tm;
        gmtime_r(&t, &tm);
        strftime(e->date, sizeof(e->date), "%a, %d %b %Y %H:%M:%S GMT", &tm); /* RFC 9110 5.6.7 */
        e->date_s = s;
    }
    return slice_of(e->date);
}

static void put(struct buffer *out, struct slice s) {
    (void)buffer_append_slice(out, s); /* out of memory: the stream sees the gap, and ends the connection */
}

static void put_field(struct buffer *out, struct slice name, struct slice value) {
    char *at = buffer_reserve(out, name.n + value.n + 4);
    if (!at) return;
    memcpy(at, name.p, name.n);
    memcpy(at + name.n, ": ", 2);
    memcpy(at + name.n + 2, value.p, value.n);
    memcpy(at + name.n + 2 + value.n, "\r\n", 2);
    buffer_commit(out, name.n + value.n + 4);
}

static void put_number(struct buffer *out, struct slice name, uint64_t value) {
    char text[SLICE_U64];
    put_field(out, name, slice_from_u64(text, value));
}

static void put_status_line(struct ask *a, struct buffer *out, unsigned status) {
    char text[SLICE_U64];
    put(out, a->http10 ? SLICE("HTTP/1.0 ") : SLICE("HTTP/1.1 "));
    put(out, slice_from_u64(text, status));
    put(out, SLICE(" "));
    put(out, slice_of(status_text(status)));
    put(out, SLICE("\r\n"));
}

/* The Origin of the request, if the configuration allows it. */
static struct slice allowed_origin(const struct ask *a) {
    const char *allowed = a->conn->edge->config.cors_origin;
    struct slice origin = a->message ? head_get(&a->message->head, HEAD_ORIGIN) : (struct slice){0};
    if (!allowed || !origin.p) return (struct slice){0};
    if (strcmp(allowed, "*") == 0) return SLICE("*");
    struct slice rest = slice_of(allowed);
    while (rest.p)
        if (slice_eq(slice_next(&rest, ','), origin)) return origin;
    return (struct slice){0};
}

/* What the hub adds to every response, and the blank line. */
static void finish_head(struct ask *a, struct buffer *out, const struct http_head *from_worker) {
    struct edge *e = a->conn->edge;
    if (!from_worker || !head_has(from_worker, HEAD_DATE)) put_field(out, SLICE("date"), date_now(e));
    if (e->config.server_name && (!from_worker || !head_has(from_worker, HEAD_SERVER)))
        put_field(out, SLICE("server"), slice_of(e->config.server_name));
    if (a->request_id.p && (!from_worker || !head_has(from_worker, HEAD_X_REQUEST_ID)))
        put_field(out, SLICE("x-request-id"), a->request_id);
    if (e->config.cors_origin) {
        struct slice origin = allowed_origin(a);
        bool own = from_worker && head_get_name(from_worker, SLICE("access-control-allow-origin")).p;
        if (origin.p && !own) put_field(out, SLICE("access-control-allow-origin"), origin);
        if (strcmp(e->config.cors_origin, "*") != 0) put_field(out, SLICE("vary"), SLICE("origin"));
    }
    if (e->draining) a->keep_alive = false;
    if (!a->keep_alive)
        put_field(out, SLICE("connection"), SLICE("close"));
    else if (a->http10)
        put_field(out, SLICE("connection"), SLICE("keep-alive"));
    put(out, SLICE("\r\n"));
}

/* ---- the hub's own answers ---- */

static void own_head(struct ask *a, unsigned status, const char *content_type, size_t size) {
    struct buffer *out = stream_out(&a->conn->stream);
    note_status(a, status);
    put_status_line(a, out, status);
    if (content_type) put_field(out, SLICE("content-type"), slice_of(content_type));
    if (status != 204) put_number(out, SLICE("content-length"), size);
}

/* After the head: the body, and the end of the response. */
static void own_body(struct ask *a, struct slice body) {
    struct conn *c = a->conn;
    struct buffer *out = stream_out(&c->stream);
    if (!a->input_over) a->keep_alive = false;
    finish_head(a, out, NULL);
    if (!a->head_method) {
        put(out, body);
        a->bytes_out += body.n;
    }
    stream_dirty(&c->stream);
    conn_next(c);
}

void reply_own(struct ask *a, unsigned status, const char *content_type, const struct reply_field *fields,
               size_t count, struct slice body) {
    own_head(a, status, content_type, body.n);
    for (size_t i = 0; i < count; i++)
        put_field(stream_out(&a->conn->stream), fields[i].name, fields[i].value);
    own_body(a, body);
}

void reply_page(struct ask *a, unsigned status, const char *content_type, struct slice body) {
    reply_own(a, status, content_type, NULL, 0, body);
}

/* A problem of the request's, which gets an id if it has none. */
static void own_problem(struct ask *a, struct problem *p, const struct reply_field *fields, size_t count) {
    char made[33];
    struct buffer body;
    if (!a->request_id.p && a->message) {
        request_id_make(a->conn->edge, made);
        struct slice kept = arena_copy(&a->message->arena, (struct slice){made, 32});
        if (kept.p) a->request_id = kept;
    }
    p->request_id = a->request_id;
    buffer_init(&body);
    if (problem_write(&body, p) != 0) a->keep_alive = false;
    reply_own(a, p->status, "application/problem+json", fields, count, buffer_slice(&body));
    buffer_fini(&body);
}

void reply_not_allowed(struct ask *a, struct slice allow) {
    struct problem p = {.status = 405, .detail = SLICE("this method is not served here; see Allow")};
    own_problem(a, &p, &(struct reply_field){SLICE("allow"), allow}, 1);
}

void reply_problem(struct ask *a, int error, unsigned status, const char *detail, unsigned retry_after_s,
                   bool close) {
    struct reply_field fields[2];
    size_t n = 0;
    char seconds[SLICE_U64];
    if (status == 0) status = error_status(error);
    if (status == 0) status = 500;
    struct problem p = {
        .status = status, .detail = slice_of(detail ? detail : error_text(error)), .service = a->service};
    if (retry_after_s)
        fields[n++] = (struct reply_field){SLICE("retry-after"), slice_from_u64(seconds, retry_after_s)};
    if (error == WEIR_ETOKEN) /* RFC 6750 3 */
        fields[n++] = (struct reply_field){SLICE("www-authenticate"), SLICE("Bearer")};
    if (close) a->keep_alive = false;
    own_problem(a, &p, fields, n);
}

void reply_options(struct ask *a) {
    own_head(a, 204, NULL, 0);
    put_field(stream_out(&a->conn->stream), SLICE("allow"),
              SLICE("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    own_body(a, (struct slice){0});
}

/* A CORS preflight (Fetch standard, 4.8). */
void reply_preflight(struct ask *a) {
    const struct edge_config *cfg = &a->conn->edge->config;
    struct buffer *out = stream_out(&a->conn->stream);
    own_head(a, 204, NULL, 0);
    if (allowed_origin(a).p) {
        put_field(out, SLICE("access-control-allow-methods"),
                  SLICE("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        struct slice asked = head_get(&a->message->head, HEAD_ACR_HEADERS);
        struct slice headers = cfg->cors_headers ? slice_of(cfg->cors_headers) : asked;
        if (headers.p) put_field(out, SLICE("access-control-allow-headers"), headers);
        put_number(out, SLICE("access-control-max-age"), cfg->cors_max_age_s);
    }
    own_body(a, (struct slice){0});
}

void reply_bare(struct conn *c, int error, const char *detail) {
    struct edge *e = c->edge;
    e->stats.requests++;
    if (error == WEIR_ESLOW)
        e->stats.slow_clients++;
    else
        e->stats.malformed++;
    struct ask *a = calloc(1, sizeof(*a));
    if (!a) {
        conn_close(c);
        return;
    }
    *a = (struct ask){.requester = {&ask_requester_ops}, .conn = c, .input_over = true};
    a->began_us = io_now_us(e->config.loop);
    a->message = message_new(1024);
    c->ask = a;
    reply_problem(a, error, 0, detail, 0, true);
}

/* ---- a worker's reply ---- */

static void on_taken(struct requester *r) {
    struct ask *a = CONTAINER_OF(r, struct ask, requester);
    if (!a->expect_100 || a->replied) return;
    a->expect_100 = false;
    a->conn->edge->stats.responses_1xx++;
    put(stream_out(&a->conn->stream), SLICE("HTTP/1.1 100 Continue\r\n\r\n"));
    stream_dirty(&a->conn->stream);
    if (!a->input_over) conn_wait(a->conn, WAIT_BODY);
}

static void on_body(void *ctx, size_t n) {
    (void)n;
    struct ask *a = ctx;
    stream_dirty(&a->conn->stream);
}

/* RFC 9112 6.3: how the response's body is framed towards this client. */
static bool choose_framing(struct ask *a, const struct http_head *head, const struct body *body) {
    bool none = a->head_method || head->status == 204 || head->status == 304;
    if (none || !body || head->has_length) return none;
    if (a->http10) {
        a->until_close = true;
        a->keep_alive = false;
    } else {
        a->chunked = true;
    }
    return false;
}

static void on_reply(struct requester *r, const struct http_head *head, struct body *body) {
    struct ask *a = CONTAINER_OF(r, struct ask, requester);
    struct conn *c = a->conn;
    struct buffer *out = stream_out(&c->stream);
    note_status(a, head->status);
    /* An answer of known length before the request's body was in is an early one: what is left of the request
       would stand before the next. (A reply without a length may be streaming along with the request.) */
    if (!a->input_over && (!body || head->has_length)) a->keep_alive = false;
    put_status_line(a, out, head->status);
    for (unsigned i = 0; i < head->count; i++)
        if (head->status != 204 || head->fields[i].id != HEAD_CONTENT_LENGTH) /* RFC 9110 8.6 */
            put_field(out, field_name(&head->fields[i]), field_value(&head->fields[i]));
    bool no_body = choose_framing(a, head, body);
    if (a->chunked) put_field(out, SLICE("transfer-encoding"), SLICE("chunked"));
    if (!no_body && !body && !head->has_length) put_field(out, SLICE("content-length"), SLICE("0"));
    finish_head(a, out, head);
    stream_dirty(&c->stream);
    if (no_body || !body) {
        if (!body) a->request = 0; /* whole with its head */
        conn_next(c);
        return;
    }
    a->body = body_ref(body);
    body_consumer(body, (struct body_side){on_body, a});
    conn_wait(c, WAIT_WRITE);
}

static void cut(struct ask *a) {
    struct conn *c = a->conn;
    c->edge->stats.cut++;
    conn_cut(c);
}

static void on_fail(struct requester *r, const struct failure *why) {
    struct ask *a = CONTAINER_OF(r, struct ask, requester);
    a->request = 0;
    if (a->replied)
        cut(a);
    else {
        if (why->service.n) a->service = why->service; /* the stage where it failed */
        reply_problem(a, why->error, why->status, why->detail, why->retry_after_s, !a->input_over);
    }
}

const struct requester_ops ask_requester_ops = {.taken = on_taken, .reply = on_reply, .fail = on_fail};

void reply_pump(struct ask *a) {
    struct conn *c = a->conn;
    struct buffer *out = stream_out(&c->stream);
    size_t moved = 0;
    for (;;) {
        struct slice bytes = body_peek(a->body);
        if (bytes.n == 0 || stream_pending(&c->stream) >= WRITE_AHEAD) break;
        int err = a->chunked ? http1_write_chunk(out, bytes) : buffer_append_slice(out, bytes);
        if (err != 0) {
            cut(a);
            return;
        }
        moved += bytes.n;
        body_consume(a->body, bytes.n);
    }
    a->bytes_out += moved;
    if (body_error(a->body) && body_queued(a->body) == 0) {
        cut(a);
    } else if (body_finished(a->body)) {
        a->request = 0;
        if (a->chunked) (void)http1_write_last_chunk(out);
        conn_next(c);
    } else if (moved > 0) {
        conn_wait(c, WAIT_WRITE);
    }
}
