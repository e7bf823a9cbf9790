/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workers' side of a hub: listeners that workers dial, and a link for each connection. Loop thread only.
 */
#ifndef ATTACH_ATTACH_H
#define ATTACH_ATTACH_H

#include "base/log.h"
#include "core/core.h"
#include "io/stream.h"

struct attach;

struct attach_config {
    struct io_loop *loop;
    struct core *core;
    struct log *log;
    size_t max_head;             /* bytes of a worker's upgrade request, and of an answer's head */
    size_t body_window;          /* bytes of an answer held until the client takes them */
    size_t buffered_body;        /* bytes of a forwarded body gathered before it goes on as a stream */
    size_t max_gather;           /* bytes of one scattered body, and of the answers to it */
    uint64_t max_gather_total;   /* bytes of all of them */
    unsigned max_slots;          /* most that one worker may offer */
    unsigned max_links;          /* most connections */
    uint64_t upgrade_timeout_us; /* for a worker to send its upgrade request */
    uint64_t heartbeat_us;       /* a PING this often */
    unsigned heartbeat_missed;   /* gone after so many without an answer */
    bool token_required;
    /* Whose token this is, NULL: nobody's. In a time that does not depend on how wrong it is. */
    const char *(*token_name)(void *ctx, struct slice secret);
    const char *zmq_secret; /* CURVE key of the ZeroMQ socket, Z85; NULL: none. Borrowed for attach_bind */
    void *ctx;
};

/* Rows: id, help. Counters that only grow. */
#define ATTACH_COUNTERS(X)                                                                                   \
    X(links_opened, "connections by workers")                                                                \
    X(links_refused, "connections by workers that were refused at the handshake")                            \
    X(links_silent, "connections by workers closed for missing heartbeats")                                  \
    X(protocol_errors, "connections by workers closed for protocol errors")                                  \
    X(bad_answers, "answers by workers that were not valid HTTP")                                            \
    X(zmq_errors, "messages by ZeroMQ workers that were refused with ERROR")

struct attach_stats {
#define ATTACH_COUNTER_FIELD(id, help) uint64_t id;
    ATTACH_COUNTERS(ATTACH_COUNTER_FIELD)
#undef ATTACH_COUNTER_FIELD
    uint64_t links; /* now */
};

/* 0 or WEIR_ENOMEM. The config is copied, but not what it points to. */
int attach_new(const struct attach_config *config, struct attach **ret);
/* Listens for workers; several times for several addresses. service: NULL, or the one of workers that say
   nothing on connect. As listener_open. */
int attach_listen(struct attach *a, const char *address, const char *service, const char **ret_text);
/* The address of listener number index, NULL past the end; *ret_service (may be NULL) as given. */
const char *attach_address(const struct attach *a, size_t index, const char **ret_service);
/* Binds for ZeroMQ workers; several times for several endpoints. 0 or a WEIR_E* with *ret_text. */
int attach_bind(struct attach *a, const char *endpoint, const char **ret_text);
/* Endpoint number index as bound, NULL past the end. */
const char *attach_endpoint(const struct attach *a, size_t index);
/* The ZeroMQ context of these endpoints, for inproc; NULL: there are none. The hub owns it. */
void *attach_zmq_context(const struct attach *a);
/* Once per loop turn: sends what has gathered. True: the core may have decided something by that; act on it
   and call again. */
bool attach_turn(struct attach *a);
/* Takes over a connected unix socket as if it had been accepted. On failure fd stays the caller's. */
int attach_adopt(struct attach *a, int fd);
/* Runs the scattered hop of a durable job: see gather_resume. */
struct gather_stored;
int attach_scatter(struct attach *a, const struct gather_stored *stored, struct buffer *body,
                   uint64_t *ret_request, struct failure *ret_why);
/* No new connections; links stay for what runs on them. */
void attach_drain(struct attach *a);
/* Closes listeners and links. Their memory goes as the loop runs on; then attach_free. */
void attach_close(struct attach *a);
void attach_free(struct attach **a);
void attach_stats(const struct attach *a, struct attach_stats *ret);

#endif
