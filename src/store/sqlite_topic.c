/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Topics. A topic's messages have the ids 1, 2, 3, ...; a subscription's position is the last one before the
 * first that it has not acknowledged, and what it has acknowledged beyond is in topic_ack. A message goes
 * when every subscription has it: those up to the lowest position (which an index tells), and of the others
 * those that are in topic_ack as often as there are subscriptions before them.
 */
#include "store/sqlite_work.h"

struct reader { /* a subscription and its topic */
    uint64_t id, position, topic, last, subscriptions;
};

static int find_reader(struct work *w, const struct store_op *op, struct reader *ret) {
    struct query q;
    query_begin(&q, &w->db, SQL_SUBSCRIPTION_FIND);
    query_text(&q, op->topic);
    query_text(&q, op->name);
    int r = query_row(&q);
    if (r != 1) return r == 0 ? WEIR_ENOTFOUND : r;
    ret->id = query_get_u64(&q);
    ret->position = query_get_u64(&q);
    ret->topic = query_get_u64(&q);
    ret->last = query_get_u64(&q);
    ret->subscriptions = query_get_u64(&q);
    query_end(&q);
    return 0;
}

/* 1: there is this topic; 0: there is none. */
static int find_topic(struct work *w, const struct store_op *op, struct reader *ret) {
    struct query q;
    query_begin(&q, &w->db, SQL_TOPIC_FIND);
    query_text(&q, op->topic);
    int r = query_row(&q);
    if (r != 1) return r;
    ret->topic = query_get_u64(&q);
    ret->last = query_get_u64(&q);
    ret->subscriptions = query_get_u64(&q);
    query_end(&q);
    return 1;
}

/* ---- dropping ---- */

int work_topic_drop(struct work *w, uint64_t topic, uint64_t from, uint64_t to) {
    struct query q;
    bool any = false;
    int r, err = 0;
    query_begin(&q, &w->db, SQL_MESSAGE_RANGE);
    query_u64(&q, topic);
    query_u64(&q, from);
    query_u64(&q, to);
    while (err == 0 && (r = query_row(&q)) != 0) {
        if (r < 0) return r;
        any = true;
        uint64_t size = query_get_u64(&q), blob = query_get_u64(&q);
        w->counts.messages--;
        w->counts.message_bytes -= size;
        err = work_blob_release(w, blob, size);
    }
    query_end(&q);
    if (err == 0 && any) err = DB_RUN(&w->db, SQL_MESSAGE_DROP, topic, from, to);
    return err == 0 ? DB_RUN(&w->db, SQL_ACK_DROP, topic, from, to) : err;
}

/* Drops it if all that are before it have acknowledged it: acks, including all of the topic's. */
static int drop_if_done(struct work *w, uint64_t topic, uint64_t message, uint64_t acks) {
    struct query q;
    uint64_t behind;
    query_begin(&q, &w->db, SQL_SUBSCRIPTION_BEHIND);
    query_u64(&q, topic);
    query_u64(&q, message);
    query_u64(&q, acks + 1);
    int err = query_number(&q, &behind);
    return err == 0 && behind <= acks ? work_topic_drop(w, topic, message, message) : err;
}

/* Drops what everybody has, after one subscription has got what lies between from and to. */
static int settle(struct work *w, uint64_t topic, uint64_t from, uint64_t to) {
    struct query q;
    uint64_t low;
    query_begin(&q, &w->db, SQL_SUBSCRIPTION_LOW);
    query_u64(&q, topic);
    int err = query_number(&q, &low);
    if (err == 0 && low >= from) err = work_topic_drop(w, topic, 0, low);
    if (low >= from) from = low + 1;
    while (err == 0 && from <= to) {
        query_begin(&q, &w->db, SQL_ACK_NEXT);
        query_u64(&q, topic);
        query_u64(&q, from);
        query_u64(&q, to);
        int r = query_row(&q);
        if (r != 1) return r;
        uint64_t message = query_get_u64(&q), acks = query_get_u64(&q);
        query_end(&q);
        err = drop_if_done(w, topic, message, acks);
        from = message + 1;
    }
    return err;
}

/* ---- acknowledging ---- */

/* The first message after one that the subscription has not acknowledged; 0: none. */
static int next_unread(struct work *w, const struct reader *r, uint64_t after, uint64_t *ret) {
    struct query q;
    query_begin(&q, &w->db, SQL_MESSAGE_NEXT);
    query_u64(&q, r->topic);
    query_u64(&q, after);
    query_u64(&q, r->id);
    return query_number(&q, ret);
}

