/* SPDX-License-Identifier: Apache-2.0 */
/* Queues: who goes first, how many may wait, and what those who may not are told. See core_world.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core_world.h"
#include "weir/weir.h"

/* A world with one service "a" that behaves as config says. */
static struct world *world(const struct core_service_config *config) {
    struct world *w = world_new(NULL);
    assert_non_null(w);
    struct core_config c = world_config(w);
    assert_int_equal(core_service_define(w->core, SLICE("a"), config ? config : &c.service), 0);
    return w;
}

static struct core_service_config defaults(void) {
    struct core_service_config c;
    core_service_defaults(&c);
    return c;
}

/* 0 is asked for as 10: see struct wish. */
static void ask_at(struct world *w, unsigned priority) {
    assert_int_equal(
        ask(w, (struct wish){.service = "a", .method = "GET", .priority = priority ? priority : 10}), 0);
}

static void cancel_all(struct world *w) {
    for (unsigned i = 0; i < w->request_count; i++)
        if (w->requests[i].id) core_cancel(w->core, w->now, w->requests[i].id, CORE_CLIENT_GONE);
    assert_true(core_idle(w->core));
    world_free(w);
}

static void priorities_are_strict_and_fifo_inside(void **state) {
    (void)state;
    struct world *w = world(NULL);
    ask_at(w, 9);
    ask_at(w, 4);
    ask_at(w, 0);
    ask_at(w, 9);
    ask_at(w, 4);
    ask_at(w, 0);
    ask_at(w, 3);
    join(w, "a", 7);
    says(w, "C>1 F>1 G>1 B>1 E>1 A>1 D>1");
    cancel_all(w);
}

static void waiting_moves_up_a_class(void **state) {
    (void)state;
    struct core_service_config c = defaults();
    c.age_us = 1000 * 1000;
    struct world *w = world(&c);
    ask_at(w, 6); /* A */
    pass(w, 1500);
    ask_at(w, 4); /* B: A is of class 5 */
    join(w, "a", 0);
    slots(w, 1, 1);
    says(w, "B>1");
    ask_at(w, 4); /* C */
    pass(w, 600); /* A is of class 4 now, and has waited longer than C */
    finish(w, 'B');
    says(w, "A>1");
    finish(w, 'A');
    says(w, "C>1");
    finish(w, 'C');
    world_free(w);
}

static void a_class_is_never_below_zero(void **state) {
    (void)state;
    struct core_service_config c = defaults();
    c.age_us = 1000;
    struct world *w = world(&c);
    ask_at(w, 9); /* A */
    pass(w, 5);
    ask_at(w, 1); /* B */
    pass(w, 100);
    ask_at(w, 0); /* C: all are of class 0 */
    join(w, "a", 3);
    says(w, "A>1 B>1 C>1");
    cancel_all(w);
}

static void without_age_nobody_moves_up(void **state) {
    (void)state;
    struct core_service_config c = defaults();
    c.age_us = 0;
    c.queue_time_us = 0;
    struct world *w = world(&c);
    ask_at(w, 5);
    pass(w, 3600 * 1000);
    ask_at(w, 4);
    join(w, "a", 2);
    says(w, "B>1 A>1");
    cancel_all(w);
}

static void a_service_takes_so_many_jobs(void **state) {
    (void)state;
    struct core_service_config c = defaults();
    c.max_queued = 2;
    c.full_status = 429;
    struct world *w = world(&c);
    ask_at(w, 4);
    ask_at(w, 4);
    assert_int_equal(ask_for(w, "GET", "a"), WEIR_EFULL);
    says(w, "C?429");
    assert_int_equal(w->requests[2].failure.retry_after_s, 0); /* nothing has ever left: unknown */
    join(w, "a", 1);
    says(w, "A>1");
    assert_int_equal(ask_for(w, "GET", "a"), 0);
    assert_int_equal(ask_for(w, "GET", "a"), WEIR_EFULL);
    says(w, "E?429");
    lose(w, 'A'); /* what was accepted comes back, bound or not */
    says(w, "A>1*");
    leave(w, 1);
    assert_int_equal(world_stats(w).queued, 3);
    assert_int_equal(world_stats(w).rejected_full, 2);
    cancel_all(w);
}

static void nothing_waits_where_nothing_may(void **state) {
    (void)state;
    struct core_service_config c = defaults();
    c.max_queued = 0;
    struct world *w = world(&c);
    assert_int_equal(ask_for(w, "GET", "a"), WEIR_EFULL);
    join(w, "a", 1);
    assert_int_equal(ask_for(w, "GET", "a"), 0);
    assert_int_equal(ask_for(w, "GET", "a"), WEIR_EFULL);
    says(w, "A?503 B>1 C?503");
    w->requests[0].id = w->requests[2].id = 0;
    cancel_all(w);
}

