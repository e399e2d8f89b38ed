"""What a soak sees of engramd from outside: memory, descriptors and threads over time, and whether they grow."""
import os
import statistics

MIB = 1 << 20
# Slabs (72 MiB), ids of batches under way (112 MiB) and what gRPC holds of messages on their way are taken when they are
# first needed and kept; a run of minutes needs all of them in its first quarter.
MOST_GROWTH_SOON_BYTES, MOST_GROWTH_BYTES = 256 * MIB, 64 * MIB
SOON_SECONDS = 240
# Connections of clients that come and go: a client's are let go of a moment after it is gone.
MOST_MORE_FILES = 24
MOST_MORE_THREADS = 12
# Beside those it has before the first client came; gRPC keeps a few of its own.
MOST_LEFT_FILES = 4
MOST_LEFT_THREADS = 8

KINDS = ("memory", "descriptors", "threads")


def look(server):
    """(memory in bytes, descriptors, threads) of a running programs.Server."""
    process = f"/proc/{server.process.pid}"
    return server.memory_bytes(), len(os.listdir(process + "/fd")), len(os.listdir(process + "/task"))


def is_sanitized(server):
    """A sanitizer keeps what was freed, and shadows all of it: its memory says nothing."""
    with open(f"/proc/{server.process.pid}/maps", encoding="utf-8") as maps:
        return any("libasan" in line or "libtsan" in line for line in maps)


class Watch:
    """Looks over a run of `seconds`: (time since its begin, *look(server)) each."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.looks = []

    def add(self, at, seen):
        self.looks.append((at, *seen))

    def _part(self, begin, end):
        return [seen[1:] for seen in self.looks if begin * self.seconds <= seen[0] <= end * self.seconds]

    def quarters(self):
        """Of the first, the middle and the last quarter: the median memory, the most descriptors and threads."""
        parts = [self._part(0, 0.25), self._part(0.375, 0.625), self._part(0.75, 1)]
        return [(statistics.median(look[0] for look in part), max(look[1] for look in part), max(look[2] for look in part))
                if part else None for part in parts]

    def growth(self, memory_counts=True):
        """What grew from the first quarter to the last, a sentence each; nothing when one of them had no look."""
        first, _, last = self.quarters()
        if first is None or last is None:
            return []
        most = MOST_GROWTH_SOON_BYTES if self.seconds < SOON_SECONDS else MOST_GROWTH_BYTES
        found = []
        if memory_counts and last[0] > first[0] + most:
            found.append(f"engramd's memory grew from {first[0] / MIB:.0f} to {last[0] / MIB:.0f} MiB, by more than "
                         f"{most / MIB:.0f} MiB")
        for i, more in ((1, MOST_MORE_FILES), (2, MOST_MORE_THREADS)):
            if last[i] > first[i] + more:
                found.append(f"engramd's {KINDS[i]} grew from {first[i]} to {last[i]}, by more than {more}")
        return found


def left_behind(before, after):
    """What clients that are gone left in engramd, a sentence each."""
    return [f"{after[i]} {KINDS[i]} are left in engramd once every client is gone; it began with {before[i]}"
            for i, most in ((1, MOST_LEFT_FILES), (2, MOST_LEFT_THREADS)) if after[i] > before[i] + most]


def table(before, watch, after):
    """Lines: memory, descriptors and threads at rest, in the quarters, and after."""
    columns = [("before", before)] + list(zip(("first quarter", "middle", "last quarter"), watch.quarters()))
    columns += [("clients gone", after)]
    lines = ["engramd".ljust(13) + "".join(name.rjust(15) for name, _ in columns)]
    for i, kind in enumerate(KINDS):
        cells = ["-" if seen is None else f"{seen[i] / MIB:.0f} MiB" if i == 0 else str(seen[i]) for _, seen in columns]
        lines.append(kind.ljust(13) + "".join(cell.rjust(15) for cell in cells))
    return "\n".join(lines)
