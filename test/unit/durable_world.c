/* SPDX-License-Identifier: Apache-2.0 */
#include "durable_world.h"
#include "lib/fault.h"
#include "weir/weir.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

_Noreturn void dw_violated(const char *format, ...) {
    va_list args;
    fflush(stdout);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n");
    abort();
}

void dw_must(bool condition, const char *what) {
    if (!condition) dw_violated("the world: %s", what);
}

/* ---- the gate ---- */

static struct gate *gate_of(struct store *s) {
    return CONTAINER_OF(s, struct gate, base);
}

static void gate_submit(struct store *s, struct store_op *op) {
    struct gate *g = gate_of(s);
    dw_must(g->count < DW_OPS, "more operations under way than there is room for");
    g->ops[g->count++] = (struct gate_op){.op = op, .done = op->done};
}

static void gate_stats(struct store *s, struct store_stats *ret) {
    store_stats(gate_of(s)->model, ret);
}

static void gate_turn(struct store *s) {
    (void)s;
}

static const struct store_ops gate_ops = {.submit = gate_submit, .turn = gate_turn, .stats = gate_stats};

/* A writer takes these one after the other, whatever they are about. */
static bool in_line(const struct store_op *op) {
    return op->kind <= STORE_PART_PUT && op->kind != STORE_JOB_GET && op->kind != STORE_JOB_LIST;
}

static bool before(const struct gate *g, const struct store_op *a, const struct store_op *b) {
    if (!g->loose && in_line(a) && in_line(b)) return true;
    return model_ordered(a, b) || a->kind == STORE_JOB_LOAD;
}

bool gate_may_apply(const struct gate *g, size_t i) {
    if (g->ops[i].applied) return false;
    for (size_t k = 0; k < i; k++)
        if (!g->ops[k].applied && before(g, g->ops[k].op, g->ops[i].op)) return false;
    return true;
}

bool gate_may_tell(const struct gate *g, size_t i) {
    if (!g->ops[i].applied) return false;
    for (size_t k = 0; k < i; k++)
        if (before(g, g->ops[k].op, g->ops[i].op)) return false;
    return true;
}

static void on_applied(struct store_op *op) {
    (void)op;
}

void gate_apply(struct gate *g, size_t i) {
    struct gate_op *o = &g->ops[i];
    o->applied = true;
    int fault = g->dead ? WEIR_EUNAVAILABLE : g->fault ? g->fault(g->ctx, o->op) : 0;
    if (fault != 0) {
        o->op->err = fault;
    } else {
        fault_pause();
        o->op->done = on_applied;
        store_submit(g->model, o->op);
        store_turn(g->model);
        o->op->done = o->done;
        fault_resume();
    }
    if (g->applied && !g->dead) g->applied(g->ctx, o->op);
}

void gate_tell(struct gate *g, size_t i) {
    struct gate_op o = g->ops[i];
    memmove(&g->ops[i], &g->ops[i + 1], (g->count - i - 1) * sizeof(*g->ops));
    g->count--;
    list_init(&o.op->link);
    if (g->dead) o.op->err = WEIR_EUNAVAILABLE;
    if (g->telling && !g->dead) g->telling(g->ctx, o.op);
    o.done(o.op);
}

void gate_flush(struct gate *g) {
    while (g->count > 0) {
        if (!g->ops[0].applied) gate_apply(g, 0);
        gate_tell(g, 0);
    }
}

/* ---- bytes ---- */

uint64_t dw_sum(uint64_t sum, const void *bytes, size_t n) {
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i++) sum = (sum ^ p[i]) * UINT64_C(0x100000001b3);
    return sum;
}

void dw_fill(struct buffer *out, uint64_t seed, size_t n) {
    char *p = buffer_reserve(out, n);
    dw_must(p || n == 0, "out of memory");
    for (size_t i = 0; i < n; i++) p[i] = (char)('a' + (seed + i / 7) % 26);
    buffer_commit(out, n);
}

void dw_next_target(const char *target, char ret[64]) {
    const char *dot = strchr(target, '.');
    if (dot)
        snprintf(ret, 64, "%.*s.%lu", (int)(dot - target), target, strtoul(dot + 1, NULL, 10) + 1);
    else
        snprintf(ret, 64, "%s", target);
}

/* ---- from beginning to end ---- */

uint64_t dw_us(const struct dw *w) {
    return w->ms * 1000;
}

static uint64_t now_ms(void *ctx) {
    const struct dw *w = ctx;
    return w->ms;
}

static uint64_t now_us(void *ctx) {
    return dw_us(ctx);
}

static uint64_t random_state = 1; /* the engine's random has no context */

