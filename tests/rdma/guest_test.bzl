"""Tests that run on real verbs, in a QEMU guest with a software RDMA device."""

def guest_test(name, binary, args = [], data = [], size = "medium"):
    """Runs a GoogleTest binary in the guest: one boot for all of its cases.

    Args:
      name: the test's.
      binary: a cc_binary; its cases are counted as any test's.
      args: of the binary.
      data: what the binary runs or reads.
      size: as of any test; the boot itself takes 5 to 30 s.
    """
    native.sh_test(
        name = name,
        size = size,
        srcs = ["in_guest.sh"],
        args = ["$(rootpath %s)" % binary] + args,
        data = data + [
            binary,
            "guest.sh",
        ],
        # QEMU needs the host's devices and file tree as they are, and both cores: with a test beside
        # it an emulated second takes several.
        tags = [
            "exclusive",
            "local",
            "rdma",
        ],
    )
