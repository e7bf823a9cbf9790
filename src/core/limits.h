/* SPDX-License-Identifier: Apache-2.0 */
/* Bounds of queues, and measured rates for Retry-After. */
#ifndef CORE_LIMITS_H
#define CORE_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct core;
struct service;
struct failure;

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

/* May a job of so many bytes be queued there? 0, or WEIR_EFULL and *ret_why. */
int core_limits_admit(const struct core *core, const struct service *s, size_t bytes,
                      struct failure *ret_why);
/* Seconds until the queue will have been worked off; at least 1, at most 30; 0: unknown. */
unsigned core_limits_retry_after(const struct service *s, uint64_t now);

#endif