static int some_random(uint64_t *ret) {
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    *ret = random_state ^ random_state >> 33;
    return 0;
}

static void release(void *ctx, void *message) {
    (void)ctx;
    message_unref(message);
}

static bool replayable(void *ctx, const void *message) {
    (void)ctx;
    const struct message *m = message;
    return !m->body || body_replayable(m->body);
}

static struct slice value(void *ctx, const void *message, enum core_value kind, struct slice name) {
    (void)ctx;
    const struct message *m = message;
    return kind == CORE_VALUE_HEADER ? head_get_name(&m->head, name) : (struct slice){0};
}

void dw_defaults(struct dw *w) {
    *w = (struct dw){.ms = UINT64_C(1700000000000)};
    list_init(&w->gathers);
    list_init(&w->busy);
    core_defaults(&w->core_config);
    w->core_config.release = release;
    w->core_config.replayable = replayable;
    w->core_config.value = value;
    core_service_defaults(&w->service_config);
    w->config = (struct jobs_config){.now_ms = now_ms,
                                     .now_us = now_us,
                                     .random = some_random,
                                     .max_head = DW_HEAD,
                                     .max_hops = 20,
                                     .attempts = 3,
                                     .backoff_ms = 1000,
                                     .backoff_most_ms = 60000,
                                     .timeout_ms = 600000,
                                     .ttl_ms = 3600000,
                                     .dead_ttl_ms = 7200000,
                                     .key_ttl_ms = 1800000,
                                     .max_body = 10 << 20,
                                     .scatter = dw_gather_run};
}

void dw_open(struct dw *w) {
    fault_pause();
    w->gate.base.ops = &gate_ops;
    w->gate.model = model_new();
    fault_resume();
    w->core_config.ctx = w->config.ctx = w;
    w->config.store = &w->gate.base;
    random_state = w->random ? w->random : 1;
}

int dw_start(struct dw *w) {
    fault_pause();
    w->core = core_new(&w->core_config, dw_us(w));
    dw_must(w->core != NULL, "out of memory");
    for (char name = 'a'; name < 'a' + DW_SERVICES; name++)
        dw_must(core_service_define(w->core, (struct slice){&name, 1}, &w->service_config) == 0, "a service");
    fault_resume();
    w->config.core = w->core;
    int err = jobs_new(&w->config, &w->jobs);
    if (err != 0) {
        core_free(w->core);
        w->core = NULL;
    }
    return err;
}

static void drop_body(struct dw_lease *l) {
    if (!l->body) return;
    body_producer(l->body, (struct body_side){0});
    body_unref(l->body);
    l->body = NULL;
}

static void lease_end(struct dw_lease *l) {
    drop_body(l);
    message_unref(l->message);
    *l = (struct dw_lease){0};
}

static void drop_all(struct dw *w) {
    for (unsigned i = 0; i < DW_LEASES; i++)
        if (w->leases[i].state) lease_end(&w->leases[i]);
    memset(w->workers, 0, sizeof w->workers);
    dw_gather_drop(w);
    jobs_free(&w->jobs);
    core_free(w->core);
    w->core = NULL;
}

void dw_stop(struct dw *w) {
    jobs_close(w->jobs);
    gate_flush(&w->gate);
    drop_all(w);
}

void dw_crash(struct dw *w, bool (*keep)(const struct store_op *op, void *ctx), void *ctx) {
    struct gate *g = &w->gate;
    fault_pause();
    for (size_t i = 0; i < g->count; i++) {
        if (g->ops[i].applied) continue;
        list_init(&g->ops[i].op->link);
        store_submit(g->model, g->ops[i].op);
    }
    model_crash(g->model, keep, ctx);
    /* The memory of the dead is given back. */
    g->dead = true;
    for (size_t i = 0; i < g->count; i++) g->ops[i].applied = true;
    dw_stop(w);
    g->dead = false;
    fault_resume();
}

void dw_close(struct dw *w) {
    if (w->jobs) dw_stop(w);
    store_close(&w->gate.model);
}

/* ---- what the core wants ---- */

static struct dw_lease *lease_of(struct dw *w, uint64_t worker, uint64_t job) {
    for (unsigned i = 0; i < DW_LEASES; i++)
        if (w->leases[i].state && w->leases[i].worker == worker && w->leases[i].job == job)
            return &w->leases[i];
    return NULL;
}

