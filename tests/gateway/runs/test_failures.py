"""Failures of apps that official SDKs serve: what is retried, when, and what fails the run."""

import pytest

from stepstream import Event
from stepstream.contract.history import RunAttemptFailed, RunEnded
from tests.gateway.runs.endpoint import (
    FakeEndpoint,
    Scripted,
    failed,
    hashed,
    op,
    ops,
    planned,
    raised,
    ran,
    registered,
    returned,
    virtual,
)

GO = Event("demo/go", {"n": 7})
PLANS = ops(planned("a"), planned("b"))


async def test_a_step_that_raises_is_called_again() -> None:
    """The same call is made again with the next attempt; the attempts of the next step count from 0."""
    endpoint = FakeEndpoint(ops(failed("a")), ops(failed("a")), ops(ran("a", 1)), ops(failed("b")), returned(2))
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        await engine.advance("1h")
        assert engine.run("demo-f").status == "completed"
    assert endpoint.log == ["step/0", "step#1/0", "step#2/0", "step/1", "step#1/1"]


async def test_a_step_without_attempts_left_has_the_error_object_as_it_came() -> None:
    """The code may catch it: it is the memo of the step, with fields that only the SDK knows."""
    endpoint = FakeEndpoint(ops(failed("a")), ops(failed("a")), returned(2))
    async with virtual(endpoint, registered(retries=1)) as engine:
        await engine.send(GO)
        await engine.advance("1h")
        run = engine.run("demo-f")
    assert run.status == "completed"
    error = {"name": "ValueError", "message": "boom", "stack": "…", "cause": {"message": "deep"}}
    assert endpoint.asked[-1].body["steps"] == {hashed("a"): {"error": error}}
    assert [each.body["ctx"]["max_attempts"] for each in endpoint.asked] == [2, 2, 2]


@pytest.mark.parametrize("answer", [ops(failed("a", kind="StepFailed")), ops(failed("a"), X_Inngest_No_Retry="true")])
async def test_a_step_that_failed_for_good_is_not_retried(answer: Scripted) -> None:
    """The op says so, or the header."""
    endpoint = FakeEndpoint(answer, returned())
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        assert engine.run("demo-f").status == "completed"
    assert endpoint.log == ["step/0", "step/1"]


@pytest.mark.parametrize("answer", [ops(failed("a"), Retry_After="90"), raised(Retry_After="90")])
async def test_the_app_sets_the_time_of_the_next_attempt(answer: Scripted) -> None:
    """Retry-After takes the place of the back-off, for a step and for the code between steps."""
    endpoint = FakeEndpoint(answer, ops(ran("a")), returned())
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        await engine.advance("89s")
        assert len(endpoint.asked) == 1
        await engine.advance("1s")
        assert engine.run("demo-f").status == "completed"


async def test_code_that_raises_is_retried_with_its_results() -> None:
    """Each attempt has the memos; after the last one the run fails, with the error object as it came."""
    endpoint = FakeEndpoint(ops(ran("a")), raised(), raised(), raised("last"))
    async with virtual(endpoint, registered(retries=2)) as engine:
        await engine.send(GO)
        await engine.advance("1h")
        run = engine.run("demo-f")
    assert (run.status, run.error["name"], run.error["message"]) == ("failed", "TypeError", "last")
    assert endpoint.log == ["step/0", "step/1", "step#1/1", "step#2/1"]
    (end,) = [entry for entry in engine.history if isinstance(entry, RunEnded)]
    assert b'"message":"last"' in bytes(end.raw)


async def test_code_that_raises_for_good_fails_the_run_at_once() -> None:
    """The header says that no attempt can help."""
    endpoint = FakeEndpoint(raised(X_Inngest_No_Retry="true"))
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        assert engine.run("demo-f").status == "failed"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Scripted(0, "refused"), "unreachable"),
        (Scripted(200, "<html>", {"X-Inngest-Sdk": ""}), "not-an-sdk"),
        (Scripted(401, {"message": "Unauthorized"}), "unauthorized"),
        (ops(op("Unknown", "a")), "invalid-answer"),
    ],
)
async def test_an_answer_of_no_sdk_is_a_failed_attempt(answer: Scripted, code: str) -> None:
    """A proxy or another app answered, or the call failed: it is made again."""
    endpoint = FakeEndpoint(answer, returned(1))
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        assert [each.error.code for each in engine.history if isinstance(each, RunAttemptFailed)] == [code]
        await engine.advance("1m")
        assert engine.run("demo-f").status == "completed"


