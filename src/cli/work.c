/* SPDX-License-Identifier: Apache-2.0 */
/* `weir work`: its options, and the worker around the handler. */
#include "cli/work.h"
#include "cli/discover.h"
#include "cli/gate.h"
#include "wire/beacon.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    HUB,
    HUB_KEY,
    DISCOVER,
    DISCOVER_GROUP,
    DISCOVER_PORT,
    DISCOVER_WAIT,
    SLOTS,
    ID,
    LABELS,
    TOKEN,
    TOKEN_FILE,
    DRAIN,
    HTTP,
    STRIP,
    BUILTIN,
    ROOT,
    GATE_CPU,
    GATE_MEM,
    REDIRECT,
    REDIRECT_OVER,
    REDIRECT_TTL,
    REDIRECT_URL,
    OUTPUT,
    CONTENT_TYPE,
    STREAM,
    KILL_AFTER
};
const struct cli_option work_options[] = {
    [HUB] = {"hub", 0, "ADDR",
             "a hub's workers listener, HOST:PORT or unix:PATH, or for ZeroMQ tcp+zmq://HOST:PORT or "
             "ipc+zmq://PATH; repeat it for several (127.0.0.1:8081)"},
    [HUB_KEY] = {"hub-key", 0, "KEY", "ZeroMQ: the hubs' public CURVE key, which they log at start"},
    [DISCOVER] = {"discover", 0, NULL,
                  "find hubs by their beacons (a hub's announce), now and while it runs"},
    [DISCOVER_GROUP] = {"discover-group", 0, "NAME", "only those of this announce-group (weir)"},
    [DISCOVER_PORT] = {"discover-port", 0, "N", "the UDP port of the beacons (8084)"},
    [DISCOVER_WAIT] = {"discover-wait", 0, "TIME",
                       "without a beacon end with status 3 after TIME (wait for ever)"},
    [SLOTS] = {"slots", 'n', "N", "jobs at once (1)"},
    [ID] = {"id", 0, "NAME", "the worker's name in status and logs (HOSTNAME-PID)"},
    [LABELS] = {"labels", 0, "K=V,...", "the worker's labels"},
    [TOKEN] = {"token", 0, "SECRET",
               "what the hub wants to see; WEIR_WORKER_TOKEN and --token-file hide it from ps"},
    [TOKEN_FILE] = {"token-file", 0, "FILE", "the token is the first line of FILE"},
    [DRAIN] = {"drain", 0, "TIME", "how long running jobs may take after SIGTERM (28s)"},
    [HTTP] = {"http", 0, "URL", "pass jobs on to an HTTP server: http://HOST[:PORT][/PREFIX], or unix:PATH"},
    [STRIP] = {"strip", 0, "PREFIX", "with --http: take PREFIX off the front of paths"},
    [BUILTIN] = {"builtin", 0, "NAME", "echo: the request's body comes back; file: files below --root"},
    [ROOT] = {"root", 0, "DIR", "the directory of --builtin file"},
    [GATE_CPU] = {"gate-cpu", 0, "N", "take a job only while N CPUs are idle (a fraction is fine)"},
    [GATE_MEM] = {"gate-mem", 0, "SIZE", "take a job only while SIZE of memory is available"},
    [REDIRECT] = {"redirect", 0, "ADDR",
                  "listen on ADDR, and send clients there (303) to fetch large answers"},
    [REDIRECT_OVER] = {"redirect-over", 0, "SIZE", "what is large (1MiB)"},
    [REDIRECT_TTL] = {"redirect-ttl", 0, "TIME", "how long an answer waits to be fetched (20s)"},
    [REDIRECT_URL] = {"redirect-url", 0, "URL", "how clients reach ADDR, when that is not http://ADDR"},
    [OUTPUT] = {"output", 0, "KIND",
                "cgi: the command's output begins with header fields; plain: it does not; auto: look (auto)"},
    [CONTENT_TYPE] = {"content-type", 0, "TYPE", "of plain output (application/octet-stream)"},
    [STREAM] = {"stream", 0, NULL,
                "pass output on as it comes; without it the first 64 KiB wait for the exit status"},
    [KILL_AFTER] = {"kill-after", 0, "TIME", "from SIGTERM to SIGKILL when a job is cancelled (5s)"},
    {0},
};

