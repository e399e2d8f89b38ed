#!/usr/bin/env python3
"""Silent, slow and malformed HTTP clients at engramd's --admin-listen, and probes among them.

    tests/hostile/http_probes.py --engram bin/engram --engramd bin/engramd --connections 4000 --seconds 60

Holds connections that say nothing or a byte at a time, and opens each again that engramd closes. Meanwhile it asks /healthz, /readyz and
/metrics as the kubelet and Prometheus do, and every probe has to be answered within a second, the kubelet's default. How long they took is
printed, and nothing is made of it but that. Ends with 1, and a line for each thing that was wrong.
"""
import argparse
import os
import resource
import selectors
import socket
import sys
import tempfile
import threading
import time

sys.path[:0] = [os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))]
import programs  # noqa: E402

PROBE_SECONDS = 1
# A page waits for a thread of two, and the kernel's counts may take a second.
PAGE_SECONDS = 10
BYTE_SECONDS = 0.05
# Of what engramd closes, so many are opened again in a second: as a client does that tries again, not a flood.
AGAIN_PER_SECOND = 400
MARK = b"M4RK"

HOST = b"Host: x\r\n"
# (request line and headers, whether the answer has to be 400; else it is any refusal, or the connection is closed without a word)
MALFORMED = [
    (b"GE T /M4RK HTTP/1.1\r\n" + HOST, True), (b"GE T /M4RK\r\n", True), (b"GET /metrics\r\n", True), (b"M4RK\r\n", False),
    (b"GET /metrics HTTP/1.1\r\n", True), (b"GET /\x1b[31mM4RK HTTP/1.1\r\n" + HOST, True), (b"GET M4RK HTTP/1.1\r\n" + HOST, True),
    (b"GET /metrics HTTP/1.1\r\n" + HOST + b"Host: M4RK\r\n", True), (b"GET /metrics HTTP/1.1\r\n" + HOST + b"M4RK\r\n", True),
    (b"GET /metrics HTTP/1.1\r\n" + HOST + b"M4RK : x\r\n", True),
    (b"GET /metrics HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\nContent-Length: 0\r\n", True),
    (b"GET /metrics HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: M4RK\r\n", True),
    (b"GET /metrics HTTP/1.1\r\n" + HOST + b"Content-Length: 18446744073709551617\r\n", False),
    (b"GET /metrics HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n", False),
    (b"GET /metrics HTTP/9.9\r\n" + HOST, False), (b"GET /metrics%00 HTTP/1.1\r\n" + HOST, False),
    (b"GET /%6detrics HTTP/1.1\r\n" + HOST, False), (b"GET /../metrics HTTP/1.1\r\n" + HOST, False),
    (b"POST /metrics HTTP/1.1\r\n" + HOST, False), (b"GET /" + b"M4RK" * 20000 + b" HTTP/1.1\r\n" + HOST, False),
    (b"GET /metrics HTTP/1.1\r\n" + HOST + b"".join(b"a%d: %s\r\n" % (n, b"y" * 500) for n in range(100)), False),
]


class Crowd:
    """Connections that say nothing, or one byte after the other, in a thread of its own."""

    def __init__(self, port, silent, slow):
        self.port, self.slow = port, slow
        self.again = [False] * silent + [True] * slow  # of those that are to be opened: whether they are to be slow ones
        self.selector = selectors.DefaultSelector()
        self.speaking = []
        self.opened = 0
        self.full = threading.Event()
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def __enter__(self):
        self.thread.start()
        self.full.wait()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join()
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        self.selector.close()

    def _open(self, speaks):
        try:
            one = socket.create_connection(("127.0.0.1", self.port), timeout=PAGE_SECONDS)
        except OSError:
            self.again.append(speaks)
            return
        one.setblocking(False)
        self.selector.register(one, selectors.EVENT_READ, speaks)
        self.opened += 1
        if speaks:
            self.speaking.append(one)

    def _drop_closed(self):
        for key, _ in self.selector.select(BYTE_SECONDS):
            try:
                if key.fileobj.recv(4096):
                    continue
            except BlockingIOError:
                continue
            except OSError:
                pass
            self.selector.unregister(key.fileobj)
            key.fileobj.close()
            self.again.append(key.data)

    def _speak(self):
        self.speaking = [one for one in self.speaking if one.fileno() >= 0]
        for one in self.speaking:
            try:
                one.send(b"G" if self.opened % 2 else b"\r")
            except OSError:
                pass  # it is found to be closed

    def _run(self):
        whole = len(self.again)
        # All at once first, then as they are closed.
        for speaks in [self.again.pop() for _ in range(whole)]:
            self._open(speaks)
        self.full.set()
        last = time.monotonic()
        while not self.ending.is_set():
            self._drop_closed()
            now = time.monotonic()
            if now - last < BYTE_SECONDS:
                continue
            for speaks in [self.again.pop() for _ in range(min(len(self.again), int((now - last) * AGAIN_PER_SECOND)))]:
                self._open(speaks)
            last = now
            self._speak()


