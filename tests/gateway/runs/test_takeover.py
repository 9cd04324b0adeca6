"""Runs of apps that official SDKs serve, when their worker ends, drains or loses them: no result is lost."""

import asyncio
from pathlib import Path

import pytest

from stepstream import Event
from stepstream.contract.commands import Memo, Open, RunLoaded, RunResumed, RunStarted, RunStopped
from stepstream.contract.events import EventRecord
from stepstream.contract.inbox import RunClaimed, RunLeased, RunReturned, StepFailed, StepReported, StepsPlanned
from stepstream.contract.outcomes import Value
from stepstream.runtime.worker.worker import Worker
from stepstream.sdk.replay.calls import SLEEP
from tests.fakes.waiting import iterate, until
from tests.fakes.worker_log import FakeWorkerLog
from tests.gateway.runs.endpoint import (
    DISCOVERY,
    FUNCTION,
    NOT_CALLED,
    FakeEndpoint,
    Scripted,
    app_of,
    failed,
    hashed,
    op,
    ops,
    planned,
    ran,
    returned,
    virtual,
)
from tests.runtime.worker.harness import options, serving

GO = Event("demo/go", {"n": 7})
STARTED = RunStarted("run", FUNCTION, 1, (EventRecord("demo/go", id="e"),), 1)
SLEEP_OP = op("Sleep", "nap", name="1m")


async def test_another_process_continues_with_the_memos(tmp_path: Path) -> None:
    """A process ends while a call is open: the next one calls with the results that were durable."""
    never = asyncio.Event()
    first = FakeEndpoint(ops(ran("a", "A")), ops(ran("b"), after=never))
    async with virtual(first, data_dir=tmp_path) as engine:
        sending = asyncio.ensure_future(engine.send(GO))
        await until(lambda: len(first.asked) == 2)
        sending.cancel()
    assert first.cancelled == ["step"]
    second = FakeEndpoint(ops(ran("b", "B")), returned("AB"))
    async with virtual(second, data_dir=tmp_path) as engine:
        assert engine.run(FUNCTION).output == "AB"
    assert second.asked[0].body["steps"] == {hashed("a"): {"data": "A"}}
    assert second.log == ["step/1", "step/2"]
    assert [each.body["version"] for each in second.asked] == [2, 2]


@pytest.mark.parametrize("version", [1, 2])
async def test_a_run_without_a_place_in_memory_continues(version: int) -> None:
    """Each wait drops the run from memory; the next call has all memos, and parallel steps that are open stay so."""
    wait = op("WaitForEvent", "w", name="demo/reply", opts={"timeout": "1h"})
    again = [ops(wait)] if version == 1 else []
    endpoint = FakeEndpoint(ops(wait, SLEEP_OP), *again, returned("done"), version=version)
    async with virtual(endpoint, live_cache=False) as engine:
        await engine.send(GO)
        await engine.advance("1m")
        await engine.send(Event("demo/reply"))
        assert engine.run(FUNCTION).output == "done"
    assert endpoint.asked[-1].memos == ["nap", "w"]
    assert endpoint.is_done
    assert {each.body["version"] for each in endpoint.asked[1:]} == {version}


async def test_an_attempt_that_is_due_after_a_reload_is_the_same_call() -> None:
    """The step alone is open: the code continues there, with the attempt that is due."""
    endpoint = FakeEndpoint(ops(failed("a")), ops(ran("a")), returned())
    async with virtual(endpoint, live_cache=False) as engine:
        await engine.send(GO)
        await engine.advance("1m")
        assert engine.run(FUNCTION).status == "completed"
    assert endpoint.log == ["step/0", "step#1/0", "step/1"]


async def test_a_parallel_attempt_that_is_due_after_a_reload_is_planned_again() -> None:
    """A discovery call finds out what is open; then the step is called with its attempt."""
    endpoint = FakeEndpoint(
        ops(planned("a"), SLEEP_OP),
        ops(planned("a"), SLEEP_OP),
        ops(ran("b")),
        returned(),
        a=[ops(failed("a")), ops(ran("a"))],
    )
    async with virtual(endpoint, live_cache=False) as engine:
        await engine.send(GO)
        await engine.advance("2m")
        assert engine.run(FUNCTION).status == "completed"
    assert "a#1+/" in " ".join(endpoint.log)
    assert endpoint.is_done


async def test_a_draining_worker_keeps_the_result_of_an_open_call() -> None:
    """The call ends as a body does: its result is durable, and no other call begins."""
    held = asyncio.Event()
    endpoint, log = FakeEndpoint(ops(ran("a"), after=held)), FakeWorkerLog(STARTED)
    worker = Worker(log, app_of(endpoint), options())
    async with serving(worker):
        await until(lambda: len(endpoint.asked) == 1)
        draining = asyncio.ensure_future(worker.drain())
        await iterate()
        assert not draining.done()
        held.set()
        await asyncio.wait_for(draining, 60)
    assert log.kinds == [StepReported]
    assert endpoint.log == ["step/0"]


async def test_a_draining_worker_plans_what_an_open_call_asks_for() -> None:
    """The run waits in the engine then, for the worker that gets its partition."""
    held = asyncio.Event()
    endpoint, log = FakeEndpoint(ops(SLEEP_OP, planned("a"), after=held)), FakeWorkerLog(STARTED)
    worker = Worker(log, app_of(endpoint), options())
    async with serving(worker):
        await until(lambda: len(endpoint.asked) == 1)
        draining = asyncio.ensure_future(worker.drain())
        await iterate()
        held.set()
        await asyncio.wait_for(draining, 60)
    assert log.kinds == [StepsPlanned]
    assert endpoint.log == ["step/0"]


