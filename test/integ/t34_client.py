#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The clients for topics and durable jobs: libweir's (by client.c) and weir.Client of Python. The same cases for both,
with real hubs, and with servers made here that break off, stay silent, or refuse."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest
import unittest.mock

from weirtest import Case, main, sanitized, scaled, slow, wait_until
from weirtest.hub import test_program

_ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(_ROOT, "python"))
import weir.client  # noqa: E402

with open(os.path.join(_ROOT, "include/weir/weir.h")) as f:
    _ERRORS = {int(number): name for name, number in re.findall(r"X\((E[A-Z]+), (-\d+),", f.read())}
_KINDS = {400: "EINVAL", 401: "ETOKEN", 403: "EFORBIDDEN", 404: "ENOTFOUND", 409: "ESTATE", 410: "ECANCELLED",
          413: "ETOOBIG", 422: "ECONFLICT", 429: "ERATE", 503: "EUNAVAILABLE", 507: "ENOSPACE"}


class Failed(Exception):
    """kind: the name of a WEIR_E* without its beginning, or "unreachable"."""

    def __init__(self, kind, detail=""):
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail = kind, detail


class InC:
    """client.c, by its lines."""

    def __init__(self, case, hub, token="-", timeout=0.0, attempts=0, max_body=0, env=None):
        argv = [test_program("client"), hub, token, round(timeout * 1000), attempts, max_body]
        self.case, self.errors = case, open(os.path.join(case.directory, "client.err"), "ab+")
        self.process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, env={**os.environ, "TZ": "Asia/Tokyo", **(env or {})})
        case.addCleanup(self.close)
        self.read()

    def close(self):
        if self.process.stdin.closed:
            return
        self.process.stdin.close()
        status = self.process.wait(scaled(15))
        self.process.stdout.close()
        self.errors.seek(0)
        said = self.errors.read().decode()
        self.errors.close()
        self.case.assertEqual((status in (0, 1), said), (True, ""))

    def read(self):
        words = self.process.stdout.readline().decode().rstrip("\n").split("\t")
        error = int(words[0])  # fails when the process has ended
        if error:
            kind = _ERRORS[-abs(error)]
            raise Failed("unreachable" if kind in ("ECONNECT", "ECLOSED", "ECUT") else kind, words[1])
        return [None if w == "-" else w for w in words[2:]]

    def call(self, *words):
        line = "\t".join("-" if w is None else str(w) for w in words)
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        return self.read()

    def publish(self, topic, body=b"", type=None):
        self.call("publish", topic, type, body.hex())

    def subscribe(self, topic, name):
        self.call("subscribe", topic, name)

    def unsubscribe(self, topic, name):
        self.call("unsubscribe", topic, name)

    def next(self, topic, name, wait=0.0, explicit=False, ack_time=None):
        """(id, published as unix seconds, type, body, delivery), or None."""
        ack = round(ack_time * 1000) if ack_time else int(explicit)
        try:
            id, published, delivery, type, body = self.call("next", topic, name, round(wait * 1000), ack)
        except Failed as e:
            if e.kind == "EAGAIN":
                return None
            raise
        return int(id), int(published) / 1000, type, bytes.fromhex(body), int(delivery) or None

    def acknowledge(self, topic, name, id):
        self.call("acknowledge", topic, name, id)

    def submit(self, target, body=None, method="POST", headers=None, delay=0.0):
        fields = [w for pair in (headers or {}).items() for w in pair]
        return self.call("submit", method, target, round(delay * 1000), None if body is None else body.hex(),
                         *fields)[0]

    def state(self, job):
        """The JSON, after the struct was found to say the same."""
        state, ended, status, hop, failed, service, progress, reason, text = self.call("state", job)
        said = json.loads(text)
        ends = said["state"] in ("done", "failed", "dead", "cancelled")
        self.case.assertEqual(
            (state, int(ended), int(status), int(hop), int(failed), service, progress, reason),
            (said["state"], ends, said.get("status", 0), said["hop"], said["failed_attempts"], said["service"],
             said.get("progress"), said.get("reason")))
        return said

    def result(self, job, wait=0.0):
        """(status, body, content type, fields), or None."""
        try:
            status, body, type, *fields = self.call("result", job, round(wait * 1000))
        except Failed as e:
            if e.kind == "EAGAIN":
                return None
            raise
        return int(status), bytes.fromhex(body), type, list(zip(fields[::2], fields[1::2]))

    def cancel(self, job):
        self.call("cancel", job)


