# SPDX-License-Identifier: Apache-2.0
"""A test with a temporary directory, a time limit, and processes that end with it.

Whatever a test starts through self.hub(), self.worker() and self.start() is stopped after it, workers
first. A hub must then still be alive, drain on SIGTERM and exit 0: so each test also checks that nothing
it did crashed the hub, left a job behind, or (in a sanitizer build) leaked.
"""

import os
import shutil
import signal
import sys
import tempfile
import unittest

from .http import Client
from .hub import Hub, Worker
from .process import Process

sanitized = os.environ.get("WEIRTEST_SANITIZE", "") not in ("", "0", "none")


def scaled(seconds):
    """A time bound, wider where a sanitizer slows everything down."""
    return seconds * 4 if sanitized else seconds


def slow(limit):
    """Marks a test that needs more than the usual time limit."""
    def mark(function):
        function.time_limit = limit
        return function
    return mark


class TimeLimit(Exception):
    pass


class Case(unittest.TestCase):
    time_limit = 30.0
    maxDiff = 4000

    def run(self, result=None):
        result = result if result is not None else self.defaultTestResult()
        before = len(result.failures) + len(result.errors)
        self.directory = tempfile.mkdtemp(prefix="weirtest-")
        self.log_path = os.path.join(self.directory, "jobs.log")
        self._processes, self._hubs, self._clients = [], [], []
        try:
            super().run(result)
        finally:
            for process in self._processes:
                process.stop()
            if len(result.failures) + len(result.errors) > before:
                for process in self._processes:
                    sys.stderr.write(process.report())
            shutil.rmtree(self.directory, ignore_errors=True)
        return result

    def setUp(self):
        limit = scaled(getattr(getattr(self, self._testMethodName), "time_limit", self.time_limit))

        def expired(_signal, _frame):
            raise TimeLimit(f"the test ran for more than {limit:g} s")
        previous = signal.signal(signal.SIGALRM, expired)
        signal.setitimer(signal.ITIMER_REAL, limit, 1)  # again each second: one subTest must not use it up
        self.addCleanup(self._finish)
        self.addCleanup(signal.signal, signal.SIGALRM, previous)
        self.addCleanup(signal.setitimer, signal.ITIMER_REAL, 0)

    def _finish(self):
        for client in self._clients:
            client.close()
        for process in self._processes:
            if process not in self._hubs:
                process.stop()
        for hub in self._hubs:
            if not hub.ended:
                self.assertIsNone(hub.popen.poll(), "the hub ended by itself")
                hub.terminate(limit=scaled(15))
            errors = hub.stderr()
            for word in ("Sanitizer", "runtime error:", "assertion"):
                self.assertNotIn(word, errors, "the hub's stderr tells of a fault")

    # ---- what a test starts ----

    def start(self, name, argv, **kwargs):
        process = Process(self._unique(name), argv, self.directory, **kwargs)
        self._processes.append(process)
        return process

    def hub(self, *flags, **kwargs):
        hub = Hub(self._unique("hub"), self.directory, flags, **kwargs)
        self._processes.append(hub)
        self._hubs.append(hub)
        hub.wait_ready()
        return hub

    def worker(self, hub, slots=1, offer=None, wait=True, **kwargs):
        """A test worker; with wait, this returns when the hub shows it attached."""
        worker = Worker(self._unique("worker"), self.directory, hub, slots, offer,
                        log_path=self.log_path, **kwargs)
        self._processes.append(worker)
        if wait:
            hub.wait_worker(worker.id, slots)
        return worker

    def client(self, hub_or_address, **kwargs):
        """A raw client that is closed with the test; of a hub's public listener, or an address."""
        client = Client(getattr(hub_or_address, "listen", hub_or_address), **kwargs)
        self._clients.append(client)
        return client

    def get(self, hub, target, headers=(), method="GET", body=None, limit=10.0):
        """One request on a connection of its own."""
        with Client(hub.listen, limit=limit) as client:
            return client.request(method, target, headers, body)

    def jobs_log(self):
        """What the test workers noted: a list of word lists, in order (see testworker.c)."""
        try:
            with open(self.log_path) as f:
                return [line.split() for line in f if line.endswith("\n")]
        except FileNotFoundError:
            return []

    def logged(self, word, *more):
        """Lines of the log that begin with these words."""
        begin = [word, *map(str, more)]
        return [line for line in self.jobs_log() if line[:len(begin)] == begin]

    # ---- checks ----

    def assert_problem(self, response, status, service=None, request_id=None):
        """An error made by the hub: its status, and a problem+json body that says what it must."""
        self.assertEqual(response.status, status, response)
        self.assertEqual((response.header("content-type") or "").split(";")[0], "application/problem+json",
                         response)
        problem = response.json()
        self.assertIsInstance(problem, dict)
        self.assertEqual(problem.get("status"), status, problem)
        self.assertTrue(problem.get("title"), problem)
        self.assertTrue(problem.get("request_id"), problem)
        if service is not None:
            self.assertEqual(problem.get("service"), service, problem)
        if request_id is not None:
            self.assertEqual(problem.get("request_id"), request_id, problem)
        return problem

    def _unique(self, name):
        self._count = getattr(self, "_count", 0) + 1
        return f"{name}{self._count}"


def main():
    """Runs a test file: TAP-less, quiet, output only on failure. Extra arguments choose tests."""
    unittest.main(verbosity=2)
