"""The plain manifests: what Kubernetes allows, what engramd has, and what it does when it is started as they say.

They are rendered again, by helm where there is one, and have to be what is checked in; other values are rendered too.
"""
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path[:0] = [os.path.dirname(os.path.realpath(__file__)), os.path.join(ROOT, "tests")]
import cases  # noqa: E402
import manifests  # noqa: E402
import started  # noqa: E402

ENGRAM, ENGRAMD, TOKEN_MAP, TOKENS = (os.path.abspath(word) for word in sys.argv[1:5])
MANIFESTS = os.path.join(ROOT, "deploy", "manifests")
RENDER = os.path.join(ROOT, "deploy", "render.sh")
HAS_RENDERER = shutil.which("helm") or (shutil.which("go") and os.path.isdir("/usr/share/gocode/src/github.com/Masterminds/sprig"))
RENDERS = unittest.skipUnless(HAS_RENDERER, "neither helm nor Go with sprig: the chart is not rendered again")


def help_of(*command):
    return subprocess.run([*command, "--help"], check=True, stdout=subprocess.PIPE, text=True).stdout


def engramds_in(documents):
    """(pod, container) of every engramd in them."""
    for document in documents:
        for pod in manifests.pods(document):
            for container in filter(manifests.is_engramd, manifests.containers(pod)):
                yield pod, container


def engramds():
    """(file, pod, container) of every engramd in the manifests."""
    for path in manifests.files(MANIFESTS):
        for pod, container in engramds_in(manifests.documents(path)):
            yield os.path.basename(path), pod, container


class Text(unittest.TestCase):
    def test_there_is_one_manifest_for_each_profile(self):
        profiles = os.listdir(os.path.join(ROOT, "deploy", "helm", "profiles"))
        self.assertEqual(sorted(profiles), sorted(map(os.path.basename, manifests.files(MANIFESTS))))
        self.assertGreaterEqual(len(list(engramds())), 4)

    def test_every_document_is_one_that_kubernetes_takes(self):
        for path in manifests.files(MANIFESTS):
            for document in manifests.documents(path):
                self.assertEqual(manifests.problems(document), [], path)

    def test_finds_what_kubernetes_would_not_take(self):
        store = next(d for d in manifests.documents(os.path.join(MANIFESTS, "stores.yaml")) if d["kind"] == "StatefulSet")
        container = store["spec"]["template"]["spec"]["containers"][0]
        for field, value in (("imagePullpolicy", "Always"), ("args", "--listen"), ("ports", [{"name": "x"}])):
            before = container.get(field)
            container[field] = value
            self.assertTrue(manifests.problems(store), field)
            container[field] = before
            if before is None:
                del container[field]
        self.assertEqual(manifests.problems(store), [])

    @RENDERS
    def test_the_chart_renders_what_is_checked_in(self):
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run([RENDER, scratch], check=True)
            for path in manifests.files(MANIFESTS):
                rendered = list(manifests.documents(os.path.join(scratch, os.path.basename(path))))
                self.assertEqual(rendered, list(manifests.documents(path)), f"{path} is old: run deploy/render.sh")

    def test_the_renderer_says_what_it_does(self):
        with tempfile.TemporaryDirectory() as scratch:
            told = subprocess.run([RENDER, "--help"], cwd=scratch, check=True, capture_output=True, text=True)
            self.assertIn("deploy/render.sh [DIRECTORY]", told.stdout)
            wrong = subprocess.run([RENDER, "--valeus"], cwd=scratch, check=False, capture_output=True, text=True)
            self.assertEqual((wrong.returncode, os.listdir(scratch)), (2, []))
            self.assertIn("--valeus", wrong.stderr)


