#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""weir work: commands, HTTP servers, files; gates; drain."""

import hashlib
import os
import signal
import socket
import subprocess
import threading
import time

from weirtest import Case, Client, Closed, main, request_bytes, sanitized, scaled, wait_until
from weirtest.hub import weir_binary


class Work(Case):
    def setUp(self):
        super().setUp()
        self.h = self.hub()

    def work(self, service, *argv, slots=1, hub=None, wait=True, env=None):
        hub = hub or self.h
        name = f"{service}-{len(self._processes)}"
        w = self.start(name, [weir_binary(), "work", service, "--hub", hub.worker_addresses[0], "--id", name,
                              "--slots", slots, *argv], env=env)
        if wait:
            hub.wait_worker(name, slots)
        return w

    def sh(self, service, script, *options, **kwargs):
        return self.work(service, *options, "--", "sh", "-c", script, **kwargs)

    def path(self, name):
        return os.path.join(self.directory, name)


class Command(Work):
    def test_body_in_and_out(self):
        self.work("upper", "--", "tr", "a-z", "A-Z")
        r = self.get(self.h, "/upper", method="POST", body=b"hello")
        self.assertEqual((r.status, r.body, r.header("content-length"), r.header("content-type")),
                         (200, b"HELLO", "5", "application/octet-stream"))
        r = self.get(self.h, "/upper", method="POST", body=[b"chun", b"ked"])
        self.assertEqual(r.body, b"CHUNKED")
        self.assertEqual(self.get(self.h, "/upper").body, b"")

    def test_large_bodies(self):
        self.work("cat", "--", "cat")
        data = os.urandom(1 << 20) * 8
        with Client(self.h.listen, limit=30) as client:
            threading.Thread(target=client.send, args=(request_bytes("POST", "/cat", body=data),)).start()
            self.assertEqual(hashlib.sha256(client.response("POST").body).digest(), hashlib.sha256(data).digest())

    def test_variables(self):
        self.work("env", "--", "env", env={"HTTP_EVIL": "1", "INHERITED": "yes"})
        r = self.get(self.h, "/env/a%20b/c?x=1&y=%20", headers=[("X-Some-Thing", "a; b"), ("Proxy", "evil"),
                                                               ("Content-Type", "text/x")], method="PUT", body=b"abc")
        got = dict(line.split("=", 1) for line in r.text.splitlines() if "=" in line)
        self.assertEqual({k: got.get(k) for k in (
            "GATEWAY_INTERFACE", "REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "REQUEST_URI", "CONTENT_TYPE",
            "CONTENT_LENGTH", "SERVER_PROTOCOL", "SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR", "HTTP_X_SOME_THING",
            "WEIR_SERVICE", "WEIR_ATTEMPT", "INHERITED")},
            {"GATEWAY_INTERFACE": "CGI/1.1", "REQUEST_METHOD": "PUT", "PATH_INFO": "/env/a b/c",
             "QUERY_STRING": "x=1&y=%20", "REQUEST_URI": "/env/a%20b/c?x=1&y=%20", "CONTENT_TYPE": "text/x",
             "CONTENT_LENGTH": "3", "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_NAME": "test.example",
             "SERVER_PORT": "80", "REMOTE_ADDR": "127.0.0.1", "HTTP_X_SOME_THING": "a; b",
             "WEIR_SERVICE": "env", "WEIR_ATTEMPT": "1", "INHERITED": "yes"})
        self.assertNotIn("HTTP_PROXY", got)
        self.assertNotIn("HTTP_EVIL", got)
        self.assertRegex(got["WEIR_JOB"], "^[0-9a-f]+$")

    def test_cgi_header(self):
        self.sh("cgi", r'printf "Status: 201 Made\r\nContent-Type: text/x\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nbody"')
        r = self.get(self.h, "/cgi")
        self.assertEqual((r.status, r.body, r.header("content-type"), r.all("set-cookie")),
                         (201, b"body", "text/x", ["a=1", "b=2"]))
        self.sh("moved", r'printf "Location: /elsewhere\n\n"')
        r = self.get(self.h, "/moved")
        self.assertEqual((r.status, r.header("location"), r.body), (302, "/elsewhere", b""))
        self.sh("broken", r'printf "Content-Type: a\nno colon here\n\nbody"')
        self.assertEqual(self.get(self.h, "/broken").status, 502)
        self.sh("plain", r'printf "Status: 404\n\nis text here"', "--output", "plain", "--content-type", "text/plain")
        r = self.get(self.h, "/plain")
        self.assertEqual((r.status, r.body, r.header("content-type")),
                         (200, b"Status: 404\n\nis text here", "text/plain"))

    def test_forward_from_a_script(self):
        self.sh("first", r'printf "Weir-Forward: second /x\nContent-Type: text/state\n\nstate of "; cat')
        self.sh("second", 'echo "$REQUEST_METHOD $REQUEST_URI $WEIR_HOP $CONTENT_TYPE"; cat')
        r = self.get(self.h, "/first", method="POST", body=b"Ada")
        self.assertEqual(r.body, b"POST /x 1 text/state\nstate of Ada")

    def test_failures(self):
        w = self.sh("fail", "echo half an answer; echo first >&2; echo oops >&2; exit 3")
        r = self.get(self.h, "/fail", headers=[("X-Request-Id", "req-7")])
        self.assert_problem(r, 500, service="fail")
        problem = r.json()
        self.assertIn("status 3", problem["detail"])
        self.assertIn("oops", problem["detail"])
        wait_until(lambda: "[req-7] sh: oops" in w.stderr(), 5, "stderr in the log, with the request's id")
        self.sh("killed", "kill -9 $$")
        self.assertIn("signal 9", self.get(self.h, "/killed").json()["detail"])
        self.sh("late", "head -c 200000 /dev/zero; exit 1")  # has begun: it must not look whole
        with self.assertRaises(Closed):
            self.get(self.h, "/late")
        self.sh("deaf", "exec <&-; sleep 0.1; echo done")  # reads no input
        self.assertEqual(self.get(self.h, "/deaf", method="POST", body=b"x" * 1000000).body, b"done\n")

    def test_streamed_output(self):
        self.sh("ticks", "echo one; read line; echo $line", "--stream")
        with Client(self.h.listen) as client:
            client.send(b"POST /ticks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            client.head()
            wait_until(lambda: b"one\n" in client.data or (client.more() and False), 5, "output before the end")
            client.send(b"4\r\ntwo\n\r\n0\r\n\r\n")
            wait_until(lambda: b"two\n" in client.data or (client.more() and False), 5, "the rest")

    def alive(self, pid):
        try:
            os.kill(pid, 0)
            return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            return False

    def test_a_client_that_leaves_ends_the_whole_group(self):
        for trap, limit in (("", 3), ("trap '' TERM;", 6)):
            with self.subTest(trap):
                pids = self.path("pids" + str(len(trap)))
                self.sh("long", f"{trap} sleep 1000 & echo $! $$ > {pids}; wait; wait; wait; sleep 1000",
                        "--kill-after", "500ms")
                client = self.client(self.h)
                client.send(request_bytes("GET", "/long"))
                wait_until(lambda: os.path.exists(pids) and open(pids).read().endswith("\n"), 5)
                inner, outer = map(int, open(pids).read().split())
                client.close()
                wait_until(lambda: not self.alive(outer) and not self.alive(inner), limit, "both are gone")
                self.h.wait_idle()
                self._processes[-1].stop()
                self.h.wait_workers(0)

    def test_a_deadline_ends_it(self):
        pid = self.path("pid")
        self.sh("slow", f"echo $$ > {pid}; exec sleep 1000")
        self.assertEqual(self.get(self.h, "/slow", headers=[("Weir-Timeout", "300ms")]).status, 504)
        wait_until(lambda: not self.alive(int(open(pid).read())), 5, "the command is gone")
        self.h.wait_idle()

    def test_slots(self):
        self.sh("nap", "sleep 0.5; echo ok", slots=4)
        began = time.monotonic()
        clients = [self.client(self.h) for _ in range(4)]
        for c in clients:
            c.send(request_bytes("GET", "/nap"))
        for c in clients:
            self.assertEqual(c.response().body, b"ok\n")
        self.assertLess(time.monotonic() - began, scaled(1.5))

    def test_drain(self):
        w = self.sh("nap", "sleep 0.7; echo finished")
        client = self.client(self.h)
        client.send(request_bytes("GET", "/nap"))
        self.h.wait_running(1)
        w.signal(signal.SIGTERM)
        self.assertEqual(client.response().body, b"finished\n")
        self.assertEqual(w.wait(5), 0)

    def test_killed_worker_leaves_no_command(self):
        pid = self.path("pid")
        w = self.sh("slow", f"echo $$ > {pid}; exec sleep 1000")
        client = self.client(self.h)
        client.send(request_bytes("POST", "/slow", body=b"x"))
        wait_until(lambda: os.path.exists(pid) and open(pid).read().endswith("\n"), 5)
        w.kill()
        self.assertEqual(client.response("POST").status, 502)
        wait_until(lambda: not self.alive(int(open(pid).read())), 5, "the command went with its worker")

    def test_two_hubs_and_a_restart(self):
        other = self.hub()
        w = self.work("hi", "--hub", other.worker_addresses[0], "--", "echo", "hi")
        other.wait_workers(1)
        for h in (self.h, other):
            self.assertEqual(self.get(h, "/hi").body, b"hi\n")
        self.assertTrue(w.alive())

    def test_wrong_usage(self):
        for argv, status, text in (
                ([], 2, "service"), (["s"], 2, "wants one of"), (["s", "--http", "ftp://x"], 2, "--http"),
                (["s", "--builtin", "nosuch"], 2, "nosuch"), (["s", "--builtin", "file"], 2, "--root"),
                (["s", "--builtin", "file", "--root", "/nosuch"], 1, "/nosuch"),
                (["s", "--gate-cpu", "x", "--", "cat"], 2, "gate-cpu"), (["s", "--", "nosuchcommand"], 1, "nosuchcommand"),
                (["bad name", "--", "cat"], 2, "name"), (["s", "--slots", "0", "--", "cat"], 2, "slots"),
                (["s", "--builtin", "echo", "--", "cat"], 2, "one of"), (["s", "--strip", "/x", "--", "cat"], 2, "--strip")):
            p = subprocess.run([weir_binary(), "work", *argv], capture_output=True, text=True, timeout=10)
            self.assertEqual((p.returncode, p.stdout), (status, ""), f"{argv}: {p.stderr}")
            self.assertIn(text, p.stderr)


class Gates(Work):
    def test_cpu(self):
        """While others keep the CPUs busy no job is taken; when they end, jobs flow within a second."""
        cpus = len(os.sched_getaffinity(0))
        self.work("gated", "--gate-cpu", "0.5", "--", "echo", "ran", slots=2, wait=False)
        self.h.wait_status(lambda s: s["slots"] > 0, 10, "the gate opens on an idle machine")
        busy = [subprocess.Popen(["sh", "-c", "while :; do :; done"], start_new_session=True) for _ in range(cpus * 2)]
        try:
            self.h.wait_status(lambda s: s["slots"] == 0, 10, "the gate closes")
            client = self.client(self.h)
            client.send(request_bytes("GET", "/gated"))
            self.h.wait_queued(1)
            for _ in range(10):
                self.assertEqual(self.h.status()["queued"], 1)
                time.sleep(0.1)
        finally:
            for p in busy:
                p.kill()
                p.wait()
        began = time.monotonic()
        self.assertEqual(client.response().body, b"ran\n")
        self.assertLess(time.monotonic() - began, scaled(1.0))

    def test_memory(self):
        self.work("never", "--gate-mem", "1000000GiB", "--", "echo", "ran", wait=False)
        self.work("always", "--gate-mem", "1MiB", "--", "echo", "ran", wait=False)
        self.h.wait_status(lambda s: s["workers"] == 2 and s["slots"] == 1, 10, "one is closed, one open")
        self.assertEqual(self.get(self.h, "/always").body, b"ran\n")


class Builtin(Work):
    def test_echo(self):
        self.work("echo", "--builtin", "echo")
        r = self.get(self.h, "/echo", method="POST", body=b"a\0b", headers=[("Content-Type", "text/x")])
        self.assertEqual((r.status, r.body, r.header("content-type"), r.header("content-length")),
                         (200, b"a\0b", "text/x", "3"))

    def test_files(self):
        root = self.path("root")
        os.mkdir(root)
        os.mkdir(os.path.join(root, "sub"))
        data = bytes(range(256)) * 1000
        for name, content in (("a.bin", data), ("page.html", b"<p>"), ("sub/index.html", b"index"), ("sp ace", b"s")):
            with open(os.path.join(root, name), "wb") as f:
                f.write(content)
        with open(self.path("secret"), "w") as f:
            f.write("secret")
        os.symlink("../secret", os.path.join(root, "out"))
        os.symlink("a.bin", os.path.join(root, "in"))
        os.mkfifo(os.path.join(root, "fifo"))
        self.work("files", "--builtin", "file", "--root", root)
        get = lambda path, *headers, method="GET": self.get(self.h, "/files/" + path, headers=headers, method=method)
        r = get("a.bin")
        self.assertEqual((r.status, r.body, r.header("accept-ranges"), r.header("content-type")),
                         (200, data, "bytes", "application/octet-stream"))
        etag, modified = r.header("etag"), r.header("last-modified")
        self.assertEqual(get("page.html").header("content-type"), "text/html; charset=utf-8")
        self.assertEqual(get("sub/").body, b"index")
        self.assertEqual(get("sp%20ace").body, b"s")
        self.assertEqual(get("in").body, data)
        for path, status in (("nosuch", 404), ("out", 403), ("sub", 404), ("fifo", 403), ("%00", 400), ("a%zz", 400),
                             ("../secret", 403), ("sub/../../secret", 403), ("%2e%2e/secret", 403), ("a.bin/x", 404)):
            r = get(path)
            self.assertEqual(r.status, status, path)
            self.assertNotIn(b"secret", r.body.replace(b"/secret", b""))
        for headers, status in (
                ([("If-None-Match", etag)], 304), ([("If-None-Match", f'"x", W/{etag}')], 304),
                ([("If-None-Match", '"x"')], 200), ([("If-Modified-Since", modified)], 304),
                ([("If-Modified-Since", "Mon, 01 Jan 2001 00:00:00 GMT")], 200),
                ([("If-None-Match", '"x"'), ("If-Modified-Since", modified)], 200)):
            self.assertEqual(get("a.bin", *headers).status, status, headers)
        for value, expected in (("bytes=0-3", data[:4]), ("bytes=255999-", data[-1:]), ("bytes=-5", data[-5:]),
                                ("bytes=10-10", data[10:11]), ("bytes=0-99999999", data), ("bytes=-999999", data)):
            r = get("a.bin", ("Range", value))
            self.assertEqual((r.status, r.body), (206, expected), value)
        r = get("a.bin", ("Range", "bytes=256000-"))
        self.assertEqual((r.status, r.header("content-range")), (416, "bytes */256000"))
        for value in ("bytes=5-3", "bytes=a-b", "lines=1-2", "bytes=0-1,4-5", "bytes="):
            self.assertEqual(get("a.bin", ("Range", value)).status, 200, value)
        self.assertEqual(get("a.bin", ("Range", "bytes=0-3"), ("If-Range", '"old"')).status, 200)
        self.assertEqual(get("a.bin", ("Range", "bytes=0-3"), ("If-Range", etag)).status, 206)
        r = get("a.bin", method="HEAD")
        self.assertEqual((r.status, r.header("content-length"), r.body), (200, "256000", b""))
        self.assertEqual(get("a.bin", method="POST").status, 405)


APP = '''
import time
def app(environ, start):
    path = environ["PATH_INFO"]
    body = environ["wsgi.input"].read() if environ["REQUEST_METHOD"] in ("POST", "PUT") else b""
    headers = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Query", environ["QUERY_STRING"]),
               ("X-Host", environ["HTTP_HOST"])]
    if path == "/slow":
        def parts():
            try:
                for i in range(1000):
                    yield b"x" * 1000
                    time.sleep(0.01)
            finally:
                open(environ["HTTP_X_MARK"], "w").close()
        start("200 OK", [("Content-Type", "text/plain")])
        return parts()
    start("201 Created", headers + [("Content-Length", str(len(body)))])
    return [body]
'''


class HttpServers(Work):
    def free_port(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            return s.getsockname()[1]

    def gunicorn(self):
        with open(self.path("demo_app.py"), "w") as f:
            f.write(APP)
        port = self.free_port()
        self.start("gunicorn", ["/usr/bin/gunicorn", "--bind", f"127.0.0.1:{port}", "--threads", "4", "--chdir",
                                self.directory, "demo_app:app"])
        wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 15, "gunicorn listens")
        return f"http://127.0.0.1:{port}"

    def test_gunicorn(self):
        self.work("app", "--http", self.gunicorn(), "--strip", "/app", slots=4)
        data = os.urandom(3000000)
        r = self.get(self.h, "/app/path?q=%20", method="POST", body=data, limit=30)
        self.assertEqual((r.status, r.all("set-cookie"), r.header("x-query"), r.header("x-host")),
                         (201, ["a=1", "b=2"], "q=%20", "test.example"))
        self.assertEqual(r.body, data)
        for _ in range(3):
            self.assertEqual(self.get(self.h, "/app", method="PUT", body=[b"chun", b"ked"]).body, b"chunked")
        r = self.get(self.h, "/app/x", method="HEAD")
        self.assertEqual((r.status, r.body), (201, b""))
        out = subprocess.run(["ab", "-q", "-k", "-n", "500", "-c", "4", self.h.url + "/app/"], capture_output=True,
                             text=True, timeout=60).stdout
        self.assertRegex(out, r"Failed requests:\s+0\b")
        self.assertRegex(out, r"Complete requests:\s+500\b")

    def test_a_client_that_leaves_ends_the_request_at_the_app(self):
        self.work("app", "--http", self.gunicorn(), "--strip", "/app")
        mark = self.path("mark")
        client = self.client(self.h)
        client.send(request_bytes("GET", "/app/slow", [("X-Mark", mark)]))
        client.head()
        self.assertFalse(os.path.exists(mark))
        client.close()
        wait_until(lambda: os.path.exists(mark), 5, "the app's generator was closed")
        self.h.wait_idle()

    def test_what_a_server_dies_of_is_asked_once(self):
        """A server that closes kept connections without an answer: a POST is not repeated, a GET once."""
        seen = []
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)

        def serve(s):
            while True:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    piece = s.recv(1)
                    if not piece:
                        return s.close()
                    head += piece
                seen.append(head.split(b" ")[0] + b" " + head.split(b" ")[1])
                if b"poison" in seen[-1]:
                    return s.close()
                s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        def accept():
            while True:
                try:
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
                except OSError:
                    return
        threading.Thread(target=accept, daemon=True).start()
        self.work("app", "--http", "http://127.0.0.1:%d" % listener.getsockname()[1], "--strip", "/app", slots=4)
        for method, most in (("POST", 1), ("GET", 2)):
            clients = [self.client(self.h) for _ in range(4)]
            for c in clients:
                c.send(request_bytes("GET", "/app/"))
            for c in clients:
                self.assertEqual(c.response().body, b"ok")
            seen.clear()
            self.assertEqual(self.get(self.h, "/app/poison", method=method).status, 502)
            self.assertLessEqual(len(seen), most, seen)

    def test_waiting_for_a_server_costs_nothing(self):
        listener = socket.create_server(("127.0.0.1", 0))
        w = self.work("app", "--http", "http://127.0.0.1:%d" % listener.getsockname()[1])
        client = self.client(self.h)
        client.send(request_bytes("GET", "/app"))
        s, _ = listener.accept()
        self.addCleanup(listener.close)
        self.assertIn(b"GET /app", s.recv(65536))
        ticks = lambda: sum(map(int, open(f"/proc/{w.pid}/stat").read().rsplit(")", 1)[1].split()[11:13]))
        before = ticks()
        time.sleep(0.5)  # the time in which it should do nothing
        self.assertLess(ticks() - before, 10)
        s.sendall(b"HTTP/1.0 200 OK\r\n\r\nat last")
        s.close()
        self.assertEqual(client.response().body, b"at last")

    def test_nginx_serves_a_gigabyte(self):
        root = self.path("www")
        os.mkdir(root)
        os.chmod(self.directory, 0o755)
        size = (64 << 20) if os.environ.get("WEIRTEST_SHORT") else 1 << 30
        block = os.urandom(1 << 20)
        digest = hashlib.sha256()
        with open(os.path.join(root, "big"), "wb") as f:
            for _ in range(size >> 20):
                f.write(block)
                digest.update(block)
        port = self.free_port()
        with open(self.path("nginx.conf"), "w") as f:
            temp = "\n".join(f"{m}_temp_path {self.directory}/{m};"
                             for m in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            f.write(f"daemon off; master_process off; worker_processes 1; pid {self.directory}/pid;"
                    f"error_log {self.directory}/nginx.err; events {{}} http {{ access_log off; {temp}"
                    f"server {{ listen 127.0.0.1:{port}; root {root}; }} }}")
        self.start("nginx", ["nginx", "-p", self.directory, "-c", self.path("nginx.conf")])
        wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 10, "nginx listens")
        w = self.work("www", "--http", f"http://127.0.0.1:{port}", "--strip", "/www")
        got = hashlib.sha256()
        p = subprocess.Popen(["curl", "-sS", "--fail", self.h.url + "/www/big"], stdout=subprocess.PIPE)
        while piece := p.stdout.read(1 << 20):
            got.update(piece)
        self.assertEqual(p.wait(), 0)
        p.stdout.close()
        self.assertEqual(got.digest(), digest.digest())
        if not sanitized:
            self.assertLess(w.memory("VmHWM"), 32 << 20)
        r = self.get(self.h, "/www/big", headers=[("Range", "bytes=10-19")])
        self.assertEqual((r.status, r.body), (206, block[10:20]))

    def test_a_unix_socket_and_a_server_that_is_not_there(self):
        self.work("gone", "--http", f"unix:{self.path('nosuch')}")
        r = self.get(self.h, "/gone")
        self.assert_problem(r, 502, service="gone")
        self.assertIn("No such file", r.json()["detail"])


if __name__ == "__main__":
    main()
