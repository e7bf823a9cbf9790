/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The workers of a service that have a free slot, by the number of jobs that they run; FIFO among
 * those that run equally many, so that the first has been in that state longest. O(1) but for finding the
 * lowest occupied level, which looks at most at READY_LEVELS / 64 words.
 *
 * Workers that run READY_LEVELS - 1 jobs or more share the last level. There are as many levels as the
 * largest number of slots asked for; when memory for more is lacking, the last one is shared earlier.
 */
#ifndef CORE_READY_H
#define CORE_READY_H

#include "base/list.h"
#include <stdint.h>

enum { READY_LEVELS = 1024, READY_LEVELS_FIRST = 8 };

struct ready_link {
    struct list link;
    unsigned level;
};

struct ready {
    struct list *levels; /* first, or malloc'ed */
    unsigned count;
    uint64_t occupied[READY_LEVELS / 64]; /* bit l: level l is not empty */
    struct list first[READY_LEVELS_FIRST];
};

void core_ready_init(struct ready *r);
void core_ready_fini(struct ready *r);
/* Makes levels for workers with so many slots, memory permitting. */
void core_ready_grow(struct ready *r, unsigned slots);
void core_ready_add(struct ready *r, struct ready_link *l, unsigned running);
void core_ready_remove(struct ready *r, struct ready_link *l);
/* The first of the lowest level; NULL: none. */
struct ready_link *core_ready_best(const struct ready *r);
/* The one after l, in the order of core_ready_best; NULL: none. */
struct ready_link *core_ready_after(const struct ready *r, const struct ready_link *l);

#endif
