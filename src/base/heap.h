/* SPDX-License-Identifier: Apache-2.0 */
/* A binary heap of pointers (Williams, 1964) whose items know their places, so that any of them can be taken
   out: O(log n) each, and no memory is needed to take one out. */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>

#define HEAP_NOWHERE SIZE_MAX

struct heap {
    void **items; /* items[0] is the first */
    size_t count, room;
    bool (*before)(const void *a, const void *b);
    size_t *(*place)(void *item); /* where the item keeps its place; HEAP_NOWHERE: in no heap */
};

void heap_init(struct heap *h, bool (*before)(const void *a, const void *b), size_t *(*place)(void *item));
/* Frees the heap's own memory, which comes back with the next item. */
void heap_fini(struct heap *h);
/* 0 or WEIR_ENOMEM. */
int heap_add(struct heap *h, void *item);
/* Whether the item comes before others has changed. 0 or WEIR_ENOMEM: it was in no heap, and is in none. */
int heap_update(struct heap *h, void *item);
/* Nothing happens to an item that is in no heap. */
void heap_remove(struct heap *h, void *item);
/* NULL: empty. */
static inline void *heap_first(const struct heap *h) {
    return h->count ? h->items[0] : NULL;
}

#endif
