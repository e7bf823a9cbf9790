/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine of durable jobs (src/durable/jobs.h) with a real core, the model of a store, and workers acted
 * out by hand: what docs/protocol.md promises under "Durable jobs". What happens when the store or memory
 * fails is test_durable_jobs_faults.c.
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
#include <stdio.h>
#include <stdlib.h>

static struct dw w;
static long live;
static struct dw_put put;
static struct dw_call call;

static void open_world(void) {
    dw_open(&w);
    assert_int_equal(dw_start(&w), 0);
    dw_settle(&w);
}

static int setup(void **state) {
    (void)state;
    fault_reset();
    live = fault_live();
    dw_defaults(&w);
    open_world();
    return 0;
}

/* Nothing is left of it. */
static int teardown(void **state) {
    (void)state;
    w.gate.held = false;
    dw_close(&w);
    assert_int_equal(fault_live(), live);
    return 0;
}

/* With another configuration. */
static void again(void) {
    struct jobs_config config = w.config;
    struct core_service_config service = w.service_config;
    dw_close(&w);
    dw_defaults(&w);
    struct jobs_config fresh = w.config;
    w.config = config;
    w.config.now_ms = fresh.now_ms;
    w.service_config = service;
    open_world();
}

static void restart(void) {
    dw_stop(&w);
    assert_int_equal(dw_start(&w), 0);
    dw_settle(&w);
}

static bool keep_all(const struct store_op *op, void *ctx) {
    (void)op;
    (void)ctx;
    return true;
}

static void crash(void) {
    dw_crash(&w, keep_all, NULL);
    assert_int_equal(dw_start(&w), 0);
    dw_settle(&w);
}

static struct store_id submit_at(const char *target, struct jobs_order order) {
    assert_int_equal(dw_submit(&w, &put, target, SLICE("body"), order), 0);
    dw_settle(&w);
    assert_int_equal(put.err, 0);
    assert_int_equal(put.told, 1);
    return put.id;
}

static struct store_id submit(const char *target) {
    return submit_at(target, (struct jobs_order){.priority = 4});
}

static struct dw_lease *at_work(const char *target) {
    struct dw_lease *l = dw_find(&w, target);
    if (!l) fail_msg("%s is at no worker", target);
    return l;
}

static void reply(const char *target, unsigned status) {
    struct dw_lease *l = at_work(target);
    assert_true(dw_reply(&w, l, &(struct dw_answer){.status = status, .bytes = "answer", .n = 6}));
    dw_free(&w, l);
    dw_settle(&w);
}

static void is(struct store_id id, enum store_job_state state, unsigned status) {
    struct store_op op;
    assert_true(dw_get(&w, id, &op));
    if (op.ret_job.state != state)
        fail_msg("it is %s, not %s", store_job_state_text(op.ret_job.state), store_job_state_text(state));
    assert_int_equal(op.ret_job.status, status);
    dw_forget(&op);
}

static uint64_t run_at(struct store_id id) {
    struct store_op op;
    assert_true(dw_get(&w, id, &op));
    uint64_t at = op.ret_job.run_at;
    assert_int_equal(op.ret_job.state, STORE_QUEUED);
    dw_forget(&op);
    return at;
}

static void quiet(void) {
    assert_int_equal(dw_stats(&w).held, 0);
    assert_true(core_idle(w.core));
    for (unsigned i = 0; i < LINES_TABLE; i++) assert_true(list_empty(&w.jobs->lines[i]));
    assert_true(list_empty(&w.jobs->waiting));
}

/* ---- the plain life of a job ---- */

static void test_accepted_run_and_done(void **state) {
    (void)state;
    unsigned worker = dw_attach(&w, "a", 1);
    struct store_id id = submit("/x");
    struct dw_lease *l = at_work("/x");
    dw_read(&w, l);
    assert_int_equal(l->read, 4);
    assert_int_equal(l->sum, dw_sum(dw_sum(0, "", 0), "body", 4));
    assert_int_equal(l->attempt, 1);
    assert_int_equal(l->hop, 0);
    struct jobs_view view;
    assert_true(jobs_look(w.jobs, id, &view));
    assert_true(view.running);
    assert_int_equal(view.started_ms, w.ms);
    is(id, STORE_LEASED, 0);
    reply("/x", 200);
    struct store_op op;
    assert_true(dw_get(&w, id, &op));
    assert_int_equal(op.ret_job.state, STORE_DONE);
    assert_true(slice_eq(op.ret_job.answer.body.bytes, SLICE("answer")));
    assert_int_equal(op.ret_job.ended, w.ms);
    assert_int_equal(op.ret_job.expires, w.ms + w.config.ttl_ms);
    struct slice head = op.ret_job.answer.head;
    assert_non_null(memmem(head.p, head.n, "content-length: 6\r\n\r\n", 21));
    assert_memory_equal(head.p, "HTTP/1.1 200", 12);
    dw_forget(&op);
    assert_false(jobs_look(w.jobs, id, &view));
    assert_int_equal(dw_stats(&w).accepted, 1);
    assert_int_equal(dw_stats(&w).done, 1);
    quiet();
    dw_gone(&w, worker);
}

