/* SPDX-License-Identifier: Apache-2.0 */
/* wire/body.h: order, wakes, limits, replays; at the end a long random walk against a plain array. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"
#include "weir/weir.h"
#include "wire/body.h"
#include <stdlib.h>

struct seen {
    struct body *body;
    unsigned calls;
    size_t bytes;
};

static void count_wake(void *ctx, size_t n) {
    struct seen *s = ctx;
    s->calls++;
    s->bytes += n;
}

static void read_is(struct body *b, const char *text) {
    size_t n = strlen(text);
    char *got = malloc(n + 1);
    assert_int_equal(body_read(b, got, n + 1), n);
    assert_memory_equal(got, text, n);
    free(got);
}

static void bytes_come_in_order(void **state) {
    (void)state;
    struct body *b = body_new(10, 0);
    assert_int_equal(body_peek(b).n, 0);
    assert_int_equal(body_room(b), 10);
    assert_int_equal(body_write(b, "hello", 5), 0);
    assert_int_equal(body_write(b, ", ", 2), 0);
    assert_int_equal(body_write(b, NULL, 0), 0);
    assert_int_equal(body_room(b), 3);
    assert_int_equal(body_write(b, "world!", 6), 0); /* over high is taken */
    assert_int_equal(body_room(b), 0);
    assert_int_equal(body_queued(b), 13);
    struct slice s = body_peek(b);
    assert_true(s.n >= 1 && s.p[0] == 'h');
    body_consume(b, 1);
    assert_true(body_peek(b).p == s.p + 1);
    body_consume(b, 0);
    read_is(b, "ello, world!");
    assert_int_equal(body_queued(b), 0);
    assert_int_equal(body_passed(b), 13);
    assert_int_equal(body_room(b), 10);
    assert_false(body_finished(b));
    assert_int_equal(body_write(b, "x", 1), 0);
    body_end(b);
    body_end(b);
    assert_true(body_ended(b) && !body_finished(b));
    assert_int_equal(body_write(b, "y", 1), WEIR_ESTATE);
    read_is(b, "x");
    assert_true(body_finished(b));
    body_unref(b);
    body_unref(NULL);
}

static void both_sides_are_woken(void **state) {
    (void)state;
    struct body *b = body_new(100, 0);
    struct seen producer = {0}, consumer = {0};
    body_producer(b, (struct body_side){count_wake, &producer});
    body_consumer(b, (struct body_side){count_wake, &consumer});
    assert_int_equal(body_write(b, "abcdef", 6), 0);
    assert_int_equal(consumer.calls, 1);
    assert_int_equal(producer.calls, 0);
    body_consume(b, 2);
    assert_int_equal(producer.calls, 1);
    assert_int_equal(producer.bytes, 2);
    read_is(b, "cdef");
    assert_int_equal(producer.calls, 2);
    assert_int_equal(producer.bytes, 6);
    char none;
    assert_int_equal(body_read(b, &none, 1), 0);
    assert_int_equal(producer.calls, 2);
    body_end(b);
    assert_int_equal(consumer.calls, 2);
    assert_int_equal(consumer.bytes, 0);
    body_end(b);
    body_abort(b, WEIR_ECUT);
    assert_int_equal(consumer.calls, 2);
    assert_int_equal(body_error(b), 0); /* it had ended */
    body_producer(b, (struct body_side){0});
    body_abandon(b);
    assert_int_equal(producer.calls, 2);
    body_unref(b);
}

static void an_abort(void **state) {
    (void)state;
    struct body *b = body_new(100, 0);
    struct seen consumer = {0};
    body_consumer(b, (struct body_side){count_wake, &consumer});
    assert_int_equal(body_write(b, "ab", 2), 0);
    body_abort(b, WEIR_ECUT);
    assert_int_equal(consumer.calls, 2);
    assert_int_equal(body_error(b), WEIR_ECUT);
    body_abort(b, WEIR_ESLOW);
    body_end(b);
    assert_int_equal(consumer.calls, 2);
    assert_int_equal(body_error(b), WEIR_ECUT);
    assert_int_equal(body_write(b, "c", 1), WEIR_ESTATE);
    assert_false(body_ended(b) || body_finished(b));
    read_is(b, "ab");
    body_unref(b);
}

