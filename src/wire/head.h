/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The head of an HTTP message, request or response, whatever carried it (HTTP/1, HTTP/2, ZeroMQ).
 * Field names are lower case (RFC 9110 5.1 makes them case-insensitive; RFC 9113 8.2.1 wants them
 * so). All text lies in the arena that the head was parsed or built with.
 */
#ifndef WIRE_HEAD_H
#define WIRE_HEAD_H

#include "base/arena.h"

/* Fields that weir itself looks at. Columns: id, name, hop-by-hop (RFC 9110 7.6.1). */
#define HEAD_NAMES(X)                                                                                        \
    X(HOST, "host", 0)                                                                                       \
    X(CONTENT_LENGTH, "content-length", 0)                                                                   \
    X(CONTENT_TYPE, "content-type", 0)                                                                       \
    X(CONTENT_ENCODING, "content-encoding", 0)                                                               \
    X(CONTENT_LANGUAGE, "content-language", 0)                                                               \
    X(CONTENT_LOCATION, "content-location", 0)                                                               \
    X(CONTENT_RANGE, "content-range", 0)                                                                     \
    X(TRANSFER_ENCODING, "transfer-encoding", 1)                                                             \
    X(CONNECTION, "connection", 1)                                                                           \
    X(KEEP_ALIVE, "keep-alive", 1)                                                                           \
    X(PROXY_CONNECTION, "proxy-connection", 1)                                                               \
    X(TE, "te", 1)                                                                                           \
    X(TRAILER, "trailer", 1)                                                                                 \
    X(UPGRADE, "upgrade", 1)                                                                                 \
    X(EXPECT, "expect", 0)                                                                                   \
    X(DATE, "date", 0)                                                                                       \
    X(SERVER, "server", 0)                                                                                   \
    X(ORIGIN, "origin", 0)                                                                                   \
    X(ALLOW, "allow", 0)                                                                                     \
    X(AUTHORIZATION, "authorization", 0)                                                                     \
    X(ALPN, "alpn", 0)                                                                                       \
    X(RETRY_AFTER, "retry-after", 0)                                                                         \
    X(USER_AGENT, "user-agent", 0)                                                                           \
    X(REFERER, "referer", 0)                                                                                 \
    X(FORWARDED, "forwarded", 0)                                                                             \
    X(X_FORWARDED_FOR, "x-forwarded-for", 0)                                                                 \
    X(X_FORWARDED_PROTO, "x-forwarded-proto", 0)                                                             \
    X(X_FORWARDED_HOST, "x-forwarded-host", 0)                                                               \
    X(X_REQUEST_ID, "x-request-id", 0)                                                                       \
    X(TRACEPARENT, "traceparent", 0)                                                                         \
    X(IDEMPOTENCY_KEY, "idempotency-key", 0)                                                                 \
    X(PREFER, "prefer", 0)                                                                                   \
    X(ACR_METHOD, "access-control-request-method", 0)                                                        \
    X(ACR_HEADERS, "access-control-request-headers", 0)                                                      \
    X(WEIR_JOB, "weir-job", 0)                                                                               \
    X(WEIR_SERVICE, "weir-service", 0)                                                                       \
    X(WEIR_HOP, "weir-hop", 0)                                                                               \
    X(WEIR_ATTEMPT, "weir-attempt", 0)                                                                       \
    X(WEIR_DEADLINE_MS, "weir-deadline-ms", 0)                                                               \
    X(WEIR_ORIGINAL_METHOD, "weir-original-method", 0)                                                       \
    X(WEIR_FORWARD, "weir-forward", 0)                                                                       \
    X(WEIR_SCATTER, "weir-scatter", 0)                                                                       \
    X(WEIR_SLOTS, "weir-slots", 0)                                                                           \
    X(WEIR_LABELS, "weir-labels", 0)                                                                         \
    X(WEIR_WORKER, "weir-worker", 0)                                                                         \
    X(WEIR_TIMEOUT, "weir-timeout", 0)                                                                       \
    X(WEIR_PRIORITY, "weir-priority", 0)                                                                     \
    X(WEIR_KEY, "weir-key", 0)                                                                               \
    X(WEIR_COST, "weir-cost", 0)                                                                             \
    X(WEIR_PROGRESS, "weir-progress", 0)                                                                     \
    X(WEIR_DELAY, "weir-delay", 0)                                                                           \
    X(WEIR_CALLBACK, "weir-callback", 0)                                                                     \
    X(WEIR_DURABLE, "weir-durable", 0)

