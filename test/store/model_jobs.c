/* SPDX-License-Identifier: Apache-2.0 */
/* The model's jobs, their parts and their idempotency keys. */
#include "model_state.h"
#include <stdlib.h>

static bool ended(const struct store_job *job) {
    return (STORE_ENDED_MASK >> job->state & 1) != 0;
}

static struct model_job *find(const struct model *m, struct store_id id) {
    for (size_t i = 0; i < m->job_count; i++)
        if (store_id_compare(m->jobs[i].job.id, id) == 0) return &m->jobs[i];
    return NULL;
}

/* ---- results ---- */

enum { WITH_MESSAGE = 1, WITH_ANSWER = 2 };

static struct store_job out_job(const struct model *m, struct store_op *op, const struct store_job *job,
                                unsigned with) {
    struct store_job out = *job;
    out.service = out_copy(op, job->service);
    out.tenant = out_copy(op, job->tenant);
    out.gather = out_copy(op, job->gather);
    out.callback = out_copy(op, job->callback);
    out.reason = out_copy(op, job->reason);
    out.message = out.answer = (struct store_message){0};
    if (with & WITH_MESSAGE) out.message = out_message(m, op, &job->message);
    if (with & WITH_ANSWER) out.answer = out_message(m, op, &job->answer);
    return out;
}

static void out_begin(const struct model *m, struct store_op *op) {
    op->jobs = out_alloc(op, m->job_count * sizeof *op->jobs);
    op->count = 0;
}

/* ---- changing one ---- */

static void message_drop(struct model *m, struct store_message *message) {
    own_free(&message->head);
    body_drop(m, &message->body);
}

static void message_take(struct model *m, struct store_message *dst, const struct store_message *src) {
    own_set(&dst->head, src->head);
    body_take(m, &dst->body, &src->body);
}

static void parts_drop(struct model *m, struct model_job *j) {
    for (size_t i = 0; i < j->part_count; i++) message_drop(m, &j->parts[i].answer);
    free(j->parts);
    j->parts = NULL;
    j->part_count = 0;
}

static void forget_bodies(struct model *m, struct store_job *job) {
    if (!mutant(m, MODEL_BLOB_ORPHANED)) return;
    job->message.body.blob = job->answer.body.blob = 0;
}

static void job_drop(struct model *m, struct model_job *j) {
    for (size_t i = m->key_count; i-- > 0;) {
        if (store_id_compare(m->keys[i].job, j->job.id) != 0 || mutant(m, MODEL_KEY_OUTLIVES_JOB)) continue;
        own_free(&m->keys[i].service);
        own_free(&m->keys[i].tenant);
        own_free(&m->keys[i].key);
        MODEL_REMOVE(m->keys, m->key_count, i);
    }
    forget_bodies(m, &j->job);
    message_drop(m, &j->job.message);
    message_drop(m, &j->job.answer);
    parts_drop(m, j);
    own_free(&j->job.service);
    own_free(&j->job.tenant);
    own_free(&j->job.gather);
    own_free(&j->job.callback);
    own_free(&j->job.reason);
    MODEL_REMOVE(m->jobs, m->job_count, (size_t)(j - m->jobs));
}

/* ---- put ---- */

static struct model_key *key_find(const struct model *m, const struct store_op *op) {
    for (size_t i = 0; i < m->key_count; i++) {
        struct model_key *k = &m->keys[i];
        if (slice_eq(k->key, op->key) && slice_eq(k->service, op->job.service) &&
            (slice_eq(k->tenant, op->job.tenant) || mutant(m, MODEL_KEY_ANY_TENANT)))
            return k;
    }
    return NULL;
}

static void key_set(struct model *m, const struct store_op *op) {
    if (op->key.n == 0) return;
    struct model_key *k = key_find(m, op); /* an expired one: it is this job's now */
    if (!k) {
        MODEL_INSERT(m->keys, m->key_count, m->key_count);
        k = &m->keys[m->key_count - 1];
    }
    own_set(&k->service, op->job.service);
    own_set(&k->tenant, op->job.tenant);
    own_set(&k->key, op->key);
    memcpy(k->hash, op->hash, STORE_HASH);
    k->expires = op->key_expires;
    k->job = op->job.id;
}

