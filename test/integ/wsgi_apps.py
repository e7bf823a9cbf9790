# SPDX-License-Identifier: Apache-2.0
"""WSGI applications for t18_python.py: one per service, and a gate. They note what happens in $APP_LOG."""

import os
import time
from wsgiref.validate import validator

import weir

TEXT = [("Content-Type", "text/plain")]


def note(*words):
    with open(os.environ["APP_LOG"], "a") as f:
        f.write(" ".join(map(str, words)) + "\n")


def hello(environ, start_response):
    start_response("200 OK", [*TEXT, ("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2"),
                              ("X-Pid", str(os.getpid()))])
    return [b"hello"]


def echo(environ, start_response):
    """The body back, piece by piece while it comes, and what the environ says."""
    names = ("REQUEST_METHOD", "PATH_INFO", "SCRIPT_NAME", "QUERY_STRING", "SERVER_NAME", "SERVER_PORT",
             "REMOTE_ADDR", "CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_X_T", "HTTP_COOKIE",
             "HTTP_TRANSFER_ENCODING", "wsgi.url_scheme")
    keep = {name: environ[name] for name in names if name in environ}
    start_response("200 OK", [(f"X-Env-{k.replace('_', '-').replace('.', '-')}", v) for k, v in keep.items()])
    return iter(lambda: environ["wsgi.input"].read(65536), b"")


def lines(environ, start_response):
    start_response("200 OK", TEXT)
    return [b"%d:%s" % (i, line) for i, line in enumerate(environ["wsgi.input"])]


def job(environ, start_response):
    j = environ["weir.job"]
    start_response("200 OK", TEXT)
    said = f"{j.service} {j.attempt} {j.hop} {bool(j.id)} {j.cancelled} {j.wait(0.01)} {j.deadline_ms}"
    return [said.encode()]


def shape(environ, start_response):
    """Answers of many shapes; the query says which."""
    q = environ["QUERY_STRING"]
    if q == "write":
        write = start_response("200 OK", TEXT)
        write(b"one ")
        write(b"")
        write(b"two ")
        return [b"three"]
    if q == "length":
        start_response("201 Made", [*TEXT, ("Content-Length", "6")])
        return iter([b"abc", b"", b"def"])
    if q == "list":
        start_response("200 OK", TEXT)
        return [b"ab", b"cd"]
    if q == "204":
        start_response("204 No Content", [])
        return []
    if q == "304":
        start_response("304 Not Modified", [("ETag", '"x"')])
        return []
    if q == "empty":
        start_response("200 OK", TEXT)
        return iter([])
    if q == "unread":
        start_response("403 Forbidden", TEXT)
        return [b"no"]
    if q == "raises":
        raise ValueError("on purpose")
    if q == "exits":
        raise SystemExit(3)
    if q == "nothing":
        return [b"no start_response"]
    if q == "splits":
        start_response("200 OK", [("X-A", "1\r\nX-Evil: 2")])
        return [b""]
    if q == "hop":
        start_response("200 OK", [*TEXT, ("Connection", "close"), ("Transfer-Encoding", "gzip")])
        return [b"hop"]
    if q == "longer":
        start_response("200 OK", [("Content-Length", "2")])
        return [b"abc"]
    if q == "replaced":
        start_response("200 OK", TEXT)
        try:
            raise ValueError
        except ValueError:
            import sys
            start_response("418 Teapot", TEXT, sys.exc_info())
        return [b"teapot"]
    return broken(start_response, q)


def broken(start_response, how):
    """Fails after its answer has begun."""
    start_response("200 OK", TEXT + ([("Content-Length", "100")] if how == "short" else []))
    yield b"begun"
    if how != "short":
        raise ValueError("on purpose")


class Drip:
    """A line each 20 ms, for ever."""

    def __init__(self, name):
        self.name = name

    def __iter__(self):
        while True:
            yield b"drip\n"
            time.sleep(0.02)

    def close(self):
        note("closed", self.name)


def drip(environ, start_response):
    start_response("200 OK", TEXT)
    return Drip(environ["weir.job"].id)


def sleep(environ, start_response):
    """Until ?SECONDS have passed, or it is cancelled."""
    j = environ["weir.job"]
    note("begin", os.getpid())
    gone = j.wait(float(environ["QUERY_STRING"]))
    note("cancelled" if gone and j.cancelled else "end", os.getpid())
    start_response("200 OK", TEXT)
    return [b"slept"]


def burn(environ, start_response):
    """Looks at job.cancelled instead of waiting, with a body that it does not read."""
    j = environ["weir.job"]
    note("begin", os.getpid())
    while not j.cancelled:
        time.sleep(0.005)
    note("cancelled", os.getpid())
    raise weir.Cancelled


def stage1(environ, start_response):
    body = environ["wsgi.input"].read()
    return weir.forward("stage2", "/then?x=1", b"<" + body + b">", "text/x-stage")(environ, start_response)


def stage2(environ, start_response):
    j = environ["weir.job"]
    start_response("200 OK", TEXT)
    return [f"{j.hop} {environ['REQUEST_METHOD']} {environ['PATH_INFO']} {environ['QUERY_STRING']} "
            f"{environ['CONTENT_TYPE']} {environ['HTTP_WEIR_ORIGINAL_METHOD']} ".encode(),
            environ["wsgi.input"].read()]


@validator
def checked(environ, start_response):
    """wsgiref.validate finds what breaks PEP 3333 on either side."""
    body = environ["wsgi.input"].read(1000000)
    start_response("200 OK", TEXT)
    return [b"%d" % len(body)]


def app(environ, start_response):
    return globals()[environ["weir.job"].service](environ, start_response)


def gate():
    return os.path.exists(os.environ["GATE"])


def gate_in_seconds():
    return True if gate() else 0.05
