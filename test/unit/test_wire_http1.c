/* SPDX-License-Identifier: Apache-2.0 */
/* Heads in wire/http1.h: finding, parsing, writing. Texts are parsed from heap copies of their exact
   size, so that the sanitizer sees any step past the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/weir.h"
#include "wire/http1.h"
#include <stdio.h>
#include <stdlib.h>

static void assert_slice(struct slice s, const char *text) {
    assert_non_null(s.p);
    if (s.n != strlen(text) || memcmp(s.p, text, s.n) != 0)
        fail_msg("'%.*s' is not '%s'", SLICE_ARG(s), text);
}

typedef int parse_fn(struct slice, struct arena *, struct http_head *, const char **);

/* Parses a copy and frees it at once: nothing may be borrowed from it. */
static int parse_n(parse_fn *parse, struct slice text, struct arena *a, struct http_head *h,
                   const char **why) {
    char *copy = malloc(text.n ? text.n : 1);
    memcpy(copy, text.p, text.n);
    int r = parse((struct slice){copy, text.n}, a, h, why);
    memset(copy, 'X', text.n);
    free(copy);
    return r;
}

static struct arena arena;

static int request(const char *text, struct http_head *h) {
    const char *why = NULL;
    int r = parse_n(http1_request, slice_of(text), &arena, h, &why);
    if ((r == 0) != (why == NULL)) fail_msg("%d with why '%s' for:\n%s", r, why ? why : "(null)", text);
    return r;
}

static int response(const char *text, struct http_head *h) {
    const char *why = NULL;
    int r = parse_n(http1_response, slice_of(text), &arena, h, &why);
    if ((r == 0) != (why == NULL)) fail_msg("%d with why '%s' for:\n%s", r, why ? why : "(null)", text);
    return r;
}

static int set_up(void **state) {
    (void)state;
    arena_init(&arena, 0, NULL, 0);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    arena_fini(&arena);
    return 0;
}

/* ---------------------------------------------------------------- scanning */

static ptrdiff_t scan_whole(const char *text, size_t limit) {
    size_t scanned = 0;
    return http1_scan(slice_of(text), &scanned, limit);
}

/* The same in every split into steps of n bytes. */
static void scan_is(const char *text, size_t limit, ptrdiff_t want) {
    struct slice all = slice_of(text);
    for (size_t step = 1; step <= all.n + 1; step++) {
        size_t scanned = 0, n = 0;
        ptrdiff_t got;
        do {
            n = n + step < all.n ? n + step : all.n;
            char *copy = malloc(n ? n : 1);
            memcpy(copy, all.p, n);
            got = http1_scan((struct slice){copy, n}, &scanned, limit);
            assert_true(scanned <= n);
            free(copy);
        } while (got == 0 && n < all.n);
        if (got != want) fail_msg("%td is not %td in steps of %zu:\n%s", got, want, step, text);
    }
}

static void scan_finds_the_end(void **state) {
    (void)state;
    scan_is("GET / HTTP/1.1\r\n\r\n", 1000, 18);
    scan_is("GET / HTTP/1.1\r\n\r\nand a body\n\0x", 1000, 18);
    scan_is("GET / HTTP/1.1\r\nHost: a\r\nX:\ty \r\n\r\n", 1000, 34);
    scan_is("GET / HTTP/1.1\r\nHost: a\r\n", 1000, 0);
    scan_is("GET / HTTP/1.1\r\nHost: a\r\n\r", 1000, 0);
    scan_is("", 1000, 0);
    scan_is("G", 1000, 0);
}

