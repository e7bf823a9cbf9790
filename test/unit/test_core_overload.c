/* SPDX-License-Identifier: Apache-2.0 */
/* Overload: what is refused so that the rest is served in time. See core_world.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core_world.h"
#include "weir/weir.h"

/* A service that sheds what has waited for 200 ms once its queue has stood for 1 s. */
static struct core_service_config shedding(void) {
    struct core_service_config c;
    core_service_defaults(&c);
    c.shed_wait_us = 200 * 1000;
    c.shed_after_us = 1000 * 1000;
    c.full_status = 429;
    return c;
}

static void asks(struct world *w, unsigned times) {
    for (unsigned i = 0; i < times; i++) assert_int_equal(ask_for(w, "GET", "a"), 0);
}

/* ---- shedding ---- */

static void a_burst_is_not_shed(void **state) {
    (void)state;
    struct core_service_config c = shedding();
    struct world *w = world_serving(&c);
    join(w, "a", 1);
    asks(w, 4);
    for (int i = 0; i < 4; i++) { /* they wait for up to 900 ms */
        pass(w, 300);
        finish(w, w->sent);
    }
    says(w, "A>1 B>1 C>1 D>1");
    assert_int_equal(world_stats(w).rejected_overload, 0);
    world_end(w);
}

static void a_standing_queue_is_shed(void **state) {
    (void)state;
    struct core_service_config c = shedding();
    struct world *w = world_serving(&c);
    join(w, "a", 1);
    asks(w, 2); /* B begins to wait */
    pass(w, 900);
    asks(w, 1); /* C */
    pass(w, 150);
    asks(w, 1); /* D */
    finish(w, 'A');
    says(w, "A>1 B!429 C>1"); /* C has waited for 150 ms only */
    pass(w, 60);
    finish(w, 'C');
    says(w, "D>1");
    assert_int_equal(w->requests[1].failure.error, WEIR_EQUEUETIME);
    assert_non_null(w->requests[1].failure.detail);
    assert_string_equal(w->failed_service, "a");
    struct core_stats s = world_stats(w);
    assert_int_equal(s.rejected_overload, 1);
    assert_int_equal(s.rejected_queue_time, 0);
    assert_int_equal(s.failed, 1);
    world_end(w);
}

static void a_queue_that_was_empty_for_a_moment_begins_anew(void **state) {
    (void)state;
    struct core_service_config c = shedding();
    struct world *w = world_serving(&c);
    join(w, "a", 1);
    asks(w, 2);
    pass(w, 900);
    finish(w, 'A'); /* B runs: nothing waits */
    pass(w, 50);
    asks(w, 1); /* C */
    pass(w, 900);
    finish(w, 'B');
    says(w, "A>1 B>1 C>1");
    asks(w, 1); /* D */
    pass(w, 999);
    finish(w, 'C'); /* not for a second */
    says(w, "D>1");
    asks(w, 1); /* E */
    pass(w, 1000);
    finish(w, 'D');
    says(w, "E!429");
    world_end(w);
}

/* Nobody's turn comes: it is refused all the same. */
static void what_waits_is_shed_without_anything_happening(void **state) {
    (void)state;
    struct core_service_config c = shedding();
    struct world *w = world_serving(&c);
    w->now += 500; /* time is not in whole milliseconds */
    join(w, "a", 1);
    asks(w, 2);
    for (int i = 0; i < 11; i++) { /* always one waits, for 100 ms */
        pass(w, 100);
        asks(w, 1);
        finish(w, w->sent);
    }
    says(w, "A>1 B>1 C>1 D>1 E>1 F>1 G>1 H>1 I>1 J>1 K>1 L>1");
    pass(w, 199);
    says(w, "");
    pass(w, 2);
    says(w, "M!429");
    world_end(w);
}

static void every_turn_sheds_what_stands_before_it(void **state) {
    (void)state;
    struct core_service_config c = shedding();
    c.require = SLICE("zone=${x-zone}");
    struct world *w = world_serving(&c);
    struct wish eu = {.service = "a", .method = "GET", .headers = "x-zone=eu"};
    ask(w, eu); /* A, B */
    ask(w, eu);
    asks(w, 2); /* C, D: any will do */
    pass(w, 1500);
    ask(w, eu); /* E */
    asks(w, 1); /* F */
    join_with(w, "zone=eu", "a", 0);
    slots(w, 1, 1);
    says(w, "A!429 B!429 C!429 D!429 E>1");
    finish(w, 'E');
    says(w, "F>1");
    world_end(w);
}

