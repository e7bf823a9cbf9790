/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Heads of HTTP/1.0 and 1.1, as they are read. http_parser splits heads into fields; what it lets pass and
 * RFC 9112 does not is refused here: the first line is taken apart a second time, by its exact grammar, and
 * http1_scan has seen every byte before. Bodies are in http1_body.c. Pure functions on the caller's
 * memory; any thread.
 */
#include "wire/http1.h"
#include "weir/weir.h"
#include <http_parser.h>

enum {
    SKIP_MOST = 4,                /* bytes of empty lines before a request */
    CONNECTION_OPTIONS_MOST = 64, /* each costs a look at all fields: head_strip_hop_by_hop */
};

/* ------------------------------------------------------------ finding heads */

/* Everything before *scanned was in order, so that data[s - 1] alone tells whether a line begins at s.
   What is found depends on the bytes only, not on how they came: bytes past limit are not looked at. */
ptrdiff_t http1_scan(struct slice data, size_t *scanned, size_t limit) {
    const char *p = data.p, *end = p + (data.n < limit ? data.n : limit), *at = p + *scanned;
    while (at < end) {
        bool line_begins = at > p && at[-1] == '\n';
        if (line_begins && (*at == ' ' || *at == '\t')) return WEIR_EMALFORMED; /* obs-fold, RFC 9112 5.2 */
        const char *control = text_find_control(at, end);
        if (control == end) {
            at = end;
            break;
        }
        if (*control != '\r') return WEIR_EMALFORMED;
        at = control;
        if (end - control < 2) break; /* the LF may come yet */
        if (control[1] != '\n' || control == p) return WEIR_EMALFORMED;
        at += 2;
        if (control[-1] == '\n') return at - p;
    }
    *scanned = (size_t)(at - p);
    if (data.n < limit) return 0;
    return limit > 0 && memchr(p, '\n', limit) ? WEIR_EHEADTOOBIG : WEIR_ETARGETTOOBIG;
}

size_t http1_skip(struct slice data) {
    size_t n = 0;
    while (n < SKIP_MOST && n + 2 <= data.n && data.p[n] == '\r' && data.p[n + 1] == '\n') n += 2;
    return n;
}

/* ------------------------------------------------------------ parsing heads */

struct reading {
    struct http_head head;
    struct arena *arena;
    struct slice text;       /* our copy of the head */
    struct slice first_line; /* without its CRLF */
    struct slice name;       /* of the field whose value comes next; p NULL: none */
    bool complete;
    int error;
    const char *why;
};

static int fail(struct reading *r, int error, const char *why) {
    r->error = error;
    r->why = why;
    return error;
}

static int malformed(struct reading *r, const char *why) {
    return fail(r, WEIR_EMALFORMED, why);
}

static int out_of_memory(struct reading *r) {
    return fail(r, WEIR_ENOMEM, "out of memory");
}

/* The text is our own copy, and http_parser does not go back: names become lower case in place. */
static int on_header_field(http_parser *parser, const char *at, size_t n) {
    struct reading *r = parser->data;
    char *name = (char *)at;
    if (r->name.p || n == 0) return malformed(r, "broken field");
    for (size_t i = 0; i < n; i++) {
        unsigned char lower = text_token_lower[(unsigned char)name[i]];
        if (lower == 0) return malformed(r, "field name is not a token");
        name[i] = (char)lower;
    }
    r->name = (struct slice){name, n};
    return 0;
}

static int on_header_value(http_parser *parser, const char *at, size_t n) {
    struct reading *r = parser->data;
    if (!r->name.p) return malformed(r, "broken field");
    int error = head_add_name(&r->head, r->arena, r->name, slice_trim((struct slice){at, n}));
    r->name.p = NULL;
    if (error == WEIR_ENOMEM) return out_of_memory(r);
    return error ? fail(r, error, "too many fields") : 0;
}

/* 2: no body, leave the rest to us. http_parser then stops right after the blank line. */
static int on_headers_complete(http_parser *parser) {
    struct reading *r = parser->data;
    r->complete = true;
    return 2;
}

