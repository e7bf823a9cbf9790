/* SPDX-License-Identifier: Apache-2.0 */
/* The datagram of wire/beacon.h, from both sides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/beacon.h"

static void there_and_back(void **state) {
    (void)state;
    static const char *const hosts[] = {"*", "10.0.0.1", "[fe80::1%eth0]", "hub.example"};
    for (size_t i = 0; i < sizeof(hosts) / sizeof(*hosts); i++) {
        struct beacon b = {SLICE("our-group"), slice_of(hosts[i]), 8081}, read;
        char text[BEACON_MAX + 1];
        size_t n = beacon_write(&b, text);
        assert_int_not_equal(n, 0);
        assert_true(beacon_parse((struct slice){text, n}, &read));
        assert_true(slice_eq(read.group, b.group) && slice_eq(read.host, b.host));
        assert_int_equal(read.port, 8081);
    }
}

static void what_cannot_be_written(void **state) {
    (void)state;
    char text[BEACON_MAX + 1], group[256];
    memset(group, 'g', sizeof(group) - 1);
    group[255] = 0;
    const struct beacon bad[] = {{SLICE(""), SLICE("*"), 1},      {SLICE("a b"), SLICE("*"), 1},
                                 {SLICE("g"), SLICE(""), 1},      {SLICE("g"), SLICE("a b"), 1},
                                 {SLICE("g"), SLICE("*"), 0},     {SLICE("g"), SLICE("*"), 65536},
                                 {slice_of(group), SLICE("*"), 1}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) assert_int_equal(beacon_write(&bad[i], text), 0);
}

static void what_is_no_beacon(void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      "WEIR1",
                                      "WEIR1 ",
                                      "WEIR1 g",
                                      "WEIR1 g ",
                                      "WEIR1 g *",
                                      "WEIR1 g *:",
                                      "WEIR1 g *:0",
                                      "WEIR1 g *:65536",
                                      "WEIR1 g *:80x",
                                      "WEIR1 g :80",
                                      "WEIR1 g a b:80",
                                      "WEIR1 g a,b:80",
                                      "WEIR1 g unix:/tmp/x:80",
                                      "WEIR1 g! *:80",
                                      "WEIR2 g *:80",
                                      "weir1 g *:80",
                                      "ZRE\x01 g *:80"};
    struct beacon b;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        if (beacon_parse(slice_of(bad[i]), &b)) fail_msg("taken for a beacon: '%s'", bad[i]);
    char text[BEACON_MAX + 2];
    memset(text, '1', sizeof(text));
    memcpy(text, "WEIR1 g *:", 10);
    assert_false(beacon_parse((struct slice){text, sizeof(text)}, &b));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(what_cannot_be_written),
        cmocka_unit_test(what_is_no_beacon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
