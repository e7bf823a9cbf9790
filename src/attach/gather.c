/* SPDX-License-Identifier: Apache-2.0 */
#include "attach/gather.h"
#include "base/assert.h"
#include "base/random.h"
#include "io/stream.h"
#include "weir/weir.h"
#include "wire/multipart.h"
#include "wire/problem.h"
#include <stdlib.h>

enum { GATHER_MAGIC = 0x67617468, WINDOW_LEAST = 16, FIELDS_KEPT = 8 };

enum part_state { PART_NEW, PART_KNOWN, PART_ASKED, PART_HEARD, PART_OVER };

struct part {
    struct requester requester; /* first */
    struct gather *gather;
    struct list node; /* in gather.heard: its answer is whole */
    enum part_state state;
    bool by_worker; /* its answer is, and not the hub's */
    unsigned status;
    struct multipart_part given; /* in gather.bytes */
    struct body *body;           /* of the answer, as it comes in; a reference */
    struct buffer answer;
    char *text; /* the answer's content fields, as fields has them */
    struct multipart_field fields[FIELDS_KEPT];
    size_t field_count, held; /* held: bytes of the text and of the answer's body */
};

struct gather {
    unsigned magic;
    struct gatherer gatherer;
    struct gathers *owner;
    struct list all, busy, heard;
    uint64_t request; /* in the core */
    struct message *original;
    struct requester *durable; /* is told of parts; NULL: it is not durable */
    struct buffer bytes;       /* the scattered body */
    size_t held;               /* bytes of it and of the answers */
    struct slice service, to;  /* to: the service that gets what was gathered; empty: the client */
    struct part *parts;
    size_t count, asked, over; /* asked: submitted; over: answered */
    bool too_big, starved;
    char names[]; /* of the services */
};

/* ---- memory ---- */

bool gathers_hold(struct gathers *g, size_t held, size_t n) {
    if (n > g->max_bytes || held > g->max_bytes - n) return false;
    if (n > g->max_total || g->held > g->max_total - n) return false;
    g->held += n;
    return true;
}

void gathers_release(struct gathers *g, size_t n) {
    g->held -= n;
}

void gathers_init(struct gathers *g) {
    list_init(&g->all);
    list_init(&g->busy);
}

static void part_fini(struct part *p) {
    body_leave(&p->body);
    list_del(&p->node);
    buffer_fini(&p->answer);
    free(p->text);
    p->text = NULL;
}

static void gather_free(struct gather *g) {
    for (size_t i = 0; i < g->count; i++) part_fini(&g->parts[i]);
    gathers_release(g->owner, g->held);
    list_del(&g->all);
    list_del(&g->busy);
    buffer_fini(&g->bytes);
    message_unref(g->original);
    free(g->parts);
    g->magic = 0;
    free(g);
}

void gathers_free(struct gathers *g) {
    while (!list_empty(&g->all)) gather_free(CONTAINER_OF(g->all.next, struct gather, all));
}

static void on_gone(struct gatherer *gatherer) {
    struct gather *g = CONTAINER_OF(gatherer, struct gather, gatherer);
    MAGIC_CHECK(g, GATHER_MAGIC);
    gather_free(g);
}

static void wake(struct gather *g) {
    list_del(&g->busy);
    list_push_back(&g->owner->busy, &g->busy);
}

/* ---- what comes of a part ---- */

/* False: the gather ends, for there is too much of it. */
static bool hold(struct part *p, size_t n) {
    struct gather *g = p->gather;
    if (!gathers_hold(g->owner, g->held, n)) {
        g->too_big = true;
        wake(g);
        return false;
    }
    g->held += n;
    p->held += n;
    return true;
}

/* What it has answered so far goes. */
static void drop_answer(struct part *p) {
    gathers_release(p->gather->owner, p->held);
    p->gather->held -= p->held;
    p->held = 0;
    buffer_reset(&p->answer);
    free(p->text);
    p->text = NULL;
}

/* A part of a durable job has answered, and need not be run again. */
static void tell_durable(const struct part *p) {
    struct requester *r = p->gather->durable;
    struct buffer fields;
    buffer_init(&fields);
    int err = 0;
    for (size_t i = 0; i < p->field_count && err == 0; i++)
        err = buffer_printf(&fields, "%.*s: %.*s\r\n", SLICE_ARG(p->fields[i].name),
                            SLICE_ARG(p->fields[i].value));
    struct requester_part part = {(unsigned)(p - p->gather->parts), p->status, buffer_slice(&fields),
                                  buffer_slice(&p->answer)};
    if (err == 0) r->ops->part(r, &part);
    buffer_fini(&fields);
}

