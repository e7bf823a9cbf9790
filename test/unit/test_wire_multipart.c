/* SPDX-License-Identifier: Apache-2.0 */
/* multipart/mixed of wire/multipart.h, read and written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"
#include "lib/fault.h"
#include "weir/weir.h"
#include "wire/multipart.h"
#include <stdio.h>
#include <stdlib.h>

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))
#define LENGTH_69 "123456789012345678901234567890123456789012345678901234567890123456789"
#define TYPE "multipart/mixed; boundary="

struct row {
    struct slice in;
    const char *out; /* what was read, or why nothing was */
};
#define ROW(in, out)                                                                                         \
    { {in, sizeof(in) - 1}, out }

typedef int read_fn(struct slice in, struct buffer *out, const char **ret_why);

/* good: read without error, and that is what comes out; otherwise refused, and that is why. Each is read from
   memory of just its size, for the sanitizer. */
static void check(read_fn *read, bool good, const struct row *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct slice in = rows[i].in;
        const char *why = NULL;
        struct buffer out;
        buffer_init(&out);
        char *copy = malloc(in.n ? in.n : 1);
        assert_non_null(copy);
        memcpy(copy, in.p, in.n);
        int r = read((struct slice){copy, in.n}, &out, &why);
        struct slice got = good ? buffer_slice(&out) : slice_of(why);
        if (r != (good ? 0 : WEIR_EMALFORMED) || (r == 0) != !why || !slice_eq(got, slice_of(rows[i].out)))
            fail_msg("'%s': %d, '%.*s', not '%s'", in.p, r, SLICE_ARG(got), rows[i].out);
        assert_int_equal(read((struct slice){copy, in.n}, &out, NULL), r);
        free(copy);
        buffer_fini(&out);
    }
}
#define CHECK(read, good, rows) check(read, good, rows, COUNT(rows))

static int read_type(struct slice in, struct buffer *out, const char **ret_why) {
    char got[MULTIPART_BOUNDARY] = "kept";
    int r = multipart_boundary(in, got, ret_why);
    if (r) assert_string_equal(got, "kept");
    return r ? r : buffer_printf(out, "%s", got);
}

static void boundaries(void **state) {
    (void)state;
    static const struct row good[] = {
        ROW(TYPE "abc", "abc"),
        ROW(" MULTIPART/Mixed ;BOUNDARY=aBc ", "aBc"),
        ROW(TYPE "\"a b\"", "a b"),
        ROW(TYPE "\"\\a\\ b\"", "a b"),
        ROW("multipart/mixed;; x=\"; boundary=no\\\"\";\ty=1; boundary=b;", "b"),
        ROW(TYPE "\"09azAZ'()+_,-./:=?\"", "09azAZ'()+_,-./:=?"),
        ROW(TYPE "1" LENGTH_69, "1" LENGTH_69),
        ROW(TYPE "\"" LENGTH_69 "\\0\"", LENGTH_69 "0"),
    };
    static const char type[] = "Content-Type is not multipart/mixed", none[] = "no boundary in Content-Type",
                      broken[] = "broken parameter in Content-Type",
                      longer[] = "boundary is longer than 70 characters",
                      byte[] = "boundary has a character that none may have",
                      empty[] = "boundary is empty or ends with a space";
    static const struct row bad[] = {
        ROW("", type),
        ROW("multipart/mixe", type),
        ROW("multipart/mixed2; boundary=a", type),
        ROW("multipart/form-data; boundary=a", type),
        ROW("multipart/mixed", none),
        ROW("multipart/mixed;", none),
        ROW("multipart/mixed; x=boundary", none),
        ROW("multipart/mixed boundary=a", broken),
        ROW("multipart/mixed; boundary", broken),
        ROW("multipart/mixed; boundary=", broken),
        ROW("multipart/mixed; boundary =a", broken),
        ROW("multipart/mixed; boundary= a", broken),
        ROW("multipart/mixed; =a", broken),
        ROW(TYPE "a b", broken),
        ROW(TYPE "a/b", broken),
        ROW(TYPE "\"a", broken),
        ROW(TYPE "\"a\\\"", broken),
        ROW(TYPE "\"a\"b", broken),
        ROW(TYPE "a; x", broken),
        ROW(TYPE "a; boundary=a", "more than one boundary in Content-Type"),
        ROW(TYPE "\"\"", empty),
        ROW(TYPE "\"a \"", empty),
        ROW(TYPE "a!", byte),
        ROW(TYPE "\"a\tb\"", byte),
        ROW(TYPE "\"\xc3\xa4\"", byte),
        ROW(TYPE "\"a\r\n\"", "control character in Content-Type"),
        ROW("multipart/mixed\0; boundary=a", "control character in Content-Type"),
        ROW(TYPE "12" LENGTH_69, longer),
        ROW(TYPE "\"" LENGTH_69 "1\\2\"", longer),
    };
    CHECK(read_type, true, good);
    CHECK(read_type, false, bad);
}

