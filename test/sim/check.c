/* SPDX-License-Identifier: Apache-2.0 */
/* The core's actions, held against what must happen; and the invariants. See model.h. */
#include "model.h"
#include "weir/weir.h"
#include <string.h>

#define NUMBER(id) (unsigned long long)(id)

/* ---- actions ---- */

/* The request whose requester this is, if the core may still speak to it. */
static struct mrequest *request_of(struct model *m, const struct core_action *a) {
    struct mrequest *r = (struct mrequest *)(void *)a->requester;
    if (r < m->requests || r >= m->requests + REQUESTS || r->place == NOWHERE || r->id != a->request) {
        model_violated(m, ONE_END, "request %llu has ended already", NUMBER(a->request));
        return NULL;
    }
    return r;
}

/* Its class after ageing. */
static uint64_t class_of(const struct model *m, const struct mrequest *r) {
    uint64_t age = m->services[r->service].config.age_us, up = age ? (m->now - r->queued_at) / age : 0;
    return up < r->priority ? r->priority - up : 0;
}

/* Which of two of one lane goes first when the cheapest does? */
static bool cheaper(const struct mrequest *a, const struct mrequest *b) {
    uint64_t x = a->cost ? a->cost : UINT64_MAX, y = b->cost ? b->cost : UINT64_MAX;
    return x == y ? a->position < b->position : x < y;
}

/* Of two that have come back: who has waited longest, or came back first (positions fall). */
static bool returned_before(const struct mrequest *a, const struct mrequest *b) {
    return a->queued_at == b->queued_at ? a->position > b->position : a->queued_at < b->queued_at;
}

/* Those who wait in one pool, by class: who is next in each tenant's lane, and of those who came back; and
   who has waited longest. */
struct waiting {
    const struct mrequest *heads[CORE_PRIORITIES][TENANTS], *back[CORE_PRIORITIES], *oldest[CORE_PRIORITIES];
};

/* False: not known. */
static bool find_waiting(struct model *m, const struct mrequest *r, struct waiting *ret) {
    const struct core_service_config *c = &m->services[r->service].config;
    const struct mrequest *first[CORE_PRIORITIES][TENANTS] = {0};
    FOR_REQUESTS(m, q) {
        if (q->key || q->place != WAITING || q->service != r->service || model_pool(q) != model_pool(r))
            continue;
        if (q->unordered) return false;
        const struct mrequest **old = &ret->oldest[q->priority], **back = &ret->back[q->priority];
        if (!*old || q->queued_at < (*old)->queued_at) *old = q;
        if (q->position < 0) {
            if (!*back || returned_before(q, *back)) *back = q;
            continue;
        }
        const struct mrequest **f = &first[q->priority][q->tenant], **h = &ret->heads[q->priority][q->tenant];
        if (!*f || q->position < (*f)->position) *f = q;
        if (!*h || (c->shortest_first ? cheaper(q, *h) : q->position < (*h)->position)) *h = q;
    }
    for (int p = 0; p < CORE_PRIORITIES; p++)
        for (int t = 0; t < TENANTS; t++)
            if (first[p][t] && c->age_us && m->now - first[p][t]->queued_at >= c->age_us)
                ret->heads[p][t] = first[p][t];
    return true;
}

/* No other job of its key is at a worker, and none that waits came before it. */
static void check_key(struct model *m, const struct mrequest *r) {
    FOR_LEASES(m, l) {
        if (l->key == r->key && l->service == r->service)
            model_violated(m, KEYED, "key %u of %s is taken by job %llu", r->key,
                           m->services[r->service].name, NUMBER(l->job));
    }
    FOR_REQUESTS(m, q) {
        if (q->place == WAITING && q->service == r->service && q->key == r->key && q->position < r->position)
            model_violated(m, KEYED, "request %llu has overtaken %llu of the same key", NUMBER(r->id),
                           NUMBER(q->id));
    }
}

/* Nobody of its pool had the right to go first: in its class what came back, or in its lane; and no other
   class, of which each is as old as the oldest that waits in it. */
