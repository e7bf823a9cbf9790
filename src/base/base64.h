/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include "base/slice.h"

/* How long n bytes become. */
static inline size_t base64_size(size_t n) {
    return (n + 2) / 3 * 4;
}
/* Writes them with padding (RFC 4648 4) to dst, which has room for base64_size. */
void base64_encode(struct slice bytes, char *dst);

#endif
