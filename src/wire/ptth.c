/* SPDX-License-Identifier: Apache-2.0 */
/* The handshake by which a worker turns its connection around; see ptth.h. Pure; any thread. */
#include "wire/ptth.h"
#include "weir/weir.h"

#define PREFIX "/.well-known/ptth/"

static int malformed(const char *why, const char **ret_why) {
    if (ret_why) *ret_why = why;
    return WEIR_EMALFORMED;
}

static int out_of_memory(const char **ret_why) {
    if (ret_why) *ret_why = "out of memory";
    return WEIR_ENOMEM;
}

/* Is one of the members of these fields' lists the token wanted? */
static bool list_has(const struct http_head *head, enum head_name id, struct slice wanted) {
    for (unsigned i = 0; i < head->count; i++) {
        if (head->fields[i].id != id) continue;
        struct slice rest = field_value(&head->fields[i]);
        while (rest.p)
            if (slice_eq_nocase(slice_next(&rest, ','), wanted)) return true;
    }
    return false;
}

/* The values of all fields with this id as one list (RFC 9110 5.3); p NULL when there is none. */
static int join_fields(const struct http_head *head, enum head_name id, struct arena *a, struct slice *ret) {
    size_t n = 0;
    unsigned fields = 0;
    for (unsigned i = 0; i < head->count; i++)
        if (head->fields[i].id == id) n += head->fields[i].value_size + 1u, fields++;
    if (fields < 2) {
        *ret = head_get(head, id);
        return 0;
    }
    char *text = arena_bytes(a, n), *at = text;
    if (!text) return WEIR_ENOMEM;
    for (unsigned i = 0; i < head->count; i++) {
        struct slice value = field_value(&head->fields[i]);
        if (head->fields[i].id != id) continue;
        if (value.n) memcpy(at, value.p, value.n);
        at += value.n;
        *at++ = ',';
    }
    *ret = (struct slice){text, n - 1};
    return 0;
}

/* scheme "://" host [":" port]: gives the host (RFC 6454 6.2, as the draft has it). False: not that. */
static bool origin_host(struct slice origin, struct slice *ret_host) {
    static const struct slice schemes[] = {{"http://", 7}, {"https://", 8}};
    for (size_t i = 0; i < 2; i++) {
        struct slice scheme = schemes[i];
        if (origin.n <= scheme.n || !slice_eq_nocase((struct slice){origin.p, scheme.n}, scheme)) continue;
        struct slice rest = {origin.p + scheme.n, origin.n - scheme.n};
        *ret_host = slice_next(&rest, ':');
        uint64_t port;
        bool port_ok = !rest.p || (slice_u64(rest, &port) && port <= UINT16_MAX);
        return port_ok && ret_host->n > 0;
    }
    return false;
}

/* The {origin} between PREFIX and the final slash. */
static int read_origin(struct slice target, struct arena *a, struct slice *ret_host, const char **ret_why) {
    struct slice encoded = {target.p + sizeof PREFIX - 1, target.n - (sizeof PREFIX - 1)};
    if (encoded.n < 2 || encoded.p[encoded.n - 1] != '/' || memchr(encoded.p, '/', encoded.n - 1) ||
        memchr(encoded.p, '?', encoded.n))
        return malformed("the path is not " PREFIX "{origin}/", ret_why);
    encoded.n--;
    char *text = arena_bytes(a, encoded.n);
    if (!text) return out_of_memory(ret_why);
    ptrdiff_t n = slice_percent_decode(encoded, false, text);
    if (n < 0 || !origin_host((struct slice){text, (size_t)n}, ret_host))
        return malformed("the origin is not a percent-encoded http://NAME", ret_why);
    return 0;
}

/* RFC 7639: percent-encoded names; the first that we speak counts. */
static bool read_alpn(struct slice list, enum ptth_protocol *ret_protocol) {
    char text[32];
    while (list.p) {
        struct slice name = slice_next(&list, ',');
        if (name.n > sizeof text) continue;
        ptrdiff_t n = slice_percent_decode(name, false, text);
        if (n < 0) continue;
        bool h2 = slice_eq((struct slice){text, (size_t)n}, SLICE("h2"));
        if (!h2 && !slice_eq((struct slice){text, (size_t)n}, SLICE("http/1.1"))) continue;
        *ret_protocol = h2 ? PTTH_H2 : PTTH_HTTP11;
        return true;
    }
    return false;
}

