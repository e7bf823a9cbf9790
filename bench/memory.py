#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a kept connection and a queued request cost the hub in memory.

    bench/memory.py [--build build-release] [--connections 10000] [--rounds 5]

RSS of the hub: after a warm-up, with N kept connections that have each been answered once, and with a small
request of each of them queued behind a worker that is busy.
"""
import pathlib
import resource
import select
import socket
import statistics
import time

from common import Contestant, answers, arguments, hub, machine, until, write_section

PAGE_SIZE = resource.getpagesize()
REQUEST = b"GET /%s HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n\r\n"
HELLO, HOLD = REQUEST % b"hello", REQUEST % b"hold"


def rss(process):
    return int(pathlib.Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * PAGE_SIZE


def settled_rss(process):
    """RSS once it has stood still for half a second."""
    last, since = rss(process), time.monotonic()
    while time.monotonic() - since < 0.5:
        time.sleep(0.05)
        now = rss(process)
        if now != last:
            last, since = now, time.monotonic()
    return last


def connect(address):
    s = socket.create_connection(address)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def ask(s):
    s.sendall(HELLO)
    answer = s.recv(4096)
    if not answer.startswith(b"HTTP/1.1 200") or not answer.endswith(b"hello"):
        raise SystemExit(f"not the answer that was expected: {answer[:200]!r}")


def queued(admin):
    """How many requests wait, from the metrics."""
    host, port = admin.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as s:
        s.sendall(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
        text = b"".join(iter(lambda: s.recv(65536), b"")).decode()
    return sum(int(float(line.split()[-1])) for line in text.splitlines() if line.startswith("weir_queued "))


def measure(build, n):
    c = Contestant("memory")
    sockets = []
    try:
        at = hub(build, c, "--admin", "127.0.0.1:0", "--max-connections", str(n + 100), "--service-max-queued", str(n + 100))
        c.start("worker", f"{build}/bench/hello_worker", at["workers"], "1")
        host, port = at["listen"].rsplit(":", 1)
        address, process = (host, int(port)), c.processes["hub"]
        until(lambda: answers(f"http://{at['listen']}/hello"), "the worker answers")
        with connect(address) as s:
            for _ in range(100):
                ask(s)
        idle = settled_rss(process)
        for _ in range(n):
            sockets.append(connect(address))
            ask(sockets[-1])
        kept = settled_rss(process)
        for s in sockets:
            s.sendall(HOLD)
        until(lambda: queued(at["admin"]) >= n - 1, "all requests are queued")
        if select.select(sockets[:500], [], [], 0)[0]:
            raise SystemExit("a request that should wait was answered")
        full = settled_rss(process)
    finally:
        for s in sockets:
            s.close()
        c.stop()
    return idle, (kept - idle) / n, (full - kept) / (n - 1)


def main():
    args = arguments(__doc__, rounds=5, connections=10000)
    n = args.connections
    resource.setrlimit(resource.RLIMIT_NOFILE, (n + 200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    runs = [measure(args.build, n) for _ in range(args.rounds)]
    idle, kept, waiting = zip(*runs)
    spread = lambda v: f"{statistics.median(v):,.0f} ({min(v):,.0f} to {max(v):,.0f})"
    text = "\n".join([
        f"{machine()}. RSS of the hub, {args.rounds} rounds, {n:,} connections: median (lowest to highest).", "",
        "| | bytes |", "|---|---|",
        f"| hub at rest | {spread(idle)} |",
        f"| per kept connection that has been answered once and is idle | {spread(kept)} |",
        f"| per small GET queued on such a connection, in addition | {spread(waiting)} |"])
    print(text)
    write_section("memory", "## Memory of the hub\n\n" + text)


if __name__ == "__main__":
    main()
