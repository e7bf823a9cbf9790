# SPDX-License-Identifier: Apache-2.0
"""A client of a weir hub: topics and durable jobs (docs/protocol.md).

    client = Client("http://127.0.0.1:8080")
    client.publish("news", "hello", "text/plain")
    job = client.submit("/render", b"...")
    answer = client.result(job, wait=60)

A call blocks, but not for longer than its time-out. What fails in a way that may pass is tried again when that
is safe. One thread at a time uses a Client.
"""

import collections
import datetime
import http.client
import json
import random
import re
import select
import socket
import threading
import time
import urllib.parse
import uuid

from .connection import parse_address

CONNECT_LIMIT = 5.0  # seconds, for each address
POLL = 30.0  # seconds; longer waits are several requests
PAUSE, PAUSE_MOST = 0.05, 5.0
ENDS = {"done", "failed", "dead", "cancelled"}

Message = collections.namedtuple("Message", "id published type body delivery")
Message.__doc__ = """published: a datetime. type: its Content-Type or None. delivery: 1, and one more each time
that it comes again; None when it does not."""


class Error(Exception):
    """status: of the hub's answer, 0 when there was none. detail: what it said, or what went wrong."""

    def __init__(self, status, detail):
        super().__init__(f"{status} {http.client.responses.get(status, '')}: {detail}" if status else detail)
        self.status, self.detail = status, detail


class Unreachable(Error):
    """No connection, or it ended before the answer was whole."""


class TimedOut(Error):
    """Not within the time-out."""


class NotFound(Error):
    """404: no such job, subscription, message or service."""


