"""The OCI image: builds from Debian's packages, holds nothing to break in with, and serves as a user that owns nothing.

Skips where it cannot be built: no root, no mmdebstrap or buildah, no Debian mirror.
"""
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tests")]
import cases  # noqa: E402
import programs  # noqa: E402

ENGRAM, ENGRAMD, TOKEN_MAP, TOKENS = (os.path.abspath(word) for word in sys.argv[1:5])
USER = 65532
WAIT_SECONDS = 60
MIRROR = "http://deb.debian.org/debian/dists/bookworm/Release"


def reason_to_skip():
    if os.geteuid() != 0:
        return "building an image takes root here"
    missing = [tool for tool in ("mmdebstrap", "buildah", "dpkg-shlibdeps") if not shutil.which(tool)]
    if missing:
        return f"not installed: {', '.join(missing)}"
    try:
        with urllib.request.urlopen(MIRROR, timeout=10):
            return None
    except OSError as error:
        return f"no Debian mirror: {error}"


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def buildah(*words):
    return output("buildah", *words)


def children(pid):
    """All processes below one."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
            for child in map(int, file.read().split()):
                found += [child, *children(child)]
    return found


class Image(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        reason = reason_to_skip()
        if reason:
            raise unittest.SkipTest(reason)
        cls.scratch = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.scratch.cleanup)
        # buildah's store is a directory of ours: whatever images the machine has stay as they are.
        storage = cls.path("storage.conf")
        with open(storage, "w", encoding="ascii") as file:
            file.write(f'[storage]\ndriver = "vfs"\ngraphroot = "{cls.path("graph")}"\nrunroot = "{cls.path("run")}"\n')
        os.environ.update(CONTAINERS_STORAGE_CONF=storage)
        bin_directory = cls.path("bin")
        os.mkdir(bin_directory)
        for program in (ENGRAM, ENGRAMD):
            os.symlink(program, os.path.join(bin_directory, os.path.basename(program)))
        tag = output(os.path.join(ROOT, "deploy", "image", "build.sh"), "--bin", bin_directory).splitlines()[-1]
        cls.container = buildah("from", tag)
        cls.root = buildah("mount", cls.container)
        cls.addClassCleanup(buildah, "rm", cls.container)
        cls.config = json.loads(buildah("inspect", "--type", "image", tag))["OCIv1"]["config"]

    @classmethod
    def path(cls, name):
        return os.path.join(cls.scratch.name, name)

    def files(self):
        for directory, _, names in os.walk(self.root):
            for name in names:
                yield os.path.join(directory, name)

    def test_runs_engramd_as_a_user(self):
        self.assertEqual(self.config["User"], f"{USER}:{USER}")
        self.assertEqual(self.config["Entrypoint"], ["/usr/bin/engramd"])
        self.assertEqual(set(self.config["ExposedPorts"]), {"7300/tcp", "7301/tcp"})

    def test_has_a_place_for_state_that_its_user_may_write(self):
        self.assertEqual(set(self.config["Volumes"]), {"/var/lib/engramd"})
        place = os.stat(os.path.join(self.root, "var/lib/engramd"))
        self.assertEqual((place.st_uid, place.st_gid, stat.S_IMODE(place.st_mode)), (USER, USER, 0o770))

    def test_holds_two_programs_and_no_shell(self):
        programs_there = {os.path.relpath(path, self.root) for path in self.files()
                          if os.access(path, os.X_OK) and not os.path.islink(path) and ".so" not in path}
        self.assertEqual(programs_there, {"usr/bin/engramd", "usr/bin/engram"})

    def test_brings_the_known_token_maps(self):
        for name in ("deepseek_v3_token_map.i32", "deepseek_v41_token_map.i32"):
            with open(os.path.join(self.root, "usr/share/engram", name), "rb") as brought, \
                    open(os.path.join(ROOT, "tests/golden", name), "rb") as known:
                self.assertEqual(brought.read(), known.read(), name)

    def test_nothing_gives_privileges_or_can_be_written(self):
        for path in self.files():
            mode = os.lstat(path).st_mode
            if not stat.S_ISLNK(mode):
                self.assertFalse(mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWOTH), path)
                self.assertEqual(os.lstat(path).st_uid, 0, path)

    def test_says_which_packages_it_is_made_of(self):
        names = os.listdir(os.path.join(self.root, "var/lib/dpkg/status.d"))
        for package in ("libc6", "libgrpc++1.51", "libssl3"):
            self.assertIn(package, names)

    def test_serves_over_grpc_and_to_another_container_over_shared_memory(self):
        tables, sockets = self.path("tables"), self.path("sockets")
        os.mkdir(tables)
        os.mkdir(sockets)
        os.chown(sockets, USER, USER)
        os.chmod(self.scratch.name, 0o755)
        programs.pack_synthetic(ENGRAM, "deepseek-v4.1-flash", 500, TOKEN_MAP, os.path.join(tables, "small"))
        port = programs.free_port()
        mounts = ("--volume", f"{tables}:/tables:ro", "--volume", f"{sockets}:/run/engram",
                  "--volume", f"{os.path.dirname(os.path.realpath(TOKENS))}:/tokens:ro")
        run = ("buildah", "run", "--isolation", "chroot", *mounts, self.container, "--")
        with open(self.path("log"), "w+", encoding="utf-8") as log:
            server = subprocess.Popen([*run, "/usr/bin/engramd", "--table-set", "/tables/small", "--listen",
                                       f"127.0.0.1:{port}", "--shm-socket", "/run/engram/shm"], stdout=log, stderr=log)
            try:
                words = ("--token-ids", TOKENS, "--output", "-", "--attach-timeout", str(WAIT_SECONDS))
                self.quiet(ENGRAM, "lookup", "--target", f"grpc:127.0.0.1:{port}", *words)
                self.quiet(*run, "/usr/bin/engram", "lookup", "--target", "shm:/run/engram/shm", "--token-ids",
                           "/tokens/" + os.path.basename(TOKENS), "--output", "-")
                engramd = next(pid for pid in children(server.pid)
                               if os.path.basename(os.readlink(f"/proc/{pid}/exe")) == "engramd")
                self.assertEqual(os.stat(f"/proc/{engramd}").st_uid, USER)
                os.kill(engramd, signal.SIGTERM)
                self.assertEqual(server.wait(WAIT_SECONDS), 0)
            finally:
                if server.poll() is None:
                    for pid in [*children(server.pid), server.pid]:
                        os.kill(pid, signal.SIGKILL)
                    server.wait()
                log.seek(0)
                sys.stderr.write(log.read())

    def quiet(self, *command):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=2 * WAIT_SECONDS)


if __name__ == "__main__":
    cases.main()
