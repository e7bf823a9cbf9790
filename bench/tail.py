#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Tail latency of uneven work: nginx, HAProxy and weir before the same workers, beside the best queue there can be.

    bench/tail.py [--build build-release] [--rounds 3] [--seconds 9] [--workers 8,64] [--loads 0.5,0.7,0.8,0.9] [--busy] [--sleepy] [--quick] [--dry]

An open loop: arrivals (Poisson) and service times are drawn beforehand, and a request's time counts from when it was
due. In a round all contestants get the very same requests. Without --workers and --loads, all loads are measured with
8 workers and the first law, and else load 0.8 only: of the second law, and with 64 workers. --quick is one short round;
it and --dry leave docs/ as it is. --busy: the hubs do not sleep (a section of its own; 8 workers, load 0.8).
"""
import argparse
import collections
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

FILES = 0  # that may be open at once, and so connections
PORTION_US = 20000
IDEAL, WITH_HOP, FIFO = "ideal: one queue, M/G/k", "the ideal with weir's hop", "weir, FIFO"
BUSY = ", busy polling"
COMPUTED = (IDEAL, WITH_HOP)
LATE_US, TRIES = 1000, 3  # a run whose load generator was later than that (p99) is made again
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


def ideal(plan, k, hop_ns=0):
    """One queue, first come first served: ns that each takes. No time is lost, or a hop with each job: its client and
    the next job wait for it."""
    free, took = [0] * k, numpy.zeros(len(plan), "i8")
    for i, (due, us) in enumerate(plan.tolist()):
        end = max(due, free[0]) + us * 1000 + hop_ns
        heapq.heapreplace(free, end)
        took[i] = end - due
    return took


# ---- who is asked ----

def backends(build, c, k):
    server = c.start("worker", f"{build}/bench/tail_server", f"{c.dir}/up", str(k), stdout=subprocess.PIPE, text=True)
    server.stdout.readline()
    return [f"{c.dir}/up{i}" for i in range(k)]


def nothing(build, k):
    """What the machine takes by itself: the client and the workers, and the one queue in the client."""
    c = Contestant("no hub, the queue in the client")
    backends(build, c, k)
    c.port = f"{c.dir}/up"
    return c


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


def haproxy(build, k, one, busy=False):
    c = Contestant(f"HAProxy leastconn{', maxconn 1' if one else ''}{BUSY if busy else ''}")
    port = c.port = free_port()
    servers = "\n".join(f"  server s{i} unix@{path} {'maxconn 1' if one else ''}"
                        for i, path in enumerate(backends(build, c, k)))
    pathlib.Path(f"{c.dir}/conf").write_text(f"""global
  nbthread 1
  {'busy-polling' if busy else ''}
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


def weir_hub(build, name, *options):
    c = Contestant(name)
    return c, hub(build, c, "--admin", "off", "--request-timeout", "0", "--queue-time", "0", "--max-queued", "1000000",
                  "--service-max-queued", "1000000", "--service-max-queued-bytes", "1GiB", "--max-queued-bytes", "1GiB",
                  "--idle-timeout", "600s", "--head-timeout", "600s", "--max-connections", str(FILES - 1000), *options)


def weir_ready(c, at):
    c.port = int(at["listen"].rsplit(":", 1)[1])
    until(lambda: answers(f"http://{at['listen']}/nap?us=1"), f"{c.name} answers")
    return c


def weir(build, k, name, *options, portion=0):
    c, at = weir_hub(build, name, *options)
    c.start("worker", f"{build}/bench/tail_worker", at["workers"], str(k), "1", str(portion), stdout=subprocess.PIPE, text=True)
    return weir_ready(c, at)


def weir_h1(build, k, more="", *options):
    """The threads that are the peers' backends, as workers."""
    c, at = weir_hub(build, f"{FIFO}, reverse HTTP/1.1{more}", *options)
    c.start("worker", f"{build}/bench/tail_server", "--dial", at["workers"], str(k), stdout=subprocess.PIPE, text=True)
    return weir_ready(c, at)


def busy_contestants(build):
    options = ("--busy-poll", "10ms")
    return [lambda k: nothing(build, k), lambda k: haproxy(build, k, True, busy=True),
            lambda k: weir_h1(build, k, BUSY, *options), lambda k: weir(build, k, FIFO + BUSY, *options)]


