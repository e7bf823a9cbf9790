/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loop, listeners and byte streams (TCP and unix sockets) on libuv. Everything here belongs to the loop's
 * thread, but io_loop_wake.
 *
 * Output is gathered: stream_out gives the buffer to append to, stream_dirty marks the stream, and once
 * per loop turn, after all events of the turn were handled and the loop's turn hook has run, each dirty
 * stream is written with one system call.
 */
#ifndef IO_STREAM_H
#define IO_STREAM_H

#include "base/buffer.h"
#include "base/list.h"
#include <uv.h>

/* What must be asked before the loop sleeps, because no descriptor tells. */
struct io_source {
    struct list node; /* in io_loop.sources */
    void (*before_sleep)(struct io_source *s);
};

struct io_loop {
    uv_loop_t uv;
    uv_prepare_t prepare;
    uv_idle_t idle;
    uv_async_t async;
    struct list dirty;
    struct list lingering; /* streams that have said goodbye and wait for the peer's FIN */
    struct list sources;
    uv_timer_t linger_timer;
    uv_timer_cb on_linger;
    char *read_buffer;        /* shared: IO_READ_SIZE bytes */
    uint64_t now_us;          /* this turn's time, 0 until asked for; see io_now_us */
    uint64_t wait_us;         /* when the last turn with events ended */
    uint64_t look_us;         /* how long a wait begins with looking; may be set */
    bool hot, looking;        /* see loop.c */
    void (*turn)(void *ctx);  /* once per turn, before the writes; may be NULL */
    void (*woken)(void *ctx); /* after io_loop_wake; may be NULL */
    void *ctx;
};

enum { IO_READ_SIZE = 64 * 1024, IO_WRITE_AHEAD = 64 * 1024 };

/* 0 or a WEIR_E*. */
int io_loop_init(struct io_loop *l);
/* All handles must be closing or closed; runs the loop until they are. */
void io_loop_fini(struct io_loop *l);
void io_loop_run(struct io_loop *l); /* until io_loop_stop or nothing is left */
void io_loop_stop(struct io_loop *l);
/* Makes the loop call woken soon. Any thread, and signal handlers. */
void io_loop_wake(struct io_loop *l);
/* Monotonic microseconds, read once per turn: all events of a turn have the same time. */
uint64_t io_now_us(struct io_loop *l);
/* Runs the turn hook and writes what is dirty, now. (The loop does it by itself each turn.) */
void io_loop_flush(struct io_loop *l);

struct stream;
struct stream_ops {
    /* Bytes came in; borrowed for the call. The stream may be closed within. */
    void (*data)(struct stream *s, const char *bytes, size_t n);
    /* The peer ended its sending (FIN), or the connection broke (err a WEIR_E*, 0 for FIN). After an error
       nothing can be written; close it. */
    void (*eof)(struct stream *s, int err);
    /* Output that had been waiting, or a piece of IO_WRITE_AHEAD or more, has gone out: there is room again
       for a before_write that has stopped there. May be NULL. */
    void (*drained)(struct stream *s);
    /* Last chance to append output before a dirty stream is written; may be NULL. */
    void (*before_write)(struct stream *s);
    /* After stream_close, when the memory may be freed. */
    void (*closed)(struct stream *s);
};

/* Embed it. */
struct stream {
    const struct stream_ops *ops;
    struct io_loop *loop;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } u;
    struct list dirty, lingering;
    struct buffer out;
    struct stream_write *writing; /* an unfinished write, or NULL */
    uint64_t linger_until_us;
    bool reading, closing, close_after_write, broken;
    bool first; /* set by the owner: written before the turn's other streams, so that its peer works meanwhile
                 */
};

/* An address: "HOST:PORT" (HOST may be empty, an IPv4 address, [IPv6] or a name) or "unix:PATH". */
struct io_address {
    bool is_unix;
    char host[256];
    char port[8];
    char path[108];
};
/* 0 or WEIR_EINVAL. */
int io_address_parse(const char *text, struct io_address *ret);
/* Resolves to a socket address, the index-th that the name has: 0, or WEIR_ECONNECT when there is none (any
   more). passive: to listen on. Blocks while a name is looked up. */
int io_address_resolve(const struct io_address *a, bool passive, unsigned index, struct sockaddr_storage *ret,
                       socklen_t *ret_size);

/* The caller's struct that embeds a stream, made for a new connection: set s->ops on a stream initialised
   by stream_init; returns NULL to refuse it. */
struct listener;
typedef struct stream *listener_accept(struct listener *l, void *ctx);
/* Begins to listen. 0 or a negative WEIR_E*; *ret_text (if not NULL) then says why in words (static or errno
 * text). */
int listener_open(struct io_loop *loop, const char *address, listener_accept *accept, void *ctx,
                  struct listener **ret, const char **ret_text);
/* Called with each stream once it is connected and reads, for socket options. */
void listener_on_accepted(struct listener *l, void (*accepted)(struct stream *s));
/* As bound: "127.0.0.1:8080" or "unix:PATH". Owned by the listener. */
const char *listener_address(const struct listener *l);
void listener_close(
    struct listener **l); /* frees it when the loop has let go of it; removes a unix socket's file */

/* Prepares an embedded stream. is_unix chooses the kind. After this it must be closed by stream_close. */
int stream_init(struct stream *s, struct io_loop *loop, bool is_unix, const struct stream_ops *ops);
/* Takes over a connected socket. 0 or WEIR_EIO (fd stays the caller's). */
int stream_adopt(struct stream *s, int fd);
/* Connects; connected is told through done (0 or a WEIR_E*). On a negative return done is not called. */
int stream_connect(struct stream *s, const struct io_address *to, void (*done)(struct stream *s, int err));
/* The peer has ended its sending or is gone, which a stream that is not read from would not notice. */
bool stream_peer_gone(const struct stream *s);
void stream_read_start(struct stream *s);
void stream_read_stop(struct stream *s);
static inline struct buffer *stream_out(struct stream *s) {
    return &s->out;
}
/* Bytes not yet handed to the kernel. */
size_t stream_pending(const struct stream *s);
/* Of these, what the kernel has not taken either: less than before when the peer reads. */
size_t stream_unsent(const struct stream *s);
/* There is output (or before_write has some). */
void stream_dirty(struct stream *s);
/* Sends FIN and goes on reading. False, and nothing was done, when output is pending or the stream is broken.
 */
bool stream_end(struct stream *s);
/* How long the peer may leave something unacknowledged (TCP_USER_TIMEOUT of tcp(7); nothing on unix sockets).
 */
void stream_user_timeout(struct stream *s, unsigned ms);
/* The kernel probes a connection that is quiet for idle_s seconds, every every_s seconds, and ends it when
   times probes stay unanswered (SO_KEEPALIVE of tcp(7)). fd: a TCP socket; others are left as they are. */
void io_keep_alive(int fd, int idle_s, int every_s, int times);
/* Closes now; what is not yet written is lost. Harmless when closing already. */
void stream_close(struct stream *s);
/* Sends what is pending, then FIN, then drops what still comes in until the peer's FIN, at most 1 s (so that
   a peer that is still sending gets the answer and not a reset, RFC 9112 9.6), then closes. No further data
   or eof callback. */
void stream_close_after_write(struct stream *s);
/* Closes with a reset (TCP), so that the peer cannot take what it got for the whole. */
void stream_reset(struct stream *s);
/* "127.0.0.1:4711", or "unix". */
void stream_peer(const struct stream *s, char *text, size_t size);

#endif
