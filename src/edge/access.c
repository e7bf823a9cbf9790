/* SPDX-License-Identifier: Apache-2.0 */
/* What is noted of each request when it is over: the duration, and a line in the access log. */
#include "base/clock.h"
#include "edge/conn.h"

static void text_line(struct buffer *b, const struct ask *a, uint64_t us) {
    const struct http_head *head = &a->message->head;
    char now[CLOCK_TEXT];
    (void)buffer_append_slice(b, clock_text(now, clock_unix_ms()));
    (void)buffer_printf(b, " %s \"%.*s %.*s HTTP/1.%d\" %u %llu %llu %.*s %.*s %.6f%s\n", a->conn->peer,
                        SLICE_ARG(head->method), SLICE_ARG(head->target), a->http10 ? 0 : 1, a->status,
                        (unsigned long long)a->bytes_in, (unsigned long long)a->bytes_out,
                        a->service.n ? (int)a->service.n : 1, a->service.n ? a->service.p : "-",
                        a->request_id.n ? (int)a->request_id.n : 1, a->request_id.n ? a->request_id.p : "-",
                        (double)us / 1e6, a->was_left ? " left" : "");
}

static void json_text(struct buffer *b, const char *name, struct slice value) {
    (void)buffer_printf(b, ",\"%s\":", name);
    (void)log_json_string(b, value);
}

static void json_line(struct buffer *b, const struct ask *a, uint64_t us) {
    const struct http_head *head = &a->message->head;
    char now[CLOCK_TEXT];
    (void)buffer_printf(b, "{\"time\":\"");
    (void)buffer_append_slice(b, clock_text(now, clock_unix_ms()));
    (void)buffer_printf(b, "\"");
    json_text(b, "client", slice_of(a->conn->peer));
    json_text(b, "method", head->method);
    json_text(b, "target", head->target);
    json_text(b, "service", a->service);
    json_text(b, "request_id", a->request_id);
    json_text(b, "user_agent", head_get(head, HEAD_USER_AGENT));
    json_text(b, "referer", head_get(head, HEAD_REFERER));
    (void)buffer_printf(
        b, ",\"status\":%u,\"bytes_in\":%llu,\"bytes_out\":%llu,\"duration_s\":%.6f,\"left\":%s}\n",
        a->status, (unsigned long long)a->bytes_in, (unsigned long long)a->bytes_out, (double)us / 1e6,
        a->was_left ? "true" : "false");
}

void access_log(struct ask *a) {
    struct edge *e = a->conn->edge;
    uint64_t us = io_now_us(e->config.loop) - a->began_us;
    core_histogram_add(&e->stats.duration, us);
    e->stats.bytes_out += a->bytes_out;
    if (!e->config.access_log || !a->message) return;
    if (!a->conn->peer[0]) stream_peer(&a->conn->stream, a->conn->peer, sizeof(a->conn->peer));
    struct buffer line;
    buffer_init(&line);
    if (e->config.access_json)
        json_line(&line, a, us);
    else
        text_line(&line, a, us);
    log_raw(e->config.access_log, buffer_slice(&line));
    buffer_fini(&line);
}
