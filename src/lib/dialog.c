/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/dialog.h"
#include "base/clock.h"
#include "lib/lookup.h"
#include "weir/weir.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { HEAD_MOST = 64 * 1024, CONNECT_MS = 5000, PIECE = 64 * 1024 };
/* A peer whose machine is gone is noticed while it is waited for: 5 s, then five times 1 s. */
enum { ALIVE_IDLE_S = 5, ALIVE_EVERY_S = 1, ALIVE_TIMES = 5 };

/* ---- where the hub is ---- */

static int copy(char **to, const char *text, size_t n) {
    *to = strndup(text, n);
    return *to ? 0 : WEIR_ENOMEM;
}

static int parse_unix(struct dialog *d, const char *url, const char **ret_path) {
    const char *colon = strstr(url + 5, ":/");
    size_t n = colon ? (size_t)(colon - url) : strlen(url);
    char address[300];
    if (n >= sizeof address) return WEIR_EINVAL;
    memcpy(address, url, n);
    address[n] = '\0';
    *ret_path = colon ? colon + 1 : NULL;
    int err = io_address_parse(address, &d->to);
    return err ? err : copy(&d->host, "localhost", 9);
}

static int parse_http(struct dialog *d, const char *url, const char **ret_path) {
    static const char http[] = "http://";
    bool scheme = strncmp(url, http, sizeof http - 1) == 0;
    if (scheme) url += sizeof http - 1;
    size_t n = strcspn(url, "/");
    const char *colon = memrchr(url, ':', n), *bracket = memrchr(url, ']', n);
    bool port = colon && (!bracket || colon > bracket);
    char address[300];
    if (n == 0 || n > 255 || (url[n] && !scheme) || !text_is_field_value((struct slice){url, n}))
        return WEIR_EINVAL;
    memcpy(address, url, n);
    strcpy(address + n, port ? "" : ":80");
    *ret_path = url[n] ? url + n : NULL;
    int err = io_address_parse(address, &d->to);
    if (err) return err;
    return url[0] == ':' ? copy(&d->host, "localhost", 9) : copy(&d->host, url, n); /* as listeners have it */
}

int dialog_init(struct dialog *d, const char *url, const char *base) {
    const char *path;
    *d = (struct dialog){.fd = -1, .max_body = SIZE_MAX, .silence_ms = UINT64_MAX, .until_ms = UINT64_MAX};
    buffer_init(&d->in);
    int err = copy(&d->url, url, strlen(url));
    if (!err) err = strncmp(url, "unix:", 5) == 0 ? parse_unix(d, url, &path) : parse_http(d, url, &path);
    if (err) return err;
    if (!path) path = base;
    size_t n = strlen(path);
    while (n > 0 && path[n - 1] == '/') n--;
    if (n > 0 && !text_is_target((struct slice){path, n})) return WEIR_EINVAL;
    if (memchr(path, '?', n)) return WEIR_EINVAL;
    return copy(&d->base, path, n);
}

int dialog_set_token(struct dialog *d, const char *token) {
    if (!token || !*token) return 0;
    if (!text_is_field_value(slice_of(token))) return WEIR_EINVAL;
    return copy(&d->token, token, strlen(token));
}

static void hang_up(struct dialog *d) {
    if (d->fd >= 0) close(d->fd);
    d->fd = -1;
    buffer_reset(&d->in);
}

void dialog_close(struct dialog *d) {
    hang_up(d);
    free(d->url);
    free(d->host);
    free(d->base);
    free(d->token);
}

/* ---- waiting ---- */

static uint64_t limit_of(const struct dialog *d, uint64_t ms) {
    uint64_t now = clock_mono_ms(), limit = ms > UINT64_MAX - now ? UINT64_MAX : now + ms;
    return limit < d->until_ms ? limit : d->until_ms;
}

/* The events of poll, or a WEIR_E*. */
static int await(const struct dialog *d, int fd, short events, uint64_t limit_ms) {
    for (;;) {
        if (d->stop && *d->stop) return WEIR_ECANCELLED;
        uint64_t now = clock_mono_ms();
        if (now >= limit_ms) return WEIR_ETIMEDOUT;
        struct timespec left = {.tv_sec = (time_t)((limit_ms - now) / 1000),
                                .tv_nsec = (long)((limit_ms - now) % 1000) * 1000000};
        struct pollfd p = {.fd = fd, .events = events};
        int n = ppoll(&p, 1, &left, d->stop ? &d->unmasked : NULL);
        if (n > 0) return p.revents;
        if (n < 0 && errno != EINTR) return WEIR_EIO;
    }
}

