"""The house's rooms, the wings inside them, and who may use which, checked over BUILD labels and #include lines.

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
# Inside a room, from the ground up: wing -> wings of the room that its code may use. Tests, benchmarks and test
# helpers may use all of their room. A wing that is not named here is a wrong one.
FLOORS = {
    "memstore/base": set(),
    "memstore/os": {"memstore/base"},
    "memstore/program": {"memstore/base"},
    "memstore/addressing": {"memstore/base"},
    "memstore/partition": {"memstore/base", "memstore/addressing"},
    "memstore/discovery": {"memstore/base", "memstore/os"},
    "memstore/cache": {"memstore/base", "memstore/addressing"},
    "memstore/gather": {"memstore/base", "memstore/os", "memstore/addressing"},
    "memstore/tls": {"memstore/base", "memstore/os"},
    "memstore/rdma": {"memstore/base", "memstore/os", "memstore/addressing", "memstore/gather"},
    "memstore/shm": {"memstore/base", "memstore/os", "memstore/partition"},
    "memstore/tokenizer": {"memstore/base", "memstore/os", "memstore/addressing", "memstore/safetensors"},
    "memstore/table": {"memstore/base", "memstore/os", "memstore/addressing"},
    "memstore/recipe": {"memstore/base", "memstore/os", "memstore/addressing", "memstore/gguf", "memstore/safetensors"},
    "memstore/gguf": {"memstore/base", "memstore/os"},
    "memstore/safetensors": {"memstore/base", "memstore/os"},
    "memstore/pack/output": {"memstore/base", "memstore/os", "memstore/addressing", "memstore/table"},
    "memstore/pack": {"memstore/base", "memstore/os", "memstore/addressing", "memstore/pack/output", "memstore/recipe",
                      "memstore/safetensors", "memstore/table", "memstore/tokenizer"},
    "memstore/pack/gguf": {"memstore/base", "memstore/os", "memstore/addressing", "memstore/gguf", "memstore/pack",
                           "memstore/recipe", "memstore/safetensors", "memstore/table"},
    "memstore/store": {"memstore/base", "memstore/os", "memstore/addressing", "memstore/gather", "memstore/partition",
                       "memstore/table"},
    "memstore/cluster": {"memstore/base", "memstore/addressing", "memstore/gather", "memstore/partition"},
    "client/transport": set(),
    "client/transport/local": {"client/transport"},
    "client/transport/grpc": {"client/transport"},
    "client/transport/shm": {"client/transport", "client/transport/local"},
    "client/transport/rdma": {"client/transport", "client/transport/grpc"},
    "client/transport/auto": {"client/transport", "client/transport/grpc", "client/transport/shm", "client/transport/rdma"},
    "client/admin": {"client/transport", "client/transport/grpc"},
    "client/cluster/discovery": set(),
    "client/cluster": {"client/cluster/discovery", "client/transport", "client/transport/grpc"},
    "client": {"client/cluster", "client/cluster/discovery", "client/transport", "client/transport/local", "client/transport/grpc",
               "client/transport/shm", "client/transport/rdma", "client/transport/auto"},
    "client/token_files": set(),
    "client/terminal": set(),
    "client/cli/support": {"client", "client/terminal", "client/token_files", "client/transport"},
    "client/cli": {"client", "client/admin", "client/cli/support", "client/terminal", "client/token_files",
                   "client/transport"},
    "server/base": set(),
    "server/cluster": {"server/base"},
    "server/lookup": {"server/base"},
    "server/net": {"server/base"},
    "server/security": {"server/base"},
    "server/table_sets": {"server/base"},
    "server/cluster": {"server/base", "server/table_sets"},
    "server/config": {"server/base", "server/net", "server/security"},
    "server/metrics": {"server/base", "server/table_sets"},
    "server/shm": {"server/base", "server/metrics", "server/net", "server/security"},
    "server/rdma": {"server/base", "server/lookup", "server/metrics"},
    "server/grpc": {"server/base", "server/cluster", "server/lookup", "server/metrics", "server/rdma", "server/security",
                    "server/table_sets"},
    "server/admin": {"server/base", "server/config", "server/grpc", "server/metrics", "server/net", "server/security",
                     "server/table_sets"},
    "server": {"server/base", "server/admin", "server/cluster", "server/config", "server/grpc", "server/lookup", "server/metrics",
               "server/net", "server/rdma", "server/security", "server/shm", "server/table_sets"},
    "gpu/device": set(),
    "gpu/kernels": {"gpu/device"},
    "gpu/prefetch": {"gpu/device", "gpu/kernels"},
    "gpu/simulator": {"gpu/device", "gpu/kernels", "gpu/prefetch"},
    "gpu/examples": {"gpu/device", "gpu/prefetch"},
    "gpu/bench": {"gpu/device", "gpu/kernels", "gpu/prefetch"},
}
# What every package of a room declares as its default visibility: inside a room a target is opened on purpose.
# proto is opened as a whole: its targets are the wire, which both ends share.
VISIBILITY = {room: "//visibility:private" for room in ("memstore", "server", "client", "gpu")} | {"proto": "//:proto_users"}
# What other workspaces may use: the SDK, its part for workers with a device, and nothing else; and where each lists its headers.
PUBLIC = {("client/BUILD.bazel", "sdk"), ("gpu/BUILD.bazel", "sdk")}
HEADER_LISTS = {"client": "SDK_HEADERS", "gpu": "GPU_SDK_HEADERS"}
# A folder that holds more than this, with its tests, has more than one subject.
MAX_FILES = 40

# Files in which a generated protobuf header may be included: the wire is met in server/ and in the client's
# transports, etcd's where addresses are found, the manifest is loaded in one place.
PROTOBUF_PLACES = re.compile(r"^(server/|client/transport/|client/admin/|client/cluster/|tests/|memstore/table/manifest(_test)?\.cc$|proto/)")

CODE = (".h", ".cc", ".cu", ".cuh", ".inc", ".proto")
# Of C++, and of protobuf.
INCLUDE = re.compile(r'^\s*(?:#\s*include|import(?:\s+(?:public|weak))?)\s+"([^"]+)"', re.M)
LABEL = re.compile(r'"//([a-z0-9_]+)[^"]*"')
VISIBLE = re.compile(r'package\(\s*(?:[^)]*?)default_visibility\s*=\s*\[([^\]]*)\]')
OPENED = re.compile(r'(?<!default_)visibility\s*=\s*\[([^\]]*)\]')
# A type at the outermost level of a namespace: its line begins with it.
TYPE = re.compile(r"^(?:class|struct|enum class)\s+(?:(?:[A-Z_]+|alignas)(?:\([^)]*\))?\s+)?(\w+)[^;{]*\{", re.M)
NAMESPACE = re.compile(r"^namespace (engram[\w:]*) \{", re.M)
NAME = re.compile(r'\bname\s*=\s*"([^"]+)"')
TESTING = re.compile(r"(_test|_benchmark|_cases)\.(cc|cu)$|/testing/")


def sources(root):
    for folder, names, files in os.walk(root):
        names[:] = [n for n in names if not n.startswith((".", "bazel-")) and n != "bin"]
        for name in sorted(files):
            path = os.path.relpath(os.path.join(folder, name), root)
            if path.split(os.sep)[0] in ALLOWED:
                yield path


def floor_violations(path, includes):
    """A wing that uses one that does not stand below it."""
    room, wing = path.split(os.sep)[0], os.path.dirname(path)
    if room not in ("memstore", "client", "server", "gpu") or TESTING.search(path):
        return
    if wing not in FLOORS:
        yield f"{path}: {wing} is no wing of {room}: name it in FLOORS with what it may use"
        return
    for include in includes:
        below = os.path.dirname(include)
        if include.split("/")[0] == room and below != wing and below not in FLOORS[wing]:
            yield f"{path}: {include}: {wing} may not use {below}"


def opened_wrongly(path, text):
    """Targets opened further than to their room, its users, or tests; PUBLIC ones apart."""
    room = path.split(os.sep)[0]
    for opened in OPENED.finditer(text):
        name = NAME.findall(text, 0, opened.start())[-1:]
        for label in re.findall(r'"([^"]+)"', opened.group(1)):
            if label == "//visibility:public" and (path, *name) in PUBLIC:
                continue
            if label not in (f"//:{room}_users", "//tests:__subpackages__", "//visibility:private") and not label.startswith(f"//{room}"):
                yield f"{path}: {label} opens a target of {room} too far"


def public_headers(root):
    """The paths of the headers of //client:sdk and //gpu:sdk, as their BUILD files list them."""
    paths = []
    for room, name in HEADER_LISTS.items():
        build = os.path.join(root, room, "BUILD.bazel")
        if not os.path.exists(build):  # in the small trees of tests
            continue
        with open(build, encoding="utf-8") as file:
            listed = re.search(rf"^{name} = \[(.*?)\]", file.read(), re.S | re.M).group(1)
        labels = re.findall(r'^\s*"([^"]+)"', listed, re.M)
        paths += [label[2:].replace(":", "/") if label.startswith("//") else f"{room}/{label}" for label in labels]
    return paths


