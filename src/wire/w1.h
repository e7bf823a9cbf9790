/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between a hub and a ZeroMQ worker (docs/protocol.md "ZeroMQ"), as the frames behind the routing
 * id. Pure: knows nothing of sockets.
 */
#ifndef WIRE_W1_H
#define WIRE_W1_H

#include "base/slice.h"

enum {
    W1_FRAMES = 7,             /* most in a message, "W1" and the kind included */
    W1_BODY_MAX = 64 * 1024,   /* bytes in JOB and BODY; and a body's credit at its beginning */
    W1_REPLY_MAX = 256 * 1024, /* bytes of a body in REPLY */
    W1_SLOTS_MAX = 65536,
    W1_ID_MAX = 128
};

/*
 * Columns: id, who may send it (W worker, H hub, B both), frames behind the kind at least and at most,
 * what they are: j job's id, n number, i worker's id, s services, l labels or token, h head, b bytes,
 * f 0 or 1, t text.
 */
#define W1_KINDS(X)                                                                                          \
    X(READY, W, 4, 5, "isnll")                                                                               \
    X(SLOTS, W, 1, 1, "n")                                                                                   \
    X(ACK, W, 1, 1, "j")                                                                                     \
    X(REPLY, W, 3, 3, "jhb")                                                                                 \
    X(FAIL, W, 3, 3, "jft")                                                                                  \
    X(JOB, H, 3, 3, "jhb")                                                                                   \
    X(CANCEL, H, 2, 2, "jt")                                                                                 \
    X(ERROR, H, 1, 1, "t")                                                                                   \
    X(HEAD, B, 2, 2, "jh")                                                                                   \
    X(BODY, B, 2, 2, "jb")                                                                                   \
    X(END, B, 1, 1, "j")                                                                                     \
    X(MORE, B, 2, 2, "jn")                                                                                   \
    X(PING, B, 0, 0, "")                                                                                     \
    X(PONG, B, 0, 0, "")                                                                                     \
    X(BYE, B, 0, 0, "")

enum w1_kind {
#define W1_KIND_ENUM(id, from, least, most, frames) W1_##id,
    W1_KINDS(W1_KIND_ENUM)
#undef W1_KIND_ENUM
        W1_KIND_COUNT
};

struct w1 {
    enum w1_kind kind;
    uint64_t job;                   /* j */
    uint64_t number;                /* n, f */
    struct slice worker, services;  /* i, s */
    struct slice labels, token;     /* l; token.p NULL: none was sent */
    struct slice head, bytes, text; /* h, b, t */
};

/* Understands a message that the hub (from_worker) or a worker has got. Slices are borrowed. 0, or
   WEIR_EMALFORMED with *ret_why. */
int w1_parse(const struct slice *frames, unsigned count, bool from_worker, struct w1 *ret,
             const char **ret_why);
/* "READY", ... */
struct slice w1_text(enum w1_kind kind);

#endif
