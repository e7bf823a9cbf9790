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

struct ready_link *core_ready_best(const struct ready *r) {
    for (unsigned word = 0; word * 64 < r->count; word++) {
        if (!r->occupied[word]) continue;
        unsigned level = word * 64 + (unsigned)__builtin_ctzll(r->occupied[word]);
        return CONTAINER_OF(r->levels[level].next, struct ready_link, link);
    }
    return NULL;
}
