#!/usr/bin/env python3
"""./run check locks: clang's -Wthread-safety over every source that meets an annotated lock (memstore/base/mutex.h).

Needs compile_commands.json and the generated headers (`./run check` makes both). Names of files as arguments: those
alone. Only the syntax is read, so it takes a second or two a file.
"""
import concurrent.futures
import json
import os
import re
import subprocess
import sys

LOCKS = "memstore/base/mutex.h"
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
# What clang is told after each file's own flags: all other warnings are g++'s and clang-tidy's business.
FLAGS = ["-fsyntax-only", "-Wno-everything", "-Wthread-safety", "-Werror=thread-safety"]


def included(path, seen):
    """Adds all of this tree's files that `path` includes, and itself, to `seen`."""
    if path in seen or not os.path.exists(path):
        return seen
    seen.add(path)
    with open(path, encoding="utf-8", errors="replace") as file:
        for include in INCLUDE.findall(file.read()):
            included(include, seen)
    return seen


def command_of(entry):
    """The compiler's command line of compile_commands.json, as clang's, without what it writes."""
    words, out = iter(entry["arguments"][1:]), ["clang++"]
    for word in words:
        if word in ("-o", "-MF", "-c"):
            following = next(words)
            out += [following] if word == "-c" else []
        elif word not in ("-MD", "-Werror") and not word.startswith("-frandom-seed"):
            out.append(word)
    return out + FLAGS


def check(entry):
    done = subprocess.run(command_of(entry), cwd=entry["directory"], check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def main():
    with open("compile_commands.json", encoding="utf-8") as file:
        entries = [entry for entry in json.load(file) if entry["file"].endswith(".cc")]
    wanted = set(sys.argv[1:])
    entries = [entry for entry in entries if (entry["file"] in wanted if wanted else LOCKS in included(entry["file"], set()))]
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        for code, text in threads.map(check, entries):
            if code:
                print(text, end="", flush=True)
                bad += 1
    print(f"{len(entries)} sources with locks read, {bad} with mistakes")
    return 1 if bad or (wanted and not entries) else 0


if __name__ == "__main__":
    sys.exit(main())
