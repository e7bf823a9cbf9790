/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Message heads: the names that weir knows, lists of fields, and the character rules of RFC 9110.
 * Pure functions on the caller's memory; any thread.
 */
#include "wire/head.h"
#include "weir/weir.h"

_Static_assert(HEAD_NAME_COUNT <= 64, "http_head.seen has a bit per name");

enum { FIELDS_FIRST = 16, FIELDS_MOST = 256 };

static const struct {
    const char *text;
    unsigned char size;
    bool hop_by_hop;
} names[HEAD_NAME_COUNT] = {
#define HEAD_NAME_ROW(id, name, hop) [HEAD_##id] = {name, sizeof(name) - 1, hop},
    HEAD_NAMES(HEAD_NAME_ROW)
#undef HEAD_NAME_ROW
};

/* A perfect hash of the known names by their size and first, middle and last letter. When a new name
   meets an old one's slot the compiler says so (-Woverride-init): look for other factors then. */
#define SLOT(size, first, middle, last) (((size)*119u + (first)*114u + (middle)*47u + (last)*27u) & 127)
static const unsigned char name_slots[128] = {
    [SLOT(4, 'h', 's', 't')] = HEAD_HOST,
    [SLOT(14, 'c', '-', 'h')] = HEAD_CONTENT_LENGTH,
    [SLOT(12, 'c', 't', 'e')] = HEAD_CONTENT_TYPE,
    [SLOT(16, 'c', 'e', 'g')] = HEAD_CONTENT_ENCODING,
    [SLOT(16, 'c', 'l', 'e')] = HEAD_CONTENT_LANGUAGE,
    [SLOT(16, 'c', 'l', 'n')] = HEAD_CONTENT_LOCATION,
    [SLOT(13, 'c', 't', 'e')] = HEAD_CONTENT_RANGE,
    [SLOT(17, 't', '-', 'g')] = HEAD_TRANSFER_ENCODING,
    [SLOT(10, 'c', 'c', 'n')] = HEAD_CONNECTION,
    [SLOT(10, 'k', 'a', 'e')] = HEAD_KEEP_ALIVE,
    [SLOT(16, 'p', 'n', 'n')] = HEAD_PROXY_CONNECTION,
    [SLOT(2, 't', 'e', 'e')] = HEAD_TE,
    [SLOT(7, 't', 'i', 'r')] = HEAD_TRAILER,
    [SLOT(7, 'u', 'r', 'e')] = HEAD_UPGRADE,
    [SLOT(6, 'e', 'e', 't')] = HEAD_EXPECT,
    [SLOT(4, 'd', 't', 'e')] = HEAD_DATE,
    [SLOT(6, 's', 'v', 'r')] = HEAD_SERVER,
    [SLOT(6, 'o', 'g', 'n')] = HEAD_ORIGIN,
    [SLOT(5, 'a', 'l', 'w')] = HEAD_ALLOW,
    [SLOT(13, 'a', 'i', 'n')] = HEAD_AUTHORIZATION,
    [SLOT(4, 'a', 'p', 'n')] = HEAD_ALPN,
    [SLOT(11, 'r', '-', 'r')] = HEAD_RETRY_AFTER,
    [SLOT(10, 'u', 'a', 't')] = HEAD_USER_AGENT,
    [SLOT(7, 'r', 'e', 'r')] = HEAD_REFERER,
    [SLOT(9, 'f', 'a', 'd')] = HEAD_FORWARDED,
    [SLOT(15, 'x', 'r', 'r')] = HEAD_X_FORWARDED_FOR,
    [SLOT(17, 'x', 'd', 'o')] = HEAD_X_FORWARDED_PROTO,
    [SLOT(16, 'x', 'd', 't')] = HEAD_X_FORWARDED_HOST,
    [SLOT(12, 'x', 'e', 'd')] = HEAD_X_REQUEST_ID,
    [SLOT(11, 't', 'p', 't')] = HEAD_TRACEPARENT,
    [SLOT(15, 'i', 'e', 'y')] = HEAD_IDEMPOTENCY_KEY,
    [SLOT(6, 'p', 'f', 'r')] = HEAD_PREFER,
    [SLOT(29, 'a', '-', 'd')] = HEAD_ACR_METHOD,
    [SLOT(30, 'a', 'r', 's')] = HEAD_ACR_HEADERS,
    [SLOT(8, 'w', '-', 'b')] = HEAD_WEIR_JOB,
    [SLOT(12, 'w', 'e', 'e')] = HEAD_WEIR_SERVICE,
    [SLOT(8, 'w', '-', 'p')] = HEAD_WEIR_HOP,
    [SLOT(12, 'w', 't', 't')] = HEAD_WEIR_ATTEMPT,
    [SLOT(16, 'w', 'd', 's')] = HEAD_WEIR_DEADLINE_MS,
    [SLOT(20, 'w', 'n', 'd')] = HEAD_WEIR_ORIGINAL_METHOD,
    [SLOT(12, 'w', 'o', 'd')] = HEAD_WEIR_FORWARD,
    [SLOT(12, 'w', 'c', 'r')] = HEAD_WEIR_SCATTER,
    [SLOT(10, 'w', 's', 's')] = HEAD_WEIR_SLOTS,
    [SLOT(11, 'w', 'l', 's')] = HEAD_WEIR_LABELS,
    [SLOT(11, 'w', 'w', 'r')] = HEAD_WEIR_WORKER,
    [SLOT(12, 'w', 'i', 't')] = HEAD_WEIR_TIMEOUT,
    [SLOT(13, 'w', 'r', 'y')] = HEAD_WEIR_PRIORITY,
    [SLOT(8, 'w', '-', 'y')] = HEAD_WEIR_KEY,
    [SLOT(9, 'w', '-', 't')] = HEAD_WEIR_COST,
    [SLOT(13, 'w', 'r', 's')] = HEAD_WEIR_PROGRESS,
    [SLOT(10, 'w', 'd', 'y')] = HEAD_WEIR_DELAY,
    [SLOT(13, 'w', 'a', 'k')] = HEAD_WEIR_CALLBACK,
    [SLOT(12, 'w', 'u', 'e')] = HEAD_WEIR_DURABLE,
};

