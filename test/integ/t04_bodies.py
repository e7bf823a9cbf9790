#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bodies: both framings both ways, backpressure, 100-continue, early answers, statuses without a body."""

import os
import random
import subprocess
import threading
import unittest
import zlib

from weirtest import Case, Closed, FakeWorker, main, request_bytes, sanitized, slow, source_blocks, wait_until

MIB = 1 << 20


def in_background(function, *args):
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread


class Bodies(Case):
    def setUp(self):
        super().setUp()
        self.h = self.hub()
        self.worker(self.h, slots=2)

    def random_bytes(self, n):
        return random.Random(n).randbytes(n)

    def both_ways(self, body, raw):
        """POST /echo with a request in bytes; sends and reads at the same time."""
        client = self.client(self.h)
        sender = in_background(client.send, raw)
        r = client.response()
        sender.join()
        self.assertEqual(r.status, 200)
        self.assertTrue(r.body == body, f"{len(r.body)} bytes differ from the {len(body)} that were sent")
        return client

    def test_sizes_with_length(self):
        for n in (0, 1, 2, 4095, 16384, 65535, 65536, 65537, 262144, MIB, MIB + 1, 3 * MIB):
            with self.subTest(n):
                body = self.random_bytes(n)
                self.both_ways(body, request_bytes("POST", "/echo", [], body))

    def test_chunked(self):
        body = self.random_bytes(MIB)
        for size in (1000, 16384, 65536, MIB):
            with self.subTest(size):
                pieces = [body[i:i + size] for i in range(0, MIB, size)]
                client = self.both_ways(body, request_bytes("POST", "/echo", [], pieces))
                self.assertEqual(client.request("GET", "/hello").text, "hello")
        body = body[:3000]
        self.both_ways(body, request_bytes("POST", "/echo", [], [body[i:i + 1] for i in range(3000)]))

    def test_chunks_cut_anywhere(self):
        chance = random.Random(3)
        raw = request_bytes("POST", "/echo", [], [b"a" * 10, b"b" * 300, b"c"])
        for _ in range(60):
            client = self.client(self.h)
            a, b = sorted(chance.sample(range(1, len(raw)), 2))
            for piece in (raw[:a], raw[a:b], raw[b:]):
                client.send(piece)
                self.h.admin_get("/healthz")
            self.assertEqual(client.response().body, b"a" * 10 + b"b" * 300 + b"c")
            client.close()

    def test_download(self):
        for n in (0, 1, 65536, 5 * MIB + 3):
            with self.subTest(n):
                r = self.get(self.h, f"/source?bytes={n}")
                self.assertTrue(r.body == b"".join(source_blocks(n)))

    def test_upload(self):
        body = self.random_bytes(5 * MIB + 1)
        r = self.get(self.h, "/sink", method="POST", body=body)
        self.assertEqual(r.text, f"{len(body)} {zlib.adler32(body)}")
        r = self.get(self.h, "/sink", method="PUT", body=[body[:MIB], body[MIB:]])
        self.assertEqual(r.text, f"{len(body)} {zlib.adler32(body)}")

    def test_pieces_pass_as_they_come(self):
        """A stream is not gathered: each piece is there before the next one is made."""
        client = self.client(self.h)
        client.send(request_bytes("GET", "/drip?n=3&size=5&ms=60000"))
        r = client.head()
        self.assertEqual(r.framing, "chunked")
        self.assertEqual(next(client.pieces(r)), b"aaaaa")  # the second one would take a minute

    def test_request_pieces_pass_as_they_come(self):
        client = self.client(self.h)
        client.send(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabc")
        r = client.head()
        pieces, got = client.pieces(r), b""
        while len(got) < 3:
            got += next(pieces)
        self.assertEqual(got, b"abc")
        client.send(b"def")
        self.assertEqual(b"".join(pieces), b"def")

    def test_trailers_are_dropped(self):
        client = self.client(self.h)
        client.send(b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
                    b"3\r\nabc\r\n0\r\nX-T: evil\r\nContent-Length: 7\r\nHost: evil\r\n\r\n")
        r = client.response()
        self.assertEqual(r.text, "abc")
        self.assertNotIn("evil", str(r.headers))
        self.assertEqual(client.request("GET", "/hello").text, "hello")

    def test_early_answer(self):
        """The worker answers before it has read the body: the client hears it while it still sends."""
        client = self.client(self.h)
        client.send(b"POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 1000)
        r = client.response()
        self.assertEqual(r.status, 413)
        self.assertIn("too much for early", r.text)
        self.h.wait_idle()
        self.assertEqual(self.get(self.h, "/hello").text, "hello")  # the slot is free

    def test_early_answer_to_a_small_body_keeps_the_connection_in_step(self):
        client = self.client(self.h)
        for _ in range(20):
            r = client.request("POST", "/early", body=b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n" * 5)
            self.assertEqual(r.status, 413)
            if r.closes:
                client.assert_closed()
                client = self.client(self.h)

    def test_body_that_nobody_reads(self):
        client = self.client(self.h)
        r = client.request("POST", "/hello", body=b"x" * 10000)
        self.assertEqual(r.text, "hello")
        if not r.closes:
            self.assertEqual(client.request("GET", "/hello").text, "hello")

    def test_statuses_without_a_body(self):
        client = self.client(self.h)
        for code in (204, 304):
            with self.subTest(code):
                r = client.request("GET", f"/status?code={code}&set=yes")
                self.assertEqual((r.status, r.body, r.header("x-set")), (code, b"", "yes"))
                self.assertEqual(client.request("GET", "/hello").text, "hello")

    def test_head_of_a_stream(self):
        client = self.client(self.h)
        r = client.request("HEAD", "/source?bytes=100000")
        self.assertEqual((r.status, r.body), (200, b""))
        self.assertEqual(client.request("GET", "/hello").text, "hello")
        self.h.wait_idle()

    def test_statuses(self):
        client = self.client(self.h)
        for code in (200, 201, 202, 206, 301, 303, 307, 400, 401, 404, 409, 418, 429, 451, 500, 503, 599):
            with self.subTest(code):
                r = client.request("GET", f"/status?code={code}&body=text")
                self.assertEqual((r.status, r.text), (code, "text"))

    def test_empty_200_has_a_length(self):
        r = self.get(self.h, "/status?code=200")
        self.assertEqual((r.status, r.body), (200, b""))
        self.assertNotEqual(r.framing, "close")

    def test_set_cookie_is_never_joined(self):
        r = self.get(self.h, "/status?cookies=5")
        self.assertEqual(r.all("set-cookie"), [f"c{i}=v{i}; Path=/" for i in range(5)])

    def test_worker_that_fails_within_its_answer(self):
        client = self.client(self.h)
        client.send(request_bytes("GET", "/cut"))
        with self.assertRaises(Closed):
            client.response()

    def test_curl_both_ways(self):
        path = self.directory + "/body"
        with open(path, "wb") as f:
            f.write(self.random_bytes(4 * MIB))
        for flags in (["-H", "Transfer-Encoding: chunked"], [], ["--http1.0"]):
            with self.subTest(flags):
                argv = ["curl", "-sS", "--data-binary", "@" + path, *flags, self.h.url + "/echo"]
                out = subprocess.run(argv, capture_output=True, timeout=30)
                self.assertEqual(out.stderr, b"")
                self.assertTrue(out.stdout == open(path, "rb").read())


class Continue(Case):
    head = b"POST /sink HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"

    def test_sent_when_a_worker_has_taken_the_job(self):
        h = self.hub()
        self.worker(h)
        client = self.client(h)
        client.send(self.head)
        self.assertEqual(client.response(interim=True).status, 100)
        client.send(b"hello")
        r = client.response()
        self.assertEqual((r.status, r.text.split()[0]), (200, "5"))
        self.assertEqual(client.request("GET", "/hello").text, "hello")

    def test_not_before(self):
        h = self.hub()
        self.worker(h)
        busy = self.client(h)
        busy.send(request_bytes("GET", "/sleep?ms=60000"))
        h.wait_running(1)
        client = self.client(h)
        client.send(self.head)
        h.wait_queued(1)
        self.assertFalse(client.closed())
        self.assertEqual(client.data, b"")  # the upload waits for a worker, not in memory
        busy.close()
        self.assertEqual(client.response(interim=True).status, 100)
        client.send(b"hello")
        self.assertEqual(client.response().status, 200)

    def test_refused_without_100(self):
        h = self.hub("--max-body", "100")
        self.worker(h)
        for raw, status in ((self.head.replace(b": 5", b": 500"), 413),
                            (self.head.replace(b"/sink", b"/nosuch"), 404)):
            client = self.client(h)
            client.send(raw)
            self.assert_problem(client.response(interim=True), status)

    def test_early_answer_without_100_needed(self):
        h = self.hub()
        self.worker(h)
        client = self.client(h)
        client.send(self.head.replace(b"/sink", b"/early"))
        self.assertEqual(client.response().status, 413)

    def test_body_that_does_not_wait(self):
        h = self.hub()
        self.worker(h)
        client = self.client(h)
        client.send(self.head + b"hello" + request_bytes("GET", "/hello"))
        self.assertEqual(client.response().text.split()[0], "5")  # with or without a 100 before
        self.assertEqual(client.response().text, "hello")

    def test_http10_gets_none(self):
        h = self.hub()
        self.worker(h)
        client = self.client(h)
        client.send(self.head.replace(b"HTTP/1.1", b"HTTP/1.0") + b"hello")
        self.assertEqual(client.response(interim=True).status, 200)

    def test_only_one_100_when_the_job_is_retried(self):
        h = self.hub()
        first = self.worker(h, offer=["sink"])
        client = self.client(h)
        client.send(self.head.replace(b"POST", b"PUT"))
        self.assertEqual(client.response(interim=True).status, 100)
        wait_until(lambda: self.logged("started"), 5)
        first.kill()
        self.worker(h, offer=["sink"])
        client.send(b"hello")
        r = client.response(interim=True)
        self.assertEqual((r.status, r.text.split()[0]), (200, "5"))


@unittest.skipIf(sanitized, "memory bounds mean nothing under a sanitizer")
class Huge(Case):
    """1 GB through one worker must not pass through the hub's memory."""
    size = 1 << 30
    bound = 32 * MIB

    def setUp(self):
        super().setUp()
        self.h = self.hub()
        self.worker(self.h, address=None)
        self.get(self.h, "/hello")
        self.idle = self.h.rss()

    def check_memory(self):
        peak = self.h.memory("VmHWM") - self.idle
        self.assertLess(peak, self.bound, f"peak is {peak / MIB:.1f} MiB over idle")

    @slow(120)
    def test_upload(self):
        client = self.client(self.h, limit=60)
        client.send(b"POST /sink HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % self.size)
        total = 1
        for block in source_blocks(self.size):
            total = zlib.adler32(block, total)
            client.send(block)
        self.assertEqual(client.response().text, f"{self.size} {total}")
        self.check_memory()

    @slow(120)
    def test_download(self):
        client = self.client(self.h, limit=60)
        client.send(request_bytes("GET", f"/source?bytes={self.size}"))
        r = client.head()
        count, total = 0, 1
        for piece in client.pieces(r):
            count += len(piece)
            total = zlib.adler32(piece, total)
        expected = 1
        for block in source_blocks(self.size):
            expected = zlib.adler32(block, expected)
        self.assertEqual((count, total), (self.size, expected))
        self.check_memory()

    @slow(60)
    def test_slow_worker_holds_the_client_back(self):
        client = self.client(self.h)
        client.send(b"POST /sink?ms=60000 HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % self.size)
        sent, still = 0, 0
        block = os.urandom(MIB)

        def stalled():
            nonlocal sent, still
            n = client.send_what_fits(block)
            sent += n
            still = 0 if n else still + 1
            return still >= 30
        wait_until(stalled, 20, "the hub stops reading")
        self.assertLess(sent, 40 * MIB)  # most of it lies in the kernel's socket buffers
        self.check_memory()

    @slow(60)
    def test_slow_client_holds_the_worker_back(self):
        client = self.client(self.h, receive_buffer=65536)
        client.send(request_bytes("GET", f"/source?bytes={self.size}"))
        r = client.head()
        self.assertEqual(len(next(client.pieces(r))) > 0, True)
        self.h.wait_running(1)
        for _ in range(20):
            self.h.admin_get("/healthz")
        self.check_memory()


class WorkerThatStopsReading(Case):
    def test_flow_control_windows_are_respected(self):
        """The hub sends no more than the worker's window lets it, and goes on when it opens."""
        h = self.hub()
        fake = FakeWorker(self, h, "s", settings=[(0x4, 1000)])
        h.wait_worker("fake", 1)
        client = self.client(h)
        client.send(b"POST /s HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000)
        stream, got = None, 0
        while got < 5000:
            kind, flags, on, payload = fake.read()
            if kind == 1:
                stream = on
            elif kind == 0:
                self.assertEqual(on, stream)
                got += len(payload)
                self.assertLessEqual(len(payload), 1000)
                fake.frame(8, 0, stream, len(payload).to_bytes(4, "big"))
                ended = flags & 1
        while not ended:
            kind, flags, on, payload = fake.read()
            ended = kind == 0 and flags & 1
        fake.answer(stream, body=b"took %d" % got)
        self.assertEqual(client.response().text, "took 5000")


if __name__ == "__main__":
    main()
