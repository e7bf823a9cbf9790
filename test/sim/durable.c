/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulator of durable jobs: drives the engine, with a real core and the model of a store, through a
 * random schedule in virtual time, and holds it against a ledger (durable_ledger.h) as things happen. One
 * seed is one run:
 *
 *     durable [--seed N] [--steps N] [--seeds N] [--loose] [--verbose]
 *
 * Without a seed it runs a number of fixed seeds and a random one. Jobs come in with keys, delays,
 * priorities, tenants and deadlines; workers come, answer in every way, forward in cycles, scatter, hand
 * back, and die; the store completes late, in random moments, and fails; memory fails; hubs drain, are closed
 * in the midst of everything, and crash. --loose lets the store complete operations about different jobs in
 * any order, as store.h allows. Odd seeds are without faults, so that what faults excuse is seen too. Now and
 * then all is let come to its end, and nothing may be left.
 */
#include "base/clock.h"
#include "base/random.h"
#include "durable_ledger.h"
#include "lib/fault.h"
#include "weir/weir.h"
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { DEFAULT_STEPS = 50000, FIXED_SEEDS = 7, OPEN = 8, CALM_STEPS = 2500, MOOD_STEPS = 600 };

/* What can happen, and how often in each mood. */
#define EVENTS(X)                                                                                            \
    /*            calm flood chaos slow-store */                                                             \
    X(arrive, 25, 90, 30, 40)                                                                                \
    X(body, 10, 10, 20, 10)                                                                                  \
    X(finish, 100, 60, 60, 60)                                                                               \
    X(answer, 15, 10, 30, 15)                                                                                \
    X(go_on, 30, 20, 30, 20)                                                                                 \
    X(forward, 30, 20, 40, 30)                                                                               \
    X(scatter, 5, 3, 10, 5)                                                                                  \
    X(slot_free, 80, 60, 60, 60)                                                                             \
    X(hand_back, 2, 2, 12, 2)                                                                                \
    X(lose, 3, 2, 25, 4)                                                                                     \
    X(late, 1, 1, 8, 2)                                                                                      \
    X(attach, 8, 5, 12, 6)                                                                                   \
    X(slots, 5, 5, 15, 5)                                                                                    \
    X(drain_worker, 1, 1, 4, 1)                                                                              \
    X(gone, 1, 1, 14, 2)                                                                                     \
    X(cancel, 4, 6, 20, 6)                                                                                   \
    X(revive, 3, 2, 6, 3)                                                                                    \
    X(watch, 4, 4, 6, 4)                                                                                     \
    X(purge, 2, 3, 3, 2)                                                                                     \
    X(store, 200, 150, 150, 40)                                                                              \
    X(flush, 40, 10, 20, 1)                                                                                  \
    X(time, 40, 15, 40, 30)

enum { MOODS = 4 };

struct sim {
    struct random random;
    uint64_t seed, step, steps, drain_until; /* step; 0: does not drain */
    unsigned mood;
    bool faults, verbose, loose, calm;
    long live;
    struct dw w;
    struct ledger l;
    struct {
        struct message *message;
        struct entry *e;
    } open[OPEN]; /* requests whose bodies are still coming in */
    struct store_op purge;
    bool purging;
};
static struct sim sim;

static uint64_t below(struct sim *s, uint64_t n) {
    return random_below(&s->random, n);
}
static bool chance(struct sim *s, uint64_t one_in) {
    return below(s, one_in) == 0;
}

static void on_abort(int signal) {
    (void)signal;
    fprintf(stderr, "to see it again: durable --seed %llu --steps %llu%s --verbose\n",
            (unsigned long long)sim.seed, (unsigned long long)sim.step, sim.loose ? " --loose" : "");
}

static void say(const struct sim *s, const char *what, const char *who) {
    if (s->verbose && s->step + 400 > s->steps)
        printf("%llu at %llu: %s %s\n", (unsigned long long)s->step,
               (unsigned long long)(s->w.ms % 100000000), what, who);
}

/* ---- what fails ---- */

