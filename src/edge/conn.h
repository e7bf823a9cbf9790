/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the edge's files share: a client's connection (conn.c), the request on it (ask.c: in, reply.c: out).
 * One request at a time per connection: pipelined ones wait in the input, so answers come in order.
 */
#ifndef EDGE_CONN_H
#define EDGE_CONN_H

#include "base/wheel.h"
#include "edge/edge.h"
#include "wire/http1.h"
#include "wire/message.h"

enum { CONN_MAGIC = 0x636f6e6e, EDGE_TICK_MS = 100, REQUEST_ID_SIZE = 64 };

struct edge {
    struct edge_config config;
    struct edge_stats stats;
    struct listener **listeners;
    size_t listener_count;
    struct list conns;
    struct list ready; /* connections with a pipelined request to take up */
    struct wheel wheel;
    uv_timer_t timer;
    bool timer_open, draining;
    uint64_t random[2];
    uint64_t random_count;
    uint64_t date_s; /* of the text */
    char date[40];
};

/* What a connection's timer is for. */
enum conn_wait { WAIT_IDLE, WAIT_HEAD, WAIT_BODY, WAIT_WRITE, WAIT_NONE };

struct ask;

/* What the hub itself does for a request and takes time for (api.h). */
struct api_call {
    /* The client has gone, or the hub closes: the request must not be touched any more. */
    void (*left)(struct api_call *call);
};

struct conn {
    unsigned magic;
    struct stream stream;
    struct edge *edge;
    struct list node, ready;
    struct wheel_timer timer;
    enum conn_wait wait;
    size_t unsent;    /* at the beginning of a WAIT_WRITE */
    struct buffer in; /* not yet taken up: part of a head, or pipelined requests */
    size_t scanned;
    struct ask *ask;  /* the request being served, or NULL */
    bool closing;     /* no further request */
    bool half_closed; /* the client sends no more, and may do so */
    bool blocked;     /* no further request until the client takes its answers */
    char peer[48];
};

/* A request from its head to the end of its response. */
struct ask {
    struct requester requester;
    struct conn *conn;
    struct message *message;
    uint64_t request; /* in the core; 0: not there (any more) */
    uint64_t began_us, bytes_in, body_in, bytes_out;
    struct http1_body in;
    struct body *body; /* of the reply, while it streams; a reference */
    struct slice request_id, service;
    struct api_call *call; /* under way; NULL: none. Set to NULL by who answers */
    unsigned status;
    bool head_method, http10, keep_alive, expect_100, chunked, until_close;
    bool replied;    /* a response's head has been written */
    bool input_over; /* nothing more of the request's body is wanted, or it is whole */
    bool was_left;
};

/* conn.c */
struct conn *conn_new(struct edge *e, bool is_unix);
void conn_close(struct conn *c);
void conn_wait(struct conn *c, enum conn_wait wait);
/* Closes; with a reset when a FIN would make what was sent of a reply look whole. */
void conn_cut(struct conn *c);
/* Takes up what waits in the input. */
void conn_resume(struct conn *c);
/* The same, in this turn, but not now. */
void conn_resume_soon(struct conn *c);
/* The response is complete: next request, or close. */
void conn_next(struct conn *c);

/* ask.c: a request comes in. */
/* A whole head has been read. */
void ask_begin(struct conn *c, struct slice head_text);
/* Bytes of the request's body; returns how many belong to it, or a negative WEIR_E* when it is malformed or
   too large (an answer has been made). */
ptrdiff_t ask_body(struct ask *a, struct slice data);
/* The worker has not taken enough of the body yet for more to be read. */
bool ask_full(const struct ask *a);
/* The client has gone, or ends its sending. */
void ask_left(struct ask *a);
void ask_free(struct ask *a);
/* On whose behalf it comes: by its token, which is the hub's and goes no further, or as a header says. 0;
   WEIR_ETOKEN with *ret_why, WEIR_EFORBIDDEN. */
int ask_tenant(struct ask *a, struct slice *ret_tenant, const char **ret_why);
/* Makes message->body, into which what follows the head will go; none when nothing follows. 0 or
 * WEIR_ENOMEM. */
int ask_add_body(struct ask *a);
/* Its body is read from now on, unless it is whole. */
void ask_read_body(struct ask *a);
/* Weir-Timeout (ms; 0: none) and the others of a request for a service. 0, or WEIR_EINVAL with *ret_why. */
struct wishes {
    uint64_t timeout_ms, cost;
    unsigned priority;
    bool timeout_given;
};
int ask_wishes(const struct ask *a, struct wishes *ret, const char **ret_why);

/* reply.c: its response goes out. */
extern const struct requester_ops ask_requester_ops;
/* An answer by the hub itself, problem+json. close: the connection cannot be used further. */
void reply_problem(struct ask *a, int error, unsigned status, const char *detail, unsigned retry_after_s,
                   bool close);
/* 405, with the methods that there are, "GET, HEAD" (RFC 9110 15.5.6). */
void reply_not_allowed(struct ask *a, struct slice allow);
void reply_page(struct ask *a, unsigned status, const char *content_type, struct slice body);
/* The same with more fields. content_type may be NULL. */
struct reply_field {
    struct slice name, value;
};
void reply_own(struct ask *a, unsigned status, const char *content_type, const struct reply_field *fields,
               size_t count, struct slice body);
void reply_preflight(struct ask *a);
void reply_options(struct ask *a);
/* Moves what the reply's body has into the output; ends the response when it is all there. */
void reply_pump(struct ask *a);
/* An error on a connection that has no request: malformed, too slow. Closes. */
void reply_bare(struct conn *c, int error, const char *detail);

/* request.c: what a worker gets to see. */
/* Takes out what must not pass on and adds what the hub adds. 0, WEIR_ENOMEM, WEIR_EHEADTOOBIG. */
int request_prepare(struct ask *a);
/* The service that a target is for; p NULL: none. Borrowed from target or the routes. */
struct slice request_service(const struct edge *e, struct slice target);
/* 32 hexadecimal digits; unique, not secret. */
void request_id_make(struct edge *e, char text[33]);

/* access.c */
void access_log(struct ask *a);

#endif
