#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The workers of examples/ in other languages: reverse HTTP/1.1 with nothing but their standard libraries."""

import os
import shutil
import signal
import subprocess
import sys

from weirtest import Case, main, request_bytes, scaled, wait_until

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples")


class Language:
    """What holds for each of them. Subclasses say how to start one."""

    slots = 2
    chunked = True  # it takes a body of unknown length
    cancels = True  # its log tells of a cancelled job
    drains = True

    def setUp(self):
        super().setUp()
        if not shutil.which(self.runtime):
            self.skipTest(f"{self.runtime} is not installed: see tools/setup test")
        self.h = self.hub()
        self.w = self.start(self.runtime, self.command("127.0.0.1", self.h.attach[1]), env=self.env())
        self.h.wait_status(lambda s: s["slots"] == self.slots, scaled(10), f"{self.slots} slots")

    def env(self):
        return {}

    def test_hello_and_echo(self):
        client = self.client(self.h)
        blob = os.urandom(300000)
        bodies = [b"x", blob, *([[b"abc", b"de"], [blob[i:i + 9000] for i in range(0, 300000, 9000)]]
                                if self.chunked else [])]
        for _ in range(3):
            r = client.request("GET", "/hello")
            self.assertEqual((r.status, r.text), (200, self.hello))
            self.assertEqual(client.request("HEAD", "/hello").status, 200)
            for body in bodies:
                r = client.request("POST", "/hello", body=body)
                self.assertEqual(r.status, 200)
                self.assertTrue(r.body == (b"".join(body) if isinstance(body, list) else body))
        self.h.wait_idle()
        self.assertEqual(self.h.status()["slots"], self.slots)

    def test_200_requests(self):
        out = subprocess.run(["ab", "-q", "-k", "-n", "200", "-c", "4", self.h.url + "/hello"],
                             capture_output=True, timeout=25, text=True).stdout
        self.assertRegex(out, r"Complete requests:\s+200\b")
        self.assertRegex(out, r"Failed requests:\s+0\b")
        self.assertNotIn("Non-2xx", out)
        status = self.h.wait_status(lambda s: s["slots"] == self.slots, what="all slots")
        self.assertEqual(sum(w["dispatched"] for w in status["workers_list"]), 200)  # on kept connections

    def test_cancel(self):
        if not self.cancels:
            self.skipTest("it notices at the end of the job")
        client = self.client(self.h)
        client.send(request_bytes("GET", "/hello/slow"))
        self.h.wait_running(1)
        client.close()
        wait_until(lambda: "was cancelled" in self.w.stderr(), scaled(4), "the worker notices")
        self.h.wait_idle()
        self.h.wait_status(lambda s: s["slots"] == self.slots, what="the slot is back")
        self.assertEqual(self.get(self.h, "/hello").text, self.hello)

    def test_hub_restarts(self):
        port = str(self.h.attach[1])
        self.h.terminate(scaled(10))
        second = self.hub(worker_listen="127.0.0.1:" + port)
        second.wait_status(lambda s: s["slots"] == self.slots, scaled(10), "attached again")
        self.assertEqual(self.get(second, "/hello").text, self.hello)

    def test_drain(self):
        if not self.drains:
            self.skipTest("SIGTERM ends it at once")
        client = self.client(self.h)
        client.send(request_bytes("GET", "/hello/slow"))
        self.h.wait_running(1)
        self.w.signal(signal.SIGTERM)
        self.assertEqual(client.response().text, "slow\n")
        self.assertEqual(self.w.wait(scaled(10)), 0)


class Python(Language, Case):
    runtime, slots, hello, cancels, drains = "python3", 4, "Hello, world!\n", False, False  # see t18
    test_cancel = test_drain = None

    def command(self, host, port):
        return [sys.executable, "-W", "error", "-m", "weir.worker", "--hub", f"{host}:{port}",
                "--service", "hello,count", "--slots", 4, "wsgi_app:app"]

    def env(self):
        return {"PYTHONPATH": f"{EXAMPLES}/../python:{EXAMPLES}/python", "PYTHONDONTWRITEBYTECODE": "1"}

    def test_hello_and_echo(self):
        self.assertEqual(self.get(self.h, "/hello?name=Ada").text, "Hello, Ada!\n")
        self.assertEqual(self.get(self.h, "/hello", method="POST", body=b"Bob").text, "Hello, Bob!\n")

    def test_count(self):
        client = self.client(self.h)
        client.send(request_bytes("GET", "/count"))
        pieces = client.pieces(client.head())
        self.assertEqual([next(pieces), next(pieces)], [b"1\n", b"2\n"])
        client.close()
        wait_until(lambda: "has left" in self.w.stdout(), scaled(4), "the worker notices")


class Node(Language, Case):
    runtime, hello = "node", "Hello from Node!\n"

    def command(self, host, port):
        return ["node", EXAMPLES + "/node/worker.js", f"{host}:{port}", "hello", self.slots]


class Go(Language, Case):
    runtime, hello = "go", "Hello from Go!\n"

    def command(self, host, port):
        program = self.directory + "/worker"
        subprocess.run(["go", "build", "-o", program, EXAMPLES + "/go/worker.go"], check=True,
                       timeout=scaled(25), env={**os.environ, "GOCACHE": self.directory + "/cache"})
        return [program, "-hub", f"{host}:{port}", "-slots", self.slots]


class Shell(Language, Case):
    runtime, hello, slots = "bash", "Hello from the shell!\n", 1
    chunked = cancels = drains = False

    def command(self, host, port):
        return [EXAMPLES + "/shell/worker.sh", host, port]

    def test_a_body_without_length_is_refused(self):
        self.assertEqual(self.get(self.h, "/hello", method="POST", body=[b"abc"]).status, 411)
        self.assertEqual(self.get(self.h, "/hello").text, self.hello)


if __name__ == "__main__":
    main()
