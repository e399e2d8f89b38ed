"""The interval of a median: its ranks are the tables', it holds the median as often as it says, and misses only below the bar."""
import os
import random
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import paired  # noqa: E402


def pairs(ratios):
    made = paired.Paired()
    for i, ratio in enumerate(ratios):
        made.add(100 + i, ratio * (100 + i))
    return made


class Interval(unittest.TestCase):
    def test_ranks_are_those_of_printed_tables(self):
        # Conover, "Practical Nonparametric Statistics": 95 % confidence limits of a median.
        for n, rank in {6: 1, 8: 1, 9: 2, 10: 2, 15: 4, 20: 6, 30: 10, 40: 14, 50: 18, 100: 40}.items():
            self.assertEqual(paired.interval_rank(n), rank, n)

    def test_five_pairs_are_too_few(self):
        with self.assertRaisesRegex(ValueError, "too few"):
            paired.interval_rank(5)

    def test_is_between_the_ratios_of_its_ranks(self):
        ratios = [0.70 + 0.01 * i for i in range(30)]
        random.Random(1).shuffle(ratios)
        low, high = pairs(ratios).interval()
        self.assertAlmostEqual(low, 0.79)
        self.assertAlmostEqual(high, 0.90)
        self.assertAlmostEqual(pairs(ratios).median(), 0.845)

    def test_holds_the_median_as_often_as_it_says(self):
        draw = random.Random(2)
        held, runs = 0, 2000
        for _ in range(runs):
            # Lopsided, with now and then a pair that was disturbed. The median of the distribution is 1.
            low, high = pairs([draw.lognormvariate(0, 0.05) * (1 if draw.random() < 0.9 else draw.choice((0.5, 2.0)))
                               for _ in range(30)]).interval()
            held += low <= 1 <= high
        self.assertGreater(held / runs, 0.94)
        self.assertLess(held / runs, 0.985)


class Missed(unittest.TestCase):
    def test_only_where_the_interval_lies_wholly_below_the_bar(self):
        self.assertTrue(pairs([0.90, 0.91, 0.92, 0.93, 0.94, 0.95] * 5).is_missed())
        self.assertLess(pairs([0.90] * 20 + [0.98] * 11).median(), paired.BAR)
        self.assertFalse(pairs([0.90] * 20 + [0.98] * 11).is_missed())
        self.assertFalse(pairs([0.97] * 30).is_missed())
        self.assertFalse(pairs([1.2] * 30).is_missed())

    def test_is_said_in_the_line(self):
        self.assertIn("MISSED", pairs([0.5] * 30).line())
        self.assertIn("0.500 to 0.500", pairs([0.5] * 30).line())
        self.assertNotIn("MISSED", pairs([1.0] * 30).line())


if __name__ == "__main__":
    unittest.main()