class InPython:
    def __init__(self, case, hub, token=None, **kwargs):
        try:
            self.client = weir.Client(hub, token, **kwargs)
        except ValueError as e:
            raise Failed("EINVAL", str(e)) from None
        case.addCleanup(self.client.close)

    def call(self, name, *args, **kwargs):
        try:
            return getattr(self.client, name)(*args, **kwargs)
        except weir.client.TimedOut as e:
            raise Failed("ETIMEDOUT", e.detail) from None
        except weir.client.Unreachable as e:
            raise Failed("unreachable", e.detail) from None
        except ValueError as e:
            raise Failed("EINVAL", str(e)) from None
        except weir.client.Error as e:
            kind = _KINDS.get(e.status, "ESTATE" if e.status < 400 else str(e.status))
            kind = {"the answer has more than": "ETOOBIG"}.get(e.detail[:24], kind)
            raise Failed("ENOSERVICE" if name == "submit" and e.status == 404 else kind, e.detail) from None

    def __getattr__(self, name):
        return lambda *args, **kwargs: self.call(name, *args, **kwargs)

    def next(self, *args, **kwargs):
        m = self.call("next", *args, **kwargs)
        return m and (m.id, m.published.timestamp(), m.type, m.body, m.delivery)

    def result(self, *args, **kwargs):
        r = self.call("result", *args, **kwargs)
        return r and (r.status, r.body, r.headers["Content-Type"], [(n.lower(), v) for n, v in r.headers.items()])


class Server:
    """Takes requests, and does to each what the next step says: bytes are sent, with b"" or after "close" the
    connection is closed, "silent" does nothing. When there are no more steps: 200."""

    OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    def __init__(self, case, *steps):
        self.steps, self.requests, self.connections, self.open = list(steps), [], 0, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()
        case.addCleanup(self.close)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for s in self.open:
            s.close()

    def accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            self.open.append(s)
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        try:
            with s, s.makefile("rb") as f:
                while line := f.readline():
                    method, target, _ = line.decode().split(" ")
                    fields = {}
                    while (line := f.readline()) not in (b"\r\n", b""):
                        name, _, value = line.decode().rstrip().partition(": ")
                        fields[name.lower()] = value
                    body = f.read(int(fields.get("content-length", "0")))
                    self.requests.append((method, target, fields, body))
                    step = self.steps.pop(0) if self.steps else self.OK
                    if callable(step):
                        step(s)
                    elif step == "close":
                        return
                    elif step != "silent":
                        s.sendall(step)
        except OSError:
            pass

    def asked(self):
        return [f"{method} {target}" for method, target, _, _ in self.requests]


def answer(status, body=b"", *fields, kind="application/problem+json"):
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", f"Content-Type: {kind}", *fields, "", ""]
    return "\r\n".join(lines).encode() + body


def problem(status, detail, *fields):
    return answer(status, json.dumps({"status": status, "detail": detail}).encode(), *fields)


class ClientCase(Case):
    def client_of(self, hub, *args, **kwargs):
        return self.make(self, getattr(hub, "url", None) or getattr(hub, "listen_text", None) or hub, *args, **kwargs)

    def fails(self, kind, call, *args, **kwargs):
        with self.assertRaises(Failed) as raised:
            call(*args, **kwargs)
        self.assertEqual(raised.exception.kind, kind, raised.exception)
        return raised.exception.detail

    def took(self, began, least, most):
        passed = time.monotonic() - began
        self.assertGreaterEqual(passed, least - 0.02)
        self.assertLess(passed, scaled(most + 1))  # others use this machine too

    def thread(self, call, *args):
        """Its result comes by the returned function."""
        got = []

        def run():
            try:
                got.append((call(*args), None))
            except Exception as e:
                got.append((None, e))
        t = threading.Thread(target=run)
        t.start()

        def result():
            t.join(scaled(20))
            value, error = got[0]
            if error:
                raise error
            return value
        return result


