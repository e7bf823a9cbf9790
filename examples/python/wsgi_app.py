# SPDX-License-Identifier: Apache-2.0
"""A WSGI application as a worker. Beside a hub (weir hub), from the top of the source tree:

    export PYTHONPATH=python:examples/python
    python3 -m weir.worker --service hello,count --slots 4 wsgi_app:app
    curl 'http://127.0.0.1:8080/hello?name=Ada'
    curl -N http://127.0.0.1:8080/count          # Ctrl-C: the application notices

Flask, Django and all others that speak WSGI run the same way.
"""

from urllib.parse import parse_qs


def hello(environ, start_response):
    if environ["REQUEST_METHOD"] == "POST":
        name = environ["wsgi.input"].read().decode("utf-8", "replace")
    else:
        name = parse_qs(environ["QUERY_STRING"]).get("name", ["world"])[0]
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"Hello, {name}!\n".encode()]


def count(environ, start_response):
    """A line each half second, for as long as somebody listens."""
    job = environ["weir.job"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    for n in range(1, 121):
        yield b"%d\n" % n
        if job.wait(0.5):
            print("the client of job", job.id, "has left", flush=True)
            return


def app(environ, start_response):
    return {"hello": hello, "count": count}[environ["weir.job"].service](environ, start_response)
