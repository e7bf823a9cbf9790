/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base64.h"
#include "base/utf8.h"
#include <stdlib.h>

static void characters(void **state) {
    (void)state;
    struct slice s = SLICE("a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
    assert_int_equal(utf8_next(&s), 'a');
    assert_int_equal(utf8_next(&s), 0xe4);
    assert_int_equal(utf8_next(&s), 0x20ac);
    assert_int_equal(utf8_next(&s), 0x1f600);
    assert_int_equal(s.n, 0);
    assert_int_equal(utf8_next(&s), -1);
}

/* Each code point in its only form, and nothing else of up to four bytes: against the definition. */
static void every_code_point(void **state) {
    (void)state;
    for (uint32_t c = 0; c < 0x120000; c++) {
        char text[4];
        size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
        for (size_t i = n; i-- > 1;) text[i] = (char)(0x80 | (c >> 6 * (n - 1 - i) & 0x3f));
        text[0] = (char)(lead[n] | c >> 6 * (n - 1));
        struct slice s = {text, n}, cut = {text, n - 1};
        bool is = c < 0xd800 || (c > 0xdfff && c < 0x110000);
        assert_int_equal(utf8_next(&s), is ? (int32_t)c : -1);
        assert_int_equal(s.n, is ? 0 : n);
        assert_int_equal(utf8_next(&cut), -1);
    }
}

static void what_is_none(void **state) {
    (void)state;
    static const char *const bad[] = {"\x80",         "\xbf",         "\xc0\xaf",         "\xc1\xbf",
                                      "\xe0\x80\xaf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf5\x80\x80\x80",
                                      "\xff",         "\xc3(",        "\xe2\x82(",        "\xed\xa0\x80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(utf8_valid(slice_of(bad[i])));
        for (size_t before = 0; before < 20; before++) { /* wherever it stands */
            char text[64];
            memset(text, 'x', sizeof text);
            memcpy(text + before, bad[i], strlen(bad[i]));
            assert_false(utf8_valid((struct slice){text, sizeof text}));
            assert_true(utf8_valid((struct slice){text, before}));
        }
    }
    assert_true(utf8_valid(SLICE("")));
    assert_true(utf8_valid(SLICE("seven b\xc3\xa4sed and more")));
}

static void base64(void **state) {
    (void)state;
    static const char *const pairs[][2] = {{"", ""}, /* RFC 4648 10 */
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"},
                                           {"\xfb\xff\xbf", "+/+/"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct slice from = slice_of(pairs[i][0]), to = slice_of(pairs[i][1]);
        char *text = malloc(base64_size(from.n) + 1); /* exact, so that an overrun shows */
        assert_non_null(text);
        assert_int_equal(base64_size(from.n), to.n);
        base64_encode(from, text);
        assert_true(slice_eq((struct slice){text, to.n}, to));
        free(text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters),
        cmocka_unit_test(every_code_point),
        cmocka_unit_test(what_is_none),
        cmocka_unit_test(base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