static void what_nobody_can_run_is_no_overload_for_others(void **state) {
    (void)state;
    struct core_service_config c = shedding();
    c.require = SLICE("zone=${x-zone}");
    struct world *w = world_serving(&c);
    struct wish eu = {.service = "a", .method = "GET", .headers = "x-zone=eu"}, as = eu;
    as.headers = "x-zone=as";
    join_with(w, "zone=eu", "a", 1);
    ask(w, as); /* A */
    pass(w, 2000);
    ask(w, eu); /* B */
    ask(w, eu); /* C: its queue has not stood for long */
    pass(w, 300);
    finish(w, 'B');
    says(w, "A!429 B>1 C>1");
    world_end(w);
}

static void without_shed_wait_nothing_is_shed(void **state) {
    (void)state;
    struct core_service_config c = shedding();
    c.shed_wait_us = 0;
    struct world *w = world_serving(&c);
    asks(w, 2);
    pass(w, 20 * 1000);
    join(w, "a", 2);
    says(w, "A>1 B>1");
    world_end(w);
}

static void parts_are_shed_one_by_one(void **state) {
    (void)state;
    struct core_service_config c = shedding();
    struct world *w = world_serving(&c);
    join(w, "top", 1);
    join(w, "a", 1);
    ask_for(w, "GET", "top");
    scatter(w, 'A', 2);
    part(w, 'A', "a");
    part(w, 'A', "a");
    pass(w, 1500);
    finish(w, 'B');
    says(w, "A>1 B>2 C!429");
    assert_true(gather_reply(w, 'A'));
    world_end(w);
}

static void what_was_lost_waits_anew(void **state) {
    (void)state;
    struct core_service_config c = shedding();
    struct world *w = world_serving(&c);
    join(w, "a", 1);
    asks(w, 3);
    pass(w, 900);
    lose(w, 'A');
    slots(w, 1, 0);
    hand_back(w, 'A'); /* its wait goes on from when it was lost, that of B from the beginning */
    pass(w, 150);
    slots(w, 1, 1);
    says(w, "A>1 A>1* B!429 C!429 A>1*");
    finish(w, 'A');
    world_end(w);
}

/* ---- admission by deadline, and Retry-After ---- */

enum { FULL = 20 };
static struct world_message messages[4 * FULL];
static struct requester nobody;

static void fill_to(struct world *w, const char *tenant, size_t queued) {
    struct core_request r = {.requester = &nobody,
                             .service = SLICE("a"),
                             .tenant = slice_of(tenant),
                             .priority = CORE_PRIORITY_DEFAULT};
    while (world_stats(w).queued < queued) {
        struct world_message *m = messages;
        struct failure why;
        uint64_t id;
        while (m->in_core) m++;
        *m = (struct world_message){.in_core = true};
        r.message = m;
        assert_int_equal(core_submit(w->core, w->now, &r, &id, &why), 0);
    }
}

/* Worker 1 takes ten jobs a second from a queue of FULL for a while. */
static struct world *busy(const struct core_service_config *config) {
    struct world *w = world_serving(config);
    memset(messages, 0, sizeof messages);
    join(w, "a", 1);
    for (int i = 0; i < 400; i++) {
        struct core_action a;
        fill_to(w, "x", FULL);
        w->now += 100000;
        core_tick(w->core, w->now);
        assert_true(core_next_action(w->core, &a));
        assert_int_equal(a.kind, CORE_SEND);
        assert_non_null(core_job_answer(w->core, w->now, a.worker, a.job));
        core_job_done(w->core, w->now, a.worker, a.job);
        core_slot_free(w->core, w->now, a.worker, a.job);
    }
    fill_to(w, "x", FULL);
    struct core_action a;
    while (core_next_action(w->core, &a)) assert_int_equal(a.kind, CORE_SEND);
    return w;
}

static void freed(struct world *w) {
    core_free(w->core);
    for (unsigned i = 0; i < 4 * FULL; i++) assert_false(messages[i].in_core);
    for (unsigned i = 0; i < w->message_count; i++) assert_false(w->messages[i].in_core);
}

static struct core_service_config by_deadline(void) {
    struct core_service_config c;
    core_service_defaults(&c);
    c.queue_time_us = 0;
    c.admit_by_deadline = true;
    return c;
}

static void who_cannot_wait_is_refused_at_once(void **state) {
    (void)state;
    struct core_service_config c = by_deadline();
    struct world *w = busy(&c);
    struct wish wish = {.service = "a", .method = "GET", .timeout_ms = 3000, .tenant = "x"};
    assert_int_equal(ask(w, wish), 0);
    wish.timeout_ms = 1000;
    assert_int_equal(ask(w, wish), WEIR_EFULL);
    assert_in_range(w->requests[1].failure.retry_after_s, 2, 3);
    wish.priority = 3; /* before all of them */
    assert_int_equal(ask(w, wish), 0);
    wish.timeout_ms = 0;
    wish.priority = 9;
    assert_int_equal(ask(w, wish), 0);
    wish = (struct wish){.service = "a", .method = "GET", .timeout_ms = 1000, .tenant = "y"};
    assert_int_equal(ask(w, wish), 0); /* its turn comes soon */
    says(w, "B?503");
    assert_int_equal(world_stats(w).rejected_admission, 1);
    freed(w);
}

