/* SPDX-License-Identifier: Apache-2.0 */
/* Labels: which workers a job may go to, which it would rather go to, and who else has a say in it. See
   core_world.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/state.h"
#include "core_world.h"
#include "weir/weir.h"
#include <stdio.h>
#include <stdlib.h>

/* A world whose service "a" requires and prefers this. */
static struct world *world(const char *require, const char *prefer) {
    struct world *w = world_new(NULL);
    assert_non_null(w);
    struct core_service_config c;
    core_service_defaults(&c);
    c.require = slice_of(require);
    c.prefer = slice_of(prefer);
    define(w, "a", &c);
    return w;
}

static int asks_with(struct world *w, const char *headers) {
    return ask(w, (struct wish){.service = "a", .method = "GET", .headers = headers});
}

static void asks(struct world *w, const char *headers) {
    assert_int_equal(asks_with(w, headers), 0);
}

/* ---- require ---- */

static void what_is_required_is_waited_for(void **state) {
    (void)state;
    struct world *w = world("gpu", NULL);
    join(w, "a", 3);
    join_with(w, "cpu, gp, gpus=2, agpu", "a", 3);
    asks(w, NULL); /* A: two free workers, and neither will do */
    pass(w, 10 * 1000);
    says(w, "");
    assert_int_equal(world_service(w, "a").queued, 1);
    join_with(w, "cpu, gpu", "a", 1);
    says(w, "A>3");
    asks(w, NULL);                      /* B */
    join_with(w, "gpu=a100,x", "a", 1); /* any value will do */
    says(w, "B>4");
    asks(w, NULL); /* C */
    finish(w, 'A');
    says(w, "C>3");
    world_end(w);
}

static void a_value_is_fulfilled_by_itself_only(void **state) {
    (void)state;
    struct world *w = world("zone=eu", NULL);
    join_with(w, "zone", "a", 1);
    join_with(w, "zone=eu1", "a", 1);
    join_with(w, "zone=e", "a", 1);
    join_with(w, "zone=us, Zone=eu", "a", 1);
    asks(w, NULL);
    says(w, "");
    join_with(w, "x, zone=eu , y", "a", 1);
    says(w, "A>5");
    world_end(w);
}

static void all_that_is_required_must_be_there(void **state) {
    (void)state;
    struct world *w = world("gpu, zone=eu", NULL);
    join_with(w, "gpu", "a", 1);
    join_with(w, "zone=eu", "a", 1);
    asks(w, NULL);
    says(w, "");
    join_with(w, "zone=eu, gpu=1", "a", 1);
    says(w, "A>3");
    world_end(w);
}

static void a_header_says_what_is_required(void **state) {
    (void)state;
    struct world *w = world("gpu, zone=${x-zone}", NULL);
    join_with(w, "gpu, zone=eu", "a", 2);
    join_with(w, "gpu, zone=us", "a", 2);
    join_with(w, "zone=eu", "a", 2);
    asks(w, "x-zone=us");
    asks(w, "x-zone=eu");
    asks(w, "x-zone=us;x-other=eu");
    asks(w, "x-zone=as");
    says(w, "A>2 B>1 C>2");
    join_with(w, "zone=as,gpu", "a", 1);
    says(w, "D>4");
    world_end(w);
}

static void an_item_whose_header_is_missing_is_left_out(void **state) {
    (void)state;
    struct world *w = world("zone=${x-zone}, gpu", NULL);
    join(w, "a", 1);
    join_with(w, "gpu", "a", 3);
    asks(w, NULL);          /* gpu */
    asks(w, "x-other=1");   /* gpu */
    asks(w, "x-zone=;y=1"); /* gpu: nothing in it */
    says(w, "A>2 B>2 C>2");
    world_end(w);
    w = world("zone=${x-zone}", NULL); /* nothing is left of it */
    join(w, "a", 1);
    asks(w, NULL);
    says(w, "A>1");
    world_end(w);
}

static void several_headers_make_one_label(void **state) {
    (void)state;
    struct world *w = world("${k}=${v}-${w}", NULL);
    join_with(w, "zone=eu-1", "a", 5);
    asks(w, "k=zone;v=eu;w=1");
    asks(w, "k=zone;v=eu;w=2");
    asks(w, "k=zone;v=eu"); /* left out as a whole */
    says(w, "A>1 C>1");
    world_end(w);
}

