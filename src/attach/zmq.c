/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ZeroMQ workers (docs/protocol.md "ZeroMQ"): one ROUTER socket for all of them. A worker is known by its
 * routing id and the connection over which it said READY; slots are its credit plus what it runs. Its jobs
 * are in zmq_job.c.
 *
 * Nothing frees a worker while one of its messages is being handled, but that message itself: sends that
 * fail only mark it, and the turn buries it.
 */
#include "attach/zmq_job.h"
#include "base/assert.h"
#include "weir/weir.h"
#include <search.h>
#include <stdio.h>
#include <stdlib.h>

enum { ERRORS_PER_S = 10, FRAME_SLACK = 1024 };

/* ---- saying ---- */

static int say(struct zworkers *z, struct slice to, enum w1_kind kind, const struct slice *more, unsigned n) {
    struct slice frames[W1_FRAMES] = {SLICE("W1"), w1_text(kind)};
    for (unsigned i = 0; i < n; i++) frames[2 + i] = more[i];
    return zrouter_send(z->router, to, frames, 2 + n);
}

int zpeer_say(struct zpeer *p, enum w1_kind kind, const struct slice *more, unsigned n) {
    int err = p->lost ? WEIR_ENOTFOUND : say(p->zworkers, p->routing, kind, more, n);
    if (err != 0 && !p->lost && kind != W1_BODY) {
        p->lost = true;
        p->zworkers->some_lost = true;
    }
    return err;
}

static void complain(struct zworkers *z, struct slice to, struct zpeer *p, const char *why) {
    struct attach *a = z->attach;
    a->stats.zmq_errors++;
    uint64_t second = io_now_us(a->config.loop) / 1000000;
    if (p && p->errors_second != second) {
        p->errors_second = second;
        p->errors = 0;
    }
    if (p && p->errors++ >= ERRORS_PER_S) return;
    log_event(a->config.log, LOG_DEBUG, "worker-error", "worker %s: %s", p ? p->name : "(not attached)", why);
    struct slice text = slice_of(why);
    (void)say(z, to, W1_ERROR, &text, 1);
}

/* ---- workers ---- */

static int compare(const void *a, const void *b) {
    const struct slice *x = a, *y = b;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return memcmp(x->p, y->p, x->n);
}

static struct zpeer *find(struct zworkers *z, struct slice routing) {
    void *found = tfind(&routing, &z->by_routing, compare);
    return found ? *(struct zpeer *const *)found : NULL;
}

void zpeer_count_slots(struct zpeer *p) {
    core_worker_slots(p->zworkers->attach->config.core, zpeer_now(p), p->worker, p->credit + p->running);
}

static void bury(struct zpeer *p, enum log_level level, const char *event, const char *why) {
    struct zworkers *z = p->zworkers;
    struct attach *a = z->attach;
    log_event(a->config.log, level, event, "worker %s: %s", p->name, why);
    p->lost = true;
    core_worker_drain(a->config.core, zpeer_now(p), p->worker);
    zjobs_lose(p);
    core_worker_gone(a->config.core, zpeer_now(p), p->worker);
    a->stats.links--;
    tdelete(p, &z->by_routing, compare);
    list_del(&p->node);
    p->magic = 0;
    free(p);
}

static int announce(struct zpeer *p, const struct w1 *ready) {
    struct attach *a = p->zworkers->attach;
    char address[64];
    zrouter_peer(p->connection, address, sizeof(address));
    snprintf(p->name, sizeof(p->name), "%.*s",
             SLICE_ARG(ready->worker.n ? ready->worker : slice_of(address)));
    struct core_worker worker = {.id = slice_of(p->name),
                                 .labels = ready->labels,
                                 .address = slice_of(address),
                                 .transport = SLICE("zmq"),
                                 .port = &p->port};
    int err = core_worker_attach(a->config.core, zpeer_now(p), &worker, &p->worker);
    if (err == 0 && (err = attach_offer(a, p->worker, ready->services)) != 0)
        core_worker_gone(a->config.core, zpeer_now(p), p->worker);
    return err;
}

