#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Do the tests of durable jobs see what they say they see? Breaks src/durable (or the model of a store) on purpose,
in one place at a time, and runs the unit tests and the simulator until one objects.

    test/sim/durable_mutants.py [--list] [--only NAME]...

As test/sim/mutants.py does it for the core. A mutant is one or more replacements in one file, and says who may object:
a unit test by its name, or the simulator by words of what it says. Its old text must be in the file exactly once, so
the list cannot rot in silence. First the unchanged engine passes everything. Exit status 0: each mutant was caught by
one that it names. Crashes and hangs count as caught. When a unit test that is named has objected, the simulator is not
asked.
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

from mutation import CRASH, HANG, Bad, arguments, check_names, compile_file, copy_tree, link, object_of, replace_once, sources

COPIED = ["src/*/*.[ch]", "include/weir/*.h", "test/sim/*.[ch]", "test/lib/*.[ch]", "test/store/*.[ch]",
          "test/unit/*durable*.[ch]"]
LIBRARY = ["src/base/*.c", "src/wire/*.c", "src/core/*.c", "src/durable/[!t]*.c", "src/store/store.c",
           "test/lib/fault.c", "test/store/model*.c", "test/unit/durable_world.c", "test/unit/durable_gather.c"]
UNIT = ["jobs", "jobs_lines", "jobs_bodies", "jobs_ends", "jobs_faults"]
PROGRAMS = {name: [f"test/unit/test_durable_{name}.c", "test/unit/durable_story.c"] for name in UNIT}
PROGRAMS["sim"] = ["test/sim/durable.c", "test/sim/durable_ledger.c"]
GCC = ["gcc", "-std=c17", "-D_GNU_SOURCE", '-DWEIR_VERSION="mutant"', "-O1", "-g", "-w", "-Iinclude", "-Isrc", "-Itest",
       "-Itest/store", "-Itest/unit", "-Itest/sim"]
LINK = ["-lm", "-pthread", "-lnghttp2", "-lhttp_parser", "-ljansson", "-lcrypto", "-lcmocka"]
LINK += [f"-Wl,--wrap={f}" for f in ("malloc", "calloc", "realloc", "free", "strdup", "strndup")]
AT_ONCE = 2
SEEDS = range(1, 9)
STEPS = 20000
SECONDS = 60  # the unchanged engine needs less than five


class Mutant(NamedTuple):
    name: str
    breaks: str
    file: str
    edits: list
    expected: tuple  # any of these: names of unit tests, words of the simulator


def mutant(name, breaks, file, old, new, *expected):
    return Mutant(name, breaks, file, [(old, new)], expected)


HELD, JOBS, SCATTER, MODEL = ("src/durable/held.c", "src/durable/jobs.c", "src/durable/scatter.c",
                              "test/store/model_jobs.c")
