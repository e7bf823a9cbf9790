/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/slice.h"

#define assert_slice(s, text) assert_true(slice_eq((s), slice_of(text)))

static void equality(void **state) {
    (void)state;
    assert_true(slice_eq((struct slice){0}, SLICE("")));
    assert_false(slice_eq(SLICE("a"), SLICE("A")));
    assert_true(slice_eq_nocase(SLICE("Content-LENGTH"), SLICE("content-length")));
    assert_true(slice_eq_nocase((struct slice){0}, SLICE("")));
    assert_false(slice_eq_nocase(SLICE("ab"), SLICE("abc")));
    /* only letters have a case: '@' and '`', '[' and '{', and bytes beyond ASCII differ by 0x20 too */
    assert_false(slice_eq_nocase(SLICE("@"), SLICE("`")));
    assert_false(slice_eq_nocase(SLICE("["), SLICE("{")));
    assert_false(slice_eq_nocase(SLICE("\xc4"), SLICE("\xe4")));
    assert_true(slice_eq_nocase(SLICE("AZ\0x"), SLICE("az\0X")));
    assert_false(slice_eq_nocase(SLICE("a\0b"), SLICE("a\0c")));
}

static void trimming(void **state) {
    (void)state;
    assert_slice(slice_trim(SLICE(" \t a b\t ")), "a b");
    assert_slice(slice_trim(SLICE("a")), "a");
    assert_slice(slice_trim(SLICE("\ra\n")), "\ra\n");
    assert_int_equal(slice_trim(SLICE(" \t ")).n, 0);
    assert_int_equal(slice_trim((struct slice){0}).n, 0);
}

static void walking(void **state) {
    (void)state;
    struct slice rest = SLICE("a , b\t,,c");
    assert_slice(slice_next(&rest, ','), "a");
    assert_slice(rest, " b\t,,c");
    assert_slice(slice_next(&rest, ','), "b");
    assert_slice(slice_next(&rest, ','), "");
    assert_non_null(rest.p);
    assert_slice(slice_next(&rest, ','), "c");
    assert_null(rest.p);
    assert_int_equal(rest.n, 0);
    /* a separator at the end has an empty item after it; an empty text is one empty item */
    unsigned items = 0;
    for (rest = SLICE("a,"); rest.p; items++) slice_next(&rest, ',');
    assert_int_equal(items, 2);
    rest = SLICE("");
    assert_slice(slice_next(&rest, ','), "");
    assert_null(rest.p);
    assert_int_equal(slice_next(&rest, ',').n, 0);
}

static void numbers(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t value;
    } good[] = {{"0", 0},
                {"7", 7},
                {"007", 7},
                {"4294967296", 4294967296},
                {"18446744073709551615", UINT64_MAX},
                {"00000000000000000000000000018446744073709551615", UINT64_MAX}};
    static const char *bad[] = {"",
                                " ",
                                "18446744073709551616",
                                "18446744073709551620",
                                "-1",
                                "+1",
                                "99999999999999999999",
                                "1 ",
                                " 1",
                                "1a",
                                "0x10",
                                "1.0"};
    uint64_t value;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(slice_u64(slice_of(good[i].text), &value));
        assert_int_equal(value, good[i].value);
    }
    value = 42;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(slice_u64(slice_of(bad[i]), &value));
    assert_false(slice_u64((struct slice){0}, &value));
    assert_false(slice_u64(SLICE("1\0"), &value));
    assert_int_equal(value, 42);
    assert_true(slice_u64((struct slice){"123456", 3}, &value)); /* ends where the slice ends */
    assert_int_equal(value, 123);
}

