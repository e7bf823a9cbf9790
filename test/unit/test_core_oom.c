/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Out of memory, everywhere in the core: each story runs again and again, with its first allocation failing,
 * then its second, and so on until none does. What failed must have said so and had no other effect, every
 * request must have an end, and nothing may leak.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core_world.h"
#include "lib/fault.h"
#include "weir/weir.h"
#include <stdio.h>

/* A story gets a world and says whether all went well. Returns how many of its allocations were made to fail.
 */
static long fail_each(bool (*story)(struct world *w)) {
    for (long n = 1;; n++) {
        long live = fault_live();
        fault_reset();
        fault_fail_at(n);
        struct world *w = world_new(NULL);
        bool well = w && story(w);
        bool failed = fault_count() >= n;
        fault_fail_at(0);
        if (w) world_free(w);
        assert_int_equal(fault_live(), live);
        if (failed) continue;
        assert_true(well);
        return n - 1;
    }
}

static bool define_many(struct world *w) {
    struct core_config c = world_config(w);
    bool well = true;
    char name[16];
    for (unsigned i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "s%u", i);
        int err = core_service_define(w->core, slice_of(name), &c.service);
        assert_true(err == 0 || err == WEIR_ENOMEM);
        assert_int_equal(core_service_known(w->core, slice_of(name)), err == 0);
        well &= err == 0;
    }
    return well;
}

static void defining(void **state) {
    (void)state;
    assert_true(fail_each(define_many) > 40);
}

/* The worker is what its successful calls made it. */
static bool attach_one(struct world *w) {
    struct core_worker worker = {.id = SLICE("w"), .labels = SLICE("a=b")};
    uint64_t id;
    int err = core_worker_attach(w->core, w->now, &worker, &id);
    if (err != 0) {
        assert_int_equal(err, WEIR_ENOMEM);
        assert_int_equal(world_stats(w).workers, 0);
        return false;
    }
    core_worker_slots(w->core, w->now, id, 5000);
    unsigned offered = 0;
    char name[16];
    for (unsigned i = 0; i < 10; i++) {
        snprintf(name, sizeof name, "s%u", i);
        err = core_worker_offer(w->core, w->now, id, slice_of(name));
        assert_true(err == 0 || err == WEIR_ENOMEM);
        assert_int_equal(core_service_known(w->core, slice_of(name)), err == 0);
        if (err != 0) continue;
        offered++;
        assert_int_equal(world_service(w, name).workers, 1);
        assert_int_equal(world_service(w, name).slots, 5000);
    }
    core_worker_slots(w->core, w->now, id, 100000);
    unsigned listed = 0;
    struct slice service;
    for (uint32_t cursor = 0; core_worker_service_next(w->core, id, &cursor, &service, NULL);) listed++;
    assert_int_equal(listed, offered);
    return offered == 10;
}

static void attaching(void **state) {
    (void)state;
    assert_true(fail_each(attach_one) > 25);
}

static bool submit_some(struct world *w) {
    if (join(w, "a", 1) != 0) return false;
    unsigned queued = 0;
    bool well = true;
    for (int i = 0; i < 5; i++) {
        int err = ask_for(w, "GET", "a");
        assert_true(err == 0 || err == WEIR_ENOMEM);
        well &= err == 0;
        queued += err == 0;
        assert_int_equal(world_stats(w).queued + world_stats(w).running, queued);
        assert_int_equal(world_stats(w).requests, queued);
    }
    return well;
}

static void submitting(void **state) {
    (void)state;
    assert_true(fail_each(submit_some) >= 6);
}

/* More requests than a chunk of the slab holds, each with one job: retries and forwards need a job more. */
enum { FULL = 256 };
static struct world_message messages[FULL + 2];
static struct requester requesters[FULL];