def contestants(build):
    help_text = subprocess.run([f"{build}/src/cli/weir", "hub", "--help"], capture_output=True, text=True).stdout
    makers = [lambda k: nothing(build, k), lambda k: nginx(build, k, ""), lambda k: nginx(build, k, "least_conn"),
              lambda k: haproxy(build, k, False), lambda k: haproxy(build, k, True),
              lambda k: weir_h1(build, k), lambda k: weir(build, k, FIFO)]
    if re.search(r"\border\b.*shortest", help_text):
        makers.append(lambda k: weir(build, k, "weir, shortest first", "--service", "nap.order=shortest"))
    makers.append(lambda k: weir(build, k, f"weir, portions of {PORTION_US // 1000} ms", portion=PORTION_US))
    return makers


# ---- asking ----

def cpu():
    fields = [int(f) for f in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(fields), sum(fields) - fields[3] - fields[4]


class Run:
    """One contestant and one plan. Begins at once; quiet() returns when what is left are jobs that sleep."""

    def __init__(self, build, task):
        self.task, self.c = task, task.make(task.cell[1])
        task.plan.tofile(f"{self.c.dir}/plan")
        self.load = self.c.start("load", f"{build}/bench/tail_load", str(self.c.port), f"{self.c.dir}/plan",
                                 f"{self.c.dir}/result", str(task.cell[1]), stdout=subprocess.PIPE, text=True)
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
        plan, took = self.task.plan, outcome["took_ns"]
        hop = numpy.median((took / 1e3 - plan["us"])[self.task.best == plan["us"].astype("i8") * 1000])
        return Result(plan, took, hop=float(hop), errors=int((outcome["status"] != 200).sum()), busy=self.busy,
                      late=numpy.percentile(outcome["late_ns"], 99) / 1e3, naps=naps)


class Result:
    def __init__(self, plan, took_ns, hop=0, errors=0, busy=0, late=0, naps=1):
        self.plan, self.hop, self.errors, self.busy, self.late, self.naps = plan, hop, errors, busy, late, naps
        self.took = took_ns / 1e6  # ms
        slow = took_ns / (plan["us"].astype("f8") * 1000)
        self.p50, self.p99, self.p999 = numpy.percentile(self.took, (50, 99, 99.9))
        self.slow, self.slow99 = slow.mean(), numpy.percentile(slow, 99)


Task = collections.namedtuple("Task", "round cell plan best make tries")


def tasks(args, cells, makers):
    for number in range(args.rounds):
        for cell in cells:
            plan = draw(*cell, args.seconds, args.seed + number)
            best = ideal(plan, cell[1])
            for make in makers:
                yield Task(number, cell, plan, best, make, TRIES)


def tell(name, task, r):
    law, k, load = task.cell
    print(f"round {task.round + 1}: {law.name[:7]}, {k:2} workers, load {load}: {name:28} p50 {r.p50:6.2f} p99 {r.p99:6.0f} ms, "
          f"slowdown {r.slow:6.2f}, p99 {r.slow99:6.1f}, errors {r.errors}; hop {r.hop:.0f} us, late {r.late:.0f} us, "
          f"sleeps {r.naps:.4f}, CPU {r.busy:.0%}", flush=True)


def measure(args, cells, makers):
    """{cell: {name: [Result of each round]}}, and how many runs were made again. What still sleeps of one run does not
    keep the next one waiting."""
    results, draining, again, repeated = {cell: {} for cell in cells}, [], [], 0
    todo = tasks(args, cells, makers)
    while True:
        task = again.pop(0) if again else next(todo, None)
        if task:
            run = Run(args.build, task)
            for name in (IDEAL, run.c.name):
                results[task.cell].setdefault(name, [None] * args.rounds)
            run.quiet()
            if args.busy:  # a hub that does not sleep takes from the next one's run
                run.load.wait()
            draining.append(run)
        for run in [r for r in draining if r.done() or not task]:
            draining.remove(run)
            result = run.finish()
            tell(run.c.name, run.task, result)
            results[run.task.cell][run.c.name][run.task.round] = result
            results[run.task.cell][IDEAL][run.task.round] = Result(run.task.plan, run.task.best)
            if result.late > LATE_US and run.task.tries > 1:
                again.append(run.task._replace(tries=run.task.tries - 1))
                repeated += 1
        if not task and not again:
            return {cell: with_hop(cell, runs) for cell, runs in results.items()}, repeated


def with_hop(cell, runs):
    """Adds what the ideal queue would make of weir's hop."""
    if FIFO not in runs:
        return runs
    lost = [Result(a.plan, ideal(a.plan, cell[1], round(b.hop * 1e3))) for a, b in zip(runs[IDEAL], runs[FIFO])]
    return {IDEAL: runs[IDEAL], WITH_HOP: lost, **{name: r for name, r in runs.items() if name != IDEAL}}


# ---- telling ----

def spread(values, form="{:,.2f}"):
    text = [form.format(v) for v in (statistics.median(values), min(values), max(values))]
    return f"{text[0]} ({text[1]} to {text[2]})"


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
                     f"{'' if name in COMPUTED else format(med(r.hop for r in all_of), '.0f')} | {sum(r.errors for r in all_of)} |")
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
        near = [statistics.median(getattr(a, w) / getattr(b, w) - 1 for a, b in zip(runs[FIFO], runs[to]))
                for to in COMPUTED for w in ("p50", "p99")]
        lines.append(f"* {law.name}, {k} workers: {FIFO} is {near[0]:+.1%} from the ideal at p50 and {near[1]:+.1%} at p99, and "
                     f"{near[2]:+.1%} and {near[3]:+.1%} from the ideal with its hop; by portions the p99 slowdown is {spread(times, '{:.1f}')} times lower than with nginx least_conn.")
    return lines


