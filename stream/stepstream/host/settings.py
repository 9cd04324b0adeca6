"""The settings of a process: options first, then STEPSTREAM_… of the environment, then the defaults."""

import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from stepstream.api.guards import Keys, is_loopback
from stepstream.api.page_options import PageMode, PageOptions, networks_of
from stepstream.contract.errors import InvalidDuration, InvalidInput, StepstreamError
from stepstream.contract.limits import BODY_THREADS_MAX, DAY_MS, MEMORY_BYTES_MAX, MIB, NAMESPACE_CHARACTERS_MAX
from stepstream.contract.text.durations import duration_ms
from stepstream.contract.text.names import check_topic_part
from stepstream.gateway.sync.signing_keys import SigningKeys
from stepstream.mcp.modes import McpMode
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.readmodel.pruning import (
    FOREVER_MS,
    RETENTION_BYTES_MIN,
    RETENTION_DAYS,
    RETENTION_DAYS_MAX,
    Retention,
)
from stepstream.runtime.storage.syncing import Fsync
from stepstream.sdk.errors import DefinitionError
from stepstream.sdk.source import Source

Choice = TypeVar("Choice", bound=StrEnum)
DRAIN_S = 25.0
FAILOVER_S = 1.2
# With this retention, runs are dropped only to limit the size of the list.
NEVER = "never"
_PORT_MAX = 65_535
_KEY_REMEDY = "use ASCII letters, digits and . _ ~ - + =, for example the output of `openssl rand -hex 32`"
# All other characters are not allowed in a bearer token (RFC 6750).
_NOT_IN_KEY = re.compile(r"[^A-Za-z0-9._~+/=-]")
_SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


class SettingsError(StepstreamError):
    """A setting is wrong; the message says what to set."""

    code = "settings"


