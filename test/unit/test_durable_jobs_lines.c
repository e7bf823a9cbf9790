/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine of durable jobs (src/durable/jobs.h) with a real core, the model of a store, and workers acted
 * out by hand; what docs/protocol.md promises under "Durable jobs". Here: lines and their windows, stages,
 * scattered hops. What happens when the store or memory fails is test_durable_jobs_faults.c.
 */
#include "durable_story.h"
#include "weir/weir.h"
#include <stdio.h>

/* ---- lines ---- */

/* More than are held: they begin in the order in which they came, and only so many are held. */
static void test_order_and_window(void **state) {
    (void)state;
    enum { MANY = 1000 };
    char target[16];
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(target, sizeof target, "/%u", i);
        (void)submit(target);
    }
    assert_in_range(dw_stats(&w).held, 100, 300);
    dw_attach(&w, "a", 1);
    dw_settle(&w);
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(target, sizeof target, "/%u", i);
        dw_done(&w, at_work(target));
        dw_settle(&w);
        assert_in_range(dw_stats(&w).held, 0, 300);
    }
    quiet();
    assert_int_equal(dw_stats(&w).done, MANY);
}

/* The same when they come all at once, before the store has the first. */
static void test_order_and_window_of_a_burst(void **state) {
    (void)state;
    enum { MANY = 1000 };
    static struct dw_put puts[MANY];
    char target[16];
    w.gate.held = true;
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(target, sizeof target, "/%u", i);
        assert_int_equal(dw_submit(&w, &puts[i], target, SLICE(""), (struct jobs_order){0}), 0);
    }
    dw_settle(&w);
    w.gate.held = false;
    dw_settle(&w);
    assert_in_range(dw_stats(&w).held, 100, 300);
    dw_attach(&w, "a", 1);
    dw_settle(&w);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(puts[i].err, 0);
        snprintf(target, sizeof target, "/%u", i);
        dw_done(&w, at_work(target));
        dw_settle(&w);
    }
    quiet();
}

/* What comes in while others of its line wait in the store waits behind them, though the window has room by
 * then. */
static void test_in_order_behind_others(void **state) {
    (void)state;
    char target[16];
    for (unsigned i = 0; i < 400; i++) {
        snprintf(target, sizeof target, "/%u", i);
        (void)submit(target);
    }
    dw_attach(&w, "a", 1);
    w.gate.held = true; /* no more are leased, and those that run do not end */
    for (unsigned i = 0; i < 20; i++) {
        dw_settle(&w);
        snprintf(target, sizeof target, "/%u", i);
        dw_done(&w, at_work(target));
    }
    dw_settle(&w);
    assert_int_equal(dw_submit(&w, &put, "/last", SLICE(""), (struct jobs_order){.priority = 4}), 0);
    w.gate.held = false;
    for (unsigned i = 20; i < 400; i++) {
        dw_settle(&w);
        snprintf(target, sizeof target, "/%u", i);
        dw_done(&w, at_work(target));
    }
    dw_settle(&w);
    reply("/last", 200);
    quiet();
}

/* What is running does not keep others of its line out of free slots. */
static void test_as_many_run_as_there_are_slots(void **state) {
    (void)state;
    enum { MANY = 800 };
    char target[16];
    dw_attach(&w, "a", MANY);
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(target, sizeof target, "/%u", i);
        (void)submit(target);
    }
    assert_int_equal(dw_running(&w), MANY);
    for (unsigned i = 0; i < DW_LEASES; i++)
        if (w.leases[i].state) dw_done(&w, &w.leases[i]);
    dw_settle(&w);
    quiet();
}

static void test_lines_of_services_tenants_and_priorities(void **state) {
    (void)state;
    static const char *const services[] = {"a", "b", "c"}, *const tenants[] = {"", "t", "u"};
    char target[32];
    for (unsigned i = 0; i < 900; i++) {
        snprintf(target, sizeof target, "/%s%s%u", services[i % 3], tenants[i / 3 % 3], i / 9 % 3);
        (void)submit_at(target, (struct jobs_order){.service = slice_of(services[i % 3]),
                                                    .tenant = slice_of(tenants[i / 3 % 3]),
                                                    .priority = i / 9 % 3});
    }
    dw_attach(&w, "abc", 4);
    dw_settle(&w);
    unsigned runs = 0;
    for (bool any = true; any;) {
        any = false;
        for (unsigned i = 0; i < DW_LEASES; i++)
            if (w.leases[i].state) {
                dw_done(&w, &w.leases[i]);
                any = true;
                runs++;
            }
        dw_settle(&w);
    }
    assert_int_equal(runs, 900);
    assert_int_equal(dw_stats(&w).done, 900);
    quiet();
}

