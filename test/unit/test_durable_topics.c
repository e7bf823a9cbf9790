/* SPDX-License-Identifier: Apache-2.0 */
/* The engine of topics: calls, polls and leases. */
#include "lib/fault.h"
#include "topics_world.h"
#include "weir/weir.h"
#include <stdio.h>
#include <stdlib.h>

/* ---- stories ---- */

static void what_was_there_is_loaded(void **state) {
    (void)state;
    struct call c, d;
    struct reader r;
    assert_int_equal(subscribe("T", "a"), 0);
    assert_int_equal(publish("T", "m1"), 0);
    topics_free(&topics);
    assert_int_equal(open_engine(), 0);
    begin_subscribe(&c, "T", "a");
    begin_poll(&r, "a", 0);
    begin_unsubscribe(&d, "T", "b");
    assert_int_equal(c.err, PENDING);
    assert_int_equal(r.err, PENDING);
    settle();
    assert_int_equal(c.err, 0);
    assert_int_equal(d.err, WEIR_ENOTFOUND);
    assert_string_equal(r.text, "m1 ");
    assert_int_equal(kept(), 0);
}

static void loading_is_tried_again(void **state) {
    (void)state;
    struct call c;
    struct reader r;
    assert_int_equal(subscribe("T", "a"), 0);
    topics_free(&topics);
    assert_int_equal(open_engine(), 0);
    model_fail(quiet.model, WEIR_EUNAVAILABLE, 1);
    begin_subscribe(&c, "T", "a");
    begin_poll(&r, "a", 5000);
    settle();
    assert_int_equal(c.err, WEIR_EUNAVAILABLE);
    assert_int_equal(r.err, WEIR_EUNAVAILABLE);
    begin_poll(&r, "a", 0);
    settle();
    assert_int_equal(r.err, PENDING);
    assert_true(topics_next_time(topics) <= now + 1000);
    pass(1000);
    assert_int_equal(r.err, 0);
}

static void nothing_is_answered_before_the_store(void **state) {
    (void)state;
    struct call c;
    struct reader r;
    model_hold(quiet.model, true);
    begin_subscribe(&c, "T", "a");
    store_turn(store);
    assert_int_equal(c.err, PENDING);
    begin_poll(&r, "a", 0);
    assert_int_equal(r.err, WEIR_ENOTFOUND);
    model_hold(quiet.model, false);
    settle();
    assert_int_equal(c.err, 0);
    assert_int_equal(publish("T", "m1"), 0);
    begin_poll(&r, "a", 0);
    store_turn(store); /* it has been read */
    model_hold(quiet.model, true);
    store_turn(store);
    assert_int_equal(r.count, 0);
    model_hold(quiet.model, false);
    settle(); /* and acknowledged */
    assert_string_equal(r.text, "m1 ");
}

static void nobody_is_no_work(void **state) {
    (void)state;
    struct store_stats before, after;
    struct reader r;
    store_stats(store, &before);
    assert_int_equal(publish("T", "m"), 0);
    assert_int_equal(unsubscribe("T", "a"), WEIR_ENOTFOUND);
    begin_poll(&r, "a", 1000);
    assert_int_equal(r.err, WEIR_ENOTFOUND);
    store_stats(store, &after);
    assert_int_equal(before.operations, after.operations);
    assert_int_equal(publish_large("T", 100000), 0);
    store_stats(store, &after);
    assert_int_equal(after.blobs, 0);
    assert_int_equal(stats().published, 2);
}

static void order_is_the_stores(void **state) {
    (void)state;
    struct call sub, pub, un;
    begin_subscribe(&sub, "T", "a");
    begin_publish(&pub, "T", "m1", 2);
    settle();
    assert_string_equal(read_text("a"), "m1 ");
    begin_unsubscribe(&un, "T", "a");
    begin_subscribe(&sub, "T", "a"); /* not the one that goes */
    begin_publish(&pub, "T", "m2", 2);
    settle();
    assert_int_equal(un.err, 0);
    assert_int_equal(sub.err, 0);
    assert_string_equal(read_text("a"), "m2 ");
    assert_string_equal(read_text("a"), "");
    assert_int_equal(stats().subscriptions, 1);
}

