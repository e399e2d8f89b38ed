"""Frames that no library sends, by every way into a real engramd: their connections are ended, and others are served."""
import contextlib
import os
import re
import ssl
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
# What a connection may send before it is ended: its socket's buffers, and as many frames as may come at once.
MOST_BYTES = 8 << 20
MOST_S = 60
# What an engramd may hold more than before: half of what it takes for clients. Calls that are reset leave holes in its heap.
MOST_MEMORY = 256 << 20
# AddressSanitizer reserves terabytes.
MOST_KIB = 1 << 28
# Rounds in which others are looked at while somebody goes on.
ROUNDS = 10
# Long enough for half a gigabyte where nothing holds calls back.
IMPATIENT_S = 8


class FramesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory(dir="/tmp")
        cls.addClassCleanup(scratch.cleanup)
        place = lambda name: os.path.join(scratch.name, name)
        table_set = place("set")
        programs.pack_synthetic(ENGRAM, "qwen4-exp", 500, None, table_set)
        with open(os.path.join(table_set, "manifest.sha256"), encoding="ascii") as file:
            cls.set_id = file.read().strip()
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-keyout", place("key"), "-out", place("crt"), "-days", "2", "-subj", "/CN=localhost"],
                       check=True, stderr=subprocess.DEVNULL)
        cls.tls = ssl.create_default_context()
        cls.tls.check_hostname = False
        cls.tls.verify_mode = ssl.CERT_NONE
        cls.tls.set_alpn_protocols(["h2"])
        plain, secret = programs.free_port(), programs.free_port()
        cls.unix, admin = place("data.sock"), place("admin.sock")
        # Two servers: of one that has TLS each TCP port speaks it.
        both = [ENGRAMD, "--table-set", table_set, "--lookup-threads", "2"]
        cls.servers, cls.logs = [], []
        for number, (words, ready) in enumerate((
                (["--listen", f"127.0.0.1:{plain}", "--admin-grpc-listen", "unix:" + admin], plain),
                (["--listen", f"127.0.0.1:{secret}", "--listen", "unix:" + cls.unix, "--tls-cert", place("crt"), "--tls-key",
                  place("key")], secret))):
            log = open(place(f"log{number}"), "w+b")
            cls.addClassCleanup(log.close)
            server = programs.Server(both + words, ready, log=log)
            cls.addClassCleanup(server.stop)
            server.wait_ready()
            cls.servers.append(server)
            cls.logs.append(log.name)
        # How it is connected to, and where its server's others are.
        cls.ways = {"tcp": (plain, None, plain), "unix": (cls.unix, None, cls.unix), "tls": (secret, cls.tls, cls.unix),
                    "operators": (admin, None, plain)}

    def words(self):
        texts = []
        for log in self.logs:
            with open(log, encoding="utf-8") as file:
                texts.append(file.read()[-3000:])
        return "\n".join(texts)

    @staticmethod
    def keeps_freed_memory(server):
        """Whether its address space is that of a program with AddressSanitizer."""
        with open(f"/proc/{server.process.pid}/status", encoding="ascii") as status:
            return int(re.search(r"VmPeak:\s+(\d+)", status.read()).group(1)) >= MOST_KIB

    def expect_memory(self, server, before, most):
        if not self.keeps_freed_memory(server):
            self.assertLess(server.memory_bytes() - before, most)

    def expect_ended(self, flood, frames):
        end = time.monotonic() + MOST_S
        number = 0
        while flood.go_on(frames(number)):
            number += 1
            self.assertLess(time.monotonic(), end, self.words())
            self.assertLess(flood.sent, MOST_BYTES, self.words())

    def expect_served_meanwhile(self, name, settles=True):
        frames = clients.FLOODS[name]
        for way, (address, tls, other) in self.ways.items():
            with self.subTest(way=way):
                resident = [server.memory_bytes() for server in self.servers]
                with Others(other, self.set_id) as others:
                    while True:
                        with contextlib.closing(clients.Connection(address, tls=tls, settles=settles)) as connection:
                            if way in ("tcp", "unix"):
                                # What it took is of no account after.
                                self.assertTrue(clients.looks_up(connection, self.set_id))
                            # Its settings are there before the rest: else the first write may meet with the end already.
                            self.expect_ended(clients.Flood(connection), frames)
                        if others.rounds() >= ROUNDS:
                            break
                for what, (served, failed) in others.counts.items():
                    self.assertEqual(failed, 0, f"{what}: {failed} failed, {served} were served; {self.words()}")
                for server, before in zip(self.servers, resident):
                    self.assertIsNone(server.process.poll(), self.words())
                    self.expect_memory(server, before, MOST_MEMORY)

    def test_header_blocks_that_never_end(self):
        self.expect_served_meanwhile("endless_block")

    def test_header_blocks_in_morsels(self):
        self.expect_served_meanwhile("block_in_morsels")

    def test_calls_that_are_reset_at_once(self):
        self.expect_served_meanwhile("rapid_reset")

    def test_calls_that_are_reset_at_once_after_blocks_of_an_old_stream(self):
        self.expect_served_meanwhile("resets_paid_for_by_old_streams")

    def test_pings(self):
        self.expect_served_meanwhile("pings")

    def test_settings(self):
        self.expect_served_meanwhile("settings")

    def test_window_updates_that_come_with_no_answer(self):
        self.expect_served_meanwhile("window_updates")

    def test_padding_without_data(self):
        self.expect_served_meanwhile("padded_data")

    def test_calls_without_the_servers_settings(self):
        for settles in (False, None):
            self.expect_served_meanwhile("whole_calls", settles=settles)

    def test_calls_that_nobody_waits_for(self):
        """By many connections. Threads beside the loops' read as well where there is an operators' port."""
        address, _, _ = self.ways["tcp"]
        resident = self.servers[0].memory_bytes()
        impatient = [clients.Impatient(address, clients.LOOKUP, time.monotonic() + IMPATIENT_S) for _ in range(24)]
        for one in impatient:
            one.start()
        most = 0
        while any(one.is_alive() for one in impatient):
            most = max(most, self.servers[0].memory_bytes())
            impatient[0].join(0.1)
        self.assertIsNone(self.servers[0].process.poll(), self.words())
        self.assertGreater(sum(one.calls for one in impatient), 1000)
        self.expect_memory(self.servers[0], resident, MOST_MEMORY)
        if not self.keeps_freed_memory(self.servers[0]):
            self.assertLess(most - resident, MOST_MEMORY)
        with contextlib.closing(clients.Connection(address)) as connection:
            self.assertTrue(clients.looks_up(connection, self.set_id))

    def test_compressed_messages_are_refused(self):
        """50 KB that become 50 MB if they are decompressed."""
        for way, (address, tls, _) in self.ways.items():
            for path in (clients.LOOKUP, clients.STREAM, clients.HEALTH, clients.ATTACH, "/a/b", "/engram.v1.Admin/List"):
                with self.subTest(way=way, path=path):
                    resident = [server.memory_bytes() for server in self.servers]
                    with contextlib.closing(clients.Connection(address, tls=tls)) as connection:
                        connection.socket.sendall(clients.compressed_call(path, 50))
                        with contextlib.suppress(OSError):
                            self.assertEqual(connection.answer(1, 5), b"")
                    for server, before in zip(self.servers, resident):
                        self.expect_memory(server, before, 16 << 20)

    def test_operators_requests_that_never_end(self):
        """They come as fast as the windows allow: each connection has its part, and lookups go on."""
        address, _, other = self.ways["operators"]
        resident = self.servers[0].memory_bytes()
        uploads = clients.Hostile(address, 20)
        with contextlib.closing(uploads), Others(other, self.set_id) as others:
            while others.rounds() < ROUNDS:
                clients.leave_unfinished(uploads, 4, 3_500_000, "/engram.v1.Admin/Publish")
            self.expect_memory(self.servers[0], resident, MOST_MEMORY)
        self.assertEqual([failed for _, failed in others.counts.values()], [0, 0, 0], self.words())
        # An operator still gets in.
        outcome = subprocess.run([ENGRAM, "admin", "list", "--admin", "unix:" + address], stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True, timeout=30, check=False)
        self.assertEqual(outcome.returncode, 0, outcome.stdout)
        self.assertIn(self.set_id[:12], outcome.stdout)


if __name__ == "__main__":
    cases.main()
