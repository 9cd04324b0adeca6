"""Calls: what the gateway sends to an app to run a function, or one step of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_plus, urlsplit, urlunsplit
from uuid import UUID, uuid5

from stepstream.contract.codec import Raw, encode
from stepstream.gateway.wire.canonical import canonical

DISCOVERY = "step"
VERSION_UNKNOWN = -1
# An app must not be sent more: hosting platforms refuse larger requests.
CALL_BYTES_MAX = 4 * 1024 * 1024
_STEP_PARAMETER = "stepId"
# The URL of an app whose workers connect to the gateway; no address is in such a URL.
CONNECT_URL = "wss://connect"
# The namespace of the ids that apps know instead of ours, which are not UUIDs.
_IDS = UUID("5f1b3a1e-5f6c-5c9b-9d0e-7a4d6f2c8e10")


def function_uuid(function: str) -> str:
    """Return the UUID by which an app knows a function, of its composite id."""
    return str(uuid5(_IDS, function))


def app_uuid(name: str) -> str:
    """Return the UUID of an app."""
    return str(uuid5(_IDS, f"app:{name}"))


@dataclass(frozen=True, slots=True)
class CallState:
    """What a call says: the run, its events and its memos, in the order in which the steps ended.

    `events` come from `event_json`, memos from `memo_json`, by the hash of their step. `step` is the hash of the one
    step that must run, or DISCOVERY. `attempt` counts from 0, `parallel` says that code must plan new steps instead of
    running one. `defers` are those that the gateway knows, and whether each may be aborted. With `use_api` the app
    fetches the events and the memos. An app that is not to send checkpoints gets no id of the function.
    """

    run_id: str
    function: str
    events: Sequence[Raw]
    memos: Mapping[str, Raw]
    step: str = DISCOVERY
    attempt: int = 0
    max_attempts: int = 1
    version: int = VERSION_UNKNOWN
    parallel: bool = False
    generation: int = 1
    request_id: str = ""
    job_id: str = ""
    queue_item: str = ""
    defers: Mapping[str, bool] = field(default_factory=dict)
    use_api: bool = False
    checkpoints: bool = True


def call_parts(state: CallState) -> list[bytes]:
    """Return the chunks of the body of a call, in canonical JSON; it may be larger than CALL_BYTES_MAX.

    Events and memos are not copied, so the size is known before the body is built.
    """
    defers = {step: {"abortable": abortable} for step, abortable in state.defers.items()}
    events = [] if state.use_api else state.events
    memos = {} if state.use_api else state.memos
    steps = [(encode(step) + b":", memos[step]) for step in sorted(memos)]
    # The parts are canonical, and so are their names in this order.
    return [
        b'{"ctx":', canonical(_context(state)), b',"defers":', canonical(defers), b',"event":', state.events[0],
        b',"events":[', *_separated([event] for event in events), b'],"steps":{', *_separated(steps),
        b'},"use_api":', encode(state.use_api), b',"version":', encode(state.version), b"}",
    ]  # fmt: skip


def _separated(items: Iterable[Sequence[bytes]]) -> Iterator[bytes]:
    for index, parts in enumerate(items):
        if index:
            yield b","
        yield from parts


def _context(state: CallState) -> Mapping[str, object]:
    # SDKs read the generation from its header, and test suites compare all fields of this object: it is not among them.
    stack = list(state.memos)
    context: dict[str, object] = {
        "attempt": state.attempt,
        "disable_immediate_execution": state.parallel,
        "env": "",
        "job_id": state.job_id,
        "max_attempts": state.max_attempts,
        "qi_id": state.queue_item,
        "request_id": state.request_id,
        "run_id": state.run_id,
        "stack": {"current": len(stack), "stack": stack},
        # The URL and the header have the hash of the step.
        "step_id": DISCOVERY,
        "use_api": state.use_api,
    }
    return {**context, "fn_id": function_uuid(state.function)} if state.checkpoints else context


def call_headers(state: CallState, server_kind: str) -> dict[str, str]:
    """Return the headers of a call, apart from its signature."""
    return {
        "Content-Type": "application/json",
        "X-Inngest-Server-Kind": server_kind,
        "X-Inngest-Req-Version": str(state.version),
        "X-Inngest-Step-ID": state.step,
        "X-Inngest-Generation-ID": str(state.generation),
        "X-Inngest-Job-ID": state.job_id,
        "X-Request-ID": state.request_id,
        "X-Run-ID": state.run_id,
    }


def is_connect_url(url: str) -> bool:
    """Return whether calls to a URL go to a worker that is connected, by its scheme."""
    return url.startswith(("ws:", "wss:"))


def step_url(endpoint: str, step: str) -> str:
    """Return the URL of a call: the registered one with the parameter `stepId` set, and all else as it was."""
    parts = urlsplit(endpoint)
    kept = [each for each in parts.query.split("&") if each]
    new = f"{_STEP_PARAMETER}={step}"
    query, found = [], False
    for each in kept:
        if unquote_plus(each.partition("=")[0]) != _STEP_PARAMETER:
            query.append(each)
        elif not found:
            query.append(new)
            found = True
    return urlunsplit(parts._replace(query="&".join(query if found else [*query, new]), fragment=""))