static int parser_error(struct reading *r, const http_parser *parser) {
    if (r->error) return r->error;
    switch (HTTP_PARSER_ERRNO(parser)) {
    case HPE_INVALID_METHOD:
        return fail(r, WEIR_EMETHOD, "method is not known");
    case HPE_INVALID_URL:
        return malformed(r, "bad request target");
    case HPE_HEADER_OVERFLOW:
        return fail(r, WEIR_EHEADTOOBIG, "head is too big");
    case HPE_INVALID_CONTENT_LENGTH:
        return malformed(r, "bad Content-Length");
    case HPE_UNEXPECTED_CONTENT_LENGTH:
        return malformed(r, "Content-Length more than once");
    default:
        return malformed(r, "broken field");
    }
}

static int run_parser(struct reading *r, enum http_parser_type type, http_parser *parser) {
    static const http_parser_settings settings = {
        .on_header_field = on_header_field,
        .on_header_value = on_header_value,
        .on_headers_complete = on_headers_complete,
    };
    http_parser_init(parser, type);
    parser->data = r;
    /* It takes "Transfer-Encodingx" for half a Transfer-Encoding; read_framing knows better, and http1_scan
       has looked for control characters. */
    parser->lenient_http_headers = 1;
    parser->allow_chunked_length = 1;
    size_t used = http_parser_execute(parser, &settings, r->text.p, r->text.n);
    if (parser->http_errno != HPE_OK || r->error) return parser_error(r, parser);
    if (!r->complete || used != r->text.n) return malformed(r, "broken head");
    return 0;
}

/* Checks every byte, copies the head and finds its first line. */
static int begin(struct reading *r, struct slice text, struct arena *a) {
    size_t scanned = 0;
    *r = (struct reading){.arena = a};
    if (text.n == 0 || http1_scan(text, &scanned, text.n) != (ptrdiff_t)text.n)
        return malformed(r, "line ends other than CRLF, line folding or control characters");
    char *copy = arena_bytes(a, text.n);
    if (!copy) return out_of_memory(r);
    memcpy(copy, text.p, text.n);
    r->text = (struct slice){copy, text.n};
    r->first_line = (struct slice){copy, (size_t)((char *)memchr(copy, '\r', text.n) - copy)};
    return 0;
}

/* "HTTP/" DIGIT "." DIGIT, 8 bytes (RFC 9112 2.3). A higher minor version counts as 1.1. */
static int read_version(struct reading *r, const char *p) {
    bool digits = p[5] >= '0' && p[5] <= '9' && p[7] >= '0' && p[7] <= '9';
    if (memcmp(p, "HTTP/", 5) != 0 || !digits || p[6] != '.') return malformed(r, "bad HTTP version");
    if (p[5] != '1') return fail(r, WEIR_EVERSION, "HTTP version is neither 1.0 nor 1.1");
    r->head.http10 = p[7] == '0';
    return 0;
}

/* method SP request-target SP HTTP-version (RFC 9112 3), with single spaces. */
static int read_request_line(struct reading *r) {
    struct slice line = r->first_line;
    const char *end = line.p + line.n, *space = memchr(line.p, ' ', line.n);
    r->head.method = (struct slice){line.p, space ? (size_t)(space - line.p) : line.n};
    if (!space || !text_is_token(r->head.method)) return malformed(r, "bad request line");
    const char *target = space + 1, *version = memchr(target, ' ', (size_t)(end - target));
    if (!version && text_is_target((struct slice){target, (size_t)(end - target)}))
        return fail(r, WEIR_EVERSION, "HTTP/0.9 is not supported");
    if (!version || version == target || end - version != 9) return malformed(r, "bad request line");
    r->head.target = (struct slice){target, (size_t)(version - target)};
    int error = read_version(r, version + 1);
    if (error) return error;
    if (slice_eq(r->head.method, SLICE("CONNECT"))) return fail(r, WEIR_EMETHOD, "CONNECT is not supported");
    return 0;
}

