/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reverse HTTP/1.1 (docs/protocol.md "Reverse HTTP", steps 3 to 5; RFC 9112): the hub is the HTTP client of a
 * worker that dialled in. A connection that waits is a free slot, so a worker is a group of connections: the
 * core knows the worker, and here a job gets one of its waiting connections.
 *
 * A cancelled job's connection is half-closed. The slot counts as busy until the worker has closed its side
 * too; a worker that goes on sending is cut off.
 */
#include "attach/h1.h"
#include "attach/exchange.h"
#include "base/assert.h"
#include "core/port.h"
#include "weir/weir.h"
#include "wire/http1.h"
#include <stdlib.h>

enum {
    H1_MAGIC = 0x68312d2d,
    GROUP_MAGIC = 0x67726f75,
    H1_EXCUSED = 3,
    H1_CLOSES_US = 1000 * 1000, /* so soon after an answer */
    H1_RUN_ROOM = 640           /* of an answer's head inside its run */
};

/* A worker: connections, each in one of two lists. */
struct group {
    unsigned magic;
    struct worker_port port;
    struct attach *attach;
    struct list node; /* among those that may be joined */
    struct list idle, busy;
    uint64_t worker;
    unsigned slots; /* connections that take jobs, busy ones included */
    unsigned links;
    bool silent;
    bool closes; /* its connections end after an answer, without saying so: they are not used again */
    enum log_level level;
    struct slice name, services, labels;
    char text[];
};

/* One job at a connection. */
struct run {
    struct exchange exchange;
    struct http_head head;
    struct arena arena;
    struct http1_body body;
    struct buffer in; /* a head that is not complete yet */
    size_t scanned;
    bool chunked, request_done, head_done, begun, paused, cancelled;
    char text[JOB_TEXTS][SLICE_U64];
    char room[H1_RUN_ROOM];
};

/* A connection. */
struct h1 {
    unsigned magic;
    struct link *link;
    struct group *group;
    struct list node;
    struct run *run;      /* NULL: waits for a job */
    bool counted;         /* it is a slot of its group */
    uint64_t answered_us; /* last; 0: it has not answered yet */
    bool last;            /* takes no job after this one */
};

/* ---- groups ---- */

static void count_slot(struct h1 *h, bool counts) {
    struct group *g = h->group;
    if (h->counted == counts) return;
    h->counted = counts;
    g->slots += counts ? 1u : -1u;
    core_worker_slots(g->attach->config.core, link_now(h->link), g->worker, g->slots);
}

static void group_free(struct group *g, const char *why) {
    struct attach *a = g->attach;
    core_worker_gone(a->config.core, io_now_us(a->config.loop), g->worker);
    if (why) log_event(a->config.log, g->level, "worker-gone", "worker %.*s: %s", SLICE_ARG(g->name), why);
    list_del(&g->node);
    g->magic = 0;
    free(g);
}

static struct group *group_find(struct attach *a, const struct h1_offer *o) {
    LIST_FOR (node, &a->groups) {
        struct group *g = CONTAINER_OF(node, struct group, node);
        if (slice_eq(g->name, o->worker) && slice_eq(g->services, o->services) &&
            slice_eq(g->labels, o->labels))
            return g;
    }
    return NULL;
}

static struct slice keep(char **at, struct slice s) {
    struct slice kept = {*at, s.n};
    *at = mempcpy(*at, s.n ? s.p : "", s.n);
    return kept;
}

static int group_announce(struct group *g, struct link *l) {
    struct core *core = g->attach->config.core;
    char peer[64];
    stream_peer(&l->stream, peer, sizeof(peer));
    struct core_worker worker = {.id = g->name,
                                 .labels = g->labels,
                                 .address = slice_of(peer),
                                 .transport = SLICE("http/1.1"),
                                 .port = &g->port};
    int err = core_worker_attach(core, link_now(l), &worker, &g->worker);
    return err == 0 ? attach_offer(g->attach, g->worker, g->services) : err;
}

static const struct worker_port_ops port_ops;

static int group_new(struct link *l, const struct h1_offer *o, struct group **ret) {
    struct group *g = calloc(1, sizeof(*g) + o->worker.n + o->services.n + o->labels.n);
    if (!g) return WEIR_ENOMEM;
    char *at = g->text;
    g->magic = GROUP_MAGIC;
    g->port.ops = &port_ops;
    g->attach = l->attach;
    g->silent = o->silent;
    g->level = o->silent ? LOG_DEBUG : LOG_INFO;
    g->name = keep(&at, o->worker);
    g->services = keep(&at, o->services);
    g->labels = keep(&at, o->labels);
    list_init(&g->node);
    list_init(&g->idle);
    list_init(&g->busy);
    int err = group_announce(g, l);
    if (err != 0) {
        group_free(g, NULL);
        return err;
    }
    if (!o->alone) list_push_back(&l->attach->groups, &g->node);
    log_event(l->attach->config.log, g->level, "worker-attached", "worker %.*s offers %.*s",
              SLICE_ARG(g->name), SLICE_ARG(g->services));
    *ret = g;
    return 0;
}

