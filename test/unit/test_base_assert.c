/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert.h"
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

struct thing {
    uint32_t magic;
};
enum { THING_MAGIC = 0x7417 };

static void plain(void *arg) {
    ASSERT(1 + 1 == 2);
    ASSERT(arg == NULL);
}

static void cast(void *arg) {
    CAST(struct thing, thing, arg, THING_MAGIC);
    (void)thing;
}

/* Runs f(arg) in a process of its own: true when it died of SIGABRT, having said text. */
static bool dies(void (*f)(void *), void *arg, const char *text) {
    int fds[2], status;
    char said[512] = "";
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        signal(SIGABRT, SIG_DFL);
        dup2(fds[1], 2);
        f(arg);
        _exit(0);
    }
    close(fds[1]);
    for (size_t n = 0;;) {
        ssize_t r = read(fds[0], said + n, sizeof said - 1 - n);
        if (r <= 0) break;
        n += (size_t)r;
    }
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return false;
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_non_null(strstr(said, text));
    assert_non_null(strstr(said, "test_base_assert.c:"));
    return true;
}

static void asserting(void **state) {
    (void)state;
    struct thing good = {THING_MAGIC}, bad = {1};
    assert_false(dies(plain, NULL, ""));
    assert_true(dies(plain, &good, "arg == NULL"));
    assert_false(dies(cast, &good, ""));
    assert_true(dies(cast, &bad, "magic"));
    assert_true(dies(cast, NULL, "NULL"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(asserting)};
    return cmocka_run_group_tests_name("base/assert", tests, NULL, NULL);
}