/* Nothing is told or run before it is stored. */
static void test_stored_first(void **state) {
    (void)state;
    dw_attach(&w, "a", 1);
    w.gate.held = true;
    assert_int_equal(dw_submit(&w, &put, "/x", SLICE("body"), (struct jobs_order){0}), 0);
    dw_settle(&w);
    assert_int_equal(put.err, DW_PENDING);
    assert_int_equal(dw_running(&w), 0);
    /* And with one operation: nobody waits before it. */
    assert_int_equal(w.gate.count, 1);
    gate_apply(&w.gate, 0);
    gate_tell(&w.gate, 0);
    dw_settle(&w);
    assert_int_equal(put.err, 0);
    assert_int_equal(dw_running(&w), 1);
    w.gate.held = false;
    reply("/x", 200);
    quiet();
}

static void test_states_of_statuses(void **state) {
    (void)state;
    static const struct {
        unsigned status;
        enum store_job_state end; /* STORE_QUEUED: another attempt */
    } rows[] = {{200, STORE_DONE},   {201, STORE_DONE},   {204, STORE_DONE},   {303, STORE_DONE},
                {399, STORE_DONE},   {400, STORE_FAILED}, {404, STORE_FAILED}, {408, STORE_QUEUED},
                {409, STORE_FAILED}, {425, STORE_QUEUED}, {429, STORE_QUEUED}, {499, STORE_FAILED},
                {500, STORE_QUEUED}, {503, STORE_QUEUED}, {507, STORE_QUEUED}, {599, STORE_QUEUED}};
    dw_attach(&w, "a", 1);
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct store_id id = submit("/x");
        struct dw_lease *l = at_work("/x");
        bool bodyless = rows[i].status == 204;
        assert_true(
            dw_reply(&w, l, &(struct dw_answer){.status = rows[i].status, .bytes = "x", .n = !bodyless}));
        dw_free(&w, l);
        dw_settle(&w);
        is(id, rows[i].end, rows[i].end == STORE_QUEUED ? 0 : rows[i].status);
        if (rows[i].end != STORE_QUEUED) continue;
        dw_cancel(&w, id, &call);
        dw_settle(&w);
        assert_int_equal(call.err, 0);
        is(id, STORE_CANCELLED, 0);
    }
    dw_pass(&w, 100000);
    quiet();
}

static void test_a_service_that_is_not_there(void **state) {
    (void)state;
    assert_int_equal(dw_submit(&w, &put, "/x", SLICE(""), (struct jobs_order){.service = SLICE("nowhere")}),
                     WEIR_ENOSERVICE);
    assert_int_equal(put.why.error, WEIR_ENOSERVICE);
    quiet();
}

static void test_progress(void **state) {
    (void)state;
    dw_attach(&w, "a", 1);
    struct store_id id = submit("/x");
    struct dw_lease *l = at_work("/x");
    struct requester *r = core_job_requester(w.core, dw_us(&w), l->worker, l->job);
    assert_non_null(r);
    struct jobs_view view;
    r->ops->progress(r, SLICE("20 %"));
    r->ops->progress(r, SLICE("40 %"));
    assert_true(jobs_look(w.jobs, id, &view));
    assert_true(slice_eq(view.progress, SLICE("40 %")));
    reply("/x", 500);
    dw_pass(&w, 2000); /* of another attempt nothing is known */
    assert_true(jobs_look(w.jobs, id, &view));
    assert_int_equal(view.progress.n, 0);
    reply("/x", 200);
    quiet();
}

/* ---- attempts ---- */

static void test_attempts_backoff_dead_and_revived(void **state) {
    (void)state;
    dw_attach(&w, "a", 1);
    struct store_id id = submit("/x");
    for (unsigned attempt = 1; attempt <= w.config.attempts; attempt++) {
        struct dw_lease *l = at_work("/x");
        assert_int_equal(l->attempt, attempt);
        reply("/x", 500);
        if (attempt == w.config.attempts) break;
        uint64_t most = w.config.backoff_ms << (attempt - 1), wait = run_at(id) - w.ms;
        assert_in_range(wait, most / 2, most);
        dw_pass(&w, wait - 1);
        assert_int_equal(dw_running(&w), 0);
        dw_pass(&w, 1);
    }
    is(id, STORE_DEAD, 500);
    struct store_op op;
    assert_true(dw_get(&w, id, &op));
    assert_true(slice_eq(op.ret_job.answer.body.bytes, SLICE("answer")));
    assert_int_equal(op.ret_job.expires, w.ms + w.config.dead_ttl_ms);
    dw_forget(&op);
    assert_int_equal(dw_stats(&w).tried_again, 2);
    assert_int_equal(dw_stats(&w).dead, 1);
    quiet();
    dw_revive(&w, id, &call);
    dw_settle(&w);
    assert_int_equal(call.err, 0);
    assert_int_equal(at_work("/x")->attempt, 1);
    dw_revive(&w, id, &call);
    dw_settle(&w);
    assert_int_equal(call.err, WEIR_ESTATE);
    reply("/x", 200);
    is(id, STORE_DONE, 200);
    dw_revive(&w, id, &call);
    dw_settle(&w);
    assert_int_equal(call.err, WEIR_ESTATE);
    dw_revive(&w, (struct store_id){1, 2}, &call);
    dw_settle(&w);
    assert_int_equal(call.err, WEIR_ENOTFOUND);
    quiet();
}

