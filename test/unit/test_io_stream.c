/* SPDX-License-Identifier: Apache-2.0 */
/* Byte streams on a socket pair. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/stream.h"
#include "lib/fault.h"
#include "weir/weir.h"
#include <sys/socket.h>
#include <unistd.h>

struct end {
    struct stream stream;
    int eofs, last_error;
    bool closed;
};

static void on_data(struct stream *s, const char *bytes, size_t n) {
    (void)s, (void)bytes, (void)n;
}

static void on_eof(struct stream *s, int err) {
    struct end *e = CONTAINER_OF(s, struct end, stream);
    e->eofs++;
    e->last_error = err;
    stream_close(s);
}

static void on_closed(struct stream *s) {
    CONTAINER_OF(s, struct end, stream)->closed = true;
}

static const struct stream_ops ops = {.data = on_data, .eof = on_eof, .closed = on_closed};

static int open_end(struct io_loop *loop, struct end *e) {
    int pair[2];
    *e = (struct end){0};
    assert_int_equal(io_loop_init(loop), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(stream_init(&e->stream, loop, true, &ops), 0);
    assert_int_equal(stream_adopt(&e->stream, pair[0]), 0);
    stream_read_start(&e->stream);
    return pair[1];
}

static void put(struct end *e, const char *text) {
    (void)buffer_append(stream_out(&e->stream), text, strlen(text));
    stream_dirty(&e->stream);
}

static void what_is_gathered_goes_out(void **state) {
    (void)state;
    struct io_loop loop;
    struct end e;
    char got[16] = "";
    int fd = open_end(&loop, &e);
    put(&e, "one ");
    put(&e, "two");
    io_loop_flush(&loop);
    assert_int_equal(recv(fd, got, sizeof(got), 0), 7);
    assert_string_equal(got, "one two");
    stream_close(&e.stream);
    io_loop_fini(&loop);
    assert_true(e.closed);
    assert_int_equal(e.eofs, 0);
    close(fd);
}

/* Whoever appends need not look: a part that memory lacked for must not be left out of the middle. */
static void nothing_goes_out_with_a_gap(void **state) {
    (void)state;
    struct io_loop loop;
    struct end e;
    char large[10000] = "", got[16];
    int fd = open_end(&loop, &e);
    memset(large, 'x', sizeof(large) - 1);
    put(&e, "head");
    fault_fail_at(1);
    put(&e, large);
    fault_fail_at(0);
    put(&e, "tail");
    io_loop_flush(&loop);
    assert_int_equal(e.eofs, 1);
    assert_int_equal(e.last_error, WEIR_ECLOSED);
    io_loop_fini(&loop);
    assert_true(e.closed);
    assert_int_equal(recv(fd, got, sizeof(got), 0), 0);
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_gathered_goes_out),
        cmocka_unit_test(nothing_goes_out_with_a_gap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
