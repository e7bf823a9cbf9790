/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bodies of HTTP/1.0 and 1.1, as they are read: by length, until the end, or in chunks, for which this is
 * the whole grammar of RFC 9112 7.1 as a machine that takes one byte at a time outside of payloads. Pure
 * functions on the caller's memory; any thread.
 */
#include "weir/weir.h"
#include "wire/http1.h"

enum { OVERHEAD_MOST = 8192 }; /* bytes of chunk extensions and trailers */

/* Where we are in RFC 9112 7.1's grammar. */
enum {
    CHUNK_SIZE_FIRST, /* before the size's first digit */
    CHUNK_SIZE,
    CHUNK_SPACE, /* BWS between size and ';' */
    CHUNK_EXTENSION,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    TRAILER_FIRST, /* at the beginning of a trailer line or of the last, empty line */
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    LAST_LF,
    BROKEN,
};

void http1_body_init(struct http1_body *b, const struct http_head *head, struct slice request_method) {
    unsigned status = head->status;
    bool none = slice_eq(request_method, SLICE("HEAD")) || (status >= 100 && status < 200) || status == 204 ||
                status == 304;
    *b = (struct http1_body){.framing = HTTP1_NONE};
    if (status && none)
        b->framing = HTTP1_NONE;
    else if (head->chunked)
        b->framing = HTTP1_CHUNKED;
    else if (head->has_length)
        b->framing = HTTP1_LENGTH;
    else if (status)
        b->framing = HTTP1_UNTIL_CLOSE;
    if (b->framing == HTTP1_LENGTH) b->left = head->content_length;
    b->done = b->framing == HTTP1_NONE || (b->framing == HTTP1_LENGTH && b->left == 0);
}

/* The next state, or BROKEN. Leading zeros count as overhead: a size may not go on for ever. */
static unsigned char size_byte(struct http1_body *b, unsigned char c) {
    int digit = hex_digit((char)c);
    if (digit >= 0) {
        if (b->left >> 60) return BROKEN;
        if (b->left == 0 && digit == 0) b->overhead++;
        b->left = b->left << 4 | (unsigned)digit;
        return CHUNK_SIZE;
    }
    if (b->state == CHUNK_SIZE_FIRST) return BROKEN;
    if (c == '\r') return CHUNK_SIZE_LF;
    b->overhead++;
    if (c == ';') return CHUNK_EXTENSION;
    return c == ' ' || c == '\t' ? CHUNK_SPACE : BROKEN;
}

static unsigned char line_byte(struct http1_body *b, unsigned char c, unsigned char state_at_cr) {
    if (c == '\r') return state_at_cr;
    b->overhead++;
    return (c < 0x20 && c != '\t') || c == 0x7f ? BROKEN : b->state;
}

static unsigned char trailer_name_byte(struct http1_body *b, unsigned char c) {
    b->overhead++;
    if (c == ':' && b->state == TRAILER_NAME) return TRAILER_VALUE;
    return text_token_lower[c] ? TRAILER_NAME : BROKEN;
}

static unsigned char framing_byte(struct http1_body *b, unsigned char c) {
    switch (b->state) {
    case CHUNK_SIZE_FIRST:
    case CHUNK_SIZE:
        return size_byte(b, c);
    case CHUNK_SPACE:
        b->overhead++;
        if (c == ';') return CHUNK_EXTENSION;
        return c == ' ' || c == '\t' ? CHUNK_SPACE : BROKEN;
    case CHUNK_EXTENSION:
        return line_byte(b, c, CHUNK_SIZE_LF);
    case CHUNK_SIZE_LF:
        if (c != '\n') return BROKEN;
        return b->left ? CHUNK_DATA : TRAILER_FIRST;
    case CHUNK_DATA_CR:
        return c == '\r' ? CHUNK_DATA_LF : BROKEN;
    case CHUNK_DATA_LF:
        return c == '\n' ? CHUNK_SIZE_FIRST : BROKEN;
    case TRAILER_FIRST:
        return c == '\r' ? LAST_LF : trailer_name_byte(b, c);
    case TRAILER_NAME:
        return trailer_name_byte(b, c);
    case TRAILER_VALUE:
        return line_byte(b, c, TRAILER_LF);
    case TRAILER_LF:
        return c == '\n' ? TRAILER_FIRST : BROKEN;
    case LAST_LF:
        b->done = c == '\n';
        return b->done ? LAST_LF : BROKEN;
    default:
        return BROKEN;
    }
}

/* Framing up to the next payload, and the payload with it. */
static ptrdiff_t next_chunked(struct http1_body *b, struct slice data, struct slice *ret_payload) {
    size_t at = 0;
    while (at < data.n && b->state != CHUNK_DATA && !b->done) {
        b->state = framing_byte(b, (unsigned char)data.p[at++]);
        if (b->overhead > OVERHEAD_MOST) b->state = BROKEN;
        if (b->state == BROKEN) return WEIR_EMALFORMED;
    }
    size_t n = data.n - at;
    if (b->state != CHUNK_DATA || b->done) n = 0;
    if (n > b->left) n = (size_t)b->left;
    *ret_payload = (struct slice){data.p + at, n};
    if (n) {
        b->left -= n;
        if (b->left == 0) b->state = CHUNK_DATA_CR;
    }
    return (ptrdiff_t)(at + n);
}

ptrdiff_t http1_body_next(struct http1_body *b, struct slice data, struct slice *ret_payload) {
    if (b->framing == HTTP1_CHUNKED && b->state == BROKEN) return WEIR_EMALFORMED;
    size_t n = data.n;
    if (b->done || n == 0) {
        *ret_payload = (struct slice){data.p, 0};
        return 0;
    }
    if (b->framing == HTTP1_CHUNKED) return next_chunked(b, data, ret_payload);
    if (b->framing == HTTP1_LENGTH) {
        if (n > b->left) n = (size_t)b->left;
        b->left -= n;
        b->done = b->left == 0;
    }
    *ret_payload = (struct slice){data.p, n};
    return (ptrdiff_t)n;
}

int http1_body_eof(struct http1_body *b) {
    if (b->framing == HTTP1_UNTIL_CLOSE) b->done = true;
    return b->done ? 0 : WEIR_ECUT;
}
