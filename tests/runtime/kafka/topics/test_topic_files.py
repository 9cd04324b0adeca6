"""`stepstream topics render` prints the topics for other tools."""

import re
import shlex

import yaml

from stepstream.contract.topics import TOPICS
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.kafka.topics.layout import expected_topics
from stepstream.runtime.kafka.topics.topic_files import render_commands, render_strimzi

SETTINGS = KafkaSettings("broker:9092", "eu")
SPECS = expected_topics(["My_Shop", "flights"], 6)


def test_each_topic_has_a_command() -> None:
    """It creates the topic in the namespace, with its partitions."""
    commands = [shlex.split(line) for line in render_commands(SETTINGS, SPECS, 1).splitlines()]
    names = [command[command.index("--topic") + 1] for command in commands]
    assert len(names) == len(TOPICS) + 1
    assert {"eu.events", "eu.commands.My_Shop", "eu.commands.flights"} <= set(names)
    partitions = {
        name: command[command.index("--partitions") + 1] for name, command in zip(names, commands, strict=True)
    }
    assert (partitions["eu.inbox"], partitions["eu.functions"]) == ("6", "1")


def test_two_of_three_replicas_must_be_in_sync() -> None:
    """With fewer than three replicas the default stays, so that one broker may be unavailable."""
    assert render_commands(SETTINGS, SPECS, 3).count("min.insync.replicas=2") == len(SPECS)
    assert "min.insync" not in render_commands(SETTINGS, SPECS, 2)


def test_resource_has_a_name_that_kubernetes_allows() -> None:
    """The name of the resource is in lower case; `topicName` has that of the topic."""
    resources = list(yaml.safe_load_all(render_strimzi(SETTINGS, SPECS, 3, "main")))
    found = {resource["spec"]["topicName"]: resource for resource in resources}
    shop = found["eu.commands.My_Shop"]
    assert shop["metadata"]["labels"] == {"strimzi.io/cluster": "main"}
    assert re.fullmatch("eu.commands.my-shop-[0-9a-f]{8}", shop["metadata"]["name"])
    assert found["eu.commands.flights"]["metadata"]["name"] == "eu.commands.flights"
    assert found["eu.changelog"]["spec"]["config"]["retention.ms"] == -1


def test_topics_never_share_a_resource() -> None:
    """Also topics whose names differ only in characters that Kubernetes does not allow, up to the longest."""
    apps = ["My_Shop", "my-shop", "my_shop", "MY-SHOP", "my.shop", "my-shop.", "my-shop-", "A" * 238, "a" * 237 + "A"]
    resources = list(yaml.safe_load_all(render_strimzi(SETTINGS, expected_topics(apps, 1), 3, "main")))
    names = [resource["metadata"]["name"] for resource in resources]
    assert len(set(names)) == len(names) == len(TOPICS) - 1 + len(apps)
    # The schema of Kubernetes (RFC 1123).
    assert all(re.fullmatch("[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name) and len(name) <= 253 for name in names)
    for name in names:
        assert ".-" not in name
        assert "-." not in name
