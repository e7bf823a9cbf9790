/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker's connection up to the reversal of roles: its upgrade request is read, checked and answered
 * (docs/protocol.md "Reverse HTTP", steps 1 and 2).
 */
#include "attach/link.h"
#include "attach/h1.h"
#include "attach/h2.h"
#include "base/assert.h"
#include "weir/weir.h"
#include "wire/http1.h"
#include "wire/problem.h"
#include <stdio.h>
#include <stdlib.h>

static struct link *link_of(struct stream *s) {
    struct link *l = CONTAINER_OF(s, struct link, stream);
    MAGIC_CHECK(l, LINK_MAGIC);
    return l;
}

static void forget_worker(struct link *l) {
    if (l->worker) core_worker_gone(l->attach->config.core, link_now(l), l->worker);
    l->worker = 0;
    if (l->protocol) l->protocol->stop(l);
}

void link_close(struct link *l, enum log_level level, const char *event, const char *why) {
    if (l->closing) return;
    l->closing = true;
    log_event(l->attach->config.log, level, event, "worker %s: %s", l->name, why);
    forget_worker(l);
    stream_close(&l->stream);
}

/* Answers the upgrade with an error and hangs up once that is sent. */
static void refuse(struct link *l, int error, const char *why) {
    struct attach *a = l->attach;
    unsigned status = error_status(error);
    struct buffer body;
    buffer_init(&body);
    char id[32]; /* the same in the log */
    int n = snprintf(id, sizeof(id), "attach-%llu", (unsigned long long)l->serial);
    struct problem p = {.status = status, .detail = slice_of(why), .request_id = {id, (size_t)n}};
    if (problem_write(&body, &p) == 0)
        (void)buffer_printf(
            stream_out(&l->stream),
            "HTTP/1.1 %u %s\r\ncontent-type: application/problem+json\r\ncontent-length: %zu\r\n"
            "connection: close\r\n\r\n%.*s",
            status, status_text(status), buffer_size(&body), SLICE_ARG(buffer_slice(&body)));
    buffer_fini(&body);
    a->stats.links_refused++;
    log_event(a->config.log, LOG_WARN, "worker-refused", "worker %s: %u %s (%s)", l->name, status, why, id);
    l->closing = true;
    stream_close_after_write(&l->stream);
}

static int attach_h1(struct link *l, const struct ptth_offer *offer, const char **ret_why) {
    char peer[64];
    stream_peer(&l->stream, peer, sizeof(peer));
    struct h1_offer o = {.worker = offer->worker.p ? offer->worker : slice_of(peer),
                         .alone = !offer->worker.p,
                         .services = offer->services,
                         .labels = offer->labels};
    snprintf(l->name, sizeof(l->name), "%.*s", SLICE_ARG(o.worker));
    int err = h1_join(l, &o);
    if (err == 0) err = ptth_write_accept(stream_out(&l->stream));
    if (err == 0) h1_start(l);
    if (err == 0) stream_dirty(&l->stream);
    *ret_why = weir_strerror(err);
    return err;
}

static int attach_h2(struct link *l, const struct ptth_offer *offer, const char **ret_why) {
    struct attach *a = l->attach;
    char peer[64];
    stream_peer(&l->stream, peer, sizeof(peer));
    struct core_worker worker = {.id = offer->worker.p ? offer->worker : slice_of(peer),
                                 .labels = offer->labels,
                                 .address = slice_of(peer),
                                 .transport = SLICE("h2")};
    struct worker_port *port = NULL;
    int err = h2_prepare(l, &port);
    worker.port = port;
    if (err == 0) err = core_worker_attach(a->config.core, link_now(l), &worker, &l->worker);
    if (err == 0) err = attach_offer(a, l->worker, offer->services);
    if (err == 0) snprintf(l->name, sizeof(l->name), "%.*s", SLICE_ARG(worker.id));
    if (err == 0) err = ptth_write_accept(stream_out(&l->stream));
    if (err == 0) err = h2_start(l);
    *ret_why = weir_strerror(err);
    if (err == 0)
        log_event(a->config.log, LOG_INFO, "worker-attached", "worker %s offers %.*s", l->name,
                  SLICE_ARG(offer->services));
    return err;
}

