#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The disk fills up: what cannot be stored is refused with 507, nothing accepted is lost, and it goes on when there
is room again. On a small file system of the test's own, where it may mount one; and with max-data."""

import os
import resource
import signal
import subprocess

from weirtest import Case, main, scaled, slow, wait_until

ASYNC = [("Prefer", "respond-async")]


class DiskFull(Case):
    def mount(self, size):
        path = os.path.join(self.directory, "disk")
        os.mkdir(path)
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "weir-test", path], capture_output=True, check=False)
        if made.returncode != 0:
            self.skipTest("cannot mount a file system here: " + made.stderr.decode().strip())
        self.addCleanup(subprocess.run, ["umount", "-l", path], check=False)
        return path

    def fill(self, client, target, size=20_000, most=5000):
        """Submits until it is refused; the ids of those that were accepted."""
        jobs, body = [], os.urandom(size)
        for _ in range(most):
            r = client.request("POST", target, ASYNC, body)
            if r.status != 202:
                self.assert_problem(r, 507)
                return jobs
            jobs.append(r.json()["id"])
        self.fail("it never became full")

    def all_end(self, hub, jobs):
        for job in jobs:
            r = self.get(hub, f"/-/jobs/{job}/result?wait=20s", limit=30)
            self.assertEqual(r.status, 200, r)

    def story(self, hub, make_room):
        """Full, then room again; durable jobs and topics."""
        worker = self.worker(hub, offer=["sink"])
        worker.stop()
        hub.wait_workers(0)
        self.assertEqual(self.get(hub, "/-/topics/t/s", method="POST").status, 200)
        self.assertEqual(self.get(hub, "/-/topics/t", method="POST", body=b"first").status, 200)
        with self.client(hub) as c:
            jobs = self.fill(c, "/sink")
            self.assertGreater(len(jobs), 10)
            big = self.get(hub, "/sink", ASYNC, "POST", bytes(3_000_000), limit=30)
            self.assert_problem(big, 507)
            refused = self.get(hub, "/-/topics/t", method="POST", body=os.urandom(60_000))
            self.assert_problem(refused, 507)
            self.assertEqual(self.get(hub, f"/-/jobs/{jobs[0]}").status, 200)  # it is still there to ask
            make_room()
            wait_until(lambda: c.request("POST", "/sink", ASYNC, b"x").status == 202, 20, "it goes on")
        self.worker(hub, offer=["sink"])
        self.all_end(hub, jobs)
        r = self.get(hub, "/-/topics/t/s")
        self.assertEqual((r.status, r.body), (200, b"first"))
        return jobs

    @slow(120)
    def test_a_full_disk(self):
        disk = self.mount("16m")
        ballast = os.path.join(disk, "ballast")
        with open(ballast, "wb") as f:
            f.write(bytes(8_000_000))
        h = self.hub("--data", os.path.join(disk, "data"), "--job-backoff", "20ms")
        log = os.path.getsize(os.path.join(disk, "data", "weir.db-wal"))
        self.assertLess(log, 2_000_000)  # a small disk's room is not laid out
        jobs = self.story(h, lambda: os.unlink(ballast))
        h.ended = True
        h.signal(signal.SIGKILL)
        h.wait(10)
        h = self.hub("--data", os.path.join(disk, "data"))
        for job in jobs:
            self.assertEqual(self.get(h, f"/-/jobs/{job}").json()["state"], "done")

    @slow(120)
    def test_answers_that_find_no_room(self):
        """The disk is full when workers answer: their answers are stored when there is room, without running again
        what was answered whole and small; what was too large is run again."""
        disk = self.mount("16m")
        h = self.hub("--data", os.path.join(disk, "data"), "--job-backoff", "20ms")
        worker = self.worker(h, offer=["source", "sleep"], slots=2)
        small = self.get(h, "/sleep?ms=1500", ASYNC, "POST", b"x").json()["id"]
        wait_until(lambda: self.logged("started"), 10, "started")
        ballast = os.path.join(disk, "ballast")
        with open(ballast, "wb", buffering=0) as f:
            try:
                while True:
                    f.write(bytes(65536))
            except OSError:
                pass
        wait_until(lambda: self.logged("done"), 10, "answered")
        wait_until(lambda: h.metrics().value("weir_store_errors_total") > 0, scaled(10), "no room")
        self.assertNotEqual(self.get(h, f"/-/jobs/{small}").json()["state"], "done")
        os.unlink(ballast)
        self.all_end(h, [small])
        self.assertEqual(len(self.logged("started")), 1)
        del worker

    def test_a_limit_of_file_sizes(self):
        """What would go beyond it is refused as on any error of the disk; the hub goes on."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, limits[1]))
        try:
            h = self.hub("--data", os.path.join(self.directory, "data"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        self.worker(h, offer=["sink"]).stop()
        h.wait_workers(0)
        with self.client(h) as c:
            for _ in range(200):
                r = c.request("POST", "/sink", ASYNC, os.urandom(60_000))
                if r.status != 202:
                    break
            self.assert_problem(r, 503)
            self.assertEqual(c.request("GET", "/-/jobs?limit=1").status, 200)

    @slow(120)
    def test_max_data(self):
        h = self.hub("--data", os.path.join(self.directory, "data"), "--max-data", "8MiB", "--job-backoff", "20ms")

        def make_room():
            listed = self.get(h, "/-/jobs?limit=300").json()["jobs"]
            for job in listed[-200:]:
                self.assertEqual(self.get(h, f"/-/jobs/{job['id']}", method="DELETE").status, 200)
            self.cancelled = {job["id"] for job in listed[-200:]}
            self.assertEqual(self.get(h, "/-/jobs?state=cancelled", method="DELETE").status, 200)
        self.cancelled = set()
        all_end = self.all_end
        self.all_end = lambda hub, jobs: all_end(hub, [j for j in jobs if j not in self.cancelled])
        self.story(h, make_room)


if __name__ == "__main__":
    main()
