/* SPDX-License-Identifier: Apache-2.0 */
/* Tenants: how they share a service, in which order the jobs of each go, and how many they may ask for. See
   core_world.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core_world.h"
#include "weir/weir.h"

static struct core_service_config defaults(void) {
    struct core_service_config c;
    core_service_defaults(&c);
    return c;
}

static void tenant(struct world *w, const char *name, struct core_tenant_config config) {
    assert_int_equal(core_tenant_define(w->core, slice_of(name), &config), 0);
}

/* The tenant asks so many times, with the default priority. */
static void asks(struct world *w, const char *name, unsigned times) {
    for (unsigned i = 0; i < times; i++)
        assert_int_equal(ask(w, (struct wish){.service = "a", .method = "GET", .tenant = name}), 0);
}

static void asks_at(struct world *w, const char *name, unsigned priority) {
    struct wish wish = {
        .service = "a", .method = "GET", .tenant = name, .priority = priority ? priority : 10};
    assert_int_equal(ask(w, wish), 0);
}

static void asks_for(struct world *w, const char *name, uint64_t cost) {
    assert_int_equal(ask(w, (struct wish){.service = "a", .method = "GET", .tenant = name, .cost = cost}), 0);
}

/* ---- turns ---- */

static void a_turn_is_as_many_jobs_as_the_weight_says(void **state) {
    (void)state;
    struct world *w = world_serving(NULL);
    tenant(w, "heavy", (struct core_tenant_config){.weight = 3});
    asks(w, "heavy", 7); /* A to G */
    asks(w, "light", 3); /* H to J */
    join(w, "a", 10);
    says(w, "A>1 B>1 C>1 H>1 D>1 E>1 F>1 I>1 G>1 J>1");
    world_end(w);
}

static void turns_go_on_from_slot_to_slot(void **state) {
    (void)state;
    struct world *w = world_serving(NULL);
    tenant(w, "heavy", (struct core_tenant_config){.weight = 3});
    join(w, "a", 1);
    asks(w, "heavy", 6); /* A runs at once: its lane was empty again, and B begins a turn */
    asks(w, "light", 3); /* G to I */
    says(w, "A>1");
    for (int i = 0; i < 8; i++) finish(w, w->sent);
    says(w, "B>1 C>1 D>1 G>1 E>1 F>1 H>1 I>1");
    world_end(w);
}

static void requests_without_a_tenant_are_one(void **state) {
    (void)state;
    struct world *w = world_serving(NULL);
    tenant(w, "", (struct core_tenant_config){.weight = 2});
    asks(w, "x", 3); /* A to C */
    asks(w, NULL, 3);
    asks(w, "y", 2); /* G, H */
    join(w, "a", 8);
    says(w, "A>1 D>1 E>1 G>1 B>1 F>1 H>1 C>1");
    world_end(w);
}

static void a_lane_that_empties_loses_its_credit(void **state) {
    (void)state;
    struct world *w = world_serving(NULL);
    tenant(w, "heavy", (struct core_tenant_config){.weight = 3});
    asks(w, "heavy", 1); /* A */
    asks(w, "light", 3); /* B to D */
    join(w, "a", 1);
    says(w, "A>1");
    asks(w, "heavy", 4); /* E to H: behind the light one, with a whole turn */
    slots(w, 1, 8);
    says(w, "B>1 E>1 F>1 G>1 C>1 H>1 D>1");
    world_end(w);
}

static void a_cancelled_job_costs_no_turn(void **state) {
    (void)state;
    struct world *w = world_serving(NULL);
    tenant(w, "heavy", (struct core_tenant_config){.weight = 3});
    asks(w, "heavy", 6); /* A to F */
    asks(w, "light", 3); /* G to I */
    give_up(w, 'A');
    join(w, "a", 1);
    says(w, "B>1");
    give_up(w, 'C'); /* in the midst of the turn */
    slots(w, 1, 9);
    says(w, "D>1 E>1 G>1 F>1 H>1 I>1");
    world_end(w);
}

/* The last of a lane leaves by itself: whose turn it is moves on, and nothing of the lane is left behind. */
static void a_lane_of_cancelled_jobs_is_gone(void **state) {
    (void)state;
    struct world *w = world_serving(NULL);
    asks(w, "x", 2); /* A, B */
    asks(w, "y", 1); /* C */
    asks(w, "z", 1); /* D */
    give_up(w, 'A');
    give_up(w, 'B');
    asks(w, "x", 1); /* E: at the end now */
    join(w, "a", 3);
    says(w, "C>1 D>1 E>1");
    world_end(w);
}

