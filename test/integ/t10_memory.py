#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The hub's memory is bounded by its configuration and goes back after a load."""

import subprocess
import unittest

from weirtest import Case, main, request_bytes, sanitized, slow, wait_until

MIB = 1 << 20


@unittest.skipIf(sanitized, "memory bounds mean nothing under a sanitizer")
class Memory(Case):
    def warm(self, h):
        """RSS of a hub that has served a little."""
        for _ in range(50):
            self.assertEqual(self.get(h, "/hello").text, "hello")
        return h.rss()

    def back_to(self, h, idle, slack=10 * MIB):
        wait_until(lambda: h.rss() < idle + slack, 10,
                   f"RSS back within {slack // MIB} MiB of {idle // MIB} MiB")

    def uploads(self, h, target, count, body):
        """Clients that each announce 9 MB and send what is taken, but never all of it."""
        clients = [self.client(h) for _ in range(count)]
        for client in clients:
            client.send(b"POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000\r\n\r\n" % target)
        sent, still = [0] * count, 0

        def stalled():
            nonlocal still
            before = sum(sent)
            for i, client in enumerate(clients):
                sent[i] += client.send_what_fits(body[:8_900_000 - sent[i]])
            still = 0 if sum(sent) > before else still + 1
            return still >= 20
        wait_until(stalled, 20, "the hub takes no more")
        return clients

    @slow(60)
    def test_fifty_unfinished_uploads(self):
        h = self.hub("--buffered-body", "256KiB", "--body-window", "64KiB",
                     "--service-max-queued-bytes", "1GiB", "--max-queued-bytes", "1GiB",
                     "--route", "/w=w", "--route", "/hello=hello", "--request-timeout", "8s")
        self.worker(h, offer=["hello"])
        idle = self.warm(h)
        clients = self.uploads(h, b"/w", 50, b"x" * MIB)
        h.wait_queued(50)
        grown = h.rss() - idle
        self.assertLess(grown, 50 * 320 * 1024 + 8 * MIB, f"{grown / MIB:.1f} MiB for 50 uploads")
        for client in clients:
            client.close()
        h.wait_idle()
        self.back_to(h, idle)

    @slow(60)
    def test_fifty_unfinished_uploads_with_defaults(self):
        h = self.hub("--request-timeout", "8s")
        self.worker(h, slots=60, offer=["sink", "hello"])
        idle = self.warm(h)
        clients = self.uploads(h, b"/sink?ms=60000", 50, b"x" * MIB)
        h.wait_running(50)
        grown = h.rss() - idle
        self.assertLess(grown, 50 * (MIB + 256 * 1024) + 8 * MIB, f"{grown / MIB:.1f} MiB for 50 uploads")
        for client in clients:
            client.close()
        h.wait_idle()
        self.back_to(h, idle)

    @slow(90)
    def test_load_of_512_connections(self):
        self.log_path = None  # the worker notes nothing
        h = self.hub()
        self.worker(h, slots=64, offer=["hello"])
        idle = self.warm(h)
        fds = h.descriptors()
        out = subprocess.run(["ab", "-q", "-k", "-r", "-n", "200000", "-c", "512", h.url + "/hello"],
                             capture_output=True, text=True, timeout=80)
        self.assertEqual(out.returncode, 0, out.stderr)
        self.assertRegex(out.stdout, r"Complete requests:\s+200000\b")
        self.assertRegex(out.stdout, r"Failed requests:\s+0\b")
        self.assertNotIn("Non-2xx", out.stdout)
        h.wait_idle()
        wait_until(lambda: h.descriptors() <= fds, 5, "every descriptor closed")
        self.back_to(h, idle)
        self.assertEqual(h.service("hello")["done"], 200050)

    @slow(60)
    def test_many_connections_and_queued_requests(self):
        h = self.hub("--route", "/w=w", "--route", "/hello=hello")
        self.worker(h, offer=["hello"])
        idle = self.warm(h)
        clients = [self.client(h) for _ in range(450)]
        for client in clients:
            client.send(request_bytes("GET", "/w"))
        h.wait_queued(450)
        self.assertLess(h.rss() - idle, 8 * MIB)
        for client in clients:
            client.close()
        h.wait_idle()
        self.back_to(h, idle, 4 * MIB)

    @slow(60)
    def test_heads_that_never_end(self):
        h = self.hub()
        self.worker(h, offer=["hello"])
        idle = self.warm(h)
        clients = [self.client(h) for _ in range(200)]
        for client in clients:
            client.send(b"GET /hello HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 50000)
        self.get(h, "/hello")
        self.assertLess(h.rss() - idle, 200 * 140 * 1024)  # at most twice what they sent, rounded up
        for client in clients:
            client.close()
        self.get(h, "/hello")
        self.back_to(h, idle)

    @slow(60)
    def test_worker_connections_that_come_and_go(self):
        h = self.hub()
        self.worker(h, offer=["hello"])
        idle, fds = self.warm(h), h.descriptors()
        for _ in range(60):
            clients = [self.client(h.attach) for _ in range(20)]
            for client in clients:
                client.send(b"GET /.well-known/ptth/")
                client.close()
        wait_until(lambda: h.descriptors() <= fds, 5, "every descriptor closed")
        self.back_to(h, idle, 4 * MIB)


if __name__ == "__main__":
    main()
