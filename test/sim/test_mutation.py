#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each mutant's old text stands in its file once: whoever changes the code sees here that a mutant must follow."""
import unittest

import durable_mutants
import mutants
from mutation import ROOT, replace_once


class Texts(unittest.TestCase):
    def test_core(self):
        for m in mutants.MUTANTS + [s.mutant for s in mutants.SURVIVORS]:
            with self.subTest(m.name):
                replace_once((ROOT / "src/core" / m.file).read_text(), m.old, m.new, m.file)

    def test_durable(self):
        for m in durable_mutants.MUTANTS:
            with self.subTest(m.name):
                text = (ROOT / m.file).read_text()
                for old, new in m.edits:
                    text = replace_once(text, old, new, m.file)


if __name__ == "__main__":
    unittest.main()
