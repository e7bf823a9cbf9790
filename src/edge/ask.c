/* SPDX-License-Identifier: Apache-2.0 */
/* A request comes in: it is checked, prepared for workers, and submitted to the core; its body follows. */
#include "edge/api.h"
#include "weir/weir.h"
#include "wire/target.h"
#include <stdlib.h>

static void leave_call(struct ask *a) {
    struct api_call *call = a->call;
    a->call = NULL;
    if (call) call->left(call);
}

void ask_free(struct ask *a) {
    struct edge *e = a->conn->edge;
    leave_call(a);
    if (a->request) core_cancel(e->config.core, io_now_us(e->config.loop), a->request, CORE_CLIENT_GONE);
    if (a->message && a->message->body) {
        body_producer(a->message->body, (struct body_side){0});
        if (!a->input_over) body_abort(a->message->body, WEIR_ECLOSED);
    }
    body_leave(&a->body);
    message_unref(a->message);
    free(a);
}

void ask_left(struct ask *a) {
    struct edge *e = a->conn->edge;
    a->was_left = true;
    leave_call(a);
    if (a->request) core_cancel(e->config.core, io_now_us(e->config.loop), a->request, CORE_CLIENT_GONE);
    a->request = 0;
    if (!a->status) a->status = 499; /* as nginx logs it: the client closed the request */
    access_log(a);
}

bool ask_full(const struct ask *a) {
    const struct body *body = a->input_over || !a->message ? NULL : a->message->body;
    return body && body_room(body) == 0 && !body_abandoned(body);
}

static void on_worker_took_bytes(void *ctx, size_t n) {
    (void)n;
    struct ask *a = ctx;
    struct conn *c = a->conn;
    if (a->input_over || c->stream.reading || c->closing) return;
    if (body_abandoned(a->message->body) || body_room(a->message->body) > 0) {
        conn_wait(c, a->replied ? WAIT_WRITE : WAIT_BODY);
        if (buffer_size(&c->in) > 0) conn_resume_soon(c);
        stream_read_start(&c->stream);
        stream_dirty(&c->stream); /* have the turn go round once more */
    }
}

#define MOST_TIMEOUT_MS (100ull * 24 * 3600 * 1000)

int ask_tenant(struct ask *a, struct slice *ret_tenant, const char **ret_why) {
    struct http_head *head = &a->message->head;
    const struct edge_config *cfg = &a->conn->edge->config;
    *ret_tenant = (struct slice){0};
    if (cfg->token_required) {
        struct slice rest = head_get(head, HEAD_AUTHORIZATION), scheme = slice_next(&rest, ' ');
        if (!slice_eq_nocase(scheme, SLICE("Bearer")) || !rest.p) {
            *ret_why = "this hub wants Authorization: Bearer TOKEN";
            return WEIR_ETOKEN;
        }
        const char *name = cfg->token_name(cfg->ctx, slice_trim(rest));
        if (!name) return WEIR_EFORBIDDEN;
        *ret_tenant = slice_of(name);
        head_remove(head, HEAD_AUTHORIZATION);
    } else if (cfg->tenant_header.n) {
        *ret_tenant = head_get_name(head, cfg->tenant_header);
    }
    return 0;
}

int ask_wishes(const struct ask *a, struct wishes *ret, const char **ret_why) {
    const struct http_head *head = &a->message->head;
    const struct edge_config *cfg = &a->conn->edge->config;
    uint64_t timeout_ms = cfg->request_timeout_us / 1000, priority = CORE_PRIORITY_DEFAULT, cost = 0;
    bool given = head_has(head, HEAD_WEIR_TIMEOUT);
    if (given && (!slice_duration_ms(head_get(head, HEAD_WEIR_TIMEOUT), &timeout_ms) || timeout_ms == 0 ||
                  timeout_ms > MOST_TIMEOUT_MS)) {
        *ret_why = "Weir-Timeout must be a duration such as 30s or 500ms, at most 100 days";
        return WEIR_EINVAL;
    }
    if (head_has(head, HEAD_WEIR_PRIORITY) &&
        (!slice_u64(head_get(head, HEAD_WEIR_PRIORITY), &priority) || priority >= CORE_PRIORITIES)) {
        *ret_why = "Weir-Priority must be a number from 0 to 9";
        return WEIR_EINVAL;
    }
    if (head_has(head, HEAD_WEIR_COST) && !slice_u64(head_get(head, HEAD_WEIR_COST), &cost)) {
        *ret_why = "Weir-Cost must be a whole number";
        return WEIR_EINVAL;
    }
    *ret = (struct wishes){timeout_ms, cost, (unsigned)priority, given};
    return 0;
}