struct call {
    struct work work;
    weir_worker_options worker;
    struct buffer hubs, token;
    const char *url, *builtin, *root, *token_file;
    struct gate gate;
    struct discover discover;
    bool discovers;
    uint64_t discover_wait_ms; /* 0: for ever */
};

void work_log(struct work *w, enum log_level level, const char *event, const char *format, ...) {
    if (!log_wants(&w->cli->log, level)) return;
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    pthread_mutex_lock(&w->log_lock);
    log_event(&w->cli->log, level, event, "%s", text);
    log_flush(&w->cli->log);
    pthread_mutex_unlock(&w->log_lock);
}

const char *work_request_id(const weir_job *job) {
    const char *id = weir_job_header(job, "x-request-id");
    return id ? id : "-";
}

/* libweir says in words what happens. What is no routine is a warning. */
static void log_line(void *arg, const char *line) {
    static const char *const routine[] = {"connected", "draining", "stopped", "stopping"};
    const char *last = strrchr(line, ':');
    last = last && last[1] == ' ' ? last + 2 : line;
    enum log_level level = LOG_WARN;
    for (size_t i = 0; i < sizeof routine / sizeof *routine; i++)
        if (strcmp(last, routine[i]) == 0) level = LOG_INFO;
    work_log(arg, level, "worker", "%s", line);
}

static bool take_output(struct call *c, struct cli *cli, const char *value) {
    static const char *const names[] = {"auto", "cgi", "plain"};
    for (unsigned i = 0; i < 3; i++) {
        if (strcmp(value, names[i]) != 0) continue;
        c->work.output = (enum work_output)i;
        return true;
    }
    cli_wrong(cli, "--output is auto, cgi or plain, not \"%s\"", value);
    return false;
}

static bool take_gate(struct call *c, struct cli *cli, int option, const char *value) {
    char *end;
    if (option == GATE_CPU) {
        c->gate.cpus = strtod(value, &end);
        if (*end || !(c->gate.cpus > 0 && c->gate.cpus <= 4096)) {
            cli_wrong(cli, "--gate-cpu is a number of CPUs, not \"%s\"", value);
            return false;
        }
    } else if (!slice_size(slice_of(value), &c->gate.memory) || c->gate.memory == 0) {
        cli_wrong(cli, "--gate-mem is a size as 512MiB, not \"%s\"", value);
        return false;
    }
    return true;
}

/* Where an option's text is kept; NULL: it is no mere text. */
static const char **text_of(struct call *c, int option) {
    switch (option) {
    case HUB_KEY:
        return &c->worker.hub_key;
    case ID:
        return &c->worker.id;
    case LABELS:
        return &c->worker.labels;
    case TOKEN:
        return &c->worker.token;
    case TOKEN_FILE:
        return &c->token_file;
    case HTTP:
        return &c->url;
    case STRIP:
        return &c->work.strip;
    case BUILTIN:
        return &c->builtin;
    case ROOT:
        return &c->root;
    case REDIRECT:
        return &c->worker.redirect;
    case REDIRECT_URL:
        return &c->worker.redirect_url;
    case CONTENT_TYPE:
        return &c->work.content_type;
    case DISCOVER_GROUP:
        return &c->discover.group;
    default:
        return NULL;
    }
}

/* A time that must fit into 32 bits of milliseconds. */
static bool take_ms(struct cli *cli, const char *option, const char *value, uint64_t low, unsigned *ret) {
    uint64_t n;
    if (!cli_duration(cli, option, value, &n)) return false;
    if (n < low || n > UINT32_MAX) {
        cli_wrong(cli, "--%s is a time of %llu ms to 49 days, not \"%s\"", option, (unsigned long long)low,
                  value);
        return false;
    }
    *ret = (unsigned)n;
    return true;
}

