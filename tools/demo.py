#!/usr/bin/python3
"""./run demo: the main job once, from nothing to verified rows. Stops all that it starts.

Packs a synthetic V4.1-shaped table set of about 1 GB, serves it with engramd, fetches the rows of a real
token stream through the SDK over gRPC, checks every row and address against a second, plain implementation,
the rows that the example worker's layers read, and the full-size model's known answers as addresses.

With --cluster: a cluster of its own, of which one store is lost under load (demo_cluster.py).
With --observe: packs and serves as well, then leaves engramd under a load over gRPC and shared memory with a Prometheus that
scrapes it, prints what to open in a browser, and stops all when it is interrupted (--seconds N: after N seconds).
"""
import argparse
import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time

import demo_cluster
from demo_parts import (FAMILY, INTERRUPTED, INTERRUPTS, START_LIMIT_S, STOP_LIMIT_S, TOKEN_MAP, TOKENS, Started, Steps, engram, failed, free_ports,
                        pack, say, wait_for, write_prometheus)

ROWS_PER_HEAD = 80_000  # 48 columns of about 80,000 rows of 264 bytes: about 1 GB
KNOWN_ANSWERS = "tests/golden/known_answers.json"
WORKER_TOKENS = 5_000


def serve(steps, table_set, address):
    say(f"starting engramd at {address}")
    begin = time.monotonic()
    server = subprocess.Popen(["bin/engramd", "--table-set", table_set, "--listen", address])
    # Attaching waits while the server loads and verifies: an empty lookup is the readiness check.
    engram("lookup", "--target", "grpc:" + address, "--token-ids", "/dev/null", "--output", "-",
           "--attach-timeout", str(START_LIMIT_S))
    steps.add("load and verify it in engramd", begin, "every checksum held")
    return server


def look_up(steps, table_set, address):
    say("fetching the rows of a real token stream and checking each one")
    begin = time.monotonic()
    lookup = subprocess.Popen(["bin/engram", "lookup", "--target", "grpc:" + address, "--token-ids", TOKENS,
                               "--output", "-"], stdout=subprocess.PIPE)
    check = subprocess.run(["bin/check_rows", "--table-set", table_set, "--token-ids", TOKENS],
                           stdin=lookup.stdout, stdout=subprocess.PIPE, check=False)
    lookup.stdout.close()
    if lookup.wait() != 0 or check.returncode != 0:
        raise RuntimeError("the rows were not all fetched and right (see above)")
    found = json.loads(check.stdout)
    if found["tokens"] != os.path.getsize(TOKENS) // 4:
        raise RuntimeError(f"only {found['tokens']} tokens were checked")
    steps.add("fetch and check rows over gRPC", begin,
              f"{found['tokens']:,} tokens, {found['rows']:,} rows, {found['bytes'] / 1e9:.2f} GB, all right")


def example_worker(steps, table_set, address, scratch):
    say("running the example worker, which prefetches its rows, and checking each one")
    begin = time.monotonic()
    ids = os.path.join(scratch, "worker.i32")
    with open(TOKENS, "rb") as stream, open(ids, "wb") as file:
        file.write(stream.read(4 * WORKER_TOKENS))
    with open(ids, "rb") as stream:
        worker = subprocess.Popen(["bin/example_worker", "grpc:" + address], stdin=stream, stdout=subprocess.PIPE)
    check = subprocess.run(["bin/check_rows", "--table-set", table_set, "--token-ids", ids],
                           stdin=worker.stdout, stdout=subprocess.PIPE, check=False)
    worker.stdout.close()
    if worker.wait() != 0 or check.returncode != 0:
        raise RuntimeError("the worker's layers did not read the right rows (see above)")
    found = json.loads(check.stdout)
    if found["tokens"] != WORKER_TOKENS:
        raise RuntimeError(f"only {found['tokens']} of the worker's tokens were checked")
    steps.add("rows in place before the layer (gpu/examples/example_worker.cc)", begin,
              f"{found['tokens']:,} tokens in chunks of 256, {found['rows']:,} rows, all right")


def known_answers(steps, scratch):
    say("addressing the known answers of the full-size model")
    begin = time.monotonic()
    with open(KNOWN_ANSWERS, encoding="utf-8") as file:
        cases = json.load(file)["deepseek_v41_flash"]["cases"]
    for name, case in cases.items():
        ids, mask, out = (os.path.join(scratch, name + end) for end in (".i32", ".mask", ".i64"))
        with open(ids, "wb") as file:
            file.write(struct.pack(f"<{len(case['raw'])}i", *case["raw"]))
        arguments = ["address", "--family", FAMILY, "--token-map", TOKEN_MAP, "--token-ids", ids, "--output", out]
        if case["mask"]:
            with open(mask, "wb") as file:
                file.write(bytes(0 if live else 1 for live in case["mask"]))
            arguments += ["--dead-mask", mask]
        engram(*arguments)
        with open(out, "rb") as file:
            if hashlib.sha256(file.read()).hexdigest() != case["sha256_i64"]:
                raise RuntimeError(f"known answer {name}: the addresses differ")
    steps.add("known answers of the 189 GiB model", begin, f"{len(cases)} of {len(cases)} addressed right")


