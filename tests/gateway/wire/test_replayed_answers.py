"""Answers and checkpoints of official SDKs are read as the ops that their code asked for."""

import json

import pytest

from stepstream.contract.codec import Raw
from stepstream.contract.errors import InvalidInput
from stepstream.gateway.wire.answers import Failed, Ops, Returned, read_answer
from stepstream.gateway.wire.checkpoints import read_checkpoint
from stepstream.gateway.wire.dues import Due
from stepstream.gateway.wire.ops import (
    AiOp,
    CompleteOp,
    DeferOp,
    ErrorOp,
    GatewayOp,
    InvokeOp,
    Op,
    PlannedOp,
    RunOp,
    SignalOp,
    SleepOp,
    WaitOp,
    active_ops,
)
from tests.gateway.exchanges import Exchange, all_calls, names, read, unwrapped

_HOUR, _FIVE_MINUTES = Due(3_600_000), Due(300_000)
_TYPES = {
    "StepRun": RunOp,
    "StepPlanned": PlannedOp,
    "StepError": ErrorOp,
    "StepFailed": ErrorOp,
    "Sleep": SleepOp,
    "WaitForEvent": WaitOp,
    "WaitForSignal": SignalOp,
    "InvokeFunction": InvokeOp,
    "Gateway": GatewayOp,
    "AIGateway": AiOp,
    "RunComplete": CompleteOp,
    "DeferAdd": DeferOp,
}


def _read(exchange: Exchange) -> Returned | Ops | Failed:
    return read_answer(exchange.status, exchange.headers, exchange.answer_bytes)


def _ops(name: str) -> dict[str, Op]:
    """Return the ops of a capture by the names that people see; the first of each name."""
    found: dict[str, Op] = {}
    for exchange in read(name):
        if exchange.is_call and isinstance(answer := _read(exchange), Ops):
            for op in answer.ops:
                found.setdefault(op.id, op)
    return found


def test_answers_are_read_by_their_status() -> None:
    """A return has the output as it came, ops are all known, and anything else is a failed attempt with its error."""
    for exchange in all_calls():
        status, headers, body = unwrapped(exchange)
        match _read(exchange):
            case Returned(output, sdk, version):
                assert (status, json.loads(bytes(output))) == (200, body)
            case Ops(ops, sdk, version):
                assert status == 206
                assert sorted((op.step, type(op).__name__) for op in ops) == sorted(
                    (op["id"], _TYPES[op["op"]].__name__) for op in body
                )
            case Failed(error, sdk, version, final):
                assert status in (400, 401, 500, 410)
                assert error.message in (body.get("message"), body.get("error")) or status == 401
                assert final == (headers.get("x-inngest-no-retry") == "true")
        assert sdk == headers.get("x-inngest-sdk", "")
        assert str(version) == headers.get("x-inngest-req-version", "None")


def test_fields_of_ops_are_as_they_came() -> None:
    """The output of a step and the error object of an SDK are the same JSON, and names are those for people."""
    for exchange in all_calls():
        answer, (_, _, body) = _read(exchange), unwrapped(exchange)
        for op in answer.ops if isinstance(answer, Ops) else ():
            came = next(each for each in body if each["id"] == op.step)
            shown = (came.get("displayName"), came.get("name"), (came.get("userland") or {}).get("id"), came["id"])
            assert op.id == next(name for name in shown if name)
            if isinstance(op, RunOp | CompleteOp):
                assert json.loads(bytes(op.output)) == came.get("data")
            if isinstance(op, ErrorOp):
                assert json.loads(bytes(op.error.raw)) == came["error"]
                assert op.final == (came["op"] == "StepFailed")


@pytest.mark.parametrize("sdk", ["py", "js3", "js4", "go"])
def test_ops_of_each_kind_mean_the_same_in_all_sdks(sdk: str) -> None:
    """Where each SDK writes the arguments of a step differs; what they mean does not."""
    ops = _ops(f"{sdk}-all-kinds")
    wait, invoke = ops["wait"], ops["invoke"]
    assert isinstance(ops["run" if sdk in ("py", "go") else "A run"], RunOp)
    assert isinstance(wait, WaitOp)
    assert (wait.event, wait.condition, wait.timeout) == ("demo/reply", "event.data.id == async.data.id", _HOUR)
    assert isinstance(invoke, InvokeOp)
    assert (invoke.function, bytes(invoke.data).replace(b" ", b""), invoke.timeout) == (
        "demo-callee",
        b'{"x":5}',
        _FIVE_MINUTES,
    )
    nap = ops["nap"]
    assert isinstance(nap, SleepOp)
    if sdk == "py":
        assert nap.until.at_ms == 1_795_884_996_543
    else:
        assert nap.until == Due(2_000)


