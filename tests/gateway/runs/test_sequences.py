"""Steps one after the other, in apps that official SDKs serve: what is called, with which results, and what is kept."""

import threading
from typing import Any

import pytest

from stepstream import Event
from stepstream.contract.gates import Excess, GateRule
from stepstream.contract.limits import MINUTE_MS, Limits
from stepstream.gateway.wire.memos import memo_json
from stepstream.testing import VirtualEngine
from tests.gateway.runs.endpoint import (
    FakeEndpoint,
    app_of,
    hashed,
    op,
    ops,
    ran,
    registered,
    returned,
    virtual,
)

GO = Event("demo/go", {"n": 7})
WAIT = op("WaitForEvent", "w", name="demo/reply", opts={"timeout": "1h", "if": "async.data.n == event.data.n"})
INVOKE = op("InvokeFunction", "i", opts={"function_id": "demo-callee", "payload": {"data": {"x": 5}}})


async def test_three_steps_are_four_calls() -> None:
    """Each discovery call runs the next step; the calls after it have its result, and the last one the output."""
    endpoint = FakeEndpoint(ops(ran("a", "A")), ops(ran("b", {"n": 1})), ops(ran("c")), returned({"sum": "AB"}))
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        run = engine.run("demo-f")
    assert (run.status, run.output) == ("completed", {"sum": "AB"})
    assert endpoint.log == ["step/0", "step/1", "step/2", "step/3"]
    assert [step.id for step in run.steps] == ["a", "b", "c"]
    last = endpoint.asked[-1]
    assert last.memos == ["a", "b", "c"]
    assert last.body["steps"] == {
        hashed("a"): {"data": "A"},
        hashed("b"): {"data": {"n": 1}},
        hashed("c"): {"data": None},
    }
    assert last.body["event"]["data"] == {"n": 7}


async def test_each_call_has_all_events_of_a_batch() -> None:
    """Its event is the first of them."""
    gate = GateRule("batch", 1, MINUTE_MS, excess=Excess.BATCHED, size=2)
    endpoint = FakeEndpoint(ops(ran("a")), returned())
    async with virtual(endpoint, registered(gates=(gate,))) as engine:
        await engine.send(GO, Event("demo/go", {"n": 8}))
    assert len(endpoint.asked) == 2
    for body in (each.body for each in endpoint.asked):
        assert [event["data"] for event in body["events"]] == [{"n": 7}, {"n": 8}]
        assert body["event"] == body["events"][0]


async def test_the_version_is_that_of_the_first_answer() -> None:
    """The first call leaves the version to the SDK; each later one repeats its choice, in the body and the header."""
    endpoint = FakeEndpoint(ops(ran("a")), ops(ran("b")), returned())
    async with virtual(endpoint) as engine:
        await engine.send(GO)
    assert [each.body["version"] for each in endpoint.asked] == [-1, 2, 2]
    assert [each.headers["X-Inngest-Req-Version"] for each in endpoint.asked] == ["-1", "2", "2"]


async def test_each_call_has_ids_of_its_own() -> None:
    """The generation grows with each call, and each has a new request id and the URL of what it runs."""
    endpoint = FakeEndpoint(ops(ran("a")), returned())
    async with virtual(endpoint) as engine:
        await engine.send(GO)
    assert endpoint.asked[0].generation < endpoint.asked[1].generation
    first, second = (each.body["ctx"] for each in endpoint.asked)
    assert first["request_id"] != second["request_id"]
    assert endpoint.asked[0].url == "http://app.test/api/inngest?fnId=demo-f&stepId=step"


async def test_a_sleep_and_a_wait_continue_the_code() -> None:
    """A sleep is null for the code, and a wait the event that came, for which its condition holds."""
    endpoint = FakeEndpoint(ops(op("Sleep", "nap", name="1h")), ops(WAIT), returned())
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        await engine.advance("59m")
        assert endpoint.log == ["step/0"]
        await engine.advance("1m")
        await engine.send(Event("demo/reply", {"n": 8}))
        assert endpoint.log == ["step/0", "step/1"]
        await engine.send(Event("demo/reply", {"n": 7}))
        assert engine.run("demo-f").status == "completed"
    memos = endpoint.asked[-1].body["steps"]
    assert (memos[hashed("nap")], memos[hashed("w")]["data"]) == (None, {"n": 7})


async def test_waits_that_time_out_are_null() -> None:
    """A wait for an event and one for a signal are null when nothing came in time."""
    signal = op("WaitForSignal", "s", opts={"signal": "approve", "timeout": "1h"})
    endpoint = FakeEndpoint(ops(WAIT), ops(signal), returned())
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        await engine.advance("2h")
        assert engine.run("demo-f").status == "completed"
    assert endpoint.asked[-1].body["steps"] == {hashed("w"): None, hashed("s"): None}