static void a_free_slot_admits_anybody(void **state) {
    (void)state;
    struct core_service_config c = by_deadline();
    struct world *w = busy(&c);
    struct core_action a;
    core_worker_slots(w->core, w->now, w->workers[1], FULL + 2);
    while (core_next_action(w->core, &a)) assert_int_equal(a.kind, CORE_SEND);
    assert_int_equal(world_stats(w).queued, 0);
    assert_int_equal(ask(w, (struct wish){.service = "a", .method = "GET", .timeout_ms = 1}), 0);
    says(w, "A>1");
    freed(w);
}

static void before_anything_was_measured_all_are_taken(void **state) {
    (void)state;
    struct core_service_config c = by_deadline();
    struct world *w = world_serving(&c);
    struct wish wish = {.service = "a", .method = "GET", .timeout_ms = 1};
    for (int i = 0; i < 9; i++) assert_int_equal(ask(w, wish), 0);
    world_end(w);
}

static void hops_and_parts_are_admitted_by_their_deadline_too(void **state) {
    (void)state;
    struct core_service_config c = by_deadline();
    struct world *w = busy(&c);
    join(w, "top", 9);
    struct wish wish = {.service = "top", .method = "GET", .timeout_ms = 1000, .tenant = "x"};
    ask(w, wish); /* A */
    ask(w, wish); /* B */
    scatter(w, 'A', 2);
    assert_int_equal(part(w, 'A', "a"), WEIR_EFULL);
    assert_in_range(w->requests[2].failure.retry_after_s, 2, 3);
    assert_int_equal(forward(w, 'B', "a"), WEIR_EFULL);
    says(w, "A>2 B>2 C?503 B!503");
    assert_int_equal(world_stats(w).rejected_admission, 2);
    freed(w);
}

static void a_shed_request_is_told_when_to_come_back(void **state) {
    (void)state;
    struct core_service_config c = by_deadline();
    struct world *w = busy(&c);
    c.shed_wait_us = 100 * 1000;
    define(w, "a", &c);
    w->now += 150 * 1000; /* all that wait have waited too long */
    core_worker_slots(w->core, w->now, w->workers[1], 2);
    struct core_action a;
    unsigned shed = 0, longest = 0;
    for (; core_next_action(w->core, &a); shed++) {
        assert_int_equal(a.kind, CORE_FAIL);
        assert_int_equal(a.why.status, 503);
        if (a.why.retry_after_s > longest) longest = a.why.retry_after_s;
        assert_in_range(a.why.retry_after_s, 1, 3);
    }
    assert_int_equal(shed, FULL);
    assert_in_range(longest, 2, 3);
    assert_int_equal(world_stats(w).rejected_overload, FULL);
    freed(w);
}

static void a_full_queue_tells_at_most_half_a_minute(void **state) {
    (void)state;
    struct core_service_config c = by_deadline();
    struct world *w = busy(&c);
    slots(w, 1, 0);
    c.max_queued = FULL;
    c.full_status = 429;
    define(w, "a", &c);
    struct wish wish = {.service = "a", .method = "GET", .tenant = "x"}; /* as all that wait */
    assert_int_equal(ask(w, wish), WEIR_EFULL);
    assert_in_range(w->requests[0].failure.retry_after_s, 2, 3);
    pass(w, 60 * 1000);
    assert_int_equal(ask(w, wish), WEIR_EFULL);
    assert_int_equal(w->requests[1].failure.retry_after_s, 30);
    says(w, "A?429 B?429");
    assert_int_equal(world_stats(w).rejected_full, 2);
    freed(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_burst_is_not_shed),
        cmocka_unit_test(a_standing_queue_is_shed),
        cmocka_unit_test(a_queue_that_was_empty_for_a_moment_begins_anew),
        cmocka_unit_test(what_waits_is_shed_without_anything_happening),
        cmocka_unit_test(every_turn_sheds_what_stands_before_it),
        cmocka_unit_test(what_nobody_can_run_is_no_overload_for_others),
        cmocka_unit_test(without_shed_wait_nothing_is_shed),
        cmocka_unit_test(parts_are_shed_one_by_one),
        cmocka_unit_test(what_was_lost_waits_anew),
        cmocka_unit_test(who_cannot_wait_is_refused_at_once),
        cmocka_unit_test(a_free_slot_admits_anybody),
        cmocka_unit_test(before_anything_was_measured_all_are_taken),
        cmocka_unit_test(hops_and_parts_are_admitted_by_their_deadline_too),
        cmocka_unit_test(a_shed_request_is_told_when_to_come_back),
        cmocka_unit_test(a_full_queue_tells_at_most_half_a_minute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