static void scan_refuses(void **state) {
    (void)state;
    scan_is("GET / HTTP/1.1\nHost: a\r\n\r\n", 1000, WEIR_EMALFORMED);
    scan_is("GET / HTTP/1.1\r\n\n", 1000, WEIR_EMALFORMED);
    scan_is("GET / HTTP/1.1\r\r\n\r\n", 1000, WEIR_EMALFORMED);
    scan_is("GET / HTTP/1.1\rHost: a\r\n\r\n", 1000, WEIR_EMALFORMED);
    scan_is("\r\nGET / HTTP/1.1\r\n\r\n", 1000, WEIR_EMALFORMED);
    scan_is("\nGET", 1000, WEIR_EMALFORMED);
    scan_is("\r", 1000, 0); /* http1_skip may take it when its LF is there */
    scan_is("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 1000, WEIR_EMALFORMED);
    scan_is("GET / HTTP/1.1\r\n\tc: d\r\n\r\n", 1000, WEIR_EMALFORMED);
    scan_is("GET / HTTP/1.1\r\nA: \x01\r\n\r\n", 1000, WEIR_EMALFORMED);
    scan_is("GET / HTTP/1.1\r\nA: \x7f\r\n\r\n", 1000, WEIR_EMALFORMED);
    size_t scanned = 0;
    assert_int_equal(http1_scan(SLICE("GET /\0 HTTP"), &scanned, 1000), WEIR_EMALFORMED);
}

static void scan_has_a_limit(void **state) {
    (void)state;
    const char *text = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    scan_is(text, 27, 27);
    scan_is(text, 26, WEIR_EHEADTOOBIG);
    scan_is(text, 16, WEIR_EHEADTOOBIG);
    scan_is(text, 15, WEIR_ETARGETTOOBIG);
    scan_is(text, 1, WEIR_ETARGETTOOBIG);
    scan_is("GET /\x01 HTTP/1.1", 5, WEIR_ETARGETTOOBIG); /* what is past the limit is not looked at */
    scan_is("GET /\x01 HTTP/1.1", 6, WEIR_EMALFORMED);
    assert_int_equal(scan_whole("x", 0), WEIR_ETARGETTOOBIG);
}

static void skipping(void **state) {
    (void)state;
    assert_int_equal(http1_skip(SLICE("")), 0);
    assert_int_equal(http1_skip(SLICE("GET")), 0);
    assert_int_equal(http1_skip(SLICE("\r")), 0);
    assert_int_equal(http1_skip(SLICE("\n")), 0);
    assert_int_equal(http1_skip(SLICE("\r\nGET")), 2);
    assert_int_equal(http1_skip(SLICE("\r\n\r")), 2);
    assert_int_equal(http1_skip(SLICE("\r\n\r\nGET")), 4);
    assert_int_equal(http1_skip(SLICE("\r\n\r\n\r\n")), 4);
}

/* ---------------------------------------------------------------- requests */

static void a_request(void **state) {
    (void)state;
    struct http_head h;
    assert_int_equal(
        request("POST /a/b?c=%20d HTTP/1.1\r\nHOST: example.com:8080\r\nX-Odd_Name: \t v w \t\r\n"
                "Content-Length: 42\r\nEmpty:\r\nEmpty2:   \r\nNo-Space:x:y\r\nUtf: \xc3\xbc\r\n\r\n",
                &h),
        0);
    assert_slice(h.method, "POST");
    assert_slice(h.target, "/a/b?c=%20d");
    assert_int_equal(h.status, 0);
    assert_int_equal(h.count, 7);
    assert_slice(field_name(&h.fields[0]), "host");
    assert_slice(field_value(&h.fields[0]), "example.com:8080");
    assert_slice(field_name(&h.fields[1]), "x-odd_name");
    assert_slice(field_value(&h.fields[1]), "v w");
    assert_slice(head_get_name(&h, SLICE("empty")), "");
    assert_slice(head_get_name(&h, SLICE("empty2")), "");
    assert_slice(head_get_name(&h, SLICE("no-space")), "x:y");
    assert_slice(head_get_name(&h, SLICE("utf")), "\xc3\xbc");
    assert_true(h.has_length && !h.chunked && h.keep_alive && !h.http10);
    assert_int_equal(h.content_length, 42);
    assert_int_equal(h.fields[2].id, HEAD_CONTENT_LENGTH);
}

static void requests_that_are_right(void **state) {
    (void)state;
    static const char *const right[] = {
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "M-SEARCH /x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET //double?a=b?c&d=/e;f HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /%zz\"<>[]{}|\\^` HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ChUnKeD\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 000007\r\n\r\n",
        "POST / HTTP/1.0\r\nContent-Length: 7\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encodingx: chunked\r\nContent-Length: 7\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [fe80::1]\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a_b-c.d~e!$&'()*+,;=%41:65535\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~09azAZ: x\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
        struct http_head h;
        int r = request(right[i], &h);
        if (r) fail_msg("%d for:\n%s", r, right[i]);
    }
}

#define FIRST "GET / HTTP/1.1\r\n"
#define HOST "GET / HTTP/1.1\r\nHost: a\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"

static void requests_that_are_wrong(void **state) {
    (void)state;
    static const struct {
        int error;
        const char *text;
    } wrong[] = {
        {WEIR_EMALFORMED, ""},
        {WEIR_EMALFORMED, "\r\n"},
        {WEIR_EMALFORMED, "\r\n\r\n"},
        {WEIR_EMALFORMED, "GET"},
        {WEIR_EMALFORMED, HOST},
        {WEIR_EMALFORMED, HOST "\r\nx"},
        {WEIR_EMALFORMED, HOST "\n"},
        {WEIR_EMALFORMED, "GET\r\n\r\n"},
        {WEIR_EMALFORMED, "GET \r\n\r\n"},
        {WEIR_EMALFORMED, " GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET /  HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET / x HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET /\tHTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET / HTTP/1.10\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET / HTTP/11\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET / http/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET / HTTP/1,1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET / HTTP/x.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "SOURCE / ICE/1.0\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "G\"T / HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET \x80/ HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET /\xc3\xbc HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET * HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "OPTIONS *x HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET a HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET ?q HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET http:/a/ HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET http:// HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET http://a:b/ HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET http://a#f HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET http://a/#f HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET http://a/ HTTP/1.1\r\n\r\n"},
        {WEIR_EVERSION, "GET /\r\n\r\n"},
        {WEIR_EVERSION, "GET / HTTP/0.9\r\n\r\n"},
        {WEIR_EVERSION, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"},
        {WEIR_EVERSION, "GET / HTTP/3.1\r\nHost: a\r\n\r\n"},
        {WEIR_EVERSION, "PRI * HTTP/2.0\r\n\r\n"},
        {WEIR_EMETHOD, "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMETHOD, "BREW / HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMETHOD, "get / HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMETHOD, "GETS / HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMETHOD, "GE / HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EMALFORMED, FIRST "\r\n"},
        {WEIR_EMALFORMED, HOST "Host: a\r\n\r\n"},
        {WEIR_EMALFORMED, "GET / HTTP/1.0\r\nHost: a\r\nhost: a\r\n\r\n"},
        {WEIR_EMALFORMED, FIRST "Host:\r\n\r\n"},
        {WEIR_EMALFORMED, FIRST "Host: a b\r\n\r\n"},
        {WEIR_EMALFORMED, FIRST "Host: a/b\r\n\r\n"},
        {WEIR_EMALFORMED, FIRST "Host: a, b/\r\n\r\n"},
        {WEIR_EMALFORMED, FIRST "Host: u@a\r\n\r\n"},
        {WEIR_EMALFORMED, FIRST "Host: :80\r\n\r\n"},
        {WEIR_EMALFORMED, FIRST "Host: a:80:80\r\n\r\n"},
        {WEIR_EMALFORMED, FIRST "Host: a:65536\r\n\r\n"},
        {WEIR_EMALFORMED, FIRST "Host: a:-1\r\n\r\n"},
        {WEIR_EMALFORMED, FIRST "Host: [::1\r\n\r\n"},
        {WEIR_EMALFORMED, FIRST "Host: []\r\n\r\n"},
        {WEIR_EMALFORMED, FIRST "Host: [::1]a\r\n\r\n"},
        {WEIR_EMALFORMED, FIRST "Host: \xc3\xbc\r\n\r\n"},
        {WEIR_EMALFORMED, "GET / HTTP/1.0\r\nHost: a/\r\n\r\n"},
        {WEIR_EMALFORMED, HOST "A : b\r\n\r\n"},
        {WEIR_EMALFORMED, HOST "A\t: b\r\n\r\n"},
        {WEIR_EMALFORMED, HOST "A B: b\r\n\r\n"},
        {WEIR_EMALFORMED, HOST ": b\r\n\r\n"},
        {WEIR_EMALFORMED, HOST "A\r\n\r\n"},
        {WEIR_EMALFORMED, HOST "A\xc3: b\r\n\r\n"},
        {WEIR_EMALFORMED, HOST "A(: b\r\n\r\n"},
        {WEIR_EMALFORMED, HOST " A: b\r\n\r\n"},
        {WEIR_EMALFORMED, HOST "A: b\r\n c\r\n\r\n"},
        {WEIR_EMALFORMED, HOST "A:\r\n c\r\n\r\n"},
        {WEIR_EMALFORMED, HOST "A: b\r\n\tc\r\n\r\n"},
        {WEIR_EMALFORMED, HOST "A: b\x01\r\n\r\n"},
        {WEIR_EMALFORMED, HOST "A: b\x7f\r\n\r\n"},
        {WEIR_EMALFORMED, HOST "A: b\rc\r\n\r\n"},
        {WEIR_EMALFORMED, HOST "A: b\nC: d\r\n\r\n"},
        {WEIR_EMALFORMED, "GET / HTTP/1.1\nHost: a\n\n"},
        {WEIR_EMALFORMED, POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"},
        {WEIR_EMALFORMED, POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"},
        {WEIR_EMALFORMED, POST "Content-Length: 5, 5\r\n\r\n"},
        {WEIR_EMALFORMED, POST "Content-Length: 5 5\r\n\r\n"},
        {WEIR_EMALFORMED, POST "Content-Length:\r\n\r\n"},
        {WEIR_EMALFORMED, POST "Content-Length: +5\r\n\r\n"},
        {WEIR_EMALFORMED, POST "Content-Length: -5\r\n\r\n"},
        {WEIR_EMALFORMED, POST "Content-Length: 0x5\r\n\r\n"},
        {WEIR_EMALFORMED, POST "Content-Length: 5a\r\n\r\n"},
        {WEIR_EMALFORMED, POST "Content-Length: 18446744073709551616\r\n\r\n"},
        {WEIR_EMALFORMED, POST "Content-Length: 99999999999999999999999\r\n\r\n"},
        {WEIR_EMALFORMED, POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"},
        {WEIR_EMALFORMED, POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"},
        {WEIR_EMALFORMED, POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"},
        {WEIR_EMALFORMED, POST "Transfer-Encoding: chunked, chunked\r\n\r\n"},
        {WEIR_EMALFORMED, POST "Transfer-Encoding: gzip, chunked\r\n\r\n"},
        {WEIR_EMALFORMED, POST "Transfer-Encoding: gzip\r\n\r\n"},
        {WEIR_EMALFORMED, POST "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"},
        {WEIR_EMALFORMED, POST "Transfer-Encoding: identity\r\n\r\n"},
        {WEIR_EMALFORMED, POST "Transfer-Encoding:\r\n\r\n"},
        {WEIR_EMALFORMED, POST "Transfer-Encoding: xchunked\r\n\r\n"},
        {WEIR_EMALFORMED, POST "Transfer-Encoding: \"chunked\"\r\n\r\n"},
        {WEIR_EMALFORMED, POST "Transfer-Encoding: chunked;q=1\r\n\r\n"},
        {WEIR_EMALFORMED, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct http_head h;
        memset(&h, 0x5a, sizeof h);
        struct http_head before = h;
        int r = request(wrong[i].text, &h);
        if (r != wrong[i].error) fail_msg("%d is not %d for:\n%s", r, wrong[i].error, wrong[i].text);
        assert_memory_equal(&h, &before, sizeof h);
    }
}

static void a_nul_is_refused(void **state) {
    (void)state;
    static const char places[][64] = {"GET /? HTTP/1.1\r\nHost: a\r\n\r\n",
                                      "GET / HTTP/1.1\r\nHo?t: a\r\n\r\n",
                                      "GET / HTTP/1.1\r\nHost: a?\r\n\r\n"};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        char text[64];
        size_t n = strlen(places[i]);
        memcpy(text, places[i], n);
        *(char *)memchr(text, '?', n) = '\0';
        struct http_head h;
        assert_int_equal(parse_n(http1_request, (struct slice){text, n}, &arena, &h, NULL), WEIR_EMALFORMED);
    }
}

static void absolute_form(void **state) {
    (void)state;
    static const struct {
        const char *text, *target, *host;
    } rows[] = {
        {"GET http://b.org:81/p?q HTTP/1.1\r\nHost: a\r\n\r\n", "/p?q", "b.org:81"},
        {"GET HTTPS://b/ HTTP/1.1\r\nHost: a\r\n\r\n", "/", "b"},
        {"GET http://b HTTP/1.1\r\nHost: a\r\n\r\n", "/", "b"},
        {"GET http://b?x=/y HTTP/1.1\r\nHost: a\r\n\r\n", "/?x=/y", "b"},
        {"GET http://b/ HTTP/1.0\r\n\r\n", "/", "b"},
        {"GET http://[::1]:1/x HTTP/1.1\r\nHost: a\r\n\r\n", "/x", "[::1]:1"},
        {"OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n", "*", "b"},
        {"OPTIONS http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", "/", "b"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct http_head h;
        assert_int_equal(request(rows[i].text, &h), 0);
        assert_slice(h.target, rows[i].target);
        assert_slice(head_get(&h, HEAD_HOST), rows[i].host);
        assert_int_equal(h.count, 1);
    }
}

static void keep_alive(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool keep;
    } rows[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: CLOSE\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, close ,y\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n", true},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection:\r\n\r\n", true},
        {"GET / HTTP/1.0\r\n\r\n", false},
        {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true},
        {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
        {"GET / HTTP/1.0\r\nConnection: x\r\nConnection: y,keep-alive\r\n\r\n", true},
        {"GET / HTTP/1.0\r\nConnection: close, keep-alive\r\n\r\n", false},
        {"GET / HTTP/1.0\r\nConnection: keep-alive2\r\n\r\n", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct http_head h;
        assert_int_equal(request(rows[i].text, &h), 0);
        if (h.keep_alive != rows[i].keep) fail_msg("keep_alive %d for:\n%s", h.keep_alive, rows[i].text);
        assert_int_equal(h.http10, strstr(rows[i].text, "HTTP/1.0") != NULL);
    }
}

static void too_many_fields(void **state) {
    (void)state;
    static char text[20000];
    for (unsigned fields = 255; fields <= 257; fields++) {
        size_t n = (size_t)sprintf(text, HOST);
        for (unsigned i = 1; i < fields; i++) n += (size_t)sprintf(text + n, "A%u: %u\r\n", i, i);
        sprintf(text + n, "\r\n");
        struct http_head h;
        assert_int_equal(request(text, &h), fields <= 256 ? 0 : WEIR_EHEADTOOBIG);
        if (fields > 256) continue;
        assert_int_equal(h.count, fields);
        assert_slice(head_get_name(&h, SLICE("a200")), "200");
    }
    for (unsigned options = 64; options <= 65; options++) {
        size_t n = (size_t)sprintf(text, HOST "Connection: x");
        for (unsigned i = 1; i < options; i++) n += (size_t)sprintf(text + n, ",x");
        sprintf(text + n, "\r\n\r\n");
        struct http_head h;
        assert_int_equal(request(text, &h), options <= 64 ? 0 : WEIR_EHEADTOOBIG);
    }
}

/* http_parser has a limit of its own. */
static void over_80_kib(void **state) {
    (void)state;
    static char text[100000];
    size_t n = (size_t)sprintf(text, HOST "A: ");
    memset(text + n, 'v', 90000);
    strcpy(text + n + 90000, "\r\n\r\n");
    struct http_head h;
    assert_int_equal(request(text, &h), WEIR_EHEADTOOBIG);
}

static void arena_over_its_limit(void **state) {
    (void)state;
    for (size_t limit = 1; limit < 2000; limit += 13) {
        struct arena small;
        arena_init(&small, limit, NULL, 0);
        struct http_head h;
        const char *why = NULL;
        int r = parse_n(http1_request, SLICE("GET http://b?q HTTP/1.0\r\nA: b\r\n\r\n"), &small, &h, &why);
        assert_true(r == 0 || r == WEIR_ENOMEM);
        if (limit < 30) assert_int_equal(r, WEIR_ENOMEM);
        if (limit > 1500) assert_int_equal(r, 0);
        arena_fini(&small);
    }
}

/* --------------------------------------------------------------- responses */

static void a_response(void **state) {
    (void)state;
    struct http_head h;
    assert_int_equal(
        response("HTTP/1.1 200 OK, fine \xe2\x98\xba\r\nServer: x\r\nContent-Length: 5\r\n\r\n", &h), 0);
    assert_int_equal(h.status, 200);
    assert_null(h.method.p);
    assert_true(h.keep_alive && h.has_length && !h.http10);
    assert_int_equal(h.content_length, 5);
    assert_slice(head_get(&h, HEAD_SERVER), "x");
    assert_int_equal(response("HTTP/1.0 404 \r\n\r\n", &h), 0);
    assert_int_equal(h.status, 404);
    assert_true(!h.keep_alive && h.http10 && !h.has_length);
    assert_int_equal(response("HTTP/1.1 999\r\n\r\n", &h), 0);
    assert_int_equal(h.status, 999);
    assert_int_equal(
        response("HTTP/1.1 101 Switching Protocols\r\nUpgrade: ptth\r\nConnection: upgrade\r\n\r\n", &h), 0);
    assert_int_equal(response("HTTP/1.1 100 Continue\r\n\r\n", &h), 0);
    assert_int_equal(h.status, 100);
    assert_int_equal(response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &h), 0);
    assert_true(h.chunked);
}

static void responses_that_are_wrong(void **state) {
    (void)state;
    static const struct {
        int error;
        const char *text;
    } wrong[] = {
        {WEIR_EMALFORMED, "HTTP\r\n\r\n"},
        {WEIR_EMALFORMED, "HTTP/1.1\r\n\r\n"},
        {WEIR_EMALFORMED, "HTTP/1.1 \r\n\r\n"},
        {WEIR_EMALFORMED, "HTTP/1.1  200 OK\r\n\r\n"},
        {WEIR_EMALFORMED, "HTTP/1.1\t200 OK\r\n\r\n"},
        {WEIR_EMALFORMED, "HTTP/1.1 20\r\n\r\n"},
        {WEIR_EMALFORMED, "HTTP/1.1 20 OK\r\n\r\n"},
        {WEIR_EMALFORMED, "HTTP/1.1 2000 OK\r\n\r\n"},
        {WEIR_EMALFORMED, "HTTP/1.1 200OK\r\n\r\n"},
        {WEIR_EMALFORMED, "HTTP/1.1 099 OK\r\n\r\n"},
        {WEIR_EMALFORMED, "HTTP/1.1 000 OK\r\n\r\n"},
        {WEIR_EMALFORMED, "HTTP/1.1 2x0 OK\r\n\r\n"},
        {WEIR_EMALFORMED, "HTTP/1.1 +20 OK\r\n\r\n"},
        {WEIR_EMALFORMED, "http/1.1 200 OK\r\n\r\n"},
        {WEIR_EMALFORMED, "ICY 200 OK\r\n\r\n"},
        {WEIR_EMALFORMED, "HTTP/1.1 200 O\x01K\r\n\r\n"},
        {WEIR_EMALFORMED, "HTTP/1.1 200 OK\nA: b\r\n\r\n"},
        {WEIR_EMALFORMED, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
        {WEIR_EVERSION, "HTTP/2.0 200 OK\r\n\r\n"},
        {WEIR_EVERSION, "HTTP/0.9 200 OK\r\n\r\n"},
        {WEIR_EMALFORMED, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n"},
        {WEIR_EMALFORMED, "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n"},
        {WEIR_EMALFORMED, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"},
        {WEIR_EMALFORMED, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"},
        {WEIR_EMALFORMED, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"},
        {WEIR_EMALFORMED, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
        {WEIR_EMALFORMED, "HTTP/1.1 200 OK\r\nA : b\r\n\r\n"},
        {WEIR_EMALFORMED, "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"},
        {WEIR_EMALFORMED, "HTTP/1.1 200 OK\r\nno colon\r\n\r\n"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct http_head h;
        int r = response(wrong[i].text, &h);
        if (r != wrong[i].error) fail_msg("%d is not %d for:\n%s", r, wrong[i].error, wrong[i].text);
    }
}

/* ----------------------------------------------------------------- writing */

static void writing(void **state) {
    (void)state;
    struct http_head h;
    struct buffer out;
    buffer_init(&out);
    const char *text = "PUT /x?y HTTP/1.1\r\nhost: a\r\nx-empty: \r\ncontent-length: 3\r\n\r\n";
    assert_int_equal(request(text, &h), 0);
    assert_int_equal(http1_write_request(&out, &h), 0);
    assert_slice(buffer_slice(&out), text);

    buffer_reset(&out);
    struct http_head answer = {.status = 503, .fields = h.fields, .count = 1};
    assert_int_equal(http1_write_response(&out, &answer, 1), 0);
    assert_slice(buffer_slice(&out), "HTTP/1.1 503 Service Unavailable\r\nhost: a\r\n\r\n");
    answer.status = 299;
    answer.count = 0;
    buffer_reset(&out);
    assert_int_equal(http1_write_response(&out, &answer, 0), 0);
    assert_slice(buffer_slice(&out), "HTTP/1.0 299 \r\n\r\n");
    assert_int_equal(response("HTTP/1.0 299 \r\n\r\n", &h), 0);

    buffer_reset(&out);
    assert_int_equal(http1_write_chunk(&out, SLICE("0123456789abcdefX")), 0);
    assert_int_equal(http1_write_chunk(&out, SLICE("y")), 0);
    assert_int_equal(http1_write_last_chunk(&out), 0);
    assert_slice(buffer_slice(&out), "11\r\n0123456789abcdefX\r\n1\r\ny\r\n0\r\n\r\n");
    buffer_fini(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scan_finds_the_end),
        cmocka_unit_test(scan_refuses),
        cmocka_unit_test(scan_has_a_limit),
        cmocka_unit_test(skipping),
        cmocka_unit_test_setup_teardown(a_request, set_up, tear_down),
        cmocka_unit_test_setup_teardown(requests_that_are_right, set_up, tear_down),
        cmocka_unit_test_setup_teardown(requests_that_are_wrong, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_nul_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(absolute_form, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keep_alive, set_up, tear_down),
        cmocka_unit_test_setup_teardown(too_many_fields, set_up, tear_down),
        cmocka_unit_test_setup_teardown(over_80_kib, set_up, tear_down),
        cmocka_unit_test(arena_over_its_limit),
        cmocka_unit_test_setup_teardown(a_response, set_up, tear_down),
        cmocka_unit_test_setup_teardown(responses_that_are_wrong, set_up, tear_down),
        cmocka_unit_test_setup_teardown(writing, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
