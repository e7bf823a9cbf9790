/* SPDX-License-Identifier: Apache-2.0 */
/* Names, field lists and character rules of wire/head.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/weir.h"
#include "wire/head.h"
#include <stdio.h>
#include <stdlib.h>

static void assert_slice(struct slice s, const char *text) {
    assert_non_null(s.p);
    assert_int_equal(s.n, strlen(text));
    assert_memory_equal(s.p, text, s.n);
}

static void every_name_has_its_id(void **state) {
    (void)state;
    static const struct {
        enum head_name id;
        const char *name;
        bool hop;
    } names[] = {
#define ROW(id, name, hop) {HEAD_##id, name, hop},
        HEAD_NAMES(ROW)
#undef ROW
    };
    assert_int_equal(sizeof names / sizeof names[0], HEAD_NAME_COUNT - 1);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_int_equal(head_name_id(slice_of(names[i].name)), names[i].id);
        assert_slice(head_name_text(names[i].id), names[i].name);
        assert_int_equal(head_name_hop_by_hop(names[i].id), names[i].hop);
    }
}

static void other_names_have_none(void **state) {
    (void)state;
    static const char *const others[] = {
        "", "h", "hos", "hosts", "Host", "accept", "content-lengti", "x", "cookie", "weir-", "weir-jok"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_int_equal(head_name_id(slice_of(others[i])), HEAD_OTHER);
    char longest[1000];
    memset(longest, 'a', sizeof longest);
    for (size_t n = 0; n <= sizeof longest; n++)
        assert_int_equal(head_name_id((struct slice){longest, n}), HEAD_OTHER);
    assert_int_equal(head_name_hop_by_hop(HEAD_OTHER), false);
    assert_true(head_name_is_weir(SLICE("weir-anything")));
    assert_true(head_name_is_weir(SLICE("weir-")));
    assert_false(head_name_is_weir(SLICE("weir")));
    assert_false(head_name_is_weir(SLICE("x-weir-job")));
}

static void add_find_get(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 0, NULL, 0);
    struct http_head h = {0};
    assert_null(head_find(&h, HEAD_HOST));
    assert_null(head_get(&h, HEAD_HOST).p);
    assert_int_equal(head_add(&h, &a, HEAD_HOST, SLICE("a")), 0);
    assert_int_equal(head_add_name(&h, &a, SLICE("accept"), SLICE("*/*")), 0);
    assert_int_equal(head_add_name(&h, &a, SLICE("te"), SLICE("")), 0);
    assert_int_equal(head_add_name(&h, &a, SLICE("te"), SLICE("trailers")), 0);
    assert_int_equal(h.count, 4);
    assert_int_equal(h.fields[1].id, HEAD_OTHER);
    assert_int_equal(h.fields[2].id, HEAD_TE);
    assert_true(head_has(&h, HEAD_HOST) && head_has(&h, HEAD_TE) && !head_has(&h, HEAD_DATE));
    assert_slice(head_get(&h, HEAD_HOST), "a");
    assert_slice(head_get(&h, HEAD_TE), ""); /* the first one */
    assert_slice(head_get_name(&h, SLICE("ACCEPT")), "*/*");
    assert_slice(head_get_name(&h, SLICE("hOsT")), "a");
    assert_null(head_get_name(&h, SLICE("date")).p);
    head_remove(&h, HEAD_TE);
    assert_int_equal(h.count, 2);
    assert_false(head_has(&h, HEAD_TE));
    assert_slice(field_name(&h.fields[0]), "host");
    assert_slice(field_name(&h.fields[1]), "accept");
    head_remove(&h, HEAD_TE);
    assert_int_equal(h.count, 2);
    arena_fini(&a);
}

static void at_most_256_fields(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 0, NULL, 0);
    struct http_head h = {0};
    char values[256][4];
    for (unsigned i = 0; i < 256; i++) {
        snprintf(values[i], sizeof values[i], "%u", i);
        assert_int_equal(head_add_name(&h, &a, SLICE("x-n"), slice_of(values[i])), 0);
    }
    assert_int_equal(head_add_name(&h, &a, SLICE("x-n"), SLICE("")), WEIR_EHEADTOOBIG);
    assert_int_equal(head_add(&h, &a, HEAD_HOST, SLICE("")), WEIR_EHEADTOOBIG);
    assert_int_equal(h.count, 256);
    assert_false(head_has(&h, HEAD_HOST));
    for (unsigned i = 0; i < 256; i++) assert_slice(field_value(&h.fields[i]), values[i]);
    arena_fini(&a);
}

static void too_long_for_its_type(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 0, NULL, 0);
    struct http_head h = {0};
    char *name = malloc(65536);
    memset(name, 'n', 65536);
    assert_int_equal(head_add_name(&h, &a, (struct slice){name, 65536}, SLICE("v")), WEIR_EHEADTOOBIG);
    assert_int_equal(h.count, 0);
    assert_int_equal(head_add_name(&h, &a, (struct slice){name, 65535}, SLICE("v")), 0);
    assert_int_equal(h.fields[0].name_size, 65535);
    free(name);
    arena_fini(&a);
}

static void full_arena(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 64, NULL, 0);
    struct http_head h = {0};
    assert_int_equal(head_add(&h, &a, HEAD_HOST, SLICE("a")), WEIR_ENOMEM);
    assert_int_equal(h.count, 0);
    assert_int_equal(h.seen, 0);
    arena_fini(&a);
}

static void add_text(struct http_head *h, struct arena *a, const char *name, const char *value) {
    assert_int_equal(head_add_name(h, a, slice_of(name), slice_of(value)), 0);
}

