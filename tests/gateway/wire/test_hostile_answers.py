"""What no SDK sends is a failed attempt with a clear reason, and never an exception."""

import json

import pytest

from stepstream.contract.codec import Raw
from stepstream.contract.errors import InvalidInput
from stepstream.gateway.wire.answers import ANSWER_BYTES_MAX, Failed, Ops, Returned, read_answer
from stepstream.gateway.wire.dues import Due, read_due, read_retry_after, wire_duration_ms
from stepstream.gateway.wire.ops import CompleteOp, DeferOp, ErrorOp, RunOp, SleepOp, WaitOp

_SDK = {"X-Inngest-SDK": "inngest-js:v4.24.0"}
_STEP = "e0996a37c13d44c3b06074939d43fa3759bd32c1"


def _ops(*ops: dict[str, object]) -> Ops:
    answer = read_answer(206, _SDK, json.dumps([{"id": _STEP, **op} for op in ops]).encode())
    assert isinstance(answer, Ops), answer
    return answer


@pytest.mark.parametrize(
    ("status", "headers", "body", "message"),
    [
        (200, {}, b"<html>", "no header X-Inngest-Sdk"),
        (206, _SDK, b"<html>", "not valid JSON"),
        (206, _SDK, b'"text"', "Expected `object`"),
        (206, _SDK, b'[{"op":"Fly","id":"a"}]', "'Fly' is an op that this gateway does not know"),
        (206, _SDK, b'[{"op":"StepRun","id":"cancel_on:0"}]', "'cancel_on:0' is not a hash of a step"),
        (206, _SDK, b'[{"op":"StepRun","id":""}]', "'' is not a hash of a step"),
        (206, _SDK, b'[{"op":"StepRun","id":"a","data":"\\ud800"}]', "not valid JSON"),
        (206, _SDK, b'[{"op":"StepRun","id":"a","data":' + b"[" * 200 + b"]" * 200 + b"}]", "nested deeper than 100"),
        (206, _SDK, b'[{"op":"StepRun","id":"a","data":NaN}]', "not valid JSON"),
        (206, _SDK, b'[{"op":"StepRun","id":"a","data":1e999}]', "not valid JSON"),
        (206, _SDK, b'[{"op":"Sleep","id":"a","name":"soon"}]', "'soon' is not a duration"),
        (206, _SDK, b'[{"op":"Gateway","id":"a","opts":{"url":"file:///etc/passwd"}}]', "is not a URL"),
        (206, _SDK, b'[{"op":"InvokeFunction","id":"a","opts":{}}]', "use the id of a function"),
        (
            206,
            _SDK,
            b'[{"op":"InvokeFunction","id":"a","opts":{"function_id":"f","payload":{"data":1}}}]',
            "JSON object",
        ),
        (206, _SDK, b"[" + b",".join([b'{"op":"StepPlanned","id":"a"}'] * 1_001) + b"]", "at most 1,000 are allowed"),
        (200, _SDK, b"[" * 200 + b"]" * 200, "cannot be stored"),
        (201, _SDK, b"   ", "streamed answer is malformed"),
        (201, _SDK, b'{"status":201,"body":null}', "contains another one"),
        (204, _SDK, b"", "the app answered 204"),
        (302, {}, b"", "the app answered 302"),
        (401, {}, b'{"message":"Unauthorized"}', "same signing key"),
        (500, _SDK, b"\xff\xfe oops", "oops"),
        (502, {}, b"Bad Gateway", "Bad Gateway"),
        (500, _SDK, b"x" * (ANSWER_BYTES_MAX + 1), "at most 8,388,608 are allowed"),
    ],
    ids=range(24),
)
def test_malformed_answer_is_a_failed_attempt(status: int, headers: dict[str, str], body: bytes, message: str) -> None:
    """The error says what is wrong, and the attempt may be repeated."""
    answer = read_answer(status, headers, body)
    assert isinstance(answer, Failed)
    assert message in answer.error.message
    assert len(answer.error.message) <= 4_096
    assert not answer.final


@pytest.mark.parametrize(
    ("body", "name", "message"),
    [
        (b'{"message":"m"}', "Error", "m"),
        (b'{"error":"m"}', "Error", "m"),
        (b'{"error":{"name":"N","message":"m"}}', "N", "m"),
        (b'{"body":"{\\"name\\":\\"N\\",\\"message\\":\\"m\\"}"}', "N", "m"),
        (b'{"body":{"error":{"name":"N","message":"m"}}}', "N", "m"),
        (b'{"name":7,"message":"m"}', "Error", "m"),
        (b'"m"', "Error", "m"),
        (b"m", "Error", "m"),
    ],
)
def test_errors_of_all_ages_are_unwrapped(body: bytes, name: str, message: str) -> None:
    """The error of an SDK, of an old SDK and of another server has a name and a message."""
    answer = read_answer(500, {**_SDK, "x-inngest-no-retry": "true"}, body)
    assert isinstance(answer, Failed)
    assert (answer.error.name, answer.error.message, answer.final) == (name, message, True)


def test_text_and_nothing_are_returned() -> None:
    """A function that returns nothing returns null, and text that is not JSON is a string."""
    assert read_answer(200, _SDK, b"") == Returned(Raw(b"null"), "inngest-js:v4.24.0")
    assert read_answer(200, _SDK, b"Hello") == Returned(Raw(b'"Hello"'), "inngest-js:v4.24.0")


