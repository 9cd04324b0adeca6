"""deploy/topics: what Strimzi makes the topics from is what the contract says, and what Strimzi takes."""

from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from stepstream.cli.main import cli
from tests.tidy_rules import ROOT

RESOURCES = ROOT / "deploy" / "topics" / "kafkatopics.yaml"
# As `make topics` has it.
ARGUMENTS = ("--shards", "8", "--app", "flights", "--replicas", "3", "--format", "strimzi")
# The part of Strimzi's definition of KafkaTopic (kafka.strimzi.io/v1, Strimzi 1.2) that one writes, without the rest.
DEFINITION: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "kafka.strimzi.io/v1"},
        "kind": {"const": "KafkaTopic"},
        "metadata": {
            "type": "object",
            "required": ["name", "labels"],
            "properties": {
                "name": {"pattern": r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "maxLength": 253},
                "labels": {"type": "object", "required": ["strimzi.io/cluster"]},
            },
        },
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "topicName": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,249}$"},
                "partitions": {"type": "integer", "minimum": 1},
                "replicas": {"type": "integer", "minimum": 1, "maximum": 32767},
                "config": {"type": "object"},
            },
        },
    },
}


def test_the_resources_are_what_the_contract_renders() -> None:
    """`make topics` would change nothing."""
    rendered = CliRunner().invoke(cli, ["topics", "render", *ARGUMENTS], env={"COLUMNS": "200"})
    assert rendered.exit_code == 0
    assert RESOURCES.read_text("utf-8") == rendered.stdout, "run `make topics` and commit what it writes"
    assert " ".join(ARGUMENTS) in (ROOT / "Makefile").read_text("utf-8")


@pytest.mark.parametrize(
    "resource", list(yaml.safe_load_all(RESOURCES.read_text("utf-8"))), ids=lambda each: each["metadata"]["name"]
)
def test_strimzi_takes_every_resource(resource: dict[str, Any]) -> None:
    """Each resource is valid by the definition of KafkaTopic."""
    Draft202012Validator(DEFINITION).validate(resource)
