/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Topics over HTTP: /T to publish, /T/S to subscribe, read and leave, /T/S/ID to acknowledge. Each request is
 * a call or a reader of the engine (durable/topics.h) until it is answered, or its client has left.
 */
#include "edge/topics_api.h"
#include "base/clock.h"
#include "base/utf8.h"
#include "weir/weir.h"
#include "wire/target.h"
#include <stdlib.h>

#define MOST_WAIT_MS (UINT64_C(3600) * 1000)
#define MOST_LEASE_MS (UINT64_C(30) * 24 * 3600 * 1000)
enum { RELAY_WINDOW = 64 * 1024, FIELDS = 5 };

void topics_refuse(struct ask *a, int err, const char *absent) {
    const char *detail = NULL;
    unsigned retry_s = 0;
    if (err == WEIR_ENOTFOUND) detail = absent;
    if (err == WEIR_ENOSPACE)
        detail = "the store is full, or there are as many subscriptions as max-subscriptions allows";
    if (err == WEIR_ETOOBIG) detail = "the message is over max-message";
    if (err == WEIR_EUNAVAILABLE || err == WEIR_ENOMEM || err == WEIR_EDRAINING) retry_s = 1;
    reply_problem(a, err, 0, detail, retry_s, false);
}

static const char no_subscription[] = "no such subscription";

/* ---- subscribing, leaving, acknowledging ---- */

struct simple {
    struct api_call call;
    struct topics_call topics;
    struct ask *ask;
    const char *absent;
};

static void on_simple_left(struct api_call *call) {
    struct simple *s = CONTAINER_OF(call, struct simple, call);
    topics_call_leave(&s->topics);
    free(s);
}

static void on_simple_done(struct topics_call *c, int err) {
    struct simple *s = CONTAINER_OF(c, struct simple, topics);
    struct ask *a = s->ask;
    const char *absent = s->absent;
    a->call = NULL;
    free(s);
    if (err != 0)
        topics_refuse(a, err, absent);
    else
        reply_own(a, 200, NULL, NULL, 0, (struct slice){0});
}

static struct topics_call *simple_new(struct ask *a, const char *absent) {
    struct simple *s = calloc(1, sizeof *s);
    int err = s ? api_ignore_body(a) : WEIR_ENOMEM;
    if (err != 0) {
        free(s);
        topics_refuse(a, err, NULL);
        return NULL;
    }
    s->call.left = on_simple_left;
    s->topics.done = on_simple_done;
    s->ask = a;
    s->absent = absent;
    a->call = &s->call;
    return &s->topics;
}

static void subscribe(struct ask *a, struct slice topic, struct slice name) {
    struct topics_call *c = simple_new(a, no_subscription);
    if (c) topics_subscribe(topics_of(a), topic, name, c);
}

static void unsubscribe(struct ask *a, struct slice topic, struct slice name) {
    struct topics_call *c = simple_new(a, no_subscription);
    if (c) topics_unsubscribe(topics_of(a), topic, name, c);
}

static void acknowledge(struct ask *a, struct slice topic, struct slice name, struct slice id,
                        struct slice query) {
    struct slice up_to = query_raw(query, SLICE("up-to"));
    uint64_t number;
    if (!slice_u64(id, &number) || number == 0 || number > INT64_MAX) {
        topics_refuse(a, WEIR_ENOTFOUND, "no such message");
    } else if (up_to.p && !slice_eq(up_to, SLICE("true")) && !slice_eq(up_to, SLICE("false"))) {
        reply_problem(a, WEIR_EINVAL, 0, "up-to must be true or false", 0, false);
    } else {
        struct topics_call *c = simple_new(a, "no such message, or it has been acknowledged");
        if (c) topics_acknowledge(topics_of(a), topic, name, number, slice_eq(up_to, SLICE("true")), c);
    }
}

/* ---- publishing ---- */

struct publication {
    struct api_call call;
    struct topics_call topics;
    struct ask *ask;
    struct slice topic;
    struct intake *intake;
};

static void on_publication_left(struct api_call *call) {
    struct publication *p = CONTAINER_OF(call, struct publication, call);
    topics_call_leave(&p->topics);
    intake_free(&p->intake);
    free(p);
}

static void publication_end(struct publication *p, int err) {
    struct ask *a = p->ask;
    a->call = NULL;
    intake_free(&p->intake);
    free(p);
    if (err != 0)
        topics_refuse(a, err, NULL);
    else
        reply_own(a, 200, NULL, NULL, 0, (struct slice){0});
}

