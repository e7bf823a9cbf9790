/* SPDX-License-Identifier: Apache-2.0 */
#include "edge/jobs_page.h"
#include "edge/json.h"

const char *jobs_page_state(const struct jobs *j, const struct store_job *job) {
    struct jobs_view view;
    bool running = job->state == STORE_LEASED && jobs_look(j, job->id, &view) && view.running;
    return store_job_state_text(job->state == STORE_LEASED && !running ? STORE_QUEUED : job->state);
}

static void put_text(json_t *to, const char *name, struct slice value) {
    if (value.n) json_object_set_new(to, name, json_text(value));
}

static void put_time(json_t *to, const char *name, uint64_t unix_ms) {
    if (unix_ms) json_object_set_new(to, name, json_time(unix_ms));
}

static void put_view(json_t *to, const struct jobs *j, const struct store_job *job) {
    struct jobs_view view;
    if (job->state != STORE_LEASED || !jobs_look(j, job->id, &view) || !view.running) return;
    put_time(to, "started", view.started_ms);
    put_text(to, "progress", view.progress);
}

json_t *jobs_page_job(const struct jobs *j, const struct store_job *job) {
    char id[STORE_ID_TEXT];
    json_t *o = json_pack("{s:o,s:o,s:s,s:i,s:i,s:i,s:o}", "id", json_text(store_id_text(job->id, id)),
                          "service", json_text(job->service), "state", jobs_page_state(j, job), "hop",
                          (int)job->hop, "failed_attempts", (int)(job->attempt + (job->state == STORE_DEAD)),
                          "priority", (int)job->priority, "created", json_time(job->created));
    if (!o) return NULL;
    put_text(o, "tenant", job->tenant);
    put_text(o, "gather", job->gather);
    put_time(o, "run_at", job->run_at);
    put_time(o, "deadline", job->deadline);
    put_view(o, j, job);
    put_time(o, "ended", job->ended);
    put_time(o, "expires", job->expires);
    put_text(o, "reason", job->reason);
    if (job->status) json_object_set_new(o, "status", json_integer((int)job->status));
    return o;
}

static bool state_of(struct slice text, unsigned *mask) {
    for (unsigned s = 0; s < STORE_STATES; s++)
        if (slice_eq(text, slice_of(store_job_state_text((enum store_job_state)s)))) {
            *mask |= 1u << s;
            if (s == STORE_QUEUED) *mask |= 1u << STORE_LEASED; /* most of them wait here */
            return true;
        }
    return false;
}

bool jobs_page_states(struct slice list, unsigned *ret_mask) {
    unsigned mask = 0;
    bool ok = true;
    if (list.n == 0) mask = (1u << STORE_STATES) - 1;
    while (list.n && list.p && ok) ok = state_of(slice_next(&list, ','), &mask);
    if (ok) *ret_mask = mask;
    return ok;
}

/* One preference, "name" or "name=value", parameters behind a semicolon dropped (RFC 7240 2). */
static void read_preference(struct slice item, bool *async, uint64_t *wait_ms) {
    struct slice value = slice_next(&item, ';'), name = slice_next(&value, '=');
    uint64_t s;
    if (slice_eq_nocase(name, SLICE("respond-async"))) *async = true;
    if (value.p && value.n > 1 && value.p[0] == '"') value = (struct slice){value.p + 1, value.n - 2};
    if (slice_eq_nocase(name, SLICE("wait")) && value.p && slice_u64(value, &s) && s <= 1u << 30)
        *wait_ms = s * 1000;
}

bool jobs_page_prefer(const struct http_head *head, uint64_t *ret_wait_ms) {
    bool async = false;
    *ret_wait_ms = 0;
    if (!head_has(head, HEAD_PREFER)) return false;
    for (unsigned i = 0; i < head->count; i++) {
        if (head->fields[i].id != HEAD_PREFER) continue;
        struct slice rest = field_value(&head->fields[i]);
        while (rest.p) read_preference(slice_next(&rest, ','), &async, ret_wait_ms);
    }
    return async;
}
