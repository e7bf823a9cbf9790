/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One durable job that this hub has: given to the core, run by a worker, and what came of it told the store.
 * It is the core's requester for each of its hops. One operation of the store is under way for it at a time;
 * until it has completed the job can end only by being lost.
 */
#include "durable/held.h"
#include "base/assert.h"
#include "durable/outlet.h"
#include "durable/record.h"
#include "durable/scatter.h"
#include "weir/weir.h"
#include "wire/problem.h"
#include <stdlib.h>

enum {
    STORE_AGAIN_MS = 1000,
    UNCOUNTED_MS = 1000,
    NO_ROOM_MS = 30000, /* longer: work was done in vain */
    PROGRESS_MOST = 256,
    RETRY_AFTER_MOST_MS = 24 * 3600 * 1000
};

static const struct requester_ops held_ops;

static uint64_t now_ms(const struct held *h) {
    return h->jobs->config.now_ms(h->jobs->config.ctx);
}

static uint64_t now_us(const struct held *h) {
    return h->jobs->config.now_us(h->jobs->config.ctx);
}

/* ---- memory ---- */

static bool copy_text(struct arena *a, struct slice *s) {
    if (s->n == 0) {
        *s = (struct slice){0};
        return true;
    }
    *s = arena_copy(a, *s);
    return s->p != NULL;
}

static bool copy_job(struct held *h, const struct store_job *from) {
    struct store_job *to = &h->job;
    *to = *from;
    to->reason = to->answer.head = to->answer.body.bytes = (struct slice){0};
    return copy_text(&h->texts, &to->service) && copy_text(&h->texts, &to->tenant) &&
           copy_text(&h->texts, &to->gather) && copy_text(&h->texts, &to->callback) &&
           copy_text(&h->texts, &to->message.head) && copy_text(&h->texts, &to->message.body.bytes);
}

struct held *held_new(struct jobs *j, const struct store_job *job) {
    struct held *h = calloc(1, sizeof(*h));
    if (!h) return NULL;
    h->magic = HELD_MAGIC;
    h->requester.ops = &held_ops;
    h->jobs = j;
    list_init(&h->table);
    list_init(&h->waiting);
    wheel_timer_init(&h->timer);
    arena_init(&h->texts, 0, NULL, 0);
    arena_init(&h->next_texts, 0, NULL, 0);
    if (copy_job(h, job)) h->line = jobs_line(j, job->service, job->tenant, job->priority);
    if (h->line) return h;
    held_free(h);
    return NULL;
}

void held_enter(struct held *h) {
    struct jobs *j = h->jobs;
    list_push_back(&j->held[h->job.id.lo % HELD_TABLE], &h->table);
    list_push_back(&j->waiting, &h->waiting);
    jobs_line_count(h->line, 1);
    j->stats.held++;
    j->held_bytes += held_size(h);
    j->retry_ms = 0;
}

static void drop_answer(struct held *h) {
    scatter_free(&h->scatter);
    intake_free(&h->intake);
    message_unref(h->going);
    h->going = NULL;
    buffer_reset(&h->head);
    buffer_reset(&h->body);
    h->status = 0;
}

/* Those with a worker leave room for others of their line. */
static void begun(struct held *h, bool is) {
    if (h->begun != is) jobs_line_begun(h->line, is ? 1 : -1);
    h->begun = is;
}

void held_free(struct held *h) {
    ASSERT(!h->busy);
    struct jobs *j = h->jobs;
    /* A worker may have yet to end an answer without a body. */
    if (h->request && core_request_alive(j->config.core, h->request))
        core_cancel(j->config.core, now_us(h), h->request, CORE_DELETED);
    begun(h, false);
    if (!list_empty(&h->table)) {
        j->stats.held--;
        j->held_bytes -= held_size(h);
        jobs_line_count(h->line, -1);
    }
    if (h->next_line) jobs_line_use(h->next_line, false);
    list_del(&h->table);
    list_del(&h->waiting);
    wheel_del(&j->wheel, &h->timer);
    body_unref(h->given);
    drop_answer(h);
    buffer_fini(&h->progress);
    arena_fini(&h->texts);
    arena_fini(&h->next_texts);
    h->magic = 0;
    free(h);
}

