/* SPDX-License-Identifier: Apache-2.0 */
#include "durable_ledger.h"
#include "durable/held.h"
#include "store/model_state.h"
#include <stdio.h>
#include <stdlib.h>

#define VIOLATED(e, ...)                                                                                     \
    do {                                                                                                     \
        const struct entry *at = (e);                                                                        \
        char text[512];                                                                                      \
        snprintf(text, sizeof text, __VA_ARGS__);                                                            \
        dw_violated("violated: %s (job %llu, stage %u, attempt %u, %s)", text,                               \
                    at ? (unsigned long long)at->token : 0ULL, at ? at->stage : 0, at ? at->attempt : 0,     \
                    at ? store_job_state_text(at->state) : "");                                              \
    } while (0)

void ledger_init(struct ledger *l, struct dw *w) {
    *l = (struct ledger){.w = w};
}

struct entry *ledger_new(struct ledger *l) {
    for (unsigned i = 0; i < LEDGER_ENTRIES; i++) {
        struct entry *e = &l->entries[i];
        if (e->token) continue;
        *e = (struct entry){.token = ++l->tokens * LEDGER_ENTRIES + i, .put = {.err = DW_PENDING}};
        jobs_watch_init(&e->watch);
        return e;
    }
    return NULL;
}

static bool has_ended(enum store_job_state s) {
    return (STORE_ENDED_MASK >> s & 1) != 0;
}

struct entry *ledger_by_id(struct ledger *l, struct store_id id) {
    FOR_ENTRIES(l, e) {
        if (e->stored && store_id_compare(e->id, id) == 0) return e;
    }
    return NULL;
}

struct entry *ledger_by_target(struct ledger *l, const char *target, unsigned *ret_stage, int *ret_part) {
    unsigned long long token;
    int n = 0;
    *ret_part = -1;
    if (sscanf(target, "/j%llu.%u%n", &token, ret_stage, &n) != 2) return NULL;
    if (target[n] == '/') *ret_part = atoi(target + n + 2);
    struct entry *e = &l->entries[token % LEDGER_ENTRIES];
    return e->token == token ? e : NULL;
}

/* Of the head of a request, as it is stored. */
static struct entry *by_head(struct ledger *l, struct slice head, unsigned *ret_stage) {
    char text[80] = "";
    int part;
    const char *space = memchr(head.p, ' ', head.n);
    if (!space) return NULL;
    size_t left = head.n - (size_t)(space + 1 - head.p), n = left < 79 ? left : 79;
    memcpy(text, space + 1, n);
    text[strcspn(text, " ")] = '\0';
    return ledger_by_target(l, text, ret_stage, &part);
}

struct stamp stamp_of(const void *bytes, size_t n) {
    return (struct stamp){n, dw_sum(dw_sum(0, "", 0), bytes, n)};
}

static uint64_t size_of(const struct store_body *b) {
    return b->blob ? b->size : b->bytes.n;
}

/* ---- what clients are told ---- */

void ledger_put_told(struct ledger *l, struct entry *e) {
    e->asked = false;
    if (l->dying) {
        e->left = true; /* nobody hears it */
    } else if (e->put.err != 0) {
        if (e->stored) VIOLATED(e, "a client was told %d, but its job is stored", e->put.err);
    } else if (e->put.repeated) {
        const struct entry *first = ledger_by_id(l, e->put.id);
        if (!first && !e->repeated) VIOLATED(e, "a client was told of a job that is not there");
    } else {
        if (!e->stored) VIOLATED(e, "a client was told that its job is stored, and it is not");
        if (store_id_compare(e->id, e->put.id) != 0) VIOLATED(e, "a client was told another id");
        e->accepted = true;
        l->accepted++;
    }
}

/* ---- what takes effect in the store ---- */

static void ended(struct ledger *l, struct entry *e, const struct store_op *op) {
    const struct store_job *job = &op->job;
    if (has_ended(e->state)) VIOLATED(e, "ended twice: now as %s", store_job_state_text(job->state));
    unsigned replied = e->kind == STORE_HOP_SCATTER ? 200 : e->replied; /* 200: what was gathered */
    bool whole = replied != 0 && job->status == replied;
    if (job->state == STORE_DONE && (!whole || job->status >= 400)) VIOLATED(e, "done with %u", job->status);
    if (job->state == STORE_DEAD && e->attempt + 1 < l->w->config.attempts)
        VIOLATED(e, "dead before its last attempt");
    if (whole && job->state != STORE_CANCELLED && size_of(&job->answer.body) != e->reply.size)
        VIOLATED(e, "an answer of %llu bytes is stored as %llu", (unsigned long long)e->reply.size,
                 (unsigned long long)size_of(&job->answer.body));
    if (whole && !job->answer.body.blob && job->state != STORE_CANCELLED) {
        struct stamp s = stamp_of(job->answer.body.bytes.p, job->answer.body.bytes.n);
        if (s.sum != e->reply.sum) VIOLATED(e, "another answer is stored");
    }
    bool deadline = e->deadline && e->deadline <= l->w->ms;
    if (job->state == STORE_FAILED && !whole && job->status != 508 && !(job->status == 504 && deadline))
        VIOLATED(e, "failed with %u", job->status);
    e->state = job->state;
    l->ended[job->state]++;
}

