#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Workers of all kinds that stop or vanish: every client hears of it within the limits, nothing is left behind."""

import os
import shutil
import signal
import subprocess
import sys
import unittest

from weirtest import Case, main, request_bytes, wait_until
from weirtest.hub import weir_binary

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
APP = '''
import time
def app(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    if "slow" in environ["PATH_INFO"]:
        time.sleep(60)
    return [b"hello"]
'''


class Faults(Case):
    def workers(self, h, before=()):
        """A worker by HTTP/2, one by HTTP/1.1 and one by ZeroMQ, of services of their own."""
        with open(os.path.join(self.directory, "slow_app.py"), "w") as f:
            f.write(APP)
        address = h.worker_addresses[0]
        script = 'case "$PATH_INFO" in *slow*) sleep 60;; esac; printf hello'
        command = lambda name, hub: self.start(name, [*before, weir_binary(), "work", name, "--id", name, "--hub", hub, "--",
                                                      "sh", "-c", script])
        h2, z = command("h2", address), command("zmq", h.endpoints[0].replace("://", "+zmq://"))
        h1 = self.start("h1", [*before, sys.executable, "-m", "weir.worker", "--id", "h1", "--hub", address,
                               "--service", "h1", "slow_app:app"],
                        env={"PYTHONPATH": f"{ROOT}/python:{self.directory}", "PYTHONDONTWRITEBYTECODE": "1"})
        h.wait_workers(3)
        return h2, h1, z

    def ask_all(self, h, target, headers=()):
        clients = []
        for service in ("h2", "h1", "zmq"):
            client = self.client(h)
            client.send(request_bytes("POST", f"/{service}/{target}", headers, b"x"))
            clients.append(client)
        return clients

    def test_stopped(self):
        h = self.hub("--heartbeat", "200ms", "--zmq", "tcp://127.0.0.1:0")
        workers = self.workers(h)
        for client in self.ask_all(h, "quick"):
            self.assertEqual(client.response("POST").body, b"hello")
        clients = self.ask_all(h, "slow", [("Weir-Timeout", "3s")])
        h.wait_running(3)
        for w in workers:
            os.killpg(w.pid, signal.SIGSTOP)
        # By HTTP/2 and ZeroMQ the heartbeat tells; a kept HTTP/1.1 connection has none, and the deadline ends it.
        self.assertEqual([client.response("POST").status for client in clients], [502, 504, 502])
        h.wait_status(lambda s: s["requests"] == 0 and not s["jobs"] or all(j["state"] == "leaving" for j in s["jobs"]), 5)
        for w in workers:
            w.stop()
        h.wait_workers(0)
        self.assertEqual(h.status()["jobs"], [])

    def test_killed_while_streaming(self):
        h = self.hub("--zmq", "tcp://127.0.0.1:0")
        workers = self.workers(h)
        clients = self.ask_all(h, "slow")
        h.wait_running(3)
        for w in workers:
            w.kill()
        self.assertEqual([client.response("POST").status for client in clients], [502, 502, 502])
        h.wait_workers(0)
        h.wait_idle()

    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("ip"), "wants root and iproute2, for a network of its own")
    def test_vanished(self):
        """The cable is pulled: no FIN, no RST. Running jobs and waiting connections are found out."""
        name = f"weir{os.getpid()}"
        run = lambda *argv: subprocess.run(argv, check=True, capture_output=True)
        run("ip", "netns", "add", name)
        self.addCleanup(subprocess.run, ["ip", "netns", "del", name], capture_output=True)
        run("ip", "link", "add", name[-9:] + "a", "type", "veth", "peer", "name", name[-9:] + "b", "netns", name)
        self.addCleanup(subprocess.run, ["ip", "link", "del", name[-9:] + "a"], capture_output=True)
        run("ip", "addr", "add", "10.203.77.1/24", "dev", name[-9:] + "a")
        run("ip", "link", "set", name[-9:] + "a", "up")
        run("ip", "-n", name, "addr", "add", "10.203.77.2/24", "dev", name[-9:] + "b")
        run("ip", "-n", name, "link", "set", name[-9:] + "b", "up")
        h = self.hub("--heartbeat", "500ms", "--zmq", "tcp://10.203.77.1:0", worker_listen="10.203.77.1:0")
        self.workers(h, ["ip", "netns", "exec", name])
        clients = self.ask_all(h, "slow", [("Weir-Timeout", "20s")])
        h.wait_running(3)
        run("ip", "link", "set", name[-9:] + "a", "down")
        self.assertEqual([client.response("POST").status for client in clients], [502, 502, 502])
        h.wait_workers(0)
        wait_until(lambda: not h.status()["jobs"], 5)


if __name__ == "__main__":
    main()
