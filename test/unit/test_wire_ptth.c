/* SPDX-License-Identifier: Apache-2.0 */
/* The attach handshake of wire/ptth.h, read as it comes off the wire. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/weir.h"
#include "wire/http1.h"
#include "wire/ptth.h"

static void assert_slice(struct slice s, const char *text) {
    assert_non_null(s.p);
    if (s.n != strlen(text) || memcmp(s.p, text, s.n) != 0)
        fail_msg("'%.*s' is not '%s'", SLICE_ARG(s), text);
}

static struct arena arena;

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

static int parse(struct slice text, struct ptth_offer *ret) {
    struct http_head h;
    const char *why = NULL;
    int r = http1_request(text, &arena, &h, &why);
    if (r) fail_msg("not even HTTP (%s):\n%.*s", why, SLICE_ARG(text));
    r = ptth_parse(&h, &arena, ret, &why);
    assert_int_equal(r == 0, why == NULL);
    return r;
}

#define PATH "/.well-known/ptth/http%3A%2F%2Fprimes/"
#define FIRST(path) "GET " path " HTTP/1.1\r\nHost: hub\r\n"
#define UPGRADE "Connection: Upgrade\r\nUpgrade: ptth\r\n"
#define END "\r\n"

static void the_least(void **state) {
    (void)state;
    struct ptth_offer o;
    assert_int_equal(parse(SLICE(FIRST(PATH) UPGRADE END), &o), 0);
    assert_int_equal(o.protocol, PTTH_HTTP11);
    assert_slice(o.services, "primes");
    assert_null(o.worker.p);
    assert_null(o.labels.p);
    assert_null(o.token.p);
}

static void everything(void **state) {
    (void)state;
    struct ptth_offer o;
    assert_int_equal(
        parse(SLICE(FIRST(
                  "/.well-known/ptth/HTTPS%3a%2f%2fa.example%3A8443/") "Connection: keep-alive, "
                                                                       "UPGRADE\r\nUpgrade: foo, "
                                                                       "PTTH\r\nALPN: h3, h2, http%2F1.1\r\n"
                                                                       "Weir-Service: a, b\r\nWeir-Worker: w "
                                                                       "1\r\nWeir-Labels: "
                                                                       "x=y\r\nWeir-Service: c\r\n"
                                                                       "Weir-Labels: z=1\r\nAuthorization: "
                                                                       "bearer  s3cret \r\nContent-Length: "
                                                                       "0\r\n" END),
              &o),
        0);
    assert_int_equal(o.protocol, PTTH_H2);
    assert_slice(o.services, "a, b,c");
    assert_slice(o.worker, "w 1");
    assert_slice(o.labels, "x=y,z=1");
    assert_slice(o.token, "s3cret");
}

static void protocols(void **state) {
    (void)state;
    static const struct {
        const char *alpn;
        int protocol; /* -1: refused */
    } rows[] = {
        {"h2", PTTH_H2},
        {"http%2F1.1", PTTH_HTTP11},
        {"http%2f1%2E1", PTTH_HTTP11},
        {"%682", PTTH_H2},
        {"http%2F1.1, h2", 0},
        {"h3,h2", PTTH_H2},
        {"h2c", -1},
        {"H2", -1},
        {"", -1},
        {"%", -1},
        {"%zz,h2", PTTH_H2},
        {"h2%00", -1},
        {"a-name-that-is-longer-than-any-that-we-know", -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buffer text;
        buffer_init(&text);
        assert_int_equal(buffer_printf(&text, "%sALPN: %s\r\n\r\n", FIRST(PATH) UPGRADE, rows[i].alpn), 0);
        struct ptth_offer o;
        int r = parse(buffer_slice(&text), &o);
        assert_int_equal(r, rows[i].protocol < 0 ? WEIR_EMALFORMED : 0);
        if (r == 0) assert_int_equal(o.protocol, rows[i].protocol);
        buffer_fini(&text);
    }
}