static void a_new_weight_holds_from_the_next_turn(void **state) {
    (void)state;
    struct world *w = world_serving(NULL);
    asks(w, "x", 6); /* A to F */
    asks(w, "y", 3); /* G to I */
    tenant(w, "x", (struct core_tenant_config){.weight = 2});
    join(w, "a", 9);
    says(w, "A>1 G>1 B>1 C>1 H>1 D>1 E>1 I>1 F>1");
    world_end(w);
}

/* ---- what comes back ---- */

static void a_job_handed_back_goes_first_and_costs_no_turn(void **state) {
    (void)state;
    struct world *w = world_serving(NULL);
    tenant(w, "x", (struct core_tenant_config){.weight = 2});
    asks(w, "x", 3); /* A to C */
    asks(w, "y", 2); /* D, E */
    join(w, "a", 1);
    says(w, "A>1");
    hand_back(w, 'A');
    says(w, ""); /* its gate is closed */
    join(w, "a", 5);
    says(w, "A>2* B>2 D>2 C>2 E>2");
    assert_int_equal(w->requests[0].attempt, 1);
    world_end(w);
}

static void what_comes_back_goes_before_all_tenants_of_its_class(void **state) {
    (void)state;
    struct world *w = world_serving(NULL);
    asks_at(w, "x", 5); /* A */
    join(w, "a", 1);
    says(w, "A>1");
    asks_at(w, "y", 5); /* B */
    asks_at(w, "z", 5); /* C */
    asks_at(w, "z", 4); /* D: a better class */
    lose(w, 'A');
    says(w, "D>1");
    finish(w, 'D');
    says(w, "A>1*");
    finish(w, 'A');
    says(w, "B>1");
    world_end(w);
}

static void what_comes_back_goes_before_cheaper_ones(void **state) {
    (void)state;
    struct core_service_config c = defaults();
    c.shortest_first = true;
    struct world *w = world_serving(&c);
    asks_for(w, "x", 50); /* A */
    asks_for(w, "x", 90); /* B */
    join(w, "a", 2);
    says(w, "A>1 B>1");
    asks_for(w, "x", 1); /* C */
    leave(w, 1);
    join(w, "a", 3);
    says(w, "A>2* B>2* C>2");
    world_end(w);
}

static void what_comes_back_goes_by_how_long_it_has_waited(void **state) {
    (void)state;
    struct world *w = world_serving(NULL);
    asks(w, "x", 1); /* A */
    pass(w, 10);
    asks(w, "x", 2); /* B, C */
    join(w, "a", 3);
    says(w, "A>1 B>1 C>1");
    hand_back(w, 'B');
    hand_back(w, 'A');
    hand_back(w, 'C');
    join(w, "a", 3);
    says(w, "A>2* B>2* C>2*");
    world_end(w);
}

/* ---- classes ---- */

static void classes_are_strict_across_tenants(void **state) {
    (void)state;
    struct world *w = world_serving(NULL);
    tenant(w, "heavy", (struct core_tenant_config){.weight = 9});
    asks_at(w, "heavy", 4); /* A */
    asks_at(w, "heavy", 4); /* B */
    asks_at(w, "y", 3);     /* C */
    asks_at(w, "y", 3);     /* D */
    asks_at(w, "heavy", 3); /* E */
    asks_at(w, "z", 0);     /* F */
    join(w, "a", 6);
    says(w, "F>1 C>1 E>1 D>1 A>1 B>1");
    world_end(w);
}

static void ageing_goes_by_the_job_whose_turn_it_is(void **state) {
    (void)state;
    struct core_service_config c = defaults();
    c.age_us = 1000 * 1000;
    struct world *w = world_serving(&c);
    asks_at(w, "x", 5); /* A */
    asks_at(w, "y", 5); /* B */
    pass(w, 900);
    tenant(w, "x", (struct core_tenant_config){.weight = 2});
    asks_at(w, "z", 4); /* C */
    asks_at(w, "x", 5); /* D */
    pass(w, 300);       /* A and B are of class 4 now, and before C; D is not */
    join(w, "a", 4);
    says(w, "A>1 B>1 C>1 D>1");
    world_end(w);
}

