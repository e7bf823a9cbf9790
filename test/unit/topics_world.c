/* SPDX-License-Identifier: Apache-2.0 */
#include "topics_world.h"
#include "lib/fault.h"
#include "weir/weir.h"
#include <stdio.h>
#include <stdlib.h>

/* ---- a store whose own memory does not fail ---- */

struct quiet quiet;

void collect(struct store_op *op) {
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

struct topics *topics;
struct store *store;
uint64_t now;

static uint64_t now_ms(void *ctx) {
    (void)ctx;
    return now;
}

void settle(void) {
    topics_tick(topics, now);
    while (quiet.count > 0) store_turn(store);
}

void pass(uint64_t ms) {
    now += ms;
    topics_tick(topics, now);
    settle();
}

int open_engine(void) {
    struct topics_config config = {.store = store,
                                   .now_ms = now_ms,
                                   .lease_ms = LEASE_MS,
                                   .max_subscriptions = 1000,
                                   .max_message = 1 << 20};
    return topics_new(&config, &topics);
}

void open_store(void) {
    static const struct store_ops ops = {quiet_submit, quiet_turn, quiet_stats, quiet_close};
    fault_pause();
    quiet = (struct quiet){.base.ops = &ops, .model = model_new()};
    fault_resume();
    store = &quiet.base;
    now = 1000000;
}

int setup(void **state) {
    (void)state;
    open_store();
    assert_int_equal(open_engine(), 0);
    settle();
    return 0;
}

int teardown(void **state) {
    (void)state;
    store_close(&store);
    topics_free(&topics);
    return 0;
}

uint64_t kept(void) {
    struct store_stats s;
    store_stats(store, &s);
    return s.messages;
}

struct topics_stats stats(void) {
    struct topics_stats s;
    topics_stats(topics, &s);
    return s;
}

/* ---- calls ---- */

static void on_done(struct topics_call *c, int err) {
    struct call *call = CONTAINER_OF(c, struct call, c);
    assert_int_equal(call->err, PENDING);
    call->err = err;
}

void begin(struct call *c) {
    *c = (struct call){.c.done = on_done, .err = PENDING};
}

void begin_subscribe(struct call *c, const char *topic, const char *name) {
    begin(c);
    topics_subscribe(topics, slice_of(topic), slice_of(name), &c->c);
}

int subscribe(const char *topic, const char *name) {
    struct call c;
    begin_subscribe(&c, topic, name);
    settle();
    return c.err;
}

void begin_unsubscribe(struct call *c, const char *topic, const char *name) {
    begin(c);
    topics_unsubscribe(topics, slice_of(topic), slice_of(name), &c->c);
}

int unsubscribe(const char *topic, const char *name) {
    struct call c;
    begin_unsubscribe(&c, topic, name);
    settle();
    return c.err;
}

void begin_ack(struct call *c, const char *name, uint64_t id, bool up_to) {
    begin(c);
    topics_acknowledge(topics, SLICE("T"), slice_of(name), id, up_to, &c->c);
}

int ack(const char *name, uint64_t id) {
    struct call c;
    begin_ack(&c, name, id, false);
    settle();
    return c.err;
}

static void on_taken_in(void *ctx, int err) {
    *(int *)ctx = err;
}

void begin_publish(struct call *c, const char *topic, const void *bytes, size_t n) {
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

int publish(const char *topic, const char *text) {
    struct call c;
    begin_publish(&c, topic, text, strlen(text));
    settle();
    return c.err;
}

int publish_large(const char *topic, size_t n) {
    struct call c;
    char *bytes = calloc(1, n);
    assert_non_null(bytes);
    begin_publish(&c, topic, bytes, n);
    settle();
    free(bytes);
    return c.err;
}

/* ---- readers ---- */

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

void reader_init(struct reader *r, const char *name) {
    *r = (struct reader){.r = {.ops = &reader_ops, .topic = SLICE("T"), .name = slice_of(name)},
                         .err = PENDING,
                         .confirmed = PENDING,
                         .arrived = UINT32_MAX};
}

void begin_poll(struct reader *r, const char *name, uint64_t wait_ms) {
    reader_init(r, name);
    r->r.wait_ms = wait_ms;
    topics_read(topics, &r->r);
}

void begin_lease(struct reader *r, const char *name, uint64_t lease_ms) {
    reader_init(r, name);
    r->r.acknowledges = true;
    r->r.lease_ms = lease_ms;
    topics_read(topics, &r->r);
}

void begin_stream(struct reader *r, const char *name, bool acknowledges) {
    reader_init(r, name);
    r->r.stream = true;
    r->r.acknowledges = acknowledges;
    r->r.room = 1000;
    r->r.beat_ms = 15000;
    topics_read(topics, &r->r);
}

const char *read_text(const char *name) {
    static struct reader r;
    begin_poll(&r, name, 0);
    settle();
    if (r.err == WEIR_ENOTFOUND) return "no subscription";
    assert_int_equal(r.err, 0);
    return r.text;
}

const char *lease_text(const char *name, uint64_t *ret_id, unsigned *ret_delivery) {
    static struct reader r;
    begin_lease(&r, name, 0);
    settle();
    assert_int_equal(r.err, 0);
    if (ret_id) *ret_id = r.id;
    if (ret_delivery) *ret_delivery = r.delivery;
    return r.text;
}
