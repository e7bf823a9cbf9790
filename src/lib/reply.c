/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A job's answer. One that is given whole is kept until the handler returns and then goes out from there; a
 * streamed one goes out as it is written.
 */
#include "base/log.h"
#include "lib/redirect.h"
#include "lib/worker.h"
#include "wire/problem.h"
#include <stdio.h>

enum { PROGRESS_MOST = 255 };

int weir_job_set_header(weir_job *job, const char *name, const char *value) {
    struct slice n = slice_of(name), v = slice_of(value);
    if (job->answered) return WEIR_ESTATE;
    if (n.n == 0 || !value || !text_is_token(n) || !text_is_field_value(v)) return WEIR_EINVAL;
    struct slice kept_name = arena_copy(&job->arena, n), kept_value = arena_copy(&job->arena, v);
    if (!kept_name.p || !kept_value.p) return WEIR_ENOMEM;
    for (size_t i = 0; i < n.n; i++) {
        char *c = (char *)(uintptr_t)&kept_name.p[i];
        if (*c >= 'A' && *c <= 'Z') *c = (char)(*c + 'a' - 'A');
    }
    enum head_name id = head_name_id(kept_name);
    if (id == HEAD_CONTENT_LENGTH)
        return slice_u64(v, &job->length) ? (job->has_length = true, 0) : WEIR_EINVAL;
    if (id == HEAD_TE || head_name_hop_by_hop(id)) return WEIR_EINVAL;
    return head_add_name(&job->answer, &job->arena, kept_name, kept_value);
}

int weir_job_progress(weir_job *job, const char *text) {
    struct weir_worker *w = job->worker;
    struct slice s = slice_of(text);
    if (s.n == 0 || s.n > PROGRESS_MOST || !text_is_field_value(s)) return WEIR_EINVAL;
    pthread_mutex_lock(&w->lock);
    int err = job->answered || job->begun ? WEIR_ESTATE : job->link && !job->cancelled ? 0 : WEIR_ECANCELLED;
    if (err == 0) err = job->link->via->progress(job, s);
    if (err == 0) job->link->via->flush(job->link);
    pthread_mutex_unlock(&w->lock);
    return err;
}

static int begin(struct weir_job *job, unsigned status, const char *content_type) {
    if (job->answered) return WEIR_ESTATE;
    if (status < 200 || status > 999) return WEIR_EINVAL;
    if (content_type) {
        int err = weir_job_set_header(job, "content-type", content_type);
        if (err != 0) return err;
    }
    job->answer.status = status;
    return 0;
}

static bool without_body(unsigned status) {
    return status == 204 || status == 304;
}

/* What is in job->out becomes a redirected body. */
static int redirect_out(weir_job *job) {
    int err = redirect_begin(job);
    if (err == 0) err = redirect_write(job, buffer_slice(&job->out).p, buffer_size(&job->out));
    buffer_reset(&job->out);
    return err;
}

static int redirect_whole(weir_job *job) {
    job->has_length = false;
    int err = redirect_out(job);
    return err == 0 ? redirect_end(job) : err;
}

int weir_reply(weir_job *job, unsigned status, const char *content_type, const void *body, size_t size) {
    int err = begin(job, status, content_type);
    if (err == 0 && size > 0 && !without_body(status)) err = buffer_append(&job->out, body, size);
    if (err != 0) return err;
    if (redirect_allowed(job, status) && size > redirect_threshold(job)) return redirect_whole(job);
    job->length_known = !without_body(status);
    job->answered = job->ended = true;
    return 0;
}

static int reply_vprintf(struct weir_job *job, unsigned status, const char *content_type, const char *format,
                         va_list args) {
    struct buffer text;
    buffer_init(&text);
    int err = buffer_vprintf(&text, format, args);
    if (err == 0) err = weir_reply(job, status, content_type, buffer_slice(&text).p, buffer_size(&text));
    buffer_fini(&text);
    return err;
}

int weir_reply_printf(weir_job *job, unsigned status, const char *content_type, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int err = reply_vprintf(job, status, content_type, format, args);
    va_end(args);
    return err;
}

