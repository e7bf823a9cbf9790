#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Durable jobs: accepted with 202, run whatever dies, kept with their answers."""

import json
import os
import signal
import sqlite3
import subprocess
import time
from contextlib import closing

from weirtest import Case, H1Worker, main, scaled, wait_until

ASYNC = [("Prefer", "respond-async")]


class Jobs(Case):
    def setUp(self):
        super().setUp()
        self.data = os.path.join(self.directory, "data")
        self.flags = ["--data", self.data, "--job-backoff", "20ms", "--job-attempts", "3"]

    def durable_hub(self, *more):
        return self.hub(*self.flags, *more)

    def submit(self, hub, target, method="GET", body=None, headers=()):
        r = self.get(hub, target, ASYNC + list(headers), method, body)
        self.assertEqual(r.status, 202, r)
        self.assertEqual(r.header("preference-applied"), "respond-async")
        job = r.header("location").removeprefix("/-/jobs/")
        if method != "HEAD":
            self.assertEqual(r.json(), {"id": job, "state": "queued"})
        return job

    def show(self, hub, job, headers=()):
        r = self.get(hub, f"/-/jobs/{job}", headers)
        self.assertEqual(r.status, 200, r)
        return r.json()

    def result(self, hub, job, wait="20s"):
        return self.get(hub, f"/-/jobs/{job}/result?wait={wait}", limit=30)

    def state(self, hub, job, wanted, limit=10):
        wait_until(lambda: self.show(hub, job)["state"] == wanted, limit, f"job {job} {wanted}")
        return self.show(hub, job)

    def kill(self, hub):
        hub.ended = True
        hub.signal(signal.SIGKILL)
        hub.wait(10)

    # ---- the answer ----

    def test_accepted_run_and_kept(self):
        h = self.durable_hub()
        self.worker(h, offer=["status"])
        job = self.submit(h, "/status?code=201&set=x&cookies=2&body=made", "POST", b"data")
        r = self.result(h, job)
        self.assertEqual((r.status, r.text, r.header("x-set")), (201, "made", "x"))
        self.assertEqual(len([v for n, v in r.headers if n.lower() == "set-cookie"]), 2)
        shown = self.show(h, job)
        self.assertEqual((shown["state"], shown["service"], shown["status"]), ("done", "status", 201))
        self.assertLessEqual(shown["created"], shown["ended"])
        self.assertEqual(self.result(h, job).text, "made")  # and again

    def test_not_there_yet(self):
        h = self.durable_hub()
        self.worker(h, offer=["status"]).stop()
        h.wait_workers(0)
        job = self.submit(h, "/status")
        self.assertEqual(self.show(h, job)["state"], "queued")
        for query in ("", "?wait=50ms"):
            r = self.get(h, f"/-/jobs/{job}/result{query}")
            self.assertEqual((r.status, r.json()["state"]), (202, "queued"))

    def test_without_a_data_directory_it_is_answered_at_once(self):
        h = self.hub()
        self.worker(h, offer=["hello"])
        r = self.get(h, "/hello", ASYNC)
        self.assertEqual((r.status, r.text, r.header("preference-applied")), (200, "hello", None))
        self.assert_problem(self.get(h, "/-/jobs"), 404)

    def test_wait(self):
        h = self.durable_hub()
        self.worker(h, offer=["hello", "sleep"])
        r = self.get(h, "/hello", [("Prefer", "respond-async, wait=10")])
        self.assertEqual((r.status, r.text), (200, "hello"))
        began = time.monotonic()
        r = self.get(h, "/sleep?ms=3000", [("Prefer", "wait=1"), ("Prefer", "respond-async")])
        self.assertEqual(r.status, 202, r)
        self.assertLess(time.monotonic() - began, scaled(2.5))
        self.assertEqual(self.result(h, r.json()["id"]).status, 200)

    def test_large_bodies_byte_for_byte(self):
        h = self.durable_hub()
        self.worker(h, offer=["echo"])
        for size in (0, 1, 65536, 65537, 3_000_001):
            body = os.urandom(size)
            job = self.submit(h, "/echo", "POST", body, [("Content-Type", "application/x-odd")])
            r = self.result(h, job)
            self.assertEqual((r.status, len(r.body), r.header("content-type")), (200, size, "application/x-odd"))
            self.assertEqual(r.body, body)
            self.assertEqual(r.header("x-echo-weir-durable"), job)
            self.assertIsNone(r.header("x-echo-prefer"))

    def test_no_body_no_content(self):
        h = self.durable_hub()
        self.worker(h, offer=["status", "hello"])
        r = self.result(h, self.submit(h, "/status?code=204"))
        self.assertEqual((r.status, r.body), (204, b""))
        job = self.submit(h, "/hello", "HEAD")
        self.state(h, job, "done")
        self.assertEqual(self.result(h, job).status, 200)

    def test_upload_with_expect(self):
        h = self.durable_hub()
        self.worker(h, offer=["sink"])
        path = os.path.join(self.directory, "file")
        with open(path, "wb") as f:
            f.write(bytes(2_000_000))
        out = subprocess.run(["curl", "-sS", "-T", path, "-H", "Prefer: respond-async", "-H", "Expect: 100-continue",
                              "-H", "Transfer-Encoding: chunked", h.url + "/sink"], capture_output=True, check=True, timeout=20)
        job = json.loads(out.stdout)["id"]
        self.assertTrue(self.result(h, job).text.startswith("2000000 "))

    # ---- Idempotency-Key ----

    def test_idempotency(self):
        h = self.durable_hub()
        self.worker(h, offer=["echo", "sink"])
        key = [("Idempotency-Key", "k1")]
        first = self.submit(h, "/echo", "POST", b"a", key)
        self.assertEqual(self.submit(h, "/echo", "POST", b"a", key), first)
        self.assertEqual(self.result(h, first).body, b"a")
        self.assertEqual(self.submit(h, "/echo", "POST", b"a", key), first)  # also when it has ended
        self.assert_problem(self.get(h, "/echo", ASYNC + key, "POST", b"b"), 422)
        self.assert_problem(self.get(h, "/echo?x", ASYNC + key, "POST", b"a"), 422)
        self.assertNotEqual(self.submit(h, "/sink", "POST", b"a", key), first)  # another service's keys are others
        self.assertNotEqual(self.submit(h, "/echo", "POST", b"a", [("Idempotency-Key", "k2")]), first)
        r = self.get(h, "/echo", [("Prefer", "respond-async, wait=5")] + key, "POST", b"a")
        self.assertEqual((r.status, r.body), (200, b"a"))
        wait_until(lambda: len(self.logged("started")) == 3, 10, "three jobs ran")
        h.wait_idle()
        self.assertEqual(len(self.logged("started")), 3)

    def test_keys_and_large_bodies(self):
        h = self.durable_hub()
        self.worker(h, offer=["sink"])
        key, body = [("Idempotency-Key", "k")], os.urandom(200_000)
        first = self.submit(h, "/sink", "POST", body, key)
        self.assertEqual(self.submit(h, "/sink", "POST", body, key), first)
        self.assert_problem(self.get(h, "/sink", ASYNC + key, "POST", body[:-1] + b"?"), 422)
        self.assertEqual(self.result(h, first).status, 200)

    # ---- attempts ----

    def test_dead_and_again(self):
        h = self.durable_hub()
        self.worker(h, offer=["flaky"])
        path = os.path.join(self.directory, "now")
        job = self.submit(h, f"/flaky?file={path}", "POST", b"x")
        shown = self.state(h, job, "dead")
        self.assertEqual((shown["status"], shown["failed_attempts"]), (503, 3))
        self.assertIn("error", shown["reason"])
        self.assertEqual([x[4] for x in self.logged("started")], ["1", "2", "3"])
        self.assertEqual(self.result(h, job).status, 503)
        open(path, "w").close()
        r = self.get(h, f"/-/jobs/{job}/retry", method="POST")
        self.assertEqual((r.status, r.header("location")), (202, "/-/jobs/" + job))
        self.assertEqual(self.result(h, job).text, "at last")
        self.assert_problem(self.get(h, f"/-/jobs/{job}/retry", method="POST"), 409)

    def test_what_cannot_be_done_is_not_tried_again(self):
        h = self.durable_hub()
        self.worker(h, offer=["status"])
        job = self.submit(h, "/status?code=404&body=no")
        shown = self.state(h, job, "failed")
        self.assertEqual(shown["status"], 404)
        self.assertEqual(self.result(h, job).text, "no")
        self.assertEqual(len(self.logged("started")), 1)

    def test_its_worker_dies(self):
        h = self.durable_hub()
        first = self.worker(h, offer=["sleep"])
        job = self.submit(h, "/sleep?ms=400", "POST", b"x")
        wait_until(lambda: self.logged("started"), 10, "started")
        first.signal(signal.SIGKILL)
        self.worker(h, offer=["sleep"])
        self.assertEqual(self.result(h, job).status, 200)
        self.assertEqual([x[4] for x in self.logged("started")], ["1", "2"])

    def test_an_answer_that_is_cut(self):
        h = self.durable_hub()
        self.worker(h, offer=["cut"])
        shown = self.state(h, self.submit(h, "/cut"), "dead")
        self.assertIn("went away", shown["reason"])
        self.assertEqual(len(self.logged("started")), 3)

    def test_timeouts(self):
        h = self.durable_hub("--job-timeout", "150ms", "--job-attempts", "2")
        self.worker(h, offer=["sleep"], slots=2)
        job = self.submit(h, "/sleep?ms=20000")
        shown = self.state(h, job, "dead")
        self.assertIn("job-timeout", shown["reason"])
        self.assertEqual(self.result(h, job).status, 504)
        h.wait_idle()
        self.assertEqual(len(self.logged("cancelled")), 2)

    def test_deadline(self):
        h = self.durable_hub()
        self.worker(h, offer=["hello"]).stop()
        h.wait_workers(0)
        job = self.submit(h, "/hello", headers=[("Weir-Timeout", "100ms")])
        shown = self.state(h, job, "failed")
        self.assertEqual((shown["status"], shown["reason"]), (504, "its deadline passed"))

    def test_delay(self):
        h = self.durable_hub()
        self.worker(h, offer=["hello"])
        began = time.monotonic()
        job = self.submit(h, "/hello", headers=[("Weir-Delay", "400ms")])
        self.assertIn("run_at", self.show(h, job))
        self.assertEqual(self.result(h, job).text, "hello")
        self.assertGreaterEqual(time.monotonic() - began, 0.4)
        self.assert_problem(self.get(h, "/hello", ASYNC + [("Weir-Delay", "soon")]), 400)

    def test_progress(self):
        h = self.durable_hub()
        self.worker(h, offer=["progress"])
        job = self.submit(h, "/progress?text=40%25&ms=3000")
        wait_until(lambda: self.show(h, job).get("progress") == "40%", 10, "progress")
        shown = self.show(h, job)
        self.assertEqual(shown["state"], "running")
        self.assertIn("started", shown)
        w = H1Worker(self, h.attach, "by-hand")
        job = self.submit(h, "/by-hand")
        w.request()
        for i in range(300):  # interim answers leave nothing behind
            w.send(f"HTTP/1.1 102 Processing\r\nWeir-Progress: {i} of 300 {'x' * 200}\r\n\r\n".encode())
        wait_until(lambda: self.show(h, job).get("progress", "").startswith("299 of 300 "), 10, "progress")
        w.answer(b"done")
        self.assertEqual(self.result(h, job).text, "done")
        self.assertNotIn("progress", self.show(h, job))

    # ---- cancelling ----

    def test_cancel(self):
        h = self.durable_hub()
        w = self.worker(h, offer=["sleep"])
        running = self.submit(h, "/sleep?ms=20000")
        wait_until(lambda: self.logged("started"), 10, "started")
        queued = self.submit(h, "/sleep?ms=20001")
        delayed = self.submit(h, "/sleep?ms=20002", headers=[("Weir-Delay", "1h")])
        for job in (queued, running, delayed):
            r = self.get(h, f"/-/jobs/{job}", method="DELETE")
            self.assertEqual((r.status, r.json()["state"]), (200, "cancelled"))
            self.assertEqual(self.show(h, job)["state"], "cancelled")
            self.assert_problem(self.result(h, job), 410)
            self.assert_problem(self.get(h, f"/-/jobs/{job}", method="DELETE"), 409)
        wait_until(lambda: self.logged("cancelled"), 10, "the worker heard of it")
        h.wait_idle()
        self.assertEqual(len(self.logged("started")), 1)
        del w

    def test_who_waits_is_told(self):
        h = self.durable_hub()
        self.worker(h, offer=["sleep"])
        job = self.submit(h, "/sleep?ms=20000")
        c = self.client(h)
        c.send(f"GET /-/jobs/{job}/result?wait=20s HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        wait_until(lambda: self.logged("started"), 10, "started")
        self.get(h, f"/-/jobs/{job}", method="DELETE")
        self.assert_problem(c.response("GET"), 410)

    # ---- looking ----

    def test_list_and_purge(self):
        h = self.durable_hub()
        self.worker(h, offer=["hello", "status"])
        jobs = [self.submit(h, "/hello") for _ in range(5)] + [self.submit(h, "/status?code=404") for _ in range(2)]
        for job in jobs:
            self.result(h, job)
        listed = self.get(h, "/-/jobs").json()
        self.assertEqual(([j["id"] for j in listed["jobs"]], listed["next"]), (jobs, None))
        page = self.get(h, "/-/jobs?limit=3").json()
        self.assertEqual(page["next"], jobs[2])
        page = self.get(h, f"/-/jobs?limit=100&after={page['next']}&service=hello").json()
        self.assertEqual([j["id"] for j in page["jobs"]], jobs[3:5])
        failed = self.get(h, "/-/jobs?state=failed,dead").json()["jobs"]
        self.assertEqual([j["id"] for j in failed], jobs[5:])
        self.assert_problem(self.get(h, "/-/jobs?state=odd"), 400)
        self.assert_problem(self.get(h, "/-/jobs?limit=0"), 400)
        self.assert_problem(self.get(h, "/-/jobs", method="DELETE"), 400)
        self.assert_problem(self.get(h, "/-/jobs?state=queued", method="DELETE"), 400)
        self.assertEqual(self.get(h, "/-/jobs?state=failed", method="DELETE").json(), {"purged": 2})
        self.assertEqual(len(self.get(h, "/-/jobs").json()["jobs"]), 5)
        self.assert_problem(self.get(h, f"/-/jobs/{jobs[5]}"), 404)

    def test_what_is_not_there(self):
        h = self.durable_hub()
        none = "00000000-0000-7000-8000-000000000000"
        for target, method, status in ((f"/-/jobs/{none}", "GET", 404), (f"/-/jobs/{none}/result", "GET", 404),
                                       (f"/-/jobs/{none}", "DELETE", 404), (f"/-/jobs/{none}/retry", "POST", 404),
                                       ("/-/jobs/x", "GET", 404), (f"/-/jobs/{none}/odd", "GET", 404),
                                       (f"/-/jobs/{none}", "PUT", 405), ("/-/odd", "GET", 404), ("/nobody", "GET", 404)):
            self.assert_problem(self.get(h, target, ASYNC, method), status)

    def test_bodies_that_nobody_wants(self):
        h = self.durable_hub()
        self.worker(h, offer=["hello"])
        job = self.submit(h, "/hello")
        self.result(h, job)
        with self.client(h) as c:
            for method, target, status in (("GET", "/-/jobs", 200), ("GET", f"/-/jobs/{job}", 200), ("POST", f"/-/jobs/{job}/retry", 409),
                                           ("GET", f"/-/jobs/{job}/result?wait=1s", 200), ("DELETE", f"/-/jobs/{job}", 409)):
                self.assertEqual(c.request(method, target, [], b"x" * 1000).status, status, target)
        waiting = self.submit(h, "/hello", headers=[("Weir-Delay", "1h")])
        c = self.client(h)
        c.send(f"GET /-/jobs/{waiting}/result?wait=300ms HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n".encode())
        c.send(bytes(50_000))  # while it waits
        c.send(bytes(50_000))
        self.assertEqual(c.response("GET").status, 202)

    def test_tenants_see_their_own(self):
        h = self.durable_hub("--client-token", "a=one", "--client-token", "b=two")
        self.worker(h, offer=["hello"])
        a, b = [("Authorization", "Bearer one")], [("Authorization", "Bearer two")]
        job = self.submit(h, "/hello", headers=a)
        self.assertEqual(self.show(h, job, a)["tenant"], "a")
        for target, method in ((f"/-/jobs/{job}", "GET"), (f"/-/jobs/{job}/result", "GET"), (f"/-/jobs/{job}", "DELETE")):
            self.assert_problem(self.get(h, target, b, method), 404)
        self.assert_problem(self.get(h, f"/-/jobs/{job}"), 401)
        self.assertEqual(len(self.get(h, "/-/jobs", a).json()["jobs"]), 1)
        self.assertEqual(self.get(h, "/-/jobs", b).json()["jobs"], [])

    # ---- what survives ----

    def test_killed_and_started_again(self):
        h = self.durable_hub()
        self.worker(h, offer=["hello"]).stop()
        w = self.worker(h, offer=["sleep"])
        done = self.submit(h, "/sleep?ms=1")
        self.assertEqual(self.result(h, done).status, 200)
        running = self.submit(h, "/sleep?ms=700", "POST", os.urandom(100_000))
        wait_until(lambda: len(self.logged("started")) == 2, 10, "started")
        waiting = self.submit(h, "/sleep?ms=2")
        hello = self.submit(h, "/hello")
        delayed = self.submit(h, "/sleep?ms=3", headers=[("Weir-Delay", "1s")])
        self.kill(h)
        w.stop()
        h = self.durable_hub()
        self.assertEqual(self.result(h, done).status, 200)
        self.assertEqual(self.show(h, hello)["state"], "queued")
        self.worker(h, offer=["sleep", "hello"])
        for job in (running, waiting, hello, delayed):
            self.assertEqual(self.result(h, job).status, 200)
        self.assertEqual(len(self.logged("started")), 2 + 4)

    def test_goes_on_from_its_last_hop(self):
        h = self.durable_hub()
        self.worker(h, offer=["hello"]).stop()
        w = self.worker(h, offer=["forward"])
        job = self.submit(h, "/forward?to=hello&body=" + "x" * 100, "POST", b"1")
        self.state(h, job, "queued")
        wait_until(lambda: self.show(h, job)["hop"] == 1, 10, "the second hop")
        self.assertEqual(self.show(h, job)["service"], "hello")
        self.kill(h)
        w.stop()
        h = self.durable_hub()
        self.worker(h, offer=["hello", "forward"])
        self.assertEqual(self.result(h, job).text, "hello")
        self.assertEqual([x[3] for x in self.logged("started")], ["forward", "hello"])

    def test_again_and_again(self):
        h = self.durable_hub("--max-hops", "30")
        self.worker(h, offer=["again"])
        self.assertEqual(self.result(h, self.submit(h, "/again?n=25")).text, "hop 25")
        job = self.submit(h, "/again?n=31")
        self.assertEqual(self.result(h, job).status, 508)
        self.assertEqual(self.show(h, job)["state"], "failed")

    def test_scattered(self):
        h = self.durable_hub()
        self.worker(h, offer=["scatter", "portion", "summary"], slots=2)
        job = self.submit(h, "/scatter?to=portion&gather=summary", "POST", b"a\nb\nc\n")
        self.assertEqual(self.result(h, job).text, "200:a!\n200:b!\n200:c!\n")
        job = self.submit(h, "/scatter?to=portion", "POST", b"a\nb\n")
        self.assertIn("multipart/mixed", self.result(h, job).header("content-type"))

    def test_parts_that_have_answered_are_not_run_again(self):
        h = self.durable_hub()
        self.worker(h, offer=["scatter", "summary"])
        w = self.worker(h, offer=["portion"])
        big = b"x" * 100_000
        job = self.submit(h, "/scatter?to=portion&gather=summary", "POST",
                          b"\n".join([b"a", big, b"fail", b"sleep 1200", b"z"]) + b"\n")
        wait_until(lambda: [x[3] for x in self.logged("started")].count("portion") == 4, 10, "the fourth part runs")
        with closing(sqlite3.connect(f"file:{self.data}/weir.db?mode=ro", uri=True)) as db:
            wait_until(lambda: db.execute("SELECT count(*) FROM job_part").fetchone() == (3,), 10, "three are stored")
        self.kill(h)
        w.stop()
        h = self.durable_hub()
        self.worker(h, offer=["scatter", "summary", "portion"])
        lines = self.result(h, job).text.splitlines()
        self.assertEqual(lines, ["200:a!", "200:" + "x" * 40, lines[2], "200:sleep 1200!", "200:z!"])
        self.assertTrue(lines[2].startswith("500:"), lines)
        ran = [x[3] for x in self.logged("started")]
        self.assertEqual((ran.count("scatter"), ran.count("portion"), ran.count("summary")), (1, 4 + 2, 1))

    def test_in_order(self):
        h = self.durable_hub()
        self.worker(h, offer=["keyed"]).stop()
        h.wait_workers(0)
        with self.client(h) as c:
            jobs = []
            for i in range(600):  # more than are held at once
                r = c.request("POST", f"/keyed?seq={i}", ASYNC)
                self.assertEqual(r.status, 202)
                jobs.append(r.json()["id"])
        self.worker(h, offer=["keyed"])
        self.assertEqual(self.result(h, jobs[-1]).status, 200)
        self.assertEqual([int(x[2]) for x in self.logged("begin")], list(range(600)))

    def test_drain_leaves_what_waits(self):
        h = self.durable_hub()
        w = self.worker(h, offer=["sleep"])
        running = self.submit(h, "/sleep?ms=300")
        wait_until(lambda: self.logged("started"), 10, "started")
        waiting = [self.submit(h, "/sleep?ms=1") for _ in range(3)]
        c, before = self.client(h), h.metrics().value("weir_http_requests_total")
        c.send(f"GET /-/jobs/{waiting[0]}/result?wait=20s HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        wait_until(lambda: h.metrics().value("weir_http_requests_total") > before, 10, "it was heard")
        began = time.monotonic()
        h.terminate()
        self.assertLess(time.monotonic() - began, scaled(3))
        self.assertEqual(c.response("GET").status, 202)
        w.stop()
        h = self.durable_hub()
        self.assertEqual(self.show(h, running)["state"], "done")
        self.assertEqual([self.show(h, j)["state"] for j in waiting], ["queued"] * 3)
        self.worker(h, offer=["sleep"])
        for job in waiting:
            self.assertEqual(self.result(h, job).status, 200)

    def test_drain_stores_what_has_been_answered(self):
        h = self.durable_hub()
        w = self.worker(h, offer=["source"])
        self.submit(h, "/source?bytes=1")
        wait_until(lambda: self.logged("done"), 10, "the worker works")
        hand = H1Worker(self, h.attach, "by-hand")
        job, body = self.submit(h, "/by-hand"), os.urandom(3_000_000)
        hand.request()
        h.ended = True
        h.signal(signal.SIGTERM)
        wait_until(lambda: h.admin_get("/readyz").status == 503, 10, "it drains")
        hand.answer(body)
        self.assertEqual(h.wait(20), 0)
        w.stop()
        h = self.durable_hub()
        r = self.result(h, job)
        self.assertEqual((r.status, len(r.body), r.body == body), (200, len(body), True))

    def test_one_hub_to_a_directory(self):
        h = self.durable_hub()
        out = subprocess.run([os.environ["WEIR"], "hub", "--listen", "127.0.0.1:0", "--workers", "off", "--zmq", "off",
                              "--admin", "off", "--data", self.data], capture_output=True, timeout=20, check=False)
        self.assertEqual(out.returncode, 1)
        self.assertIn(str(h.popen.pid).encode(), out.stderr)

    def weir(self, hub, *args, status=0):
        out = subprocess.run([os.environ["WEIR"], "jobs", *args, "--hub", hub.url], capture_output=True, text=True,
                             timeout=20, check=False)
        self.assertEqual(out.returncode, status, out)
        return out.stdout if status == 0 else out.stderr

    def test_the_command(self):
        h = self.durable_hub()
        self.worker(h, offer=["echo", "status", "sleep", "flaky"])
        job = self.submit(h, "/echo", "POST", b"bytes\0and more")
        self.assertEqual(self.weir(h, "result", job, "--wait", "10s"), "bytes\0and more")
        shown = dict(line.split(None, 1) for line in self.weir(h, "show", job).splitlines())
        self.assertEqual((shown["id"], shown["state"], shown["service"]), (job, "done", "echo"))
        self.assertEqual(json.loads(self.weir(h, "show", job, "--json"))["id"], job)
        failed = self.submit(h, "/status?code=404&body=none")
        self.state(h, failed, "failed")
        self.assertIn("404", self.weir(h, "result", failed, status=1))
        running = self.submit(h, "/sleep?ms=20000")
        self.assertIn("not ended", self.weir(h, "result", running, status=1))
        lines = self.weir(h).splitlines()
        self.assertEqual([line.split()[0] for line in lines], ["job", job, failed, running])
        self.assertEqual(len(self.weir(h, "list", "--state", "done,failed", "--json").splitlines()), 2)
        self.assertEqual(len(self.weir(h, "list", "-n", "1", "--json").splitlines()), 1)
        self.weir(h, "cancel", running)
        self.assertIn("409", self.weir(h, "cancel", running, status=1))
        path = os.path.join(self.directory, "now")
        dead = self.submit(h, f"/flaky?file={path}")
        self.state(h, dead, "dead")
        open(path, "w").close()
        self.weir(h, "retry", dead)
        self.assertEqual(self.weir(h, "result", dead, "-w", "10s"), "at last")
        self.assertEqual(self.weir(h, "purge", "-s", "failed,cancelled"), "2 dropped\n")
        self.assertEqual(self.weir(h, "purge", "-s", "done", "--older-than", "1h"), "0 dropped\n")
        for wrong in (["odd"], ["show"], ["purge"], ["list", "x"], ["--limit", "x"]):
            self.weir(h, *wrong, status=2)
        self.assertIn("404", self.weir(h, "show", "nothing", status=1))
        out = subprocess.run([os.environ["WEIR"], "jobs", "--hub", "http://127.0.0.1:1"], capture_output=True, check=False)
        self.assertEqual(out.returncode, 3, out)

    def test_metrics(self):
        h = self.durable_hub()
        self.worker(h, offer=["hello", "forward"])
        for _ in range(3):
            self.result(h, self.submit(h, "/hello"))
        self.result(h, self.submit(h, "/forward?to=hello", "POST", b"x"))
        m = h.metrics()
        self.assertEqual(m.value("weir_durable_jobs_accepted_total"), 4)
        self.assertEqual(m.value("weir_durable_jobs_ended_total", state="done"), 4)
        self.assertEqual(m.value("weir_durable_jobs_steps_total"), 1)
        self.assertEqual(m.value("weir_durable_jobs", state="done"), 4)
        self.assertEqual(m.value("weir_durable_jobs_held"), 0)


if __name__ == "__main__":
    main()
