#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills a hub again and again, at any moment, while clients and workers go on, and judges what they have seen.

    crash.py [--rounds N] [--lose none|unsynced|torn|all] [--seed N] [--world N] [--mutant NAME] [--keep]
    crash.py --each-change [N]

A world is a data directory with a hub, workers and clients around it. Each round ends with a kill -9 of the hub, which
is then started again. With --lose, most kills come with a power failure: what the hub had not synced is lost
(unsynced), or some of it is, and the last write is torn (torn). In the end all work is let finish, everything left is
read, the hub is killed once more, and everything is read again; then checker.py judges. A failure prints the seed,
the offences with the history of what they are about, and keeps the directory.

With --each-change it is short lives instead: the hub is killed with the first change of its files, in the next world with
the second, and so on.

With --mutant the hub is made to lie, and the exit status is 0 when the checker has found that:
    no-sync      fsync does nothing
    late-sync    fsync comes too late: as if a hub answered before its commit was durable
"""

import argparse
import glob
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]

import checker  # noqa: E402
import history  # noqa: E402
from clients import ROUTES, STAYING, Broken  # noqa: E402
from clients import Hub as Client  # noqa: E402
from disk import Disk  # noqa: E402
from weirtest import Hub, Process, sanitized, scaled, wait_until  # noqa: E402

ATTEMPTS = 5
FLAGS = ["--job-backoff", "20ms", "--job-backoff-most", "100ms", "--job-attempts", str(ATTEMPTS), "--topic-ack-time", "300ms",
         "--log-level", "warn", *ROUTES]
LIES = {"no-sync": {"UNSYNCED_LIE": "none"}, "late-sync": {"UNSYNCED_LIE": "late"}}
WORKERS = 2
SLOTS = 6
SHIM = os.path.abspath(os.environ.get("UNSYNCED") or os.path.join(HERE, "..", "..", "build", "test", "crash", "unsynced.so"))


class Failed(Exception):
    """It went wrong in a way that no history shows."""


def free_ports(count, chance):
    """Below those that the kernel gives to clients: who dials a dead hub's port must not get it as its own."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        first = int(f.read().split()[0])
    ports = set()
    while len(ports) < count:
        port = chance.randrange(10000, max(first, 20000))
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                ports.add(port)
            except OSError:
                pass
    return [f"127.0.0.1:{p}" for p in ports]


