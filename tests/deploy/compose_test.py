"""The compose files: what they mount is there, and engramd has their flags."""
import os
import re
import subprocess
import sys
import unittest

import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tests")]
import cases  # noqa: E402
COMPOSE = os.path.join(ROOT, "deploy", "compose")
ENGRAMD = os.path.abspath(sys.argv[2])


def load(name):
    with open(os.path.join(COMPOSE, name), encoding="utf-8") as file:
        return yaml.safe_load(file)


class Compose(unittest.TestCase):
    def setUp(self):
        self.services = load("compose.yaml")["services"]

    def test_what_it_mounts_is_there(self):
        mounts = [volume.split(":")[0] for service in self.services.values() for volume in service["volumes"]]
        own = [path for path in mounts if path.startswith(".")]
        self.assertEqual(len(own), 5)
        self.assertIn("state", mounts)
        self.assertIn("state", load("compose.yaml")["volumes"])
        for path in own:
            self.assertTrue(os.path.exists(os.path.join(COMPOSE, path)), path)

    def test_engramd_takes_its_arguments_and_prometheus_scrapes_its_port(self):
        words = [re.sub(r"\$\{SET:-(\w+)\}", r"\1", word) for word in self.services["engramd"]["command"]]
        # Not --check-config: the table sets that it names are on the machine that runs it.
        done = subprocess.run([ENGRAMD, "--print-config", *words], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        state = next(word.split("=")[1] for word in words if word.startswith("--state-dir="))
        self.assertIn(f"state:{state}", self.services["engramd"]["volumes"])
        admin = next(word.split(":")[-1] for word in words if word.startswith("--admin-listen="))
        targets = load("prometheus.yaml")["scrape_configs"][0]["static_configs"][0]["targets"]
        self.assertEqual(targets, [f"engramd:{admin}"])
        for port in (port for service in self.services.values() for port in service["ports"]):
            self.assertTrue(port.startswith("127.0.0.1:"), port)


class Cluster(unittest.TestCase):
    def setUp(self):
        self.services = load("cluster.yaml")["services"]
        self.stores = {name: service for name, service in self.services.items() if name.startswith("store-")}

    def test_what_it_mounts_is_there_and_only_loopback_is_published(self):
        mounts = {volume.split(":")[0] for service in self.services.values() for volume in service["volumes"]}
        own = [path for path in mounts if path.startswith(".")]
        self.assertEqual(len(own), 5)
        for path in own:
            self.assertTrue(os.path.exists(os.path.join(COMPOSE, path)), path)
        ports = [port for service in self.services.values() for port in service["ports"]]
        self.assertEqual(len(ports), len(set(ports)))
        for port in ports:
            self.assertTrue(port.startswith("127.0.0.1:"), port)

    def test_each_partition_has_two_stores_that_prometheus_scrapes(self):
        partitions = []
        for name, store in self.stores.items():
            words = [re.sub(r"\$\{SET:-(\w+)\}", r"\1", word) for word in store["command"]]
            done = subprocess.run([ENGRAMD, "--print-config", *words], capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, f"{name}: {done.stderr}")
            partitions += [word.split("=")[1] for word in words if word.startswith("--partition=")]
        self.assertEqual(sorted(partitions), ["0/2", "0/2", "1/2", "1/2"])
        engramd, workers = load("prometheus-cluster.yaml")["scrape_configs"]
        self.assertEqual(engramd["static_configs"][0]["targets"], [f"{name}:7301" for name in self.stores])
        host = workers["static_configs"][0]["targets"][0].split(":")[0]
        self.assertIn(f"{host}:host-gateway", self.services["prometheus"]["extra_hosts"])


if __name__ == "__main__":
    cases.main()
