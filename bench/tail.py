#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Tail latency of uneven work: nginx, HAProxy and weir before the same workers, beside the best queue there can be.

    bench/tail.py [--build build-release] [--rounds 3] [--seconds 6] [--workers 8,64] [--loads 0.5,0.7,0.8,0.9] [--quick]

An open loop: arrivals (Poisson) and service times are drawn beforehand, and a request's time counts from when it was
due. In a round all contestants get the very same requests. Without --workers and --loads, 64 workers are measured at
load 0.8 only; --quick is one short round that writes nothing.
"""
import argparse
import heapq
import os
import pathlib
import re
import resource
import signal
import statistics
import subprocess
import sys
import time

import numpy

from common import ROOT, Contestant, answers, connects, free_port, hub, machine, until, version, write_section

PORTION_US = 20000
IDEAL = "ideal: one queue, M/G/k"
PLOT = ROOT / "docs" / "tail.png"
OUTCOME = numpy.dtype([("took_ns", "i8"), ("late_ns", "i8"), ("status", "i8")])
PLANNED = numpy.dtype([("due_ns", "i8"), ("us", "u8")])


# ---- what is asked ----

class Pareto:
    """Bounded: 1 ms to 10 s, alpha 1.1."""
    name, low, high, alpha = "bounded Pareto, 1 ms to 10 s, alpha 1.1", 1e-3, 10.0, 1.1

    def mean(self):
        a, ratio = self.alpha, self.low / self.high
        return self.low * a / (a - 1) * (1 - ratio ** (a - 1)) / (1 - ratio ** a)

    def inverse(self, u):
        return self.low * (1 - u * (1 - (self.low / self.high) ** self.alpha)) ** (-1 / self.alpha)


class Bimodal:
    name = "99 % of 10 ms, 1 % of 1 s"

    def mean(self):
        return 0.99 * 0.010 + 0.01 * 1

    def inverse(self, u):
        return numpy.where(u < 0.99, 0.010, 1.0)


LAWS = (Pareto(), Bimodal())


def draw(law, k, load, seconds, seed):
    """Arrivals of a Poisson process, given their number. Service times are drawn one from each n-th of the law, in
    random order: their sum hardly differs from run to run, so the load is what it is said to be."""
    random = numpy.random.default_rng([seed, LAWS.index(law), k, round(load * 1000)])
    n = round(load * k / law.mean() * seconds)
    plan = numpy.zeros(n, PLANNED)
    plan["due_ns"] = numpy.sort(random.random(n)) * seconds * 1e9
    plan["us"] = numpy.maximum(1, law.inverse((random.permutation(n) + random.random(n)) / n) * 1e6)
    return plan


def ideal(plan, k):
    """One queue, first come first served, no time lost: ns that each takes."""
    free, took = [0] * k, numpy.zeros(len(plan), "i8")
    for i, (due, us) in enumerate(plan.tolist()):
        end = max(due, free[0]) + us * 1000
        heapq.heapreplace(free, end)
        took[i] = end - due
    return took


# ---- who is asked ----

def backends(build, c, k):
    server = c.start("worker", f"{build}/bench/tail_server", f"{c.dir}/up", str(k), stdout=subprocess.PIPE, text=True)
    server.stdout.readline()
    return [f"{c.dir}/up{i}" for i in range(k)]


def nginx(build, k, balance):
    c = Contestant(f"nginx {balance or 'round robin'}")
    port = c.port = free_port()
    servers = "\n".join(f"    server unix:{path} max_fails=0;" for path in backends(build, c, k))
    temp = "\n".join(f"  {m}_temp_path {c.dir}/{m};" for m in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    pathlib.Path(f"{c.dir}/conf").write_text(f"""worker_processes 1; master_process off; daemon off; pid {c.dir}/pid;
error_log {c.dir}/err crit; worker_rlimit_nofile {FILES};
events {{ worker_connections {FILES - 100}; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; client_header_timeout 600s;
{temp}
  upstream up {{
    {f'{balance};' if balance else ''}
{servers}
    keepalive 1024; keepalive_requests 1000000000; keepalive_timeout 600s; }}
  server {{ listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_read_timeout 600s; proxy_next_upstream off; }} }} }}
