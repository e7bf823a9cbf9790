/* SPDX-License-Identifier: Apache-2.0 */
/* Scatter and gather: requests that wait for their parts, and all the ways in which either ends. See
   core_world.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core_world.h"
#include "weir/weir.h"

/* Requests come to "top", whose worker 1 scatters them; parts go to "sub", whose worker is 2. */
static struct world *world(unsigned slots_of_2) {
    struct world *w = world_new(NULL);
    assert_non_null(w);
    join(w, "top", 5);
    join(w, "sub", slots_of_2);
    return w;
}

/* Request A, scattered into so many parts, B and so on. */
static struct world *scattered(unsigned parts, unsigned slots_of_2) {
    struct world *w = world(slots_of_2);
    ask_for(w, "GET", "top");
    assert_int_equal(scatter(w, 'A', parts + 3), 0); /* some stories submit more */
    says(w, "A>1");
    for (unsigned i = 0; i < parts; i++) assert_int_equal(part(w, 'A', "sub"), 0);
    return w;
}

static void parts_are_gathered(void **state) {
    (void)state;
    struct world *w = scattered(3, 2);
    says(w, "B>2 C>2");
    assert_int_equal(w->requests[1].hop, 1);
    assert_int_equal(world_stats(w).requests, 4);
    finish(w, 'C');
    says(w, "D>2");
    finish(w, 'B');
    finish(w, 'D');
    assert_false(core_idle(w->core)); /* all have answered: it is for the gatherer to go on */
    assert_true(gather_reply(w, 'A'));
    assert_true(core_idle(w->core));
    struct core_stats s = world_stats(w);
    assert_int_equal(s.scattered, 1);
    assert_int_equal(s.parts, 3);
    assert_int_equal(s.submitted, 4);
    assert_int_equal(s.done, 4);
    assert_int_equal(s.failed + s.late, 0);
    says(w, "");
    world_end(w);
}

static void the_slot_is_busy_until_the_worker_says_so(void **state) {
    (void)state;
    struct world *w = world_new(NULL);
    join(w, "top,sub", 1);
    ask_for(w, "GET", "top");
    struct world_request *a = &w->requests[0];
    uint64_t id = 0;
    assert_int_equal(core_job_scatter(w->core, w->now, a->worker, a->job, 1, &a->gatherer, &id), 0);
    assert_true(id == a->id);
    a->gathers = true;
    part(w, 'A', "sub");
    says(w, "A>1");
    assert_int_equal(world_stats(w).leaving, 1);
    slot_free(w, 'A');
    says(w, "B>1");
    assert_int_equal(world_stats(w).leaving, 0);
    world_end(w);
}

static void no_parts_are_a_scatter_too(void **state) {
    (void)state;
    struct world *w = world(1);
    ask_for(w, "GET", "top");
    assert_int_equal(scatter(w, 'A', 0), 0);
    assert_true(gather_reply(w, 'A'));
    says(w, "A>1");
    world_end(w);
}

static void what_was_gathered_goes_on(void **state) {
    (void)state;
    struct world *w = scattered(2, 2);
    finish(w, 'B');
    finish(w, 'C');
    assert_int_equal(gather_forward(w, 'A', "sub"), 0);
    says(w, "B>2 C>2 A>2");
    assert_int_equal(w->requests[0].hop, 1);
    assert_int_equal(w->requests[0].attempt, 1);
    assert_int_equal(world_stats(w).forwarded, 1);
    finish(w, 'A');
    world_end(w);
}

static void it_can_be_scattered_again(void **state) {
    (void)state;
    struct world *w = scattered(1, 2);
    finish(w, 'B');
    assert_int_equal(gather_forward(w, 'A', "top"), 0);
    assert_int_equal(scatter(w, 'A', 2), 0);
    part(w, 'A', "sub");
    part(w, 'A', "sub");
    says(w, "B>2 A>1 C>2 D>2");
    finish(w, 'C');
    finish(w, 'D');
    assert_true(gather_reply(w, 'A'));
    world_end(w);
}