MUTANTS = [
    # ---- stored first ----
    Mutant("step-early", "the next hop begins before the store has it", HELD,
           [("h->op.job = h->next;\n        submit_op(h);",
            "h->op.job = h->next;\n        submit_op(h);\n        told_step(h);"),
            ("} else if (op->kind == STORE_JOB_STEP) {\n        told_step(h);",
            "} else if (op->kind == STORE_JOB_STEP) {")],
           ("test_forwarded", "runs before it is stored")),
    mutant("told-early", "a client is told before its job is stored", JOBS,
           "    t->stored = true;\n",
           "    t->stored = true;\n    if (t->done) t->done(t->ctx, 0, t->job.id, false);\n    t->done = NULL;\n",
           "is stored, and it is not", "given back after it was told"),
    mutant("run-early", "a job is run before its put has completed", JOBS,
           "store_submit(j->config.store, &t->op);\n    if (!lease",
           "store_submit(j->config.store, &t->op);\n    if (t->held) held_enter(t->held);\n    t->held = NULL;\n"
           "    if (!lease",
           "test_stored_first", "runs before it is stored"),
    mutant("finish-once", "an end that the store could not take is not told again", HELD,
           "wheel_add(&j->wheel, &h->timer, now_ms(h) + STORE_AGAIN_MS);", "",
           "test_end_is_told_again", "comes to no rest"),
    mutant("lease-once", "a lease that has failed is not tried again", JOBS,
           "    if (failed)\n        soon(j, &j->lack_ms);\n    else",
           "    if (failed)\n        l->waiting = false;\n    else",
           "test_store_fails_once_anywhere", "comes to no rest", "its line does not know"),

    # ---- the model: a store that is wrong is seen, too ----
    mutant("release-leased", "a released job keeps its lease", MODEL,
           "    j->job.state = STORE_QUEUED;\n    j->job.attempt = op->job.attempt;\n",
           "    j->job.attempt = op->job.attempt;\n",
           "test_states_of_statuses", "the store has it as"),
    mutant("fence-unchecked", "a stale fence is as good as any", MODEL,
           "bool its = j->job.state == STORE_LEASED && j->job.fence == op->job.fence;",
           "bool its = j->job.state == STORE_LEASED;", "test_stale_fence", "by somebody who does not have it"),

    # ---- attempts ----
    mutant("attempt-free", "an attempt that has failed does not count", HELD,
           "release(h, h->job.attempt + 1, run_at, reason);", "release(h, h->job.attempt, run_at, reason);",
           "that has failed does not count"),
    mutant("attempt-more", "one attempt more than there may be", HELD,
           "return h->job.attempt + 1 >= h->jobs->config.attempts;",
           "return h->job.attempt >= h->jobs->config.attempts;",
           "tried after its last attempt"),
    mutant("attempt-less", "one attempt less", HELD,
           "return h->job.attempt + 1 >= h->jobs->config.attempts;",
           "return h->job.attempt + 2 >= h->jobs->config.attempts;",
           "dead before its last attempt"),
    mutant("attempt-kept", "the next hop begins with the attempts of the last", HELD,
           "    h->next.attempt = 0;\n", "", "it runs as attempt"),
    mutant("hop-free", "hops do not count", HELD, "if (!hop->scatter) h->next.hop++;", "", "test_hop_limit"),
    mutant("backoff-none", "another attempt comes at once", HELD,
           "uint64_t run_at = now_ms(h) + backoff_ms(h);", "uint64_t run_at = now_ms(h);",
           "test_attempts_backoff_dead_and_revived"),
    mutant("timer-none", "an attempt takes as long as it likes", HELD,
           "    wheel_add(&h->jobs->wheel, &h->timer, h->started_ms + h->jobs->config.timeout_ms);\n", "",
           "test_attempt_timeout"),
    mutant("deadline-none", "a deadline does not count", HELD,
           ".deadline = job->deadline ? now_us(h) + left * 1000 : 0,", ".deadline = 0,", "runs after its deadline"),

    # ---- cancelled, lost ----
    mutant("cancel-unheard", "a worker does not hear that its job is cancelled", HELD,
           "    if (h->request) core_cancel(h->jobs->config.core, now_us(h), h->request, cause);\n"
           "    h->request = 0;\n    h->lost = true;",
           "    (void)cause;\n    h->request = 0;\n    h->lost = true;", "test_cancelled_in_every_phase"),
    mutant("cancel-held", "a cancelled job stays held", JOBS,
           "    if (h)\n        held_lose(h, CORE_DELETED);\n    else if", "    if (h)\n        (void)h;\n    else if",
           "test_cancelled_in_every_phase", "runs after its end was told"),
    mutant("blob-left", "the blob of an answer that comes too late is left behind", HELD,
           "if ((stale || (h->lost && err != 0)) && take_back_blob(h)) return;", "(void)take_back_blob;",
           "test_cancelled_while_its_end_is_to_be_told_again", "blobs, and"),
    mutant("ended-unheard", "who waits is not told of an end", JOBS,
           "    tell_watches(j, &j->watches[id.lo % WATCH_TABLE], &id, true);\n", "", "test_who_waits_is_told"),

    # ---- lines ----
    mutant("line-cleared", "a line that has been given some is taken for empty", JOBS,
           "if (l->op.err == 0 && l->op.count < l->op.limit && !l->op.more && !l->again) l->waiting = false;",
           "l->waiting = false;", "test_order_and_window", "its line does not know", "comes to no rest"),
    mutant("line-overtaken", "what comes in is run at once, although others wait in the store", JOBS,
           "bool lease = !t->job.run_at && !l->waiting &&", "bool lease = !t->job.run_at &&",
           "test_in_order_behind_others"),
    mutant("line-detour", "what comes in waits in the store, although its line is empty", JOBS,
           "bool lease = !t->job.run_at && !l->waiting &&", "bool lease = false && !l->waiting &&",
           "test_stored_first"),
    mutant("line-window", "all of a line is held", JOBS, "return l->held - l->begun + l->coming;",
               "return 0 * l->held;",
           "test_order_and_window"),
    mutant("line-begun", "room that a worker made is not given back", HELD,
           "    begun(h, false);\n    if (!list_empty(&h->table)) {", "    if (!list_empty(&h->table)) {",
           "test_order_and_window", "nothing is done", "comes to no rest"),
    mutant("line-left", "a line stays when its last job has ended", HELD,
           "        jobs_line_count(h->line, -1);\n    }\n    if (h->next_line)", "    }\n    if (h->next_line)",
           "test_accepted_run_and_done", "there is a line"),
    mutant("put-late", "a put that another lease overtook is forgotten", JOBS,
           "        else if (!t->held)\n            jobs_line_waits(t->line);\n",
           "        else if (!t->held)\n            (void)t;\n",
           "test_lease_before_put"),
    mutant("retry-forgotten", "what the core had no room for is not given to it again", JOBS,
           "void jobs_retry(struct jobs *j) {\n    soon(j, &j->retry_ms);\n}",
           "void jobs_retry(struct jobs *j) {\n    (void)j;\n}",
           "test_a_full_queue_holds_up_nobody_else", "never given to it"),
    mutant("retry-first", "one that the core has no room for holds up all others", JOBS,
           "if (h->line->refused) jobs_retry(j);", "if (h->line->refused) { jobs_retry(j); return; }",
           "test_a_full_queue_holds_up_nobody_else"),
    mutant("due-forgotten", "nobody looks when another attempt is due", HELD,
           "if (op->kind == STORE_JOB_RELEASE && op->job.run_at) jobs_due(j, op->job.run_at);", "",
           "never looked at when it is due", "comes to no rest"),

    # ---- coming in, and the beginning and the end of a hub ----
    mutant("load-late", "jobs are leased before what a hub before has left is loaded", JOBS,
           "while (!j->draining && !j->loading && !j->unloaded &&", "while (!j->draining &&",
           "test_load_fails", "two workers", "was not queued"),
    mutant("key-runs-twice", "a request whose key has come before is run again", JOBS,
           "bool found = err == 0 && op->found;", "bool found = false;", "test_idempotency"),
    mutant("close-leaks", "what is leased as the hub ends is taken up", JOBS,
           "    if (j->draining) return op->count;", "    if (0) return op->count;", "test_closed_while_it_leases",
           "blocks of memory are left"),
    mutant("drain-holds", "what waits is held while the hub drains", HELD,
           "if (h->phase == HELD_WAITING || h->phase == HELD_QUEUED) held_lose(h, CORE_DRAIN_OVER);", "(void)h;",
           "test_drain_begins_nothing"),
    mutant("part-late", "a part's answer that comes late is taken for one of the next hop", SCATTER,
           "if (err != 0 || !h || h->request != t->request) {", "if (err != 0 || !h) {",
           "test_a_late_part_is_not_of_the_next_hop", "for a hop that has none"),
]


