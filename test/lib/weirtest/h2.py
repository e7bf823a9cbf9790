# SPDX-License-Identifier: Apache-2.0
"""A worker made by hand: the attach handshake and HTTP/2 frames (RFC 9113) over a raw socket.

It speaks just enough to be a worker, and lets a test break every rule. Header blocks it sends are HPACK
literals without indexing (RFC 7541 6.2.2) without Huffman coding; those it receives are not decoded.
"""

import time

from .http import Client

(DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE,
 CONTINUATION) = range(10)
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM, CANCEL = 0x0, 0x1, 0x7, 0x8
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 0x3, 0x4, 0x5
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _integer(value, prefix_bits):
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes((value,))
    out, value = bytearray((most,)), value - most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def header_block(fields):
    """fields: (name, value) pairs, text or bytes, sent as they are."""
    out = b""
    for name, value in fields:
        name = name if isinstance(name, bytes) else name.encode("latin-1")
        value = value if isinstance(value, bytes) else value.encode("latin-1")
        out += b"\0" + _integer(len(name), 7) + name + _integer(len(value), 7) + value
    return out


class Handshake:
    """The worker's upgrade request, field by field."""

    def __init__(self, service, worker="fake", alpn="h2"):
        self.line = f"GET /.well-known/ptth/http%3A%2F%2F{service}/ HTTP/1.1"
        self.headers = [("Host", "hub"), ("Connection", "Upgrade"), ("Upgrade", "ptth")]
        if alpn:
            self.headers.append(("ALPN", alpn))
        if worker:
            self.headers.append(("Weir-Worker", worker))

    def without(self, name):
        self.headers = [(n, v) for n, v in self.headers if n.lower() != name.lower()]
        return self

    def bytes(self):
        lines = [self.line, *(f"{name}: {value}" for name, value in self.headers), "", ""]
        return "\r\n".join(lines).encode("latin-1")


class FakeWorker:
    """One attached connection. With slots=None it sends no SETTINGS of its own."""

    def __init__(self, case, hub, service, slots=1, worker="fake", settings=(), limit=10.0):
        self.client = Client(hub.attach, limit=limit)
        case._clients.append(self.client)
        self.client.send(Handshake(service, worker).bytes())
        answer = self.client.head()
        if answer.status != 101 or (answer.header("upgrade") or "").lower() != "ptth":
            raise AssertionError(f"handshake refused: {answer}")
        self.limit = limit
        self.seen = []  # frames that were read: (kind, flags, stream, payload)
        if slots is not None:
            self.settings([(MAX_CONCURRENT_STREAMS, slots), *settings])

    # ---- writing ----

    def send(self, data):
        self.client.send(data)

    def frame(self, kind, flags, stream, payload=b""):
        self.send(frame(kind, flags, stream, payload))

    def settings(self, values):
        self.frame(SETTINGS, 0, 0, b"".join(k.to_bytes(2, "big") + v.to_bytes(4, "big") for k, v in values))

    def headers(self, stream, status, fields=(), end=False, flags=END_HEADERS):
        block = header_block([(":status", str(status)), *fields])
        self.frame(HEADERS, flags | (END_STREAM if end else 0), stream, block)

    def data(self, stream, payload, end=False):
        self.frame(DATA, END_STREAM if end else 0, stream, payload)

    def answer(self, stream, status=200, body=b"ok", fields=()):
        self.headers(stream, status, fields, end=not body)
        if body:
            self.data(stream, body, end=True)

    def reset(self, stream, code=CANCEL):
        self.frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))

    def close(self):
        self.client.close()

    # ---- reading ----

    def preface(self):
        got = self.client.take(len(PREFACE))
        if got != PREFACE:
            raise AssertionError(f"no HTTP/2 client preface: {got!r}")
        self._had_preface = True

    def read(self):
        """The next frame. SETTINGS and PING are answered on the way."""
        if not getattr(self, "_had_preface", False):
            self.preface()
        head = self.client.take(9)
        payload = self.client.take(int.from_bytes(head[:3], "big"))
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:9], "big")
        if kind == SETTINGS and not flags & ACK:
            self.frame(SETTINGS, ACK, 0)
        elif kind == PING and not flags & ACK:
            self.frame(PING, ACK, 0, payload)
        self.seen.append((kind, flags, stream, payload))
        return self.seen[-1]

    def wait_frame(self, kind, stream=None, limit=None):
        """Reads until a frame of this kind (of this stream) comes."""
        end = time.monotonic() + (limit or self.limit)
        while time.monotonic() < end:
            got = self.read()
            if got[0] == kind and stream in (None, got[2]):
                return got
        raise AssertionError(f"no frame of kind {kind} within {limit or self.limit:g} s")

    def wait_request(self):
        """The stream id of the next job."""
        return self.wait_frame(HEADERS)[2]

    def wait_closed(self):
        """Reads until the hub closes this connection."""
        try:
            while True:
                self.read()
        except (AssertionError, OSError) as e:
            if "no byte within" in str(e) or "no frame" in str(e):
                raise
        self.client.close()

    def pump(self, seconds=0.0):
        """Answers what lies ready (PING), for up to this many seconds."""
        end = time.monotonic() + seconds
        while True:
            self.client.sock.settimeout(max(0.001, end - time.monotonic()))
            try:
                if not self.client.data and not self.client.more():
                    return
            except AssertionError:
                return
            finally:
                self.client.sock.settimeout(self.limit)
            self.read()