static void an_abandon(void **state) {
    (void)state;
    struct body *b = body_new(100, 1000);
    struct seen producer = {0}, consumer = {0};
    size_t empty = body_held(b);
    body_producer(b, (struct body_side){count_wake, &producer});
    body_consumer(b, (struct body_side){count_wake, &consumer});
    assert_int_equal(body_write(b, "ab", 2), 0);
    assert_true(body_held(b) > empty);
    body_abandon(b);
    assert_true(body_abandoned(b));
    assert_int_equal(body_held(b), empty);
    assert_int_equal(producer.calls, 1);
    assert_int_equal(producer.bytes, 0);
    body_abandon(b);
    assert_int_equal(producer.calls, 1);
    assert_int_equal(body_write(b, "c", 1), WEIR_ESTATE);
    assert_int_equal(body_peek(b).n, 0);
    assert_int_equal(body_queued(b), 0);
    assert_false(body_replayable(b));
    body_end(b);
    assert_int_equal(consumer.calls, 1); /* the write; nothing after it left */
    body_unref(b);
}

static void a_whole_body(void **state) {
    (void)state;
    struct body *b = body_whole(SLICE("all of it"), 100), *empty = body_whole((struct slice){0}, 0);
    assert_true(body_ended(b) && !body_finished(b) && body_ended(empty) && body_finished(empty));
    assert_int_equal(body_write(b, "x", 1), WEIR_ESTATE);
    read_is(b, "all of it");
    assert_true(body_finished(b) && body_replayable(b));
    body_unref(b);
    body_unref(empty);
}

static void a_consumer_leaves(void **state) {
    (void)state;
    struct body *b = body_new(100, 1000), *mine = body_ref(b), *none = NULL;
    struct seen producer = {0}, consumer = {0};
    body_producer(b, (struct body_side){count_wake, &producer});
    body_consumer(mine, (struct body_side){count_wake, &consumer});
    body_leave(&mine);
    body_leave(&mine);
    body_leave(&none);
    assert_null(mine);
    assert_true(body_abandoned(b));
    assert_int_equal(producer.calls, 1);
    body_end(b);
    assert_int_equal(consumer.calls, 0);
    body_unref(b);
}

static void a_kept_body_is_replayed(void **state) {
    (void)state;
    struct body *b = body_new(100, 10);
    struct seen consumer = {0};
    body_consumer(b, (struct body_side){count_wake, &consumer});
    assert_int_equal(body_write(b, "hello", 5), 0);
    read_is(b, "hello");
    assert_true(body_replayable(b));
    body_rewind(b);
    assert_int_equal(body_queued(b), 5);
    assert_int_equal(body_write(b, "again", 5), 0);
    assert_int_equal(consumer.calls, 1); /* cleared by the rewind */
    body_end(b);
    read_is(b, "helloagain");
    assert_true(body_finished(b) && body_replayable(b));
    body_rewind(b);
    assert_false(body_finished(b));
    read_is(b, "helloagain");
    size_t held = body_held(b);
    body_forget(b);
    assert_true(body_held(b) < held);
    assert_false(body_replayable(b));
    body_unref(b);
}

static void over_keep_it_is_not(void **state) {
    (void)state;
    struct body *b = body_new(100, 10);
    size_t empty = body_held(b);
    assert_int_equal(body_write(b, "0123456789", 10), 0);
    read_is(b, "0123456789");
    assert_true(body_replayable(b));
    assert_int_equal(body_write(b, "x", 1), 0);
    assert_false(body_replayable(b));
    read_is(b, "x");
    assert_int_equal(body_held(b), empty);
    assert_int_equal(body_write(b, "yz", 2), 0);
    read_is(b, "yz");
    assert_int_equal(body_held(b), empty);
    body_unref(b);

    b = body_new(100, 0); /* nothing read yet: all of it is there */
    assert_int_equal(body_write(b, "ab", 2), 0);
    assert_true(body_replayable(b));
    body_rewind(b);
    body_consume(b, 1);
    assert_false(body_replayable(b));
    body_forget(b);
    read_is(b, "b");
    body_unref(b);
}

static void memory_follows_what_is_queued(void **state) {
    (void)state;
    enum { SIZE = 1 << 20 };
    char *bytes = malloc(SIZE);
    memset(bytes, 'x', SIZE);
    struct body *b = body_new(SIZE, 0);
    size_t empty = body_held(b);
    assert_int_equal(body_write(b, bytes, 10), 0);
    assert_true(body_held(b) - empty < 64); /* small bodies are small */
    assert_int_equal(body_write(b, bytes, SIZE), 0);
    assert_true(body_held(b) - empty < SIZE + SIZE / 50);
    while (body_queued(b) > 0) {
        struct slice s = body_peek(b);
        assert_true(s.n > 0 && s.n <= 16384);
        body_consume(b, s.n);
        assert_true(body_held(b) - empty <= body_queued(b) + body_queued(b) / 50 + 16384 + 64);
    }
    assert_int_equal(body_held(b), empty);
    for (unsigned i = 0; i < 100000; i++) assert_int_equal(body_write(b, bytes, 1), 0);
    assert_true(body_held(b) - empty < 100000 + 2 * 16384);
    body_unref(b);
    free(bytes);
}