int weir_reply_problem(weir_job *job, unsigned status, const char *format, ...) {
    struct buffer detail, out;
    buffer_init(&detail);
    buffer_init(&out);
    va_list args;
    va_start(args, format);
    int err = buffer_vprintf(&detail, format, args);
    va_end(args);
    struct problem p = {.status = status,
                        .detail = buffer_slice(&detail),
                        .request_id = head_get(&job->head, HEAD_X_REQUEST_ID),
                        .service = slice_of(job->service->name)};
    if (err == 0) err = problem_write(&out, &p);
    if (err == 0)
        err = weir_reply(job, status, "application/problem+json", buffer_slice(&out).p, buffer_size(&out));
    buffer_fini(&detail);
    buffer_fini(&out);
    return err;
}

static int begin_stream(weir_job *job) {
    struct weir_worker *w = job->worker;
    job->answered = true;
    job->holding = false;
    pthread_mutex_lock(&w->lock);
    int err = job->link ? job->link->via->begin(job) : WEIR_ECANCELLED;
    job->begun = true;
    if (err == 0) job->link->via->flush(job->link);
    pthread_mutex_unlock(&w->lock);
    return err;
}

/* A streamed reply that may yet be redirected waits until it is known to be long. */
static int hold(weir_job *job, const void *data, size_t size) {
    int err = buffer_append(&job->out, data, size);
    if (err != 0 || buffer_size(&job->out) <= redirect_threshold(job)) return err;
    job->holding = false;
    return redirect_out(job);
}

int weir_reply_begin(weir_job *job, unsigned status, const char *content_type) {
    int err = begin(job, status, content_type);
    if (err != 0) return err;
    job->streaming = true;
    if (!redirect_allowed(job, status)) return begin_stream(job);
    if (job->has_length && job->length > redirect_threshold(job)) return redirect_begin(job);
    job->answered = job->holding = true;
    return 0;
}

int weir_reply_write(weir_job *job, const void *data, size_t size) {
    struct weir_worker *w = job->worker;
    if (job->streaming && job->redirect) return redirect_write(job, data, size);
    if (!job->streaming || job->ended) return WEIR_ESTATE;
    if (job->holding) return hold(job, data, size);
    if (slice_eq(job->head.method, SLICE("HEAD")) || without_body(job->answer.status)) return 0;
    int err = 0;
    pthread_mutex_lock(&w->lock);
    for (const char *p = data; size > 0 && err == 0;) {
        while (buffer_size(&job->out) >= WORKER_WINDOW && job->link && !job->cancelled)
            pthread_cond_wait(&job->changed, &w->lock);
        if (!job->link || job->cancelled) {
            err = WEIR_ECANCELLED;
            break;
        }
        size_t room = WORKER_WINDOW - buffer_size(&job->out), n = size < room ? size : room;
        err = buffer_append(&job->out, p, n);
        p += n;
        size -= n;
        job->link->via->more(job);
        job->link->via->flush(job->link);
    }
    pthread_mutex_unlock(&w->lock);
    return err;
}

int weir_reply_end(weir_job *job) {
    if (job->streaming && job->redirect) return redirect_end(job);
    if (!job->streaming || job->ended) return WEIR_ESTATE;
    if (job->holding) { /* short after all: a whole reply */
        job->streaming = job->holding = false;
        job->length_known = job->ended = true;
        return 0;
    }
    pthread_mutex_lock(&job->worker->lock);
    job->ended = true;
    pthread_mutex_unlock(&job->worker->lock);
    return weir_job_cancelled(job) ? WEIR_ECANCELLED : 0;
}

int weir_forward(weir_job *job, const char *service, const char *target, const char *content_type,
                 const void *body, size_t size) {
    if (!text_is_service(slice_of(service))) return WEIR_EINVAL;
    struct buffer to;
    buffer_init(&to);
    int err = buffer_printf(&to, "%s%s%s", service, target ? " " : "", target ? target : "");
    if (err == 0) err = buffer_append(&to, "", 1);
    if (err == 0) err = weir_job_set_header(job, "weir-forward", buffer_slice(&to).p);
    buffer_fini(&to);
    return err == 0 ? weir_reply(job, 200, content_type, body, size) : err;
}

int weir_again(weir_job *job, const char *target, const char *content_type, const void *body, size_t size) {
    return weir_forward(job, job->service->name, target, content_type, body, size);
}
