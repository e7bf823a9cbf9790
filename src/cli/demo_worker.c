/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The demo's two stages. `primes` reads what the client wants to know, answers at once when that is no
 * number, and forwards the number otherwise; `divide` looks for a divisor. Only the public API of libweir is
 * used.
 */
#include "cli/cli.h"

#include <stdio.h>
#include <weir/weir.h>

static const char wanted[] = "possible_prime must be a number from 0 to 18446744073709551615";

/* possible_prime out of an application/x-www-form-urlencoded body, or the body as a bare number. */
static int number_of_body(weir_job *job, uint64_t *ret) {
    const char *body;
    size_t size;
    int err = weir_job_body(job, &body, &size);
    if (err) return err;
    for (struct slice rest = {body, size}; rest.p;) {
        struct slice value = slice_next(&rest, '&'), name = slice_next(&value, '=');
        char digits[64];
        if (!slice_eq(name, SLICE("possible_prime")) || value.n > sizeof digits) continue;
        ptrdiff_t n = slice_percent_decode(value, true, digits);
        bool ok = n > 0 && slice_u64(slice_trim((struct slice){digits, (size_t)n}), ret);
        return ok ? 0 : WEIR_EINVAL;
    }
    while (size > 0 && strchr(" \t\r\n", body[size - 1])) size--;
    return slice_u64(slice_trim((struct slice){body, size}), ret) ? 0 : WEIR_EINVAL;
}

static int primes(weir_job *job, void *arg) {
    const char *method = weir_job_method(job);
    uint64_t n = 0;
    int err;
    (void)arg;
    if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0)
        err = weir_job_query_u64(job, "possible_prime", &n);
    else if (strcmp(method, "POST") == 0)
        err = number_of_body(job, &n);
    else
        return weir_reply_problem(job, 405, "ask with GET or POST, not %s", method);
    if (err == WEIR_ETOOBIG) return weir_reply_problem(job, 413, "%s", wanted);
    if (err == WEIR_EINVAL || err == WEIR_ENOTFOUND) return weir_reply_problem(job, 400, "%s", wanted);
    if (err) return err;
    char text[24];
    int size = snprintf(text, sizeof text, "%llu", (unsigned long long)n);
    return weir_forward(job, "divide", NULL, "text/plain", text, (size_t)size);
}

/* The smallest divisor of n over 1, n itself when it is prime; 0 when the job was cancelled. */
static uint64_t smallest_divisor(const weir_job *job, uint64_t n) {
    enum { LOOK_UP = 4096 };
    if (n % 2 == 0) return 2;
    if (n % 3 == 0) return 3;
    unsigned steps = 0;
    for (uint64_t d = 5; d <= n / d; d += 6) { /* all other primes are 6k - 1 or 6k + 1 */
        if (n % d == 0) return d;
        if (n % (d + 2) == 0) return d + 2;
        if (++steps % LOOK_UP == 0 && weir_job_cancelled(job)) return 0;
    }
    return n;
}

static int divide(weir_job *job, void *arg) {
    const char *body;
    size_t size;
    uint64_t n;
    (void)arg;
    int err = weir_job_body(job, &body, &size);
    if (err) return err;
    if (!slice_u64((struct slice){body, size}, &n))
        return weir_reply_problem(job, 400, "the body must be a number");
    unsigned long long number = n;
    if (n < 2) return weir_reply_printf(job, 200, "text/plain", "%llu is not prime\n", number);
    uint64_t d = smallest_divisor(job, n);
    if (d == 0) return WEIR_ECANCELLED;
    if (d == n) return weir_reply_printf(job, 200, "text/plain", "%llu is prime\n", number);
    return weir_reply_printf(job, 200, "text/plain", "%llu is not prime, %llu divides it\n", number,
                             (unsigned long long)d);
}

enum { HUB, SLOTS };
const struct cli_option demo_worker_options[] = {
    [HUB] = {"hub", 0, "ADDR", "the hub's workers listener"},
    [SLOTS] = {"slots", 0, "N", "jobs at once (1)"},
    {0},
};

static bool take(void *ctx, struct cli *cli, int option, const char *value) {
    weir_worker_options *o = ctx;
    uint64_t n;
    if (option == HUB) {
        o->hub = value;
        return true;
    }
    if (!cli_u64(cli, "slots", value, 1, 1024, &n)) return false;
    o->slots = (unsigned)n;
    return true;
}

int cmd_demo_worker(struct cli *cli) {
    weir_worker_options options = {.slots = 1, .drain_ms = 2000};
    weir_worker *worker = NULL;
    int status = cli_options(cli, take, &options);
    if (status >= 0) return status;
    const char *stage = cli->argument_count == 1 ? cli->arguments[0] : "";
    weir_handler *handler = strcmp(stage, "primes") == 0   ? primes
                            : strcmp(stage, "divide") == 0 ? divide
                                                           : NULL;
    if (!handler) return cli_wrong(cli, "wants a stage, primes or divide");
    int err = weir_worker_open(&options, &worker);
    if (!err) err = weir_worker_offer(worker, stage, handler, NULL);
    if (!err) err = weir_worker_run(worker);
    weir_worker_free(&worker);
    return err ? cli_fail(cli, err == WEIR_ECONNECT ? CLI_UNREACHABLE : CLI_FAILED, "%s", weir_strerror(err))
               : CLI_OK;
}
