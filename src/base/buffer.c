/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buffer.h"
#include "base/assert.h"
#include "weir/weir.h"
#include <stdio.h>
#include <stdlib.h>

enum { FIRST_CAP = 256, KEEP_CAP = 4096 };

void buffer_fini(struct buffer *b) {
    buffer_reset(b);
}

void buffer_reset(struct buffer *b) {
    free(b->data);
    *b = (struct buffer){0};
}

static void move_to(struct buffer *b, char *data) {
    size_t size = buffer_size(b);
    if (size) memmove(data, b->data + b->start, size);
    b->start = 0;
    b->end = size;
}

static char *starve(struct buffer *b) {
    b->starved = true;
    return NULL;
}

static char *reserve_slow(struct buffer *b, size_t n) {
    size_t size = buffer_size(b);
    if (n > PTRDIFF_MAX - size) return starve(b);
    /* Moving down is cheap only when no more is moved than was consumed before. */
    if (b->data && size <= b->start && size + n <= b->cap) {
        move_to(b, b->data);
        return b->data + b->end;
    }
    size_t cap = b->cap > FIRST_CAP / 2 ? b->cap : FIRST_CAP / 2;
    do cap *= 2;
    while (cap < size + n);
    char *data = malloc(cap);
    if (!data) return starve(b);
    move_to(b, data);
    free(b->data);
    b->data = data;
    b->cap = cap;
    return data + size;
}

char *buffer_reserve(struct buffer *b, size_t n) {
    if (b->data && n <= b->cap - b->end) return b->data + b->end;
    return reserve_slow(b, n);
}

int buffer_append(struct buffer *b, const void *bytes, size_t n) {
    if (n == 0) return 0;
    char *at = buffer_reserve(b, n);
    if (!at) return WEIR_ENOMEM;
    memcpy(at, bytes, n);
    b->end += n;
    return 0;
}

int buffer_printf(struct buffer *b, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int r = buffer_vprintf(b, format, args);
    va_end(args);
    return r;
}

int buffer_vprintf(struct buffer *b, const char *format, va_list args) {
    size_t room = b->cap - b->end;
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(room ? b->data + b->end : NULL, room, format, args);
    if (n >= 0 && (size_t)n >= room) { /* did not fit: once more, with enough room */
        char *at = buffer_reserve(b, (size_t)n + 1);
        n = at ? vsnprintf(at, (size_t)n + 1, format, again) : -1;
    }
    va_end(again);
    if (n < 0) return WEIR_ENOMEM;
    b->end += (size_t)n;
    return 0;
}

void buffer_consume(struct buffer *b, size_t n) {
    ASSERT(n <= buffer_size(b));
    b->start += n;
    if (b->start < b->end) return;
    if (b->cap > KEEP_CAP)
        buffer_reset(b);
    else
        b->start = b->end = 0;
}
