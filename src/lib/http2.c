/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's side of reverse HTTP/2 (docs/protocol.md "Reverse HTTP/2"): here the worker is the HTTP/2
 * server.
 *
 * A job whose stream was reset may have a handler that runs on. Its slot is busy for the hub until the PING
 * that the hub sends behind each RST_STREAM is answered: that waits for the handler.
 */
#include "lib/worker.h"
#include "wire/h2.h"

void http2_announce(struct uplink *l) {
    if (!l->session || l->going_away) return;
    unsigned slots = session_slots(l->worker);
    if (slots == l->announced) return;
    nghttp2_settings_entry entry = {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, slots};
    if (nghttp2_submit_settings(l->session, NGHTTP2_FLAG_NONE, &entry, 1) == 0)
        l->announced = slots;
    else
        l->broken = true;
}

/* ---- a job comes in ---- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg) {
    struct uplink *l = arg;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    struct weir_job *job = session_room(l->worker) ? job_new(l) : NULL;
    if (job) job->stream = frame->hd.stream_id;
    if (job)
        (void)nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, job);
    else
        (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                        NGHTTP2_REFUSED_STREAM);
    return 0;
}

static int add_field(struct weir_job *job, struct slice name, struct slice value) {
    if (slice_eq(name, SLICE(":authority"))) return session_field(job, SLICE("host"), value);
    if (!name.n || name.p[0] != ':') return session_field(job, name, value);
    struct slice *to = slice_eq(name, SLICE(":method")) ? &job->head.method
                       : slice_eq(name, SLICE(":path")) ? &job->head.target
                                                        : NULL;
    if (!to) return 0;
    *to = arena_copy(&job->arena, value);
    return to->p ? 0 : WEIR_ENOMEM;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags, void *arg) {
    (void)flags, (void)arg;
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0; /* trailers */
    struct weir_job *job = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (!job) return 0;
    struct slice n = {(const char *)name, name_size}, v = {(const char *)value, value_size};
    return add_field(job, n, v) == 0 ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static void pong(struct uplink *l, const uint8_t opaque[8]) {
    (void)nghttp2_submit_ping(l->session, NGHTTP2_FLAG_ACK, opaque);
}

/* An answer to the last one does for those before it too, so when there are too many the last one waits
 * longer. */
static void on_ping(struct uplink *l, const uint8_t opaque[8]) {
    static const uint8_t heartbeat[8];
    if (memcmp(opaque, heartbeat, 8) == 0 || list_empty(&l->resets)) {
        pong(l, opaque);
        return;
    }
    if (l->ping_count == PINGS_HELD) l->ping_count--;
    struct held_ping *p = &l->pings[l->ping_count++];
    memcpy(p->opaque, opaque, 8);
    p->resets = l->reset_count;
}

void http2_returned(struct weir_job *job) {
    struct uplink *l = job->reset_by;
    list_del(&job->link_node);
    job->reset_by = NULL;
    uint64_t oldest = UINT64_MAX;
    if (!list_empty(&l->resets))
        oldest = CONTAINER_OF(l->resets.next, struct weir_job, link_node)->reset_serial;
    unsigned n = 0;
    for (; n < l->ping_count && l->pings[n].resets < oldest; n++) pong(l, l->pings[n].opaque);
    l->ping_count -= n;
    memmove(l->pings, l->pings + n, l->ping_count * sizeof(*l->pings));
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg) {
    if (frame->hd.type == NGHTTP2_PING && !(frame->hd.flags & NGHTTP2_FLAG_ACK))
        on_ping(arg, frame->ping.opaque_data);
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) return 0;
    struct weir_job *job = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (!job) return 0;
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
        job->body_ended = true;
        job_changed(job);
    }
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        if (!session_take(job)) /* not offered: it can only run elsewhere */
            (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, job->stream, NGHTTP2_REFUSED_STREAM);
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *bytes,
                         size_t n, void *arg) {
    (void)flags, (void)arg;
    (void)nghttp2_session_consume_connection(session, n);
    struct weir_job *job = nghttp2_session_get_stream_user_data(session, stream);
    if (!job || job->handled || buffer_append(&job->body, bytes, n) != 0) {
        if (job && !job->handled) job->body_cut = true;
        (void)nghttp2_session_consume_stream(session, stream, n);
    }
    if (job) job_changed(job);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream, uint32_t error, void *arg) {
    struct weir_job *job = nghttp2_session_get_stream_user_data(session, stream);
    struct uplink *l = arg;
    if (!job) return 0;
    if (error != NGHTTP2_CANCEL) {
        session_lost(job);
        session_announce_all(job->worker);
        job_release(job);
        return 0;
    }
    session_detach(job);
    if (!job->handled && !job->redirect) { /* its handler runs on, or is still to be run */
        job_cancel(job);
        job->reset_by = l;
        job->reset_serial = ++l->reset_count;
        list_push_back(&l->resets, &job->link_node);
    }
    job_release(job);
    return 0;
}

/* ---- an answer goes out ---- */