static void a_header_that_no_label_can_have_is_refused(void **state) {
    (void)state;
    struct world *w = world("zone=${x-zone}", NULL);
    join(w, "a", 9);
    char longest[1100] = "x-zone=";
    memset(longest + 7, 'z', 1019);
    assert_int_equal(asks_with(w, "x-zone=eu, gpu"), WEIR_EINVAL);
    assert_non_null(w->requests[0].failure.detail);
    assert_int_equal(asks_with(w, "x-zone=eu,gpu"), WEIR_EINVAL);
    assert_int_equal(asks_with(w, "x-zone=e u"), WEIR_EINVAL);
    assert_int_equal(asks_with(w, "x-zone=e\tu"), WEIR_EINVAL);
    assert_int_equal(asks_with(w, "x-zone=\xc3\xbc"), WEIR_EINVAL);
    assert_int_equal(asks_with(w, "x-zone=\x7f"), WEIR_EINVAL);
    assert_int_equal(asks_with(w, longest), 0); /* 1024 with what is before it */
    longest[7 + 1019] = 'z';
    assert_int_equal(asks_with(w, longest), WEIR_EINVAL);
    says(w, "A?400 B?400 C?400 D?400 E?400 F?400 H?400");
    assert_int_equal(world_stats(w).rejected_labels, 7);
    assert_int_equal(world_stats(w).queued, 1);
    world_end(w);
}

static void a_job_that_comes_back_waits_for_its_label(void **state) {
    (void)state;
    struct world *w = world("gpu", NULL);
    join_with(w, "gpu", "a", 1);
    join(w, "a", 1);
    asks(w, NULL); /* A */
    asks(w, NULL); /* B */
    says(w, "A>1");
    leave(w, 1);
    says(w, "");
    join_with(w, "gpu", "a", 1);
    says(w, "A>3*");
    hand_back(w, 'A');
    join_with(w, "gpu", "a", 2);
    says(w, "A>4* B>4");
    world_end(w);
}

static void hops_and_parts_are_asked_for_their_labels(void **state) {
    (void)state;
    struct world *w = world("gpu", NULL);
    join(w, "first,a", 5);
    join_with(w, "gpu", "a", 5);
    ask_for(w, "GET", "first");
    ask_for(w, "GET", "first");
    says(w, "A>1 B>1");
    forward(w, 'A', "a");
    scatter(w, 'B', 1);
    part(w, 'B', "a");
    says(w, "A>2 C>2");
    world_end(w);
}

/* ---- prefer ---- */

static void the_preferred_one_goes_first(void **state) {
    (void)state;
    struct world *w = world(NULL, "gpu");
    join(w, "a", 9);
    join_with(w, "gpu", "a", 3);
    for (int i = 0; i < 4; i++) asks(w, NULL);
    says(w, "A>2 B>2 C>2"); /* D waits for it */
    finish(w, 'B');
    says(w, "D>2");
    world_end(w);
}

static void after_prefer_wait_any_will_do(void **state) {
    (void)state;
    struct world *w = world(NULL, "gpu");
    join(w, "a", 2);
    join_with(w, "gpu", "a", 1);
    asks(w, NULL);
    asks(w, NULL);
    says(w, "A>2");
    pass(w, 99);
    says(w, "");
    pass(w, 1);
    says(w, "B>1");
    asks(w, NULL);
    pass(w, 50);
    asks(w, NULL);
    pass(w, 50);
    says(w, "C>1");
    pass(w, 50); /* D may go to any, and there is none */
    says(w, "");
    finish(w, 'B');
    says(w, "D>1");
    world_end(w);
}

static void the_preferred_one_takes_it_after_prefer_wait_too(void **state) {
    (void)state;
    struct world *w = world(NULL, "gpu");
    join(w, "a", 1);
    join_with(w, "gpu", "a", 1);
    for (int i = 0; i < 3; i++) asks(w, NULL);
    pass(w, 100);
    says(w, "A>2 B>1");
    finish(w, 'A');
    says(w, "C>2");
    world_end(w);
}

