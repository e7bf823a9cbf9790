#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A worker over ZeroMQ (docs/protocol.md): zmq_worker.py [tcp://127.0.0.1:8082] [SERVICE]. Needs pyzmq."""
import os
import signal
import sys
import zmq

endpoint, service = (sys.argv[1:] + ["tcp://127.0.0.1:8082", "hello"][len(sys.argv) - 1:])[:2]
hub = zmq.Context().socket(zmq.DEALER)
hub.connect(endpoint)
stopping, bodies = [], {}  # bodies: of jobs that come in pieces, with their heads
say = lambda *frames: hub.send_multipart([f if isinstance(f, bytes) else str(f).encode() for f in ("W1", *frames)])
ready = lambda: say("READY", f"python-{os.getpid()}", service, 1, "lang=python")

def answer(job, head, body):
    say("ACK", job)
    method, target, _ = head.decode("latin-1").split("\r\n")[0].split(" ")
    text = f"hello from {os.getpid()}: {method} {target}, {len(body)} bytes\n".encode()
    say("REPLY", job, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n", text)
    if not stopping: say("SLOTS", 1)

def hear(kind, job=b"", *rest):
    if kind == b"JOB": answer(job, *rest)
    elif kind == b"HEAD": bodies[job] = (rest[0], bytearray())
    elif kind == b"BODY" and job in bodies: bodies[job][1].extend(rest[0]), say("MORE", job, len(rest[0]))
    elif kind == b"END" and job in bodies: answer(job, *bodies.pop(job))
    elif kind == b"CANCEL" and bodies.pop(job, None): say("FAIL", job, 0, "cancelled"), say("SLOTS", 1)
    elif kind == b"PING": say("PONG")
    elif kind == b"ERROR" and job == b"not attached": bodies.clear(), ready()
    elif kind == b"ERROR": sys.exit(job.decode())

signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
ready()
while not stopping or bodies:
    hear(*hub.recv_multipart()[1:]) if hub.poll(1000) else say("PING")
say("BYE")
while hub.poll(1000) and (frames := hub.recv_multipart()[1:])[0] != b"BYE":
    if frames[0] in (b"JOB", b"HEAD"): say("FAIL", frames[1], 1, "leaving")  # it was on its way
