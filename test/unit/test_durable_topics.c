/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine of topics against the model store, which can stand still and fail: stories, a random run, and
 * all of it out of memory. Readers and callers are structs that note what they are told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"
#include "durable/topics.h"
#include "lib/fault.h"
#include "model.h"
#include "weir/weir.h"
#include <stdio.h>
#include <stdlib.h>

enum { PENDING = 1, TEXT = 32, LEASE_MS = 1000 };

/* ---- a store whose own memory does not fail ---- */

/* Operations are carried out by the model while allocations are not counted; what the engine does when they
   are done counts. */
struct quiet {
    struct store base;
    struct store *model;
    struct store_op *done[4096];
    size_t done_count;
    struct {
        struct store_op *op;
        void (*done)(struct store_op *op);
    } under_way[4096];
    size_t count;
    bool acks_wait; /* they have been carried out, and nobody hears of it */
};
static struct quiet quiet;

static void collect(struct store_op *op) {
    assert_true(quiet.done_count < 4096);
    quiet.done[quiet.done_count++] = op;
}

static void quiet_submit(struct store *s, struct store_op *op) {
    (void)s;
    assert_true(quiet.count < 4096);
    quiet.under_way[quiet.count].op = op;
    quiet.under_way[quiet.count++].done = op->done;
    op->done = collect;
    fault_pause();
    store_submit(quiet.model, op);
    fault_resume();
}

static void tell(struct store_op *op) {
    size_t i = 0;
    while (quiet.under_way[i].op != op) i++;
    op->done = quiet.under_way[i].done;
    quiet.under_way[i] = quiet.under_way[--quiet.count];
    op->done(op);
}

static void quiet_turn(struct store *s) {
    (void)s;
    fault_pause();
    store_turn(quiet.model);
    fault_resume();
    size_t waiting = 0;
    for (size_t i = 0; i < quiet.done_count; i++)
        if (quiet.acks_wait && quiet.done[i]->kind == STORE_TOPIC_ACK)
            quiet.done[waiting++] = quiet.done[i];
        else
            tell(quiet.done[i]);
    quiet.done_count = waiting;
}

static void quiet_stats(struct store *s, struct store_stats *ret) {
    (void)s;
    store_stats(quiet.model, ret);
}

static void quiet_close(struct store *s) {
    model_hold(quiet.model, false);
    while (quiet.count > 0) store_turn(s);
    fault_pause();
    store_close(&quiet.model);
    fault_resume();
}

/* ---- the world ---- */

static struct topics *topics;
static struct store *store;
static uint64_t now;

static uint64_t now_ms(void *ctx) {
    (void)ctx;
    return now;
}

/* Until nothing is under way. */
static void settle(void) {
    topics_tick(topics, now);
    while (quiet.count > 0) store_turn(store);
}

static void pass(uint64_t ms) {
    now += ms;
    topics_tick(topics, now);
    settle();
}

static int open_engine(void) {
    struct topics_config config = {.store = store,
                                   .now_ms = now_ms,
                                   .lease_ms = LEASE_MS,
                                   .max_subscriptions = 1000,
                                   .max_message = 1 << 20};
    return topics_new(&config, &topics);
}

static void open_store(void) {
    static const struct store_ops ops = {quiet_submit, quiet_turn, quiet_stats, quiet_close};
    fault_pause();
    quiet = (struct quiet){.base.ops = &ops, .model = model_new()};
    fault_resume();
    store = &quiet.base;
    now = 1000000;
}

static int setup(void **state) {
    (void)state;
    open_store();
    assert_int_equal(open_engine(), 0);
    settle();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    store_close(&store);
    topics_free(&topics);
    return 0;
}

static uint64_t kept(void) {
    struct store_stats s;
    store_stats(store, &s);
    return s.messages;
}

static struct topics_stats stats(void) {
    struct topics_stats s;
    topics_stats(topics, &s);
    return s;
}

/* ---- calls ---- */

struct call {
    struct topics_call c;
    int err; /* PENDING until it is done */
};