/* ---- giving a job to a connection ---- */

static struct run *run_new(struct h1 *h, const struct core_action *job) {
    struct run *r = malloc(sizeof(*r));
    if (!r) return NULL;
    memset(r, 0, offsetof(struct run, room));
    const struct attach_config *c = &h->link->attach->config;
    arena_init(&r->arena, c->max_head * 2, r->room, sizeof(r->room));
    buffer_init(&r->in);
    exchange_begin(&r->exchange, &h->link->attach->exchange, job);
    h->run = r;
    return r;
}

static void run_free(struct h1 *h) {
    struct run *r = h->run;
    h->run = NULL;
    if (r->exchange.message && r->exchange.message->body)
        body_consumer(r->exchange.message->body, (struct body_side){0});
    exchange_fini(&r->exchange);
    arena_fini(&r->arena);
    buffer_fini(&r->in);
    free(r);
}

static int write_head(struct h1 *h, const struct core_action *job) {
    struct run *r = h->run;
    return job_write(job, link_now(h->link), r->text,
                     r->chunked ? SLICE("transfer-encoding") : (struct slice){0}, SLICE("chunked"),
                     stream_out(&h->link->stream));
}

static void on_request_body(void *ctx, size_t n) {
    (void)n;
    struct h1 *h = ctx;
    stream_dirty(&h->link->stream);
}

static void send_job(struct worker_port *port, const struct core_action *job) {
    struct group *g = CONTAINER_OF(port, struct group, port);
    MAGIC_CHECK(g, GROUP_MAGIC);
    struct core *core = g->attach->config.core;
    /* The one that has waited for the shortest time: its thread and its memory are warm. But workers that say
       nothing may be about to close after an answer: there the one that has waited longest. */
    struct list *node = g->silent ? g->idle.next : g->idle.prev;
    struct h1 *h = list_empty(&g->idle) ? NULL : CONTAINER_OF(node, struct h1, node);
    struct run *r = h ? run_new(h, job) : NULL;
    if (!r) {
        core_job_handed_back(core, io_now_us(g->attach->config.loop), job->worker, job->job);
        return;
    }
    list_del(&h->node);
    list_push_back(&g->busy, &h->node);
    struct body *body = r->exchange.message->body;
    r->request_done = !body;
    r->chunked = body && !r->exchange.message->head.has_length;
    if (body) {
        if (job->resend) body_rewind(body);
        body_consumer(body, (struct body_side){on_request_body, h});
    }
    if (write_head(h, job) != 0)
        link_close(h->link, LOG_WARN, "worker-gone", "out of memory");
    else
        stream_dirty(&h->link->stream);
}

static void send_body(struct h1 *h) {
    struct run *r = h->run;
    struct stream *s = &h->link->stream;
    struct body *body = r->exchange.message->body;
    int err = 0;
    if (body_error(body)) { /* its producer is gone; the worker must not wait for the rest */
        link_close(h->link, LOG_WARN, "worker-cut", "the body of its request broke off");
        return;
    }
    while (err == 0 && stream_pending(s) < IO_WRITE_AHEAD) {
        struct slice bytes = body_peek(body);
        if (bytes.n == 0) break;
        err =
            r->chunked ? http1_write_chunk(stream_out(s), bytes) : buffer_append_slice(stream_out(s), bytes);
        if (err == 0) body_consume(body, bytes.n);
    }
    if (err == 0 && body_finished(body)) {
        if (r->chunked) err = http1_write_last_chunk(stream_out(s));
        r->request_done = err == 0;
    }
    if (err != 0) link_close(h->link, LOG_WARN, "worker-gone", "out of memory");
}

