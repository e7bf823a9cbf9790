/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/url.h"

static bool is_alnum(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool all_in(struct slice s, const char *also) {
    for (size_t i = 0; i < s.n; i++)
        if (!is_alnum(s.p[i]) && (s.p[i] == '\0' || !strchr(also, s.p[i]))) return false;
    return true;
}

/* Each % has two hexadecimal digits behind it (RFC 3986 2.1). */
static bool well_escaped(struct slice s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '%' && (s.n - i < 3 || hex_digit(s.p[i + 1]) < 0 || hex_digit(s.p[i + 2]) < 0))
            return false;
    return true;
}

/* "/./" or "/../", also for who decodes escapes before it looks for them, takes '\' for '/', or drops what
   stands behind a ';' of a segment. */
static bool has_dot_segment(struct slice path) {
    size_t dots = 0, others = 1; /* of the segment; what stands before the first '/' is none */
    for (size_t i = 0; i <= path.n; i++) {
        char c = i < path.n ? path.p[i] : '/';
        if (c == '%') {
            c = (char)(hex_digit(path.p[i + 1]) << 4 | hex_digit(path.p[i + 2]));
            i += 2;
        }
        if (c == '/' || c == '\\' || c == ';') {
            if (others == 0 && (dots == 1 || dots == 2)) return true;
            dots = others = 0;
        } else if (c == '.') {
            dots++;
        } else {
            others++;
        }
    }
    return false;
}

/* Cuts what stands before the first of these off text. */
static struct slice cut(struct slice *text, const char *before) {
    size_t n = 0;
    while (n < text->n && !strchr(before, text->p[n])) n++;
    struct slice part = {text->p, n};
    *text = (struct slice){text->p + n, text->n - n};
    return part;
}

static bool parse_scheme(struct slice *text, bool *ret_https) {
    struct slice scheme = cut(text, ":");
    *ret_https = slice_eq_nocase(scheme, SLICE("https"));
    if (!*ret_https && !slice_eq_nocase(scheme, SLICE("http"))) return false;
    if (text->n < 3 || memcmp(text->p, "://", 3) != 0) return false;
    *text = (struct slice){text->p + 3, text->n - 3};
    return true;
}

static bool parse_host(struct slice authority, struct url *ret) {
    struct slice rest = authority;
    uint64_t port = ret->https ? 443 : 80;
    if (rest.n > 0 && rest.p[0] == '[') {
        struct slice inner = cut(&rest, "]");
        inner = (struct slice){inner.p + 1, inner.n - 1};
        if (rest.n == 0 || inner.n == 0 || !all_in(inner, ":.")) return false;
        rest = (struct slice){rest.p + 1, rest.n - 1};
    } else {
        struct slice name = cut(&rest, ":");
        if (name.n == 0 || !all_in(name, "-._")) return false;
    }
    ret->host = (struct slice){authority.p, authority.n - rest.n};
    if (rest.n > 0) {
        struct slice digits = {rest.p + 1, rest.n - 1};
        if (rest.p[0] != ':' || !slice_u64(digits, &port) || port == 0 || port > 65535) return false;
    }
    ret->port = (unsigned)port;
    return true;
}

bool url_parse(struct slice text, struct url *ret) {
    struct url url = {0};
    if (!parse_scheme(&text, &url.https)) return false;
    if (!parse_host(cut(&text, "/?#"), &url)) return false;
    url.path = cut(&text, "?#");
    if (!all_in(url.path, "/-._~!$&'()*+,;=:@%") || !well_escaped(url.path) || has_dot_segment(url.path))
        return false;
    if (text.n > 0) {
        if (text.p[0] != '?') return false;
        url.query = (struct slice){text.p + 1, text.n - 1};
        if (!all_in(url.query, "/?-._~!$&'()*+,;=:@%") || !well_escaped(url.query)) return false;
    }
    *ret = url;
    return true;
}

bool url_below(const struct url *url, const struct url *prefix) {
    if (url->https != prefix->https || url->port != prefix->port || !slice_eq_nocase(url->host, prefix->host))
        return false;
    struct slice path = url->path.n ? url->path : SLICE("/"),
                 begin = prefix->path.n ? prefix->path : SLICE("/");
    if (path.n < begin.n || memcmp(path.p, begin.p, begin.n) != 0) return false;
    return path.n == begin.n || begin.p[begin.n - 1] == '/' || path.p[begin.n] == '/';
}
