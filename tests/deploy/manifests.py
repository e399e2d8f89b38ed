"""Reads Kubernetes manifests: strictly, by the kinds' own models (python3-kubernetes), and what engramd is told in them."""
import os
import re

import yaml
from kubernetes import client as models

# Kinds of the Prometheus operator, which the models do not have, and what their spec may hold here.
OPERATOR_KINDS = {"ServiceMonitor": {"selector", "endpoints"}, "PodMonitor": {"selector", "podMetricsEndpoints"},
                  "PrometheusRule": {"groups"}}
KINDS = {"apps/v1": {"StatefulSet", "Deployment"}, "v1": {"Service", "ConfigMap"}, "policy/v1": {"PodDisruptionBudget"},
         "networking.k8s.io/v1": {"NetworkPolicy"}, "monitoring.coreos.com/v1": set(OPERATOR_KINDS)}
# Debian 12's models are those of Kubernetes 1.22; native sidecars came in 1.28, probes over gRPC in 1.24.
NEWER_FIELDS = {("V1Container", "restartPolicy"): str, ("V1Probe", "grpc"): dict}
SIMPLE = {"str": str, "bool": bool, "int": int, "float": (int, float)}


def documents(path):
    with open(path, encoding="utf-8") as file:
        return [document for document in yaml.safe_load_all(file) if document]


def problems(document):
    """What is wrong with a document: kind unknown here, fields that its kind does not have or must have, wrong types."""
    kind, version = document.get("kind"), document.get("apiVersion")
    if kind not in KINDS.get(version, ()):
        return [f"no such kind here: {version} {kind}"]
    if kind in OPERATOR_KINDS:
        return [f"{kind}.spec.{field} is unknown" for field in set(document["spec"]) - OPERATOR_KINDS[kind]]
    return list(_check(f"V1{kind}", document, kind))


def _check(model, value, where):
    """Yields a line for everything in `value` that is not as the models have it."""
    listed = re.fullmatch(r"list\[(.+)\]", model)
    mapped = re.fullmatch(r"dict\((\w+), (.+)\)", model)
    if listed:
        if not isinstance(value, list):
            yield f"{where} is no list"
            return
        for i, item in enumerate(value):
            yield from _check(listed.group(1), item, f"{where}[{i}]")
    elif mapped:
        for key, item in value.items():
            yield from _check(mapped.group(2), item, f"{where}.{key}")
    elif model in SIMPLE:
        if not isinstance(value, SIMPLE[model]) or (model == "int" and isinstance(value, bool)):
            yield f"{where} is {value!r}, no {model}"
    elif hasattr(models, model):
        yield from _check_fields(model, value, where)


def _check_fields(model, value, where):
    known = getattr(models, model)
    if not isinstance(value, dict):
        yield f"{where} is {value!r}, no {model}"
        return
    names = {json: python for python, json in known.attribute_map.items()}
    for field, item in value.items():
        if (model, field) in NEWER_FIELDS:
            if not isinstance(item, NEWER_FIELDS[model, field]):
                yield f"{where}.{field} is {item!r}"
        elif field not in names:
            yield f"{where}.{field} is unknown"
        else:
            yield from _check(known.openapi_types[names[field]], item, f"{where}.{field}")
    # The models themselves refuse an object without what it must have.
    try:
        known(**{names[field]: item for field, item in value.items() if field in names})
    except ValueError as error:
        yield f"{where}: {error}"


def pods(document):
    """The pod templates in a document."""
    template = document.get("spec", {}).get("template") if document["kind"] in ("StatefulSet", "Deployment") else None
    return [template] if template else []


def containers(pod):
    return pod["spec"].get("initContainers", []) + pod["spec"]["containers"]


def is_engramd(container):
    """The image's entry point is engramd; whoever gives a command runs something else."""
    return container["image"].startswith("localhost/engram:") and "command" not in container


def flags_of(help_text):
    return set(re.findall(r"(?<![\w-])--[a-z0-9-]+", help_text))


def unknown_flags(arguments, help_text):
    return [word for word in arguments if word.startswith("--") and word.split("=")[0] not in flags_of(help_text)]


def listened_ports(arguments):
    """The TCP ports that these arguments open to other pods."""
    found = {}
    for word in arguments:
        match = re.fullmatch(r"(--(?:admin-)?listen)=0\.0\.0\.0:(\d+)", word)
        if match:
            found[int(match.group(2))] = match.group(1)
    return found


def files(directory):
    return sorted(os.path.join(directory, name) for name in os.listdir(directory) if name.endswith(".yaml"))
