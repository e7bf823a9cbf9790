/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a dispatch costs in the core: submit, dispatch, answer and end of one job, with the queue's length
 * constant. Two tables, by queue length and by number of workers; the cost is to stay within 2x. Medians of
 * RUNS.
 */
#include "core/core.h"
#include "base/clock.h"
#include <stdio.h>
#include <stdlib.h>

enum { RUNS = 5, CYCLES = 1000000, STEP_US = 10, QUEUED = 1000, WORKERS = 8 };

struct held {
    uint64_t worker, job;
};

struct bench {
    struct core *core;
    uint64_t now;
    struct requester requester;
    struct held *held; /* what the workers run, oldest first; a ring of one place per worker */
    size_t size, first, count;
};

static void die(const char *what) {
    fprintf(stderr, "bench/core: %s\n", what);
    exit(1);
}

static void release(void *ctx, void *message) {
    (void)ctx;
    (void)message;
}

static bool replayable(void *ctx, const void *message) {
    (void)ctx;
    return message != NULL;
}

static void submit(struct bench *b) {
    struct core_request r = {.requester = &b->requester,
                             .message = b,
                             .bytes = 300,
                             .service = SLICE("bench"),
                             .deadline = b->now + 60 * 1000 * 1000,
                             .priority = CORE_PRIORITY_DEFAULT,
                             .idempotent = true};
    uint64_t id;
    struct failure why;
    if (core_submit(b->core, b->now, &r, &id, &why) != 0) die("a request was refused");
}

static void act(struct bench *b) {
    struct core_action a;
    while (core_next_action(b->core, &a)) {
        if (a.kind != CORE_SEND || b->count == b->size) die("an unexpected action");
        b->held[(b->first + b->count++) % b->size] = (struct held){a.worker, a.job};
    }
}

/* One job comes, the oldest running one ends. */
static void cycle(struct bench *b) {
    b->now += STEP_US;
    submit(b);
    struct held h = b->held[b->first];
    b->first = (b->first + 1) % b->size;
    b->count--;
    if (!core_job_answer(b->core, b->now, h.worker, h.job)) die("an answer was refused");
    core_job_done(b->core, b->now, h.worker, h.job);
    core_slot_free(b->core, b->now, h.worker, h.job);
    act(b);
}

static void begin(struct bench *b, size_t queued, size_t workers) {
    struct core_config c;
    core_defaults(&c);
    c.max_queued = c.service.max_queued = queued + 2;
    c.max_queued_bytes = c.service.max_queued_bytes = UINT64_MAX;
    c.release = release;
    c.replayable = replayable;
    *b = (struct bench){.now = 1000000, .size = workers};
    b->held = calloc(workers, sizeof *b->held);
    b->core = core_new(&c, b->now);
    if (!b->core || !b->held) die("out of memory");
    for (size_t i = 0; i < workers; i++) {
        struct core_worker worker = {.port = b, .id = SLICE("worker")};
        uint64_t id;
        if (core_worker_attach(b->core, b->now, &worker, &id) != 0) die("a worker was refused");
        if (core_worker_offer(b->core, b->now, id, SLICE("bench")) != 0) die("an offer was refused");
        core_worker_slots(b->core, b->now, id, 1);
    }
    for (size_t i = 0; i < queued + workers; i++) {
        b->now += i < workers ? 0 : STEP_US;
        submit(b);
        act(b);
    }
}

static double run(size_t queued, size_t workers) {
    struct bench b;
    begin(&b, queued, workers);
    for (int i = 0; i < CYCLES / 10; i++) cycle(&b);
    uint64_t start = clock_mono_ns();
    for (int i = 0; i < CYCLES; i++) cycle(&b);
    double ns = (double)(clock_mono_ns() - start) / CYCLES;
    struct core_stats s;
    core_stats(b.core, &s);
    if (s.queued != queued || s.running != workers) die("the queue has not kept its length");
    core_free(b.core);
    free(b.held);
    return ns;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct shape {
    size_t queued, workers;
};

/* Prints a row for each shape; returns the largest ratio to the first. The shapes take turns, so that a noisy
   neighbour meets them all. */
static double table(const char *title, const struct shape *shapes, size_t n) {
    double ns[8][RUNS], worst = 1;
    for (int r = 0; r < RUNS; r++)
        for (size_t i = 0; i < n; i++) ns[i][r] = run(shapes[i].queued, shapes[i].workers);
    printf("%-10s %10s %14s %8s\n", title, "workers", "ns/dispatch", "ratio");
    for (size_t i = 0; i < n; i++) {
        qsort(ns[i], RUNS, sizeof(double), compare);
        double ratio = ns[i][RUNS / 2] / ns[0][RUNS / 2];
        if (ratio > worst) worst = ratio;
        printf("%-10zu %10zu %14.0f %8.2f\n", shapes[i].queued, shapes[i].workers, ns[i][RUNS / 2], ratio);
    }
    printf("\n");
    return worst;
}

int main(void) {
    static const struct shape lengths[] = {
        {10, WORKERS}, {1000, WORKERS}, {100000, WORKERS}, {1000000, WORKERS}};
    static const struct shape workers[] = {{QUEUED, 1}, {QUEUED, 100}, {QUEUED, 10000}};
    double a = table("queued", lengths, sizeof lengths / sizeof *lengths);
    double b = table("queued", workers, sizeof workers / sizeof *workers);
    double worst = a > b ? a : b;
    printf("largest ratio %.2f: %s\n", worst, worst <= 2 ? "within 2x" : "NOT within 2x");
    return worst <= 2 ? 0 : 1;
}