static void check_turn(struct model *m, const struct mrequest *r) {
    struct waiting w = {0};
    if (!find_waiting(m, r, &w)) return;
    const struct mrequest *first =
        w.back[r->priority] ? w.back[r->priority] : w.heads[r->priority][r->tenant];
    if (first != r) {
        model_violated(m, ORDER, "request %llu was not the first of its class or lane", NUMBER(r->id));
        return;
    }
    const struct mrequest *own = w.oldest[r->priority];
    for (unsigned p = 0; p < CORE_PRIORITIES; p++) {
        const struct mrequest *other = w.oldest[p];
        if (!other || p == r->priority) continue;
        uint64_t a = class_of(m, other), b = class_of(m, own);
        if (a < b || (a == b && other->queued_at < own->queued_at))
            model_violated(m, ORDER, "request %llu had to wait for %llu", NUMBER(other->id), NUMBER(r->id));
    }
    if (r->position > 0) share_served(m, r);
}

static void check_worker_choice(struct model *m, const struct mrequest *r, const struct mworker *chosen) {
    if (m->choosing || r->wish_unknown) return;
    FOR_WORKERS(m, w) {
        if (model_eligible(w, r) && model_has_room(w) && w->busy < chosen->busy)
            model_violated(m, ORDER, "worker %llu runs less than %llu", NUMBER(w->id), NUMBER(chosen->id));
    }
}

static void check_job_id(struct model *m, const struct core_action *a) {
    FOR_LEASES(m, l) {
        if (l->job == a->job) model_violated(m, RUN_ONCE, "job %llu runs already", NUMBER(a->job));
    }
    for (int i = 0; i < PAST; i++)
        if (m->past[i].job == a->job && m->past[i].worker == a->worker)
            model_violated(m, RUN_ONCE, "the id of job %llu is used again", NUMBER(a->job));
}

/* It came back too late for what it wishes for: from when on it goes to any is not known to the millisecond.
 */
static void settle_late(struct model *m, struct mrequest *r, const struct mworker *w) {
    if (!r->wish || !r->returned_at || r->queued_at + m->services[r->service].config.prefer_us > m->now)
        return;
    if (w->labels >> r->wish & 1)
        r->wish_unknown = true;
    else
        r->wish = 0;
    r->unordered = true;
    m->share_epoch++;
}

static void on_send(struct model *m, const struct core_action *a) {
    struct mrequest *r = request_of(m, a);
    struct mworker *w = a->port;
    if (!r) return;
    if (r->place != WAITING) model_violated(m, RUN_ONCE, "request %llu does not wait", NUMBER(r->id));
    if (w < m->workers || w >= m->workers + WORKERS || !w->id || w->id != a->worker) {
        model_violated(m, CONTRACT, "sent to worker %llu, which is gone", NUMBER(a->worker));
        return;
    }
    check_job_id(m, a);
    settle_late(m, r, w);
    const struct mservice *s = &m->services[r->service];
    if (r->wish && model_batched(m)) r->wish_unknown = true;
    if (!model_eligible(w, r) && !m->relabelled)
        model_violated(m, CONTRACT, "worker %llu cannot or should not run what %s needs", NUMBER(w->id),
                       s->name);
    if (!model_batched(m)) {
        if (!model_has_room(w)) model_violated(m, CONTRACT, "worker %llu has no room", NUMBER(w->id));
        if (model_batched(m) && m->gone_since &&
            r->place == WAITING) { /* it may have been handed out, and come back */
            r->returned = true;
            r->returned_at = m->now;
        }
        if (model_overdue(m, r)) model_violated(m, IN_TIME, "sent after its queue time");
        if (model_may_shed(m, r, true)) model_violated(m, IN_TIME, "sent although its service is overloaded");
        if (!r->key) check_turn(m, r);
        if (m->arrival == r && !r->key) check_worker_choice(m, r, w);
    }
    if (r->key) check_key(m, r);
    unsigned most = s->config.attempts ? s->config.attempts : 1;
    if (a->attempt != ++r->attempts || a->attempt > most)
        model_violated(m, LIMITS, "attempt %u, but it should be %u of %u", a->attempt, r->attempts, most);
    if (a->hop != r->hop || a->hop > m->config.max_hops) model_violated(m, LIMITS, "hop %u is wrong", a->hop);
    if (a->resend != r->given || a->deadline != r->deadline || a->message != r->token ||
        !slice_eq(a->service, slice_of(s->name)))
        model_violated(m, CONTRACT, "the action to send %llu says something wrong", NUMBER(r->id));
    struct mlease *l = m->leases;
    while (l->job) l++;
    *l = (struct mlease){.job = a->job,
                         .request = r->id,
                         .order = ++m->order,
                         .worker = w,
                         .r = r,
                         .service = r->service,
                         .key = r->key};
    w->busy++;
    r->lease = l;
    r->place = AT_WORK;
    r->given = true;
    m->want.dispatched++;
}

