/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines, and which of their jobs are held; what comes in, and what is asked of jobs by their ids.
 *
 * A line's jobs are given to the core in the order in which they were stored: what is put while others of its
 * line wait in the store waits behind them.
 */
#include "durable/jobs.h"
#include "base/assert.h"
#include "base/hash.h"
#include "durable/callbacks.h"
#include "durable/held.h"
#include "durable/record.h"
#include "weir/weir.h"
#include <openssl/evp.h>
#include <stdlib.h>

enum {
    WINDOW = 256,      /* held of a line */
    WINDOW_LEAST = 16, /* when many lines have some */
    HELD_MOST = 16384, /* from which on windows are small */
    HELD_BYTES_MOST = 64 << 20,
    LEASES_AT_ONCE = 4, /* each may bring LEASE_BYTES */
    LEASE_BYTES = 8 << 20,
    DUE_AT_ONCE = 256,
    AGAIN_MS = 50 /* what the core or memory had no room for is tried again */
};

static const struct store_id FORGOTTEN = {0, 0};

/* ---- lines ---- */

static uint64_t hash_line(struct slice service, struct slice tenant, unsigned priority) {
    return hash_bytes(service, hash_bytes(tenant, priority));
}

struct line *jobs_line(struct jobs *j, struct slice service, struct slice tenant, unsigned priority) {
    struct list *place = &j->lines[hash_line(service, tenant, priority) % LINES_TABLE];
    LIST_FOR (node, place) {
        struct line *l = CONTAINER_OF(node, struct line, node);
        if (l->priority == priority && slice_eq(l->service, service) && slice_eq(l->tenant, tenant)) return l;
    }
    struct line *l = calloc(1, sizeof(*l) + service.n + tenant.n);
    if (!l) return NULL;
    char *end = mempcpy(l->names, service.p ? service.p : "", service.n);
    if (tenant.n) memcpy(end, tenant.p, tenant.n);
    l->service = (struct slice){l->names, service.n};
    l->tenant = (struct slice){end, tenant.n};
    l->priority = priority;
    l->jobs = j;
    list_init(&l->hungry);
    list_push_back(place, &l->node);
    return l;
}

static size_t window(const struct jobs *j) {
    if (j->held_bytes >= HELD_BYTES_MOST) return 1; /* so that each line goes on */
    return j->stats.held < HELD_MOST ? WINDOW : WINDOW_LEAST;
}

static void line_tidy(struct line *l) {
    if (l->held > 0 || l->users > 0 || l->waiting || l->busy) return;
    list_del(&l->hungry);
    list_del(&l->node);
    free(l);
}

/* Those that no worker has yet, now or soon. */
static size_t ahead(const struct line *l) {
    return l->held - l->begun + l->coming;
}

static void look_hungry(struct line *l) {
    if (l->waiting && !l->busy && ahead(l) <= window(l->jobs) / 2 && list_empty(&l->hungry))
        list_push_back(&l->jobs->hungry, &l->hungry);
}

void jobs_line_count(struct line *l, int more) {
    l->held = (size_t)((ptrdiff_t)l->held + more);
    look_hungry(l);
    line_tidy(l);
}

void jobs_line_begun(struct line *l, int more) {
    l->begun = (size_t)((ptrdiff_t)l->begun + more);
    look_hungry(l);
}

void jobs_line_use(struct line *l, bool use) {
    if (use) {
        l->users++;
        return;
    }
    l->users--;
    line_tidy(l);
}

void jobs_line_waits(struct line *l) {
    l->waiting = true;
    if (l->busy) l->again = true;
    look_hungry(l);
}

static void soon(const struct jobs *j, uint64_t *when) {
    uint64_t at = j->config.now_ms(j->config.ctx) + AGAIN_MS;
    if (at < *when) *when = at;
}

void jobs_retry(struct jobs *j) {
    soon(j, &j->retry_ms);
}

/* Leased jobs become held ones, as far as memory goes. Returns how many are done with. */
static size_t take_up(struct jobs *j, const struct store_op *op, size_t from) {
    size_t n = from;
    if (j->draining) return op->count; /* the next hub to start takes them up */
    for (; n < op->count; n++) {
        if (store_id_compare(op->jobs[n].id, FORGOTTEN) == 0) continue;
        struct held *h = held_new(j, &op->jobs[n]);
        if (!h) break;
        held_enter(h);
    }
    return n;
}