/* Its body, if it has one, is let go of in the turn: not from within a call of the body's own. */
static void part_heard(struct part *p) {
    p->state = PART_HEARD;
    if (p->gather->durable && p->by_worker) tell_durable(p);
    list_push_back(&p->gather->heard, &p->node);
    wake(p->gather);
}

static void part_failed(struct part *p, const struct failure *why) {
    struct gather *g = p->gather;
    struct problem problem = {.status = why->status ? why->status : error_status(why->error),
                              .detail = slice_of(why->detail ? why->detail : error_text(why->error)),
                              .service = g->service};
    if (problem.status == 0) problem.status = 502;
    drop_answer(p);
    if (problem_write(&p->answer, &problem) != 0) g->starved = true;
    p->status = problem.status;
    p->fields[0] = (struct multipart_field){SLICE("content-type"), SLICE("application/problem+json")};
    p->field_count = 1;
    p->by_worker = false;
    part_heard(p);
}

static void on_taken(struct requester *r) {
    (void)r;
}

static void on_fail(struct requester *r, const struct failure *why) {
    part_failed(CONTAINER_OF(r, struct part, requester), why);
}

static void pump(struct part *p) {
    struct gather *g = p->gather;
    struct slice s;
    while ((s = body_peek(p->body)).n > 0) {
        if (!hold(p, s.n)) return;
        if (buffer_append_slice(&p->answer, s) != 0) g->starved = true;
        body_consume(p->body, s.n);
    }
    int err = body_error(p->body);
    if (err != 0)
        part_failed(p, &(struct failure){.error = WEIR_EWORKERGONE, .detail = "its answer was cut off"});
    else if (body_finished(p->body))
        part_heard(p);
}

static void on_body(void *ctx, size_t n) {
    (void)n;
    struct part *p = ctx;
    if (p->state == PART_ASKED && !p->gather->too_big) pump(p);
}

/* The fields that say what the content is. False: the gather ends. */
static bool keep_fields(struct part *p, const struct http_head *head) {
    size_t n = 0, size = 0;
    for (unsigned pass = 0; pass < 2; pass++) {
        char *at = p->text;
        n = 0;
        for (unsigned i = 0; i < head->count && n < FIELDS_KEPT; i++) {
            const struct head_field *f = &head->fields[i];
            bool content = f->name_size > 8 && memcmp(f->name, "content-", 8) == 0;
            if (!content || f->id == HEAD_CONTENT_LENGTH) continue;
            if (pass == 0) {
                size += f->name_size + f->value_size;
            } else {
                p->fields[n].name = (struct slice){memcpy(at, f->name, f->name_size), f->name_size};
                at += f->name_size;
                p->fields[n].value = (struct slice){at, f->value_size};
                at = mempcpy(at, f->value, f->value_size);
            }
            n++;
        }
        if (pass > 0) continue;
        if (!hold(p, size)) return false;
        if (!(p->text = malloc(size + 1))) {
            p->gather->starved = true;
            return true;
        }
    }
    p->field_count = n;
    return true;
}

static void on_reply(struct requester *r, const struct http_head *head, struct body *body) {
    struct part *p = CONTAINER_OF(r, struct part, requester);
    p->by_worker = true;
    p->status = head->status;
    if (!keep_fields(p, head)) return;
    if (!body) {
        part_heard(p);
        return;
    }
    p->body = body_ref(body);
    body_consumer(body, (struct body_side){on_body, p});
    pump(p);
}

static const struct requester_ops part_ops = {.taken = on_taken, .reply = on_reply, .fail = on_fail};

/* ---- submitting parts ---- */

static int part_message(const struct gather *g, const struct part *p, struct message **ret,
                        uint64_t *ret_cost, const char **ret_why) {
    struct arena arena;
    struct http_head head;
    arena_init(&arena, g->owner->max_head * 4, NULL, 0);
    int err = multipart_head(&p->given, g->owner->max_head, &arena, &head, ret_why);
    struct slice cost = err == 0 ? head_get(&head, HEAD_WEIR_COST) : (struct slice){0};
    if (cost.p && !slice_u64(cost, ret_cost)) {
        *ret_why = "Weir-Cost of a part is not a number";
        err = WEIR_EMALFORMED;
    }
    struct body *body = err == 0 ? body_whole(p->given.body, p->given.body.n) : NULL;
    if (err == 0) {
        size_t index = (size_t)(p - g->parts);
        err = body ? message_part(g->original, &head, index, g->count, body, ret) : WEIR_ENOMEM;
        if (err != 0) *ret_why = gather_hop_failure(err).detail;
    }
    if (err != 0) body_unref(body);
    arena_fini(&arena);
    return err;
}

