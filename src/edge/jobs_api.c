/* SPDX-License-Identifier: Apache-2.0 */
/* Durable jobs for clients: Prefer: respond-async on any request for a service, and /-/jobs (docs/protocol.md
   "Durable jobs"). Tenants see their own jobs only. */
#include "durable/callbacks.h"
#include "durable/outlet.h"
#include "edge/api.h"
#include "edge/jobs_page.h"
#include "edge/json.h"
#include "weir/weir.h"
#include "wire/http1.h"
#include "wire/target.h"
#include <stdlib.h>

enum { LIST_STANDARD = 100, LIST_MOST = 1000, PURGE_AT_ONCE = 1000, KEY_MOST = 255 };
#define WAIT_MOST_MS (3600ull * 1000)
#define DELAY_MOST_MS (365ull * 24 * 3600 * 1000)

enum verb { SUBMIT, SHOW, RESULT, CANCEL, RETRY, LIST, PURGE };

/* One call under way. It outlives its request when the client leaves while the store is asked. */
struct job_call {
    struct api_call api;
    struct ask *ask; /* NULL: the client has left, or has been answered */
    struct jobs *jobs;
    enum verb verb;
    struct store_id id;
    uint64_t until_ms; /* waits for its end until then; 0: does not */
    struct jobs_ticket *ticket;
    struct jobs_watch watch;
    struct store_op op;
    struct jobs_call change;
    bool asking, changing; /* op or change is under way */
    bool ended;            /* the watch has told so */
    uint64_t purged;
    struct arena texts;
    struct slice tenant, service;
    bool any_tenant;
};

static void let_go(struct job_call *c) {
    if (c->ask || c->asking || c->changing) return;
    arena_fini(&c->texts);
    free(c);
}

static void on_left(struct api_call *api) {
    struct job_call *c = CONTAINER_OF(api, struct job_call, api);
    c->ask = NULL;
    if (c->ticket) jobs_ticket_drop(c->ticket);
    c->ticket = NULL;
    jobs_unwatch(c->jobs, &c->watch);
    let_go(c);
}

/* The request, to be answered now; NULL: nobody waits any more. */
static struct ask *take_ask(struct job_call *c) {
    struct ask *a = c->ask;
    if (a) a->call = NULL;
    c->ask = NULL;
    jobs_unwatch(c->jobs, &c->watch);
    return a;
}

static void on_told(struct jobs_watch *w, bool ended);

static struct job_call *call_new(struct ask *a, enum verb verb, struct slice tenant) {
    const struct edge_config *cfg = &a->conn->edge->config;
    struct job_call *c = calloc(1, sizeof(*c));
    if (!c) return NULL;
    c->api.left = on_left;
    c->ask = a;
    c->jobs = cfg->jobs;
    c->verb = verb;
    jobs_watch_init(&c->watch);
    c->watch.told = on_told;
    arena_init(&c->texts, 0, NULL, 0);
    c->any_tenant = !cfg->token_required && cfg->tenant_header.n == 0;
    c->tenant = tenant.n ? arena_copy(&c->texts, tenant) : tenant;
    if (tenant.n && !c->tenant.p) {
        c->ask = NULL;
        let_go(c);
        return NULL;
    }
    a->call = &c->api;
    return c;
}

/* ---- answers ---- */

static void problem(struct job_call *c, int err, unsigned status, const char *detail) {
    struct ask *a = take_ask(c);
    unsigned again = err == WEIR_EUNAVAILABLE ? 1 : 0;
    if (a) reply_problem(a, err, status, detail, again, false);
}

static void json_page(struct ask *a, unsigned status, json_t *page, const struct reply_field *fields,
                      size_t n) {
    char *text = page ? json_dumps(page, JSON_COMPACT) : NULL;
    json_decref(page);
    if (text)
        reply_own(a, status, "application/json", fields, n, slice_of(text));
    else
        reply_problem(a, WEIR_ENOMEM, 0, NULL, 0, false);
    free(text);
}