static void send(struct dw *w, const struct core_action *a) {
    unsigned i = 0;
    while (i < DW_LEASES && w->leases[i].state) i++;
    dw_must(i < DW_LEASES, "more jobs at workers than there is room for");
    struct dw_lease *l = &w->leases[i];
    struct message *m = a->message;
    a->requester->ops->taken(a->requester);
    if (m->body && a->resend) body_rewind(m->body);
    *l = (struct dw_lease){.state = LEASE_RUNNING,
                           .worker = a->worker,
                           .job = a->job,
                           .message = message_ref(m),
                           .hop = a->hop,
                           .attempt = a->attempt,
                           .durable = !dw_gather_part(a->requester),
                           .sent_ms = w->ms,
                           .sum = dw_sum(0, "", 0)};
    snprintf(l->service, sizeof l->service, "%.*s", SLICE_ARG(a->service));
    snprintf(l->target, sizeof l->target, "%.*s", SLICE_ARG(m->head.target));
    if (w->sent) w->sent(w->ctx, l);
}

static void cancel(struct dw *w, const struct core_action *a) {
    struct dw_lease *l = lease_of(w, a->worker, a->job);
    dw_must(l != NULL, "a cancel of a job that its worker does not have");
    l->cause = a->cause;
    if (w->cancelled) w->cancelled(w->ctx, l);
    l->state = LEASE_LEAVING;
    l->cancelled = true;
    drop_body(l);
}

bool dw_act(struct dw *w) {
    struct core_action a;
    bool any = dw_gather_turn(w);
    while (core_next_action(w->core, &a)) {
        any = true;
        if (a.kind == CORE_SEND) send(w, &a);
        if (a.kind == CORE_CANCEL) cancel(w, &a);
        if (a.kind == CORE_FAIL) a.requester->ops->fail(a.requester, &a.why);
        if (a.kind == CORE_ENDED) a.requester->ops->fail(a.requester, &(struct failure){.error = WEIR_ECUT});
        bool over = a.kind == CORE_FAIL || a.kind == CORE_GONE || a.kind == CORE_ENDED;
        if (over && a.gatherer) a.gatherer->gone(a.gatherer);
    }
    return any;
}

void dw_settle(struct dw *w) {
    bool any = true;
    for (unsigned turns = 0; any; turns++) {
        dw_must(turns < 100000, "it goes on and on");
        any = false;
        if (!w->gate.held) gate_flush(&w->gate);
        core_tick(w->core, dw_us(w));
        jobs_tick(w->jobs, w->ms);
        while (dw_act(w)) any = true;
        any |= jobs_next_time(w->jobs) <= w->ms || (w->gate.count > 0 && !w->gate.held);
    }
}

void dw_pass(struct dw *w, uint64_t ms) {
    uint64_t until = w->ms + ms;
    dw_settle(w);
    while (w->ms < until) {
        uint64_t next = jobs_next_time(w->jobs), core = core_next_time(w->core);
        if (core != UINT64_MAX && (core + 999) / 1000 < next) next = (core + 999) / 1000;
        if (next <= w->ms) next = w->ms + 1;
        w->ms = next < until ? next : until;
        dw_settle(w);
    }
}

/* ---- workers ---- */

struct message *dw_message(struct dw *w, const char *target, const void *bytes, size_t n, bool whole) {
    (void)w;
    fault_pause();
    struct message *m = message_new(DW_HEAD * 4);
    dw_must(m != NULL, "out of memory");
    m->head.method = SLICE("POST");
    m->head.target = arena_copy(&m->arena, slice_of(target));
    dw_must(head_add(&m->head, &m->arena, HEAD_HOST, SLICE("hub.example")) == 0, "out of memory");
    dw_must(head_add(&m->head, &m->arena, HEAD_CONTENT_TYPE, SLICE("text/plain")) == 0, "out of memory");
    if (n > 0 || !whole) {
        m->body = body_new(n + 65536, n);
        dw_must(m->body && body_write(m->body, bytes, n) == 0, "out of memory");
        if (whole) body_end(m->body);
    }
    fault_resume();
    return m;
}

unsigned dw_attach(struct dw *w, const char *services, unsigned slots) {
    unsigned n = 0;
    while (n < DW_WORKERS && w->workers[n]) n++;
    dw_must(n < DW_WORKERS, "too many workers");
    fault_pause();
    struct core_worker worker = {.port = &w->workers[n], .id = SLICE("w")};
    dw_must(core_worker_attach(w->core, dw_us(w), &worker, &w->workers[n]) == 0, "a worker");
    for (const char *p = services; *p; p++)
        dw_must(core_worker_offer(w->core, dw_us(w), w->workers[n], (struct slice){p, 1}) == 0, "an offer");
    core_worker_slots(w->core, dw_us(w), w->workers[n], slots);
    fault_resume();
    return n;
}

