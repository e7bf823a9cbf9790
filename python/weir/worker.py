# SPDX-License-Identifier: Apache-2.0
"""python3 -m weir.worker: see --help. With --processes, the first process only starts, restarts and stops the
others. They drain when it tells them to, and also when it dies."""

import argparse
import functools
import importlib
import logging
import os
import select
import signal
import socket
import sys
import time

from .connection import make_upgrade, parse_address
from .slots import Worker

log = logging.getLogger("weir")

OK, FAILED = 0, 1  # and 2, which argparse exits with
SIGNALS = signal.SIGTERM, signal.SIGINT
NOT_LOADED = 70  # a child's exit code: starting it again would be no use


def options():
    p = argparse.ArgumentParser(
        prog="python3 -m weir.worker", description="Runs a WSGI application as a worker of weir.",
        epilog="SIGTERM or SIGINT: running jobs finish, then it exits 0; a second one ends it at once. "
               "Exit codes: 0 ok, 1 failed, 2 usage.")
    add = p.add_argument
    add("app", metavar="MODULE:APP", help="the application")
    add("--hub", action="append", metavar="ADDR",
        help="HOST:PORT or unix:PATH where a hub waits for workers; again for more hubs (127.0.0.1:8081)")
    add("--service", required=True, metavar="NAME[,NAME]", help="what it offers")
    add("--slots", type=int, default=1, metavar="N", help="jobs at once in a process, each on a thread (1)")
    add("--processes", type=int, default=1, metavar="N", help="processes, each with its slots (1)")
    add("--labels", default="", metavar="K=V,...", help="labels of the worker")
    add("--token", default=os.environ.get("WEIR_TOKEN", ""), metavar="T",
        help="what the hub asks for; better in the environment: WEIR_TOKEN")
    add("--gate", metavar="MODULE:CALL",
        help="called before a slot may take a job; returns True, or False or seconds to wait")
    add("--id", default=f"{socket.gethostname()}-{os.getpid()}", help="name in logs (HOSTNAME-PID)")
    add("--drain", type=float, default=28.0, metavar="S", help="seconds that running jobs have to end (28)")
    add("--mount", default="", metavar="PATH", help="beginning of the path that is SCRIPT_NAME, as /hello")
    add("--verbose", action="store_true", help="log cancelled jobs too")
    o = p.parse_args()
    o.hub, o.service = o.hub or ["127.0.0.1:8081"], o.service.split(",")
    try:
        for hub in o.hub:
            parse_address(hub)
        make_upgrade(o.service, o.id, o.labels, o.token)
    except ValueError as e:
        p.error(str(e))
    if not 1 <= o.slots <= 4096 or not 1 <= o.processes <= 1024:
        p.error("--slots is 1 to 4096, --processes is 1 to 1024")
    if o.mount and (o.mount[0] != "/" or o.mount[-1] == "/"):
        p.error("--mount begins with a slash and does not end with one")
    for name in filter(None, (o.app, o.gate)):
        if not all(name.partition(":")):
            p.error(f"{name!r} is not MODULE:NAME")
    return o


def load(text):
    module, _, path = text.partition(":")
    found = functools.reduce(getattr, path.split("."), importlib.import_module(module))
    if not callable(found):
        raise TypeError(f"{text} cannot be called")
    return found


def on_signals(first, second):
    """SIGTERM or SIGINT calls first; the next one, and all after it, second."""
    calls = [first]
    for each in SIGNALS:
        signal.signal(each, lambda *_: (calls.pop() if calls else second)())


def work(o, child=None, parent=None):
    """This process is a worker. child: its number. parent: a descriptor, readable when it shall drain."""
    try:
        app, gate = load(o.app), load(o.gate) if o.gate else None
    except Exception:
        log.exception("cannot load the application")
        return NOT_LOADED
    name = o.id if child is None else f"{o.id}-{child}"
    worker = Worker(app, o.hub, o.service, o.slots, name, o.labels, o.token, gate, o.drain, o.mount,
                    multiprocess=child is not None)
    on_signals(worker.stop, lambda: os._exit(FAILED))
    if child is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent too, and it tells us
    if worker.run(parent):
        return OK
    log.error("not all jobs finished within the drain")
    return FAILED


class Family:
    """Several processes, seen from the first."""

    def __init__(self, o):
        self.o, self.stopping, self.status = o, False, OK
        self.children = {}  # pid: (number, when it began)
        self.life, self.life_end = os.pipe()  # the children wait for its end

    def start(self, number):
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        pid = None if self.stopping else os.fork()
        if pid == 0:
            self.child(number)
        if pid:
            self.children[pid] = number, time.monotonic()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def child(self, number):
        status = FAILED
        try:
            for each in SIGNALS:  # while it loads; the pipe tells it whether to stop
                signal.signal(each, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            os.close(self.life_end)
            status = work(self.o, number, self.life)
            sys.stdout.flush()
        except BaseException:
            log.exception("process %d failed", os.getpid())
        os._exit(status)

    def stop(self):
        if not self.stopping:
            self.stopping = True
            os.close(self.life_end)

    def kill(self):
        for pid in self.children:
            os.kill(pid, signal.SIGKILL)
        os._exit(FAILED)

    def run(self):
        on_signals(self.stop, self.kill)
        for number in range(self.o.processes):
            self.start(number)
        while self.children:
            pid, status = os.wait()
            number, since = self.children.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            if code == NOT_LOADED:
                self.stop()
            if self.stopping:
                self.status = self.status if code == OK else FAILED
                continue
            log.error("process %d ended with %d and is started again", pid, code)
            if time.monotonic() - since < 1:
                select.select([], [], [], 1)
            self.start(number)
        return self.status


def main():
    o = options()
    logging.basicConfig(level=logging.DEBUG if o.verbose else logging.INFO, stream=sys.stderr,
                        format="%(asctime)s weir.worker[%(process)d] %(levelname)s %(message)s")
    status = work(o) if o.processes == 1 else Family(o).run()
    return FAILED if status == NOT_LOADED else status


if __name__ == "__main__":
    sys.exit(main())