static void nobody_waits_for_what_nobody_has(void **state) {
    (void)state;
    struct world *w = world(NULL, "zone=${x-zone}");
    join_with(w, "zone=eu", "a", 2);
    asks(w, "x-zone=us"); /* nobody has it */
    asks(w, NULL);        /* no wish */
    says(w, "A>1 B>1");
    join_with(w, "zone=us", "a", 1);
    asks(w, "x-zone=us");
    asks(w, "x-zone=us");
    says(w, "C>2");
    finish(w, 'A');
    says(w, "");
    pass(w, 100);
    says(w, "D>1");
    world_end(w);
}

static void without_prefer_wait_it_is_who_is_free(void **state) {
    (void)state;
    struct world *w = world_new(NULL);
    struct core_service_config c;
    core_service_defaults(&c);
    c.prefer = SLICE("gpu");
    c.prefer_us = 0;
    define(w, "a", &c);
    join(w, "a", 1);
    join_with(w, "gpu", "a", 1);
    for (int i = 0; i < 4; i++) asks(w, NULL);
    says(w, "A>2 B>1");
    finish(w, 'B');
    finish(w, 'A');
    says(w, "C>1 D>2");
    world_end(w);
}

static void a_wish_that_no_label_can_have_is_none(void **state) {
    (void)state;
    struct world *w = world(NULL, "zone=${x-zone}");
    join_with(w, "zone=eu", "a", 2);
    asks(w, "x-zone=e,u");
    asks(w, "x-zone=e u");
    says(w, "A>1 B>1");
    assert_int_equal(world_stats(w).rejected_labels, 0);
    world_end(w);
}

static void what_is_preferred_comes_on_top_of_what_is_required(void **state) {
    (void)state;
    struct world *w = world("gpu", "zone=${x-zone}");
    join_with(w, "zone=eu", "a", 5); /* never */
    join_with(w, "gpu", "a", 1);
    join_with(w, "gpu, zone=eu", "a", 1);
    for (int i = 0; i < 4; i++) asks(w, "x-zone=eu");
    says(w, "A>3");
    pass(w, 200);
    says(w, "B>2");
    pass(w, 1000);
    says(w, "");
    finish(w, 'B');
    finish(w, 'A');
    says(w, "C>2 D>3");
    world_end(w);
}

static void one_that_waits_for_the_preferred_can_be_cancelled(void **state) {
    (void)state;
    struct world *w = world(NULL, "gpu");
    join(w, "a", 1);
    join_with(w, "gpu", "a", 1);
    for (int i = 0; i < 3; i++) asks(w, NULL);
    says(w, "A>2");
    give_up(w, 'B');
    ask(w, (struct wish){.service = "a", .method = "GET", .timeout_ms = 50}); /* D */
    pass(w, 100);
    says(w, "D!504 C>1");
    world_end(w);
}

/* Who came later does not go before it. */
static void who_waited_for_the_preferred_one_keeps_its_place(void **state) {
    (void)state;
    struct world *w = world(NULL, "zone=${x-zone}");
    join(w, "a", 1);
    join_with(w, "zone=eu", "a", 1);
    asks(w, "x-zone=eu"); /* A */
    asks(w, NULL);        /* B */
    asks(w, "x-zone=eu"); /* C waits for the preferred one */
    pass(w, 50);
    asks(w, NULL); /* D */
    pass(w, 100);
    finish(w, 'B');
    says(w, "A>2 B>1 C>1");
    leave(w, 2); /* and A, which comes back, goes before all of them */
    pass(w, 150);
    finish(w, 'C');
    says(w, "A>1*");
    world_end(w);
}

static void a_draining_worker_is_not_waited_for(void **state) {
    (void)state;
    struct world *w = world(NULL, "gpu");
    join(w, "a", 2);
    join_with(w, "gpu", "a", 1);
    core_worker_drain(w->core, w->now, w->workers[2]);
    asks(w, NULL);
    says(w, "A>1");
    world_end(w);
}

/* ---- labels change ---- */

