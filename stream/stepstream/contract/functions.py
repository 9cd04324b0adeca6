"""Registrations: the records of the compacted topic `functions`, by which the engine knows functions."""

import re
from collections.abc import Iterable, Iterator

import msgspec
from msgspec.structs import astuple

from stepstream.contract.codec import NULL, Raw
from stepstream.contract.errors import InvalidInput
from stepstream.contract.gates import GateRule, check_rules
from stepstream.contract.limits import (
    CANCEL_ON_PER_FUNCTION_MAX,
    CHAIN_RUNS_MAX,
    DEFAULT_LIMITS,
    ENDPOINT_CHARACTERS_MAX,
    FUNCTION_NAME_CHARACTERS_MAX,
    LIMITS_PER_APP_MAX,
    RETRIES_DEFAULT,
    SDK_CHARACTERS_MAX,
)
from stepstream.contract.text.names import check_topic_part, check_workers_name, workers_name

_PART_ENDS = re.compile(r"[/.]")


class EventTrigger(msgspec.Struct, frozen=True, tag="event", tag_field="type", omit_defaults=True):
    """Start on events of this name for which the CEL expression `condition` on `event` holds (empty: always).

    A name that ends in `/*` or `.*` stands for all names that start with the part before the star.
    """

    event: str
    condition: str = ""


class CronTrigger(msgspec.Struct, frozen=True, tag="cron", tag_field="type", omit_defaults=True):
    """Start at the times of a cron expression of 5 fields, in an IANA time zone.

    With `jitter_ms` each start is later by less than that, which differs by function and time.
    """

    expression: str
    timezone: str = "UTC"
    jitter_ms: int = 0


Trigger = EventTrigger | CronTrigger


class CancelTrigger(msgspec.Struct, frozen=True, omit_defaults=True):
    """Cancel an open run on an event of this name; `match` and `condition` are those of a wait for an event.

    It counts for `timeout_ms` from the admission of the run (0: until the run ends).
    """

    event: str
    match: str = ""
    condition: str = ""
    timeout_ms: int = 0


class RunTimeouts(msgspec.Struct, frozen=True, omit_defaults=True):
    """How long a run may take: to execute its first code after it is due to start, and to end after that (0: no limit).

    A run that takes longer is cancelled.
    """

    start_ms: int = 0
    finish_ms: int = 0


class FunctionRegistered(msgspec.Struct, frozen=True, omit_defaults=True):
    """A function as its worker registered it. `retired` removes its triggers; open runs continue.

    `on_failure` is the id of the function that starts when a run of this one fails. `version` is a digest of the code,
    recorded with each run. `lookback_ms` is how far back its waits may look; `queues` are those of its app. `release`
    is a digest of all functions of the app in this worker, `replaced` are the releases that it replaced, latest last.
    `chain_max` is how many runs may start one another in a chain that this function continues. `attributes` are CEL
    expressions on `event` by name, whose values become the attributes of a run when it begins. The events of
    `cancel_on` cancel its open runs, and so do `timeouts`. `retries` is how many attempts of a step, or of the code
    between steps, may follow the first one. `input` is the JSON schema of the data of the events that start it, null if
    it declares none. Its runs pass its `gates` one after the other, and `priority` is a CEL expression on `event`,
    whose value in seconds moves a run forward where it waits for one. `endpoint` is the URL by which a gateway calls a
    function of an app that uses another SDK, and `sdk` that SDK, such as `js:v4.24.0`. `name` is for people, empty if
    it has none but its id. `step_limits` are those that its app declares for single steps.
    """

    id: str
    app: str
    triggers: tuple[Trigger, ...] = ()
    on_failure: str = ""
    version: str = ""
    lookback_ms: int = 0
    retired: bool = False
    queues: tuple[str, ...] = ()
    release: str = ""
    replaced: tuple[str, ...] = ()
    chain_max: int = CHAIN_RUNS_MAX
    attributes: dict[str, str] = {}
    cancel_on: tuple[CancelTrigger, ...] = ()
    timeouts: RunTimeouts | None = None
    retries: int = RETRIES_DEFAULT
    input: Raw = NULL
    gates: tuple[GateRule, ...] = ()
    priority: str = ""
    endpoint: str = ""
    sdk: str = ""
    name: str = ""
    step_limits: tuple[GateRule, ...] = ()


def trigger_names(event: str) -> list[str]:
    """Return the names of triggers that an event of this name starts: the name itself, then the wildcards."""
    wildcards = (f"{event[: found.end()]}*" for found in _PART_ENDS.finditer(event))
    return [event, *(name for name in wildcards if name != event)]


_decode = msgspec.json.Decoder(FunctionRegistered).decode


def decode_function(value: bytes) -> FunctionRegistered:
    """Decode a record of `functions`; raise InvalidInput if it is out of bounds.

    The names of the app and its queues must fit into topic names, and a look-back may be as long as a wait at most.
    """
    function: FunctionRegistered = _decode(value)
    check_workers_name(function.app)
    for queue in function.queues:
        check_topic_part(queue)
        check_workers_name(workers_name(function.app, queue))
    if not 0 <= function.lookback_ms <= DEFAULT_LIMITS.wait_ms_max:
        raise InvalidInput("events are kept for 0 to 366 days", "lookback_ms")
    if function.chain_max < 1:
        raise InvalidInput("a chain has at least one run", "chain_max")
    if len(function.cancel_on) > CANCEL_ON_PER_FUNCTION_MAX:
        raise InvalidInput(f"at most {CANCEL_ON_PER_FUNCTION_MAX} events may cancel a run", "cancel_on")
    if not all(0 <= each.timeout_ms <= DEFAULT_LIMITS.wait_ms_max for each in function.cancel_on):
        raise InvalidInput("an event may cancel a run for 0 to 366 days", "cancel_on")
    if function.timeouts and not all(0 <= ms <= DEFAULT_LIMITS.wait_ms_max for ms in astuple(function.timeouts)):
        raise InvalidInput("a timeout of a run is 0 to 366 days", "timeouts")
    check_rules(function.gates)
    check_rules(function.step_limits, LIMITS_PER_APP_MAX)
    if len(function.endpoint) > ENDPOINT_CHARACTERS_MAX or len(function.sdk) > SDK_CHARACTERS_MAX:
        at_most = f"{ENDPOINT_CHARACTERS_MAX:,} and {SDK_CHARACTERS_MAX}"
        raise InvalidInput(f"an endpoint and the name of an SDK have at most {at_most} characters", "endpoint")
    if len(function.name) > FUNCTION_NAME_CHARACTERS_MAX:
        raise InvalidInput(f"a name has at most {FUNCTION_NAME_CHARACTERS_MAX} characters", "name")
    return function


def readable_functions(values: Iterable[bytes]) -> Iterator[FunctionRegistered]:
    """Yield the functions among the records of `functions`; the shards dead-letter those that cannot be read."""
    for value in values:
        try:
            yield decode_function(value)
        except (InvalidInput, msgspec.MsgspecError, ValueError, RecursionError):
            continue