static void cut(struct dw_lease *l) {
    if (l->body) body_abort(l->body, WEIR_ECUT);
    drop_body(l);
}

void dw_gone(struct dw *w, unsigned worker) {
    uint64_t id = w->workers[worker];
    w->workers[worker] = 0;
    core_worker_gone(w->core, dw_us(w), id);
    for (unsigned i = 0; i < DW_LEASES; i++) {
        struct dw_lease *l = &w->leases[i];
        if (!l->state || l->worker != id) continue;
        cut(l);
        lease_end(l);
    }
}

struct dw_lease *dw_find(struct dw *w, const char *target) {
    struct dw_lease *found = NULL;
    for (unsigned i = 0; i < DW_LEASES; i++) {
        struct dw_lease *l = &w->leases[i];
        if (!l->state || l->state == LEASE_LEAVING || strcmp(l->target, target) != 0) continue;
        if (found) dw_violated("violated: %s is at two workers at once", target);
        found = l;
    }
    return found;
}

unsigned dw_running(const struct dw *w) {
    unsigned n = 0;
    for (unsigned i = 0; i < DW_LEASES; i++) n += w->leases[i].state && !w->leases[i].cancelled;
    return n;
}

void dw_read(struct dw *w, struct dw_lease *l) {
    (void)w;
    struct body *b = l->message->body;
    struct slice s;
    while (b && (s = body_peek(b)).n > 0) {
        l->sum = dw_sum(l->sum, s.p, s.n);
        l->read += s.n;
        body_consume(b, s.n);
    }
}

static void make_head(struct http_head *head, struct arena *a, const struct dw_answer *answer) {
    arena_init(a, 0, NULL, 0);
    *head = (struct http_head){.status = answer->status ? answer->status : 200};
    dw_must(head_add(head, a, HEAD_CONTENT_TYPE, SLICE("text/plain")) == 0, "out of memory");
    if (answer->name)
        dw_must(head_add_name(head, a, slice_of(answer->name), slice_of(answer->value)) == 0,
                "out of memory");
}

static struct body *make_body(const struct dw_answer *a) {
    if (a->n == 0 && !a->open) return NULL;
    struct body *b = body_new(a->n + 65536, 0);
    dw_must(b && body_write(b, a->bytes, a->n) == 0, "out of memory");
    if (!a->open) body_end(b);
    return b;
}

bool dw_reply(struct dw *w, struct dw_lease *l, const struct dw_answer *a) {
    struct arena arena;
    struct http_head head;
    dw_must(l->state == LEASE_RUNNING || l->state == LEASE_LEAVING, "a second answer");
    struct requester *r = core_job_answer(w->core, dw_us(w), l->worker, l->job);
    if (!r) {
        l->state = LEASE_LEAVING;
        return false;
    }
    fault_pause();
    make_head(&head, &arena, a);
    l->body = make_body(a);
    fault_resume();
    l->state = LEASE_REPLYING;
    if (l->message->body) body_forget(l->message->body);
    r->ops->reply(r, &head, l->body);
    arena_fini(&arena);
    if (!a->open) dw_end(w, l);
    return true;
}

static bool hand_over(struct dw *w, struct dw_lease *l, const char *target, const struct dw_answer *a,
                      struct requester_hop *hop) {
    struct arena arena;
    struct http_head head;
    fault_pause();
    make_head(&head, &arena, a);
    struct body *body = make_body(a);
    l->body = a->open ? body_ref(body) : NULL;
    dw_must(message_forward(l->message, slice_of(target), &head, body, &hop->message) == 0, "a forward");
    arena_fini(&arena);
    fault_resume();
    struct requester *r = core_job_hand_over(w->core, dw_us(w), l->worker, l->job);
    l->state = a->open ? LEASE_HANDING : LEASE_LEAVING;
    if (r) {
        r->ops->forward(r, hop);
        return true;
    }
    message_unref(hop->message);
    drop_body(l);
    l->state = LEASE_LEAVING;
    return false;
}

bool dw_forward(struct dw *w, struct dw_lease *l, const char *service, const char *target,
                const struct dw_answer *a) {
    struct requester_hop hop = {.service = slice_of(service)};
    return hand_over(w, l, target, a, &hop);
}