static int store_fault(void *ctx, const struct store_op *op) {
    struct sim *s = &sim;
    (void)ctx;
    if (!s->faults || s->calm || !chance(s, s->mood == 2 ? 12 : 60)) return 0;
    s->l.faults++;
    say(s, "fails:", store_kind_text(op->kind));
    return chance(s, 2) ? WEIR_EUNAVAILABLE : WEIR_ENOSPACE;
}

static bool keep(const struct store_op *op, void *ctx) {
    struct entry *e = op->kind == STORE_JOB_FINISH ? ledger_by_id(&sim.l, op->job.id) : NULL;
    if (e) e->ending = true;
    return chance(ctx, 2);
}

/* ---- choosing ---- */

static struct dw_lease *some_lease(struct sim *s, enum lease_state state, bool durable) {
    struct dw_lease *found = NULL;
    unsigned n = 0;
    for (unsigned i = 0; i < DW_LEASES; i++) {
        struct dw_lease *l = &s->w.leases[i];
        if (l->state == state && (!durable || l->durable) && chance(s, ++n)) found = l;
    }
    return found;
}

static struct entry *some_entry(struct sim *s, bool (*fits)(const struct entry *e)) {
    struct entry *found = NULL;
    unsigned n = 0;
    FOR_ENTRIES(&s->l, e) {
        if (fits(e) && chance(s, ++n)) found = e;
    }
    return found;
}

static struct slice some_service(struct sim *s) {
    static const char names[] = "abcdefgh";
    return (struct slice){&names[below(s, 4)], 1};
}

static size_t some_size(struct sim *s) {
    if (chance(s, 12)) return 60000 + below(s, 20000);
    if (chance(s, 30)) return 200000 + below(s, 300000);
    return below(s, 300);
}

/* Bytes of that size, different from token to token; and what they are. */
static struct slice some_bytes(size_t n, uint64_t token, struct stamp *ret) {
    static char most[600000 + 64];
    for (size_t i = 0; i < n; i++) most[i] = (char)('a' + (token + i / 7) % 26);
    *ret = stamp_of(most, n);
    return (struct slice){most, n};
}

/* ---- requests ---- */

static void take_told(struct sim *s) {
    FOR_ENTRIES(&s->l, e) {
        if (e->asked && e->put.err != DW_PENDING) ledger_put_told(&s->l, e);
        if (e->cancelling && e->cancel.err != DW_PENDING) {
            e->cancelling = false;
            if (e->cancel.err == 0) e->end_told = true;
        }
        if (e->reviving && e->revive.err != DW_PENDING) e->reviving = false;
    }
}

static void leave(struct entry *e) {
    if (!e->asked || !e->put.ticket) return;
    jobs_ticket_drop(e->put.ticket);
    e->put.ticket = NULL;
    e->asked = false;
    e->left = true;
}

static void open_body(struct sim *s, struct entry *e, struct message *m) {
    for (unsigned i = 0; i < OPEN; i++)
        if (!s->open[i].message) {
            s->open[i].message = message_ref(m);
            s->open[i].e = e;
            return;
        }
    body_end(m->body);
}

static void arrive(struct sim *s) {
    static const char *const tenants[] = {"", "", "t", "u"}, *const keys[] = {"k0", "k1", "k2"};
    struct entry *e = s->l.w->gate.count < DW_OPS / 2 ? ledger_new(&s->l) : NULL;
    if (!e) return;
    char target[64];
    snprintf(target, sizeof target, "/j%llu.0", (unsigned long long)e->token);
    struct jobs_order o = {.service = some_service(s)};
    o.tenant = slice_of(tenants[below(s, 4)]);
    o.priority = chance(s, 4) ? (unsigned)below(s, 10) : 4;
    if (chance(s, 8)) o.delay_ms = 1 + below(s, 30000);
    if (chance(s, 8)) o.timeout_ms = 1 + below(s, chance(s, 2) ? 2000 : 100000);
    /* Another target, so another request: the same key is a conflict, but for the same target. */
    if (chance(s, 10)) o.key = slice_of(keys[below(s, 3)]);
    struct slice bytes = some_bytes(some_size(s), e->token, &e->body);
    bool open = chance(s, 25);
    o.message = dw_message(&s->w, target, bytes.p, bytes.n, !open);
    if (open) open_body(s, e, o.message);
    say(s, "arrives", target);
    int err = dw_submit(&s->w, &e->put, target, bytes, o);
    if (err == 0) {
        e->asked = true;
        return;
    }
    for (unsigned i = 0; i < OPEN; i++)
        if (s->open[i].e == e) {
            message_unref(s->open[i].message);
            s->open[i].message = NULL;
            s->open[i].e = NULL;
        }
    *e = (struct entry){0};
}