static void stepped(struct ledger *l, struct entry *e, const struct store_op *op) {
    unsigned stage;
    if (by_head(l, op->job.message.head, &stage) != e) VIOLATED(e, "another job's message is stored for it");
    if (stage != e->stage + 1) VIOLATED(e, "it steps to stage %u", stage);
    if (e->kind == STORE_HOP_SCATTER) {
        char text[32];
        int n = snprintf(text, sizeof text, "gathered %u", e->scattered);
        e->next = stamp_of(text, (size_t)n);
    }
    if (size_of(&op->job.message.body) != e->next.size) VIOLATED(e, "another body is forwarded");
    e->stage = stage;
    e->kind = op->job.kind;
    e->attempt = 0;
    e->body = e->next;
    e->parts = e->parts_listed = 0;
    e->starts = e->excused = 0;
    e->failed = false;
    e->replied = 0;
    e->faults = l->faults;
    l->steps++;
}

static void released(struct ledger *l, struct entry *e, const struct store_op *op) {
    const struct store_job *job = &op->job;
    bool counted = job->attempt != e->attempt;
    bool elsewhere = slice_eq(job->reason, SLICE("there is no such service"));
    /* Without a word to a worker, or when it had answered and the store was slow. */
    bool slow = slice_eq(job->reason, SLICE("an attempt took longer than job-timeout")) &&
                (e->kind == STORE_HOP_SCATTER || e->answering);
    if (job->attempt > e->attempt + 1) VIOLATED(e, "an attempt counts more than once");
    if (counted && !e->failed && !elsewhere && !slow && l->faults == e->faults)
        VIOLATED(e, "an attempt counts that has not failed: %.*s", SLICE_ARG(job->reason));
    if (!counted && e->failed && l->faults == e->faults)
        VIOLATED(e, "an attempt that has failed does not count: %.*s", SLICE_ARG(job->reason));
    if (job->attempt >= l->w->config.attempts) VIOLATED(e, "it is to be tried after its last attempt");
    if (!counted) {
        l->uncounted++;
        e->excused++;
    }
    e->state = STORE_QUEUED;
    e->attempt = job->attempt;
    e->not_before = job->run_at;
    l->released++;
}

static void put(struct ledger *l, const struct store_op *op) {
    unsigned stage;
    struct entry *e = by_head(l, op->job.message.head, &stage);
    if (!e) VIOLATED(NULL, "a job that nobody has asked for");
    if (op->found) {
        e->repeated = true;
        return;
    }
    if (e->stored) VIOLATED(e, "stored twice");
    e->stored = true;
    e->id = op->job.id;
    e->state = op->lease ? STORE_LEASED : STORE_QUEUED;
    e->fence = op->lease;
    e->not_before = op->job.run_at;
    e->deadline = op->job.deadline;
    e->faults = l->faults;
    if (size_of(&op->job.message.body) != e->body.size) VIOLATED(e, "another body is stored");
}

static void leased(struct ledger *l, const struct store_op *op) {
    for (size_t i = 0; i < op->count; i++) {
        struct entry *e = ledger_by_id(l, op->jobs[i].id);
        if (!e) VIOLATED(NULL, "an unknown job is leased");
        if (e->state != STORE_QUEUED) VIOLATED(e, "leased, and it was not queued");
        if (op->jobs[i].fence <= e->fence) VIOLATED(e, "its fence has not grown");
        e->state = STORE_LEASED;
        e->fence = op->jobs[i].fence;
        e->faults = l->faults;
    }
}

static void loaded(struct ledger *l) {
    FOR_ENTRIES(l, e) {
        if (e->stored && e->state == STORE_LEASED) e->state = STORE_QUEUED;
    }
}