/* HTTP-version SP status-code [ SP reason-phrase ] (RFC 9112 4). */
static int read_status_line(struct reading *r) {
    struct slice line = r->first_line;
    if (line.n < 8) return malformed(r, "bad status line");
    int error = read_version(r, line.p);
    if (error) return error;
    uint64_t status;
    if (line.n < 12 || line.p[8] != ' ' || (line.n > 12 && line.p[12] != ' ') ||
        !slice_u64((struct slice){line.p + 9, 3}, &status) || status < 100)
        return malformed(r, "bad status line");
    r->head.status = (unsigned)status;
    return 0;
}

/* RFC 9112 6.1 and 6.2, without any of their leniency. */
static int read_framing(struct reading *r) {
    struct http_head *h = &r->head;
    for (unsigned i = 0; i < h->count; i++) {
        struct slice value = field_value(&h->fields[i]);
        if (h->fields[i].id == HEAD_CONTENT_LENGTH) {
            if (h->has_length) return malformed(r, "Content-Length more than once");
            if (!slice_u64(value, &h->content_length)) return malformed(r, "bad Content-Length");
            h->has_length = true;
        } else if (h->fields[i].id == HEAD_TRANSFER_ENCODING) {
            if (h->chunked || !slice_eq_nocase(value, SLICE("chunked")))
                return malformed(r, "Transfer-Encoding is not chunked alone");
            h->chunked = true;
        }
    }
    if (h->chunked && h->has_length) return malformed(r, "both Content-Length and Transfer-Encoding");
    if (h->chunked && h->http10) return malformed(r, "Transfer-Encoding in HTTP/1.0");
    return 0;
}

/* RFC 9112 9.3. */
static int read_connection(struct reading *r) {
    struct http_head *h = &r->head;
    bool close = false, keep_alive = false;
    unsigned options = 0;
    for (unsigned i = 0; i < h->count; i++) {
        if (h->fields[i].id != HEAD_CONNECTION) continue;
        struct slice rest = field_value(&h->fields[i]);
        while (rest.p) {
            struct slice option = slice_next(&rest, ',');
            close = close || slice_eq_nocase(option, SLICE("close"));
            keep_alive = keep_alive || slice_eq_nocase(option, SLICE("keep-alive"));
            if (++options > CONNECTION_OPTIONS_MOST)
                return fail(r, WEIR_EHEADTOOBIG, "too many Connection options");
        }
    }
    h->keep_alive = !close && (!h->http10 || keep_alive);
    return 0;
}

static int read_fields(struct reading *r, enum http_parser_type type, http_parser *parser) {
    int error = run_parser(r, type, parser);
    if (error) return error;
    const uint64_t framing = (uint64_t)1 << HEAD_CONTENT_LENGTH | (uint64_t)1 << HEAD_TRANSFER_ENCODING;
    if (r->head.seen & framing) error = read_framing(r);
    if (error) return error;
    r->head.keep_alive = !r->head.http10;
    return head_has(&r->head, HEAD_CONNECTION) ? read_connection(r) : 0;
}

