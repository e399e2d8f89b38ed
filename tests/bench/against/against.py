#!/usr/bin/env python3
"""./run bench --against REV: this tree beside another revision, path by path, in alternating pairs.

Builds both, REV in a worktree of its own with an output base of its own; what both compile alike comes from a disk cache.
Serves one synthetic table set by an engramd of each, and measures by turns, the old one first in one pair and second in
the next: `engram bench` over a real token stream, whose repeated ids are taken out on the way over gRPC, and the
benchmarks of addressing, gathering and taking out repeated ids. Both engramds are started anew from time to time, so that
where memory happened to lie is drawn more than once.

Prints the median of the pairs' ratios, new to old, and its 95 % interval, from order statistics (paired.py). A path is
missed where the interval lies wholly below 0.97. Exit status 1: one is missed; 2: something could not be measured.
"""
import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.realpath(os.path.join(HERE, *[os.pardir] * 3))
sys.path[:0] = [HERE, os.path.join(ROOT, "tests")]
import paired  # noqa: E402
import programs  # noqa: E402

TOKENS, TOKEN_MAP = (os.path.join(ROOT, "tests/golden", name)
                     for name in ("tokens_en_handbook.i32", "deepseek_v41_token_map.i32"))
# 1 GiB of V4.1's rows: beyond any cache.
ROWS_PER_HEAD, QUICK_ROWS_PER_HEAD = 83_334, 10_000
PAIRS, QUICK_PAIRS = 30, paired.MIN_PAIRS
# Of one size, on one path, of one side.
SECONDS, QUICK_SECONDS = 0.15, 0.03
PAIRS_A_START = 5
SIZES = (1, 16, 64, 256)
PROGRAMS = {"engramd": "//server:engramd", "engram": "//client/cli:engram"}
# Benchmarks are found by their file's name, wherever a revision keeps it, and compared by cases that both have.
BENCHMARKS = {"addresser_benchmark": r"^whole/deepseek-v4\.1-flash/|^kernel/",
              "gather_benchmark": r"^BM_Gather/row_bytes:(160|264)/rows:(48|3072)/",
              "row_deduplicator_benchmark": "."}
BENCHMARK_SECONDS, QUICK_BENCHMARK_SECONDS = 0.05, 0.01
# A line of progress no more often than this.
PROGRESS_S = 2


def say(text):
    print(text, flush=True)