/* The token of Authorization: Bearer (RFC 6750 2.1); p NULL when there is none. */
static struct slice bearer_token(const struct http_head *head) {
    struct slice value = head_get(head, HEAD_AUTHORIZATION), bearer = SLICE("Bearer ");
    if (value.n <= bearer.n || !slice_eq_nocase((struct slice){value.p, bearer.n}, bearer))
        return (struct slice){0};
    return slice_trim((struct slice){value.p + bearer.n, value.n - bearer.n});
}

static int read_upgrade(const struct http_head *head, const char **ret_why) {
    if (head->http10 || !list_has(head, HEAD_UPGRADE, SLICE("ptth")) ||
        !list_has(head, HEAD_CONNECTION, SLICE("upgrade")))
        return malformed("no Connection: Upgrade with Upgrade: ptth", ret_why);
    if (head->chunked || (head->has_length && head->content_length))
        return malformed("an upgrade request has no body", ret_why);
    return 0;
}

int ptth_parse(const struct http_head *head, struct arena *a, struct ptth_offer *ret, const char **ret_why) {
    if (head->target.n < sizeof PREFIX - 1 || memcmp(head->target.p, PREFIX, sizeof PREFIX - 1) != 0) {
        if (ret_why) *ret_why = "workers attach at " PREFIX "{origin}/";
        return WEIR_ENOTFOUND;
    }
    if (!slice_eq(head->method, SLICE("GET"))) {
        if (ret_why) *ret_why = "workers attach with GET";
        return WEIR_ENOTALLOWED;
    }
    struct ptth_offer offer = {.protocol = PTTH_HTTP11};
    struct slice host, alpn;
    int r = read_upgrade(head, ret_why);
    if (!r) r = read_origin(head->target, a, &host, ret_why);
    if (r) return r;
    if (join_fields(head, HEAD_WEIR_SERVICE, a, &offer.services) ||
        join_fields(head, HEAD_WEIR_LABELS, a, &offer.labels) || join_fields(head, HEAD_ALPN, a, &alpn))
        return out_of_memory(ret_why);
    if (!offer.services.p) offer.services = host;
    if (!text_is_services(offer.services)) return malformed("a bad service name, or more than 64", ret_why);
    if (alpn.p && !read_alpn(alpn, &offer.protocol))
        return malformed("ALPN has neither http/1.1 nor h2", ret_why);
    offer.worker = head_get(head, HEAD_WEIR_WORKER);
    offer.token = bearer_token(head);
    *ret = offer;
    return 0;
}

int ptth_write_request(struct buffer *out, enum ptth_protocol protocol, struct slice host,
                       struct slice services, struct slice worker, struct slice labels, struct slice token) {
    if (!text_is_services(services) || !text_is_field_value(host) || !text_is_field_value(worker) ||
        !text_is_field_value(labels) || !text_is_field_value(token))
        return WEIR_EINVAL;
    struct slice rest = services, first = slice_next(&rest, ',');
    size_t before = buffer_size(out);
    int r = buffer_printf(
        out,
        "GET " PREFIX "http%%3A%%2F%%2F%.*s/ HTTP/1.1\r\nHost: %.*s\r\nConnection: Upgrade\r\n"
        "Upgrade: ptth\r\nALPN: %s\r\nWeir-Service: %.*s\r\n",
        SLICE_ARG(first), SLICE_ARG(host), protocol == PTTH_H2 ? "h2" : "http%2F1.1", SLICE_ARG(services));
    if (!r && worker.n) r = buffer_printf(out, "Weir-Worker: %.*s\r\n", SLICE_ARG(worker));
    if (!r && labels.n) r = buffer_printf(out, "Weir-Labels: %.*s\r\n", SLICE_ARG(labels));
    if (!r && token.n) r = buffer_printf(out, "Authorization: Bearer %.*s\r\n", SLICE_ARG(token));
    if (!r) r = buffer_append_slice(out, SLICE("\r\n"));
    if (r) out->end = out->start + before;
    return r;
}

int ptth_write_accept(struct buffer *out) {
    return buffer_append_slice(out, SLICE("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                                          "Upgrade: ptth\r\n\r\n"));
}
