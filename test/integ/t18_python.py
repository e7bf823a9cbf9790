#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""python3 -m weir.worker: a WSGI application (wsgi_apps.py) as a worker, over reverse HTTP/1.1."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

from weirtest import Case, Client, Closed, main, request_bytes, scaled, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGE = os.path.join(HERE, "..", "..", "python")


class PythonCase(Case):
    def python(self, hubs, services, slots=1, flags=(), env=None, wait=True, name="py"):
        """A worker process; returns when its slots are at the hubs. Warnings are errors in it."""
        hubs = hubs if isinstance(hubs, list) else [hubs]
        addresses = [h if isinstance(h, str) else h.worker_addresses[0] for h in hubs]
        argv = [sys.executable, "-W", "error", "-m", "weir.worker", "--service", services, "--slots", slots,
                "--id", name, *(x for a in addresses for x in ("--hub", a)), *flags, "wsgi_apps:app"]
        process = self.start("python", argv, env={
            "PYTHONPATH": f"{PACKAGE}:{HERE}", "PYTHONDONTWRITEBYTECODE": "1", "APP_LOG": self.log_path,
            "GATE": self.directory + "/gate", **(env or {})})
        if wait:
            for hub in hubs:
                hub.wait_worker(name, slots)
        return process

    def send(self, hub, target, method="GET", headers=(), body=None):
        client = self.client(hub)
        client.send(request_bytes(method, target, headers, body))
        return client

    def wait_logged(self, word, count=1):
        return wait_until(lambda: len(self.logged(word)) >= count and self.logged(word), scaled(5), word)


class Answers(PythonCase):
    def setUp(self):
        super().setUp()
        self.h = self.hub()
        self.p = self.python(self.h, "hello,echo,lines,job,shape,stage1,stage2,checked", slots=2)

    def shape(self, how, method="GET", **kwargs):
        return self.get(self.h, "/shape?" + how, method=method, **kwargs)

    def test_bodies_both_ways(self):
        blob = os.urandom(3000000)
        pieces = [blob[i:i + 9999] for i in range(0, 1000000, 9999)]
        for body in (b"", b"x", blob, [b"abc", b"defg"], pieces, []):
            with self.subTest(f"{type(body)} {len(body)}"):
                r = self.get(self.h, "/echo", method="POST", body=body)
                self.assertEqual(r.status, 200)
                self.assertTrue(r.body == (b"".join(body) if isinstance(body, list) else body))
        self.assertEqual(self.get(self.h, "/lines", method="POST", body=b"a\nbb\nc").body, b"0:a\n1:bb\n2:c")

    def test_environ(self):
        r = self.get(self.h, "/echo/a%20b%C3%A9?q=%20", [("X-T", "1"), ("x-t", "2"), ("X_T", "evil"),
                     ("Cookie", "a=1"), ("Cookie", "b=2"), ("Content-Type", "a/b")], "PUT", b"1234567")
        seen = {n[6:].lower(): v for n, v in r.headers if n.lower().startswith("x-env-")}
        self.assertEqual(seen["path-info"].encode("latin-1").decode(), "/echo/a b\xe9")
        self.assertEqual((seen["request-method"], seen["query-string"], seen["content-length"],
                          seen["content-type"]), ("PUT", "q=%20", "7", "a/b"))
        self.assertEqual((seen["http-x-t"], seen["http-cookie"]), ("1, 2", "a=1; b=2"))
        self.assertEqual((seen["server-name"], seen["server-port"], seen["remote-addr"],
                          seen["wsgi-url-scheme"]), ("test.example", "80", "127.0.0.1", "http"))
        self.assertEqual(seen["script-name"], "")
        r = self.get(self.h, "/echo", method="POST", body=[b"abc"])
        self.assertIsNone(r.header("x-env-content-length"))
        self.assertIsNone(r.header("x-env-http-transfer-encoding"))

    def test_repeated_fields_stay_apart(self):
        r = self.get(self.h, "/hello")
        self.assertEqual(r.all("set-cookie"), ["a=1; Path=/", "b=2"])
        self.assertEqual((r.text, r.header("content-length")), ("hello", "5"))

    def test_shapes_of_answers(self):
        client = self.client(self.h)  # one connection: an answer that is framed wrongly spoils the next
        for how, status, body, framing in (
                ("write", 200, b"one two three", "chunked"), ("length", 201, b"abcdef", "length"),
                ("list", 200, b"abcd", "length"), ("204", 204, b"", "none"), ("304", 304, b"", "none"),
                ("empty", 200, b"", "length"), ("hop", 200, b"hop", "length"),
                ("replaced", 418, b"teapot", "length")):
            with self.subTest(how):
                r = client.request("GET", "/shape?" + how)
                self.assertEqual((r.status, r.body, r.framing), (status, body, framing))
                r = client.request("HEAD", "/shape?" + how)
                self.assertEqual((r.status, r.body), (status, b""))
        self.assertEqual(client.request("GET", "/shape?304").header("etag"), '"x"')
        self.assertNotIn("Traceback", self.p.stderr())

    def test_failures_before_the_answer(self):
        for how in ("raises", "exits", "nothing", "splits", "longer"):
            with self.subTest(how):
                r = self.shape(how)
                self.assert_500(r)
        self.assertIn("ValueError: on purpose", self.p.stderr())
        self.assertIsNone(self.shape("splits").header("x-evil"))
        self.assertEqual(self.h.status()["slots"], 2)

    def assert_500(self, r):
        self.assertEqual((r.status, r.json()["status"], r.json()["service"]), (500, 500, "shape"))

    def test_half_an_answer_is_cut(self):
        for how in ("short", "cut"):
            with self.subTest(how), self.assertRaises(Closed):
                self.shape(how)
        self.h.wait_worker("py", 2)

    def test_unread_body(self):
        for size in (10, 200000, 5000000):
            r = self.shape("unread", "POST", body=bytes(size))
            self.assertEqual((r.status, r.body), (403, b"no"))
        self.h.wait_worker("py", 2)
        self.assertEqual(self.get(self.h, "/hello").text, "hello")

    def test_job(self):
        said = self.get(self.h, "/job").text.split()
        self.assertEqual(said[:6], ["job", "1", "0", "True", "False", "False"])
        self.assertTrue(50000 < int(said[6]) <= 60000)

    def test_forward(self):
        r = self.get(self.h, "/stage1", method="PUT", body=b"body")
        self.assertEqual(r.text, "1 POST /then x=1 text/x-stage PUT <body>")

    def test_it_keeps_to_the_specification(self):
        for method, body in (("GET", None), ("POST", b"x" * 100000)):
            r = self.get(self.h, "/checked", method=method, body=body)
            self.assertEqual((r.status, r.text), (200, str(len(body or b""))))

    def test_1000_requests(self):
        out = subprocess.run(["ab", "-q", "-k", "-n", "1000", "-c", "8", self.h.url + "/hello"],
                             capture_output=True, timeout=25, text=True).stdout
        self.assertRegex(out, r"Complete requests:\s+1000\b")
        self.assertRegex(out, r"Failed requests:\s+0\b")
        self.assertNotIn("Non-2xx", out)
        status = self.h.wait_worker("py", 2)
        self.assertEqual(status["workers_list"][0]["dispatched"], 1000)
        self.assertEqual(status["workers"], 1)