static void a_relabelled_worker_takes_what_waits(void **state) {
    (void)state;
    struct world *w = world("zone=${x-zone}", NULL);
    join_with(w, "zone=eu", "a", 3);
    asks(w, "x-zone=eu"); /* A */
    asks(w, "x-zone=us"); /* B */
    asks(w, "x-zone=us"); /* C */
    asks(w, "x-zone=us"); /* D */
    says(w, "A>1");
    assert_int_equal(relabel(w, 1, "zone=us, new"), 0);
    says(w, "B>1 C>1"); /* at once; and A goes on */
    asks(w, "x-zone=eu");
    finish(w, 'A');
    says(w, "D>1");
    finish(w, 'B');
    says(w, ""); /* none of its old ones */
    struct core_worker_view v;
    uint32_t cursor = 0;
    assert_true(core_worker_next(w->core, &cursor, &v));
    assert_true(slice_eq(v.labels, SLICE("zone=us, new")));
    assert_int_equal(relabel(w, 1, ""), 0);
    pass(w, 1);
    asks(w, "x-zone=us"); /* F */
    asks(w, NULL);        /* G */
    says(w, "G>1");
    finish(w, 'C');
    finish(w, 'D');
    says(w, "");
    assert_int_equal(relabel(w, 1, "zone=us,zone=eu"), 0);
    says(w, "E>1 F>1");
    world_end(w);
}

static void a_job_whose_worker_was_relabelled_goes_elsewhere(void **state) {
    (void)state;
    struct world *w = world("gpu", NULL);
    join_with(w, "gpu", "a", 1);
    asks(w, NULL);
    assert_int_equal(relabel(w, 1, "cpu"), 0);
    lose(w, 'A');
    says(w, "A>1"); /* not to the same one */
    join_with(w, "gpu", "a", 1);
    says(w, "A>2*");
    world_end(w);
}

static void labels_of_a_busy_or_draining_worker_change(void **state) {
    (void)state;
    struct world *w = world("gpu", NULL);
    join_with(w, "gpu", "a,b", 1);
    join(w, "a", 1);
    ask_for(w, "GET", "b"); /* A */
    asks(w, NULL);          /* B */
    says(w, "A>1");
    assert_int_equal(relabel(w, 1, "x"), 0);
    assert_int_equal(relabel(w, 1, "gpu=2"), 0);
    finish(w, 'A');
    says(w, "B>1");
    core_worker_drain(w->core, w->now, w->workers[2]);
    assert_int_equal(relabel(w, 2, "gpu"), 0);
    asks(w, NULL); /* C */
    says(w, "");
    world_end(w);
}

/* ---- the queue over pools ---- */

static void pools_of_a_service_share_its_order(void **state) {
    (void)state;
    struct world *w = world("zone=${x-zone}", NULL);
    struct wish wish = {.service = "a", .method = "GET", .headers = "x-zone=eu"};
    ask(w, wish); /* A */
    pass(w, 1);
    wish.headers = NULL;
    ask(w, wish); /* B */
    pass(w, 1);
    wish.headers = "x-zone=us";
    ask(w, wish); /* C: nobody has it */
    wish.headers = "x-zone=eu";
    ask(w, wish); /* D */
    pass(w, 1);
    wish.headers = NULL;
    wish.priority = 3;
    ask(w, wish); /* E: before all */
    join_with(w, "zone=eu", "a", 1);
    says(w, "E>1");
    slots(w, 1, 9);
    says(w, "A>1 B>1 D>1");
    assert_int_equal(world_service(w, "a").queued, 1);
    world_end(w);
}

static void who_came_at_the_same_time_goes_in_order(void **state) {
    (void)state;
    struct world *w = world("zone=${x-zone}", NULL);
    asks(w, "x-zone=1");
    asks(w, NULL);
    asks(w, "x-zone=2");
    join_with(w, "zone=1,zone=2", "a", 0);
    slots(w, 1, 3);
    says(w, "A>1 B>1 C>1");
    world_end(w);
}

static void the_cheapest_goes_first_whatever_it_needs(void **state) {
    (void)state;
    struct world *w = world_new(NULL);
    struct core_service_config c;
    core_service_defaults(&c);
    c.require = SLICE("zone=${x-zone}");
    c.shortest_first = true;
    define(w, "a", &c);
    struct wish wish = {.service = "a", .method = "GET", .headers = "x-zone=1", .cost = 100};
    ask(w, wish); /* A */
    pass(w, 1);
    wish.headers = NULL;
    wish.cost = 1;
    ask(w, wish); /* B */
    wish.headers = "x-zone=2";
    wish.cost = 10;
    ask(w, wish); /* C */
    join_with(w, "zone=1,zone=2", "a", 0);
    slots(w, 1, 3);
    says(w, "B>1 C>1 A>1");
    world_end(w);
}