/* ---- the connection ---- */

static int connect_within(const struct dialog *d, int fd, const struct sockaddr *to, socklen_t size,
                          uint64_t limit_ms) {
    while (connect(fd, to, size) != 0) {
        int result, n;
        socklen_t n_size = sizeof n;
        switch (errno) {
        case EISCONN:
            return 0;
        case EINTR:
            continue;
        case EAGAIN: /* a unix socket whose backlog is full; poll does not tell when it has room */
            result = await(d, -1, 0, limit_of(d, 10));
            if (result != WEIR_ETIMEDOUT) return result;
            if (clock_mono_ms() >= limit_ms) return WEIR_ECONNECT;
            continue;
        case EINPROGRESS:
        case EALREADY:
            result = await(d, fd, POLLOUT, limit_ms);
            if (result < 0) return result;
            return getsockopt(fd, SOL_SOCKET, SO_ERROR, &n, &n_size) == 0 && n == 0 ? 0 : WEIR_ECONNECT;
        default:
            return WEIR_ECONNECT;
        }
    }
    return 0;
}

static void set_up(int fd) {
    static const int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    io_keep_alive(fd, ALIVE_IDLE_S, ALIVE_EVERY_S, ALIVE_TIMES);
}

static int dial(struct dialog *d, const struct sockaddr_storage *to, socklen_t size) {
    int fd = socket(to->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return errno == EMFILE || errno == ENFILE ? WEIR_EIO : WEIR_ECONNECT;
    int err = connect_within(d, fd, (const struct sockaddr *)to, size, limit_of(d, CONNECT_MS));
    if (err == WEIR_ETIMEDOUT && clock_mono_ms() < d->until_ms) err = WEIR_ECONNECT; /* only CONNECT_MS */
    if (err) {
        close(fd);
        return err;
    }
    if (to->ss_family != AF_UNIX) set_up(fd);
    d->fd = fd;
    return 0;
}

static int look_up(const struct dialog *d, struct lookup **ret) {
    int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake < 0) return WEIR_EIO;
    struct lookup *l = lookup_start(&d->to, wake);
    uint64_t limit = limit_of(d, d->silence_ms);
    int result = l ? 0 : WEIR_ENOMEM;
    while (result >= 0 && !lookup_done(l)) result = await(d, wake, POLLIN, limit);
    close(wake);
    if (result < 0) {
        lookup_free(&l);
        return result;
    }
    *ret = l;
    return 0;
}

static int call_up(struct dialog *d) {
    struct lookup *l;
    struct sockaddr_storage to;
    socklen_t size;
    int err = look_up(d, &l);
    if (err) return err;
    err = WEIR_ECONNECT;
    for (unsigned i = 0; err == WEIR_ECONNECT && lookup_address(l, i, &to, &size); i++)
        err = dial(d, &to, size);
    lookup_free(&l);
    return err;
}

/* The hub has closed the connection since, or sends what nobody has asked for. */
static bool unusable(const struct dialog *d) {
    char byte;
    ssize_t n = recv(d->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return buffer_size(&d->in) > 0 || n >= 0 || (errno != EAGAIN && errno != EINTR);
}

/* WEIR_ECLOSED: there may be an answer to it nevertheless. */
static int send_all(struct dialog *d, struct slice s, int flags) {
    while (s.n > 0) {
        ssize_t n = send(d->fd, s.p, s.n, MSG_NOSIGNAL | flags);
        if (n >= 0) {
            d->sent = true;
            s = (struct slice){s.p + n, s.n - (size_t)n};
        } else if (errno == EAGAIN) {
            int events = await(d, d->fd, POLLIN | POLLOUT, limit_of(d, d->silence_ms));
            if (events < 0) return events;
            if (!(events & POLLOUT)) return WEIR_ECLOSED; /* it answers before it has read all */
        } else if (errno != EINTR) {
            return WEIR_ECLOSED;
        }
    }
    return 0;
}

/* Appends what comes next: a count, 0 at the end, or a WEIR_E*. */
static ptrdiff_t receive(struct dialog *d) {
    char *room = buffer_reserve(&d->in, PIECE);
    if (!room) return WEIR_ENOMEM;
    for (;;) {
        int events = await(d, d->fd, POLLIN, limit_of(d, d->silence_ms));
        if (events < 0) return events;
        ssize_t n = recv(d->fd, room, PIECE, 0);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n < 0) return WEIR_ECLOSED;
        buffer_commit(&d->in, (size_t)n);
        d->heard = d->heard || n > 0;
        return n;
    }
}