static void on_done(struct topics_call *c, int err) {
    struct call *call = CONTAINER_OF(c, struct call, c);
    assert_int_equal(call->err, PENDING);
    call->err = err;
}

static void begin(struct call *c) {
    *c = (struct call){.c.done = on_done, .err = PENDING};
}

static void begin_subscribe(struct call *c, const char *topic, const char *name) {
    begin(c);
    topics_subscribe(topics, slice_of(topic), slice_of(name), &c->c);
}

static int subscribe(const char *topic, const char *name) {
    struct call c;
    begin_subscribe(&c, topic, name);
    settle();
    return c.err;
}

static void begin_unsubscribe(struct call *c, const char *topic, const char *name) {
    begin(c);
    topics_unsubscribe(topics, slice_of(topic), slice_of(name), &c->c);
}

static int unsubscribe(const char *topic, const char *name) {
    struct call c;
    begin_unsubscribe(&c, topic, name);
    settle();
    return c.err;
}

static void begin_ack(struct call *c, const char *name, uint64_t id, bool up_to) {
    begin(c);
    topics_acknowledge(topics, SLICE("T"), slice_of(name), id, up_to, &c->c);
}

static int ack(const char *name, uint64_t id) {
    struct call c;
    begin_ack(&c, name, id, false);
    settle();
    return c.err;
}

static void on_taken_in(void *ctx, int err) {
    *(int *)ctx = err;
}

/* Takes it in (which for a blob takes operations of the store), and publishes it. */
static void begin_publish(struct call *c, const char *topic, const void *bytes, size_t n) {
    struct intake *in = NULL;
    struct body *body = body_new(n + 1, 0);
    int err = PENDING;
    begin(c);
    if (body && body_write(body, bytes, n) == 0) {
        body_end(body);
        int r = topics_take_in(topics, body, on_taken_in, &err, &in);
        if (r != 0) err = r;
        if (err == PENDING) settle();
    } else {
        err = WEIR_ENOMEM;
    }
    body_unref(body);
    assert_int_not_equal(err, PENDING);
    if (err == 0)
        topics_publish(topics, slice_of(topic), SLICE("text/x"), &in, &c->c);
    else
        c->err = err;
    intake_free(&in);
}

static int publish(const char *topic, const char *text) {
    struct call c;
    begin_publish(&c, topic, text, strlen(text));
    settle();
    return c.err;
}

static int publish_large(const char *topic, size_t n) {
    struct call c;
    char *bytes = calloc(1, n);
    assert_non_null(bytes);
    begin_publish(&c, topic, bytes, n);
    settle();
    free(bytes);
    return c.err;
}

/* ---- readers ---- */

struct reader {
    struct topics_reader r;
    char text[TEXT * 64]; /* of the messages it was given: "m1 m2 " */
    unsigned count, delivery, beats;
    uint64_t id;      /* of the last */
    uint64_t blob;    /* of the last */
    uint64_t arrived; /* what sent says */
    int err, confirmed;
    bool begun;
};

static struct reader *reader_of(const struct topics_reader *r) {
    return CONTAINER_OF((uintptr_t)r, struct reader, r);
}

static bool on_give(struct topics_reader *r, const struct topics_message *m) {
    struct reader *reader = reader_of(r);
    assert_int_equal(reader->err, PENDING);
    assert_true(slice_eq(m->type, SLICE("text/x")));
    size_t at = strlen(reader->text);
    if (at + TEXT < sizeof reader->text) snprintf(reader->text + at, TEXT, "%.*s ", SLICE_ARG(m->body.bytes));
    reader->count++;
    reader->id = m->id;
    reader->delivery = m->delivery;
    reader->blob = m->body.blob;
    if (r->stream) {
        r->written += 10;
        r->busy = m->body.blob != 0;
    } else if (!m->body.blob || r->acknowledges) {
        reader->err = 0;
    }
    return true;
}

