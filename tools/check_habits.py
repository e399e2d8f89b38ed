#!/usr/bin/env python3
"""./run check habits: time from the injected clock, locks that clang checks; what is not so yet is listed and counted.

    direct clock calls   absl::Now, steady_clock::now, system_clock::now, SleepFor, sleep_for: outside of memstore/base,
                         tests and benchmarks, time comes from a Clock (memstore/base/clock.h)
    std::mutex           and its like, in the same places: Mutex and CondVar (memstore/base/mutex.h) are what clang checks
    locks in comments    "guarded by", "needs mutex_", anywhere outside of memstore/base: ABSL_GUARDED_BY and
                         ABSL_EXCLUSIVE_LOCKS_REQUIRED say it to clang

--lower writes what is left into tools/check_limits.txt.
"""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import limits  # noqa: E402

CODE = (".h", ".cc", ".cu", ".cuh", ".inc")
BASE = re.compile(r"^memstore/base/")
EXEMPT = re.compile(r"^memstore/base/|^tests/|^gpu/bench/|/testing/|_(test|benchmark|cases)\.(cc|cu)$")
COMMENT = re.compile(r"//.*$")
# kind -> (what is looked for, where it may be, whether in comments)
KINDS = {
    "direct clock calls": (
        re.compile(r"absl::Now\(|\b(?:steady|system|high_resolution)_clock::now|(?<![.>\w])SleepFor\(|\bsleep_for\("), EXEMPT, False),
    "std::mutex": (
        re.compile(r"std::(?:recursive_|shared_|timed_)?mutex\b|std::(?:lock_guard|unique_lock|scoped_lock|condition_variable)"),
        EXEMPT, False),
    "locks in comments": (re.compile(r"//.*(?:guarded by|needs `?\w*mutex)", re.I), BASE, True),
}


def places(path, text):
    """kind -> `PATH:LINE the line` of each, for the kinds that count in this file."""
    found = {kind: [] for kind in KINDS}
    for kind, (pattern, exempt, in_comments) in KINDS.items():
        if exempt.search(path):
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if pattern.search(line if in_comments else COMMENT.sub("", line)):
                found[kind].append(f"{path}:{number} {line.strip()}")
    return found


def main():
    listed = subprocess.run(["git", "ls-files"], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    found = {kind: [] for kind in KINDS}
    for path in listed:
        if path.endswith(CODE) and os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                for kind, lines in places(path, file.read()).items():
                    found[kind] += lines
    if "--lower" in sys.argv:
        limits.lower({kind: len(lines) for kind, lines in found.items()})
    allowed = limits.read()
    return 1 if sum([limits.judge(kind, lines, allowed) for kind, lines in found.items()]) else 0


if __name__ == "__main__":
    sys.exit(main())
