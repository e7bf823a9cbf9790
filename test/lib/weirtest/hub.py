# SPDX-License-Identifier: Apache-2.0
"""The real hub, and worker processes made with libweir (test/integ/testworker.c)."""

import os
import signal

from .http import Client
from .metrics import Metrics
from .process import Process, wait_until

# The test workers attach by ZeroMQ.
OVER_ZMQ = os.environ.get("WEIRTEST_TRANSPORT") == "zmq"
_ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))


def weir_binary():
    return os.path.abspath(os.environ.get("WEIR") or os.path.join(_ROOT, "build/src/cli/weir"))


def test_program(name):
    """A program of test/integ/meson.build."""
    build = os.environ.get("WEIRTEST_BIN") or os.path.join(_ROOT, "build/test/integ")
    return os.path.abspath(os.path.join(build, name))


def parse_address(text):
    """As Client takes it: (host, port), or (None, path) for a unix socket."""
    if text.startswith("unix:"):
        return None, text[5:]
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


class Hub(Process):
    """`weir hub` on ports that the kernel chose. workers: more --workers addresses ("unix:PATH")."""

    def __init__(self, name, directory, flags, workers=(), listen="127.0.0.1:0", env=None,
                 worker_listen="127.0.0.1:0"):
        self.ports_file = os.path.join(directory, name + ".ports")
        self.ended = False  # a test ended it on purpose
        argv = [weir_binary(), "hub", "--listen", listen, "--workers", worker_listen]
        for address in workers:
            argv += ["--workers", address]
        endpoint = worker_listen.replace("unix:", "ipc://") + ".zmq" if "unix:" in worker_listen else "tcp://127.0.0.1:0"
        argv += ["--zmq", endpoint if OVER_ZMQ else "off", "--admin", "127.0.0.1:0", "--ports-file", self.ports_file, *flags]
        super().__init__(name, argv, directory, env=env)

    def wait_ready(self, limit=10.0):
        def ready():
            if not self.alive():
                raise AssertionError(f"the hub ended with {self.popen.returncode}: {self.stderr()}")
            try:
                with open(self.ports_file) as f:
                    text = f.read()
            except FileNotFoundError:
                return None
            lines = [line.split("=", 1) for line in text.splitlines()]
            complete = text.endswith("\n") and {"listen", "workers", "admin"} <= {line[0] for line in lines}
            return lines if complete else None
        lines = wait_until(ready, limit, "the hub writes its ports file")
        self.listen_text = next(v for k, v in lines if k == "listen")
        self.worker_addresses = [v for k, v in lines if k == "workers"]
        self.listen = parse_address(self.listen_text)
        self.attach = parse_address(self.worker_addresses[0])
        self.endpoints = [v for k, v in lines if k == "zmq"]  # given by --zmq
        self.admin = parse_address(next(v for k, v in lines if k == "admin"))
        self.url = "http://%s:%d" % self.listen if self.listen[0] else None

    def worker_address(self):
        return self.endpoints[0].replace("://", "+zmq://") if OVER_ZMQ else self.worker_addresses[0]

    def terminate(self, limit=10.0):
        """SIGTERM; it must drain and exit 0."""
        self.ended = True
        self.signal(signal.SIGTERM)
        status = self.wait(limit)
        if status != 0:
            raise AssertionError(f"the hub exited with {status} after SIGTERM")

    # ---- what it says of itself ----

    def admin_get(self, target, method="GET", headers=()):
        with Client(self.admin) as client:
            return client.request(method, target, headers)

    def status(self):
        response = self.admin_get("/status")
        if response.status != 200:
            raise AssertionError(f"/status: {response}")
        return response.json()

    def service(self, name):
        """One service's entry in /status, or None."""
        return next((s for s in self.status()["services"] if s["name"] == name), None)

    def metrics(self):
        response = self.admin_get("/metrics")
        if response.status != 200:
            raise AssertionError(f"/metrics: {response}")
        return Metrics(response.text)

    # ---- waiting ----

    def wait_status(self, condition, limit=10.0, what=""):
        """Waits until condition(status) is true; returns that status."""
        last = {}

        def check():
            last["status"] = self.status()
            return condition(last["status"])
        try:
            wait_until(check, limit, what)
        except AssertionError as e:
            raise AssertionError(f"{e}; /status: {last.get('status')}") from None
        return last["status"]

    def wait_worker(self, worker_id, slots=None, limit=10.0):
        def attached(status):
            return any(w["id"] == worker_id and (slots is None or w["slots"] == slots) and w["services"]
                       for w in status["workers_list"])
        return self.wait_status(attached, limit, f"worker {worker_id} attached")

    def wait_workers(self, count, limit=10.0):
        return self.wait_status(lambda s: s["workers"] == count, limit, f"{count} workers attached")

    def wait_queued(self, count, limit=10.0):
        return self.wait_status(lambda s: s["queued"] == count, limit, f"{count} queued")

    def wait_running(self, count, limit=10.0):
        return self.wait_status(lambda s: s["running"] == count, limit, f"{count} running")

    def wait_idle(self, limit=10.0):
        """No request, no job, every slot back."""
        return self.wait_status(
            lambda s: not (s["requests"] or s["queued"] or s["queued_bytes"] or s["running"] or s["jobs"]
                           or any(w["running"] for w in s["workers_list"])),
            limit, "nothing queued or running")


class Worker(Process):
    """A test worker. offer: list of "service" or "service=handler"; default: every handler under its name."""

    def __init__(self, name, directory, hub, slots=1, offer=None, log_path=None, labels=None,
                 address=None, drain_ms=None, id=None):
        self.id = id or name
        hubs = hub if isinstance(hub, list) else [hub]
        address = address or ",".join(h.worker_address() for h in hubs)
        argv = [test_program("testworker"), "-h", address, "-s", slots, "-i", self.id]
        for service in offer or ():
            argv += ["-o", service]
        if labels:
            argv += ["-l", labels]
        if drain_ms is not None:
            argv += ["-d", drain_ms]
        super().__init__(name, argv, directory, env={"WEIRTEST_LOG": log_path} if log_path else None)


def source_blocks(total):
    """The bytes of the test worker's service "source", in pieces."""
    base, x = bytearray(65536), 1
    for i in range(65536):
        x = (x * 1103515245 + 12345) & 0xffffffff
        base[i] = (x >> 16) & 0xff
    base, index = bytes(base), 0
    while total:
        block = index.to_bytes(8, "big") + base[8:]
        piece = block[:total]
        yield piece
        total -= len(piece)
        index += 1