class TopicCases(ClientCase):
    def setUp(self):
        super().setUp()
        self.h = self.hub("--max-message", "2MiB", "--max-subscriptions", "40")
        self.c = self.client_of(self.h)

    def test_a_message_with_all_that_belongs_to_it(self):
        self.c.subscribe("T", "a")
        self.c.subscribe("T", "a")
        for body, kind in ((b"", None), (b"text", "text/plain; charset=utf-8"), (bytes(range(256)) * 300, "a/b"),
                           (os.urandom(1 << 20), None)):
            self.c.publish("T", body, kind)
            id, published, got_kind, got, delivery = self.c.next("T", "a")
            self.assertEqual((got_kind, delivery), (kind, None))
            self.assertTrue(got == body)
            self.assertLess(abs(published - time.time()), scaled(5))
        self.c.publish("T", b"x")
        self.assertGreater(self.c.next("T", "a")[0], id)
        self.assertIsNone(self.c.next("T", "a"))

    def test_names(self):
        for name in ("a/b", "a b+c?d#e", "ä€😀", "%41", "~!$&'()*,;=:@", "..", "x" * 255):
            with self.subTest(name):
                self.c.subscribe(name, name)
                self.c.publish(name, b"m")
                self.assertEqual(self.c.next(name, name, 1, True)[3], b"m")
                self.c.unsubscribe(name, name)

    def test_names_that_cannot_be(self):
        self.fails("EINVAL", self.c.publish, "")
        self.fails("EINVAL", self.c.subscribe, "T", "")
        self.fails("EINVAL", self.c.next, "", "a")
        self.assertIn("255", self.fails("EINVAL", self.c.subscribe, "x" * 256, "a"))
        self.fails("EINVAL", self.c.publish, "T", b"", "a\r\x0bb: c")

    def test_without_a_subscription(self):
        self.c.publish("T")
        self.assertEqual(self.fails("ENOTFOUND", self.c.next, "T", "a", 5), "no such subscription")
        self.fails("ENOTFOUND", self.c.unsubscribe, "T", "a")
        self.fails("ENOTFOUND", self.c.acknowledge, "T", "a", 1)
        self.c.subscribe("T", "a")
        self.c.unsubscribe("T", "a")
        self.fails("ENOTFOUND", self.c.unsubscribe, "T", "a")

    def test_waiting(self):
        self.c.subscribe("T", "a")
        began = time.monotonic()
        self.assertIsNone(self.c.next("T", "a", 0.3))
        self.took(began, 0.3, 2)
        waits = self.thread(self.c.next, "T", "a", 20)
        wait_until(lambda: self.h.metrics().value("weir_topic_readers", kind="poll") == 1, scaled(5), "it waits")
        self.client_of(self.h).publish("T", b"m")
        self.assertEqual(waits()[3], b"m")
        self.took(began, 0, 6)

    def test_acknowledging(self):
        self.c.subscribe("T", "a")
        self.c.publish("T", b"m")
        id, _, _, _, delivery = self.c.next("T", "a", explicit=True, ack_time=0.2)
        self.assertEqual(delivery, 1)
        self.assertIsNone(self.c.next("T", "a"))
        again = self.c.next("T", "a", 10, True)
        self.assertEqual((again[0], again[4]), (id, 2))
        self.c.acknowledge("T", "a", id)
        self.fails("ENOTFOUND", self.c.acknowledge, "T", "a", id)
        self.assertIsNone(self.c.next("T", "a", 0.3))

    def test_limits(self):
        self.assertIn("max-message", self.fails("ETOOBIG", self.c.publish, "T", bytes((2 << 20) + 1)))
        self.c.publish("T", bytes(2 << 20))
        for i in range(40):
            self.c.subscribe("T", f"s{i}")
        self.fails("ENOSPACE", self.c.subscribe, "T", "more")
        small = self.client_of(self.h, max_body=1000)
        small.publish("T", bytes(1000))
        small.publish("T", bytes(1001))
        small.publish("T", b"next")
        self.assertEqual(len(small.next("T", "s0")[3]), 1000)
        self.fails("ETOOBIG", small.next, "T", "s0")
        self.assertEqual(small.next("T", "s0")[3], b"next")

    def test_tokens(self):
        h = self.hub("--client-token", "bob=secret")
        self.fails("ETOKEN", self.client_of(h).publish, "T")
        self.fails("EFORBIDDEN", self.client_of(h, "wrong").publish, "T")
        self.client_of(h, "secret").publish("T")
        self.fails("EINVAL", self.client_of, h, "a\x0bb")

    def test_where_the_hub_is(self):
        host, port = self.h.listen
        self.client_of(f"{host}:{port}").subscribe("T", "a")
        self.client_of(f"localhost:{port}").publish("T", b"1")
        self.client_of(f"http://{host}:{port}/").publish("T", b"2")
        self.assertEqual([self.c.next("T", "a")[3] for _ in range(2)], [b"1", b"2"])
        local = self.client_of(self.hub(listen=f"unix:{self.directory}/listen"))
        local.subscribe("T", "a")
        local.publish("T", b"m")
        self.assertEqual(local.next("T", "a", 5)[3], b"m")
        for bad in ("ftp://x", "http://", "http://a:b", "http://x/?a", "unix:"):
            self.fails("EINVAL", self.client_of, bad)
        self.fails("unreachable", self.client_of("unix:/nonexistent", attempts=1).publish, "T")