enum head_name head_name_id(struct slice name) {
    if (name.n == 0 || name.n > UINT8_MAX) return HEAD_OTHER;
    const unsigned char *p = (const unsigned char *)name.p;
    unsigned id = name_slots[SLOT((unsigned)name.n, p[0], p[name.n / 2], p[name.n - 1])];
    if (names[id].size != name.n || memcmp(names[id].text, p, name.n) != 0) return HEAD_OTHER;
    return (enum head_name)id;
}

struct slice head_name_text(enum head_name id) {
    return (struct slice){names[id].text, names[id].size};
}

bool head_name_hop_by_hop(enum head_name id) {
    return names[id].hop_by_hop;
}

bool head_name_is_weir(struct slice name) {
    return name.n >= 5 && memcmp(name.p, "weir-", 5) == 0;
}

const struct head_field *head_find(const struct http_head *h, enum head_name id) {
    if (!head_has(h, id)) return NULL;
    for (unsigned i = 0; i < h->count; i++)
        if (h->fields[i].id == id) return &h->fields[i];
    return NULL;
}

struct slice head_get(const struct http_head *h, enum head_name id) {
    const struct head_field *f = head_find(h, id);
    return f ? field_value(f) : (struct slice){0};
}

struct slice head_get_name(const struct http_head *h, struct slice name) {
    for (unsigned i = 0; i < h->count; i++)
        if (slice_eq_nocase(field_name(&h->fields[i]), name)) return field_value(&h->fields[i]);
    return (struct slice){0};
}

/* The old array stays in the arena until it goes: twice the room at most. */
static int grow(struct http_head *h, struct arena *a) {
    if (h->count >= FIELDS_MOST) return WEIR_EHEADTOOBIG;
    unsigned room = h->room ? h->room * 2 : FIELDS_FIRST;
    if (room > FIELDS_MOST) room = FIELDS_MOST;
    struct head_field *fields = arena_alloc(a, room * sizeof *fields);
    if (!fields) return WEIR_ENOMEM;
    if (h->count) memcpy(fields, h->fields, h->count * sizeof *fields);
    h->fields = fields;
    h->room = room;
    return 0;
}

static int add(struct http_head *h, struct arena *a, enum head_name id, struct slice name,
               struct slice value) {
    if (name.n > UINT16_MAX || value.n > UINT32_MAX) return WEIR_EHEADTOOBIG;
    if (h->count == h->room) {
        int r = grow(h, a);
        if (r) return r;
    }
    h->fields[h->count++] = (struct head_field){
        .name = name.p,
        .value = value.p,
        .value_size = (uint32_t)value.n,
        .name_size = (uint16_t)name.n,
        .id = (uint8_t)id,
    };
    h->seen |= (uint64_t)1 << id;
    return 0;
}

int head_add(struct http_head *h, struct arena *a, enum head_name id, struct slice value) {
    return add(h, a, id, head_name_text(id), value);
}

int head_add_name(struct http_head *h, struct arena *a, struct slice name, struct slice value) {
    return add(h, a, head_name_id(name), name, value);
}

