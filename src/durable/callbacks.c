/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call is one job on its way: sent, then settled with the store. While it is there, what the store still
 * has of the job as due is passed over. A dead job may be revived and end a second time meanwhile: then the
 * store, which has been or is about to be told that nothing is due, is told that something is.
 */
#include "durable/callbacks.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "weir/weir.h"
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    CALL_MAGIC = 0x63616c6c,
    ASK_BELOW = CALLBACKS_AT_ONCE / 2, /* calls; then the store is asked for more */
    AGAIN_MS = 1000,                   /* what the store or memory had no room for is tried again */
    BACKOFF_MS = 1000,
    BACKOFF_MOST_MS = 3600 * 1000,
    DELIVERY_FIELD = sizeof("Weir-Delivery: ") + STORE_ID_TEXT,
    ATTEMPT_FIELD = sizeof("Weir-Attempt: ") + SLICE_U64,
    SIGNATURE_FIELD = sizeof("Weir-Signature: t=,v1=") + SLICE_U64 + 2 * STORE_HASH
};

struct callbacks {
    struct callbacks_config config;
    struct callbacks_stats stats;
    struct list calls;
    struct store_op due;
    bool asking, draining;
    uint64_t due_ms;   /* when the store is to be asked; UINT64_MAX: nothing is due */
    uint64_t again_ms; /* when calls that are unsettled are settled again; UINT64_MAX: there are none */
};

struct call {
    struct list link;
    unsigned magic;
    struct callbacks *callbacks;
    struct store_id id;
    uint64_t ended;
    struct store_op op;
    unsigned attempt; /* that have failed */
    bool unsettled;   /* the store could not be told */
    struct buffer body;
    char delivery[DELIVERY_FIELD], attempt_text[ATTEMPT_FIELD], signature[SIGNATURE_FIELD];
    const char *fields[5];
    char url[];
};

static uint64_t now_ms(const struct callbacks *c) {
    return c->config.now_ms(c->config.ctx);
}

static void sooner(uint64_t *when, uint64_t at) {
    if (at < *when) *when = at;
}

static struct call *find(const struct callbacks *c, struct store_id id) {
    LIST_FOR (node, &c->calls)
        if (store_id_compare(CONTAINER_OF(node, struct call, link)->id, id) == 0)
            return CONTAINER_OF(node, struct call, link);
    return NULL;
}

static struct call *call_new(struct callbacks *c, const struct store_job *job) {
    struct call *call = calloc(1, sizeof(*call) + job->callback.n + 1);
    if (!call) return NULL;
    call->magic = CALL_MAGIC;
    call->callbacks = c;
    call->id = job->id;
    call->ended = job->ended;
    call->attempt = job->callback_attempt;
    if (job->callback.n) memcpy(call->url, job->callback.p, job->callback.n);
    list_push_back(&c->calls, &call->link);
    c->stats.sending++;
    return call;
}

static void call_free(struct call *call) {
    list_del(&call->link);
    call->callbacks->stats.sending--;
    buffer_fini(&call->body);
    call->magic = 0;
    free(call);
}

/* ---- settling with the store ---- */

static void on_settled(struct store_op *op);

static void settle(struct call *call, uint64_t callback_at, unsigned attempt) {
    struct callbacks *c = call->callbacks;
    call->unsettled = false;
    store_op_init(&call->op, STORE_CALLBACK_SET, on_settled);
    call->op.shard = c->config.shard;
    call->op.lazy = true;
    call->op.job.id = call->id;
    call->op.job.ended = call->ended;
    call->op.job.callback_at = callback_at;
    call->op.job.callback_attempt = attempt;
    store_submit(c->config.store, &call->op);
}

static void on_settled(struct store_op *op) {
    struct call *call = CONTAINER_OF(op, struct call, op);
    MAGIC_CHECK(call, CALL_MAGIC);
    struct callbacks *c = call->callbacks;
    int err = op->err;
    uint64_t at = op->job.callback_at;
    store_op_fini(op);
    if (err != 0 && err != WEIR_ENOTFOUND) {
        call->unsettled = true;
        sooner(&c->again_ms, now_ms(c) + AGAIN_MS);
    } else { /* one that is not found has expired, or has been revived, and may have ended again */
        if (err != 0 || at) sooner(&c->due_ms, err != 0 ? now_ms(c) : at);
        call_free(call);
    }
}

