#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Scatter and gather: parts are jobs of their own, what comes of them goes to a service or to the client."""

import signal
import time
import unittest
from email import message_from_bytes
from email.policy import HTTP

from weirtest import Case, FakeWorker, H1Worker, main, request_bytes, sanitized, scaled, wait_until


def parts_of(response):
    """[(status, content type, body)] of a multipart response."""
    head = f"Content-Type: {response.header('content-type')}\r\n\r\n".encode()
    message = message_from_bytes(head + response.body, policy=HTTP)
    if not message.is_multipart():
        raise AssertionError(f"not multipart: {response}")
    return [(int(p["weir-part-status"]), p.get_content_type(), p.get_payload(decode=True))
            for p in message.get_payload()]


class Scatter(Case):
    def setUp(self):
        super().setUp()
        self.h = self.hub("--max-hops", "50", "--max-parts", "10000")

    def workers(self, slots=4):
        self.worker(self.h, offer=["scatter", "summary"])
        return self.worker(self.h, offer=["portion", "sleep"], slots=slots)

    def scatter(self, lines, more="", **kwargs):
        return self.get(self.h, f"/scatter?to=portion{more}", [], "POST", "".join(f"{x}\n" for x in lines).encode(),
                        **kwargs)

    def test_to_the_client_in_order(self):
        self.workers()
        r = self.scatter(["sleep 80", "b", "sleep 30", "d"])
        self.assertEqual(r.status, 200, r)
        self.assertEqual(parts_of(r), [(200, "text/x-portion", x) for x in (b"sleep 80!", b"b!", b"sleep 30!", b"d!")])
        self.assertIsNone(r.header("weir-scatter"))

    def test_to_a_service(self):
        self.workers()
        r = self.scatter(["a", "b", "c"], "&gather=summary")
        self.assertEqual((r.status, r.text), (200, "200:a!\n200:b!\n200:c!\n"))

    def test_a_part_fails_alone(self):
        self.workers()
        self.assertEqual([p[0] for p in parts_of(self.scatter(["a", "fail", "c"]))], [200, 500, 200])

    def test_a_part_whose_worker_dies(self):
        self.worker(self.h, offer=["scatter"])
        for _ in range(2):
            self.worker(self.h, offer=["portion"])
        got = parts_of(self.scatter(["sleep 300", "crash"]))  # a POST: it is not run again
        self.assertEqual([p[0] for p in got], [200, 502])
        self.assertEqual(got[1][1], "application/problem+json")

    def test_no_parts(self):
        self.workers()
        r = self.get(self.h, "/scatter?to=portion&parts=0")
        self.assertEqual(r.status, 200, r)
        self.assertIn(b"--", r.body)
        self.assertEqual(self.get(self.h, "/scatter?to=portion&parts=0&gather=summary&sum=1").text,
                         "0 parts, 0 ok, 0 failed")

    def test_parts_know_their_place(self):
        self.workers()
        r = self.get(self.h, "/scatter?to=portion", [("X-Mine", "kept"), ("Content-Type", "a/b")], "PUT", b"head\n" * 3)
        self.assertEqual([p[2].decode() for p in parts_of(r)],
                         [f"POST {i}/3 kept text/plain 1 PUT" for i in range(3)])

    def test_ten_thousand_parts_and_a_worker_that_dies(self):
        self.worker(self.h, offer=["scatter"])
        workers = [self.worker(self.h, offer=["portion"], slots=1) for _ in range(8)]
        client = self.client(self.h, limit=60)
        client.send(request_bytes("GET", "/scatter?to=portion&parts=10000"))
        wait_until(lambda: len(self.logged("started")) > 3000, 30)
        workers[3].kill()
        got = parts_of(client.response())
        self.assertEqual(got, [(200, "text/x-portion", b"%d!" % i) for i in range(10000)])
        runs = len([line for line in self.logged("started") if line[3] == "portion"])
        self.assertIn(runs, (10000, 10001))  # the one that was lost may have been begun twice
        self.h.wait_idle()

    def test_the_queue_of_the_service_is_not_flooded(self):
        self.worker(self.h, offer=["scatter"])
        self.worker(self.h, offer=["portion"], slots=2)
        client = self.client(self.h)
        client.send(request_bytes("POST", "/scatter?to=portion", [], b"sleep 20\n" * 200))
        self.h.wait_queued(10)
        self.assertLessEqual(self.h.status()["queued"], 20)
        self.assertEqual([p[0] for p in parts_of(client.response())], [200] * 200)

    def test_a_client_that_leaves_cancels_the_parts(self):
        self.workers(slots=2)
        client = self.client(self.h)
        client.send(request_bytes("POST", "/scatter?to=portion", [], b"sleep 60000\n" * 5))
        wait_until(lambda: len(self.logged("started")) == 3, 5)
        client.close()
        wait_until(lambda: len(self.logged("cancelled")) == 2, 5)
        self.h.wait_idle()
        self.assertEqual(len(self.logged("started")), 3)

    def test_deadline(self):
        self.workers(slots=2)
        r = self.get(self.h, "/scatter?to=portion", [("Weir-Timeout", "400ms")], "POST", b"a\nsleep 60000\n")
        self.assert_problem(r, 504, service="scatter")
        wait_until(lambda: len(self.logged("cancelled")) == 1, 5)
        self.h.wait_idle()

    def test_answers_that_come_with_the_deadline(self):
        """Too many bytes of them, in the turn in which the deadline passes and nobody has been told yet."""
        h, count, seconds = self.hub("--max-gather", "1KiB"), 20, scaled(0.04)
        hand = FakeWorker(self, h, "hand", slots=count)
        part = FakeWorker(self, h, "part", slots=count, worker="other")
        h.wait_worker("fake", count)
        h.wait_worker("other", count)
        for _ in range(40):
            clients = [self.client(h) for _ in range(count)]
            h.signal(signal.SIGSTOP)  # they all come in one turn, with one deadline
            for client in clients:
                client.send(request_bytes("GET", "/hand", [("Weir-Timeout", f"{seconds * 1000:.0f}ms")]))
            h.signal(signal.SIGCONT)
            end = time.monotonic() + seconds
            for _ in clients:
                hand.answer(hand.wait_request(), 200, b"--b\r\n\r\nx\r\n--b--\r\n",
                            [("weir-scatter", "part"), ("content-type", "multipart/mixed; boundary=b")])
            streams = [part.wait_request() for _ in clients]
            for stream in streams:
                part.headers(stream, 200)
            for i, stream in enumerate(streams):
                while time.monotonic() < end + (i - 10) * 0.0001:
                    pass
                part.data(stream, b"y" * 2000)
            for client in clients:
                self.assertIn(client.response().status, (502, 504))
                client.close()
        h.wait_status(lambda s: s["requests"] == 0, what="no requests")

    def test_parts_of_parts_know_their_place(self):
        self.workers()
        fake = FakeWorker(self, self.h, "part", slots=3)
        self.h.wait_worker("fake", 3)
        client = self.client(self.h)
        client.send(request_bytes("GET", "/scatter?to=part&parts=3"))
        for stream in [fake.wait_request() for _ in range(3)]:
            fake.answer(stream, 200, b"--b\r\n\r\nhead\r\n--b\r\n\r\nhead\r\n--b--\r\n",
                        [("weir-scatter", "portion"), ("content-type", "multipart/mixed; boundary=b")])
        r = client.response()
        self.assertEqual([p[0] for p in parts_of(r)], [200] * 3)
        for place in (b"POST 0/2 ", b"POST 1/2 "):
            self.assertEqual(r.body.count(place), 3, r.body)

    def test_parts_of_parts(self):
        self.workers()
        r = self.scatter(["a", "again"])
        first, second = parts_of(r)
        self.assertIn(b"one!", r.body)
        self.assertIn(b"two!", r.body)
        self.assertEqual(first[2], b"a!")
        self.assertEqual(second[0], 200)
        self.assertEqual(second[1], "multipart/mixed")

    def test_limits(self):
        h = self.h = self.hub("--max-parts", "5", "--max-gather", "64KiB")
        self.workers()
        self.assertEqual(self.get(h, "/scatter?to=portion&parts=5").status, 200)
        self.assert_problem(self.get(h, "/scatter?to=portion&parts=6"), 502)
        r = self.scatter(["again", "again"])  # 2 + 2 + 2: more than 5 in all
        self.assertEqual(sorted(p[0] for p in parts_of(r)), [200, 502])
        self.assertIn("max-gather", self.get(h, "/scatter?to=portion&parts=2&size=40000").text)  # scattered
        self.assertEqual(self.get(h, "/scatter?to=portion&parts=2&size=30000").status, 502)  # with the answers
        self.assertEqual(self.get(h, "/scatter?to=portion&parts=1&size=30000").status, 200)
        h.wait_idle()

    @unittest.skipIf(sanitized, "memory bounds mean nothing under a sanitizer")
    def test_too_many_parts_take_no_memory(self):
        h = self.hub()
        hand = H1Worker(self, h.attach, "hand")
        client = self.client(h)
        client.send(request_bytes("GET", "/hand"))
        hand.request()
        before = h.memory("VmHWM")
        hand.answer(b"--b\r\n\r\n" * 300000 + b"--b--", headers=[
            ("Weir-Scatter", "hand"), ("Content-Type", "multipart/mixed; boundary=b")])
        self.assert_problem(client.response(), 502, service="hand")
        grown = h.memory("VmHWM") - before
        self.assertLess(grown, 20 << 20, f"{grown >> 20} MiB for a body of 2 MiB")
        h.wait_idle()

    def test_fields_of_answers_count(self):
        h = self.h = self.hub("--max-gather", "64KiB", "--max-queued-bytes", "128KiB")
        self.worker(h, offer=["scatter"])
        part = H1Worker(self, h.attach, "part", worker="p")
        h.wait_worker("p", 1)
        client = self.client(h)

        def answers(count, given):
            client.send(request_bytes("GET", f"/scatter?to=part&parts={count}"))
            for _ in range(given):
                part.request()
                part.answer(headers=[("Content-X", "y" * 20000)])
            return client.response()

        for _ in range(10):  # what was held is given back
            r = answers(3, 3)
            self.assertEqual([p[0] for p in parts_of(r)], [200] * 3)
            self.assertEqual(r.body.lower().count(b"content-x: yyy"), 3)
        self.assertIn("max-gather", self.assert_problem(answers(4, 4), 502)["detail"])
        self.assertEqual(answers(3, 3).status, 200)
        h.wait_idle()

    def test_a_head_that_does_not_fit(self):
        """The hub adds fields on the way to the next stage; no other try would change that."""
        self.workers()
        hand = H1Worker(self, self.h.attach, "hand", worker="hand")
        self.h.wait_worker("hand", 1)
        two = b"--b\r\n\r\n1\r\n--b\r\n\r\n2\r\n--b--\r\n"
        parts = ("Content-Type", "multipart/mixed; boundary=b")

        def fields(n):
            return [(f"X-{i}", "1") for i in range(n)]

        def get(n, *answer, body=b""):
            client = self.client(self.h)
            client.send(request_bytes("GET", "/hand", fields(n)))
            hand.request()
            hand.answer(body, headers=answer)
            return client.response()

        n = next(n for n in range(256, 0, -1) if self.get(self.h, "/nowhere", fields(n)).status == 404)
        r = get(n, ("Weir-Forward", "portion"))
        self.assertIn("head", self.assert_problem(r, 502, service="hand")["detail"])
        self.assertIsNone(r.header("retry-after"))
        r = get(n, ("Weir-Scatter", "portion"), parts, body=two)
        self.assertEqual([p[0] for p in parts_of(r)], [502] * 2)
        self.assertEqual(r.body.count(b"over 256 fields"), 2, r.body)
        r = get(n, ("Weir-Scatter", "portion; gather=summary"), parts, body=two)
        self.assertIn("head", self.assert_problem(r, 502, service="hand")["detail"])
        self.assertEqual(get(n - 16, ("Weir-Forward", "portion"), body=b"x").text, "x!")
        self.h.wait_idle()

    def test_to_a_service_that_does_not_exist(self):
        self.workers()
        r = self.get(self.h, "/scatter?to=nowhere&parts=2")
        self.assertEqual([p[0] for p in parts_of(r)], [502, 502])
        self.assertIn("nowhere", str(self.assert_problem(self.scatter(["a"], "&gather=nowhere"), 502)))

    def test_made_by_hand(self):
        self.workers()
        fake = FakeWorker(self, self.h, "hand")
        self.h.wait_worker("fake", 1)

        def answer(header, content_type, body):
            client = self.client(self.h)
            client.send(request_bytes("GET", "/hand"))
            fake.answer(fake.wait_request(), 200, body, [("weir-scatter", header), ("content-type", content_type)])
            return client.response()

        two = b"--b\r\nX-A: 1\r\n\r\none\r\n--b\r\nWeir-Cost: 5\r\n\r\ntwo\r\n--b--\r\n"
        good = "multipart/mixed; boundary=b"
        self.assertEqual([p[2] for p in parts_of(answer("portion", good, two))], [b"one!", b"two!"])
        self.assertEqual(answer("portion; gather=summary", good, two).text, "200:one!\n200:two!\n")
        for header, content_type, body in (("", good, two), ("b@d", good, two), ("portion; gather=b@d", good, two),
                                           ("portion", "text/plain", two), ("portion", "multipart/mixed", two),
                                           ("portion", good, b"--b\r\n\r\nno end"), ("portion", good, b""),
                                           ("portion", good, b"no parts at all")):
            with self.subTest((header, content_type, body)):
                self.assert_problem(answer(header, content_type, body), 502)
        r = answer("portion", good, b"--b\r\nbroken\r\n\r\nx\r\n--b\r\n\r\ny\r\n--b--\r\n")
        self.assertEqual([p[0] for p in parts_of(r)], [502, 200])
        self.h.wait_idle()

    def test_drain_waits_for_the_parts(self):
        self.workers()
        client = self.client(self.h)
        client.send(request_bytes("POST", "/scatter?to=portion", [], b"sleep 500\n" * 40))
        wait_until(lambda: len(self.logged("started")) > 4, 5)
        self.h.ended = True
        self.h.signal(signal.SIGTERM)
        self.assertEqual([p[0] for p in parts_of(client.response())], [200] * 40)
        self.assertEqual(self.h.wait(), 0)

    def test_head(self):
        """An answer to HEAD has no body that could be taken apart."""
        self.workers()
        client = self.client(self.h)
        r = client.request("HEAD", "/scatter?to=portion&parts=2")
        self.assertEqual((r.status, r.body), (502, b""))
        self.assertEqual(client.request("GET", "/scatter?to=portion&parts=1&gather=summary").text, "200:0!\n")

    def test_a_lost_worker_in_the_middle_of_an_answer(self):
        fake = FakeWorker(self, self.h, "part", slots=2)
        self.h.wait_worker("fake", 2)
        self.worker(self.h, offer=["scatter"])
        client = self.client(self.h)
        client.send(request_bytes("GET", "/scatter?to=part&parts=2"))
        streams = [fake.wait_request(), fake.wait_request()]
        fake.answer(streams[0], 200, b"whole")
        fake.headers(streams[1], 200)
        fake.data(streams[1], b"half")
        fake.reset(streams[1])
        got = parts_of(client.response())
        self.assertEqual([p[0] for p in got], [200, 502])
        self.assertNotIn(b"half", got[1][2])


if __name__ == "__main__":
    main()