async def test_a_signal_reaches_the_code() -> None:
    """The memo of a signal has its name and its data, even if the run was loaded again."""
    wait = op("WaitForSignal", "s", opts={"signal": "approve/1", "timeout": "1h"})
    endpoint = FakeEndpoint(ops(wait), ops(op("Sleep", "nap", name="1m")), returned())
    async with virtual(endpoint, live_cache=False) as engine:
        await engine.send(GO)
        assert await engine.signal("approve/1", {"ok": True})
        await engine.advance("1m")
    for each in endpoint.asked[1:]:
        assert each.body["steps"][hashed("s")] == {"data": {"signal": "approve/1", "data": {"ok": True}}}


async def test_a_second_wait_for_a_signal_fails_its_run() -> None:
    """Where a run waits for the signal already, the other one fails at once, and its code cannot catch that."""
    wait = op("WaitForSignal", "s", opts={"signal": "s", "conflict": "fail"})
    endpoint = FakeEndpoint(ops(wait), ops(wait))
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        await engine.send(GO)
        assert sorted(run.status for run in engine.runs()) == ["failed", "running"]
    assert endpoint.log == ["step/0", "step/0"]


async def test_an_invoked_function_returns_its_result() -> None:
    """It is found by its composite id, and gets the data of the invoke in its own event."""
    endpoint = FakeEndpoint(ops(INVOKE), returned(42), returned("done"))
    functions = registered(), registered("demo-callee", event="demo/never")
    async with virtual(endpoint, *functions) as engine:
        await engine.send(GO)
        assert engine.run("demo-f").output == "done"
    callee, last = endpoint.asked[1], endpoint.asked[2]
    assert callee.body["event"]["name"] == "inngest/function.invoked"
    assert callee.body["event"]["data"]["x"] == 5
    assert last.body["steps"] == {hashed("i"): {"data": 42}}


async def test_an_invoked_function_gets_the_whole_event() -> None:
    """The data, the user, the version and what else the caller says about the event."""
    more = {"user": {"id": 1}, "v": "2", "meta": {"sessions": {"chat": "1"}}}
    opts = {"function_id": "demo-callee", "payload": {"data": {"x": 5}, **more}}
    invoke = op("InvokeFunction", "i", opts=opts)
    endpoint = FakeEndpoint(ops(invoke), returned(), returned())
    async with virtual(endpoint, registered(), registered("demo-callee", event="x")) as engine:
        await engine.send(GO)
    event = endpoint.asked[1].body["event"]
    assert {name: event[name] for name in more} == more


async def test_an_invoke_that_times_out_is_an_error_with_its_own_name() -> None:
    """The SDKs know the error by its name; the invoked run continues."""
    invoke = op("InvokeFunction", "i", opts={"function_id": "demo-callee", "timeout": "1m"})
    endpoint = FakeEndpoint(ops(invoke), ops(op("Sleep", "nap", name="1h")), returned())
    functions = registered(), registered("demo-callee", event="demo/never")
    async with virtual(endpoint, *functions) as engine:
        await engine.send(GO)
        await engine.advance("1m")
    (memo,) = endpoint.asked[-1].body["steps"].values()
    assert memo["error"]["name"] == "InngestInvokeTimeoutError"


async def test_an_unknown_function_is_an_error_at_once() -> None:
    """Nothing waits for the timeout of an invoke that cannot succeed."""
    endpoint = FakeEndpoint(ops(INVOKE), returned())
    async with virtual(endpoint) as engine:
        await engine.send(GO)
    (memo,) = endpoint.asked[-1].body["steps"].values()
    assert memo["error"]["name"] == "FunctionNotFoundError"


async def test_complete_ends_the_run_after_the_other_ops() -> None:
    """An SDK may answer with results and the end of the run together: the results are kept first."""
    complete = {"op": "RunComplete", "id": hashed("complete"), "data": {"ok": 1}}
    endpoint = FakeEndpoint(ops(complete, ran("a", "A"), ran("b", "B")))
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        run = engine.run("demo-f")
    assert (run.status, run.output) == ("completed", {"ok": 1})
    assert [(step.id, step.output) for step in run.steps] == [("a", "A"), ("b", "B")]


async def test_an_empty_answer_is_followed_by_another_call() -> None:
    """It says nothing, and nothing else would continue the run."""
    endpoint = FakeEndpoint(ops(), ops(op("DiscoveryRequest", "again")), returned(1))
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        assert engine.run("demo-f").status == "completed"
    assert endpoint.log == ["step/0"] * 3


async def test_code_that_never_proceeds_fails() -> None:
    """An app that answers nothing, call after call, is not called without end."""
    endpoint = FakeEndpoint(*[ops()] * 10)
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        run = engine.run("demo-f")
    assert (run.status, run.error["code"]) == ("failed", "no-progress")


