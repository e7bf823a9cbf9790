/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reverse HTTP/2 (docs/protocol.md "Reverse HTTP", step 6; RFC 9113): the hub is the HTTP/2 client of a
 * worker that dialled in. A stream is a job, SETTINGS_MAX_CONCURRENT_STREAMS the slots, WINDOW_UPDATE
 * backpressure, RST_STREAM cancel, GOAWAY drain, PING the heartbeat.
 *
 * A cancelled job's slot: RST_STREAM closes a stream for HTTP/2, but the worker's handler may run on. So a
 * PING follows each RST_STREAM, and the slot is free with its ACK, which a worker withholds until the handler
 * has returned.
 *
 * Nothing here closes the link from within an nghttp2 callback: callbacks only take notes and call the core,
 * whose actions come later in the turn.
 */
#include "attach/h2.h"
#include "attach/exchange.h"
#include "attach/link.h"
#include "base/assert.h"
#include "core/port.h"
#include "weir/weir.h"
#include "wire/h2.h"
#include <stdlib.h>

enum {
    H2_MAGIC = 0x68322d2d,
    H2_WRITE_AHEAD = 256 * 1024, /* output gathered before the socket has taken the last */
    H2_NAMES_EVERY = 4096,       /* jobs; see build_fields */
    H2_RUN_ROOM = 640            /* of an answer's head inside its run */
};

struct h2 {
    unsigned magic;
    struct worker_port port;
    struct link *link;
    nghttp2_session *session;
    struct list runs;     /* streams that are open */
    struct list unpinged; /* cancelled, their RST_STREAM may not have been sent yet */
    struct list pinged;   /* cancelled, waiting for the ACK of a PING; oldest first */
    uint64_t ping_serial, jobs_sent;
    uint32_t open, slots; /* streams; as told to the core */
    unsigned pings_missed;
    bool going_away;
};

/* One job at this worker. */
struct run {
    struct list node;
    struct h2 *h2;
    struct exchange exchange;
    struct http_head head;
    struct arena arena;
    const char *why;   /* what was wrong with its answer */
    size_t unconsumed; /* of the answer: held in its body */
    uint64_t ping;     /* of a cancelled one */
    int32_t stream;
    bool cancelled, head_done, ended;
    char text[JOB_TEXTS][SLICE_U64];
    char room[H2_RUN_ROOM];
};

static void run_free(struct run *r) {
    if (r->exchange.message && r->exchange.message->body)
        body_consumer(r->exchange.message->body, (struct body_side){0});
    exchange_fini(&r->exchange);
    arena_fini(&r->arena);
    list_del(&r->node);
    free(r);
}

static void reset_head(struct run *r) {
    size_t limit = r->arena.limit;
    arena_fini(&r->arena);
    arena_init(&r->arena, limit, r->room, sizeof(r->room));
    r->head = (struct http_head){0};
}

/* ---- sending a job ---- */

struct fields {
    nghttp2_nv nv[256 + 16];
    size_t count;
};

static void add(struct fields *f, struct slice name, struct slice value, uint8_t flags) {
    f->nv[f->count++] = (nghttp2_nv){
        .name = (uint8_t *)(uintptr_t)name.p,
        .value = (uint8_t *)(uintptr_t)value.p,
        .namelen = name.n,
        .valuelen = value.n,
        .flags = (uint8_t)(flags | NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE),
    };
}

static bool differs_by_job(enum head_name id) {
    return id == HEAD_X_REQUEST_ID || id == HEAD_TRACEPARENT || id == HEAD_IDEMPOTENCY_KEY;
}

