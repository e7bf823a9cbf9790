#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Workers that break the protocol: the client hears 502 or another worker answers, and the hub lives on."""

import random
import time

from weirtest import Case, Client, FakeWorker, Handshake, main, request_bytes, scaled, wait_until
from weirtest import h2


class Handshakes(Case):
    def setUp(self):
        super().setUp()
        self.h = self.hub("--head-timeout", "500ms")

    def refused(self, data, status):
        client = self.client(self.h.attach)
        client.send(data)
        r = client.response()
        self.assertIn(r.status, status if isinstance(status, tuple) else (status,), r)
        self.assert_problem(r, r.status)
        client.assert_closed()
        return r

    def test_accepted(self):
        client = self.client(self.h.attach)
        client.send(Handshake("s").bytes())
        r = client.head()
        self.assertEqual((r.status, r.header("upgrade").lower()), (101, "ptth"))
        self.assertIn("upgrade", r.header("connection").lower())
        self.assertEqual(client.take(24), h2.PREFACE)

    def test_weir_service_names_several(self):
        hello = Handshake("ignored.example")
        hello.headers.append(("Weir-Service", "a,b, c"))
        client = self.client(self.h.attach)
        client.send(hello.bytes() + h2.frame(h2.SETTINGS, 0, 0, b"\0\3\0\0\0\2"))
        self.assertEqual(client.head().status, 101)
        s = self.h.wait_worker("fake", 2)
        self.assertEqual(sorted(s["workers_list"][0]["services"]), ["a", "b", "c"])

    def test_byte_by_byte(self):
        client = self.client(self.h.attach)
        client.send_slowly(Handshake("s").bytes(), 0.0005)
        self.assertEqual(client.head().status, 101)

    def test_wrong(self):
        good = Handshake("s").bytes()
        cases = [
            ("another path", good.replace(b"/.well-known/ptth/", b"/.well-known/other/"), 404),
            ("root", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 404),
            ("not GET", good.replace(b"GET ", b"POST "), (400, 405)),
            ("no Upgrade", Handshake("s").without("Upgrade").bytes(), (400, 426)),
            ("other upgrade", good.replace(b"Upgrade: ptth", b"Upgrade: websocket"), 400),
            ("no Connection", Handshake("s").without("Connection").bytes(), (400, 426)),
            ("unknown ALPN", good.replace(b"ALPN: h2", b"ALPN: h9"), 400),
            ("no origin", good.replace(b"http%3A%2F%2Fs", b""), (400, 404)),
            ("origin without scheme", good.replace(b"http%3A%2F%2Fs", b"s"), 400),
            ("bad escapes", good.replace(b"http%3A%2F%2Fs", b"http%3A%2F%2"), 400),
            ("bad service name", good.replace(b"%2Fs/", b"%2Fa%20b/"), 400),
            ("NUL in the service name", good.replace(b"%2Fs/", b"%2Fa%00b/"), 400),
            ("HTTP/1.0", good.replace(b"HTTP/1.1", b"HTTP/1.0"), (400, 505)),
            ("no Host", Handshake("s").without("Host").bytes(), 400),
            ("bare LF", good.replace(b"\r\n", b"\n"), 400),
            ("not HTTP", b"hello\r\n\r\n", (400, 501)),
            ("endless head", good[:-2] + b"X: " + b"a" * 100000, (400, 431)),
        ]
        for name, data, status in cases:
            with self.subTest(name):
                self.refused(data, status)
        self.assertEqual(self.h.status()["workers"], 0)
        self.assertEqual(self.h.status()["services"], [])

    def test_bad_names_in_weir_service(self):
        for names in ("a b", "a,,b/c", "x" * 300, "\xe9"):
            with self.subTest(names):
                hello = Handshake("s")
                hello.headers.append(("Weir-Service", names))
                self.refused(hello.bytes(), 400)

    def test_silence_is_cut_off(self):
        clients = [self.client(self.h.attach) for _ in range(20)]
        for i, client in enumerate(clients):
            client.send(b"GET /.well-known/ptth/" if i % 2 else b"")
        begin = time.monotonic()
        for client in clients:
            data = client.rest()
            self.assertTrue(not data or data.startswith(b"HTTP/1.1 408 "), data)
        self.assertLess(time.monotonic() - begin, scaled(4))

    def test_token(self):
        h = self.hub("--token", "me=secret")
        for given in (None, "Bearer wrong", "Basic secret", "Bearer secrets", "Bearer secre", "Bearer "):
            with self.subTest(given):
                hello = Handshake("s")
                if given is not None:
                    hello.headers.append(("Authorization", given))
                client = self.client(h.attach)
                client.send(hello.bytes())
                r = client.response()
                self.assertIn(r.status, (401, 403) if given else (401,))
                self.assert_problem(r, r.status)
        hello = Handshake("s")
        hello.headers.append(("Authorization", "Bearer secret"))
        client = self.client(h.attach)
        client.send(hello.bytes())
        self.assertEqual(client.head().status, 101)


