/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every member has the same number of points on the circle of 64-bit hashes. The slices are visited from 0
 * up, and each goes to the member with room that is nearest clockwise: by the distance to its nearest point,
 * divided by its weight (Schindelhauer, Schomaker: "Weighted Distributed Hash Tables", 2005, the linear
 * method). With equal weights this is the plain ring. Weights by the number of points would make a ring of
 * 16-slot workers 16 times as dear for nothing, and a bound to that would have to rescale everybody's points,
 * and so move their slices, when a heavy member comes.
 *
 * Measured: with 512 points, 2 to 50 members move 1.07 to 1.12 times their share when they leave (99th
 * percentile of random sets); with 128, 1.17 to 1.22 times. With 200 members a share is 82 slices, and chance
 * alone spreads it by 11 %, whatever the points: there the bound of 1.2 cuts the tail, to 1.245 times. A
 * tighter one makes more members full, and slices are passed on from full to full; a looser one lets a single
 * member have more.
 *
 * More than POINTS_TOTAL / POINTS members have fewer points each, the first ones of those they had. That
 * moves one more share for each member that comes, on average, in steps of one point of every member.
 */
#include "core/ring.h"

#include "base/assert.h"
#include "base/hash.h"
#include "weir/weir.h"
#include <endian.h>
#include <stdlib.h>

enum {
    POINTS = 512,           /* a member's */
    POINTS_TOTAL = 1 << 19, /* of all members, at most */
    LOAD_PERCENT = 120,     /* of its share by weight a member owns at most, rounded up */
    SLICE_SHIFT = 64 - 14,
};
_Static_assert(RING_SLICES == 1 << (64 - SLICE_SHIFT), "slices are the top bits of a hash");

struct place {
    uint64_t id;
    uint16_t weight, load, room;
};

struct ring {
    uint16_t owner[RING_SLICES]; /* index in members */
    size_t n;
    struct place members[]; /* n + 1, by id; the first stands for nobody */
};

/* A point is its position, 48 bits of hash, above the index of its member, 16 bits. */
struct points {
    size_t each, n;
    uint32_t first[RING_SLICES + 1]; /* of each slice, in sorted; the last is n */
    uint64_t *made;                  /* n, as they come */
    uint64_t sorted[];               /* n */
};

