/* SPDX-License-Identifier: Apache-2.0 */
/* Callbacks over the model of a store: what is sent when, and what the store is told of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "durable/callbacks.h"
#include "lib/fault.h"
#include "model.h"
#include "weir/weir.h"
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST = 256, NOW = 1767323045 };
#define NOW_MS (UINT64_C(1000) * NOW + 678)
#define SECRET "s3cret"

struct sent {
    char url[128], body[512], fields[4][160];
    unsigned job;
    void (*done)(void *call, unsigned status, const char *why);
    void *call;
};

struct world {
    struct store *store;
    struct callbacks *callbacks;
    struct url allowed[2];
    uint64_t now, random;
    struct sent sent[MOST];
    unsigned count;
    unsigned given_up, given_up_attempts;
    const char *given_up_why;
    int send_error;
    long fail_at; /* this allocation when an answer of the store is taken up */
};

/* ---- what the hub does ---- */

static uint64_t now_ms(void *ctx) {
    struct world *w = ctx;
    if (w->fail_at) fault_fail_at(w->fail_at);
    w->fail_at = 0; /* from the first time on */
    return w->now;
}

static uint64_t random_bits;
static int give_random(uint64_t *ret) {
    *ret = random_bits;
    return 0;
}

static int send_notice(void *ctx, const struct callbacks_notice *n,
                       void (*done)(void *call, unsigned status, const char *why), void *call) {
    struct world *w = ctx;
    if (w->send_error) return w->send_error;
    assert_in_range(w->count, 0, MOST - 1);
    struct sent *s = &w->sent[w->count++];
    snprintf(s->url, sizeof(s->url), "%s", n->url);
    snprintf(s->body, sizeof(s->body), "%.*s", SLICE_ARG(n->body));
    for (unsigned i = 0; i < 4; i++) snprintf(s->fields[i], sizeof(s->fields[i]), "%s", n->fields[i]);
    assert_null(n->fields[4]);
    char *id = strstr(s->body, "-8000-");
    assert_non_null(id);
    s->job = (unsigned)strtoul(id + 6, NULL, 16);
    s->done = done;
    s->call = call;
    return 0;
}

static void note_given_up(void *ctx, struct store_id id, unsigned attempts, const char *why) {
    struct world *w = ctx;
    (void)id;
    w->given_up++;
    w->given_up_attempts = attempts;
    w->given_up_why = why;
}

static void make_callbacks(struct world *w) {
    struct callbacks_config c = {.store = w->store,
                                 .now_ms = now_ms,
                                 .random = give_random,
                                 .send = send_notice,
                                 .given_up = note_given_up,
                                 .ctx = w,
                                 .allowed = w->allowed,
                                 .allowed_count = 2,
                                 .secret = SLICE(SECRET),
                                 .attempts = 4};
    assert_int_equal(callbacks_new(&c, &w->callbacks), 0);
}

static void world_init(struct world *w) {
    *w = (struct world){.now = NOW_MS};
    random_bits = 0;
    w->store = model_new();
    assert_true(url_parse(SLICE("https://a.example/hooks/"), &w->allowed[0]));
    assert_true(url_parse(SLICE("http://127.0.0.1:99"), &w->allowed[1]));
    make_callbacks(w);
}

static void world_fini(struct world *w) {
    store_close(&w->store);
    callbacks_free(&w->callbacks);
}

/* Until nothing happens by itself at this time. */
static void turn(struct world *w) {
    int turns = 0;
    do {
        callbacks_tick(w->callbacks, w->now);
        store_turn(w->store);
        assert_in_range(++turns, 1, 1000);
    } while (model_under_way(w->store) > 0 || callbacks_next_time(w->callbacks) <= w->now);
}

static void answer(struct world *w, unsigned index, unsigned status) {
    struct sent *s = &w->sent[index];
    assert_non_null(s->done);
    void (*done)(void *, unsigned, const char *) = s->done;
    s->done = NULL;
    done(s->call, status, status ? NULL : "no answer");
}