static void a_service_takes_so_many_bytes(void **state) {
    (void)state;
    struct core_service_config c = defaults();
    c.max_queued_bytes = 1000;
    struct world *w = world(&c);
    struct wish wish = {.service = "a", .method = "GET", .bytes = 600};
    assert_int_equal(ask(w, wish), 0);
    assert_int_equal(ask(w, wish), WEIR_EFULL);
    wish.bytes = 400;
    assert_int_equal(ask(w, wish), 0);
    assert_int_equal(world_stats(w).queued_bytes, 1000);
    join(w, "a", 3);
    wish.bytes = 1 << 30; /* it does not wait, so it may be of any size */
    assert_int_equal(ask(w, wish), 0);
    wish.bytes = SIZE_MAX;
    assert_int_equal(ask(w, wish), WEIR_EFULL);
    says(w, "B?503 A>1 C>1 D>1 E?503");
    assert_int_equal(world_stats(w).queued_bytes, 0);
    w->requests[1].id = w->requests[4].id = 0;
    cancel_all(w);
}

static void the_hub_takes_so_many(void **state) {
    (void)state;
    struct world *w = world(NULL);
    struct core_config c = world_config(w);
    c.max_queued = 3;
    c.max_queued_bytes = 500;
    c.service.full_status = 429;
    world_free(w);
    w = world_new(&c);
    assert_int_equal(core_service_define(w->core, SLICE("a"), &c.service), 0);
    assert_int_equal(core_service_define(w->core, SLICE("b"), &c.service), 0);
    struct wish a = {.service = "a", .method = "GET", .bytes = 200}, b = a;
    b.service = "b";
    ask(w, a);
    ask(w, b);
    assert_int_equal(ask(w, a), WEIR_EFULL); /* bytes */
    a.bytes = 100;
    ask(w, a);
    a.bytes = 0;
    assert_int_equal(ask(w, a), WEIR_EFULL); /* jobs */
    says(w, "C?503 E?503");                  /* the hub is full, not the service */
    w->requests[2].id = w->requests[4].id = 0;
    cancel_all(w);
}

enum { FULL = 20 };

/* Submits until it is refused: the queue is full then. */
static void fill(struct world *w, struct world_message *messages, struct failure *ret_why) {
    static struct requester nobody;
    struct core_request r = {.requester = &nobody, .service = SLICE("a")};
    for (;;) {
        struct world_message *m = messages;
        while (m->in_core) m++;
        m->in_core = true;
        r.message = m;
        uint64_t id;
        int err = core_submit(w->core, w->now, &r, &id, ret_why);
        if (err == 0) continue;
        m->in_core = false;
        assert_int_equal(err, WEIR_EFULL);
        assert_int_equal(world_stats(w).queued, FULL);
        return;
    }
}

/* One worker takes a job every 100 ms while the queue is kept full. */
static void retry_after_is_measured(void **state) {
    (void)state;
    struct core_service_config c = defaults();
    c.max_queued = FULL;
    c.queue_time_us = 0;
    struct world *w = world(&c);
    struct world_message messages[FULL + 2] = {0}; /* one runs, one more is refused */
    struct failure why;
    join(w, "a", 1);
    for (int i = 0; i < 400; i++) {
        fill(w, messages, &why);
        if (i == 0) assert_int_equal(why.retry_after_s, 0); /* unknown yet */
        w->now += 100000;
        struct core_action a;
        assert_true(core_next_action(w->core, &a));
        assert_int_equal(a.kind, CORE_SEND);
        assert_non_null(core_job_answer(w->core, w->now, a.worker, a.job));
        core_job_done(w->core, w->now, a.worker, a.job);
        core_slot_free(w->core, w->now, a.worker, a.job);
    }
    fill(w, messages, &why);
    assert_in_range(why.retry_after_s, 2, 3); /* 20 jobs at 10 per second */
    assert_in_range(world_service(w, "a").done_per_s_milli, 9500, 10500);
    /* Nobody takes anything any more: the rate fades, and Retry-After grows up to its bound. */
    core_worker_slots(w->core, w->now, w->workers[1], 0);
    w->now += 60 * 1000 * 1000;
    fill(w, messages, &why);
    assert_int_equal(why.retry_after_s, 30);
    assert_in_range(world_service(w, "a").done_per_s_milli, 0, 500);
    world_free(w);
}

/* Submits until so many are queued. */
static void fill_to(struct world *w, struct world_message *messages, size_t queued) {
    static struct requester nobody;
    struct core_request r = {.requester = &nobody, .service = SLICE("a"), .priority = CORE_PRIORITY_DEFAULT};
    while (world_stats(w).queued < queued) {
        struct world_message *m = messages;
        struct failure why;
        uint64_t id;
        while (m->in_core) m++;
        m->in_core = true;
        r.message = m;
        assert_int_equal(core_submit(w->core, w->now, &r, &id, &why), 0);
    }
}

