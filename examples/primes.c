/* SPDX-License-Identifier: Apache-2.0 */
/*
 * primes: a pipeline of two stages. The first one checks the question, refuses what is no number, and sends
 * the number on; the second one does the arithmetic, and its answer is the client's. Each stage is a process
 * of its own, so that there can be many of the slow one and few of the quick one.
 *
 *   weir hub &
 *   primes --stage primes &
 *   primes --stage divide & primes --stage divide &
 *   curl 'http://127.0.0.1:8080/primes?possible_prime=18446744073709551557'
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weir/weir.h>

static int check(weir_job *job, void *arg) {
    (void)arg;
    uint64_t n;
    char text[24];
    if (weir_job_query_u64(job, "possible_prime", &n) != 0)
        return weir_reply_problem(job, 400, "possible_prime must be a number from 0 to %" PRIu64, UINT64_MAX);
    int size = snprintf(text, sizeof(text), "%" PRIu64, n);
    return weir_forward(job, "divide", NULL, "text/plain", text, (size_t)size);
}

/* The smallest divisor over 1; 0 when nobody waits for it any more. */
static uint64_t smallest_divisor(const weir_job *job, uint64_t n) {
    if (n % 2 == 0) return 2;
    for (uint64_t d = 3; d <= n / d; d += 2) {
        if (n % d == 0) return d;
        if (weir_job_cancelled(job)) return 0;
    }
    return n;
}

static int divide(weir_job *job, void *arg) {
    (void)arg;
    const char *body; /* what weir_forward gave it, with a NUL behind */
    size_t size;
    int err = weir_job_body(job, &body, &size);
    if (err != 0) return err;
    uint64_t n = strtoull(body, NULL, 10);
    if (n < 2) return weir_reply_printf(job, 200, "text/plain", "%" PRIu64 " is not prime\n", n);
    uint64_t divisor = smallest_divisor(job, n);
    if (divisor == 0) return WEIR_ECANCELLED; /* the client has left: no answer is needed */
    if (divisor == n) return weir_reply_printf(job, 200, "text/plain", "%" PRIu64 " is prime\n", n);
    return weir_reply_printf(job, 200, "text/plain", "%" PRIu64 " is not prime: %" PRIu64 " divides it\n", n,
                             divisor);
}

int main(int argc, char **argv) {
    static const struct option flags[] = {
        {"hub", required_argument, NULL, 'h'}, {"stage", required_argument, NULL, 's'}, {NULL, 0, NULL, 0}};
    weir_worker_options options = {.hub = getenv("WEIR_HUB")};
    const char *stage = "";
    for (int flag; (flag = getopt_long(argc, argv, "", flags, NULL)) != -1;) {
        if (flag == 'h') options.hub = optarg;
        if (flag == 's') stage = optarg;
        if (flag == '?') return 2;
    }
    weir_handler *handler = strcmp(stage, "primes") == 0   ? check
                            : strcmp(stage, "divide") == 0 ? divide
                                                           : NULL;
    if (!handler || optind < argc) {
        fprintf(stderr, "usage: primes --stage primes|divide [--hub ADDR]\n");
        return 2;
    }
    weir_worker *worker = NULL;
    int err = weir_worker_open(&options, &worker);
    if (err == 0) err = weir_worker_offer(worker, stage, handler, NULL);
    if (err == 0) err = weir_worker_run(worker);
    weir_worker_free(&worker);
    if (err != 0) fprintf(stderr, "primes: %s\n", weir_strerror(err));
    return err == 0 ? 0 : 1;
}
