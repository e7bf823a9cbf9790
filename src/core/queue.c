/* SPDX-License-Identifier: Apache-2.0 */
#include "core/queue.h"
#include "core/state.h"
#include <stdlib.h>

enum { FIRST_BUCKETS = 16 };

/* ---- a lane's jobs ---- */

static bool before(const void *a, const void *b) {
    const struct job *x = a, *y = b;
    return x->cost == y->cost ? x->order < y->order : x->cost < y->cost;
}

static size_t *place(void *item) {
    return &((struct job *)item)->heap_at;
}

static struct job *oldest(const struct lane *l) {
    return CONTAINER_OF(l->jobs.next, struct job, link);
}

static bool is_older(const void *a, const void *b) {
    const struct job *x = oldest(a), *y = oldest(b);
    return x->queued_at == y->queued_at ? x->order < y->order : x->queued_at < y->queued_at;
}

static size_t *oldest_place(void *item) {
    return &((struct lane *)item)->oldest_at;
}

static void lane_init(struct lane *l, struct queue *q, struct tenant *t, unsigned priority) {
    *l = (struct lane){
        .queue = q, .tenant = t, .priority = (uint8_t)priority, .id = l->id, .oldest_at = HEAP_NOWHERE};
    list_init(&l->turn);
    list_init(&l->jobs);
    heap_init(&l->cheap, before, place);
}

/* One that has waited for age goes before all that are cheaper, so none waits for ever; so does one that is
   not in the heap (memory lacked, or the service's order has changed). */
static struct job *lane_next(const struct lane *l, uint64_t now, uint64_t age_us) {
    struct job *cheapest = heap_first(&l->cheap), *first = oldest(l);
    if (!cheapest || first->heap_at == HEAP_NOWHERE) return first;
    return age_us && now - first->queued_at >= age_us ? first : cheapest;
}

/* ---- lanes by queue, class and tenant ---- */

void core_lanes_init(struct lanes *l) {
    *l = (struct lanes){0};
    slab_init(&l->slab, sizeof(struct lane));
}

void core_lanes_fini(struct lanes *l) {
    uint64_t id;
    struct lane *lane;
    for (uint32_t cursor = 0; (lane = slab_next(&l->slab, &cursor, &id));) heap_fini(&lane->cheap);
    slab_fini(&l->slab);
    free(l->buckets);
}

/* Fibonacci hashing (Knuth, TAOCP 3, 6.4) of what only the hub itself chooses: addresses. */
static size_t hash(const struct queue *q, unsigned priority, const struct tenant *t) {
    uint64_t x = (uint64_t)(uintptr_t)t + priority;
    x = (x * UINT64_C(0x9e3779b97f4a7c15)) ^ (uint64_t)(uintptr_t)q;
    return (size_t)(x * UINT64_C(0x9e3779b97f4a7c15) >> 20);
}

static struct lane **bucket(const struct lanes *l, const struct lane *lane) {
    return &l->buckets[hash(lane->queue, lane->priority, lane->tenant) & (l->size - 1)];
}

static bool grow(struct lanes *l) {
    if (l->slab.count < l->size) return true;
    struct lanes more = {.size = l->size ? l->size * 2 : FIRST_BUCKETS};
    more.buckets = calloc(more.size, sizeof(struct lane *));
    if (!more.buckets) return l->size > 0;
    uint64_t id;
    struct lane *lane;
    for (uint32_t cursor = 0; (lane = slab_next(&l->slab, &cursor, &id));) {
        lane->next = *bucket(&more, lane);
        *bucket(&more, lane) = lane;
    }
    free(l->buckets);
    l->buckets = more.buckets;
    l->size = more.size;
    return true;
}

static struct lane *lane_find(const struct core *core, const struct queue *q, const struct tenant *t,
                              unsigned priority) {
    const struct lanes *l = &core->lanes;
    struct lane *lane = l->size ? l->buckets[hash(q, priority, t) & (l->size - 1)] : NULL;
    while (lane && !(lane->queue == q && lane->tenant == t && lane->priority == priority)) lane = lane->next;
    return lane;
}

static struct lane *lane_get(struct core *core, struct queue *q, const struct job *job) {
    struct lanes *l = &core->lanes;
    struct tenant *t = job->request->tenant;
    unsigned priority = job->priority;
    if (t == &core->tenants.nobody) return &q->common[priority];
    struct lane *lane = lane_find(core, q, t, priority);
    if (lane) return lane;
    uint64_t id;
    lane = grow(l) ? slab_new(&l->slab, &id) : NULL;
    if (!lane) return &q->common[priority];
    lane->id = id;
    lane_init(lane, q, t, priority);
    lane->next = *bucket(l, lane);
    *bucket(l, lane) = lane;
    return lane;
}

