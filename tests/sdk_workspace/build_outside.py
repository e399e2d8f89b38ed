#!/usr/bin/env python3
"""Builds this workspace, which uses engram's from outside, with a Bazel of its own, and fetches rows with what came of it.

The one argument is the `engram` program, which packs the table set. Exit status 0: rows were fetched.
It is no target of the workspace around it: a Bazel within a Bazel test would wait for the outer one's lock, or build
without a cache each time. `./run test` runs it when the tests are over.
"""
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.realpath(__file__))
TOKEN_MAP = os.path.join(HERE, "..", "golden", "deepseek_v3_token_map.i32")
# Compiling all of the SDK once takes two cores a few minutes; afterwards it takes seconds.
BUILD_LIMIT_S = 1500


def main():
    engram = os.path.realpath(sys.argv[1])
    with tempfile.TemporaryDirectory() as scratch:
        table_set = os.path.join(scratch, "set")
        subprocess.run([engram, "pack", "--synthetic", "--family", "engram-demo-v1", "--rows-per-head", "200",
                        "--token-map", TOKEN_MAP, "--output", table_set], check=True, stderr=subprocess.DEVNULL)
        with open(os.path.join(table_set, "manifest.sha256"), encoding="ascii") as file:
            set_id = file.read().split()[0]
        for program, sdk in (("look_up_once", "//client:sdk"), ("prefetch_once", "//gpu:sdk")):
            done = subprocess.run(["bazel", "run", f"//:{program}", "--", f"embedded:{table_set}"], cwd=HERE, check=False,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=BUILD_LIMIT_S)
            if done.returncode != 0 or f"{set_id}: OK" not in done.stdout:
                sys.exit(f"a program outside of this workspace does not build against {sdk}, or fetches no rows:\n"
                         f"{done.stderr[-4000:]}{done.stdout}")


main()
