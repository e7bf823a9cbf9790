/* SPDX-License-Identifier: Apache-2.0 */
/* What the hub's files share. */
#ifndef HUB_PRIVATE_H
#define HUB_PRIVATE_H

#include "attach/attach.h"
#include "base/log.h"
#include "edge/edge.h"
#include "hub/announce.h"
#include "hub/curve.h"
#include "hub/hub.h"
#include "store/store.h"
#include "wire/url.h"

enum { HUB_MAGIC = 0x6875622d, HUB_TIDY_MS = 2000, HUB_TIDY_LATEST_US = 30 * 1000 * 1000 };
enum { HUB_TENANTS_SHOWN = 1000 }; /* on each page */

struct hub {
    unsigned magic;
    const struct config *config;
    struct io_loop loop;
    struct log log, access_log;
    int access_fd; /* to close; -1: none */
    struct core *core;
    struct edge *edge, *admin, *topics_edge;
    struct attach *attach;
    struct store *store;
    struct jobs *jobs; /* NULL: there is no data directory */
    struct topics *topics;
    struct callbacks *callbacks; /* NULL: none are made; as post */
    struct post *post;
    struct url *callback_urls;
    struct store_op sweep;
    bool sweeping;
    uint64_t started_unix_ms, sweep_due_ms, durable_due_ms;
    struct curve_key zmq_key;
    struct announcer *announcer;
    struct edge_route *routes;
    char *cors_origin;
    weir_choose *choose; /* the embedding program's; NULL: none */
    void *choose_arg;
    uv_timer_t core_timer, drain_timer, tidy_timer, durable_timer;
    uint64_t tidied_us, tidied_requests;
    uint64_t core_due_us;
    uint64_t started_us, drain_until_us;
    int handed[2];      /* a pipe: descriptors of sockets to adopt, by hub_connect */
    volatile int stops; /* atomic */
    bool draining, over;
};

/* Once per loop turn. */
void hub_turn(void *ctx);
/* Carries out what the core has decided. */
void hub_carry_out(struct hub *h);

/* rules.c: makes h->core. 0, WEIR_ENOMEM, WEIR_EIO, or what the core says. */
int hub_make_core(struct hub *h);
/* core_config.value. */
struct slice hub_value(void *ctx, const void *message, enum core_value kind, struct slice name);
/* core_config.choose, which asks h->choose. */
size_t hub_choice(void *ctx, struct slice service, const void *message, const struct core_candidate *workers,
                  size_t n);
/* durable.c: makes h->store, jobs and topics. After the core. */
int hub_make_durable(struct hub *h, char **ret_text);
/* Once per turn. */
void hub_durable_turn(struct hub *h);
/* No more is run; who waits for news is told that there are none. */
void hub_durable_drain(struct hub *h);
/* While it drains: all that has come in is stored. */
bool hub_durable_idle(const struct hub *h);
/* After edges and workers are closed, before the loop ends: the store is closed. */
void hub_durable_close(struct hub *h);
/* Before the core is freed. */
void hub_durable_free(struct hub *h);
/* pages.c: what the admin listener serves. */
int hub_page(void *ctx, struct slice path, struct slice query, struct edge_page *page);
/* status.c, metrics.c: 0 or WEIR_ENOMEM. */
int hub_status_json(const struct hub *h, struct buffer *out);
int hub_metrics_text(const struct hub *h, struct buffer *out);

#endif