static void parts_that_are_left_are_cancelled(void **state) {
    (void)state;
    struct world *w = scattered(3, 2); /* D is queued */
    says(w, "B>2 C>2");
    finish(w, 'C');
    says(w, "D>2");
    part(w, 'A', "sub"); /* E */
    answer(w, 'B');      /* begun already */
    assert_true(gather_reply(w, 'A'));
    says(w, "B/2:parent D/2:parent");
    assert_true(core_idle(w->core));
    struct core_stats s = world_stats(w);
    assert_int_equal(s.cancelled[CORE_PHASE_QUEUED][CORE_PARENT_GONE], 1);
    assert_int_equal(s.cancelled[CORE_PHASE_RUNNING][CORE_PARENT_GONE], 1);
    assert_int_equal(s.cancelled[CORE_PHASE_ANSWERING][CORE_PARENT_GONE], 1);
    assert_false(answer(w, 'D'));
    slot_free(w, 'B');
    slot_free(w, 'D');
    world_end(w);
}

static void parts_that_are_left_are_cancelled_as_it_goes_on(void **state) {
    (void)state;
    struct world *w = scattered(2, 1);
    says(w, "B>2");
    assert_int_equal(gather_forward(w, 'A', "top"), 0);
    says(w, "B/2:parent A>1");
    slot_free(w, 'B');
    says(w, ""); /* C is gone */
    finish(w, 'A');
    world_end(w);
}

static void it_fails(void **state) {
    (void)state;
    struct world *w = scattered(2, 1);
    says(w, "B>2");
    gather_fail(w, 'A', WEIR_ETOOBIG);
    says(w, "B/2:parent A!413"); /* the gatherer knows */
    assert_string_equal(w->failed_service, "top");
    assert_int_equal(world_stats(w).failed, 1);
    world_end(w);
}

static void it_goes_on_nowhere(void **state) {
    (void)state;
    struct world *w = scattered(1, 1);
    assert_int_equal(gather_forward(w, 'A', "nowhere"), WEIR_ENOSERVICE);
    says(w, "B>2 B/2:parent A!502");
    assert_string_equal(w->failed_service, "nowhere");
    world_end(w);
}

/* ---- parts fail ---- */

static void a_part_is_retried(void **state) {
    (void)state;
    struct world *w = scattered(2, 2);
    says(w, "B>2 C>2");
    lose(w, 'B');
    says(w, "B>2*");
    assert_int_equal(w->requests[1].attempt, 2);
    join(w, "sub", 2);
    leave(w, 2);
    says(w, "C>3* B>3*"); /* C was there before */
    lose(w, 'B');         /* the third time */
    says(w, "B!502");
    finish(w, 'C');
    assert_true(gather_reply(w, 'A')); /* what a failed part means is not the core's business */
    world_end(w);
}

static void a_part_of_what_cannot_be_repeated_is_not_retried(void **state) {
    (void)state;
    struct world *w = world(1);
    ask_for(w, "POST", "top");
    scatter(w, 'A', 2);
    part(w, 'A', "sub");
    part(w, 'A', "sub");
    says(w, "A>1 B>2");
    leave(w, 2);
    says(w, "B!502");
    join(w, "sub", 1);
    says(w, "C>3"); /* it had not been there */
    finish(w, 'C');
    world_end(w);
}

static void a_part_is_handed_back(void **state) {
    (void)state;
    struct world *w = scattered(3, 1);
    says(w, "B>2");
    hand_back(w, 'B');
    says(w, "");
    join(w, "sub", 3);
    says(w, "B>3* C>3 D>3");
    assert_int_equal(w->requests[1].attempt, 1);
    world_end(w);
}

static void a_part_is_forwarded(void **state) {
    (void)state;
    struct world *w = scattered(1, 2);
    assert_int_equal(forward(w, 'B', "top"), 0);
    says(w, "B>2 B>1");
    assert_int_equal(w->requests[1].hop, 2);
    finish(w, 'B');
    assert_true(gather_reply(w, 'A'));
    world_end(w);
}

static void a_part_is_taken_back_by_itself(void **state) {
    (void)state;
    struct world *w = scattered(2, 1);
    give_up(w, 'C');
    give_up(w, 'B');
    says(w, "B>2 B/2:gone");
    part(w, 'A', "sub");
    slot_free(w, 'B');
    says(w, "D>2");
    finish(w, 'D');
    assert_true(gather_reply(w, 'A'));
    world_end(w);
}