static void forget(struct store_op *op, size_t from, struct store_id id) {
    for (size_t i = from; i < op->count; i++)
        if (store_id_compare(op->jobs[i].id, id) == 0) op->jobs[i].id = FORGOTTEN;
}

/* It is cancelled while it is among those that memory lacked for. */
static void forget_stuck(struct jobs *j, struct store_id id) {
    if (j->lack_ms == UINT64_MAX) return;
    for (size_t i = 0; i < LINES_TABLE; i++)
        LIST_FOR (node, &j->lines[i]) {
            struct line *l = CONTAINER_OF(node, struct line, node);
            if (l->stuck) forget(&l->op, l->at, id);
        }
}

static void line_taken_up(struct line *l) {
    struct jobs *j = l->jobs;
    l->at = take_up(j, &l->op, l->at);
    l->stuck = l->at < l->op.count;
    if (l->stuck) {
        soon(j, &j->lack_ms);
        return;
    }
    if (l->op.err == 0 && l->op.count < l->op.limit && !l->op.more && !l->again) l->waiting = false;
    bool failed = l->op.err != 0;
    j->leasing--;
    store_op_fini(&l->op);
    l->busy = false;
    if (failed)
        soon(j, &j->lack_ms);
    else
        look_hungry(l);
    line_tidy(l);
}

static void on_leased(struct store_op *op) {
    line_taken_up(CONTAINER_OF(op, struct line, op));
}

static void lease(struct line *l) {
    struct jobs *j = l->jobs;
    store_op_init(&l->op, STORE_JOB_LEASE, on_leased);
    l->op.shard = j->config.shard;
    l->op.line = (struct store_line){.service = l->service, .tenant = l->tenant, .priority = l->priority};
    l->op.limit = window(j) > ahead(l) ? window(j) - ahead(l) : 1;
    l->op.most_bytes = LEASE_BYTES;
    j->leasing++;
    l->busy = true;
    l->again = false;
    l->at = 0;
    store_submit(j->config.store, &l->op);
}

static void feed(struct jobs *j) {
    struct list *node;
    while (!j->draining && !j->loading && !j->unloaded && j->leasing < LEASES_AT_ONCE &&
           (node = list_pop_front(&j->hungry)))
        lease(CONTAINER_OF(node, struct line, hungry));
}

/* ---- delayed ones ---- */

void jobs_due(struct jobs *j, uint64_t run_at) {
    if (run_at < j->due_ms) j->due_ms = run_at;
}

/* There is more of a line in the store. Its service was there when its jobs were accepted; since this hub has
   begun, perhaps no worker has come. */
static int begin_line(struct jobs *j, const struct store_line *from) {
    struct line *l = jobs_line(j, from->service, from->tenant, from->priority);
    if (!l) return WEIR_ENOMEM;
    jobs_line_waits(l);
    if (from->hop == 0) (void)core_service_expect(j->config.core, from->service);
    return 0;
}

static void woken(struct jobs *j) {
    struct store_op *op = &j->due;
    while (op->err == 0 && j->due_at < op->count && begin_line(j, &op->lines[j->due_at]) == 0) j->due_at++;
    j->due_stuck = op->err == 0 && j->due_at < op->count;
    if (j->due_stuck) { /* without memory */
        soon(j, &j->lack_ms);
        return;
    }
    if (op->err != 0)
        jobs_due(j, j->config.now_ms(j->config.ctx) + 1000);
    else if (op->next)
        jobs_due(j, op->next);
    store_op_fini(op);
    j->due_busy = false;
}

static void on_woken(struct store_op *op) {
    woken(CONTAINER_OF(op, struct jobs, due));
}

static bool may_wake(const struct jobs *j) {
    return !j->due_busy && !j->draining && !j->loading && !j->unloaded;
}

