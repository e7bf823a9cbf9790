/* SPDX-License-Identifier: Apache-2.0 */
/* Durable jobs (docs/protocol.md "Durable jobs"), from a client's side. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/list.h"
#include "lib/client.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- submitting ---- */

/* What the connection, or this file, sees to. */
static bool may_be_given(struct slice name) {
    static const char *const own[] = {"host",       "content-length", "transfer-encoding",
                                      "connection", "expect",         "upgrade",
                                      "te",         "trailer",        "prefer"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (slice_eq_nocase(name, slice_of(own[i]))) return false;
    return text_is_token(name);
}

/* *ret_keyed: there is an Idempotency-Key among them. */
static int add_fields(struct buffer *to, const weir_request *r, bool *ret_keyed) {
    for (size_t i = 0; i < r->field_count; i++) {
        struct slice name = slice_of(r->fields[i].name), value = slice_of(r->fields[i].value);
        if (!value.p || !may_be_given(name) || !text_is_field_value(value)) return WEIR_EINVAL;
        if (slice_eq_nocase(name, SLICE("idempotency-key"))) *ret_keyed = true;
        (void)buffer_printf(to, "%s: %s\r\n", name.p, value.p);
    }
    return 0;
}

static int add_key(struct buffer *to) {
    uint64_t bits[2];
    int err = random_entropy(&bits[0]);
    if (!err) err = random_entropy(&bits[1]);
    if (!err) err = buffer_printf(to, "Idempotency-Key: %016" PRIx64 "%016" PRIx64 "\r\n", bits[0], bits[1]);
    return err;
}

static int write_fields(struct buffer *to, const weir_request *r) {
    bool keyed = false;
    int err = add_fields(to, r, &keyed);
    if (!err && !keyed) err = add_key(to);
    if (!err && r->delay_ms) err = buffer_printf(to, "Weir-Delay: %" PRIu64 "ms\r\n", r->delay_ms);
    return err ? err : buffer_append_slice(to, SLICE("Prefer: respond-async\r\n"));
}

/* The id at the end of Location. */
static int read_id(struct weir_client *c, const struct dialog_answer *a, char ret_id[WEIR_JOB_ID_SIZE]) {
    struct slice where = head_get_name(&a->head, SLICE("location"));
    if (a->status != 202 || !head_get_name(&a->head, SLICE("preference-applied")).p) {
        snprintf(c->detail, sizeof c->detail, "it stores no jobs: it has answered %u at once", a->status);
        return WEIR_ESTATE;
    }
    const char *slash = where.n ? memrchr(where.p, '/', where.n) : NULL;
    size_t n = slash ? (size_t)(where.p + where.n - slash - 1) : 0;
    if (n == 0 || n >= WEIR_JOB_ID_SIZE) return WEIR_EPROTOCOL;
    memcpy(ret_id, slash + 1, n);
    ret_id[n] = '\0';
    return 0;
}

int weir_client_submit(weir_client *client, const weir_request *request, char ret_id[WEIR_JOB_ID_SIZE]) {
    MAGIC_CHECK(client, CLIENT_MAGIC);
    const weir_request *r = request;
    struct slice body = {r->body, r->size};
    struct client_ask ask = {
        .method = r->method ? r->method : "POST", .body = r->body ? &body : NULL, .safe = true};
    struct dialog_answer a;
    client_begin(client, 0);
    if (!r->target || !text_is_target(slice_of(r->target)) || !text_is_token(slice_of(ask.method)) ||
        (r->size && !r->body))
        return WEIR_EINVAL;
    int err = write_fields(&ask.fields, r);
    if (err) {
        client_ask_fini(&ask);
        return err;
    }
    (void)buffer_append_slice(&ask.target, slice_of(r->target));
    err = client_ask(client, &ask, &a);
    if (err) return err;
    err = client_judge(client, &a);
    if (!err || a.status < 400) err = read_id(client, &a, ret_id);
    dialog_answer_fini(&a);
    return err == WEIR_ENOTFOUND ? WEIR_ENOSERVICE : err;
}

/* ---- what is known of a job ---- */

struct durable_box {
    weir_durable job;
    json_t *root;
    struct dialog_answer answer;
};

static void begin_target(struct client_ask *ask, const char *id, const char *more) {
    (void)buffer_append_slice(&ask->target, SLICE("/-/jobs"));
    dialog_add_segment(&ask->target, id);
    (void)buffer_printf(&ask->target, "%s", more);
}

static bool is_end(const char *state) {
    static const char *const ends[] = {"done", "failed", "dead", "cancelled"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (strcmp(state, ends[i]) == 0) return true;
    return false;
}

static unsigned number_of(const json_t *o, const char *name) {
    json_int_t n = json_integer_value(json_object_get(o, name));
    return n > 0 && n < UINT32_MAX ? (unsigned)n : 0;
}

static const char *text_of(const json_t *o, const char *name) {
    return json_string_value(json_object_get(o, name));
}

static int read_job(struct durable_box *b) {
    struct slice body;
    int err = client_body(&b->answer, &body);
    if (err) return err;
    const json_t *o = b->root = json_loadb(body.p, body.n, 0, NULL);
    weir_durable *job = &b->job;
    job->json = body.p;
    job->state = text_of(o, "state");
    job->service = text_of(o, "service");
    job->progress = text_of(o, "progress");
    job->reason = text_of(o, "reason");
    job->status = number_of(o, "status");
    job->hop = number_of(o, "hop");
    job->failed_attempts = number_of(o, "failed_attempts");
    if (!job->state || !job->service) return WEIR_EPROTOCOL;
    job->ended = is_end(job->state);
    return 0;
}

void weir_durable_free(weir_durable **job) {
    if (!job || !*job) return;
    struct durable_box *b = CONTAINER_OF(*job, struct durable_box, job);
    json_decref(b->root);
    dialog_answer_fini(&b->answer);
    free(b);
    *job = NULL;
}

static int look(struct weir_client *c, const char *id, weir_durable **ret) {
    struct client_ask ask = {.method = "GET", .safe = true};
    struct dialog_answer a;
    begin_target(&ask, id, "");
    int err = client_do(c, &ask, &a);
    if (err) return err;
    struct durable_box *b = calloc(1, sizeof *b);
    if (!b) {
        dialog_answer_fini(&a);
        return WEIR_ENOMEM;
    }
    b->answer = a;
    weir_durable *job = &b->job;
    err = a.status == 200 ? read_job(b) : WEIR_EPROTOCOL;
    if (err)
        weir_durable_free(&job);
    else
        *ret = job;
    return err;
}

int weir_client_state(weir_client *client, const char *id, weir_durable **ret_job) {
    MAGIC_CHECK(client, CLIENT_MAGIC);
    client_begin(client, 0);
    return id && *id ? look(client, id, ret_job) : WEIR_EINVAL;
}

int weir_client_cancel(weir_client *client, const char *id) {
    MAGIC_CHECK(client, CLIENT_MAGIC);
    struct client_ask ask = {.method = "DELETE", .safe = true};
    weir_durable *job;
    client_begin(client, 0);
    if (!id || !*id) return WEIR_EINVAL;
    begin_target(&ask, id, "");
    int err = client_do(client, &ask, NULL);
    if (err != WEIR_ESTATE) return err;
    int looked = look(client, id, &job);
    if (looked) return looked;
    bool cancelled = strcmp(job->state, "cancelled") == 0;
    if (!cancelled) snprintf(client->detail, sizeof client->detail, "it has ended: %s", job->state);
    weir_durable_free(&job);
    return cancelled ? 0 : err;
}

/* ---- a job's answer ---- */

struct answer_box {
    weir_answer answer;
    struct dialog_answer from;
};

static int read_fields(struct answer_box *b) {
    struct dialog_answer *from = &b->from;
    weir_field *fields = arena_alloc(&from->arena, from->head.count * sizeof *fields);
    if (!fields) return WEIR_ENOMEM;
    for (unsigned i = 0; i < from->head.count; i++) {
        const struct head_field *f = &from->head.fields[i];
        fields[i] = (weir_field){arena_copy(&from->arena, field_name(f)).p,
                                 arena_copy(&from->arena, field_value(f)).p};
        if (!fields[i].name || !fields[i].value) return WEIR_ENOMEM;
    }
    b->answer.fields = fields;
    b->answer.field_count = from->head.count;
    return 0;
}

void weir_answer_free(weir_answer **answer) {
    if (!answer || !*answer) return;
    struct answer_box *b = CONTAINER_OF(*answer, struct answer_box, answer);
    dialog_answer_fini(&b->from);
    free(b);
    *answer = NULL;
}

const char *weir_answer_header(const weir_answer *answer, const char *name) {
    for (size_t i = 0; i < answer->field_count; i++)
        if (slice_eq_nocase(slice_of(answer->fields[i].name), slice_of(name))) return answer->fields[i].value;
    return NULL;
}

/* Takes over what from holds. */
static int hand_over(struct dialog_answer *from, weir_answer **ret) {
    struct answer_box *b = calloc(1, sizeof *b);
    struct slice body;
    if (!b) {
        dialog_answer_fini(from);
        return WEIR_ENOMEM;
    }
    b->from = *from;
    weir_answer *answer = &b->answer;
    answer->status = from->status;
    int err = read_fields(b);
    if (!err) err = client_body(&b->from, &body);
    if (err) {
        weir_answer_free(&answer);
        return err;
    }
    answer->body = body.p;
    answer->size = body.n;
    *ret = answer;
    return 0;
}

/* 0: its answer was not there, so far as is known; *ret_ended: the status that it has, by now. */
static int look_whether_ended(struct weir_client *c, const char *id, unsigned *ret_ended) {
    weir_durable *job;
    int err = look(c, id, &job);
    if (err) return err;
    *ret_ended = job->ended ? job->status : 0;
    bool cancelled = job->ended && !job->status;
    weir_durable_free(&job);
    return cancelled ? WEIR_ECANCELLED : 0;
}

/*
 * A stored answer comes just as it was given, of whatever status. Of 202 and of errors it is not plain
 * whether they are it, or what the hub says itself: they are when the job was known to have ended with that
 * status.
 */
int weir_client_result(weir_client *client, const char *id, unsigned wait_ms, weir_answer **ret_answer) {
    MAGIC_CHECK(client, CLIENT_MAGIC);
    client_begin(client, wait_ms);
    if (!id || !*id) return WEIR_EINVAL;
    uint64_t until_ms = clock_mono_ms() + wait_ms, began_ms, ms;
    unsigned ended = 0, knew;
    int said;
    do {
        struct client_ask ask = {.method = "GET", .safe = true, .raw = true};
        struct dialog_answer a;
        char wait[40];
        began_ms = clock_mono_ms();
        ms = client_poll_ms(until_ms);
        snprintf(wait, sizeof wait, "/result?wait=%" PRIu64 "ms", ms);
        begin_target(&ask, id, wait);
        int err = client_ask(client, &ask, &a);
        if (err) return err;
        bool plain = a.status >= 200 && a.status < 400 && a.status != 202;
        if (plain || (ended && ended == a.status)) return hand_over(&a, ret_answer);
        said = client_judge(client, &a);
        dialog_answer_fini(&a);
        knew = ended;
        err = look_whether_ended(client, id, &ended);
        if (err) return err;
    } while (ended ? !knew || client_sleep(client, CLIENT_EARLY_MS)
                   : client_poll_again(client, began_ms, ms, until_ms));
    return said ? said : WEIR_EAGAIN;
}
