/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `weir demo primes`: a hub and two stages of workers as processes of this machine, asked over HTTP about
 * every odd number below N. Each answer is checked against a sieve. Whatever happens, what was started is
 * stopped and the directory with the sockets removed.
 */
#include "base/clock.h"
#include "cli/cli.h"
#include "cli/fetch.h"
#include "cli/fleet.h"
#include "cli/load.h"

#include <dirent.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weir/weir.h>

enum { WORKERS, SERVE, PORT, CONNECTIONS };
const struct cli_option demo_options[] = {
    [WORKERS] = {"workers", 'k', "K", "worker processes per stage (2)"},
    [SERVE] = {"serve", 0, NULL, "ask nothing; keep hub and workers running until Ctrl-C"},
    [PORT] = {"port", 'p', "PORT", "the hub's public port (a free one; 8080 with --serve)"},
    [CONNECTIONS] = {"connections", 'c', "N", "requests in flight (64)"},
    {0},
};

enum { DIRECTORY = 64, ADDRESS = 96, READY_MS = 30000, STOP_MS = 5000, SLOTS = 16 };

struct demo {
    struct cli *cli;
    uint64_t below, workers, port, connections;
    bool serve, interrupted;
    char directory[DIRECTORY], hub_workers[ADDRESS], hub_admin[ADDRESS], ports[ADDRESS];
    char listen[ADDRESS]; /* as the hub has bound it */
    struct fleet fleet;
    unsigned char *composite; /* bit per odd number: the sieve */
    uint64_t primes, wrong;
    char first_wrong[160];
};

static struct load *volatile running; /* for the signal handler */
static volatile sig_atomic_t interrupted;

/* SIGINT and SIGTERM end the demo; SIGCHLD too, since nobody has been asked to leave yet. */
static void on_signal(int number) {
    if (number != SIGCHLD) interrupted = 1;
    if (running) load_stop(running);
}

/* ---- the sieve ---- */

static bool is_composite(const struct demo *d, uint64_t odd) {
    return d->composite[odd / 16] >> (odd / 2 % 8) & 1;
}

/* Eratosthenes, over the odd numbers. */
static int make_sieve(struct demo *d) {
    d->composite = calloc(d->below / 16 + 1, 1);
    if (!d->composite) return WEIR_ENOMEM;
    for (uint64_t p = 3; p * p < d->below; p += 2) {
        if (is_composite(d, p)) continue;
        for (uint64_t m = p * p; m < d->below; m += 2 * p)
            d->composite[m / 16] |= (unsigned char)(1 << (m / 2 % 8));
    }
    return 0;
}

static uint64_t count_primes(const struct demo *d) {
    uint64_t count = 1; /* 2 */
    for (uint64_t n = 3; n < d->below; n += 2) count += !is_composite(d, n);
    return count;
}

/* ---- starting ---- */

static int make_directory(struct demo *d) {
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    if (!runtime || runtime[0] != '/' || strlen(runtime) + sizeof "/weir-demo-XXXXXX" > DIRECTORY)
        runtime = "/tmp";
    snprintf(d->directory, sizeof d->directory, "%.40s/weir-demo-XXXXXX", runtime);
    if (!mkdtemp(d->directory)) {
        snprintf(d->directory, sizeof d->directory, "/tmp/weir-demo-XXXXXX");
        if (!mkdtemp(d->directory)) {
            d->directory[0] = '\0';
            return cli_fail(d->cli, CLI_FAILED, "cannot make a directory in /tmp");
        }
    }
    snprintf(d->hub_workers, sizeof d->hub_workers, "unix:%s/workers", d->directory);
    snprintf(d->hub_admin, sizeof d->hub_admin, "unix:%s/admin", d->directory);
    snprintf(d->ports, sizeof d->ports, "%s/ports", d->directory);
    return -1;
}

static void remove_directory(const struct demo *d) {
    DIR *dir = d->directory[0] ? opendir(d->directory) : NULL;
    if (!dir) return;
    for (struct dirent *e; (e = readdir(dir));) unlinkat(dirfd(dir), e->d_name, 0);
    closedir(dir);
    rmdir(d->directory);
}

static int start_hub(struct demo *d) {
    char listen[32];
    const char *level = d->serve ? "info" : "warn", *format = "text";
    for (size_t i = 0; i < d->cli->pair_count; i++) {
        if (strcmp(d->cli->pairs[i].key, "log-level") == 0)
            level = d->cli->pairs[i].value;
        else
            format = d->cli->pairs[i].value;
    }
    snprintf(listen, sizeof listen, "127.0.0.1:%u", (unsigned)d->port);
    const char *const argv[] = {"hub",
                                "--listen",
                                listen,
                                "--workers",
                                d->hub_workers,
                                "--admin",
                                d->hub_admin,
                                "--zmq",
                                "off",
                                "--ports-file",
                                d->ports,
                                "--route",
                                "/is_prime=primes",
                                "--drain",
                                "2s",
                                "--log-level",
                                level,
                                "--log-format",
                                format,
                                NULL};
    return fleet_start(&d->fleet, "hub", argv);
}

