/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers: who waits for messages of a subscription, and gets them. One STORE_TOPIC_READ per subscription is
 * under way at a time; what it brings goes to those who wait, in turn. A reader that is through is not
 * touched any more: its memory is the caller's, and may be gone.
 */
#include "base/assert.h"
#include "durable/topics_state.h"
#include "weir/weir.h"
#include <stdlib.h>

enum { READ_MOST = 64, READ_BYTES = 256 * 1024 };

static struct topics_reader *first_waiting(const struct topics_subscription *s) {
    return list_empty(&s->waiting) ? NULL : CONTAINER_OF(s->waiting.next, struct topics_reader, waiting);
}

/* ---- coming and going ---- */

/* It has to do with nothing any more; what it held may be given to others. */
static void detach(struct topics_reader *r) {
    struct topics *t = r->topics;
    struct list *node;
    list_del(&r->node);
    list_del(&r->waiting);
    wheel_del(&t->wheel, &r->timer.wheel);
    if (r->task) r->task->reader = NULL;
    r->task = NULL;
    while ((node = list_pop_front(&r->held))) topics_out_back(CONTAINER_OF(node, struct topics_out, link));
    if (r->out) topics_out_back(r->out);
    if (r->subscription && r->stream) t->stats.streams--;
    if (r->subscription && !r->stream) t->stats.waiting--;
    r->subscription = NULL;
    r->topics = NULL;
}

void topics_reader_finish(struct topics_reader *r, int err) {
    detach(r);
    r->ops->over(r, err);
}

static void acknowledge_sent(struct topics_reader *r);

void topics_reader_leave(struct topics_reader *r) {
    struct topics_subscription *s = r->subscription;
    if (!r->topics) return;
    if (s && r->stream) acknowledge_sent(r);
    detach(r);
    if (s && !s->gone) topics_serve(s);
}

void topics_dismiss(struct topics_subscription *s, int err) {
    LIST_FOR (node, &s->readers) {
        struct topics_reader *r = CONTAINER_OF(node, struct topics_reader, node);
        if (!r->stream && list_empty(&r->waiting)) { /* it has its message, or nearly */
            if (!s->gone) continue;
            list_del(&r->node);
            r->subscription = NULL;
            s->topics->stats.waiting--;
            continue;
        }
        if (r->stream) acknowledge_sent(r);
        topics_reader_finish(r, err);
    }
}

static void on_deadline(struct topics_timer *timer, uint64_t now) {
    (void)now;
    topics_reader_finish(CONTAINER_OF(timer, struct topics_reader, timer), 0);
}

/* ---- streams: acknowledging what has arrived ---- */

static void stream_timer(struct topics_reader *r) {
    uint64_t at = topics_now(r->topics) + TOPICS_BATCH_MS;
    if (list_empty(&r->held) || at > r->beat_at) at = r->beat_at;
    if (!wheel_pending(&r->timer.wheel) || at < r->timer.wheel.when)
        wheel_add(&r->topics->wheel, &r->timer.wheel, at);
}

static void on_stream_timer(struct topics_timer *timer, uint64_t now) {
    struct topics_reader *r = CONTAINER_OF(timer, struct topics_reader, timer);
    acknowledge_sent(r);
    if (now >= r->beat_at) {
        r->beat_at = now + r->beat_ms;
        r->ops->beat(r);
    }
    stream_timer(r);
}

/* Does so for those that one acknowledgement is about. */
static void each_acking(const struct topics_task *k, void (*act)(struct topics_out *o)) {
    struct topics_subscription *s = k->subscription;
    if (!k->op.up_to) {
        struct topics_out *o = topics_out_find(s, k->op.message_id);
        if (o && o->state == TOPICS_ACKING) act(o);
        return;
    }
    LIST_FOR (node, &s->outs) {
        struct topics_out *o = CONTAINER_OF(node, struct topics_out, all);
        if (o->id > k->op.message_id) break;
        if (o->state == TOPICS_ACKING) act(o);
    }
}

static void sent_acknowledged(struct topics_task *k, int err) {
    struct topics_subscription *s = k->subscription;
    bool ok = err == 0 || err == WEIR_ENOTFOUND; /* by somebody else, or dropped for its age */
    if (ok) s->topics->stats.acknowledged += k->count;
    if (!s->gone) {
        each_acking(k, ok ? topics_out_free : topics_out_back);
        topics_serve(s);
    }
    topics_task_end(k);
}

