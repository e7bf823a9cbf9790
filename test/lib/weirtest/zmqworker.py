# SPDX-License-Identifier: Apache-2.0
"""A worker made by hand that speaks ZeroMQ: it sends exact frames, and may break every rule."""

import time

import zmq

OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n"


def frame(value):
    return value if isinstance(value, bytes) else str(value).encode()


class ZmqJob:
    """What JOB or HEAD brought."""

    def __init__(self, kind, job, head, body):
        self.kind, self.id, self.body = kind, job, body
        line, *fields = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        self.method, self.target, self.version = line.split(" ")
        self.headers = [tuple(f.split(": ", 1)) for f in fields]

    def header(self, name):
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)


class ZmqWorker:
    """slots None: it does not say READY. beats: PINGs are answered by themselves."""

    def __init__(self, case, hub_or_endpoint, service="s", slots=1, worker="z", labels="", token=None, limit=10.0,
                 beats=True, routing_id=None, curve=None):
        self.limit, self.beats = limit, beats
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        if routing_id is not None:
            self.socket.routing_id = routing_id
        if curve:
            self.socket.curve_publickey, self.socket.curve_secretkey = zmq.curve_keypair()
            self.socket.curve_serverkey = curve
        self.socket.connect(getattr(hub_or_endpoint, "endpoints", [hub_or_endpoint])[0])
        case.addCleanup(self.close)
        if slots is not None:
            self.ready(service, slots, worker, labels, token)
            self.expect("PING")
            self.say("PONG")

    def close(self):
        if not self.socket.closed:
            self.socket.close(0)
        self.context.term()

    def raw(self, *frames):
        self.socket.send_multipart([frame(f) for f in frames])

    def say(self, kind, *frames):
        self.raw("W1", kind, *frames)

    def ready(self, service="s", slots=1, worker="z", labels="", token=None):
        self.say("READY", worker, service, slots, labels, *([token] if token is not None else []))

    def hear(self, limit=None):
        """The frames behind "W1" of the next message; None: there is none in time."""
        if not self.socket.poll(int((self.limit if limit is None else limit) * 1000)):
            return None
        first, *frames = self.socket.recv_multipart()
        assert first == b"W1", first
        return frames

    def next(self, limit=None):
        """As hear, without the heartbeats."""
        end = time.monotonic() + (self.limit if limit is None else limit)
        while frames := self.hear(max(0, end - time.monotonic())):
            if frames == [b"PING"] and self.beats:
                self.say("PONG")
            elif frames != [b"PONG"]:
                return frames
        return None

    def expect(self, kind, limit=None):
        """The frames behind the kind of the next message, which must be of that kind. Credit for bodies is passed over."""
        frames = self.hear(limit) if kind in ("PING", "PONG") else self.next(limit)
        while frames and frames[0] == b"MORE" and kind != "MORE":
            frames = self.next(limit)
        if not frames or frames[0] != frame(kind):
            raise AssertionError(f"{kind} was expected, and came: {frames}")
        return frames[1:]

    def job(self, kind="JOB"):
        job, head, *body = self.expect(kind)
        return ZmqJob(kind, job, head, body[0] if body else None)

    def reply(self, job, body=b"", head=OK):
        self.say("REPLY", job.id, head, body)
