"""The settings: which values are accepted, which are refused with a reason, and that all of them are documented."""

import re
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest

from stepstream.cli.main import load_command
from stepstream.cli.registry import COMMANDS
from stepstream.contract.errors import StepstreamError
from stepstream.contract.limits import DAY_MS
from stepstream.host.settings import Settings, SettingsError, kafka_settings_from, read_sources, settings_from
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.readmodel.pruning import Retention
from tests.markdown import table_rows
from tests.tidy_rules import ROOT

SWITCHES = ("live_cache", "standby")


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("1", True),
        ("true", True),
        ("YES", True),
        ("On", True),
        ("0", False),
        ("False", False),
        ("no", False),
        ("off", False),
    ],
)
def test_switches_accept_the_usual_words(name: str, word: str, expected: bool) -> None:
    """All switches accept 1, true, yes and on, and their opposites, in upper or lower case."""
    assert getattr(settings_from({f"STEPSTREAM_{name.upper()}": word}), name) is expected


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("word", ["ture", "2", "enabled", "y", " "])
def test_other_words_for_switches_are_refused(name: str, word: str) -> None:
    """An unknown word does not silently mean no."""
    with pytest.raises(SettingsError, match=f"{name} '{word}': expected one of 1, true, yes, on, 0, false, no, off"):
        settings_from({f"STEPSTREAM_{name.upper()}": word})


def test_an_empty_variable_is_not_set() -> None:
    """Tools such as Compose set variables to nothing; each then has its default."""
    empty = {f"STEPSTREAM_{field.name.upper()}": "" for field in fields(Settings)}
    assert settings_from(empty) == settings_from({}) == Settings()
    empty = {f"STEPSTREAM_KAFKA_{field.name.upper()}": "" for field in fields(KafkaSettings)}
    assert kafka_settings_from(empty) == KafkaSettings()


@pytest.mark.parametrize("port", ["²", "-1", "65536", "1e3", "tcp://10.0.0.1:8288", "٣"])
def test_invalid_ports_are_refused(port: str) -> None:
    """A port consists of ASCII digits and is at most 65535."""
    with pytest.raises(SettingsError, match="expected a number from 0 to 65535"):
        settings_from({"STEPSTREAM_PORT": port})


@pytest.mark.parametrize(("text", "days"), [("", 90), ("1d", 1), ("24h", 1), ("2w", 14), ("366d", 366)])
def test_runs_are_listed_for_a_day_to_a_year(text: str, days: int) -> None:
    """The retention is a duration; without a size the list may have any."""
    assert settings_from({"STEPSTREAM_RETENTION": text}).kept_runs == Retention(days * DAY_MS)
    assert settings_from({"STEPSTREAM_RETENTION": text}).kept_runs.by_age
    sized = settings_from({"STEPSTREAM_RETENTION_BYTES": "2000000"}).kept_runs
    assert sized.bytes == 2_000_000


def test_no_run_is_too_old_with_a_retention_of_never() -> None:
    """The size of the list still counts."""
    kept = settings_from({"STEPSTREAM_RETENTION": "never", "STEPSTREAM_RETENTION_BYTES": "2000000"}).kept_runs
    assert (kept.by_age, kept.bytes) == (False, 2_000_000)


@pytest.mark.parametrize("text", ["23h", "367d", "90", "forever", "-1d"])
def test_other_retentions_are_refused(text: str) -> None:
    """Less than a day would drop runs that a person still looks for; a number without unit is ambiguous."""
    with pytest.raises(SettingsError, match=f"retention '{text}': expected a duration from 1d to 366d, or never"):
        settings_from({"STEPSTREAM_RETENTION": text})


@pytest.mark.parametrize(("size", "reason"), [("1GB", "expected a number of bytes"), ("1000", "expected 1,048,576")])
def test_wrong_sizes_of_the_list_are_refused(size: str, reason: str) -> None:
    """A size is in bytes, and has room for some runs."""
    with pytest.raises(SettingsError, match=reason):
        settings_from({"STEPSTREAM_RETENTION_BYTES": size})


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"READ_MODEL": "mysql://u:s3cret@h/d"}, "expected a URL such as postgresql://"),
        ({"READ_MODEL": "postgresql://u:s3cret@h/d", "RETENTION_BYTES": "2000000"}, "retention_bytes limits a file"),
    ],
)
def test_a_read_model_that_cannot_work_is_refused(given: dict[str, str], reason: str) -> None:
    """The message does not have the password, and neither has the text of the settings."""
    with pytest.raises(SettingsError, match=reason) as refused:
        settings_from({f"STEPSTREAM_{name}": value for name, value in given.items()})
    assert "s3cret" not in str(refused.value)
    assert "s3cret" not in repr(settings_from({"STEPSTREAM_READ_MODEL": "postgresql://u:s3cret@h/d"}))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"PAGE": "of"}, "page 'of': expected one of off, read-only, on"),
        ({"FSYNC": "1"}, "fsync '1': expected one of always, interval, never"),
        ({"READ_KEY": "r"}, "read_key is in addition to the API key"),
        ({"READ_KEY": "a", "API_KEY": "a"}, "read_key is in addition to the API key"),
        ({"USER_HEADER": "X-User"}, "user_header counts only behind a proxy"),
        ({"PROXIES": "10.0.0.0/33"}, "proxies '10.0.0.0/33': .*; write networks such as"),
    ],
)
def test_settings_of_the_page_that_cannot_work_are_refused(given: dict[str, str], reason: str) -> None:
    """A misspelled mode, a read key without or like the API key, and a header without its proxies are refused."""
    with pytest.raises(SettingsError, match=reason):
        settings_from({f"STEPSTREAM_{name}": value for name, value in given.items()})