""")
    c.start("hub", "nginx", "-p", c.dir, "-c", f"{c.dir}/conf")
    until(lambda: connects(port), "nginx listens")
    return c


def haproxy(build, k, one):
    c = Contestant(f"HAProxy leastconn{', maxconn 1' if one else ''}")
    port = c.port = free_port()
    servers = "\n".join(f"  server s{i} unix@{path} {'maxconn 1' if one else ''}"
                        for i, path in enumerate(backends(build, c, k)))
    pathlib.Path(f"{c.dir}/conf").write_text(f"""global
  nbthread 1
  maxconn {FILES // 2 - 1000}
defaults
  mode http
  maxconn {FILES // 2 - 1000}
  backlog 4096
  timeout connect 600s
  timeout client 600s
  timeout server 600s
  timeout queue 600s
  http-reuse always
listen front
  bind 127.0.0.1:{port}
  balance leastconn
{servers}
""")
    c.start("hub", "haproxy", "-f", f"{c.dir}/conf", "-db")
    until(lambda: connects(port), "HAProxy listens")
    return c


def weir(build, k, what, *options, portion=0, one_worker=False):
    c = Contestant(f"weir, {what}")
    at = hub(build, c, "--admin", "off", "--request-timeout", "0", "--queue-time", "0", "--max-queued", "1000000",
             "--service-max-queued", "1000000", "--service-max-queued-bytes", "1GiB", "--max-queued-bytes", "1GiB",
             "--idle-timeout", "600s", "--head-timeout", "600s", "--max-connections", str(FILES - 1000), *options)
    shape = ("1", str(k)) if one_worker else (str(k), "1")
    c.start("worker", f"{build}/bench/tail_worker", at["workers"], *shape, str(portion), stdout=subprocess.PIPE, text=True)
    c.port = int(at["listen"].rsplit(":", 1)[1])
    until(lambda: answers(f"http://{at['listen']}/nap?us=1"), f"{c.name} answers")
    return c


def contestants(build):
    help_text = subprocess.run([f"{build}/src/cli/weir", "hub", "--help"], capture_output=True, text=True).stdout
    makers = [lambda k: nginx(build, k, ""), lambda k: nginx(build, k, "least_conn"),
              lambda k: haproxy(build, k, False), lambda k: haproxy(build, k, True),
              lambda k: weir(build, k, "FIFO")]
    if re.search(r"\border\b.*shortest", help_text):
        makers.append(lambda k: weir(build, k, "shortest first", "--service", "nap.order=shortest"))
    makers.append(lambda k: weir(build, k, f"portions of {PORTION_US // 1000} ms", portion=PORTION_US))
    return makers


# ---- asking ----

def cpu():
    fields = [int(f) for f in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(fields), sum(fields) - fields[3] - fields[4]


class Run:
    """One contestant and one plan. Begins at once; quiet() returns when what is left are jobs that sleep."""

    def __init__(self, make, build, cell, plan):
        self.cell, self.plan, self.c = cell, plan, make(cell[1])
        plan.tofile(f"{self.c.dir}/plan")
        self.load = self.c.start("load", f"{build}/bench/tail_load", str(self.c.port), f"{self.c.dir}/plan",
                                 f"{self.c.dir}/result", str(cell[1]), stdout=subprocess.PIPE, text=True)
        self.began = cpu()

    def quiet(self):
        self.load.stdout.readline()
        total, busy = (b - a for a, b in zip(self.began, cpu()))
        self.busy = busy / max(total, 1)

    def done(self):
        return self.load.poll() is not None

    def finish(self):
        if self.load.wait() != 0:
            raise SystemExit(f"{self.c.name}: tail_load failed")
        outcome = numpy.fromfile(f"{self.c.dir}/result", OUTCOME)
        self.c.stop()
        naps = float(re.search(r"([\d.]+) of what", self.c.processes["worker"].stdout.read())[1])
        return Result(self.plan, outcome["took_ns"], errors=int((outcome["status"] != 200).sum()), busy=self.busy,
                      late=numpy.percentile(outcome["late_ns"], 99) / 1e3, naps=naps)


class Result:
    def __init__(self, plan, took_ns, errors=0, busy=0, late=0, naps=1):
        self.errors, self.busy, self.late, self.naps = errors, busy, late, naps
        self.took = took_ns / 1e6  # ms
        slow = took_ns / (plan["us"].astype("f8") * 1000)
        self.over = took_ns / 1e3 - plan["us"]  # us beside the service
        self.p50, self.p99, self.p999 = numpy.percentile(self.took, (50, 99, 99.9))
        self.slow, self.slow99 = slow.mean(), numpy.percentile(slow, 99)


def measure(args, cells, makers):
    """{cell: {name: [Result of each round]}}; what still sleeps of one run does not keep the next one waiting."""
    results, draining = {cell: {} for cell in cells}, []

    def collect(run):
        result = run.finish()
        result.hop = float(numpy.median(result.over[run.free]))
        results[run.cell][run.c.name][run.round] = result
        law, k, load = run.cell
        print(f"round {run.round + 1}: {law.name[:7]} k {k:2} load {load} {run.c.name:24} p50 {result.p50:7.2f} "
              f"p99 {result.p99:8.1f} ms, slowdown {result.slow:6.2f}, p99 {result.slow99:8.1f}, errors {result.errors}, "
              f"late {result.late:.0f} us, hop {result.hop:.0f} us, busy {result.busy:.0%}, naps {result.naps}", flush=True)

    for number in range(args.rounds):
        for cell in cells:
            plan = draw(*cell, args.seconds, args.seed + number)
            best = ideal(plan, cell[1])
            results[cell].setdefault(IDEAL, []).append(Result(plan, best))
            for make in makers:
                run = Run(make, args.build, cell, plan)
                run.round, run.free = number, best == plan["us"].astype("i8") * 1000
                results[cell].setdefault(run.c.name, [None] * args.rounds)
                run.quiet()
                draining.append(run)
                for run in [r for r in draining if r.done()]:
                    draining.remove(run)
                    collect(run)
    for run in draining:
        collect(run)
    return results


# ---- telling ----

def spread(values, form="{:,.2f}"):
    text = [form.format(v) for v in (statistics.median(values), min(values), max(values))]
    return f"{text[0]} ({text[1]} to {text[2]})"


def name_order(results):
    names = []
    for runs in results.values():
        names += [n for n in runs if n not in names]
    return names


def detail(runs):
    lines = ["| | p50 ms | p99 ms | p99.9 ms | p50 / ideal | p99 / ideal | slowdown, mean | slowdown, p99 | hop us | errors |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    med = statistics.median
    best = runs[IDEAL]
    for name, all_of in runs.items():
        enough = len(all_of[0].took) >= 10000
        ratio = lambda what: "" if name == IDEAL else spread([getattr(a, what) / getattr(b, what)
                                                              for a, b in zip(all_of, best)], "{:.3f}")
        lines.append(f"| {name} | {med(r.p50 for r in all_of):.2f} | {med(r.p99 for r in all_of):,.1f} | "
                     f"{format(med(r.p999 for r in all_of), ',.0f') if enough else ''} | {ratio('p50')} | {ratio('p99')} | "
                     f"{spread([r.slow for r in all_of])} | {spread([r.slow99 for r in all_of], '{:,.1f}')} | "
                     f"{'' if name == IDEAL else format(med(r.hop for r in all_of), '.0f')} | {sum(r.errors for r in all_of)} |")
    return lines


def by_load(results, law, k, loads):
    lines = [f"| p50 / p99 ms, p99 slowdown | {' | '.join(f'load {load}' for load in loads)} |", "|---" * (len(loads) + 1) + "|"]
    med = statistics.median
    for name in results[law, k, loads[0]]:
        cells = [results[law, k, load][name] for load in loads]
        lines.append(f"| {name} | " + " | ".join(
            f"{med(r.p50 for r in c):.1f} / {med(r.p99 for r in c):,.0f}, {med(r.slow99 for r in c):,.1f}" for c in cells) + " |")
    return lines


def goals(results):
    """What was aimed at, at load 0.8."""
    lines = []
    for (law, k, load), runs in results.items():
        portions = next((n for n in runs if "portions" in n), None)
        if load != 0.8 or not portions:
            continue
        times = [a.slow99 / b.slow99 for a, b in zip(runs["nginx least_conn"], runs[portions])]
        near = [statistics.median(getattr(a, w) / getattr(b, w) - 1 for a, b in zip(runs["weir, FIFO"], runs[IDEAL]))
                for w in ("p50", "p99")]
        lines.append(f"* {law.name}, {k} workers: weir FIFO is {near[0]:+.1%} from the ideal at p50 and {near[1]:+.1%} at p99; "
                     f"by portions the p99 slowdown is {spread(times, '{:.1f}')} times lower than with nginx least_conn.")
    return lines


def report(args, results):
    every = [r for runs in results.values() for name, all_of in runs.items() if name != IDEAL for r in all_of]
    busy = {k: statistics.median(r.busy for cell, runs in results.items() if cell[1] == k for n, all_of in runs.items()
                                 if n != IDEAL for r in all_of) for k in {cell[1] for cell in results}}
    lines = [f"{machine()}; {version('nginx')}, {version('haproxy')}. {args.rounds} rounds of {args.seconds} s each with seeds of "
             "their own: median (lowest to highest of the rounds).", "",
             "Open loop: requests come as a Poisson process, drawn beforehand with what each will cost, and every contestant "
             "gets the same. Time counts from when a request was due. A worker does one job at a time, and sleeps as long as "
             "the request says. The peers have a unix socket for each worker, where what they send waits; weir's workers are "
             "libweir with one slot and one connection each. Slowdown is time / service time. The ideal is computed: one queue, "
             "k workers, no time lost. Hop: median of what a request takes beyond its service when, in the ideal, it need not wait.",
             "", f"Load generator: sends up to {max(r.late for r in every):,.0f} us late (p99, the worst run; "
             f"median {statistics.median(r.late for r in every):.0f}). Sleeps last {min(r.naps for r in every):.4f} to "
             f"{max(r.naps for r in every):.4f} of what was asked. Of the machine's CPU, busy: "
             + ", ".join(f"{b:.0%} with {k} workers" for k, b in sorted(busy.items()))
             + f" (median). Requests: {sum(len(r.took) for r in every):,}, errors: {sum(r.errors for r in every)}.", ""]
    lines += goals(results)
    for law in LAWS:
        for k in sorted({cell[1] for cell in results}):
            loads = [cell[2] for cell in results if cell[0] is law and cell[1] == k]
            at = min(loads, key=lambda load: abs(load - 0.8))
            lines += ["", f"### {law.name}; {k} workers, load {at}", ""] + detail(results[law, k, at])
            if len(loads) > 1:
                lines += [""] + by_load(results, law, k, loads)
    return "\n".join(lines)


def plot(results, path):
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker
    k = min(cell[1] for cell in results)
    names = name_order(results)
    colours = dict(zip(names, ("black", "tab:red", "tab:orange", "tab:brown", "tab:purple", "tab:blue", "tab:cyan", "tab:green")))
    marks = dict(zip(names, "xsD^vo*P"))
    figure, axes = pyplot.subplots(2, 2, figsize=(12, 9.5), dpi=110)
    for column, law in enumerate(LAWS):
        loads = [cell[2] for cell in results if cell[0] is law and cell[1] == k]
        at = min(loads, key=lambda load: abs(load - 0.8))
        top, bottom = axes[0][column], axes[1][column]
        for name in names:
            style = {"color": colours[name], "linestyle": "--" if name == IDEAL else "-", "linewidth": 1.6}
            top.plot(loads, [statistics.median(r.slow99 for r in results[law, k, load][name]) for load in loads],
                     marker=marks[name], label=name, zorder=3 if name == IDEAL else 2, **style)
            took = numpy.sort(numpy.concatenate([r.took for r in results[law, k, at][name]]))
            bottom.plot(took, 1 - numpy.arange(len(took)) / len(took), **style)
        top.set(yscale="log", xlabel="load", ylabel="slowdown at p99 (time / service time)", title=f"{law.name}\n{k} workers")
        top.set_xticks(loads)
        top.yaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:g}"))
        bottom.set(xscale="log", yscale="log", xlabel="time, ms", ylabel="share of requests that take longer",
                   title=f"load {at}", ylim=(2e-4, 1.1))
        bottom.xaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:g}"))
        for axis in (top, bottom):
            axis.grid(True, which="major", alpha=0.4)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="lower center", ncol=4, frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(path)


def arguments():
    numbers = lambda kind: lambda text: [kind(n) for n in text.split(",")]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build-release")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=numbers(int))
    parser.add_argument("--loads", type=numbers(float))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--dry", action="store_true", help="print, and leave docs/ as it is")
    args = parser.parse_args()
    args.build = str(pathlib.Path(args.build).resolve())
    if args.quick:
        args.rounds, args.seconds, args.dry = 1, min(args.seconds, 3), True
        args.workers, args.loads = args.workers or [8], args.loads or [0.8]
    return args


def main():
    global FILES
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is stopped
    try:
        os.nice(-20)  # what else the machine does disturbs less
    except PermissionError:
        pass
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    FILES = 60000
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, max(hard, FILES)))
    except (ValueError, PermissionError):
        FILES = hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    workers, loads = args.workers or [8, 64], args.loads or [0.5, 0.7, 0.8, 0.9]
    whole = args.workers or args.loads
    cells = [(law, k, load) for k in workers for law in LAWS for load in loads if whole or k == 8 or load == 0.8]
    began = time.monotonic()
    results = measure(args, cells, contestants(args.build))
    text = report(args, results)
    print(f"\n{text}\n\n{(time.monotonic() - began) / 60:.1f} minutes")
    if args.dry:
        return
    plot(results, PLOT)
    write_section("tail", "## Uneven work: the tail\n\n![slowdown by load, and distribution of times](tail.png)\n\n" + text)


if __name__ == "__main__":
    main()
