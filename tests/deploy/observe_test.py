"""Rules and dashboards against a real Prometheus that scrapes a real engramd under load, and its status page in a real browser."""
import glob
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tests")]
import cases  # noqa: E402
ENGRAM, ENGRAMD, TOKEN_MAP, TOKENS = (os.path.abspath(word) for word in sys.argv[1:5])
RULES = os.path.join(ROOT, "deploy", "prometheus", "rules.yaml")
DASHBOARDS = sorted(glob.glob(os.path.join(ROOT, "deploy", "grafana", "*.json")))
WAIT_SECONDS = 60
PHONE_WIDTH = 390


def need(*tools):
    missing = [tool for tool in tools if not shutil.which(tool)]
    return unittest.skipIf(missing, f"not installed: {', '.join(missing)}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def wait_for(what, condition):
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        try:
            found = condition()
            if found:
                return found
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {WAIT_SECONDS} s")


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True).stdout


class Observed(unittest.TestCase):
    """An engramd with TLS and a load on it, and a Prometheus that scrapes it four times a second."""

    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.scratch.cleanup)
        table_set = cls.path("set")
        run(ENGRAM, "pack", "--synthetic", "--family", "deepseek-v4.1-flash", "--rows-per-head", "2000", "--token-map", TOKEN_MAP,
            "--output", table_set)
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30", "-subj",
            "/CN=localhost", "-keyout", cls.path("key"), "-out", cls.path("cert"))
        with open(cls.path("tokens"), "w", encoding="utf-8") as file:
            file.write("worker a-token-of-enough-characters\n")
        with open(cls.path("token"), "w", encoding="utf-8") as file:
            file.write("a-token-of-enough-characters")
        cls.http = f"http://127.0.0.1:{free_port()}"
        cls.start([ENGRAMD, "--table-set", table_set, "--listen", "127.0.0.1:0", "--listen", f"unix:{cls.path('s')}", "--shm-socket",
                   cls.path("m"), "--admin-listen", cls.http[7:], "--tls-cert", cls.path("cert"), "--tls-key", cls.path("key"),
                   "--token-file", cls.path("tokens"),
                   # Nobody listens there: it serves all the same, and says that it is not registered.
                   "--register", "etcd:127.0.0.1:1/engram", "--advertise", "localhost:7300"])
        wait_for("ready", lambda: get(f"{cls.http}/readyz") == "serving\n")
        cls.workers = []
        # Of the cluster's stores one is not there: so its clients have something to say of each kind.
        for target in (f"grpc:unix:{cls.path('s')}", f"shm:{cls.path('m')}", f"cluster:unix:{cls.path('s')},127.0.0.1:1"):
            cls.workers.append(f"127.0.0.1:{free_port()}")
            token = [] if target.startswith("shm:") else ["--token-file", cls.path("token")]
            cls.start([ENGRAM, "bench", *token, "--target", target, "--token-ids", TOKENS, "--seconds", "600", "--metrics-listen", cls.workers[-1]])

    @classmethod
    def path(cls, name):
        return os.path.join(cls.scratch.name, name)

    @classmethod
    def start(cls, command):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        cls.addClassCleanup(process.wait)
        cls.addClassCleanup(process.send_signal, signal.SIGKILL)

    @classmethod
    def start_prometheus(cls):
        with open(cls.path("prometheus.yaml"), "w", encoding="ascii") as file:
            yaml.safe_dump({"global": {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "500ms"}, "rule_files": [RULES],
                            "scrape_configs": [{"job_name": "engram", "static_configs": [{"targets": [cls.http[7:]]}]},
                                               {"job_name": "workers", "static_configs": [{"targets": cls.workers}]}]}, file)
        cls.prometheus = f"http://127.0.0.1:{free_port()}"
        cls.start(["prometheus", f"--config.file={cls.path('prometheus.yaml')}", f"--storage.tsdb.path={cls.path('data')}",
                   f"--web.listen-address={cls.prometheus[7:]}"])
        wait_for("Prometheus", lambda: get(f"{cls.prometheus}/-/ready"))
        wait_for("recorded", lambda: cls.query("engram:request_seconds:p99_5m"))

    @classmethod
    def query(cls, expression):
        try:
            answer = json.loads(get(f"{cls.prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": expression})))
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from error
        return answer["data"]["result"]

    def assert_data(self, expression):
        # A rate needs two scrapes and a recorded rule an evaluation: on a busy machine they come late.
        wait_for(expression, lambda: any(sample["value"][1] != "NaN" for sample in self.query(expression)))