def test_header_of_the_user_counts_behind_proxies() -> None:
    """The header is compared in lower case, and each network may be an address."""
    given = {"STEPSTREAM_USER_HEADER": "X-Forwarded-User", "STEPSTREAM_PROXIES": "10.0.0.0/8, ::1"}
    options = settings_from(given).page_options
    assert (options.user_header, [str(each) for each in options.proxies]) == (
        "x-forwarded-user",
        ["10.0.0.0/8", "::1/128"],
    )


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_the_loopback_needs_no_keys(host: str) -> None:
    """A process that only this machine can reach may be open."""
    assert settings_from({"STEPSTREAM_HOST": host}).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "my-host", "localhost.example", "127.0.0.1.example"])  # noqa: S104 - refused
@pytest.mark.parametrize("keys", [{}, {"event_key": "e"}, {"api_key": "a"}])
def test_other_addresses_need_both_keys(host: str, keys: dict[str, str]) -> None:
    """Any other address or name is refused while a key is missing, and accepted with both."""
    with pytest.raises(SettingsError, match="set STEPSTREAM_EVENT_KEY and STEPSTREAM_API_KEY"):
        settings_from({}, host=host, **keys)
    assert settings_from({}, host=host, event_key="e", api_key="a").host == host


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_line_feeds_are_not_part_of_a_key(end: str) -> None:
    """A key that was read from a file is the one that clients send."""
    settings = settings_from({"STEPSTREAM_EVENT_KEY": f"e{end}", "STEPSTREAM_API_KEY": f"aB9._~+/=-{end}"})
    assert (settings.event_key, settings.api_key) == ("e", "aB9._~+/=-")


@pytest.mark.parametrize("name", ["event_key", "api_key"])
@pytest.mark.parametrize("key", ["schlüssel", "a b", "a\nb", "a%2Fb", "a?b", "a#b", "\t", '"a"', "a\x00"])
def test_a_key_that_no_client_can_send_is_refused(name: str, key: str) -> None:
    """A key that needs encoding in a header or a path would match no request; the error does not print it."""
    with pytest.raises(SettingsError, match=f"^{name} contains .* which no HTTP client can send; use ASCII") as caught:
        settings_from({f"STEPSTREAM_{name.upper()}": key})
    assert key not in str(caught.value).split("contains", 1)[1] or len(key) == 1


@pytest.mark.parametrize("key", ["a/b", "/", ".", ".."])
def test_an_event_key_is_one_segment_of_a_path(key: str) -> None:
    """A slash, or a segment that clients resolve, would lead elsewhere; the API key may contain one."""
    with pytest.raises(SettingsError, match="event_key is a part of a URL's path"):
        settings_from({"STEPSTREAM_EVENT_KEY": key})
    assert settings_from({"STEPSTREAM_API_KEY": key}).api_key == key


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('source = "x"', "source 1: 'x' is not a table; write [[source]]"),
        ("source = [1]", "source 1: 1 is not a table; write [[source]]"),
        ("source = 1", "source 1: 1 is not a table; write [[source]]"),
        ("", "the file has no table [[source]]"),
        (
            '[[source]]\ntopic = "a"\nname = "b"\nif_ = "true"',
            "source 1: unknown field 'if_'; the fields are data",
        ),
        ('[[source]]\ntopic = "a"\nname = 5', "source 1: name must be a string"),
        ("[[source]", "Expected ']]'"),
    ],
)
def test_a_wrong_file_of_sources_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    """The error names the file and what is wrong in it, whatever the TOML holds."""
    path = tmp_path / "sources.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(SettingsError) as caught:
        read_sources(path)
    assert str(caught.value).startswith(f"sources {path}")
    assert reason in str(caught.value)