static int attach_peer(struct zworkers *z, struct slice routing, int connection, const struct w1 *ready) {
    struct attach *a = z->attach;
    struct zpeer *p = calloc(1, sizeof(*p) + routing.n);
    if (!p) return WEIR_ENOMEM;
    p->magic = ZPEER_MAGIC;
    p->port.ops = &zjob_port_ops;
    p->zworkers = z;
    p->connection = connection;
    p->routing = (struct slice){memcpy(p->room, routing.p, routing.n), routing.n};
    list_init(&p->jobs);
    int err = announce(p, ready);
    if (err == 0 && !tsearch(p, &z->by_routing, compare)) {
        core_worker_gone(a->config.core, zpeer_now(p), p->worker);
        err = WEIR_ENOMEM;
    }
    if (err != 0) {
        free(p);
        return err;
    }
    list_push_back(&z->peers, &p->node);
    a->stats.links_opened++;
    a->stats.links++;
    log_event(a->config.log, LOG_INFO, "worker-attached", "worker %s offers %.*s", p->name,
              SLICE_ARG(ready->services));
    zpeer_grant(p, ready->number);
    (void)zpeer_say(p, W1_PING, NULL, 0); /* so it knows that it is attached */
    return 0;
}

void zpeer_grant(struct zpeer *p, uint64_t n) {
    unsigned most = p->zworkers->attach->config.max_slots, used = p->credit + p->running;
    if (p->leaving || used >= most) return;
    p->credit += n < most - used ? (unsigned)n : most - used;
    zpeer_count_slots(p);
}

/* READY from a worker that is attached is a new start of it. */
static void ready(struct zworkers *z, struct slice routing, int connection, const struct w1 *m) {
    struct attach *a = z->attach;
    const char *why = NULL;
    zrouter_look(
        z->router); /* so that the end of an earlier connection of this number is not taken for its own */
    int err = a->draining ? WEIR_EDRAINING : attach_admit(a, m->token, &why);
    struct zpeer *before = err == 0 ? find(z, routing) : NULL;
    if (before) bury(before, LOG_INFO, "worker-gone", "it began anew");
    if (err == 0) err = attach_peer(z, routing, connection, m);
    if (err == 0) return;
    if (!why) why = weir_strerror(err);
    a->stats.links_refused++;
    log_event(a->config.log, LOG_WARN, "worker-refused", "worker %.*s: %s", SLICE_ARG(m->worker), why);
    complain(z, routing, NULL, why);
}

/* The answer tells the worker that no job is on its way any more. */
static void leave(struct zpeer *p) {
    (void)zpeer_say(p, W1_BYE, NULL, 0);
    p->leaving = true;
    p->credit = 0;
    core_worker_drain(p->zworkers->attach->config.core, zpeer_now(p), p->worker);
    if (p->running == 0) bury(p, LOG_INFO, "worker-left", "drained");
}

static void heard(struct zpeer *p, const struct w1 *m) {
    const char *why = NULL;
    p->pings_missed = 0;
    switch (m->kind) {
    case W1_SLOTS:
        zpeer_grant(p, m->number);
        break;
    case W1_PING:
        (void)zpeer_say(p, W1_PONG, NULL, 0);
        break;
    case W1_PONG:
        break;
    case W1_BYE:
        leave(p);
        break;
    default:
        why = zjob_heard(p, m);
        if (why)
            complain(p->zworkers, p->routing, p, why);
        else if (p->leaving && p->running == 0)
            bury(p, LOG_INFO, "worker-left", "drained");
    }
}

