/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker's connection to one hub, whatever carries it: dialling, and dialling again. A lost connection is
 * dialled again at once; after failures it waits, twice as long each time, with jitter.
 */
#include "base/clock.h"
#include "lib/worker.h"

enum { BACKOFF_MIN_MS = 50, BACKOFF_MAX_MS = 5000 };

static uint64_t jitter(struct weir_worker *w, uint64_t n) {
    w->random = w->random * 6364136223846793005u + 1442695040888963407u;
    return n ? (w->random >> 33) % n : 0;
}

void uplink_close(struct uplink *l, const char *why) {
    struct weir_worker *w = l->worker;
    if (l->state == UPLINK_CLOSED && l->fd < 0) return;
    bool was_open = l->state == UPLINK_OPEN;
    if (l->state != UPLINK_WAITING) worker_log(w, "%s: %s", l->name, why);
    session_stop(l);
    l->via->hang_up(l);
    l->fd = -1;
    l->armed = 0;
    l->announced = 0;
    l->broken = l->going_away = false;
    l->state = l->given || w->draining || w->quit ? UPLINK_CLOSED : UPLINK_WAITING;
    uint64_t now = worker_now_ms();
    if (was_open) {
        l->failures = 0;
        l->due_ms = now + jitter(w, 10);
        return;
    }
    unsigned doublings = l->failures < 7 ? l->failures : 7;
    uint64_t wait = (uint64_t)BACKOFF_MIN_MS << doublings;
    if (wait > BACKOFF_MAX_MS) wait = BACKOFF_MAX_MS;
    l->failures++;
    l->due_ms = now + wait / 2 + jitter(w, wait / 2 + 1);
}

void uplink_opened(struct uplink *l) {
    l->state = UPLINK_OPEN;
    l->pings_missed = 0;
    l->due_ms = worker_now_ms() + WORKER_PING_MS;
    worker_log(l->worker, "%s: connected", l->name);
}

uint64_t uplink_due(const struct uplink *l) {
    return l->state == UPLINK_CLOSED ? UINT64_MAX : l->broken || l->readable ? 0 : l->due_ms;
}

static void overdue(struct uplink *l, uint64_t now_ms) {
    if (l->state == UPLINK_WAITING) {
        l->via->dial(l);
    } else if (l->state != UPLINK_OPEN) {
        uplink_close(l, "no answer in time");
    } else if (l->pings_missed >= WORKER_PINGS_MISSED) {
        uplink_close(l, "the hub is silent");
    } else {
        l->pings_missed++;
        l->due_ms = now_ms + WORKER_PING_MS;
        l->via->ping(l);
    }
}

void uplink_step(struct uplink *l, short events, uint64_t now_ms) {
    l->via->step(l, events);
    if (l->broken) uplink_close(l, "the connection broke");
    if (l->state != UPLINK_CLOSED && now_ms >= l->due_ms) overdue(l, now_ms);
}
