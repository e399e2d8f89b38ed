#!/usr/bin/env python3
"""./run check habits: time from the injected clock, locks that clang checks; what is not so yet is listed and counted.

    direct clock calls   absl::Now, steady_clock, clock_gettime, sleep_for and their like, under whatever name: outside of
                         memstore/base, tests and benchmarks, time comes from a Clock (memstore/base/clock.h)
    std::mutex           and its like (absl::Mutex, pthread_mutex), in the same places: Mutex and CondVar
                         (memstore/base/mutex.h) are what clang checks
    locks in comments    "under the lock", "guarded by", "with the lock held", "needs mutex_" anywhere outside of
                         memstore/base: ABSL_GUARDED_BY and ABSL_EXCLUSIVE_LOCKS_REQUIRED say it to clang

EXCEPTIONS lists what is right as it stands. --lower writes what is left into tools/check_limits.txt.
"""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import limits  # noqa: E402

CODE = (".h", ".cc", ".cu", ".cuh", ".inc")
BASE = re.compile(r"^memstore/base/")
EXEMPT = re.compile(r"^memstore/base/|^tests/|^gpu/bench/|/testing/|_(test|benchmark|cases)\.(cc|cu)$")
# Lines of // one after the other are one comment, so that a phrase is found across them.
COMMENT = re.compile(r"//[^\n]*(?:\n[ \t]*//[^\n]*)*|/\*.*?\*/", re.S)
JOINT = re.compile(r"\s*\n[ \t]*(?://|\*(?!/))?[ \t]*")
LOCK = r"(?:lock|locks|\w*mutex(?:es)?_?)\b"
# kind -> (what is looked for, where it may be, whether in comments)
KINDS = {
    "direct clock calls": (
        re.compile(r"absl::Now\(|\b(?:steady|system|high_resolution|file|utc)_clock\b|\bClock::now\(|(?<![.>\w])SleepFor\(|"
                   r"\bsleep_(?:for|until)\(|\bu?sleep\(\d|\b(?:clock_)?nanosleep\(|\bclock_gettime\(|\bgettimeofday\(|\bgpr_now\("),
        EXEMPT, False),
    "std::mutex": (
        re.compile(r"std::(?:recursive_|shared_)?(?:timed_)?mutex\b|std::(?:lock_guard|unique_lock|shared_lock|scoped_lock)\b|"
                   r"std::condition_variable|absl::(?:Mutex|CondVar|ReaderMutex|WriterMutex)|\bpthread_(?:mutex|cond|rwlock|spin)"),
        EXEMPT, False),
    "locks in comments": (
        re.compile(rf"\b(?:under|guard\w*|held|needs|protect\w*)\b[^.;:]{{0,30}}?\b{LOCK}|\b{LOCK}[^.;:]{{0,20}}\b(?:held|guards?|protects?)\b|\bguarded by\b|\bguards (?:it|them)\b",
                   re.I), BASE, True),
}
# Right as they stand: kind -> path -> (words of the line or comment, why). Each entry has to be of use.
SEVERAL_CLASSES = "a contract between classes: the lock is a member of one that this one does not know"
NONE_HELD = "says that no lock is held where others are called"
CALLBACK = "tells a caller's function what it may not do: the lock is private"
WAY = "a contract between classes: RdmaExchange::way_ is ABSL_PT_GUARDED_BY, so clang checks the only caller"
OVERVIEW = "an overview, or what a call costs: the members below are annotated"
EXCEPTIONS = {
    "direct clock calls": {
        "proto/rpc/grpc_time.h": ("gpr_now(", "deadlines of gRPC's queues are moments of its own clocks; proto has no Clock"),
    },
    "locks in comments": {
        "client/transport/auto/auto_transport.h": ("lock guards what a thread", SEVERAL_CLASSES),
        "client/transport/grpc/grpc_batch.h": ("its transport (which guards it)", SEVERAL_CLASSES),
        "client/transport/grpc/grpc_calls.h": ("with no lock held", NONE_HELD),
        "client/transport/grpc/grpc_transport.h": ("The driver's lock is taken under the mutex", "an order of two locks"),
        "client/transport/grpc/queue_driver.h": ("without a lock of this class held", "with a lock of this class held", CALLBACK),
        "client/transport/rdma/rdma_batch.h": ("Its exchange guards it", SEVERAL_CLASSES),
        "client/transport/rdma/rdma_requests.h": ("whoever has it guards it", SEVERAL_CLASSES),
        "client/transport/rdma/rdma_send_queue.h": ("whoever has it guards it", SEVERAL_CLASSES),
        "client/transport/rdma/rdma_read_way.h": ("called under the exchange's lock", WAY),
        "client/transport/rdma/rdma_tickets.h": ("called under the exchange's lock", SEVERAL_CLASSES),
        "client/transport/rdma/rdma_write_way.h": ("called under the exchange's lock", WAY),
        "client/transport/rdma/request_way.h": ("called under the exchange's lock", "Not under the lock", WAY),
        "client/transport/shm/shm_ring.h": ("under the transport's lock", "under that lock", OVERVIEW),
        "client/transport/ticket_slots.h": ("its transport's lock guards it", SEVERAL_CLASSES),
        "client/transport/ticketed_batch.h": ("with the transport's lock held", SEVERAL_CLASSES),
        "client/transport/ticketed_transport.h": ("`mutex_`, guards the state", "no other lock is held", OVERVIEW),
        "gpu/prefetch/step_state.h": ("a lock for each call, held for nanoseconds", OVERVIEW),
        "gpu/prefetch/transport_fetch.h": ("a lock orders them, held while", OVERVIEW),
        "memstore/store/table_set_registry.h": ("under one lock, which none holds for long", OVERVIEW),
    },
}