static void what_is_refused(void **state) {
    (void)state;
    static const struct {
        int error;
        const char *text;
    } wrong[] = {
        {WEIR_ENOTFOUND, FIRST("/") UPGRADE END},
        {WEIR_ENOTFOUND, FIRST("/.well-known/ptth") UPGRADE END},
        {WEIR_ENOTFOUND, "POST / HTTP/1.1\r\nHost: a\r\n" UPGRADE END},
        {WEIR_ENOTALLOWED, "POST " PATH " HTTP/1.1\r\nHost: a\r\n" UPGRADE END},
        {WEIR_EMALFORMED, "GET " PATH " HTTP/1.0\r\nHost: a\r\n" UPGRADE END},
        {WEIR_EMALFORMED, FIRST(PATH) END},
        {WEIR_EMALFORMED, FIRST(PATH) "Upgrade: ptth\r\n" END},
        {WEIR_EMALFORMED, FIRST(PATH) "Connection: upgrade\r\n" END},
        {WEIR_EMALFORMED, FIRST(PATH) "Connection: upgrade\r\nUpgrade: websocket\r\n" END},
        {WEIR_EMALFORMED, FIRST(PATH) "Connection: upgrade\r\nUpgrade: ptth2\r\n" END},
        {WEIR_EMALFORMED, FIRST(PATH) UPGRADE "Content-Length: 1\r\n" END},
        {WEIR_EMALFORMED, FIRST(PATH) UPGRADE "Transfer-Encoding: chunked\r\n" END},
        {WEIR_EMALFORMED, FIRST("/.well-known/ptth/") UPGRADE END},
        {WEIR_EMALFORMED, FIRST("/.well-known/ptth//") UPGRADE END},
        {WEIR_EMALFORMED, FIRST("/.well-known/ptth/http%3A%2F%2Fprimes") UPGRADE END},
        {WEIR_EMALFORMED, FIRST("/.well-known/ptth/http://primes/") UPGRADE END},
        {WEIR_EMALFORMED, FIRST(PATH "x") UPGRADE END},
        {WEIR_EMALFORMED, FIRST(PATH "/") UPGRADE END},
        {WEIR_EMALFORMED, FIRST(PATH "?x/") UPGRADE END},
        {WEIR_EMALFORMED, FIRST("/.well-known/ptth/primes/") UPGRADE END},
        {WEIR_EMALFORMED, FIRST("/.well-known/ptth/ftp%3A%2F%2Fprimes/") UPGRADE END},
        {WEIR_EMALFORMED, FIRST("/.well-known/ptth/http%3A%2F%2F/") UPGRADE END},
        {WEIR_EMALFORMED, FIRST("/.well-known/ptth/http%3A%2F%2F%3A80/") UPGRADE END},
        {WEIR_EMALFORMED, FIRST("/.well-known/ptth/http%3A%2F%2Fa%3Ax/") UPGRADE END},
        {WEIR_EMALFORMED, FIRST("/.well-known/ptth/http%3A%2F%2Fa%3A65536/") UPGRADE END},
        {WEIR_EMALFORMED, FIRST("/.well-known/ptth/http%3A%2F%2Fa%2Fb/") UPGRADE END},
        {WEIR_EMALFORMED, FIRST("/.well-known/ptth/http%3A%2F%2Fa%0D%0Ab/") UPGRADE END},
        {WEIR_EMALFORMED, FIRST("/.well-known/ptth/http%3A%2F%2Fa%00/") UPGRADE END},
        {WEIR_EMALFORMED, FIRST("/.well-known/ptth/http%3A%2F%2Fa%/") UPGRADE END},
        {WEIR_EMALFORMED, FIRST(PATH) UPGRADE "Weir-Service:\r\n" END},
        {WEIR_EMALFORMED, FIRST(PATH) UPGRADE "Weir-Service: a,,b\r\n" END},
        {WEIR_EMALFORMED, FIRST(PATH) UPGRADE "Weir-Service: a b\r\n" END},
        {WEIR_EMALFORMED, FIRST(PATH) UPGRADE "Weir-Service: a\r\nWeir-Service: /\r\n" END},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct ptth_offer o = {.services = SLICE("untouched")};
        int r = parse(slice_of(wrong[i].text), &o);
        if (r != wrong[i].error) fail_msg("%d is not %d for:\n%s", r, wrong[i].error, wrong[i].text);
        assert_slice(o.services, "untouched");
    }
}

