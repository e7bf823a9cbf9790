/* SPDX-License-Identifier: Apache-2.0 */
/* xoshiro256** (Blackman, Vigna 2018), seeded by splitmix64: fast, repeatable from a seed, not for
   secrets. */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stdint.h>

struct random {
    uint64_t s[4];
};

void random_seed(struct random *r, uint64_t seed);
uint64_t random_u64(struct random *r);
/* 0 .. n-1, unbiased; n > 0. */
uint64_t random_below(struct random *r, uint64_t n);
/* [0, 1). */
double random_unit(struct random *r);
/* 64 bits from the operating system (getrandom); 0 or WEIR_EIO. */
int random_entropy(uint64_t *ret_bits);

#endif
