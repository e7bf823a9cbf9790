/* SPDX-License-Identifier: Apache-2.0 */
/* /status: what the hub holds now, as JSON (docs/protocol.md "Admin"). */
#include "edge/json.h"
#include "hub/private.h"
#include "weir/weir.h"
#include <stdio.h>

enum { JOBS_SHOWN = 1000 };

static void put_text(json_t *to, const char *name, struct slice value) {
    if (value.n) json_object_set_new(to, name, json_text(value));
}

static json_t *service(const struct core_service_view *v) {
    json_t *o = json_pack("{s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:f,s:f}", "name", json_text(v->name),
                          "queued", json_number(v->queued), "queued_bytes", json_number(v->queued_bytes),
                          "running", json_number(v->running), "workers", json_number(v->workers), "slots",
                          json_number(v->slots), "submitted", json_number(v->submitted), "dispatched",
                          json_number(v->dispatched), "done", json_number(v->done), "oldest_wait_ms",
                          (double)v->oldest_wait_us / 1000, "rate_per_s", (double)v->done_per_s_milli / 1000);
    if (v->config->shortest_first) put_text(o, "order", SLICE("shortest"));
    put_text(o, "require", v->config->require);
    put_text(o, "prefer", v->config->prefer);
    if (v->phase)
        json_object_set_new(o, "ring",
                            json_pack("{s:o,s:s,s:i,s:i,s:i,s:i,s:o,s:o}", "epoch", json_number(v->epoch),
                                      "phase", v->phase, "members", (int)v->members, "slices", (int)v->slices,
                                      "held", (int)v->held, "moved", (int)v->moved, "moved_ever",
                                      json_number(v->changes), "keys", json_number(v->keys)));
    return o;
}

static json_t *services(const struct hub *h) {
    json_t *list = json_array();
    struct core_service_view v;
    for (uint32_t cursor = 0; core_service_next(h->core, &cursor, &v);)
        json_array_append_new(list, service(&v));
    return list;
}

static json_t *tenants(const struct hub *h) {
    json_t *list = json_array();
    struct core_tenant_view v;
    struct core_tenant_cursor at = {0};
    for (int n = 0; n < HUB_TENANTS_SHOWN && core_tenant_next(h->core, &at, &v); n++)
        json_array_append_new(
            list,
            json_pack("{s:o,s:o,s:o,s:o,s:o,s:i,s:f,s:o,s:i}", "name", json_text(v.name), "requests",
                      json_number(v.requests), "submitted", json_number(v.submitted), "dispatched",
                      json_number(v.dispatched), "rejected_rate", json_number(v.rejected_rate), "weight",
                      (int)v.config->weight, "rate_per_s", (double)v.config->rate_per_h / 3600, "burst",
                      json_number(v.config->burst), "best_priority", (int)v.config->best_priority));
    return list;
}

/* The names of its services, and what it owns of the rings of those that are keyed. */
static json_t *offered(const struct hub *h, uint64_t worker, json_t *ret_slices) {
    json_t *list = json_array();
    struct slice name;
    unsigned slices;
    for (uint32_t cursor = 0; core_worker_service_next(h->core, worker, &cursor, &name, &slices);) {
        json_array_append_new(list, json_text(name));
        if (slices) json_object_setn_new(ret_slices, name.p, name.n, json_number(slices));
    }
    return list;
}

static json_t *workers(const struct hub *h, uint64_t now) {
    json_t *list = json_array();
    struct core_worker_view v;
    for (uint32_t cursor = 0; core_worker_next(h->core, &cursor, &v);) {
        json_t *slices = json_object(), *services = offered(h, v.worker, slices);
        json_array_append_new(
            list, json_pack("{s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:b,s:f,s:o}", "id", json_text(v.id), "address",
                            json_text(v.address), "transport", json_text(v.transport), "labels",
                            json_text(v.labels), "services", services, "slices", slices, "slots",
                            json_number(v.slots), "running", json_number(v.running), "draining", v.draining,
                            "attached_s", (double)(now - v.attached_us) / 1e6, "dispatched",
                            json_number(v.dispatched)));
    }
    return list;
}

/* What is stored, for as long as it takes. */
static json_t *stored(const struct hub *h) {
    struct store_stats v;
    store_stats(h->store, &v);
    json_t *jobs = json_object();
    for (unsigned i = 0; i < STORE_STATES; i++)
        json_object_set_new(jobs,
                            i == STORE_LEASED ? "leased" : store_job_state_text((enum store_job_state)i),
                            json_number(v.jobs[i]));
    return json_pack("{s:o,s:o,s:o,s:o,s:o,s:o}", "jobs", jobs, "topics", json_number(v.topics),
                     "subscriptions", json_number(v.subscriptions), "messages", json_number(v.messages),
                     "database_bytes", json_number(v.bytes), "blob_bytes", json_number(v.blob_bytes));
}

static json_t *worker_name(const struct hub *h, uint64_t worker) {
    struct core_worker_view v;
    for (uint32_t cursor = 0; worker && core_worker_next(h->core, &cursor, &v);)
        if (v.worker == worker) return json_text(v.id);
    return json_null();
}

static json_t *jobs(const struct hub *h, uint64_t now) {
    static const char *const states[] = {"queued", "running", "answering", "leaving"};
    json_t *list = json_array();
    struct core_job_view v;
    size_t shown = 0;
    for (uint32_t cursor = 0; shown < JOBS_SHOWN && core_job_next(h->core, &cursor, &v); shown++) {
        char id[SLICE_U64];
        json_array_append_new(
            list, json_pack("{s:o,s:o,s:o,s:s,s:i,s:i,s:i,s:f}", "job", json_text(slice_from_hex(id, v.job)),
                            "service", json_text(v.service), "worker", worker_name(h, v.worker), "state",
                            states[v.state], "hop", (int)v.hop, "attempt", (int)v.attempt, "priority",
                            (int)v.priority, "age_ms", (double)(now - v.queued_at) / 1000));
    }
    return list;
}

static int append(const char *bytes, size_t n, void *out) {
    return buffer_append(out, bytes, n);
}

int hub_status_json(const struct hub *h, struct buffer *out) {
    uint64_t now = io_now_us((struct io_loop *)(uintptr_t)&h->loop);
    struct core_stats s;
    core_stats(h->core, &s);
    json_t *root =
        json_pack("{s:s,s:f,s:b,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "version", weir_version(),
                  "uptime_s", (double)(now - h->started_us) / 1e6, "draining", s.draining, "requests",
                  json_number(s.requests), "queued", json_number(s.queued), "queued_bytes",
                  json_number(s.queued_bytes), "running", json_number(s.running), "workers",
                  json_number(s.workers), "slots", json_number(s.slots), "services", services(h), "tenants",
                  tenants(h), "workers_list", workers(h, now), "jobs", jobs(h, now), "stored", stored(h));
    int err = root ? json_dump_callback(root, append, out, JSON_COMPACT) : -1;
    json_decref(root);
    return err == 0 ? buffer_append(out, "\n", 1) : WEIR_ENOMEM;
}
