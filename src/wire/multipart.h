/* SPDX-License-Identifier: Apache-2.0 */
/*
 * multipart/mixed (RFC 2046 5.1), the bodies of scatter and gather: reading one that lies whole in memory
 * without copying, and writing one. Strict: what could be read in two ways is refused. So no line may
 * begin with "--" and the boundary that is not a delimiter, nor may a delimiter come after a bare LF.
 *
 * *ret_why (may be NULL) is set to a fixed text that says what was wrong; untouched on success.
 */
#ifndef WIRE_MULTIPART_H
#define WIRE_MULTIPART_H

#include "base/buffer.h"
#include "wire/head.h"

enum {
    MULTIPART_BOUNDARY = 70 + 1, /* the longest one and a NUL */
    MULTIPART_TYPE = sizeof "multipart/mixed; boundary=\"\"" - 1 + MULTIPART_BOUNDARY,
};

/* ------------------------------------------------------------ reading */

/* The boundary, unquoted and with a NUL, that a Content-Type's value (empty: there is none) names.
   WEIR_EMALFORMED: another type, broken parameters, or not exactly one boundary of 1 to 70 bchars. */
int multipart_boundary(struct slice content_type, char ret[static MULTIPART_BOUNDARY], const char **ret_why);

struct multipart {
    struct slice rest; /* what follows the last delimiter line */
    size_t size;
    bool begun, closed;
    char delimiter[1 + 2 + MULTIPART_BOUNDARY]; /* LF "--" boundary; size bytes */
};

struct multipart_part {
    struct slice head; /* its field lines, each with its CRLF; may be empty */
    struct slice body;
};

/* Borrows body until the last multipart_next. The boundary is one that multipart_boundary gave. */
void multipart_init(struct multipart *m, struct slice body, struct slice boundary);
/* 1 and the next part in *ret; 0 after the last one; WEIR_EMALFORMED, after which m is of no more use. What
   is wrong with a body may show only after some of its parts: walk it once before acting on any. Linear in
   the body's size. Preamble and epilogue are skipped. */
int multipart_next(struct multipart *m, struct multipart_part *ret, const char **ret_why);

/*
 * Parses a part's field lines into the fields of *ret, whose text is copied into the arena; the rest of *ret
 * is zero. Names become lower case. Left out are hop-by-hop fields, weir-* but for weir-key, weir-priority,
 * weir-cost and weir-part-status, and Content-Length: the part's body is its own length.
 * WEIR_EMALFORMED: line ends other than CRLF, obs-fold, a name that is not a token, control characters, a
 * Content-Length that is not the body's size. WEIR_EHEADTOOBIG: over limit bytes, or 256 fields.
 * WEIR_ENOMEM.
 */
int multipart_head(const struct multipart_part *part, size_t limit, struct arena *a, struct http_head *ret,
                   const char **ret_why);

/* ------------------------------------------------------------ writing */

struct multipart_field {
    struct slice name, value; /* as a parsed head has them */
};

/* A boundary of 32 hexadecimal digits and a NUL. With bits that nobody could guess no part can hold it. */
void multipart_make_boundary(const uint64_t bits[static 2], char ret[static MULTIPART_BOUNDARY]);
/* Content-Type's value, written into text. */
struct slice multipart_type(struct slice boundary, char text[static MULTIPART_TYPE]);
/* Appends a part with its delimiter. 0 or WEIR_ENOMEM; nothing is appended on failure. */
int multipart_write_part(struct buffer *out, struct slice boundary, const struct multipart_field *fields,
                         size_t count, struct slice body);
/* Appends the closing delimiter. The same. */
int multipart_write_end(struct buffer *out, struct slice boundary);

#endif