class World:
    def __init__(self, directory, lose, lie, seed):
        self.directory, self.lose, self.lie, self.seed = directory, lose, lie, seed
        self.chance = random.Random(seed)
        self.data = os.path.join(directory, "data")
        self.listen, self.attach = free_ports(2, self.chance)
        self.record = history.Recorder(self.path("hub.jsonl"))
        self.record.add("settings", attempts=ATTEMPTS, lose=lose, seed=seed)
        self.disk = Disk(self.data) if lose != "none" else None
        self.reached = False
        self.processes, self.workers, self.starts, self.kills, self.losses = [], [], 0, 0, 0

    def path(self, name):
        return os.path.join(self.directory, name)

    # ---- processes ----

    def start(self, wait=True, stop=None):
        """stop: it kills itself with so many changes of its files."""
        self.starts, self.stops = self.starts + 1, stop
        env = {}
        if self.disk:
            env = {"LD_PRELOAD": SHIM, "UNSYNCED_ROOT": self.data, "UNSYNCED_LOG": self.path("writes"),
                   "UNSYNCED_DELAY": str(self.chance.choice([0, 0, 500, 3000])), "ASAN_OPTIONS": "verify_asan_link_order=0"}
        if stop:
            env["UNSYNCED_STOP"] = str(stop)
        env.update(self.lie)
        self.hub = Hub(f"hub{self.starts}", self.directory, ["--data", self.data, *FLAGS], listen=self.listen,
                       worker_listen=self.attach, env=env)
        self.record.add("start", at=history.now(), pid=self.hub.pid)
        if wait:
            self.wait_ready()

    def wait_ready(self):
        try:
            self.hub.wait_ready(scaled(15))
        except AssertionError as e:
            raise Failed(f"the hub does not start: {e}\n{self.hub.report()}") from None

    def run(self, program, *args):
        name = f"{program.removesuffix('.py')}{len(self.processes)}"
        process = Process(name, ["/usr/bin/python3", os.path.join(HERE, program), *args], self.directory)
        self.processes.append(process)
        return process

    def start_worker(self):
        n = len(self.processes)
        self.workers.append(self.run("worker.py", f"w{n}", self.attach, str(SLOTS), self.path(f"worker{n}.jsonl"),
                                     f"{self.seed} {n}"))

    def start_all(self):
        for _ in range(self.chance.randrange(4) if self.disk else 0):  # while it makes its files
            self.start(wait=False, stop=self.chance.randrange(1, 100))
            self.wait_stopped()
            self.end_hub()
        self.start()
        for _ in range(WORKERS):
            self.start_worker()
        self.clients = [self.run("clients.py", role, self.listen, self.path(f"{role}.jsonl"), f"{self.seed}")
                        for role in ("jobs", "topics")]

    def stop_all(self):
        for process in self.processes:
            process.stop()
        self.hub.stop()

    # ---- rounds ----

    def live(self, rounds):
        self.start_all()
        for _ in range(rounds):
            self.round()
        self.finish()

    def round(self):
        """Some time of work, and a kill: often early, when the hub has just been started."""
        r = self.chance.random()
        if self.stops:
            self.wait_stopped()
        elif r < 0.25:
            time.sleep(self.chance.random() * 0.06)  # any moment will do; so below
        else:
            self.wait_ready()
            time.sleep(self.chance.random() * (0.2 if r < 0.4 else 1.2))
        if self.chance.random() < 0.1:
            worker = self.workers.pop(0)
            worker.kill()
            self.record.add("kill-worker", at=history.now())
            self.start_worker()
        self.end_hub(gently=r > 0.93)
        self.start(wait=False, stop=self.when_to_stop())

    def when_to_stop(self):
        if not self.disk:
            return None
        return self.chance.choice([None, None, self.chance.randrange(1, 40), self.chance.randrange(1, 2000)])

    def wait_stopped(self):
        try:
            self.hub.wait(1.5)
        except AssertionError:
            pass  # it did not come to that

    def end_hub(self, gently=False, lose=None):
        gently = gently and not self.stops
        if not self.hub.alive() and not (self.stops and self.hub.popen.returncode == -signal.SIGKILL):
            raise Failed(f"the hub ended by itself\n{self.hub.report()}")
        if gently:
            self.record.add("drain", at=history.now())
            self.hub.terminate(scaled(30))
        else:
            self.hub.kill()
        self.record.add("kill", at=history.now(), pid=self.hub.pid, gently=gently)
        self.kills += not gently
        for word in ("Sanitizer", "runtime error:", "assertion", "unsynced:"):
            if word in self.hub.stderr():
                raise Failed(self.hub.report())
        if self.disk:
            self.disk.follow(self.path("writes"))
            if not self.disk.compare() or (self.chance.random() < 0.75 if lose is None else lose):
                self.losses += 1
                self.disk.lose(self.lose, self.chance)

    # ---- each change ----

    def interrupted(self, change):
        """The hub dies with its n-th change, which is not lost; it is started again, accepts one large job, dies, and
        all that was not synced is lost. reached: it has come to so many changes."""
        self.start_worker()
        self.start(wait=False, stop=change)
        if not self.deal():
            self.wait_stopped()
            self.reached = not self.hub.alive()
            if not self.reached:
                raise Failed(f"no answer from a hub that lives\n{self.hub.report()}")
        self.end_hub(lose=False)
        self.start()
        self.deal(all_of_it=False)
        self.end_hub(lose=True)
        self.start()
        reading = Reading(self)
        reading.wait_ended()
        reading.read()
        self.end_hub()

    def deal(self, all_of_it=True):
        """What makes files and directories, by one client. False: the hub died over it."""
        client, token = client_of(self, f"client{self.starts}"), f"order{self.starts}"
        body = self.chance.randbytes(100000)
        try:
            self.hub.wait_ready(scaled(3))
            job = client.submit(token, "work", body, query="&ms=100&fill=100000")["job"]
            if all_of_it:
                client.subscribe("t0", "a")
                client.publish("t0", token, f"{token}\n".encode() + body)
                client.result(job, wait="5s")
                client.read("t0", "a", False)
                client.unsubscribe("t0", "a")
            return True
        except (AssertionError, Broken):
            return False  # end_hub looks at how it died

    # ---- the end ----

    def finish(self):
        """All work ends; everything is read; once more after a last kill."""
        if self.stops:
            self.wait_stopped()
            self.end_hub()
            self.start(wait=False)
        self.wait_ready()
        for client in self.clients:
            client.signal(signal.SIGTERM)
        for client in self.clients:
            if client.wait(scaled(60)) != 0:
                raise Failed(client.report())
        reading = Reading(self)
        reading.wait_ended()
        reading.read()
        self.end_hub()
        self.start()
        Reading(self).read()
        self.record.add("drain", at=history.now())
        self.hub.terminate(scaled(30))
        for worker in self.workers:
            if not worker.alive():
                raise Failed(worker.report())

    def judge(self):
        records = history.load(glob.glob(self.path("*.jsonl")))
        self.counts = {op: sum(r["op"] == op for r in records) for op in ("submit", "begin", "publish", "read")}
        return checker.judge(records)

    def summary(self):
        lost = f", {self.losses} losses" if self.disk else ""
        return f"{self.lose}: {self.kills} kills{lost}, " + ", ".join(
            f"{n} {what}" for what, n in zip(("orders", "executions", "messages", "reads"), self.counts.values()))


def client_of(world, name):
    host, port = world.listen.rsplit(":", 1)
    return Client((host, int(port)), world.record, name)


