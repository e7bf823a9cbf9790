#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Keyed services: order and one at a time for each key, whatever happens to the workers. WEIRTEST_SECONDS: how long the
great upheaval lasts (10; `make test-keyed` takes 60)."""

import collections
import heapq
import os
import random
import selectors
import time

from weirtest import Case, main, request_bytes, slow, wait_until

SECONDS = float(os.environ.get("WEIRTEST_SECONDS", "10"))
KEYED = ("--service", "keyed.key=header weir-key")


class Pairs:
    """Streams of two requests each for one key, the second 20 ms after the first, over kept connections."""

    def __init__(self, case, hub, pairs, keys, seed=1):
        self.selector, self.random, self.keys = selectors.DefaultSelector(), random.Random(seed), keys
        self.seqs, self.busy, self.timers = collections.Counter(), set(), []
        self.failures, self.answered, self.stopping = [], 0, False
        self.conns = [[case.client(hub) for _ in range(2)] for _ in range(pairs)]
        self.state = [None] * pairs
        for i, pair in enumerate(self.conns):
            for client in pair:
                client.sock.setblocking(False)
                self.selector.register(client.sock, selectors.EVENT_READ, (i, client))
        for i in range(pairs):
            self.begin(i)

    def begin(self, i):
        key = self.random.randrange(self.keys)
        while key in self.busy:
            key = self.random.randrange(self.keys)
        self.busy.add(key)
        self.state[i] = {"key": key, "left": 2, "data": {}}
        self.send(i, 0)
        heapq.heappush(self.timers, (time.monotonic() + 0.02, i))

    def send(self, i, which):
        key = self.state[i]["key"]
        self.seqs[key] += 1
        target = f"/keyed?seq={self.seqs[key]}&ms={self.random.choice((0, 0, 1, 2, 5))}"
        self.conns[i][which].sock.sendall(request_bytes("GET", target, [("Weir-Key", f"k{key}")]))

    def on_data(self, i, client):
        data = client.sock.recv(65536)
        state = self.state[i]
        seen = state["data"].get(client, b"") + data
        state["data"][client] = seen
        head, blank, body = seen.partition(b"\r\n\r\n")
        if not data:
            raise AssertionError(f"the hub closed a connection after {seen!r}")
        if not blank:
            return
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        if len(body) < length:
            return
        if head.split()[1] != b"200":
            self.failures.append(seen)
        state["left"] -= 1
        self.answered += 1
        del state["data"][client]
        if state["left"] == 0:
            self.busy.discard(state["key"])
            self.state[i] = None
            if not self.stopping:
                self.begin(i)

    def run(self, seconds):
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            while self.timers and self.timers[0][0] <= now:
                self.send(heapq.heappop(self.timers)[1], 1)
            wait = min(self.timers[0][0] if self.timers else end, end) - now
            for key, _ in self.selector.select(max(0, wait)):
                self.on_data(*key.data)

    def finish(self, limit=30):
        self.stopping = True
        end = time.monotonic() + limit
        while any(self.state):
            if time.monotonic() > end:
                raise AssertionError(f"{sum(s is not None for s in self.state)} pairs were not answered")
            self.run(0.1)


class Keyed(Case):
    def keyed(self, count=8, slots=2):
        self.h = self.hub(*KEYED)
        return [self.worker(self.h, offer=["keyed"], slots=slots) for _ in range(count)]

    def ring(self):
        return self.h.service("keyed")["ring"]

    def wait_members(self, n):
        wait_until(lambda: (r := self.ring())["members"] == n and r["phase"] == "stable", 10, f"{n} members")

    def owner(self, client, key):
        return client.request("GET", "/keyed", [("Weir-Key", key)]).text

    def owners(self, keys):
        client = self.client(self.h)
        return {k: self.owner(client, f"k{k}") for k in range(keys)}

    def test_one_worker_for_a_key(self):
        self.keyed(3)
        self.wait_members(3)
        first = self.owners(200)
        self.assertEqual(first, self.owners(200))
        self.assertEqual(len(set(first.values())), 3)

    def test_no_key(self):
        self.keyed(1)
        self.assertIn("key", str(self.assert_problem(self.get(self.h, "/keyed"), 400)))
        self.assert_problem(self.get(self.h, "/keyed", [("Weir-Key", "x" * 1025)]), 400)
        self.assertEqual(self.get(self.h, "/keyed", [("Weir-Key", "x" * 1024)]).status, 200)

    def test_keys_from_query_and_path(self):
        h = self.h = self.hub("--service", "keyed.key=query user", "--service", "pid.key=path 2")
        for _ in range(4):
            self.worker(h, offer=["keyed", "pid"])
        self.wait_members(4)
        for at in ("/keyed?a=b&user={}", "/pid/{}/more?x"):
            owners = {k: {self.get(h, at.format(k)).text for _ in range(3)} for k in range(30)}
            self.assertTrue(all(len(pids) == 1 for pids in owners.values()), owners)
            self.assertGreater(len(set.union(*owners.values())), 1)
            self.assert_problem(self.get(h, at.split("{}")[0].replace("user=", "")), 400)

    def test_in_order_and_one_at_a_time(self):
        """20 requests for one key while its worker is busy with the first, with different priorities."""
        self.keyed(4)
        clients = [self.client(self.h) for _ in range(20)]
        for i, client in enumerate(clients):
            client.send(request_bytes("GET", f"/keyed?seq={i}&ms={300 if i == 0 else 5}",
                                      [("Weir-Key", "k"), ("Weir-Priority", str(9 - i % 10))]))
            self.h.wait_status(lambda s: s["queued"] + s["running"] == i + 1, 5, f"request {i} is there")
        self.assertEqual({c.response().status for c in clients}, {200})
        self.assertEqual([int(line[2]) for line in self.logged("begin")], list(range(20)))
        self.check_log({})

    def test_a_cancelled_job_keeps_its_key_until_its_slot_is_free(self):
        self.keyed(2)
        first, second = self.client(self.h), self.client(self.h)
        first.send(request_bytes("GET", "/keyed?seq=1&ms=700", [("Weir-Key", "k")]))
        wait_until(lambda: self.logged("begin"), 5)
        first.close()
        second.send(request_bytes("GET", "/keyed?seq=2", [("Weir-Key", "k")]))
        self.assertEqual(second.response().status, 200)
        self.assertEqual([line[0] for line in self.logged("begin") + self.logged("end")].count("end"), 2)
        self.check_log({})

    def test_a_worker_that_comes_back_has_its_keys_again(self):
        h = self.h = self.hub(*KEYED)
        names = {}
        for name in ("one", "two", "three"):
            names[name] = self.worker(h, offer=["keyed"], id=name)
        self.wait_members(3)
        before = self.owners(300)
        pid = str(names["two"].pid)
        names["two"].stop()
        self.wait_members(2)
        between = self.owners(300)
        moved = [k for k in before if between[k] != before[k]]
        self.assertTrue(all(before[k] == pid for k in moved))
        again = self.worker(h, offer=["keyed"], id="two")
        self.wait_members(3)
        after = self.owners(300)
        self.assertEqual({k for k in after if after[k] == str(again.pid)}, {k for k in before if before[k] == pid})

    def test_without_workers_they_wait(self):
        h = self.h = self.hub(*KEYED)
        client = self.client(h)
        client.send(request_bytes("GET", "/keyed", [("Weir-Key", "k")]))
        h.wait_queued(1)
        self.worker(h, offer=["keyed"])
        self.assertEqual(client.response().status, 200)

    def test_labels_do_not_go_with_keys(self):
        process = self.start("bad", [os.environ.get("WEIR", "weir"), "check", "--service", "a.key=path 1",
                                     "--service", "a.require=gpu"])
        self.assertEqual(process.wait(), 2)

    @slow(SECONDS + 60)
    def test_upheaval(self):
        """Each second one worker comes and one dies. No key is at two workers at once, or out of order."""
        keys = 10000 if SECONDS >= 60 else 3000
        workers, killed, moves = self.keyed(8), {}, []
        self.wait_members(8)
        load = Pairs(self, self.h, 64, keys)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            load.run(0.4)
            workers.append(self.worker(self.h, offer=["keyed"], slots=2, wait=False))
            load.run(0.3)
            moves.append((self.ring()["moved"], 9))
            victim = workers.pop(random.randrange(len(workers) - 1))
            victim.kill()
            with open(self.log_path, "a") as log:  # whatever it wrote stands before this line
                log.write(f"killed {victim.pid}\n")
            load.run(0.3)
            moves.append((self.ring()["moved"], 9))
        load.finish()
        self.assertEqual(load.failures, [])
        runs = self.check_log(load.seqs)
        worst = max(moved * n / 16384 for moved, n in moves)
        self.assertLess(worst, 1.25)
        print(f"{load.answered} answered, {runs} runs, {len(moves)} changes, at most {worst:.2f} of a share moved")

    def check_log(self, seqs):
        """Each key: begun only when what was begun before has ended, or its worker is dead; in order; all."""
        open_runs, last, runs, dead, lost = {}, {}, 0, set(), 0
        pending = {}
        for line in open(self.log_path):
            word, *rest = line.split()
            if word == "killed":
                dead.add(rest[0])
            if word not in ("begin", "end"):
                continue
            key, seq, pid = rest[0], int(rest[1]), rest[2]
            if word == "begin":
                runs += 1
                before = open_runs.get(key)
                if before is not None:
                    pending.setdefault(before[1], []).append((key, before, seq))  # its worker must have died
                    self.assertEqual(before[0], seq, f"{key}: {seq} begun while {before} runs")
                    lost += 1
                self.assertGreaterEqual(seq, last.get(key, 0), f"{key}: {seq} after {last.get(key)}")
                open_runs[key] = (seq, pid)
                last[key] = seq
            else:
                self.assertEqual(open_runs.pop(key, None), (seq, pid), f"{key}: end of {seq} by {pid}")
        for pid, cases in pending.items():
            self.assertIn(pid, dead, f"{cases} were begun again although their worker lives")
        for key, seq in seqs.items():
            self.assertEqual(last.get(f"k{key}"), seq, f"k{key}")
        self.assertEqual([r for r in open_runs.values() if r[1] not in dead], [])
        return runs


if __name__ == "__main__":
    main()
