"""The settings of a process: from options, else from STEPSTREAM_… in the environment, else the defaults."""

import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from stepstream.api.guards import is_loopback
from stepstream.contract.errors import InvalidInput, StepstreamError
from stepstream.contract.limits import NAMESPACE_CHARACTERS_MAX
from stepstream.contract.names import check_topic_part
from stepstream.runtime.kafka.settings import KafkaSettings
from stepstream.sdk.errors import DefinitionError
from stepstream.sdk.source import Source

DRAIN_S = 25.0
_PORT_MAX = 65_535
_KEY_REMEDY = "take letters, digits and . _ ~ - + =, as `openssl rand -hex 32` prints them"
# What goes as it is behind `Bearer ` (RFC 6750).
_NO_KEY = re.compile(r"[^A-Za-z0-9._~+/=-]")
_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


class SettingsError(StepstreamError):
    """A setting is wrong; the message says what to set."""

    code = "settings"


@dataclass(frozen=True, slots=True)
class Settings:
    """`event_key` guards POST /e/{key}, `api_key` the rest; both may be empty only on the loopback.

    With `durable` the laptop's runtime waits for the disk; without `live_cache` a run is replayed at each turn.

    `instance` is a name that a process keeps over its restarts (a pod's), so that its shards wait for it. A worker
    answers probes on `metrics_host` and `metrics_port`, if it has one (0: a free one). `version` is that of the users'
    code, as their image has it. A worker that is asked to end lets steps at work end for `drain_s` seconds. With
    `standby` an engine keeps copies of the tables of shards that others own;
    `sources` is a file of topics whose records it turns into events.
    """

    data_dir: Path = Path(".stepstream")
    host: str = "127.0.0.1"
    port: int = 8288
    event_key: str = ""
    api_key: str = ""
    durable: bool = False
    live_cache: bool = True
    instance: str = ""
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    version: str = ""
    standby: bool = False
    sources: Path | None = None
    drain_s: float = DRAIN_S

    def __post_init__(self) -> None:
        for name in ("event_key", "api_key"):
            if found := _NO_KEY.search(getattr(self, name)):
                raise SettingsError(f"{name} has a {found[0]!r}, and no caller can send it; {_KEY_REMEDY}")
        if "/" in self.event_key or self.event_key in (".", ".."):
            raise SettingsError(f"event_key is part of the path of a URL, where it can have no '/'; {_KEY_REMEDY}")
        if not is_loopback(self.host) and not (self.event_key and self.api_key):
            raise SettingsError(
                f"host {self.host!r} is open to others: set STEPSTREAM_EVENT_KEY and STEPSTREAM_API_KEY, "
                "or bind to 127.0.0.1"
            )


def read_sources(path: Path) -> list[Source]:
    """Return the sources of a TOML file, a table `[[source]]` each; raise SettingsError with the place at fault."""
    try:
        tables = tomllib.loads(path.read_text("utf-8")).get("source", [])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"sources {path}: {error}") from None
    known = {"if" if field.name == "if_" else field.name for field in fields(Source)}
    found: list[Source] = []
    for number, table in enumerate(tables if isinstance(tables, list) else [tables], 1):
        try:
            if not isinstance(table, dict):
                raise DefinitionError(f"a table [[source]] is wanted, and {table!r} is none")
            if unknown := table.keys() - known:
                raise DefinitionError(f"there is no {unknown.pop()!r}, only {', '.join(sorted(known))}")
            if wrong := [name for name, value in table.items() if not isinstance(value, str)]:
                raise DefinitionError(f"{wrong[0]} is a text")
            given = {"if_" if name == "if" else name: value for name, value in table.items()}
            found.append(Source(**{"topic": "", **given}))
        except DefinitionError as error:
            raise SettingsError(f"sources {path}, source {number}: {error}") from None
    if not found:
        raise SettingsError(f"sources {path}: there is no table [[source]] in it")
    return found


def kafka_settings_from(environment: Mapping[str, str] | None = None, **options: object) -> KafkaSettings:
    """Return how to reach Kafka, from options, else from STEPSTREAM_KAFKA_… in the environment."""
    env = os.environ if environment is None else environment
    given = {name: str(value) for name, value in options.items() if value is not None}
    found = {
        field.name: given.get(field.name, env.get(f"STEPSTREAM_KAFKA_{field.name.upper()}") or str(field.default))
        for field in fields(KafkaSettings)
    }
    if namespace := found["namespace"]:
        _check_namespace(namespace)
    return KafkaSettings(**found)


def _check_namespace(namespace: str) -> None:
    try:
        check_topic_part(namespace)
    except InvalidInput as error:
        raise SettingsError(f"namespace {namespace!r}: {error}") from None
    if (length := len(namespace)) > NAMESPACE_CHARACTERS_MAX:
        reason = f"{length} characters, and at most {NAMESPACE_CHARACTERS_MAX} leave room for the names of topics"
        raise SettingsError(f"namespace {namespace!r}: {reason}")


def _port(name: str, value: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", value) or int(value) > _PORT_MAX:
        raise SettingsError(f"{name} {value!r}: a number from 0 to {_PORT_MAX} is wanted")
    return int(value)


def _seconds(name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise SettingsError(f"{name} {value!r}: a number of seconds, 0 or more, is wanted")
    return seconds


def _switch(name: str, value: str) -> bool:
    if (found := _WORDS.get(value.lower())) is None:
        raise SettingsError(f"{name} {value!r}: one of {', '.join(_WORDS)} is wanted")
    return found


def settings_from(environment: Mapping[str, str] | None = None, **options: object) -> Settings:
    """Return the settings; an option that is None and a variable that is empty count as not given."""
    env = os.environ if environment is None else environment
    given = {name: value for name, value in options.items() if value is not None}

    def read(name: str, default: str) -> str:
        # A key that was read from a file ends with the end of its line.
        return str(given.get(name, env.get(f"STEPSTREAM_{name.upper()}", "").rstrip("\r\n") or default))

    metrics_port = read("metrics_port", "")
    return Settings(
        Path(read("data_dir", ".stepstream")),
        read("host", "127.0.0.1"),
        _port("port", read("port", "8288")),
        read("event_key", ""),
        read("api_key", ""),
        _switch("durable", read("durable", "0")),
        _switch("live_cache", read("live_cache", "1")),
        read("instance", ""),
        read("metrics_host", "127.0.0.1"),
        _port("metrics_port", metrics_port) if metrics_port else None,
        read("version", ""),
        _switch("standby", read("standby", "0")),
        Path(sources) if (sources := read("sources", "")) else None,
        _seconds("drain_s", read("drain_s", str(DRAIN_S))),
    )
