"""Holds the soak's verdicts against looks and lines whose answers are known."""
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import clients  # noqa: E402
import watch  # noqa: E402

MIB = watch.MIB


def watched(seconds, *looks):
    one = watch.Watch(seconds)
    for look in looks:
        one.add(look[0], look[1:])
    return one


class Watch(unittest.TestCase):
    def test_what_stays_does_not_grow(self):
        steady = watched(400, *((at, (100 + at % 7) * MIB, 40 + at % 5, 20) for at in range(400)))
        self.assertEqual(steady.growth(), [])

    def test_memory_may_grow_to_its_bound(self):
        most = watch.MOST_GROWTH_BYTES
        self.assertEqual(watched(400, (1, MIB, 40, 20), (399, MIB + most, 40, 20)).growth(), [])
        found = watched(400, (1, MIB, 40, 20), (399, 2 * MIB + most, 40, 20))
        self.assertIn("memory grew from 1 to", found.growth()[0])
        self.assertEqual(found.growth(memory_counts=False), [])

    def test_a_short_run_has_room_for_what_is_kept_once_it_is_needed(self):
        self.assertEqual(watched(60, (1, MIB, 40, 20), (59, 200 * MIB, 40, 20)).growth(), [])
        self.assertEqual(len(watched(60, (1, MIB, 40, 20), (59, 300 * MIB, 40, 20)).growth()), 1)

    def test_descriptors_and_threads_that_grow_are_named(self):
        found = watched(60, (1, MIB, 40, 20), (2, MIB, 50, 22), (50, MIB, 75, 20), (59, MIB, 30, 35)).growth()
        self.assertEqual([line.split(",")[0] for line in found],
                         ["engramd's descriptors grew from 50 to 75", "engramd's threads grew from 22 to 35"])

    def test_a_quarter_without_a_look_says_nothing(self):
        self.assertEqual(watched(60, (30, MIB, 40, 20), (59, MIB, 400, 20)).growth(), [])

    def test_what_clients_leave_behind_is_named(self):
        before = (MIB, 15, 11)
        self.assertEqual(watch.left_behind(before, (MIB, 15 + watch.MOST_LEFT_FILES, 11)), [])
        self.assertIn("30 descriptors are left", watch.left_behind(before, (MIB, 30, 11))[0])


class Clients(unittest.TestCase):
    def run_one(self, *command):
        client = clients.Client("shm", command)
        client.process.wait()
        return client

    def test_a_client_that_ends_well_gives_its_line(self):
        self.assertEqual(self.run_one("echo", '{"rows": 5}').finish(), ({"rows": 5}, None))

    def test_a_client_that_does_not_says_why(self):
        line, wrong = self.run_one("sh", "-c", "echo a wrong row >&2; exit 1").finish()
        self.assertIsNone(line)
        self.assertEqual(wrong, "a client of shm ended with 1: a wrong row")

    def test_only_a_kill_of_ours_is_no_failure(self):
        killed = clients.Client("shm", ["sleep", "100"])
        killed.kill()
        killed.process.wait()
        self.assertEqual(killed.finish(), (None, None))
        self.assertIn("ended with -9", self.run_one("sh", "-c", "kill -9 $$").finish()[1])

    def test_the_table_sums_over_clients(self):
        path = clients.Path("shm", "shm:S")
        for p50, p99 in ((1, 10), (3, 90), (5, 50)):
            path.add({"batches": 1000, "rows": 7, "codes": {"OK": 900, "CANCELLED": 2}, "attached": 1, "reaped": 0,
                      "left": 0, "wrong": 0, "p50_us": p50, "p99_us": p99})
        head, line = clients.table([path]).splitlines()
        cells = dict(zip(head.replace("rows checked", "rows").replace("wrong refused", "wrong").replace(" us", "").split(),
                         line.split()))
        self.assertEqual((cells["batches"], cells["OK"], cells["CANCELLED"], cells["p50"], cells["p99"]),
                         ("3,000", "2,700", "6", "3", "90"))


if __name__ == "__main__":
    unittest.main()
