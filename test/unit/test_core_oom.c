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
    for (uint32_t cursor = 0; core_worker_service_next(w->core, id, &cursor, &service);) listed++;
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
    int err = core_job_forward(w->core, w->now, w->workers[1], job, &(struct core_hop){SLICE("a"), next, 1, 0}), error = 0;
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defining),           cmocka_unit_test(attaching),    cmocka_unit_test(submitting),
        cmocka_unit_test(retrying),           cmocka_unit_test(handing_back), cmocka_unit_test(forwarding),
        cmocka_unit_test(forwarding_nowhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
