"""Each check of tools/ finds a planted mistake, and none where there is none."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(HERE)
sys.path[:0] = [HERE, os.path.join(ROOT, "tests")]
import cases  # noqa: E402
import check_commits  # noqa: E402
import check_habits  # noqa: E402
import check_links  # noqa: E402
import check_locks  # noqa: E402
import check_sizes  # noqa: E402
import limits  # noqa: E402


class Planted(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.root = scratch.name

    def plant(self, path, text):
        at = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(at), exist_ok=True)
        with open(at, "w", encoding="utf-8") as file:
            file.write(text)
        return at


class Commits(unittest.TestCase):
    def test_subjects(self):
        self.assertEqual(check_commits.wrong("Give each transport a folder"), [])
        self.assertEqual(check_commits.wrong("x" * 72), [])
        for subject in ("x" * 73, "Move files; mend links", "Move files."):
            self.assertEqual(len(check_commits.wrong(subject)), 1, subject)


class Links(Planted):
    def wrong(self, text):
        self.plant("README.md", text)
        return list(check_links.wrong(self.root, "README.md", set(check_links.file_names(self.root))))

    def test_links(self):
        self.plant("docs/b.md", "# Two words: `x`\n```\n# no heading\n```\n")
        for link in ("docs/b.md", "docs/", "docs/b.md#two-words-x", "#here", "https://example.org/x"):
            self.assertEqual(self.wrong(f"# Here\n[t]({link})\n"), [], link)
        for link in ("b.md", "docs/c.md", "docs/b.md#no-heading", "#there"):
            self.assertEqual(len(self.wrong(f"# Here\n\ntext [t]({link})\n")), 1, link)
        self.assertIn("README.md:3: ", self.wrong("# Here\n\n![i](none.png)\n")[0])

    def test_files_in_code(self):
        self.plant("client/transport/a.h", "")
        self.plant("client/BUILD.bazel", "")
        for word in ("client/transport/a.h", "client/", "client/transport", "client/transport/a", "a.h", "a.h --flag", "x_test.cc",
                     "/etc/none/x.h", "elsewhere/x.h", "bin/engram", "a + b/c.h", "notes.txt"):
            self.assertEqual(self.wrong(f"`{word}`\n"), [], word)
        for word in ("client/a.h", "client/none/", "client/transport/b", "b.h", "client/a.sh --flag"):
            self.assertEqual(len(self.wrong(f"`{word}`\n")), 1, word)


class Limits(Planted):
    def test_a_number_only_goes_down(self):
        path = self.plant("limits.txt", "# A comment: 7\na kind: 3\nanother: 0\n")
        limits.lower({"a kind": 5, "another": 0}, path)
        self.assertEqual(limits.read(path), {"a kind": 3, "another": 0})
        limits.lower({"a kind": 1}, path)
        self.assertEqual(limits.read(path), {"a kind": 1, "another": 0})

    def test_one_more_is_one_too_many(self):
        self.assertFalse(limits.judge("kind", ["x", "y"], {"kind": 2}))
        self.assertTrue(limits.judge("kind", ["x", "y", "z"], {"kind": 2}))
        self.assertTrue(limits.judge("a kind that has no limit", ["x"], {}))


class Sizes(Planted):
    @unittest.skipIf(shutil.which("ctags") is None, "ctags is not installed (universal-ctags)")
    def test_functions(self):
        body = "  f();\n" * 69
        paths = [self.plant("a.cc", f"void Fits() {{\n{body[7:]}}}\n\nvoid TooLong(int a,\n  int b) {{\n{body}}}\n"),
                 self.plant("b.cu", f"void Kernel() {{\n{body}}}\n"),
                 self.plant("c.py", "def long():\n" + "    f()\n" * 70),
                 self.plant("d.go", f"package d\n\nfunc long() {{\n{body}}}\n")]
        found = [line.removeprefix(self.root) for line in check_sizes.long_functions(paths)]
        self.assertEqual(found, ["/a.cc:72 TooLong: 72 lines", "/b.cu:1 Kernel: 71 lines", "/d.go:3 long: 71 lines",
                                 "/c.py:1 long: 71 lines"])

    @unittest.skipIf(shutil.which("ctags") is None, "ctags is not installed (universal-ctags)")
    def test_a_declaration_begins_before_its_name(self):
        body = "  f();\n" * 67
        paths = [self.plant("a.cc", f"// A comment.\ntemplate <typename T>\nstd::vector<T>  // of all\nLong(T) {{\n{body}  g();\n}}\n"
                            f"int x = 0;\nvoid\nFits() {{\n{body}}}\n"),
                 self.plant("b.py", "@one(\n    1)\ndef long():\n" + "    f()\n" * 68)]
        found = [line.removeprefix(self.root) for line in check_sizes.long_functions(paths)]
        self.assertEqual(found, ["/a.cc:2 Long: 72 lines", "/b.py:1 long: 71 lines"])

    def test_shell(self):
        body = "  f <<EOF\n}\nEOF\n" * 22 + "  f\n  f\n"
        for name, first in (("a.sh", ""), ("run", "#!/usr/bin/env bash\n"), ("postinst", "#!/bin/sh\n")):
            path = self.plant(name, f"{first}say() {{ echo; }}\nlong() {{\n{body}  f\n}} >x\nfits() {{\n{body}}}\n")
            line = 2 + first.count("\n")
            self.assertEqual(list(check_sizes.long_functions([path])), [f"{path}:{line} long: 71 lines"])
        for text in ("a() {\n  f\n  g; }\nb() {\n  f\n}\n", "a() {\n  f\n"):
            with self.assertRaisesRegex(check_sizes.NoEnd, ":1 a: no closing brace"):
                list(check_sizes.long_functions([self.plant("c.sh", text)]))

    @unittest.skipIf(shutil.which("ctags") is None, "ctags is not installed (universal-ctags)")
    def test_a_function_without_an_end(self):
        with self.assertRaisesRegex(check_sizes.NoEnd, "a.cc:1 F: ctags finds no end"):
            list(check_sizes.long_functions([self.plant("a.cc", "void F() {\n  g();\n")]))

    def test_what_is_a_source(self):
        for name, text in (("a.md", ""), ("WORKSPACE", "x"), ("a.yaml", ""), ("BUILD.bazel", "")):
            self.assertIsNone(check_sizes.kind_of(self.plant(name, text)), name)
        self.assertIs(check_sizes.kind_of(self.plant("tool", "#!/usr/bin/env python3\n")), check_sizes.PYTHON)

    def test_files(self):
        paths = [self.plant("a.cc", "\n" * 500), self.plant("b.cc", "\n" * 501)]
        self.assertEqual(list(check_sizes.long_files(paths)), [f"{paths[1]}: 501 lines"])


class Habits(unittest.TestCase):
    def counts(self, path, text):
        return {kind: len(lines) for kind, lines in check_habits.places(path, text).items() if lines}

    def test_clocks(self):
        for line in ("x = absl::Now();", "std::chrono::steady_clock::now();", "absl::SleepFor(x);",
                     "std::this_thread::sleep_for(x);", "using Watch = std::chrono::steady_clock;", "auto t = Clock::now();",
                     "clock_gettime(CLOCK_MONOTONIC, &t);", "nanosleep(&t, nullptr);", "gpr_now(GPR_CLOCK_REALTIME);"):
            self.assertEqual(self.counts("server/a.cc", line), {"direct clock calls": 1}, line)
            for path in ("memstore/base/clock.cc", "server/a_test.cc", "server/a_benchmark.cc", "tests/soak/a.cc",
                         "gpu/testing/a.cc"):
                self.assertEqual(self.counts(path, line), {}, path)
        self.assertEqual(self.counts("server/a.cc", "clock_->SleepFor(span);"), {})
        self.assertEqual(self.counts("server/a.cc", "clock.Now();  // never absl::Now()"), {})

    def test_locks(self):
        self.assertEqual(self.counts("server/a.h", "std::mutex mutex_;\nint a_;  // guarded by mutex_\n"),
                         {"std::mutex": 1, "locks in comments": 1})
        self.assertEqual(self.counts("server/a.h", "void F();  // needs mutex_\n"), {"locks in comments": 1})
        self.assertEqual(self.counts("server/a_test.cc", "std::lock_guard l(m);  // guarded by m\n"), {"locks in comments": 1})
        self.assertEqual(self.counts("server/a.h", "int a_ ABSL_GUARDED_BY(mutex_);\n"), {})
        for text in ("absl::Mutex m;", "pthread_mutex_t m;", "absl::CondVar c;", "std::shared_lock l(m);"):
            self.assertEqual(self.counts("server/a.cc", text), {"std::mutex": 1}, text)
        for text in ("int a;  // changed under mutex_\n", "// Called with the lock\n  // held.\n", "/* mutex_ guards\n * it */",
                     "// Read it under the\n// transport's lock.", "int a;  // its owner guards it\n", "// The lock is\n// held.\n"):
            self.assertEqual(self.counts("server/a.h", text), {"locks in comments": 1}, text)
        for text in ("// Takes the lock.\n", "// It is held. The lock is another's.\n", "x();  /* absl::Mutex */"):
            self.assertEqual(self.counts("server/a.h", text), {}, text)

    def test_exceptions(self):
        text = "// All is called under the exchange's lock.\n// Changed under mutex_.\n"
        path, used = "client/transport/rdma/rdma_tickets.h", set()
        found = check_habits.places(path, text, used)["locks in comments"]
        self.assertEqual((len(found), len(used)), (1, 1))
        self.assertEqual(sum("rdma_tickets.h" in line for line in check_habits.unused(used)), 0)
        self.assertEqual(sum("rdma_tickets.h" in line for line in check_habits.unused(set())), 1)


@unittest.skipIf(shutil.which("clang++") is None, "clang++ is not installed (clang)")
class Locks(Planted):
    def check(self, statement):
        path = self.plant("a.cc", '#include "memstore/base/mutex.h"\n'
                          "struct A {\n  engram::Mutex mutex;\n  int value ABSL_GUARDED_BY(mutex) = 0;\n};\n"
                          f"int Read(A& a) {{ {statement} }}\n")
        entry = {"directory": ROOT, "file": path,
                 "arguments": ["/usr/bin/gcc", "-std=c++20", "-iquote", ".", "-Wall", "-Werror", "-MD", "-MF", "x.d",
                               "-frandom-seed=x", "-c", path, "-o", "x.o"]}
        return check_locks.check(entry)

    def test_a_member_read_without_its_lock(self):
        code, text = self.check("return a.value;")
        self.assertNotEqual(code, 0)
        self.assertIn("requires holding mutex", text)
        self.assertEqual(self.check("engram::MutexLock lock(a.mutex); return a.value;"), (0, ""))


class Words(unittest.TestCase):
    def test_a_check_that_is_none(self):
        done = subprocess.run([os.path.join(HERE, "check.sh"), "speling"], check=False, stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("'speling' is none of: commits links", done.stderr)


if __name__ == "__main__":
    cases.main()