/* The world with FULL requests at one worker; ids of the first one's job and worker. */
static bool fill(struct world *w, uint64_t *ret_job, unsigned slots_wanted) {
    fault_pause();
    bool well = join(w, "a", slots_wanted) == 0;
    for (int i = 0; i < FULL && well; i++) {
        uint64_t id;
        struct failure why;
        messages[i] = (struct world_message){.in_core = true};
        struct core_request r = {
            .requester = &requesters[i], .message = &messages[i], .service = SLICE("a"), .idempotent = true};
        well = core_submit(w->core, w->now, &r, &id, &why) == 0;
        if (!well) messages[i].in_core = false;
    }
    struct core_action a;
    for (bool first = true; core_next_action(w->core, &a); first = false)
        if (first) *ret_job = a.job;
    fault_resume();
    return well;
}

/* Every request has a job or has been told. */
static void nobody_is_forgotten(struct world *w, unsigned failures) {
    struct core_stats s = world_stats(w);
    assert_int_equal(s.requests + failures, FULL);
    assert_int_equal(s.queued + s.running, s.requests);
}

static unsigned drained_failures(struct world *w, int *ret_error) {
    struct core_action a;
    unsigned n = 0;
    while (core_next_action(w->core, &a)) {
        if (a.kind != CORE_FAIL) continue;
        n++;
        *ret_error = a.why.error;
    }
    return n;
}

static bool retry_one(struct world *w) {
    uint64_t job = 0;
    assert_true(fill(w, &job, FULL));
    core_job_lost(w->core, w->now, w->workers[1], job);
    int error = 0;
    unsigned failures = drained_failures(w, &error);
    nobody_is_forgotten(w, failures);
    if (failures) assert_int_equal(error, WEIR_ENOMEM);
    return failures == 0;
}

static void retrying(void **state) {
    (void)state;
    assert_true(fail_each(retry_one) >= 2);
}

static bool hand_back_one(struct world *w) {
    uint64_t job = 0;
    assert_true(fill(w, &job, FULL));
    core_job_handed_back(w->core, w->now, w->workers[1], job);
    int error = 0;
    unsigned failures = drained_failures(w, &error);
    nobody_is_forgotten(w, failures);
    if (failures) assert_int_equal(error, WEIR_ENOMEM);
    return failures == 0;
}

static void handing_back(void **state) {
    (void)state;
    assert_true(fail_each(hand_back_one) >= 2);
}

static bool forward_one(struct world *w) {
    uint64_t job = 0;
    assert_true(fill(w, &job, 1));
    struct world_message *next = &messages[FULL];
    *next = (struct world_message){.in_core = true};
    int err =
            core_job_forward(w->core, w->now, w->workers[1], job, &(struct core_hop){SLICE("a"), next, 1, 0}),
        error = 0;
    if (err != 0) next->in_core = false;
    unsigned failures = drained_failures(w, &error);
    assert_int_equal(error, err);
    assert_int_equal(failures, err != 0);
    nobody_is_forgotten(w, failures);
    assert_int_equal(world_stats(w).leaving, 1);
    core_slot_free(w->core, w->now, w->workers[1], job);
    assert_int_equal(world_stats(w).running, 1); /* the slot goes to the next */
    return err == 0;
}

static void forwarding(void **state) {
    (void)state;
    assert_true(fail_each(forward_one) >= 2);
}

/* The name of a service that does not exist is left out of the failure when there is no memory for it. */
static bool forward_nowhere(struct world *w) {
    fault_pause();
    join(w, "a", 1);
    ask_for(w, "GET", "a");
    fault_resume();
    assert_int_equal(forward(w, 'A', "nowhere"), WEIR_ENOSERVICE);
    assert_int_equal(w->requests[0].failure.status, 502);
    return strcmp(w->failed_service, "nowhere") == 0;
}

static void forwarding_nowhere(void **state) {
    (void)state;
    assert_true(fail_each(forward_nowhere) >= 1);
}

/* ---- tenants ---- */

