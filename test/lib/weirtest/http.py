# SPDX-License-Identifier: Apache-2.0
"""An HTTP/1.x client that sends exact bytes and reads answers strictly (RFC 9112)."""

import json
import re
import socket
import struct
import time

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2}) ([\t \x21-\x7e\x80-\xff]*)\Z")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_VALUE = re.compile(rb"[\t \x21-\x7e\x80-\xff]*\Z")


class Malformed(AssertionError):
    """The answer breaks the protocol."""


class Closed(AssertionError):
    """The peer closed before the answer was whole. data: what had come of it."""

    def __init__(self, text, data=b""):
        super().__init__(text)
        self.data = data


class Response:
    def __init__(self, minor, status, reason, headers):
        self.minor, self.status, self.reason, self.headers = minor, status, reason, headers
        self.body = b""
        self.framing, self.length = None, None

    def all(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def header(self, name):
        values = self.all(name)
        return values[0] if values else None

    @property
    def text(self):
        return self.body.decode()

    def json(self):
        return json.loads(self.body)

    @property
    def closes(self):
        """The answer says that this connection ends with it."""
        tokens = [t.strip().lower() for v in self.all("connection") for t in v.split(",")]
        return "close" in tokens or (self.minor == 0 and "keep-alive" not in tokens)

    def __repr__(self):
        return f"<{self.status} {self.reason} {self.headers} {self.body[:300]!r}>"


def request_bytes(method, target, headers=(), body=None, host="test.example", version="1.1"):
    """A request as bytes. body: bytes (Content-Length) or a list of bytes (chunked)."""
    lines = [f"{method} {target} HTTP/{version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in headers]
    tail = b""
    if isinstance(body, (bytes, bytearray)):
        lines.append(f"Content-Length: {len(body)}")
        tail = bytes(body)
    elif body is not None:
        lines.append("Transfer-Encoding: chunked")
        tail = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in body if c) + b"0\r\n\r\n"
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + tail


class Client:
    """One connection. Every wait ends after limit seconds."""

    def __init__(self, address, limit=10.0, receive_buffer=None):
        self.limit = limit
        self.data = b""
        self.sock = socket.socket(socket.AF_INET if address[0] else socket.AF_UNIX)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(limit)
        self.sock.connect(address if address[0] else address[1])
        if address[0]:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def reset(self):
        """Closes with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def send(self, data):
        self.sock.sendall(data)

    def send_slowly(self, data, pause):
        """One byte at a time. Pacing is the point here; it does not wait for anything."""
        for i in range(len(data)):
            self.sock.sendall(data[i:i + 1])
            time.sleep(pause)

    def send_what_fits(self, data):
        """Sends without waiting; returns how many bytes the kernels took."""
        self.sock.setblocking(False)
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0
        finally:
            self.sock.settimeout(self.limit)

    def more(self):
        """Receives once; False at the end of the connection."""
        try:
            piece = self.sock.recv(1 << 18)
        except TimeoutError:
            raise AssertionError(f"no byte within {self.limit:g} s; so far {self.data[:300]!r}") from None
        except ConnectionResetError:
            return False
        self.data += piece
        return bool(piece)

    def take(self, n):
        while len(self.data) < n:
            if not self.more():
                raise Closed(f"closed after {len(self.data)} of {n} bytes", self.data)
        piece, self.data = self.data[:n], self.data[n:]
        return piece

    def take_line(self):
        while b"\n" not in self.data:
            if not self.more():
                raise Closed("closed within a line", self.data)
            if len(self.data) > 1 << 20 and b"\n" not in self.data:
                raise Malformed("a line without end")
        line, self.data = self.data.split(b"\n", 1)
        if not line.endswith(b"\r") or b"\r" in line[:-1]:
            raise Malformed(f"line end is not CRLF: {line!r}")
        return line[:-1]

    def request(self, method, target, headers=(), body=None, **kwargs):
        self.send(request_bytes(method, target, headers, body, **kwargs))
        return self.response(method)

    def response(self, method="GET", interim=False):
        """The next answer, whole. 1xx are skipped unless interim."""
        while True:
            response = self.head(method)
            if response.status >= 200:
                response.body = b"".join(self.pieces(response))
                return response
            if interim:
                return response

    def head(self, method="GET"):
        """The next head; sets how the body is framed."""
        line = self.take_line()
        match = _STATUS_LINE.match(line)
        if not match:
            raise Malformed(f"status line {line!r}")
        headers = []
        while True:
            line = self.take_line()
            if not line:
                break
            name, colon, value = line.partition(b":")
            value = value.strip(b" \t")
            if not colon or not _NAME.match(name) or not _VALUE.match(value):
                raise Malformed(f"header line {line!r}")
            headers.append((name.decode(), value.decode("latin-1")))
        r = Response(int(match[1]), int(match[2]), match[3].decode("latin-1"), headers)
        self._frame(r, method)
        return r

    def _frame(self, r, method):
        lengths, codings = r.all("content-length"), r.all("transfer-encoding")
        if len(lengths) > 1 or (lengths and not re.fullmatch("[0-9]{1,19}", lengths[0])):
            raise Malformed(f"content-length {lengths}")
        if codings and (codings != ["chunked"] or lengths or r.minor == 0):
            raise Malformed(f"transfer-encoding {codings}, content-length {lengths}, 1.{r.minor}")
        if (r.status < 200 or r.status == 204) and (lengths or codings):
            raise Malformed(f"{r.status} with framing fields")
        if r.status < 200 or r.status in (204, 304) or method == "HEAD":
            r.framing = "none"
        elif codings:
            r.framing = "chunked"
        elif lengths:
            r.framing, r.length = "length", int(lengths[0])
        else:
            r.framing = "close"
            if not r.closes:
                raise Malformed("no framing on a connection that says it stays")

    def pieces(self, r):
        """The body's bytes as they come (chunks as framed)."""
        if r.framing == "length":
            left = r.length
            while left:
                if not self.data and not self.more():
                    raise Closed(f"closed with {left} bytes of the body missing")
                piece, self.data = self.data[:left], self.data[left:]
                left -= len(piece)
                yield piece
        elif r.framing == "chunked":
            yield from self._chunks()
        elif r.framing == "close":
            while True:
                if self.data:
                    piece, self.data = self.data, b""
                    yield piece
                if not self.more():
                    return

    def _chunks(self):
        while True:
            line = self.take_line()
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", line):
                raise Malformed(f"chunk size {line!r}")
            size = int(line, 16)
            if size == 0:
                if self.take_line():
                    raise Malformed("trailers that nobody asked for")
                return
            yield self.take(size)
            if self.take(2) != b"\r\n":
                raise Malformed("chunk without CRLF")

    def rest(self):
        """Everything until the peer closes."""
        while self.more():
            pass
        data, self.data = self.data, b""
        return data

    def assert_closed(self, limit=None):
        """The peer closes (FIN or RST) without another byte."""
        if limit is not None:
            self.sock.settimeout(limit)
        data = self.rest()
        if data:
            raise Malformed(f"bytes after the end: {data[:300]!r}")

    def closed(self):
        """True when the peer has closed; does not wait, and keeps what it received."""
        self.sock.setblocking(False)
        try:
            while True:
                piece = self.sock.recv(1 << 18)
                if not piece:
                    return True
                self.data += piece
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self.sock.settimeout(self.limit)
