/* SPDX-License-Identifier: Apache-2.0 */
/* What changes single jobs. Each checks first and writes then, so that one that is refused has written
 * nothing. */
#include "base/assert.h"
#include "store/sqlite_work.h"

/* ---- putting ---- */

/* 1: the key is known, for the same request; 0: it is free. */
static int find_key(struct work *w, struct store_op *op) {
    struct query q;
    query_begin(&q, &w->db, SQL_KEY_FIND);
    query_text(&q, op->job.service);
    query_text(&q, op->job.tenant);
    query_text(&q, op->key);
    int r = query_row(&q);
    if (r != 1) return r;
    struct slice hash = query_peek(&q), mine = {(const char *)op->hash, STORE_HASH};
    bool same = slice_eq(hash, mine);
    int err = query_get_id(&q, &op->ret_job.id);
    bool counts = query_get_u64(&q) > op->job.created;
    query_end(&q);
    if (err != 0 || (counts && same)) return err != 0 ? err : 1;
    op->ret_job.id = (struct store_id){0};
    return counts ? WEIR_ECONFLICT : 0;
}

static int set_key(struct work *w, struct store_op *op) {
    struct query q;
    query_begin(&q, &w->db, SQL_KEY_SET);
    query_text(&q, op->job.service);
    query_text(&q, op->job.tenant);
    query_text(&q, op->key);
    query_bytes(&q, (struct slice){(const char *)op->hash, STORE_HASH});
    query_id(&q, op->job.id);
    query_time(&q, op->key_expires);
    return query_run(&q);
}

/* 1: stored, 0: there is one with this id. */
static int insert(struct work *w, struct store_op *op, uint64_t size) {
    const struct store_job *job = &op->job;
    struct query q;
    query_begin(&q, &w->db, SQL_JOB_NEW);
    query_id(&q, job->id);
    query_u64(&q, op->lease ? STORE_LEASED : STORE_QUEUED);
    query_u64(&q, job->kind);
    query_text(&q, job->service);
    query_text(&q, job->tenant);
    query_text(&q, job->gather);
    query_u64(&q, job->priority);
    query_u64(&q, job->hop);
    query_u64(&q, job->attempt);
    query_u64(&q, job->cost);
    query_u64(&q, op->lease ? 1 : 0);
    query_u64(&q, job->created);
    query_time(&q, job->run_at);
    query_u64(&q, job->deadline);
    query_text(&q, job->callback);
    query_time(&q, job->callback_at);
    query_u64(&q, job->callback_attempt);
    query_text(&q, job->reason);
    query_u64(&q, job->message.body.blob);
    query_u64(&q, size);
    int err = query_run(&q);
    return err != 0 ? err : query_changes(&q);
}

static int set_message(struct work *w, enum sql sql, uint64_t seq, const struct store_message *m) {
    struct query q;
    query_begin(&q, &w->db, sql);
    query_u64(&q, seq);
    query_text(&q, m->head);
    query_bytes(&q, m->body.blob ? (struct slice){0} : m->body.bytes);
    return query_run(&q);
}

int work_job_put(struct work *w, struct store_op *op) {
    uint64_t size;
    ASSERT(!op->key.n || op->hash);
    int r = op->key.n ? find_key(w, op) : 0;
    if (r != 0) {
        op->found = r == 1;
        return r == 1 ? 0 : r;
    }
    if (op->job.message.body.blob) { /* it must not be taken in vain */
        struct job_stand stand;
        r = work_job_stand(w, op->job.id, &stand);
        if (r != WEIR_ENOTFOUND) return r == 0 ? WEIR_ECONFLICT : r;
    }
    int err = work_body_take(w, &op->job.message.body, 0, &size);
    if (err != 0) return err;
    r = insert(w, op, size);
    if (r != 1) return r == 0 ? WEIR_ECONFLICT : r;
    err = set_message(w, SQL_JOB_MESSAGE_SET, (uint64_t)sqlite3_last_insert_rowid(w->db.handle),
                      &op->job.message);
    if (err == 0 && op->key.n) err = set_key(w, op);
    w->counts.jobs[op->lease ? STORE_LEASED : STORE_QUEUED] += err == 0;
    return err;
}

