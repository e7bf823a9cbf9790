/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ZeroMQ workers may send: the real adapter, with this file in place of the socket. The input is a
 * script; each step begins with a byte whose low three bits say what happens and whose next bit which of two
 * workers does it:
 *
 *   0..3 a message of a kind (next byte), whose frames are made by the table of wire/w1.h from what follows
 *   4    a message of any frames: a count, then each with its length before it
 *   5    the worker's connection ends
 *   6    the client's side: cancels, sends body, reads a reply, by the next byte
 *   7    a heartbeat, or sends that fail from now on, by the next byte
 */
#include "attach/link.h"
#include "attach/zmq.h"
#include "fuzz.h"
#include "io/zrouter.h"
#include "weir/weir.h"
#include "wire/w1.h"
#include "world.h"

enum { JOBS = 8 };

static const struct {
    struct slice name;
    const char *frames;
} kinds[] = {
#define ROW(id, from, least, most, frames) {SLICE(#id), frames},
    W1_KINDS(ROW)
#undef ROW
};

static const struct slice heads[] = {
    {"HTTP/1.1 200 OK\r\n\r\n", 19},
    {"HTTP/1.1 200 OK", 15},
    {"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", 38},
    {"HTTP/1.1 204 No Content\r\n\r\n", 27},
    {"HTTP/1.1 200 OK\r\nweir-forward: s /y\r\n\r\n", 39},
    {"HTTP/1.1 200 OK\r\nweir-forward: nowhere\r\n\r\n", 42},
    {"HTTP/1.1 100 Continue\r\n\r\n", 25},
};

/* ---- in place of io/zrouter.c ---- */

struct zrouter {
    struct zrouter_config config;
    int fail; /* what sends return */
    char jobs[JOBS][SLICE_U64];
    size_t job_size[JOBS];
    unsigned job_count;
};
static struct zrouter *the_router;

int zrouter_open(const struct zrouter_config *config, struct zrouter **ret) {
    the_router = *ret = calloc(1, sizeof(**ret));
    CHECK(*ret);
    (*ret)->config = *config;
    return 0;
}

void zrouter_close(struct zrouter **z) {
    free(*z);
    the_router = *z = NULL;
}

int zrouter_bind(struct zrouter *z, const char *endpoint, const char **ret_text) {
    (void)z, (void)endpoint, (void)ret_text;
    return 0;
}

const char *zrouter_endpoint(const struct zrouter *z, size_t index) {
    (void)z, (void)index;
    return NULL;
}

void *zrouter_context(const struct zrouter *z) {
    (void)z;
    return NULL;
}

/* What the hub sends must be in order itself. */
int zrouter_send(struct zrouter *z, struct slice to, const struct slice *frames, unsigned count) {
    struct w1 m;
    const char *why;
    CHECK(to.n == 1);
    if (z->fail) return z->fail;
    CHECK(w1_parse(frames, count, false, &m, &why) == 0);
    if (m.kind != W1_JOB && m.kind != W1_HEAD) return 0;
    unsigned at = z->job_count++ % JOBS;
    memcpy(z->jobs[at], frames[2].p, frames[2].n);
    z->job_size[at] = frames[2].n;
    return 0;
}

void zrouter_look(struct zrouter *z) {
    (void)z;
}

void zrouter_peer(int connection, char *text, size_t size) {
    snprintf(text, size, "%d", connection);
}

/* ---- the script ---- */

struct script {
    const uint8_t *at, *end;
};

static unsigned next(struct script *s) {
    return s->at < s->end ? *s->at++ : 0;
}

static struct slice bytes(struct script *s, size_t n) {
    if (n > (size_t)(s->end - s->at)) n = (size_t)(s->end - s->at);
    struct slice taken = {(const char *)s->at, n};
    s->at += n;
    return taken;
}

static struct slice frame(struct script *s, char letter, char text[SLICE_U64]) {
    unsigned b = next(s);
    if (b == 255) return bytes(s, next(s)); /* anything */
    switch (letter) {
    case 'j':
        return (struct slice){the_router->jobs[b % JOBS], the_router->job_size[b % JOBS]};
    case 'n':
        return slice_from_u64(text, b > 250 ? UINT64_MAX - b : b);
    case 'f':
        return slice_from_u64(text, b % 2);
    case 's':
        return b % 4 == 0 ? SLICE("other") : SLICE("s");
    case 'h':
        return heads[b % (sizeof(heads) / sizeof(*heads))];
    default:
        return bytes(s, b % 32);
    }
}

static void say(unsigned worker, struct slice *frames, unsigned count) {
    char id = (char)('a' + worker);
    frames[0] = (struct slice){&id, 1};
    the_router->config.message(the_router->config.ctx, (int)worker + 5, frames, count);
}

static void say_kind(struct script *s, unsigned worker) {
    struct slice frames[ZROUTER_FRAMES];
    char text[ZROUTER_FRAMES][SLICE_U64];
    unsigned kind = next(s) % W1_KIND_COUNT, count = 1;
    frames[count++] = SLICE("W1");
    frames[count++] = kinds[kind].name;
    for (const char *letter = kinds[kind].frames; *letter && count < ZROUTER_FRAMES; letter++, count++)
        frames[count] = frame(s, *letter, text[count]);
    if (kind == W1_READY) count--; /* no token */
    say(worker, frames, count);
}

static void say_anything(struct script *s, unsigned worker) {
    struct slice frames[ZROUTER_FRAMES] = {0};
    unsigned count = 1 + next(s) % (ZROUTER_FRAMES + 2);
    for (unsigned i = 1; i < count && i < ZROUTER_FRAMES; i++) frames[i] = bytes(s, next(s));
    say(worker, frames, count);
}

static void client(struct world *w, unsigned b) {
    struct asker *a = &w->askers[b % WORLD_REQUESTS];
    struct body *request = w->askers[3].request;
    switch (b >> 2 & 3) {
    case 0:
        world_cancel(w, b);
        break;
    case 1:
        (void)body_write(request, "0123456789abcdef", 16);
        break;
    case 2:
        if (b & 1)
            body_end(request);
        else
            body_abort(request, WEIR_ECUT);
        break;
    default:
        if (a->body) body_consume(a->body, body_peek(a->body).n);
    }
}

static void step(struct world *w, struct script *s) {
    static const int failures[] = {0, WEIR_EAGAIN, WEIR_ENOTFOUND, 0};
    unsigned b = next(s), worker = b >> 3 & 1;
    switch (b & 7) {
    case 4:
        say_anything(s, worker);
        break;
    case 5:
        the_router->config.ended(the_router->config.ctx, (int)worker + 5);
        the_router->config.settled(the_router->config.ctx);
        break;
    case 6:
        client(w, next(s));
        break;
    case 7:
        b = next(s);
        if (b & 4)
            the_router->fail = failures[b & 3];
        else
            zworkers_heartbeat(w->attach->zworkers);
        break;
    default:
        say_kind(s, worker);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > 4096) return 0;
    struct world w;
    struct script s = {data, data + size};
    const char *why;
    world_open(&w);
    CHECK(attach_bind(w.attach, "inproc://fuzz", &why) == 0);
    while (s.at < s.end) {
        step(&w, &s);
        world_turn(&w);
    }
    world_close(&w);
    return 0;
}