static bool define_tenants(struct world *w) {
    bool well = true;
    char name[16];
    for (unsigned i = 0; i < 40; i++) {
        struct core_tenant_view v;
        snprintf(name, sizeof name, "t%u", i);
        int err = core_tenant_define(w->core, slice_of(name), &(struct core_tenant_config){.weight = 2});
        assert_true(err == 0 || err == WEIR_ENOMEM);
        assert_int_equal(world_tenant(w, name, &v), err == 0);
        well &= err == 0;
    }
    return well;
}

static void defining_tenants(void **state) {
    (void)state;
    assert_true(fail_each(define_tenants) > 40);
}

/* The service "a", without faults. */
static void define_a(struct world *w, const char *require, const char *prefer, bool shortest) {
    struct core_service_config c;
    core_service_defaults(&c);
    c.require = slice_of(require);
    c.prefer = slice_of(prefer);
    c.shortest_first = shortest;
    fault_pause();
    define(w, "a", &c);
    fault_resume();
}

static bool ask_as(struct world *w, const char *tenant, const char *headers, uint64_t cost) {
    int err = ask(
        w,
        (struct wish){.service = "a", .method = "GET", .tenant = tenant, .headers = headers, .cost = cost});
    assert_true(err == 0 || err == WEIR_ENOMEM);
    return err == 0;
}

/* A worker with room for all comes: everybody goes to it. */
static void all_run(struct world *w, const char *labels, unsigned accepted) {
    fault_pause();
    assert_int_equal(join_with(w, labels, "a", WORLD_REQUESTS), 0);
    assert_int_equal(world_stats(w).queued, 0);
    assert_int_equal(world_stats(w).running, accepted);
    fault_resume();
}

/* Without memory a tenant has no place of its own, but its request has one. */
static bool submit_as_tenants(struct world *w) {
    define_a(w, NULL, NULL, false);
    unsigned accepted = 0;
    char name[16];
    for (unsigned i = 0; i < 24; i++) {
        snprintf(name, sizeof name, "t%u", i % 20);
        accepted += ask_as(w, name, NULL, 0);
        assert_int_equal(world_stats(w).queued, accepted);
    }
    struct core_tenant_view v;
    struct core_tenant_cursor cursor = {0};
    uint64_t counted = 0;
    while (core_tenant_next(w->core, &cursor, &v)) counted += v.requests;
    assert_int_equal(counted, accepted);
    all_run(w, "", accepted);
    return accepted == 24;
}

static void submitting_as_tenants(void **state) {
    (void)state;
    assert_true(fail_each(submit_as_tenants) >= 24); /* a tenant and a lane each, in parts by the chunk */
}

/* A tenant comes back into a lane that must be made anew. */
static bool come_back(struct world *w) {
    define_a(w, NULL, NULL, true);
    fault_pause();
    join(w, "a", 1);
    ask_as(w, "x", NULL, 7); /* A */
    fault_resume();
    hand_back(w, 'A');
    if (w->requests[0].over) {
        says(w, "A>1 A!503");
        return false;
    }
    pass(w, 100);
    says(w, "A>1 A>1*");
    lose(w, 'A');
    if (w->requests[0].over) {
        says(w, "A!503");
        return false;
    }
    says(w, "A>1*");
    return true;
}

static void coming_back(void **state) {
    (void)state;
    assert_true(fail_each(come_back) >= 1);
}

static bool submit_by_cost(struct world *w) {
    define_a(w, NULL, NULL, true);
    unsigned accepted = 0;
    for (unsigned i = 0; i < WORLD_REQUESTS; i++) accepted += ask_as(w, "x", NULL, WORLD_REQUESTS - i);
    if (accepted == WORLD_REQUESTS) give_up(w, 'C');
    accepted -= accepted == WORLD_REQUESTS;
    all_run(w, "", accepted);
    return accepted == WORLD_REQUESTS - 1;
}

static void submitting_by_cost(void **state) {
    (void)state;
    assert_true(fail_each(submit_by_cost) >= 5);
}

/* ---- labels ---- */

/* No worker got what it has no label for: the n-th has label number n. */
static void nobody_got_what_is_not_his(const struct world *w) {
    for (unsigned i = 0; i < w->request_count; i++) {
        const struct world_request *r = &w->requests[i];
        if (r->job) assert_true(r->worker == w->workers[1 + i % 3]);
    }
}