# Values that no profile has, each beside the defaults.
VARIANTS = {
    "monitoring": {"monitoring": {"enabled": True, "labels": {"release": "prometheus"}}},
    "tls": {"tls": {"secret": "engram-tls", "clientCertificates": True},
            "monitoring": {"enabled": True, "runbookBaseUrl": "https://wiki.example/RUNBOOK.md"}},
    "claims for state": {"state": {"persistentVolumeClaim": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
                                                             "resources": {"requests": {"storage": "1Gi"}}}},
                         "sidecar": {"enabled": True}, "stores": {"lameDuckSeconds": 0}},
    "partitions in etcd": {"cluster": {"partitions": 3, "register": {"endpoints": ["etcd-0.etcd:2379", "etcd-1.etcd:2380"], "prefix": "v41",
                                                                     "secret": "etcd-tls"}},
                           "networkPolicy": {"etcd": [{"podSelector": {"matchLabels": {"app": "etcd"}}}]},
                           "stores": {"replicas": 2, "antiAffinity": "preferred"}, "tls": {"secret": "engram-tls"}},
    "whole tables in etcd": {"cluster": {"register": {"endpoints": ["10.0.0.1:2379"]}}},
    "rdma and read": {"rdma": {"enabled": True, "read": True, "devices": ["mlx5_0", "mlx5_1"]}},
    "sidecar beside stores": {"sidecar": {"enabled": True}, "tls": {"secret": "engram-tls"}},
    "sidecar alone": {"stores": {"enabled": False}, "sidecar": {"enabled": True, "extraArgs": ["--log-format=json"]},
                      "monitoring": {"enabled": True}},
    "no huge pages, no policy": {"stores": {"hugePages": "", "numa": "", "antiAffinity": "preferred", "memory": "200Gi",
                                            "nodeSelector": {"role": "store"}, "tolerations": [{"operator": "Exists"}],
                                            "priorityClassName": "high", "podAnnotations": {"a": "b"}, "lookupThreads": 2, "gatherThreads": 2},
                                 "networkPolicy": {"enabled": False}, "imagePullSecrets": [{"name": "pull"}], "image": {"tag": "9.9.9"}},
}


