"""Tests that run the real programs against small table sets."""

def integration_test(name, grpc = False, data = [], deps = [], tags = []):
    """A test of NAME.cc.

    Args:
      name: the test's, and its source's without .cc.
      grpc: whether it speaks to engramd by hand, with the generated stubs.
      data: as of cc_test.
      deps: beside what every one of these tests needs.
      tags: as of cc_test.
    """
    stubs = ["//proto/engram/v1:lookup_cc_proto", "@system//:grpc++"]
    native.cc_test(
        name = name,
        size = "medium",
        srcs = [name + ".cc"],
        data = data,
        tags = tags,
        deps = deps + (stubs if grpc else []) + [
            ":programs",
            ":small_sets",
            "//client",
            "@system//:absl",
            "@system//:gmock",
            "@system//:gtest_main",
        ],
    )