class Answer:
    """A job's answer: status, headers (an email.message.Message: names in any case), body."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def __repr__(self):
        return f"<Answer {self.status}, {len(self.body)} bytes>"


class _Socket(socket.socket):
    """Whose operations end at a point in time, however many there are."""

    until, sent = 0.0, 0

    def recv_into(self, *args):
        self.settimeout(_left(self.until))
        return super().recv_into(*args)

    def sendall(self, data, *flags):
        watch = select.poll()
        watch.register(self, select.POLLIN | select.POLLOUT)
        self.setblocking(False)
        rest = memoryview(data)
        while rest:
            try:
                n = self.send(rest, *flags)
                self.sent, rest = self.sent + n, rest[n:]
            except BlockingIOError:
                ready = watch.poll(_left(self.until) * 1000)
                if ready and not ready[0][1] & select.POLLOUT:
                    raise BrokenPipeError("it answers before it has read all") from None


def _left(until):
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def _look_up(host, port, until):
    """The addresses of a name; a slow resolver is left behind."""
    found = []

    def run():
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as e:
            found.append(e)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_left(until))
    if not found:
        raise TimeoutError("timed out while the hub's name was looked up")
    if isinstance(found[0], OSError):
        raise found[0]
    return found[0]


class _Connection(http.client.HTTPConnection):
    """To an address as parse_address has it."""

    auto_open = 0

    def __init__(self, address, name):
        super().__init__(name)
        self.address = address

    def connect(self, until):
        host, where = self.address
        choices = [(socket.AF_UNIX, None, None, None, where)]
        if host is not None:
            choices = _look_up(host, where, until)
        failure = OSError("the hub's name has no address")
        for family, _, _, _, target in choices:
            sock = _Socket(family, socket.SOCK_STREAM)
            try:
                sock.settimeout(min(CONNECT_LIMIT, _left(until)))
                sock.connect(target)
            except OSError as e:
                failure = ConnectionError(str(e))
                sock.close()
                continue
            if host is not None:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 5)):
                    if hasattr(socket, option):
                        sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
            self.sock = sock
            return
        _left(until)
        raise failure

    def usable(self):
        """Not closed by the hub since, and nothing came that nobody had asked for."""
        if self.sock is None:
            return False
        try:
            self.sock.setblocking(False)
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False


def _parse_hub(hub):
    """(address, Host, BASE)"""
    if hub.startswith("unix:"):
        path, colon, base = hub[5:].partition(":/")
        return parse_address("unix:" + path), "localhost", "/" + base if colon else ""
    url = urllib.parse.urlsplit(hub if "://" in hub else "http://" + hub)
    if url.scheme != "http" or not url.hostname or url.query or url.fragment or "@" in url.netloc:
        raise ValueError(f"{hub!r} is not http://HOST[:PORT][/BASE], HOST:PORT or unix:PATH")
    return (url.hostname, url.port or 80), url.netloc, url.path


def _duration(seconds):
    return f"{max(0, round(seconds * 1000))}ms"


class Client:
    def __init__(self, hub="http://127.0.0.1:8080", token=None, timeout=30.0, attempts=10, max_body=64 << 20):
        """hub: http://HOST[:PORT][/BASE], HOST:PORT or unix:PATH[:/BASE] of a hub's listener for clients. timeout:
        seconds that a call may take, with all that is tried again, besides its wait. attempts: how often in a row
        a request is tried. max_body: bytes of an answer that are taken in at most."""
        address, name, base = _parse_hub(hub)
        self._connection = _Connection(address, "localhost")
        self._fields = {"Host": name}
        if token:
            if not re.fullmatch("[!-~]+", token):
                raise ValueError("the token cannot be sent in a header")
            self._fields["Authorization"] = f"Bearer {token}"
        self._base = base.rstrip("/")
        self.timeout, self.attempts, self.max_body = timeout, attempts, max_body
        self._until = 0.0

    def close(self):
        self._connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- topics ----

    def publish(self, topic, body=b"", type=None):
        """Not repeated once something of it was sent: after Unreachable or TimedOut it may have been published."""
        self._begin()
        self._do("POST", _path("/-/topics", topic), body=_bytes(body), safe=False,
                 fields={"Content-Type": type} if type else {})

    def subscribe(self, topic, subscription):
        """Also when it is there already."""
        self._begin()
        self._do("POST", _path("/-/topics", topic, subscription))

    def unsubscribe(self, topic, subscription):
        self._begin()
        self._take_away(_path("/-/topics", topic, subscription))

    def next(self, topic, subscription, wait=0.0, explicit=False, ack_time=None):
        """The next Message, waiting up to wait seconds; None: there is none. explicit: it comes again unless it
        is acknowledged within ack_time seconds (the hub's topic-ack-time)."""
        end = self._begin(wait)
        more = "&ack=explicit" if explicit else ""
        if explicit and ack_time:
            more += f"&ack-time={_duration(ack_time)}"
        for part in self._polls(end):
            r = self._do("GET", _path("/-/topics", topic, subscription) + f"?wait={_duration(part)}{more}")
            if r.status == 200:
                return _message(r)
        return None

    def messages(self, topic, subscription, ack_time=None):
        """All messages, endlessly. Each is acknowledged when the loop comes back for the next one: what a loop
        was left in the middle of comes again."""
        while True:
            message = self.next(topic, subscription, POLL, True, ack_time)
            if message is None:
                continue
            yield message
            try:
                self.acknowledge(topic, subscription, message)
            except NotFound:
                pass  # it took longer than the ack time, and somebody else has had it

    def acknowledge(self, topic, subscription, message):
        """message: a Message or its id. NotFound: somebody has done so before."""
        self._begin()
        self._take_away(_path("/-/topics", topic, subscription, str(getattr(message, "id", message))))

    # ---- durable jobs ----

    def submit(self, target, body=None, method="POST", headers=None, delay=0.0):
        """Has a request stored, and returns the job's id. Without an Idempotency-Key among the headers it gets
        one of its own, so that it is safe to try it again. delay: seconds before which it is not run."""
        fields = dict(headers or {})
        names = {name.lower() for name in fields}
        if names & {"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade", "te",
                    "trailer", "prefer"}:
            raise ValueError("a header that the client sets itself")
        if "idempotency-key" not in names:
            fields["Idempotency-Key"] = uuid.uuid4().hex
        if delay:
            fields["Weir-Delay"] = _duration(delay)
        fields["Prefer"] = "respond-async"
        if not re.fullmatch('/[!"$-~]*', target):
            raise ValueError(f"{target!r} is no path with a query")
        self._begin()
        r = self._do(method, target, fields, None if body is None else _bytes(body))
        job = (r.headers.get("Location") or "").rpartition("/")[2]
        if r.status != 202 or not r.headers.get("Preference-Applied") or not job:
            raise Error(r.status, "it stores no jobs (it has no data directory), and has run this one at once")
        return job

    def state(self, job):
        """What there is to know of it: a dict (docs/protocol.md says what is in it)."""
        self._begin()
        return self._look(job)

    def result(self, job, wait=0.0):
        """Its Answer, of whatever status, waiting up to wait seconds; None: it has not ended. Cancelled: an Error
        with status 410."""
        end = self._begin(wait)
        ended = None  # the status that it is known to have ended with
        refused = None
        for part in self._polls(end, lambda: ended):
            r = self._ask("GET", _path("/-/jobs", job) + f"/result?wait={_duration(part)}", raw=True)
            # What a hub says itself looks like a stored answer; of 202 and of errors it has to be asked.
            if 200 <= r.status < 400 and r.status != 202 or ended == r.status:
                return r
            refused = _refusal(r) if r.status >= 400 else None
            state = self._look(job)
            ended = state.get("status") if state["state"] in ENDS else None
            if state["state"] in ENDS and not ended:
                raise Error(410, "it was cancelled, and has no answer")
        if refused:
            raise refused
        return None

    def cancel(self, job):
        """Also when it was cancelled before. Error with status 409: it has ended otherwise."""
        self._begin()
        try:
            self._do("DELETE", _path("/-/jobs", job))
        except Error as e:
            if e.status != 409 or self._look(job)["state"] != "cancelled":
                raise

    # ---- requests ----

    def _begin(self, wait=0.0):
        """A call begins. When its wait ends."""
        now = time.monotonic()
        self._until = now + wait + self.timeout
        self._failures, self._unsure = 0, False
        return now + wait

    def _polls(self, end, urgent=lambda: False):
        """Seconds to wait, again and again until the end; goes on beyond it while urgent."""
        hurried = False
        while True:
            began = time.monotonic()
            part = max(0.0, min(POLL, end - began))
            yield part
            now = time.monotonic()
            if urgent():
                if hurried and not self._sleep(0.1):
                    return
                hurried = True
            elif now >= end or now - began < part - 0.01 and not self._sleep(min(0.1, end - now)):
                return

    def _sleep(self, seconds):
        """False, and at once, when there is not so much time left."""
        if time.monotonic() + seconds >= self._until:
            return False
        time.sleep(seconds)
        return True

    def _look(self, job):
        r = self._do("GET", _path("/-/jobs", job))
        try:
            state = json.loads(r.body)
            state["state"], state["service"]
            return state
        except (ValueError, KeyError, TypeError):
            raise Error(r.status, "the answer is not a job's state") from None

    def _take_away(self, path):
        try:
            self._do("DELETE", path)
        except NotFound:
            if not self._unsure:  # else a try whose answer was lost has done it
                raise

    def _do(self, *args, **kwargs):
        r = self._ask(*args, **kwargs)
        if not 200 <= r.status < 300:
            raise _refusal(r)
        return r

    def _ask(self, method, target, fields={}, body=None, safe=True, raw=False):
        """An Answer of any status. safe: to repeat, even if it may have been carried out. raw: 503 and 429 are
        answers as others are."""
        while True:
            r, least = None, 0.0
            self._socket = None
            try:
                r = self._try(method, target, {**self._fields, **fields}, body)
                if raw or r.status not in (503, 429):
                    self._failures = 0
                    return r
                if not safe and _refusal(r).detail != "hub is draining":
                    return r
                least = _retry_after(r)
            except (OSError, http.client.HTTPException) as e:
                self._connection.close()
                sent = self._socket is not None and self._socket.sent > 0
                self._unsure = self._unsure or sent
                failure = _failure(e)
                if isinstance(failure, TimedOut) and time.monotonic() >= self._until or sent and not safe:
                    raise failure from None
            except BaseException:
                self._connection.close()
                raise
            self._failures += 1
            pause = min(PAUSE_MOST, PAUSE * 2 ** min(self._failures - 1, 10)) * random.uniform(0.5, 1.0)
            pause = max(pause, least + random.uniform(0, PAUSE) if least else 0)
            if self._failures >= self.attempts or not self._sleep(pause):
                if r is not None:
                    return r
                raise failure

    def _try(self, method, target, fields, body):
        c = self._connection
        if not c.usable():
            c.close()
            c.connect(self._until)
        self._socket = c.sock
        c.sock.until, c.sock.sent = self._until, 0
        c.putrequest(method, self._base + target, skip_host=True, skip_accept_encoding=True)
        for name, value in fields.items():
            c.putheader(name, value)
        if body is not None:
            c.putheader("Content-Length", str(len(body)))
        whole = False
        try:
            c.endheaders(body or None)
            whole = True
        except (BrokenPipeError, ConnectionResetError):
            pass  # there may be an answer nevertheless
        r = c.getresponse()
        data = r.read(self.max_body + 1)
        if len(data) > self.max_body:
            c.close()
            raise Error(r.status, f"the answer has more than max_body, {self.max_body} bytes")
        if r.length:
            raise http.client.IncompleteRead(data, r.length)
        r.read()  # it is over
        if not whole:
            c.close()
        return Answer(r.status, r.headers, data)


def _bytes(body):
    return body.encode() if isinstance(body, str) else bytes(body)


def _path(*parts):
    first, *names = parts
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError("a name is text, and not empty")
    return "/".join([first, *(urllib.parse.quote(name, safe="") for name in names)])


def _message(r):
    try:
        published = datetime.datetime.fromisoformat(r.headers["Weir-Published"].replace("Z", "+00:00"))
        delivery = r.headers.get("Weir-Delivery")
        return Message(int(r.headers["Weir-Message"]), published, r.headers.get("Content-Type"), r.body,
                       int(delivery) if delivery else None)
    except (AttributeError, TypeError, ValueError):
        raise Error(r.status, "the answer is not a message") from None


def _refusal(r):
    detail = r.body[:300].decode("utf-8", "replace")
    try:
        detail = str(json.loads(r.body)["detail"])
    except (ValueError, KeyError, TypeError):
        pass
    return (NotFound if r.status == 404 else Error)(r.status, detail)


def _failure(e):
    if isinstance(e, (TimeoutError, socket.timeout)):  # one and the same from Python 3.10 on
        return TimedOut(0, "timed out")
    return Unreachable(0, f"{type(e).__name__}: {e}" if str(e) else type(e).__name__)


def _retry_after(r):
    text = r.headers.get("Retry-After") or ""
    return float(text) if text.isascii() and text.isdigit() else 0.0