/* What is due takes its place in its line, before what came later. */
static void wake(struct jobs *j, uint64_t now) {
    if (!may_wake(j) || now < j->due_ms) return;
    store_op_init(&j->due, STORE_JOB_WAKE, on_woken);
    j->due.shard = j->config.shard;
    j->due.now = now;
    j->due.limit = DUE_AT_ONCE;
    j->due_ms = UINT64_MAX; /* those that are put meanwhile bring it down again, as does the answer */
    j->due_busy = true;
    j->due_at = 0;
    store_submit(j->config.store, &j->due);
}

/* ---- from beginning to end ---- */

static void submit_load(struct jobs *j);

static void on_loaded(struct store_op *op) {
    struct jobs *j = CONTAINER_OF(op, struct jobs, load);
    int err = op->err;
    for (size_t i = 0; err == 0 && i < op->count; i++) err = begin_line(j, &op->lines[i]);
    if (err == 0 && op->next) jobs_due(j, op->next);
    store_op_fini(op);
    j->loading = false;
    j->unloaded = err != 0;
    if (err != 0) soon(j, &j->lack_ms);
}

static void submit_load(struct jobs *j) {
    store_op_init(&j->load, STORE_JOB_LOAD, on_loaded);
    j->load.shard = j->config.shard;
    j->loading = true;
    store_submit(j->config.store, &j->load);
}

int jobs_new(const struct jobs_config *config, struct jobs **ret) {
    struct jobs *j = calloc(1, sizeof(*j));
    if (!j) return WEIR_ENOMEM;
    j->config = *config;
    for (size_t i = 0; i < HELD_TABLE; i++) list_init(&j->held[i]);
    for (size_t i = 0; i < LINES_TABLE; i++) list_init(&j->lines[i]);
    for (size_t i = 0; i < WATCH_TABLE; i++) list_init(&j->watches[i]);
    list_init(&j->waiting);
    list_init(&j->hungry);
    list_init(&j->revived);
    j->due_ms = j->retry_ms = j->lack_ms = UINT64_MAX;
    wheel_init(&j->wheel, config->now_ms(config->ctx));
    wheel_init(&j->watch_wheel, config->now_ms(config->ctx));
    submit_load(j);
    *ret = j;
    return 0;
}

/* What waits is given to the core, each line in order, until the core has no room for one of it. */
static void submit_waiting(struct jobs *j) {
    j->pass++;
    LIST_FOR (node, &j->waiting) {
        struct held *h = CONTAINER_OF(node, struct held, waiting);
        if (j->draining) return;
        if (h->line->refused == j->pass) continue;
        h->line->refused = held_submit(h) == 0 ? 0 : j->pass;
        if (h->line->refused) jobs_retry(j);
    }
}

static void on_revived(struct store_op *op);

static void revive_again(struct jobs *j) {
    struct list revived, *node;
    list_init(&revived);
    list_splice_back(&revived, &j->revived);
    while ((node = list_pop_front(&revived))) on_revived(CONTAINER_OF(node, struct store_op, link));
}

/* What memory lacked for. */
static void take_up_again(struct jobs *j) {
    if (j->due_stuck) woken(j);
    if (j->unloaded && !j->loading && !j->draining) submit_load(j);
    revive_again(j);
    for (size_t i = 0; i < LINES_TABLE; i++)
        LIST_FOR (node, &j->lines[i]) {
            struct line *l = CONTAINER_OF(node, struct line, node);
            if (l->stuck)
                line_taken_up(l);
            else
                look_hungry(l);
        }
}

void jobs_tick(struct jobs *j, uint64_t now) {
    struct wheel_timer *t;
    while ((t = wheel_expire(&j->wheel, now))) held_timer(CONTAINER_OF(t, struct held, timer));
    while ((t = wheel_expire(&j->watch_wheel, now))) {
        struct jobs_watch *w = CONTAINER_OF(t, struct jobs_watch, timer);
        list_del(&w->link);
        w->told(w, false);
    }
    wake(j, now);
    if (now >= j->retry_ms) {
        j->retry_ms = UINT64_MAX;
        submit_waiting(j);
    }
    if (now >= j->lack_ms) {
        j->lack_ms = UINT64_MAX;
        take_up_again(j);
    }
    feed(j);
}

