/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/fault.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *volatile kept; /* so that no allocation is optimised away */

static void *keep(void *p) {
    kept = p;
    return p;
}

static void failing(void **state) {
    (void)state;
    fault_reset();
    assert_int_equal(fault_count(), 0);
    fault_fail_at(2);
    void *p = keep(malloc(1));
    assert_non_null(p);
    errno = 0;
    assert_null(keep(calloc(3, 4)));
    assert_int_equal(errno, ENOMEM);
    void *volatile q = strdup("abc"); /* once only */
    assert_string_equal(q, "abc");
    assert_int_equal(fault_count(), 3);
    fault_fail_at(1);
    assert_null(keep(realloc(q, 1000)));
    assert_string_equal(q, "abc"); /* a failed realloc leaves the block */
    fault_fail_at(2);
    fault_pause();
    for (int i = 0; i < 5; i++) free(keep(malloc(1)));
    fault_resume();
    assert_int_equal(fault_count(), 4);
    free(keep(malloc(1)));
    assert_null(keep(strndup("abcdef", 3)));
    fault_fail_at(1);
    fault_fail_at(0);
    void *s = keep(strndup("abcdef", 3));
    assert_string_equal(s, "abc");
    free(s);
    free(p);
    free(q);
    fault_fail_at(1);
    fault_reset();
    free(keep(malloc(1)));
    assert_int_equal(fault_count(), 1);
}

static void living(void **state) {
    (void)state;
    enum { N = 20000 };
    static void *p[N];
    long live = fault_live();
    for (int i = 0; i < N; i++) assert_non_null(p[i] = malloc((size_t)i % 200));
    assert_int_equal(fault_live(), live + N);
    for (int i = 0; i < N; i += 2) {
        free(p[i]);
        p[i] = NULL;
    }
    assert_int_equal(fault_live(), live + N / 2);
    for (int i = 1; i < N; i += 2) assert_non_null(p[i] = realloc(p[i], 300));
    assert_int_equal(fault_live(), live + N / 2);
    fault_reset();
    assert_int_equal(fault_live(), live + N / 2);
    for (int i = 0; i < N; i++) free(p[i]);
    assert_int_equal(fault_live(), live);
    free(NULL);
    void *q = keep(realloc(NULL, 5));
    assert_int_equal(fault_live(), live + 1);
    free(q);
    /* a block that libc made does not count, neither when it comes nor when it goes */
    char *line = NULL;
    size_t size = 0;
    FILE *f = fmemopen((char[]){"hello\n"}, 6, "r");
    assert_non_null(f);
    assert_int_equal(getline(&line, &size, f), 6);
    fclose(f);
    assert_int_equal(fault_live(), live);
    free(line);
    assert_int_equal(fault_live(), live);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(failing), cmocka_unit_test(living)};
    return cmocka_run_group_tests_name("lib/fault", tests, NULL, NULL);
}
