/* SPDX-License-Identifier: Apache-2.0 */
/* Messages that are out: given to somebody, or to be given again. */
#include "base/assert.h"
#include "base/hash.h"
#include "durable/topics_state.h"
#include <stdlib.h>

static struct topics_out *out_of(struct list *all) {
    return CONTAINER_OF(all, struct topics_out, all);
}

static uint64_t hash_of(const struct topics_subscription *s, uint64_t id) {
    uint64_t key[2] = {(uint64_t)(uintptr_t)s, id};
    return hash_bytes((struct slice){(const char *)key, sizeof key}, s->topics->seed);
}

struct topics_out *topics_out_find(const struct topics_subscription *s, uint64_t id) {
    uint64_t hash = hash_of(s, id);
    for (struct topics_entry *e = topics_table_chain(&s->topics->outs, hash); e; e = e->next) {
        struct topics_out *o = CONTAINER_OF(e, struct topics_out, entry);
        if (e->hash == hash && o->subscription == s && o->id == id) return o;
    }
    return NULL;
}

static void on_lease_over(struct topics_timer *timer, uint64_t now) {
    (void)now;
    struct topics_out *o = CONTAINER_OF(timer, struct topics_out, timer);
    struct topics_subscription *s = o->subscription;
    topics_out_back(o);
    topics_serve(s);
}

struct topics_out *topics_out_new(struct topics_subscription *s, uint64_t id) {
    struct topics *t = s->topics;
    struct topics_out *o = topics_table_reserve(&t->outs) ? calloc(1, sizeof *o) : NULL;
    if (!o) return NULL;
    o->subscription = s;
    o->id = id;
    o->state = TOPICS_GIVEN;
    list_init(&o->link);
    wheel_timer_init(&o->timer.wheel);
    o->timer.fire = on_lease_over;
    list_push_back(&s->outs, &o->all);
    s->out_count++;
    topics_table_add(&t->outs, &o->entry, hash_of(s, id));
    return o;
}

void topics_out_let_go(struct topics_out *o) {
    if (o->holder && o->holder->out == o) o->holder->out = NULL;
    o->holder = NULL;
    list_del(&o->link);
    if (o->state == TOPICS_BACK) o->subscription->topics->stats.again--;
    o->state = TOPICS_GIVEN;
    wheel_del(&o->subscription->topics->wheel, &o->timer.wheel);
}

void topics_out_free(struct topics_out *o) {
    struct topics_subscription *s = o->subscription;
    topics_out_let_go(o);
    list_del(&o->all);
    s->out_count--;
    topics_table_remove(&s->topics->outs, &o->entry);
    if (o->kept) s->topics->kept -= o->kept->size;
    free(o->kept);
    free(o);
}

void topics_out_back(struct topics_out *o) {
    struct topics_subscription *s = o->subscription;
    topics_out_let_go(o);
    o->state = TOPICS_BACK;
    s->topics->stats.again++;
    o->until = 0;
    struct list *at = s->back.prev;
    while (at != &s->back && CONTAINER_OF(at, struct topics_out, link)->id > o->id) at = at->prev;
    list_insert_before(at->next, &o->link);
}

void topics_out_lease(struct topics_out *o, uint64_t until) {
    topics_out_let_go(o);
    o->until = until;
    wheel_add(&o->subscription->topics->wheel, &o->timer.wheel, until);
}

void topics_out_acking(struct topics_out *o) {
    topics_out_let_go(o);
    o->state = TOPICS_ACKING;
}

void topics_out_restore(struct topics_out *o) {
    if (o->until > topics_now(o->subscription->topics))
        topics_out_lease(o, o->until);
    else
        topics_out_back(o);
}

void topics_out_free_to(struct topics_subscription *s, uint64_t id) {
    LIST_FOR (node, &s->outs) {
        if (out_of(node)->id > id) break;
        topics_out_free(out_of(node));
    }
}

struct topics_kept *topics_kept_new(const struct store_topic_message *m) {
    size_t size = m->type.n + m->body.bytes.n;
    struct topics_kept *kept = malloc(sizeof *kept + size);
    if (!kept) return NULL;
    *kept = (struct topics_kept){m->id, m->at, size, m->type.n};
    if (m->type.n) memcpy(kept->text, m->type.p, m->type.n);
    if (m->body.bytes.n) memcpy(kept->text + m->type.n, m->body.bytes.p, m->body.bytes.n);
    return kept;
}