static void a_part_that_nobody_serves_is_refused(void **state) {
    (void)state;
    struct world *w = scattered(1, 1);
    assert_int_equal(part(w, 'A', "nowhere"), WEIR_ENOSERVICE); /* C */
    struct core_service_config c;
    core_service_defaults(&c);
    c.max_queued = 1;
    define(w, "sub", &c);
    assert_int_equal(part(w, 'A', "sub"), 0);
    assert_int_equal(part(w, 'A', "sub"), WEIR_EFULL); /* E */
    says(w, "B>2 C?502 E?503");
    assert_int_equal(world_stats(w).parts, 2);
    assert_int_equal(world_stats(w).requests, 3);
    finish(w, 'B');
    finish(w, 'D');
    assert_true(gather_reply(w, 'A'));
    world_end(w);
}

static void a_part_waits_no_longer_than_the_queue_time(void **state) {
    (void)state;
    struct world *w = scattered(2, 1);
    pass(w, 30 * 1000);
    says(w, "B>2 C!503");
    finish(w, 'B');
    assert_true(gather_reply(w, 'A'));
    world_end(w);
}

/* ---- the request ends first ---- */

static void the_client_leaves(void **state) {
    (void)state;
    struct world *w = scattered(3, 2);
    says(w, "B>2 C>2");
    give_up(w, 'A');
    says(w, "B/2:parent C/2:parent A^");
    assert_true(core_idle(w->core));
    assert_int_equal(world_stats(w).cancelled[CORE_PHASE_RUNNING][CORE_CLIENT_GONE], 1);
    slot_free(w, 'B');
    slot_free(w, 'C');
    says(w, ""); /* D is gone */
    world_end(w);
}

static void the_client_leaves_before_a_part_was_told_that_it_failed(void **state) {
    (void)state;
    struct world *w = scattered(2, 1);
    struct world_request *b = &w->requests[1];
    for (int i = 0; i < 2; i++) lose(w, 'B');
    says(w, "B>2 B>2* B>2*");
    core_job_lost(w->core, w->now, b->worker, b->job); /* its FAIL, and C's SEND, are to be taken yet */
    give_up(w, 'A');
    says(w, "A^");
    world_end(w);
}

static void the_deadline_is_for_all(void **state) {
    (void)state;
    struct world *w = world(1);
    ask(w, (struct wish){.service = "top", .method = "GET", .timeout_ms = 500});
    scatter(w, 'A', 2);
    pass(w, 300);
    part(w, 'A', "sub");
    part(w, 'A', "sub");
    says(w, "A>1 B>2");
    assert_int_equal(w->requests[1].deadline, w->requests[0].deadline);
    answer(w, 'B'); /* which is no answer to the client yet */
    pass(w, 199);
    says(w, "");
    pass(w, 1);
    says(w, "B/2:parent A!504^");
    struct core_stats s = world_stats(w);
    assert_int_equal(s.rejected_deadline, 1);
    assert_int_equal(s.cancelled[CORE_PHASE_RUNNING][CORE_DEADLINE], 1);
    assert_string_equal(w->failed_service, "top");
    slot_free(w, 'B');
    world_end(w);
}

/* Whoever gathers is told of it by the call, and by the action: only then it is to let go. */
static void the_deadline_passes_as_the_gatherer_speaks(void **state) {
    (void)state;
    struct failure why = {.error = WEIR_ETOOBIG};
    for (int word = 0; word < 3; word++) {
        struct world *w = world(1);
        ask(w, (struct wish){.service = "top", .method = "GET", .timeout_ms = 500});
        scatter(w, 'A', 1);
        part(w, 'A', "sub");
        says(w, "A>1 B>2");
        w->now += 500 * 1000;
        struct world_request *a = &w->requests[0];
        struct core_hop hop = {.service = SLICE("sub")};
        if (word == 0)
            assert_int_equal(core_gather_fail(w->core, w->now, a->id, &why), WEIR_ESTATE);
        else if (word == 1)
            assert_int_equal(core_gather_forward(w->core, w->now, a->id, &hop), WEIR_ESTATE);
        else
            assert_null(core_gather_reply(w->core, w->now, a->id));
        assert_int_equal(world_stats(w).late, 1);
        act(w);
        says(w, "B/2:parent A!504^");
        world_end(w);
    }
}

static void the_deadline_goes_on_after_gathering(void **state) {
    (void)state;
    struct world *w = world(1);
    ask(w, (struct wish){.service = "top", .method = "GET", .timeout_ms = 500});
    scatter(w, 'A', 0);
    pass(w, 300);
    gather_forward(w, 'A', "sub");
    says(w, "A>1 A>2");
    pass(w, 200);
    says(w, "A/2:deadline A!504");
    world_end(w);
}