static void polls_wait_and_share(void **state) {
    (void)state;
    struct reader r[5];
    assert_int_equal(subscribe("T", "a"), 0);
    for (int i = 0; i < 5; i++) begin_poll(&r[i], "a", 1000 + (uint64_t)i);
    settle();
    assert_int_equal(stats().waiting, 5);
    publish("T", "m1");
    publish("T", "m2");
    assert_string_equal(r[0].text, "m1 ");
    assert_string_equal(r[1].text, "m2 ");
    assert_int_equal(r[2].err, PENDING);
    pass(1002);
    assert_int_equal(r[2].err, 0);
    assert_int_equal(r[2].count, 0);
    assert_int_equal(r[3].err, PENDING);
    topics_reader_leave(&r[3].r);
    publish("T", "m3");
    assert_string_equal(r[4].text, "m3 ");
    assert_int_equal(r[3].count, 0);
    assert_int_equal(stats().waiting, 0);
    assert_int_equal(topics_next_time(topics), UINT64_MAX);
}

static void leaving_while_it_is_read(void **state) {
    (void)state;
    struct reader r;
    subscribe("T", "a");
    publish("T", "m1");
    begin_poll(&r, "a", 0);
    topics_reader_leave(&r.r);
    settle();
    assert_int_equal(kept(), 1);
    assert_string_equal(read_text("a"), "m1 ");
}

static void leaving_while_it_is_acknowledged(void **state) {
    (void)state;
    struct reader r;
    subscribe("T", "a");
    publish("T", "m1");
    publish("T", "m2");
    begin_poll(&r, "a", 0);
    store_turn(store);
    topics_reader_leave(&r.r);
    settle();
    assert_int_equal(r.count, 0);
    assert_int_equal(stats().out, 1);
    assert_string_equal(read_text("a"), "m1 ");
    assert_string_equal(read_text("a"), "m2 ");
    assert_string_equal(read_text("a"), "");
    assert_int_equal(stats().out, 0);
    assert_int_equal(stats().undelivered, 0);
}

static void what_is_only_in_memory_may_be_leased(void **state) {
    (void)state;
    struct reader r;
    struct call c;
    uint64_t id;
    unsigned delivery;
    subscribe("T", "a");
    publish("T", "m1");
    publish("T", "m2");
    begin_poll(&r, "a", 0);
    store_turn(store);
    topics_reader_leave(&r.r);
    settle();
    assert_string_equal(lease_text("a", &id, &delivery), "m1 ");
    assert_int_equal(delivery, 2);
    assert_string_equal(lease_text("a", NULL, NULL), "m2 ");
    pass(LEASE_MS);
    assert_string_equal(lease_text("a", &id, &delivery), "m1 ");
    assert_int_equal(delivery, 3);
    assert_int_equal(ack("a", id), 0);
    assert_int_equal(ack("a", id), WEIR_ENOTFOUND);
    assert_string_equal(lease_text("a", &id, NULL), "m2 ");
    begin_ack(&c, "a", id, true);
    settle();
    assert_int_equal(c.err, 0);
    assert_int_equal(stats().out, 0);
}

static void somebody_waits_when_one_leaves(void **state) {
    (void)state;
    struct reader r, next;
    subscribe("T", "a");
    publish("T", "m1");
    begin_poll(&r, "a", 0);
    store_turn(store);
    begin_poll(&next, "a", 1000);
    topics_reader_leave(&r.r);
    settle();
    assert_string_equal(next.text, "m1 ");
}

static void a_failing_store(void **state) {
    (void)state;
    struct reader r;
    struct call c;
    uint64_t id;
    model_fail(quiet.model, WEIR_ENOSPACE, 1);
    assert_int_equal(subscribe("T", "a"), WEIR_ENOSPACE);
    assert_int_equal(stats().topics, 0);
    subscribe("T", "a");
    model_fail(quiet.model, WEIR_ENOSPACE, 1);
    assert_int_equal(publish("T", "m0"), WEIR_ENOSPACE);
    publish("T", "m1");
    begin_poll(&r, "a", 1000);
    model_fail(quiet.model, WEIR_EUNAVAILABLE, 1);
    settle(); /* not read */
    assert_int_equal(r.err, WEIR_EUNAVAILABLE);
    begin_poll(&r, "a", 1000);
    store_turn(store);
    model_fail(quiet.model, WEIR_EUNAVAILABLE, 1);
    settle(); /* not acknowledged */
    assert_int_equal(r.err, WEIR_EUNAVAILABLE);
    assert_string_equal(lease_text("a", &id, NULL), "m1 ");
    model_fail(quiet.model, WEIR_EUNAVAILABLE, 1);
    begin_ack(&c, "a", id, false);
    settle();
    assert_int_equal(c.err, WEIR_EUNAVAILABLE);
    assert_string_equal(lease_text("a", NULL, NULL), ""); /* the lease goes on */
    pass(LEASE_MS);
    assert_string_equal(lease_text("a", &id, NULL), "m1 ");
    assert_int_equal(ack("a", id), 0);
    model_fail(quiet.model, WEIR_EUNAVAILABLE, 1);
    assert_int_equal(unsubscribe("T", "a"), WEIR_EUNAVAILABLE);
    publish("T", "m2");
    assert_string_equal(read_text("a"), "m2 ");
}

