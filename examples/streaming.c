/* SPDX-License-Identifier: Apache-2.0 */
/*
 * streaming: an answer that comes line by line, as server-sent events, and that ends when the client leaves.
 *
 *   weir hub &
 *   streaming &
 *   curl -N 'http://127.0.0.1:8080/ticks?count=10&every=500'      (Ctrl-C, and see what the worker says)
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weir/weir.h>

static uint64_t parameter(weir_job *job, const char *name, uint64_t otherwise) {
    uint64_t value;
    return weir_job_query_u64(job, name, &value) == 0 ? value : otherwise;
}

static int ticks(weir_job *job, void *arg) {
    (void)arg;
    uint64_t count = parameter(job, "count", 10), every = parameter(job, "every", 1000);
    if (every > 60000) return weir_reply_problem(job, 400, "every is in milliseconds, 60000 at most");
    (void)weir_job_set_header(job, "Cache-Control", "no-store");
    int err = weir_reply_begin(job, 200, "text/event-stream");
    for (uint64_t i = 1; i <= count && err == 0; i++) {
        char line[64];
        int size = snprintf(line, sizeof(line), "data: tick %" PRIu64 " of %" PRIu64 "\n\n", i, count);
        err = weir_reply_write(job, line, (size_t)size); /* waits while the client is slow */
        if (err == 0 && i < count) err = weir_job_wait(job, (unsigned)every);
        if (err == WEIR_ECANCELLED)
            fprintf(stderr, "streaming: job %s: the client left at tick %" PRIu64 "\n", weir_job_id(job), i);
    }
    return err == 0 ? weir_reply_end(job) : err; /* without the end, the client sees that it was cut off */
}

int main(int argc, char **argv) {
    weir_worker_options options = {.hub = getenv("WEIR_HUB"), .slots = 64}; /* they sleep most of the time */
    if (argc == 3 && strcmp(argv[1], "--hub") == 0) {
        options.hub = argv[2];
    } else if (argc != 1) {
        fprintf(stderr, "usage: streaming [--hub ADDR]\n");
        return 2;
    }
    weir_worker *worker = NULL;
    int err = weir_worker_open(&options, &worker);
    if (err == 0) err = weir_worker_offer(worker, "ticks", ticks, NULL);
    if (err == 0) err = weir_worker_run(worker);
    weir_worker_free(&worker);
    if (err != 0) fprintf(stderr, "streaming: %s\n", weir_strerror(err));
    return err == 0 ? 0 : 1;
}