static void a_failure_that_nobody_has_heard_of_is_taken_back(void **state) {
    (void)state;
    struct world *w = world(1);
    ask(w, (struct wish){.service = "top", .method = "GET", .timeout_ms = 500});
    scatter(w, 'A', 1);
    part(w, 'A', "sub");
    says(w, "A>1 B>2");
    w->now += 500 * 1000;
    core_tick(w->core, w->now); /* A!504^ is to be taken yet */
    give_up(w, 'A');
    says(w, "B/2:parent A^");
    world_end(w);
}

static void parts_are_taken_while_the_hub_drains(void **state) {
    (void)state;
    struct world *w = scattered(1, 3);
    core_drain(w->core, w->now);
    assert_int_equal(ask_for(w, "GET", "sub"), WEIR_EDRAINING);
    assert_int_equal(part(w, 'A', "sub"), 0);
    says(w, "B>2 C?503 D>2");
    finish(w, 'B');
    finish(w, 'D');
    assert_true(gather_reply(w, 'A'));
    assert_true(core_idle(w->core));
    world_end(w);
}

static void the_drain_time_is_over(void **state) {
    (void)state;
    struct world *w = scattered(3, 2);
    scatter(w, 'B', 1); /* which is E's */
    part(w, 'B', "sub");
    answer(w, 'C');
    says(w, "B>2 C>2 D>2");
    core_drain_over(w->core, w->now);
    act(w);
    says(w, "B^ C/2:parent D/2:parent A!503^");
    assert_true(core_idle(w->core));
    world_end(w);
}

/* Whichever the core comes across first. */
static void a_part_hears_nothing_of_the_drain(void **state) {
    (void)state;
    struct world *w = world(2);
    ask_for(w, "GET", "sub"); /* A, whose place in memory is the part's then */
    ask_for(w, "GET", "top"); /* B */
    finish(w, 'A');
    scatter(w, 'B', 1);
    part(w, 'B', "sub");
    says(w, "A>2 B>1 C>2");
    core_drain_over(w->core, w->now);
    act(w);
    says(w, "C/2:parent B!503^");
    world_end(w);
}

static void the_core_is_freed_with_parts_in_it(void **state) {
    (void)state;
    struct world *w = scattered(3, 2);
    scatter(w, 'B', 1);
    part(w, 'B', "sub");
    core_cancel(w->core, w->now, w->requests[0].id, CORE_CLIENT_GONE); /* actions that nobody takes */
    world_free(w);
}

/* ---- parts of parts ---- */

/* A is scattered into B and C, B into D and E, E into F. */
static struct world *nested(void) {
    struct world *w = scattered(2, 4);
    says(w, "B>2 C>2");
    assert_int_equal(scatter(w, 'B', 2), 0);
    part(w, 'B', "sub");
    part(w, 'B', "sub");
    says(w, "D>2 E>2");
    assert_int_equal(scatter(w, 'E', 1), 0);
    part(w, 'E', "sub");
    says(w, "F>2");
    return w;
}

static void parts_have_parts(void **state) {
    (void)state;
    struct world *w = nested();
    assert_int_equal(w->requests[5].hop, 3);
    finish(w, 'F');
    assert_int_equal(gather_forward(w, 'E', "sub"), 0);
    says(w, "E>2");
    finish(w, 'E');
    finish(w, 'D');
    assert_true(gather_reply(w, 'B'));
    finish(w, 'C');
    assert_true(gather_reply(w, 'A'));
    assert_true(core_idle(w->core));
    says(w, "");
    assert_int_equal(world_stats(w).late, 0);
    world_end(w);
}

static void the_grandparents_client_leaves(void **state) {
    (void)state;
    struct world *w = nested();
    give_up(w, 'A');
    says(w, "B^ C/2:parent D/2:parent E^ F/2:parent A^"); /* each gatherer hears of it */
    assert_true(core_idle(w->core));
    assert_int_equal(part(w, 'E', "sub"), WEIR_ESTATE);
    says(w, "G?0");
    world_end(w);
}