static void cancel_job(struct worker_port *port, uint64_t job, enum core_cause cause) {
    (void)cause;
    struct group *g = CONTAINER_OF(port, struct group, port);
    MAGIC_CHECK(g, GROUP_MAGIC);
    LIST_FOR (node, &g->busy) {
        struct h1 *h = CONTAINER_OF(node, struct h1, node);
        struct run *r = h->run;
        if (r->exchange.job != job || r->cancelled) continue;
        r->cancelled = true;
        exchange_cancelled(&r->exchange);
        if (r->exchange.message->body) body_consumer(r->exchange.message->body, (struct body_side){0});
        stream_read_start(&h->link->stream); /* its FIN is what we wait for */
        unsigned ms = (unsigned)(h->link->attach->config.heartbeat_us / 1000) * 4;
        if (stream_end(&h->link->stream))
            stream_user_timeout(&h->link->stream, ms); /* for a peer that is not there any more */
        else
            link_close(h->link, LOG_DEBUG, "worker-cut", "cancelled while it was being written to");
        return;
    }
}

static const struct worker_port_ops port_ops = {.send = send_job, .cancel = cancel_job};

/* ---- what the worker sends ---- */

static void bad(struct h1 *h, const char *why) {
    struct attach *a = h->link->attach;
    a->stats.bad_answers++;
    link_close(h->link, LOG_WARN, "bad-answer", why);
}

static void on_reply_consumed(void *ctx, size_t n) {
    (void)n;
    struct h1 *h = ctx;
    if (!h->run || !h->run->paused) return;
    h->run->paused = false;
    stream_read_start(&h->link->stream);
}

/* Both sides are through with the job: the connection waits again, or has done its last. */
static void finish(struct h1 *h, bool more_than_that) {
    struct run *r = h->run;
    struct core *core = h->link->attach->config.core;
    uint64_t now = link_now(h->link), job = r->exchange.job;
    exchange_end(&r->exchange, now);
    bool again = !h->last && !more_than_that && r->request_done;
    if (!again) count_slot(h, false);
    run_free(h);
    list_del(&h->node);
    list_push_back(&h->group->idle, &h->node);
    h->answered_us = now;
    core_slot_free(core, now, h->group->worker, job);
    if (more_than_that)
        bad(h, "it sends more than its answer");
    else if (!again)
        link_close(h->link, LOG_DEBUG, "worker-closed", "after its last answer");
}

/* Returns how many bytes it used, 0: more is needed, or a negative WEIR_E* with *ret_why. */
static ptrdiff_t read_head(struct h1 *h, struct slice data, const char **ret_why) {
    struct run *r = h->run;
    const struct attach_config *c = &h->link->attach->config;
    ptrdiff_t size = http1_scan(data, &r->scanned, c->max_head);
    if (size <= 0) return size;
    struct http_head head = {0};
    int err = http1_response((struct slice){data.p, (size_t)size}, &r->arena, &head, ret_why);
    if (err != 0) return err;
    r->scanned = 0;
    if (head.status == 101) {
        *ret_why = "it switches protocols unasked";
        return WEIR_EBADANSWER;
    }
    if (head.status < 200) { /* interim: 100 is made by the hub itself, others are dropped */
        exchange_interim(&r->exchange, link_now(h->link), &head);
        arena_fini(&r->arena);
        arena_init(&r->arena, c->max_head * 2, r->room, sizeof(r->room));
        return size;
    }
    r->head = head;
    r->head_done = true;
    http1_body_init(&r->body, &r->head, r->exchange.message->head.method);
    if (!head.keep_alive || r->body.framing == HTTP1_UNTIL_CLOSE || h->group->closes) h->last = true;
    if (slice_eq(head_get_name(&r->head, SLICE("weir-slots")), SLICE("0"))) h->last = true;
    struct body_side producer = {on_reply_consumed, h};
    err = exchange_head(&r->exchange, link_now(h->link), &r->head, r->body.done, c->body_window, producer,
                        ret_why);
    return err ? err : size;
}

static ptrdiff_t read_body(struct h1 *h, struct slice data) {
    struct run *r = h->run;
    size_t used = 0;
    while (used < data.n && !r->body.done) {
        struct slice payload = {0};
        ptrdiff_t n = http1_body_next(&r->body, (struct slice){data.p + used, data.n - used}, &payload);
        if (n <= 0) return n < 0 ? n : (ptrdiff_t)used;
        used += (size_t)n;
        if (payload.n) (void)exchange_data(&r->exchange, link_now(h->link), payload.p, payload.n);
    }
    struct body *body = r->exchange.body;
    if (body && !r->body.done && body_room(body) == 0) {
        r->paused = true;
        stream_read_stop(&h->link->stream);
    }
    return (ptrdiff_t)used;
}