def test_streamed_answer_of_go_has_its_retry() -> None:
    """Go writes native JSON, and whether to retry beside it."""
    body = b'  \n {"status":500,"body":{"message":"m"},"noRetry":true,"retryAt":"2026-01-01T00:00:00Z"}'
    answer = read_answer(201, _SDK, body)
    assert isinstance(answer, Failed)
    assert (answer.final, answer.retry_after) == (True, Due(at_ms=1_767_225_600_000))
    answer = read_answer(201, _SDK, b'{"status":200,"body":"","error":"cut"}')
    assert isinstance(answer, Failed)
    assert answer.error.message == "cut"


def test_repeated_and_empty_ops_are_dropped() -> None:
    """The first op of a step counts, a malformed defer is ignored, and the end comes last."""
    answer = _ops(
        {"op": "RunComplete", "id": "end", "data": 1},
        {"op": "StepRun", "data": 1},
        {"op": "StepRun", "data": 2},
        {"op": None},
        {"op": "DeferAdd", "id": "bad", "opts": {"input": 7}},
        {"op": "DeferAdd", "id": "good", "opts": {"fn_slug": "f", "input": {}}},
        {"op": "WaitForEvent", "id": "w", "name": "inngest/function.finished", "opts": None},
    )
    assert [(type(op), op.step) for op in answer.ops] == [
        (DeferOp, "good"),
        (WaitOp, "w"),
        (RunOp, _STEP),
        (CompleteOp, "end"),
    ]
    assert isinstance(wait := answer.ops[1], WaitOp)
    assert (wait.event, wait.timeout) == ("stream/function.finished", Due())
    assert isinstance(run := answer.ops[2], RunOp)
    assert bytes(run.output) == b"1"


def test_old_step_ops_are_unwrapped_once() -> None:
    """SDKs before 2024 wrap what a step returned, or raised, themselves."""
    wrapped, raw = _ops({"op": "Step", "data": {"data": {"data": 1}}}, {"op": "Step", "id": "b", "data": [1]}).ops
    assert isinstance(wrapped, RunOp)
    assert isinstance(raw, RunOp)
    assert (bytes(wrapped.output), bytes(raw.output).replace(b" ", b"")) == (b'{"data":1}', b"[1]")
    (error,) = _ops({"op": "Step", "data": {"error": {"message": "m"}}}).ops
    assert isinstance(error, ErrorOp)
    assert error.final


def test_options_of_bodies_may_have_any_fields() -> None:
    """Middleware adds fields to the options of a step; only those of the op are read."""
    (op,) = _ops({"op": "StepRun", "opts": {"url": 7, "type": "step.ai.wrap", "headers": []}}).ops
    assert isinstance(op, RunOp)
    assert op.type == "step.ai.wrap"


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("", Due()),
        ("1h30m", Due(5_400_000)),
        ("1d", Due(86_400_000)),
        ("2w", Due(1_209_600_000)),
        ("1.5s", Due(1_500)),
        ("1us", Due(1)),
        ("0s", Due()),
        ("2026-11-28T16:56:36.543Z", Due(at_ms=1_795_884_996_543)),
        ("2026-11-28T16:56:36Z", Due(at_ms=1_795_884_996_000)),
    ],
)
def test_times_are_durations_or_dates(text: str, due: Due) -> None:
    """Each form that SDKs write is read, and a part of a millisecond is one."""
    assert read_due(text, "duration") == due


@pytest.mark.parametrize("text", ["x", "1", "-1s", "1h 30", "9" * 40 + "s", "1" * 15 + "w", "1y", "9999-99-99"])
def test_other_times_are_refused(text: str) -> None:
    """The reason names the forms that are allowed."""
    with pytest.raises(InvalidInput, match=r"not a duration|out of range"):
        read_due(text, "duration")
    with pytest.raises(InvalidInput):
        wire_duration_ms(text)


def test_times_are_bounded() -> None:
    """A sleep lasts at most 366 days, one in the past ends now, and retries are between a second and a day apart."""
    now = 1_700_000_000_000
    assert Due(at_ms=5).at(now) == now
    assert Due(7).at(now) == now + 7
    with pytest.raises(InvalidInput, match="at most 366 days"):
        Due(367 * 86_400_000).at(now)
    assert Due(at_ms=5).retry_delay_ms(now) == 1_000
    assert Due(at_ms=now * 2).retry_delay_ms(now) == 86_400_000


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("90", Due(90_000)),
        ("", None),
        ("soon", None),
        ("9" * 30, None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", Due(at_ms=1_445_412_480_000)),
        ("2026-11-28T16:58:03.362Z", Due(at_ms=1_795_885_083_362)),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, due: Due | None) -> None:
    """What cannot be read is ignored: the backoff of the function applies."""
    assert read_retry_after(text) == due


def test_sleeps_are_read_from_both_places() -> None:
    """The duration is in the options or in the name."""
    python, go = _ops(
        {"op": "Sleep", "name": "2s", "opts": None}, {"op": "Sleep", "id": "b", "name": "x", "opts": {"duration": "2s"}}
    ).ops
    assert isinstance(python, SleepOp)
    assert isinstance(go, SleepOp)
    assert python.until == go.until == Due(2_000)
