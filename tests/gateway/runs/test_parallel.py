"""Parallel steps of apps that official SDKs serve: one call each, and who sees which results when."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from stepstream import Concurrency, Event
from stepstream.runtime.worker.memory import MemoryBudget
from stepstream.sdk.flow_control import gate_rules
from tests.fakes.iterations import Iterations
from tests.fakes.waiting import until
from tests.gateway.runs.endpoint import (
    FakeEndpoint,
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
WAIT = op("WaitForEvent", "w", name="demo/reply", opts={"timeout": "1h"})
SLEEP = op("Sleep", "nap", name="1m")
RACE = {"parallelMode": "race"}


async def test_one_discovery_follows_a_group() -> None:
    """In version 2 each step is one call, and a single one follows the last result; then the next step runs at once."""
    endpoint = FakeEndpoint(
        ops(planned("a"), planned("b"), SLEEP), ops(ran("c")), returned(), a=ops(ran("a", 1)), b=ops(ran("b", 2))
    )
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        assert endpoint.log == ["step/0", "a+/0", "b+/0"]
        await engine.advance("1m")
        assert engine.run("demo-f").status == "completed"
    assert endpoint.log == ["step/0", "a+/0", "b+/0", "step/3", "step/4"]
    assert endpoint.asked[3].memos == ["a", "b", "nap"]


async def test_large_calls_are_counted_and_started_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory budget expects the bytes of each call, and the event loop does not build many of them at once."""
    monkeypatch.setattr("stepstream.gateway.runs.code._BYTES_PER_START", 10)
    held, numbers, steps = list[int](), list[int](), [f"s{number}" for number in range(4)]
    body, endpoint = MemoryBudget.body, FakeEndpoint()
    post = endpoint.post

    def recorded(budget: MemoryBudget, function: str, size: int = 0) -> Any:
        held.append(size)
        return body(budget, function, size)

    async def numbered(*call: Any) -> Any:
        numbers.append(iterations.number)
        return await post(*call)

    monkeypatch.setattr(MemoryBudget, "body", recorded)
    monkeypatch.setattr(endpoint, "post", numbered)
    with Iterations() as iterations:
        answers: Any = {step: ops(ran(step)) for step in steps}
        endpoint.add(ops(ran("first", "x" * 2_000)), ops(*map(planned, steps)), returned(), **answers)
        async with virtual(endpoint) as engine:
            await engine.send(GO)
    assert held[0] < 100
    assert all(2_000 < size < 2_200 for size in held[1:])
    assert len(held) == len(numbers) == len(set(numbers)) == 7


async def test_version_1_discovers_after_each_result() -> None:
    """What is open is repeated in each answer, and is not executed again."""
    held = asyncio.Event()
    endpoint = FakeEndpoint(
        ops(planned("a"), planned("b"), SLEEP),
        ops(planned("b"), SLEEP),
        ops(SLEEP),
        returned(),
        version=1,
        a=ops(ran("a")),
        b=ops(ran("b"), after=held),
    )
    async with virtual(endpoint) as engine:
        sending = asyncio.ensure_future(engine.send(GO))
        await until(lambda: len(endpoint.asked) == 4)
        held.set()
        await sending
        await engine.advance("1m")
        assert engine.run("demo-f").status == "completed"
    assert endpoint.log == ["step/0", "a+/0", "b+/0", "step+/1", "step+/2", "step/3"]


@pytest.mark.parametrize("mode", ["race", "Race"])
async def test_a_race_discovers_at_once(mode: str) -> None:
    """The result of a step in a race is seen at once, also in version 2, and the end drops the calls that are open.

    The SDK for Go writes the name of its constant.
    """
    never, race = asyncio.Event(), {"parallelMode": mode}
    endpoint = FakeEndpoint(
        ops(planned("a", opts=race), planned("b", opts=race)),
        returned("a"),
        a=ops(ran("a")),
        b=ops(ran("b"), after=never),
    )
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        run = engine.run("demo-f")
    assert (run.status, run.output) == ("completed", "a")
    assert endpoint.log == ["step/0", "a+/0", "b+/0", "step+/1"]
    assert endpoint.cancelled == ["b"]


async def test_the_loser_of_a_race_delays_nothing() -> None:
    """The code proceeds when the other steps that it waits for are done, while the loser is still open."""
    slow = op("Sleep", "slow", name="1d", opts=RACE)
    endpoint = FakeEndpoint(
        ops(planned("fast", opts=RACE), slow),
        ops(planned("a"), planned("b"), slow),
        returned("done"),
        fast=ops(ran("fast")),
        a=ops(ran("a")),
        b=ops(ran("b")),
    )
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        assert engine.run("demo-f").output == "done"
    assert endpoint.log == ["step/0", "fast+/0", "step+/1", "a+/1", "b+/1", "step+/3"]


async def test_waits_are_registered_before_siblings_run() -> None:
    """A sibling may send the event: its call begins when the engine has confirmed the wait."""
    endpoint = FakeEndpoint(ops(planned("send"), WAIT), returned(), send=ops(ran("send", ["id"])))
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        kinds = [type(entry).__name__ for entry in engine.history]
        assert kinds.index("StepPlanned") < kinds.index("StepEnded")
        await engine.send(Event("demo/reply"))
        assert engine.run("demo-f").status == "completed"
    assert endpoint.log == ["step/0", "send+/0", "step/2"]


