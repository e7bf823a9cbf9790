/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker gets to see of a request: the client's end-to-end fields plus what the hub knows. */
#include "base/random.h"
#include "edge/conn.h"
#include "weir/weir.h"

static const char hex[] = "0123456789abcdef";

static uint64_t next_random(struct edge *e) {
    /* splitmix64 over a counter, from a seed of the system's: unique ids, one multiplication or two each */
    uint64_t z = e->random[0] + 0x9e3779b97f4a7c15u * ++e->random_count;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) ^ e->random[1];
}

static void put_hex(char *text, uint64_t bits) {
    for (int i = 15; i >= 0; i--, bits >>= 4) text[i] = hex[bits & 15];
}

void request_id_make(struct edge *e, char text[33]) {
    put_hex(text, next_random(e));
    put_hex(text + 16, next_random(e));
    text[32] = '\0';
}

struct slice request_service(const struct edge *e, struct slice path) {
    const struct edge_config *cfg = &e->config;
    if (path.n >= 3 && memcmp(path.p, "/-/", 3) == 0) return (struct slice){0}; /* reserved */
    for (size_t i = 0; i < cfg->route_count; i++) {                             /* longest first */
        struct slice prefix = cfg->routes[i].path;
        if (path.n < prefix.n || memcmp(path.p, prefix.p, prefix.n) != 0) continue;
        bool whole = path.n == prefix.n || prefix.p[prefix.n - 1] == '/' || path.p[prefix.n] == '/';
        if (whole) return cfg->routes[i].service;
    }
    if (cfg->route_count > 0 || path.n < 2 || path.p[0] != '/') return (struct slice){0};
    const char *end = memchr(path.p + 1, '/', path.n - 1);
    struct slice name = {path.p + 1, end ? (size_t)(end - path.p) - 1 : path.n - 1};
    return text_is_service(name) ? name : (struct slice){0};
}

static bool is_hex(struct slice s) {
    for (size_t i = 0; i < s.n; i++)
        if (!memchr(hex, s.p[i], 16)) return false;
    return true;
}

/* W3C Trace Context: version-traceid-parentid-flags; the hub's own span becomes the parent. An invalid one is
 * dropped. */
static int trace(struct ask *a) {
    static const char zeros[] = "00000000000000000000000000000000";
    struct message *m = a->message;
    struct slice given = head_get(&m->head, HEAD_TRACEPARENT);
    if (!given.p) return 0;
    bool valid = given.n >= 55 && given.p[2] == '-' && given.p[35] == '-' && given.p[52] == '-' &&
                 is_hex((struct slice){given.p, 2}) && is_hex((struct slice){given.p + 3, 32}) &&
                 is_hex((struct slice){given.p + 36, 16}) && is_hex((struct slice){given.p + 53, 2}) &&
                 memcmp(given.p, "ff", 2) != 0 && memcmp(given.p + 3, zeros, 32) != 0 &&
                 memcmp(given.p + 36, zeros, 16) != 0 && (given.n == 55 || memcmp(given.p, "00", 2) != 0);
    char text[55];
    if (valid) {
        memcpy(text, given.p, 55);
        put_hex(text + 36, next_random(a->conn->edge));
    }
    head_remove(&m->head, HEAD_TRACEPARENT);
    if (!valid) return 0;
    struct slice kept = arena_copy(&m->arena, (struct slice){text, 55});
    return kept.p ? head_add(&m->head, &m->arena, HEAD_TRACEPARENT, kept) : WEIR_ENOMEM;
}

static int identify(struct ask *a) {
    struct message *m = a->message;
    struct slice given = head_get(&m->head, HEAD_X_REQUEST_ID);
    if (given.p && given.n <= REQUEST_ID_SIZE && text_is_token(given)) {
        a->request_id = given;
        return 0;
    }
    head_remove(&m->head, HEAD_X_REQUEST_ID);
    char *text = arena_bytes(&m->arena, 33);
    if (!text) return WEIR_ENOMEM;
    request_id_make(a->conn->edge, text);
    a->request_id = (struct slice){text, 32};
    return head_add(&m->head, &m->arena, HEAD_X_REQUEST_ID, a->request_id);
}

/* The client's address without its port, so that the field is the same for all its connections. */
static struct slice client_address(struct conn *c) {
    if (!c->peer[0]) stream_peer(&c->stream, c->peer, sizeof(c->peer));
    struct slice peer = slice_of(c->peer);
    const char *colon = memrchr(peer.p, ':', peer.n);
    return colon ? (struct slice){peer.p, (size_t)(colon - peer.p)} : SLICE("unknown");
}

/* Forwarded: for=IP;proto=http, and X-Forwarded-For: IP, which is a part of the same bytes. */
static int add_address(struct message *m, struct slice ip) {
    static const char before[] = "for=", after[] = ";proto=http";
    bool v6 = ip.p[0] == '['; /* RFC 7239 6: in quotes */
    char *text = arena_bytes(&m->arena, sizeof(before) + ip.n + sizeof(after)), *at = text;
    if (!text) return WEIR_ENOMEM;
    at = mempcpy(at, before, sizeof(before) - 1);
    if (v6) *at++ = '"';
    struct slice bare = v6 ? (struct slice){at + 1, ip.n - 2} : (struct slice){at, ip.n};
    at = mempcpy(at, ip.p, ip.n);
    if (v6) *at++ = '"';
    at = mempcpy(at, after, sizeof(after) - 1);
    int err = head_add(&m->head, &m->arena, HEAD_FORWARDED, (struct slice){text, (size_t)(at - text)});
    return err ? err : head_add(&m->head, &m->arena, HEAD_X_FORWARDED_FOR, bare);
}

/* RFC 7239 and the older X-Forwarded-* fields. */
static int forwarded(struct ask *a) {
    struct message *m = a->message;
    struct http_head *head = &m->head;
    if (a->conn->edge->config.trust_forwarded &&
        (head_has(head, HEAD_X_FORWARDED_FOR) || head_has(head, HEAD_FORWARDED)))
        return 0;
    head_remove(head, HEAD_FORWARDED);
    head_remove(head, HEAD_X_FORWARDED_FOR);
    head_remove(head, HEAD_X_FORWARDED_PROTO);
    head_remove(head, HEAD_X_FORWARDED_HOST);
    struct slice ip = client_address(a->conn), host = head_get(head, HEAD_HOST);
    int err = add_address(m, ip);
    if (err == 0) err = head_add(head, &m->arena, HEAD_X_FORWARDED_PROTO, SLICE("http"));
    if (err == 0 && host.p) err = head_add(head, &m->arena, HEAD_X_FORWARDED_HOST, host);
    return err;
}

int request_prepare(struct ask *a) {
    struct http_head *head = &a->message->head;
    head_strip_hop_by_hop(head);
    head_strip_weir(head, HEAD_WEIR_KEY); /* workers, and keyed services further on, may want it */
    head_remove(head, HEAD_EXPECT);
    int err = identify(a);
    if (err == 0) err = trace(a);
    if (err == 0) err = forwarded(a);
    return err;
}
