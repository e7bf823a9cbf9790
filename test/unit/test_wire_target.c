/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/target.h"

static void assert_text(struct slice got, const char *wanted) {
    if (!wanted) {
        assert_null(got.p);
        return;
    }
    assert_non_null(got.p);
    assert_int_equal(got.n, strlen(wanted));
    assert_memory_equal(got.p, wanted, got.n);
}

static void parts(void **state) {
    (void)state;
    static const struct {
        const char *target, *path, *query;
    } rows[] = {{"/", "/", NULL},        {"/a/b", "/a/b", NULL},  {"/a?", "/a", ""},
                {"/a?b=c", "/a", "b=c"}, {"/a?b?c", "/a", "b?c"}, {"?x", "", "x"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_text(target_path(slice_of(rows[i].target)), rows[i].path);
        assert_text(target_query(slice_of(rows[i].target)), rows[i].query);
    }
}

static void values(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 0, NULL, 0);
    struct slice query = SLICE("a=1&b=&c&d=x%20y+z&%65=e&a=2&bad=%zz&f=g=h");
    static const struct {
        const char *name, *raw, *decoded;
    } rows[] = {{"a", "1", "1"},      {"b", "", ""},      {"c", "", ""},        {"d", "x%20y+z", "x y z"},
                {"e", NULL, "e"},     {"%65", "e", NULL}, {"bad", "%zz", NULL}, {"f", "g=h", "g=h"},
                {"none", NULL, NULL}, {"", NULL, NULL}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_text(query_raw(query, slice_of(rows[i].name)), rows[i].raw);
        assert_text(query_value(query, slice_of(rows[i].name), &a), rows[i].decoded);
    }
    assert_text(query_value((struct slice){0}, SLICE("a"), &a), NULL);
    assert_text(query_raw((struct slice){0}, SLICE("a")), NULL);
    arena_fini(&a);
}

static void segments(void **state) {
    (void)state;
    assert_text(path_segment(SLICE("/a/b%2f/"), 1), "a");
    assert_text(path_segment(SLICE("/a/b%2f/"), 2), "b%2f");
    assert_text(path_segment(SLICE("/a/b%2f/"), 3), "");
    assert_text(path_segment(SLICE("/a/b%2f/"), 4), NULL);
    assert_text(path_segment(SLICE("/a"), 0), NULL);
    assert_text(path_segment(SLICE("a"), 1), NULL);
    assert_text(path_segment(SLICE(""), 1), NULL);
}

static void without_memory(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 2, NULL, 0);
    assert_text(query_value(SLICE("name=value"), SLICE("name"), &a), NULL);
    arena_fini(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(parts), cmocka_unit_test(values),
                                       cmocka_unit_test(segments), cmocka_unit_test(without_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
