/* SPDX-License-Identifier: Apache-2.0 */
/* Borrowed runs of bytes, not NUL-terminated. Plain functions on values; no allocation. */
#ifndef BASE_SLICE_H
#define BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const char *p;
    size_t n;
};

#define SLICE(literal) ((struct slice){(literal), sizeof(literal) - 1})
enum { SLICE_U64 = 20 }; /* digits of a uint64_t at most */
/* For printf's %.*s. */
#define SLICE_ARG(s) (int)(s).n, (s).p

static inline struct slice slice_of(const char *text) {
    return (struct slice){text, text ? strlen(text) : 0};
}
static inline bool slice_eq(struct slice a, struct slice b) {
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* Equal but for the case of ASCII letters. */
bool slice_eq_nocase(struct slice a, struct slice b);
/* Without leading and trailing spaces and tabs. */
struct slice slice_trim(struct slice s);
/* Cuts off what stands before the first sep and returns it trimmed; *rest is what stands after it
   (empty, with p NULL, when there was no sep). For walking lists: while (rest.p) item = slice_next(&rest,
   ','). */
struct slice slice_next(struct slice *rest, char sep);
/* Decimal digits only, at least one, up to UINT64_MAX: true and *ret_value, else false. */
bool slice_u64(struct slice s, uint64_t *ret_value);
/* A duration as people write it, "250ms", "30s", "5m", "2h", "7d" or plain seconds "30": true and
   milliseconds in *ret_ms; false for anything else or what does not fit. */
bool slice_duration_ms(struct slice s, uint64_t *ret_ms);
/* A size, "64", "64K", "64KiB", "1M", "1MiB", "1G", "1GiB" (powers of 1024): bytes. */
bool slice_size(struct slice s, uint64_t *ret_bytes);
/* The value in decimal and in lower-case hexadecimal digits, written into text. (printf's way costs a hot
   path ten times as much.) */
struct slice slice_from_u64(char text[static SLICE_U64], uint64_t value);
struct slice slice_from_hex(char text[static SLICE_U64], uint64_t value);
/* Of a hexadecimal digit in either case: 0 to 15; -1: it is none. */
static inline int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}
/* Lower-case hexadecimal digits only, 1 to 16: true and *ret_value. */
bool slice_hex(struct slice s, uint64_t *ret_value);
/* Percent-decoding (RFC 3986 2.1) of s into dst, which has room for s.n bytes; '+' becomes a space
   when plus. Returns the decoded length, or -1 for a broken escape. */
ptrdiff_t slice_percent_decode(struct slice s, bool plus, char *dst);

#endif
