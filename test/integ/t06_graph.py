#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stages: forward, again, the hop limit, and what a request keeps on its way."""

import re
from urllib.parse import quote

from weirtest import Case, FakeWorker, main, request_bytes, wait_until


class Graph(Case):
    def setUp(self):
        super().setUp()
        self.h = self.hub("--max-hops", "20")

    def two_stages(self, slots=1):
        self.worker(self.h, offer=["one=forward", "again", "status", "early"], slots=slots)
        self.worker(self.h, offer=["two=echo", "three=sleep", "nap=sleep"], slots=slots)

    def test_forward(self):
        self.two_stages()
        r = self.get(self.h, "/one?to=two&target=/inner?x=1%262",
                     [("X-Mine", "kept"), ("X-Request-Id", "rid"),
                      ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")])
        self.assertEqual(r.status, 200, r)
        self.assertEqual(r.header("x-echoed-method"), "POST")
        self.assertEqual(r.header("x-echoed-target"), "/inner?x=1&2")  # query parameters are decoded
        self.assertEqual(r.header("x-echo-weir-original-method"), "GET")
        self.assertEqual(r.header("x-echo-weir-hop"), "1")
        self.assertEqual(r.header("x-echo-weir-attempt"), "1")
        self.assertEqual(r.header("x-echo-weir-service"), "two")
        self.assertEqual(r.header("x-echo-x-mine"), "kept")
        self.assertEqual(r.header("x-echo-x-request-id"), "rid")
        self.assertEqual(r.header("x-echo-host"), "test.example")
        self.assertEqual(r.header("x-echo-x-forwarded-for"), "127.0.0.1")
        self.assertIn("0af7651916cd43dd8448eb211c80319c", r.header("x-echo-traceparent"))
        self.assertEqual(len(r.all("x-echo-weir-hop")), 1)
        self.assertIsNone(r.header("x-echo-weir-forward"))
        self.assertEqual(r.body, b"")

    def test_original_target_stays(self):
        self.two_stages()
        r = self.get(self.h, "/one?to=two")
        self.assertEqual(r.header("x-echoed-target"), "/one?to=two")

    def test_body_of_the_answer_becomes_the_body(self):
        self.two_stages()
        r = self.get(self.h, "/one?to=two&body=made%20by%20one", [("Content-Type", "application/x-old"),
                     ("Content-Language", "de")], "POST", b"the client's")
        self.assertEqual(r.text, "made by one")
        self.assertEqual(r.header("x-echo-content-type"), "text/plain")
        self.assertIsNone(r.header("x-echo-content-language"))

    def test_large_body_goes_on(self):
        self.two_stages()
        body = bytes(range(256)) * 2000
        r = self.get(self.h, "/one?to=two", [("Content-Type", "x/y")], "PUT", body)
        self.assertTrue(r.body == body)
        self.assertEqual(r.header("x-echo-content-type"), "x/y")
        self.assertEqual(r.header("x-echo-weir-original-method"), "PUT")

    def test_long_chain(self):
        self.worker(self.h, offer=[f"s{i}=forward" for i in range(8)] + ["end=echo"])
        target = "/end"
        services = [f"s{i}" for i in range(8)]
        inner = "end"
        for s in reversed(services):  # s0 -> s1 -> ... -> s7 -> end, each with the next target within its own
            target = f"/{s}?to={inner}&target=" + quote(target)
            inner = s
        r = self.get(self.h, target)
        self.assertEqual((r.status, r.header("x-echoed-target")), (200, "/end"))
        self.assertEqual(r.header("x-echo-weir-hop"), "8")

    def test_again(self):
        self.two_stages()
        for n in (0, 1, 10, 20):
            r = self.get(self.h, f"/again?n={n}")
            self.assertEqual((r.status, r.text), (200, f"hop {n}"))
        jobs = {line[1] for line in self.logged("started")}
        self.assertEqual(len(self.logged("started")), 35)
        self.assertTrue(jobs)

    def test_again_goes_to_the_tail(self):
        """Two long requests on one slot take turns."""
        self.two_stages()
        hold = self.client(self.h)
        hold.send(request_bytes("GET", "/again?n=0&ms=60000"))
        wait_until(lambda: self.logged("started"), 5)
        clients = [self.client(self.h) for _ in range(2)]
        for i, client in enumerate(clients):
            client.send(request_bytes("GET", f"/again/{i}?n=3"))
            self.h.wait_queued(i + 1)
        hold.close()
        for client in clients:
            self.assertEqual(client.response().text, "hop 3")
        hops = [int(line[5]) for line in self.logged("started")[1:]]
        self.assertEqual(hops, [0, 0, 1, 1, 2, 2, 3, 3])

    def test_hop_limit(self):
        self.two_stages()
        self.assert_problem(self.get(self.h, "/again?n=21"), 508)
        self.worker(self.h, offer=["loop=forward"])
        self.assert_problem(self.get(self.h, "/loop?to=loop"), 508)
        self.h.wait_idle()
        self.assertEqual(self.get(self.h, "/again?n=1").status, 200)

    def test_unknown_target(self):
        self.two_stages()
        r = self.get(self.h, "/one?to=nowhere")
        self.assertIn("nowhere", str(self.assert_problem(r, 502)))
        self.h.wait_idle()
        self.assertEqual(self.get(self.h, "/one?to=two").status, 200)

    def test_reply_from_any_stage(self):
        self.two_stages()
        r = self.get(self.h, "/one")  # the first one answers itself
        self.assertEqual((r.status, r.header("content-type")), (400, "application/problem+json"))
        self.assertEqual(self.get(self.h, "/one?to=three&target=/three?ms=1").status, 200)

    def test_head_through_stages(self):
        self.two_stages()
        client = self.client(self.h)
        r = client.request("HEAD", "/one?to=two&body=abc")
        self.assertEqual((r.status, r.body), (200, b""))
        self.assertEqual(r.header("x-echo-weir-original-method"), "HEAD")
        self.assertEqual(client.request("GET", "/again").text, "hop 0")

    def test_forwarded_to_a_busy_stage_waits_there(self):
        self.worker(self.h, offer=["one=forward"])
        self.worker(self.h, offer=["slow=sleep"])
        clients = [self.client(self.h) for _ in range(5)]
        for client in clients:
            client.send(request_bytes("GET", "/one?to=slow&target=/slow?ms=40"))
        for client in clients:
            self.assertEqual(client.response().status, 200)
        services = {s["name"]: s for s in self.h.status()["services"]}
        self.assertEqual((services["one"]["dispatched"], services["slow"]["dispatched"]), (5, 5))

    def test_deadline_is_that_of_the_request(self):
        self.two_stages()
        r = self.get(self.h, "/one?to=two", [("Weir-Timeout", "5s")])
        self.assertLessEqual(int(r.header("x-echo-weir-deadline-ms")), 5000)
        r = self.get(self.h, "/one?to=nap&target=/nap?ms=60000", [("Weir-Timeout", "300ms")])
        self.assert_problem(r, 504)
        self.h.wait_idle()

    def test_forward_made_by_hand(self):
        """Weir-Forward as any HTTP server may put it on its answer."""
        self.two_stages()
        fake = FakeWorker(self, self.h, "hand")
        self.h.wait_worker("fake", 1)
        for value, want in (("two", "/hand?q"), ("two /p?x=1", "/p?x=1")):
            with self.subTest(value):
                client = self.client(self.h)
                client.send(request_bytes("GET", "/hand?q"))
                fake.answer(fake.wait_request(), 200, b"new body", [("weir-forward", value),
                                                                     ("content-type", "x/hand")])
                r = client.response()
                self.assertEqual((r.status, r.text), (200, "new body"))
                self.assertEqual(r.header("x-echoed-target"), want)
                self.assertEqual(r.header("x-echo-content-type"), "x/hand")

    def test_forward_that_does_not_parse(self):
        fake = FakeWorker(self, self.h, "hand")
        self.h.wait_worker("fake", 1)
        for value in ("", "two words and more", "b@d", "two noslash", "two /a b", "two #x", "x" * 300):
            with self.subTest(value):
                client = self.client(self.h)
                client.send(request_bytes("GET", "/hand"))
                fake.answer(fake.wait_request(), 200, b"", [("weir-forward", value)])
                self.assert_problem(client.response(), 502)
        self.h.wait_idle()

    def test_a_forward_that_goes_nowhere_gives_its_slot_back(self):
        """More than a window of it, to a service that does not exist; and a client that leaves before it is taken."""
        fake = FakeWorker(self, self.h, "hand")
        self.h.wait_worker("fake", 1)
        self.worker(self.h, offer=["sleep"])
        block = self.client(self.h)
        block.send(request_bytes("GET", "/sleep?ms=60000"))
        self.h.wait_running(1)
        for to, leave in (("nowhere", False), ("sleep", True)):
            with self.subTest(to):
                client = self.client(self.h)
                client.send(request_bytes("GET", "/hand"))
                stream = fake.wait_request()
                fake.headers(stream, 200, [("weir-forward", to)])
                for _ in range(16):  # 256 KiB: as much as the hub lets it send
                    fake.data(stream, b"x" * 16384)
                if leave:
                    self.h.wait_queued(1)
                    client.close()
                    self.h.wait_queued(0)
                else:
                    self.assert_problem(client.response(), 502)
                fake.wait_frame(8, stream)  # WINDOW_UPDATE: it may go on
                fake.data(stream, b"x" * 16000, end=True)
                self.h.wait_status(lambda s: all(w["running"] == 0 for w in s["workers_list"] if w["id"] == "fake"),
                                   5, "the slot comes back")

    def test_request_id_is_the_same_in_errors_of_later_stages(self):
        self.two_stages()
        r = self.get(self.h, "/one?to=nowhere", [("X-Request-Id", "keep-me")])
        self.assert_problem(r, 502, request_id="keep-me")
        self.assertTrue(re.search("nowhere", r.text))


if __name__ == "__main__":
    main()
