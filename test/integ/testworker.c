/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker of the black-box tests, made with libweir's public header alone.
 *
 *   testworker -h HUB [-s SLOTS] [-i ID] [-l LABELS] [-d DRAIN_MS] [-o SERVICE[=HANDLER]]...
 *
 * Without -o it offers every handler under its own name. When the environment has WEIRTEST_LOG, each job
 * appends lines to that file, which the tests wait for:
 *
 *   started JOB PID SERVICE ATTEMPT HOP TARGET
 *   cancelled JOB      the handler returned after a cancel
 *   done JOB           it returned otherwise
 *
 * Threading: handlers run on libweir's job threads; the only things they share are the options below,
 * which do not change after main has read them, and the worker.
 */
#include <weir/weir.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct setup {
    weir_worker *worker;
    unsigned slots;
    int log_fd; /* -1: none */
};

struct offer {
    weir_handler *handler;
    struct setup *setup;
};

static void note(const struct setup *setup, const char *line, int size) {
    if (setup->log_fd >= 0 && size > 0 && write(setup->log_fd, line, (size_t)size) != size)
        perror("WEIRTEST_LOG");
}

static uint64_t number(weir_job *job, const char *name, uint64_t otherwise) {
    uint64_t value;
    return weir_job_query_u64(job, name, &value) == 0 ? value : otherwise;
}

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- handlers: arg is a struct setup ---- */

static int hello(weir_job *job, void *arg) {
    (void)arg;
    return weir_reply(job, 200, "text/plain", "hello", 5);
}

/* Streams the request's body back; every field of the request comes back as x-echo-NAME. */
static int echo(weir_job *job, void *arg) {
    (void)arg;
    char name[300], buffer[16384];
    const char *field, *value;
    for (size_t i = 0; weir_job_header_at(job, i, &field, &value) == 0; i++) {
        snprintf(name, sizeof name, "x-echo-%s", field);
        int err = weir_job_set_header(job, name, value);
        if (err != 0) return err;
    }
    weir_job_set_header(job, "x-echoed-method", weir_job_method(job));
    weir_job_set_header(job, "x-echoed-target", weir_job_target(job));
    const char *type = weir_job_header(job, "content-type");
    int err = weir_reply_begin(job, 200, type ? type : "application/octet-stream");
    if (err != 0) return err;
    ptrdiff_t n;
    while ((n = weir_job_body_read(job, buffer, sizeof buffer)) > 0) {
        err = weir_reply_write(job, buffer, (size_t)n);
        if (err != 0) return err;
    }
    return n < 0 ? (int)n : weir_reply_end(job);
}

/* ?ms= */
static int sleeper(weir_job *job, void *arg) {
    (void)arg;
    int err = weir_job_wait(job, (unsigned)number(job, "ms", 100));
    return err != 0 ? err : weir_reply_printf(job, 200, "text/plain", "slept by %d", (int)getpid());
}

/* ?ms=: sleeps on even when it has been cancelled, as a handler that does not look. */
static int stubborn(weir_job *job, void *arg) {
    (void)arg;
    int64_t end = now_ms() + (int64_t)number(job, "ms", 100);
    while (now_ms() < end) usleep(2000);
    return weir_reply(job, 200, "text/plain", "stubborn", 8);
}

/* ?n= chunks of ?size= bytes, one each ?ms= */
static int drip(weir_job *job, void *arg) {
    (void)arg;
    uint64_t n = number(job, "n", 10), size = number(job, "size", 10);
    unsigned ms = (unsigned)number(job, "ms", 10);
    if (size > 1 << 20) return weir_reply_problem(job, 400, "size is at most 1 MiB");
    char *chunk = malloc(size + 1);
    if (!chunk) return WEIR_ENOMEM;
    int err = weir_reply_begin(job, 200, "text/plain");
    for (uint64_t i = 0; i < n && err == 0; i++) {
        memset(chunk, (int)('a' + i % 26), size);
        err = weir_reply_write(job, chunk, size);
        if (err == 0 && i + 1 < n) err = weir_job_wait(job, ms);
    }
    free(chunk);
    return err != 0 ? err : weir_reply_end(job);
}

