#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Topics: publish and subscribe over HTTP. Every case of the API both at --topics and below /-/topics/."""

import base64
import json
import os
import signal
import subprocess
import threading
import urllib.parse

from weirtest import Case, Client, main, request_bytes, sanitized, scaled, slow, wait_until
from weirtest.hub import parse_address, weir_binary

TIME = r"\A20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3}Z\Z"


class Api:
    """The topics of a hub, at one of their two places. Each request comes on a connection of its own."""

    def __init__(self, case, hub, prefix=""):
        self.case, self.hub, self.prefix = case, hub, prefix
        self.address = hub.listen
        if not prefix:
            with open(hub.ports_file) as f:
                self.address = parse_address(dict(line.strip().split("=", 1) for line in f)["topics"])

    def request(self, method, path, headers=(), body=None, limit=10.0):
        with Client(self.address, limit=limit) as client:
            return client.request(method, self.prefix + path, headers, body)

    def status(self, method, path, headers=(), body=None):
        return self.request(method, path, headers, body).status

    def get(self, path, headers=()):
        """A message's body, or the status of another answer."""
        r = self.request("GET", path, headers)
        if r.status == 204:
            self.case.assertEqual(r.body, b"")
        return r.body.decode() if r.status == 200 else r.status

    def subscribe(self, path):
        self.case.assertEqual(self.status("POST", path), 200)

    def publish(self, path, body="m", headers=()):
        self.case.assertEqual(self.status("POST", path, headers, body.encode() if isinstance(body, str) else body), 200)

    def open(self, path, headers=(), method="GET", limit=10.0):
        """A connection with a request whose answer is still to come."""
        client = self.case.client(self.address, limit=limit)
        client.send(request_bytes(method, self.prefix + path, headers))
        return client

    def events(self, path, headers=()):
        return Events(self, path, headers)


class Events:
    """A stream of server-sent events."""

    def __init__(self, api, path, headers=()):
        self.client = api.open(path, [("Accept", "text/event-stream"), *headers])
        self.head = self.client.head()
        self.data = b""
        self.pieces = self.client.pieces(self.head)

    def next(self):
        """(id, data as bytes), decoded; None at the end of the stream. Comments are skipped."""
        while True:
            while b"\n\n" not in self.data:
                piece = next(self.pieces, None)
                if piece is None:
                    assert self.data == b"", self.data
                    return None
                self.data += piece
            text, self.data = self.data.split(b"\n\n", 1)
            if not text.startswith(b":"):
                return self.parse(text)

    @staticmethod
    def parse(text):
        number, kind, lines = None, "message", []
        for line in text.split(b"\n"):
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"id":
                number = int(value)
            elif name == b"event":
                kind = value.decode()
            elif name == b"data":
                lines.append(value)
        data = b"\n".join(lines)
        return number, base64.b64decode(data) if kind == "base64" else data

    def close(self):
        self.client.close()


class TopicsCase(Case):
    def start_hub(self, *flags, **kwargs):
        return self.hub("--topics", "127.0.0.1:0", *flags, **kwargs)

    def wait_messages(self, hub, count, limit=10.0):
        wait_until(lambda: hub.metrics().value("weir_topic_messages") == count, scaled(limit),
                   f"{count} messages are kept")

    def wait_readers(self, hub, kind, count):
        wait_until(lambda: hub.metrics().value("weir_topic_readers", kind=kind) == count, scaled(10),
                   f"{count} readers wait")


