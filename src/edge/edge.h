/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clients' side of a hub: listeners for plain HTTP/1.x, connections, and the requests on them. Loop
 * thread only. The admin listener is an edge too, one that has pages instead of routes.
 */
#ifndef EDGE_EDGE_H
#define EDGE_EDGE_H

#include "base/log.h"
#include "core/core.h"
#include "io/stream.h"

struct edge;
struct jobs;
struct topics;

struct edge_route {
    struct slice path, service;
};

/* A page that the hub itself serves. */
struct edge_page {
    unsigned status;
    const char *content_type;
    struct buffer body;
};

/* All pointers are borrowed for the edge's life. Times in microseconds. */
struct edge_config {
    struct io_loop *loop;
    struct core *core;
    struct log *log;
    struct log *access_log; /* NULL: none */
    bool access_json;
    size_t max_head, max_target, buffered_body, body_window;
    uint64_t max_body;
    size_t max_connections;
    uint64_t head_timeout_us, idle_timeout_us, request_timeout_us, body_timeout_us;
    const struct edge_route *routes; /* none: the first path segment names the service */
    size_t route_count;
    const char *cors_origin;  /* NULL: off; "*" or a comma list */
    const char *cors_headers; /* for preflights; NULL: what was asked for */
    uint64_t cors_max_age_s;
    struct slice tenant_header; /* lower case; empty: one tenant */
    /* Must clients show a token (Authorization: Bearer)? It names their tenant. NULL from token_name: not
     * known. */
    bool token_required;
    const char *(*token_name)(void *ctx, struct slice secret);
    const char *health_path; /* answered 200 or, while draining, 503; NULL: none */
    bool trust_forwarded;    /* keep the client's Forwarded and X-Forwarded-* */
    const char *server_name; /* Server field; NULL: none */
    /* half-close = allow of a service; may be NULL */
    bool (*half_close)(void *ctx, struct slice service);
    /* Fills *page for a path and returns 0, or WEIR_ENOTFOUND; NULL: this edge takes requests for services.
     */
    int (*page)(void *ctx, struct slice path, struct slice query, struct edge_page *page);
    struct jobs *jobs;     /* durable jobs, also below /-/jobs; NULL: none */
    struct topics *topics; /* below /-/topics/; NULL: none */
    bool topics_at_root;   /* this edge serves topics, at /, and nothing else */
    void *ctx;
};

/* Rows: id, help. Counters that only grow. */
#define EDGE_COUNTERS(X)                                                                                     \
    X(connections, "connections by clients")                                                                 \
    X(connections_refused, "connections by clients refused: max-connections")                                \
    X(requests, "requests whose head was read")                                                              \
    X(responses_1xx, "interim responses sent")                                                               \
    X(responses_2xx, "responses with a 2xx status")                                                          \
    X(responses_3xx, "responses with a 3xx status")                                                          \
    X(responses_4xx, "responses with a 4xx status")                                                          \
    X(responses_5xx, "responses with a 5xx status")                                                          \
    X(malformed, "requests refused: not valid HTTP, or over a limit")                                        \
    X(cut, "responses cut off: the worker was lost after the reply had begun")                               \
    X(clients_left, "clients that left before their response was sent")                                      \
    X(slow_clients, "connections closed: too slow sending or reading")                                       \
    X(bytes_in, "bytes received from clients")                                                               \
    X(bytes_out, "bytes sent to clients")

struct edge_stats {
#define EDGE_COUNTER_FIELD(id, help) uint64_t id;
    EDGE_COUNTERS(EDGE_COUNTER_FIELD)
#undef EDGE_COUNTER_FIELD
    uint64_t open;                  /* connections now */
    struct core_histogram duration; /* from the head to the end of the response */
};

/* 0 or WEIR_ENOMEM. */
int edge_new(const struct edge_config *config, struct edge **ret);
int edge_listen(struct edge *e, const char *address, const char **ret_text);
const char *edge_address(const struct edge *e, size_t index);
/* Once per loop turn, before the core's actions: takes up pipelined requests. */
void edge_turn(struct edge *e);
/* No new connections; requests on kept ones get 503 and Connection: close; idle ones are closed. */
void edge_drain(struct edge *e);
/* No connection is left. */
bool edge_idle(const struct edge *e);
/* Closes listeners and connections at once; their memory goes as the loop runs on; then edge_free. */
void edge_close(struct edge *e);
void edge_free(struct edge **e);
void edge_stats(const struct edge *e, struct edge_stats *ret);

#endif