static uint32_t adler32(uint32_t sum, const unsigned char *p, size_t n) {
    uint32_t a = sum & 0xffff, b = sum >> 16;
    while (n > 0) {
        size_t run = n < 5552 ? n : 5552; /* as long as b fits without a modulo */
        n -= run;
        while (run-- > 0) {
            a += *p++;
            b += a;
        }
        a %= 65521;
        b %= 65521;
    }
    return b << 16 | a;
}

/* Reads the whole body (pausing ?ms= before each read) and answers "BYTES ADLER32". */
static int sink(weir_job *job, void *arg) {
    (void)arg;
    unsigned char buffer[65536];
    unsigned ms = (unsigned)number(job, "ms", 0);
    uint64_t total = 0;
    uint32_t sum = 1;
    for (;;) {
        if (ms > 0 && weir_job_wait(job, ms) != 0) return WEIR_ECANCELLED;
        ptrdiff_t n = weir_job_body_read(job, buffer, sizeof buffer);
        if (n < 0) return (int)n;
        if (n == 0) break;
        sum = adler32(sum, buffer, (size_t)n);
        total += (uint64_t)n;
    }
    return weir_reply_printf(job, 200, "text/plain", "%llu %u", (unsigned long long)total, sum);
}

/* ?bytes= of a fixed pattern: blocks of 64 KiB, each beginning with its index (8 bytes, big endian). */
static int source(weir_job *job, void *arg) {
    (void)arg;
    unsigned char block[65536];
    uint32_t x = 1;
    for (size_t i = 0; i < sizeof block; i++) {
        x = x * 1103515245U + 12345U;
        block[i] = (unsigned char)(x >> 16);
    }
    uint64_t left = number(job, "bytes", 0);
    int err = weir_reply_begin(job, 200, "application/octet-stream");
    for (uint64_t index = 0; left > 0 && err == 0; index++) {
        for (int i = 0; i < 8; i++) block[i] = (unsigned char)(index >> (56 - 8 * i));
        size_t n = left < sizeof block ? (size_t)left : sizeof block;
        err = weir_reply_write(job, block, n);
        left -= n;
    }
    return err != 0 ? err : weir_reply_end(job);
}

/* ?code=; ?set= becomes X-Set; ?cookies= Set-Cookie fields; ?body=text */
static int status(weir_job *job, void *arg) {
    (void)arg;
    const char *set = weir_job_query(job, "set"), *body = weir_job_query(job, "body");
    if (set) weir_job_set_header(job, "X-Set", set);
    uint64_t cookies = number(job, "cookies", 0);
    for (uint64_t i = 0; i < cookies; i++) {
        char cookie[40];
        snprintf(cookie, sizeof cookie, "c%u=v%u; Path=/", (unsigned)i, (unsigned)i);
        weir_job_set_header(job, "Set-Cookie", cookie);
    }
    unsigned code = (unsigned)number(job, "code", 200);
    return weir_reply(job, code, body ? "text/plain" : NULL, body, body ? strlen(body) : 0);
}

/* Answers before it reads any of the body. */
static int early(weir_job *job, void *arg) {
    (void)arg;
    return weir_reply_problem(job, 413, "too much for %s", weir_job_service(job));
}

/* ?to=SERVICE [&target=] [&body=]: forwards; without body= the request's own body goes on. */
static int forward(weir_job *job, void *arg) {
    (void)arg;
    const char *to = weir_job_query(job, "to"), *target = weir_job_query(job, "target");
    const char *text = weir_job_query(job, "body"), *type = "text/plain";
    size_t size = text ? strlen(text) : 0;
    if (!to) return weir_reply_problem(job, 400, "to= is missing");
    if (!text) {
        type = weir_job_header(job, "content-type");
        int err = weir_job_body(job, &text, &size);
        if (err != 0) return err;
    }
    return weir_forward(job, to, target, type, text, size);
}

/* ?n=: goes round n times, ?ms= each, then answers the number of the hop. */
static int again(weir_job *job, void *arg) {
    (void)arg;
    uint64_t n = number(job, "n", 0), ms = number(job, "ms", 0);
    if (ms > 0 && weir_job_wait(job, (unsigned)ms) != 0) return WEIR_ECANCELLED;
    if (n == 0) return weir_reply_printf(job, 200, "text/plain", "hop %u", weir_job_hop(job));
    char target[100];
    snprintf(target, sizeof target, "/again?n=%llu&ms=%llu", (unsigned long long)(n - 1),
             (unsigned long long)ms);
    return weir_again(job, target, NULL, NULL, 0);
}

