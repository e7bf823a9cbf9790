/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread at a time. A timer's level is that of the highest bit in which its time differs from
 * wheel.now, its slot the WHEEL_BITS bits of its time there. Hence, at every level:
 *
 * - taken slots lie after the slot of now (at level 0 that of now itself holds what is due);
 * - all of a level expires before anything on the levels above, and a level's slots in their order.
 *
 * So the next thing to happen is the first taken slot of the lowest taken level, found with a few bit
 * operations however far the clock jumps. Reaching it moves its timers down (each at most
 * WHEEL_LEVELS times) in list order, and nothing can be added below before that: timers of the
 * same millisecond stay in order of adding. A time that has passed when added counts as now.
 *
 * Slot 0 above level 0 is never after that of now, so the top level's is free for the timers that differ
 * from now in bits beyond the wheel.
 */
#include "base/wheel.h"
#include <stddef.h>

enum { TOP = WHEEL_LEVELS - 1, WHEEL_SPAN_BITS = WHEEL_LEVELS * WHEEL_BITS };
#define FAR_BIT UINT64_C(1) /* in occupied[TOP] */

static uint64_t slot_bit(uint64_t slot) {
    return UINT64_C(1) << (slot & (WHEEL_SLOTS - 1));
}

static bool is_due(const struct wheel *w) {
    return w->occupied[0] & slot_bit(w->now);
}

static struct wheel_timer *timer_of(struct list *link) {
    return CONTAINER_OF(link, struct wheel_timer, link);
}

void wheel_init(struct wheel *w, uint64_t now) {
    w->now = now;
    w->count = 0;
    for (int l = 0; l < WHEEL_LEVELS; l++) {
        w->occupied[l] = 0;
        for (int s = 0; s < WHEEL_SLOTS; s++) list_init(&w->slots[l][s]);
    }
}

/* Puts t, which is in no list, where it belongs as seen from w->now. */
static void place(struct wheel *w, struct wheel_timer *t) {
    uint64_t when = t->when > w->now ? t->when : w->now, differs = when ^ w->now;
    unsigned level = (63u - (unsigned)__builtin_clzll(differs | 1)) / WHEEL_BITS;
    unsigned slot = 0;
    if (level > TOP)
        level = TOP;
    else
        slot = (unsigned)(when >> level * WHEEL_BITS) & (WHEEL_SLOTS - 1);
    w->occupied[level] |= slot_bit(slot);
    list_push_back(&w->slots[level][slot], &t->link);
}

void wheel_add(struct wheel *w, struct wheel_timer *t, uint64_t when) {
    wheel_del(w, t);
    t->when = when;
    place(w, t);
    w->count++;
}

void wheel_del(struct wheel *w, struct wheel_timer *t) {
    if (!wheel_pending(t)) return;
    struct list *head = t->link.next;
    if (head == t->link.prev) { /* alone: this is the slot's head */
        size_t slot = (size_t)(head - &w->slots[0][0]);
        w->occupied[slot / WHEEL_SLOTS] &= ~slot_bit(slot);
    }
    list_del(&t->link);
    w->count--;
}

/* The level of the first taken slot, and when it starts; for a wheel with timers, none of them due.
   WHEEL_LEVELS when all are beyond the wheel; it starts to reach farther then. */
static int first_slot(const struct wheel *w, uint64_t *ret_start) {
    int level = 0;
    uint64_t taken = w->occupied[0];
    while (!taken && level < TOP) taken = w->occupied[++level];
    if (level == TOP) taken &= ~FAR_BIT;
    if (!taken) {
        *ret_start = ((w->now >> WHEEL_SPAN_BITS) + 1) << WHEEL_SPAN_BITS;
        return WHEEL_LEVELS;
    }
    int shift = level * WHEEL_BITS;
    uint64_t below = (UINT64_C(1) << (shift + WHEEL_BITS)) - 1;
    *ret_start = (w->now & ~below) | (uint64_t)__builtin_ctzll(taken) << shift;
    return level;
}

/* Where the first timer beyond the wheel comes within its reach. */
static uint64_t first_far(struct wheel *w) {
    uint64_t first = UINT64_MAX;
    LIST_FOR (node, &w->slots[TOP][0]) {
        if (timer_of(node)->when < first) first = timer_of(node)->when;
    }
    return first >> WHEEL_SPAN_BITS << WHEEL_SPAN_BITS;
}

/* Goes to the next slot if that is not past now, and deals its timers out anew. */
static bool advance(struct wheel *w, uint64_t now) {
    uint64_t start, slot;
    if (w->count == 0) return false;
    int level = first_slot(w, &start);
    if (start > now) return false;
    if (level == WHEEL_LEVELS) {
        start = first_far(w);
        if (start > now) return false;
        level = TOP;
        slot = 0;
    } else {
        slot = (start >> level * WHEEL_BITS) & (WHEEL_SLOTS - 1);
    }
    w->now = start;
    if (level == 0) return true; /* the slot is that of now: its timers are due where they are */
    struct list moved, *node;
    list_init(&moved);
    list_splice_back(&moved, &w->slots[level][slot]);
    w->occupied[level] &= ~slot_bit(slot);
    while ((node = list_pop_front(&moved))) place(w, timer_of(node));
    return true;
}

struct wheel_timer *wheel_expire(struct wheel *w, uint64_t now) {
    while (!is_due(w)) {
        if (advance(w, now)) continue;
        if (now > w->now) w->now = now;
        return NULL;
    }
    struct wheel_timer *t = timer_of(w->slots[0][w->now & (WHEEL_SLOTS - 1)].next);
    wheel_del(w, t);
    return t;
}

/* With timers that are due already there is no later time at or before the first: w->now then. */
uint64_t wheel_next(const struct wheel *w) {
    uint64_t start;
    if (w->count == 0) return UINT64_MAX;
    if (is_due(w)) return w->now;
    first_slot(w, &start);
    return start;
}