/* A full queue of one service (by others' requests, too) does not hold up another. */
static void test_a_full_queue_holds_up_nobody_else(void **state) {
    (void)state;
    w.service_config.max_queued = 2;
    again();
    struct store_id ids[5];
    char target[8];
    for (unsigned i = 0; i < 5; i++) {
        snprintf(target, sizeof target, "/a%u", i);
        ids[i] = submit(target);
    }
    dw_attach(&w, "b", 1);
    (void)submit_at("/b", (struct jobs_order){.service = SLICE("b")});
    dw_pass(&w, 1000);
    reply("/b", 200);
    dw_pass(&w, 3600000);
    dw_attach(&w, "a", 1);
    for (unsigned i = 0; i < 5; i++) {
        dw_pass(&w, 1000);
        snprintf(target, sizeof target, "/a%u", i);
        assert_int_equal(at_work(target)->attempt, 1);
        reply(target, 200);
        is(ids[i], STORE_DONE, 200);
    }
    quiet();
}

/* One that had its place in the queue, and lost it to another tenant's. */
static void test_pushed_out_of_a_full_queue(void **state) {
    (void)state;
    w.service_config.max_queued = 4;
    again();
    for (unsigned i = 0; i < 4; i++) (void)submit_at("/t", (struct jobs_order){.tenant = SLICE("t")});
    (void)submit_at("/u", (struct jobs_order){.tenant = SLICE("u")});
    dw_attach(&w, "a", 10);
    dw_pass(&w, 1000);
    assert_int_equal(dw_running(&w), 5);
    for (unsigned i = 0; i < DW_LEASES; i++)
        if (w.leases[i].state) {
            assert_int_equal(w.leases[i].attempt, 1);
            dw_done(&w, &w.leases[i]);
        }
    dw_settle(&w);
    quiet();
}

/* ---- stages ---- */

static void test_forwarded(void **state) {
    (void)state;
    dw_attach(&w, "abc", 1);
    struct store_id id = submit("/x.0");
    struct dw_lease *l = at_work("/x.0");
    assert_true(dw_forward(&w, l, "b", "/x.1", &(struct dw_answer){.bytes = "next", .n = 4}));
    dw_free(&w, l);
    w.gate.held = true;
    dw_settle(&w);
    assert_int_equal(dw_running(&w), 0); /* not before it is stored */
    w.gate.held = false;
    dw_settle(&w);
    l = at_work("/x.1");
    dw_read(&w, l);
    assert_int_equal(l->sum, dw_sum(dw_sum(0, "", 0), "next", 4));
    assert_int_equal(l->hop, 1);
    assert_int_equal(l->attempt, 1);
    struct store_op op;
    assert_true(dw_get(&w, id, &op));
    assert_true(slice_eq(op.ret_job.service, SLICE("b")));
    assert_int_equal(op.ret_job.hop, 1);
    dw_forget(&op);
    assert_string_equal(l->service, "b");
    /* A crash: it goes on from there. */
    crash();
    dw_attach(&w, "abc", 1);
    dw_settle(&w);
    assert_null(dw_find(&w, "/x.0"));
    l = at_work("/x.1");
    assert_int_equal(l->attempt, 1);
    /* Again. */
    assert_true(dw_forward(&w, l, "b", "/x.2", &(struct dw_answer){.bytes = "more", .n = 4}));
    dw_free(&w, l);
    dw_settle(&w);
    /* Attempts are each hop's own. */
    reply("/x.2", 500);
    dw_pass(&w, 2000);
    assert_int_equal(at_work("/x.2")->attempt, 2);
    assert_true(dw_forward(&w, at_work("/x.2"), "c", "/x.3", &(struct dw_answer){0}));
    dw_settle(&w);
    for (unsigned i = 0; i < DW_LEASES; i++)
        if (w.leases[i].state == LEASE_LEAVING) dw_free(&w, &w.leases[i]);
    dw_settle(&w);
    assert_int_equal(at_work("/x.3")->attempt, 1);
    assert_int_equal(at_work("/x.3")->hop, 3);
    reply("/x.3", 201);
    is(id, STORE_DONE, 201);
    assert_int_equal(dw_stats(&w).steps, 2); /* since the crash */
    quiet();
}

