/* SPDX-License-Identifier: Apache-2.0 */
/* What stories about durable jobs share: one world, and what is said and asked most often. What they want
   that is not so fails the test. */
#ifndef TEST_UNIT_DURABLE_STORY_H
#define TEST_UNIT_DURABLE_STORY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "durable_world.h"

extern struct dw w;
extern struct dw_put put;   /* the last that was submitted */
extern struct dw_call call; /* the last change */

int setup(void **state);
/* Nothing is left of it. */
int teardown(void **state);
/* The world begins anew, with w.config and w.service_config as they are now. */
void again(void);
/* The hub ends and begins again; it dies and begins again. */
void restart(void);
void crash(void);
bool keep_all(const struct store_op *op, void *ctx);

/* A request for a job comes in, and is accepted. Without an order: for service a, priority 4. */
struct store_id submit_at(const char *target, struct jobs_order order);
struct store_id submit(const char *target);
/* The job with this target is at a worker. */
struct dw_lease *at_work(const char *target);
/* Its worker answers with that status, and is free. */
void reply(const char *target, unsigned status);
void cancel_now(struct store_id id, int expected);

/* The store has it so. */
void is(struct store_id id, enum store_job_state state, unsigned status);
/* When it is to run, which is queued. */
uint64_t run_at(struct store_id id);
void blobs_are(unsigned n);
/* No job, line or operation is left. */
void quiet(void);

#define STORY(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
