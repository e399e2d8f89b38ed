"""Sets the wall clock back and forth under engramd, waiting clients, attach time-outs and drains: nothing ends early or late.

The clock is moved by a preloaded library (wall_clock_shim.cc) that reads how far from a file. Each case is
run twice: a step back of an hour while a wait of seconds is under way, which must end all the same, and a step
forward of an hour while a wait of many minutes is under way, which must go on.
"""
import mmap
import os
import signal
import socket
import struct
import subprocess
import tempfile
import time
import unittest

SHIM = os.path.abspath("tests/integration/libwall_clock_shim.so")
WAITING_CLIENT = "tests/integration/waiting_client"
HOLDING_CLIENT = "tests/integration/holding_client"
ENGRAM = "client/cli/engram"
ENGRAMD = "server/engramd"
HOUR_NS = 3600 * 10**9
# A wait of seconds that was begun has this long to end: an hour's error is far beyond it, a busy machine is not.
END_S = 90
SHORT_S = 3
# A wait that must go on.
LONG_S = 1200
# How long a wait that must go on is looked at: one that a step ends ends at once.
LOOK_S = 1.5
# Rows that no socket holds.
MANY_TOKENS = 2000


class WallClock:
    """The clock of the programs that are started with `environment`."""

    def __init__(self, path):
        with open(path, "wb") as file:
            file.write(bytes(8))
        with open(path, "r+b") as file:
            self.page = mmap.mmap(file.fileno(), 8)
        self.environment = dict(os.environ, LD_PRELOAD=SHIM, ENGRAM_WALL_CLOCK=path)

    def step(self, nanoseconds):
        self.page[:] = struct.pack("<q", struct.unpack("<q", self.page[:])[0] + nanoseconds)

    def back(self):
        self.step(-HOUR_NS)

    def forth(self):
        self.step(HOUR_NS)


class WallClockTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory(dir="/tmp")
        cls.addClassCleanup(scratch.cleanup)
        cls.set = os.path.join(scratch.name, "set")
        cls.other = os.path.join(scratch.name, "other")
        for directory, rows in ((cls.set, "500"), (cls.other, "700")):
            subprocess.run([ENGRAM, "pack", "--synthetic", "--family", "qwen4-exp", "--rows-per-head", rows,
                            "--output", directory], check=True, stdout=subprocess.DEVNULL)

    def setUp(self):
        scratch = tempfile.TemporaryDirectory(dir="/tmp")
        self.addCleanup(scratch.cleanup)
        self.scratch = scratch.name
        self.clock = WallClock(self.path("clock"))
        self.logs = {}
        with open(self.path("ids"), "wb") as file:
            file.write(struct.pack("<3i", 1, 2, 3))

    def path(self, name):
        return os.path.join(self.scratch, name)

    def start(self, *command):
        """A program that sees the clock; killed when the test ends."""
        log = self.path(f"log{len(self.logs)}")
        with open(log, "wb") as out:
            process = subprocess.Popen(command, env=self.clock.environment, stdin=subprocess.PIPE, stdout=out,
                                       stderr=subprocess.STDOUT)
        self.logs[process] = log

        def kill():
            process.kill()
            process.wait()
            process.stdin.close()

        self.addCleanup(kill)
        return process

    def log(self, process):
        with open(self.logs[process], encoding="utf-8") as file:
            return file.read()

    def wait_for(self, process, text):
        """Until the program has written it."""
        end = time.monotonic() + END_S
        while text not in self.log(process):
            if process.poll() is not None or time.monotonic() > end:
                self.fail(f"no {text!r} in: {self.log(process)}")
            time.sleep(0.02)

    def go(self, client):
        client.stdin.write(b"\n")
        client.stdin.flush()

    def ends(self, process):
        """What it wrote, and its exit code; it must end by itself."""
        try:
            code = process.wait(timeout=END_S)
        except subprocess.TimeoutExpired:
            self.fail("it waits as if the hour counted; it wrote: " + self.log(process))
        return self.log(process), code

    def ends_exact(self, client):
        self.assertEqual(self.ends(client), ("attached\nsubmitted\nEXACT\n", 0))

    def goes_on(self, process):
        time.sleep(LOOK_S)
        self.assertIsNone(process.poll(), "it ended as if the hour counted")

    def serve(self, *flags):
        engramd = self.start(ENGRAMD, "--table-set", self.set, "--listen", "unix:" + self.path("s"), "--shm-socket",
                             self.path("m"), "--lame-duck-s", "0", *flags)
        self.wait_for(engramd, "listening on")
        return engramd

    def targets(self):
        grpc = "grpc:unix:" + self.path("s")
        return [(grpc, "stream"), (grpc, "unary"), ("shm:" + self.path("m"), "ring")]

    def submit_to_stopped(self, engramd, target, mode, deadline_s, tokens=20, followed=()):
        """A client whose batch waits for an engramd that does not run."""
        client = self.start(WAITING_CLIENT, target, mode, str(deadline_s), str(tokens), *followed)
        self.wait_for(client, "attached")
        engramd.send_signal(signal.SIGSTOP)
        os.waitpid(engramd.pid, os.WUNTRACED)  # every thread has stopped
        self.go(client)
        self.wait_for(client, "submitted")
        return client

    def test_a_lookups_deadline_comes_though_the_clock_is_set_back(self):
        engramd = self.serve()
        for target, mode in self.targets():
            with self.subTest(target=target, mode=mode):
                client = self.submit_to_stopped(engramd, target, mode, SHORT_S)
                self.clock.back()
                text, code = self.ends(client)
                self.assertEqual(code, 1)
                self.assertIn("DEADLINE_EXCEEDED", text)
            engramd.send_signal(signal.SIGCONT)

    # One thread of a process looks at gRPC's sockets; the others sleep by the wall clock until it wakes them.
    def test_a_lookups_deadline_comes_though_another_thread_looks_at_the_sockets(self):
        engramd = self.serve()
        for target, mode in self.targets()[:2]:
            with self.subTest(mode=mode):
                client = self.submit_to_stopped(engramd, target, mode, SHORT_S, followed=[target])
                self.clock.back()
                text, code = self.ends(client)
                self.assertEqual(code, 1)
                self.assertIn("DEADLINE_EXCEEDED", text)
            engramd.send_signal(signal.SIGCONT)

    def test_a_lookup_goes_on_though_the_clock_is_set_forward(self):
        engramd = self.serve()
        for target, mode in self.targets():
            with self.subTest(target=target, mode=mode):
                client = self.submit_to_stopped(engramd, target, mode, LONG_S)
                self.clock.forth()
                self.goes_on(client)
                engramd.send_signal(signal.SIGCONT)
                self.ends_exact(client)
            engramd.send_signal(signal.SIGCONT)

    def test_a_lookup_finds_engramd_again_though_the_clock_is_set_back(self):
        for target, mode in self.targets()[:2]:
            with self.subTest(mode=mode):
                engramd = self.serve()
                client = self.start(WAITING_CLIENT, target, mode, str(LONG_S), "20", "", "again")
                self.wait_for(client, "attached")
                engramd.kill()
                engramd.wait()
                self.go(client)
                self.wait_for(client, "UNAVAILABLE")
                self.clock.back()
                time.sleep(LOOK_S)
                engramd = self.serve()
                text, code = self.ends(client)
                self.assertEqual(code, 0, text)
                self.assertIn("EXACT", text)
                engramd.kill()
                engramd.wait()

    def listener(self, kind, name):
        """A server that takes connections and never says a word."""
        listener = socket.socket(socket.AF_UNIX, kind)
        self.addCleanup(listener.close)
        listener.bind(self.path(name))
        listener.listen()
        return listener

    def attach(self, target, timeout_s):
        """A client that cannot attach yet."""
        return self.start(ENGRAM, "lookup", "--target", target, "--attach-timeout", f"{timeout_s}s", "--token-ids",
                          self.path("ids"), "--output", self.path(f"rows{len(self.logs)}"))

    def mute_targets(self):
        self.listener(socket.SOCK_STREAM, "mute")
        self.listener(socket.SOCK_SEQPACKET, "mute-shm")
        return ["grpc:unix:" + self.path("mute"), "shm:" + self.path("mute-shm"),
                "grpc:unix:" + self.path("absent"), "shm:" + self.path("absent-shm")]

    def test_attaching_ends_in_its_time_though_the_clock_is_set_back(self):
        for target in self.mute_targets():
            with self.subTest(target=target):
                client = self.attach(target, SHORT_S)
                time.sleep(SHORT_S / 3)
                self.clock.back()
                _, code = self.ends(client)
                self.assertEqual(code, 1)

    def test_attaching_ends_in_its_time_though_another_thread_looks_at_the_sockets(self):
        self.serve()
        followed = "grpc:unix:" + self.path("s")
        for target in self.mute_targets():
            with self.subTest(target=target):
                client = self.start(WAITING_CLIENT, target, "", str(SHORT_S), "1", followed)
                self.wait_for(client, "follows it")
                time.sleep(SHORT_S / 3)
                self.clock.back()
                text, code = self.ends(client)
                self.assertEqual(code, 1)
                self.assertIn("UNAVAILABLE", text)

    def test_whoever_waits_for_a_server_finds_it_though_the_clock_is_set_back(self):
        clients = [self.attach("grpc:unix:" + self.path("s"), LONG_S), self.attach("shm:" + self.path("m"), LONG_S)]
        time.sleep(LOOK_S)
        self.clock.back()
        self.serve()
        for client in clients:
            text, code = self.ends(client)
            self.assertEqual(code, 0, text)

    def test_an_operators_call_ends_in_its_time_though_the_clock_is_set_back(self):
        self.listener(socket.SOCK_STREAM, "mute-admin")
        client = self.start(ENGRAM, "admin", "list", "--admin", "unix:" + self.path("mute-admin"))
        time.sleep(LOOK_S)
        self.clock.back()
        text, code = self.ends(client)
        self.assertEqual(code, 1)
        self.assertIn("Deadline Exceeded", text)

    def test_attaching_goes_on_though_the_clock_is_set_forward(self):
        clients = [(target, self.attach(target, LONG_S)) for target in self.mute_targets()]
        late = [self.attach("grpc:unix:" + self.path("s"), LONG_S), self.attach("shm:" + self.path("m"), LONG_S)]
        time.sleep(LOOK_S)
        self.clock.forth()
        for target, client in clients:
            with self.subTest(target=target):
                self.goes_on(client)
        # Whoever waits for a server that comes after the step still finds it.
        self.serve()
        for client in late:
            text, code = self.ends(client)
            self.assertEqual(code, 0, text)

    def hold_a_drain(self, grace_s):
        """An engramd that drains, and a client that has not taken all of its rows."""
        engramd = self.serve("--drain-grace-s", str(grace_s))
        client = self.start(HOLDING_CLIENT, "unix:" + self.path("s"))
        self.wait_for(client, "held")
        engramd.send_signal(signal.SIGTERM)
        self.wait_for(engramd, "draining")
        return engramd, client

    def test_a_drain_ends_though_the_clock_is_set_back(self):
        engramd, client = self.hold_a_drain(SHORT_S)
        self.clock.back()
        text, code = self.ends(engramd)
        self.assertEqual(code, 0)
        self.assertIn("stopped", text)
        self.go(client)
        self.assertEqual(self.ends(client)[1], 1)

    def test_a_drain_lasts_though_the_clock_is_set_forward(self):
        engramd, client = self.hold_a_drain(LONG_S)
        self.clock.forth()
        self.goes_on(engramd)
        self.go(client)
        self.assertEqual(self.ends(client), ("held\nEXACT\n", 0))
        text, code = self.ends(engramd)
        self.assertEqual(code, 0)
        self.assertIn("stopped", text)

    def test_a_drain_without_lookups_ends_whatever_the_clock(self):
        for step in (self.clock.back, self.clock.forth):
            engramd = self.serve("--drain-grace-s", str(LONG_S))
            engramd.send_signal(signal.SIGTERM)
            step()
            self.assertEqual(self.ends(engramd)[1], 0)

    def test_a_drain_ends_though_a_client_was_stopped(self):
        """What was sent to such a client fills its socket, and nobody takes it."""
        engramd = self.serve("--drain-grace-s", "1")
        client = self.submit_to_stopped(engramd, "grpc:unix:" + self.path("s"), "stream", LONG_S, MANY_TOKENS)
        client.send_signal(signal.SIGSTOP)
        engramd.send_signal(signal.SIGCONT)
        # The batch is taken, and the socket full, before the signal comes.
        time.sleep(LOOK_S)
        engramd.send_signal(signal.SIGTERM)
        self.assertEqual(self.ends(engramd)[1], 0)

    def admin(self, *words):
        done = subprocess.run([ENGRAM, "admin", *words, "--admin", "unix:" + self.path("admin")], capture_output=True,
                              text=True, timeout=END_S, check=False, env=self.clock.environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def superseded(self, grace_s):
        """An engramd one of whose sets is superseded, and held by a client."""
        engramd = self.serve("--retire-grace-s", str(grace_s), "--admin-grpc-listen", "unix:" + self.path("admin"))
        client = self.start(WAITING_CLIENT, "shm:" + self.path("m"), "", str(LONG_S), "10")
        self.wait_for(client, "attached")
        self.admin("publish", self.other)
        return engramd, client

    def test_a_superseded_set_goes_in_its_time_though_the_clock_is_set_back(self):
        engramd, client = self.superseded(SHORT_S)
        self.clock.back()
        self.wait_for(engramd, "the grace is over")
        self.go(client)
        text, code = self.ends(client)
        self.assertEqual(code, 1)
        self.assertIn("FAILED_PRECONDITION", text)

    def test_a_superseded_set_stays_though_the_clock_is_set_forward(self):
        _, client = self.superseded(LONG_S)
        self.clock.forth()
        time.sleep(LOOK_S)
        self.assertIn("superseded", self.admin("list"))
        self.go(client)
        self.ends_exact(client)


if __name__ == "__main__":
    unittest.main()