static void acknowledged_by_somebody_else(void **state) {
    (void)state;
    struct reader r;
    struct call c;
    subscribe("T", "a");
    publish("T", "m1");
    publish("T", "m2");
    begin_poll(&r, "a", 0);
    begin_ack(&c, "a", 1, false); /* behind the read, before its acknowledgement */
    settle();
    assert_int_equal(c.err, 0);
    assert_string_equal(r.text, "m2 ");
    assert_int_equal(kept(), 0);
}

static void waiting_goes_on_when_somebody_else_was_first(void **state) {
    (void)state;
    struct reader r;
    struct call c;
    subscribe("T", "a");
    publish("T", "m1");
    begin_poll(&r, "a", 1000);
    begin_ack(&c, "a", 1, false); /* behind the read, before its acknowledgement */
    settle();
    assert_int_equal(r.err, PENDING);
    pass(999);
    assert_int_equal(r.err, PENDING);
    pass(1);
    assert_int_equal(r.err, 0);
    assert_int_equal(r.count, 0);
}

static void time_passes_while_it_is_acknowledged(void **state) {
    (void)state;
    struct reader r;
    subscribe("T", "a");
    publish("T", "m1");
    begin_poll(&r, "a", 100);
    store_turn(store);
    model_hold(quiet.model, true);
    now += 1000;
    topics_tick(topics, now);
    assert_int_equal(r.err, PENDING);
    model_hold(quiet.model, false);
    settle();
    assert_string_equal(r.text, "m1 ");
}

static void on_taken_in(void *ctx, int err) {
    *(int *)ctx = err;
}

static void the_last_one_leaves_before_it_is_published(void **state) {
    (void)state;
    static char bytes[100000];
    struct intake *in = NULL;
    struct store_stats s;
    struct call un, pub;
    int err = PENDING;
    subscribe("T", "a");
    struct body *body = body_new(sizeof bytes, 0);
    assert_int_equal(body_write(body, bytes, sizeof bytes), 0);
    body_end(body);
    assert_int_equal(topics_take_in(topics, body, on_taken_in, &err, &in), 0);
    body_unref(body);
    settle();
    assert_int_equal(err, 0);
    begin_unsubscribe(&un, "T", "a");
    begin(&pub);
    topics_publish(topics, SLICE("T"), SLICE("text/x"), &in, &pub.c);
    settle();
    assert_int_equal(un.err, 0);
    assert_int_equal(pub.err, 0);
    store_stats(store, &s);
    assert_int_equal(s.blobs, 0);
    assert_int_equal(s.messages, 0);
    assert_int_equal(stats().topics, 0);
}

static void leases(void **state) {
    (void)state;
    uint64_t id[3];
    unsigned delivery;
    subscribe("T", "a");
    publish("T", "m0");
    publish("T", "m1");
    publish("T", "m2");
    assert_string_equal(lease_text("a", &id[0], &delivery), "m0 ");
    assert_int_equal(delivery, 1);
    pass(500);
    assert_string_equal(lease_text("a", &id[1], NULL), "m1 ");
    pass(499);
    assert_string_equal(read_text("a"), "m2 ");
    assert_string_equal(read_text("a"), "");
    pass(1);
    assert_int_equal(stats().again, 1);
    assert_string_equal(lease_text("a", &id[0], &delivery), "m0 ");
    assert_int_equal(delivery, 2);
    assert_int_equal(ack("a", id[1]), 0);
    pass(10000);
    assert_int_equal(ack("a", id[0]), 0); /* late, and yet in time */
    assert_string_equal(read_text("a"), "");
    assert_int_equal(stats().redelivered, 1);
    assert_int_equal(stats().out, 0);
    assert_int_equal(kept(), 0);
}

