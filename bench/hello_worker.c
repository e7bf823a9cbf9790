/* SPDX-License-Identifier: Apache-2.0 */
/* The worker that benchmarks measure with: hello answers at once, nap after 1 ms, hold when its client has
   left. At its end it prints how long a nap was on average. hello_worker ADDR SLOTS */
#include "nap.h"
#include <stdlib.h>
#include <weir.h>

static int hello(weir_job *job, void *arg) {
    (void)arg;
    return weir_reply(job, 200, "text/plain", "hello", 5);
}

static int nap(weir_job *job, void *arg) {
    (void)arg;
    take_a_nap();
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
    print_naps();
    return err == 0 ? 0 : 1;
}
