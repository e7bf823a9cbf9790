/* SPDX-License-Identifier: Apache-2.0 */
#include "base/random.h"
#include "base/assert.h"
#include "weir/weir.h"
#include <errno.h>
#include <sys/random.h>

static uint64_t splitmix64(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t rotl(uint64_t x, int k) {
    return (x << k) | (x >> (64 - k));
}

void random_seed(struct random *r, uint64_t seed) {
    for (int i = 0; i < 4; i++) r->s[i] = splitmix64(&seed);
}

uint64_t random_u64(struct random *r) {
    uint64_t *s = r->s, result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

/* Lemire 2019: the high half of a 128-bit product; the few low halves that would bias it are redrawn. */
uint64_t random_below(struct random *r, uint64_t n) {
    ASSERT(n > 0);
    unsigned __int128 product = (unsigned __int128)random_u64(r) * n;
    if ((uint64_t)product < n) {
        uint64_t least = (0 - n) % n;
        while ((uint64_t)product < least) product = (unsigned __int128)random_u64(r) * n;
    }
    return (uint64_t)(product >> 64);
}

double random_unit(struct random *r) {
    return (double)(random_u64(r) >> 11) * 0x1p-53;
}

int random_entropy(uint64_t *ret_bits) {
    uint64_t bits;
    ssize_t n;
    do n = getrandom(&bits, sizeof bits, 0);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof bits) return WEIR_EIO;
    *ret_bits = bits;
    return 0;
}
