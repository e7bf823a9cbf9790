/* SPDX-License-Identifier: Apache-2.0 */
/* Stories of what a core does when things happen to requests, in coarse traces (see core_world.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core_world.h"
#include "weir/weir.h"

static struct world *world(void) {
    struct world *w = world_new(NULL);
    assert_non_null(w);
    return w;
}

/* Nothing is left behind. */
static void over(struct world *w) {
    struct core_stats s = world_stats(w);
    assert_true(core_idle(w->core));
    assert_int_equal(s.requests + s.queued + s.queued_bytes + s.running + s.leaving, 0);
    world_free(w);
}

static void a_request_is_answered(void **state) {
    (void)state;
    struct world *w = world();
    join(w, "a", 1);
    ask_for(w, "GET", "a");
    says(w, "A>1");
    ask_for(w, "GET", "a");
    ask_for(w, "POST", "a");
    says(w, "");
    assert_true(answer(w, 'A'));
    done(w, 'A');
    says(w, ""); /* the slot is busy until the worker's side has ended */
    assert_int_equal(world_stats(w).leaving, 1);
    slot_free(w, 'A');
    says(w, "B>1");
    finish(w, 'B');
    says(w, "C>1");
    finish(w, 'C');
    struct core_stats s = world_stats(w);
    assert_int_equal(s.submitted, 3);
    assert_int_equal(s.done, 3);
    assert_int_equal(s.dispatched, 3);
    assert_int_equal(s.late, 0);
    over(w);
}

static void requests_wait_for_a_worker(void **state) {
    (void)state;
    struct world *w = world();
    assert_int_equal(ask_for(w, "GET", "a"), WEIR_ENOSERVICE);
    says(w, "A?404");
    struct core_config c = world_config(w);
    assert_int_equal(core_service_define(w->core, SLICE("a"), &c.service), 0);
    ask_for(w, "GET", "a");
    ask_for(w, "GET", "a");
    says(w, "");
    join(w, "a", 2);
    says(w, "B>1 C>1");
    finish(w, 'B');
    finish(w, 'C');
    over(w);
}

static void a_worker_dies(void **state) {
    (void)state;
    struct world *w = world();
    join(w, "a", 3);
    ask_for(w, "GET", "a");
    ask_for(w, "POST", "a");
    ask_for(w, "GET", "a");
    says(w, "A>1 B>1 C>1");
    answer(w, 'C');
    join(w, "a", 1);
    leave(w, 1);
    says(w, "B!502 A>2*"); /* GET runs elsewhere, POST fails; the begun reply is cut by its body */
    assert_int_equal(w->requests[0].attempt, 2);
    assert_int_equal(w->requests[1].failure.error, WEIR_EWORKERGONE);
    finish(w, 'A');
    struct core_stats s = world_stats(w);
    assert_int_equal(s.lost, 3);
    assert_int_equal(s.retried, 1);
    assert_int_equal(s.failed, 2);
    assert_int_equal(s.workers, 1);
    over(w);
}

static void retried_jobs_keep_their_order_before_others(void **state) {
    (void)state;
    struct world *w = world();
    join(w, "a", 3);
    for (int i = 0; i < 5; i++) ask_for(w, "GET", "a");
    says(w, "A>1 B>1 C>1");
    leave(w, 1);
    says(w, "");
    join(w, "a", 5);
    says(w, "A>2* B>2* C>2* D>2 E>2");
    for (char c = 'A'; c <= 'E'; c++) finish(w, c);
    over(w);
}

static void attempts_are_limited(void **state) {
    (void)state;
    struct world *w = world();
    for (unsigned i = 1; i <= 3; i++) join(w, "a", 1);
    ask_for(w, "GET", "a");
    says(w, "A>1");
    lose(w, 'A');
    says(w, "A>2*");
    leave(w, 2);
    says(w, "A>3*");
    assert_int_equal(w->requests[0].attempt, 3);
    lose(w, 'A');
    says(w, "A!502");
    over(w);
}