static bool take(void *ctx, struct cli *cli, int option, const char *value) {
    struct call *c = ctx;
    uint64_t n;
    const char **text = text_of(c, option);
    c->discovers |= option >= DISCOVER && option <= DISCOVER_WAIT;
    if (text) {
        *text = value;
        return true;
    }
    switch (option) {
    case HUB:
        return buffer_printf(&c->hubs, "%s%s", buffer_size(&c->hubs) ? "," : "", value) == 0;
    case SLOTS:
        if (!cli_u64(cli, "slots", value, 1, 1024, &n)) return false;
        c->worker.slots = (unsigned)n;
        return true;
    case DRAIN:
        return take_ms(cli, "drain", value, 0, &c->worker.drain_ms);
    case REDIRECT_OVER:
        if (!slice_size(slice_of(value), &n) || n == 0) {
            cli_wrong(cli, "--redirect-over is a size as 1MiB, not \"%s\"", value);
            return false;
        }
        c->worker.redirect_over = n;
        return true;
    case REDIRECT_TTL:
        return take_ms(cli, "redirect-ttl", value, 1, &c->worker.redirect_ms);
    case OUTPUT:
        return take_output(c, cli, value);
    case STREAM:
        return c->work.stream = true;
    case KILL_AFTER:
        return cli_duration(cli, "kill-after", value, &c->work.kill_after_ms);
    case DISCOVER:
        return true;
    case DISCOVER_PORT:
        if (!cli_u64(cli, "discover-port", value, 1, UINT16_MAX, &n)) return false;
        c->discover.port = (unsigned)n;
        return true;
    case DISCOVER_WAIT:
        return cli_duration(cli, "discover-wait", value, &c->discover_wait_ms);
    default:
        return take_gate(c, cli, option, value);
    }
}

static int read_token(struct call *c) {
    struct cli *cli = c->work.cli;
    if (!c->worker.token) c->worker.token = getenv("WEIR_WORKER_TOKEN");
    if (!c->token_file) return -1;
    char line[512];
    FILE *f = fopen(c->token_file, "re");
    bool ok = f && fgets(line, sizeof line, f);
    if (f) fclose(f);
    if (!ok) return cli_fail(cli, CLI_FAILED, "cannot read a token from %s", c->token_file);
    line[strcspn(line, "\r\n")] = '\0';
    if (buffer_append(&c->token, line, strlen(line) + 1) != 0) return CLI_FAILED;
    c->worker.token = buffer_slice(&c->token).p;
    return -1;
}

/* Which kind of work: exactly one. */
static int choose(struct call *c, weir_handler **ret) {
    struct cli *cli = c->work.cli;
    c->work.command = cli->arguments + 1;
    bool command = cli->argument_count > 1;
    if ((int)command + (c->url != NULL) + (c->builtin != NULL) != 1)
        return cli_wrong(cli, "wants one of: -- COMMAND, --http URL, --builtin NAME");
    if (c->work.strip && !c->url) return cli_wrong(cli, "--strip goes with --http");
    if (c->root && !(c->builtin && strcmp(c->builtin, "file") == 0))
        return cli_wrong(cli, "--root goes with --builtin file");
    if (command) {
        *ret = work_command;
        return work_command_prepare(&c->work);
    }
    if (c->url) {
        *ret = work_http;
        return work_http_prepare(&c->work, c->url);
    }
    if (strcmp(c->builtin, "echo") == 0) {
        *ret = work_echo;
        return -1;
    }
    if (strcmp(c->builtin, "file") != 0)
        return cli_wrong(cli, "there is no built-in \"%s\": echo, file", c->builtin);
    *ret = work_file;
    return c->root ? work_file_prepare(&c->work, c->root) : cli_wrong(cli, "--builtin file wants --root DIR");
}