static void a_class_is_as_old_as_its_oldest_job(void **state) {
    (void)state;
    struct core_service_config c = defaults();
    c.age_us = 1000 * 1000;
    struct world *w = world_serving(&c);
    tenant(w, "x", (struct core_tenant_config){.weight = 2});
    asks_at(w, "x", 5); /* A */
    asks_at(w, "y", 5); /* B */
    pass(w, 900);
    asks_at(w, "z", 4); /* C */
    asks_at(w, "x", 5); /* D */
    pass(w, 300);
    join(w, "a", 4); /* the turn of x has the young D in it, before B, which is of class 4 by now */
    says(w, "A>1 D>1 B>1 C>1");
    world_end(w);
}

/* The class above is never empty; x asks now and then, and gives up before it has waited for age. */
static void who_gives_up_does_not_keep_others_waiting(void **state) {
    (void)state;
    struct core_service_config c = defaults();
    c.age_us = 1000 * 1000;
    struct world *w = world_serving(&c);
    tenant(w, "x", (struct core_tenant_config){.weight = 1});
    for (int i = 0; i < 2; i++) asks_at(w, "busy", 4); /* A, B */
    join(w, "a", 1);
    struct wish impatient = {
        .service = "a", .method = "GET", .tenant = "x", .priority = 5, .timeout_ms = 700};
    assert_int_equal(ask(w, impatient), 0); /* C */
    asks_at(w, "y", 5);                     /* D */
    bool ran = false;
    for (int i = 0; i < 6 && !ran; i++) { /* each 300 ms a job */
        pass(w, 300);
        if (i == 1) assert_int_equal(ask(w, impatient), 0);
        if (i == 3) assert_int_equal(ask(w, impatient), 0);
        asks_at(w, "busy", 4);
        if (w->requests[w->sent - 'A'].over)
            slot_free(w, w->sent);
        else
            finish(w, w->sent);
        ran = w->requests['D' - 'A'].attempt > 0;
    }
    assert_true(ran);
    world_end(w);
}

/* y has waited for a long time for a worker of its zone, while others had one after the other done. */
static void who_could_not_be_served_is_owed_a_turn_only(void **state) {
    (void)state;
    struct core_service_config c = defaults();
    c.require = SLICE("zone=${x-zone}");
    struct world *w = world_serving(&c);
    struct wish wish = {.service = "a", .method = "GET", .tenant = "y", .headers = "x-zone=1"};
    for (int i = 0; i < 6; i++) assert_int_equal(ask(w, wish), 0); /* A to F */
    struct core_service_config plain = defaults();
    define(w, "other", &plain);
    tenant(w, "z", (struct core_tenant_config){.weight = 1});
    join(w, "other", 1);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(ask(w, (struct wish){.service = "other", .method = "GET", .tenant = "z"}), 0);
        finish(w, w->sent);
    }
    wish.tenant = "new";
    wish.headers = "x-zone=2";
    for (int i = 0; i < 4; i++) assert_int_equal(ask(w, wish), 0); /* Q to T */
    says(w, "G>1 H>1 I>1 J>1 K>1 L>1 M>1 N>1 O>1 P>1");
    join_with(w, "zone=1, zone=2", "a", 10);
    says(w, "A>2 B>2 C>2 Q>2 D>2 R>2 E>2 S>2 F>2 T>2");
    world_end(w);
}

static void nobody_gets_a_better_priority_than_allowed(void **state) {
    (void)state;
    struct core_service_config c = defaults();
    c.best_priority = 2;
    struct world *w = world_serving(&c);
    tenant(w, "batch", (struct core_tenant_config){.weight = 1, .best_priority = 6});
    tenant(w, "odd", (struct core_tenant_config){.weight = 1, .best_priority = 1000});
    asks_at(w, "odd", 0);   /* A: 9 */
    asks_at(w, "batch", 0); /* B: 6 */
    asks_at(w, "batch", 8); /* C: 8, as asked for */
    asks_at(w, "x", 5);     /* D */
    asks_at(w, "x", 2);     /* E */
    asks_at(w, "y", 0);     /* F: 2, behind E */
    join(w, "a", 6);
    says(w, "E>1 F>1 D>1 B>1 C>1 A>1");
    world_end(w);
}

/* ---- the cheapest first ---- */

static void the_cheapest_goes_first_and_the_unknown_last(void **state) {
    (void)state;
    struct core_service_config c = defaults();
    c.shortest_first = true;
    struct world *w = world_serving(&c);
    asks_for(w, "x", 30); /* A */
    asks_for(w, "x", 0);  /* B */
    asks_for(w, "x", 10); /* C */
    asks_for(w, "x", 20); /* D */
    asks_for(w, "x", 10); /* E: as C, but later */
    asks_for(w, "x", 0);  /* F */
    give_up(w, 'D');
    join(w, "a", 6);
    says(w, "C>1 E>1 A>1 B>1 F>1");
    world_end(w);
}