def comments(text):
    """(line, the comment in one line) of each."""
    for match in COMMENT.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, JOINT.sub(" ", match[0])


def meets(words, line, match):
    """Whether these words stand where the match does."""
    at = line.find(words, max(0, match.start() - len(words)))
    return 0 <= at < match.end()


def places(path, text, used=None):
    """kind -> `PATH:LINE the line` of each, for the kinds that count in this file; `used` gets the exceptions met."""
    found = {kind: [] for kind in KINDS}
    code = COMMENT.sub(lambda match: "\n" * match[0].count("\n"), text).splitlines()
    for kind, (pattern, exempt, in_comments) in KINDS.items():
        if exempt.search(path):
            continue
        right = EXCEPTIONS.get(kind, {}).get(path, ())[:-1]
        for number, line in comments(text) if in_comments else enumerate(code, 1):
            for match in pattern.finditer(line):
                words = next((words for words in right if meets(words, line, match)), None)
                if words is None:
                    around = line[max(0, match.start() - 60):match.end() + 60]
                    found[kind].append(f"{path}:{number} {around.strip()}")
                elif used is not None:
                    used.add((kind, path, words))
    return found


def unused(used):
    """The exceptions that nothing needs any more."""
    for kind, files in EXCEPTIONS.items():
        for path, (*all_words, _) in files.items():
            for words in all_words:
                if (kind, path, words) not in used:
                    yield f"tools/check_habits.py: the exception '{words}' of {path} is of no use any more: take it out"


def main():
    listed = subprocess.run(["git", "ls-files"], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    found, used = {kind: [] for kind in KINDS}, set()
    for path in listed:
        if path.endswith(CODE) and os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                for kind, lines in places(path, file.read(), used).items():
                    found[kind] += lines
    if "--lower" in sys.argv:
        limits.lower({kind: len(lines) for kind, lines in found.items()})
    allowed = limits.read()
    bad = sum([limits.judge(kind, lines, allowed) for kind, lines in found.items()])
    stale = list(unused(used))
    print(*stale, sep="\n", end="\n" if stale else "")
    return 1 if bad or stale else 0


if __name__ == "__main__":
    sys.exit(main())
