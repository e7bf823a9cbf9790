/* SPDX-License-Identifier: Apache-2.0 */
/* Requests, results and whole stores as text. What two stores say is compared as text, and shown as it is. */
#include "base/hash.h"
#include "world.h"
#include <inttypes.h>
#include <stdlib.h>

struct text {
    FILE *f;
    struct world *w;
    enum side side;
    bool deep; /* with the bytes of blobs */
    bool ids;  /* with ids that a store gave, as the model's */
};

static void put_bytes(FILE *f, struct slice s) {
    int shown = s.n < 24 ? (int)s.n : 24;
    fprintf(f, "%zu:%08" PRIx64 ":", s.n, hash_bytes(s, 0) >> 32);
    for (int i = 0; i < shown; i++) fputc(s.p[i] >= ' ' && s.p[i] <= '~' ? s.p[i] : '.', f);
}

static void put_id(FILE *f, struct store_id id) {
    char text[STORE_ID_TEXT];
    store_id_text(id, text);
    fprintf(f, "%.*s", STORE_ID_TEXT, text);
}

/* ---- bodies ---- */

static void put_blob_bytes(const struct text *t, uint64_t blob, uint64_t size) {
    uint64_t hash = 0, at = 0;
    const uint64_t portion = 50000 + size % 30011; /* the ends of reads fall anywhere */
    for (bool end = false; !end;) {
        struct store_op op;
        store_op_init(&op, STORE_BLOB_READ, NULL);
        op.blob = blob;
        op.after = at;
        op.limit = portion;
        int r = world_run(t->w, t->side, &op);
        if (r != 0) fprintf(t->f, " read:%s", weir_strerror(r));
        hash = hash_bytes(op.ret_bytes, hash);
        at += op.ret_bytes.n;
        end = r != 0 || op.ret_bytes.n < portion;
        store_op_fini(&op);
    }
    fprintf(t->f, " bytes %" PRIu64 ":%016" PRIx64, at, hash);
}

static void put_body(const struct text *t, const struct store_body *body) {
    if (body->blob == 0) {
        put_bytes(t->f, body->bytes);
        return;
    }
    uint64_t id = t->side == MODEL ? body->blob : pairs_model(&t->w->blobs, body->blob);
    if (t->ids) fprintf(t->f, "blob %" PRIu64, id);
    fprintf(t->f, " size %" PRIu64, body->size);
    if (body->bytes.n) fputs(" and bytes", t->f);
    if (t->deep) put_blob_bytes(t, body->blob, body->size);
}

static void put_message(const struct text *t, const char *name, const struct store_message *message) {
    fprintf(t->f, " %s{", name);
    put_bytes(t->f, message->head);
    fputs(" | ", t->f);
    put_body(t, &message->body);
    fputc('}', t->f);
}

/* ---- jobs ---- */

static void put_job(const struct text *t, const struct store_job *job) {
    fputs("  job ", t->f);
    put_id(t->f, job->id);
    fprintf(t->f, " %s kind %d %.*s/%.*s gather '%.*s' prio %u hop %u attempt %u cost %" PRIu64,
            store_job_state_text(job->state), (int)job->kind, SLICE_ARG(job->service), SLICE_ARG(job->tenant),
            SLICE_ARG(job->gather), job->priority, job->hop, job->attempt, job->cost);
    fprintf(t->f, " fence %" PRIu64 " created %" PRIu64 " run_at %" PRIu64 " deadline %" PRIu64, job->fence,
            job->created, job->run_at, job->deadline);
    fprintf(t->f, " ended %" PRIu64 " expires %" PRIu64 " callback '%.*s' at %" PRIu64 " attempt %u",
            job->ended, job->expires, SLICE_ARG(job->callback), job->callback_at, job->callback_attempt);
    fprintf(t->f, " reason '%.*s' status %u", SLICE_ARG(job->reason), job->status);
    put_message(t, "message", &job->message);
    put_message(t, "answer", &job->answer);
    fputc('\n', t->f);
}

static void put_jobs(const struct text *t, const struct store_op *op) {
    for (size_t i = 0; i < op->count; i++) put_job(t, &op->jobs[i]);
}

static void put_parts(const struct text *t, const struct store_op *op) {
    for (size_t i = 0; i < op->count; i++) {
        fprintf(t->f, "  part %u status %u", op->parts[i].index, op->parts[i].status);
        put_message(t, "answer", &op->parts[i].answer);
        fputc('\n', t->f);
    }
}

static int compare_lines(const void *a, const void *b) {
    const struct store_line *x = a, *y = b;
    if (x->priority != y->priority) return x->priority < y->priority ? -1 : 1;
    int r = x->service.n == y->service.n ? 0 : x->service.n < y->service.n ? -1 : 1;
    if (r == 0) r = memcmp(x->service.p, y->service.p, x->service.n);
    if (r == 0) r = (x->tenant.n > y->tenant.n) - (x->tenant.n < y->tenant.n);
    return r;
}

