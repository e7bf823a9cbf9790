/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must outlive a hub: durable jobs, topics with their subscriptions, a little configuration, and bodies
 * too large to be carried along (blobs). A store remembers and compares; it schedules nothing.
 *
 * Operations are asynchronous. The caller owns a struct store_op, fills in what its kind takes, and submits
 * it; everything that it points to is borrowed until op->done is called, which happens on the thread that
 * calls store_turn, once, and never from within store_submit. op->err says how it went: 0, or
 *
 *   WEIR_ECONFLICT     the idempotency key was used with another request; the value has another revision
 *   WEIR_ENOTFOUND     no such job, subscription, message, blob or value
 *   WEIR_EFENCE        the job is leased with another fence by now, or not at all
 *   WEIR_ESTATE        the job has ended, or has not
 *   WEIR_ENOSPACE      the disk or a limit of the store is full; nothing has changed; try when there is room
 *   WEIR_EUNAVAILABLE  an input/output error; nothing has changed as far as is known; try again
 *   WEIR_ECORRUPT      what was read makes no sense
 *   WEIR_ENOMEM        nothing has changed
 *
 * When several apply: not found, then ended (WEIR_ESTATE), then the fence, then what is wrong with a body: a
 * blob that is not known or belongs to something else is WEIR_ENOTFOUND, one that is not closed WEIR_ESTATE.
 *
 * What changes jobs of one shard is told in the order in which it took effect.
 *
 * 0 means that it is durable: a crash of the process or of the machine right afterwards does not undo it.
 * Nothing may be told to a client or a worker before the operation it depends on has completed. Operations
 * about the same job, the same topic or the same blob take effect in the order in which they were submitted;
 * others in any order. Results are in op, or in op->memory, and live until store_op_fini.
 *
 * Every operation names a shard, so that a store of several machines can place them; on one machine it is 0.
 *
 * Times are milliseconds of Unix time, and are given by the caller: a store reads no clock.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/arena.h"
#include "base/list.h"
#include "base/slice.h"

enum {
    STORE_INLINE = 64 * 1024, /* bodies above this are blobs */
    STORE_NAME = 255,         /* bytes of a topic's or a subscription's name */
    STORE_HASH = 32
};

/* A job's name: a UUID of version 7 (RFC 9562 5.7). Those of later jobs of one hub compare greater. */
struct store_id {
    uint64_t hi, lo;
};
enum { STORE_ID_TEXT = 36 };
/* As "0198c7e2-...", without a NUL. */
struct slice store_id_text(struct store_id id, char text[STORE_ID_TEXT]);
/* True and *ret for what store_id_text writes (either case), false for all else. */
bool store_id_parse(struct slice text, struct store_id *ret);
static inline int store_id_compare(struct store_id a, struct store_id b) {
    return a.hi != b.hi ? (a.hi < b.hi ? -1 : 1) : a.lo != b.lo ? (a.lo < b.lo ? -1 : 1) : 0;
}

/* The bytes of a body: in place, or a blob. */
struct store_body {
    struct slice bytes; /* when blob is 0; at most STORE_INLINE */
    uint64_t blob; /* closed: STORE_BLOB_CLOSE has completed before; the operation that refers to it takes it,
                      if it succeeds: it goes with what refers to it */
    uint64_t size; /* of the blob */
};

/* An HTTP message: the head is HTTP/1.1 text up to and with the empty line. */
struct store_message {
    struct slice head;
    struct store_body body;
};

enum store_job_state {
    STORE_QUEUED,    /* nobody has it; it waits for run_at, or for its turn */
    STORE_LEASED,    /* a hub has it: waiting in a queue there, or running */
    STORE_DONE,      /* ended: with an answer */
    STORE_FAILED,    /* ended: with an answer that trying again would not better, or its deadline passed */
    STORE_CANCELLED, /* ended: nobody wants it */
    STORE_DEAD,      /* ended: all attempts have been used; may be revived */
    STORE_STATES
};
#define STORE_ENDED_MASK (1u << STORE_DONE | 1u << STORE_FAILED | 1u << STORE_CANCELLED | 1u << STORE_DEAD)
/* "queued", "running" (leased), "done", ... */
const char *store_job_state_text(enum store_job_state state);

/* What a job's message is. */
enum store_hop_kind {
    STORE_HOP_PLAIN,  /* to be run by a worker of service */
    STORE_HOP_SCATTER /* multipart: each part to be run by service; what is gathered goes to gather */
};