static struct callbacks_stats stats(const struct world *w) {
    struct callbacks_stats s;
    callbacks_stats(w->callbacks, &s);
    return s;
}

/* ---- what jobs do ---- */

static struct store_id id_of(unsigned n) {
    return (struct store_id){UINT64_C(0x7000), UINT64_C(0x8000) << 48 | n};
}

static void on_done(struct store_op *op) {
    (void)op;
}

static void run(struct world *w, struct store_op *op) {
    store_submit(w->store, op);
    store_turn(w->store);
    assert_int_equal(op->err, 0);
}

static void put(struct world *w, unsigned n, const char *callback) {
    struct store_op op;
    store_op_init(&op, STORE_JOB_PUT, on_done);
    op.job = (struct store_job){
        .id = id_of(n), .service = SLICE("pri\"mes"), .created = w->now, .callback = slice_of(callback)};
    op.lease = true;
    run(w, &op);
    store_op_fini(&op);
}

static void finish(struct world *w, unsigned n, uint64_t fence, enum store_job_state state, unsigned status) {
    struct store_op op;
    store_op_init(&op, STORE_JOB_FINISH, on_done);
    op.job = (struct store_job){.id = id_of(n),
                                .fence = fence,
                                .state = state,
                                .ended = w->now,
                                .expires = w->now + 1000000,
                                .callback_at = w->now,
                                .status = status};
    run(w, &op);
    store_op_fini(&op);
}

/* Puts and ends one. */
static void ended(struct world *w, unsigned n) {
    put(w, n, "http://127.0.0.1:99/x");
    finish(w, n, 1, STORE_DONE, 200);
    callbacks_ended(w->callbacks, id_of(n), w->now);
}

static void revive(struct world *w, unsigned n) {
    struct store_op op;
    store_op_init(&op, STORE_JOB_REVIVE, on_done);
    op.job.id = id_of(n);
    run(w, &op);
    store_op_fini(&op);
}

static struct store_job stored(struct world *w, unsigned n) {
    struct store_op op;
    store_op_init(&op, STORE_JOB_GET, on_done);
    op.job.id = id_of(n);
    run(w, &op);
    struct store_job job = op.ret_job;
    store_op_fini(&op);
    return job; /* its texts are gone */
}

/* ---- stories ---- */

static void check_signature(const struct sent *s, const char *field, uint64_t at) {
    char signed_text[600], want[160];
    unsigned char mac[32];
    unsigned n = 0;
    snprintf(signed_text, sizeof(signed_text), "%llu.%s", (unsigned long long)at, s->body);
    assert_non_null(HMAC(EVP_sha256(), SECRET, (int)strlen(SECRET), (const unsigned char *)signed_text,
                         strlen(signed_text), mac, &n));
    int length = snprintf(want, sizeof(want), "Weir-Signature: t=%llu,v1=", (unsigned long long)at);
    for (unsigned i = 0; i < n; i++) length += snprintf(want + length, 3, "%02x", mac[i]);
    assert_int_equal(n, 32);
    assert_string_equal(field, want);
}

static void a_notice(void **state) {
    (void)state;
    struct world w;
    world_init(&w);
    put(&w, 1, "https://a.example/hooks/x?y");
    turn(&w);
    assert_int_equal(w.count, 0); /* it has not ended */
    finish(&w, 1, 1, STORE_DONE, 201);
    callbacks_ended(w.callbacks, id_of(1), w.now);
    turn(&w);
    assert_int_equal(w.count, 1);
    const struct sent *s = &w.sent[0];
    assert_string_equal(s->url, "https://a.example/hooks/x?y");
    assert_string_equal(s->body,
                        "{\"id\":\"00000000-0000-7000-8000-000000000001\",\"service\":\"pri\\\"mes\","
                        "\"state\":\"done\",\"status\":201,\"ended\":\"2026-01-02T03:04:05.678Z\","
                        "\"result\":\"/-/jobs/00000000-0000-7000-8000-000000000001/result\"}");
    assert_string_equal(s->fields[0], "Content-Type: application/json");
    assert_string_equal(s->fields[1], "Weir-Delivery: 00000000-0000-7000-8000-000000000001");
    assert_string_equal(s->fields[2], "Weir-Attempt: 1");
    check_signature(s, s->fields[3], NOW);
    assert_int_not_equal(stored(&w, 1).callback_at, 0);
    assert_int_equal(stats(&w).sending, 1);
    answer(&w, 0, 204);
    turn(&w);
    assert_int_equal(stored(&w, 1).callback_at, 0);
    assert_int_equal(stats(&w).delivered, 1);
    assert_int_equal(stats(&w).sending, 0);
    assert_true(callbacks_next_time(w.callbacks) == UINT64_MAX);
    w.now += 10000000;
    turn(&w);
    assert_int_equal(w.count, 1);
    world_fini(&w);
}

