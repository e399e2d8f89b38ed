"""engram_worker simulate runs every way to rows over a server of its own, and says what came of it."""
import json
import os
import signal
import struct
import subprocess
import tempfile
import time
import unittest

WORKER = "gpu/simulator/engram_worker"
ENGRAMD = "server/engramd"
TOKEN_MAP = "tests/golden/deepseek_v41_token_map.i32"
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
            self.assertEqual(sorted(one), ["backend", "device", "exposed_wait_share", "loss_percent", "loss_percent_high",
                                           "loss_percent_low", "model", "rows", "step_ms", "tokens_per_s", "tokens_per_s_spread",
                                           "turns", "width_divisor"])
            self.assertEqual(one["backend"], "host")
            self.assertGreater(one["tokens_per_s"], 0)
            self.assertGreater(one["step_ms"], 0)
            self.assertTrue(0 <= one["exposed_wait_share"] < 1, one)
        self.assertEqual(rows[1]["loss_percent"], 0)
        for one in rows:
            # No loss that the turns do not show.
            low, high = one["loss_percent_low"], one["loss_percent_high"]
            if one["rows"] != "resident" and (one["turns"] < 6 or low <= 0 <= high):
                self.assertIsNone(one["loss_percent"], one)
        # On a processor it says what such a run is worth.
        self.assertIn("without a GPU", done.stderr)
        self.assertIn("can't show", done.stderr)

    def test_a_signal_leaves_no_server_and_no_files(self):
        for end in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with tempfile.TemporaryDirectory() as place:
                with subprocess.Popen([WORKER, "simulate", "--engramd", ENGRAMD, "--rows", "grpc", "--seconds", "600"],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                      env={**os.environ, "TMPDIR": place}) as worker:
                    self.await_(lambda: self.servers_in(place))
                    worker.send_signal(end)
                    _, said = worker.communicate(timeout=60)
                    self.assertEqual(worker.returncode, -end, said)
                self.assertEqual(os.listdir(place), [])
                self.await_(lambda: not self.servers_in(place))

    def await_(self, holds):
        for _ in range(600):
            if holds():
                return
            time.sleep(0.05)
        self.fail("it does not come")

    @staticmethod
    def servers_in(place):
        """Processes of engramd that serve from a directory there."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = file.read().decode(errors="replace").split("\0")
            except OSError:
                continue  # it ended meanwhile
            if words[0].endswith(ENGRAMD) and any(word.startswith(place) for word in words):
                found.append(pid)
        return found

    def test_it_says_its_version_as_engramd_does(self):
        worker, engramd = (subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()
                           for program in (WORKER, ENGRAMD))
        self.assertEqual(worker[0], "engram_worker")
        self.assertEqual(worker[1:], engramd[1:])

    def test_one_way_as_a_table(self):
        done = simulate(*QUICK, "--rows", "shm")
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = [line.split() for line in done.stdout.splitlines()]
        self.assertEqual([line[0] for line in lines[:3]], ["model", "steps:", "device:"])
        self.assertNotIn("SCALED", done.stdout)
        self.assertEqual(lines[3], ["rows", "backend", "step_ms", "tokens_per_s", "+-spread", "exposed_wait_share", "loss_percent"])
        self.assertEqual([line[0] for line in lines[4:]], ["none", "resident", "shm"])

    def test_large_models_say_what_was_scaled(self):
        small_steps = ["--seconds", "0.1", "--sequences", "4", "--chunk-tokens", "16"]
        for model, blocks, width in (("4b", 36, 2560), ("8b", 36, 4096), ("v41", 40, 5120)):
            done = simulate(*small_steps, "--model", model, "--token-map", TOKEN_MAP, "--rows-per-head", "1000",
                            "--width-divisor", "128", "--rows", "embedded") if model == "v41" else \
                simulate(*small_steps, "--model", model, "--width-divisor", "128", "--rows", "embedded")
            self.assertEqual(done.returncode, 0, done.stderr)
            first = done.stdout.splitlines()[0]
            self.assertIn(f"model {model}: {blocks} blocks of width {width // 128}", first)
            self.assertIn("SCALED: all widths are 1/128", first)

    def test_a_text_is_token_ids_of_the_type_that_is_said(self):
        with tempfile.NamedTemporaryFile() as text:
            text.write(struct.pack("<16q", *range(10, 26)))
            text.flush()
            run = [*QUICK, "--rows", "embedded", "--text", text.name]
            refused = simulate(*run)
            taken = simulate(*run, "--token-ids-type", "int64")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("--token-ids-type int64", refused.stderr)
        self.assertEqual(taken.returncode, 0, taken.stderr)

    def test_a_hot_cache_says_its_hit_rate(self):
        # A text that goes round: its n-grams come again however few steps there is time for.
        with tempfile.NamedTemporaryFile() as text:
            text.write(struct.pack("<16i", *range(10, 26)))
            text.flush()
            done = simulate(*QUICK, "--json", "--rows", "grpc", "--hot-cache-mib", "64", "--text", text.name)
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = {line["rows"]: line for line in map(json.loads, done.stdout.splitlines())}
        self.assertEqual(rows["resident"]["hot_cache_hit_share"], 0)
        self.assertTrue(0 < rows["grpc"]["hot_cache_hit_share"] <= 1, rows)

    def test_what_cannot_be_done_says_why(self):
        wrong = simulate("--rows", "nowhere")
        self.assertEqual(wrong.returncode, 2)
        self.assertIn("--rows", wrong.stderr)
        cuda = simulate(*QUICK, "--backend", "cuda")
        if cuda.returncode != 0:  # no device, no driver, no toolkit, no cuBLAS: whichever it is, by name
            self.assertEqual(cuda.returncode, 1)
            self.assertRegex(cuda.stderr, "--backend cuda: (no CUDA|the CUDA|built without)|cuBLAS")
        wrong = simulate("--model", "v41")
        self.assertEqual(wrong.returncode, 2)
        self.assertIn("--token-map", wrong.stderr)
        self.assertIn("Try: engram_worker simulate --help", wrong.stderr)
        wrong = simulate("--model", "4b", "--hidden", "64")
        self.assertEqual(wrong.returncode, 2)
        self.assertIn("--width-divisor", wrong.stderr)
        wrong = simulate("--seconds", "nan")
        self.assertEqual(wrong.returncode, 2)
        self.assertIn("--seconds", wrong.stderr)
        wrong = simulate(*QUICK, "--text", TOKEN_MAP[:-len("token_map.i32")] + "none")
        self.assertEqual(wrong.returncode, 2)
        done = subprocess.run([WORKER, "simulate", "--engramd", "no-such-program", *QUICK], capture_output=True,
                              text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("no-such-program", done.stderr)


if __name__ == "__main__":
    unittest.main()
