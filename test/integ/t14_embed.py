#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two hubs in one process with their workers in it too (embed.c): nothing is shared, everything stops."""

import subprocess
import threading

from weirtest import Case, Client, main, scaled, wait_until
from weirtest.hub import parse_address, test_program


class Embedded(Case):
    def setUp(self):
        super().setUp()
        self.process = self.start("embed", [test_program("embed")], stdin=subprocess.PIPE)

        def ready():
            if not self.process.alive():
                self.fail(f"embed ended: {self.process.stderr()}")
            return self.process.stdout().endswith("ready\n")
        wait_until(ready, 10, "both hubs are ready")
        lines = dict(line.split("=", 1) for line in self.process.stdout().splitlines() if "=" in line)
        self.addresses = {name: parse_address(lines[name]) for name in ("one", "two")}
        self.admins = {name: parse_address(lines[name + "-admin"]) for name in ("one", "two")}
        for address in self.admins.values():
            wait_until(lambda: self.ask(address, "/status").json()["slots"] == 6, 10, "three workers attached")

    def ask(self, address, target, headers=()):
        with Client(address) as client:
            return client.request("GET", target, headers)

    def end(self):
        self.process.popen.stdin.close()
        self.process.popen.stdin = None
        self.assertEqual(self.process.wait(scaled(10)), 0, self.process.stderr())
        self.assertTrue(self.process.stdout().endswith("stopped\n"))

    def test_each_hub_has_its_own_workers(self):
        for _ in range(20):
            for name, address in self.addresses.items():
                r = self.ask(address, "/")
                self.assertEqual((r.status, r.text), (200, name))
        self.end()

    def test_workers_by_zeromq_without_a_listener(self):
        for name, address in self.addresses.items():
            self.assertEqual(self.ask(address, "/within").text, name)
            worker = next(w for w in self.ask(self.admins[name], "/status").json()["workers_list"] if w["id"] == "inproc")
            self.assertEqual((worker["transport"], worker["address"]), ("zmq", "inproc"))
        self.end()

    def test_the_program_chooses_the_worker(self):
        for address in self.addresses.values():
            for size, worker in (("small", "w0"), ("big", "w1")):
                self.assertEqual([self.ask(address, "/size", [("X-Size", size)]).text for _ in range(5)], [worker] * 5)
            for headers in ((), [("X-Size", "huge")]):  # it leaves it to the hub, and names nobody who is there
                self.assertEqual({self.ask(address, "/size", headers).text for _ in range(4)}, {"w0", "w1"})
        self.end()

    def test_they_run_at_the_same_time(self):
        bad, done = [], []

        def load(name):
            with Client(self.addresses[name]) as client:
                for _ in range(300):
                    r = client.request("GET", "/x")
                    (done if r.text == name else bad).append(r.text)
        threads = [threading.Thread(target=load, args=(name,)) for name in ("one", "two") * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        self.assertEqual((bad, len(done)), ([], 1800))
        self.end()

    def test_stop_finishes_what_runs(self):
        results = {}

        def ask(name):
            results[name] = self.ask(self.addresses[name], "/nap")
        threads = [threading.Thread(target=ask, args=(name,)) for name in self.addresses]
        for thread in threads:
            thread.start()
        for address in self.admins.values():
            wait_until(lambda: self.ask(address, "/status").json()["running"] == 1, 5, "one running")
        self.end()
        for thread in threads:
            thread.join(10)
        self.assertEqual({n: r.text for n, r in results.items()}, {"one": "one", "two": "two"})


if __name__ == "__main__":
    main()
