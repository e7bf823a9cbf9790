/* SPDX-License-Identifier: Apache-2.0 */
/* `weir bench`: the load generator with options, a progress bar and a table. */
#include "cli/cli.h"
#include "cli/load.h"
#include "wire/head.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <weir/weir.h>

enum { CONNECTIONS, REQUESTS, DURATION, RATE, POISSON, METHOD, HEADER, BODY, TIMEOUT, FROM, TO, STEP, JSON };
const struct cli_option bench_options[] = {
    [CONNECTIONS] = {"connections", 'c', "N", "connections, each with one request at a time (64)"},
    [REQUESTS] = {"requests", 'n', "N", "stop after N requests (no limit)"},
    [DURATION] = {"duration", 'd', "TIME", "stop after TIME (10s, when there is no --requests)"},
    [RATE] = {"rate", 'r', "N", "open loop: N requests per second are due, answered or not"},
    [POISSON] = {"poisson", 0, NULL, "with --rate: random gaps (exponential), not equal ones"},
    [METHOD] = {"method", 'X', "METHOD", "request method (GET, with a body POST)"},
    [HEADER] = {"header", 'H', "NAME: VALUE", "a request header; repeatable"},
    [BODY] = {"body", 'b', "TEXT|@FILE", "request body, or a file that holds it"},
    [TIMEOUT] = {"timeout", 't', "TIME", "give up on a request, or on connecting (30s)"},
    [FROM] = {"from", 0, "N", "where the counter {n} begins (0)"},
    [TO] = {"to", 0, "N", "the counter's last value; it begins anew then (no limit)"},
    [STEP] = {"step", 0, "N", "what the counter goes up by (1)"},
    [JSON] = {"json", 'j', NULL, "print the result as JSON"},
    {0},
};

struct bench {
    struct cli *cli;
    struct load_options load;
    const char *body, *host_header;
    struct buffer headers, body_text;
    char host[300], *target;
    bool json;
};

static struct load *volatile running; /* for the signal handler */

static void on_interrupt(int number) {
    (void)number;
    if (running) load_stop(running);
}

static bool add_header(struct bench *b, const char *value) {
    const char *colon = strchr(value, ':');
    struct slice name = {value, colon ? (size_t)(colon - value) : 0};
    if (!text_is_token(name) || !text_is_field_value(slice_trim(slice_of(colon + 1)))) {
        cli_wrong(b->cli, "--header: \"%s\" is not NAME: VALUE", value);
        return false;
    }
    if (slice_eq_nocase(name, SLICE("host"))) { /* in place of the URL's, not beside it */
        b->host_header = slice_trim(slice_of(colon + 1)).p;
        return true;
    }
    if (buffer_printf(&b->headers, "%s\r\n", value) == 0) return true;
    cli_fail(b->cli, CLI_FAILED, "%s", weir_strerror(WEIR_ENOMEM));
    return false;
}

static bool set_rate(struct bench *b, const char *value) {
    char *end;
    b->load.rate = strtod(value, &end);
    if (end != value && !*end && b->load.rate >= 0.001 && b->load.rate <= 1e7) return true;
    cli_wrong(b->cli, "--rate: \"%s\" is not a number of requests per second (0.001 to 10000000)", value);
    return false;
}

static bool set_method(struct bench *b, const char *value) {
    b->load.method = value;
    if (text_is_token(slice_of(value))) return true;
    cli_wrong(b->cli, "--method: \"%s\" is not a method", value);
    return false;
}

static bool take(void *ctx, struct cli *cli, int option, const char *value) {
    struct bench *b = ctx;
    const char *name = bench_options[option].name;
    uint64_t n = 0;
    bool ok = true;
    switch (option) {
    case CONNECTIONS:
        ok = cli_u64(cli, name, value, 1, 1000000, &n);
        b->load.connections = (unsigned)n;
        break;
    case REQUESTS:
        ok = cli_u64(cli, name, value, 1, UINT64_MAX, &b->load.requests);
        break;
    case DURATION:
        ok = cli_duration(cli, name, value, &b->load.duration_ms);
        break;
    case RATE:
        ok = set_rate(b, value);
        break;
    case POISSON:
        b->load.poisson = true;
        break;
    case METHOD:
        ok = set_method(b, value);
        break;
    case HEADER:
        ok = add_header(b, value);
        break;
    case BODY:
        b->body = value;
        break;
    case TIMEOUT:
        ok = cli_duration(cli, name, value, &b->load.timeout_ms);
        break;
    case FROM:
        ok = cli_u64(cli, name, value, 0, UINT64_MAX, &b->load.from);
        break;
    case TO:
        ok = cli_u64(cli, name, value, 0, UINT64_MAX, &b->load.last);
        break;
    case STEP:
        ok = cli_u64(cli, name, value, 1, UINT64_MAX, &b->load.step);
        break;
    case JSON:
        b->json = true;
        break;
    }
    return ok;
}

/* ---- the URL ---- */

