#!/usr/bin/env python3
"""What engramd does when it is asked for up to three times what it can give.

    tests/bench/overload/overload.py [--way tcp|unix|unary] [--turns 5] [--tokens 64] [--deadline-ms 50] [--seconds 3] [--json FILE]

engramd has one core (one loop), the clients that load it another: eight connections, batches that are due at random
times whether or not earlier ones came back, each with a deadline. The tables lie on 4 KiB pages, so that gathering,
not the clients' core, is what runs out. Prints medians over turns, and whether the bars held: at three times the
capacity at least 90 % of the best goodput (answers in time), rejections within 1 ms (p50), a client that asks for half
of its share gets it, memory flat.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, ROOT)
from tests import programs  # noqa: E402

GENERATOR = os.path.join(ROOT, "bazel-bin/tests/bench/overload/overload")
TOKEN_MAP = os.path.join(ROOT, "tests/golden/deepseek_v41_token_map.i32")
ROWS_PER_HEAD = 80000  # 1 GB
GOODPUT_BAR, REJECTION_BAR_US, MODEST_BAR, MEMORY_BAR_BYTES = 0.9, 1000, 0.99, 64 << 20


def measure(arguments, scratch):
    """The generator's lines, each with engramd's memory as it was then."""
    table_set = os.path.join(scratch, "set")
    programs.pack_synthetic(arguments.engram, "deepseek-v4.1-flash", ROWS_PER_HEAD, TOKEN_MAP, table_set)
    address = os.path.join(scratch, "lookup.sock") if arguments.way == "unix" else programs.free_port()
    listen = f"unix:{address}" if arguments.way == "unix" else f"127.0.0.1:{address}"
    server = programs.Server(["taskset", "-c", "0", arguments.engramd, "--table-set", table_set, "--lookup-threads", "1",
                              "--listen", listen, "--shm-socket", os.path.join(scratch, "shm")], address)
    lines = []
    try:
        server.wait_ready()
        command = ["taskset", "-c", "1", GENERATOR, listen, "--turns", str(arguments.turns), "--tokens",
                   str(arguments.tokens), "--deadline-ms", str(arguments.deadline_ms), "--milliseconds",
                   str(arguments.seconds * 1000)] + (["--unary"] if arguments.way == "unary" else [])
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as generator:
            for line in generator.stdout:
                lines.append({**json.loads(line), "memory": server.memory_bytes()})
                print(".", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        if generator.returncode != 0:
            raise programs.Failed(f"the generator ended with status {generator.returncode}")
    finally:
        server.stop()
    return lines


def report(lines):
    """Prints the table; returns the bars that were missed."""
    def median(who, factor, field):
        return statistics.median(line[field] for line in lines if line["who"] == who and
                                 (factor is None or line["factor"] == factor))

    print(f"capacity (closed loop): {median('capacity', None, 'per_s'):.0f} batches/s\n")
    print("load    sent/s  in time/s  late/s  rejected/s  expired/s  in time p50 us  p99 us  rejected p50 us  p99 us")
    factors = sorted({line["factor"] for line in lines if line["who"] == "all"})
    for who, factor in [("all", one) for one in factors] + [("modest", None), ("greedy", None)]:
        name = f"{factor:g}x" if factor else who
        fields = ("sent_per_s", "in_time_per_s", "late_per_s", "rejected_per_s", "expired_per_s", "ok_p50_us", "ok_p99_us",
                  "rejected_p50_us", "rejected_p99_us")
        print("{:6}{:8.0f}{:11.0f}{:8.0f}{:12.0f}{:11.0f}{:16.0f}{:8.0f}{:17.0f}{:8.0f}".format(
            name, *(median(who, factor, field) for field in fields)))
    most = max(factors)
    ratios = []
    for turn in {line["turn"] for line in lines}:
        goodput = {line["factor"]: line["in_time_per_s"] for line in lines if line["who"] == "all" and line["turn"] == turn}
        ratios.append(goodput[most] / max(goodput.values()))
    memory = [line["memory"] for line in lines]
    modest = median("modest", None, "in_time_per_s") / median("modest", None, "sent_per_s")
    failed = sum(line.get("failed", 0) for line in lines)
    print()
    missed = []
    for text, held in (
            (f"goodput at {most:g}x / best: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), "
             f"bar {GOODPUT_BAR}", statistics.median(ratios) >= GOODPUT_BAR),
            (f"p50 of a rejection at {most:g}x: {median('all', most, 'rejected_p50_us'):.0f} us, bar {REJECTION_BAR_US}",
             median("all", most, "rejected_p50_us") < REJECTION_BAR_US),
            (f"of the modest client's batches in time: {modest:.3f}, bar {MODEST_BAR}", modest >= MODEST_BAR),
            (f"engramd's memory: {memory[0] >> 20} MiB after the first load, {max(memory) >> 20} at most, bar "
             f"{MEMORY_BAR_BYTES >> 20} more", max(memory) - memory[0] <= MEMORY_BAR_BYTES),
            (f"batches that failed in another way: {failed}, bar 0", failed == 0)):
        print(("held    " if held else "MISSED  ") + text)
        if not held:
            missed.append(text)
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--way", choices=("tcp", "unix", "unary"), default="tcp",
                        help="streams over TCP or a Unix socket, or unary calls over TCP")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--deadline-ms", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=3, help="of each load")
    parser.add_argument("--json", help="the lines that the table is made from, to a file")
    parser.add_argument("--engramd", default=os.path.join(ROOT, "bin/engramd"))
    parser.add_argument("--engram", default=os.path.join(ROOT, "bin/engram"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            lines = measure(arguments, scratch)
        except programs.Failed as failure:
            sys.exit(f"overload: {failure}")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
    return 1 if report(lines) else 0


if __name__ == "__main__":
    sys.exit(main())