/* ?to=SERVICE [&gather=SERVICE] &parts=N [&size=BYTES]: parts "0", "1", ..., each filled up to size with '.';
   or the lines of the request's body, each a part. */
static int scatter(weir_job *job, void *arg) {
    (void)arg;
    const char *to = weir_job_query(job, "to"), *gather = weir_job_query(job, "gather"), *lines = NULL;
    uint64_t n = number(job, "parts", 0), size = number(job, "size", 0);
    size_t lines_size = 0;
    int err = weir_job_body(job, &lines, &lines_size);
    if (!to || err != 0) return weir_reply_problem(job, 400, "to= is missing, or the body");
    if (lines_size > 0) n = 0;
    for (size_t i = 0; i < lines_size; i++) n += lines[i] == '\n';
    if (size < 24) size = 24;
    weir_part *parts = calloc(n + 1, sizeof *parts);
    char *text = malloc(n * size + 1);
    const char *line = lines;
    for (uint64_t i = 0; parts && text && i < n; i++) {
        char *at = text + i * size;
        const char *end = lines_size ? strchr(line, '\n') : NULL;
        parts[i] = (weir_part){.content_type = "text/plain", .body = at};
        if (end) {
            parts[i].body = line;
            parts[i].size = (size_t)(end - line);
            line = end + 1;
            continue;
        }
        memset(at, '.', size);
        parts[i].size = (size_t)snprintf(at, size, "%llu", (unsigned long long)i);
        at[parts[i].size] = '.';
        if (size > 24) parts[i].size = size;
    }
    err = parts && text ? weir_scatter(job, to, gather, parts, n) : WEIR_ENOMEM;
    free(parts);
    free(text);
    return err;
}

/* What to do with a part: "fail", "crash", "sleep MS", "again" (scatters into two parts), "head" (tells
   some of its head), else it comes back with '!'. */
static int portion(weir_job *job, void *arg) {
    (void)arg;
    const char *body;
    size_t size;
    int err = weir_job_body(job, &body, &size);
    if (err != 0) return err;
    if (strcmp(body, "fail") == 0) return WEIR_EIO;
    if (strcmp(body, "crash") == 0) abort();
    if (strncmp(body, "sleep ", 6) == 0 && (err = weir_job_wait(job, (unsigned)atoi(body + 6))) != 0)
        return err;
    if (strcmp(body, "again") == 0) {
        weir_part two[] = {{.body = "one", .size = 3}, {.body = "two", .size = 3}};
        return weir_scatter(job, weir_job_service(job), NULL, two, 2);
    }
    if (strcmp(body, "head") == 0) {
        static const char *const names[] = {"weir-part", "x-mine", "content-type", "weir-hop",
                                            "weir-original-method"};
        char text[400];
        size_t n = (size_t)snprintf(text, sizeof text, "%s", weir_job_method(job));
        for (size_t i = 0; i < 5; i++) {
            const char *value = weir_job_header(job, names[i]);
            n += (size_t)snprintf(text + n, sizeof text - n, " %.60s", value ? value : "-");
        }
        return weir_reply(job, 200, "text/plain", text, n);
    }
    return weir_reply_printf(job, 200, "text/x-portion", "%.*s!", (int)size, body);
}

/* What was gathered: "STATUS:BODY" of each part (with ?sum=, how many of each status). */
static int summary(weir_job *job, void *arg) {
    (void)arg;
    enum { MOST = 4096 };
    char text[MOST + 1];
    size_t n = 0;
    unsigned counts[6] = {0}, total = 0;
    weir_part part;
    int err;
    while ((err = weir_job_next_part(job, &part)) == 0) {
        int shown = part.size < 40 ? (int)part.size : 40;
        if (n < MOST)
            n += (size_t)snprintf(text + n, MOST - n, "%u:%.*s\n", part.status, shown,
                                  (const char *)part.body);
        counts[part.status / 100 < 6 ? part.status / 100 : 0]++;
        total++;
    }
    if (err != WEIR_ENOTFOUND) return err;
    if (!weir_job_query(job, "sum")) return weir_reply(job, 200, "text/plain", text, n < MOST ? n : MOST);
    return weir_reply_printf(job, 200, "text/plain", "%u parts, %u ok, %u failed", total, counts[2],
                             counts[5]);
}

