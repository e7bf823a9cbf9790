# SPDX-License-Identifier: Apache-2.0
"""A connection to a hub: dialled, upgraded, and from then on an HTTP/1.1 server's (docs/protocol.md).

One thread at a time uses a connection; closed() alone may be called by others too.
"""

import io
import re
import select
import socket
import time

HEAD_LIMIT = 1 << 20  # the hub keeps to its max-head; this only bounds nonsense
DIAL_LIMIT = 5.0  # seconds, for connecting and for the upgrade
SILENCE_LIMIT = 5  # seconds after which a hub whose machine is gone is noticed
RDHUP = getattr(select, "POLLRDHUP", 0)  # Linux


class Malformed(ConnectionError):
    """What the hub sent is not HTTP/1.1, or it refused the upgrade."""


class Broken(ConnectionError):
    """The hub closed the connection within a request: that is a cancel."""


def parse_address(text):
    """(host, port) of "HOST:PORT", (None, path) of "unix:PATH"; else ValueError."""
    if text.startswith("unix:") and len(text) > 5:
        return None, text[5:]
    host, _, port = text.rpartition(":")
    if not (host and re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65536):
        raise ValueError(f"{text!r} is neither HOST:PORT nor unix:PATH")
    return host.strip("[]"), int(port)


def make_upgrade(services, worker, labels="", token=""):
    """The request that a worker sends first. ValueError when it would not be one."""
    fields = ["Host: hub", "Connection: Upgrade", "Upgrade: ptth", "ALPN: http%2F1.1",
              f"Weir-Service: {','.join(services)}", f"Weir-Worker: {worker}"]
    fields += [f"Weir-Labels: {labels}"] if labels else []
    fields += [f"Authorization: Bearer {token}"] if token else []
    for service in services:
        if not re.fullmatch("[A-Za-z0-9._~-]{1,255}", service):
            raise ValueError(f"{service!r} is not the name of a service")
    for field in fields:
        if not field.isascii() or not field.isprintable():
            raise ValueError(f"this cannot be sent to a hub: {field!r}")
    line = f"GET /.well-known/ptth/http%3A%2F%2F{services[0]}/ HTTP/1.1"
    return "\r\n".join([line, *fields, "", ""]).encode()


def dial(address, upgrade):
    """A Connection on which the hub may send requests. OSError when there is none."""
    host, where = address
    sock = socket.socket(socket.AF_UNIX) if host is None else socket.create_connection(address, DIAL_LIMIT)
    connection = Connection(sock)
    try:
        sock.settimeout(DIAL_LIMIT)
        if host is None:
            sock.connect(where)
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in (("TCP_KEEPIDLE", 2), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", SILENCE_LIMIT - 2),
                                ("TCP_USER_TIMEOUT", SILENCE_LIMIT * 1000)):
                if hasattr(socket, name):
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        sock.sendall(upgrade)
        lines = connection.head() or [""]
        if lines[0].split(" ")[1:2] != ["101"]:
            if lines[0] and not connection.data:
                connection.more()
            reason = connection.data[:300].decode("utf-8", "replace")
            raise Malformed(f"refused: {lines[0]} {reason}".rstrip())
        sock.settimeout(None)
        return connection
    except BaseException:
        connection.close()
        raise


class Connection:
    def __init__(self, sock):
        self.sock, self.fd = sock, sock.fileno()
        self.data = b""  # received and not used yet

    def close(self):
        self.sock.close()

    def more(self):
        piece = self.sock.recv(65536)
        self.data += piece
        return bool(piece)

    def take(self, n):
        """1 to n bytes; none at the end."""
        if not self.data:
            self.more()
        piece, self.data = self.data[:n], self.data[n:]
        return piece

    def until(self, mark):
        """The bytes before mark; None when the connection ends before the first byte."""
        while mark not in self.data:
            if len(self.data) > HEAD_LIMIT:
                raise Malformed("a line or head without end")
            if not self.more():
                if self.data:
                    raise Broken("closed within a line or head")
                return None
        found, self.data = self.data.split(mark, 1)
        return found

    def head(self):
        """The lines of the next head, None at the end."""
        head = self.until(b"\r\n\r\n")
        return head and head.decode("latin-1").split("\r\n")

    def closed(self, seconds=0.0):
        """True as soon as the hub has closed its side: that is a cancel. Waits for it up to seconds."""
        if RDHUP:  # it sees the end behind bytes that have not been read
            watch = select.poll()
            watch.register(self.fd, RDHUP)
            return bool(watch.poll(seconds * 1000))
        end = time.monotonic() + seconds
        while True:
            try:
                if not self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                    return True
            except BlockingIOError:
                pass
            except OSError:
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(min(seconds, 0.05))


class Request:
    """A request's head; names are in lower case. body is to be read before the next request comes."""

    def __init__(self, lines, connection):
        self.method, self.target, version, *more = lines[0].split(" ") + ["", ""]
        if not version.startswith("HTTP/1.") or any(more):
            raise Malformed(f"request line {lines[0]!r}")
        fields = [line.partition(":") for line in lines[1:]]
        self.headers = [(name.lower(), value.strip(" \t")) for name, _, value in fields]
        length = None if self.get("transfer-encoding") else int(self.get("content-length", "0"))
        self.body = Body(connection, length)

    def get(self, name, default=None):
        return next((v for n, v in self.headers if n == name), default)


class Body(io.RawIOBase):
    """A request's body as it comes. length None: chunked (RFC 9112 7.1)."""

    def __init__(self, connection, length):
        self.connection, self.chunked = connection, length is None
        self.left = length or 0  # of the body, or of this chunk
        self.begun, self.done = False, length == 0

    def readable(self):
        return True

    def readinto(self, buffer):
        if self.chunked and not self.left and not self.done:
            self._next_chunk()
        if self.done or not len(buffer):
            return 0
        piece = self.connection.take(min(len(buffer), self.left))
        if not piece:
            raise Broken("cancelled within the request's body")
        buffer[:len(piece)] = piece
        self.left -= len(piece)
        self.done = not self.left and not self.chunked
        return len(piece)

    def _line(self):
        line = self.connection.until(b"\r\n")
        if line is None:
            raise Broken("cancelled within the request's body")
        return line

    def _next_chunk(self):
        if self.begun and self._line():
            raise Malformed("no end of line after a chunk")
        self.begun = True
        self.left = int(self._line().partition(b";")[0], 16)
        if not self.left:
            self.done = True
            while self._line():
                pass  # trailers

    def discard(self):
        """Reads on to the end. Closing before it would reset the connection, and could destroy the answer on
        its way; a hub that has the answer and still owes a part of the body closes."""
        space = bytearray(65536)
        while not self.done:
            self.readinto(space)
