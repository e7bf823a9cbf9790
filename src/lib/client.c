/* SPDX-License-Identifier: Apache-2.0 */
/* A client's life, and how a request is tried again. */
#include "lib/client.h"
#include "base/assert.h"
#include "base/clock.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <time.h>

enum { TIMEOUT_MS = 30000, ATTEMPTS = 10, PAUSE_MS = 50, PAUSE_MOST_MS = 5000 };
#define BODY_MOST ((size_t)64 << 20)

int weir_client_open(const weir_client_options *options, weir_client **ret_client) {
    static const weir_client_options defaults;
    const weir_client_options *o = options ? options : &defaults;
    uint64_t seed;
    int err = random_entropy(&seed);
    if (err) return err;
    struct weir_client *c = calloc(1, sizeof *c);
    if (!c) return WEIR_ENOMEM;
    *c = (struct weir_client){.magic = CLIENT_MAGIC,
                              .timeout_ms = o->timeout_ms ? o->timeout_ms : TIMEOUT_MS,
                              .attempts = o->attempts ? o->attempts : ATTEMPTS};
    random_seed(&c->random, seed);
    err = dialog_init(&c->dialog, o->hub ? o->hub : "http://127.0.0.1:8080", "");
    if (!err) err = dialog_set_token(&c->dialog, o->token);
    if (err) {
        weir_client_free(&c);
        return err;
    }
    c->dialog.max_body = o->max_body ? o->max_body : BODY_MOST;
    *ret_client = c;
    return 0;
}

void weir_client_free(weir_client **client) {
    if (!client || !*client) return;
    MAGIC_CHECK(*client, CLIENT_MAGIC);
    dialog_close(&(*client)->dialog);
    (*client)->magic = 0;
    free(*client);
    *client = NULL;
}

const char *weir_client_detail(const weir_client *client) {
    MAGIC_CHECK(client, CLIENT_MAGIC);
    return client->detail;
}

/* ---- time ---- */

void client_begin(struct weir_client *c, uint64_t wait_ms) {
    c->dialog.until_ms = clock_mono_ms() + wait_ms + c->timeout_ms;
    c->failures = 0;
    c->unsure = false;
    c->detail[0] = '\0';
}

uint64_t client_left(uint64_t until_ms) {
    uint64_t now = clock_mono_ms();
    return until_ms > now ? until_ms - now : 0;
}

bool client_sleep(const struct weir_client *c, uint64_t ms) {
    if (client_left(c->dialog.until_ms) <= ms) return false;
    struct timespec left = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
    return true;
}

/* Before the request that has failed is tried again. */
static bool pause_after_failure(struct weir_client *c, uint64_t least_ms) {
    unsigned doubled = c->failures - 1 < 7 ? c->failures - 1 : 7;
    uint64_t ms = (uint64_t)PAUSE_MS << doubled;
    if (ms > PAUSE_MOST_MS) ms = PAUSE_MOST_MS;
    ms -= random_below(&c->random, ms / 2 + 1);
    return client_sleep(c, least_ms > ms ? least_ms + random_below(&c->random, PAUSE_MS) : ms);
}

uint64_t client_poll_ms(uint64_t until_ms) {
    uint64_t left = client_left(until_ms);
    return left < CLIENT_POLL_MS ? left : CLIENT_POLL_MS;
}

bool client_poll_again(const struct weir_client *c, uint64_t began_ms, uint64_t ms, uint64_t until_ms) {
    uint64_t left = client_left(until_ms);
    if (left == 0) return false;
    if (clock_mono_ms() - began_ms >= ms) return true;
    return client_sleep(c, left < CLIENT_EARLY_MS ? left : CLIENT_EARLY_MS);
}

/* ---- what an answer says ---- */

static int error_of_status(unsigned status) {
    switch (status) {
    case 404: /* several errors have these */
        return WEIR_ENOTFOUND;
    case 409:
        return WEIR_ESTATE;
    case 410:
        return WEIR_ECANCELLED;
    case 502:
        return WEIR_EFAILED;
    case 503:
        return WEIR_EUNAVAILABLE;
    }
#define STATUS_ERROR(name, value, text, its_status, retryable)                                               \
    if ((its_status) == status) return value;
    WEIR_ERRORS(STATUS_ERROR)
#undef STATUS_ERROR
    return WEIR_EPROTOCOL;
}