uint64_t jobs_next_time(const struct jobs *j) {
    uint64_t next = wheel_next(&j->wheel), watch = wheel_next(&j->watch_wheel);
    if (watch < next) next = watch;
    if (j->draining) return next;
    if (may_wake(j) && j->due_ms < next) next = j->due_ms;
    if (j->lack_ms < next) next = j->lack_ms;
    return j->retry_ms < next ? j->retry_ms : next;
}

static void tell_watches(struct jobs *j, struct list *place, const struct store_id *id, bool ended) {
    struct list told;
    list_init(&told);
    LIST_FOR (node, place)
        if (!id || store_id_compare(CONTAINER_OF(node, struct jobs_watch, link)->id, *id) == 0) {
            wheel_del(&j->watch_wheel, &CONTAINER_OF(node, struct jobs_watch, link)->timer);
            list_del(node);
            list_push_back(&told, node);
        }
    struct list *node;
    while ((node = list_pop_front(&told))) {
        struct jobs_watch *w = CONTAINER_OF(node, struct jobs_watch, link);
        w->told(w, ended);
    }
}

void jobs_drain(struct jobs *j) {
    j->draining = true;
    for (size_t i = 0; i < HELD_TABLE; i++)
        LIST_FOR (node, &j->held[i]) held_drain(CONTAINER_OF(node, struct held, table));
    for (size_t i = 0; i < WATCH_TABLE; i++) tell_watches(j, &j->watches[i], NULL, false);
}

bool jobs_idle(const struct jobs *j) {
    if (j->under_way > 0) return false;
    for (size_t i = 0; i < HELD_TABLE; i++) {
        const struct list *place = &j->held[i];
        LIST_FOR (node, place) {
            const struct held *h = CONTAINER_OF(node, struct held, table);
            if (h->phase == HELD_ANSWERING || h->phase == HELD_STORING) return false;
        }
    }
    return true;
}

void jobs_close(struct jobs *j) {
    j->draining = true;
    for (size_t i = 0; i < HELD_TABLE; i++)
        LIST_FOR (node, &j->held[i]) held_lose(CONTAINER_OF(node, struct held, table), CORE_DRAIN_OVER);
    take_up_again(j); /* for the last time, and as it drains nothing is */
}

void jobs_free(struct jobs **at) {
    struct jobs *j = *at;
    *at = NULL;
    if (!j) return;
    for (size_t i = 0; i < LINES_TABLE; i++)
        LIST_FOR (node, &j->lines[i]) free(CONTAINER_OF(node, struct line, node));
    free(j);
}

void jobs_stats(const struct jobs *j, struct jobs_stats *ret) {
    *ret = j->stats;
}

struct store *jobs_store(const struct jobs *j) {
    return j->config.store;
}

struct callbacks *jobs_callbacks(const struct jobs *j) {
    return j->config.callbacks;
}

uint64_t jobs_now_ms(const struct jobs *j) {
    return j->config.now_ms(j->config.ctx);
}

/* ---- looking ---- */

struct held *jobs_held(const struct jobs *j, struct store_id id) {
    const struct list *place = &j->held[id.lo % HELD_TABLE];
    LIST_FOR (node, place) {
        struct held *h = CONTAINER_OF(node, struct held, table);
        if (store_id_compare(h->job.id, id) == 0) return h;
    }
    return NULL;
}

bool jobs_watched(const struct jobs *j, struct store_id id) {
    const struct list *place = &j->watches[id.lo % WATCH_TABLE];
    LIST_FOR (node, place)
        if (store_id_compare(CONTAINER_OF(node, struct jobs_watch, link)->id, id) == 0) return true;
    return false;
}

bool jobs_look(const struct jobs *j, struct store_id id, struct jobs_view *ret) {
    const struct held *h = jobs_held(j, id);
    if (!h) return false;
    bool begun = h->phase == HELD_RUNNING || h->phase == HELD_ANSWERING || h->phase == HELD_STORING;
    *ret = (struct jobs_view){
        .running = begun, .started_ms = h->started_ms, .progress = buffer_slice(&h->progress)};
    return true;
}

void jobs_watch_init(struct jobs_watch *w) {
    list_init(&w->link);
    wheel_timer_init(&w->timer);
}

