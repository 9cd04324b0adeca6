"""Registrations: what an app says of itself and its functions, in the shapes of all SDKs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgspec
from msgspec.structs import replace

from stepstream.contract.codec import Json, load_json
from stepstream.contract.errors import InvalidInput, TooLarge
from stepstream.contract.events import FAILED
from stepstream.contract.functions import EventTrigger, FunctionRegistered
from stepstream.contract.limits import FUNCTION_NAME_CHARACTERS_MAX, MIB, SDK_CHARACTERS_MAX
from stepstream.contract.text.names import check_workers_name
from stepstream.gateway.wire.calls import CONNECT_URL
from stepstream.gateway.wire.function_mapping import FunctionConfig, read_function

REGISTRATION_BYTES_MAX = 4 * MIB
FUNCTIONS_PER_APP_MAX = 1_000
_APP_CHARACTERS_MAX = 100
_NOT_IN_TOPICS = re.compile(r"[^A-Za-z0-9_-]+")
# The condition of the trigger by which SDKs register a handler of the failures of one function.
_FAILURE_OF = re.compile(r"""\s*event\.data\.function_id\s*==\s*(['"])([^'"\\]+)\1\s*""")


@dataclass(frozen=True, slots=True)
class RemoteFunctionConfig:
    """A function of an app: its composite id, the URL of its calls, and its registration."""

    id: str
    url: str
    registered: FunctionRegistered


@dataclass(frozen=True, slots=True)
class Refusal:
    """A function that cannot be registered, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class AppRegistration:
    """An app: its name and URL, its SDK such as `js:v4.24.0`, and all its functions.

    `topic_name` is the name of the app in the engine, which differs if Kafka does not allow the name in a topic.
    """

    name: str
    url: str
    sdk: str = ""
    version: str = ""
    framework: str = ""
    functions: tuple[RemoteFunctionConfig, ...] = ()
    refused: tuple[Refusal, ...] = ()

    @property
    def topic_name(self) -> str:
        """The name of the app in the engine."""
        return engine_app_name(self.name)

    @property
    def refusal(self) -> str:
        """Why functions are refused, as text for the developers of the app; empty if none is."""
        return "; ".join(f"function {each.id!r}: {each.reason}" for each in self.refused)


@dataclass(frozen=True, slots=True)
class SyncFailure:
    """What is wrong with an app since a time (Unix ms); `app` is empty for a URL at which none has registered."""

    app: str
    url: str
    error: str
    at_ms: int

    @property
    def text(self) -> str:
        """The failure as a sentence."""
        subject = f"App {self.app}" if self.app else "The app"
        return f"{subject} at {self.url} failed to register: {self.error}"


class _Registration(msgspec.Struct):
    """The body of an out-of-band or in-band registration; names are in lower case, and nulls are left out."""

    appname: str = ""
    app_id: str = ""
    url: str = ""
    sdk: str = ""
    sdk_language: str = ""
    sdk_version: str = ""
    appversion: str = ""
    framework: str = ""
    functions: list[Any] = []


def without_query(url: str) -> str:
    """Return a URL without its query: the part that the functions of an app share."""
    return url.partition("?")[0]


def named_in(body: bytes) -> tuple[str, str]:
    """Return the name of the app in the engine and its URL, of a registration that may be refused; "" if unknown."""
    try:
        found = _decode(body)
    except InvalidInput:
        return "", ""
    return engine_app_name(found.appname) if found.appname.strip() else "", found.url


def engine_app_name(name: str) -> str:
    """Return the name of an app in the engine: the same, or a similar one that can be part of a topic name."""
    try:
        check_workers_name(name)
    except InvalidInput:
        similar = _NOT_IN_TOPICS.sub("-", name).strip("-")[:_APP_CHARACTERS_MAX]
        return f"{similar}-{sha256(name.encode()).hexdigest()[:8]}".lstrip("-")
    return name


def read_registration(body: bytes) -> AppRegistration:
    """Return the app in the body of `POST /fn/register`; raise InvalidInput if the body is not a registration.

    Names of fields are matched without regard to case, and unknown fields are ignored.
    """
    found = _decode(body)
    return _app(found.appname, found.sdk, found)


def read_in_band(body: bytes) -> AppRegistration:
    """Return the app in the answer to an in-band PUT; raise InvalidInput if the answer is not a registration."""
    found = _decode(body)
    sdk = found.sdk or ":v".join(filter(None, (found.sdk_language, found.sdk_version)))
    return _app(found.app_id, sdk, found)


def read_functions(app: str, sdk: str, version: str, functions: Sequence[Any]) -> AppRegistration:
    """Return an app whose workers connect, by its functions; raise InvalidInput as `read_registration` does."""
    lowered = _lowered(list(functions))
    found = lowered if isinstance(lowered, list) else []
    return _app(app, sdk, _Registration(url=CONNECT_URL, appversion=version, functions=found))


def _decode(body: bytes) -> _Registration:
    if len(body) > REGISTRATION_BYTES_MAX:
        raise TooLarge(f"{len(body):,} bytes; at most {REGISTRATION_BYTES_MAX:,} are allowed", "registration")
    value = load_json(body, field="registration")
    if not isinstance(value, dict):
        raise InvalidInput("use a JSON object", "registration")
    try:
        return msgspec.convert(_lowered(value), _Registration)
    except msgspec.ValidationError as error:
        raise InvalidInput(str(error), "registration") from None


def _lowered(value: Json) -> Json:
    """Return a value with all names of fields in lower case and without nulls, which mean that a field is absent."""
    match value:
        case dict():
            return {name.lower(): _lowered(item) for name, item in value.items() if item is not None}
        case list():
            return [_lowered(item) for item in value]
    return value


def _app(name: str, sdk: str, found: _Registration) -> AppRegistration:
    if not name.strip() or not name.isprintable():
        raise InvalidInput("an app needs a name of printable characters", "appName")
    if len(found.functions) > FUNCTIONS_PER_APP_MAX:
        raise TooLarge(
            f"{len(found.functions):,} functions; at most {FUNCTIONS_PER_APP_MAX:,} are allowed", "functions"
        )
    app = engine_app_name(name)
    read: dict[str, RemoteFunctionConfig] = {}
    refused: list[Refusal] = []
    for position, each in enumerate(found.functions):
        id = each.get("id") if isinstance(each, dict) else None
        if not isinstance(id, str) or id in read:
            raise InvalidInput("a function needs an id that no other one has", f"functions[{position}].id")
        try:
            config = msgspec.convert(each, FunctionConfig)
            url, registered = read_function(config, app, found.appversion)
        except (msgspec.ValidationError, InvalidInput) as error:
            refused.append(Refusal(id, str(error)))
            continue
        shown = config.name[:FUNCTION_NAME_CHARACTERS_MAX]
        registered = replace(registered, sdk=sdk[:SDK_CHARACTERS_MAX], name=shown)
        read[id] = RemoteFunctionConfig(id, url, registered)
    functions = tuple(_with_failure_handlers(read).values())
    return AppRegistration(name, found.url, sdk, found.appversion, found.framework, functions, tuple(refused))


def _with_failure_handlers(functions: Mapping[str, RemoteFunctionConfig]) -> Mapping[str, RemoteFunctionConfig]:
    """Let the engine start the handler of a function's failures, whose event has the event of the failed run."""
    linked = dict(functions)
    for handler in functions.values():
        for trigger in handler.registered.triggers:
            failed = _failure_of(trigger)
            if failed in linked and not linked[failed].registered.on_failure:
                linked[failed] = _changed(linked[failed], on_failure=handler.id)
                rest = tuple(each for each in linked[handler.id].registered.triggers if each != trigger)
                linked[handler.id] = _changed(linked[handler.id], triggers=rest)
    return linked


def _failure_of(trigger: object) -> str:
    """Return the id of the function whose failures a trigger matches, and those of no other; "" for none."""
    if not isinstance(trigger, EventTrigger) or trigger.event != FAILED:
        return ""
    found = _FAILURE_OF.fullmatch(trigger.condition)
    return found[2] if found else ""


def _changed(function: RemoteFunctionConfig, **changes: object) -> RemoteFunctionConfig:
    changed = replace(function.registered, **changes)
    return RemoteFunctionConfig(function.id, function.url, changed)
