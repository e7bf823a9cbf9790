/* SPDX-License-Identifier: Apache-2.0 */
/* wire/message.h and wire/problem.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/weir.h"
#include "wire/http1.h"
#include "wire/message.h"
#include "wire/problem.h"
#include <jansson.h>
#include <stdlib.h>

static void assert_slice(struct slice s, const char *text) {
    assert_non_null(s.p);
    if (s.n != strlen(text) || memcmp(s.p, text, s.n) != 0)
        fail_msg("'%.*s' is not '%s'", SLICE_ARG(s), text);
}

static struct message *a_message(const char *text) {
    struct message *m = message_new(65536);
    assert_non_null(m);
    assert_int_equal(http1_request(slice_of(text), &m->arena, &m->head, NULL), 0);
    return m;
}

static void references(void **state) {
    (void)state;
    struct message *m = a_message("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    m->body = body_new(10, 0);
    struct body *b = body_ref(m->body);
    assert_ptr_equal(message_ref(m), m);
    message_unref(m);
    assert_slice(m->head.target, "/");
    message_unref(m);
    assert_true(body_abandoned(b)); /* ours is still there, but nobody reads on */
    assert_int_equal(body_write(b, "x", 1), WEIR_ESTATE);
    body_unref(b);
    message_unref(NULL);
}

static void an_arena_has_its_limit(void **state) {
    (void)state;
    struct message *m = message_new(100);
    assert_null(arena_alloc(&m->arena, 101));
    assert_non_null(arena_alloc(&m->arena, 50));
    message_unref(m);
}

static const char original_text[] =
    "PUT /x?y=1 HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nContent-Type: old/type\r\nContent-Length: 4\r\n"
    "Content-Md5: old\r\nContent-Encoding: gzip\r\nContent: stays\r\nTE: trailers\r\n"
    "Connection: X-Drop, upgrade\r\nX-Drop: 1\r\nExpect: 100-continue\r\nAuthorization: Bearer t\r\n"
    "Weir-Key: k\r\n\r\n";

static struct message *forwarded(const struct message *original, struct slice target,
                                 const struct http_head *answer, struct body *body) {
    struct message *m = NULL;
    assert_int_equal(message_forward(original, target, answer, body, &m), 0);
    return m;
}

static void a_forward(void **state) {
    (void)state;
    struct message *m = a_message(original_text);
    struct http_head answer = {0};
    struct arena a;
    arena_init(&a, 0, NULL, 0);
    char *text = strdup("HTTP/1.1 200 OK\r\nContent-Type: new/type\r\nContent-Disposition: inline\r\n"
                        "Content-Length: 99\r\nWeir-Forward: b\r\nServer: w\r\n\r\n");
    assert_int_equal(http1_response(slice_of(text), &a, &answer, NULL), 0);
    free(text);
    struct body *body = body_new(10, 0);
    struct message *f = forwarded(m, SLICE("/new?z"), &answer, body);
    arena_fini(&a); /* nothing is borrowed from either */
    message_unref(m);

    assert_slice(f->head.method, "POST");
    assert_slice(f->head.target, "/new?z");
    assert_ptr_equal(f->body, body);
    struct buffer out;
    buffer_init(&out);
    assert_int_equal(http1_write_request(&out, &f->head), 0);
    assert_slice(buffer_slice(&out), "POST /new?z HTTP/1.1\r\nhost: a\r\naccept: */*\r\ncontent: stays\r\n"
                                     "authorization: Bearer t\r\nweir-key: k\r\ncontent-type: new/type\r\n"
                                     "content-disposition: inline\r\nweir-original-method: PUT\r\n"
                                     "content-length: 99\r\n\r\n");
    assert_true(f->head.has_length && f->head.content_length == 99 && !f->head.chunked);
    buffer_fini(&out);
    message_unref(f);
}