static bool check_expect(struct ask *a) {
    struct slice expect = head_get(&a->message->head, HEAD_EXPECT);
    if (!expect.p) return true;
    if (!slice_eq_nocase(expect, SLICE("100-continue"))) return false;
    a->expect_100 = !a->input_over && !a->http10;
    return true;
}

int ask_add_body(struct ask *a) {
    const struct edge_config *cfg = &a->conn->edge->config;
    struct message *m = a->message;
    if (a->input_over) return 0;
    m->body = body_new(cfg->body_window, cfg->buffered_body);
    if (!m->body) return WEIR_ENOMEM;
    body_producer(m->body, (struct body_side){on_worker_took_bytes, a});
    return 0;
}

void ask_read_body(struct ask *a) {
    if (a->input_over) return;
    /* One that expects 100 Continue waits for it, which whoever takes the request brings. */
    conn_wait(a->conn, a->expect_100 ? WAIT_NONE : WAIT_BODY);
}

static int fill_request(struct ask *a, struct core_request *r, const char **ret_why) {
    struct wishes w = {0};
    int err = ask_tenant(a, &r->tenant, ret_why);
    if (err == 0) err = ask_wishes(a, &w, ret_why);
    r->cost = w.cost;
    r->priority = w.priority;
    r->deadline = w.timeout_ms ? a->began_us + w.timeout_ms * 1000 : 0;
    const struct http_head *head = &a->message->head;
    r->idempotent = method_idempotent(head->method) || head_has(head, HEAD_IDEMPOTENCY_KEY);
    return err;
}

static void submit(struct ask *a) {
    const struct edge_config *cfg = &a->conn->edge->config;
    struct message *m = a->message;
    struct core_request r = {.requester = &a->requester, .service = a->service};
    const char *why = NULL;
    int err = fill_request(a, &r, &why);
    if (err == 0) err = request_prepare(a);
    if (err == 0) err = ask_add_body(a);
    struct failure failure = {.error = err, .detail = why};
    if (err == 0) {
        r.message = message_ref(m);
        uint64_t owed = m->head.has_length ? m->head.content_length : a->input_over ? 0 : cfg->body_window;
        r.bytes = sizeof(*m) + m->arena.used + (owed < cfg->body_window ? owed : cfg->body_window);
        err = core_submit(cfg->core, io_now_us(cfg->loop), &r, &a->request, &failure);
        if (err != 0) message_unref(m);
    }
    if (err != 0)
        reply_problem(a, failure.error, failure.status, failure.detail, failure.retry_after_s, false);
    else
        ask_read_body(a);
}

static void serve_page(struct ask *a, struct slice path, struct slice query) {
    const struct edge_config *cfg = &a->conn->edge->config;
    struct slice method = a->message->head.method;
    if (!slice_eq(method, SLICE("GET")) && !a->head_method) {
        reply_not_allowed(a, SLICE("GET, HEAD"));
        return;
    }
    struct edge_page page = {.status = 200, .content_type = "text/plain; charset=utf-8"};
    int err = cfg->page(cfg->ctx, path, query, &page);
    if (err != 0)
        reply_problem(a, err, 0, err == WEIR_ENOTFOUND ? "no such page" : NULL, 0, false);
    else
        reply_page(a, page.status, page.content_type, buffer_slice(&page.body));
    buffer_fini(&page.body);
}

static bool is_preflight(const struct ask *a) {
    const struct http_head *head = &a->message->head;
    return a->conn->edge->config.cors_origin && slice_eq(head->method, SLICE("OPTIONS")) &&
           head_has(head, HEAD_ORIGIN) && head_has(head, HEAD_ACR_METHOD);
}

static bool is_health(const struct ask *a) {
    const char *path = a->conn->edge->config.health_path;
    return path && slice_eq(a->message->head.target, slice_of(path));
}

