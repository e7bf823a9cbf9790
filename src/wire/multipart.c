/* SPDX-License-Identifier: Apache-2.0 */
/*
 * multipart/mixed. Pure functions on the caller's memory; any thread.
 *
 * Delimiters are looked for as LF "--" boundary, and only then is the CR before it asked for: this finds
 * those after a bare LF, which others would take for one. memmem is linear for needles this short (glibc
 * says so up to 256 bytes), whatever the body holds.
 */
#include "wire/multipart.h"
#include "base/assert.h"
#include "weir/weir.h"
#include <inttypes.h>
#include <stdio.h>

static int fail(const char **ret_why, int error, const char *why) {
    if (ret_why) *ret_why = why;
    return error;
}

static int malformed(const char **ret_why, const char *why) {
    return fail(ret_why, WEIR_EMALFORMED, why);
}

static struct slice drop(struct slice s, size_t n) {
    return (struct slice){s.p + n, s.n - n};
}

static struct slice drop_blanks(struct slice s) {
    while (s.n && (s.p[0] == ' ' || s.p[0] == '\t')) s = drop(s, 1);
    return s;
}

/* ------------------------------------------------------------ Content-Type */

/* bchars (RFC 2046 5.1.1). */
static bool is_boundary_byte(unsigned char c) {
    unsigned char lower = text_token_lower[c];
    bool alnum = (lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9');
    return alnum || (c != 0 && strchr("'()+_,-./:=? ", c) != NULL);
}

static struct slice take_token(struct slice *rest) {
    struct slice all = *rest;
    while (rest->n && text_token_lower[(unsigned char)rest->p[0]]) *rest = drop(*rest, 1);
    return (struct slice){all.p, all.n - rest->n};
}

/* A token, or a quoted-string with its quotes; empty when neither. */
static struct slice take_value(struct slice *rest) {
    if (rest->n == 0 || rest->p[0] != '"') return take_token(rest);
    size_t n = 1;
    while (n < rest->n && rest->p[n] != '"') n += rest->p[n] == '\\' ? 2 : 1;
    struct slice quoted = {rest->p, n < rest->n ? n + 1 : 0};
    *rest = drop(*rest, quoted.n);
    return quoted;
}

static int unquote_boundary(struct slice value, char ret[static MULTIPART_BOUNDARY], const char **ret_why) {
    char text[MULTIPART_BOUNDARY];
    size_t n = 0;
    bool quoted = value.p[0] == '"';
    if (quoted) value = (struct slice){value.p + 1, value.n - 2};
    for (size_t i = 0; i < value.n; i++) {
        if (quoted && value.p[i] == '\\') i++;
        if (n == sizeof text - 1) return malformed(ret_why, "boundary is longer than 70 characters");
        if (!is_boundary_byte((unsigned char)value.p[i]))
            return malformed(ret_why, "boundary has a character that none may have");
        text[n++] = value.p[i];
    }
    if (n == 0 || text[n - 1] == ' ') return malformed(ret_why, "boundary is empty or ends with a space");
    memcpy(ret, text, n);
    ret[n] = '\0';
    return 0;
}

/* *( OWS ";" OWS [ parameter ] ) (RFC 9110 5.6.6). *ret_value: the boundary's. */
static int find_boundary(struct slice rest, struct slice *ret_value, const char **ret_why) {
    struct slice found = {0};
    for (rest = drop_blanks(rest); rest.n; rest = drop_blanks(rest)) {
        if (rest.p[0] != ';') return malformed(ret_why, "broken parameter in Content-Type");
        rest = drop_blanks(drop(rest, 1));
        if (rest.n == 0 || rest.p[0] == ';') continue;
        struct slice name = take_token(&rest), value = {0};
        if (name.n && rest.n && rest.p[0] == '=') {
            rest = drop(rest, 1);
            value = take_value(&rest);
        }
        if (value.n == 0) return malformed(ret_why, "broken parameter in Content-Type");
        if (!slice_eq_nocase(name, SLICE("boundary"))) continue;
        if (found.p) return malformed(ret_why, "more than one boundary in Content-Type");
        found = value;
    }
    *ret_value = found;
    return found.p ? 0 : malformed(ret_why, "no boundary in Content-Type");
}

int multipart_boundary(struct slice content_type, char ret[static MULTIPART_BOUNDARY], const char **ret_why) {
    const struct slice mixed = SLICE("multipart/mixed");
    struct slice rest = slice_trim(content_type), value;
    struct slice type = {rest.p, rest.n < mixed.n ? rest.n : mixed.n};
    if (!slice_eq_nocase(type, mixed) || (rest.n > type.n && !strchr("; \t", rest.p[type.n])))
        return malformed(ret_why, "Content-Type is not multipart/mixed");
    if (!text_is_field_value(rest)) return malformed(ret_why, "control character in Content-Type");
    int r = find_boundary(drop(rest, type.n), &value, ret_why);
    return r ? r : unquote_boundary(value, ret, ret_why);
}

/* ------------------------------------------------------------ parts */

void multipart_init(struct multipart *m, struct slice body, struct slice boundary) {
    ASSERT(boundary.n > 0 && boundary.n < MULTIPART_BOUNDARY);
    *m = (struct multipart){.rest = body.p ? body : SLICE(""), .size = 3 + boundary.n, .delimiter = "\n--"};
    memcpy(m->delimiter + 3, boundary.p, boundary.n);
}

/* The rest of a delimiter line, from after its boundary. */
static int end_delimiter(struct multipart *m, const char *at, const char **ret_why) {
    struct slice rest = {at, (size_t)(m->rest.p + m->rest.n - at)};
    bool closed = rest.n >= 2 && memcmp(rest.p, "--", 2) == 0;
    if (closed) rest = drop(rest, 2);
    rest = drop_blanks(rest);
    if (rest.n >= 2 && memcmp(rest.p, "\r\n", 2) == 0)
        rest = drop(rest, 2);
    else if (rest.n)
        return malformed(ret_why, "a line that begins with the boundary is not a delimiter with CRLF");
    else if (!closed)
        return malformed(ret_why, "the body ends in a delimiter that does not close it");
    m->rest = rest;
    m->begun = true;
    m->closed = closed;
    return 0;
}

/* Goes to after the next delimiter, which is looked for at from and later. *ret is what was skipped, with
   the delimiter's CRLF. */
static int skip_delimiter(struct multipart *m, const char *from, struct slice *ret, const char **ret_why) {
    const char *begin = m->rest.p, *end = begin + m->rest.n;
    const char *lf = memmem(from, (size_t)(end - from), m->delimiter, m->size);
    if (!lf) return malformed(ret_why, m->begun ? "no closing delimiter" : "no delimiter in the body");
    if (lf <= begin || lf[-1] != '\r') return malformed(ret_why, "no CRLF of its own before a delimiter");
    *ret = (struct slice){begin, (size_t)(lf - begin) + 1};
    return end_delimiter(m, lf + m->size, ret_why);
}

static int skip_preamble(struct multipart *m, const char **ret_why) {
    struct slice first = {m->delimiter + 1, m->size - 1}, preamble;
    if (m->rest.n >= first.n && memcmp(m->rest.p, first.p, first.n) == 0)
        return end_delimiter(m, m->rest.p + first.n, ret_why);
    return skip_delimiter(m, m->rest.p, &preamble, ret_why);
}

int multipart_next(struct multipart *m, struct multipart_part *ret, const char **ret_why) {
    struct slice text;
    int r = m->begun ? 0 : skip_preamble(m, ret_why);
    if (r || m->closed) return r;
    r = skip_delimiter(m, m->rest.p - 1, &text, ret_why); /* the LF before is the last delimiter line's */
    if (r) return r;
    /* Without a body the delimiter's CRLF is the blank line, too: body-part in RFC 2046 5.1.1. */
    size_t head = 0, body = 2;
    if (memcmp(text.p, "\r\n", 2) != 0) {
        const char *blank = memmem(text.p, text.n, "\r\n\r\n", 4);
        if (!blank) return malformed(ret_why, "a part has no blank line after its head");
        head = (size_t)(blank - text.p) + 2;
        body = head + 2;
    }
    ret->head = (struct slice){text.p, head};
    ret->body = (struct slice){text.p + body, body < text.n ? text.n - body - 2 : 0};
    return 1;
}

/* ------------------------------------------------------------ a part's head */

static bool is_kept(struct slice name) {
    enum head_name id = head_name_id(name);
    if (head_name_hop_by_hop(id) || id == HEAD_CONTENT_LENGTH) return false;
    return !head_name_is_weir(name) || slice_eq(name, SLICE("weir-key")) ||
           slice_eq(name, SLICE("weir-priority")) || slice_eq(name, SLICE("weir-cost")) ||
           slice_eq(name, SLICE("weir-part-status"));
}

/* One field line without its CRLF, in our copy, where the name becomes lower case. */
static int read_field(char *line, size_t n, size_t body_size, struct arena *a, struct http_head *h,
                      const char **ret_why) {
    if (n && (line[0] == ' ' || line[0] == '\t')) return malformed(ret_why, "folded line in a part's head");
    size_t i = 0;
    for (unsigned char c; i < n && (c = text_token_lower[(unsigned char)line[i]]) != 0; i++)
        line[i] = (char)c;
    if (i == 0 || i == n || line[i] != ':') return malformed(ret_why, "broken field in a part's head");
    struct slice name = {line, i}, value = slice_trim((struct slice){line + i + 1, n - i - 1});
    uint64_t length;
    if (slice_eq(name, SLICE("content-length")) && (!slice_u64(value, &length) || length != body_size))
        return malformed(ret_why, "a part's Content-Length is not its size");
    if (!is_kept(name)) return 0;
    int r = head_add_name(h, a, name, value);
    if (r == WEIR_ENOMEM) return fail(ret_why, r, "out of memory");
    return r ? fail(ret_why, r, "too many fields in a part's head") : 0;
}

int multipart_head(const struct multipart_part *part, size_t limit, struct arena *a, struct http_head *ret,
                   const char **ret_why) {
    struct http_head head = {0};
    size_t n = part->head.n;
    if (n > limit) return fail(ret_why, WEIR_EHEADTOOBIG, "a part's head is too big");
    char *at = arena_bytes(a, n);
    if (!at) return fail(ret_why, WEIR_ENOMEM, "out of memory");
    if (n) memcpy(at, part->head.p, n);
    for (char *end = at + n, *line = at; line < end; line = at + 2) {
        at = line + (text_find_control(line, end) - line);
        if (end - at < 2 || memcmp(at, "\r\n", 2) != 0)
            return malformed(ret_why, "control character in a part's head, or a line end other than CRLF");
        int r = read_field(line, (size_t)(at - line), part->body.n, a, &head, ret_why);
        if (r) return r;
    }
    *ret = head;
    return 0;
}

/* ------------------------------------------------------------ writing */

void multipart_make_boundary(const uint64_t bits[static 2], char ret[static MULTIPART_BOUNDARY]) {
    snprintf(ret, MULTIPART_BOUNDARY, "%016" PRIx64 "%016" PRIx64, bits[0], bits[1]);
}

struct slice multipart_type(struct slice boundary, char text[static MULTIPART_TYPE]) {
    const char *quote = text_is_token(boundary) ? "" : "\"";
    int n = snprintf(text, MULTIPART_TYPE, "multipart/mixed; boundary=%s%.*s%s", quote, SLICE_ARG(boundary),
                     quote);
    return (struct slice){text, (size_t)n};
}

static char *put(char *at, struct slice s) {
    return s.n ? mempcpy(at, s.p, s.n) : at;
}

int multipart_write_part(struct buffer *out, struct slice boundary, const struct multipart_field *fields,
                         size_t count, struct slice body) {
    size_t size = 2 + boundary.n + 2 + 2 + body.n + 2;
    for (size_t i = 0; i < count; i++) size += fields[i].name.n + 2 + fields[i].value.n + 2;
    char *at = buffer_reserve(out, size);
    if (!at) return WEIR_ENOMEM;
    at = put(put(put(at, SLICE("--")), boundary), SLICE("\r\n"));
    for (size_t i = 0; i < count; i++)
        at = put(put(put(put(at, fields[i].name), SLICE(": ")), fields[i].value), SLICE("\r\n"));
    put(put(put(at, SLICE("\r\n")), body), SLICE("\r\n")); /* the last one is the next delimiter's */
    buffer_commit(out, size);
    return 0;
}

int multipart_write_end(struct buffer *out, struct slice boundary) {
    return buffer_printf(out, "--%.*s--\r\n", SLICE_ARG(boundary));
}
