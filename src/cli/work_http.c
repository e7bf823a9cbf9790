/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An HTTP server as a pulling worker: each job is asked of it as an HTTP/1.1 request, and its answer streamed
 * back. Connections to it are kept for the next job. A handler's thread runs one poll loop over the
 * connection and the job.
 */
#include "base/buffer.h"
#include "cli/work.h"
#include "io/stream.h"
#include "wire/http1.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PIECE = 64 * 1024, HEAD_MOST = 64 * 1024, KEPT_MOST = 64 };

struct work_upstream {
    struct io_address address;
    char *prefix; /* put before the target's path; "" mostly */
    pthread_mutex_t lock;
    int kept[KEPT_MOST]; /* connections that wait */
    unsigned kept_count;
};

/* One try at one connection. */
struct call {
    struct work *work;
    weir_job *job;
    int fd;
    struct buffer out, in;
    struct http_head head;
    struct http1_body body;
    struct arena arena;
    size_t scanned;
    bool chunked, body_over, head_done, begun, refuses; /* refuses: it reads no more of the request */
    bool touched; /* it has answered something, or taken some of a body */
    const char *why;
};

static int bad_url(struct work *w, const char *url) {
    return cli_wrong(w->cli, "--http is http://HOST[:PORT][/PREFIX] or unix:PATH, not \"%s\"", url);
}

int work_http_prepare(struct work *w, const char *url) {
    struct work_upstream *u = calloc(1, sizeof *u);
    if (!u) return CLI_FAILED;
    w->upstream = u;
    pthread_mutex_init(&u->lock, NULL);
    if (strncmp(url, "unix:", 5) == 0) {
        u->prefix = strdup("");
        return io_address_parse(url, &u->address) == 0 ? -1 : bad_url(w, url);
    }
    if (strncmp(url, "http://", 7) != 0) return bad_url(w, url);
    const char *host = url + 7, *path = strchrnul(host, '/');
    size_t prefix = strlen(path);
    while (prefix > 0 && path[prefix - 1] == '/') prefix--;
    struct slice authority = {host, (size_t)(path - host)};
    const char *colon = authority.n ? memrchr(host, ':', authority.n) : NULL;
    bool port = colon && !memchr(colon, ']', authority.n - (size_t)(colon - host));
    char text[300];
    int n = snprintf(text, sizeof text, "%.*s%s", SLICE_ARG(authority), port ? "" : ":80");
    u->prefix = strndup(path, prefix);
    bool good = n < (int)sizeof text && authority.n > 0 && u->prefix &&
                (prefix == 0 || text_is_target(slice_of(u->prefix)));
    return good && io_address_parse(text, &u->address) == 0 ? -1 : bad_url(w, url);
}

void work_http_fini(struct work *w) {
    struct work_upstream *u = w->upstream;
    if (!u) return;
    while (u->kept_count > 0) close(u->kept[--u->kept_count]);
    pthread_mutex_destroy(&u->lock);
    free(u->prefix);
    free(u);
    w->upstream = NULL;
}

/* ---- connections ---- */

static bool quiet(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 0; /* no bytes, no end */
}

/* A connection that waits and is still there; -1: none. */
static int take_kept(struct work_upstream *u) {
    int fd = -1;
    pthread_mutex_lock(&u->lock);
    while (fd < 0 && u->kept_count > 0) {
        fd = u->kept[--u->kept_count];
        if (quiet(fd)) break;
        close(fd);
        fd = -1;
    }
    pthread_mutex_unlock(&u->lock);
    return fd;
}

static void keep(struct work_upstream *u, int fd) {
    pthread_mutex_lock(&u->lock);
    bool room = u->kept_count < KEPT_MOST;
    if (room) u->kept[u->kept_count++] = fd;
    pthread_mutex_unlock(&u->lock);
    if (!room) close(fd);
}

/* Connects, looking at the job meanwhile. -1 with errno. */
static int dial(const struct io_address *to, weir_job *job, unsigned index) {
    struct sockaddr_storage sa;
    socklen_t size;
    int one = 1, err = 0;
    if (io_address_resolve(to, false, index, &sa, &size) != 0) {
        errno = EADDRNOTAVAIL;
        return -1;
    }
    int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    if (!to->is_unix) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&sa, size) == 0) return fd;
    err = errno;
    while (err == EINPROGRESS && !weir_job_cancelled(job)) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        if (poll(&p, 1, 50) <= 0) continue;
        socklen_t n = sizeof err;
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &n) == 0 && err == 0) return fd;
    }
    close(fd);
    errno = err;
    return -1;
}