@need("prometheus", "promtool", "openssl")
class Prometheus(Observed):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.start_prometheus()

    def test_every_panel_has_data(self):
        panels = 0
        for path in DASHBOARDS:
            with open(path, encoding="utf-8") as file:
                dashboard = json.load(file)
            names = [variable["name"] for variable in dashboard["templating"]["list"]]
            for panel in dashboard["panels"]:
                for target in panel.get("targets", []):
                    expression = target["expr"].replace("$__rate_interval", "1m")
                    for name in names:
                        expression = expression.replace("$" + name, ".*")
                    self.assert_data(expression)
                panels += panel["type"] != "row"
        self.assertGreater(panels, 40)

    def test_every_recorded_rule_has_data_and_every_alert_its_inputs(self):
        with open(RULES, encoding="utf-8") as file:
            rules = [rule for group in yaml.safe_load(file)["groups"] for rule in group["rules"]]
        for rule in rules:
            if "record" in rule:
                self.assert_data(rule["record"])
            else:
                self.query(rule["expr"])
                names = re.findall(r"\bengram_(?:server|client)_\w+|\bengram:[\w:]+|\bup\b", rule["expr"])
                self.assertTrue(names, rule)
                for name in names:
                    self.assert_data(f"count({name})")

    def test_no_alert_fires_on_one_that_is_well(self):
        alerts = json.loads(get(f"{self.prometheus}/api/v1/alerts"))["data"]["alerts"]
        self.assertEqual([alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"], [])
        healthy = json.loads(get(f"{self.prometheus}/api/v1/rules"))["data"]["groups"]
        self.assertEqual([rule["lastError"] for group in healthy for rule in group["rules"] if rule.get("lastError")], [])

    def test_metrics_keep_to_the_conventions(self):
        for address in (self.http, *(f"http://{worker}" for worker in self.workers)):
            page = get(f"{address}/metrics")
            # What the library says of the page itself is its own.
            page = re.sub(r"(?m)^(# \w+ )?exposer_.*\n", "", page)
            checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True, check=False)
            self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, ""))


