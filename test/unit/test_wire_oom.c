/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Out of memory, everywhere: each story runs again and again, with its first allocation failing, then its
 * second, and so on until none does. Each time it must say so (or have gone well), have left what it
 * worked on as it was, and leak nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/fault.h"
#include "weir/weir.h"
#include "wire/http1.h"
#include "wire/message.h"
#include "wire/problem.h"
#include "wire/ptth.h"
#include <stdio.h>
#include <string.h>

/* Runs story with each of its allocations failing in turn until it goes well; at least least of them do. */
static void fail_each(int (*story)(void), unsigned least) {
    int r = WEIR_ENOMEM;
    for (unsigned n = 1; r; n++) {
        long live = fault_live();
        fault_fail_at(n);
        r = story();
        fault_fail_at(0);
        assert_int_equal(fault_live(), live);
        if (r == 0)
            assert_true(n > least);
        else
            assert_int_equal(r, WEIR_ENOMEM);
    }
}

/* A head that does not fit into a message's first room. */
static const char *big_request(void) {
    static char text[8000];
    size_t n = (size_t)sprintf(text, "GET http://b.example?q HTTP/1.1\r\nHost: a\r\n");
    for (unsigned i = 0; i < 100; i++) n += (size_t)sprintf(text + n, "X-Number-%u: some value %u\r\n", i, i);
    sprintf(text + n, "\r\n");
    return text;
}

static int parse_story(void) {
    struct message *m = message_new(1 << 20);
    if (!m) return WEIR_ENOMEM;
    const char *why = NULL;
    int r = http1_request(slice_of(big_request()), &m->arena, &m->head, &why);
    if (r) assert_string_equal(why, "out of memory");
    assert_int_equal(m->head.count, r ? 0 : 101);
    message_unref(m);
    return r;
}

static void parsing(void **state) {
    (void)state;
    fail_each(parse_story, 3);
}

static char bytes[50000];

/* A failed write leaves the body as it was: the same write goes well afterwards. */
static int body_story(void) {
    struct body *b = body_new(1000, 1 << 20);
    if (!b) return WEIR_ENOMEM;
    int r = body_write(b, bytes, 100);
    if (!r) r = body_write(b, bytes + 100, 49000);
    uint64_t passed = body_passed(b);
    size_t held = body_held(b);
    assert_int_equal(body_queued(b), passed);
    if (r) {
        assert_true(passed == 0 || passed == 100);
        fault_fail_at(0);
        assert_int_equal(body_write(b, bytes + passed, 49100 - passed), 0);
        assert_true(body_held(b) > held);
    }
    static char got[50000];
    assert_int_equal(body_read(b, got, sizeof got), 49100);
    assert_memory_equal(got, bytes, 49100);
    body_unref(b);
    return r;
}

static void bodies(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (char)(i * 7 >> 2);
    fail_each(body_story, 5);
}

static struct message *original;

static int forward_story(void) {
    struct head_field type = {"content-type", "a/b", 3, 12, HEAD_CONTENT_TYPE};
    struct http_head answer = {.status = 200, .fields = &type, .count = 1, .seen = 1 << HEAD_CONTENT_TYPE};
    struct body *body = body_new(10, 0);
    if (!body) return WEIR_ENOMEM;
    struct message *f = NULL;
    (void)message_forward(original, (struct slice){0}, &answer, body, &f);
    if (!f) body_unref(body); /* it stayed ours */
    message_unref(f);
    return f ? 0 : WEIR_ENOMEM;
}

static void forwarding(void **state) {
    (void)state;
    original = message_new(1 << 20);
    assert_int_equal(http1_request(slice_of(big_request()), &original->arena, &original->head, NULL), 0);
    fail_each(forward_story, 3);
    assert_int_equal(original->refs, 1);
    message_unref(original);
}

/* What is there already stays as it is when a write fails. */
static int write_story(int (*write)(struct buffer *out)) {
    struct buffer out;
    buffer_init(&out);
    int r = buffer_append(&out, "before", 6);
    if (!r) r = write(&out);
    if (r && buffer_size(&out)) {
        assert_int_equal(buffer_size(&out), 6);
        assert_memory_equal(buffer_slice(&out).p, "before", 6);
    }
    buffer_fini(&out);
    return r;
}

static int write_request(struct buffer *out) {
    return http1_write_request(out, &original->head);
}
static int write_response(struct buffer *out) {
    struct http_head head = original->head;
    head.status = 200;
    return http1_write_response(out, &head, 1);
}
static int write_chunk(struct buffer *out) {
    return http1_write_chunk(out, (struct slice){bytes, sizeof bytes});
}
static int write_problem(struct buffer *out) {
    return problem_write(
        out, &(struct problem){.status = 503, .detail = {bytes, sizeof bytes}, .service = SLICE("s")});
}
static int write_attach(struct buffer *out) {
    struct slice labels =
        SLICE("a=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    return ptth_write_request(out, PTTH_H2, labels, SLICE("a,b"), labels, labels, labels);
}

static int request_story(void) {
    return write_story(write_request);
}
static int response_story(void) {
    return write_story(write_response);
}
static int chunk_story(void) {
    return write_story(write_chunk);
}
static int problem_story(void) {
    return write_story(write_problem);
}
static int attach_story(void) {
    return write_story(write_attach);
}

static void writing(void **state) {
    (void)state;
    original = message_new(1 << 20);
    assert_int_equal(http1_request(slice_of(big_request()), &original->arena, &original->head, NULL), 0);
    fail_each(request_story, 2);
    fail_each(response_story, 2);
    fail_each(chunk_story, 2);
    fail_each(problem_story, 2);
    fail_each(attach_story, 1);
    message_unref(original);
}

static int attach_parse_story(void) {
    static const char text[] =
        "GET /.well-known/ptth/http%3A%2F%2Fa/ HTTP/1.1\r\nHost: hub\r\nConnection: upgrade\r\n"
        "Upgrade: ptth\r\nWeir-Service: a\r\nWeir-Service: b\r\nWeir-Labels: x=1\r\n"
        "Weir-Labels: y=1\r\nALPN: h3\r\nALPN: h2\r\n\r\n";
    struct arena a;
    struct http_head h;
    struct ptth_offer offer;
    arena_init(&a, 0, NULL, 0);
    int r = http1_request(slice_of(text), &a, &h, NULL);
    if (!r) r = ptth_parse(&h, &a, &offer, NULL);
    arena_fini(&a);
    return r;
}

static void attaching(void **state) {
    (void)state;
    fail_each(attach_parse_story, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parsing), cmocka_unit_test(bodies),    cmocka_unit_test(forwarding),
        cmocka_unit_test(writing), cmocka_unit_test(attaching),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