static void forwards_of_forwards(void **state) {
    (void)state;
    struct message *m = a_message(original_text);
    struct http_head answer = {.status = 200, .has_length = true, .content_length = 7};
    struct message *f = forwarded(m, (struct slice){0}, &answer, NULL);
    assert_slice(f->head.target, "/x?y=1");
    assert_slice(head_get(&f->head, HEAD_WEIR_ORIGINAL_METHOD), "PUT");
    assert_slice(head_get(&f->head, HEAD_CONTENT_LENGTH), "0"); /* no body, whatever the answer said */
    assert_null(f->body);

    struct message *g = forwarded(f, (struct slice){0}, &answer, NULL);
    assert_slice(head_get(&g->head, HEAD_WEIR_ORIGINAL_METHOD), "PUT"); /* the first method stays */
    unsigned methods = 0, lengths = 0;
    for (unsigned i = 0; i < g->head.count; i++) {
        methods += g->head.fields[i].id == HEAD_WEIR_ORIGINAL_METHOD;
        lengths += g->head.fields[i].id == HEAD_CONTENT_LENGTH;
    }
    assert_int_equal(methods, 1);
    assert_int_equal(lengths, 1);
    message_unref(g);
    message_unref(f);
    message_unref(m);
}

static void the_length_of_a_forward(void **state) {
    (void)state;
    struct message *m = a_message("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    struct http_head answer = {.status = 200, .chunked = true};
    struct body *open = body_new(10, 0), *whole = body_new(10, 0);
    struct message *f = forwarded(m, (struct slice){0}, &answer, open);
    assert_false(f->head.has_length || head_has(&f->head, HEAD_CONTENT_LENGTH));
    assert_false(head_has(&f->head, HEAD_TRANSFER_ENCODING));
    message_unref(f);
    assert_int_equal(body_write(whole, "abc", 3), 0);
    body_end(whole);
    answer = (struct http_head){.status = 200, .has_length = true, .content_length = 100};
    f = forwarded(m, (struct slice){0}, &answer, whole);
    assert_slice(head_get(&f->head, HEAD_CONTENT_LENGTH), "3");
    message_unref(f);
    message_unref(m);
}

static void a_forward_that_does_not_fit(void **state) {
    (void)state;
    struct message *m = message_new(1200);
    assert_int_equal(http1_request(SLICE("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), &m->arena, &m->head, NULL), 0);
    char value[1200];
    memset(value, 'v', sizeof value);
    struct head_field field = {"content-type", value, sizeof value, 12, HEAD_CONTENT_TYPE};
    struct http_head answer = {.status = 200, .fields = &field, .count = 1, .seen = 1u << HEAD_CONTENT_TYPE};
    struct body *body = body_new(10, 0);
    struct message *f = NULL;
    assert_int_equal(message_forward(m, (struct slice){0}, &answer, body, &f), WEIR_EHEADTOOBIG);
    assert_null(f);
    field.value_size = 300;
    assert_int_equal(message_forward(m, (struct slice){0}, &answer, body, &f), 0);
    assert_int_equal(f->arena.limit, 1200);
    message_unref(f);
    message_unref(m);
}

/* With room for the fields that the hub adds, and one field less than that. */
static void a_head_with_many_fields(void **state) {
    (void)state;
    struct http_head none = {0};
    for (unsigned room = 1; room <= 3; room++) {
        struct message *m = a_message("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), *made = NULL;
        while (m->head.count < 256 - room)
            assert_int_equal(head_add_name(&m->head, &m->arena, SLICE("x-a"), SLICE("1")), 0);
        struct body *body = body_new(10, 0);
        body_end(body);
        int forward = message_forward(m, (struct slice){0}, &none, body_ref(body), &made);
        assert_int_equal(forward, room < 2 ? WEIR_EHEADTOOBIG : 0);
        if (forward != 0) body_unref(body);
        message_unref(made);
        made = NULL;
        int part = message_part(m, &none, 0, 1, body, &made);
        assert_int_equal(part, room < 3 ? WEIR_EHEADTOOBIG : 0);
        if (part != 0) body_unref(body);
        message_unref(made);
        message_unref(m);
    }
}

/* ---------------------------------------------------------------- parts */

static void assert_request(const struct message *m, const char *text) {
    struct buffer out;
    buffer_init(&out);
    assert_int_equal(http1_write_request(&out, &m->head), 0);
    assert_slice(buffer_slice(&out), text);
    buffer_fini(&out);
}

static struct message *part_of(const struct message *original, const struct http_head *part, size_t index,
                               size_t count) {
    struct body *body = body_new(10, 0);
    struct message *m = NULL;
    assert_int_equal(body_write(body, "abc", 3), 0);
    body_end(body);
    assert_int_equal(message_part(original, part, index, count, body, &m), 0);
    assert_ptr_equal(m->body, body);
    return m;
}

static void a_part(void **state) {
    (void)state;
    struct message *m = a_message(original_text);
    struct head_field fields[] = {
        {"content-type", "a/b", 3, 12, HEAD_CONTENT_TYPE},
        {"accept", "x/y", 3, 6, HEAD_OTHER},
        {"weir-cost", "5", 1, 9, HEAD_WEIR_COST},
    };
    struct http_head head = {.fields = fields, .count = 3};
    struct message *p = part_of(m, &head, 3, 12);
    assert_request(p, "POST /x?y=1 HTTP/1.1\r\nhost: a\r\ncontent: stays\r\nauthorization: Bearer t\r\n"
                      "weir-key: k\r\ncontent-type: a/b\r\naccept: x/y\r\nweir-part: 3/12\r\n"
                      "content-length: 3\r\nweir-original-method: PUT\r\n\r\n");
    message_unref(p);
    message_unref(m);
}

/* Its place is that among the parts it was made with; a forward of it has the same. */
static void a_part_of_a_part(void **state) {
    (void)state;
    struct message *m = a_message("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    struct http_head none = {0};
    struct message *outer = part_of(m, &none, 3, 5), *inner = part_of(outer, &none, 0, 2);
    assert_request(inner, "POST /x HTTP/1.1\r\nhost: a\r\nweir-original-method: GET\r\nweir-part: 0/2\r\n"
                          "content-length: 3\r\n\r\n");
    struct message *forward = forwarded(inner, (struct slice){0}, &none, NULL);
    assert_request(forward, "POST /x HTTP/1.1\r\nhost: a\r\nweir-original-method: GET\r\nweir-part: 0/2\r\n"
                            "content-length: 0\r\n\r\n");
    message_unref(forward);
    forward = forwarded(outer, (struct slice){0}, &none, NULL);
    assert_slice(head_get_name(&forward->head, SLICE("weir-part")), "3/5");
    message_unref(forward);
    message_unref(inner);
    message_unref(outer);
    message_unref(m);
}

/* ---------------------------------------------------------------- answers */

static int parse(const char *fields, struct answer *ret) {
    static char text[1024]; /* the answer borrows from its head, the head from here */
    static struct head_field room[8];
    struct http_head h = {.fields = room, .room = 8};
    strcpy(text, fields);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        char *value = strchr(line, ':');
        struct slice name = {line, (size_t)(value - line)};
        assert_int_equal(head_add_name(&h, NULL, name, slice_of(value + 1)), 0);
    }
    const char *why = NULL;
    int r = answer_parse(&h, ret, &why);
    assert_int_equal(r == 0, why == NULL);
    return r;
}

static void answers(void **state) {
    (void)state;
    struct answer a;
    assert_int_equal(parse("server:x", &a), 0);
    assert_int_equal(a.kind, ANSWER_REPLY);
    assert_int_equal(parse("weir-forward:next", &a), 0);
    assert_int_equal(a.kind, ANSWER_FORWARD);
    assert_slice(a.service, "next");
    assert_null(a.target.p);
    assert_int_equal(parse("server:x\nweir-forward: next-2.x \t /path?q=1 ", &a), 0);
    assert_slice(a.service, "next-2.x");
    assert_slice(a.target, "/path?q=1");
    assert_int_equal(parse("weir-scatter:parts; gather=sum", &a), 0);
    assert_int_equal(a.kind, ANSWER_SCATTER);
    assert_slice(a.service, "parts");
    static const char *const bad[] = {
        "weir-forward:",
        "weir-forward:/x",
        "weir-forward:a/b",
        "weir-forward:a b",
        "weir-forward:a /b c",
        "weir-forward:a /b#c",
        "weir-forward:a /\xc3",
        "weir-forward:a, b",
        "weir-forward:a\nweir-forward:a",
        "weir-forward:a\nweir-scatter:b",
        "weir-scatter:",
        "weir-scatter:; gather=a",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        a = (struct answer){.kind = ANSWER_REPLY, .service = SLICE("untouched")};
        if (parse(bad[i], &a) != WEIR_EBADANSWER) fail_msg("accepted: %s", bad[i]);
        assert_slice(a.service, "untouched");
    }
}

/* --------------------------------------------------------------- problems */

static void problems(void **state) {
    (void)state;
    struct buffer out;
    buffer_init(&out);
    assert_int_equal(buffer_append(&out, "before", 6), 0);
    struct problem p = {
        .status = 404, .detail = SLICE("no \"x\"\n\xff"), .request_id = SLICE("r1"), .service = SLICE("s")};
    assert_int_equal(problem_write(&out, &p), 0);
    assert_slice(buffer_slice(&out), "before{\"type\":\"about:blank\",\"title\":\"Not Found\",\"status\":404,"
                                     "\"detail\":\"no \\\"x\\\"\\n\xef\xbf\xbd\",\"request_id\":\"r1\","
                                     "\"service\":\"s\"}\n");
    buffer_consume(&out, 6);
    json_t *json = json_loadb(buffer_slice(&out).p, buffer_size(&out), 0, NULL);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "detail")), "no \"x\"\n\xef\xbf\xbd");
    json_decref(json);

    buffer_reset(&out);
    assert_int_equal(problem_write(&out, &(struct problem){.status = 500, .title = "Oh"}), 0);
    assert_slice(buffer_slice(&out), "{\"type\":\"about:blank\",\"title\":\"Oh\",\"status\":500}\n");
    buffer_reset(&out);
    assert_int_equal(problem_write(&out, &(struct problem){.status = 599}), 0);
    assert_slice(buffer_slice(&out), "{\"type\":\"about:blank\",\"title\":\"Unknown\",\"status\":599}\n");
    buffer_fini(&out);
}

static void errors(void **state) {
    (void)state;
#define CHECK(name, value, text, status, retryable)                                                          \
    assert_string_equal(error_text(WEIR_##name), text);                                                      \
    assert_int_equal(error_status(WEIR_##name), status);                                                     \
    if (status) assert_true(status_text(status)[0] != '\0');
    WEIR_ERRORS(CHECK)
#undef CHECK
    assert_string_equal(error_text(0), "success");
    assert_int_equal(error_status(0), 0);
    assert_true(error_text(-9999)[0] != '\0');
    assert_int_equal(error_status(-9999), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references),
        cmocka_unit_test(an_arena_has_its_limit),
        cmocka_unit_test(a_forward),
        cmocka_unit_test(forwards_of_forwards),
        cmocka_unit_test(the_length_of_a_forward),
        cmocka_unit_test(a_forward_that_does_not_fit),
        cmocka_unit_test(a_head_with_many_fields),
        cmocka_unit_test(a_part),
        cmocka_unit_test(a_part_of_a_part),
        cmocka_unit_test(answers),
        cmocka_unit_test(problems),
        cmocka_unit_test(errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