/* Keeps the fields for which keep says so, in order. */
typedef bool keep_fn(const struct head_field *f, const void *arg);
static void filter(struct http_head *h, keep_fn *keep, const void *arg) {
    unsigned kept = 0;
    h->seen = 0;
    for (unsigned i = 0; i < h->count; i++) {
        if (!keep(&h->fields[i], arg)) continue;
        h->seen |= (uint64_t)1 << h->fields[i].id;
        h->fields[kept++] = h->fields[i];
    }
    h->count = kept;
}

static bool id_differs(const struct head_field *f, const void *arg) {
    return f->id != *(const enum head_name *)arg;
}

void head_remove(struct http_head *h, enum head_name id) {
    if (head_has(h, id)) filter(h, id_differs, &id);
}

/* Framing and routing do not depend on a hop: no Connection option may take them out (RFC 9110
   7.6.1 forbids to name fields that are for all recipients). */
static bool connection_may_name(const struct head_field *f) {
    return f->id != HEAD_HOST && f->id != HEAD_CONTENT_LENGTH;
}

static bool named_by_connection(const struct http_head *h, const struct head_field *f) {
    for (unsigned i = 0; i < h->count; i++) {
        if (h->fields[i].id != HEAD_CONNECTION) continue;
        struct slice rest = field_value(&h->fields[i]);
        while (rest.p)
            if (slice_eq_nocase(slice_next(&rest, ','), field_name(f))) return connection_may_name(f);
    }
    return false;
}

/* Connection itself is kept here: filter must find it to the end. */
static bool not_named_by_connection(const struct head_field *f, const void *head) {
    return f->id == HEAD_CONNECTION || !named_by_connection(head, f);
}

static bool end_to_end(const struct head_field *f, const void *arg) {
    (void)arg;
    return !names[f->id].hop_by_hop;
}

void head_strip_hop_by_hop(struct http_head *h) {
    static const uint64_t hop_by_hop =
#define HEAD_NAME_HOP(id, name, hop) (uint64_t)(hop) << HEAD_##id |
        HEAD_NAMES(HEAD_NAME_HOP) 0;
#undef HEAD_NAME_HOP
    if (!(h->seen & hop_by_hop)) return;
    if (head_has(h, HEAD_CONNECTION)) filter(h, not_named_by_connection, h);
    filter(h, end_to_end, NULL);
}

static bool not_weir(const struct head_field *f, const void *arg) {
    return !head_name_is_weir(field_name(f)) || f->id == *(const enum head_name *)arg;
}

void head_strip_weir(struct http_head *h, enum head_name keep) {
    filter(h, not_weir, &keep);
}

bool method_idempotent(struct slice method) {
    static const struct slice idempotent[] = {
        {"GET", 3}, {"HEAD", 4}, {"OPTIONS", 7}, {"TRACE", 5}, {"PUT", 3}, {"DELETE", 6},
    };
    for (size_t i = 0; i < sizeof idempotent / sizeof idempotent[0]; i++)
        if (slice_eq(method, idempotent[i])) return true;
    return false;
}

#define STATUSES(X)                                                                                          \
    X(100, "Continue")                                                                                       \
    X(101, "Switching Protocols")                                                                            \
    X(102, "Processing")                                                                                     \
    X(200, "OK")                                                                                             \
    X(201, "Created")                                                                                        \
    X(202, "Accepted")                                                                                       \
    X(203, "Non-Authoritative Information")                                                                  \
    X(204, "No Content")                                                                                     \
    X(205, "Reset Content")                                                                                  \
    X(206, "Partial Content")                                                                                \
    X(300, "Multiple Choices")                                                                               \
    X(301, "Moved Permanently")                                                                              \
    X(302, "Found")                                                                                          \
    X(303, "See Other")                                                                                      \
    X(304, "Not Modified")                                                                                   \
    X(305, "Use Proxy")                                                                                      \
    X(307, "Temporary Redirect")                                                                             \
    X(308, "Permanent Redirect")                                                                             \
    X(400, "Bad Request")                                                                                    \
    X(401, "Unauthorized")                                                                                   \
    X(402, "Payment Required")                                                                               \
    X(403, "Forbidden")                                                                                      \
    X(404, "Not Found")                                                                                      \
    X(405, "Method Not Allowed")                                                                             \
    X(406, "Not Acceptable")                                                                                 \
    X(407, "Proxy Authentication Required")                                                                  \
    X(408, "Request Timeout")                                                                                \
    X(409, "Conflict")                                                                                       \
    X(410, "Gone")                                                                                           \
    X(411, "Length Required")                                                                                \
    X(412, "Precondition Failed")                                                                            \
    X(413, "Content Too Large")                                                                              \
    X(414, "URI Too Long")                                                                                   \
    X(415, "Unsupported Media Type")                                                                         \
    X(416, "Range Not Satisfiable")                                                                          \
    X(417, "Expectation Failed")                                                                             \
    X(421, "Misdirected Request")                                                                            \
    X(422, "Unprocessable Content")                                                                          \
    X(425, "Too Early")                                                                                      \
    X(426, "Upgrade Required")                                                                               \
    X(429, "Too Many Requests")                                                                              \
    X(431, "Request Header Fields Too Large")                                                                \
    X(500, "Internal Server Error")                                                                          \
    X(501, "Not Implemented")                                                                                \
    X(502, "Bad Gateway")                                                                                    \
    X(503, "Service Unavailable")                                                                            \
    X(504, "Gateway Timeout")                                                                                \
    X(505, "HTTP Version Not Supported")                                                                     \
    X(507, "Insufficient Storage")                                                                           \
    X(508, "Loop Detected")                                                                                  \
    X(511, "Network Authentication Required")

