/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine of topics with the model store, which can stand still and fail. Readers and callers are structs
 * that note what they are told. One world per program.
 */
#ifndef TOPICS_WORLD_H
#define TOPICS_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "durable/topics.h"
#include "model.h"

enum { PENDING = 1, TEXT = 32, LEASE_MS = 1000 };

/* Operations are carried out by the model while allocations are not counted; what the engine does when they
   are done counts. */
struct quiet {
    struct store base;
    struct store *model;
    struct store_op *done[4096];
    size_t done_count;
    struct {
        struct store_op *op;
        void (*done)(struct store_op *op);
    } under_way[4096];
    size_t count;
    bool acks_wait; /* they have been carried out, and nobody hears of it */
};
extern struct quiet quiet;
/* The done of an operation that goes past the wrapper. */
void collect(struct store_op *op);

extern struct topics *topics;
extern struct store *store;
extern uint64_t now;

void open_store(void);
/* Of the store. 0 or WEIR_ENOMEM; loading begins. */
int open_engine(void);
int setup(void **state);
int teardown(void **state);
#define STORY(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
/* Until nothing is under way. */
void settle(void);
/* The same when so much time has passed. */
void pass(uint64_t ms);
/* Messages in the store. */
uint64_t kept(void);
struct topics_stats stats(void);

struct call {
    struct topics_call c;
    int err; /* PENDING until it is done */
};
/* A call begins; or begins and ends. */
void begin(struct call *c);
void begin_subscribe(struct call *c, const char *topic, const char *name);
int subscribe(const char *topic, const char *name);
void begin_unsubscribe(struct call *c, const char *topic, const char *name);
int unsubscribe(const char *topic, const char *name);
/* Of topic T. */
void begin_ack(struct call *c, const char *name, uint64_t id, bool up_to);
int ack(const char *name, uint64_t id);
/* Takes the bytes in (for which a blob needs the store), and publishes them. */
void begin_publish(struct call *c, const char *topic, const void *bytes, size_t n);
int publish(const char *topic, const char *text);
int publish_large(const char *topic, size_t n);

/* Readers are of topic T. */
struct reader {
    struct topics_reader r;
    char text[TEXT * 64]; /* of the messages it was given: "m1 m2 " */
    unsigned count, delivery, beats;
    uint64_t id;      /* of the last */
    uint64_t blob;    /* of the last */
    uint64_t arrived; /* what sent says */
    int err, confirmed;
    bool begun;
};
void reader_init(struct reader *r, const char *name);
void begin_poll(struct reader *r, const char *name, uint64_t wait_ms);
void begin_lease(struct reader *r, const char *name, uint64_t lease_ms);
void begin_stream(struct reader *r, const char *name, bool acknowledges);
/* Reads one message; what came of it, as text. */
const char *read_text(const char *name);
const char *lease_text(const char *name, uint64_t *ret_id, unsigned *ret_delivery);

#endif