static int start_worker(struct demo *d, const char *stage) {
    char slots[16];
    snprintf(slots, sizeof slots, "%d", SLOTS);
    const char *const argv[] = {"demo-worker", stage, "--hub", d->hub_workers, "--slots", slots, NULL};
    return fleet_start(&d->fleet, stage, argv);
}

static int start_all(struct demo *d) {
    int err = start_hub(d);
    for (uint64_t i = 0; i < d->workers && !err; i++) {
        err = start_worker(d, "primes");
        if (!err) err = start_worker(d, "divide");
    }
    return err ? cli_fail(d->cli, CLI_FAILED, "cannot start a process") : -1;
}

/* A member that has left by itself ends the demo. */
static int check_fleet(struct demo *d) {
    int how;
    const char *name = fleet_lost(&d->fleet, &how);
    if (!name) return -1;
    if (WIFSIGNALED(how))
        return cli_fail(d->cli, CLI_FAILED, "%s was killed by signal %d", name, WTERMSIG(how));
    return cli_fail(d->cli, CLI_FAILED, "%s has ended with status %d", name, WEXITSTATUS(how));
}

/* All workers are attached, says the hub. */
static bool ready(const struct demo *d) {
    struct buffer body;
    unsigned status = 0;
    buffer_init(&body);
    int err = fetch(d->hub_admin, "/status", 1000, &status, &body);
    json_t *root = err ? NULL : json_loadb(buffer_slice(&body).p, buffer_size(&body), 0, NULL);
    bool all =
        status == 200 && json_integer_value(json_object_get(root, "workers")) >= (json_int_t)(2 * d->workers);
    json_decref(root);
    buffer_fini(&body);
    return all;
}

static int read_ports(struct demo *d) {
    char line[160];
    FILE *f = fopen(d->ports, "re");
    while (f && fgets(line, sizeof line, f)) sscanf(line, "listen=%90s", d->listen);
    if (f) fclose(f);
    return d->listen[0] ? -1 : cli_fail(d->cli, CLI_FAILED, "the hub has not said where it listens");
}

static int wait_ready(struct demo *d) {
    uint64_t until = clock_mono_ms() + READY_MS;
    while (!ready(d)) {
        d->interrupted = fleet_pause(5);
        if (d->interrupted) return CLI_FAILED;
        int status = check_fleet(d);
        if (status >= 0) return status;
        if (clock_mono_ms() > until)
            return cli_fail(d->cli, CLI_FAILED, "hub and workers are not ready in time");
    }
    return read_ports(d);
}

/* ---- asking ---- */

/* "N is prime" or "N is not prime, ...": must be about n, and true. */
static void on_answer(void *ctx, uint64_t n, unsigned status, struct slice body) {
    struct demo *d = ctx;
    char prime[48], composite[48];
    size_t np = (size_t)snprintf(prime, sizeof prime, "%llu is prime\n", (unsigned long long)n);
    size_t nc = (size_t)snprintf(composite, sizeof composite, "%llu is not prime", (unsigned long long)n);
    bool says_prime = status == 200 && body.n == np && memcmp(body.p, prime, np) == 0;
    bool says_composite = status == 200 && body.n >= nc && memcmp(body.p, composite, nc) == 0;
    d->primes += says_prime;
    if (is_composite(d, n) ? says_composite : says_prime) return;
    if (d->wrong++ == 0)
        snprintf(d->first_wrong, sizeof d->first_wrong, "%llu: %u %.*s", (unsigned long long)n, status,
                 (int)(body.n < 100 ? body.n : 100), body.n ? body.p : "");
}

static void on_tick(void *ctx, struct load *load) {
    const struct demo *d = ctx;
    const struct load_result *r = load_result(load);
    char done[32], primes[32], rate[32];
    double all = (double)((d->below - 2) / 2), s = (double)r->elapsed_ns / 1e9;
    cli_progress((double)r->answered / all, "%s numbers, %s primes, %s/s",
                 cli_number(r->answered, done, sizeof done), cli_number(d->primes + 1, primes, sizeof primes),
                 cli_number((uint64_t)((double)r->answered / (s > 0 ? s : 1)), rate, sizeof rate));
}

static void print_result(const struct demo *d, const struct load_result *r) {
    char text[48];
    double s = (double)r->elapsed_ns / 1e9;
    printf("primes found  %s\n", cli_number(d->primes + 1, text, sizeof text));
    printf("below         %s\n", cli_number(d->below, text, sizeof text));
    printf("requests      %s\n", cli_number(r->answered, text, sizeof text));
    printf("time          %s\n", cli_time(r->elapsed_ns, text, sizeof text));
    printf("requests/s    %s\n",
           cli_number((uint64_t)(s > 0 ? (double)r->answered / s : 0), text, sizeof text));
    printf("p50           %s\n", cli_time(histogram_quantile(&r->latency, 0.5), text, sizeof text));
    printf("p99           %s\n", cli_time(histogram_quantile(&r->latency, 0.99), text, sizeof text));
}

