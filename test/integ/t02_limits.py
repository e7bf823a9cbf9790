#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every size and every time that a client controls has a limit, and passing it has its own answer."""

import threading
import time

from weirtest import Case, Client, main, request_bytes, sanitized, scaled, wait_until


class Sizes(Case):
    def test_head(self):
        h = self.hub("--max-head", "4096")
        self.worker(h)
        self.assertEqual(self.get(h, "/hello", [("X-Pad", "p" * 3500)]).status, 200)
        for headers in ([("X-Pad", "p" * 5000)], [(f"X-{i}", "p" * 50) for i in range(100)]):
            client = self.client(h)
            self.assert_problem(client.request("GET", "/hello", headers), 431)
            client.assert_closed()

    def test_head_without_end(self):
        h = self.hub("--max-head", "4096")
        client = self.client(h)
        client.send(b"GET /hello HTTP/1.1\r\nHost: h\r\nX-A: " + b"a" * 10000)
        self.assert_problem(client.response(), 431)
        client.assert_closed()

    def test_default_head_limit_is_64_kib(self):
        h = self.hub()
        self.worker(h)
        self.assertEqual(self.get(h, "/hello", [("X-Pad", "p" * 60000)]).status, 200)
        self.assert_problem(self.get(h, "/hello", [("X-Pad", "p" * 66000)]), 431)

    def test_number_of_fields(self):
        h = self.hub()
        self.worker(h)
        self.assertEqual(self.get(h, "/hello", [(f"X-{i}", "1") for i in range(200)]).status, 200)
        self.assert_problem(self.get(h, "/hello", [(f"X-{i}", "1") for i in range(300)]), 431)

    def test_target(self):
        h = self.hub("--max-target", "300")
        self.worker(h)
        self.assertEqual(self.get(h, "/hello?" + "x" * 250).status, 200)
        client = self.client(h)
        self.assert_problem(client.request("GET", "/hello?" + "x" * 400), 414)
        client.assert_closed()

    def test_target_without_end(self):
        h = self.hub()
        client = self.client(h)
        client.send(b"GET /" + b"a" * 100000)
        self.assert_problem(client.response(), 414)
        client.assert_closed()

    def test_body_by_length(self):
        h = self.hub("--max-body", "1000")
        self.worker(h)
        self.assertEqual(self.get(h, "/sink", method="POST", body=b"x" * 1000).text.split()[0], "1000")
        client = self.client(h)
        client.send(b"POST /sink HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n")
        self.assert_problem(client.response(), 413)  # without waiting for the body
        self.assertEqual(len(self.logged("started")), 1)

    def test_body_of_absurd_length(self):
        h = self.hub()
        self.worker(h)
        client = self.client(h)
        client.send(b"POST /sink HTTP/1.1\r\nHost: h\r\nContent-Length: 9223372036854775807\r\n\r\n")
        self.assert_problem(client.response(), 413)

    def test_body_by_chunks(self):
        h = self.hub("--max-body", "1000")
        self.worker(h)
        r = self.get(h, "/sink", method="POST", body=[b"x" * 250] * 4)
        self.assertEqual(r.text.split()[0], "1000")
        client = self.client(h)
        client.send(request_bytes("POST", "/sink", [], [b"x" * 250] * 5))
        self.assert_problem(client.response(), 413)
        client.assert_closed()
        h.wait_idle()

    def test_one_chunk_that_is_too_large(self):
        h = self.hub("--max-body", "1000")
        self.worker(h)
        client = self.client(h)
        client.send(b"POST /sink HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                    b"ffffff\r\n" + b"x" * 2000)
        self.assert_problem(client.response(), 413)
        h.wait_idle()

    def test_connections(self):
        h = self.hub("--max-connections", "3")
        self.worker(h)
        kept = [self.client(h) for _ in range(3)]
        for client in kept:
            self.assertEqual(client.request("GET", "/hello").status, 200)
        fourth = self.client(h)
        try:
            r = fourth.request("GET", "/hello")
            self.assert_problem(r, 503)
            self.assertTrue(r.closes)
        except (AssertionError, OSError):
            self.assertTrue(fourth.closed())  # refused without an answer is fine too
        self.assertEqual(kept[0].request("GET", "/hello").status, 200)
        kept[1].close()

        def again():
            try:
                with Client(h.listen) as client:
                    return client.request("GET", "/hello").status == 200
            except (AssertionError, OSError):
                return False
        wait_until(again, 5, "room for another connection")


class Times(Case):
    def closes_within(self, client, seconds):
        begin = time.monotonic()
        data = client.rest()
        took = time.monotonic() - begin
        self.assertLess(took, scaled(seconds))
        return took, data

    def test_slow_head_is_408(self):
        h = self.hub("--head-timeout", "300ms")
        client = self.client(h)
        client.send(b"GET /hello HTTP/1.1\r\nHost: h\r\n")
        begin = time.monotonic()
        self.assert_problem(client.response(), 408)
        self.assertTrue(0.25 <= time.monotonic() - begin < scaled(2))
        client.assert_closed()

    def test_dripping_a_head_does_not_help(self):
        h = self.hub("--head-timeout", "400ms")
        client = self.client(h)
        begin = time.monotonic()
        try:
            client.send_slowly(b"GET /hello HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 10000, 0.02)
            self.fail("the hub took bytes for ever")
        except OSError:
            pass
        self.assertLess(time.monotonic() - begin, scaled(3))

    def test_silent_connection_is_closed(self):
        h = self.hub("--head-timeout", "300ms", "--idle-timeout", "300ms")
        took, data = self.closes_within(self.client(h), 3)
        self.assertGreaterEqual(took, 0.2)
        self.assertTrue(not data or data.startswith(b"HTTP/1.1 408 "), data)

    def test_idle_connection_is_closed_without_a_word(self):
        h = self.hub("--idle-timeout", "300ms")
        self.worker(h)
        client = self.client(h)
        self.assertFalse(client.request("GET", "/hello").closes)
        took, data = self.closes_within(client, 3)
        self.assertEqual(data, b"")
        self.assertGreaterEqual(took, 0.2)

    def test_idle_time_starts_anew_with_each_request(self):
        h = self.hub("--idle-timeout", "400ms")
        self.worker(h)
        client = self.client(h)
        for _ in range(6):
            self.assertEqual(client.request("GET", "/sleep?ms=150").status, 200)
        self.assertEqual(client.request("GET", "/sleep?ms=900").status, 200)  # a running request is not idle

    def test_stalled_body_is_408_and_the_worker_is_told(self):
        h = self.hub("--body-timeout", "300ms")
        self.worker(h)
        client = self.client(h)
        client.send(b"POST /sink HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n0123456789")
        self.assert_problem(client.response(), 408)
        client.assert_closed()
        wait_until(lambda: self.logged("cancelled"), 5, "the worker hears of it")
        h.wait_idle()
        self.assertEqual(self.get(h, "/hello").status, 200)

    def test_slow_but_steady_body_is_fine(self):
        h = self.hub("--body-timeout", "500ms")
        self.worker(h)
        client = self.client(h)
        client.send(b"POST /sink HTTP/1.1\r\nHost: h\r\nContent-Length: 30\r\n\r\n")
        client.send_slowly(b"x" * 30, 0.04)
        self.assertEqual(client.response().text.split()[0], "30")

    def test_request_timeout(self):
        h = self.hub("--request-timeout", "300ms")
        self.worker(h)
        begin = time.monotonic()
        self.assert_problem(self.get(h, "/sleep?ms=20000"), 504, service="sleep")
        self.assertTrue(0.25 <= time.monotonic() - begin < scaled(2))
        wait_until(lambda: self.logged("cancelled"), 5, "the worker hears of it")
        h.wait_idle()
        self.assertEqual(self.get(h, "/hello").status, 200)

    def test_request_timeout_counts_the_queue(self):
        h = self.hub("--request-timeout", "300ms", "--route", "/none=none")
        self.assert_problem(self.get(h, "/none"), 504, service="none")
        h.wait_idle()

    def test_request_timeout_counts_all_stages(self):
        h = self.hub("--request-timeout", "400ms")
        self.worker(h)
        begin = time.monotonic()
        self.assert_problem(self.get(h, "/again?n=1000&ms=50"), 504)
        self.assertLess(time.monotonic() - begin, scaled(2))
        h.wait_idle()

    def test_request_timeout_ends_with_the_head_of_the_reply(self):
        h = self.hub("--request-timeout", "300ms")
        self.worker(h)
        self.assertEqual(self.get(h, "/drip?n=10&size=1&ms=100").text, "abcdefghij")

    def test_weir_timeout(self):
        h = self.hub()
        self.worker(h)
        begin = time.monotonic()
        self.assert_problem(self.get(h, "/sleep?ms=20000", [("Weir-Timeout", "300ms")]), 504)
        self.assertTrue(0.25 <= time.monotonic() - begin < scaled(2))
        self.assertEqual(self.get(h, "/sleep?ms=10", [("Weir-Timeout", "30s")]).status, 200)
        wait_until(lambda: self.logged("cancelled"), 5, "the worker hears of it")

    def test_weir_timeout_reaches_the_worker(self):
        h = self.hub()
        self.worker(h)
        r = self.get(h, "/echo", [("Weir-Timeout", "5s")])
        self.assertTrue(3000 < int(r.header("x-echo-weir-deadline-ms")) <= 5000)
        self.assertTrue(3000 < int(self.get(h, "/left", [("Weir-Timeout", "5s")]).text) <= 5000)

    def test_stalled_reader_of_a_stream_is_cut(self):
        h = self.hub("--body-timeout", "500ms", "--idle-timeout", "500ms")
        self.worker(h)
        client = self.client(h, receive_buffer=4096)
        client.send(request_bytes("GET", "/source?bytes=100000000"))
        wait_until(lambda: self.logged("cancelled"), 10, "the worker hears that nobody reads")
        h.wait_idle()


class HostileReaders(Case):
    def test_pipelined_requests_whose_answers_nobody_reads(self):
        """The hub's own answers are made only as fast as they are taken."""
        h = self.hub("--body-timeout", "2s", "--idle-timeout", "2s")
        before = h.rss()
        client = self.client(h)
        sent, quiet = 0, 0
        piece = b"GET /nope HTTP/1.1\r\nHost: a\r\n\r\n" * 2000
        while sent < 32 << 20 and quiet < 50:
            n = client.send_what_fits(piece)
            sent += n
            quiet = 0 if n else quiet + 1
            if not n:
                time.sleep(0.01)
        self.assertLess(sent, 32 << 20)
        if not sanitized:
            self.assertLess(h.rss() - before, 16 << 20)
        wait_until(lambda: h.metrics().value("weir_connections") == 0, scaled(10), "it is closed for not reading")

    def test_pipelined_requests_are_all_answered(self):
        h = self.hub()
        client = self.client(h)
        one = b"GET /nope HTTP/1.1\r\nHost: a\r\n\r\n"
        threading.Thread(target=client.send, args=(one * 20000,), daemon=True).start()
        for _ in range(20000):
            self.assertEqual(client.response().status, 404)

    def test_resets_in_the_middle_of_pipelines(self):
        h = self.hub()
        for i in range(200):
            client = self.client(h)
            client.send(b"GET /nope HT")
            client.send(b"TP/1.1\r\nHost: a\r\n\r\n" + b"GET /nope HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
            client.reset()
        self.assertEqual(self.get(h, "/nope").status, 404)

    def test_a_last_answer_that_is_not_read(self):
        h = self.hub("--body-timeout", "1s")
        self.worker(h, offer=["drip"])
        client = self.client(h, receive_buffer=4096)
        client.send(request_bytes("GET", "/drip?n=100&size=65536&ms=0", [("Connection", "close")]))
        wait_until(lambda: h.metrics().value("weir_connections") == 0, 10, "its connection is closed")


if __name__ == "__main__":
    main()
