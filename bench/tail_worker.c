/* SPDX-License-Identifier: Apache-2.0 */
/* Workers of nap on libweir, which sleep as long as a request says (/nap?us=1234): WORKERS of them, each with
   a connection of its own and SLOTS slots. With a PORTION in us a job gives its slot back so often, and goes
   on from the tail of the queue. tail_worker ADDR WORKERS SLOTS PORTION; ends on SIGTERM. */
#include "nap.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <weir.h>

enum { WORKERS_MAX = 1024 };

static int nap(weir_job *job, void *arg) {
    const uint64_t *portion = arg;
    uint64_t us;
    if (weir_job_query_u64(job, "us", &us) != 0) return weir_reply_problem(job, 400, "us is missing");
    uint64_t now = *portion && us > *portion ? *portion : us;
    nap_for((int64_t)now * 1000);
    if (now == us) return weir_reply(job, 200, "text/plain", "rested", 6);
    char target[48];
    snprintf(target, sizeof(target), "/nap?us=%llu", (unsigned long long)(us - now));
    return weir_again(job, target, NULL, NULL, 0);
}

static void *serve(void *worker) {
    if (weir_worker_serve(worker) != 0) exit(1);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: tail_worker ADDR WORKERS SLOTS PORTION\n");
        return 2;
    }
    unsigned n = (unsigned)strtoul(argv[2], NULL, 10), slots = (unsigned)strtoul(argv[3], NULL, 10);
    uint64_t portion = strtoull(argv[4], NULL, 10);
    weir_worker *workers[WORKERS_MAX];
    pthread_t threads[WORKERS_MAX];
    sigset_t term;
    int signal;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &term, NULL);
    for (unsigned i = 0; i < n && i < WORKERS_MAX; i++) {
        char id[16];
        snprintf(id, sizeof(id), "nap-%u", i);
        workers[i] = weir_worker_new(&(weir_worker_options){.hub = argv[1], .slots = slots, .id = id});
        if (!workers[i] || weir_worker_offer(workers[i], "nap", nap, &portion) != 0) return 1;
        if (pthread_create(&threads[i], NULL, serve, workers[i]) != 0) return 1;
    }
    sigwait(&term, &signal);
    for (unsigned i = 0; i < n && i < WORKERS_MAX; i++) weir_worker_stop(workers[i]);
    for (unsigned i = 0; i < n && i < WORKERS_MAX; i++) {
        pthread_join(threads[i], NULL);
        weir_worker_free(&workers[i]);
    }
    print_naps_ratio();
    return 0;
}
