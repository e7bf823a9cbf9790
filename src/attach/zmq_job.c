/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs at ZeroMQ workers: what goes out as JOB, HEAD, BODY and END, and what comes back. A job that nobody
 * waits for any more stays until its worker has ended it; what comes for it is dropped.
 */
#include "attach/zmq_job.h"
#include "attach/exchange.h"
#include "base/assert.h"
#include "weir/weir.h"
#include "wire/http1.h"
#include <stdlib.h>

enum {
    ZJOB_ROOM = 640,            /* of an answer's head inside its job */
    ZJOB_MORE = W1_BODY_MAX / 4 /* bytes consumed before credit is given for them */
};

struct zjob {
    struct list node, sending;
    struct zpeer *peer;
    struct exchange exchange;
    struct http_head head;
    struct arena arena;
    uint64_t left;   /* of Content-Length */
    uint64_t credit; /* bytes of the answer that the worker may send */
    uint64_t owed;   /* of these, consumed and not granted again */
    uint64_t may;    /* bytes of the request that may be sent */
    struct slice id;
    bool head_done, sent, dropped, counted_length;
    char text[JOB_TEXTS][SLICE_U64], length_text[SLICE_U64];
    char room[ZJOB_ROOM];
};

/* ---- life ---- */

static struct zjob *zjob_new(struct zpeer *p, const struct core_action *send) {
    struct zjob *j = malloc(sizeof(*j));
    if (!j) return NULL;
    memset(j, 0, offsetof(struct zjob, room));
    const struct attach_config *c = &p->zworkers->attach->config;
    arena_init(&j->arena, c->max_head * 2, j->room, sizeof(j->room));
    exchange_begin(&j->exchange, &p->zworkers->attach->exchange, send);
    j->peer = p;
    j->credit = j->may = W1_BODY_MAX;
    list_init(&j->sending);
    list_push_back(&p->jobs, &j->node);
    p->running++;
    return j;
}

static void stop_sending(struct zjob *j) {
    if (j->exchange.message->body) body_consumer(j->exchange.message->body, (struct body_side){0});
    list_del(&j->sending);
    list_init(&j->sending);
    j->sent = true;
}

static void zjob_free(struct zjob *j) {
    stop_sending(j);
    list_del(&j->node);
    exchange_fini(&j->exchange);
    arena_fini(&j->arena);
    free(j);
}

/* The worker's side has ended: frees the slot, for which the worker must give new credit. */
static void zjob_end(struct zjob *j) {
    struct zpeer *p = j->peer;
    struct core *core = j->exchange.config->core;
    uint64_t id = j->exchange.job;
    zjob_free(j);
    p->running--;
    zpeer_count_slots(p);
    core_slot_free(core, zpeer_now(p), p->worker, id);
}

/* Frees the slot of a job that the worker has lost, or (given_back) has not begun. Without a word of the
   worker's nobody can know that it has not begun: then the retry rule decides. */
static void zjob_lose(struct zjob *j, bool given_back) {
    struct zpeer *p = j->peer;
    p->running--;
    if (!p->lost) zpeer_count_slots(p);
    if (given_back)
        exchange_handed_back(&j->exchange, zpeer_now(p));
    else
        exchange_lost(&j->exchange, zpeer_now(p));
    zjob_free(j);
}

/* Nobody wants what the worker still sends for it. */
static void drop(struct zjob *j, const char *why) {
    struct slice more[] = {j->id, slice_of(why)};
    j->dropped = true;
    stop_sending(j);
    (void)zpeer_say(j->peer, W1_CANCEL, more, 2);
}

/* Its answer makes no sense. ended: no more of it comes. */
static const char *spoil(struct zjob *j, const char *why, bool ended) {
    struct attach *a = j->peer->zworkers->attach;
    a->stats.bad_answers++;
    log_event(a->config.log, LOG_WARN, "bad-answer", "worker %s: %s", j->peer->name, why);
    exchange_fail(&j->exchange, zpeer_now(j->peer), WEIR_EBADANSWER);
    if (ended)
        zjob_end(j);
    else
        drop(j, why);
    return NULL;
}

/* ---- the request goes out ---- */

