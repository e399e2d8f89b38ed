"""numpy.take over a table in memory, as a contender's program (contender.h): one thread, one batch at a time."""
import json
import statistics
import sys
import time

import numpy

ROW_BYTES, COLUMNS = 264, 24
# Ids drawn before, as contender.cc draws its own.
POOL_IDS = 1 << 20
WARM_UP_SECONDS = 0.004


def rounds(rows_of_layers):
    random = numpy.random.default_rng(1)
    # Random bytes, so that no page is shared or empty.
    tables = [numpy.frombuffer(random.bytes(rows * ROW_BYTES), numpy.uint8).reshape(rows, ROW_BYTES).copy()
              for rows in rows_of_layers]
    pools = [random.integers(0, rows, POOL_IDS) for rows in rows_of_layers]
    at = 0
    print("ready", flush=True)
    for line in sys.stdin:
        _, tokens, clients, in_flight, milliseconds = line.split()
        count = int(tokens) * COLUMNS
        if (clients, in_flight) != ("1", "1"):
            sys.exit("numpy_take: one client with one batch in flight is all it has")
        landings = [numpy.empty((count, ROW_BYTES), numpy.uint8) for _ in tables]

        def run(seconds):
            nonlocal at
            times = []
            begin = now = time.perf_counter()
            while not times or now - begin < seconds:
                if at + count > POOL_IDS:
                    at = 0
                ids = [pool[at:at + count] for pool in pools]
                at += count
                start = time.perf_counter()
                for table, some, landing in zip(tables, ids, landings):
                    # "clip" alone writes into `out` without a copy between.
                    numpy.take(table, some, axis=0, out=landing, mode="clip")
                now = time.perf_counter()
                times.append(now - start)
            for table, some, landing in zip(tables, ids, landings):
                if not numpy.array_equal(landing, table[some]):
                    sys.exit("numpy_take: a wrong row")
            return times, now - begin

        run(WARM_UP_SECONDS)
        times, seconds = run(int(milliseconds) / 1000)
        print(json.dumps({"batches": len(times), "p50_us": statistics.median(times) * 1e6,
                          "p99_us": sorted(times)[len(times) * 99 // 100] * 1e6,
                          "rows_per_s": len(times) * count * len(tables) / seconds}), flush=True)


if __name__ == "__main__":
    rounds([int(layer.split(":")[1]) for layer in sys.argv[1].split(",")])
