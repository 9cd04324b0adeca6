"""The Helm chart as rendered for the values in its folder ci/, and how to look into it."""

import functools
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.tidy_rules import ROOT

CHART = ROOT / "deploy" / "helm" / "stepstream"
RENDERING = Path(__file__).with_name("rendering.py")
Manifest = dict[str, Any]


class RefusedError(Exception):
    """Helm does not render the chart with these values."""


def ci_values(name: str) -> dict[str, Any]:
    """Return the values of ci/<name>-values.yaml."""
    values: dict[str, Any] = yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text("utf-8"))
    return values


def ask_helm(values: Mapping[str, Any], *request: str) -> dict[str, Any]:
    """Return the output of Helm's engine."""
    command = [sys.executable, str(RENDERING), str(CHART), *request]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=True, timeout=60)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def render(values: Mapping[str, Any]) -> list[Manifest]:
    """Return the resources of the chart for these values; raise RefusedError with what Helm says."""
    answer = ask_helm(values)
    if "error" in answer:
        raise RefusedError(answer["error"])
    texts = [text for path, text in sorted(answer["manifests"].items()) if path.endswith(".yaml")]
    return [manifest for text in texts for manifest in yaml.safe_load_all(text) if manifest]


@functools.cache
def rendered(name: str) -> tuple[Manifest, ...]:
    """Return the resources of the chart for the values of ci/<name>-values.yaml."""
    return tuple(render(ci_values(name)))


def only(name: str, kind: str, suffix: str = "") -> Manifest:
    """Return the one resource of a kind whose name has this ending."""
    (found,) = [each for each in rendered(name) if each["kind"] == kind and each["metadata"]["name"].endswith(suffix)]
    return found


def pods(name: str) -> dict[str, Manifest]:
    """Return the pod templates, by the name of their resource."""
    kinds = ("StatefulSet", "Deployment", "Job")
    return {each["metadata"]["name"]: each["spec"]["template"] for each in rendered(name) if each["kind"] in kinds}


def container(pod: Manifest) -> Manifest:
    """Return the one container of a pod."""
    (found,) = pod["spec"]["containers"]
    return dict(found)