class Cases:
    """By their numbers. self.api is where the topics are."""

    def test_01_subscribe(self):
        self.assertEqual(self.api.status("POST", "/T/a"), 200)

    def test_02_twice(self):
        self.api.subscribe("/T/a")
        self.api.subscribe("/T/a")
        self.api.publish("/T", "m")
        self.assertEqual([self.api.get("/T/a"), self.api.get("/T/a")], ["m", 204])

    def test_03_publish_to_nobody(self):
        self.api.publish("/T", "m")
        self.wait_messages(self.h, 0)

    def test_04_never_subscribed(self):
        self.assert_problem(self.api.request("GET", "/T/a"), 404)

    def test_05_published_and_never_subscribed(self):
        self.api.publish("/T")
        self.assertEqual(self.api.get("/T/a"), 404)
        self.api.subscribe("/T/b")
        self.api.publish("/T")
        self.assertEqual(self.api.get("/T/a"), 404)

    def test_06_nothing_yet(self):
        self.api.subscribe("/T/a")
        r = self.api.request("GET", "/T/a")
        self.assertEqual((r.status, r.body), (204, b""))

    def test_07_08_one_message(self):
        self.api.subscribe("/T/a")
        self.api.publish("/T", "m")
        self.assertEqual([self.api.get("/T/a"), self.api.get("/T/a")], ["m", 204])

    def test_09_two_subscriptions(self):
        self.api.subscribe("/T/a")
        self.api.subscribe("/T/b")
        self.api.publish("/T", "m")
        self.assertEqual([self.api.get(p) for p in ("/T/a", "/T/b", "/T/a", "/T/b")], ["m", "m", 204, 204])

    def test_11_subscribed_too_late(self):
        self.api.publish("/T")
        self.api.subscribe("/T/a")
        self.assertEqual(self.api.get("/T/a"), 204)

    def test_12_subscribed_between(self):
        self.api.subscribe("/T/a")
        self.api.publish("/T", "m1")
        self.api.subscribe("/T/b")
        self.assertEqual([self.api.get("/T/b"), self.api.get("/T/a")], [204, "m1"])

    def test_14_order(self):
        self.api.subscribe("/T/a")
        for m in ("m1", "m2", "m3"):
            self.api.publish("/T", m)
        self.assertEqual([self.api.get("/T/a") for _ in range(4)], ["m1", "m2", "m3", 204])

    def test_15_leave_never_subscribed(self):
        self.assert_problem(self.api.request("DELETE", "/T/a"), 404)

    def test_16_leave(self):
        self.api.subscribe("/T/a")
        self.assertEqual([self.api.status("DELETE", "/T/a") for _ in range(2)], [200, 404])

    def test_17_18_leave_with_a_message_unread(self):
        self.api.subscribe("/T/a")
        self.api.publish("/T")
        self.assertEqual(self.api.status("DELETE", "/T/a"), 200)
        self.assertEqual(self.api.get("/T/a"), 404)
        self.api.subscribe("/T/a")
        self.assertEqual(self.api.get("/T/a"), 204)

    def test_19_one_leaves(self):
        self.api.subscribe("/T/a")
        self.api.subscribe("/T/b")
        self.api.publish("/T", "m")
        self.assertEqual(self.api.status("DELETE", "/T/a"), 200)
        self.assertEqual(self.api.get("/T/b"), "m")

    def test_20_nothing_is_kept_when_all_have_read(self):
        self.api.subscribe("/T/a")
        self.api.subscribe("/T/b")
        for i in range(3):
            self.api.publish("/T", f"m{i}")
        self.wait_messages(self.h, 3)
        for _ in range(3):
            self.api.get("/T/a")
        self.wait_messages(self.h, 3)
        for _ in range(3):
            self.api.get("/T/b")
        self.wait_messages(self.h, 0)

    def test_21_nothing_is_kept_when_all_have_left(self):
        self.api.subscribe("/T/a")
        self.api.subscribe("/T/b")
        self.api.publish("/T", b"x" * 100000)
        self.api.publish("/T")
        self.wait_messages(self.h, 2)
        self.api.get("/T/a")
        self.assertEqual(self.api.status("DELETE", "/T/b"), 200)
        self.wait_messages(self.h, 1)
        self.assertEqual(self.api.status("DELETE", "/T/a"), 200)
        self.wait_messages(self.h, 0)
        self.assertEqual(self.h.metrics().value("weir_topics"), 0)

    def test_24_25_topics_are_apart(self):
        self.api.subscribe("/T/a")
        self.api.subscribe("/U/a")
        self.api.publish("/T", "t")
        self.assertEqual(self.api.get("/U/a"), 204)
        self.api.publish("/U", "u")
        self.assertEqual([self.api.get("/T/a"), self.api.get("/U/a")], ["t", "u"])
        self.assertEqual(self.api.status("DELETE", "/T/a"), 200)
        self.assertEqual(self.api.get("/U/a"), 204)

    def test_26_bodies(self):
        self.api.subscribe("/T/a")
        for size, kind in ((0, "text/plain"), (1, 'a/b; c="d"'), (65536, None), (65537, "image/png"),
                           (1 << 20, "application/octet-stream")):
            body = os.urandom(size)
            with self.subTest(size):
                self.api.publish("/T", body, [("Content-Type", kind)] if kind else [])
                r = self.api.request("GET", "/T/a")
                self.assertEqual((r.status, r.header("content-type"), r.header("content-length")),
                                 (200, kind, str(size)))
                self.assertTrue(r.body == body)
        self.api.publish("/T", [b"chunked ", b"body"])
        self.assertEqual(self.api.get("/T/a"), "chunked body")
        self.assertEqual(self.api.get("/T/a"), 204)
        self.wait_messages(self.h, 0)

    def test_29_to_33_other_paths(self):
        self.api.subscribe("/T/a")
        self.api.publish("/T", "m")
        for method, path in (("GET", "/T"), ("GET", "/T/a/x"), ("DELETE", "/T"), ("DELETE", "/T/a/x"),
                             ("GET", "/T/a/1"), ("DELETE", "/T/a/99"), ("DELETE", "/T/a/0"), ("DELETE", "/T/a/-1"),
                             ("POST", "/T/a/x"), ("GET", "/T/a/x/y"), ("DELETE", "/T/a/1/y"), ("GET", "/")):
            with self.subTest(f"{method} {path}"):
                self.assert_problem(self.api.request(method, path), 404)
        self.assertEqual([self.api.get("/T/a"), self.api.get("/T/a")], ["m", 204])

    def test_other_methods(self):
        for method, path, allow in (("PUT", "/T", "POST"), ("HEAD", "/T/a", "GET, POST, DELETE"),
                                    ("PATCH", "/T/a", "GET, POST, DELETE"), ("PUT", "/T/a/1", "DELETE")):
            r = self.api.request(method, path)
            self.assertEqual((r.status, r.header("allow")), (405, allow))

    def test_34_35_a_publisher_need_not_subscribe(self):
        self.api.publish("/T", "before")
        self.api.subscribe("/T/me")
        self.api.publish("/T", "mine")
        self.assertEqual(self.api.get("/T/me"), "mine")

    def test_38_50_topics_at_once(self):
        def run(n):
            try:
                self.api.subscribe(f"/T{n}/a")
                self.api.subscribe(f"/T{n}/b")
                for i in range(10):
                    self.api.publish(f"/T{n}", f"{n}.{i}")
                got[n] = [[self.api.get(f"/T{n}/{s}") for _ in range(11)] for s in "ab"]
            except Exception as e:
                got[n] = e
        got = {}
        threads = [threading.Thread(target=run, args=(n,)) for n in range(50)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for n in range(50):
            self.assertEqual(got[n], [[f"{n}.{i}" for i in range(10)] + [204]] * 2)
        self.wait_messages(self.h, 0)

    def test_names(self):
        for name in ("a", "%41", "a%2Fb", "a%20b+c", "%C3%A4%E2%82%AC", "~!$&'()*,;=:@", "%F0%9F%98%80", "x" * 255,
                     "%78" * 255, "..", "."):
            with self.subTest(name):
                self.assertEqual(self.api.status("POST", f"/{name}/{name}"), 200)
        self.assertEqual(self.api.status("POST", f"/A/A"), 200)
        self.api.publish("/%41", "decoded")
        self.assertEqual(self.api.get("/A/%41"), "decoded")
        self.assertEqual(self.api.get("/A/A"), 204)
        self.api.publish("/" + "x" * 255, "long")
        self.assertEqual(self.api.get("/" + "%78" * 255 + "/" + "x" * 255), "long")
        self.api.publish("/a%2fb", "slash")
        self.assertEqual(self.api.get("/a%2Fb/a%2fb"), "slash")
        self.api.publish("/a%20b%2bc", "plus")
        self.assertEqual(self.api.get("/a%20b+c/a%20b%2Bc"), "plus")

    def test_names_that_cannot_be(self):
        for name in ("x" * 256, "%00", "%0a", "%1F", "%7f", "%C2%80", "%C2%9F", "%C3", "%FF", "%C0%AF", "%ED%A0%80",
                     "%F4%90%80%80", "%", "%4", "%zz"):
            with self.subTest(name):
                self.assert_problem(self.api.request("POST", f"/{name}", body=b"m"), 400)
                self.assert_problem(self.api.request("POST", f"/T/{name}"), 400)
                self.assert_problem(self.api.request("GET", f"/{name}/a"), 400)
        self.assert_problem(self.api.request("POST", "/T/"), 400)
        self.assert_problem(self.api.request("POST", "//a"), 400)

    def test_bodies_that_are_ignored(self):
        self.assertEqual(self.api.status("POST", "/T/a", body=b"x" * 100000), 200)
        self.assertEqual(self.api.status("POST", "/T/b", body=[b"x" * 100, b"y"]), 200)
        client = self.client(self.api.address)
        self.assertEqual(client.request("GET", self.api.prefix + "/T/a?wait=100ms", body=b"z" * 10).status, 204)
        self.assertEqual(client.request("GET", self.api.prefix + "/T/a").status, 204)

    def test_kept_connection(self):
        client, p = self.client(self.api.address), self.api.prefix
        client.send(request_bytes("POST", p + "/T/a") + request_bytes("POST", p + "/T", body=b"m1")
                    + request_bytes("GET", p + "/T/a") + request_bytes("GET", p + "/T/a")
                    + request_bytes("DELETE", p + "/T/a") + request_bytes("GET", p + "/T/a"))
        got = [client.response() for _ in range(6)]
        self.assertEqual([r.status for r in got], [200, 200, 200, 204, 200, 404])
        self.assertEqual(got[2].body, b"m1")

    def test_100_continue(self):
        self.api.subscribe("/T/a")
        client = self.api.open("/T", [("Expect", "100-continue"), ("Content-Length", "5")], "POST")
        self.assertEqual(client.response(interim=True).status, 100)
        client.send(b"later")
        self.assertEqual(client.response().status, 200)
        self.assertEqual(self.api.get("/T/a"), "later")

    def test_a_message_that_is_cut_off(self):
        self.api.subscribe("/T/a")
        for sent in (b"half", b"x" * 200000):
            client = self.api.open("/T", [("Content-Length", "300000")], "POST")
            client.send(sent)
            client.close()
        self.api.publish("/T", "whole")
        self.assertEqual([self.api.get("/T/a"), self.api.get("/T/a")], ["whole", 204])


class AtRoot(TopicsCase, Cases):
    def setUp(self):
        super().setUp()
        self.h = self.start_hub()
        self.api = Api(self, self.h)


class BelowPrefix(TopicsCase, Cases):
    def setUp(self):
        super().setUp()
        self.h = self.hub()
        self.api = Api(self, self.h, "/-/topics")

    def test_what_is_beside(self):
        self.assert_problem(self.get(self.h, "/-/topicsx/T"), 404)
        self.assert_problem(self.get(self.h, "/-/topics"), 404)
        self.assert_problem(self.get(self.h, "/-/"), 404)


class BothPlaces(TopicsCase):
    def test_are_one(self):
        h = self.start_hub("--data", self.directory + "/data")
        root, below = Api(self, h), Api(self, h, "/-/topics")
        root.subscribe("/T/a")
        below.publish("/T", "m")
        self.assertEqual(root.get("/T/a"), "m")
        self.assertEqual(root.status("GET", "/-/topics/T/a"), 404)

    def test_tokens(self):
        h = self.start_hub("--client-token", "bob=secret")
        for api in (Api(self, h), Api(self, h, "/-/topics")):
            self.assert_problem(api.request("POST", "/T/a"), 401)
            self.assertEqual(api.status("POST", "/T/a", [("Authorization", "Bearer secret")]), 200)


class Waiting(TopicsCase):
    def setUp(self):
        super().setUp()
        self.h = self.start_hub()
        self.api = Api(self, self.h)
        self.api.subscribe("/T/a")

    def test_fields(self):
        self.api.publish("/T", "m1")
        self.api.publish("/T", "m2")
        r1, r2 = (self.api.request("GET", "/T/a") for _ in range(2))
        self.assertGreater(int(r2.header("weir-message")), int(r1.header("weir-message")))
        self.assertRegex(r1.header("weir-published"), TIME)
        self.assertEqual(r1.header("cache-control"), "no-store")
        self.assertIsNone(r1.header("weir-delivery"))

    def test_a_message_that_comes(self):
        client = self.api.open("/T/a?wait=20s")
        self.wait_readers(self.h, "poll", 1)
        self.api.publish("/T", "m")
        r = client.response()
        self.assertEqual((r.status, r.body), (200, b"m"))
        self.assertEqual(self.api.get("/T/a"), 204)

    def test_a_large_message_that_comes(self):
        client, body = self.api.open("/T/a?wait=20s"), os.urandom(300000)
        self.wait_readers(self.h, "poll", 1)
        self.api.publish("/T", body)
        self.assertTrue(client.response().body == body)
        self.wait_messages(self.h, 0)

    def test_nothing_comes(self):
        r = self.api.request("GET", "/T/a?wait=200ms")
        self.assertEqual((r.status, r.body), (204, b""))
        self.wait_readers(self.h, "poll", 0)

    def test_a_message_is_there(self):
        self.api.publish("/T", "m")
        self.assertEqual(self.api.get("/T/a?wait=20s"), "m")

    def test_waits_that_cannot_be(self):
        for query in ("wait=x", "wait=", "wait=-1", "ack=maybe", "ack-time=0", "ack-time=31d&ack=explicit"):
            self.assert_problem(self.api.request("GET", "/T/a?" + query), 400)
        self.assertEqual(self.api.get("/T/a?wait=0&ack=auto&other=1"), 204)

    def test_each_gets_another(self):
        clients = [self.api.open("/T/a?wait=20s") for _ in range(10)]
        self.wait_readers(self.h, "poll", 10)
        for i in range(10):
            self.api.publish("/T", f"m{i}")
        self.assertEqual(sorted(c.response().text for c in clients), [f"m{i}" for i in range(10)])
        self.assertEqual(self.api.get("/T/a"), 204)

    def test_each_subscription_gets_it(self):
        for i in range(20):
            self.api.subscribe(f"/T/s{i}")
        clients = [self.api.open(f"/T/s{i}?wait=20s") for i in range(20)]
        self.wait_readers(self.h, "poll", 20)
        self.api.publish("/T", "m")
        self.assertEqual([c.response().text for c in clients], ["m"] * 20)

    def test_who_has_left_gets_nothing(self):
        for leave in (Client.close, Client.reset):
            for _ in range(5):
                client = self.api.open("/T/a?wait=20s")
                self.wait_readers(self.h, "poll", 1)
                leave(client)
                self.wait_readers(self.h, "poll", 0)
            self.api.publish("/T", "m")
            self.assertEqual(self.api.get("/T/a"), "m")

    @slow(60)
    def test_leaving_at_any_moment_loses_nothing(self):
        for i in range(100):
            client = self.api.open("/T/a?wait=20s")
            self.wait_readers(self.h, "poll", 1)
            publisher = self.api.open("/T", [("Content-Length", "4")], "POST")
            publisher.send(b"%04d" % i)
            client.close()  # while it is published, or handed over
            self.assertEqual(publisher.response().status, 200)
            # Either it went out to the client before the hub knew, or it is there still.
            left = self.api.get("/T/a?wait=100ms")
            if left != 204:
                self.assertEqual(left, "%04d" % i)
        self.wait_readers(self.h, "poll", 0)
        self.wait_messages(self.h, 0)
        m = self.h.metrics()
        self.assertEqual(m.value("weir_topic_undelivered_total"), 0)
        self.assertGreaterEqual(m.value("weir_topic_delivered_total"), 100)

    def test_unsubscribed_while_waiting(self):
        client, stream = self.api.open("/T/a?wait=20s"), self.api.events("/T/a")
        self.wait_readers(self.h, "poll", 1)
        self.assertEqual(self.api.status("DELETE", "/T/a"), 200)
        self.assert_problem(client.response(), 404)
        self.assertIsNone(stream.next())

    def test_drain_answers_at_once(self):
        clients = [self.api.open("/T/a?wait=20s") for _ in range(3)]
        explicit = self.api.open("/T/a?wait=20s&ack=explicit")
        stream = self.api.events("/T/a")
        self.wait_readers(self.h, "poll", 4)
        self.h.signal(signal.SIGTERM)
        for client in (*clients, explicit):
            r = client.response()
            self.assertEqual((r.status, r.closes), (204, True))
        self.assertIsNone(stream.next())
        self.h.terminate(limit=scaled(5))


class Explicit(TopicsCase):
    def setUp(self):
        super().setUp()
        self.h = self.start_hub()
        self.api = Api(self, self.h)
        self.api.subscribe("/T/a")

    def take(self, query=""):
        r = self.api.request("GET", "/T/a?ack=explicit" + query)
        return (r.text, int(r.header("weir-message")), int(r.header("weir-delivery"))) if r.status == 200 else r.status

    def test_acknowledged(self):
        self.api.publish("/T", "m1")
        self.api.publish("/T", "m2")
        m1, id1, n1 = self.take()
        m2, id2, n2 = self.take()
        self.assertEqual((m1, n1, m2, n2), ("m1", 1, "m2", 1))
        self.assertEqual(self.take(), 204)
        self.assertEqual([self.api.status("DELETE", f"/T/a/{id2}") for _ in range(2)], [200, 404])
        self.wait_messages(self.h, 1)
        self.assertEqual(self.api.status("DELETE", f"/T/a/{id1}"), 200)
        self.wait_messages(self.h, 0)
        self.assert_problem(self.api.request("DELETE", f"/T/b/{id1}"), 404)

    def test_given_again(self):
        for m in ("m1", "m2"):
            self.api.publish("/T", m)
        _, id1, _ = self.take("&ack-time=300ms")
        self.api.publish("/T", "m3")
        self.assertEqual(self.take()[0], "m2")
        self.assertEqual(self.take()[0], "m3")
        self.assertEqual(self.take("&wait=5s"), ("m1", id1, 2))
        self.assertEqual(self.api.status("DELETE", f"/T/a/{id1}"), 200)
        self.assertEqual(self.h.metrics().value("weir_topic_redelivered_total"), 1)

    def test_given_again_before_newer_ones_and_in_order(self):
        for i in range(4):
            self.api.publish("/T", f"m{i}")
        for _ in range(3):
            self.take("&ack-time=100ms")
        wait_until(lambda: self.h.metrics().value("weir_topic_messages_out", state="again") == 3, 5,
                   "their leases have passed")
        got = [self.take() for _ in range(4)]
        self.assertEqual([(m, n) for m, _, n in got], [("m0", 2), ("m1", 2), ("m2", 2), ("m3", 1)])

    def test_acknowledged_late(self):
        self.api.publish("/T", "m")
        _, number, _ = self.take("&ack-time=50ms")
        self.assertEqual(self.take("&wait=5s&ack-time=50ms")[2], 2)
        self.assertEqual(self.api.status("DELETE", f"/T/a/{number}"), 200)
        self.assertEqual(self.take("&wait=300ms"), 204)

    def test_up_to(self):
        for i in range(5):
            self.api.publish("/T", f"m{i}")
        ids = [self.take()[1] for _ in range(4)]
        self.assertEqual(self.api.status("DELETE", f"/T/a/{ids[1]}"), 200)
        self.assertEqual(self.api.status("DELETE", f"/T/a/{ids[2]}?up-to=true"), 200)
        self.wait_messages(self.h, 2)
        self.assertEqual([self.api.status("DELETE", f"/T/a/{i}") for i in ids], [404, 404, 404, 200])
        self.assertEqual(self.take()[0], "m4")
        self.assert_problem(self.api.request("DELETE", f"/T/a/{ids[2]}?up-to=perhaps"), 400)

    def test_a_large_one(self):
        body = os.urandom(200000)
        self.api.publish("/T", body)
        for delivery in (1, 2):
            r = self.api.request("GET", "/T/a?ack=explicit&wait=5s&ack-time=" + ("100ms" if delivery == 1 else "1h"))
            self.assertEqual((r.status, r.header("weir-delivery")), (200, str(delivery)))
            self.assertTrue(r.body == body)
        self.assertEqual(self.api.status("DELETE", "/T/a/" + r.header("weir-message")), 200)
        self.wait_messages(self.h, 0)

    def test_beside_others(self):
        for m in ("m1", "m2", "m3"):
            self.api.publish("/T", m)
        self.assertEqual(self.take("&ack-time=200ms")[0], "m1")
        self.assertEqual(self.api.get("/T/a"), "m2")
        self.assertEqual(self.api.get("/T/a?wait=5s"), "m3")
        self.assertEqual(self.api.get("/T/a?wait=5s"), "m1")
        self.wait_messages(self.h, 0)

    def test_the_hubs_own_time(self):
        h = self.start_hub("--topic-ack-time", "200ms")
        api = Api(self, h)
        api.subscribe("/T/a")
        api.publish("/T", "m")
        self.assertEqual(api.get("/T/a?ack=explicit"), "m")
        self.assertEqual(api.get("/T/a?ack=explicit&wait=5s"), "m")


class Streams(TopicsCase):
    def setUp(self):
        super().setUp()
        self.h = self.start_hub()
        self.api = Api(self, self.h)
        self.api.subscribe("/T/a")

    def test_events(self):
        self.api.publish("/T", "before")
        stream = self.api.events("/T/a")
        self.assertEqual((stream.head.status, stream.head.header("content-type"), stream.head.header("cache-control")),
                         (200, "text/event-stream", "no-store"))
        self.assertEqual(stream.next()[1], b"before")
        last = 0
        for i in range(20):
            self.api.publish("/T", f"m{i}")
            number, data = stream.next()
            self.assertEqual(data, b"m%d" % i)
            self.assertGreater(number, last)
            last = number
        self.wait_messages(self.h, 0)

    def test_all_kinds_of_bodies(self):
        stream = self.api.events("/T/a")
        bodies = [b"", b"one", b"two\nlines", b"\n", b"ends\n", b"\n\nthree", b"cr\r\nlf", b"\r", b"\0\x01\x02", b"\xff\xfe",
                  "äöü€😀".encode(), b": comment", b"data: x", b" leading", os.urandom(1000), b"x" * 65536,
                  os.urandom(65537), os.urandom(400001), b"y" * 1000000, b"last"]
        for body in bodies:
            self.api.publish("/T", body)
        for body in bodies:
            self.assertTrue(stream.next()[1] == body, body[:30])
        self.wait_messages(self.h, 0)

    def test_no_subscription(self):
        client = self.api.open("/T/none", [("Accept", "text/event-stream")])
        self.assert_problem(client.response(), 404)

    def test_accept(self):
        for accept in ("text/event-stream", "TEXT/Event-Stream;q=0.9", "text/html, text/event-stream"):
            stream = self.api.events("/T/a", [])
            self.assertEqual(stream.head.header("content-type"), "text/event-stream", accept)
            stream.close()
        self.assertEqual(self.api.get("/T/a", [("Accept", "*/*")]), 204)

    def test_last_event_id(self):
        stream = self.api.events("/T/a?ack=explicit&ack-time=1h")
        for i in range(6):
            self.api.publish("/T", f"m{i}")
        ids = [stream.next()[0] for _ in range(6)]
        stream.close()
        self.wait_readers(self.h, "stream", 0)
        stream = self.api.events("/T/a?ack=explicit&ack-time=200ms", [("Last-Event-ID", str(ids[2]))])
        self.wait_messages(self.h, 3)
        self.api.publish("/T", "m6")
        self.assertEqual(stream.next()[1], b"m6")
        stream.close()
        self.wait_readers(self.h, "stream", 0)
        stream = self.api.events(f"/T/a?last-event-id={ids[3]}")
        self.assertEqual(stream.next()[1], b"m6")  # the lease of the others has not passed
        self.wait_messages(self.h, 2)
        self.assertEqual([self.api.status("DELETE", f"/T/a/{i}") for i in ids], [404, 404, 404, 404, 200, 200])
        for bad in ("x", "-1", "1.5"):
            self.assert_problem(self.api.request("GET", "/T/a", [("Accept", "text/event-stream"), ("Last-Event-ID", bad)]),
                                400)

    def test_reconnecting(self):
        """Whoever has worked on all that it got goes on where it was: nothing is lost, nothing comes twice."""
        got, last, count = [], None, 0
        for _ in range(8):
            for _ in range(17):  # while nobody is there
                self.api.publish("/T", f"m{count}")
                count += 1
            stream = self.api.events("/T/a", [("Last-Event-ID", str(last))] if last else [])
            for _ in range(20):
                self.api.publish("/T", f"m{count}")
                count += 1
            while len(got) < count:
                last, data = stream.next()
                got.append(data.decode())
            stream.close()
            self.wait_readers(self.h, "stream", 0)
        self.assertEqual(got, [f"m{i}" for i in range(count)])
        self.api.events("/T/a", [("Last-Event-ID", str(last))])
        self.wait_messages(self.h, 0)

    @slow(60)
    def test_breaking_off_anywhere_loses_nothing(self):
        """With ack=explicit: what was received and not worked on comes again, too."""
        got, last, count = {}, None, 300

        def publish():
            for i in range(count):
                self.api.publish("/T", f"m{i}")
        publisher = threading.Thread(target=publish)
        publisher.start()
        while len(got) < count:
            stream = self.api.events("/T/a?ack=explicit&ack-time=200ms")
            for _ in range(min(37, count - len(got))):
                number, data = stream.next()
                got[number] = data.decode()
                self.assertIn(self.api.status("DELETE", f"/T/a/{number}"), (200, 404))
            stream.close()
        publisher.join()
        self.assertEqual([got[n] for n in sorted(got)], [f"m{i}" for i in range(count)])
        self.wait_messages(self.h, 0)

    def test_what_was_not_read_comes_again(self):
        client = self.client(self.api.address, receive_buffer=4096)
        client.send(request_bytes("GET", "/T/a", [("Accept", "text/event-stream")]))
        for i in range(100):
            self.api.publish("/T", b"%03d" % i + b"x" * 60000)
        client.head()  # and no more
        wait_until(lambda: self.h.metrics().value("weir_topic_messages_out") > 0, 10)
        client.reset()
        self.wait_readers(self.h, "stream", 0)
        stream = self.api.events("/T/a")
        first = int(stream.next()[1][:3])
        self.assertLess(first, 90)
        for i in range(first + 1, 100):
            self.assertEqual(stream.next()[1][:3], b"%03d" % i)
        self.wait_messages(self.h, 0)

    def test_a_slow_reader_does_not_fill_memory(self):
        h = self.start_hub("--data", self.directory + "/data")
        api = Api(self, h)
        api.subscribe("/T/a")
        client = self.client(api.address, receive_buffer=4096)
        client.send(request_bytes("GET", "/T/a", [("Accept", "text/event-stream")]))
        client.head()
        before = h.rss()
        for size in [200000] * 200 + [60000] * 200:
            api.publish("/T", b"x" * size)
        self.assertLess(h.metrics().value("weir_topic_messages_out"), 100)
        if not sanitized:
            self.assertLess(h.rss() - before, 20 << 20)

    def test_explicit(self):
        stream = self.api.events("/T/a?ack=explicit&ack-time=400ms")
        self.api.publish("/T", "m1")
        self.api.publish("/T", "m2")
        (id1, m1), (id2, m2) = stream.next(), stream.next()
        self.assertEqual(self.api.status("DELETE", f"/T/a/{id1}"), 200)
        self.assertEqual(stream.next(), (id2, b"m2"))
        self.assertEqual(self.api.status("DELETE", f"/T/a/{id2}"), 200)
        self.wait_messages(self.h, 0)

    def test_several_share(self):
        streams = [self.api.events("/T/a") for _ in range(3)]
        poll = self.api.open("/T/a?wait=20s")
        self.wait_readers(self.h, "poll", 1)
        for i in range(31):
            self.api.publish("/T", f"m{i}")
        got = [poll.response().text]
        lock = threading.Lock()

        def read(stream):
            while (event := stream.next()) is not None:
                with lock:
                    got.append(event[1].decode())
        threads = [threading.Thread(target=read, args=(s,)) for s in streams]
        for t in threads:
            t.start()
        wait_until(lambda: len(got) == 31, 10, "all have come")
        self.assertEqual(sorted(got), sorted(f"m{i}" for i in range(31)))
        self.wait_messages(self.h, 0)
        self.assertEqual(self.api.status("DELETE", "/T/a"), 200)
        for t in threads:
            t.join()

    def test_heartbeat_keeps_it_open(self):
        h = self.start_hub("--body-timeout", "600ms")
        api = Api(self, h)
        api.subscribe("/T/a")
        stream = api.events("/T/a")
        beats = b""
        while beats.count(b":\n\n") < 8:
            beats += next(stream.pieces)
        api.publish("/T", "m")
        self.assertEqual(stream.next()[1], b"m")

    def test_http_1_0(self):
        client = self.client(self.api.address)
        client.send(request_bytes("GET", "/T/a", [("Accept", "text/event-stream")], version="1.0"))
        self.assertEqual(client.head().framing, "close")
        self.api.publish("/T", "m")
        while b"data: m\n\n" not in client.data:
            self.assertTrue(client.more())


class Limits(TopicsCase):
    def test_subscriptions(self):
        api = Api(self, self.start_hub("--max-subscriptions", "3"))
        for name in ("/T/a", "/T/b", "/U/a"):
            api.subscribe(name)
        self.assert_problem(api.request("POST", "/T/c"), 507)
        api.subscribe("/T/a")
        self.assertEqual(api.status("DELETE", "/T/b"), 200)
        api.subscribe("/V/c")
        self.assert_problem(api.request("POST", "/T/b"), 507)

    def test_message(self):
        h = self.start_hub("--max-message", "100K")
        api = Api(self, h)
        api.subscribe("/T/a")
        api.publish("/T", b"x" * 102400)
        for body in (b"x" * 102401, [b"x" * 60000] * 2):
            self.assert_problem(api.request("POST", "/T", body=body), 413)
        client = api.open("/T", [("Expect", "100-continue"), ("Content-Length", "102401")], "POST")
        self.assertEqual(client.response(interim=True).status, 413)
        self.assertEqual([len(api.get("/T/a")), api.get("/T/a")], [102400, 204])
        self.wait_messages(h, 0)

    def test_full(self):
        h = self.start_hub("--data", self.directory + "/data", "--max-data", "2M")
        api = Api(self, h)
        api.subscribe("/T/a")
        taken = 0
        while True:
            r = api.request("POST", "/T", body=os.urandom(100000))
            if r.status != 200:
                break
            taken += 1
            self.assertLess(taken, 40)
        self.assert_problem(r, 507)
        for _ in range(taken):
            self.assertEqual(len(api.request("GET", "/T/a").body), 100000)
        self.assertEqual(api.get("/T/a"), 204)
        wait_until(lambda: api.status("POST", "/T", body=b"room") == 200, 10, "there is room again")


class Restart(TopicsCase):
    def again(self, h, kill):
        if kill:
            h.ended = True
            h.kill()
        else:
            h.terminate()
        return Api(self, self.start_hub("--data", self.directory + "/data"))

    def test_43_what_there_is_survives(self):
        for kill in (False, True, True):
            with self.subTest(kill=kill):
                h = self.start_hub("--data", self.directory + "/data")
                api = Api(self, h)
                large = os.urandom(100000)
                api.subscribe("/T/a")
                api.subscribe("/T/b%2F")
                for m in ("m1", "m2"):
                    api.publish("/T", m, [("Content-Type", "x/" + m)])
                api.publish("/T", large)
                self.assertEqual(api.get("/T/a"), "m1")
                api = self.again(h, kill)
                r = api.request("GET", "/T/a")
                self.assertEqual((r.text, r.header("content-type")), ("m2", "x/m2"))
                self.assertTrue(api.request("GET", "/T/a").body == large)
                self.assertEqual(api.get("/T/a"), 204)
                self.assertEqual([api.get("/T/b%2f"), api.get("/T/b%2f")], ["m1", "m2"])
                api = self.again(api.hub, kill)
                self.assertTrue(api.request("GET", "/T/b%2f").body == large)
                self.assertEqual([api.get("/T/a"), api.get("/T/b%2F"), api.get("/T/c")], [204, 204, 404])
                self.wait_messages(api.hub, 0)
                for name in ("/T/a", "/T/b%2F"):
                    self.assertEqual(api.status("DELETE", name), 200)
                api = self.again(api.hub, kill)
                self.assertEqual(api.get("/T/a"), 404)
                api.hub.terminate()

    def test_43_without_data_nothing_does(self):
        h = self.start_hub()
        api = Api(self, h)
        api.subscribe("/T/a")
        api.publish("/T")
        h.terminate()
        self.assertEqual(Api(self, self.start_hub()).get("/T/a"), 404)

    def test_unacknowledged_ones_come_again(self):
        h = self.start_hub("--data", self.directory + "/data")
        api = Api(self, h)
        api.subscribe("/T/a")
        ids = []
        for i in range(4):
            api.publish("/T", f"m{i}")
            ids.append(api.request("GET", "/T/a?ack=explicit").header("weir-message"))
        self.assertEqual(api.status("DELETE", f"/T/a/{ids[1]}"), 200)
        api = self.again(h, True)
        self.assertEqual([api.get("/T/a?ack=explicit") for _ in range(4)], ["m0", "m2", "m3", 204])
        self.assertEqual([api.status("DELETE", f"/T/a/{i}") for i in ids], [200, 404, 200, 200])

    @slow(60)
    def test_kill_while_publishing_loses_nothing_confirmed(self):
        for _ in range(3):
            h = self.start_hub("--data", self.directory + "/data")
            api = Api(self, h)
            api.subscribe("/T/a")
            confirmed, stop = [], threading.Event()

            def publish(n):
                i = 0
                while not stop.is_set():
                    try:
                        if api.status("POST", "/T", body=b"%d.%d" % (n, i)) == 200:
                            confirmed.append(f"{n}.{i}")
                    except (OSError, AssertionError):
                        return
                    i += 1
            threads = [threading.Thread(target=publish, args=(n,)) for n in range(4)]
            for t in threads:
                t.start()
            wait_until(lambda: len(confirmed) > 100, 20)
            h.ended = True
            h.kill()
            stop.set()
            for t in threads:
                t.join()
            api = Api(self, self.start_hub("--data", self.directory + "/data"))
            got = []
            while (m := api.get("/T/a")) != 204:
                got.append(m)
            self.assertEqual(len(got), len(set(got)))
            self.assertEqual(set(confirmed) - set(got), set())
            for n in range(4):
                mine = [m for m in got if m.startswith(f"{n}.")]
                self.assertEqual(mine, [f"{n}.{i}" for i in range(len(mine))])
            self.assertEqual(api.status("DELETE", "/T/a"), 200)
            api.hub.terminate()


class Commands(TopicsCase):
    """weir pub, weir sub."""

    def setUp(self):
        super().setUp()
        self.h = self.start_hub()
        self.api = Api(self, self.h)

    def argv(self, *argv):
        return [weir_binary(), *argv[:1], "--hub", self.h.url, *argv[1:]]

    def weir(self, *argv, expect=0, input=b"", **kwargs):
        env = {k: v for k, v in os.environ.items() if not k.startswith("WEIR_")}
        p = subprocess.run(self.argv(*argv), input=input, capture_output=True, timeout=scaled(20), env=env, **kwargs)
        self.assertEqual(p.returncode, expect, (argv, p.stdout[:500], p.stderr[:500]))
        return p.stdout

    def test_there_and_back(self):
        self.weir("sub", "T", "a", "--wait", "0")
        self.weir("pub", "T", "one")
        self.weir("pub", "T", input=b"two\nlines")
        self.weir("pub", "T", "")
        self.assertEqual(self.weir("sub", "T", "a", "--wait", "0"), b"one\ntwo\nlines\n\n")
        self.assertEqual(self.weir("sub", "T", "a", "--wait", "0"), b"")
        self.wait_messages(self.h, 0)

    def test_names_are_encoded(self):
        self.weir("sub", "a/b c+d?", "ä%2F", "--wait", "0")
        self.weir("pub", "a/b c+d?", "m")
        self.assertEqual(self.api.get("/a%2Fb%20c%2Bd%3f/%C3%A4%252F"), "m")

    def test_large_ones(self):
        self.weir("sub", "T", "a", "--wait", "0")
        body = os.urandom(3000000)
        self.weir("pub", "T", input=body)
        self.assertTrue(self.weir("sub", "T", "a", "--once", "--ack", "explicit") == body + b"\n")
        self.wait_messages(self.h, 0)

    def test_json(self):
        self.weir("sub", "T", "a", "--wait", "0")
        self.weir("pub", "T", "--type", "text/x", 'a "quoted" ä\n')
        self.weir("pub", "T", input=b"\xff\0\xfe\x01")
        lines = [json.loads(l) for l in self.weir("sub", "T", "a", "--json", "--count", "2", "--ack", "explicit").splitlines()]
        self.assertEqual((lines[0]["body"], lines[0]["type"], lines[0]["delivery"]), ('a "quoted" ä\n', "text/x", 1))
        self.assertEqual(base64.b64decode(lines[1]["base64"]), b"\xff\0\xfe\x01")
        self.assertGreater(lines[1]["id"], lines[0]["id"])
        self.assertRegex(lines[0]["published"], TIME)

    def test_as_they_come(self):
        p = self.start("sub", self.argv("sub", "T", "a", "--count", "3", "--delete"))
        self.wait_readers(self.h, "poll", 1)
        for i in range(3):
            self.weir("pub", "T", f"m{i}")
        self.assertEqual(p.wait(scaled(10)), 0)
        self.assertEqual(p.stdout(), "m0\nm1\nm2\n")
        self.assertEqual(self.api.get("/T/a"), 404)

    def test_signals_end_it(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            p = self.start("sub", self.argv("sub", "T", "a", "--delete"))
            self.wait_readers(self.h, "poll", 1)
            p.signal(number)
            self.assertEqual(p.wait(scaled(10)), 0)
            self.assertEqual(self.api.get("/T/a"), 404)
        p = self.start("sub", self.argv("sub", "T", "a", "--count", "2"))
        self.wait_readers(self.h, "poll", 1)
        p.signal(signal.SIGTERM)
        self.assertEqual(p.wait(scaled(10)), 4)

    def test_exit_statuses(self):
        self.assertEqual(self.weir("sub", "T", "a", "--count", "2", "--wait", "200ms", "--delete", expect=4), b"")
        self.weir("pub", expect=2)
        self.weir("pub", "T", "a", "b", expect=2)
        self.weir("sub", "T", expect=2)
        self.weir("sub", "T", "a", "--ack", "maybe", expect=2)
        self.weir("sub", "T", "a", "--wait", "soon", expect=2)
        self.weir("sub", "T", "a", "--count", "0", expect=2)
        self.weir("pub", "T", "m", "--type", "a\nb", expect=2)
        self.weir("pub", "T", "m", "--hub", "ftp://x/y", expect=2)
        self.weir("pub", "", "m", expect=1)
        self.weir("pub", "x" * 256, "m", expect=1)
        self.weir("pub", "T", input=b"x" * (17 << 20), expect=1)
        self.weir("sub", "T", "a", "--hub", "http://127.0.0.1:1", expect=3)
        self.weir("pub", "T", "m", "--hub", "unix:/nonexistent", expect=3)

    def test_the_hub_goes(self):
        p = self.start("sub", self.argv("sub", "T", "a"))
        self.wait_readers(self.h, "poll", 1)
        self.h.terminate()
        self.assertEqual(p.wait(scaled(10)), 3)

    def test_unsubscribed_by_somebody_else(self):
        p = self.start("sub", self.argv("sub", "T", "a"))
        self.wait_readers(self.h, "poll", 1)
        self.assertEqual(self.api.status("DELETE", "/T/a"), 200)
        self.assertEqual(p.wait(scaled(10)), 1)
        self.assertIn("404", p.stderr())

    def test_what_cannot_be_written_comes_again(self):
        self.weir("sub", "T", "a", "--wait", "0")
        self.weir("pub", "T", "m")
        with open("/dev/full", "wb") as full:
            p = subprocess.run(self.argv("sub", "T", "a", "--once", "--ack", "explicit"), stdout=full, stderr=subprocess.PIPE,
                               timeout=scaled(20))
        self.assertEqual(p.returncode, 1)
        self.wait_messages(self.h, 1)

    def test_where_the_hub_is(self):
        host, port = self.api.address
        self.weir("sub", "T", "a", "--wait", "0", "--hub", f"http://{host}:{port}/")
        self.weir("pub", "T", "m", "--hub", "%s:%d" % self.h.listen)
        self.assertEqual(self.weir("sub", "T", "a", "--once", "--hub", self.h.url + "/-/topics/"), b"m\n")
        h = self.hub(listen=f"unix:{self.directory}/listen")
        self.weir("pub", "T", "m", "--hub", h.listen_text)
        self.weir("pub", "T", "m", "--hub", h.listen_text + ":/-/topics")
        config = os.path.join(self.directory, "weir.ini")
        with open(config, "w") as f:
            f.write("listen = %s:%d\n" % self.h.listen)
        p = subprocess.run([weir_binary(), "sub", "T", "b", "--wait", "0", "--config", config], timeout=scaled(20))
        self.assertEqual((p.returncode, self.api.get("/T/b")), (0, 204))

    def test_token(self):
        h = self.start_hub("--client-token", "bob=secret")
        path = os.path.join(self.directory, "token")
        with open(path, "w") as f:
            f.write("secret\n")
        self.weir("pub", "T", "m", "--hub", h.url, expect=1)
        self.weir("pub", "T", "m", "--hub", h.url, "--token", "secret")
        self.weir("sub", "T", "a", "--wait", "0", "--hub", h.url, "--token-file", path)


if __name__ == "__main__":
    main()
