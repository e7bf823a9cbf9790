/* SPDX-License-Identifier: Apache-2.0 */
#include "core/ready.h"
#include <stddef.h>
#include <stdlib.h>

void core_ready_init(struct ready *r) {
    *r = (struct ready){.levels = r->first, .count = READY_LEVELS_FIRST};
    for (unsigned i = 0; i < r->count; i++) list_init(&r->levels[i]);
}

void core_ready_fini(struct ready *r) {
    if (r->levels != r->first) free(r->levels);
}

void core_ready_grow(struct ready *r, unsigned slots) {
    unsigned count = r->count;
    while (count < slots && count < READY_LEVELS) count *= 2;
    if (count == r->count) return;
    struct list *levels = malloc(count * sizeof *levels);
    if (!levels) return;
    for (unsigned i = 0; i < count; i++) {
        list_init(&levels[i]);
        if (i < r->count) list_splice_back(&levels[i], &r->levels[i]);
    }
    core_ready_fini(r);
    r->levels = levels;
    r->count = count;
}

void core_ready_add(struct ready *r, struct ready_link *l, unsigned running) {
    l->level = running < r->count ? running : r->count - 1;
    list_push_back(&r->levels[l->level], &l->link);
    r->occupied[l->level / 64] |= UINT64_C(1) << l->level % 64;
}

void core_ready_remove(struct ready *r, struct ready_link *l) {
    list_del(&l->link);
    if (list_empty(&r->levels[l->level])) r->occupied[l->level / 64] &= ~(UINT64_C(1) << l->level % 64);
}

/* The first of the lowest occupied level from this one on. */
static struct ready_link *from(const struct ready *r, unsigned level) {
    uint64_t mask = ~UINT64_C(0) << level % 64;
    for (unsigned word = level / 64; word * 64 < r->count; word++, mask = ~UINT64_C(0)) {
        uint64_t bits = r->occupied[word] & mask;
        if (!bits) continue;
        level = word * 64 + (unsigned)__builtin_ctzll(bits);
        return CONTAINER_OF(r->levels[level].next, struct ready_link, link);
    }
    return NULL;
}

struct ready_link *core_ready_best(const struct ready *r) {
    return from(r, 0);
}

struct ready_link *core_ready_after(const struct ready *r, const struct ready_link *l) {
    if (l->link.next != &r->levels[l->level]) return CONTAINER_OF(l->link.next, struct ready_link, link);
    return from(r, l->level + 1);
}
