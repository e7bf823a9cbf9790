/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulator: drives a core with virtual time and a random schedule, and holds it against a model after
 * each step. One seed is one run. A failure prints what to call to see it again:
 *
 *     sim [--seed N] [--steps N] [--verbose]
 *
 * Without a seed it runs a number of fixed seeds and a random one. --verbose prints the last steps of the
 * run. The schedule has moods, which last for a while: in some more comes in than can be done, in others
 * workers come and go. Now and then a core drains, or is freed in the midst of everything, and a new one
 * begins.
 */
#include "base/clock.h"
#include "base/random.h"
#include "lib/fault.h"
#include "model.h"
#include "weir/weir.h"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum { DEFAULT_STEPS = 1000000, FIXED_SEEDS = 9, SHOWN_STEPS = 300, DEEP_EVERY = 100, MOOD_STEPS = 2000 };

/* What can happen, and how often in each mood. */
#define EVENTS(X)                                                                                            \
    /*               busy idle chaos storm */                                                                \
    X(arrive, 120, 60, 90, 120)                                                                              \
    X(answer, 100, 90, 90, 80)                                                                               \
    X(done, 90, 100, 80, 70)                                                                                 \
    X(slot_free, 160, 150, 140, 120)                                                                         \
    X(forward, 60, 60, 60, 30)                                                                               \
    X(scatter, 4, 4, 8, 6)                                                                                   \
    X(part, 30, 30, 30, 30)                                                                                  \
    X(gathered, 8, 8, 8, 8)                                                                                  \
    X(hand_back, 2, 2, 30, 10)                                                                               \
    X(lose, 2, 2, 25, 15)                                                                                    \
    X(fail, 2, 2, 12, 6)                                                                                     \
    X(started, 2, 2, 4, 2)                                                                                   \
    X(cancel, 4, 4, 50, 60)                                                                                  \
    X(attach, 5, 8, 12, 10)                                                                                  \
    X(offer, 2, 4, 10, 8)                                                                                    \
    X(slots, 6, 8, 25, 20)                                                                                   \
    X(drain_worker, 1, 1, 3, 2)                                                                              \
    X(gone, 1, 1, 8, 10)                                                                                     \
    X(silence, 1, 1, 2, 2)                                                                                   \
    X(tick, 20, 40, 20, 10)                                                                                  \
    X(jump, 0, 1, 1, 1)                                                                                      \
    X(relabel, 2, 4, 10, 8)                                                                                  \
    X(tenant, 1, 1, 2, 1)                                                                                    \
    X(late, 3, 3, 30, 8)                                                                                     \
    X(cross, 3, 3, 20, 8)                                                                                    \
    X(define, 1, 1, 3, 2)

enum { MOODS = 4 };

struct sim {
    struct random random;
    uint64_t seed, step, steps, now;
    unsigned mood;
    bool orderly; /* each call's actions are taken before the next: nothing about order is unknown then */
    uint64_t drain_over_at; /* step; 0: does not drain */
    long live;              /* allocations before the core */
    struct core_stats sums; /* of the cores that have ended */
    unsigned cores;
    struct core_config config;
    struct model m;
};

static uint64_t below(struct sim *s, uint64_t n) {
    return random_below(&s->random, n);
}
static bool chance(struct sim *s, uint64_t one_in) {
    return below(s, one_in) == 0;
}

static void violated(void *ctx, enum invariant which, const char *text) {
    const struct sim *s = ctx;
    static const char *const names[] = {[ONE_END] = "1 (one end for each request)",
                                        [RUN_ONCE] = "2 (no job runs twice)",
                                        [NO_IDLE_SLOT] = "3 (work conserving)",
                                        [KEYED] = "5 (keys in order, at one worker)",
                                        [FAIR] = "4 (fair shares)",
                                        [NOTHING_GROWS] = "6 (nothing grows)",
                                        [LIMITS] = "7 (limits)",
                                        [BOUNDS] = "8 (queue bounds)",
                                        [CONTRACT] = "(the contract of core.h)",
                                        [IN_TIME] = "(deadlines and queue times)",
                                        [ORDER] = "(order)"};
    fflush(stdout);
    fprintf(stderr,
            "sim: seed %llu, step %llu: invariant %s violated: %s\nto see it again: sim --seed %llu --steps "
            "%llu --verbose\n",
            (unsigned long long)s->seed, (unsigned long long)s->step, names[which], text,
            (unsigned long long)s->seed, (unsigned long long)s->step);
    exit(1);
}

