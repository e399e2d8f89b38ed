#!/usr/bin/env python3
"""./run demo --cluster, in short: it loses a store and no lookup, says so when lookups fail, and leaves nothing behind."""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.realpath(__file__)))]
import cases  # noqa: E402

DEMO, *PROGRAMS = (os.path.abspath(word) for word in sys.argv[1:5])


@unittest.skipUnless(shutil.which("etcd"), "not installed: etcd")
class ClusterDemo(unittest.TestCase):
    def setUp(self):
        # Its programs are told from others' by their path, which is in their command lines.
        self.scratch = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.scratch)
        os.mkdir(os.path.join(self.scratch, "bin"))
        for program in PROGRAMS:
            os.symlink(program, os.path.join(self.scratch, "bin", os.path.basename(program)))

    def start(self, *words):
        return subprocess.Popen([sys.executable, DEMO, "--cluster", "--programs", os.path.join(self.scratch, "bin"), "--clients", "1",
                                 "--batch-tokens", "16", "--rows-per-head", "500", *words], env={**os.environ, "TMPDIR": self.scratch}, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)

    def assert_nothing_is_left(self):
        self.assertEqual(os.listdir(self.scratch), ["bin"])
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                    self.assertNotIn(self.scratch, file.read())
            except (FileNotFoundError, ProcessLookupError):
                pass

    def test_a_store_is_lost_and_no_lookup(self):
        demo = self.start("--seconds", "1", "--partitions", "2")
        said = demo.communicate()[0]
        self.assertEqual(demo.returncode, 0, said)
        self.assertRegex(said, r"demo: all right: [\d,]+ rows checked, 0 batches failed, 0 rows wrong")
        # Each store with its columns, each phase with batches.
        self.assertEqual(len(re.findall(r"(?m)^ store \d .*columns \d+\.\.\d+", said)), 4, said)
        self.assertEqual(len(re.findall(r"(?m)^ (?:before|one store killed|after) +\|.*\| 0 +\| 0 +\|", said)), 3, said)
        self.assertIn("sent again, by reason:", said)
        self.assert_nothing_is_left()

    def test_without_another_replica_it_says_what_failed(self):
        # The store is away for longer than a batch may take.
        demo = self.start("--seconds", "7", "--partitions", "2", "--replicas", "1")
        said = demo.communicate()[0]
        self.assertEqual(demo.returncode, 1, said)
        self.assertRegex(said, r"demo: FAILED: [1-9]\d* batches failed, 0 rows were wrong: cluster_load: [A-Z_]+: .*")
        self.assert_nothing_is_left()

    def test_ends_all_that_it_started_when_it_is_interrupted(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            demo = self.start("--seconds", "1000", "--partitions", "1")
            for line in demo.stdout:
                if "under load" in line:
                    break
            demo.send_signal(number)
            said = demo.communicate()[0]
            self.assertEqual((demo.returncode, said), (130, "demo: interrupted, all stopped\n"))
            self.assert_nothing_is_left()

    def test_ends_all_that_it_started_when_one_of_them_ends(self):
        demo = self.start("--seconds", "1000", "--partitions", "1")
        for line in demo.stdout:
            if "under load" in line:
                break
        with open(f"/proc/{demo.pid}/task/{demo.pid}/children", encoding="ascii") as file:
            etcd = file.read().split()[0]
        os.kill(int(etcd), signal.SIGKILL)
        said = demo.communicate()[0]
        self.assertEqual(demo.returncode, 1, said)
        self.assertIn("etcd ended with -9", said)
        self.assert_nothing_is_left()


if __name__ == "__main__":
    cases.main()