static void other_ends(void **state) {
    (void)state;
    static const struct {
        enum store_job_state state;
        unsigned status;
        const char *says;
    } rows[] = {{STORE_FAILED, 404, "\"state\":\"failed\",\"status\":404,"},
                {STORE_DEAD, 502, "\"state\":\"dead\",\"status\":502,"},
                {STORE_CANCELLED, 0, "\"state\":\"cancelled\",\"ended\":"}};
    for (unsigned i = 0; i < 3; i++) {
        struct world w;
        world_init(&w);
        put(&w, 1, "http://127.0.0.1:99/");
        finish(&w, 1, rows[i].state == STORE_CANCELLED ? 0 : 1, rows[i].state, rows[i].status);
        callbacks_ended(w.callbacks, id_of(1), w.now);
        turn(&w);
        assert_int_equal(w.count, 1);
        assert_non_null(strstr(w.sent[0].body, rows[i].says));
        answer(&w, 0, 200);
        turn(&w);
        assert_int_equal(w.count, 1);
        world_fini(&w);
    }
}

/* Each wait is 1 s, twice as long each time, and up to half of it less. */
static void tried_again(void **state) {
    (void)state;
    static const unsigned answers[] = {500, 0, 302};
    for (int longest = 0; longest < 2; longest++) {
        struct world w;
        world_init(&w);
        ended(&w, 1);
        turn(&w);
        for (unsigned i = 0; i < 3; i++) {
            uint64_t wait = (1000u << i) / 2;
            random_bits = longest ? wait : 0;
            answer(&w, i, answers[i]);
            turn(&w);
            if (longest) wait *= 2;
            assert_int_equal(stored(&w, 1).callback_at, w.now + wait);
            assert_int_equal(stored(&w, 1).callback_attempt, i + 1);
            assert_true(callbacks_next_time(w.callbacks) == w.now + wait);
            w.now += wait - 1;
            turn(&w);
            assert_int_equal(w.count, i + 1);
            w.now++;
            turn(&w);
            assert_int_equal(w.count, i + 2);
            char attempt[32];
            snprintf(attempt, sizeof(attempt), "Weir-Attempt: %u", i + 2);
            assert_string_equal(w.sent[i + 1].fields[2], attempt);
            assert_string_equal(w.sent[i + 1].body, w.sent[0].body);
            check_signature(&w.sent[i + 1], w.sent[i + 1].fields[3], w.now / 1000);
        }
        if (longest) {
            answer(&w, 3, 200);
            turn(&w);
            assert_int_equal(stats(&w).delivered, 1);
            assert_int_equal(w.given_up, 0);
        } else {
            answer(&w, 3, 0);
            turn(&w);
            assert_int_equal(w.given_up, 1);
            assert_int_equal(w.given_up_attempts, 4);
            assert_string_equal(w.given_up_why, "no answer");
            assert_int_equal(stats(&w).given_up, 1);
            assert_int_equal(stats(&w).failed, 4);
        }
        assert_int_equal(stored(&w, 1).callback_at, 0);
        assert_true(callbacks_next_time(w.callbacks) == UINT64_MAX);
        world_fini(&w);
    }
}

