/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random operations, valid ones and wrong ones, over few names and near times, so that all meet often. What
 * is in one batch is under way at once: it may be about the same job, topic or blob (in order, as store.h
 * promises), but nothing in it depends on an order that is not promised.
 */
#include "world.h"
#include <stdlib.h>

const struct slice world_services[SERVICES] = {{"a", 1}, {"ab", 2}, {"resize", 6}};
const struct slice world_tenants[TENANTS] = {{"", 0}, {"acme", 4}};
const struct slice world_keys[KEYS] = {{"k", 1}, {"a key", 5}, {"k2", 2}};
const struct slice world_topics[TOPICS] = {{"t", 1}, {"news", 4}, {"T", 1}, {"a/b%\xc3\xa9", 6}};
const struct slice world_names[NAMES] = {{"s", 1}, {"bob", 3}, {"S", 1}, {"x y", 3}};
const struct slice world_values[VALUES] = {{"ring", 4}, {"members/1", 9}, {"e", 1}};

enum { NEAR = 40, UNKNOWN_HI = 7, BIG_BODY = 65000, BIG_WRITE = 200000, CROWD = 30 };
static const uint64_t unknown_id = (uint64_t)1 << 40;

/* What an operation touches. */
enum scope { ONE_JOB, ALL_JOBS, ONE_TOPIC, ALL_TOPICS, ONE_VALUE, ONE_BLOB, ALL_THINGS };

struct making {
    struct world *w;
    struct batch *b;
    struct store_op *op;
    struct store_id put;   /* by this batch */
    unsigned keys, values; /* used in this batch */
};

/* ---- dice ---- */

static uint64_t below(struct making *m, uint64_t n) {
    return random_below(&m->w->random, n);
}
static bool one_in(struct making *m, uint64_t n) {
    return below(m, n) == 0;
}
static struct slice any_of(struct making *m, const struct slice *list, size_t n) {
    return list[below(m, n)];
}
static uint64_t soon(struct making *m) {
    return m->w->clock + below(m, NEAR);
}
static size_t a_limit(struct making *m) {
    static const size_t limits[] = {0, 1, 1, 2, 2, 5, ALL};
    return limits[below(m, sizeof limits / sizeof *limits)];
}

static struct slice some_bytes(struct making *m, size_t n) {
    char *p = arena_bytes(&m->b->memory, n + 1);
    if (!p) abort();
    uint64_t x = ++m->w->next_body * 0x9e3779b97f4a7c15;
    for (size_t i = 0; i < n; i++) {
        x = x * 6364136223846793005 + 1442695040888963407;
        p[i] = (char)(x >> 56);
    }
    return (struct slice){p, n};
}

static struct slice some_text(struct making *m, const char *what) {
    char *p = arena_bytes(&m->b->memory, 64);
    if (!p) abort();
    int n = snprintf(p, 64, "%s %u", what, (unsigned)++m->w->next_body);
    return (struct slice){p, (size_t)n};
}

static size_t body_size(struct making *m) {
    if (one_in(m, 10)) return 0;
    if (one_in(m, 60)) return STORE_INLINE;
    if (one_in(m, 40)) return below(m, BIG_BODY);
    return below(m, 200);
}

static bool fits(struct making *m, const struct blob *blob) {
    if (blob->busy || blob->named) return false;
    return one_in(m, blob->closed ? 3 : 100);
}

static struct store_body a_body(struct making *m) {
    for (size_t i = 0; i < m->w->loose_count; i++) {
        struct blob *blob = &m->w->loose[i];
        if (!fits(m, blob)) continue;
        blob->busy = true;
        return (struct store_body){.blob = blob->id, .size = blob->size};
    }
    if (one_in(m, 150)) return (struct store_body){.blob = unknown_id, .size = 5};
    return (struct store_body){.bytes = some_bytes(m, body_size(m))};
}

static struct store_message a_message(struct making *m, const char *head) {
    return (struct store_message){.head = some_text(m, head), .body = a_body(m)};
}

/* ---- jobs ---- */

static struct store_id new_id(struct making *m) {
    m->put = (struct store_id){.hi = m->w->clock << 16 | 0x7000 | (m->w->next_id++ & 0xfff),
                               .lo = (uint64_t)1 << 63 | random_u64(&m->w->random) >> 2};
    return m->put;
}

