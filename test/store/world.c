/* SPDX-License-Identifier: Apache-2.0 */
/* Running operations on the model and on the subject, pairing what they call things, comparing what they say.
   One thread; the subject's own threads only post wake. */
#include "world.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

enum { STUCK_SECONDS = 20 };

/* ---- pairs ---- */

static void pairs_add(struct pairs *p, uint64_t model, uint64_t real) {
    p->at = realloc(p->at, (p->count + 1) * sizeof *p->at);
    if (!p->at) abort();
    p->at[p->count++] = (struct pair){model, real};
}

/* What is in no pair is nobody's id, and is so on both sides. */
uint64_t pairs_real(const struct pairs *p, uint64_t model) {
    for (size_t i = p->count; i-- > 0;)
        if (p->at[i].model == model) return p->at[i].real;
    return model;
}

uint64_t pairs_model(const struct pairs *p, uint64_t real) {
    for (size_t i = p->count; i-- > 0;)
        if (p->at[i].real == real) return p->at[i].model;
    return UINT64_MAX;
}

/* ---- failing ---- */

bool world_fail(struct world *w, const char *format, ...) {
    if (w->failure) return false;
    va_list args;
    va_start(args, format);
    char *text;
    if (vasprintf(&text, format, args) < 0) abort();
    va_end(args);
    if (asprintf(&w->failure, "seed %" PRIu64 ", batch %" PRIu64 ": %s", w->seed, w->batches, text) < 0)
        abort();
    free(text);
    return false;
}

static void stuck(struct world *w, const struct store_op *op) {
    fprintf(stderr, "seed %" PRIu64 ", batch %" PRIu64 ": no completion for %d s: ", w->seed, w->batches,
            STUCK_SECONDS);
    fputs(text_of_request(op), stderr);
    abort(); /* its operations point into this stack */
}

static void differ(struct world *w, const char *what, const char *model, const char *real) {
    char *text = text_difference(model, real);
    world_fail(w, "%s\n%s", what, text);
    free(text);
}

/* ---- one operation, waited for ---- */

static void wait_for_subject(struct world *w, const struct store_op *op) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += STUCK_SECONDS;
    if (sem_timedwait(&w->wake, &until) != 0) stuck(w, op);
}

static void run_done(struct store_op *op) {
    op->done = NULL;
}

int world_run(struct world *w, enum side side, struct store_op *op) {
    op->done = run_done;
    store_submit(w->store[side], op);
    for (;;) {
        store_turn(w->store[side]);
        if (!op->done) return op->err;
        wait_for_subject(w, op);
    }
}

/* ---- batches ---- */

static void step_done(struct step *step, enum side side) {
    struct world *w = step->w;
    if (w->submitting) world_fail(w, "done was called from within store_submit");
    if (step->done[side]) world_fail(w, "done was called twice");
    if (!pthread_equal(w->thread, pthread_self())) world_fail(w, "done was called on another thread");
    step->done[side] = true;
    if (side == REAL && w->report) w->report(w, step);
}

static void model_done(struct store_op *op) {
    step_done(CONTAINER_OF(op, struct step, op[MODEL]), MODEL);
}

static void real_done(struct store_op *op) {
    step_done(CONTAINER_OF(op, struct step, op[REAL]), REAL);
}

static void translate_body(const struct world *w, struct store_body *body) {
    if (body->blob) body->blob = pairs_real(&w->blobs, body->blob);
}

/* The same operation with the subject's ids. */
static void translate(struct world *w, struct step *step) {
    struct store_op *op = &step->op[REAL];
    *op = step->op[MODEL];
    op->done = real_done;
    list_init(&op->link);
    arena_init(&op->memory, 0, NULL, 0);
    translate_body(w, &op->job.message.body);
    translate_body(w, &op->job.answer.body);
    translate_body(w, &op->part.answer.body);
    translate_body(w, &op->message.body);
    if (op->blob) op->blob = pairs_real(&w->blobs, op->blob);
    if (op->kind == STORE_TOPIC_ACK || op->kind == STORE_TOPIC_READ) {
        const struct pairs *p = &w->messages[world_topic(op->topic)];
        op->message_id = pairs_real(p, op->message_id);
        if (op->after) op->after = pairs_real(p, op->after);
    }
    if (op->kind == STORE_CONF_SET && op->revision)
        op->revision = pairs_real(&w->revisions[world_value(op->key)], op->revision);
}

void world_submit(struct world *w, struct batch *b) {
    for (size_t i = 0; i < b->count; i++) translate(w, &b->steps[i]);
    w->submitting = true;
    for (size_t i = 0; i < b->count; i++) store_submit(w->store[REAL], &b->steps[i].op[REAL]);
    w->submitting = false;
}