static void dispatch(struct ask *a) {
    struct edge *e = a->conn->edge;
    const struct edge_config *cfg = &e->config;
    struct slice target = a->message->head.target;
    struct slice path = target_path(target), query = target_query(target);
    if (cfg->page) {
        serve_page(a, path, query);
    } else if (is_health(a)) {
        reply_page(a, e->draining ? 503 : 200, "text/plain",
                   e->draining ? SLICE("draining\n") : SLICE("ok\n"));
    } else if (slice_eq(target, SLICE("*"))) {
        reply_options(a);
    } else if (is_preflight(a)) {
        reply_preflight(a);
    } else if (api_has(e, path)) {
        api_serve(a, path, query);
    } else {
        a->service = request_service(e, path);
        if (a->service.p && jobs_api_wanted(a))
            jobs_api_submit(a);
        else if (a->service.p)
            submit(a);
        else
            reply_problem(a, WEIR_ENOSERVICE, 0, "no route leads from this path to a service", 0, false);
    }
}

void ask_begin(struct conn *c, struct slice text) {
    struct edge *e = c->edge;
    const struct edge_config *cfg = &e->config;
    e->stats.requests++;
    struct ask *a = calloc(1, sizeof(*a));
    struct message *m = a ? message_new(cfg->max_head * 4) : NULL;
    if (!m) {
        free(a);
        reply_bare(c, WEIR_ENOMEM, NULL);
        return;
    }
    *a = (struct ask){
        .requester = {&ask_requester_ops}, .conn = c, .message = m, .began_us = io_now_us(cfg->loop)};
    a->bytes_in = text.n;
    c->ask = a;
    const char *why = NULL;
    int err = http1_request(text, &m->arena, &m->head, &why);
    if (err != 0) {
        a->input_over = true;
        e->stats.malformed++;
        reply_problem(a, err, 0, why, 0, true);
        return;
    }
    struct http_head *head = &m->head;
    a->head_method = slice_eq(head->method, SLICE("HEAD"));
    a->http10 = head->http10;
    a->keep_alive = head->keep_alive;
    http1_body_init(&a->in, head, (struct slice){0});
    a->input_over = a->in.done;
    if (head->target.n > cfg->max_target)
        reply_problem(a, WEIR_ETARGETTOOBIG, 0, "the request target is longer than max-target", 0, true);
    else if (head->has_length && head->content_length > cfg->max_body)
        reply_problem(a, WEIR_ETOOBIG, 0, "Content-Length is over max-body", 0, true);
    else if (!check_expect(a))
        reply_problem(a, WEIR_EEXPECT, 0, "only Expect: 100-continue can be met", 0, !a->input_over);
    else if (e->draining && !cfg->page && !is_health(a))
        reply_problem(a, WEIR_EDRAINING, 0, NULL, 0, true);
    else
        dispatch(a);
}

static void refuse_body(struct ask *a, int err, const char *why) {
    struct conn *c = a->conn;
    struct edge *e = c->edge;
    e->stats.malformed++;
    if (a->request) core_cancel(e->config.core, io_now_us(e->config.loop), a->request, CORE_CLIENT_GONE);
    a->request = 0;
    if (a->replied)
        conn_close(c);
    else
        reply_problem(a, err, 0, why, 0, true);
}

ptrdiff_t ask_body(struct ask *a, struct slice data) {
    struct conn *c = a->conn;
    struct slice payload = {0};
    ptrdiff_t n = http1_body_next(&a->in, data, &payload);
    if (n < 0) {
        refuse_body(a, (int)n, "the chunked body is malformed");
        return n;
    }
    a->bytes_in += payload.n;
    a->body_in += payload.n;
    if (a->body_in > c->edge->config.max_body) {
        refuse_body(a, WEIR_ETOOBIG, "the body is over max-body");
        return WEIR_ETOOBIG;
    }
    struct body *body = a->message->body;
    if (payload.n > 0 && body) {
        int err = body_write(body, payload.p, payload.n);
        if (c->ask != a) return n; /* whoever takes it has answered */
        if (err == WEIR_ENOMEM) {
            refuse_body(a, err, NULL);
            return err;
        }
    }
    if (a->in.done) {
        a->input_over = true;
        if (body) body_end(body);
        if (c->ask != a) return n;
        conn_wait(c, a->replied ? WAIT_WRITE : WAIT_NONE);
    } else if (ask_full(a)) {
        stream_read_stop(&c->stream);
        conn_wait(c, a->replied ? WAIT_WRITE : WAIT_NONE);
    } else if (n > 0) {
        conn_wait(c, a->replied ? WAIT_WRITE : WAIT_BODY);
    }
    return n;
}