static const char *const zones[] = {"zone=1", "zone=2", "zone=3"};
static const char *const zone_headers[] = {"x-zone=1", "x-zone=2", "x-zone=3"};

/* Pools are made, and then workers join them. */
static bool require_then_join(struct world *w) {
    define_a(w, "zone=${x-zone}", NULL, false);
    unsigned accepted = 0;
    for (unsigned i = 0; i < 9; i++) accepted += ask_as(w, NULL, zone_headers[i % 3], 0);
    assert_int_equal(world_stats(w).queued, accepted);
    bool well = accepted == 9;
    for (unsigned i = 0; i < 3; i++) {
        int err = join_with(w, zones[i], "a", 3);
        assert_true(err == 0 || err == WEIR_ENOMEM);
        well &= err == 0;
    }
    nobody_got_what_is_not_his(w);
    assert_int_equal(world_stats(w).queued + world_stats(w).running, accepted);
    assert_true(!well || world_stats(w).running == 9);
    return well;
}

/* Workers are there, and pools are made with them in. */
static bool join_then_require(struct world *w) {
    define_a(w, "zone=${x-zone}", NULL, false);
    fault_pause();
    for (unsigned i = 0; i < 3; i++) assert_int_equal(join_with(w, zones[i], "a", 3), 0);
    fault_resume();
    unsigned accepted = 0;
    for (unsigned i = 0; i < 9; i++) accepted += ask_as(w, NULL, zone_headers[i % 3], 0);
    nobody_got_what_is_not_his(w);
    assert_int_equal(world_stats(w).running, accepted);
    return accepted == 9;
}

static void requiring(void **state) {
    (void)state;
    assert_true(fail_each(require_then_join) >= 14);
    assert_true(fail_each(join_then_require) >= 8);
}

/* A wish needs memory too; without it there is none, and the request goes on all the same. */
static bool prefer_some(struct world *w) {
    define_a(w, NULL, "zone=${x-zone}", false);
    fault_pause();
    for (unsigned i = 0; i < 3; i++) assert_int_equal(join_with(w, zones[i], "a", 1), 0);
    fault_resume();
    unsigned accepted = 0;
    for (unsigned i = 0; i < 4; i++) accepted += ask_as(w, "x", zone_headers[0], 0);
    pass(w, 100);
    assert_int_equal(world_stats(w).running, accepted < 3 ? accepted : 3);
    assert_int_equal(world_stats(w).queued, accepted - world_stats(w).running);
    return accepted == 4;
}

static void preferring(void **state) {
    (void)state;
    assert_true(fail_each(prefer_some) >= 5);
}

static bool relabel_one(struct world *w) {
    define_a(w, "zone=${x-zone}", NULL, false);
    fault_pause();
    assert_int_equal(join_with(w, "zone=0", "a", 9), 0);
    ask_as(w, NULL, "x-zone=0", 0); /* A: runs through it */
    for (unsigned i = 0; i < 6; i++) ask_as(w, NULL, zone_headers[i % 3], 0);
    fault_resume();
    int err = relabel(w, 1, "zone=1, zone=2,zone=3");
    assert_true(err == 0 || err == WEIR_ENOMEM);
    assert_int_equal(world_stats(w).running + world_stats(w).queued, 7);
    assert_true(err != 0 || world_stats(w).running == 7);
    finish(w, 'A');
    fault_pause();
    assert_int_equal(relabel(w, 1, "zone=2"), 0); /* it is in order again */
    assert_true(world_service(w, "a").running >= 2);
    assert_int_equal(relabel(w, 1, "zone=1,zone=2,zone=3"), 0);
    assert_int_equal(world_service(w, "a").running, 6);
    fault_resume();
    return err == 0;
}

static void relabelling(void **state) {
    (void)state;
    assert_true(fail_each(relabel_one) >= 4);
}

