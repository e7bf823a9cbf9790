/* SPDX-License-Identifier: Apache-2.0 */
#include "base/base64.h"

void base64_encode(struct slice bytes, char *dst) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = (const unsigned char *)bytes.p;
    for (size_t n = bytes.n; n > 0; n -= n < 3 ? n : 3, p += 3) {
        uint32_t bits = (uint32_t)p[0] << 16;
        if (n > 1) bits |= (uint32_t)p[1] << 8;
        if (n > 2) bits |= p[2];
        *dst++ = digits[bits >> 18];
        *dst++ = digits[bits >> 12 & 63];
        *dst++ = n > 1 ? digits[bits >> 6 & 63] : '=';
        *dst++ = n > 2 ? digits[bits & 63] : '=';
    }
}
