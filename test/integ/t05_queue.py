#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The queue: bounds, order, priorities, waiting for workers, slots."""

import time
import unittest

from weirtest import OVER_ZMQ, Case, main, request_bytes, scaled, wait_until


class Queue(Case):
    def busy(self, h, target="/sleep?ms=60000", running=1, headers=(), method="GET", body=None):
        """A request that holds a slot until its client is closed."""
        client = self.client(h)
        client.send(request_bytes(method, target, headers, body))
        h.wait_running(running)
        return client

    def queued(self, h, target, count, headers=(), **kwargs):
        """A request that is the count-th in the queue."""
        client = self.client(h)
        client.send(request_bytes(kwargs.pop("method", "GET"), target, headers, **kwargs))
        h.wait_queued(count)
        return client

    def test_full(self):
        h = self.hub("--max-queued", "2")
        self.worker(h)
        self.busy(h)
        kept = [self.queued(h, "/sleep?ms=1", i) for i in (1, 2)]
        client = self.client(h)
        r = client.request("GET", "/sleep?ms=1")
        self.assert_problem(r, 503, service="sleep")
        if r.header("retry-after"):
            self.assertTrue(1 <= int(r.header("retry-after")) <= 30)
        kept[0].close()
        h.wait_queued(1)
        self.queued(h, "/sleep?ms=1", 2)  # there is room again
        self.assertEqual(h.status()["running"], 1)

    def test_retry_after_comes_from_the_measured_rate(self):
        h = self.hub("--max-queued", "3")
        self.worker(h, offer=["s=sleep"])
        client = self.client(h)
        end = time.monotonic() + 1.5
        while time.monotonic() < end:  # something to measure
            self.assertEqual(client.request("GET", "/s?ms=5").status, 200)
        self.busy(h, "/s?ms=60000")
        for i in (1, 2, 3):
            self.queued(h, "/s", i)
        r = client.request("GET", "/s")
        self.assert_problem(r, 503, service="s")
        self.assertTrue(1 <= int(r.header("retry-after")) <= 30, r)

    def test_fifo(self):
        h = self.hub()
        self.worker(h)
        first = self.busy(h)
        clients = [self.queued(h, f"/sleep?ms=1&i={i}", i + 1) for i in range(10)]
        first.close()
        for client in clients:
            self.assertEqual(client.response().status, 200)
        order = [line[6].split("=")[-1] for line in self.logged("started")[1:]]
        self.assertEqual(order, [str(i) for i in range(10)])

    def test_priorities(self):
        h = self.hub()
        self.worker(h)
        first = self.busy(h)
        wanted = [(None, "d1"), ("9", "last"), ("0", "first"), ("5", "e"), ("4", "d2"),
                  ("3", "c"), ("0", "second")]
        clients = [self.queued(h, f"/sleep?ms=1&i={name}", i + 1, [("Weir-Priority", p)] if p else [])
                   for i, (p, name) in enumerate(wanted)]
        self.assertEqual(sorted(j["priority"] for j in h.status()["jobs"] if j["state"] == "queued"),
                         [0, 0, 3, 4, 4, 5, 9])
        first.close()
        for client in clients:
            self.assertEqual(client.response().status, 200)
        order = [line[6].split("=")[-1] for line in self.logged("started")[1:]]
        self.assertEqual(order, ["first", "second", "c", "d1", "d2", "e", "last"])

    def test_queue_time_without_a_worker(self):
        h = self.hub("--queue-time", "300ms", "--route", "/none=none")
        begin = time.monotonic()
        self.assert_problem(self.get(h, "/none"), 503, service="none")
        self.assertTrue(0.25 <= time.monotonic() - begin < scaled(2))
        h.wait_idle()

    def test_queue_time_behind_a_long_job(self):
        h = self.hub("--queue-time", "300ms")
        self.worker(h)
        self.busy(h)
        begin = time.monotonic()
        self.assert_problem(self.get(h, "/hello"), 503, service="hello")
        self.assertTrue(0.25 <= time.monotonic() - begin < scaled(2))
        self.assertEqual(self.logged("started")[1:], [])

    def test_worker_that_comes_later(self):
        h = self.hub("--route", "/s=s")
        clients = [self.queued(h, f"/s/{i}", i + 1) for i in range(5)]
        self.worker(h, offer=["s=hello"])
        for client in clients:
            self.assertEqual(client.response().text, "hello")
        h.wait_idle()

    def test_service_outlives_its_workers(self):
        h = self.hub()
        first = self.worker(h, offer=["s=hello"])
        self.assertEqual(self.get(h, "/s").text, "hello")
        first.kill()
        h.wait_workers(0)
        client = self.queued(h, "/s", 1)
        self.worker(h, offer=["s=hello"])
        self.assertEqual(client.response().text, "hello")

    def test_slots_are_respected(self):
        h = self.hub()
        self.worker(h, slots=3)
        clients = [self.client(h) for _ in range(15)]
        for client in clients:
            client.send(request_bytes("GET", "/sleep?ms=60"))
        self.assertLessEqual(h.status()["running"], 3)
        for client in clients:
            self.assertEqual(client.response().status, 200)
        running, peak = 0, 0
        for line in self.jobs_log():
            running += 1 if line[0] == "started" else -1
            peak = max(peak, running)
        self.assertEqual((running, peak), (0, 3))

    @unittest.skipIf(OVER_ZMQ, "credit is not taken back")
    def test_gate(self):
        """A worker without slots gets nothing until it has slots again."""
        h = self.hub()
        self.worker(h, slots=2)
        self.assertEqual(self.get(h, "/gate?ms=700").text, "closed")
        h.wait_status(lambda s: s["slots"] == 0, what="no slots")
        client = self.queued(h, "/hello", 1)
        begin = time.monotonic()
        self.assertEqual(client.response().text, "hello")
        self.assertLess(time.monotonic() - begin, scaled(3))
        h.wait_status(lambda s: s["slots"] == 2, what="two slots")

    def test_what_would_be_late_is_refused_at_once(self):
        h = self.hub("--service", "sleep.admission=deadline")
        self.worker(h, slots=1, offer=["sleep", "hello"])
        clients = []
        for _ in range(30):  # three seconds of work
            client = self.client(h)
            client.send(request_bytes("GET", "/sleep?ms=100"))
            clients.append(client)
        h.wait_status(lambda s: s["services"][0]["done"] >= 5, what="the rate is known")
        begin = time.monotonic()
        r = self.get(h, "/sleep?ms=1", [("Weir-Timeout", "500ms")])
        self.assertLess(time.monotonic() - begin, scaled(0.4))
        self.assert_problem(r, 503, "sleep")
        self.assertIn("beyond its deadline", r.json()["detail"])
        self.assertIn(r.header("retry-after"), ("2", "3"))
        self.assertEqual(h.metrics().value("weir_rejected_total", reason="admission"), 1)
        self.assertEqual(self.get(h, "/sleep?ms=1", [("Weir-Timeout", "20s")]).status, 200)
        for client in clients:
            self.assertEqual(client.response().status, 200)

    def test_least_loaded_worker(self):
        h = self.hub()
        for _ in range(3):
            self.worker(h, slots=5)
        clients = []
        for i in range(6):
            clients.append(self.busy(h, running=i + 1))
        self.assertEqual(sorted(w["running"] for w in h.status()["workers_list"]), [2, 2, 2])

    def test_no_job_waits_while_a_slot_is_free(self):
        h = self.hub()
        self.worker(h, slots=1, offer=["a=sleep"])
        self.worker(h, slots=1, offer=["a=sleep", "b=sleep"])
        self.busy(h, "/a?ms=60000", 1)
        self.busy(h, "/a?ms=60000", 2)
        client = self.queued(h, "/b?ms=1", 1)
        self.worker(h, slots=1, offer=["b=sleep"])
        self.assertEqual(client.response().status, 200)

    def test_bodies_wait_at_the_client(self):
        """Bytes in the queue are bounded: a big body is not read before a worker is there."""
        h = self.hub("--buffered-body", "65536", "--route", "/s=s", "--drain", "1s")
        client = self.client(h)
        client.send(b"POST /s HTTP/1.1\r\nHost: h\r\nContent-Length: 50000000\r\n\r\n")
        h.wait_queued(1)
        block, still = b"x" * 65536, 0
        sent = 0

        def stalled():
            nonlocal still, sent
            n = client.send_what_fits(block)
            sent += n
            still = 0 if n else still + 1
            return still >= 30
        wait_until(stalled, 20, "the hub stops reading")
        self.assertLess(sent, 20_000_000)
        self.assertLess(h.status()["queued_bytes"], 2_000_000)


if __name__ == "__main__":
    main()
