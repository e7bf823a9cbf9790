/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A load generator for HTTP/1.1: many kept connections on one loop, one request at a time on each.
 *
 * Closed loop (rate 0): each connection sends its next request when it has its answer. Open loop: requests
 * are due at times of their own, take a free connection in turn, and wait when there is none; latency counts
 * from when a request was due, so that waiting is not hidden (coordinated omission).
 */
#ifndef CLI_LOAD_H
#define CLI_LOAD_H

#include "base/histogram.h"
#include "io/stream.h"

struct load;

/* Everything is borrowed for the load's life. */
struct load_options {
    struct io_address to;
    const char *host; /* the Host field */
    const char *method;
    const char *target;  /* each {n} is replaced by the counter */
    const char *headers; /* whole lines, each with its CRLF; may be NULL */
    bool has_body;
    struct slice body;
    unsigned connections;
    uint64_t requests;         /* how many; 0: as many as fit into the duration */
    uint64_t duration_ms;      /* 0: until requests are done */
    double rate;               /* per second; 0: closed loop */
    bool poisson;              /* exponential gaps instead of equal ones */
    uint64_t timeout_ms;       /* per request, and per attempt to connect */
    uint64_t from, last, step; /* the counter: from, from + step, ... while <= last, then from again */
    /* An answer is in; body is cut at LOAD_BODY_MOST. May be NULL. */
    void (*answer)(void *ctx, uint64_t n, unsigned status, struct slice body);
    /* Now and then while it runs. May be NULL. */
    void (*tick)(void *ctx, struct load *load);
    void *ctx;
};
enum { LOAD_BODY_MOST = 64 * 1024 };

/* Rows: id, help. */
#define LOAD_ERRORS(X)                                                                                       \
    X(closed, "connection closed before the answer was whole")                                               \
    X(timeout, "no answer in time")                                                                          \
    X(malformed, "answer that is not HTTP")                                                                  \
    X(unsent, "due, but no connection was free before the end")
enum load_error {
#define LOAD_ERROR_ENUM(id, help) LOAD_##id,
    LOAD_ERRORS(LOAD_ERROR_ENUM)
#undef LOAD_ERROR_ENUM
        LOAD_ERROR_COUNT
};

struct load_result {
    uint64_t started, answered; /* requests */
    uint64_t errors[LOAD_ERROR_COUNT];
    uint64_t status[6]; /* answers by class: [2] is 2xx; [0] is what has none */
    uint64_t connects_failed;
    uint64_t bytes_in, bytes_out;
    uint64_t elapsed_ns;      /* so far */
    struct histogram latency; /* ns */
};

/* 0, WEIR_ENOMEM, WEIR_EIO. */
int load_new(const struct load_options *options, struct load **ret);
/* Runs until all is done. 0, or WEIR_ECONNECT when no connection could be made for the timeout. */
int load_run(struct load *l);
/* Makes load_run return soon; what is under way is dropped and not counted. Any thread, and signal handlers.
 */
void load_stop(struct load *l);
const struct load_result *load_result(struct load *l);
uint64_t load_errors(const struct load_result *r); /* of all kinds */
void load_free(struct load **l);

#endif
