/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Topics and subscriptions, and the calls about them. Each is one operation of the store, a struct
 * topics_task, which outlives the caller's interest in it. Memory follows what the store has completed, in
 * its order.
 */
#include "durable/topics.h"
#include "base/hash.h"
#include "base/random.h"
#include "durable/outlet.h"
#include "durable/topics_state.h"
#include "weir/weir.h"
#include <stdlib.h>

/* ---- tasks ---- */

static void subscription_unref(struct topics_subscription *s) {
    if (--s->tasks == 0 && s->gone) free(s);
}

static void on_done(struct store_op *op) {
    struct topics_task *k = CONTAINER_OF(op, struct topics_task, op);
    k->complete(k, op->err);
}

struct topics_task *topics_task_new(struct topics *t, enum store_kind kind, struct slice topic,
                                    struct slice name, void (*complete)(struct topics_task *k, int err)) {
    struct topics_task *k = calloc(1, sizeof *k + topic.n + name.n);
    if (!k) return NULL;
    store_op_init(&k->op, kind, on_done);
    k->op.shard = t->config.shard;
    if (topic.n) memcpy(k->text, topic.p, topic.n);
    if (name.n) memcpy(k->text + topic.n, name.p, name.n);
    k->op.topic = (struct slice){k->text, topic.n};
    k->op.name = (struct slice){k->text + topic.n, name.n};
    k->complete = complete;
    k->topics = t;
    list_init(&k->early);
    return k;
}

struct topics_task *topics_task_about(struct topics_subscription *s, enum store_kind kind,
                                      void (*complete)(struct topics_task *k, int err)) {
    struct topics_task *k = topics_task_new(s->topics, kind, s->topic->name, s->name, complete);
    if (!k) return NULL;
    k->subscription = s;
    s->tasks++;
    return k;
}

void topics_task_submit(struct topics_task *k) {
    store_submit(k->topics->config.store, &k->op);
}

void topics_task_end(struct topics_task *k) {
    store_op_fini(&k->op);
    if (k->call) k->call->task = NULL;
    intake_free(&k->intake);
    free(k->kept);
    free(k->made);
    if (k->subscription) subscription_unref(k->subscription);
    free(k);
}

/* The end of what somebody has called for. */
static void answer(struct topics_task *k, int err) {
    struct topics_call *call = k->call;
    k->call = NULL;
    topics_task_end(k);
    if (!call) return;
    call->task = NULL;
    call->done(call, err);
}

/* Starts it, now or when all is loaded. NULL: there was no memory for it. */
static void call_start(struct topics *t, struct topics_task *k, void (*start)(struct topics_task *k),
                       struct topics_call *c) {
    if (!k) {
        c->done(c, WEIR_ENOMEM);
        return;
    }
    k->call = c;
    k->start = start;
    c->task = k;
    if (t->loaded)
        start(k);
    else
        list_push_back(&t->early, &k->early);
}

void topics_call_leave(struct topics_call *c) {
    if (c->task) c->task->call = NULL;
    c->task = NULL;
    if (c->is_later) list_del(&c->later);
    c->is_later = false;
}

void topics_call_later(struct topics *t, struct topics_call *c, int err) {
    list_push_back(&t->later, &c->later);
    c->is_later = true;
    c->err = err;
}

static void answer_later(struct topics *t) {
    for (struct list *node; (node = list_pop_front(&t->later));) {
        struct topics_call *c = CONTAINER_OF(node, struct topics_call, later);
        c->is_later = false;
        c->done(c, c->err);
    }
}

/* ---- what there is ---- */

static struct topics_topic *topic_find(const struct topics *t, struct slice name) {
    uint64_t hash = hash_bytes(name, t->seed);
    for (struct topics_entry *e = topics_table_chain(&t->topics, hash); e; e = e->next) {
        struct topics_topic *topic = CONTAINER_OF(e, struct topics_topic, entry);
        if (e->hash == hash && slice_eq(topic->name, name)) return topic;
    }
    return NULL;
}

/* One use more of the topic, which is made if it is not there. NULL: out of memory. */
static struct topics_topic *topic_use(struct topics *t, struct slice name) {
    struct topics_topic *topic = topic_find(t, name);
    if (!topic) {
        topic = topics_table_reserve(&t->topics) ? calloc(1, sizeof *topic + name.n) : NULL;
        if (!topic) return NULL;
        list_init(&topic->hungry);
        memcpy(topic->text, name.p, name.n);
        topic->name = (struct slice){topic->text, name.n};
        topics_table_add(&t->topics, &topic->entry, hash_bytes(name, t->seed));
    }
    topic->uses++;
    return topic;
}

