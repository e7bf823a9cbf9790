#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clients of a hub that is killed again and again: a process with some threads, each with a connection of its own.

    clients.py jobs|topics HOST:PORT RECORD-FILE SEED       until SIGTERM

They do what real clients do: who got no answer tries again, with the same Idempotency-Key where there is one. All that
they ask and hear is recorded, see history.py.
"""

import collections
import hashlib
import http.client
import json
import random
import signal
import socket
import sys
import threading
import time

from history import Recorder, now

PATIENCE = 30  # s: nothing takes longer
FINAL = ("done", "failed", "cancelled", "dead")
CHAINS = {"work": ["work"], "first": ["first", "second", "third"], "second": ["second", "third"], "flaky": ["flaky"],
          "bad": ["bad"], "doomed": ["doomed"]}
ROUTES = [arg for service in (*CHAINS, "third") for arg in ("--route", f"/{service}={service}")]


def sha(data):
    return hashlib.sha256(data).hexdigest()


class Broken(Exception):
    """No answer. refused: nobody was there to be asked."""

    def __init__(self, refused=False):
        super().__init__()
        self.refused = refused


class Hub:
    """A connection to the hub, made again as often as needed."""

    def __init__(self, address, record, client):
        self.address, self.record, self.client, self.http, self.since = address, record, client, None, None

    def connect(self):
        self.since = now()
        self.http = http.client.HTTPConnection(*self.address, timeout=PATIENCE)
        try:
            self.http.connect()
            if self.http.sock.getsockname() == self.http.sock.getpeername():
                raise OSError("to itself")  # as TCP allows when nobody listens
        except OSError:
            self.close()
            raise Broken(refused=True) from None

    def close(self):
        if self.http:
            self.http.close()
        self.http = None

    def ask(self, op, method, target, body=None, headers=(), more=lambda r, headers, data: {}, patience=PATIENCE, **fields):
        """Records it; more gives what to record of the answer. The record, as a dict; or Broken."""
        if not self.http:
            self.connect()
        self.http.sock.settimeout(patience)
        note = {"client": self.client, "conn": self.since, **fields, "asked": now(), "answered": None, "status": None}
        try:
            self.http.request(method, target, body, dict(headers))
            response = self.http.getresponse()
            data = response.read()
            note.update(answered=now(), status=response.status)
            note.update(more(response.status, response.headers, data))
            if response.will_close:
                self.close()
            return note
        except TimeoutError:
            note["left" if patience < PATIENCE else "late"] = patience
            note["broke"] = now()
            self.close()
            raise Broken() from None
        except (OSError, http.client.HTTPException):
            note["broke"] = now()
            self.close()
            raise Broken() from None
        finally:
            self.record.add(op, **note)

    # ---- jobs ----

    def submit(self, token, service, body, key=None, wait=None, query=""):
        headers = {"Prefer": "respond-async" + (f", wait={wait}" if wait else ""), "Content-Type": "application/octet-stream"}
        if key:
            headers["Idempotency-Key"] = key

        def more(status, _, data):
            return {"job": json.loads(data)["id"]} if status == 202 else made_by_a_worker(data)
        return self.ask("submit", "POST", f"/{service}?token={token}{query}", body, headers, more, token=token, key=key,
                        chain=CHAINS[service], sha=sha(body), size=len(body))

    def state(self, job):
        def more(status, _, data):
            shown = json.loads(data)
            return {"state": shown["state"], "ended": shown.get("ended")} if status == 200 else {}
        return self.ask("state", "GET", f"/-/jobs/{job}", more=more, job=job)

    def result(self, job, wait=None):
        def more(status, _, data):
            return made_by_a_worker(data) or ({"state": json.loads(data)["state"]} if status == 202 else {})
        return self.ask("result", "GET", f"/-/jobs/{job}/result" + (f"?wait={wait}" if wait else ""), more=more, job=job)

    def cancel(self, job):
        return self.ask("cancel", "DELETE", f"/-/jobs/{job}", job=job)

    def listed(self, after=None, query=""):
        def more(_status, _, data):
            page = json.loads(data)
            return {"jobs": [j["id"] for j in page["jobs"]], "next": page["next"]}
        return self.ask("listed", "GET", f"/-/jobs?limit=500{query}" + (f"&after={after}" if after else ""), more=more)

    # ---- topics ----

    def subscribe(self, topic, sub):
        return self.ask("subscribe", "POST", f"/-/topics/{topic}/{sub}", topic=topic, sub=sub)

    def unsubscribe(self, topic, sub):
        return self.ask("unsubscribe", "DELETE", f"/-/topics/{topic}/{sub}", topic=topic, sub=sub)

    def publish(self, topic, pub, body):
        return self.ask("publish", "POST", f"/-/topics/{topic}", body, {"Content-Type": "application/x-message"},
                        topic=topic, pub=pub, sha=sha(body), size=len(body))

    def read(self, topic, sub, explicit, wait=None, final=False, patience=PATIENCE):
        query = [q for q in ("ack=explicit" if explicit else "", f"wait={wait}" if wait else "") if q]

        def more(status, headers, data):
            if status != 200:
                return {}
            return {"message": int(headers["Weir-Message"]), "sha": sha(data),
                    "pub": data.split(b"\n", 1)[0].decode("latin-1"), "size": len(data)}
        return self.ask("read", "GET", f"/-/topics/{topic}/{sub}" + ("?" + "&".join(query) if query else ""), more=more,
                        patience=patience, topic=topic, sub=sub, explicit=explicit, final=final)

    def ack(self, read):
        topic, sub, message = read["topic"], read["sub"], read["message"]
        return self.ask("ack", "DELETE", f"/-/topics/{topic}/{sub}/{message}", topic=topic, sub=sub, message=message,
                        pub=read["pub"])


def made_by_a_worker(data):
    line = data.split(b"\n", 1)[0]
    if not line.startswith(b'{"exec"'):
        return {}
    return {"answer": {**json.loads(line), "sha": sha(data)}}


class Actor(threading.Thread):
    """Does something again and again."""

    def __init__(self, world, name, *args):
        super().__init__(name=name, daemon=True)
        self.world, self.args, self.random = world, args, random.Random(f"{world.seed} {name}")
        self.hub = Hub(world.address, world.record, name)
        self.count = 0

    def run(self):
        try:
            while not self.world.stop.is_set():
                try:
                    self.act(*self.args)
                except Broken:
                    self.pause(0.02)
            self.hub.close()
        except BaseException:
            self.world.failed = True
            raise

    def pause(self, seconds):
        time.sleep(seconds * 2 * self.random.random())  # so much on average

    def chance(self, p):
        return self.random.random() < p

    def new_name(self):
        self.count += 1
        return f"{self.name}.{self.count}"

    def size(self):
        """Most bodies are small; some are longer than what is kept in the database."""
        r = self.random.random()
        if r < 0.8:
            return self.random.randrange(1, 1000)
        return self.random.randrange(1000, 60000) if r < 0.94 else self.random.randrange(65536, 250000)

    def until_answered(self, request, told=lambda answer: answer["status"] in (200, 404)):
        """A client that must know: it asks until it is told."""
        while True:
            try:
                answer = request()
                if told(answer):
                    return answer
            except Broken:
                pass
            if self.world.stop.is_set():
                raise Broken()
            self.pause(0.02)


class Submitter(Actor):
    def __init__(self, *args):
        super().__init__(*args)
        self.keyed = collections.deque(maxlen=20)  # to be sent again

    def act(self):
        self.pause(0.03)
        if self.keyed and self.chance(0.1):
            order = self.random.choice(self.keyed)
        else:
            order = self.order()
        if order["key"]:
            answer = self.until_answered(lambda: self.hub.submit(**order), self.job_of)
            self.keyed.append(order)
        else:
            answer = self.hub.submit(**order)
        if job := self.job_of(answer):
            self.world.jobs.append(job)
            self.world.recent.append(job)

    @staticmethod
    def job_of(answer):
        return answer.get("job") or answer.get("answer", {}).get("job")

    def order(self):
        token = self.new_name()
        service = self.random.choices(list(CHAINS), [8, 4, 2, 2, 1, 0.3])[0]
        ms = self.random.choice([0, 0, 1, 5, 20, 80, 150])
        fill = self.random.choice([0, 0, 0, 0, 0, 0, 0, 2000, 20000, 150000])
        return {"token": token, "service": service, "body": self.random.randbytes(self.size()),
                "key": token if self.chance(0.5) else None, "wait": 1 if self.chance(0.15) else None,
                "query": f"&ms={ms}&fill={fill}"}


class Waiter(Actor):
    def act(self):
        jobs = self.world.recent if self.chance(0.8) else self.world.jobs
        if not jobs:
            return self.pause(0.02)
        job, r = self.random.choice(jobs), self.random.random()
        if r < 0.06:
            self.hub.cancel(self.world.recent[-1] if self.chance(0.7) else job)
        elif r < 0.5:
            self.hub.state(job)
        else:
            self.hub.result(job, wait="300ms" if r < 0.8 else None)
        return self.pause(0.008)


class Publisher(Actor):
    def act(self, topics):
        self.pause(0.02)
        pub = self.new_name()
        self.hub.publish(self.random.choice(topics), pub, f"{pub}\n".encode() + self.random.randbytes(self.size()))


class Reader(Actor):
    """Of a subscription that stays. Some readers lose their patience, or forget what they have read."""

    subscribed = False

    def act(self, topic, sub, explicit):
        if not self.subscribed:
            self.until_answered(lambda: self.hub.subscribe(topic, sub))
            self.subscribed = True
        wait = self.random.choice([None, "50ms", "500ms"])
        patience = 0.02 if wait == "500ms" and self.chance(0.1) else PATIENCE
        read = self.hub.read(topic, sub, explicit, wait, patience=patience)
        if read["status"] != 200:
            return self.pause(0.02)
        if not explicit or self.chance(0.1):
            return None
        self.pause(self.random.choice([0, 0, 0.005, 0.2]))
        return self.until_answered(lambda: self.hub.ack(read))


class Churner(Actor):
    """Subscribes, reads, ends it."""

    def act(self, topic, sub):
        sub = sub if self.chance(0.5) else self.new_name()
        if self.chance(0.8):
            self.until_answered(lambda: self.hub.subscribe(topic, sub))
        self.pause(0.05)
        for _ in range(self.random.randrange(30)):
            self.hub.read(topic, sub, False)
            self.pause(0.005)
        if self.chance(0.8):
            self.hub.unsubscribe(topic, sub)
        if self.chance(0.5):
            self.hub.read(topic, sub, False)


STAYING = [("t0", "a", False), ("t0", "b", False), ("t0", "c", True), ("t1", "d", False), ("t1", "e", True)]


class World:
    def __init__(self, address, record, seed):
        host, port = address.rsplit(":", 1)
        self.address, self.record, self.seed = (host, int(port)), record, seed
        self.stop, self.failed = threading.Event(), False
        self.jobs, self.recent = collections.deque(), collections.deque(maxlen=60)

    def actors(self, role):
        if role == "jobs":
            return [Submitter(self, f"submitter{i}") for i in range(5)] + [Waiter(self, f"waiter{i}") for i in range(3)]
        readers = [Reader(self, f"reader-{sub}{i}", topic, sub, explicit) for topic, sub, explicit in STAYING
                   for i in range(2 if sub in "bc" else 1)]
        return readers + [Publisher(self, f"publisher{i}", ["t0", "t1", "t1", "t2"]) for i in range(3)] \
            + [Churner(self, f"churner{i}", topic, f"churn{i}") for i, topic in enumerate(("t1", "t2"))]


def main(role, address, path, seed):
    world = World(address, Recorder(path), seed)
    signal.signal(signal.SIGTERM, lambda *_: world.stop.set())
    socket.setdefaulttimeout(PATIENCE)
    actors = world.actors(role)
    for actor in actors:
        actor.start()
    for actor in actors:
        actor.join()
    return 1 if world.failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