struct store_job {
    struct store_id id;
    enum store_job_state state;
    enum store_hop_kind kind;
    struct slice service, tenant;    /* where it stands now; on whose behalf */
    struct slice gather;             /* of a scatter; empty: what is gathered is the answer */
    unsigned priority, hop, attempt; /* attempt: how often this hop has been tried and has failed */
    uint64_t cost;                   /* 0: unknown */
    uint64_t fence;                  /* grows with every lease */
    uint64_t created, run_at;        /* run_at: not before; 0: at once */
    uint64_t deadline;               /* 0: none */
    uint64_t ended, expires;         /* 0 until it has ended; then it may be dropped at expires */
    struct slice callback;           /* the URL to tell of its end; empty: none */
    uint64_t callback_at;            /* when it is to be told (again); 0: no more */
    unsigned callback_attempt;
    struct slice reason;          /* why it failed, was cancelled or is dead, or why it is tried again */
    struct store_message message; /* of the present hop */
    unsigned status;              /* of the answer; 0: there is none */
    struct store_message answer;
};

/* What waits in the same line: jobs in state STORE_QUEUED with run_at 0. */
struct store_line {
    struct slice service, tenant;
    unsigned priority;
    unsigned hop; /* STORE_JOB_WAKE: the lowest of theirs */
    uint64_t count;
};

struct store_part { /* the answer of one part of a scattered hop */
    unsigned index, status;
    struct store_message answer; /* its head: fields, each ended by CRLF */
};

struct store_topic_message {
    uint64_t id;       /* greater than all before it in its topic; never 0 */
    uint64_t at;       /* when it was published */
    struct slice type; /* its Content-Type; may be empty */
    struct store_body body;
};

struct store_subscription {
    struct slice topic, name;
    uint64_t position; /* messages up to it have been acknowledged or came before the subscription */
    uint64_t last;     /* the topic's last message */
};

enum store_kind {
    /* ---- jobs ---- */

    /* in: job (all but state, fence, ended, expires, status, answer), lease; key (may be empty), hash and
       key_expires. With lease the job is leased at once, with fence 1; otherwise queued.
       out: found: a job of this tenant and service (job.service) with this key is there already, nothing was
       stored, ret_job.id names it, and a blob is still the caller's. WEIR_ECONFLICT also: the id is taken.
       WEIR_ECONFLICT: it had another hash. A key whose key_expires is not after job.created counts for
       nothing, nor does one whose job has been dropped. */
    STORE_JOB_PUT,
    /* Leases up to limit of the oldest jobs of a line (line.service, tenant, priority), with not more than
       most_bytes of bodies in place (0: no such limit), but for the first.
       out: jobs, whole with their messages, fence grown; more: there are, but for most_bytes. */
    STORE_JOB_LEASE,
    /* Up to limit queued jobs whose run_at is not 0 and not after now, the earliest first, wait for their
       turn from now on: their run_at becomes 0. out: lines of which they are, each once, with their count;
       next: the earliest run_at that is left, 0: none. */
    STORE_JOB_WAKE,
    /* in: job.id, fence, kind, service, gather, hop, priority, cost, message. It stands at this hop now;
       attempt is 0, answers of parts are dropped. It stays leased. */
    STORE_JOB_STEP,
    /* in: job.id, fence, attempt, run_at, reason. Back to queued. */
    STORE_JOB_RELEASE,
    /* in: job.id, fence, state (one of the ended ones), ended, expires, callback_at, reason, status, answer.
       Ended, for good. Message and parts of a dead one are kept, others' are dropped. With fence 0 whoever
       has it loses it (cancelling). callback_attempt is 0. expires 0: the next sweep may drop it. out:
       ret_job: the job before, without message. */
    STORE_JOB_FINISH,
    /* in: job.id. A dead one is queued again (attempt, run_at, ended, expires, status 0, no answer). out:
       ret_job. WEIR_ESTATE: it is not dead. */
    STORE_JOB_REVIVE,
    /* in: job.id. out: ret_job, with its answer; without its message. */
    STORE_JOB_GET,
    /* in: job.service, job.tenant (each empty: any; any_tenant must be set for that), states (a mask), job.id
       (only those after it), limit. out: jobs in the order of their ids, without messages and answers. */
    STORE_JOB_LIST,
    /* in: states (a mask of ended ones), job.service (empty: any), job.tenant as above, now: only those that
       had ended by then; limit; after: 0, or next of the one before. Drops ended jobs with all that belongs
       to them, as far as it looks at once. out: count; more; next: where to go on. */
    STORE_JOB_PURGE,
    /* Whatever a hub before has leased is queued again. out: lines; next as above. Once, before all else. */
    STORE_JOB_LOAD,
    /* in: job.id, fence, part. One part's answer; of a doubled one nothing is kept. */
    STORE_PART_PUT,
    /* in: job.id. out: parts, in order. */
    STORE_PART_LIST,
    /* Ended jobs whose callback_at is not 0 and not after now, up to limit, the earliest first. out: jobs
       without messages and answers; next: the earliest callback_at that is left, 0: none. */
    STORE_CALLBACK_DUE,
    /* in: job.id, ended, callback_at, callback_attempt. WEIR_ENOTFOUND also when it has not ended then (any
       more). */
    STORE_CALLBACK_SET,