static void put_lines(const struct text *t, struct store_op *op) {
    if (op->count) qsort(op->lines, op->count, sizeof *op->lines, compare_lines);
    for (size_t i = 0; i < op->count; i++)
        fprintf(t->f, "  line %.*s/%.*s prio %u hop %u count %" PRIu64 "\n", SLICE_ARG(op->lines[i].service),
                SLICE_ARG(op->lines[i].tenant), op->lines[i].priority, op->lines[i].hop, op->lines[i].count);
}

/* ---- topics ---- */

/* How many messages that there have ever been in the topic stand up to id: what position and last mean. */
static uint64_t place(const struct text *t, struct slice topic, uint64_t id) {
    const struct pairs *p = &t->w->messages[world_topic(topic)];
    uint64_t n = 0;
    for (size_t i = 0; i < p->count; i++) n += (t->side == MODEL ? p->at[i].model : p->at[i].real) <= id;
    return n;
}

static void put_subscriptions(const struct text *t, const struct store_op *op) {
    for (size_t i = 0; i < op->count; i++) {
        const struct store_subscription *s = &op->subscriptions[i];
        fprintf(t->f, "  subscription %.*s/%.*s", SLICE_ARG(s->topic), SLICE_ARG(s->name));
        if (t->ids)
            fprintf(t->f, " position %" PRIu64 " last %" PRIu64, place(t, s->topic, s->position),
                    place(t, s->topic, s->last));
        fputc('\n', t->f);
    }
}

static void put_messages(const struct text *t, const struct store_op *op) {
    for (size_t i = 0; i < op->count; i++) {
        const struct store_topic_message *message = &op->messages[i];
        const struct pairs *p = &t->w->messages[world_topic(op->topic)];
        uint64_t id = t->side == MODEL ? message->id : pairs_model(p, message->id);
        fputs("  message", t->f);
        if (t->ids) fprintf(t->f, " %" PRIu64, id);
        fprintf(t->f, " at %" PRIu64 " type '%.*s' ", message->at, SLICE_ARG(message->type));
        put_body(t, &message->body);
        fputc('\n', t->f);
    }
}

static int compare_subscriptions(const void *a, const void *b) {
    const struct store_subscription *x = a, *y = b;
    size_t tx = world_topic(x->topic), ty = world_topic(y->topic);
    if (tx != ty) return tx < ty ? -1 : 1;
    int r = memcmp(x->name.p, y->name.p, x->name.n < y->name.n ? x->name.n : y->name.n);
    return r ? r : (x->name.n > y->name.n) - (x->name.n < y->name.n);
}

static void sort_subscriptions(struct store_op *op) {
    if (op->count) qsort(op->subscriptions, op->count, sizeof *op->subscriptions, compare_subscriptions);
}

/* ---- results ---- */

static void text_request(FILE *f, const struct store_op *op) {
    const struct store_job *job = &op->job;
    fprintf(f, "%s", store_kind_text(op->kind));
    if (op->kind <= STORE_CALLBACK_SET) {
        fputc(' ', f);
        put_id(f, job->id);
        fprintf(f, " fence %" PRIu64 " %.*s/%.*s", job->fence, SLICE_ARG(job->service),
                SLICE_ARG(job->tenant));
        fprintf(f, " line %.*s/%.*s %u", SLICE_ARG(op->line.service), SLICE_ARG(op->line.tenant),
                op->line.priority);
        fprintf(f, " state %d states %x lease %d part %u", (int)job->state, op->states, op->lease,
                op->part.index);
        fprintf(f,
                " created %" PRIu64 " run_at %" PRIu64 " ended %" PRIu64 " expires %" PRIu64
                " callback_at %" PRIu64,
                job->created, job->run_at, job->ended, job->expires, job->callback_at);
    }
    if (op->topic.n)
        fprintf(f, " %.*s/%.*s id %" PRIu64 "%s%s", SLICE_ARG(op->topic), SLICE_ARG(op->name), op->message_id,
                op->up_to ? " up to" : "", op->take ? " take" : "");
    if (op->key.n) fprintf(f, " key %.*s expires %" PRIu64, SLICE_ARG(op->key), op->key_expires);
    fprintf(f, " revision %" PRIu64 " blob %" PRIu64 " body blob %" PRIu64, op->revision, op->blob,
            job->message.body.blob + job->answer.body.blob + op->message.body.blob +
                op->part.answer.body.blob);
    fprintf(f, " now %" PRIu64 " after %" PRIu64 " limit %zu bytes %" PRIu64 "+%zu age %" PRIu64 "\n",
            op->now, op->after, op->limit, op->most_bytes, op->bytes.n, op->message_age);
}