static ssize_t read_out(nghttp2_session *session, int32_t stream, uint8_t *buf, size_t length,
                        uint32_t *flags, nghttp2_data_source *source, void *arg) {
    (void)session, (void)stream, (void)arg;
    struct weir_job *job = source->ptr;
    size_t n = buffer_size(&job->out);
    if (n > length) n = length;
    if (n > 0) memcpy(buf, buffer_slice(&job->out).p, n);
    buffer_consume(&job->out, n);
    bool all = buffer_size(&job->out) == 0;
    if (all && job->ended)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    else if (n == 0)
        return NGHTTP2_ERR_DEFERRED;
    if (job->streaming) job_changed(job); /* there is room again */
    return (ssize_t)n;
}

static void add(nghttp2_nv *nv, struct slice name, struct slice value) {
    *nv = (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name.p,
                       .value = (uint8_t *)(uintptr_t)value.p,
                       .namelen = name.n,
                       .valuelen = value.n,
                       .flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}

int http2_begin(struct weir_job *job) {
    struct uplink *l = job->link;
    nghttp2_nv nv[256 + 2];
    size_t count = 0;
    add(&nv[count++], SLICE(":status"), slice_from_u64(job->status_text, job->answer.status));
    for (unsigned i = 0; i < job->answer.count; i++)
        add(&nv[count++], field_name(&job->answer.fields[i]), field_value(&job->answer.fields[i]));
    bool known;
    uint64_t length = session_length(job, &known);
    if (known) add(&nv[count++], SLICE("content-length"), slice_from_u64(job->length_text, length));
    bool no_body = job->ended && buffer_size(&job->out) == 0;
    if (slice_eq(job->head.method, SLICE("HEAD"))) {
        no_body = true;
        buffer_reset(&job->out);
    }
    nghttp2_data_provider provider = {.source.ptr = job, .read_callback = read_out};
    return nghttp2_submit_response(l->session, job->stream, nv, count, no_body ? NULL : &provider) == 0
               ? 0
               : WEIR_ENOMEM;
}

void http2_more(struct weir_job *job) {
    (void)nghttp2_session_resume_data(job->link->session, job->stream);
}

void http2_give_up(struct weir_job *job) {
    (void)nghttp2_submit_rst_stream(job->link->session, NGHTTP2_FLAG_NONE, job->stream,
                                    NGHTTP2_INTERNAL_ERROR);
}

void http2_consumed(struct weir_job *job, size_t n) {
    (void)nghttp2_session_consume_stream(job->link->session, job->stream, n);
}

int http2_redirect(struct weir_job *job, const char *location) {
    nghttp2_nv nv[3];
    add(&nv[0], SLICE(":status"), SLICE("303"));
    add(&nv[1], SLICE("location"), slice_of(location));
    add(&nv[2], SLICE("content-length"), SLICE("0"));
    for (int i = 0; i < 3; i++) nv[i].flags = NGHTTP2_NV_FLAG_NONE;
    return nghttp2_submit_response(job->link->session, job->stream, nv, 3, NULL) == 0 ? 0 : WEIR_ENOMEM;
}

/* RFC 9113 8.1: interim answers are HEADERS of their own. */
int http2_progress(struct weir_job *job, struct slice text) {
    nghttp2_nv nv[2];
    add(&nv[0], SLICE(":status"), SLICE("102"));
    add(&nv[1], SLICE("weir-progress"), text);
    for (int i = 0; i < 2; i++) nv[i].flags = NGHTTP2_NV_FLAG_NONE;
    return nghttp2_submit_headers(job->link->session, NGHTTP2_FLAG_NONE, job->stream, NULL, nv, 2, NULL) == 0
               ? 0
               : WEIR_ENOMEM;
}

/* ---- the session ---- */

int http2_feed(struct uplink *l, const char *bytes, size_t n) {
    ssize_t used = nghttp2_session_mem_recv(l->session, (const uint8_t *)bytes, n);
    if (used < 0) worker_log(l->worker, "%s: %s", l->name, nghttp2_strerror((int)used));
    return used < 0 ? WEIR_EPROTOCOL : 0;
}

void http2_ping(struct uplink *l) {
    (void)nghttp2_submit_ping(l->session, NGHTTP2_FLAG_NONE, NULL);
}

void http2_leave(struct uplink *l) {
    if (!l->session || l->going_away) return;
    l->going_away = true;
    int32_t last = nghttp2_session_get_last_proc_stream_id(l->session);
    (void)nghttp2_submit_goaway(l->session, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, NULL, 0);
}

static const struct h2_handlers handlers = {.begin_headers = on_begin_headers,
                                            .header = on_header,
                                            .frame = on_frame,
                                            .data_chunk = on_data_chunk,
                                            .stream_close = on_stream_close};

int http2_start(struct uplink *l) {
    if (h2_session_new(true, &handlers, l, &l->session) != 0) return WEIR_ENOMEM;
    l->announced = session_slots(l->worker);
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, l->announced},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WORKER_WINDOW},
        {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, H2_TABLE_SIZE},
    };
    return h2_session_begin(l->session, settings, sizeof(settings) / sizeof(*settings));
}

void http2_stop(struct uplink *l) {
    if (!l->session) return;
    l->ping_count = 0;
    nghttp2_session_del(l->session);
    l->session = NULL;
}

void http2_gather(struct uplink *l) {
    while (buffer_size(&l->out) < WORKER_WINDOW) {
        const uint8_t *frames;
        ssize_t n = nghttp2_session_mem_send(l->session, &frames);
        if (n == 0) return;
        if (n < 0 || buffer_append(&l->out, frames, (size_t)n) != 0) {
            l->broken = true;
            return;
        }
    }
}