static void what_cannot_be_sent_again_is_not_retried(void **state) {
    (void)state;
    struct world *w = world();
    join(w, "a", 2);
    ask(w, (struct wish){.service = "a", .method = "PUT", .unreplayable = true});
    ask(w, (struct wish){.service = "a", .method = "PUT", .unreplayable = true});
    says(w, "A>1 B>1");
    lose(w, 'A');
    says(w, "A!502");
    hand_back(w, 'B');
    says(w, "B!503");
    over(w);
}

static void retry_always(void **state) {
    (void)state;
    struct world *w = world();
    struct core_config c = world_config(w);
    c.service.retry_always = true;
    assert_int_equal(core_service_define(w->core, SLICE("a"), &c.service), 0);
    join(w, "a", 1);
    ask_for(w, "POST", "a");
    lose(w, 'A');
    says(w, "A>1 A>1*");
    finish(w, 'A');
    over(w);
}

static void a_late_answer_is_dropped(void **state) {
    (void)state;
    struct world *w = world();
    join(w, "a", 1);
    ask_for(w, "GET", "a");
    struct world_request first = w->requests[0];
    lose(w, 'A');
    says(w, "A>1 A>1*");
    /* The first attempt speaks up: same worker, but another job. */
    assert_null(core_job_answer(w->core, w->now, first.worker, first.job));
    core_job_done(w->core, w->now, first.worker, first.job);
    core_slot_free(w->core, w->now, first.worker, first.job);
    assert_int_equal(core_job_forward(w->core, w->now, first.worker, first.job,
                                      &(struct core_hop){SLICE("a"), &first, 1, 0}),
                     WEIR_ESTATE);
    assert_int_equal(world_stats(w).late, 4);
    assert_true(answer(w, 'A'));
    assert_false(answer(w, 'A')); /* twice */
    done(w, 'A');
    done(w, 'A');
    slot_free(w, 'A');
    slot_free(w, 'A');
    assert_int_equal(world_stats(w).late, 7);
    over(w);
}

static void nobody_answers_for_another(void **state) {
    (void)state;
    struct world *w = world();
    join(w, "a", 1);
    join(w, "a", 1);
    ask_for(w, "GET", "a");
    ask_for(w, "GET", "a");
    says(w, "A>1 B>2");
    assert_null(core_job_answer(w->core, w->now, w->workers[2], w->requests[0].job));
    core_job_lost(w->core, w->now, w->workers[2], w->requests[0].job);
    core_job_handed_back(w->core, w->now, w->workers[2], w->requests[0].job);
    core_job_fail(w->core, w->now, w->workers[2], w->requests[0].job,
                  &(struct failure){.error = WEIR_EBADANSWER});
    core_job_started(w->core, w->now, 0, w->requests[0].job);
    assert_int_equal(world_stats(w).late, 5);
    finish(w, 'A');
    finish(w, 'B');
    over(w);
}

static void a_client_leaves(void **state) {
    (void)state;
    struct world *w = world();
    join(w, "a", 2);
    for (int i = 0; i < 4; i++) ask_for(w, "GET", "a");
    says(w, "A>1 B>1");
    answer(w, 'B');
    give_up(w, 'C'); /* queued: nobody has to know */
    says(w, "");
    give_up(w, 'A');
    says(w, "A/1:gone");
    give_up(w, 'B');
    says(w, "B/1:gone");
    give_up(w, 'B'); /* ended: without effect */
    says(w, "");
    assert_false(answer(w, 'A')); /* too late */
    assert_int_equal(world_stats(w).leaving, 2);
    slot_free(w, 'B');
    says(w, "D>1");
    slot_free(w, 'A');
    finish(w, 'D');
    struct core_stats s = world_stats(w);
    for (int p = 0; p < CORE_PHASES; p++) assert_int_equal(s.cancelled[p][CORE_CLIENT_GONE], 1);
    over(w);
}

