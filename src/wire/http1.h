/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.0 and 1.1 (RFC 9112), both directions, strict: whatever could be read in two ways is
 * refused. http_parser does the parsing of heads; this file adds the checks that it lacks and is the
 * only one that knows of it. No I/O; nothing here blocks or keeps state beyond its structs.
 *
 * How a connection uses it: gather bytes until http1_scan finds the end of a head; http1_request or
 * http1_response parses it; http1_body_init tells how the body is framed; http1_body_next cuts the
 * payload out of the bytes that follow.
 */
#ifndef WIRE_HTTP1_H
#define WIRE_HTTP1_H

#include "base/buffer.h"
#include "wire/head.h"

/* Looks for the end of a head in data (everything since the head's first byte). *scanned, 0 at first,
   remembers how far earlier calls came. Returns the head's size with its blank line; 0 when it is not
   complete yet; WEIR_EMALFORMED for a bare LF, a bare CR, a NUL or another control character, a folded
   line or an empty first line; WEIR_ETARGETTOOBIG when limit bytes passed without the end of the first line,
   WEIR_EHEADTOOBIG when they passed later. Empty lines before a request's first line are the caller's to
   skip: see http1_skip. */
ptrdiff_t http1_scan(struct slice data, size_t *scanned, size_t limit);
/* How many bytes of CRLF stand before a request line (RFC 9112 2.2 lets a server skip them); at
   most 4 are skipped. */
size_t http1_skip(struct slice data);

/*
 * Parses the head in text (all of it, as http1_scan found it) into *ret; copies what it keeps into
 * the arena. Names become lower case.
 * WEIR_EMALFORMED: any violation, among them both Content-Length and Transfer-Encoding, differing or
 * repeated Content-Length, a transfer coding other than one final "chunked", chunked in HTTP/1.0,
 * obs-fold, space before the colon, control characters, no or several Host in a 1.1 request, a bad
 * target. WEIR_EVERSION: HTTP/2 and up, or 0.9. WEIR_EMETHOD: CONNECT, or a method that http_parser
 * does not know. WEIR_EHEADTOOBIG: more than 256 fields, or 64 Connection options. WEIR_ENOMEM.
 * An absolute-form target becomes its path and query; its authority replaces Host.
 * *ret_why (may be NULL) is set to a fixed text that says what was wrong; untouched on success.
 */
int http1_request(struct slice text, struct arena *a, struct http_head *ret, const char **ret_why);
/* The same for a response; 1xx are returned like any other. */
int http1_response(struct slice text, struct arena *a, struct http_head *ret, const char **ret_why);

enum http1_framing { HTTP1_NONE, HTTP1_LENGTH, HTTP1_CHUNKED, HTTP1_UNTIL_CLOSE };

struct http1_body {
    enum http1_framing framing;
    unsigned char state; /* inside a chunk's framing */
    bool done;
    uint64_t left;     /* of the length, or of the chunk */
    uint32_t overhead; /* bytes of extensions and trailers seen */
};

/* The framing of the body that follows head (RFC 9112 6.3). request_method: of the request that a
   response answers (HEAD has no body); empty for a request. */
void http1_body_init(struct http1_body *b, const struct http_head *head, struct slice request_method);
/* Reads on in data. Returns how many bytes it used and sets *ret_payload to the body bytes among
   them (empty for framing; at most one run per call: call again while the return value is > 0 and
   not done). b->done is set at the body's end. WEIR_EMALFORMED for broken chunks (bare LF, bad
   size, over 64 bits, more than 8 KiB of extensions and trailers); trailers are checked and dropped. */
ptrdiff_t http1_body_next(struct http1_body *b, struct slice data, struct slice *ret_payload);
/* The peer closed: 0 when that ends the body, WEIR_ECUT when something is missing. */
int http1_body_eof(struct http1_body *b);

/* Appends a head as text. Framing and connection fields are the caller's to have in head->fields. */
int http1_write_request(struct buffer *out, const struct http_head *head);
/* minor: 0 or 1, the version in the status line. */
int http1_write_response(struct buffer *out, const struct http_head *head, unsigned minor);
/* One whole chunk: size line, payload (not empty), CRLF. */
int http1_write_chunk(struct buffer *out, struct slice payload);
/* The last chunk and the empty trailer. */
int http1_write_last_chunk(struct buffer *out);

#endif