static void what_comes_again_is_in_order(void **state) {
    (void)state;
    struct reader r[3];
    subscribe("T", "a");
    publish("T", "m0");
    publish("T", "m1");
    publish("T", "m2");
    begin_lease(&r[0], "a", 300);
    begin_lease(&r[1], "a", 200);
    begin_lease(&r[2], "a", 100);
    settle();
    pass(100);
    assert_int_equal(stats().again, 1);
    pass(100);
    assert_int_equal(stats().again, 2);
    pass(100);
    publish("T", "m3");
    assert_string_equal(read_text("a"), "m0 ");
    assert_string_equal(read_text("a"), "m1 ");
    assert_string_equal(read_text("a"), "m2 ");
    assert_string_equal(read_text("a"), "m3 ");
}

static void a_lease_ends_while_it_is_acknowledged(void **state) {
    (void)state;
    uint64_t id;
    struct call c;
    struct reader r;
    for (int failing = 0; failing < 2; failing++) {
        subscribe("T", "a");
        publish("T", "m");
        lease_text("a", &id, NULL);
        model_hold(quiet.model, true);
        begin_ack(&c, "a", id, false);
        now += 2 * LEASE_MS;
        topics_tick(topics, now);
        begin_poll(&r, "a", 0);
        assert_int_equal(r.err, 0); /* nothing is there */
        if (failing) model_fail(quiet.model, WEIR_EUNAVAILABLE, 1);
        model_hold(quiet.model, false);
        settle();
        assert_int_equal(c.err, failing ? WEIR_EUNAVAILABLE : 0);
        assert_string_equal(read_text("a"), failing ? "m " : "");
    }
}

static void acknowledged_while_it_is_given_again(void **state) {
    (void)state;
    uint64_t id;
    struct call c;
    struct reader r;
    subscribe("T", "a");
    publish("T", "m");
    lease_text("a", &id, NULL);
    pass(LEASE_MS);
    begin_lease(&r, "a", 0); /* reads it again */
    begin_ack(&c, "a", id, false);
    settle();
    assert_int_equal(c.err, 0);
    assert_int_equal(r.err, 0);
    assert_int_equal(r.count, 0);
    assert_int_equal(stats().out, 0);
}

static void up_to(void **state) {
    (void)state;
    uint64_t id[4];
    struct call c;
    struct reader r;
    subscribe("T", "a");
    for (int i = 0; i < 4; i++) {
        publish("T", "m");
        lease_text("a", &id[i], NULL);
    }
    publish("T", "last");
    begin_poll(&r, "a", 0);
    store_turn(store); /* its acknowledgement is under way */
    begin_ack(&c, "a", id[2], true);
    settle();
    assert_int_equal(c.err, 0);
    assert_string_equal(r.text, "last ");
    assert_int_equal(stats().out, 1);
    begin_ack(&c, "a", id[2], true);
    settle();
    assert_int_equal(c.err, WEIR_ENOTFOUND);
    pass(LEASE_MS);
    lease_text("a", &id[0], NULL);
    assert_int_equal(id[0], id[3]);
}

static void unsubscribing_ends_all(void **state) {
    (void)state;
    struct reader wait, taking, stream, blob;
    uint64_t id;
    subscribe("T", "a");
    subscribe("T", "b");
    publish("T", "m1");
    lease_text("a", &id, NULL);
    publish_large("T", 100000);
    begin_poll(&blob, "a", 0);
    settle();
    assert_int_not_equal(blob.blob, 0);
    publish("T", "m2");
    begin_poll(&taking, "a", 1000);
    store_turn(store);
    begin_stream(&stream, "a", false);
    begin_poll(&wait, "a", 1000);
    assert_int_equal(unsubscribe("T", "a"), 0);
    assert_string_equal(taking.text, "m2 "); /* it was acknowledged before */
    assert_int_equal(stream.err, WEIR_ENOTFOUND);
    assert_int_equal(wait.err, WEIR_ENOTFOUND);
    assert_int_equal(ack("a", id), WEIR_ENOTFOUND);
    assert_int_equal(blob.err, PENDING);
    topics_confirm(&blob.r);
    assert_int_equal(blob.confirmed, 0);
    assert_int_equal(stats().out, 0);
    assert_int_equal(stats().waiting + stats().streams, 0);
    assert_string_equal(read_text("a"), "no subscription");
    assert_int_equal(unsubscribe("T", "b"), 0);
    assert_int_equal(stats().topics, 0);
    assert_int_equal(kept(), 0);
}