static bool keep_none(const struct store_op *op, void *ctx) {
    (void)op;
    (void)ctx;
    return false;
}

/* The receiver has answered, and the hub dies before the store knows. */
static void at_least_once(void **state) {
    (void)state;
    for (int told = 0; told < 2; told++) {
        struct world w;
        world_init(&w);
        ended(&w, 1);
        turn(&w);
        answer(&w, 0, 200);
        if (told) turn(&w);
        model_crash(w.store, keep_none, NULL);
        callbacks_free(&w.callbacks);
        make_callbacks(&w);
        turn(&w);
        assert_int_equal(w.count, told ? 1 : 2);
        if (!told) assert_string_equal(w.sent[1].fields[2], "Weir-Attempt: 1");
        world_fini(&w);
    }
}

static void the_store_fails(void **state) {
    (void)state;
    struct world w;
    world_init(&w);
    ended(&w, 1);
    model_fail(w.store, WEIR_EUNAVAILABLE, 1);
    turn(&w);
    assert_int_equal(w.count, 0);
    assert_true(callbacks_next_time(w.callbacks) == w.now + 1000);
    w.now += 1000;
    turn(&w);
    assert_int_equal(w.count, 1);
    answer(&w, 0, 200);
    for (int i = 0; i < 3; i++) {
        model_fail(w.store, WEIR_ENOSPACE, 1);
        turn(&w);
        assert_int_equal(stats(&w).sending, 1);
        assert_true(callbacks_next_time(w.callbacks) == w.now + 1000);
        w.now += 1000;
    }
    ended(&w, 2); /* others go on, and 1, which is still due, is not sent again */
    turn(&w);
    assert_int_equal(w.count, 2);
    assert_int_equal(w.sent[1].job, 2);
    assert_int_equal(stored(&w, 1).callback_at, 0);
    answer(&w, 1, 200);
    turn(&w);
    assert_int_equal(stats(&w).delivered, 2);
    world_fini(&w);
}

static void not_sent(void **state) {
    (void)state;
    struct world w;
    world_init(&w);
    put(&w, 1, ""); /* cancelled: has a time, but no URL */
    finish(&w, 1, 0, STORE_CANCELLED, 0);
    turn(&w);
    assert_int_equal(stored(&w, 1).callback_at, 0);
    assert_int_equal(w.given_up, 0);
    put(&w, 2, "http://127.0.0.1:98/"); /* was allowed when it came */
    finish(&w, 2, 1, STORE_DONE, 200);
    callbacks_ended(w.callbacks, id_of(2), w.now);
    turn(&w);
    assert_int_equal(stored(&w, 2).callback_at, 0);
    assert_int_equal(w.given_up, 1);
    w.send_error = WEIR_EINVAL;
    ended(&w, 3);
    turn(&w);
    assert_int_equal(stored(&w, 3).callback_at, 0);
    assert_int_equal(w.given_up, 2);
    w.send_error = WEIR_ENOMEM;
    ended(&w, 4);
    turn(&w);
    assert_int_equal(w.given_up, 2);
    assert_int_equal(w.count, 0);
    assert_int_equal(stats(&w).sending, 0);
    w.send_error = 0;
    w.now += 1000;
    turn(&w);
    assert_int_equal(w.count, 1);
    assert_string_equal(w.sent[0].fields[2], "Weir-Attempt: 1");
    world_fini(&w);
}

static void many(void **state) {
    (void)state;
    struct world w;
    bool seen[101] = {0};
    world_init(&w);
    for (unsigned i = 1; i <= 100; i++) {
        ended(&w, i);
        turn(&w);
        assert_in_range(stats(&w).sending, 0, CALLBACKS_AT_ONCE);
    }
    assert_in_range(w.count, CALLBACKS_AT_ONCE / 2, CALLBACKS_AT_ONCE);
    for (unsigned i = 0; i < 100; i++) {
        assert_in_range(i, 0, w.count - 1);
        assert_false(seen[w.sent[i].job]);
        seen[w.sent[i].job] = true;
        answer(&w, i, 200);
        turn(&w);
        assert_in_range(stats(&w).sending, 0, CALLBACKS_AT_ONCE);
    }
    assert_int_equal(w.count, 100);
    assert_int_equal(stats(&w).delivered, 100);
    assert_int_equal(stats(&w).sending, 0);
    world_fini(&w);
}

