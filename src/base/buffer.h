/* SPDX-License-Identifier: Apache-2.0 */
/* A growable run of bytes with a read end: append at the back, consume at the front. Frees its
   memory as soon as it is empty and large, so that idle owners cost nothing. */
#ifndef BASE_BUFFER_H
#define BASE_BUFFER_H

#include "base/slice.h"
#include <stdarg.h>

struct buffer {
    char *data;
    size_t start, end, cap; /* bytes are data[start..end) */
    bool starved;           /* memory ran out since it was last reset: something may be missing */
};

static inline void buffer_init(struct buffer *b) {
    *b = (struct buffer){0};
}
static inline size_t buffer_size(const struct buffer *b) {
    return b->end - b->start;
}
static inline struct slice buffer_slice(const struct buffer *b) {
    return (struct slice){b->data ? b->data + b->start : NULL, b->end - b->start}; /* NULL + 0 is undefined */
}
void buffer_fini(struct buffer *b);
/* Room for at least n more bytes at the returned place; NULL when out of memory. Follow with
   buffer_commit of what was written there. */
char *buffer_reserve(struct buffer *b, size_t n);
static inline void buffer_commit(struct buffer *b, size_t n) {
    b->end += n;
}
/* 0 or WEIR_ENOMEM; nothing is appended on failure. */
int buffer_append(struct buffer *b, const void *bytes, size_t n);
static inline int buffer_append_slice(struct buffer *b, struct slice s) {
    return buffer_append(b, s.p, s.n);
}
int buffer_printf(struct buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
int buffer_vprintf(struct buffer *b, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
/* Drops n bytes from the front (n <= size). When empty: keeps up to 4 KiB of memory for next time,
   frees more. */
void buffer_consume(struct buffer *b, size_t n);
/* Drops everything and frees the memory. */
void buffer_reset(struct buffer *b);

#endif