class Builder:
    """The unchanged objects, made once; a mutant changes one of them."""

    def __init__(self, directory, pool):
        self.base = directory / "unchanged"
        copy_tree(COPIED, self.base)
        self.library = sources(self.base, LIBRARY)
        own = sorted({s for some in PROGRAMS.values() for s in some})
        list(pool.map(lambda s: compile_file(GCC, self.base, s, object_of(s)), self.library + own))
        self.programs = self.link(self.base, None, None)

    def link(self, directory, changed, changed_object):
        programs = {}
        for name, own in PROGRAMS.items():
            objects = [changed_object if s == changed else self.base / object_of(s) for s in self.library + own]
            programs[name] = directory / name
            link(objects, LINK, programs[name])
        return programs

    def text(self, m):
        text = (self.base / m.file).read_text()
        for old, new in m.edits:
            text = replace_once(text, old, new, m.file)
        return text

    def build(self, m, directory):
        directory.mkdir()
        tree = directory / "tree"
        target = tree / m.file
        target.parent.mkdir(parents=True)
        target.write_text(self.text(m))
        for path in (self.base / m.file).parent.glob("*.h"):
            (target.parent / path.name).symlink_to(path)
        flags = [f if not f.startswith("-I") else f"-I{tree / f[2:]}" for f in GCC]
        flags += [f"-I{self.base / f[2:]}" for f in GCC if f.startswith("-I")]
        compile_file(flags, self.base.parent, target, directory / "changed.o")
        return self.link(directory, m.file, directory / "changed.o")


