#!/usr/bin/env python3
"""Whether looking for events before sleeping sets itself well, on this machine.

Measures `engram bench` over gRPC by turns: with the defaults of both ends, and with each of four fixed settings (engramd
--spin-us 0 or 50, client --spin-us 0 or 200). The programs stop looking by themselves where it does harm, whatever the
setting allows; those of --fixed may be of a revision that did not. For each number of clients, batch size and kind of
socket it prints the medians of rows per second and of p50, and the default's rows beside the best of the four. Exit status
1: the default is below 0.9 of the best somewhere; 2: it could not be measured.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.realpath(os.path.join(HERE, *[os.pardir] * 3))
sys.path[:0] = [os.path.join(ROOT, "tests")]
import programs  # noqa: E402

TOKENS, TOKEN_MAP = (os.path.join(ROOT, "tests/golden", name)
                     for name in ("tokens_en_handbook.i32", "deepseek_v41_token_map.i32"))
ROWS_PER_HEAD = 20_000
FIXED = [(0, 0), (0, 200), (50, 0), (50, 200)]
BAR = 0.9
PROGRESS_S = 2


class Side:
    """One engramd with its setting, and the clients that ask it."""

    def __init__(self, name, binaries, owner_spin, client_spin, scratch, table_set):
        self.name = name
        engramd, self.engram = binaries
        unix, port = os.path.join(scratch, f"{len(os.listdir(scratch))}.sock"), programs.free_port()
        command = [engramd, "--table-set", table_set, "--listen", f"unix:{unix}",
                   "--listen", f"127.0.0.1:{port}"]
        command += [] if owner_spin is None else ["--spin-us", str(owner_spin)]
        self.client = [] if client_spin is None else ["--spin-us", str(client_spin)]
        self.targets = {"unix": f"grpc:unix:{unix}", "tcp": f"grpc:127.0.0.1:{port}"}
        self.server = programs.Server(command, unix)
        self.server.wait_ready()

    def measure(self, socket, clients, batch_tokens, seconds):
        done = subprocess.run([self.engram, "bench", "--target", self.targets[socket], *self.client, "--token-ids", TOKENS,
                               "--batch-tokens", str(batch_tokens), "--clients", str(clients), "--seconds", str(seconds),
                               "--json"], check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise programs.Failed(f"{self.name}: {done.stderr[-2000:]}")
        line = json.loads(done.stdout.splitlines()[-1])
        return line["rows_per_s"], line["p50_us"]


def numbers(text):
    return [int(word) for word in text.split(",")]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engramd", default=os.path.join(ROOT, "bin/engramd"))
    parser.add_argument("--engram", default=os.path.join(ROOT, "bin/engram"))
    parser.add_argument("--fixed", help="a folder with engramd and engram for the four fixed settings; default: the same ones")
    parser.add_argument("--clients", type=numbers, default=[1, 8, 32])
    parser.add_argument("--batch-tokens", type=numbers, default=[1, 16])
    parser.add_argument("--sockets", type=lambda text: text.split(","), default=["unix", "tcp"])
    parser.add_argument("--seconds", type=float, default=0.5, help="of one measurement")
    parser.add_argument("--turns", type=int, default=5)
    return parser.parse_args()


def main():
    options = parse_arguments()
    misses = 0
    with tempfile.TemporaryDirectory() as scratch:
        table_set = os.path.join(scratch, "set")
        programs.pack_synthetic(options.engram, "deepseek-v4.1-flash", ROWS_PER_HEAD, TOKEN_MAP,
                                table_set)
        own = (options.engramd, options.engram)
        fixed = tuple(os.path.join(options.fixed, name) for name in ("engramd", "engram")) if options.fixed else own
        sides = [Side("default", own, None, None, scratch, table_set)]
        sides += [Side(f"{owner}/{client}", fixed, owner, client, scratch, table_set) for owner, client in FIXED]
        try:
            print("clients tokens socket  " + "".join(f"{side.name:>18}" for side in sides) + "   of the best", flush=True)
            for socket in options.sockets:
                for clients in options.clients:
                    for tokens in options.batch_tokens:
                        misses += not row(options, sides, socket, clients, tokens)
        finally:
            for side in sides:
                side.server.stop()
    return 1 if misses else 0


def row(options, sides, socket, clients, tokens):
    found = {side.name: [] for side in sides}
    last = time.monotonic()
    for turn in range(options.turns):
        for side in sides if turn % 2 == 0 else sides[::-1]:
            found[side.name].append(side.measure(socket, clients, tokens, options.seconds))
            if time.monotonic() - last > PROGRESS_S:
                last = time.monotonic()
                print(f"   turn {turn + 1} of {options.turns}: {side.name}", file=sys.stderr, flush=True)
    medians = {name: tuple(statistics.median(values) for values in zip(*results)) for name, results in found.items()}
    best = max(rate for name, (rate, _) in medians.items() if name != "default")
    share = medians["default"][0] / best
    cells = "".join(f"{f'{rate / 1e6:.2f} M {p50:.0f} us':>18}" for rate, p50 in medians.values())
    print(f"{clients:7} {tokens:6} {socket:6}  {cells}   {share:.2f}{'' if share >= BAR else '  missed'}", flush=True)
    return share >= BAR


if __name__ == "__main__":
    try:
        sys.exit(main())
    except programs.Failed as failure:
        print(f"spin_settings: {failure}", file=sys.stderr)
        sys.exit(2)