class JobCases(ClientCase):
    def setUp(self):
        super().setUp()
        self.h = self.hub("--data", os.path.join(self.directory, "data"), "--job-backoff", "20ms",
                          "--job-attempts", "2", "--max-data", "64MiB")
        self.c = self.client_of(self.h)

    def test_submit_state_result(self):
        self.worker(self.h, offer=["status", "echo"])
        job = self.c.submit("/status?code=201&set=x&cookies=2&body=made", b"data")
        status, body, _, fields = self.c.result(job, 20)
        self.assertEqual((status, body, dict(fields)["x-set"]), (201, b"made", "x"))
        self.assertEqual(len([v for n, v in fields if n == "set-cookie"]), 2)
        state = self.c.state(job)
        self.assertEqual((state["id"], state["state"], state["service"], state["status"]), (job, "done", "status", 201))
        self.assertEqual(self.c.result(job)[1], b"made")
        for body in (b"", os.urandom(200000)):
            job = self.c.submit("/echo?x=1", body, headers={"Content-Type": "a/b", "X-Mine": "1"})
            status, got, kind, fields = self.c.result(job, 20)
            self.assertEqual((status, kind, dict(fields)["x-echo-x-mine"]), (200, "a/b", "1"))
            self.assertRegex(dict(fields)["x-echo-idempotency-key"], r"\A[0-9a-f]{32}\Z")
            self.assertTrue(got == body)

    def test_answers_that_look_like_the_hubs_own(self):
        """Of a worker's 202, 404, 410 and 503 none is taken for what the hub says of the job."""
        self.worker(self.h, offer=["status"])
        for code in (202, 204, 303, 404, 410, 422, 503):
            with self.subTest(code):
                job = self.c.submit(f"/status?code={code}&body=mine", method="GET")
                status, body, _, _ = self.c.result(job, 20)
                self.assertEqual((status, body), (code, b"" if code == 204 else b"mine"))

    def test_waiting(self):
        self.worker(self.h, offer=["sleep"])
        job = self.c.submit("/sleep?ms=800", b"x")
        began = time.monotonic()
        self.assertIsNone(self.c.result(job))
        self.assertIsNone(self.c.result(job, 0.2))
        self.took(began, 0.2, 0.7)
        self.assertEqual(self.c.result(job, 20)[0], 200)

    def test_cancel(self):
        self.worker(self.h, offer=["sleep", "hello"])
        job = self.c.submit("/sleep?ms=60000", b"x")
        self.c.cancel(job)
        self.c.cancel(job)
        self.fails("ECANCELLED", self.c.result, job, 10)
        self.assertEqual(self.c.state(job)["state"], "cancelled")
        done = self.c.submit("/hello")
        self.c.result(done, 20)
        self.assertIn("it has ended", self.fails("ESTATE", self.c.cancel, done))

    def test_jobs_that_are_not(self):
        for job in ("nonsense", "019aa5c2-7d31-7000-9b1e-5a4f2f0c9d11", "a/b"):
            for call in (self.c.state, self.c.result, self.c.cancel):
                self.fails("ENOTFOUND", call, job)
        self.fails("EINVAL", self.c.state, "")
        self.fails("ENOSERVICE", self.c.submit, "/nobody")

    def test_wrong_requests(self):
        for fields in ({"Prefer": "wait=1"}, {"Content-Length": "3"}, {"Host": "x"}, {"a b": "c"}, {"X": "a\rb"}):
            self.fails("EINVAL", self.c.submit, "/hello", headers=fields)
        for target in ("hello", "/a b", "", "/ä", "/#x"):
            self.fails("EINVAL", self.c.submit, target)
        self.fails("EINVAL", self.c.submit, "/hello", method="A B")

    def test_keys(self):
        self.worker(self.h, offer=["hello"])
        keyed = {"Idempotency-Key": "mine"}
        job = self.c.submit("/hello", b"1", headers=keyed)
        self.assertEqual(self.c.submit("/hello", b"1", headers=keyed), job)
        self.assertIn("Idempotency-Key", self.fails("ECONFLICT", self.c.submit, "/hello", b"2", headers=keyed))
        self.assertNotEqual(self.c.submit("/hello", b"1"), self.c.submit("/hello", b"1"))

    def test_delay(self):
        self.worker(self.h, offer=["hello"])
        job = self.c.submit("/hello", delay=1.0)
        began = time.monotonic()
        self.assertIn("run_at", self.c.state(job))
        self.assertEqual(self.c.result(job, 20)[1], b"hello")
        self.took(began, 0.7, 5)

    def test_why_it_is_dead(self):
        self.worker(self.h, offer=["status"])
        job = self.c.submit("/status?code=500", b"")
        self.assertEqual(self.c.result(job, 20)[0], 500)
        state = self.c.state(job)
        self.assertEqual(state["state"], "dead")
        self.assertTrue(state["reason"])

    def test_no_data_directory(self):
        h = self.hub()
        self.worker(h, offer=["hello", "status"])
        c = self.client_of(h)
        self.assertIn("at once", self.fails("ESTATE", c.submit, "/hello"))
        self.fails("ECONFLICT", c.submit, "/status?code=422")

    def test_no_room(self):
        h = self.hub("--data", os.path.join(self.directory, "small"), "--max-data", "4MiB", "--route", "/=s")
        c = self.client_of(h)

        def fill():
            for _ in range(10):
                c.submit("/x", bytes(1 << 20))
        self.fails("ENOSPACE", fill)


