/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker inside the core: its slots and what it offers. While it can take a job it stands, by the number of
 * jobs that it runs, in the ready lists of all pools that it is a member of; otherwise in none.
 */
#ifndef CORE_WORKER_H
#define CORE_WORKER_H

#include "core/service.h"

/* How long a worker that handed a job back gets no other, unless core_worker_slots is called or a job of
   its ends before: so that a closed gate does not make jobs bounce. */
#define CORE_GATE_US UINT64_C(100000)

enum { WORKER_NOT_READY = -1 };

struct worker {
    uint64_t id;
    void *port;
    unsigned slots, running; /* running: busy slots, those of LEAVING jobs too */
    int64_t ready_at; /* the running count by which it stands in the ready lists, or WORKER_NOT_READY */
    bool draining;
    unsigned offer_count, offer_room;
    struct offer **offers; /* see pool.c */
    struct list jobs;
    struct list gate; /* in core.gated after it has handed a job back */
    uint64_t gate_until;
    uint64_t attached_us, dispatched;
    char *text; /* what the slices are of */
    struct slice name, address, transport, labels;
    char *own_labels; /* that it has taken on since; NULL: none */
    bool unjoined;    /* memory lacked for what its labels let it join */
};

/* The offer of a service as such, not of a pool with needs. */
static inline bool core_offer_is_plain(const struct offer *o) {
    return o->pool == &o->pool->service->plain;
}
static inline bool core_worker_has_room(const struct worker *w) {
    return w->running < w->slots && !w->draining && list_empty(&w->gate);
}
/* It gets no job for a while. */
void core_worker_gate(struct core *core, struct worker *w);
static inline void core_worker_ungate(struct worker *w) {
    list_del(&w->gate);
}
/* Stands in the ready lists by what it can take now. */
void core_worker_place(struct worker *w);
void core_worker_free(struct worker *w);

#endif