static void on_request_body(void *ctx, size_t n) {
    (void)n;
    struct zjob *j = ctx;
    if (list_empty(&j->sending)) list_push_back(&j->peer->zworkers->sending, &j->sending);
}

/* length: of a body that the client sent without one; NULL: it has one, or it is not known. */
static int write_head(struct zjob *j, const struct core_action *job, const size_t *length,
                      struct buffer *out) {
    struct slice value = slice_from_u64(j->length_text, length ? *length : 0);
    int err = job_write(job, zpeer_now(j->peer), j->text,
                        length ? SLICE("content-length") : (struct slice){0}, value, out);
    j->id = slice_from_hex(j->text[0], job->job);
    return err;
}

static int send_whole(struct zjob *j, const struct core_action *job) {
    struct buffer *out = &j->peer->zworkers->scratch;
    struct body *body = j->exchange.message->body;
    size_t n = body ? body_queued(body) : 0;
    int err = write_head(j, job, body && !j->exchange.message->head.has_length ? &n : NULL, out);
    size_t head = buffer_size(out);
    char *room = err == 0 && n ? buffer_reserve(out, n) : NULL;
    if (n && !room) return WEIR_ENOMEM;
    if (n) buffer_commit(out, body_read(body, room, n));
    struct slice all = buffer_slice(out), more[] = {j->id, {all.p, head}, {all.p + head, n}};
    j->sent = true;
    return err == 0 ? zpeer_say(j->peer, W1_JOB, more, 3) : err;
}

static int send_streamed(struct zjob *j, const struct core_action *job) {
    struct buffer *out = &j->peer->zworkers->scratch;
    int err = write_head(j, job, NULL, out);
    if (err != 0) return err;
    struct slice more[] = {j->id, buffer_slice(out)};
    body_consumer(j->exchange.message->body, (struct body_side){on_request_body, j});
    on_request_body(j, 0);
    return zpeer_say(j->peer, W1_HEAD, more, 2);
}

static void send_job(struct worker_port *port, const struct core_action *job) {
    struct zpeer *p = CONTAINER_OF(port, struct zpeer, port);
    MAGIC_CHECK(p, ZPEER_MAGIC);
    struct core *core = p->zworkers->attach->config.core;
    struct zjob *j = p->credit > 0 && !p->lost ? zjob_new(p, job) : NULL;
    if (!j) {
        core_job_handed_back(core, zpeer_now(p), job->worker, job->job);
        return;
    }
    p->credit--;
    struct body *body = j->exchange.message->body;
    if (body && job->resend) body_rewind(body);
    bool whole = !body || (body_ended(body) && body_queued(body) <= W1_BODY_MAX);
    int err = whole ? send_whole(j, job) : send_streamed(j, job);
    buffer_consume(&p->zworkers->scratch, buffer_size(&p->zworkers->scratch));
    if (err == 0) return;
    p->credit++;
    zjob_lose(j, true);
}

/* Returns false when the worker's queue is full. */
static bool send_body(struct zjob *j) {
    struct body *body = j->exchange.message->body;
    if (body_error(body)) { /* its producer is gone; the worker must not wait for the rest */
        exchange_fail(&j->exchange, zpeer_now(j->peer), WEIR_EWORKERGONE);
        drop(j, "the body of its request broke off");
        return true;
    }
    struct slice bytes;
    while (j->may > 0 && (bytes = body_peek(body)).n > 0) {
        if (bytes.n > j->may) bytes.n = (size_t)j->may;
        if (bytes.n > W1_BODY_MAX) bytes.n = W1_BODY_MAX;
        struct slice more[] = {j->id, bytes};
        if (zpeer_say(j->peer, W1_BODY, more, 2) != 0) return false;
        j->may -= bytes.n;
        body_consume(body, bytes.n);
    }
    if (!body_finished(body)) return true;
    stop_sending(j);
    (void)zpeer_say(j->peer, W1_END, &j->id, 1);
    return true;
}

void zjobs_turn(struct zworkers *z) {
    struct list *node;
    while ((node = list_pop_front(&z->sending)) != NULL) {
        list_init(node);
        (void)send_body(CONTAINER_OF(node, struct zjob, sending));
    }
}