/* ---- leasing ---- */

/* The jobs that a query gives, and their rows. It is over afterwards. */
static int collect(struct store_op *op, struct query *q, struct job_row **ret_rows) {
    struct arena *memory = &op->memory;
    struct job_row *rows = NULL;
    size_t room = 0, rows_room = 0;
    int r, err = 0;
    while (err == 0 && (r = query_row(q)) != 0) {
        struct store_job job = {0};
        struct job_row row;
        err = r == 1 ? work_job_read(q, memory, &job, &row) : r;
        if (err != 0) break;
        op->jobs = work_list_add(memory, op->jobs, op->count, &room, sizeof *op->jobs);
        rows = work_list_add(memory, rows, op->count, &rows_room, sizeof *rows);
        if (!op->jobs || !rows) {
            err = WEIR_ENOMEM;
            break;
        }
        op->jobs[op->count] = job;
        rows[op->count++] = row;
    }
    query_end(q);
    *ret_rows = rows;
    return err;
}

int work_job_lease(struct work *w, struct store_op *op) {
    struct query q;
    struct job_row *rows;
    query_begin(&q, &w->db, SQL_JOB_LINE);
    query_text(&q, op->line.service);
    query_text(&q, op->line.tenant);
    query_u64(&q, op->line.priority);
    query_time(&q, op->limit);
    int err = collect(op, &q, &rows);
    uint64_t bytes = 0;
    for (size_t i = 0; err == 0 && i < op->count; i++) {
        struct store_job *job = &op->jobs[i];
        err = work_job_read_message(w, SQL_JOB_MESSAGE, &rows[i], &op->memory, &job->message);
        if (err != 0) break;
        bytes += job->message.body.bytes.n;
        if (i > 0 && op->most_bytes && bytes > op->most_bytes) {
            op->count = i;
            op->more = true;
            break;
        }
        err = DB_RUN(&w->db, SQL_JOB_LEASE, rows[i].seq);
        job->state = STORE_LEASED;
        job->fence++;
    }
    if (err != 0) return err;
    w->counts.jobs[STORE_QUEUED] -= op->count;
    w->counts.jobs[STORE_LEASED] += op->count;
    return 0;
}

/* ---- waking ---- */

/* Counts a job in the line that it is of. */
static int count_in_line(struct store_op *op, const struct store_job *job, size_t *room) {
    for (size_t i = 0; i < op->count; i++) {
        struct store_line *l = &op->lines[i];
        if (l->priority != job->priority || !slice_eq(l->service, job->service) ||
            !slice_eq(l->tenant, job->tenant))
            continue;
        l->count++;
        if (job->hop < l->hop) l->hop = job->hop;
        return 0;
    }
    op->lines = work_list_add(&op->memory, op->lines, op->count, room, sizeof *op->lines);
    if (!op->lines) return WEIR_ENOMEM;
    op->lines[op->count++] = (struct store_line){job->service, job->tenant, job->priority, job->hop, 1};
    return 0;
}

/* Notes the rows of those that are due, up to limit, and their lines. */
static int collect_due(struct work *w, struct store_op *op, uint64_t **ret_rows, size_t *ret_count) {
    struct query q;
    size_t lines_room = 0, room = 0;
    int r, err = 0;
    query_begin(&q, &w->db, SQL_JOB_DUE);
    while (err == 0 && (r = query_row(&q)) != 0) {
        struct store_job job = {0};
        struct job_row row;
        err = r == 1 ? work_job_read(&q, &op->memory, &job, &row) : r;
        if (err != 0) break;
        if (*ret_count == op->limit || job.run_at > op->now) {
            op->next = job.run_at;
            break;
        }
        *ret_rows = work_list_add(&op->memory, *ret_rows, *ret_count, &room, sizeof **ret_rows);
        err = *ret_rows ? count_in_line(op, &job, &lines_room) : WEIR_ENOMEM;
        if (err == 0) (*ret_rows)[(*ret_count)++] = row.seq;
    }
    query_end(&q);
    return err;
}

