#!/usr/bin/env python3
"""A mixed soak: clients of every path at once against one engramd, for a while, with every row checked.

Clients (soak_client) come and go all the time; some are killed at random moments, some stopped for a few seconds with
batches in flight. At the end every client has ended well, engramd has not grown, it ends with 0 when it is told to, and
nothing is left of it. Exit status: 0 all held, 1 the reason is printed. Talks over loopback and Unix sockets alone.
"""
import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(os.path.join(HERE, os.pardir, os.pardir))
sys.path[:0] = [HERE, os.path.join(ROOT, "tests")]
import clients  # noqa: E402
import programs  # noqa: E402
import watch  # noqa: E402

TICK_SECONDS = 0.1
# engramd lets go of what a client had when its socket closes; of gRPC's a moment later.
SETTLE_SECONDS = 30
LONGEST_STOP_SECONDS = 4
LEAST_LIFE_SECONDS = 1
LONGEST_LIFE_SECONDS = 60
LOG_LINES = 30


class Soak:
    def __init__(self, options, scratch):
        self.options, self.scratch = options, scratch
        self.random = random.Random(options.seed)
        self.paths, self.running, self.failures = [], [], []
        self.server = self.watch = None
        self.begin = self.next_kill = self.next_stop = self.next_progress = 0.0

    # engramd.
    def start_engramd(self):
        options = self.options
        table_set, self.sockets = os.path.join(self.scratch, "set"), os.path.join(self.scratch, "sockets")
        os.mkdir(self.sockets)
        packed = programs.pack_synthetic(options.engram, options.family, options.rows_per_head, options.token_map, table_set)
        print(f"soak: {options.seconds:g} s, seed {options.seed}, a set of {packed['bytes'] / watch.MIB:.0f} MiB", flush=True)
        unix, shm = (os.path.join(self.sockets, name) for name in ("grpc", "shm"))
        self.log = open(os.path.join(self.scratch, "log"), "w+", encoding="utf-8")
        self.server = programs.Server(
            [options.engramd, "--table-set", table_set, "--listen", f"unix:{unix}", "--listen", "127.0.0.1:0",
             "--shm-socket", shm, "--max-batch-rows", str(options.max_batch_rows)], unix, log=self.log)
        self.server.wait_ready()
        tcp = self.logged("listening on 127.0.0.1:")
        self.logged("shared memory at")
        self.paths = [clients.Path("shm", f"shm:{shm}"), clients.Path("shm-ring", f"shm:{shm}", "ring"),
                      clients.Path("grpc-unix", f"grpc:unix:{unix}"), clients.Path("grpc-tcp", f"grpc:{tcp}"),
                      clients.Path("grpc-many", f"grpc:{tcp}", "stream", connections=3, streams=2),
                      clients.Path("unary-unix", f"grpc:unix:{unix}", "unary"),
                      clients.Path("unary-tcp", f"grpc:{tcp}", "unary"),
                      clients.Path("unary-many", f"grpc:unix:{unix}", "unary", connections=3)]

    def log_lines(self):
        with open(self.log.name, encoding="utf-8") as log:
            return log.read().splitlines()

    def logged(self, text):
        """The last word of the line of engramd's log that holds `text`; it serves, so the line is there in a moment."""
        for _ in range(100):
            for line in self.log_lines():
                if text in line:
                    return line.split()[-1]
            time.sleep(TICK_SECONDS)
        raise programs.Failed(f"engramd serves and did not log '{text}'")

    # Clients.
    def now(self):
        return time.monotonic() - self.begin

    def fill_up(self):
        """As many clients on each path as are wanted; the first of a path also asks for the largest batches."""
        options = self.options
        for path in self.paths:
            while sum(client.path == path.name and not client.killed for client in self.running) < options.clients:
                longest = min(LONGEST_LIFE_SECONDS, options.seconds)
                life = max(LEAST_LIFE_SECONDS, min(self.random.uniform(0.1, 1) * longest, options.seconds - self.now()))
                largest = options.max_batch_rows if path.started % options.clients == 0 else 0
                command = [options.client, *path.words, "--seconds", f"{life:.3f}", "--seed",
                           str(self.random.getrandbits(32)), "--most-tokens", str(options.most_tokens),
                           "--largest-rows", str(largest)]
                self.running.append(clients.Client(path.name, command))
                path.started += 1

    def path_of(self, client):
        return next(path for path in self.paths if path.name == client.path)

    def take_ended(self):
        for client in [client for client in self.running if client.has_ended()]:
            self.running.remove(client)
            line, wrong = client.finish()
            if wrong:
                self.failures.append(wrong)
            elif line:
                self.path_of(client).add(line)

    def disturb(self):
        """Kills one and stops one when it is time; who was stopped goes on."""
        now, every = self.now(), min(3.0, max(0.7, self.options.seconds / 30))
        for client in self.running:
            if client.stopped_until is not None and now >= client.stopped_until:
                client.go_on()
        alive = [client for client in self.running if not client.killed]
        if now >= self.next_kill and alive:
            self.next_kill = now + self.random.uniform(0.3, 1.7) * every
            client = self.random.choice(alive)
            client.kill()
            self.path_of(client).killed += 1
        moving = [client for client in alive if client.stopped_until is None and not client.killed]
        if now >= self.next_stop and moving:
            self.next_stop = now + self.random.uniform(0.3, 1.7) * every
            client = self.random.choice(moving)
            client.stop_until(now + self.random.uniform(0.1, 1) * min(LONGEST_STOP_SECONDS, self.options.seconds / 4))
            self.path_of(client).stopped += 1

    # The run.
    def look(self):
        """What engramd has now; programs.Failed when it has ended."""
        if self.server.process.poll() is not None:
            raise programs.Failed(f"engramd ended by itself, with {self.server.process.returncode}")
        return watch.look(self.server)

    def progress(self, seen):
        terminal = sys.stdout.isatty()
        if self.now() < self.next_progress:
            return
        self.next_progress = self.now() + (1 if terminal else 30)
        if self.now() < 1:
            return
        line = (f"{self.now():.0f} of {self.options.seconds:g} s: {sum(path.started for path in self.paths)} clients, "
                f"{sum(path.killed for path in self.paths)} killed, {sum(path.stopped for path in self.paths)} stopped; "
                f"engramd {seen[0] / watch.MIB:.0f} MiB, {seen[1]} descriptors, {seen[2]} threads")
        print(("\r\x1b[K" + line) if terminal else line, end="" if terminal else "\n", flush=True)

    def run(self):
        self.start_engramd()
        self.before = self.look()
        self.sanitized = watch.is_sanitized(self.server)
        self.watch = watch.Watch(self.options.seconds)
        self.begin = time.monotonic()
        self.next_kill, self.next_stop = (self.options.seconds * share for share in (0.1, 0.05))
        while self.now() < self.options.seconds and not self.failures:
            self.fill_up()
            self.disturb()
            self.take_ended()
            seen = self.look()
            self.watch.add(self.now(), seen)
            self.progress(seen)
            time.sleep(TICK_SECONDS)
        if sys.stdout.isatty():
            print()
        if not self.failures:
            self.end_clients()
        if not self.failures:
            self.judge()

    def end_clients(self):
        self.fill_up()  # for those that were killed last: one of each path ends by itself
        for client in self.running:
            if client.stopped_until is not None:
                client.go_on()
        deadline = time.monotonic() + self.options.end_seconds
        while self.running and not self.failures and time.monotonic() < deadline:
            self.take_ended()
            self.look()
            time.sleep(TICK_SECONDS)
        if self.failures:
            return
        self.failures += [f"a client of {client.path} has not ended within {self.options.end_seconds} s after its time"
                          for client in self.running]
        self.failures += [f"no client of {path.name} came to its end with rows that were checked"
                          for path in self.paths if not path.sum("rows")]

    def judge(self):
        deadline = time.monotonic() + SETTLE_SECONDS
        while (left := watch.left_behind(self.before, self.look())) and time.monotonic() < deadline:
            time.sleep(TICK_SECONDS)
        self.after = self.look()
        self.failures += left + self.watch.growth(memory_counts=not self.sanitized)
        code = self.server.stop()
        if code != 0:
            self.failures.append(f"engramd, told to stop, ended with {code}")
        if names := clients.leftovers(self.sockets):
            self.failures.append(f"engramd left in its directory of sockets: {', '.join(names)}")
        if names := clients.leftovers("/dev/shm", "engram"):
            self.failures.append(f"left in /dev/shm: {', '.join(names)}")

    def report(self):
        print(f"\n{clients.table(self.paths)}")
        if self.watch and not self.failures:
            print(f"\n{watch.table(self.before, self.watch, self.after)}")
        if not self.failures:
            print(f"\nsoak: all held, {sum(path.sum('rows') for path in self.paths):,} rows checked")
            return 0
        print("\nthe end of engramd's log:", *self.log_lines()[-LOG_LINES:], sep="\n  ")
        for failure in self.failures:
            print(f"soak: FAILED: {failure}")
        print(f"soak: seed {self.options.seed}")
        return 1

    def stop_all(self):
        for client in self.running:
            client.kill()
            client.process.wait()
        if self.server and self.server.process.poll() is None:
            self.server.process.kill()
            self.server.process.wait()


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engramd", default=os.path.join(ROOT, "bazel-bin/server/engramd"))
    parser.add_argument("--engram", default=os.path.join(ROOT, "bazel-bin/client/cli/engram"))
    parser.add_argument("--client", default=os.path.join(ROOT, "bazel-bin/tests/soak/soak_client"))
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=2, help="of each path, at any time")
    parser.add_argument("--family", default="deepseek-v4.1-flash")
    parser.add_argument("--token-map", default=os.path.join(ROOT, "tests/golden/deepseek_v41_token_map.i32"),
                        help="the family's; empty where it has none")
    parser.add_argument("--rows-per-head", type=int, default=40_000, help="the set's size: 40000 make 0.5 GB")
    parser.add_argument("--most-tokens", type=int, default=5000, help="of a usual batch")
    parser.add_argument("--max-batch-rows", type=int, default=1 << 20, help="engramd's; some batches are as large")
    parser.add_argument("--end-seconds", type=int, default=180, help="for clients to end once the time is over")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of what is drawn; times still differ")
    options = parser.parse_args()
    for program in (options.engramd, options.engram, options.client):
        if not os.path.exists(program):
            parser.error(f"{program} is not there: bazel build //server:engramd //client/cli:engram //tests/soak:soak_client")
    return options


def main():
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="engram-soak.") as scratch:
        soak = Soak(options, scratch)
        try:
            soak.run()
        except (programs.Failed, subprocess.CalledProcessError) as error:
            soak.failures.append(str(error))
        finally:
            soak.stop_all()
        return soak.report()


if __name__ == "__main__":
    sys.exit(main())