static void put_value(const struct text *t, const struct store_op *op) {
    uint64_t revision = op->revision;
    if (t->side == REAL) revision = pairs_model(&t->w->revisions[world_value(op->key)], revision);
    if (t->ids) fprintf(t->f, "  revision %" PRIu64, revision);
    if (op->kind == STORE_CONF_GET) put_bytes(t->f, op->ret_value);
    fputc('\n', t->f);
}

static void put_job_put(const struct text *t, const struct store_op *op) {
    fprintf(t->f, "  found %d", op->found);
    if (op->found) put_id(t->f, op->ret_job.id);
    fputc('\n', t->f);
}

static void put_results(const struct text *t, struct store_op *op) {
    switch (op->kind) {
    case STORE_JOB_PUT:
        put_job_put(t, op);
        break;
    case STORE_JOB_LEASE:
        fprintf(t->f, "  more %d\n", op->more);
        put_jobs(t, op);
        break;
    case STORE_JOB_LIST:
        put_jobs(t, op);
        break;
    case STORE_CALLBACK_DUE:
        put_jobs(t, op);
        fprintf(t->f, "  next %" PRIu64 "\n", op->next);
        break;
    case STORE_JOB_FINISH:
    case STORE_JOB_REVIVE:
    case STORE_JOB_GET:
        put_job(t, &op->ret_job);
        break;
    case STORE_JOB_PURGE:
        fprintf(t->f, "  count %zu more %d\n", op->count, op->more);
        break;
    case STORE_JOB_WAKE:
    case STORE_JOB_LOAD:
        put_lines(t, op);
        fprintf(t->f, "  next %" PRIu64 "\n", op->next);
        break;
    case STORE_PART_LIST:
        put_parts(t, op);
        break;
    case STORE_TOPIC_SUBSCRIBE:
        fprintf(t->f, "  found %d\n", op->found);
        put_subscriptions(t, op);
        break;
    case STORE_TOPIC_APPEND:
        fprintf(t->f, "  place %" PRIu64 " of %zu\n",
                t->ids && op->message_id ? place(t, op->topic, op->message_id) : 0, op->count);
        break;
    case STORE_TOPIC_READ:
        put_messages(t, op);
        break;
    case STORE_TOPIC_ACK:
        if (t->ids) fprintf(t->f, "  position %" PRIu64 "\n", place(t, op->topic, op->position));
        break;
    case STORE_TOPIC_LOAD:
        sort_subscriptions(op);
        put_subscriptions(t, op);
        break;
    case STORE_CONF_GET:
    case STORE_CONF_SET:
        put_value(t, op);
        break;
    case STORE_BLOB_READ:
        put_bytes(t->f, op->ret_bytes);
        fputc('\n', t->f);
        break;
    default:
        break;
    }
}

static void put_op(const struct text *t, struct store_op *op) {
    fprintf(t->f, "%s: %s\n", store_kind_text(op->kind), op->err ? weir_strerror(op->err) : "ok");
    if (op->err == 0) put_results(t, op);
}

/* ---- a whole store ---- */

static void ask(const struct text *t, struct store_op *op) {
    world_run(t->w, t->side, op);
    put_op(t, op);
}

static void dump_job(const struct text *t, struct store_id id) {
    static const enum store_kind kinds[] = {STORE_JOB_GET, STORE_PART_LIST};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct store_op op;
        store_op_init(&op, kinds[i], NULL);
        op.job.id = id;
        ask(t, &op);
        store_op_fini(&op);
    }
}

static void dump_jobs(const struct text *t) {
    struct store_id after = {0};
    for (bool end = false; !end;) {
        struct store_op op;
        store_op_init(&op, STORE_JOB_LIST, NULL);
        op.states = (1u << STORE_STATES) - 1;
        op.any_tenant = true;
        op.job.id = after;
        op.limit = 7;
        ask(t, &op);
        for (size_t i = 0; op.err == 0 && i < op.count; i++) dump_job(t, after = op.jobs[i].id);
        end = op.err != 0 || op.count < op.limit;
        store_op_fini(&op);
    }
}

/* In portions; what comes must stand behind the position and up to the last. */
static void dump_subscription(const struct text *t, const struct store_subscription *s) {
    uint64_t after = 0;
    for (bool end = false; !end;) {
        struct store_op op;
        store_op_init(&op, STORE_TOPIC_READ, NULL);
        op.topic = s->topic;
        op.name = s->name;
        op.after = after;
        op.limit = 5;
        op.most_bytes = 100000;
        ask(t, &op);
        end = op.err != 0 || op.count == 0;
        for (size_t i = 0; op.err == 0 && i < op.count; i++) {
            uint64_t id = op.messages[i].id;
            if (id <= after || id <= s->position || id > s->last) fputs("  that is out of order\n", t->f);
            after = id;
        }
        store_op_fini(&op);
    }
}