/* A consumer that reads inside its wake, and a producer that writes on inside its own. */
static void consume_at_once(void *ctx, size_t n) {
    (void)n;
    struct seen *s = ctx;
    s->calls++;
    for (struct slice next; (next = body_peek(s->body)).n > 0;) body_consume(s->body, next.n);
}

static void produce_more(void *ctx, size_t n) {
    struct seen *s = ctx;
    s->bytes += n;
    if (s->calls++ < 20)
        assert_int_equal(body_write(s->body, "more", 4), 0);
    else if (s->calls == 21)
        body_end(s->body);
}

static void wakes_may_call_back(void **state) {
    (void)state;
    struct body *b = body_new(100, 0);
    struct seen producer = {.body = b}, consumer = {.body = b};
    body_producer(b, (struct body_side){produce_more, &producer});
    body_consumer(b, (struct body_side){consume_at_once, &consumer});
    assert_int_equal(body_write(b, "some", 4), 0);
    assert_true(body_finished(b));
    assert_int_equal(body_passed(b), 84);
    assert_int_equal(producer.bytes, 84);
    body_unref(b);
}

static void abandon_in_wake(void *ctx, size_t n) {
    (void)n;
    struct seen *s = ctx;
    s->calls++;
    body_abandon(s->body);
    body_unref(s->body); /* the consumer's reference; the producer holds one yet */
}

static void a_wake_may_leave(void **state) {
    (void)state;
    struct body *b = body_new(100, 50);
    struct seen consumer = {.body = body_ref(b)};
    body_consumer(b, (struct body_side){abandon_in_wake, &consumer});
    assert_int_equal(body_write(b, "some", 4), 0);
    assert_int_equal(consumer.calls, 1);
    assert_int_equal(body_write(b, "more", 4), WEIR_ESTATE);
    assert_int_equal(body_queued(b), 0);
    body_unref(b);
}

static char byte_at(uint64_t place) {
    return (char)(place * 131 >> 3);
}

static void walk(struct random *r, size_t keep) {
    struct body *b = body_new(20000, keep);
    static char bytes[40000];
    uint64_t written = 0, consumed = 0;
    for (unsigned i = 0; i < 400; i++) {
        size_t n = (size_t)random_below(r, random_below(r, 4) ? 50 : 40000);
        switch (random_below(r, 5)) {
        case 0:
        case 1:
            for (size_t k = 0; k < n; k++) bytes[k] = byte_at(written + k);
            assert_int_equal(body_write(b, bytes, n), 0);
            written += n;
            break;
        case 2:
            n = body_read(b, bytes, n);
            for (size_t k = 0; k < n; k++) assert_int_equal(bytes[k], byte_at(consumed + k));
            consumed += n;
            break;
        case 3: {
            struct slice s = body_peek(b);
            assert_int_equal(s.n > 0, written > consumed);
            if (n > s.n) n = s.n;
            for (size_t k = 0; k < n; k++) assert_int_equal(s.p[k], byte_at(consumed + k));
            body_consume(b, n);
            consumed += n;
            break;
        }
        default:
            if (!body_replayable(b)) break;
            body_rewind(b);
            consumed = 0;
        }
        assert_int_equal(body_queued(b), written - consumed);
        assert_int_equal(body_passed(b), written);
        if (written <= keep) assert_true(body_replayable(b));
        if (written > keep && consumed > 0) assert_false(body_replayable(b));
    }
    body_unref(b);
}

static void a_random_walk(void **state) {
    (void)state;
    struct random r;
    random_seed(&r, 42);
    for (unsigned i = 0; i < 200; i++) walk(&r, (size_t[]){0, 100, 30000, 1 << 20}[i % 4]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_come_in_order),
        cmocka_unit_test(both_sides_are_woken),
        cmocka_unit_test(an_abort),
        cmocka_unit_test(an_abandon),
        cmocka_unit_test(a_whole_body),
        cmocka_unit_test(a_consumer_leaves),
        cmocka_unit_test(a_kept_body_is_replayed),
        cmocka_unit_test(over_keep_it_is_not),
        cmocka_unit_test(memory_follows_what_is_queued),
        cmocka_unit_test(wakes_may_call_back),
        cmocka_unit_test(a_wake_may_leave),
        cmocka_unit_test(a_random_walk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
