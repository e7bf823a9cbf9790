/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a worker may send after its upgrade: HTTP/2 frames of any kind. The real attach code on a socket pair,
 * with a core that has three requests for it. Whatever comes: no crash, each request is told its end at most
 * once, and nothing is left when all is over.
 */
#include "attach/attach.h"
#include "core/port.h"
#include "weir/weir.h"
#include "wire/message.h"
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { REQUESTS = 3, ROUNDS = 12 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                  \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

struct asker {
    struct requester requester;
    struct body *body;
    uint64_t request;
    int told;
};

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
    a->request = 0;
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

static void ask(struct core *core, struct asker *a, int index, int *messages) {
    struct message *m = message_new(4096);
    CHECK(m);
    m->head.method = index == 1 ? SLICE("POST") : SLICE("GET");
    m->head.target = SLICE("/x");
    if (index == 1) {
        m->body = body_new(1024, 1024);
        CHECK(m->body && body_write(m->body, "hello", 5) == 0);
        body_end(m->body);
    }
    *a = (struct asker){.requester = {&ops}};
    struct core_request r = {.requester = &a->requester,
                             .message = m,
                             .bytes = 100,
                             .service = SLICE("s"),
                             .idempotent = index != 1};
    struct failure why;
    CHECK(core_submit(core, 1, &r, &a->request, &why) == 0);
    ++*messages;
}

static void turn(struct io_loop *loop, struct core *core, int fd) {
    char sink[65536];
    uv_run(&loop->uv, UV_RUN_NOWAIT);
    struct core_action a;
    while (core_next_action(core, &a)) {
        struct worker_port *port = a.port;
        if (a.kind == CORE_SEND) port->ops->send(port, &a);
        if (a.kind == CORE_CANCEL) port->ops->cancel(port, a.job, a.cause);
        if (a.kind == CORE_FAIL) a.requester->ops->fail(a.requester, &a.why);
    }
    io_loop_flush(loop);
    while (recv(fd, sink, sizeof(sink), MSG_DONTWAIT) > 0) {
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char upgrade[] =
        "GET /.well-known/ptth/http%3A%2F%2Fs/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n"
        "Upgrade: ptth\r\nALPN: h2\r\n\r\n";
    if (size > 65536) return 0;
    signal(SIGPIPE, SIG_IGN);
    int messages = 0;
    struct io_loop loop;
    struct log log;
    struct core_config cc;
    core_defaults(&cc);
    cc.release = release;
    cc.replayable = replayable;
    cc.ctx = &messages;
    CHECK(io_loop_init(&loop) == 0);
    log_init(&log, -1, LOG_ERROR, false);
    struct core *core = core_new(&cc, 1);
    struct attach_config ac = {.loop = &loop,
                               .core = core,
                               .log = &log,
                               .max_head = 8192,
                               .body_window = 16384,
                               .buffered_body = 16384,
                               .max_slots = 8,
                               .max_links = 8,
                               .upgrade_timeout_us = 1000000,
                               .heartbeat_us = 1000000,
                               .heartbeat_missed = 3};
    struct attach *attach = NULL;
    CHECK(attach_new(&ac, &attach) == 0);
    struct core_service_config sc;
    core_service_defaults(&sc);
    CHECK(core_service_define(core, SLICE("s"), &sc) == 0);
    struct asker askers[REQUESTS];
    for (int i = 0; i < REQUESTS; i++) ask(core, &askers[i], i, &messages);
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
    CHECK(attach_adopt(attach, pair[1]) == 0);
    (void)!write(pair[0], upgrade, sizeof(upgrade) - 1);
    turn(&loop, core, pair[0]);
    size_t half = size ? data[0] % size : 0; /* split where the input says, so that frames come in pieces */
    (void)!write(pair[0], data, half);
    turn(&loop, core, pair[0]);
    (void)!write(pair[0], data + half, size - half);
    for (int i = 0; i < ROUNDS; i++) {
        if (i == ROUNDS / 2 && askers[0].request && !askers[0].told)
            core_cancel(core, 2, askers[0].request, CORE_CLIENT_GONE);
        turn(&loop, core, pair[0]);
    }
    close(pair[0]);
    turn(&loop, core, pair[0]);
    for (int i = 0; i < REQUESTS; i++) {
        CHECK(askers[i].told <= 1);
        if (askers[i].request) core_cancel(core, 3, askers[i].request, CORE_CLIENT_GONE);
        body_unref(askers[i].body);
    }
    attach_close(attach);
    struct core_action a;
    while (core_next_action(core, &a)) {
    }
    CHECK(core_idle(core));
    CHECK(messages == 0);
    io_loop_fini(&loop);
    attach_free(&attach);
    core_free(core);
    log_fini(&log);
    return 0;
}
