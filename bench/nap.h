/* SPDX-License-Identifier: Apache-2.0 */
/* A job of 1 ms: a sleep that corrects itself, so that on average it is not longer. */
#ifndef BENCH_NAP_H
#define BENCH_NAP_H

#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <time.h>

static _Atomic uint64_t naps, nap_ns;
static _Atomic int64_t late_ns; /* how much longer than asked a sleep lasts, smoothed: taken off the next */

static inline void take_a_nap(void) {
    enum { MS = 1000000 };
    struct timespec began, ended, sleep = {.tv_nsec = MS - late_ns};
    prctl(PR_SET_TIMERSLACK, 1);
    clock_gettime(CLOCK_MONOTONIC, &began);
    clock_nanosleep(CLOCK_MONOTONIC, 0, &sleep, NULL);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    int64_t took = (ended.tv_sec - began.tv_sec) * 1000000000 + ended.tv_nsec - began.tv_nsec;
    int64_t late = late_ns + (took - MS) / 64;
    late_ns = late < 0 ? 0 : late > MS / 2 ? MS / 2 : late;
    naps++;
    nap_ns += (uint64_t)took;
}

static inline void print_naps(void) {
    if (naps) printf("%.4f ms a nap\n", (double)nap_ns / 1e6 / (double)naps);
}

#endif