static void the_grandparents_deadline_passes(void **state) {
    (void)state;
    struct world *w = world(9);
    ask(w, (struct wish){.service = "top", .method = "GET", .timeout_ms = 500});
    scatter(w, 'A', 1);
    part(w, 'A', "sub");
    scatter(w, 'B', 1);
    part(w, 'B', "sub");
    says(w, "A>1 B>2 C>2");
    pass(w, 500);
    says(w, "B^ C/2:parent A!504^");
    world_end(w);
}

static void a_part_that_gathers_is_taken_back(void **state) {
    (void)state;
    struct world *w = nested();
    give_up(w, 'B');
    says(w, "D/2:parent E^ F/2:parent B^");
    finish(w, 'C');
    assert_true(gather_reply(w, 'A'));
    world_end(w);
}

static void a_part_that_gathers_fails(void **state) {
    (void)state;
    struct world *w = nested();
    gather_fail(w, 'E', WEIR_ETOOBIG);
    says(w, "F/2:parent E!413");
    gather_fail(w, 'B', WEIR_ETOOBIG);
    says(w, "D/2:parent B!413");
    finish(w, 'C');
    assert_true(gather_reply(w, 'A'));
    world_end(w);
}

/* ---- bounds ---- */

static struct world *bounded(unsigned max_parts, unsigned max_hops) {
    struct world *w = world_new(NULL);
    struct core_config c = world_config(w);
    c.max_parts = max_parts;
    c.max_hops = max_hops;
    world_free(w);
    w = world_new(&c);
    assert_non_null(w);
    join(w, "top", 9);
    join(w, "sub", 9);
    return w;
}

static void so_many_parts_and_no_more(void **state) {
    (void)state;
    struct world *w = bounded(3, 1000);
    ask_for(w, "GET", "top");
    assert_int_equal(scatter(w, 'A', 4), WEIR_EPARTS);
    says(w, "A>1 A!502");
    assert_string_equal(w->failed_service, "top");
    assert_int_equal(world_stats(w).rejected_parts, 1);
    ask_for(w, "GET", "top");
    assert_int_equal(scatter(w, 'B', UINT32_MAX), WEIR_EPARTS);
    ask_for(w, "GET", "top");
    assert_int_equal(scatter(w, 'C', 3), 0);
    says(w, "B>1 B!502 C>1");
    assert_int_equal(part(w, 'C', "nowhere"), WEIR_ENOSERVICE);
    assert_int_equal(world_stats(w).leaving, 0);
    world_end(w);
}

/* The parts of parts count as the first request's. */
static void parts_of_parts_count_together(void **state) {
    (void)state;
    struct world *w = bounded(4, 1000);
    ask_for(w, "GET", "top");
    scatter(w, 'A', 2);
    part(w, 'A', "sub"); /* B */
    part(w, 'A', "sub"); /* C */
    assert_int_equal(scatter(w, 'B', 1), 0);
    part(w, 'B', "sub"); /* D */
    says(w, "A>1 B>2 C>2 D>2");
    assert_int_equal(scatter(w, 'C', 2), WEIR_EPARTS);
    says(w, "C!502");
    assert_int_equal(scatter(w, 'D', 1), 0);
    part(w, 'D', "sub"); /* E */
    assert_int_equal(scatter(w, 'E', 1), WEIR_EPARTS);
    says(w, "E>2 E!502");
    assert_true(gather_reply(w, 'D'));
    assert_true(gather_reply(w, 'B'));
    assert_int_equal(gather_forward(w, 'A', "top"), 0);
    assert_int_equal(scatter(w, 'A', 1), WEIR_EPARTS); /* its stages too */
    says(w, "A>1 A!502");
    world_end(w);
}

static void hops_are_counted_through_parts(void **state) {
    (void)state;
    struct world *w = bounded(100, 2);
    ask_for(w, "GET", "top");
    scatter(w, 'A', 2);
    part(w, 'A', "sub"); /* B: hop 1 */
    scatter(w, 'B', 1);
    part(w, 'B', "sub"); /* C: hop 2 */
    says(w, "A>1 B>2 C>2");
    scatter(w, 'C', 1);
    assert_int_equal(part(w, 'C', "sub"), WEIR_EHOPS);
    says(w, "D?508");
    assert_int_equal(gather_forward(w, 'C', "sub"), WEIR_EHOPS);
    says(w, "C!508");
    assert_int_equal(gather_forward(w, 'B', "sub"), 0); /* B goes on from where it was: hop 2 */
    says(w, "B>2");
    world_end(w);
}