static void topic_unuse(struct topics *t, struct topics_topic *topic) {
    if (--topic->uses > 0) return;
    topics_table_remove(&t->topics, &topic->entry);
    free(topic);
}

static uint64_t subscription_hash(const struct topics *t, struct slice topic, struct slice name) {
    return hash_bytes(name, hash_bytes(topic, t->seed));
}

struct topics_subscription *topics_find(const struct topics *t, struct slice topic, struct slice name) {
    uint64_t hash = subscription_hash(t, topic, name);
    for (struct topics_entry *e = topics_table_chain(&t->subscriptions, hash); e; e = e->next) {
        struct topics_subscription *s = CONTAINER_OF(e, struct topics_subscription, entry);
        if (e->hash == hash && slice_eq(s->name, name) && slice_eq(s->topic->name, topic)) return s;
    }
    return NULL;
}

/* Not there yet: subscription_add follows. NULL: out of memory. */
static struct topics_subscription *subscription_new(struct topics *t, struct slice name) {
    struct topics_subscription *s = calloc(1, sizeof *s + name.n);
    if (!s) return NULL;
    s->topics = t;
    memcpy(s->text, name.p, name.n);
    s->name = (struct slice){s->text, name.n};
    list_init(&s->hungry);
    list_init(&s->readers);
    list_init(&s->waiting);
    list_init(&s->outs);
    list_init(&s->back);
    return s;
}

/* Takes over one use of the topic. After a reserve of the table. */
static void subscription_add(struct topics_subscription *s, struct topics_topic *topic,
                             const struct store_subscription *from) {
    struct topics *t = s->topics;
    s->topic = topic;
    s->cursor = from->position;
    if (from->last > topic->last) topic->last = from->last;
    topics_table_add(&t->subscriptions, &s->entry, subscription_hash(t, topic->name, s->name));
}

static void subscription_drop(struct topics_subscription *s) {
    struct topics *t = s->topics;
    s->gone = true;
    list_del(&s->hungry);
    topics_table_remove(&t->subscriptions, &s->entry);
    topics_out_free_to(s, UINT64_MAX);
    topic_unuse(t, s->topic);
    s->topic = NULL;
    s->tasks++;
    topics_dismiss(s, WEIR_ENOTFOUND);
    subscription_unref(s);
}

/* ---- subscribing ---- */

static void subscribed(struct topics_task *k, int err) {
    struct topics *t = k->topics;
    t->making--;
    if (err == 0 && !topics_find(t, k->op.topic, k->op.name)) {
        subscription_add(k->made, k->topic, &k->op.subscriptions[0]);
        k->made = NULL;
    } else {
        topic_unuse(t, k->topic);
    }
    answer(k, err);
}

static void subscribe(struct topics_task *k) {
    struct topics *t = k->topics;
    const struct topics_subscription *there = topics_find(t, k->op.topic, k->op.name);
    if (there && there->leaving == 0) {
        answer(k, 0);
        return;
    }
    if (!there && t->subscriptions.count + t->making >= t->config.max_subscriptions) {
        answer(k, WEIR_ENOSPACE);
        return;
    }
    k->made = topics_table_reserve(&t->subscriptions) ? subscription_new(t, k->op.name) : NULL;
    k->topic = k->made ? topic_use(t, k->op.topic) : NULL;
    if (!k->topic) {
        answer(k, WEIR_ENOMEM);
        return;
    }
    t->making++;
    topics_task_submit(k);
}

void topics_subscribe(struct topics *t, struct slice topic, struct slice name, struct topics_call *c) {
    call_start(t, topics_task_new(t, STORE_TOPIC_SUBSCRIBE, topic, name, subscribed), subscribe, c);
}

static void unsubscribed(struct topics_task *k, int err) {
    struct topics_subscription *s = k->subscription;
    s->leaving--;
    if (err == 0 && !s->gone) subscription_drop(s);
    answer(k, err);
}

/* The subscription that a call is about; NULL, and it has been answered, when there is none. */
static struct topics_subscription *call_about(struct topics_task *k) {
    struct topics_subscription *s = topics_find(k->topics, k->op.topic, k->op.name);
    if (!s) {
        answer(k, WEIR_ENOTFOUND);
        return NULL;
    }
    k->subscription = s;
    s->tasks++;
    return s;
}