static void on_arrive(struct sim *s) {
    unsigned alive = 0;
    FOR_ENTRIES(&s->l, e) alive++;
    if (alive > 700) return;
    for (uint64_t n = chance(s, 60) ? below(s, 300) : 1; n > 0; n--) arrive(s);
}

/* Requests whose bodies are open: more of it, its end, or its client leaves. */
static void on_body(struct sim *s) {
    unsigned i = (unsigned)below(s, OPEN);
    struct message *m = s->open[i].message;
    struct entry *e = s->open[i].e;
    if (!m) return;
    if (chance(s, 6))
        body_abort(m->body, WEIR_ECUT);
    else if (chance(s, 4))
        leave(e);
    else
        body_end(m->body);
    s->open[i].message = NULL;
    s->open[i].e = NULL;
    message_unref(m);
}

static bool may_change(const struct entry *e) {
    return e->stored && !e->dropped && !e->cancelling && !e->reviving;
}

static void on_cancel(struct sim *s) {
    struct entry *e = some_entry(s, may_change);
    if (!e) return;
    e->cancelling = true;
    dw_cancel(&s->w, e->id, &e->cancel);
}

static bool is_dead(const struct entry *e) {
    return may_change(e) && e->state == STORE_DEAD;
}

static void on_revive(struct sim *s) {
    struct entry *e = some_entry(s, chance(s, 10) ? may_change : is_dead);
    if (!e) return;
    e->reviving = true;
    dw_revive(&s->w, e->id, &e->revive);
}

static bool may_watch(const struct entry *e) {
    return e->accepted && !e->watching;
}

static void on_told(struct jobs_watch *watch, bool ended) {
    struct entry *e = CONTAINER_OF(watch, struct entry, watch);
    e->watching = false;
    if (!ended || sim.l.dying) return;
    if (!(STORE_ENDED_MASK >> e->state & 1) && e->stored)
        dw_violated("violated: who waits is told of an end that is none");
    e->end_told = true;
}

static void on_watch(struct sim *s) {
    struct entry *e = some_entry(s, may_watch);
    if (!e) return;
    e->watching = true;
    e->watch.id = e->id;
    e->watch.told = on_told;
    jobs_watch(s->w.jobs, &e->watch, s->w.ms + below(s, 20000));
}

static void on_purged(struct store_op *op) {
    store_op_fini(op);
    sim.purging = false;
}

static void on_purge(struct sim *s) {
    if (s->purging) return;
    s->purging = true;
    store_op_init(&s->purge, chance(s, 2) ? STORE_SWEEP : STORE_JOB_PURGE, on_purged);
    s->purge.any_tenant = true;
    s->purge.states = STORE_ENDED_MASK;
    s->purge.now = s->purge.kind == STORE_SWEEP ? s->w.ms : s->w.ms - below(s, 20000);
    s->purge.limit = 1 + below(s, 200);
    store_submit(&s->w.gate.base, &s->purge);
}

/* ---- workers ---- */

static bool try_another(unsigned status) {
    return status >= 500 || status == 408 || status == 425 || status == 429;
}

static struct entry *entry_of(struct sim *s, const struct dw_lease *l) {
    unsigned stage;
    int part;
    struct entry *e = ledger_by_target(&s->l, l->target, &stage, &part);
    return part < 0 ? e : NULL;
}

