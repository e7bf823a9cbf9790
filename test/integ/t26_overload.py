#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""More requests than the workers can do: what is refused, who goes first, and how it is over afterwards."""

import threading
import time

from weirtest import Case, FakeWorker, main, request_bytes, scaled, slow, wait_until


class Load:
    """Open loop: a request each interval, whatever becomes of the others."""

    def __init__(self, case, hub, target):
        self.case, self.hub, self.target = case, hub, target
        self.threads, self.answers, self.errors = [], [], []

    def ask(self):
        begin = time.monotonic()
        try:
            r = self.case.get(self.hub, self.target, limit=60)
            self.answers.append((time.monotonic() - begin, r))
        except Exception as e:  # told by the test's own thread
            self.errors.append(e)

    def run(self, interval, seconds):
        due = time.monotonic()
        end = due + seconds
        while due < end:
            thread = threading.Thread(target=self.ask, daemon=True)
            thread.start()
            self.threads.append(thread)
            due += interval
            time.sleep(max(0, due - time.monotonic()))

    def finish(self):
        for thread in self.threads:
            thread.join(60)
        if self.errors:
            raise self.errors[0]
        return ([(t, r) for t, r in self.answers if r.status == 200],
                [(t, r) for t, r in self.answers if r.status != 200])


class Queue(Case):
    def busy(self, h):
        """A request that holds the only slot until its client is closed."""
        client = self.client(h)
        client.send(request_bytes("GET", "/sleep?ms=60000"))
        h.wait_running(1)
        return client

    def queued(self, h, count, name="x", cost=None):
        client = self.client(h)
        headers = [("Weir-Cost", str(cost))] if cost is not None else []
        client.send(request_bytes("GET", f"/sleep?ms=1&i={name}", headers))
        h.wait_queued(count)
        return client

    def order(self, clients):
        for client in clients:
            self.assertEqual(client.response().status, 200)
        return [line[6].split("=")[-1] for line in self.logged("started")[1:]]