static void on_cancel(struct model *m, const struct core_action *a) {
    FOR_LEASES(m, l) {
        if (l->job != a->job) continue;
        if (!l->cancel_due)
            model_violated(m, CONTRACT, "job %llu was cancelled without a reason", NUMBER(a->job));
        if (l->worker != a->port || l->worker->id != a->worker || l->request != a->request ||
            l->cause != a->cause)
            model_violated(m, CONTRACT, "the action to cancel %llu says something wrong", NUMBER(a->job));
        l->cancel_due = false;
        return;
    }
    model_violated(m, CONTRACT, "job %llu was cancelled, but it is not there", NUMBER(a->job));
}

/* The newest of a tenant that has most in the service, for one that has less than its part. */
static void check_pushed(struct model *m, const struct mrequest *r) {
    const struct mrequest *by = m->arrival;
    unsigned have[TENANTS] = {0}, all = 0, tenants = 0;
    FOR_REQUESTS(m, q) { /* without memory for its share nobody counts */
        if (q->place == WAITING && q->service == r->service && q->unordered) return;
    }
    FOR_REQUESTS(m, q) {
        if (q == by || q->place != WAITING || q->service != r->service) continue;
        all++;
        have[q->tenant]++;
        bool may_go = q->tenant == r->tenant && q->priority >= by->priority && q->position > 0;
        if (may_go && !q->key && q->position > r->position)
            model_violated(m, FAIR, "request %llu made room, though %llu is newer", NUMBER(r->id),
                           NUMBER(q->id));
    }
    for (unsigned t = 0; t < TENANTS; t++) {
        tenants += have[t] > 0 || t == by->tenant;
        if (have[t] > have[r->tenant])
            model_violated(m, FAIR, "request %llu made room, though tenant %u has more", NUMBER(r->id), t);
    }
    if ((have[by->tenant] + 1) * tenants > all)
        model_violated(m, FAIR, "request %llu made room for one that has its part", NUMBER(r->id));
    if (r->priority < by->priority)
        model_violated(m, FAIR, "request %llu made room for one of a lower class", NUMBER(r->id));
}

