/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Callbacks: a notice to a URL that a job has ended, for jobs that came with one (Weir-Callback). At least
 * once: the store is told after the receiver has answered with 2xx; whatever dies in between, it is sent
 * again. Pure: time and randomness come in, sending is the hub's. Loop thread.
 *
 * A job whose notice is due is taken from the store (STORE_CALLBACK_DUE), sent, and the store told when the
 * next attempt is, or that there is none (STORE_CALLBACK_SET). CALLBACKS_AT_ONCE are taken when no more than
 * half as many are on this way.
 */
#ifndef DURABLE_CALLBACKS_H
#define DURABLE_CALLBACKS_H

#include "store/store.h"
#include "wire/url.h"

enum { CALLBACKS_AT_ONCE = 32, CALLBACKS_URL = 2048 };

struct callbacks;

/* One POST. Borrowed until it is done. */
struct callbacks_notice {
    const char *url;
    struct slice body;
    const char *const *fields; /* "Name: value"; NULL ends the list */
};

struct callbacks_config {
    struct store *store; /* borrowed, as all texts */
    uint32_t shard;
    uint64_t (*now_ms)(void *ctx); /* Unix time, which does not jump */
    int (*random)(uint64_t *ret_bits);
    /* Sends it: done is called once, not from within, with the answer's status (0: there was none; why says
       why). 0 or a WEIR_E*; then done is not called. */
    int (*send)(void *ctx, const struct callbacks_notice *n,
                void (*done)(void *call, unsigned status, const char *why), void *call);
    /* No more is tried. why: a static text. */
    void (*given_up)(void *ctx, struct store_id id, unsigned attempts, const char *why);
    void *ctx;
    const struct url *allowed; /* what URLs must be below */
    size_t allowed_count;
    struct slice secret; /* of the signatures */
    unsigned attempts;
};

struct callbacks_stats {
    uint64_t delivered, failed, given_up; /* failed: attempts */
    uint64_t sending;                     /* now */
};

/* 0 or WEIR_ENOMEM. */
int callbacks_new(const struct callbacks_config *config, struct callbacks **ret);
/* Lets happen what is due. */
void callbacks_tick(struct callbacks *c, uint64_t now_ms);
/* When callbacks_tick is wanted next; UINT64_MAX: never. */
uint64_t callbacks_next_time(const struct callbacks *c);
/* A job with a callback has ended at that time, and the store has it. */
void callbacks_ended(struct callbacks *c, struct store_id id, uint64_t ended);
/* Nothing new is sent. */
void callbacks_drain(struct callbacks *c);
/* After nothing calls done any more, and the store is closed. NULL is fine. */
void callbacks_free(struct callbacks **c);
void callbacks_stats(const struct callbacks *c, struct callbacks_stats *ret);

/* NULL: jobs may come with this URL; else why not, for the client (static). c NULL: this hub makes none. */
const char *callbacks_refuse(const struct callbacks *c, struct slice url);

#endif
