/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hello: the smallest worker. It greets whoever asks.
 *
 *   weir hub &
 *   hello &
 *   curl 'http://127.0.0.1:8080/hello?name=Ada'
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weir/weir.h>

static int hello(weir_job *job, void *arg) {
    (void)arg;
    const char *name = weir_job_query(job, "name");
    return weir_reply_printf(job, 200, "text/plain; charset=utf-8", "Hello, %s!\n", name ? name : "world");
}

int main(int argc, char **argv) {
    weir_worker_options options = {.hub = getenv("WEIR_HUB"), .slots = 4}; /* no hub: 127.0.0.1:8081 */
    if (argc == 3 && strcmp(argv[1], "--hub") == 0) {
        options.hub = argv[2];
    } else if (argc != 1) {
        fprintf(stderr, "usage: hello [--hub ADDR]\n");
        return 2;
    }
    weir_worker *worker = NULL;
    int err = weir_worker_open(&options, &worker);
    if (err == 0) err = weir_worker_offer(worker, "hello", hello, NULL);
    if (err == 0) err = weir_worker_run(worker); /* until SIGTERM or SIGINT, then finishes what runs */
    weir_worker_free(&worker);
    if (err != 0) fprintf(stderr, "hello: %s\n", weir_strerror(err));
    return err == 0 ? 0 : 1;
}