/* ?seq=N [&ms=]: notes "begin KEY N PID" and "end KEY N PID" in the log, and answers its process id. */
static int keyed(weir_job *job, void *arg) {
    const struct setup *setup = arg;
    const char *key = weir_job_header(job, "weir-key");
    char line[200];
    unsigned seq = (unsigned)number(job, "seq", 0), ms = (unsigned)number(job, "ms", 0);
    note(setup, line,
         snprintf(line, sizeof line, "begin %.80s %u %d\n", key ? key : "-", seq, (int)getpid()));
    if (ms > 0) usleep(ms * 1000);
    note(setup, line, snprintf(line, sizeof line, "end %.80s %u %d\n", key ? key : "-", seq, (int)getpid()));
    return weir_reply_printf(job, 200, "text/plain", "%d", (int)getpid());
}

/* ?ms= of computing, looking for a cancel now and then. */
static int slowpoke(weir_job *job, void *arg) {
    (void)arg;
    int64_t end = now_ms() + (int64_t)number(job, "ms", 100);
    volatile uint64_t x = 1;
    while (now_ms() < end) {
        if (weir_job_cancelled(job)) return WEIR_ECANCELLED;
        for (int i = 0; i < 10000; i++) x = x * 6364136223846793005ULL + 1;
    }
    return weir_reply_printf(job, 200, "text/plain", "%llu", (unsigned long long)x);
}

static int crash(weir_job *job, void *arg) {
    (void)job;
    (void)arg;
    abort();
}

static int pid(weir_job *job, void *arg) {
    (void)arg;
    return weir_reply_printf(job, 200, "text/plain", "%d", (int)getpid());
}

/* Fails without an answer. */
static int fail(weir_job *job, void *arg) {
    (void)job;
    (void)arg;
    return WEIR_EIO;
}

/* Begins an answer and fails in the middle of it. */
static int cut(weir_job *job, void *arg) {
    (void)arg;
    int err = weir_reply_begin(job, 200, "text/plain");
    if (err == 0) err = weir_reply_write(job, "0123456789", 10);
    return err != 0 ? err : WEIR_EIO;
}

/* Answers the milliseconds left; -1 when there is no deadline. */
static int left(weir_job *job, void *arg) {
    (void)arg;
    return weir_reply_printf(job, 200, "text/plain", "%lld", (long long)weir_job_time_left(job));
}

/* ?text= is how far it is; then it sleeps ?ms=. */
static int progress(weir_job *job, void *arg) {
    (void)arg;
    const char *text = weir_job_query(job, "text");
    int err = weir_job_progress(job, text ? text : "half");
    if (err == 0) err = weir_job_wait(job, (unsigned)number(job, "ms", 100));
    return err != 0 ? err : weir_reply(job, 200, "text/plain", "all of it", 9);
}

/* Answers 503 as long as the file ?file= is missing. */
static int flaky(weir_job *job, void *arg) {
    (void)arg;
    const char *file = weir_job_query(job, "file");
    if (!file || access(file, F_OK) != 0) return weir_reply_problem(job, 503, "not yet");
    return weir_reply(job, 200, "text/plain", "at last", 7);
}

struct gate {
    struct setup *setup;
    unsigned ms;
};

static void *open_gate(void *arg) {
    struct gate *gate = arg;
    usleep(gate->ms * 1000);
    weir_worker_set_slots(gate->setup->worker, gate->setup->slots);
    free(gate);
    return NULL;
}

/* Takes no jobs for ?ms=, then all again. */
static int gate(weir_job *job, void *arg) {
    struct setup *setup = arg;
    struct gate *g = malloc(sizeof *g);
    if (!g) return WEIR_ENOMEM;
    *g = (struct gate){setup, (unsigned)number(job, "ms", 300)};
    int err = weir_worker_set_slots(setup->worker, 0);
    pthread_t thread;
    if (err != 0 || pthread_create(&thread, NULL, open_gate, g) != 0) {
        free(g);
        return err != 0 ? err : WEIR_ENOMEM;
    }
    pthread_detach(thread);
    return weir_reply(job, 200, "text/plain", "closed", 6);
}

