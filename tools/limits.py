"""What there may be no more of: tools/check_limits.txt has how much is left, and each number only goes down."""
import os

PATH = os.path.join(os.path.dirname(os.path.realpath(__file__)), "check_limits.txt")


def read(path=PATH):
    """kind -> how many there may be."""
    with open(path, encoding="utf-8") as file:
        lines = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    return {kind.strip(): int(number) for kind, _, number in (line.rpartition(":") for line in lines)}


def lower(counts, path=PATH):
    """Writes the counts that are below their limits into the file; none is raised."""
    limits = read(path)
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    for i, line in enumerate(lines):
        kind = line.rpartition(":")[0].strip()
        if kind in counts and kind in limits and not line.startswith("#"):
            lines[i] = f"{kind}: {min(limits[kind], counts[kind])}"
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def judge(kind, found, limits):
    """Prints what was found of a kind and what that means; True when there is more than there may be."""
    for place in found:
        print(f"  {place}")
    most = limits.get(kind, 0)
    verdict = ""
    if len(found) > most:
        verdict = f": {len(found) - most} too many"
    elif len(found) < most:
        verdict = f": fewer than the {most} allowed, lower the number in tools/check_limits.txt (--lower does)"
    print(f"{kind}: {len(found)} of at most {most}{verdict}")
    return len(found) > most
