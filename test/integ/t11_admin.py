#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the hub says of itself: /healthz, /readyz, /status, /metrics."""

import os
import re
import unittest

from weirtest import Case, FakeWorker, main, request_bytes, wait_until

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))

NUMBER = (int, float)
STATUS = {"version": str, "uptime_s": NUMBER, "draining": bool, "requests": int, "queued": int,
          "queued_bytes": int, "running": int, "workers": int, "slots": int, "services": list,
          "workers_list": list, "jobs": list}
SERVICE = {"name": str, "queued": int, "queued_bytes": int, "running": int, "workers": int, "slots": int,
           "submitted": int, "dispatched": int, "done": int, "oldest_wait_ms": NUMBER, "rate_per_s": NUMBER}
WORKER = {"id": str, "address": str, "transport": str, "labels": str, "services": list, "slots": int,
          "running": int, "draining": bool, "attached_s": NUMBER, "dispatched": int}
JOB = {"job": (str, int), "service": str, "worker": (str, int, type(None)), "state": str,
       "hop": int, "attempt": int, "priority": int, "age_ms": NUMBER}


class Admin(Case):
    def setUp(self):
        super().setUp()
        self.h = self.hub()

    def check_shape(self, value, shape):
        for key, kind in shape.items():
            self.assertIn(key, value)
            self.assertIsInstance(value[key], kind, key)
            if kind is not bool:
                self.assertNotIsInstance(value[key], bool, key)

    def test_health(self):
        for path in ("/healthz", "/readyz"):
            with self.subTest(path):
                r = self.h.admin_get(path)
                self.assertEqual(r.status, 200)
                head = self.h.admin_get(path, "HEAD")
                self.assertEqual((head.status, head.body), (200, b""))

    def test_unknown_page_and_method(self):
        self.assert_problem(self.h.admin_get("/nosuch"), 404)
        self.assert_problem(self.h.admin_get("/status", "POST"), 405)
        self.assert_problem(self.h.admin_get("/statusx"), 404)
        self.assertEqual(self.h.admin_get("/status?x=1").status, 200)

    def test_kept_connection_and_bad_input(self):
        client = self.client(self.h.admin)
        for _ in range(10):
            self.assertEqual(client.request("GET", "/healthz").status, 200)
        client.send(b"GET /healthz HTTP/1.1\nHost: h\n\n")
        self.assert_problem(client.response(), 400)
        client.assert_closed()

    def test_pages_are_not_on_the_public_listener(self):
        for path in ("/status", "/metrics", "/readyz"):
            self.assert_problem(self.get(self.h, path), 404)

    def test_health_path_on_the_public_listener(self):
        h = self.hub("--health-path", "/up")
        self.assertEqual(self.get(h, "/up").status, 200)

    def test_status_of_an_idle_hub(self):
        r = self.h.admin_get("/status")
        self.assertEqual(r.header("content-type").split(";")[0], "application/json")
        status = r.json()
        self.check_shape(status, STATUS)
        self.assertEqual((status["requests"], status["workers"], status["slots"]), (0, 0, 0))
        self.assertEqual(status["jobs"], [])
        self.assertFalse(status["draining"])

    def test_status_shows_what_runs(self):
        worker = self.worker(self.h, slots=2, offer=["sleep", "hello"], labels="zone=a, gpu=no")
        self.get(self.h, "/hello")
        clients = [self.client(self.h) for _ in range(3)]
        for client, priority in zip(clients, "555"):
            client.send(request_bytes("GET", "/sleep?ms=60000", [("Weir-Priority", priority)]))
        status = self.h.wait_status(lambda s: (s["running"], s["queued"]) == (2, 1))
        self.check_shape(status, STATUS)
        for service in status["services"]:
            self.check_shape(service, SERVICE)
        services = {s["name"]: s for s in status["services"]}
        self.assertEqual(set(services), {"sleep", "hello"})
        self.assertEqual((services["hello"]["submitted"], services["hello"]["done"]), (1, 1))
        sleep = services["sleep"]
        self.assertEqual((sleep["queued"], sleep["running"], sleep["workers"], sleep["slots"]), (1, 2, 1, 2))
        self.assertEqual((sleep["submitted"], sleep["dispatched"], sleep["done"]), (3, 2, 0))
        self.assertEqual(status["requests"], 3)
        self.assertGreater(status["queued_bytes"], 0)
        (shown,) = status["workers_list"]
        self.check_shape(shown, WORKER)
        self.assertEqual((shown["id"], shown["slots"]), (worker.id, 2))
        self.assertEqual((shown["running"], shown["dispatched"]), (2, 3))
        self.assertEqual(sorted(shown["services"]), ["hello", "sleep"])
        self.assertIn("zone=a", shown["labels"])
        for job in status["jobs"]:
            self.check_shape(job, JOB)
            self.assertEqual((job["service"], job["hop"], job["priority"]), ("sleep", 0, 5))
        self.assertEqual(sorted(j["state"] for j in status["jobs"]), ["queued", "running", "running"])
        running = {str(j["job"]) for j in status["jobs"] if j["state"] == "running"}
        started = lambda: {line[1] for line in self.logged("started") if line[3] == "sleep"}
        wait_until(lambda: len(started()) == 2, what="both handlers have begun")
        self.assertEqual(running, started())  # the ids are those that the workers see (Weir-Job)

    def test_status_names_need_no_trust(self):
        """Names of workers come from outside: they must come out as valid JSON and Prometheus labels."""
        for i, name in enumerate(('quo"te', "back\\slash", "<script>", "caf\xe9")):
            try:
                FakeWorker(self, self.h, f"s{i}", worker=name)
            except AssertionError as e:
                self.assertIn("handshake refused: <400", str(e))  # a name may also be refused
        self.h.admin_get("/status").json()
        self.h.metrics()

    def test_metrics_parse(self):
        self.worker(self.h, offer=["hello", "sleep"])
        self.get(self.h, "/hello")
        self.get(self.h, "/nosuch")
        r = self.h.admin_get("/metrics")
        self.assertTrue(r.header("content-type").startswith("text/plain"), r.header("content-type"))
        metrics = self.h.metrics()
        self.assertTrue(metrics.types)
        for name, kind in metrics.types.items():
            self.assertTrue(name.startswith("weir_") or name.startswith("process_"), name)
            self.assertTrue(metrics.help.get(name), f"{name} has no HELP")
            if kind == "counter":
                self.assertTrue(name.endswith("_total"), name)
        self.assertTrue(any(kind == "histogram" for kind in metrics.types.values()))

    def test_counters_count(self):
        self.worker(self.h, offer=["hello"])
        before = self.h.metrics()
        for _ in range(7):
            self.get(self.h, "/hello")
        for _ in range(3):
            self.get(self.h, "/nosuch")
        after = wait_until(self.h.metrics, 5)
        grown = {name: after.value(name) - before.value(name) for name in after.names()
                 if after.types[name] == "counter"}
        self.assertIn(10, grown.values(), grown)  # requests whose head was read
        self.assertIn(7, grown.values(), grown)   # answered by a worker
        self.assertIn(3, grown.values(), grown)   # no such service
        self.assertTrue(all(v >= 0 for v in grown.values()), grown)

    def test_what_runs_is_in_the_gauges(self):
        self.worker(self.h, slots=3, offer=["sleep"])
        client = self.client(self.h)
        client.send(request_bytes("GET", "/sleep?ms=60000"))
        self.h.wait_running(1)
        metrics = self.h.metrics()
        gauges = {n: metrics.value(n) for n, kind in metrics.types.items() if kind == "gauge"}
        for word, value in (("slots", 3), ("running", 1), ("workers", 1)):
            self.assertTrue(any(word in n and v == value for n, v in gauges.items()), (word, gauges))

    def test_documented_metrics_are_there(self):
        path = os.path.join(ROOT, "docs", "metrics.md")
        if not os.path.exists(path):
            raise unittest.SkipTest("docs/metrics.md is not there")
        with open(path) as f:
            text = f.read()
        documented = set(re.findall(r"`((?:weir|process)_[a-z0-9_]+)(?:\{[^`]*\})?`", text))
        self.assertGreater(len(documented), 10)
        self.worker(self.h, offer=["hello"])
        self.get(self.h, "/hello")
        metrics = self.h.metrics()
        families = metrics.names()
        self.assertEqual(sorted(documented - families), [], "documented, but not there")
        self.assertEqual(sorted(families - documented), [], "there, but not documented")

    def test_many_scrapes_do_not_grow_it(self):
        self.worker(self.h, offer=["hello"])
        for _ in range(50):
            self.h.metrics()
        fds = self.h.descriptors()
        for _ in range(200):
            self.h.metrics()
            self.h.status()
        self.assertLessEqual(self.h.descriptors(), fds + 2)


if __name__ == "__main__":
    main()
