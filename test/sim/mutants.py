#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Does the simulator see what it says it sees? Breaks src/core on purpose, in one place at a time, and runs the
simulator until it objects.

    test/sim/mutants.py [--list] [--only NAME]...

A mutant is one replacement in one file, and says which invariants may object to it (as sim prints them). It must
compile, and its old text must be in the file exactly once, so the list cannot rot in silence. First the unchanged
core passes all the seeds. Exit status 0: each mutant was caught by an invariant that it names. A hang counts as caught.
SURVIVORS are those that the simulator does not see, with the reason, and the unit test that does; they run too, for
fewer seeds, and when one is caught after all the table says so.
"""
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from mutation import (CRASH, HANG, ROOT, Bad, arguments, check_names, compile_file, copy_tree, link, object_of, replace_once,
                      sources)

COPIED = ["src/base/*.[ch]", "src/core/*.[ch]", "src/wire/*.h", "include/weir/*.h", "test/sim/*.[ch]",
          "test/lib/*.[ch]"]
COMPILED = ["src/base/*.c", "src/core/*.c", "test/sim/sim.c", "test/sim/model.c", "test/sim/check.c", "test/sim/share.c",
            "test/lib/fault.c"]
GCC = ["gcc", "-std=c17", "-D_GNU_SOURCE", '-DWEIR_VERSION="mutant"', "-O1", "-g", "-Iinclude", "-Isrc", "-Itest"]
LINK = ["-lm", "-pthread"] + [f"-Wl,--wrap={f}" for f in ("malloc", "calloc", "realloc", "free", "strdup", "strndup")]
AT_ONCE = 2
SEEDS = range(1, 13)
SURVIVOR_SEEDS = SEEDS[:3]
STEPS = 150000
SEED_SECONDS = 30  # the unchanged core needs less than one

# What sim prints after "invariant"; it must say it still.
ONE_END = "1 (one end for each request)"
RUN_ONCE = "2 (no job runs twice)"
IDLE = "3 (work conserving)"
FAIR = "4 (fair shares)"
KEYED = "5 (keys in order, at one worker)"
GROWS = "6 (nothing grows)"
LIMITS = "7 (limits)"
BOUNDS = "8 (queue bounds)"
CONTRACT = "(the contract of core.h)"
IN_TIME = "(deadlines and queue times)"
ORDER = "(order)"
INVARIANTS = {ONE_END, RUN_ONCE, IDLE, FAIR, KEYED, GROWS, LIMITS, BOUNDS, CONTRACT, IN_TIME, ORDER}


class Mutant(NamedTuple):
    name: str
    breaks: str
    file: str  # under src/core
    old: str
    new: str
    expected: tuple  # any of these


class Survivor(NamedTuple):
    mutant: Mutant
    reason: str
    unit_test: str  # that catches it; "": none


def mutant(name, breaks, file, old, new, *expected):
    return Mutant(name, breaks, file, old, new, expected)


def survivor(name, breaks, file, old, new, expected, reason, unit_test):
    return Survivor(Mutant(name, breaks, file, old, new, tuple(expected)), reason, unit_test)


MUTANTS = [
    # ---- a free slot and a queued job that do not meet ----
    mutant("wake-slot", "a slot that becomes free is not looked at", "job.c",
           "    core_dispatch_pool(core, p);\n    core_dispatch_worker(core, w);\n}",
           "    core_dispatch_pool(core, p);\n    (void)w;\n}", IDLE),
    mutant("wake-submit", "what is submitted is not handed out at once", "request.c",
           "    core_dispatch_pool(core, place.pool);\n", "", IDLE),
    mutant("wake-forward", "what is forwarded is not handed out at once", "graph.c",
           "    core_dispatch_pool(core, job->place.pool);\n", "", IDLE),
    mutant("wake-part", "a part is not handed out at once", "gather.c",
           "    core_dispatch_pool(core, r->job->place.pool);\n", "", IDLE),
    mutant("wake-offer", "a worker that offers one more service gets none of what waits for it", "worker.c",
           "core_keyed_changed(core, s->keyed, w);\n    core_dispatch_worker(core, w);\n    return 0;",
           "core_keyed_changed(core, s->keyed, w);\n    return 0;", IDLE),
    mutant("wake-slots", "a worker with more slots gets no more", "worker.c",
           "core_keyed_changed(core, k, w);\n    core_dispatch_worker(core, w);\n}",
           "core_keyed_changed(core, k, w);\n    core_worker_place(w);\n}", IDLE),
    mutant("wake-relabel", "a worker with new labels gets none of what waits for them", "worker.c",
           "if (!copy) w->unjoined = true;\n    core_dispatch_worker(core, w);",
           "if (!copy) w->unjoined = true;", IDLE),
    mutant("wake-owed", "pools that are owed a look are forgotten", "dispatch.c",
           "fill_pool(core, CONTAINER_OF(owed, struct pool, owed));", "(void)owed;", IDLE),
    mutant("wake-gate", "a worker whose gate opens gets nothing", "core.c",
           "        core_worker_ungate(w);\n        core_dispatch_worker(core, w);\n",
           "        core_worker_ungate(w);\n        core_worker_place(w);\n", IDLE),
    mutant("wake-gone", "what comes back from a worker that is gone is given to nobody", "worker.c",
           "        core_dispatch_service(core, w->offers[i]->pool->service);\n", "", IDLE),
    mutant("wake-pools", "what comes back is looked at only where no labels are needed", "dispatch.c",
           "    LIST_FOR (node, &s->pools) core_dispatch_pool(core, CONTAINER_OF(node, struct pool, link));\n", "",
           IDLE),
    mutant("wake-undone", "a job is cancelled before its worker has heard of it: the slot stays empty", "request.c",
           "        core_job_free(core, job);\n        core_dispatch_worker(core, w);\n",
           "        core_job_free(core, job);\n        (void)w;\n", IDLE),
    mutant("wake-settled", "who goes to any worker at last is not handed out", "request.c",
           "    core_request_arm(core, job->request);\n    core_dispatch_pool(core, p);\n",
           "    core_request_arm(core, job->request);\n", IDLE),
    mutant("wake-ready", "a pool with a need gets no workers when it is made", "pool.c",
           "        if (!core_labels_fulfil(w->labels, need) || join_new(p, w) == 0) continue;\n",
           "        if (w) continue;\n", IDLE),

    # ---- jobs that run twice ----
    mutant("twice-queued", "a job that is handed out stays in its queue", "dispatch.c",
           "    core_service_take(core, job, true);\n", "    job->lane = job->lane;\n",
           RUN_ONCE, CONTRACT, CRASH, HANG),
    mutant("twice-slot", "one job more than the worker has slots", "worker.h",
           "return w->running < w->slots &&", "return w->running <= w->slots && w->slots &&", CONTRACT),
    mutant("twice-id-lost", "a job that runs again at the same worker has the same id", "job.c",
           "    core_job_retry(core, job, true);\n", "    core_job_retry(core, job, false);\n", RUN_ONCE),
    mutant("twice-id-back", "a job that was handed back has the same id again", "job.c",
           "        put_back(core, job, true);\n", "        put_back(core, job, false);\n", RUN_ONCE),
    mutant("twice-kept", "a worker that is lost keeps the slot that its job had", "job.c",
           "    job->worker->running--;\n", "", IDLE, CONTRACT),

    # ---- late words of workers ----
    mutant("late-worker", "any worker may speak of any job", "job.c",
           "job && job->worker && job->worker->id == worker && job->action", "job && job->worker && worker && job->action",
           ONE_END, CONTRACT, CRASH),
    mutant("late-ended", "the state of a job is not looked at", "job.c",
           "    if (!job || job->state == state) return job;", "    if (!job || job->state >= 0) return job;",
           ONE_END, CONTRACT, CRASH),
    mutant("late-gather", "a request that gathers no more takes more parts", "gather.c",
           "    if (r && r->gathers_from) return r;", "    if (r) return r;", ONE_END, CONTRACT, CRASH),
    mutant("late-uncounted", "a late word is not counted", "job.c",
           "    if (!r) {\n        core->stats.late++;\n        return;", "    if (!r) {\n        return;", CONTRACT),

    # ---- attempts and retries ----
    mutant("attempt-none", "attempts are not counted", "dispatch.c", "    job->attempt++;\n", "", LIMITS),
    mutant("attempt-back", "a job that is handed back has used up an attempt", "job.c",
           "        job->attempt--;\n        put_back(core, job, true);", "        put_back(core, job, true);",
           LIMITS, RUN_ONCE),
    mutant("attempt-undone", "a job that was never sent has used up an attempt", "job.c",
           "        job->attempt--;\n        put_back(core, job, false);", "        put_back(core, job, false);",
           LIMITS, RUN_ONCE),
    mutant("attempt-renewed", "a job with a new id has forgotten its attempts", "job.c",
           "    fresh->attempt = job->attempt;\n", "", LIMITS),
    mutant("attempt-more", "one attempt more than allowed", "job.c",
           "job->attempt >= config->attempts", "job->attempt > config->attempts", ONE_END, RUN_ONCE, LIMITS),
    mutant("retry-unsafe", "what is not idempotent runs again", "job.c",
           "if (!r->idempotent && !config->retry_always)", "if (false)", ONE_END, RUN_ONCE),
    mutant("retry-body", "what cannot be sent again is sent again", "job.c",
           "    if (!r->durable && core->config.replayable(core->config.ctx, r->message)) {",
           "    if (!r->durable && r->message) {", ONE_END, RUN_ONCE, CONTRACT),
    mutant("retry-tail", "what runs again goes to the tail of its queue", "job.c",
           "core_service_put(core, fresh, true);", "core_service_put(core, fresh, false);", ORDER, IDLE),
    mutant("retry-order", "what a lost worker had comes back newest first", "worker.c",
           "CONTAINER_OF(w->jobs.next, struct job, link)", "CONTAINER_OF(w->jobs.prev, struct job, link)",
           ORDER, KEYED),
    mutant("retry-wait", "what runs again has waited since its first time", "job.c",
           "        job->queued_at = core->now;\n", "", RUN_ONCE, IN_TIME, ORDER),

    # ---- bounds ----
    mutant("bound-count", "one job more than the queue's bound", "limits.c",
           "return queued < max &&", "return queued <= max &&", BOUNDS),
    mutant("bound-bytes", "a queue takes more than its bytes", "limits.c",
           "bytes <= max_bytes - queued_bytes;", "bytes <= max_bytes;", BOUNDS),
    mutant("bound-hub", "the hub's bounds do not count", "limits.c",
           "fits(core->queued, core->queued_bytes, demand->bytes,", "fits(0, 0, demand->bytes,", BOUNDS),
    mutant("bound-early", "full one job too early", "limits.c",
           "return queued < max &&", "return queued + 1 < max &&", BOUNDS),
    mutant("bound-hops", "one hop too many", "graph.c",
           "if (r->hop >= core->config.max_hops)", "if (r->hop > core->config.max_hops)", LIMITS),
    mutant("bound-parts", "one part too many", "gather.c",
           "count <= core->config.max_parts - root->scattered",
           "count <= core->config.max_parts + 1 - root->scattered", LIMITS),
    mutant("parts-root", "parts are not charged to the first request", "gather.c",
           "    root->scattered += count;\n", "    (void)root;\n", LIMITS),

    mutant("push-entitled", "whoever comes pushes somebody out of a full queue", "share.c",
           "(mine + 1) * tenants > s->queued", "mine + 1 > tenants * s->queued", FAIR),
    mutant("push-class", "whoever comes pushes out jobs of classes before its own", "share.c",
           "if (job->priority >= priority && job->order >= 0 && !part) return job;",
           "if (job->order >= 0 && !part) return job;", FAIR),
    mutant("push-oldest", "the oldest job is pushed out of a full queue, not the newest", "share.c",
           "const struct list *node = most->jobs.prev;", "const struct list *node = most->jobs.next;", FAIR),
    mutant("push-least", "who has least in a full queue makes room", "share.c",
           "->count > ((const struct share *)b)->count;", "->count < ((const struct share *)b)->count;", FAIR, BOUNDS),
    mutant("push-kept", "a job that is pushed out still counts when its place is given away", "limits.c",
           "fits(s->queued - 1, s->queued_bytes - bytes, demand->bytes,",
           "fits(s->queued - 1, 0 * bytes, demand->bytes,",
           BOUNDS),

    # ---- time ----
    mutant("time-deadline", "the timer does not know of deadlines", "request.c",
           "uint64_t due = r->deadline && !r->parent ? r->deadline : UINT64_MAX;",
           "uint64_t due = UINT64_MAX;", ONE_END, IN_TIME),
    mutant("time-queue", "the timer does not know of queue times", "request.c",
           "    if (c->queue_time_us && !r->patient && queue_time < due) due = queue_time;\n", "    (void)queue_time;\n",
           ONE_END, IN_TIME),
    mutant("time-again", "a timer that rang early is not wound up again", "request.c",
           "    } else {\n        core_request_arm(core, r);\n    }", "    }", ONE_END, IN_TIME, IDLE),
    mutant("time-answered", "a deadline ends a reply that has begun", "job.c",
           "    job->request->deadline = 0;\n    wheel_del(&core->wheel, &job->request->timer);\n", "",
           CONTRACT, IN_TIME, ONE_END),
    mutant("time-next", "the next time that something happens is said too late", "core.c",
           "uint64_t ms = wheel_next(&core->wheel),", "uint64_t ms = wheel_next(&core->wheel) + 50,", GROWS),

    # ---- slots ----
    mutant("slot-early", "the slot of a cancelled job is free before its worker says so", "job.c",
           "    core->leaving++;\n", "    core->leaving++;\n    job->worker->running--;\n", CONTRACT, IDLE),
    mutant("slot-gate", "a worker that handed a job back gets the next at once", "worker.c",
           "    if (w->draining) return;\n    list_del(&w->gate);", "    if (w) return;\n    list_del(&w->gate);",
           CONTRACT),
    mutant("slot-drain", "a worker that drains gets more jobs", "worker.h",
           "w->running < w->slots && !w->draining &&", "w->running < w->slots &&", CONTRACT, CRASH),
    mutant("slot-busiest", "not the worker with the fewest jobs", "ready.c",
           "    l->level = running < r->count ? running : r->count - 1;", "    l->level = running ? 0 : 1;", ORDER),

    # ---- whose turn it is; see SURVIVORS too ----
    mutant("fair-one-lane", "all tenants stand in one lane", "queue.c",
           "    if (t == &core->tenants.nobody) return", "    if (t) return", FAIR, ORDER),
    mutant("fair-credit", "credit is not set anew at a turn", "queue.c",
           "    l->credit = turn_of(core, l);\n", "    (void)turn_of(core, l);\n",
           FAIR),
    mutant("fair-weight", "weights do not count", "queue.c",
           "return (l->tenant ? l->tenant : &core->tenants.nobody)->config.weight;",
           "return core->tenants.nobody.config.weight > 0 && l;",
           FAIR),
    mutant("fair-front", "whoever has had a turn has the next one too", "queue.c",
           "    list_push_back(&l->queue->turns[l->priority], &l->turn);",
           "    list_push_front(&l->queue->turns[l->priority], &l->turn);",
           FAIR),
    mutant("order-same-class", "of two classes that ageing has made equal, the later job", "queue.c",
           "since >= best_since", "since <= best_since",
           ORDER),
    mutant("order-aged", "cheap jobs pass one that has waited long enough", "queue.c",
           "return age_us && now - first->queued_at >= age_us ? first : cheapest;",
           "return (void)now, (void)age_us, cheapest;",
           ORDER),
    mutant("order-tail", "last come, first served", "queue.c",
           "if (at == &l->jobs || order_of(at) < job->order) return at;",
           "if (at == &l->jobs || order_of(at) < job->order) return &l->jobs;", ORDER),
    mutant("order-back", "what comes back goes to its lane, not before all others", "queue.c",
           "if (job->order < 0) {", "if (job->order == 0) {", ORDER),
    mutant("order-class", "the class that can wait goes first", "queue.c",
           "if (class > best_class ||", "if (class < best_class ||", ORDER),
    mutant("order-age", "ageing does not count", "queue.c",
           "uint64_t up = age_us ?", "uint64_t up = age_us > now ?", ORDER),
    mutant("order-age-turn", "a class is as old as the job whose turn it is", "queue.c",
           "const struct lane *l = heap_first(&q->oldest[priority]);", "const struct lane *l = NULL;", ORDER),
    mutant("order-age-left", "the oldest of a lane has left, and its class stays as old", "queue.c",
           "        if (first) reorder(l);\n", "        if (first && l->count == 0) reorder(l);\n", ORDER),
    mutant("order-shortest", "the dearest first", "queue.c",
           "return x->cost == y->cost ? x->order < y->order : x->cost < y->cost;",
           "return x->cost == y->cost ? x->order < y->order : x->cost > y->cost;", ORDER),
    mutant("class-tenant", "a tenant may take any class", "request.c",
           "unsigned p = request->priority < t->config.best_priority ? t->config.best_priority : request->priority;",
           "unsigned p = request->priority + 0 * t->config.weight;", CONTRACT, ORDER, RUN_ONCE),
    mutant("class-service", "a service gives any class", "service.h",
           "return priority < best ? best : priority;", "return best < CORE_PRIORITIES ? priority : best;",
           CONTRACT, ORDER, RUN_ONCE),

    # ---- labels ----
    mutant("labels-any", "any value of a label will do", "labels.c",
           "if (any_value && slice_eq(slice_next(&rest, '='), item)) return true;",
           "if (item.n + any_value && slice_eq(slice_next(&rest, '='), slice_next(&item, '='))) return true;",
           CONTRACT),
    mutant("labels-name", "only the first label that is needed counts", "labels.c",
           "        if (item.n && !has(labels, item)) return false;", "        if (item.n) return has(labels, item);",
           CONTRACT),
    mutant("labels-stay", "a worker stays in the pools of labels that it had", "pool.c",
           "if (core_labels_fulfil(w->labels, p->need)) continue;\n        part(w, i);",
           "if (p) continue;\n        part(w, i);", CONTRACT),
    mutant("labels-join", "a worker does not join the pools of labels that it has now", "pool.c",
           "if (p == &p->service->plain && !p->service->keyed) err = join_fulfilled(p->service, w);", "(void)p;", IDLE),
    mutant("prefer-never", "who wishes for a worker waits for it for ever", "request.c",
           "if (settle < due) due = settle;", "(void)settle;", IDLE),
    mutant("prefer-nobody", "who wishes for a worker waits where there is none", "pool.c",
           "err == 0 && has_workers(ret->pool) &&", "err == 0 && (has_workers(ret->pool) || true) &&", IDLE),

    # ---- rates and overload ----
    mutant("rate-burst", "no tenant may save up", "tenant.c",
           "uint64_t slack = (burst_of(c) - 1) * token_ns(c);", "uint64_t slack = 0;", CONTRACT),
    mutant("rate-higher", "a higher rate does not hold before the old one's debts are paid", "tenant.c",
           "if (t->full_at_ns > latest) t->full_at_ns = latest;", "(void)latest;", CONTRACT),
    mutant("rate-refused", "who is refused pays as well", "request.c",
           "        t->rejected_rate++;\n", "        t->rejected_rate++;\n        core_tenant_take(t, core->now);\n",
           CONTRACT),
    mutant("rate-never", "nobody pays", "request.c",
           "    if (!request->durable) core_tenant_take(t, core->now);\n", "", CONTRACT),
    mutant("shed-never", "an overloaded service refuses nothing", "limits.c",
           "if (!c->shed_wait_us || !job->queue || job->request->patient) return UINT64_MAX;",
           "if (c) return UINT64_MAX;", IN_TIME),
    mutant("shed-always", "a service that is not overloaded refuses what has waited", "limits.c",
           "return waited > standing ? waited : standing;", "return waited + 0 * standing;", IN_TIME),

    # ---- scatter and gather ----
    mutant("parts-left", "parts go on when their request has failed", "request.c",
           "    core->stats.failed++;\n    core_request_drop_parts(core, r);\n", "    core->stats.failed++;\n",
           ONE_END, CONTRACT, CRASH),
    mutant("parts-nested", "parts of parts go on", "gather.c",
           "        list_splice_back(&r->parts, &part->parts);\n", "        list_init(&part->parts);\n",
           ONE_END, GROWS, CONTRACT, CRASH),
    mutant("parts-told", "the gatherer of a request that has failed is not told", "action.c",
           ".gatherer = r->gatherer, .why = r->why};", ".why = r->why};", CONTRACT, ONE_END),
    mutant("parts-gone", "the gatherer of a request that is withdrawn is not told", "request.c",
           "    core_action_add(core, &r->action, CORE_GONE);\n    let_go(core, r);\n",
           "    core_request_end(core, r);\n", ONE_END),
    mutant("parts-hop", "parts begin without their request's hops", "gather.c", "    r->hop = parent->hop;\n", "",
           LIMITS, RUN_ONCE),
    mutant("parts-more", "more parts than were announced", "gather.c", "    parent->parts_left--;\n", "", LIMITS),
    mutant("parts-deadline", "a part misses its deadline by itself", "request.c",
           "if (r->deadline && !r->parent && r->deadline <= now) {", "if (r->deadline && r->deadline <= now) {",
           CONTRACT, ONE_END),

    # ---- keys ----
    mutant("key-early", "a key is free while the slot of its cancelled job is still busy", "job.c",
           "    core->leaving++;\n",
           "    core->leaving++;\n    if (job->key) {\n        core_keyed_stop(core, job);\n"
           "        core_key_leave(core, job);\n    }\n", KEYED),
    mutant("key-next", "the head of a key is cancelled in the queue: the next one is not placed", "keyed.c",
           "    if (key->head)\n        place(core, key->head);\n    else\n        key_free(key);",
           "    if (key->head && job->sent_at)\n        place(core, key->head);\n"
           "    else if (!key->head)\n        key_free(key);", IDLE, KEYED),
    mutant("key-order", "the last one of a key goes next", "keyed.c",
           "        list_push_back(&key->jobs, &job->link);", "        list_push_front(&key->jobs, &job->link);",
           KEYED),
    mutant("key-collect", "heads stay where they were when their slice moves", "keyed.c",
           "    collect(core, k);\n", "", IDLE, KEYED),
    mutant("key-leave", "a member that leaves keeps its slices", "keyed.c",
           "    member_free(m);\n    mark(core, k);\n", "    member_free(m);\n    (void)core;\n", KEYED, IDLE),
    mutant("key-drain", "a worker that drains keeps its slices", "worker.c",
           "    for (unsigned at = 0; (k = next_keyed(w, &at));) core_keyed_leave(core, k, w);\n", "    (void)k;\n",
           KEYED, CRASH),
    mutant("key-joins", "who could be a member does not become one", "keyed.c",
           "(!m || m->weight < w->slots)) mark(core, k);", "(m && m->weight < w->slots)) mark(core, k);", KEYED, IDLE),
    mutant("key-parked", "heads that had no place are not placed when they could be", "keyed.c",
           "    collect(core, k);\n    unpark(core, k, RING_SLICES);\n", "    collect(core, k);\n", IDLE, KEYED),

    # ---- what is left behind ----
    mutant("leak-message", "the message of a request that is over is kept", "request.c",
           "    if (message) core->config.release(core->config.ctx, message);\n", "    (void)message;\n", GROWS),
    mutant("leak-forwarded", "the message before a hop is kept", "graph.c",
           "    core->config.release(core->config.ctx, old);\n", "    (void)old;\n", GROWS),
    mutant("leak-request", "a request that is over is kept", "request.c",
           "    free(r->why_name);\n    slab_free(&core->requests, r->id);\n", "    free(r->why_name);\n",
           GROWS, ONE_END, CRASH),
    mutant("leak-job", "a job that is over is kept", "job.c",
           "    core_pool_leave(job->place);\n    slab_free(&core->jobs, job->id);\n",
           "    core_pool_leave(job->place);\n", GROWS, RUN_ONCE, CONTRACT),
    mutant("leak-name", "the name of a service that was not found is kept", "action.c",
           "    core->said = r->why_name;\n", "", GROWS),
    mutant("leak-labels", "labels that a worker has taken on are kept", "worker.c",
           "    free(w->own_labels);\n    free(w->text);\n", "    free(w->text);\n", GROWS),
    mutant("leak-worker", "a worker that is gone is kept", "worker.c",
           "    slab_free(&core->workers, worker);\n", "", GROWS, CONTRACT, CRASH),
    mutant("count-bytes", "bytes that have left the queue still count", "service.c",
           "    core->queued_bytes -= job->request->bytes;\n", "", GROWS, BOUNDS),
    mutant("count-service-bytes", "bytes that have left a service's queue still count", "service.c",
           "    s->queued_bytes -= job->request->bytes;\n", "", GROWS, BOUNDS),
    mutant("count-slots", "the slots of a worker that drains still count", "worker.c",
           "    count_slots(core, w, w->slots, 0);\n", "", GROWS),

    # ---- drain ----
    mutant("drain-in", "new requests come in while the hub drains", "request.c",
           "    if (core->draining) {", "    if (core->draining && !s) {", CONTRACT),
    mutant("drain-attach", "workers attach while the hub drains", "worker.c",
           "    if (core->draining) return WEIR_EDRAINING;\n", "", CONTRACT),
    mutant("drain-gathers", "what gathers is left after the drain", "drain.c",
           "(!r->job && !r->gathers_from)", "!r->job", ONE_END),
    mutant("drain-cut", "a reply that has begun fails as if it had not", "drain.c",
           "        if (answering) r->action.kind = CORE_ENDED;\n", "        (void)answering;\n", ONE_END),
]

# Calls that are not settled one by one: the model cannot say whose turn it was, and forgets the shares (see batched in
# model.h). That is one step in five, and two lanes of the same class of one pool seldom meet in the four between.
BATCHED = "the model forgets whose turn it is before it shows"

SURVIVORS = [
    survivor("tenant-owed", "who could not be served for long is owed all of it", "tenant.c",
             "return t->used < least ? least : t->used;", "return t->used;",
             [FAIR, ORDER], "the model knows of turns within a pool only",
             "core-tenants: who_could_not_be_served_is_owed_a_turn_only"),
    survivor("key-back", "who has lost its worker goes to the tail of the next one", "keyed.c",
             "job->order = back ? --core->first_order : 0;", "job->order = 0;",
             [KEYED, ORDER], "between keys the model leaves the order open",
             "core-keyed: what_lost_its_worker_goes_first_wherever_it_goes"),
    survivor("key-shed", "heads of keys are shed only as their turn comes", "keyed.c",
             "    core_request_arm(core, job->request);\n    return &m->pool;", "    return &m->pool;",
             [IN_TIME], "of keys the model knows that they may be shed, not when",
             "core-keyed: a_standing_queue_of_keys_is_shed"),
    survivor("pool-turns", "of two pools, the tenant that has had more goes first", "queue.c",
             "if (used_a != used_b) return used_a < used_b;", "if (used_a != used_b) return used_a > used_b;",
             [FAIR, ORDER], "the model knows of turns within a pool only",
             "core-labels: needs_do_not_push_others_back"),
    survivor("target-least", "the service that is least behind its aim goes first", "dispatch.c",
             "if (best && b <= most) continue;", "if (best && b >= most) continue;",
             [ORDER], "the model does not say from which of its services a worker gets its next job",
             "core-workers: the_service_most_behind_goes_first"),
    survivor("prefer-place", "who goes to any worker at last loses the place that it had", "queue.c",
             "if (at == &l->jobs || order_of(at) < job->order) return at;",
             "if (at == &l->jobs || job->order > 0) return at;",
             [ORDER], BATCHED, "core-labels: who_waited_for_the_preferred_one_keeps_its_place"),
    survivor("prefer-gone", "who wishes for workers that go away waits for them all the same", "pool.c",
             "if (p->jobs > 0 && p->need.n > 0 && !has_workers(p))", "if (p->jobs == SIZE_MAX && has_workers(p))",
             [IDLE], "the model leaves open what becomes of a wish that nobody can fulfil any more", ""),
    survivor("labels-prefix", "a label that begins like the one that is needed will do", "labels.c",
             "if (slice_eq(label, item)) return true;",
             "if (item.n <= label.n && memcmp(label.p, item.p, item.n) == 0) return true;",
             [CONTRACT], "all labels of the simulator are as long as each other (l=1 to l=4)",
             "core-labels: a_value_is_fulfilled_by_itself_only"),
    survivor("choose-ignored", "the worker that the rule chooses is not taken", "dispatch.c",
             "return worker_of(links[at < n ? at : 0]);", "return worker_of(links[at < n ? 0 : 0]);",
             [CONTRACT, ORDER], "the model's rule answers, but nobody looks at who gets the job",
             "core-labels: the_program_chooses"),
    survivor("shed-timer", "what waits too long is refused only as its turn comes", "request.c",
             "if (shed < due) due = shed;", "(void)shed;",
             [IN_TIME], "the model says when a request may be shed, not when it must",
             "core-overload: what_waits_is_shed_without_anything_happening"),
    survivor("admit-late", "who would wait beyond its deadline is let in", "limits.c",
             "return per_s > 0 && (double)ahead", "return per_s < 0 && (double)ahead",
             [CONTRACT], "no service of the simulator has admit_by_deadline",
             "core-overload: who_cannot_wait_is_refused_at_once"),
    survivor("retry-after", "Retry-After is always 1", "limits.c",
             "double seconds = (double)s->queued / per_s;", "double seconds = 0.5;",
             [CONTRACT], "the model only looks that it is 30 s at most", "core-queue: retry_after_is_measured"),
    survivor("key-epoch", "a word about an older epoch counts", "resize.c",
             "if (epoch != r->epoch || r->phase != RESIZE_SYNCHRONISE ||",
             "if ((void)epoch, r->phase != RESIZE_SYNCHRONISE ||",
             [KEYED], "the core itself speaks of the present epoch only", ""),
    survivor("key-hold", "a slice changes hands while one of its jobs runs", "keyed.c",
             "if (k->running[s] == 0) (void)resize_synced(r, r->epoch, s);", "(void)resize_synced(r, r->epoch, s);",
             [KEYED], "no two of its keys are in one slice, and a key waits for its own job anyhow", ""),
    survivor("key-released", "a slice is done with: what waits for it is not placed", "keyed.c",
             "if (resize_synced(&k->resize, k->resize.epoch, slice) == 0) unpark(core, k, slice);",
             "(void)resize_synced(&k->resize, k->resize.epoch, slice), (void)core;",
             [IDLE, KEYED], "no two keys of the simulator are in one slice", ""),
    survivor("key-sync", "a slice is held as long as its jobs run, however long", "keyed.c",
             "core->now >= k->sync_until) end_epoch(core, k);", "core->now == 0) end_epoch(core, k);",
             [IDLE, KEYED], "no two of its keys are in one slice, and it does not measure how long one is held", ""),
    survivor("key-ring", "all slices belong to one member", "ring.c",
             "return r->members[r->owner[slice]].id;", "return r->members[r->n > 0].id;",
             [KEYED], "the simulator asks the core who owns a key, not whether it should",
             "core-ring: test_definition"),
    survivor("leak-tenant", "a tenant's requests are not counted down", "tenant.c",
             "if (--t->requests > 0 || t->configured) return;", "if (t->requests > 0 || t->configured) return;",
             [GROWS], "all tenants of the simulator are configured, so none is ever forgotten",
             "core-tenants: a_tenant_without_a_rate_is_forgotten_with_its_last_request"),
    survivor("time-gate", "nobody is told when a gate opens", "core.c",
             "        if (gate < next) next = gate;\n", "        (void)gate;\n",
             [IN_TIME, IDLE], "the simulator does not look whether core_next_time is early enough", ""),
    survivor("time-ring", "nobody is told when a ring is due", "core.c",
             "        if (due < next) next = due;\n", "        (void)due;\n",
             [IN_TIME, IDLE], "the simulator does not look whether core_next_time is early enough", ""),
    survivor("time-scatter", "what begins to gather has no timer of its own", "gather.c",
             "r->gathers_from = job->service;\n    core->stats.scattered++;\n    core_request_arm(core, r);",
             "r->gathers_from = job->service;\n    core->stats.scattered++;",
             [IN_TIME], "nothing is broken: its timer from the queue still rings and is wound up then", ""),
    survivor("late-unsent", "a worker may speak of a job before it has been given it", "job.c",
             "job->worker->id == worker && job->action.kind != CORE_SEND) return job;",
             "job->worker->id == worker) return job;",
             [ONE_END, CONTRACT], "the simulator's workers speak only of jobs that they or others were sent", ""),
]


# ---- the runner ----

class Builder:
    """The unchanged objects, made once; per mutant a copy of what it changes."""

    def __init__(self, directory, pool):
        self.base = directory / "unchanged"
        copy_tree(COPIED, self.base)
        self.files = sources(self.base, COMPILED)
        list(pool.map(lambda s: compile_file(GCC, self.base, s, object_of(s)), self.files))
        self.program = self.base / "sim"
        link([self.base / object_of(s) for s in self.files], LINK, self.program)

    def text(self, m):
        text = (self.base / "src/core" / m.file).read_text()
        return replace_once(text, m.old, m.new, "src/core/" + m.file)

    def build(self, m, directory):
        changed = "src/core/" + m.file
        (directory / "src/core").mkdir(parents=True)
        (directory / changed).write_text(self.text(m))
        own = [changed]
        if changed.endswith(".h"):  # whoever includes it is compiled anew, from here
            own = [s for s in self.files if s.startswith("src/core/")]
            for path in (self.base / "src/core").glob("*.[ch]"):
                if path.name != m.file:
                    shutil.copyfile(path, directory / "src/core" / path.name)
        for include in ("include", "test"):
            (directory / include).symlink_to(self.base / include)
        (directory / "src/base").symlink_to(self.base / "src/base")
        if not changed.endswith(".h"):
            for path in (self.base / "src/core").glob("*.h"):
                (directory / "src/core" / path.name).symlink_to(path)
        for s in own:
            compile_file(GCC, directory, s, object_of(s))
        program = directory / "sim"
        link([(directory if s in own else self.base) / object_of(s) for s in self.files], LINK, program)
        return program


def run_seed(program, seed):
    """Who objects, at which step and with which words; None: nobody."""
    environment = {**os.environ, "MALLOC_PERTURB_": "165"}  # what was freed reads as nonsense, always the same
    try:
        run = subprocess.run([program, "--seed", str(seed), "--steps", str(STEPS)], env=environment,
                             capture_output=True, text=True, timeout=SEED_SECONDS)
    except subprocess.TimeoutExpired:
        return HANG, "-", f"no end after {SEED_SECONDS} s"
    found = re.search(r"step (\d+): invariant (.*?) violated: (.*)", run.stderr)
    if found:
        return found[2], found[1], found[3]
    if run.returncode < 0:
        return CRASH, "-", (run.stderr.strip() or f"signal {-run.returncode}").splitlines()[-1]
    if run.returncode != 0:
        raise Bad(f"sim exits with {run.returncode}: {run.stderr}")
    return None


def hunt(program, m, seeds):
    """The first objection that is expected; else the first one; else None."""
    other = None
    for seed in seeds:
        found = run_seed(program, seed)
        if not found:
            continue
        by, step, words = found
        if by in m.expected:
            return by, str(seed), step, words
        other = other or (by, str(seed), step, words)
    return other


def try_one(builder, m, survives, directory):
    """What the table says of it, and whether that is as it should be."""
    directory.mkdir()
    try:
        caught = hunt(builder.build(m, directory), m, SURVIVOR_SEEDS if survives else SEEDS)
    except Bad as error:
        return ("broken entry", "-", "-", str(error)), False
    finally:
        shutil.rmtree(directory)
    if not caught:
        return ("survives", "-", "-", m.breaks), survives
    return caught, survives or caught[0] in m.expected


def check_invariants():
    text = (ROOT / "test/sim/sim.c").read_text()
    for name in sorted(INVARIANTS):
        if f'"{name}"' not in text:
            sys.exit(f"mutants: sim.c has no invariant \"{name}\"")


def show(m, survives, result, good):
    by, seed, step, words = result
    print(f"{'  ' if good else '! '}{m.name:19} {by:36} {seed:>4} {step:>6}  {words}")
    if not good:
        print(f"    expected: {', '.join(m.expected)}")
    elif survives and by in m.expected:
        print("    stands in SURVIVORS, but is caught: make it a mutant")
    sys.stdout.flush()


def run_all(mutants, survivors):
    """True: all is as it should be."""
    started = time.monotonic()
    bad = 0
    with tempfile.TemporaryDirectory(prefix="weir-mutants-") as name, \
            concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        directory = pathlib.Path(name)
        try:
            builder = Builder(directory, pool)
        except Bad as error:
            sys.exit(f"mutants: the unchanged core: {error}")
        for seed, found in zip(SEEDS, pool.map(lambda s: run_seed(builder.program, s), SEEDS)):
            if found:
                sys.exit(f"mutants: seed {seed}, step {found[1]}: the unchanged core: {found[0]}: {found[2]}")
        print(f"The unchanged core passes {len(SEEDS)} seeds of {STEPS} steps each.\n\n"
              f"  {'mutant':19} {'caught by':36} {'seed':>4} {'step':>6}  words", flush=True)
        work = [(m, survives, pool.submit(try_one, builder, m, survives, directory / m.name))
                for survives, some in ((False, mutants), (True, survivors)) for m in some]
        for m, survives, done in work:
            result, good = done.result()
            bad += not good
            show(m, survives, result, good)
    print(f"\n{len(mutants)} mutants, {len(survivors)} known survivors, {bad} not as they should be; "
          f"{time.monotonic() - started:.0f} s")
    return bad == 0


def print_list():
    for m in MUTANTS:
        print(f"{m.name:19} {m.file:11} {m.breaks}\n{'':30} -> {', '.join(m.expected)}")
    print("\nsurvivors:")
    for m, reason, unit_test in SURVIVORS:
        print(f"{m.name:19} {m.file:11} {m.breaks}\n{'':30} {reason}; {unit_test or 'no unit test'} catches it")


def main():
    args = arguments(__doc__)
    if args.list:
        print_list()
        return 0
    check_invariants()
    mutants, survivors = MUTANTS, [s.mutant for s in SURVIVORS]
    check_names([m.name for m in mutants + survivors], args.only)
    if args.only:
        mutants, survivors = ([m for m in some if m.name in args.only] for some in (mutants, survivors))
    return 0 if run_all(mutants, survivors) else 1


if __name__ == "__main__":
    sys.exit(main())