static size_t last_one(void *ctx, struct slice service, const void *message,
                       const struct core_candidate *workers, size_t n) {
    (void)ctx, (void)service, (void)message, (void)workers;
    return n - 1;
}

static bool choose_some(struct world *w) {
    define_a(w, NULL, NULL, false);
    core_set_choose(w->core, last_one);
    unsigned there = 0, accepted = 0;
    for (unsigned i = 0; i < 3; i++) there += join(w, "a", 2) == 0;
    for (unsigned i = 0; i < 4; i++) accepted += ask_as(w, NULL, NULL, 0);
    assert_int_equal(world_stats(w).running + world_stats(w).queued, accepted);
    return there == 3 && accepted == 4;
}

static void choosing(void **state) {
    (void)state;
    assert_true(fail_each(choose_some) >= 5);
}

/* ---- overload ---- */

static bool shed_some(struct world *w) {
    struct core_service_config c;
    core_service_defaults(&c);
    c.shed_wait_us = 1000;
    fault_pause();
    define(w, "a", &c);
    fault_resume();
    unsigned accepted = 0;
    for (unsigned i = 0; i < 4; i++) accepted += ask_as(w, "x", NULL, 0);
    w->now += 1500 * 1000;
    bool last = ask_as(w, "y", NULL, 0), joined = join(w, "a", 9) == 0;
    assert_int_equal(world_stats(w).requests, world_stats(w).running + world_stats(w).queued);
    assert_int_equal(world_stats(w).rejected_overload, world_stats(w).failed);
    assert_true(!joined || world_stats(w).rejected_overload == accepted);
    return accepted == 4 && last && joined;
}

static void shedding(void **state) {
    (void)state;
    assert_true(fail_each(shed_some) >= 6);
}

/* ---- parts ---- */

static struct gatherer gatherer;

/* The world with FULL requests, the first of them scattered; its id. */
static uint64_t fill_and_scatter(struct world *w, unsigned slots_wanted) {
    uint64_t job = 0, request = 0;
    assert_true(fill(w, &job, slots_wanted));
    int err = core_job_scatter(w->core, w->now, w->workers[1], job, 2, &gatherer, &request);
    assert_int_equal(err, 0); /* that needs no memory */
    core_slot_free(w->core, w->now, w->workers[1], job);
    return request;
}

static bool submit_parts(struct world *w) {
    uint64_t request = fill_and_scatter(w, 1), ids[2];
    static struct world_message parts[2];
    static struct requester part_requesters[2];
    unsigned accepted = 0;
    for (unsigned i = 0; i < 2; i++) {
        struct failure why;
        parts[i].in_core = true;
        struct core_part part = {
            .requester = &part_requesters[i], .message = &parts[i], .bytes = 9, .service = SLICE("a")};
        int err = core_part_submit(w->core, w->now, request, &part, &ids[i], &why);
        accepted += err == 0;
        if (err == 0) continue;
        assert_int_equal(err, WEIR_ENOMEM);
        assert_int_equal(why.error, WEIR_ENOMEM);
        parts[i].in_core = false;
    }
    struct core_stats s = world_stats(w);
    struct core_tenant_view v;
    assert_int_equal(s.parts, accepted);
    assert_int_equal(s.requests, FULL + accepted);
    assert_int_equal(s.queued + s.running, FULL - 1 + accepted);
    assert_true(world_tenant(w, "", &v));
    assert_int_equal(v.requests, FULL + accepted);
    assert_ptr_equal(core_gather_reply(w->core, w->now, request), &requesters[0]); /* it goes on */
    assert_int_equal(world_stats(w).requests, FULL - 1);
    for (unsigned i = 0; i < 2; i++) assert_false(parts[i].in_core);
    return accepted == 2;
}

static void submitting_parts(void **state) {
    (void)state;
    assert_true(fail_each(submit_parts) >= 2);
}