/* ---- choosing ---- */

/* A random lease in the given place (NOWHERE: one that leaves); of a worker that speaks. */
static struct mlease *some_lease(struct sim *s, enum place place) {
    struct mlease *found = NULL;
    unsigned n = 0;
    FOR_LEASES(&s->m, l) {
        if (l->worker->silent || (l->r ? l->r->place : NOWHERE) != place) continue;
        if (chance(s, ++n)) found = l;
    }
    return found;
}

static struct mworker *some_worker(struct sim *s) {
    struct mworker *found = NULL;
    unsigned n = 0;
    FOR_WORKERS(&s->m, w) {
        if (chance(s, ++n)) found = w;
    }
    return found;
}

static const char *some_service(struct sim *s) {
    return chance(s, 40) ? "nowhere" : s->m.services[below(s, SERVICES)].name;
}

static size_t some_bytes(struct sim *s) {
    return chance(s, 20) ? below(s, 5000) : below(s, 200);
}

/* The last two services are keyed. */
static struct core_service_config some_config(struct sim *s, unsigned service) {
    struct core_service_config c = s->config.service;
    c.max_queued = below(s, s->config.max_queued / 2);
    c.max_queued_bytes = below(s, s->config.max_queued_bytes);
    c.full_status = chance(s, 2) ? 503 : 429;
    if (service >= SERVICES - 2) c.key = SLICE("key");
    c.shortest_first = chance(s, 3);
    c.best_priority = chance(s, 3) ? (unsigned)below(s, CORE_PRIORITIES) : 0;
    if (chance(s, 3)) c.require = SLICE("l=${must}");
    if (chance(s, 3)) c.prefer = SLICE("l=${may}");
    return c;
}

static struct core_tenant_config some_tenant(struct sim *s) {
    return (struct core_tenant_config){.weight = 1 + (uint32_t)below(s, 4),
                                       .best_priority =
                                           chance(s, 3) ? (unsigned)below(s, CORE_PRIORITIES) : 0,
                                       .rate_per_h = chance(s, 4) ? 1 + below(s, 3600 * 20000) : 0,
                                       .burst = 1 + below(s, 100)};
}

/* Half of all messages ask for no label. */
static unsigned some_label(struct sim *s) {
    return chance(s, 2) ? 0 : 1 + (unsigned)below(s, LABELS);
}

static unsigned some_key(struct sim *s) {
    return chance(s, 50) ? 0 : 1 + (unsigned)below(s, MESSAGE_KEYS);
}

static unsigned some_labels(struct sim *s) {
    return (unsigned)below(s, 1u << LABELS) << 1;
}

static uint64_t some_cost(struct sim *s) {
    return chance(s, 4) ? 0 : 1 + below(s, 1000);
}

/* ---- events ---- */

static void arrive(struct sim *s) {
    if (s->m.live == REQUESTS) return;
    uint64_t deadline = chance(s, 2) ? 0 : s->now + below(s, chance(s, 3) ? 20000 : 2000000);
    model_submit(&s->m, s->now,
                 &(struct marrival){.service = some_service(s),
                                    .idempotent = chance(s, 2),
                                    .replayable = !chance(s, 8),
                                    .priority = chance(s, 2) ? CORE_PRIORITY_DEFAULT
                                                             : (unsigned)below(s, CORE_PRIORITIES),
                                    .tenant = (unsigned)below(s, TENANTS),
                                    .need = some_label(s),
                                    .wish = some_label(s),
                                    .key = some_key(s),
                                    .cost = some_cost(s),
                                    .deadline = deadline,
                                    .bytes = some_bytes(s)});
}