/* Every part as "[head|body]". */
static int read_all(struct slice in, struct buffer *out, const char **ret_why) {
    struct multipart m;
    struct multipart_part part;
    multipart_init(&m, in, SLICE("b"));
    int r;
    while ((r = multipart_next(&m, &part, ret_why)) > 0)
        buffer_printf(out, "[%.*s|%.*s]", SLICE_ARG(part.head), SLICE_ARG(part.body));
    return r;
}

#define N "\r\n"
static void bodies(void **state) {
    (void)state;
    static const struct row good[] = {
        ROW("--b--", ""),
        ROW("--b-- \t" N, ""),
        ROW("--b--" N "epilogue" N "--b" N "x", ""),
        ROW("preamble" N "\n--c" N "--b--", ""),
        ROW(N "--b--", ""),
        ROW("--b" N N N "--b--", "[|]"),
        ROW("--b" N N "--b--", "[|]"),
        ROW("--b" N "A: 1" N N "--b--", "[A: 1" N "|]"),
        ROW("--b" N "A: 1" N N N "--b--", "[A: 1" N "|]"),
        ROW("--b \t" N "A: 1" N "B: 2" N N "x" N "--b\t" N N "y" N N "--b--",
            "[A: 1" N "B: 2" N "|x][|y" N "]"),
        ROW("--b" N N N N "--b" N N "\r" N "--b--", "[|" N "][|\r]"),
        ROW("--b" N N "--" N "-b" N "--c --b" N "\n-- b\r\r" N "--b--",
            "[|--" N "-b" N "--c --b" N "\n-- b\r\r]"),
        ROW("--b" N N " --b--" N "--b--", "[| --b--]"),
        ROW("--b" N N N "--B" N "--b--", "[|" N "--B]"),
    };
    static const char no_crlf[] = "no CRLF of its own before a delimiter", open[] = "no closing delimiter",
                      none[] = "no delimiter in the body",
                      line[] = "a line that begins with the boundary is not a delimiter with CRLF",
                      blank[] = "a part has no blank line after its head";
    static const struct row bad[] = {
        ROW("", none),
        ROW("--", none),
        ROW("x--b--", none),
        ROW("--c" N N N "--c--", none),
        ROW("--b", "the body ends in a delimiter that does not close it"),
        ROW("--b ", "the body ends in a delimiter that does not close it"),
        ROW("--b\n\nx\n--b--\n", line),
        ROW("--b-", line),
        ROW("--b\r", line),
        ROW("--b--\n", line),
        ROW("--b--x", line),
        ROW("--b --", line),
        ROW("--b" N N "x" N "--bx" N "--b--", line),
        ROW("preamble" N "--bx" N "--b--", line),
        ROW("\n--b--", no_crlf),
        ROW("preamble\n--b--", no_crlf),
        ROW("--b" N "--b--", no_crlf),
        ROW("--b" N "\n--b--", no_crlf),
        ROW("--b" N N "x\n--b" N N N "--b--", no_crlf),
        ROW("--b" N, open),
        ROW("--b" N N, open),
        ROW("--b" N N "x" N "--", open),
        ROW("--b" N N "x\r--b--", open),
        ROW("--b" N "A: 1" N "--b--", blank),
        ROW("--b" N "A: 1\n\nx" N "--b--", blank),
    };
    CHECK(read_all, true, good);
    CHECK(read_all, false, bad);
}