/* It reads what there is; when that is all, it is what was sent. */
static void read_request(struct sim *s, struct dw_lease *l) {
    const struct entry *e = entry_of(s, l);
    dw_read(&s->w, l);
    struct body *b = l->message->body;
    if (!e || l->state != LEASE_RUNNING || (b && !body_finished(b)) || e->kind == STORE_HOP_SCATTER) return;
    if (e->state == STORE_LEASED && (l->read != e->body.size || l->sum != e->body.sum))
        dw_violated("violated: %s is read as %llu bytes, and has %llu", l->target,
                    (unsigned long long)l->read, (unsigned long long)e->body.size);
}

static unsigned some_status(struct sim *s) {
    static const unsigned bad[] = {500, 503, 429, 408, 404, 400, 599};
    if (s->calm) return 200;
    return chance(s, 5) ? bad[below(s, 7)] : chance(s, 20) ? 204 : 200;
}

static bool begin_reply(struct sim *s, struct dw_lease *l, bool open) {
    struct entry *e = entry_of(s, l);
    struct dw_answer a = {.status = some_status(s), .open = open};
    struct stamp stamp = {0};
    struct slice bytes = some_bytes(a.status == 204 ? 0 : some_size(s), l->job, &stamp);
    if (a.status == 429) a.name = "retry-after", a.value = "3";
    a.bytes = bytes.p;
    a.n = bytes.n;
    l->tag = a.status;
    bool ours = e && l->state == LEASE_RUNNING;
    if (ours) {
        e->reply = stamp;
        e->answering = true;
        if (!open) e->replied = a.status;
        if (!open && try_another(a.status)) e->failed = true;
    }
    say(s, open ? "begins to answer" : "answers", l->target);
    return dw_reply(&s->w, l, &a);
}

static void on_finish(struct sim *s) {
    struct dw_lease *l = some_lease(s, LEASE_RUNNING, false);
    if (!l) return;
    read_request(s, l);
    (void)begin_reply(s, l, false);
    if (chance(s, 2)) dw_free(&s->w, l);
}

static void on_answer(struct sim *s) {
    struct dw_lease *l = some_lease(s, LEASE_RUNNING, false);
    if (l) (void)begin_reply(s, l, true);
}

static void on_go_on(struct sim *s) {
    struct dw_lease *l = some_lease(s, chance(s, 3) ? LEASE_HANDING : LEASE_REPLYING, false);
    if (!l || !chance(s, 2)) {
        if (!l && (l = some_lease(s, LEASE_RUNNING, false))) read_request(s, l);
        return;
    }
    struct entry *e = entry_of(s, l);
    bool replying = l->state == LEASE_REPLYING;
    if (e && replying) {
        e->replied = (unsigned)l->tag;
        if (try_another(e->replied)) e->failed = true;
    }
    dw_end(&s->w, l);
}

static void on_forward(struct sim *s) {
    struct dw_lease *l = some_lease(s, LEASE_RUNNING, true);
    struct entry *e = l ? entry_of(s, l) : NULL;
    if (!e) return;
    char next[64];
    dw_next_target(l->target, next);
    char service[2] = {chance(s, 3) ? l->service[0] : *some_service(s).p};
    bool open = chance(s, 6);
    struct slice bytes = some_bytes(some_size(s), l->job + 1, &e->next);
    e->answering = true;
    say(s, "forwards", l->target);
    (void)dw_forward(&s->w, l, chance(s, 50) && !s->calm ? "z" : service, next,
                     &(struct dw_answer){.bytes = bytes.p, .n = bytes.n, .open = open});
}

