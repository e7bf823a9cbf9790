/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arena: many small allocations, freed together. One request owns one arena.
 * The first chunk may be memory of the caller (typically the rest of the struct that holds the
 * arena). Under AddressSanitizer each allocation is a malloc of its own, so that overruns show.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/slice.h"

struct arena_chunk;
struct arena {
    char *at, *end;             /* free room in the newest chunk */
    struct arena_chunk *chunks; /* malloc'ed ones, newest first */
    size_t used;                /* bytes handed out */
    size_t limit;               /* most that may be handed out; 0: no limit */
};

/* room (size bytes, may be NULL/0) serves first and stays the caller's. */
void arena_init(struct arena *a, size_t limit, void *room, size_t size);
void arena_fini(struct arena *a);
/* size bytes, aligned for any type; NULL when out of memory or over the limit. size 0 is fine. */
void *arena_alloc(struct arena *a, size_t size);
/* size bytes without alignment, for text. */
char *arena_bytes(struct arena *a, size_t size);
/* A copy of s followed by a NUL that is not counted; .p is NULL on failure. */
struct slice arena_copy(struct arena *a, struct slice s);

#endif
