# SPDX-License-Identifier: Apache-2.0
"""One job run by a WSGI application (PEP 3333): its environ, its answer, and what it may ask of its job."""

import io
import json
import logging
import re
import sys
import time
from urllib.parse import unquote_to_bytes
from wsgiref.util import is_hop_by_hop

log = logging.getLogger("weir")

_STATUS = re.compile(r"[2-5][0-9]{2} [\t \x21-\x7e\x80-\xff]*")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t \x21-\x7e\x80-\xff]*")


class Cancelled(ConnectionError):
    """Nobody waits for this job any more: the client has left, or its deadline has passed."""


class Job:
    """What the hub says of the job. Any thread may ask."""

    def __init__(self, request, connection):
        self.id = request.get("weir-job", "")
        self.service = request.get("weir-service", "")
        self.attempt = int(request.get("weir-attempt", "1"))
        self.hop = int(request.get("weir-hop", "0"))
        deadline = request.get("weir-deadline-ms")
        self._deadline = None if deadline is None else time.monotonic() + int(deadline) / 1000
        self._connection = connection

    @property
    def deadline_ms(self):
        """Milliseconds left, 0 when it has passed; None: there is no deadline."""
        return None if self._deadline is None else max(0, round((self._deadline - time.monotonic()) * 1000))

    @property
    def cancelled(self):
        """True as soon as nobody waits for the answer. One system call: cheap enough for most loops."""
        return self.wait(0)

    def wait(self, seconds):
        """Sleeps, but not longer than until the job is cancelled; returns whether it is."""
        connection = self._connection
        return connection is None or connection.closed(seconds)

    def _end(self):
        self._connection = None


def forward(service, target=None, body=b"", content_type=None):
    """An answer that sends the request on, as a WSGI application:
    `return weir.forward("render", "/page?x=1", body)(environ, start_response)`.
    target: path and query; those of the request when None. To the job's own service it means "again"."""
    if isinstance(body, str):
        body, content_type = body.encode(), content_type or "text/plain; charset=utf-8"
    headers = [("Weir-Forward", service if target is None else f"{service} {target}")]
    headers += [("Content-Type", content_type)] if content_type else []

    def answer(_environ, start_response):
        start_response("200 OK", headers)
        return [body]
    return answer


def make_environ(request, job, mount="", multithread=False, multiprocess=False):
    target, _, query = request.target.partition("?")
    path, script = unquote_to_bytes(target).decode("latin-1"), ""
    if mount and (path + "/").startswith(mount + "/"):
        path, script = path[len(mount):], mount
    scheme = request.get("x-forwarded-proto", "http")
    host, port = re.fullmatch(r"(.*?)(?::([0-9]+))?", request.get("host", job.service)).groups()
    environ = {
        "REQUEST_METHOD": request.method, "SCRIPT_NAME": script, "PATH_INFO": path, "QUERY_STRING": query,
        "REQUEST_URI": request.target, "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_NAME": host,
        "SERVER_PORT": port or ("443" if scheme == "https" else "80"),
        "REMOTE_ADDR": request.get("x-forwarded-for", "").rpartition(",")[2].strip(),
        "wsgi.version": (1, 0), "wsgi.url_scheme": scheme, "wsgi.errors": sys.stderr,
        "wsgi.input": io.BufferedReader(request.body), "wsgi.input_terminated": True,
        "wsgi.multithread": multithread, "wsgi.multiprocess": multiprocess, "wsgi.run_once": False,
        "weir.job": job,
    }
    for name, value in request.headers:
        if name == "transfer-encoding" or "_" in name:
            continue  # X_Y would be taken for X-Y
        key = name.upper().replace("-", "_")
        key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key
        if key in environ:
            value = environ[key] + ("; " if name == "cookie" else ", ") + value
        environ[key] = value
    return environ