static void on_over(struct topics_reader *r, int err) {
    struct reader *reader = reader_of(r);
    assert_int_equal(reader->err, PENDING);
    reader->err = err;
}

static void on_confirmed(struct topics_reader *r, int err) {
    reader_of(r)->confirmed = reader_of(r)->err = err;
}

static void on_begun(struct topics_reader *r) {
    reader_of(r)->begun = true;
}

static uint64_t on_sent(const struct topics_reader *r) {
    return reader_of(r)->arrived;
}

static void on_beat(struct topics_reader *r) {
    reader_of(r)->beats++;
}

static const struct topics_reader_ops reader_ops = {on_give,  on_over, on_confirmed,
                                                    on_begun, on_sent, on_beat};

static void reader_init(struct reader *r, const char *name) {
    *r = (struct reader){.r = {.ops = &reader_ops, .topic = SLICE("T"), .name = slice_of(name)},
                         .err = PENDING,
                         .confirmed = PENDING,
                         .arrived = UINT32_MAX};
}

static void begin_poll(struct reader *r, const char *name, uint64_t wait_ms) {
    reader_init(r, name);
    r->r.wait_ms = wait_ms;
    topics_read(topics, &r->r);
}

static void begin_lease(struct reader *r, const char *name, uint64_t lease_ms) {
    reader_init(r, name);
    r->r.acknowledges = true;
    r->r.lease_ms = lease_ms;
    topics_read(topics, &r->r);
}

static void begin_stream(struct reader *r, const char *name, bool acknowledges) {
    reader_init(r, name);
    r->r.stream = true;
    r->r.acknowledges = acknowledges;
    r->r.room = 1000;
    r->r.beat_ms = 15000;
    topics_read(topics, &r->r);
}

/* Reads one message; what came of it, as text. */
static const char *read_text(const char *name) {
    static struct reader r;
    begin_poll(&r, name, 0);
    settle();
    if (r.err == WEIR_ENOTFOUND) return "no subscription";
    assert_int_equal(r.err, 0);
    return r.text;
}

static const char *lease_text(const char *name, uint64_t *ret_id, unsigned *ret_delivery) {
    static struct reader r;
    begin_lease(&r, name, 0);
    settle();
    assert_int_equal(r.err, 0);
    if (ret_id) *ret_id = r.id;
    if (ret_delivery) *ret_delivery = r.delivery;
    return r.text;
}

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

static void streams_acknowledge_what_has_arrived(void **state) {
    (void)state;
    struct reader s;
    subscribe("T", "a");
    publish("T", "m0");
    begin_stream(&s, "a", false);
    settle();
    assert_true(s.begun);
    s.arrived = 0;
    for (int i = 0; i < 9; i++) publish("T", "m");
    assert_int_equal(s.count, 10);
    pass(100);
    assert_int_equal(kept(), 10);
    s.arrived = 39; /* three, and most of the fourth */
    pass(100);
    assert_int_equal(kept(), 7);
    assert_int_equal(stats().acknowledged, 3);
    topics_reader_leave(&s.r);
    settle();
    assert_int_equal(stats().again, 7);
    begin_stream(&s, "a", false);
    settle();
    assert_int_equal(s.count, 7);
    assert_int_equal(s.delivery, 2);
    pass(100);
    assert_int_equal(kept(), 0);
    pass(14800);
    assert_int_equal(s.beats, 0);
    pass(100);
    assert_int_equal(s.beats, 1);
    pass(15000);
    assert_int_equal(s.beats, 2);
    topics_reader_leave(&s.r);
}

static void streams_take_what_they_have_room_for(void **state) {
    (void)state;
    struct reader s, poll;
    subscribe("T", "a");
    begin_stream(&s, "a", false);
    s.r.room = 0; /* from the next message on */
    publish("T", "m1");
    publish("T", "m2");
    assert_string_equal(s.text, "m1 ");
    begin_poll(&poll, "a", 0);
    settle();
    assert_string_equal(poll.text, "m2 ");
    publish_large("T", 70000);
    publish("T", "m3");
    s.r.room = 1000;
    topics_reader_ready(&s.r);
    settle();
    assert_int_equal(s.count, 2); /* it is busy with the large one */
    pass(100);
    assert_int_equal(kept(), 2); /* which has not arrived, whatever has */
    s.r.busy = false;
    topics_reader_ready(&s.r);
    settle();
    assert_int_equal(s.count, 3);
    pass(100);
    assert_int_equal(kept(), 0);
    topics_reader_leave(&s.r);
}

