/* SPDX-License-Identifier: Apache-2.0 */
/* Body framing of wire/http1.h: each text is fed whole, byte by byte and in every other step size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/weir.h"
#include "wire/http1.h"
#include <stdio.h>
#include <stdlib.h>

struct outcome {
    char payload[4096];
    size_t size; /* of the payload */
    size_t used;
    int error; /* 0, or what http1_body_next or _eof gave */
    bool done;
};

/* What is in data, fed in steps; rest is what a step did not use, as a connection would keep it. */
static void feed(struct http1_body b, struct slice data, size_t step, struct outcome *ret) {
    memset(ret, 0, sizeof *ret);
    size_t n = 0;
    while (!b.done && n < data.n) {
        n = n + step < data.n ? n + step : data.n;
        ptrdiff_t used = 1;
        while (used > 0 && !b.done && ret->used < n) {
            size_t size = n - ret->used;
            char *copy = malloc(size);
            memcpy(copy, data.p + ret->used, size);
            struct slice payload = {0};
            used = http1_body_next(&b, (struct slice){copy, size}, &payload);
            if (used >= 0) {
                assert_true((size_t)used <= size && payload.n <= (size_t)used);
                assert_true(ret->size + payload.n <= sizeof ret->payload);
                if (payload.n) memcpy(ret->payload + ret->size, payload.p, payload.n);
                ret->size += payload.n;
                ret->used += (size_t)used;
            }
            free(copy);
        }
        if (used < 0) {
            ret->error = (int)used;
            struct slice payload;
            assert_int_equal(http1_body_next(&b, SLICE("0"), &payload), WEIR_EMALFORMED); /* for good */
            return;
        }
        assert_int_equal(ret->used, b.done ? ret->used : n); /* takes all that it is given */
    }
    ret->done = b.done;
    ret->error = http1_body_eof(&b);
}

static void feeds(struct http1_body b, struct slice data, const char *payload, size_t used, int error) {
    for (size_t step = data.n + 1; step > 0; step--) {
        struct outcome o;
        feed(b, data, step, &o);
        if (o.error != error) fail_msg("%d is not %d in steps of %zu:\n%s", o.error, error, step, data.p);
        if (error == WEIR_EMALFORMED) continue;
        assert_int_equal(o.size, strlen(payload));
        assert_memory_equal(o.payload, payload, o.size);
        assert_int_equal(o.used, used);
        assert_int_equal(o.done, error == 0 && b.framing != HTTP1_UNTIL_CLOSE);
    }
}

static struct http1_body chunked(void) {
    struct http1_body b;
    http1_body_init(&b, &(struct http_head){.chunked = true}, (struct slice){0});
    assert_int_equal(b.framing, HTTP1_CHUNKED);
    return b;
}

static void chunks_are(const char *text, const char *payload, const char *rest) {
    feeds(chunked(), slice_of(text), payload, strlen(text) - strlen(rest), 0);
}

static void chunks_that_are_right(void **state) {
    (void)state;
    chunks_are("0\r\n\r\n", "", "");
    chunks_are("5\r\nhello\r\n0\r\n\r\n", "hello", "");
    chunks_are("5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\nGET / HTTP/1.1\r\n", "hello, world",
               "GET / HTTP/1.1\r\n");
    chunks_are("A\r\n0123456789\r\n0b\r\n\r\n0\r\n\r\n5\r\n\n\r\n00\r\n\r\n",
               "0123456789\r\n0\r\n\r\n5\r\n\n", "");
    chunks_are("5;a=b;c=\"d;\";e\r\nhello\r\n0;x\r\n\r\n", "hello", "");
    chunks_are("5 ;a\r\nhello\r\n0 \t ; x\r\n\r\n", "hello", "");
    chunks_are("1\r\nx\r\n0\r\nTrailer: v\r\nOther:\r\n\r\nrest", "x", "rest");
    chunks_are("0000000000000001\r\nx\r\n0\r\n\r\n", "x", "");
}

