#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The front door on good input: methods, connections, routing, the fields that the hub adds and drops."""

import re
import subprocess

from weirtest import Case, Client, main, request_bytes, wait_until


class Requests(Case):
    def setUp(self):
        super().setUp()
        self.h = self.hub()
        self.worker(self.h, slots=4)

    def test_get(self):
        r = self.get(self.h, "/hello")
        self.assertEqual((r.status, r.minor, r.text), (200, 1, "hello"))
        self.assertEqual(r.header("content-type"), "text/plain")
        self.assertEqual(len(r.all("date")), 1)

    def test_post(self):
        r = self.get(self.h, "/echo?a=b%20c&d", [("Content-Type", "text/x-test")], "POST", b"some body")
        self.assertEqual((r.status, r.body), (200, b"some body"))
        self.assertEqual(r.header("content-type"), "text/x-test")
        self.assertEqual(r.header("x-echoed-method"), "POST")
        self.assertEqual(r.header("x-echoed-target"), "/echo?a=b%20c&d")

    def test_other_methods(self):
        for method in ("PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "PROPFIND"):
            with self.subTest(method):
                r = self.get(self.h, "/echo", method=method, body=b"x" if method == "PUT" else None)
                self.assertEqual(r.status, 200)
                self.assertEqual(r.header("x-echoed-method"), method)

    def test_head_has_the_fields_of_get_and_no_body(self):
        client = self.client(self.h)
        get = client.request("GET", "/hello")
        for _ in range(3):
            head = client.request("HEAD", "/hello")
            self.assertEqual((head.status, head.body), (200, b""))
            self.assertEqual(head.header("content-type"), get.header("content-type"))
            if head.header("content-length"):
                self.assertEqual(head.header("content-length"), "5")
        self.assertEqual(client.request("GET", "/hello").text, "hello")

    def test_target_reaches_the_worker_as_sent(self):
        for target in ("/echo/a/../b//c", "/echo?x=%2F%00", "/echo/%E4?q=%41;b=1&c", "/echo?", "/echo/;p"):
            with self.subTest(target):
                r = self.get(self.h, target)
                self.assertEqual(r.header("x-echoed-target"), target)

    def test_absolute_form(self):
        r = self.get(self.h, "http://elsewhere.example:99/echo?q=1")
        self.assertEqual(r.status, 200)
        self.assertEqual(r.header("x-echoed-target"), "/echo?q=1")
        self.assertEqual(r.header("x-echo-host"), "elsewhere.example:99")  # RFC 9112 3.2.2

    def test_byte_by_byte(self):
        client = self.client(self.h)
        client.send_slowly(request_bytes("POST", "/echo", [("X-A", "1")], b"abc"), 0.0005)
        self.assertEqual(client.response().text, "abc")
        client.send_slowly(request_bytes("POST", "/echo", [], [b"abc", b"defg"]), 0.0005)
        self.assertEqual(client.response().text, "abcdefg")

    def test_empty_lines_before_a_request_are_skipped(self):
        client = self.client(self.h)
        client.send(b"\r\n" + request_bytes("GET", "/hello") + b"\r\n\r\n" + request_bytes("GET", "/hello"))
        self.assertEqual([client.response().text, client.response().text], ["hello", "hello"])

    def test_repeated_fields_stay_in_order(self):
        given = [("X-A", "1"), ("X-B", "2"), ("x-a", "3"), ("Accept", "a, b"), ("X-E", "")]
        r = self.get(self.h, "/echo", given)
        self.assertEqual(",".join(v.replace(" ", "") for v in r.all("x-echo-x-a")), "1,3")
        self.assertEqual(r.header("x-echo-accept"), "a, b")
        self.assertEqual(r.all("x-echo-x-e"), [""])

    def test_handler_that_fails_is_500(self):
        client = self.client(self.h)
        r = client.request("GET", "/fail")
        self.assertEqual(r.status, 500)
        self.assertTrue(r.body)
        self.assertEqual(client.request("GET", "/hello").status, 200)

    def test_unknown_service(self):
        client = self.client(self.h)
        r = client.request("GET", "/nosuch/thing", [("X-Request-Id", "abc-1")])
        self.assert_problem(r, 404, service="nosuch", request_id="abc-1")
        self.assertEqual(client.request("GET", "/hello").status, 200)  # the connection stays
        for target in ("/", "/?x", "//hello"):
            self.assert_problem(client.request("GET", target), 404)
        self.assert_problem(client.request("POST", "/nosuch", body=b"x" * 1000), 404)

    def test_error_to_head_has_no_body(self):
        client = self.client(self.h)
        r = client.request("HEAD", "/nosuch")
        self.assertEqual((r.status, r.body), (404, b""))
        self.assertEqual(client.request("GET", "/hello").text, "hello")

    def test_options_asterisk(self):
        client = self.client(self.h)
        r = client.request("OPTIONS", "*")
        self.assertIn(r.status, (200, 204))
        self.assertEqual(client.request("GET", "/hello").status, 200)


class Connections(Case):
    def setUp(self):
        super().setUp()
        self.h = self.hub()
        self.worker(self.h, slots=8)

    def test_keep_alive(self):
        client = self.client(self.h)
        for i in range(300):
            r = client.request("POST", "/echo", [], b"%d" % i)
            self.assertEqual((r.status, r.text, r.closes), (200, str(i), False))

    def test_close_is_honoured(self):
        for value in ("close", "Close", "x-foo, close"):
            with self.subTest(value):
                client = self.client(self.h)
                r = client.request("GET", "/hello", [("Connection", value)])
                self.assertTrue(r.closes)
                client.assert_closed()

    def test_http10(self):
        client = self.client(self.h)
        client.send(b"GET /hello HTTP/1.0\r\n\r\n")  # no Host is fine
        r = client.response()
        self.assertEqual((r.status, r.text), (200, "hello"))
        client.assert_closed()

    def test_http10_stream_ends_by_close(self):
        client = self.client(self.h)
        client.send(b"GET /drip?n=5&size=3&ms=5 HTTP/1.0\r\n\r\n")
        self.assertEqual(client.response().text, "aaabbbcccdddeee")
        client.assert_closed()

    def test_http10_keep_alive(self):
        client = self.client(self.h)
        for _ in range(3):
            client.send(b"GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            r = client.response()
            self.assertEqual((r.status, r.text), (200, "hello"))
            self.assertEqual((r.header("connection") or "").lower(), "keep-alive")

    def test_http10_post(self):
        client = self.client(self.h)
        client.send(b"POST /echo HTTP/1.0\r\nContent-Length: 4\r\n\r\nbody")
        self.assertEqual(client.response().text, "body")
        client.assert_closed()

    def test_pipelining_answers_in_order(self):
        client = self.client(self.h)
        waits = [60, 1, 30, 1, 1, 20, 0, 5] * 4
        targets = [f"/echo/{i}" if w == 1 else f"/sleep?ms={w}&i={i}" for i, w in enumerate(waits)]
        client.send(b"".join(request_bytes("GET", t) for t in targets))
        for target in targets:
            r = client.response()
            self.assertEqual(r.status, 200)
            if target.startswith("/echo"):
                self.assertEqual(r.header("x-echoed-target"), target)
            else:
                self.assertTrue(r.text.startswith("slept"), r)

    def test_pipelined_posts_and_errors(self):
        client = self.client(self.h)
        client.send(b"".join([request_bytes("POST", "/echo", [], b"one"),
                              request_bytes("GET", "/nosuch"),
                              request_bytes("POST", "/echo", [], [b"tw", b"o"]),
                              request_bytes("HEAD", "/hello"),
                              request_bytes("GET", "/hello", [("Connection", "close")]),
                              request_bytes("GET", "/hello")]))
        self.assertEqual(client.response().text, "one")
        self.assert_problem(client.response(), 404)
        self.assertEqual(client.response().text, "two")
        self.assertEqual(client.response("HEAD").status, 200)
        self.assertEqual(client.response().text, "hello")
        client.assert_closed()  # nothing after the one that said close

    def test_many_pipelined_at_once(self):
        client = self.client(self.h)
        client.send(request_bytes("GET", "/hello") * 1000)
        for _ in range(1000):
            self.assertEqual(client.response().text, "hello")

    def test_many_connections(self):
        clients = [self.client(self.h) for _ in range(200)]
        for i, client in enumerate(clients):
            client.send(request_bytes("POST", "/echo", [], b"%d" % i))
        for i, client in enumerate(clients):
            self.assertEqual(client.response().text, str(i))

    def test_worker_on_a_unix_socket(self):
        h = self.hub(workers=[f"unix:{self.directory}/w.sock"])
        self.assertIn(f"unix:{self.directory}/w.sock", h.worker_addresses)
        self.worker(h, address=f"unix:{self.directory}/w.sock", offer=["hello"])
        self.assertEqual(self.get(h, "/hello").text, "hello")
        transports = [(w["address"], w["transport"]) for w in h.status()["workers_list"]]
        self.assertTrue(any("unix" in a or "unix" in t for a, t in transports), transports)


class Fields(Case):
    def setUp(self):
        super().setUp()
        self.h = self.hub()
        self.worker(self.h, slots=2, offer=["echo"])

    def echo(self, headers=(), **kwargs):
        client = self.client(self.h)
        r = client.request("GET", "/echo", headers, **kwargs)
        self.assertEqual(r.status, 200, r)
        return {n.lower()[7:]: v for n, v in r.headers if n.lower().startswith("x-echo-")}

    def test_hub_adds_its_fields(self):
        seen = self.echo()
        self.assertTrue(seen["weir-job"])
        self.assertEqual(seen["weir-service"], "echo")
        self.assertEqual((seen["weir-hop"], seen["weir-attempt"]), ("0", "1"))
        self.assertTrue(50000 < int(seen["weir-deadline-ms"]) <= 60000)
        self.assertNotEqual(seen["weir-job"], self.echo()["weir-job"])

    def test_request_id_is_kept_or_made(self):
        self.assertEqual(self.echo([("X-Request-Id", "given-42")])["x-request-id"], "given-42")
        made = {self.echo()["x-request-id"] for _ in range(5)}
        self.assertEqual(len(made), 5)
        self.assertTrue(all(len(i) >= 8 for i in made), made)

    def test_traceparent_gets_a_child_span(self):
        trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
        seen = self.echo([("traceparent", f"00-{trace}-{span}-01"), ("tracestate", "a=1,b=2")])
        match = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", seen["traceparent"])
        self.assertTrue(match, seen["traceparent"])
        self.assertEqual((match[1], match[3]), (trace, "01"))
        self.assertNotEqual(match[2], span)
        self.assertNotEqual(match[2], "0" * 16)
        self.assertEqual(seen["tracestate"], "a=1,b=2")

    def test_bad_traceparent_is_not_passed_on(self):
        for bad in ("00-xyz-1-01", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "nonsense"):
            with self.subTest(bad):
                seen = self.echo([("traceparent", bad)]).get("traceparent", "")
                self.assertNotEqual(seen, bad)
                self.assertNotIn("0" * 32, seen)

    def test_weir_fields_of_clients_are_dropped(self):
        seen = self.echo([("Weir-Job", "evil"), ("Weir-Service", "evil"), ("weir-hop", "77"),
                          ("Weir-Attempt", "77"), ("Weir-Forward", "evil"), ("WEIR-Unheard-Of", "evil"),
                          ("Weir-Slots", "9"), ("Weir-Original-Method", "EVIL"), ("Weir-Worker", "evil"),
                          ("Weir-Deadline-Ms", "1")])
        self.assertNotIn("evil", [v.lower() for n, v in seen.items() if n.startswith("weir-")])
        self.assertEqual((seen["weir-hop"], seen["weir-attempt"], seen["weir-service"]), ("0", "1", "echo"))
        self.assertGreater(int(seen["weir-deadline-ms"]), 1)
        self.assertNotIn("weir-unheard-of", seen)

    def test_hop_by_hop_fields_are_dropped(self):
        seen = self.echo([("Connection", "keep-alive, X-Secret, x-other"), ("X-Secret", "1"),
                          ("X-OTHER", "2"), ("Keep-Alive", "timeout=5"), ("Proxy-Connection", "keep-alive"),
                          ("TE", "trailers"),
                          ("Trailer", "X-T"), ("Upgrade", "websocket"), ("X-Kept", "3")])
        for name in ("connection", "x-secret", "x-other", "keep-alive", "proxy-connection", "te", "trailer",
                     "upgrade", "transfer-encoding"):
            self.assertNotIn(name, seen)
        self.assertEqual(seen["x-kept"], "3")

    def test_end_to_end_fields_pass(self):
        given = [("Authorization", "Basic eDp5"), ("Cookie", "a=b; c=d"), ("User-Agent", "test/1"),
                 ("Accept-Encoding", "gzip"), ("Range", "bytes=0-1"), ("If-None-Match", '"x"'),
                 ("Idempotency-Key", "k1"), ("X-Latin", "caf\xe9"), ("X-Long", "v" * 5000)]
        seen = self.echo(given)
        for name, value in given:
            self.assertEqual(seen[name.lower()], value)
        self.assertEqual(seen["host"], "test.example")

    def test_forwarded(self):
        seen = self.echo()
        self.assertEqual(seen["x-forwarded-for"], "127.0.0.1")
        self.assertEqual(seen["x-forwarded-proto"], "http")
        self.assertEqual(seen["x-forwarded-host"], "test.example")
        forwarded = dict(p.split("=", 1) for p in re.split(r"\s*;\s*", seen["forwarded"].lower()))
        self.assertEqual(forwarded["for"].strip('"').split(":")[0], "127.0.0.1")
        self.assertEqual(forwarded["proto"], "http")
        self.assertEqual(forwarded.get("host", "test.example").strip('"'), "test.example")

    def test_forwarded_ends_with_the_peer_that_the_hub_saw(self):
        seen = self.echo([("X-Forwarded-For", "203.0.113.9"), ("Forwarded", "for=203.0.113.9")])
        self.assertEqual(re.split(r"\s*,\s*", seen["x-forwarded-for"])[-1], "127.0.0.1")
        self.assertIn("127.0.0.1", re.split(r"\s*,\s*", seen["forwarded"])[-1])


class Routes(Case):
    def test_longest_prefix_wins(self):
        h = self.hub("--route", "/=a", "--route", "/x=b", "--route", "/x/y=c")
        self.worker(h, offer=["a=echo", "b=echo", "c=echo"])
        for target, service in (("/", "a"), ("/other", "a"), ("/x", "b"), ("/x?q", "b"), ("/x/z", "b"),
                                ("/x/y", "c"), ("/x/y/z?q", "c"), ("/a", "a"), ("/c", "a")):
            with self.subTest(target):
                r = self.get(h, target)
                self.assertEqual((r.status, r.header("x-echo-weir-service")), (200, service))
                self.assertEqual(r.header("x-echoed-target"), target)

    def test_with_routes_segments_name_nothing(self):
        h = self.hub("--route", "/api=hello")
        self.worker(h)
        self.assertEqual(self.get(h, "/api/v1").text, "hello")
        self.assert_problem(self.get(h, "/echo"), 404)

    def test_a_routed_service_exists_before_its_workers(self):
        h = self.hub("--route", "/api=later")
        client = self.client(h)
        client.send(request_bytes("GET", "/api"))
        h.wait_queued(1)
        self.worker(h, offer=["later=hello"])
        self.assertEqual(client.response().text, "hello")


class Cors(Case):
    origin = "https://app.example"

    def preflight(self, h, origin):
        return self.get(h, "/echo", [("Origin", origin), ("Access-Control-Request-Method", "PUT"),
                                     ("Access-Control-Request-Headers", "x-a, content-type")], "OPTIONS")

    def test_preflight_is_answered_by_the_hub(self):
        h = self.hub("--cors-origin", self.origin)
        self.worker(h)
        r = self.preflight(h, self.origin)
        self.assertIn(r.status, (200, 204))
        self.assertEqual(r.header("access-control-allow-origin"), self.origin)
        self.assertIn("PUT", r.header("access-control-allow-methods"))
        allowed = r.header("access-control-allow-headers").lower()
        self.assertTrue("*" in allowed.split(", ") or ("x-a" in allowed and "content-type" in allowed), allowed)
        self.assertEqual(h.status()["requests"], 0)
        self.assertIsNone(r.header("x-echoed-method"))

    def test_answers_carry_the_origin(self):
        h = self.hub("--cors-origin", self.origin)
        self.worker(h)
        r = self.get(h, "/echo", [("Origin", self.origin)])
        self.assertEqual((r.status, r.header("access-control-allow-origin")), (200, self.origin))
        r = self.get(h, "/nosuch", [("Origin", self.origin)])
        self.assertEqual((r.status, r.header("access-control-allow-origin")), (404, self.origin))

    def test_other_origins_get_nothing(self):
        h = self.hub("--cors-origin", self.origin)
        self.worker(h)
        r = self.get(h, "/echo", [("Origin", "https://evil.example")])
        self.assertNotEqual(r.header("access-control-allow-origin"), "https://evil.example")
        self.assertNotEqual(r.header("access-control-allow-origin"), "*")

    def test_star(self):
        h = self.hub("--cors-origin", "*")
        self.worker(h)
        r = self.get(h, "/echo", [("Origin", "https://any.example")])
        self.assertIn(r.header("access-control-allow-origin"), ("*", "https://any.example"))

    def test_without_the_setting_options_goes_to_the_worker(self):
        h = self.hub()
        self.worker(h)
        r = self.preflight(h, self.origin)
        self.assertEqual((r.status, r.header("x-echoed-method")), (200, "OPTIONS"))
        self.assertIsNone(r.header("access-control-allow-origin"))


class RealClients(Case):
    def setUp(self):
        super().setUp()
        self.h = self.hub()
        self.worker(self.h, slots=8)

    def run_tool(self, *argv):
        p = subprocess.run(argv, capture_output=True, timeout=20, text=True)
        self.assertEqual(p.returncode, 0, p.stderr + p.stdout)
        return p.stdout

    def test_curl(self):
        self.assertEqual(self.run_tool("curl", "-sS", self.h.url + "/hello"), "hello")
        self.assertEqual(self.run_tool("curl", "-sS", "-d", "abc", self.h.url + "/echo"), "abc")
        self.assertEqual(self.run_tool("curl", "-sS", "-T", __file__, self.h.url + "/echo").encode(),
                         open(__file__, "rb").read())
        self.assertIn("200 OK", self.run_tool("curl", "-sSI", self.h.url + "/hello"))

    def test_ab(self):
        for flags in (["-k"], []):
            out = self.run_tool("ab", "-q", *flags, "-n", "1000", "-c", "8", self.h.url + "/hello")
            self.assertRegex(out, r"Complete requests:\s+1000\b")
            self.assertRegex(out, r"Failed requests:\s+0\b")
            self.assertNotIn("Non-2xx", out)
        self.h.wait_idle()


class AccessLog(Case):
    def lines(self, path, count):
        def read():
            try:
                found = open(path).read().splitlines()
            except FileNotFoundError:
                return None
            return found if len(found) >= count else None
        return wait_until(read, 5, f"{count} lines in the access log")

    def test_text(self):
        path = self.directory + "/access.log"
        h = self.hub("--access-log", path, "--access-log-format", "text")
        self.worker(h)
        self.get(h, "/hello?x=1", [("User-Agent", "tester/1"), ("X-Request-Id", "rid-7")])
        self.get(h, "/nosuch")
        lines = self.lines(path, 2)
        self.assertEqual(len(lines), 2)
        for word in ("127.0.0.1", "GET /hello?x=1 HTTP/1.1", " 200 "):
            self.assertIn(word, lines[0])
        self.assertIn(" 404 ", lines[1])

    def test_json(self):
        import json
        path = self.directory + "/access.log"
        h = self.hub("--access-log", path, "--access-log-format", "json")
        self.worker(h)
        client = Client(h.listen)
        client.send(b'GET /echo?q="\\\x7e HTTP/1.1\r\nHost: h\r\nUser-Agent: "\xff\t\\\r\n\r\n')
        client.response()
        client.close()
        self.get(h, "/nosuch", [("X-Request-Id", "rid-8")])
        records = [json.loads(line) for line in self.lines(path, 2)]
        self.assertEqual([r["status"] for r in records], [200, 404])
        self.assertIn("rid-8", records[1].values())
        self.assertIn("GET", records[0].values())


if __name__ == "__main__":
    main()
