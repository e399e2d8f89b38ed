"""What a comparison's rounds say: medians, ratios, bars met and missed, tables, a picture.

A round is a dict {"group", "path", "tokens", "clients", "in_flight", "round", "p50_us", "rows_per_s"}. Contenders of one
group and round ran right after each other, so ratios are taken a round at a time and their median counts.
"""
import statistics
from html import escape

SIZES = (1, 16, 64, 256, 4096)
MANY = tuple(size for size in SIZES if size >= 64)
# What each of our paths is measured against, and in which group.
CEILINGS = {"embedded": "gather", "shm": "embedded", "shm-ring": "embedded", "grpc-unix": "echo-unix",
            "grpc-tcp": "echo-tcp", "unary-unix": "echo-unary-unix", "unary-tcp": "echo-unary-tcp"}
ALTERNATIVES = ("redis", "memcached", "repeated-unary", "repeated-stream", "rocksdb", "lmdb", "numpy")


class Rounds:
    """The rounds of a run, by what was measured."""

    def __init__(self, lines=()):
        self.cells = {}
        for line in lines:
            self.add(line)

    def add(self, line):
        key = (line["group"], line["path"], line["tokens"], line["clients"], line["in_flight"])
        self.cells.setdefault(key, []).append(line)

    def values(self, group, path, tokens, what, in_flight=1, clients=1):
        """A list with a number for each round; empty when it was not measured."""
        return [line[what] for line in self.cells.get((group, path, tokens, clients, in_flight), [])]

    def best_rate(self, group, path, tokens):
        """Rows a second with the number in flight that is best for the path, round by round."""
        rates = [values for in_flight in (1, 8) if (values := self.values(group, path, tokens, "rows_per_s", in_flight))]
        return [max(some) for some in zip(*rates)]

    def median(self, *args, **kwargs):
        values = self.values(*args, **kwargs)
        return statistics.median(values) if values else None


def median_ratio(ours, theirs):
    """The median of round by round ratios, or None when one was not measured."""
    ratios = [a / b for a, b in zip(ours, theirs)]
    return statistics.median(ratios) if ratios else None


class Bar:
    """One promise: a number that was measured, and what it may be. `value` None: it was not measured."""

    def __init__(self, text, value, least=None, most=None, unit="x"):
        self.text, self.value, self.least, self.most, self.unit = text, value, least, most, unit

    @property
    def met(self):
        if self.value is None:
            return False
        return (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)

    def verdict(self):
        return "not measured" if self.value is None else "met" if self.met else "MISSED"

    def line(self):
        bound = f">= {self.least}" if self.least is not None else f"<= {self.most}"
        value = "-" if self.value is None else f"{self.value:.2f}"
        return f"{self.text:<66} {value:>9} {self.unit:<3} (bar {bound:<7}) {self.verdict()}"


def ceiling_bars(rounds, group="ceilings"):
    """Our paths against what the machine and gRPC can do."""
    bars = []

    def rate(path, ceiling, tokens, least, in_flight=1):
        ratio = median_ratio(rounds.values(group, path, tokens, "rows_per_s", in_flight),
                             rounds.values(group, ceiling, tokens, "rows_per_s", in_flight))
        bars.append(Bar(f"{path} / {ceiling}, rows/s, {tokens} tokens, {in_flight} in flight", ratio, least=least))

    def p50(path, ceilings, tokens, most):
        beside = [sum(some) for some in zip(*(rounds.values(group, one, tokens, "p50_us") for one in ceilings))]
        ratio = median_ratio(rounds.values(group, path, tokens, "p50_us"), beside)
        bars.append(Bar(f"{path} / ({' + '.join(ceilings)}), p50, {tokens} tokens", ratio, most=most))

    for tokens in MANY:
        rate("embedded", "gather", tokens, 0.9)
    p50("embedded", ["gather"], 1, 1.5)
    for tokens in SIZES:
        rate("shm", "embedded", tokens, 0.9)
    p50("shm", ["embedded"], 1, 1.3)
    for socket in ("unix", "tcp"):
        for tokens in SIZES:
            rate(f"grpc-{socket}", f"echo-{socket}", tokens, 0.75, in_flight=8)
        for tokens in (1,) + MANY:
            p50(f"grpc-{socket}", [f"echo-{socket}", "gather"], tokens, 1.3 if tokens == 1 else 1.15)
        p50(f"unary-{socket}", [f"echo-unary-{socket}"], 1, 1.2)
    for tokens, most in ((1, 45), (85, 600)):
        for socket in ("unix", "tcp"):
            bars.append(Bar(f"grpc-{socket}, p50, {tokens} tokens",
                            rounds.median(group, f"grpc-{socket}", tokens, "p50_us"), most=most, unit="us"))
    return bars


def alternative_bars(rounds, measured):
    """Our paths against each of the alternatives in `measured`, which ran in a group of its own name."""
    bars = []
    for other in measured:
        if other in ("redis", "memcached", "repeated-unary", "repeated-stream"):
            for tokens in MANY:
                ratio = median_ratio(rounds.best_rate(other, "grpc-unix", tokens), rounds.best_rate(other, other, tokens))
                bars.append(Bar(f"grpc-unix / {other}, rows/s, {tokens} tokens, the better of 1 and 8 in flight", ratio,
                                least=8 if other in ("redis", "memcached") else 5))
            ratio = median_ratio(rounds.values(other, "grpc-unix", 1, "p50_us"), rounds.values(other, other, 1, "p50_us"))
            bars.append(Bar(f"grpc-unix / {other}, p50, 1 token", ratio, most=0.7 if other == "memcached" else 0.5))
        else:
            for path in ("embedded", "shm"):
                ratio = median_ratio(rounds.values(other, path, 64, "rows_per_s"),
                                     rounds.values(other, other, 64, "rows_per_s"))
                bars.append(Bar(f"{path} / {other}, rows/s, 64 tokens", ratio, least=1.5 if other == "numpy" else 20))
    return bars


