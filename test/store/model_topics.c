/* SPDX-License-Identifier: Apache-2.0 */
/* The model's topics. Each subscription has the list of what it has not read; a message stays while it is in
   one of them. */
#include "model_state.h"
#include <stdlib.h>

static struct model_topic *topic_find(const struct model *m, struct slice name) {
    for (size_t i = 0; i < m->topic_count; i++)
        if (slice_eq(m->topics[i].name, name)) return &m->topics[i];
    return NULL;
}

static struct model_subscription *subscription_find(const struct model_topic *t, struct slice name) {
    for (size_t i = 0; t && i < t->subscription_count; i++)
        if (slice_eq(t->subscriptions[i].name, name)) return &t->subscriptions[i];
    return NULL;
}

static struct store_topic_message *message_find(const struct model_topic *t, uint64_t id) {
    for (size_t i = 0; i < t->message_count; i++)
        if (t->messages[i].id == id) return &t->messages[i];
    return NULL;
}

static bool is_unread(const struct model_subscription *s, uint64_t id) {
    for (size_t i = 0; i < s->unread_count; i++)
        if (s->unread[i] == id) return true;
    return false;
}

static struct store_subscription out_subscription(struct store_op *op, const struct model_topic *t,
                                                  const struct model_subscription *s) {
    return (struct store_subscription){.topic = out_copy(op, t->name),
                                       .name = out_copy(op, s->name),
                                       .position = s->position,
                                       .last = t->last};
}

/* ---- dropping ---- */

/* Drops what nobody has to read any more. */
static void drop_read(struct model *m, struct model_topic *t) {
    for (size_t i = t->message_count; i-- > 0;) {
        struct store_topic_message *message = &t->messages[i];
        bool wanted = false;
        for (size_t s = 0; s < t->subscription_count; s++)
            wanted = wanted || is_unread(&t->subscriptions[s], message->id);
        if (wanted) continue;
        own_free(&message->type);
        body_drop(m, &message->body);
        MODEL_REMOVE(t->messages, t->message_count, i);
    }
}

/* The subscription has read that one, and with up_to all before it. The position moves when the first one
   that was not read is (ids of a topic are consecutive here): to before the next such, or to the end. */
static void has_read(const struct model *m, const struct model_topic *t, struct model_subscription *s,
                     uint64_t id, bool up_to) {
    bool first = s->unread_count > 0 && (up_to || s->unread[0] == id);
    for (size_t i = s->unread_count; i-- > 0;) {
        bool it = s->unread[i] == id && !(up_to && mutant(m, MODEL_ACK_SHORT));
        if (it || (up_to && s->unread[i] < id)) MODEL_REMOVE(s->unread, s->unread_count, i);
    }
    if (first) s->position = s->unread_count ? s->unread[0] - 1 : t->last;
}

/* ---- operations ---- */

static struct model_topic *topic_need(struct model *m, struct slice name) {
    struct model_topic *t = topic_find(m, name);
    if (t) return t;
    MODEL_INSERT(m->topics, m->topic_count, m->topic_count);
    t = &m->topics[m->topic_count - 1];
    own_set(&t->name, name);
    return t;
}

static void unread_add(struct model_subscription *s, uint64_t id) {
    MODEL_INSERT(s->unread, s->unread_count, s->unread_count);
    s->unread[s->unread_count - 1] = id;
}

static int subscribe(struct model *m, struct store_op *op) {
    struct model_topic *t = topic_need(m, op->topic);
    struct model_subscription *s = subscription_find(t, op->name);
    op->found = s != NULL;
    if (!s) {
        MODEL_INSERT(t->subscriptions, t->subscription_count, t->subscription_count);
        s = &t->subscriptions[t->subscription_count - 1];
        own_set(&s->name, op->name);
        s->position = t->last;
        if (mutant(m, MODEL_SUBSCRIBE_EARLY) && message_find(t, t->last)) unread_add(s, t->last);
    } else if (mutant(m, MODEL_SUBSCRIBE_AGAIN)) {
        s->unread_count = 0;
        drop_read(m, t);
    }
    op->subscriptions = out_alloc(op, sizeof *op->subscriptions);
    op->subscriptions[0] = out_subscription(op, t, s);
    op->count = 1;
    return 0;
}

static int unsubscribe(struct model *m, struct store_op *op) {
    struct model_topic *t = topic_find(m, op->topic);
    struct model_subscription *s = subscription_find(t, op->name);
    if (!s) return WEIR_ENOTFOUND;
    own_free(&s->name);
    free(s->unread);
    MODEL_REMOVE(t->subscriptions, t->subscription_count, (size_t)(s - t->subscriptions));
    drop_read(m, t);
    if (t->subscription_count == 0 && mutant(m, MODEL_IDS_AGAIN)) t->last = 0;
    return 0;
}