void zjobs_retry_bodies(struct zworkers *z) {
    LIST_FOR (at, &z->peers) {
        struct zpeer *p = CONTAINER_OF(at, struct zpeer, node);
        LIST_FOR (node, &p->jobs) {
            struct zjob *j = CONTAINER_OF(node, struct zjob, node);
            if (!j->sent && j->may > 0) on_request_body(j, 0);
        }
    }
}

static struct zjob *find_job(struct zpeer *p, uint64_t id) {
    LIST_FOR (node, &p->jobs) {
        struct zjob *j = CONTAINER_OF(node, struct zjob, node);
        if (j->exchange.job == id) return j;
    }
    return NULL;
}

static void cancel_job(struct worker_port *port, uint64_t job, enum core_cause cause) {
    struct zpeer *p = CONTAINER_OF(port, struct zpeer, port);
    MAGIC_CHECK(p, ZPEER_MAGIC);
    struct zjob *j = find_job(p, job);
    if (!j || j->dropped) return;
    exchange_cancelled(&j->exchange);
    drop(j, core_cause_text(cause));
}

const struct worker_port_ops zjob_port_ops = {.send = send_job, .cancel = cancel_job};

/* ---- the answer comes in ---- */

static void give_credit(struct zjob *j, uint64_t n) {
    char text[SLICE_U64];
    struct slice more[] = {j->id, slice_from_u64(text, n)};
    j->credit += n;
    (void)zpeer_say(j->peer, W1_MORE, more, 2);
}

static void on_reply_consumed(void *ctx, size_t n) {
    struct zjob *j = ctx;
    j->owed += n;
    if (j->dropped || j->owed < ZJOB_MORE) return;
    give_credit(j, j->owed);
    j->owed = 0;
}

/* The text may lack the empty line at its end. */
static int parse_head(struct zjob *j, struct slice text, const char **ret_why) {
    struct zworkers *z = j->peer->zworkers;
    size_t scanned = 0, max = z->attach->config.max_head;
    bool whole = text.n >= 4 && memcmp(text.p + text.n - 4, "\r\n\r\n", 4) == 0;
    bool line = text.n >= 2 && memcmp(text.p + text.n - 2, "\r\n", 2) == 0;
    int err = 0;
    if (!whole) {
        err = buffer_append_slice(&z->scratch, text);
        if (err == 0) err = buffer_append(&z->scratch, "\r\n\r\n", line ? 2 : 4);
        text = buffer_slice(&z->scratch);
    }
    if (err == 0 && http1_scan(text, &scanned, max) != (ptrdiff_t)text.n) {
        *ret_why = "its head is not one HTTP response head within max-head";
        err = WEIR_EBADANSWER;
    }
    if (err == 0) err = http1_response(text, &j->arena, &j->head, ret_why);
    buffer_consume(&z->scratch, buffer_size(&z->scratch));
    return err;
}

/* body: that came with the head; p NULL: it will be streamed. Returns 0 or a WEIR_E*. */
static int answer_head(struct zjob *j, struct slice text, struct slice body, const char **ret_why) {
    const struct attach_config *c = &j->peer->zworkers->attach->config;
    int err = parse_head(j, text, ret_why);
    if (err != 0) return err;
    if (j->head.status < 200 && body.p) {
        *ret_why = "an interim status";
        return WEIR_EBADANSWER;
    }
    if (j->head.status < 200) { /* more heads follow */
        exchange_interim(&j->exchange, zpeer_now(j->peer), &j->head);
        arena_fini(&j->arena);
        arena_init(&j->arena, c->max_head * 2, j->room, sizeof(j->room));
        j->head = (struct http_head){0};
        return 0;
    }
    j->head_done = true;
    unsigned status = j->head.status;
    bool bodyless = exchange_bodyless(&j->exchange, status);
    if (body.p && !j->head.has_length && status != 204 && status != 304) {
        j->head.has_length = true;
        j->head.content_length = body.n;
        struct slice length = slice_from_u64(j->length_text, body.n);
        if ((err = head_add(&j->head, &j->arena, HEAD_CONTENT_LENGTH, length)) != 0) return err;
    }
    j->counted_length = j->head.has_length && !bodyless;
    j->left = j->head.content_length;
    if (body.p && j->counted_length && j->left != body.n) {
        *ret_why = "its body is not as long as its Content-Length";
        return WEIR_EBADANSWER;
    }
    struct body_side producer = {on_reply_consumed, j};
    bool ended = body.p && body.n == 0;
    return exchange_head(&j->exchange, zpeer_now(j->peer), &j->head, ended, c->body_window, producer,
                         ret_why);
}