def reference(group, path):
    """What a path is divided by in the tables of `group`; more clients by one."""
    if group == "clients":
        return path
    if group in ALTERNATIVES:
        return None if path == group else group
    return CEILINGS.get(path)


def _ratio(rounds, group, path, tokens, what, in_flight, clients):
    beside = reference(group, path)
    if group == "clients":
        theirs = rounds.values(group, path, tokens, what, in_flight)
    else:
        # What has nothing in flight is measured once.
        theirs = rounds.values(group, beside, tokens, what, in_flight, clients) or rounds.values(group, beside, tokens, what)
    return median_ratio(rounds.values(group, path, tokens, what, in_flight, clients), theirs)


def _columns(rounds, group):
    keys = sorted({(path, clients, in_flight) for g, path, _, clients, in_flight in rounds.cells if g == group},
                  key=lambda key: (key[0], key[1], key[2]))
    sizes = sorted({tokens for g, _, tokens, _, _ in rounds.cells if g == group})
    return keys, sizes


def table(rounds, group):
    """Ratios to each path's reference first, absolute numbers second."""
    keys, sizes = _columns(rounds, group)
    head = f"{'path':<17} {'clients':>7} {'flight':>6}  "
    lines = []
    for title, what, scale, form in (("rows/s over the reference", "rows_per_s", None, "{:>11.2f}"),
                                     ("p50 over the reference", "p50_us", None, "{:>11.2f}"),
                                     ("M rows/s", "rows_per_s", 1e-6, "{:>11.3f}"), ("p50, us", "p50_us", 1, "{:>11.1f}")):
        lines += ["", f"{title}; tokens of a batch:", head + "".join(f"{size:>11}" for size in sizes)]
        for path, clients, in_flight in keys:
            beside = reference(group, path)
            if scale is None and (beside is None or beside == path and clients == 1):
                continue
            cells = []
            for size in sizes:
                if scale is None:
                    value = _ratio(rounds, group, path, size, what, in_flight, clients)
                else:
                    ours = rounds.values(group, path, size, what, in_flight, clients)
                    value = statistics.median(ours) * scale if ours else None
                cells.append(f"{'-':>11}" if value is None else form.format(value))
            over = "" if scale is not None else "  / 1 client" if beside == path else f"  / {beside}"
            lines.append(f"{path:<17} {clients:>7} {in_flight:>6}  " + "".join(cells) + over)
    return "\n".join(lines[1:])


def json_lines(rounds):
    """One dict a cell: the medians, and the keys that `engram bench --compare --json` has."""
    for (group, path, tokens, clients, in_flight), lines in rounds.cells.items():
        one = {"group": group, "path": path, "batch_tokens": tokens, "clients": clients, "in_flight": in_flight,
               "rounds": len(lines), "p50_us": statistics.median(line["p50_us"] for line in lines),
               "rows_per_s": statistics.median(line["rows_per_s"] for line in lines)}
        beside = reference(group, path)
        if beside is not None:
            one["ceiling"] = beside
            for key, what in (("ratio_rows_per_s", "rows_per_s"), ("ratio_p50", "p50_us")):
                one[key] = _ratio(rounds, group, path, tokens, what, in_flight, clients)
        yield one


def picture(rounds):
    """An SVG: median time of one token, and rows a second at 64 tokens, one in flight, on logarithmic axes."""
    import math
    panels = (("p50 of 1 token, us (shorter is better)", 1, "p50_us", 1),
              ("M rows/s at 64 tokens, one in flight (longer is better)", 64, "rows_per_s", 1e-6))
    left, width, height, gap = 150, 360, 18, 40
    parts, x0, bottom = [], 0, 0
    for title, tokens, what, scale in panels:
        bars = {}
        for group, path, size, clients, in_flight in rounds.cells:
            if size == tokens and clients == 1 and in_flight == 1:
                of_ceilings = group == "ceilings"
                if path not in bars or of_ceilings:
                    bars[path] = rounds.median(group, path, tokens, what) * scale
        if not bars:
            continue
        low = math.log10(min(bars.values()) / 2)
        span = math.log10(max(bars.values())) - low
        parts.append(f'<text x="{x0 + 4}" y="18" font-weight="bold">{escape(title)}</text>')
        for i, (path, value) in enumerate(sorted(bars.items(), key=lambda bar: bar[1])):
            y = 30 + i * height
            bottom = max(bottom, y + height)
            color = "#1f77b4" if path in CEILINGS else "#d62728" if path in ALTERNATIVES else "#7f7f7f"
            long = width * (math.log10(value) - low) / span
            parts.append(f'<text x="{x0 + left - 6}" y="{y + 12}" text-anchor="end">{escape(path)}</text>'
                         f'<rect x="{x0 + left}" y="{y}" width="{long:.1f}" height="{height - 4}" fill="{color}"/>'
                         f'<text x="{x0 + left + long + 4:.1f}" y="{y + 12}">{value:.3g}</text>')
        x0 += left + width + 60 + gap
    legend = '<text x="4" y="{}">blue: engram; red: alternatives; grey: ceilings; logarithmic</text>'.format(bottom + 22)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{x0}" height="{bottom + 34}" font-family="sans-serif" '
            f'font-size="12"><rect width="100%" height="100%" fill="white"/>{"".join(parts)}{legend}</svg>\n')
