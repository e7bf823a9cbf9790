/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection by a worker: first the upgrade (link.c), then the protocol that it asked for (h2.c), which
 * brings its own table. Loop thread only.
 */
#ifndef ATTACH_LINK_H
#define ATTACH_LINK_H

#include "attach/attach.h"
#include "attach/exchange.h"
#include "base/list.h"
#include "wire/ptth.h"

enum { LINK_MAGIC = 0x6c696e6b };

struct link;

/* What a protocol brings, once the roles are reversed. */
struct link_protocol {
    void (*data)(struct link *l, const char *bytes, size_t n);
    void (*before_write)(struct link *l);
    void (*drained)(struct link *l);
    void (*heartbeat)(struct link *l); /* once per heartbeat interval, but not of quiet links */
    void (*end)(struct link *l);       /* the worker has ended its sending; may be NULL; then comes stop */
    void (*stop)(struct link *l);      /* the connection is gone: jobs are lost, state is freed */
    bool grouped; /* connections are parts of workers, which log their coming and going */
};

struct link {
    unsigned magic;
    struct stream stream;
    struct attach *attach;
    struct list node;
    const struct door *door; /* by which it came; NULL: adopted. Valid until it has been accepted */
    const struct link_protocol *protocol; /* NULL: not upgraded yet */
    void *state;                          /* the protocol's */
    uint64_t worker;                      /* in the core; 0: none yet */
    uint64_t opened_us, serial;
    struct buffer in; /* of the upgrade */
    size_t scanned;
    bool closing;
    char name[128]; /* for the log */
};

/* A listener. */
struct door {
    struct attach *attach;
    struct listener *listener;
    char *service; /* of workers that say nothing on connect; NULL: they upgrade */
};

struct attach {
    struct attach_config config;
    struct attach_stats stats;
    struct exchange_config exchange;
    struct door **doors;
    size_t door_count;
    struct list links, quiet;  /* quiet: those that need no look at each heartbeat */
    struct list groups;        /* workers of several connections: see h1.c */
    struct zworkers *zworkers; /* NULL: none are listened for */
    uv_timer_t timer;
    bool timer_open, draining;
};

/* Tells the core what the worker offers, "a,b". 0 or a WEIR_E*. */
int attach_offer(struct attach *a, uint64_t worker, struct slice services);
/* May a worker with this token (p NULL: none) attach? 0, WEIR_ETOKEN or WEIR_EFORBIDDEN. */
int attach_admit(const struct attach *a, struct slice token, const char **ret_why);
/* The connection stands; a worker that says nothing on connect is attached by that. */
void link_accepted(struct link *l);
struct link *link_new(struct attach *a, bool is_unix);
/* The worker has said or done something that ends the connection: logs why, closes. */
void link_close(struct link *l, enum log_level level, const char *event, const char *why);
static inline uint64_t link_now(const struct link *l) {
    return io_now_us(l->attach->config.loop);
}

#endif
