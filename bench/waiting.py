#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Jobs of a millisecond, and thousands of workers' connections that wait.

    bench/waiting.py [--build build-release] [--rounds 5] [--seconds 4] [--connections 10000]

How much of what N sleeping slots could do they do, and what 10,000 waiting connections of reverse HTTP/1.1 cost the
hub beside 64, in memory and in the time that a job takes.
"""
import pathlib
import re
import resource
import statistics
import subprocess
import time

from common import Contestant, answers, arguments, hub, machine, until, wrk, write_section

NAP_S = 0.001


def spread(values, form="{:,.0f}"):
    text = [form.format(v) for v in (statistics.median(values), min(values), max(values))]
    return f"{text[0]} ({text[1]} to {text[2]})"


def nap(build, program, slots, seconds):
    """Jobs/s, and the measured length of a nap in ms."""
    c = Contestant(program)
    try:
        at = hub(build, c, "--admin", "off")
        worker = c.start("worker", f"{build}/bench/{program}", at["workers"], str(slots), stdout=subprocess.PIPE, text=True)
        url = f"http://{at['listen']}/nap"
        until(lambda: answers(url), "a nap is taken")
        result = wrk(url, seconds)
    finally:
        c.stop()
    if result["errors"]:
        raise SystemExit(f"{program}: {result['errors']} errors")
    return result["rate"], float(re.search(r"([\d.]+) ms a nap", worker.stdout.read())[1])


def waiting(build, connections, seconds):
    """RSS of the hub in bytes, and p99 in ms."""
    c = Contestant(f"{connections} connections")
    try:
        at = hub(build, c, "--admin", "off")
        c.start("worker", f"{build}/bench/hello_server", at["workers"], str(connections))
        url = f"http://{at['listen']}/hello"
        until(lambda: answers(url), "hello is answered")
        fds = pathlib.Path(f"/proc/{c.processes['hub'].pid}/fd")
        until(lambda: sum(1 for _ in fds.iterdir()) > connections, "all have come")
        time.sleep(2)  # they wait: what their coming cost the kernel is over
        result = wrk(url, seconds)
        rss = int(re.search(r"VmRSS:\s+(\d+) kB", (fds.parent / "status").read_text())[1]) * 1024
    finally:
        c.stop()
    if result["errors"]:
        raise SystemExit(f"{c.name}: {result['errors']} errors")
    return rss, result["p99"]


def naps_section(args):
    lines = [f"{machine()}. {args.rounds} rounds of {args.seconds} s each, `wrk -t1 -c64`: median (lowest to highest). "
             "A job sleeps 1 ms; the sleep corrects itself, and its measured mean stands beside. unix socket.", "",
             "| worker | slots | jobs/s | of the possible | a nap, ms |", "|---|---|---|---|---|"]
    for what, program in (("a thread and an HTTP/1.1 connection for each slot", "nap_worker"), ("libweir", "hello_worker")):
        for slots in (1, 8):
            runs = [nap(args.build, program, slots, args.seconds) for _ in range(args.rounds)]
            rates, naps = zip(*runs)
            lines.append(f"| {what} | {slots} | {spread(rates)} | {statistics.median(rates) * NAP_S / slots:.1%} | "
                         f"{spread(naps, '{:.4f}')} |")
            print(lines[-1], flush=True)
    write_section("naps", "## Jobs of a millisecond\n\n" + "\n".join(lines))


def waiting_section(args):
    runs = {64: [], args.connections: []}
    for _ in range(args.rounds):
        for connections, results in runs.items():
            results.append(waiting(args.build, connections, args.seconds))
    ratio = [many[1] / few[1] for few, many in zip(*runs.values())]
    lines = [f"{machine()}. {args.rounds} rounds of {args.seconds} s each, `wrk -t1 -c64 --latency`: median (lowest to highest). "
             "Connections of one worker by reverse HTTP/1.1, unix socket.", "",
             "| connections | RSS of the hub, MB | p99, ms |", "|---|---|---|"]
    for connections, results in runs.items():
        rss, p99 = zip(*results)
        lines.append(f"| {connections:,} | {spread([r / 1e6 for r in rss], '{:.1f}')} | {spread(p99, '{:.2f}')} |")
    lines += ["", f"p99 with {args.connections:,} beside 64, in the same round: {spread(ratio, '{:.2f}')}."]
    print("\n".join(lines), flush=True)
    write_section("waiting", "## Connections that wait\n\n" + "\n".join(lines))


def main():
    args = arguments(__doc__, rounds=7, seconds=4, connections=10000)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = args.connections + 1000
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    naps_section(args)
    waiting_section(args)


if __name__ == "__main__":
    main()
