/* SPDX-License-Identifier: Apache-2.0 */
/* What outlives the hub: its store, and the durable jobs with their callbacks and topics in it. Loop thread
 * only. */
#include "attach/gather.h"
#include "base/clock.h"
#include "base/random.h"
#include "durable/callbacks.h"
#include "durable/jobs.h"
#include "durable/topics.h"
#include "hub/private.h"
#include "io/post.h"
#include "store/sqlite.h"
#include "weir/weir.h"
#include <stdlib.h>

enum { SWEEP_MS = 10000, MEMORY_MOST = 256 << 20 };

/* Unix time that does not jump: the machine's clock at the start, and what has passed since. */
static uint64_t now_ms(void *ctx) {
    struct hub *h = ctx;
    return h->started_unix_ms + (io_now_us(&h->loop) - h->started_us) / 1000;
}

static uint64_t now_us(void *ctx) {
    struct hub *h = ctx;
    return io_now_us(&h->loop);
}

static void on_store(void *ctx) {
    struct hub *h = ctx;
    io_loop_wake(&h->loop);
}

/* ---- callbacks ---- */

static int send_notice(void *ctx, const struct callbacks_notice *n,
                       void (*done)(void *call, unsigned status, const char *why), void *call) {
    struct hub *h = ctx;
    struct post_request r = {.url = n->url, .body = n->body, .fields = n->fields};
    return post_send(h->post, &r, done, call);
}

static void on_given_up(void *ctx, struct store_id id, unsigned attempts, const char *why) {
    struct hub *h = ctx;
    char text[STORE_ID_TEXT];
    struct slice job = store_id_text(id, text);
    log_event(&h->log, LOG_WARN, "callback-given-up", "of job %.*s after %u attempts: %s", SLICE_ARG(job),
              attempts, why);
}

static int make_post(struct hub *h, char **ret_text) {
    struct post_config c = {.loop = &h->loop,
                            .timeout_ms = h->config->callback_timeout,
                            .user_agent = "weir/" WEIR_VERSION,
                            .ca_file = h->config->callback_ca_file};
    const char *why = NULL;
    int err = post_new(&c, &h->post, &why);
    if (err == WEIR_EIO && ret_text) *ret_text = why ? strdup(why) : NULL;
    return err;
}

static int make_callbacks(struct hub *h, char **ret_text) {
    const struct config *cfg = h->config;
    size_t n = cfg->callback.count;
    if (n == 0) return 0;
    h->callback_urls = calloc(n, sizeof(*h->callback_urls));
    if (!h->callback_urls) return WEIR_ENOMEM;
    for (size_t i = 0; i < n; i++) (void)url_parse(slice_of(cfg->callback.items[i]), &h->callback_urls[i]);
    int err = make_post(h, ret_text);
    struct callbacks_config c = {
        .store = h->store,
        .now_ms = now_ms,
        .random = random_entropy,
        .send = send_notice,
        .given_up = on_given_up,
        .ctx = h,
        .allowed = h->callback_urls,
        .allowed_count = n,
        .secret = slice_of(cfg->callback_secret),
        .attempts = (unsigned)cfg->callback_attempts,
    };
    return err == 0 ? callbacks_new(&c, &h->callbacks) : err;
}

/* ---- from beginning to end ---- */

static int run_scattered(void *ctx, const struct jobs_scatter *s, struct buffer *body, uint64_t *ret_request,
                         struct failure *ret_why) {
    struct hub *h = ctx;
    struct gather_known *known = calloc(s->count + 1, sizeof(*known));
    if (!known) return ret_why->error = WEIR_ENOMEM;
    for (size_t i = 0; i < s->count; i++) {
        const struct store_part *p = &s->parts[i];
        known[i] = (struct gather_known){p->index, p->status, p->answer.head, p->answer.body.bytes};
    }
    struct gather_stored stored = {.request = s->request,
                                   .service = s->service,
                                   .gather = s->gather,
                                   .known = known,
                                   .known_count = s->count};
    int err = attach_scatter(h->attach, &stored, body, ret_request, ret_why);
    free(known);
    return err;
}

