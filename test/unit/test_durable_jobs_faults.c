/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine of durable jobs when the store fails, when memory fails, and when the store completes in an
 * order of its own: nothing that was accepted is lost, nothing leaks, and it goes on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "durable/held.h"
#include "durable_world.h"
#include "lib/fault.h"
#include "weir/weir.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

static struct dw w;
static long live;
static struct dw_put put;
static struct dw_call call;
static struct buffer large, other;

static int setup(void **state) {
    (void)state;
    fault_reset();
    buffer_init(&large);
    buffer_init(&other);
    dw_fill(&large, 1, 200000);
    dw_fill(&other, 2, 300000);
    live = fault_live();
    dw_defaults(&w);
    dw_open(&w);
    return 0;
}

static void start(void) {
    assert_int_equal(dw_start(&w), 0);
    dw_settle(&w);
}

static int teardown(void **state) {
    (void)state;
    w.gate.held = false;
    w.gate.fault = NULL;
    dw_close(&w);
    assert_int_equal(fault_live(), live);
    buffer_fini(&large);
    buffer_fini(&other);
    return 0;
}

static uint64_t blobs(void) {
    struct store_stats stats;
    store_stats(&w.gate.base, &stats);
    return stats.blobs;
}

static void quiet(void) {
    assert_int_equal(dw_stats(&w).held, 0);
    assert_true(core_idle(w.core));
    for (unsigned i = 0; i < LINES_TABLE; i++) assert_true(list_empty(&w.jobs->lines[i]));
    assert_true(list_empty(&w.jobs->waiting));
    assert_true(list_empty(&w.jobs->hungry));
    assert_int_equal(w.gate.count, 0);
}

static void submit(const char *target, struct slice body) {
    assert_int_equal(dw_submit(&w, &put, target, body, (struct jobs_order){0}), 0);
    dw_settle(&w);
}

static struct dw_lease *at_work(const char *target) {
    struct dw_lease *l = dw_find(&w, target);
    if (!l) fail_msg("%s is at no worker", target);
    return l;
}

/* ---- one operation fails ---- */

static struct plan {
    enum store_kind kind;  /* STORE_KINDS: any */
    unsigned after, count; /* so many go well, then so many fail */
    int error;
    unsigned seen, failed;
    bool failed_drop;
} plan;

static int fault(void *ctx, const struct store_op *op) {
    (void)ctx;
    if (plan.kind != STORE_KINDS && op->kind != plan.kind) return 0;
    if (plan.seen++ < plan.after || plan.failed == plan.count) return 0;
    plan.failed++;
    plan.failed_drop |= op->kind == STORE_BLOB_DROP;
    return plan.error;
}

static void fail_kind(enum store_kind kind, unsigned count) {
    plan = (struct plan){.kind = kind, .count = count, .error = WEIR_EUNAVAILABLE};
    w.gate.fault = fault;
}

/* A small answer is kept, and told the store until it takes it; the job does not run again. */
static void test_end_is_told_again(void **state) {
    (void)state;
    start();
    dw_attach(&w, "a", 1);
    submit("/x", SLICE("b"));
    fail_kind(STORE_JOB_FINISH, 7);
    dw_done(&w, at_work("/x"));
    dw_pass(&w, 6500);
    assert_int_equal(dw_state(&w, put.id), STORE_LEASED);
    assert_int_equal(dw_running(&w), 0);
    dw_pass(&w, 1000);
    assert_int_equal(dw_state(&w, put.id), STORE_DONE);
    assert_int_equal(dw_stats(&w).store_retries, 7);
    assert_int_equal(plan.failed, 7);
    quiet();
}

static void test_release_and_step_are_told_again(void **state) {
    (void)state;
    start();
    dw_attach(&w, "ab", 2);
    submit("/x.0", SLICE("b"));
    fail_kind(STORE_JOB_RELEASE, 3);
    struct dw_lease *l = at_work("/x.0");
    (void)dw_reply(&w, l, &(struct dw_answer){.status = 500});
    dw_free(&w, l);
    dw_pass(&w, 2500);
    assert_int_equal(dw_state(&w, put.id), STORE_LEASED);
    dw_pass(&w, 3000);
    l = at_work("/x.0");
    assert_int_equal(l->attempt, 2);
    fail_kind(STORE_JOB_STEP, 3);
    (void)dw_forward(&w, l, "b", "/x.1", &(struct dw_answer){.bytes = buffer_slice(&large).p, .n = 200000});
    dw_free(&w, l);
    dw_pass(&w, 2500);
    assert_int_equal(dw_running(&w), 0);
    dw_pass(&w, 1000);
    dw_done(&w, at_work("/x.1"));
    dw_settle(&w);
    assert_int_equal(dw_state(&w, put.id), STORE_DONE);
    assert_int_equal(blobs(), 0);
    quiet();
}