static void streams_share(void **state) {
    (void)state;
    struct reader s[2];
    subscribe("T", "a");
    for (int i = 0; i < 2; i++) begin_stream(&s[i], "a", false);
    for (int i = 0; i < 10; i++) publish("T", "m");
    assert_int_equal(s[0].count, 5);
    assert_int_equal(s[1].count, 5);
    s[0].arrived = 0; /* holds the first, so that the second's are acknowledged one by one */
    pass(100);
    assert_int_equal(kept(), 5);
    s[0].arrived = UINT32_MAX;
    topics_reader_leave(&s[0].r); /* what has arrived is acknowledged at the end, too */
    settle();
    assert_int_equal(kept(), 0);
    assert_int_equal(stats().out, 0);
    topics_reader_leave(&s[1].r);
}

static void a_stream_goes_on_behind_what_it_knows(void **state) {
    (void)state;
    struct reader s;
    subscribe("T", "a");
    for (int i = 0; i < 5; i++) publish("T", "old");
    publish("T", "new");
    reader_init(&s, "a");
    s.r.stream = true;
    s.r.room = 1000;
    s.r.beat_ms = 15000;
    s.r.after = 5;
    s.arrived = 0;
    topics_read(topics, &s.r);
    settle();
    assert_string_equal(s.text, "new ");
    pass(100);
    assert_int_equal(kept(), 1);
    topics_reader_leave(&s.r);
    settle();
    assert_string_equal(read_text("a"), "new ");
}