/* One of those in these states, if there are some, and it is not time for a wrong one. */
static const struct store_job *a_job(struct making *m, unsigned states) {
    const struct store_op *all = &m->w->snapshot;
    size_t fit = 0;
    if (all->count == 0) return NULL;
    for (size_t i = 0; i < all->count; i++) fit += states >> all->jobs[i].state & 1;
    if (fit == 0 || one_in(m, 8)) return &all->jobs[below(m, all->count)];
    size_t chosen = below(m, fit);
    for (size_t i = 0;; i++)
        if ((states >> all->jobs[i].state & 1) && chosen-- == 0) return &all->jobs[i];
}

static void name_job(struct making *m, unsigned states) {
    const struct store_job *job = a_job(m, states);
    if (m->put.hi && one_in(m, 8)) {
        m->op->job.id = m->put;
        m->op->job.fence = below(m, 2);
    } else if (!job || one_in(m, 30)) {
        m->op->job.id = (struct store_id){.hi = UNKNOWN_HI, .lo = below(m, 3)};
        m->op->job.fence = 1;
    } else {
        m->op->job.id = job->id;
        m->op->job.fence = job->fence;
        m->op->job.ended = job->ended;
        if (one_in(m, 10)) m->op->job.fence = below(m, job->fence + 2);
    }
}

static void an_any_tenant(struct making *m) {
    m->op->any_tenant = one_in(m, 2);
    if (!m->op->any_tenant) m->op->job.tenant = any_of(m, world_tenants, TENANTS);
    if (!one_in(m, 3)) m->op->job.service = any_of(m, world_services, SERVICES);
}

static void make_hop(struct making *m) {
    struct store_job *job = &m->op->job;
    job->kind = one_in(m, 3) ? STORE_HOP_SCATTER : STORE_HOP_PLAIN;
    job->service = any_of(m, world_services, SERVICES);
    if (one_in(m, 3)) job->gather = any_of(m, world_services, SERVICES);
    job->priority = (unsigned)below(m, 2);
    job->cost = below(m, 1000);
    job->hop = (unsigned)below(m, 4);
    job->message = a_message(m, "POST / HTTP/1.1");
}

static void make_key(struct making *m) {
    static const unsigned char hashes[2][STORE_HASH] = {"one", "another"};
    size_t key = below(m, KEYS);
    if (m->keys >> key & 1) return;
    m->keys |= 1u << key;
    m->op->key = world_keys[key];
    m->op->hash = hashes[one_in(m, 4)];
    m->op->key_expires = soon(m) + (one_in(m, 3) ? 10 * NEAR : 0); /* after its job has gone, too */
}

static void make_put(struct making *m) {
    struct store_job *job = &m->op->job;
    make_hop(m);
    const struct store_job *there = one_in(m, 40) ? a_job(m, ~0u) : NULL;
    job->id = there ? there->id : new_id(m);
    job->tenant = any_of(m, world_tenants, TENANTS);
    job->created = m->w->clock;
    if (one_in(m, 3)) job->run_at = soon(m);
    if (one_in(m, 3)) job->deadline = soon(m);
    if (one_in(m, 3)) job->callback = some_text(m, "http://127.0.0.1/");
    job->attempt = (unsigned)below(m, 2);
    m->op->lease = one_in(m, 3);
    if (one_in(m, 2)) make_key(m);
}

static void make_lease(struct making *m) {
    m->op->line.service = any_of(m, world_services, SERVICES);
    m->op->line.tenant = any_of(m, world_tenants, TENANTS);
    m->op->line.priority = (unsigned)below(m, 2);
    m->op->limit = a_limit(m);
    if (one_in(m, 4)) m->op->most_bytes = 1 + below(m, 500);
}

/* The present, or the very time when something is due, or the millisecond before. */
static uint64_t a_now(struct making *m) {
    static const unsigned queued = 1u << STORE_QUEUED;
    const struct store_job *job = a_job(m, m->op->kind == STORE_JOB_WAKE ? queued : STORE_ENDED_MASK);
    uint64_t at = 0;
    if (job && m->op->kind == STORE_JOB_WAKE) at = job->run_at;
    if (job && m->op->kind == STORE_CALLBACK_DUE) at = job->callback_at;
    if (job && m->op->kind == STORE_JOB_PURGE) at = job->ended;
    if (job && m->op->kind == STORE_SWEEP) at = job->expires;
    return at == 0 || one_in(m, 3) ? m->w->clock : at - below(m, 2);
}

static void make_now(struct making *m) {
    m->op->now = a_now(m);
    m->op->limit = a_limit(m);
}

