/* SPDX-License-Identifier: Apache-2.0 */
/* Gathering for the world of durable jobs: as attach/gather.h does it, with a body "COUNT;..." in place of a
   multipart one. */
#include "durable_world.h"
#include "lib/fault.h"
#include "weir/weir.h"
#include <stdio.h>
#include <stdlib.h>

enum { GATHER_PARTS_AT_ONCE = 16 };

struct gather;
struct part {
    struct requester requester;
    struct gather *gather;
    bool asked, over, known;
    unsigned status;
    struct body *body;
};
struct gather {
    struct gatherer gatherer;
    struct dw *world;
    struct list all, busy;
    struct requester *durable;
    struct message *original;
    uint64_t request;
    unsigned count, asked, over;
    char service[16], to[16];
    struct part parts[];
};

static void gather_free(struct gather *g) {
    for (unsigned i = 0; i < g->count; i++)
        if (g->parts[i].body) {
            body_consumer(g->parts[i].body, (struct body_side){0});
            body_abandon(g->parts[i].body);
            body_unref(g->parts[i].body);
        }
    g->world->gathering--;
    list_del(&g->all);
    list_del(&g->busy);
    message_unref(g->original);
    free(g);
}

static void gather_gone(struct gatherer *gatherer) {
    gather_free(CONTAINER_OF(gatherer, struct gather, gatherer));
}

static void wake(struct gather *g) {
    list_del(&g->busy);
    list_push_back(&g->world->busy, &g->busy);
}

static void part_over(struct part *p, unsigned status, struct slice bytes) {
    struct gather *g = p->gather;
    p->over = true;
    p->status = status;
    g->over++;
    struct requester_part told = {.index = (unsigned)(p - g->parts),
                                  .status = status,
                                  .fields = SLICE("content-type: text/plain\r\n"),
                                  .body = bytes};
    g->durable->ops->part(g->durable, &told);
    wake(g);
}

static void on_part_body(void *ctx, size_t n) {
    (void)n;
    struct part *p = ctx;
    struct body *b = p->body;
    if (p->over || (!body_error(b) && !body_ended(b))) return;
    struct buffer bytes;
    buffer_init(&bytes);
    fault_pause();
    struct slice s;
    while (!body_error(b) && (s = body_peek(b)).n > 0) {
        dw_must(buffer_append_slice(&bytes, s) == 0, "out of memory");
        body_consume(b, s.n);
    }
    fault_resume();
    part_over(p, body_error(b) ? 502 : p->status, buffer_slice(&bytes));
    buffer_fini(&bytes);
}

static void part_reply(struct requester *r, const struct http_head *head, struct body *body) {
    struct part *p = CONTAINER_OF(r, struct part, requester);
    p->status = head->status;
    if (!body) {
        part_over(p, head->status, (struct slice){0});
        return;
    }
    p->body = body_ref(body);
    body_consumer(body, (struct body_side){on_part_body, p});
    on_part_body(p, 0);
}

static void part_fail(struct requester *r, const struct failure *why) {
    part_over(CONTAINER_OF(r, struct part, requester), why->status ? why->status : 502, (struct slice){0});
}

static void part_taken(struct requester *r) {
    (void)r;
}

static const struct requester_ops part_ops = {.taken = part_taken, .reply = part_reply, .fail = part_fail};

static void submit_parts(struct dw *w, struct gather *g) {
    while (g->asked < g->count && g->asked - g->over < GATHER_PARTS_AT_ONCE) {
        struct part *p = &g->parts[g->asked];
        if (p->known) {
            g->asked++;
            g->over++;
            continue;
        }
        char target[96];
        fault_pause();
        snprintf(target, sizeof target, "%.*s/p%u", SLICE_ARG(g->original->head.target), g->asked);
        struct message *m = dw_message(w, target, "part", 4, true);
        fault_resume();
        struct core_part part = {
            .requester = &p->requester, .message = m, .bytes = 4, .service = slice_of(g->service)};
        uint64_t id;
        struct failure why;
        int err = core_part_submit(w->core, dw_us(w), g->request, &part, &id, &why);
        if (err != 0) message_unref(m);
        if (err == WEIR_ESTATE || (err == WEIR_EFULL && g->asked > g->over)) return;
        g->asked++;
        if (err != 0) part_over(p, 502, (struct slice){0});
    }
}

