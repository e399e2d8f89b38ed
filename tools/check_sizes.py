#!/usr/bin/env python3
"""./run check sizes: no function above 70 lines, no file above 500; each one that is is printed.

Functions are found by universal-ctags in C++, CUDA and Python; a function's lines are those from its name to its closing
brace, as ctags sees them. --lower writes what is left into tools/check_limits.txt.
"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import limits  # noqa: E402

MAX_FUNCTION, MAX_FILE = 70, 500
CODE = (".h", ".cc", ".cu", ".cuh", ".inc", ".py", ".sh", ".bzl", ".proto")
FUNCTIONS, FILES = f"functions over {MAX_FUNCTION} lines", f"files over {MAX_FILE} lines"


def long_functions(paths):
    """`PATH:LINE NAME: N lines` of each, in the order of the paths."""
    tags = subprocess.run(
        ["ctags", "-x", "--_xformat=%F\t%n\t%{end}\t%N", "--map-C++=+.cu", "--map-C++=+.cuh", "--map-C++=+.inc",
         "--languages=C++,Python", "--kinds-C++=f", "--kinds-Python=fm", "--sort=no", "-L", "-"],
        input="\n".join(paths), check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    for line in tags.splitlines():
        path, begin, end, name = line.split("\t")
        if not end.isdigit():
            continue
        lines = int(end) - int(begin) + 1
        if lines > MAX_FUNCTION:
            yield f"{path}:{begin} {name}: {lines} lines"


def long_files(paths):
    for path in paths:
        with open(path, "rb") as file:
            lines = sum(1 for _ in file)
        if lines > MAX_FILE:
            yield f"{path}: {lines} lines"


def main():
    listed = subprocess.run(["git", "ls-files"], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    paths = [path for path in listed if path.endswith(CODE) and os.path.exists(path)]
    found = {FUNCTIONS: list(long_functions(paths)), FILES: list(long_files(paths))}
    if "--lower" in sys.argv:
        limits.lower({kind: len(places) for kind, places in found.items()})
    allowed = limits.read()
    return 1 if sum([limits.judge(kind, places, allowed) for kind, places in found.items()]) else 0


if __name__ == "__main__":
    sys.exit(main())