static void each_tenant_has_its_own_cheapest(void **state) {
    (void)state;
    struct core_service_config c = defaults();
    c.shortest_first = true;
    struct world *w = world_serving(&c);
    asks_for(w, "x", 500); /* A */
    asks_for(w, "x", 400); /* B */
    asks_for(w, "y", 2);   /* C */
    asks_for(w, "y", 1);   /* D */
    asks_for(w, NULL, 8);  /* E */
    asks_for(w, NULL, 7);  /* F */
    join(w, "a", 6);
    says(w, "B>1 D>1 F>1 A>1 C>1 E>1");
    world_end(w);
}

static void a_class_comes_before_the_cost(void **state) {
    (void)state;
    struct core_service_config c = defaults();
    c.shortest_first = true;
    struct world *w = world_serving(&c);
    struct wish wish = {.service = "a", .method = "GET", .cost = 1, .priority = 5};
    ask(w, wish); /* A */
    wish.cost = 100;
    wish.priority = 4;
    ask(w, wish); /* B */
    join(w, "a", 2);
    says(w, "B>1 A>1");
    world_end(w);
}

static void what_has_waited_for_age_goes_before_all_cheaper_ones(void **state) {
    (void)state;
    struct core_service_config c = defaults();
    c.shortest_first = true;
    c.age_us = 1000 * 1000;
    struct world *w = world_serving(&c);
    asks_for(w, "x", 900); /* A */
    asks_for(w, "x", 800); /* B */
    pass(w, 500);
    asks_for(w, "x", 1); /* C */
    asks_for(w, "x", 2); /* D */
    join(w, "a", 1);
    says(w, "C>1");
    pass(w, 500);
    slots(w, 1, 4);
    says(w, "A>1 B>1 D>1");
    world_end(w);
}

static void without_age_the_dearest_waits_for_ever(void **state) {
    (void)state;
    struct core_service_config c = defaults();
    c.shortest_first = true;
    c.age_us = 0;
    c.queue_time_us = 0;
    struct world *w = world_serving(&c);
    asks_for(w, "x", 900); /* A */
    pass(w, 3600 * 1000);
    asks_for(w, "x", 1); /* B */
    join(w, "a", 2);
    says(w, "B>1 A>1");
    world_end(w);
}

/* Those that stand there already stay in order of arrival, before the others. */
static void changing_the_order_loses_nobody(void **state) {
    (void)state;
    struct core_service_config c = defaults();
    struct world *w = world_serving(&c);
    asks_for(w, "x", 30); /* A */
    asks_for(w, "x", 10); /* B */
    c.shortest_first = true;
    define(w, "a", &c);
    asks_for(w, "x", 20); /* C */
    asks_for(w, "x", 5);  /* D */
    join(w, "a", 1);
    says(w, "A>1");
    slots(w, 1, 4);
    says(w, "B>1 D>1 C>1");
    asks_for(w, "x", 9); /* E */
    asks_for(w, "x", 8); /* F */
    c.shortest_first = false;
    define(w, "a", &c);
    asks_for(w, "x", 7); /* G */
    asks_for(w, "x", 6); /* H */
    give_up(w, 'E');
    slots(w, 1, 9);
    says(w, "F>1 G>1 H>1");
    assert_int_equal(world_stats(w).queued, 0);
    world_end(w);
}

static void a_stage_may_cost_something_else(void **state) {
    (void)state;
    struct core_service_config c = defaults();
    c.shortest_first = true;
    struct world *w = world_serving(NULL);
    define(w, "b", &c);
    join(w, "a", 3);
    asks_for(w, "x", 10); /* A */
    asks_for(w, "x", 20); /* B */
    asks_for(w, "x", 30); /* C */
    says(w, "A>1 B>1 C>1");
    forward_at(w, 'A', "b", 0); /* as before */
    forward_at(w, 'B', "b", 40);
    forward_at(w, 'C', "b", 1);
    join(w, "b", 3);
    says(w, "C>2 A>2 B>2");
    world_end(w);
}

/* ---- rates ---- */

static int tries(struct world *w, const char *name) {
    return ask(w, (struct wish){.service = "a", .method = "GET", .tenant = name});
}

static unsigned last_retry_after(const struct world *w) {
    return w->requests[w->request_count - 1].failure.retry_after_s;
}