/* Its blob is not left behind. */
static bool is_cancel(const struct store_op *op) {
    return op->kind == STORE_JOB_FINISH && op->job.state == STORE_CANCELLED;
}

static void test_cancelled_while_its_end_is_to_be_told_again(void **state) {
    (void)state;
    start();
    dw_attach(&w, "a", 1);
    for (unsigned hop = 0; hop < 2; hop++) {
        submit("/x", SLICE("b"));
        fail_kind(hop ? STORE_JOB_STEP : STORE_JOB_FINISH, 1000);
        struct dw_lease *l = at_work("/x");
        struct dw_answer a = {.bytes = buffer_slice(&large).p, .n = 200000};
        assert_true(hop ? dw_forward(&w, l, "a", "/x", &a) : dw_reply(&w, l, &a));
        dw_free(&w, l);
        dw_pass(&w, 500);
        assert_int_equal(blobs(), 1);
        w.gate.fault = NULL;
        dw_cancel(&w, put.id, &call);
        dw_settle(&w);
        assert_int_equal(call.err, 0);
        assert_int_equal(blobs(), 0);
        dw_pass(&w, 5000);
        quiet();
        /* And the other way round: the operation is under way, and fails, when the job is cancelled. */
        submit("/x", SLICE("b"));
        l = at_work("/x");
        assert_true(hop ? dw_forward(&w, l, "a", "/x", &a) : dw_reply(&w, l, &a));
        dw_free(&w, l);
        while (w.gate.ops[0].op->kind != (hop ? STORE_JOB_STEP : STORE_JOB_FINISH)) {
            gate_apply(&w.gate, 0);
            gate_tell(&w.gate, 0);
        }
        fail_kind(hop ? STORE_JOB_STEP : STORE_JOB_FINISH, 1);
        gate_apply(&w.gate, 0);
        dw_cancel(&w, put.id, &call);
        dw_settle(&w);
        dw_pass(&w, 5000);
        assert_int_equal(call.err, 0);
        assert_int_equal(blobs(), 0);
        quiet();
        /* The store has it cancelled before it is asked to end it, which it refuses, or fails to do. */
        for (unsigned fails = 0; fails < 2; fails++) {
            submit("/x", SLICE("b"));
            l = at_work("/x");
            assert_true(hop ? dw_forward(&w, l, "a", "/x", &a) : dw_reply(&w, l, &a));
            dw_free(&w, l);
            dw_cancel(&w, put.id, &call);
            for (; !is_cancel(w.gate.ops[0].op); gate_tell(&w.gate, 0)) gate_apply(&w.gate, 0);
            gate_apply(&w.gate, 0); /* and not told */
            for (; w.gate.ops[1].op->kind != (hop ? STORE_JOB_STEP : STORE_JOB_FINISH); gate_tell(&w.gate, 1))
                gate_apply(&w.gate, 1);
            if (fails) fail_kind(hop ? STORE_JOB_STEP : STORE_JOB_FINISH, 1);
            dw_settle(&w);
            assert_int_equal(call.err, 0);
            assert_int_equal(blobs(), 0);
            quiet();
        }
    }
}

static void test_put_fails(void **state) {
    (void)state;
    start();
    static const int errors[] = {WEIR_ENOSPACE, WEIR_EUNAVAILABLE};
    for (unsigned i = 0; i < 2; i++) {
        fail_kind(STORE_JOB_PUT, 1);
        plan.error = errors[i];
        submit("/x", buffer_slice(&large));
        assert_int_equal(put.err, errors[i]);
        assert_int_equal(put.told, 1);
        assert_int_equal(blobs(), 0);
        quiet();
    }
    for (enum store_kind kind = STORE_BLOB_NEW; kind <= STORE_BLOB_CLOSE; kind++) {
        fail_kind(kind, 1);
        plan.error = WEIR_ENOSPACE;
        submit("/x", buffer_slice(&large));
        assert_int_equal(put.err, WEIR_ENOSPACE);
        assert_int_equal(blobs(), 0);
        quiet();
    }
    assert_int_equal(dw_stats(&w).accepted, 0);
}

