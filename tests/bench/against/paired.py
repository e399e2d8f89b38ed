"""Ratios of pairs of measurements, and how sure their median is.

A pair is two measurements right after one another, so that a machine that is slow for a while is slow for both. The
interval of the median is taken from order statistics: of n independent ratios the median of their distribution lies
between the k-th lowest and the k-th highest with a probability that the binomial distribution gives, whatever the
distribution is. No ratio is thrown away.
"""
import math
import statistics

CONFIDENCE = 0.95
# Fewer ratios have no such interval: even between the lowest and the highest the median lies less often.
MIN_PAIRS = 6
# A path is missed where the interval lies wholly below this: less is within what a build's layout alone can do.
BAR = 0.97


def interval_rank(n):
    """The largest k for which the interval from the k-th lowest to the k-th highest of n has the confidence; from 1."""
    if n < MIN_PAIRS:
        raise ValueError(f"{n} pairs are too few for an interval: take {MIN_PAIRS} or more")
    rank, below = 0, 0.0
    while True:
        below += math.comb(n, rank) / 2**n  # that at most `rank` ratios lie below the median
        if 2 * below > 1 - CONFIDENCE:
            return rank
        rank += 1


class Paired:
    """The pairs of one path: old and new as rates, of which more is better."""

    def __init__(self):
        self.old, self.new = [], []

    def add(self, old, new):
        self.old.append(old)
        self.new.append(new)

    def ratios(self):
        return sorted(new / old for old, new in zip(self.old, self.new))

    def median(self):
        return statistics.median(self.ratios())

    def interval(self):
        ratios = self.ratios()
        rank = interval_rank(len(ratios))
        return ratios[rank - 1], ratios[-rank]

    def is_missed(self):
        return self.interval()[1] < BAR

    def line(self):
        low, high = self.interval()
        return (f"{statistics.median(self.old):12.4g} {statistics.median(self.new):12.4g} {self.median():7.3f}   "
                f"{low:.3f} to {high:.3f}{'   MISSED' if self.is_missed() else ''}")


HEAD = f"{'old':>12} {'new':>12} {'ratio':>7}   95 % interval"
