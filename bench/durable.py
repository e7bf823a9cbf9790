#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Durable jobs: submitted, run and finished, every acknowledged write synced; beside beanstalkd and gearmand.

    bench/durable.py [--build build-release] [--rounds 5] [--seconds 3] [--million 1000000] [--latency 1]

--latency 1: only how long a submit takes by one client, and at given rates (open loop), a section of its own; beside it
bench/sync_server.c, which does nothing but write and sync for what comes, and a sync alone.

All load is bench/durable_load.c: connections that each submit a job of 100 bytes, wait for the acknowledgement, and
submit the next. Eight slots or connections work jobs off meanwhile. A round's figure is jobs over the time until the
last one is finished.
"""
import json
import mmap
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
import urllib.request

import common

CLIENTS = (1, 8, 64, 512)
WORKERS = 8
COMMIT = 24 * 1024  # bytes: six pages of the log


def directory():
    """On a disk, not in memory: /tmp may be either."""
    return tempfile.mkdtemp(prefix="weir-bench-", dir=os.environ.get("BENCH_DIR", "/var/tmp"))


def fsync_us(size=4096, rate=None, seconds=None):
    """Median and 99th percentile of fdatasync after a write of so many bytes over old ones: rate times a second, or one
    after the other."""
    where = directory()
    fd = os.open(f"{where}/f", os.O_RDWR | os.O_CREAT)
    os.write(fd, bytes(1 << 22))
    os.fsync(fd)
    took, due = [], time.monotonic()
    for i in range(int(rate * seconds) if rate else 2000):
        if rate:
            due += 1 / rate
            time.sleep(max(0, due - time.monotonic()))
        os.pwrite(fd, bytes(size), i * size % (1 << 22))
        began = time.monotonic_ns()
        os.fdatasync(fd)
        took.append((time.monotonic_ns() - began) / 1000)
    os.close(fd)
    shutil.rmtree(where)
    return statistics.median(took), statistics.quantiles(took, n=100)[98]


class Peer(common.Contestant):
    """A server, its data directory, and whoever works jobs off."""

    def __init__(self, build, name):
        super().__init__(name)
        self.build, self.data = build, directory()

    def load(self, clients, seconds, protocol=None):
        out = subprocess.run([f"{self.build}/bench/durable_load", protocol or self.name, str(self.port), str(clients),
                              str(seconds)], check=True, capture_output=True, text=True).stdout
        accepted, failed, p50, p99, most = map(int, out.split())
        return {"accepted": accepted, "failed": failed, "p50": p50, "p99": p99, "max": most}

    def run(self, clients, seconds):
        before, began = self.finished(), time.monotonic()
        r = self.load(clients, seconds)
        while self.finished() - before < r["accepted"]:
            if time.monotonic() - began > 300:
                raise SystemExit(f"{self.name}: {self.finished() - before} of {r['accepted']} finished")
            time.sleep(0.01)
        r["rate"] = r["accepted"] / (time.monotonic() - began)
        return r

    def counter(self):
        path = f"{self.dir}/finished"
        self.start("worker", f"{self.build}/bench/durable_load", self.name + "-worker", str(self.port), str(WORKERS), path)
        common.until(lambda: os.path.exists(path) and os.path.getsize(path) == 8, "the worker works")
        with open(path, "r+b") as f:
            self.count = mmap.mmap(f.fileno(), 8)

    def finished(self):
        return int.from_bytes(self.count[:8], "little")

    def stop(self):
        super().stop()
        shutil.rmtree(self.data, ignore_errors=True)


class Weir(Peer):
    def __init__(self, build, *options, worker=True):
        super().__init__(build, "weir")
        self.options = options
        self.open()
        if worker:
            self.work()

    def open(self):
        at = common.hub(self.build, self, "--admin", "127.0.0.1:0", "--data", self.data, "--max-connections", "20000",
                        *self.options)
        self.port, self.admin = int(at["listen"].rpartition(":")[2]), at["admin"]

    def work(self):
        self.start("worker", f"{self.build}/bench/hello_worker", f"unix:{self.dir}/w", str(WORKERS))
        common.until(lambda: common.answers(f"http://127.0.0.1:{self.port}/hello"), "the worker answers")

    def metric(self, name):
        with urllib.request.urlopen(f"http://{self.admin}/metrics") as r:
            found = re.search(rf"^{re.escape(name)} (\S+)", r.read().decode(), re.M)
        return float(found[1])

    def finished(self):
        return int(self.metric('weir_durable_jobs_ended_total{state="done"}'))


class Beanstalkd(Peer):
    def __init__(self, build):
        super().__init__(build, "beanstalkd")
        self.port = common.free_port()
        self.start("server", "beanstalkd", "-l", "127.0.0.1", "-p", str(self.port), "-b", self.data, "-f", "0")
        common.until(lambda: common.connects(self.port), "beanstalkd listens")
        self.counter()


class Gearmand(Peer):
    def __init__(self, build):
        super().__init__(build, "gearmand")
        self.port = common.free_port()
        self.start("server", "gearmand", "-L", "127.0.0.1", "-p", str(self.port), "--queue-type=libsqlite3",
                   f"--libsqlite3-db={self.data}/q.db", f"--log-file={self.dir}/log")
        common.until(lambda: common.connects(self.port), "gearmand listens")
        self.counter()


class GroupCommit(Peer):
    def __init__(self, build):
        super().__init__(build, "group commit")
        self.port = common.free_port()
        self.start("server", f"{build}/bench/sync_server", str(self.port), f"{self.data}/f", str(COMMIT), stdout=subprocess.DEVNULL)
        common.until(lambda: common.connects(self.port), "sync_server listens")


def spread(values, form="{:,.0f}"):
    return f"{form.format(statistics.median(values))} ({form.format(min(values))} to {form.format(max(values))})"


def compare(args):
    """Rounds of all, one after the other: {(name, clients): [result]}."""
    results = {}
    for r in range(args.rounds):
        for make in (Weir, Beanstalkd, Gearmand):
            peer = make(args.build)
            for clients in CLIENTS:
                got = peer.run(clients, args.seconds)
                results.setdefault((peer.name, clients), []).append(got)
                print(f"round {r + 1}: {peer.name:10} {clients:4} clients: {got['rate']:9,.0f} jobs/s, submit p50 "
                      f"{got['p50']} us, p99 {got['p99']} us, refused {got['failed']}", flush=True)
            peer.stop()
    return results


def publish(args):
    """Messages/s by 64 publishers to so many subscriptions that nobody reads meanwhile."""
    rows = []
    for subscriptions in (1, 10, 100):
        weir = Weir(args.build, worker=False)
        for i in range(subscriptions):
            request = urllib.request.Request(f"http://127.0.0.1:{weir.port}/-/topics/t/s{i}", method="POST")
            urllib.request.urlopen(request).close()
        rounds = []
        for _ in range(args.rounds):
            began = time.monotonic()
            got = weir.load(64, args.seconds, "publish")
            rounds.append(got["accepted"] / (time.monotonic() - began))
            assert got["failed"] == 0, got
        kept = weir.metric("weir_topic_messages")
        print(f"publish to {subscriptions}: {spread(rounds)} messages/s, {kept:.0f} kept", flush=True)
        rows.append((subscriptions, rounds, got))
        weir.stop()
    return rows


def resident_mb(process):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{process.pid}/status").read_text())[1]) / 1024


def restart(weir):
    """Ends the hub, starts it again on the same data; how long until it takes requests, in s."""
    hub = weir.processes.pop("hub")
    hub.send_signal(signal.SIGTERM)
    hub.wait(60)
    os.unlink(f"{weir.dir}/ports")
    began = time.monotonic()
    weir.open()
    common.until(lambda: common.answers(f"http://{weir.admin}/readyz"), "the hub is ready")
    return time.monotonic() - began


def million(args):
    """Many jobs queued: start-up, memory, and whether anything is slower than with few."""
    few = Weir(args.build)
    few_rates = [few.run(64, args.seconds)["rate"] for _ in range(args.rounds)]
    few.stop()
    weir = Weir(args.build)
    worker = weir.processes.pop("worker")
    worker.send_signal(signal.SIGTERM)
    worker.wait(10)
    queued = 0
    while queued < args.million:
        queued += weir.load(512, 5)["accepted"]
    print(f"{queued:,} queued, hub {resident_mb(weir.processes['hub']):.0f} MB", flush=True)
    started = [restart(weir) for _ in range(3)]
    rss_idle = resident_mb(weir.processes["hub"])
    weir.work()
    before, began = weir.finished(), time.monotonic()
    many_rates, submit_p99 = [], []
    for _ in range(args.rounds):
        before, began = weir.finished(), time.monotonic()
        submit_p99.append(weir.load(64, args.seconds)["p99"])
        many_rates.append((weir.finished() - before) / (time.monotonic() - began))
    rss = resident_mb(weir.processes["hub"])
    left = weir.metric('weir_durable_jobs{state="queued"}')
    size = sum(f.stat().st_size for f in pathlib.Path(weir.data).rglob("*") if f.is_file()) / 1e6
    weir.stop()
    result = {"queued": queued, "started": started, "rss": max(rss_idle, rss), "few": few_rates, "many": many_rates,
              "p99": submit_p99, "left": left, "size": size}
    print(json.dumps(result), flush=True)
    return result


LOADS = {"1 client, one after the other": ("-c", "1"), "500/s": ("-r", "500"), "2,000/s": ("-r", "2000"),
         "5,000/s": ("-r", "5000")}


def submits(args, port, load):
    """Their latencies in ms."""
    out = subprocess.run([f"{args.build}/src/cli/weir", "bench", f"http://127.0.0.1:{port}/hello", *load, "-d",
                          f"{args.seconds}s", "-H", "Prefer: respond-async", "--json"], check=True, capture_output=True, text=True)
    took = json.loads(out.stdout)["latency_ms"]
    return took["p50"], took["p99"]


def latency(args):
    """{load: rounds}: of the hub, of group commit alone, and of a sync as often as the hub made one: p50 and p99 in ms."""
    rows = {name: [] for name in LOADS}
    for r in range(args.rounds):
        for name, load in LOADS.items():
            weir = Weir(args.build)
            before = weir.metric("weir_store_commits_total")
            submit = submits(args, weir.port, load)
            commits = (weir.metric("weir_store_commits_total") - before) / args.seconds
            weir.stop()
            alone = GroupCommit(args.build)
            least = submits(args, alone.port, load)
            alone.stop()
            sync = tuple(us / 1000 for us in fsync_us(COMMIT, commits, args.seconds))
            rows[name].append({"submit": submit, "least": least, "sync": sync, "commits": commits})
            print(f"round {r + 1}: {name}: " + ", ".join(f"{what} {v[0]:.2f}, {v[1]:.2f} ms"
                  for what, v in rows[name][-1].items() if what != "commits") + f"; {commits:.0f} commits/s", flush=True)
    return rows


def report_latency(args, rows):
    def column(rounds, what, i):
        return spread([r[what][i] for r in rounds], "{:.2f}")

    def ratio(rounds, to):
        return spread([r["submit"][1] / r[to][1] for r in rounds], "{:.1f}")

    lines = [f"{common.machine()}. {args.rounds} rounds of {args.seconds} s, medians and their spread; each job is run and "
             "finished, too; rates are open loops over 64 connections, where time counts from when a request is due. Each "
             "round begins with an empty store. Beside each round of weir, in the same minute: the same client at "
             f"`bench/sync_server.c`, which does nothing but write {COMMIT // 1024} KiB (about what a commit of one job writes) over "
             "old bytes and sync them, once for all that came meanwhile; and such a sync alone, as often as the hub made one.", "",
             "| submits | weir: p50 ms | p99 ms | commits/s | group commit alone: p50 ms | p99 ms | a sync: p50 ms | p99 ms | "
             "p99: weir / group commit alone | weir / a sync |", "|---|---|---|---|---|---|---|---|---|---|"]
    for name, rounds in rows.items():
        cells = [column(rounds, what, i) for what in ("submit", "least", "sync") for i in (0, 1)]
        cells.insert(2, spread([r["commits"] for r in rounds]))
        lines.append(" | ".join([f"| {name}", *cells, ratio(rounds, "least"), ratio(rounds, "sync")]) + " |")
    return "\n".join(lines)


def report(args, sync, results, topics, many):
    names = ("weir", "beanstalkd", "gearmand")
    lines = [f"{common.machine()}; {common.version('beanstalkd')}, gearmand {gearmand_version()}. One fdatasync of 4 KiB "
             f"on this disk: median {sync[0]:.0f} us, p99 {sync[1]:.0f} us, in a loop of its own.", "",
             f"{args.rounds} rounds of {args.seconds} s each; jobs/s submitted, run and finished (medians, and the spread "
             f"of the rounds). beanstalkd with `-b DIR -f 0`, gearmand with `--queue-type=libsqlite3`, weir with "
             "`--data DIR`. Each acknowledges a job when it is on the disk.", "",
             "| clients | weir | beanstalkd | gearmand | weir / beanstalkd | weir: submit p50, p99 | beanstalkd | gearmand |",
             "|---|---|---|---|---|---|---|---|"]
    for clients in CLIENTS:
        of = {n: results[n, clients] for n in names}
        rates = {n: [r["rate"] for r in of[n]] for n in names}
        ratio = [a / b for a, b in zip(rates["weir"], rates["beanstalkd"])]
        took = {n: ", ".join(f"{statistics.median(r[p] for r in of[n]) / 1000:.2f}" for p in ("p50", "p99")) for n in names}
        lines.append(f"| {clients} | " + " | ".join(spread(rates[n]) for n in names) +
                     f" | {spread(ratio, '{:.2f}')} | {took['weir']} ms | {took['beanstalkd']} ms | {took['gearmand']} ms |")
    lines += ["", "Messages/s published by 64 clients, 100 bytes each, kept for so many subscriptions:", "",
              "| subscriptions | messages/s | p50, p99 |", "|---|---|---|"]
    for n, rounds, last in topics:
        lines.append(f"| {n} | {spread(rounds)} | {last['p50'] / 1000:.2f}, {last['p99'] / 1000:.2f} ms |")
    lines += ["", f"With {many['queued']:,} jobs queued ({many['size']:,.0f} MB on disk): the hub starts within "
              f"{spread(many['started'], '{:.2f}')} s, holds {many['rss']:.0f} MB, and finishes {spread(many['many'])} jobs/s "
              f"while 64 clients submit more (p99 {statistics.median(many['p99']) / 1000:.2f} ms); with none queued before "
              f"{spread(many['few'])}: {statistics.median(many['few']) / statistics.median(many['many']):.2f} x."]
    return "\n".join(lines)


def gearmand_version():
    out = subprocess.run(["gearmand", "--version"], capture_output=True, text=True, check=False)
    return re.search(r"[0-9]+[.][0-9.]+", out.stdout + out.stderr)[0]


def main():
    args = common.arguments(__doc__, rounds=5, seconds=3, million=1000000, latency=0)
    if args.latency:
        text = report_latency(args, latency(args))
        common.write_section("durable-latency", "## Durable jobs: how long a submit takes\n\n" + text)
        print(text)
        return
    sync = fsync_us()
    print(f"fdatasync: median {sync[0]:.0f} us, p99 {sync[1]:.0f} us")
    results = compare(args)
    topics = publish(args)
    text = report(args, sync, results, topics, million(args))
    common.write_section("durable", "## Durable jobs and topics\n\n" + text)
    print(text)


if __name__ == "__main__":
    main()
