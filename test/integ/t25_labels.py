#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Labels: which workers may get a request, which it waits for, and who of those that are alike."""

import time
import unittest

from weirtest import Case, FakeWorker, H1Worker, ZmqWorker, main, request_bytes, scaled


def zone(name):
    return [("X-Zone", name)]


class Labels(Case):
    def pids(self, h, count, headers=()):
        """Who answers count requests, one after the other."""
        answers = [self.get(h, "/pid", headers) for _ in range(count)]
        self.assertEqual([r.status for r in answers], [200] * count)
        return [int(r.text) for r in answers]

    def hold(self, h, running, headers=(), target="/sleep?ms=60000"):
        """A request that holds a slot until its client is closed."""
        client = self.client(h)
        client.send(request_bytes("GET", target, headers))
        h.wait_running(running)
        return client

    def queued(self, h, count, headers=(), target="/pid"):
        client = self.client(h)
        client.send(request_bytes("GET", target, headers))
        h.wait_queued(count)
        return client


class Require(Labels):
    def test_a_worker_without_the_label_never_gets_it(self):
        h = self.hub("--service", "pid.require=gpu, sleep.require=gpu")
        plain = self.worker(h, slots=4, labels="zone=eu")
        gpu = self.worker(h, labels="zone=eu, gpu=a100")
        self.assertEqual(self.pids(h, 10), [gpu.pid] * 10)
        held = self.hold(h, 1)
        waiting = [self.queued(h, i + 1) for i in range(3)]
        self.assertEqual(self.get(h, "/hello").status, 200)  # which needs none: by the other
        self.assertEqual(h.status()["queued"], 3)
        held.close()
        self.assertEqual([int(c.response().text) for c in waiting], [gpu.pid] * 3)
        self.assertNotIn(str(plain.pid), [line[2] for line in self.logged("started") if line[3] in ("pid", "sleep")])

    def test_by_a_header(self):
        h = self.hub("--service", "pid.require=zone=${x-zone}")
        eu = self.worker(h, labels="zone=eu")
        us = self.worker(h, labels="gpu, zone=us")
        self.assertEqual(self.pids(h, 5, zone("eu")), [eu.pid] * 5)
        self.assertEqual(self.pids(h, 5, zone("us")), [us.pid] * 5)
        self.assertEqual(set(self.pids(h, 6)), {eu.pid, us.pid})  # without the header it does not matter
        self.assertEqual(h.service("pid")["require"], "zone=${x-zone}")

    def test_all_of_several(self):
        h = self.hub("--require", "gpu, zone=${x-zone}", "--service", "hello.require=off")
        self.worker(h, labels="gpu")
        self.worker(h, labels="zone=eu")
        both = self.worker(h, labels="zone=eu,gpu")
        self.assertEqual(self.pids(h, 6, zone("eu")), [both.pid] * 6)
        self.assertEqual({self.get(h, "/hello").status for _ in range(3)}, {200})

    def test_nobody_has_it(self):
        h = self.hub("--service", "pid.require=tpu", "--queue-time", "300ms")
        self.worker(h, labels="gpu")
        begin = time.monotonic()
        self.assert_problem(self.get(h, "/pid"), 503, "pid")
        self.assertGreaterEqual(time.monotonic() - begin, 0.25)
        h.wait_idle()
        self.assertEqual(self.logged("started"), [])

    def test_one_comes_that_has_it(self):
        h = self.hub("--service", "pid.require=zone=${x-zone}")
        self.worker(h, labels="zone=eu")
        client = self.queued(h, 1, zone("us"))
        us = self.worker(h, labels="zone=us")
        self.assertEqual(int(client.response().text), us.pid)

    def test_it_leaves_and_the_request_waits_for_another(self):
        h = self.hub("--service", "sleep.require=gpu")
        self.worker(h)
        first = self.worker(h, labels="gpu")
        client = self.hold(h, 1, target="/sleep?ms=300")
        first.kill()
        h.wait_queued(1)
        second = self.worker(h, labels="gpu")
        self.assertEqual(client.response().text, f"slept by {second.pid}")

    def test_a_value_that_no_label_can_have(self):
        h = self.hub("--service", "pid.require=zone=${x-zone}")
        self.worker(h, labels="zone=eu")
        for value in ("eu,gpu", "e u", "\xe9", "x" * 1100):
            self.assert_problem(self.get(h, "/pid", zone(value)), 400, "pid")
        self.assertEqual(h.metrics().value("weir_rejected_total", reason="labels"), 4)
        self.assertEqual(len(self.pids(h, 1, zone("eu"))), 1)

    def test_many_needs_at_once(self):
        """Hundreds that nobody can fulfil do not stand in the way of one that somebody can."""
        h = self.hub("--service", "pid.require=zone=${x-zone}")
        self.worker(h)
        clients = [self.client(h) for _ in range(300)]
        for i, client in enumerate(clients):
            client.send(request_bytes("GET", "/pid", zone(f"z{i}")))
        h.wait_queued(300)
        last = self.queued(h, 301, zone("one-more"))
        one_more = self.worker(h, labels="zone=one-more")
        self.assertEqual(int(last.response().text), one_more.pid)
        some = self.worker(h, labels="zone=z7, zone=z8")
        self.assertEqual([int(clients[i].response().text) for i in (7, 8)], [some.pid] * 2)

    def test_turns_over_all_needs(self):
        """The one worker that can do both serves them as they came, whatever they need."""
        h = self.hub("--service", "sleep.require=${x-need}")
        self.worker(h, labels="a, b")
        held = self.hold(h, 1)
        clients = [self.queued(h, i + 1, [("X-Need", need)] if need else [], f"/sleep?ms=1&i={i}")
                   for i, need in enumerate(["b", "", "a", "a", "b", ""])]
        held.close()
        for client in clients:
            self.assertEqual(client.response().status, 200)
        self.assertEqual([line[6].split("=")[-1] for line in self.logged("started")[1:]], list("012345"))


