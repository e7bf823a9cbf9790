/* SPDX-License-Identifier: Apache-2.0 */
/* A blocking GET on a socket of its own; "Connection: close", so that the end of the answer is plain. */
#include "cli/fetch.h"

#include "io/stream.h"
#include "wire/http1.h"

#include <errno.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include <weir/weir.h>

enum { HEAD_MOST = 64 * 1024, BODY_MOST = 64 * 1024 * 1024 };

/* A connected socket, or -1. Linux lets SO_SNDTIMEO bound connect too. */
static int dial(int family, const struct sockaddr *to, socklen_t size, unsigned timeout_ms) {
    struct timeval limit = {.tv_sec = timeout_ms / 1000, .tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000};
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(fd, to, size) == 0) return fd;
    close(fd);
    return -1;
}

static int dial_address(const struct io_address *a, unsigned timeout_ms) {
    if (a->is_unix) {
        struct sockaddr_un to = {.sun_family = AF_UNIX};
        memcpy(to.sun_path, a->path, sizeof to.sun_path);
        return dial(AF_UNIX, (struct sockaddr *)&to, sizeof to, timeout_ms);
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    if (getaddrinfo(a->host[0] ? a->host : NULL, a->port, &hints, &found)) return -1;
    int fd = -1;
    for (struct addrinfo *i = found; i && fd < 0; i = i->ai_next)
        fd = dial(i->ai_family, i->ai_addr, i->ai_addrlen, timeout_ms);
    freeaddrinfo(found);
    return fd;
}

static int send_all(int fd, struct slice s) {
    while (s.n > 0) {
        ssize_t n = send(fd, s.p, s.n, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return WEIR_ECLOSED;
        s = (struct slice){s.p + n, s.n - (size_t)n};
    }
    return 0;
}

static int send_request(int fd, const char *host, const char *path) {
    struct buffer out;
    buffer_init(&out);
    int err = buffer_printf(&out, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, host);
    if (!err) err = send_all(fd, buffer_slice(&out));
    buffer_fini(&out);
    return err;
}

/* Appends what comes next: a count, 0 at the end, or a WEIR_E*. */
static ptrdiff_t receive(int fd, struct buffer *in) {
    char *room = buffer_reserve(in, 16 * 1024);
    if (!room) return WEIR_ENOMEM;
    ssize_t n;
    do n = recv(fd, room, 16 * 1024, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? WEIR_ETIMEDOUT : WEIR_ECLOSED;
    buffer_commit(in, (size_t)n);
    return n;
}

static int read_head(int fd, struct buffer *in, struct arena *arena, struct http_head *head) {
    size_t scanned = 0;
    ptrdiff_t size;
    while ((size = http1_scan(buffer_slice(in), &scanned, HEAD_MOST)) == 0) {
        ptrdiff_t n = receive(fd, in);
        if (n <= 0) return n ? (int)n : WEIR_ECLOSED;
    }
    if (size < 0) return WEIR_EMALFORMED;
    int err = http1_response((struct slice){buffer_slice(in).p, (size_t)size}, arena, head, NULL);
    if (!err) buffer_consume(in, (size_t)size);
    return err;
}

static int read_body(int fd, struct buffer *in, const struct http_head *head, struct buffer *body) {
    struct http1_body framing;
    http1_body_init(&framing, head, SLICE("GET"));
    while (!framing.done) {
        struct slice payload = {0};
        ptrdiff_t used = http1_body_next(&framing, buffer_slice(in), &payload);
        if (used < 0) return (int)used;
        if (payload.n && buffer_append_slice(body, payload)) return WEIR_ENOMEM;
        if (buffer_size(body) > BODY_MOST) return WEIR_ETOOBIG;
        buffer_consume(in, (size_t)used);
        if (used > 0 || framing.done) continue;
        ptrdiff_t n = receive(fd, in);
        if (n < 0) return (int)n;
        if (n == 0) return http1_body_eof(&framing);
    }
    return 0;
}

static int read_answer(int fd, unsigned *ret_status, struct buffer *body) {
    struct buffer in;
    struct arena arena;
    struct http_head head;
    buffer_init(&in);
    arena_init(&arena, 4 * HEAD_MOST, NULL, 0);
    int err = read_head(fd, &in, &arena, &head);
    if (!err) err = read_body(fd, &in, &head, body);
    if (!err) *ret_status = head.status;
    arena_fini(&arena);
    buffer_fini(&in);
    return err;
}

int fetch(const char *address, const char *path, unsigned timeout_ms, unsigned *ret_status,
          struct buffer *body) {
    struct io_address to;
    if (io_address_parse(address, &to)) return WEIR_EINVAL;
    int fd = dial_address(&to, timeout_ms);
    if (fd < 0) return WEIR_ECONNECT;
    int err = send_request(fd, to.is_unix ? "localhost" : address, path);
    if (!err) err = read_answer(fd, ret_status, body);
    close(fd);
    return err;
}