static void run_model(struct world *w, struct batch *b) {
    for (size_t i = 0; i < b->count; i++) {
        b->steps[i].op[MODEL].done = model_done;
        store_submit(w->store[MODEL], &b->steps[i].op[MODEL]);
    }
    store_turn(w->store[MODEL]);
}

static void wait_for_batch(struct world *w, struct batch *b) {
    for (size_t i = 0; i < b->count;) {
        store_turn(w->store[REAL]);
        while (i < b->count && b->steps[i].done[REAL]) i++;
        if (i < b->count) wait_for_subject(w, &b->steps[i].op[REAL]);
    }
}

/* ---- what is known of ids and blobs after an operation ---- */

static struct blob *loose_find(const struct world *w, uint64_t id) {
    for (size_t i = 0; i < w->loose_count; i++)
        if (w->loose[i].id == id) return &w->loose[i];
    return NULL;
}

static void loose_add(struct world *w, uint64_t id) {
    w->loose = realloc(w->loose, (w->loose_count + 1) * sizeof *w->loose);
    if (!w->loose) abort();
    w->loose[w->loose_count++] = (struct blob){.id = id};
}

static void loose_remove(struct world *w, uint64_t id) {
    struct blob *b = loose_find(w, id);
    if (b) *b = w->loose[--w->loose_count];
}

static void blob_is_taken(struct world *w, uint64_t id) {
    if (id == 0) return;
    loose_remove(w, id);
    w->taken[w->taken_count++ % TAKEN] = id;
}

static void learn_blob(struct world *w, const struct store_op *op) {
    struct blob *b = loose_find(w, op->blob);
    if (op->kind == STORE_BLOB_NEW) loose_add(w, op->blob);
    if (op->kind == STORE_BLOB_DROP) loose_remove(w, op->blob);
    if (b && op->kind == STORE_BLOB_WRITE) b->size += op->bytes.n;
    if (b && op->kind == STORE_BLOB_CLOSE) b->closed = true;
    if (op->found) return; /* a blob is still the caller's */
    blob_is_taken(w, op->job.message.body.blob);
    blob_is_taken(w, op->job.answer.body.blob);
    blob_is_taken(w, op->part.answer.body.blob);
    blob_is_taken(w, op->message.body.blob);
}

static void learn_carried(struct world *w, const struct store_op *op) {
    if (op->kind != STORE_JOB_LEASE) return;
    for (size_t i = 0; i < op->count; i++) {
        const struct store_body *body = &op->jobs[i].message.body;
        if (body->blob == 0) continue;
        w->carried[w->carried_count++ % CARRIED] = (struct carried){op->jobs[i].id, body->blob, body->size};
    }
}

/* Ids of those that a start has dropped may come again. */
static bool held_by_caller(const struct world *w, uint64_t real) {
    for (size_t i = 0; i < w->loose_count; i++)
        if (pairs_real(&w->blobs, w->loose[i].id) == real) return true;
    return false;
}

static void learn_message(struct world *w, const struct store_op *model, uint64_t real) {
    if (model->message_id == 0 || real == 0) return; /* said so by the results */
    struct pairs *p = &w->messages[world_topic(model->topic)];
    for (size_t i = 0; i < p->count; i++)
        if (p->at[i].real >= real) world_fail(w, "message id %" PRIu64 " does not grow", real);
    pairs_add(p, model->message_id, real);
}

static void learn(struct world *w, struct step *step) {
    const struct store_op *model = &step->op[MODEL], *real = &step->op[REAL];
    if (model->err != 0) return;
    if (model->kind == STORE_BLOB_NEW && real->err == 0) {
        if (real->blob == 0 || held_by_caller(w, real->blob))
            world_fail(w, "blob id %" PRIu64 " is not new", real->blob);
        pairs_add(&w->blobs, model->blob, real->blob);
    }
    learn_blob(w, model);
    learn_carried(w, model);
    if (real->err != 0) return;
    if (model->kind == STORE_TOPIC_APPEND) learn_message(w, model, real->message_id);
    if (model->kind == STORE_CONF_SET) {
        struct pairs *p = &w->revisions[world_value(model->key)];
        if (real->revision == 0 || pairs_model(p, real->revision) != UINT64_MAX)
            world_fail(w, "revision %" PRIu64 " is not new", real->revision);
        pairs_add(p, model->revision, real->revision);
    }
}

/* ---- comparing ---- */