static void units(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t ms; /* UINT64_MAX: refused */
    } durations[] = {{"250ms", 250},
                     {"30s", 30000},
                     {"30", 30000},
                     {"5m", 300000},
                     {"2h", 7200000},
                     {"0", 0},
                     {"18446744073709551614ms", UINT64_MAX - 1},
                     {"18446744073709551s", 18446744073709551000u},
                     {"18446744073709552s", UINT64_MAX},
                     {"18446744073709552", UINT64_MAX},
                     {"5124095576030h", 5124095576030u * 3600000},
                     {"5124095576031h", UINT64_MAX},
                     {"18446744073709551616ms", UINT64_MAX},
                     {"", UINT64_MAX},
                     {"s", UINT64_MAX},
                     {"1d", 86400000},
                     {"1S", UINT64_MAX},
                     {"1 s", UINT64_MAX},
                     {"1s ", UINT64_MAX},
                     {"1.5s", UINT64_MAX},
                     {"-1s", UINT64_MAX},
                     {"1mss", UINT64_MAX}};
    static const struct {
        const char *text;
        uint64_t bytes;
    } sizes[] = {{"64", 64},
                 {"64K", 65536},
                 {"64KiB", 65536},
                 {"1M", 1 << 20},
                 {"1MiB", 1 << 20},
                 {"1G", 1 << 30},
                 {"3GiB", 3u << 30},
                 {"17179869183G", 17179869183u << 30},
                 {"17179869184G", UINT64_MAX},
                 {"", UINT64_MAX},
                 {"K", UINT64_MAX},
                 {"1KB", UINT64_MAX},
                 {"1Ki", UINT64_MAX},
                 {"1 K", UINT64_MAX},
                 {"-1", UINT64_MAX},
                 {"1KK", UINT64_MAX}};
    for (size_t i = 0; i < sizeof durations / sizeof *durations; i++) {
        uint64_t ms = UINT64_MAX;
        bool fine = slice_duration_ms(slice_of(durations[i].text), &ms);
        assert_int_equal(fine, durations[i].ms != UINT64_MAX);
        assert_int_equal(ms, durations[i].ms);
    }
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint64_t bytes = UINT64_MAX;
        bool fine = slice_size(slice_of(sizes[i].text), &bytes);
        assert_int_equal(fine, sizes[i].bytes != UINT64_MAX);
        assert_int_equal(bytes, sizes[i].bytes);
    }
}

static void percent(void **state) {
    (void)state;
    char out[64];
    assert_int_equal(slice_percent_decode(SLICE("a%20b%2Fc%2f+%00"), false, out), 8);
    assert_memory_equal(out, "a b/c/+\0", 8);
    assert_int_equal(slice_percent_decode(SLICE("a+b%2B"), true, out), 4);
    assert_memory_equal(out, "a b+", 4);
    assert_int_equal(slice_percent_decode((struct slice){0}, true, out), 0);
    /* decoded once, not twice */
    assert_int_equal(slice_percent_decode(SLICE("%2541"), false, out), 3);
    assert_memory_equal(out, "%41", 3);
    static const char *bad[] = {"%", "%4", "a%", "%4g", "%g4", "%%41", "% 1", "%-1", "%+1", "%0x1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(slice_percent_decode(slice_of(bad[i]), false, out), -1);
    /* the slice ends there, whatever comes after it */
    assert_int_equal(slice_percent_decode((struct slice){"%41", 2}, false, out), -1);
    for (int c = 0; c < 256; c++) {
        char text[4] = {'%', "0123456789abcdef"[c >> 4], "0123456789ABCDEF"[c & 15]};
        assert_int_equal(slice_percent_decode(slice_of(text), false, out), 1);
        assert_int_equal((unsigned char)out[0], c);
    }
}

static void writing_numbers(void **state) {
    (void)state;
    static const uint64_t values[] = {0,         1, 9, 10, 99, 100, 255, 256, 4294967295u, UINT64_MAX - 1,
                                      UINT64_MAX};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char text[SLICE_U64], expected[32];
        snprintf(expected, sizeof expected, "%llu", (unsigned long long)values[i]);
        assert_true(slice_eq(slice_from_u64(text, values[i]), slice_of(expected)));
        snprintf(expected, sizeof expected, "%llx", (unsigned long long)values[i]);
        assert_true(slice_eq(slice_from_hex(text, values[i]), slice_of(expected)));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equality),        cmocka_unit_test(trimming), cmocka_unit_test(walking),
        cmocka_unit_test(numbers),         cmocka_unit_test(units),    cmocka_unit_test(percent),
        cmocka_unit_test(writing_numbers),
    };
    return cmocka_run_group_tests_name("base/slice", tests, NULL, NULL);
}
