/* SPDX-License-Identifier: Apache-2.0 */
/* A service's queue: a FIFO list of jobs for each priority class, and which of them to take. */
#include "core/state.h"

static void count(struct core *core, struct service *s, size_t bytes) {
    if (s->queued++ == 0) core_rate_run(&s->drained, core->now, true);
    s->queued_bytes += bytes;
    core->queued++;
    core->queued_bytes += bytes;
}

static void uncount(struct core *core, struct service *s, size_t bytes) {
    if (--s->queued == 0) core_rate_run(&s->drained, core->now, false);
    s->queued_bytes -= bytes;
    core->queued--;
    core->queued_bytes -= bytes;
}

void core_queue_put(struct core *core, struct job *job, bool head) {
    struct service *s = job->service;
    struct list *class = &s->classes[job->priority];
    job->state = CORE_QUEUED;
    job->sent_at = 0;
    if (head)
        list_push_front(class, &job->link);
    else
        list_push_back(class, &job->link);
    s->occupied |= 1u << job->priority;
    s->waiting[job->priority]++;
    count(core, s, job->request->bytes);
    core_request_arm(core, job->request);
}

void core_queue_remove(struct core *core, struct job *job) {
    struct service *s = job->service;
    list_del(&job->link);
    s->waiting[job->priority]--;
    if (list_empty(&s->classes[job->priority])) s->occupied &= ~(1u << job->priority);
    uncount(core, s, job->request->bytes);
}

static struct job *head_of(const struct service *s, unsigned priority) {
    return CONTAINER_OF(s->classes[priority].next, struct job, link);
}

/* The class after ageing. */
static uint64_t class_now(const struct service *s, const struct job *job, uint64_t now) {
    if (!s->config.age_us) return job->priority;
    uint64_t up = (now - job->queued_at) / s->config.age_us;
    return up < job->priority ? job->priority - up : 0;
}

struct job *core_queue_next(const struct service *s, uint64_t now) {
    if (!s->occupied) return NULL;
    struct job *best = head_of(s, (unsigned)__builtin_ctz(s->occupied));
    unsigned rest = s->occupied & (s->occupied - 1);
    if (!rest) return best;
    uint64_t best_class = class_now(s, best, now);
    for (; rest; rest &= rest - 1) {
        struct job *job = head_of(s, (unsigned)__builtin_ctz(rest));
        uint64_t class = class_now(s, job, now);
        if (class > best_class || (class == best_class && job->queued_at >= best->queued_at)) continue;
        best = job;
        best_class = class;
    }
    return best;
}

uint64_t core_queue_oldest_wait(const struct service *s, uint64_t now) {
    uint64_t oldest = 0;
    for (unsigned rest = s->occupied; rest; rest &= rest - 1) {
        uint64_t wait = now - head_of(s, (unsigned)__builtin_ctz(rest))->queued_at;
        if (wait > oldest) oldest = wait;
    }
    return oldest;
}