def test_a_condition_in_a_file_is_called_if(tmp_path: Path) -> None:
    """Only Python code needs the underscore."""
    path = tmp_path / "sources.toml"
    path.write_text('[[source]]\ntopic = "a"\nname = "b"\nif = "value.n > 0"', "utf-8")
    (source,) = read_sources(path)
    assert source.if_ == "value.n > 0"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"bootstrap": "host:notaport"}, "STEPSTREAM_KAFKA_BOOTSTRAP 'host:notaport': expected HOST:PORT"),
        ({"bootstrap": "a:1,"}, "expected HOST:PORT"),
        ({"bootstrap": "a:0"}, "expected HOST:PORT"),
        ({"bootstrap": "a:65536"}, "expected HOST:PORT"),
        ({"bootstrap": "a:²"}, "expected HOST:PORT"),
        ({"bootstrap": "kafka://a:1"}, "expected HOST:PORT"),
        ({"session_s": "0"}, "STEPSTREAM_KAFKA_SESSION_S '0': expected a number of seconds from 1 to 900"),
        ({"transaction_s": "soon"}, "TRANSACTION_S 'soon': expected a number of seconds from 1 to 900"),
        ({"security_protocol": "TLS"}, "expected one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        ({"sasl_mechanism": "FOO"}, "expected one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"),
        ({"security_protocol": "SASL_SSL", "sasl_password": "p"}, "SASL_USERNAME '': SASL_SSL requires it"),
        ({"security_protocol": "SASL_SSL", "sasl_username": "u"}, "SASL_PASSWORD '': SASL_SSL requires it"),
        ({"security_protocol": "SSL", "ca_file": "/nope"}, "CA_FILE '/nope': no certificates to trust: No such file"),
        ({"security_protocol": "SSL", "ca_file": __file__}, "no certificates to trust: "),
        ({"security_protocol": "SSL", "cert_file": "/nope"}, "CERT_FILE '/nope': no certificate with the key of"),
    ],
)
def test_a_wrong_setting_of_kafka_is_refused(settings: dict[str, str], reason: str) -> None:
    """A value that no client could use is refused before one is created; the error names the variable."""
    environment = {f"STEPSTREAM_KAFKA_{name.upper()}": value for name, value in settings.items()}
    with pytest.raises(StepstreamError) as caught:
        Cluster(kafka_settings_from(environment))
    assert reason in str(caught.value)


@pytest.mark.parametrize("bootstrap", ["a:1", "a", "a:1,b:2", "a:1, b:2", "[::1]:9092", "10.0.0.1:65535"])
def test_brokers_are_named_in_any_usual_form(bootstrap: str) -> None:
    """Names and addresses, with a port or the default one, several of them separated by commas."""
    assert KafkaSettings(bootstrap).bootstrap == bootstrap


def test_protocol_and_mechanism_may_be_in_lower_case() -> None:
    """They are converted to upper case."""
    settings = kafka_settings_from({}, security_protocol="sasl_plaintext", sasl_mechanism="scram-sha-512")
    assert (settings.security_protocol, settings.sasl_mechanism) == ("SASL_PLAINTEXT", "SCRAM-SHA-512")


def all_commands() -> list[Any]:
    """Return every command, those of groups included."""
    found = [load_command(name) for name in COMMANDS]
    return [each for command in found for each in (command, *getattr(command, "commands", {}).values())]


def defaults() -> dict[str, str]:
    """Return every setting and its default, as text."""
    found: dict[str, str] = {}
    for prefix, kind in (("STEPSTREAM_", Settings), ("STEPSTREAM_KAFKA_", KafkaSettings)):
        for field in fields(kind):
            found[prefix + field.name.upper()] = _text(field)
    for command in all_commands():
        for option in command.params:
            if option.envvar and option.envvar not in found:
                found[option.envvar] = str(getattr(option.default, "value", option.default))
    return found


def _text(field: "Field[Any]") -> str:
    assert field.default is not MISSING
    match field.default:
        case None | "":
            return "none"
        case bool():
            return str(int(field.default))
        case float():
            return f"{field.default:g}"
    return str(field.default)


def test_every_setting_is_documented() -> None:
    """docs/settings.md has exactly the settings of the code, with their defaults and options."""
    # The table of exit codes has fewer columns.
    rows = [row for row in table_rows((ROOT / "docs" / "settings.md").read_text("utf-8")) if len(row) > 2]
    assert {row[0].strip("`"): row[1].strip("`") for row in rows if row[0].startswith("`")} == defaults()
    options = {name for command in all_commands() for option in command.params for name in option.opts}
    for row in rows:
        assert set(re.findall(r"--[a-z-]+", row[2])) <= options, row[0]