static bool take_back_blob(struct held *h);

void held_lose(struct held *h, enum core_cause cause) {
    if (h->request) core_cancel(h->jobs->config.core, now_us(h), h->request, cause);
    h->request = 0;
    h->lost = true;
    if (h->busy || (h->phase == HELD_STORING && take_back_blob(h))) return;
    held_free(h);
}

void held_drain(struct held *h) {
    if (h->phase == HELD_WAITING || h->phase == HELD_QUEUED) held_lose(h, CORE_DRAIN_OVER);
}

/* ---- telling the store ---- */

static void on_told(struct store_op *op);

static void tell(struct held *h, enum store_kind kind) {
    h->phase = HELD_STORING;
    wheel_del(&h->jobs->wheel, &h->timer);
    store_op_init(&h->op, kind, on_told);
    h->op.shard = h->jobs->config.shard;
    h->op.job.id = h->job.id;
    h->op.job.fence = h->job.fence;
}

static void submit_op(struct held *h) {
    h->busy = true;
    store_submit(h->jobs->config.store, &h->op);
}

/* Ended, for good, with what stands in head and body. reason: a fixed text. */
static void finish(struct held *h, enum store_job_state state, const char *reason) {
    const struct jobs_config *c = &h->jobs->config;
    uint64_t now = now_ms(h);
    struct store_body body = {.bytes = buffer_slice(&h->body)};
    if (h->intake) body = intake_take(h->intake);
    tell(h, STORE_JOB_FINISH);
    struct store_job *job = &h->op.job;
    job->state = state;
    job->ended = now;
    job->expires = now + (state == STORE_DEAD ? c->dead_ttl_ms : c->ttl_ms);
    job->callback_at = h->job.callback.n ? now : 0;
    job->reason = slice_of(reason);
    job->status = h->status;
    job->answer = (struct store_message){buffer_slice(&h->head), body};
    h->op.lazy = !jobs_watched(h->jobs, h->job.id);
    submit_op(h);
}

/* Back to the store, to be run again not before run_at. */
static void release(struct held *h, unsigned attempt, uint64_t run_at, const char *reason) {
    drop_answer(h);
    tell(h, STORE_JOB_RELEASE);
    h->op.job.attempt = attempt;
    h->op.job.run_at = run_at;
    h->op.job.reason = slice_of(reason);
    submit_op(h);
}

/* The hub's own answer. */
static int write_problem(struct held *h, unsigned status, const char *detail) {
    struct problem p = {.status = status, .detail = slice_of(detail), .service = h->job.service};
    drop_answer(h);
    int err = problem_write(&h->body, &p);
    if (err == 0)
        err = buffer_printf(&h->head,
                            "HTTP/1.1 %u %s\r\ncontent-type: application/problem+json\r\n"
                            "content-length: %zu\r\n\r\n",
                            status, status_text(status), buffer_size(&h->body));
    h->status = status;
    return err;
}

/* It could not be run, through no fault of its own: later, without this counting as an attempt. */
static void put_off(struct held *h, uint64_t ms, const char *reason) {
    release(h, h->job.attempt, now_ms(h) + ms, reason);
}

static void fail_for_good(struct held *h, unsigned status, const char *detail) {
    if (write_problem(h, status, detail) != 0)
        put_off(h, UNCOUNTED_MS, "out of memory");
    else
        finish(h, STORE_FAILED, detail);
}

/* Twice as long each time (truncated binary exponential backoff), and up to half of it less, so that what
   failed together does not come back together. */
static uint64_t backoff_ms(const struct held *h) {
    const struct jobs_config *c = &h->jobs->config;
    unsigned doublings = h->job.attempt < 40 ? h->job.attempt : 40;
    uint64_t wait =
        c->backoff_ms > c->backoff_most_ms >> doublings ? c->backoff_most_ms : c->backoff_ms << doublings;
    uint64_t least = wait / 2;
    uint64_t bits = 0;
    (void)c->random(&bits);
    wait = least + bits % (wait - least + 1);
    return wait > h->retry_after_ms ? wait : h->retry_after_ms;
}

