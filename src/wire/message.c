/* SPDX-License-Identifier: Apache-2.0 */
/* Messages: a head and a body that live together; and what a worker's answer asks to be done with
   them. One thread. */
#include "wire/message.h"
#include "weir/weir.h"
#include <stdlib.h>

enum { MESSAGE_SIZE = 1008 }; /* with malloc's own word, a multiple of 16 below 1 KiB */

struct message *message_new(size_t arena_limit) {
    struct message *m = malloc(MESSAGE_SIZE);
    if (!m) return NULL;
    *m = (struct message){.refs = 1};
    arena_init(&m->arena, arena_limit, m + 1, MESSAGE_SIZE - sizeof *m);
    return m;
}

struct message *message_ref(struct message *m) {
    m->refs++;
    return m;
}

void message_unref(struct message *m) {
    if (!m || --m->refs) return;
    if (m->body) body_abandon(m->body); /* whoever still produces it should not wait for a reader */
    body_unref(m->body);
    arena_fini(&m->arena);
    free(m);
}

/* ------------------------------------------------------------ forwarding */

static bool is_content(const struct head_field *f) {
    return f->name_size > 8 && memcmp(f->name, "content-", 8) == 0;
}

/* Adds a copy; the name of a known field needs none. */
static int copy_field(struct message *m, const struct head_field *f) {
    struct slice value = arena_copy(&m->arena, field_value(f));
    if (!value.p) return WEIR_ENOMEM;
    if (f->id != HEAD_OTHER) return head_add(&m->head, &m->arena, f->id, value);
    struct slice name = arena_copy(&m->arena, field_name(f));
    return name.p ? head_add_name(&m->head, &m->arena, name, value) : WEIR_ENOMEM;
}

/* Expect was about the original's content, and has been met. */
static bool stays(const struct head_field *f) {
    return !is_content(f) && f->id != HEAD_EXPECT;
}

static bool comes(const struct head_field *f) {
    return (is_content(f) && f->id != HEAD_CONTENT_LENGTH) || f->id == HEAD_WEIR_KEY;
}

static int copy_fields(struct message *m, const struct http_head *from,
                       bool (*wanted)(const struct head_field *)) {
    for (unsigned i = 0; i < from->count; i++) {
        int r = wanted(&from->fields[i]) ? copy_field(m, &from->fields[i]) : 0;
        if (r) return r;
    }
    return 0;
}

/* A body that has ended knows its length better than the answer's head does (an answer to HEAD has a
   Content-Length and no body). */
static int set_length(struct message *m, const struct http_head *answer, const struct body *body) {
    struct http_head *h = &m->head;
    if (!body)
        h->has_length = true;
    else if (body_ended(body))
        h->has_length = true, h->content_length = body_passed(body);
    else if (answer->has_length)
        h->has_length = true, h->content_length = answer->content_length;
    if (!h->has_length) return 0;
    char digits[SLICE_U64];
    struct slice value = arena_copy(&m->arena, slice_from_u64(digits, h->content_length));
    return value.p ? head_add(h, &m->arena, HEAD_CONTENT_LENGTH, value) : WEIR_ENOMEM;
}

/* Method and target of the next hop. */
static int begin_hop(struct message *m, const struct message *original, struct slice target) {
    struct http_head *h = &m->head;
    h->method = SLICE("POST");
    h->keep_alive = true;
    if (!target.p) target = original->head.target;
    if (slice_eq(target, SLICE("*"))) target = SLICE("/"); /* only OPTIONS may have it */
    h->target = arena_copy(&m->arena, target);
    return h->target.p ? 0 : WEIR_ENOMEM;
}

/* The first method, for those who want to know. */
static int note_method(struct message *m, const struct message *original) {
    if (head_has(&m->head, HEAD_WEIR_ORIGINAL_METHOD)) return 0;
    struct slice method = arena_copy(&m->arena, original->head.method);
    return method.p ? head_add(&m->head, &m->arena, HEAD_WEIR_ORIGINAL_METHOD, method) : WEIR_ENOMEM;
}

static int fill_forward(struct message *m, const struct message *original, struct slice target,
                        const struct http_head *answer, struct body *body) {
    int r = begin_hop(m, original, target);
    if (!r) r = copy_fields(m, &original->head, stays);
    if (r) return r;
    head_strip_hop_by_hop(&m->head);
    if (head_has(answer, HEAD_WEIR_KEY)) head_remove(&m->head, HEAD_WEIR_KEY);
    r = copy_fields(m, answer, comes);
    if (!r) r = note_method(m, original);
    return r ? r : set_length(m, answer, body);
}

/* What was made of an original, or err. It had no limit until here, so that only WEIR_ENOMEM is out of
   memory; it could not become larger than the two heads that it was made of. */
static int made(struct message *m, const struct message *original, int err, struct body *body,
                struct message **ret) {
    size_t limit = original->arena.limit;
    if (err == 0 && limit && m->arena.used > limit) err = WEIR_EHEADTOOBIG;
    if (err != 0) {
        message_unref(m);
        return err;
    }
    m->arena.limit = limit;
    m->body = body;
    *ret = m;
    return 0;
}

