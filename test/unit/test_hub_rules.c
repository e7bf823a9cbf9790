/* SPDX-License-Identifier: Apache-2.0 */
/* What the core may ask about a message: header fields, parameters of the query, segments of the path. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hub/private.h"
#include "wire/message.h"

static struct slice value(const char *target, enum core_value kind, const char *name) {
    struct message m = {.head.target = slice_of(target)};
    return hub_value(NULL, &m, kind, slice_of(name));
}

static void expect(struct slice got, const char *wanted) {
    if (!wanted) {
        assert_null(got.p);
        return;
    }
    assert_non_null(got.p);
    assert_int_equal(got.n, strlen(wanted));
    assert_memory_equal(got.p, wanted, got.n);
}

static void test_query(void **state) {
    (void)state;
    static const char target[] = "/a/b?x=1&y=&z&w=a=b&x=2&%78=3&=4";
    expect(value(target, CORE_VALUE_QUERY, "x"), "1"); /* the first one */
    expect(value(target, CORE_VALUE_QUERY, "y"), "");
    expect(value(target, CORE_VALUE_QUERY, "z"), "");
    expect(value(target, CORE_VALUE_QUERY, "w"), "a=b");
    expect(value(target, CORE_VALUE_QUERY, "%78"), "3"); /* as sent */
    expect(value(target, CORE_VALUE_QUERY, "b"), NULL);
    expect(value("/x=1", CORE_VALUE_QUERY, "x"), NULL);
    expect(value("/a?", CORE_VALUE_QUERY, "x"), NULL);
    expect(value("/a?b?x=1", CORE_VALUE_QUERY, "x"), NULL);
    expect(value("/a?b?x=1", CORE_VALUE_QUERY, "b?x"), "1");
}

static void test_path(void **state) {
    (void)state;
    expect(value("/a/b%2Fc/d?x=/e", CORE_VALUE_PATH, "1"), "a");
    expect(value("/a/b%2Fc/d?x=/e", CORE_VALUE_PATH, "2"), "b%2Fc");
    expect(value("/a/b%2Fc/d?x=/e", CORE_VALUE_PATH, "3"), "d");
    expect(value("/a/b%2Fc/d?x=/e", CORE_VALUE_PATH, "4"), NULL);
    expect(value("/a/", CORE_VALUE_PATH, "2"), "");
    expect(value("/a/", CORE_VALUE_PATH, "3"), NULL);
    expect(value("/", CORE_VALUE_PATH, "1"), "");
    expect(value("/a", CORE_VALUE_PATH, "0"), NULL);
    expect(value("/a", CORE_VALUE_PATH, "18446744073709551615"), NULL);
    expect(value("/a", CORE_VALUE_PATH, "x"), NULL);
    expect(value("*", CORE_VALUE_PATH, "1"), NULL);
}

static void test_header(void **state) {
    (void)state;
    struct message *m = message_new(4096);
    assert_non_null(m);
    assert_int_equal(head_add_name(&m->head, &m->arena, SLICE("x-zone"), SLICE("eu")), 0);
    assert_int_equal(head_add_name(&m->head, &m->arena, SLICE("x-empty"), SLICE("")), 0);
    expect(hub_value(NULL, m, CORE_VALUE_HEADER, SLICE("X-Zone")), "eu");
    expect(hub_value(NULL, m, CORE_VALUE_HEADER, SLICE("x-empty")), "");
    expect(hub_value(NULL, m, CORE_VALUE_HEADER, SLICE("x-none")), NULL);
    message_unref(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_query), cmocka_unit_test(test_path),
                                       cmocka_unit_test(test_header)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
