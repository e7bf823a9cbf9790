/* SPDX-License-Identifier: Apache-2.0 */
/* A job as its handler sees it: the request. The head is written before the handler starts and only read
   afterwards; the body is shared with the leader, under the worker's lock. */
#include "lib/worker.h"
#include "wire/target.h"
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct weir_job *job_new(struct uplink *l) {
    struct weir_job *job = malloc(sizeof(*job));
    if (!job) return NULL;
    memset(job, 0, offsetof(struct weir_job, room));
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&job->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    arena_init(&job->arena, WORKER_HEAD_MAX, job->room, sizeof(job->room));
    job->worker = l->worker;
    job->link = l;
    job->event_fd = -1;
    job->has_stream = job->handled = true; /* no handler yet */
    job->began_ms = worker_now_ms();
    list_init(&job->ready);
    list_push_back(&l->jobs, &job->link_node);
    l->worker->streams++;
    return job;
}

void job_changed(struct weir_job *job) {
    pthread_cond_signal(&job->changed);
    if (job->event_fd >= 0) (void)eventfd_write(job->event_fd, 1);
}

void job_cancel(struct weir_job *job) {
    __atomic_store_n(&job->cancelled, 1, __ATOMIC_RELEASE);
    job_changed(job);
}

void job_release(struct weir_job *job) {
    if (job->has_stream || !job->handled) return;
    arena_fini(&job->arena);
    buffer_fini(&job->body);
    buffer_fini(&job->gathered);
    parts_free(job->parts);
    buffer_fini(&job->out);
    if (job->event_fd >= 0) close(job->event_fd);
    pthread_cond_destroy(&job->changed);
    free(job);
}

static const char *known(const struct weir_job *job, enum head_name id) {
    const char *value = head_get(&job->head, id).p;
    return value ? value : "";
}

const char *weir_job_id(const weir_job *job) {
    return known(job, HEAD_WEIR_JOB);
}

const char *weir_job_service(const weir_job *job) {
    return job->service->name;
}

const char *weir_job_method(const weir_job *job) {
    return job->head.method.p ? job->head.method.p : "";
}

const char *weir_job_target(const weir_job *job) {
    return job->head.target.p ? job->head.target.p : "";
}

const char *weir_job_path(const weir_job *job) {
    struct weir_job *j = (struct weir_job *)(uintptr_t)job;
    struct slice target = job->head.target;
    const char *question = target.n ? memchr(target.p, '?', target.n) : NULL;
    if (!question) return weir_job_target(job);
    struct slice path = arena_copy(&j->arena, (struct slice){target.p, (size_t)(question - target.p)});
    return path.p ? path.p : "";
}

const char *weir_job_header(const weir_job *job, const char *name) {
    return head_get_name(&job->head, slice_of(name)).p;
}

int weir_job_header_at(const weir_job *job, size_t index, const char **ret_name, const char **ret_value) {
    if (index >= job->head.count) return WEIR_ENOTFOUND;
    *ret_name = job->head.fields[index].name;
    *ret_value = job->head.fields[index].value;
    return 0;
}

static unsigned number(const struct weir_job *job, enum head_name id) {
    uint64_t n = 0;
    return slice_u64(head_get(&job->head, id), &n) ? (unsigned)n : 0;
}

unsigned weir_job_hop(const weir_job *job) {
    return number(job, HEAD_WEIR_HOP);
}

unsigned weir_job_attempt(const weir_job *job) {
    return number(job, HEAD_WEIR_ATTEMPT);
}

int64_t weir_job_time_left(const weir_job *job) {
    uint64_t left;
    if (!slice_u64(head_get(&job->head, HEAD_WEIR_DEADLINE_MS), &left)) return -1;
    uint64_t passed = worker_now_ms() - job->began_ms;
    return passed < left ? (int64_t)(left - passed) : 0;
}

const char *weir_job_query(weir_job *job, const char *name) {
    return query_value(target_query(job->head.target), slice_of(name), &job->arena).p;
}

int weir_job_query_u64(weir_job *job, const char *name, uint64_t *ret_value) {
    const char *text = weir_job_query(job, name);
    if (!text) return WEIR_ENOTFOUND;
    return slice_u64(slice_of(text), ret_value) ? 0 : WEIR_EINVAL;
}