/* Two tenants of different needs take turns, too. */
static void needs_do_not_push_others_back(void **state) {
    (void)state;
    struct world *w = world("zone=${x-zone}", NULL);
    struct wish x = {.service = "a", .method = "GET", .tenant = "x", .headers = "x-zone=1"}, y = x;
    y.tenant = "y";
    y.headers = NULL;
    join_with(w, "zone=1", "a", 1);
    for (int i = 0; i < 5; i++) ask(w, x); /* A to E */
    pass(w, 1);
    for (int i = 0; i < 2; i++) ask(w, y); /* F, G */
    for (int i = 0; i < 6; i++) finish(w, w->sent);
    says(w, "A>1 F>1 B>1 G>1 C>1 D>1 E>1");
    world_end(w);
}

static void a_stage_with_a_header_that_no_label_can_have_is_its_workers_fault(void **state) {
    (void)state;
    struct world *w = world("zone=${x-zone}", NULL);
    join(w, "first", 1);
    ask_for(w, "GET", "first");
    struct world_message *m = &w->messages[w->message_count++];
    m->headers = "x-zone=a b";
    struct core_hop hop = {SLICE("a"), m, 1, 0};
    const struct world_request *r = &w->requests[0];
    assert_int_equal(core_job_forward(w->core, w->now, r->worker, r->job, &hop), WEIR_EINVAL);
    act(w);
    says(w, "A>1 A!502");
    world_end(w);
}

static void two_services_with_labels_and_different_aims(void **state) {
    (void)state;
    struct world *w = world_new(NULL);
    struct core_service_config c;
    core_service_defaults(&c);
    c.require = SLICE("zone=${x-zone}");
    c.target_wait_us = 1000 * 1000;
    define(w, "slow", &c);
    c.target_wait_us = 10 * 1000;
    define(w, "fast", &c);
    struct wish slow = {.service = "slow", .method = "GET", .headers = "x-zone=eu"}, fast = slow;
    fast.service = "fast";
    ask(w, slow); /* A: at 0.56 of its aim in the end */
    fast.headers = "x-zone=us";
    ask(w, fast); /* B: far behind, but not for this worker */
    pass(w, 500);
    fast.headers = "x-zone=eu";
    ask(w, fast); /* C: at 6 times its aim */
    pass(w, 57);
    fast.headers = NULL;
    ask(w, fast); /* D: at 0.3 of it */
    pass(w, 3);
    join_with(w, "zone=eu", "slow,fast", 0);
    slots(w, 1, 1);
    says(w, "C>1");
    finish(w, 'C');
    says(w, "A>1");
    finish(w, 'A');
    says(w, "D>1");
    finish(w, 'D');
    says(w, "");
    world_end(w);
}

/* ---- many needs ---- */

static struct world_message messages[2 * POOLS_MOST];
static struct requester nobody;
enum { SIDE = 101 }; /* its square is more than there may be pools */

static int submit(struct world *w, unsigned i, unsigned zone, uint64_t *ret_id, struct failure *ret_why) {
    static char headers[2 * POOLS_MOST][40];
    snprintf(headers[i], sizeof headers[i], "x-zone=%u;x=%u;y=%u", zone, zone / SIDE, zone % SIDE);
    messages[i] = (struct world_message){.in_core = true, .headers = headers[i]};
    struct core_request r = {.requester = &nobody, .message = &messages[i], .service = SLICE("a")};
    int err = core_submit(w->core, w->now, &r, ret_id, ret_why);
    if (err != 0) messages[i].in_core = false;
    return err;
}

/* As world, for more jobs than a service takes by default. */
static struct world *crowd(const char *require, const char *prefer) {
    struct world *w = world_new(NULL);
    struct core_service_config c;
    core_service_defaults(&c);
    c.require = slice_of(require);
    c.prefer = slice_of(prefer);
    c.max_queued = 2 * POOLS_MOST;
    define(w, "a", &c);
    return w;
}