static void on_scatter(struct sim *s) {
    struct dw_lease *l = some_lease(s, LEASE_RUNNING, true);
    struct entry *e = l ? entry_of(s, l) : NULL;
    if (!e) return;
    char service[2] = {*some_service(s).p}, to[2] = {chance(s, 3) ? '\0' : *some_service(s).p};
    char count[16];
    struct stamp stamp;
    e->scattered = (unsigned)below(s, chance(s, 10) ? 30 : 5);
    int n = snprintf(count, sizeof count, "%u;", e->scattered);
    struct slice bytes = some_bytes(some_size(s), l->job, &stamp);
    /* The stored body: the count, and these. */
    e->next = stamp_of(count, (size_t)n);
    e->next.sum = dw_sum(e->next.sum, bytes.p, bytes.n);
    e->next.size += bytes.n;
    /* Without gathering service what is gathered is the answer. */
    n = snprintf(count, sizeof count, "gathered %u", e->scattered);
    e->reply = stamp_of(count, (size_t)n);
    e->answering = true;
    say(s, "scatters", l->target);
    (void)dw_scatter(&s->w, l, service, to, e->scattered,
                     &(struct dw_answer){.bytes = bytes.p, .n = bytes.n});
}

static void on_slot_free(struct sim *s) {
    struct dw_lease *l = some_lease(s, LEASE_LEAVING, false);
    if (l) dw_free(&s->w, l);
}

static void on_hand_back(struct sim *s) {
    struct dw_lease *l = some_lease(s, LEASE_RUNNING, false);
    if (!l || s->w.ms - l->sent_ms >= s->w.config.timeout_ms) return; /* too late: it may count as tried */
    say(s, "hands back", l->target);
    ledger_excused(&s->l, l);
    dw_hand_back(&s->w, l);
}

static void lost(struct sim *s, struct dw_lease *l) {
    say(s, "loses", l->target);
    if (l->state != LEASE_LEAVING) ledger_failed(&s->l, l);
}

static void on_lose(struct sim *s) {
    static const enum lease_state states[] = {LEASE_RUNNING, LEASE_RUNNING, LEASE_REPLYING, LEASE_HANDING};
    struct dw_lease *l = some_lease(s, states[below(s, 4)], false);
    if (!l) return;
    lost(s, l);
    dw_lose(&s->w, l);
}

/* It answers what it was told to leave. */
static void on_late(struct sim *s) {
    struct dw_lease *l = some_lease(s, LEASE_LEAVING, false);
    if (l && l->cancelled && dw_reply(&s->w, l, &(struct dw_answer){.status = 200}))
        dw_violated("violated: a late answer is taken");
    s->l.late += l != NULL;
}

static void on_attach(struct sim *s) {
    static const char *const offers[] = {"a", "b", "c", "d", "ab", "cd", "abcd", "abcd"};
    unsigned n = 0;
    for (unsigned i = 0; i < DW_WORKERS; i++) n += s->w.workers[i] != 0;
    const char *offer = offers[below(s, 8)];
    unsigned slots = 1 + (unsigned)below(s, s->mood == 1 ? 20 : 4);
    if (n < 8 && !s->drain_until) (void)dw_attach(&s->w, offer, slots);
}

static unsigned some_worker(struct sim *s) {
    unsigned found = DW_WORKERS, n = 0;
    for (unsigned i = 0; i < DW_WORKERS; i++)
        if (s->w.workers[i] && chance(s, ++n)) found = i;
    return found;
}

static void on_slots(struct sim *s) {
    unsigned i = some_worker(s);
    if (i < DW_WORKERS) core_worker_slots(s->w.core, dw_us(&s->w), s->w.workers[i], (unsigned)below(s, 6));
}

static void on_drain_worker(struct sim *s) {
    unsigned i = some_worker(s);
    if (i < DW_WORKERS) core_worker_drain(s->w.core, dw_us(&s->w), s->w.workers[i]);
}

static void on_gone(struct sim *s) {
    unsigned worker = some_worker(s);
    if (worker == DW_WORKERS) return;
    for (unsigned i = 0; i < DW_LEASES; i++)
        if (s->w.leases[i].state && s->w.leases[i].worker == s->w.workers[worker]) lost(s, &s->w.leases[i]);
    dw_gone(&s->w, worker);
}

/* ---- the store and time ---- */

