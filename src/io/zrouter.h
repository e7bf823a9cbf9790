/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A ZeroMQ ROUTER socket on the loop: messages come in as frames, and the end of a peer's connection is told.
 * Everything here belongs to the loop's thread; libzmq moves the bytes on a thread of its own.
 */
#ifndef IO_ZROUTER_H
#define IO_ZROUTER_H

#include "io/stream.h"

enum { ZROUTER_FRAMES = 8, ZROUTER_ID = 255 };

struct zrouter;

struct zrouter_config {
    struct io_loop *loop;
    size_t max_frame;   /* bytes; a peer that sends a longer one is disconnected */
    const char *secret; /* CURVE: the secret key as Z85 text; NULL: no CURVE */
    /* A message: frames[0] is the routing id of its sender. count may be over ZROUTER_FRAMES: then the frames
       past these are left out. connection: over which it came; -1: none (inproc). Borrowed for the call. */
    void (*message)(void *ctx, int connection, const struct slice *frames, unsigned count);
    /* This connection has ended. What it had sent may still come, until settled. Its number may come again
       for a new one. */
    void (*ended)(void *ctx, int connection);
    /* All that the connections told by ended had sent has come. */
    void (*settled)(void *ctx);
    void *ctx;
};

/* 0, WEIR_ENOMEM, WEIR_EIO, or WEIR_EINVAL: secret. */
int zrouter_open(const struct zrouter_config *config, struct zrouter **ret);
/* Frees it when the loop has let go of it. What it still had to send is given up. */
void zrouter_close(struct zrouter **z);
/* Binds to an endpoint, several times for several. 0, or WEIR_EINVAL or WEIR_EIO with *ret_text. */
int zrouter_bind(struct zrouter *z, const char *endpoint, const char **ret_text);
/* As bound, e.g. with the port that it got; in the order of zrouter_bind; NULL past the end. */
const char *zrouter_endpoint(const struct zrouter *z, size_t index);
/* The context that inproc peers must share. Owned by the socket. */
void *zrouter_context(const struct zrouter *z);
/* Sends copies of frames. 0; WEIR_ENOTFOUND: no such peer; WEIR_EAGAIN: it does not take what was sent
 * before; WEIR_ENOMEM. */
int zrouter_send(struct zrouter *z, struct slice to, const struct slice *frames, unsigned count);
/* Who is at the other end of a connection: "127.0.0.1:4711", "unix" or "inproc". */
void zrouter_peer(int connection, char *text, size_t size);
/* Tells of all connections that have ended until now: so that a number in a message is not taken for that of
   an earlier connection. */
void zrouter_look(struct zrouter *z);

#endif