int message_forward(const struct message *original, struct slice target, const struct http_head *answer,
                    struct body *body, struct message **ret) {
    struct message *m = message_new(0);
    if (!m) return WEIR_ENOMEM;
    return made(m, original, fill_forward(m, original, target, answer, body), body, ret);
}

/* ------------------------------------------------------------ parts */

static bool part_comes(const struct head_field *f) {
    return f->id == HEAD_WEIR_KEY || !head_name_is_weir(field_name(f)); /* the others are for the hub */
}

/* What the part has itself is not taken from the original, nor its place, if it is a part too. */
static int copy_missing(struct message *m, const struct http_head *from, const struct http_head *part) {
    for (unsigned i = 0; i < from->count; i++) {
        const struct head_field *f = &from->fields[i];
        struct slice name = field_name(f);
        if (!stays(f) || slice_eq(name, SLICE("weir-part")) || head_get_name(part, name).p) continue;
        int r = copy_field(m, f);
        if (r) return r;
    }
    return 0;
}

static int fill_part(struct message *m, const struct message *original, const struct http_head *part,
                     size_t index, size_t count, struct body *body) {
    struct http_head none = {0};
    int r = begin_hop(m, original, (struct slice){0});
    if (!r) r = copy_missing(m, &original->head, part);
    if (r) return r;
    head_strip_hop_by_hop(&m->head);
    r = copy_fields(m, part, part_comes);
    if (r) return r;
    char digits[2][SLICE_U64];
    struct slice at = slice_from_u64(digits[0], index), of = slice_from_u64(digits[1], count);
    char *text = arena_bytes(&m->arena, at.n + of.n + 1);
    if (!text) return WEIR_ENOMEM;
    memcpy(text, at.p, at.n);
    text[at.n] = '/';
    memcpy(text + at.n + 1, of.p, of.n);
    r = head_add_name(&m->head, &m->arena, SLICE("weir-part"), (struct slice){text, at.n + 1 + of.n});
    if (!r) r = set_length(m, &none, body);
    return r ? r : note_method(m, original);
}

int message_part(const struct message *original, const struct http_head *part, size_t index, size_t count,
                 struct body *body, struct message **ret) {
    struct message *m = message_new(0);
    if (!m) return WEIR_ENOMEM;
    return made(m, original, fill_part(m, original, part, index, count, body), body, ret);
}

/* ------------------------------------------------------------ answers */

static int bad_answer(const char *why, const char **ret_why) {
    if (ret_why) *ret_why = why;
    return WEIR_EBADANSWER;
}

static int parse_forward(struct slice value, struct answer *ret, const char **ret_why) {
    struct answer answer = {.kind = ANSWER_FORWARD};
    size_t n = 0;
    while (n < value.n && value.p[n] != ' ' && value.p[n] != '\t') n++;
    answer.service = (struct slice){value.p, n};
    if (!text_is_service(answer.service)) return bad_answer("Weir-Forward names no service", ret_why);
    if (n < value.n) {
        answer.target = slice_trim((struct slice){value.p + n, value.n - n});
        if (!text_is_target(answer.target)) return bad_answer("Weir-Forward has a bad target", ret_why);
    }
    *ret = answer;
    return 0;
}

/* SERVICE [; gather=SERVICE2] */
static int parse_scatter(struct slice value, struct answer *ret, const char **ret_why) {
    struct answer answer = {.kind = ANSWER_SCATTER, .service = slice_next(&value, ';')};
    if (!text_is_service(answer.service)) return bad_answer("Weir-Scatter names no service", ret_why);
    while (value.p) {
        struct slice parameter = slice_next(&value, ';'), name = slice_next(&parameter, '=');
        if (!slice_eq_nocase(name, SLICE("gather"))) continue;
        answer.gather = slice_trim(parameter);
        if (!text_is_service(answer.gather))
            return bad_answer("gather= of Weir-Scatter names no service", ret_why);
    }
    *ret = answer;
    return 0;
}

int answer_parse(const struct http_head *head, struct answer *ret, const char **ret_why) {
    const struct head_field *directive = NULL;
    for (unsigned i = 0; i < head->count; i++) {
        const struct head_field *f = &head->fields[i];
        if (f->id != HEAD_WEIR_FORWARD && f->id != HEAD_WEIR_SCATTER) continue;
        if (directive) return bad_answer("more than one Weir-Forward or Weir-Scatter", ret_why);
        directive = f;
    }
    if (!directive) {
        *ret = (struct answer){.kind = ANSWER_REPLY};
        return 0;
    }
    struct slice value = slice_trim(field_value(directive));
    int err = directive->id == HEAD_WEIR_FORWARD ? parse_forward(value, ret, ret_why)
                                                 : parse_scatter(value, ret, ret_why);
    if (err == 0 && head_has(head, HEAD_WEIR_COST) && !slice_u64(head_get(head, HEAD_WEIR_COST), &ret->cost))
        return bad_answer("Weir-Cost is not a number", ret_why);
    return err;
}