static void test_backoff_has_a_bound(void **state) {
    (void)state;
    w.config.attempts = 70;
    w.config.backoff_ms = 1000;
    w.config.backoff_most_ms = 30000;
    again();
    dw_attach(&w, "a", 1);
    struct store_id id = submit("/x");
    uint64_t least = UINT64_MAX, most = 0;
    for (unsigned attempt = 1; attempt < 70; attempt++) {
        reply("/x", 503);
        uint64_t wait = run_at(id) - w.ms;
        assert_in_range(wait, 500, 30000);
        if (attempt > 6) assert_in_range(wait, 15000, 30000);
        if (attempt > 6 && wait < least) least = wait;
        if (wait > most) most = wait;
        dw_pass(&w, wait);
    }
    assert_in_range(least, 15000, 20000); /* they differ */
    assert_in_range(most, 25000, 30000);
    reply("/x", 503);
    is(id, STORE_DEAD, 503);
}

static void test_retry_after(void **state) {
    (void)state;
    dw_attach(&w, "a", 1);
    struct store_id id = submit("/x");
    struct dw_lease *l = at_work("/x");
    assert_true(dw_reply(&w, l, &(struct dw_answer){.status = 429, .name = "retry-after", .value = "90"}));
    dw_free(&w, l);
    dw_settle(&w);
    assert_int_equal(run_at(id), w.ms + 90000);
    dw_pass(&w, 90000);
    l = at_work("/x");
    /* An hour of the year, and nonsense: the backoff counts. */
    assert_true(dw_reply(&w, l, &(struct dw_answer){.status = 503, .name = "retry-after", .value = "soon"}));
    dw_free(&w, l);
    dw_settle(&w);
    assert_in_range(run_at(id), w.ms + 1000, w.ms + 2000);
    dw_pass(&w, 2000);
    reply("/x", 200);
    quiet();
}

static void test_its_worker_goes_away(void **state) {
    (void)state;
    unsigned worker = dw_attach(&w, "a", 1);
    struct store_id id = submit("/x");
    dw_gone(&w, worker); /* running */
    dw_settle(&w);
    assert_in_range(run_at(id), w.ms + 500, w.ms + 1000);
    worker = dw_attach(&w, "a", 1);
    dw_pass(&w, 1000);
    struct dw_lease *l = at_work("/x");
    assert_int_equal(l->attempt, 2);
    /* In the midst of its answer. */
    assert_true(dw_reply(&w, l, &(struct dw_answer){.status = 200, .bytes = "hal", .n = 3, .open = true}));
    dw_settle(&w);
    is(id, STORE_LEASED, 0);
    dw_gone(&w, worker);
    dw_settle(&w);
    assert_in_range(run_at(id), w.ms + 1000, w.ms + 2000);
    worker = dw_attach(&w, "a", 1);
    dw_pass(&w, 2000);
    l = at_work("/x");
    assert_int_equal(l->attempt, 3);
    /* In the midst of what it forwards: the last attempt. */
    assert_true(dw_forward(&w, l, "b", "/x", &(struct dw_answer){.bytes = "hal", .n = 3, .open = true}));
    dw_settle(&w);
    dw_gone(&w, worker);
    dw_settle(&w);
    is(id, STORE_DEAD, 502);
    quiet();
}

/* Between the answer's head and its end, when there is no body to tell: what it has said counts. */
static void test_its_worker_goes_away_after_a_bodyless_answer(void **state) {
    (void)state;
    unsigned worker = dw_attach(&w, "a", 1);
    struct store_id id = submit("/x");
    struct dw_lease *l = at_work("/x");
    struct requester *r = core_job_answer(w.core, dw_us(&w), l->worker, l->job);
    struct http_head head = {.status = 204};
    r->ops->reply(r, &head, NULL);
    l->state = LEASE_REPLYING;
    w.gate.held = true;
    dw_gone(&w, worker);
    dw_settle(&w);
    w.gate.held = false;
    dw_settle(&w);
    is(id, STORE_DONE, 204);
    quiet();
    /* The same, the other way round: the store has it before the worker has ended. */
    worker = dw_attach(&w, "a", 1);
    id = submit("/y");
    l = at_work("/y");
    r = core_job_answer(w.core, dw_us(&w), l->worker, l->job);
    r->ops->reply(r, &head, NULL);
    l->state = LEASE_REPLYING;
    dw_settle(&w);
    is(id, STORE_DONE, 204);
    dw_gone(&w, worker);
    dw_settle(&w);
    quiet();
}

static void test_handed_back_does_not_count(void **state) {
    (void)state;
    dw_attach(&w, "a", 1);
    struct store_id id = submit("/x");
    for (unsigned i = 0; i < 10; i++) {
        struct dw_lease *l = at_work("/x");
        assert_int_equal(l->attempt, 1);
        dw_hand_back(&w, l);
        dw_settle(&w);
        is(id, STORE_LEASED, 0);
        assert_int_equal(dw_running(&w), 0);
        dw_pass(&w, 200);
    }
    reply("/x", 200);
    quiet();
}

