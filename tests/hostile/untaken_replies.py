#!/usr/bin/env python3
"""What clients that never take their replies cost one that behaves.

    tests/hostile/untaken_replies.py --engram bin/engram --engramd bin/engramd [--turns 5] [--seconds 5]

Measures lookups of 16 tokens, one after the other, on a quiet engramd and then while 128 streams, 100 attaches and 100
unary lookups of others hold their answers, in turns. Prints medians; ends with 1 where a lookup or a health check
failed, or a bar is missed.
"""
import argparse
import contextlib
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.realpath(__file__)))]
import grpc_clients as clients  # noqa: E402
import programs  # noqa: E402

P99_BAR = 10  # times the quiet run's
STREAMS, CALLERS = 128, 100


class Holders:
    """Processes that hold answers: 4 connections each, of streams, attaches and lookups."""

    def __init__(self, port, set_id, seconds):
        rows = clients.rows_request(set_id, 1, range(1000)).hex()
        row = clients.rows_request(set_id, 1, [0]).hex()
        holds = [(clients.STREAM, STREAMS // 4, rows), (clients.ATTACH, CALLERS // 4, ""), (clients.LOOKUP, CALLERS // 4, row)]
        self.processes = [subprocess.Popen([sys.executable, clients.__file__, "hold", str(port), path, "4", str(calls),
                                            str(seconds), body]) for path, calls, body in holds]

    def __enter__(self):
        time.sleep(1)  # until they hold what they can
        return self

    def __exit__(self, *_):
        ended = [process.args for process in self.processes if process.poll() is not None]
        for process in self.processes:
            process.kill()
            process.wait()
        if ended:
            raise programs.Failed(f"nothing was held: {ended} ended early")


class Probe:
    """Asks health again and again."""

    def __init__(self, port):
        self.port, self.served, self.failed = port, 0, 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.stop.wait(0.05):
            if clients.healthy(self.port):
                self.served += 1
            else:
                self.failed += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def look_up(arguments, port, token_ids):
    """What `engram bench` says of its lookups; a failed one ends it."""
    outcome = subprocess.run(
        [arguments.engram, "bench", "--target", f"grpc:127.0.0.1:{port}", "--token-ids", token_ids, "--batch-tokens", "16",
         "--seconds", str(arguments.seconds), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if outcome.returncode != 0:
        raise programs.Failed(f"a lookup failed: {outcome.stderr}")
    return json.loads(outcome.stdout.splitlines()[0])


def measure(arguments, scratch):
    table_set = os.path.join(scratch, "set")
    set_id = programs.pack_synthetic(arguments.engram, "qwen4-exp", 50000, None, table_set)["id"]
    token_ids = os.path.join(scratch, "ids")
    with open(token_ids, "wb") as file:
        file.write(struct.pack("<4096i", *((7919 * i) % 150000 for i in range(4096))))
    port = programs.free_port()
    server = programs.Server([arguments.engramd, "--table-set", table_set, "--listen", f"127.0.0.1:{port}"], port)
    quiet, held = [], []
    try:
        server.wait_ready()
        with Probe(port) as probe:
            for _ in range(arguments.turns):
                quiet.append(look_up(arguments, port, token_ids))
                with Holders(port, set_id, arguments.seconds + 10):
                    held.append(look_up(arguments, port, token_ids))
    finally:
        server.stop()
    return quiet, held, probe


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--engram", required=True)
    parser.add_argument("--engramd", required=True)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory())
        try:
            quiet, held, probe = measure(arguments, scratch)
        except programs.Failed as failure:
            sys.exit(f"untaken_replies: {failure}")
    for name, rounds in (("quiet", quiet), ("held", held)):
        print(f"{name:6} p50 {statistics.median(one['p50_us'] for one in rounds):8.0f} us   p99 "
              f"{statistics.median(one['p99_us'] for one in rounds):8.0f} us")
    ratios = sorted(after["p99_us"] / before["p99_us"] for before, after in zip(quiet, held))
    ratio = statistics.median(ratios)
    print(f"p99 held / quiet: {ratio:.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f}), bar {P99_BAR}")
    print(f"health: {probe.served} answered, {probe.failed} not")
    return 1 if probe.failed or ratio > P99_BAR else 0


if __name__ == "__main__":
    sys.exit(main())