static void on_message(void *ctx, int connection, const struct slice *frames, unsigned count) {
    struct zworkers *z = ctx;
    struct slice from = frames[0];
    struct zpeer *p = find(z, from);
    if (p && p->connection != connection) p = NULL; /* another that has taken its routing id */
    const char *why;
    struct w1 m;
    if (w1_parse(frames + 1, count - 1, true, &m, &why) != 0)
        complain(z, from, p, why);
    else if (m.kind == W1_READY)
        ready(z, from, connection, &m);
    else if (!p)
        complain(z, from, NULL, "not attached");
    else
        heard(p, &m);
}

/* ---- ends ---- */

static void on_ended(void *ctx, int connection) {
    struct zworkers *z = ctx;
    LIST_FOR (node, &z->peers) {
        struct zpeer *p = CONTAINER_OF(node, struct zpeer, node);
        if (p->connection == connection) p->ended = true;
    }
}

static void on_settled(void *ctx) {
    struct zworkers *z = ctx;
    LIST_FOR (node, &z->peers) {
        struct zpeer *p = CONTAINER_OF(node, struct zpeer, node);
        if (p->ended) bury(p, LOG_INFO, "worker-gone", "connection closed");
    }
}

bool zworkers_turn(struct zworkers *z) {
    if (!z || (list_empty(&z->sending) && !z->some_lost)) return false;
    zjobs_turn(z);
    z->some_lost = false;
    LIST_FOR (node, &z->peers) {
        struct zpeer *p = CONTAINER_OF(node, struct zpeer, node);
        if (p->lost) bury(p, LOG_WARN, "worker-gone", "it cannot be reached, or does not read");
    }
    return true;
}

void zworkers_heartbeat(struct zworkers *z) {
    if (!z) return;
    struct attach *a = z->attach;
    LIST_FOR (node, &z->peers) {
        struct zpeer *p = CONTAINER_OF(node, struct zpeer, node);
        if (p->pings_missed >= a->config.heartbeat_missed) {
            a->stats.links_silent++;
            bury(p, LOG_WARN, "worker-silent", "missed its heartbeats");
        } else {
            p->pings_missed++;
            (void)zpeer_say(p, W1_PING, NULL, 0);
        }
    }
    zjobs_retry_bodies(z);
}

void zworkers_drain(struct zworkers *z) {
    if (!z) return;
    LIST_FOR (node, &z->peers) {
        struct zpeer *p = CONTAINER_OF(node, struct zpeer, node);
        if (!p->leaving) (void)zpeer_say(p, W1_BYE, NULL, 0);
    }
}

int zworkers_open(struct attach *a, const char *secret, struct zworkers **ret) {
    struct zworkers *z = calloc(1, sizeof(*z));
    if (!z) return WEIR_ENOMEM;
    size_t head = a->config.max_head;
    struct zrouter_config c = {.loop = a->config.loop,
                               .max_frame = (head > W1_REPLY_MAX ? head : W1_REPLY_MAX) + FRAME_SLACK,
                               .secret = secret,
                               .message = on_message,
                               .ended = on_ended,
                               .settled = on_settled,
                               .ctx = z};
    z->attach = a;
    list_init(&z->peers);
    list_init(&z->sending);
    buffer_init(&z->scratch);
    int err = zrouter_open(&c, &z->router);
    if (err != 0)
        free(z);
    else
        *ret = z;
    return err;
}

int zworkers_bind(struct zworkers *z, const char *endpoint, const char **ret_text) {
    return zrouter_bind(z->router, endpoint, ret_text);
}

const char *zworkers_endpoint(const struct zworkers *z, size_t index) {
    return z ? zrouter_endpoint(z->router, index) : NULL;
}

void *zworkers_context(const struct zworkers *z) {
    return z ? zrouter_context(z->router) : NULL;
}

void zworkers_close(struct zworkers **zworkers) {
    struct zworkers *z = *zworkers;
    if (!z) return;
    *zworkers = NULL;
    LIST_FOR (node, &z->peers)
        bury(CONTAINER_OF(node, struct zpeer, node), LOG_DEBUG, "worker-closed", "the hub ends");
    zrouter_close(&z->router);
    buffer_fini(&z->scratch);
    free(z);
}