static void test_attempt_timeout(void **state) {
    (void)state;
    w.config.timeout_ms = 5000;
    again();
    dw_attach(&w, "a", 1);
    struct store_id id = submit("/x");
    dw_pass(&w, 4999);
    assert_false(at_work("/x")->cancelled);
    dw_pass(&w, 1);
    assert_null(dw_find(&w, "/x"));
    assert_int_equal(w.leases[0].state, LEASE_LEAVING); /* the worker is told to stop */
    assert_true(w.leases[0].cancelled);
    assert_in_range(run_at(id), w.ms + 500, w.ms + 1000);
    dw_free(&w, &w.leases[0]);
    dw_pass(&w, 1000);
    /* While its answer comes. */
    struct dw_lease *l = at_work("/x");
    assert_int_equal(l->attempt, 2);
    assert_true(dw_reply(&w, l, &(struct dw_answer){.status = 200, .bytes = "hal", .n = 3, .open = true}));
    dw_pass(&w, 5000);
    assert_int_equal(l->state, LEASE_LEAVING);
    assert_in_range(run_at(id), w.ms + 1000, w.ms + 2000);
    dw_free(&w, l);
    dw_pass(&w, 2000);
    /* While what it forwards comes: the last attempt. */
    l = at_work("/x");
    assert_true(dw_forward(&w, l, "b", "/x", &(struct dw_answer){.bytes = "hal", .n = 3, .open = true}));
    dw_pass(&w, 5000);
    is(id, STORE_DEAD, 504);
    quiet();
    dw_free(&w, l);
}

/* It waits in the queue as long as it takes: the time of an attempt counts only at a worker. */
static void test_waiting_is_no_attempt(void **state) {
    (void)state;
    w.config.timeout_ms = 5000;
    again();
    struct store_id id = submit("/x");
    dw_pass(&w, 3600000);
    is(id, STORE_LEASED, 0);
    unsigned worker = dw_attach(&w, "a", 1);
    dw_settle(&w);
    assert_int_equal(at_work("/x")->attempt, 1);
    dw_hand_back(&w, at_work("/x"));
    core_worker_drain(w.core, dw_us(&w), w.workers[worker]);
    dw_pass(&w, 3600000);
    is(id, STORE_LEASED, 0);
    struct jobs_view view;
    assert_true(jobs_look(w.jobs, id, &view));
    assert_false(view.running);
    dw_attach(&w, "a", 1);
    dw_settle(&w);
    assert_int_equal(at_work("/x")->attempt, 1);
    reply("/x", 200);
    quiet();
}

/* ---- time ---- */

static void test_deadline(void **state) {
    (void)state;
    struct store_id queued = submit_at("/q", (struct jobs_order){.timeout_ms = 3000});
    dw_pass(&w, 2999);
    is(queued, STORE_LEASED, 0);
    dw_pass(&w, 1);
    is(queued, STORE_FAILED, 504);
    dw_attach(&w, "a", 1);
    struct store_id running = submit_at("/r", (struct jobs_order){.timeout_ms = 3000});
    dw_pass(&w, 3000);
    is(running, STORE_FAILED, 504);
    assert_true(w.leases[0].cancelled);
    dw_free(&w, &w.leases[0]);
    /* All attempts included. */
    struct store_id tried = submit_at("/t", (struct jobs_order){.timeout_ms = 1200});
    reply("/t", 500);
    dw_pass(&w, 1199);
    if (dw_find(&w, "/t")) reply("/t", 500);
    dw_pass(&w, 1);
    is(tried, STORE_FAILED, 504);
    quiet();
}

/* Its deadline passes while it waits for another attempt, or for its time: it is not kept until then. */
static void test_deadline_before_the_next_attempt(void **state) {
    (void)state;
    dw_attach(&w, "a", 1);
    struct store_id id = submit_at("/x", (struct jobs_order){.timeout_ms = 10000});
    struct dw_lease *l = at_work("/x");
    assert_true(dw_reply(&w, l, &(struct dw_answer){.status = 503, .name = "retry-after", .value = "3600"}));
    dw_free(&w, l);
    dw_settle(&w);
    dw_pass(&w, 10000);
    is(id, STORE_FAILED, 504);
    quiet();
}

static void test_delay(void **state) {
    (void)state;
    dw_attach(&w, "a", 3);
    uint64_t start = w.ms;
    struct store_id late = submit_at("/late", (struct jobs_order){.delay_ms = 60000});
    (void)submit_at("/early", (struct jobs_order){.delay_ms = 1000});
    assert_int_equal(run_at(late), start + 60000);
    assert_int_equal(dw_stats(&w).held, 0);
    dw_pass(&w, 999);
    assert_int_equal(dw_running(&w), 0);
    dw_pass(&w, 1);
    reply("/early", 200);
    restart();
    dw_attach(&w, "a", 3);
    dw_pass(&w, 58999);
    assert_int_equal(dw_running(&w), 0);
    dw_pass(&w, 1);
    assert_int_equal(at_work("/late")->attempt, 1);
    reply("/late", 200);
    quiet();
}