def test_gateway_and_ai_ops_have_their_request() -> None:
    """The requests that an app asks for are complete, and the key of a provider is not shown."""
    ops = {type(op): op for op in _ops("js4-all-kinds").values()}
    fetch, infer = ops[GatewayOp], ops[AiOp]
    assert isinstance(fetch, GatewayOp)
    assert (fetch.url, fetch.method, fetch.headers, fetch.body) == (
        "https://example.test/x",
        "POST",
        {"x-a": "b"},
        "hi",
    )
    assert isinstance(infer, AiOp)
    assert (infer.auth_key, infer.format) == ("k", "openai-chat")
    assert json.loads(bytes(infer.body))["model"] == "gpt-x"
    assert "auth_key" not in repr(infer)


def test_signals_and_defers_are_read() -> None:
    """A wait for a signal has its name and what a conflict does; a deferred function has its input."""
    for name, replaces in (("js4-signals", True), ("go-signal", False)):
        signal = next(op for op in _ops(name).values() if isinstance(op, SignalOp))
        assert (signal.signal, signal.timeout, signal.replace) == ("approve/1", _HOUR, replaces)
    defer = next(op for op in _ops("js4-defers").values() if isinstance(op, DeferOp))
    assert (defer.function, defer.input) == ("demo-deferred-fn", Raw(b'{"v":1}'))


def test_parallel_ops_have_their_waits_first() -> None:
    """A wait precedes the steps that may send its event; ops of a race are marked, and lazy ones are not steps."""
    first = next(_read(exchange) for exchange in read("js4-parallel") if exchange.is_call)
    assert isinstance(first, Ops)
    assert [type(op) for op in first.ops] == [WaitOp, PlannedOp, PlannedOp, SleepOp]
    assert active_ops(first.ops) == first.ops
    for name in ("py-race", "js4-race"):
        ops = _ops(name)
        assert any(op.race for op in ops.values()), name
    defers = next(_read(exchange) for exchange in read("js4-defers") if exchange.is_call)
    assert isinstance(defers, Ops)
    assert not any(isinstance(op, DeferOp) for op in active_ops(defers.ops))


def test_retry_after_is_read_in_all_forms() -> None:
    """Seconds of TypeScript and dates of Python and Go become the delay before the next attempt."""
    for name in names("*-retry-after"):
        answers = [(exchange, _read(exchange)) for exchange in read(name) if exchange.is_call]
        waiting = [
            (exchange, each) for exchange, each in answers if isinstance(each, Ops | Failed) and each.retry_after
        ]
        assert waiting, name
        for exchange, each in waiting:
            assert each.retry_after
            delay = each.retry_after.retry_delay_ms(exchange.body["event"]["ts"])
            assert 60_000 <= delay <= 120_000, name


def test_answers_to_stale_calls_are_recognised() -> None:
    """An app whose checkpoint was refused, since a newer call owns the run, answers with an error to drop."""
    answers = [_read(exchange) for exchange in read("js4-probe-checkpoint-409") if exchange.is_call]
    assert [answer.stale for answer in answers if isinstance(answer, Failed)] == [True]


@pytest.mark.parametrize(
    ("name", "steps"),
    [("js4-checkpointing-three-steps", 2), ("js4-cloud-three-steps", 3), ("go-checkpointing", 3)],
)
def test_checkpoints_are_read(name: str, steps: int) -> None:
    """A checkpoint has its steps in order; fields that SDKs leak into it are ignored."""
    found = [
        read_checkpoint(json.dumps(exchange.body).encode())
        for exchange in read(name)
        if exchange.fields["dir"] == "sdk->server" and exchange.fields["path"].endswith("/async")
    ]
    assert [op.id for each in found for op in each.ops] == ["first", "second", "third"][:steps]
    assert {each.queue_item for each in found} == {"cWlkLXJlZg=="}
    assert {each.generation for each in found} == ({None} if name.startswith("go") else {1})


def test_checkpoint_of_a_wait_is_refused() -> None:
    """An op that the engine must execute ends a call, and cannot be in a checkpoint."""
    with pytest.raises(InvalidInput, match="ends the call"):
        read_checkpoint(b'{"run_id":"r","steps":[{"op":"Sleep","id":"a","name":"1s"}]}')
