/* SPDX-License-Identifier: Apache-2.0 */
/* What the model has beside the store: standing still, failing, crashing. What it remembers is the suite's
   concern (conformance.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model.h"
#include "weir/weir.h"

struct call {
    struct store_op op;
    unsigned done;
    struct store *s;
    struct call *then; /* submitted by done */
};

static void done(struct store_op *op) {
    struct call *c = CONTAINER_OF(op, struct call, op);
    c->done++;
    if (c->then) store_submit(c->s, &c->then->op);
}

static void call_init(struct call *c, struct store *s, enum store_kind kind) {
    *c = (struct call){.s = s};
    store_op_init(&c->op, kind, done);
    c->op.topic = SLICE("t");
    c->op.name = SLICE("n");
    c->op.key = SLICE("k");
    c->op.value = SLICE("v");
    c->op.message.body.bytes = SLICE("m");
    c->op.limit = c->op.most_bytes = 100;
}

/* Runs one to its end. How many things it gives. */
static size_t run(struct store *s, enum store_kind kind, int err) {
    struct call c;
    call_init(&c, s, kind);
    store_submit(s, &c.op);
    store_turn(s);
    assert_int_equal(c.done, 1);
    assert_int_equal(c.op.err, err);
    size_t count = c.op.count;
    store_op_fini(&c.op);
    return count;
}

static void nothing_completes_while_held(void **state) {
    (void)state;
    struct store *s = model_new();
    struct call c;
    call_init(&c, s, STORE_TOPIC_SUBSCRIBE);
    model_hold(s, true);
    store_submit(s, &c.op);
    store_turn(s);
    assert_int_equal(c.done, 0);
    assert_int_equal(model_under_way(s), 1);
    model_hold(s, false);
    assert_int_equal(c.done, 0);
    store_turn(s);
    assert_int_equal(c.done, 1);
    assert_int_equal(model_under_way(s), 0);
    store_op_fini(&c.op);
    store_close(&s);
    assert_null(s);
}

static void failures_change_nothing(void **state) {
    (void)state;
    struct store *s = model_new();
    model_fail(s, WEIR_ENOSPACE, 2);
    run(s, STORE_TOPIC_SUBSCRIBE, WEIR_ENOSPACE);
    run(s, STORE_CONF_SET, WEIR_ENOSPACE);
    assert_int_equal(run(s, STORE_TOPIC_LOAD, 0), 0);
    run(s, STORE_CONF_GET, WEIR_ENOTFOUND);
    run(s, STORE_CONF_SET, 0);
    struct store_stats stats;
    store_stats(s, &stats);
    assert_int_equal(stats.errors, 3);
    store_close(&s);
}

static void what_done_submits_waits_for_the_next_turn(void **state) {
    (void)state;
    struct store *s = model_new();
    struct call first, second;
    call_init(&first, s, STORE_TOPIC_SUBSCRIBE);
    call_init(&second, s, STORE_TOPIC_APPEND);
    first.then = &second;
    store_submit(s, &first.op);
    store_turn(s);
    assert_int_equal(first.done, 1);
    assert_int_equal(second.done, 0);
    store_close(&s); /* completes it */
    assert_int_equal(second.done, 1);
    assert_int_equal(second.op.message_id, 1);
    store_op_fini(&first.op);
    store_op_fini(&second.op);
}

static bool keep_some(const struct store_op *op, void *ctx) {
    return op != ctx;
}

static void a_crash_keeps_what_was_acknowledged_and_order(void **state) {
    (void)state;
    struct store *s = model_new();
    struct call calls[4];
    run(s, STORE_TOPIC_SUBSCRIBE, 0);
    run(s, STORE_TOPIC_APPEND, 0);
    run(s, STORE_BLOB_NEW, 0);
    for (size_t i = 0; i < 4; i++) {
        call_init(&calls[i], s, i == 3 ? STORE_CONF_SET : STORE_TOPIC_APPEND);
        store_submit(s, &calls[i].op);
    }
    model_crash(s, keep_some, &calls[1].op); /* and with it what follows it in the topic */
    store_turn(s);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(calls[i].done, 0);
        store_op_fini(&calls[i].op);
    }
    assert_int_equal(run(s, STORE_TOPIC_READ, 0), 2);
    run(s, STORE_CONF_GET, 0);
    struct store_stats stats;
    store_stats(s, &stats);
    assert_int_equal(stats.blobs, 0);
    store_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_completes_while_held),
        cmocka_unit_test(failures_change_nothing),
        cmocka_unit_test(what_done_submits_waits_for_the_next_turn),
        cmocka_unit_test(a_crash_keeps_what_was_acknowledged_and_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
