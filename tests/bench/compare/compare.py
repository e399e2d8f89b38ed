#!/usr/bin/env python3
"""Our ways to look rows up beside what the machine can do and beside what else one could use, in one run.

All contenders of a group take turns within every round, in another order each time, and medians over the rounds are
compared. Groups: "ceilings", 4 GiB; "clients", our own paths with 1, 2, 4 and 8 clients; and one of 1 GiB for each
alternative, with our paths on the same rows. Exit status 1: a bar was missed, or something could not be measured.
"""
import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.realpath(os.path.join(HERE, *[os.pardir] * 3))
sys.path[:0] = [HERE, os.path.join(ROOT, "tests")]
import programs  # noqa: E402
import report  # noqa: E402

TOKEN_MAP = "tests/golden/deepseek_v41_token_map.i32"
# Debian's python3-numpy is this one's, whichever stands first in the PATH.
DEBIAN_PYTHON = "/usr/bin/python3"
# Rows of each of a layer's 24 columns: 16.3 M rows of 264 bytes, 4 GiB, and 4 M rows, 1 GiB.
BIG_ROWS_PER_HEAD, SMALL_ROWS_PER_HEAD = 339_000, 83_334
OWN = ("embedded", "shm", "shm-ring", "grpc-unix", "grpc-tcp", "unary-unix", "unary-tcp")
# Paths that have batches under way while the caller waits for none.
PIPELINED = ("shm-ring", "grpc-unix", "grpc-tcp", "echo-unix", "echo-tcp", "raw-unix", "raw-tcp")
# The tokens of a batch for which gRPC has an absolute bar.
SANITY_TOKENS = 85


