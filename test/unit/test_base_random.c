/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"

/* The first numbers of the published generators. */
static void known_numbers(void **state) {
    (void)state;
    static const uint64_t xoshiro[] = {11520,
                                       0,
                                       1509978240,
                                       1215971899390074240,
                                       1216172134540287360,
                                       607988272756665600,
                                       16172922978634559625u,
                                       8476171486693032832,
                                       10595114339597558777u,
                                       2904607092377533576};
    static const uint64_t splitmix[] = {6457827717110365317u, 3203168211198807973u, 9817491932198370423u,
                                        4593380528125082431u};
    struct random r = {{1, 2, 3, 4}};
    for (size_t i = 0; i < sizeof xoshiro / sizeof *xoshiro; i++)
        assert_int_equal(random_u64(&r), xoshiro[i]);
    random_seed(&r, 1234567);
    for (size_t i = 0; i < 4; i++) assert_int_equal(r.s[i], splitmix[i]);
}

static void below(void **state) {
    (void)state;
    struct random r;
    random_seed(&r, 8);
    unsigned counts[7] = {0};
    for (int i = 0; i < 70000; i++) {
        uint64_t v = random_below(&r, 7);
        assert_true(v < 7);
        counts[v]++;
    }
    /* six standard deviations (93) off 10000 */
    for (int i = 0; i < 7; i++) assert_in_range(counts[i], 9440, 10560);
    assert_int_equal(random_below(&r, 1), 0);
    /* 2^64 numbers over 3/4 as many places: without redrawing, every third place would get two */
    uint64_t n = UINT64_C(3) << 62;
    unsigned thirds[3] = {0};
    for (int i = 0; i < 30000; i++) {
        uint64_t v = random_below(&r, n);
        assert_true(v < n);
        thirds[v % 3]++;
    }
    for (int i = 0; i < 3; i++) assert_in_range(thirds[i], 9500, 10500);
}

static void unit(void **state) {
    (void)state;
    struct random r;
    random_seed(&r, 9);
    double sum = 0;
    for (int i = 0; i < 100000; i++) {
        double v = random_unit(&r);
        assert_true(v >= 0 && v < 1);
        sum += v;
    }
    assert_in_range((uint64_t)sum, 49400, 50600);
}

static void entropy(void **state) {
    (void)state;
    uint64_t a = 0, b = 0;
    assert_int_equal(random_entropy(&a), 0);
    assert_int_equal(random_entropy(&b), 0);
    assert_true(a != b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_numbers),
        cmocka_unit_test(below),
        cmocka_unit_test(unit),
        cmocka_unit_test(entropy),
    };
    return cmocka_run_group_tests_name("base/random", tests, NULL, NULL);
}
