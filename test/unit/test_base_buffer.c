/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/random.h"
#include "lib/fault.h"
#include "weir/weir.h"

/* A byte stream of which all bytes are known: number i is (i * 7) & 0xff. */
static void stream(void **state) {
    (void)state;
    struct buffer b;
    struct random r;
    size_t in = 0, out = 0;
    long live = fault_live();
    buffer_init(&b);
    random_seed(&r, 2);
    for (int step = 0; step < 20000; step++) {
        size_t n = random_below(&r, random_below(&r, 20) ? 300 : 20000);
        if (random_below(&r, 2) && in - out < 100000) {
            char *at = buffer_reserve(&b, n);
            assert_non_null(at);
            n = random_below(&r, n + 1); /* less may be written than was asked for */
            for (size_t i = 0; i < n; i++) at[i] = (char)(in++ * 7);
            buffer_commit(&b, n);
        } else {
            if (random_below(&r, 10) == 0 || n > in - out) n = in - out;
            struct slice s = buffer_slice(&b);
            for (size_t i = 0; i < n; i++) assert_int_equal(s.p[i], (char)(out++ * 7));
            buffer_consume(&b, n);
        }
        assert_int_equal(buffer_size(&b), in - out);
        if (in == out) assert_true(b.cap <= 4096);
    }
    assert_true(out > 1000000);
    buffer_fini(&b);
    assert_int_equal(fault_live(), live);
}

static void memory(void **state) {
    (void)state;
    struct buffer b;
    buffer_init(&b);
    long live = fault_live();
    assert_int_equal(buffer_size(&b), 0);
    assert_int_equal(buffer_append(&b, NULL, 0), 0);
    assert_int_equal(fault_live(), live);
    assert_non_null(buffer_reserve(&b, 0));
    buffer_consume(&b, 0);
    assert_int_equal(buffer_append_slice(&b, SLICE("abc")), 0);
    char *data = b.data;
    buffer_consume(&b, 3);
    assert_ptr_equal(b.data, data); /* small: kept */
    assert_non_null(buffer_reserve(&b, 5000));
    buffer_commit(&b, 5000);
    buffer_consume(&b, 5000);
    assert_int_equal(fault_live(), live); /* large: freed */
    assert_int_equal(b.cap, 0);
    assert_int_equal(buffer_append_slice(&b, SLICE("abc")), 0);
    buffer_reset(&b);
    buffer_reset(&b);
    assert_int_equal(buffer_size(&b), 0);
    assert_int_equal(fault_live(), live);
    assert_null(buffer_reserve(&b, SIZE_MAX));
    buffer_fini(&b);
}

/* A buffer through which much passes while little is in it must not grow; nor may it be moved each time. */
static void steady(void **state) {
    (void)state;
    struct buffer b;
    char piece[100] = {0};
    buffer_init(&b);
    for (int i = 0; i < 100; i++) assert_int_equal(buffer_append(&b, piece, sizeof piece), 0);
    long count = fault_count();
    for (int i = 0; i < 100000; i++) {
        assert_int_equal(buffer_append(&b, piece, sizeof piece), 0);
        buffer_consume(&b, sizeof piece);
    }
    assert_true(b.cap <= 4 * 10000 + 4096);
    assert_true(fault_count() - count <= 2);
    buffer_reset(&b);
    /* Nearly full, and little consumed: moving all of it down for a little room would be done again soon. */
    assert_non_null(buffer_reserve(&b, 10000));
    size_t cap = b.cap;
    buffer_commit(&b, cap);
    buffer_consume(&b, sizeof piece);
    assert_int_equal(buffer_append(&b, piece, sizeof piece), 0);
    assert_true(b.cap > cap);
    buffer_fini(&b);
}

static void printing(void **state) {
    (void)state;
    struct buffer b;
    buffer_init(&b);
    assert_int_equal(buffer_printf(&b, "%s", ""), 0);
    assert_int_equal(buffer_size(&b), 0);
    /* every length, so that each way of just fitting and just not fitting comes by */
    for (int n = 0; n < 600; n++) {
        assert_int_equal(buffer_printf(&b, "%0*d|", n + 1, 7), 0);
        struct slice s = buffer_slice(&b);
        assert_int_equal(s.n, n + 2);
        assert_memory_equal(s.p + n, "7|", 2);
        if (n) assert_int_equal(s.p[0], '0');
        if (n % 3)
            buffer_consume(&b, s.n);
        else
            buffer_reset(&b);
    }
    assert_int_equal(buffer_append_slice(&b, SLICE("a")), 0);
    assert_int_equal(buffer_printf(&b, "%d-%s", 5, "x"), 0);
    assert_true(slice_eq(buffer_slice(&b), SLICE("a5-x")));
    buffer_fini(&b);
}

static void out_of_memory(void **state) {
    (void)state;
    struct buffer b;
    char big[5000] = {0};
    long live = fault_live();
    buffer_init(&b);
    fault_fail_at(1);
    assert_int_equal(buffer_append(&b, "x", 1), WEIR_ENOMEM);
    assert_int_equal(buffer_size(&b), 0);
    assert_int_equal(buffer_append(&b, "x", 1), 0);
    fault_fail_at(1);
    assert_int_equal(buffer_append(&b, big, sizeof big), WEIR_ENOMEM);
    fault_fail_at(1);
    assert_null(buffer_reserve(&b, sizeof big));
    fault_fail_at(1);
    assert_int_equal(buffer_printf(&b, "%5000d", 1), WEIR_ENOMEM);
    assert_true(slice_eq(buffer_slice(&b), SLICE("x")));
    assert_int_equal(buffer_append(&b, big, sizeof big), 0);
    assert_int_equal(buffer_size(&b), 5001);
    buffer_fini(&b);
    assert_int_equal(fault_live(), live);
}

static void a_gap_is_remembered(void **state) {
    (void)state;
    struct buffer b;
    buffer_init(&b);
    assert_int_equal(buffer_append(&b, "first", 5), 0);
    fault_fail_at(1);
    char large[1000] = "";
    assert_int_equal(buffer_append(&b, large, sizeof(large)), WEIR_ENOMEM);
    fault_fail_at(0);
    assert_int_equal(buffer_append(&b, "third", 5), 0);
    assert_int_equal(buffer_size(&b), 10);
    assert_true(b.starved);
    buffer_consume(&b, 10);
    assert_true(b.starved);
    buffer_reset(&b);
    assert_false(b.starved);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gap_is_remembered),
        cmocka_unit_test(stream),
        cmocka_unit_test(memory),
        cmocka_unit_test(steady),
        cmocka_unit_test(printing),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests_name("base/buffer", tests, NULL, NULL);
}