def ask(port, request, seconds):
    """The whole answer; raises OSError where there is none in time."""
    end = time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as one:
        one.sendall(request)
        answer = b""
        while True:
            one.settimeout(max(end - time.monotonic(), 0.001))
            try:
                part = one.recv(65536)
            except ConnectionResetError:
                if answer:
                    return answer  # it did not read all that was sent
                raise
            if not part:
                return answer
            answer += part


def get(port, path, seconds):
    return ask(port, b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n", seconds)


def probe(port, count, seconds, wrong):
    """Asks `count` times and for `seconds` at least. The times that answers took."""
    took, asked = [], 0
    end = time.monotonic() + seconds
    while asked < count or time.monotonic() < end:
        path, expected = ((b"/healthz", b"alive\n"), (b"/readyz", b"serving\n"))[asked % 2]
        asked += 1
        begin = time.monotonic()
        try:
            answer = get(port, path, PROBE_SECONDS)
        except OSError as error:
            wrong.append(f"probe {asked} of {path.decode()}: {error}")
            continue
        took.append(time.monotonic() - begin)
        if not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith(expected):
            wrong.append(f"probe {asked} of {path.decode()}: {answer[:60]!r}")
    return sorted(took)


def refuse_malformed(port, wrong):
    for head, has_to_be_400 in MALFORMED:
        try:
            answer = ask(port, head + b"\r\n", PAGE_SECONDS)
        except OSError as error:
            wrong.append(f"{head[:60]!r}: {error}")
            continue
        code = answer[9:12]
        if code != b"400" if has_to_be_400 else code[:1] not in (b"4", b"5", b""):
            wrong.append(f"{head[:60]!r} was answered {answer[:40]!r}")
        if MARK in answer or b"\x1b" in answer:
            wrong.append(f"{head[:60]!r} is repeated in {answer[:200]!r}")


def raise_file_limit(wanted):
    """How many connections may be held."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted + 256 if hard == resource.RLIM_INFINITY else min(wanted + 256, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(most, resource.getrlimit(resource.RLIMIT_NOFILE)[0]), hard))
    return min(wanted, most - 256)


def attack(port, silent, slow, probes, seconds):
    wrong = []
    refuse_malformed(port, wrong)
    with Crowd(port, silent, slow) as crowd:
        took = probe(port, probes, seconds, wrong)
        for path in (b"/metrics", b"/statusz"):
            try:
                if not get(port, path, PAGE_SECONDS).startswith(b"HTTP/1.1 200 "):
                    wrong.append(f"{path.decode()} among them is not 200")
            except OSError as error:
                wrong.append(f"{path.decode()} among them: {error}")
        refuse_malformed(port, wrong)
        opened = crowd.opened
    if took:
        print(f"{len(took)} probes among {silent} silent and {slow} slow connections, {opened} opened in all: p50 "
              f"{took[len(took) // 2] * 1e3:.1f} ms, p99 {took[len(took) * 99 // 100] * 1e3:.1f} ms, at most {took[-1] * 1e3:.1f} ms")
    return wrong


def parse_arguments():
    parser = argparse.ArgumentParser(description="Silent, slow and malformed HTTP clients, and probes among them.")
    parser.add_argument("--engram", required=True)
    parser.add_argument("--engramd", required=True)
    parser.add_argument("--connections", type=int, default=4000, help="that say nothing")
    parser.add_argument("--slow", type=int, default=500, help="that say a byte at a time")
    parser.add_argument("--probes", type=int, default=100, help="at least")
    parser.add_argument("--seconds", type=float, default=30, help="for which probes are sent, at least")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    held = raise_file_limit(arguments.connections + arguments.slow)
    slow = min(arguments.slow, held // 5)
    with tempfile.TemporaryDirectory(prefix="engram-http-") as scratch:
        table_set, log_path = os.path.join(scratch, "set"), os.path.join(scratch, "log")
        programs.pack_synthetic(arguments.engram, "qwen4-exp", 500, None, table_set)
        port, lookups = programs.free_port(), programs.free_port()
        with open(log_path, "w", encoding="utf-8") as log:
            server = programs.Server([arguments.engramd, "--table-set", table_set, "--listen", f"127.0.0.1:{lookups}", "--admin-listen",
                                      f"127.0.0.1:{port}"], lookups, log)
        try:
            server.wait_ready()
            wrong = attack(port, held - slow, slow, arguments.probes, arguments.seconds)
            if server.process.poll() is not None:
                wrong.append(f"engramd ended with {server.process.returncode}")
        finally:
            status = server.stop()
        if status != 0:
            wrong.append(f"engramd ended with {status} when it was told to stop")
        if wrong:
            with open(log_path, encoding="utf-8") as log:
                print(log.read()[-4000:], file=sys.stderr)
    for line in wrong[:40]:
        print(f"WRONG: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