static int append(struct model *m, struct store_op *op) {
    struct model_topic *t = topic_find(m, op->topic);
    op->message_id = 0;
    if (!t || t->subscription_count == 0) {
        body_discard(m, &op->message.body);
        return 0;
    }
    int r = body_check(m, &op->message.body);
    if (r != 0) return r;
    MODEL_INSERT(t->messages, t->message_count, t->message_count);
    struct store_topic_message *message = &t->messages[t->message_count - 1];
    op->message_id = message->id = ++t->last;
    message->at = op->message.at;
    own_set(&message->type, op->message.type);
    body_take(m, &message->body, &op->message.body);
    for (size_t i = 0; i < t->subscription_count; i++) unread_add(&t->subscriptions[i], t->last);
    op->count = t->subscription_count;
    return 0;
}

static void out_unread(const struct model *m, struct store_op *op, const struct store_topic_message *in) {
    struct store_topic_message *out = &op->messages[op->count++];
    *out = *in;
    out->type = out_copy(op, in->type);
    out->body = out_body(m, op, &in->body);
}

static int read_unread(struct model *m, struct store_op *op) {
    struct model_topic *t = topic_find(m, op->topic);
    struct model_subscription *s = subscription_find(t, op->name);
    if (!s) return WEIR_ENOTFOUND;
    op->messages = out_alloc(op, s->unread_count * sizeof *op->messages);
    uint64_t bytes = 0;
    for (size_t i = 0; i < s->unread_count && op->count < op->limit; i++) {
        if (s->unread[i] <= op->after) continue;
        const struct store_topic_message *message = message_find(t, s->unread[i]);
        bytes += message->body.blob ? 0 : message->body.bytes.n;
        if (op->count > 0 && bytes > op->most_bytes && !mutant(m, MODEL_READ_ANY_SIZE)) break;
        out_unread(m, op, message);
    }
    if (!op->take || mutant(m, MODEL_TAKE_KEEPS)) return 0;
    for (size_t i = 0; i < op->count; i++) has_read(m, t, s, op->messages[i].id, false);
    drop_read(m, t);
    return 0;
}

static int ack(struct model *m, struct store_op *op) {
    struct model_topic *t = topic_find(m, op->topic);
    struct model_subscription *s = subscription_find(t, op->name);
    if (!s) return WEIR_ENOTFOUND;
    if (!is_unread(s, op->message_id) && !mutant(m, MODEL_ACK_TWICE)) return WEIR_ENOTFOUND;
    has_read(m, t, s, op->message_id, op->up_to);
    drop_read(m, t);
    op->position = s->position;
    return 0;
}

static int load(struct model *m, struct store_op *op) {
    size_t count = 0;
    for (size_t i = 0; i < m->topic_count; i++) count += m->topics[i].subscription_count;
    op->subscriptions = out_alloc(op, count * sizeof *op->subscriptions);
    for (size_t i = 0; i < m->topic_count; i++) {
        const struct model_topic *t = &m->topics[i];
        for (size_t s = 0; s < t->subscription_count; s++)
            op->subscriptions[op->count++] = out_subscription(op, t, &t->subscriptions[s]);
    }
    return 0;
}

int model_topic_apply(struct model *m, struct store_op *op) {
    static int (*const by_kind[])(struct model *, struct store_op *) = {
        [STORE_TOPIC_SUBSCRIBE] = subscribe,
        [STORE_TOPIC_UNSUBSCRIBE] = unsubscribe,
        [STORE_TOPIC_APPEND] = append,
        [STORE_TOPIC_READ] = read_unread,
        [STORE_TOPIC_ACK] = ack,
        [STORE_TOPIC_LOAD] = load,
    };
    return by_kind[op->kind](m, op);
}

/* ---- retention ---- */

static void message_forget(struct model *m, struct model_topic *t, uint64_t id) {
    for (size_t s = 0; s < t->subscription_count; s++) {
        struct model_subscription *subscription = &t->subscriptions[s];
        for (size_t i = subscription->unread_count; i-- > 0;)
            if (subscription->unread[i] == id)
                MODEL_REMOVE(subscription->unread, subscription->unread_count, i);
    }
    drop_read(m, t);
}

uint64_t model_sweep_messages(struct model *m, const struct store_op *op, bool *more) {
    uint64_t count = 0;
    if (op->message_age == 0) return 0;
    for (size_t t = 0; t < m->topic_count; t++) {
        for (size_t i = 0; i < m->topics[t].message_count;) {
            const struct store_topic_message *message = &m->topics[t].messages[i];
            if (message->at + op->message_age >= op->now) {
                i++;
                continue;
            }
            if (count == op->limit) {
                *more = true;
                return count;
            }
            message_forget(m, &m->topics[t], message->id);
            count++;
        }
    }
    return count;
}

/* ---- the end ---- */

void model_topic_lose(struct model *m) {
    for (size_t t = 0; t < m->topic_count; t++)
        if (m->topics[t].message_count > 0) message_forget(m, &m->topics[t], m->topics[t].last);
}

void model_topics_free(struct model *m) {
    for (size_t t = 0; t < m->topic_count; t++) {
        struct model_topic *topic = &m->topics[t];
        for (size_t i = 0; i < topic->subscription_count; i++) {
            own_free(&topic->subscriptions[i].name);
            free(topic->subscriptions[i].unread);
        }
        topic->subscription_count = 0;
        drop_read(m, topic);
        free(topic->subscriptions);
        free(topic->messages);
        own_free(&topic->name);
    }
    free(m->topics);
}
