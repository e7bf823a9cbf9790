/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.x as it is written: one look for room, then plain copying. What is in a head has been checked
   when it was read or made. Any thread. */
#include "weir/weir.h"
#include "wire/http1.h"

static char *put(char *at, const char *text, size_t n) {
    if (n) memcpy(at, text, n);
    return at + n;
}

static size_t fields_size(const struct http_head *head) {
    size_t n = 2;
    for (unsigned i = 0; i < head->count; i++)
        n += (size_t)head->fields[i].name_size + head->fields[i].value_size + 4;
    return n;
}

static char *put_fields(char *at, const struct http_head *head) {
    for (unsigned i = 0; i < head->count; i++) {
        const struct head_field *f = &head->fields[i];
        at = put(at, f->name, f->name_size);
        at = put(at, ": ", 2);
        at = put(at, f->value, f->value_size);
        at = put(at, "\r\n", 2);
    }
    return put(at, "\r\n", 2);
}

int http1_write_request(struct buffer *out, const struct http_head *head) {
    static const char version[] = " HTTP/1.1\r\n";
    size_t n = head->method.n + 1 + head->target.n + sizeof version - 1 + fields_size(head);
    char *at = buffer_reserve(out, n);
    if (!at) return WEIR_ENOMEM;
    at = put(at, head->method.p, head->method.n);
    *at++ = ' ';
    at = put(at, head->target.p, head->target.n);
    at = put(at, version, sizeof version - 1);
    put_fields(at, head);
    buffer_commit(out, n);
    return 0;
}

int http1_write_response(struct buffer *out, const struct http_head *head, unsigned minor) {
    unsigned status = head->status;
    struct slice reason = slice_of(status_text(status));
    char line[] = "HTTP/1.1 200 ";
    line[7] = (char)('0' + (minor ? 1 : 0));
    line[9] = (char)('0' + status / 100 % 10);
    line[10] = (char)('0' + status / 10 % 10);
    line[11] = (char)('0' + status % 10);
    size_t n = sizeof line - 1 + reason.n + 2 + fields_size(head);
    char *at = buffer_reserve(out, n);
    if (!at) return WEIR_ENOMEM;
    at = put(at, line, sizeof line - 1);
    at = put(at, reason.p, reason.n);
    at = put(at, "\r\n", 2);
    put_fields(at, head);
    buffer_commit(out, n);
    return 0;
}

int http1_write_chunk(struct buffer *out, struct slice payload) {
    char size[2 * sizeof payload.n], *digit = size + sizeof size;
    for (size_t left = payload.n; left; left >>= 4) *--digit = "0123456789abcdef"[left & 15];
    size_t digits = (size_t)(size + sizeof size - digit), n = digits + 2 + payload.n + 2;
    char *at = buffer_reserve(out, n);
    if (!at) return WEIR_ENOMEM;
    at = put(at, digit, digits);
    at = put(at, "\r\n", 2);
    at = put(at, payload.p, payload.n);
    put(at, "\r\n", 2);
    buffer_commit(out, n);
    return 0;
}

int http1_write_last_chunk(struct buffer *out) {
    return buffer_append(out, "0\r\n\r\n", 5);
}
