"""Names that no topic can have are refused early; refusals of Kafka are reported with a remedy."""

import json

import pytest
from typer.testing import CliRunner

from stepstream import App
from stepstream.cli.main import cli
from stepstream.contract.errors import InvalidInput
from stepstream.contract.functions import decode_function
from stepstream.contract.limits import DAY_MS, NAMESPACE_CHARACTERS_MAX, TOPIC_CHARACTERS_MAX
from stepstream.contract.topics import commands_topic
from stepstream.runtime.kafka.client.answers import TopicsRefused
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.kafka.topics.layout import apply_command
from stepstream.sdk.errors import DefinitionError


@pytest.mark.parametrize("name", ["café", "my shop", "", "a/b", "x" * 241])
def test_app_name_must_be_valid_in_a_topic(name: str) -> None:
    """The constructor of the app refuses it: the name is part of the name of a topic."""
    with pytest.raises(DefinitionError, match="Kafka allows"):
        App(name)


def test_app_and_queue_fit_into_a_topic_name() -> None:
    """Together with the longest namespace, they reach the length that Kafka allows."""
    longest = f"{'n' * NAMESPACE_CHARACTERS_MAX}.{commands_topic('x' * 175, 'gpu')}"
    assert len(longest) == TOPIC_CHARACTERS_MAX
    App("x" * 175, queues=["gpu"])
    with pytest.raises(DefinitionError, match=r"180 characters; of the 249 that Kafka allows a topic, .* has 179"):
        App("x" * 176, queues=["gpu"])


@pytest.mark.parametrize(
    "fields",
    [
        {"app": "x" * 176, "queues": ["gpu"]},
        {"app": "x" * 180},
        {"app": "shop", "queues": ["a b"]},
        {"app": "shop", "lookback_ms": 2**64},
        {"app": "shop", "lookback_ms": -1},
        {"app": "shop", "lookback_ms": 367 * DAY_MS},
        {"app": "shop", "endpoint": "http://" + "x" * 2_048},
        {"app": "shop", "sdk": "x" * 101},
    ],
)
def test_function_that_no_app_can_have_is_invalid(fields: dict[str, object]) -> None:
    """If another program wrote it to `functions`, its commands could not be sent, or events not be retained."""
    with pytest.raises(InvalidInput):
        decode_function(json.dumps({"id": "f", **fields}).encode())
    assert decode_function(b'{"id": "f", "app": "shop", "queues": ["gpu"], "lookback_ms": 31622400000}')


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--app", "my shop"], "--app 'my shop': use letters a to z"),
        (["--namespace", "a b"], "namespace 'a b': use letters a to z"),
        (["--namespace", "n" * 245], "has 245 characters, at most 60 leave room for the names of topics"),
        (["--app", "a" * 200, "--namespace", "n" * 50], "has 260 characters, and Kafka allows 249"),
    ],
)
def test_command_checks_names(options: list[str], message: str) -> None:
    """An invalid namespace or app is a usage error with the reason."""
    done = CliRunner().invoke(cli, ["topics", "render", "--shards", "1", *options])
    assert done.exit_code == 2, done.output
    assert message in done.stderr


def test_refusals_are_grouped_by_their_reason() -> None:
    """Topics with the same reason share a line, with Kafka's message and the remedy."""
    policy = ("POLICY_VIOLATION", "Topics of n. need 3 replicas.")
    message = str(TopicsRefused({"n.events": policy, "n.inbox": policy, "n.x": ("TOPIC_AUTHORIZATION_FAILED", None)}))
    assert message.splitlines() == [
        "Kafka refused to create 'n.events', 'n.inbox': POLICY_VIOLATION: Topics of n. need 3 replicas; "
        "`stepstream topics render` prints the topics, for the administrators of the cluster",
        "Kafka refused to create 'n.x': TOPIC_AUTHORIZATION_FAILED; the user needs the permission Create",
    ]


def test_remedy_is_a_complete_command() -> None:
    """It has the broker, namespace, shards, apps and replicas."""
    settings = KafkaSettings("kafka:9092", "prod")
    assert apply_command(settings, ["shop", "shop.gpu"], 4, 3) == (
        "stepstream topics apply --kafka kafka:9092 --namespace prod --shards 4 --app shop --app shop.gpu --replicas 3"
    )