static void on_arrive(struct sim *s) {
    for (uint64_t n = chance(s, 100) ? below(s, 200) : 1; n > 0; n--) arrive(s);
}

static void on_answer(struct sim *s) {
    struct mlease *l = some_lease(s, chance(s, 50) ? REPLYING : AT_WORK);
    if (l) model_answer(&s->m, s->now, l->worker->id, l->job);
}

static void on_done(struct sim *s) {
    struct mlease *l = some_lease(s, chance(s, 30) ? AT_WORK : REPLYING);
    if (l) model_done(&s->m, s->now, l->worker->id, l->job);
}

static void on_slot_free(struct sim *s) {
    struct mlease *l = some_lease(s, chance(s, 100) ? REPLYING : NOWHERE);
    if (l) model_slot_free(&s->m, s->now, l->worker->id, l->job, false);
}

static struct mforward some_forward(struct sim *s) {
    return (struct mforward){.service = some_service(s),
                             .bytes = some_bytes(s),
                             .replayable = !chance(s, 8),
                             .need = some_label(s),
                             .wish = some_label(s),
                             .key = some_key(s),
                             .cost = some_cost(s)};
}

static void on_forward(struct sim *s) {
    struct mlease *l = some_lease(s, AT_WORK);
    if (!l) return;
    const char *service = chance(s, 3) ? s->m.services[l->service].name : some_service(s); /* again, or on */
    struct mforward f = some_forward(s);
    f.service = service;
    model_forward(&s->m, s->now, l->worker->id, l->job, &f);
}

static void on_scatter(struct sim *s) {
    const struct mlease *l = some_lease(s, AT_WORK);
    if (l)
        model_scatter(&s->m, s->now, l->worker->id, l->job,
                      (unsigned)(chance(s, 4) ? below(s, 1000) : below(s, 20)));
}

/* One that gathers; now and then any. */
static const struct mrequest *some_gathering(struct sim *s) {
    const struct mrequest *found = NULL;
    unsigned n = 0;
    FOR_REQUESTS(&s->m, r) {
        if ((r->place == GATHERING || chance(s, 500)) && chance(s, ++n)) found = r;
    }
    return found;
}

static void on_part(struct sim *s) {
    const struct mrequest *r = some_gathering(s);
    for (uint64_t n = chance(s, 20) ? below(s, 50) : 1; r && n > 0 && s->m.live < REQUESTS; n--) {
        struct mforward f = some_forward(s);
        model_part(&s->m, s->now, r->id, &f);
    }
}

static void on_gathered(struct sim *s) {
    const struct mrequest *r = some_gathering(s);
    struct mforward f = some_forward(s);
    if (!r) return;
    if (chance(s, 4))
        model_gathered(&s->m, s->now, r->id, &f);
    else if (chance(s, 4))
        model_gather_fail(&s->m, s->now, r->id);
    else
        model_gather_reply(&s->m, s->now, r->id);
}

static void on_hand_back(struct sim *s) {
    struct mlease *l = some_lease(s, chance(s, 10) ? REPLYING : AT_WORK);
    if (l) model_handed_back(&s->m, s->now, l->worker->id, l->job);
}

static void on_lose(struct sim *s) {
    struct mlease *l = some_lease(s, chance(s, 4) ? REPLYING : AT_WORK);
    if (l) model_slot_free(&s->m, s->now, l->worker->id, l->job, chance(s, 2));
}

static void on_fail(struct sim *s) {
    struct mlease *l = some_lease(s, chance(s, 4) ? REPLYING : AT_WORK);
    if (l) model_fail(&s->m, s->now, l->worker->id, l->job, chance(s, 2) ? WEIR_EBADANSWER : WEIR_ENOMEM);
}

static void on_started(struct sim *s) {
    struct mlease *l = some_lease(s, AT_WORK);
    if (l) model_started(&s->m, s->now, l->worker->id, l->job);
}

static void on_cancel(struct sim *s) {
    const struct mrequest *r = &s->m.requests[below(s, REQUESTS)];
    if (r->place != NOWHERE) model_cancel(&s->m, s->now, r->id);
}

