#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bulk answers: a 303 to a one-time address on the worker's own listener."""

import os
import signal
import subprocess
import time
import urllib.parse

from weirtest import Case, Client, Closed, main, request_bytes, wait_until
from weirtest.hub import weir_binary


class Redirect(Case):
    def setUp(self):
        super().setUp()
        self.h = self.hub()

    def work(self, service, *argv, slots=1):
        name = f"{service}-{len(self._processes)}"
        w = self.start(name, [weir_binary(), "work", service, "--hub", self.h.worker_addresses[0], "--id", name,
                              "--slots", slots, "--redirect", "127.0.0.1:0", "--redirect-over", "10000", *argv])
        self.h.wait_worker(name, slots)
        return w

    def location(self, response):
        self.assertEqual((response.status, response.body), (303, b""), response)
        url = urllib.parse.urlsplit(response.header("location"))
        self.assertRegex(url.path, r"^/[0-9a-f]{48}$")
        return (url.hostname, url.port), url.path

    def fetch(self, where, method="GET", headers=()):
        address, path = where
        with Client(address) as client:
            return client.request(method, path, headers)

    def test_large_answers_are_fetched_once(self):
        self.work("big", "--content-type", "text/x", "--", "head", "-c", "100000", "/dev/zero")
        r = self.get(self.h, "/big")
        where = self.location(r)
        got = self.fetch(where)
        self.assertEqual((got.status, got.body, got.header("content-type")), (200, b"\0" * 100000, "text/x"))
        self.assertIn(got.header("content-length"), ("100000", None))  # None: it was still being written
        again = self.fetch(where)
        self.assertEqual((again.status, again.header("content-type")), (410, "application/problem+json"))
        self.assertEqual(self.fetch((where[0], "/" + "0" * 48)).status, 410)
        self.assertEqual(self.fetch((where[0], "/")).status, 404)
        self.assertNotEqual(self.location(self.get(self.h, "/big"))[1], where[1])

    def test_small_and_other_answers_stay(self):
        self.work("small", "--", "head", "-c", "10000", "/dev/zero")
        self.work("empty", "--", "true")
        self.work("teapot", "--", "sh", "-c", r'printf "Status: 418\nContent-Type: a/b\n\n"; head -c 20000 /dev/zero')
        self.work("echo", "--builtin", "echo")
        self.assertEqual(self.get(self.h, "/small").body, b"\0" * 10000)
        self.assertEqual((self.get(self.h, "/empty").status, self.get(self.h, "/empty").body), (200, b""))
        self.assertEqual(self.get(self.h, "/teapot").status, 418)
        self.assertEqual(self.get(self.h, "/echo", method="POST", body=[b"abc"]).body, b"abc")
        self.assertEqual(self.get(self.h, "/echo", method="POST", body=b"").body, b"")

    def test_curl_follows(self):
        root = os.path.join(self.directory, "root")
        os.mkdir(root)
        data = os.urandom(3 << 20)
        with open(os.path.join(root, "f"), "wb") as f:
            f.write(data)
        self.work("files", "--builtin", "file", "--root", root)
        p = subprocess.run(["curl", "-sSL", self.h.url + "/files/f"], capture_output=True, timeout=30)
        self.assertEqual((p.stdout, p.stderr), (data, b""))
        self.assertEqual(self.get(self.h, "/files/f", method="HEAD").status, 200)
        where = self.location(self.get(self.h, "/files/f"))
        head = self.fetch(where, "HEAD")
        self.assertEqual((head.status, head.header("content-length"), head.body), (200, str(len(data)), b""))
        self.assertEqual(head.header("content-type"), "application/octet-stream")
        for value, part in (("bytes=0-9", data[:10]), ("bytes=-3", data[-3:]), ("bytes=100-", data[100:])):
            r = self.fetch(where, headers=[("Range", value)])
            self.assertEqual((r.status, r.body), (206, part), value)
        self.assertEqual(self.fetch(where, headers=[("Range", "bytes=99999999-")]).status, 416)
        self.assertEqual(self.fetch(where, "POST").status, 405)
        self.assertEqual(self.fetch(where).body, data)  # none of that has used it up
        self.assertEqual(self.fetch(where).status, 410)

    def test_it_may_be_read_while_it_is_written(self):
        go = os.path.join(self.directory, "go")
        self.work("slow", "--stream", "--", "sh", "-c",
                  f"head -c 20000 /dev/zero; while ! test -e {go}; do sleep 0.05; done; echo end")
        address, path = self.location(self.get(self.h, "/slow"))
        with Client(address) as client:
            client.send(request_bytes("GET", path))
            wait_until(lambda: len(client.data) > 20000 or (client.more() and False), 10, "what is there already")
            open(go, "w").close()
            self.assertEqual(client.response().body, b"\0" * 20000 + b"end\n")

    def test_the_slot_is_held_until_it_is_fetched(self):
        self.work("big", "--", "head", "-c", "100000", "/dev/zero")
        where = self.location(self.get(self.h, "/big"))
        self.h.wait_status(lambda s: s["slots"] == 0, 5, "no slot is offered")
        client = self.client(self.h)
        client.send(request_bytes("GET", "/big"))
        self.h.wait_queued(1)
        self.assertEqual(self.fetch(where).status, 200)
        self.assertEqual(client.response().status, 303)

    def test_expiry(self):
        self.work("big", "--redirect-ttl", "300ms", "--", "head", "-c", "100000", "/dev/zero")
        where = self.location(self.get(self.h, "/big"))
        self.h.wait_status(lambda s: s["slots"] == 0, 5)
        self.h.wait_status(lambda s: s["slots"] == 1, 5, "the slot comes back")
        self.assertEqual(self.fetch(where).status, 410)

    def test_a_failing_command_cuts_the_body(self):
        self.work("bad", "--stream", "--", "sh", "-c", "head -c 50000 /dev/zero; sleep 0.3; exit 1")
        address, path = self.location(self.get(self.h, "/bad"))
        with self.assertRaises(Closed):
            self.fetch((address, path))
        self.h.wait_status(lambda s: s["slots"] == 1, 5)

    def test_drain_waits_for_the_fetch(self):
        w = self.work("big", "--", "head", "-c", "100000", "/dev/zero")
        where = self.location(self.get(self.h, "/big"))
        w.signal(signal.SIGTERM)
        self.h.wait_workers(0)
        time.sleep(0.2)  # it must not have ended by then
        self.assertTrue(w.alive())
        self.assertEqual(self.fetch(where).status, 200)
        self.assertEqual(w.wait(5), 0)

    def test_bad_clients(self):
        w = self.work("big", "--", "head", "-c", "100000", "/dev/zero")
        address, path = self.location(self.get(self.h, "/big"))
        for junk in (b"\0\0\0\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\n\n", b"G" * 100000):
            with Client(address) as client:
                try:
                    client.send(junk)
                    client.half_close()
                    while client.more():
                        pass
                except OSError:
                    pass
        half = self.client(address)
        half.send(request_bytes("GET", path))
        half.head()
        half.reset()  # the one who fetches goes away: nobody else gets it
        self.h.wait_status(lambda s: s["slots"] == 1, 5, "the slot comes back")
        self.assertEqual(self.fetch((address, path)).status, 410)
        self.assertTrue(w.alive())


if __name__ == "__main__":
    main()
