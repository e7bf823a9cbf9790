# SPDX-License-Identifier: Apache-2.0
"""A worker made by hand that speaks reverse HTTP/1.1: it may answer exact bytes, and break every rule."""

import threading
from http.server import BaseHTTPRequestHandler

from .h2 import Handshake
from .http import Client


class Request:
    def __init__(self, method, target, headers):
        self.method, self.target, self.headers, self.body = method, target, headers, b""

    def header(self, name):
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)


class H1Worker:
    """One connection, which is one slot. service None: to a listener for workers that say nothing."""

    def __init__(self, case, address, service="s", worker=None, limit=10.0):
        self.client = Client(address, limit=limit)
        case._clients.append(self.client)
        if service is None:
            return
        self.client.send(Handshake(service, worker, alpn="http%2F1.1").bytes())
        while not self.client.data.endswith(b"\r\n\r\n"):  # and not a byte of what follows
            self.client.data += self.client.sock.recv(1) or b"\r\n\r\n"
        answer = self.client.head()
        if answer.status != 101:
            raise AssertionError(f"handshake refused: {answer}")

    def request(self, body=True):
        """The next request, with its body unless body is false."""
        while b"\r\n\r\n" not in self.client.data:
            if not self.client.more():
                raise AssertionError(f"closed; so far {self.client.data[:300]!r}")
        head, self.client.data = self.client.data.split(b"\r\n\r\n", 1)
        line, *fields = head.decode("latin-1").split("\r\n")
        method, target, version = line.split(" ")
        assert version == "HTTP/1.1", line
        request = Request(method, target, [tuple(f.split(": ", 1)) for f in fields])
        if body and request.header("content-length"):
            request.body = self.client.take(int(request.header("content-length")))
        elif body and request.header("transfer-encoding"):
            while size := int(self.line(), 16):
                request.body += self.client.take(size)
                assert self.client.take(2) == b"\r\n"
            assert self.client.take(2) == b"\r\n"
        return request

    def line(self):
        while b"\r\n" not in self.client.data:
            if not self.client.more():
                raise AssertionError("closed within a chunk's head")
        line, self.client.data = self.client.data.split(b"\r\n", 1)
        return line

    def send(self, data):
        self.client.send(data)

    def answer(self, body=b"", status="200 OK", headers=()):
        fields = "".join(f"{n}: {v}\r\n" for n, v in headers)
        self.send(f"HTTP/1.1 {status}\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def closed(self):
        """The hub has closed its side: waits for that."""
        while self.client.more():
            pass
        return True

    def close(self):
        self.client.close()


class Turned:
    """Python's own HTTP server, turned around: threads that dial in and serve. handler: a
    BaseHTTPRequestHandler class. once: a new connection for each request."""

    def __init__(self, case, address, handler, service="s", slots=1, worker=None, once=False):
        self.stopped = False
        self.case, self.address, self.handler = case, address, handler
        self.service, self.worker, self.once = service, worker, once
        self.threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(slots)]
        for thread in self.threads:
            thread.start()
        case.addCleanup(self.stop)

    def _serve(self):
        while not self.stopped:
            try:
                w = H1Worker(self.case, self.address, self.service, self.worker, limit=60)
            except (OSError, AssertionError):
                return
            try:
                w.client.sock.settimeout(None)
                self.handler(w.client.sock, ("hub", 0), self)
            except OSError:
                pass
            w.close()

    def stop(self):
        self.stopped = True


class Handler(BaseHTTPRequestHandler):
    """Says hello to GET, and gives a body back."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.reply(b"hello")

    def do_POST(self):
        self.reply(self.rfile.read(int(self.headers["Content-Length"])))

    def reply(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class OnceHandler(Handler):
    """One request per connection, as workers of the silent kind often do; it does not say so beforehand."""

    def handle(self):
        self.close_connection = True
        self.handle_one_request()