static void chunks_that_are_cut(void **state) {
    (void)state;
    const char *text = "5;x\r\nhello\r\n0\r\nA: b\r\n\r\n";
    for (size_t n = 0; n < strlen(text); n++) {
        char payload[6] = "hello";
        size_t size = n < 5 ? 0 : n - 5 < 5 ? n - 5 : 5;
        payload[size] = '\0';
        feeds(chunked(), (struct slice){text, n}, payload, n, WEIR_ECUT);
    }
}

static void chunks_that_are_broken(void **state) {
    (void)state;
    static const char *const broken[] = {
        "\r\n",
        "\n",
        " 5\r\nhello",
        "x",
        "-1\r\n",
        "+1\r\n",
        "0x5\r\nhello",
        "g\r\n",
        ";a\r\n",
        "5\nhello\n",
        "5\r\rhello",
        "5\rhello",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello",
        "5;a\nhello",
        "5;\x01\r\nhello",
        "5;\x7f\r\nhello",
        "5;a\r\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "10000000000000000\r\n",
        "fffffffffffffffff\r\n",
        "0\r\n\n",
        "0\r\n\rx",
        "0\r\nA\r\n\r\n",
        "0\r\n: b\r\n\r\n",
        "0\r\nA : b\r\n\r\n",
        "0\r\n A: b\r\n\r\n",
        "0\r\nA: b\r\n c\r\n\r\n",
        "0\r\nA: b\n\r\n",
        "0\r\nA: \x01\r\n\r\n",
        "0\r\nA: b\rc\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++)
        feeds(chunked(), slice_of(broken[i]), "", 0, WEIR_EMALFORMED);
}

static void the_largest_chunk(void **state) {
    (void)state;
    struct http1_body b = chunked();
    struct slice payload;
    assert_int_equal(http1_body_next(&b, SLICE("ffffffffffffffff\r\nab"), &payload), 20);
    assert_int_equal(payload.n, 2);
    assert_true(b.left == UINT64_MAX - 2);
}

/* Extensions, leading zeros and trailers may be 8 KiB, all together. */
static void overhead_is_bounded(void **state) {
    (void)state;
    static const struct {
        const char *before, *fill, *after;
        size_t own; /* bytes of overhead beside the fill */
    } rows[] = {
        {"1;", "x", "\r\na\r\n0\r\n\r\n", 2}, /* ';' and the last size's zero */
        {"", "0", "1\r\na\r\n0\r\n\r\n", 1},  {"0\r\nA:", "v", "\r\n\r\n", 3},
        {"0\r\n", "n", ":\r\n\r\n", 2},       {"1 ", " ", ";\r\na\r\n0\r\n\r\n", 3},
        {"0\r\n", "A:\r\n", "\r\n", 1}, /* 2 of 4 count */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t unit = strlen(rows[i].fill), counted = unit == 1 ? 1 : 2;
        for (unsigned over = 0; over < 2; over++) {
            size_t units = (8192 - rows[i].own) / counted + over;
            char *text = malloc(units * unit + 100), *at = stpcpy(text, rows[i].before);
            for (size_t n = 0; n < units; n++) at = stpcpy(at, rows[i].fill);
            at = stpcpy(at, rows[i].after);
            struct outcome o;
            feed(chunked(), (struct slice){text, (size_t)(at - text)}, 1 << 20, &o);
            if (o.error != (over ? WEIR_EMALFORMED : 0)) fail_msg("row %zu, over %u: %d", i, over, o.error);
            feed(chunked(), (struct slice){text, (size_t)(at - text)}, 1, &o);
            assert_int_equal(o.error, over ? WEIR_EMALFORMED : 0);
            free(text);
        }
    }
    /* and over many chunks */
    struct http1_body b = chunked();
    struct slice payload;
    ptrdiff_t r = 0;
    for (unsigned i = 0; r >= 0 && i < 10000; i++) {
        assert_true(i <= 8192 / 2);
        r = http1_body_next(&b, SLICE("1;x\r\na"), &payload);
        if (r >= 0) r = http1_body_next(&b, SLICE("\r\n"), &payload);
    }
    assert_int_equal(r, WEIR_EMALFORMED);
}

static void by_length(void **state) {
    (void)state;
    struct http1_body b;
    http1_body_init(&b, &(struct http_head){.has_length = true, .content_length = 5}, (struct slice){0});
    assert_int_equal(b.framing, HTTP1_LENGTH);
    feeds(b, SLICE("hello"), "hello", 5, 0);
    feeds(b, SLICE("hello, world"), "hello", 5, 0);
    feeds(b, SLICE("hell"), "hell", 4, WEIR_ECUT);
    feeds(b, SLICE(""), "", 0, WEIR_ECUT);
    http1_body_init(&b, &(struct http_head){.has_length = true}, (struct slice){0});
    assert_true(b.done);
    struct slice payload;
    assert_int_equal(http1_body_next(&b, SLICE("next"), &payload), 0);
    assert_int_equal(payload.n, 0);
    assert_int_equal(http1_body_eof(&b), 0);
}

static void until_close(void **state) {
    (void)state;
    struct http1_body b;
    http1_body_init(&b, &(struct http_head){.status = 200}, SLICE("GET"));
    assert_int_equal(b.framing, HTTP1_UNTIL_CLOSE);
    feeds(b, SLICE("anything at all"), "anything at all", 15, 0);
    feeds(b, SLICE(""), "", 0, 0);
}

/* RFC 9112 6.3. */
static void framing(void **state) {
    (void)state;
    static const struct {
        struct http_head head;
        const char *method;
        enum http1_framing framing;
        bool done;
    } rows[] = {
        {{.status = 0}, "", HTTP1_NONE, true},
        {{.status = 0, .has_length = true, .content_length = 1}, "", HTTP1_LENGTH, false},
        {{.status = 0, .chunked = true}, "", HTTP1_CHUNKED, false},
        {{.status = 200}, "GET", HTTP1_UNTIL_CLOSE, false},
        {{.status = 200, .has_length = true}, "GET", HTTP1_LENGTH, true},
        {{.status = 200, .has_length = true, .content_length = 1}, "POST", HTTP1_LENGTH, false},
        {{.status = 500, .chunked = true}, "POST", HTTP1_CHUNKED, false},
        {{.status = 200, .has_length = true, .content_length = 1}, "HEAD", HTTP1_NONE, true},
        {{.status = 200, .chunked = true}, "HEAD", HTTP1_NONE, true},
        {{.status = 200}, "HEAD", HTTP1_NONE, true},
        {{.status = 100, .has_length = true, .content_length = 1}, "GET", HTTP1_NONE, true},
        {{.status = 101, .chunked = true}, "GET", HTTP1_NONE, true},
        {{.status = 199}, "GET", HTTP1_NONE, true},
        {{.status = 204, .chunked = true}, "GET", HTTP1_NONE, true},
        {{.status = 304, .has_length = true, .content_length = 1}, "GET", HTTP1_NONE, true},
        {{.status = 205}, "GET", HTTP1_UNTIL_CLOSE, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct http1_body b;
        http1_body_init(&b, &rows[i].head, slice_of(rows[i].method));
        if (b.framing != rows[i].framing || b.done != rows[i].done)
            fail_msg("row %zu: framing %d, done %d", i, b.framing, b.done);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_that_are_right),
        cmocka_unit_test(chunks_that_are_cut),
        cmocka_unit_test(chunks_that_are_broken),
        cmocka_unit_test(the_largest_chunk),
        cmocka_unit_test(overhead_is_bounded),
        cmocka_unit_test(by_length),
        cmocka_unit_test(until_close),
        cmocka_unit_test(framing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
