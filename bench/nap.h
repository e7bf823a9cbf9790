/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs that sleep: a sleep that corrects itself, so that on average it is not longer than asked. */
#ifndef BENCH_NAP_H
#define BENCH_NAP_H

#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <time.h>

static _Atomic uint64_t naps, nap_ns, asked_ns;
static _Atomic int64_t late_ns; /* how much longer than asked a sleep lasts, smoothed: taken off the next */

static inline void nap_for(int64_t ns) {
    enum { S = 1000000000 };
    int64_t early = late_ns < ns / 2 ? late_ns : ns / 2, due = ns - early;
    struct timespec began, ended, sleep = {.tv_sec = due / S, .tv_nsec = due % S};
    prctl(PR_SET_TIMERSLACK, 1);
    clock_gettime(CLOCK_MONOTONIC, &began);
    clock_nanosleep(CLOCK_MONOTONIC, 0, &sleep, NULL);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    int64_t took = (ended.tv_sec - began.tv_sec) * S + ended.tv_nsec - began.tv_nsec;
    int64_t late = late_ns + (took - ns) / 64;
    late_ns = late < 0 ? 0 : late > 500000 ? 500000 : late;
    naps++;
    asked_ns += (uint64_t)ns;
    nap_ns += (uint64_t)took;
}

/* A job of 1 ms. */
static inline void take_a_nap(void) {
    nap_for(1000000);
}

static inline void print_naps(void) {
    if (naps) printf("%.4f ms a nap\n", (double)nap_ns / 1e6 / (double)naps);
}

/* What naps lasted beside what was asked, for those of different lengths. */
static inline void print_naps_ratio(void) {
    if (naps) printf("%.5f of what was asked\n", (double)nap_ns / (double)asked_ns);
}

#endif