void ledger_applied(void *ctx, const struct store_op *op) {
    struct ledger *l = ctx;
    if (op->err != 0) return;
    if (op->kind == STORE_JOB_PUT) put(l, op);
    if (op->kind == STORE_JOB_LEASE) leased(l, op);
    if (op->kind == STORE_JOB_LOAD) loaded(l);
    if (op->kind == STORE_JOB_PURGE || op->kind == STORE_SWEEP) ledger_check(l, false);
    bool one = op->kind == STORE_JOB_STEP || op->kind == STORE_JOB_FINISH || op->kind == STORE_JOB_RELEASE ||
               op->kind == STORE_JOB_REVIVE || op->kind == STORE_PART_PUT || op->kind == STORE_PART_LIST;
    struct entry *e = one ? ledger_by_id(l, op->job.id) : NULL;
    if (!e) return;
    bool fenced = op->kind == STORE_JOB_STEP || op->kind == STORE_JOB_RELEASE || op->kind == STORE_PART_PUT ||
                  (op->kind == STORE_JOB_FINISH && op->job.fence);
    if (fenced && (e->state != STORE_LEASED || op->job.fence != e->fence))
        VIOLATED(e, "%s by somebody who does not have it", store_kind_text(op->kind));
    if (op->kind == STORE_JOB_STEP) stepped(l, e, op);
    if (op->kind == STORE_JOB_FINISH) ended(l, e, op);
    if (op->kind == STORE_JOB_RELEASE) released(l, e, op);
    if (op->kind == STORE_PART_PUT && op->part.index < LEDGER_PARTS) {
        if (e->kind != STORE_HOP_SCATTER) VIOLATED(e, "a part's answer is stored for a hop that has none");
        e->parts |= UINT64_C(1) << op->part.index;
    }
    if (op->kind == STORE_PART_LIST) e->parts_listed = e->parts;
    if (op->kind != STORE_JOB_REVIVE) return;
    if (e->state != STORE_DEAD) VIOLATED(e, "revived, and it was not dead");
    e->state = STORE_QUEUED;
    e->attempt = e->starts = e->excused = 0;
    e->not_before = 0;
    e->end_told = e->failed = false;
    e->replied = 0;
    l->revived++;
}

void ledger_telling(void *ctx, const struct store_op *op) {
    struct ledger *l = ctx;
    if (op->kind == STORE_BLOB_DROP && op->err != 0) l->drop_faults++;
    struct entry *e = ledger_by_id(l, op->job.id);
    if (op->err != 0 || !e) return;
    if (op->kind == STORE_JOB_PUT) e->put_told = true;
    if (op->kind == STORE_JOB_STEP) e->stage_told = e->stage;
    if (op->kind == STORE_JOB_FINISH && has_ended(e->state)) e->end_told = true; /* not revived since */
}

/* ---- what workers are given ---- */

static void part_sent(struct ledger *l, struct entry *e, unsigned stage, int part) {
    l->parts++;
    if (e->kind != STORE_HOP_SCATTER || stage != e->stage)
        VIOLATED(e, "a part of stage %u runs, which is not where it stands", stage);
    if (part < LEDGER_PARTS && e->parts_listed >> part & 1)
        VIOLATED(e, "part %d runs again, and its answer was there", part);
    if (e->end_told) VIOLATED(e, "a part runs after its job's end was told");
}

static void nobody_else_has(struct ledger *l, struct entry *e, const struct dw_lease *lease) {
    for (unsigned i = 0; i < DW_LEASES; i++) {
        const struct dw_lease *other = &l->w->leases[i];
        if (!other->state || other->state == LEASE_LEAVING || other == lease) continue;
        if (other->state == LEASE_HANDING && body_abandoned(other->body))
            continue; /* nobody wants it any more */
        if (strcmp(other->target, lease->target) == 0)
            VIOLATED(e, "two workers have %s at once", lease->target);
    }
}

void ledger_sent(void *ctx, struct dw_lease *lease) {
    struct ledger *l = ctx;
    unsigned stage;
    int part;
    struct entry *e = ledger_by_target(l, lease->target, &stage, &part);
    if (!e) VIOLATED(NULL, "%s runs, which nobody has asked for", lease->target);
    nobody_else_has(l, e, lease);
    if (part >= 0) {
        part_sent(l, e, stage, part);
        return;
    }
    l->sent++;
    if (!e->stored || !(e->put_told || l->w->gate.loose)) VIOLATED(e, "it runs before it is stored");
    if (e->end_told) VIOLATED(e, "it runs after its end was told");
    if (has_ended(e->state) && e->state != STORE_CANCELLED) VIOLATED(e, "it runs after its end was readable");
    if (stage != e->stage) VIOLATED(e, "stage %u runs, which is not where it stands", stage);
    if (stage != e->stage_told) VIOLATED(e, "stage %u runs before it is stored", stage);
    if (e->begun && stage < e->begun_stage)
        VIOLATED(e, "stage %u runs after stage %u", stage, e->begun_stage);
    if (lease->attempt != e->attempt + 1) VIOLATED(e, "it runs as attempt %u", lease->attempt);
    if (lease->attempt > l->w->config.attempts) VIOLATED(e, "more attempts than there may be");
    if (e->not_before > l->w->ms) VIOLATED(e, "it runs too early");
    if (e->deadline && e->deadline < l->w->ms) VIOLATED(e, "it runs after its deadline");
    e->begun = true;
    e->begun_stage = stage;
    e->failed = e->answering = false;
    e->replied = 0;
    if (++e->starts > l->w->config.attempts + e->excused) VIOLATED(e, "it has begun %u times", e->starts);
}

