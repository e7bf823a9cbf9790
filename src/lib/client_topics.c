/* SPDX-License-Identifier: Apache-2.0 */
/* Topics (docs/protocol.md "Topics"), from a client's side. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/list.h"
#include "lib/client.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* False: one of the names is missing. The hub knows what else a name cannot be. */
static bool begin_target(struct client_ask *ask, const char *topic, const char *subscription) {
    if (!topic || !*topic || !subscription || !*subscription) return false;
    (void)buffer_append_slice(&ask->target, SLICE("/-/topics"));
    dialog_add_segment(&ask->target, topic);
    dialog_add_segment(&ask->target, subscription);
    return true;
}

int weir_client_publish(weir_client *client, const char *topic, const char *type, const void *body,
                        size_t size) {
    MAGIC_CHECK(client, CLIENT_MAGIC);
    struct slice message = {body, size};
    struct client_ask ask = {.method = "POST", .body = &message};
    client_begin(client, 0);
    if (!topic || !*topic || (size && !body)) return WEIR_EINVAL;
    if (type && !text_is_field_value(slice_of(type))) return WEIR_EINVAL;
    (void)buffer_append_slice(&ask.target, SLICE("/-/topics"));
    dialog_add_segment(&ask.target, topic);
    if (type) (void)buffer_printf(&ask.fields, "Content-Type: %s\r\n", type);
    return client_do(client, &ask, NULL);
}

int weir_client_subscribe(weir_client *client, const char *topic, const char *subscription) {
    MAGIC_CHECK(client, CLIENT_MAGIC);
    struct client_ask ask = {.method = "POST", .safe = true};
    client_begin(client, 0);
    if (!begin_target(&ask, topic, subscription)) return WEIR_EINVAL;
    return client_do(client, &ask, NULL);
}

/* A DELETE. What is not there may have gone by a try whose answer was lost. */
static int take_away(struct weir_client *c, struct client_ask *ask) {
    ask->method = "DELETE";
    ask->safe = true;
    int err = client_do(c, ask, NULL);
    return err == WEIR_ENOTFOUND && c->unsure ? 0 : err;
}

int weir_client_unsubscribe(weir_client *client, const char *topic, const char *subscription) {
    MAGIC_CHECK(client, CLIENT_MAGIC);
    struct client_ask ask = {0};
    client_begin(client, 0);
    if (!begin_target(&ask, topic, subscription)) return WEIR_EINVAL;
    return take_away(client, &ask);
}

int weir_client_acknowledge(weir_client *client, const char *topic, const char *subscription, uint64_t id) {
    MAGIC_CHECK(client, CLIENT_MAGIC);
    struct client_ask ask = {0};
    client_begin(client, 0);
    if (!begin_target(&ask, topic, subscription)) return WEIR_EINVAL;
    (void)buffer_printf(&ask.target, "/%" PRIu64, id);
    return take_away(client, &ask);
}

/* ---- messages ---- */

struct box {
    weir_message message;
    struct dialog_answer answer;
};

/* YYYY-MM-DDTHH:MM:SS.mmmZ; 0: it is not. */
static uint64_t unix_ms(struct slice text) {
    char copy[32];
    struct tm tm = {0};
    unsigned ms = 0;
    if (text.n >= sizeof copy) return 0;
    if (text.n) memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    const char *rest = strptime(copy, "%Y-%m-%dT%H:%M:%S", &tm);
    if (!rest || (*rest && sscanf(rest, ".%3uZ", &ms) != 1)) return 0;
    time_t s = timegm(&tm);
    return s > 0 ? (uint64_t)s * 1000 + ms : 0;
}

static int read_message(struct box *b) {
    struct dialog_answer *a = &b->answer;
    weir_message *m = &b->message;
    struct slice type = head_get(&a->head, HEAD_CONTENT_TYPE), body;
    uint64_t delivery = 0;
    if (!slice_u64(head_get_name(&a->head, SLICE("weir-message")), &m->id)) return WEIR_EPROTOCOL;
    m->published_ms = unix_ms(head_get_name(&a->head, SLICE("weir-published")));
    if (slice_u64(head_get_name(&a->head, SLICE("weir-delivery")), &delivery))
        m->delivery = delivery < UINT32_MAX ? (unsigned)delivery : UINT32_MAX;
    if (type.p && !(m->type = arena_copy(&a->arena, type).p)) return WEIR_ENOMEM;
    int err = client_body(a, &body);
    if (err) return err;
    m->body = body.p;
    m->size = body.n;
    return 0;
}

void weir_message_free(weir_message **message) {
    if (!message || !*message) return;
    struct box *b = CONTAINER_OF(*message, struct box, message);
    dialog_answer_fini(&b->answer);
    free(b);
    *message = NULL;
}

/* One poll. WEIR_EAGAIN: there is none. */
static int poll_once(struct weir_client *c, struct client_ask *ask, weir_message **ret) {
    struct box *b = calloc(1, sizeof *b); /* before a message that comes only once is asked for */
    if (!b) {
        client_ask_fini(ask);
        return WEIR_ENOMEM;
    }
    int err = client_do(c, ask, &b->answer);
    if (err) {
        free(b);
        return err;
    }
    const struct dialog_answer *a = &b->answer;
    weir_message *m = &b->message;
    err = a->status == 200 ? read_message(b) : a->status == 204 ? WEIR_EAGAIN : WEIR_EPROTOCOL;
    if (err)
        weir_message_free(&m);
    else
        *ret = m;
    return err;
}

int weir_client_next(weir_client *client, const char *topic, const char *subscription, unsigned wait_ms,
                     unsigned ack, weir_message **ret_message) {
    MAGIC_CHECK(client, CLIENT_MAGIC);
    client_begin(client, wait_ms);
    uint64_t until_ms = clock_mono_ms() + wait_ms, began_ms, ms;
    int err;
    do {
        struct client_ask ask = {.method = "GET", .safe = true};
        if (!begin_target(&ask, topic, subscription)) return WEIR_EINVAL;
        began_ms = clock_mono_ms();
        ms = client_poll_ms(until_ms);
        (void)buffer_printf(&ask.target, "?wait=%" PRIu64 "ms%s", ms,
                            ack == WEIR_ACK_AUTO ? "" : "&ack=explicit");
        if (ack > WEIR_ACK_EXPLICIT) (void)buffer_printf(&ask.target, "&ack-time=%ums", ack);
        err = poll_once(client, &ask, ret_message);
    } while (err == WEIR_EAGAIN && client_poll_again(client, began_ms, ms, until_ms));
    return err;
}