/* What was due before the hub started, all at once. */
static void many_left(void **state) {
    (void)state;
    struct world w;
    world_init(&w);
    for (unsigned i = 1; i <= 100; i++) {
        put(&w, i, "http://127.0.0.1:99/x");
        finish(&w, i, 1, STORE_DONE, 200);
        w.now++;
    }
    turn(&w);
    assert_int_equal(w.count, CALLBACKS_AT_ONCE);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(w.sent[i].job, i + 1); /* the earliest first */
        answer(&w, i, 200);
        turn(&w);
    }
    assert_int_equal(stats(&w).delivered, 100);
    world_fini(&w);
}

/* A dead one that is told of is revived and ends again: that is told, too. */
static void ended_again(void **state) {
    (void)state;
    for (int when = 0; when < 3; when++) {
        struct world w;
        world_init(&w);
        put(&w, 1, "http://127.0.0.1:99/x");
        finish(&w, 1, 1, STORE_DEAD, 500);
        callbacks_ended(w.callbacks, id_of(1), w.now);
        turn(&w);
        assert_int_equal(w.count, 1);
        if (when == 0) answer(&w, 0, 200); /* the store takes "it is told" before what follows */
        w.now += 500;
        revive(&w, 1);
        finish(&w, 1, 0, STORE_DONE, 200);
        if (when == 1) answer(&w, 0, 200); /* and here after it */
        callbacks_ended(w.callbacks, id_of(1), w.now);
        if (when == 2) answer(&w, 0, 500); /* and here the jobs have been quicker */
        turn(&w);
        assert_int_equal(w.count, 2);
        assert_non_null(strstr(w.sent[1].body, "\"state\":\"done\""));
        assert_string_equal(w.sent[1].fields[2], "Weir-Attempt: 1");
        answer(&w, 1, 200);
        turn(&w);
        assert_int_equal(w.count, 2);
        assert_int_equal(stored(&w, 1).callback_at, 0);
        world_fini(&w);
    }
}

/* The store was asked, for another reason, when it had the end already, and the jobs had not heard so. */
static void told_late_of_its_end(void **state) {
    (void)state;
    struct world w;
    world_init(&w);
    put(&w, 1, "http://127.0.0.1:99/x");
    finish(&w, 1, 1, STORE_DONE, 200);
    turn(&w);
    assert_int_equal(w.count, 1);
    callbacks_ended(w.callbacks, id_of(1), w.now);
    answer(&w, 0, 200);
    turn(&w);
    assert_int_equal(w.count, 1);
    assert_int_equal(stored(&w, 1).callback_at, 0);
    world_fini(&w);
}

/* The store takes its time. */
static void asked_once(void **state) {
    (void)state;
    struct world w;
    world_init(&w);
    turn(&w);
    ended(&w, 1);
    ended(&w, 2);
    model_hold(w.store, true);
    callbacks_tick(w.callbacks, w.now);
    callbacks_ended(w.callbacks, id_of(2), w.now);
    callbacks_tick(w.callbacks, w.now);
    assert_int_equal(model_under_way(w.store), 1);
    assert_true(callbacks_next_time(w.callbacks) > w.now);
    model_hold(w.store, false);
    turn(&w);
    assert_int_equal(w.count, 2);
    world_fini(&w);
}

/* Its job expires meanwhile. */
static void expired(void **state) {
    (void)state;
    struct world w;
    world_init(&w);
    ended(&w, 1);
    turn(&w);
    struct store_op op;
    store_op_init(&op, STORE_SWEEP, on_done);
    op.now = w.now + 1000000;
    op.limit = 10;
    run(&w, &op);
    assert_int_equal(op.count, 1);
    store_op_fini(&op);
    answer(&w, 0, 500);
    turn(&w);
    assert_int_equal(stats(&w).sending, 0);
    assert_true(callbacks_next_time(w.callbacks) == UINT64_MAX);
    world_fini(&w);
}