static void on_published(struct topics_call *c, int err) {
    publication_end(CONTAINER_OF(c, struct publication, topics), err);
}

static void on_taken_in(void *ctx, int err) {
    struct publication *p = ctx;
    if (err != 0)
        topics_call_later(topics_of(p->ask), &p->topics, err);
    else
        topics_publish(topics_of(p->ask), p->topic, head_get(&p->ask->message->head, HEAD_CONTENT_TYPE),
                       &p->intake, &p->topics);
}

static void publish(struct ask *a, struct slice topic) {
    struct publication *p = calloc(1, sizeof *p);
    int err = p ? ask_add_body(a) : WEIR_ENOMEM;
    if (err != 0) {
        free(p);
        topics_refuse(a, err, NULL);
        return;
    }
    p->call.left = on_publication_left;
    p->topics.done = on_published;
    p->ask = a;
    p->topic = topic;
    a->call = &p->call;
    /* Until then it may be refused unread. */
    a->requester.ops->taken(&a->requester);
    ask_read_body(a);
    err = topics_take_in(topics_of(a), a->message->body, on_taken_in, p, &p->intake);
    if (err != 0) publication_end(p, err);
}

static void publish_if_small(struct ask *a, struct slice topic) {
    const struct http_head *head = &a->message->head;
    if (head->has_length && head->content_length > topics_max_message(topics_of(a)))
        topics_refuse(a, WEIR_ETOOBIG, NULL);
    else
        publish(a, topic);
}

/* ---- reading one message ---- */

struct poll {
    struct api_call call;
    struct topics_reader reader;
    struct ask *ask;
    /* A body that is relayed until it is acknowledged: its last byte waits for that. */
    struct body *from, *to;
    uint64_t left;
    bool asked, confirmed;
};

static struct poll *poll_of(struct topics_reader *r) {
    return CONTAINER_OF(r, struct poll, reader);
}

static void poll_free(struct poll *p) {
    body_leave(&p->from);
    if (p->to) {
        body_producer(p->to, (struct body_side){0});
        body_unref(p->to);
    }
    free(p);
}

static void on_poll_left(struct api_call *call) {
    struct poll *p = CONTAINER_OF(call, struct poll, call);
    topics_reader_leave(&p->reader);
    poll_free(p);
}

/* Nothing more is to be done for the request, which goes on by itself. */
static void poll_end(struct poll *p) {
    p->ask->call = NULL;
    poll_free(p);
}

struct texts {
    char id[SLICE_U64], at[CLOCK_TEXT], delivery[SLICE_U64];
};

static size_t message_fields(struct reply_field fields[FIELDS], struct texts *texts,
                             const struct topics_message *m, bool acknowledges) {
    size_t n = 0;
    if (m->type.n) fields[n++] = (struct reply_field){SLICE("content-type"), m->type};
    fields[n++] = (struct reply_field){SLICE("cache-control"), SLICE("no-store")};
    fields[n++] = (struct reply_field){SLICE("weir-message"), slice_from_u64(texts->id, m->id)};
    fields[n++] = (struct reply_field){SLICE("weir-published"), clock_text(texts->at, m->at)};
    if (acknowledges)
        fields[n++] =
            (struct reply_field){SLICE("weir-delivery"), slice_from_u64(texts->delivery, m->delivery)};
    return n;
}

/* Begins a response of known length with that body. 0 or WEIR_ENOMEM: nothing has been sent. */
static int reply_stream(struct ask *a, const struct topics_message *m, bool acknowledges, struct body *body) {
    struct reply_field fields[FIELDS];
    struct texts texts;
    char size[SLICE_U64];
    struct arena *arena = &a->message->arena;
    struct http_head head = {.status = 200, .has_length = true, .content_length = m->body.size};
    size_t n = message_fields(fields, &texts, m, acknowledges);
    int err = head_add(&head, arena, HEAD_CONTENT_LENGTH, slice_from_u64(size, m->body.size));
    for (size_t i = 0; i < n && err == 0; i++)
        err = head_add_name(&head, arena, fields[i].name, fields[i].value);
    if (err == 0) a->requester.ops->reply(&a->requester, &head, body);
    return err;
}