/* ---- late words ---- */

static void nobody_gathers_twice(void **state) {
    (void)state;
    struct world *w = scattered(1, 1);
    struct world_request *a = &w->requests[0];
    uint64_t id = 0;
    assert_int_equal(core_job_scatter(w->core, w->now, a->worker, a->job, 1, &a->gatherer, &id), WEIR_ESTATE);
    assert_int_equal(id, 0);
    finish(w, 'B');
    assert_int_equal(world_stats(w).late, 1);
    assert_true(gather_reply(w, 'A'));
    assert_false(gather_reply(w, 'A'));
    assert_int_equal(gather_forward(w, 'A', "sub"), WEIR_ESTATE);
    struct failure why = {.error = WEIR_ETOOBIG};
    assert_int_equal(core_gather_fail(w->core, w->now, a->id, &why), WEIR_ESTATE);
    assert_int_equal(part(w, 'A', "sub"), WEIR_ESTATE);
    says(w, "B>2 C?0");
    assert_int_equal(world_stats(w).late, 5);
    world_end(w);
}

static void only_what_was_scattered_gathers(void **state) {
    (void)state;
    struct world *w = world(1);
    ask_for(w, "GET", "top");
    assert_int_equal(part(w, 'A', "sub"), WEIR_ESTATE); /* it runs */
    assert_false(gather_reply(w, 'A'));
    assert_int_equal(gather_forward(w, 'A', "sub"), WEIR_ESTATE);
    answer(w, 'A');
    assert_int_equal(scatter(w, 'A', 1), WEIR_ESTATE); /* it answers; its slot_free cuts that */
    says(w, "A>1 B?0");
    assert_true(core_idle(w->core));
    world_end(w);
}

static void the_worker_that_scattered_goes(void **state) {
    (void)state;
    struct world *w = world(1);
    ask_for(w, "GET", "top");
    struct world_request *a = &w->requests[0];
    uint64_t id;
    assert_int_equal(core_job_scatter(w->core, w->now, a->worker, a->job, 1, &a->gatherer, &id), 0);
    a->gathers = true;
    leave(w, 1); /* its part is done */
    part(w, 'A', "sub");
    says(w, "A>1 B>2");
    finish(w, 'B');
    assert_true(gather_reply(w, 'A'));
    assert_int_equal(world_stats(w).lost, 0);
    world_end(w);
}

/* ---- whose they are ---- */

static void parts_are_their_requests(void **state) {
    (void)state;
    struct world *w = world(0);
    struct core_tenant_config limited = {.weight = 1, .rate_per_h = 1};
    assert_int_equal(core_tenant_define(w->core, SLICE("x"), &limited), 0);
    ask(w, (struct wish){.service = "top", .method = "GET", .tenant = "x", .priority = 2});
    scatter(w, 'A', 3);
    struct wish other = {.service = "sub", .method = "GET", .tenant = "y", .priority = 2};
    ask(w, other);       /* B */
    part(w, 'A', "sub"); /* C; parts take no tokens */
    part(w, 'A', "sub"); /* D */
    part(w, 'A', "sub"); /* E */
    ask(w, other);       /* F: takes turns with x */
    other.priority = 4;
    ask(w, other); /* G */
    struct core_tenant_view v;
    assert_true(world_tenant(w, "x", &v));
    assert_int_equal(v.requests, 4);
    slots(w, 2, 9);
    says(w, "A>1 B>2 C>2 F>2 D>2 E>2 G>2");
    finish(w, 'C');
    finish(w, 'D');
    assert_true(gather_reply(w, 'A')); /* and E is cancelled */
    assert_true(world_tenant(w, "x", &v));
    assert_int_equal(v.requests, 0);
    says(w, "E/2:parent");
    world_end(w);
}