static void build_fields(struct run *r, const struct core_action *job, uint64_t now, struct fields *f) {
    const struct http_head *head = &r->exchange.message->head;
    /* Values that differ from job to job would only push the others out of HPACK's table. But now and then
       one goes in, so that their names are found there. */
    uint8_t once = r->h2->jobs_sent++ % H2_NAMES_EVERY == 0 ? 0 : NGHTTP2_NV_FLAG_NO_INDEX;
    f->count = 0;
    add(f, SLICE(":method"), head->method, 0);
    add(f, SLICE(":scheme"), SLICE("http"), 0);
    struct slice host = head_get(head, HEAD_HOST);
    add(f, SLICE(":authority"), host.n ? host : job->service, 0); /* HTTP/1.0 may name no host */
    add(f, SLICE(":path"), head->target, 0);
    for (unsigned i = 0; i < head->count; i++) {
        const struct head_field *field = &head->fields[i];
        if (field->id != HEAD_HOST)
            add(f, field_name(field), field_value(field), differs_by_job(field->id) ? once : 0);
    }
    struct job_field own[JOB_FIELDS];
    unsigned n = job_fields(job, now, r->text, own);
    for (unsigned i = 0; i < n; i++) add(f, own[i].name, own[i].value, own[i].varies ? once : 0);
}

static ssize_t read_body(nghttp2_session *session, int32_t stream, uint8_t *buf, size_t length,
                         uint32_t *flags, nghttp2_data_source *source, void *arg) {
    (void)session, (void)stream, (void)arg;
    struct run *r = source->ptr;
    struct body *body = r->exchange.message->body;
    if (body_error(body)) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    size_t n = body_read(body, buf, length);
    if (body_finished(body))
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    else if (n == 0)
        return NGHTTP2_ERR_DEFERRED;
    return (ssize_t)n;
}

static void on_request_body(void *ctx, size_t n) {
    (void)n;
    struct run *r = ctx;
    if (r->cancelled || r->stream <= 0) return;
    (void)nghttp2_session_resume_data(r->h2->session, r->stream);
    stream_dirty(&r->h2->link->stream);
}

static struct run *run_new(struct h2 *h, const struct core_action *job) {
    struct run *r = malloc(sizeof(*r));
    if (!r) return NULL;
    memset(r, 0, offsetof(struct run, room));
    const struct attach_config *c = &h->link->attach->config;
    r->h2 = h;
    arena_init(&r->arena, c->max_head * 2, r->room, sizeof(r->room));
    exchange_begin(&r->exchange, &h->link->attach->exchange, job);
    list_push_back(&h->runs, &r->node);
    return r;
}

static void send_job(struct worker_port *port, const struct core_action *job) {
    struct h2 *h = CONTAINER_OF(port, struct h2, port);
    MAGIC_CHECK(h, H2_MAGIC);
    struct core *core = h->link->attach->config.core;
    uint64_t now = link_now(h->link);
    /* Its SETTINGS may have come in this turn, after the core's decision: nghttp2 would hold the stream back.
     */
    uint32_t most = nghttp2_session_get_remote_settings(h->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    struct run *r = h->going_away || h->open >= most ? NULL : run_new(h, job);
    if (!r) {
        core_job_handed_back(core, now, job->worker, job->job);
        return;
    }
    struct fields f;
    build_fields(r, job, now, &f);
    struct body *body = r->exchange.message->body;
    if (body) {
        if (job->resend) body_rewind(body);
        body_consumer(body, (struct body_side){on_request_body, r});
    }
    nghttp2_data_provider provider = {.source.ptr = r, .read_callback = read_body};
    r->stream = nghttp2_submit_request(h->session, NULL, f.nv, f.count, body ? &provider : NULL, r);
    if (r->stream < 0) {
        /* Stream ids are used up, or no memory: this connection takes no more; the worker will dial again. */
        h->going_away = true;
        core_worker_drain(core, now, h->link->worker);
        (void)nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE, 0, NGHTTP2_NO_ERROR, NULL, 0);
        exchange_handed_back(&r->exchange, now);
        run_free(r);
    } else {
        h->open++;
    }
    stream_dirty(&h->link->stream);
}

