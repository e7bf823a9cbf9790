/* SPDX-License-Identifier: Apache-2.0 */
/* Workers: which one is chosen, what they may offer, and how everything looks from outside. See core_world.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core_world.h"
#include "weir/weir.h"
#include <stdio.h>

static struct world *world(void) {
    struct world *w = world_new(NULL);
    assert_non_null(w);
    return w;
}

static void cancel_all(struct world *w) {
    for (unsigned i = 0; i < w->request_count; i++)
        if (w->requests[i].id) core_cancel(w->core, w->now, w->requests[i].id, CORE_CLIENT_GONE);
    assert_true(core_idle(w->core));
    world_free(w);
}

static void the_one_that_runs_least_then_idles_longest(void **state) {
    (void)state;
    struct world *w = world();
    join(w, "a", 2);
    join(w, "a", 3);
    join(w, "a", 1);
    for (int i = 0; i < 7; i++) ask_for(w, "GET", "a");
    says(w, "A>1 B>2 C>3 D>1 E>2 F>2");
    finish(w, 'C');
    says(w, "G>3");
    finish(w, 'F'); /* 2 runs two, as 1 does, but 1 has no room */
    finish(w, 'B');
    finish(w, 'G'); /* 3 runs none */
    ask_for(w, "GET", "a");
    ask_for(w, "GET", "a");
    says(w, "H>3 I>2");
    finish(w, 'H');
    finish(w, 'A');
    finish(w, 'D'); /* 1 runs none either, but 3 did so before */
    ask_for(w, "GET", "a");
    ask_for(w, "GET", "a");
    says(w, "J>3 K>1");
    cancel_all(w);
}

static void the_service_most_behind_goes_first(void **state) {
    (void)state;
    struct world *w = world();
    struct core_config c = world_config(w);
    c.service.target_wait_us = 1000 * 1000;
    assert_int_equal(core_service_define(w->core, SLICE("slow"), &c.service), 0);
    c.service.target_wait_us = 10 * 1000;
    assert_int_equal(core_service_define(w->core, SLICE("fast"), &c.service), 0);
    ask_for(w, "GET", "slow"); /* A: after 560 ms at 0.56 of its aim */
    pass(w, 500);
    ask_for(w, "GET", "fast"); /* B: after 60 ms at 6 times its aim */
    pass(w, 57);
    ask_for(w, "GET", "fast"); /* C: at 0.3 of it */
    pass(w, 3);
    join(w, "slow,fast", 0);
    says(w, "");
    slots(w, 1, 1);
    says(w, "B>1");
    finish(w, 'B');
    says(w, "A>1");
    finish(w, 'A');
    says(w, "C>1");
    finish(w, 'C');
    world_free(w);
}

static void slots_change(void **state) {
    (void)state;
    struct world *w = world();
    join(w, "a", 3);
    for (int i = 0; i < 5; i++) ask_for(w, "GET", "a");
    says(w, "A>1 B>1 C>1");
    slots(w, 1, 1); /* fewer than it runs */
    finish(w, 'A');
    finish(w, 'B');
    says(w, "");
    finish(w, 'C');
    says(w, "D>1");
    slots(w, 1, 0);
    finish(w, 'D');
    says(w, "");
    slots(w, 1, 4);
    says(w, "E>1");
    assert_int_equal(world_stats(w).slots, 4);
    finish(w, 'E');
    slots(w, 1, UINT32_MAX); /* more than there are levels of load */
    for (int i = 0; i < 3; i++) ask_for(w, "GET", "a");
    says(w, "F>1 G>1 H>1");
    cancel_all(w);
}

/* Beyond the levels of load that are told apart, all is well but the order. */
static void thousands_of_slots(void **state) {
    (void)state;
    enum { N = 3000 };
    struct world *w = world();
    struct core_config c = world_config(w);
    c.service.max_queued = N;
    assert_int_equal(core_service_define(w->core, SLICE("a"), &c.service), 0);
    join(w, "a", N - 500);
    join(w, "a", 700);
    static struct world_message messages[N];
    static struct {
        uint64_t job;
        unsigned worker;
    } sent[N];
    struct requester nobody = {0};
    unsigned runs[3] = {0}, count = 0;
    struct core_action a;
    for (unsigned i = 0; i < N; i++) {
        uint64_t id;
        struct failure why;
        messages[i].in_core = true;
        struct core_request r = {.requester = &nobody, .message = &messages[i], .service = SLICE("a")};
        assert_int_equal(core_submit(w->core, w->now, &r, &id, &why), 0);
        while (core_next_action(w->core, &a)) {
            unsigned chosen = a.worker == w->workers[1] ? 1 : 2;
            if (runs[2] < 700) assert_int_equal(chosen, 1 + (i % 2)); /* evenly while both have room */
            runs[chosen]++;
            sent[count].job = a.job;
            sent[count++].worker = chosen;
        }
    }
    assert_int_equal(count, N);
    assert_int_equal(runs[1], N - 700);
    for (unsigned i = 0; i < N; i++) core_job_lost(w->core, w->now, w->workers[sent[i].worker], sent[i].job);
    while (core_next_action(w->core, &a)) assert_int_equal(a.kind, CORE_FAIL);
    assert_true(core_idle(w->core));
    for (unsigned i = 0; i < N; i++) assert_false(messages[i].in_core);
    world_free(w);
}