/* WEIR_EFULL: not now; WEIR_ESTATE: the request is over. Another failure is the part's answer. */
static int submit(struct gather *g, struct part *p, uint64_t now) {
    struct message *m = NULL;
    const char *why = NULL;
    struct core_part part = {.requester = &p->requester, .service = g->service};
    int err = part_message(g, p, &m, &part.cost, &why);
    struct failure failure = {.error = err, .detail = why};
    if (err == WEIR_EMALFORMED || err == WEIR_EHEADTOOBIG) failure.status = 502; /* a worker wrote it */
    uint64_t id;
    if (err == 0) {
        part.message = m;
        part.bytes = m->arena.used + p->given.body.n;
        p->state = PART_ASKED;
        err = core_part_submit(g->owner->core, now, g->request, &part, &id, &failure);
        if (err == 0) return 0;
        message_unref(m);
        p->state = PART_NEW;
        if (err == WEIR_ESTATE || (err == WEIR_EFULL && g->asked > g->over)) return err;
    }
    part_failed(p, &failure);
    return 0;
}

static void submit_more(struct gather *g, uint64_t now) {
    uint64_t window = 2 * core_service_slots(g->owner->core, g->service);
    if (window < WINDOW_LEAST) window = WINDOW_LEAST;
    while (g->asked < g->count && g->asked - g->over < window) {
        if (g->parts[g->asked].state == PART_KNOWN) {
            g->asked++;
            g->over++;
            continue;
        }
        if (submit(g, &g->parts[g->asked], now) != 0) return;
        g->asked++;
    }
}

/* ---- the end ---- */

/* The answers as one body, each part's memory being given back as it is copied. */
static struct body *gathered(struct gather *g, struct slice boundary) {
    struct buffer out;
    buffer_init(&out);
    int err = 0;
    for (size_t i = 0; i < g->count && err == 0; i++) {
        struct part *p = &g->parts[i];
        struct multipart_field fields[FIELDS_KEPT + 1];
        char status[SLICE_U64];
        fields[0] = (struct multipart_field){SLICE("weir-part-status"), slice_from_u64(status, p->status)};
        memcpy(fields + 1, p->fields, p->field_count * sizeof(*fields));
        err = multipart_write_part(&out, boundary, fields, p->field_count + 1, buffer_slice(&p->answer));
        part_fini(p);
    }
    if (err == 0) err = multipart_write_end(&out, boundary);
    struct body *body = err == 0 ? body_whole(buffer_slice(&out), buffer_size(&out)) : NULL;
    buffer_fini(&out);
    return body;
}

/* A head with that Content-Type and the body's length. */
static int content_head(struct http_head *head, struct arena *a, struct slice type, const struct body *body) {
    char digits[SLICE_U64];
    struct slice length = arena_copy(a, slice_from_u64(digits, body_passed(body)));
    *head = (struct http_head){.status = 200, .has_length = true, .content_length = body_passed(body)};
    if (!length.p || head_add(head, a, HEAD_CONTENT_TYPE, type) != 0) return WEIR_ENOMEM;
    return head_add(head, a, HEAD_CONTENT_LENGTH, length);
}

struct failure gather_hop_failure(int err) {
    if (err != WEIR_EHEADTOOBIG) return (struct failure){.error = err};
    return (struct failure){
        .error = err,
        .status = 502, /* it is not the client's that is too big */
        .detail = "the head for the next hop has over 256 fields, or is over four times max-head"};
}

/* As the next one. */
static int go_on(struct gather *g, uint64_t now, const struct http_head *head, struct body *body) {
    struct core *core = g->owner->core;
    struct message *next;
    int err = message_forward(g->original, (struct slice){0}, head, body_ref(body), &next);
    if (err != 0) {
        struct failure why = gather_hop_failure(err);
        body_unref(body);
        return core_gather_fail(core, now, g->request, &why);
    }
    struct requester *r = core_gather_hand_over(core, now, g->request);
    if (r) {
        r->ops->forward(r, &(struct requester_hop){.service = g->to, .message = next});
        return 0;
    }
    struct core_hop hop = {g->to, next, next->arena.used + body_held(body), 0};
    err = core_gather_forward(core, now, g->request, &hop);
    if (err != 0) message_unref(next);
    return err;
}

