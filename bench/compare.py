#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""weir beside nginx and HAProxy: the same load (wrk -t1 -c64), one after the other in every round.

    bench/compare.py [--build build-release] [--rounds 5] [--seconds 4] [--output docs/benchmarks.md]

Ratios are taken within a round and their median is told, so that what else the machine does hits both alike.
"""
import argparse
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TICK = os.sysconf("SC_CLK_TCK")
SLOTS = (1, 4, 16, 64)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(condition, what):
    end = time.monotonic() + 10
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"not within 10 s: {what}")
        time.sleep(0.02)


def connects(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


class Contestant:
    """A set of processes that answer at a URL; stopped by pid."""

    def __init__(self, name):
        self.name, self.processes, self.dir = name, {}, tempfile.mkdtemp(prefix="weir-bench-")
        os.chmod(self.dir, 0o755)

    def start(self, role, *argv, **options):
        self.processes[role] = subprocess.Popen(argv, stderr=subprocess.DEVNULL, **options)
        return self.processes[role]

    def cpu(self):
        ticks = {}
        for role, process in self.processes.items():
            fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks[role] = (int(fields[11]) + int(fields[12])) / TICK
        return ticks

    def stop(self):
        for process in reversed(list(self.processes.values())):
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def weir(build, kind, slots):
    c = Contestant(f"weir, {kind}, {slots} slots")
    ports = f"{c.dir}/ports"
    workers = f"unix:{c.dir}/w" if kind == "unix" else "127.0.0.1:0"
    c.start("hub", f"{build}/src/cli/weir", "hub", "--listen", "127.0.0.1:0", "--workers", workers, "--admin", "off",
            "--log-level", "error", "--ports-file", ports)
    until(lambda: os.path.exists(ports), "the hub listens")
    at = dict(line.split("=", 1) for line in open(ports).read().split())
    c.start("worker", f"{build}/bench/hello_worker", at["workers"], str(slots))
    c.url = f"http://{at['listen']}/hello"
    return c


def upstream(build, c, kind):
    server = c.start("worker", f"{build}/bench/hello_server", f"unix:{c.dir}/up" if kind == "unix" else "0",
                     stdout=subprocess.PIPE, text=True)
    port = int(server.stdout.readline().split()[1])
    return f"unix:{c.dir}/up" if kind == "unix" else f"127.0.0.1:{port}"


def alone(build):
    c = Contestant("hello_server alone, tcp")
    c.url = f"http://{upstream(build, c, 'tcp')}/hello"
    return c


def nginx(build, kind):
    c = Contestant(f"nginx proxy_pass, {kind}")
    up, port = upstream(build, c, kind), free_port()
    temp = "\n".join(f"  {m}_temp_path {c.dir}/{m};" for m in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    conf = f"""worker_processes 1; master_process off; daemon off; pid {c.dir}/pid; error_log {c.dir}/err crit;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000;
{temp}
  upstream up {{ server {up}; keepalive 64; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port};
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; }} }} }}
"""
    pathlib.Path(f"{c.dir}/conf").write_text(conf)
    c.start("hub", "nginx", "-p", c.dir, "-c", f"{c.dir}/conf")
    until(lambda: connects(port), "nginx listens")
    c.url = f"http://127.0.0.1:{port}/hello"
    return c


def haproxy(build, kind, one):
    c = Contestant(f"HAProxy, {kind}{', maxconn 1' if one else ''}")
    up, port = upstream(build, c, kind), free_port()
    server = up.replace("unix:", "unix@")
    conf = f"""global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout queue 60s
  http-reuse always
listen front
  bind 127.0.0.1:{port}
  server up {server} {'maxconn 1' if one else ''}
