/* SPDX-License-Identifier: Apache-2.0 */
/* /metrics in the Prometheus text format, version 0.0.4, from metrics.def. */
#include "hub/metrics.h"
#include "durable/callbacks.h"
#include "durable/jobs.h"
#include "durable/topics.h"
#include "hub/private.h"
#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

struct process {
    uint64_t uptime_s, resident, fds;
};

static void look_at_process(const struct hub *h, struct process *ret) {
    *ret = (struct process){.uptime_s =
                                (io_now_us((struct io_loop *)(uintptr_t)&h->loop) - h->started_us) / 1000000};
    unsigned long long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%llu %llu", &size, &resident) == 2)
        ret->resident = resident * (uint64_t)sysconf(_SC_PAGESIZE);
    if (f) fclose(f);
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d)) ret->fds++;
    if (d) closedir(d);
}

/* A row's name and help, once per name. */
static void family(struct buffer *out, const char **last, const char *name, const char *type,
                   const char *help) {
    if (*last && strcmp(*last, name) == 0) return;
    *last = name;
    (void)buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void label_value(struct buffer *out, struct slice text) {
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c == '"' || c == '\\') (void)buffer_append(out, "\\", 1);
        (void)buffer_append(out, &c, 1);
    }
}

static void histogram(struct buffer *out, const char *name, struct slice service,
                      const struct core_histogram *h) {
    static const uint64_t bounds[CORE_BOUNDS] = CORE_BOUNDS_US;
    struct buffer label;
    buffer_init(&label);
    if (service.n) {
        (void)buffer_printf(&label, "service=\"");
        label_value(&label, service);
        (void)buffer_printf(&label, "\"");
    }
    struct slice l = buffer_slice(&label);
    uint64_t sum = 0;
    for (int i = 0; i < CORE_BOUNDS; i++) {
        sum += h->buckets[i];
        (void)buffer_printf(out, "%s_bucket{%.*s%sle=\"%g\"} %llu\n", name, SLICE_ARG(l), l.n ? "," : "",
                            (double)bounds[i] / 1e6, (unsigned long long)sum);
    }
    const char *open = l.n ? "{" : "", *close = l.n ? "}" : "";
    (void)buffer_printf(out, "%s_bucket{%.*s%sle=\"+Inf\"} %llu\n", name, SLICE_ARG(l), l.n ? "," : "",
                        (unsigned long long)h->count);
    (void)buffer_printf(out, "%s_sum%s%.*s%s %.6f\n", name, open, SLICE_ARG(l), close,
                        (double)h->sum_us / 1e6);
    (void)buffer_printf(out, "%s_count%s%.*s%s %llu\n", name, open, SLICE_ARG(l), close,
                        (unsigned long long)h->count);
    buffer_fini(&label);
}

static void number(struct buffer *out, const char *name, const char *labels, uint64_t value) {
    (void)buffer_printf(out, "%s%s%s%s %llu\n", name, labels[0] ? "{" : "", labels, labels[0] ? "}" : "",
                        (unsigned long long)value);
}

static void service_number(struct buffer *out, const char *name, struct slice service, uint64_t value) {
    (void)buffer_printf(out, "%s{service=\"", name);
    label_value(out, service);
    (void)buffer_printf(out, "\"} %llu\n", (unsigned long long)value);
}

/* The name comes from a client: what is not visible ASCII stands as in a URL, since a page must be UTF-8. */
static void tenant_number(struct buffer *out, const char *name, const char *labels, struct slice tenant,
                          uint64_t value) {
    (void)buffer_printf(out, "%s{tenant=\"", name);
    for (size_t i = 0; i < tenant.n; i++) {
        unsigned char c = (unsigned char)tenant.p[i];
        if (c < ' ' || c >= 0x7f)
            (void)buffer_printf(out, "%%%02X", c);
        else
            label_value(out, (struct slice){tenant.p + i, 1});
    }
    (void)buffer_printf(out, "\"%s%s} %llu\n", labels[0] ? "," : "", labels, (unsigned long long)value);
}

#define EACH_SERVICE(body)                                                                                   \
    do {                                                                                                     \
        struct core_service_view view;                                                                       \
        for (uint32_t cursor = 0; core_service_next(h->core, &cursor, &view);) body;                         \
    } while (0)

