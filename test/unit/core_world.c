/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core_world.h"
#include "weir/weir.h"
#include <stdio.h>
#include <stdlib.h>

static unsigned status_of(const struct failure *why) {
    if (why->status) return why->status;
    switch (why->error) {
#define STATUS(name, value, text, status, retryable)                                                         \
    case value:                                                                                              \
        return status;
        WEIR_ERRORS(STATUS)
#undef STATUS
    default:
        return 0;
    }
}

static void note(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(struct world *w, const char *format, ...) {
    size_t n = strlen(w->trace);
    if (n > 0) w->trace[n++] = ' ';
    va_list args;
    va_start(args, format);
    vsnprintf(w->trace + n, sizeof w->trace - n, format, args);
    va_end(args);
}

static void release(void *ctx, void *message) {
    (void)ctx;
    struct world_message *m = message;
    assert_true(m->in_core);
    m->in_core = false;
}

static bool replayable(void *ctx, const void *message) {
    (void)ctx;
    return !((const struct world_message *)message)->unreplayable;
}

static struct slice value(void *ctx, const void *message, enum core_value kind, struct slice name) {
    (void)ctx;
    struct slice rest = slice_of(((const struct world_message *)message)->headers);
    while (kind == CORE_VALUE_HEADER && rest.p) {
        struct slice one = slice_next(&rest, ';');
        if (slice_eq(slice_next(&one, '='), name)) return one;
    }
    return (struct slice){0};
}

struct core_config world_config(struct world *w) {
    struct core_config c;
    core_defaults(&c);
    c.release = release;
    c.replayable = replayable;
    c.value = value;
    c.ctx = w;
    return c;
}

struct world *world_new(const struct core_config *config) {
    static struct world world;
    world = (struct world){.now = 5000000};
    struct core_config c = config ? *config : world_config(&world);
    world.core = core_new(&c, world.now);
    return world.core ? &world : NULL;
}

void world_free(struct world *w) {
    core_free(w->core);
    for (unsigned i = 0; i < w->message_count; i++) assert_false(w->messages[i].in_core);
}

/* ---- names ---- */

static struct world_request *named(struct world *w, char name) {
    assert_in_range(name, 'A', 'A' + w->request_count - 1);
    return &w->requests[name - 'A'];
}

static char name_of(const struct world *w, const struct requester *r) {
    return (char)('A' + ((const struct world_request *)(const void *)r - w->requests));
}

static int number_of(const struct world *w, uint64_t worker) {
    for (unsigned i = 1; i <= w->worker_count; i++)
        if (w->workers[i] == worker) return (int)i;
    fail_msg("an unknown worker %llu", (unsigned long long)worker);
    return 0;
}

static char name_of_job(const struct world *w, uint64_t job) {
    for (unsigned i = 0; i < w->request_count; i++)
        if (w->requests[i].job == job) return (char)('A' + i);
    return '-'; /* forwarded since */
}

/* ---- what the core wants ---- */

static const char *cause_word(enum core_cause cause) {
    switch (cause) {
    case CORE_CLIENT_GONE:
        return "gone";
    case CORE_DEADLINE:
        return "deadline";
    case CORE_DRAIN_OVER:
        return "drain";
    case CORE_PARENT_GONE:
        return "parent";
    default:
        return core_cause_text(cause);
    }
}

/* Whoever gathers is told so that it does no more, once. */
static void end(struct world_request *r, const struct core_action *a) {
    assert_false(r->over);
    r->over = true;
    assert_ptr_equal(a->gatherer, r->gathers ? &r->gatherer : NULL);
    r->gathers = false;
}

void act(struct world *w) {
    struct core_action a;
    while (core_next_action(w->core, &a)) {
        struct world_request *r = (struct world_request *)(void *)a.requester;
        bool gathers = r && r->gathers;
        if (a.kind == CORE_FAIL || a.kind == CORE_GONE || a.kind == CORE_ENDED) end(r, &a);
        switch (a.kind) {
        case CORE_SEND:
            assert_ptr_equal(a.port, &w->workers[number_of(w, a.worker)]);
            assert_true(((struct world_message *)a.message)->in_core);
            assert_false(r->over || r->gathers);
            w->sent = name_of(w, a.requester);
            r->job = a.job;
            r->worker = a.worker;
            r->attempt = a.attempt;
            r->hop = a.hop;
            r->deadline = a.deadline;
            note(w, "%c>%d%s", name_of(w, a.requester), number_of(w, a.worker), a.resend ? "*" : "");
            break;
        case CORE_CANCEL:
            note(w, "%c/%d:%s", name_of_job(w, a.job), number_of(w, a.worker), cause_word(a.cause));
            break;
        case CORE_FAIL:
            r->failure = a.why;
            snprintf(w->failed_service, sizeof w->failed_service, "%.*s", SLICE_ARG(a.why.service));
            note(w, "%c!%u%s", name_of(w, a.requester), status_of(&a.why), gathers ? "^" : "");
            break;
        case CORE_GONE:
            assert_true(gathers);
            note(w, "%c^", name_of(w, a.requester));
            break;
        case CORE_ENDED:
            note(w, "%c~", name_of(w, a.requester));
            break;
        case CORE_NOTHING:
            fail_msg("an empty action");
        }
    }
}

void world_says(struct world *w, const char *expected, const char *file, int line) {
    if (strcmp(w->trace, expected) != 0)
        fail_msg("%s:%d: expected \"%s\", but it was \"%s\"", file, line, expected, w->trace);
    w->trace[0] = '\0';
}

/* ---- what happens ---- */

static struct world_message *message(struct world *w) {
    assert_in_range(w->message_count, 0, 63);
    struct world_message *m = &w->messages[w->message_count++];
    m->in_core = true;
    return m;
}

/* The next letter. */
static struct world_request *next_request(struct world *w) {
    assert_in_range(w->request_count, 0, WORLD_REQUESTS - 1);
    return &w->requests[w->request_count++];
}

/* What could not be submitted was refused for the reason given, and nothing of it was kept. */
static void refused(struct world *w, struct world_request *r, struct world_message *m, int err) {
    m->in_core = false;
    r->over = true;
    assert_int_equal(r->id, 0);
    assert_int_equal(r->failure.error, err);
    note(w, "%c?%u", name_of(w, &r->requester), status_of(&r->failure));
}

int ask(struct world *w, struct wish wish) {
    struct world_request *r = next_request(w);
    struct world_message *m = message(w);
    m->headers = wish.headers;
    m->unreplayable = wish.unreplayable;
    unsigned priority = wish.priority ? wish.priority % 10 : CORE_PRIORITY_DEFAULT;
    struct core_request request = {.requester = &r->requester,
                                   .message = m,
                                   .bytes = wish.bytes,
                                   .service = slice_of(wish.service),
                                   .tenant = slice_of(wish.tenant),
                                   .cost = wish.cost,
                                   .deadline =
                                       wish.timeout_ms ? w->now + wish.timeout_ms * UINT64_C(1000) : 0,
                                   .priority = priority,
                                   .idempotent = strcmp(wish.method, "POST") != 0};
    int err = core_submit(w->core, w->now, &request, &r->id, &r->failure);
    if (err != 0) refused(w, r, m, err);
    act(w);
    return err;
}

int ask_for(struct world *w, const char *method, const char *service) {
    return ask(w, (struct wish){.service = service, .method = method});
}

int join(struct world *w, const char *services, unsigned n) {
    return join_with(w, "", services, n);
}

int join_with(struct world *w, const char *labels, const char *services, unsigned n) {
    assert_in_range(w->worker_count, 0, WORLD_WORKERS - 1);
    unsigned number = ++w->worker_count;
    struct core_worker worker = {.port = &w->workers[number],
                                 .id = SLICE("worker"),
                                 .labels = slice_of(labels),
                                 .transport = SLICE("test")};
    int err = core_worker_attach(w->core, w->now, &worker, &w->workers[number]);
    if (err != 0) return err;
    struct slice rest = slice_of(services);
    while (err == 0 && rest.p)
        err = core_worker_offer(w->core, w->now, w->workers[number], slice_next(&rest, ','));
    core_worker_slots(w->core, w->now, w->workers[number], n);
    act(w);
    return err;
}

void leave(struct world *w, unsigned worker) {
    core_worker_gone(w->core, w->now, w->workers[worker]);
    act(w);
}

void slots(struct world *w, unsigned worker, unsigned n) {
    core_worker_slots(w->core, w->now, w->workers[worker], n);
    act(w);
}

int relabel(struct world *w, unsigned worker, const char *labels) {
    int err = core_worker_labels(w->core, w->now, w->workers[worker], slice_of(labels));
    act(w);
    return err;
}

bool answer(struct world *w, char request) {
    struct world_request *r = named(w, request);
    struct requester *asked = core_job_answer(w->core, w->now, r->worker, r->job);
    if (asked) assert_ptr_equal(asked, &r->requester);
    act(w);
    return asked != NULL;
}

void done(struct world *w, char request) {
    struct world_request *r = named(w, request);
    core_job_done(w->core, w->now, r->worker, r->job);
    act(w);
}

void slot_free(struct world *w, char request) {
    struct world_request *r = named(w, request);
    core_slot_free(w->core, w->now, r->worker, r->job);
    act(w);
}

void finish(struct world *w, char request) {
    struct world_request r = *named(w, request);
    assert_true(answer(w, request));
    core_job_done(w->core, w->now, r.worker, r.job);
    core_slot_free(w->core, w->now, r.worker, r.job);
    act(w);
}

void lose(struct world *w, char request) {
    struct world_request *r = named(w, request);
    core_job_lost(w->core, w->now, r->worker, r->job);
    act(w);
}

void hand_back(struct world *w, char request) {
    struct world_request *r = named(w, request);
    core_job_handed_back(w->core, w->now, r->worker, r->job);
    act(w);
}

int forward(struct world *w, char request, const char *service) {
    return forward_at(w, request, service, 0);
}

int forward_at(struct world *w, char request, const char *service, uint64_t cost) {
    struct world_request r = *named(w, request);
    struct core_hop hop = {slice_of(service), message(w), 100, cost};
    int err = core_job_forward(w->core, w->now, r.worker, r.job, &hop);
    if (err != 0) ((struct world_message *)hop.message)->in_core = false;
    core_slot_free(w->core, w->now, r.worker, r.job);
    act(w);
    return err;
}

int scatter(struct world *w, char request, unsigned count) {
    struct world_request *r = named(w, request);
    uint64_t id = r->id;
    int err = core_job_scatter(w->core, w->now, r->worker, r->job, count, &r->gatherer, &id);
    assert_int_equal(id, r->id);
    r->gathers |= err == 0;
    core_slot_free(w->core, w->now, r->worker, r->job);
    act(w);
    return err;
}

int part(struct world *w, char request, const char *service) {
    struct world_request *r = next_request(w);
    struct world_message *m = message(w);
    struct core_part part = {
        .requester = &r->requester, .message = m, .bytes = 10, .service = slice_of(service)};
    int err = core_part_submit(w->core, w->now, named(w, request)->id, &part, &r->id, &r->failure);
    if (err != 0) refused(w, r, m, err);
    act(w);
    return err;
}

int gather_forward(struct world *w, char request, const char *service) {
    struct world_request *r = named(w, request);
    struct core_hop hop = {slice_of(service), message(w), 100, 0};
    int err = core_gather_forward(w->core, w->now, r->id, &hop);
    if (err != 0) ((struct world_message *)hop.message)->in_core = false;
    if (err != WEIR_ESTATE) r->gathers = false;
    act(w);
    return err;
}

bool gather_reply(struct world *w, char request) {
    struct world_request *r = named(w, request);
    struct requester *asked = core_gather_reply(w->core, w->now, r->id);
    if (asked) {
        assert_ptr_equal(asked, &r->requester);
        r->gathers = false;
        r->over = true;
    }
    act(w);
    return asked != NULL;
}

void gather_fail(struct world *w, char request, int error) {
    struct world_request *r = named(w, request);
    r->gathers = false;
    core_gather_fail(w->core, w->now, r->id, &(struct failure){.error = error});
    act(w);
}

void give_up(struct world *w, char request) {
    core_cancel(w->core, w->now, named(w, request)->id, CORE_CLIENT_GONE);
    act(w);
}

/* Time passes as a loop would let it: the core is called when it asks for it. */
void pass(struct world *w, uint64_t ms) {
    uint64_t end = w->now + ms * 1000;
    for (uint64_t next; (next = core_next_time(w->core)) <= end;) {
        assert_true(next > w->now); /* it never asks for a time again */
        w->now = next;
        core_tick(w->core, w->now);
        act(w);
    }
    w->now = end;
    core_tick(w->core, w->now);
    act(w);
}

/* ---- services; the end ---- */

void define(struct world *w, const char *service, const struct core_service_config *config) {
    struct core_service_config defaults;
    core_service_defaults(&defaults);
    assert_int_equal(core_service_define(w->core, slice_of(service), config ? config : &defaults), 0);
}

struct world *world_serving(const struct core_service_config *config) {
    struct world *w = world_new(NULL);
    assert_non_null(w);
    define(w, "a", config);
    return w;
}

void world_end(struct world *w) {
    for (unsigned i = 0; i < w->request_count; i++) {
        if (w->requests[i].id) core_cancel(w->core, w->now, w->requests[i].id, CORE_CLIENT_GONE);
        act(w);
    }
    for (unsigned i = 1; i <= w->worker_count; i++) leave(w, i);
    struct core_stats s = world_stats(w);
    assert_true(core_idle(w->core));
    assert_int_equal(s.requests + s.queued + s.queued_bytes + s.running + s.leaving + s.workers, 0);
    world_free(w);
}

/* ---- looking ---- */

struct core_stats world_stats(const struct world *w) {
    struct core_stats s;
    core_stats(w->core, &s);
    return s;
}

struct core_service_view world_service(const struct world *w, const char *name) {
    struct core_service_view v;
    for (uint32_t cursor = 0; core_service_next(w->core, &cursor, &v);)
        if (slice_eq(v.name, slice_of(name))) return v;
    fail_msg("no service %s", name);
    return v;
}

bool world_tenant(const struct world *w, const char *name, struct core_tenant_view *ret) {
    struct core_tenant_cursor cursor = {0};
    struct core_tenant_view v;
    while (core_tenant_next(w->core, &cursor, &v)) {
        if (!slice_eq(v.name, slice_of(name))) continue;
        *ret = v;
        return true;
    }
    return false;
}