void jobs_watch(struct jobs *j, struct jobs_watch *w, uint64_t until_ms) {
    list_push_back(&j->watches[w->id.lo % WATCH_TABLE], &w->link);
    wheel_add(&j->watch_wheel, &w->timer, until_ms);
}

void jobs_unwatch(struct jobs *j, struct jobs_watch *w) {
    list_del(&w->link);
    wheel_del(&j->watch_wheel, &w->timer);
}

void jobs_ended(struct jobs *j, struct store_id id, enum store_job_state state, uint64_t ended) {
    uint64_t *const counters[STORE_STATES] = {[STORE_DONE] = &j->stats.done,
                                              [STORE_FAILED] = &j->stats.failed,
                                              [STORE_CANCELLED] = &j->stats.cancelled,
                                              [STORE_DEAD] = &j->stats.dead};
    ++*counters[state];
    if (ended && j->config.callbacks) callbacks_ended(j->config.callbacks, id, ended);
    tell_watches(j, &j->watches[id.lo % WATCH_TABLE], &id, true);
}

/* ---- changing ---- */

static void on_cancelled(struct store_op *op) {
    struct jobs_call *c = CONTAINER_OF(op, struct jobs_call, op);
    struct jobs *j = c->jobs;
    int err = op->err;
    struct store_id id = op->job.id;
    uint64_t callback_of = err == 0 && op->ret_job.callback.n ? op->job.ended : 0;
    store_op_fini(op);
    struct held *h = err == 0 ? jobs_held(j, id) : NULL;
    if (h)
        held_lose(h, CORE_DELETED);
    else if (err == 0)
        forget_stuck(j, id);
    c->done(c, err);
    if (err == 0) jobs_ended(j, id, STORE_CANCELLED, callback_of);
}

void jobs_cancel(struct jobs *j, struct store_id id, struct jobs_call *c) {
    uint64_t now = j->config.now_ms(j->config.ctx);
    c->jobs = j;
    store_op_init(&c->op, STORE_JOB_FINISH, on_cancelled);
    c->op.shard = j->config.shard;
    c->op.job = (struct store_job){.id = id,
                                   .state = STORE_CANCELLED,
                                   .ended = now,
                                   .expires = now + j->config.ttl_ms,
                                   .callback_at = now,
                                   .reason = SLICE("cancelled by a client")};
    store_submit(j->config.store, &c->op);
}

static void on_revived(struct store_op *op) {
    struct jobs_call *c = CONTAINER_OF(op, struct jobs_call, op);
    struct jobs *j = c->jobs;
    int err = op->err;
    struct store_line line = {
        .service = op->ret_job.service, .tenant = op->ret_job.tenant, .priority = op->ret_job.priority};
    if (err == 0 && begin_line(j, &line) != 0 && !j->draining) {
        list_push_back(&j->revived, &op->link);
        soon(j, &j->lack_ms);
        return;
    }
    store_op_fini(op);
    c->done(c, err);
}

void jobs_revive(struct jobs *j, struct store_id id, struct jobs_call *c) {
    c->jobs = j;
    store_op_init(&c->op, STORE_JOB_REVIVE, on_revived);
    c->op.shard = j->config.shard;
    c->op.job.id = id;
    store_submit(j->config.store, &c->op);
}

/* ---- coming in ---- */

struct jobs_ticket {
    struct jobs *jobs;
    void (*done)(void *ctx, int err, struct store_id id, bool repeated); /* NULL: nobody waits */
    void *ctx;
    struct message *message;
    struct intake *intake;
    struct store_op op;
    struct held *held; /* made before it is put, so that memory cannot lack for it afterwards */
    struct line *line;
    struct arena texts;
    struct slice key;
    struct store_job job;
    unsigned char hash[STORE_HASH];
    struct jobs_ticket **given; /* where who asked will find it; NULL once jobs_accept has returned */
    bool stored;                /* the store has been asked */
};

static void ticket_free(struct jobs_ticket *t) {
    if (t->given) *t->given = NULL;
    intake_free(&t->intake);
    message_unref(t->message);
    if (t->held) held_free(t->held);
    if (t->line) jobs_line_use(t->line, false);
    arena_fini(&t->texts);
    t->jobs->under_way--;
    free(t);
}