/* out is the last of count that go on without a gap. */
static void acknowledge_as_sent(struct topics_out *o, bool up_to, size_t count) {
    struct topics_subscription *s = o->subscription;
    struct topics_task *k = topics_task_about(s, STORE_TOPIC_ACK, sent_acknowledged);
    if (!k) return; /* they are tried again, or given again */
    k->op.message_id = o->id;
    k->op.up_to = up_to;
    k->count = count;
    struct list *node = &o->all;
    for (size_t i = 0; i < count; i++, node = node->prev)
        topics_out_acking(CONTAINER_OF(node, struct topics_out, all));
    topics_task_submit(k);
}

/* What has arrived: in one operation where nothing of others lies between. */
static void acknowledge_sent(struct topics_reader *r) {
    struct topics_subscription *s = r->subscription;
    if (list_empty(&r->held) || s->gone) return;
    uint64_t sent = r->ops->sent(r);
    struct topics_out *last = NULL;
    size_t count = 0;
    LIST_FOR (node, &s->outs) {
        struct topics_out *o = CONTAINER_OF(node, struct topics_out, all);
        if (o->holder != r || o->mark > sent) break;
        last = o;
        count++;
    }
    if (last) acknowledge_as_sent(last, true, count);
    LIST_FOR (node, &r->held) {
        struct topics_out *o = CONTAINER_OF(node, struct topics_out, link);
        if (o->mark > sent) break;
        acknowledge_as_sent(o, false, 1);
    }
}

/* ---- giving ---- */

static void count_given(struct topics *t, unsigned delivery) {
    t->stats.delivered++;
    if (delivery > 1) t->stats.redelivered++;
}

/* To a stream; false: it has left within. */
static bool give_stream(struct topics_reader *r, const struct topics_message *m) {
    if (!r->ops->give(r, m)) return false;
    if (r->room > 0 && !r->busy) list_push_back(&r->subscription->waiting, &r->waiting);
    return true;
}

static struct topics_message message_of(const struct topics_kept *kept, unsigned delivery) {
    return (struct topics_message){
        .id = kept->id,
        .at = kept->at,
        .delivery = delivery,
        .type = {kept->text, kept->type_size},
        .body.bytes = {kept->text + kept->type_size, kept->size - kept->type_size}};
}

/* One that is in memory only. */
static void give_kept(struct topics_subscription *s, struct topics_out *o) {
    struct topics_reader *r = first_waiting(s);
    struct topics_kept *kept = o->kept;
    count_given(s->topics, ++o->delivery);
    struct topics_message m = message_of(kept, o->delivery);
    list_del(&r->waiting);
    if (r->acknowledges) {
        topics_out_lease(o, topics_now(s->topics) + r->lease_ms);
        kept = NULL;
    } else {
        s->topics->kept -= kept->size;
        o->kept = NULL;
        topics_out_free(o);
    }
    if (r->stream) {
        (void)give_stream(r, &m);
    } else {
        detach(r);
        (void)r->ops->give(r, &m);
    }
    free(kept);
}

static void back_with(struct topics_out *o, struct topics_kept **kept) {
    struct topics *t = o->subscription->topics;
    if (t->kept + (*kept)->size > TOPICS_KEPT_MOST) {
        t->stats.undelivered++;
        topics_out_free(o);
        return;
    }
    t->kept += (*kept)->size;
    o->kept = *kept;
    *kept = NULL;
    topics_out_back(o);
}

/* It waits again, before all others. */
static void wait_again(struct topics_subscription *s, struct topics_reader *r) {
    list_push_front(&s->waiting, &r->waiting);
    if (r->wait_ms) wheel_add(&s->topics->wheel, &r->timer.wheel, r->deadline);
    topics_serve(s);
}

/* A message that was to be acknowledged before its reader has it. */
static void taken(struct topics_task *k, int err) {
    struct topics_subscription *s = k->subscription;
    struct topics_reader *r = k->reader;
    struct topics_out *o = s->gone ? NULL : topics_out_find(s, k->kept->id);
    unsigned delivery = o ? o->delivery : 1;
    if (r) r->task = NULL;
    if (err == 0) s->topics->stats.acknowledged++;
    if (o && err == 0 && !r)
        back_with(o, &k->kept);
    else if (o && (err == 0 || err == WEIR_ENOTFOUND))
        topics_out_free(o);
    else if (o)
        topics_out_back(o);
    if (r && err == 0) {
        struct topics_message m = message_of(k->kept, delivery);
        count_given(s->topics, delivery);
        detach(r);
        (void)r->ops->give(r, &m);
    } else if (r && err == WEIR_ENOTFOUND && !s->gone && !s->topics->draining) {
        wait_again(s, r);
    } else if (r) {
        topics_reader_finish(r, s->topics->draining && err == WEIR_ENOTFOUND ? 0 : err);
    }
    if (!s->gone) topics_serve(s);
    topics_task_end(k);
}