static void a_part_costs_what_it_says_or_what_its_request_does(void **state) {
    (void)state;
    struct world *w = world(0);
    struct core_service_config c;
    core_service_defaults(&c);
    c.shortest_first = true;
    define(w, "sub", &c);
    ask(w, (struct wish){.service = "top", .method = "GET", .cost = 50});
    scatter(w, 'A', 2);
    ask(w, (struct wish){.service = "sub", .method = "GET", .cost = 60}); /* B */
    part(w, 'A', "sub");                                                  /* C: 50 */
    ask(w, (struct wish){.service = "sub", .method = "GET", .cost = 40}); /* D */
    struct world_message *m = &w->messages[w->message_count++];
    struct world_request *e = &w->requests[w->request_count++];
    m->in_core = true;
    struct core_part cheap = {.requester = &e->requester, .message = m, .service = SLICE("sub"), .cost = 1};
    assert_int_equal(core_part_submit(w->core, w->now, w->requests[0].id, &cheap, &e->id, &e->failure), 0);
    slots(w, 2, 9);
    says(w, "A>1 E>2 D>2 C>2 B>2");
    world_end(w);
}

/* A thousand at once, three deep, gone at one word. */
static void many_parts(void **state) {
    (void)state;
    enum { N = 1000 };
    static struct world_message messages[N];
    static struct requester requesters[N];
    struct world *w = scattered(1, 1);
    scatter(w, 'B', N);
    for (unsigned i = 0; i < N; i++) {
        uint64_t id;
        struct failure why;
        messages[i] = (struct world_message){.in_core = true};
        struct core_part part = {
            .requester = &requesters[i], .message = &messages[i], .bytes = 3, .service = SLICE("sub")};
        assert_int_equal(core_part_submit(w->core, w->now, w->requests[1].id, &part, &id, &why), 0);
    }
    assert_int_equal(world_stats(w).requests, N + 2);
    assert_int_equal(world_stats(w).queued, N - 1);
    give_up(w, 'A'); /* the one at the worker has not been given out */
    says(w, "B>2 B^ A^");
    for (unsigned i = 0; i < N; i++) assert_false(messages[i].in_core);
    world_end(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_are_gathered),
        cmocka_unit_test(the_slot_is_busy_until_the_worker_says_so),
        cmocka_unit_test(no_parts_are_a_scatter_too),
        cmocka_unit_test(what_was_gathered_goes_on),
        cmocka_unit_test(it_can_be_scattered_again),
        cmocka_unit_test(parts_that_are_left_are_cancelled),
        cmocka_unit_test(parts_that_are_left_are_cancelled_as_it_goes_on),
        cmocka_unit_test(it_fails),
        cmocka_unit_test(it_goes_on_nowhere),
        cmocka_unit_test(a_part_is_retried),
        cmocka_unit_test(a_part_of_what_cannot_be_repeated_is_not_retried),
        cmocka_unit_test(a_part_is_handed_back),
        cmocka_unit_test(a_part_is_forwarded),
        cmocka_unit_test(a_part_is_taken_back_by_itself),
        cmocka_unit_test(a_part_that_nobody_serves_is_refused),
        cmocka_unit_test(a_part_waits_no_longer_than_the_queue_time),
        cmocka_unit_test(the_client_leaves),
        cmocka_unit_test(the_client_leaves_before_a_part_was_told_that_it_failed),
        cmocka_unit_test(the_deadline_is_for_all),
        cmocka_unit_test(the_deadline_passes_as_the_gatherer_speaks),
        cmocka_unit_test(the_deadline_goes_on_after_gathering),
        cmocka_unit_test(a_failure_that_nobody_has_heard_of_is_taken_back),
        cmocka_unit_test(parts_are_taken_while_the_hub_drains),
        cmocka_unit_test(the_drain_time_is_over),
        cmocka_unit_test(a_part_hears_nothing_of_the_drain),
        cmocka_unit_test(the_core_is_freed_with_parts_in_it),
        cmocka_unit_test(parts_have_parts),
        cmocka_unit_test(the_grandparents_client_leaves),
        cmocka_unit_test(the_grandparents_deadline_passes),
        cmocka_unit_test(a_part_that_gathers_is_taken_back),
        cmocka_unit_test(a_part_that_gathers_fails),
        cmocka_unit_test(so_many_parts_and_no_more),
        cmocka_unit_test(parts_of_parts_count_together),
        cmocka_unit_test(hops_are_counted_through_parts),
        cmocka_unit_test(nobody_gathers_twice),
        cmocka_unit_test(only_what_was_scattered_gathers),
        cmocka_unit_test(the_worker_that_scattered_goes),
        cmocka_unit_test(parts_are_their_requests),
        cmocka_unit_test(a_part_costs_what_it_says_or_what_its_request_does),
        cmocka_unit_test(many_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