int work_job_wake(struct work *w, struct store_op *op) {
    uint64_t *rows = NULL;
    size_t count = 0;
    int err = collect_due(w, op, &rows, &count);
    for (size_t i = 0; err == 0 && i < count; i++) err = DB_RUN(&w->db, SQL_JOB_WAKE, rows[i]);
    return err;
}

/* ---- what a leased job goes through ---- */

static int check_fence(enum store_job_state state, uint64_t fence, uint64_t mine) {
    if (state >= STORE_DONE) return WEIR_ESTATE;
    return state == STORE_LEASED && fence == mine ? 0 : WEIR_EFENCE;
}

/* The job, if it is leased with this fence. */
static int find_leased(struct work *w, const struct store_op *op, struct job_stand *ret) {
    int err = work_job_stand(w, op->job.id, ret);
    return err == 0 ? check_fence(ret->state, ret->fence, op->job.fence) : err;
}

static int set_hop(struct work *w, const struct store_job *job, uint64_t seq, uint64_t size) {
    struct query q;
    query_begin(&q, &w->db, SQL_JOB_STEP);
    query_u64(&q, job->kind);
    query_text(&q, job->service);
    query_text(&q, job->gather);
    query_u64(&q, job->hop);
    query_u64(&q, job->priority);
    query_u64(&q, job->cost);
    query_u64(&q, job->message.body.blob);
    query_u64(&q, size);
    query_u64(&q, seq);
    return query_run(&q);
}

int work_job_step(struct work *w, struct store_op *op) {
    struct job_stand stand;
    uint64_t size;
    const struct store_body *body = &op->job.message.body;
    int err = find_leased(w, op, &stand);
    if (err == 0) err = work_body_take(w, body, stand.message_blob, &size);
    if (err == 0) err = set_hop(w, &op->job, stand.seq, size);
    if (err == 0) err = set_message(w, SQL_JOB_MESSAGE_SET, stand.seq, &op->job.message);
    if (err == 0 && stand.message_blob != body->blob)
        err = work_blob_release(w, stand.message_blob, stand.message_size);
    return err == 0 ? work_job_drop_parts(w, stand.seq) : err;
}

int work_job_release(struct work *w, struct store_op *op) {
    struct job_stand stand;
    int err = find_leased(w, op, &stand);
    if (err != 0) return err;
    struct query q;
    query_begin(&q, &w->db, SQL_JOB_RELEASE);
    query_u64(&q, op->job.attempt);
    query_time(&q, op->job.run_at);
    query_text(&q, op->job.reason);
    query_u64(&q, stand.seq);
    err = query_run(&q);
    w->counts.jobs[STORE_LEASED] -= err == 0;
    w->counts.jobs[STORE_QUEUED] += err == 0;
    return err;
}

int work_job_part_put(struct work *w, struct store_op *op) {
    struct job_stand stand;
    struct query q;
    const struct store_part *part = &op->part;
    uint64_t size;
    int err = find_leased(w, op, &stand);
    if (err != 0) return err;
    query_begin(&q, &w->db, SQL_PART_FIND);
    query_u64(&q, stand.seq);
    query_u64(&q, part->index);
    int r = query_row(&q);
    if (r == 1) query_end(&q);
    if (r != 0) return r == 1 ? work_body_discard(w, &part->answer.body) : r;
    err = work_body_take(w, &part->answer.body, 0, &size);
    if (err != 0) return err;
    query_begin(&q, &w->db, SQL_PART_NEW);
    query_u64(&q, stand.seq);
    query_u64(&q, part->index);
    query_u64(&q, part->status);
    query_text(&q, part->answer.head);
    query_bytes(&q, part->answer.body.blob ? (struct slice){0} : part->answer.body.bytes);
    query_u64(&q, part->answer.body.blob);
    query_u64(&q, size);
    return query_run(&q);
}