bool dw_scatter(struct dw *w, struct dw_lease *l, const char *service, const char *gather, unsigned count,
                const struct dw_answer *a) {
    struct requester_hop hop = {.service = slice_of(service), .scatter = true, .gather = slice_of(gather)};
    struct buffer text;
    buffer_init(&text);
    fault_pause();
    dw_must(buffer_printf(&text, "%u;", count) == 0 && buffer_append(&text, a->bytes, a->n) == 0,
            "out of memory");
    fault_resume();
    struct dw_answer with = *a;
    with.bytes = buffer_slice(&text).p;
    with.n = buffer_size(&text);
    char target[64];
    dw_next_target(l->target, target);
    bool taken = hand_over(w, l, target, &with, &hop);
    buffer_fini(&text);
    return taken;
}

void dw_more(struct dw *w, struct dw_lease *l, const void *bytes, size_t n) {
    (void)w;
    fault_pause();
    if (l->body) (void)body_write(l->body, bytes, n);
    fault_resume();
}

void dw_end(struct dw *w, struct dw_lease *l) {
    if (l->body) body_end(l->body);
    drop_body(l);
    if (l->state == LEASE_REPLYING) core_job_done(w->core, dw_us(w), l->worker, l->job);
    l->state = LEASE_LEAVING;
}

void dw_free(struct dw *w, struct dw_lease *l) {
    core_slot_free(w->core, dw_us(w), l->worker, l->job);
    lease_end(l);
}

void dw_lose(struct dw *w, struct dw_lease *l) {
    cut(l);
    core_job_lost(w->core, dw_us(w), l->worker, l->job);
    lease_end(l);
}

void dw_hand_back(struct dw *w, struct dw_lease *l) {
    dw_must(l->state == LEASE_RUNNING, "handed back what had been answered");
    core_job_handed_back(w->core, dw_us(w), l->worker, l->job);
    lease_end(l);
}

void dw_done(struct dw *w, struct dw_lease *l) {
    (void)dw_reply(w, l, &(struct dw_answer){.status = 200, .bytes = "fine", .n = 4});
    dw_free(w, l);
}

/* ---- clients ---- */

static void on_put(void *ctx, int err, struct store_id id, bool repeated) {
    struct dw_put *p = ctx;
    p->err = err;
    p->id = id;
    p->repeated = repeated;
    p->told++;
    p->ticket = NULL;
}

int dw_submit(struct dw *w, struct dw_put *p, const char *target, struct slice body,
              struct jobs_order order) {
    *p = (struct dw_put){.err = DW_PENDING};
    struct message *m = order.message ? order.message : dw_message(w, target, body.p, body.n, true);
    struct jobs_ticket *ticket = NULL;
    order.message = m;
    if (!order.service.n) order.service = SLICE("a");
    order.done = on_put;
    order.ctx = p;
    int err = jobs_accept(w->jobs, &order, &ticket, &p->why);
    if (p->err == DW_PENDING) p->ticket = ticket;
    if (p->err != DW_PENDING && ticket)
        dw_violated("violated: a ticket that is given back after it was told");
    if (err != 0 && p->told) dw_violated("violated: refused, and told");
    message_unref(m);
    return err;
}

static void on_called(struct jobs_call *c, int err) {
    CONTAINER_OF(c, struct dw_call, call)->err = err;
}

void dw_cancel(struct dw *w, struct store_id id, struct dw_call *c) {
    *c = (struct dw_call){.err = DW_PENDING, .call.done = on_called};
    jobs_cancel(w->jobs, id, &c->call);
}

void dw_revive(struct dw *w, struct store_id id, struct dw_call *c) {
    *c = (struct dw_call){.err = DW_PENDING, .call.done = on_called};
    jobs_revive(w->jobs, id, &c->call);
}

/* ---- looking ---- */

enum store_job_state dw_state(struct dw *w, struct store_id id) {
    struct store_op op;
    if (!dw_get(w, id, &op)) return STORE_STATES;
    enum store_job_state state = op.ret_job.state;
    dw_forget(&op);
    return state;
}

struct jobs_stats dw_stats(const struct dw *w) {
    struct jobs_stats s;
    jobs_stats(w->jobs, &s);
    return s;
}

static void look(struct dw *w, struct store_op *op) {
    fault_pause();
    store_submit(w->gate.model, op);
    store_turn(w->gate.model);
    fault_resume();
}

bool dw_get(struct dw *w, struct store_id id, struct store_op *op) {
    store_op_init(op, STORE_JOB_GET, on_applied);
    op->job.id = id;
    look(w, op);
    if (op->err != 0) store_op_fini(op);
    return op->err == 0;
}

void dw_list(struct dw *w, struct store_op *op) {
    store_op_init(op, STORE_JOB_LIST, on_applied);
    op->any_tenant = true;
    op->states = ~0u;
    op->limit = SIZE_MAX;
    look(w, op);
}

void dw_forget(struct store_op *op) {
    store_op_fini(op);
}
