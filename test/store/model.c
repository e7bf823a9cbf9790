/* SPDX-License-Identifier: Apache-2.0 */
/* The model as a store: what is under way, what fails, and what a crash leaves. */
#include "model.h"
#include "model_state.h"
#include <stdlib.h>

static struct model *model_of(const struct store *s) {
    return CONTAINER_OF(s, struct model, base);
}

static bool is_job_kind(enum store_kind kind) {
    return kind <= STORE_CALLBACK_SET;
}
static bool is_topic_kind(enum store_kind kind) {
    return kind >= STORE_TOPIC_SUBSCRIBE && kind <= STORE_TOPIC_LOAD;
}
static bool is_conf_kind(enum store_kind kind) {
    return kind == STORE_CONF_GET || kind == STORE_CONF_SET;
}

static int sweep(struct model *m, struct store_op *op) {
    op->count = model_sweep_jobs(m, op, &op->more);
    op->count += model_sweep_keys(m, op, &op->more);
    op->count += model_sweep_messages(m, op, &op->more);
    return 0;
}

static int apply(struct model *m, struct store_op *op) {
    if (m->failing > 0) {
        m->failing--;
        return m->error;
    }
    if (is_job_kind(op->kind)) return model_job_apply(m, op);
    if (is_topic_kind(op->kind)) return model_topic_apply(m, op);
    if (is_conf_kind(op->kind)) return model_conf_apply(m, op);
    if (op->kind == STORE_SWEEP) return sweep(m, op);
    return model_blob_apply(m, op);
}

/* ---- struct store_ops ---- */

static void submit(struct store *s, struct store_op *op) {
    list_push_back(&model_of(s)->under_way, &op->link);
}

static void complete(struct model *m, struct list *ops) {
    struct list *node;
    while ((node = list_pop_front(ops))) {
        struct store_op *op = CONTAINER_OF(node, struct store_op, link);
        op->err = apply(m, op);
        m->counted.operations++;
        m->counted.errors += op->err != 0;
        op->done(op);
    }
}

static void turn(struct store *s) {
    struct model *m = model_of(s);
    if (m->held) return;
    struct list ops;
    list_init(&ops);
    list_splice_back(&ops, &m->under_way);
    m->counted.commits += !list_empty(&ops);
    complete(m, &ops);
}

static uint64_t body_size(const struct model *m, const struct store_body *body) {
    return body->blob ? blob_find(m, body->blob)->bytes.n : body->bytes.n;
}

static void stats(struct store *s, struct store_stats *ret) {
    const struct model *m = model_of(s);
    *ret = m->counted;
    for (size_t i = 0; i < m->job_count; i++) ret->jobs[m->jobs[i].job.state]++;
    for (size_t t = 0; t < m->topic_count; t++) {
        ret->topics += m->topics[t].subscription_count > 0;
        ret->subscriptions += m->topics[t].subscription_count;
        ret->messages += m->topics[t].message_count;
        for (size_t i = 0; i < m->topics[t].message_count; i++)
            ret->message_bytes += body_size(m, &m->topics[t].messages[i].body);
    }
    ret->blobs = m->blob_count;
    for (size_t i = 0; i < m->blob_count; i++) ret->blob_bytes += m->blobs[i].bytes.n;
}

static void close_model(struct store *s) {
    struct model *m = model_of(s);
    while (!list_empty(&m->under_way)) {
        m->held = false;
        turn(s);
    }
    model_jobs_free(m);
    model_topics_free(m);
    for (size_t i = 0; i < m->blob_count; i++) own_free(&m->blobs[i].bytes);
    free(m->blobs);
    for (size_t i = 0; i < m->value_count; i++) {
        own_free(&m->values[i].key);
        own_free(&m->values[i].value);
    }
    free(m->values);
    free(m);
}

struct store *model_new_mutant(enum model_mutation mutation) {
    static const struct store_ops ops = {submit, turn, stats, close_model};
    struct model *m = model_alloc(NULL, sizeof *m);
    *m = (struct model){.base.ops = &ops, .mutation = mutation};
    list_init(&m->under_way);
    return &m->base;
}

struct store *model_new(void) {
    return model_new_mutant(MODEL_RIGHT);
}

/* ---- faults ---- */

void model_fail(struct store *s, int error, unsigned n) {
    model_of(s)->error = error;
    model_of(s)->failing = n;
}

void model_hold(struct store *s, bool hold) {
    model_of(s)->held = hold;
}

size_t model_under_way(const struct store *s) {
    size_t n = 0;
    LIST_FOR (node, &model_of(s)->under_way) n++;
    return n;
}

static uint64_t blob_of(const struct store_op *op) {
    if (op->kind == STORE_JOB_PUT || op->kind == STORE_JOB_STEP) return op->job.message.body.blob;
    if (op->kind == STORE_JOB_FINISH) return op->job.answer.body.blob;
    if (op->kind == STORE_PART_PUT) return op->part.answer.body.blob;
    if (op->kind == STORE_TOPIC_APPEND) return op->message.body.blob;
    return op->blob;
}

bool model_ordered(const struct store_op *a, const struct store_op *b) {
    if (blob_of(a) && blob_of(a) == blob_of(b)) return true;
    if (is_job_kind(a->kind) && is_job_kind(b->kind)) {
        bool keys = a->kind == STORE_JOB_PUT && b->kind == STORE_JOB_PUT && a->key.n;
        return store_id_compare(a->job.id, b->job.id) == 0 || (keys && slice_eq(a->key, b->key));
    }
    if (is_topic_kind(a->kind) && is_topic_kind(b->kind)) return slice_eq(a->topic, b->topic);
    return is_conf_kind(a->kind) && is_conf_kind(b->kind) && slice_eq(a->key, b->key);
}

static bool follows_any(const struct model *m, const struct list *ops, const struct store_op *op) {
    if (mutant(m, MODEL_CRASH_DISORDERED)) return false;
    for (const struct list *node = ops->next; node != ops; node = node->next)
        if (model_ordered(CONTAINER_OF(node, struct store_op, link), op)) return true;
    return false;
}

void model_crash(struct store *s, bool (*keep)(const struct store_op *op, void *ctx), void *ctx) {
    struct model *m = model_of(s);
    struct list forgotten, *node;
    list_init(&forgotten);
    while ((node = list_pop_front(&m->under_way))) {
        struct store_op *op = CONTAINER_OF(node, struct store_op, link);
        if (!follows_any(m, &forgotten, op) && keep(op, ctx))
            apply(m, op);
        else
            list_push_back(&forgotten, node);
    }
    while (list_pop_front(&forgotten)) {
    }
    if (mutant(m, MODEL_CRASH_LOSES_LAST)) model_topic_lose(m);
    blob_drop_loose(m);
    m->held = false;
    m->failing = 0;
}
