/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations on the database, within a transaction of the caller's. Each returns what op->err is to be. Those
 * with work_failed may have left something half-done: the caller rolls the transaction back. All other
 * errors have changed nothing, and the transaction goes on.
 */
#ifndef STORE_SQLITE_WORK_H
#define STORE_SQLITE_WORK_H

#include "store/blob.h"
#include "store/sqlite_db.h"
#include "weir/weir.h"

struct work {
    struct db db;
    struct blobs *blobs;
    struct store_stats counts; /* with what the transaction has done so far: jobs, topics, subscriptions,
                                  messages, message_bytes */
};

static inline bool work_failed(int err) {
    return err == WEIR_ENOMEM || err == WEIR_ENOSPACE || err == WEIR_EUNAVAILABLE || err == WEIR_ECORRUPT;
}

/* Any kind but the blobs'. The results of one that fails are forgotten (work_forget). */
int work_run(struct work *w, struct store_op *op);
void work_forget(struct store_op *op);
/* Once its transaction has been committed. */
void work_settle(struct store_op *op);
/* Counts what is there. */
int work_count(struct work *w);

/* ---- bodies; sqlite_work.c ---- */

/* Makes a blob referred to, if the body is one; kept is the id that the place has referred to so far (0:
   none) and goes on referring to if it is the same. *ret_size: of the body. Fails (WEIR_ENOTFOUND,
   WEIR_ESTATE) before anything has changed. */
int work_body_take(struct work *w, const struct store_body *body, uint64_t kept, uint64_t *ret_size);
/* It goes with what has referred to it. 0: none. */
int work_blob_release(struct work *w, uint64_t blob, uint64_t size);
/* One that the operation has no use for goes at once, if nothing refers to it. */
int work_body_discard(struct work *w, const struct store_body *body);

/* Room for one more item of a list in an arena; NULL: out of memory. *list and *room are changed. */
void *work_list_add(struct arena *memory, void *list, size_t count, size_t *room, size_t size);
/* For "one more than limit". */
static inline uint64_t work_limit(size_t limit) {
    return limit < UINT32_MAX ? limit : UINT32_MAX;
}

/* ---- jobs ---- */

/* What a row of a job has beside the job. */
struct job_row {
    uint64_t seq, message_blob, message_size, answer_blob, answer_size;
};

/* How a job stands. */
struct job_stand {
    uint64_t seq, fence, message_blob, message_size;
    enum store_job_state state;
};
int work_job_stand(struct work *w, struct store_id id, struct job_stand *ret); /* sqlite_list.c */

/* sqlite_list.c: reads SQL_JOB's columns. */
int work_job_read(struct query *q, struct arena *memory, struct store_job *ret, struct job_row *ret_row);
/* op->job.id into op->ret_job, without message and answer. */
int work_job_find(struct work *w, struct store_op *op, struct job_row *ret_row);
/* The message, or the answer (SQL_JOB_MESSAGE, SQL_JOB_ANSWER) of a row. */
int work_job_read_message(struct work *w, enum sql sql, const struct job_row *row, struct arena *memory,
                          struct store_message *ret);
/* Drops the answers of parts. */
int work_job_drop_parts(struct work *w, uint64_t seq);

int work_job_put(struct work *w, struct store_op *op); /* sqlite_job.c */
int work_job_lease(struct work *w, struct store_op *op);
int work_job_wake(struct work *w, struct store_op *op);
int work_job_step(struct work *w, struct store_op *op);
int work_job_release(struct work *w, struct store_op *op);
int work_job_finish(struct work *w, struct store_op *op);
int work_job_revive(struct work *w, struct store_op *op);
int work_job_part_put(struct work *w, struct store_op *op);
int work_job_callback_set(struct work *w, struct store_op *op);

int work_job_get(struct work *w, struct store_op *op); /* sqlite_list.c */
int work_job_list(struct work *w, struct store_op *op);
/* A list by slices of some thousand jobs, so that whoever makes it may do other things between them: call
   while at->more. */
struct work_job_list_at {
    struct store_id after; /* begins as op->job.id */
    size_t room;
    bool more;
};
int work_job_list_slice(struct work *w, struct store_op *op, struct work_job_list_at *at);
int work_job_load(struct work *w, struct store_op *op);
int work_job_part_list(struct work *w, struct store_op *op);
int work_job_callback_due(struct work *w, struct store_op *op);

int work_job_purge(struct work *w, struct store_op *op); /* sqlite_sweep.c */
int work_job_sweep(struct work *w, struct store_op *op);

/* ---- topics; sqlite_topic.c ---- */

int work_topic_subscribe(struct work *w, struct store_op *op);
int work_topic_unsubscribe(struct work *w, struct store_op *op);
int work_topic_append(struct work *w, struct store_op *op);
int work_topic_read(struct work *w, struct store_op *op);
int work_topic_ack(struct work *w, struct store_op *op);
int work_topic_load(struct work *w, struct store_op *op);
/* Drops messages of a topic, from one id to another, with all that belongs to them. */
int work_topic_drop(struct work *w, uint64_t topic, uint64_t from, uint64_t to);

#endif