/* Many that are due at once, more than are leased in one go. */
static void test_many_due(void **state) {
    (void)state;
    enum { MANY = 700 };
    for (unsigned i = 0; i < MANY; i++) {
        char target[16];
        snprintf(target, sizeof target, "/%u", i);
        (void)submit_at(target, (struct jobs_order){.delay_ms = 5000});
    }
    dw_attach(&w, "a", MANY);
    dw_pass(&w, 4999);
    assert_int_equal(dw_running(&w), 0);
    dw_pass(&w, 1);
    assert_int_equal(dw_running(&w), MANY);
    for (unsigned i = 0; i < DW_LEASES; i++)
        if (w.leases[i].state) dw_done(&w, &w.leases[i]);
    dw_settle(&w);
    quiet();
}

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

/* ---- cancelled ---- */

static void cancel_now(struct store_id id, int expected) {
    dw_cancel(&w, id, &call);
    assert_int_equal(call.err, DW_PENDING);
    dw_settle(&w);
    assert_int_equal(call.err, expected);
}

static void test_cancelled_in_every_phase(void **state) {
    (void)state;
    /* Queued in the core. */
    struct store_id id = submit("/x");
    cancel_now(id, 0);
    is(id, STORE_CANCELLED, 0);
    quiet();
    cancel_now(id, WEIR_ESTATE);
    cancel_now((struct store_id){7, 7}, WEIR_ENOTFOUND);
    /* Waits for its time. */
    id = submit_at("/x", (struct jobs_order){.delay_ms = 5000});
    cancel_now(id, 0);
    /* Running. */
    dw_attach(&w, "a", 1);
    dw_pass(&w, 5000);
    assert_int_equal(dw_running(&w), 0);
    id = submit("/x");
    struct dw_lease *l = at_work("/x");
    cancel_now(id, 0);
    assert_true(l->cancelled);
    assert_false(dw_reply(&w, l, &(struct dw_answer){.status = 200}));
    dw_free(&w, l);
    quiet();
    /* Answering. */
    id = submit("/x");
    l = at_work("/x");
    assert_true(dw_reply(&w, l, &(struct dw_answer){.status = 200, .bytes = "hal", .n = 3, .open = true}));
    dw_settle(&w);
    cancel_now(id, 0);
    assert_true(l->cancelled);
    dw_free(&w, l);
    quiet();
    /* Handing its next hop over. */
    id = submit("/x");
    l = at_work("/x");
    assert_true(dw_forward(&w, l, "b", "/y", &(struct dw_answer){.bytes = "hal", .n = 3, .open = true}));
    dw_settle(&w);
    cancel_now(id, 0);
    is(id, STORE_CANCELLED, 0);
    dw_more(&w, l, "f", 1);
    dw_end(&w, l);
    dw_free(&w, l);
    dw_settle(&w);
    quiet();
    /* Waits for another attempt. */
    id = submit("/x");
    reply("/x", 500);
    cancel_now(id, 0);
    dw_pass(&w, 100000);
    assert_int_equal(dw_running(&w), 0);
    quiet();
    assert_int_equal(dw_stats(&w).cancelled, 6);
}

/* Its end, or its next hop, is on its way to the store. What comes first counts. */
static void test_cancelled_while_it_is_stored(void **state) {
    (void)state;
    dw_attach(&w, "a", 2);
    for (unsigned hop = 0; hop < 3; hop++) {
        struct store_id id = submit("/x");
        w.gate.held = true;
        struct dw_lease *l = at_work("/x");
        if (hop == 0) (void)dw_reply(&w, l, &(struct dw_answer){.status = 200, .bytes = "ok", .n = 2});
        if (hop == 1) (void)dw_forward(&w, l, "a", "/y", &(struct dw_answer){.bytes = "ok", .n = 2});
        if (hop == 2) (void)dw_reply(&w, l, &(struct dw_answer){.status = 500});
        dw_free(&w, l);
        dw_settle(&w);
        dw_cancel(&w, id, &call);
        dw_settle(&w);
        w.gate.held = false;
        dw_settle(&w);
        assert_int_equal(call.err, hop == 0 ? WEIR_ESTATE : 0);
        is(id, hop == 0 ? STORE_DONE : STORE_CANCELLED, hop == 0 ? 200 : 0);
        dw_pass(&w, 10000);
        assert_int_equal(dw_running(&w), 0);
        quiet();
        /* The other way round. */
        id = submit("/x");
        w.gate.held = true;
        dw_cancel(&w, id, &call);
        l = at_work("/x");
        if (hop == 0) (void)dw_reply(&w, l, &(struct dw_answer){.status = 200, .bytes = "ok", .n = 2});
        if (hop == 1) (void)dw_forward(&w, l, "a", "/y", &(struct dw_answer){.bytes = "ok", .n = 2});
        if (hop == 2) (void)dw_reply(&w, l, &(struct dw_answer){.status = 500});
        dw_free(&w, l);
        dw_settle(&w);
        uint64_t late = dw_stats(&w).late;
        w.gate.held = false;
        dw_settle(&w);
        assert_int_equal(call.err, 0);
        is(id, STORE_CANCELLED, 0);
        assert_int_equal(dw_stats(&w).late, late + 1);
        dw_pass(&w, 10000);
        quiet();
    }
}

