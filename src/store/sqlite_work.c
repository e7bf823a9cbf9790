/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite_work.h"
#include "base/assert.h"

/* ---- bodies ---- */

int work_body_take(struct work *w, const struct store_body *body, uint64_t kept, uint64_t *ret_size) {
    if (!body->blob) {
        *ret_size = body->bytes.n;
        return 0;
    }
    if (body->blob == kept) {
        *ret_size = body->size;
        return 0;
    }
    int err = blobs_take(w->blobs, body->blob, ret_size);
    return err == 0 ? DB_RUN(&w->db, SQL_BLOB_NEW, body->blob, *ret_size) : err;
}

int work_blob_release(struct work *w, uint64_t blob, uint64_t size) {
    if (!blob) return 0;
    int err = blobs_release(w->blobs, blob, size);
    return err == 0 ? DB_RUN(&w->db, SQL_BLOB_DROP, blob) : err;
}

int work_body_discard(struct work *w, const struct store_body *body) {
    uint64_t size;
    if (!body->blob || blobs_take(w->blobs, body->blob, &size) != 0) return 0;
    return blobs_release(w->blobs, body->blob, size);
}

void *work_list_add(struct arena *memory, void *list, size_t count, size_t *room, size_t size) {
    if (count < *room) return list;
    size_t more = *room ? *room * 2 : 8;
    void *to = arena_alloc(memory, more * size);
    if (!to) return NULL;
    if (count) memcpy(to, list, count * size);
    *room = more;
    return to;
}

/* ---- configuration ---- */

static int conf_get(struct work *w, struct store_op *op) {
    struct query q;
    query_begin(&q, &w->db, SQL_CONF_GET);
    query_text(&q, op->key);
    int r = query_row(&q);
    if (r != 1) return r == 0 ? WEIR_ENOTFOUND : r;
    int err = query_get(&q, &op->memory, &op->ret_value);
    if (err == 0) op->revision = query_get_u64(&q);
    query_end(&q);
    return err;
}

static int conf_set(struct work *w, struct store_op *op) {
    struct query q;
    uint64_t revision;
    query_begin(&q, &w->db, SQL_CONF_REVISION);
    query_text(&q, op->key);
    int err = query_number(&q, &revision);
    if (err != 0) return err;
    if (revision != op->revision) return WEIR_ECONFLICT;
    query_begin(&q, &w->db, SQL_CONF_SET);
    query_text(&q, op->key);
    query_bytes(&q, op->value);
    query_u64(&q, revision + 1);
    return query_run(&q);
}

/* ---- all of them ---- */

static int (*const runs[STORE_KINDS])(struct work *w, struct store_op *op) = {
    [STORE_JOB_PUT] = work_job_put,
    [STORE_JOB_LEASE] = work_job_lease,
    [STORE_JOB_WAKE] = work_job_wake,
    [STORE_JOB_STEP] = work_job_step,
    [STORE_JOB_RELEASE] = work_job_release,
    [STORE_JOB_FINISH] = work_job_finish,
    [STORE_JOB_REVIVE] = work_job_revive,
    [STORE_JOB_GET] = work_job_get,
    [STORE_JOB_LIST] = work_job_list,
    [STORE_JOB_PURGE] = work_job_purge,
    [STORE_JOB_LOAD] = work_job_load,
    [STORE_PART_PUT] = work_job_part_put,
    [STORE_PART_LIST] = work_job_part_list,
    [STORE_CALLBACK_DUE] = work_job_callback_due,
    [STORE_CALLBACK_SET] = work_job_callback_set,
    [STORE_TOPIC_SUBSCRIBE] = work_topic_subscribe,
    [STORE_TOPIC_UNSUBSCRIBE] = work_topic_unsubscribe,
    [STORE_TOPIC_APPEND] = work_topic_append,
    [STORE_TOPIC_READ] = work_topic_read,
    [STORE_TOPIC_ACK] = work_topic_ack,
    [STORE_TOPIC_LOAD] = work_topic_load,
    [STORE_CONF_GET] = conf_get,
    [STORE_CONF_SET] = conf_set,
    [STORE_SWEEP] = work_job_sweep,
};

int work_run(struct work *w, struct store_op *op) {
    ASSERT(op->kind < STORE_KINDS && runs[op->kind]);
    int err = runs[op->kind](w, op);
    if (err != 0) work_forget(op);
    return err;
}

void work_forget(struct store_op *op) {
    store_op_fini(op);
    op->found = op->more = false;
    op->next = op->position = 0;
    op->ret_job = (struct store_job){0};
    op->jobs = NULL;
    op->lines = NULL;
    op->parts = NULL;
    op->messages = NULL;
    op->subscriptions = NULL;
    op->count = 0;
    op->ret_bytes = op->ret_value = (struct slice){0};
}

void work_settle(struct store_op *op) {
    /* The one result that is a parameter as well. */
    if (op->kind == STORE_CONF_SET && op->err == 0) op->revision++;
}

/* ---- counting ---- */

static int count(struct work *w, enum sql sql, unsigned n, uint64_t *const ret[]) {
    struct query q;
    query_begin(&q, &w->db, sql);
    int r = query_row(&q);
    if (r != 1) return r == 0 ? WEIR_ECORRUPT : r;
    for (unsigned i = 0; i < n; i++) *ret[i] = query_get_u64(&q);
    query_end(&q);
    return 0;
}

int work_count(struct work *w) {
    struct store_stats *c = &w->counts;
    uint64_t *jobs = c->jobs, delayed;
    int err = count(w, SQL_COUNT_QUEUED, 1, (uint64_t *[]){&jobs[STORE_QUEUED]});
    if (err == 0) err = count(w, SQL_COUNT_DELAYED, 1, (uint64_t *[]){&delayed});
    if (err == 0) err = count(w, SQL_COUNT_LEASED, 1, (uint64_t *[]){&jobs[STORE_LEASED]});
    if (err == 0) err = count(w, SQL_COUNT_ENDED, 4, (uint64_t *[]){&jobs[2], &jobs[3], &jobs[4], &jobs[5]});
    if (err == 0) err = count(w, SQL_COUNT_TOPICS, 2, (uint64_t *[]){&c->topics, &c->subscriptions});
    if (err == 0) err = count(w, SQL_COUNT_MESSAGES, 2, (uint64_t *[]){&c->messages, &c->message_bytes});
    if (err == 0) err = count(w, SQL_COUNT_BLOBS, 2, (uint64_t *[]){&c->blobs, &c->blob_bytes});
    if (err == 0) jobs[STORE_QUEUED] += delayed;
    return err;
}