def find(program):
    """Where a server's program is; Debian keeps some outside of a user's PATH."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if found is None:
        raise programs.Failed(f"{program} is not installed: see third_party/debian-packages-bench.txt")
    return found


class Comparison:
    def __init__(self, options, scratch):
        self.options, self.scratch = options, scratch
        self.rounds = report.Rounds()
        self.random = random.Random(1)
        self.running = []
        self.notes = []

    # Processes, in turn.
    def start(self, process):
        self.running.append(process)
        return process

    def program(self, name, *arguments):
        return self.start(programs.Program([os.path.join(self.options.bin, name), *arguments]))

    def server(self, command, address):
        server = self.start(programs.Server(command, address, log=None if self.options.verbose else subprocess.DEVNULL))
        return server

    def stop_all(self):
        while self.running:
            self.running.pop().stop()

    def path(self, name):
        return os.path.join(self.scratch, name)

    def pack(self, name, rows_per_head):
        return programs.pack_synthetic(self.options.engram, "deepseek-v4.1-flash", rows_per_head,
                                       os.path.join(ROOT, TOKEN_MAP), self.path(name))

    def start_own(self, set_name):
        """engramd over a set, and the program of our own paths; returns both."""
        port = programs.free_port()
        unix, shm = self.path("grpc.sock"), self.path("shm.sock")
        server = self.server([self.options.engramd, "--table-set", self.path(set_name), "--listen", f"unix:{unix}",
                              "--listen", f"127.0.0.1:{port}", "--shm-socket", shm], unix)
        server.wait_ready()
        paths = {"shm": f"shm:{shm}", "shm-ring": f"shm:{shm},ring", "grpc-unix": f"grpc:unix:{unix}",
                 "grpc-tcp": f"grpc:127.0.0.1:{port}", "unary-unix": f"grpc:unix:{unix},unary",
                 "unary-tcp": f"grpc:127.0.0.1:{port},unary"}
        arguments = [word for name, target in paths.items() for word in ("--path", f"{name}={target}")]
        own = self.program("engram_contender", "--table-set", self.path(set_name), *arguments)
        own.wait_ready()
        return server, own

    def run_group(self, group, cells):
        """`cells`: (program, path, tokens, clients, in flight); those of one size take turns."""
        for tokens in sorted({cell[2] for cell in cells}):
            turn = [cell for cell in cells if cell[2] == tokens]
            for number in range(self.options.rounds):
                self.random.shuffle(turn)
                for program, path, _, clients, in_flight in turn:
                    line = program.run(path, tokens, clients, in_flight, self.options.round_ms)
                    line.update(group=group, path=path, tokens=tokens, clients=clients, in_flight=in_flight, round=number)
                    self.rounds.add(line)

    def say(self, text):
        print(text, flush=True)

    # Groups.
    def ceilings(self):
        inspected = self.pack("big", BIG_ROWS_PER_HEAD)
        server, own = self.start_own("big")
        paths = [(own, path) for path in ("gather",) + OWN] + self.start_echoes()
        cells = [(program, path, tokens, 1, in_flight) for program, path in paths for tokens in report.SIZES
                 for in_flight in ((1, 8) if path in PIPELINED else (1,))]
        cells += [(own, path, SANITY_TOKENS, 1, 1) for path in ("grpc-unix", "grpc-tcp")]
        self.run_group("ceilings", cells)
        if "clients" in self.options.groups:
            self.run_group("clients", [(own, path, tokens, clients, 1) for path in OWN for tokens in report.SIZES
                                       for clients in (1, 2, 4, 8)])
        used = server.memory_bytes() + server.hugetlb_bytes()
        allowed = inspected["bytes"] * 1.01 + (256 << 20)
        self.resident = report.Bar("engramd's resident memory, GiB, to table + 1 % + 256 MiB", used / 2**30,
                                   most=round(allowed / 2**30, 3), unit="GiB")
        self.stop_all()
        shutil.rmtree(self.path("big"))

    def start_echoes(self):
        unix, port = self.path("echo.sock"), programs.free_port()
        grpc_echo = os.path.join(self.options.bin, "grpc_echo")
        self.server([grpc_echo, "--serve", f"unix:{unix}", f"127.0.0.1:{port}"], unix).wait_ready()
        echo = self.program("grpc_echo", "--unix", f"unix:{unix}", "--tcp", f"127.0.0.1:{port}")
        paths = ("echo-unix", "echo-tcp", "echo-unary-unix", "echo-unary-tcp")
        raw_unix, raw_port = self.path("raw.sock"), programs.free_port()
        raw_at = ("--unix", raw_unix, "--tcp-port", str(raw_port))
        self.server([os.path.join(self.options.bin, "socket_echo"), "--serve", *raw_at], raw_unix).wait_ready()
        raw = self.program("socket_echo", *raw_at)
        return [(echo, path) for path in paths] + [(raw, "raw-unix"), (raw, "raw-tcp")]

    def start_alternative(self, name, layers):
        """The program that has the contender `name`, and its server before it where it has one."""
        socket, directory = self.path(f"{name}.sock"), self.path(name)
        if name == "redis":
            # No snapshots, no log: memory alone.
            self.server([find("redis-server"), "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no",
                         "--dir", self.scratch], socket).wait_ready()
            return self.program("redis_contender", "--socket", socket, "--layers", layers)
        if name == "memcached":
            user = ["-u", "root"] if os.geteuid() == 0 else []
            self.server([find("memcached"), "-s", socket, "-m", "4096", "-t", "2", *user], socket).wait_ready()
            return self.program("memcached_contender", "--socket", socket, "--layers", layers)
        if name.startswith("repeated-"):
            arguments = ("--socket", f"unix:{socket}", "--layers", layers)
            server = [os.path.join(self.options.bin, "repeated_bytes"), "--serve", *arguments]
            self.server(server, socket).wait_ready()
            return self.program("repeated_bytes", *arguments)
        if name == "numpy":
            here = os.path.dirname(os.path.realpath(__file__))
            return self.start(programs.Program([DEBIAN_PYTHON, os.path.join(here, "numpy_take.py"), layers]))
        os.mkdir(directory)
        return self.program(f"{name}_contender", "--directory", directory, "--layers", layers)

    def beside(self, name, own, layers):
        """One alternative and our paths, in turns."""
        program = self.start_alternative(name, layers)
        program.wait_ready()
        remote = name not in ("rocksdb", "lmdb", "numpy")
        cells = [(own, path, tokens, 1, in_flight) for path in ("embedded", "shm", "grpc-unix")
                 for tokens in report.SIZES for in_flight in ((1, 8) if path == "grpc-unix" and remote else (1,))]
        # In-process ones have nothing under way, and 8 of the largest batches say no more than one.
        cells += [(program, name, tokens, 1, in_flight) for tokens in report.SIZES
                  for in_flight in ((1, 8) if remote and tokens < 4096 else (1,))]
        self.run_group(name, cells)

    def alternatives(self, names):
        inspected = self.pack("small", SMALL_ROWS_PER_HEAD)
        layers = ",".join(f"{layer['layer']}:{layer['rows']}" for layer in inspected["layers"])
        _, own = self.start_own("small")
        before = len(self.running)
        for name in names:
            try:
                self.beside(name, own, layers)
            except programs.Failed as error:
                self.notes.append(f"{name} was not measured: {error}")
            while len(self.running) > before:
                self.running.pop().stop()
            shutil.rmtree(self.path(name), ignore_errors=True)
        self.stop_all()

    def run(self):
        if "ceilings" in self.options.groups or "clients" in self.options.groups:
            self.ceilings()
        names = [name for name in report.ALTERNATIVES if name in self.options.groups]
        if names:
            self.alternatives(names)


def report_all(comparison, options):
    """Prints what was measured; returns whether every bar is met."""
    rounds = comparison.rounds
    groups = list(dict.fromkeys(key[0] for key in rounds.cells))
    for group in groups:
        print(f"\n### {group}\n\n{report.table(rounds, group)}")
    bars = []
    if "ceilings" in groups:
        bars += report.ceiling_bars(rounds) + [comparison.resident]
    bars += report.alternative_bars(rounds, [group for group in groups if group in report.ALTERNATIVES])
    print("\n### bars\n")
    for bar in bars:
        print(bar.line())
    for note in comparison.notes:
        print(note)
    if options.json:
        with open(options.json, "w", encoding="ascii") as file:
            file.writelines(json.dumps(line) + "\n" for line in report.json_lines(rounds))
    if options.svg:
        with open(options.svg, "w", encoding="ascii") as file:
            file.write(report.picture(rounds))
    missed = sum(not bar.met for bar in bars)
    print(f"\n{len(bars) - missed} of {len(bars)} bars met")
    return missed == 0 and not comparison.notes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.path.join(ROOT, "bazel-bin/tests/bench/compare"))
    parser.add_argument("--engramd", default=os.path.join(ROOT, "bin/engramd"))
    parser.add_argument("--engram", default=os.path.join(ROOT, "bin/engram"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--round-ms", type=int, default=60, help="of one contender and size; longer for large batches")
    everything = ("ceilings", "clients") + report.ALTERNATIVES
    parser.add_argument("--groups", default=",".join(everything), help=f"of {','.join(everything)}")
    parser.add_argument("--json", help="write the medians here, an object a line")
    parser.add_argument("--svg", help="draw them here")
    parser.add_argument("--verbose", action="store_true", help="show what servers say")
    options = parser.parse_args()
    options.groups = options.groups.split(",")
    if unknown := set(options.groups) - set(everything):
        parser.error(f"no such group: {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="engram-compare.") as scratch, programs.SharedHugePages():
        comparison = Comparison(options, scratch)
        try:
            comparison.run()
        except programs.Failed as error:
            print(f"compare: {error}", file=sys.stderr)
            return 1
        finally:
            comparison.stop_all()
        met = report_all(comparison, options)
    print(f"load average {os.getloadavg()[0]:.1f}, {time.monotonic() - began:.0f} s")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
