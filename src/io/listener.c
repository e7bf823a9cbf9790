/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets. */
#include "io/private.h"
#include "weir/weir.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

union socket {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
};

struct listener {
    struct io_loop *loop;
    union socket u;
    listener_accept *accept;
    void (*accepted)(struct stream *s);
    void *ctx;
    bool is_unix;
    char address[300];
};

static void on_closed(uv_handle_t *handle) {
    free(handle->data);
}

/* libuv holds an accepted socket until somebody takes it: take it and close it. */
static void refuse(struct listener *l) {
    union socket *socket = malloc(sizeof(*socket));
    if (!socket) return;
    int err =
        l->is_unix ? uv_pipe_init(&l->loop->uv, &socket->pipe, 0) : uv_tcp_init(&l->loop->uv, &socket->tcp);
    if (err != 0) {
        free(socket);
        return;
    }
    socket->handle.data = socket;
    (void)uv_accept(&l->u.stream, &socket->stream);
    uv_close(&socket->handle, on_closed);
}

static void on_connection(uv_stream_t *server, int status) {
    struct listener *l = server->data;
    if (status != 0) return; /* out of descriptors or the like: the next turn tries again */
    struct stream *s = l->accept(l, l->ctx);
    if (!s) {
        refuse(l);
        return;
    }
    if (uv_accept(server, &s->u.stream) != 0) {
        stream_close(s);
        return;
    }
    if (!l->is_unix) {
        uv_tcp_nodelay(&s->u.tcp, 1);
        uv_tcp_keepalive(&s->u.tcp, 1, 60);
    }
    stream_read_start(s);
    if (l->accepted) l->accepted(s);
}

/* A socket file that nobody listens on any more is left from a crash: take it away. */
static void remove_stale(const char *path) {
    struct stat st;
    if (lstat(path, &st) != 0 || !S_ISSOCK(st.st_mode)) return;
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0 && errno == ECONNREFUSED) unlink(path);
    close(fd);
}

static int bind_unix(struct listener *l, const struct io_address *a) {
    remove_stale(a->path);
    snprintf(l->address, sizeof(l->address), "unix:%s", a->path);
    return uv_pipe_bind(&l->u.pipe, a->path);
}

static int bind_tcp(struct listener *l, const struct io_address *a) {
    struct sockaddr_storage sa;
    socklen_t size;
    if (io_address_resolve(a, true, 0, &sa, &size) != 0) return UV_EAI_NONAME;
    return uv_tcp_bind(&l->u.tcp, (struct sockaddr *)&sa, 0);
}

static void note_bound_address(struct listener *l) {
    struct sockaddr_storage sa;
    int n = sizeof(sa);
    if (uv_tcp_getsockname(&l->u.tcp, (struct sockaddr *)&sa, &n) == 0)
        io_sockaddr_text((struct sockaddr *)&sa, l->address, sizeof(l->address));
}

int listener_open(struct io_loop *loop, const char *address, listener_accept *accept, void *ctx,
                  struct listener **ret, const char **ret_text) {
    struct io_address a;
    const char *text = "not an address (HOST:PORT or unix:PATH)";
    if (io_address_parse(address, &a) != 0) {
        if (ret_text) *ret_text = text;
        return WEIR_EINVAL;
    }
    struct listener *l = calloc(1, sizeof(*l));
    if (!l) return WEIR_ENOMEM;
    l->loop = loop;
    l->accept = accept;
    l->ctx = ctx;
    l->is_unix = a.is_unix;
    int err = a.is_unix ? uv_pipe_init(&loop->uv, &l->u.pipe, 0) : uv_tcp_init(&loop->uv, &l->u.tcp);
    if (err != 0) {
        free(l);
        if (ret_text) *ret_text = uv_strerror(err);
        return WEIR_EIO;
    }
    l->u.handle.data = l;
    err = a.is_unix ? bind_unix(l, &a) : bind_tcp(l, &a);
    if (err == 0) err = uv_listen(&l->u.stream, 1024, on_connection);
    if (err != 0) {
        if (ret_text) *ret_text = uv_strerror(err);
        uv_close(&l->u.handle, on_closed);
        return WEIR_EIO;
    }
    if (!a.is_unix) note_bound_address(l);
    *ret = l;
    return 0;
}

void listener_on_accepted(struct listener *l, void (*accepted)(struct stream *s)) {
    l->accepted = accepted;
}

const char *listener_address(const struct listener *l) {
    return l->address;
}

void listener_close(struct listener **l) {
    if (!*l) return;
    uv_close(&(*l)->u.handle, on_closed); /* libuv unlinks the socket file of a pipe that it bound */
    *l = NULL;
}