class Reading:
    """Reads what there is when all clients have stopped."""

    def __init__(self, world):
        self.world, self.client = world, client_of(world, "last")
        self.records = history.load(glob.glob(world.path("*.jsonl")))

    def ask(self, request):
        """The hub lives: there must be an answer. If not, the checker will say so, unless there is no hub."""
        try:
            return request()
        except Broken as e:
            if e.refused:
                raise Failed(f"no connection to a hub that lives\n{self.world.hub.report()}") from None
            return {"status": None, "jobs": [], "next": None}

    def wait_ended(self):
        def ended():
            return not self.ask(lambda: self.client.listed(query="&state=queued,running"))["jobs"]
        try:
            wait_until(ended, scaled(60), "all jobs have ended", interval=0.2)
        except AssertionError:
            pass  # the checker will see which

    def read(self):
        for job in self.jobs():
            self.ask(lambda: self.client.state(job))
            self.ask(lambda: self.client.result(job))
        for (topic, sub), explicit in self.subscriptions().items():
            self.drain(topic, sub, explicit)

    def jobs(self):
        """Those that were accepted, and all others."""
        jobs = {r["job"] for r in self.records if r["op"] == "submit" and r.get("job")}
        after = None
        while True:
            page = self.ask(lambda: self.client.listed(after))
            jobs.update(page["jobs"])
            after = page["next"]
            if not after:
                return sorted(jobs)

    def subscriptions(self):
        found = {(r["topic"], r["sub"]): False for r in self.records if r["op"] == "subscribe"}
        found.update({(topic, sub): explicit for topic, sub, explicit in STAYING if (topic, sub) in found})
        return found

    def drain(self, topic, sub, explicit):
        while True:
            read = self.ask(lambda: self.client.read(topic, sub, explicit, "700ms" if explicit else None, final=True))
            if read["status"] != 200:
                return
            if explicit:
                self.ask(lambda: self.client.ack(read))


# ---- command line ----

def run_world(args, number, lose, top, what):
    """what: is done with the world. The world, how many offences, and whether there was other trouble."""
    directory = os.path.join(top, f"world{number}")
    os.mkdir(directory)
    world = World(directory, lose, LIES.get(args.mutant, {}), f"{args.seed} {number}")
    began, trouble = time.monotonic(), None
    try:
        what(world)
    except (Failed, AssertionError) as e:
        trouble = f"{type(e).__name__}: {e}"
    finally:
        world.stop_all()
    offences = [o for o in world.judge() if not (trouble and o.kind in (checker.NOT_JUDGED, checker.NEVER_ENDED))]
    if not args.each_change or offences or trouble:
        print(f"world {number}: {world.summary()}: {len(offences)} offences ({time.monotonic() - began:.1f} s)", flush=True)
    for offence in offences[:10]:
        print(f"  {offence}")
    if trouble:
        print(f"  {trouble}")
    return world, len(offences), bool(trouble)


def each_change(args, top):
    step = args.each_change
    for number in itertools.count(random.Random(args.seed).randrange(step) + 1, step):
        world, offences, trouble = run_world(args, number, "unsynced", top, lambda w, n=number: w.interrupted(n))
        if offences or trouble or not world.reached:
            print(f"changes up to {number}")
            return offences, trouble


def rounds(args, top):
    ways = ["none", "unsynced", "torn"] if args.lose == "all" else [args.lose]
    offences, trouble = 0, False
    for number, done in enumerate(range(0, args.rounds, args.world)):
        count = min(args.world, args.rounds - done)
        _, offences, trouble = run_world(args, number + 1, ways[number % len(ways)], top, lambda w, n=count: w.live(n))
        if offences or trouble:
            break
    return offences, trouble


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="kills (20)")
    parser.add_argument("--world", type=int, default=0, help="kills of one data directory (7, or 25 of many)")
    parser.add_argument("--lose", choices=["none", "unsynced", "torn", "all"], default="all")
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(10**9)))
    parser.add_argument("--mutant", choices=LIES)
    parser.add_argument("--each-change", type=int, nargs="?", const=1, metavar="N", help="or each Nth one")
    parser.add_argument("--keep", action="store_true", help="keep the directory in any case")
    args = parser.parse_args()
    args.world = args.world or (7 if args.rounds <= 50 else 25)
    if args.mutant:
        args.lose = "unsynced"
    if (args.lose != "none" or args.each_change) and not os.path.exists(SHIM):
        parser.error(f"{SHIM} is not there: UNSYNCED must name it")
    return args


def main():
    args = arguments()
    top = os.path.realpath(tempfile.mkdtemp(prefix="weircrash-"))
    print(f"seed {args.seed}", flush=True)
    offences, trouble = (each_change if args.each_change else rounds)(args, top)
    good = offences > 0 if args.mutant else not (offences or trouble)
    if args.keep or not good:
        print(f"kept: {top}")
    else:
        shutil.rmtree(top)
    if not good:
        print(f"FAILED: {'nothing was found' if args.mutant else 'run it again'} with --seed {args.seed}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
