/* SPDX-License-Identifier: Apache-2.0 */
/* The worker that benchmarks measure with: hello answers at once, nap after 1 ms (a sleep that
 * corrects itself), hold when its
 * client has left. At its end it prints how long a nap was on average. hello_worker ADDR SLOTS */
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <weir.h>

static int hello(weir_job *job, void *arg) {
    (void)arg;
    return weir_reply(job, 200, "text/plain", "hello", 5);
}

static _Atomic uint64_t naps, nap_ns;
static _Atomic int64_t late_ns; /* how much longer than asked a sleep lasts, smoothed: taken off the next */

static int nap(weir_job *job, void *arg) {
    enum { MS = 1000000 };
    (void)arg;
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
    return weir_reply(job, 200, "text/plain", "rested", 6);
}

static int hold(weir_job *job, void *arg) {
    (void)arg;
    while (weir_job_wait(job, 60000) == 0) continue;
    return weir_reply(job, 204, NULL, NULL, 0);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: hello_worker ADDR SLOTS\n");
        return 2;
    }
    weir_worker_options options = {.hub = argv[1], .slots = (unsigned)strtoul(argv[2], NULL, 10)};
    weir_worker *w = weir_worker_new(&options);
    if (!w || weir_worker_offer(w, "hello", hello, NULL) != 0 ||
        weir_worker_offer(w, "nap", nap, NULL) != 0 || weir_worker_offer(w, "hold", hold, NULL) != 0)
        return 1;
    int err = weir_worker_run(w);
    weir_worker_free(&w);
    if (naps) printf("%.4f ms a nap\n", (double)nap_ns / 1e6 / (double)naps);
    return err == 0 ? 0 : 1;
}
