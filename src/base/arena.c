/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread at a time. Chunks grow with what was handed out so far, so that a large arena has few and
 * a small one wastes little. What is large for a chunk gets one of its own, and the room left in the
 * current chunk stays in use.
 */
#include "base/arena.h"
#include "base/asan.h"
#include <stdlib.h>

enum { ALIGN = _Alignof(max_align_t), CHUNK_MIN = 4096, CHUNK_MAX = 65536 };

struct arena_chunk {
    struct arena_chunk *next;
    _Alignas(ALIGN) char room[];
};

void arena_init(struct arena *a, size_t limit, void *room, size_t size) {
    *a = (struct arena){.limit = limit};
    if (BASE_ASAN || !room) return;
    a->at = room;
    a->end = a->at + size;
}

void arena_fini(struct arena *a) {
    struct arena_chunk *next;
    for (struct arena_chunk *c = a->chunks; c; c = next) {
        next = c->next;
        free(c);
    }
    *a = (struct arena){.limit = a->limit};
}

static struct arena_chunk *chunk_new(struct arena *a, size_t room) {
    struct arena_chunk *c = malloc(sizeof *c + room);
    if (!c) return NULL;
    c->next = a->chunks;
    a->chunks = c;
    return c;
}

/* From a new chunk; chunks are aligned for anything. */
static void *alloc_slow(struct arena *a, size_t size) {
    if (size > PTRDIFF_MAX - sizeof(struct arena_chunk)) return NULL;
    size_t chunk = a->used < CHUNK_MIN ? CHUNK_MIN : a->used > CHUNK_MAX ? CHUNK_MAX : a->used;
    chunk -= sizeof(struct arena_chunk);
    bool own = BASE_ASAN || size > chunk / 4;
    struct arena_chunk *c = chunk_new(a, own ? size : chunk);
    if (!c) return NULL;
    if (!own) {
        a->at = c->room + size;
        a->end = c->room + chunk;
    }
    a->used += size;
    return c->room;
}

static inline void *alloc(struct arena *a, size_t size, size_t align) {
    if (a->limit && size > a->limit - a->used) return NULL;
    size_t room = (size_t)(a->end - a->at), pad = -(uintptr_t)a->at & (align - 1);
    if (!a->at || room < pad || size > room - pad) return alloc_slow(a, size);
    char *p = a->at + pad;
    a->at = p + size;
    a->used += size;
    return p;
}

void *arena_alloc(struct arena *a, size_t size) {
    return alloc(a, size, ALIGN);
}

char *arena_bytes(struct arena *a, size_t size) {
    return alloc(a, size, 1);
}

struct slice arena_copy(struct arena *a, struct slice s) {
    char *p = arena_bytes(a, s.n + 1);
    if (!p) return (struct slice){NULL, 0};
    if (s.n) memcpy(p, s.p, s.n);
    p[s.n] = '\0';
    return (struct slice){p, s.n};
}