static int read_head(struct slice in, struct buffer *out, const char **ret_why) {
    struct arena a;
    struct http_head head = {.status = 7};
    arena_init(&a, 0, NULL, 0);
    struct multipart_part part = {in, SLICE("12345")};
    int r = multipart_head(&part, 40000, &a, &head, ret_why);
    for (unsigned i = 0; !r && i < head.count; i++) {
        const struct head_field *f = &head.fields[i];
        buffer_printf(out, "%.*s=%.*s;", SLICE_ARG(field_name(f)), SLICE_ARG(field_value(f)));
        assert_true(head_has(&head, f->id));
    }
    assert_int_equal(head.status, r ? 7 : 0);
    assert_false(head.has_length || head.chunked);
    arena_fini(&a);
    return r;
}

static void heads(void **state) {
    (void)state;
    static const char broken[] = "broken field in a part's head", folded[] = "folded line in a part's head",
                      length[] = "a part's Content-Length is not its size",
                      control[] = "control character in a part's head, or a line end other than CRLF";
    static const struct row good[] = {
        ROW("", ""),
        ROW("Content-Type: a/b" N "X-A:" N "x-a:\t1 2\xff " N, "content-type=a/b;x-a=;x-a=1 2\xff;"),
        ROW("Connection: x-a" N "X-A: 1" N "TE: a" N "Transfer-Encoding: chunked" N "Keep-Alive: 1" N,
            "x-a=1;"),
        ROW("Weir-Key: k" N "WEIR-PRIORITY: 1" N "weir-cost: 2" N "Weir: x" N,
            "weir-key=k;weir-priority=1;weir-cost=2;weir=x;"),
        ROW("Weir-Job: 1" N "Weir-Keys: 1" N "Weir-: 1" N "weir-forward: s" N "Weir-Hop: 1" N, ""),
        ROW("Content-Length: 5" N "content-length: 5" N "A: b:c" N, "a=b:c;"),
    };
    static const struct row bad[] = {
        ROW(N, broken),
        ROW("A" N, broken),
        ROW(": 1" N, broken),
        ROW("A : 1" N, broken),
        ROW("A(: 1" N, broken),
        ROW("A: 1" N "\xc3\xa4: 1" N, broken),
        ROW(" A: 1" N, folded),
        ROW("A: 1" N "\t2" N, folded),
        ROW("A: 1", control),
        ROW("A: 1\r", control),
        ROW("A: 1\nB: 1" N, control),
        ROW("A: 1\rB: 1" N, control),
        ROW("A: \0" N, control),
        ROW("A: \x7f" N, control),
        ROW("Content-Length: 4" N, length),
        ROW("Content-Length: 5, 5" N, length),
        ROW("Content-Length:" N, length),
    };
    CHECK(read_head, true, good);
    CHECK(read_head, false, bad);
}

/* Fields that are left out do not count. */
static void head_limits(void **state) {
    (void)state;
    static const struct {
        const char *line;
        unsigned count;
        int error;
    } rows[] = {{"a:" N, 256, 0},
                {"a:" N, 257, WEIR_EHEADTOOBIG},
                {"te:" N, 8000, 0},
                {"te:" N, 8001, WEIR_EHEADTOOBIG}};
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buffer text, out;
        buffer_init(&text);
        buffer_init(&out);
        for (unsigned k = 0; k < rows[i].count; k++)
            assert_int_equal(buffer_printf(&text, "%s", rows[i].line), 0);
        assert_int_equal(read_head(buffer_slice(&text), &out, NULL), rows[i].error);
        buffer_fini(&text);
        buffer_fini(&out);
    }
}

enum { PARTS = 20, PART = 2000 };
static struct {
    char bytes[PARTS][PART];
    size_t size[PARTS];
} sent;

/* Pieces of delimiters, each without its last byte. */
static void fill(struct random *random, struct slice boundary) {
    for (size_t i = 0; i < PARTS; i++) {
        size_t n = 0, size = (size_t)random_below(random, 3) ? (size_t)random_below(random, PART - 100) : 0;
        while (n < size) {
            char text[5 + MULTIPART_BOUNDARY];
            size_t length = (size_t)snprintf(text, sizeof text, "\r\n--%s", boundary.p);
            size_t from = (size_t)random_below(random, 4), left = length - from - 1;
            size_t take = random_below(random, 2) ? left : (size_t)random_below(random, left);
            memcpy(sent.bytes[i] + n, text + from, take);
            n += take;
            sent.bytes[i][n++] = "\r\n \0"[random_below(random, 4)];
        }
        sent.size[i] = n;
    }
}