#define EACH_TENANT(body)                                                                                    \
    do {                                                                                                     \
        struct core_tenant_view tenant;                                                                      \
        struct core_tenant_cursor at = {0};                                                                  \
        for (int n = 0; n < HUB_TENANTS_SHOWN && core_tenant_next(h->core, &at, &tenant); n++) body;         \
    } while (0)

int hub_metrics_text(const struct hub *h, struct buffer *out) {
    struct core_stats core;
    struct edge_stats edge;
    struct attach_stats attach;
    struct process process;
    struct jobs_stats jobs = {0};
    struct callbacks_stats callbacks = {0};
    struct store_stats store;
    struct topics_stats topics;
    const char *last = NULL;
    if (h->jobs) jobs_stats(h->jobs, &jobs);
    if (h->callbacks) callbacks_stats(h->callbacks, &callbacks);
    store_stats(h->store, &store);
    topics_stats(h->topics, &topics);
    core_stats(h->core, &core);
    edge_stats(h->edge, &edge);
    attach_stats(h->attach, &attach);
    look_at_process(h, &process);
#define COUNTER(name, labels, help, value)                                                                   \
    family(out, &last, name, "counter", help);                                                               \
    number(out, name, labels, value);
#define GAUGE(name, labels, help, value)                                                                     \
    family(out, &last, name, "gauge", help);                                                                 \
    number(out, name, labels, value);
#define HISTOGRAM(name, help, pointer)                                                                       \
    family(out, &last, name, "histogram", help);                                                             \
    histogram(out, name, (struct slice){0}, pointer);
#define SERVICE_COUNTER(metric, help, value)                                                                 \
    family(out, &last, metric, "counter", help);                                                             \
    EACH_SERVICE(service_number(out, metric, view.name, value));
#define SERVICE_GAUGE(metric, help, value)                                                                   \
    family(out, &last, metric, "gauge", help);                                                               \
    EACH_SERVICE(service_number(out, metric, view.name, value));
#define SERVICE_HISTOGRAM(metric, help, pointer)                                                             \
    family(out, &last, metric, "histogram", help);                                                           \
    EACH_SERVICE(histogram(out, metric, view.name, pointer));
#define TENANT_COUNTER(metric, labels, help, value)                                                          \
    family(out, &last, metric, "counter", help);                                                             \
    EACH_TENANT(tenant_number(out, metric, labels, tenant.name, value));
#define TENANT_GAUGE(metric, labels, help, value)                                                            \
    family(out, &last, metric, "gauge", help);                                                               \
    EACH_TENANT(tenant_number(out, metric, labels, tenant.name, value));
#include "hub/metrics.def"
#undef TENANT_COUNTER
#undef TENANT_GAUGE
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
#undef SERVICE_COUNTER
#undef SERVICE_GAUGE
#undef SERVICE_HISTOGRAM
    return 0;
}

int hub_metrics_markdown(struct buffer *out) {
    const char *help = "";
    (void)buffer_printf(
        out, "# Metrics\n\nServed by the admin listener at `/metrics` in the Prometheus text format. "
             "Generated from `src/hub/metrics.def` by `tools/gen-docs`.\n\n"
             "| metric | labels | type | meaning |\n|---|---|---|---|\n");
#define ROW(name, labels, type, text)                                                                        \
    if (text[0]) help = text;                                                                                \
    (void)buffer_printf(out, "| `%s` | %s%s%s | %s | %s |\n", name, labels[0] ? "`" : "", labels,            \
                        labels[0] ? "`" : "", type, help);
#define COUNTER(name, labels, text, value) ROW(name, labels, "counter", text)
#define GAUGE(name, labels, text, value) ROW(name, labels, "gauge", text)
#define HISTOGRAM(name, text, value) ROW(name, "", "histogram", text)
#define SERVICE_COUNTER(name, text, value) ROW(name, "service", "counter", text)
#define SERVICE_GAUGE(name, text, value) ROW(name, "service", "gauge", text)
#define SERVICE_HISTOGRAM(name, text, value) ROW(name, "service", "histogram", text)
#define TENANT_COUNTER(name, labels, text, value)                                                            \
    ROW(name, (sizeof(labels) > 1 ? "tenant," labels : "tenant"), "counter", text)
#define TENANT_GAUGE(name, labels, text, value)                                                              \
    ROW(name, (sizeof(labels) > 1 ? "tenant," labels : "tenant"), "gauge", text)
#include "hub/metrics.def"
    return 0;
}
