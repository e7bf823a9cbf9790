/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A body on its way from a producer (who reads it from a socket) to a consumer (who writes it to
 * another): a bounded queue of bytes with an end. Both sides learn by callbacks when to go on.
 * One thread. Reference-counted: each side holds one.
 *
 * While `keep` allows it, bytes that were consumed stay held, so that a request can be sent again
 * to another worker (body_rewind). Once more than keep bytes have passed, the body can no longer be
 * replayed and holds only what is queued.
 */
#ifndef WIRE_BODY_H
#define WIRE_BODY_H

#include "base/list.h"
#include "base/slice.h"

struct body;

struct body_side {
    /* Producer: n bytes were consumed (or 0: the consumer has left; see body_abandoned).
       Consumer: there are new bytes, or the end, or an abort (n is 0).
       Called from within body_... calls of the other side: must not free the body. */
    void (*wake)(void *ctx, size_t n);
    void *ctx;
};

/* A new, empty, open body with one reference. high: bytes queued at which producers should stop;
   keep: most bytes held for replay (0: never replayable once read). NULL: out of memory. */
struct body *body_new(size_t high, size_t keep);
/* One that has all its bytes and has ended, with one reference. NULL: out of memory. */
struct body *body_whole(struct slice bytes, size_t keep);
struct body *body_ref(struct body *b);
void body_unref(struct body *b); /* NULL is fine */

/* Sets or (with wake NULL) clears a side. */
void body_producer(struct body *b, struct body_side side);
void body_consumer(struct body *b, struct body_side side);

/* Appends a copy. More than body_room is taken too (producers of bounded windows may overshoot).
   WEIR_ENOMEM: nothing appended. WEIR_ESTATE: ended, aborted or abandoned; the bytes are dropped. */
int body_write(struct body *b, const void *bytes, size_t n);
void body_end(struct body *b);            /* no more; harmless when already ended or aborted */
void body_abort(struct body *b, int err); /* the rest will not come; err a WEIR_E* */
/* How many more bytes until high; 0: stop. */
size_t body_room(const struct body *b);

/* The next unread bytes in one piece (empty: none now). */
struct slice body_peek(const struct body *b);
/* n <= what body_peek gave. Wakes the producer. */
void body_consume(struct body *b, size_t n);
/* Copies and consumes up to n. */
size_t body_read(struct body *b, void *dst, size_t n);
/* The consumer wants no more: wakes the producer, drops what is held; later writes are dropped. */
void body_abandon(struct body *b);
/* The consumer abandons it and gives back its reference: *b becomes NULL. NULL is fine. */
void body_leave(struct body **b);

size_t body_queued(const struct body *b);   /* unread bytes */
uint64_t body_passed(const struct body *b); /* bytes written since the beginning */
bool body_ended(const struct body *b);      /* the end has been written (bytes may still be queued) */
bool body_finished(const struct body *b);   /* ended and all read */
int body_error(const struct body *b);       /* what it was aborted with, or 0 */
bool body_abandoned(const struct body *b);
/* Everything since the beginning is still held. */
bool body_replayable(const struct body *b);
/* Back to the first byte; only when replayable. The consumer is cleared. */
void body_rewind(struct body *b);
/* Replays are no longer wanted: gives back what was kept. */
void body_forget(struct body *b);
/* Bytes of memory held now, for limits and metrics. */
size_t body_held(const struct body *b);

#endif
