/* SPDX-License-Identifier: Apache-2.0 */
/* XXH64 (xxhash, by Yann Collet). With a secret seed, nobody can look for names that collide in a table; with
   seed 0, it is the same on every machine. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/slice.h"

uint64_t hash_bytes(struct slice bytes, uint64_t seed);

#endif
