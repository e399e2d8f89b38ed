"""Runs tests/layering.py over the source tree, and over trees with a planted mistake, which it has to find."""
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import layering  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(layering.__file__)))


def planted(files):
    with tempfile.TemporaryDirectory() as root:
        for path, text in files.items():
            os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                file.write(text)
        return layering.violations(root)


class Layering(unittest.TestCase):
    def test_the_tree_is_the_real_one(self):
        for path in ("WORKSPACE", "memstore", "server", "client", "proto"):
            self.assertTrue(os.path.exists(os.path.join(ROOT, path)), path)
        self.assertGreater(len(list(layering.sources(ROOT))), 30)

    def test_no_room_uses_one_that_it_may_not(self):
        self.assertEqual(layering.violations(ROOT), [])

    def test_finds_a_wrong_include(self):
        found = planted({"memstore/base/a.cc": '#include "client/client.h"\n'})
        self.assertEqual(len(found), 1)
        self.assertIn("memstore may not use client", found[0])

    def test_finds_a_type_defined_twice(self):
        one = "namespace engram {\nclass ABSL_LOCKABLE Reader final : public Base {\n};\n}\n"
        found = planted({"memstore/base/a.h": one, "client/transport/b.h": one.replace("class ABSL_LOCKABLE", "struct alignas(64)")})
        self.assertEqual(len(found), 1)
        self.assertIn("engram::Reader is defined in memstore/base/a.h and in client/transport/b.h", found[0])
        for other in (one.replace("engram", "engram::cli"), one.replace("Reader", "Writer"), "namespace engram {\nclass Reader;\n}\n"):
            self.assertEqual(planted({"memstore/base/a.h": one, "client/transport/b.h": other}), [], other)

    def test_reads_every_kind_of_source(self):
        for path in ("memstore/base/a.h", "memstore/base/a.inc", "memstore/base/a.cu", "memstore/base/a.cuh"):
            self.assertEqual(len(planted({path: '#include "server/config/config.h"\n'})), 1, path)
        for line in ('import "memstore/a.proto";', 'import public "server/a.proto";'):
            self.assertEqual(len(planted({"proto/engram/v1/a.proto": f'syntax = "proto3";\n{line}\n'})), 1, line)
        self.assertEqual(planted({"proto/a.proto": 'import "google/protobuf/any.proto";\nimport "proto/b.proto";\n'}), [])

    def test_finds_server_and_client_together(self):
        self.assertTrue(planted({"server/a.h": '#include "client/client.h"\n'}))
        self.assertTrue(planted({"client/a.h": '#include "server/config/config.h"\n'}))

    def test_finds_a_wrong_label(self):
        found = planted({"memstore/BUILD.bazel": 'package(default_visibility = ["//visibility:private"])\n'
                                                 'cc_library(name = "a", deps = ["//server:b"])\n'})
        self.assertEqual(len(found), 1)

    def test_finds_a_room_opened_to_all(self):
        self.assertTrue(planted({"client/BUILD.bazel": 'package(default_visibility = ["//visibility:public"])\n'}))
        self.assertTrue(planted({"client/BUILD.bazel": 'package(default_visibility = ["//:client_users"])\n'}))
        private = 'package(default_visibility = ["//visibility:private"])\n'
        for label in ("//visibility:public", "//server:__subpackages__", "//:gpu_users"):
            found = planted({"client/BUILD.bazel": private + f'cc_library(name = "a", visibility = ["{label}"])\n'})
            self.assertTrue(found, label)
        for label in ("//:client_users", "//client:__subpackages__", "//tests:__subpackages__"):
            found = planted({"client/BUILD.bazel": private + f'cc_library(name = "a", visibility = ["{label}"])\n'})
            self.assertEqual(found, [], label)

    def test_the_sdks_alone_are_public(self):
        def opened(path, name):
            return planted({path: 'package(default_visibility = ["//visibility:private"])\n'
                                  'cc_library(name = "first")\n'
                                  f'cc_library(name = "{name}", visibility = ["//visibility:public"])\n'})
        self.assertEqual(opened("client/BUILD.bazel", "sdk"), [])
        self.assertEqual(opened("gpu/BUILD.bazel", "sdk"), [])
        self.assertTrue(opened("gpu/BUILD.bazel", "prefetcher"))
        self.assertTrue(opened("client/BUILD.bazel", "client"))
        self.assertTrue(opened("server/BUILD.bazel", "sdk"))

    def test_public_headers_include_public_ones_alone(self):
        self.assertIn("client/client.h", layering.public_headers(ROOT))
        self.assertIn("client/transport/transport.h", layering.public_headers(ROOT))
        self.assertIn("gpu/prefetch/prefetcher.h", layering.public_headers(ROOT))
        self.assertEqual(list(layering.face_violations(ROOT)), [])
        with tempfile.TemporaryDirectory() as root:
            os.makedirs(os.path.join(root, "client"))
            for path, text in {"client/BUILD.bazel": 'SDK_HEADERS = [\n    # Comment.\n    "client.h",\n]\n',
                               "client/client.h": '#include "absl/a.h"\n#include "client/inner.h"\n'}.items():
                with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                    file.write(text)
            self.assertEqual(len(list(layering.face_violations(root))), 1)

    def test_the_outside_programs_know_every_public_header(self):
        included = set()
        for name in ("both_spellings.cc", "prefetch_once.cc"):
            with open(os.path.join(ROOT, "tests/sdk_workspace", name), encoding="utf-8") as file:
                included |= set(layering.INCLUDE.findall(file.read()))
        self.assertLessEqual({f"engram/{path}" for path in layering.public_headers(ROOT)}, included)

    def test_finds_a_wing_that_uses_one_above_it(self):
        found = planted({"memstore/base/a.h": '#include "memstore/os/thread.h"\n'})
        self.assertEqual(len(found), 1)
        self.assertIn("memstore/base may not use memstore/os", found[0])
        self.assertEqual(planted({"memstore/os/a.h": '#include "memstore/base/clock.h"\n'}), [])
        self.assertEqual(planted({"memstore/base/a_test.cc": '#include "memstore/os/thread.h"\n'}), [])

    def test_finds_a_wing_that_nobody_named(self):
        self.assertIn("no wing", planted({"server/attic/a.cc": ""})[0])

    def test_finds_a_folder_that_is_too_full(self):
        files = {f"gpu/device/a{i}.cc": "" for i in range(layering.MAX_FILES + 1)}
        self.assertEqual(len(planted(files)), 1)

    def test_the_floors_have_no_stairs_that_lead_in_a_circle(self):
        order = []
        left = {wing: set(below) for wing, below in layering.FLOORS.items()}
        while left:
            free = [wing for wing, below in left.items() if below <= set(order)]
            self.assertTrue(free, left)
            order += free
            for wing in free:
                del left[wing]

    def test_finds_protobuf_in_the_core(self):
        self.assertTrue(planted({"memstore/store/a.cc": '#include "proto/engram/v1/lookup.pb.h"\n'}))


if __name__ == "__main__":
    unittest.main()
