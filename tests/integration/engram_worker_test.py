"""engram_worker simulate runs every way to rows over a server of its own, and says what came of it."""
import json
import subprocess
import unittest

WORKER = "gpu/simulator/engram_worker"
ENGRAMD = "server/engramd"
QUICK = ["--seconds", "0.2", "--blocks", "3", "--hidden", "32", "--sequences", "8", "--chunk-tokens", "32"]


def simulate(*arguments):
    return subprocess.run([WORKER, "simulate", "--engramd", ENGRAMD, *arguments], capture_output=True, text=True,
                          timeout=120, check=False)


class SimulateTest(unittest.TestCase):
    def test_every_way_in_turns(self):
        done = simulate(*QUICK, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([one["rows"] for one in rows], ["none", "resident", "embedded", "mapped", "shm", "grpc"])
        for one in rows:
            self.assertEqual(sorted(one), ["backend", "exposed_wait_share", "loss_percent", "rows", "step_ms",
                                           "tokens_per_s"])
            self.assertEqual(one["backend"], "host")
            self.assertGreater(one["tokens_per_s"], 0)
            self.assertGreater(one["step_ms"], 0)
            self.assertTrue(0 <= one["exposed_wait_share"] < 1, one)
        self.assertEqual(rows[1]["loss_percent"], 0)

    def test_one_way_as_a_table(self):
        done = simulate(*QUICK, "--rows", "shm")
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = [line.split() for line in done.stdout.splitlines()]
        self.assertEqual(lines[0], ["rows", "backend", "step_ms", "tokens_per_s", "exposed_wait_share", "loss_percent"])
        self.assertEqual([line[0] for line in lines[1:]], ["none", "resident", "shm"])

    def test_what_cannot_be_done_says_why(self):
        wrong = simulate("--rows", "nowhere")
        self.assertEqual(wrong.returncode, 2)
        self.assertIn("--rows", wrong.stderr)
        cuda = simulate(*QUICK, "--backend", "cuda")
        if cuda.returncode != 0:  # as it is where there is a device for which no backbone is built
            self.assertEqual(cuda.returncode, 1)
            self.assertIn("host", cuda.stderr)
        done = subprocess.run([WORKER, "simulate", "--engramd", "no-such-program", *QUICK], capture_output=True,
                              text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("no-such-program", done.stderr)


if __name__ == "__main__":
    unittest.main()
