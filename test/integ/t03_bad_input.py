#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Malformed requests: each gets its status as problem+json and the connection is closed, none reaches a
worker, and the hub lives on. What could be read in two ways is refused (RFC 9112, RFC 9110 5.5)."""

import random

from weirtest import Case, Client, main, request_bytes, scaled, slow, wait_until

H = b"Host: h\r\n"


def head(line=b"POST /sink HTTP/1.1", fields=H, tail=b""):
    return line + b"\r\n" + fields + b"\r\n" + tail


def field(text, tail=b""):
    return head(fields=H + text + b"\r\n", tail=tail)


def target(text):
    return head(b"GET " + text + b" HTTP/1.1")


# name, bytes, status (or several that are right)
HEADS = [
    # line ends and control characters
    ("bare LF everywhere", b"POST /sink HTTP/1.1\nHost: h\n\n", 400),
    ("bare LF after the request line", b"POST /sink HTTP/1.1\nHost: h\r\n\r\n", 400),
    ("bare LF after a field", b"POST /sink HTTP/1.1\r\nHost: h\nX: 1\r\n\r\n", 400),
    ("bare LF as the last line", b"POST /sink HTTP/1.1\r\nHost: h\r\n\n", 400),
    ("bare CR in a value", field(b"X: a\rb"), 400),
    ("bare CR before CRLF", field(b"X: a\r"), 400),
    ("bare CR in the request line", head(b"POST /sink\r HTTP/1.1"), 400),
    ("NUL in a value", field(b"X: a\0b"), 400),
    ("NUL in a name", field(b"X\0: a"), 400),
    ("NUL in the target", target(b"/si\0nk"), 400),
    ("SOH in a value", field(b"X: a\x01b"), 400),
    ("VT in a value", field(b"X: \x0ba"), 400),
    ("ESC in a value", field(b"X: \x1b[0m"), 400),
    ("DEL in a value", field(b"X: a\x7fb"), 400),
    ("control character in a name", field(b"X\x02Y: a"), 400),
    # fields
    ("space before the colon", field(b"X : a"), 400),
    ("tab before the colon", field(b"X\t: a"), 400),
    ("space before the colon of Content-Length", field(b"Content-Length : 5", b"hello"), 400),
    ("space before the colon of Transfer-Encoding", field(b"Transfer-Encoding : chunked", b"0\r\n\r\n"), 400),
    ("obs-fold with a space", field(b"X: a\r\n b"), 400),
    ("obs-fold with a tab", field(b"X: a\r\n\tb"), 400),
    ("obs-fold of nothing", field(b"X: a\r\n "), 400),
    ("first field begins with a space", head(fields=b" Host: h\r\n"), 400),
    ("empty name", field(b": a"), 400),
    ("no colon", field(b"X-Nothing"), 400),
    ("space in a name", field(b"X Y: a"), 400),
    ("parentheses in a name", field(b"X(Y): a"), 400),
    ("quote in a name", field(b'"X": a'), 400),
    ("slash in a name", field(b"X/Y: a"), 400),
    ("Latin-1 in a name", field(b"X\xe9: a"), 400),
    # Host
    ("no Host", head(fields=b""), 400),
    ("two Hosts", head(fields=b"Host: h\r\nHost: g\r\n"), 400),
    ("the same Host twice", head(fields=b"Host: h\r\nHost: h\r\n"), 400),
    ("space in Host", head(fields=b"Host: a b\r\n"), 400),
    ("slash in Host", head(fields=b"Host: a/b\r\n"), 400),
    ("absolute-form without Host", head(b"GET http://h/sink HTTP/1.1", b""), 400),
    # Content-Length and Transfer-Encoding
    ("both lengths", field(b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"), 400),
    ("both lengths, the other way",
     field(b"Transfer-Encoding: chunked\r\nContent-Length: 5", b"0\r\n\r\n"), 400),
    ("both lengths in other letters",
     field(b"tRANSFER-eNCODING: CHUNKED\r\ncONTENT-lENGTH: 5", b"hello"), 400),
    ("two lengths", field(b"Content-Length: 5\r\nContent-Length: 6", b"hello!"), 400),
    ("the same length twice", field(b"Content-Length: 5\r\nContent-Length: 5", b"hello"), 400),
    ("list of lengths", field(b"Content-Length: 5, 6", b"hello!"), 400),
    ("list of the same length", field(b"Content-Length: 5, 5", b"hello"), 400),
    ("negative length", field(b"Content-Length: -5", b"hello"), 400),
    ("signed length", field(b"Content-Length: +5", b"hello"), 400),
    ("hexadecimal length", field(b"Content-Length: 0x5", b"hello"), 400),
    ("length with a fraction", field(b"Content-Length: 5.0", b"hello"), 400),
    ("length and more", field(b"Content-Length: 5abc", b"hello"), 400),
    ("length with a space within", field(b"Content-Length: 5 5", b"hello"), 400),
    ("empty length", field(b"Content-Length:", b""), 400),
    ("length over 64 bits", field(b"Content-Length: 18446744073709551621", b"hello"), (400, 413)),
    ("length of 100 digits", field(b"Content-Length: " + b"9" * 100, b"hello"), (400, 413)),
    ("gzip", field(b"Transfer-Encoding: gzip", b"x"), 400),
    ("identity", field(b"Transfer-Encoding: identity", b"x"), 400),
    ("gzip, chunked", field(b"Transfer-Encoding: gzip, chunked", b"0\r\n\r\n"), 400),
    ("chunked, gzip", field(b"Transfer-Encoding: chunked, gzip", b"0\r\n\r\n"), 400),
    ("chunked twice in a list", field(b"Transfer-Encoding: chunked, chunked", b"0\r\n\r\n"), 400),
    ("chunked twice in fields",
     field(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"), 400),
    ("identity, then chunked",
     field(b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"), 400),
    ("xchunked", field(b"Transfer-Encoding: xchunked", b"0\r\n\r\n"), 400),
    ("chunked with a parameter", field(b"Transfer-Encoding: chunked;q=1", b"0\r\n\r\n"), 400),
    ("quoted chunked", field(b'Transfer-Encoding: "chunked"', b"0\r\n\r\n"), 400),
    ("empty coding", field(b"Transfer-Encoding:", b""), 400),
    ("chunked in 1.0",
     head(b"POST /sink HTTP/1.0", H + b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n"), 400),
    # version
    ("HTTP/2.0", head(b"GET /sink HTTP/2.0"), 505),
    ("HTTP/3.0", head(b"GET /sink HTTP/3.0"), 505),
    ("HTTP/0.9", head(b"GET /sink HTTP/0.9"), (400, 505)),
    ("no version", b"GET /sink\r\n\r\n", (400, 505)),
    ("HTTP/1", head(b"GET /sink HTTP/1"), (400, 505)),
    ("HTTP/1.", head(b"GET /sink HTTP/1."), (400, 505)),
    ("HTTP/11.1", head(b"GET /sink HTTP/11.1"), (400, 505)),
    ("HTTP/1.10", head(b"GET /sink HTTP/1.10"), (400, 505)),
    ("HTTP/1.1x", head(b"GET /sink HTTP/1.1x"), (400, 505)),
    ("http/1.1", head(b"GET /sink http/1.1"), (400, 505)),
    ("HTTPS/1.1", head(b"GET /sink HTTPS/1.1"), (400, 505)),
    ("ICY", head(b"GET /sink ICY/1.0"), (400, 505)),
    # the request line
    ("two spaces before the target", head(b"GET  /sink HTTP/1.1"), 400),
    ("two spaces after the target", head(b"GET /sink  HTTP/1.1"), 400),
    ("tab before the target", head(b"GET\t/sink HTTP/1.1"), (400, 501)),
    ("space after the version", head(b"GET /sink HTTP/1.1 "), 400),
    ("leading space", b" " + head(), (400, 501)),
    ("space in the target", head(b"GET /si nk HTTP/1.1"), 400),
    ("no target", head(b"GET HTTP/1.1"), (400, 505)),
    ("relative target", target(b"sink"), 400),
    ("authority-form", target(b"h:80"), 400),
    ("asterisk with GET", target(b"*"), 400),
    ("fragment", target(b"/sink#a"), 400),
    ("absolute-form without a host", target(b"http:///sink"), 400),
    ("control character in the target", target(b"/si\x01nk"), 400),
    ("DEL in the target", target(b"/si\x7fnk"), 400),
    ("tab in the target", target(b"/si\tnk"), 400),
    ("raw bytes in the target", target(b"/si\xff\xfenk"), 400),
    ("CONNECT", head(b"CONNECT h:80 HTTP/1.1"), 501),
    ("unknown method", head(b"BREW /sink HTTP/1.1"), 501),
    ("small letters", head(b"get /sink HTTP/1.1"), 501),
    ("method that goes on", head(b"GETX /sink HTTP/1.1"), 501),
    ("no method", head(b" /sink HTTP/1.1"), (400, 501)),
    ("bad character in the method", head(b"G@T /sink HTTP/1.1"), (400, 501)),
    ("method without end", b"A" * 70000, (400, 414, 501)),
    # not HTTP at all
    ("TLS ClientHello", bytes.fromhex("16030100c8010000c40303") + bytes(range(1, 200)), 400),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 501, 505)),
    ("an answer", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", (400, 501, 505)),
    ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", (400, 501, 505)),
    ("zeros", b"\0" * 100, 400),
    ("a colon", b":\r\n\r\n", (400, 501)),
]

CHUNKED = head(fields=H + b"Transfer-Encoding: chunked\r\n")

BODIES = [
    ("size is no number", b"zz\r\nhello\r\n0\r\n\r\n"),
    ("negative size", b"-5\r\nhello\r\n0\r\n\r\n"),
    ("signed size", b"+5\r\nhello\r\n0\r\n\r\n"),
    ("0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
    ("empty size", b"\r\nhello\r\n0\r\n\r\n"),
    ("space before the size", b" 5\r\nhello\r\n0\r\n\r\n"),
    ("size over 64 bits", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("bare LF after the size", b"5\nhello\r\n0\r\n\r\n"),
    ("bare CR after the size", b"5\rhello\r\n0\r\n\r\n"),
    ("bare LF after the data", b"5\r\nhello\n0\r\n\r\n"),
    ("no CRLF after the data", b"5\r\nhello0\r\n\r\n"),
    ("data is longer than its size", b"5\r\nhello!\r\n0\r\n\r\n"),
    ("data is shorter than its size", b"5\r\nhel\r\n0\r\n\r\n0\r\n\r\n"),
    ("NUL in an extension", b"5;a=\0\r\nhello\r\n0\r\n\r\n"),
    ("bare LF in an extension", b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    ("an extension without end", b"5;" + b"a" * 20000),
    ("many small extensions", b"1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n" * 1000),
    ("trailer with space before the colon", b"5\r\nhello\r\n0\r\nX : a\r\n\r\n"),
    ("trailer without a colon", b"5\r\nhello\r\n0\r\nX\r\n\r\n"),
    ("trailer with a bare LF", b"5\r\nhello\r\n0\r\nX: a\n\r\n"),
    ("trailer with NUL", b"5\r\nhello\r\n0\r\nX: \0\r\n\r\n"),
    ("trailers without end", b"5\r\nhello\r\n0\r\n" + b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 1000),
]


class BadHeads(Case):
    def setUp(self):
        super().setUp()
        self.h = self.hub("--log-level", "error")
        self.worker(self.h)

    def check_refused(self, client, status):
        r = client.response()
        self.assertIn(r.status, status if isinstance(status, tuple) else (status,), r)
        self.assert_problem(r, r.status)
        self.assertTrue(r.closes, r)
        client.assert_closed()

    def check_untouched(self):
        self.assertEqual(self.jobs_log(), [])
        self.h.wait_idle()
        self.assertTrue(all(s["submitted"] == 0 for s in self.h.status()["services"]))
        self.assertEqual(self.get(self.h, "/hello").text, "hello")

    def send(self, client, data):
        try:
            client.send(data)
        except OSError:
            pass  # the hub may answer and close before it has all of it

    def test_table_is_long_enough(self):
        self.assertGreaterEqual(len(HEADS), 60)
        self.assertEqual(len({name for name, _, _ in HEADS}), len(HEADS))

    def test_each(self):
        for name, data, status in HEADS:
            with self.subTest(name), Client(self.h.listen, limit=scaled(5)) as client:
                self.send(client, data + request_bytes("GET", "/hello"))  # must never be taken for a request
                self.check_refused(client, status)
        self.check_untouched()

    def test_each_in_two_pieces(self):
        chance = random.Random(1)
        for name, data, status in HEADS:
            with self.subTest(name), Client(self.h.listen, limit=scaled(5)) as client:
                at = chance.randrange(1, len(data))
                self.send(client, data[:at])
                self.h.admin_get("/healthz")  # the hub has read the first piece by now
                self.send(client, data[at:] + request_bytes("GET", "/hello"))
                self.check_refused(client, status)
        self.check_untouched()

    def test_each_after_a_good_one(self):
        for name, data, status in HEADS:
            with self.subTest(name), Client(self.h.listen, limit=scaled(5)) as client:
                self.send(client, request_bytes("GET", "/nosuch") + data)
                self.assert_problem(client.response(), 404)
                self.check_refused(client, status)
        self.check_untouched()

    def test_expectation(self):
        r = self.get(self.h, "/hello", [("Expect", "the-unexpected")])
        self.assert_problem(r, 417)
        self.check_untouched()

    @slow(60)
    def test_random_bytes(self):
        chance = random.Random(42)
        for _ in range(400):
            try:
                with Client(self.h.listen, limit=scaled(5)) as client:
                    client.send(chance.randbytes(chance.randrange(1, 400)) + b"\r\n\r\n")
                    client.half_close()
                    client.rest()
            except OSError:
                pass
        self.check_untouched()

    @slow(60)
    def test_good_requests_with_one_byte_changed(self):
        """Any answer is right but none may crash or hang the hub."""
        chance = random.Random(7)
        good = request_bytes("GET", "/hello?x=1", [("Accept", "*/*"), ("Content-Length", "0")])
        for _ in range(400):
            data = bytearray(good)
            data[chance.randrange(len(data))] = chance.randrange(256)
            with Client(self.h.listen, limit=scaled(5)) as client:
                client.send(bytes(data))
                client.half_close()
                client.rest()
        self.h.wait_idle()
        self.assertEqual(self.get(self.h, "/hello").text, "hello")


class BadBodies(Case):
    def setUp(self):
        super().setUp()
        self.h = self.hub("--log-level", "error")
        self.worker(self.h)

    def refused(self, body):
        with Client(self.h.listen, limit=scaled(5)) as client:
            try:
                client.send(CHUNKED + body + request_bytes("GET", "/hello"))
            except OSError:
                pass
            self.assert_problem(client.response(), 400)
            client.assert_closed()

    def test_each(self):
        """The head was fine, so a worker may have begun; but none may take the body for a whole one."""
        for name, body in BODIES:
            with self.subTest(name):
                self.refused(body)
        self.h.wait_idle()
        wait_until(lambda: len(self.logged("cancelled")) == len(self.logged("started")), 5, "all cancelled")
        self.assertEqual(self.logged("done"), [])
        self.assertEqual(self.get(self.h, "/hello").text, "hello")

    def test_legal_oddities_pass(self):
        for body in (b"5;ext=1;b=\"q\"\r\nhello\r\n0;last\r\n\r\n", b"005\r\nhello\r\n000\r\n\r\n",
                     b"A\r\n0123456789\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\nX-T: 1\r\nY: \r\n\r\n"):
            with self.subTest(body):
                client = self.client(self.h)
                client.send(CHUNKED + body)
                self.assertEqual(client.response().status, 200)
                self.assertEqual(client.request("GET", "/hello").text, "hello")

    def test_client_that_stops_within_its_body(self):
        for body in (b"5\r\nhe", b"5\r\nhello\r\n", b"5\r\nhello\r\n0\r\n", b""):
            with self.subTest(body):
                client = self.client(self.h)
                client.send(CHUNKED + body)
                client.close()
        self.h.wait_idle()
        self.assertEqual(self.logged("done"), [])


if __name__ == "__main__":
    main()