def report_busy(args, results):
    """The same, with hubs that do not sleep."""
    lines = [f"As above, with 8 workers at load 0.8, {args.rounds} rounds of {args.seconds} s each; but the hubs look for the next event without "
             "sleeping, at the price of a processor: weir with `busy-poll = 10ms`, HAProxy with `busy-polling`.", ""]
    near = lambda runs, name, what: spread([getattr(a, what) / getattr(b, what) * 100 - 100
                                            for a, b in zip(runs[name], runs[IDEAL])], "{:+.1f} %")
    for (law, k, load), runs in results.items():
        for name in runs:
            if name.startswith(FIFO):
                lines.append(f"* {law.name}, {k} workers: {name} is {near(runs, name, 'p50')} from the ideal at p50 and "
                             f"{near(runs, name, 'p99')} at p99.")
    for (law, k, load), runs in results.items():
        lines += ["", f"### {law.name}; {k} workers, load {load}, hubs that do not sleep", ""] + detail(runs)
    return "\n".join(lines)


def report(args, results, repeated, awake):
    of = {k: [r for cell, runs in results.items() if cell[1] == k for name, all_of in runs.items() if name not in COMPUTED
              for r in all_of] for k in {cell[1] for cell in results}}
    every = sum(of.values(), [])
    busy = {k: statistics.median(r.busy for r in all_of) for k, all_of in of.items()}
    lines = [f"{machine()}; {version('nginx')}, {version('haproxy')}. {args.rounds} rounds of {args.seconds} s each with seeds of "
             "their own: median (lowest to highest of the rounds). "
             + ("The processors are kept awake meanwhile (`/dev/cpu_dma_latency` at 0, as the latency-performance profile of tuned "
                "does): to wake a halted one of a virtual machine takes some 20 us, several times a request, whoever is asked."
                if awake else "Idle processors may sleep."), "",
             "Open loop: requests come as a Poisson process, drawn beforehand with what each will cost, and every contestant "
             "gets the same. Time counts from when a request was due. A worker does one job at a time, and sleeps as long as "
             "the request says. The peers have a unix socket for each worker, where what they send waits; weir's workers are "
             "libweir with one slot and one connection each. Slowdown is time / service time. The ideal is computed: one queue, "
             "k workers, no time lost. Hop: median of what a request takes beyond its service when, in the ideal, it need not wait: "
             f"the way there and back, past threads that sleep. {WITH_HOP.capitalize()} is computed too: each job keeps its worker "
             "so much longer, and its client. Without a hub the client keeps that queue itself and sends to the workers' sockets: so much "
             "of the hop is the machine's. p99 of the second law lies on the step between its two kinds of jobs.",
             "", f"Load generator: sends up to {max(r.late for r in every):,.0f} us late (p99, the worst run; "
             f"median {statistics.median(r.late for r in every):.0f}). Sleeps last {min(r.naps for r in every):.4f} to "
             f"{max(r.naps for r in every):.4f} of what was asked. Of the machine's CPU, busy: "
             + ", ".join(f"{b:.0%} with {k} workers" for k, b in sorted(busy.items()))
             + f" (median). {repeated} runs in which it was more than "
             f"{LATE_US / 1000:g} ms late were made again. Requests: {sum(len(r.took) for r in every):,}, errors: {sum(r.errors for r in every)}.", ""]
    lines += goals(results)
    for law in LAWS:
        for k in sorted({cell[1] for cell in results}):
            loads = [cell[2] for cell in results if cell[0] is law and cell[1] == k]
            if not loads:
                continue
            at = min(loads, key=lambda load: abs(load - 0.8))
            lines += ["", f"### {law.name}; {k} workers, load {at}", ""] + detail(results[law, k, at])
            if len(loads) > 1:
                lines += [""] + by_load(results, law, k, loads)
    return "\n".join(lines)