class Cancel(PythonCase):
    def test_client_leaves(self):
        h = self.hub()
        self.python(h, "sleep,burn,drip,echo", slots=2)
        for target, word in (("/sleep?20", "cancelled"), ("/burn", "cancelled"), ("/drip", "closed")):
            with self.subTest(target):
                before = len(self.logged(word))
                body = bytes(100000) if target == "/burn" else None
                client = self.send(h, target, "POST", body=body)
                h.wait_running(1)
                if target == "/drip":
                    client.head()
                client.close()
                self.wait_logged(word, before + 1)
                h.wait_idle()
                h.wait_worker("py", 2)
        client = self.client(h)  # within the upload
        client.send(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nabc")
        h.wait_running(1)
        client.close()
        h.wait_worker("py", 2)
        self.assertEqual(self.get(h, "/echo", method="POST", body=b"abc").text, "abc")

    def test_deadline_passes(self):
        h = self.hub()
        self.python(h, "sleep")
        begin = time.monotonic()
        self.assert_problem(self.get(h, "/sleep?20", [("Weir-Timeout", "200ms")]), 504)
        self.wait_logged("cancelled")
        self.assertLess(time.monotonic() - begin, scaled(3))
        h.wait_worker("py", 1)


class Gate(PythonCase):
    def open(self, is_open):
        path = self.directory + "/gate"
        if is_open:
            open(path, "w").close()
        else:
            os.unlink(path)

    def test_closed_then_open_then_closed(self):
        h = self.hub("--route", "/hello=hello", "--route", "/sleep=sleep")
        p = self.python(h, "hello,sleep", slots=3, flags=["--gate", "wsgi_apps:gate_in_seconds"], wait=False)
        client = self.send(h, "/hello")
        h.wait_queued(1)
        self.assertEqual(h.status()["workers"], 0)
        self.open(True)
        self.assertEqual(client.response().text, "hello")
        h.wait_worker("py", 3)
        busy = self.send(h, "/sleep?1.5")
        self.wait_logged("begin")
        self.open(False)  # idle slots leave, the busy one after its job
        h.wait_status(lambda s: s["slots"] == 1, what="one slot left")
        self.assertEqual(busy.response().text, "slept")
        h.wait_workers(0)
        self.open(True)
        h.wait_worker("py", 3)
        p.signal(signal.SIGTERM)
        self.assertEqual(p.wait(), 0)

    def test_a_gate_that_says_just_false(self):
        h = self.hub("--route", "/=hello")
        self.python(h, "hello", flags=["--gate", "wsgi_apps:gate"], wait=False)
        client = self.send(h, "/")
        h.wait_queued(1)
        self.open(True)
        self.assertEqual(client.response().text, "hello")
        self.open(False)
        h.wait_workers(0)


class Ends(PythonCase):
    def test_drain_with_a_job_running(self):
        h = self.hub()
        p = self.python(h, "sleep,hello", slots=3)
        client = self.send(h, "/sleep?1")
        self.wait_logged("begin")
        p.signal(signal.SIGTERM)
        h.wait_status(lambda s: s["slots"] == 1, what="idle slots gone")
        self.assertIsNone(p.popen.poll())
        self.assertEqual(client.response().text, "slept")
        self.assertEqual(p.wait(), 0)
        self.assertEqual(len(self.logged("end")), 1)

    def test_nothing_to_finish(self):
        h = self.hub()
        for number in (signal.SIGTERM, signal.SIGINT):
            p = self.python(h, "sleep", slots=3)
            p.signal(number)
            self.assertEqual(p.wait(3), 0)
            h.wait_workers(0)

    def test_no_request_is_lost_by_draining(self):
        h = self.hub()
        self.python(h, "hello", name="stays")
        statuses, stop = [], threading.Event()

        def load():
            with Client(h.listen) as client:
                while not stop.is_set():
                    statuses.append(client.request("GET", "/hello").status)
        threads = [threading.Thread(target=load) for _ in range(4)]
        for t in threads:
            t.start()
        for _ in range(3):
            p = self.python(h, "hello", slots=3, name="goes")
            p.signal(signal.SIGTERM)
            self.assertEqual(p.wait(), 0)
            h.wait_workers(1)
        stop.set()
        for t in threads:
            t.join()
        self.assertEqual(set(statuses), {200})

    def test_second_signal(self):
        h = self.hub()
        p = self.python(h, "sleep")
        client = self.send(h, "/sleep?20", "POST")
        self.wait_logged("begin")
        p.signal(signal.SIGTERM)
        wait_until(lambda: "draining" in p.stderr(), scaled(5), "draining")
        p.signal(signal.SIGTERM)
        self.assertEqual(p.wait(3), 1)
        self.assert_problem(client.response(), 502)

    def test_drain_limit(self):
        h = self.hub()
        p = self.python(h, "sleep", flags=["--drain", "0.2"])
        self.send(h, "/sleep?20", "POST")
        self.wait_logged("begin")
        p.signal(signal.SIGTERM)
        self.assertEqual(p.wait(5), 1)

    def test_usage_and_failure(self):
        def run(*argv):
            p = self.start("usage", [sys.executable, "-W", "error", "-m", "weir.worker", *argv],
                           env={"PYTHONPATH": f"{PACKAGE}:{HERE}", "PYTHONDONTWRITEBYTECODE": "1"})
            return p.wait(), p.stderr()
        self.assertEqual(run("--help")[0], 0)
        for argv in (["wsgi_apps:app"], ["--service", "a b", "wsgi_apps:app"],
                     ["--service", "a", "wsgi_apps"],
                     ["--service", "a", "--hub", "nohost", "wsgi_apps:app"], ["--service", "a"],
                     ["--service", "a", "--slots", "0", "wsgi_apps:app"],
                     ["--service", "a", "--token", "x\r\ny", "wsgi_apps:app"]):
            self.assertEqual(run(*argv)[0], 2, argv)
        for argv in (["--service", "a", "nosuch:app"], ["--service", "a", "wsgi_apps:nosuch"],
                     ["--service", "a", "--processes", "2", "nosuch:app"]):
            status, text = run(*argv)
            self.assertEqual(status, 1, argv)
            self.assertIn("nosuch", text)


class Hubs(PythonCase):
    def test_hub_restarts(self):
        first = self.hub()
        port = str(first.attach[1])
        p = self.python(first, "hello", slots=3)
        first.terminate(scaled(10))
        for text in ("closed the connection", "refused"):
            wait_until(lambda: text in p.stderr(), scaled(5), text)
        second = self.hub(worker_listen="127.0.0.1:" + port)
        second.wait_worker("py", 3, limit=scaled(10))
        self.assertEqual(self.get(second, "/hello").text, "hello")
        self.assertEqual(p.stderr().count("INFO 127.0.0.1:" + port + ": connected"), 2)

    def test_two_hubs(self):
        one, two = self.hub(), self.hub(workers=[f"unix:{self.directory}/w.sock"])
        self.python([one, two], "hello,sleep", slots=2)
        for hub in (one, two, one, two):
            self.assertEqual(self.get(hub, "/hello").text, "hello")
        # Two slots are two jobs at once over both hubs: the third waits, and is not lost.
        busy = [self.send(one, "/sleep?0.7") for _ in range(2)]
        self.wait_logged("begin", 2)
        late = self.send(two, "/sleep?0.1", "POST")
        for client in (*busy, late):
            self.assertEqual(client.response().text, "slept")
        words = [line[0] for line in self.jobs_log()]
        self.assertEqual(words[:3], ["begin", "begin", "end"])
        one.kill()
        one.ended = True
        self.assertEqual(self.get(two, "/hello").text, "hello")

    def test_unix_socket_token_and_labels(self):
        h = self.hub("--token", "team=secret", workers=[f"unix:{self.directory}/w.sock"])
        p = self.python(h, "hello", wait=False)
        wait_until(lambda: "refused: HTTP/1.1 401" in p.stderr(), scaled(5), "refused")
        self.python(f"unix:{self.directory}/w.sock", "hello", env={"WEIR_TOKEN": "secret"}, name="good",
                    wait=False, flags=["--labels", "gpu=a100,zone=x"])
        h.wait_worker("good", 1)
        worker = h.status()["workers_list"][0]
        self.assertEqual(worker["labels"].replace(" ", ""), "gpu=a100,zone=x")
        self.assertEqual(self.get(h, "/hello").text, "hello")

    def test_a_hub_that_closes_at_once_is_not_hammered(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            dials = []

            def fake():
                while True:
                    try:
                        sock, _ = server.accept()
                    except OSError:
                        return
                    with sock:
                        dials.append(time.monotonic())
                        sock.recv(65536)
                        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: ptth\r\n\r\n")
            thread = threading.Thread(target=fake)
            thread.start()
            try:
                self.python("127.0.0.1:%d" % server.getsockname()[1], "hello", wait=False)
                wait_until(lambda: len(dials) >= 4, scaled(10), "four dials")
            finally:
                server.shutdown(socket.SHUT_RDWR)
                thread.join()
        self.assertGreater(dials[3] - dials[0], 0.15)


class Processes(PythonCase):
    def family(self, h, count):
        p = self.python(h, "hello,sleep", flags=["--processes", count], wait=False)
        h.wait_workers(count)
        return p

    def pids(self, p):
        with open(f"/proc/{p.pid}/task/{p.pid}/children") as f:
            return [int(pid) for pid in f.read().split()]

    def assert_gone(self, pids):
        wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), scaled(5), "all gone")

    def test_work_drain_and_names(self):
        h = self.hub()
        p = self.family(h, 2)
        self.assertEqual({w["id"] for w in h.status()["workers_list"]}, {"py-0", "py-1"})
        clients = [self.send(h, "/sleep?1") for _ in range(2)]
        self.assertEqual(len({line[1] for line in self.wait_logged("begin", 2)}), 2)
        pids = self.pids(p)
        os.killpg(p.pid, signal.SIGTERM)  # as a service manager may: parent and children alike
        for client in clients:
            self.assertEqual(client.response().text, "slept")
        self.assertEqual(p.wait(), 0)
        self.assert_gone(pids)

    def test_told_to_stop_while_it_starts(self):
        h = self.hub()
        for _ in range(5):
            p = self.python(h, "hello", flags=["--processes", 3], wait=False)
            pids = wait_until(lambda: self.pids(p), scaled(5), "the first child")
            os.killpg(p.pid, signal.SIGTERM)
            self.assertEqual(p.wait(), 0, p.stderr())
            self.assert_gone(pids)

    def test_a_process_that_dies_is_started_again(self):
        h = self.hub()
        p = self.family(h, 2)
        os.kill(self.pids(p)[0], signal.SIGKILL)
        wait_until(lambda: "is started again" in p.stderr(), scaled(5), "the restart")
        h.wait_workers(2)
        self.assertEqual(self.get(h, "/hello").text, "hello")
        p.signal(signal.SIGTERM)
        self.assertEqual(p.wait(), 0)

    def test_they_do_not_outlive_their_parent(self):
        h = self.hub()
        p = self.family(h, 2)
        pids = self.pids(p)
        p.kill()
        self.assert_gone(pids)
        h.wait_workers(0)

    def test_second_signal(self):
        h = self.hub()
        p = self.family(h, 2)
        self.send(h, "/sleep?20", "POST")
        self.wait_logged("begin")
        pids = self.pids(p)
        p.signal(signal.SIGTERM)
        wait_until(lambda: "draining" in p.stderr(), scaled(5), "draining")
        p.signal(signal.SIGTERM)
        self.assertEqual(p.wait(3), 1)
        self.assert_gone(pids)


if __name__ == "__main__":
    main()