async def test_a_sleep_of_more_than_a_year_fails_the_run() -> None:
    """The error has the name that the SDKs know."""
    endpoint = FakeEndpoint(ops(op("Sleep", "nap", name="367d")))
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        run = engine.run("demo-f")
    assert (run.status, run.error["name"]) == ("failed", "InngestErrTimeoutTooLong")


async def test_a_result_that_is_too_large_is_an_error_of_its_step() -> None:
    """The step has ended, and its body does not run again."""
    endpoint = FakeEndpoint(ops(ran("a", "x" * 100)), returned())
    async with virtual(endpoint, limits=Limits(step_output_bytes_max=50)) as engine:
        await engine.send(GO)
    (memo,) = endpoint.asked[-1].body["steps"].values()
    assert memo["error"]["name"] == "OutputTooLarge"


@pytest.mark.parametrize(
    ("limits", "code"),
    [(Limits(steps_per_run_max=2), "step-limit"), (Limits(run_memo_bytes_max=250), "run-state-limit")],
)
async def test_a_run_that_outgrows_its_limits_fails(limits: Limits, code: str) -> None:
    """The third step is one too many, or its result is; the call that follows it is dropped."""
    results = [ops(ran(id, 100 * id)) for id in "abc"]
    endpoint = FakeEndpoint(*results, returned())
    async with virtual(endpoint, limits=limits) as engine:
        await engine.send(GO)
        run = engine.run("demo-f")
    assert (run.status, run.error["code"]) == ("failed", code)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a text of which two are more than a call has room for: 4,000 bytes in place of 4 MiB."""
    monkeypatch.setattr("stepstream.gateway.runs.calling.CALL_BYTES_MAX", 4_000)
    return "x" * 2_500


async def test_a_large_run_sends_neither_events_nor_memos(large: str) -> None:
    """Above 4 MiB the app asks for them; it can get them from the run."""
    endpoint = FakeEndpoint(ops(ran("a", large)), ops(ran("b", large)), returned())
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        assert engine.run("demo-f").status == "completed"
    body = endpoint.asked[2].body
    assert (body["use_api"], body["ctx"]["use_api"], body["events"], body["steps"]) == (True, True, [], {})
    assert endpoint.asked[2].memos == ["a", "b"]


async def test_one_of_several_gateways_sends_a_large_run_as_it_is(large: str) -> None:
    """What an app would fetch might be asked of another gateway, and so might the steps that it reports."""
    endpoint = FakeEndpoint(ops(op("Sleep", "nap", name="1s")), returned(), sdk="inngest-js:v4.24.0")
    app = app_of(endpoint, sdk="js:v4.24.0", checkpoints=False)
    async with VirtualEngine(app) as engine:
        await engine.send(Event("demo/go", {"text": 2 * large}))
        await engine.advance("1s")
    for each in endpoint.asked:
        assert (each.body["use_api"], len(each.body["events"]), "fn_id" in each.body["ctx"]) == (False, 1, False)


async def test_a_large_run_of_the_go_sdk_fails(large: str) -> None:
    """That SDK would see no memos, and run the first step again."""
    endpoint = FakeEndpoint(ops(ran("a", large)), ops(ran("b", large)), sdk="go:v0.16.0")
    async with virtual(endpoint, sdk="go:v0.16.0") as engine:
        await engine.send(GO)
        run = engine.run("demo-f")
    assert (run.status, run.error["name"]) == ("failed", "InngestErrStateOverflowed")
    assert len(endpoint.asked) == 2


async def test_large_results_are_encoded_once_and_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop does not wait for the canonical form of large results, and each call has it."""
    threads = list[bool]()

    def recorded(*arguments: Any, **more: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return memo_json(*arguments, **more)

    monkeypatch.setattr("stepstream.gateway.runs.results.memo_json", recorded)
    endpoint = FakeEndpoint(ops(ran("a", "x" * 100_000)), ops(ran("b", 1)), ops(ran("c", 1)), returned())
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        assert engine.run("demo-f").status == "completed"
    assert [list(each.body["steps"]) for each in endpoint.asked] == [
        [],
        [hashed("a")],
        sorted([hashed("a"), hashed("b")]),
        sorted([hashed("a"), hashed("b"), hashed("c")]),
    ]
    assert threads == [False, True, True]


async def test_numbers_keep_their_digits() -> None:
    """A result is stored as the JSON that the app wrote, also an integer that a double cannot hold."""
    endpoint = FakeEndpoint(ops(ran("a", 2**63 + 1)), returned(2**63 + 1))
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        run = engine.run("demo-f")
    assert (run.output, run.steps[0].output) == (2**63 + 1, 2**63 + 1)