static void on_fail(struct model *m, const struct core_action *a) {
    struct mrequest *r = request_of(m, a);
    if (!r) return;
    int error = a->why.error;
    uint64_t queue_time = m->services[r->service].config.queue_time_us;
    if (r->place == FAILING && error == WEIR_EQUEUETIME && r->maybe_overdue) {
        r->error = error;
    } else if (r->place == FAILING && error == WEIR_EFULL && m->may_have_pushed && model_batched(m)) {
        r->error = error; /* it had made room before */
        r->status = 0;
        m->uncertain = true;
    } else if (r->place == FAILING && error == WEIR_EQUEUETIME && r->error == WEIR_EDEADLINE &&
               m->services[r->service].config.shed_wait_us) {
        r->error = error; /* both at the same time */
        m->uncertain = true;
    } else if (r->place == WAITING && error == WEIR_EQUEUETIME && queue_time &&
               r->queued_at + queue_time <= m->now) {
        m->uncertain |= m->services[r->service].config.shed_wait_us != 0; /* which of the two it was */
        m->want.rejected_queue_time++;
        model_expect_fail(m, r, error, 0);
    } else if (r->place == WAITING && error == WEIR_EQUEUETIME && model_may_shed(m, r, false)) {
        m->want.rejected_overload++;
        model_expect_fail(m, r, error, 0);
    } else if (r->place == WAITING && error == WEIR_EFULL && (m->may_have_pushed || model_batched(m))) {
        m->pushed -= m->pushed > 0; /* as there is a bound, somebody must have, and no more */
        if (r->tenant == m->last_tenant && !model_batched(m) && !r->unordered)
            model_violated(m, FAIR, "request %llu made room for one of its own tenant", NUMBER(r->id));
        if (m->arrival && !model_batched(m) && !m->lacking) check_pushed(m, r);
        m->want.rejected_full++;
        model_expect_fail(m, r, error, 0);
    } else if (r->place == WAITING && error == WEIR_ENOMEM && r->may_lack_memory) {
        model_expect_fail(m, r, error, 0);
    }
    if (r->place != FAILING) {
        model_violated(m, error == WEIR_EDEADLINE || error == WEIR_EQUEUETIME ? IN_TIME : ONE_END,
                       "request %llu failed without a reason: %s", NUMBER(r->id), model_error(error));
        return;
    }
    if (error != r->error || (r->status && a->why.status != r->status))
        model_violated(m, ONE_END, "request %llu failed with \"%s\", not \"%s\"", NUMBER(r->id),
                       model_error(error), model_error(r->error));
    const char *named = r->named[0] ? r->named : m->services[r->service].name;
    bool unnamed = m->lacking && a->why.service.n == 0;
    if (!slice_eq(a->why.service, slice_of(named)) && !unnamed)
        model_violated(m, CONTRACT, "a failure names the wrong service");
    if (a->gatherer != (r->has_gatherer ? &r->gatherer : NULL))
        model_violated(m, CONTRACT, "the wrong gatherer hears of it");
    if (a->why.retry_after_s > 30) model_violated(m, CONTRACT, "Retry-After %u", a->why.retry_after_s);
    model_request_end(r, m);
}

static void on_gone(struct model *m, const struct core_action *a) {
    struct mrequest *r = request_of(m, a);
    if (!r) return;
    if (r->place != LEAVING || a->gatherer != &r->gatherer)
        model_violated(m, ONE_END, "request %llu is gone without a reason", NUMBER(r->id));
    model_request_end(r, m);
}

static void on_ended(struct model *m, const struct core_action *a) {
    struct mrequest *r = request_of(m, a);
    if (!r) return;
    if (r->place != CUT) model_violated(m, ONE_END, "a reply was cut without a reason");
    model_request_end(r, m);
}

void model_act(struct model *m) {
    struct core_action a;
    while (core_next_action(m->core, &a)) {
        static const char *const kinds[] = {"nothing", "send", "cancel", "fail", "gone", "ended"};
        model_say(m, "    %s request %llu job %llu worker %llu %s", kinds[a.kind], NUMBER(a.request),
                  NUMBER(a.job), NUMBER(a.worker), a.kind == CORE_FAIL ? model_error(a.why.error) : "");
        switch (a.kind) {
        case CORE_SEND:
            on_send(m, &a);
            break;
        case CORE_CANCEL:
            on_cancel(m, &a);
            break;
        case CORE_FAIL:
            on_fail(m, &a);
            break;
        case CORE_ENDED:
            on_ended(m, &a);
            break;
        case CORE_GONE:
            on_gone(m, &a);
            break;
        case CORE_NOTHING:
            model_violated(m, CONTRACT, "an empty action");
        }
    }
}

/* ---- invariants ---- */

struct sums {
    struct {
        uint64_t queued, bytes, fresh, fresh_bytes, running, workers, slots;
    } services[SERVICES];
    uint64_t queued, bytes, running, leaving, workers, slots;
};

/* A request of a keyed service that is the first of its key, which is not taken: its owner has no room, or
   the key changes hands, or there is nobody who could own it, or has been for less than a millisecond. */