class Answer:
    """The application's answer on its way. last(): this connection shall take no further job."""

    def __init__(self, connection, job, method, last):
        self.connection, self.job, self.method, self.last = connection, job, method, last
        self.status, self.headers = None, []
        self.begun = self.ended = False  # bytes were sent; all were
        self.keep = True
        self.bodiless = self.chunked = False
        self.left = None  # bytes of the body that are still to come, where that is known

    def start_response(self, status, headers, exc_info=None):
        if exc_info:
            try:
                if self.begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.status is not None:
            raise RuntimeError("start_response was called before, and there is no exc_info")
        if not _STATUS.fullmatch(status):
            raise ValueError(f"status {status!r}")
        for name, value in headers:
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise ValueError(f"header {name!r}: {value!r}")
        self.status, self.headers = status, list(headers)
        return self.write

    def write(self, data):
        if data:
            self._send(data)

    def _head(self, length):
        """The head; decides how the body is framed. length: of the body, None when that is not known."""
        if self.status is None:
            raise RuntimeError("the application has not called start_response")
        code = self.status[:3]
        self.bodiless = self.method == "HEAD" or code in ("204", "304")
        fields = [(n, v) for n, v in self.headers if not is_hop_by_hop(n)]
        given = [v for n, v in fields if n.lower() == "content-length"]
        if code == "204":
            fields = [(n, v) for n, v in fields if n.lower() != "content-length"]
        elif given:
            length = int(given[0])
        elif not self.bodiless:
            self.chunked = length is None
            fields.append(("Transfer-Encoding", "chunked") if self.chunked else ("Content-Length", length))
        self.left = length
        if self.last():
            self.keep = False
            fields.append(("Connection", "close"))
        lines = [f"HTTP/1.1 {self.status}", *(f"{n}: {v}" for n, v in fields), "", ""]
        return "\r\n".join(lines).encode("latin-1")

    def _send(self, data, length=None, end=False):
        """Bytes of the body; nothing follows them when end."""
        if self.job.cancelled:
            raise Cancelled("the job was cancelled")
        out = b"" if self.begun else self._head(length)
        if self.bodiless:
            data = b""
        elif self.chunked:
            data = b"%x\r\n%s\r\n" % (len(data), data) if data else b""
            data += b"0\r\n\r\n" if end else b""
        else:
            self.left -= len(data)
            if self.left < 0 or (end and self.left):
                raise RuntimeError("the body is not as long as its Content-Length")
        self.begun, self.ended = True, end
        if out or data:
            self.connection.sock.sendall(out + data if out else data)

    def run(self, application, environ):
        result = application(environ, self.start_response)
        try:
            if isinstance(result, (list, tuple)):
                body = b"".join(result)
                self._send(body, len(body), end=True)
            else:
                for data in result:
                    self.write(data)
                self._send(b"", 0, end=True)
        finally:
            if hasattr(result, "close"):
                result.close()

    def fail(self):
        body = json.dumps({"type": "about:blank", "title": "Internal Server Error", "status": 500,
                           "detail": "the application failed", "service": self.job.service}).encode()
        self.status = "500 Internal Server Error"
        self.headers = [("Content-Type", "application/problem+json")]
        self.chunked = False
        self._send(body, len(body), end=True)


def run_job(application, request, connection, last, **surroundings):
    """Runs the request and answers it. False: the connection is to be closed; what was sent may be half an
    answer, which must not look like a whole one."""
    job = Job(request, connection)
    answer = Answer(connection, job, request.method, last)
    try:
        try:
            answer.run(application, make_environ(request, job, **surroundings))
        except BaseException as e:  # SystemExit too: the slot goes on
            if isinstance(e, OSError) and job.cancelled:
                raise
            log.exception("job %s (%s %s) failed", job.id, request.method, request.target)
            if not answer.begun:
                answer.fail()
        if answer.ended:
            request.body.discard()
        return answer.ended and answer.keep
    except OSError as e:
        log.debug("job %s (%s %s): %s", job.id, request.method, request.target, e)
        return False
    finally:
        job._end()
