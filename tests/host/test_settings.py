"""The settings: what is taken, what is refused with the reason, and that all of them are listed."""

import re
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest
import typer

from stepstream.cli.main import cli
from stepstream.contract.errors import StepstreamError
from stepstream.host.settings import Settings, SettingsError, kafka_settings_from, read_sources, settings_from
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.settings import KafkaSettings
from tests.markdown import table_rows
from tests.tidy_rules import ROOT

SWITCHES = ("durable", "live_cache", "standby")


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize(
    ("word", "wanted"),
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
def test_a_switch_takes_the_usual_words(name: str, word: str, wanted: bool) -> None:
    """All switches take 1, true, yes and on, and their opposites, in letters of any size."""
    assert getattr(settings_from({f"STEPSTREAM_{name.upper()}": word}), name) is wanted


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("word", ["ture", "2", "enabled", "y", " "])
def test_what_is_no_switch_is_refused(name: str, word: str) -> None:
    """A word that is neither is no silent no."""
    with pytest.raises(SettingsError, match=f"{name} '{word}': one of 1, true, yes, on, 0, false, no, off"):
        settings_from({f"STEPSTREAM_{name.upper()}": word})


def test_an_empty_variable_is_not_set() -> None:
    """Compose and its like set variables to nothing; each then has its default."""
    empty = {f"STEPSTREAM_{field.name.upper()}": "" for field in fields(Settings)}
    assert settings_from(empty) == settings_from({}) == Settings()
    empty = {f"STEPSTREAM_KAFKA_{field.name.upper()}": "" for field in fields(KafkaSettings)}
    assert kafka_settings_from(empty) == KafkaSettings()


@pytest.mark.parametrize("port", ["²", "-1", "65536", "1e3", "tcp://10.0.0.1:8288", "٣"])
def test_what_is_no_port_is_refused(port: str) -> None:
    """A port is digits of ASCII, up to 65535."""
    with pytest.raises(SettingsError, match="a number from 0 to 65535 is wanted"):
        settings_from({"STEPSTREAM_PORT": port})


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_the_loopback_needs_no_keys(host: str) -> None:
    """What only this machine can reach may be open."""
    assert settings_from({"STEPSTREAM_HOST": host}).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "my-host", "localhost.example", "127.0.0.1.example"])  # noqa: S104 - refused
@pytest.mark.parametrize("keys", [{}, {"event_key": "e"}, {"api_key": "a"}])
def test_what_others_reach_needs_both_keys(host: str, keys: dict[str, str]) -> None:
    """Any other address or name is refused while a key is missing, and taken with both."""
    with pytest.raises(SettingsError, match="set STEPSTREAM_EVENT_KEY and STEPSTREAM_API_KEY"):
        settings_from({}, host=host, **keys)
    assert settings_from({}, host=host, event_key="e", api_key="a").host == host


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_the_end_of_a_line_is_no_part_of_a_key(end: str) -> None:
    """A key that was read from a file is the one that callers send."""
    settings = settings_from({"STEPSTREAM_EVENT_KEY": f"e{end}", "STEPSTREAM_API_KEY": f"aB9._~+/=-{end}"})
    assert (settings.event_key, settings.api_key) == ("e", "aB9._~+/=-")


@pytest.mark.parametrize("name", ["event_key", "api_key"])
@pytest.mark.parametrize("key", ["schlüssel", "a b", "a\nb", "a%2Fb", "a?b", "a#b", "\t", '"a"', "a\x00"])
def test_a_key_that_nobody_can_send_is_refused(name: str, key: str) -> None:
    """What cannot stand in a header or a path as it is would match no request; the key itself is not told."""
    with pytest.raises(SettingsError, match=f"^{name} has a .* no caller can send it; take letters, digits") as caught:
        settings_from({f"STEPSTREAM_{name.upper()}": key})
    assert key not in str(caught.value).split("has a", 1)[1] or len(key) == 1


