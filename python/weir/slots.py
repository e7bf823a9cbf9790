# SPDX-License-Identifier: Apache-2.0
"""A worker's slots.

For a hub a connection that waits is a free slot. So there is a thread ("lane") for each slot at each hub: it
holds that connection, and runs the jobs that come on it one after the other. `slots` bounds the jobs at once
over all hubs: a job that comes while all slots work for other hubs waits for the first that becomes free.

stop() may run in a signal handler, so it takes no lock. A lane says that it is attached before it looks
whether to stop; run() says stop before it looks who is attached. So no job is taken that nobody waits for.
"""

import logging
import os
import random
import select
import socket
import threading
import time

from .connection import Request, dial, make_upgrade, parse_address
from .wsgi import run_job

log = logging.getLogger("weir")

BACKOFF_MIN, BACKOFF_MAX = 0.05, 5.0
GATE_INTERVAL = 1.0  # seconds between two questions to a gate that is open, or says just False


class Hub:
    """What the lanes of one hub share: its address, and what was last said of it in the log."""

    def __init__(self, name):
        self.name, self.address, self.said = name, parse_address(name), None

    def say(self, text, level=logging.WARNING):
        if text != self.said:
            self.said = text
            log.log(level, "%s: %s", self.name, text)


class Lane(threading.Thread):
    def __init__(self, worker, hub):
        super().__init__(daemon=True, name=f"weir-{hub.name}")
        self.worker, self.hub = worker, hub
        self.attached = False  # it has a connection, so there may be a job
        self.failures = 0

    def run(self):
        worker = self.worker
        while not worker.stopping:
            wait = worker.gate_wait() or self.attach()
            if wait:
                worker.pause(wait)

    def attach(self):
        """One connection, from dialling to its end; returns how long to wait before the next."""
        since = time.monotonic()
        try:
            connection = dial(self.hub.address, self.worker.upgrade)
            try:
                self.attached = True
                self.hub.say("connected", logging.INFO)
                if self.serve(connection):
                    return 0
                self.hub.say("it closed the connection")
            finally:
                connection.close()
                self.attached = False
                with self.worker.changed:
                    self.worker.changed.notify_all()
        except Exception as e:
            self.hub.say(f"{type(e).__name__}: {e}")
        if time.monotonic() - since > BACKOFF_MAX + 1:
            self.failures = 0  # it was good for a while: try again at once
            return 0
        wait = min(BACKOFF_MAX, BACKOFF_MIN * 2 ** min(self.failures, 10))
        self.failures += 1
        return wait * random.uniform(0.5, 1)

    def serve(self, connection):
        """Runs jobs until the connection ends. False: the hub ended it while it waited for one."""
        poll = select.poll()
        poll.register(connection.sock, select.POLLIN)
        poll.register(self.worker.wake, select.POLLIN)
        while connection.data or self.wait_for_job(connection, poll):
            lines = connection.head()
            if lines is None:
                return False
            self.failures = 0
            if not self.worker.run_job(Request(lines, connection), connection):
                break
        return True

    def wait_for_job(self, connection, poll):
        """True when there is something to read; False when the slot is withdrawn."""
        worker = self.worker
        while True:
            withdrawn = worker.stopping or worker.gate_wait() > 0
            ready = poll.poll(0 if withdrawn else worker.gate and GATE_INTERVAL * 1000)
            if any(fd == connection.sock.fileno() for fd, _ in ready):
                return True  # a job that has come is run
            if withdrawn:
                return False


class Worker:
    """Runs a WSGI application as a worker.

    gate(): True when a slot may take a job; False, or a number of seconds, when it shall wait. It is asked
    before a slot opens its connection, each second while that waits, and before each answer; by one thread at
    a time; it must not block. mount: the beginning of the path that is SCRIPT_NAME. drain: seconds that
    running jobs have to finish after stop(). ValueError when an option cannot be."""

    def __init__(self, app, hubs=("127.0.0.1:8081",), services=(), slots=1, id=None, labels="", token="",
                 gate=None, drain=28.0, mount="", multiprocess=False):
        if slots < 1 or not hubs or not services:
            raise ValueError("a worker has at least one slot, one hub and one service")
        self.app, self.gate, self.drain = app, gate, drain
        self.upgrade = make_upgrade(services, id or f"{socket.gethostname()}-{os.getpid()}", labels, token)
        self.surroundings = {"mount": mount, "multithread": slots > 1, "multiprocess": multiprocess}
        self.slots = threading.BoundedSemaphore(slots)
        self.lanes = [Lane(self, hub) for hub in map(Hub, hubs) for _ in range(slots)]
        self.gate_lock, self.changed = threading.Lock(), threading.Condition()
        self.stopping = False
        self.wake, self._wake_end = os.pipe()  # readable for ever once the worker stops

    def run(self, until=None):
        """Until stop(), or until the descriptor `until` is readable. True when all jobs ended in time."""
        for lane in self.lanes:
            lane.start()
        self.pause(None, until)
        self.stop()
        log.info("draining")
        with self.changed:
            return self.changed.wait_for(lambda: not any(lane.attached for lane in self.lanes), self.drain)

    def stop(self):
        """Idle connections close, running jobs finish, run() returns. From any thread or signal handler."""
        if not self.stopping:
            self.stopping = True
            os.write(self._wake_end, b"x")

    def pause(self, seconds, until=None):
        """Sleeps, but not longer than until stop(). None: until then."""
        poll = select.poll()
        poll.register(self.wake, select.POLLIN)
        if until is not None:
            poll.register(until, select.POLLIN)
        poll.poll(seconds and seconds * 1000)

    def gate_wait(self):
        """0 when the gate is open, else the seconds after which to ask again."""
        if self.gate is None:
            return 0
        try:
            with self.gate_lock:
                answer = self.gate()
        except Exception:
            log.exception("the gate failed, so it counts as closed")
            answer = False
        if isinstance(answer, bool):
            return 0 if answer else GATE_INTERVAL
        return max(0, answer)

    def run_job(self, request, connection):
        """False when the connection is to be closed after it."""
        while not self.slots.acquire(timeout=0.1):
            if connection.closed():
                return False
        try:
            return run_job(self.app, request, connection, lambda: self.stopping or self.gate_wait() > 0,
                           **self.surroundings)
        finally:
            self.slots.release()
