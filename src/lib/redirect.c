/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Redirected answers (docs/protocol.md "Bulk answers"). The body goes into a file without a name, and a
 * thread of the worker serves it at /TOKEN, 192 random bits, to the first who asks; it may be read while it
 * is still being written. HEAD and ranges do not use it up. The job's handler, and with it the slot, waits
 * until the body has been fetched or has expired.
 *
 * Entries are shared between a handler's thread and the serving one, under the worker's lock; the file is
 * written by the one and read by the other, at offsets that the lock has made known.
 */
#include "lib/redirect.h"
#include "base/random.h"
#include "lib/worker.h"
#include "wire/http1.h"
#include "wire/problem.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    TOKEN_BITS = 192,
    TOKEN_SIZE = TOKEN_BITS / 4,
    CONNECTIONS = 256,
    PIECE = 64 * 1024,
    HEAD_MOST = 16 * 1024,
    HEAD_MS = 10000, /* for a client to send its request */
    IDLE_MS = 60000, /* without a byte taken */
    THRESHOLD = 1024 * 1024,
    EXPIRY_MS = 20000
};

/* A body that waits to be fetched. */
struct redirect {
    struct list node; /* among the worker's, until it is done */
    struct weir_job *job;
    char token[TOKEN_SIZE + 1];
    unsigned refs; /* the job, and connections that read it */
    int file;
    uint64_t size, length; /* written; as the handler has promised */
    bool has_length, complete, claimed, done;
    uint64_t expires_ms;
    char *fields; /* of the answer, as text */
};

struct connection {
    int fd;
    struct buffer in, out;
    size_t scanned;
    struct redirect *redirect; /* a reference; NULL: none yet */
    uint64_t at, end;          /* what is to be sent; end UINT64_MAX: as far as it goes */
    bool consumes, chunked, waiting, http10, closing;
    char range[64]; /* asked for while waiting; "" for the whole */
    uint64_t due_ms;
};

struct redirects {
    int listener, wake;
    char *base; /* of the addresses, "http://HOST:PORT" */
    size_t threshold;
    unsigned expiry_ms;
    pthread_t thread;
    bool running, stop;
    struct list entries;
    struct connection *connections[CONNECTIONS];
    unsigned count;
};

/* ---- entries; all under the lock ---- */

static void unref(struct redirect *r) {
    if (--r->refs > 0) return;
    if (r->file >= 0) close(r->file);
    free(r->fields);
    free(r);
}

/* Nobody else gets it. */
static void finish(struct redirect *r) {
    if (r->done) return;
    r->done = true;
    list_del(&r->node);
    if (r->job) job_changed(r->job);
}

static void wake(struct redirects *all) {
    (void)eventfd_write(all->wake, 1);
}

/* ---- the job's side ---- */

bool redirect_allowed(const weir_job *job, unsigned status) {
    if (!job->worker->redirects || status != 200) return false;
    struct slice type = head_get_name(&job->answer, SLICE("content-type"));
    return !head_get_name(&job->answer, SLICE("weir-forward")).p &&
           !head_get_name(&job->answer, SLICE("weir-scatter")).p &&
           !head_get_name(&job->head, SLICE("weir-part")).p && /* who gathers does not fetch */
           !head_has(&job->head, HEAD_WEIR_DURABLE) &&         /* nor does who stores */
           !slice_eq(job->head.method, SLICE("HEAD")) &&
           !(type.n >= 17 && memcmp(type.p, "text/event-stream", 17) == 0);
}

size_t redirect_threshold(const weir_job *job) {
    return job->worker->redirects->threshold;
}

static int make_token(char token[TOKEN_SIZE + 1]) {
    unsigned char bits[TOKEN_BITS / 8];
    if (getrandom(bits, sizeof bits, 0) != (ssize_t)sizeof bits) return WEIR_EIO;
    for (size_t i = 0; i < sizeof bits; i++) snprintf(token + 2 * i, 3, "%02x", bits[i]);
    return 0;
}

static char *fields_text(const struct http_head *head) {
    struct buffer b;
    buffer_init(&b);
    int err = 0;
    for (unsigned i = 0; i < head->count && !err; i++)
        err = buffer_printf(&b, "%.*s: %.*s\r\n", SLICE_ARG(field_name(&head->fields[i])),
                            SLICE_ARG(field_value(&head->fields[i])));
    char *text = err ? NULL : strndup(buffer_size(&b) ? buffer_slice(&b).p : "", buffer_size(&b));
    buffer_fini(&b);
    return text;
}