static int by_id(const void *a, const void *b) {
    const struct place *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static void set_members(struct ring *r, const struct ring_member *members, size_t n) {
    r->n = n;
    for (size_t i = 0; i < n; i++) {
        unsigned w = members[i].weight;
        w = w < 1 ? 1 : w > RING_WEIGHT_MAX ? RING_WEIGHT_MAX : w;
        r->members[i + 1] = (struct place){.id = members[i].id, .weight = (uint16_t)w};
    }
    qsort(r->members, n + 1, sizeof r->members[0], by_id);
    uint64_t total = 0;
    for (size_t i = 1; i <= n; i++) {
        ASSERT(r->members[i].id != r->members[i - 1].id);
        total += r->members[i].weight;
    }
    for (size_t i = 1; i <= n; i++) {
        uint64_t room =
            ((uint64_t)RING_SLICES * LOAD_PERCENT * r->members[i].weight + total * 100 - 1) / (total * 100);
        r->members[i].room = (uint16_t)(room < RING_SLICES ? room : RING_SLICES);
    }
}

/* The same on machines of either byte order. */
static uint64_t point_of(uint64_t id, uint64_t number) {
    uint64_t words[] = {htole64(id), htole64(number)};
    return hash_bytes((struct slice){(const char *)words, sizeof words}, 0);
}

static void sort_few(uint64_t *v, size_t n) {
    for (size_t i = 1; i < n; i++) {
        uint64_t x = v[i];
        size_t k = i;
        for (; k > 0 && v[k - 1] > x; k--) v[k] = v[k - 1];
        v[k] = x;
    }
}

static void make_points(struct points *p, const struct ring *r) {
    uint32_t *first = p->first;
    uint64_t *made = p->made;
    for (size_t i = 1; i <= r->n; i++) {
        for (size_t k = 0; k < p->each; k++) {
            uint64_t point = (point_of(r->members[i].id, k) & ~UINT64_C(0xffff)) | i;
            *made++ = point;
            first[point >> SLICE_SHIFT]++;
        }
    }
    /* A counting sort by slice: each first goes from its slice's end down to its beginning. */
    for (size_t s = 1; s <= RING_SLICES; s++) first[s] += first[s - 1];
    while (made > p->made) {
        uint64_t point = *--made;
        p->sorted[--first[point >> SLICE_SHIFT]] = point;
    }
    for (size_t s = 0; s < RING_SLICES; s++) sort_few(p->sorted + first[s], first[s + 1] - first[s]);
}

/* The owner of a slice. No point further away than the best one's distance times heaviest / its weight can
 * win. */
static uint16_t choose(const struct ring *r, const struct points *p, unsigned slice, uint64_t heaviest) {
    uint64_t start = (uint64_t)slice << SLICE_SHIFT, best_distance = 0, best_weight = 0;
    uint16_t best = 0;
    size_t at = p->first[slice];
    for (size_t left = p->n; left > 0; left--, at++) {
        if (at == p->n) at = 0;
        uint64_t distance = (p->sorted[at] - start) >> 16;
        if (best && distance * best_weight >= best_distance * heaviest) break;
        const struct place *m = &r->members[p->sorted[at] & 0xffff];
        if (m->load == m->room || (best && distance * best_weight >= best_distance * m->weight)) continue;
        best = (uint16_t)(p->sorted[at] & 0xffff);
        best_distance = distance;
        best_weight = m->weight;
    }
    ASSERT(best);
    return best;
}

static void assign(struct ring *r, const struct points *p) {
    uint64_t heaviest = 0;
    for (size_t i = 1; i <= r->n; i++)
        if (r->members[i].weight > heaviest) heaviest = r->members[i].weight;
    for (unsigned s = 0; s < RING_SLICES; s++) {
        r->owner[s] = choose(r, p, s, heaviest);
        r->members[r->owner[s]].load++;
    }
}

/* 0 or WEIR_ENOMEM. */
static int fill(struct ring *r) {
    size_t each = r->n <= POINTS_TOTAL / POINTS ? POINTS : POINTS_TOTAL / r->n;
    size_t n = each * r->n;
    struct points *p = calloc(1, sizeof *p + 2 * n * sizeof p->sorted[0]);
    if (!p) return WEIR_ENOMEM;
    p->each = each;
    p->n = n;
    p->made = p->sorted + n;
    make_points(p, r);
    assign(r, p);
    free(p);
    return 0;
}

int ring_make(const struct ring_member *members, size_t n, struct ring **ret_ring) {
    ASSERT(n <= RING_MEMBERS_MAX);
    struct ring *r = calloc(1, sizeof *r + (n + 1) * sizeof r->members[0]);
    if (!r) return WEIR_ENOMEM;
    set_members(r, members, n);
    if (n > 0 && fill(r) < 0) {
        free(r);
        return WEIR_ENOMEM;
    }
    *ret_ring = r;
    return 0;
}

void ring_free(struct ring **ring) {
    free(*ring);
    *ring = NULL;
}

unsigned ring_slice(struct slice key) {
    return (unsigned)(hash_bytes(key, 0) >> SLICE_SHIFT);
}

uint64_t ring_owner(const struct ring *r, unsigned slice) {
    ASSERT(slice < RING_SLICES);
    return r->members[r->owner[slice]].id;
}

unsigned ring_share(const struct ring *r, uint64_t id) {
    const struct place *m = bsearch(&(struct place){.id = id}, r->members, r->n + 1, sizeof *m, by_id);
    return m ? m->load : 0;
}

unsigned ring_moved(const struct ring *a, const struct ring *b, uint64_t moved[RING_SLICES / 64]) {
    unsigned count = 0;
    if (moved) memset(moved, 0, RING_SLICES / 8);
    for (unsigned s = 0; s < RING_SLICES; s++) {
        if (ring_owner(a, s) == ring_owner(b, s)) continue;
        count++;
        if (moved) moved[s / 64] |= UINT64_C(1) << s % 64;
    }
    return count;
}