/* ---- one request ---- */

static int send_request(struct dialog *d, const char *method, const char *target, const char *fields,
                        const struct slice *body) {
    struct buffer out;
    buffer_init(&out);
    int err =
        buffer_printf(&out, "%s %s%s HTTP/1.1\r\nHost: %s\r\n%s", method, d->base, target, d->host, fields);
    if (!err && d->token) err = buffer_printf(&out, "Authorization: Bearer %s\r\n", d->token);
    if (!err && body) err = buffer_printf(&out, "Content-Length: %zu\r\n", body->n);
    if (!err) err = buffer_append_slice(&out, SLICE("\r\n"));
    if (!err) err = send_all(d, buffer_slice(&out), body && body->n ? MSG_MORE : 0);
    buffer_fini(&out);
    if (!err && body) err = send_all(d, *body, 0);
    return err;
}

/* The next final head. */
static int read_head(struct dialog *d, struct dialog_answer *a) {
    do {
        size_t scanned = 0;
        ptrdiff_t size;
        while ((size = http1_scan(buffer_slice(&d->in), &scanned, HEAD_MOST)) == 0) {
            ptrdiff_t n = receive(d);
            if (n <= 0) return n ? (int)n : WEIR_ECLOSED;
        }
        if (size < 0) return WEIR_EMALFORMED;
        int err =
            http1_response((struct slice){buffer_slice(&d->in).p, (size_t)size}, &a->arena, &a->head, NULL);
        if (err) return err;
        buffer_consume(&d->in, (size_t)size);
    } while (a->head.status < 200);
    a->status = a->head.status;
    return 0;
}

static int read_body(struct dialog *d, const char *method, struct dialog_answer *a) {
    struct http1_body framing;
    http1_body_init(&framing, &a->head, slice_of(method));
    while (!framing.done) {
        struct slice payload = {0};
        ptrdiff_t used = http1_body_next(&framing, buffer_slice(&d->in), &payload);
        if (used < 0) return (int)used;
        if (payload.n > d->max_body - buffer_size(&a->body)) return WEIR_ETOOBIG;
        if (payload.n && buffer_append_slice(&a->body, payload)) return WEIR_ENOMEM;
        buffer_consume(&d->in, (size_t)used);
        if (used > 0 || framing.done) continue;
        ptrdiff_t n = receive(d);
        if (n < 0) return (int)n;
        if (n == 0) return http1_body_eof(&framing);
    }
    return 0;
}

void dialog_answer_fini(struct dialog_answer *a) {
    arena_fini(&a->arena);
    buffer_fini(&a->body);
}

int dialog_try(struct dialog *d, const char *method, const char *target, const char *fields,
               const struct slice *body, struct dialog_answer *ret) {
    *ret = (struct dialog_answer){0};
    d->sent = d->heard = false;
    if (d->fd >= 0 && unusable(d)) hang_up(d);
    d->kept = d->fd >= 0;
    int err = d->kept ? 0 : call_up(d);
    if (err) return err;
    arena_init(&ret->arena, 4 * HEAD_MOST, NULL, 0);
    int unsent = send_request(d, method, target, fields, body);
    err = unsent && unsent != WEIR_ECLOSED ? unsent : read_head(d, ret);
    if (!err) err = read_body(d, method, ret);
    if (err || unsent || !ret->head.keep_alive) hang_up(d);
    if (err) dialog_answer_fini(ret);
    return err;
}

/* ---- targets ---- */

void dialog_add_text(struct buffer *target, const char *text) {
    for (; *text; text++) {
        bool plain = strchr("-._~", *text) || (*text >= '0' && *text <= '9') ||
                     (*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z');
        (void)buffer_printf(target, plain ? "%c" : "%%%02X", (unsigned char)*text);
    }
}

void dialog_add_segment(struct buffer *target, const char *text) {
    (void)buffer_append_slice(target, SLICE("/"));
    dialog_add_text(target, text);
}