static void a_rate_lets_a_burst_through_and_then_one_at_a_time(void **state) {
    (void)state;
    struct world *w = world_serving(NULL);
    tenant(w, "x", (struct core_tenant_config){.weight = 1, .rate_per_h = 3600, .burst = 3});
    join(w, "a", 20);
    asks(w, "x", 3);
    assert_int_equal(tries(w, "x"), WEIR_ERATE);
    asks(w, "y", 1); /* nobody else is held back */
    asks(w, NULL, 1);
    says(w, "A>1 B>1 C>1 D?429 E>1 F>1");
    pass(w, 999);
    assert_int_equal(tries(w, "x"), WEIR_ERATE);
    pass(w, 1);
    asks(w, "x", 1);
    assert_int_equal(tries(w, "x"), WEIR_ERATE);
    says(w, "G?429 H>1 I?429");
    pass(w, 3600 * 1000); /* a burst again, not an hour's worth */
    asks(w, "x", 3);
    assert_int_equal(tries(w, "x"), WEIR_ERATE);
    says(w, "J>1 K>1 L>1 M?429");
    assert_int_equal(world_stats(w).rejected_rate, 4);
    struct core_tenant_view v;
    assert_true(world_tenant(w, "x", &v));
    assert_int_equal(v.rejected_rate, 4);
    assert_int_equal(v.submitted, 7);
    assert_int_equal(v.dispatched, 7);
    world_end(w);
}

static void a_burst_of_zero_is_one(void **state) {
    (void)state;
    struct world *w = world_serving(NULL);
    tenant(w, "x", (struct core_tenant_config){.weight = 1, .rate_per_h = 3600});
    join(w, "a", 9);
    asks(w, "x", 1);
    assert_int_equal(tries(w, "x"), WEIR_ERATE);
    pass(w, 1000);
    asks(w, "x", 1);
    says(w, "A>1 B?429 C>1");
    world_end(w);
}

static void retry_after_is_when_the_next_would_be_taken_in_whole_seconds(void **state) {
    (void)state;
    struct world *w = world_serving(NULL);
    tenant(w, "x", (struct core_tenant_config){.weight = 1, .rate_per_h = 6, .burst = 2}); /* one in 10 min */
    join(w, "a", 20);
    asks(w, "x", 2);
    assert_int_equal(tries(w, "x"), WEIR_ERATE);
    assert_int_equal(last_retry_after(w), 600);
    pass(w, 400);
    assert_int_equal(tries(w, "x"), WEIR_ERATE);
    assert_int_equal(last_retry_after(w), 600); /* 599.6 */
    pass(w, 600);
    assert_int_equal(tries(w, "x"), WEIR_ERATE);
    assert_int_equal(last_retry_after(w), 599);
    pass(w, 598 * 1000 + 999);
    assert_int_equal(tries(w, "x"), WEIR_ERATE);
    assert_int_equal(last_retry_after(w), 1);
    pass(w, 1);
    asks(w, "x", 1);
    assert_int_equal(tries(w, "x"), WEIR_ERATE);
    assert_int_equal(last_retry_after(w), 600);
    says(w, "A>1 B>1 C?429 D?429 E?429 F?429 G>1 H?429");
    world_end(w);
}

static void what_is_refused_takes_no_token(void **state) {
    (void)state;
    struct core_service_config c = defaults();
    c.max_queued = 1;
    struct world *w = world_serving(&c);
    tenant(w, "x", (struct core_tenant_config){.weight = 1, .rate_per_h = 1, .burst = 2});
    struct wish wish = {.service = "nowhere", .method = "GET", .tenant = "x"};
    assert_int_equal(ask(w, wish), WEIR_ENOSERVICE); /* A */
    asks(w, "y", 1);                                 /* B fills the queue */
    assert_int_equal(tries(w, "x"), WEIR_EFULL);     /* C */
    assert_int_equal(tries(w, "x"), WEIR_EFULL);
    assert_int_equal(tries(w, "x"), WEIR_EFULL);
    join(w, "a", 9);
    asks(w, "x", 2); /* F, G */
    assert_int_equal(tries(w, "x"), WEIR_ERATE);
    says(w, "A?404 C?503 D?503 E?503 B>1 F>1 G>1 H?429");
    world_end(w);
}

static void hops_take_no_token(void **state) {
    (void)state;
    struct world *w = world_serving(NULL);
    tenant(w, "x", (struct core_tenant_config){.weight = 1, .rate_per_h = 1});
    join(w, "a", 9);
    asks(w, "x", 1);
    forward(w, 'A', "a");
    lose(w, 'A');
    hand_back(w, 'A');
    pass(w, 200);
    says(w, "A>1 A>1 A>1* A>1*");
    world_end(w);
}