static void job_add(struct model *m, const struct store_op *op) {
    size_t at = 0;
    while (at < m->job_count && store_id_compare(m->jobs[at].job.id, op->job.id) < 0) at++;
    MODEL_INSERT(m->jobs, m->job_count, at);
    const struct store_job *in = &op->job;
    struct store_job *job = &m->jobs[at].job;
    *job = (struct store_job){.id = in->id,
                              .state = op->lease ? STORE_LEASED : STORE_QUEUED,
                              .kind = in->kind,
                              .priority = in->priority,
                              .hop = in->hop,
                              .attempt = in->attempt,
                              .cost = in->cost,
                              .fence = op->lease ? 1 : 0,
                              .created = in->created,
                              .run_at = in->run_at,
                              .deadline = in->deadline,
                              .callback_at = in->callback_at,
                              .callback_attempt = in->callback_attempt};
    own_set(&job->service, in->service);
    own_set(&job->tenant, in->tenant);
    own_set(&job->gather, in->gather);
    own_set(&job->callback, in->callback);
    own_set(&job->reason, in->reason);
    message_take(m, &job->message, &in->message);
}

static int put(struct model *m, struct store_op *op) {
    struct model_key *k = op->key.n ? key_find(m, op) : NULL;
    if (k && (k->expires > op->job.created || mutant(m, MODEL_KEY_NEVER_EXPIRES))) {
        if (memcmp(k->hash, op->hash, STORE_HASH) != 0) return WEIR_ECONFLICT;
        op->found = true;
        op->ret_job.id = k->job;
        return 0;
    }
    if (find(m, op->job.id)) return WEIR_ECONFLICT;
    int r = body_check(m, &op->job.message.body);
    if (r != 0) return r;
    key_set(m, op);
    job_add(m, op);
    return 0;
}

/* ---- lease ---- */

static void lease(const struct model *m, struct store_op *op, struct store_job *job) {
    job->state = STORE_LEASED;
    if (!mutant(m, MODEL_FENCE_STAYS)) job->fence++;
    op->jobs[op->count++] = out_job(m, op, job, WITH_MESSAGE);
}

static bool in_line(const struct store_job *job, const struct store_line *line) {
    return job->state == STORE_QUEUED && job->run_at == 0 && job->priority == line->priority &&
           slice_eq(job->service, line->service) && slice_eq(job->tenant, line->tenant);
}

static int lease_line(struct model *m, struct store_op *op) {
    uint64_t bytes = 0;
    out_begin(m, op);
    for (size_t i = 0; i < m->job_count && !op->more; i++) {
        size_t at = mutant(m, MODEL_LEASE_NEWEST) ? m->job_count - 1 - i : i;
        struct store_job *job = &m->jobs[at].job;
        if (op->count == op->limit || !in_line(job, &op->line)) continue;
        bytes += job->message.body.bytes.n;
        op->more = op->count > 0 && op->most_bytes && bytes > op->most_bytes;
        if (!op->more) lease(m, op, job);
    }
    return 0;
}

/* Of the queued jobs that have a run_at, the one that comes first. */
static struct store_job *next_due(const struct model *m) {
    struct store_job *first = NULL;
    for (size_t i = 0; i < m->job_count; i++) {
        struct store_job *job = &m->jobs[i].job;
        if (job->state != STORE_QUEUED || job->run_at == 0) continue;
        if (!first || job->run_at < first->run_at) first = job;
    }
    return first;
}

static void count_in_line(struct store_op *op, const struct store_job *job) {
    for (size_t i = 0; i < op->count; i++) {
        if (!in_line(job, &op->lines[i])) continue;
        op->lines[i].count++;
        if (job->hop < op->lines[i].hop) op->lines[i].hop = job->hop;
        return;
    }
    op->lines[op->count++] = (struct store_line){.service = out_copy(op, job->service),
                                                 .tenant = out_copy(op, job->tenant),
                                                 .priority = job->priority,
                                                 .hop = job->hop,
                                                 .count = 1};
}