static void test_hop_limit(void **state) {
    (void)state;
    dw_attach(&w, "a", 1);
    struct store_id id = submit("/x.0");
    char target[64] = "/x.0", next[64];
    for (unsigned hop = 0; hop <= w.config.max_hops; hop++) {
        struct dw_lease *l = at_work(target);
        assert_int_equal(l->hop, hop);
        dw_next_target(target, next);
        assert_true(dw_forward(&w, l, "a", next, &(struct dw_answer){.bytes = "x", .n = 1}));
        dw_free(&w, l);
        dw_settle(&w);
        memcpy(target, next, sizeof next);
    }
    is(id, STORE_FAILED, 508);
    quiet();
}

static void test_forwarded_to_nowhere(void **state) {
    (void)state;
    dw_attach(&w, "a", 1);
    struct store_id id = submit("/x.0");
    struct dw_lease *l = at_work("/x.0");
    assert_true(dw_forward(&w, l, "nowhere", "/x.1", &(struct dw_answer){.bytes = "x", .n = 1}));
    dw_free(&w, l);
    dw_pass(&w, 100000);
    is(id, STORE_DEAD, 502);
    quiet();
}

/* ---- scattered ---- */

static void answer_parts(const char *stem, unsigned from, unsigned to) {
    char target[64];
    for (unsigned i = from; i < to; i++) {
        snprintf(target, sizeof target, "%s/p%u", stem, i);
        reply(target, 200);
    }
}

static void test_scattered(void **state) {
    (void)state;
    dw_attach(&w, "a", 1);
    dw_attach(&w, "b", 4);
    struct store_id id = submit("/x.0");
    struct dw_lease *l = at_work("/x.0");
    assert_true(dw_scatter(&w, l, "b", "c", 5, &(struct dw_answer){0}));
    dw_free(&w, l);
    w.gate.held = true;
    dw_settle(&w);
    assert_int_equal(dw_running(&w), 0);
    w.gate.held = false;
    dw_settle(&w);
    assert_int_equal(dw_running(&w), 4);
    answer_parts("/x.1", 0, 3);
    /* Those that have answered are not run again after a crash. */
    crash();
    dw_attach(&w, "b", 4);
    dw_settle(&w);
    assert_int_equal(dw_running(&w), 2);
    answer_parts("/x.1", 3, 5);
    assert_int_equal(dw_running(&w), 0);
    dw_attach(&w, "c", 1);
    dw_settle(&w);
    l = at_work("/x.2");
    assert_int_equal(l->hop, 1);
    dw_read(&w, l);
    assert_int_equal(l->sum, dw_sum(dw_sum(0, "", 0), "gathered 5", 10));
    reply("/x.2", 200);
    is(id, STORE_DONE, 200);
    quiet();
    assert_int_equal(w.gathering, 0);
}

static void test_scattered_and_answered(void **state) {
    (void)state;
    dw_attach(&w, "ab", 3);
    struct store_id id = submit("/x.0");
    struct dw_lease *l = at_work("/x.0");
    assert_true(dw_scatter(&w, l, "b", "", 2, &(struct dw_answer){0}));
    dw_free(&w, l);
    dw_settle(&w);
    answer_parts("/x.1", 0, 2);
    is(id, STORE_DONE, 200);
    struct store_op op;
    assert_true(dw_get(&w, id, &op));
    assert_true(slice_eq(op.ret_job.answer.body.bytes, SLICE("gathered 2")));
    dw_forget(&op);
    /* Into none. */
    id = submit("/y.0");
    l = at_work("/y.0");
    assert_true(dw_scatter(&w, l, "b", "", 0, &(struct dw_answer){0}));
    dw_free(&w, l);
    dw_settle(&w);
    is(id, STORE_DONE, 200);
    quiet();
}