static void on_attach(struct sim *s) {
    unsigned n = 0;
    FOR_WORKERS(&s->m, w) n++;
    if (n == WORKERS) return;
    model_attach(&s->m, s->now, some_labels(s));
    if (chance(s, 4)) return; /* it says what it offers some other time */
    FOR_WORKERS(&s->m, w) {
        if (w->offers || chance(s, 3)) continue;
        for (unsigned i = 1 + (unsigned)below(s, 3); i > 0; i--)
            model_offer(&s->m, s->now, w, (unsigned)below(s, SERVICES));
        model_slots(&s->m, s->now, w->id, 1 + (unsigned)below(s, SLOTS));
    }
}

static void on_offer(struct sim *s) {
    struct mworker *w = some_worker(s);
    if (w) model_offer(&s->m, s->now, w, (unsigned)below(s, SERVICES));
}

static void on_relabel(struct sim *s) {
    struct mworker *w = some_worker(s);
    if (w) model_relabel(&s->m, s->now, w, some_labels(s));
}

static void on_tenant(struct sim *s) {
    struct core_tenant_config c = some_tenant(s);
    unsigned tenant = (unsigned)below(s, TENANTS);
    if (!chance(s, 4)) c.weight = s->m.tenants[tenant].config.weight;
    model_tenant(&s->m, tenant, &c);
}

static void on_slots(struct sim *s) {
    struct mworker *w = some_worker(s);
    if (w) model_slots(&s->m, s->now, w->id, (unsigned)below(s, SLOTS + 1));
}

static void on_drain_worker(struct sim *s) {
    struct mworker *w = some_worker(s);
    if (w) model_worker_drain(&s->m, s->now, w->id);
}

static void on_gone(struct sim *s) {
    struct mworker *w = some_worker(s);
    FOR_WORKERS(&s->m, silent) {
        if (silent->silent) w = silent;
    }
    if (w) model_gone(&s->m, s->now, w->id);
}

/* It stops without a word, and counts as gone later. */
static void on_silence(struct sim *s) {
    struct mworker *w = some_worker(s);
    if (w) w->silent = true;
}

static void on_tick(struct sim *s) {
    uint64_t next = core_next_time(s->m.core);
    if (next != UINT64_MAX && next > s->now) s->now = next;
    model_tick(&s->m, s->now);
}

static void on_jump(struct sim *s) {
    if (chance(s, 10)) s->now += below(s, UINT64_C(3600) * 1000000);
}

/* A word too much of a worker, or of a client. */
static void say_late(struct sim *s, uint64_t worker, uint64_t job) {
    switch (below(s, 7)) {
    case 0:
        model_answer(&s->m, s->now, worker, job);
        break;
    case 1:
        model_done(&s->m, s->now, worker, job);
        break;
    case 2:
        model_slot_free(&s->m, s->now, worker, job, chance(s, 2));
        break;
    case 3:
        model_handed_back(&s->m, s->now, worker, job);
        break;
    case 4:
        model_fail(&s->m, s->now, worker, job, WEIR_EBADANSWER);
        break;
    case 5:
        model_forward(&s->m, s->now, worker, job, &(struct mforward){.service = some_service(s), .bytes = 1});
        break;
    default:
        model_started(&s->m, s->now, worker, job);
        break;
    }
}

static void on_late(struct sim *s) {
    const struct past *p = &s->m.past[below(s, PAST)];
    if (p->worker)
        say_late(s, p->worker, p->job);
    else if (p->request)
        model_cancel(&s->m, s->now, p->request);
}

/* A worker speaks of another's job. */
static void on_cross(struct sim *s) {
    const struct mlease *l = some_lease(s, AT_WORK);
    const struct mworker *w = some_worker(s);
    if (l && w && w != l->worker) say_late(s, chance(s, 4) ? below(s, 100) : w->id, l->job);
}

static void on_define(struct sim *s) {
    unsigned service = (unsigned)below(s, SERVICES);
    struct core_service_config c = some_config(s, service);
    model_define(&s->m, service, &c);
}

