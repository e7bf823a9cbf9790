/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine's files share (topics.c: subscriptions and calls; topics_read.c: readers; topics_out.c:
   messages that are out; topics_table.c). */
#ifndef DURABLE_TOPICS_STATE_H
#define DURABLE_TOPICS_STATE_H

#include "durable/topics.h"

enum {
    TOPICS_OUT_MOST = 10000,             /* messages of one subscription that are out at once */
    TOPICS_KEPT_MOST = 64 * 1024 * 1024, /* bytes kept for readers to come */
    TOPICS_RETRY_MS = 1000,
    TOPICS_BATCH_MS = 100 /* acknowledgements of a stream */
};

/* ---- hash tables of structs that embed an entry ---- */

struct topics_entry {
    struct topics_entry *next;
    uint64_t hash;
};
struct topics_table {
    struct topics_entry **buckets;
    size_t size, count;
};
/* Makes room for one more; false: out of memory. */
bool topics_table_reserve(struct topics_table *table);
/* After a reserve. */
void topics_table_add(struct topics_table *table, struct topics_entry *e, uint64_t hash);
void topics_table_remove(struct topics_table *table, struct topics_entry *e);
/* The entries that may have this hash, as a chain; NULL: none. */
struct topics_entry *topics_table_chain(const struct topics_table *table, uint64_t hash);
/* Takes one out after the other, from cursor 0 on; NULL: empty. */
struct topics_entry *topics_table_pop(struct topics_table *table, size_t *cursor);
void topics_table_fini(struct topics_table *table);

/* ---- state ---- */

struct topics {
    struct topics_config config;
    struct topics_table topics, subscriptions, outs;
    struct topics_stats stats;
    struct wheel wheel;
    uint64_t seed, retry_at; /* retry_at: loading has failed; 0: it has not */
    bool loaded, loading, draining;
    size_t making;                    /* subscriptions being made */
    size_t kept;                      /* bytes */
    struct list early, early_readers; /* wait for the load */
    struct list later;                /* calls to be answered by the next tick */
};

struct topics_topic {
    struct topics_entry entry;
    uint64_t last;
    size_t uses;        /* subscriptions there or being made */
    struct list hungry; /* subscriptions at which readers wait */
    struct slice name;
    char text[];
};

struct topics_subscription {
    struct topics_entry entry;
    struct topics *topics;
    struct topics_topic *topic;
    uint64_t cursor;         /* what is not after it is out or acknowledged */
    unsigned tasks, leaving; /* operations under way about it; of these, unsubscribing ones */
    bool gone, reading;
    struct list hungry;  /* in topic->hungry */
    struct list readers; /* all */
    struct list waiting; /* those that can take a message */
    struct list outs;    /* all, by id */
    struct list back;    /* those to be given again, by id */
    size_t out_count;
    struct slice name;
    char text[];
};

enum topics_out_state {
    TOPICS_BACK,   /* to be given again */
    TOPICS_GIVEN,  /* leased, or held by a reader */
    TOPICS_ACKING, /* its acknowledgement is under way */
};

/* A message in memory. */
struct topics_kept {
    uint64_t id, at;
    size_t size, type_size;
    char text[]; /* type, body */
};

struct topics_out {
    struct topics_entry entry;
    struct topics_subscription *subscription;
    uint64_t id;
    uint64_t until; /* of a lease; 0: none */
    uint64_t mark;  /* how much its stream had written with it; UINT64_MAX: still writes it */
    unsigned delivery;
    enum topics_out_state state;
    struct topics_reader *holder; /* NULL: none */
    struct topics_kept *kept;     /* acknowledged already; NULL: it is in the store */
    struct list all, link;        /* link: in subscription->back, or holder->held */
    struct topics_timer timer;
};

/* An operation of the store, and what is to be known when it completes. */
struct topics_task {
    struct store_op op;
    void (*complete)(struct topics_task *k, int err);
    struct topics *topics;
    struct topics_call *call; /* NULL: nobody wants to know */
    struct list early;
    struct topics_topic *topic;               /* of subscribing: counts as one of its uses */
    struct topics_subscription *made;         /* of subscribing */
    struct topics_subscription *subscription; /* counts as one of its tasks; NULL: none */
    struct topics_reader *reader;
    struct topics_kept *kept;
    struct intake *intake;
    void (*start)(struct topics_task *k);
    uint64_t known; /* the topic's last message when it was submitted */
    size_t count;
    char text[]; /* names */
};

/* ---- topics.c ---- */

/* Frees it. */
void topics_task_end(struct topics_task *k);
/* NULL: out of memory. Copies the names. */
struct topics_task *topics_task_new(struct topics *t, enum store_kind kind, struct slice topic,
                                    struct slice name, void (*complete)(struct topics_task *k, int err));
/* About that subscription. */
struct topics_task *topics_task_about(struct topics_subscription *s, enum store_kind kind,
                                      void (*complete)(struct topics_task *k, int err));
void topics_task_submit(struct topics_task *k);
struct topics_subscription *topics_find(const struct topics *t, struct slice topic, struct slice name);
static inline uint64_t topics_now(const struct topics *t) {
    return t->config.now_ms(t->config.ctx);
}

/* ---- topics_out.c ---- */

/* A message is out; newer than all before. NULL: out of memory. */
struct topics_out *topics_out_new(struct topics_subscription *s, uint64_t id);
void topics_out_free(struct topics_out *o);
struct topics_out *topics_out_find(const struct topics_subscription *s, uint64_t id);
/* Whoever has it has it no more, and is to be set. */
void topics_out_let_go(struct topics_out *o);
/* Nobody has it any more: it is to be given again. */
void topics_out_back(struct topics_out *o);
/* Leased until then. */
void topics_out_lease(struct topics_out *o, uint64_t until);
/* Its acknowledgement is under way. */
void topics_out_acking(struct topics_out *o);
/* It has failed: as before. */
void topics_out_restore(struct topics_out *o);
/* Those up to id are acknowledged. */
void topics_out_free_to(struct topics_subscription *s, uint64_t id);
struct topics_kept *topics_kept_new(const struct store_topic_message *m);
/* The first that is to be given again; NULL: none. */
static inline struct topics_out *topics_out_first_back(const struct topics_subscription *s) {
    return list_empty(&s->back) ? NULL : CONTAINER_OF(s->back.next, struct topics_out, link);
}

/* ---- topics_read.c ---- */

/* Gives what there is to those who wait. */
void topics_serve(struct topics_subscription *s);
/* Tells all readers that they are through. */
void topics_dismiss(struct topics_subscription *s, int err);
/* Loaded: it can begin. */
void topics_read_start(struct topics *t, struct topics_reader *r);
void topics_reader_finish(struct topics_reader *r, int err);

#endif