static bool last_attempt(const struct held *h) {
    return h->job.attempt + 1 >= h->jobs->config.attempts;
}

/* An attempt has failed, with an answer that is kept if it was the last (in head and body, or the intake), or
   without one: then status says what the hub answers. */
static void attempt_failed(struct held *h, unsigned status, const char *reason) {
    if (!last_attempt(h)) {
        uint64_t run_at = now_ms(h) + backoff_ms(h);
        if (h->job.deadline && h->job.deadline < run_at) run_at = h->job.deadline; /* to fail then */
        h->jobs->stats.tried_again++;
        release(h, h->job.attempt + 1, run_at, reason);
    } else if (h->status == 0 && write_problem(h, status ? status : 502, reason) != 0) {
        put_off(h, UNCOUNTED_MS, "out of memory");
    } else {
        finish(h, STORE_DEAD, reason);
    }
}

/* It stands at the next hop now. */
static void told_step(struct held *h) {
    struct jobs *j = h->jobs;
    begun(h, false);
    arena_fini(&h->texts);
    h->texts = h->next_texts;
    j->held_bytes -= held_size(h);
    h->job = h->next;
    j->held_bytes += held_size(h);
    arena_init(&h->next_texts, 0, NULL, 0);
    jobs_line_count(h->next_line, 1);
    jobs_line_use(h->next_line, false);
    jobs_line_count(h->line, -1);
    h->line = h->next_line;
    h->next_line = NULL;
    h->phase = HELD_WAITING;
    buffer_reset(&h->progress);
    list_push_back(&j->waiting, &h->waiting);
    j->stats.steps++;
    j->retry_ms = 0;
    if (j->draining) held_free(h);
}

static void on_dropped(struct store_op *op) {
    struct held *h = CONTAINER_OF(op, struct held, op);
    h->busy = false;
    store_op_fini(op);
    held_free(h);
}

/* A blob that the store did not take is dropped, and then the job. */
static bool take_back_blob(struct held *h) {
    uint64_t blob = h->op.kind == STORE_JOB_FINISH ? h->op.job.answer.body.blob
                    : h->op.kind == STORE_JOB_STEP ? h->op.job.message.body.blob
                                                   : 0;
    if (!blob) return false;
    wheel_del(&h->jobs->wheel, &h->timer);
    h->lost = true;
    store_op_init(&h->op, STORE_BLOB_DROP, on_dropped);
    h->op.blob = blob;
    submit_op(h);
    return true;
}

/* The store has said how it went. */
static void on_told(struct store_op *op) {
    struct held *h = CONTAINER_OF(op, struct held, op);
    MAGIC_CHECK(h, HELD_MAGIC);
    struct jobs *j = h->jobs;
    int err = op->err;
    h->busy = false;
    store_op_fini(op);
    bool stale = err == WEIR_EFENCE || err == WEIR_ESTATE || err == WEIR_ENOTFOUND;
    if (stale) j->stats.late++;
    if ((stale || (h->lost && err != 0)) && take_back_blob(h)) return;
    if (stale || h->lost) {
        held_free(h);
    } else if (err != 0) {
        j->stats.store_retries++;
        wheel_add(&j->wheel, &h->timer, now_ms(h) + STORE_AGAIN_MS);
    } else if (op->kind == STORE_JOB_STEP) {
        told_step(h);
    } else {
        struct store_id id = h->job.id;
        enum store_job_state state = op->job.state;
        if (op->kind == STORE_JOB_RELEASE && op->job.run_at) jobs_due(j, op->job.run_at);
        if (op->kind == STORE_JOB_RELEASE && !op->job.run_at) jobs_line_waits(h->line);
        bool ended = op->kind == STORE_JOB_FINISH;
        uint64_t callback_of = h->job.callback.n ? op->job.ended : 0;
        held_free(h);
        if (ended) jobs_ended(j, id, state, callback_of);
    }
}

