#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Workers die, stop or hang, the hub restarts, clients crawl: what is safe to run again is, nobody hangs."""

import os
import signal
import threading
import time
import zlib

from weirtest import Case, Client, Closed, FakeWorker, Worker, main, request_bytes, scaled, slow, wait_until
from weirtest.h2 import END_HEADERS, END_STREAM, HEADERS, SETTINGS, frame, header_block


class Load:
    """Clients that ask again and again on kept connections, and note every answer that is not 200."""

    def __init__(self, hub, count, target, method="GET"):
        self.hub, self.target, self.method = hub, target, method
        self.stopping = threading.Event()
        self.done, self.bad = [0] * count, []
        self.threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def _run(self, i):
        try:
            with Client(self.hub.listen, limit=20) as client:
                while not self.stopping.is_set():
                    r = client.request(self.method, self.target)
                    if r.status != 200:
                        self.bad.append(repr(r))
                    self.done[i] += 1
        except Exception as e:
            self.bad.append(repr(e))

    def total(self):
        return sum(self.done)

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(30)
            if thread.is_alive():
                self.bad.append("a client hangs")
        return self.bad


class Killed(Case):
    time_limit = 40

    def ask(self, h, method, target, headers=(), body=None):
        client = self.client(h)
        client.send(request_bytes(method, target, headers, body))
        wait_until(lambda: self.logged("started"), 5, "started")
        return client

    def kill_runner(self, workers):
        """kill -9 for the worker that has the (only) job; returns its pid."""
        pid = int(self.logged("started")[-1][2])
        next(w for w in workers if w.pid == pid).kill()
        return pid

    def attempts(self):
        return [(int(line[2]), int(line[4])) for line in self.logged("started")]

    def test_get_is_answered_by_another(self):
        h = self.hub()
        workers = [self.worker(h, offer=["sleep"]) for _ in range(2)]
        client = self.ask(h, "GET", "/sleep?ms=400")
        pid = self.kill_runner(workers)
        r = client.response()
        self.assertEqual(r.status, 200)
        self.assertNotEqual(r.text, f"slept by {pid}")
        self.assertEqual([a for _, a in self.attempts()], [1, 2])

    def test_each_idempotent_method_is(self):
        h = self.hub()
        for i, method in enumerate(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE")):
            with self.subTest(method):
                first = self.worker(h, offer=["sleep"])
                client = self.client(h)
                client.send(request_bytes(method, "/sleep?ms=100", [], b"body" if method == "PUT" else None))
                wait_until(lambda: len(self.logged("started")) == 2 * i + 1, 5)
                first.kill()
                second = self.worker(h, offer=["sleep"])
                self.assertEqual(client.response(method).status, 200)
                second.kill()
                h.wait_workers(0)

    def test_post_is_502_at_once(self):
        h = self.hub()
        workers = [self.worker(h, offer=["sleep"]) for _ in range(2)]
        client = self.ask(h, "POST", "/sleep?ms=60000", body=b"x")
        self.kill_runner(workers)
        begin = time.monotonic()
        self.assert_problem(client.response(), 502, service="sleep")
        self.assertLess(time.monotonic() - begin, scaled(1))
        self.assertEqual(len(self.logged("started")), 1)
        h.wait_idle()

    def test_post_with_an_idempotency_key_is_retried(self):
        h = self.hub()
        workers = [self.worker(h, offer=["sink", "sleep"]) for _ in range(2)]
        client = self.ask(h, "POST", "/sleep?ms=300", [("Idempotency-Key", "k1")], b"x")
        self.kill_runner(workers)
        self.assertEqual(client.response().status, 200)
        self.assertEqual([a for _, a in self.attempts()], [1, 2])

    def test_service_that_says_retry_always(self):
        h = self.hub("--service", "sleep.retry=always")
        workers = [self.worker(h, offer=["sleep"]) for _ in range(2)]
        client = self.ask(h, "POST", "/sleep?ms=300", body=b"x")
        self.kill_runner(workers)
        self.assertEqual(client.response().status, 200)

    def test_body_is_sent_again(self):
        h = self.hub()
        workers = [self.worker(h, offer=["sink"]) for _ in range(2)]
        body = bytes(range(256)) * 400
        client = self.client(h)
        client.send(b"PUT /sink HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:90000])
        wait_until(lambda: self.logged("started"), 5)
        self.kill_runner(workers)
        wait_until(lambda: len(self.logged("started")) == 2, 5, "second attempt")
        client.send(body[90000:])
        self.assertEqual(client.response().text, f"{len(body)} {zlib.adler32(body)}")

    def test_body_too_large_to_keep_is_502(self):
        h = self.hub("--buffered-body", "10000")
        workers = [self.worker(h, offer=["sink"]) for _ in range(2)]
        client = self.client(h)
        client.send(b"PUT /sink HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 100000)
        wait_until(lambda: self.logged("started"), 5)
        h.wait_running(1)
        wait_until(lambda: client.send_what_fits(b"x" * 10000) or True, 5)
        self.kill_runner(workers)
        self.assert_problem(client.response(), 502)
        h.wait_idle()

    def test_attempts_end(self):
        h = self.hub("--attempts", "3")
        for _ in range(5):
            self.worker(h, offer=["crash"])
        self.assert_problem(self.get(h, "/crash"), 502, service="crash")
        self.assertEqual([a for _, a in self.attempts()], [1, 2, 3])
        h.wait_workers(2)

    def test_last_worker_dies_and_another_comes(self):
        h = self.hub()
        first = self.worker(h, offer=["sleep"])
        client = self.ask(h, "GET", "/sleep?ms=100")
        first.kill()
        h.wait_queued(1)
        self.worker(h, offer=["sleep"])
        self.assertEqual(client.response().status, 200)

    def test_retried_job_goes_to_the_head(self):
        h = self.hub()
        first = self.worker(h, offer=["sleep"])
        client = self.ask(h, "GET", "/sleep?ms=50&i=first")
        others = [self.client(h) for _ in range(3)]
        for i, other in enumerate(others):
            other.send(request_bytes("GET", f"/sleep?ms=1&i={i}"))
            h.wait_queued(i + 1)
        first.kill()
        self.worker(h, offer=["sleep"])
        self.assertEqual(client.response().status, 200)
        for other in others:
            self.assertEqual(other.response().status, 200)
        order = [line[6].split("=")[-1] for line in self.logged("started")]
        self.assertEqual(order, ["first", "first", "0", "1", "2"])

    def test_death_in_the_middle_of_an_answer_cuts_the_client(self):
        """Neither a retry nor an end that looks whole."""
        h = self.hub()
        workers = [self.worker(h, offer=["drip"]) for _ in range(2)]
        for version in ("1.1", "1.0"):
            with self.subTest(version):
                client = self.client(h)
                count = len(self.logged("started"))
                client.send(request_bytes("GET", "/drip?n=1000&ms=20", version=version))
                r = client.head()
                pieces = client.pieces(r)
                self.assertEqual(next(pieces)[:10], b"a" * 10)
                self.kill_runner(workers)
                if version == "1.1":
                    with self.assertRaises(Closed):
                        for _ in pieces:
                            pass
                else:
                    with self.assertRaises((ConnectionResetError, Closed)):
                        while client.sock.recv(65536):
                            pass
                self.assertEqual(len(self.logged("started")), count + 1)
        h.wait_idle()

    def test_second_stage_dies(self):
        h = self.hub()
        self.worker(h, offer=["one=forward"])
        second = self.worker(h, offer=["sleep"])
        client = self.client(h)
        client.send(request_bytes("GET", "/one?to=sleep&target=/sleep?ms=60000"))
        wait_until(lambda: len(self.logged("started")) == 2, 5)
        second.kill()
        self.worker(h, offer=["sleep"])  # the client's GET is safe to repeat, at whatever stage it is
        wait_until(lambda: len(self.logged("started")) == 3, 5)
        client.close()
        h.wait_idle()

    def test_second_stage_dies_with_a_post(self):
        h = self.hub()
        self.worker(h, offer=["one=forward"])
        second = self.worker(h, offer=["sleep"])
        client = self.client(h)
        client.send(request_bytes("POST", "/one?to=sleep&target=/sleep?ms=60000", [], b"x"))
        wait_until(lambda: len(self.logged("started")) == 2, 5)
        second.kill()
        self.assert_problem(client.response(), 502)
        h.wait_idle()

    @slow(60)
    def test_twenty_of_twenty_one_at_once_under_load(self):
        h = self.hub("--attempts", "5")
        workers = [self.worker(h, slots=2, offer=["slowpoke=sleep"], wait=False) for _ in range(21)]
        h.wait_workers(21, 20)
        load = Load(h, 64, "/slowpoke?ms=15")
        wait_until(lambda: load.total() > 1000, 20, "1000 answers")
        for worker in workers[:20]:
            os.kill(worker.pid, signal.SIGKILL)
        for worker in workers[:20]:
            worker.popen.wait()
        at = load.total()
        wait_until(lambda: load.total() > at + 300, 20, "300 more answers")
        self.assertEqual(load.stop(), [])
        h.wait_workers(1)
        h.wait_idle()
        self.assertEqual(h.status()["slots"], 2)

    @slow(60)
    def test_workers_come_and_go_under_load(self):
        h = self.hub("--attempts", "20")
        self.worker(h, slots=2, offer=["sleep"])
        load = Load(h, 16, "/sleep?ms=3")
        for _ in range(25):
            worker = self.worker(h, slots=3, offer=["sleep"])
            at = load.total()
            wait_until(lambda: load.total() > at + 20, 10, "20 more answers")
            worker.kill()
        self.assertEqual(load.stop(), [])
        h.wait_idle()
        h.wait_workers(1)


class Stopped(Case):
    """SIGSTOP: the connection stays open, only the heartbeat tells. Default: 1 s, gone after 3 missed."""

    def test_get_is_retried_within_the_heartbeat_limit(self):
        h = self.hub()
        first = self.worker(h, offer=["sleep"])
        client = self.client(h)
        client.send(request_bytes("GET", "/sleep?ms=200"))
        wait_until(lambda: self.logged("started"), 5)
        first.signal(signal.SIGSTOP)
        begin = time.monotonic()
        self.worker(h, offer=["sleep"])
        r = client.response()
        took = time.monotonic() - begin
        self.assertEqual(r.status, 200)
        self.assertTrue(1.5 < took < scaled(6), took)
        h.wait_workers(1)
        first.signal(signal.SIGCONT)  # it wakes up with an answer that nobody wants any more
        h.wait_workers(2)  # and comes back
        self.assertEqual(self.get(h, "/sleep?ms=1").status, 200)

    def test_post_is_refused_within_the_heartbeat_limit(self):
        h = self.hub("--heartbeat", "200ms")
        first = self.worker(h, offer=["sleep"])
        client = self.client(h)
        client.send(request_bytes("POST", "/sleep?ms=60000", [], b"x"))
        wait_until(lambda: self.logged("started"), 5)
        first.signal(signal.SIGSTOP)
        begin = time.monotonic()
        self.assert_problem(client.response(), 502)
        self.assertLess(time.monotonic() - begin, scaled(3))
        h.wait_workers(0)

    def test_idle_worker_is_noticed(self):
        h = self.hub("--heartbeat", "100ms", "--heartbeat-missed", "2")
        worker = self.worker(h)
        worker.signal(signal.SIGSTOP)
        h.wait_workers(0, scaled(3))
        worker.signal(signal.SIGCONT)
        h.wait_workers(1)

    def test_live_worker_with_a_long_job_is_not_taken_for_dead(self):
        h = self.hub("--heartbeat", "50ms", "--heartbeat-missed", "8")
        self.worker(h)
        self.assertEqual(self.get(h, "/slowpoke?ms=1500").status, 200)
        self.assertEqual(h.status()["workers"], 1)
        self.assertEqual(len(self.logged("started")), 1)

    def test_hub_that_stops_for_a_while(self):
        """Its own pause must not make it think that all workers died."""
        h = self.hub("--heartbeat", "100ms", "--heartbeat-missed", "3")
        self.worker(h)
        client = self.client(h)
        client.send(request_bytes("POST", "/sleep?ms=900", [], b"x"))
        wait_until(lambda: self.logged("started"), 5)
        h.signal(signal.SIGSTOP)
        end = time.monotonic() + 0.7
        wait_until(lambda: time.monotonic() > end, 2)
        h.signal(signal.SIGCONT)
        self.assertEqual(client.response().status, 200)


class HubRestarts(Case):
    def test_worker_reconnects_by_itself(self):
        path = self.directory + "/workers.sock"
        h = self.hub(worker_listen=f"unix:{path}")
        worker = self.worker(h, address=f"unix:{path}", slots=3)
        self.assertEqual(self.get(h, "/hello").text, "hello")
        h.ended = True
        h.kill()
        second = self.hub(worker_listen=f"unix:{path}")  # the dead one's socket file must not be in its way
        second.wait_worker(worker.id, 3, scaled(15))
        self.assertEqual(self.get(second, "/hello").text, "hello")
        self.assertTrue(worker.alive())

    def test_running_jobs_hear_that_the_hub_is_gone(self):
        h = self.hub()
        self.worker(h)
        client = self.client(h)
        client.send(request_bytes("GET", "/sleep?ms=60000"))
        wait_until(lambda: self.logged("started"), 5)
        h.ended = True
        h.kill()
        wait_until(lambda: self.logged("cancelled"), 5, "the handler hears of it")

    def test_worker_started_before_its_hub(self):
        path = self.directory + "/workers.sock"
        worker = self.start_worker_without_hub(path)
        wait_until(lambda: worker.stderr(), 5, "the worker says that it cannot connect")
        h = self.hub(worker_listen=f"unix:{path}")
        h.wait_worker(worker.id, 1, scaled(15))
        self.assertEqual(self.get(h, "/hello").text, "hello")

    def start_worker_without_hub(self, path):
        worker = Worker("early", self.directory, None, address=f"unix:{path}")
        self._processes.append(worker)
        return worker

    def test_worker_of_two_hubs(self):
        one, two = self.hub(), self.hub()
        worker = self.worker([one, two], slots=2, wait=False)
        one.wait_worker(worker.id)
        two.wait_worker(worker.id)
        self.assertEqual(self.get(one, "/hello").text, "hello")
        self.assertEqual(self.get(two, "/hello").text, "hello")
        one.ended = True
        one.kill()
        self.assertEqual(self.get(two, "/hello").text, "hello")


class SlowClients(Case):
    def test_slow_reader_is_closed(self):
        h = self.hub("--body-timeout", "400ms")
        self.worker(h, offer=["source", "hello"])
        clients = [self.client(h, receive_buffer=4096) for _ in range(5)]
        for client in clients:
            client.send(request_bytes("GET", "/source?bytes=50000000"))
        wait_until(lambda: len(self.logged("cancelled")) == 5, 15, "all five were cut")
        h.wait_idle()
        self.assertEqual(self.get(h, "/hello").text, "hello")
        with self.assertRaises((Closed, OSError)):
            clients[0].response()

    def test_slow_writers_are_closed(self):
        h = self.hub("--head-timeout", "400ms", "--body-timeout", "400ms")
        self.worker(h)
        clients = [self.client(h) for _ in range(100)]
        for i, client in enumerate(clients):
            client.send(b"GET /hello HTTP/1.1\r\nHo" if i % 2 else
                        b"POST /sink HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc")
        for client in clients:
            self.assertEqual(client.response().status, 408)
            client.assert_closed()
        h.wait_idle()

    def test_slow_loris_does_not_keep_others_out(self):
        h = self.hub("--head-timeout", "2s")
        self.worker(h)
        for _ in range(300):
            self.client(h).send(b"GET /hello HTTP/1.1\r\n")
        begin = time.monotonic()
        for _ in range(20):
            self.assertEqual(self.get(h, "/hello").text, "hello")
        self.assertLess(time.monotonic() - begin, scaled(1))


class WrongGuesses(Case):
    def test_handlers_that_are_suddenly_slow_leave_somebody_to_lead(self):
        """After a streak of quick jobs of a service, slow ones of the same: heartbeats and quick ones go on."""
        h = self.hub("--heartbeat", "300ms")
        self.worker(h, slots=3, offer=["stubborn"])
        with Client(h.listen) as quick:
            for _ in range(300):
                self.assertEqual(quick.request("GET", "/stubborn?ms=0").status, 200)
        slow = [self.client(h) for _ in range(2)]
        for client in slow:
            client.send(request_bytes("POST", "/stubborn?ms=3000", body=b"x"))
        h.wait_running(2)
        begin = time.monotonic()
        self.assertEqual(self.get(h, "/stubborn?ms=0").status, 200)
        self.assertLess(time.monotonic() - begin, scaled(1))
        for client in slow:
            self.assertEqual(client.response("POST").status, 200)


class HandedBack(Case):
    def test_no_slots_and_an_answer_in_one_piece(self):
        """SETTINGS come in the turn in which the core has chosen this worker: the job goes to another one."""
        h = self.hub()
        fake = FakeWorker(self, h, "hello", slots=1)
        h.wait_worker("fake", 1)
        clients = [self.client(h) for _ in range(2)]
        clients[0].send(request_bytes("GET", "/hello"))
        stream = fake.wait_request()
        clients[1].send(request_bytes("GET", "/hello"))
        h.wait_queued(1)
        fake.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, header_block([(":status", "204")])) +
                  frame(SETTINGS, 0, 0, bytes((0, 3, 0, 0, 0, 0))))
        self.assertEqual(clients[0].response().status, 204)
        self.worker(h, offer=["hello"])
        self.assertEqual(clients[1].response().text, "hello")

    def test_a_lost_hub_does_not_free_the_slots_of_handlers(self):
        """A handler that runs on when its hub has gone keeps its slot at the hub that comes back."""
        path = os.path.join(self.directory, "workers")
        h = self.hub(worker_listen=f"unix:{path}")
        self.worker(h, slots=2, offer=["stubborn"])
        clients = [self.client(h) for _ in range(2)]
        for client in clients:
            client.send(request_bytes("GET", "/stubborn?ms=4000"))
        wait_until(lambda: len(self.logged("started")) == 2, 5, "both handlers run")
        h.kill()
        h.ended = True
        again = self.hub(worker_listen=f"unix:{path}")
        status = again.wait_workers(1)
        self.assertEqual(status["slots"], 0)
        again.wait_status(lambda s: s["slots"] == 2, 8, "the handlers have returned")

    def test_refused_stream_is_run_elsewhere_even_a_post(self):
        h = self.hub()
        fake = FakeWorker(self, h, "hello", slots=1)
        h.wait_worker("fake", 1)
        client = self.client(h)
        client.send(request_bytes("POST", "/hello", [], b"x"))
        stream = fake.wait_request()
        self.worker(h, offer=["hello"])
        fake.settings([(3, 0)])
        fake.reset(stream, 0x7)
        self.assertEqual(client.response().text, "hello")
        self.assertEqual(self.logged("started")[0][4], "1")  # not an attempt used


if __name__ == "__main__":
    main()
