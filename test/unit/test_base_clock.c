/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/random.h"
#include <stdio.h>
#include <time.h>

static void clocks(void **state) {
    (void)state;
    uint64_t ns = clock_mono_ns(), ms = clock_mono_ms(), later = clock_mono_ns();
    assert_in_range(ms, ns / 1000000, later / 1000000);
    for (int i = 0; i < 10000; i++) {
        uint64_t now = clock_mono_ns();
        assert_true(now >= later);
        later = now;
    }
    struct timespec before, after;
    clock_gettime(CLOCK_REALTIME, &before);
    uint64_t unix_ms = clock_unix_ms();
    clock_gettime(CLOCK_REALTIME, &after);
    assert_true(unix_ms / 1000 >= (uint64_t)before.tv_sec);
    assert_true(unix_ms / 1000 <= (uint64_t)after.tv_sec);
    /* the milliseconds pass too */
    uint64_t start = clock_mono_ms();
    nanosleep(&(struct timespec){0, 5000000}, NULL);
    assert_true(clock_mono_ms() - start >= 4);
}

static void timestamps(void **state) {
    (void)state;
    struct random r;
    random_seed(&r, 11);
    for (int i = 0; i < 100000; i++) {
        uint64_t ms = random_u64(&r) % UINT64_C(253402300800000);
        if (i == 0) ms = 0;
        if (i == 1) ms = UINT64_C(253402300799999);
        if (i == 2) ms = UINT64_C(951782400000); /* 2000-02-29 */
        time_t s = (time_t)(ms / 1000);
        struct tm tm;
        char want[64];
        size_t n = strftime(want, sizeof want, "%Y-%m-%dT%H:%M:%S", gmtime_r(&s, &tm));
        snprintf(want + n, sizeof want - n, ".%03uZ", (unsigned)(ms % 1000));
        char text[CLOCK_TEXT];
        struct slice got = clock_text(text, ms);
        assert_int_equal(got.n, 24);
        assert_memory_equal(got.p, want, 24);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(clocks), cmocka_unit_test(timestamps)};
    return cmocka_run_group_tests_name("base/clock", tests, NULL, NULL);
}