/* The blob that the job's message has may be that of the next one, too. */
static void make_step(struct making *m) {
    name_job(m, 1u << STORE_LEASED);
    make_hop(m);
    for (size_t i = 0; i < CARRIED; i++) {
        const struct carried *c = &m->w->carried[i];
        struct store_body *body = &m->op->job.message.body;
        if (c->blob == 0 || store_id_compare(c->job, m->op->job.id) != 0) continue;
        if (body->blob == 0) *body = (struct store_body){.blob = c->blob, .size = c->size};
    }
}

static void make_release(struct making *m) {
    name_job(m, 1u << STORE_LEASED);
    m->op->job.attempt = (unsigned)below(m, 4);
    if (one_in(m, 2)) m->op->job.run_at = soon(m);
    if (!one_in(m, 3)) m->op->job.reason = some_text(m, "worker gone");
}

static void make_finish(struct making *m) {
    struct store_job *job = &m->op->job;
    name_job(m, 1u << STORE_LEASED);
    if (one_in(m, 6)) job->fence = 0;
    job->state = (enum store_job_state)(STORE_DONE + below(m, 4));
    job->ended = m->w->clock;
    if (!one_in(m, 20)) job->expires = soon(m);
    if (one_in(m, 2)) job->callback_at = soon(m);
    if (one_in(m, 2)) job->reason = some_text(m, "no more");
    if (one_in(m, 3)) return;
    job->status = (unsigned)(200 + below(m, 300));
    job->answer = a_message(m, "HTTP/1.1 200 OK");
}

static void make_dead(struct making *m) {
    name_job(m, 1u << STORE_DEAD);
}

static void make_get(struct making *m) {
    name_job(m, ~0u);
}

static void make_list(struct making *m) {
    m->op->states = one_in(m, 2) ? ~0u : (unsigned)below(m, 1u << STORE_STATES);
    const struct store_job *job = a_job(m, ~0u);
    if (job && one_in(m, 2)) m->op->job.id = job->id;
    m->op->limit = a_limit(m);
    an_any_tenant(m);
}

static void make_purge(struct making *m) {
    m->op->states =
        one_in(m, 2) ? STORE_ENDED_MASK : (unsigned)below(m, 1u << STORE_STATES) & STORE_ENDED_MASK;
    m->op->now = a_now(m);
    m->op->limit = m->w->crashing ? ALL : a_limit(m);
    an_any_tenant(m);
}

static void make_part(struct making *m) {
    name_job(m, 1u << STORE_LEASED);
    m->op->part.index = (unsigned)below(m, 4);
    m->op->part.status = (unsigned)(200 + below(m, 300));
    m->op->part.answer = a_message(m, "Content-Type: text/plain");
}

static void make_callback(struct making *m) {
    name_job(m, STORE_ENDED_MASK);
    if (one_in(m, 10)) m->op->job.ended++;
    if (!one_in(m, 3)) m->op->job.callback_at = soon(m);
    m->op->job.callback_attempt = (unsigned)below(m, 5);
}

/* ---- topics ---- */

static void make_subscription(struct making *m) {
    m->op->topic = any_of(m, world_topics, TOPICS);
    m->op->name = any_of(m, world_names, NAMES);
}

static void make_append(struct making *m) {
    m->op->topic = any_of(m, world_topics, TOPICS);
    m->op->message.at = m->w->clock;
    if (one_in(m, 2)) m->op->message.type = some_text(m, "text/plain");
    m->op->message.body = a_body(m);
}

static uint64_t a_message_id(struct making *m) {
    const struct pairs *p = &m->w->messages[world_topic(m->op->topic)];
    if (p->count == 0 || one_in(m, 30)) return unknown_id;
    size_t back = below(m, one_in(m, 4) ? p->count : p->count < 6 ? p->count : 6);
    return p->at[p->count - 1 - back].model;
}

static void make_read(struct making *m) {
    make_subscription(m);
    if (one_in(m, 3)) m->op->after = a_message_id(m);
    m->op->limit = a_limit(m);
    m->op->most_bytes = one_in(m, 2) ? ALL * ALL : below(m, 300);
    m->op->take = one_in(m, 3);
}

static void make_ack(struct making *m) {
    struct store_op *op = m->op, all;
    make_subscription(m);
    op->up_to = one_in(m, 3);
    op->message_id = a_message_id(m);
    if (one_in(m, 4)) return;
    store_op_init(&all, STORE_TOPIC_READ, NULL);
    all.topic = op->topic;
    all.name = op->name;
    all.limit = 4;
    all.most_bytes = UINT32_MAX;
    world_run(m->w, MODEL, &all);
    if (all.count) op->message_id = all.messages[below(m, all.count)].id;
    store_op_fini(&all);
}