/* WEIR_ESTATE: the request has ended before. */
static int reply(struct gather *g, uint64_t now, const struct http_head *head, struct body *body) {
    struct requester *r = core_gather_reply(g->owner->core, now, g->request);
    if (!r) return WEIR_ESTATE;
    bool bodyless = slice_eq(g->original->head.method, SLICE("HEAD"));
    r->ops->reply(r, head, bodyless ? NULL : body);
    return 0;
}

/* The core has been told what becomes of the request; when it says that this was late, on_gone is to come. */
static void told(struct gather *g, int err) {
    if (err != WEIR_ESTATE) gather_free(g);
}

static void finish(struct gather *g, uint64_t now) {
    uint64_t bits[2];
    char boundary[MULTIPART_BOUNDARY], type[MULTIPART_TYPE];
    struct failure why = {.error = WEIR_ENOMEM};
    if (random_entropy(&bits[0]) != 0 || random_entropy(&bits[1]) != 0) why.error = WEIR_EIO;
    multipart_make_boundary(bits, boundary);
    struct slice line = slice_of(boundary);
    struct body *body = g->starved || why.error == WEIR_EIO ? NULL : gathered(g, line);
    struct arena arena;
    struct http_head head;
    arena_init(&arena, 0, NULL, 0);
    int err;
    if (!body || content_head(&head, &arena, multipart_type(line, type), body) != 0)
        err = core_gather_fail(g->owner->core, now, g->request, &why);
    else if (g->to.n)
        err = go_on(g, now, &head, body);
    else
        err = reply(g, now, &head, body);
    body_unref(body);
    arena_fini(&arena);
    told(g, err);
}

static void turn(struct gather *g, uint64_t now) {
    if (g->too_big) {
        struct failure why = {
            .error = WEIR_ETOOBIG, .status = 502, .detail = "the parts' answers are over max-gather"};
        told(g, core_gather_fail(g->owner->core, now, g->request, &why));
        return;
    }
    struct list *node;
    while ((node = list_pop_front(&g->heard))) {
        struct part *p = CONTAINER_OF(node, struct part, node);
        body_leave(&p->body);
        p->state = PART_OVER;
        g->over++;
    }
    submit_more(g, now);
    if (g->over == g->count) finish(g, now);
}

bool gathers_turn(struct gathers *g) {
    uint64_t now = io_now_us(g->loop);
    struct list *node;
    bool any = false;
    while ((node = list_pop_front(&g->busy))) {
        turn(CONTAINER_OF(node, struct gather, busy), now);
        any = true;
    }
    return any;
}

/* ---- the beginning ---- */

/* How many parts there are; with parts, notes them. WEIR_EBADANSWER: it is not a multipart body. */
static int read_parts(struct slice body, struct slice boundary, struct part *parts, size_t *ret_count,
                      const char **ret_why) {
    struct multipart m;
    struct multipart_part part;
    int more;
    *ret_count = 0;
    multipart_init(&m, body, boundary);
    while ((more = multipart_next(&m, &part, ret_why)) > 0) {
        if (parts) parts[*ret_count].given = part;
        ++*ret_count;
    }
    return more < 0 ? WEIR_EBADANSWER : 0;
}

int gather_count(struct slice body, struct slice boundary, size_t *ret_count, const char **ret_why) {
    return read_parts(body, boundary, NULL, ret_count, ret_why);
}

static struct gather *gather_new(struct gathers *owner, struct message *original, struct slice service,
                                 struct slice to) {
    struct gather *g = calloc(1, sizeof(*g) + service.n + to.n);
    if (!g) return NULL;
    *g = (struct gather){
        .magic = GATHER_MAGIC, .gatherer = {on_gone}, .owner = owner, .original = message_ref(original)};
    char *end = mempcpy(g->names, service.p, service.n);
    if (to.n) memcpy(end, to.p, to.n);
    g->service = (struct slice){g->names, service.n};
    g->to = (struct slice){end, to.n};
    list_init(&g->busy);
    list_init(&g->heard);
    list_push_back(&owner->all, &g->all);
    return g;
}

/* Once the core has said that they are not too many. */
static void make_parts(struct gather *g, size_t count, struct slice boundary) {
    const char *why;
    g->parts = calloc(count + 1, sizeof(*g->parts));
    if (!g->parts) {
        g->starved = true; /* and, having none, it fails in its first turn */
        return;
    }
    g->count = count;
    for (size_t i = 0; i < count; i++) {
        g->parts[i].requester.ops = &part_ops;
        g->parts[i].gather = g;
        list_init(&g->parts[i].node);
    }
    (void)read_parts(buffer_slice(&g->bytes), boundary, g->parts, &count, &why);
}

