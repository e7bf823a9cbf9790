/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each tenant has waiting in a service, in whatever queue: whose jobs are to make room in a full one.
 * Nothing here can fail: a job for which memory lacked is in no share, and a share that does not fit into the
 * heap is not the largest.
 */
#ifndef CORE_SHARE_H
#define CORE_SHARE_H

#include "base/heap.h"
#include "base/list.h"
#include <stdint.h>

struct core;
struct job;
struct service;
struct tenant;

struct share {
    struct service *service;
    struct list link; /* in tenant.shares */
    struct list jobs; /* by job.share_link, as they came */
    size_t count;
    size_t heap_at; /* in service.shares */
    uint64_t id;    /* in core.shares */
};

void core_shares_init(struct service *s);
/* The job waits in its service. */
void core_share_enter(struct core *core, struct job *job);
/* It does no more. */
void core_share_leave(struct core *core, struct job *job);
/* The newest job of the tenant that has most in the service, when the tenant that comes now in this class has
   less than its part; NULL otherwise. Classes before this one are left alone, and what came back from a
   worker. */
struct job *core_share_surplus(const struct service *s, const struct tenant *t, unsigned priority);

#endif