/* What a hub before has left is loaded once, and all of it; nothing is leased before. */
static void test_load_fails(void **state) {
    (void)state;
    start();
    submit("/old", SLICE("b"));
    struct store_id old = put.id;
    dw_stop(&w);
    fail_kind(STORE_JOB_LOAD, 3);
    start();
    dw_attach(&w, "a", 5);
    struct store_id ids[4];
    for (unsigned i = 0; i < 4; i++) {
        submit(i % 2 ? "/new1" : "/new0", SLICE("b"));
        assert_int_equal(put.err, 0);
        ids[i] = put.id;
        if (i < 2) dw_pass(&w, 20);
        dw_settle(&w);
        if (i == 0)
            assert_int_equal(dw_submit(&w, &put, "/late", SLICE("b"), (struct jobs_order){.delay_ms = 5}), 0);
    }
    dw_pass(&w, 5000);
    assert_int_equal(dw_running(&w), 5);
    assert_non_null(dw_find(&w, "/old"));
    for (unsigned i = 0; i < 5; i++) dw_done(&w, &w.leases[i]);
    dw_settle(&w);
    assert_int_equal(dw_running(&w), 1);
    for (unsigned i = 0; i < 5; i++)
        if (w.leases[i].state) dw_done(&w, &w.leases[i]);
    dw_settle(&w);
    for (unsigned i = 0; i < 4; i++) assert_int_equal(dw_state(&w, ids[i]), STORE_DONE);
    assert_int_equal(dw_state(&w, old), STORE_DONE);
    assert_int_equal(dw_stats(&w).done, 6);
    quiet();
}

/* ---- the order in which a store completes ---- */

/* It may lease more of a line before it has put what was given to it before. */
static void test_lease_before_put(void **state) {
    (void)state;
    start();
    for (unsigned i = 0; i < 256; i++) submit("/w", SLICE(""));
    dw_attach(&w, "a", 256);
    w.gate.held = true;
    /* The window is full: this one waits in the store. */
    core_worker_slots(w.core, dw_us(&w), w.workers[0], 0);
    assert_int_equal(dw_submit(&w, &put, "/x", SLICE("b"), (struct jobs_order){0}), 0);
    assert_int_equal(w.gate.count, 1);
    core_worker_slots(w.core, dw_us(&w), w.workers[0], 256);
    dw_settle(&w);
    assert_int_equal(w.gate.count, 2);
    assert_int_equal(w.gate.ops[1].op->kind, STORE_JOB_LEASE);
    gate_apply(&w.gate, 1);
    gate_tell(&w.gate, 1);
    w.gate.held = false;
    dw_settle(&w);
    assert_int_equal(put.err, 0);
    core_worker_slots(w.core, dw_us(&w), w.workers[0], 257);
    dw_settle(&w);
    for (unsigned i = 0; i < DW_LEASES; i++)
        if (w.leases[i].state) dw_done(&w, &w.leases[i]);
    dw_settle(&w);
    assert_int_equal(dw_state(&w, put.id), STORE_DONE);
    quiet();
}

/* ---- what is stored makes no sense, or is too much by now ---- */

/* The limit of a head is another one since a restart: what was accepted is run, and holds up nobody. */
static void test_head_over_the_limit(void **state) {
    (void)state;
    start();
    struct message *m = dw_message(&w, "/long", "b", 1, true);
    char value[3000];
    memset(value, 'v', sizeof value);
    assert_int_equal(head_add_name(&m->head, &m->arena, SLICE("x-long"), (struct slice){value, sizeof value}),
                     0);
    assert_int_equal(dw_submit(&w, &put, "/long", (struct slice){0}, (struct jobs_order){.message = m}), 0);
    dw_settle(&w);
    assert_int_equal(put.err, 0);
    struct store_id first = put.id;
    submit("/short", SLICE("b"));
    dw_stop(&w);
    w.config.max_head = 500;
    start();
    dw_attach(&w, "a", 2);
    dw_pass(&w, 1000);
    dw_done(&w, at_work("/short"));
    dw_done(&w, at_work("/long"));
    dw_pass(&w, 1000);
    assert_int_equal(dw_state(&w, put.id), STORE_DONE);
    assert_int_equal(dw_state(&w, first), STORE_DONE);
    quiet();
}