/* Ten jobs a second leave a queue of 20: who can wait 3 s is taken, who can wait 1 s is not, unless it goes
   before the others. */
static void what_would_be_late_is_refused_at_once(void **state) {
    (void)state;
    for (int on = 0; on <= 1; on++) {
        struct core_service_config c = defaults();
        c.max_queued = FULL + 10;
        c.queue_time_us = 0;
        c.admit_by_deadline = on;
        struct world *w = world(&c);
        struct world_message messages[FULL + 2] = {0};
        struct failure why;
        join(w, "a", 1);
        for (int i = 0; i < 400; i++) {
            struct core_action a;
            fill_to(w, messages, FULL);
            w->now += 100000;
            assert_true(core_next_action(w->core, &a));
            assert_non_null(core_job_answer(w->core, w->now, a.worker, a.job));
            core_job_done(w->core, w->now, a.worker, a.job);
            core_slot_free(w->core, w->now, a.worker, a.job);
        }
        fill_to(w, messages, FULL);
        static const struct {
            unsigned wait_ms, priority;
            bool late;
        } cases[] = {{3000, CORE_PRIORITY_DEFAULT, false},
                     {1000, CORE_PRIORITY_DEFAULT, true},
                     {1000, CORE_PRIORITY_DEFAULT + 1, true},
                     {1000, CORE_PRIORITY_DEFAULT - 1, false},
                     {0, CORE_PRIORITY_DEFAULT, false}};
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
            struct requester nobody = {0};
            struct world_message m = {.in_core = true};
            uint64_t id;
            struct core_request r = {.requester = &nobody,
                                     .message = &m,
                                     .service = SLICE("a"),
                                     .priority = cases[i].priority,
                                     .deadline = cases[i].wait_ms ? w->now + cases[i].wait_ms * 1000 : 0};
            int err = core_submit(w->core, w->now, &r, &id, &why);
            assert_int_equal(err, on && cases[i].late ? WEIR_EFULL : 0);
            if (err == 0)
                core_cancel(w->core, w->now, id, CORE_CLIENT_GONE);
            else
                assert_in_range(why.retry_after_s, 2, 3);
        }
        assert_int_equal(world_stats(w).rejected_admission, on ? 2 : 0);
        world_free(w);
    }
}

static void a_short_queue_is_worth_a_second(void **state) {
    (void)state;
    struct core_service_config c = defaults();
    c.max_queued = 1;
    struct world *w = world(&c);
    join(w, "a", 1);
    for (char i = 'A'; i < 'A' + 10; i++) {
        ask_for(w, "GET", "a");
        if (i > 'A') {
            pass(w, 20);
            finish(w, (char)(i - 1));
        }
    }
    ask_for(w, "GET", "a");
    assert_int_equal(ask_for(w, "GET", "a"), WEIR_EFULL);
    assert_int_equal(w->requests[w->request_count - 1].failure.retry_after_s, 1);
    w->requests[w->request_count - 1].id = 0;
    cancel_all(w);
}

/* Before a queue has been seen to drain, what its workers get done says how fast it will. */
static void a_first_burst_is_told_by_what_was_done_before(void **state) {
    (void)state;
    struct core_service_config c = defaults();
    c.max_queued = 8;
    struct world *w = world(&c);
    join(w, "a", 1);
    for (char i = 'A'; i < 'A' + 10; i++) { /* 4 per second, none of which waits */
        ask_for(w, "GET", "a");
        pass(w, 250);
        finish(w, i);
    }
    for (int i = 0; i < 9; i++) assert_int_equal(ask_for(w, "GET", "a"), 0);
    assert_int_equal(ask_for(w, "GET", "a"), WEIR_EFULL);
    assert_int_equal(w->requests[w->request_count - 1].failure.retry_after_s, 2);
    w->requests[w->request_count - 1].id = 0;
    cancel_all(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(priorities_are_strict_and_fifo_inside),
        cmocka_unit_test(waiting_moves_up_a_class),
        cmocka_unit_test(a_class_is_never_below_zero),
        cmocka_unit_test(without_age_nobody_moves_up),
        cmocka_unit_test(a_service_takes_so_many_jobs),
        cmocka_unit_test(nothing_waits_where_nothing_may),
        cmocka_unit_test(a_service_takes_so_many_bytes),
        cmocka_unit_test(the_hub_takes_so_many),
        cmocka_unit_test(retry_after_is_measured),
        cmocka_unit_test(what_would_be_late_is_refused_at_once),
        cmocka_unit_test(a_short_queue_is_worth_a_second),
        cmocka_unit_test(a_first_burst_is_told_by_what_was_done_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
