/* SPDX-License-Identifier: Apache-2.0 */
/* What reads jobs. */
#include "store/sqlite_work.h"

/* ---- rows ---- */

int work_job_read(struct query *q, struct arena *memory, struct store_job *job, struct job_row *row) {
    int err;
    row->seq = query_get_u64(q);
    if ((err = query_get_id(q, &job->id)) != 0) return err;
    job->state = query_get_unsigned(q);
    job->kind = query_get_unsigned(q);
    if ((err = query_get(q, memory, &job->service)) != 0) return err;
    if ((err = query_get(q, memory, &job->tenant)) != 0) return err;
    if ((err = query_get(q, memory, &job->gather)) != 0) return err;
    job->priority = query_get_unsigned(q);
    job->hop = query_get_unsigned(q);
    job->attempt = query_get_unsigned(q);
    job->cost = query_get_u64(q);
    job->fence = query_get_u64(q);
    job->created = query_get_u64(q);
    job->run_at = query_get_u64(q);
    job->deadline = query_get_u64(q);
    job->ended = query_get_u64(q);
    job->expires = query_get_u64(q);
    if ((err = query_get(q, memory, &job->callback)) != 0) return err;
    job->callback_at = query_get_u64(q);
    job->callback_attempt = query_get_unsigned(q);
    if ((err = query_get(q, memory, &job->reason)) != 0) return err;
    job->status = query_get_unsigned(q);
    row->message_blob = query_get_u64(q);
    row->message_size = query_get_u64(q);
    row->answer_blob = query_get_u64(q);
    row->answer_size = query_get_u64(q);
    return job->state < STORE_STATES && job->kind <= STORE_HOP_SCATTER ? 0 : WEIR_ECORRUPT;
}

int work_job_read_message(struct work *w, enum sql sql, const struct job_row *row, struct arena *memory,
                          struct store_message *ret) {
    struct query q;
    query_begin(&q, &w->db, sql);
    query_u64(&q, row->seq);
    int r = query_row(&q);
    if (r != 1) return r == 0 ? WEIR_ECORRUPT : r;
    int err = query_get(&q, memory, &ret->head);
    if (err == 0) err = query_get(&q, memory, &ret->body.bytes);
    query_end(&q);
    ret->body.blob = sql == SQL_JOB_MESSAGE ? row->message_blob : row->answer_blob;
    ret->body.size = sql == SQL_JOB_MESSAGE ? row->message_size : row->answer_size;
    return err;
}

/* Adds a row to op->jobs. */
static int add_job(struct store_op *op, struct query *q, size_t *room) {
    struct store_job job = {0};
    struct job_row row;
    int err = work_job_read(q, &op->memory, &job, &row);
    if (err != 0) return err;
    op->jobs = work_list_add(&op->memory, op->jobs, op->count, room, sizeof *op->jobs);
    if (!op->jobs) return WEIR_ENOMEM;
    op->jobs[op->count++] = job;
    return 0;
}

/* ---- jobs ---- */

int work_job_stand(struct work *w, struct store_id id, struct job_stand *ret) {
    struct query q;
    query_begin(&q, &w->db, SQL_JOB_STAND);
    query_id(&q, id);
    int r = query_row(&q);
    if (r != 1) return r == 0 ? WEIR_ENOTFOUND : r;
    ret->seq = query_get_u64(&q);
    ret->state = query_get_unsigned(&q);
    ret->fence = query_get_u64(&q);
    ret->message_blob = query_get_u64(&q);
    ret->message_size = query_get_u64(&q);
    query_end(&q);
    return 0;
}

int work_job_find(struct work *w, struct store_op *op, struct job_row *ret_row) {
    struct query q;
    query_begin(&q, &w->db, SQL_JOB_BY_ID);
    query_id(&q, op->job.id);
    int r = query_row(&q);
    if (r != 1) return r == 0 ? WEIR_ENOTFOUND : r;
    int err = work_job_read(&q, &op->memory, &op->ret_job, ret_row);
    query_end(&q);
    return err;
}

int work_job_get(struct work *w, struct store_op *op) {
    struct store_job *job = &op->ret_job;
    struct job_row row;
    int err = work_job_find(w, op, &row);
    if (err != 0 || !job->status) return err;
    return work_job_read_message(w, SQL_JOB_ANSWER, &row, &op->memory, &job->answer);
}

/* Where a slice of the list that begins behind after ends; false: it is the last one. */
static int slice_end(struct work *w, struct store_id after, struct store_id *ret_end, bool *ret_more) {
    struct query q;
    query_begin(&q, &w->db, SQL_JOB_LIST_END);
    query_id(&q, after);
    int r = query_row(&q);
    *ret_more = r == 1;
    *ret_end = (struct store_id){UINT64_MAX, UINT64_MAX};
    if (r != 1) return r;
    int err = query_get_id(&q, ret_end);
    query_end(&q);
    return err;
}