async def test_each_parallel_step_has_attempts_of_its_own() -> None:
    """A step that raises is called again by itself; the others are not."""
    endpoint = FakeEndpoint(
        ops(planned("a"), planned("b")),
        returned(),
        a=[ops(failed("a")), raised(), ops(ran("a"))],
        b=ops(ran("b")),
    )
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        await engine.advance("1h")
        assert engine.run("demo-f").status == "completed"
    assert endpoint.log == ["step/0", "a+/0", "b+/0", "a#1+/1", "a#2+/1", "step/2"]


@pytest.mark.parametrize("answer", [raised(X_Inngest_No_Retry="true"), raised()])
async def test_a_failed_call_for_a_step_fails_the_run(answer: object) -> None:
    """An error of the call itself, for good or in the last attempt, is none that the code can catch."""
    endpoint = FakeEndpoint(ops(planned("a"), SLEEP), a=answer)
    async with virtual(endpoint, registered(retries=0)) as engine:
        await engine.send(GO)
        run = engine.run("demo-f")
    assert (run.status, run.error["name"]) == ("failed", "TypeError")


async def test_a_return_in_a_call_for_a_step_ends_the_run() -> None:
    """The function can end without the step; what else is open is cancelled."""
    endpoint = FakeEndpoint(ops(planned("a"), planned("b"), SLEEP), a=returned("early"), b=ops(ran("b")))
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        run = engine.run("demo-f")
    assert (run.status, run.output) == ("completed", "early")


async def test_a_result_of_another_step_is_kept_under_its_own_id() -> None:
    """A call may end with another step, such as one inside it; the step itself is asked for again."""
    endpoint = FakeEndpoint(
        ops(planned("outer"), SLEEP),
        ops(planned("outer"), SLEEP),
        returned(),
        outer=[ops(ran("inner", 1)), ops(ran("outer", 2))],
    )
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        await engine.advance("1m")
        run = engine.run("demo-f")
    assert run.status == "completed"
    assert endpoint.asked[-1].memos == ["inner", "outer", "nap"]


async def test_null_of_the_go_sdk_does_not_end_a_run_with_open_steps() -> None:
    """It answers null for a step that its code no longer reaches."""
    endpoint = FakeEndpoint(ops(planned("a"), SLEEP), sdk="go:v0.16.0", a=returned(None))
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        run = engine.run("demo-f")
    assert (run.status, run.error["code"]) == ("failed", "step-not-found")


async def test_several_results_in_one_answer_are_all_kept() -> None:
    """An SDK that buffered its results answers with all of them at once, and with what follows."""
    endpoint = FakeEndpoint(ops(ran("a"), ran("b"), failed("c", kind="StepFailed"), SLEEP), returned())
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        await engine.advance("1m")
    last = endpoint.asked[-1]
    assert last.memos == ["a", "b", "c", "nap"]
    assert last.body["steps"][hashed("c")]["error"]["cause"] == {"message": "deep"}


async def test_a_limit_on_steps_counts_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call at a time: of two runs, and of parallel steps of one run, which wait for each other and not forever."""
    endpoint = FakeEndpoint()
    running, most = [0], [0]
    post = endpoint.post

    async def counted(*call: Any) -> Any:
        running[0] += 1
        most[0] = max(most[0], running[0])
        try:
            await asyncio.sleep(0)
            return await post(*call)
        finally:
            running[0] -= 1

    monkeypatch.setattr(endpoint, "post", counted)
    gates = gate_rules("demo", "demo-f", Concurrency(1), None)
    plan = ops(planned("a"), planned("b"))
    endpoint.add(plan, returned(), plan, returned(), a=[ops(ran("a"))] * 2, b=[ops(ran("b"))] * 2)
    async with virtual(endpoint, registered(gates=gates)) as engine:
        await engine.send(GO, GO)
        assert [run.status for run in engine.runs()] == ["completed", "completed"]
    assert most == [1]
    assert endpoint.log == ["step/0", "a+/0", "b+/1", "step/2"] * 2


async def test_a_call_beside_others_needs_a_separate_permit() -> None:
    """With two permits both steps of a run are called at once; one that fails is called again by that of the run."""
    held = asyncio.Event()
    gates = gate_rules("demo", "demo-f", Concurrency(2), None)
    a, b = [ops(failed("a"), after=held), ops(ran("a"))], ops(ran("b"), after=held)
    endpoint = FakeEndpoint(ops(planned("a"), planned("b")), ops(planned("a")), returned(), a=a, b=b)
    async with virtual(endpoint, registered(gates=gates)) as engine:
        sending = asyncio.ensure_future(engine.send(GO))
        await until(lambda: len(endpoint.asked) == 3)
        held.set()
        await sending
        await engine.advance("1h")
        assert engine.run("demo-f").status == "completed"
    assert endpoint.log[:3] == ["step/0", "a+/0", "b+/0"]
    assert endpoint.log[-2:] == ["a#1+/1", "step/2"]


async def test_a_limit_of_an_older_release_delays_calls_for_steps() -> None:
    """It counts no discovery calls: code must plan each step, and a call for it begins when the limit permits."""
    held = asyncio.Event()
    gates = tuple(replace(rule, work=False) for rule in gate_rules("demo", "demo-f", Concurrency(1), None))
    plan = ops(planned("a"))
    endpoint = FakeEndpoint(plan, plan, returned(), returned(), a=[ops(ran("a"), after=held), ops(ran("a"))])
    async with virtual(endpoint, registered(gates=gates)) as engine:
        sending = asyncio.ensure_future(engine.send(GO, GO))
        await until(lambda: len(endpoint.asked) == 3)
        held.set()
        await sending
        assert [run.status for run in engine.runs()] == ["completed", "completed"]
    assert endpoint.log[:3] == ["step+/0", "step+/0", "a+/0"]
