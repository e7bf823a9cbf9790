#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Drain: a hub or a worker that gets SIGTERM finishes what it has and leaves."""

import signal
import threading
import time

from weirtest import Case, Client, main, request_bytes, scaled, wait_until


class HubDrains(Case):
    def drain(self, h):
        h.ended = True
        h.signal(signal.SIGTERM)
        h.wait_status(lambda s: s["draining"], what="draining")

    def test_idle_hub_ends_at_once(self):
        h = self.hub()
        self.worker(h)
        client = self.client(h)
        client.request("GET", "/hello")  # a kept connection does not hold it up
        begin = time.monotonic()
        h.terminate()
        self.assertLess(time.monotonic() - begin, scaled(2))
        client.assert_closed()

    def test_interrupt_is_the_same(self):
        h = self.hub()
        h.ended = True
        h.signal(signal.SIGINT)
        self.assertEqual(h.wait(), 0)

    def test_everything_queued_and_running_finishes(self):
        h = self.hub()
        self.worker(h, slots=2)
        clients = [self.client(h) for _ in range(10)]
        for client in clients:
            client.send(request_bytes("GET", "/sleep?ms=150"))
        h.wait_status(lambda s: s["running"] == 2 and s["queued"] == 8, what="2 running, 8 queued")
        stream = self.client(h)
        stream.send(request_bytes("GET", "/drip?n=20&ms=20&size=1"))
        h.wait_status(lambda s: s["requests"] <= 11 and any(j["service"] == "drip" for j in s["jobs"]),
                      what="the stream's request is there")
        self.drain(h)
        for client in clients:
            r = client.response()
            self.assertEqual((r.status, r.closes), (200, True))
            client.assert_closed()
        self.assertEqual(stream.response().text, "abcdefghijklmnopqrst")
        self.assertEqual(h.wait(scaled(10)), 0)
        self.assertEqual(self.logged("cancelled"), [])

    def test_new_requests_are_refused(self):
        h = self.hub()
        self.worker(h)
        busy, kept = self.client(h), self.client(h)
        kept.request("GET", "/hello")
        half = self.client(h)
        half.send(b"GET /hello HTTP/1.1\r\nHo")
        busy.send(request_bytes("GET", "/sleep?ms=1500"))
        h.wait_running(1)
        self.assertEqual(h.admin_get("/readyz").status, 200)
        self.drain(h)
        self.assertEqual(h.admin_get("/readyz").status, 503)
        self.assertEqual(h.admin_get("/healthz").status, 200)
        half.send(b"st: h\r\n\r\n")
        r = half.response()
        self.assert_problem(r, 503)
        self.assertTrue(r.closes)
        half.assert_closed()
        with self.assertRaises(OSError):
            Client(h.listen)
        self.assertEqual(busy.response().status, 200)
        self.assertEqual(h.wait(scaled(5)), 0)

    def test_pipelined_requests_behind_a_running_one(self):
        h = self.hub()
        self.worker(h)
        client = self.client(h)
        client.send(request_bytes("GET", "/sleep?ms=500") + request_bytes("GET", "/hello"))
        h.wait_running(1)
        self.drain(h)
        self.assertEqual(client.response().status, 200)
        try:
            self.assert_problem(client.response(), 503)
        except AssertionError as e:
            self.assertIn("closed", str(e))  # or the first answer said close already
        client.assert_closed()
        self.assertEqual(h.wait(scaled(5)), 0)

    def test_drain_time_is_over(self):
        h = self.hub("--drain", "300ms")
        self.worker(h)
        running, queued = self.client(h), self.client(h)
        running.send(request_bytes("GET", "/sleep?ms=60000"))
        h.wait_running(1)
        queued.send(request_bytes("GET", "/hello"))
        h.wait_queued(1)
        begin = time.monotonic()
        self.drain(h)
        self.assert_problem(running.response(), 503)
        self.assert_problem(queued.response(), 503)
        self.assertEqual(h.wait(scaled(5)), 0)
        self.assertLess(time.monotonic() - begin, scaled(3))
        wait_until(lambda: self.logged("cancelled"), 5, "the worker is told")

    def test_stream_is_cut_when_the_drain_time_is_over(self):
        h = self.hub("--drain", "300ms")
        self.worker(h)
        client = self.client(h)
        client.send(request_bytes("GET", "/drip?n=100000&ms=20"))
        client.head()
        self.drain(h)
        self.assertFalse(client.rest().endswith(b"0\r\n\r\n"))  # cut, and not an end that looks whole
        self.assertEqual(h.wait(scaled(5)), 0)

    def test_second_signal_ends_at_once(self):
        h = self.hub()
        self.worker(h)
        client = self.client(h)
        client.send(request_bytes("GET", "/sleep?ms=60000"))
        h.wait_running(1)
        self.drain(h)
        begin = time.monotonic()
        h.signal(signal.SIGTERM)
        h.wait(scaled(3))
        self.assertLess(time.monotonic() - begin, scaled(2))

    def test_under_load(self):
        """Each request that was sent on a connection that lived is answered: 200, or 503 while it drains."""
        h = self.hub()
        self.worker(h, slots=4)
        bad, done, refused = [], [0] * 32, [0] * 32

        def load(i):
            try:
                with Client(h.listen, limit=20) as client:
                    while True:
                        client.send(request_bytes("GET", "/sleep?ms=5"))
                        try:
                            r = client.response()
                        except AssertionError as e:
                            if not str(e).startswith("closed within a line") or e.data:
                                bad.append(repr(e))  # half an answer
                            return
                        if r.status == 200:
                            done[i] += 1
                        elif r.status == 503 and r.closes:
                            refused[i] += 1
                        else:
                            bad.append(repr(r))
                        if r.closes:
                            return
            except OSError:
                return  # the idle connection was closed as the request was on its way
            except Exception as e:
                bad.append(repr(e))
        threads = [threading.Thread(target=load, args=(i,), daemon=True) for i in range(32)]
        for thread in threads:
            thread.start()
        wait_until(lambda: sum(done) > 500, 20, "500 answers")
        h.ended = True
        h.signal(signal.SIGTERM)
        for thread in threads:
            thread.join(20)
            self.assertFalse(thread.is_alive())
        self.assertEqual(bad, [])
        self.assertEqual(h.wait(scaled(10)), 0)
        started = {line[1] for line in self.logged("started")}
        wait_until(lambda: {line[1] for line in self.logged("done")} == started, 5,
                   "every started job is done")

    def test_workers_survive_it(self):
        h = self.hub()
        worker = self.worker(h)
        h.terminate()
        self.assertTrue(worker.alive())  # it waits for a hub to come back