static void test_large_scatter_with_large_answers(void **state) {
    (void)state;
    struct buffer bytes;
    buffer_init(&bytes);
    dw_fill(&bytes, 3, 300000);
    dw_attach(&w, "ab", 3);
    struct store_id id = submit("/x.0");
    struct dw_lease *l = at_work("/x.0");
    struct dw_answer a = {.status = 200, .bytes = buffer_slice(&bytes).p, .n = 300000};
    assert_true(dw_scatter(&w, l, "b", "c", 2, &a));
    dw_free(&w, l);
    dw_settle(&w);
    l = at_work("/x.1/p0");
    assert_true(dw_reply(&w, l, &a));
    dw_free(&w, l);
    dw_settle(&w);
    crash();
    dw_attach(&w, "bc", 3);
    dw_settle(&w);
    assert_null(dw_find(&w, "/x.1/p0"));
    reply("/x.1/p1", 200);
    reply("/x.2", 200);
    is(id, STORE_DONE, 200);
    quiet();
    struct store_stats stats;
    store_stats(&w.gate.base, &stats);
    assert_int_equal(stats.blobs, 0);
    buffer_fini(&bytes);
}

/* Operations on blobs stand still. */
static void all_but_blobs(void) {
    for (size_t i = 0; i < w.gate.count;) {
        if (w.gate.ops[i].op->kind >= STORE_BLOB_NEW) {
            i++;
            continue;
        }
        gate_apply(&w.gate, i);
        gate_tell(&w.gate, i);
        dw_settle(&w);
        i = 0;
    }
}

/* A part's answer that is still on its way to the store when its hop is over is not one of the next
   hop's. */
static void test_a_late_part_is_not_of_the_next_hop(void **state) {
    (void)state;
    struct buffer bytes;
    buffer_init(&bytes);
    dw_fill(&bytes, 3, 900000);
    dw_attach(&w, "ab", 3);
    (void)submit("/x.0");
    struct dw_lease *l = at_work("/x.0");
    assert_true(dw_scatter(&w, l, "b", "a", 1, &(struct dw_answer){0}));
    dw_free(&w, l);
    dw_settle(&w);
    /* The blob of the part's answer makes slow progress; the jobs' own operations do not wait for it. */
    w.gate.held = true;
    l = at_work("/x.1/p0");
    assert_true(
        dw_reply(&w, l, &(struct dw_answer){.status = 200, .bytes = buffer_slice(&bytes).p, .n = 900000}));
    dw_free(&w, l);
    dw_settle(&w);
    all_but_blobs();
    l = at_work("/x.2"); /* what was gathered is scattered again */
    assert_true(dw_scatter(&w, l, "b", "", 1, &(struct dw_answer){0}));
    dw_free(&w, l);
    dw_settle(&w);
    all_but_blobs();
    assert_non_null(dw_find(&w, "/x.3/p0"));
    w.gate.held = false;
    dw_settle(&w);
    crash();
    dw_attach(&w, "ab", 3);
    dw_settle(&w);
    assert_non_null(dw_find(&w, "/x.3/p0"));
    reply("/x.3/p0", 200);
    quiet();
    struct store_stats stats;
    store_stats(&w.gate.base, &stats);
    assert_int_equal(stats.blobs, 0);
    buffer_fini(&bytes);
}

int main(int argc, char **argv) {
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        STORY(test_order_and_window),
        STORY(test_order_and_window_of_a_burst),
        STORY(test_in_order_behind_others),
        STORY(test_as_many_run_as_there_are_slots),
        STORY(test_lines_of_services_tenants_and_priorities),
        STORY(test_a_full_queue_holds_up_nobody_else),
        STORY(test_pushed_out_of_a_full_queue),
        STORY(test_forwarded),
        STORY(test_hop_limit),
        STORY(test_forwarded_to_nowhere),
        STORY(test_scattered),
        STORY(test_scattered_and_answered),
        STORY(test_large_scatter_with_large_answers),
        STORY(test_a_late_part_is_not_of_the_next_hop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