/* ---- others ---- */

static void make_nothing(struct making *m) {
    (void)m;
}

static bool make_value(struct making *m) {
    size_t value = below(m, VALUES);
    m->op->key = world_values[value];
    bool free = (m->values >> value & 1) == 0;
    m->values |= 1u << value;
    return free;
}

static void make_conf_get(struct making *m) {
    if (!make_value(m)) m->op->kind = STORE_KINDS;
}

static void make_conf_set(struct making *m) {
    if (!make_value(m)) m->op->kind = STORE_KINDS;
    const struct pairs *p = &m->w->revisions[world_value(m->op->key)];
    if (p->count && !one_in(m, 6)) m->op->revision = p->at[p->count - 1].model;
    if (p->count > 1 && one_in(m, 6)) m->op->revision = p->at[p->count - 2].model;
    m->op->value = some_bytes(m, one_in(m, 5) ? 0 : below(m, 100));
}

static void name_blob(struct making *m, bool open) {
    m->op->blob = unknown_id;
    if (m->w->loose_count == 0 || one_in(m, 30)) return;
    struct blob *blob = &m->w->loose[below(m, m->w->loose_count)];
    if (blob->closed == open && !one_in(m, 10)) blob = &m->w->loose[below(m, m->w->loose_count)];
    if (blob->busy) return;
    m->op->blob = blob->id;
    blob->named = true;
}

static void make_write(struct making *m) {
    name_blob(m, true);
    m->op->bytes = some_bytes(m, below(m, one_in(m, 10) ? BIG_WRITE : 20000));
}

static void make_close(struct making *m) {
    name_blob(m, true);
}

static void make_blob_read(struct making *m) {
    name_blob(m, false);
    m->op->after = one_in(m, 2) ? 0 : below(m, 30000);
    m->op->limit = one_in(m, 10) ? 0 : below(m, 30000);
}

static void make_drop(struct making *m) {
    name_blob(m, false);
    size_t taken = below(m, TAKEN);
    if (one_in(m, 4) && m->w->taken[taken]) m->op->blob = m->w->taken[taken];
}

static void make_sweep(struct making *m) {
    m->op->now = a_now(m);
    m->op->limit = m->w->crashing ? ALL : a_limit(m);
    if (one_in(m, 2)) m->op->message_age = 1 + below(m, 2 * NEAR);
}

/* ---- choosing ---- */

/* The weights: usually, and when there is a crowd of jobs. */
static const struct recipe {
    enum store_kind kind;
    unsigned usual, crowd;
    enum scope scope;
    void (*make)(struct making *m);
} recipes[] = {
    {STORE_JOB_PUT, 30, 8, ONE_JOB, make_put},
    {STORE_JOB_LEASE, 16, 16, ALL_JOBS, make_lease},
    {STORE_JOB_WAKE, 8, 8, ALL_JOBS, make_now},
    {STORE_JOB_STEP, 12, 12, ONE_JOB, make_step},
    {STORE_JOB_RELEASE, 10, 6, ONE_JOB, make_release},
    {STORE_JOB_FINISH, 16, 30, ONE_JOB, make_finish},
    {STORE_JOB_REVIVE, 5, 5, ONE_JOB, make_dead},
    {STORE_JOB_GET, 6, 6, ONE_JOB, make_get},
    {STORE_JOB_LIST, 5, 5, ALL_JOBS, make_list},
    {STORE_JOB_PURGE, 1, 8, ALL_JOBS, make_purge},
    {STORE_PART_PUT, 12, 12, ONE_JOB, make_part},
    {STORE_PART_LIST, 4, 4, ONE_JOB, make_get},
    {STORE_CALLBACK_DUE, 4, 4, ALL_JOBS, make_now},
    {STORE_CALLBACK_SET, 4, 4, ONE_JOB, make_callback},
    {STORE_TOPIC_SUBSCRIBE, 7, 7, ONE_TOPIC, make_subscription},
    {STORE_TOPIC_UNSUBSCRIBE, 6, 6, ONE_TOPIC, make_subscription},
    {STORE_TOPIC_APPEND, 24, 24, ONE_TOPIC, make_append},
    {STORE_TOPIC_READ, 14, 14, ONE_TOPIC, make_read},
    {STORE_TOPIC_ACK, 24, 24, ONE_TOPIC, make_ack},
    {STORE_TOPIC_LOAD, 2, 2, ALL_TOPICS, make_nothing},
    {STORE_CONF_GET, 3, 3, ONE_VALUE, make_conf_get},
    {STORE_CONF_SET, 6, 6, ONE_VALUE, make_conf_set},
    {STORE_BLOB_NEW, 8, 8, ONE_BLOB, make_nothing},
    {STORE_BLOB_WRITE, 10, 10, ONE_BLOB, make_write},
    {STORE_BLOB_CLOSE, 8, 8, ONE_BLOB, make_close},
    {STORE_BLOB_READ, 4, 4, ONE_BLOB, make_blob_read},
    {STORE_BLOB_DROP, 2, 2, ONE_BLOB, make_drop},
    {STORE_SWEEP, 2, 6, ALL_THINGS, make_sweep},
};
enum { RECIPES = sizeof recipes / sizeof *recipes };

