/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client sends. However it is split the same comes out; no text breaks out of its place; what is
 * written again is read the same; what weir looks at further (attach handshake, hop-by-hop fields, a
 * forward's request) takes any head.
 */
#include "base/assert.h"
#include "fuzz.h"
#include "http1_check.h"
#include "weir/weir.h"
#include "wire/message.h"
#include "wire/ptth.h"

static void check_round_trip(const struct http_head *head) {
    if (!head_has(head, HEAD_HOST)) return; /* 1.0; it is written as 1.1, which needs one */
    struct buffer out;
    struct arena arena;
    struct http_head again;
    buffer_init(&out);
    arena_init(&arena, 0, NULL, 0);
    ASSERT(http1_write_request(&out, head) == 0);
    ASSERT(http1_request(buffer_slice(&out), &arena, &again, NULL) == 0);
    http1_check_same_head(head, &again);
    ASSERT(head->http10 || head->keep_alive == again.keep_alive);
    arena_fini(&arena);
    buffer_fini(&out);
}

static void check_ptth(const struct http1_run *run) {
    struct ptth_offer offer;
    struct arena arena;
    const char *why = NULL;
    arena_init(&arena, 0, NULL, 0);
    int r = ptth_parse(&run->head, &arena, &offer, &why);
    ASSERT((r == 0) == (why == NULL));
    struct slice rest = r == 0 ? offer.services : (struct slice){0};
    while (rest.p) ASSERT(text_is_service(slice_next(&rest, ',')));
    arena_fini(&arena);
}

/* The request, answered by itself. */
static void check_forward(const struct http_head *head) {
    struct message *m = message_new(1 << 20);
    ASSERT(m);
    m->head = *head;
    struct message *f = NULL;
    (void)message_forward(m, (struct slice){0}, head, NULL, &f);
    ASSERT(f || head->count > 200); /* 256 fields are the limit of both */
    if (f) {
        ASSERT(f->head.has_length && !f->head.chunked && f->head.content_length == 0);
        struct slice length = head_get(&f->head, HEAD_CONTENT_LENGTH);
        ASSERT(slice_eq(length, SLICE("0")));
        check_round_trip(&f->head);
    }
    message_unref(f);
    message_unref(m);
}

static void check(struct http1_run *run) {
    check_round_trip(&run->head);
    check_ptth(run);
    check_forward(&run->head);
    http1_check_strip(&run->head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    http1_check_splits((struct slice){(const char *)data, size}, (struct slice){0}, check);
    return 0;
}
