/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of ZeroMQ workers, wire/w1.h: what is understood, and from whom. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/weir.h"
#include "wire/w1.h"

enum { MOST = 9 };

static int parse(const char *const *texts, bool from_worker, struct w1 *ret) {
    struct slice frames[MOST];
    unsigned count = 0;
    const char *why = NULL;
    for (; texts[count]; count++) frames[count] = slice_of(texts[count]);
    int r = w1_parse(frames, count, from_worker, ret, &why);
    assert_int_equal(r == 0, why == NULL);
    return r;
}

#define WORKER(ret, ...) parse((const char *const[]){"W1", __VA_ARGS__, NULL}, true, ret)
#define HUB(ret, ...) parse((const char *const[]){"W1", __VA_ARGS__, NULL}, false, ret)

static void assert_slice(struct slice s, const char *text) {
    assert_non_null(s.p);
    if (s.n != strlen(text) || memcmp(s.p, text, s.n) != 0)
        fail_msg("'%.*s' is not '%s'", SLICE_ARG(s), text);
}

static void ready(void **state) {
    (void)state;
    struct w1 m;
    assert_int_equal(WORKER(&m, "READY", "w7", "a,b", "12", "k=v"), 0);
    assert_int_equal(m.kind, W1_READY);
    assert_slice(m.worker, "w7");
    assert_slice(m.services, "a,b");
    assert_int_equal(m.number, 12);
    assert_slice(m.labels, "k=v");
    assert_null(m.token.p);
    assert_int_equal(WORKER(&m, "READY", "", "a", "0", "", "secret"), 0);
    assert_slice(m.worker, "");
    assert_slice(m.labels, "");
    assert_slice(m.token, "secret");
    char id[W1_ID_MAX + 2] = "";
    memset(id, 'x', W1_ID_MAX);
    assert_int_equal(WORKER(&m, "READY", id, "a", "1", ""), 0);
    id[W1_ID_MAX] = 'x';
    assert_int_equal(WORKER(&m, "READY", id, "a", "1", ""), WEIR_EMALFORMED);
    assert_int_equal(WORKER(&m, "READY", "a\nb", "a", "1", ""), WEIR_EMALFORMED);
    assert_int_equal(WORKER(&m, "READY", "w", "", "1", ""), WEIR_EMALFORMED);
    assert_int_equal(WORKER(&m, "READY", "w", "a,,b", "1", ""), WEIR_EMALFORMED);
    assert_int_equal(WORKER(&m, "READY", "w", "a b", "1", ""), WEIR_EMALFORMED);
    assert_int_equal(WORKER(&m, "READY", "w", "a", "one", ""), WEIR_EMALFORMED);
    assert_int_equal(WORKER(&m, "READY", "w", "a", "1", "k\x01"), WEIR_EMALFORMED);
    assert_int_equal(WORKER(&m, "READY", "w", "a", "1", "", "t\r\n"), WEIR_EMALFORMED);
}

static void of_a_job(void **state) {
    (void)state;
    struct w1 m;
    assert_int_equal(WORKER(&m, "REPLY", "1f", "head", "body"), 0);
    assert_int_equal(m.kind, W1_REPLY);
    assert_int_equal(m.job, 0x1f);
    assert_slice(m.head, "head");
    assert_slice(m.bytes, "body");
    assert_int_equal(WORKER(&m, "FAIL", "ffffffffffffffff", "1", "why"), 0);
    assert_true(m.job == UINT64_MAX);
    assert_int_equal(m.number, 1);
    assert_slice(m.text, "why");
    assert_int_equal(WORKER(&m, "MORE", "2", "65536"), 0);
    assert_int_equal(m.number, 65536);
    assert_int_equal(HUB(&m, "JOB", "2", "h", ""), 0);
    assert_int_equal(HUB(&m, "CANCEL", "2", "deadline"), 0);
    assert_int_equal(HUB(&m, "ERROR", "not attached"), 0);
    assert_slice(m.text, "not attached");
}

static void bad_ids_and_numbers(void **state) {
    (void)state;
    static const char *const ids[] = {"", "0", "1F", "0x1", " 1", "1 ", "-1", "g", "10000000000000000"};
    static const char *const numbers[] = {"", "-1", "+1", "1 ", "x", "1.5", "18446744073709551616"};
    struct w1 m;
    for (size_t i = 0; i < sizeof(ids) / sizeof(*ids); i++)
        assert_int_equal(WORKER(&m, "ACK", ids[i]), WEIR_EMALFORMED);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
        assert_int_equal(WORKER(&m, "SLOTS", numbers[i]), WEIR_EMALFORMED);
    assert_int_equal(WORKER(&m, "SLOTS", "18446744073709551615"), 0);
    assert_int_equal(WORKER(&m, "FAIL", "1", "2", ""), WEIR_EMALFORMED);
}

