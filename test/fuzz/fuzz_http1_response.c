/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker sends, as the answer to a GET and to a HEAD; see fuzz_http1_request.c. */
#include "base/assert.h"
#include "fuzz.h"
#include "http1_check.h"
#include "weir/weir.h"
#include "wire/message.h"

static void check_answer(const struct http_head *head) {
    struct answer answer;
    const char *why = NULL;
    int r = answer_parse(head, &answer, &why);
    ASSERT((r == 0) == (why == NULL));
    if (r || answer.kind == ANSWER_REPLY) return;
    ASSERT(text_is_service(answer.service));
    ASSERT(!answer.target.p || text_is_target(answer.target));
}

static void check_round_trip(const struct http_head *head) {
    struct buffer out;
    struct arena arena;
    struct http_head again;
    buffer_init(&out);
    arena_init(&arena, 0, NULL, 0);
    ASSERT(http1_write_response(&out, head, head->http10 ? 0 : 1) == 0);
    ASSERT(http1_response(buffer_slice(&out), &arena, &again, NULL) == 0);
    http1_check_same_head(head, &again);
    ASSERT(head->http10 == again.http10 && head->keep_alive == again.keep_alive);
    arena_fini(&arena);
    buffer_fini(&out);
}

/* What was cut out of one framing and is put into chunks comes out again. */
static void check_payload(struct slice payload) {
    struct buffer out;
    buffer_init(&out);
    if (payload.n) ASSERT(http1_write_chunk(&out, payload) == 0);
    ASSERT(http1_write_last_chunk(&out) == 0);
    struct http1_body body;
    http1_body_init(&body, &(struct http_head){.status = 200, .chunked = true}, SLICE("GET"));
    struct slice got = {0}, rest = buffer_slice(&out), next;
    while (!body.done) {
        ptrdiff_t used = http1_body_next(&body, rest, &next);
        ASSERT(used > 0);
        if (next.n) got = next;
        rest = (struct slice){rest.p + used, rest.n - (size_t)used};
    }
    ASSERT(rest.n == 0 && slice_eq(got, payload));
    buffer_fini(&out);
}

static void check(struct http1_run *run) {
    check_round_trip(&run->head);
    check_answer(&run->head);
    check_payload(buffer_slice(&run->payload));
    http1_check_strip(&run->head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    http1_check_splits((struct slice){(const char *)data, size}, SLICE("GET"), check);
    http1_check_splits((struct slice){(const char *)data, size}, SLICE("HEAD"), check);
    return 0;
}
