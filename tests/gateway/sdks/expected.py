"""The acceptance program's functions, the events that start them, and how their runs end: the same for each SDK."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NESTED = {"list": [1, [2, {"text": "é 😀", "none": None}]], "float": 1.5, "empty": {}, "big": 9007199254740991}
JAVASCRIPT = ("javascript",)
JAVASCRIPT_4 = ("javascript-4", "javascript-4-plain")
# The SDK for Python has neither signals nor requests by the gateway.
JAVASCRIPT_AND_GO = ("javascript", "go")
# The SDK for Go has no middleware that reads the results of steps.
JAVASCRIPT_AND_PYTHON = ("javascript", "python")
# The SDK for Go fetches nothing, so only its calls with checkpoints have so large results.
WITH_LARGE_STATE = ("javascript", "python", "go-checkpoints")
GO = ("go", "go-checkpoints")
# How a run ends: its status, and its output, the message of its error, or the code of the limit that refused it.
Ending = tuple[str, Any]


def completed(output: Any = None) -> Ending:
    """Return the end of a run with an output."""
    return "completed", output


def failed(message: str) -> Ending:
    """Return the end of a run with an error."""
    return "failed", message


def unhandled(message: str) -> Mapping[str, Sequence[Ending]]:
    """Return the end of a run whose code returned the error of a step: the SDK for Go adds words that say so."""
    return {sdk: [failed(f"unhandled step error: {message}")] for sdk in GO}


def skipped(code: str) -> Ending:
    """Return the end of a run that a limit refused."""
    return "skipped", code


CANCELLED: Ending = ("cancelled", None)


def numbered(*numbers: int, **more: Any) -> tuple[Mapping[str, Any], ...]:
    """Return an event for each number."""
    return tuple({"data": {"n": number}, **more} for number in numbers)


@dataclass(frozen=True, slots=True)
class Case:
    """A function: the events that are sent to start it, without their name, and the ends of its runs in any order.

    `sdks` have it; `others` are the ends in an SDK where they differ. `{app}` in an output is the name of the app. With
    `is_ordered`, outputs depend on the order of the events, which events in different shards do not have.
    """

    function: str
    endings: Sequence[Ending]
    events: Sequence[Mapping[str, Any]] = ({},)
    sdks: Sequence[str] = ("javascript", "python", "go")
    others: Mapping[str, Sequence[Ending]] | None = None
    is_ordered: bool = False

    def expected(self, sdk: str, app: str) -> list[Ending]:
        """Return how the runs end in an app."""
        return [(status, _named(value, app)) for status, value in (self.others or {}).get(sdk, self.endings)]


def _named(value: Any, app: str) -> Any:
    match value:
        case str():
            return value.replace("{app}", app)
        case list():
            return [_named(each, app) for each in value]
        case dict():
            return {name: _named(each, app) for name, each in value.items()}
    return value


# No event starts it: other functions do.
CALLED: Sequence[Mapping[str, Any]] = ()
CONTEXT = {"event": "{app}/context", "events": 1, "attempt": 0, "run": 26, "id": True, "ts": True}
# The SDKs for Python and Go return from a race once all of its branches have ended.
ALL_BRANCHES = dict.fromkeys(("python", *GO), (completed(["fast", "late"]),))
PRIORITIES = tuple({"data": {"n": n, "priority": priority}} for n, priority in ((1, 0), (2, -10), (3, 10)))

CASES = (
    # Steps and their results.
    Case("three-steps", [completed({"sum": 10, "attempt": 0})], numbered(7)),
    Case("nested-data", [completed({"nested": NESTED, "event": NESTED})], [{"data": NESTED}]),
    Case("null-results", [completed([None, None])]),
    Case("no-result", [completed()]),
    Case("no-steps", [completed(7)], numbered(7)),
    Case("loop", [completed([0, 1, 4, 9, 16])]),
    Case("context", [completed(CONTEXT)]),
    Case("large-state", [completed([1_048_576] * 5)], sdks=WITH_LARGE_STATE),
    Case("parallel", [completed([1, 2, None, None, 3])]),
    Case("parallel-every-step", [completed([1, 2, None, None, 3])], sdks=JAVASCRIPT),
    Case("race", [completed("fast")], others=ALL_BRANCHES),
    Case("middleware", [completed({"first": "a"})], sdks=JAVASCRIPT_AND_PYTHON),
    # Sleeps, waits and signals.
    Case("sleep", [completed(True)]),
    Case("sleep-until", [completed(True)]),
    Case("wait-if", [completed(["{app}/wait-if-answer", {"n": 7}])], numbered(7)),
    Case("wait-match", [completed(["{app}/wait-match-answer", {"n": 7}])], numbered(7)),
    Case("wait-timeout", [completed()]),
    Case("wait-for-signal", [completed({"approved": True})], sdks=JAVASCRIPT_AND_GO),
    Case("signal-timeout", [completed()], sdks=JAVASCRIPT_AND_GO),
    # Events and requests.
    Case("send-events", [completed([26, 26])]),
    Case("sent", [completed(1), completed(2)], CALLED),
    Case("send-from-code", [completed("sent")]),
    Case("sent-from-code", [completed(1)], CALLED),
    Case("fetch", [completed([200, "hello"])], sdks=JAVASCRIPT_AND_GO),
    Case("ai-infer", [completed("small: hi")]),
    Case("ai-wrap", [completed(8)], sdks=JAVASCRIPT),
    Case("defers", [completed(2)], sdks=JAVASCRIPT_4),
    Case("deferred", [completed(1)], CALLED, sdks=JAVASCRIPT_4),
    # Calls of other functions.
    Case("invoke", [completed(42)]),
    Case("callee", [completed(42)], CALLED),
    Case("invoke-error", [completed("no use")]),
    Case("invoke-uncaught", [failed("no use")]),
    Case("refuses", [failed("no use")] * 2, CALLED),
    Case("invoke-timeout", [completed(["caught", True])]),
    Case("slow", [completed("slow")], CALLED),
    Case("invoke-unknown", [completed(["caught", True])]),
    Case("invoke-foreign", [completed(["served", True])]),
    Case("foreign", [completed(["served", True])], CALLED),
    # Errors and retries.
    Case("retried-step", [completed(3)]),
    Case("retried-function", [completed(["first", 1])]),
    Case("default-back-off", [completed(2)]),
    Case("exhausted-step", [failed("call 2")], others=unhandled("call 2")),
    Case("exhausted-function", [failed("attempt 1")]),
    Case("step-error-caught", [completed([True, "no number", "after"])]),
    Case("non-retriable-step", [failed("call 1")], others=unhandled("call 1")),
    Case("non-retriable-function", [failed("attempt 0")]),
    Case("on-failure", [failed("broken")], numbered(7)),
    Case("on-failure-failure", [completed(["broken", "{app}-on-failure", {"n": 7}])], CALLED),
    # Limits, and ends from outside.
    Case("conditional", [completed(2)], numbered(1, 2)),
    Case("event-id", [completed(1)], numbered(1, 1, id="same")),
    Case("idempotency", [completed(1), completed(2), skipped("idempotent")], numbered(1, 1, 2)),
    Case("rate-limit", [completed(1), skipped("rate-limited")], numbered(1, 2), is_ordered=True),
    Case("debounce", [completed(3), skipped("debounced"), skipped("debounced")], numbered(1, 2, 3), is_ordered=True),
    Case("singleton-skip", [completed(1), skipped("skipped")], numbered(1, 2), is_ordered=True),
    Case("singleton-cancel", [CANCELLED, completed(2)], numbered(1, 2), is_ordered=True),
    Case("concurrency", [completed(0)] * 3, numbered(1, 2, 3)),
    Case("throttle", [completed(1), completed(2), completed(3)], numbered(1, 2, 3)),
    Case("priority", [completed([1, 1]), completed([3, 2]), completed([2, 3])], PRIORITIES, is_ordered=True),
    Case("cancel-on", [CANCELLED], numbered(7)),
    Case("finish-timeout", [CANCELLED]),
)


def cases_of(sdk: str) -> list[Case]:
    """Return the functions that an SDK has, such as javascript-3."""
    language = sdk.partition("-")[0]
    return [case for case in CASES if sdk in case.sdks or language in case.sdks]