/* ---- ending ---- */

static int end(struct work *w, const struct store_job *job, const struct job_row *row, uint64_t answer_size) {
    bool keep = job->state == STORE_DEAD;
    struct query q;
    query_begin(&q, &w->db, SQL_JOB_FINISH);
    query_u64(&q, job->state);
    query_u64(&q, job->ended);
    query_time(&q, job->expires);
    query_time(&q, job->callback_at);
    query_text(&q, job->reason);
    query_u64(&q, job->status);
    query_u64(&q, keep ? row->message_blob : 0);
    query_u64(&q, keep ? row->message_size : 0);
    query_u64(&q, job->status ? job->answer.body.blob : 0);
    query_u64(&q, answer_size);
    query_u64(&q, row->seq);
    return query_run(&q);
}

static int drop_message(struct work *w, const struct job_row *row) {
    int err = DB_RUN(&w->db, SQL_JOB_MESSAGE_DROP, row->seq);
    return err == 0 ? work_blob_release(w, row->message_blob, row->message_size) : err;
}

int work_job_finish(struct work *w, struct store_op *op) {
    const struct store_job *job = &op->job;
    struct job_row row;
    uint64_t size = 0;
    ASSERT(1u << job->state & STORE_ENDED_MASK);
    int err = work_job_find(w, op, &row);
    if (err != 0) return err;
    enum store_job_state before = op->ret_job.state;
    err = job->fence             ? check_fence(before, op->ret_job.fence, job->fence)
          : before >= STORE_DONE ? WEIR_ESTATE
                                 : 0;
    if (err == 0)
        err = job->status ? work_body_take(w, &job->answer.body, 0, &size)
                          : work_body_discard(w, &job->answer.body);
    if (err == 0) err = end(w, job, &row, size);
    if (err == 0 && job->state != STORE_DEAD) err = drop_message(w, &row);
    if (err == 0 && job->state != STORE_DEAD) err = work_job_drop_parts(w, row.seq);
    if (err == 0 && job->status) err = set_message(w, SQL_JOB_ANSWER_SET, row.seq, &job->answer);
    w->counts.jobs[before] -= err == 0;
    w->counts.jobs[job->state] += err == 0;
    return err;
}

int work_job_revive(struct work *w, struct store_op *op) {
    struct job_row row;
    int err = work_job_find(w, op, &row);
    if (err != 0) return err;
    struct store_job *job = &op->ret_job;
    if (job->state != STORE_DEAD) return WEIR_ESTATE;
    err = DB_RUN(&w->db, SQL_JOB_REVIVE, row.seq);
    if (err == 0) err = DB_RUN(&w->db, SQL_JOB_ANSWER_DROP, row.seq);
    if (err == 0) err = work_blob_release(w, row.answer_blob, row.answer_size);
    job->state = STORE_QUEUED;
    job->attempt = job->status = 0;
    job->run_at = job->ended = job->expires = 0;
    w->counts.jobs[STORE_DEAD] -= err == 0;
    w->counts.jobs[STORE_QUEUED] += err == 0;
    return err;
}

int work_job_callback_set(struct work *w, struct store_op *op) {
    struct query q;
    query_begin(&q, &w->db, SQL_CALLBACK_SET);
    query_time(&q, op->job.callback_at);
    query_u64(&q, op->job.callback_attempt);
    query_id(&q, op->job.id);
    query_u64(&q, op->job.ended);
    int err = query_run(&q);
    return err == 0 && query_changes(&q) == 0 ? WEIR_ENOTFOUND : err;
}