static void finish_gather(struct dw *w, struct gather *g) {
    struct arena arena;
    struct http_head head = {.status = 200};
    char text[64];
    fault_pause();
    arena_init(&arena, 0, NULL, 0);
    dw_must(head_add(&head, &arena, HEAD_CONTENT_TYPE, SLICE("multipart/mixed")) == 0, "out of memory");
    struct body *body = body_new(1000, 0);
    int n = snprintf(text, sizeof text, "gathered %u", g->count);
    dw_must(body && body_write(body, text, (size_t)n) == 0, "out of memory");
    body_end(body);
    struct message *next = NULL;
    char target[64], first[64];
    snprintf(first, sizeof first, "%.*s", SLICE_ARG(g->original->head.target));
    dw_next_target(first, target);
    if (g->to[0])
        dw_must(message_forward(g->original, slice_of(target), &head, body_ref(body), &next) == 0, "forward");
    fault_resume();
    struct requester *r = g->to[0] ? core_gather_hand_over(w->core, dw_us(w), g->request)
                                   : core_gather_reply(w->core, dw_us(w), g->request);
    if (r && next)
        r->ops->forward(r, &(struct requester_hop){.service = slice_of(g->to), .message = next});
    else if (r)
        r->ops->reply(r, &head, body);
    else
        message_unref(next);
    body_unref(body);
    arena_fini(&arena);
    if (r) gather_free(g); /* otherwise it is told by an action */
}

bool dw_gather_turn(struct dw *w) {
    struct list *node;
    bool any = false;
    while ((node = list_pop_front(&w->busy))) {
        struct gather *g = CONTAINER_OF(node, struct gather, busy);
        any = true;
        submit_parts(w, g);
        if (g->over == g->count) finish_gather(w, g);
    }
    return any;
}

int dw_gather_run(void *ctx, const struct jobs_scatter *s, struct buffer *body, uint64_t *ret_request,
                  struct failure *ret_why) {
    struct dw *w = ctx;
    char *end, text[16] = "";
    struct slice bytes = buffer_slice(body);
    memcpy(text, bytes.p ? bytes.p : "", bytes.n < 15 ? bytes.n : 15);
    unsigned count = (unsigned)strtoul(text, &end, 10);
    *ret_why = (struct failure){.error = WEIR_EBADANSWER};
    dw_must(*end == ';', "a scattered body that is not what it was");
    struct gather *g = calloc(1, sizeof(*g) + count * sizeof(*g->parts));
    if (!g) return ret_why->error = WEIR_ENOMEM;
    g->gatherer.gone = gather_gone;
    g->world = w;
    g->count = count;
    g->durable = s->request.requester;
    snprintf(g->service, sizeof g->service, "%.*s", SLICE_ARG(s->service));
    snprintf(g->to, sizeof g->to, "%.*s", SLICE_ARG(s->gather));
    list_init(&g->all);
    list_init(&g->busy);
    for (unsigned i = 0; i < count; i++) {
        g->parts[i].requester.ops = &part_ops;
        g->parts[i].gather = g;
    }
    for (size_t i = 0; i < s->count; i++)
        if (s->parts[i].index < count) g->parts[s->parts[i].index].known = true;
    int err = core_scatter(w->core, dw_us(w), &s->request, count, &g->gatherer, &g->request, ret_why);
    if (err != 0) {
        free(g);
        return err;
    }
    g->original = message_ref(s->request.message);
    w->gathering++;
    list_push_back(&w->gathers, &g->all);
    wake(g);
    buffer_reset(body);
    *ret_request = g->request;
    return 0;
}

void dw_gather_drop(struct dw *w) {
    while (!list_empty(&w->gathers)) gather_free(CONTAINER_OF(w->gathers.next, struct gather, all));
}

bool dw_gather_part(const struct requester *r) {
    return r->ops == &part_ops;
}
