/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine of durable jobs (src/durable/jobs.h) with a real core, the model of a store, and workers acted
 * out by hand; what docs/protocol.md promises under "Durable jobs". Here: the life of a job, its attempts,
 * and time. What happens when the store or memory fails is test_durable_jobs_faults.c.
 */
#include "durable_story.h"
#include "weir/weir.h"
#include <stdio.h>

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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