/* A worker that says nothing on connect: those of one address are one worker. */
static void attach_silent(struct link *l) {
    char peer[64];
    stream_peer(&l->stream, peer, sizeof(peer));
    const char *colon = strrchr(peer, ':');
    struct slice host = {peer, colon ? (size_t)(colon - peer) : strlen(peer)};
    struct h1_offer o = {.worker = host, .services = slice_of(l->door->service), .silent = true};
    snprintf(l->name, sizeof(l->name), "%.*s", SLICE_ARG(host));
    int err = h1_join(l, &o);
    if (err == 0)
        h1_start(l);
    else
        link_close(l, LOG_WARN, "worker-refused", weir_strerror(err));
}

void link_accepted(struct link *l) {
    if (l->door && l->door->service) attach_silent(l);
    l->door = NULL;
}

static int upgrade(struct link *l, struct slice text, struct arena *arena, const char **ret_why) {
    struct http_head head;
    struct ptth_offer offer;
    int err = http1_request(text, arena, &head, ret_why);
    if (err == 0) err = ptth_parse(&head, arena, &offer, ret_why);
    if (err != 0) return err;
    err = attach_admit(l->attach, offer.token, ret_why);
    if (err != 0) return err;
    return offer.protocol == PTTH_H2 ? attach_h2(l, &offer, ret_why) : attach_h1(l, &offer, ret_why);
}

static void on_upgrade_bytes(struct link *l, const char *bytes, size_t n) {
    const char *why = "not an HTTP request";
    if (buffer_append(&l->in, bytes, n) != 0) {
        refuse(l, WEIR_ENOMEM, "out of memory");
        return;
    }
    ptrdiff_t size = http1_scan(buffer_slice(&l->in), &l->scanned, l->attach->config.max_head);
    if (size == 0) return;
    if (size < 0) {
        refuse(l, (int)size, why);
        return;
    }
    struct arena arena;
    char room[2048];
    arena_init(&arena, l->attach->config.max_head * 4, room, sizeof(room));
    int err = upgrade(l, (struct slice){buffer_slice(&l->in).p, (size_t)size}, &arena, &why);
    arena_fini(&arena);
    if (err != 0) {
        forget_worker(l);
        refuse(l, err, why);
        return;
    }
    struct buffer rest = l->in;
    buffer_init(&l->in);
    buffer_consume(&rest, (size_t)size);
    if (buffer_size(&rest) > 0) l->protocol->data(l, buffer_slice(&rest).p, buffer_size(&rest));
    buffer_fini(&rest);
}

static void on_data(struct stream *s, const char *bytes, size_t n) {
    struct link *l = link_of(s);
    if (l->closing) return;
    if (l->protocol)
        l->protocol->data(l, bytes, n);
    else
        on_upgrade_bytes(l, bytes, n);
}

static void on_eof(struct stream *s, int err) {
    struct link *l = link_of(s);
    if (l->protocol && l->protocol->end && err == 0) l->protocol->end(l);
    if (l->closing) return;
    if (l->protocol)
        link_close(l, l->protocol->grouped ? LOG_DEBUG : LOG_INFO, "worker-gone",
                   err ? "connection broke" : "connection closed");
    else
        link_close(l, LOG_DEBUG, "worker-gone", "closed before the upgrade");
}

static void on_drained(struct stream *s) {
    struct link *l = link_of(s);
    if (l->protocol && !l->closing) l->protocol->drained(l);
}

static void on_before_write(struct stream *s) {
    struct link *l = link_of(s);
    if (l->protocol && !l->closing) l->protocol->before_write(l);
}

static void on_closed(struct stream *s) {
    struct link *l = link_of(s);
    l->attach->stats.links--;
    list_del(&l->node);
    buffer_fini(&l->in);
    l->magic = 0;
    free(l);
}

static const struct stream_ops stream_ops = {.data = on_data,
                                             .eof = on_eof,
                                             .drained = on_drained,
                                             .before_write = on_before_write,
                                             .closed = on_closed};

struct link *link_new(struct attach *a, bool is_unix) {
    struct link *l = calloc(1, sizeof(*l));
    if (!l) return NULL;
    if (stream_init(&l->stream, a->config.loop, is_unix, &stream_ops) != 0) {
        free(l);
        return NULL;
    }
    l->magic = LINK_MAGIC;
    l->stream.first = true;
    l->attach = a;
    l->opened_us = io_now_us(a->config.loop);
    snprintf(l->name, sizeof(l->name), "(not yet known)");
    buffer_init(&l->in);
    list_push_back(&a->links, &l->node);
    l->serial = ++a->stats.links_opened;
    a->stats.links++;
    return l;
}
