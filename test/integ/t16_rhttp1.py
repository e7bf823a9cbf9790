#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Workers by reverse HTTP/1.1: kept connections, bodies, cancel, bad answers, and the silent kind."""

import re
import select
import subprocess
import threading
import time

from weirtest import (Case, Client, Closed, H1Worker, Handler, OnceHandler, Turned, main, request_bytes,
                      wait_until)
from weirtest.hub import weir_binary


class Rhttp1(Case):
    def setUp(self):
        super().setUp()
        self.h = self.hub("--request-timeout", "20s")

    def worker1(self, service="s", worker=None):
        return H1Worker(self, self.h.attach, service, worker)

    def ask(self, method="GET", target="/s", headers=(), body=None):
        client = self.client(self.h)
        client.send(request_bytes(method, target, headers, body))
        return client

    def answer(self, client, method="GET"):
        return client.response(method)

    # ---- the plain way ----

    def test_request_and_reply(self):
        w = self.worker1()
        client = self.ask(target="/s/path?q=1", headers=[("X-Mine", "a"), ("X-Mine", "b"), ("Weir-Job", "no")])
        r = w.request()
        self.assertEqual((r.method, r.target), ("GET", "/s/path?q=1"))
        self.assertEqual([v for n, v in r.headers if n == "x-mine"], ["a", "b"])
        self.assertEqual(r.headers[0], ("host", "test.example"))
        self.assertEqual((r.header("weir-service"), r.header("weir-hop"), r.header("weir-attempt")), ("s", "0", "1"))
        self.assertRegex(r.header("weir-job"), r"^[0-9a-f]+$")
        self.assertLessEqual(int(r.header("weir-deadline-ms")), 20000)
        self.assertIsNone(r.header("connection"))
        w.answer(b"hello", "201 Made", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Weir-Slots", "1")])
        a = self.answer(client)
        self.assertEqual((a.status, a.body), (201, b"hello"))
        self.assertEqual(a.all("set-cookie"), ["a=1", "b=2"])
        self.assertIsNone(a.header("weir-slots"))

    def test_the_connection_stays(self):
        w = self.worker1()
        client = self.client(self.h)
        for i in range(3):
            client.send(request_bytes("GET", f"/s/{i}"))
            self.assertEqual(w.request().target, f"/s/{i}")
            w.answer(b"x" * i)
            self.assertEqual(client.response("GET").body, b"x" * i)

    def test_a_pythonic_server_turned_around(self):
        Turned(self, self.h.attach, Handler, slots=4, worker="turned")
        self.h.wait_worker("turned", 4)
        with Client(self.h.listen) as client:
            for _ in range(20):
                self.assertEqual(client.request("GET", "/s").body, b"hello")
                self.assertEqual(client.request("POST", "/s", body=b"abc" * 1000).body, b"abc" * 1000)
        out = subprocess.run(["ab", "-q", "-k", "-n", "1000", "-c", "8", self.h.url + "/s"], capture_output=True,
                             text=True, timeout=60).stdout
        self.assertRegex(out, r"Complete requests:\s+1000\b")
        self.assertRegex(out, r"Failed requests:\s+0\b")
        self.assertNotIn("Non-2xx", out)
        self.h.wait_idle()

    def test_connections_of_one_worker(self):
        """Connections with one Weir-Worker are one worker, each a slot; without it each is a worker."""
        ws = [self.worker1(worker="w") for _ in range(3)]
        self.h.wait_worker("w", 3)
        ws.pop().close()
        self.h.wait_worker("w", 2)
        self.worker1("other", worker="w")  # other services: another worker
        self.h.wait_workers(2)
        alone = [self.worker1() for _ in range(2)]
        self.h.wait_workers(4)
        clients = [self.ask() for _ in range(5)]
        status = self.h.wait_status(lambda s: (s["running"], s["queued"]) == (4, 1))
        self.assertEqual(sorted(w["running"] for w in status["workers_list"]), [0, 1, 1, 2])
        for w in ws + alone:
            w.request()
            w.answer(b"done")
        readable, _, _ = select.select([w.client.sock for w in ws + alone], [], [], 10)
        (again,) = [w for w in ws + alone if w.client.sock in readable]
        again.request()
        again.answer(b"done")
        for client in clients:
            self.assertEqual(self.answer(client).body, b"done")
        for w in ws + alone:
            w.close()
        self.h.wait_workers(1)

    def test_shapes_of_answers(self):
        for name, sent, expected in (
                ("no body", "HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
                ("304", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", (304, b"")),
                ("empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", (200, b"")),
                ("interim", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
                            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", (200, b"a")),
                ("chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n"
                            "Trailer: t\r\n\r\n", (200, b"abcde")),
                ("until close", "HTTP/1.0 200 OK\r\n\r\nto the end", (200, b"to the end"))):
            with self.subTest(name):
                w = self.worker1()
                client = self.ask()
                w.request()
                for i in range(0, len(sent), 7):
                    w.send(sent[i:i + 7].encode())
                if name == "until close":
                    w.close()
                a = self.answer(client)
                self.assertEqual((a.status, a.body), expected)
                w.close()
                self.h.wait_workers(0)

    def test_head(self):
        w = self.worker1()
        client = self.client(self.h)
        for _ in range(2):
            client.send(request_bytes("HEAD", "/s"))
            self.assertEqual(w.request().method, "HEAD")
            w.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
            a = client.response("HEAD")
            self.assertEqual((a.status, a.body, a.header("content-length")), (200, b"", "1234"))

    def test_a_worker_that_closes_after_its_answer(self):
        for answer in ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
                       "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
                       "HTTP/1.1 200 OK\r\nWeir-Slots: 0\r\nContent-Length: 2\r\n\r\nok"):
            with self.subTest(answer):
                w = self.worker1()
                client = self.ask()
                w.request()
                w.send(answer.encode())
                self.assertEqual(self.answer(client).body, b"ok")
                self.assertTrue(w.closed())
                self.h.wait_workers(0)

    def test_forward(self):
        first, second = self.worker1("s"), self.worker1("t")
        client = self.ask("PUT", "/s", body=b"question", headers=[("X-Keep", "1")])
        self.assertEqual(first.request().body, b"question")
        first.answer(b"state", headers=[("Weir-Forward", "t /next?x=1"), ("Content-Type", "text/state")])
        r = second.request()
        self.assertEqual((r.method, r.target, r.body, r.header("weir-hop")), ("POST", "/next?x=1", b"state", "1"))
        self.assertEqual((r.header("x-keep"), r.header("content-type"), r.header("weir-original-method")),
                         ("1", "text/state", "PUT"))
        second.answer(b"end")
        self.assertEqual(self.answer(client).body, b"end")

    # ---- bodies ----

    def test_large_bodies_both_ways(self):
        data = bytes(range(256)) * 4096 * 8  # 8 MiB
        Turned(self, self.h.attach, Handler, worker="t")
        self.h.wait_worker("t", 1)
        with Client(self.h.listen, limit=30) as client:
            self.assertEqual(client.request("POST", "/s", body=data).body, data)

    def test_chunked_upload(self):
        w = self.worker1()
        client = self.ask("POST", body=[b"abc", b"defg"])
        r = w.request()
        self.assertEqual((r.body, r.header("transfer-encoding"), r.header("content-length")),
                         (b"abcdefg", "chunked", None))
        w.answer(b"ok")
        self.assertEqual(self.answer(client).body, b"ok")

    def test_a_slow_reader_holds_the_worker_back(self):
        w = self.worker1()
        client = self.client(self.h, receive_buffer=8192)
        client.send(request_bytes("GET", "/s"))
        w.request()
        w.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        sent, quiet = 0, 0
        while quiet < 20 and sent < 100000000:
            n = w.client.send_what_fits(b"x" * 65536)
            sent += n
            quiet = 0 if n else quiet + 1
            if not n:
                time.sleep(0.01)
        self.assertLess(sent, 30000000)  # kernels' buffers and the hub's window
        self.assertGreater(sent, 0)

    def test_an_answer_before_the_body_is_in(self):
        w = self.worker1()
        client = self.client(self.h)
        client.send(b"POST /s HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc")
        w.request(body=False)
        w.answer(b"enough", "413 Too Large")
        a = self.answer(client, "POST")
        self.assertEqual((a.status, a.body), (413, b"enough"))
        self.assertTrue(w.closed())  # what was left of the body would be taken for a request
        self.h.wait_workers(0)

    # ---- cancel ----

    def test_a_client_that_leaves(self):
        w = self.worker1(worker="w")
        client = self.ask()
        w.request()
        client.close()
        self.assertTrue(w.closed())  # told by the hub's FIN
        self.h.wait_status(lambda s: s["requests"] == 0 and s["workers_list"][0]["running"] == 1)  # still busy
        w.close()
        self.h.wait_workers(0)

    def test_a_cancelled_worker_that_goes_on_is_cut(self):
        w = self.worker1(worker="w")
        client = self.ask()
        w.request()
        w.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        client.head()
        client.close()
        self.assertTrue(w.closed())

        def cut():
            try:
                w.send(b"x" * 1000)
            except OSError:
                return True
        wait_until(cut, 5, what="an error on sending")
        self.h.wait_workers(0)

    # ---- workers that break ----

    def test_a_worker_that_dies(self):
        for method, status in (("GET", 200), ("POST", 502)):
            with self.subTest(method):
                w = self.worker1()
                client = self.ask(method, body=b"abc" if method == "POST" else None)
                w.request()
                w.close()
                if status == 200:
                    other = self.worker1()
                    self.assertEqual(other.request().header("weir-attempt"), "2")
                    other.answer(b"ok")
                self.assertEqual(self.answer(client, method).status, status)
                if status == 200:
                    other.close()
                self.h.wait_workers(0)

    def test_nonsense_is_502_and_ends_the_connection(self):
        for name, sent in (
                ("garbage", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 garbage\r\n\r\n"),
                ("bare lf", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
                ("both lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok"),
                ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
                ("101", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
                ("control", b"HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 0\r\n\r\n"),
                ("request", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
                ("forward to nowhere", b"HTTP/1.1 200 OK\r\nWeir-Forward: bad name!\r\nContent-Length: 0\r\n\r\n"),
                ("huge head", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200000)):
            with self.subTest(name):
                w = self.worker1()
                client = self.ask("POST", body=b"abc")
                w.request()
                w.send(sent)
                self.assert_problem(self.answer(client, "POST"), 502, service="s")
                self.assertTrue(w.closed())
                self.h.wait_workers(0)

    def test_too_much_never_reaches_another_client(self):
        for extra in (b"more", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"):
            for at_once in (True, False):
                with self.subTest(f"{extra} {at_once}"):
                    w = self.worker1(worker="bad")
                    client = self.ask()
                    w.request()
                    good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                    if at_once:
                        w.send(good + extra)
                        self.assertEqual(self.answer(client).body, b"ok")
                    else:
                        w.send(good)
                        self.assertEqual(self.answer(client).body, b"ok")
                        w.send(extra)
                    self.assertTrue(w.closed())
                    self.h.wait_workers(0)
                    other, client = self.worker1(), self.ask()
                    other.request()
                    other.answer(b"fine")
                    self.assertEqual(self.answer(client).body, b"fine")
                    other.close()
                    self.h.wait_workers(0)

    def test_too_little_cuts_the_client(self):
        for sent in (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
                     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
                     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcdeX"):
            with self.subTest(sent):
                w = self.worker1()
                client = self.ask()
                w.request()
                w.send(sent)
                if not sent.endswith(b"X"):
                    w.close()
                with self.assertRaises(Closed):
                    self.answer(client)
                w.close()
                self.h.wait_workers(0)

    def test_bytes_before_any_job(self):
        w = self.worker1()
        w.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        self.assertTrue(w.closed())
        self.h.wait_workers(0)

    def test_a_kept_connection_closed_just_now_costs_no_attempt(self):
        """Three workers close their kept connection as a job comes: the GET has used up no attempt."""
        workers = [self.worker1() for _ in range(3)]
        clients = [self.ask() for _ in workers]
        for w in workers:
            w.request()
            w.answer(b"ok")
        for client in clients:
            self.answer(client)
        self.h.wait_idle()
        client = self.ask()

        def close_when_asked(w):
            try:
                w.request()
                w.close()
            except (AssertionError, OSError):
                pass
        threads = [threading.Thread(target=close_when_asked, args=(w,), daemon=True) for w in workers]
        for t in threads:
            t.start()
        self.h.wait_workers(0)
        last = self.worker1()
        self.assertEqual(last.request().header("weir-attempt"), "1")
        last.answer(b"at last")
        self.assertEqual(self.answer(client).body, b"at last")
        for t in threads:
            t.join(5)

    def test_a_request_that_ends_every_worker_ends(self):
        """Kept connections excuse three losses; then they count."""
        workers = [self.worker1() for _ in range(8)]
        clients = [self.ask() for _ in workers]
        for w in workers:
            w.request()
            w.answer(b"ok")
        for client in clients:
            self.answer(client)
        self.h.wait_idle()
        for w in workers:
            threading.Thread(target=lambda w=w: (w.client.more(), w.close()), daemon=True).start()
        self.assertEqual(self.answer(self.ask()).status, 502)
        self.h.wait_workers(2)  # 3 excused and 3 attempts

    def test_drain_waits_for_a_running_job(self):
        w = self.worker1()
        client = self.ask()
        w.request()
        self.h.signal(15)
        wait_until(lambda: "draining" in self.h.stderr(), 5)
        w.answer(b"done")
        self.assertEqual(self.answer(client).body, b"done")
        self.assertTrue(w.closed())
        self.h.ended = True
        self.assertEqual(self.h.wait(10), 0)


class Silent(Case):
    def start_hub(self, *flags):
        h = self.hub("--workers-silent", "127.0.0.1:0=quiet", *flags)
        line = next(line for line in open(h.ports_file) if line.startswith("workers-silent="))
        host, port = re.fullmatch(r"workers-silent=(.*):(\d+)=quiet\n", line).groups()
        return h, (host, int(port))

    def test_a_connection_is_a_slot(self):
        h, silent = self.start_hub()
        for _ in range(3):
            H1Worker(self, silent, None)
        h.wait_worker("127.0.0.1", 3)
        h.wait_workers(1)

    def test_the_service_is_known_before_a_worker_comes(self):
        h, silent = self.start_hub()
        client = self.client(h)
        client.send(request_bytes("GET", "/quiet/x"))
        h.wait_queued(1)
        w = H1Worker(self, silent, None)
        self.assertEqual(w.request().target, "/quiet/x")
        w.answer(b"here")
        self.assertEqual(client.response("GET").body, b"here")

    def test_one_request_per_connection(self):
        """It closes after each answer and does not say so beforehand: 1,000 requests without a failure."""
        h, silent = self.start_hub()
        Turned(self, silent, OnceHandler, service=None, slots=8)
        h.wait_worker("127.0.0.1", 8)
        out = subprocess.run(["ab", "-q", "-n", "1000", "-c", "8", h.url + "/quiet"], capture_output=True, text=True,
                             timeout=100).stdout
        self.assertRegex(out, r"Complete requests:\s+1000\b")
        self.assertRegex(out, r"Failed requests:\s+0\b")
        self.assertNotIn("Non-2xx", out)
        h.wait_idle()

    def test_bad_configuration(self):
        p = subprocess.run([weir_binary(), "hub", "--workers-silent", "127.0.0.1:0"], capture_output=True, text=True)
        self.assertEqual(p.returncode, 2)
        self.assertIn("ADDR=SERVICE", p.stderr)


if __name__ == "__main__":
    main()