static void on_store(struct sim *s) {
    struct gate *g = &s->w.gate;
    for (uint64_t n = 1 + below(s, 6); n > 0 && g->count > 0; n--) {
        size_t i = chance(s, 2) ? 0 : below(s, g->count);
        if (gate_may_apply(g, i))
            gate_apply(g, i);
        else if (gate_may_tell(g, i))
            gate_tell(g, i);
    }
}

static void on_flush(struct sim *s) {
    gate_flush(&s->w.gate);
}

static void on_time(struct sim *s) {
    while (dw_act(&s->w)) { /* no time goes by in a turn */
    }
    uint64_t next = jobs_next_time(s->w.jobs), core = core_next_time(s->w.core);
    if (core != UINT64_MAX && (core + 999) / 1000 < next) next = (core + 999) / 1000;
    if (chance(s, 3) && next != UINT64_MAX && next > s->w.ms)
        s->w.ms = next;
    else
        s->w.ms += below(s, chance(s, 10) ? 10000 : 300);
}

/* ---- a hub's turn ---- */

static void settle(struct sim *s) {
    unsigned turns = 0;
    do {
        core_tick(s->w.core, dw_us(&s->w));
        jobs_tick(s->w.jobs, s->w.ms);
        if (++turns > 1000) dw_violated("violated: it spins");
    } while (dw_act(&s->w) || jobs_next_time(s->w.jobs) <= s->w.ms);
    take_told(s);
}

/* ---- beginnings and ends ---- */

static void begin_hub(struct sim *s) {
    while (dw_start(&s->w) != 0) {
    }
    s->l.dying = false;
    ledger_new_life(&s->l);
    s->drain_until = 0;
}

static void close_open(struct sim *s) {
    for (unsigned i = 0; i < OPEN; i++) {
        if (!s->open[i].message) continue;
        leave(s->open[i].e);
        message_unref(s->open[i].message);
        s->open[i].message = NULL;
        s->open[i].e = NULL;
    }
}

/* In order: what is under way completes, and is told. */
static void close_hub(struct sim *s) {
    say(s, "closes", "");
    close_open(s);
    FOR_ENTRIES(&s->l, e) {
        if (chance(s, 2)) leave(e);
        if (e->watching) jobs_unwatch(s->w.jobs, &e->watch);
        e->watching = false;
    }
    dw_stop(&s->w);
    take_told(s);
    s->l.closes++;
    ledger_check(&s->l, false);
    begin_hub(s);
}

static void crash_hub(struct sim *s) {
    say(s, "crashes", "");
    s->l.dying = true;
    close_open(s);
    FOR_ENTRIES(&s->l, e) {
        if (e->watching) jobs_unwatch(s->w.jobs, &e->watch);
        e->watching = false;
    }
    s->purging = false;
    dw_crash(&s->w, keep, s);
    s->purging = false;
    FOR_ENTRIES(&s->l, e) {
        if (e->asked) e->asked = false, e->left = true;
    }
    s->l.drop_faults = 0;
    s->l.crashes++;
    ledger_check(&s->l, true);
    begin_hub(s);
}

static void drain_hub(struct sim *s) {
    say(s, "drains", "");
    core_drain(s->w.core, dw_us(&s->w));
    jobs_drain(s->w.jobs);
    s->drain_until = s->step + 1 + below(s, 100);
    s->l.drains++;
}

static void hub_event(struct sim *s) {
    if (s->drain_until && s->step >= s->drain_until) {
        if (chance(s, 2)) core_drain_over(s->w.core, dw_us(&s->w));
        settle(s);
        close_hub(s);
    } else if (chance(s, 900)) {
        crash_hub(s);
    } else if (chance(s, 2500)) {
        close_hub(s);
    } else if (!s->drain_until && chance(s, 2000)) {
        drain_hub(s);
    }
}