/* Cancelled when its put has not completed (its id is not told yet, but who lists may know it), when it waits
   in the store behind others, and as it is being leased. */
static void test_cancelled_on_its_way_in(void **state) {
    (void)state;
    dw_attach(&w, "a", 1);
    w.gate.held = true;
    assert_int_equal(dw_submit(&w, &put, "/x", SLICE("b"), (struct jobs_order){0}), 0);
    struct store_id id = w.gate.ops[0].op->job.id;
    dw_cancel(&w, id, &call);
    gate_apply(&w.gate, 0);
    gate_apply(&w.gate, 1);
    gate_tell(&w.gate, 0);
    gate_tell(&w.gate, 0);
    w.gate.held = false;
    dw_settle(&w);
    assert_int_equal(put.err, 0);
    assert_int_equal(call.err, 0);
    assert_int_equal(dw_running(&w), 0);
    quiet();
    struct store_id ids[400];
    for (unsigned i = 0; i < 400; i++) ids[i] = submit("/w");
    cancel_now(ids[399], 0);
    for (unsigned runs = 0;; runs++) {
        struct dw_lease *l = NULL;
        for (unsigned i = 0; i < DW_LEASES && !l; i++)
            if (w.leases[i].state) l = &w.leases[i];
        if (!l) {
            assert_int_equal(runs, 399);
            break;
        }
        dw_done(&w, l);
        dw_settle(&w);
    }
    quiet();
}

static void test_cancelled_while_scattered(void **state) {
    (void)state;
    dw_attach(&w, "ab", 4);
    struct store_id id = submit("/x.0");
    struct dw_lease *l = at_work("/x.0");
    assert_true(dw_scatter(&w, l, "b", "", 3, &(struct dw_answer){0}));
    dw_free(&w, l);
    dw_settle(&w);
    reply("/x.1/p1", 200);
    cancel_now(id, 0);
    assert_int_equal(dw_running(&w), 0);
    assert_int_equal(w.gathering, 0);
    quiet();
    /* While what is stored of it is read. */
    for (unsigned i = 0; i < DW_LEASES; i++)
        if (w.leases[i].state) dw_free(&w, &w.leases[i]);
    id = submit("/x.0");
    l = at_work("/x.0");
    w.gate.held = true;
    assert_true(dw_scatter(&w, l, "b", "", 3, &(struct dw_answer){0}));
    dw_free(&w, l);
    while (w.gate.count > 0 && w.gate.ops[0].op->kind != STORE_PART_LIST) {
        gate_apply(&w.gate, 0);
        gate_tell(&w.gate, 0);
        dw_settle(&w);
    }
    assert_int_equal(w.gate.count, 1);
    dw_cancel(&w, id, &call);
    gate_apply(&w.gate, 1);
    gate_tell(&w.gate, 1);
    w.gate.held = false;
    dw_settle(&w);
    assert_int_equal(call.err, 0);
    assert_int_equal(dw_running(&w), 0);
    quiet();
}

/* ---- who waits ---- */

struct watch {
    struct jobs_watch w;
    unsigned told;
    bool ended;
};
static void on_told(struct jobs_watch *watch, bool ended) {
    struct watch *me = CONTAINER_OF(watch, struct watch, w);
    me->told++;
    me->ended = ended;
}
static void watch(struct watch *me, struct store_id id, uint64_t ms) {
    *me = (struct watch){.w = {.id = id, .told = on_told}};
    jobs_watch_init(&me->w);
    jobs_watch(w.jobs, &me->w, w.ms + ms);
}

static void test_who_waits_is_told(void **state) {
    (void)state;
    struct watch one, two, three;
    struct store_id id = submit("/x");
    watch(&one, id, 1000);
    watch(&two, id, 60000);
    watch(&three, id, 60000);
    dw_pass(&w, 999);
    assert_int_equal(one.told, 0);
    dw_pass(&w, 1);
    assert_int_equal(one.told, 1);
    assert_false(one.ended);
    jobs_unwatch(w.jobs, &three.w);
    dw_attach(&w, "a", 1);
    dw_settle(&w);
    w.gate.held = true;
    reply("/x", 200);
    assert_int_equal(two.told, 0); /* the store does not have it */
    w.gate.held = false;
    dw_settle(&w);
    assert_int_equal(two.told, 1);
    assert_true(two.ended);
    assert_int_equal(three.told, 0);
    id = submit("/x");
    watch(&one, id, 60000);
    cancel_now(id, 0);
    assert_true(one.ended);
    id = submit("/y");
    watch(&one, id, 60000);
    jobs_drain(w.jobs);
    assert_int_equal(one.told, 1);
    assert_false(one.ended);
}

/* ---- idempotency ---- */

