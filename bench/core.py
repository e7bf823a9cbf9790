#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cost per dispatch by queue length and number of workers: runs bench_core and keeps its table.

    bench/core.py [--build build-release]
"""
import subprocess

from common import arguments, machine, write_section


def main():
    build = arguments(__doc__).build
    out = subprocess.run([f"{build}/bench/bench_core"], stdout=subprocess.PIPE, text=True, check=True).stdout
    lines = [f"{machine()}. The core alone, one thread: submit, dispatch, reply; median of the program's runs. The ratio "
             "is to the first line of each half.", "",
             "| queued jobs | workers | ns per dispatch | ratio |", "|---|---|---|---|"]
    for queued, workers, ns, ratio in (line.split() for line in out.splitlines() if line[:1].isdigit()):
        lines.append(f"| {int(queued):,} | {int(workers):,} | {ns} | {ratio} |")
    text = "\n".join(lines)
    print(text)
    write_section("core", "## Cost per dispatch\n\n" + text)


if __name__ == "__main__":
    main()