@dataclass(frozen=True, slots=True)
class Settings:
    """What options and the environment may set; raises SettingsError for a combination that cannot work.

    event_key        the secret in POST /e/{key}; may be empty only if `host` is a loopback address
    api_key          the bearer token of all other routes; the same holds
    read_key         a key that opens the page for reading, in addition to the API key
    page             whether the page is served: off, read-only or on
    user_header      the header in which a trusted proxy states the user of the page
    proxies          the networks of trusted proxies
    fsync            when `dev` syncs its writes to the disk: always, interval or never
    live_cache       keep the coroutine of a run between activations; without it, each activation replays the run
    instance         a name that survives restarts of the process (a pod's), so that its shards are kept for it
    metrics_port     a port only for probes and metrics, at `metrics_host`; None for no port, 0 for any
    version          the version of the user's code, set by their image
    standby          an engine keeps warm copies of the shards that other engines own
    failover_s       after how many silent seconds standbys take over the shards of an engine; 0 leaves it to the group
    sources          a TOML file of topics whose records an engine turns into events
    retention        how long the list of runs keeps a run after its end, or "never" to drop none because of its age;
                     empty for RETENTION_DAYS, or never in a folder that `stepstream replay` filled
    retention_bytes  how large the list of runs may be; None for any size
    drain_s          for how many seconds running steps may finish after SIGTERM
    memory_mib       how many MiB of results and reports the workers of the process hold
    body_threads     how many plain step bodies run at the same time
    read_model       the URL of a PostgreSQL database that has the list of runs; empty for a file of each engine
    signing_key      the key that gateway and apps of Inngest SDKs share; without it, they are in development mode
    signing_key_fallback  one more key that is accepted from apps, while they change to another one
    allow_hosts      names and networks that URLs of apps may have although they are not public, separated by commas
    connect_port     the port to which workers of Inngest SDKs connect; None for the one after `port`
    connect_url      the URL at which workers reach that port, for example through a proxy; empty for the host they name
    peer_url         the URL at which other gateways reach the HTTP port of this one; empty if they do not
    mcp              whether agents are served at /mcp: off, read-only or on
    """

    data_dir: Path = Path(".stepstream")
    host: str = "127.0.0.1"
    port: int = 8288
    event_key: str = ""
    api_key: str = ""
    fsync: Fsync = Fsync.INTERVAL
    live_cache: bool = True
    instance: str = ""
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    version: str = ""
    standby: bool = False
    failover_s: float = FAILOVER_S
    sources: Path | None = None
    drain_s: float = DRAIN_S
    retention: str = ""
    retention_bytes: int | None = None
    memory_mib: int = MEMORY_BYTES_MAX // MIB
    body_threads: int = BODY_THREADS_MAX
    read_key: str = ""
    page: PageMode = PageMode.ON
    user_header: str = ""
    proxies: str = ""
    # Its password must not be in a message or a log.
    read_model: str = field(default="", repr=False)
    signing_key: str = field(default="", repr=False)
    signing_key_fallback: str = field(default="", repr=False)
    allow_hosts: str = ""
    connect_port: int | None = None
    connect_url: str = ""
    peer_url: str = ""
    mcp: McpMode = McpMode.OFF

    def __post_init__(self) -> None:
        for name in ("event_key", "api_key", "read_key"):
            if found := _NOT_IN_KEY.search(getattr(self, name)):
                raise SettingsError(f"{name} contains {found[0]!r}, which no HTTP client can send; {_KEY_REMEDY}")
        if "/" in self.event_key or self.event_key in (".", ".."):
            raise SettingsError(f"event_key is a part of a URL's path and must not contain '/'; {_KEY_REMEDY}")
        if self.read_key and (not self.api_key or self.read_key == self.api_key):
            raise SettingsError("read_key is in addition to the API key: set STEPSTREAM_API_KEY, to another value")
        if self.user_header and not self.page_options.proxies:
            raise SettingsError("user_header counts only behind a proxy: set STEPSTREAM_PROXIES, such as 10.0.0.0/8")
        if not self.is_local and not (self.event_key and self.api_key):
            raise SettingsError(
                f"host {self.host!r} can be reached from other machines: set STEPSTREAM_EVENT_KEY and "
                "STEPSTREAM_API_KEY, or bind to 127.0.0.1"
            )
        if self.retention_bytes is not None and self.retention_bytes < RETENTION_BYTES_MIN:
            raise SettingsError(f"retention_bytes {self.retention_bytes}: expected {RETENTION_BYTES_MIN:,} or more")
        if self.read_model and not self.read_model.startswith(("postgresql://", "postgres://")):
            raise SettingsError("read_model: expected a URL such as postgresql://USER:PASSWORD@HOST:5432/DATABASE")
        if self.read_model and self.retention_bytes is not None:
            raise SettingsError("retention_bytes limits a file, and read_model is a database: set only retention")
        _check_connect_url(self.connect_url)
        _check_peer_url(self.peer_url)
        _ = self.kept_runs, self.page_options, self.signing_keys

    @property
    def keys(self) -> Keys:
        """The secrets that clients must send."""
        return Keys(self.event_key, self.api_key, self.read_key)

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can reach the process."""
        return is_loopback(self.host)

    @property
    def serves_sdks(self) -> bool:
        """Whether SDKs may send requests: beside an API key, only if they have a key as well, the signing key."""
        return bool(self.signing_key) or not self.api_key

    @property
    def signing_keys(self) -> SigningKeys:
        """The keys that are shared with apps of SDKs."""
        if self.signing_key_fallback and not self.signing_key:
            raise SettingsError("signing_key_fallback is in addition to the signing key: set STEPSTREAM_SIGNING_KEY")
        try:
            return SigningKeys.of(self.signing_key, self.signing_key_fallback)
        except InvalidInput as error:
            raise SettingsError(f"{error}; make one with `echo signkey-prod-$(openssl rand -hex 32)`") from None

    @property
    def page_options(self) -> PageOptions:
        """How the page is served."""
        try:
            return PageOptions(self.page, self.user_header.lower(), networks_of(self.proxies))
        except ValueError as error:
            raise SettingsError(f"proxies {self.proxies!r}: {error}; write networks such as 10.0.0.0/8") from None

    @property
    def kept_runs(self) -> Retention:
        """Which runs the list of runs keeps after their end."""
        reason = f"retention {self.retention!r}: expected a duration from 1d to {RETENTION_DAYS_MAX}d, or {NEVER}"
        if self.retention == NEVER:
            return Retention(FOREVER_MS, self.retention_bytes or 0)
        try:
            kept_ms = duration_ms(self.retention or f"{RETENTION_DAYS}d")
        except InvalidDuration:
            raise SettingsError(reason) from None
        if not DAY_MS <= kept_ms <= RETENTION_DAYS_MAX * DAY_MS:
            raise SettingsError(reason)
        return Retention(kept_ms, self.retention_bytes or 0)


def read_sources(path: Path) -> list[Source]:
    """Return the sources of a TOML file, one table `[[source]]` each; raise SettingsError that says where it is bad."""
    try:
        tables = tomllib.loads(path.read_text("utf-8")).get("source", [])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"sources {path}: {error}") from None
    known = {"if" if each.name == "if_" else each.name for each in fields(Source)}
    found: list[Source] = []
    for number, table in enumerate(tables if isinstance(tables, list) else [tables], 1):
        try:
            if not isinstance(table, dict):
                raise DefinitionError(f"{table!r} is not a table; write [[source]]")
            if unknown := table.keys() - known:
                raise DefinitionError(f"unknown field {unknown.pop()!r}; the fields are {', '.join(sorted(known))}")
            if wrong := [name for name, value in table.items() if not isinstance(value, str)]:
                raise DefinitionError(f"{wrong[0]} must be a string")
            given = {"if_" if name == "if" else name: value for name, value in table.items()}
            found.append(Source(**{"topic": "", **given}))
        except DefinitionError as error:
            raise SettingsError(f"sources {path}, source {number}: {error}") from None
    if not found:
        raise SettingsError(f"sources {path}: the file has no table [[source]]")
    return found


def kafka_settings_from(environment: Mapping[str, str] | None = None, **options: object) -> KafkaSettings:
    """Return how to reach Kafka: options first, then STEPSTREAM_KAFKA_… of the environment."""
    env = os.environ if environment is None else environment
    given = {name: str(value) for name, value in options.items() if value is not None}
    found: dict[str, Any] = {
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
        reason = f"has {length} characters, at most {NAMESPACE_CHARACTERS_MAX} leave room for the names of topics"
        raise SettingsError(f"namespace {namespace!r} {reason}")


def _check_connect_url(url: str) -> None:
    if url and not url.startswith(("ws://", "wss://")):
        raise SettingsError("connect_url: expected a URL such as wss://connect.example.com/v0/connect")


def _check_peer_url(url: str) -> None:
    if url and not re.fullmatch(r"https?://[^/?#|\s]+", url):
        raise SettingsError(f"peer_url {url!r}: expected a URL without a path, such as http://10.0.0.7:8288")


def _port(name: str, value: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", value) or int(value) > _PORT_MAX:
        raise SettingsError(f"{name} {value!r}: expected a number from 0 to {_PORT_MAX}")
    return int(value)


def _count(name: str, value: str) -> int:
    if not re.fullmatch("[0-9]{1,6}", value) or not int(value):
        raise SettingsError(f"{name} {value!r}: expected a number from 1 to 999999")
    return int(value)


def _seconds(name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise SettingsError(f"{name} {value!r}: expected a number of seconds, 0 or more")
    return seconds


def _bytes(name: str, value: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", value):
        raise SettingsError(f"{name} {value!r}: expected a number of bytes")
    return int(value)


def _switch(name: str, value: str) -> bool:
    if (found := _SWITCH.get(value.lower())) is None:
        raise SettingsError(f"{name} {value!r}: expected one of {', '.join(_SWITCH)}")
    return found


def _choice(name: str, value: str, kind: type[Choice]) -> Choice:
    try:
        return kind(value)
    except ValueError:
        raise SettingsError(f"{name} {value!r}: expected one of {', '.join(kind)}") from None


def settings_from(environment: Mapping[str, str] | None = None, **options: object) -> Settings:
    """Return the settings; an option of None and an empty variable count as not given."""
    env = os.environ if environment is None else environment
    given = {name: value for name, value in options.items() if value is not None}

    def read(name: str, default: str) -> str:
        # A key that was read from a file ends with a line feed.
        return str(given.get(name, env.get(f"STEPSTREAM_{name.upper()}", "").rstrip("\r\n") or default))

    metrics_port = read("metrics_port", "")
    connect_port = read("connect_port", "")
    return Settings(
        Path(read("data_dir", ".stepstream")),
        read("host", "127.0.0.1"),
        _port("port", read("port", "8288")),
        read("event_key", ""),
        read("api_key", ""),
        _choice("fsync", read("fsync", Fsync.INTERVAL), Fsync),
        _switch("live_cache", read("live_cache", "1")),
        read("instance", ""),
        read("metrics_host", "127.0.0.1"),
        _port("metrics_port", metrics_port) if metrics_port else None,
        read("version", ""),
        _switch("standby", read("standby", "0")),
        _seconds("failover_s", read("failover_s", str(FAILOVER_S))),
        Path(sources) if (sources := read("sources", "")) else None,
        _seconds("drain_s", read("drain_s", str(DRAIN_S))),
        read("retention", ""),
        _bytes("retention_bytes", size) if (size := read("retention_bytes", "")) else None,
        _count("memory_mib", read("memory_mib", str(MEMORY_BYTES_MAX // MIB))),
        _count("body_threads", read("body_threads", str(BODY_THREADS_MAX))),
        read("read_key", ""),
        _choice("page", read("page", PageMode.ON), PageMode),
        read("user_header", ""),
        read("proxies", ""),
        read("read_model", ""),
        read("signing_key", ""),
        read("signing_key_fallback", ""),
        read("allow_hosts", ""),
        _port("connect_port", connect_port) if connect_port else None,
        read("connect_url", ""),
        read("peer_url", ""),
        _choice("mcp", read("mcp", McpMode.OFF), McpMode),
    )