static bool compare_step(struct world *w, struct step *step, bool deep) {
    char *model = text_of_result(w, MODEL, &step->op[MODEL], deep);
    char *real = text_of_result(w, REAL, &step->op[REAL], deep);
    if (w->verbose) {
        char *request = text_of_request(&step->op[MODEL]);
        fprintf(stderr, "[%" PRIu64 "] %s%s", w->batches, request, model);
        free(request);
    }
    bool same = strcmp(model, real) == 0;
    if (!same) {
        char *what = text_of_request(&step->op[MODEL]);
        differ(w, what, model, real);
        free(what);
    }
    free(model);
    free(real);
    return same;
}

static size_t drop_rest(struct world *w, enum side side, const struct store_op *like) {
    size_t dropped = 0;
    for (bool more = true; more;) {
        struct store_op op = *like;
        list_init(&op.link);
        arena_init(&op.memory, 0, NULL, 0);
        op.count = 0;
        op.more = false;
        int r = world_run(w, side, &op);
        if (r != 0) world_fail(w, "dropping the rest: %s", weir_strerror(r));
        if (r == 0 && op.more && op.count == 0) world_fail(w, "more, but nothing was dropped");
        dropped += op.count;
        more = op.more && !w->failure;
        store_op_fini(&op);
    }
    return dropped;
}

/* A sweep may say more than is there, as keys may go with their jobs or by themselves, but not less: a second
   one finds nothing. */
static void check_sweep(struct world *w, const struct step *step) {
    const struct store_op *op = &step->op[REAL];
    if (op->kind != STORE_SWEEP || op->err != 0 || op->more || op->limit == 0) return;
    size_t left = drop_rest(w, REAL, op);
    if (left > 0) world_fail(w, "a sweep with limit %zu leaves %zu, but does not say so", op->limit, left);
}

/* Which ones go first when a limit is reached is the store's choice: both go on until none is left. */
static void drop_all(struct world *w, const struct step *step) {
    const struct store_op *op = &step->op[MODEL];
    check_sweep(w, step);
    bool drops = op->kind == STORE_JOB_PURGE || op->kind == STORE_SWEEP;
    if (!drops || op->limit == 0 || op->err != 0 || step->op[REAL].err != 0) return;
    if (!op->more && !step->op[REAL].more) return;
    size_t model = drop_rest(w, MODEL, op), real = drop_rest(w, REAL, &step->op[REAL]);
    if (op->kind == STORE_JOB_PURGE && model != real)
        world_fail(w, "a purge dropped %zu more in the model, %zu in the subject", model, real);
}

static bool compare_batch(struct world *w, struct batch *b, bool open) {
    w->operations += b->count;
    for (size_t i = 0; i < b->count; i++) learn(w, &b->steps[i]);
    for (size_t i = 0; i < b->count && !w->failure; i++) {
        const struct store_op *op = &b->steps[i].op[MODEL];
        bool deep = b->count == 1 || op->kind == STORE_JOB_LEASE;
        compare_step(w, &b->steps[i], deep && open && !op->take);
    }
    for (size_t i = 0; i < b->count && !w->failure && open; i++) drop_all(w, &b->steps[i]);
    return !w->failure;
}

bool world_batch(struct world *w, struct batch *b) {
    world_submit(w, b);
    run_model(w, b);
    wait_for_batch(w, b);
    return compare_batch(w, b, true);
}

bool world_batch_close(struct world *w, struct batch *b) {
    world_submit(w, b);
    run_model(w, b);
    w->subject->close(w);
    for (size_t i = 0; i < b->count; i++)
        if (!b->steps[i].done[REAL]) return world_fail(w, "store_close has not completed what was under way");
    if (!compare_batch(w, b, false)) return false;
    model_crash(w->store[MODEL], NULL, NULL);
    w->store[REAL] = w->subject->open(w);
    bool ok = w->store[REAL] && world_started(w);
    for (size_t i = 0; i < b->count && ok; i++) drop_all(w, &b->steps[i]);
    return ok && !w->failure;
}

bool world_replay(struct world *w, struct batch *b, unsigned mask, unsigned known) {
    for (size_t i = 0; i < b->count; i++) {
        struct step *step = &b->steps[i];
        if ((mask >> i & 1) == 0) continue;
        step->op[MODEL].done = model_done;
        store_submit(w->store[MODEL], &step->op[MODEL]);
        store_turn(w->store[MODEL]);
        if ((known >> i & 1) == 0) continue;
        learn(w, step);
        int model = step->op[MODEL].err, real = step->op[REAL].err;
        if (model != real)
            world_fail(w, "%s: the model says %s, the subject said %s", store_kind_text(step->op[MODEL].kind),
                       weir_strerror(model), weir_strerror(real));
    }
    w->operations += b->count;
    return !w->failure;
}