static void those_without_a_tenant_share_one_rate(void **state) {
    (void)state;
    struct world *w = world_serving(NULL);
    tenant(w, "", (struct core_tenant_config){.weight = 1, .rate_per_h = 3600, .burst = 2});
    join(w, "a", 9);
    asks(w, NULL, 1);
    asks(w, "", 1);
    assert_int_equal(tries(w, NULL), WEIR_ERATE);
    asks(w, "x", 1); /* whom the hub's default holds for */
    says(w, "A>1 B>1 C?429 D>1");
    world_end(w);
}

/* ---- who is known ---- */

static bool known(const struct world *w, const char *name) {
    struct core_tenant_view v;
    return world_tenant(w, name, &v);
}

static void a_tenant_without_a_rate_is_forgotten_with_its_last_request(void **state) {
    (void)state;
    struct world *w = world_serving(NULL);
    tenant(w, "kept", (struct core_tenant_config){.weight = 2});
    join(w, "a", 1);
    asks(w, "x", 2);
    struct core_tenant_view v;
    assert_true(world_tenant(w, "x", &v));
    assert_int_equal(v.requests, 2);
    assert_int_equal(v.config->weight, 1);
    pass(w, 20 * 1000);
    finish(w, 'A');
    assert_true(world_tenant(w, "x", &v));
    assert_int_equal(v.requests, 1);
    finish(w, 'B');
    assert_false(known(w, "x"));
    struct wish wish = {.service = "nowhere", .method = "GET", .tenant = "y"};
    assert_int_equal(ask(w, wish), WEIR_ENOSERVICE);
    assert_false(known(w, "y"));
    assert_true(known(w, "kept"));
    assert_true(world_tenant(w, "", &v));
    assert_int_equal(v.requests, 0);
    world_end(w);
}

/* Every tenant has a rate. Those whose buckets are full are forgotten as others come. */
static void a_tenant_is_remembered_until_its_bucket_is_full(void **state) {
    (void)state;
    struct world *w = world_new(NULL);
    struct core_config c = world_config(w);
    c.tenant.rate_per_h = 360; /* one in 10 s */
    world_free(w);
    w = world_new(&c);
    define(w, "a", NULL);
    join(w, "a", 9);
    asks(w, "x", 1); /* A: full again after 10 s */
    finish(w, 'A');
    asks(w, "long", 1); /* B goes on */
    pass(w, 9999);
    asks(w, "y", 1); /* C */
    assert_true(known(w, "x"));
    assert_int_equal(tries(w, "x"), WEIR_ERATE);
    finish(w, 'C');
    pass(w, 1);
    asks(w, "z", 1); /* E */
    assert_false(known(w, "x"));
    assert_true(known(w, "y"));
    assert_true(known(w, "long")); /* its bucket is full too, but it has a request */
    pass(w, 3600 * 1000);
    asks(w, "z", 1); /* F */
    asks(w, "v", 1); /* G */
    assert_true(known(w, "long"));
    assert_false(known(w, "y"));
    says(w, "A>1 B>1 C>1 D?429 E>1 F>1 G>1");
    world_end(w);
}

static void over_max_tenants_they_share(void **state) {
    (void)state;
    struct world *w = world_new(NULL);
    struct core_config c = world_config(w);
    c.max_tenants = 2;
    world_free(w);
    w = world_new(&c);
    define(w, "a", NULL);
    asks(w, "x", 2);  /* A, B */
    asks(w, "y", 2);  /* C, D */
    asks(w, "z", 1);  /* E */
    asks(w, "v", 1);  /* F */
    asks(w, NULL, 1); /* G */
    struct core_tenant_view v;
    assert_false(known(w, "z"));
    assert_true(world_tenant(w, "", &v));
    assert_int_equal(v.requests, 3);
    join(w, "a", 7);
    says(w, "A>1 C>1 E>1 B>1 D>1 F>1 G>1");
    finish(w, 'A');
    finish(w, 'B');
    asks(w, "z", 1); /* there is room now */
    assert_true(known(w, "z"));
    finish(w, 'E'); /* its own are counted where they came in */
    assert_true(world_tenant(w, "", &v));
    assert_int_equal(v.requests, 2);
    assert_true(world_tenant(w, "z", &v));
    assert_int_equal(v.requests, 1);
    world_end(w);
}

