/* SPDX-License-Identifier: Apache-2.0 */
#include "base/heap.h"
#include "base/assert.h"
#include "weir/weir.h"
#include <stdint.h>
#include <stdlib.h>

enum { FIRST_ROOM = 16 };

void heap_init(struct heap *h, bool (*before)(const void *a, const void *b), size_t *(*place)(void *item)) {
    *h = (struct heap){.before = before, .place = place};
}

void heap_fini(struct heap *h) {
    free(h->items);
    h->items = NULL;
    h->count = h->room = 0;
}

static void put(struct heap *h, size_t at, void *item) {
    h->items[at] = item;
    *h->place(item) = at;
}

static void up(struct heap *h, size_t at, void *item) {
    for (; at > 0 && h->before(item, h->items[(at - 1) / 2]); at = (at - 1) / 2)
        put(h, at, h->items[(at - 1) / 2]);
    put(h, at, item);
}

static void down(struct heap *h, size_t at, void *item) {
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= h->count) break;
        if (child + 1 < h->count && h->before(h->items[child + 1], h->items[child])) child++;
        if (!h->before(h->items[child], item)) break;
        put(h, at, h->items[child]);
        at = child;
    }
    put(h, at, item);
}

int heap_add(struct heap *h, void *item) {
    ASSERT(*h->place(item) == HEAP_NOWHERE);
    if (h->count == h->room) {
        size_t room = h->room ? h->room * 2 : FIRST_ROOM;
        void **items = realloc(h->items, room * sizeof *items);
        if (!items) return WEIR_ENOMEM;
        h->items = items;
        h->room = room;
    }
    up(h, h->count++, item);
    return 0;
}

static void settle(struct heap *h, size_t at, void *item) {
    if (at > 0 && h->before(item, h->items[(at - 1) / 2]))
        up(h, at, item);
    else
        down(h, at, item);
}

int heap_update(struct heap *h, void *item) {
    size_t at = *h->place(item);
    if (at == HEAP_NOWHERE) return heap_add(h, item);
    ASSERT(at < h->count && h->items[at] == item);
    if (h->count > 1) settle(h, at, item);
    return 0;
}

void heap_remove(struct heap *h, void *item) {
    size_t at = *h->place(item);
    if (at == HEAP_NOWHERE) return;
    ASSERT(at < h->count && h->items[at] == item);
    *h->place(item) = HEAP_NOWHERE;
    void *last = h->items[--h->count];
    if (last != item) settle(h, at, last);
}
