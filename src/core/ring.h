/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which member owns which key: keys over the workers of a service, topics over the hubs of a cluster.
 *
 * The hashes of keys are cut into RING_SLICES equal slices, and each slice is owned by one member. The table
 * is a pure function of the set of members, whatever their order and whatever the machine, so that hubs
 * that know the same members agree on it without a word. It never changes once made: make the next one and
 * ask ring_moved what differs. Any thread.
 *
 * Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam: "Consistent Hashing with Bounded
 * Loads", 2016). No member owns more than 1.2 times its share by weight, rounded up to a slice. When one of N
 * equal members comes or goes, about 1/N of the slices get another owner, and up to 200 members less than
 * 1.25/N in 99 of 100 sets of members; when none is at its bound, only slices of the one that comes or goes.
 * (Of 1000, with 16 slices each, 1.3/N.)
 */
#ifndef CORE_RING_H
#define CORE_RING_H

#include "base/slice.h"

enum {
    RING_SLICES = 16384,
    RING_MEMBERS_MAX = 65535,
    RING_WEIGHT_MAX = 1024, /* a larger weight counts as this */
};

struct ring;

struct ring_member {
    uint64_t id;     /* not 0 */
    unsigned weight; /* slots, for example; 0 counts as 1 */
};

/* At most RING_MEMBERS_MAX members, each id once. 0, and the caller owns the ring; or WEIR_ENOMEM. With no
   members, nobody owns anything. Takes some 1.5 ms for 200 members, 10 ms for 1000, and at most 60 ms for
   tens of thousands of which one is very heavy; meanwhile 9 MiB at most. The ring keeps 32 KiB and 16 bytes a
   member. */
int ring_make(const struct ring_member *members, size_t n, struct ring **ret_ring);
/* Frees it and sets it to NULL; nothing happens to a NULL. */
void ring_free(struct ring **ring);

/* The slice that a key belongs to, below RING_SLICES. */
unsigned ring_slice(struct slice key);
/* The id of the slice's owner; 0: none. O(1). */
uint64_t ring_owner(const struct ring *r, unsigned slice);
/* How many slices the member owns; 0 also for a stranger. */
unsigned ring_share(const struct ring *r, uint64_t id);
/* How many slices have another owner in b than in a, and which: bit s % 64 of moved[s / 64] is set for slice
   s, and no other. moved may be NULL. */
unsigned ring_moved(const struct ring *a, const struct ring *b, uint64_t moved[RING_SLICES / 64]);

#endif