enum { LOCATION = sizeof("/-/jobs/") + STORE_ID_TEXT };
static struct slice location(struct store_id id, char text[LOCATION]) {
    char digits[STORE_ID_TEXT];
    memcpy(text, "/-/jobs/", 8);
    memcpy(text + 8, store_id_text(id, digits).p, STORE_ID_TEXT);
    return (struct slice){text, 8 + STORE_ID_TEXT};
}

/* 202: it is stored, and has not ended (RFC 7240 4.1). page is taken. */
static void accepted(struct job_call *c, json_t *page) {
    struct ask *a = take_ask(c);
    char where[LOCATION];
    struct reply_field fields[] = {{SLICE("location"), location(c->id, where)},
                                   {SLICE("preference-applied"), SLICE("respond-async")}};
    if (a)
        json_page(a, 202, page, fields, c->verb == SUBMIT ? 2 : 1);
    else
        json_decref(page);
}

static json_t *brief(struct store_id id, const char *state) {
    char digits[STORE_ID_TEXT];
    return json_pack("{s:o,s:s}", "id", json_text(store_id_text(id, digits)), "state", state);
}

/* The stored answer itself. */
static void stored(struct job_call *c, const struct store_job *job) {
    struct ask *a = take_ask(c);
    struct arena arena;
    struct http_head head;
    struct body *body = NULL;
    if (!a) return;
    arena_init(&arena, 0, NULL, 0);
    int err = http1_response(job->answer.head, &arena, &head, NULL);
    if (err != 0 && err != WEIR_ENOMEM) err = WEIR_ECORRUPT;
    if (err == 0 && !a->head_method) err = outlet_open(jobs_store(c->jobs), 0, &job->answer.body, &body);
    if (err == 0)
        a->requester.ops->reply(&a->requester, &head, body);
    else
        reply_problem(a, err, 0, NULL, 0, false);
    body_unref(body);
    arena_fini(&arena);
}

/* ---- asking the store ---- */

static void on_got(struct store_op *op);

static void ask_store(struct job_call *c, enum store_kind kind) {
    store_op_init(&c->op, kind, on_got);
    c->op.job.id = c->id;
    c->op.job.tenant = c->tenant;
    c->op.any_tenant = c->any_tenant;
    c->asking = true;
}

static void get_job(struct job_call *c) {
    ask_store(c, STORE_JOB_GET);
    store_submit(jobs_store(c->jobs), &c->op);
}

static void on_told(struct jobs_watch *w, bool ended) {
    struct job_call *c = CONTAINER_OF(w, struct job_call, watch);
    c->until_ms = 0;
    c->ended |= ended;
    if (!c->asking) get_job(c); /* else its answer looks again */
}

static bool has_ended(const struct store_job *job) {
    return STORE_ENDED_MASK >> job->state & 1;
}

static void show_result(struct job_call *c, const struct store_job *job) {
    if (!has_ended(job) && c->until_ms > jobs_now_ms(c->jobs)) return; /* the watch goes on */
    if (!has_ended(job))
        accepted(c, c->verb == SUBMIT ? brief(c->id, jobs_page_state(c->jobs, job))
                                      : jobs_page_job(c->jobs, job));
    else if (job->status)
        stored(c, job);
    else
        problem(c, WEIR_ENOTFOUND, 410, "it was cancelled, and has no answer");
}

static void on_changed(struct jobs_call *change, int err) {
    struct job_call *c = CONTAINER_OF(change, struct job_call, change);
    c->changing = false;
    if (err == WEIR_ESTATE)
        problem(c, err, 409, c->verb == CANCEL ? "it has ended" : "it is not dead");
    else if (err != 0)
        problem(c, err, 0, NULL);
    else if (c->verb == RETRY)
        accepted(c, brief(c->id, "queued"));
    else {
        struct ask *a = take_ask(c);
        if (a) json_page(a, 200, brief(c->id, "cancelled"), NULL, 0);
    }
    let_go(c);
}

static void change(struct job_call *c) {
    c->change.done = on_changed;
    c->changing = true;
    if (c->verb == CANCEL)
        jobs_cancel(c->jobs, c->id, &c->change);
    else
        jobs_revive(c->jobs, c->id, &c->change);
}