static int dial_any(const struct io_address *to, weir_job *job) {
    int first = 0;
    for (unsigned i = 0; i < 8; i++) {
        int fd = dial(to, job, i);
        if (fd >= 0 || weir_job_cancelled(job)) return fd;
        if (errno == EADDRNOTAVAIL && i > 0) break;
        if (first == 0) first = errno;
    }
    errno = first;
    return -1;
}

/* ---- the request ---- */

static bool passes(const char *name) {
    enum head_name id = head_name_id(slice_of(name));
    return !head_name_hop_by_hop(id) && id != HEAD_TE;
}

/* The target without --strip's prefix, if it has that in front. */
static const char *target_of(const struct call *c) {
    const char *target = weir_job_target(c->job), *strip = c->work->strip ? c->work->strip : "";
    size_t n = strlen(strip);
    while (n > 0 && strip[n - 1] == '/') n--;
    bool has = strncmp(target, strip, n) == 0 && (target[n] == '\0' || target[n] == '/' || target[n] == '?');
    return has ? target + n : target;
}

static int write_head(struct call *c) {
    const char *name, *value, *target = target_of(c);
    bool length = false;
    int err = buffer_printf(&c->out, "%s %s%s%s HTTP/1.1\r\n", weir_job_method(c->job),
                            c->work->upstream->prefix, *target == '/' ? "" : "/", target);
    for (size_t i = 0; !err && weir_job_header_at(c->job, i, &name, &value) == 0; i++) {
        length |= strcmp(name, "content-length") == 0;
        if (passes(name)) err = buffer_printf(&c->out, "%s: %s\r\n", name, value);
    }
    c->chunked = !length && !c->body_over;
    if (c->chunked && !err) err = buffer_printf(&c->out, "transfer-encoding: chunked\r\n");
    return err ? err : buffer_append(&c->out, "\r\n", 2);
}

/* Gathers the next of the request's body. */
static int gather(struct call *c) {
    char bytes[PIECE];
    while (!c->body_over && buffer_size(&c->out) < PIECE) {
        ptrdiff_t n = weir_job_body_poll(c->job, bytes, sizeof bytes);
        if (n == WEIR_EAGAIN) return 0;
        if (n < 0) return (int)n;
        int err = 0;
        c->body_over = n == 0;
        if (n > 0) c->touched = true;
        if (c->refuses) continue;
        if (n > 0 && c->chunked)
            err = http1_write_chunk(&c->out, (struct slice){bytes, (size_t)n});
        else if (n > 0)
            err = buffer_append(&c->out, bytes, (size_t)n);
        else if (c->chunked)
            err = http1_write_last_chunk(&c->out);
        if (err != 0) return err;
    }
    return 0;
}

static void send_out(struct call *c) {
    while (buffer_size(&c->out) > 0) {
        struct slice s = buffer_slice(&c->out);
        ssize_t n = send(c->fd, s.p, s.n, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n < 0) { /* it may have answered all the same */
            c->refuses = true;
            buffer_reset(&c->out);
            return;
        }
        buffer_consume(&c->out, (size_t)n);
    }
}

/* ---- the answer ---- */

static int begin_reply(struct call *c) {
    head_strip_hop_by_hop(&c->head);
    for (unsigned i = 0; i < c->head.count; i++) {
        const struct head_field *f = &c->head.fields[i];
        char name[256], value[65536];
        if (f->name_size >= sizeof name || f->value_size >= sizeof value) return WEIR_EHEADTOOBIG;
        *(char *)mempcpy(name, f->name, f->name_size) = '\0';
        *(char *)mempcpy(value, f->value, f->value_size) = '\0';
        int err = weir_job_set_header(c->job, name, value);
        if (err != 0) return err;
    }
    c->begun = true;
    return weir_reply_begin(c->job, c->head.status, NULL);
}

/* Reads the head: 0 needs more, 1 there, or a negative WEIR_E*. */
static int read_head(struct call *c) {
    struct slice s = buffer_slice(&c->in);
    ptrdiff_t size = http1_scan(s, &c->scanned, HEAD_MOST);
    if (size <= 0) return (int)size;
    c->head = (struct http_head){0};
    int err = http1_response((struct slice){s.p, (size_t)size}, &c->arena, &c->head, &c->why);
    if (err != 0) return err;
    buffer_consume(&c->in, (size_t)size);
    c->scanned = 0;
    if (c->head.status == 101) return WEIR_EBADANSWER;
    if (c->head.status < 200) return 1;
    c->head_done = true;
    http1_body_init(&c->body, &c->head, slice_of(weir_job_method(c->job)));
    err = begin_reply(c);
    return err ? err : 1;
}