enum head_name {
    HEAD_OTHER,
#define HEAD_NAME_ENUM(id, name, hop) HEAD_##id,
    HEAD_NAMES(HEAD_NAME_ENUM)
#undef HEAD_NAME_ENUM
        HEAD_NAME_COUNT
};

struct head_field {
    const char *name, *value; /* not NUL-terminated */
    uint32_t value_size;
    uint16_t name_size;
    uint8_t id; /* enum head_name */
};

static inline struct slice field_name(const struct head_field *f) {
    return (struct slice){f->name, f->name_size};
}
static inline struct slice field_value(const struct head_field *f) {
    return (struct slice){f->value, f->value_size};
}

struct http_head {
    struct slice method, target; /* request */
    unsigned status;             /* response: 100..999; 0 in a request */
    struct head_field *fields;
    unsigned count, room;
    /* What a parser found; see http1.h. */
    uint64_t content_length;
    bool has_length, chunked, keep_alive, http10;
    uint64_t seen; /* bit per enum head_name (all are below 64): quick head_has */
};

/* The id of a lower-case name. */
enum head_name head_name_id(struct slice lower_case_name);
struct slice head_name_text(enum head_name id);
/* Must not pass this hop (RFC 9110 7.6.1): connection, te, upgrade, ... Does not know of what Connection
 * names. */
bool head_name_hop_by_hop(enum head_name id);
/* Any name that begins with "weir-". */
bool head_name_is_weir(struct slice lower_case_name);

static inline bool head_has(const struct http_head *h, enum head_name id) {
    return (h->seen >> id) & 1;
}
/* First field with this id, or NULL. */
const struct head_field *head_find(const struct http_head *h, enum head_name id);
/* Its value; p NULL when absent. */
struct slice head_get(const struct http_head *h, enum head_name id);
/* First field of any name (case does not matter); p NULL when absent. */
struct slice head_get_name(const struct http_head *h, struct slice name);
/* Appends a field. The text is borrowed: it must live as long as the arena. 0, WEIR_ENOMEM, or
   WEIR_EHEADTOOBIG over 256 fields or a name/value longer than the types hold. */
int head_add(struct http_head *h, struct arena *a, enum head_name id, struct slice value);
/* The same by name, which must be lower case; looks up the id. */
int head_add_name(struct http_head *h, struct arena *a, struct slice name, struct slice value);
/* Takes out every field with this id. */
void head_remove(struct http_head *h, enum head_name id);
/* Takes out what must not pass on: hop-by-hop fields and what Connection names. */
void head_strip_hop_by_hop(struct http_head *h);
/* Takes out all weir-* fields but keep (HEAD_NAME_COUNT: none is kept). */
void head_strip_weir(struct http_head *h, enum head_name keep);

/* Methods of RFC 9110 9.2.2: GET HEAD OPTIONS TRACE PUT DELETE. */
bool method_idempotent(struct slice method);
/* Reason phrase of a status; "" when unknown. */
const char *status_text(unsigned status);
/* A token of RFC 9110 5.6.2; not empty. */
bool text_is_token(struct slice s);
/* A field value of RFC 9110 5.5: no control characters but tab; may be empty. */
bool text_is_field_value(struct slice s);
/* A request target in origin-form: "/", then no spaces, control characters, '#' or bytes over 0x7e. */
bool text_is_target(struct slice s);
/* The first control character but tab between p and end; end when there is none. */
const char *text_find_control(const char *p, const char *end);
/* What the byte c is in a token, in lower case; 0 when a token cannot hold it. */
extern const unsigned char text_token_lower[256];
/* A service's name: 1 to 255 bytes of [A-Za-z0-9._~-] . */
bool text_is_service(struct slice s);
/* "a,b": the services that one worker offers, 1 to 64. */
bool text_is_services(struct slice list);

#endif
