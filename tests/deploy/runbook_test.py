"""deploy's pages: links and paths lead somewhere, and the certificates' recipe makes ones that hold. Flags of these and
of README are real."""
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tests")]
import cases  # noqa: E402
ENGRAM, ENGRAMD = (os.path.abspath(word) for word in sys.argv[1:3])
PAGES = [os.path.join(ROOT, "deploy", name) for name in ("README.md", "RUNBOOK.md")]
# Flags of other programs that the pages name.
OTHERS = {"--output", "--now", "--namespace", "--create-namespace", "--set", "--from-file", "--values", "--local-dir", "--observe", "--cluster", "--previous",
          "--runbook-base-url", "--man-page", "--bash-completion", "--prefix"}


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def anchors(text):
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def known_flags():
    flags = set()
    commands = [[ENGRAMD], [ENGRAM]]
    while commands:
        command = commands.pop()
        text = subprocess.run([*command, "--help"], check=True, stdout=subprocess.PIPE, text=True).stdout
        flags |= set(re.findall(r"(?<![\w-])--[a-z0-9-]+", text))
        below = re.search(r"^Commands:\n((?: .*\n)*)", text, re.MULTILINE)
        commands += [[*command, name] for name in re.findall(r"^  ([a-z-]+)\s", below.group(1), re.MULTILINE)] if below else []
    return flags


class Pages(unittest.TestCase):
    def test_links_lead_somewhere(self):
        for page in PAGES:
            text = read(page)
            for anchor in re.findall(r"\]\(#([^)]+)\)", text):
                self.assertIn(anchor, anchors(text), page)

    def test_paths_are_there(self):
        for page in PAGES:
            for path in re.findall(r"`((?:deploy|tests|tools|proto|memstore|server)/[\w./-]+)`", read(page)):
                self.assertTrue(os.path.exists(os.path.join(ROOT, path)), f"{page}: {path}")

    def test_flags_are_real(self):
        known = known_flags() | OTHERS
        for page in [*PAGES, os.path.join(ROOT, "README.md")]:
            self.assertEqual(set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", read(page))) - known, set(), page)

    def test_the_runbook_has_every_event_of_the_log(self):
        events = {"message", "lookup_answered", "lookup_refused", "lookup_failed"}
        for path in glob.glob(os.path.join(ROOT, "server", "**", "*.cc"), recursive=True):
            if not path.endswith("_test.cc"):
                events |= set(re.findall(r'(?:spdlog::level::\w+,|AdminMethod::\w+,)\s*"(\w+)"', read(path)))
        self.assertGreater(len(events), 30)
        section = re.search(r"^### Events in the log\n(.*?)^### ", read(PAGES[1]), re.MULTILINE | re.DOTALL).group(1)
        self.assertEqual({event for event in events if f"`{event}`" not in section}, set())

    @unittest.skipUnless(shutil.which("openssl"), "openssl is not here")
    def test_certificates_recipe(self):
        recipe = re.search(r"^## Certificates.*?^```sh\n(.*?)^```", read(PAGES[0]), re.MULTILINE | re.DOTALL).group(1)
        with tempfile.TemporaryDirectory() as folder:
            shell = lambda script: subprocess.run(["sh", "-e", "-c", script], cwd=folder, text=True, stdout=subprocess.PIPE,
                                                  stderr=subprocess.STDOUT, check=False)
            made = shell(recipe)
            self.assertEqual(made.returncode, 0, made.stdout)
            for name in ("tls.crt", "worker-a.crt", "operator.crt"):
                self.assertIn(f"{name}: OK", made.stdout)
            verify = "openssl verify -CAfile ca.crt -purpose "
            for wrong in ("sslserver -verify_hostname other.example tls.crt", "sslclient tls.crt", "sslserver worker-a.crt"):
                self.assertNotEqual(shell(verify + wrong).returncode, 0, wrong)


if __name__ == "__main__":
    cases.main()