static void lane_free(struct core *core, struct lane *lane) {
    heap_fini(&lane->cheap);
    if (!lane->tenant) return;
    struct lane **at = bucket(&core->lanes, lane);
    while (*at != lane) at = &(*at)->next;
    *at = lane->next;
    slab_free(&core->lanes.slab, lane->id);
}

/* ---- turns ---- */

static uint32_t turn_of(const struct core *core, const struct lane *l) {
    return (l->tenant ? l->tenant : &core->tenants.nobody)->config.weight;
}

static void lane_begin(struct core *core, struct lane *l) {
    l->credit = turn_of(core, l);
    list_push_back(&l->queue->turns[l->priority], &l->turn);
    l->queue->lanes[l->priority]++;
}

static void lane_end(struct core *core, struct lane *l) {
    list_del(&l->turn);
    l->queue->lanes[l->priority]--;
    lane_free(core, l);
}

/* ---- the queue ---- */

void core_queue_init(struct queue *q) {
    *q = (struct queue){0};
    for (unsigned p = 0; p < CORE_PRIORITIES; p++) {
        list_init(&q->returned[p]);
        list_init(&q->turns[p]);
        heap_init(&q->oldest[p], is_older, oldest_place);
        lane_init(&q->common[p], q, NULL, p);
    }
}

void core_queue_fini(struct queue *q) {
    for (unsigned p = 0; p < CORE_PRIORITIES; p++) {
        heap_fini(&q->common[p].cheap);
        heap_fini(&q->oldest[p]);
    }
}

static void occupy(const struct core *core, struct queue *q, unsigned priority) {
    if (!q->occupied) q->busy_since = core->now;
    q->occupied |= 1u << priority;
}

/* The lane's oldest job is another one. */
static void reorder(struct lane *l) {
    struct heap *h = &l->queue->oldest[l->priority];
    if (l->count > 0)
        (void)heap_update(h, l);
    else
        heap_remove(h, l);
}

static int64_t order_of(const struct list *node) {
    return CONTAINER_OF(node, struct job, link)->order;
}

/* Behind which of the lane the job goes, by when it came. What is put between others comes in order, most
   often: so the search begins where the last one went. */
static struct list *position(struct lane *l, const struct job *job) {
    struct list *at = l->jobs.prev;
    if (at == &l->jobs || order_of(at) < job->order) return at;
    if (l->moved) at = &l->moved->link;
    while (at != &l->jobs && order_of(at) > job->order) at = at->prev;
    while (order_of(at->next) < job->order) at = at->next; /* the last one is behind it */
    return at;
}

/* Enters the lane that it belongs to, which has a turn from then on. */
static void enter_lane(struct core *core, struct queue *q, struct job *job) {
    struct lane *l = lane_get(core, q, job);
    job->lane = l;
    if (l->count++ == 0) lane_begin(core, l);
    struct list *after = position(l, job);
    if (after->next != &l->jobs) l->moved = job;
    list_insert_before(after->next, &job->link);
    if (oldest(l) == job) reorder(l);
    if (job->service->config.shortest_first) (void)heap_add(&l->cheap, job);
}

static bool returned_before(const struct job *a, const struct job *b) {
    return a->queued_at == b->queued_at ? a->order > b->order : a->queued_at < b->queued_at;
}

void core_queue_move(struct core *core, struct queue *q, struct job *job) {
    job->queue = q;
    if (job->order < 0) {
        struct list *list = &q->returned[job->priority], *at = list->prev;
        while (at != list && returned_before(job, CONTAINER_OF(at, struct job, link))) at = at->prev;
        list_insert_before(at->next, &job->link);
        q->back[job->priority]++;
    } else {
        enter_lane(core, q, job);
    }
    occupy(core, q, job->priority);
}

void core_queue_put(struct core *core, struct queue *q, struct job *job, bool back) {
    job->order = back ? --core->first_order : ++core->last_order;
    core_queue_move(core, q, job);
}

/* Out of the queue, and of its lane, which is returned and may have no more jobs then; NULL: it stood in
 * none. */
static struct lane *leave(struct job *job) {
    struct queue *q = job->queue;
    struct lane *l = job->lane;
    job->queue = NULL;
    job->lane = NULL;
    bool first = l && oldest(l) == job;
    if (l && l->moved == job) l->moved = first ? NULL : CONTAINER_OF(job->link.prev, struct job, link);
    list_del(&job->link);
    if (l) {
        heap_remove(&l->cheap, job);
        l->count--;
        if (first) reorder(l);
    } else {
        q->back[job->priority]--;
    }
    if (q->back[job->priority] == 0 && q->lanes[job->priority] == (l && l->count == 0))
        q->occupied &= ~(1u << job->priority);
    return l;
}

