#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Workers by ZeroMQ: docs/protocol.md "ZeroMQ", sentence by sentence, with workers made by hand."""

import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time

import zmq

from weirtest import Case, Closed, H1Worker, ZmqWorker, main, request_bytes, sanitized, scaled, wait_until
from weirtest.zmqworker import OK

CREDIT = 65536
EXAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../examples/python/zmq_worker.py")


class Zmq(Case):
    flags = ("--request-timeout", "20s")

    def setUp(self):
        super().setUp()
        self.h = self.hub("--zmq", "tcp://127.0.0.1:0", *self.flags)

    def zmq(self, *args, **kwargs):
        return ZmqWorker(self, self.h, *args, **kwargs)

    def ask(self, method="GET", target="/s", headers=(), body=None):
        client = self.client(self.h)
        client.send(request_bytes(method, target, headers, body))
        return client

    def errors(self):
        return self.h.metrics().value("weir_zmq_errors_total")


class Jobs(Zmq):
    def test_request_and_reply(self):
        w = self.zmq()
        client = self.ask(target="/s/path?q=1", headers=[("X-Mine", "a"), ("X-Mine", "b"), ("Weir-Job", "no")])
        job = w.job()
        self.assertEqual((job.method, job.target, job.version, job.body), ("GET", "/s/path?q=1", "HTTP/1.1", b""))
        self.assertEqual([v for n, v in job.headers if n == "x-mine"], ["a", "b"])
        self.assertEqual(job.header("weir-job").encode(), job.id)
        self.assertEqual((job.header("weir-service"), job.header("weir-hop"), job.header("weir-attempt")),
                         ("s", "0", "1"))
        self.assertEqual(job.header("host"), "test.example")
        w.reply(job, b"hello", b"HTTP/1.1 201 Made\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nWeir-Slots: 1\r\n\r\n")
        answer = client.response()
        self.assertEqual((answer.status, answer.body, answer.header("content-length")), (201, b"hello", "5"))
        self.assertEqual(answer.all("set-cookie"), ["a=1", "b=2"])
        self.assertIsNone(answer.header("weir-slots"))

    def test_status_shows_it(self):
        self.zmq("a,b", slots=3, worker="me", labels="gpu=yes")
        entry = self.h.status()["workers_list"][0]
        self.assertEqual((entry["id"], entry["transport"], entry["labels"], entry["services"], entry["slots"]),
                         ("me", "zmq", "gpu=yes", ["a", "b"], 3))
        self.assertRegex(entry["address"], r"^127\.0\.0\.1:\d+$")

    def test_the_empty_line_of_a_head_may_be_left_out(self):
        w = self.zmq(slots=3)
        for head in (b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nx-a: b"):
            client = self.ask()
            w.reply(w.job(), b"x", head)
            self.assertEqual(client.response().body, b"x")

    def test_a_body_comes_whole(self):
        w = self.zmq(slots=3)
        client = self.ask("POST", body=b"b" * 1000)
        job = w.job()
        self.assertEqual((job.body, job.header("content-length")), (b"b" * 1000, "1000"))
        w.reply(job)
        self.assertEqual(client.response().status, 200)
        client = self.client(self.h)
        client.send(b"POST /s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        job = w.job()
        self.assertEqual((job.body, job.header("content-length"), job.header("transfer-encoding")), (b"abc", "3", None))
        w.reply(job)
        self.assertEqual(client.response().status, 200)

    def test_http10_has_a_host_too(self):
        w = self.zmq()
        client = self.client(self.h)
        client.send(b"GET /s HTTP/1.0\r\n\r\n")
        job = w.job()
        self.assertEqual(job.header("host"), "s")
        w.reply(job, b"old")
        self.assertEqual(client.response().body, b"old")

    def test_an_answer_as_a_stream(self):
        w = self.zmq()
        client = self.ask()
        job = w.job()
        w.say("HEAD", job.id, OK)
        for piece in (b"one", b"", b"two"):
            w.say("BODY", job.id, piece)
        w.say("END", job.id)
        answer = client.response()
        self.assertEqual((answer.body, answer.header("transfer-encoding")), (b"onetwo", "chunked"))
        self.h.wait_idle()

    def test_head_204_and_304_have_no_body(self):
        w = self.zmq(slots=5)
        for method, status, length in (("HEAD", 200, "5"), ("GET", 204, None), ("GET", 304, None)):
            client = self.ask(method)
            w.reply(w.job(), b"hello", b"HTTP/1.1 %d X\r\n\r\n" % status)
            answer = client.response(method)
            self.assertEqual((answer.status, answer.body, answer.header("content-length")), (status, b"", length))

    def test_forward_between_kinds_of_workers(self):
        w, other = self.zmq(slots=1), H1Worker(self, self.h.attach, "next")
        client = self.ask("POST", body=b"in")
        w.reply(w.job(), b"between", b"HTTP/1.1 200 OK\r\nWeir-Forward: next /two\r\n\r\n")
        request = other.request()
        self.assertEqual((request.method, request.target, request.body, request.header("weir-hop")),
                         ("POST", "/two", b"between", "1"))
        w.say("SLOTS", 1)
        other.answer(b"back", headers=[("Weir-Forward", "s")])
        job = w.job()
        self.assertEqual((job.body, job.header("weir-hop")), (b"back", "2"))
        w.reply(job, b"done")
        self.assertEqual(client.response().body, b"done")


class Slots(Zmq):
    def test_slots_are_credit(self):
        w = self.zmq(slots=2)
        clients = [self.ask(target=f"/s/{i}") for i in range(4)]
        jobs = [w.job(), w.job()]
        self.assertIsNone(w.next(0.2))
        for job in jobs:
            w.reply(job, b"x")
        self.assertIsNone(w.next(0.2), "an answer alone is no credit")
        w.say("SLOTS", 1)
        jobs.append(w.job())
        self.assertIsNone(w.next(0.2))
        w.say("SLOTS", 5)
        jobs.append(w.job())
        for job in jobs[2:]:
            w.reply(job, b"x")
        for client in clients:
            self.assertEqual(client.response().status, 200)
        self.assertEqual(self.h.status()["slots"], 4)

    def test_credit_is_bounded(self):
        w = self.zmq(slots=10**15)
        self.assertEqual(self.h.status()["slots"], 65536)
        w.say("SLOTS", 2**64 - 1)
        client = self.ask()
        w.reply(w.job())
        client.response()
        self.h.wait_status(lambda s: s["slots"] == 65535)

    def test_no_slots_no_job(self):
        w = self.zmq(slots=0)
        client = self.ask()
        self.assertIsNone(w.next(0.3))
        w.say("SLOTS", 1)
        w.reply(w.job(), b"x")
        self.assertEqual(client.response().body, b"x")


class Bodies(Zmq):
    def test_upload_under_credit(self):
        w = self.zmq()
        body = os.urandom(5 * CREDIT)
        client = self.client(self.h)
        client.send(request_bytes("POST", "/s", [], body))
        job = w.job("HEAD")
        got = b""
        while len(got) < CREDIT:
            got += w.expect("BODY")[1]
        self.assertEqual(len(got), CREDIT)
        self.assertIsNone(w.next(0.3), "no more than the credit")
        w.say("MORE", job.id, 10)
        got += w.expect("BODY")[1]
        self.assertEqual(len(got), CREDIT + 10)
        self.assertIsNone(w.next(0.1))
        w.say("MORE", job.id, 10**9)
        while (frames := w.next())[0] == b"BODY":
            self.assertLessEqual(len(frames[2]), CREDIT)
            got += frames[2]
        self.assertEqual((frames, got), ([b"END", job.id], body))
        w.reply(job, b"thanks")
        self.assertEqual(client.response().body, b"thanks")

    def test_a_body_that_is_still_coming(self):
        w = self.zmq()
        client = self.client(self.h)
        client.send(b"POST /s HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc")
        job = w.job("HEAD")
        self.assertEqual(w.expect("BODY"), [job.id, b"abc"])
        client.send(b"def")
        self.assertEqual(w.expect("BODY"), [job.id, b"def"])
        self.assertEqual(w.expect("END"), [job.id])
        w.reply(job, b"x")
        self.assertEqual(client.response().body, b"x")

    def test_a_slow_client_gives_no_credit(self):
        w = self.zmq()
        client = self.ask()
        job = w.job()
        w.say("HEAD", job.id, OK)
        credit, sent, total = CREDIT, 0, 60 * 1024 * 1024
        began = self.h.metrics().value("process_resident_memory_bytes")

        def send():
            nonlocal credit, sent
            while sent < total:
                n = min(credit, CREDIT, total - sent)
                if n == 0:
                    frames = w.next(1.0)
                    if frames is None:
                        return False
                    self.assertEqual(frames[:2], [b"MORE", job.id])
                    credit += int(frames[2])
                    continue
                w.say("BODY", job.id, bytes(n))
                credit, sent = credit - n, sent + n
            return True
        self.assertFalse(send(), "it goes on although nobody reads")
        if not sanitized:  # which keeps what is freed
            self.assertLess(self.h.metrics().value("process_resident_memory_bytes") - began, 4 * 1024 * 1024)
        result = []
        reader = threading.Thread(target=lambda: result.append(client.response()))
        reader.start()
        wait_until(send, 20, "all is sent")
        w.say("END", job.id)
        reader.join(20)
        self.assertEqual(len(result[0].body), total)

    def test_more_than_the_credit(self):
        w = self.zmq(slots=2)
        client = self.client(self.h, receive_buffer=4096)
        client.send(request_bytes("GET", "/s"))
        job = w.job()
        w.say("HEAD", job.id, OK)
        for _ in range(300):  # more than all buffers up to the client, who does not read
            w.say("BODY", job.id, bytes(CREDIT))
        self.assertEqual(w.expect("CANCEL")[0], job.id)
        with self.assertRaises(Closed):
            client.response()
        self.assertEqual(self.h.status()["jobs"][0]["state"], "leaving")
        w.say("END", job.id)
        self.h.wait_idle()
        self.assertEqual(self.h.metrics().value("weir_worker_bad_answers_total"), 1)

    def test_content_length_must_be_kept(self):
        w = self.zmq(slots=9)
        head = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
        for body in (b"four", b"sixsix", b""):
            client = self.ask()
            w.reply(w.job(), body, head)
            self.assertEqual(client.response().status, 502)
        for body, ended in ((b"four", True), (b"sixsix", False)):
            client = self.ask()
            job = w.job()
            w.say("HEAD", job.id, head)
            self.assertEqual(client.head().status, 200)
            w.say("BODY", job.id, body)
            if not ended:
                w.expect("CANCEL")
            w.say("END", job.id)
            with self.assertRaises((Closed, AssertionError)):
                client.take(5)
        self.h.wait_idle()
        client = self.ask()
        job = w.job()
        w.say("HEAD", job.id, head)
        w.say("BODY", job.id, b"fiv")
        w.say("BODY", job.id, b"e!")
        w.say("END", job.id)
        self.assertEqual(client.response().body, b"five!")

    def test_too_large_a_reply(self):
        w = self.zmq(slots=2)
        self.ask()
        job = w.job()
        w.reply(job, bytes(4 * CREDIT + 1))
        self.assertIn(b"more bytes", w.expect("ERROR")[0])
        w.reply(job, bytes(4 * CREDIT))
        self.h.wait_idle()


class BadAnswers(Zmq):
    def test_what_is_no_answer(self):
        w = self.zmq(slots=20)
        for head in (b"", b"nonsense", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
                     b"HTTP/1.1 200 OK\r\nbad field\r\n\r\n", b"HTTP/1.1 200 OK\r\nweir-forward: a b c d\r\n\r\n",
                     b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70000 + b"\r\n\r\n", b"HTTP/1.1 200 OK\nx: y\n\n"):
            with self.subTest(head=head[:60]):
                client = self.ask()
                w.reply(w.job(), b"x", head)
                self.assertEqual(client.response().status, 502)
        self.assertEqual(self.ask_one(w).body, b"fine")

    def ask_one(self, w):
        client = self.ask()
        w.reply(w.job(), b"fine")
        return client.response()

    def test_in_the_wrong_order(self):
        w = self.zmq(slots=20)
        for kind, more in (("BODY", [b"x"]), ("END", [])):
            client = self.ask()
            job = w.job()
            w.say(kind, job.id, *more)
            self.assertEqual(client.response().status, 502)
            if kind == "BODY":
                self.assertEqual(w.expect("CANCEL")[0], job.id)
                w.say("END", job.id)
        for kind in ("HEAD", "REPLY"):  # a second answer
            client = self.ask()
            job = w.job()
            w.say("HEAD", job.id, OK)
            w.say(kind, job.id, OK, *([b"x"] if kind == "REPLY" else []))
            with self.assertRaises(Closed):
                client.response()
            if kind == "HEAD":
                w.expect("CANCEL")
                w.say("END", job.id)
        self.h.wait_idle()
        while w.next(0.1):
            pass
        self.assertEqual(self.ask_one(w).body, b"fine")

    def test_another_workers_job(self):
        w, thief = self.zmq(worker="w"), self.zmq("t", worker="thief")
        client = self.ask()
        job = w.job()
        thief.reply(job, b"mine")
        self.assertEqual(thief.expect("ERROR"), [b"this worker has no such job"])
        w.reply(job, b"right")
        self.assertEqual(client.response().body, b"right")
        w.reply(job, b"again")
        self.assertEqual(w.expect("ERROR"), [b"this worker has no such job"])

    def test_every_bad_message_is_told(self):
        w = self.zmq()
        messages = [["W2", "PING"], ["W1"], [""], ["W1", "NOSUCH"], ["W1", "ping"], ["W1", "PING", "x"], ["W1", "SLOTS"],
                    ["W1", "SLOTS", "-1"], ["W1", "SLOTS", "1", "2"], ["W1", "ACK", "0"], ["W1", "ACK", "zz"],
                    ["W1", "READY", "w"], ["W1", "READY", "w", "bad name", "1", ""], ["W1", "JOB", "1", "h", ""],
                    ["W1", "CANCEL", "1", "x"], ["W1", "ERROR", "x"], ["W1", "REPLY", "1", "h"], ["W1", "FAIL", "1", "2", "t"],
                    ["W1", "END", "77"], ["W1"] * 50, ["W1", "MORE", "1", ""]]
        before = self.errors()
        for n, message in enumerate(messages):
            with self.subTest(message=message[:5]):
                if n % 8 == 0:
                    time.sleep(1.01)  # at most ten are told in a second
                w.raw(*message)
                self.assertEqual(len(w.expect("ERROR")), 1)
        self.assertEqual(self.errors() - before, len(messages))
        client = self.ask()
        w.reply(w.job(), b"alive")
        self.assertEqual(client.response().body, b"alive")

    def test_only_some_errors_are_told_and_all_are_counted(self):
        w = self.zmq()
        for _ in range(500):
            w.raw("W1", "NOSUCH")
        wait_until(lambda: self.errors() == 500, 10, "500 errors counted")
        told = 0
        while w.next(0.3):
            told += 1
        self.assertTrue(1 <= told <= 30, told)

    def test_not_attached(self):
        w = self.zmq(slots=None)
        for message in (["PING"], ["SLOTS", 1], ["REPLY", "1", OK, ""], ["BYE"]):
            w.say(*message)
            self.assertEqual(w.expect("ERROR"), [b"not attached"])
        w.ready()
        w.expect("PING")
        client = self.ask()
        w.reply(w.job(), b"x")
        self.assertEqual(client.response().body, b"x")


class Fails(Zmq):
    def test_failed(self):
        w = self.zmq()
        client = self.ask()
        w.say("FAIL", w.job().id, 0, "the disk\nis full")
        answer = client.response()
        self.assertEqual((answer.status, answer.json()["service"]), (502, "s"))
        self.h.wait_idle()
        self.assertIn("is full", self.h.stderr())

    def test_given_back(self):
        w = self.zmq(worker="first")
        client = self.ask("POST", body=b"x")
        job = w.job()
        other = self.zmq(worker="second")
        w.say("FAIL", job.id, 1, "not now")
        again = other.job()
        self.assertEqual((again.body, again.header("weir-attempt")), (b"x", "1"))
        other.reply(again, b"done")
        self.assertEqual(client.response().body, b"done")

    def test_given_back_many_times(self):
        w = self.zmq(slots=1)
        client = self.ask("POST", body=b"x")
        for _ in range(20):
            job = w.job()
            self.assertEqual(job.header("weir-attempt"), "1")
            w.say("FAIL", job.id, 1, "not now")
            w.say("SLOTS", 1)
        w.reply(w.job(), b"done")
        self.assertEqual(client.response().body, b"done")

    def test_given_back_it_does_not_bounce(self):
        w = self.zmq(slots=5)
        client = self.ask()
        begin = time.monotonic()
        for _ in range(4):
            w.say("FAIL", w.job().id, 1, "not now")
        self.assertGreater(time.monotonic() - begin, 0.29)
        w.reply(w.job(), b"done")
        self.assertEqual(client.response().body, b"done")

    def test_given_back_after_it_began(self):
        w = self.zmq(slots=2)
        client = self.ask()
        job = w.job()
        w.say("HEAD", job.id, OK)
        self.assertEqual(client.head().status, 200)
        w.say("FAIL", job.id, 1, "oh")
        with self.assertRaises((Closed, AssertionError)):
            client.take(1)
        self.h.wait_idle()


class Deaths(Zmq):
    """The connection goes, as when the process dies."""

    def lose(self, method, ack, more=lambda w, job: None):
        first = self.zmq(worker="first")
        client = self.ask(method, body=b"x" if method == "POST" else None)
        job = first.job()
        if ack:
            first.say("ACK", job.id)
        more(first, job)
        time.sleep(0.1)
        first.close()
        return client

    def test_post_that_was_not_acknowledged(self):
        """It may have been started: the word may have died with the connection."""
        self.assertEqual(self.lose("POST", False).response().status, 502)

    def test_post_that_was_acknowledged(self):
        self.assertEqual(self.lose("POST", True).response().status, 502)

    def test_get(self):
        client = self.lose("GET", False)
        second = self.zmq(worker="second")
        job = second.job()
        self.assertEqual(job.header("weir-attempt"), "2")
        second.reply(job, b"y")
        self.assertEqual(client.response().body, b"y")

    def test_a_reply_that_has_begun_is_cut(self):
        client = self.lose("GET", False, lambda w, job: w.say("HEAD", job.id, OK))
        with self.assertRaises(Closed):
            client.response()
        self.h.wait_idle()

    def test_the_last_words_count(self):
        """What a worker sent before it closed is heard."""
        client = self.lose("POST", True, lambda w, job: w.reply(job, b"last"))
        self.assertEqual(client.response().body, b"last")
        self.h.wait_workers(0)

    def test_a_killed_process_is_noticed_at_once(self):
        took = []
        for _ in range(5):
            worker = self.start("example", [sys.executable, EXAMPLE, self.h.endpoints[0], "dying"])
            self.h.wait_workers(1)
            begin = time.monotonic()
            worker.signal(signal.SIGKILL)
            wait_until(lambda: "worker-gone" in self.h.stderr()[-200:] and self.h.status()["workers"] == 0, 5, "it is gone")
            took.append(time.monotonic() - begin)
        print(f"noticed after {sorted(took)[2] * 1000:.0f} ms, five times", file=sys.stderr)
        self.assertLess(min(took), scaled(0.5))  # heartbeats alone would take 3 s

    def test_ready_twice(self):
        w = self.zmq(slots=2)
        client = self.ask()
        first = w.job()
        w.ready(slots=1)
        w.expect("PING")
        job = w.job()
        self.assertEqual(job.header("weir-attempt"), "2")
        w.reply(first, b"late")
        self.assertEqual(w.expect("ERROR"), [b"this worker has no such job"])
        w.reply(job, b"new")
        self.assertEqual(client.response().body, b"new")
        self.assertEqual(self.h.status()["workers"], 1)

    def test_the_same_routing_id_again(self):
        first = self.zmq(worker="first", routing_id=b"fixed")
        second = self.zmq(worker="second", routing_id=b"fixed")
        self.h.wait_status(lambda s: [w["id"] for w in s["workers_list"]] == ["second"])
        client = self.ask()
        second.reply(second.job(), b"x")
        self.assertEqual(client.response().body, b"x")
        first.say("SLOTS", 5)  # from a connection that has lost its name
        self.assertEqual(self.h.status()["slots"], 0)

    def test_many_come_and_go(self):
        """Descriptors are used again at once: the end of an earlier connection must not end a later worker."""
        for i in range(60):
            w = self.zmq(worker=f"w{i}")
            client = self.ask()
            w.reply(w.job(), b"%d" % i)
            self.assertEqual(client.response().body, b"%d" % i)
            w.close()
        self.h.wait_workers(0)


class Cancels(Zmq):
    def test_the_client_leaves(self):
        w = self.zmq(slots=2)
        client = self.ask()
        job = w.job()
        client.close()
        self.assertEqual(w.expect("CANCEL")[0], job.id)
        status = self.h.status()
        self.assertEqual(([j["state"] for j in status["jobs"]], status["slots"]), (["leaving"], 2))
        w.reply(job, b"too late")
        self.h.wait_idle()
        self.assertEqual(self.h.status()["slots"], 1)

    def test_deadline(self):
        w = self.zmq()
        client = self.ask(headers=[("Weir-Timeout", "200ms")])
        job = w.job()
        self.assertLessEqual(int(job.header("weir-deadline-ms")), 200)
        self.assertEqual(client.response().status, 504)
        self.assertEqual(w.expect("CANCEL"), [job.id, b"deadline"])
        w.say("FAIL", job.id, 0, "cancelled")
        self.h.wait_idle()

    def test_an_upload_that_breaks_off(self):
        w = self.zmq()
        client = self.client(self.h)
        client.send(b"POST /s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc")
        job = w.job("HEAD")
        w.expect("BODY")
        client.close()
        self.assertEqual(w.expect("CANCEL")[0], job.id)
        w.say("END", job.id)
        self.h.wait_idle()


class Heartbeats(Zmq):
    flags = ("--heartbeat", "100ms", "--heartbeat-missed", "3")

    def test_both_ways(self):
        w = self.zmq(beats=False)
        w.say("PING")
        seen = set()
        while seen != {b"PING", b"PONG"}:
            frames = w.hear()
            self.assertIn(frames[0], (b"PING", b"PONG"))
            seen.add(frames[0])
            w.say("PONG")

    def test_a_silent_worker_is_gone(self):
        w = self.zmq(beats=False)
        client = self.ask("POST", body=b"x")
        job = next(f for f in iter(w.hear, None) if f[0] == b"JOB")
        w.say("ACK", job[1])
        self.assertEqual(client.response().status, 502)
        self.h.wait_workers(0)
        self.assertEqual(self.h.metrics().value("weir_worker_links_silent_total"), 1)
        while frames := w.hear(0.2):
            self.assertIn(frames[0], (b"PING", b"CANCEL"))
        w.say("SLOTS", 1)
        self.assertEqual(w.expect("ERROR"), [b"not attached"])

    def test_any_message_is_a_sign_of_life(self):
        w = self.zmq(beats=False, slots=0)
        for _ in range(10):
            w.say("SLOTS", 0)
            time.sleep(0.1)
        self.assertEqual(self.h.status()["workers"], 1)


class Leaving(Zmq):
    def test_bye(self):
        w = self.zmq(slots=2)
        client = self.ask()
        job = w.job()
        w.say("BYE")
        self.assertEqual(w.expect("BYE"), [])
        self.h.wait_status(lambda s: s["workers_list"][0]["draining"])
        waiting = self.ask()
        self.assertIsNone(w.next(0.2))
        w.reply(job, b"last")
        self.assertEqual(client.response().body, b"last")
        self.h.wait_workers(0)
        other = self.zmq()
        other.reply(other.job(), b"other")
        self.assertEqual(waiting.response().body, b"other")

    def test_a_job_on_its_way_is_given_back(self):
        w = self.zmq(slots=3)
        clients = [self.ask("POST", body=b"x") for _ in range(3)]
        self.h.wait_running(3)
        w.say("BYE")  # before it has read any of them
        jobs = []
        while (frames := w.next())[0] != b"BYE":
            jobs.append(frames[1])
        self.assertEqual(len(jobs), 3)
        for job in jobs:
            w.say("FAIL", job, 1, "leaving")
        self.h.wait_workers(0)
        other = self.zmq(slots=3)
        for _ in clients:
            other.reply(other.job(), b"done")
        for client in clients:
            self.assertEqual(client.response().body, b"done")

    def test_the_hub_drains(self):
        w = self.zmq(slots=2)
        client = self.ask()
        job = w.job()
        self.h.signal(signal.SIGTERM)
        self.h.ended = True
        w.expect("BYE")
        w.reply(job, b"finished")
        self.assertEqual(client.response().body, b"finished")
        self.assertEqual(self.h.wait(scaled(10)), 0)

    def test_no_ready_while_draining(self):
        w, late = self.zmq(), self.zmq(slots=None)
        self.ask()
        job = w.job()
        self.h.signal(signal.SIGTERM)
        self.h.ended = True
        w.expect("BYE")
        late.ready()
        self.assertEqual(late.expect("ERROR"), [b"hub is draining"])
        w.reply(job)
        self.assertEqual(self.h.wait(scaled(10)), 0)


class Doors(Case):
    def test_tcp_and_ipc(self):
        path = os.path.join(self.directory, "z")
        h = self.hub("--zmq", f"tcp://127.0.0.1:0,ipc://{path}")
        self.assertEqual(h.endpoints[1], f"ipc://{path}")
        for i, endpoint in enumerate(h.endpoints):
            ZmqWorker(self, endpoint, worker=f"w{i}")
        self.assertEqual(sorted(w["address"].split(":")[0] for w in h.status()["workers_list"]), ["127.0.0.1", "unix"])

    def test_tokens(self):
        h = self.hub("--zmq", "tcp://127.0.0.1:0", "--token", "ours=s3cret")
        for token, text in ((None, b"a token is required"), ("wrong", b"this token is not known")):
            w = ZmqWorker(self, h, slots=None)
            w.ready(token=token)
            self.assertEqual(w.expect("ERROR"), [text])
        ZmqWorker(self, h, token="s3cret")
        self.assertEqual(h.status()["workers"], 1)

    def test_curve(self):
        path = os.path.join(self.directory, "hub.key")
        h = self.hub("--zmq", "tcp://127.0.0.1:0", "--zmq-curve", path)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        key = re.search(r"public key (\S{40})", h.stderr())[1].encode()
        plain, wrong = ZmqWorker(self, h, slots=None), ZmqWorker(self, h, slots=None, curve=zmq.curve_keypair()[0])
        for w in (plain, wrong):
            w.ready()
            self.assertIsNone(w.next(0.5))
        w = ZmqWorker(self, h, curve=key)
        self.start("work", [os.environ["WEIR"], "work", "e", "--builtin", "echo", "--id", "work", "--hub-key", key.decode(),
                            "--hub", h.endpoints[0].replace("://", "+zmq://")])
        h.wait_worker("work", 1)
        self.assertEqual(self.get(h, "/e", method="POST", body=b"secret").body, b"secret")
        self.assertEqual(h.status()["workers"], 2)
        h.terminate()
        again = self.hub("--zmq", "tcp://127.0.0.1:0", "--zmq-curve", path)  # the file is kept
        self.assertIn(key.decode(), again.stderr())

    def test_bad_keys_and_endpoints(self):
        path = os.path.join(self.directory, "bad.key")
        with open(path, "w") as f:
            f.write("short\n")
        for flags, text in ((["--zmq-curve", path], "40 characters"), (["--zmq", "ipc:///no/such/folder/z"], "No such file"),
                            (["--zmq", "tcp://nonsense"], "cannot listen"), (["--zmq", "127.0.0.1:1"], "not a ZeroMQ endpoint")):
            p = subprocess.run([os.environ["WEIR"], "hub", "--listen", "127.0.0.1:0", "--workers", "off", "--admin", "off",
                                "--zmq", "tcp://127.0.0.1:0", *flags], capture_output=True, text=True, timeout=scaled(10))
            self.assertNotEqual(p.returncode, 0)
            self.assertIn(text, p.stderr)


class Example(Zmq):
    """examples/python/zmq_worker.py, with clients that are not ours."""

    def example(self, service="py"):
        return self.start("example", [sys.executable, EXAMPLE, self.h.endpoints[0], service])

    def test_it_serves(self):
        worker = self.example()
        self.h.wait_workers(1)
        text = subprocess.run(["curl", "-sf", self.h.url + "/py?a=b"], capture_output=True, text=True).stdout
        self.assertEqual(text, f"hello from {worker.popen.pid}: GET /py?a=b, 0 bytes\n")
        big = os.path.join(self.directory, "big")
        with open(big, "wb") as f:
            f.write(os.urandom(3000000))
        text = subprocess.run(["curl", "-sf", "--data-binary", "@" + big, self.h.url + "/py"], capture_output=True,
                              text=True).stdout
        self.assertIn("POST /py, 3000000 bytes", text)
        worker.signal(signal.SIGTERM)
        self.assertEqual(worker.wait(scaled(5)), 0)
        self.h.wait_workers(0)
        self.assertIn("drained", self.h.stderr())

    def test_ab(self):
        self.example(), self.example()
        self.h.wait_workers(2)
        out = subprocess.run(["ab", "-q", "-n", "1000", "-c", "8", self.h.url + "/py"], capture_output=True, text=True).stdout
        self.assertRegex(out, r"Complete requests: +1000\n")
        self.assertRegex(out, r"Failed requests: +0\n")
        self.assertNotIn("Non-2xx", out)

    def test_a_hub_that_begins_anew(self):
        endpoint = self.h.endpoints[0]
        self.example()
        self.h.wait_workers(1)
        self.h.kill()
        self.h.ended = True
        again = self.hub("--zmq", endpoint)
        again.wait_workers(1)
        self.assertIn("hello from", self.get(again, "/py").text)

    def test_it_is_short(self):
        with open(EXAMPLE) as f:
            self.assertLessEqual(len(f.readlines()), 40)


if __name__ == "__main__":
    main()