class WorkerDrains(Case):
    def wait_leaving(self, h):
        """One worker says that it takes no more."""
        h.wait_status(lambda s: s["slots"] == 0 or any(w["draining"] for w in s["workers_list"]),
                      what="a worker drains")

    def test_running_job_finishes_and_the_next_goes_elsewhere(self):
        h = self.hub()
        first = self.worker(h)
        client = self.client(h)
        client.send(request_bytes("POST", "/sleep?ms=600", [], b"x"))
        wait_until(lambda: self.logged("started"), 5)
        first.signal(signal.SIGTERM)
        self.wait_leaving(h)
        second = self.worker(h)
        self.assertEqual(self.get(h, "/pid").text, str(second.pid))
        self.assertEqual(client.response().text, f"slept by {first.pid}")
        self.assertEqual(first.wait(scaled(5)), 0)
        h.wait_workers(1)

    def test_idle_worker_leaves_at_once(self):
        h = self.hub()
        worker = self.worker(h, slots=4)
        begin = time.monotonic()
        worker.signal(signal.SIGTERM)
        self.assertEqual(worker.wait(), 0)
        self.assertLess(time.monotonic() - begin, scaled(2))
        h.wait_workers(0)

    def test_second_signal_cancels(self):
        h = self.hub()
        worker = self.worker(h)
        client = self.client(h)
        client.send(request_bytes("POST", "/sleep?ms=60000", [], b"x"))
        wait_until(lambda: self.logged("started"), 5)
        worker.signal(signal.SIGTERM)
        self.wait_leaving(h)
        worker.signal(signal.SIGTERM)
        worker.wait(scaled(5))
        self.assertIn(client.response().status, (500, 502, 503))

    def test_drain_time_of_the_worker(self):
        h = self.hub()
        worker = self.worker(h, drain_ms=300)
        client = self.client(h)
        client.send(request_bytes("POST", "/sleep?ms=60000", [], b"x"))
        wait_until(lambda: self.logged("started"), 5)
        worker.signal(signal.SIGTERM)
        worker.wait(scaled(5))
        self.assertIn(client.response().status, (500, 502, 503))
        h.wait_idle()

    def test_rolling_restart_under_load_loses_nothing(self):
        """POST: nothing may be run twice, so every hand-over must be clean."""
        h = self.hub()
        workers = [self.worker(h, slots=2) for _ in range(3)]
        stop, bad, done = threading.Event(), [], [0] * 12

        def load(i):
            try:
                with Client(h.listen, limit=20) as client:
                    while not stop.is_set():
                        r = client.request("POST", "/sleep?ms=5", body=b"x")
                        done[i] += 1
                        if r.status != 200:
                            bad.append(repr(r))
            except Exception as e:
                bad.append(repr(e))
        threads = [threading.Thread(target=load, args=(i,), daemon=True) for i in range(12)]
        for thread in threads:
            thread.start()
        for worker in list(workers):
            at = sum(done)
            wait_until(lambda: sum(done) > at + 100, 20, "100 more answers")
            self.worker(h, slots=2)
            worker.signal(signal.SIGTERM)
            self.assertEqual(worker.wait(scaled(10)), 0)
        at = sum(done)
        wait_until(lambda: sum(done) > at + 100, 20, "100 more answers")
        stop.set()
        for thread in threads:
            thread.join(20)
        self.assertEqual(bad, [])
        self.assertEqual(len(self.logged("started")), sum(done))


if __name__ == "__main__":
    main()
