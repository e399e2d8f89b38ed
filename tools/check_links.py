#!/usr/bin/env python3
"""./run check links: what pages (*.md) link to and the files that they name are there.

Links and images: the file, and a heading of it where the link has a #. Code spans: the first word, where it is a path
that begins with a folder of the tree's root or of the page's; without an extension it may be a target's name. A source
file's name alone is one that some folder has.
"""
import glob
import os
import re
import subprocess
import sys
from urllib.parse import unquote

LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
CODE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^```.*?^```", re.M | re.S)
PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*/?")
SOURCE = re.compile(r"\.(?:h|cc|cu|cuh|inc|py|sh|bzl)$")
# Stands for any name.
PLACEHOLDERS = {"x_test.cc"}
# Not of the tree: what a build leaves.
BUILT = ("bin/", "bazel-")


def slug(heading):
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(path):
    with open(path, encoding="utf-8") as file:
        return {slug(h) for h in re.findall(r"^#+\s+(.*)$", FENCE.sub("", file.read()), re.M)}


def wrong_link(root, page, target):
    if re.match(r"[a-z]+:", target):
        return None
    path, _, anchor = target.partition("#")
    at = os.path.join(root, os.path.dirname(page), unquote(path)) if path else os.path.join(root, page)
    if not os.path.exists(at):
        return f"{target}: no such file"
    if anchor and at.endswith(".md") and anchor not in anchors(at):
        return f"{target}: no such heading"
    return None


def wrong_mention(root, page, span, names):
    """`names`: of all files of the tree."""
    word = span.split()[0] if span.split() else ""
    if not PATH.fullmatch(word) or word in PLACEHOLDERS:
        return None
    if "/" not in word:
        return None if word in names or not SOURCE.search(word) else f"`{word}`: no file has that name"
    bases = [os.path.join(root, folder) for folder in {"", os.path.dirname(page)}
             if os.path.isdir(os.path.join(root, folder, word.split("/")[0]))]
    if not bases or word.startswith(BUILT):
        return None
    if any(os.path.exists(os.path.join(base, word)) for base in bases):
        return None
    if "." not in os.path.basename(word) and any(glob.glob(os.path.join(base, word) + ".*") for base in bases):
        return None
    return f"`{word}`: no such file"


def wrong(root, page, names):
    with open(os.path.join(root, page), encoding="utf-8") as file:
        text = file.read()
    prose = FENCE.sub(lambda fence: "\n" * fence.group(0).count("\n"), text)
    for number, line in enumerate(prose.splitlines(), 1):
        for what in ([wrong_link(root, page, target) for target in LINK.findall(CODE.sub("", line))] +
                     [wrong_mention(root, page, word, names) for word in CODE.findall(line)]):
            if what:
                yield f"{page}:{number}: {what}"


def file_names(root):
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith((".", "bazel-"))]
        yield from files


def main():
    root = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    listed = subprocess.run(["git", "-C", root, "ls-files", "*.md"], check=True, stdout=subprocess.PIPE, text=True).stdout
    pages = [page for page in listed.splitlines() if os.path.exists(os.path.join(root, page))]
    names = set(file_names(root))
    found = [what for page in pages for what in wrong(root, page, names)]
    for what in found:
        print(what)
    print(f"{len(pages)} pages, {len(found)} mistakes")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
