"""The house's rooms and who may use which, checked over BUILD labels and #include lines.

Bazel's visibility (the package groups in //:BUILD.bazel) stops a wrong dependency in the build; this says
it in one line a place, also finds an include without a dependency, and a package that forgot its visibility.
"""
import os
import re

# room -> rooms it may use, itself always.
ALLOWED = {
    "proto": set(),
    "memstore": {"proto"},
    "server": {"memstore", "proto"},
    "client": {"memstore", "proto"},
    "gpu": {"client", "memstore"},
    "deploy": {"server", "client", "gpu", "memstore", "proto"},
    "tests": {"server", "client", "gpu", "memstore", "proto", "deploy"},
}
# What every package of a room declares as its default visibility.
VISIBILITY = {room: f"//:{room}_users" for room in ("proto", "memstore", "server", "client", "gpu")}

# Files in which a generated protobuf header may be included: the wire is met in server/ and in the client's
# transports, the manifest is loaded in one place.
PROTOBUF_PLACES = re.compile(r"^(server/|client/transport/|client/admin/|tests/|memstore/table/manifest(_test)?\.cc$|proto/)")

CODE = (".h", ".cc", ".cu", ".cuh", ".inc", ".proto")
# Of C++, and of protobuf.
INCLUDE = re.compile(r'^\s*(?:#\s*include|import(?:\s+(?:public|weak))?)\s+"([^"]+)"', re.M)
LABEL = re.compile(r'"//([a-z0-9_]+)[^"]*"')
VISIBLE = re.compile(r'package\(\s*(?:[^)]*?)default_visibility\s*=\s*\[([^\]]*)\]')


def sources(root):
    for folder, names, files in os.walk(root):
        names[:] = [n for n in names if not n.startswith((".", "bazel-")) and n != "bin"]
        for name in sorted(files):
            path = os.path.relpath(os.path.join(folder, name), root)
            if path.split(os.sep)[0] in ALLOWED:
                yield path


def violations(root):
    found = []
    for path in sources(root):
        room = path.split(os.sep)[0]
        may = ALLOWED[room] | {room}
        is_build = os.path.basename(path) in ("BUILD", "BUILD.bazel")
        is_code = path.endswith(CODE)
        if not (is_build or is_code):
            continue
        with open(os.path.join(root, path), encoding="utf-8") as file:
            text = file.read()
        used = {}
        if is_code:
            for include in INCLUDE.findall(text):
                used.setdefault(include.split("/")[0], include)
                if include.endswith(".pb.h") and not PROTOBUF_PLACES.match(path):
                    found.append(f"{path}: includes {include}: protobuf types stay out of this place")
        else:
            for label in re.finditer(LABEL, text):
                used.setdefault(label.group(1), label.group(0))
            declared = VISIBLE.search(text)
            want = VISIBILITY.get(room)
            if want and (not declared or want not in declared.group(1)):
                found.append(f"{path}: default_visibility is not [\"{want}\"]")
            if want and '"//visibility:public"' in text:
                found.append(f"{path}: //visibility:public opens a room to all")
        # Shared test data may be used by any room's tests.
        for other, what in used.items():
            if other == "tests" and is_build and "//tests/golden" in what:
                continue
            if other in ALLOWED and other not in may:
                found.append(f"{path}: {what}: {room} may not use {other}")
    return found