/* Without a hub that was named: waits for the first that makes itself known. */
static int find_hub(struct call *c) {
    struct cli *cli = c->work.cli;
    char address[DISCOVER_ADDRESS];
    if (!c->discovers) return -1;
    if (discover_open(&c->discover) != 0)
        return cli_fail(cli, CLI_FAILED, "cannot listen for beacons on UDP port %u: %s", c->discover.port,
                        strerror(errno));
    if (buffer_size(&c->hubs) > 0) return -1;
    work_log(&c->work, LOG_INFO, "discovering", "waiting for a beacon of group %s on UDP port %u",
             c->discover.group, c->discover.port);
    int wait = c->discover_wait_ms == 0 || c->discover_wait_ms > INT_MAX ? -1 : (int)c->discover_wait_ms;
    if (!discover_next(&c->discover, wait, address))
        return cli_fail(cli, CLI_UNREACHABLE, "no hub of group %s has made itself known", c->discover.group);
    return buffer_append(&c->hubs, address, strlen(address)) == 0 ? -1 : CLI_FAILED;
}

static int serve(struct call *c, weir_handler *handler) {
    struct cli *cli = c->work.cli;
    weir_worker *worker = NULL;
    c->worker.hub = buffer_size(&c->hubs) ? buffer_slice(&c->hubs).p : NULL;
    c->worker.log = log_line;
    c->worker.log_arg = &c->work;
    if (c->gate.cpus > 0 || c->gate.memory > 0) {
        c->worker.gate = gate_ask;
        c->worker.gate_arg = &c->gate;
    }
    int err = weir_worker_open(&c->worker, &worker);
    if (err == WEIR_EINVAL)
        return cli_wrong(
            cli, "a hub's address or key, the redirect's address, the id, the labels or the token cannot be");
    if (err == WEIR_EIO && c->worker.redirect)
        return cli_fail(cli, CLI_FAILED, "cannot listen on %s (redirect)", c->worker.redirect);
    for (struct slice rest = slice_of(cli->arguments[0]); rest.p && !err;) {
        struct slice name = slice_next(&rest, ',');
        char *text = strndup(name.p ? name.p : "", name.n);
        err = text ? weir_worker_offer(worker, text, handler, &c->work) : WEIR_ENOMEM;
        free(text);
    }
    int status = -1;
    if (err == WEIR_EINVAL) status = cli_wrong(cli, "\"%s\" is not a service's name", cli->arguments[0]);
    if (!err && c->discovers) err = discover_for(&c->discover, worker);
    if (!err) err = weir_worker_run(worker);
    if (c->discovers) discover_close(&c->discover);
    weir_worker_free(&worker);
    if (status >= 0) return status;
    return err ? cli_fail(cli, CLI_FAILED, "%s", weir_strerror(err)) : CLI_OK;
}

int cmd_work(struct cli *cli) {
    struct call c = {
        .work = {.cli = cli, .content_type = "application/octet-stream", .kill_after_ms = 5000, .root = -1},
        .worker = {.slots = 1},
        .discover = {.group = "weir", .port = BEACON_PORT, .fd = -1},
    };
    weir_handler *handler = NULL;
    pthread_mutex_init(&c.work.log_lock, NULL);
    buffer_init(&c.hubs);
    buffer_init(&c.token);
    gate_init(&c.gate);
    signal(SIGPIPE, SIG_IGN);
    int status = cli_options(cli, take, &c);
    if (status < 0 && cli->argument_count < 1) status = cli_wrong(cli, "wants a service's name");
    if (status < 0) status = read_token(&c);
    if (status < 0) status = choose(&c, &handler);
    if (status < 0) status = find_hub(&c);
    if (status < 0 && buffer_append(&c.hubs, "", buffer_size(&c.hubs) > 0) != 0) status = CLI_FAILED;
    if (status < 0) status = serve(&c, handler);
    discover_close(&c.discover);
    work_http_fini(&c.work);
    free(c.work.program);
    if (c.work.root >= 0) close(c.work.root);
    buffer_fini(&c.hubs);
    buffer_fini(&c.token);
    pthread_mutex_destroy(&c.work.log_lock);
    return status;
}