static void got_job(struct job_call *c, const struct store_job *job) {
    bool seen = c->any_tenant || slice_eq(job->tenant, c->tenant);
    if (!seen) {
        problem(c, WEIR_ENOTFOUND, 0, "no such job");
    } else if (c->verb == SHOW) {
        struct ask *a = take_ask(c);
        if (a) json_page(a, 200, jobs_page_job(c->jobs, job), NULL, 0);
    } else if (c->verb == CANCEL || c->verb == RETRY) {
        change(c);
    } else if (c->ended && !has_ended(job)) {
        c->ended = false;
        get_job(c); /* it ended after this had been read; or was revived at once */
    } else {
        show_result(c, job);
    }
}

static void got_list(struct job_call *c, const struct store_op *op) {
    struct ask *a = take_ask(c);
    json_t *list = json_array();
    char digits[STORE_ID_TEXT];
    if (!a) return;
    for (size_t i = 0; i < op->count; i++) {
        const struct store_job *job = &op->jobs[i];
        unsigned running = 1u << STORE_LEASED, shown = op->states;
        bool runs = strcmp(jobs_page_state(c->jobs, job), "running") == 0;
        bool wanted = job->state != STORE_LEASED || (runs ? shown & running : shown & 1u << STORE_QUEUED);
        if (wanted) json_array_append_new(list, jobs_page_job(c->jobs, job));
    }
    json_t *next =
        op->count == op->limit ? json_text(store_id_text(op->jobs[op->count - 1].id, digits)) : json_null();
    json_page(a, 200, json_pack("{s:o,s:o}", "jobs", list, "next", next), NULL, 0);
}

static void purge_more(struct job_call *c, const struct store_op *before);

static void on_got(struct store_op *op) {
    struct job_call *c = CONTAINER_OF(op, struct job_call, op);
    struct store_op got = *op; /* the call may ask again */
    c->asking = false;
    if (!c->ask)
        ; /* nobody is there */
    else if (got.err != 0)
        problem(c, got.err, 0, got.err == WEIR_ENOTFOUND ? "no such job" : NULL);
    else if (c->verb == LIST)
        got_list(c, &got);
    else if (c->verb == PURGE)
        purge_more(c, &got);
    else
        got_job(c, &got.ret_job);
    store_op_fini(&got);
    let_go(c);
}

/* ---- submitting ---- */

bool jobs_api_wanted(const struct ask *a) {
    uint64_t wait;
    return a->conn->edge->config.jobs && jobs_page_prefer(&a->message->head, &wait);
}

static void on_stored(void *ctx, int err, struct store_id id, bool repeated) {
    struct job_call *c = ctx;
    (void)repeated;
    c->ticket = NULL;
    c->id = c->watch.id = id;
    if (err == WEIR_ECONFLICT)
        problem(c, err, 0, "this Idempotency-Key has come with another request");
    else if (err != 0)
        problem(c, err, 0, err == WEIR_ETOOBIG ? "the body is over max-body" : NULL);
    else if (c->until_ms) {
        jobs_watch(c->jobs, &c->watch, c->until_ms);
        get_job(c); /* a repeated one may have ended long ago */
    } else
        accepted(c, brief(id, "queued"));
    let_go(c);
}

/* What the client says of it. */
static int read_order(const struct ask *a, struct jobs_order *o, const char **ret_why) {
    const struct http_head *head = &a->message->head;
    struct slice delay = head_get(head, HEAD_WEIR_DELAY);
    struct wishes w;
    int err = ask_wishes(a, &w, ret_why);
    if (err != 0) return err;
    if (delay.p && (!slice_duration_ms(delay, &o->delay_ms) || o->delay_ms > DELAY_MOST_MS)) {
        *ret_why = "Weir-Delay must be a duration such as 10m, at most 365 days";
        return WEIR_EINVAL;
    }
    o->callback = head_get(head, HEAD_WEIR_CALLBACK);
    if (o->callback.p &&
        (*ret_why = callbacks_refuse(jobs_callbacks(a->conn->edge->config.jobs), o->callback)))
        return WEIR_EINVAL;
    o->key = head_get(head, HEAD_IDEMPOTENCY_KEY);
    if (o->key.n > KEY_MOST) {
        *ret_why = "Idempotency-Key has more than 255 bytes";
        return WEIR_EINVAL;
    }
    o->timeout_ms = w.timeout_given ? w.timeout_ms : 0;
    o->cost = w.cost;
    o->priority = w.priority;
    return 0;
}