int work_job_list_slice(struct work *w, struct store_op *op, struct work_job_list_at *at) {
    enum { FEW = 1 << STORE_LEASED | 1 << STORE_FAILED | 1 << STORE_DEAD };
    bool few = !(op->states & ~(unsigned)FEW);
    struct store_id end = {UINT64_MAX, UINT64_MAX};
    struct query q;
    int r, err = few ? 0 : slice_end(w, at->after, &end, &at->more);
    if (err != 0) return err;
    query_begin(&q, &w->db, few ? SQL_JOB_LIST_FEW : SQL_JOB_LIST);
    query_id(&q, at->after);
    char end_text[STORE_ID_TEXT];
    query_text(&q, store_id_text(end, end_text));
    query_u64(&q, op->states);
    query_u64(&q, op->job.service.n == 0);
    query_text(&q, op->job.service);
    query_u64(&q, op->any_tenant && op->job.tenant.n == 0);
    query_text(&q, op->job.tenant);
    query_time(&q, op->limit - op->count);
    while (err == 0 && (r = query_row(&q)) != 0) err = r == 1 ? add_job(op, &q, &at->room) : r;
    query_end(&q);
    at->after = end;
    at->more &= err == 0 && op->count < op->limit;
    return err;
}

int work_job_list(struct work *w, struct store_op *op) {
    struct work_job_list_at at = {.after = op->job.id};
    int err;
    do err = work_job_list_slice(w, op, &at);
    while (at.more);
    return err;
}

static int load_lines(struct work *w, struct store_op *op) {
    struct query q;
    size_t room = 0;
    int r, err = 0;
    query_begin(&q, &w->db, SQL_JOB_LINES);
    while (err == 0 && (r = query_row(&q)) == 1) {
        struct store_line line = {0};
        err = query_get(&q, &op->memory, &line.service);
        if (err == 0) err = query_get(&q, &op->memory, &line.tenant);
        line.priority = query_get_unsigned(&q);
        line.count = query_get_u64(&q);
        op->lines = work_list_add(&op->memory, op->lines, op->count, &room, sizeof *op->lines);
        if (!op->lines) err = WEIR_ENOMEM;
        if (err == 0) op->lines[op->count++] = line;
    }
    query_end(&q);
    return err != 0 ? err : r;
}

int work_job_load(struct work *w, struct store_op *op) {
    struct query q;
    int err = db_run(&w->db, SQL_JOB_RESET);
    if (err == 0) err = load_lines(w, op);
    if (err != 0) return err;
    w->counts.jobs[STORE_QUEUED] += w->counts.jobs[STORE_LEASED];
    w->counts.jobs[STORE_LEASED] = 0;
    query_begin(&q, &w->db, SQL_JOB_NEXT_DUE);
    return query_number(&q, &op->next);
}

int work_job_callback_due(struct work *w, struct store_op *op) {
    struct query q;
    size_t room = 0;
    int r, err = 0;
    query_begin(&q, &w->db, SQL_CALLBACK_DUE);
    while (err == 0 && (r = query_row(&q)) == 1) {
        err = add_job(op, &q, &room);
        if (err == 0 && (op->count > op->limit || op->jobs[op->count - 1].callback_at > op->now)) {
            op->next = op->jobs[--op->count].callback_at;
            r = 0;
            break;
        }
    }
    query_end(&q);
    return err != 0 ? err : r;
}

/* ---- parts ---- */

static int read_part(struct query *q, struct arena *memory, struct store_part *part) {
    part->index = query_get_unsigned(q);
    part->status = query_get_unsigned(q);
    int err = query_get(q, memory, &part->answer.head);
    if (err == 0) err = query_get(q, memory, &part->answer.body.bytes);
    part->answer.body.blob = query_get_u64(q);
    part->answer.body.size = query_get_u64(q);
    return err;
}

int work_job_part_list(struct work *w, struct store_op *op) {
    struct query q;
    struct job_stand stand;
    size_t room = 0;
    int r, err = work_job_stand(w, op->job.id, &stand);
    if (err != 0) return err;
    query_begin(&q, &w->db, SQL_PART_LIST);
    query_u64(&q, stand.seq);
    while (err == 0 && (r = query_row(&q)) == 1) {
        struct store_part part = {0};
        err = read_part(&q, &op->memory, &part);
        op->parts = work_list_add(&op->memory, op->parts, op->count, &room, sizeof *op->parts);
        if (!op->parts) err = WEIR_ENOMEM;
        if (err == 0) op->parts[op->count++] = part;
    }
    query_end(&q);
    return err != 0 ? err : r;
}

int work_job_drop_parts(struct work *w, uint64_t seq) {
    struct query q;
    int r, err = 0;
    bool any = false;
    query_begin(&q, &w->db, SQL_PART_BLOBS);
    query_u64(&q, seq);
    while (err == 0 && (r = query_row(&q)) != 0) {
        any = true;
        uint64_t blob = r == 1 ? query_get_u64(&q) : 0;
        err = r == 1 ? work_blob_release(w, blob, query_get_u64(&q)) : r;
    }
    query_end(&q);
    if (err != 0 || !any) return err;
    return DB_RUN(&w->db, SQL_PART_DROP, seq);
}
