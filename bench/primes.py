#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The two-stage primes pipeline, asked as prime_server's own example was.

    bench/primes.py [--build build-release] [--rounds 5] [--seconds 4]

`weir demo primes --serve --workers 2`: a hub, two worker processes that parse, two that divide.
"""
import re
import statistics
import subprocess

from common import Contestant, answers, arguments, free_port, machine, until, wrk, write_section

LARGE, SMALL = 32416190071, 1009


def ab(url):
    out = subprocess.run(["ab", "-q", "-k", "-n", "1000", "-c", "8", url], check=True, capture_output=True, text=True).stdout
    number = lambda label: float(re.search(rf"^{label}:\s+([\d.]+)", out, re.M)[1])
    refused = re.search(r"^Non-2xx responses:\s+(\d+)", out, re.M)
    if number("Complete requests") != 1000:
        raise SystemExit(f"ab: {out}")
    return {"rate": number("Requests per second"), "errors": number("Failed requests") + (int(refused[1]) if refused else 0)}


def measure(build, seconds):
    c, port = Contestant("primes"), free_port()
    try:
        c.start("demo", f"{build}/src/cli/weir", "demo", "primes", "--serve", "--workers", "2", "--port", str(port),
                stdout=subprocess.DEVNULL)
        url = f"http://127.0.0.1:{port}/is_prime?possible_prime="
        until(lambda: answers(f"{url}7"), "the pipeline answers")
        return ab(f"{url}{LARGE}"), wrk(f"{url}{SMALL}", seconds)
    finally:
        c.stop()


def main():
    args = arguments(__doc__, rounds=5, seconds=4)
    runs = [measure(args.build, args.seconds) for _ in range(args.rounds)]

    def row(load, results, before):
        rates = [r["rate"] for r in results]
        return (f"| {load} | {statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f}) | {before} | "
                f"{sum(r['errors'] for r in results):.0f} |")
    large, small = zip(*runs)
    text = "\n".join([
        f"{machine()}. {args.rounds} rounds: requests/s, median (lowest to highest). A hub and two worker processes for "
        "each of the two stages, `weir demo primes --serve --workers 2`; each request is two jobs.", "",
        "| load | weir | prime_server | errors |", "|---|---|---|---|",
        row(f"`ab -k -n 1000 -c 8`, {LARGE}", large, "2,030"),
        row(f"`wrk -t1 -c64`, {SMALL}", small, "21,000, in one process"), "",
        "prime_server's figures were measured once on a machine of this kind, with two workers that divide."])
    print(text)
    write_section("primes", "## Two stages: primes\n\n" + text)


if __name__ == "__main__":
    main()
