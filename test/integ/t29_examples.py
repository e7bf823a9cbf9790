#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The examples that run a hub and workers of their own: examples/NAME/run."""

import os
import re

from weirtest import Case, main, scaled, wait_until
from weirtest.hub import test_program

_EXAMPLES = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", "examples"))
_BUILD = os.path.abspath(os.path.join(os.path.dirname(test_program("x")), "..", ".."))


class Examples(Case):
    def run_example(self, name, *argv, env=None):
        """Its exit code and what it has printed. Nothing that it started may be left."""
        p = self.start(name, [os.path.join(_EXAMPLES, name, "run"), *argv],
                       env={"BUILD": _BUILD, "TMPDIR": self.directory, **(env or {})})
        code = p.wait(scaled(25))
        wait_until(lambda: not running_with(self.directory + "/tmp."), scaled(5), "all that it has started has ended")
        self.assertEqual([name for name in os.listdir(self.directory) if name.startswith("tmp.")], [])
        self.assertNotIn("Sanitizer", p.stderr())
        return code, p.stdout(), p.stderr()

    def test_durable(self):
        code, out, err = self.run_example("durable", "60")
        self.assertEqual((code, err), (0, ""), out)
        self.assertRegex(out, r"(?s)^accepted +60\nhub killed after +\d+ of them had run\ndone +60\nrun a second time +[0-4] ")

    def test_wordcount(self):
        code, out, err = self.run_example("wordcount")
        self.assertEqual((code, err), (0, ""), out)
        lines = out.splitlines()
        self.assertRegex(lines[0], r"^ +\d+  [a-z]+$")
        self.assertRegex(lines[-2], r"^\d+ bytes of text in \d+ parts, [01] of them run again ")
        self.assertEqual(lines[-1], "the same as by sort and uniq")

    def test_wordcount_loses_nothing_with_a_worker(self):
        text = os.path.join(self.directory, "text")
        with open(text, "w") as f:
            f.writelines(f"word{'abcdefghij'[i % 10]} Word{'klm'[i % 3]}, {i}\n" for i in range(50000))
        code, out, err = self.run_example("wordcount", text)
        self.assertEqual((code, err), (0, ""), out)
        # A tie is in the order of the alphabet.
        self.assertEqual(out.splitlines()[:4], ["   16667  wordk", "   16667  wordl", "   16666  wordm",
                                                "    5000  worda"])
        parts, again = map(int, re.search(r"(\d+) parts, (\d+) of them run again", out).groups())
        self.assertGreater(parts, 10)
        self.assertEqual(again, 1)

    def test_wordcount_would_notice(self):
        """With another count than the shell's it fails."""
        tools = os.path.join(self.directory, "tools")
        os.mkdir(tools)
        with open(os.path.join(tools, "uniq"), "w", opener=lambda path, flags: os.open(path, flags, 0o755)) as f:
            f.write("#!/bin/sh\n/usr/bin/uniq \"$@\" | sed 's/ 1 and$/ 9 and/'\n")
        text = os.path.join(self.directory, "text")
        with open(text, "w") as f:
            f.write("bash and sh\n")
        self.assertEqual(self.run_example("wordcount", text)[0], 0)
        code, out, err = self.run_example("wordcount", text, env={"PATH": tools + ":" + os.environ["PATH"]})
        self.assertEqual(code, 1)
        self.assertNotIn("the same as", out)
        self.assertIn("not the same as by sort and uniq", err)

    def test_route(self):
        code, out, err = self.run_example("route", "5")
        self.assertEqual((code, err), (0, ""), out)
        self.assertRegex(out, r"(?m)^5 short routes +median +slowest +the long one$")
        self.assertRegex(out, r"(?m)^in one go( +\d+ ms){3}$")
        self.assertRegex(out, r"(?m)^portions of 20 ms( +\d+ ms){3}$")


def running_with(text):
    """The numbers of the processes that have this text in their command line."""
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{number}/cmdline", "rb") as f:
                if text.encode() in f.read():
                    found.append(int(number))
        except OSError:
            pass
    return found


if __name__ == "__main__":
    main()