/* ---- a whole life, with something failing at each place in turn ---- */

enum { STORIES = 8 };
static const char *const stories[STORIES] = {"/plain.0", "/large.0", "/tried.0",  "/scatter.0",
                                             "/later.0", "/cycle.0", "/cancel.0", "/dead.0"};
struct life {
    struct dw_put puts[STORIES];
    bool in[STORIES];
    bool cancelled, revived, cancelling, reviving;
    struct dw_call cancel, revive;
};

static bool is(const struct dw_lease *l, const char *stem, unsigned stage) {
    char target[64];
    snprintf(target, sizeof target, "%s.%u", stem, stage);
    return strcmp(l->target, target) == 0;
}

/* What the worker does with a job. */
static void work(struct dw_lease *l) {
    struct slice big = buffer_slice(&large), bigger = buffer_slice(&other);
    char next[64];
    dw_read(&w, l);
    dw_next_target(l->target, next);
    if (l->state == LEASE_LEAVING) {
    } else if (is(l, "/large", 0)) {
        if (l->read < big.n && !body_error(l->message->body)) return;
        (void)dw_forward(&w, l, "b", next, &(struct dw_answer){.bytes = bigger.p, .n = bigger.n});
    } else if (is(l, "/large", 1)) {
        (void)dw_reply(&w, l, &(struct dw_answer){.status = 200, .bytes = big.p, .n = big.n});
    } else if (is(l, "/tried", 0) && l->attempt < 3) {
        (void)dw_reply(&w, l, &(struct dw_answer){.status = 503, .bytes = "no", .n = 2});
    } else if (is(l, "/scatter", 0)) {
        (void)dw_scatter(&w, l, "b", "a", 3, &(struct dw_answer){0});
    } else if (strstr(l->target, "/p1")) {
        (void)dw_reply(&w, l, &(struct dw_answer){.status = 200, .bytes = big.p, .n = big.n});
    } else if (is(l, "/cycle", 0) || is(l, "/cycle", 1) || is(l, "/cycle", 2)) {
        (void)dw_forward(&w, l, "a", next, &(struct dw_answer){.bytes = "again", .n = 5});
    } else if (is(l, "/cancel", 0)) {
        return;
    } else if (is(l, "/dead", 0) && (w.jobs->stats.dead == 0)) {
        (void)dw_reply(&w, l, &(struct dw_answer){.status = 500});
    } else {
        (void)dw_reply(&w, l, &(struct dw_answer){.status = 200, .bytes = "fine", .n = 4});
    }
    dw_free(&w, l);
}

static void come_in(struct life *life) {
    for (unsigned i = 0; i < STORIES; i++) {
        struct dw_put *p = &life->puts[i];
        if (life->in[i] && p->err != DW_PENDING && p->err != 0) life->in[i] = false; /* again */
        if (life->in[i]) continue;
        struct jobs_order o = {.delay_ms = i == 4 ? 300 : 0,
                               .key = i == 5 ? SLICE("key") : (struct slice){0}};
        life->in[i] = dw_submit(&w, p, stories[i], i == 1 ? buffer_slice(&large) : SLICE("body"), o) == 0;
    }
}

static void change(struct life *life) {
    struct dw_put *p = &life->puts[6];
    if (life->in[6] && p->err == 0 && !life->cancelling && dw_find(&w, "/cancel.0")) {
        life->cancelling = true;
        dw_cancel(&w, p->id, &life->cancel);
    }
    if (life->cancelling && life->cancel.err < 0) life->cancelling = false; /* again */
    p = &life->puts[7];
    if (life->in[7] && p->err == 0 && !life->reviving && dw_state(&w, p->id) == STORE_DEAD) {
        life->reviving = true;
        dw_revive(&w, p->id, &life->revive);
    }
    if (life->reviving && life->revive.err < 0) life->reviving = false;
}