void jobs_api_submit(struct ask *a) {
    struct http_head *head = &a->message->head;
    struct jobs_order order = {.message = a->message, .service = a->service, .done = on_stored};
    struct failure failure = {0};
    uint64_t wait_ms;
    (void)jobs_page_prefer(head, &wait_ms);
    if (wait_ms > WAIT_MOST_MS) wait_ms = WAIT_MOST_MS;
    int err = ask_tenant(a, &order.tenant, &failure.detail);
    if (err == 0) err = read_order(a, &order, &failure.detail);
    if (err == 0) err = request_prepare(a);
    head_remove(head, HEAD_PREFER); /* it was the hub's */
    if (err == 0) err = ask_add_body(a);
    struct job_call *c = err == 0 ? call_new(a, SUBMIT, order.tenant) : NULL;
    if (err == 0 && !c) err = WEIR_ENOMEM;
    failure.error = err;
    if (err == 0) {
        c->until_ms = wait_ms ? jobs_now_ms(c->jobs) + wait_ms : 0;
        order.ctx = c;
        struct conn *conn = a->conn;
        err = jobs_accept(c->jobs, &order, &c->ticket, &failure);
        if (err == 0) { /* the request may have been answered by now */
            if (conn->ask != a || a->call != &c->api) return;
            a->requester.ops->taken(&a->requester);
            ask_read_body(a);
            return;
        }
        (void)take_ask(c);
        let_go(c);
    }
    reply_problem(a, failure.error, failure.status, failure.detail, failure.retry_after_s, false);
}

/* ---- /-/jobs ---- */

static void purge(struct job_call *c, unsigned states, uint64_t now, uint64_t after) {
    ask_store(c, STORE_JOB_PURGE);
    c->op.states = states;
    c->op.job.service = c->service;
    c->op.now = now;
    c->op.after = after;
    c->op.limit = PURGE_AT_ONCE;
    store_submit(jobs_store(c->jobs), &c->op);
}

static void purge_more(struct job_call *c, const struct store_op *before) {
    c->purged += before->count;
    if (before->more) {
        purge(c, before->states, before->now, before->next);
        return;
    }
    struct ask *a = take_ask(c);
    if (a) json_page(a, 200, json_pack("{s:o}", "purged", json_number(c->purged)), NULL, 0);
}

/* The answer when a parameter is wrong; NULL: all is well. */
static const char *read_list(struct job_call *c, struct slice query, unsigned *ret_states,
                             uint64_t *ret_limit) {
    struct arena *t = &c->texts;
    struct slice limit = query_value(query, SLICE("limit"), t), after = query_value(query, SLICE("after"), t);
    c->service = query_value(query, SLICE("service"), t);
    *ret_limit = LIST_STANDARD;
    if (!jobs_page_states(query_value(query, SLICE("state"), t), ret_states))
        return "state is a list of queued, running, done, failed, cancelled, dead";
    if (limit.p && (!slice_u64(limit, ret_limit) || *ret_limit == 0 || *ret_limit > LIST_MOST))
        return "limit is a number from 1 to 1000";
    if (after.p && !store_id_parse(after, &c->id)) return "after is a job's id";
    return NULL;
}

static void list(struct job_call *c, struct slice query) {
    unsigned states;
    uint64_t limit;
    const char *wrong = read_list(c, query, &states, &limit);
    if (wrong) {
        problem(c, WEIR_EINVAL, 0, wrong);
        let_go(c);
        return;
    }
    ask_store(c, STORE_JOB_LIST);
    c->op.job.service = c->service;
    c->op.states = states;
    c->op.limit = (size_t)limit;
    store_submit(jobs_store(c->jobs), &c->op);
}