def run(command):
    """0 and nothing; or who objects, with which words."""
    environment = {**os.environ, "MALLOC_PERTURB_": "165", "CMOCKA_MESSAGE_OUTPUT": "STDOUT"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return HANG, f"no end after {SECONDS} s"
    words = re.search(r"violated: (.*)|the world: (.*)", done.stderr)
    tests = re.findall(r"\[  (?:FAILED|ERROR ) +\] (test_\w+)", done.stdout + done.stderr)
    begun = re.findall(r"\[ RUN      \] (test_\w+)", done.stdout)
    if done.returncode == 0:
        return None
    if tests:
        return " ".join(dict.fromkeys(tests)), "a unit test"
    if begun:  # it was cut off
        return begun[-1], words[0] if words else "crash"
    if words:
        return "the simulator", words[0]
    return CRASH, (done.stderr.strip() or f"signal {-done.returncode}").splitlines()[-1]


def is_expected(m, found):
    by, words = found
    return by in (CRASH, HANG) or any(e in by.split() or e in words for e in m.expected)


def hunt(programs, m):
    """Who objects: one that is expected, else the first; None: nobody."""
    commands = [["stdbuf", "-oL", programs[name]] for name in UNIT]  # a crash loses nothing of what it printed
    commands += [[programs["sim"], "--seed", str(s), "--steps", str(STEPS)] for s in SEEDS]
    first = None
    for command in commands:
        found = run(command)
        if found and (not m or is_expected(m, found)):
            return found
        first = first or found
    return first


def try_one(builder, m, directory):
    try:
        return hunt(builder.build(m, directory), m)
    except Bad as error:
        return "broken entry", str(error)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def run_all(mutants):
    started = time.monotonic()
    bad = 0
    with tempfile.TemporaryDirectory(prefix="weir-mutants-") as name, \
            concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        directory = pathlib.Path(name)
        try:
            builder = Builder(directory, pool)
        except Bad as error:
            sys.exit(f"mutants: the unchanged engine: {error}")
        found = hunt(builder.programs, None)
        if found:
            sys.exit(f"mutants: the unchanged engine: {found[0]}: {found[1]}")
        print(f"The unchanged engine passes the unit tests and {len(SEEDS)} seeds of {STEPS} steps each.\n", flush=True)
        work = [(m, pool.submit(try_one, builder, m, directory / m.name)) for m in mutants]
        for m, done in work:
            found = done.result() or ("survives", m.breaks)
            good = found[0] not in ("survives", "broken entry") and is_expected(m, found)
            bad += not good
            print(f"{'  ' if good else '! '}{m.name:16} {found[0][:60]:46} {found[1]}")
            if not good:
                print(f"    expected: {', '.join(m.expected)}")
            sys.stdout.flush()
    print(f"\n{len(mutants)} mutants, {bad} not as they should be; {time.monotonic() - started:.0f} s")
    return bad == 0


def main():
    args = arguments(__doc__)
    if args.list:
        for m in MUTANTS:
            print(f"{m.name:16} {m.file:24} {m.breaks}\n{'':41} -> {', '.join(m.expected)}")
        return 0
    check_names([m.name for m in MUTANTS], args.only)
    return 0 if run_all([m for m in MUTANTS if not args.only or m.name in args.only]) else 1


if __name__ == "__main__":
    sys.exit(main())
