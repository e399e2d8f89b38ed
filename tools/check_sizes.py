#!/usr/bin/env python3
"""./run check sizes: no function above 70 lines, no file above 500; each one that is is printed.

Sources are C++, CUDA, protobuf, Python, Go, Starlark (.bzl) and shell, by their names or their first line (`#!`). Pages,
data and BUILD files are none. A function's lines are those from the first of its declaration (decorators, template lines
and return types included) to its closing brace. Python's are found by Python, shell's by their layout, the others by
universal-ctags; a function whose end is not found fails the check. --lower writes what is left into
tools/check_limits.txt.
"""
import ast
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import limits  # noqa: E402

MAX_FUNCTION, MAX_FILE = 70, 500
CTAGS = (".h", ".cc", ".cu", ".cuh", ".inc", ".go")
PYTHON, SHELL = (".py", ".bzl"), (".sh",)  # Starlark reads as Python
CODE = CTAGS + PYTHON + SHELL + (".proto",)
SHEBANG = re.compile(rb"#!.*\b(?:(?P<python>python3?)|(?:ba|da)?sh)\b")
FUNCTIONS, FILES = f"functions over {MAX_FUNCTION} lines", f"files over {MAX_FILE} lines"
# What ends before a declaration: a comment, the preprocessor, a statement, a block, `public:`.
BEFORE = re.compile(r"^\s*(?://|#|\*|/\*|$)|[;{}:]\s*$|\*/\s*$")
COMMENT = re.compile(r"\s*//.*$")
SHELL_HEAD = re.compile(r"(\s*)(?:function\s+)?([\w-]+)\s*\(\)\s*([{(]?)(.*)$")
HERE = re.compile(r"(?<!<)<<-?['\"]?([A-Za-z_]\w*)")


class NoEnd(Exception):
    """Of a function, so it cannot be measured."""


def first_line(lines, number):
    """Of the declaration whose name stands at line `number`."""
    while number > 1 and not BEFORE.search(COMMENT.sub("", lines[number - 2])):
        number -= 1
    return number


def by_ctags(paths):
    """(path, first line, last line, name) of each function."""
    tags = subprocess.run(
        ["ctags", "-x", "--_xformat=%F\t%n\t%{end}\t%N", "--map-C++=+.cu", "--map-C++=+.cuh", "--map-C++=+.inc",
         "--languages=C++,Go", "--kinds-C++=f", "--kinds-Go=f", "--sort=no", "-L", "-"],
        input="\n".join(paths), check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    lines = {}
    for tag in tags.splitlines():
        path, named, end, name = tag.split("\t")
        if not end.isdigit():
            raise NoEnd(f"{path}:{named} {name}: ctags finds no end of this function")
        if path not in lines:
            with open(path, encoding="utf-8") as file:
                lines[path] = file.read().splitlines()
        yield path, first_line(lines[path], int(named)), int(end), name


def by_python(path):
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read(), path)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield path, min([node.lineno] + [one.lineno for one in node.decorator_list]), node.end_lineno, node.name


def by_layout(path):
    """Shell: a function is `name() {` up to a closing brace that stands as deep as the name, or one line."""
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    here, heads = None, []  # the word that ends a text in place; (line, depth, name, brace) of what is open

    def missing():
        return NoEnd(f"{path}:{heads[-1][0]} {heads[-1][2]}: no closing brace stands as deep as this function's name")

    for number, line in enumerate(lines, 1):
        if here:
            here = None if line.strip() == here else here
            continue
        text = HERE.search(line)
        here = text[1] if text else None
        head = SHELL_HEAD.match(line)
        brace = ")" if head and head[3] == "(" else "}"
        if head and re.search(re.escape(brace) + r"\s*(?:#.*)?$", head[4]):
            yield path, number, number, head[2]
        elif head:
            if heads and len(head[1]) <= len(heads[-1][1]):
                raise missing()
            heads.append((number, head[1], head[2], brace))
        elif heads and re.match(re.escape(heads[-1][1] + heads[-1][3]) + r"(?:\s|$)", line):
            begin, _, name, _ = heads.pop()
            yield path, begin, number, name
    if heads:
        raise missing()


def kind_of(path):
    """Which of CTAGS, PYTHON, SHELL or CODE (measured as a file alone); None: no source."""
    for kind in (CTAGS, PYTHON, SHELL, CODE):
        if path.endswith(kind):
            return kind
    if "." in os.path.basename(path):
        return None
    with open(path, "rb") as file:
        script = SHEBANG.match(file.readline(200))
    return (PYTHON if script["python"] else SHELL) if script else None


def functions(paths):
    yield from by_ctags([path for path in paths if kind_of(path) is CTAGS])
    for path in paths:
        if kind_of(path) is PYTHON:
            yield from by_python(path)
        elif kind_of(path) is SHELL:
            yield from by_layout(path)


def long_functions(paths):
    """`PATH:LINE NAME: N lines` of each."""
    for path, begin, end, name in functions(paths):
        if end - begin + 1 > MAX_FUNCTION:
            yield f"{path}:{begin} {name}: {end - begin + 1} lines"


def long_files(paths):
    for path in paths:
        with open(path, "rb") as file:
            lines = sum(1 for _ in file)
        if lines > MAX_FILE:
            yield f"{path}: {lines} lines"


def main():
    listed = subprocess.run(["git", "ls-files"], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    paths = [path for path in listed if os.path.isfile(path) and kind_of(path)]
    try:
        found = {FUNCTIONS: list(long_functions(paths)), FILES: list(long_files(paths))}
    except NoEnd as error:
        print(f"  {error}")
        return 1
    if "--lower" in sys.argv:
        limits.lower({kind: len(places) for kind, places in found.items()})
    allowed = limits.read()
    return 1 if sum([limits.judge(kind, places, allowed) for kind, places in found.items()]) else 0


if __name__ == "__main__":
    sys.exit(main())
