#!/usr/bin/env python3
"""How fast `engram pack` is beside `cp` + `sync` of the same files, and how much memory it takes.

    tests/bench/pack_vs_cp.py [--gigabytes 3] [--rounds 5] [--directory DIR] [--engram bin/engram] [--json]

Makes a checkpoint shaped like DeepSeek-V4.1-Flash (scaled by rows per head, files without tables left out),
then takes turns: caches dropped, the files copied and synced; caches dropped, the files packed. Prints the
medians, the ratio and the packer's largest RssAnon + RssShmem. Needs root (to drop caches) and twice the
checkpoint's room in DIR (default: a temporary directory, removed at the end).
"""
import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FAMILY = "deepseek-v4.1-flash"
TOKEN_MAP = os.path.join(ROOT, "tests/golden/deepseek_v41_token_map.i32")
COLUMNS, LAYERS, WEIGHT_BYTES, SCALE_BYTES = 24, (1, 14), 256, 8
BAR, RSS_LIMIT_KIB = 0.70, 512 * 1024
CHUNK = 32 << 20
RSS_INTERVAL_S = 0.02


def layer_rows(engram, rows_per_head, scratch):
    """The rows of each layer: what a synthetic set of the same size says."""
    path = os.path.join(scratch, "shape")
    subprocess.run([engram, "pack", "--synthetic", "--family", FAMILY, "--rows-per-head", str(rows_per_head),
                    "--token-map", TOKEN_MAP, "--output", path], check=True, stderr=subprocess.DEVNULL)
    found = json.loads(subprocess.check_output([engram, "inspect", path, "--json"]))
    shutil.rmtree(path)
    return {layer["layer"]: layer["rows"] for layer in found["layers"]}


def write_random(file, count):
    chunk = os.urandom(min(count, CHUNK))
    while count > 0:
        count -= file.write(chunk[:count])


def make_checkpoint(path, rows):
    os.makedirs(path)
    weight_map = {"layers.0.attn.weight": "model-00001-of-00048.safetensors"}
    for number, (layer, count) in enumerate(rows.items()):
        name = f"model-{47 + number:05d}-of-00048.safetensors"
        tensors = [(f"layers.{layer}.engram.embed.weight", "F8_E4M3", [count, WEIGHT_BYTES]),
                   (f"layers.{layer}.engram.embed.scale", "F8_E8M0", [count, SCALE_BYTES])]
        header, at = {}, 0
        for tensor, dtype, shape in tensors:
            end = at + shape[0] * shape[1]
            header[tensor] = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
            weight_map[tensor], at = name, end
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(os.path.join(path, name), "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            write_random(file, at)
    with open(os.path.join(path, "model.safetensors.index.json"), "w", encoding="utf-8") as file:
        json.dump({"metadata": {}, "weight_map": weight_map}, file)


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("3")


def peak_rss_kib(process, peak):
    """Follows RssAnon + RssShmem until the process ends."""
    while process.poll() is None:
        try:
            with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
                lines = dict(line.split(":", 1) for line in file)
            peak[0] = max(peak[0], sum(int(lines[k].split()[0]) for k in ("RssAnon", "RssShmem")))
        except (OSError, KeyError):
            pass
        time.sleep(RSS_INTERVAL_S)


def time_copy(source, target):
    drop_caches()
    begin = time.monotonic()
    subprocess.run(["cp", "-r", source, target], check=True)
    subprocess.run(["sync"], check=True)
    seconds = time.monotonic() - begin
    shutil.rmtree(target)
    return seconds


def time_pack(engram, source, target, rows_per_head, peak):
    drop_caches()
    begin = time.monotonic()
    process = subprocess.Popen([engram, "pack", "--family", FAMILY, "--checkpoint", source, "--rows-per-head",
                                str(rows_per_head), "--token-map", TOKEN_MAP, "--output", target],
                               stderr=subprocess.PIPE, text=True)
    watcher = threading.Thread(target=peak_rss_kib, args=(process, peak))
    watcher.start()
    message = process.stderr.read()
    code = process.wait()
    seconds = time.monotonic() - begin
    watcher.join()
    if code != 0:
        raise RuntimeError(f"engram pack failed: {message}")
    shutil.rmtree(target)
    return seconds


def machine():
    with open("/proc/cpuinfo", encoding="ascii") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "?")
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}, {time.strftime('%Y-%m-%d')}"


def measure(options, scratch):
    rows_per_head = int(options.gigabytes * 1e9 / (COLUMNS * len(LAYERS) * (WEIGHT_BYTES + SCALE_BYTES)))
    checkpoint = os.path.join(scratch, "checkpoint")
    print("making the checkpoint", file=sys.stderr)
    make_checkpoint(checkpoint, layer_rows(options.engram, rows_per_head, scratch))
    size = sum(entry.stat().st_size for entry in os.scandir(checkpoint))
    copies, packs, peak = [], [], [0]
    for number in range(options.rounds):
        copies.append(time_copy(checkpoint, os.path.join(scratch, "copy")))
        packs.append(time_pack(options.engram, checkpoint, os.path.join(scratch, "set"), rows_per_head, peak))
        print(f"round {number + 1}: cp + sync {copies[-1]:.2f} s, pack {packs[-1]:.2f} s", file=sys.stderr)
    copy, pack = statistics.median(copies), statistics.median(packs)
    return {"machine": machine(), "bytes": size, "rounds": options.rounds, "cp_sync_s": round(copy, 3),
            "pack_s": round(pack, 3), "cp_gb_per_s": round(size / copy / 1e9, 3),
            "pack_gb_per_s": round(size / pack / 1e9, 3), "pack_over_cp": round(copy / pack, 3),
            "pack_rss_mib": round(peak[0] / 1024, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--gigabytes", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", help="where to work (default: a temporary directory)")
    parser.add_argument("--engram", default=os.path.join(ROOT, "bin/engram"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("dropping caches needs root")
    with tempfile.TemporaryDirectory(prefix="engram-pack-", dir=options.directory) as scratch:
        found = measure(options, scratch)
    if options.json:
        print(json.dumps(found))
    else:
        print(f"{found['machine']}; {found['bytes'] / 1e9:.2f} GB, {found['rounds']} rounds, medians")
        print(f"{'cp + sync':<12} {found['cp_sync_s']:>8.2f} s {found['cp_gb_per_s']:>8.2f} GB/s")
        print(f"{'engram pack':<12} {found['pack_s']:>8.2f} s {found['pack_gb_per_s']:>8.2f} GB/s")
        print(f"pack over cp: {found['pack_over_cp']:.2f} (bar {BAR}); "
              f"RssAnon + RssShmem {found['pack_rss_mib']:.0f} MiB (bar {RSS_LIMIT_KIB // 1024})")
    return 0 if found["pack_over_cp"] >= BAR and found["pack_rss_mib"] * 1024 < RSS_LIMIT_KIB else 1


sys.exit(main())