async def test_a_failure_handler_gets_the_error_object() -> None:
    """It is a function that the event of the failure starts, which has the error without the codes of one SDK."""
    error = {"name": "TypeError", "message": "oops", "cause": {"message": "deep"}}
    endpoint = FakeEndpoint(Scripted(500, {**error, "code": "unknown"}), returned())
    handler = registered("demo-f-failure", event="stream/function.failed")
    async with virtual(endpoint, registered(retries=0), handler) as engine:
        await engine.send(GO)
    event = endpoint.asked[-1].body["event"]
    assert event["name"] == "inngest/function.failed"
    assert event["data"]["error"] == {"error": "invalid status code: 500", **error}
    assert event["data"]["function_id"] == "demo-f"
    assert (event["data"]["event"]["name"], event["data"]["event"]["data"]) == ("demo/go", {"n": 7})


@pytest.mark.parametrize(
    ("endpoint", "text"),
    [
        (FakeEndpoint(raised(), returned()), "invalid status code: 500"),
        (FakeEndpoint(raised(X_Inngest_No_Retry="true"), returned()), "NonRetriableError"),
        (FakeEndpoint(PLANS, returned(), a=raised(), b=ops(ran("b"))), "invalid status code: 500"),
        (FakeEndpoint(PLANS, returned(), a=raised(X_Inngest_No_Retry="true"), b=ops(ran("b"))), "NonRetriableError"),
    ],
)
async def test_a_failure_handler_sees_whether_the_app_forbade_a_retry(endpoint: FakeEndpoint, text: str) -> None:
    """The app does by a header: when the function raises, or in the call for one step."""
    handler = registered("demo-f-failure", event="stream/function.failed")
    async with virtual(endpoint, registered(retries=0), handler) as engine:
        await engine.send(GO)
    event = endpoint.asked[-1].body["event"]
    assert event["name"] == "inngest/function.failed"
    assert event["data"]["error"]["error"] == text


async def test_the_caller_of_a_failed_function_gets_its_error_object() -> None:
    """The error of an invoked function passes through the engine as it came."""
    invoke = op("InvokeFunction", "i", opts={"function_id": "demo-callee"})
    endpoint = FakeEndpoint(ops(invoke), raised("inner"), returned())
    async with virtual(endpoint, registered(), registered("demo-callee", event="x", retries=0)) as engine:
        await engine.send(GO)
    (memo,) = endpoint.asked[-1].body["steps"].values()
    assert memo == {"error": {"name": "TypeError", "message": "inner", "stack": "…"}}


async def test_conditions_on_internal_events_see_what_sdks_know() -> None:
    """A run waits for the failure of another one by the event of that run, and by the name that SDKs know."""
    condition = "async.name == 'inngest/function.failed' && async.data.event.data.n == event.data.n"
    wait = op("WaitForEvent", "w", name="inngest/function.failed", opts={"if": condition, "timeout": "1h"})
    endpoint = FakeEndpoint(ops(wait), raised(), returned())
    async with virtual(endpoint, registered(), registered("demo-g", event="demo/other", retries=0)) as engine:
        await engine.send(GO)
        await engine.send(Event("demo/other", {"n": 7}))
        assert engine.run("demo-f").status == "completed"
        failed_run = engine.run("demo-g").run_id
    (memo,) = endpoint.asked[-1].body["steps"].values()
    assert memo["data"]["run_id"] == failed_run


async def test_a_wait_whose_condition_is_invalid_fails_the_run() -> None:
    """Code cannot catch that: no call follows."""
    wait = op("WaitForEvent", "wait", name="demo/reply", opts={"timeout": "1h", "if": "invalid"})
    endpoint = FakeEndpoint(ops(wait), returned("caught"))
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        run = engine.run("demo-f")
        assert (run.status, run.error["code"]) == ("failed", "invalid-expression")
    assert endpoint.log == ["step/0"]