"""
    pathlib.Path(f"{c.dir}/conf").write_text(conf)
    c.start("hub", "haproxy", "-f", f"{c.dir}/conf", "-db")
    until(lambda: connects(port), "HAProxy listens")
    c.url = f"http://127.0.0.1:{port}/hello"
    return c


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def run(make, seconds):
    c = make()
    try:
        until(lambda: subprocess.run(["curl", "-sf", "-o", os.devnull, c.url]).returncode == 0, f"{c.name} answers")
        before = c.cpu()
        out = subprocess.run(["wrk", "-t1", "-c64", f"-d{seconds}s", "--latency", c.url], check=True,
                             capture_output=True, text=True).stdout
        after = c.cpu()
    finally:
        c.stop()
    total = int(re.search(r"(\d+) requests in", out)[1])
    errors = sum(map(int, re.findall(r"(?:connect|read|write|timeout|responses:) (\d+)", out)))
    return c.name, {
        "rate": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]),
        "p50": milliseconds(re.search(r"50%\s+(\S+)", out)[1]),
        "p99": milliseconds(re.search(r"99%\s+(\S+)", out)[1]),
        "errors": errors,
        "cpu": {role: (after[role] - before[role]) * 1e5 / total for role in before},
    }


def version(*argv):
    out = subprocess.run(argv, capture_output=True, text=True)
    return (out.stdout + out.stderr).strip().splitlines()[0]


def machine():
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())[1]
    return (f"{model}, {os.cpu_count()} cores, Linux {platform.release()}; {version('nginx', '-v')}; "
            f"{version('haproxy', '-v')}; {version('wrk', '-v')}")


def table(results, rounds, seconds):
    med = statistics.median
    lines = [f"{machine()}. {rounds} rounds of {seconds} s each, `wrk -t1 -c64 --latency`, {time.strftime('%Y-%m-%d')}.",
             "Rates are medians with (lowest to highest); the ratio is the median of the rounds' ratios to nginx over the "
             "same kind of socket. CPU: seconds per 100,000 requests.", "",
             "| path | requests/s | ratio | p50 ms | p99 ms | errors | CPU hub | CPU worker |", "|---|---|---|---|---|---|---|---|"]
    for name, runs in results.items():
        rates = [r["rate"] for r in runs]
        kind = "unix" if "unix" in name else "tcp"
        peer = [r["rate"] for r in results[f"nginx proxy_pass, {kind}"]]
        ratio = med(a / b for a, b in zip(rates, peer))
        cpu = lambda role: f"{med(r['cpu'][role] for r in runs):.2f}" if role in runs[0]["cpu"] else ""
        lines.append(f"| {name} | {med(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f}) | {ratio:.2f} | "
                     f"{med(r['p50'] for r in runs):.2f} | {med(r['p99'] for r in runs):.2f} | "
                     f"{sum(r['errors'] for r in runs)} | {cpu('hub')} | {cpu('worker')} |")
    one = [r["rate"] for r in results["HAProxy, unix, maxconn 1"]]
    ours = [r["rate"] for r in results["weir, unix, 1 slots"]]
    lines += ["", f"At one slot, beside the same queueing before one HTTP/1.1 connection (HAProxy maxconn 1): "
                  f"{med(a / b for a, b in zip(ours, one)):.2f} x."]
    return "\n".join(lines)


def write_section(path, name, text):
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    page = path.read_text() if path.exists() else "# Benchmarks\n\nRatios beside peers of the same run; absolute " \
        "figures say little about another machine. Run `make bench`.\n"
    section = f"{begin}\n{text}\n{end}"
    old = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.S)
    page = old.sub(lambda _: section, page) if old.search(page) else f"{page}\n{section}\n"
    path.write_text(page)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build-release")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "docs" / "benchmarks.md")
    args = parser.parse_args()
    build = str(pathlib.Path(args.build).resolve())
    makers = [lambda: alone(build)]
    for kind in ("unix", "tcp"):
        makers.append(lambda kind=kind: nginx(build, kind))
        makers += [lambda kind=kind, n=n: weir(build, kind, n) for n in SLOTS]
        makers.append(lambda kind=kind: haproxy(build, kind, False))
    makers.append(lambda: haproxy(build, "unix", True))
    results = {}
    for i in range(args.rounds):
        for make in makers:
            name, result = run(make, args.seconds)
            results.setdefault(name, []).append(result)
            print(f"round {i + 1}: {name:34} {result['rate']:10,.0f}/s  p99 {result['p99']:.2f} ms", flush=True)
    text = table(results, args.rounds, args.seconds)
    print("\n" + text)
    write_section(args.output, "compare", "## The hop to a worker: hello\n\n" + text)


if __name__ == "__main__":
    main()
