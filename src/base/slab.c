/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread at a time. Items live in chunks of SLAB_CHUNK_ITEMS; each has its id in front of it (0
 * while free), so that a look-up touches the chunk table and the item's own cache line and nothing else.
 * A chunk's free items are bits of a map: the lowest goes out first, which is memory order when fresh.
 *
 * Invariants: a chunk is in the open list while it has room. At most one chunk is empty, and it is the
 * last of that list: the spare, used after all others, so that a count that swings around a
 * multiple of the chunk size does not allocate each time.
 *
 * Serials wrap after 2^40 ids: a stale id could then match only if it is exactly that old.
 */
#include "base/slab.h"
#include "base/asan.h"
#include "base/assert.h"
#include <stdlib.h>
#include <string.h>

enum {
    INDEX_BITS = 24,
    ITEMS_MAX = (1 << INDEX_BITS) - 1,
    SLOTS_MAX = (1 << INDEX_BITS) / SLAB_CHUNK_ITEMS,
    WORDS = SLAB_CHUNK_ITEMS / 64,
    FIRST_SLOTS = 4,
};

struct slot {
    uint64_t id; /* 0: free */
    _Alignas(max_align_t) char item[];
};

struct slab_chunk {
    struct list link;
    size_t place; /* in slab.chunks */
    size_t used;
    uint64_t free[WORDS];
    _Alignas(max_align_t) char slots[];
};

static size_t stride(const struct slab *s) {
    size_t align = _Alignof(max_align_t);
    return sizeof(struct slot) + (s->item_size + align - 1) / align * align;
}

static struct slot *slot_at(const struct slab *s, struct slab_chunk *c, size_t i) {
    return (struct slot *)(void *)(c->slots + i * stride(s));
}

static struct slab_chunk *chunk_of(struct list *link) {
    return CONTAINER_OF(link, struct slab_chunk, link);
}

void slab_init(struct slab *s, size_t item_size) {
    *s = (struct slab){.item_size = item_size};
    list_init(&s->open);
}

void slab_fini(struct slab *s) {
    for (size_t i = 0; i < s->chunk_slots; i++) free(s->chunks[i]);
    free(s->chunks);
    slab_init(s, s->item_size);
}

/* A free place in the table, when all chunks are full: there are count / SLAB_CHUNK_ITEMS of them, so if
   the place after as many is taken there is one free before it. */
static bool find_place(struct slab *s, size_t *ret_place) {
    size_t place = s->count / SLAB_CHUNK_ITEMS;
    if (place == s->chunk_slots) {
        size_t n = place ? place * 2 : FIRST_SLOTS;
        if (place >= SLOTS_MAX) return false;
        struct slab_chunk **chunks = realloc(s->chunks, n * sizeof *chunks);
        if (!chunks) return false;
        memset(chunks + place, 0, (n - place) * sizeof *chunks);
        s->chunks = chunks;
        s->chunk_slots = n;
    }
    while (s->chunks[place]) place--;
    *ret_place = place;
    return true;
}

static struct slab_chunk *chunk_new(struct slab *s) {
    size_t place;
    if (!find_place(s, &place)) return NULL;
    struct slab_chunk *c = calloc(1, sizeof *c + SLAB_CHUNK_ITEMS * stride(s));
    if (!c) return NULL;
    c->place = place;
    memset(c->free, 0xff, sizeof c->free);
    s->chunks[place] = c;
    list_push_back(&s->open, &c->link);
    return c;
}

void *slab_new(struct slab *s, uint64_t *ret_id) {
    if (s->count == ITEMS_MAX) return NULL;
    struct slab_chunk *c = list_empty(&s->open) ? chunk_new(s) : chunk_of(s->open.next);
    if (!c) return NULL;
    size_t word = 0;
    while (!c->free[word]) word++;
    size_t i = word * 64 + (size_t)__builtin_ctzll(c->free[word]);
    c->free[word] &= c->free[word] - 1;
    if (++c->used == SLAB_CHUNK_ITEMS) list_del(&c->link);
    s->count++;
    do s->serial = (s->serial + 1) & (UINT64_MAX >> INDEX_BITS);
    while (s->serial == 0);
    struct slot *slot = slot_at(s, c, i);
    slot->id = s->serial << INDEX_BITS | (c->place * SLAB_CHUNK_ITEMS + i);
    *ret_id = slot->id;
    ASAN_UNPOISON_MEMORY_REGION(slot->item, s->item_size);
    return memset(slot->item, 0, s->item_size);
}

static struct slot *find(const struct slab *s, uint64_t id) {
    size_t index = id & ITEMS_MAX, place = index / SLAB_CHUNK_ITEMS;
    if (id == 0 || place >= s->chunk_slots || !s->chunks[place]) return NULL;
    struct slot *slot = slot_at(s, s->chunks[place], index % SLAB_CHUNK_ITEMS);
    return slot->id == id ? slot : NULL;
}

void *slab_get(const struct slab *s, uint64_t id) {
    struct slot *slot = find(s, id);
    return slot ? slot->item : NULL;
}

/* c has just become empty: it becomes the spare, or goes if there is one. */
static void chunk_emptied(struct slab *s, struct slab_chunk *c) {
    bool have_spare = chunk_of(s->open.prev) != c && chunk_of(s->open.prev)->used == 0;
    list_del(&c->link);
    if (!have_spare) {
        list_push_back(&s->open, &c->link);
        return;
    }
    s->chunks[c->place] = NULL;
    free(c);
}

void slab_free(struct slab *s, uint64_t id) {
    struct slot *slot = find(s, id);
    if (!slot) return;
    size_t index = id & ITEMS_MAX, i = index % SLAB_CHUNK_ITEMS;
    struct slab_chunk *c = s->chunks[index / SLAB_CHUNK_ITEMS];
    slot->id = 0;
    ASAN_POISON_MEMORY_REGION(slot->item, s->item_size);
    c->free[i / 64] |= UINT64_C(1) << i % 64;
    s->count--;
    if (c->used-- == SLAB_CHUNK_ITEMS) list_push_front(&s->open, &c->link);
    if (c->used == 0) chunk_emptied(s, c);
}

void *slab_next(const struct slab *s, uint32_t *cursor, uint64_t *ret_id) {
    size_t index = *cursor, end = s->chunk_slots * SLAB_CHUNK_ITEMS;
    while (index < end) {
        struct slab_chunk *c = s->chunks[index / SLAB_CHUNK_ITEMS];
        if (!c) {
            index = (index / SLAB_CHUNK_ITEMS + 1) * SLAB_CHUNK_ITEMS;
            continue;
        }
        size_t i = index % SLAB_CHUNK_ITEMS;
        uint64_t taken = ~c->free[i / 64] >> i % 64;
        if (!taken) {
            index = (index / 64 + 1) * 64;
            continue;
        }
        index += (size_t)__builtin_ctzll(taken);
        struct slot *slot = slot_at(s, c, index % SLAB_CHUNK_ITEMS);
        *cursor = (uint32_t)index + 1;
        *ret_id = slot->id;
        return slot->item;
    }
    *cursor = (uint32_t)index;
    return NULL;
}