def git(*words):
    done = subprocess.run(["git", "-C", ROOT, *words], check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise programs.Failed(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


class Progress:
    """What is being done and how long it will take, every two seconds at most."""

    def __init__(self, total):
        self.total, self.done, self.begin, self.last = total, 0, time.monotonic(), time.monotonic()

    def step(self, what):
        self.done += 1
        now = time.monotonic()
        if now - self.last < PROGRESS_S:
            return
        left = (now - self.begin) / self.done * (self.total - self.done)
        print(f"   {what}: {now - self.begin:.0f} s, about {left:.0f} s left", file=sys.stderr, flush=True)
        self.last = now


class Side:
    """One revision: its programs, and its engramd while one runs."""

    def __init__(self, name, tree, scratch):
        self.name, self.tree = name, tree
        self.scratch = os.path.join(scratch, name)
        self.bin = os.path.join(self.scratch, "bin")
        os.makedirs(self.bin)
        self.server = None
        self.benchmarks = {}

    def build(self, startup, disk_cache):
        """Copies, so that nothing that is built later changes them."""
        targets = dict(PROGRAMS)
        for name, package in self.benchmark_packages():
            targets[name] = f"//{package}:{name}"
        say(f"== building {self.name}: {self.tree}")
        bazel = ["bazel", *startup]
        flags = [f"--disk_cache={disk_cache}"]
        subprocess.run([*bazel, "build", *flags, *targets.values()], cwd=self.tree, check=True)
        bin_directory = subprocess.run([*bazel, "info", *flags, "bazel-bin"], cwd=self.tree, check=True,
                                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()
        for name, label in targets.items():
            shutil.copy(os.path.join(bin_directory, label[2:].replace(":", "/")), os.path.join(self.bin, name))
            if name in BENCHMARKS:
                self.benchmarks[name] = os.path.join(self.bin, name)

    def benchmark_packages(self):
        listed = subprocess.run(["git", "ls-files"], cwd=self.tree, check=True, stdout=subprocess.PIPE, text=True).stdout
        for path in listed.splitlines():
            package, file = os.path.split(path)
            if file.endswith(".cc") and file[:-3] in BENCHMARKS:
                yield file[:-3], package

    def start(self, table_set):
        unix, shm, port = (os.path.join(self.scratch, "grpc.sock"), os.path.join(self.scratch, "shm.sock"),
                           programs.free_port())
        self.server = programs.Server([os.path.join(self.bin, "engramd"), "--table-set", table_set, "--listen", f"unix:{unix}",
                                       "--listen", f"127.0.0.1:{port}", "--shm-socket", shm], unix)
        self.targets = {"embedded": [f"embedded:{table_set}"], "shm": [f"shm:{shm}"],
                        "shm-ring": [f"shm:{shm}", "--mode", "ring"],
                        "grpc-unix": [f"grpc:unix:{unix}"], "grpc-tcp": [f"grpc:127.0.0.1:{port}"],
                        "unary-unix": [f"grpc:unix:{unix}", "--mode", "unary"],
                        "unary-tcp": [f"grpc:127.0.0.1:{port}", "--mode", "unary"]}

    def stop(self):
        if self.server is not None:
            self.server.stop()
            self.server = None

    def look_up(self, path, seconds):
        """(path, tokens of a batch) -> rows a second."""
        target, *mode = self.targets[path]
        lines = self.run([os.path.join(self.bin, "engram"), "bench", "--target", target, *mode, "--token-ids", TOKENS,
                          "--batch-tokens", ",".join(map(str, SIZES)), "--seconds", str(seconds), "--json"]).splitlines()
        return {(path, str(line["batch_tokens"])): line["rows_per_s"] for line in map(json.loads, lines)}

    def benchmark(self, name, seconds):
        """(benchmark, case) -> runs a second of the processor's time."""
        # Into a file: what is printed is for people, and some print their bars as well.
        out = os.path.join(self.scratch, "benchmark.json")
        self.run([self.benchmarks[name], f"--benchmark_filter={BENCHMARKS[name]}", f"--benchmark_min_time={seconds}",
                  f"--benchmark_out={out}", "--benchmark_out_format=json"])
        with open(out, encoding="utf-8") as file:
            cases = json.load(file)["benchmarks"]
        return {(name.removesuffix("_benchmark"), case["name"]): 1e9 / case["cpu_time"]
                for case in cases if not case.get("error_occurred") and case["cpu_time"] > 0}

    def run(self, command):
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise programs.Failed(f"{self.name}: {' '.join(command)}: exit status {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout


class Comparison:
    def __init__(self, options, old, new, scratch):
        self.options, self.sides, self.scratch = options, (old, new), scratch
        self.paths = {}
        self.shared = [name for name in BENCHMARKS if all(name in side.benchmarks for side in self.sides)]

    def measure_pair(self, number, measure, what, progress):
        """`measure(side)`: a dictionary of rates."""
        rates = {}
        for side in self.sides if number % 2 == 0 else self.sides[::-1]:
            rates[side.name] = measure(side)
            progress.step(what)
        for case, rate in rates["old"].items():
            if case in rates["new"]:
                self.paths.setdefault(case, paired.Paired()).add(rate, rates["new"][case])

    def run(self):
        table_set = os.path.join(self.scratch, "set")
        say("== packing a table set")
        # By the older one: what it writes both read, and it may refuse files that it does not know.
        programs.pack_synthetic(os.path.join(self.sides[0].bin, "engram"), "deepseek-v4.1-flash", self.options.rows_per_head,
                                TOKEN_MAP, table_set)
        lookups = [path for path in ("embedded", "shm", "shm-ring", "grpc-unix", "grpc-tcp", "unary-unix", "unary-tcp")
                   if re.search(self.options.paths, path)]
        benchmarks = [name for name in self.shared if re.search(self.options.paths, name)]
        say(f"== measuring {self.options.pairs} pairs")
        progress = Progress(2 * self.options.pairs * (len(lookups) + len(benchmarks)))
        for number in range(self.options.pairs):
            what = f"pair {number + 1} of {self.options.pairs}"
            if lookups and number % PAIRS_A_START == 0:
                self.restart(table_set)
            for path in lookups:
                self.measure_pair(number, lambda side, path=path: side.look_up(path, self.options.seconds),
                                  f"{what}, {path}", progress)
            for name in benchmarks:
                self.measure_pair(number, lambda side, name=name: side.benchmark(name, self.options.benchmark_seconds),
                                  f"{what}, {name}", progress)

    def restart(self, table_set):
        for side in self.sides:
            side.stop()
        for side in self.sides:
            side.start(table_set)
        for side in self.sides:
            side.server.wait_ready()

    def report(self):
        """Returns how many paths are missed."""
        width = max(len(f"{path} {case}") for path, case in self.paths)
        say(f"\nrows a second of lookups, runs a second of benchmarks; medians of {self.options.pairs} pairs, "
            f"the interval from order statistics\n{'':<{width}} {paired.HEAD}")
        for (path, case), pairs in self.paths.items():
            say(f"{path + ' ' + case:<{width}} {pairs.line()}")
        for name in BENCHMARKS:
            lacking = [side.name for side in self.sides if name not in side.benchmarks]
            if lacking:
                say(f"not compared: {name}, which {' and '.join(lacking)} {'has' if len(lacking) == 1 else 'have'} not")
        missed = [f"{path} {case}" for (path, case), pairs in self.paths.items() if pairs.is_missed()]
        say(f"{len(self.paths)} paths, {len(missed)} missed" + "".join(f"\n  missed: {name}" for name in missed))
        return len(missed)


@contextlib.contextmanager
def worktree(revision, scratch):
    """The tree of a revision, and Bazel's words before the command for it; both are gone afterwards."""
    tree, output_base = os.path.join(scratch, "tree"), os.path.join(scratch, "output_base")
    git("worktree", "add", "--quiet", "--detach", tree, revision)
    startup = [f"--output_base={output_base}"]
    try:
        yield tree, startup
    finally:
        subprocess.run(["bazel", *startup, "shutdown"], cwd=tree, check=False, stderr=subprocess.DEVNULL)
        git("worktree", "remove", "--force", tree)
        # Bazel takes the right to write from what it unpacked.
        subprocess.run(["chmod", "-R", "u+w", output_base], check=False, stderr=subprocess.DEVNULL)


def options_of(arguments):
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="REV", required=True, help="the revision to compare with")
    parser.add_argument("--quick", action="store_true",
                        help=f"{QUICK_PAIRS} short pairs over a small table: to try it, not to judge")
    parser.add_argument("--pairs", type=int, help=f"default {PAIRS}; {paired.MIN_PAIRS} at least")
    parser.add_argument("--paths", default="", metavar="REGEX", help="those paths and benchmarks alone whose name it finds")
    parser.add_argument("--disk-cache", default=os.path.join(os.path.expanduser("~"), ".cache", "engram-bench"),
                        help="where compiled objects are kept from run to run (default %(default)s)")
    options = parser.parse_args(arguments)
    options.pairs = options.pairs or (QUICK_PAIRS if options.quick else PAIRS)
    if options.pairs < paired.MIN_PAIRS:
        parser.error(f"--pairs {options.pairs}: fewer than {paired.MIN_PAIRS} have no interval")
    options.rows_per_head = QUICK_ROWS_PER_HEAD if options.quick else ROWS_PER_HEAD
    options.seconds = QUICK_SECONDS if options.quick else SECONDS
    options.benchmark_seconds = QUICK_BENCHMARK_SECONDS if options.quick else BENCHMARK_SECONDS
    return options


def main():
    options = options_of(sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="engram-against-") as scratch:
        sides = []
        try:
            revision = git("rev-list", "-1", options.against, "--").strip()
            say(f"== against {git('log', '-1', '--format=%h %s', revision).strip()}")
            new = Side("new", ROOT, scratch)
            with worktree(revision, scratch) as (tree, startup):
                old = Side("old", tree, scratch)
                old.build(startup, options.disk_cache)
            new.build([], options.disk_cache)
            sides = [old, new]
            comparison = Comparison(options, old, new, scratch)
            if os.getloadavg()[0] > 0.5:
                say(f"other processes are running (load {os.getloadavg()[0]:.1f}): intervals will be wide")
            comparison.run()
            if not comparison.paths:
                raise programs.Failed(f"--paths {options.paths} finds nothing to compare")
            return 1 if comparison.report() else 0
        except (programs.Failed, subprocess.CalledProcessError) as error:
            print(f"bench: {error}", file=sys.stderr)
            return 2
        finally:
            for side in sides:
                side.stop()


if __name__ == "__main__":
    sys.exit(main())
