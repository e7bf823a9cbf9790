/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine of durable jobs (src/durable/jobs.h) with a real core, the model of a store, and workers acted
 * out by hand; what docs/protocol.md promises under "Durable jobs". Here: hubs that end, in every way, and
 * the next one. What happens when the store or memory fails is test_durable_jobs_faults.c.
 */
#include "durable_story.h"
#include "weir/weir.h"
#include <stdio.h>

/* ---- the end of a hub, and the next ---- */

/* Jobs in every phase when the hub ends in that way; the next one finishes all of them. */
static void story_of_ends(void (*end)(void)) {
    struct buffer large;
    buffer_init(&large);
    dw_fill(&large, 5, 200000);
    dw_attach(&w, "b", 8);
    struct store_id ids[9];
    struct jobs_order to_b = {.service = SLICE("b")};
    ids[0] = submit_at("/running.0", to_b);
    ids[1] = submit_at("/answering.0", to_b);
    ids[2] = submit_at("/handing.0", to_b);
    ids[3] = submit_at("/storing.0", to_b);
    ids[4] = submit_at("/stepping.0", to_b);
    ids[5] = submit_at("/scattered.0", to_b);
    ids[6] = submit("/queued.0"); /* nobody serves a */
    ids[7] = submit_at("/delayed.0", (struct jobs_order){.service = SLICE("b"), .delay_ms = 1000});
    struct dw_lease *l = at_work("/scattered.0");
    assert_true(dw_scatter(&w, l, "a", "", 2, &(struct dw_answer){0}));
    dw_free(&w, l);
    dw_settle(&w);
    w.gate.held = true;
    struct dw_answer half = {.bytes = "hal", .n = 3, .open = true};
    assert_true(dw_reply(&w, at_work("/answering.0"), &half));
    assert_true(dw_forward(&w, at_work("/handing.0"), "b", "/handing.1", &half));
    l = at_work("/storing.0");
    assert_true(dw_reply(&w, l, &(struct dw_answer){.bytes = buffer_slice(&large).p, .n = 200000}));
    dw_free(&w, l);
    l = at_work("/stepping.0");
    assert_true(dw_forward(&w, l, "b", "/stepping.1", &(struct dw_answer){.bytes = "x", .n = 1}));
    dw_free(&w, l);
    /* And requests that are on their way in: one that the store has been asked for, one whose body is not
     * whole. */
    struct dw_put in, open;
    assert_int_equal(dw_submit(&w, &in, "/in.0", SLICE("b"), to_b), 0);
    struct message *m = dw_message(&w, "/open.0", buffer_slice(&large).p, 100000, false);
    message_ref(m);
    struct jobs_order open_order = {.message = m, .service = SLICE("b")};
    assert_int_equal(dw_submit(&w, &open, "/open.0", (struct slice){0}, open_order), 0);
    dw_settle(&w);
    if (open.ticket) jobs_ticket_drop(open.ticket);
    message_unref(m);
    end();
    w.gate.held = false;
    assert_int_equal(dw_start(&w), 0);
    dw_settle(&w);
    dw_attach(&w, "ab", 20);
    dw_settle(&w);
    for (unsigned turn = 0; turn < 100; turn++) {
        for (unsigned i = 0; i < DW_LEASES; i++)
            if (w.leases[i].state) {
                assert_int_equal(w.leases[i].attempt, 1);
                dw_done(&w, &w.leases[i]);
            }
        dw_pass(&w, 100);
    }
    for (unsigned i = 0; i < 8; i++) is(ids[i], STORE_DONE, 200);
    if (in.err == 0) is(in.id, STORE_DONE, 200);
    quiet();
    struct store_stats stats;
    store_stats(&w.gate.base, &stats);
    assert_true(stats.blobs <= 1);
    buffer_fini(&large);
}

static void close_it(void) {
    dw_stop(&w);
}

static void drain_it(void) {
    core_drain(w.core, dw_us(&w));
    jobs_drain(w.jobs);
    dw_settle(&w);
    /* What runs goes on; nothing begins. */
    for (unsigned i = 0; i < DW_LEASES; i++) {
        struct dw_lease *l = &w.leases[i];
        if (l->state == LEASE_RUNNING)
            dw_done(&w, l);
        else if (l->state == LEASE_REPLYING)
            dw_end(&w, l);
    }
    w.gate.held = false;
    dw_settle(&w);
    assert_int_equal(dw_running(&w) > 8, 0);
    core_drain_over(w.core, dw_us(&w));
    dw_settle(&w);
    assert_true(core_idle(w.core));
    dw_stop(&w);
}

static void drain_over_it(void) {
    core_drain(w.core, dw_us(&w));
    jobs_drain(w.jobs);
    core_drain_over(w.core, dw_us(&w));
    dw_settle(&w);
    assert_true(core_idle(w.core));
    dw_stop(&w);
}

static bool keep_none(const struct store_op *op, void *ctx) {
    (void)op;
    (void)ctx;
    return false;
}
static void crash_keep(void) {
    dw_crash(&w, keep_all, NULL);
}
static void crash_forget(void) {
    dw_crash(&w, keep_none, NULL);
}

