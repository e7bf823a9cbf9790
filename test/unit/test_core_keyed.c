/* SPDX-License-Identifier: Apache-2.0 */
/* Keyed services: what waits by key is queued, refused and lost like everything else. See core_world.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "core_world.h"
#include "weir/weir.h"

static struct core_service_config by_key(void) {
    struct core_service_config c;
    core_service_defaults(&c);
    c.key = SLICE("k");
    c.key_from = CORE_VALUE_HEADER;
    return c;
}

/* A worker, that has its part of the ring when this returns. */
static void joins(struct world *w, unsigned slots) {
    join(w, "a", slots);
    pass(w, 2);
}

static int asks_as(struct world *w, const char *tenant, const char *key) {
    return ask(w, (struct wish){.service = "a", .method = "GET", .tenant = tenant, .headers = key});
}

static void asks(struct world *w, const char *key) {
    assert_int_equal(asks_as(w, NULL, key), 0);
}

static void a_key_is_worked_on_by_one_at_a_time(void **state) {
    (void)state;
    struct core_service_config c = by_key();
    struct world *w = world_serving(&c);
    joins(w, 4);
    asks(w, "k=1"); /* A */
    asks(w, "k=1"); /* B */
    asks(w, "k=2"); /* C */
    says(w, "A>1 C>1");
    finish(w, 'A');
    says(w, "B>1");
    assert_int_equal(asks_as(w, NULL, NULL), WEIR_EINVAL);
    says(w, "D?400");
    world_end(w);
}

static void a_standing_queue_of_keys_is_shed(void **state) {
    (void)state;
    struct core_service_config c = by_key();
    c.shed_wait_us = 100 * 1000;
    c.shed_after_us = 200 * 1000;
    struct world *w = world_serving(&c);
    joins(w, 1);
    asks(w, "k=1"); /* A */
    asks(w, "k=2"); /* B */
    says(w, "A>1");
    pass(w, 190);
    says(w, "");
    pass(w, 20);
    says(w, "B!503");
    world_end(w);
}

static void a_deadline_that_keys_cannot_meet_is_refused(void **state) {
    (void)state;
    struct core_service_config c = by_key();
    c.admit_by_deadline = true;
    static char key[26][8];
    struct world *w = world_serving(&c);
    joins(w, 1);
    for (int i = 0; i < 20; i++) {
        snprintf(key[i], sizeof(key[i]), "k=%d", i);
        asks(w, key[i]);
    }
    for (int i = 0; i < 12; i++) { /* ten a second */
        pass(w, 100);
        finish(w, w->sent);
    }
    struct wish wish = {.service = "a", .method = "GET", .headers = "k=x", .timeout_ms = 300};
    assert_int_equal(ask(w, wish), WEIR_EFULL); /* behind seven */
    wish.timeout_ms = 3000;
    assert_int_equal(ask(w, wish), 0);
    world_end(w);
}

static void a_full_queue_of_keys_lets_in_who_has_less(void **state) {
    (void)state;
    struct core_service_config c = by_key();
    c.max_queued = 4;
    struct world *w = world_serving(&c);
    joins(w, 1);
    asks(w, "k=0"); /* A */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(asks_as(w, "x", "k=1"), 0); /* B, D: D behind B */
        assert_int_equal(asks_as(w, "x", "k=2"), 0); /* C, E */
    }
    assert_int_equal(asks_as(w, "x", "k=3"), WEIR_EFULL); /* F */
    assert_int_equal(asks_as(w, "y", "k=1"), 0);          /* G, for E */
    assert_int_equal(asks_as(w, "y", "k=4"), 0);          /* H, for D */
    assert_int_equal(asks_as(w, "y", "k=5"), WEIR_EFULL); /* I */
    says(w, "A>1 F?503 E!503 D!503 I?503");
    slots(w, 1, 4);
    finish(w, 'A');
    says(w, "B>1 H>1 C>1");
    finish(w, 'B');
    says(w, "G>1");
    world_end(w);
}

static void what_lost_its_worker_goes_first_wherever_it_goes(void **state) {
    (void)state;
    struct core_service_config c = by_key();
    struct world *w = world_serving(&c);
    joins(w, 1);
    asks(w, "k=1"); /* A */
    asks(w, "k=2"); /* B */
    asks(w, "k=3"); /* C */
    says(w, "A>1");
    leave(w, 1);
    joins(w, 1);
    says(w, "A>2*");
    finish(w, 'A');
    finish(w, w->sent);
    finish(w, w->sent);
    says(w, "B>2 C>2");
    world_end(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_worked_on_by_one_at_a_time),
        cmocka_unit_test(a_standing_queue_of_keys_is_shed),
        cmocka_unit_test(a_deadline_that_keys_cannot_meet_is_refused),
        cmocka_unit_test(a_full_queue_of_keys_lets_in_who_has_less),
        cmocka_unit_test(what_lost_its_worker_goes_first_wherever_it_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