static void ticket_done(struct jobs_ticket *t, int err, struct store_id id, bool repeated) {
    if (t->done) t->done(t->ctx, err, id, repeated);
    ticket_free(t);
}

/* 0 or WEIR_EIO. RFC 9562 5.7, with the 12 bits of rand_a as a counter (6.2, method 1): later ids of this hub
 * are greater. */
static int make_id(struct jobs *j, struct store_id *ret) {
    uint64_t now = j->config.now_ms(j->config.ctx), random;
    int err = j->config.random(&random);
    if (err != 0) return err;
    if (now > j->last_id_ms) {
        j->last_id_ms = now;
        j->last_id_serial = 0;
    } else if (++j->last_id_serial > 0xfff) {
        j->last_id_ms++;
        j->last_id_serial = 0;
    }
    *ret = (struct store_id){j->last_id_ms << 16 | UINT64_C(0x7000) | j->last_id_serial,
                             (random & (UINT64_MAX >> 2)) | UINT64_C(1) << 63};
    return 0;
}

static void on_dropped_blob(struct store_op *op) {
    store_op_fini(op);
    free(op);
}

/* A blob that the store did not take. */
static void drop_blob(struct jobs *j, uint64_t blob) {
    struct store_op *op = blob ? malloc(sizeof(*op)) : NULL;
    if (!op) return; /* without memory it goes at the next start */
    store_op_init(op, STORE_BLOB_DROP, on_dropped_blob);
    op->blob = blob;
    store_submit(j->config.store, op);
}

static struct held *take_held(struct jobs_ticket *t) {
    struct held *h = t->held;
    t->held = NULL;
    return h;
}

static void on_put(struct store_op *op) {
    struct jobs_ticket *t = CONTAINER_OF(op, struct jobs_ticket, op);
    struct jobs *j = t->jobs;
    int err = op->err;
    bool found = err == 0 && op->found;
    struct store_id id = found ? op->ret_job.id : t->job.id;
    if (err != 0 || found) drop_blob(j, op->job.message.body.blob);
    if (err == WEIR_ECONFLICT) j->stats.conflicts++;
    j->stats.repeated += found;
    store_op_fini(op);
    if (t->held) t->line->coming--;
    if (err == 0 && !found) {
        j->stats.accepted++;
        if (t->job.run_at)
            jobs_due(j, t->job.run_at);
        else if (!t->held)
            jobs_line_waits(t->line);
        else if (!j->draining)
            held_enter(take_held(t));
    }
    look_hungry(t->line);
    ticket_done(t, err, id, found);
}

/* It is the same request when method, target and bodies are. */
static int hash_request(struct jobs_ticket *t) {
    const struct http_head *head = &t->message->head;
    unsigned char body[STORE_HASH];
    unsigned n = STORE_HASH;
    intake_hash(t->intake, body);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) &&
              EVP_DigestUpdate(md, head->method.p, head->method.n) && EVP_DigestUpdate(md, "", 1) &&
              EVP_DigestUpdate(md, head->target.p, head->target.n) && EVP_DigestUpdate(md, "", 1) &&
              EVP_DigestUpdate(md, body, STORE_HASH) && EVP_DigestFinal_ex(md, t->hash, &n);
    EVP_MD_CTX_free(md);
    return ok ? 0 : WEIR_ENOMEM;
}

/* Workers learn the job's id, which is the same at every hop and attempt. */
static int name_it(struct jobs_ticket *t) {
    struct message *m = t->message;
    char text[STORE_ID_TEXT];
    struct slice id = arena_copy(&m->arena, store_id_text(t->job.id, text));
    return id.p ? head_add(&m->head, &m->arena, HEAD_WEIR_DURABLE, id) : WEIR_ENOMEM;
}