static void so_many_different_needs_may_wait(void **state) {
    (void)state;
    struct world *w = crowd("zone=${x-zone}", NULL);
    static uint64_t ids[POOLS_MOST + 1];
    struct failure why;
    for (unsigned i = 0; i < POOLS_MOST; i++) assert_int_equal(submit(w, i, i, &ids[i], &why), 0);
    assert_int_equal(submit(w, POOLS_MOST, POOLS_MOST, &ids[POOLS_MOST], &why), WEIR_EFULL);
    assert_int_equal(why.status, 503);
    assert_non_null(why.detail);
    assert_int_equal(world_stats(w).rejected_labels, 1);
    assert_int_equal(submit(w, POOLS_MOST, 7, &ids[POOLS_MOST], &why), 0); /* a need that is known */
    asks(w, NULL);                                                         /* A: none at all */
    core_cancel(w->core, w->now, ids[7], CORE_CLIENT_GONE);
    assert_int_equal(submit(w, 7, POOLS_MOST, &ids[7], &why), WEIR_EFULL); /* one more needs 7 */
    core_cancel(w->core, w->now, ids[3], CORE_CLIENT_GONE);
    assert_int_equal(submit(w, 3, POOLS_MOST, &ids[3], &why), 0);
    join_with(w, "zone=x, zone=y", "a", 1);
    says(w, "A>1");
    assert_int_equal(submit(w, 7, 3, &ids[7], &why), WEIR_EFULL);
    for (unsigned i = 0; i < POOLS_MOST + 1; i++) core_cancel(w->core, w->now, ids[i], CORE_CLIENT_GONE);
    for (unsigned i = 0; i < POOLS_MOST; i++) /* as many others */
        assert_int_equal(submit(w, i, 2 * POOLS_MOST + i, &ids[i], &why), 0);
    assert_int_equal(world_stats(w).queued, POOLS_MOST);
    core_free(w->core);
    for (unsigned i = 0; i < POOLS_MOST; i++) assert_false(messages[i].in_core);
}

/* Each asks for something else, one after the other: what is kept of it is bounded. */
static void needs_that_nobody_has_are_forgotten(void **state) {
    (void)state;
    struct world *w = crowd("zone=${x-zone}", NULL);
    struct failure why;
    uint64_t id;
    for (unsigned zone = 0; zone < 10 * POOLS_IDLE_MOST; zone++) {
        assert_int_equal(submit(w, 0, zone, &id, &why), 0);
        core_cancel(w->core, w->now, id, CORE_CLIENT_GONE);
    }
    assert_true(core_service_find(w->core, SLICE("a"))->pool_count <= POOLS_IDLE_MOST);
    core_free(w->core);
}

/* Needs come and go, far more of them than are kept; a worker that fulfils some finds them all. */
static void needs_come_and_go(void **state) {
    (void)state;
    struct world *w = world("zone=${x-zone}", NULL);
    join_with(w, "zone=5, zone=1500, zone=0", "a", 2);
    uint64_t id = 0, running = 0;
    struct failure why;
    struct core_action a;
    assert_int_equal(submit(w, 0, 0, &running, &why), 0); /* runs through all of it */
    assert_true(core_next_action(w->core, &a));
    uint64_t job = a.job;
    for (unsigned zone = 1; zone < 3 * POOLS_MOST; zone++) {
        assert_int_equal(submit(w, 1, zone, &id, &why), 0);
        if (core_next_action(w->core, &a)) {
            assert_true(zone == 5 || zone == 1500);
            assert_int_equal(a.kind, CORE_SEND);
            assert_non_null(core_job_answer(w->core, w->now, a.worker, a.job));
            core_job_done(w->core, w->now, a.worker, a.job);
            core_slot_free(w->core, w->now, a.worker, a.job);
        } else {
            assert_false(zone == 5 || zone == 1500);
            core_cancel(w->core, w->now, id, CORE_CLIENT_GONE);
        }
    }
    core_job_lost(w->core, w->now, w->workers[1], job); /* it is not safe to run it again */
    assert_true(core_next_action(w->core, &a));
    assert_int_equal(a.kind, CORE_FAIL);
    assert_int_equal(world_service(w, "a").dispatched, 3);
    assert_true(core_idle(w->core));
    world_free(w);
}