static int judge(struct demo *d, int err, const struct load_result *r) {
    uint64_t expected = count_primes(d), failed = load_errors(r);
    int status = check_fleet(d);
    if (status >= 0) return status;
    d->interrupted = interrupted;
    if (d->interrupted)
        return cli_fail(d->cli, CLI_FAILED, "interrupted after %llu answers",
                        (unsigned long long)r->answered);
    if (err) return cli_fail(d->cli, CLI_FAILED, "cannot connect to the hub at %s", d->listen);
    if (failed)
        return cli_fail(
            d->cli, CLI_FAILED, "%llu requests failed: %llu closed, %llu timed out, %llu malformed",
            (unsigned long long)failed, (unsigned long long)r->errors[LOAD_closed],
            (unsigned long long)r->errors[LOAD_timeout], (unsigned long long)r->errors[LOAD_malformed]);
    if (d->wrong)
        return cli_fail(d->cli, CLI_FAILED, "%llu wrong answers; the first: %s", (unsigned long long)d->wrong,
                        d->first_wrong);
    if (d->primes + 1 != expected)
        return cli_fail(d->cli, CLI_FAILED, "there are %llu primes", (unsigned long long)expected);
    return CLI_OK;
}

/* While the load runs, signals go to on_signal; at all other times they are blocked. */
static void let_signals_in(bool in) {
    struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART | SA_NOCLDSTOP};
    static const int numbers[] = {SIGINT, SIGTERM, SIGCHLD};
    sigset_t set;
    sigemptyset(&set);
    for (int i = 0; i < 3; i++) {
        sigaction(numbers[i], &act, NULL);
        sigaddset(&set, numbers[i]);
    }
    sigprocmask(in ? SIG_UNBLOCK : SIG_BLOCK, &set, NULL);
}

static int ask(struct demo *d) {
    struct load_options o = {
        .host = d->listen,
        .method = "GET",
        .target = "/is_prime?possible_prime={n}",
        .connections = (unsigned)d->connections,
        .requests = (d->below - 2) / 2,
        .timeout_ms = 30000,
        .from = 3,
        .last = d->below - 1,
        .step = 2,
        .answer = on_answer,
        .tick = on_tick,
        .ctx = d,
    };
    struct load *load;
    int err = make_sieve(d);
    if (!err) err = io_address_parse(d->listen, &o.to);
    if (!err) err = load_new(&o, &load);
    if (err) return cli_fail(d->cli, CLI_FAILED, "%s", weir_strerror(err));
    running = load;
    let_signals_in(true);
    err = load_run(load);
    let_signals_in(false);
    running = NULL;
    cli_progress_end();
    int status = judge(d, err, load_result(load));
    if (status == CLI_OK) print_result(d, load_result(load));
    load_free(&load);
    return status;
}

static int serve(struct demo *d) {
    printf("A hub and %llu workers for each of its two stages are running. Try:\n\n"
           "  curl 'http://%s/is_prime?possible_prime=32416190071'\n"
           "  curl -d possible_prime=18446744073709551557 http://%s/is_prime\n"
           "  weir status --admin %s\n"
           "  weir bench 'http://%s/is_prime?possible_prime={n}' --from 3 --step 2\n\nCtrl-C ends it.\n",
           (unsigned long long)d->workers, d->listen, d->listen, d->hub_admin, d->listen);
    fflush(stdout);
    while (!fleet_pause(1000)) {
        int status = check_fleet(d);
        if (status >= 0) return status;
    }
    return CLI_OK;
}

static int run(struct demo *d) {
    signal(SIGPIPE, SIG_IGN);
    let_signals_in(false);
    int status = make_directory(d);
    if (status < 0) status = start_all(d);
    if (status < 0) status = wait_ready(d);
    if (status < 0) status = d->serve ? serve(d) : ask(d);
    fleet_stop(&d->fleet, STOP_MS);
    remove_directory(d);
    free(d->composite);
    return status;
}

static bool take(void *ctx, struct cli *cli, int option, const char *value) {
    struct demo *d = ctx;
    switch (option) {
    case WORKERS:
        return cli_u64(cli, "workers", value, 1, 100, &d->workers);
    case SERVE:
        return d->serve = true;
    case PORT:
        return cli_u64(cli, "port", value, 0, 65535, &d->port);
    default:
        return cli_u64(cli, "connections", value, 1, 10000, &d->connections);
    }
}

int cmd_demo(struct cli *cli) {
    struct demo d = {.cli = cli, .below = 1000000, .workers = 2, .port = UINT64_MAX, .connections = 64};
    int status = cli_options(cli, take, &d);
    if (status >= 0) return status;
    if (cli->argument_count < 1 || strcmp(cli->arguments[0], "primes") != 0 || cli->argument_count > 2)
        return cli_wrong(cli, "there is one demo: primes [N]");
    if (cli->argument_count == 2 &&
        (!slice_u64(slice_of(cli->arguments[1]), &d.below) || d.below < 10 || d.below > 10000000000ull))
        return cli_wrong(cli, "N is a number from 10 to 10000000000, not \"%s\"", cli->arguments[1]);
    if (d.port == UINT64_MAX) d.port = d.serve ? 8080 : 0;
    return run(&d);
}