static void a_send_that_nobody_saw_is_undone(void **state) {
    (void)state;
    struct world *w = world();
    join(w, "a", 1);
    struct world_message m = {.in_core = true}, m2 = m;
    struct core_request r = {.message = &m, .service = SLICE("a")};
    struct failure why;
    uint64_t id, id2;
    assert_int_equal(core_submit(w->core, w->now, &r, &id, &why), 0);
    r.message = &m2;
    assert_int_equal(core_submit(w->core, w->now, &r, &id2, &why), 0);
    core_cancel(w->core, w->now, id, CORE_CLIENT_GONE);
    assert_false(m.in_core);
    /* The slot went to the second, whose worker goes away before it hears of it: POST or not, it waits. */
    assert_int_equal(world_stats(w).running, 1);
    core_worker_gone(w->core, w->now, w->workers[1]);
    struct core_action a;
    assert_false(core_next_action(w->core, &a));
    assert_int_equal(world_stats(w).queued, 1);
    assert_int_equal(world_stats(w).dispatched, 0);
    assert_int_equal(world_stats(w).lost, 0);
    join(w, "a", 0);
    core_worker_slots(w->core, w->now, w->workers[2], 1);
    assert_true(core_next_action(w->core, &a));
    assert_int_equal(a.kind, CORE_SEND);
    assert_int_equal(a.attempt, 1);
    assert_false(a.resend);
    core_cancel(w->core, w->now, id2, CORE_DELETED);
    assert_true(core_next_action(w->core, &a));
    assert_int_equal(a.kind, CORE_CANCEL);
    assert_int_equal(a.cause, CORE_DELETED);
    core_slot_free(w->core, w->now, w->workers[2], a.job);
    over(w);
}

static void a_failure_that_nobody_heard_is_withdrawn(void **state) {
    (void)state;
    struct world *w = world();
    join(w, "a", 1);
    ask_for(w, "POST", "a");
    says(w, "A>1");
    core_job_lost(w->core, w->now, w->requests[0].worker, w->requests[0].job);
    give_up(w, 'A');
    says(w, "");
    over(w);
}

static void deadlines_pass(void **state) {
    (void)state;
    struct world *w = world();
    join(w, "a", 2);
    for (int i = 0; i < 3; i++) ask(w, (struct wish){.service = "a", .method = "GET", .timeout_ms = 1000});
    says(w, "A>1 B>1");
    assert_int_equal(w->requests[0].deadline, w->now + 1000000);
    answer(w, 'B');
    pass(w, 999);
    says(w, "");
    pass(w, 2);
    says(w, "A/1:deadline A!504 C!504");
    pass(w, 3600 * 1000); /* a reply that has begun may take its time */
    says(w, "");
    done(w, 'B');
    slot_free(w, 'B');
    slot_free(w, 'A');
    assert_int_equal(world_stats(w).rejected_deadline, 2);
    assert_int_equal(world_stats(w).cancelled[CORE_PHASE_RUNNING][CORE_DEADLINE], 1);
    assert_int_equal(world_stats(w).cancelled[CORE_PHASE_QUEUED][CORE_DEADLINE], 1);
    over(w);
}

static void a_deadline_comes_before_what_comes_after_it(void **state) {
    (void)state;
    struct world *w = world();
    join(w, "a", 1);
    ask(w, (struct wish){.service = "a", .method = "GET", .timeout_ms = 1000});
    w->now += 1000 * 1000;
    assert_false(answer(w, 'A')); /* no tick in between */
    says(w, "A>1 A/1:deadline A!504");
    struct core_request late = {.service = SLICE("a"), .deadline = w->now};
    uint64_t id;
    struct failure why;
    assert_int_equal(core_submit(w->core, w->now, &late, &id, &why), WEIR_EDEADLINE);
    slot_free(w, 'A');
    over(w);
}

static void queue_time_passes(void **state) {
    (void)state;
    struct world *w = world();
    join(w, "a", 1);
    ask_for(w, "GET", "a");
    ask_for(w, "GET", "a");
    ask(w, (struct wish){.service = "a", .method = "GET", .timeout_ms = 40000});
    pass(w, 29999);
    says(w, "A>1");
    finish(w, 'A');
    says(w, "B>1");
    pass(w, 2);
    says(w, "C!503");
    assert_int_equal(w->requests[2].failure.error, WEIR_EQUEUETIME);
    pass(w, 100000); /* running has no queue time */
    says(w, "");
    assert_int_equal(core_next_time(w->core), UINT64_MAX);
    finish(w, 'B');
    over(w);
}