/* Has it acknowledged for a reader that does not do so. False: out of memory. */
static bool take(struct topics_subscription *s, struct topics_out *o, struct topics_reader *r,
                 const struct store_topic_message *m) {
    struct topics_kept *kept = topics_kept_new(m);
    struct topics_task *k = kept ? topics_task_about(s, STORE_TOPIC_ACK, taken) : NULL;
    if (!k) {
        free(kept);
        return false;
    }
    k->op.message_id = m->id;
    k->kept = kept;
    k->reader = r;
    r->task = k;
    wheel_del(&s->topics->wheel, &r->timer.wheel);
    topics_out_acking(o);
    o->delivery++;
    topics_task_submit(k);
    return true;
}

static void give_out(struct topics_subscription *s, struct topics_out *o, struct topics_reader *r,
                     const struct store_topic_message *m) {
    struct topics_message message = {m->id, m->at, o->delivery + 1, m->type, m->body};
    bool skip = r->stream && m->id <= r->after;
    topics_out_let_go(o);
    if (!skip) count_given(s->topics, ++o->delivery);
    if (r->acknowledges && !skip) {
        topics_out_lease(o, topics_now(s->topics) + r->lease_ms);
    } else {
        o->holder = r;
        o->mark = skip ? 0 : UINT64_MAX;
    }
    if (r->stream) {
        if (o->holder) list_push_back(&r->held, &o->link);
        stream_timer(r);
        if (skip) {
            list_push_front(&s->waiting, &r->waiting);
            return;
        }
        if (!give_stream(r, &message)) return;
        o = topics_out_find(s, message.id);
        if (o && o->holder == r && !r->busy) o->mark = r->written;
    } else if (o->holder) { /* a blob: until topics_confirm */
        r->out = o;
        wheel_del(&s->topics->wheel, &r->timer.wheel);
        (void)r->ops->give(r, &message);
    } else {
        detach(r);
        (void)r->ops->give(r, &message);
    }
}

/* Gives it to the first that waits. o NULL: it was not out before. False: it could not be; that reader has
   been told so. */
static bool give(struct topics_subscription *s, struct topics_out *o, const struct store_topic_message *m) {
    struct topics_reader *r = first_waiting(s);
    bool fresh = !o;
    list_del(&r->waiting);
    if (fresh) o = topics_out_new(s, m->id);
    bool first = !r->stream && !r->acknowledges && !m->body.blob;
    if (o && !first) {
        give_out(s, o, r, m);
        return true;
    }
    if (o && take(s, o, r, m)) return true;
    if (o && fresh) topics_out_free(o);
    topics_reader_finish(r, WEIR_ENOMEM);
    return false;
}

/* ---- reading ---- */

/* What was to be given again and lies before id, but not where the read began, is no more. */
static void drop_lost(struct topics_subscription *s, uint64_t after, uint64_t id) {
    struct topics_out *o;
    while ((o = topics_out_first_back(s)) && o->id > after && o->id < id && !o->kept) topics_out_free(o);
}

/* Gives out what was read, as far as there are readers. */
static void hand_out(struct topics_subscription *s, const struct store_op *op) {
    for (size_t i = 0; i < op->count; i++) {
        const struct store_topic_message *m = &op->messages[i];
        drop_lost(s, op->after, m->id);
        for (struct topics_out *b;
             (b = topics_out_first_back(s)) && b->kept && b->id < m->id && first_waiting(s);)
            give_kept(s, b);
        if (!first_waiting(s)) return;
        struct topics_out *o = topics_out_find(s, m->id);
        if (o ? o->state != TOPICS_BACK : m->id <= s->cursor) continue;
        if (!o && s->out_count >= TOPICS_OUT_MOST) return;
        if (!give(s, o, m)) return;
        if (m->id > s->cursor) s->cursor = m->id;
    }
}

static void on_read(struct topics_task *k, int err) {
    struct topics_subscription *s = k->subscription;
    if (s->gone) {
        topics_task_end(k);
        return;
    }
    if (err != 0) {
        topics_dismiss(s, err);
    } else if (k->op.count > 0) {
        hand_out(s, &k->op);
    } else {
        drop_lost(s, k->op.after, UINT64_MAX);
        if (k->op.after >= s->cursor && k->known > s->cursor) s->cursor = k->known;
    }
    s->reading = false;
    topics_serve(s);
    topics_task_end(k);
}

static void read_more(struct topics_subscription *s, uint64_t after) {
    struct topics_task *k = topics_task_about(s, STORE_TOPIC_READ, on_read);
    if (!k) {
        topics_dismiss(s, WEIR_ENOMEM);
        return;
    }
    const struct topics_reader *first = first_waiting(s);
    bool alone = s->waiting.next == s->waiting.prev;
    k->op.after = after;
    k->op.most_bytes = alone && first->stream ? first->room : READ_BYTES;
    LIST_FOR (node, &s->waiting) {
        k->op.limit += CONTAINER_OF(node, struct topics_reader, waiting)->stream ? READ_MOST : 1;
        if (k->op.limit >= READ_MOST) break;
    }
    if (k->op.limit > READ_MOST) k->op.limit = READ_MOST;
    k->known = s->topic->last;
    s->reading = true;
    topics_task_submit(k);
}