/* Goes on with what has been read; 0 or a negative WEIR_E*. */
static int take_answer(struct call *c) {
    while (!c->head_done) {
        int got = read_head(c);
        if (got <= 0) return got;
    }
    while (buffer_size(&c->in) > 0 && !c->body.done) {
        struct slice payload = {0};
        ptrdiff_t n = http1_body_next(&c->body, buffer_slice(&c->in), &payload);
        if (n < 0) return (int)n;
        if (n == 0) break;
        int err = payload.n ? weir_reply_write(c->job, payload.p, payload.n) : 0;
        buffer_consume(&c->in, (size_t)n);
        if (err != 0) return err;
    }
    return 0;
}

/* 1: read something; 0: nothing there; negative: over. */
static int receive(struct call *c) {
    char *room = buffer_reserve(&c->in, PIECE);
    if (!room) return WEIR_ENOMEM;
    ssize_t n = recv(c->fd, room, PIECE, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (n <= 0) {
        if (n == 0 && c->head_done && http1_body_eof(&c->body) == 0) {
            c->body.done = true;
            c->head.keep_alive = false;
            return 1;
        }
        c->why = "it closed the connection";
        return WEIR_ECLOSED;
    }
    c->touched = true;
    buffer_commit(&c->in, (size_t)n);
    int err = take_answer(c);
    return err ? err : 1;
}

static int converse(struct call *c) {
    int job = weir_job_fd(c->job), err = 0;
    while (err >= 0 && !(c->head_done && c->body.done)) {
        if ((err = gather(c)) < 0) break;
        send_out(c);
        bool full = buffer_size(&c->out) > 0;
        struct pollfd fds[] = {{.fd = c->fd, .events = (short)(POLLIN | (full ? POLLOUT : 0))},
                               {.fd = full ? -1 : job, .events = POLLIN}};
        if (poll(fds, 2, full ? 50 : -1) < 0 && errno != EINTR) return WEIR_EIO;
        if (weir_job_cancelled(c->job)) return WEIR_ECANCELLED;
        if (fds[0].revents & (POLLIN | POLLHUP | POLLERR)) err = receive(c);
    }
    return err < 0 ? err : 0;
}

/* One try. WEIR_EAGAIN: a kept connection has been closed; asking again is safe. */
static int try_once(struct call *c, bool kept) {
    int err = write_head(c);
    if (err == 0) err = converse(c);
    bool again = err == 0 && c->body_over && c->head.keep_alive && !c->refuses && buffer_size(&c->in) == 0 &&
                 buffer_size(&c->out) == 0;
    if (again)
        keep(c->work->upstream, c->fd);
    else
        close(c->fd);
    bool stale = kept && !c->touched && method_idempotent(slice_of(weir_job_method(c->job)));
    return err < 0 && stale && err != WEIR_ECANCELLED ? WEIR_EAGAIN : err;
}

static int finish(struct call *c, int err) {
    if (err == 0) return weir_reply_end(c->job);
    if (err == WEIR_ECANCELLED || weir_job_cancelled(c->job)) return WEIR_ECANCELLED;
    work_log(c->work, LOG_WARN, "bad-gateway", "[%s] %s", work_request_id(c->job),
             c->why ? c->why : weir_strerror(err));
    if (c->begun) return WEIR_ECUT;
    return weir_reply_problem(c->job, 502, "the server behind this worker failed: %s",
                              c->why ? c->why : weir_strerror(err));
}

static void call_fini(struct call *c) {
    buffer_fini(&c->out);
    buffer_fini(&c->in);
    arena_fini(&c->arena);
}

int work_http(weir_job *job, void *arg) {
    struct work *w = arg;
    char room[4096];
    /* The server may close a kept connection at any moment: only what is safe to ask twice goes there, once.
     */
    bool may_keep = method_idempotent(slice_of(weir_job_method(job)));
    int err;
    for (;;) {
        struct call c = {.work = w, .job = job, .fd = may_keep ? take_kept(w->upstream) : -1};
        bool kept = c.fd >= 0;
        may_keep = false;
        buffer_init(&c.out);
        buffer_init(&c.in);
        arena_init(&c.arena, 4 * HEAD_MOST, room, sizeof room);
        c.body_over = !weir_job_has_body(job);
        if (!kept) c.fd = dial_any(&w->upstream->address, job);
        if (c.fd < 0) {
            c.why = strerror(errno);
            err = finish(&c, WEIR_ECONNECT);
        } else if ((err = try_once(&c, kept)) != WEIR_EAGAIN) {
            err = finish(&c, err);
        }
        call_fini(&c);
        if (err != WEIR_EAGAIN) return err;
    }
}