class FaultCases(ClientCase):
    """attempts is small here where a test would otherwise wait for pauses."""

    def server(self, *steps, **kwargs):
        server = Server(self, *steps)
        return server, self.client_of(server.address, **kwargs)

    def every_call(self, c):
        return [(c.publish, "T", b"m"), (c.subscribe, "T", "a"), (c.unsubscribe, "T", "a"), (c.next, "T", "a"),
                (c.acknowledge, "T", "a", 1), (c.submit, "/s", b"x"), (c.state, "1"), (c.result, "1"), (c.cancel, "1")]

    def test_one_connection_for_all(self):
        server, c = self.server()
        for _ in range(3):
            c.publish("T", b"m")
        self.assertEqual((server.connections, len(server.requests)), (1, 3))

    def test_a_connection_that_was_closed_meanwhile(self):
        """Even a publication goes on, for it is noticed before."""
        closed = threading.Event()
        server, c = self.server(Server.OK, lambda s: (s.sendall(Server.OK), s.shutdown(socket.SHUT_RDWR), closed.set()))
        c.publish("T", b"m")
        c.publish("T", b"m")
        self.assertTrue(closed.wait(scaled(5)))
        c.publish("T", b"m")
        self.assertEqual((server.connections, len(server.requests)), (2, 3))

    def test_silence(self):
        server, c = self.server(*["silent"] * 20, timeout=0.3)
        for call, *args in self.every_call(c):
            began = time.monotonic()
            self.fails("ETIMEDOUT", call, *args)
            self.took(began, 0.3, 0.8)
        self.assertEqual(len(server.requests), 9)  # and no second try of any

    def test_silence_after_a_wait(self):
        _, c = self.server("silent", "silent", timeout=0.3)
        for call, *args in ((c.next, "T", "a", 0.5), (c.result, "1", 0.5)):
            began = time.monotonic()
            self.fails("ETIMEDOUT", call, *args)
            self.took(began, 0.8, 1.5)

    def test_a_byte_now_and_then(self):
        def trickle(s):
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(1000):
                s.sendall(bytes([byte]))
                time.sleep(0.01)
        _, c = self.server(trickle, timeout=1.0)
        began = time.monotonic()
        self.fails("ETIMEDOUT", c.subscribe, "T", "a")
        self.took(began, 1, 2)

    def test_nobody_accepts(self):
        listener = socket.socket()
        self.addCleanup(listener.close)
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        others = [socket.socket() for _ in range(4)]  # they fill the backlog
        for s in others:
            self.addCleanup(s.close)
            s.setblocking(False)
            s.connect_ex(listener.getsockname())
        c = self.client_of("127.0.0.1:%d" % listener.getsockname()[1], timeout=0.5)
        began = time.monotonic()
        self.fails("ETIMEDOUT", c.publish, "T", b"m")
        self.took(began, 0.5, 1.5)

    def test_a_server_that_does_not_read(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        c = self.client_of("127.0.0.1:%d" % listener.getsockname()[1], timeout=0.7)
        began = time.monotonic()
        self.fails("ETIMEDOUT", c.publish, "T", bytes(12 << 20))
        self.took(began, 0.7, 6)

    def test_nobody_listens(self):
        bound = socket.socket()  # so that nobody else takes the port
        self.addCleanup(bound.close)
        bound.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % bound.getsockname()[1]
        began = time.monotonic()
        self.fails("unreachable", self.client_of(address, attempts=1).publish, "T")
        self.took(began, 0, 0.5)
        self.fails("unreachable", self.client_of(address, attempts=4).publish, "T")
        self.took(began, 0.17, 2)  # 50, 100 and 200 ms, half of it at least
        self.fails("unreachable", self.client_of(address, timeout=0.5, attempts=1000).publish, "T")
        self.took(began, 0.17, 3)

    def test_no_answer_to_what_is_safe(self):
        server, c = self.server("close", "close")
        c.subscribe("T", "a")
        self.assertEqual(server.asked(), ["POST /-/topics/T/a"] * 3)
        server, c = self.server(*["close"] * 9, attempts=3)
        self.fails("unreachable", c.subscribe, "T", "a")
        self.assertEqual(len(server.requests), 3)

    def test_no_answer_to_a_publication(self):
        server, c = self.server("close", Server.OK)
        self.fails("unreachable", c.publish, "T", b"m")
        self.assertEqual(len(server.requests), 1)
        c.publish("T", b"n")
        self.assertEqual([body for *_, body in server.requests], [b"m", b"n"])

    def test_half_an_answer(self):
        def half(s):
            s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nWeir-Message: 5\r\n"
                      b"Weir-Published: 2026-11-21T10:00:00.250Z\r\n\r\n12345")
            s.shutdown(socket.SHUT_RDWR)
        whole = answer(200, b"1234567890", "Weir-Message: 5", "Weir-Published: 2026-11-21T10:00:00.250Z", kind="a/b")
        server, c = self.server(half, whole)
        self.assertEqual(c.next("T", "a"), (5, 1795255200.25, "a/b", b"1234567890", None))
        server, c = self.server(half)
        self.fails("unreachable", c.publish, "T")

    def test_a_submission_has_the_same_key_in_each_try(self):
        accepted = answer(202, b"{}", "Location: /-/jobs/123-456", "Preference-Applied: respond-async")
        server, c = self.server("close", problem(503, "queue full"), accepted, accepted)
        self.assertEqual(c.submit("/s?q=1", b"x"), "123-456")
        keys = {fields["idempotency-key"] for _, _, fields, _ in server.requests}
        self.assertEqual((len(keys), server.asked()), (1, ["POST /s?q=1"] * 3))
        self.assertEqual({fields["prefer"] for _, _, fields, _ in server.requests}, {"respond-async"})
        c.submit("/s?q=1", b"x", headers={"IDEMPOTENCY-key": "mine"})
        self.assertEqual(server.requests[-1][2]["idempotency-key"], "mine")

    def test_gone_by_a_try_that_was_not_heard(self):
        for name in ("unsubscribe", "acknowledge"):
            server, c = self.server("close", problem(404, "gone"), problem(404, "gone"))
            args = ("T", "a") if name == "unsubscribe" else ("T", "a", 7)
            getattr(c, name)(*args)
            self.fails("ENOTFOUND", getattr(c, name), *args)
            self.assertEqual(len(server.requests), 3)

    def test_busy(self):
        server, c = self.server(problem(503, "the store cannot be written or read at the moment", "Retry-After: 1"),
                                problem(429, "queue full"), Server.OK)
        began = time.monotonic()
        c.subscribe("T", "a")
        self.took(began, 1, 3)
        self.assertEqual(len(server.requests), 3)
        server, c = self.server(problem(503, "hub is draining"), problem(503, "hub is draining"), attempts=2)
        self.fails("EUNAVAILABLE" if self.make is InPython else "EDRAINING", c.subscribe, "T", "a")

    def test_busy_for_longer_than_there_is_time(self):
        server, c = self.server(problem(503, "later", "Retry-After: 30"), timeout=2)
        began = time.monotonic()
        self.assertEqual(self.fails("EUNAVAILABLE", c.subscribe, "T", "a"), "later")
        self.took(began, 0, 0.5)

    def test_busy_when_publishing(self):
        server, c = self.server(problem(503, "the store cannot be written or read at the moment"))
        self.fails("EUNAVAILABLE", c.publish, "T", b"m")
        self.assertEqual(len(server.requests), 1)
        server, c = self.server(problem(503, "hub is draining"), problem(507, "no room", "Retry-After: 1"))
        self.assertEqual(self.fails("ENOSPACE", c.publish, "T", b"m"), "no room")
        self.assertEqual(len(server.requests), 2)

    def test_refused_before_it_was_read(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)

        over = threading.Event()

        def serve():
            s, _ = listener.accept()
            with s:
                s.recv(1000)
                s.sendall(problem(413, "too big"))
                over.wait(scaled(10))  # and reads no more
            listener.accept()[0].close()  # the next request comes on another connection
        done = self.thread(serve)
        c = self.client_of("127.0.0.1:%d" % listener.getsockname()[1], timeout=3.0, attempts=1)
        self.assertEqual(self.fails("ETOOBIG", c.publish, "T", bytes(12 << 20)), "too big")
        over.set()
        self.fails("unreachable", c.publish, "T")
        done()

    def test_not_what_a_hub_says(self):
        server, c = self.server(answer(200, b"m"), answer(200, b"[]"), answer(202), answer(302), attempts=1)
        for call, *args in ((c.next, "T", "a"), (c.state, "1"), (c.submit, "/s"), (c.subscribe, "T", "a")):
            with self.assertRaises(Failed) as raised:
                call(*args)
            self.assertIn(raised.exception.kind, ("EPROTOCOL", "ESTATE"))
        for garbage in (b"\0\1\2\r\n\r\n", b"HTTP/1.1 2000 OK\r\n\r\n"):
            server, c = self.server(garbage + b"x" * 1000, attempts=1)
            with self.assertRaises(Failed) as raised:
                c.subscribe("T", "a")
            self.assertIn(raised.exception.kind, ("EMALFORMED", "unreachable"))

    def test_failures_count_in_a_row(self):
        message = answer(200, b"m", "Weir-Message: 5", "Weir-Published: 2026-11-21T10:00:00.250Z")
        server, c = self.server("close", answer(204), "close", answer(204), "close", message, attempts=2)
        self.assertEqual(c.next("T", "a", 10)[0], 5)
        self.assertEqual(len(server.requests), 6)

    def test_empty_polls_that_come_too_early(self):
        """A proxy that does not wait is not asked in a circle."""
        server, c = self.server(*[answer(204)] * 100)
        self.assertIsNone(c.next("T", "a", 0.5))
        self.assertLess(len(server.requests), 10)

    # ---- hubs that stop, and begin again ----

    def test_a_hub_that_is_stopped(self):
        h = self.hub()
        c = self.client_of(h, timeout=0.7)
        c.subscribe("T", "a")
        h.signal(signal.SIGSTOP)
        try:
            for client in (c, self.client_of(h, timeout=0.7)):
                began = time.monotonic()
                self.fails("ETIMEDOUT", client.next, "T", "a", 0.5)
                self.took(began, 1.2, 2.5)
        finally:
            h.signal(signal.SIGCONT)
        c.publish("T", b"m")
        self.assertEqual(c.next("T", "a", 5, True)[3], b"m")

    def restart(self, h, number):
        """The same hub again, at the same place."""
        h.ended = True
        h.signal(number)
        h.wait(scaled(10))
        return self.durable_hub()

    def durable_hub(self):
        return self.hub("--data", os.path.join(self.directory, "data"), listen=f"unix:{self.directory}/listen")

    def test_a_hub_that_is_restarted(self):
        for number in (signal.SIGTERM, signal.SIGKILL):
            with self.subTest(number):
                h = self.durable_hub()
                c, other = self.client_of(h, timeout=scaled(30)), self.client_of(h, timeout=scaled(30))
                c.subscribe("T", "a")
                waits = self.thread(c.next, "T", "a", 20, True)
                wait_until(lambda: h.metrics().value("weir_topic_readers", kind="poll") == 1, scaled(5), "it waits")
                h = self.restart(h, number)
                other.publish("T", b"after")
                id, _, _, body, _ = waits()
                self.assertEqual(body, b"after")
                c.acknowledge("T", "a", id)
                self.worker(h, offer=["sleep"])
                job = other.submit("/sleep?ms=2000", b"x")
                waits = self.thread(c.result, job, 20)
                h = self.restart(h, number)
                self.worker(h, offer=["sleep"])
                self.assertEqual(waits()[0], 200)
                h.terminate()

    def test_publishing_while_it_is_restarted(self):
        h = self.durable_hub()
        c = self.client_of(h, timeout=scaled(30))
        c.subscribe("T", "a")
        h.ended = True
        h.terminate()
        published = self.thread(c.publish, "T", b"m")
        self.durable_hub()
        published()
        self.assertEqual(c.next("T", "a")[3], b"m")