static void hop_by_hop_fields_go(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 0, NULL, 0);
    struct http_head h = {0};
    add_text(&h, &a, "x-first", "1");
    add_text(&h, &a, "connection", "close, X-Mine ,,\thost");
    add_text(&h, &a, "host", "a");
    add_text(&h, &a, "x-mine", "2");
    add_text(&h, &a, "content-length", "3");
    add_text(&h, &a, "te", "trailers");
    add_text(&h, &a, "x-other", "4");
    add_text(&h, &a, "connection", "x-other, content-length");
    add_text(&h, &a, "transfer-encoding", "chunked");
    add_text(&h, &a, "keep-alive", "5");
    add_text(&h, &a, "proxy-connection", "6");
    add_text(&h, &a, "trailer", "7");
    add_text(&h, &a, "upgrade", "8");
    add_text(&h, &a, "x-mine", "9");
    add_text(&h, &a, "x-last", "10");
    head_strip_hop_by_hop(&h);
    assert_int_equal(h.count, 4);
    assert_slice(field_name(&h.fields[0]), "x-first");
    assert_slice(field_name(&h.fields[1]), "host"); /* never, even when named */
    assert_slice(field_name(&h.fields[2]), "content-length");
    assert_slice(field_name(&h.fields[3]), "x-last");
    assert_false(head_has(&h, HEAD_CONNECTION));
    assert_true(head_has(&h, HEAD_HOST));
    arena_fini(&a);
}

static void nothing_to_strip(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 0, NULL, 0);
    struct http_head h = {0};
    head_strip_hop_by_hop(&h);
    head_strip_weir(&h, HEAD_NAME_COUNT);
    assert_int_equal(h.count, 0);
    add_text(&h, &a, "x-a", "1");
    add_text(&h, &a, "weir-made-up", "1");
    add_text(&h, &a, "date", "1");
    add_text(&h, &a, "weir-job", "1");
    head_strip_hop_by_hop(&h);
    assert_int_equal(h.count, 4);
    head_strip_weir(&h, HEAD_NAME_COUNT);
    assert_int_equal(h.count, 2);
    assert_slice(field_name(&h.fields[1]), "date");
    assert_false(head_has(&h, HEAD_WEIR_JOB));
    arena_fini(&a);
}

static void methods(void **state) {
    (void)state;
    static const char *const yes[] = {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"};
    static const char *const no[] = {"POST", "PATCH", "CONNECT", "get", "GETS", "", "LOCK"};
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) assert_true(method_idempotent(slice_of(yes[i])));
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) assert_false(method_idempotent(slice_of(no[i])));
}

static void statuses(void **state) {
    (void)state;
    static const unsigned known[] = {100, 101, 200, 201, 202, 203, 204, 205, 206, 300, 301, 302,
                                     303, 304, 305, 307, 308, 400, 401, 402, 403, 404, 405, 406,
                                     407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421,
                                     422, 426, 429, 431, 500, 501, 502, 503, 504, 505, 508, 511};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) assert_true(status_text(known[i])[0] != '\0');
    assert_string_equal(status_text(200), "OK");
    assert_string_equal(status_text(431), "Request Header Fields Too Large");
    assert_string_equal(status_text(299), "");
    assert_string_equal(status_text(0), "");
}

static void every_byte_is_judged(void **state) {
    (void)state;
    for (unsigned c = 0; c < 256; c++) {
        /* at every place in a word, and after it */
        for (size_t at = 0; at < 19; at++) {
            char text[19];
            memset(text, 'v', sizeof text);
            text[at] = (char)c;
            bool control = (c < 0x20 && c != '\t') || c == 0x7f;
            assert_int_equal(text_is_field_value((struct slice){text, sizeof text}), !control);
            const char *found = text_find_control(text, text + sizeof text);
            assert_ptr_equal(found, control ? text + at : text + sizeof text);
        }
        char text[2] = {'/', (char)c};
        assert_int_equal(text_is_target((struct slice){text, 2}), c > 0x20 && c < 0x7f && c != '#');
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool token = alnum || (c && strchr("!#$%&'*+-.^_`|~", (int)c));
        assert_int_equal(text_is_token((struct slice){text + 1, 1}), token);
        bool service = alnum || (c && strchr("._~-", (int)c));
        assert_int_equal(text_is_service((struct slice){text + 1, 1}), service);
    }
    assert_false(text_is_token(SLICE("")));
    assert_true(text_is_field_value(SLICE("")));
    assert_true(text_is_field_value((struct slice){0}));
    assert_false(text_is_target(SLICE("")));
    assert_false(text_is_target(SLICE("x")));
    assert_true(text_is_target(SLICE("/")));
}

static void service_names(void **state) {
    (void)state;
    char name[256];
    memset(name, 's', sizeof name);
    assert_true(text_is_service((struct slice){name, 255}));
    assert_false(text_is_service((struct slice){name, 256}));
    assert_false(text_is_service(SLICE("")));
    assert_false(text_is_service(SLICE("a/b")));
    assert_true(text_is_service(SLICE("Primes-2.x_~")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name_has_its_id),
        cmocka_unit_test(other_names_have_none),
        cmocka_unit_test(add_find_get),
        cmocka_unit_test(at_most_256_fields),
        cmocka_unit_test(too_long_for_its_type),
        cmocka_unit_test(full_arena),
        cmocka_unit_test(hop_by_hop_fields_go),
        cmocka_unit_test(nothing_to_strip),
        cmocka_unit_test(methods),
        cmocka_unit_test(statuses),
        cmocka_unit_test(every_byte_is_judged),
        cmocka_unit_test(service_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
