/* SPDX-License-Identifier: Apache-2.0 */
/* The model's insides: what it knows, and one function per kind of operation. All slices in it are the
   model's own (own_set). */
#ifndef TEST_STORE_MODEL_STATE_H
#define TEST_STORE_MODEL_STATE_H

#include "model.h"
#include "weir/weir.h"

struct model_job {
    struct store_job job;
    struct store_part *parts; /* in the order of their indices */
    size_t part_count;
};
struct model_key {
    struct slice service, tenant, key;
    unsigned char hash[STORE_HASH];
    uint64_t expires;
    struct store_id job;
};
struct model_blob {
    uint64_t id;
    struct slice bytes;
    bool closed, referred;
    unsigned writes;
};
struct model_subscription {
    struct slice name;
    uint64_t position;
    uint64_t *unread; /* ids, in order */
    size_t unread_count;
};
struct model_topic { /* stays when its last subscription has gone, so that its ids go on */
    struct slice name;
    uint64_t last;
    struct store_topic_message *messages; /* those that somebody has not read, in order */
    size_t message_count;
    struct model_subscription *subscriptions;
    size_t subscription_count;
};
struct model_value {
    struct slice key, value;
    uint64_t revision;
};

struct model {
    struct store base;
    enum model_mutation mutation;
    struct list under_way;
    bool held;
    int error;
    unsigned failing;
    struct store_stats counted; /* operations, commits, errors */
    struct model_job *jobs;     /* in the order of their ids */
    size_t job_count;
    struct model_key *keys;
    size_t key_count;
    struct model_blob *blobs;
    size_t blob_count;
    uint64_t last_blob;
    struct model_topic *topics;
    size_t topic_count;
    struct model_value *values;
    size_t value_count;
};

static inline bool mutant(const struct model *m, enum model_mutation mutation) {
    return m->mutation == mutation;
}

/* ---- memory ---- */

void *model_alloc(void *old, size_t size);
/* An array with room for one more at that place, which is zero; *count is one more. */
void *model_insert(void *array, size_t *count, size_t at, size_t size);
void model_remove(void *array, size_t *count, size_t at, size_t size);
#define MODEL_INSERT(array, count, at) ((array) = model_insert((array), &(count), (at), sizeof *(array)))
#define MODEL_REMOVE(array, count, at) model_remove((array), &(count), (at), sizeof *(array))
void own_set(struct slice *s, struct slice value);
void own_free(struct slice *s);
/* Results: memory and texts of an operation. */
void *out_alloc(struct store_op *op, size_t size);
struct slice out_copy(struct store_op *op, struct slice s);
struct store_body out_body(const struct model *m, struct store_op *op, const struct store_body *body);
struct store_message out_message(const struct model *m, struct store_op *op,
                                 const struct store_message *message);

/* ---- blobs ---- */

struct model_blob *blob_find(const struct model *m, uint64_t id);
/* Whether an operation may take this body. */
int body_check(const struct model *m, const struct store_body *body);
/* The operation succeeds, but has no use for it. */
void body_discard(struct model *m, const struct store_body *body);
void body_take(struct model *m, struct store_body *dst, const struct store_body *src);
void body_drop(struct model *m, struct store_body *body);
/* Not referred to any more, but there: its bytes are still to be read. */
void body_let_go(struct model *m, struct store_body *body);
void blob_drop_loose(struct model *m);

/* ---- operations: 0 or the error; on failure nothing has changed ---- */

int model_job_apply(struct model *m, struct store_op *op);   /* STORE_JOB_... to STORE_CALLBACK_... */
int model_topic_apply(struct model *m, struct store_op *op); /* STORE_TOPIC_... */
int model_blob_apply(struct model *m, struct store_op *op);
int model_conf_apply(struct model *m, struct store_op *op);
/* Drops what a sweep drops, at most limit each; *more when there is more. */
uint64_t model_sweep_jobs(struct model *m, const struct store_op *op, bool *more);
uint64_t model_sweep_keys(struct model *m, const struct store_op *op, bool *more);
uint64_t model_sweep_messages(struct model *m, const struct store_op *op, bool *more);
/* MODEL_CRASH_LOSES_LAST */
void model_topic_lose(struct model *m);

void model_jobs_free(struct model *m);
void model_topics_free(struct model *m);

#endif
