/* SPDX-License-Identifier: Apache-2.0 */
/* Log-linear histogram of 64-bit values (as in HdrHistogram): 32 steps per power of two, so a
   quantile is right within 1/32 (3.2 %). Fixed size, no allocation. */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

enum { HISTOGRAM_STEPS = 32, HISTOGRAM_BUCKETS = 60 * HISTOGRAM_STEPS };

struct histogram {
    uint64_t count, sum, max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_init(struct histogram *h);
void histogram_add(struct histogram *h, uint64_t value);
void histogram_merge(struct histogram *into, const struct histogram *from);
/* The value below or at which the share q (0..1) of all values lies: the upper edge of its bucket, at
   most max. 0 when empty. */
uint64_t histogram_quantile(const struct histogram *h, double q);
/* How many values are <= value, to within the bucket that holds it. */
uint64_t histogram_count_upto(const struct histogram *h, uint64_t value);

#endif