static int open_file(void) {
    const char *directory = getenv("TMPDIR");
    int fd = open(directory && *directory ? directory : "/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return fd >= 0 ? fd : open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

static struct redirect *redirect_new(struct weir_job *job) {
    struct redirect *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    *r = (struct redirect){.job = job, .refs = 1, .has_length = job->has_length, .length = job->length};
    list_init(&r->node);
    r->file = open_file();
    r->fields = fields_text(&job->answer);
    if (r->file >= 0 && r->fields && make_token(r->token) == 0) return r;
    unref(r);
    return NULL;
}

int redirect_begin(weir_job *job) {
    struct weir_worker *w = job->worker;
    struct redirects *all = w->redirects;
    struct redirect *r = redirect_new(job);
    char location[400];
    if (!r) return WEIR_EIO;
    snprintf(location, sizeof location, "%s/%s", all->base, r->token);
    r->expires_ms = worker_now_ms() + all->expiry_ms;
    pthread_mutex_lock(&w->lock);
    struct uplink *l = job->link; /* which the answer may part it from */
    int err = session_redirect(job, location);
    if (err == 0) {
        job->redirect = r;
        list_push_back(&all->entries, &r->node);
        l->via->flush(l);
    } else {
        unref(r);
    }
    pthread_mutex_unlock(&w->lock);
    wake(all);
    return err;
}

int redirect_write(weir_job *job, const void *bytes, size_t size) {
    struct weir_worker *w = job->worker;
    struct redirect *r = job->redirect;
    for (const char *p = bytes; size > 0;) {
        ssize_t n = pwrite(r->file, p, size, (off_t)r->size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return WEIR_EIO;
        p += n;
        size -= (size_t)n;
        pthread_mutex_lock(&w->lock);
        r->size += (uint64_t)n;
        bool over = r->done;
        pthread_mutex_unlock(&w->lock);
        wake(w->redirects);
        if (over) return WEIR_ECANCELLED;
    }
    return 0;
}

int redirect_end(weir_job *job) {
    struct weir_worker *w = job->worker;
    struct redirect *r = job->redirect;
    pthread_mutex_lock(&w->lock);
    if (!r->has_length || r->length == r->size) r->complete = true;
    if (!r->complete) finish(r);
    wake(w->redirects);
    while (!r->done) pthread_cond_wait(&job->changed, &w->lock);
    bool complete = r->complete;
    pthread_mutex_unlock(&w->lock);
    return complete ? 0 : WEIR_ECUT;
}

void redirect_over(weir_job *job) {
    struct redirect *r = job->redirect;
    if (!r) return;
    job->redirect = NULL;
    r->job = NULL;
    finish(r);
    unref(r);
    wake(job->worker->redirects);
}

void redirects_cancel(struct weir_worker *w) {
    if (!w->redirects) return;
    LIST_FOR (node, &w->redirects->entries) {
        struct redirect *r = CONTAINER_OF(node, struct redirect, node);
        if (r->job) job_cancel(r->job);
        finish(r);
    }
}

/* ---- the clients' side: answers; under the lock ---- */

static void answer_problem(struct connection *c, unsigned status, const char *detail) {
    struct buffer body;
    buffer_init(&body);
    struct problem p = {.status = status, .detail = slice_of(detail)};
    if (problem_write(&body, &p) == 0)
        (void)buffer_printf(
            &c->out,
            "HTTP/1.1 %u %s\r\ncontent-type: application/problem+json\r\ncontent-length: %zu\r\n"
            "connection: close\r\n\r\n%.*s",
            status, status_text(status), buffer_size(&body), SLICE_ARG(buffer_slice(&body)));
    buffer_fini(&body);
    c->at = c->end = 0;
    c->closing = true;
}

static void put_head(struct connection *c, unsigned status, const char *more) {
    (void)buffer_printf(&c->out, "HTTP/1.1 %u %s\r\n%s%saccept-ranges: bytes\r\nconnection: close\r\n\r\n",
                        status, status_text(status), c->redirect->fields, more);
}

/* One range of a body whose size is known (RFC 9110 14.1.2); others are answered with 416. */
static void answer_range(struct connection *c) {
    uint64_t size = c->redirect->size, first = 0, last = UINT64_MAX;
    char more[200];
    struct slice to = slice_of(c->range), from = slice_next(&to, '-');
    to = slice_trim(to);
    bool good =
        from.n ? slice_u64(from, &first) && (to.n == 0 || slice_u64(to, &last)) : slice_u64(to, &last);
    if (good && from.n == 0) {
        first = last < size ? size - last : 0;
        last = size ? size - 1 : 0;
    }
    if (last >= size && size > 0) last = size - 1;
    if (!good || size == 0 || first > last || first >= size) {
        snprintf(more, sizeof more, "content-range: bytes */%llu\r\ncontent-length: 0\r\n",
                 (unsigned long long)size);
        put_head(c, 416, more);
        c->closing = true;
        return;
    }
    snprintf(more, sizeof more, "content-range: bytes %llu-%llu/%llu\r\ncontent-length: %llu\r\n",
             (unsigned long long)first, (unsigned long long)last, (unsigned long long)size,
             (unsigned long long)(last - first + 1));
    put_head(c, 206, more);
    c->at = first;
    c->end = last + 1;
}

static void answer_whole(struct connection *c, bool head_only) {
    struct redirect *r = c->redirect;
    char more[64] = "";
    bool known = r->complete || r->has_length;
    uint64_t length = r->complete ? r->size : r->length;
    if (known)
        snprintf(more, sizeof more, "content-length: %llu\r\n", (unsigned long long)length);
    else if (!c->http10 && !head_only)
        snprintf(more, sizeof more, "transfer-encoding: chunked\r\n");
    put_head(c, 200, more);
    c->chunked = !known && !c->http10;
    c->at = 0;
    c->end = head_only ? 0 : known ? length : UINT64_MAX;
    c->closing = head_only;
    c->consumes = !head_only;
    if (c->consumes) r->claimed = true;
}

static struct redirect *find(struct redirects *all, struct slice token) {
    LIST_FOR (node, &all->entries) {
        struct redirect *r = CONTAINER_OF(node, struct redirect, node);
        if (slice_eq(token, slice_of(r->token)) && !r->claimed && !r->done) return r;
    }
    return NULL;
}

static bool is_token(struct slice s) {
    for (size_t i = 0; i < s.n; i++)
        if (!((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'a' && s.p[i] <= 'f'))) return false;
    return s.n == TOKEN_SIZE;
}

static void answer(struct redirects *all, struct connection *c, const struct http_head *head) {
    bool get = slice_eq(head->method, SLICE("GET")), head_only = slice_eq(head->method, SLICE("HEAD"));
    struct slice token = {head->target.p + 1, head->target.n - 1},
                 range = head_get_name(head, SLICE("range"));
    c->http10 = head->http10;
    if (!is_token(token)) {
        answer_problem(c, 404, "there is nothing here");
        return;
    }
    if (!get && !head_only) {
        answer_problem(c, 405, "it is fetched with GET");
        return;
    }
    struct redirect *r = find(all, token);
    if (!r) {
        answer_problem(c, 410, "it has been fetched, or has expired");
        return;
    }
    c->redirect = r;
    r->refs++;
    bool one = get && range.n > 6 && range.n - 6 < sizeof c->range && memcmp(range.p, "bytes=", 6) == 0;
    if (one) {
        memcpy(c->range, range.p + 6, range.n - 6);
        c->range[range.n - 6] = '\0';
        c->waiting = true; /* until its size is known */
    } else {
        answer_whole(c, head_only);
    }
}

/* ---- connections; only the serving thread ---- */

static void connection_free(struct weir_worker *w, struct connection *c) {
    pthread_mutex_lock(&w->lock);
    if (c->redirect && c->consumes) finish(c->redirect); /* fetched, or its client has gone */
    if (c->redirect) unref(c->redirect);
    pthread_mutex_unlock(&w->lock);
    close(c->fd);
    buffer_fini(&c->in);
    buffer_fini(&c->out);
    free(c);
}

static void accept_all(struct redirects *all) {
    while (all->count < CONNECTIONS) {
        int fd = accept4(all->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct connection *c = fd >= 0 ? calloc(1, sizeof *c) : NULL;
        if (!c) {
            if (fd >= 0) close(fd);
            return;
        }
        c->fd = fd;
        c->due_ms = worker_now_ms() + HEAD_MS;
        buffer_init(&c->in);
        buffer_init(&c->out);
        all->connections[all->count++] = c;
    }
}

/* False: the connection is over. */
static bool read_request(struct weir_worker *w, struct connection *c) {
    char bytes[4096];
    ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    if (n == 0) return c->redirect || c->closing; /* a half-close is fine once it has asked */
    if (c->redirect || c->closing) return true;   /* one request each */
    if (buffer_append(&c->in, bytes, (size_t)n) != 0) return false;
    ptrdiff_t size = http1_scan(buffer_slice(&c->in), &c->scanned, HEAD_MOST);
    if (size == 0) return true;
    struct arena arena;
    struct http_head head = {0};
    arena_init(&arena, 4 * HEAD_MOST, NULL, 0);
    int err = size < 0
                  ? (int)size
                  : http1_request((struct slice){buffer_slice(&c->in).p, (size_t)size}, &arena, &head, NULL);
    pthread_mutex_lock(&w->lock);
    if (err != 0)
        answer_problem(c, 400, weir_strerror(err));
    else
        answer(w->redirects, c, &head);
    pthread_mutex_unlock(&w->lock);
    arena_fini(&arena);
    c->due_ms = worker_now_ms() + IDLE_MS;
    return true;
}

enum next { SEND_MORE, SEND_LAST, SEND_WAIT, SEND_CUT };

/* What is to be sent next: *ret_size bytes from c->at. */
static enum next look(struct weir_worker *w, struct connection *c, uint64_t *ret_size) {
    struct redirect *r = c->redirect;
    pthread_mutex_lock(&w->lock);
    if (c->waiting && r->complete && !r->done) {
        c->waiting = false;
        answer_range(c);
    }
    uint64_t end = r->size < c->end ? r->size : c->end;
    *ret_size = end > c->at ? end - c->at : 0;
    bool over = c->at >= c->end || (c->end == UINT64_MAX && r->complete && c->at >= r->size);
    bool cut = r->done && !over && (!c->consumes || !r->complete) && !(r->complete && c->end != UINT64_MAX);
    pthread_mutex_unlock(&w->lock);
    if (c->waiting) return cut ? SEND_CUT : SEND_WAIT;
    return *ret_size > 0 ? SEND_MORE : over || c->closing ? SEND_LAST : cut ? SEND_CUT : SEND_WAIT;
}

/* Puts the next bytes of the body into out: false when there are none now, with *ret_over when none come. */
static bool fill(struct weir_worker *w, struct connection *c, bool *ret_over) {
    char bytes[PIECE];
    uint64_t size = 0;
    *ret_over = true;
    if (!c->redirect) return false;
    switch (look(w, c, &size)) {
    case SEND_MORE: {
        ssize_t n = pread(c->redirect->file, bytes, size < PIECE ? (size_t)size : PIECE, (off_t)c->at);
        if (n <= 0) return false;
        c->at += (uint64_t)n;
        struct slice s = {bytes, (size_t)n};
        return (c->chunked ? http1_write_chunk(&c->out, s) : buffer_append_slice(&c->out, s)) == 0;
    }
    case SEND_LAST:
        if (!c->chunked) return buffer_size(&c->out) > 0;
        c->chunked = false;
        return http1_write_last_chunk(&c->out) == 0;
    case SEND_WAIT:
        *ret_over = false;
        return buffer_size(&c->out) > 0;
    case SEND_CUT:
        break;
    }
    return false;
}

/* Sends what there is; false: the connection is over. */
static bool send_on(struct weir_worker *w, struct connection *c) {
    if (!c->redirect && !c->closing) return true; /* it has not asked yet */
    for (;;) {
        bool over;
        if (buffer_size(&c->out) == 0 && !fill(w, c, &over)) return !over;
        struct slice s = buffer_slice(&c->out);
        ssize_t n = send(c->fd, s.p, s.n, MSG_NOSIGNAL);
        if (n < 0) return errno == EAGAIN || errno == EINTR;
        buffer_consume(&c->out, (size_t)n);
        c->due_ms = worker_now_ms() + IDLE_MS;
        if (buffer_size(&c->out) == 0 && c->closing) return false;
    }
}

static void expire(struct weir_worker *w, uint64_t now_ms) {
    pthread_mutex_lock(&w->lock);
    LIST_FOR (node, &w->redirects->entries) {
        struct redirect *r = CONTAINER_OF(node, struct redirect, node);
        if (r->claimed || r->expires_ms > now_ms) continue;
        if (r->job && !r->complete) job_cancel(r->job);
        finish(r);
    }
    pthread_mutex_unlock(&w->lock);
}

static bool has_output(const struct connection *c) {
    return buffer_size(&c->out) > 0;
}

static void serve_all(struct weir_worker *w, struct pollfd *fds) {
    struct redirects *all = w->redirects;
    uint64_t now_ms = worker_now_ms();
    eventfd_t count;
    (void)eventfd_read(all->wake, &count);
    unsigned kept = 0, before = all->count;
    for (unsigned i = 0; i < before; i++) {
        struct connection *c = all->connections[i];
        bool alive = !(fds[i + 2].revents & (POLLIN | POLLHUP | POLLERR)) || read_request(w, c);
        if (alive) alive = send_on(w, c) && now_ms < c->due_ms;
        if (alive)
            all->connections[kept++] = c;
        else
            connection_free(w, c);
    }
    all->count = kept;
    if (fds[0].revents) accept_all(all);
    expire(w, now_ms);
}

static void *serve(void *arg) {
    struct weir_worker *w = arg;
    struct redirects *all = w->redirects;
    struct pollfd fds[CONNECTIONS + 2];
    while (!__atomic_load_n(&all->stop, __ATOMIC_ACQUIRE)) {
        fds[0] = (struct pollfd){.fd = all->count < CONNECTIONS ? all->listener : -1, .events = POLLIN};
        fds[1] = (struct pollfd){.fd = all->wake, .events = POLLIN};
        for (unsigned i = 0; i < all->count; i++) {
            const struct connection *c = all->connections[i];
            bool asked = c->redirect || c->closing;
            fds[i + 2] = (struct pollfd){.fd = c->fd,
                                         .events = (short)(has_output(c) ? POLLOUT
                                                           : asked       ? 0
                                                                         : POLLIN)};
        }
        (void)poll(fds, all->count + 2, 100);
        serve_all(w, fds);
    }
    while (all->count > 0) connection_free(w, all->connections[--all->count]);
    return NULL;
}

/* ---- the worker's side ---- */

static int listen_on(const char *text, char **ret_base) {
    struct io_address a;
    struct sockaddr_storage sa;
    socklen_t size;
    int one = 1;
    if (io_address_parse(text, &a) != 0 || a.is_unix) return WEIR_EINVAL;
    if (io_address_resolve(&a, true, 0, &sa, &size) != 0) return WEIR_EINVAL;
    int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return WEIR_EIO;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&sa, size) != 0 || listen(fd, 128) != 0 ||
        getsockname(fd, (struct sockaddr *)&sa, &size) != 0) {
        close(fd);
        return WEIR_EIO;
    }
    unsigned port = ntohs(sa.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&sa)->sin6_port
                                                   : ((struct sockaddr_in *)&sa)->sin_port);
    char host[256] = "";
    bool any = a.host[0] == '\0' || strcmp(a.host, "0.0.0.0") == 0 || strcmp(a.host, "::") == 0;
    if (any) (void)gethostname(host, sizeof host - 1);
    bool v6 = !any && strchr(a.host, ':');
    if (asprintf(ret_base, "http://%s%s%s:%u", v6 ? "[" : "", any ? host : a.host, v6 ? "]" : "", port) < 0) {
        close(fd);
        return WEIR_ENOMEM;
    }
    return fd;
}

int redirects_open(struct weir_worker *w, const weir_worker_options *o) {
    if (!o->redirect) return 0;
    struct redirects *all = calloc(1, sizeof *all);
    if (!all) return WEIR_ENOMEM;
    w->redirects = all;
    list_init(&all->entries);
    all->threshold = o->redirect_over ? o->redirect_over : THRESHOLD;
    all->expiry_ms = o->redirect_ms ? o->redirect_ms : EXPIRY_MS;
    all->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    all->listener = listen_on(o->redirect, &all->base);
    if (all->listener < 0) return all->listener;
    if (o->redirect_url) {
        free(all->base);
        size_t n = strlen(o->redirect_url);
        while (n > 0 && o->redirect_url[n - 1] == '/') n--;
        all->base = strndup(o->redirect_url, n);
    }
    return all->wake < 0 || !all->base || strlen(all->base) > 300 ? WEIR_EIO : 0;
}

int redirects_start(struct weir_worker *w) {
    struct redirects *all = w->redirects;
    if (!all) return 0;
    all->stop = false;
    all->running = pthread_create(&all->thread, NULL, serve, w) == 0;
    return all->running ? 0 : WEIR_ENOMEM;
}

void redirects_stop(struct weir_worker *w) {
    struct redirects *all = w->redirects;
    if (!all || !all->running) return;
    __atomic_store_n(&all->stop, true, __ATOMIC_RELEASE);
    wake(all);
    pthread_join(all->thread, NULL);
    all->running = false;
}

void redirects_free(struct weir_worker *w) {
    struct redirects *all = w->redirects;
    if (!all) return;
    if (all->listener >= 0) close(all->listener);
    if (all->wake >= 0) close(all->wake);
    free(all->base);
    free(all);
    w->redirects = NULL;
}