/* DELETE /-/jobs?state=...: those that have ended (older-than ago) go. */
static void begin_purge(struct job_call *c, struct slice query) {
    struct slice state = query_value(query, SLICE("state"), &c->texts);
    struct slice older = query_value(query, SLICE("older-than"), &c->texts);
    uint64_t now = jobs_now_ms(c->jobs), ago = 0;
    unsigned states = 0;
    const char *wrong = NULL;
    c->service = query_value(query, SLICE("service"), &c->texts);
    if (!state.n || !jobs_page_states(state, &states) || states & ~STORE_ENDED_MASK)
        wrong = "state must say which ended jobs are to go: a list of done, failed, cancelled, dead";
    else if (older.p && !slice_duration_ms(older, &ago))
        wrong = "older-than is a duration such as 2h";
    if (wrong) {
        problem(c, WEIR_EINVAL, 0, wrong);
        let_go(c);
        return;
    }
    purge(c, states, ago < now ? now - ago : 0, 0);
}

/* ?wait=30s */
static int read_wait(struct job_call *c, struct slice query) {
    struct slice wait = query_value(query, SLICE("wait"), &c->texts);
    uint64_t ms = 0;
    if (wait.p && !slice_duration_ms(wait, &ms)) return WEIR_EINVAL;
    if (ms > WAIT_MOST_MS) ms = WAIT_MOST_MS;
    c->until_ms = ms ? jobs_now_ms(c->jobs) + ms : 0;
    return 0;
}

static void begin(struct job_call *c, struct slice query) {
    c->watch.id = c->id;
    if (c->verb == RESULT && read_wait(c, query) != 0) {
        problem(c, WEIR_EINVAL, 0, "wait is a duration such as 30s");
        let_go(c);
        return;
    }
    if (c->until_ms) jobs_watch(c->jobs, &c->watch, c->until_ms);
    get_job(c);
}

/* What a method asks for at a path; false: nothing, or (with *ret_allow) not by this method. */
static bool find_verb(const struct ask *a, struct slice id, struct slice part, enum verb *ret,
                      const char **ret_allow) {
    struct slice method = a->message->head.method;
    bool get = slice_eq(method, SLICE("GET")) || a->head_method;
    bool del = slice_eq(method, SLICE("DELETE")), post = slice_eq(method, SLICE("POST"));
    if (part.n == 0) {
        *ret_allow = "GET, HEAD, DELETE";
        *ret = get ? (id.n ? SHOW : LIST) : (id.n ? CANCEL : PURGE);
        return get || del;
    }
    bool result = slice_eq(part, SLICE("result"));
    if (!result && !slice_eq(part, SLICE("retry"))) return false;
    *ret_allow = result ? "GET, HEAD" : "POST";
    *ret = result ? RESULT : RETRY;
    return result ? get : post;
}

void jobs_api_serve(struct ask *a, struct slice rest, struct slice query, struct slice tenant) {
    (void)slice_next(&rest, '/'); /* what stands before the first */
    struct slice id = rest.p ? slice_next(&rest, '/') : (struct slice){0}, part = rest;
    struct store_id number = {0};
    const char *allow = NULL;
    enum verb verb;
    if (id.n && !store_id_parse(id, &number)) {
        reply_problem(a, WEIR_ENOTFOUND, 0, "no such job: it is not a job's id", 0, false);
        return;
    }
    if (!find_verb(a, id, part, &verb, &allow)) {
        if (allow)
            reply_not_allowed(a, slice_of(allow));
        else
            reply_problem(a, WEIR_ENOTFOUND, 0, "nothing is served at this path", 0, false);
        return;
    }
    struct job_call *c = api_ignore_body(a) == 0 ? call_new(a, verb, tenant) : NULL;
    if (!c) {
        reply_problem(a, WEIR_ENOMEM, 0, NULL, 0, false);
        return;
    }
    c->id = number;
    if (verb == LIST)
        list(c, query);
    else if (verb == PURGE)
        begin_purge(c, query);
    else
        begin(c, query);
}