class Misbehaving(Case):
    """Each test plays one worker of service "s" that has (or has not) taken a job."""

    def setUp(self):
        super().setUp()
        self.h = self.hub("--heartbeat", "300ms", "--head-timeout", "1s")

    def fake(self, slots=1, **kwargs):
        fake = FakeWorker(self, self.h, "s", slots, **kwargs)
        if slots:
            self.h.wait_worker(kwargs.get("worker", "fake"), slots)
        return fake

    def with_job(self, method="POST", **kwargs):
        """A fake worker that has got a request, its stream, and the client who waits for it."""
        fake = self.fake(**kwargs)
        client = self.client(self.h)
        client.send(request_bytes(method, "/s", [], b"body" if method == "POST" else None))
        return fake, fake.wait_request(), client

    def still_fine(self):
        self.h.wait_idle()
        self.worker(self.h, offer=["hello"])
        self.assertEqual(self.get(self.h, "/hello").text, "hello")

    def test_a_good_one(self):
        """The tool itself: this worker does everything right."""
        fake, stream, client = self.with_job()
        fake.headers(stream, 201, [("content-type", "x/y"), ("x-a", "1"), ("x-a", "2")])
        fake.data(stream, b"abc")
        fake.data(stream, b"def", end=True)
        r = client.response()
        self.assertEqual((r.status, r.text, r.all("x-a")), (201, "abcdef", ["1", "2"]))
        for i in range(3):
            client.send(request_bytes("GET", "/s"))
            fake.answer(fake.wait_request(), 200, b"%d" % i, [("content-length", "1")])
            self.assertEqual(client.response().text, str(i))
        self.still_fine()

    def test_hop_by_hop_fields_are_kept_from_the_client(self):
        """They are malformed in HTTP/2 (RFC 9113 8.2.2): dropped, or a 502, but never passed on."""
        for name, value in (("connection", "close"), ("keep-alive", "timeout=5"),
                            ("transfer-encoding", "chunked"), ("upgrade", "x"),
                            ("proxy-connection", "close")):
            with self.subTest(name):
                fake, stream, client = self.with_job()
                fake.headers(stream, 200, [(name, value)])
                fake.data(stream, b"ok", end=True)
                r = client.response()
                self.assertIn(r.status, (200, 502))
                if name != "transfer-encoding" and name != "connection":
                    self.assertIsNone(r.header(name))
                fake.close()
                self.h.wait_workers(0)

    def test_bad_answers_are_502(self):
        heads = [
            ("no status", [("x-a", "1")]),
            ("status is no number", [(":status", "abc")]),
            ("status 0", [(":status", "000")]),
            ("status of four digits", [(":status", "2000")]),
            ("status 99", [(":status", "99")]),
            ("two statuses", [(":status", "200"), (":status", "200")]),
            ("status after a field", [("x-a", "1"), (":status", "200")]),
            ("unknown pseudo-field", [(":status", "200"), (":evil", "1")]),
            ("request's pseudo-field", [(":status", "200"), (":path", "/")]),
            ("upper case in a name", [(":status", "200"), ("X-A", "1")]),
            ("space in a name", [(":status", "200"), ("x a", "1")]),
            ("colon in a name", [(":status", "200"), ("x:a", "1")]),
            ("empty name", [(":status", "200"), ("", "1")]),
            ("CR LF in a value", [(":status", "200"), ("x-a", "1\r\nset-cookie: evil=1")]),
            ("LF in a value", [(":status", "200"), ("x-a", "1\nevil: 1")]),
            ("NUL in a value", [(":status", "200"), ("x-a", "1\0")]),
            ("two content-lengths", [(":status", "200"), ("content-length", "2"), ("content-length", "3")]),
            ("content-length is no number", [(":status", "200"), ("content-length", "2x")]),
            ("negative content-length", [(":status", "200"), ("content-length", "-2")]),
            ("300 fields", [(":status", "200")] + [(f"x-{i}", "1") for i in range(300)]),
            ("bad name of a service to forward to", [(":status", "200"), ("weir-forward", "a b c")]),
        ]
        for name, fields in heads:
            with self.subTest(name):
                fake, stream, client = self.with_job()
                fake.frame(h2.HEADERS, h2.END_HEADERS, stream, h2.header_block(fields))
                fake.data(stream, b"ok", end=True)
                self.assert_problem(client.response(), 502)
                self.assertNotIn(b"evil", client.data)
                fake.close()
                self.h.wait_workers(0)
        self.still_fine()

    def test_content_length_mismatch(self):
        for length, body in (("5", b"abc"), ("2", b"abc"), ("1", b"")):
            with self.subTest(f"{length} for {body}"):
                fake, stream, client = self.with_job()
                fake.headers(stream, 200, [("content-length", length)])
                fake.data(stream, body, end=True)
                data = client.rest() if not self.whole(client) else self.fail("passed off as a whole answer")
                self.assertTrue(data is not None)
                fake.close()
                self.h.wait_workers(0)
        self.still_fine()

    def whole(self, client):
        """The client took it for a whole 200."""
        try:
            return client.response().status == 200
        except AssertionError:
            return False

    def test_trailers_are_dropped(self):
        fake, stream, client = self.with_job()
        fake.headers(stream, 200, [("content-type", "a/b")])
        fake.data(stream, b"abc")
        fake.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, stream, h2.header_block([("x-trailer", "1")]))
        r = client.response()
        self.assertEqual((r.status, r.text), (200, "abc"))
        self.assertIsNone(r.header("x-trailer"))
        client.send(request_bytes("GET", "/s"))
        fake.answer(fake.wait_request())
        self.assertEqual(client.response().text, "ok")

    def test_interim_responses(self):
        fake, stream, client = self.with_job()
        fake.headers(stream, 103, [("link", "</x>; rel=preload")])
        fake.answer(stream, 200, b"after")
        r = client.response()  # the client helper skips 1xx
        self.assertEqual((r.status, r.text), (200, "after"))

    def test_a_late_end_of_a_bodyless_answer(self):
        """The stream of an answer to HEAD, or of 204, ends in a frame of its own: it is done, not cancelled."""
        done = self.h.metrics().value("weir_requests_done_total")
        for method, status in (("HEAD", 200), ("GET", 204)):
            with self.subTest(f"{method} {status}"):
                fake, stream, client = self.with_job(method)
                fake.headers(stream, status)
                self.assertEqual(client.response(method).status, status)
                fake.data(stream, b"", end=True)
                done += 1
                wait_until(lambda: self.h.metrics().value("weir_requests_done_total") == done, 5, "it is done")
                fake.close()
                self.h.wait_workers(0)
        self.assertEqual(self.h.metrics().value("weir_http_clients_left_total"), 0)

    def test_body_for_head_and_204(self):
        for method, status in (("HEAD", 200), ("GET", 204), ("GET", 304)):
            with self.subTest(f"{method} {status}"):
                fake, stream, client = self.with_job(method)
                fake.answer(stream, status, b"must not appear")
                try:
                    r = client.response(method)
                    self.assertIn(r.status, (status, 502))
                    self.assertNotIn(b"must not appear", r.body + client.data)
                except (AssertionError, OSError):
                    self.assertNotIn(b"must not appear", client.data)
                fake.close()
                self.h.wait_workers(0)

    def test_breaks_of_the_frame_protocol(self):
        """A connection error: the connection goes, the job follows the retry rule."""
        cases = [
            ("garbage", lambda f, s: f.send(bytes(random.Random(1).randbytes(3000)))),
            ("HTTP/1.1 answer", lambda f, s: f.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" * 20)),
            ("frame over the size limit", lambda f, s: f.frame(h2.DATA, 0, s, b"x" * 20000)),
            ("huge frame length", lambda f, s: f.send(b"\xff\xff\xff\0\0\0\0\0\1" + b"x" * 1000)),
            ("DATA on stream 0", lambda f, s: f.frame(h2.DATA, 0, 0, b"x")),
            ("HEADERS on stream 0", lambda f, s: f.headers(0, 200)),
            ("HEADERS on an idle stream", lambda f, s: f.headers(s + 100, 200)),
            ("HEADERS on an even stream", lambda f, s: f.headers(2, 200)),
            ("broken HPACK", lambda f, s: f.frame(h2.HEADERS, h2.END_HEADERS, s, b"\xff" * 7)),
            ("HPACK index out of range",
             lambda f, s: f.frame(h2.HEADERS, h2.END_HEADERS, s, b"\xbf\x80\x7f")),
            ("SETTINGS of odd size", lambda f, s: f.frame(h2.SETTINGS, 0, 0, b"12345")),
            ("SETTINGS ACK with a payload", lambda f, s: f.frame(h2.SETTINGS, 1, 0, b"123456")),
            ("SETTINGS on a stream", lambda f, s: f.frame(h2.SETTINGS, 0, s, b"")),
            ("bad SETTINGS value", lambda f, s: f.settings([(h2.INITIAL_WINDOW_SIZE, 0xffffffff)])),
            ("PING of odd size", lambda f, s: f.frame(h2.PING, 0, 0, b"1234567")),
            ("WINDOW_UPDATE of odd size", lambda f, s: f.frame(h2.WINDOW_UPDATE, 0, 0, b"123")),
            ("WINDOW_UPDATE of 0", lambda f, s: f.frame(h2.WINDOW_UPDATE, 0, 0, b"\0\0\0\0")),
            ("window over 2^31", lambda f, s: f.frame(h2.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff")),
            ("RST_STREAM of odd size", lambda f, s: f.frame(h2.RST_STREAM, 0, s, b"123")),
            ("RST_STREAM on an idle stream", lambda f, s: f.reset(s + 100)),
            ("PUSH_PROMISE", lambda f, s: f.frame(h2.PUSH_PROMISE, h2.END_HEADERS, s, b"\0\0\0\2")),
            ("lone CONTINUATION", lambda f, s: f.frame(h2.CONTINUATION, h2.END_HEADERS, s, b"")),
            ("HEADERS interrupted",
             lambda f, s: [f.headers(s, 200, flags=0), f.frame(h2.PING, 0, 0, b"12345678")]),
            ("a client preface", lambda f, s: f.send(h2.PREFACE)),
            ("GOAWAY of odd size", lambda f, s: f.frame(h2.GOAWAY, 0, 0, b"123")),
            ("closing", lambda f, s: f.close()),
            ("DATA past the hub's window", lambda f, s: [f.headers(s, 200)] +
                [f.frame(h2.DATA, 0, s, b"x" * 16384) for _ in range(2000)]),
        ]
        for name, action in cases:
            with self.subTest(name):
                fake, stream, client = self.with_job()
                try:
                    action(fake, stream)
                except OSError:
                    pass  # closed while we wrote
                if name == "DATA past the hub's window":
                    client.close()  # it may be a slow reader's fault alone; what counts is the hub's memory
                else:
                    self.assert_problem(client.response(), 502)
                try:
                    # past a stream's window only that stream is reset (RFC 9113, 6.9.1)
                    fake.wait_closed() if name not in ("closing", "DATA past the hub's window") else None
                except OSError:
                    pass
                self.h.wait_workers(0)
        self.still_fine()

    def test_garbage_in_place_of_the_first_settings(self):
        for garbage in (b"\0" * 64, b"HTTP/1.1 200 OK\r\n\r\n", bytes(range(200)),
                        h2.frame(h2.PING, 0, 0, b"x" * 8), h2.frame(h2.DATA, 0, 1, b"x")):
            with self.subTest(garbage):
                fake = FakeWorker(self, self.h, "s", slots=None)
                fake.send(garbage)
                fake.wait_closed()
        self.h.wait_workers(0)
        self.still_fine()

    def test_connects_and_says_nothing_more(self):
        fake = FakeWorker(self, self.h, "s", slots=None)
        client = self.client(self.h)
        client.send(request_bytes("GET", "/s"))  # the service exists, but nobody has told of a slot
        self.h.wait_queued(1)
        self.h.wait_workers(0, scaled(5))  # no answer to PING or to SETTINGS: gone
        self.worker(self.h, offer=["s=hello"])
        self.assertEqual(client.response().text, "hello")
        fake.close()

    def test_settings_0_means_no_job_now(self):
        fake = self.fake(slots=1)
        fake.settings([(h2.MAX_CONCURRENT_STREAMS, 0)])
        self.h.wait_status(lambda s: s["slots"] == 0, what="no slots")
        client = self.client(self.h)
        client.send(request_bytes("GET", "/s"))
        self.h.wait_queued(1)
        fake.pump(0.05)
        self.assertEqual([f for f in fake.seen if f[0] == h2.HEADERS], [])
        fake.settings([(h2.MAX_CONCURRENT_STREAMS, 1)])
        fake.answer(fake.wait_request())
        self.assertEqual(client.response().text, "ok")

    def test_fewer_slots_than_running_jobs(self):
        fake = self.fake(slots=3)
        clients = [self.client(self.h) for _ in range(4)]
        for client in clients:
            client.send(request_bytes("GET", "/s"))
        streams = [fake.wait_request() for _ in range(3)]
        fake.settings([(h2.MAX_CONCURRENT_STREAMS, 1)])
        self.h.wait_status(lambda s: s["slots"] == 1, what="one slot")
        fake.answer(streams[0])
        self.assertEqual(clients[0].response().status, 200)
        fake.pump(0.05)
        self.assertEqual(self.h.status()["queued"], 1)
        for stream in streams[1:]:
            fake.answer(stream)
        fake.answer(fake.wait_request())
        for client in clients[1:]:
            self.assertEqual(client.response().status, 200)

    def test_never_answers(self):
        fake, stream, _ = self.with_job()
        client = self.client(self.h)
        client.send(request_bytes("GET", "/s", [("Weir-Timeout", "300ms")]))
        self.h.wait_queued(1)
        while client.data == b"" and not client.closed():
            fake.pump(0.05)  # the heartbeat is answered: only the job is not
        self.assert_problem(client.response(), 504)
        fake.reset(stream)
        self.h.wait_idle()

    def test_cancel_that_the_worker_ignores_keeps_its_slot_busy(self):
        fake, stream, client = self.with_job()
        client.close()
        fake.wait_frame(h2.RST_STREAM, stream)
        second = self.client(self.h)
        second.send(request_bytes("GET", "/s"))
        fake.answer(fake.wait_request())  # RST_STREAM ends a stream for both sides
        self.assertEqual(second.response().status, 200)

    def test_answers_after_a_cancel_are_dropped(self):
        fake, stream, client = self.with_job()
        client.close()
        fake.wait_frame(h2.RST_STREAM, stream)
        fake.answer(stream, 200, b"too late")
        second = self.client(self.h)
        second.send(request_bytes("GET", "/s"))
        fake.answer(fake.wait_request(), 200, b"in time")
        self.assertEqual(second.response().text, "in time")
        self.still_fine()

    def test_answers_after_its_own_reset(self):
        fake, stream, client = self.with_job()
        fake.reset(stream, h2.CANCEL)
        fake.answer(stream, 200, b"after all")
        self.assert_problem(client.response(), 502)
        fake.close()
        self.still_fine()

    def test_answers_twice(self):
        fake, stream, client = self.with_job()
        fake.answer(stream, 200, b"one")
        self.assertEqual(client.response().text, "one")
        fake.answer(stream, 200, b"two")
        client.send(request_bytes("GET", "/s"))
        try:
            fake.answer(fake.wait_request(), 200, b"three")
            self.assertEqual(client.response().text, "three")
        except (AssertionError, OSError):  # or the hub has dropped this worker
            self.h.wait_workers(0)
            self.worker(self.h, offer=["s=hello"])
            self.assertEqual(client.response().text, "hello")

    def test_resets_of_each_code(self):
        for code in range(0, 16):
            with self.subTest(code):
                fake, stream, client = self.with_job()
                fake.reset(stream, code)
                if code == h2.REFUSED_STREAM:  # handed back: it comes again, even a POST
                    stream = fake.wait_request()
                    fake.answer(stream)
                    self.assertEqual(client.response().status, 200)
                else:
                    self.assert_problem(client.response(), 502)
                fake.close()
                self.h.wait_workers(0)
        self.still_fine()

    def test_reset_within_an_answer_cuts_the_client(self):
        fake, stream, client = self.with_job("GET")
        fake.headers(stream, 200)
        fake.data(stream, b"half")
        r = client.head()
        self.assertEqual(next(client.pieces(r)), b"half")
        fake.reset(stream, h2.CANCEL)
        rest = client.rest()
        self.assertNotIn(b"\r\n0\r\n", b"\r\n" + rest)

    def test_goaway_drains(self):
        fake, stream, client = self.with_job()
        fake.frame(h2.GOAWAY, 0, 0, stream.to_bytes(4, "big") + bytes(4))
        self.h.wait_status(lambda s: all(w["draining"] for w in s["workers_list"]), what="draining")
        second = self.client(self.h)
        second.send(request_bytes("GET", "/s"))
        self.h.wait_queued(1)
        fake.answer(stream, 200, b"the last")
        self.assertEqual(client.response().text, "the last")
        self.worker(self.h, offer=["s=hello"])
        self.assertEqual(second.response().text, "hello")

    def test_goaway_before_a_job_hands_it_back(self):
        fake, stream, client = self.with_job()
        fake.frame(h2.GOAWAY, 0, 0, bytes(8))  # last stream 0: this one was not touched
        self.worker(self.h, offer=["s=hello"])
        self.assertEqual(client.response().text, "hello")

    def test_endless_head(self):
        fake, stream, client = self.with_job()
        try:
            fake.headers(stream, 200, [("x-a", "a" * 10000)], flags=0)
            for _ in range(5000):
                fake.frame(h2.CONTINUATION, 0, stream, h2.header_block([("x-a", "a" * 16000)]))
        except OSError:
            pass
        self.assert_problem(client.response(), 502)
        self.assertLess(self.h.rss(), 64 << 20)
        self.h.wait_workers(0)

    def test_floods(self):
        """Frames without end: answered, or the worker is dropped; the hub stays small."""
        for name, one in (("PING", h2.frame(h2.PING, 0, 0, b"12345678")),
                          ("SETTINGS", h2.frame(h2.SETTINGS, 0, 0)),
                          ("WINDOW_UPDATE", h2.frame(h2.WINDOW_UPDATE, 0, 0, b"\0\0\0\1")),
                          ("PRIORITY", h2.frame(h2.PRIORITY, 0, 1, b"\0\0\0\0\1")),
                          ("unknown kind", h2.frame(0x77, 0, 0, b"x" * 10))):
            with self.subTest(name):
                fake = self.fake()
                try:
                    for _ in range(200):
                        fake.send(one * 1000)
                except OSError:
                    pass  # we never read: either side may give up
                self.assertEqual(self.h.admin_get("/healthz").status, 200)
                self.assertLess(self.h.rss(), 64 << 20)
                fake.close()
                self.h.wait_workers(0)
        self.still_fine()

    def test_random_frames(self):
        chance = random.Random(11)
        for _ in range(60):
            fake, stream, client = self.with_job()
            data = b"".join(h2.frame(chance.randrange(12), chance.randrange(256),
                                     chance.choice((0, stream, 2, 7)), chance.randbytes(chance.randrange(40)))
                            for _ in range(chance.randrange(1, 6)))
            try:
                fake.send(data)
                fake.close()
                client.rest() if self.whole(client) else None
            except (AssertionError, OSError):
                pass
            client.close()
            self.h.wait_workers(0)
        self.still_fine()

    def test_two_workers_with_one_id(self):
        one, two = self.fake(), FakeWorker(self, self.h, "s", 1)
        clients = [self.client(self.h) for _ in range(2)]
        for client in clients:
            client.send(request_bytes("GET", "/s"))
        one.answer(one.wait_request())
        two.answer(two.wait_request())
        for client in clients:
            self.assertEqual(client.response().status, 200)

    def test_get_goes_on_to_a_good_worker(self):
        """The retry rule holds for connections that broke: the client of a GET does not notice."""
        fake, stream, client = self.with_job("GET")
        self.worker(self.h, offer=["s=hello"])
        fake.send(b"\0" * 100)
        self.assertEqual(client.response().text, "hello")


class OldTransport(Case):
    def test_http11_workers_are_served(self):
        """ALPN http/1.1 (or none) is the other reverse transport."""
        h = self.hub()
        for alpn in (None, "http%2F1.1"):
            with self.subTest(alpn):
                client = self.client(h.attach)
                client.send(Handshake("s", alpn=alpn).bytes())
                r = client.head()
                self.assertEqual(r.status, 101)
        with Client(h.listen) as client:
            self.assertIn(client.request("GET", "/nosuch").status, (404,))


if __name__ == "__main__":
    main()