@RENDERS
class Variants(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.rendered = {}
        with tempfile.TemporaryDirectory() as scratch:
            for name, values in VARIANTS.items():
                path = os.path.join(scratch, "values.yaml")
                with open(path, "w", encoding="utf-8") as file:
                    yaml.safe_dump(values, file)
                text = subprocess.run([RENDER, "--values", path], check=True, stdout=subprocess.PIPE, text=True).stdout
                cls.rendered[name] = [document for document in yaml.safe_load_all(text) if document]

    def of_kind(self, name, kind):
        return [document for document in self.rendered[name] if document["kind"] == kind]

    def test_each_is_what_kubernetes_takes_and_engramd_has(self):
        text = help_of(ENGRAMD)
        for name, documents in self.rendered.items():
            self.assertTrue(documents, name)
            for document in documents:
                self.assertEqual(manifests.problems(document), [], name)
            for _, container in engramds_in(documents):
                self.assertEqual(manifests.unknown_flags(container["args"], text), [], name)

    def test_monitoring_brings_the_rules_and_the_dashboards(self):
        with open(os.path.join(ROOT, "deploy", "prometheus", "rules.yaml"), encoding="utf-8") as file:
            rules = yaml.safe_load(file)
        self.assertEqual([one["spec"] for one in self.of_kind("monitoring", "PrometheusRule")], [rules])
        dashboards, = (one["data"] for one in self.of_kind("monitoring", "ConfigMap") if "grafana_dashboard" in one["metadata"]["labels"])
        folder = os.path.join(ROOT, "deploy", "grafana")
        self.assertEqual(set(dashboards), {f"engram-{name}" for name in os.listdir(folder) if name.endswith(".json")})
        for name, text in dashboards.items():
            with open(os.path.join(folder, name[len("engram-"):]), encoding="utf-8") as file:
                self.assertEqual(json.loads(text), json.load(file))
        # A monitor finds a service, and on it the port.
        monitor, = self.of_kind("monitoring", "ServiceMonitor")
        self.assertEqual(monitor["metadata"]["labels"]["release"], "prometheus")
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        ports = {port["name"] for service in self.of_kind("monitoring", "Service") if wanted <= service["metadata"]["labels"].items()
                 for port in service["spec"]["ports"]}
        self.assertIn(monitor["spec"]["endpoints"][0]["port"], ports)

    def test_sidecars_are_scraped(self):
        monitor, = self.of_kind("sidecar alone", "PodMonitor")
        deployment, = self.of_kind("sidecar alone", "Deployment")
        pod = deployment["spec"]["template"]
        self.assertLessEqual(monitor["spec"]["selector"]["matchLabels"].items(), pod["metadata"]["labels"].items())
        ports = {port["name"] for container in pod["spec"]["initContainers"] for port in container.get("ports", [])}
        self.assertIn(monitor["spec"]["podMetricsEndpoints"][0]["port"], ports)

    def test_alerts_and_dashboards_lead_to_the_runbook_that_was_given(self):
        rules, = self.of_kind("tls", "PrometheusRule")
        for rule in (rule for group in rules["spec"]["groups"] for rule in group["rules"] if "alert" in rule):
            self.assertEqual(rule["annotations"]["runbook_url"], f"https://wiki.example/RUNBOOK.md#{rule['alert'].lower()}")
            self.assertNotIn("runbook", rule["annotations"])
        dashboards, = (one["data"] for one in self.of_kind("tls", "ConfigMap") if "grafana_dashboard" in one["metadata"]["labels"])
        with tempfile.TemporaryDirectory() as made:
            subprocess.run([sys.executable, os.path.join(ROOT, "deploy", "grafana", "make.py"), "--runbook-base-url",
                            "https://wiki.example/RUNBOOK.md", made], check=True)
            for name, text in dashboards.items():
                with open(os.path.join(made, name[len("engram-"):]), encoding="utf-8") as file:
                    self.assertEqual(json.loads(text), json.load(file))

    def test_stores_have_a_claim_each_for_their_state_where_it_is_asked_for(self):
        stores, = self.of_kind("claims for state", "StatefulSet")
        claim, = stores["spec"]["volumeClaimTemplates"]
        self.assertEqual((claim["metadata"]["name"], claim["spec"]["storageClassName"]), ("state", "fast"))
        self.assertNotIn("state", [volume["name"] for volume in stores["spec"]["template"]["spec"]["volumes"]])
        sidecars, = self.of_kind("claims for state", "Deployment")
        self.assertIn({"name": "state", "emptyDir": {}}, sidecars["spec"]["template"]["spec"]["volumes"])

    def test_each_partition_has_stores_a_budget_and_nodes_of_its_own(self):
        stores = self.of_kind("partitions in etcd", "StatefulSet")
        self.assertEqual([one["metadata"]["name"] for one in stores], ["engram-p0", "engram-p1", "engram-p2"])
        budgets = {one["metadata"]["name"]: one["spec"] for one in self.of_kind("partitions in etcd", "PodDisruptionBudget")}
        service, = self.of_kind("partitions in etcd", "Service")
        for k, one in enumerate(stores):
            (pod, container), = engramds_in([one])
            self.assertIn(f"--partition={k}/3", container["args"])
            own = {**service["spec"]["selector"], "engram.partition": str(k)}
            self.assertLessEqual(own.items(), pod["metadata"]["labels"].items())
            near, = pod["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
            for selector in (one["spec"]["selector"], budgets[one["metadata"]["name"]]["selector"], near["podAffinityTerm"]["labelSelector"],
                             pod["spec"]["topologySpreadConstraints"][0]["labelSelector"]):
                self.assertEqual(selector["matchLabels"], own)
            self.assertEqual(budgets[one["metadata"]["name"]]["maxUnavailable"], 1)
            # The pods' own names are the service's.
            self.assertEqual(one["spec"]["serviceName"], service["metadata"]["name"])

    def test_stores_register_under_the_names_that_their_service_gives_them(self):
        for name in ("partitions in etcd", "whole tables in etcd"):
            service, = self.of_kind(name, "Service")
            for _, container in engramds_in(self.of_kind(name, "StatefulSet")):
                variable, = container["env"]
                self.assertEqual(variable["valueFrom"]["fieldRef"]["fieldPath"], "metadata.name")
                advertised, = (word for word in container["args"] if word.startswith("--advertise="))
                self.assertEqual(advertised, f"--advertise=$({variable['name']}).{service['metadata']['name']}.engram:7300")
                self.assertEqual("--register-ca=/etc/engram/etcd/ca.crt" in container["args"], name == "partitions in etcd")
                # As engramd reads them.
                words = [word.replace("$(POD_NAME)", "engram-p0-0") for word in container["args"] if not word.startswith(("--register-c", "--register-key"))]
                said = subprocess.run([ENGRAMD, "--print-config", *words], capture_output=True, text=True, check=False)
                self.assertEqual(said.returncode, 0, said.stderr)
        policy, = self.of_kind("partitions in etcd", "NetworkPolicy")
        names, etcd = policy["spec"]["egress"]
        self.assertEqual({port["port"] for port in names["ports"]}, {53})
        self.assertEqual(etcd, {"ports": [{"port": 2379}, {"port": 2380}], "to": [{"podSelector": {"matchLabels": {"app": "etcd"}}}]})
        for text in ("StatefulSet", "NetworkPolicy"):
            for one in self.of_kind("tls", text):
                self.assertNotIn("etcd", json.dumps(one))

    def test_tls_mounts_the_secret_that_the_flags_name(self):
        (pod, container), = engramds_in(self.of_kind("tls", "StatefulSet"))
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        secrets = {volume["name"]: volume["secret"]["secretName"] for volume in pod["spec"]["volumes"] if "secret" in volume}
        (name, secret), = secrets.items()
        self.assertEqual(secret, "engram-tls")
        for flag, file in (("--tls-cert", "tls.crt"), ("--tls-key", "tls.key"), ("--tls-client-ca", "ca.crt")):
            self.assertIn(f"{flag}={mounts[name]}/{file}", container["args"])
        self.assertNotIn("--allow-plaintext=data", container["args"])


class AgainstTheProgram(unittest.TestCase):
    def test_state_is_kept_where_engramd_may_write(self):
        for file, pod, container in engramds():
            directory, = (word.split("=")[1] for word in container["args"] if word.startswith("--state-dir="))
            mount, = (mount for mount in container["volumeMounts"] if mount["mountPath"] == directory)
            self.assertFalse(mount.get("readOnly", False), file)
            self.assertIn({"name": mount["name"], "emptyDir": {}}, pod["spec"]["volumes"], file)
    def test_engramd_has_every_flag(self):
        text = help_of(ENGRAMD)
        for file, _, container in engramds():
            self.assertEqual(manifests.unknown_flags(container["args"], text), [], file)

    def test_finds_a_flag_that_engramd_does_not_have(self):
        self.assertEqual(manifests.unknown_flags(["--no-such-flag=1"], help_of(ENGRAMD)), ["--no-such-flag=1"])

    def test_the_worker_has_every_flag(self):
        for path in manifests.files(MANIFESTS):
            for document in manifests.documents(path):
                for pod in manifests.pods(document):
                    for container in manifests.containers(pod):
                        if container.get("command") == ["/usr/bin/engram"]:
                            text = help_of(ENGRAM, container["args"][0])
                            self.assertEqual(manifests.unknown_flags(container["args"][1:], text), [], path)

    def test_ports_are_those_that_engramd_listens_on(self):
        for file, _, container in engramds():
            declared = {port["containerPort"] for port in container.get("ports", ())}
            self.assertEqual(declared, set(manifests.listened_ports(container["args"])), file)

    def test_services_lead_to_ports_and_pods_that_are_there(self):
        for path in manifests.files(MANIFESTS):
            documents = manifests.documents(path)
            for service in (d for d in documents if d["kind"] == "Service"):
                chosen = [pod for d in documents for pod in manifests.pods(d)
                          if service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()]
                # Of more than one, each is a partition.
                partitions = [pod["metadata"]["labels"].get("engram.partition") for pod in chosen]
                self.assertIn(partitions, ([None], [str(k) for k in range(len(chosen))]), path)
                for pod in chosen:
                    names = {port["name"] for c in manifests.containers(pod) for port in c.get("ports", ())}
                    self.assertEqual({port["targetPort"] for port in service["spec"]["ports"]}, names, path)

    def test_nothing_runs_as_root_or_writes(self):
        for path in manifests.files(MANIFESTS):
            for document in manifests.documents(path):
                for pod in manifests.pods(document):
                    self.assertTrue(pod["spec"]["securityContext"]["runAsNonRoot"], path)
                    self.assertFalse(pod["spec"]["automountServiceAccountToken"], path)
                    for container in manifests.containers(pod):
                        security = container["securityContext"]
                        self.assertTrue(security["readOnlyRootFilesystem"], path)
                        self.assertFalse(security["allowPrivilegeEscalation"], path)
                        self.assertEqual(security["capabilities"], {"drop": ["ALL"]}, path)

    def test_the_worker_reaches_the_sidecars_socket(self):
        for _, pod, container in engramds():
            sockets = [word.split("=")[1] for word in container["args"] if word.startswith("--shm-socket=")]
            for socket in sockets:
                self.assertEqual(container["restartPolicy"], "Always")
                for other in manifests.containers(pod):
                    mounts = {m["mountPath"]: m["name"] for m in other["volumeMounts"]}
                    self.assertEqual(mounts[os.path.dirname(socket)], "sockets", other["name"])
                volume = next(v for v in pod["spec"]["volumes"] if v["name"] == "sockets")
                self.assertEqual(volume["emptyDir"]["medium"], "Memory")


class Started(unittest.TestCase):
    """Every engramd of the manifests runs with its own arguments, and is probed as its container says."""

    def test_each_answers_its_probes_serves_and_ends(self):
        with tempfile.TemporaryDirectory() as scratch:
            place = started.Place(scratch, ENGRAM, ENGRAMD, TOKEN_MAP, TOKENS)
            for file, pod, container in engramds():
                with self.subTest(file):
                    self.check(place, pod, container)

    def check(self, place, pod, container):
        with place.start(container["args"]) as engramd:
            ports = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
            for name in ("startupProbe", "readinessProbe", "livenessProbe"):
                self.assertTrue(engramd.wait_for(lambda: engramd.probe(container[name], ports)), f"{name}\n{engramd.log()}")
            for target in engramd.targets():
                # One partition has not all rows; the next test looks them up.
                self.assertEqual(engramd.lookup(target), 1 if engramd.has_partition() else 0, f"{target}\n{engramd.log()}")
            # The kubelet's patience is more than what engramd takes to drain.
            self.assertEqual(engramd.stop(pod["spec"]["terminationGracePeriodSeconds"]), 0, engramd.log())
            self.assertFalse(engramd.probe(container["readinessProbe"], ports))


    def test_partitions_have_all_rows_together(self):
        containers = [container for file, _, container in engramds() if file == "cluster.yaml"]
        self.assertGreater(len(containers), 1)
        with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
            place = started.Place(scratch, ENGRAM, ENGRAMD, TOKEN_MAP, TOKENS)
            stores = [stack.enter_context(place.start(container["args"])) for container in containers]
            for store in stores:
                self.assertTrue(store.wait_for(lambda: store.get(7301, "/readyz")[0] == 200), store.log())  # pylint: disable=cell-var-from-loop
            addresses = [target.removeprefix("grpc:") for store in stores for target in store.targets()]
            self.assertEqual(stores[0].lookup("cluster:" + ",".join(addresses)), 0)
            self.assertEqual(stores[0].lookup("cluster:" + ",".join(addresses[1:])), 1)


if __name__ == "__main__":
    cases.main()