void ledger_failed(struct ledger *l, const struct dw_lease *lease) {
    unsigned stage;
    int part;
    struct entry *e = ledger_by_target(l, lease->target, &stage, &part);
    if (e && part < 0) e->failed = true;
}

void ledger_excused(struct ledger *l, const struct dw_lease *lease) {
    unsigned stage;
    int part;
    struct entry *e = ledger_by_target(l, lease->target, &stage, &part);
    if (e && part < 0) e->excused++;
}

void ledger_cancelled(void *ctx, struct dw_lease *lease) {
    if (lease->cause == CORE_DEADLINE) ledger_failed(ctx, lease);
}

/* ---- looking at all of it ---- */

static const struct model *model_of(const struct ledger *l) {
    return CONTAINER_OF(l->w->gate.model, struct model, base);
}

/* What a crash has made of it, when operations have taken effect unseen. */
static void catch_up(struct ledger *l, struct entry *e, const struct model_job *j) {
    const struct store_job *job = &j->job;
    unsigned stage = e->stage;
    if (!e->stored) { /* its client has not heard of it */
        e->stored = true;
        e->id = job->id;
        e->deadline = job->deadline;
    } else if (has_ended(e->state) && job->state != e->state && e->state != STORE_DEAD) {
        VIOLATED(e, "its end is another one after a crash: %s", store_job_state_text(job->state));
    }
    if (!has_ended(job->state) && by_head(l, job->message.head, &stage) != e)
        VIOLATED(e, "another job's message is stored for it");
    if (stage < e->stage || stage > e->stage + 1) VIOLATED(e, "it stands at stage %u after a crash", stage);
    if (stage != e->stage) {
        char text[32];
        int n = snprintf(text, sizeof text, "gathered %u", e->scattered);
        e->body = e->kind == STORE_HOP_SCATTER ? stamp_of(text, (size_t)n) : e->next;
    }
    if (has_ended(e->state) && !has_ended(job->state)) e->end_told = false; /* revived */
    e->state = job->state;
    e->kind = job->kind;
    e->stage = stage;
    e->attempt = job->attempt;
    e->fence = job->fence;
    e->not_before = job->run_at;
    e->parts = 0;
    for (size_t i = 0; i < j->part_count; i++)
        if (j->parts[i].index < LEDGER_PARTS) e->parts |= UINT64_C(1) << j->parts[i].index;
}

static void compare(const struct entry *e, const struct store_job *job) {
    if (job->state != e->state || job->attempt != e->attempt || job->fence != e->fence)
        VIOLATED(e, "the store has it as %s, attempt %u", store_job_state_text(job->state), job->attempt);
}

/* It is not there. */
static void missing(struct ledger *l, struct entry *e, bool crashed) {
    if (e->stored && !has_ended(e->state) && !(crashed && e->ending)) VIOLATED(e, "it is lost");
    if (e->stored) e->dropped = true;
    if (e->stored && !has_ended(e->state)) e->state = STORE_CANCELLED; /* or so; nobody has seen it */
    bool wanted = e->asked || e->cancelling || e->reviving || (e->left && l->w->gate.count > 0);
    if (wanted || (!e->stored && !e->repeated && e->put.err == DW_PENDING && !e->left)) return;
    for (unsigned i = 0; i < DW_LEASES; i++) {
        unsigned stage;
        int part;
        struct dw_lease *lease = &l->w->leases[i];
        if (lease->state && ledger_by_target(l, lease->target, &stage, &part) == e) return;
    }
    if (e->watching) jobs_unwatch(l->w->jobs, &e->watch);
    *e = (struct entry){0};
}