static void cancel_job(struct worker_port *port, uint64_t job, enum core_cause cause) {
    (void)cause;
    struct h2 *h = CONTAINER_OF(port, struct h2, port);
    MAGIC_CHECK(h, H2_MAGIC);
    LIST_FOR (node, &h->runs) {
        struct run *r = CONTAINER_OF(node, struct run, node);
        if (r->exchange.job != job || r->cancelled) continue;
        r->cancelled = true;
        exchange_cancelled(&r->exchange);
        (void)nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, r->stream, NGHTTP2_CANCEL);
        stream_dirty(&h->link->stream);
        return;
    }
}

static const struct worker_port_ops port_ops = {.send = send_job, .cancel = cancel_job};

/* ---- what the worker sends ---- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg) {
    (void)arg;
    struct run *r = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (r && !r->head_done) reset_head(r);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags, void *arg) {
    (void)flags, (void)arg;
    struct run *r = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (!r || r->head_done || r->cancelled) return 0; /* trailers are dropped */
    struct slice n = {(const char *)name, name_size}, v = {(const char *)value, value_size};
    if (slice_eq(n, SLICE(":status"))) {
        uint64_t status = 0;
        if (!slice_u64(v, &status)) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        r->head.status = (unsigned)status;
        return 0;
    }
    enum head_name id = head_name_id(n);
    struct slice kept_name = id != HEAD_OTHER ? head_name_text(id) : arena_copy(&r->arena, n);
    struct slice kept_value = arena_copy(&r->arena, v);
    int err =
        kept_name.p && kept_value.p ? head_add_name(&r->head, &r->arena, kept_name, kept_value) : WEIR_ENOMEM;
    if (err == 0) return 0;
    r->why = "its head is over the limit";
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static void on_reply_consumed(void *ctx, size_t n) {
    struct run *r = ctx;
    if (n == 0) n = r->unconsumed; /* nobody reads on */
    r->unconsumed -= n;
    if (n == 0 || r->cancelled) return;
    (void)nghttp2_session_consume_stream(r->h2->session, r->stream, n);
    stream_dirty(&r->h2->link->stream);
}

static void break_off(struct run *r, const char *why) {
    r->why = why;
    (void)nghttp2_submit_rst_stream(r->h2->session, NGHTTP2_FLAG_NONE, r->stream, NGHTTP2_PROTOCOL_ERROR);
}

static void on_head_complete(struct run *r, bool ended) {
    if (r->head.status < 200) { /* interim: 100 is made by the hub itself, others are dropped */
        exchange_interim(&r->exchange, link_now(r->h2->link), &r->head);
        reset_head(r);
        return;
    }
    r->head_done = true;
    struct slice length = head_get(&r->head, HEAD_CONTENT_LENGTH);
    r->head.has_length = length.p && slice_u64(length, &r->head.content_length);
    const char *why = "out of memory";
    struct body_side producer = {on_reply_consumed, r};
    if (exchange_head(&r->exchange, link_now(r->h2->link), &r->head, ended,
                      r->h2->link->attach->config.body_window, producer, &why) != 0)
        break_off(r, why);
}

static void on_answer_end(struct run *r) {
    struct h2 *h = r->h2;
    if (r->why) return;
    r->ended = true;
    exchange_end(&r->exchange, link_now(h->link));
    /* Answered before it had read the request's body: the rest is of no use to it. */
    if (nghttp2_session_get_stream_local_close(h->session, r->stream) == 0)
        (void)nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, r->stream, NGHTTP2_NO_ERROR);
}

