/* SPDX-License-Identifier: Apache-2.0 */
/* Bounds of queues, and measured rates for Retry-After. */
#ifndef CORE_LIMITS_H
#define CORE_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct core;
struct failure;
struct job;
struct place;
struct service;
struct tenant;

/* Events per second, averaged exponentially over about 10 s of the time in which the clock runs. */
struct rate {
    uint64_t count, elapsed_us; /* since the average was last brought up to date */
    uint64_t at;                /* until when elapsed_us counts */
    double per_s;
    bool running, known;
};

/* Lets the rate's clock run, or stop, from now on. */
void core_rate_run(struct rate *r, uint64_t now, bool running);
void core_rate_add(struct rate *r, uint64_t now);
/* 0: unknown. */
double core_rate_per_s(const struct rate *r, uint64_t now);

/* What a request asks of a queue. */
struct demand {
    const void *message;
    const struct tenant *tenant;
    size_t bytes;
    unsigned priority;
    uint64_t deadline; /* 0: none */
};
/* May it be queued there? 0 and where it is to stand; or WEIR_EFULL, WEIR_EINVAL, WEIR_ENOMEM and *ret_why.
   Counts what it refuses. */
int core_limits_admit(struct core *core, struct service *s, const struct demand *demand,
                      struct place *ret_place, struct failure *ret_why);
/* When a queued job will have waited too long for an overloaded service: its queue is a standing one then.
   UINT64_MAX: never. */
uint64_t core_limits_shed_at(const struct job *job);
/* Seconds until the queue will have been worked off; at least 1, at most 30; 0: unknown. */
unsigned core_limits_retry_after(const struct service *s, uint64_t now);

#endif
