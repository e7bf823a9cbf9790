/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How slices of a ring change hands when its members change, so that no two members work on a key at once:
 *
 *   prepare       a new epoch with the members that are wanted; the slices that are to move are held: nothing
 * of them is begun synchronise   whoever gives a slice up says when it is done with it; then the slice is its
 * new owner's, and held no more. The others go on all the time (stable)      all have moved: the epoch is
 * committed
 *
 * When members change meanwhile, or one dies, the next epoch begins from where this one stands: slices that
 * had moved stay moved, and those whose owner is to be the old one after all are held no more. What is
 * said of an older epoch is refused. Pure, and knows nothing of workers or hubs: who the members are,
 * when they have died and how they are asked is the caller's.
 */
#ifndef CORE_RESIZE_H
#define CORE_RESIZE_H

#include "core/ring.h"

enum resize_phase { RESIZE_STABLE, RESIZE_PREPARE, RESIZE_SYNCHRONISE };
const char *resize_phase_text(enum resize_phase phase);

struct resize {
    struct ring *ring; /* of the epoch; NULL before the first */
    uint64_t epoch;
    enum resize_phase phase;
    unsigned held;    /* slices that have yet to move */
    unsigned moved;   /* slices that this epoch moves, all in all */
    uint64_t changes; /* slices that have changed hands, ever, but for those that nobody had */
    uint64_t owners[RING_SLICES], holds[RING_SLICES / 64];
};

static inline void resize_init(struct resize *r) {
    *r = (struct resize){0};
}
void resize_fini(struct resize *r);

/* Prepare: these are to be the members from now on. 0, or WEIR_ENOMEM: all is as before. */
int resize_propose(struct resize *r, const struct ring_member *members, size_t n);
/* All members of the epoch hold what moves. 0, or WEIR_ESTATE: an older epoch, or the wrong phase. */
int resize_prepared(struct resize *r, uint64_t epoch);
/* Nothing of the slice is under way any more: it changes hands. 0, or WEIR_ESTATE: an older epoch, or it does
   not move. */
int resize_synced(struct resize *r, uint64_t epoch, unsigned slice);

static inline bool resize_holds(const struct resize *r, unsigned slice) {
    return r->holds[slice / 64] >> slice % 64 & 1;
}
/* The next held slice from this one on; RING_SLICES: none. */
unsigned resize_next_held(const struct resize *r, unsigned from);
/* Whose it is now, held or not; 0: nobody's. */
static inline uint64_t resize_owner(const struct resize *r, unsigned slice) {
    return r->owners[slice];
}

#endif