static const struct recipe *choose(struct making *m) {
    bool crowd = m->w->snapshot.count > CROWD;
    unsigned sum = 0;
    for (size_t i = 0; i < RECIPES; i++) sum += crowd ? recipes[i].crowd : recipes[i].usual;
    uint64_t at = below(m, sum);
    for (const struct recipe *r = recipes;; r++) {
        unsigned weight = crowd ? r->crowd : r->usual;
        if (at < weight) return r;
        at -= weight;
    }
}

/* Whether something of that scope may be under way together with what is in the batch. */
static bool goes_with(unsigned scopes, enum scope scope) {
    static const unsigned not_with[] = {
        [ONE_JOB] = 1u << ALL_JOBS | 1u << ALL_THINGS,
        [ALL_JOBS] = 1u << ONE_JOB | 1u << ALL_JOBS | 1u << ALL_THINGS,
        [ONE_TOPIC] = 1u << ALL_TOPICS | 1u << ALL_THINGS,
        [ALL_TOPICS] = 1u << ONE_TOPIC | 1u << ALL_THINGS,
        [ONE_VALUE] = 0,
        [ONE_BLOB] = 0,
        [ALL_THINGS] = 1u << ONE_JOB | 1u << ALL_JOBS | 1u << ONE_TOPIC | 1u << ALL_TOPICS | 1u << ALL_THINGS,
    };
    return (scopes & not_with[scope]) == 0;
}

static void take_snapshot(struct world *w) {
    store_op_fini(&w->snapshot);
    store_op_init(&w->snapshot, STORE_JOB_LIST, NULL);
    w->snapshot.states = ~0u;
    w->snapshot.any_tenant = true;
    w->snapshot.limit = ALL;
    world_run(w, MODEL, &w->snapshot);
}

void batch_generate(struct world *w, struct batch *b) {
    struct making m = {.w = w, .b = b};
    unsigned scopes = 0;
    *b = (struct batch){0};
    arena_init(&b->memory, 0, NULL, 0);
    w->batches++;
    w->clock += below(&m, 6);
    for (size_t i = 0; i < w->loose_count; i++) w->loose[i].busy = w->loose[i].named = false;
    take_snapshot(w);
    for (size_t want = one_in(&m, 3) ? 1 : 1 + below(&m, BATCH), tries = 0; b->count < want && tries < 50;
         tries++) {
        const struct recipe *r = choose(&m);
        if (!goes_with(scopes, r->scope)) continue;
        struct step *step = &b->steps[b->count];
        step->w = w;
        step->index = b->count;
        m.op = &step->op[MODEL];
        store_op_init(m.op, r->kind, NULL);
        r->make(&m);
        if (m.op->kind == STORE_KINDS) continue;
        scopes |= 1u << r->scope;
        b->count++;
    }
}

void batch_fini(struct batch *b) {
    for (size_t i = 0; i < b->count; i++) {
        store_op_fini(&b->steps[i].op[MODEL]);
        store_op_fini(&b->steps[i].op[REAL]);
    }
    arena_fini(&b->memory);
}

static size_t index_of(const struct slice *list, size_t n, struct slice name) {
    size_t i = 0;
    while (i < n - 1 && !slice_eq(list[i], name)) i++;
    return i;
}

size_t world_topic(struct slice name) {
    return index_of(world_topics, TOPICS, name);
}

size_t world_value(struct slice key) {
    return index_of(world_values, VALUES, key);
}