static void settle_again(struct callbacks *c) {
    c->again_ms = UINT64_MAX;
    LIST_FOR (node, &c->calls) {
        struct call *call = CONTAINER_OF(node, struct call, link);
        if (call->unsettled) settle(call, call->op.job.callback_at, call->op.job.callback_attempt);
    }
}

static void give_up(struct call *call, const char *why) {
    struct callbacks *c = call->callbacks;
    c->stats.given_up++;
    c->config.given_up(c->config.ctx, call->id, call->attempt, why);
    settle(call, 0, 0);
}

/* Twice as long each time (truncated binary exponential backoff), and up to half of it less. */
static uint64_t backoff_ms(const struct call *call) {
    unsigned doublings = call->attempt - 1 < 20 ? call->attempt - 1 : 20;
    uint64_t wait = (uint64_t)BACKOFF_MS << doublings, bits = 0;
    if (wait > BACKOFF_MOST_MS) wait = BACKOFF_MOST_MS;
    (void)call->callbacks->config.random(&bits);
    return wait / 2 + bits % (wait / 2 + 1);
}

static void on_sent(void *arg, unsigned status, const char *why) {
    CAST(struct call, call, arg, CALL_MAGIC);
    struct callbacks *c = call->callbacks;
    call->attempt++;
    if (status >= 200 && status < 300) {
        c->stats.delivered++;
        settle(call, 0, 0);
        return;
    }
    c->stats.failed++;
    if (call->attempt >= c->config.attempts)
        give_up(call, why ? why : "its receiver does not answer with 2xx");
    else
        settle(call, now_ms(c) + backoff_ms(call), call->attempt);
}

/* ---- sending ---- */

static int write_body(struct call *call, const struct store_job *job) {
    char id[STORE_ID_TEXT], ended[CLOCK_TEXT];
    struct slice text = store_id_text(job->id, id);
    struct buffer *b = &call->body;
    (void)buffer_printf(b, "{\"id\":\"%.*s\",\"service\":", SLICE_ARG(text));
    (void)log_json_string(b, job->service);
    (void)buffer_printf(b, ",\"state\":\"%s\"", store_job_state_text(job->state));
    if (job->status) (void)buffer_printf(b, ",\"status\":%u", job->status);
    (void)buffer_printf(b, ",\"ended\":\"");
    (void)buffer_append_slice(b, clock_text(ended, job->ended));
    (void)buffer_printf(b, "\",\"result\":\"/-/jobs/%.*s/result\"}", SLICE_ARG(text));
    return b->starved ? WEIR_ENOMEM : 0;
}

/* The signature is over "TIME.BODY", so that a receiver can tell what is new from what is sent again. */
static int sign(struct call *call) {
    const struct callbacks *c = call->callbacks;
    unsigned long long now = now_ms(c) / 1000;
    struct slice body = buffer_slice(&call->body), secret = c->config.secret;
    struct buffer text;
    unsigned char mac[STORE_HASH];
    unsigned n = 0;
    buffer_init(&text);
    int err = buffer_printf(&text, "%llu.%.*s", now, SLICE_ARG(body));
    struct slice t = buffer_slice(&text);
    if (err == 0 && !HMAC(EVP_sha256(), secret.p, (int)secret.n, (const unsigned char *)t.p, t.n, mac, &n))
        err = WEIR_ENOMEM;
    buffer_fini(&text);
    int at = snprintf(call->signature, SIGNATURE_FIELD, "Weir-Signature: t=%llu,v1=", now);
    for (unsigned i = 0; i < n; i++) at += snprintf(call->signature + at, 3, "%02x", mac[i]);
    return err;
}

static int send_notice(struct call *call) {
    const struct callbacks_config *config = &call->callbacks->config;
    char id[STORE_ID_TEXT];
    int err = sign(call);
    if (err != 0) return err;
    struct slice text = store_id_text(call->id, id);
    snprintf(call->delivery, DELIVERY_FIELD, "Weir-Delivery: %.*s", SLICE_ARG(text));
    snprintf(call->attempt_text, ATTEMPT_FIELD, "Weir-Attempt: %u", call->attempt + 1);
    const char *fields[] = {"Content-Type: application/json", call->delivery, call->attempt_text,
                            call->signature, NULL};
    memcpy(call->fields, fields, sizeof(fields));
    struct callbacks_notice n = {.url = call->url, .body = buffer_slice(&call->body), .fields = call->fields};
    return config->send(config->ctx, &n, on_sent, call);
}