static void what_may_be_offered(void **state) {
    (void)state;
    struct world *w = world();
    struct core_config c = world_config(w);
    c.max_services = 2;
    c.max_workers = 1;
    world_free(w);
    w = world_new(&c);
    assert_int_equal(join(w, "a", 1), 0);
    uint64_t id;
    struct core_worker second = {0};
    assert_int_equal(core_worker_attach(w->core, w->now, &second, &id), WEIR_ETOOMANY);
    char longest[256];
    memset(longest, 'x', sizeof longest);
    assert_int_equal(core_worker_offer(w->core, w->now, w->workers[1], SLICE("")), WEIR_EINVAL);
    assert_int_equal(core_worker_offer(w->core, w->now, w->workers[1], SLICE("a b")), WEIR_EINVAL);
    assert_int_equal(core_worker_offer(w->core, w->now, w->workers[1], (struct slice){longest, 256}),
                     WEIR_EINVAL);
    assert_int_equal(core_worker_offer(w->core, w->now, w->workers[1], SLICE("a")),
                     0); /* again: nothing new */
    assert_int_equal(world_service(w, "a").workers, 1);
    assert_int_equal(core_worker_offer(w->core, w->now, w->workers[1], (struct slice){longest, 255}), 0);
    assert_int_equal(core_worker_offer(w->core, w->now, w->workers[1], SLICE("c")), WEIR_EFULL);
    assert_int_equal(core_service_define(w->core, SLICE("d"), &c.service), WEIR_EFULL);
    assert_int_equal(core_service_define(w->core, SLICE("a/b"), &c.service), WEIR_EINVAL);
    assert_true(core_service_known(w->core, SLICE("a")));
    assert_false(core_service_known(w->core, SLICE("c")));
    ask_for(w, "GET", "a");
    says(w, "A>1"); /* once, though it was offered twice */
    cancel_all(w);
}

static void who_is_gone_says_nothing(void **state) {
    (void)state;
    struct world *w = world();
    join(w, "a", 1);
    leave(w, 1);
    leave(w, 1);
    slots(w, 1, 5);
    core_worker_drain(w->core, w->now, w->workers[1]);
    assert_int_equal(core_worker_offer(w->core, w->now, w->workers[1], SLICE("a")), WEIR_EINVAL);
    assert_int_equal(world_stats(w).late, 4);
    assert_int_equal(world_stats(w).workers_gone, 1);
    world_free(w);
}

static void many_services(void **state) {
    (void)state;
    struct world *w = world();
    assert_int_equal(join(w, "a", 1), 0);
    char name[16];
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "service-%u", i);
        assert_int_equal(core_worker_offer(w->core, w->now, w->workers[1], slice_of(name)), 0);
    }
    assert_int_equal(ask_for(w, "GET", "service-731"), 0);
    assert_int_equal(ask_for(w, "GET", "service-5"), 0);
    assert_int_equal(ask_for(w, "GET", "service-1000"), WEIR_ENOSERVICE);
    says(w, "A>1 C?404");
    finish(w, 'A');
    says(w, "B>1");
    finish(w, 'B');
    unsigned n = 0;
    struct core_service_view v;
    for (uint32_t cursor = 0; core_service_next(w->core, &cursor, &v); n++) {
        snprintf(name, sizeof name, "service-%u", n - 1);
        if (n > 0) assert_true(slice_eq(v.name, slice_of(name))); /* in order */
    }
    assert_int_equal(n, 1001);
    n = 0;
    struct slice s;
    for (uint32_t cursor = 0; core_worker_service_next(w->core, w->workers[1], &cursor, &s, NULL);) n++;
    assert_int_equal(n, 1001);
    world_free(w);
}

