/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bodies: a list of chunks. What is before the reading place has been consumed; it is there only while
 * everything since the first byte is held (whole). One thread.
 *
 * A wake callback is always the last thing that a function does: it may call back into the body.
 */
#include "wire/body.h"
#include "base/assert.h"
#include "weir/weir.h"
#include <stdlib.h>

enum { CHUNK_MOST = 16384 };

struct chunk {
    struct chunk *next;
    uint32_t used, room;
    char data[];
};

struct body {
    unsigned refs;
    int error;
    bool ended, abandoned;
    bool whole; /* nothing of what was written has been freed */
    size_t high, keep;
    struct chunk *first, *last;
    struct chunk *reading; /* NULL: nothing of the first chunk has been read */
    size_t read_at;        /* in reading; at its end when all of it was read */
    uint64_t written, consumed;
    size_t held; /* bytes of chunks */
    struct body_side producer, consumer;
};

struct body *body_new(size_t high, size_t keep) {
    struct body *b = calloc(1, sizeof *b);
    if (!b) return NULL;
    b->refs = 1;
    b->high = high;
    b->keep = keep;
    b->whole = true;
    return b;
}

struct body *body_whole(struct slice bytes, size_t keep) {
    struct body *b = body_new(bytes.n + 1, keep);
    if (b && body_write(b, bytes.p, bytes.n) != 0) {
        body_unref(b);
        return NULL;
    }
    if (b) body_end(b);
    return b;
}

struct body *body_ref(struct body *b) {
    b->refs++;
    return b;
}

static void free_chunk(struct body *b, struct chunk *c) {
    b->held -= sizeof *c + c->room;
    free(c);
}

static void free_all(struct body *b) {
    for (struct chunk *c = b->first, *next; c; c = next) {
        next = c->next;
        free_chunk(b, c);
    }
    b->first = b->last = b->reading = NULL;
    b->read_at = 0;
}

void body_unref(struct body *b) {
    if (!b || --b->refs) return;
    free_all(b);
    free(b);
}

void body_producer(struct body *b, struct body_side side) {
    b->producer = side;
}

void body_consumer(struct body *b, struct body_side side) {
    b->consumer = side;
}

static void wake(struct body_side side, size_t n) {
    if (side.wake) side.wake(side.ctx, n);
}

/* Frees what was consumed once it need not be held any longer. */
static void trim(struct body *b) {
    if (b->consumed == 0 || b->written <= b->keep) return;
    b->whole = false;
    if (!b->reading) return;
    while (b->first && b->first != b->reading) {
        struct chunk *c = b->first;
        b->first = c->next;
        free_chunk(b, c);
    }
    if (b->first && b->read_at == b->first->used) {
        struct chunk *c = b->first;
        b->first = c->next;
        if (!b->first) b->last = NULL;
        free_chunk(b, c);
        b->reading = NULL;
        b->read_at = 0;
    }
}

/* Room for n bytes in new chunks, as a list; NULL when out of memory. A small body gets just what it
   needs; each chunk after the first may be twice as large as the one before. */
static struct chunk *new_chunks(const struct body *b, size_t n, struct chunk **ret_last) {
    struct chunk *first = NULL, **link = &first, *c = NULL;
    size_t room = b->last ? 2 * (size_t)b->last->room : 0;
    for (; n; n -= c->used) {
        if (room < n) room = n;
        if (room > CHUNK_MOST) room = CHUNK_MOST;
        c = malloc(sizeof *c + room);
        if (!c) goto fail;
        *c = (struct chunk){.used = (uint32_t)(n < room ? n : room), .room = (uint32_t)room};
        *link = c;
        link = &c->next;
    }
    *ret_last = c;
    return first;
fail:
    while (first) {
        c = first->next;
        free(first);
        first = c;
    }
    return NULL;
}

static void append_chunks(struct body *b, struct chunk *first, struct chunk *last, const char *bytes) {
    for (struct chunk *c = first; c; c = c->next) {
        memcpy(c->data, bytes, c->used);
        bytes += c->used;
        b->held += sizeof *c + c->room;
    }
    if (b->last)
        b->last->next = first;
    else
        b->first = first;
    b->last = last;
}