def face_violations(root):
    """Public headers that include one that is not: its name would be part of the face, and nobody would have listed it."""
    headers = public_headers(root)
    for path in headers:
        with open(os.path.join(root, path), encoding="utf-8") as file:
            for include in INCLUDE.findall(file.read()):
                if include.split("/")[0] in ALLOWED and include not in headers:
                    yield f"{path}: {include} is no public header: name it in SDK_HEADERS or GPU_SDK_HEADERS, or do without it"


def types_defined_twice(root):
    """Types of one name in two headers: where both get into one program, either's functions may be called for both."""
    places = {}
    for path in sorted(sources(root), reverse=True):
        if not path.endswith(".h"):
            continue
        with open(os.path.join(root, path), encoding="utf-8") as file:
            text = file.read()
        namespace = NAMESPACE.search(text)
        if namespace:
            for name in set(TYPE.findall(text)):
                places.setdefault(f"{namespace.group(1)}::{name}", []).append(path)
    return [f"{name} is defined in {' and in '.join(paths)}: give one another name"
            for name, paths in sorted(places.items()) if len(paths) > 1]


def full_folders(root):
    counts = {}
    for path in sources(root):
        folder = os.path.dirname(path)
        counts[folder] = counts.get(folder, 0) + 1
    return [f"{folder}: {count} files, more than {MAX_FILES}" for folder, count in sorted(counts.items()) if count > MAX_FILES]


def violations(root):
    found = full_folders(root) + types_defined_twice(root)
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
            found += floor_violations(path, INCLUDE.findall(text))
            for include in INCLUDE.findall(text):
                used.setdefault(include.split("/")[0], include)
                if include.endswith(".pb.h") and not PROTOBUF_PLACES.match(path):
                    found.append(f"{path}: includes {include}: protobuf types stay out of this place")
        else:
            for label in re.finditer(LABEL, OPENED.sub("", text)):
                used.setdefault(label.group(1), label.group(0))
            declared = VISIBLE.search(text)
            want = VISIBILITY.get(room)
            if want and (not declared or want not in declared.group(1)):
                found.append(f"{path}: default_visibility is not [\"{want}\"]")
            if want:
                found += opened_wrongly(path, text)
        # Shared test data may be used by any room's tests.
        for other, what in used.items():
            if other == "tests" and is_build and "//tests/golden" in what:
                continue
            if other in ALLOWED and other not in may:
                found.append(f"{path}: {what}: {room} may not use {other}")
    return found