void held_timer(struct held *h) {
    if (h->phase == HELD_STORING) {
        submit_op(h);
        return;
    }
    if (h->request) core_cancel(h->jobs->config.core, now_us(h), h->request, CORE_DEADLINE);
    h->request = 0;
    drop_answer(h);
    attempt_failed(h, 504, "an attempt took longer than job-timeout");
}

/* ---- what the core says ---- */

static struct held *held_of(struct requester *r) {
    struct held *h = CONTAINER_OF(r, struct held, requester);
    MAGIC_CHECK(h, HELD_MAGIC);
    return h;
}

static void on_taken(struct requester *r) {
    struct held *h = held_of(r);
    h->phase = HELD_RUNNING;
    begun(h, true);
    h->started_ms = now_ms(h);
    buffer_reset(&h->progress);
    wheel_add(&h->jobs->wheel, &h->timer, h->started_ms + h->jobs->config.timeout_ms);
}

static void on_progress(struct requester *r, struct slice text) {
    struct held *h = held_of(r);
    if (text.n > PROGRESS_MOST) text.n = PROGRESS_MOST;
    buffer_reset(&h->progress);
    (void)buffer_append_slice(&h->progress, text); /* without memory it is not seen */
}

/* The core is done with its message. True: what is stored of its body could not be read, which is not its
   worker's fault. */
static bool give_no_more(struct held *h) {
    bool unread = h->given && body_error(h->given) == WEIR_EIO;
    body_unref(h->given);
    h->given = NULL;
    return unread;
}

static void on_fail(struct requester *r, const struct failure *why) {
    struct held *h = held_of(r);
    unsigned status = why->status ? why->status : error_status(why->error);
    bool unread = give_no_more(h);
    h->request = 0;
    if (h->phase == HELD_STORING) return; /* its answer was there, only its end was not */
    wheel_del(&h->jobs->wheel, &h->timer);
    if (h->phase == HELD_ANSWERING || why->error == WEIR_EDRAINING) {
        held_lose(h, CORE_DRAIN_OVER); /* the next hub to start takes it up */
    } else if (why->error == WEIR_EDEADLINE) {
        fail_for_good(h, status, "its deadline passed");
    } else if (status == 503 || why->error == WEIR_EFULL || why->error == WEIR_EQUEUETIME) { /* not begun */
        h->phase = HELD_WAITING;
        begun(h, false);
        list_push_front(&h->jobs->waiting, &h->waiting); /* before what came after it */
        jobs_retry(h->jobs);
    } else if (unread) {
        put_off(h, UNCOUNTED_MS, "what is stored of it could not be read");
    } else {
        attempt_failed(h, status, why->detail ? why->detail : error_text(why->error));
    }
}

/* ---- an answer ---- */

/* Statuses that say that another time might be better (RFC 9110 15.6; 15.5.9; RFC 8470 5.2; RFC 6585 4). */
static bool worth_another(unsigned status) {
    return status >= 500 || status == 408 || status == 425 || status == 429;
}

static void judge(struct held *h) {
    bool failed = worth_another(h->status);
    if (failed && !last_attempt(h)) {
        attempt_failed(h, 0, "its worker answered with an error");
        return;
    }
    struct store_body body = intake_peek(h->intake);
    if (record_answer_end(&h->head, h->status, &body) != 0)
        put_off(h, UNCOUNTED_MS, "out of memory");
    else if (failed)
        finish(h, STORE_DEAD, "its worker answered with an error");
    else
        finish(h, h->status >= 400 ? STORE_FAILED : STORE_DONE,
               h->status >= 400 ? "its worker answered that it cannot be done" : NULL);
}

static void on_answer_in(void *ctx, int err) {
    struct held *h = ctx;
    wheel_del(&h->jobs->wheel, &h->timer);
    if (err == 0 && !h->head.starved)
        judge(h);
    else if (err == 0 || err == WEIR_ENOSPACE || err == WEIR_EUNAVAILABLE || err == WEIR_ENOMEM)
        put_off(h, NO_ROOM_MS, "its answer could not be stored");
    else {
        drop_answer(h);
        attempt_failed(h, 502, "its worker went away before its answer was whole");
    }
}