def plot(results, path):
    """The p99 slowdown by load (the first law, the least workers), and distributions of times at load 0.8."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker
    names = list(next(iter(results.values())))
    colours = dict(zip(names, ("black", "grey", "tab:olive", "tab:red", "tab:orange", "tab:brown", "tab:purple", "tab:pink", "tab:blue",
                               *(("tab:cyan",) if len(names) > 10 else ()), "tab:green")))
    style = lambda name: {"color": colours[name], "linestyle": "--" if name in COMPUTED else "-", "linewidth": 1.6,
                          "zorder": 3 if name in COMPUTED else 2}
    plain = ticker.FuncFormatter(lambda v, _: f"{v:g}")
    law, k, _ = next(iter(results))
    loads = [cell[2] for cell in results if cell[:2] == (law, k)]
    near = min(loads, key=lambda load: abs(load - 0.8))
    cells = [cell for cell in results if cell[2] == near][:3]
    figure, axes = pyplot.subplots(2, 2, figsize=(12, 9.5), dpi=110)
    axis = axes[0][0]
    for name in names:
        axis.plot(loads, [statistics.median(r.slow99 for r in results[law, k, load][name]) for load in loads],
                  marker="o", markersize=4, label=name, **style(name))
    axis.set(yscale="log", xlabel="load", ylabel="slowdown at p99 (time / service time)", xticks=loads,
             title=f"{law.name}\n{k} workers")
    axis.yaxis.set_major_formatter(plain)
    for axis, cell in zip(axes.flat[1:], cells):
        for name, runs in results[cell].items():
            took = numpy.sort(numpy.concatenate([r.took for r in runs]))
            axis.plot(took, 1 - numpy.arange(len(took)) / len(took), **style(name))
        axis.set(xscale="log", yscale="log", xlabel="time, ms", ylabel="share of requests that take longer", ylim=(1e-4, 1.1),
                 title=f"{cell[0].name}\n{cell[1]} workers, load {cell[2]}")
        axis.xaxis.set_major_formatter(plain)
    for axis in axes.flat:
        axis.grid(True, which="major", alpha=0.4)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="lower center", ncol=4, frameon=False)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path)


def keep_awake(args):
    """The processors do not sleep as long as what this returns is open (Linux, PM QoS). None: they do."""
    if args.sleepy:
        return None
    try:
        latency = open("/dev/cpu_dma_latency", "wb", buffering=0)
        latency.write(b"\0\0\0\0")
        return latency
    except OSError:
        return None


def arguments():
    numbers = lambda kind: lambda text: [kind(n) for n in text.split(",")]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build-release")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=9)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=numbers(int))
    parser.add_argument("--loads", type=numbers(float))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--busy", action="store_true", help="hubs that do not sleep: 8 workers, load 0.8")
    parser.add_argument("--sleepy", action="store_true", help="idle processors may sleep")
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
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    FILES = min(hard, 60000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))
    workers, loads = args.workers or [8, 64], args.loads or [0.5, 0.7, 0.8, 0.9]
    cells = [(law, k, load) for k in workers for law in LAWS for load in loads
             if args.workers or args.loads or (law is LAWS[0] and k == 8) or (load == 0.8 and (law is LAWS[0] or k == 8))]
    if args.busy:
        cells = [(law, 8, 0.8) for law in LAWS]
    began = time.monotonic()
    awake = keep_awake(args)
    results, repeated = measure(args, cells, (busy_contestants if args.busy else contestants)(args.build))
    text = report_busy(args, results) if args.busy else report(args, results, repeated, awake is not None)
    print(f"\n{text}\n\n{(time.monotonic() - began) / 60:.1f} minutes")
    if args.dry:
        return
    if args.busy:
        write_section("busy", "## Uneven work: hubs that do not sleep\n\n" + text)
        return
    plot(results, PLOT)
    write_section("tail", "## Uneven work: the tail\n\n![slowdown by load, and distribution of times](tail.png)\n\n" + text)


if __name__ == "__main__":
    main()