static int write_all(struct buffer *out, struct slice boundary, size_t count) {
    const struct multipart_field fields[] = {{SLICE("content-type"), SLICE("a/b; c=\"d\"")},
                                             {SLICE("x-a"), {0}}};
    int r = 0;
    for (size_t i = 0; r == 0 && i < count; i++) {
        size_t before = buffer_size(out);
        r = multipart_write_part(out, boundary, fields, i % 3, (struct slice){sent.bytes[i], sent.size[i]});
        if (r) assert_int_equal(buffer_size(out), before);
    }
    return r ? r : multipart_write_end(out, boundary);
}

static void assert_read(struct slice body, struct slice boundary, size_t count) {
    static const char *const heads[] = {"", "content-type: a/b; c=\"d\"" N,
                                        "content-type: a/b; c=\"d\"" N "x-a: " N};
    struct multipart m;
    struct multipart_part part;
    const char *why = NULL;
    multipart_init(&m, body, boundary);
    for (size_t i = 0; i < count; i++) {
        if (multipart_next(&m, &part, &why) != 1) fail_msg("part %zu: %s", i, why);
        assert_true(slice_eq(part.head, slice_of(heads[i % 3])));
        assert_true(slice_eq(part.body, (struct slice){sent.bytes[i], sent.size[i]}));
    }
    assert_int_equal(multipart_next(&m, &part, &why), 0);
    assert_int_equal(multipart_next(&m, &part, &why), 0);
}

static void round_trips(void **state) {
    (void)state;
    static const char *const given[] = {"-", "--", "1" LENGTH_69, "a b'()+_,-./:=?"};
    char made[MULTIPART_BOUNDARY], named[MULTIPART_BOUNDARY], text[MULTIPART_TYPE];
    multipart_make_boundary((uint64_t[]){0xab, UINT64_MAX - 1}, made);
    assert_string_equal(made, "00000000000000abfffffffffffffffe");
    multipart_type(slice_of(made), text);
    assert_string_equal(text, TYPE "00000000000000abfffffffffffffffe");
    struct random random;
    random_seed(&random, 1);
    for (size_t i = 0; i < 400; i++) {
        multipart_make_boundary((uint64_t[]){random_u64(&random), random_u64(&random)}, made);
        struct slice boundary = slice_of(i % 5 == 4 ? given[i / 5 % COUNT(given)] : made);
        assert_int_equal(multipart_boundary(multipart_type(boundary, text), named, NULL), 0);
        assert_true(slice_eq(slice_of(named), boundary));
        struct buffer out;
        buffer_init(&out);
        fill(&random, boundary);
        assert_int_equal(write_all(&out, boundary, i % (PARTS + 1)), 0);
        assert_read(buffer_slice(&out), boundary, i % (PARTS + 1));
        buffer_fini(&out);
    }
}

static int parse_story(void) {
    struct buffer out;
    buffer_init(&out);
    const char *why = NULL;
    int r = read_head(SLICE("a:" N "b:" N "c:" N), &out, &why);
    if (r) assert_string_equal(why, "out of memory");
    buffer_fini(&out);
    return r;
}

static int write_story(void) {
    struct buffer out;
    buffer_init(&out);
    int r = write_all(&out, SLICE("0123456789"), PARTS);
    buffer_fini(&out);
    return r;
}

static void out_of_memory(void **state) {
    (void)state;
    static int (*const stories[])(void) = {parse_story, write_story};
    for (size_t i = 0; i < COUNT(stories); i++) {
        int r = WEIR_ENOMEM;
        long n = 0;
        while (r) {
            long live = fault_live();
            fault_fail_at(++n);
            r = stories[i]();
            fault_fail_at(0);
            assert_int_equal(fault_live(), live);
            if (r) assert_int_equal(r, WEIR_ENOMEM);
        }
        assert_true(n > 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(boundaries),  cmocka_unit_test(bodies),      cmocka_unit_test(heads),
        cmocka_unit_test(head_limits), cmocka_unit_test(round_trips), cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