static void check_keyed(struct model *m, const struct mrequest *r) {
    FOR_LEASES(m, l) {
        if (l->key == r->key && l->service == r->service) return;
    }
    FOR_REQUESTS(m, q) {
        if (q->place == WAITING && q->service == r->service && q->key == r->key && q->position < r->position)
            return;
    }
    uint64_t owner = 0;
    bool held = false;
    char key = (char)('0' + r->key);
    (void)core_key_owner(m->core, slice_of(m->services[r->service].name), (struct slice){&key, 1}, &owner,
                         &held);
    FOR_WORKERS(m, w) {
        if (!(w->offers >> r->service & 1)) continue;
        if (w->id == owner && !held && model_has_room(w))
            model_violated(m, NO_IDLE_SLOT, "request %llu waits, and the owner of its key is idle",
                           NUMBER(r->id));
        if (w->id == owner && w->draining)
            model_violated(m, KEYED, "worker %llu drains and owns keys", NUMBER(w->id));
        bool member = w->slots > 0 && !w->draining && w->changed_ms < m->now / 1000;
        if (owner == 0 && !held && member && m->unsettled_ms < m->now / 1000)
            model_violated(m, KEYED, "worker %llu is no member of %s", NUMBER(w->id),
                           m->services[r->service].name);
    }
}

static void check_requests(struct model *m, struct sums *sums) {
    unsigned live = 0;
    FOR_REQUESTS(m, r) {
        live++;
        if (r->place == FAILING || r->place == CUT || r->place == LEAVING)
            model_violated(m, ONE_END, "request %llu was not told \"%s\"", NUMBER(r->id),
                           model_error(r->error));
        if (!r->token->in_core)
            model_violated(m, CONTRACT, "the message of %llu was released", NUMBER(r->id));
        if ((r->place == AT_WORK || r->place == WAITING || r->place == GATHERING) && r->deadline &&
            r->deadline <= m->now / 1000 * 1000)
            model_violated(m, IN_TIME, "request %llu outlives its deadline", NUMBER(r->id));
        if (model_batched(m) && m->gone_since &&
            r->place == WAITING) { /* it may have been handed out, and come back */
            r->returned = true;
            r->returned_at = m->now;
        }
        if (model_overdue(m, r))
            model_violated(m, IN_TIME, "request %llu outlives its queue time", NUMBER(r->id));
        r->may_lack_memory = r->maybe_overdue = r->maybe_shed = false;
        if (r->place != WAITING) continue;
        if (r->key) check_keyed(m, r);
        if (r->wish) model_look_for_wished(m, r);
        if (model_batched(m)) r->unordered = r->wish_unknown = true;
        sums->services[r->service].queued++;
        sums->services[r->service].bytes += r->bytes;
        sums->services[r->service].fresh += !r->returned;
        sums->services[r->service].fresh_bytes += r->returned ? 0 : r->bytes;
        sums->queued++;
        sums->bytes += r->bytes;
    }
    if (live != m->live) model_violated(m, ONE_END, "the model has lost count of its requests");
}

static void check_leases(struct model *m, struct sums *sums) {
    FOR_LEASES(m, l) {
        if (l->cancel_due)
            model_violated(m, CONTRACT, "nobody told the worker to cancel %llu", NUMBER(l->job));
        sums->leaving += !l->r;
        sums->running += l->r != NULL;
        sums->services[l->service].running += l->r != NULL;
    }
}

static void check_idle(struct model *m, const struct mworker *w) {
    FOR_REQUESTS(m, r) {
        if (r->key) continue;
        bool wished = r->wish == 0 || w->labels >> r->wish & 1;
        if (r->place == WAITING && model_eligible(w, r) && wished)
            model_violated(m, NO_IDLE_SLOT, "request %llu waits, and worker %llu is idle", NUMBER(r->id),
                           NUMBER(w->id));
    }
}

static void check_workers(struct model *m, struct sums *sums) {
    FOR_WORKERS(m, w) {
        unsigned slots = w->draining ? 0 : w->slots;
        sums->workers++;
        sums->slots += slots;
        for (int s = 0; s < SERVICES; s++) {
            if (!(w->offers >> s & 1)) continue;
            sums->services[s].workers++;
            sums->services[s].slots += slots;
        }
        if (model_has_room(w)) check_idle(m, w);
    }
}

static void check_bounds(struct model *m, const struct sums *sums) {
    uint64_t fresh = 0, bytes = 0;
    for (int s = 0; s < SERVICES; s++) {
        const struct core_service_config *c = &m->services[s].config;
        fresh += sums->services[s].fresh;
        bytes += sums->services[s].fresh_bytes;
        if (sums->services[s].fresh > c->max_queued || sums->services[s].fresh_bytes > c->max_queued_bytes)
            model_violated(m, BOUNDS, "the queue of %s is over its bound", m->services[s].name);
    }
    if (fresh > m->config.max_queued || bytes > m->config.max_queued_bytes)
        model_violated(m, BOUNDS, "the hub's queues are over their bound");
}