static void a_retry_waits_anew_but_a_job_handed_back_does_not(void **state) {
    (void)state;
    struct world *w = world();
    join(w, "a", 2);
    ask_for(w, "GET", "a");
    pass(w, 40000);
    lose(w, 'A');
    says(w, "A>1 A>1*");
    hand_back(w, 'A');
    slots(w, 1, 0);
    says(w, "");
    pass(w, 29000);
    says(w, "");
    pass(w, 1001);
    says(w, "A!503");
    over(w);
}

static void a_job_is_handed_back(void **state) {
    (void)state;
    struct world *w = world();
    join(w, "a", 2);
    ask_for(w, "POST", "a");
    ask_for(w, "POST", "a");
    hand_back(w, 'A');
    says(w, "A>1 B>1"); /* it does not bounce */
    join(w, "a", 1);
    says(w, "A>2*"); /* safe elsewhere, whatever the method */
    assert_int_equal(w->requests[0].attempt, 1);
    ask_for(w, "GET", "a");
    says(w, "");
    pass(w, 99);
    says(w, "");
    pass(w, 1);
    says(w, "C>1"); /* the worker is asked again after a while */
    hand_back(w, 'C');
    says(w, "");
    slots(w, 1, 2);
    says(w, "C>1*"); /* or when it speaks of slots */
    hand_back(w, 'C');
    says(w, "");
    finish(w, 'B');
    says(w, "C>1*"); /* or when another job of its ends */
    finish(w, 'C');
    finish(w, 'A');
    assert_int_equal(world_stats(w).handed_back, 3);
    assert_int_equal(world_stats(w).retried, 0);
    over(w);
}

static void stages(void **state) {
    (void)state;
    struct world *w = world();
    join(w, "parse", 1);
    join(w, "divide", 1);
    ask(w, (struct wish){.service = "parse", .method = "POST", .timeout_ms = 5000});
    assert_int_equal(forward(w, 'A', "divide"), 0);
    says(w, "A>1 A>2");
    assert_int_equal(w->requests[0].hop, 1);
    assert_int_equal(w->requests[0].attempt, 1);
    assert_int_not_equal(w->requests[0].deadline, 0);
    finish(w, 'A');
    assert_int_equal(world_service(w, "parse").done, 1);
    assert_int_equal(world_service(w, "divide").done, 1);
    over(w);
}

static void again_goes_to_the_tail(void **state) {
    (void)state;
    struct world *w = world();
    join(w, "a", 1);
    ask_for(w, "GET", "a");
    ask_for(w, "GET", "a");
    forward(w, 'A', "a");
    forward(w, 'B', "a");
    forward(w, 'A', "a");
    says(w, "A>1 B>1 A>1 B>1");
    finish(w, 'B');
    says(w, "A>1");
    finish(w, 'A');
    over(w);
}

static void forwards_go_wrong(void **state) {
    (void)state;
    struct world *w = world();
    struct core_config c = world_config(w);
    c.max_hops = 2;
    world_free(w);
    w = world_new(&c);
    join(w, "a", 1);
    c.service.max_queued = 1;
    c.service.full_status = 429;
    assert_int_equal(core_service_define(w->core, SLICE("full"), &c.service), 0);
    ask_for(w, "GET", "full");
    ask_for(w, "GET", "a");
    assert_int_equal(forward(w, 'B', "full"), WEIR_EFULL);
    says(w, "B>1 B!429");
    ask_for(w, "GET", "a");
    assert_int_equal(forward(w, 'C', "nowhere"), WEIR_ENOSERVICE);
    says(w, "C>1 C!502");
    assert_string_equal(w->failed_service, "nowhere");
    ask_for(w, "GET", "a");
    assert_int_equal(forward(w, 'D', "a"), 0);
    assert_int_equal(forward(w, 'D', "a"), 0);
    assert_int_equal(w->requests[3].hop, 2);
    assert_int_equal(forward(w, 'D', "a"), WEIR_EHOPS);
    says(w, "D>1 D>1 D>1 D!508");
    give_up(w, 'A');
    over(w);
}

