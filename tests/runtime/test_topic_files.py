"""`stepstream topics render`: topics in the forms that other tools take."""

import shlex

import yaml

from stepstream.contract.topics import TOPICS
from stepstream.runtime.kafka import KafkaSettings
from stepstream.runtime.layout import wanted_topics
from stepstream.runtime.topic_files import render_commands, render_strimzi

SETTINGS = KafkaSettings("broker:9092", "eu")
WANTED = wanted_topics(["My_Shop", "flights"], 6)


def test_there_is_a_command_for_each_topic() -> None:
    """Each topic of the contract, and that of each app, is created in the namespace with its partitions."""
    commands = [shlex.split(line) for line in render_commands(SETTINGS, WANTED, 1).splitlines()]
    names = [command[command.index("--topic") + 1] for command in commands]
    assert len(names) == len(TOPICS) + 1
    assert {"eu.events", "eu.commands.My_Shop", "eu.commands.flights"} <= set(names)
    partitions = {
        name: command[command.index("--partitions") + 1] for name, command in zip(names, commands, strict=True)
    }
    assert (partitions["eu.inbox"], partitions["eu.functions"]) == ("6", "1")


def test_three_replicas_wait_for_two() -> None:
    """From three replicas on a write waits for two of them; with fewer nothing is asked, so that one may be down."""
    assert render_commands(SETTINGS, WANTED, 3).count("min.insync.replicas=2") == len(WANTED)
    assert "min.insync" not in render_commands(SETTINGS, WANTED, 2)


def test_a_resource_has_a_name_that_kubernetes_allows() -> None:
    """A topic with capitals or underscores keeps its name in `topicName`; the resource has one in small letters."""
    resources = list(yaml.safe_load_all(render_strimzi(SETTINGS, WANTED, 3, "main")))
    found = {resource["spec"]["topicName"]: resource for resource in resources}
    shop = found["eu.commands.My_Shop"]
    assert shop["metadata"] == {"name": "eu.commands.my-shop", "labels": {"strimzi.io/cluster": "main"}}
    assert found["eu.changelog"]["spec"]["config"]["retention.ms"] == -1
    assert len({resource["metadata"]["name"] for resource in resources}) == len(WANTED)