static void on_settings(struct h2 *h) {
    uint32_t slots = nghttp2_session_get_remote_settings(h->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    const struct attach_config *c = &h->link->attach->config;
    if (slots > c->max_slots) slots = c->max_slots;
    if (slots == h->slots) return;
    h->slots = slots;
    core_worker_slots(c->core, link_now(h->link), h->link->worker, slots);
}

static void free_pinged(struct h2 *h, uint64_t serial) {
    LIST_FOR (node, &h->pinged) {
        struct run *r = CONTAINER_OF(node, struct run, node);
        if (r->ping > serial) return;
        core_slot_free(h->link->attach->config.core, link_now(h->link), h->link->worker, r->exchange.job);
        run_free(r);
    }
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg) {
    CAST(struct h2, h, arg, H2_MAGIC);
    struct run *r;
    bool end_stream = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
    case NGHTTP2_DATA:
        r = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
        if (!r || r->cancelled) return 0;
        if (frame->hd.type == NGHTTP2_HEADERS && !r->head_done) on_head_complete(r, end_stream);
        if (end_stream) on_answer_end(r);
        return 0;
    case NGHTTP2_SETTINGS:
        if (!(frame->hd.flags & NGHTTP2_FLAG_ACK)) on_settings(h);
        return 0;
    case NGHTTP2_GOAWAY:
        h->going_away = true;
        core_worker_drain(h->link->attach->config.core, link_now(h->link), h->link->worker);
        return 0;
    case NGHTTP2_PING:
        if (frame->hd.flags & NGHTTP2_FLAG_ACK) {
            uint64_t serial;
            memcpy(&serial, frame->ping.opaque_data, sizeof(serial));
            free_pinged(h, serial);
        }
        return 0;
    default:
        return 0;
    }
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *bytes,
                         size_t n, void *arg) {
    (void)flags;
    CAST(struct h2, h, arg, H2_MAGIC);
    (void)nghttp2_session_consume_connection(session, n);
    struct run *r = nghttp2_session_get_stream_user_data(session, stream);
    if (r) r->unconsumed += n;
    if (!r || r->cancelled || !exchange_data(&r->exchange, link_now(h->link), (const char *)bytes, n)) {
        if (r && r->unconsumed >= n) r->unconsumed -= n;
        (void)nghttp2_session_consume_stream(session, stream, n);
    }
    return 0;
}

static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int error, void *arg) {
    (void)arg;
    struct run *r = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (r && !r->why) r->why = nghttp2_strerror(error);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream, uint32_t error, void *arg) {
    CAST(struct h2, h, arg, H2_MAGIC);
    struct run *r = nghttp2_session_get_stream_user_data(session, stream);
    if (!r) return 0;
    h->open--;
    struct attach *a = h->link->attach;
    uint64_t now = link_now(h->link);
    if (r->cancelled) {
        list_del(&r->node);
        list_push_back(&h->unpinged, &r->node);
        return 0;
    }
    if (r->ended) {
        core_slot_free(a->config.core, now, h->link->worker, r->exchange.job);
    } else if (error == NGHTTP2_REFUSED_STREAM) {
        exchange_handed_back(&r->exchange, now);
    } else {
        if (r->why || error == NGHTTP2_PROTOCOL_ERROR) {
            a->stats.bad_answers++;
            log_event(a->config.log, LOG_WARN, "bad-answer", "worker %s: %s", h->link->name,
                      r->why ? r->why : "protocol error");
        }
        exchange_lost(&r->exchange, now);
    }
    run_free(r);
    return 0;
}

/* ---- the link's side ---- */

static void protocol_error(struct link *l, int error) {
    l->attach->stats.protocol_errors++;
    link_close(l, LOG_WARN, "worker-protocol-error", nghttp2_strerror(error));
}

static void on_bytes(struct link *l, const char *bytes, size_t n) {
    CAST(struct h2, h, l->state, H2_MAGIC);
    h->pings_missed = 0;
    ssize_t used = nghttp2_session_mem_recv(h->session, (const uint8_t *)bytes, n);
    if (used < 0)
        protocol_error(l, (int)used);
    else if (nghttp2_session_want_write(h->session) || h->going_away)
        stream_dirty(&l->stream);
}

static int write_frames(struct h2 *h) {
    struct stream *s = &h->link->stream;
    while (stream_pending(s) < H2_WRITE_AHEAD) {
        const uint8_t *frames;
        ssize_t n = nghttp2_session_mem_send(h->session, &frames);
        if (n <= 0) return (int)n;
        if (buffer_append(stream_out(s), frames, (size_t)n) != 0) return NGHTTP2_ERR_NOMEM;
    }
    return 0;
}

