"""The clients of a soak: processes that end by themselves, are killed, or stopped for a while; and what became of them."""
import json
import os
import signal
import statistics
import subprocess
import tempfile

CODES = ("OK", "DEADLINE_EXCEEDED", "CANCELLED", "RESOURCE_EXHAUSTED", "UNAVAILABLE")


class Client:
    """A soak_client, from its start to its end."""

    def __init__(self, path, command):
        self.path = path
        # A file, so that one that says much is not held up.
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors,
                                        text=True)
        self.killed = False
        self.stopped_until = None  # a time when it is stopped

    def kill(self):
        self.killed = True
        self.process.kill()

    def stop_until(self, when):
        self.stopped_until = when
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.stopped_until = None
        self.process.send_signal(signal.SIGCONT)

    def has_ended(self):
        return self.process.poll() is not None

    def finish(self):
        """Of one that has ended: (its line, None), or (None, what is wrong); both None when it was killed."""
        out, _ = self.process.communicate()
        self.errors.seek(0)
        said = self.errors.read().strip()
        self.errors.close()
        code = self.process.returncode
        if self.killed and code == -signal.SIGKILL:
            return None, None
        if code != 0:
            return None, f"a client of {self.path} ended with {code}: {said or 'it said nothing'}"
        return json.loads(out), None


class Path:
    """One way to engramd, and the sums over its clients."""

    def __init__(self, name, target, mode="", connections=1, streams=1):
        self.name = name
        self.words = ["--target", target, "--connections", str(connections), "--streams", str(streams)]
        if mode:
            self.words += ["--mode", mode]
        self.started = self.killed = self.stopped = 0
        self.lines = []

    def add(self, line):
        self.lines.append(line)

    def sum(self, key):
        return sum(line[key] for line in self.lines)

    def code(self, name):
        return sum(line["codes"].get(name, 0) for line in self.lines)

    def latency(self, key, choose):
        values = [line[key] for line in self.lines if key in line]
        return f"{choose(values):.0f}" if values else "-"

    def cells(self):
        return [self.name, self.started, self.killed, self.stopped, self.sum("attached"), self.sum("batches"),
                self.sum("rows"), *(self.code(name) for name in CODES), self.sum("reaped"), self.sum("left"),
                self.sum("wrong"), self.latency("p50_us", statistics.median), self.latency("p99_us", max)]


HEAD = ("path", "clients", "killed", "stopped", "attached", "batches", "rows checked", "OK", "DEADLINE", "CANCELLED",
        "EXHAUSTED", "UNAVAILABLE", "reaped", "left", "wrong refused", "p50 us", "p99 us")


def table(paths):
    """A line a path. Of small batches alone in flight: the median of the clients' p50, the worst of their p99."""
    rows = [HEAD] + [[f"{cell:,}" if isinstance(cell, int) else cell for cell in path.cells()] for path in paths]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    return "\n".join("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                               for i, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in rows)


def leftovers(directory, prefix=""):
    return sorted(name for name in os.listdir(directory) if name.startswith(prefix))
