"""Hostile gRPC clients against a real engramd: probes and other clients are served meanwhile, and it lives on.

A short form of what grpc_clients.py does for as long as one likes. Nothing here is timed: a probe and a lookup have
the seconds that a client would give them.
"""
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "tests")]
import cases  # noqa: E402
import grpc_clients as clients  # noqa: E402
import programs  # noqa: E402
from others import Others  # noqa: E402

ENGRAM = "client/cli/engram"
ENGRAMD = "server/engramd"
# How long others are looked at while somebody is hostile.
LOOK_S = 4
# Address space beyond what an idle engramd has: far less than the requests that are left unfinished would take.
MORE_KIB = 400 << 10
# What engramd logs then, and how long it may take until so much was sent.
TOO_MUCH = "clients have engramd hold more than"
MOST_UPLOAD_S = 25
# AddressSanitizer reserves terabytes: a limit says nothing then.
MOST_KIB = 1 << 28


class HostileTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory(dir="/tmp")
        cls.addClassCleanup(scratch.cleanup)
        cls.scratch = scratch.name
        cls.set = os.path.join(cls.scratch, "set")
        programs.pack_synthetic(ENGRAM, "qwen4-exp", 500, None, cls.set)
        with open(os.path.join(cls.set, "manifest.sha256"), encoding="ascii") as file:
            cls.set_id = file.read().strip()
        cls.token_ids = os.path.join(cls.scratch, "ids")
        with open(cls.token_ids, "wb") as file:
            file.write(b"\1\0\0\0\2\0\0\0\3\0\0\0")

    def serve(self, most_kib=None):
        self.port = programs.free_port()
        command = [ENGRAMD, "--table-set", self.set, "--listen", f"127.0.0.1:{self.port}", "--lookup-threads", "2"]
        if most_kib is not None:
            command = ["bash", "-c", 'ulimit -v "$0" && exec "$@"', str(most_kib)] + command
        log = open(os.path.join(self.scratch, f"log{self.port}"), "w+b")
        self.addCleanup(log.close)
        self.log = log.name
        server = programs.Server(command, self.port, log=log)
        self.addCleanup(server.process.kill)
        server.wait_ready()
        return server

    def words(self):
        with open(self.log, encoding="utf-8") as file:
            return file.read()

    def expect_served(self, others):
        for what, (served, failed) in others.counts.items():
            self.assertGreater(served, 0, f"no {what} was served; {self.words()}")
            self.assertEqual(failed, 0, f"{what}: {failed} failed, {served} were served; {self.words()}")

    def expect_sdk_is_served(self):
        """A worker that attaches just then."""
        outcome = subprocess.run([ENGRAM, "lookup", "--target", f"grpc:127.0.0.1:{self.port}", "--attach-timeout", "20s",
                                  "--token-ids", self.token_ids, "--output", os.devnull],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        self.assertEqual(outcome.returncode, 0, outcome.stderr)

    def expect_a_good_end(self, server):
        self.assertIsNone(server.process.poll(), self.words())
        self.assertEqual(server.stop(), 0, self.words())

    def test_answers_that_nobody_takes(self):
        """128 streams of large answers, 100 attaches and 100 lookups, of which nothing is taken, again and again."""
        server = self.serve()
        rows = clients.rows_request(self.set_id, 1, range(1000))
        small = clients.rows_request(self.set_id, 1, [0])
        hostile = [clients.Hostile(self.port, count, window=0) for count in (4, 4, 4)]
        with contextlib.ExitStack() as stack:
            for one in hostile:
                stack.enter_context(contextlib.closing(one))
            with Others(self.port, self.set_id) as others:
                end = time.monotonic() + LOOK_S
                while time.monotonic() < end:
                    clients.hold_once(hostile[0], clients.STREAM, rows, 32)
                    clients.hold_once(hostile[1], clients.ATTACH, b"", 25)
                    clients.hold_once(hostile[2], clients.LOOKUP, small, 25)
                    time.sleep(0.2)
                self.expect_sdk_is_served()
            self.expect_served(others)
        self.expect_a_good_end(server)

    def test_streams_that_ask_for_nothing(self):
        """More streams than there are, by few connections and by many, all of which say that they live."""
        server = self.serve()
        worker = clients.Connection(self.port)
        self.addCleanup(worker.close)
        request = clients.rows_request(self.set_id, 1, [0])
        stream = worker.call(clients.STREAM, request)
        self.assertIn(clients.first_words(1), worker.answer(stream, 10))
        few, many = clients.Hostile(self.port, 9), clients.Hostile(self.port, 250)
        with contextlib.closing(few), contextlib.closing(many):
            with Others(self.port, self.set_id) as others:
                end = time.monotonic() + LOOK_S + 2
                while time.monotonic() < end:
                    clients.keep_once(few, 125)
                    clients.keep_once(many, 8)
                    self.expect_sdk_is_served()
            self.expect_served(others)
            # One that was served before has its stream still, after more than five seconds without a word.
            worker.socket.sendall(worker.message(stream, clients.rows_request(self.set_id, 1, [0], batch_id=2)))
            self.assertIn(clients.first_words(1), worker.answer(stream, 10))
        self.expect_a_good_end(server)

    def test_unfinished_requests_where_memory_is_scarce(self):
        """Far more of them than the process may hold: some are ended, the process is not."""
        first = self.serve()
        with open(f"/proc/{first.process.pid}/status", encoding="ascii") as status:
            kib = int(re.search(r"VmPeak:\s+(\d+)", status.read()).group(1))
        self.expect_a_good_end(first)
        if kib > MOST_KIB:
            self.skipTest("its address space is no measure here")
        server = self.serve(kib + MORE_KIB)
        self.expect_sdk_is_served()
        many = clients.Hostile(self.port, 200)
        with contextlib.closing(many):
            for _ in range(3):
                clients.leave_unfinished(many)
                self.assertIsNone(server.process.poll(), self.words())
        # Few of them, each nearly whole: a gigabyte, were they kept.
        few = clients.Hostile(self.port, 40)
        with contextlib.closing(few):
            end = time.monotonic() + MOST_UPLOAD_S
            while TOO_MUCH not in self.words() and time.monotonic() < end:
                clients.leave_unfinished(few, calls=8, sent=3_500_000)
                self.assertIsNone(server.process.poll(), self.words())
            self.assertIn(TOO_MUCH, self.words())
            self.expect_sdk_is_served()
        self.expect_sdk_is_served()
        self.assertTrue(clients.healthy(self.port), self.words())
        self.expect_a_good_end(server)


if __name__ == "__main__":
    cases.main()