@need("promtool")
class Rules(unittest.TestCase):
    def test_alerts_fire_on_what_they_are_for(self):
        done = subprocess.run(["promtool", "test", "rules", RULES.replace("rules.yaml", "rules_test.yaml")], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_every_alert_is_tested_and_stands_in_the_runbook(self):
        with open(RULES, encoding="utf-8") as file:
            alerts = {rule["alert"] for group in yaml.safe_load(file)["groups"] for rule in group["rules"] if "alert" in rule}
        with open(RULES.replace("rules.yaml", "rules_test.yaml"), encoding="utf-8") as file:
            self.assertEqual(alerts, set(re.findall(r"alertname: (\w+)", file.read())))
        with open(os.path.join(ROOT, "deploy", "RUNBOOK.md"), encoding="utf-8") as file:
            section = re.search(r"^## Alerts\n(.*?)^## ", file.read(), re.MULTILINE | re.DOTALL).group(1)
        # Of each there is one section, and of nothing else.
        self.assertEqual(sorted(alerts), sorted(re.findall(r"^###+ (.+)$", section, re.MULTILINE)))

    def test_every_alert_says_what_it_means_and_where_to_read_on(self):
        with open(RULES, encoding="utf-8") as file:
            rules = [rule for group in yaml.safe_load(file)["groups"] for rule in group["rules"] if "alert" in rule]
        for rule in rules:
            self.assertEqual(set(rule["annotations"]), {"summary", "description", "runbook"}, rule["alert"])
            self.assertEqual(rule["annotations"]["runbook"], f"deploy/RUNBOOK.md#{rule['alert'].lower()}")
            self.assertIn(rule["labels"]["severity"], ("page", "ticket"), rule["alert"])


    def test_the_recipe_gives_alerts_links_to_their_sections(self):
        with open(os.path.join(ROOT, "deploy", "RUNBOOK.md"), encoding="utf-8") as file:
            recipe, = re.findall(r"^(sed .*rules\.yaml)$", file.read(), re.MULTILINE)
        with tempfile.TemporaryDirectory() as scratch:
            shutil.copy(RULES, scratch)
            subprocess.run(["sh", "-ec", recipe], check=True, cwd=scratch)
            with open(os.path.join(scratch, "rules.yaml"), encoding="utf-8") as file:
                rules = [rule for group in yaml.safe_load(file)["groups"] for rule in group["rules"] if "alert" in rule]
        self.assertTrue(rules)
        for rule in rules:
            self.assertRegex(rule["annotations"]["runbook_url"], rf"^https://[^#]+/RUNBOOK\.md#{rule['alert'].lower()}$")
            self.assertNotIn("runbook", rule["annotations"])


class Dashboards(unittest.TestCase):
    def test_are_what_the_script_makes(self):
        with tempfile.TemporaryDirectory() as fresh:
            run(sys.executable, os.path.join(ROOT, "deploy", "grafana", "make.py"), fresh)
            self.assertEqual(len(DASHBOARDS), len(os.listdir(fresh)))
            for path in DASHBOARDS:
                with open(path, encoding="utf-8") as ours, open(os.path.join(fresh, os.path.basename(path)), encoding="utf-8") as made:
                    self.assertEqual(ours.read(), made.read(), path)

    def test_every_panel_says_what_it_shows_and_in_which_unit(self):
        for path in DASHBOARDS:
            with open(path, encoding="utf-8") as file:
                dashboard = json.load(file)
            self.assertIn("deploy/RUNBOOK.md", dashboard["description"], path)
            self.assertIn("ALERTS", dashboard["annotations"]["list"][0]["expr"], path)
            taken = set()
            for panel in dashboard["panels"]:
                place = panel["gridPos"]
                cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
                self.assertFalse(cells & taken, (path, panel["title"]))
                self.assertLessEqual(place["x"] + place["w"], 24, (path, panel["title"]))
                taken |= cells
                if panel["type"] == "row":
                    continue
                defaults = panel["fieldConfig"]["defaults"]
                self.assertGreater(len(panel["description"]), 10, (path, panel["title"]))
                self.assertTrue(panel["type"] in ("table", "state-timeline") or defaults["unit"], (path, panel["title"]))
                if panel["type"] == "stat":
                    self.assertTrue(defaults["thresholds"]["steps"], (path, panel["title"]))


@need("chromium", "openssl")
class StatusPage(Observed):
    def browse(self, *words):
        return run("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={self.path('browser')}",
                   f"--window-size={PHONE_WIDTH},1200", *words, f"{self.http}/")

    def test_shows_on_a_phone_what_the_server_is_at(self):
        time.sleep(11)  # two points of the charts
        dom = self.browse("--virtual-time-budget=2000", "--dump-dom")
        # Mapped: the worker by shared memory, and that of the cluster, whose store offers it.
        for part in ("SERVING", "deepseek-v4.1-flash", "Rows per second", "Latency of lookups", "2 mapped", "flag --listen",
                     "Lookups since the start", "process and host", socket.gethostname()):
            self.assertIn(part.lower(), dom.lower())
        path = re.search(r'id="rows".*?class="line blue" d="([^"]*)"', dom, re.DOTALL).group(1)
        self.assertGreaterEqual(len(re.findall("[ML]", path)), 2)
        self.assertNotIn("http://", re.sub(r"<code>.*?</code>", "", dom))
        picture = self.path("statusz.png")
        self.browse(f"--screenshot={picture}")
        with open(picture, "rb") as file:
            header = file.read(24)
        self.assertEqual(header[:8], b"\x89PNG\r\n\x1a\n")
        self.assertEqual(int.from_bytes(header[16:20], "big"), PHONE_WIDTH)
        self.assertGreater(os.path.getsize(picture), 20_000)


if __name__ == "__main__":
    cases.main()