/* Has it this message yet to read? 1, 0, or an error. */
static int has_unread(struct work *w, const struct reader *r, uint64_t message) {
    struct query q;
    query_begin(&q, &w->db, SQL_MESSAGE_HAS);
    query_u64(&q, r->topic);
    query_u64(&q, message);
    query_u64(&q, r->id);
    int found = query_row(&q);
    if (found == 1) query_end(&q);
    return found;
}

/* All up to a message that is not acknowledged. */
static int acknowledge_up_to(struct work *w, struct reader *r, uint64_t message) {
    uint64_t next, from = r->position + 1;
    int err = next_unread(w, r, message, &next);
    if (err != 0) return err;
    r->position = next ? next - 1 : r->last;
    err = DB_RUN(&w->db, SQL_SUBSCRIPTION_MOVE, r->position, r->id);
    if (err == 0 && from < r->position) err = DB_RUN(&w->db, SQL_ACK_OF, r->topic, r->position, r->id);
    return err == 0 ? settle(w, r->topic, from, r->position) : err;
}

/* One message, that is not acknowledged; first: the first of those. */
static int acknowledge(struct work *w, struct reader *r, uint64_t message, uint64_t first) {
    if (message == first) return acknowledge_up_to(w, r, message);
    int err = DB_RUN(&w->db, SQL_ACK_NEW, r->topic, message, r->id);
    return err == 0 ? settle(w, r->topic, message, message) : err;
}

int work_topic_ack(struct work *w, struct store_op *op) {
    struct reader r;
    uint64_t first, message = op->message_id;
    int err = find_reader(w, op, &r);
    if (err == 0) err = next_unread(w, &r, r.position, &first);
    if (err != 0) return err;
    int has = first && message == first ? 1 : message > r.position ? has_unread(w, &r, message) : 0;
    if (has != 1) return has == 0 ? WEIR_ENOTFOUND : has;
    err = op->up_to ? acknowledge_up_to(w, &r, message) : acknowledge(w, &r, message, first);
    op->position = r.position;
    return err;
}

/* ---- subscriptions ---- */

static int ret_subscription(struct store_op *op, const struct reader *r) {
    struct store_subscription *s = arena_alloc(&op->memory, sizeof *s);
    if (!s) return WEIR_ENOMEM;
    *s = (struct store_subscription){op->topic, op->name, r->position, r->last};
    op->subscriptions = s;
    op->count = 1;
    return 0;
}

static int new_topic(struct work *w, const struct store_op *op, struct reader *r) {
    struct query q;
    query_begin(&q, &w->db, SQL_TOPIC_NEW);
    query_text(&q, op->topic);
    int err = query_run(&q);
    if (err != 0) return err;
    w->counts.topics++;
    int found = find_topic(w, op, r);
    return found == 1 ? 0 : found == 0 ? WEIR_ECORRUPT : found;
}

int work_topic_subscribe(struct work *w, struct store_op *op) {
    struct reader r;
    struct query q;
    int err = find_reader(w, op, &r);
    op->found = err == 0;
    if (err != WEIR_ENOTFOUND) return err == 0 ? ret_subscription(op, &r) : err;
    int found = find_topic(w, op, &r);
    err = found == 1 ? 0 : found == 0 ? new_topic(w, op, &r) : found;
    if (err != 0) return err;
    r.position = r.last;
    query_begin(&q, &w->db, SQL_SUBSCRIPTION_NEW);
    query_u64(&q, r.topic);
    query_text(&q, op->name);
    query_u64(&q, r.position);
    err = query_run(&q);
    if (err == 0) err = DB_RUN(&w->db, SQL_TOPIC_COUNT, 1, r.topic);
    w->counts.subscriptions += err == 0;
    return err == 0 ? ret_subscription(op, &r) : err;
}

int work_topic_unsubscribe(struct work *w, struct store_op *op) {
    struct reader r;
    int err = find_reader(w, op, &r);
    if (err == 0) err = DB_RUN(&w->db, SQL_ACK_OF, r.topic, r.last, r.id);
    if (err == 0) err = DB_RUN(&w->db, SQL_SUBSCRIPTION_DROP, r.id);
    if (err != 0) return err;
    w->counts.subscriptions--;
    if (r.subscriptions > 1) {
        err = DB_RUN(&w->db, SQL_TOPIC_COUNT, (uint64_t)-1, r.topic);
        return err == 0 ? settle(w, r.topic, r.position + 1, r.last) : err;
    }
    w->counts.topics--;
    err = work_topic_drop(w, r.topic, 0, r.last);
    if (err == 0) err = DB_RUN(&w->db, SQL_TOPIC_FLOOR, r.last);
    return err == 0 ? DB_RUN(&w->db, SQL_TOPIC_DROP, r.topic) : err;
}

