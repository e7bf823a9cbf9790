/* SPDX-License-Identifier: Apache-2.0 */
#include "durable_story.h"
#include "durable/held.h"
#include "lib/fault.h"
#include "weir/weir.h"
#include <stdlib.h>

struct dw w;
struct dw_put put;
struct dw_call call;
static long live;

static void open_world(void) {
    dw_open(&w);
    assert_int_equal(dw_start(&w), 0);
    dw_settle(&w);
}

int setup(void **state) {
    (void)state;
    fault_reset();
    live = fault_live();
    dw_defaults(&w);
    open_world();
    return 0;
}

/* Nothing is left of it. */
int teardown(void **state) {
    (void)state;
    w.gate.held = false;
    dw_close(&w);
    assert_int_equal(fault_live(), live);
    return 0;
}

/* With another configuration. */
void again(void) {
    struct jobs_config config = w.config;
    struct core_service_config service = w.service_config;
    dw_close(&w);
    dw_defaults(&w);
    struct jobs_config fresh = w.config;
    w.config = config;
    w.config.now_ms = fresh.now_ms;
    w.service_config = service;
    open_world();
}

void restart(void) {
    dw_stop(&w);
    assert_int_equal(dw_start(&w), 0);
    dw_settle(&w);
}

bool keep_all(const struct store_op *op, void *ctx) {
    (void)op;
    (void)ctx;
    return true;
}

void crash(void) {
    dw_crash(&w, keep_all, NULL);
    assert_int_equal(dw_start(&w), 0);
    dw_settle(&w);
}

struct store_id submit_at(const char *target, struct jobs_order order) {
    assert_int_equal(dw_submit(&w, &put, target, SLICE("body"), order), 0);
    dw_settle(&w);
    assert_int_equal(put.err, 0);
    assert_int_equal(put.told, 1);
    return put.id;
}

struct store_id submit(const char *target) {
    return submit_at(target, (struct jobs_order){.priority = 4});
}

struct dw_lease *at_work(const char *target) {
    struct dw_lease *l = dw_find(&w, target);
    if (!l) fail_msg("%s is at no worker", target);
    return l;
}

void reply(const char *target, unsigned status) {
    struct dw_lease *l = at_work(target);
    assert_true(dw_reply(&w, l, &(struct dw_answer){.status = status, .bytes = "answer", .n = 6}));
    dw_free(&w, l);
    dw_settle(&w);
}

void is(struct store_id id, enum store_job_state state, unsigned status) {
    struct store_op op;
    assert_true(dw_get(&w, id, &op));
    if (op.ret_job.state != state)
        fail_msg("it is %s, not %s", store_job_state_text(op.ret_job.state), store_job_state_text(state));
    assert_int_equal(op.ret_job.status, status);
    dw_forget(&op);
}

uint64_t run_at(struct store_id id) {
    struct store_op op;
    assert_true(dw_get(&w, id, &op));
    uint64_t at = op.ret_job.run_at;
    assert_int_equal(op.ret_job.state, STORE_QUEUED);
    dw_forget(&op);
    return at;
}

void quiet(void) {
    assert_int_equal(dw_stats(&w).held, 0);
    assert_true(core_idle(w.core));
    for (unsigned i = 0; i < LINES_TABLE; i++) assert_true(list_empty(&w.jobs->lines[i]));
    assert_true(list_empty(&w.jobs->waiting));
}

void cancel_now(struct store_id id, int expected) {
    dw_cancel(&w, id, &call);
    assert_int_equal(call.err, DW_PENDING);
    dw_settle(&w);
    assert_int_equal(call.err, expected);
}

void blobs_are(unsigned n) {
    struct store_stats stats;
    store_stats(&w.gate.base, &stats);
    assert_int_equal(stats.blobs, n);
}