static void take_in(struct held *h, struct body *body, void (*done)(void *ctx, int err)) {
    const struct jobs_config *c = &h->jobs->config;
    struct intake_config in = {
        .store = c->store, .shard = c->shard, .max_bytes = UINT64_MAX, .done = done, .ctx = h};
    h->phase = HELD_ANSWERING;
    if (intake_new(&in, body, &h->intake) != 0) done(h, WEIR_ENOMEM);
}

static void on_reply(struct requester *r, const struct http_head *head, struct body *body) {
    struct held *h = held_of(r);
    (void)give_no_more(h);
    struct slice after = head_get(head, HEAD_RETRY_AFTER);
    uint64_t s;
    h->status = head->status;
    h->retry_after_ms = after.p && slice_u64(after, &s) && s <= RETRY_AFTER_MOST_MS / 1000 ? s * 1000 : 0;
    if (record_answer(&h->head, head) != 0) h->head.starved = true;
    take_in(h, body, on_answer_in);
}

/* ---- the next hop ---- */

/* All that the store and this hub need to know of it. */
static int describe_hop(struct held *h) {
    struct store_job *next = &h->next;
    struct store_body body = intake_peek(h->intake);
    struct arena *a = &h->next_texts;
    next->message.body = body;
    int err = record_request(&h->head, &h->going->head, &body, next->service);
    next->message.head = buffer_slice(&h->head);
    if (err == 0 && !(copy_text(a, &next->message.head) && copy_text(a, &next->message.body.bytes) &&
                      copy_text(a, &next->tenant) && copy_text(a, &next->callback)))
        err = WEIR_ENOMEM;
    if (err == 0) h->next_line = jobs_line(h->jobs, next->service, next->tenant, next->priority);
    if (h->next_line) jobs_line_use(h->next_line, true);
    return err == 0 && !h->next_line ? WEIR_ENOMEM : err;
}

static void on_hop_in(void *ctx, int err) {
    struct held *h = ctx;
    if (err == 0) err = describe_hop(h);
    if (err == 0) {
        (void)intake_take(h->intake);
        drop_answer(h);
        tell(h, STORE_JOB_STEP);
        h->op.job = h->next;
        submit_op(h);
    } else if (err == WEIR_ENOSPACE || err == WEIR_EUNAVAILABLE || err == WEIR_ENOMEM) {
        put_off(h, NO_ROOM_MS, "its next hop could not be stored");
    } else {
        drop_answer(h);
        attempt_failed(h, 502, "its worker went away before all that it forwards had come");
    }
}

static void on_forward(struct requester *r, const struct requester_hop *hop) {
    struct held *h = held_of(r);
    (void)give_no_more(h);
    h->request = 0;
    arena_fini(&h->next_texts);
    arena_init(&h->next_texts, 0, NULL, 0);
    h->going = hop->message;
    h->next = h->job;
    h->next.kind = hop->scatter ? STORE_HOP_SCATTER : STORE_HOP_PLAIN;
    h->next.service = arena_copy(&h->next_texts, hop->service);
    h->next.gather = hop->gather;
    if (!hop->scatter) h->next.hop++; /* its parts and what is gathered are hops of their own */
    h->next.attempt = 0;
    if (hop->cost) h->next.cost = hop->cost;
    if (h->next.hop > h->jobs->config.max_hops)
        fail_for_good(h, 508, "it was forwarded more often than max-hops");
    else if (!h->next.service.p || !copy_text(&h->next_texts, &h->next.gather))
        put_off(h, UNCOUNTED_MS, "out of memory");
    else
        take_in(h, hop->message->body, on_hop_in);
}

static void on_part(struct requester *r, const struct requester_part *part) {
    scatter_part(held_of(r), part);
}

static const struct requester_ops held_ops = {.taken = on_taken,
                                              .reply = on_reply,
                                              .fail = on_fail,
                                              .forward = on_forward,
                                              .part = on_part,
                                              .progress = on_progress};