/* What follows prefix, or NULL. */
static const char *after(const char *text, const char *prefix) {
    for (; *prefix; prefix++, text++) {
        if (*text != *prefix) return NULL;
    }
    return text;
}

/* http://HOST[:PORT]/PATH or unix:SOCKET:/PATH, into options. */
static bool parse_url(struct bench *b, const char *url) {
    const char *rest = NULL, *socket = after(url, "unix:"), *host = after(url, "http://");
    char address[300];
    if (socket) {
        const char *path = strstr(socket, ":/");
        size_t n = path ? (size_t)(path - url) : strlen(url);
        rest = path ? path + 1 : "/";
        snprintf(address, sizeof address, "%.*s", (int)(n < sizeof address ? n : 0), url);
        snprintf(b->host, sizeof b->host, "localhost");
    } else if (host) {
        size_t n = strcspn(host, "/?#");
        rest = host + n;
        snprintf(b->host, sizeof b->host, "%.*s", (int)(n < sizeof b->host ? n : 0), host);
        const char *colon = strrchr(b->host, ':'), *bracket = strrchr(b->host, ']');
        bool port = colon && (!bracket || colon > bracket);
        snprintf(address, sizeof address, "%.290s%s", b->host, port ? "" : ":80");
    } else {
        return false;
    }
    size_t n = strcspn(rest, "#");
    if (asprintf(&b->target, "%s%.*s", *rest == '/' ? "" : "/", (int)n, rest) < 0) b->target = NULL;
    for (const char *p = b->target; p && *p; p++) {
        if (*p <= ' ' || *p >= 0x7f) return false;
    }
    b->load.target = b->target;
    b->load.host = b->host_header ? b->host_header : b->host;
    return b->target && *b->host && io_address_parse(address, &b->load.to) == 0;
}

/* ---- results ---- */

static double seconds(const struct load_result *r) {
    return r->elapsed_ns ? (double)r->elapsed_ns / 1e9 : 1e-9;
}

static void tick(void *ctx, struct load *load) {
    const struct load_options *o = ctx;
    const struct load_result *r = load_result(load);
    double share = 0, by_count = o->requests ? (double)r->started / (double)o->requests : 0;
    char count[32], rate[32], p99[32];
    if (o->duration_ms) share = (double)r->elapsed_ns / 1e6 / (double)o->duration_ms;
    if (by_count > share) share = by_count;
    cli_progress(
        share, "%s requests, %s/s, p99 %s, %llu failed", cli_number(r->answered, count, sizeof count),
        cli_number((uint64_t)((double)r->answered / seconds(r)), rate, sizeof rate),
        cli_time(histogram_quantile(&r->latency, 0.99), p99, sizeof p99), (unsigned long long)load_errors(r));
}

static const char *const error_names[] = {
#define LOAD_ERROR_NAME(id, help) #id,
    LOAD_ERRORS(LOAD_ERROR_NAME)
#undef LOAD_ERROR_NAME
};
static const char *const error_helps[] = {
#define LOAD_ERROR_HELP(id, help) help,
    LOAD_ERRORS(LOAD_ERROR_HELP)
#undef LOAD_ERROR_HELP
};
static const struct quantile {
    const char *name;
    double q;
} quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}};
enum { QUANTILES = sizeof quantiles / sizeof quantiles[0] };

static uint64_t mean(const struct load_result *r) {
    return r->latency.count ? r->latency.sum / r->latency.count : 0;
}

static void row(const char *name, const char *value) {
    printf("%-12s %14s\n", name, value);
}

static void print_table(const struct load_result *r) {
    char text[48];
    row("requests", cli_number(r->answered, text, sizeof text));
    row("duration", cli_time(r->elapsed_ns, text, sizeof text));
    snprintf(text, sizeof text, "%.1f/s", (double)r->answered / seconds(r));
    row("rate", text);
    for (unsigned i = 1; i < 6; i++) {
        char name[16];
        snprintf(name, sizeof name, "%uxx", i);
        if (r->status[i]) row(name, cli_number(r->status[i], text, sizeof text));
    }
    if (r->status[0]) row("other status", cli_number(r->status[0], text, sizeof text));
    row("errors", cli_number(load_errors(r), text, sizeof text));
    for (int i = 0; i < LOAD_ERROR_COUNT; i++) {
        if (r->errors[i])
            printf("  %-10s %14s  (%s)\n", error_names[i], cli_number(r->errors[i], text, sizeof text),
                   error_helps[i]);
    }
    if (r->connects_failed) row("not connected", cli_number(r->connects_failed, text, sizeof text));
    row("bytes in", cli_number(r->bytes_in, text, sizeof text));
    row("bytes out", cli_number(r->bytes_out, text, sizeof text));
    for (int i = 0; i < QUANTILES; i++)
        row(quantiles[i].name, cli_time(histogram_quantile(&r->latency, quantiles[i].q), text, sizeof text));
    row("max", cli_time(r->latency.max, text, sizeof text));
    row("mean", cli_time(mean(r), text, sizeof text));
}

