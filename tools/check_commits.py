#!/usr/bin/env python3
"""./run check commits: subjects of commits are short, of one topic, and no sentence.

    check_commits.py [RANGE]      the default: all that came after the commit from which the rule is kept
"""
import subprocess
import sys

# The rule is kept from here on; what is before it stays as it is.
START = "cbb40a8"
MAX_SUBJECT = 72


def wrong(subject):
    """What is wrong of a subject, in words; empty when nothing is."""
    found = []
    if len(subject) > MAX_SUBJECT:
        found.append(f"{len(subject)} characters, more than {MAX_SUBJECT}")
    if ";" in subject:
        found.append("a semicolon: two topics are two commits")
    if subject.endswith("."):
        found.append("ends with a period")
    return found


def main():
    known = subprocess.run(["git", "cat-file", "-e", START + "^{commit}"], stderr=subprocess.DEVNULL, check=False)
    if len(sys.argv) < 2 and known.returncode != 0:
        print(f"not checked: this clone does not reach back to {START}")
        return 0
    revisions = sys.argv[1] if len(sys.argv) > 1 else f"{START}..HEAD"
    log = subprocess.run(["git", "log", "--format=%h %s", revisions], check=True, stdout=subprocess.PIPE, text=True)
    bad = 0
    for line in log.stdout.splitlines():
        commit, _, subject = line.partition(" ")
        for what in wrong(subject):
            print(f"{commit} {subject!r}: {what}")
            bad += 1
    print(f"{len(log.stdout.splitlines())} commits, {bad} mistakes")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