@pytest.mark.parametrize("key", ["a/b", "/", ".", ".."])
def test_an_event_key_is_one_part_of_a_path(key: str) -> None:
    """A slash in it, or what clients take for a folder, would lead elsewhere; the API key may have one."""
    with pytest.raises(SettingsError, match="event_key is part of the path of a URL"):
        settings_from({"STEPSTREAM_EVENT_KEY": key})
    assert settings_from({"STEPSTREAM_API_KEY": key}).api_key == key


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('source = "x"', "source 1: a table [[source]] is wanted, and 'x' is none"),
        ("source = [1]", "source 1: a table [[source]] is wanted, and 1 is none"),
        ("source = 1", "source 1: a table [[source]] is wanted, and 1 is none"),
        ("", "there is no table [[source]] in it"),
        ('[[source]]\ntopic = "a"\nname = "b"\nif_ = "true"', "source 1: there is no 'if_', only data, format"),
        ('[[source]]\ntopic = "a"\nname = 5', "source 1: name is a text"),
        ("[[source]", "Expected ']]'"),
    ],
)
def test_a_file_of_sources_that_is_none_is_told(tmp_path: Path, text: str, reason: str) -> None:
    """Whatever TOML can hold, the answer names the file and what is wrong in it."""
    path = tmp_path / "sources.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(SettingsError) as caught:
        read_sources(path)
    assert str(caught.value).startswith(f"sources {path}")
    assert reason in str(caught.value)


def test_a_condition_in_a_file_is_called_if(tmp_path: Path) -> None:
    """The file spells it as people do, the code with the underscore that Python wants."""
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
        ({"security_protocol": "TLS"}, "expected one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        ({"sasl_mechanism": "FOO"}, "expected one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"),
        ({"security_protocol": "SASL_SSL", "sasl_password": "p"}, "SASL_USERNAME '': SASL_SSL requires it"),
        ({"security_protocol": "SASL_SSL", "sasl_username": "u"}, "SASL_PASSWORD '': SASL_SSL requires it"),
        ({"security_protocol": "SSL", "ca_file": "/nope"}, "CA_FILE '/nope': no certificates to trust: No such file"),
        ({"security_protocol": "SSL", "ca_file": __file__}, "no certificates to trust: "),
        ({"security_protocol": "SSL", "cert_file": "/nope"}, "CERT_FILE '/nope': no certificate with the key of"),
    ],
)
def test_a_wrong_setting_of_kafka_is_told(settings: dict[str, str], reason: str) -> None:
    """What no client could use is refused before one is made, by the name of its variable."""
    environment = {f"STEPSTREAM_KAFKA_{name.upper()}": value for name, value in settings.items()}
    with pytest.raises(StepstreamError) as caught:
        Cluster(kafka_settings_from(environment))
    assert reason in str(caught.value)


@pytest.mark.parametrize("bootstrap", ["a:1", "a", "a:1,b:2", "a:1, b:2", "[::1]:9092", "10.0.0.1:65535"])
def test_brokers_are_named_in_any_usual_form(bootstrap: str) -> None:
    """Names and addresses, with a port or the usual one, several with commas."""
    assert KafkaSettings(bootstrap).bootstrap == bootstrap


def test_protocol_and_mechanism_may_be_in_small_letters() -> None:
    """They are taken as if they were in capitals."""
    settings = kafka_settings_from({}, security_protocol="sasl_plaintext", sasl_mechanism="scram-sha-512")
    assert (settings.security_protocol, settings.sasl_mechanism) == ("SASL_PLAINTEXT", "SCRAM-SHA-512")


def defaults() -> dict[str, str]:
    """Return every setting and its default, as text."""
    found: dict[str, str] = {}
    for prefix, kind in (("STEPSTREAM_", Settings), ("STEPSTREAM_KAFKA_", KafkaSettings)):
        for field in fields(kind):
            found[prefix + field.name.upper()] = _text(field)
    commands: Any = typer.main.get_command(cli)
    for command in commands.commands.values():
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


def test_every_setting_is_listed() -> None:
    """docs/settings.md has each setting of the code, no other, with its default and the option that it has."""
    rows = table_rows((ROOT / "docs" / "settings.md").read_text("utf-8"))
    assert {row[0].strip("`"): row[1].strip("`") for row in rows if row[0].startswith("`")} == defaults()
    commands: Any = typer.main.get_command(cli)
    options = {name for command in commands.commands.values() for option in command.params for name in option.opts}
    for row in rows:
        assert set(re.findall(r"--[a-z-]+", row[2])) <= options, row[0]
