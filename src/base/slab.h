/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table of equal-sized items that are named by ids, not by pointers: an id of a freed item is
 * never found again, so that late messages are recognised as such. O(1) each. Items do not move.
 * Chunks that become empty are given back.
 *
 * An id is (serial << 24 | index): 16,777,215 items at once, 2^40 ids in a lifetime; 0 is no id.
 */
#ifndef BASE_SLAB_H
#define BASE_SLAB_H

#include "base/list.h"
#include <stdint.h>

enum { SLAB_CHUNK_ITEMS = 256 };

struct slab_chunk;
struct slab {
    size_t item_size;
    struct slab_chunk **chunks; /* by index / SLAB_CHUNK_ITEMS; NULL where given back */
    size_t chunk_slots;
    struct list open; /* chunks with room */
    uint64_t serial;
    size_t count;
};

void slab_init(struct slab *s, size_t item_size);
/* All items must have been freed or be of no interest: memory is released. */
void slab_fini(struct slab *s);
/* A zeroed item and its id; NULL when out of memory or full. */
void *slab_new(struct slab *s, uint64_t *ret_id);
/* The item, or NULL when the id names none (any more). */
void *slab_get(const struct slab *s, uint64_t id);
void slab_free(struct slab *s, uint64_t id);
/* Walking: the item with the lowest index at or after *cursor, and its id; advances *cursor. NULL at the end.
   Start with cursor 0. Items may be freed while walking. */
void *slab_next(const struct slab *s, uint32_t *cursor, uint64_t *ret_id);

#endif
