/* SPDX-License-Identifier: Apache-2.0 */
#include "core/limits.h"
#include "core/state.h"
#include "weir/weir.h"

#define RATE_STEP_US UINT64_C(1000000) /* the average is brought up to date this often */
#define RATE_SPAN_US 10e6
#define RATE_FIRST_US UINT64_C(100000) /* before the first step: measured at least so long */
enum { RETRY_AFTER_MOST = 30 };

/* ---- rates ---- */

static void pass(struct rate *r, uint64_t now) {
    if (r->running) r->elapsed_us += now - r->at;
    r->at = now;
    if (r->elapsed_us < RATE_STEP_US) return;
    double x = (double)r->elapsed_us / RATE_SPAN_US;
    double keep = r->known ? 1 / (1 + x + x * x / 2) : 0; /* about exp(-x) */
    double seen = (double)r->count * 1e6 / (double)r->elapsed_us;
    r->per_s = keep * r->per_s + (1 - keep) * seen;
    r->known = true;
    r->count = 0;
    r->elapsed_us = 0;
}

void core_rate_run(struct rate *r, uint64_t now, bool running) {
    pass(r, now);
    r->running = running;
}

void core_rate_add(struct rate *r, uint64_t now) {
    r->count++;
    if (r->running && now - r->at >= RATE_STEP_US) pass(r, now);
}

double core_rate_per_s(const struct rate *r, uint64_t now) {
    struct rate copy = *r;
    pass(&copy, now);
    if (copy.known) return copy.per_s;
    return copy.elapsed_us < RATE_FIRST_US ? 0 : (double)copy.count * 1e6 / (double)copy.elapsed_us;
}

/* How many jobs leave the queue per second. 0: unknown. */
static double drain_per_s(const struct service *s, uint64_t now) {
    double per_s = core_rate_per_s(&s->drained, now);
    if (per_s < 1e-3) per_s = core_rate_per_s(&s->finished, now); /* no queue yet to see drain */
    return per_s < 1e-3 ? 0 : per_s;
}

unsigned core_limits_retry_after(const struct service *s, uint64_t now) {
    double per_s = drain_per_s(s, now);
    if (per_s == 0) return 0;
    double seconds = (double)s->queued / per_s;
    if (seconds >= RETRY_AFTER_MOST) return RETRY_AFTER_MOST;
    unsigned whole = (unsigned)seconds;
    return whole + (whole < seconds || whole == 0);
}

/* ---- bounds ---- */

static bool fits(size_t queued, uint64_t queued_bytes, size_t bytes, size_t max, uint64_t max_bytes) {
    return queued < max && queued_bytes <= max_bytes && bytes <= max_bytes - queued_bytes;
}

/* Behind what goes before it in the queue (but for ageing), at the rate at which jobs leave the service's. In
   a keyed service that is all of its class: its owner's part of the rate is not known. */
static bool would_be_late(const struct core *core, const struct service *s, const struct place *place,
                          const struct demand *demand) {
    if (!s->config.admit_by_deadline || !demand->deadline) return false;
    if (demand->deadline <= core->now) return true;
    double per_s = drain_per_s(s, core->now);
    size_t most = s->waiting[demand->priority];
    size_t ahead =
        s->keyed ? most : core_queue_ahead(core, &place->pool->queue, demand->tenant, demand->priority);
    if (ahead > most) ahead = most;
    for (unsigned p = 0; p < demand->priority; p++) ahead += s->waiting[p];
    return per_s > 0 && (double)ahead * 1e6 > per_s * (double)(demand->deadline - core->now);
}

static int refuse(struct core *core, const struct service *s, bool here, struct failure *ret_why,
                  const char *detail) {
    if (here) ret_why->status = s->config.full_status;
    ret_why->detail = detail;
    ret_why->retry_after_s = core_limits_retry_after(s, core->now);
    return ret_why->error = WEIR_EFULL;
}

/* One tenant's flood must not keep others out: whoever has less than its part of a full queue comes in for
   the newest job of the one that has most. */
static bool make_room(struct core *core, struct service *s, const struct place *place,
                      const struct demand *demand) {
    const struct core_service_config *c = &s->config;
    struct job *job = core_share_surplus(s, demand->tenant, demand->priority);
    if (!job || would_be_late(core, s, place, demand)) return false;
    size_t bytes = job->request->bytes;
    if (!fits(s->queued - 1, s->queued_bytes - bytes, demand->bytes, c->max_queued, c->max_queued_bytes))
        return false;
    core_pool_enter(*place); /* so that it stays */
    core_request_push_out(core, job->request);
    core_pool_leave(*place);
    return true;
}

/* What is handed out at once does not stand in the queue, so it may be of any size. */
int core_limits_admit(struct core *core, struct service *s, const struct demand *demand,
                      struct place *ret_place, struct failure *ret_why) {
    const struct core_service_config *c = &s->config;
    const struct core_config *hub = &core->config;
    const char *why = NULL;
    int err = core_pool_find(core, s, demand->message, ret_place, &why);
    if (err == WEIR_EFULL || err == WEIR_EINVAL) core->stats.rejected_labels++;
    if (err == WEIR_EFULL) return refuse(core, s, true, ret_why, why);
    ret_why->detail = why;
    if (err != 0) return ret_why->error = err;
    bool at_once = s->keyed ? core_keyed_ready(core, s->keyed, ret_place->key)
                            : core_ready_best(&ret_place->pool->ready) != NULL;
    if (at_once) return 0;
    bool fits_here = fits(s->queued, s->queued_bytes, demand->bytes, c->max_queued, c->max_queued_bytes);
    bool fits_hub =
        fits(core->queued, core->queued_bytes, demand->bytes, hub->max_queued, hub->max_queued_bytes);
    if (!(fits_here && fits_hub) && ret_place->later && core_ready_best(&ret_place->later->ready)) {
        *ret_place = (struct place){.pool = ret_place->later}; /* no room to wait for whom it prefers */
        return 0;
    }
    if (!fits_here && fits_hub && make_room(core, s, ret_place, demand)) return 0;
    if (!fits_here) {
        core->stats.rejected_full++;
        return refuse(core, s, true, ret_why, "the service's queue is full");
    }
    if (!fits_hub) {
        core->stats.rejected_full++;
        return refuse(core, s, false, ret_why, "the hub's queues are full");
    }
    if (would_be_late(core, s, ret_place, demand)) {
        core->stats.rejected_admission++;
        return refuse(core, s, true, ret_why, "it would wait beyond its deadline");
    }
    return 0;
}

/* After Maurer, "Fail at Scale" (ACM Queue 13:8, 2015): a queue that has not been empty for long is standing,
   and what has waited in it is work that comes too late for somebody. */
uint64_t core_limits_shed_at(const struct job *job) {
    const struct core_service_config *c = &job->service->config;
    if (!c->shed_wait_us || !job->queue || job->request->patient) return UINT64_MAX;
    uint64_t waited = core_time_add(job->queued_at, c->shed_wait_us);
    uint64_t standing = core_time_add(job->queue->busy_since, c->shed_after_us);
    return waited > standing ? waited : standing;
}