void world_restart_model(struct world *w) {
    struct store_op load;
    model_crash(w->store[MODEL], NULL, NULL);
    store_op_init(&load, STORE_JOB_LOAD, NULL);
    world_run(w, MODEL, &load);
    store_op_fini(&load);
    world_forget(w);
}

static bool compare_dumps(struct world *w, bool whole) {
    char *model = text_of_dump(w, MODEL, whole), *real = text_of_dump(w, REAL, whole);
    bool same = strcmp(model, real) == 0;
    if (!same) differ(w, "all that can be read", model, real);
    free(model);
    free(real);
    return same;
}

bool world_compare(struct world *w) {
    return compare_dumps(w, false);
}

bool world_compare_whole(struct world *w) {
    return compare_dumps(w, true);
}

/* ---- starting ---- */

/* Ids of blobs that nothing referred to may come again. */
void world_forget(struct world *w) {
    w->loose_count = 0;
    memset(w->taken, 0, sizeof w->taken);
}

bool world_started(struct world *w) {
    struct step load = {.w = w};
    for (int side = MODEL; side <= REAL; side++) {
        store_op_init(&load.op[side], STORE_JOB_LOAD, NULL);
        world_run(w, side, &load.op[side]);
    }
    world_forget(w);
    bool same = compare_step(w, &load, true);
    store_op_fini(&load.op[MODEL]);
    store_op_fini(&load.op[REAL]);
    return same;
}

static void resync_subscription(struct world *w, const struct store_subscription *s) {
    struct store_op op[2];
    struct pairs *p = &w->messages[world_topic(s->topic)];
    for (int side = MODEL; side <= REAL; side++) {
        store_op_init(&op[side], STORE_TOPIC_READ, NULL);
        op[side].topic = s->topic;
        op[side].name = s->name;
        op[side].limit = ALL;
        op[side].most_bytes = UINT32_MAX;
        world_run(w, side, &op[side]);
    }
    for (size_t i = 0; i < op[MODEL].count && i < op[REAL].count; i++)
        if (pairs_model(p, op[REAL].messages[i].id) == UINT64_MAX)
            pairs_add(p, op[MODEL].messages[i].id, op[REAL].messages[i].id);
    store_op_fini(&op[MODEL]);
    store_op_fini(&op[REAL]);
}

static void resync_value(struct world *w, size_t value) {
    struct store_op op[2];
    for (int side = MODEL; side <= REAL; side++) {
        store_op_init(&op[side], STORE_CONF_GET, NULL);
        op[side].key = world_values[value];
        world_run(w, side, &op[side]);
    }
    if (op[MODEL].err == 0 && op[REAL].err == 0 &&
        pairs_model(&w->revisions[value], op[REAL].revision) == UINT64_MAX)
        pairs_add(&w->revisions[value], op[MODEL].revision, op[REAL].revision);
    store_op_fini(&op[MODEL]);
    store_op_fini(&op[REAL]);
}

void world_resync(struct world *w) {
    struct store_op op;
    store_op_init(&op, STORE_TOPIC_LOAD, NULL);
    world_run(w, MODEL, &op);
    for (size_t i = 0; i < op.count; i++) resync_subscription(w, &op.subscriptions[i]);
    store_op_fini(&op);
    for (size_t i = 0; i < VALUES; i++) resync_value(w, i);
}

/* ---- the world ---- */

void world_init(struct world *w, const struct subject *subject, uint64_t seed) {
    *w = (struct world){.subject = subject, .seed = seed, .clock = 1000, .next_id = 1};
    w->thread = pthread_self();
    random_seed(&w->random, seed);
    sem_init(&w->wake, 0, 0);
    store_op_init(&w->snapshot, STORE_JOB_LIST, NULL);
    w->store[MODEL] = model_new();
}

bool world_open(struct world *w) {
    w->store[REAL] = w->subject->open(w);
    return w->store[REAL] && world_started(w);
}

void world_fini(struct world *w) {
    store_close(&w->store[MODEL]);
    store_close(&w->store[REAL]);
    store_close(&w->kept);
    store_op_fini(&w->snapshot);
    sem_destroy(&w->wake);
    free(w->blobs.at);
    free(w->loose);
    free(w->failure);
    for (size_t i = 0; i < TOPICS; i++) free(w->messages[i].at);
    for (size_t i = 0; i < VALUES; i++) free(w->revisions[i].at);
}
