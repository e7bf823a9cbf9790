/* SPDX-License-Identifier: Apache-2.0 */
/*
 * On whose behalf requests come. A tenant that is configured stays; one that only a request has named lives
 * as long as it has requests, and as its rate limit remembers it. Over max_tenants, and for want of
 * memory, a request has no tenant of its own: such requests share, as those do that name none.
 */
#ifndef CORE_TENANT_H
#define CORE_TENANT_H

#include "base/list.h"
#include "core/core.h"

struct tenant {
    struct tenant *next; /* in its bucket of the table */
    struct list idle;    /* in core.idle_tenants while it has no requests */
    struct core_tenant_config config;
    bool configured;
    uint64_t requests;   /* that are alive */
    uint64_t full_at_ns; /* when its token bucket will be full again */
    uint64_t submitted, dispatched, rejected_rate;
    /* What it has had, over its weight, in jobs that were taken from queues; one that comes after a pause
       begins where the others are (start-time fair queueing, Goyal, Vin and Cheng 1996). Decides between
       queues of one service; within a queue tenants take turns. */
    uint64_t used;
    struct list shares; /* of the services in which its jobs wait: see share.h */
    uint64_t hash;
    struct slice name;
    char text[];
};

struct tenants {
    struct tenant **buckets; /* a power of two of them */
    size_t size, count;
    struct list idle;     /* who left first is first */
    struct tenant nobody; /* the requests without a tenant of their own */
};

void core_tenants_init(struct core *core);
void core_tenants_free(struct core *core);
/* A request begins: its tenant, made when there is none with that name; never NULL. */
struct tenant *core_tenant_enter(struct core *core, struct slice name);
/* Another request of the same tenant begins; returns it. */
static inline struct tenant *core_tenant_share(struct tenant *t) {
    t->requests++;
    return t;
}
/* A request of the tenant is over. */
void core_tenant_leave(struct core *core, struct tenant *t);
/* A job of its was taken from a queue. */
void core_tenant_use(struct core *core, struct tenant *t);
/* What it counts as having had: one that could not be served for long, as no worker of its was free, is owed
   no more than two turns of the lightest tenant. */
uint64_t core_tenant_used(const struct core *core, const struct tenant *t);
/* Microseconds until its bucket has a token; 0: now. */
uint64_t core_tenant_wait(const struct tenant *t, uint64_t now);
/* Takes a token. */
void core_tenant_take(struct tenant *t, uint64_t now);

#endif