async def test_a_run_whose_partition_moves_keeps_its_open_call() -> None:
    """It has a lease until the result is durable; the next call is made by the worker that has the partition."""
    held = asyncio.Event()
    endpoint, log = FakeEndpoint(ops(ran("a"), after=held)), FakeWorkerLog(STARTED)
    app = app_of(endpoint)
    async with serving(Worker(log, app, options())):
        await until(lambda: len(endpoint.asked) == 1)
        await log.rebalance()
        held.set()
        await until(lambda: "run" not in app.runs)
    assert [report.for_ms > 0 for report in log.reports_of(RunLeased)] == [True, False]
    assert log.kinds == [RunLeased, StepReported, RunLeased]
    assert endpoint.log == ["step/0"]


async def test_a_pause_lets_the_open_call_end() -> None:
    """Its result is kept, and the next call is made when the pause ends."""
    held = asyncio.Event()
    endpoint = FakeEndpoint(ops(ran("a"), after=held), returned("done"))
    async with virtual(endpoint) as engine:
        sending = asyncio.ensure_future(engine.send(GO))
        await until(lambda: len(endpoint.asked) == 1)
        run_id = endpoint.asked[0].body["ctx"]["run_id"]
        pausing = asyncio.ensure_future(engine.pause(run_id))
        await iterate()
        held.set()
        await asyncio.gather(sending, pausing)
        assert endpoint.log == ["step/0"]
        await engine.resume(run_id)
        assert engine.run(FUNCTION).output == "done"
    assert endpoint.log == ["step/0", "step/1"]


async def test_a_cancelled_run_cancels_its_open_calls() -> None:
    """No call follows, and no result of it is kept."""
    never = asyncio.Event()
    endpoint = FakeEndpoint(ops(planned("a"), planned("b")), a=ops(ran("a"), after=never), b=ops(ran("b"), after=never))
    async with virtual(endpoint) as engine:
        sending = asyncio.ensure_future(engine.send(GO))
        await until(lambda: len(endpoint.asked) == 3)
        await engine.cancel(endpoint.asked[0].body["ctx"]["run_id"])
        await sending
        assert engine.run(FUNCTION).status == "cancelled"
    assert sorted(endpoint.cancelled) == ["a", "b"]


async def test_a_call_of_a_run_that_another_worker_has_is_cancelled() -> None:
    """Its answer would not count."""
    endpoint, log = FakeEndpoint(ops(ran("a"), after=asyncio.Event())), FakeWorkerLog(STARTED)
    app = app_of(endpoint)
    async with serving(Worker(log, app, options())):
        await until(lambda: len(endpoint.asked) == 1)
        log.give(RunStopped("run"))
        await until(lambda: bool(endpoint.cancelled))
        assert "run" not in app.runs
    assert log.kinds == []


async def test_results_of_the_engine_wait_for_one_that_is_being_reported() -> None:
    """The order of the memos is that of the rows in the engine, which puts the result of the call first."""
    endpoint = FakeEndpoint(ops(planned("a"), SLEEP_OP), returned(), a=ops(ran("a")))
    log = FakeWorkerLog(STARTED)
    async with serving(Worker(log, app_of(endpoint), options())):
        log.calls.block("acknowledge")
        await until(lambda: StepReported in log.kinds)
        log.give(RunResumed("run", 1, (Memo(hashed("nap"), "nap", SLEEP, Value(), 1),)))
        await iterate()
        log.calls.allow("acknowledge")
        await until(lambda: RunReturned in log.kinds)
    assert log.reports_of(StepReported)[0].seen == 0
    assert endpoint.asked[-1].memos == ["a", "nap"]


async def test_the_open_steps_of_a_loaded_run_are_not_run_by_discovery() -> None:
    """Code must plan steps while others are open: an attempt that is not due would begin at once."""
    endpoint = FakeEndpoint(ops(planned("a"), SLEEP_OP))
    log = FakeWorkerLog(fresh_from=9)
    log.give(STARTED)
    async with serving(Worker(log, app_of(endpoint), options())):
        await until(lambda: log.kinds == [RunClaimed])
        claim = log.reports_of(RunClaimed)[0].claim
        opened = (Open(hashed("a"), 1), Open(hashed("nap"), kind=SLEEP))
        log.give(RunLoaded("run", FUNCTION, 2, STARTED.events, 1, claim, open=opened))
        await until(lambda: len(endpoint.asked) == 1)
        await iterate()
    assert endpoint.log == ["step+/0"]
    assert StepFailed not in log.kinds


@pytest.mark.parametrize("step", [DISCOVERY, "a"])
async def test_a_call_that_is_not_made_does_not_delay_a_drain(step: str) -> None:
    """No worker of the app has it: it is no attempt, and the run goes to another process."""
    held = Scripted(NOT_CALLED, None, after=asyncio.Event())
    endpoint = (
        FakeEndpoint(held) if step == DISCOVERY else FakeEndpoint(ops(planned("a"), planned("b")), a=held, b=held)
    )
    log = FakeWorkerLog(STARTED)
    worker = Worker(log, app_of(endpoint), options())
    async with serving(worker):
        await until(lambda: step in {each.step for each in endpoint.asked})
        draining = asyncio.ensure_future(worker.drain())
        await iterate()
        assert not draining.done()
        assert held.after is not None
        held.after.set()
        await asyncio.wait_for(draining, 60)
    assert StepFailed not in log.kinds
    assert len(endpoint.asked) == (1 if step == DISCOVERY else 3)
