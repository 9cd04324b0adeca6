"""Commands with invalid settings or input end with a sentence on standard error and a code, never a traceback."""

from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError

from stepstream.runtime.readmodel.index import RunIndex
from tests.cli.refusals import assert_refused, invoke

KAFKA = (("topics", "check"), ("topics", "apply", "--shards", "1"), ("dead-letters", "list"), ("engine",))


@pytest.mark.parametrize("command", KAFKA, ids=" ".join)
@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"STEPSTREAM_KAFKA_BOOTSTRAP": "host:notaport"}, "expected HOST:PORT"),
        ({"STEPSTREAM_KAFKA_SECURITY_PROTOCOL": "tls"}, "one of PLAINTEXT, SSL"),
        ({"STEPSTREAM_KAFKA_SASL_MECHANISM": "FOO"}, "one of PLAIN, SCRAM-SHA-256"),
        (
            {"STEPSTREAM_KAFKA_SECURITY_PROTOCOL": "ssl", "STEPSTREAM_KAFKA_CA_FILE": "/nope"},
            "'/nope': no certificates",
        ),
    ],
    ids=["address", "protocol", "mechanism", "file"],
)
def test_wrong_settings_of_kafka_are_refused(
    command: tuple[str, ...], env: dict[str, str], reason: str, tmp_path: Path
) -> None:
    """Every command for Kafka says which setting is wrong, and exits with 2."""
    port = {"STEPSTREAM_PORT": "0", "STEPSTREAM_DATA_DIR": str(tmp_path)}
    assert_refused(invoke(*command, env=env | port), reason)


def test_a_lost_broker_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the connection is lost while topics are described, the command exits with 3."""

    async def nothing(_self: object) -> None:
        return None

    async def describe(_self: object, _request: object) -> None:
        raise KafkaConnectionError("the broker went away")

    monkeypatch.setattr(AIOKafkaAdminClient, "start", nothing)
    monkeypatch.setattr(AIOKafkaAdminClient, "close", nothing)
    monkeypatch.setattr(AIOKafkaAdminClient, "_send_request", describe)
    assert_refused(
        invoke("topics", "check"),
        "describing topics: no broker answers; check that Kafka is running at --kafka or STEPSTREAM_KAFKA_BOOTSTRAP",
        3,
    )


@pytest.mark.parametrize("data", ["NaN", "Infinity", "[1e999]", '"\\ud800"', "[" * 100_000, "[" * 101 + "]" * 101])
@pytest.mark.parametrize("command", ["send", "signal"])
def test_data_that_is_not_json_is_refused(command: str, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text that only Python accepts as JSON is refused before anything is sent."""
    monkeypatch.setattr("stepstream.cli.client._exchange", None)
    assert_refused(invoke(command, "a", "--data", data), "; give JSON, or @FILE")


@pytest.mark.parametrize("command", [("send", "a\udcff"), ("signal", "a\udcff"), ("runs", "show", "a\udcff")])
def test_arguments_that_are_not_utf8_are_refused(command: tuple[str, ...]) -> None:
    """They cannot be sent, and no request is made."""
    assert_refused(invoke(*command, "--url", "127.0.0.1:1"), "an argument is not valid UTF-8")


def test_unreadable_runs_are_reported(tmp_path: Path) -> None:
    """A file that is not a database, and one that is damaged further in, are reported with the remedy."""
    path = tmp_path / "runs.sqlite"
    path.write_bytes(b"garbage" * 1_000)
    assert_refused(invoke("runs", "list", "--data-dir", tmp_path), "file is not a database")
    path.unlink()
    RunIndex(path).close()
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 16 :] = b"\xff" * (len(damaged) - len(damaged) // 16)
    path.write_bytes(damaged)
    for command in (("list",), ("show", "a")):
        assert_refused(invoke("runs", *command, "--data-dir", tmp_path), "use another --data-dir")


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"STEPSTREAM_PORT": "²"}, "expected a number from 0 to 65535"),
        ({"STEPSTREAM_LIVE_CACHE": "maybe"}, "expected one of 1, true, yes, on"),
        ({"STEPSTREAM_EVENT_KEY": "a/b"}, "event_key is a part of a URL's path"),
    ],
)
def test_wrong_settings_of_dev_are_refused(env: dict[str, str], reason: str) -> None:
    """`stepstream dev` exits before it loads the file."""
    assert_refused(invoke("dev", "app.py", env=env), reason)
