# SPDX-License-Identifier: Apache-2.0
"""One child process in a group of its own, its output in files, and the wait for a condition."""

import ctypes
import os
import signal
import subprocess
import time

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_until(condition, limit=10.0, what="", interval=0.01):
    """Calls condition until it gives something true, and returns that; fails after limit seconds."""
    end = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise AssertionError(f"not within {limit:g} s: {what or condition}")
        time.sleep(interval)


class Process:
    """A child process. It dies with the test runner, and its whole group dies with stop()."""

    def __init__(self, name, argv, directory, env=None, stdin=subprocess.DEVNULL):
        self.name = name
        self.argv = [str(a) for a in argv]
        self.stdout_path = os.path.join(directory, name + ".out")
        self.stderr_path = os.path.join(directory, name + ".err")
        full_env = dict(os.environ)
        for key in [k for k in full_env if k.startswith("WEIR_")]:
            del full_env[key]  # WEIR_... configures hubs; the tests must not inherit any of it
        full_env.update(env or {})
        with open(self.stdout_path, "wb") as out, open(self.stderr_path, "wb") as err:
            self.popen = subprocess.Popen(self.argv, stdin=stdin, stdout=out, stderr=err, env=full_env,
                                          cwd=directory, start_new_session=True,
                                          preexec_fn=_die_with_parent)
        self.pid = self.popen.pid

    def signal(self, number):
        self.popen.send_signal(number)

    def kill(self):
        """kill -9, and waits until the kernel has taken it away."""
        self.popen.kill()
        self.popen.wait()

    def alive(self):
        return self.popen.poll() is None

    def wait(self, limit=10.0):
        """The exit status (negative: the signal); fails when it still runs after limit seconds."""
        try:
            return self.popen.wait(limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {limit:g} s") from None

    def stop(self):
        """Kills the group; harmless when it has ended."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self.popen.wait()
        if self.popen.stdin:
            self.popen.stdin.close()

    def stdout(self):
        with open(self.stdout_path, errors="replace") as f:
            return f.read()

    def stderr(self):
        with open(self.stderr_path, errors="replace") as f:
            return f.read()

    def memory(self, field):
        """A field of /proc/PID/status ("VmRSS", "VmHWM") in bytes."""
        with open(f"/proc/{self.pid}/status") as f:
            for line in f:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) * 1024
        raise AssertionError(f"{self.name} has no {field}")

    def rss(self):
        return self.memory("VmRSS")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def report(self):
        """What to show when a test fails."""
        text = f"--- {self.name}: {' '.join(self.argv)} (pid {self.pid}, exit {self.popen.poll()})\n"
        for stream, content in (("stdout", self.stdout()), ("stderr", self.stderr())):
            if content:
                tail = content[-6000:]
                text += f"--- {self.name} {stream}\n{tail}{'' if tail.endswith(chr(10)) else chr(10)}"
        return text
