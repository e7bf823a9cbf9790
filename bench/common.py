# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: processes that are stopped by pid, wrk, and the sections of docs/benchmarks.md."""
import argparse
import atexit
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
TICK = os.sysconf("SC_CLK_TCK")


def arguments(doc, **options):
    """The command line: --build and these numbers, with their defaults; build as a whole path."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--build", default="build-release")
    for name, default in options.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    args.build = str(pathlib.Path(args.build).resolve())
    return args


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
    """A set of processes that answer at a URL; stopped by pid, at the latest when the benchmark ends."""

    def __init__(self, name):
        self.name, self.processes, self.dir = name, {}, tempfile.mkdtemp(prefix="weir-bench-")
        os.chmod(self.dir, 0o755)
        atexit.register(self.stop)

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
        atexit.unregister(self.stop)
        for process in reversed(list(self.processes.values())):
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def hub(build, contestant, *options, workers="unix"):
    """A hub; returns where it listens, by listener."""
    ports = f"{contestant.dir}/ports"
    at = f"unix:{contestant.dir}/w" if workers == "unix" else "127.0.0.1:0"
    contestant.start("hub", f"{build}/src/cli/weir", "hub", "--listen", "127.0.0.1:0", "--zmq", "off", "--workers", at,
                     "--log-level", "error", "--ports-file", ports, *options)
    until(lambda: os.path.exists(ports), "the hub listens")
    return dict(line.split("=", 1) for line in open(ports).read().split())


def answers(url):
    return subprocess.run(["curl", "-sf", "-o", os.devnull, url]).returncode == 0


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def wrk(url, seconds):
    """One thread, 64 connections."""
    out = subprocess.run(["wrk", "-t1", "-c64", f"-d{seconds}s", "--latency", url], check=True,
                         capture_output=True, text=True).stdout
    percentile = lambda p: milliseconds(re.search(rf"^\s+{p}%\s+(\S+)", out, re.M)[1])
    return {
        "total": int(re.search(r"(\d+) requests in", out)[1]),
        "rate": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]),
        "p50": percentile(50), "p99": percentile(99),
        "errors": sum(map(int, re.findall(r"(?:connect|read|write|timeout|responses:) (\d+)", out))),
    }


def version(program):
    """ "nginx 1.22.1" """
    out = subprocess.run([program, "-v"], capture_output=True, text=True)
    return f"{program} {re.search(r'[0-9]+[.][0-9.]+', out.stdout + out.stderr)[0]}"


def machine():
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())[1]
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, {time.strftime('%Y-%m-%d')}"


def write_section(name, text, path=PAGE):
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    page = path.read_text() if path.exists() else "# Benchmarks\n\nRatios beside peers of the same run; absolute " \
        "figures say little about another machine. Run `make bench`.\n"
    section = f"{begin}\n{text}\n{end}"
    old = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.S)
    page = old.sub(lambda _: section, page) if old.search(page) else f"{page}\n{section}\n"
    path.write_text(page)
