"""Commands that are given what cannot be: a sentence on standard error and a code, never a traceback."""

from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError
from typer.testing import CliRunner, Result

from stepstream.cli.main import cli
from stepstream.runtime.readmodel.index import RunIndex

KAFKA = (("topics", "check"), ("topics", "apply", "--shards", "1"), ("dead-letters", "list"), ("engine",))


def invoke(*arguments: object, env: Mapping[str, str] | None = None) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(cli, [str(each) for each in arguments], env={"COLUMNS": "250", **(env or {})})


def assert_told(done: Result, reason: str, code: int = 2) -> None:
    """Check that a command ended with a code and one sentence."""
    assert done.exit_code == code, done.output
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.stderr.startswith("error: ")
    assert reason in done.stderr
    assert "Traceback" not in done.output


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
def test_wrong_settings_of_kafka_are_told(
    command: tuple[str, ...], env: dict[str, str], reason: str, tmp_path: Path
) -> None:
    """Every command that asks Kafka says which setting is wrong, and ends with 2."""
    port = {"STEPSTREAM_PORT": "0", "STEPSTREAM_DATA_DIR": str(tmp_path)}
    assert_told(invoke(*command, env=env | port), reason)


def test_a_broker_that_goes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the connection ends while topics are described, the command ends with 3."""

    async def nothing(_self: object) -> None:
        return None

    async def describe(_self: object) -> None:
        raise KafkaConnectionError("the broker went away")

    monkeypatch.setattr(AIOKafkaAdminClient, "start", nothing)
    monkeypatch.setattr(AIOKafkaAdminClient, "close", nothing)
    monkeypatch.setattr(AIOKafkaAdminClient, "describe_topics", describe)
    assert_told(invoke("topics", "check"), "describing topics: no broker answers; is Kafka up", 3)


@pytest.mark.parametrize("data", ["NaN", "Infinity", "[1e999]", '"\\ud800"', "[" * 100_000, "[" * 101 + "]" * 101])
@pytest.mark.parametrize("command", ["send", "signal"])
def test_data_that_is_no_json_is_told(command: str, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What only Python takes for JSON is refused before anything is sent."""
    monkeypatch.setattr(httpx, "request", None)
    assert_told(invoke(command, "a", "--data", data), "; give JSON, or @FILE")


@pytest.mark.parametrize("command", [("send", "a\udcff"), ("signal", "a\udcff"), ("runs", "show", "a\udcff")])
def test_bytes_that_are_no_text_are_told(command: tuple[str, ...]) -> None:
    """An argument that is no UTF-8 cannot be sent; nothing is asked."""
    assert_told(invoke(*command, "--url", "127.0.0.1:1"), "bytes that are no UTF-8")


def test_runs_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    """A file of runs that is none, and one that is damaged further in, are told with the remedy."""
    path = tmp_path / "runs.sqlite"
    path.write_bytes(b"garbage" * 1_000)
    assert_told(invoke("runs", "list", "--data-dir", tmp_path), "file is not a database")
    path.unlink()
    RunIndex(path).close()
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 16 :] = b"\xff" * (len(damaged) - len(damaged) // 16)
    path.write_bytes(damaged)
    for command in (("list",), ("show", "a")):
        assert_told(invoke("runs", *command, "--data-dir", tmp_path), "use another --data-dir")


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"STEPSTREAM_PORT": "²"}, "a number from 0 to 65535"),
        ({"STEPSTREAM_LIVE_CACHE": "maybe"}, "one of 1, true, yes, on"),
        ({"STEPSTREAM_EVENT_KEY": "a/b"}, "event_key is part of the path of a URL"),
    ],
)
def test_wrong_settings_of_dev_are_told(env: dict[str, str], reason: str) -> None:
    """`stepstream dev` ends before it reads the file."""
    assert_told(invoke("dev", "app.py", env=env), reason)