static void relay(struct poll *p) {
    struct slice s;
    size_t room;
    while ((s = body_peek(p->from)).n > 0 && (room = body_room(p->to)) > 0) {
        size_t n = s.n < room ? s.n : room;
        if (n == p->left && !p->confirmed) n--;
        if (n == 0) break;
        if (body_write(p->to, s.p, n) == WEIR_ENOMEM) {
            body_abort(p->to, WEIR_ENOMEM);
            return;
        }
        p->left -= n;
        body_consume(p->from, n);
    }
    if (body_error(p->from)) {
        body_abort(p->to, WEIR_EIO);
    } else if (p->left == 0) {
        struct body *to = body_ref(p->to);
        poll_end(p);
        body_end(to);
        body_unref(to);
    } else if (p->left == 1 && !p->asked && body_queued(p->to) == 0) {
        p->asked = true;
        topics_confirm(&p->reader);
    }
}

static void on_relay(void *ctx, size_t n) {
    (void)n;
    relay(ctx);
}

static void on_confirmed(struct topics_reader *r, int err) {
    struct poll *p = poll_of(r);
    p->confirmed = err == 0;
    if (err == 0)
        relay(p);
    else
        body_abort(p->to, WEIR_EIO); /* the message stays, and this client must not take it for whole */
}

/* A blob: as a stream. */
static int give_blob(struct poll *p, const struct topics_message *m) {
    struct ask *a = p->ask;
    int err = topics_let_out(topics_of(a), &m->body, &p->from);
    if (err != 0) return err;
    if (p->reader.acknowledges) {
        err = reply_stream(a, m, true, p->from);
        if (err != 0) return err;
        body_unref(p->from); /* the request has its own reference */
        p->from = NULL;
        poll_end(p);
        return 0;
    }
    p->left = m->body.size;
    p->to = body_new(RELAY_WINDOW, 0);
    err = p->to ? reply_stream(a, m, false, p->to) : WEIR_ENOMEM;
    if (err != 0) return err;
    body_producer(p->to, (struct body_side){on_relay, p});
    body_consumer(p->from, (struct body_side){on_relay, p});
    relay(p);
    return 0;
}

static bool on_give(struct topics_reader *r, const struct topics_message *m) {
    struct poll *p = poll_of(r);
    struct ask *a = p->ask;
    if (m->body.blob) {
        int err = give_blob(p, m);
        if (err == 0) return true;
        topics_reader_leave(r);
        poll_end(p);
        topics_refuse(a, err, NULL);
        return true;
    }
    struct reply_field fields[FIELDS];
    struct texts texts;
    size_t n = message_fields(fields, &texts, m, r->acknowledges);
    poll_end(p);
    reply_own(a, 200, NULL, fields, n, m->body.bytes);
    return true;
}

static void on_over(struct topics_reader *r, int err) {
    struct poll *p = poll_of(r);
    struct ask *a = p->ask;
    poll_end(p);
    if (err != 0)
        topics_refuse(a, err, no_subscription);
    else
        reply_own(a, 204, NULL, &(struct reply_field){SLICE("cache-control"), SLICE("no-store")}, 1,
                  (struct slice){0});
}

static const struct topics_reader_ops poll_ops = {
    .give = on_give, .over = on_over, .confirmed = on_confirmed};

static void read_one(struct ask *a, const struct topics_get *get) {
    struct poll *p = calloc(1, sizeof *p);
    int err = p ? api_ignore_body(a) : WEIR_ENOMEM;
    if (err != 0) {
        free(p);
        topics_refuse(a, err, NULL);
        return;
    }
    p->call.left = on_poll_left;
    p->ask = a;
    p->reader.ops = &poll_ops;
    p->reader.topic = get->topic;
    p->reader.name = get->name;
    p->reader.acknowledges = get->acknowledges;
    p->reader.wait_ms = get->wait_ms;
    p->reader.lease_ms = get->lease_ms;
    a->call = &p->call;
    topics_read(topics_of(a), &p->reader);
}

/* ---- what a GET asks for ---- */

static bool accepts_events(const struct http_head *head) {
    struct slice rest = head_get_name(head, SLICE("accept"));
    while (rest.p) {
        struct slice range = slice_next(&rest, ',');
        if (slice_eq_nocase(slice_next(&range, ';'), SLICE("text/event-stream"))) return true;
    }
    return false;
}

/* Last-Event-ID, of the header or the query. False: it is no id. */
static bool read_resume(struct ask *a, struct slice query, struct topics_get *get) {
    struct slice given = head_get_name(&a->message->head, SLICE("last-event-id"));
    if (!given.n) given = query_raw(query, SLICE("last-event-id"));
    if (!given.n) return true;
    get->resumes = true;
    return slice_u64(given, &get->after) && get->after <= INT64_MAX;
}