/* All comes to its end, without faults, and nothing is left. */
static void come_to_rest(struct sim *s) {
    if (s->drain_until) return;
    say(s, "comes to rest", "");
    s->calm = true;
    for (unsigned i = 0; i < OPEN; i++)
        while (s->open[i].message) on_body(s);
    for (unsigned i = 0; i < DW_WORKERS; i++)
        if (s->w.workers[i]) {
            for (unsigned k = 0; k < DW_LEASES; k++)
                if (s->w.leases[k].state && s->w.leases[k].worker == s->w.workers[i])
                    lost(s, &s->w.leases[k]);
            dw_gone(&s->w, i);
        }
    (void)dw_attach(&s->w, "abcdz", 50); /* z: of which nobody knows otherwise */
    unsigned unended = 1;
    for (unsigned turn = 0; unended > 0; turn++) {
        if (turn > 4000) {
            FOR_ENTRIES(&s->l, e) {
                if (e->asked || (e->stored && !e->dropped && !(STORE_ENDED_MASK >> e->state & 1)))
                    fprintf(stderr, "job %llu, stage %u, attempt %u, %s%s\n", (unsigned long long)e->token,
                            e->stage, e->attempt, store_job_state_text(e->state),
                            e->asked ? ", its client waits" : "");
            }
            dw_violated("violated: it comes to no rest: %u jobs have not ended", unended);
        }
        gate_flush(&s->w.gate);
        settle(s);
        for (unsigned i = 0; i < DW_LEASES; i++) {
            struct dw_lease *l = &s->w.leases[i];
            if (l->state == LEASE_RUNNING) read_request(s, l), (void)begin_reply(s, l, false);
            if (l->state) dw_free(&s->w, l);
        }
        settle(s);
        if (s->w.gate.count == 0) ledger_check_busy(&s->l);
        if (s->w.gate.count == 0) s->w.ms += 200;
        unended = s->w.gate.count > 0;
        FOR_ENTRIES(&s->l, e)
        unended += e->asked || (e->stored && !e->dropped && !(STORE_ENDED_MASK >> e->state & 1));
    }
    s->w.ms += 2000;
    settle(s);
    gate_flush(&s->w.gate);
    settle(s);
    ledger_check_quiet(&s->l);
    s->calm = false;
}

/* ---- a run ---- */

#define EVENT_WEIGHTS(name, a, b, c, d) {a, b, c, d},
#define EVENT_CALL(name, a, b, c, d) on_##name,

static void event(struct sim *s) {
    static const unsigned weights[][MOODS] = {EVENTS(EVENT_WEIGHTS)};
    static void (*const calls[])(struct sim *) = {EVENTS(EVENT_CALL)};
    enum { COUNT = sizeof calls / sizeof *calls };
    unsigned sum = 0, i = 0;
    for (unsigned k = 0; k < COUNT; k++) sum += weights[k][s->mood];
    for (uint64_t at = below(s, sum); at >= weights[i][s->mood]; i++) at -= weights[i][s->mood];
    calls[i](s);
}

static void step(struct sim *s) {
    if (chance(s, MOOD_STEPS)) s->mood = (unsigned)below(s, MOODS);
    bool lacking = s->faults && chance(s, 20);
    if (lacking) {
        s->l.faults++;
        fault_fail_at(1 + (long)below(s, 6));
    }
    event(s);
    if (!chance(s, 4)) settle(s);
    fault_fail_at(0);
    take_told(s);
    hub_event(s);
    if (chance(s, 50)) ledger_check(&s->l, false);
    if (chance(s, 20) && !s->drain_until) {
        settle(s);
        if (s->w.gate.count == 0) ledger_check_busy(&s->l);
    }
    if (chance(s, CALM_STEPS)) come_to_rest(s);
}

static void configure(struct sim *s) {
    struct dw *w = &s->w;
    dw_defaults(w);
    w->random = s->seed * 2 + 1;
    w->config.attempts = 1 + (unsigned)below(s, 4);
    w->config.backoff_ms = 50 + below(s, 1000);
    w->config.backoff_most_ms = w->config.backoff_ms + below(s, 5000);
    w->config.timeout_ms = 1000 + below(s, 30000);
    w->config.max_hops = 5 + (unsigned)below(s, 15);
    w->config.ttl_ms = 5000 + below(s, 60000);
    w->config.dead_ttl_ms = 5000 + below(s, 60000);
    w->config.key_ttl_ms = 1000 + below(s, 60000);
    if (chance(s, 3)) w->service_config.max_queued = 1 + below(s, 20);
    s->faults = s->seed % 2 == 0;
    w->gate.loose = s->loose;
    w->gate.fault = store_fault;
    w->gate.applied = ledger_applied;
    w->gate.telling = ledger_telling;
    w->gate.ctx = w->ctx = &s->l;
    w->sent = ledger_sent;
    w->cancelled = ledger_cancelled;
}