static void everything_can_be_looked_at(void **state) {
    (void)state;
    struct world *w = world();
    struct core_worker texts = {.port = &w->workers[1],
                                .id = SLICE("w-1"),
                                .labels = SLICE("zone=a"),
                                .address = SLICE("127.0.0.1:9"),
                                .transport = SLICE("h2")};
    uint64_t attached = w->now;
    assert_int_equal(core_worker_attach(w->core, w->now, &texts, &w->workers[1]), 0);
    w->worker_count = 1;
    assert_int_equal(core_worker_offer(w->core, w->now, w->workers[1], SLICE("a")), 0);
    slots(w, 1, 2);
    ask(w, (struct wish){.service = "a", .method = "GET", .bytes = 10, .priority = 2});
    ask(w, (struct wish){.service = "a", .method = "GET", .bytes = 20});
    ask(w, (struct wish){.service = "a", .method = "GET", .bytes = 30});
    pass(w, 7);
    answer(w, 'A');
    give_up(w, 'B');

    struct core_worker_view v;
    uint32_t cursor = 0;
    assert_true(core_worker_next(w->core, &cursor, &v));
    assert_int_equal(v.worker, w->workers[1]);
    assert_true(slice_eq(v.id, SLICE("w-1")) && slice_eq(v.labels, SLICE("zone=a")));
    assert_true(slice_eq(v.address, SLICE("127.0.0.1:9")) && slice_eq(v.transport, SLICE("h2")));
    assert_int_equal(v.slots, 2);
    assert_int_equal(v.running, 2);
    assert_int_equal(v.dispatched, 2);
    assert_int_equal(v.attached_us, attached);
    assert_false(core_worker_next(w->core, &cursor, &v));

    struct core_job_view jobs[3];
    cursor = 0;
    for (int i = 0; i < 3; i++) assert_true(core_job_next(w->core, &cursor, &jobs[i]));
    assert_false(core_job_next(w->core, &cursor, &jobs[0]));
    assert_int_equal(jobs[0].state, CORE_ANSWERING);
    assert_int_equal(jobs[0].request, w->requests[0].id);
    assert_int_equal(jobs[0].priority, 2);
    assert_int_equal(jobs[0].sent_at, attached);
    assert_int_equal(jobs[1].state, CORE_LEAVING);
    assert_int_equal(jobs[1].worker, w->workers[1]);
    assert_int_equal(jobs[2].state, CORE_QUEUED);
    assert_int_equal(jobs[2].worker, 0);
    assert_int_equal(jobs[2].sent_at, 0);

    struct core_service_view s = world_service(w, "a");
    assert_int_equal(s.queued, 1);
    assert_int_equal(s.queued_bytes, 30);
    assert_int_equal(s.running, 1);
    assert_int_equal(s.slots, 2);
    assert_int_equal(s.submitted, 3);
    assert_int_equal(s.oldest_wait_us, 7000);
    assert_int_equal(s.wait->count, 2);
    slot_free(w, 'B');
    finish(w, 'C');
    done(w, 'A');
    slot_free(w, 'A');
    s = world_service(w, "a");
    assert_int_equal(s.done, 2);
    assert_int_equal(s.wait->count, 3);
    assert_int_equal(s.wait->sum_us, 7000);
    assert_int_equal(s.wait->buckets[0], 2); /* at once */
    assert_int_equal(s.wait->buckets[6], 1); /* up to 10 ms */
    assert_int_equal(s.run->count, 2);
    assert_int_equal(s.run->sum_us, 7000);
    world_free(w);
}

static void time_stands_still_rather_than_go_back(void **state) {
    (void)state;
    struct world *w = world();
    join(w, "a", 0);
    ask(w, (struct wish){.service = "a", .method = "GET", .timeout_ms = 100});
    pass(w, 50);
    core_tick(w->core, 1);
    ask_for(w, "GET", "a");
    assert_in_range(core_next_time(w->core), w->now, w->now + 50000);
    core_worker_slots(w->core, 0, w->workers[1], 1);
    act(w);
    says(w, "A>1");
    assert_int_equal(world_service(w, "a").wait->sum_us, 50000);
    cancel_all(w);
}

static void words(void **state) {
    (void)state;
    for (int c = 0; c < CORE_CAUSES; c++) assert_non_null(core_cause_text((enum core_cause)c));
    for (int p = 0; p < CORE_PHASES; p++) assert_non_null(core_phase_text((enum core_phase)p));
    assert_string_equal(core_cause_text(CORE_CAUSES), "unknown");
    assert_string_equal(core_phase_text(CORE_PHASES), "unknown");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_one_that_runs_least_then_idles_longest),
        cmocka_unit_test(the_service_most_behind_goes_first),
        cmocka_unit_test(slots_change),
        cmocka_unit_test(thousands_of_slots),
        cmocka_unit_test(what_may_be_offered),
        cmocka_unit_test(who_is_gone_says_nothing),
        cmocka_unit_test(many_services),
        cmocka_unit_test(everything_can_be_looked_at),
        cmocka_unit_test(time_stands_still_rather_than_go_back),
        cmocka_unit_test(words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