/* ---- one run ---- */

static const struct {
    void (*happen)(struct sim *s);
    unsigned weights[MOODS];
} events[] = {
#define EVENT(name, a, b, c, d) {on_##name, {a, b, c, d}},
    EVENTS(EVENT)
#undef EVENT
};
enum { EVENT_COUNT = sizeof events / sizeof *events };

static void try_event(struct sim *s) {
    unsigned total = 0;
    for (int i = 0; i < EVENT_COUNT; i++) total += events[i].weights[s->mood];
    uint64_t at = below(s, total);
    int i = 0;
    for (; at >= events[i].weights[s->mood]; i++) at -= events[i].weights[s->mood];
    uint64_t now = s->now;
    if (chance(s, 50) && now > 5000)
        s->now -= below(s, 5000); /* a clock that goes back counts as standing still */
    events[i].happen(s);
    if (s->now < now) s->now = now;
}

/* Draws until something can happen. */
static void event(struct sim *s) {
    unsigned calls = s->m.calls;
    for (int i = 0; i < 20 && s->m.calls == calls; i++) try_event(s);
}

static void settle(struct sim *s, bool deep) {
    model_act(&s->m);
    model_check(&s->m, deep);
    s->m.lacking = false;
}

static void begin(struct sim *s) {
    struct core_config *c = &s->config;
    core_defaults(c);
    c->max_queued = 20 + below(s, chance(s, 2) ? 100 : 600);
    c->max_queued_bytes = 100 * c->max_queued + below(s, 20000);
    c->max_hops = 1 + (unsigned)below(s, 6);
    c->max_parts = (unsigned)below(s, 3000);
    c->max_services = 3 + (unsigned)below(s, SERVICES);
    c->max_workers = 2 + (unsigned)below(s, WORKERS);
    c->service.attempts = (unsigned)below(s, 5);
    c->service.queue_time_us = chance(s, 3) ? 0 : 1000 + below(s, chance(s, 3) ? 100000 : 3000000);
    c->service.age_us = chance(s, 3) ? 0 : 1000 + below(s, 100000);
    c->service.target_wait_us = below(s, 100000);
    c->service.retry_always = chance(s, 4);
    c->service.prefer_us = chance(s, 8) ? 0 : below(s, 200000);
    c->service.shed_wait_us = chance(s, 3) ? 1000 + below(s, 50000) : 0;
    c->service.shed_after_us = below(s, 300000);
    s->m = (struct model){.violated = violated, .ctx = s, .verbose = s->m.verbose, .choosing = chance(s, 4)};
    s->drain_over_at = 0;
    s->orderly = chance(s, 2);
    s->live = fault_live();
    if (!model_begin(&s->m, c, s->now)) exit(2);
    for (unsigned service = 0; service < SERVICES; service += service ? 1 : SERVICES - 2) {
        struct core_service_config first = some_config(s, service);
        model_define(&s->m, service, &first);
    }
    for (unsigned t = 0; t < TENANTS; t++) {
        struct core_tenant_config tenant = some_tenant(s);
        model_tenant(&s->m, t, &tenant);
    }
}

static void end(struct sim *s) {
    struct core_stats stats;
    core_stats(s->m.core, &stats);
#define ADD(id, help) s->sums.id += stats.id;
    CORE_COUNTERS(ADD)
#undef ADD
    s->cores++;
    model_end(&s->m);
    if (fault_live() != s->live) model_violated(&s->m, NOTHING_GROWS, "the core leaves memory behind");
}

