/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/random.h"
#include "lib/fault.h"
#include "weir/weir.h"
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* A file to log to, and what is in it. */
static int file_open(void) {
    int fd = memfd_create("log", 0);
    assert_true(fd >= 0);
    return fd;
}

static const char *file_text(int fd) {
    static char text[1 << 16];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    assert_true(n >= 0);
    text[n] = '\0';
    return text;
}

static const char *after_time(const char *line) {
    static const char form[] = "0000-00-00T00:00:00.000Z";
    for (size_t i = 0; i < sizeof form - 1; i++) {
        if (form[i] == '0')
            assert_in_range(line[i], '0', '9');
        else
            assert_int_equal(line[i], form[i]);
    }
    return line + sizeof form - 1;
}

static void text_lines(void **state) {
    (void)state;
    struct log l;
    int fd = file_open();
    log_init(&l, fd, LOG_INFO, false);
    assert_true(log_wants(&l, LOG_WARN));
    assert_false(log_wants(&l, LOG_DEBUG));
    log_event(&l, LOG_DEBUG, "never", "seen");
    log_event(&l, LOG_INFO, "worker-attached", "worker %s", "w1");
    assert_string_equal(file_text(fd), ""); /* gathers */
    log_flush(&l);
    assert_string_equal(after_time(file_text(fd)), " info worker-attached worker w1\n");
    assert_int_equal(ftruncate(fd, 0), 0);
    lseek(fd, 0, SEEK_SET);
    log_event(&l, LOG_ERROR, "bad", "a\nb\x1b[31m\x7f\t%s", "\xc3\xa4"); /* errors go at once */
    assert_string_equal(after_time(file_text(fd)), " error bad a\\x0ab\\x1b[31m\\x7f\\x09\xc3\xa4\n");
    assert_int_equal(ftruncate(fd, 0), 0);
    lseek(fd, 0, SEEK_SET);
    log_raw(&l, SLICE("GET / 200\n"));
    log_fini(&l);
    assert_string_equal(file_text(fd), "GET / 200\n");
    assert_int_equal(l.dropped, 0);
    close(fd);
}

static void json_lines(void **state) {
    (void)state;
    struct log l;
    int fd = file_open();
    log_init(&l, fd, LOG_DEBUG, true);
    log_event(&l, LOG_WARN, "odd", "say \"%s\"\n", "\xff");
    log_flush(&l);
    json_t *o = json_loads(file_text(fd), 0, NULL);
    assert_non_null(o);
    assert_int_equal(json_object_size(o), 4);
    assert_string_equal(json_string_value(json_object_get(o, "level")), "warn");
    assert_string_equal(json_string_value(json_object_get(o, "event")), "odd");
    assert_string_equal(json_string_value(json_object_get(o, "text")), "say \"\xef\xbf\xbd\"\n");
    assert_string_equal(after_time(json_string_value(json_object_get(o, "time"))), "");
    const char *newline = strchr(file_text(fd), '\n');
    assert_non_null(newline);
    assert_int_equal(newline[1], '\0');
    json_decref(o);
    log_fini(&l);
    close(fd);
}

static void json_strings(void **state) {
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {{"", "\"\""},
                 {"a\"b\\c/", "\"a\\\"b\\\\c/\""},
                 {"\b\f\n\r\t\x01\x1f\x7f", "\"\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\""},
                 {"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\""},
#define BAD "\xef\xbf\xbd"
                 {"\xc0\x80", "\"" BAD BAD "\""},         /* overlong */
                 {"\xe0\x9f\xbf", "\"" BAD BAD BAD "\""}, /* overlong */
                 {"\xed\xa0\x80", "\"" BAD BAD BAD "\""}, /* surrogate */
                 {"\xf0\x8f\xbf\xbf", "\"" BAD BAD BAD BAD "\""},
                 {"\xf4\x90\x80\x80", "\"" BAD BAD BAD BAD "\""}, /* beyond U+10FFFF */
                 {"\xf4\x8f\xbf\xbf", "\"\xf4\x8f\xbf\xbf\""},
                 {"\xe2\x82", "\"" BAD BAD "\""}, /* cut off */
                 {"\xe2\x82x", "\"" BAD BAD "x\""},
                 {"\x80z\xff", "\"" BAD "z" BAD "\""}};
    struct buffer b;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buffer_init(&b);
        assert_int_equal(log_json_string(&b, slice_of(cases[i].in)), 0);
        assert_int_equal(buffer_append(&b, "", 1), 0);
        assert_string_equal(buffer_slice(&b).p, cases[i].out);
        buffer_fini(&b);
    }
    buffer_init(&b);
    assert_int_equal(log_json_string(&b, SLICE("a\0b")), 0);
    assert_true(slice_eq(buffer_slice(&b), SLICE("\"a\\u0000b\"")));
    buffer_fini(&b);
}

