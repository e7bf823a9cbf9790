# SPDX-License-Identifier: Apache-2.0
"""Black-box tests of weir: real processes, raw sockets, real clients.

Reading order: case.py (a test and what it starts), process.py (one child process), hub.py (the hub and
its workers), http.py (a client that sends exact bytes and reads strictly), h1.py and h2.py (workers made by
hand that may misbehave), zmqworker.py (another), metrics.py (Prometheus text). No fixed ports, no bare sleeps: everything waits for a
condition with wait_until, and every test has a time limit.
"""

from .case import Case, main, sanitized, scaled, slow
from .h1 import H1Worker, Handler, OnceHandler, Turned
from .h2 import FakeWorker, Handshake
from .http import Client, Closed, Malformed, Response, request_bytes
from .hub import OVER_ZMQ, Hub, Worker, source_blocks
from .metrics import Metrics
from .process import Process, wait_until

try:
    from .zmqworker import ZmqWorker
except ImportError:  # only the tests of ZeroMQ need pyzmq
    ZmqWorker = None

__all__ = [
    "Case", "Client", "Closed", "FakeWorker", "H1Worker", "Handler", "Handshake", "Hub", "Malformed", "Metrics",
    "OVER_ZMQ", "OnceHandler", "Process", "Response", "Turned", "Worker", "ZmqWorker", "main", "request_bytes", "sanitized", "scaled",
    "slow", "source_blocks", "wait_until",
]
