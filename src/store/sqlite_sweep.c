/* SPDX-License-Identifier: Apache-2.0 */
/* What drops much at once, up to a limit. */
#include "store/sqlite_work.h"

enum { VACUUM_PAGES = 1024, PURGE_ROWS = 2000 };

/* ---- jobs ---- */

/* A job that has ended, with all that belongs to it. */
static int drop_job(struct work *w, uint64_t seq) {
    struct query q;
    query_begin(&q, &w->db, SQL_JOB_BLOBS);
    query_u64(&q, seq);
    int r = query_row(&q);
    if (r != 1) return r == 0 ? WEIR_ECORRUPT : r;
    unsigned state = query_get_unsigned(&q);
    uint64_t blobs[4]; /* message and its size, answer and its size */
    for (int i = 0; i < 4; i++) blobs[i] = query_get_u64(&q);
    query_end(&q);
    if (state >= STORE_STATES) return WEIR_ECORRUPT;
    int err = work_job_drop_parts(w, seq);
    if (err == 0) err = work_blob_release(w, blobs[0], blobs[1]);
    if (err == 0) err = work_blob_release(w, blobs[2], blobs[3]);
    if (err == 0) err = DB_RUN(&w->db, SQL_JOB_MESSAGE_DROP, seq);
    if (err == 0) err = DB_RUN(&w->db, SQL_JOB_ANSWER_DROP, seq);
    if (err == 0) err = DB_RUN(&w->db, SQL_JOB_DROP, seq);
    w->counts.jobs[state] -= err == 0;
    return err;
}

static int drop_all(struct work *w, struct store_op *op, const uint64_t *list, size_t count) {
    int err = 0;
    for (size_t i = 0; err == 0 && i < count; i++) err = drop_job(w, list[i]);
    op->count += count;
    return err;
}

/* Drops those whose seq the query gives, up to the limit. */
static int drop_jobs(struct work *w, struct store_op *op, struct query *q) {
    uint64_t *list = NULL;
    size_t count = 0, room = 0;
    int r, err = 0;
    while (err == 0 && (r = query_row(q)) != 0) {
        list = r == 1 ? work_list_add(&op->memory, list, count, &room, sizeof *list) : NULL;
        if (!list) err = r == 1 ? WEIR_ENOMEM : r;
        if (list) list[count++] = query_get_u64(q);
    }
    query_end(q);
    if (err != 0) return err;
    op->more |= count > op->limit;
    return drop_all(w, op, list, count > op->limit ? op->limit : count);
}

static bool is_to_go(const struct store_op *op, struct query *q) {
    unsigned state = query_get_unsigned(q);
    uint64_t ended = query_get_u64(q);
    struct slice service = query_peek(q), tenant = query_peek(q);
    bool any = op->any_tenant && op->job.tenant.n == 0;
    return state < STORE_STATES && (op->states & STORE_ENDED_MASK) >> state & 1 && ended <= op->now &&
           (op->job.service.n == 0 || slice_eq(service, op->job.service)) &&
           (any || slice_eq(tenant, op->job.tenant));
}

/* A slice of all jobs at a time, so that it holds up nobody. */
int work_job_purge(struct work *w, struct store_op *op) {
    struct query q;
    uint64_t *list = NULL, looked = 0, last = op->after;
    size_t count = 0, room = 0;
    int r, err = 0;
    query_begin(&q, &w->db, SQL_JOB_PURGE);
    query_time(&q, op->after);
    query_u64(&q, PURGE_ROWS);
    while (err == 0 && !op->more && (r = query_row(&q)) != 0) {
        if (r != 1) {
            err = r;
            break;
        }
        uint64_t seq = query_get_u64(&q);
        looked++;
        if (is_to_go(op, &q)) {
            op->more = count == op->limit;
            list = op->more ? list : work_list_add(&op->memory, list, count, &room, sizeof *list);
            if (!op->more && !list) err = WEIR_ENOMEM;
            if (!op->more && list) list[count++] = seq;
        }
        if (!op->more) last = seq;
    }
    query_end(&q);
    if (err != 0) return err;
    op->more |= looked == PURGE_ROWS;
    op->next = op->more ? last : 0;
    return drop_all(w, op, list, count);
}

/* ---- retention ---- */

static int sweep_jobs(struct work *w, struct store_op *op) {
    struct query q;
    query_begin(&q, &w->db, SQL_JOB_EXPIRED);
    query_time(&q, op->now);
    query_u64(&q, work_limit(op->limit) + 1);
    return drop_jobs(w, op, &q);
}

static int sweep_keys(struct work *w, struct store_op *op) {
    struct query q;
    uint64_t expired;
    query_begin(&q, &w->db, SQL_KEY_EXPIRED);
    query_time(&q, op->now);
    query_u64(&q, work_limit(op->limit) + 1);
    int err = query_number(&q, &expired);
    if (err != 0 || expired == 0) return err;
    op->more |= expired > op->limit;
    op->count += expired > op->limit ? op->limit : (size_t)expired;
    query_begin(&q, &w->db, SQL_KEY_SWEEP);
    query_time(&q, op->now);
    query_u64(&q, work_limit(op->limit));
    return query_run(&q);
}

struct old {
    uint64_t topic, id;
};

static int sweep_messages(struct work *w, struct store_op *op) {
    struct query q;
    struct old *list = NULL;
    size_t count = 0, room = 0;
    int r, err = 0;
    if (!op->message_age || op->now <= op->message_age) return 0;
    query_begin(&q, &w->db, SQL_MESSAGE_OLD);
    query_time(&q, op->now - op->message_age);
    query_u64(&q, work_limit(op->limit) + 1);
    while (err == 0 && (r = query_row(&q)) != 0) {
        list = r == 1 ? work_list_add(&op->memory, list, count, &room, sizeof *list) : NULL;
        if (!list) err = r == 1 ? WEIR_ENOMEM : r;
        if (list) list[count].topic = query_get_u64(&q);
        if (list) list[count++].id = query_get_u64(&q);
    }
    query_end(&q);
    op->more |= count > op->limit;
    if (count > op->limit) count = op->limit;
    for (size_t i = 0; err == 0 && i < count; i++)
        err = work_topic_drop(w, list[i].topic, list[i].id, list[i].id);
    op->count += count;
    return err;
}

/* Gives pages back to the file system once a quarter of them is free: those that are soon used again stay. */
static int vacuum(struct work *w) {
    struct query q;
    uint64_t pages, free_pages;
    int err = db_pages(&w->db, &pages, &free_pages);
    if (err != 0 || free_pages < VACUUM_PAGES || free_pages < pages / 4) return err;
    query_begin(&q, &w->db, SQL_VACUUM);
    do err = query_row(&q);
    while (err == 1);
    return err;
}

int work_job_sweep(struct work *w, struct store_op *op) {
    int err = sweep_jobs(w, op);
    if (err == 0) err = sweep_keys(w, op);
    if (err == 0) err = sweep_messages(w, op);
    return err == 0 ? vacuum(w) : err;
}