/* NULL, or what is wrong. */
static const char *read_query(struct ask *a, struct slice query, struct topics_get *get) {
    struct slice ack = query_raw(query, SLICE("ack")), wait = query_raw(query, SLICE("wait")),
                 time = query_raw(query, SLICE("ack-time"));
    if (ack.p && !slice_eq(ack, SLICE("explicit")) && !slice_eq(ack, SLICE("auto")))
        return "ack must be explicit or auto";
    get->acknowledges = slice_eq(ack, SLICE("explicit"));
    if (wait.p && !slice_duration_ms(wait, &get->wait_ms)) return "wait must be a duration such as 30s";
    if (get->wait_ms > MOST_WAIT_MS) get->wait_ms = MOST_WAIT_MS;
    if (time.p &&
        (!slice_duration_ms(time, &get->lease_ms) || !get->lease_ms || get->lease_ms > MOST_LEASE_MS))
        return "ack-time must be a duration such as 30s, at most 30d";
    get->stream = accepts_events(&a->message->head);
    if (get->stream && !read_resume(a, query, get)) return "Last-Event-ID must be the id of a message";
    return NULL;
}

static void read_messages(struct ask *a, struct slice topic, struct slice name, struct slice query) {
    struct topics_get get = {.topic = topic, .name = name};
    const char *wrong = read_query(a, query, &get);
    if (wrong) {
        reply_problem(a, WEIR_EINVAL, 0, wrong, 0, false);
    } else if (get.stream) {
        int err = api_ignore_body(a);
        if (err != 0)
            topics_refuse(a, err, NULL);
        else
            topics_stream(a, &get);
    } else {
        read_one(a, &get);
    }
}

/* ---- paths ---- */

/* 1 to 255 bytes of UTF-8 without control characters. */
static bool is_name(struct slice s) {
    if (s.n == 0 || s.n > STORE_NAME) return false;
    while (s.n > 0) {
        int32_t c = utf8_next(&s);
        if (c < 0x20 || (c >= 0x7f && c < 0xa0)) return false;
    }
    return true;
}

/* The path's segments, decoded: how many there are, up to 4, or -1 when one is no name. */
static int split(struct slice rest, struct arena *arena, struct slice names[3]) {
    int n = 0;
    (void)slice_next(&rest, '/'); /* the path begins with one, or is empty */
    for (; rest.p; n++) {
        struct slice segment = slice_next(&rest, '/');
        if (n == 3) return 4;
        char *text = arena_bytes(arena, segment.n + 1);
        ptrdiff_t size = text ? slice_percent_decode(segment, false, text) : -1;
        names[n] = (struct slice){text, size < 0 ? 0 : (size_t)size};
        if (!is_name(names[n])) return -1;
    }
    return n;
}

enum method { GET, POST, DELETE, OTHER };

static enum method method_of(const struct ask *a) {
    struct slice m = a->message->head.method;
    return slice_eq(m, SLICE("GET"))      ? GET
           : slice_eq(m, SLICE("POST"))   ? POST
           : slice_eq(m, SLICE("DELETE")) ? DELETE
                                          : OTHER;
}

static void serve_subscription(struct ask *a, struct slice topic, struct slice name, struct slice query) {
    switch (method_of(a)) {
    case GET:
        read_messages(a, topic, name, query);
        break;
    case POST:
        subscribe(a, topic, name);
        break;
    case DELETE:
        unsubscribe(a, topic, name);
        break;
    case OTHER:
        reply_not_allowed(a, SLICE("GET, POST, DELETE"));
        break;
    }
}

void topics_api_serve(struct ask *a, struct slice rest, struct slice query, struct slice tenant) {
    (void)tenant; /* topics are everybody's */
    struct slice names[3];
    bool root = rest.n == 0 || slice_eq(rest, SLICE("/"));
    int n = root ? 0 : split(rest, &a->message->arena, names);
    enum method method = method_of(a);
    if (n < 0)
        reply_problem(
            a, WEIR_EINVAL, 0,
            "names of topics and subscriptions are 1 to 255 bytes of UTF-8 without control characters", 0,
            false);
    else if (n == 2)
        serve_subscription(a, names[0], names[1], query);
    else if (n == 1 && method == POST)
        publish_if_small(a, names[0]);
    else if (n == 3 && method == DELETE)
        acknowledge(a, names[0], names[1], names[2], query);
    else if (method == OTHER && (n == 1 || n == 3))
        reply_not_allowed(a, n == 1 ? SLICE("POST") : SLICE("DELETE"));
    else
        topics_refuse(a, WEIR_ENOTFOUND, "topics are at /TOPIC, subscriptions at /TOPIC/SUBSCRIPTION");
}