int work_topic_load(struct work *w, struct store_op *op) {
    struct query q;
    size_t room = 0;
    int r, err = 0;
    query_begin(&q, &w->db, SQL_SUBSCRIPTION_ALL);
    while (err == 0 && (r = query_row(&q)) == 1) {
        struct store_subscription s = {0};
        err = query_get(&q, &op->memory, &s.topic);
        if (err == 0) err = query_get(&q, &op->memory, &s.name);
        s.position = query_get_u64(&q);
        s.last = query_get_u64(&q);
        op->subscriptions = work_list_add(&op->memory, op->subscriptions, op->count, &room, sizeof s);
        if (!op->subscriptions) err = WEIR_ENOMEM;
        if (err == 0) op->subscriptions[op->count++] = s;
    }
    query_end(&q);
    return err != 0 ? err : r;
}

/* ---- messages ---- */

int work_topic_append(struct work *w, struct store_op *op) {
    const struct store_topic_message *m = &op->message;
    struct reader r;
    struct query q;
    uint64_t size;
    int found = find_topic(w, op, &r);
    op->message_id = 0;
    if (found != 1) return found == 0 ? work_body_discard(w, &m->body) : found;
    int err = work_body_take(w, &m->body, 0, &size);
    if (err != 0) return err;
    query_begin(&q, &w->db, SQL_MESSAGE_NEW);
    query_u64(&q, r.topic);
    query_u64(&q, r.last + 1);
    query_time(&q, m->at);
    query_u64(&q, size);
    query_u64(&q, m->body.blob);
    query_text(&q, m->type);
    query_bytes(&q, m->body.blob ? (struct slice){0} : m->body.bytes);
    err = query_run(&q);
    if (err == 0) err = DB_RUN(&w->db, SQL_TOPIC_LAST, r.last + 1, r.topic);
    if (err != 0) return err;
    op->message_id = r.last + 1;
    op->count = (size_t)r.subscriptions;
    w->counts.messages++;
    w->counts.message_bytes += size;
    return 0;
}

static int read_message(struct query *q, struct arena *memory, struct store_topic_message *m) {
    m->id = query_get_u64(q);
    m->at = query_get_u64(q);
    m->body.size = query_get_u64(q);
    m->body.blob = query_get_u64(q);
    int err = query_get(q, memory, &m->type);
    return err == 0 ? query_get(q, memory, &m->body.bytes) : err;
}

static int read_messages(struct work *w, const struct reader *reader, struct store_op *op) {
    uint64_t bytes = 0, after = op->after > reader->position ? op->after : reader->position;
    struct query q;
    size_t room = 0;
    int r, err = 0;
    query_begin(&q, &w->db, SQL_MESSAGE_READ);
    query_u64(&q, reader->topic);
    query_time(&q, after);
    query_u64(&q, reader->id);
    query_time(&q, op->limit);
    while (err == 0 && (r = query_row(&q)) != 0) {
        struct store_topic_message m = {0};
        err = r == 1 ? read_message(&q, &op->memory, &m) : r;
        if (err != 0) break;
        bytes += m.body.bytes.n;
        if (op->count && bytes > op->most_bytes) break;
        op->messages = work_list_add(&op->memory, op->messages, op->count, &room, sizeof m);
        if (!op->messages) err = WEIR_ENOMEM;
        if (err == 0) op->messages[op->count++] = m;
    }
    query_end(&q);
    return err;
}

/* Acknowledges what has been read. */
static int take(struct work *w, struct reader *r, const struct store_op *op) {
    uint64_t first;
    int err = next_unread(w, r, r->position, &first);
    if (err == 0 && first == op->messages[0].id)
        return acknowledge_up_to(w, r, op->messages[op->count - 1].id);
    for (size_t i = 0; err == 0 && i < op->count; i++) err = acknowledge(w, r, op->messages[i].id, first);
    return err;
}

int work_topic_read(struct work *w, struct store_op *op) {
    struct reader r;
    int err = find_reader(w, op, &r);
    if (err == 0) err = read_messages(w, &r, op);
    if (err == 0 && op->take && op->count) err = take(w, &r, op);
    if (err == 0) op->position = r.position;
    return err;
}