static void dump_topics(const struct text *t) {
    struct store_op op;
    store_op_init(&op, STORE_TOPIC_LOAD, NULL);
    ask(t, &op);
    for (size_t i = 0; op.err == 0 && i < op.count; i++) dump_subscription(t, &op.subscriptions[i]);
    store_op_fini(&op);
}

static void dump_others(const struct text *t) {
    for (size_t i = 0; i < VALUES; i++) {
        struct store_op op;
        store_op_init(&op, STORE_CONF_GET, NULL);
        op.key = world_values[i];
        ask(t, &op);
        store_op_fini(&op);
    }
    struct store_op op;
    store_op_init(&op, STORE_CALLBACK_DUE, NULL);
    op.now = t->w->clock;
    op.limit = ALL;
    ask(t, &op);
    store_op_fini(&op);
}

static void dump_stats(const struct text *t) {
    struct store_stats stats;
    store_stats(t->w->store[t->side], &stats);
    fputs("stats:", t->f);
    for (size_t i = 0; i < STORE_STATES; i++) fprintf(t->f, " %" PRIu64, stats.jobs[i]);
    fprintf(t->f, " topics %" PRIu64 " subscriptions %" PRIu64 " messages %" PRIu64 "+%" PRIu64, stats.topics,
            stats.subscriptions, stats.messages, stats.message_bytes);
    fprintf(t->f, " blobs %" PRIu64 "+%" PRIu64 "\n", stats.blobs, stats.blob_bytes);
}

/* Dead ones are revived, delayed ones woken, then all are leased: there is no other way to a message. */
static void dump_messages(const struct text *t) {
    struct store_op dead, op;
    store_op_init(&dead, STORE_JOB_LIST, NULL);
    dead.states = 1u << STORE_DEAD;
    dead.any_tenant = true;
    dead.limit = ALL;
    ask(t, &dead);
    for (size_t i = 0; dead.err == 0 && i < dead.count; i++) {
        store_op_init(&op, STORE_JOB_REVIVE, NULL);
        op.job.id = dead.jobs[i].id;
        ask(t, &op);
        store_op_fini(&op);
    }
    store_op_fini(&dead);
    store_op_init(&op, STORE_JOB_WAKE, NULL);
    op.now = t->w->clock + 1000000;
    op.limit = ALL;
    ask(t, &op);
    store_op_fini(&op);
    for (unsigned i = 0; i < SERVICES * TENANTS * 2; i++) {
        store_op_init(&op, STORE_JOB_LEASE, NULL);
        op.line.service = world_services[i % SERVICES];
        op.line.tenant = world_tenants[i / SERVICES % TENANTS];
        op.line.priority = i / SERVICES / TENANTS;
        op.limit = ALL;
        ask(t, &op);
        store_op_fini(&op);
    }
}

/* ---- as strings ---- */

static FILE *text_open(char **ret, size_t *size) {
    FILE *f = open_memstream(ret, size);
    if (!f) abort();
    return f;
}

char *text_of_result(struct world *w, enum side side, struct store_op *op, bool deep) {
    char *text;
    size_t size;
    FILE *f = text_open(&text, &size);
    const struct text t = {.f = f, .w = w, .side = side, .deep = deep, .ids = true};
    put_op(&t, op);
    fclose(f);
    return text;
}

char *text_of_dump(struct world *w, enum side side, bool whole) {
    char *text;
    size_t size;
    FILE *f = text_open(&text, &size);
    const struct text t = {.f = f, .w = w, .side = side, .deep = true};
    dump_jobs(&t);
    dump_topics(&t);
    dump_others(&t);
    dump_stats(&t);
    if (whole) dump_messages(&t);
    fclose(f);
    return text;
}

enum { SHOWN = 4 }; /* lines that differ */

char *text_difference(const char *model, const char *real) {
    char *text;
    size_t size, shown = 0;
    FILE *f = text_open(&text, &size);
    const char *before = NULL;
    while ((*model || *real) && shown < SHOWN) {
        size_t m = strcspn(model, "\n"), r = strcspn(real, "\n");
        bool same = m == r && memcmp(model, real, m) == 0;
        if (!same && shown == 0 && before) fprintf(f, "  both:    %.*s\n", (int)(model - before), before);
        if (!same) fprintf(f, "  model:   %.*s\n  subject: %.*s\n", (int)m, model, (int)r, real);
        shown += !same;
        before = model;
        model += m + (model[m] == '\n');
        real += r + (real[r] == '\n');
    }
    fclose(f);
    return text;
}

char *text_of_request(const struct store_op *op) {
    char *text;
    size_t size;
    FILE *f = text_open(&text, &size);
    text_request(f, op);
    fclose(f);
    return text;
}
