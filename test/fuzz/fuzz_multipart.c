/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Content-Type's value, LF, and a body. Parts lie in the body, one after the other, and hold no delimiter;
 * their heads hold nothing that may not pass; what is written again is read the same.
 */
#include "base/arena.h"
#include "base/assert.h"
#include "fuzz.h"
#include "http1_check.h"
#include "weir/weir.h"
#include "wire/multipart.h"

enum { PARTS = 64, HEAD_LIMIT = 4000 };

/* A boundary that the input cannot foresee. */
static void choose_boundary(struct slice data, char ret[static MULTIPART_BOUNDARY]) {
    uint64_t bits[2] = {data.n, 14695981039346656037u};
    for (size_t i = 0; i < data.n; i++) bits[1] = (bits[1] ^ (unsigned char)data.p[i]) * 1099511628211u;
    multipart_make_boundary(bits, ret);
}

static bool is_in(struct slice part, struct slice whole) {
    return part.p >= whole.p && part.p + part.n <= whole.p + whole.n;
}

static void check_fields(const struct http_head *head) {
    struct http_head checked = *head;
    checked.status = 200; /* as a response: there is no target */
    http1_check_head(&checked);
    ASSERT(!head->has_length && !head->chunked);
    for (unsigned i = 0; i < head->count; i++) {
        struct slice name = field_name(&head->fields[i]);
        ASSERT(!head_name_hop_by_hop(head->fields[i].id));
        ASSERT(!head_name_is_weir(name) || slice_eq(name, SLICE("weir-key")) ||
               slice_eq(name, SLICE("weir-priority")) || slice_eq(name, SLICE("weir-cost")));
    }
}

/* Writes the part when its head is in order. */
static bool check_part(const struct multipart_part *part, struct slice boundary, struct buffer *out) {
    struct multipart_field fields[256];
    struct arena arena;
    struct http_head head;
    const char *why = NULL;
    arena_init(&arena, 0, NULL, 0);
    int r = multipart_head(part, HEAD_LIMIT, &arena, &head, &why);
    ASSERT((r == 0) == (why == NULL));
    ASSERT(r == 0 || r == WEIR_EMALFORMED || r == WEIR_EHEADTOOBIG);
    if (r == 0) {
        check_fields(&head);
        for (unsigned i = 0; i < head.count; i++)
            fields[i] = (struct multipart_field){field_name(&head.fields[i]), field_value(&head.fields[i])};
        ASSERT(multipart_write_part(out, boundary, fields, head.count, part->body) == 0);
    }
    arena_fini(&arena);
    return r == 0;
}

static void check_written(struct slice text, struct slice boundary, const struct slice *bodies,
                          size_t count) {
    struct multipart m;
    struct multipart_part part;
    struct buffer again;
    buffer_init(&again);
    multipart_init(&m, text, boundary);
    for (size_t i = 0; i < count; i++) {
        ASSERT(multipart_next(&m, &part, NULL) == 1);
        ASSERT(slice_eq(part.body, bodies[i]));
        ASSERT(check_part(&part, boundary, &again));
    }
    ASSERT(multipart_next(&m, &part, NULL) == 0);
    ASSERT(multipart_write_end(&again, boundary) == 0);
    ASSERT(slice_eq(buffer_slice(&again), text));
    buffer_fini(&again);
}

static void check_body(struct slice body, struct slice boundary, struct slice written_boundary) {
    struct multipart m;
    struct multipart_part part;
    struct slice bodies[PARTS];
    struct buffer out;
    const char *why = NULL, *last = body.p;
    size_t count = 0;
    int r;
    buffer_init(&out);
    multipart_init(&m, body, boundary);
    while ((r = multipart_next(&m, &part, &why)) > 0) {
        ASSERT(is_in(part.head, body) && is_in(part.body, body));
        ASSERT(part.head.p >= last && part.body.p >= part.head.p + part.head.n + 2);
        ASSERT(part.head.n == 0 || memcmp(part.body.p - 4, "\r\n\r\n", 4) == 0);
        ASSERT(part.body.n == 0 || !memmem(part.body.p - 1, part.body.n + 1, m.delimiter, m.size));
        last = part.body.p + part.body.n;
        if (count < PARTS && check_part(&part, written_boundary, &out)) bodies[count++] = part.body;
    }
    ASSERT(r == 0 || r == WEIR_EMALFORMED);
    ASSERT((r == 0) == (why == NULL));
    ASSERT(multipart_write_end(&out, written_boundary) == 0);
    check_written(buffer_slice(&out), written_boundary, bodies, count);
    buffer_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice all = {(const char *)data, size};
    const char *lf = size ? memchr(all.p, '\n', size) : NULL;
    if (!lf) return 0;
    struct slice type = {all.p, (size_t)(lf - all.p)}, body = {lf + 1, size - type.n - 1};
    char boundary[MULTIPART_BOUNDARY], again[MULTIPART_BOUNDARY], text[MULTIPART_TYPE];
    const char *why = NULL;
    int r = multipart_boundary(type, boundary, &why);
    ASSERT(r == (why ? WEIR_EMALFORMED : 0));
    if (r) return 0;
    ASSERT(multipart_boundary(multipart_type(slice_of(boundary), text), again, NULL) == 0);
    ASSERT(slice_eq(slice_of(boundary), slice_of(again)));
    choose_boundary(all, again);
    check_body(body, slice_of(boundary), slice_of(again));
    return 0;
}
