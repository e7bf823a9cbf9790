/* SPDX-License-Identifier: Apache-2.0 */
#include "http1_check.h"
#include "base/assert.h"
#include "weir/weir.h"

enum { HEAD_LIMIT = 4000 };

/* Where the head ends, in a connection that grows by step bytes a time. 0: never. */
static ptrdiff_t find_head(struct http1_run *run, struct slice data, size_t step, bool request) {
    size_t scanned = 0, n = 0;
    for (;;) {
        n = step < data.n - n ? n + step : data.n;
        struct slice have = {data.p, n};
        if (request && scanned == 0) run->skipped = http1_skip(have);
        have = (struct slice){data.p + run->skipped, n - run->skipped};
        ptrdiff_t r = http1_scan(have, &scanned, HEAD_LIMIT);
        ASSERT(r <= (ptrdiff_t)have.n && scanned <= have.n);
        if (r != 0 || n == data.n) return r;
    }
}

static void read_body(struct http1_run *run, struct slice data, size_t step, struct slice request_method) {
    struct http1_body body;
    http1_body_init(&body, &run->head, request_method);
    for (size_t n = 0; !body.done && n < data.n;) {
        n = step < data.n - n ? n + step : data.n;
        ptrdiff_t used = 1;
        while (used > 0 && !body.done && run->body_size < n) {
            struct slice payload = {0}, have = {data.p + run->body_size, n - run->body_size};
            used = http1_body_next(&body, have, &payload);
            if (used < 0) {
                run->error = (int)used;
                return;
            }
            ASSERT((size_t)used <= have.n);
            ASSERT(payload.n == 0 || (payload.p >= have.p && payload.p + payload.n <= have.p + used));
            if (payload.n) ASSERT(buffer_append_slice(&run->payload, payload) == 0);
            run->body_size += (size_t)used;
        }
        ASSERT(body.done || run->body_size == n);
    }
    run->error = http1_body_eof(&body);
}

void http1_run(struct http1_run *ret, struct slice data, size_t step, struct slice request_method) {
    *ret = (struct http1_run){0};
    arena_init(&ret->arena, 0, NULL, 0);
    buffer_init(&ret->payload);
    bool request = request_method.n == 0;
    ptrdiff_t r = find_head(ret, data, step, request);
    if (r <= 0) {
        ret->error = r ? (int)r : WEIR_ECUT;
        return;
    }
    ret->head_size = (size_t)r;
    const char *why = NULL;
    struct slice text = {data.p + ret->skipped, ret->head_size};
    ret->error = request ? http1_request(text, &ret->arena, &ret->head, &why)
                         : http1_response(text, &ret->arena, &ret->head, &why);
    ASSERT((ret->error == 0) == (why == NULL));
    if (ret->error) return;
    ret->parsed = true;
    size_t at = ret->skipped + ret->head_size;
    read_body(ret, (struct slice){data.p + at, data.n - at}, step, request_method);
}

void http1_run_fini(struct http1_run *run) {
    arena_fini(&run->arena);
    buffer_fini(&run->payload);
}

void http1_check_equal(const struct http1_run *a, const struct http1_run *b) {
    ASSERT(a->error == b->error && a->parsed == b->parsed);
    ASSERT(a->skipped == b->skipped && a->head_size == b->head_size);
    if (!a->parsed) return;
    http1_check_same_head(&a->head, &b->head);
    ASSERT(a->head.http10 == b->head.http10 && a->head.keep_alive == b->head.keep_alive);
    if (a->error == WEIR_EMALFORMED) return; /* where in a broken body it was noticed is open */
    ASSERT(a->body_size == b->body_size);
    ASSERT(slice_eq(buffer_slice(&a->payload), buffer_slice(&b->payload)));
}

static void check_text(struct slice s) {
    for (size_t i = 0; i < s.n; i++) ASSERT(s.p[i] != '\r' && s.p[i] != '\n' && s.p[i] != '\0');
}

static unsigned count_id(const struct http_head *head, enum head_name id) {
    unsigned count = 0;
    for (unsigned i = 0; i < head->count; i++) count += head->fields[i].id == id;
    return count;
}

void http1_check_head(const struct http_head *head) {
    uint64_t seen = 0;
    ASSERT(head->count <= 256 && head->count <= head->room);
    for (unsigned i = 0; i < head->count; i++) {
        const struct head_field *f = &head->fields[i];
        struct slice value = field_value(f);
        ASSERT(text_is_token(field_name(f)) && text_is_field_value(value));
        check_text(value);
        for (size_t k = 0; k < f->name_size; k++) ASSERT(f->name[k] < 'A' || f->name[k] > 'Z');
        ASSERT(f->id == head_name_id(field_name(f)));
        ASSERT(value.n == 0 || (value.p[0] != ' ' && value.p[0] != '\t'));
        seen |= (uint64_t)1 << f->id;
    }
    ASSERT(head->seen == seen);
    ASSERT(head->has_length == (count_id(head, HEAD_CONTENT_LENGTH) == 1));
    ASSERT(head->chunked == (count_id(head, HEAD_TRANSFER_ENCODING) == 1));
    ASSERT(!(head->has_length && head->chunked) && !(head->http10 && head->chunked));
    if (head->status) {
        ASSERT(head->status >= 100 && head->status <= 999);
        return;
    }
    ASSERT(text_is_token(head->method));
    ASSERT(text_is_target(head->target) || slice_eq(head->target, SLICE("*")));
    check_text(head->target);
    ASSERT(count_id(head, HEAD_HOST) == 1 || (head->http10 && count_id(head, HEAD_HOST) == 0));
}

void http1_check_same_head(const struct http_head *a, const struct http_head *b) {
    ASSERT(slice_eq(a->method, b->method) && slice_eq(a->target, b->target) && a->status == b->status);
    ASSERT(a->chunked == b->chunked && a->has_length == b->has_length &&
           a->content_length == b->content_length);
    ASSERT(a->count == b->count && a->seen == b->seen);
    for (unsigned i = 0; i < a->count; i++) {
        ASSERT(slice_eq(field_name(&a->fields[i]), field_name(&b->fields[i])));
        ASSERT(slice_eq(field_value(&a->fields[i]), field_value(&b->fields[i])));
        ASSERT(a->fields[i].id == b->fields[i].id);
    }
}

void http1_check_strip(struct http_head *head) {
    unsigned hosts = count_id(head, HEAD_HOST), lengths = count_id(head, HEAD_CONTENT_LENGTH);
    head_strip_hop_by_hop(head);
    head_strip_weir(head, HEAD_NAME_COUNT);
    uint64_t seen = 0;
    for (unsigned i = 0; i < head->count; i++) {
        ASSERT(!head_name_hop_by_hop(head->fields[i].id));
        ASSERT(!head_name_is_weir(field_name(&head->fields[i])));
        seen |= (uint64_t)1 << head->fields[i].id;
    }
    ASSERT(head->seen == seen);
    ASSERT(count_id(head, HEAD_HOST) == hosts && count_id(head, HEAD_CONTENT_LENGTH) == lengths);
}

void http1_check_splits(struct slice data, struct slice request_method,
                        void (*check)(struct http1_run *run)) {
    static const size_t steps[] = {1, 7, 64};
    struct http1_run whole;
    http1_run(&whole, data, data.n + 1, request_method);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct http1_run split;
        http1_run(&split, data, steps[i], request_method);
        http1_check_equal(&whole, &split);
        http1_run_fini(&split);
    }
    if (whole.parsed) {
        http1_check_head(&whole.head);
        check(&whole);
    }
    http1_run_fini(&whole);
}