class Relabel(Labels):
    """A worker that says on an answer what it can do from now on."""

    def relabels(self, worker):
        """worker(hub) attaches one to the service s, and returns what takes its next job and answers it with these
        Weir-Labels (None: without)."""
        h = self.hub("--zmq", "tcp://127.0.0.1:0", "--service", "s.require=${x-need}")
        answer = worker(h)
        h.wait_workers(1)
        needs, free = self.queued(h, 1, [("X-Need", "gpu")], "/s"), self.client(h)
        free.send(request_bytes("GET", "/s"))
        answer("gpu, zone=eu")
        r = free.response()
        self.assertEqual((r.status, r.header("weir-labels")), (200, None))
        answer(None)  # the one that waited for it
        self.assertEqual(needs.response().status, 200)
        self.assertEqual(h.status()["workers_list"][0]["labels"], "gpu, zone=eu")
        free.send(request_bytes("GET", "/s"))
        answer("zone=eu")
        self.assertEqual(free.response().status, 200)
        needs.send(request_bytes("GET", "/s", [("X-Need", "gpu")]))
        h.wait_queued(1)
        free.send(request_bytes("GET", "/s", [("X-Need", "zone=eu")]))
        answer("")
        self.assertEqual(free.response().status, 200)
        self.assertEqual(h.status()["workers_list"][0]["labels"], "")
        self.assertEqual(h.status()["queued"], 1)

    def test_http2(self):
        def worker(h):
            w = FakeWorker(self, h, "s")

            def answer(labels):
                w.answer(w.wait_request(), fields=[("weir-labels", labels)] if labels is not None else [])
            return answer
        self.relabels(worker)

    def test_http1(self):
        def worker(h):
            w = H1Worker(self, h.attach, "s")

            def answer(labels):
                w.request()
                w.answer(b"ok", headers=[("Weir-Labels", labels)] if labels is not None else [])
            return answer
        self.relabels(worker)

    @unittest.skipIf(ZmqWorker is None, "no pyzmq")
    def test_zeromq(self):
        def worker(h):
            w = ZmqWorker(self, h)

            def answer(labels):
                field = f"weir-labels: {labels}\r\n" if labels is not None else ""
                w.reply(w.job(), b"ok", f"HTTP/1.1 200 OK\r\n{field}\r\n")
                w.say("SLOTS", 1)
            return answer
        self.relabels(worker)


