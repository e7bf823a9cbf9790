#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The client leaves: wherever its request is, it is cancelled, the worker is told and the slot comes back."""

from weirtest import Case, Client, main, request_bytes, scaled, wait_until


class Leaving(Case):
    LONG = 60000

    def setUp(self):
        super().setUp()
        self.h = self.hub()

    def ask(self, target, **kwargs):
        client = self.client(self.h)
        client.send(request_bytes(kwargs.pop("method", "GET"), target, **kwargs))
        return client

    def wait_started(self, count=1):
        wait_until(lambda: len(self.logged("started")) >= count, 5, f"{count} started")

    def wait_handlers(self):
        """Every job that runs at a worker has reached its handler: only that can tell of a cancel."""
        def reached():
            running = {str(j["job"]) for j in self.h.status()["jobs"] if j["state"] == "running"}
            return running <= {line[1] for line in self.logged("started")}
        wait_until(reached, scaled(3), "the handlers of what runs have started")

    def check_all_over(self, cancelled):
        wait_until(lambda: len(self.logged("cancelled")) >= cancelled, scaled(3), f"{cancelled} cancelled")
        self.h.wait_idle(scaled(3))
        self.assertEqual(self.get(self.h, "/hello").text, "hello")  # the slot is back

    def leaving(self, leave):
        """Each way to leave, in each state."""
        self.worker(self.h, offer=["hello", "sleep", "drip", "sink"])
        self.worker(self.h, offer=["one=forward"])
        with self.subTest("running"):
            client = self.ask(f"/sleep?ms={self.LONG}")
            self.wait_started(1)
            leave(client)
            self.check_all_over(1)
        with self.subTest("streaming"):
            client = self.ask("/drip?n=1000000&ms=20")
            response = client.head()
            self.assertEqual(next(client.pieces(response)), b"a" * 10)
            leave(client)
            self.check_all_over(2)
        with self.subTest("queued"):
            busy = self.ask(f"/sleep?ms={self.LONG}")
            self.h.wait_running(1)
            self.wait_handlers()
            client = self.ask("/sleep?ms=1&queued")
            self.h.wait_queued(1)
            leave(client)
            self.h.wait_queued(0)
            self.assertEqual(self.h.status()["running"], 1)
            busy.close()
            self.check_all_over(3)
            self.assertNotIn("queued", str(self.jobs_log()))
        with self.subTest("stage 2"):
            client = self.ask(f"/one?to=sleep&target=/sleep?ms={self.LONG}")
            self.h.wait_status(lambda s: any((j["hop"], j["service"], j["state"]) == (1, "sleep", "running")
                                             for j in s["jobs"]), what="stage 2 running")
            self.wait_handlers()
            leave(client)
            self.check_all_over(4)
        with self.subTest("queued for stage 2"):
            busy = self.ask(f"/sleep?ms={self.LONG}")
            self.h.wait_running(1)
            self.wait_handlers()
            client = self.ask("/one?to=sleep&target=/sleep?stage2")
            self.h.wait_queued(1)
            leave(client)
            self.h.wait_queued(0)
            busy.close()
            self.check_all_over(5)
            self.assertNotIn("/sleep?stage2", [line[-1] for line in self.logged("started")])
        with self.subTest("uploading"):
            client = self.client(self.h)
            client.send(b"POST /sink HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nsome")
            self.h.wait_running(1)
            self.wait_handlers()
            leave(client)
            self.check_all_over(6)

    def test_close(self):
        self.leaving(Client.close)

    def test_reset(self):
        self.leaving(Client.reset)

    def test_half_close(self):
        def leave(client):
            client.half_close()
            client.rest()  # the hub closes its side too
        self.leaving(leave)

    def test_answers_that_had_begun_are_not_retried(self):
        self.worker(self.h)
        client = self.ask("/drip?n=1000000&ms=20")
        client.head()
        client.close()
        self.check_all_over(1)
        self.assertEqual(len(self.logged("started")), 2)

    def test_pipelined_requests_of_a_client_that_left(self):
        self.worker(self.h, slots=2)
        client = self.client(self.h)
        client.send(request_bytes("GET", f"/sleep?ms={self.LONG}") * 20)
        self.wait_started(1)
        client.close()
        wait_until(lambda: len(self.logged("cancelled")) == len(self.logged("started")), 5, "all cancelled")
        self.h.wait_idle()

    def test_many_leave_at_once(self):
        self.worker(self.h, slots=10)
        clients = [self.ask(f"/sleep?ms={self.LONG}") for _ in range(200)]
        self.h.wait_status(lambda s: s["running"] == 10 and s["queued"] == 190, what="10 running, 190 queued")
        for client in clients:
            client.close()
        self.h.wait_idle()
        self.assertEqual(self.get(self.h, "/hello").text, "hello")
        wait_until(lambda: len(self.logged("cancelled")) == len(self.logged("started")) - 1, 5,
                   "all but the last one cancelled")

    def test_slot_stays_busy_until_the_worker_says_so(self):
        """A handler that does not look at its cancel keeps its slot: no second job may start meanwhile."""
        self.worker(self.h)
        client = self.ask("/stubborn?ms=600")
        self.wait_started(1)
        client.close()
        self.assertEqual(self.get(self.h, "/hello").text, "hello")
        log = [line[0] for line in self.jobs_log()]
        self.assertEqual(log[:3], ["started", "cancelled", "started"])

    def test_cancels_are_counted(self):
        self.worker(self.h)
        before = self.h.metrics()
        names = [n for n in before.names() if "cancel" in n]
        self.assertEqual(len(names), 1, names)
        client = self.ask(f"/sleep?ms={self.LONG}")
        self.wait_started(1)
        client.close()
        self.check_all_over(1)
        self.assertEqual(self.h.metrics().value(names[0]), before.value(names[0]) + 1)

    def test_leaving_while_nothing_was_asked(self):
        clients = [self.client(self.h) for _ in range(20)]
        for i, client in enumerate(clients):
            client.send(b"GET /hel" if i % 2 else b"")
            client.close()
        self.worker(self.h)
        self.assertEqual(self.get(self.h, "/hello").text, "hello")

    def test_finished_answers_reach_a_client_that_half_closed_later(self):
        self.worker(self.h)
        client = self.client(self.h)
        self.assertEqual(client.request("GET", "/hello").text, "hello")
        client.half_close()
        client.assert_closed()


class HalfCloseAllowed(Case):
    def test_a_service_may_allow_it(self):
        h = self.hub("--service", "sleep.half-close=allow")
        self.worker(h)
        client = self.client(h)
        client.send(request_bytes("GET", "/sleep?ms=200"))
        client.half_close()
        self.assertEqual(client.response().status, 200)
        client.assert_closed()
        self.assertEqual(self.logged("cancelled"), [])


if __name__ == "__main__":
    main()
