/* SPDX-License-Identifier: Apache-2.0 */
/* What each call must bring about. See model.h. */
#include "model.h"
#include "weir/weir.h"
#include <stdarg.h>
#include <stdio.h>

void model_violated(struct model *m, enum invariant which, const char *format, ...) {
    char text[300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    m->violated(m->ctx, which, text);
}

void model_say(const struct model *m, const char *format, ...) {
    if (!m->verbose) return;
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

const char *model_error(int error) {
    switch (error) {
#define TEXT(name, value, text, status, retryable)                                                           \
    case value:                                                                                              \
        return text;
        WEIR_ERRORS(TEXT)
#undef TEXT
    default:
        return "ok";
    }
}

#define NUMBER(id) (unsigned long long)(id)

/* ---- bookkeeping ---- */

int model_service(const struct model *m, struct slice name) {
    for (int i = 0; i < SERVICES; i++)
        if (slice_eq(name, slice_of(m->services[i].name))) return i;
    return -1;
}

bool model_batched(const struct model *m) {
    return m->calls > 1;
}

bool model_has_room(const struct mworker *w) {
    return w->busy < w->slots && !w->draining && !w->gate_until;
}

static bool fulfils(const struct mworker *w, unsigned label) {
    return label == 0 || w->labels >> label & 1;
}

static bool may_run(const struct mworker *w, unsigned service, unsigned need) {
    return w->offers >> service & 1 && fulfils(w, need);
}

bool model_eligible(const struct mworker *w, const struct mrequest *r) {
    return may_run(w, r->service, r->need) && (fulfils(w, r->wish) || r->wish_unknown);
}

/* Is there a worker with room for it, whatever it wishes? */
static bool room_for(struct model *m, unsigned service, unsigned need) {
    FOR_WORKERS(m, w) {
        if (model_has_room(w) && may_run(w, service, need)) return true;
    }
    return false;
}

static uint64_t ms_floor(uint64_t us) {
    return us / 1000 * 1000;
}

/* Its queue time has passed. One that came back too late for it still gets its chance until the next
 * millisecond. */
bool model_overdue(const struct model *m, const struct mrequest *r) {
    uint64_t queue_time = m->services[r->service].config.queue_time_us, ms = ms_floor(m->now);
    return r->place == WAITING && queue_time && r->queued_at + queue_time <= ms && r->returned_at < ms;
}

bool model_may_shed(const struct model *m, const struct mrequest *r, bool certain) {
    const struct mservice *s = &m->services[r->service];
    const struct core_service_config *c = &s->config;
    if (r->maybe_shed && !certain) return true;
    if (!c->shed_wait_us || m->now - r->queued_at < c->shed_wait_us) return false;
    const struct mbusy *b = &s->busy[model_pool(r)];
    return b->unsure || r->key || r->wish_unknown ? !certain : m->now - b->since >= c->shed_after_us;
}

static struct mworker *worker_of(struct model *m, uint64_t id) {
    FOR_WORKERS(m, w) {
        if (w->id == id) return w;
    }
    m->want.late++;
    return NULL;
}

static struct mlease *lease_of(struct model *m, uint64_t worker, uint64_t job) {
    FOR_LEASES(m, l) {
        if (l->job == job && l->worker->id == worker) return l;
    }
    m->want.late++;
    return NULL;
}

static void release(void *ctx, void *message) {
    struct token *t = message;
    if (!t->in_core) model_violated(ctx, NOTHING_GROWS, "a message was released twice");
    t->in_core = false;
}

static bool replayable(void *ctx, const void *message) {
    struct model *m = ctx;
    FOR_REQUESTS(m, r) {
        if (r->token == message) return r->replayable;
    }
    model_violated(m, CONTRACT, "asked about a message of no request");
    return false;
}

static struct slice value(void *ctx, const void *message, enum core_value kind, struct slice name) {
    const struct token *t = message;
    if (kind != CORE_VALUE_HEADER || !t->in_core)
        model_violated(ctx, CONTRACT, "asked for what nobody named");
    return slice_of(slice_eq(name, SLICE("must")) ? t->must : slice_eq(name, SLICE("key")) ? t->key : t->may);
}

static size_t choose(void *ctx, struct slice service, const void *message,
                     const struct core_candidate *workers, size_t n) {
    struct model *m = ctx;
    int s = model_service(m, service);
    if (!((const struct token *)message)->in_core || n < 2 || n > CORE_CANDIDATES || s < 0)
        model_violated(m, CONTRACT, "asked to choose among %zu", n);
    for (size_t i = 0; i < n; i++) {
        bool found = false;
        FOR_WORKERS(m, w) found |= w->id == workers[i].worker && w->offers >> s & 1;
        if (!found) model_violated(m, CONTRACT, "asked to choose worker %llu", NUMBER(workers[i].worker));
    }
    return (size_t)(++m->chosen % (n + 1));
}

static struct token *token_new(struct model *m, unsigned need, unsigned wish, unsigned key) {
    for (struct token *t = m->tokens; t < m->tokens + TOKENS; t++) {
        if (t->in_core) continue;
        *t = (struct token){.in_core = true};
        if (need) t->must[0] = (char)('0' + need);
        if (wish) t->may[0] = (char)('0' + wish);
        if (key) t->key[0] = (char)('0' + key);
        return t;
    }
    model_violated(m, NOTHING_GROWS, "messages are not released");
    return NULL;
}

void model_lease_end(struct model *m, struct mlease *l) {
    m->past[m->past_count++ % PAST] = (struct past){l->worker->id, l->job, l->request};
    l->worker->busy--;
    *l = (struct mlease){0};
}

void model_request_end(struct mrequest *r, struct model *m) {
    m->past[m->past_count++ % PAST] = (struct past){0, 0, r->id};
    m->live--;
    *r = (struct mrequest){0};
}

/* The request depends on the lease no more; the slot stays busy. */
static void part(struct mrequest *r) {
    r->lease->r = NULL;
    r->lease = NULL;
}

static void expect_cancel(struct mrequest *r, enum core_cause cause) {
    r->lease->cancel_due = true;
    r->lease->cause = cause;
    part(r);
}

void model_expect_fail(struct model *m, struct mrequest *r, int error, unsigned status) {
    r->place = FAILING;
    r->error = error;
    r->status = status;
    m->want.failed++;
}

/* It waits among those of its pool, class and tenant, which may make their turns begin. */
static void join_lane(struct model *m, struct mrequest *r, bool head) {
    bool first = true, busy = false, surely_busy = false;
    FOR_REQUESTS(m, q) {
        if (q == r || q->place != WAITING || q->service != r->service) continue;
        if (model_pool(q) != model_pool(r)) continue;
        busy = true;
        surely_busy |= !model_may_shed(m, q, false);
        first &= q->priority != r->priority || q->tenant != r->tenant || q->position < 0;
    }
    struct mbusy *b = &m->services[r->service].busy[model_pool(r)];
    if (!busy) *b = (struct mbusy){.since = m->now};
    b->unsure |= model_batched(m) || busy != surely_busy;
    if (model_batched(m) || m->lacking)
        m->share_epoch++;
    else if (first && !head)
        share_begin(m, r);
}

/* Those whom it wishes for are not there (any more): the core will notice, or has. */
void model_look_for_wished(struct model *m, struct mrequest *r) {
    FOR_WORKERS(m, w) {
        if (may_run(w, r->service, r->need) && fulfils(w, r->wish) && !w->draining) return;
    }
    r->wish_unknown = r->unordered = true;
    m->share_epoch++;
}

static void wait_again(struct model *m, struct mrequest *r, bool head) {
    r->place = WAITING;
    r->position = head ? --m->first_position : ++m->last_position;
    r->unordered = m->lacking || r->wish_unknown; /* it may stand among others */
    r->returned = head;
    r->returned_at = head ? m->now : 0;
    r->lease = NULL;
    if (head && r->wish && r->queued_at + m->services[r->service].config.prefer_us <= m->now) {
        r->wish = 0; /* it has waited for them long enough */
        r->wish_unknown = false;
    }
    if (head && r->wish) model_look_for_wished(m, r);
    join_lane(m, r, head);
}

static bool is_full(struct model *m, unsigned service, size_t bytes, bool surely);

/* Its service has rules for workers: what they say of it, when it is queued there for the first time. */
static void set_wishes(struct model *m, struct mrequest *r, unsigned need, unsigned wish, unsigned key) {
    const struct core_service_config *c = &m->services[r->service].config;
    r->priority = r->asked < c->best_priority ? c->best_priority : r->asked;
    r->key = c->key.n ? key : 0;
    r->need = r->wish = r->wish_unknown = 0;
    if (r->key) return;
    r->need = c->require.n ? need : 0;
    r->wish = r->wish_unknown = 0;
    if (!c->prefer.n || !wish) return;
    bool anybody = false, free = false;
    FOR_WORKERS(m, w) {
        if (!may_run(w, r->service, r->need) || !fulfils(w, wish) || w->draining) continue;
        anybody = true;
        free |= model_has_room(w);
    }
    r->wish = anybody && (c->prefer_us || free || model_batched(m)) ? wish : 0;
    r->wish_unknown = r->wish && (m->lacking || model_batched(m) || is_full(m, r->service, r->bytes, false));
}

static bool settles(const struct model *m, const struct mrequest *r) {
    uint64_t end = r->queued_at + m->services[r->service].config.prefer_us, ms = ms_floor(m->now);
    return r->place == WAITING && r->wish && end <= ms && r->returned_at < ms;
}

/* Those who have waited long enough for whom they wish for go among those who wish for nobody. */
static void settle_for_any(struct model *m) {
    unsigned n = 0;
    FOR_REQUESTS(m, r) n += settles(m, r);
    if (n > 1 || (n && model_batched(m))) m->share_epoch++;
    FOR_REQUESTS(m, r) {
        if (!settles(m, r)) continue;
        if (model_batched(m)) { /* unless it was handed out before */
            r->wish_unknown = r->unordered = true;
            continue;
        }
        r->maybe_shed = model_may_shed(m, r, false); /* which comes first */
        r->wish = 0;
        r->wish_unknown = false;
        r->maybe_shed |= model_may_shed(m, r, false); /* there, by those who end in this call themselves */
        join_lane(m, r, false);
    }
    FOR_REQUESTS(m, r) n += r->place == WAITING && r->wish && r->wish_unknown; /* or so it may have been */
    m->calls += n > 0; /* what is handed out by that is a call's worth of its own */
}

static void leave(struct model *m, struct mrequest *r);

/* The request has no parts any more: they are cancelled, and nobody hears of it but their workers, and
   whoever gathers what became of them. */
static void drop_parts(struct model *m, struct mrequest *r) {
    FOR_REQUESTS(m, part) {
        if (part->parent != r) continue;
        part->parent = NULL;
        m->uncertain |= part->place == FAILING || model_overdue(m, part) ||
                        (part->place == WAITING && model_may_shed(m, part, false)); /* which came first? */
        if (part->place != FAILING && part->place != LEAVING) m->want.cancelled[0][CORE_PARENT_GONE]++;
        if (part->lease) expect_cancel(part, CORE_PARENT_GONE);
        leave(m, part);
    }
}

/* It ends without a word to its requester. */
static void leave(struct model *m, struct mrequest *r) {
    if (r->place == GATHERING) drop_parts(m, r);
    if (r->has_gatherer)
        r->place = LEAVING;
    else
        model_request_end(r, m);
}

/* The core has let a deadline pass. */
static void time_out(struct model *m, struct mrequest *r) {
    m->want.cancelled[0][CORE_DEADLINE]++;
    m->want.rejected_deadline++;
    if (r->place == AT_WORK) expect_cancel(r, CORE_DEADLINE);
    if (r->place == GATHERING) drop_parts(m, r);
    model_expect_fail(m, r, WEIR_EDEADLINE, 0);
}

/* Begins each call: what was due happens before it. */
static void begin(struct model *m, uint64_t now) {
    if (now > m->now) m->now = now;
    m->calls++;
    m->relabelled &= model_batched(m);
    m->arrival = NULL;
    FOR_WORKERS(m, w) {
        if (!w->gate_until || w->gate_until > m->now) continue;
        w->gate_until = 0;
        m->calls++; /* what it takes on is a call's worth of its own */
    }
    m->uncertain |=
        m->may_have_pushed && model_batched(m); /* what happens now may happen to one that has failed */
    m->calls += m->ring_due;
    FOR_REQUESTS(m, r) {
        if (r->place != WAITING && r->place != AT_WORK && r->place != GATHERING) continue;
        bool overdue = model_overdue(m, r);
        if (overdue && model_batched(m)) m->uncertain = r->maybe_overdue = true;
        if (r->deadline && !r->parent && r->deadline <= ms_floor(m->now)) {
            time_out(m, r);
        } else if (overdue && !model_batched(m)) {
            m->want.rejected_queue_time++;
            m->uncertain |=
                m->services[r->service].config.shed_wait_us != 0; /* or was it overloaded before? */
            model_expect_fail(m, r, WEIR_EQUEUETIME, 0);
        }
    }
    settle_for_any(m);
}

/* ---- beginning and end ---- */

bool model_begin(struct model *m, const struct core_config *config, uint64_t now) {
    m->config = *config;
    m->config.release = release;
    m->config.replayable = replayable;
    m->config.value = value;
    m->config.choose = m->choosing ? choose : NULL;
    m->config.ctx = m;
    m->now = now;
    m->core = core_new(&m->config, now);
    for (int i = 0; i < SERVICES; i++) snprintf(m->services[i].name, sizeof m->services[i].name, "s%d", i);
    return m->core != NULL;
}

void model_end(struct model *m) {
    core_free(m->core);
    m->core = NULL;
    for (struct token *t = m->tokens; t < m->tokens + TOKENS; t++)
        if (t->in_core) model_violated(m, NOTHING_GROWS, "a message outlives the core");
}

/* ---- clients ---- */

static unsigned known_services(const struct model *m) {
    unsigned n = 0;
    for (int i = 0; i < SERVICES; i++) n += m->services[i].known;
    return n;
}

/* Would the queue take it? With free slots unknown (batched) only the answer "full" can be wrong. */
static bool is_full(struct model *m, unsigned service, size_t bytes, bool surely) {
    const struct core_service_config *c = &m->services[service].config;
    size_t here = 0, all = 0;
    uint64_t here_bytes = bytes, all_bytes = bytes;
    FOR_REQUESTS(m, r) {
        if (r->place != WAITING || (surely && model_may_shed(m, r, false))) continue;
        all++;
        all_bytes += r->bytes;
        if (r->service != service) continue;
        here++;
        here_bytes += r->bytes;
    }
    return here >= c->max_queued || here_bytes > c->max_queued_bytes || all >= m->config.max_queued ||
           all_bytes > m->config.max_queued_bytes;
}

static void compare_full(struct model *m, int err, unsigned service, unsigned need, size_t bytes) {
    bool full = is_full(m, service, bytes, true);
    if (err == WEIR_EFULL && !is_full(m, service, bytes, false))
        model_violated(m, BOUNDS, "refused as full, but it is not");
    m->may_have_pushed |= err == WEIR_ENOMEM && is_full(m, service, bytes, false);
    if (err == 0 && model_batched(m) && is_full(m, service, bytes, false))
        m->may_have_pushed = m->uncertain =
            true; /* and what was pushed out may have met something else since */
    if (model_batched(m)) return;
    bool room = room_for(m, service, m->services[service].config.require.n ? need : 0);
    const struct core_service_config *c = &m->services[service].config;
    if (err == WEIR_EFULL && room && !c->key.n)
        model_violated(m, BOUNDS, "refused as full, with a free slot");
    if (err != 0 || (room && !c->key.n)) return;
    m->may_have_pushed |= is_full(m, service, bytes, false);
    if (!c->key.n) m->pushed += full; /* a ring may have just let some of the keyed ones go */
}

static uint64_t token_ns(const struct mtenant *t) {
    return UINT64_C(3600000000000) / t->config.rate_per_h;
}

/* How long until the tenant may come again. */
static uint64_t bucket_wait(const struct mtenant *t, uint64_t now) {
    if (!t->config.rate_per_h) return 0;
    uint64_t full = t->full_at > now * 1000 ? t->full_at - now * 1000 : 0;
    uint64_t room = (t->config.burst - 1) * token_ns(t);
    return full > room ? (full - room + 999) / 1000 : 0;
}

static const char *const tenant_names[TENANTS] = {"", "one", "two", "three"};

static unsigned asked_priority(const struct model *m, const struct marrival *a) {
    unsigned tenant = m->tenants[a->tenant].config.best_priority;
    return a->priority < tenant ? tenant : a->priority;
}

static void compare_submit(struct model *m, const struct marrival *a, int s, int err) {
    int want = m->draining                            ? WEIR_EDRAINING
               : s < 0 || !m->services[s].known       ? WEIR_ENOSERVICE
               : a->deadline && a->deadline <= m->now ? WEIR_EDEADLINE
                                                      : 0;
    if (want == 0 && bucket_wait(&m->tenants[a->tenant], m->now) > 0) want = WEIR_ERATE;
    if (want == 0 && m->services[s].config.key.n && !a->key) want = WEIR_EINVAL;
    m->last_tenant = a->tenant;
    if (want == 0 && (err == 0 || err == WEIR_EFULL || (err == WEIR_ENOMEM && m->lacking))) {
        compare_full(m, err, (unsigned)s, a->need, a->bytes);
        return;
    }
    if (err != want) model_violated(m, CONTRACT, "submit said %s", model_error(err));
}

void model_submit(struct model *m, uint64_t now, const struct marrival *a) {
    begin(m, now);
    struct mrequest *r = m->requests;
    while (r->place != NOWHERE) r++;
    struct token *t = token_new(m, a->need, a->wish, a->key);
    struct core_request request = {.requester = &r->requester,
                                   .message = t,
                                   .bytes = a->bytes,
                                   .service = slice_of(a->service),
                                   .tenant = slice_of(tenant_names[a->tenant]),
                                   .deadline = a->deadline,
                                   .cost = a->cost,
                                   .priority = a->priority,
                                   .idempotent = a->idempotent};
    struct failure why = {0};
    uint64_t id = 0;
    int s = model_service(m, request.service), err = core_submit(m->core, now, &request, &id, &why);
    model_say(m, "%llu submit %s p%u t%u must %u may %u key %u%s%s -> %llu %s", NUMBER(m->now), a->service,
              a->priority, a->tenant, a->need, a->wish, a->key, a->idempotent ? " idempotent" : "",
              a->deadline ? " deadline" : "", NUMBER(id), model_error(err));
    compare_submit(m, a, s, err);
    if (err != 0) {
        t->in_core = false;
        if (why.error != err) model_violated(m, CONTRACT, "the failure says otherwise");
        m->want.rejected_draining += err == WEIR_EDRAINING;
        m->want.rejected_no_service += err == WEIR_ENOSERVICE;
        m->want.rejected_deadline += err == WEIR_EDEADLINE;
        m->want.rejected_full += err == WEIR_EFULL;
        m->want.rejected_rate += err == WEIR_ERATE;
        m->want.rejected_labels += err == WEIR_EINVAL;
        uint64_t wait = bucket_wait(&m->tenants[a->tenant], m->now);
        if (err == WEIR_ERATE && why.retry_after_s != (wait + 999999) / 1000000)
            model_violated(m, CONTRACT, "Retry-After %u", why.retry_after_s);
        return;
    }
    struct mtenant *tenant = &m->tenants[a->tenant];
    if (tenant->config.rate_per_h)
        tenant->full_at =
            (tenant->full_at > m->now * 1000 ? tenant->full_at : m->now * 1000) + token_ns(tenant);
    *r = (struct mrequest){.id = id,
                           .service = (unsigned)s,
                           .tenant = a->tenant,
                           .cost = a->cost,
                           .asked = asked_priority(m, a),
                           .deadline = a->deadline,
                           .queued_at = m->now,
                           .bytes = a->bytes,
                           .idempotent = a->idempotent,
                           .replayable = a->replayable,
                           .token = t};
    set_wishes(m, r, a->need, a->wish, a->key);
    wait_again(m, r, false);
    m->live++;
    m->want.submitted++;
    m->arrival = r;
}

void model_cancel(struct model *m, uint64_t now, uint64_t request) {
    begin(m, now);
    model_say(m, "%llu cancel %llu", NUMBER(m->now), NUMBER(request));
    core_cancel(m->core, now, request, CORE_CLIENT_GONE);
    FOR_REQUESTS(m, r) {
        if (r->id != request) continue;
        if (r->place == LEAVING) return;                                    /* cancelled twice */
        m->uncertain |= r->place == WAITING && model_may_shed(m, r, false); /* it may have failed before */
        if (r->place != FAILING && r->place != CUT) m->want.cancelled[0][CORE_CLIENT_GONE]++;
        if (r->lease) expect_cancel(r, CORE_CLIENT_GONE);
        leave(m, r);
        return;
    }
    m->want.late++;
}

void model_define(struct model *m, unsigned service, const struct core_service_config *config) {
    int err = core_service_define(m->core, slice_of(m->services[service].name), config);
    bool full = !m->services[service].known && known_services(m) >= m->config.max_services;
    if (err == WEIR_ENOMEM && m->lacking) return;
    if (err != (full ? WEIR_EFULL : 0)) model_violated(m, CONTRACT, "define said %s", model_error(err));
    if (err != 0) return;
    m->services[service].known = true;
    m->services[service].config = *config;
    FOR_REQUESTS(m, r) { /* a lower bound holds for what comes, another order too */
        if (r->service == service) r->returned = r->unordered = true;
    }
}

void model_tenant(struct model *m, unsigned tenant, const struct core_tenant_config *config) {
    int err = core_tenant_define(m->core, slice_of(tenant_names[tenant]), config);
    if (err == WEIR_ENOMEM && m->lacking) return;
    if (err != 0) model_violated(m, CONTRACT, "tenant said %s", model_error(err));
    struct mtenant *t = &m->tenants[tenant];
    bool raised = config->weight > t->config.weight;
    t->config = *config;
    uint64_t latest = m->now * 1000 + (config->rate_per_h ? config->burst * token_ns(t) : 0);
    if (t->full_at > latest) t->full_at = latest; /* a higher rate holds at once */
    m->share_epoch++;
    FOR_REQUESTS(m, r) { /* a higher weight does not, where a turn has begun */
        if (raised && r->tenant == tenant && r->place == WAITING) r->unordered = true;
    }
}

/* ---- workers ---- */

static const char *labels_text(unsigned labels, char text[static 16]) {
    size_t n = 0;
    for (unsigned l = 1; l <= LABELS; l++)
        if (labels >> l & 1) n += (size_t)snprintf(text + n, 16 - n, "%sl=%u", n ? "," : "", l);
    text[n] = 0;
    return text;
}

void model_attach(struct model *m, uint64_t now, unsigned labels) {
    begin(m, now);
    char text[16];
    struct mworker *w = m->workers;
    while (w->id) w++;
    struct core_worker worker = {.port = w,
                                 .id = SLICE("w"),
                                 .labels = slice_of(labels_text(labels, text)),
                                 .transport = SLICE("sim")};
    uint64_t id = 0;
    int err = core_worker_attach(m->core, now, &worker, &id);
    model_say(m, "%llu attach %s -> %llu %s", NUMBER(m->now), text, NUMBER(id), model_error(err));
    unsigned count = 0;
    FOR_WORKERS(m, other) count++;
    int want = m->draining ? WEIR_EDRAINING : count >= m->config.max_workers ? WEIR_ETOOMANY : 0;
    if (err == WEIR_ENOMEM && want == 0 && m->lacking) return;
    if (err != want) model_violated(m, CONTRACT, "attach said %s", model_error(err));
    if (err != 0) return;
    *w = (struct mworker){.id = id, .labels = labels};
    m->want.workers_attached++;
}

static void forget_worker(struct model *m, struct mworker *w);

void model_relabel(struct model *m, uint64_t now, struct mworker *w, unsigned labels) {
    begin(m, now);
    char text[16];
    int err = core_worker_labels(m->core, now, w->id, slice_of(labels_text(labels, text)));
    model_say(m, "%llu labels %llu %s -> %s", NUMBER(m->now), NUMBER(w->id), text, model_error(err));
    if (err == WEIR_ENOMEM &&
        m->lacking) { /* it may have taken them on, and not be asked for all it could do */
        core_worker_gone(m->core, now, w->id);
        forget_worker(m, w);
        return;
    }
    if (err != 0) model_violated(m, CONTRACT, "labels said %s", model_error(err));
    m->relabelled |= model_batched(m);
    w->labels = labels;
}

void model_offer(struct model *m, uint64_t now, struct mworker *w, unsigned service) {
    begin(m, now);
    struct mservice *s = &m->services[service];
    int err = core_worker_offer(m->core, now, w->id, slice_of(s->name));
    model_say(m, "%llu offer %llu %s -> %s", NUMBER(m->now), NUMBER(w->id), s->name, model_error(err));
    if (err == WEIR_ENOMEM && m->lacking) {
        if (core_service_known(m->core, slice_of(s->name)) != s->known)
            model_violated(m, CONTRACT, "an offer that failed for lack of memory has had an effect");
        return;
    }
    int want = !s->known && known_services(m) >= m->config.max_services ? WEIR_EFULL : 0;
    if (err != want) model_violated(m, CONTRACT, "offer said %s", model_error(err));
    if (err != 0) return;
    if (!s->known) s->config = m->config.service;
    s->known = true;
    w->offers |= 1u << service;
    w->changed_ms = m->now / 1000;
    m->ring_due = true;
}

void model_slots(struct model *m, uint64_t now, uint64_t worker, unsigned slots) {
    begin(m, now);
    model_say(m, "%llu slots %llu %u", NUMBER(m->now), NUMBER(worker), slots);
    core_worker_slots(m->core, now, worker, slots);
    struct mworker *w = worker_of(m, worker);
    if (!w) return;
    if (slots > 0 && w->slots == 0) w->changed_ms = m->now / 1000;
    m->ring_due = true;
    w->slots = slots;
    w->gate_until = 0;
}

void model_worker_drain(struct model *m, uint64_t now, uint64_t worker) {
    begin(m, now);
    model_say(m, "%llu worker drains %llu", NUMBER(m->now), NUMBER(worker));
    core_worker_drain(m->core, now, worker);
    struct mworker *w = worker_of(m, worker);
    if (w) w->draining = true;
    m->unsettled_ms = m->now / 1000;
    m->ring_due = true;
}

/* What becomes of a lease whose worker was lost. */
static void lose(struct model *m, struct mlease *l) {
    struct mrequest *r = l->r;
    model_lease_end(m, l);
    if (!r) return;
    m->want.lost++;
    r->lease = NULL;
    const struct core_service_config *c = &m->services[r->service].config;
    if (r->place == REPLYING) {
        m->want.failed++;
        model_request_end(r, m);
    } else if ((r->idempotent || c->retry_always) && r->attempts < c->attempts && r->replayable) {
        m->want.retried++;
        r->queued_at = m->now;
        wait_again(m, r, true);
        r->may_lack_memory = m->lacking;
    } else {
        model_expect_fail(m, r, WEIR_EWORKERGONE, 0);
    }
}

static void forget_worker(struct model *m, struct mworker *w) {
    w->draining = true;
    m->gone_since = true;
    for (;;) {
        struct mlease *oldest = NULL;
        FOR_LEASES(m, l) {
            if (l->worker == w && (!oldest || l->order < oldest->order)) oldest = l;
        }
        if (!oldest) break;
        lose(m, oldest);
    }
    m->want.workers_gone++;
    m->unsettled_ms = m->now / 1000;
    m->ring_due = true;
    *w = (struct mworker){0};
}

void model_gone(struct model *m, uint64_t now, uint64_t worker) {
    begin(m, now);
    model_say(m, "%llu gone %llu", NUMBER(m->now), NUMBER(worker));
    core_worker_gone(m->core, now, worker);
    struct mworker *w = worker_of(m, worker);
    if (w) forget_worker(m, w);
}

/* ---- what workers say of jobs ---- */

void model_started(struct model *m, uint64_t now, uint64_t worker, uint64_t job) {
    begin(m, now);
    model_say(m, "%llu started %llu %llu", NUMBER(m->now), NUMBER(worker), NUMBER(job));
    core_job_started(m->core, now, worker, job);
    (void)lease_of(m, worker, job);
}

void model_answer(struct model *m, uint64_t now, uint64_t worker, uint64_t job) {
    begin(m, now);
    struct requester *asked = core_job_answer(m->core, now, worker, job);
    model_say(m, "%llu answer %llu %llu -> %s", NUMBER(m->now), NUMBER(worker), NUMBER(job),
              asked ? "yes" : "late");
    struct mlease *l = lease_of(m, worker, job);
    struct mrequest *r = l ? l->r : NULL;
    if (!r || r->place != AT_WORK) {
        m->want.late += l != NULL;
        if (asked) model_violated(m, ONE_END, "a late answer was accepted");
        return;
    }
    if (asked != &r->requester) model_violated(m, ONE_END, "an answer was not accepted, or for another");
    r->place = REPLYING;
}

void model_done(struct model *m, uint64_t now, uint64_t worker, uint64_t job) {
    begin(m, now);
    model_say(m, "%llu done %llu %llu", NUMBER(m->now), NUMBER(worker), NUMBER(job));
    core_job_done(m->core, now, worker, job);
    struct mlease *l = lease_of(m, worker, job);
    struct mrequest *r = l ? l->r : NULL;
    if (!r || r->place != REPLYING) {
        m->want.late += l != NULL;
        return;
    }
    part(r);
    m->want.done++;
    model_request_end(r, m);
}

static void compare_forward(struct model *m, const struct mrequest *r, int s, const struct mforward *f,
                            int err) {
    int want = r->hop >= m->config.max_hops             ? WEIR_EHOPS
               : s < 0 || !m->services[s].known         ? WEIR_ENOSERVICE
               : m->services[s].config.key.n && !f->key ? WEIR_EINVAL
                                                        : 0;
    m->last_tenant = r->tenant;
    if (want == 0 && (err == 0 || err == WEIR_EFULL || (err == WEIR_ENOMEM && m->lacking)))
        compare_full(m, err, (unsigned)s, f->need, f->bytes);
    else if (err != want)
        model_violated(m, want == WEIR_EHOPS ? LIMITS : CONTRACT, "forward said %s", model_error(err));
}

/* The request goes on at a service with another message, as the core has said. */
static void go_on(struct model *m, struct mrequest *r, const struct mforward *f, struct token *t, int err) {
    int s = model_service(m, slice_of(f->service));
    compare_forward(m, r, s, f, err);
    if (err != 0) {
        m->want.rejected_hops += err == WEIR_EHOPS;
        m->want.rejected_no_service += err == WEIR_ENOSERVICE;
        m->want.rejected_full += err == WEIR_EFULL;
        m->want.rejected_labels += err == WEIR_EINVAL;
        model_expect_fail(m, r, err, err == WEIR_ENOSERVICE || err == WEIR_EINVAL ? 502 : 0);
        snprintf(r->named, sizeof r->named, "%s", f->service);
        return;
    }
    m->want.forwarded++;
    r->service = (unsigned)s;
    r->hop++;
    r->attempts = 0;
    r->given = false;
    r->token = t;
    r->bytes = f->bytes;
    r->replayable = f->replayable;
    r->cost = f->cost ? f->cost : r->cost;
    r->queued_at = m->now;
    set_wishes(m, r, f->need, f->wish, f->key);
    wait_again(m, r, false);
}

void model_forward(struct model *m, uint64_t now, uint64_t worker, uint64_t job, const struct mforward *f) {
    begin(m, now);
    const char *service = f->service;
    struct token *t = token_new(m, f->need, f->wish, f->key);
    int err = core_job_forward(m->core, now, worker, job,
                               &(struct core_hop){slice_of(service), t, f->bytes, f->cost});
    model_say(m, "%llu forward %llu %llu %s must %u may %u -> %s", NUMBER(m->now), NUMBER(worker),
              NUMBER(job), service, f->need, f->wish, model_error(err));
    if (err != 0) t->in_core = false;
    struct mlease *l = lease_of(m, worker, job);
    struct mrequest *r = l ? l->r : NULL;
    if (!r || r->place != AT_WORK) {
        m->want.late += l != NULL;
        if (err != WEIR_ESTATE) model_violated(m, ONE_END, "a late forward said %s", model_error(err));
        return;
    }
    part(r);
    go_on(m, r, f, t, err);
}
/* ---- parts ---- */

void model_scatter(struct model *m, uint64_t now, uint64_t worker, uint64_t job, unsigned count) {
    begin(m, now);
    struct mlease *l = lease_of(m, worker, job);
    struct mrequest *r = l ? l->r : NULL, *root = r;
    uint64_t id = 0;
    struct gatherer nobody, *gatherer = r ? &r->gatherer : &nobody;
    int err = core_job_scatter(m->core, now, worker, job, count, gatherer, &id);
    model_say(m, "%llu scatter %llu %llu into %u -> %s", NUMBER(m->now), NUMBER(worker), NUMBER(job), count,
              model_error(err));
    if (!r || r->place != AT_WORK) {
        m->want.late += l != NULL;
        if (err != WEIR_ESTATE) model_violated(m, ONE_END, "a late scatter said %s", model_error(err));
        return;
    }
    while (root->parent) root = root->parent;
    int want = count > m->config.max_parts - root->scattered ? WEIR_EPARTS : 0;
    if (err != want || (err == 0 && id != r->id))
        model_violated(m, LIMITS, "scatter said %s", model_error(err));
    part(r);
    if (err != 0) {
        m->want.rejected_parts++;
        model_expect_fail(m, r, err, 0);
        return;
    }
    root->scattered += count;
    m->want.scattered++;
    r->place = GATHERING;
    r->parts_left = count;
    r->has_gatherer = true;
}

/* The request, if it gathers. */
static struct mrequest *gathering(struct model *m, uint64_t id) {
    FOR_REQUESTS(m, r) {
        if (r->id == id && r->place == GATHERING) return r;
    }
    m->want.late++;
    return NULL;
}

void model_part(struct model *m, uint64_t now, uint64_t request, const struct mforward *f) {
    begin(m, now);
    struct mrequest *parent = gathering(m, request), *r = m->requests;
    while (r->place != NOWHERE) r++;
    struct token *t = token_new(m, f->need, f->wish, f->key);
    struct core_part from = {&r->requester, t, f->bytes, slice_of(f->service), f->cost};
    struct failure why = {0};
    uint64_t id = 0;
    int s = model_service(m, from.service), err = core_part_submit(m->core, now, request, &from, &id, &why);
    model_say(m, "%llu part of %llu for %s must %u may %u -> %llu %s", NUMBER(m->now), NUMBER(request),
              f->service, f->need, f->wish, NUMBER(id), model_error(err));
    if (err != 0) t->in_core = false;
    if (why.error != err) model_violated(m, CONTRACT, "the failure says otherwise");
    if (!parent) {
        if (err != WEIR_ESTATE) model_violated(m, ONE_END, "a late part said %s", model_error(err));
        return;
    }
    if (parent->parts_left == 0) {
        if (err != WEIR_EPARTS) model_violated(m, LIMITS, "one part too many said %s", model_error(err));
        return;
    }
    compare_forward(m, parent, s, f, err);
    if (err != 0) {
        m->want.rejected_hops += err == WEIR_EHOPS;
        m->want.rejected_no_service += err == WEIR_ENOSERVICE;
        m->want.rejected_full += err == WEIR_EFULL;
        m->want.rejected_labels += err == WEIR_EINVAL;
        return;
    }
    *r = (struct mrequest){.id = id,
                           .service = (unsigned)s,
                           .tenant = parent->tenant,
                           .cost = f->cost ? f->cost : parent->cost,
                           .asked = parent->asked,
                           .deadline = parent->deadline,
                           .hop = parent->hop + 1,
                           .queued_at = m->now,
                           .bytes = f->bytes,
                           .idempotent = parent->idempotent,
                           .replayable = f->replayable,
                           .parent = parent,
                           .token = t};
    set_wishes(m, r, f->need, f->wish, f->key);
    wait_again(m, r, false);
    m->live++;
    m->want.submitted++;
    m->want.parts++;
    parent->parts_left--;
    m->arrival = r;
}

void model_gathered(struct model *m, uint64_t now, uint64_t request, const struct mforward *f) {
    begin(m, now);
    struct mrequest *r = gathering(m, request);
    struct token *t = token_new(m, f->need, f->wish, f->key);
    struct core_hop hop = {slice_of(f->service), t, f->bytes, f->cost};
    int err = core_gather_forward(m->core, now, request, &hop);
    model_say(m, "%llu gathered %llu to %s must %u may %u -> %s", NUMBER(m->now), NUMBER(request), f->service,
              f->need, f->wish, model_error(err));
    if (err != 0) t->in_core = false;
    if (!r) {
        if (err != WEIR_ESTATE) model_violated(m, ONE_END, "a late gather said %s", model_error(err));
        return;
    }
    drop_parts(m, r);
    r->has_gatherer = false;
    go_on(m, r, f, t, err);
}

void model_gather_reply(struct model *m, uint64_t now, uint64_t request) {
    begin(m, now);
    struct mrequest *r = gathering(m, request);
    struct requester *asked = core_gather_reply(m->core, now, request);
    model_say(m, "%llu gathered %llu: reply %s", NUMBER(m->now), NUMBER(request), asked ? "yes" : "late");
    if (asked != (r ? &r->requester : NULL)) model_violated(m, ONE_END, "what was gathered goes to another");
    if (!r) return;
    drop_parts(m, r);
    m->want.done++;
    model_request_end(r, m);
}

void model_gather_fail(struct model *m, uint64_t now, uint64_t request) {
    begin(m, now);
    struct mrequest *r = gathering(m, request);
    model_say(m, "%llu gathering %llu failed", NUMBER(m->now), NUMBER(request));
    core_gather_fail(m->core, now, request, &(struct failure){.error = WEIR_ETOOBIG, .status = 502});
    if (!r) return;
    drop_parts(m, r);
    r->has_gatherer = false;
    model_expect_fail(m, r, WEIR_ETOOBIG, 502);
}

static void slot_over(struct model *m, struct mlease *l) {
    l->worker->gate_until = 0;
    lose(m, l);
}

void model_slot_free(struct model *m, uint64_t now, uint64_t worker, uint64_t job, bool lost) {
    begin(m, now);
    model_say(m, "%llu %s %llu %llu", NUMBER(m->now), lost ? "lost" : "slot free", NUMBER(worker),
              NUMBER(job));
    if (lost)
        core_job_lost(m->core, now, worker, job);
    else
        core_slot_free(m->core, now, worker, job);
    struct mlease *l = lease_of(m, worker, job);
    if (l) slot_over(m, l);
}

void model_handed_back(struct model *m, uint64_t now, uint64_t worker, uint64_t job) {
    begin(m, now);
    model_say(m, "%llu handed back %llu %llu", NUMBER(m->now), NUMBER(worker), NUMBER(job));
    core_job_handed_back(m->core, now, worker, job);
    struct mlease *l = lease_of(m, worker, job);
    if (!l) return;
    struct mrequest *r = l->r;
    if (!r || r->place != AT_WORK) {
        slot_over(m, l);
        return;
    }
    m->want.handed_back++;
    if (!l->worker->draining) l->worker->gate_until = (m->now + 100000 + 999) / 1000 * 1000;
    model_lease_end(m, l);
    r->lease = NULL;
    r->attempts--;
    r->may_lack_memory = m->lacking;
    if (r->replayable)
        wait_again(m, r, true);
    else
        model_expect_fail(m, r, WEIR_EWORKERGONE, 503);
}

void model_fail(struct model *m, uint64_t now, uint64_t worker, uint64_t job, int error) {
    begin(m, now);
    model_say(m, "%llu fail %llu %llu", NUMBER(m->now), NUMBER(worker), NUMBER(job));
    core_job_fail(m->core, now, worker, job, &(struct failure){.error = error});
    struct mlease *l = lease_of(m, worker, job);
    struct mrequest *r = l ? l->r : NULL;
    if (!r) {
        m->want.late += l != NULL;
        return;
    }
    m->want.bad_answers += error == WEIR_EBADANSWER;
    bool replying = r->place == REPLYING;
    part(r);
    model_expect_fail(m, r, error, 0);
    if (replying) model_request_end(r, m);
}

/* ---- the hub ---- */

void model_tick(struct model *m, uint64_t now) {
    begin(m, now);
    model_say(m, "%llu tick; next %llu", NUMBER(m->now), NUMBER(core_next_time(m->core)));
    core_tick(m->core, now);
}

void model_drain(struct model *m, uint64_t now) {
    begin(m, now);
    model_say(m, "%llu drain", NUMBER(m->now));
    core_drain(m->core, now);
    m->draining = true;
}

void model_drain_over(struct model *m, uint64_t now) {
    begin(m, now);
    model_say(m, "%llu drain over", NUMBER(m->now));
    core_drain_over(m->core, now);
    m->draining = true;
    FOR_REQUESTS(m, r) {
        if (r->place == FAILING || r->place == LEAVING || r->parent) continue;
        if (r->place == GATHERING) drop_parts(m, r);
        m->uncertain |= r->place == WAITING && model_may_shed(m, r, false);
        bool replying = r->place == REPLYING;
        m->want.cancelled[0][CORE_DRAIN_OVER]++;
        if (r->lease) expect_cancel(r, CORE_DRAIN_OVER);
        model_expect_fail(m, r, WEIR_EDRAINING, 0);
        if (replying) r->place = CUT;
    }
}
