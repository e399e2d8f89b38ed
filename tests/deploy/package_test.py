"""The Debian package: what is in it, and its systemd unit: valid, hardened, and with every system call that engramd makes."""
import gzip
import mmap
import os
import re
import shutil
import signal
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
# systemd's scale is 0 (nothing can go wrong) to 10, times ten. The unit reaches 1.7; a service with a network and devices
# for RDMA gets little lower.
MOST_EXPOSURE = 20
WAIT_SECONDS = 60


def output(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def need(*tools):
    missing = [tool for tool in tools if not shutil.which(tool)]
    return unittest.skipIf(missing, f"not installed: {', '.join(missing)}")


def built_with_address_sanitizer(program):
    with open(program, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return text.find(b"libasan.so") >= 0


def unit_lines(unit, name):
    with open(unit, encoding="utf-8") as file:
        return re.findall(rf"^{name}=(.*)$", file.read(), re.MULTILINE)


def allowed_system_calls(unit):
    """What SystemCallFilter's lines leave, read as systemd reads them: one after the other."""
    def of(word):
        if not word.startswith("@"):
            return {word}
        lines = output("systemd-analyze", "syscall-filter", "--no-pager", word).splitlines()[1:]
        return set().union(*(of(line.strip()) for line in lines if line.strip() and not line.strip().startswith("#")))
    allowed = set()
    for line in unit_lines(unit, "SystemCallFilter"):
        names = set().union(*map(of, line.lstrip("~").split()))
        allowed = allowed - names if line.startswith("~") else allowed | names
    return allowed


@need("dpkg-deb", "dpkg-shlibdeps", "strip")
class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        bin_directory = os.path.join(cls.scratch.name, "bin")
        os.mkdir(bin_directory)
        for program in (ENGRAM, ENGRAMD):
            os.symlink(program, os.path.join(bin_directory, os.path.basename(program)))
        cls.package = output(os.path.join(ROOT, "deploy", "debian", "build.sh"), "--bin", bin_directory, "--output",
                             cls.scratch.name).strip()
        cls.tree = os.path.join(cls.scratch.name, "tree")
        subprocess.run(["dpkg-deb", "--raw-extract", cls.package, cls.tree], check=True)
        cls.unit = os.path.join(cls.tree, "lib/systemd/system/engramd.service")

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def test_brings_programs_that_run(self):
        for program in ("engramd", "engram"):
            self.assertIn("Usage:", output(os.path.join(self.tree, "usr/bin", program), "--help"))

    def test_brings_the_known_token_maps(self):
        for name in ("deepseek_v3_token_map.i32", "deepseek_v41_token_map.i32"):
            with open(os.path.join(self.tree, "usr/share/engram", name), "rb") as brought, \
                    open(os.path.join(ROOT, "tests/golden", name), "rb") as known:
                self.assertEqual(brought.read(), known.read(), name)

    def test_brings_manual_pages_of_every_flag(self):
        for program, section, command in (("engramd", 8, []), ("engram", 1, ["lookup"]), ("engram", 1, ["admin", "publish"])):
            with gzip.open(os.path.join(self.tree, f"usr/share/man/man{section}/{program}.{section}.gz"), "rt") as file:
                page = file.read()
            self.assertTrue(page.startswith(f".TH {program.upper()} {section} "), page[:80])
            text = output(os.path.join(self.tree, "usr/bin", program), *command, "--help")
            sections = re.findall(r"^\.SH (.*)$", page, re.MULTILINE)
            for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", '"EXIT STATUS"', "ENVIRONMENT", "EXAMPLES", '"SEE ALSO"'):
                self.assertIn(section, sections)
            for flag in set(re.findall(r"^  (?:-h,)?(--[a-z0-9-]+)", text, re.MULTILINE)):
                self.assertIn(flag.replace("-", "\\-"), page)

    @need("groff")
    def test_its_manual_pages_are_pages(self):
        for name in ("man1/engram.1.gz", "man8/engramd.8.gz"):
            with gzip.open(os.path.join(self.tree, "usr/share/man", name), "rb") as file:
                done = subprocess.run(["groff", "-man", "-Tutf8", "-Wbreak", "-z"], input=file.read(), capture_output=True, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, b""), name)

    def test_brings_completion_that_bash_reads(self):
        for program in ("engramd", "engram"):
            path = os.path.join(self.tree, "usr/share/bash-completion/completions", program)
            subprocess.run(["bash", "-n", path], check=True)
            with open(path, encoding="utf-8") as file:
                self.assertIn(f"complete -o default -F _{program} {program}\n", file.read())

    def test_brings_what_clients_and_watchers_need(self):
        for source, place in (("proto/engram/v1", "usr/share/engram/proto/engram/v1"), ("deploy/prometheus", "usr/share/engram/prometheus"),
                              ("deploy/grafana", "usr/share/engram/grafana")):
            brought = set(os.listdir(os.path.join(self.tree, place)))
            there = {name for name in os.listdir(os.path.join(ROOT, source)) if name.endswith((".proto", ".json")) or name == "rules.yaml"}
            self.assertEqual(brought, there)
        pages = os.path.join(self.tree, "usr/share/doc/engram")
        self.assertEqual(set(os.listdir(pages)), {"DEPLOY.md", "FORMATS.md", "README.md", "RUNBOOK.md"})
        for name in os.listdir(pages):
            with open(os.path.join(pages, name), encoding="utf-8") as file:
                links = re.findall(r"\]\((?!https?:|#)([^)]+)\)", file.read())
            self.assertEqual([link for link in links if not os.path.exists(os.path.join(pages, link))], [], name)

    def test_its_manual_pages_name_pages_that_it_brings(self):
        for name in ("man1/engram.1.gz", "man8/engramd.8.gz"):
            with gzip.open(os.path.join(self.tree, "usr/share/man", name), "rt") as file:
                named = re.findall(r"/usr/share/doc/engram/[A-Z]+\.md", file.read())
            self.assertTrue(named, name)
            for page in named:
                self.assertTrue(os.path.exists(self.tree + page), page)

    @need("protoc")
    def test_its_protobuf_files_are_whole(self):
        root = os.path.join(self.tree, "usr/share/engram")
        files = [os.path.join("proto/engram/v1", name) for name in os.listdir(os.path.join(root, "proto/engram/v1"))]
        subprocess.run(["protoc", "-I", root, "--descriptor_set_out", "/dev/null", *files], check=True)

    def test_names_the_packages_that_the_programs_need(self):
        depends = output("dpkg-deb", "-f", self.package, "Depends")
        for library in ("libgrpc++", "libc6", "libssl3", "libibverbs1", "libicu72"):
            self.assertIn(library, depends)

    def test_everything_is_roots_and_nobody_else_writes(self):
        for line in output("dpkg-deb", "--contents", self.package).splitlines():
            mode, owner, *_ = line.split()
            self.assertEqual(owner, "root/root", line)
            self.assertNotIn("w", mode[4:] if mode[0] != "l" else "", line)

    def test_what_an_administrator_changes_is_a_conffile(self):
        with open(os.path.join(self.tree, "DEBIAN/conffiles"), encoding="utf-8") as file:
            self.assertEqual(file.read().split(), ["/etc/engram/engramd.textproto"])

    def test_scripts_are_shell(self):
        for script in ("postinst", "prerm", "postrm"):
            subprocess.run(["sh", "-n", os.path.join(self.tree, "DEBIAN", script)], check=True)

    @need("systemd-analyze")
    def test_systemd_takes_the_unit(self):
        # Where the package is not installed its programs are elsewhere.
        with open(self.unit, encoding="utf-8") as file:
            text = file.read()
        self.assertIn("/usr/bin/engramd", text)
        here = os.path.join(self.scratch.name, "engramd.service")
        with open(here, "w", encoding="utf-8") as file:
            file.write(text.replace("/usr/bin/", self.tree + "/usr/bin/"))
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", here], check=False, stderr=subprocess.PIPE, text=True)
        said = [line for line in done.stderr.splitlines() if "engramd" in line]
        self.assertEqual((done.returncode, said), (0, []))

    @need("systemd-analyze")
    def test_the_unit_is_hardened(self):
        done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager",
                               f"--threshold={MOST_EXPOSURE}", self.unit], check=False, stdout=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_the_unit_tells_engramd_nothing_that_it_does_not_know(self):
        command = unit_lines(self.unit, "ExecStart") + unit_lines(self.unit, "ExecStartPre")
        known = set(re.findall(r"--[a-z0-9-]+", output(ENGRAMD, "--help")))
        for line in command:
            self.assertLessEqual(set(re.findall(r"(?<=\s)--[a-z0-9-]+", line)), known)

    def test_the_unit_makes_the_place_of_state_that_the_configuration_names(self):
        with open(os.path.join(self.tree, "etc/engram/engramd.textproto"), encoding="utf-8") as file:
            directory, = re.findall(r'^state_dir: "(.*)"$', file.read(), re.MULTILINE)
        made, = unit_lines(self.unit, "StateDirectory")
        self.assertIn(directory, [f"/var/lib/{name}" for name in made.split()])
        read_only = " ".join(unit_lines(self.unit, "ReadOnlyPaths")).split()
        self.assertFalse([path for path in read_only if f"{directory}/".startswith(f"{path}/")])

    @need("systemd-analyze", "strace")
    @unittest.skipIf(built_with_address_sanitizer(ENGRAMD), "AddressSanitizer looks for leaks by ptrace, which strace has taken")
    def test_the_unit_allows_every_system_call_that_engramd_makes(self):
        allowed = allowed_system_calls(self.unit)
        self.assertIn("mbind", allowed)
        self.assertNotIn("mount", allowed)
        made = self.system_calls_made()
        self.assertGreater(len(made), 30)
        self.assertEqual(made - allowed, set())

    def system_calls_made(self):
        """Of an engramd that loads, serves over TCP and shared memory, is watched and scrubbed, and is told to stop."""
        table_set, trace, shm, log, admin = (os.path.join(self.scratch.name, name) for name in ("set", "trace", "shm", "log", "admin"))
        programs.pack_synthetic(ENGRAM, "deepseek-v4.1-flash", 500, TOKEN_MAP, table_set)
        with open(log, "w", encoding="utf-8") as file:
            strace = subprocess.Popen(
                ["strace", "-f", "-qq", "--signal=none", "-o", trace, ENGRAMD, "--table-set", table_set, "--listen",
                 "127.0.0.1:0", "--shm-socket", shm, "--numa", "interleave", "--admin-listen", "127.0.0.1:0",
                 "--admin-grpc-listen", f"unix:{admin}"], stderr=file, env={**os.environ, "NOTIFY_SOCKET": "/nowhere"})
        try:
            address = self.wait_for(log, r"listening on (127\S+)", strace)
            pages = self.wait_for(log, r"at (http://\S+)", strace)
            for page in ("metrics", "readyz", "statusz"):
                with urllib.request.urlopen(f"{pages}/{page}", timeout=WAIT_SECONDS) as answer:
                    self.assertEqual(answer.status, 200)
            subprocess.run([ENGRAM, "admin", "scrub", "--admin", f"unix:{admin}"], check=True, stdout=subprocess.DEVNULL)
            for target in (f"grpc:{address}", f"shm:{shm}"):
                subprocess.run([ENGRAM, "lookup", "--target", target, "--token-ids", TOKENS, "--output", "-"], check=True,
                               stdout=subprocess.DEVNULL)
            with open(f"/proc/{strace.pid}/task/{strace.pid}/children", encoding="ascii") as file:
                os.kill(int(file.read().split()[0]), signal.SIGTERM)
            self.assertEqual(strace.wait(WAIT_SECONDS), 0)
        finally:
            if strace.poll() is None:
                strace.kill()
                strace.wait()
        with open(trace, encoding="utf-8", errors="replace") as file:
            return set(re.findall(r"^\d+ +(\w+)\(", file.read(), re.MULTILINE))

    def wait_for(self, path, pattern, process):
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            with open(path, encoding="utf-8") as file:
                found = re.search(pattern, file.read())
            if found:
                return found.group(1)
            time.sleep(0.05)
        with open(path, encoding="utf-8") as file:
            raise AssertionError(f"engramd does not serve:\n{file.read()}")


if __name__ == "__main__":
    cases.main()