/* unreserved / pct-encoded / sub-delims (RFC 3986 3.2.2), and what an IP literal needs beside them. */
static bool is_host_byte(unsigned char c, bool literal) {
    unsigned char lower = text_token_lower[c];
    if ((lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9')) return true;
    return c != 0 && strchr(literal ? "-._~!$&'()*+,;=:" : "-._~!$&'()*+,;=%", c) != NULL;
}

/* uri-host [ ":" port ] (RFC 9110 7.2). No empty host: RFC 9110 4.2.1 has such URIs refused. */
static bool host_is_valid(struct slice s) {
    bool literal = s.n > 0 && s.p[0] == '[';
    size_t i = literal ? 1 : 0, first = i;
    while (i < s.n && is_host_byte((unsigned char)s.p[i], literal)) i++;
    if (i == first) return false;
    if (literal && (i == s.n || s.p[i++] != ']')) return false;
    if (i == s.n) return true;
    uint64_t port;
    struct slice digits = {s.p + i + 1, s.n - i - 1};
    return s.p[i] == ':' &&
           (digits.n == 0 || (digits.n <= 5 && slice_u64(digits, &port) && port <= UINT16_MAX));
}

/* Absolute-form becomes origin-form and authority (RFC 9112 3.2.2, and 3.2.4 for OPTIONS). */
static int read_absolute_target(struct reading *r, struct slice *ret_authority) {
    struct slice target = r->head.target, scheme = {target.p, 7};
    if (target.n > 8 && slice_eq_nocase((struct slice){target.p, 8}, SLICE("https://")))
        scheme.n = 8;
    else if (target.n <= 7 || !slice_eq_nocase(scheme, SLICE("http://")))
        return malformed(r, "bad request target");
    size_t at = scheme.n;
    while (at < target.n && target.p[at] != '/' && target.p[at] != '?') at++;
    *ret_authority = (struct slice){target.p + scheme.n, at - scheme.n};
    struct slice path = {target.p + at, target.n - at};
    if (path.n == 0) {
        path = slice_eq(r->head.method, SLICE("OPTIONS")) ? SLICE("*") : SLICE("/");
    } else if (path.p[0] == '?') {
        char *copy = arena_bytes(r->arena, path.n + 1);
        if (!copy) return out_of_memory(r);
        copy[0] = '/';
        memcpy(copy + 1, path.p, path.n);
        path = (struct slice){copy, path.n + 1};
    }
    if (path.p[0] == '/' && !text_is_target(path)) return malformed(r, "bad request target");
    r->head.target = path;
    return 0;
}

/* The four forms but for CONNECT's (RFC 9112 3.2). *ret_authority stays empty unless the target has one. */
static int read_target(struct reading *r, struct slice *ret_authority) {
    struct slice target = r->head.target;
    if (target.p[0] == '/') return text_is_target(target) ? 0 : malformed(r, "bad request target");
    if (!slice_eq(target, SLICE("*"))) return read_absolute_target(r, ret_authority);
    return slice_eq(r->head.method, SLICE("OPTIONS")) ? 0 : malformed(r, "target * without OPTIONS");
}

/* Exactly one Host in 1.1, at most one in 1.0; the target's authority replaces it. */
static int read_host(struct reading *r, struct slice authority) {
    struct head_field *host = NULL;
    for (unsigned i = 0; i < r->head.count; i++) {
        if (r->head.fields[i].id != HEAD_HOST) continue;
        if (host) return malformed(r, "Host more than once");
        host = &r->head.fields[i];
    }
    if (!host && !r->head.http10) return malformed(r, "no Host");
    if (host && !host_is_valid(field_value(host))) return malformed(r, "bad Host");
    if (!authority.p) return 0;
    if (!host_is_valid(authority)) return malformed(r, "bad host in the request target");
    if (host) {
        host->value = authority.p;
        host->value_size = (uint32_t)authority.n;
        return 0;
    }
    int error = head_add(&r->head, r->arena, HEAD_HOST, authority);
    if (error == WEIR_ENOMEM) return out_of_memory(r);
    return error ? fail(r, error, "too many fields") : 0;
}

static int parse_request(struct reading *r, struct slice text, struct arena *a) {
    http_parser parser;
    struct slice authority = {0};
    int error = begin(r, text, a);
    if (!error) error = read_request_line(r);
    if (!error) error = read_fields(r, HTTP_REQUEST, &parser);
    if (error) return error;
    if (!slice_eq(r->head.method, slice_of(http_method_str((enum http_method)parser.method))))
        return fail(r, WEIR_EMETHOD, "method is not known");
    error = read_target(r, &authority);
    return error ? error : read_host(r, authority);
}

static int parse_response(struct reading *r, struct slice text, struct arena *a) {
    http_parser parser;
    int error = begin(r, text, a);
    if (!error) error = read_status_line(r);
    return error ? error : read_fields(r, HTTP_RESPONSE, &parser);
}

static int finish(const struct reading *r, int error, struct http_head *ret, const char **ret_why) {
    if (!error)
        *ret = r->head;
    else if (ret_why)
        *ret_why = r->why;
    return error;
}

int http1_request(struct slice text, struct arena *a, struct http_head *ret, const char **ret_why) {
    struct reading r;
    return finish(&r, parse_request(&r, text, a), ret, ret_why);
}

int http1_response(struct slice text, struct arena *a, struct http_head *ret, const char **ret_why) {
    struct reading r;
    return finish(&r, parse_response(&r, text, a), ret, ret_why);
}