static int make_jobs(struct hub *h) {
    const struct config *cfg = h->config;
    struct jobs_config c = {
        .store = h->store,
        .core = h->core,
        .callbacks = h->callbacks,
        .now_ms = now_ms,
        .now_us = now_us,
        .max_head = cfg->max_head,
        .max_hops = (unsigned)cfg->max_hops,
        .attempts = (unsigned)cfg->job_attempts,
        .backoff_ms = cfg->job_backoff,
        .backoff_most_ms = cfg->job_backoff_most,
        .timeout_ms = cfg->job_timeout,
        .ttl_ms = cfg->job_ttl,
        .dead_ttl_ms = cfg->job_dead_ttl,
        .key_ttl_ms = cfg->idempotency_ttl,
        .max_body = cfg->max_body,
        .random = random_entropy,
        .scatter = run_scattered,
        .ctx = h,
    };
    return cfg->data ? jobs_new(&c, &h->jobs) : 0;
}

static int make_topics(struct hub *h) {
    const struct config *cfg = h->config;
    struct topics_config c = {
        .store = h->store,
        .now_ms = now_ms,
        .lease_ms = cfg->topic_ack_time,
        .max_subscriptions = cfg->max_subscriptions,
        .max_message = cfg->max_message,
        .ctx = h,
    };
    return topics_new(&c, &h->topics);
}

int hub_make_durable(struct hub *h, char **ret_text) {
    struct store_sqlite_config c = {
        .dir = h->config->data, .wake = on_store, .ctx = h, .max_bytes = h->config->max_data};
    if (!c.dir && !c.max_bytes) c.max_bytes = MEMORY_MOST;
    h->started_unix_ms = clock_unix_ms();
    int err = store_sqlite_open(&c, &h->store, ret_text);
    if (err == 0) err = make_callbacks(h, ret_text);
    if (err == 0) err = make_jobs(h);
    return err == 0 ? make_topics(h) : err;
}

static void on_sweep(struct store_op *op) {
    struct hub *h = CONTAINER_OF(op, struct hub, sweep);
    bool more = op->err == 0 && op->more;
    store_op_fini(op);
    h->sweeping = false;
    h->sweep_due_ms = now_ms(h) + (more ? 0 : SWEEP_MS);
}

static void sweep(struct hub *h, uint64_t now) {
    enum { AT_ONCE = 1000 };
    if (h->sweeping || now < h->sweep_due_ms) return;
    store_op_init(&h->sweep, STORE_SWEEP, on_sweep);
    h->sweep.now = now;
    h->sweep.limit = AT_ONCE;
    h->sweep.message_age = h->config->topic_retention;
    h->sweeping = true;
    store_submit(h->store, &h->sweep);
}

static void on_timer(uv_timer_t *timer) {
    struct hub *h = timer->data;
    h->durable_due_ms = UINT64_MAX;
}

/* As the core's timer: it may ring early. */
static void arm_timer(struct hub *h, uint64_t now) {
    uint64_t next = topics_next_time(h->topics);
    if (h->jobs && jobs_next_time(h->jobs) < next) next = jobs_next_time(h->jobs);
    if (h->callbacks && callbacks_next_time(h->callbacks) < next) next = callbacks_next_time(h->callbacks);
    if (!h->sweeping && h->sweep_due_ms < next) next = h->sweep_due_ms;
    if (next >= h->durable_due_ms) return;
    uv_update_time(&h->loop.uv);
    uv_timer_start(&h->durable_timer, on_timer, next > now ? next - now : 0, 0);
    h->durable_due_ms = next;
}

void hub_durable_turn(struct hub *h) {
    uint64_t now = now_ms(h);
    store_turn(h->store);
    if (h->jobs) jobs_tick(h->jobs, now);
    if (h->callbacks) callbacks_tick(h->callbacks, now);
    topics_tick(h->topics, now);
    sweep(h, now);
    arm_timer(h, now);
}

void hub_durable_drain(struct hub *h) {
    if (h->jobs) jobs_drain(h->jobs);
    if (h->callbacks) callbacks_drain(h->callbacks);
    topics_drain(h->topics);
}

bool hub_durable_idle(const struct hub *h) {
    return !h->jobs || jobs_idle(h->jobs);
}

void hub_durable_close(struct hub *h) {
    if (h->jobs) jobs_close(h->jobs);
    post_close(&h->post);
    store_close(&h->store); /* what is under way ends, and is told */
}

void hub_durable_free(struct hub *h) {
    jobs_free(&h->jobs);
    callbacks_free(&h->callbacks);
    free(h->callback_urls);
    topics_free(&h->topics);
}