static void nonsense_is_a_502(void **state) {
    (void)state;
    struct world *w = world();
    join(w, "a", 1);
    ask_for(w, "GET", "a");
    core_job_fail(w->core, w->now, w->requests[0].worker, w->requests[0].job,
                  &(struct failure){.error = WEIR_EBADANSWER});
    act(w);
    says(w, "A>1 A!502"); /* not retried */
    ask_for(w, "GET", "a");
    says(w, ""); /* the slot is still busy */
    slot_free(w, 'A');
    says(w, "B>1");
    answer(w, 'B');
    core_job_fail(w->core, w->now, w->requests[1].worker, w->requests[1].job,
                  &(struct failure){.error = WEIR_EBADANSWER});
    act(w);
    says(w, ""); /* the reply had begun */
    slot_free(w, 'B');
    assert_int_equal(world_stats(w).bad_answers, 2);
    over(w);
}

static void a_worker_drains(void **state) {
    (void)state;
    struct world *w = world();
    join(w, "a", 2);
    ask_for(w, "GET", "a");
    core_worker_drain(w->core, w->now, w->workers[1]);
    ask_for(w, "GET", "a");
    says(w, "A>1");
    assert_int_equal(world_stats(w).slots, 0);
    slots(w, 1, 5);
    says(w, "");
    finish(w, 'A');
    leave(w, 1);
    join(w, "a", 1);
    says(w, "B>2");
    finish(w, 'B');
    over(w);
}

static void the_hub_drains(void **state) {
    (void)state;
    struct world *w = world();
    join(w, "a", 2);
    for (int i = 0; i < 3; i++) ask_for(w, "GET", "a");
    answer(w, 'A');
    core_drain(w->core, w->now);
    assert_int_equal(ask_for(w, "GET", "a"), WEIR_EDRAINING);
    says(w, "A>1 B>1 D?503");
    assert_int_equal(join(w, "a", 1), WEIR_EDRAINING);
    assert_int_equal(forward(w, 'B', "a"), 0); /* what is there goes on */
    says(w, "C>1");
    assert_false(core_idle(w->core));
    core_drain_over(w->core, w->now);
    act(w);
    says(w, "A/1:drain A~ B!503 C/1:drain C!503");
    slot_free(w, 'A');
    slot_free(w, 'C');
    over(w);
}

static void a_core_is_freed_in_the_midst(void **state) {
    (void)state;
    struct world *w = world();
    join(w, "a", 2);
    for (int i = 0; i < 5; i++) ask_for(w, "POST", "a");
    answer(w, 'A');
    lose(w, 'B');
    give_up(w, 'A');
    core_job_lost(w->core, w->now, w->requests[2].worker, w->requests[2].job);
    world_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_answered),
        cmocka_unit_test(requests_wait_for_a_worker),
        cmocka_unit_test(a_worker_dies),
        cmocka_unit_test(retried_jobs_keep_their_order_before_others),
        cmocka_unit_test(attempts_are_limited),
        cmocka_unit_test(what_cannot_be_sent_again_is_not_retried),
        cmocka_unit_test(retry_always),
        cmocka_unit_test(a_late_answer_is_dropped),
        cmocka_unit_test(nobody_answers_for_another),
        cmocka_unit_test(a_client_leaves),
        cmocka_unit_test(a_send_that_nobody_saw_is_undone),
        cmocka_unit_test(a_failure_that_nobody_heard_is_withdrawn),
        cmocka_unit_test(deadlines_pass),
        cmocka_unit_test(a_deadline_comes_before_what_comes_after_it),
        cmocka_unit_test(queue_time_passes),
        cmocka_unit_test(a_retry_waits_anew_but_a_job_handed_back_does_not),
        cmocka_unit_test(a_job_is_handed_back),
        cmocka_unit_test(stages),
        cmocka_unit_test(again_goes_to_the_tail),
        cmocka_unit_test(forwards_go_wrong),
        cmocka_unit_test(nonsense_is_a_502),
        cmocka_unit_test(a_worker_drains),
        cmocka_unit_test(the_hub_drains),
        cmocka_unit_test(a_core_is_freed_in_the_midst),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
