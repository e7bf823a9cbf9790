/* SPDX-License-Identifier: Apache-2.0 */
#include "durable/scatter.h"
#include "base/assert.h"
#include "durable/outlet.h"
#include "weir/weir.h"
#include <stdlib.h>

enum { AT_ONCE = 4 }; /* each may be as large as max-gather */

/* ---- what is stored ---- */

struct scatter {
    struct held *held; /* NULL: freed while the operation is under way */
    struct store_op op;
    bool busy;
    struct buffer body;
    struct buffer *bodies; /* of parts whose answers are blobs */
    size_t at;             /* parts whose answers are there */
    struct body *reading;
    struct buffer *into;
};

static void destroy(struct scatter *s) {
    for (size_t i = 0; s->bodies && i < s->op.count; i++) buffer_fini(&s->bodies[i]);
    free(s->bodies);
    buffer_fini(&s->body);
    store_op_fini(&s->op);
    free(s);
}

static void read_next(struct scatter *s);

static void on_bytes(void *ctx, size_t n) {
    (void)n;
    struct scatter *s = ctx;
    struct slice bytes;
    int err = 0;
    while (err == 0 && (bytes = body_peek(s->reading)).n > 0) {
        err = buffer_append_slice(s->into, bytes);
        body_consume(s->reading, bytes.n);
    }
    if (err == 0) err = body_error(s->reading);
    if (err == 0 && !body_finished(s->reading)) return;
    body_leave(&s->reading);
    if (err != 0)
        held_scatter_read(s->held, err);
    else
        read_next(s);
}

static void read_into(struct scatter *s, const struct store_body *from, struct buffer *into) {
    const struct jobs_config *c = &s->held->jobs->config;
    s->into = into;
    int err = outlet_open(c->store, c->shard, from, &s->reading);
    if (err != 0) {
        held_scatter_read(s->held, err);
        return;
    }
    if (!s->reading) {
        read_next(s);
        return;
    }
    body_consumer(s->reading, (struct body_side){on_bytes, s});
    on_bytes(s, 0);
}

/* Answers in place are there already. */
static void read_next(struct scatter *s) {
    for (; s->at < s->op.count; s->at++) {
        struct store_body *b = &s->op.parts[s->at].answer.body;
        if (b->blob && buffer_size(&s->bodies[s->at]) == 0) {
            read_into(s, b, &s->bodies[s->at]);
            return;
        }
        if (b->blob) *b = (struct store_body){.bytes = buffer_slice(&s->bodies[s->at])};
    }
    held_scatter_read(s->held, 0);
}

static void on_parts(struct store_op *op) {
    struct scatter *s = CONTAINER_OF(op, struct scatter, op);
    s->busy = false;
    if (!s->held) {
        destroy(s);
        return;
    }
    int err = op->err;
    if (err == 0) s->bodies = calloc(op->count + 1, sizeof(*s->bodies));
    if (err == 0 && !s->bodies) err = WEIR_ENOMEM;
    if (err != 0)
        held_scatter_read(s->held, err);
    else
        read_into(s, &s->held->job.message.body, &s->body);
}

int scatter_new(struct held *h, struct scatter **ret) {
    if (h->jobs->scatters >= AT_ONCE) return WEIR_EFULL;
    struct scatter *s = calloc(1, sizeof(*s));
    if (!s) return WEIR_ENOMEM;
    s->held = h;
    h->jobs->scatters++;
    store_op_init(&s->op, STORE_PART_LIST, on_parts);
    s->op.shard = h->jobs->config.shard;
    s->op.job.id = h->job.id;
    s->busy = true;
    *ret = s;
    store_submit(h->jobs->config.store, &s->op);
    return 0;
}

void scatter_free(struct scatter **at) {
    struct scatter *s = *at;
    *at = NULL;
    if (!s) return;
    body_leave(&s->reading);
    s->held->jobs->scatters--;
    s->held = NULL;
    if (!s->busy) destroy(s);
}

struct buffer *scatter_body(struct scatter *s) {
    return &s->body;
}

const struct store_part *scatter_parts(const struct scatter *s, size_t *ret_count) {
    *ret_count = s->op.count;
    return s->op.parts;
}

/* ---- what parts answer ---- */

/* One answer on its way to the store. It is on its own: the job may be over before it has arrived. */
struct telling {
    struct jobs *jobs;
    struct store_op op;
    struct intake *intake;
    struct buffer fields;
    uint64_t request; /* that gathers: when it is over, so is the hop, and the next one's parts are others */
};

static void telling_free(struct telling *t) {
    intake_free(&t->intake);
    buffer_fini(&t->fields);
    t->jobs->under_way--;
    free(t);
}

static void on_dropped(struct store_op *op) {
    store_op_fini(op);
    telling_free(CONTAINER_OF(op, struct telling, op));
}

static void on_told(struct store_op *op) {
    struct telling *t = CONTAINER_OF(op, struct telling, op);
    uint64_t blob = op->err != 0 ? op->part.answer.body.blob : 0;
    store_op_fini(op);
    if (!blob) {
        telling_free(t);
        return;
    }
    store_op_init(op, STORE_BLOB_DROP, on_dropped);
    op->blob = blob;
    store_submit(t->jobs->config.store, op);
}

static void on_taken_in(void *ctx, int err) {
    struct telling *t = ctx;
    const struct held *h = jobs_held(t->jobs, t->op.job.id);
    if (err != 0 || !h || h->request != t->request) {
        telling_free(t);
        return;
    }
    t->op.part.answer = (struct store_message){buffer_slice(&t->fields), intake_take(t->intake)};
    store_submit(t->jobs->config.store, &t->op);
}

void scatter_part(struct held *h, const struct requester_part *part) {
    const struct jobs_config *c = &h->jobs->config;
    struct telling *t = calloc(1, sizeof(*t));
    if (!t) return;
    t->jobs = h->jobs;
    t->jobs->under_way++;
    struct body *body = body_whole(part->body, 0);
    if (!body || buffer_append_slice(&t->fields, part->fields) != 0) {
        telling_free(t);
        body_unref(body);
        return;
    }
    t->request = h->request;
    store_op_init(&t->op, STORE_PART_PUT, on_told);
    t->op.shard = c->shard;
    t->op.lazy = true;
    t->op.job.id = h->job.id;
    t->op.job.fence = h->job.fence;
    t->op.part = (struct store_part){.index = part->index, .status = part->status};
    struct intake_config in = {
        .store = c->store, .shard = c->shard, .max_bytes = UINT64_MAX, .done = on_taken_in, .ctx = t};
    int err = intake_new(&in, body, &t->intake);
    body_unref(body);
    if (err != 0) telling_free(t);
}
