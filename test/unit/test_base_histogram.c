/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/histogram.h"
#include "base/random.h"
#include <math.h>
#include <stdlib.h>

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Quantiles and counts against the sorted values themselves. */
static void check(uint64_t *values, size_t n) {
    static struct histogram h;
    static const double qs[] = {0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1};
    uint64_t sum = 0;
    histogram_init(&h);
    for (size_t i = 0; i < n; i++) {
        histogram_add(&h, values[i]);
        sum += values[i];
    }
    qsort(values, n, sizeof *values, by_value);
    assert_int_equal(h.count, n);
    assert_int_equal(h.sum, sum);
    assert_int_equal(h.max, values[n - 1]);
    for (size_t i = 0; i < sizeof qs / sizeof *qs; i++) {
        double rank = ceil(qs[i] * (double)n);
        uint64_t exact = values[rank < 1 ? 0 : (size_t)rank - 1], got = histogram_quantile(&h, qs[i]);
        assert_true(got >= exact);
        assert_true(got - exact <= exact / 32);
        assert_true(got <= h.max);
    }
    assert_int_equal(histogram_quantile(&h, 1), h.max);
    for (size_t i = 0, k = 0, beyond = 0; i < n; i += 1 + n / 97) {
        uint64_t v = values[i], edge;
        if (__builtin_add_overflow(v, v / 32, &edge)) edge = UINT64_MAX;
        while (k < n && values[k] <= v) k++;
        while (beyond < n && values[beyond] <= edge) beyond++;
        assert_in_range(histogram_count_upto(&h, v), k, beyond);
    }
    assert_int_equal(histogram_count_upto(&h, UINT64_MAX), n);
}

static void against_sorted(void **state) {
    (void)state;
    enum { N = 20000 };
    static uint64_t values[N];
    struct random r;
    random_seed(&r, 6);
    for (size_t n = 1; n <= N; n = n * 3 + 1) {
        for (size_t i = 0; i < n; i++) values[i] = random_below(&r, 1000);
        check(values, n);
        for (size_t i = 0; i < n; i++) values[i] = random_u64(&r) >> random_below(&r, 64);
        check(values, n);
        for (size_t i = 0; i < n; i++) values[i] = 12345;
        check(values, n);
    }
    check((uint64_t[]){0, UINT64_MAX}, 2);
    check((uint64_t[]){0}, 1);
}

/* Around each power of two, and exact below 64. */
static void edges(void **state) {
    (void)state;
    static struct histogram h;
    for (uint64_t v = 0; v < 64; v++) {
        histogram_init(&h);
        histogram_add(&h, v);
        histogram_add(&h, UINT64_MAX);
        assert_int_equal(histogram_quantile(&h, 0.5), v);
        assert_int_equal(histogram_count_upto(&h, v), 1);
        if (v) assert_int_equal(histogram_count_upto(&h, v - 1), 0);
    }
    for (int bit = 6; bit < 64; bit++) {
        uint64_t v = UINT64_C(1) << bit;
        histogram_init(&h);
        histogram_add(&h, v - 1);
        histogram_add(&h, v);
        assert_int_equal(histogram_quantile(&h, 0.5), v - 1);
        assert_int_equal(histogram_count_upto(&h, v - 1), 1);
        assert_int_equal(histogram_count_upto(&h, v), 2);
        assert_int_equal(histogram_quantile(&h, 1), v);
    }
}

static void merging(void **state) {
    (void)state;
    static struct histogram a, b, both;
    struct random r;
    random_seed(&r, 7);
    histogram_init(&a);
    histogram_init(&b);
    histogram_init(&both);
    assert_int_equal(histogram_quantile(&a, 0.5), 0);
    assert_int_equal(histogram_count_upto(&a, UINT64_MAX), 0);
    for (int i = 0; i < 10000; i++) {
        uint64_t v = random_u64(&r) >> random_below(&r, 64);
        histogram_add(i % 3 ? &a : &b, v);
        histogram_add(&both, v);
    }
    histogram_merge(&a, &b);
    assert_memory_equal(&a, &both, sizeof a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_sorted),
        cmocka_unit_test(edges),
        cmocka_unit_test(merging),
    };
    return cmocka_run_group_tests_name("base/histogram", tests, NULL, NULL);
}