def measure(steps, address):
    say("measuring lookups over gRPC")
    begin = time.monotonic()
    out = engram("bench", "--target", "grpc:" + address, "--token-ids", TOKENS, "--batch-tokens", "1,64",
                 "--seconds", "2", "--json", stdout=subprocess.PIPE, text=True).stdout
    for line in out.splitlines():
        row = json.loads(line)
        steps.add(f"lookups of {row['batch_tokens']} tokens ({row['path']})", begin,
                  f"p50 {row['p50_us']:.0f} us, {row['rows_per_s'] / 1e6:.2f} M rows/s")
        begin = time.monotonic()


def stop(steps, server):
    begin = time.monotonic()
    server.send_signal(signal.SIGTERM)
    code = server.wait(timeout=STOP_LIMIT_S)
    if code != 0:
        raise RuntimeError(f"engramd ended with {code}")
    steps.add("stop engramd", begin, "exit code 0")


def observe(scratch, table_set, seconds):
    started = Started()
    lookups, pages, prometheus, *workers = (f"127.0.0.1:{port}" for port in free_ports(5))
    shm, config = (os.path.join(scratch, name) for name in ("shm.sock", "prometheus.json"))
    try:
        say("starting engramd, clients and Prometheus")
        started.start(["bin/engramd", "--table-set", table_set, "--listen", lookups, "--shm-socket", shm, "--admin-listen", pages,
                       "--admin-grpc-listen", f"unix:{scratch}/admin.sock"], os.path.join(scratch, "engramd.log"))
        wait_for(f"http://{pages}/readyz", started)
        for worker, target in zip(workers, (f"grpc:{lookups}", f"shm:{shm}")):
            started.start(["bin/engram", "bench", "--target", target, "--token-ids", TOKENS, "--batch-tokens", "64", "--rounds",
                           "1000000000000", "--metrics-listen", worker], os.path.join(scratch, f"client-{worker}.log"))
        write_prometheus(config, [pages], workers)
        started.start(["prometheus", f"--config.file={config}", f"--storage.tsdb.path={scratch}/prometheus",
                       f"--web.listen-address={prometheus}"], os.path.join(scratch, "prometheus.log"))
        wait_for(f"http://{prometheus}/-/ready", started)
        print(f"""
engramd is under load. Open:
  status page   http://{pages}/statusz
  metrics       http://{pages}/metrics, and of two workers http://{workers[0]}/metrics, http://{workers[1]}/metrics
  Prometheus    http://{prometheus}/graph?g0.expr=sum%20by%20(transport)%20(rate(engram_server_rows_total%5B1m%5D))&g0.tab=0&g0.range_input=10m
and in another terminal:
  bin/engram admin list --admin unix:{scratch}/admin.sock
Ctrl-C ends it all.""", flush=True)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            started.check()
            time.sleep(0.2)
    except KeyboardInterrupt:
        print()
    finally:
        started.stop()
    print("demo: all stopped", flush=True)


def run_observed(seconds):
    with tempfile.TemporaryDirectory(prefix="engram-demo-") as scratch:
        table_set = os.path.join(scratch, "table-set")
        try:
            pack(Steps(), table_set, ROWS_PER_HEAD)
            observe(scratch, table_set, seconds)
        except (RuntimeError, subprocess.SubprocessError, OSError) as error:
            return failed(error)
    return 0


def parse_arguments():
    parser = argparse.ArgumentParser(prog="./run demo", description="The main job once, from nothing to verified rows.")
    parser.add_argument("--observe", action="store_true", help="leave engramd under load, with Prometheus, until Ctrl-C")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="with --observe: end by itself after so long")
    parser.add_argument("--cluster", action="store_true", help="a cluster of eight stores, of which one is lost under load; "
                        "./run demo --cluster --help has its settings")
    return parser.parse_args()


def main():
    INTERRUPTS.install()
    if "--cluster" in sys.argv[1:]:
        return demo_cluster.main([word for word in sys.argv[1:] if word != "--cluster"])
    arguments = parse_arguments()
    if arguments.observe:
        return run_observed(arguments.seconds)
    begin = time.monotonic()
    steps, server = Steps(), None
    with tempfile.TemporaryDirectory(prefix="engram-demo-") as scratch:
        table_set = os.path.join(scratch, "table-set")
        address = "unix:" + os.path.join(scratch, "engramd.sock")
        try:
            pack(steps, table_set, ROWS_PER_HEAD)
            server = serve(steps, table_set, address)
            look_up(steps, table_set, address)
            example_worker(steps, table_set, address, scratch)
            known_answers(steps, scratch)
            measure(steps, address)
            stop(steps, server)
        except KeyboardInterrupt:
            print("demo: interrupted, all stopped", flush=True)
            return INTERRUPTED
        except (RuntimeError, subprocess.SubprocessError, OSError) as error:
            return failed(error)
        finally:
            if server and server.poll() is None:
                server.kill()
                server.wait()
    steps.show()
    print(f"demo: all right, in {time.monotonic() - begin:.0f} s", flush=True)
    return 0


sys.exit(main())
