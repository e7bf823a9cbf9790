/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's side of reverse HTTP/2 (docs/protocol.md "Reverse HTTP", step 6): here the worker is the
 * HTTP/2 server.
 *
 * A job whose stream was reset while its handler runs is a zombie: MAX_CONCURRENT_STREAMS is lowered at once,
 * before the ACK of the PING that the hub sends behind each RST_STREAM, and raised when the handler has
 * returned.
 */
#include "base/assert.h"
#include "lib/redirect.h"
#include "lib/worker.h"
#include <stdlib.h>

enum { TABLE_SIZE = 16 * 1024 };

static unsigned wanted_slots(const struct weir_worker *w) {
    if (w->draining) return 0;
    unsigned slots = w->slots < w->gate_limit ? w->slots : w->gate_limit;
    return slots > w->zombies ? slots - w->zombies : 0;
}

void session_announce(struct uplink *l) {
    if (!l->session || l->going_away) return;
    unsigned slots = wanted_slots(l->worker);
    if (slots == l->announced) return;
    nghttp2_settings_entry entry = {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, slots};
    if (nghttp2_submit_settings(l->session, NGHTTP2_FLAG_NONE, &entry, 1) == 0)
        l->announced = slots;
    else
        l->broken = true;
}

void session_announce_all(struct weir_worker *w) {
    for (size_t i = 0; i < w->link_count; i++) session_announce(&w->links[i]);
}