class TopicsInC(TopicCases):
    make = InC

    @slow(60)
    def test_clients_at_once(self):
        self.c.subscribe("T", "s")
        self.assertEqual(self.c.call("crowd", "T", 16, 50), ["800"])
        self.assertIsNone(self.c.next("T", "s"))


class TopicsInPython(TopicCases):
    make = InPython

    def test_messages(self):
        client = self.c.client
        client.subscribe("T", "a")
        for i in range(4):
            client.publish("T", f"m{i}")
        got = []
        for m in client.messages("T", "a", ack_time=0.3):
            got.append((m.body, m.delivery))
            if m.body == b"m1" and m.delivery == 1:
                break  # in the middle of it
            if m.body == b"m3":
                break
        for m in client.messages("T", "a"):
            got.append((m.body, m.delivery))
            if len(got) == 5:
                break
        self.assertEqual(got, [(b"m0", 1), (b"m1", 1), (b"m2", 1), (b"m3", 1), (b"m1", 2)])

    def test_clients_at_once(self):
        self.c.subscribe("T", "s")

        def attend(_):
            with weir.Client(self.h.url) as own:
                for i in range(20):
                    own.publish("T", str(i))
                for _ in range(20):
                    own.acknowledge("T", "s", own.next("T", "s", 10, explicit=True))
        for result in [self.thread(attend, i) for i in range(8)]:
            result()
        self.assertIsNone(self.c.next("T", "s"))


class JobsInC(JobCases):
    make = InC


class JobsInPython(JobCases):
    make = InPython


class FaultsInC(FaultCases):
    make = InC

    @unittest.skipIf(sanitized, "the sanitizer's runtime must be loaded first")
    def test_a_name_that_is_looked_up_for_long(self):
        c = self.client_of("slow.example:80", timeout=0.5, env={"LD_PRELOAD": test_program("slowlookup.so")})
        began = time.monotonic()
        self.fails("ETIMEDOUT", c.publish, "T")
        self.took(began, 0.5, 1.5)


class FaultsInPython(FaultCases):
    make = InPython

    def test_a_name_that_is_looked_up_for_long(self):
        let_go = threading.Event()
        c = self.client_of("slow.example:80", timeout=0.5)
        began = time.monotonic()
        with unittest.mock.patch("socket.getaddrinfo", lambda *_, **__: let_go.wait(20) and []):
            self.fails("ETIMEDOUT", c.publish, "T")
        self.took(began, 0.5, 1.5)
        let_go.set()


del ClientCase, TopicCases, JobCases, FaultCases

if __name__ == "__main__":
    main()