static void explicit_streams(void **state) {
    (void)state;
    struct reader s;
    subscribe("T", "a");
    begin_stream(&s, "a", true);
    publish("T", "m1");
    publish("T", "m2");
    pass(100);
    assert_string_equal(s.text, "m1 m2 ");
    assert_int_equal(kept(), 2);
    assert_int_equal(ack("a", 1), 0);
    pass(LEASE_MS);
    assert_string_equal(s.text, "m1 m2 m2 ");
    assert_int_equal(s.delivery, 2);
    topics_reader_leave(&s.r);
    assert_string_equal(read_text("a"), ""); /* the lease holds */
    pass(LEASE_MS);
    assert_string_equal(read_text("a"), "m2 ");
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

static void limits(void **state) {
    (void)state;
    struct call c[1001];
    char name[TEXT];
    for (int i = 0; i < 1001; i++) {
        snprintf(name, sizeof name, "s%d", i);
        begin_subscribe(&c[i], "T", name);
    }
    settle();
    for (int i = 0; i < 1000; i++) assert_int_equal(c[i].err, 0);
    assert_int_equal(c[1000].err, WEIR_ENOSPACE);
    assert_int_equal(subscribe("T", "s7"), 0);
    assert_int_equal(unsubscribe("T", "s8"), 0);
    assert_int_equal(subscribe("T", "s1000"), 0);
    assert_int_equal(publish_large("T", (1 << 20) + 1), WEIR_ETOOBIG);
}

static void not_too_many_are_out(void **state) {
    (void)state;
    enum { MOST = 10000 };
    struct reader s;
    subscribe("T", "a");
    begin_stream(&s, "a", true);
    for (int i = 0; i < MOST + 5; i++) publish("T", "m");
    assert_int_equal(s.count, MOST);
    assert_int_equal(ack("a", 17), 0);
    assert_int_equal(s.count, MOST + 1);
    topics_reader_leave(&s.r);
    assert_int_equal(unsubscribe("T", "a"), 0);
}

static void not_too_much_is_kept_in_memory(void **state) {
    (void)state;
    enum { COUNT = 1100, SIZE = 64 * 1024 };
    struct reader *r = calloc(COUNT, sizeof *r);
    subscribe("T", "a");
    for (int i = 0; i < COUNT; i++) publish_large("T", SIZE);
    for (int i = 0; i < COUNT; i++) begin_poll(&r[i], "a", 1000);
    quiet.acks_wait = true;
    while (stats().out < COUNT) store_turn(store);
    for (int i = 0; i < COUNT; i++) topics_reader_leave(&r[i].r);
    quiet.acks_wait = false;
    settle();
    assert_int_equal(stats().again + stats().undelivered, COUNT);
    assert_true(stats().again * SIZE <= 64 << 20);
    assert_true(stats().again > 1000);
    assert_int_equal(kept(), 0);
    free(r);
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

/* ---- at random ---- */

enum { NAMES = 3, READERS = 12, MESSAGES = 2000 };

struct fate { /* of a message, for one subscription */
    bool wanted, given, acked;
};
struct game {
    struct random random;
    struct fate fates[NAMES][MESSAGES + 1];
    struct reader readers[READERS];
    int mode[READERS]; /* 0: none; 1: poll; 2: lease */
    int at[READERS];
    struct call calls[16];
    uint64_t published;
};
static const char *const names[NAMES] = {"a", "b", "c"};

/* Takes note of what a reader was given: an unleased message only once. */
static void look(struct game *g, int i) {
    struct reader *r = &g->readers[i];
    if (!g->mode[i] || r->err == PENDING) return;
    if (r->count == 1) {
        unsigned number;
        assert_int_equal(sscanf(r->text, "%u", &number), 1);
        struct fate *f = &g->fates[g->at[i]][number];
        assert_true(f->wanted);
        assert_false(f->acked);
        f->given = true;
        if (g->mode[i] == 1) f->acked = true;
        if (g->mode[i] == 2 && random_below(&g->random, 2)) {
            assert_int_equal(ack(names[g->at[i]], r->id), 0);
            f->acked = true;
        }
    }
    g->mode[i] = 0;
}

static void play(struct game *g) {
    int i = (int)random_below(&g->random, READERS);
    switch (random_below(&g->random, 8)) {
    case 0:
    case 1: {
        char text[TEXT];
        int n = snprintf(text, sizeof text, "%u", (unsigned)++g->published);
        struct call c;
        begin_publish(&c, "T", text, (size_t)n);
        while (c.err == PENDING) store_turn(store);
        assert_int_equal(c.err, 0);
        for (int s = 0; s < NAMES; s++) g->fates[s][g->published].wanted = true;
        break;
    }
    case 2:
    case 3:
        if (g->mode[i]) break;
        g->mode[i] = 1 + (int)random_below(&g->random, 2);
        g->at[i] = (int)random_below(&g->random, NAMES);
        reader_init(&g->readers[i], names[g->at[i]]);
        g->readers[i].r.acknowledges = g->mode[i] == 2;
        g->readers[i].r.wait_ms = random_below(&g->random, 2) * random_below(&g->random, 500);
        topics_read(topics, &g->readers[i].r);
        break;
    case 4:
        look(g, i);
        if (!g->mode[i]) break;
        topics_reader_leave(&g->readers[i].r);
        g->mode[i] = 0;
        break;
    case 5:
        now += random_below(&g->random, 300);
        topics_tick(topics, now);
        break;
    default:
        store_turn(store);
    }
    for (int r = 0; r < READERS; r++) look(g, r);
}

/* What was taken without a reader to hear of it is not lost: it comes to the next. */
static void at_random(void **state) {
    (void)state;
    static struct game g;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        if (seed > 1) setup(NULL);
        memset(&g, 0, sizeof g);
        random_seed(&g.random, seed);
        for (int s = 0; s < NAMES; s++) subscribe("T", names[s]);
        for (int step = 0; step < 4000 && g.published < MESSAGES; step++) play(&g);
        settle();
        for (int i = 0; i < READERS; i++) {
            look(&g, i);
            if (g.mode[i]) topics_reader_leave(&g.readers[i].r);
        }
        pass(10 * LEASE_MS);
        for (int s = 0; s < NAMES; s++) {
            for (const char *text; *(text = read_text(names[s]));) {
                struct fate *f = &g.fates[s][atoi(text)];
                assert_true(f->wanted && !f->acked);
                f->acked = true;
            }
            for (uint64_t m = 1; m <= g.published; m++) assert_true(g.fates[s][m].acked);
        }
        assert_int_equal(kept(), 0);
        assert_int_equal(stats().out, 0);
        if (seed < 30) teardown(NULL);
    }
}

/* ---- out of memory ---- */

/* 0 or WEIR_ENOMEM; whatever fails, the engine goes on, and no message that was published is lost. */
static int story(void) {
    struct call c[6];
    struct reader r[4];
    int err = open_engine();
    if (err != 0) return err;
    for (size_t i = 0; i < 6; i++) c[i].err = 0;
    while (quiet.count > 0) store_turn(store);
    now += 1000; /* a load that has failed is tried again */
    settle();
    begin_subscribe(&c[0], "T", "a");
    settle();
    begin_publish(&c[1], "T", "m1", 2);
    settle();
    begin_publish(&c[2], "T", "m2", 2);
    settle();
    begin_poll(&r[0], "a", 100);
    begin_lease(&r[1], "a", 0);
    settle();
    begin_stream(&r[2], "a", false);
    begin_publish(&c[3], "T", "m3", 2);
    settle();
    pass(200);
    if (r[2].err == PENDING) topics_reader_leave(&r[2].r);
    settle();
    fault_fail_at(0);
    unsigned published = 0;
    for (int i = 1; i < 4; i++) published += c[i].err == 0;
    for (int i = 0; i < 4; i++)
        if (c[i].err != 0) err = c[i].err;
    for (int i = 0; i < 3; i++)
        if (r[i].err != PENDING && r[i].err != 0) err = r[i].err;
    if (c[0].err == 0) {
        unsigned taken = r[0].count + r[2].count;
        pass(10 * LEASE_MS);
        while (*read_text("a")) taken++;
        assert_true(taken >= published);
        assert_int_equal(kept(), 0);
        assert_int_equal(unsubscribe("T", "a"), 0);
    }
    assert_int_equal(stats().out, 0);
    assert_int_equal(stats().subscriptions, 0);
    return err;
}

static void out_of_memory(void **state) {
    (void)state;
    teardown(NULL);
    int err = WEIR_ENOMEM;
    long n = 1;
    bool any = true;
    for (; any && n < 1000; n++) {
        long live = fault_live();
        open_store();
        fault_reset();
        fault_fail_at(n);
        err = story();
        any = fault_count() >= n;
        fault_fail_at(0);
        store_close(&store);
        topics_free(&topics);
        assert_int_equal(fault_live(), live);
        assert_true(err == 0 || err == WEIR_ENOMEM || err == WEIR_ENOTFOUND);
    }
    assert_int_equal(err, 0);
    assert_true(n > 30);
    setup(NULL);
}

#define STORY(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

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
        STORY(leases),
        STORY(a_lease_ends_while_it_is_acknowledged),
        STORY(acknowledged_while_it_is_given_again),
        STORY(up_to),
        STORY(unsubscribing_ends_all),
        STORY(a_blob_is_confirmed_in_the_end),
        STORY(streams_acknowledge_what_has_arrived),
        STORY(streams_take_what_they_have_room_for),
        STORY(streams_share),
        STORY(a_stream_goes_on_behind_what_it_knows),
        STORY(explicit_streams),
        STORY(what_was_dropped_for_its_age),
        STORY(draining),
        STORY(limits),
        STORY(not_too_many_are_out),
        STORY(not_too_much_is_kept_in_memory),
        STORY(callers_may_leave),
        STORY(at_random),
        STORY(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
