/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine of durable jobs (src/durable/jobs.h) with a real core, the model of a store, and workers acted
 * out by hand; what docs/protocol.md promises under "Durable jobs". Here: cancelled jobs, who waits for them,
 * keys, and bodies. What happens when the store or memory fails is test_durable_jobs_faults.c.
 */
#include "durable_story.h"
#include "weir/weir.h"
#include <stdio.h>

/* ---- cancelled ---- */

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

int main(int argc, char **argv) {
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        STORY(test_cancelled_in_every_phase),    STORY(test_cancelled_while_it_is_stored),
        STORY(test_cancelled_on_its_way_in),     STORY(test_cancelled_while_scattered),
        STORY(test_who_waits_is_told),           STORY(test_idempotency),
        STORY(test_idempotency_of_large_bodies), STORY(test_large_bodies),
        STORY(test_too_large_and_cut),           STORY(test_ticket_dropped_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
