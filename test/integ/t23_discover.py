#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Hubs that make themselves known by beacons, and workers that find them."""

import os
import signal
import socket
import subprocess
import time

from weirtest import Case, main, scaled, wait_until
from weirtest.hub import test_program, weir_binary


def free_udp_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Discover(Case):
    def setUp(self):
        super().setUp()
        self.port = free_udp_port()

    def announcing(self, *flags, **kwargs):
        return self.hub("--announce", f"127.255.255.255:{self.port}", *flags, **kwargs)

    def work(self, *options, name="finder"):
        return self.start(name, [weir_binary(), "work", "echo", "--builtin", "echo", "--id", name, "--discover-port",
                                 str(self.port), *options])

    def echo(self, h):
        return self.get(h, "/echo", method="POST", body=b"hello").body

    def test_a_hub_is_found(self):
        h = self.announcing()
        self.work("--discover")
        h.wait_worker("finder", 1)
        self.assertEqual(self.echo(h), b"hello")

    def test_hubs_that_come_later_are_found_too(self):
        self.work("--discover")
        hubs = []
        for _ in range(3):
            hubs.append(self.announcing())
            hubs[-1].wait_worker("finder", 1)
        for h in hubs:
            self.assertEqual(self.echo(h), b"hello")

    def test_beside_a_hub_that_is_named(self):
        named, found = self.hub(), self.announcing()
        self.work("--discover", "--hub", named.worker_addresses[0])
        for h in (named, found):
            h.wait_worker("finder", 1)
            self.assertEqual(self.echo(h), b"hello")

    def test_groups_do_not_mix(self):
        ours, theirs = self.announcing("--announce-group", "ours"), self.announcing("--announce-group", "theirs")
        self.work("--discover-group", "ours")
        ours.wait_worker("finder", 1)
        time.sleep(1.5)
        self.assertEqual(theirs.status()["workers"], 0)

    def test_a_hub_that_begins_anew(self):
        h = self.announcing()
        self.work("--discover")
        h.wait_worker("finder", 1)
        h.kill()
        h.ended = True
        again = self.announcing()
        again.wait_worker("finder", 1)
        self.assertEqual(self.echo(again), b"hello")

    def test_datagrams_from_anybody(self):
        worker = self.work("--discover")
        wait_until(lambda: "discovering" in worker.stderr(), 5, "it listens")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            for text in (b"", b"WEIR1", b"WEIR1 weir *:0", b"WEIR1 weir *:99999", b"WEIR1 weir unix:/x:1", b"\0" * 255,
                         b"WEIR1 weir " + b"a" * 240 + b":1", b"W" * 2000, b"WEIR1 weir *:" + b"9" * 30):
                s.sendto(text, ("127.0.0.1", self.port))
            for i in range(200):  # more hubs than there is room for, none of which is there
                s.sendto(b"WEIR1 weir 127.0.0.1:%d" % (i + 1), ("127.0.0.1", self.port))
        wait_until(lambda: "127.0.0.1:1:" in worker.stderr(), 5, "it dials what it has heard")
        self.assertTrue(worker.alive())
        worker.signal(signal.SIGTERM)
        self.assertEqual(worker.wait(scaled(5)), 0)
        dialled = {line.split("127.0.0.1:")[1].split(":")[0] for line in worker.stderr().splitlines() if "127.0.0.1:" in line}
        self.assertLessEqual(len(dialled), 64)

    def test_nobody_there(self):
        begin = time.monotonic()
        worker = self.work("--discover-wait", "300ms")
        self.assertEqual(worker.wait(scaled(5)), 3)
        self.assertGreaterEqual(time.monotonic() - begin, 0.3)
        self.assertIn("no hub of group weir", worker.stderr())

    def test_sigterm(self):
        h = self.announcing()
        worker = self.work("--discover")
        h.wait_worker("finder", 1)
        worker.signal(signal.SIGTERM)
        self.assertEqual(worker.wait(scaled(5)), 0)

    def test_a_draining_hub_is_silent(self):
        h = self.announcing()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("", self.port))
            s.settimeout(5)
            host, port = h.attach
            self.assertEqual(s.recv(300), f"WEIR1 weir {host}:{port}".encode())
            h.terminate()
            s.settimeout(1.5)
            try:
                while True:
                    s.recv(300)  # what was on its way
            except TimeoutError:
                pass

    def test_what_cannot_be_announced(self):
        for flags, text in ((["--announce", "255.255.255.255:9"], "no workers listener can be reached"),
                            (["--announce", "unix:/tmp/x"], "no such address"),
                            (["--announce", "127.255.255.255:9", "--announce-group", "two words"], "announce-group"),
                            (["--announce", "nonsense"], "nonsense")):
            p = subprocess.run([weir_binary(), "hub", "--listen", "127.0.0.1:0", "--workers", "127.0.0.1:0", "--zmq", "off",
                                "--admin", "off", *flags], capture_output=True, text=True, timeout=scaled(10))
            self.assertIn(p.returncode, (1, 2))
            self.assertIn(text, p.stderr)

    def test_czmq_hears_it(self):
        h = self.announcing()
        if not os.path.exists(test_program("zbeacon")):
            self.skipTest("built without czmq")
        listener = self.start("zbeacon", [test_program("zbeacon"), str(self.port)], env={"ZSYS_INTERFACE": "*"})
        self.assertEqual(listener.wait(scaled(8)), 0, listener.stderr())
        self.assertEqual(listener.stdout(), f"WEIR1 weir {h.worker_addresses[0]}\n")


if __name__ == "__main__":
    main()