/* For want of room a wish is given up, not the request. */
static void a_wish_too_many_is_none(void **state) {
    (void)state;
    assert_true(SIDE * SIDE > POOLS_MOST);
    struct world *w = crowd(NULL, "${x},${y}");
    char labels[SIDE * 4] = "";
    for (unsigned i = 0, n = 0; i < SIDE; i++)
        n += (unsigned)snprintf(labels + n, sizeof labels - n, "%s%u", i ? "," : "", i);
    join_with(w, labels, "a", 1);
    join(w, "a", 0);
    uint64_t id;
    struct failure why;
    struct core_action a;
    for (unsigned i = 0; i < POOLS_MOST; i++) assert_int_equal(submit(w, i, i, &id, &why), 0);
    assert_true(core_next_action(w->core, &a)); /* the first one's; all others wait for the same worker */
    assert_int_equal(submit(w, POOLS_MOST, POOLS_MOST, &id, &why), 0);
    core_worker_slots(w->core, w->now, w->workers[2], 9);
    assert_true(core_next_action(w->core, &a)); /* but the last */
    assert_true(a.worker == w->workers[2]);
    assert_true(a.request == id);
    assert_false(core_next_action(w->core, &a));
    core_free(w->core);
    for (unsigned i = 0; i <= POOLS_MOST; i++) assert_false(messages[i].in_core);
}

/* ---- the choose callback ---- */

static struct {
    unsigned calls;
    size_t n, answer;
    struct core_candidate seen[CORE_CANDIDATES];
    char service[20];
    const char *headers;
} chosen;

static size_t choose(void *ctx, struct slice service, const void *message,
                     const struct core_candidate *workers, size_t n) {
    assert_non_null(ctx);
    assert_in_range(n, 2, CORE_CANDIDATES);
    chosen.calls++;
    chosen.n = n;
    memcpy(chosen.seen, workers, n * sizeof *workers);
    snprintf(chosen.service, sizeof chosen.service, "%.*s", SLICE_ARG(service));
    chosen.headers = ((const struct world_message *)message)->headers;
    return chosen.answer;
}

static void the_program_chooses(void **state) {
    (void)state;
    struct world *w = world("gpu", NULL);
    memset(&chosen, 0, sizeof chosen);
    core_set_choose(w->core, choose);
    join(w, "a", 3);
    join_with(w, "gpu", "a", 3);
    asks(w, NULL); /* A: one candidate is no choice */
    assert_int_equal(chosen.calls, 0);
    join_with(w, "gpu=2", "a", 4);
    join_with(w, "gpu=3", "a", 5);
    chosen.answer = 1;
    asks(w, "h=1"); /* B */
    assert_int_equal(chosen.n, 3);
    assert_string_equal(chosen.service, "a");
    assert_string_equal(chosen.headers, "h=1");
    /* The idle ones first, who came first first; then who runs one. */
    for (unsigned i = 0; i < 3; i++) assert_true(chosen.seen[i].worker == w->workers[i < 2 ? 3 + i : 2]);
    assert_true(slice_eq(chosen.seen[0].labels, SLICE("gpu=2")));
    assert_int_equal(chosen.seen[1].slots, 5);
    assert_int_equal(chosen.seen[1].running, 0);
    assert_int_equal(chosen.seen[2].running, 1);
    chosen.answer = 2; /* who runs most */
    asks(w, NULL);     /* C */
    chosen.answer = chosen.n;
    asks(w, NULL); /* D: the first */
    chosen.answer = chosen.n + 1;
    asks(w, NULL); /* E */
    says(w, "A>2 B>4 C>4 D>3 E>2");
    assert_int_equal(chosen.calls, 4);
    core_set_choose(w->core, NULL);
    asks(w, NULL);
    says(w, "F>3");
    assert_int_equal(chosen.calls, 4);
    world_end(w);
}

static void only_those_who_have_room_can_be_chosen(void **state) {
    (void)state;
    struct world *w = world_new(NULL);
    struct core_config c = world_config(w);
    memset(&chosen, 0, sizeof chosen);
    chosen.answer = 1;
    c.choose = choose;
    world_free(w);
    w = world_new(&c);
    join(w, "a", 1);
    join(w, "a", 1);
    join(w, "a", 1);
    join(w, "b", 1);
    core_worker_drain(w->core, w->now, w->workers[1]);
    asks(w, NULL); /* A: of 2 and 3 */
    asks(w, NULL); /* B: 2 is left */
    asks(w, NULL); /* C */
    finish(w, 'A');
    says(w, "A>3 B>2 C>3");
    assert_int_equal(chosen.calls, 1);
    world_end(w);
}