static void drained(void **state) {
    (void)state;
    struct world w;
    world_init(&w);
    ended(&w, 1);
    ended(&w, 2);
    callbacks_tick(w.callbacks, w.now); /* the store has been asked */
    callbacks_drain(w.callbacks);
    store_turn(w.store);
    assert_int_equal(w.count, 0);
    assert_true(callbacks_next_time(w.callbacks) == UINT64_MAX);
    callbacks_free(&w.callbacks);
    make_callbacks(&w);
    turn(&w);
    assert_int_equal(w.count, 2);
    ended(&w, 3);
    callbacks_drain(w.callbacks);
    answer(&w, 0, 200); /* what is under way counts */
    turn(&w);
    assert_int_equal(w.count, 2);
    assert_int_equal(stats(&w).delivered, 1);
    world_fini(&w);
}

static void refusals(void **state) {
    (void)state;
    struct world w;
    world_init(&w);
    static const char *const allowed[] = {"https://a.example/hooks/", "https://A.EXAMPLE:443/hooks/x?y",
                                          "http://127.0.0.1:99", "http://127.0.0.1:99/any/thing"};
    static const char *const refused[] = {
        "https://a.example/hooks",     "https://a.example/",     "http://a.example/hooks/",
        "https://b.example/hooks/",    "http://127.0.0.1/",      "http://127.0.0.1:9/",
        "http://127.0.0.1:99@evil/",   "gopher://127.0.0.1:99/", "",
        "https://a.example/hooks/../x"};
    for (size_t i = 0; i < 4; i++) {
        assert_null(callbacks_refuse(w.callbacks, slice_of(allowed[i])));
        assert_non_null(callbacks_refuse(NULL, slice_of(allowed[i])));
    }
    for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++)
        if (!callbacks_refuse(w.callbacks, slice_of(refused[i]))) fail_msg("allowed: %s", refused[i]);
    char text[CALLBACKS_URL + 2];
    memset(text, 'x', sizeof(text));
    memcpy(text, "http://127.0.0.1:99/", 20);
    assert_null(callbacks_refuse(w.callbacks, (struct slice){text, CALLBACKS_URL}));
    assert_non_null(callbacks_refuse(w.callbacks, (struct slice){text, CALLBACKS_URL + 1}));
    world_fini(&w);
}

/* Each allocation of taking up a job fails in turn: it is sent later, and nothing leaks. */
static void out_of_memory(void **state) {
    (void)state;
    long n = 0;
    for (bool failed = true; failed;) {
        struct world w;
        long live = fault_live();
        world_init(&w);
        ended(&w, 1);
        w.fail_at = ++n;
        callbacks_tick(w.callbacks, w.now);
        store_turn(w.store); /* takes it up: the first that this asks for is the time */
        fault_fail_at(0);
        failed = w.count == 0;
        if (failed) {
            assert_int_equal(stats(&w).sending, 0);
            w.now += 1000;
            turn(&w);
        }
        assert_int_equal(w.count, 1);
        assert_string_equal(w.sent[0].fields[2], "Weir-Attempt: 1");
        answer(&w, 0, 200);
        turn(&w);
        assert_int_equal(stored(&w, 1).callback_at, 0);
        world_fini(&w);
        assert_int_equal(fault_live(), live);
    }
    assert_true(n > 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_notice),      cmocka_unit_test(other_ends),
        cmocka_unit_test(tried_again),   cmocka_unit_test(at_least_once),
        cmocka_unit_test(not_sent),      cmocka_unit_test(the_store_fails),
        cmocka_unit_test(many),          cmocka_unit_test(many_left),
        cmocka_unit_test(ended_again),   cmocka_unit_test(told_late_of_its_end),
        cmocka_unit_test(asked_once),    cmocka_unit_test(expired),
        cmocka_unit_test(drained),       cmocka_unit_test(refusals),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