/* What was gathered goes on, at a moment when all jobs are in use. */
static bool gather_and_forward(struct world *w) {
    uint64_t request = fill_and_scatter(w, FULL), id;
    static struct world_message more[2];
    static struct requester another;
    struct failure why;
    fault_pause();
    more[0] = (struct world_message){.in_core = true};
    struct core_request r = {.requester = &another, .message = &more[0], .service = SLICE("a")};
    assert_int_equal(core_submit(w->core, w->now, &r, &id, &why), 0);
    int error = 0;
    assert_int_equal(drained_failures(w, &error), 0);
    fault_resume();
    more[1] = (struct world_message){.in_core = true};
    int err = core_gather_forward(w->core, w->now, request, &(struct core_hop){SLICE("a"), &more[1], 1, 0});
    if (err != 0) more[1].in_core = false;
    assert_int_equal(drained_failures(w, &error), err != 0);
    assert_int_equal(error, err);
    assert_true(err == 0 || err == WEIR_ENOMEM);
    assert_int_equal(world_stats(w).requests, FULL + (err == 0));
    assert_int_equal(world_stats(w).queued + world_stats(w).running, world_stats(w).requests);
    assert_null(core_gather_reply(w->core, w->now, request));
    return err == 0;
}

static void gathering_and_forwarding(void **state) {
    (void)state;
    assert_true(fail_each(gather_and_forward) >= 2);
}

/* Nobody has the name: that the failure names it needs memory, that it comes does not. */
static bool gather_nowhere(struct world *w) {
    fault_pause();
    join(w, "a", 2);
    ask_for(w, "GET", "a");
    scatter(w, 'A', 1);
    part(w, 'A', "a");
    fault_resume();
    assert_int_equal(gather_forward(w, 'A', "nowhere"), WEIR_ENOSERVICE);
    says(w, "A>1 B>1 B/1:parent A!502");
    return strcmp(w->failed_service, "nowhere") == 0;
}

static void gathering_nowhere(void **state) {
    (void)state;
    assert_true(fail_each(gather_nowhere) >= 1);
}

/* A whole family from its first request to its end, by its client leaving or by its answer. */
static bool live_and_leave(struct world *w, bool leaves) {
    if (join(w, "a", 5) != 0 || ask_for(w, "GET", "a") != 0) return false;
    bool well = scatter(w, 'A', 2) == 0;
    assert_true(well);
    for (unsigned i = 0; i < 2; i++) well &= part(w, 'A', "a") == 0; /* B, C */
    if (well) {
        assert_int_equal(scatter(w, 'B', 1), 0);
        well = part(w, 'B', "a") == 0; /* D */
        lose(w, 'C');
        well &= !w->requests[2].over;
    }
    if (leaves)
        give_up(w, 'A');
    else
        assert_true(gather_reply(w, 'A'));
    assert_true(core_idle(w->core));
    assert_int_equal(world_stats(w).queued, 0);
    return well;
}

static bool live_and_answer(struct world *w) {
    return live_and_leave(w, false);
}

static bool live_and_give_up(struct world *w) {
    return live_and_leave(w, true);
}

static void families(void **state) {
    (void)state;
    assert_true(fail_each(live_and_answer) >= 6);
    assert_true(fail_each(live_and_give_up) >= 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defining),
        cmocka_unit_test(attaching),
        cmocka_unit_test(submitting),
        cmocka_unit_test(retrying),
        cmocka_unit_test(handing_back),
        cmocka_unit_test(forwarding),
        cmocka_unit_test(forwarding_nowhere),
        cmocka_unit_test(defining_tenants),
        cmocka_unit_test(submitting_as_tenants),
        cmocka_unit_test(coming_back),
        cmocka_unit_test(submitting_by_cost),
        cmocka_unit_test(requiring),
        cmocka_unit_test(preferring),
        cmocka_unit_test(relabelling),
        cmocka_unit_test(choosing),
        cmocka_unit_test(shedding),
        cmocka_unit_test(submitting_parts),
        cmocka_unit_test(gathering_and_forwarding),
        cmocka_unit_test(gathering_nowhere),
        cmocka_unit_test(families),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