static int wake(struct model *m, struct store_op *op) {
    op->lines = out_alloc(op, m->job_count * sizeof *op->lines);
    struct store_job *job;
    size_t woken = 0;
    uint64_t early = mutant(m, MODEL_DUE_EARLY);
    while ((job = next_due(m)) && job->run_at <= op->now + early && woken < op->limit) {
        job->run_at = 0;
        count_in_line(op, job);
        woken++;
    }
    op->next = job ? job->run_at : 0;
    if (mutant(m, MODEL_NEXT_FORGOTTEN) && woken == op->limit) op->next = 0;
    return 0;
}

/* ---- what the holder of a lease does ---- */

static int held_job(const struct model *m, const struct store_op *op, struct model_job **ret) {
    struct model_job *j = find(m, op->job.id);
    if (!j) return WEIR_ENOTFOUND;
    if (ended(&j->job) && !mutant(m, MODEL_ENDS_TWICE)) return WEIR_ESTATE;
    bool its = j->job.state == STORE_LEASED && j->job.fence == op->job.fence;
    if (op->kind == STORE_JOB_FINISH && op->job.fence == 0) its = true;
    if (!its && !mutant(m, MODEL_FENCE_UNCHECKED)) return WEIR_EFENCE;
    *ret = j;
    return 0;
}

static int step(struct model *m, struct store_op *op) {
    const struct store_job *in = &op->job;
    struct model_job *j;
    int r = held_job(m, op, &j);
    if (r != 0) return r;
    bool same = in->message.body.blob && in->message.body.blob == j->job.message.body.blob;
    if (!same) r = body_check(m, &in->message.body);
    if (r != 0) return r;
    j->job.kind = in->kind;
    j->job.hop = in->hop;
    j->job.priority = in->priority;
    j->job.cost = in->cost;
    j->job.attempt = 0;
    own_set(&j->job.service, in->service);
    own_set(&j->job.gather, in->gather);
    if (same) body_let_go(m, &j->job.message.body);
    message_drop(m, &j->job.message);
    message_take(m, &j->job.message, &in->message);
    if (!mutant(m, MODEL_STEP_KEEPS_PARTS)) parts_drop(m, j);
    return 0;
}

static int release(struct model *m, struct store_op *op) {
    struct model_job *j;
    int r = held_job(m, op, &j);
    if (r != 0) return r;
    j->job.state = STORE_QUEUED;
    j->job.attempt = op->job.attempt;
    j->job.run_at = op->job.run_at;
    own_set(&j->job.reason, op->job.reason);
    return 0;
}

static int finish(struct model *m, struct store_op *op) {
    struct model_job *j;
    int r = held_job(m, op, &j);
    if (r == 0) r = body_check(m, &op->job.answer.body);
    if (r != 0) return r;
    op->ret_job = out_job(m, op, &j->job, 0);
    const struct store_job *in = &op->job;
    j->job.state = in->state;
    j->job.ended = in->ended;
    j->job.callback_attempt = 0;
    j->job.expires = in->expires;
    j->job.callback_at = in->callback_at;
    j->job.status = in->status;
    own_set(&j->job.reason, in->reason);
    message_drop(m, &j->job.answer);
    message_take(m, &j->job.answer, &in->answer);
    if (in->state != STORE_DEAD || mutant(m, MODEL_DEAD_LOSES_MESSAGE)) {
        message_drop(m, &j->job.message);
        parts_drop(m, j);
    }
    return 0;
}