void ledger_check(struct ledger *l, bool crashed) {
    static bool seen[LEDGER_ENTRIES];
    const struct model *m = model_of(l);
    memset(seen, 0, sizeof seen);
    for (size_t i = 0; i < m->job_count; i++) {
        const struct model_job *j = &m->jobs[i];
        unsigned stage;
        struct entry *e = ledger_by_id(l, j->job.id);
        if (!e) e = by_head(l, j->job.message.head, &stage);
        if (!e && !(crashed && has_ended(j->job.state)))
            VIOLATED(NULL, "the store has a job that nobody has asked for");
        if (!e) continue;
        seen[e - l->entries] = true;
        if (crashed)
            catch_up(l, e, j);
        else
            compare(e, &j->job);
    }
    FOR_ENTRIES(l, e) {
        if (!seen[e - l->entries]) missing(l, e, crashed);
    }
}

void ledger_new_life(struct ledger *l) {
    FOR_ENTRIES(l, e) {
        e->cancelling = e->reviving = e->watching = e->ending = false;
        e->starts = e->excused = 0;
        e->parts_listed = 0;
        e->failed = false;
        e->put_told = e->stored;
        e->stage_told = e->stage;
        e->end_told = e->stored && has_ended(e->state);
        if (e->asked) e->asked = false, e->left = true;
    }
}

static size_t blobs_referred(const struct model *m) {
    size_t n = 0;
    for (size_t i = 0; i < m->job_count; i++) {
        const struct model_job *j = &m->jobs[i];
        n += j->job.message.body.blob != 0;
        n += j->job.answer.body.blob != 0;
        for (size_t k = 0; k < j->part_count; k++) n += j->parts[k].answer.body.blob != 0;
    }
    return n;
}

void ledger_check_quiet(struct ledger *l) {
    const struct dw *w = l->w;
    const struct jobs *j = w->jobs;
    struct jobs_stats stats = dw_stats(w);
    ledger_check(l, false);
    FOR_ENTRIES(l, e) {
        if (e->stored && !has_ended(e->state)) VIOLATED(e, "it has not ended, and nothing goes on");
        if (e->asked) VIOLATED(e, "its client still waits");
    }
    if (stats.held > 0) VIOLATED(NULL, "all have ended, and %llu are held", (unsigned long long)stats.held);
    if (!core_idle(w->core)) VIOLATED(NULL, "all have ended, and the core is not idle");
    if (w->gathering > 0) VIOLATED(NULL, "all have ended, and %zu gather", w->gathering);
    for (unsigned i = 0; i < LINES_TABLE; i++)
        if (!list_empty(&j->lines[i])) VIOLATED(NULL, "all have ended, and there is a line");
    if (!list_empty(&j->waiting) || !list_empty(&j->hungry)) VIOLATED(NULL, "all have ended, and one waits");
    if (j->held_bytes > 0) VIOLATED(NULL, "all have ended, and bytes are held");
    const struct model *m = model_of(l);
    size_t referred = blobs_referred(m);
    if (m->blob_count < referred || m->blob_count > referred + l->drop_faults)
        VIOLATED(NULL, "all have ended, there are %zu blobs, and %zu are referred to", m->blob_count,
                 referred);
}

static struct line *line_of(const struct jobs *j, const struct store_job *job) {
    for (unsigned i = 0; i < LINES_TABLE; i++)
        LIST_FOR (node, &j->lines[i]) {
            struct line *l = CONTAINER_OF(node, struct line, node);
            if (l->priority == job->priority && slice_eq(l->service, job->service) &&
                slice_eq(l->tenant, job->tenant))
                return l;
        }
    return NULL;
}

void ledger_check_busy(struct ledger *l) {
    const struct dw *w = l->w;
    const struct jobs *j = w->jobs;
    const struct model *m = model_of(l);
    if (j->draining || j->lack_ms != UINT64_MAX || j->loading || j->unloaded) return;
    if (!list_empty(&j->waiting) && j->retry_ms > w->ms + 1000)
        VIOLATED(NULL, "one waits for the core, and is never given to it");
    for (size_t i = 0; i < m->job_count; i++) {
        const struct store_job *job = &m->jobs[i].job;
        if (job->state != STORE_QUEUED) continue;
        const struct entry *e = ledger_by_id(l, job->id);
        if (job->run_at) {
            uint64_t soon = job->run_at > w->ms + 1000 ? job->run_at : w->ms + 1000;
            if (j->due_ms > soon) VIOLATED(e, "it is never looked at when it is due");
            continue;
        }
        struct line *line = line_of(j, job);
        if (!line || !line->waiting) VIOLATED(e, "it is queued, and its line does not know");
        if (line->held - line->begun < 8) VIOLATED(e, "it is queued, its line has room, and nothing is done");
    }
}
