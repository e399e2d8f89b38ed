"""./run demo --cluster: a cluster that loses a store under load, and loses no lookup. Stops all that it starts.

Packs a synthetic table set; starts etcd and eight engramds, two for each of four partitions, which register there; has a load find
them through the SDK (`cluster:etcd:...`) and check every row that lands; kills one store with -9, starts it again, and shows at the
end what each store holds, and how lookups went before, meanwhile and after.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import tempfile
import time

from demo_parts import (INTERRUPTED, INTERRUPTS, START_LIMIT_S, TOKENS, Started, Steps, failed, free_ports, get, pack, say, show_table,
                        wait_for, write_prometheus)

ROWS_PER_HEAD = 10_000  # 48 columns of about 10,000 rows of 264 bytes: about 130 MB, which the stores have twice
PREFIX = "engram-demo"
AWAY_S = 15  # with --observe: longer than its lease of 10 s in etcd
PHASES = ("before", "one store killed", "after")


class Store:
    """One engramd and where it is."""

    def __init__(self, number, scratch, table_set, etcd, arguments):
        self.partition = f"{number % arguments.partitions}/{arguments.partitions}"  # as `engram partition-plan` has it
        self.name = f"store {number}"
        self.address, self.pages = (f"127.0.0.1:{port}" for port in free_ports(2))
        self.admin = f"unix:{scratch}/admin-{number}.sock"
        self.log = os.path.join(scratch, f"store-{number}.log")
        self.command = [os.path.join(arguments.programs, "engramd"), "--table-set", table_set, "--partition", self.partition,
                        "--listen", self.address, "--register", f"etcd:{etcd}/{PREFIX}", "--advertise", self.address,
                        "--admin-listen", self.pages, "--admin-grpc-listen", self.admin, "--lookup-threads", "1"]
        self.process = None

    def start(self, started):
        self.process = started.start(self.command, self.log)

    def metric(self, name):
        """Its value, or the sum over its labels."""
        page = get(f"http://{self.pages}/metrics")
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", page, re.MULTILINE))


class Load:
    """cluster_load: looks rows up and checks each, in phases."""

    def __init__(self, started, arguments, target, table_set, scratch, metrics):
        self.log, self.metrics = os.path.join(scratch, "load.log"), metrics
        self.process = started.start(
            [os.path.join(arguments.programs, "cluster_load"), "--target", target, "--table-set", table_set, "--token-ids", TOKENS,
             "--clients", str(arguments.clients), "--batch-tokens", str(arguments.batch_tokens),
             "--attach-timeout", str(START_LIMIT_S), "--metrics-listen", metrics],
            self.log, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError(f"the load did not attach: {self.said()}")

    def said(self):
        with open(self.log, encoding="utf-8") as file:
            return file.read()[-2000:]

    def begin(self, phase, is_first=False):
        """Returns what the phase before it was like."""
        self.process.stdin.write(phase + "\n")
        return None if is_first else self._line()

    def end(self):
        self.process.stdin.close()
        line = self._line()
        if self.process.wait(timeout=START_LIMIT_S) != 0:
            raise RuntimeError(f"the load failed: {self.said()}")
        return line

    def _line(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the load ended: {self.said()}")
        return json.loads(line)


def start_etcd(started, scratch):
    clients, peers = (f"127.0.0.1:{port}" for port in free_ports(2))
    process = started.start(
        ["etcd", "--data-dir", os.path.join(scratch, "etcd"), "--listen-client-urls", f"http://{clients}", "--advertise-client-urls",
         f"http://{clients}", "--listen-peer-urls", f"http://{peers}", "--initial-advertise-peer-urls", f"http://{peers}",
         "--initial-cluster", f"default=http://{peers}", "--unsafe-no-fsync"], os.path.join(scratch, "etcd.log"))
    wait_for(f"http://{clients}/health", started)
    return process, clients


def wait_registered(stores, started):
    """Ready, and found in etcd."""
    end = time.monotonic() + START_LIMIT_S
    for store in stores:
        wait_for(f"http://{store.pages}/readyz", started)
        while store.metric("engram_server_registered") != 1:
            started.check()
            if time.monotonic() > end:
                raise RuntimeError(f"{store.name} did not register: {store.log}")
            time.sleep(0.1)


def holds(store, programs):
    """What it says that it holds."""
    listed = json.loads(subprocess.run([os.path.join(programs, "engram"), "admin", "list", "--admin", store.admin, "--json"],
                                       check=True, stdout=subprocess.PIPE, text=True).stdout)
    return listed["table_sets"][0]


def sleep(seconds, started):
    """Less when a program ends by itself, which is an error."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        started.check()
        time.sleep(min(0.2, max(0.0, end - time.monotonic())))


