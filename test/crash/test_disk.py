#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Power failures as the tests make them: files written by Python's own calls, and an SQLite database that is killed."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from disk import Disk, WrongNotes

SHIM = os.environ.get("UNSYNCED", "unsynced.so")

DATABASE = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1] + "/x.db", isolation_level=None)
db.execute("PRAGMA journal_mode=WAL")
db.execute("PRAGMA wal_autocheckpoint=20")
db.execute("PRAGMA synchronous=FULL")
db.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, x BLOB)")
n = db.execute("SELECT max(n) FROM t").fetchone()[0] or 0
while True:
    n += 1
    db.execute("INSERT INTO t VALUES (?, ?)", (n, os.urandom(300 + n % 7 * 1000)))
    os.write(1, b"%d\\n" % n)
"""


class Power(unittest.TestCase):
    def setUp(self):
        self.top = os.path.realpath(tempfile.mkdtemp(prefix="weircrash-disk-"))
        self.addCleanup(shutil.rmtree, self.top)
        self.root, self.log = os.path.join(self.top, "data"), os.path.join(self.top, "log")
        os.mkdir(self.root)
        self.disk = Disk(self.root)

    def start(self, code, lie=""):
        env = dict(os.environ, LD_PRELOAD=SHIM, UNSYNCED_ROOT=self.root, UNSYNCED_LOG=self.log, UNSYNCED_LIE=lie)
        return subprocess.Popen([sys.executable, "-c", code, self.root], cwd=self.root, env=env, stdout=subprocess.PIPE)

    def run_code(self, code, lie=""):
        with self.start("import os\n" + code, lie) as process:
            process.communicate(timeout=20)
        self.assertEqual(process.returncode, 0)
        self.disk.follow(self.log)
        self.assertTrue(self.disk.compare())

    def lose(self, how="unsynced", seed=1):
        self.disk.lose(how, random.Random(seed))
        found = {}
        for path, _, names in os.walk(self.root):
            for name in names:
                where = os.path.join(path, name)
                with open(where, "rb") as f:
                    found[os.path.relpath(where, self.root)] = f.read()
        return found

    FILE = "f = os.open('a', os.O_CREAT | os.O_RDWR)\nd = os.open('.', os.O_RDONLY)\n"

    def test_nothing_synced(self):
        self.run_code(self.FILE + "os.write(f, b'x')")
        self.assertEqual(self.lose(), {})

    def test_contents_without_name(self):
        self.run_code(self.FILE + "os.write(f, b'x'); os.fsync(f)")
        self.assertEqual(self.lose(), {})

    def test_name_without_contents(self):
        self.run_code(self.FILE + "os.write(f, b'x'); os.fsync(d)")
        self.assertEqual(self.lose(), {"a": b""})

    def test_synced_and_more(self):
        self.run_code(self.FILE + "os.write(f, b'abcdef'); os.fdatasync(f); os.fsync(d)\n"
                      "os.pwrite(f, b'XX', 2); os.write(f, b'g')")
        self.assertEqual(self.lose(), {"a": b"abcdef"})

    def test_cut(self):
        self.run_code(self.FILE + "os.write(f, b'abcdef'); os.ftruncate(f, 2); os.fsync(f); os.fsync(d); os.ftruncate(f, 9)")
        self.assertEqual(self.lose(), {"a": b"ab"})

    def test_renamed_and_removed(self):
        self.run_code(self.FILE + "os.fsync(d); os.rename('a', 'b')")
        self.assertEqual(self.lose(), {"a": b""})
        self.run_code("os.rename('a', 'b'); os.fsync(os.open('.', os.O_RDONLY)); os.unlink('b')")
        self.assertEqual(self.lose(), {"b": b""})

    def test_directories(self):
        code = "os.mkdir('d'); f = open('d/a', 'wb', 0); f.write(b'x'); os.fsync(f.fileno())\n"
        sync = "os.fsync(os.open('{}', os.O_RDONLY))\n"
        self.run_code(code + sync.format("d"))
        self.assertEqual(self.lose(), {})
        self.run_code(code + sync.format("d") + sync.format("."))
        self.assertEqual(self.lose(), {"d/a": b"x"})

    def test_upwards(self):
        self.run_code("os.mkdir('d'); os.fsync(os.open('d/..', os.O_RDONLY)); os.fsync(os.open('..', os.O_RDONLY))\n"
                      "os.close(os.open('d/../d/x', os.O_CREAT | os.O_WRONLY)); os.fsync(os.open('d/../d', os.O_RDONLY))")
        self.assertEqual(self.lose(), {"d/x": b""})

    def test_two_processes(self):
        self.run_code(self.FILE + "os.write(f, b'x'); os.fsync(d)")
        self.run_code(self.FILE + "os.pwrite(f, b'y', 1); os.fsync(f)")
        self.assertEqual(self.lose(), {"a": b"xy"})

    def test_lies(self):
        self.run_code(self.FILE + "os.write(f, b'x'); os.fsync(f); os.fsync(d)", "none")
        self.assertEqual(self.lose(), {})
        self.run_code(self.FILE + "os.fsync(d); os.write(f, b'x'); os.fsync(d)\n"
                      "os.write(f, b'y'); os.fsync(f)", "late")
        self.assertEqual(self.lose(), {"a": b"x"})

    def test_torn(self):
        code = self.FILE + "os.fsync(f); os.fsync(d)\nfor i in range(4): os.write(f, b'%d' % i * 1000)"
        whole, sizes = b"".join(b"%d" % i * 1000 for i in range(4)), set()
        for seed in range(30):
            self.run_code(code)
            content = self.lose("torn", seed)["a"]
            self.assertTrue(all(x in (y, 0) for x, y in zip(content, whole)), seed)
            sizes.add(len(content))
            shutil.rmtree(self.root)
            os.mkdir(self.root)
            self.disk = Disk(self.root)
        self.assertGreater(len(sizes), 5)

    def test_what_was_missed_is_seen(self):
        self.run_code(self.FILE)
        for name in "bc":
            open(os.path.join(self.root, name), "w").close()
        self.assertRaises(WrongNotes, self.disk.compare)

    def database(self, how, lie="", rounds=6):
        """What it said was committed and is not there: over some kills."""
        lost = 0
        for seed in range(rounds):
            process = self.start(DATABASE, lie)
            said = process.stdout.readline()
            time.sleep(random.Random(seed).random() * 0.15)  # any moment will do
            process.send_signal(signal.SIGKILL)
            said = (said + process.stdout.read()).rsplit(b"\n", 2)[-2]
            process.wait()
            process.stdout.close()
            self.disk.follow(self.log)
            self.disk.compare()
            self.disk.lose(how, random.Random(seed))
            lost += int(said) - self.count()
        return lost

    def count(self):
        check = "import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1])\n" \
                "assert db.execute('PRAGMA integrity_check').fetchone()[0] == 'ok'\n" \
                "print(db.execute('SELECT max(n) FROM t').fetchone()[0] or 0)"
        copy = os.path.join(self.top, "copy")
        shutil.copytree(self.root, copy)
        try:
            out = subprocess.run([sys.executable, "-c", check, copy + "/x.db"], check=True, capture_output=True, timeout=20)
            return int(out.stdout)
        finally:
            shutil.rmtree(copy)

    def test_database(self):
        for how in ("unsynced", "torn"):
            with self.subTest(how):
                self.assertLessEqual(self.database(how), 0)

    def test_database_that_does_not_sync_in_time(self):
        self.assertGreater(self.database("unsynced", "late"), 0)


if __name__ == "__main__":
    unittest.main()