static bool too_long(struct zjob *j, size_t n) {
    if (!j->counted_length) return false;
    if (n > j->left) return true;
    j->left -= n;
    return false;
}

static const char *heard_reply(struct zjob *j, const struct w1 *m) {
    const char *why = "out of memory";
    if (j->head_done) return spoil(j, "a second answer", true);
    struct slice body = {m->bytes.n ? m->bytes.p : "", m->bytes.n};
    if (answer_head(j, m->head, body, &why) != 0) return spoil(j, why, true);
    if (body.n) (void)exchange_data(&j->exchange, zpeer_now(j->peer), body.p, body.n);
    exchange_end(&j->exchange, zpeer_now(j->peer));
    zjob_end(j);
    return NULL;
}

static const char *heard_head(struct zjob *j, const struct w1 *m) {
    const char *why = "out of memory";
    size_t window = j->peer->zworkers->attach->config.body_window;
    if (j->head_done) return spoil(j, "a second answer", false);
    if (answer_head(j, m->head, (struct slice){0}, &why) != 0) return spoil(j, why, false);
    if (!j->head_done) return NULL;
    if (window > W1_BODY_MAX && j->exchange.body) give_credit(j, window - W1_BODY_MAX);
    return NULL;
}

static const char *heard_body(struct zjob *j, const struct w1 *m) {
    if (!j->head_done) return spoil(j, "BODY before HEAD", false);
    if (m->bytes.n > j->credit) return spoil(j, "more body than its credit", false);
    j->credit -= m->bytes.n;
    if (too_long(j, m->bytes.n)) return spoil(j, "its body is longer than its Content-Length", false);
    if (!m->bytes.n || exchange_data(&j->exchange, zpeer_now(j->peer), m->bytes.p, m->bytes.n)) return NULL;
    on_reply_consumed(j, m->bytes.n); /* nobody wants it */
    return NULL;
}

static const char *heard_end(struct zjob *j) {
    if (!j->head_done) return spoil(j, "END before HEAD", true);
    if (j->counted_length && j->left > 0)
        return spoil(j, "its body is shorter than its Content-Length", true);
    exchange_end(&j->exchange, zpeer_now(j->peer));
    zjob_end(j);
    return NULL;
}

static const char *heard_fail(struct zjob *j, const struct w1 *m) {
    struct zpeer *p = j->peer;
    struct attach *a = p->zworkers->attach;
    log_event(a->config.log, LOG_WARN, "job-failed", "worker %s, job %.*s: %.*s", p->name, SLICE_ARG(j->id),
              SLICE_ARG(m->text));
    if (m->number) {
        zjob_lose(j, true);
        return NULL;
    }
    exchange_fail(&j->exchange, zpeer_now(p), WEIR_EFAILED);
    zjob_end(j);
    return NULL;
}

/* What comes for a job that nobody waits for: its end alone matters. */
static const char *heard_dropped(struct zjob *j, const struct w1 *m) {
    if (m->kind == W1_REPLY || m->kind == W1_END || m->kind == W1_FAIL) zjob_end(j);
    return NULL;
}

const char *zjob_heard(struct zpeer *p, const struct w1 *m) {
    struct zjob *j = find_job(p, m->job);
    if (!j) return "this worker has no such job";
    if (j->dropped) return heard_dropped(j, m);
    switch (m->kind) {
    case W1_ACK:
        core_job_started(j->exchange.config->core, zpeer_now(p), p->worker, j->exchange.job);
        return NULL;
    case W1_MORE:
        j->may += m->number;
        if (!j->sent) on_request_body(j, 0);
        return NULL;
    case W1_REPLY:
        return heard_reply(j, m);
    case W1_HEAD:
        return heard_head(j, m);
    case W1_BODY:
        return heard_body(j, m);
    case W1_END:
        return heard_end(j);
    default:
        return heard_fail(j, m);
    }
}

void zjobs_lose(struct zpeer *p) {
    LIST_FOR (node, &p->jobs) zjob_lose(CONTAINER_OF(node, struct zjob, node), false);
}