void core_queue_take(struct core *core, struct job *job) {
    struct lane *l = leave(job);
    if (!l) return;
    core_tenant_use(core, job->request->tenant);
    uint32_t turn = turn_of(core, l);
    if (l->credit > turn) l->credit = turn; /* its weight has been lowered */
    if (l->count == 0) {
        lane_end(core, l);
    } else if (--l->credit == 0) {
        list_del(&l->turn);
        l->queue->lanes[l->priority]--;
        lane_begin(core, l);
    }
}

void core_queue_drop(struct core *core, struct job *job) {
    struct lane *l = leave(job);
    if (l && l->count == 0) lane_end(core, l);
}

/* When the oldest job of an occupied class came. A lane for which memory lacked is seen in its turn. */
static uint64_t class_since(const struct queue *q, unsigned priority) {
    const struct lane *l = heap_first(&q->oldest[priority]);
    uint64_t since = l ? oldest(l)->queued_at : UINT64_MAX, other = UINT64_MAX;
    if (!list_empty(&q->returned[priority]))
        other = CONTAINER_OF(q->returned[priority].next, struct job, link)->queued_at;
    else if (!l)
        other = oldest(CONTAINER_OF(q->turns[priority].next, struct lane, turn))->queued_at;
    return other < since ? other : since;
}

static unsigned aged(unsigned priority, uint64_t since, uint64_t now, uint64_t age_us) {
    uint64_t up = age_us ? (now - since) / age_us : 0;
    return up < priority ? priority - (unsigned)up : 0;
}

static unsigned class_of(const struct job *job, uint64_t now, uint64_t age_us) {
    return aged(job->priority, class_since(job->queue, job->priority), now, age_us);
}

static bool is_aged(const struct job *job, uint64_t now) {
    uint64_t age_us = job->service->config.age_us;
    return age_us && now - job->queued_at >= age_us;
}

bool core_queue_before(const struct core *core, const struct job *a, const struct job *b) {
    uint64_t now = core->now, age_us = a->service->config.age_us;
    unsigned x = class_of(a, now, age_us), y = class_of(b, now, age_us);
    if (x != y) return x < y;
    if (a->order < 0 && b->order < 0) return returned_before(a, b);
    if (a->order < 0 || b->order < 0) return a->order < 0;
    uint64_t used_a = core_tenant_used(core, a->request->tenant);
    uint64_t used_b = core_tenant_used(core, b->request->tenant);
    if (used_a != used_b) return used_a < used_b;
    if (a->service->config.shortest_first && !is_aged(a, now) && !is_aged(b, now)) return before(a, b);
    return a->order < b->order;
}

static struct job *class_next(const struct queue *q, unsigned priority, uint64_t now, uint64_t age_us) {
    const struct list *returned = &q->returned[priority];
    if (!list_empty(returned)) return CONTAINER_OF(returned->next, struct job, link);
    return lane_next(CONTAINER_OF(q->turns[priority].next, struct lane, turn), now, age_us);
}

struct job *core_queue_next(const struct queue *q, uint64_t now, uint64_t age_us) {
    if (!q->occupied) return NULL;
    unsigned best = (unsigned)__builtin_ctz(q->occupied), rest = q->occupied & (q->occupied - 1);
    if (!rest) return class_next(q, best, now, age_us);
    uint64_t best_since = class_since(q, best);
    unsigned best_class = aged(best, best_since, now, age_us);
    for (; rest; rest &= rest - 1) {
        unsigned priority = (unsigned)__builtin_ctz(rest);
        uint64_t since = class_since(q, priority);
        unsigned class = aged(priority, since, now, age_us);
        if (class > best_class || (class == best_class && since >= best_since)) continue;
        best = priority;
        best_class = class;
        best_since = since;
    }
    return class_next(q, best, now, age_us);
}

uint64_t core_queue_oldest_wait(const struct queue *q, uint64_t now) {
    uint64_t longest = 0;
    for (unsigned rest = q->occupied; rest; rest &= rest - 1) {
        uint64_t wait = now - class_since(q, (unsigned)__builtin_ctz(rest));
        if (wait > longest) longest = wait;
    }
    return longest;
}

size_t core_queue_ahead(const struct core *core, const struct queue *q, const struct tenant *t,
                        unsigned priority) {
    const struct lane *l =
        t == &core->tenants.nobody ? &q->common[priority] : lane_find(core, q, t, priority);
    size_t own = l ? l->count : 0, others = q->lanes[priority] - (own > 0);
    return q->back[priority] + own + (own + 1) * others; /* a turn of each other one before each of its own */
}

void core_queue_each(struct core *core, const struct queue *q,
                     void (*visit)(struct core *core, struct job *job)) {
    for (unsigned p = 0; p < CORE_PRIORITIES; p++) {
        LIST_FOR (node, &q->returned[p]) visit(core, CONTAINER_OF(node, struct job, link));
        LIST_FOR (turn, &q->turns[p])
            LIST_FOR (node, &CONTAINER_OF(turn, struct lane, turn)->jobs)
                visit(core, CONTAINER_OF(node, struct job, link));
    }
}
