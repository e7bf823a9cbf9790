/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"
#include "weir/weir.h"
#include <signal.h>

static void on_taken(struct requester *r) {
    (void)r;
}

static void on_reply(struct requester *r, const struct http_head *head, struct body *body) {
    struct asker *a = CONTAINER_OF(r, struct asker, requester);
    CHECK(a->told++ == 0);
    CHECK(head->status >= 200 && head->status <= 999);
    for (unsigned i = 0; i < head->count; i++) {
        CHECK(text_is_field_value(field_value(&head->fields[i])));
        CHECK(text_is_token(field_name(&head->fields[i])));
    }
    if (body) a->body = body_ref(body);
}

static void on_fail(struct requester *r, const struct failure *why) {
    struct asker *a = CONTAINER_OF(r, struct asker, requester);
    (void)why;
    a->id = 0;
    a->told++;
}

static const struct requester_ops ops = {.taken = on_taken, .reply = on_reply, .fail = on_fail};

static void release(void *ctx, void *message) {
    --*(int *)ctx;
    message_unref(message);
}

static bool replayable(void *ctx, const void *message) {
    (void)ctx;
    const struct message *m = message;
    return !m->body || body_replayable(m->body);
}

static void ask(struct world *w, int index) {
    struct asker *a = &w->askers[index];
    struct message *m = message_new(4096);
    CHECK(m);
    bool post = index % 2 == 1;
    m->head.method = post ? SLICE("POST") : SLICE("GET");
    m->head.target = SLICE("/x");
    *a = (struct asker){.requester = {&ops}};
    if (post) {
        m->body = body_new(1024, 1024);
        CHECK(m->body && body_write(m->body, "hello", 5) == 0);
        if (index == 1)
            body_end(m->body);
        else
            a->request = body_ref(m->body);
    }
    struct core_request r = {
        .requester = &a->requester, .message = m, .bytes = 100, .service = SLICE("s"), .idempotent = !post};
    struct failure why;
    CHECK(core_submit(w->core, 1, &r, &a->id, &why) == 0);
    w->messages++;
}

void world_open(struct world *w) {
    signal(SIGPIPE, SIG_IGN);
    *w = (struct world){0};
    struct core_config cc;
    core_defaults(&cc);
    cc.release = release;
    cc.replayable = replayable;
    cc.ctx = &w->messages;
    CHECK(io_loop_init(&w->loop) == 0);
    log_init(&w->log, -1, LOG_ERROR, false);
    w->core = core_new(&cc, 1);
    struct attach_config ac = {.loop = &w->loop,
                               .core = w->core,
                               .log = &w->log,
                               .max_head = 8192,
                               .body_window = 16384,
                               .buffered_body = 16384,
                               .max_slots = 8,
                               .max_links = 8,
                               .upgrade_timeout_us = 1000000,
                               .heartbeat_us = 1000000,
                               .heartbeat_missed = 3};
    CHECK(attach_new(&ac, &w->attach) == 0);
    struct core_service_config sc;
    core_service_defaults(&sc);
    CHECK(core_service_define(w->core, SLICE("s"), &sc) == 0);
    for (int i = 0; i < WORLD_REQUESTS; i++) ask(w, i);
}

static void act(struct world *w) {
    struct core_action a;
    while (core_next_action(w->core, &a)) {
        struct worker_port *port = a.port;
        if (a.kind == CORE_SEND) port->ops->send(port, &a);
        if (a.kind == CORE_CANCEL) port->ops->cancel(port, a.job, a.cause);
        if (a.kind == CORE_FAIL) a.requester->ops->fail(a.requester, &a.why);
    }
}

void world_turn(struct world *w) {
    uv_run(&w->loop.uv, UV_RUN_NOWAIT);
    do act(w);
    while (attach_turn(w->attach));
    io_loop_flush(&w->loop);
}

void world_cancel(struct world *w, unsigned asker) {
    struct asker *a = &w->askers[asker % WORLD_REQUESTS];
    if (a->id && !a->told) core_cancel(w->core, 2, a->id, CORE_CLIENT_GONE);
    if (!a->told) a->id = 0;
}

void world_close(struct world *w) {
    for (int i = 0; i < WORLD_REQUESTS; i++) {
        struct asker *a = &w->askers[i];
        CHECK(a->told <= 1);
        if (a->id) core_cancel(w->core, 3, a->id, CORE_CLIENT_GONE);
        body_unref(a->body);
        body_unref(a->request);
    }
    attach_close(w->attach);
    struct core_action a;
    while (core_next_action(w->core, &a)) {
    }
    CHECK(core_idle(w->core));
    CHECK(w->messages == 0);
    io_loop_fini(&w->loop);
    attach_free(&w->attach);
    core_free(w->core);
    log_fini(&w->log);
}