/* A hub's own errors come with their text. 0: it is none. */
static int error_of_text(const char *detail) {
#define TEXT_ERROR(name, value, text, status, retryable)                                                     \
    if ((status) != 0 && strcmp(text, detail) == 0) return value;
    WEIR_ERRORS(TEXT_ERROR)
#undef TEXT_ERROR
    return 0;
}

int client_judge(struct weir_client *c, const struct dialog_answer *a) {
    c->detail[0] = '\0';
    if (a->status >= 200 && a->status < 300) return 0;
    struct slice type = head_get(&a->head, HEAD_CONTENT_TYPE), body = buffer_slice(&a->body);
    int err = 0;
    if (slice_eq_nocase(slice_next(&type, ';'), SLICE("application/problem+json")) && body.n) {
        json_t *problem = json_loadb(body.p, body.n, 0, NULL);
        const char *detail = json_string_value(json_object_get(problem, "detail"));
        if (detail) {
            err = error_of_text(detail);
            strncat(c->detail, detail, sizeof c->detail - 1);
        }
        json_decref(problem);
    }
    return err ? err : error_of_status(a->status);
}

int client_body(struct dialog_answer *a, struct slice *ret) {
    size_t n = buffer_size(&a->body);
    if (buffer_append(&a->body, "", 1)) return WEIR_ENOMEM;
    *ret = (struct slice){buffer_slice(&a->body).p, n};
    return 0;
}

/* ---- a request ---- */

static uint64_t retry_after_ms(const struct dialog_answer *a) {
    uint64_t s;
    return slice_u64(head_get(&a->head, HEAD_RETRY_AFTER), &s) && s < UINT32_MAX ? s * 1000 : 0;
}

/* One try; true when it is to be repeated, after the pause. With the answer when the hub has given one. */
static bool try_once(struct weir_client *c, const struct client_ask *ask, int *ret_err,
                     struct dialog_answer *ret) {
    uint64_t least_ms = 0;
    bool again;
    c->detail[0] = '\0';
    int err = dialog_try(&c->dialog, ask->method, buffer_slice(&ask->target).p, buffer_slice(&ask->fields).p,
                         ask->body, ret);
    *ret_err = err;
    if (err) {
        bool sent = c->dialog.sent;
        c->unsure = c->unsure || sent;
        again = (err == WEIR_ECONNECT || err == WEIR_ECLOSED || err == WEIR_ECUT) && (ask->safe || !sent);
    } else {
        bool busy = !ask->raw && (ret->status == 503 || ret->status == 429);
        again = busy && (client_judge(c, ret) == WEIR_EDRAINING || ask->safe);
        least_ms = again ? retry_after_ms(ret) : 0;
        if (!busy) c->failures = 0;
    }
    again = again && ++c->failures < c->attempts && pause_after_failure(c, least_ms);
    if (again && !err) dialog_answer_fini(ret);
    return again;
}

void client_ask_fini(struct client_ask *ask) {
    buffer_fini(&ask->target);
    buffer_fini(&ask->fields);
}

int client_ask(struct weir_client *c, struct client_ask *ask, struct dialog_answer *ret) {
    int err = WEIR_ENOMEM;
    (void)buffer_append(&ask->target, "", 1);
    (void)buffer_append(&ask->fields, "", 1);
    if (!ask->target.starved && !ask->fields.starved)
        while (try_once(c, ask, &err, ret)) {
        }
    client_ask_fini(ask);
    return err;
}

int client_do(struct weir_client *c, struct client_ask *ask, struct dialog_answer *ret) {
    struct dialog_answer a;
    int err = client_ask(c, ask, &a);
    if (err) return err;
    err = client_judge(c, &a);
    if (err || !ret)
        dialog_answer_fini(&a);
    else
        *ret = a;
    return err;
}