def lose_one(load, lost, started, seconds):
    """The three phases under load; returns their lines, and for how long the store was away."""
    say(f"under load for {seconds:g} s")
    load.begin(PHASES[0], is_first=True)
    sleep(seconds, started)
    say(f"killing {lost.name} ({lost.address}, partition {lost.partition}) with -9")
    lines = [load.begin(PHASES[1])]
    started.kill(lost.process)
    begin = time.monotonic()
    sleep(seconds, started)
    say(f"starting {lost.name} again")
    lost.start(started)
    wait_registered([lost], started)
    away = time.monotonic() - begin
    lines.append(load.begin(PHASES[2]))
    sleep(seconds, started)
    lines.append(load.end())
    del started.processes[load.process]
    return lines, away


def thousands(count):
    return f"{count / 1e3:,.0f} k"


def show_stores(stores, programs, lost, away):
    lines = [("store", "partition", "address", "holds", "of the set", "rows served", "")]
    for store in stores:
        held = holds(store, programs)
        lines.append((store.name, store.partition, store.address, held["held"].split(" (rows")[0],
                      f"{held['held_bytes'] / 1e6:.0f} of {held['table_bytes'] / 1e6:.0f} MB",
                      thousands(store.metric("engram_server_rows_total")),
                      f"killed, away for {away:.1f} s; since then" if store is lost else ""))
    show_table(lines)


def show_phases(phases):
    lines = [("phase", "seconds", "batches", "rows/s", "p50", "p99", "slowest", "failed", "wrong rows", "parts", "sent again", "hedges")]
    for phase in phases:
        again = phase["free_resends"] + sum(phase["resends"].values())
        lines.append((phase["phase"], f"{phase['seconds']:.1f}", f"{phase['batches']:,}", thousands(phase["rows_per_s"]),
                      *(f"{phase[key] / 1e3:.2f} ms" for key in ("p50_us", "p99_us", "most_us")), str(sum(phase["failed"].values())),
                      str(phase["wrong"]), f"{phase['parts']:,}", str(again), str(phase["hedges"])))
    show_table(lines)
    reasons = {"connection broke, free": sum(phase["free_resends"] for phase in phases)}
    for phase in phases:
        for reason, count in phase["resends"].items():
            reasons[reason] = reasons.get(reason, 0) + count
    print("sent again, by reason: " + (", ".join(f"{count} {reason}" for reason, count in reasons.items() if count) or "none"))
    print(f"hedges: {sum(p['hedges'] for p in phases)}, of which {sum(p['hedges_won'] for p in phases)} were answered first; "
          f"times that a store was left alone: {sum(p['ejections'] for p in phases)}")


def check(phases, said):
    failed_batches = sum(sum(phase["failed"].values()) for phase in phases)
    wrong = sum(phase["wrong"] for phase in phases)
    if failed_batches or wrong:
        raise RuntimeError(f"{failed_batches} batches failed, {wrong} rows were wrong: {said}")
    empty = [phase["phase"] for phase in phases if not phase["batches"]]
    if empty:
        raise RuntimeError(f"no batch landed: {', '.join(empty)}")


def start_cluster(arguments, scratch, started, last):
    """Its stores, and a load on them. What is to end last is put into `last`."""
    table_set = os.path.join(scratch, "table-set")
    pack(Steps(), table_set, arguments.rows_per_head, os.path.join(arguments.programs, "engram"))
    say("starting etcd")
    process, etcd = start_etcd(started, scratch)
    last.append(process)  # stores take back what they registered
    count = arguments.partitions * arguments.replicas
    say(f"starting {count} stores: {arguments.partitions} partitions, {arguments.replicas} of each")
    stores = [Store(n, scratch, table_set, etcd, arguments) for n in range(count)]
    for store in stores:
        store.start(started)
    wait_registered(stores, started)
    target = f"cluster:etcd:{etcd}/{PREFIX}"
    say(f"looking rows up at {target}, and checking each")
    metrics = f"127.0.0.1:{free_ports(1)[0]}"
    return stores, Load(started, arguments, target, table_set, scratch, metrics)


