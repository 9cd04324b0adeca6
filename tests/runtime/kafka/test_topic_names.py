"""Names that Kafka allows in topics, told where they are given, and what it refuses, told in its own words."""

import json

import pytest
from typer.testing import CliRunner

from stepstream import App
from stepstream.cli.main import cli
from stepstream.contract.errors import InvalidInput
from stepstream.contract.functions import decode_function
from stepstream.contract.limits import DAY_MS, NAMESPACE_CHARACTERS_MAX, TOPIC_CHARACTERS_MAX
from stepstream.contract.topics import commands_topic
from stepstream.runtime.kafka.answers import TopicsRefused
from stepstream.runtime.kafka.layout import apply_command
from stepstream.runtime.kafka.settings import KafkaSettings
from stepstream.sdk.errors import DefinitionError


@pytest.mark.parametrize("name", ["café", "my shop", "", "a/b", "x" * 241])
def test_an_app_has_a_name_that_kafka_allows(name: str) -> None:
    """The name of an app is part of the name of a topic; what cannot be is refused where the app is made."""
    with pytest.raises(DefinitionError, match="Kafka allows"):
        App(name)


def test_an_app_and_its_queue_have_room_in_a_name() -> None:
    """They are as long as Kafka lets a topic's name be with the longest namespace before it."""
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
    ],
)
def test_a_function_that_no_app_can_have_is_put_aside(fields: dict[str, object]) -> None:
    """Whatever program wrote it to `functions`: its commands could not be sent, or no event be kept, for any app."""
    with pytest.raises(InvalidInput):
        decode_function(json.dumps({"id": "f", **fields}).encode())
    assert decode_function(b'{"id": "f", "app": "shop", "queues": ["gpu"], "lookback_ms": 31622400000}')


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--app", "my shop"], "--app 'my shop': use letters a to z"),
        (["--namespace", "a b"], "namespace 'a b': use letters a to z"),
        (["--namespace", "n" * 245], "has 245 characters, at most 60 leave room for the names of topics"),
        (["--app", "a" * 200, "--namespace", "n" * 50], "has 260 characters, and Kafka allows 249"),
    ],
)
def test_names_of_a_command_are_checked(options: list[str], words: str) -> None:
    """A namespace or an app that no topic can be named after is a usage error with the reason."""
    done = CliRunner().invoke(cli, ["topics", "render", "--shards", "1", *options])
    assert done.exit_code == 2, done.output
    assert words in done.stderr


def test_refusals_are_grouped_by_their_reason() -> None:
    """Topics that are refused for one reason stand in one line, with Kafka's words and the remedy for them."""
    policy = ("POLICY_VIOLATION", "Topics of n. need 3 replicas.")
    told = str(TopicsRefused({"n.events": policy, "n.inbox": policy, "n.x": ("TOPIC_AUTHORIZATION_FAILED", None)}))
    assert told.splitlines() == [
        "Kafka refused to create 'n.events', 'n.inbox': POLICY_VIOLATION: Topics of n. need 3 replicas; "
        "`stepstream topics render` prints the topics, for the administrators of the cluster",
        "Kafka refused to create 'n.x': TOPIC_AUTHORIZATION_FAILED; the user needs the permission Create",
    ]


def test_the_remedy_is_a_whole_command() -> None:
    """What is known goes into it: broker, namespace, shards, apps and replicas."""
    settings = KafkaSettings("kafka:9092", "prod")
    assert apply_command(settings, ["shop", "shop.gpu"], 4, 3) == (
        "stepstream topics apply --kafka kafka:9092 --namespace prod --shards 4 --app shop --app shop.gpu --replicas 3"
    )