/* Reads on in an answer until data is used up or the answer is whole. */
static ptrdiff_t read_answer(struct h1 *h, struct slice data, const char **ret_why) {
    struct run *r = h->run;
    size_t used = 0;
    while (used < data.n && !(r->head_done && r->body.done)) {
        struct slice rest = {data.p + used, data.n - used};
        ptrdiff_t n = r->head_done ? read_body(h, rest) : read_head(h, rest, ret_why);
        if (n < 0) return n;
        if (n == 0) break;
        used += (size_t)n;
    }
    return (ptrdiff_t)used;
}

static void on_bytes(struct link *l, const char *bytes, size_t n) {
    CAST(struct h1, h, l->state, H1_MAGIC);
    struct run *r = h->run;
    if (!r) {
        bad(h, "it sends without having been asked");
        return;
    }
    if (r->cancelled) {
        link_close(l, LOG_DEBUG, "worker-cut", "it goes on with a cancelled job");
        return;
    }
    r->begun = true;
    struct slice data = {bytes, n};
    bool gathered = buffer_size(&r->in) > 0;
    const char *why = "its answer is not HTTP";
    if (gathered) {
        if (buffer_append(&r->in, bytes, n) != 0) {
            bad(h, "out of memory");
            return;
        }
        data = buffer_slice(&r->in);
    }
    ptrdiff_t used = read_answer(h, data, &why);
    if (l->closing) return;
    if (used < 0) {
        bad(h, why);
    } else if (r->head_done && r->body.done) {
        finish(h, (size_t)used < data.n);
    } else if (gathered) {
        buffer_consume(&r->in, (size_t)used);
    } else if ((size_t)used < n && buffer_append(&r->in, bytes + used, n - (size_t)used) != 0) {
        bad(h, "out of memory");
    }
}

/* ---- the link's side ---- */

static void on_before_write(struct link *l) {
    CAST(struct h1, h, l->state, H1_MAGIC);
    if (h->run && !h->run->request_done && !h->run->cancelled) send_body(h);
}

static void on_drained(struct link *l) {
    stream_dirty(&l->stream);
}

/* The end of a connection may be the end of an answer. */
static void on_end(struct link *l) {
    CAST(struct h1, h, l->state, H1_MAGIC);
    struct run *r = h->run;
    if (r && !r->cancelled && r->head_done && http1_body_eof(&r->body) == 0) {
        h->last = true;
        finish(h, false);
    }
}

/* The connection is gone. A kept one may have been closed by the worker just when the hub sent a job: when
   that is safe, it does not count as an attempt, a few times. */
static void lose_job(struct h1 *h) {
    struct run *r = h->run;
    uint64_t now = link_now(h->link);
    struct message *m = r->exchange.message;
    bool unseen = h->answered_us && !r->begun && method_idempotent(m->head.method) && m->excused < H1_EXCUSED;
    if (r->cancelled)
        core_slot_free(r->exchange.config->core, now, h->group->worker, r->exchange.job);
    else if (unseen) {
        m->excused++;
        exchange_handed_back(&r->exchange, now);
        core_worker_slots(r->exchange.config->core, now, h->group->worker,
                          h->group->slots); /* the others take jobs */
    } else
        exchange_lost(&r->exchange, now);
    run_free(h);
}

static void stop(struct link *l) {
    CAST(struct h1, h, l->state, H1_MAGIC);
    struct group *g = h->group;
    if (g->silent && h->answered_us && !h->last && link_now(l) - h->answered_us < H1_CLOSES_US)
        g->closes = true;
    count_slot(h, false);
    if (h->run) lose_job(h);
    list_del(&h->node);
    h->magic = 0;
    free(h);
    l->state = NULL;
    l->protocol = NULL;
    if (--g->links == 0) group_free(g, "no connection is left");
}

static const struct link_protocol h1_protocol = {.data = on_bytes,
                                                 .before_write = on_before_write,
                                                 .drained = on_drained,
                                                 .end = on_end,
                                                 .stop = stop,
                                                 .grouped = true};

int h1_join(struct link *l, const struct h1_offer *offer) {
    struct h1 *h = calloc(1, sizeof(*h));
    if (!h) return WEIR_ENOMEM;
    struct group *g = offer->alone ? NULL : group_find(l->attach, offer);
    int err = g ? 0 : group_new(l, offer, &g);
    if (err != 0) {
        free(h);
        return err;
    }
    g->links++;
    h->magic = H1_MAGIC;
    h->link = l;
    h->group = g;
    list_push_back(&g->idle, &h->node);
    l->state = h;
    l->protocol = &h1_protocol;
    list_del(&l->node);
    list_push_back(&l->attach->quiet, &l->node);
    return 0;
}

void h1_start(struct link *l) {
    CAST(struct h1, h, l->state, H1_MAGIC);
    count_slot(h, true);
}