int gather_start(struct gathers *owner, uint64_t now, const struct gather_job *job, struct buffer *body,
                 const char **ret_why) {
    struct slice bytes = buffer_slice(body), boundary = slice_of(job->boundary);
    size_t count;
    int err = read_parts(bytes, boundary, NULL, &count, ret_why);
    if (err != 0) return err;
    struct gather *g = gather_new(owner, job->message, job->answer->service, job->answer->gather);
    if (!g) return WEIR_ENOMEM;
    unsigned asked = count < UINT32_MAX ? (unsigned)count : UINT32_MAX;
    err = core_job_scatter(owner->core, now, job->worker, job->job, asked, &g->gatherer, &g->request);
    if (err != 0) {
        gather_free(g);
        return err;
    }
    g->bytes = *body;
    g->held = bytes.n;
    buffer_init(body);
    make_parts(g, count, boundary);
    wake(g);
    return 0;
}

/* ---- a durable job's ---- */

/* Lines of fields into the part's own. False: out of memory, or too many bytes. */
static bool know_fields(struct part *p, struct slice lines) {
    if (!hold(p, lines.n) || !(p->text = malloc(lines.n + 1))) return false;
    memcpy(p->text, lines.p ? lines.p : "", lines.n);
    struct slice rest = {p->text, lines.n};
    while (rest.n > 0 && p->field_count < FIELDS_KEPT) {
        struct slice line = slice_next(&rest, '\n'), value = line;
        if (line.n > 0 && line.p[line.n - 1] == '\r') value.n--;
        struct slice name = slice_next(&value, ':');
        if (name.n > 0) p->fields[p->field_count++] = (struct multipart_field){name, slice_trim(value)};
    }
    return true;
}

static bool know(struct gather *g, const struct gather_known *k) {
    struct part *p = k->index < g->count ? &g->parts[k->index] : NULL;
    if (!p || p->state != PART_NEW) return true; /* it is not of these parts */
    if (!know_fields(p, k->fields) || !hold(p, k->body.n)) return false;
    if (k->body.n && buffer_append_slice(&p->answer, k->body) != 0) return false;
    p->status = k->status;
    p->state = PART_KNOWN;
    return true;
}

/* Too big by itself, or just now, beside others. */
static int no_room(const struct gathers *g, size_t held, size_t n) {
    return n > g->max_bytes || held > g->max_bytes - n ? WEIR_ETOOBIG : WEIR_EFULL;
}

static int resume(struct gather *g, uint64_t now, const struct gather_stored *stored, size_t count,
                  struct failure *ret_why) {
    for (size_t i = 0; i < stored->known_count; i++)
        if (!know(g, &stored->known[i]))
            return ret_why->error =
                       g->too_big ? no_room(g->owner, g->held, stored->known[i].body.n) : WEIR_ENOMEM;
    unsigned asked = count < UINT32_MAX ? (unsigned)count : UINT32_MAX;
    return core_scatter(g->owner->core, now, &stored->request, asked, &g->gatherer, &g->request, ret_why);
}

int gather_resume(struct gathers *owner, uint64_t now, const struct gather_stored *stored,
                  struct buffer *body, uint64_t *ret_request, struct failure *ret_why) {
    struct message *m = stored->request.message;
    struct slice bytes = buffer_slice(body);
    char boundary[MULTIPART_BOUNDARY];
    size_t count = 0;
    *ret_why = (struct failure){.error = WEIR_EBADANSWER};
    int err = multipart_boundary(head_get(&m->head, HEAD_CONTENT_TYPE), boundary, &ret_why->detail);
    if (err == 0) err = read_parts(bytes, slice_of(boundary), NULL, &count, &ret_why->detail);
    if (err != 0) return WEIR_EBADANSWER;
    if (!gathers_hold(owner, 0, bytes.n)) return ret_why->error = no_room(owner, 0, bytes.n);
    struct gather *g = gather_new(owner, m, stored->service, stored->gather);
    if (!g) {
        gathers_release(owner, bytes.n);
        return ret_why->error = WEIR_ENOMEM;
    }
    g->durable = stored->request.requester;
    g->bytes = *body;
    g->held = bytes.n;
    make_parts(g, count, slice_of(boundary));
    err = g->starved ? (ret_why->error = WEIR_ENOMEM) : resume(g, now, stored, count, ret_why);
    if (err != 0) {
        buffer_init(&g->bytes); /* still the caller's */
        gather_free(g);
        return err;
    }
    buffer_init(body);
    *ret_request = g->request;
    wake(g);
    return 0;
}