static void unsubscribe(struct topics_task *k) {
    /* One that is being made is not there yet for anybody but the store, whose order counts. */
    struct topics_subscription *s = call_about(k);
    if (!s) return;
    s->leaving++;
    topics_task_submit(k);
}

void topics_unsubscribe(struct topics *t, struct slice topic, struct slice name, struct topics_call *c) {
    call_start(t, topics_task_new(t, STORE_TOPIC_UNSUBSCRIBE, topic, name, unsubscribed), unsubscribe, c);
}

/* ---- acknowledging ---- */

static void acknowledged(struct topics_task *k, int err) {
    struct topics_subscription *s = k->subscription;
    struct topics_out *o = s->gone ? NULL : topics_out_find(s, k->op.message_id);
    if (err == 0 && k->op.up_to && !s->gone)
        topics_out_free_to(s, k->op.message_id);
    else if (o && !o->kept && (err == 0 || err == WEIR_ENOTFOUND) && !k->op.up_to)
        topics_out_free(o);
    else if (o && o->state == TOPICS_ACKING && !k->op.up_to)
        topics_out_restore(o);
    if (err == 0) k->topics->stats.acknowledged++;
    if (!s->gone) topics_serve(s);
    answer(k, err);
}

static void acknowledge(struct topics_task *k) {
    struct topics_subscription *s = call_about(k);
    if (!s) return;
    struct topics_out *o = k->op.up_to ? NULL : topics_out_find(s, k->op.message_id);
    if (o && o->kept) { /* the store has had it acknowledged for a reader who had left */
        topics_out_free(o);
        answer(k, 0);
        return;
    }
    if (o && o->state != TOPICS_ACKING) topics_out_acking(o);
    topics_task_submit(k);
}

void topics_acknowledge(struct topics *t, struct slice topic, struct slice name, uint64_t id, bool up_to,
                        struct topics_call *c) {
    struct topics_task *k = topics_task_new(t, STORE_TOPIC_ACK, topic, name, acknowledged);
    if (k) {
        k->op.message_id = id;
        k->op.up_to = up_to;
    }
    call_start(t, k, acknowledge, c);
}

/* ---- publishing ---- */

static void published(struct topics_task *k, int err) {
    struct topics *t = k->topics;
    struct topics_topic *topic = topic_find(t, k->op.topic);
    if (err == 0) t->stats.published++;
    if (err == 0) (void)intake_take(k->intake); /* the blob is the store's now, kept or not */
    bool news = err == 0 && topic && k->op.message_id > topic->last;
    if (news) topic->last = k->op.message_id;
    answer(k, err);
    if (!news) return;
    struct list now, *node;
    list_init(&now);
    list_splice_back(&now, &topic->hungry);
    while ((node = list_pop_front(&now)))
        topics_serve(CONTAINER_OF(node, struct topics_subscription, hungry));
}

static void publish(struct topics_task *k) {
    struct topics *t = k->topics;
    if (!topic_find(t, k->op.topic)) { /* nor is a subscription being made: nothing is kept */
        struct topics_call *c = k->call;
        t->stats.published++;
        topics_task_end(k);
        if (c) topics_call_later(t, c, 0);
        return;
    }
    k->op.message =
        (struct store_topic_message){.at = topics_now(t), .type = k->op.name, .body = intake_peek(k->intake)};
    k->op.name = (struct slice){0};
    topics_task_submit(k);
}

void topics_publish(struct topics *t, struct slice topic, struct slice type, struct intake **in,
                    struct topics_call *c) {
    struct topics_task *k = topics_task_new(t, STORE_TOPIC_APPEND, topic, type, published);
    if (k)
        k->intake = *in;
    else
        intake_free(in);
    *in = NULL;
    if (k)
        call_start(t, k, publish, c);
    else
        topics_call_later(t, c, WEIR_ENOMEM);
}

uint64_t topics_max_message(const struct topics *t) {
    return t->config.max_message;
}

int topics_take_in(struct topics *t, struct body *body, void (*done)(void *ctx, int err), void *ctx,
                   struct intake **ret) {
    struct intake_config c = {.store = t->config.store,
                              .shard = t->config.shard,
                              .max_bytes = t->config.max_message,
                              .done = done,
                              .ctx = ctx};
    return intake_new(&c, body, ret);
}

int topics_let_out(struct topics *t, const struct store_body *from, struct body **ret) {
    return outlet_open(t->config.store, t->config.shard, from, ret);
}