static void report(const struct sim *s, uint64_t started) {
    const struct ledger *l = &s->l;
    printf("seed %llu: %llu steps in %.1f s\n  accepted %llu sent %llu parts %llu steps %llu released %llu "
           "uncounted %llu "
           "done %llu failed %llu cancelled %llu dead %llu revived %llu late %llu faults %u crashes %llu "
           "drains %llu closes %llu\n",
           (unsigned long long)s->seed, (unsigned long long)s->steps,
           (double)(clock_mono_ms() - started) / 1000, (unsigned long long)l->accepted,
           (unsigned long long)l->sent, (unsigned long long)l->parts, (unsigned long long)l->steps,
           (unsigned long long)l->released, (unsigned long long)l->uncounted,
           (unsigned long long)l->ended[STORE_DONE], (unsigned long long)l->ended[STORE_FAILED],
           (unsigned long long)l->ended[STORE_CANCELLED], (unsigned long long)l->ended[STORE_DEAD],
           (unsigned long long)l->revived, (unsigned long long)l->late, l->faults,
           (unsigned long long)l->crashes, (unsigned long long)l->drains, (unsigned long long)l->closes);
    fflush(stdout);
}

static void run(uint64_t seed, uint64_t steps, bool loose, bool verbose) {
    struct sim *s = &sim;
    fault_reset();
    *s = (struct sim){.seed = seed, .steps = steps, .loose = loose, .verbose = verbose};
    random_seed(&s->random, seed);
    s->live = fault_live();
    configure(s);
    ledger_init(&s->l, &s->w);
    dw_open(&s->w);
    begin_hub(s);
    uint64_t started = clock_mono_ms();
    for (s->step = 1; s->step <= steps; s->step++) step(s);
    s->drain_until = 0;
    close_hub(s);
    come_to_rest(s);
    dw_close(&s->w);
    if (fault_live() != s->live)
        dw_violated("violated: %ld blocks of memory are left", fault_live() - s->live);
    report(s, started);
}

static uint64_t number(const char *text) {
    uint64_t n;
    if (slice_u64(slice_of(text), &n)) return n;
    fprintf(stderr, "durable: \"%s\" is not a number\n", text);
    exit(2);
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},  {"steps", required_argument, NULL, 'n'},
        {"seeds", required_argument, NULL, 'm'}, {"loose", no_argument, NULL, 'l'},
        {"verbose", no_argument, NULL, 'v'},     {0}};
    uint64_t seed = 0, steps = DEFAULT_STEPS, seeds = 0;
    bool loose = false, verbose = false;
    signal(SIGABRT, on_abort);
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 's')
            seed = number(optarg);
        else if (c == 'n')
            steps = number(optarg);
        else if (c == 'm')
            seeds = number(optarg);
        else if (c == 'l')
            loose = true;
        else if (c == 'v')
            verbose = true;
        else {
            fprintf(stderr, "usage: durable [--seed N] [--steps N] [--seeds N] [--loose] [--verbose]\n");
            return 2;
        }
    }
    if (seed && !seeds) seeds = 1;
    if (seeds) {
        for (uint64_t i = 0; i < seeds; i++) run((seed ? seed : 1) + i, steps, loose, verbose);
        return 0;
    }
    for (seed = 1; seed <= FIXED_SEEDS; seed++) run(seed, steps, loose, verbose);
    if (random_entropy(&seed) != 0) return 2;
    seed >>= 16;
    printf("random seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    run(seed, steps, loose, verbose);
    return 0;
}