int body_write(struct body *b, const void *bytes, size_t n) {
    if (b->ended || b->error || b->abandoned) return WEIR_ESTATE;
    if (n == 0) return 0;
    struct chunk *old = b->last, *last = NULL;
    size_t fits = old ? old->room - old->used : 0;
    if (fits > n) fits = n;
    if (fits < n) {
        struct chunk *more = new_chunks(b, n - fits, &last);
        if (!more) return WEIR_ENOMEM;
        append_chunks(b, more, last, (const char *)bytes + fits);
    }
    if (fits) {
        memcpy(old->data + old->used, bytes, fits);
        old->used += (uint32_t)fits;
    }
    b->written += n;
    trim(b);
    wake(b->consumer, 0);
    return 0;
}

void body_end(struct body *b) {
    if (b->ended || b->error) return;
    b->ended = true;
    wake(b->consumer, 0);
}

void body_abort(struct body *b, int error) {
    ASSERT(error < 0);
    if (b->ended || b->error) return;
    b->error = error;
    wake(b->consumer, 0);
}

size_t body_room(const struct body *b) {
    size_t queued = body_queued(b);
    return queued < b->high ? b->high - queued : 0;
}

/* The chunk to read from next and the place in it; NULL when all was read. */
static struct chunk *next_to_read(const struct body *b, size_t *ret_at) {
    *ret_at = 0;
    if (!b->reading) return b->first;
    if (b->read_at == b->reading->used) return b->reading->next;
    *ret_at = b->read_at;
    return b->reading;
}

struct slice body_peek(const struct body *b) {
    size_t at;
    const struct chunk *c = next_to_read(b, &at);
    return c ? (struct slice){c->data + at, c->used - at} : (struct slice){0};
}

/* Moves the reading place without waking anybody. */
static void advance(struct body *b, size_t n) {
    size_t at;
    struct chunk *c = next_to_read(b, &at);
    ASSERT(c && n <= c->used - at);
    b->reading = c;
    b->read_at = at + n;
    b->consumed += n;
    trim(b);
}

void body_consume(struct body *b, size_t n) {
    if (n == 0) return;
    advance(b, n);
    wake(b->producer, n);
}

size_t body_read(struct body *b, void *dst, size_t n) {
    size_t done = 0;
    while (done < n) {
        struct slice s = body_peek(b);
        if (s.n == 0) break;
        if (s.n > n - done) s.n = n - done;
        memcpy((char *)dst + done, s.p, s.n);
        done += s.n;
        advance(b, s.n);
    }
    if (done) wake(b->producer, done);
    return done;
}

void body_abandon(struct body *b) {
    if (b->abandoned) return;
    b->abandoned = true;
    b->consumer = (struct body_side){0};
    if (b->written) b->whole = false;
    b->consumed = b->written;
    free_all(b);
    wake(b->producer, 0);
}

void body_leave(struct body **at) {
    struct body *b = *at;
    *at = NULL;
    if (b) body_abandon(b);
    body_unref(b);
}

size_t body_queued(const struct body *b) {
    return (size_t)(b->written - b->consumed);
}

uint64_t body_passed(const struct body *b) {
    return b->written;
}

bool body_ended(const struct body *b) {
    return b->ended;
}

bool body_finished(const struct body *b) {
    return b->ended && b->written == b->consumed;
}

int body_error(const struct body *b) {
    return b->error;
}

bool body_abandoned(const struct body *b) {
    return b->abandoned;
}

bool body_replayable(const struct body *b) {
    return b->whole && !b->abandoned;
}

void body_rewind(struct body *b) {
    ASSERT(body_replayable(b));
    b->consumer = (struct body_side){0};
    b->reading = NULL;
    b->read_at = 0;
    b->consumed = 0;
}

void body_forget(struct body *b) {
    b->keep = 0;
    trim(b);
}

size_t body_held(const struct body *b) {
    return sizeof *b + b->held;
}