static void not_a_bearer(void **state) {
    (void)state;
    struct ptth_offer o;
    assert_int_equal(parse(SLICE(FIRST(PATH) UPGRADE "Authorization: Basic eDp5\r\n" END), &o), 0);
    assert_null(o.token.p);
    assert_int_equal(parse(SLICE(FIRST(PATH) UPGRADE "Authorization: Bearer\r\n" END), &o), 0);
    assert_null(o.token.p);
}

static void written_and_read(void **state) {
    (void)state;
    struct slice none = {0};
    for (int h2 = 0; h2 < 2; h2++) {
        struct buffer out;
        buffer_init(&out);
        enum ptth_protocol protocol = h2 ? PTTH_H2 : PTTH_HTTP11;
        assert_int_equal(ptth_write_request(&out, protocol, SLICE("hub:8081"), SLICE("one,two"), SLICE("w1"),
                                            SLICE("k=v"), SLICE("tok")),
                         0);
        size_t scanned = 0;
        assert_int_equal(http1_scan(buffer_slice(&out), &scanned, 4096), buffer_size(&out));
        struct ptth_offer o;
        assert_int_equal(parse(buffer_slice(&out), &o), 0);
        assert_int_equal(o.protocol, protocol);
        assert_slice(o.services, "one,two");
        assert_slice(o.worker, "w1");
        assert_slice(o.labels, "k=v");
        assert_slice(o.token, "tok");
        buffer_reset(&out);
        assert_int_equal(ptth_write_request(&out, protocol, SLICE("hub"), SLICE("one"), none, none, none), 0);
        assert_int_equal(parse(buffer_slice(&out), &o), 0);
        assert_slice(o.services, "one");
        assert_true(!o.worker.p && !o.labels.p && !o.token.p);
        buffer_fini(&out);
    }
}

static void bad_options_are_not_written(void **state) {
    (void)state;
    struct slice none = {0}, evil = SLICE("x\r\nEvil: 1"), host = SLICE("hub"), one = SLICE("one");
    struct buffer out;
    buffer_init(&out);
    assert_int_equal(ptth_write_request(&out, PTTH_H2, evil, one, none, none, none), WEIR_EINVAL);
    assert_int_equal(ptth_write_request(&out, PTTH_H2, host, evil, none, none, none), WEIR_EINVAL);
    assert_int_equal(ptth_write_request(&out, PTTH_H2, host, none, none, none, none), WEIR_EINVAL);
    assert_int_equal(ptth_write_request(&out, PTTH_H2, host, one, evil, none, none), WEIR_EINVAL);
    assert_int_equal(ptth_write_request(&out, PTTH_H2, host, one, none, evil, none), WEIR_EINVAL);
    assert_int_equal(ptth_write_request(&out, PTTH_H2, host, one, none, none, evil), WEIR_EINVAL);
    assert_int_equal(buffer_size(&out), 0);
    buffer_fini(&out);
}

static void the_accept(void **state) {
    (void)state;
    struct buffer out;
    buffer_init(&out);
    assert_int_equal(ptth_write_accept(&out), 0);
    struct http_head h;
    assert_int_equal(http1_response(buffer_slice(&out), &arena, &h, NULL), 0);
    assert_int_equal(h.status, 101);
    assert_slice(head_get(&h, HEAD_UPGRADE), "ptth");
    assert_slice(head_get(&h, HEAD_CONNECTION), "Upgrade");
    buffer_fini(&out);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_least),
        TEST(everything),
        TEST(protocols),
        TEST(what_is_refused),
        TEST(not_a_bearer),
        TEST(written_and_read),
        TEST(bad_options_are_not_written),
        TEST(the_accept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
