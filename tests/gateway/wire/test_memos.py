"""Results of steps and events of the engine have the shapes that SDKs recognise."""

import json
from typing import Any

import pytest

from stepstream.contract.codec import NULL, Raw, encode
from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import CANCELLED, CRON, FAILED, FINISHED, INVOKED, EventRecord
from stepstream.contract.kinds import StepKind
from stepstream.contract.outcomes import ErrorInfo, Failure, Outcome, TimedOut, Value
from stepstream.gateway.wire.calls import CallState, call_parts, step_url
from stepstream.gateway.wire.internal_events import check_sent_name, event_json, own_condition, own_name, sdk_name
from stepstream.gateway.wire.memos import memo_json

_EVENT = EventRecord("demo/a", Raw(b'{"k":1}'), "id-1", 5)
_SHOWN = {"name": "demo/a", "data": {"k": 1}, "id": "id-1", "ts": 5, "user": {}}
_ERROR = Failure(ErrorInfo("ValueError", "bad"))
_ENCRYPTED = {"__ENCRYPTED__": True, "data": "x"}
_FULL = {"name": "E", "message": "m", "stack": "at x"}


def _loaded(raw: Raw) -> Any:
    return json.loads(bytes(raw))


@pytest.mark.parametrize(
    ("kind", "outcome", "memo"),
    [
        (StepKind.RUN, Value(), {"data": None}),
        (StepKind.RUN, Value(Raw(b'{"data":1}')), {"data": {"data": 1}}),
        (
            StepKind.RUN,
            Value(Raw(b'{"__ENCRYPTED__":true,"data":"x"}')),
            {"data": {"__ENCRYPTED__": True, "data": "x"}},
        ),
        (StepKind.RUN, _ERROR, {"error": {"name": "ValueError", "message": "bad"}}),
        (StepKind.SLEEP, Value(), None),
        (StepKind.WAIT, Value(Raw(encode(_EVENT))), _SHOWN),
        (StepKind.WAIT, TimedOut(), None),
        (StepKind.SIGNAL, Value(Raw(b"[1]")), {"data": {"signal": "s", "data": [1]}}),
        (StepKind.SIGNAL, TimedOut(), None),
        (StepKind.SEND, Value(Raw(b'["id"]')), {"data": ["id"]}),
        (StepKind.INVOKE, Value(Raw(b"2")), {"data": 2}),
        (
            StepKind.INVOKE,
            Failure(ErrorInfo("E", "m", "at x")),
            {"error": {"name": "E", "message": "m", "stack": "at x"}},
        ),
    ],
)
def test_memo_has_the_shape_of_its_step(kind: StepKind, outcome: Outcome, memo: object) -> None:
    """A result is wrapped once, an event is not, and nothing is null."""
    assert _loaded(memo_json(kind, outcome, signal="s")) == memo


def test_memo_of_a_failure_is_the_error_as_it_came() -> None:
    """What an SDK put beside the message survives, such as the cause or Go's second result."""
    came = {"message": "m", "cause": {"name": "C"}, "data": "partial", "__serialized": True}
    failure = Failure(ErrorInfo("Error", "m"), Raw(encode(came)))
    assert _loaded(memo_json(StepKind.RUN, failure)) == {"error": came}


def test_memo_of_an_invoke_that_timed_out_is_an_error() -> None:
    """SDKs know the timeout by the name of the error, and their suites by its message."""
    message = "Timed out waiting for invoked function to complete"
    error = {"name": "InngestInvokeTimeoutError", "message": message, "error": message}
    assert _loaded(memo_json(StepKind.INVOKE, TimedOut())) == {"error": error}


@pytest.mark.parametrize("name", [FINISHED, FAILED, CANCELLED, INVOKED, CRON, "demo/a", "inngest/deferred.schedule"])
def test_names_of_internal_events_are_mapped_both_ways(name: str) -> None:
    """The engine and an SDK name the same event differently; all other names are the same."""
    assert own_name(sdk_name(name)) == name
    assert sdk_name(name).startswith("inngest/") == (name != "demo/a")


def test_end_of_a_run_has_what_handlers_read() -> None:
    """The event about a run that ended has the status in the words of SDKs, and the events of the run."""
    error = {"name": "E", "message": "m", "stack": "", "code": "c"}
    cause = {"name": "stream/cron", "data": {"k": 1}}
    data = {"function_id": "demo-f", "run_id": "R", "status": "failed", "error": error, "event": cause}
    shown = _loaded(event_json(EventRecord(FAILED, Raw(encode(data)), "R:failed", 7)))
    started = {"name": "inngest/scheduled.timer", "data": {"k": 1}, "id": "", "ts": 0}
    shown_error = {"error": "m", "name": "E", "message": "m", "stack": ""}
    assert shown == {
        "name": "inngest/function.failed",
        "id": "R:failed",
        "ts": 7,
        "user": {},
        "data": {
            "function_id": "demo-f",
            "run_id": "R",
            "error": shown_error,
            "event": started,
            "events": [started],
            "_inngest": {"status": "Failed", "error": shown_error},
        },
    }