/* Those that do not wait get what there is: nothing. */
static void send_away(struct topics_subscription *s) {
    LIST_FOR (node, &s->waiting) {
        struct topics_reader *r = CONTAINER_OF(node, struct topics_reader, waiting);
        if (!r->stream && r->wait_ms == 0) topics_reader_finish(r, 0);
    }
}

void topics_serve(struct topics_subscription *s) {
    while (!s->reading && first_waiting(s)) {
        struct topics_out *back = topics_out_first_back(s);
        if (back && back->kept) {
            give_kept(s, back);
        } else if (back) {
            read_more(s, back->id - 1);
        } else if (s->cursor < s->topic->last && s->out_count < TOPICS_OUT_MOST) {
            read_more(s, s->cursor);
        } else {
            send_away(s);
            break;
        }
    }
    list_del(&s->hungry);
    if (first_waiting(s)) list_push_back(&s->topic->hungry, &s->hungry);
}

/* ---- what readers call ---- */

void topics_read_start(struct topics *t, struct topics_reader *r) {
    struct topics_subscription *s = topics_find(t, r->topic, r->name);
    if (!s || t->draining) {
        topics_reader_finish(r, s ? 0 : WEIR_ENOTFOUND);
        return;
    }
    uint64_t now = topics_now(t);
    r->subscription = s;
    if (!r->lease_ms) r->lease_ms = t->config.lease_ms;
    list_push_back(&s->readers, &r->node);
    list_push_back(&s->waiting, &r->waiting);
    if (r->stream) {
        t->stats.streams++;
        r->timer.fire = on_stream_timer;
        r->beat_at = now + r->beat_ms;
        stream_timer(r);
        r->ops->begun(r);
    } else {
        t->stats.waiting++;
        r->timer.fire = on_deadline;
        r->deadline = now + r->wait_ms;
        if (r->wait_ms) wheel_add(&t->wheel, &r->timer.wheel, r->deadline);
    }
    topics_serve(s);
}

void topics_read(struct topics *t, struct topics_reader *r) {
    r->topics = t;
    list_init(&r->node);
    list_init(&r->waiting);
    list_init(&r->held);
    wheel_timer_init(&r->timer.wheel);
    if (t->loaded || t->draining)
        topics_read_start(t, r);
    else
        list_push_back(&t->early_readers, &r->node);
}

void topics_reader_ready(struct topics_reader *r) {
    struct topics_subscription *s = r->subscription;
    if (!s) return;
    if (!list_empty(&r->held)) {
        struct topics_out *last = CONTAINER_OF(r->held.prev, struct topics_out, link);
        if (last->mark == UINT64_MAX) last->mark = r->written;
    }
    if (r->busy || r->room == 0 || !list_empty(&r->waiting)) return;
    list_push_back(&s->waiting, &r->waiting);
    topics_serve(s);
}

static void on_confirmed(struct topics_task *k, int err) {
    struct topics_subscription *s = k->subscription;
    struct topics_reader *r = k->reader;
    struct topics_out *o = s->gone ? NULL : topics_out_find(s, k->op.message_id);
    bool ok = err == 0 || err == WEIR_ENOTFOUND;
    if (err == 0) s->topics->stats.acknowledged++;
    if (err == 0 && !r) s->topics->stats.undelivered++;
    if (o && ok)
        topics_out_free(o);
    else if (o)
        topics_out_back(o);
    if (r) {
        r->task = NULL;
        detach(r);
        r->ops->confirmed(r, ok ? 0 : err);
    }
    if (!s->gone && !ok) topics_serve(s);
    topics_task_end(k);
}

void topics_confirm(struct topics_reader *r) {
    struct topics_out *o = r->out;
    if (!o) { /* somebody else has acknowledged it, or the subscription is gone: there is nothing more to do
               */
        detach(r);
        r->ops->confirmed(r, 0);
        return;
    }
    struct topics_task *k = topics_task_about(r->subscription, STORE_TOPIC_ACK, on_confirmed);
    if (!k) {
        struct topics_subscription *s = r->subscription;
        detach(r);
        r->ops->confirmed(r, WEIR_ENOMEM);
        topics_serve(s);
        return;
    }
    k->op.message_id = o->id;
    k->reader = r;
    r->task = k;
    topics_out_acking(o);
    topics_task_submit(k);
}
