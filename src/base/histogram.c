/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values below HISTOGRAM_STEPS have a bucket each. Above, a value's bucket is its power of two and the
 * five bits after the leading one.
 */
#include "base/histogram.h"

enum { STEP_BITS = 5 };
_Static_assert(1 << STEP_BITS == HISTOGRAM_STEPS, "STEP_BITS");

static size_t bucket_of(uint64_t value) {
    if (value < HISTOGRAM_STEPS) return (size_t)value;
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - STEP_BITS;
    /* value >> shift is 32..63: its leading one adds the step from "shift" to "shift + 1". */
    return (size_t)shift * HISTOGRAM_STEPS + (size_t)(value >> shift);
}

static uint64_t upper_edge(size_t bucket) {
    if (bucket < HISTOGRAM_STEPS) return bucket;
    unsigned shift = (unsigned)(bucket / HISTOGRAM_STEPS) - 1;
    uint64_t lead = HISTOGRAM_STEPS + bucket % HISTOGRAM_STEPS;
    return (lead << shift) + ((UINT64_C(1) << shift) - 1);
}

void histogram_init(struct histogram *h) {
    *h = (struct histogram){0};
}

void histogram_add(struct histogram *h, uint64_t value) {
    h->count++;
    h->sum += value;
    if (value > h->max) h->max = value;
    h->buckets[bucket_of(value)]++;
}

void histogram_merge(struct histogram *into, const struct histogram *from) {
    into->count += from->count;
    into->sum += from->sum;
    if (from->max > into->max) into->max = from->max;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) into->buckets[i] += from->buckets[i];
}

uint64_t histogram_quantile(const struct histogram *h, double q) {
    if (h->count == 0) return 0;
    double share = q * (double)h->count; /* how many values must lie at or below the result */
    uint64_t seen = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen == 0 || (double)seen < share) continue;
        uint64_t edge = upper_edge(i);
        return edge < h->max ? edge : h->max;
    }
    return h->max;
}

uint64_t histogram_count_upto(const struct histogram *h, uint64_t value) {
    uint64_t n = 0;
    for (size_t i = 0, last = bucket_of(value); i <= last; i++) n += h->buckets[i];
    return n;
}