def test_failure_of_user_code_has_the_error_of_the_protocol() -> None:
    """It has what handlers read, and not what only the SDK that reported it knows."""
    fields = {"name": "E", "message": "m", "stack": "s", "cause": {"name": "C"}, "__serialized": True}
    reported = {**fields, "code": "unknown", "x": 1}
    data = {"status": "failed", "error": {"name": "E", "message": "m", "code": ""}, "raw_error": reported}
    shown = _loaded(event_json(EventRecord(FAILED, Raw(encode(data)), "R:failed", 7)))["data"]
    assert shown["error"] == {"error": "invalid status code: 500", **fields}
    assert "raw_error" not in shown


def test_failure_that_forbids_a_retry_has_the_name_of_the_protocol() -> None:
    """An error that the app did not want to be retried differs by it from one after the last attempt."""
    error = {"name": "E", "message": "m"}
    data = {"status": "failed", "error": {**error, "code": ""}, "raw_error": error, "non_retriable": True}
    shown = _loaded(event_json(EventRecord(FAILED, Raw(encode(data)), "R:failed", 7)))["data"]
    assert shown["error"] == {"error": "NonRetriableError", **error}
    assert "non_retriable" not in shown


@pytest.mark.parametrize(
    ("given", "own"),
    [
        ("event.name == 'inngest/function.failed'", "event.name == 'stream/function.failed'"),
        ('async.data.event.name == "inngest/scheduled.timer"', 'async.data.event.name == "stream/cron"'),
        ("event.data.path == 'inngest/x'", "event.data.path == 'inngest/x'"),
    ],
)
def test_conditions_name_events_as_the_engine_does(given: str, own: str) -> None:
    """A condition of an SDK compares the names that its documentation has."""
    assert own_condition(given) == own


def test_invoked_function_gets_what_correlates_it() -> None:
    """The data of the caller is beside that of the server, even if an app encrypted it."""
    event = EventRecord(INVOKED, Raw(b'{"x":5,"_inngest":{"kept":1}}'), "R:hash", 7)
    assert _loaded(event_json(event, "demo-callee"))["data"] == {
        "x": 5,
        "_inngest": {"kept": 1, "fn_id": "demo-callee", "correlation_id": "R.hash"},
    }


def test_user_and_version_of_an_event_are_kept() -> None:
    """They are present if the sender gave them."""
    event = EventRecord("demo/a", user=Raw(b'{"id":1}'), v="2")
    assert _loaded(event_json(event)) == {"name": "demo/a", "data": {}, "id": "", "ts": 0, "user": {"id": 1}, "v": "2"}


@pytest.mark.parametrize("name", ["inngest/function.failed", "Inngest/x"])
def test_apps_send_no_internal_events(name: str) -> None:
    """A name of an internal event is refused in any case; all others are the sender's."""
    with pytest.raises(InvalidInput, match="internal"):
        check_sent_name(name)
    check_sent_name("inngestion/x")


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://a/b?fnId=f&stepId=step", "http://a/b?fnId=f&stepId=H"),
        ("http://a/b?stepId=step&stepId=x&fnId=f", "http://a/b?stepId=H&fnId=f"),
        ("https://a/b?fnId=f&step=step&token=a%20b+c", "https://a/b?fnId=f&step=step&token=a%20b+c&stepId=H"),
        ("http://[::1]:3000/#part", "http://[::1]:3000/?stepId=H"),
    ],
)
def test_step_is_set_in_the_url(endpoint: str, url: str) -> None:
    """The parameter is replaced or added, and all others are as the app wrote them."""
    assert step_url(endpoint, "H") == url


def test_call_may_leave_its_state_to_the_api() -> None:
    """A call that is too large has neither events nor memos, but the order of the steps; Go cannot receive one."""
    state = CallState("R", "demo-f", (event_json(_EVENT),), {"H": NULL}, use_api=True, checkpoints=False)
    body = json.loads(b"".join(call_parts(state)))
    assert (body["events"], body["steps"], body["use_api"], body["event"]) == ([], {}, True, _SHOWN)
    assert body["ctx"]["stack"] == {"current": 1, "stack": ["H"]}
    assert body["ctx"]["use_api"]
    assert "fn_id" not in body["ctx"]
