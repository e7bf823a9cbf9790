#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A worker process that outlives its hub: it dials in again and again, and notes each execution.

    worker.py NAME HOST:PORT SLOTS RECORD-FILE SEED

Reverse HTTP/1.1, one connection for each slot. Its answer begins with a line of JSON that says which execution has
made it, for which job, and from what; then come as many bytes as ?fill= says. Services: work; first, which forwards to
second, which forwards to third; flaky, which may fail twice; bad, which refuses; doomed, which always fails.
"""

import hashlib
import itertools
import json
import os
import random
import socket
import sys
import threading
import time
from urllib.parse import parse_qs, urlsplit

from history import Recorder, now

SERVICES = "work first second third flaky bad doomed".split()
FORWARDS = {"first": "second", "second": "third"}


class Gone(Exception):
    pass


class Slot(threading.Thread):
    numbers = itertools.count(1)

    def __init__(self, name, address, record, seed):
        super().__init__()
        self.name, self.address, self.record, self.random = name, address, record, random.Random(seed)

    def run(self):
        while True:
            try:
                self.serve()
            except (OSError, Gone):
                time.sleep(0.01 + self.random.random() * 0.03)  # and again

    def serve(self):
        self.conn, self.data = now(), b""
        with socket.create_connection(self.address, timeout=10) as self.sock:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock.sendall(f"GET /.well-known/ptth/http%3A%2F%2Fwork/ HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\n"
                              f"Upgrade: ptth\r\nALPN: http%2F1.1\r\nWeir-Worker: {self.name}\r\n"
                              f"Weir-Service: {','.join(SERVICES)}\r\n\r\n".encode())
            if not self.head().startswith("HTTP/1.1 101 "):
                raise Gone
            self.sock.settimeout(None)
            while True:
                self.answer(*self.request())

    def more(self):
        piece = self.sock.recv(1 << 18)
        if not piece:
            raise Gone
        self.data += piece

    def head(self):
        while b"\r\n\r\n" not in self.data:
            self.more()
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        return head.decode("latin-1")

    def take(self, size):
        while len(self.data) < size:
            self.more()
        piece, self.data = self.data[:size], self.data[size:]
        return piece

    def request(self):
        line, *fields = self.head().split("\r\n")
        headers = {n.lower(): v.strip() for n, _, v in (f.partition(":") for f in fields)}
        if "content-length" in headers:
            return line, headers, self.take(int(headers["content-length"]))
        body = b""
        while "transfer-encoding" in headers:
            while b"\r\n" not in self.data:
                self.more()
            size, self.data = self.data.split(b"\r\n", 1)
            piece = self.take(int(size, 16) + 2)[:-2]
            body += piece
            if not piece:
                break
        return line, headers, body

    def answer(self, line, headers, body):
        query = {k: v[-1] for k, v in parse_qs(urlsplit(line.split(" ")[1]).query).items()}
        service, job, attempt = headers["weir-service"], headers["weir-durable"], int(headers["weir-attempt"])
        name, payload = f"{self.name}.{next(self.numbers)}", hashlib.sha256(body).hexdigest()
        same = {"exec": name, "job": job, "token": query.get("token"), "service": service}
        self.record.add("begin", at=now(), hop=int(headers["weir-hop"]), attempt=attempt, sha=payload, conn=self.conn, **same)
        time.sleep(int(query.get("ms", 0)) / 1000)
        kind, status, extra = "answered", 200, ""
        if service in FORWARDS:
            kind, extra = "forward", f"Weir-Forward: {FORWARDS[service]}\r\n"
            answer = body
        else:
            if service == "bad":
                status = 404
            elif service == "doomed" or (service == "flaky" and attempt <= 2 and self.random.random() < 0.5):
                kind, status = "failed", 503
            fill = hashlib.sha256(name.encode()).digest() * (int(query.get("fill", 0)) // 32)
            said = {"exec": name, "job": job, "token": query.get("token"), "payload": payload}
            answer = json.dumps(said).encode() + b"\n" + fill
        self.record.add("end", at=now(), kind=kind, status=status, answer=hashlib.sha256(answer).hexdigest(), **same)
        self.sock.sendall(f"HTTP/1.1 {status} Answer\r\n{extra}Content-Length: {len(answer)}\r\n\r\n".encode() + answer)


def main(name, address, slots, path, seed):
    host, port = address.rsplit(":", 1)
    record = Recorder(path)
    for i in range(int(slots)):
        Slot(f"{name}-{os.getpid()}", (host, int(port)), record, f"{seed} {i}").start()


if __name__ == "__main__":
    main(*sys.argv[1:])