static int part_put(struct model *m, struct store_op *op) {
    struct model_job *j;
    int r = held_job(m, op, &j);
    if (r != 0) return r;
    size_t at = 0;
    while (at < j->part_count && j->parts[at].index < op->part.index) at++;
    bool there = at < j->part_count && j->parts[at].index == op->part.index;
    if (there && !mutant(m, MODEL_PART_REPLACED)) {
        body_discard(m, &op->part.answer.body);
        return 0;
    }
    r = body_check(m, &op->part.answer.body);
    if (r != 0) return r;
    if (!there) MODEL_INSERT(j->parts, j->part_count, at);
    j->parts[at].index = op->part.index;
    j->parts[at].status = op->part.status;
    if (there) message_drop(m, &j->parts[at].answer);
    message_take(m, &j->parts[at].answer, &op->part.answer);
    return 0;
}

/* ---- others about one job ---- */

static int revive(struct model *m, struct store_op *op) {
    struct model_job *j = find(m, op->job.id);
    if (!j) return WEIR_ENOTFOUND;
    bool may = j->job.state == STORE_DEAD || (mutant(m, MODEL_REVIVE_ANYTHING) && ended(&j->job));
    if (!may) return WEIR_ESTATE;
    j->job.state = STORE_QUEUED;
    if (!mutant(m, MODEL_REVIVE_KEEPS_ATTEMPT)) j->job.attempt = 0;
    j->job.run_at = j->job.ended = j->job.expires = 0;
    j->job.status = 0;
    message_drop(m, &j->job.answer);
    op->ret_job = out_job(m, op, &j->job, 0);
    return 0;
}

static int get(struct model *m, struct store_op *op) {
    struct model_job *j = find(m, op->job.id);
    if (!j) return WEIR_ENOTFOUND;
    op->ret_job = out_job(m, op, &j->job, WITH_ANSWER);
    return 0;
}

static int part_list(struct model *m, struct store_op *op) {
    struct model_job *j = find(m, op->job.id);
    if (!j) return WEIR_ENOTFOUND;
    op->parts = out_alloc(op, j->part_count * sizeof *op->parts);
    for (size_t i = 0; i < j->part_count; i++) {
        op->parts[i] = j->parts[i];
        op->parts[i].answer = out_message(m, op, &j->parts[i].answer);
    }
    op->count = j->part_count;
    return 0;
}

/* ---- about many ---- */

static bool wanted(const struct model *m, const struct store_op *op, const struct store_job *job) {
    if ((op->states >> job->state & 1) == 0) return false;
    if (op->job.service.n && !slice_eq(op->job.service, job->service)) return false;
    if (op->kind == STORE_JOB_PURGE && mutant(m, MODEL_PURGE_ANY_TENANT)) return true;
    bool any = op->any_tenant && op->job.tenant.n == 0;
    return any || slice_eq(op->job.tenant, job->tenant);
}

static int list_jobs(struct model *m, struct store_op *op) {
    out_begin(m, op);
    for (size_t i = 0; i < m->job_count && op->count < op->limit; i++) {
        const struct store_job *job = &m->jobs[i].job;
        if (wanted(m, op, job) && store_id_compare(job->id, op->job.id) > 0)
            op->jobs[op->count++] = out_job(m, op, job, 0);
    }
    return 0;
}

static int purge(struct model *m, struct store_op *op) {
    for (size_t i = 0; i < m->job_count;) {
        struct model_job *j = &m->jobs[i];
        if (!ended(&j->job) || !wanted(m, op, &j->job) || j->job.ended > op->now) {
            i++;
        } else if (op->count == op->limit) {
            op->more = true;
            break;
        } else {
            job_drop(m, j);
            op->count++;
        }
    }
    return 0;
}

static int load(struct model *m, struct store_op *op) {
    op->lines = out_alloc(op, m->job_count * sizeof *op->lines);
    for (size_t i = 0; i < m->job_count; i++) {
        struct store_job *job = &m->jobs[i].job;
        if (job->state == STORE_LEASED && !mutant(m, MODEL_LOAD_KEEPS_LEASES)) job->state = STORE_QUEUED;
        if (job->state == STORE_QUEUED && job->run_at == 0) count_in_line(op, job);
    }
    for (size_t i = 0; i < op->count; i++) op->lines[i].hop = 0;
    const struct store_job *next = next_due(m);
    op->next = next ? next->run_at : 0;
    return 0;
}

