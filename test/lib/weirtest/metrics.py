# SPDX-License-Identifier: Apache-2.0
"""Reads the Prometheus text format (version 0.0.4) strictly."""

import math
import re

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_SAMPLE = re.compile(rf"({_NAME})(?:\{{(.*)\}})? (\S+)(?: -?[0-9]+)?\Z")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|\Z)')
_TYPES = {"counter", "gauge", "histogram", "summary", "untyped"}


class Metrics:
    def __init__(self, text):
        self.types, self.help, self.samples = {}, {}, {}
        assert text.endswith("\n"), "the last line has no end"
        for line in text.split("\n")[:-1]:
            if line.startswith("# HELP "):
                name, _, help_text = line[7:].partition(" ")
                assert name not in self.help, f"HELP twice: {name}"
                self.help[name] = help_text
            elif line.startswith("# TYPE "):
                name, kind = line[7:].split(" ")
                assert kind in _TYPES and name not in self.types, line
                self.types[name] = kind
            elif line and not line.startswith("#"):
                self._sample(line)
        for family, kind in self.types.items():
            if kind == "histogram":
                self._check_histogram(family)

    def _sample(self, line):
        match = _SAMPLE.match(line)
        assert match, f"not a sample: {line!r}"
        labels, at, text = {}, 0, match[2] or ""
        while at < len(text):
            label = _LABEL.match(text, at)
            assert label and label[1] not in labels, f"labels: {line!r}"
            labels[label[1]] = label[2]
            at = label.end()
        assert self.family(match[1]) in self.types, f"no TYPE before {line!r}"
        key = (match[1], frozenset(labels.items()))
        assert key not in self.samples, f"twice: {line!r}"
        self.samples[key] = float(match[3].replace("Inf", "inf"))

    def family(self, name):
        for suffix in ("_bucket", "_sum", "_count"):
            base = name.removesuffix(suffix)
            if base != name and self.types.get(base) in ("histogram", "summary"):
                return base
        return name

    def _check_histogram(self, family):
        series = {}
        for (name, labels), value in self.samples.items():
            if name == family + "_bucket":
                rest = frozenset(l for l in labels if l[0] != "le")
                series.setdefault(rest, []).append((float(dict(labels)["le"].replace("Inf", "inf")), value))
        for rest, buckets in series.items():
            buckets.sort()
            counts = [c for _, c in buckets]
            assert counts == sorted(counts), f"{family}: buckets are not cumulative"
            assert math.isinf(buckets[-1][0]), f"{family}: no +Inf bucket"
            assert counts[-1] == self.samples[(family + "_count", rest)], f"{family}: +Inf is not the count"
            assert (family + "_sum", rest) in self.samples, f"{family}: no sum"

    def names(self):
        return set(self.types)

    def value(self, name, **labels):
        """The sum over all samples of this name that carry these labels."""
        wanted = set(labels.items())
        return sum(v for (n, have), v in self.samples.items() if n == name and wanted <= have)