/* RST_STREAMs have gone into the output: a PING behind them tells when the worker has seen them. */
static bool ping_behind_cancels(struct h2 *h) {
    if (list_empty(&h->unpinged)) return false;
    uint64_t serial = ++h->ping_serial;
    if (nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, (const uint8_t *)&serial) != 0) return false;
    struct list *node;
    while ((node = list_pop_front(&h->unpinged)) != NULL) {
        CONTAINER_OF(node, struct run, node)->ping = serial;
        list_push_back(&h->pinged, node);
    }
    return true;
}

static void on_before_write(struct link *l) {
    CAST(struct h2, h, l->state, H2_MAGIC);
    int err = write_frames(h);
    if (err == 0 && ping_behind_cancels(h)) err = write_frames(h);
    if (err != 0) {
        protocol_error(l, err);
        return;
    }
    bool idle = list_empty(&h->runs) && list_empty(&h->unpinged) && list_empty(&h->pinged);
    if (h->going_away && idle && stream_pending(&l->stream) == 0)
        link_close(l, LOG_INFO, "worker-left", "drained");
    else if (!nghttp2_session_want_read(h->session) && !nghttp2_session_want_write(h->session))
        protocol_error(l, NGHTTP2_ERR_PROTO);
}

static void on_drained(struct link *l) {
    stream_dirty(&l->stream);
}

static void on_heartbeat(struct link *l) {
    CAST(struct h2, h, l->state, H2_MAGIC);
    if (h->pings_missed >= l->attach->config.heartbeat_missed) {
        l->attach->stats.links_silent++;
        link_close(l, LOG_WARN, "worker-silent", "missed its heartbeats");
        return;
    }
    h->pings_missed++;
    uint64_t serial = 0; /* not one of those behind cancels, whose answers may wait */
    (void)nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, (const uint8_t *)&serial);
    stream_dirty(&l->stream);
}

/* The core has heard from link.c that the worker is gone: what the runs hold goes, replies are cut. */
static void stop(struct link *l) {
    CAST(struct h2, h, l->state, H2_MAGIC);
    LIST_FOR (node, &h->runs) {
        struct run *r = CONTAINER_OF(node, struct run, node);
        exchange_cut(&r->exchange);
        run_free(r);
    }
    LIST_FOR (node, &h->unpinged) run_free(CONTAINER_OF(node, struct run, node));
    LIST_FOR (node, &h->pinged) run_free(CONTAINER_OF(node, struct run, node));
    nghttp2_session_del(h->session);
    h->magic = 0;
    free(h);
    l->state = NULL;
    l->protocol = NULL;
}

static const struct link_protocol h2_protocol = {.data = on_bytes,
                                                 .before_write = on_before_write,
                                                 .drained = on_drained,
                                                 .heartbeat = on_heartbeat,
                                                 .stop = stop};

static const struct h2_handlers handlers = {.begin_headers = on_begin_headers,
                                            .header = on_header,
                                            .frame = on_frame,
                                            .data_chunk = on_data_chunk,
                                            .invalid_frame = on_invalid_frame,
                                            .stream_close = on_stream_close};

int h2_prepare(struct link *l, struct worker_port **ret_port) {
    struct h2 *h = calloc(1, sizeof(*h));
    if (!h) return WEIR_ENOMEM;
    h->magic = H2_MAGIC;
    h->port.ops = &port_ops;
    h->link = l;
    list_init(&h->runs);
    list_init(&h->unpinged);
    list_init(&h->pinged);
    int err = h2_session_new(false, &handlers, h, &h->session);
    if (err != 0) {
        free(h);
        return err;
    }
    l->state = h;
    l->protocol = &h2_protocol;
    *ret_port = &h->port;
    return 0;
}

int h2_start(struct link *l) {
    CAST(struct h2, h, l->state, H2_MAGIC);
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, H2_TABLE_SIZE},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, (uint32_t)l->attach->config.body_window},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)l->attach->config.max_head},
    };
    int err = h2_session_begin(h->session, settings, sizeof(settings) / sizeof(*settings));
    if (err != 0) return err;
    stream_dirty(&l->stream);
    return 0;
}
