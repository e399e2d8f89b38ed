"""Holds report.py against rounds whose answers are known."""
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import report  # noqa: E402


def line(path, p50_us, rows_per_s, group="ceilings", tokens=64, clients=1, in_flight=1, number=0):
    return {"group": group, "path": path, "tokens": tokens, "clients": clients, "in_flight": in_flight, "round": number,
            "p50_us": p50_us, "rows_per_s": rows_per_s}


class Report(unittest.TestCase):
    def test_the_ratio_is_the_median_of_the_rounds_ratios(self):
        rounds = report.Rounds()
        # A noisy round slows both: 0.5, 1 and 2, whatever the medians of either are.
        for number, (ours, ceiling) in enumerate([(1, 2), (100, 100), (20, 10)]):
            rounds.add(line("embedded", 1, ours, number=number))
            rounds.add(line("gather", 1, ceiling, number=number))
        (one, _) = report.json_lines(rounds)
        self.assertEqual(one["ceiling"], "gather")
        self.assertEqual(one["ratio_rows_per_s"], 1)
        self.assertEqual(one["rows_per_s"], 20)
        self.assertEqual(one["rounds"], 3)

    def test_bars_are_met_at_their_bounds_and_missed_past_them(self):
        self.assertTrue(report.Bar("a", 0.9, least=0.9).met)
        self.assertFalse(report.Bar("a", 0.899, least=0.9).met)
        self.assertTrue(report.Bar("a", 1.5, most=1.5).met)
        self.assertFalse(report.Bar("a", 1.501, most=1.5).met)

    def test_what_was_not_measured_is_not_met(self):
        bars = report.ceiling_bars(report.Rounds([line("embedded", 1, 1)]))
        self.assertFalse(any(bar.met for bar in bars))
        self.assertTrue(all(bar.verdict() == "not measured" for bar in bars))
        self.assertTrue(all(not bar.met for bar in report.alternative_bars(report.Rounds(), ["redis"])))

    def test_grpc_is_held_against_echo_and_gather_together(self):
        rounds = report.Rounds([line("grpc-unix", 33, 1), line("echo-unix", 20, 1), line("gather", 10, 1)])
        (bar,) = [bar for bar in report.ceiling_bars(rounds) if bar.text.startswith("grpc-unix / (echo-unix + gather)") and
                  " 64 tokens" in bar.text]
        self.assertAlmostEqual(bar.value, 1.1)
        self.assertTrue(bar.met)

    def test_alternatives_have_the_number_in_flight_that_is_best_for_them(self):
        rounds = report.Rounds([line("grpc-unix", 1, 80, group="redis"),
                                line("grpc-unix", 1, 90, group="redis", in_flight=8),
                                line("redis", 1, 30, group="redis"), line("redis", 1, 10, group="redis", in_flight=8)])
        bar = report.alternative_bars(rounds, ["redis"])[0]
        self.assertEqual(bar.value, 3)
        self.assertFalse(bar.met)

    def test_more_clients_are_compared_with_one(self):
        rounds = report.Rounds([line("shm", 1, 30, group="clients", clients=4), line("shm", 1, 10, group="clients")])
        four, _ = report.json_lines(rounds)
        self.assertEqual(four["clients"], 4)
        self.assertEqual(four["ratio_rows_per_s"], 3)
        self.assertIn("3.00  / 1 client", report.table(rounds, "clients"))

    def test_the_table_has_ratios_first_and_the_picture_is_whole(self):
        rounds = report.Rounds([line(path, 2, 1e6, tokens=tokens) for path in ("embedded", "gather") for tokens in (1, 64)])
        table = report.table(rounds, "ceilings")
        self.assertLess(table.index("rows/s over the reference"), table.index("M rows/s"))
        self.assertIn("/ gather", table)
        picture = report.picture(rounds)
        self.assertTrue(picture.startswith("<svg") and picture.endswith("</svg>\n"))
        self.assertIn(">embedded<", picture)


if __name__ == "__main__":
    unittest.main()