/* ---- deep: everything that can be looked at ---- */

static void check_counters(struct model *m, const struct core_stats *got) {
    const struct core_stats *want = &m->want;
#define COMPARE(id, help)                                                                                    \
    if (got->id != want->id)                                                                                 \
        model_violated(m, CONTRACT, #id " is %llu, not %llu", NUMBER(got->id), NUMBER(want->id));
    CORE_COUNTERS(COMPARE)
#undef COMPARE
    for (int c = 0; c < CORE_CAUSES; c++) {
        uint64_t sum = 0;
        for (int p = 0; p < CORE_PHASES; p++) sum += got->cancelled[p][c];
        if (sum != want->cancelled[0][c])
            model_violated(m, CONTRACT, "cancelled: %s is wrong", core_cause_text(c));
    }
    uint64_t left = got->done + got->failed + want->cancelled[0][CORE_CLIENT_GONE] +
                    want->cancelled[0][CORE_PARENT_GONE] + got->requests;
    if (got->submitted != left)
        model_violated(m, ONE_END, "submitted %llu, ended or there %llu", NUMBER(got->submitted),
                       NUMBER(left));
}

static void check_stats(struct model *m, const struct sums *sums) {
    struct core_stats got;
    core_stats(m->core, &got);
    if (m->uncertain) { /* start anew from what the core says */
        m->want.failed = got.failed;
        m->want.rejected_queue_time = got.rejected_queue_time;
        m->want.rejected_overload = got.rejected_overload;
        m->want.rejected_full = got.rejected_full;
        m->want.rejected_deadline = got.rejected_deadline;
        for (int c = 0; c < CORE_CAUSES; c++) {
            m->want.cancelled[0][c] = 0;
            for (int p = 0; p < CORE_PHASES; p++) m->want.cancelled[0][c] += got.cancelled[p][c];
        }
        m->uncertain = false;
    }
    if (got.requests != m->live || got.queued != sums->queued || got.queued_bytes != sums->bytes ||
        got.running != sums->running || got.leaving != sums->leaving || got.workers != sums->workers ||
        got.slots != sums->slots || got.draining != m->draining)
        model_violated(m, NOTHING_GROWS,
                       "the core counts %llu requests, %llu queued, %llu running, %llu leaving, not %u, "
                       "%llu, %llu, %llu",
                       NUMBER(got.requests), NUMBER(got.queued), NUMBER(got.running), NUMBER(got.leaving),
                       m->live, NUMBER(sums->queued), NUMBER(sums->running), NUMBER(sums->leaving));
    if (core_idle(m->core) != (m->live == 0)) model_violated(m, NOTHING_GROWS, "idle is wrong");
    check_counters(m, &got);
}

static void check_service_views(struct model *m, const struct sums *sums) {
    struct core_service_view v;
    unsigned count = 0;
    for (uint32_t cursor = 0; core_service_next(m->core, &cursor, &v); count++) {
        int s = model_service(m, v.name);
        if (s < 0 || !m->services[s].known) {
            model_violated(m, CONTRACT, "an unknown service in the list");
            continue;
        }
        if (v.queued != sums->services[s].queued || v.queued_bytes != sums->services[s].bytes ||
            v.running != sums->services[s].running || v.workers != sums->services[s].workers ||
            v.slots != sums->services[s].slots || v.config->max_queued != m->services[s].config.max_queued)
            model_violated(m, NOTHING_GROWS, "service %s counts wrongly", m->services[s].name);
        if (v.queued == 0 && v.oldest_wait_us != 0) model_violated(m, CONTRACT, "an empty queue has waited");
    }
    for (int s = 0; s < SERVICES; s++) count -= m->services[s].known;
    if (count != 0) model_violated(m, CONTRACT, "a service is missing");
}

static void check_worker_views(struct model *m, uint64_t workers) {
    struct core_worker_view v;
    for (uint32_t cursor = 0; core_worker_next(m->core, &cursor, &v); workers--) {
        const struct mworker *w = NULL;
        FOR_WORKERS(m, known) {
            if (known->id == v.worker) w = known;
        }
        if (!w) {
            model_violated(m, NOTHING_GROWS, "worker %llu is gone, but listed", NUMBER(v.worker));
            continue;
        }
        unsigned offers = 0;
        struct slice name;
        for (uint32_t at = 0; core_worker_service_next(m->core, v.worker, &at, &name, NULL);)
            offers |= 1u << model_service(m, name);
        if (v.slots != w->slots || v.running != w->busy || v.draining != w->draining || offers != w->offers)
            model_violated(m, CONTRACT, "worker %llu is shown wrongly", NUMBER(v.worker));
    }
    if (workers != 0) model_violated(m, CONTRACT, "a worker is missing");
}

static bool view_fits(struct model *m, const struct core_job_view *v) {
    if (v->state == CORE_QUEUED) {
        FOR_REQUESTS(m, r) {
            if (r->id == v->request)
                return r->place == WAITING && v->hop == r->hop && v->priority == r->priority &&
                       v->attempt == r->attempts && v->queued_at == r->queued_at && v->worker == 0;
        }
        return false;
    }
    FOR_LEASES(m, l) {
        if (l->job != v->job) continue;
        enum core_job_state state = !l->r                     ? CORE_LEAVING
                                    : l->r->place == REPLYING ? CORE_ANSWERING
                                                              : CORE_RUNNING;
        return l->worker->id == v->worker && l->request == v->request && v->state == state;
    }
    return false;
}

static void check_job_views(struct model *m, uint64_t jobs) {
    struct core_job_view v;
    for (uint32_t cursor = 0; core_job_next(m->core, &cursor, &v); jobs--)
        if (!view_fits(m, &v))
            model_violated(m, RUN_ONCE, "job %llu is not where it should be", NUMBER(v.job));
    if (jobs != 0) model_violated(m, NOTHING_GROWS, "the core has %lld jobs too many", -(long long)jobs);
}

static void check_deep(struct model *m, const struct sums *sums) {
    check_stats(m, sums);
    check_service_views(m, sums);
    check_worker_views(m, sums->workers);
    check_job_views(m, sums->queued + sums->running + sums->leaving);
    unsigned tokens = 0;
    for (int i = 0; i < TOKENS; i++) tokens += m->tokens[i].in_core;
    if (tokens != m->live) model_violated(m, NOTHING_GROWS, "%u messages for %u requests", tokens, m->live);
    bool gated = false;
    FOR_WORKERS(m, w) gated |= w->gate_until != 0;
    uint64_t next = core_next_time(m->core); /* a ring may have something to do, for 5 s at most */
    if (m->live == 0 && !gated && next != UINT64_MAX && next > m->now + 5001000)
        model_violated(m, NOTHING_GROWS, "a timer is left");
}

static bool rings_pending(const struct model *m) {
    struct core_service_view v;
    for (uint32_t cursor = 0; core_service_next(m->core, &cursor, &v);)
        if (v.phase && v.pending) return true;
    return false;
}

void model_check(struct model *m, bool deep) {
    struct sums sums;
    memset(&sums, 0, sizeof sums);
    if (m->lacking)
        m->unsettled_ms = m->now / 1000; /* what failed for that is tried again a millisecond later */
    check_requests(m, &sums);
    check_leases(m, &sums);
    check_workers(m, &sums);
    check_bounds(m, &sums);
    if (deep || m->uncertain) check_deep(m, &sums);
    if (model_batched(m)) {
        m->share_epoch++;
        for (int s = 0; s < SERVICES; s++)
            for (int l = 0; l < (LABELS + 1) * (LABELS + 1); l++) m->services[s].busy[l].unsure = true;
    }
    if (m->pushed > 0 && !model_batched(m)) model_violated(m, BOUNDS, "accepted over the bound");
    m->pushed = 0;
    m->may_have_pushed = false;
    m->ring_due = rings_pending(m);
    m->calls = 0;
    m->relabelled = false;
    m->gone_since = false;
    m->arrival = NULL;
}
