/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include <time.h>

uint64_t clock_mono_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t clock_mono_ms(void) {
    return clock_mono_ns() / 1000000u;
}

uint64_t clock_unix_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

static void digits(char *at, unsigned value, int n) {
    while (n--) {
        at[n] = (char)('0' + value % 10);
        value /= 10;
    }
}

/* By hand: access logs do this for every request. Dates from days as in Hinnant, "chrono-compatible
   low-level date algorithms", in years that begin in March. */
struct slice clock_text(char text[static CLOCK_TEXT], uint64_t unix_ms) {
    const uint64_t last = UINT64_C(253402300799999); /* 9999-12-31, where RFC 3339 ends */
    memcpy(text, "0000-00-00T00:00:00.000Z", CLOCK_TEXT);
    if (unix_ms > last) unix_ms = last;
    unsigned ms = (unsigned)(unix_ms % 1000), s = (unsigned)(unix_ms / 1000 % 86400);
    unsigned days = (unsigned)(unix_ms / 86400000) + 719468; /* since 0000-03-01 */
    unsigned era = days / 146097, doe = days % 146097;
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    unsigned month = mp < 10 ? mp + 3 : mp - 9;
    digits(text, era * 400 + yoe + (month <= 2), 4);
    digits(text + 5, month, 2);
    digits(text + 8, doy - (153 * mp + 2) / 5 + 1, 2);
    digits(text + 11, s / 3600, 2);
    digits(text + 14, s / 60 % 60, 2);
    digits(text + 17, s % 60, 2);
    digits(text + 20, ms, 3);
    return (struct slice){text, CLOCK_TEXT};
}
