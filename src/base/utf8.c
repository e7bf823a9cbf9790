/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"

int32_t utf8_next(struct slice *text) {
    static const int32_t least[] = {0, 0x80, 0x800, 0x10000};
    if (text->n == 0) return -1;
    unsigned char first = (unsigned char)text->p[0];
    size_t more = first < 0x80   ? 0
                  : first < 0xc2 ? 4
                  : first < 0xe0 ? 1
                  : first < 0xf0 ? 2
                  : first < 0xf5 ? 3
                                 : 4;
    if (more > 3 || text->n <= more) return -1;
    int32_t c = more == 0 ? first : first & (0x3f >> more);
    for (size_t i = 1; i <= more; i++) {
        unsigned char next = (unsigned char)text->p[i];
        if ((next & 0xc0) != 0x80) return -1;
        c = c << 6 | (next & 0x3f);
    }
    if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) return -1;
    text->p += more + 1;
    text->n -= more + 1;
    return c;
}

bool utf8_valid(struct slice text) {
    while (text.n > 0) {
        uint64_t eight; /* text is ASCII for the most part */
        if (text.n >= sizeof eight) {
            memcpy(&eight, text.p, sizeof eight);
            if ((eight & UINT64_C(0x8080808080808080)) == 0) {
                text.p += sizeof eight;
                text.n -= sizeof eight;
                continue;
            }
        }
        if (utf8_next(&text) < 0) return false;
    }
    return true;
}