static void test_closed_in_every_phase(void **state) {
    (void)state;
    story_of_ends(close_it);
}
static void test_drained_in_every_phase(void **state) {
    (void)state;
    story_of_ends(drain_it);
}
static void test_drain_over_in_every_phase(void **state) {
    (void)state;
    story_of_ends(drain_over_it);
}
static void test_killed_in_every_phase(void **state) {
    (void)state;
    story_of_ends(crash_keep);
}
static void test_killed_and_forgotten_in_every_phase(void **state) {
    (void)state;
    story_of_ends(crash_forget);
}

/* What is queued stays in the store, although a worker has time for it now. */
static void test_drain_begins_nothing(void **state) {
    (void)state;
    dw_attach(&w, "a", 1);
    struct store_id first = submit("/x.0"), second = submit("/y");
    core_drain(w.core, dw_us(&w));
    jobs_drain(w.jobs);
    dw_settle(&w);
    struct dw_lease *l = at_work("/x.0");
    assert_true(dw_forward(&w, l, "a", "/x.1", &(struct dw_answer){.bytes = "b", .n = 1}));
    dw_free(&w, l);
    assert_false(jobs_idle(w.jobs));
    dw_pass(&w, 10000);
    assert_int_equal(dw_running(&w), 0);
    assert_true(jobs_idle(w.jobs));
    assert_true(core_idle(w.core));
    assert_int_equal(dw_stats(&w).held, 0);
    struct jobs_order o = {.service = SLICE("a")};
    assert_int_equal(dw_submit(&w, &put, "/z", SLICE("b"), o), WEIR_EDRAINING);
    restart();
    dw_attach(&w, "a", 2);
    dw_settle(&w);
    reply("/x.1", 200);
    reply("/y", 200);
    is(first, STORE_DONE, 200);
    is(second, STORE_DONE, 200);
    quiet();
}

/* Leases that are on their way when the hub ends. */
static void test_closed_while_it_leases(void **state) {
    (void)state;
    for (unsigned i = 0; i < 600; i++) (void)submit("/w");
    (void)submit_at("/d", (struct jobs_order){.delay_ms = 500});
    dw_attach(&w, "a", 200);
    w.gate.held = true;
    dw_settle(&w);
    for (unsigned i = 0; i < 200; i++) dw_done(&w, &w.leases[i]);
    dw_pass(&w, 500);
    assert_true(w.gate.count > 200);
    w.gate.held = false;
    dw_stop(&w);
    assert_int_equal(dw_start(&w), 0);
    dw_settle(&w);
    dw_attach(&w, "a", 600);
    dw_pass(&w, 1000);
    unsigned n = dw_running(&w);
    assert_in_range(n, 401, 601); /* those whose answers came to be stored are not among them */
    for (unsigned i = 0; i < DW_LEASES; i++)
        if (w.leases[i].state) dw_done(&w, &w.leases[i]);
    dw_pass(&w, 1000);
    struct store_stats stats;
    store_stats(&w.gate.base, &stats);
    assert_int_equal(stats.jobs[STORE_DONE], 601);
    quiet();
}

/* No worker has come yet since the start: it waits for one. */
static void test_due_before_its_workers_are_back(void **state) {
    (void)state;
    unsigned worker = dw_attach(&w, "z", 1);
    struct store_id id = submit_at("/x", (struct jobs_order){.service = SLICE("z"), .delay_ms = 1000});
    struct store_id tried = submit_at("/y", (struct jobs_order){.service = SLICE("z")});
    reply("/y", 500);
    dw_gone(&w, worker);
    restart();
    dw_pass(&w, 100000);
    worker = dw_attach(&w, "z", 2);
    dw_settle(&w);
    assert_int_equal(at_work("/x")->attempt, 1);
    assert_int_equal(at_work("/y")->attempt, 2);
    reply("/x", 200);
    reply("/y", 200);
    is(id, STORE_DONE, 200);
    is(tried, STORE_DONE, 200);
    quiet();
}

/* A job that somebody else has by now. */
static void test_stale_fence(void **state) {
    (void)state;
    dw_attach(&w, "a", 1);
    struct store_id id = submit("/x");
    struct store_op op; /* another hub takes everything over */
    store_op_init(&op, STORE_JOB_LOAD, NULL);
    w.gate.held = true;
    store_submit(&w.gate.base, &op);
    gate_apply(&w.gate, 0);
    store_op_fini(&op);
    store_op_init(&op, STORE_JOB_LEASE, NULL);
    op.line = (struct store_line){.service = SLICE("a")};
    op.line.priority = 4;
    op.limit = 1;
    w.gate.ops[0] = (struct gate_op){.op = &op};
    gate_apply(&w.gate, 0);
    assert_int_equal(op.count, 1);
    store_op_fini(&op);
    w.gate.count = 0;
    w.gate.held = false;
    reply("/x", 200);
    assert_int_equal(dw_stats(&w).late, 1);
    is(id, STORE_LEASED, 0);
    quiet();
}

int main(int argc, char **argv) {
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        STORY(test_closed_in_every_phase),
        STORY(test_drained_in_every_phase),
        STORY(test_drain_over_in_every_phase),
        STORY(test_killed_in_every_phase),
        STORY(test_killed_and_forgotten_in_every_phase),
        STORY(test_drain_begins_nothing),
        STORY(test_closed_while_it_leases),
        STORY(test_due_before_its_workers_are_back),
        STORY(test_stale_fence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