static const struct {
    const char *name;
    weir_handler *handler;
} handlers[] = {
    {"hello", hello},     {"echo", echo},       {"sleep", sleeper},     {"stubborn", stubborn},
    {"drip", drip},       {"sink", sink},       {"source", source},     {"status", status},
    {"early", early},     {"forward", forward}, {"again", again},       {"slowpoke", slowpoke},
    {"crash", crash},     {"pid", pid},         {"fail", fail},         {"cut", cut},
    {"left", left},       {"gate", gate},       {"scatter", scatter},   {"portion", portion},
    {"summary", summary}, {"keyed", keyed},     {"progress", progress}, {"flaky", flaky},
};
enum { HANDLERS = sizeof handlers / sizeof *handlers };

/* What libweir calls: notes the job around its handler. */
static int run(weir_job *job, void *arg) {
    const struct offer *offer = arg;
    char line[512], id[64];
    if (offer->setup->log_fd < 0) return offer->handler(job, offer->setup);
    snprintf(id, sizeof id, "%s", weir_job_id(job));
    int n = snprintf(line, sizeof line, "started %s %d %s %u %u %.200s\n", id, (int)getpid(),
                     weir_job_service(job), weir_job_attempt(job), weir_job_hop(job), weir_job_target(job));
    note(offer->setup, line, n);
    int err = offer->handler(job, offer->setup);
    int gone = err == WEIR_ECANCELLED || err == WEIR_ECUT || weir_job_cancelled(job);
    note(offer->setup, line, snprintf(line, sizeof line, "%s %s\n", gone ? "cancelled" : "done", id));
    return err;
}

static weir_handler *find(const char *name) {
    for (size_t i = 0; i < HANDLERS; i++)
        if (strcmp(handlers[i].name, name) == 0) return handlers[i].handler;
    return NULL;
}

static void say(void *arg, const char *line) {
    (void)arg;
    fprintf(stderr, "%s\n", line);
}

/* "SERVICE=HANDLER", or a handler's name. */
static int offer(struct setup *setup, struct offer *slot, char *text) {
    char *equals = strchr(text, '=');
    if (equals) *equals = '\0';
    *slot = (struct offer){find(equals ? equals + 1 : text), setup};
    if (!slot->handler) {
        fprintf(stderr, "no handler for %s\n", text);
        return WEIR_EINVAL;
    }
    return weir_worker_offer(setup->worker, text, run, slot);
}

int main(int argc, char **argv) {
    enum { MAX_OFFERS = 64 };
    struct setup setup = {.slots = 1, .log_fd = -1};
    weir_worker_options options = {.log = say, .max_body = 64 << 20};
    struct offer offers[MAX_OFFERS];
    char *wanted[MAX_OFFERS], names[HANDLERS][32];
    unsigned count = 0;
    int option;
    while ((option = getopt(argc, argv, "h:s:i:l:d:o:")) != -1) {
        if (option == 'h')
            options.hub = optarg;
        else if (option == 's')
            setup.slots = (unsigned)atoi(optarg);
        else if (option == 'i')
            options.id = optarg;
        else if (option == 'l')
            options.labels = optarg;
        else if (option == 'd')
            options.drain_ms = (unsigned)atoi(optarg);
        else if (option == 'o' && count < MAX_OFFERS)
            wanted[count++] = optarg;
        else
            return 2;
    }
    if (count == 0)
        for (; count < HANDLERS; count++) {
            snprintf(names[count], sizeof names[count], "%s", handlers[count].name);
            wanted[count] = names[count];
        }
    const char *log_path = getenv("WEIRTEST_LOG");
    if (log_path) setup.log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    options.slots = setup.slots;
    int err = weir_worker_open(&options, &setup.worker);
    for (unsigned i = 0; i < count && err == 0; i++) err = offer(&setup, &offers[i], wanted[i]);
    if (err == 0) err = weir_worker_run(setup.worker);
    if (err != 0) fprintf(stderr, "testworker: %s\n", weir_strerror(err));
    weir_worker_free(&setup.worker);
    if (setup.log_fd >= 0) close(setup.log_fd);
    return err == 0 ? 0 : 1;
}