/* All requests have been ended: as the last slots become free, nothing is left. */
static void finish_drain(struct sim *s) {
    model_drain_over(&s->m, s->now);
    settle(s, true);
    if (!core_idle(s->m.core)) model_violated(&s->m, ONE_END, "not idle after the drain");
    FOR_LEASES(&s->m, l) {
        if (chance(s, 2)) model_slot_free(&s->m, s->now, l->worker->id, l->job, false);
    }
    settle(s, true);
    FOR_WORKERS(&s->m, w) model_gone(&s->m, s->now, w->id);
    settle(s, true);
    s->now += 1000; /* for the rings */
    model_tick(&s->m, s->now);
    settle(s, true);
    struct core_stats left;
    core_stats(s->m.core, &left);
    if (left.requests + left.queued + left.queued_bytes + left.running + left.leaving + left.workers +
            left.slots !=
        0)
        model_violated(&s->m, NOTHING_GROWS, "something is left after the drain");
    if (core_next_time(s->m.core) != UINT64_MAX)
        model_violated(&s->m, NOTHING_GROWS, "a timer is left after the drain");
    end(s);
    begin(s);
}

static void hub_event(struct sim *s) {
    if (s->drain_over_at && s->step >= s->drain_over_at) {
        settle(s, false);
        finish_drain(s);
    } else if (!s->drain_over_at && chance(s, 8000)) {
        model_drain(&s->m, s->now);
        s->drain_over_at = s->step + below(s, 500);
    } else if (chance(s, 20000)) {
        end(s);
        begin(s);
    }
}

static void step(struct sim *s) {
    if (chance(s, MOOD_STEPS)) s->mood = (unsigned)below(s, MOODS);
    s->now += below(s, chance(s, 200) ? 50000 : 500);
    bool lacking = chance(s, 20);
    if (lacking) {
        s->m.lacking = true;
        fault_fail_at(1 + (long)below(s, 3));
    }
    event(s);
    fault_fail_at(0);
    hub_event(s);
    if (s->orderly || !chance(s, 5)) settle(s, s->step % DEEP_EVERY == 0);
}

static void run(uint64_t seed, uint64_t steps, bool verbose) {
    static struct sim sim;
    struct sim *s = &sim;
    *s = (struct sim){.seed = seed, .steps = steps, .now = 1000000};
    random_seed(&s->random, seed);
    begin(s);
    uint64_t start = clock_mono_ms();
    for (s->step = 1; s->step <= steps; s->step++) {
        s->m.verbose = verbose && s->step + SHOWN_STEPS > steps;
        if (s->m.verbose) printf("step %llu\n", (unsigned long long)s->step);
        step(s);
    }
    settle(s, true);
    end(s);
    printf("seed %llu: %llu steps in %.1f s\n", (unsigned long long)seed, (unsigned long long)steps,
           (double)(clock_mono_ms() - start) / 1000);
    /* What was met on the way: a zero here would be a schedule that tests less than it says. */
    printf("  cores %u", s->cores);
#define PRINT(id, help) printf(" " #id " %llu", (unsigned long long)s->sums.id);
    CORE_COUNTERS(PRINT)
#undef PRINT
    printf("\n");
    fflush(stdout);
}

static uint64_t number(const char *text) {
    uint64_t n;
    if (slice_u64(slice_of(text), &n)) return n;
    fprintf(stderr, "sim: \"%s\" is not a number\n", text);
    exit(2);
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"seed", required_argument, NULL, 's'},
                                            {"steps", required_argument, NULL, 'n'},
                                            {"verbose", no_argument, NULL, 'v'},
                                            {0}};
    uint64_t seed = 0, steps = DEFAULT_STEPS;
    bool have_seed = false, verbose = false;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 's') {
            seed = number(optarg);
            have_seed = true;
        } else if (c == 'n') {
            steps = number(optarg);
        } else if (c == 'v') {
            verbose = true;
        } else {
            fprintf(stderr, "usage: sim [--seed N] [--steps N] [--verbose]\n");
            return 2;
        }
    }
    if (have_seed) {
        run(seed, steps, verbose);
        return 0;
    }
    for (seed = 1; seed <= FIXED_SEEDS; seed++) run(seed, steps / (FIXED_SEEDS + 1), verbose);
    if (random_entropy(&seed) != 0) return 2;
    printf("random seed %llu\n", (unsigned long long)(seed >> 16));
    fflush(stdout);
    run(seed >> 16, steps / (FIXED_SEEDS + 1), verbose);
    return 0;
}
