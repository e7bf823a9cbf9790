# SPDX-License-Identifier: Apache-2.0
"""What mutants.py and durable_mutants.py share: a tree to break, texts that stand in it once, objects and programs."""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
CRASH = "crash/assert"
HANG = "hang"


class Bad(Exception):
    """The list is wrong, or the machine."""


def copy_tree(patterns, to):
    for pattern in patterns:
        for path in ROOT.glob(pattern):
            target = to / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def sources(tree, patterns):
    return [str(p.relative_to(tree)) for pattern in patterns for p in sorted(tree.glob(pattern))]


def object_of(source):
    return source.replace("/", "-")[:-2] + ".o"


def compile_file(gcc, tree, source, to):
    run = subprocess.run([*gcc, "-c", source, "-o", to], cwd=tree, capture_output=True, text=True)
    if run.returncode != 0:
        raise Bad(f"{source} does not compile:\n{run.stderr}")


def link(objects, options, program):
    run = subprocess.run(["gcc", *objects, *options, "-o", program], capture_output=True, text=True)
    if run.returncode != 0:
        raise Bad(f"does not link:\n{run.stderr}")


def replace_once(text, old, new, file):
    """However its words are spaced."""
    found = list(re.finditer(r"\s+".join(map(re.escape, old.split())), text))
    if len(found) != 1:
        raise Bad(f"its old text is in {file} {len(found)} times, not once: {old[:40]}")
    return text[:found[0].start()] + new + text[found[0].end():]


def arguments(doc):
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="what there is, without running it")
    parser.add_argument("--only", metavar="NAME", action="append", help="only this one")
    return parser.parse_args()


def check_names(names, only):
    for name in names:
        if names.count(name) > 1:
            sys.exit(f"mutants: two are called {name}")
    unknown = set(only or []) - set(names)
    if unknown:
        sys.exit(f"mutants: there is no {', '.join(sorted(unknown))}")
