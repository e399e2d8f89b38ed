"""What the demos have in common: programs that they start and stop, words, a table at the end."""
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

FAMILY = "deepseek-v4.1-flash"
TOKENS = "tests/golden/tokens_en_handbook.i32"
TOKEN_MAP = "tests/golden/deepseek_v41_token_map.i32"
START_LIMIT_S = 60
STOP_LIMIT_S = 30
INTERRUPTED = 130  # as a shell has it


def say(text):
    print(f"== {text}", flush=True)


def engram(*arguments, **options):
    return subprocess.run(["bin/engram", *arguments], check=True, **options)


def show_table(lines):
    """Of cells that are text, all lines of one length."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rule = "+".join("-" * (w + 2) for w in widths)
    print("\n" + rule)
    for line in lines:
        print("|".join(f" {cell:<{w}} " for cell, w in zip(line, widths)).rstrip())
    print(rule, flush=True)


class Steps:
    """What was done, how long it took, what came of it: the summary's lines."""

    def __init__(self):
        self.lines = []

    def add(self, what, begin, result):
        self.lines.append((what, f"{time.monotonic() - begin:.1f} s", result))

    def show(self):
        show_table(self.lines)


def pack(steps, table_set, rows_per_head, program="bin/engram"):
    say(f"packing a synthetic table set shaped like {FAMILY}")
    begin = time.monotonic()
    subprocess.run([program, "pack", "--synthetic", "--family", FAMILY, "--rows-per-head", str(rows_per_head),
                    "--token-map", TOKEN_MAP, "--output", table_set], check=True)
    size = sum(os.path.getsize(os.path.join(table_set, f)) for f in os.listdir(table_set))
    steps.add("pack a table set", begin, f"{size / 1e9:.2f} GB at {size / 1e9 / (time.monotonic() - begin):.2f} GB/s")
    return size


class Interrupts:
    """SIGTERM and SIGHUP end a demo as Ctrl-C does: by KeyboardInterrupt, so that it stops what it started.

    `with INTERRUPTS:` puts that off: to its end, or, of one that is entered for good, for ever.
    """

    def __init__(self):
        self.depth, self.came = 0, False

    def install(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._interrupt)

    def __enter__(self):
        self.depth += 1

    def __exit__(self, *_):
        self.depth -= 1
        if self.came and self.depth == 0:
            raise KeyboardInterrupt

    def _interrupt(self, *_):
        self.came = True
        if self.depth == 0:
            raise KeyboardInterrupt


INTERRUPTS = Interrupts()


class Started:
    """Programs that run until the demo ends."""

    def __init__(self):
        self.processes = {}  # their logs

    def start(self, command, log, **options):
        """In a session of its own: a terminal's Ctrl-C is the demo's to handle."""
        # What is started is known, or it is not started.
        with INTERRUPTS, open(log, "a", encoding="utf-8") as file:
            process = subprocess.Popen(command, **{"stdout": file, "stderr": file, "stdin": subprocess.DEVNULL,
                                                   "start_new_session": True, **options})
            self.processes[process] = log
        return process

    def kill(self, process):
        """As a power failure would."""
        process.kill()
        process.wait()
        del self.processes[process]

    def check(self, but=()):
        for process, log in self.processes.items():
            if process not in but and process.poll() is not None:
                with open(log, encoding="utf-8") as file:
                    raise RuntimeError(f"{process.args[0]} ended with {process.returncode}:\n{file.read()[-2000:]}")

    def stop(self, last=()):
        """All at once, but for `last`; returns what did not end as it should, as "PROGRAM ended with CODE".

        Nothing interrupts it or what follows.
        """
        INTERRUPTS.__enter__()  # for good
        first = [process for process in self.processes if process not in last]
        return self._stop(first) + self._stop([process for process in self.processes if process in last])

    def _stop(self, processes):
        wrong = []
        for process in processes:
            process.terminate()
        for process in processes:
            del self.processes[process]
            try:
                code = process.wait(timeout=STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
            if code not in (0, -signal.SIGTERM):
                wrong.append(f"{os.path.basename(process.args[0])} ended with {code}")
        return wrong


def free_ports(count):
    """All are taken at once, so that no two are the same."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def wait_for(url, started):
    end = time.monotonic() + START_LIMIT_S
    while True:
        started.check()
        try:
            return get(url)
        except OSError as error:
            if time.monotonic() > end:
                raise RuntimeError(f"{url}: {error}") from error
        time.sleep(0.1)


def write_prometheus(path, engramds, workers):
    with open(path, "w", encoding="ascii") as file:
        json.dump({"global": {"scrape_interval": "1s", "evaluation_interval": "5s"},
                   "rule_files": [os.path.abspath("deploy/prometheus/rules.yaml")],
                   "scrape_configs": [{"job_name": "engram", "static_configs": [{"targets": engramds}]},
                                      {"job_name": "workers", "static_configs": [{"targets": workers}]}]}, file)


def failed(error):
    print(f"demo: FAILED: {error}", file=sys.stderr)
    return 1