    /* ---- topics ---- */

    /* in: topic, name. A subscription begins behind the last message there is. out: found: it was there
       before, nothing has changed; subscription. */
    STORE_TOPIC_SUBSCRIBE,
    /* in: topic, name. What only it had to read is dropped. */
    STORE_TOPIC_UNSUBSCRIBE,
    /* in: topic, message (type, body, at). out: message_id, or 0: there is no subscription, nothing was kept;
       count: how many there are. */
    STORE_TOPIC_APPEND,
    /* in: topic, name, after (ids; 0: from the beginning), limit, most_bytes (of the bodies in place; one
       message is always given); take: what is given is acknowledged at once.
       out: messages that are not acknowledged, in order. A blob goes with the last acknowledgement: read it
       before it is acknowledged. */
    STORE_TOPIC_READ,
    /* in: topic, name, message_id; up_to: and all before it. WEIR_ENOTFOUND: no such subscription, or it had
       no such message (any more), and nothing has changed. out: position: it has read all up to there. */
    STORE_TOPIC_ACK,
    /* out: subscriptions, all. */
    STORE_TOPIC_LOAD,

    /* ---- configuration ---- */

    /* in: key. out: value, revision. */
    STORE_CONF_GET,
    /* in: key, value, revision (the one that it must have; 0: it must not be there). out: revision. */
    STORE_CONF_SET,

    /* ---- blobs ---- */

    /* out: blob: a new, empty one. One that is not closed and referred to is dropped at the next start. */
    STORE_BLOB_NEW,
    /* in: blob, bytes: appended. */
    STORE_BLOB_WRITE,
    /* in: blob. It is durable, and takes no more. */
    STORE_BLOB_CLOSE,
    /* in: blob, after (an offset), limit. out: bytes; fewer than limit only at the end. */
    STORE_BLOB_READ,
    /* in: blob. One that nothing refers to is no longer wanted. */
    STORE_BLOB_DROP,

    /* ---- retention ---- */

    /* in: now, limit, message_age (0: none). Drops ended jobs past their expires, keys past theirs, messages
       published more than message_age ago; up to limit of each. out: count; more: there is more to drop. */
    STORE_SWEEP,
    STORE_KINDS
};
/* For logs and metrics: "job-put". */
const char *store_kind_text(enum store_kind kind);

struct store_op {
    struct list link; /* the store's, while it is under way */
    void (*done)(struct store_op *op);
    enum store_kind kind;
    uint32_t shard;
    int err;

    /* in; which of them count, says the kind */
    struct store_job job;
    struct store_line line;
    struct slice key, value, bytes, topic, name;
    const unsigned char *hash; /* STORE_HASH bytes */
    uint64_t key_expires, now, after, message_age, most_bytes;
    struct store_part part;
    struct store_topic_message message;
    unsigned states;
    size_t limit;
    bool lease, take, up_to, any_tenant;
    bool lazy; /* nobody waits for it: it may be done a moment later, so as to share a sync with others */

    /* in or out */
    uint64_t blob, message_id, revision;

    /* out */
    struct arena memory; /* of what is listed below; texts, too */
    bool found, more;
    uint64_t next, position;
    struct store_job ret_job;
    struct store_job *jobs;
    struct store_line *lines;
    struct store_part *parts;
    struct store_topic_message *messages;
    struct store_subscription *subscriptions;
    size_t count; /* of that list */
    struct slice ret_bytes, ret_value;
};

/* An operation of that kind, all else empty. */
void store_op_init(struct store_op *op, enum store_kind kind, void (*done)(struct store_op *op));
/* Frees its results. */
void store_op_fini(struct store_op *op);

/* Now, as of the last completed operations. Any thread. */
struct store_stats {
    uint64_t jobs[STORE_STATES];
    uint64_t topics, subscriptions, messages, message_bytes;
    uint64_t blobs, blob_bytes, bytes; /* bytes: of the database */
    uint64_t operations, commits, errors;
};

struct store;
struct store_ops {
    void (*submit)(struct store *s, struct store_op *op);
    void (*turn)(struct store *s);
    void (*stats)(struct store *s, struct store_stats *ret);
    void (*close)(struct store *s);
};
struct store {
    const struct store_ops *ops;
};

/* Takes the operation on; its done is called by a later store_turn. */
static inline void store_submit(struct store *s, struct store_op *op) {
    s->ops->submit(s, op);
}
/* Calls done for what has completed. The thread that owns the hub. */
static inline void store_turn(struct store *s) {
    s->ops->turn(s);
}
static inline void store_stats(struct store *s, struct store_stats *ret) {
    s->ops->stats(s, ret);
}
/* Completes what is under way (calling done), and frees the store. NULL is fine. */
void store_close(struct store **s);

#endif