static int print_json(const struct load_result *r) {
    json_t *status = json_object(), *errors = json_object(), *latency = json_object();
    char name[8];
    for (unsigned i = 0; i < 6; i++) {
        snprintf(name, sizeof name, i ? "%uxx" : "other", i);
        json_object_set_new(status, name, json_integer((json_int_t)r->status[i]));
    }
    for (int i = 0; i < LOAD_ERROR_COUNT; i++)
        json_object_set_new(errors, error_names[i], json_integer((json_int_t)r->errors[i]));
    for (int i = 0; i < QUANTILES; i++)
        json_object_set_new(latency, quantiles[i].name,
                            json_real((double)histogram_quantile(&r->latency, quantiles[i].q) / 1e6));
    json_object_set_new(latency, "max", json_real((double)r->latency.max / 1e6));
    json_object_set_new(latency, "mean", json_real((double)mean(r) / 1e6));
    json_t *root = json_pack(
        "{s:I, s:I, s:f, s:f, s:o, s:o, s:I, s:I, s:I, s:o}", "started", (json_int_t)r->started, "requests",
        (json_int_t)r->answered, "duration_s", seconds(r), "rate_per_s", (double)r->answered / seconds(r),
        "status", status, "errors", errors, "connects_failed", (json_int_t)r->connects_failed, "bytes_in",
        (json_int_t)r->bytes_in, "bytes_out", (json_int_t)r->bytes_out, "latency_ms", latency);
    int err =
        root && json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0 ? 0 : WEIR_ENOMEM;
    putchar('\n');
    json_decref(root);
    return err;
}

/* ---- running ---- */

static int run(struct bench *b) {
    struct load *load;
    int err = load_new(&b->load, &load);
    if (err) return cli_fail(b->cli, CLI_FAILED, "%s", weir_strerror(err));
    struct sigaction stop = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
    running = load;
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    signal(SIGPIPE, SIG_IGN);
    err = load_run(load);
    running = NULL;
    cli_progress_end();

    const struct load_result *r = load_result(load);
    uint64_t bad = load_errors(r) + r->connects_failed + r->status[0] + r->status[4] + r->status[5];
    int status = bad > 0 || r->answered == 0 ? CLI_FAILED : CLI_OK;
    if (err == WEIR_ECONNECT && r->started == 0) {
        status = cli_fail(b->cli, CLI_UNREACHABLE, "cannot connect to %s", b->host);
    } else {
        if (b->json)
            print_json(r);
        else
            print_table(r);
        if (err) status = cli_fail(b->cli, CLI_FAILED, "the server went away");
    }
    load_free(&load);
    return status;
}

static int read_body(struct bench *b) {
    if (!b->body) return -1;
    b->load.has_body = true;
    if (b->body[0] != '@') {
        b->load.body = slice_of(b->body);
        return -1;
    }
    FILE *f = fopen(b->body + 1, "re");
    bool ok = f != NULL;
    while (ok && !feof(f)) {
        char *room = buffer_reserve(&b->body_text, 65536);
        if (room) buffer_commit(&b->body_text, fread(room, 1, 65536, f));
        ok = room && !ferror(f);
    }
    if (f) fclose(f);
    b->load.body = buffer_slice(&b->body_text);
    return ok ? -1 : cli_fail(b->cli, CLI_USAGE, "cannot read %s", b->body + 1);
}

static int prepare(struct bench *b) {
    struct cli *cli = b->cli;
    if (cli->argument_count != 1) return cli_wrong(cli, "wants one URL");
    if (!parse_url(b, cli->arguments[0]))
        return cli_wrong(cli, "\"%s\" is not http://HOST[:PORT]/PATH or unix:SOCKET:/PATH",
                         cli->arguments[0]);
    int status = read_body(b);
    if (status >= 0) return status;
    if (b->load.from > b->load.last) return cli_wrong(cli, "--from is larger than --to");
    if (b->load.poisson && b->load.rate <= 0) return cli_wrong(cli, "--poisson wants --rate");
    if (!b->load.method) b->load.method = b->body ? "POST" : "GET";
    if (!b->load.requests && !b->load.duration_ms) b->load.duration_ms = 10000;
    if (buffer_append(&b->headers, "", 1)) return cli_fail(cli, CLI_FAILED, "%s", weir_strerror(WEIR_ENOMEM));
    b->load.headers = buffer_slice(&b->headers).p;
    b->load.tick = tick;
    b->load.ctx = &b->load;
    return -1;
}

int cmd_bench(struct cli *cli) {
    struct bench b = {.cli = cli,
                      .load = {.connections = 64, .timeout_ms = 30000, .last = UINT64_MAX, .step = 1}};
    int status = cli_options(cli, take, &b);
    if (status < 0) status = prepare(&b);
    if (status < 0) status = run(&b);
    buffer_fini(&b.headers);
    buffer_fini(&b.body_text);
    free(b.target);
    return status;
}