def lose_a_store(arguments, scratch, started, last):
    begin = time.monotonic()
    stores, load = start_cluster(arguments, scratch, started, last)
    lost = stores[1]
    phases, away = lose_one(load, lost, started, arguments.seconds)
    show_stores(stores, arguments.programs, lost, away)
    show_phases(phases)
    check(phases, load.said())
    rows = sum(phase["rows"] for phase in phases)
    return f"all right: {rows:,} rows checked, 0 batches failed, 0 rows wrong, in {time.monotonic() - begin:.0f} s"


def observe(arguments, scratch, started, last):
    """Leaves it under load, until it is interrupted: whoever wants to may kill stores."""
    stores, load = start_cluster(arguments, scratch, started, last)
    config, prometheus = os.path.join(scratch, "prometheus.json"), f"127.0.0.1:{free_ports(1)[0]}"
    write_prometheus(config, [store.pages for store in stores], [load.metrics])
    started.start(["prometheus", f"--config.file={config}", f"--storage.tsdb.path={scratch}/prometheus",
                   f"--web.listen-address={prometheus}"], os.path.join(scratch, "prometheus.log"))
    wait_for(f"http://{prometheus}/-/ready", started)
    print("\nThe cluster is under load. Open:")
    for store in stores:
        print(f"  {store.name}, partition {store.partition}, process {store.process.pid:<8} http://{store.pages}/statusz")
    print(f"""  metrics of the load   http://{load.metrics}/metrics
  Prometheus            http://{prometheus}/alerts
In another terminal, kill -9 one of the processes: it is started again after {AWAY_S} s, and no lookup fails.
Ctrl-C ends it all.""", flush=True)
    load.begin("observed", is_first=True)
    end = time.monotonic() + arguments.seconds
    due = {}  # when those that are gone are started again
    while time.monotonic() < end:
        for store in stores:
            if store in due and time.monotonic() > due[store]:
                store.start(started)
                del due[store]
            elif store not in due and store.process.poll() is not None:
                started.kill(store.process)
                due[store] = time.monotonic() + AWAY_S
                say(f"{store.name} is gone, and is started again in {AWAY_S} s")
        started.check(but=[store.process for store in stores])
        time.sleep(0.2)
    lines = [load.end()]
    del started.processes[load.process]
    show_phases(lines)
    check(lines, load.said())
    return "all stopped"


def parse_arguments(words):
    parser = argparse.ArgumentParser(prog="./run demo --cluster", description="A cluster that loses a store under load, and no lookup.")
    parser.add_argument("--observe", action="store_true", help="leave it under load, with Prometheus, until Ctrl-C")
    parser.add_argument("--seconds", type=float, help="of each of the three phases (default 6); with --observe: of all")
    parser.add_argument("--partitions", type=int, default=4, help="that the set is cut into (default 4)")
    parser.add_argument("--replicas", type=int, default=2, help="stores of each partition (default 2)")
    parser.add_argument("--clients", type=int, default=2, help="that look up at once (default 2)")
    parser.add_argument("--batch-tokens", type=int, default=64, help="tokens of a batch (default 64)")
    parser.add_argument("--rows-per-head", type=int, default=ROWS_PER_HEAD, help=f"how large the set is (default {ROWS_PER_HEAD}: 130 MB)")
    parser.add_argument("--programs", default="bin", help="where engramd, engram and cluster_load are (default bin)")
    arguments = parser.parse_args(words)
    if arguments.seconds is None:
        arguments.seconds = float("inf") if arguments.observe else 6
    return arguments


def main(words):
    arguments = parse_arguments(words)
    INTERRUPTS.install()
    if not shutil.which("etcd"):
        return failed("there is no etcd: apt-get install etcd-server")
    started, last, said = Started(), [], None
    with tempfile.TemporaryDirectory(prefix="engram-demo-") as scratch:
        try:
            done = observe if arguments.observe else lose_a_store
            said = done(arguments, scratch, started, last)
        except KeyboardInterrupt:
            said = "all stopped" if arguments.observe else None
            if not arguments.observe:
                print("demo: interrupted, all stopped", flush=True)
                return INTERRUPTED
        except (RuntimeError, subprocess.SubprocessError, OSError) as error:
            return failed(error)
        finally:
            wrong = started.stop(last)
    if wrong:
        return failed("; ".join(wrong))
    print(f"demo: {said}", flush=True)
    return 0