/* Whatever the bytes, a JSON parser takes the result; and gives text back as it was. */
static void json_any_bytes(void **state) {
    (void)state;
    struct random r;
    random_seed(&r, 10);
    static const char *pieces[] = {"a", "\n", "\"", "\xc3\xa4", "\xed\x9f\xbf", "\xf0\x90\x80\x80"};
    for (int round = 0; round < 20000; round++) {
        char text[64];
        size_t n = 0;
        bool clean = round % 2;
        for (uint64_t k = random_below(&r, 15); k > 0; k--) {
            const char *piece = pieces[random_below(&r, 6)];
            if (clean || random_below(&r, 2)) {
                memcpy(text + n, piece, strlen(piece));
                n += strlen(piece);
            } else {
                text[n++] = (char)random_u64(&r);
            }
        }
        struct buffer b;
        buffer_init(&b);
        assert_int_equal(log_json_string(&b, (struct slice){text, n}), 0);
        json_t *s = json_loadb(b.data, buffer_size(&b), JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_non_null(s);
        assert_true(json_is_string(s));
        if (clean) {
            assert_int_equal(json_string_length(s), n);
            assert_memory_equal(json_string_value(s), text, n);
        }
        json_decref(s);
        buffer_fini(&b);
    }
}

static void levels(void **state) {
    (void)state;
    enum log_level level = LOG_WARN;
    assert_false(log_level_parse("loud", &level));
    assert_false(log_level_parse("", &level));
    assert_false(log_level_parse("INFO", &level));
    assert_int_equal(level, LOG_WARN);
    assert_true(log_level_parse("error", &level));
    assert_int_equal(level, LOG_ERROR);
    assert_true(log_level_parse("debug", &level));
    assert_int_equal(level, LOG_DEBUG);
}

/* A reader that stalls: lines are held up to a bound, then dropped whole; none is torn. */
static void stalled_reader(void **state) {
    (void)state;
    int fds[2];
    assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
    struct log l;
    log_init(&l, fds[1], LOG_INFO, false);
    enum { LINES = 200000 };
    for (int i = 0; i < LINES; i++) {
        char line[32];
        log_raw(&l, (struct slice){line, (size_t)snprintf(line, sizeof line, "line %06d .\n", i)});
    }
    assert_true(l.dropped > 0);
    assert_true(buffer_size(&l.out) <= 1 << 20);
    uint64_t seen = 0;
    int last = -1, at = 0;
    char line[16], chunk[4096];
    for (;;) {
        log_flush(&l);
        ssize_t n = read(fds[0], chunk, sizeof chunk);
        if (n <= 0) break;
        for (ssize_t i = 0; i < n; i++) {
            assert_true(at < 15);
            line[at++] = chunk[i];
            if (chunk[i] != '\n') continue;
            line[at] = '\0';
            assert_int_equal(at, 14);
            assert_memory_equal(line, "line ", 5);
            assert_memory_equal(line + 11, " .\n", 3);
            assert_true(atoi(line + 5) > last);
            last = atoi(line + 5);
            seen++;
            at = 0;
        }
    }
    assert_int_equal(at, 0);
    assert_int_equal(buffer_size(&l.out), 0);
    assert_int_equal(seen + l.dropped, LINES);
    log_fini(&l);
    close(fds[0]);
    close(fds[1]);
}

static void broken_fd(void **state) {
    (void)state;
    struct log l;
    long live = fault_live();
    log_init(&l, -1, LOG_INFO, false);
    log_event(&l, LOG_INFO, "a", "b");
    log_event(&l, LOG_INFO, "a", "b");
    assert_int_equal(l.dropped, 0);
    log_flush(&l);
    assert_int_equal(l.dropped, 2);
    log_event(&l, LOG_ERROR, "a", "b");
    assert_int_equal(l.dropped, 3);
    log_fini(&l);
    assert_int_equal(fault_live(), live);
}

/* Each allocation of a long line failing in turn: the line is dropped whole, those around it stay. */
static void out_of_memory(void **state) {
    (void)state;
    char long_text[3000];
    memset(long_text, '\n', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    for (int json = 0; json < 2; json++) {
        long live = fault_live(), n = 1;
        for (uint64_t dropped = 1; dropped; n++) {
            struct log l;
            int fd = file_open();
            log_init(&l, fd, LOG_INFO, json);
            log_raw(&l, SLICE("before\n"));
            fault_fail_at(n);
            log_event(&l, LOG_INFO, "long", "%s", long_text);
            fault_fail_at(0);
            log_raw(&l, SLICE("after\n"));
            dropped = l.dropped;
            log_fini(&l);
            if (dropped)
                assert_string_equal(file_text(fd), "before\nafter\n");
            else
                assert_non_null(strstr(file_text(fd), "long"));
            close(fd);
            assert_int_equal(fault_live(), live);
        }
        assert_true(n > 4);
    }
}

static void json_out_of_memory(void **state) {
    (void)state;
    struct buffer b;
    char text[400];
    memset(text, '"', sizeof text);
    buffer_init(&b);
    assert_int_equal(buffer_append_slice(&b, SLICE("x")), 0);
    fault_fail_at(1);
    assert_int_equal(log_json_string(&b, (struct slice){text, sizeof text}), WEIR_ENOMEM);
    assert_true(slice_eq(buffer_slice(&b), SLICE("x")));
    fault_fail_at(0);
    assert_int_equal(log_json_string(&b, (struct slice){text, sizeof text}), 0);
    assert_int_equal(buffer_size(&b), 1 + 2 + 2 * sizeof text);
    buffer_fini(&b);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_lines),
        cmocka_unit_test(json_lines),
        cmocka_unit_test(json_strings),
        cmocka_unit_test(json_any_bytes),
        cmocka_unit_test(levels),
        cmocka_unit_test(stalled_reader),
        cmocka_unit_test(broken_fd),
        cmocka_unit_test(out_of_memory),
        cmocka_unit_test(json_out_of_memory),
    };
    return cmocka_run_group_tests_name("base/log", tests, NULL, NULL);
}