static void a_blob_is_confirmed_in_the_end(void **state) {
    (void)state;
    struct reader r, other;
    subscribe("T", "a");
    publish_large("T", 100000);
    begin_poll(&r, "a", 1000);
    settle();
    assert_int_equal(r.err, PENDING);
    begin_poll(&other, "a", 0);
    assert_int_equal(other.err, 0); /* it is not for two */
    pass(5000);                     /* the transfer takes its time */
    assert_int_equal(r.err, PENDING);
    topics_reader_leave(&r.r);
    begin_poll(&r, "a", 1000);
    settle();
    assert_int_equal(r.count, 1);
    topics_confirm(&r.r);
    assert_int_equal(r.confirmed, PENDING);
    model_fail(quiet.model, WEIR_EUNAVAILABLE, 1);
    settle();
    assert_int_equal(r.confirmed, WEIR_EUNAVAILABLE);
    begin_poll(&r, "a", 1000);
    settle();
    topics_confirm(&r.r);
    settle();
    assert_int_equal(r.confirmed, 0);
    assert_int_equal(kept(), 0);
    assert_int_equal(stats().out, 0);
}

static void what_was_dropped_for_its_age(void **state) {
    (void)state;
    struct store_op op;
    subscribe("T", "a");
    for (int i = 0; i < 3; i++) {
        publish("T", "old");
        lease_text("a", NULL, NULL);
    }
    pass(LEASE_MS);
    publish("T", "new");
    store_op_init(&op, STORE_SWEEP, collect);
    op.now = now;
    op.message_age = LEASE_MS / 2;
    op.limit = 100;
    fault_pause();
    store_submit(quiet.model, &op);
    store_turn(quiet.model);
    fault_resume();
    quiet.done_count = 0;
    store_op_fini(&op);
    assert_int_equal(kept(), 1);
    assert_int_equal(stats().again, 3);
    assert_string_equal(read_text("a"), "new ");
    assert_string_equal(read_text("a"), "");
    assert_int_equal(stats().out, 0);
}

static void draining(void **state) {
    (void)state;
    struct reader poll, stream, early, late, taking;
    subscribe("T", "a");
    begin_stream(&stream, "a", false);
    stream.r.room = 0;
    publish("T", "m1");
    publish("T", "m2");
    begin_poll(&taking, "a", 1000);
    store_turn(store);
    begin_poll(&poll, "a", 1000);
    topics_drain(topics);
    assert_int_equal(poll.err, 0);
    assert_int_equal(stream.err, 0);
    assert_int_equal(taking.err, PENDING);
    settle();
    assert_string_equal(taking.text, "m2 ");
    begin_poll(&late, "a", 1000);
    assert_int_equal(late.err, 0);
    topics_free(&topics);
    assert_int_equal(open_engine(), 0);
    begin_poll(&early, "a", 1000);
    topics_drain(topics);
    assert_int_equal(early.err, 0);
    settle();
}

static void callers_may_leave(void **state) {
    (void)state;
    struct call c;
    begin_subscribe(&c, "T", "a");
    topics_call_leave(&c.c);
    begin_publish(&c, "T", "m", 1);
    topics_call_leave(&c.c);
    settle();
    assert_int_equal(c.err, PENDING);
    assert_string_equal(read_text("a"), "m ");
    topics_free(&topics);
    assert_int_equal(open_engine(), 0);
    begin_unsubscribe(&c, "T", "a"); /* waits for the load */
    topics_call_leave(&c.c);
    settle();
    assert_string_equal(read_text("a"), "no subscription");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        STORY(what_was_there_is_loaded),
        STORY(loading_is_tried_again),
        STORY(nothing_is_answered_before_the_store),
        STORY(nobody_is_no_work),
        STORY(order_is_the_stores),
        STORY(polls_wait_and_share),
        STORY(leaving_while_it_is_read),
        STORY(leaving_while_it_is_acknowledged),
        STORY(what_is_only_in_memory_may_be_leased),
        STORY(somebody_waits_when_one_leaves),
        STORY(a_failing_store),
        STORY(acknowledged_by_somebody_else),
        STORY(waiting_goes_on_when_somebody_else_was_first),
        STORY(time_passes_while_it_is_acknowledged),
        STORY(the_last_one_leaves_before_it_is_published),
        STORY(leases),
        STORY(what_comes_again_is_in_order),
        STORY(a_lease_ends_while_it_is_acknowledged),
        STORY(acknowledged_while_it_is_given_again),
        STORY(up_to),
        STORY(unsubscribing_ends_all),
        STORY(a_blob_is_confirmed_in_the_end),
        STORY(what_was_dropped_for_its_age),
        STORY(draining),
        STORY(callers_may_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
