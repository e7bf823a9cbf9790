/* SPDX-License-Identifier: Apache-2.0 */
#include "durable/record.h"
#include "weir/weir.h"
#include "wire/http1.h"

enum { FIELDS = 256 + 2 };

static void put(struct http_head *head, struct slice name, struct slice value) {
    head->fields[head->count++] = (struct head_field){
        .name = name.p, .value = value.p, .name_size = (uint16_t)name.n, .value_size = (uint32_t)value.n};
}

/* All fields but those of framing, which are those of what is stored. */
static void copy(struct http_head *to, const struct http_head *from) {
    for (unsigned i = 0; i < from->count && to->count < FIELDS - 2; i++) {
        const struct head_field *f = &from->fields[i];
        if (f->id != HEAD_CONTENT_LENGTH && !head_name_hop_by_hop((enum head_name)f->id))
            to->fields[to->count++] = *f;
    }
}

int record_request(struct buffer *out, const struct http_head *from, const struct store_body *body,
                   struct slice host) {
    struct head_field fields[FIELDS];
    struct http_head head = {.method = from->method, .target = from->target, .fields = fields};
    char digits[SLICE_U64];
    copy(&head, from);
    if (!head_has(from, HEAD_HOST)) put(&head, SLICE("host"), host);
    uint64_t size = record_size(body);
    if (size > 0 || head_has(from, HEAD_CONTENT_LENGTH) || head_has(from, HEAD_CONTENT_TYPE))
        put(&head, SLICE("content-length"), slice_from_u64(digits, size));
    return http1_write_request(out, &head);
}

int record_answer(struct buffer *out, const struct http_head *from) {
    struct head_field fields[FIELDS];
    struct http_head head = {.status = from->status, .fields = fields};
    copy(&head, from);
    int err = http1_write_response(out, &head, 1);
    if (err == 0) out->end -= 2; /* the empty line */
    return err;
}

int record_answer_end(struct buffer *out, unsigned status, const struct store_body *body) {
    bool none = status == 204 || status == 304; /* RFC 9110 8.6 */
    return none ? buffer_append(out, "\r\n", 2)
                : buffer_printf(out, "content-length: %llu\r\n\r\n", (unsigned long long)record_size(body));
}

int record_message(struct slice text, size_t arena_limit, struct message **ret) {
    struct message *m = message_new(0); /* it was accepted, whatever the limit is by now */
    if (!m) return WEIR_ENOMEM;
    int err = http1_request(text, &m->arena, &m->head, NULL);
    if (err == 0) {
        m->arena.limit = m->arena.used < arena_limit ? arena_limit : m->arena.used;
        *ret = m;
        return 0;
    }
    message_unref(m);
    return err == WEIR_ENOMEM ? err : WEIR_ECORRUPT;
}