class Prefer(Labels):
    def test_first(self):
        h = self.hub("--service", "pid.prefer=near,pid.prefer-wait=20s")
        self.worker(h, slots=3)
        near = self.worker(h, labels="near")
        self.worker(h, slots=3)
        self.assertEqual(self.pids(h, 10), [near.pid] * 10)

    def test_by_a_header(self):
        """Whoever has the caller's data at hand; and a wish that nobody can have is none."""
        h = self.hub("--service", "pid.prefer=cache=${x-zone}, pid.prefer-wait=20s")
        eu, us = self.worker(h, labels="cache=eu"), self.worker(h, labels="cache=us")
        self.assertEqual(self.pids(h, 4, zone("eu")), [eu.pid] * 4)
        self.assertEqual(self.pids(h, 4, zone("us")), [us.pid] * 4)
        self.assertEqual(set(self.pids(h, 4)), {eu.pid, us.pid})
        self.assertEqual(self.get(h, "/pid", zone("e,u")).status, 200)

    def test_any_after_prefer_wait(self):
        h = self.hub("--service", "pid.prefer=near, pid.prefer-wait=400ms, sleep.require=near")
        far = self.worker(h)
        self.worker(h, labels="near")
        self.hold(h, 1)
        begin = time.monotonic()
        self.assertEqual(self.pids(h, 1), [far.pid])
        self.assertGreaterEqual(time.monotonic() - begin, 0.35)

    def test_the_preferred_one_comes_free(self):
        h = self.hub("--service", "pid.prefer=near, pid.prefer-wait=20s, sleep.require=near")
        self.worker(h)
        near = self.worker(h, labels="near")
        held = self.hold(h, 1)
        client = self.queued(h, 1)
        held.close()
        self.assertEqual(int(client.response().text), near.pid)

    def test_nobody_is_preferred(self):
        """Nobody has the label, or only with another value: it goes on at once."""
        for labels in (None, "near=no"):
            h = self.hub("--service", "pid.prefer=near=yes, pid.prefer-wait=20s")
            far = self.worker(h, labels=labels)
            begin = time.monotonic()
            self.assertEqual(self.pids(h, 3), [far.pid] * 3)
            self.assertLess(time.monotonic() - begin, scaled(5))

    def test_among_those_that_it_requires(self):
        h = self.hub("--service", "pid.require=gpu, pid.prefer=near, pid.prefer-wait=300ms, sleep.require=near gpu")
        self.worker(h, labels="near")
        far = self.worker(h, labels="gpu")
        both = self.worker(h, labels="near,gpu")
        self.assertEqual(self.pids(h, 5), [both.pid] * 5)
        self.hold(h, 1)
        self.assertEqual(self.pids(h, 1), [far.pid])


class Alike(Labels):
    def test_least_running(self):
        h = self.hub("--service", "sleep.require=gpu")
        for labels in ("gpu", "gpu", None, "gpu"):
            self.worker(h, slots=5, labels=labels)
        for i in range(6):
            self.hold(h, i + 1)
        self.assertEqual([w["running"] for w in h.status()["workers_list"] if w["labels"]], [2, 2, 2])

    def test_longest_idle(self):
        h = self.hub("--service", "pid.require=gpu")
        for labels in ("gpu", "gpu", None, "gpu"):
            self.worker(h, slots=2, labels=labels)
        pids = self.pids(h, 9)
        self.assertEqual(len(set(pids[:3])), 3)
        self.assertEqual(pids, pids[:3] * 3)


if __name__ == "__main__":
    main()