const char *status_text(unsigned status) {
    switch (status) {
#define STATUS_CASE(code, text)                                                                              \
    case code:                                                                                               \
        return text;
        STATUSES(STATUS_CASE)
#undef STATUS_CASE
    default:
        return "";
    }
}

#define SAME(c) [c] = (c)
#define LOWER(c) [c] = (c), [(c) - 'a' + 'A'] = (c)
const unsigned char text_token_lower[256] = {
    SAME('!'),  SAME('#'),  SAME('$'),  SAME('%'),  SAME('&'),  SAME('\''), SAME('*'),  SAME('+'),
    SAME('-'),  SAME('.'),  SAME('^'),  SAME('_'),  SAME('`'),  SAME('|'),  SAME('~'),  SAME('0'),
    SAME('1'),  SAME('2'),  SAME('3'),  SAME('4'),  SAME('5'),  SAME('6'),  SAME('7'),  SAME('8'),
    SAME('9'),  LOWER('a'), LOWER('b'), LOWER('c'), LOWER('d'), LOWER('e'), LOWER('f'), LOWER('g'),
    LOWER('h'), LOWER('i'), LOWER('j'), LOWER('k'), LOWER('l'), LOWER('m'), LOWER('n'), LOWER('o'),
    LOWER('p'), LOWER('q'), LOWER('r'), LOWER('s'), LOWER('t'), LOWER('u'), LOWER('v'), LOWER('w'),
    LOWER('x'), LOWER('y'), LOWER('z'),
};

bool text_is_token(struct slice s) {
    for (size_t i = 0; i < s.n; i++)
        if (!text_token_lower[(unsigned char)s.p[i]]) return false;
    return s.n > 0;
}

static inline bool is_control(unsigned char c) {
    return (c < 0x20 && c != '\t') || c == 0x7f;
}

/* Eight bytes at a time (Bit Twiddling Hacks, "determine if a word has a byte less than n"); a word
   that has a control character or a tab is then looked at byte by byte. */
const char *text_find_control(const char *p, const char *end) {
    static const uint64_t ones = UINT64_MAX / 0xff, highs = UINT64_MAX / 0xff * 0x80;
    while (p < end) {
        uint64_t word;
        while ((size_t)(end - p) >= sizeof word) {
            memcpy(&word, p, sizeof word);
            uint64_t below = (word - ones * 0x20) & ~word;
            uint64_t delete = word ^ (ones * 0x7f);
            delete = (delete - ones) & ~delete;
            if ((below | delete) & highs) break;
            p += sizeof word;
        }
        const char *stop = (size_t)(end - p) < sizeof word ? end : p + sizeof word;
        for (; p < stop; p++)
            if (is_control((unsigned char)*p)) return p;
    }
    return end;
}

bool text_is_field_value(struct slice s) {
    return s.n == 0 || text_find_control(s.p, s.p + s.n) == s.p + s.n;
}

bool text_is_target(struct slice s) {
    if (s.n == 0 || s.p[0] != '/') return false;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c <= ' ' || c >= 0x7f || c == '#') return false;
    }
    return true;
}

bool text_is_service(struct slice s) {
    for (size_t i = 0; i < s.n; i++) {
        unsigned char lower = text_token_lower[(unsigned char)s.p[i]];
        bool alnum = (lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9');
        if (!alnum && (lower == 0 || !strchr("._~-", lower))) return false;
    }
    return s.n > 0 && s.n <= 255;
}

bool text_is_services(struct slice list) {
    enum { MOST = 64 };
    if (!list.p) return false;
    for (unsigned n = 0; list.p; n++)
        if (n == MOST || !text_is_service(slice_next(&list, ','))) return false;
    return true;
}