static void those_who_share_share_a_rate(void **state) {
    (void)state;
    struct world *w = world_new(NULL);
    struct core_config c = world_config(w);
    c.max_tenants = 1;
    c.tenant.rate_per_h = 3600;
    world_free(w);
    w = world_new(&c);
    define(w, "a", NULL);
    join(w, "a", 9);
    asks(w, "x", 1);
    asks(w, "y", 1);
    assert_int_equal(tries(w, "z"), WEIR_ERATE);
    assert_int_equal(tries(w, "x"), WEIR_ERATE);
    says(w, "A>1 B>1 C?429 D?429");
    world_end(w);
}

static void tenants_are_defined_well_or_not_at_all(void **state) {
    (void)state;
    struct world *w = world_serving(NULL);
    char name[257];
    memset(name, 'n', 256);
    name[256] = '\0';
    struct core_tenant_config c;
    core_tenant_defaults(&c);
    assert_int_equal(c.weight, 1);
    assert_int_equal(c.best_priority + c.rate_per_h, 0);
    assert_int_equal(core_tenant_define(w->core, slice_of(name), &c), WEIR_EINVAL);
    c.weight = 0;
    assert_int_equal(core_tenant_define(w->core, SLICE("x"), &c), WEIR_EINVAL);
    assert_false(known(w, "x"));
    asks(w, name, 1); /* who has such a name has none of its own */
    assert_false(known(w, name));
    name[255] = '\0';
    asks(w, name, 1);
    assert_true(known(w, name));
    world_end(w);
}

/* Many tenants: every one is found again, and each has its turn. */
static void hundreds_of_tenants(void **state) {
    (void)state;
    enum { N = 500 };
    static struct world_message messages[2 * N];
    static struct requester requesters[2 * N];
    struct world *w = world_serving(NULL);
    for (unsigned i = 0; i < 2 * N; i++) {
        char name[4] = {(char)('a' + i % N / 100), (char)('a' + i % N / 10 % 10), (char)('a' + i % 10), 0};
        uint64_t id;
        struct failure why;
        messages[i].in_core = true;
        struct core_request r = {.requester = &requesters[i],
                                 .message = &messages[i],
                                 .service = SLICE("a"),
                                 .tenant = slice_of(name),
                                 .priority = CORE_PRIORITY_DEFAULT};
        if (i == N) { /* the first one has no second */
            messages[i].in_core = false;
            continue;
        }
        assert_int_equal(core_submit(w->core, w->now, &r, &id, &why), 0);
    }
    struct core_tenant_cursor cursor = {0};
    struct core_tenant_view v;
    unsigned tenants = 0;
    for (; core_tenant_next(w->core, &cursor, &v); tenants++)
        assert_int_equal(v.requests, v.name.n == 0 ? 0 : slice_eq(v.name, SLICE("aaa")) ? 1 : 2);
    assert_int_equal(tenants, N + 1);
    uint64_t worker;
    assert_int_equal(core_worker_attach(w->core, w->now, &(struct core_worker){.port = w}, &worker), 0);
    assert_int_equal(core_worker_offer(w->core, w->now, worker, SLICE("a")), 0);
    core_worker_slots(w->core, w->now, worker, 2 * N);
    struct core_action a;
    for (unsigned i = 0; i < 2 * N; i++) {
        if (i == N) continue;
        assert_true(core_next_action(w->core, &a));
        assert_ptr_equal(a.requester, &requesters[i]);
        assert_non_null(core_job_answer(w->core, w->now, worker, a.job));
        core_job_done(w->core, w->now, worker, a.job);
    }
    cursor = (struct core_tenant_cursor){0};
    for (tenants = 0; core_tenant_next(w->core, &cursor, &v);) tenants++;
    assert_int_equal(tenants, 1);
    world_free(w);
}