/* ---- a job comes in ---- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg) {
    struct uplink *l = arg;
    struct weir_worker *w = l->worker;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    bool room = w->busy < w->slots && w->busy < w->gate_limit && !w->draining;
    struct weir_job *job = room ? job_new(l, frame->hd.stream_id) : NULL;
    if (job)
        (void)nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, job);
    else
        (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                        NGHTTP2_REFUSED_STREAM);
    return 0;
}

static int add_field(struct weir_job *job, struct slice name, struct slice value) {
    struct slice kept = arena_copy(&job->arena, value);
    if (!kept.p) return WEIR_ENOMEM;
    if (slice_eq(name, SLICE(":method"))) {
        job->head.method = kept;
    } else if (slice_eq(name, SLICE(":path"))) {
        job->head.target = kept;
    } else if (slice_eq(name, SLICE(":authority"))) {
        return head_add(&job->head, &job->arena, HEAD_HOST, kept);
    } else if (name.n && name.p[0] != ':') {
        enum head_name id = head_name_id(name);
        struct slice text = id != HEAD_OTHER ? head_name_text(id) : arena_copy(&job->arena, name);
        return text.p ? head_add_name(&job->head, &job->arena, text, kept) : WEIR_ENOMEM;
    }
    return 0;
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

static struct service *find_service(struct weir_worker *w, struct slice name) {
    for (size_t i = 0; i < w->service_count; i++)
        if (slice_eq(slice_of(w->services[i].name), name)) return &w->services[i];
    return NULL;
}

static void on_head_complete(struct uplink *l, struct weir_job *job) {
    struct weir_worker *w = l->worker;
    job->service = find_service(w, head_get(&job->head, HEAD_WEIR_SERVICE));
    if (!job->service) { /* not offered: it can only run elsewhere */
        (void)nghttp2_submit_rst_stream(l->session, NGHTTP2_FLAG_NONE, job->stream, NGHTTP2_REFUSED_STREAM);
        return;
    }
    job->handled = false;
    list_push_back(&w->ready, &job->ready);
    w->ready_count++;
    w->busy++;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg) {
    struct uplink *l = arg;
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) return 0;
    struct weir_job *job = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (!job) return 0;
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
        job->body_ended = true;
        job_changed(job);
    }
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        on_head_complete(l, job);
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
    struct uplink *l = arg;
    struct weir_worker *w = l->worker;
    struct weir_job *job = nghttp2_session_get_stream_user_data(session, stream);
    (void)error;
    if (!job) return 0;
    list_del(&job->link_node);
    job->has_stream = false;
    job->link = NULL;
    w->streams--;
    if (!job->handled && !job->redirect) {
        job_cancel(job);
        job->zombie = true;
        w->zombies++;
        session_announce_all(w);
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

int session_begin_answer(struct weir_job *job) {
    struct uplink *l = job->link;
    if (!l || !l->session) return WEIR_ECANCELLED;
    nghttp2_nv nv[256 + 2];
    size_t count = 0;
    add(&nv[count++], SLICE(":status"), slice_from_u64(job->status_text, job->answer.status));
    for (unsigned i = 0; i < job->answer.count; i++)
        add(&nv[count++], field_name(&job->answer.fields[i]), field_value(&job->answer.fields[i]));
    bool head = slice_eq(job->head.method, SLICE("HEAD")), own = job->has_length && (head || job->streaming);
    uint64_t length = own ? job->length : buffer_size(&job->out);
    if (own || job->length_known)
        add(&nv[count++], SLICE("content-length"), slice_from_u64(job->length_text, length));
    bool no_body = job->ended && buffer_size(&job->out) == 0;
    if (head) {
        no_body = true;
        buffer_reset(&job->out);
    }
    nghttp2_data_provider provider = {.source.ptr = job, .read_callback = read_out};
    job->begun = true;
    return nghttp2_submit_response(l->session, job->stream, nv, count, no_body ? NULL : &provider) == 0
               ? 0
               : WEIR_ENOMEM;
}

int session_redirect(struct weir_job *job, const char *location) {
    struct weir_worker *w = job->worker;
    struct uplink *l = job->link;
    if (!l || !l->session) return WEIR_ECANCELLED;
    nghttp2_nv nv[3];
    add(&nv[0], SLICE(":status"), SLICE("303"));
    add(&nv[1], SLICE("location"), slice_of(location));
    add(&nv[2], SLICE("content-length"), SLICE("0"));
    for (int i = 0; i < 3; i++) nv[i].flags = NGHTTP2_NV_FLAG_NONE;
    /* For the hub the job ends here. Its slot is taken out first. */
    job->zombie = true;
    w->zombies++;
    session_announce_all(w);
    job->begun = job->answered = job->ended = true;
    return nghttp2_submit_response(l->session, job->stream, nv, 3, NULL) == 0 ? 0 : WEIR_ENOMEM;
}

void session_answer(struct weir_job *job) {
    struct weir_worker *w = job->worker;
    redirect_over(job);
    job->handled = true;
    if (job->zombie) {
        w->zombies--;
        session_announce_all(w);
    }
    if (job->link) {
        struct uplink *l = job->link;
        bool whole = job->answered && (!job->streaming || job->ended);
        int err = whole ? 0 : WEIR_ECUT;
        if (err == 0 && !job->begun) err = session_begin_answer(job);
        if (err == 0 && job->streaming) (void)nghttp2_session_resume_data(l->session, job->stream);
        if (err != 0)
            (void)nghttp2_submit_rst_stream(l->session, NGHTTP2_FLAG_NONE, job->stream,
                                            NGHTTP2_INTERNAL_ERROR);
        /* Body that the handler left unread: let it pass, or the hub could not send the stream's end. */
        size_t unread = buffer_size(&job->body);
        if (unread) (void)nghttp2_session_consume_stream(l->session, job->stream, unread);
        buffer_reset(&job->body);
    }
    job_release(job);
}

/* ---- the session ---- */

int session_feed(struct uplink *l, const char *bytes, size_t n) {
    ssize_t used = nghttp2_session_mem_recv(l->session, (const uint8_t *)bytes, n);
    if (used < 0) worker_log(l->worker, "%s: %s", l->name, nghttp2_strerror((int)used));
    return used < 0 ? WEIR_EPROTOCOL : 0;
}

void session_ping(struct uplink *l) {
    (void)nghttp2_submit_ping(l->session, NGHTTP2_FLAG_NONE, NULL);
}

void session_goaway(struct uplink *l) {
    if (!l->session || l->going_away) return;
    l->going_away = true;
    int32_t last = nghttp2_session_get_last_proc_stream_id(l->session);
    (void)nghttp2_submit_goaway(l->session, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, NULL, 0);
}

static int new_session(struct uplink *l) {
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    if (nghttp2_session_callbacks_new(&callbacks) != 0) return WEIR_ENOMEM;
    if (nghttp2_option_new(&option) != 0) {
        nghttp2_session_callbacks_del(callbacks);
        return WEIR_ENOMEM;
    }
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_max_deflate_dynamic_table_size(option, TABLE_SIZE);
    nghttp2_option_set_no_closed_streams(option, 1);
    int err = nghttp2_session_server_new2(&l->session, callbacks, l, option);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return err == 0 ? 0 : WEIR_ENOMEM;
}

int session_start(struct uplink *l) {
    if (new_session(l) != 0) return WEIR_ENOMEM;
    l->announced = wanted_slots(l->worker);
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, l->announced},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WORKER_WINDOW},
        {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, TABLE_SIZE},
    };
    int err = nghttp2_submit_settings(l->session, NGHTTP2_FLAG_NONE, settings,
                                      sizeof(settings) / sizeof(*settings));
    if (err == 0)
        err =
            nghttp2_session_set_local_window_size(l->session, NGHTTP2_FLAG_NONE, 0, NGHTTP2_MAX_WINDOW_SIZE);
    return err == 0 ? 0 : WEIR_ENOMEM;
}

void session_stop(struct uplink *l) {
    if (!l->session) return;
    struct weir_worker *w = l->worker;
    LIST_FOR (node, &l->jobs) {
        struct weir_job *job = CONTAINER_OF(node, struct weir_job, link_node);
        list_del(&job->link_node);
        job->link = NULL;
        job->has_stream = false;
        w->streams--;
        if (!job->handled && !job->redirect) {
            job_cancel(job);
            job->zombie = true;
            w->zombies++;
        }
        job_release(job);
    }
    session_announce_all(w);
    nghttp2_session_del(l->session);
    l->session = NULL;
}