static void test_idempotency(void **state) {
    (void)state;
    struct jobs_order keyed = {.key = SLICE("k"), .service = SLICE("a")};
    struct dw_put first, second;
    w.gate.held = true;
    assert_int_equal(dw_submit(&w, &first, "/x", SLICE("body"), keyed), 0);
    assert_int_equal(dw_submit(&w, &second, "/x", SLICE("body"), keyed), 0);
    w.gate.held = false;
    dw_settle(&w);
    assert_int_equal(first.err, 0);
    assert_false(first.repeated);
    assert_int_equal(second.err, 0);
    assert_true(second.repeated);
    assert_int_equal(store_id_compare(first.id, second.id), 0);
    assert_int_equal(dw_submit(&w, &second, "/x", SLICE("other"), keyed), 0);
    dw_settle(&w);
    assert_int_equal(second.err, WEIR_ECONFLICT);
    assert_int_equal(dw_submit(&w, &second, "/y", SLICE("body"), keyed), 0);
    dw_settle(&w);
    assert_int_equal(second.err, WEIR_ECONFLICT);
    keyed.tenant = SLICE("t");
    assert_int_equal(dw_submit(&w, &second, "/x", SLICE("body"), keyed), 0);
    dw_settle(&w);
    assert_false(second.repeated);
    keyed.tenant = (struct slice){0};
    dw_attach(&w, "a", 2);
    dw_settle(&w);
    assert_int_equal(dw_running(&w), 2);
    for (unsigned i = 0; i < 2; i++) dw_done(&w, &w.leases[i]);
    dw_settle(&w);
    /* Also when it has ended, and after a restart. */
    restart();
    dw_attach(&w, "a", 2);
    assert_int_equal(dw_submit(&w, &second, "/x", SLICE("body"), keyed), 0);
    dw_settle(&w);
    assert_true(second.repeated);
    assert_int_equal(store_id_compare(first.id, second.id), 0);
    assert_int_equal(dw_running(&w), 0);
    dw_pass(&w, w.config.key_ttl_ms + 1);
    assert_int_equal(dw_submit(&w, &second, "/x", SLICE("body"), keyed), 0);
    dw_settle(&w);
    assert_false(second.repeated);
    reply("/x", 200);
    assert_int_equal(dw_stats(&w).repeated, 1);
    quiet();
}

static void blobs_are(unsigned n) {
    struct store_stats stats;
    store_stats(&w.gate.base, &stats);
    assert_int_equal(stats.blobs, n);
}

static void test_idempotency_of_large_bodies(void **state) {
    (void)state;
    struct buffer bytes;
    buffer_init(&bytes);
    dw_fill(&bytes, 1, 200000);
    struct jobs_order keyed = {.key = SLICE("k"), .service = SLICE("a")};
    assert_int_equal(dw_submit(&w, &put, "/x", buffer_slice(&bytes), keyed), 0);
    dw_settle(&w);
    assert_int_equal(put.err, 0);
    assert_int_equal(dw_submit(&w, &put, "/x", buffer_slice(&bytes), keyed), 0);
    dw_settle(&w);
    assert_true(put.repeated);
    bytes.data[bytes.end - 1] ^= 1;
    assert_int_equal(dw_submit(&w, &put, "/x", buffer_slice(&bytes), keyed), 0);
    dw_settle(&w);
    assert_int_equal(put.err, WEIR_ECONFLICT);
    blobs_are(1);
    dw_attach(&w, "a", 1);
    dw_settle(&w);
    reply("/x", 200);
    blobs_are(0);
    buffer_fini(&bytes);
    quiet();
}

/* ---- large bodies ---- */