static int describe(struct jobs_ticket *t) {
    struct store_body body = intake_peek(t->intake);
    struct buffer head;
    buffer_init(&head);
    int err = name_it(t);
    if (err == 0) err = record_request(&head, &t->message->head, &body, t->job.service);
    t->job.message = (struct store_message){arena_copy(&t->texts, buffer_slice(&head)), body};
    buffer_fini(&head);
    if (err == 0 && !t->job.message.head.p) err = WEIR_ENOMEM;
    if (err == 0 && t->key.n) err = hash_request(t);
    if (err == 0) t->line = jobs_line(t->jobs, t->job.service, t->job.tenant, t->job.priority);
    if (t->line) jobs_line_use(t->line, true);
    return err == 0 && !t->line ? WEIR_ENOMEM : err;
}

static void put(struct jobs_ticket *t) {
    struct jobs *j = t->jobs;
    struct line *l = t->line;
    t->job.fence = 1;
    bool lease =
        !t->job.run_at && !l->waiting && ahead(l) < window(j) && !j->draining && !j->loading && !j->unloaded;
    if (lease && !(t->held = held_new(j, &t->job))) {
        ticket_done(t, WEIR_ENOMEM, t->job.id, false);
        return;
    }
    store_op_init(&t->op, STORE_JOB_PUT, on_put);
    t->op.shard = j->config.shard;
    t->op.job = t->job;
    (void)intake_take(t->intake);
    t->op.lease = lease;
    t->op.key = t->key;
    t->op.hash = t->hash;
    t->op.key_expires = t->job.created + j->config.key_ttl_ms;
    t->stored = true;
    l->coming += lease;
    store_submit(j->config.store, &t->op);
    if (!lease && !t->job.run_at) jobs_line_waits(l); /* the store keeps the order */
}

static void on_taken_in(void *ctx, int err) {
    struct jobs_ticket *t = ctx;
    if (err == 0) err = make_id(t->jobs, &t->job.id);
    if (err == 0) err = describe(t);
    if (err == 0)
        put(t);
    else
        ticket_done(t, err, t->job.id, false);
}

static bool copy(struct jobs_ticket *t, struct slice *to, struct slice from) {
    if (from.n) *to = arena_copy(&t->texts, from);
    return from.n == 0 || to->p;
}

static struct jobs_ticket *ticket_new(struct jobs *j, const struct jobs_order *o) {
    struct jobs_ticket *t = calloc(1, sizeof(*t));
    if (!t) return NULL;
    uint64_t now = j->config.now_ms(j->config.ctx);
    t->jobs = j;
    j->under_way++;
    t->done = o->done;
    t->ctx = o->ctx;
    t->message = message_ref(o->message);
    arena_init(&t->texts, 0, NULL, 0);
    t->job = (struct store_job){.cost = o->cost,
                                .priority = o->priority,
                                .created = now,
                                .run_at = o->delay_ms ? now + o->delay_ms : 0,
                                .deadline = o->timeout_ms ? now + o->timeout_ms : 0};
    if (t->job.deadline && t->job.deadline < t->job.run_at)
        t->job.run_at = t->job.deadline; /* to fail then */
    if (copy(t, &t->job.service, o->service) && copy(t, &t->job.tenant, o->tenant) &&
        copy(t, &t->job.callback, o->callback) && copy(t, &t->key, o->key))
        return t;
    ticket_free(t);
    return NULL;
}

int jobs_accept(struct jobs *j, const struct jobs_order *order, struct jobs_ticket **ret_ticket,
                struct failure *ret_why) {
    unsigned priority = order->priority;
    int err = core_accept(j->config.core, j->config.now_us(j->config.ctx), order->tenant, order->service,
                          &priority, ret_why);
    if (err != 0) return err;
    struct jobs_ticket *t = ticket_new(j, order);
    if (!t) return ret_why->error = WEIR_ENOMEM;
    t->job.priority = priority;
    struct intake_config in = {.store = j->config.store,
                               .shard = j->config.shard,
                               .max_bytes = j->config.max_body,
                               .hash = order->key.n > 0,
                               .done = on_taken_in,
                               .ctx = t};
    *ret_ticket = t;
    t->given = ret_ticket;
    err = intake_new(&in, order->message->body, &t->intake);
    if (err == 0) {
        if (*ret_ticket) t->given = NULL;
        return 0;
    }
    ticket_free(t);
    return ret_why->error = err;
}

void jobs_ticket_drop(struct jobs_ticket *t) {
    t->done = NULL;
    if (!t->stored) ticket_free(t);
}
