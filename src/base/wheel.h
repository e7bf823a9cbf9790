/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hierarchical timing wheel (Varghese and Lauck, 1987, scheme 6): add, remove and expire in O(1),
 * millisecond resolution, whatever the number of timers. Time is an input.
 */
#ifndef BASE_WHEEL_H
#define BASE_WHEEL_H

#include "base/list.h"
#include <stdint.h>

enum { WHEEL_LEVELS = 6, WHEEL_BITS = 6, WHEEL_SLOTS = 1 << WHEEL_BITS };

struct wheel_timer {
    struct list link;
    uint64_t when; /* ms */
};
struct wheel {
    uint64_t now;
    size_t count;
    uint64_t occupied[WHEEL_LEVELS]; /* bit s set: slot s has timers */
    struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
};

void wheel_init(struct wheel *w, uint64_t now);
static inline void wheel_timer_init(struct wheel_timer *t) {
    list_init(&t->link);
    t->when = 0;
}
static inline bool wheel_pending(const struct wheel_timer *t) {
    return !list_empty(&t->link);
}
/* Adds t to expire at when (at once if that has passed); moves it if it is pending. Times past
   2^36 ms from now (two years) are kept and expire on time too. */
void wheel_add(struct wheel *w, struct wheel_timer *t, uint64_t when);
/* Removes t; harmless when it is not pending. */
void wheel_del(struct wheel *w, struct wheel_timer *t);
/* Takes out one timer with when <= now, or returns NULL when there is none (any more). Call until
   NULL. now never goes back: a smaller one counts as the last. */
struct wheel_timer *wheel_expire(struct wheel *w, uint64_t now);
/* A time at or before the first expiry and after w->now, to sleep until; UINT64_MAX when empty. */
uint64_t wheel_next(const struct wheel *w);

#endif
