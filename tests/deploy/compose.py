"""docker-compose.yml as a mapping, with its anchors and the defaults of its variables filled in."""

import functools
import re
from typing import Any

import yaml

from tests.tidy_rules import ROOT

COMPOSE = ROOT / "docker-compose.yml"
# The services that run our own image.
OURS = ("topics", "engine", "engine-2", "worker", "gateway")


@functools.cache
def compose() -> dict[str, Any]:
    """Return the file, each `${NAME:-default}` as its default."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", COMPOSE.read_text("utf-8"))
    assert "${" not in text, "a variable without a default stops those who only want to try it"
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def environment_of(service: str) -> dict[str, str]:
    """Return the environment of a service."""
    return {name: str(value) for name, value in compose()["services"][service].get("environment", {}).items()}