static void test_large_bodies(void **state) {
    (void)state;
    static const size_t sizes[] = {STORE_INLINE - 1, STORE_INLINE, STORE_INLINE + 1, 256 * 1024, 1000000};
    dw_attach(&w, "ab", 1);
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct buffer in, next, out;
        buffer_init(&in);
        buffer_init(&next);
        buffer_init(&out);
        dw_fill(&in, i, sizes[i]);
        dw_fill(&next, i + 100, sizes[i]);
        dw_fill(&out, i + 200, sizes[i]);
        assert_int_equal(dw_submit(&w, &put, "/x.0", buffer_slice(&in), (struct jobs_order){0}), 0);
        dw_settle(&w);
        assert_int_equal(put.err, 0);
        struct dw_lease *l = at_work("/x.0");
        while (l->read < sizes[i]) {
            uint64_t before = l->read;
            dw_read(&w, l);
            dw_settle(&w);
            assert_true(l->read > before);
        }
        assert_int_equal(l->sum, dw_sum(dw_sum(0, "", 0), buffer_slice(&in).p, sizes[i]));
        assert_true(body_finished(l->message->body));
        struct dw_answer a = {.bytes = buffer_slice(&next).p, .n = sizes[i]};
        assert_true(dw_forward(&w, l, "b", "/x.1", &a));
        dw_free(&w, l);
        dw_settle(&w);
        l = at_work("/x.1");
        while (l->read < sizes[i]) {
            dw_read(&w, l);
            dw_settle(&w);
        }
        assert_int_equal(l->sum, dw_sum(dw_sum(0, "", 0), buffer_slice(&next).p, sizes[i]));
        /* The answer comes in pieces. */
        struct slice all = buffer_slice(&out);
        assert_true(dw_reply(&w, l, &(struct dw_answer){.bytes = all.p, .n = 10, .open = true}));
        for (size_t at = 10, n; at < all.n; at += n) {
            n = all.n - at < 50000 ? all.n - at : 50000;
            dw_more(&w, l, all.p + at, n);
            if (at % 3 == 0) dw_settle(&w);
        }
        dw_end(&w, l);
        dw_free(&w, l);
        dw_settle(&w);
        struct store_op op;
        assert_true(dw_get(&w, put.id, &op));
        assert_int_equal(op.ret_job.state, STORE_DONE);
        const struct store_body *body = &op.ret_job.answer.body;
        bool large = sizes[i] > STORE_INLINE;
        assert_int_equal(body->blob != 0, large);
        assert_int_equal(large ? body->size : body->bytes.n, sizes[i]);
        if (!large) assert_true(slice_eq(body->bytes, all));
        char length[64];
        snprintf(length, sizeof length, "content-length: %zu\r\n\r\n", sizes[i]);
        assert_non_null(memmem(op.ret_job.answer.head.p, op.ret_job.answer.head.n, length, strlen(length)));
        dw_forget(&op);
        blobs_are(large ? 1 : 0); /* the answer's */
        op.kind = STORE_JOB_PURGE;
        store_op_init(&op, STORE_JOB_PURGE, w.gate.ops[0].done);
        op.any_tenant = true;
        op.states = STORE_ENDED_MASK;
        op.now = w.ms;
        op.limit = 10;
        w.gate.held = true;
        store_submit(&w.gate.base, &op);
        gate_apply(&w.gate, 0);
        w.gate.count = 0;
        w.gate.held = false;
        store_op_fini(&op);
        blobs_are(0);
        buffer_fini(&in);
        buffer_fini(&next);
        buffer_fini(&out);
    }
    quiet();
}

static void test_too_large_and_cut(void **state) {
    (void)state;
    w.config.max_body = 100000;
    again();
    struct buffer bytes;
    buffer_init(&bytes);
    dw_fill(&bytes, 1, 100001);
    int err = dw_submit(&w, &put, "/x", buffer_slice(&bytes), (struct jobs_order){0});
    dw_settle(&w);
    assert_int_equal(err ? err : put.err, WEIR_ETOOBIG);
    /* The client goes away in the midst of its body. */
    for (unsigned drop = 0; drop < 2; drop++) {
        struct message *m = dw_message(&w, "/x", buffer_slice(&bytes).p, 90000, false);
        message_ref(m);
        assert_int_equal(dw_submit(&w, &put, "/x", (struct slice){0}, (struct jobs_order){.message = m}), 0);
        dw_settle(&w);
        assert_int_equal(put.err, DW_PENDING);
        if (drop) {
            jobs_ticket_drop(put.ticket);
            assert_true(body_abandoned(m->body));
        } else {
            body_abort(m->body, WEIR_ECUT);
        }
        dw_settle(&w);
        assert_int_equal(put.told, drop ? 0 : 1);
        if (!drop) assert_int_equal(put.err, WEIR_ECUT);
        message_unref(m);
        blobs_are(0);
    }
    assert_int_equal(dw_stats(&w).accepted, 0);
    buffer_fini(&bytes);
    quiet();
}

/* Who asked has left when the store has been asked: it is a job. */
static void test_ticket_dropped_late(void **state) {
    (void)state;
    w.gate.held = true;
    assert_int_equal(dw_submit(&w, &put, "/x", SLICE("b"), (struct jobs_order){0}), 0);
    jobs_ticket_drop(put.ticket);
    w.gate.held = false;
    dw_settle(&w);
    assert_int_equal(put.told, 0);
    dw_attach(&w, "a", 1);
    dw_settle(&w);
    reply("/x", 200);
    quiet();
}

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

#define STORY(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv) {
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        STORY(test_accepted_run_and_done),
        STORY(test_stored_first),
        STORY(test_states_of_statuses),
        STORY(test_a_service_that_is_not_there),
        STORY(test_progress),
        STORY(test_attempts_backoff_dead_and_revived),
        STORY(test_backoff_has_a_bound),
        STORY(test_retry_after),
        STORY(test_its_worker_goes_away),
        STORY(test_its_worker_goes_away_after_a_bodyless_answer),
        STORY(test_handed_back_does_not_count),
        STORY(test_attempt_timeout),
        STORY(test_waiting_is_no_attempt),
        STORY(test_deadline),
        STORY(test_deadline_before_the_next_attempt),
        STORY(test_delay),
        STORY(test_many_due),
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
        STORY(test_cancelled_in_every_phase),
        STORY(test_cancelled_while_it_is_stored),
        STORY(test_cancelled_on_its_way_in),
        STORY(test_cancelled_while_scattered),
        STORY(test_who_waits_is_told),
        STORY(test_idempotency),
        STORY(test_idempotency_of_large_bodies),
        STORY(test_large_bodies),
        STORY(test_too_large_and_cut),
        STORY(test_ticket_dropped_late),
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