static void a_full_queue_lets_in_who_has_less(void **state) {
    (void)state;
    struct core_service_config c;
    core_service_defaults(&c);
    c.max_queued = 4;
    struct world *w = world_new(NULL);
    define(w, "a", &c);
    struct wish x = {.service = "a", .method = "GET", .tenant = "x"}, y = x;
    y.tenant = "y";
    for (int i = 0; i < 4; i++) assert_int_equal(ask(w, x), 0); /* A to D */
    assert_int_equal(ask(w, x), WEIR_EFULL);                    /* E */
    assert_int_equal(ask(w, y), 0);                             /* F: for D, the newest */
    says(w, "E?503 D!503");
    assert_int_equal(ask(w, y), 0);          /* G, for C */
    assert_int_equal(ask(w, y), WEIR_EFULL); /* H: they have two each */
    says(w, "C!503 H?503");
    y.priority = 9;
    assert_int_equal(ask(w, y), WEIR_EFULL); /* not for those of a better class */
    struct wish z = x;
    z.tenant = "z";
    assert_int_equal(ask(w, z), 0); /* J, for one of those who have most */
    says(w, "I?503 B!503");
    assert_int_equal(ask(w, z), WEIR_EFULL); /* K: there are three of them now */
    join(w, "a", 9);
    says(w, "K?503 A>1 F>1 J>1 G>1");
    world_end(w);
}

/* In one pool a tenant fills the queue; another one's stand in another pool, or will. */
static void a_full_queue_is_one_for_all_its_pools(void **state) {
    (void)state;
    struct core_service_config c = defaults();
    c.require = SLICE("zone=${x-zone}");
    c.max_queued = 3;
    struct world *w = world_serving(&c);
    struct wish flood = {.service = "a", .method = "GET", .tenant = "x", .headers = "x-zone=1"},
                quiet = flood;
    quiet.tenant = "y";
    quiet.headers = "x-zone=2";
    for (int i = 0; i < 3; i++) assert_int_equal(ask(w, flood), 0); /* A to C */
    assert_int_equal(ask(w, quiet), 0);                             /* D */
    assert_int_equal(ask(w, quiet), WEIR_EFULL);                    /* E */
    says(w, "C!503 E?503");
    world_end(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_queue_lets_in_who_has_less),
        cmocka_unit_test(a_full_queue_is_one_for_all_its_pools),
        cmocka_unit_test(who_gives_up_does_not_keep_others_waiting),
        cmocka_unit_test(who_could_not_be_served_is_owed_a_turn_only),
        cmocka_unit_test(a_turn_is_as_many_jobs_as_the_weight_says),
        cmocka_unit_test(turns_go_on_from_slot_to_slot),
        cmocka_unit_test(requests_without_a_tenant_are_one),
        cmocka_unit_test(a_lane_that_empties_loses_its_credit),
        cmocka_unit_test(a_cancelled_job_costs_no_turn),
        cmocka_unit_test(a_lane_of_cancelled_jobs_is_gone),
        cmocka_unit_test(a_new_weight_holds_from_the_next_turn),
        cmocka_unit_test(a_job_handed_back_goes_first_and_costs_no_turn),
        cmocka_unit_test(what_comes_back_goes_before_all_tenants_of_its_class),
        cmocka_unit_test(what_comes_back_goes_before_cheaper_ones),
        cmocka_unit_test(what_comes_back_goes_by_how_long_it_has_waited),
        cmocka_unit_test(classes_are_strict_across_tenants),
        cmocka_unit_test(ageing_goes_by_the_job_whose_turn_it_is),
        cmocka_unit_test(a_class_is_as_old_as_its_oldest_job),
        cmocka_unit_test(nobody_gets_a_better_priority_than_allowed),
        cmocka_unit_test(the_cheapest_goes_first_and_the_unknown_last),
        cmocka_unit_test(each_tenant_has_its_own_cheapest),
        cmocka_unit_test(a_class_comes_before_the_cost),
        cmocka_unit_test(what_has_waited_for_age_goes_before_all_cheaper_ones),
        cmocka_unit_test(without_age_the_dearest_waits_for_ever),
        cmocka_unit_test(changing_the_order_loses_nobody),
        cmocka_unit_test(a_stage_may_cost_something_else),
        cmocka_unit_test(a_rate_lets_a_burst_through_and_then_one_at_a_time),
        cmocka_unit_test(a_burst_of_zero_is_one),
        cmocka_unit_test(retry_after_is_when_the_next_would_be_taken_in_whole_seconds),
        cmocka_unit_test(what_is_refused_takes_no_token),
        cmocka_unit_test(hops_take_no_token),
        cmocka_unit_test(those_without_a_tenant_share_one_rate),
        cmocka_unit_test(a_tenant_without_a_rate_is_forgotten_with_its_last_request),
        cmocka_unit_test(a_tenant_is_remembered_until_its_bucket_is_full),
        cmocka_unit_test(over_max_tenants_they_share),
        cmocka_unit_test(those_who_share_share_a_rate),
        cmocka_unit_test(tenants_are_defined_well_or_not_at_all),
        cmocka_unit_test(hundreds_of_tenants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
