/* SPDX-License-Identifier: Apache-2.0 */
/* What the admin listener serves. */
#include "hub/private.h"
#include "weir/weir.h"

static int index_page(const struct hub *h, struct edge_page *page) {
    (void)h;
    return buffer_printf(
        &page->body,
        "weir %s\n\n/healthz  alive\n/readyz   takes requests\n/status   what it holds (JSON)\n"
        "/metrics  counters (Prometheus)\n",
        weir_version());
}

static int health_page(const struct hub *h, struct edge_page *page) {
    (void)h;
    return buffer_printf(&page->body, "ok\n");
}

static int ready_page(const struct hub *h, struct edge_page *page) {
    if (h->draining) page->status = 503;
    return buffer_printf(&page->body, h->draining ? "draining\n" : "ready\n");
}

static int status_page(const struct hub *h, struct edge_page *page) {
    page->content_type = "application/json";
    return hub_status_json(h, &page->body);
}

static int metrics_page(const struct hub *h, struct edge_page *page) {
    page->content_type = "text/plain; version=0.0.4; charset=utf-8";
    return hub_metrics_text(h, &page->body);
}

static const struct {
    const char *path;
    int (*make)(const struct hub *h, struct edge_page *page);
} pages[] = {{"/", index_page},
             {"/healthz", health_page},
             {"/readyz", ready_page},
             {"/status", status_page},
             {"/metrics", metrics_page}};

int hub_page(void *ctx, struct slice path, struct slice query, struct edge_page *page) {
    struct hub *h = ctx;
    (void)query;
    hub_carry_out(h); /* so that what this turn has brought shows as it will be */
    for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++)
        if (slice_eq(path, slice_of(pages[i].path))) return pages[i].make(h, page);
    return WEIR_ENOTFOUND;
}
