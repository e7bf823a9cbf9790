#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A tenant that floods: what it does to the p99 of another one that asks for a hundredth of that.

    bench/fairness.py [--build build-release] [--rounds 5] [--seconds 15]

8 workers that sleep 5 to 15 ms for each job (1/1.25 ms). The quiet tenant asks 25 times a second, alone and beside one
that asks 2,500 times a second: three times what the workers can do. Arrivals are drawn beforehand (Poisson), an open
loop; time counts from when a request was due. The same without tenants shows what they are good for.
"""
import statistics
import subprocess

import numpy

from common import Contestant, arguments, hub, machine, write_section
from tail import OUTCOME, PLANNED

RATE, FLOOD, WORKERS = 25, 100, 8


def plan(rate, seconds, seed):
    random = numpy.random.default_rng(seed)
    n = int(rate * seconds)
    made = numpy.zeros(n, PLANNED)
    made["due_ns"] = numpy.cumsum(random.exponential(1e9 / rate, n)).astype("i8")
    made["us"] = random.integers(5000, 15000, n)
    return made


def load(build, c, port, name, made):
    made.tofile(f"{c.dir}/{name}.plan")
    return c.start(name, f"{build}/bench/tail_load", port, f"{c.dir}/{name}.plan", f"{c.dir}/{name}.result", "0", name,
                   stdout=subprocess.DEVNULL)


def run(build, seconds, seed, flood, tenants=True):
    """p50 and p99 in ms of the quiet tenant, its errors, and how late the generator was."""
    c = Contestant("fairness")
    at = hub(build, c, "--admin", "off", *(("--tenant-header", "x-tenant") if tenants else ()))
    c.start("worker", f"{build}/bench/tail_worker", at["workers"], str(WORKERS), "1", "0", stdout=subprocess.DEVNULL)
    port = at["listen"].rsplit(":", 1)[1]
    quiet = load(build, c, port, "quiet", plan(RATE, seconds, seed))
    if flood:
        load(build, c, port, "flood", plan(RATE * FLOOD, seconds, seed + 1000))
    quiet.wait()
    outcome = numpy.fromfile(f"{c.dir}/quiet.result", OUTCOME)
    c.stop()
    good = outcome["status"] == 200
    took = outcome["took_ns"][good] / 1e6 if good.any() else numpy.array([numpy.inf])
    return (*numpy.percentile(took, (50, 99)), int((~good).sum()), numpy.percentile(outcome["late_ns"], 99) / 1e6)


def main():
    args = arguments(__doc__, rounds=5, seconds=15)
    rows = {"alone": [], "beside the flood": [], "beside the flood, all one tenant": []}
    for seed in range(args.rounds):
        for name, flood, tenants in zip(rows, (False, True, True), (True, True, False)):
            rows[name].append(run(args.build, args.seconds, seed, flood, tenants))
            p50, p99, errors, late = rows[name][-1]
            print(f"round {seed + 1}: {name:34} p50 {p50:8.2f} p99 {p99:8.2f} ms, {errors} refused, late {late:.2f} ms", flush=True)
    med = statistics.median
    lines = ["## Fairness: a tenant that floods", "", f"{machine()}.", "", *__doc__.strip().split("\n\n")[2].split("\n"), "",
             "| the quiet tenant | p50 ms | p99 ms | p99 / alone | refused |", "|---|---|---|---|---|"]
    for name, runs in rows.items():
        ratios = [r[1] / a[1] for r, a in zip(runs, rows["alone"])]
        lines.append(f"| {name} | {med(r[0] for r in runs):,.2f} | {med(r[1] for r in runs):,.2f} | "
                     f"{med(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | {sum(r[2] for r in runs)} of "
                     f"{len(runs) * args.seconds * RATE:,} |")
    lines += ["", f"{args.rounds} rounds of {args.seconds} s: median (lowest to highest of the rounds)."]
    print("\n".join(lines))
    write_section("fairness", "\n".join(lines))


if __name__ == "__main__":
    main()