static void live_through(struct life *life) {
    *life = (struct life){0};
    while (dw_start(&w) != 0) {
    }
    dw_attach(&w, "ab", 4);
    unsigned ended = 0;
    for (unsigned turn = 0; ended < STORIES; turn++) {
        if (turn > 2000) fail_msg("it comes to no end: %u of %u have ended", ended, STORIES);
        come_in(life);
        change(life);
        dw_settle(&w);
        for (unsigned i = 0; i < DW_LEASES; i++)
            if (w.leases[i].state) work(&w.leases[i]);
        dw_settle(&w);
        dw_pass(&w, 50);
        ended = 0;
        for (unsigned i = 0; i < STORIES; i++) {
            if (!life->in[i] || life->puts[i].err != 0) continue;
            enum store_job_state s = dw_state(&w, life->puts[i].id);
            ended += s != STORE_QUEUED && s != STORE_LEASED && (s != STORE_DEAD || i != 7);
        }
    }
    for (unsigned i = 0; i < STORIES; i++) {
        assert_int_equal(life->puts[i].told, 1);
        enum store_job_state state = dw_state(&w, life->puts[i].id);
        enum store_job_state expected = i == 6 ? STORE_CANCELLED : STORE_DONE;
        if (state != expected) fail_msg("%s is %s", stories[i], store_job_state_text(state));
    }
    dw_pass(&w, 5000);
    quiet();
    assert_int_equal(w.gathering, 0);
    /* The answer of /large; and what could not be dropped. */
    assert_in_range(blobs(), 1, plan.failed_drop ? 1 + plan.failed : 1);
}

static void renew(void) {
    w.gate.fault = NULL;
    dw_close(&w);
    assert_int_equal(fault_live(), live);
    dw_defaults(&w);
    w.config.backoff_ms = 100;
    w.config.attempts = 4;
    dw_open(&w);
}

static void story_of_store_errors(int error, unsigned count) {
    struct life life;
    for (unsigned n = 0;; n++) {
        renew();
        plan = (struct plan){.kind = STORE_KINDS, .after = n, .count = count, .error = error};
        w.gate.fault = fault;
        live_through(&life);
        if (plan.failed == 0) break;
    }
    assert_true(plan.seen > 40);
}

static void test_store_fails_once_anywhere(void **state) {
    (void)state;
    story_of_store_errors(WEIR_EUNAVAILABLE, 1);
    story_of_store_errors(WEIR_ENOSPACE, 1);
}

static void test_store_fails_for_a_while_from_anywhere(void **state) {
    (void)state;
    story_of_store_errors(WEIR_EUNAVAILABLE, 7);
}

static void test_out_of_memory_anywhere(void **state) {
    (void)state;
    struct life life;
    plan = (struct plan){0};
    long n = 1;
    for (long total = LONG_MAX; n <= total; n++) {
        renew();
        fault_reset();
        fault_fail_at(n);
        live_through(&life);
        total = fault_count() + 1;
        fault_fail_at(0);
    }
    assert_true(n > 100);
}

/* Nothing but ENOMEM is told, and nothing of it is there, when memory lacks as a request comes in. */
static void test_out_of_memory_coming_in(void **state) {
    (void)state;
    start();
    struct slice bodies[] = {SLICE(""), SLICE("body"), buffer_slice(&large)};
    for (unsigned i = 0; i < 3; i++) {
        for (long n = 1;; n++) {
            struct jobs_order o = {
                .key = SLICE("k"), .tenant = SLICE("t"), .service = SLICE("a"), .delay_ms = i};
            fault_fail_at(n);
            int err = dw_submit(&w, &put, "/x", bodies[i], o);
            dw_settle(&w);
            fault_fail_at(0);
            dw_settle(&w);
            if (err == 0) err = put.err;
            if (err == 0) break;
            assert_int_equal(err, WEIR_ENOMEM);
            quiet();
            assert_int_equal(blobs(), 0);
        }
        struct store_id id = put.id;
        dw_cancel(&w, id, &call);
        dw_settle(&w);
        assert_int_equal(call.err, 0);
        w.ms += 1800001; /* the key's time */
        dw_settle(&w);
        quiet();
    }
}

#define STORY(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv) {
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        STORY(test_end_is_told_again),
        STORY(test_release_and_step_are_told_again),
        STORY(test_cancelled_while_its_end_is_to_be_told_again),
        STORY(test_put_fails),
        STORY(test_load_fails),
        STORY(test_lease_before_put),
        STORY(test_head_over_the_limit),
        STORY(test_store_fails_once_anywhere),
        STORY(test_store_fails_for_a_while_from_anywhere),
        STORY(test_out_of_memory_coming_in),
        STORY(test_out_of_memory_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
