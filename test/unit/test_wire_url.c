/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/url.h"
#include <stdio.h>
#include <stdlib.h>

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static void check_slice(struct slice s, const char *want) {
    if (!want) {
        assert_null(s.p);
        return;
    }
    assert_int_equal(s.n, strlen(want));
    assert_memory_equal(s.p, want, s.n);
}

static void parts(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool https;
        const char *host;
        unsigned port;
        const char *path, *query;
    } rows[] = {
        {"http://a", false, "a", 80, "", NULL},
        {"HTTPS://A.example", true, "A.example", 443, "", NULL},
        {"https://a.example:8443/", true, "a.example", 8443, "/", NULL},
        {"http://127.0.0.1:1/x/y?z=1&u=http://b/", false, "127.0.0.1", 1, "/x/y", "z=1&u=http://b/"},
        {"http://[::1]:65535/a", false, "[::1]", 65535, "/a", NULL},
        {"http://[2001:db8::ffff:1.2.3.4]", false, "[2001:db8::ffff:1.2.3.4]", 80, "", NULL},
        {"http://a?", false, "a", 80, "", ""},
        {"http://a/%41%2f@:!$&'()*+,;=~", false, "a", 80, "/%41%2f@:!$&'()*+,;=~", NULL},
        {"http://a/.../..a/.b/a..", false, "a", 80, "/.../..a/.b/a..", NULL},
        {"http://a/?../..", false, "a", 80, "/", "../.."},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct url u;
        if (!url_parse(slice_of(rows[i].text), &u)) fail_msg("refused: %s", rows[i].text);
        assert_int_equal(u.https, rows[i].https);
        assert_int_equal(u.port, rows[i].port);
        check_slice(u.host, rows[i].host);
        check_slice(u.path, rows[i].path);
        check_slice(u.query, rows[i].query);
    }
}

static void refused(void **state) {
    (void)state;
    static const char *const rows[] = {
        "",
        "http",
        "http:",
        "http:/",
        "http://",
        "http:///",
        "http://?",
        "//a/",
        "/a",
        "a",
        "ftp://a/",
        "file:///etc",
        "httpx://a",
        "http ://a",
        " http://a",
        "http://a ",
        "http://user@a/",
        "http://user:pass@a/",
        "http://a@b",
        "http://a:b@c/",
        "http://a/#",
        "http://a#b",
        "http://a/?x#y",
        "http://a:",
        "http://a:/",
        "http://a:0/",
        "http://a:65536/",
        "http://a:99999999999999999999/",
        "http://a:8x/",
        "http://a:-1/",
        "http://:80/",
        "http://a\\@b/",
        "http://a\\b",
        "http://a/\\b",
        "http://a/ b",
        "http://a/\tb",
        "http://a/\r\nX: y",
        "http://a\r\n/",
        "http://\xc3\xa4/",
        "http://a/\xc3\xa4",
        "http://a/%",
        "http://a/%4",
        "http://a/%4g",
        "http://a/?%",
        "http://a%2eb/",
        "http://a,b/",
        "http://a/<b>",
        "http://a/\"",
        "http://a/{b}",
        "http://a/^",
        "http://a/|",
        "http://a/`",
        "http://a/[b]",
        "http://[::1",
        "http://[]/",
        "http://[::1]x/",
        "http://[::1]:/",
        "http://[::1%25lo]/",
        "http://::1/",
        "http://a/.",
        "http://a/..",
        "http://a/./",
        "http://a/../",
        "http://a/b/..",
        "http://a/b/../c",
        "http://a/b/./c",
        "http://a/%2e",
        "http://a/%2E%2e/b",
        "http://a/.%2e/b",
        "http://a/%2e.",
        "http://a/b%2f..%2fc",
        "http://a/b%2F..",
        "http://a/b%5c..%5cc",
        "http://a/..;/b",
        "http://a/..;x=1/b",
        "http://a/.;/b",
        "http://a/b/..?c",
        "http://a/%2e%2e%3b/b",
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct url u = {.port = 7};
        size_t n = strlen(rows[i]);
        char *exact = malloc(n + 1); /* so that a sanitizer sees what is read past the end */
        assert_non_null(exact);
        memcpy(exact, rows[i], n);
        char *end = realloc(exact, n ? n : 1);
        assert_non_null(end);
        if (url_parse((struct slice){end, n}, &u)) fail_msg("taken: %s", rows[i]);
        assert_int_equal(u.port, 7);
        free(end);
    }
    struct url u;
    assert_false(url_parse((struct slice){"http://a\0b/", 11}, &u));
    assert_false(url_parse((struct slice){"http://a/\0b", 11}, &u));
    assert_false(url_parse((struct slice){"http\0://a/", 10}, &u));
    assert_false(url_parse((struct slice){"http://[\0]/", 11}, &u));
}

static void below(void **state) {
    (void)state;
    static const struct {
        const char *prefix, *text;
        bool is;
    } rows[] = {
        {"https://a", "https://a", true},
        {"https://a", "https://a/", true},
        {"https://a/", "https://a", true},
        {"https://a", "https://a/b/c?d", true},
        {"https://a", "https://A:443/b", true},
        {"https://a:443", "HTTPS://a/b", true},
        {"https://a", "http://a/b", false},
        {"https://a", "http://a:443/b", false},
        {"https://a", "https://a:444/b", false},
        {"https://a", "https://ab/", false},
        {"https://a", "https://a.b/", false},
        {"https://a.b", "https://a/", false},
        {"https://a/hooks", "https://a/hooks", true},
        {"https://a/hooks", "https://a/hooks/", true},
        {"https://a/hooks", "https://a/hooks?x", true},
        {"https://a/hooks", "https://a/hooks/x/y", true},
        {"https://a/hooks", "https://a/hooksx", false},
        {"https://a/hooks", "https://a/hook", false},
        {"https://a/hooks", "https://a/Hooks", false},
        {"https://a/hooks", "https://a/hooks%2fx", false},
        {"https://a/hooks", "https://a", false},
        {"https://a/hooks", "https://a/x/hooks", false},
        {"https://a/hooks/", "https://a/hooks", false},
        {"https://a/hooks/", "https://a/hooks/", true},
        {"https://a/hooks/", "https://a/hooks/x?y", true},
        {"http://[::1]:8", "http://[::1]:8/x", true},
        {"http://[::1]:8", "http://[::2]:8/x", false},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct url u, prefix;
        assert_true(url_parse(slice_of(rows[i].text), &u));
        assert_true(url_parse(slice_of(rows[i].prefix), &prefix));
        if (url_below(&u, &prefix) != rows[i].is) fail_msg("%s below %s", rows[i].text, rows[i].prefix);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(parts), cmocka_unit_test(refused),
                                       cmocka_unit_test(below)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
