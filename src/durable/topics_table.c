/* SPDX-License-Identifier: Apache-2.0 */
#include "durable/topics_state.h"
#include <stdlib.h>

enum { FIRST_BUCKETS = 16 };

bool topics_table_reserve(struct topics_table *table) {
    if (table->count < table->size) return true;
    size_t size = table->size ? table->size * 2 : FIRST_BUCKETS;
    struct topics_entry **buckets = calloc(size, sizeof(struct topics_entry *));
    if (!buckets) return table->size > 0; /* longer chains do as well */
    for (size_t i = 0; i < table->size; i++)
        for (struct topics_entry *e = table->buckets[i], *next; e; e = next) {
            next = e->next;
            e->next = buckets[e->hash & (size - 1)];
            buckets[e->hash & (size - 1)] = e;
        }
    free(table->buckets);
    table->buckets = buckets;
    table->size = size;
    return true;
}

void topics_table_add(struct topics_table *table, struct topics_entry *e, uint64_t hash) {
    struct topics_entry **at = &table->buckets[hash & (table->size - 1)];
    e->hash = hash;
    e->next = *at;
    *at = e;
    table->count++;
}

void topics_table_remove(struct topics_table *table, struct topics_entry *e) {
    struct topics_entry **at = &table->buckets[e->hash & (table->size - 1)];
    while (*at != e) at = &(*at)->next;
    *at = e->next;
    table->count--;
}

struct topics_entry *topics_table_chain(const struct topics_table *table, uint64_t hash) {
    return table->size ? table->buckets[hash & (table->size - 1)] : NULL;
}

struct topics_entry *topics_table_pop(struct topics_table *table, size_t *cursor) {
    while (*cursor < table->size && !table->buckets[*cursor]) ++*cursor;
    if (*cursor == table->size) return NULL;
    struct topics_entry *e = table->buckets[*cursor];
    topics_table_remove(table, e);
    return e;
}

void topics_table_fini(struct topics_table *table) {
    free(table->buckets);
    *table = (struct topics_table){0};
}
