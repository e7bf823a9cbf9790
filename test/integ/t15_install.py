#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is installed is enough: header, library and weir.pc build the examples, and those serve a hub."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
import zlib

from weirtest import Case, main, sanitized, scaled, slow, wait_until
from weirtest.hub import test_program

_ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
_BUILD = os.path.abspath(os.path.join(os.path.dirname(test_program("x")), "..", ".."))
_EXAMPLES = ("hello", "primes", "streaming", "topics", "upload")


def run(*argv, env=None):
    p = subprocess.run(argv, capture_output=True, text=True, timeout=100, env={**os.environ, **(env or {})},
                       stdin=subprocess.DEVNULL)
    if p.returncode != 0:
        raise AssertionError(f"{argv}: {p.returncode}\n{p.stdout}{p.stderr}")
    return p.stdout


def find(top, name):
    for directory, _, files in os.walk(top):
        if name in files:
            return os.path.join(directory, name)
    raise AssertionError(f"no {name} under {top}")


@unittest.skipIf(sanitized, "programs built outside need the sanitizer's runtime first in their libraries")
class Installed(Case):
    @classmethod
    def setUpClass(cls):
        cls.top = tempfile.mkdtemp(prefix="weirtest-install-")
        cls.addClassCleanup(shutil.rmtree, cls.top, ignore_errors=True)
        run("meson", "install", "-C", _BUILD, "--no-rebuild", "--destdir", cls.top)
        cls.library = find(cls.top, "libweir.so.0")
        cls.out = os.path.join(cls.top, "examples")
        os.mkdir(cls.out)
        env = {"PKG_CONFIG_PATH": os.path.dirname(find(cls.top, "weir.pc")), "PKG_CONFIG_SYSROOT_DIR": cls.top}
        run("make", "-C", os.path.join(_ROOT, "examples"), "OUT=" + cls.out,
            "CFLAGS=-O1 -Wall -Wextra -Werror", env=env)

    def example(self, name, *argv, env=None):
        env = {"LD_LIBRARY_PATH": os.path.dirname(self.library), **(env or {})}
        return self.start(name, [os.path.join(self.out, name), *argv], env=env)

    def attached(self, hub, *services):
        hub.wait_status(lambda s: set(services) <= {n for w in s["workers_list"] for n in w["services"]}, 10,
                        f"{services} offered")

    def test_the_library_exports_the_header_and_no_more(self):
        lines = run("nm", "-D", "--defined-only", self.library).splitlines()
        exported = {line.split()[-1] for line in lines}
        with open(os.path.join(_ROOT, "include/weir/weir.h")) as f:
            declared = set(re.findall(r"^WEIR_API [^(;]*?\b(weir_\w+)\(", f.read(), re.M))
        self.assertGreater(len(declared), 30)
        self.assertEqual(exported, declared)
        self.assertIn("[libweir.so.0]", run("readelf", "-d", self.library))

    def test_pc_tells_the_version(self):
        path = os.path.dirname(find(self.top, "weir.pc"))
        version = run("pkg-config", "--modversion", "weir", env={"PKG_CONFIG_PATH": path}).strip()
        self.assertIn(version, run(find(self.top, "weir"), "--version"))

    def test_hello(self):
        hub = self.hub()
        worker = self.example("hello", "--hub", hub.worker_addresses[0])
        self.attached(hub, "hello")
        self.assertEqual(run("curl", "-sS", "-f", hub.url + "/hello"), "Hello, world!\n")
        self.assertEqual(run("curl", "-sS", "-f", hub.url + "/hello?name=Ada%20L."), "Hello, Ada L.!\n")
        worker.popen.terminate()
        self.assertEqual(worker.wait(scaled(10)), 0, worker.stderr())

    def test_primes_by_the_environment(self):
        hub = self.hub()
        for stage in ("primes", "divide"):
            self.example("primes", "--stage", stage, env={"WEIR_HUB": hub.worker_addresses[0]})
        self.attached(hub, "primes", "divide")
        for query, status, text in (("999983", 200, "999983 is prime\n"), ("1", 200, "1 is not prime\n"),
                                    ("999985", 200, "999985 is not prime: 5 divides it\n")):
            r = self.get(hub, "/primes?possible_prime=" + query)
            self.assertEqual((r.status, r.text), (status, text))
        self.assertEqual(self.get(hub, "/primes?possible_prime=x").status, 400)

    def test_streaming_sees_the_client_leave(self):
        hub = self.hub()
        worker = self.example("streaming", "--hub", hub.worker_addresses[0])
        self.attached(hub, "ticks")
        text = run("curl", "-sS", "-f", "-N", hub.url + "/ticks?count=3&every=10")
        self.assertEqual(text, "".join(f"data: tick {i} of 3\n\n" for i in (1, 2, 3)))
        p = subprocess.run(["curl", "-sS", "-N", "--max-time", "1", hub.url + "/ticks?count=100&every=300"],
                           capture_output=True, text=True, timeout=20)
        self.assertEqual(p.returncode, 28, p.stderr)  # curl's own time limit
        self.assertTrue(p.stdout.startswith("data: tick 1 of 100\n\n"), p.stdout)
        wait_until(lambda: "the client left" in worker.stderr(), 10, "the worker notices")
        hub.wait_idle()

    @slow(60)
    def test_upload(self):
        hub = self.hub("--max-body", "64MiB")
        worker = self.example("upload", "--hub", hub.worker_addresses[0])
        self.attached(hub, "upload")
        body = os.urandom(1 << 20) * 32
        path = os.path.join(self.directory, "body")
        with open(path, "wb") as f:
            f.write(body)
        text = run("curl", "-sS", "-f", "-T", path, hub.url + "/upload")
        self.assertEqual(text, '{"bytes": %d, "crc32": "%08x"}\n' % (len(body), zlib.crc32(body)))
        self.assertLess(worker.memory("VmHWM"), 16 << 20)

    def test_topics(self):
        hub = self.hub()

        def join(name):
            env = {"LD_LIBRARY_PATH": os.path.dirname(self.library), "WEIR_HUB": hub.url}
            return self.start(name, [os.path.join(self.out, "topics"), name], env=env, stdin=subprocess.PIPE)

        def say(who, text):
            who.popen.stdin.write(text.encode() + b"\n")
            who.popen.stdin.flush()

        def heard(who, text):
            wait_until(lambda: who.stdout() == text, scaled(10), f"{who.name} hears {text!r}; so far {who.stdout()!r}")

        def leave(who):
            who.popen.stdin.close()
            who.popen.stdin = None
            self.assertEqual((who.wait(scaled(10)), who.stderr()), (0, ""))
        ada, bob = join("ada"), join("bob")
        wait_until(lambda: hub.metrics().value("weir_topic_subscriptions") == 2, scaled(10), "both have joined")
        say(ada, "hello, all")
        for who in (ada, bob):
            heard(who, "ada: hello, all\n")
        leave(bob)
        say(ada, "bob?")
        say(ada, "/quit")
        leave(ada)
        bob = join("bob")
        heard(bob, "ada: bob?\n")
        say(bob, "/quit")
        leave(bob)
        self.assertEqual(hub.metrics().value("weir_topic_subscriptions"), 0)

    def test_wrong_usage(self):
        for name in _EXAMPLES:
            with self.subTest(name):
                worker = self.example(name, "--nosuch")
                self.assertEqual(worker.wait(), 2)


if __name__ == "__main__":
    main()
