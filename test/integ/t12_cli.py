#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The command line: help, exit statuses, configuration by file, environment and flags, status, bench."""

import json
import os
import re
import signal
import socket
import subprocess
import time

from weirtest import Case, main, request_bytes, wait_until
from weirtest.hub import weir_binary


class Commands(Case):
    def weir(self, *argv, env=None, expect=0):
        full = {k: v for k, v in os.environ.items() if not k.startswith("WEIR_")}
        full.update(env or {})
        p = subprocess.run([weir_binary(), *argv], capture_output=True, text=True, timeout=25, env=full,
                           cwd=self.directory, stdin=subprocess.DEVNULL)
        self.assertEqual(p.returncode, expect, f"{argv}: {p.stdout}{p.stderr}")
        return p

    def file(self, text, name="weir.ini"):
        path = os.path.join(self.directory, name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def closed_port(self):
        with socket.socket() as s:  # bound and not listening: nobody else gets it while we hold it
            s.bind(("127.0.0.1", 0))
            return s.getsockname()[1]

    # ---- help and usage ----

    def test_version(self):
        for argv in (["--version"], ["version"], ["hub", "--version"]):
            p = self.weir(*argv)
            self.assertRegex(p.stdout, r"\b\d+\.\d+\.\d+\b")
            self.assertEqual(p.stderr, "")

    def test_help(self):
        p = self.weir("--help")
        for command in ("hub", "status", "bench", "check", "demo"):
            self.assertIn(command, p.stdout)
            self.assertIn(command, self.weir(command, "--help").stdout)
        text = self.weir("hub", "--help").stdout
        flags = """--listen --workers --admin --route --ports-file --max-head --max-target --max-body
            --buffered-body --body-window --max-connections --head-timeout --idle-timeout
            --request-timeout --body-timeout --max-queued --queue-time --attempts --max-hops
            --drain --heartbeat --heartbeat-missed --busy-poll --cors-origin --access-log
            --access-log-format --log-level --log-format"""
        for flag in flags.split():
            self.assertIn(flag, text)
        self.assertTrue(all(len(line) <= 120 for line in text.splitlines()))

    def test_wrong_usage_is_2_and_goes_to_stderr(self):
        for argv in ([], ["nosuch"], ["hub", "--nosuch"], ["hub", "argument"], ["hub", "--listen"],
                     ["status", "--nosuch"], ["bench"], ["bench", "--nosuch"],
                     ["check", "--max-head", "banana"], ["hub", "--max-head", "-5"],
                     ["hub", "--heartbeat", "soon"], ["hub", "--route", "nopath"],
                     ["hub", "--listen", "nonsense"], ["hub", "--log-level", "loud"],
                     ["demo", "nosuch"], ["bench", "not a url"]):
            with self.subTest(argv):
                p = self.weir(*argv, expect=2)
                self.assertEqual(p.stdout, "")
                self.assertTrue(p.stderr)

    # ---- configuration ----

    def test_check_prints_what_it_amounts_to(self):
        path = self.file("listen = 127.0.0.1:0\nmax-head = 9KiB\nroute = /api=api\n\n"
                         "[service api]\nqueue-time = 5s\n")
        out = self.weir("check", "--config", path).stdout
        self.assertRegex(out, r"(?m)^max-head = 9KiB$")
        self.assertRegex(out, r"(?m)^\[service api\]$")
        again = self.weir("check", "--config", self.file(out, "again.ini")).stdout
        self.assertEqual(out, again)  # what it prints is a configuration that amounts to the same

    def test_check_tells_file_and_line_of_each_error(self):
        path = self.file("# a comment\n[hub]\nmax-haed = 9KiB\nmax-head = banana\nlisten = 127.0.0.1:0\n"
                         "\n[service x]\nattempts = 0\n[nosuch]\nno equals sign\n")
        p = self.weir("check", "--config", path, expect=2)
        for line in (3, 4, 8, 9):
            self.assertIn(f"weir.ini:{line}:", p.stderr)
        self.assertIn("max-head", p.stderr)  # did you mean
        self.assertEqual(p.stdout, "")

    def test_bad_files(self):
        self.assertIn("nosuch.ini", self.weir("check", "--config", "nosuch.ini", expect=2).stderr)
        for text in ("\0\0\0", "[hub\n", "=\n", "x" * 100000, "[service a b]\nattempts=1\n", "route = /x\n"):
            with self.subTest(text[:20]):
                self.weir("check", "--config", self.file(text), expect=2)

    def test_layers(self):
        path = self.file("max-head = 2KiB\nmax-target = 100\nqueue-time = 1s\n")
        out = self.weir("check", "--config", path, "--max-target", "300", env={"WEIR_MAX_TARGET": "200",
                                                                              "WEIR_QUEUE_TIME": "2s"}).stdout
        self.assertRegex(out, r"(?m)^max-head = 2KiB$")     # the file
        self.assertRegex(out, r"(?m)^queue-time = 2s$")     # the environment wins over it
        self.assertRegex(out, r"(?m)^max-target = 300$")    # a flag over both
        self.assertIn("WEIR_MAX_HEAD", self.weir("check", env={"WEIR_MAX_HEAD": "x"}, expect=2).stderr)
        out = self.weir("check", env={"WEIR_CONFIG": path}).stdout
        self.assertRegex(out, r"(?m)^max-head = 2KiB$")

    def test_hub_from_a_file_and_environment(self):
        path = self.file("[hub]\nroute = /r=hello\nmax-target = 100\n")
        h = self.hub("--config", path, env={"WEIR_MAX_HOPS": "7", "WEIR_SERVER_NAME": "front/1"})
        self.worker(h)
        r = self.get(h, "/r")
        self.assertEqual((r.text, r.header("server")), ("hello", "front/1"))
        self.assert_problem(self.get(h, "/r?" + "x" * 200), 414)

    def test_hub_that_cannot_listen(self):
        h = self.hub()
        p = self.weir("hub", "--listen", h.listen_text, "--workers", "off", "--zmq", "off", "--admin", "off", expect=1)
        self.assertIn(h.listen_text, p.stderr)
        p = self.weir("hub", "--listen", "127.0.0.1:0", "--admin", "off", "--zmq", "off", "--workers", "unix:/no/such/folder/s",
                      expect=1)
        self.assertIn("/no/such/folder/s", p.stderr)

    def test_several_listeners(self):
        path = self.directory + "/front.sock"
        h = self.hub("--listen", f"unix:{path}")
        self.worker(h)
        with open(h.ports_file) as f:
            self.assertIn(f"listen=unix:{path}\n", f.read())
        client = self.client((None, path))
        self.assertEqual(client.request("GET", "/hello").text, "hello")
        h.terminate()
        self.assertFalse(os.path.exists(path))  # the socket's file goes with the hub

    def test_json_log(self):
        h = self.hub("--log-format", "json", "--log-level", "debug")
        self.worker(h)
        self.get(h, "/hello")
        h.terminate()
        lines = h.stderr().splitlines()
        self.assertTrue(lines)
        for line in lines:
            self.assertIsInstance(json.loads(line), dict)

    def test_access_log_on_stdout(self):
        h = self.hub("--access-log", "-")
        self.worker(h)
        self.get(h, "/hello")
        h.terminate()
        self.assertEqual(len(h.stdout().splitlines()), 1)
        self.assertIn("/hello", h.stdout())

    # ---- status ----

    def test_status(self):
        h = self.hub()
        worker = self.worker(h, offer=["hello", "sleep"])
        client = self.client(h)
        client.send(request_bytes("GET", "/sleep?ms=60000"))
        h.wait_running(1)
        admin = "%s:%d" % h.admin
        out = self.weir("status", "--admin", admin).stdout
        for word in ("hello", "sleep", worker.id):
            self.assertIn(word, out)
        self.assertNotIn("\x1b", out)
        status = json.loads(self.weir("status", "--json", "--admin", admin).stdout)
        self.assertEqual({s["name"] for s in status["services"]}, {"hello", "sleep"})
        self.assertEqual(len(status["jobs"]), 1)

    def test_unreachable_is_3(self):
        port = self.closed_port()
        p = self.weir("status", "--admin", f"127.0.0.1:{port}", expect=3)
        self.assertEqual(p.stdout, "")
        self.assertIn(str(port), p.stderr)
        self.weir("status", "--admin", f"unix:{self.directory}/nosuch", expect=3)

    # ---- bench ----

    def test_bench_closed_loop(self):
        h = self.hub()
        self.worker(h, slots=8, offer=["hello"])
        p = self.weir("bench", h.url + "/hello", "--duration", "1s", "--connections", "8")
        for word in ("p50", "p90", "p99", "p99.9", "max", "errors"):
            self.assertIn(word, p.stdout)
        self.assertNotIn("\x1b", p.stdout + p.stderr)
        self.assertNotIn("\r", p.stdout + p.stderr)  # no progress bar away from a terminal
        self.assertGreater(h.service("hello")["done"], 500)
        h.wait_idle()

    def test_bench_counts_errors(self):
        h = self.hub()
        p = self.weir("bench", h.url + "/nosuch", "--duration", "500ms", "--connections", "2", expect=1)
        self.assertRegex(p.stdout + p.stderr, r"404|4xx|errors")

    def test_bench_open_loop(self):
        h = self.hub()
        self.worker(h, slots=8, offer=["hello"])
        self.weir("bench", h.url + "/hello", "--duration", "1s", "--rate", "200", "--connections", "8")
        done = h.service("hello")["done"]
        self.assertTrue(120 <= done <= 260, done)

    def test_bench_sends_late_what_was_due_in_time(self):
        h = self.hub()
        self.worker(h, slots=8, offer=["hello"])
        p = subprocess.Popen([weir_binary(), "bench", h.url + "/hello", "--duration", "1s", "--rate", "100", "--json"],
                             stdout=subprocess.PIPE, text=True)
        time.sleep(0.7)
        p.send_signal(signal.SIGSTOP)
        time.sleep(0.6)
        p.send_signal(signal.SIGCONT)
        got = json.loads(p.communicate(timeout=20)[0])
        self.assertEqual(p.returncode, 0, got)
        self.assertGreater(got["latency_ms"]["max"], 250, got)  # time counts from when it was due

    def test_bench_counts_what_found_no_connection(self):
        h = self.hub()
        self.worker(h, slots=2, offer=["sleep"])
        p = self.weir("bench", h.url + "/sleep?ms=100", "--duration", "500ms", "--rate", "100", "--connections", "2",
                      "--json", expect=1)
        got = json.loads(p.stdout)
        self.assertEqual(got["started"] + got["errors"]["unsent"], 50, got)
        self.assertTrue(30 <= got["errors"]["unsent"] <= 45, got)

    def test_bench_unreachable_is_3(self):
        self.weir("bench", f"http://127.0.0.1:{self.closed_port()}/", "--duration", "500ms", expect=3)

    # ---- demo ----

    def test_demo_primes(self):
        p = self.weir("demo", "primes", "20000")
        self.assertRegex(re.sub(r"[, ]", "", p.stdout), r"2262")  # primes below 20,000
        self.assertNotIn("\x1b", p.stdout)

    def test_demo_serve(self):
        """The curl line that it prints works; ab asks 1,000 times; SIGINT ends all that it started."""
        demo = self.start("demo", [weir_binary(), "demo", "primes", "--serve", "--port", "0"])
        curl = wait_until(lambda: re.search(r"curl '(http://\S+possible_prime=32416190071)'", demo.stdout()), 20,
                          "the curl line")
        url = curl[1]
        p = subprocess.run(["curl", "-sS", url], capture_output=True, text=True, timeout=20)
        self.assertEqual((p.stdout, p.stderr), ("32416190071 is prime\n", ""))
        p = subprocess.run(["ab", "-q", "-k", "-n", "1000", "-c", "8", url], capture_output=True, text=True, timeout=120)
        self.assertRegex(p.stdout, r"Complete requests:\s+1000\b")
        self.assertRegex(p.stdout, r"Failed requests:\s+0\b")
        self.assertNotIn("Non-2xx", p.stdout)
        demo.signal(signal.SIGINT)
        self.assertEqual(demo.wait(20), 0)
        self.assertEqual(subprocess.run(["curl", "-s", url], timeout=20).returncode, 7)  # refused


if __name__ == "__main__":
    main()