static bool is_allowed(const struct callbacks *c, struct slice text) {
    struct url url;
    if (text.n > CALLBACKS_URL || !url_parse(text, &url)) return false;
    for (size_t i = 0; i < c->config.allowed_count; i++)
        if (url_below(&url, &c->config.allowed[i])) return true;
    return false;
}

/* False: not now. */
static bool take_up(struct callbacks *c, const struct store_job *job) {
    if (find(c, job->id)) return true;
    struct call *call = call_new(c, job);
    if (!call) return false;
    if (job->callback.n == 0) { /* cancelling does not look whether there is one */
        settle(call, 0, 0);
        return true;
    }
    if (!is_allowed(c, job->callback)) { /* any more */
        give_up(call, "its URL is not one that callback allows");
        return true;
    }
    int err = write_body(call, job);
    if (err == 0) err = send_notice(call);
    if (err == WEIR_EINVAL)
        give_up(call, "its URL cannot be called");
    else if (err != 0)
        call_free(call);
    return err == 0 || err == WEIR_EINVAL;
}

static void on_due(struct store_op *op) {
    struct callbacks *c = CONTAINER_OF(op, struct callbacks, due);
    uint64_t again = now_ms(c) + AGAIN_MS;
    c->asking = false;
    if (op->err != 0)
        sooner(&c->due_ms, again);
    else if (op->next)
        sooner(&c->due_ms, op->next);
    for (size_t i = 0; op->err == 0 && !c->draining && i < op->count; i++)
        if (!take_up(c, &op->jobs[i])) {
            sooner(&c->due_ms, again);
            break;
        }
    store_op_fini(op);
}

static bool has_room(const struct callbacks *c) {
    return !c->asking && !c->draining && c->stats.sending <= ASK_BELOW;
}

void callbacks_tick(struct callbacks *c, uint64_t now) {
    if (now >= c->again_ms) settle_again(c);
    if (now < c->due_ms || !has_room(c)) return;
    store_op_init(&c->due, STORE_CALLBACK_DUE, on_due);
    c->due.shard = c->config.shard;
    c->due.now = now;
    c->due.limit = CALLBACKS_AT_ONCE; /* some of them may be on their way */
    c->due_ms = UINT64_MAX;           /* jobs that end meanwhile bring it down again, as does the answer */
    c->asking = true;
    store_submit(c->config.store, &c->due);
}

uint64_t callbacks_next_time(const struct callbacks *c) {
    return has_room(c) && c->due_ms < c->again_ms ? c->due_ms : c->again_ms;
}

void callbacks_ended(struct callbacks *c, struct store_id id, uint64_t ended) {
    const struct call *call = find(c, id);
    if (!call || call->ended != ended) c->due_ms = 0; /* else it is on its way */
}

/* ---- from beginning to end ---- */

int callbacks_new(const struct callbacks_config *config, struct callbacks **ret) {
    struct callbacks *c = calloc(1, sizeof(*c));
    if (!c) return WEIR_ENOMEM;
    c->config = *config;
    list_init(&c->calls);
    c->again_ms = UINT64_MAX; /* due_ms 0: what a hub before has left */
    *ret = c;
    return 0;
}

void callbacks_drain(struct callbacks *c) {
    c->draining = true;
}

void callbacks_free(struct callbacks **at) {
    struct callbacks *c = *at;
    *at = NULL;
    if (!c) return;
    LIST_FOR (node, &c->calls) call_free(CONTAINER_OF(node, struct call, link));
    free(c);
}

void callbacks_stats(const struct callbacks *c, struct callbacks_stats *ret) {
    *ret = c->stats;
}

const char *callbacks_refuse(const struct callbacks *c, struct slice text) {
    struct url url;
    if (!c) return "this hub makes no callbacks (Weir-Callback)";
    if (text.n > CALLBACKS_URL) return "Weir-Callback has more than 2048 bytes";
    if (!url_parse(text, &url))
        return "Weir-Callback must be an http or https URL without user, fragment and dot segments";
    return is_allowed(c, text) ? NULL : "Weir-Callback is not below a URL that this hub may call";
}
