"""Whatever JSON an app sends, it is read or refused with a reason; nothing else is raised."""

import json
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from stepstream.contract.codec import encode
from stepstream.contract.errors import InvalidInput
from stepstream.contract.functions import decode_function
from stepstream.gateway.wire.answers import Failed, Ops, Returned, read_answer
from stepstream.gateway.wire.checkpoints import read_checkpoint
from stepstream.gateway.wire.registration import read_functions, read_in_band, read_registration

_KNOWN_TEXTS = ["", "a", "1h", "5", "step", "TZ=UTC 0 5 * * *", "* * * * *", "event.data.a == 1", "skip", "fn"]
_TEXTS = st.sampled_from([*_KNOWN_TEXTS, "http://a/b?c=d", "x" * 300]) | st.text(max_size=4)
_NUMBERS = st.sampled_from([0, 1, -1, 1.5, 2**53 + 1, 10**30, 1e300]) | st.booleans() | st.none()
_LEAVES = _TEXTS | _NUMBERS
_OP_FIELDS = ["id", "name", "displayName", "opts", "data", "error", "userland"]
_OPTIONS = [
    *("type", "parallelMode", "duration", "event", "timeout", "if", "signal", "conflict", "function_id", "payload"),
    *(
        "url",
        "method",
        "headers",
        "body",
        "format",
        "auth_key",
        "publish",
        "fn_slug",
        "input",
        "target_hashed_id",
        "id",
    ),
    *("message", "name", "stack", "data", "user", "v"),
]
_OPS = ["StepRun", "Step", "StepPlanned", "StepError", "StepFailed", "Sleep", "WaitForEvent", "WaitForSignal", "None"]
_MORE_OPS = [
    "InvokeFunction",
    "Gateway",
    "AIGateway",
    "RunComplete",
    "DiscoveryRequest",
    "DeferAdd",
    "DeferAbort",
    "Fly",
]
_FUNCTION_FIELDS = [
    *("id", "name", "triggers", "retries", "concurrency", "throttle", "rateLimit", "debounce", "singleton", "steps"),
    *("idempotency", "cancel", "timeouts", "batchEvents", "priority"),
]
_RULES = [
    *("event", "expression", "cron", "limit", "key", "scope", "fn", "step", "period", "burst", "timeout", "mode", "if"),
    *("start", "finish", "attempts", "runtime", "url"),
]


def _objects(names: list[str], values: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    return st.dictionaries(st.sampled_from(names), values, max_size=6)


_OPTION_VALUES = _LEAVES | _objects(_OPTIONS, _LEAVES) | st.lists(_LEAVES, max_size=2)
_OP = st.builds(
    lambda op, fields: {"op": op, "id": "a", **fields},
    st.sampled_from(_OPS + _MORE_OPS),
    _objects(_OP_FIELDS, _LEAVES | _objects(_OPTIONS, _OPTION_VALUES)),
)
_RULE_VALUES = _LEAVES | st.lists(_objects(_RULES, _LEAVES), max_size=2) | _objects(_RULES, _LEAVES)
_STEP = {"step": {"runtime": {"url": "http://a/b"}}}
_FUNCTION = st.builds(lambda fields: {"id": "f", "steps": _STEP, **fields}, _objects(_FUNCTION_FIELDS, _RULE_VALUES))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([200, 201, 206, 400, 500]), st.lists(_OP, max_size=3) | _OP | _OPTION_VALUES)
def test_any_answer_is_read(status: int, body: object) -> None:
    """An answer is a return, ops or a failed attempt; a checkpoint is read or refused."""
    text = json.dumps(body).encode()
    assert isinstance(read_answer(status, {"x-inngest-sdk": "js:v4"}, text), Returned | Ops | Failed)
    with suppress(InvalidInput):
        read_checkpoint(json.dumps({"steps": body}).encode())


@settings(max_examples=40, deadline=None)
@given(_FUNCTION)
def test_any_function_is_registered_or_refused(function: dict[str, object]) -> None:
    """What is registered is a record that the engine reads, and what is refused has a reason."""
    with suppress(InvalidInput):
        app = read_functions("demo", "js:v4", "1", [function])
        assert len(app.functions) + len(app.refused) == 1
        assert all(decode_function(encode(each.registered)) for each in app.functions)
        assert app.functions or app.refusal


@settings(max_examples=40, deadline=None)
@given(_OPTION_VALUES)
def test_any_registration_is_read_or_refused(value: object) -> None:
    """Each field of a registration may have any value."""
    for field in ("appName", "app_id", "functions", "sdk", "url"):
        body = {"appName": "a", "app_id": "a", "functions": [value], field: value}
        for read in (read_registration, read_in_band):
            with suppress(InvalidInput):
                read(json.dumps(body).encode())