/* ---- callbacks ---- */

/* The first to be told that comes after that one, in the order of times, then ids. NULL: the first of all. */
static const struct store_job *next_callback(const struct model *m, const struct store_job *after) {
    const struct store_job *first = NULL;
    for (size_t i = 0; i < m->job_count; i++) {
        const struct store_job *job = &m->jobs[i].job;
        if (!ended(job) || job->callback_at == 0) continue;
        bool later = !after || job->callback_at > after->callback_at ||
                     (job->callback_at == after->callback_at && store_id_compare(job->id, after->id) > 0);
        if (later && (!first || job->callback_at < first->callback_at)) first = job;
    }
    return first;
}

static int callback_due(struct model *m, struct store_op *op) {
    out_begin(m, op);
    const struct store_job *job = next_callback(m, NULL);
    for (; job && job->callback_at <= op->now && op->count < op->limit; job = next_callback(m, job))
        op->jobs[op->count++] = out_job(m, op, job, 0);
    op->next = job ? job->callback_at : 0;
    return 0;
}

static int callback_set(struct model *m, struct store_op *op) {
    struct model_job *j = find(m, op->job.id);
    if (!j || j->job.ended != op->job.ended) return WEIR_ENOTFOUND;
    j->job.callback_at = op->job.callback_at;
    j->job.callback_attempt = op->job.callback_attempt;
    return 0;
}

/* ---- retention ---- */

uint64_t model_sweep_jobs(struct model *m, const struct store_op *op, bool *more) {
    uint64_t count = 0;
    for (size_t i = 0; i < m->job_count;) {
        const struct store_job *job = &m->jobs[i].job;
        uint64_t expires = job->expires - (job->expires && mutant(m, MODEL_SWEEP_EARLY));
        if (!ended(job) || expires > op->now) {
            i++;
        } else if (count == op->limit) {
            *more = true;
            break;
        } else {
            job_drop(m, &m->jobs[i]);
            count++;
        }
    }
    return count;
}

uint64_t model_sweep_keys(struct model *m, const struct store_op *op, bool *more) {
    uint64_t count = 0;
    for (size_t i = 0; i < m->key_count;) {
        struct model_key *k = &m->keys[i];
        if (k->expires > op->now) {
            i++;
        } else if (count == op->limit) {
            *more = true;
            break;
        } else {
            own_free(&k->service);
            own_free(&k->tenant);
            own_free(&k->key);
            MODEL_REMOVE(m->keys, m->key_count, i);
            count++;
        }
    }
    return count;
}

/* ---- all of them ---- */

void model_jobs_free(struct model *m) {
    m->mutation = MODEL_RIGHT;
    while (m->job_count > 0) job_drop(m, &m->jobs[m->job_count - 1]);
    const struct store_op all = {.now = UINT64_MAX, .limit = SIZE_MAX};
    bool more;
    model_sweep_keys(m, &all, &more); /* those that a mutation has left */
    free(m->jobs);
    free(m->keys);
}

int model_job_apply(struct model *m, struct store_op *op) {
    static int (*const by_kind[])(struct model *, struct store_op *) = {
        [STORE_JOB_PUT] = put,
        [STORE_JOB_LEASE] = lease_line,
        [STORE_JOB_WAKE] = wake,
        [STORE_JOB_STEP] = step,
        [STORE_JOB_RELEASE] = release,
        [STORE_JOB_FINISH] = finish,
        [STORE_JOB_REVIVE] = revive,
        [STORE_JOB_GET] = get,
        [STORE_JOB_LIST] = list_jobs,
        [STORE_JOB_PURGE] = purge,
        [STORE_JOB_LOAD] = load,
        [STORE_PART_PUT] = part_put,
        [STORE_PART_LIST] = part_list,
        [STORE_CALLBACK_DUE] = callback_due,
        [STORE_CALLBACK_SET] = callback_set,
    };
    return by_kind[op->kind](m, op);
}
