#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Callbacks of durable jobs: a signed notice that a job has ended, at least once, to receivers that are allowed."""

import collections
import hashlib
import hmac
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from weirtest import Case, main, sanitized, scaled, wait_until
from weirtest.hub import test_program, weir_binary

ASYNC = [("Prefer", "respond-async")]
SECRET = "a secret with = and blanks"

Notice = collections.namedtuple("Notice", "path headers body at")


class Receiver(ThreadingHTTPServer):
    """Notes what comes. answers: statuses of the next answers, or functions of the handler; then 200."""

    daemon_threads = True
    request_queue_size = 300

    def __init__(self, port=0, context=None):
        self.notices, self.answers, self.lock = [], [], threading.Lock()
        super().__init__(("127.0.0.1", port), Handler)
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, *_):
        pass

    def stop(self):
        self.shutdown()
        self.server_close()

    def bodies(self):
        return [n.body for n in list(self.notices)]

    def wait(self, count, limit=20):
        wait_until(lambda: len(self.notices) >= count, limit, f"{count} notices")
        return list(self.notices)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.notices.append(Notice(self.path, self.headers, body, time.time()))
            answer = self.server.answers.pop(0) if self.server.answers else 200
        if callable(answer):
            answer(self)
        else:
            self.answer(answer)

    def answer(self, status, headers=(), body=b"thanks"):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Callbacks(Case):
    def setUp(self):
        super().setUp()
        self.data = os.path.join(self.directory, "data")
        self.secret_file = os.path.join(self.directory, "secret")
        with open(self.secret_file, "w") as f:
            f.write(SECRET + "\nthis is not part of it\n")
        self.released = threading.Event()  # what slow answers wait for
        self.addCleanup(self.released.set)

    def receiver(self, *args, **kwargs):
        r = Receiver(*args, **kwargs)
        self.addCleanup(r.stop)
        return r

    def callback_hub(self, url, *more, **kwargs):
        return self.hub("--data", self.data, "--job-backoff", "20ms", "--job-attempts", "2", "--callback", url,
                        "--callback-secret-file", self.secret_file, *more, **kwargs)

    def both(self, *more):
        """A receiver, and a hub that may call it."""
        r = self.receiver()
        r.url = f"http://127.0.0.1:{r.port}/hooks"
        return r, self.callback_hub(r.url, *more)

    def submit(self, hub, target, callback, method="POST", headers=()):
        r = self.get(hub, target, [*ASYNC, ("Weir-Callback", callback), *headers], method, b"x")
        self.assertEqual(r.status, 202, r)
        return r.json()["id"]

    def told(self, hub, **counts):
        """Waits until so many have been told, and nothing is on its way."""
        def right():
            m = hub.metrics()
            return (m.value("weir_callbacks_sending") == 0
                    and all(m.value("weir_callbacks_total", result=k) == n for k, n in counts.items()))
        wait_until(right, 20, f"callbacks {counts}")

    def check(self, notice, job, state, status=None, service="status", attempt=1):
        self.assertEqual(notice.headers["Content-Type"], "application/json")
        self.assertEqual(notice.headers["Weir-Delivery"], job)
        self.assertEqual(notice.headers["Weir-Attempt"], str(attempt))
        self.assertTrue(notice.headers["User-Agent"].startswith("weir/"))
        fields = dict(f.split("=", 1) for f in notice.headers["Weir-Signature"].split(","))
        self.assertLess(abs(int(fields["t"]) - notice.at), scaled(5))
        mac = hmac.new(SECRET.encode(), fields["t"].encode() + b"." + notice.body, hashlib.sha256)
        self.assertEqual(fields["v1"], mac.hexdigest())
        body = json.loads(notice.body)
        self.assertRegex(body.pop("ended"), r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        wanted = {"id": job, "service": service, "state": state, "result": f"/-/jobs/{job}/result"}
        self.assertEqual(body, {**wanted, "status": status} if status else wanted)

    def kill(self, hub):
        hub.ended = True
        hub.signal(signal.SIGKILL)
        hub.wait(10)

    # ---- what is told ----

    def test_an_end_is_told_once(self):
        r, h = self.both()
        self.worker(h, offer=["status", "forward", "echo"])
        job = self.submit(h, "/status?code=201", r.url + "/a?b=c")
        self.check(r.wait(1)[0], job, "done", 201)
        self.assertEqual(r.notices[0].path, "/hooks/a?b=c")
        self.told(h, delivered=1, failed=0)
        job = self.submit(h, "/forward?to=status", r.url)  # its last hop is what is told
        self.check(r.wait(2)[1], job, "done", 200)
        job = self.submit(h, "/echo", r.url)
        self.check(r.wait(3)[2], job, "done", 200, service="echo")
        self.assertIsNone(self.get(h, f"/-/jobs/{job}/result").header("x-echo-weir-callback"))  # workers do not see it
        self.told(h, delivered=3, failed=0)
        self.assertEqual(len(r.notices), 3)

    def test_jobs_without_one(self):
        r, h = self.both()
        self.worker(h, offer=["hello", "sleep"])
        job = self.get(h, "/hello", ASYNC).json()["id"]
        self.assertEqual(self.get(h, f"/-/jobs/{job}/result?wait=10s").status, 200)
        job = self.get(h, "/hello", [*ASYNC, ("Weir-Delay", "1h")]).json()["id"]
        self.assertEqual(self.get(h, f"/-/jobs/{job}", method="DELETE").status, 200)
        self.submit(h, "/hello", r.url)
        r.wait(1)
        self.told(h, delivered=1, failed=0)
        self.assertEqual(len(r.notices), 1)
        self.assertEqual(h.metrics().value("weir_callbacks_given_up_total"), 0)

    def test_failed_and_dead(self):
        r, h = self.both()
        self.worker(h, offer=["status"])
        job = self.submit(h, "/status?code=404", r.url)
        self.check(r.wait(1)[0], job, "failed", 404)
        job = self.submit(h, "/status?code=500", r.url)
        self.check(r.wait(2)[1], job, "dead", 500)
        self.told(h, delivered=2)
        self.assertEqual(self.get(h, f"/-/jobs/{job}/retry", method="POST").status, 202)
        self.check(r.wait(3)[2], job, "dead", 500)  # again
        self.told(h, delivered=3)

    def test_cancelled(self):
        r, h = self.both()
        self.worker(h, offer=["sleep"])
        running = self.submit(h, "/sleep?ms=20000", r.url)
        wait_until(lambda: self.logged("started"), 10, "started")
        queued = self.submit(h, "/sleep?ms=20001", r.url)
        delayed = self.submit(h, "/sleep?ms=20002", r.url, headers=[("Weir-Delay", "1h")])  # the store has it
        for i, job in enumerate((delayed, queued, running)):
            self.assertEqual(self.get(h, f"/-/jobs/{job}", method="DELETE").status, 200)
            self.check(r.wait(i + 1)[i], job, "cancelled", service="sleep")
        self.told(h, delivered=3)

    def test_cancelled_without_a_worker(self):
        r, h = self.both()
        self.worker(h, offer=["status"]).stop()
        h.wait_workers(0)
        job = self.submit(h, "/status", r.url)
        self.assertEqual(self.get(h, f"/-/jobs/{job}", method="DELETE").status, 200)
        self.check(r.wait(1)[0], job, "cancelled")

    def test_many(self):
        r, h = self.both()
        self.worker(h, offer=["hello"], slots=8)
        with self.client(h) as c:
            jobs = []
            for _ in range(200):
                answer = c.request("POST", "/hello", [*ASYNC, ("Weir-Callback", r.url)])
                self.assertEqual(answer.status, 202)
                jobs.append(answer.json()["id"])
        r.wait(200)
        self.told(h, delivered=200, failed=0)
        self.assertEqual(sorted(json.loads(b)["id"] for b in r.bodies()), sorted(jobs))

    # ---- receivers ----

    def test_tried_again(self):
        r, h = self.both()
        r.answers = [500, 503]
        self.worker(h, offer=["status"])
        job = self.submit(h, "/status", r.url)
        for i, notice in enumerate(r.wait(3)):
            self.check(notice, job, "done", 200, attempt=i + 1)
            self.assertEqual(notice.body, r.notices[0].body)
        self.assertGreaterEqual(r.notices[1].at - r.notices[0].at, 0.5)
        self.assertGreaterEqual(r.notices[2].at - r.notices[1].at, 1.0)
        self.told(h, delivered=1, failed=2)
        self.assertEqual(len(r.notices), 3)

    def test_given_up(self):
        r, h = self.both("--callback-attempts", "2")
        r.answers = [500, 404, 500]
        self.worker(h, offer=["status"])
        job = self.submit(h, "/status", r.url)
        r.wait(2)
        self.told(h, delivered=0, failed=2)
        self.assertEqual(h.metrics().value("weir_callbacks_given_up_total"), 1)
        self.assertEqual(h.stderr().count(f"callback-given-up of job {job} after 2 attempts"), 1)
        h.terminate()
        h = self.callback_hub(r.url)
        self.worker(h, offer=["status"])
        self.submit(h, "/status", r.url)
        r.wait(3)
        self.assertNotEqual(r.notices[2].headers["Weir-Delivery"], job)

    def test_redirects_are_not_followed(self):
        r, h = self.both("--callback-attempts", "1")
        other = self.receiver()
        for status in (301, 303, 307, 308):
            r.answers.append(lambda x, s=status: x.answer(s, [("Location", f"http://127.0.0.1:{other.port}/hooks")]))
        self.worker(h, offer=["status"])
        for i in range(4):
            self.submit(h, "/status", r.url)
            r.wait(i + 1)
        self.told(h, delivered=0, failed=4)
        self.assertEqual((len(r.notices), other.notices), (4, []))

    def test_a_proxy_of_the_environment_is_not_used(self):
        r = self.receiver()
        proxy = "http://127.0.0.1:9"
        h = self.callback_hub(f"http://127.0.0.1:{r.port}", env={"http_proxy": proxy, "all_proxy": proxy})
        self.worker(h, offer=["status"])
        self.submit(h, "/status", f"http://127.0.0.1:{r.port}/")
        r.wait(1)
        self.told(h, delivered=1, failed=0)

    def test_slow_receivers(self):
        """They are given up after callback-timeout, and hold up neither the hub nor for long other callbacks."""
        r, h = self.both("--callback-timeout", "400ms")
        r.answers = [lambda x: self.released.wait(20)] * 24  # more than are sent at once
        self.worker(h, offer=["status"], slots=4)
        jobs = [self.submit(h, "/status", r.url) for _ in range(24)]
        r.wait(1)
        began = time.monotonic()
        for _ in range(20):
            self.assertEqual(self.get(h, "/status?body=x").text, "x")
        self.assertLess(time.monotonic() - began, scaled(1))
        wait_until(lambda: h.metrics().value("weir_callbacks_total", result="failed") >= 24, 20, "given up")
        self.released.set()
        self.told(h, delivered=24)
        again = collections.Counter(n.headers["Weir-Delivery"] for n in r.notices)
        self.assertEqual(sorted(again), sorted(jobs))
        self.assertEqual(set(again.values()), {2})

    def test_answers_without_end(self):
        r, h = self.both()

        def endless(x):
            x.send_response(200)
            x.end_headers()
            try:
                while not self.released.is_set():
                    x.wfile.write(bytes(65536))
            except OSError:
                pass
            x.close_connection = True

        def endless_head(x):
            x.send_response(200)
            try:
                while not self.released.is_set():
                    x.wfile.write(b"X: " + b"y" * 1000 + b"\r\n")
            except OSError:
                pass
            x.close_connection = True
        r.answers = [endless, endless_head]
        self.worker(h, offer=["status"])
        self.submit(h, "/status", r.url)
        self.told(h, delivered=1, failed=0)  # its status has been read
        self.submit(h, "/status", r.url)  # and here no end of its head
        self.told(h, delivered=2, failed=1)
        self.assertLess(h.rss(), 200 << 20)

    def test_answers_that_are_none(self):
        r, h = self.both("--callback-attempts", "1")
        def nonsense(x):
            x.wfile.write(b"nonsense\r\n\r\n")
            x.close_connection = True
        r.answers = [lambda x: setattr(x, "close_connection", True), nonsense,
                     lambda x: x.connection.shutdown(socket.SHUT_RDWR)]
        self.worker(h, offer=["status"])
        for i in range(3):
            self.submit(h, "/status", r.url)
            r.wait(i + 1)
            self.told(h, delivered=0, failed=i + 1)

    @unittest.skipIf(sanitized, "a sanitizer wants to be loaded first")
    def test_slow_lookups(self):
        """A thread that looks up a name is not waited for, neither when its time is over nor at the end."""
        r = self.receiver()
        slow, quick = "http://slow.example:1/", f"http://127.0.0.1:{r.port}/"
        h = self.callback_hub(slow, "--callback", quick, "--callback-timeout", "300ms", "--callback-attempts", "1",
                              env={"LD_PRELOAD": test_program("slowlookup.so")})
        self.worker(h, offer=["status"])
        self.submit(h, "/status", slow)
        began = time.monotonic()
        self.told(h, failed=1)
        self.submit(h, "/status", quick)
        r.wait(1)
        self.submit(h, "/status", slow)
        wait_until(lambda: h.metrics().value("weir_callbacks_sending") == 1, 10, "it is looked up")
        h.terminate()
        self.assertLess(time.monotonic() - began, 6)

    def test_names_and_connections_are_kept(self):
        r = self.receiver()
        url = f"http://localhost:{r.port}/"
        h = self.callback_hub(url)
        self.worker(h, offer=["status"])
        for i in range(3):
            self.submit(h, "/status", url)
            r.wait(i + 1)
            self.told(h, delivered=i + 1)
        self.assertEqual(r.notices[0].headers["Host"], f"localhost:{r.port}")
        h.terminate()  # with a kept connection

    def test_https(self):
        cert, key = (os.path.join(self.directory, n) for n in ("cert.pem", "key.pem"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost", "-addext",
                        "subjectAltName=DNS:localhost"], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        r = self.receiver(context=context)
        right, wrong = f"https://localhost:{r.port}/", f"https://127.0.0.1:{r.port}/"
        flags = ("--callback", wrong, "--callback-attempts", "1")
        h = self.callback_hub(right, *flags, "--callback-ca-file", cert)
        self.worker(h, offer=["status"])
        job = self.submit(h, "/status", right)
        self.check(r.wait(1)[0], job, "done", 200)
        self.told(h, delivered=1, failed=0)
        self.submit(h, "/status", wrong)  # its certificate has another name
        self.told(h, delivered=1, failed=1)
        h.terminate()
        h = self.callback_hub(right, *flags)  # nobody vouches for it
        self.worker(h, offer=["status"])
        self.submit(h, "/status", right)
        self.told(h, delivered=0, failed=1)
        self.assertEqual(len(r.notices), 1)
        self.assertIn("certificate", h.stderr())

    # ---- what dies ----

    def test_receiver_down_and_hub_killed(self):
        r = self.receiver()
        r.stop()
        url = f"http://127.0.0.1:{r.port}/x"
        h = self.callback_hub(url)
        w = self.worker(h, offer=["status"])
        jobs = [self.submit(h, "/status", url) for _ in range(3)]
        wait_until(lambda: h.metrics().value("weir_callbacks_total", result="failed") >= 3, 10, "failed")
        self.kill(h)
        w.stop()
        r = self.receiver(r.port)
        h = self.callback_hub(url)
        notices = r.wait(3)
        self.assertEqual(sorted(n.headers["Weir-Delivery"] for n in notices), sorted(jobs))
        for n in notices:
            self.assertGreaterEqual(int(n.headers["Weir-Attempt"]), 2)
            self.check(n, n.headers["Weir-Delivery"], "done", 200, attempt=n.headers["Weir-Attempt"])
        self.told(h, delivered=3)

    def test_hub_killed_while_it_is_told(self):
        r, h = self.both()
        r.answers = [lambda x: self.released.wait(20)]
        w = self.worker(h, offer=["status"])
        job = self.submit(h, "/status", r.url)
        r.wait(1)
        self.kill(h)
        w.stop()
        h = self.callback_hub(r.url)
        self.check(r.wait(2)[1], job, "done", 200)  # whether the first had arrived nobody knows
        self.told(h, delivered=1)

    def test_drain(self):
        """What receivers have not answered yet, and what waits for its turn, is told by the next hub."""
        r, h = self.both()
        r.answers = [lambda x: self.released.wait(20)] * 16
        w = self.worker(h, offer=["status"], slots=4)
        jobs = [self.submit(h, "/status", r.url) for _ in range(20)]
        r.wait(16)
        began = time.monotonic()
        h.terminate()
        self.assertLess(time.monotonic() - began, scaled(3))
        self.assertEqual(len(r.notices), 16)
        w.stop()
        h = self.callback_hub(r.url)
        self.assertEqual(sorted(n.headers["Weir-Delivery"] for n in r.wait(36)[16:]), sorted(jobs))
        self.told(h, delivered=20, failed=0)

    def test_not_allowed_any_more(self):
        r, h = self.both()
        r.answers = [500]
        w = self.worker(h, offer=["status"])
        job = self.submit(h, "/status", r.url)
        r.wait(1)
        h.terminate()
        w.stop()
        h = self.callback_hub(f"http://127.0.0.1:{r.port}/other")
        wait_until(lambda: h.metrics().value("weir_callbacks_given_up_total") == 1, 10, "given up")
        self.assertIn(f"callback-given-up of job {job}", h.stderr())
        self.assertEqual(len(r.notices), 1)

    # ---- who may be called ----

    def test_refused(self):
        r, h = self.both("--callback", "https://app.example.com/a/")
        self.worker(h, offer=["status"])
        at = f"127.0.0.1:{r.port}"
        for url in (f"http://{at}/", f"http://{at}/hooksx", f"https://{at}/hooks", f"http://127.0.0.1:{r.port + 1}/hooks",
                    f"http://localhost:{r.port}/hooks", "http://127.0.0.1/hooks", "https://app.example.com/a",
                    "https://app.example.com:8443/a/", f"http://u@{at}/hooks", f"http://{at}@evil/hooks",
                    f"http://{at}\\@evil/hooks", f"http://{at}/hooks#x", f"http://{at}/hooks/../x",
                    f"http://{at}/hooks/%2e%2e/x", f"http://{at}/hooks/..%2fx", f"//{at}/hooks", "/hooks", "file:///etc/passwd",
                    f"gopher://{at}/hooks", f"ftp://{at}/hooks", "", f"http://{at}/hooks/" + "x" * 2048):
            with self.subTest(url):
                answer = self.get(h, "/status", [*ASYNC, ("Weir-Callback", url)])
                problem = self.assert_problem(answer, 400)
                self.assertIn("Weir-Callback", problem["detail"])
                self.assertNotIn("app.example.com", answer.text)
        self.assertEqual(self.get(h, "/-/jobs").json()["jobs"], [])

    def test_without_configuration(self):
        h = self.hub("--data", self.data)
        self.worker(h, offer=["status"])
        problem = self.assert_problem(self.get(h, "/status", [*ASYNC, ("Weir-Callback", "http://127.0.0.1:9/")]), 400)
        self.assertIn("no callbacks", problem["detail"])

    def test_configuration(self):
        empty = os.path.join(self.directory, "empty")
        open(empty, "w").close()
        data, secret = ["--data", self.data], ["--callback-secret-file", self.secret_file]
        for flags, says in ((["--callback", "http://a/", *data], "callback-secret-file"),
                            (["--callback", "http://a/", *secret], "data"),
                            (["--callback", "http://a/", *data, "--callback-secret-file", empty], "no secret"),
                            (["--callback", "http://a/", *data, "--callback-secret-file", empty + "x"], "No such file"),
                            (["--callback", "a.example", *data, *secret], "not what a URL can begin with"),
                            (["--callback", "http://a/?x", *data, *secret], "not what a URL can begin with"),
                            (["--callback", "ftp://a/", *data, *secret], "not what a URL can begin with")):
            p = self.start("check", [weir_binary(), "check", *flags])
            self.assertEqual(p.wait(10), 2, flags)
            self.assertIn(says, p.stderr() + p.stdout())


if __name__ == "__main__":
    main()