class Shed(Queue):
    @slow(60)
    def test_three_times_as_much_as_can_be_done(self):
        """40 requests a second can be done. Without shedding the last of 4 seconds would wait for 8."""
        h = self.hub("--service", "sleep.shed-wait=300ms, sleep.shed-after=500ms")
        self.worker(h, slots=2)
        load = Load(self, h, "/sleep?ms=50")
        begin = time.monotonic()
        load.run(1 / 120, 4)
        took = time.monotonic() - begin
        wait_until(lambda: self.quick(h), scaled(4), "a request is answered at once")
        over = time.monotonic() - begin - took
        done, refused = load.finish()
        self.assertLess(over, scaled(3))
        times = sorted(t for t, _ in done)
        self.assertGreater(len(done), 40 * took * 0.6, "the workers had work all the time")
        self.assertLess(times[len(times) // 2], scaled(1))
        self.assertLess(times[-1], scaled(2.5))
        self.assertGreater(len(refused), len(load.answers) / 3)
        for _, r in refused:
            problem = self.assert_problem(r, 503, "sleep")
            self.assertEqual(problem["detail"], "the service is overloaded")
            self.assertTrue(1 <= int(r.header("retry-after")) <= 30, r)
        self.assertEqual(h.metrics().value("weir_rejected_total", reason="overload"), len(refused) + self.refused)
        h.wait_idle()

    refused = 0  # of the requests of quick

    def quick(self, h):
        begin = time.monotonic()
        status = self.get(h, "/sleep?ms=1").status
        self.refused += status != 200
        return status == 200 and time.monotonic() - begin < scaled(0.2)

    def test_full_status(self):
        h = self.hub("--shed-wait", "200ms", "--shed-after", "0", "--full-status", "429")
        self.worker(h)
        self.busy(h)
        begin = time.monotonic()
        self.assert_problem(self.get(h, "/sleep?ms=1"), 429, "sleep")
        self.assertGreaterEqual(time.monotonic() - begin, 0.2)
        h.wait_queued(0)
        self.assertEqual(h.status()["running"], 1)

    def test_a_short_burst_is_no_overload(self):
        """The queue is empty again before shed-after: all have their turn, however long they waited."""
        h = self.hub("--shed-wait", "50ms", "--shed-after", "20s")
        self.worker(h)
        first = self.busy(h)
        clients = [self.queued(h, i + 1) for i in range(5)]
        h.wait_status(lambda s: all(j["age_ms"] > 300 for j in s["jobs"]), what="they have waited")
        first.close()
        self.assertEqual(len(self.order(clients)), 5)
        self.assertEqual(h.metrics().value("weir_rejected_total", reason="overload"), 0)

    def test_off(self):
        h = self.hub("--shed-after", "0")
        self.worker(h)
        first = self.busy(h)
        client = self.queued(h, 1)
        h.wait_status(lambda s: all(j["age_ms"] > 1000 for j in s["jobs"]), what="it has waited")
        first.close()
        self.assertEqual(client.response().status, 200)

    def test_those_of_a_need_that_nobody_serves(self):
        h = self.hub("--shed-wait", "200ms", "--shed-after", "0", "--service", "pid.require=${x-need}")
        worker = self.worker(h)
        begin = time.monotonic()
        self.assert_problem(self.get(h, "/pid", [("X-Need", "gpu")]), 503, "pid")
        self.assertGreaterEqual(time.monotonic() - begin, 0.2)
        self.assertEqual(self.get(h, "/pid").text, str(worker.pid))


class Shortest(Queue):
    def test_the_cheapest_first(self):
        h = self.hub("--service", "sleep.order=shortest")
        self.worker(h)
        first = self.busy(h)
        wanted = [("a", 500), ("b", 20), ("c", None), ("d", 0), ("e", 20), ("f", 1), ("g", 2 ** 64 - 1)]
        clients = [self.queued(h, i + 1, name, cost) for i, (name, cost) in enumerate(wanted)]
        self.assertEqual(h.service("sleep")["order"], "shortest")
        first.close()
        self.assertEqual(self.order(clients), list("fbeacdg"))  # what is not known comes last

    def test_in_the_order_of_arrival_otherwise(self):
        h = self.hub()
        self.worker(h)
        first = self.busy(h)
        clients = [self.queued(h, i + 1, str(i), 10 - i) for i in range(5)]
        self.assertNotIn("order", h.service("sleep"))
        first.close()
        self.assertEqual(self.order(clients), list("01234"))

    def test_priorities_come_before_costs(self):
        h = self.hub("--order", "shortest")
        self.worker(h)
        first = self.busy(h)
        clients = [self.queued(h, 1, "cheap", 1)]
        dear = self.client(h)
        dear.send(request_bytes("GET", "/sleep?ms=1&i=dear", [("Weir-Cost", "9"), ("Weir-Priority", "3")]))
        h.wait_queued(2)
        first.close()
        self.assertEqual(self.order(clients + [dear]), ["dear", "cheap"])

    def test_within_a_tenant_only(self):
        """Nobody gets more than a share by saying that it is cheap."""
        h = self.hub("--order", "shortest", "--tenant-header", "X-Tenant")
        self.worker(h)
        first = self.busy(h)
        clients = []
        for i, (tenant, cost) in enumerate([("a", 9), ("a", 8), ("a", 7), ("b", 1), ("b", 3), ("b", 2)]):
            client = self.client(h)
            client.send(request_bytes("GET", f"/sleep?ms=1&i={tenant}{cost}",
                                      [("X-Tenant", tenant), ("Weir-Cost", str(cost))]))
            h.wait_queued(i + 1)
            clients.append(client)
        first.close()
        self.assertEqual(self.order(clients), ["a7", "b1", "a8", "b2", "a9", "b3"])

    def test_a_long_one_is_not_starved(self):
        """While cheaper ones never run out it has its turn as soon as it has waited for age."""
        h = self.hub("--service", "sleep.order=shortest, sleep.age=1s")
        self.worker(h)
        first = self.busy(h)
        clients = [self.queued(h, 1, "long", 1000)]
        h.wait_status(lambda s: any(j["age_ms"] > 1000 for j in s["jobs"] if j["state"] == "queued"), what="age")
        clients += [self.queued(h, i + 2, "short", 1) for i in range(5)]
        first.close()
        self.assertEqual(self.order(clients), ["long"] + ["short"] * 5)

    def test_a_worker_says_what_the_rest_will_cost(self):
        """Weir-Cost beside Weir-Forward."""
        h = self.hub("--order", "shortest", "--route", "/s=s")
        w = FakeWorker(self, h, "s")
        clients = [self.client(h) for _ in range(2)]
        clients[0].send(request_bytes("GET", "/s/first", [("Weir-Cost", "100")]))
        stream = w.wait_request()
        clients[1].send(request_bytes("GET", "/s/second", [("Weir-Cost", "5")]))
        h.wait_queued(1)
        w.answer(stream, body=b"", fields=[("weir-forward", "s"), ("weir-cost", "1")])
        w.answer(w.wait_request(), body=b"one")
        self.assertEqual(clients[0].response().text, "one")
        w.answer(w.wait_request(), body=b"two")
        self.assertEqual(clients[1].response().text, "two")

    def test_not_a_number(self):
        h = self.hub()
        self.worker(h)
        for cost in ("", "abc", "-1", "1.5", "1e3", "0x10", "18446744073709551616", "1, 2"):
            self.assert_problem(self.get(h, "/hello", [("Weir-Cost", cost)]), 400)
        self.assertEqual(self.get(h, "/hello", [("Weir-Cost", "18446744073709551615")]).status, 200)
        r = self.get(h, "/echo", [("Weir-Cost", "7")])
        self.assertEqual((r.status, r.header("x-echo-weir-cost")), (200, None))


if __name__ == "__main__":
    main()