/* ---- loading ---- */

static int add_loaded(struct topics *t, const struct store_subscription *from) {
    if (topics_find(t, from->topic, from->name)) return 0; /* of a load that has failed midway */
    struct topics_subscription *s =
        topics_table_reserve(&t->subscriptions) ? subscription_new(t, from->name) : NULL;
    struct topics_topic *topic = s ? topic_use(t, from->topic) : NULL;
    if (!topic) {
        free(s);
        return WEIR_ENOMEM;
    }
    subscription_add(s, topic, from);
    return 0;
}

static void loaded(struct topics_task *k, int err) {
    struct topics *t = k->topics;
    struct list *node;
    for (size_t i = 0; i < k->op.count && err == 0; i++) err = add_loaded(t, &k->op.subscriptions[i]);
    topics_task_end(k);
    t->loading = false;
    t->loaded = err == 0;
    if (err != 0) t->retry_at = topics_now(t) + TOPICS_RETRY_MS;
    while ((node = list_pop_front(&t->early))) {
        k = CONTAINER_OF(node, struct topics_task, early);
        if (err == 0)
            k->start(k);
        else
            answer(k, err);
    }
    while ((node = list_pop_front(&t->early_readers))) {
        struct topics_reader *r = CONTAINER_OF(node, struct topics_reader, node);
        if (err == 0)
            topics_read_start(t, r);
        else
            topics_reader_finish(r, err);
    }
}

static int load(struct topics *t) {
    struct topics_task *k =
        topics_task_new(t, STORE_TOPIC_LOAD, (struct slice){0}, (struct slice){0}, loaded);
    if (!k) return WEIR_ENOMEM;
    t->loading = true;
    t->retry_at = 0;
    topics_task_submit(k);
    return 0;
}

/* ---- the engine ---- */

int topics_new(const struct topics_config *config, struct topics **ret) {
    struct topics *t = calloc(1, sizeof *t);
    if (!t) return WEIR_ENOMEM;
    t->config = *config;
    wheel_init(&t->wheel, topics_now(t));
    list_init(&t->early);
    list_init(&t->early_readers);
    list_init(&t->later);
    if (random_entropy(&t->seed) != 0) t->seed = topics_now(t);
    int err = load(t);
    if (err != 0) {
        free(t);
        return err;
    }
    *ret = t;
    return 0;
}

void topics_tick(struct topics *t, uint64_t now) {
    struct wheel_timer *w;
    answer_later(t);
    if (t->retry_at && now >= t->retry_at && load(t) != 0) t->retry_at = now + TOPICS_RETRY_MS;
    while ((w = wheel_expire(&t->wheel, now))) {
        struct topics_timer *timer = CONTAINER_OF(w, struct topics_timer, wheel);
        timer->fire(timer, now);
    }
}

uint64_t topics_next_time(const struct topics *t) {
    uint64_t next = list_empty(&t->later) ? wheel_next(&t->wheel) : 0;
    return t->retry_at && t->retry_at < next ? t->retry_at : next;
}

void topics_drain(struct topics *t) {
    struct list *node;
    t->draining = true;
    while ((node = list_pop_front(&t->early_readers)))
        topics_reader_finish(CONTAINER_OF(node, struct topics_reader, node), 0);
    for (size_t i = 0; i < t->subscriptions.size; i++)
        for (struct topics_entry *e = t->subscriptions.buckets[i]; e; e = e->next)
            topics_dismiss(CONTAINER_OF(e, struct topics_subscription, entry), 0);
}

void topics_free(struct topics **at) {
    struct topics *t = *at;
    struct topics_entry *e;
    struct list *node;
    size_t cursor = 0;
    *at = NULL;
    if (!t) return;
    while ((node = list_pop_front(&t->early))) topics_task_end(CONTAINER_OF(node, struct topics_task, early));
    while ((e = topics_table_pop(&t->subscriptions, &cursor))) {
        struct topics_subscription *s = CONTAINER_OF(e, struct topics_subscription, entry);
        topics_out_free_to(s, UINT64_MAX);
        topic_unuse(t, s->topic);
        free(s);
    }
    topics_table_fini(&t->subscriptions);
    topics_table_fini(&t->topics);
    topics_table_fini(&t->outs);
    free(t);
}

void topics_stats(const struct topics *t, struct topics_stats *ret) {
    *ret = t->stats;
    ret->topics = t->topics.count;
    ret->subscriptions = t->subscriptions.count;
    ret->out = t->outs.count;
}
