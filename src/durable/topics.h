/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Topics: publish and subscribe. The store remembers subscriptions and messages; this knows who waits for
 * which, and which messages are out: given to somebody and not acknowledged yet. Pure: time comes in, I/O is
 * the store's. Loop thread.
 *
 * Whatever is asked for is answered by a callback, once the store has completed what the answer depends on,
 * or from within the call when memory knows it. Until what there is has been loaded, calls wait for that.
 *
 * A message of a subscription is given to one reader at a time. One who is to acknowledge it has it leased
 * for a time; one who is not has it acknowledged before it gets it. What is not acknowledged in the end (the
 * lease has passed, the reader has left) is given out again, before what is newer. A message that was
 * acknowledged for a reader who has left meanwhile is kept in memory and given to the next.
 */
#ifndef DURABLE_TOPICS_H
#define DURABLE_TOPICS_H

#include "base/wheel.h"
#include "durable/intake.h"
#include "store/store.h"

struct topics;

struct topics_config {
    struct store *store; /* borrowed */
    uint32_t shard;
    uint64_t (*now_ms)(void *ctx); /* Unix time, which does not jump */
    uint64_t lease_ms;             /* with explicit acknowledgement */
    size_t max_subscriptions;
    uint64_t max_message; /* bytes */
    void *ctx;
};

/* Loads what there is. 0 or WEIR_ENOMEM. */
int topics_new(const struct topics_config *config, struct topics **ret);
/* Lets happen what is due. */
void topics_tick(struct topics *t, uint64_t now_ms);
/* When topics_tick is wanted next; UINT64_MAX: never. */
uint64_t topics_next_time(const struct topics *t);
/* Whoever waits for a message is answered that there is none. */
void topics_drain(struct topics *t);
/* After the store is closed, and all calls and readers have left. NULL is fine. */
void topics_free(struct topics **t);

struct topics_stats {
    uint64_t topics, subscriptions;
    uint64_t waiting, streams; /* readers now */
    uint64_t out, again;       /* messages given and not acknowledged; of these, those to be given again */
    uint64_t published;        /* kept or not */
    uint64_t delivered, redelivered, acknowledged;
    uint64_t undelivered; /* acknowledged for a reader who had left, and lost */
};
void topics_stats(const struct topics *t, struct topics_stats *ret);

/* ---- calls ----
   The caller's, embedded. done is called once, maybe from within; not after topics_call_leave. Names and
   types are copied. 0, WEIR_ENOTFOUND, WEIR_ENOMEM, or the store's WEIR_ENOSPACE, WEIR_EUNAVAILABLE,
   WEIR_ECORRUPT. */
struct topics_task;
struct topics_call {
    void (*done)(struct topics_call *c, int err);
    struct topics_task *task; /* NULL: not under way */
    struct list later;        /* of topics_call_later */
    bool is_later;
    int err;
};

/* Also 0 when it was there before. WEIR_ENOSPACE also for max_subscriptions. */
void topics_subscribe(struct topics *t, struct slice topic, struct slice name, struct topics_call *c);
void topics_unsubscribe(struct topics *t, struct slice topic, struct slice name, struct topics_call *c);
/* Message id; with up_to, and all before it. */
void topics_acknowledge(struct topics *t, struct slice topic, struct slice name, uint64_t id, bool up_to,
                        struct topics_call *c);
/* Takes over what was taken in, which is over. done is not called from within: it may be its last bytes that
   bring this about, while somebody further up still has to do with them. */
void topics_publish(struct topics *t, struct slice topic, struct slice type, struct intake **in,
                    struct topics_call *c);
/* Has done called with this by the next topics_tick. */
void topics_call_later(struct topics *t, struct topics_call *c, int err);
/* Nobody wants to know any more; what was asked for happens nevertheless. */
void topics_call_leave(struct topics_call *c);

uint64_t topics_max_message(const struct topics *t);
/* A body to be published; see intake_new. */
int topics_take_in(struct topics *t, struct body *body, void (*done)(void *ctx, int err), void *ctx,
                   struct intake **ret);
/* A message's body on its way out; see outlet_open. */
int topics_let_out(struct topics *t, const struct store_body *from, struct body **ret);

/* ---- readers ---- */

struct topics_message {
    uint64_t id, at;
    unsigned delivery; /* 1, 2, ... */
    struct slice type;
    struct store_body body;
};

struct topics_reader;
struct topics_reader_ops {
    /* A message, borrowed for the call. With this one that reads once is through, unless the body is a blob
       and it is not to acknowledge it: then topics_confirm or topics_reader_leave follows. A stream returns
       false when it has left within (its memory may be gone). */
    bool (*give)(struct topics_reader *r, const struct topics_message *m);
    /* It is through: 0: no message came in time, or the hub drains; WEIR_ENOTFOUND: no such subscription (any
       more); or what else went wrong. */
    void (*over)(struct topics_reader *r, int err);
    /* After topics_confirm. 0: acknowledged; else not. It is through. NULL for streams. */
    void (*confirmed)(struct topics_reader *r, int err);
    /* Streams only: the subscription is there; how many of the bytes written have reached the client; a sign
       of life is due. */
    void (*begun)(struct topics_reader *r);
    uint64_t (*sent)(const struct topics_reader *r);
    void (*beat)(struct topics_reader *r);
};

struct topics_timer {
    struct wheel_timer wheel;
    void (*fire)(struct topics_timer *timer, uint64_t now);
};

/* The caller's, embedded; all zero but what the caller sets. */
struct topics_reader {
    const struct topics_reader_ops *ops;
    struct slice topic, name; /* borrowed until it is through */
    bool stream;              /* stays for more; else it is through with one message */
    bool acknowledges;        /* by topics_acknowledge: messages are leased */
    uint64_t wait_ms;         /* how long to wait for one; not a stream */
    uint64_t lease_ms;        /* 0: the configuration's */
    /* Streams only. */
    uint64_t after;   /* what is not after it is acknowledged, not given */
    uint64_t beat_ms; /* between signs of life */
    size_t room;      /* bytes that it can take now; when there is some again: topics_reader_ready */
    uint64_t written; /* bytes of all messages given, as of when give returns, or of topics_reader_ready */
    bool busy;        /* still has to do with the last message, until topics_reader_ready */

    /* The engine's. */
    struct topics *topics;
    struct topics_subscription *subscription;
    struct list node, waiting, held;
    struct topics_timer timer;
    uint64_t deadline, beat_at;
    struct topics_out *out;
    struct topics_task *task;
};

void topics_read(struct topics *t, struct topics_reader *r);
/* A stream can take more. */
void topics_reader_ready(struct topics_reader *r);
/* The reader has got its message but for the end, which it may have when this is acknowledged. */
void topics_confirm(struct topics_reader *r);
/* It is there no more; what it has not acknowledged is given to others. Harmless when it is through. */
void topics_reader_leave(struct topics_reader *r);

#endif