/* ---- giving it to the core ---- */

static int make_message(struct held *h, struct message **ret) {
    const struct jobs_config *c = &h->jobs->config;
    struct message *m = NULL;
    int err = record_message(h->job.message.head, c->max_head * 4, &m);
    if (err == 0) err = outlet_open(c->store, c->shard, &h->job.message.body, &m->body);
    if (err == 0 && m->body) h->given = body_ref(m->body);
    if (err != 0)
        message_unref(m);
    else
        *ret = m;
    return err;
}

static struct core_request describe_request(struct held *h, struct message *m) {
    const struct store_job *job = &h->job;
    uint64_t now = now_ms(h), left = job->deadline > now ? job->deadline - now : 0;
    return (struct core_request){.requester = &h->requester,
                                 .message = m,
                                 .bytes = m->arena.used + (m->body ? body_held(m->body) : 0),
                                 .service = job->service,
                                 .tenant = job->tenant,
                                 .deadline = job->deadline ? now_us(h) + left * 1000 : 0,
                                 .cost = job->cost,
                                 .priority = job->priority,
                                 .idempotent = true, /* of its parts: they are run again as it is */
                                 .durable = true,
                                 .hop = job->hop,
                                 .attempt = job->attempt};
}

/* The core, or who gathers, did not take it. Returns what held_submit does. */
static int not_taken(struct held *h, int err, const struct failure *why) {
    if (err == WEIR_EFULL || err == WEIR_EDRAINING || err == WEIR_ENOMEM) {
        h->phase = HELD_WAITING;
        list_push_front(&h->jobs->waiting, &h->waiting);
        jobs_retry(h->jobs);
        return err;
    }
    if (err == WEIR_EDEADLINE)
        fail_for_good(h, 504, "its deadline passed");
    else if (err == WEIR_ENOSERVICE)
        attempt_failed(h, 502, "there is no such service");
    else
        fail_for_good(h, why->status ? why->status : error_status(err),
                      why->detail ? why->detail : error_text(err));
    return 0;
}

/* What is stored of a scattered hop is there. */
void held_scatter_read(struct held *h, int err) {
    const struct jobs_config *c = &h->jobs->config;
    struct message *m = NULL;
    struct failure why = {0};
    if (err == 0) err = record_message(h->job.message.head, c->max_head * 4, &m);
    if (err != 0) {
        put_off(h, UNCOUNTED_MS, "what is stored of it could not be read");
        return;
    }
    struct jobs_scatter s = {
        .request = describe_request(h, m), .service = h->job.service, .gather = h->job.gather};
    s.parts = scatter_parts(h->scatter, &s.count);
    err = c->scatter(c->ctx, &s, scatter_body(h->scatter), &h->request, &why);
    scatter_free(&h->scatter);
    if (err == 0) {
        on_taken(&h->requester); /* its attempt begins */
        return;
    }
    message_unref(m);
    h->not_before_ms = now_ms(h) + UNCOUNTED_MS;
    (void)not_taken(h, err, &why);
}

static int submit_scattered(struct held *h) {
    int err = now_ms(h) < h->not_before_ms ? WEIR_EFULL : scatter_new(h, &h->scatter);
    if (err != 0) return err;
    list_del(&h->waiting);
    h->phase = HELD_QUEUED;
    return 0;
}

int held_submit(struct held *h) {
    const struct jobs_config *c = &h->jobs->config;
    struct message *m;
    if (h->job.kind == STORE_HOP_SCATTER) return submit_scattered(h);
    int err = make_message(h, &m);
    if (err == WEIR_ENOMEM) return err;
    list_del(&h->waiting);
    if (err != 0) {
        fail_for_good(h, 500, "what is stored of it makes no sense");
        return 0;
    }
    struct core_request r = describe_request(h, m);
    struct failure why = {0};
    h->phase = HELD_QUEUED;
    err = core_submit(c->core, now_us(h), &r, &h->request, &why);
    if (err == 0) return 0;
    (void)give_no_more(h);
    message_unref(m);
    return not_taken(h, err, &why);
}
