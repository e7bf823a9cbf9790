#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Durable jobs: submitted, run and finished, every acknowledged write synced; beside beanstalkd and gearmand.

    bench/durable.py [--build build-release] [--rounds 5] [--seconds 3] [--million 1000000] [--latency 1]

--latency 1: only how long a submit takes at a given rate (open loop), a section of its own.

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


def directory():
    """On a disk, not in memory: /tmp may be either."""
    return tempfile.mkdtemp(prefix="weir-bench-", dir=os.environ.get("BENCH_DIR", "/var/tmp"))


def fsync_us(size=4096):
    """Median and 99th percentile of fdatasync after a write of so many bytes over old ones."""
    where = directory()
    fd = os.open(f"{where}/f", os.O_RDWR | os.O_CREAT)
    os.write(fd, bytes(1 << 20))
    took = []
    for i in range(2000):
        os.pwrite(fd, bytes(size), i % 16 * size)
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


def latency(args):
    """Submits at fixed rates by 64 connections; time counts from when one is due."""
    syncs = [(size, *fsync_us(size)) for size in (4096, 52 * 1024)]
    rows = []
    for rate in (500, 2000, 5000):
        rounds = []
        for _ in range(args.rounds):
            weir = Weir(args.build)
            out = subprocess.run([f"{args.build}/src/cli/weir", "bench", f"http://127.0.0.1:{weir.port}/hello", "-r", str(rate),
                                  "-d", f"{args.seconds}s", "-H", "Prefer: respond-async", "--json"], check=True,
                                 capture_output=True, text=True).stdout
            rounds.append(json.loads(out))
            weir.stop()
        rows.append((rate, rounds))
    return syncs, rows


def report_latency(args, syncs, rows):
    lines = [f"{common.machine()}. 64 connections, {args.rounds} rounds of {args.seconds} s at each rate; each job is run and "
             "finished, too, and each round begins with an empty store. Medians of the rounds, and their spread.", "",
             "| submits/s | p50 | p99 |", "|---|---|---|"]
    for rate, rounds in rows:
        took = {p: spread([r["latency_ms"][p] for r in rounds], "{:.2f}") for p in ("p50", "p99")}
        lines.append(f"| {rate:,} | {took['p50']} ms | {took['p99']} ms |")
    lines += ["", "One fdatasync on this disk, in a loop of its own: " +
              "; ".join(f"of {size // 1024} KiB median {p50 / 1000:.2f} ms, p99 {p99 / 1000:.2f} ms" for size, p50, p99 in syncs) +
              ". A commit of one job writes 12 to 13 pages, 52 KiB."]
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
        text = report_latency(args, *latency(args))
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