int weir_job_cancelled(const weir_job *job) {
    return __atomic_load_n(&job->cancelled, __ATOMIC_ACQUIRE);
}

int weir_job_wait(weir_job *job, unsigned ms) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    struct weir_worker *w = job->worker;
    pthread_mutex_lock(&w->lock);
    int timed_out = 0;
    while (!job->cancelled && !timed_out) timed_out = pthread_cond_timedwait(&job->changed, &w->lock, &until);
    pthread_mutex_unlock(&w->lock);
    return weir_job_cancelled(job) ? WEIR_ECANCELLED : 0;
}

/* Under the lock: gives the hub room for as much as was read. */
static void consumed(struct weir_job *job, size_t n) {
    buffer_consume(&job->body, n);
    if (!job->link) return;
    job->link->via->consumed(job, n);
    job->link->via->flush(job->link);
}

/* The handler has been told of the body's end: from now on only a cancel is news. Under the lock. */
static void tell_end(struct weir_job *job) {
    eventfd_t count;
    job->end_told = true;
    if (job->event_fd >= 0 && !job->cancelled) (void)eventfd_read(job->event_fd, &count);
}

int weir_job_has_body(weir_job *job) {
    pthread_mutex_lock(&job->worker->lock);
    bool over = job->body_ended && buffer_size(&job->body) == 0;
    if (over) tell_end(job);
    pthread_mutex_unlock(&job->worker->lock);
    return !over;
}

static bool nothing_yet(const struct weir_job *job) {
    return buffer_size(&job->body) == 0 && !job->body_ended && !job->body_cut && !job->cancelled;
}

/* Under the lock, and not with nothing there. */
static ptrdiff_t take(struct weir_job *job, void *bytes, size_t size) {
    size_t n = buffer_size(&job->body);
    if (n > size) n = size;
    if (job->body_cut) return WEIR_ECUT;
    if (n == 0) return job->body_ended ? 0 : WEIR_ECANCELLED;
    memcpy(bytes, buffer_slice(&job->body).p, n);
    consumed(job, n);
    return (ptrdiff_t)n;
}

ptrdiff_t weir_job_body_read(weir_job *job, void *bytes, size_t size) {
    struct weir_worker *w = job->worker;
    pthread_mutex_lock(&w->lock);
    while (nothing_yet(job)) pthread_cond_wait(&job->changed, &w->lock);
    ptrdiff_t result = take(job, bytes, size);
    if (result == 0) tell_end(job);
    pthread_mutex_unlock(&w->lock);
    return result;
}

ptrdiff_t weir_job_body_poll(weir_job *job, void *bytes, size_t size) {
    struct weir_worker *w = job->worker;
    eventfd_t count;
    pthread_mutex_lock(&w->lock);
    ptrdiff_t result = nothing_yet(job) ? WEIR_EAGAIN : take(job, bytes, size);
    if (result == WEIR_EAGAIN && job->event_fd >= 0) (void)eventfd_read(job->event_fd, &count);
    if (result == 0) tell_end(job);
    pthread_mutex_unlock(&w->lock);
    return result;
}

int weir_job_fd(weir_job *job) {
    struct weir_worker *w = job->worker;
    pthread_mutex_lock(&w->lock);
    if (job->event_fd < 0)
        job->event_fd = eventfd(nothing_yet(job) || (job->end_told && !job->cancelled) ? 0 : 1,
                                EFD_CLOEXEC | EFD_NONBLOCK);
    int fd = job->event_fd;
    pthread_mutex_unlock(&w->lock);
    return fd < 0 ? WEIR_EIO : fd;
}

int weir_job_body(weir_job *job, const char **ret_body, size_t *ret_size) {
    enum { PIECE = 64 * 1024 };
    size_t limit = job->worker->max_body;
    struct buffer *b = &job->gathered;
    for (;;) {
        char *room = buffer_reserve(b, PIECE + 1);
        if (!room) return WEIR_ENOMEM;
        ptrdiff_t n = weir_job_body_read(job, room, PIECE);
        if (n < 0) return (int)n;
        room[n] = '\0';
        if (n == 0) break;
        buffer_commit(b, (size_t)n);
        if (buffer_size(b) > limit) return WEIR_ETOOBIG;
    }
    *ret_body = b->data + b->start;
    *ret_size = buffer_size(b);
    return 0;
}