/* Of more workers than it may be shown, it is shown the least busy. */
static void a_choice_of_many(void **state) {
    (void)state;
    struct world *w = world(NULL, NULL);
    memset(&chosen, 0, sizeof chosen);
    core_set_choose(w->core, choose);
    uint64_t workers[CORE_CANDIDATES + 8];
    for (unsigned i = 0; i < CORE_CANDIDATES + 8; i++) {
        struct core_worker worker = {.port = w, .id = SLICE("w")};
        assert_int_equal(core_worker_attach(w->core, w->now, &worker, &workers[i]), 0);
        assert_int_equal(core_worker_offer(w->core, w->now, workers[i], SLICE("a")), 0);
        core_worker_slots(w->core, w->now, workers[i], 2);
    }
    uint64_t id;
    struct failure why;
    struct core_action a;
    for (unsigned i = 0; i < 8; i++) { /* always the first: it runs one then */
        assert_int_equal(submit(w, i, 0, &id, &why), 0);
        assert_true(core_next_action(w->core, &a));
        assert_true(a.worker == workers[i]);
        assert_int_equal(chosen.n, CORE_CANDIDATES);
    }
    chosen.answer = CORE_CANDIDATES - 1;
    assert_int_equal(submit(w, 8, 0, &id, &why), 0);
    assert_true(core_next_action(w->core, &a));
    assert_true(a.worker == workers[CORE_CANDIDATES + 7]);
    core_free(w->core);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_required_is_waited_for),
        cmocka_unit_test(a_value_is_fulfilled_by_itself_only),
        cmocka_unit_test(all_that_is_required_must_be_there),
        cmocka_unit_test(a_header_says_what_is_required),
        cmocka_unit_test(an_item_whose_header_is_missing_is_left_out),
        cmocka_unit_test(several_headers_make_one_label),
        cmocka_unit_test(a_header_that_no_label_can_have_is_refused),
        cmocka_unit_test(a_job_that_comes_back_waits_for_its_label),
        cmocka_unit_test(hops_and_parts_are_asked_for_their_labels),
        cmocka_unit_test(the_preferred_one_goes_first),
        cmocka_unit_test(after_prefer_wait_any_will_do),
        cmocka_unit_test(the_preferred_one_takes_it_after_prefer_wait_too),
        cmocka_unit_test(nobody_waits_for_what_nobody_has),
        cmocka_unit_test(without_prefer_wait_it_is_who_is_free),
        cmocka_unit_test(a_wish_that_no_label_can_have_is_none),
        cmocka_unit_test(what_is_preferred_comes_on_top_of_what_is_required),
        cmocka_unit_test(one_that_waits_for_the_preferred_can_be_cancelled),
        cmocka_unit_test(who_waited_for_the_preferred_one_keeps_its_place),
        cmocka_unit_test(a_draining_worker_is_not_waited_for),
        cmocka_unit_test(a_relabelled_worker_takes_what_waits),
        cmocka_unit_test(a_job_whose_worker_was_relabelled_goes_elsewhere),
        cmocka_unit_test(labels_of_a_busy_or_draining_worker_change),
        cmocka_unit_test(pools_of_a_service_share_its_order),
        cmocka_unit_test(who_came_at_the_same_time_goes_in_order),
        cmocka_unit_test(the_cheapest_goes_first_whatever_it_needs),
        cmocka_unit_test(needs_do_not_push_others_back),
        cmocka_unit_test(a_stage_with_a_header_that_no_label_can_have_is_its_workers_fault),
        cmocka_unit_test(two_services_with_labels_and_different_aims),
        cmocka_unit_test(so_many_different_needs_may_wait),
        cmocka_unit_test(needs_that_nobody_has_are_forgotten),
        cmocka_unit_test(needs_come_and_go),
        cmocka_unit_test(a_wish_too_many_is_none),
        cmocka_unit_test(the_program_chooses),
        cmocka_unit_test(only_those_who_have_room_can_be_chosen),
        cmocka_unit_test(a_choice_of_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
