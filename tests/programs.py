"""The processes that Python programs here run: servers, table sets packed for them, contenders that answer rounds."""
import contextlib
import json
import os
import socket
import subprocess
import time

# Loading a store of a gigabyte, row by row, takes the slowest of them less.
READY_SECONDS = 240
STOP_SECONDS = 20


class Failed(Exception):
    """A program did not do what it was asked; the text says which."""


class Program:
    """A program that runs rounds (contender.h): one line in, one line of JSON out."""

    def __init__(self, command):
        self.name = os.path.basename(next(word for word in command if "python" not in word))
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        # Read where it is first needed, so that several load at once.
        self.ready = False

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"{self.name} ended with status {self.process.wait()}; its message is above")
        return line

    def wait_ready(self):
        if not self.ready and self._answer() != "ready\n":
            raise Failed(f"{self.name} did not say that it is ready")
        self.ready = True

    def run(self, path, tokens, clients, in_flight, milliseconds):
        self.wait_ready()
        try:
            self.process.stdin.write(f"{path} {tokens} {clients} {in_flight} {milliseconds}\n")
        except BrokenPipeError:
            pass  # it ended: what follows says so
        return json.loads(self._answer())

    def stop(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        _end(self.process)


class Server:
    """A server process, up once it takes connections at `address`: a Unix socket's path or a TCP port.

    What it says on standard error goes to `log`: nowhere, to ours (None), or to a file.
    """

    def __init__(self, command, address, log=subprocess.DEVNULL):
        self.name = os.path.basename(command[0])
        self.address = address
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)

    def wait_ready(self):
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Failed(f"{self.name} ended with status {self.process.returncode}")
            unix = isinstance(self.address, str)
            with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as probe:
                if probe.connect_ex(self.address if unix else ("127.0.0.1", self.address)) == 0:
                    return
            time.sleep(0.05)
        raise Failed(f"{self.name} was not ready within {READY_SECONDS} s")

    def memory_bytes(self):
        """Its resident memory that is no file's."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return sum(int(line.split()[1]) * 1024 for line in status if line.startswith(("RssAnon:", "RssShmem:")))

    def hugetlb_bytes(self):
        """Memory on reserved huge pages, which no Rss counts."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return sum(int(line.split()[1]) * 1024 for line in status if line.startswith("HugetlbPages:"))

    def stop(self):
        """Returns its exit status; minus SIGKILL when it did not end by itself."""
        self.process.terminate()
        _end(self.process)
        return self.process.returncode


def _end(process):
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def pack_synthetic(engram, family, rows_per_head, token_map, output):
    """Packs a table set whose rows prove themselves; returns what `engram inspect` says of it."""
    words = [engram, "pack", "--synthetic", "--family", family, "--rows-per-head", str(rows_per_head), "--output", output]
    if token_map:
        words += ["--token-map", token_map]
    subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
    inspected = subprocess.run([engram, "inspect", "--json", output], check=True, stdout=subprocess.PIPE)
    return json.loads(inspected.stdout)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class SharedHugePages:
    """Lets shared memory ask for transparent huge pages meanwhile, where we may, and restores what was set."""

    PATH = "/sys/kernel/mm/transparent_hugepage/shmem_enabled"

    def __enter__(self):
        self.before = None
        try:
            with open(self.PATH, encoding="ascii") as file:
                text = file.read()
            chosen = text[text.index("[") + 1:text.index("]")]
            if chosen in ("never", "deny"):
                self._write("advise")
                self.before = chosen
        except (OSError, ValueError) as error:
            print(f"shared memory keeps the pages it has: {error}")
        return self

    def __exit__(self, *_):
        if self.before is not None:
            self._write(self.before)

    def _write(self, value):
        with open(self.PATH, "w", encoding="ascii") as file:
            file.write(value)