static void not_w1(void **state) {
    (void)state;
    struct w1 m;
    const char *why;
    assert_int_equal(w1_parse(NULL, 0, true, &m, &why), WEIR_EMALFORMED);
    assert_int_equal(parse((const char *const[]){"W1", NULL}, true, &m), WEIR_EMALFORMED);
    assert_int_equal(parse((const char *const[]){"W2", "PING", NULL}, true, &m), WEIR_EMALFORMED);
    assert_int_equal(parse((const char *const[]){"", "PING", NULL}, true, &m), WEIR_EMALFORMED);
    assert_int_equal(WORKER(&m, "ping"), WEIR_EMALFORMED);
    assert_int_equal(WORKER(&m, ""), WEIR_EMALFORMED);
    assert_int_equal(WORKER(&m, "NOSUCH"), WEIR_EMALFORMED);
}

/* Every kind, by the table: who may send it, with how many frames. */
static void the_table(void **state) {
    (void)state;
    static const struct {
        const char *name;
        bool worker, hub;
        unsigned least, most;
        const char *frames[5];
    } rows[] = {
        {"READY", true, false, 4, 5, {"w", "s", "1", "", "t"}},
        {"SLOTS", true, false, 1, 1, {"1"}},
        {"ACK", true, false, 1, 1, {"1"}},
        {"REPLY", true, false, 3, 3, {"1", "h", "b"}},
        {"FAIL", true, false, 3, 3, {"1", "0", "t"}},
        {"JOB", false, true, 3, 3, {"1", "h", "b"}},
        {"CANCEL", false, true, 2, 2, {"1", "t"}},
        {"ERROR", false, true, 1, 1, {"t"}},
        {"HEAD", true, true, 2, 2, {"1", "h"}},
        {"BODY", true, true, 2, 2, {"1", "b"}},
        {"END", true, true, 1, 1, {"1"}},
        {"MORE", true, true, 2, 2, {"1", "1"}},
        {"PING", true, true, 0, 0, {NULL}},
        {"PONG", true, true, 0, 0, {NULL}},
        {"BYE", true, true, 0, 0, {NULL}},
    };
    assert_int_equal(sizeof(rows) / sizeof(*rows), W1_KIND_COUNT);
    for (size_t i = 0; i < W1_KIND_COUNT; i++) {
        for (unsigned n = 0; n <= 6; n++) {
            const char *texts[MOST] = {"W1", rows[i].name};
            for (unsigned k = 0; k < n; k++)
                texts[2 + k] = k < 5 && rows[i].frames[k] ? rows[i].frames[k] : "x";
            bool fits = n >= rows[i].least && n <= rows[i].most;
            struct w1 m;
            assert_int_equal(parse(texts, true, &m) == 0, fits && rows[i].worker);
            assert_int_equal(parse(texts, false, &m) == 0, fits && rows[i].hub);
        }
    }
}

static void bodies_are_bounded(void **state) {
    (void)state;
    static char bytes[W1_REPLY_MAX + 1];
    static const struct {
        const char *kind;
        bool from_worker, head;
        size_t most;
    } rows[] = {{"BODY", true, false, W1_BODY_MAX},
                {"BODY", false, false, W1_BODY_MAX},
                {"JOB", false, true, W1_BODY_MAX},
                {"REPLY", true, true, W1_REPLY_MAX}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct slice frames[5] = {SLICE("W1"), slice_of(rows[i].kind), SLICE("1")};
        unsigned count = 3;
        const char *why;
        struct w1 m;
        if (rows[i].head) frames[count++] = SLICE("h");
        frames[count] = (struct slice){bytes, rows[i].most};
        assert_int_equal(w1_parse(frames, count + 1, rows[i].from_worker, &m, &why), 0);
        frames[count].n++;
        assert_int_equal(w1_parse(frames, count + 1, rows[i].from_worker, &m, &why), WEIR_EMALFORMED);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ready),  cmocka_unit_test(of_a_job),  cmocka_unit_test(bad_ids_and_numbers),
        cmocka_unit_test(not_w1), cmocka_unit_test(the_table), cmocka_unit_test(bodies_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
