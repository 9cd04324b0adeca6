"""The life cycle of a call: each case shows the moves of step `a`, and together they show all that there are."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stepstream import Context
from stepstream.contract.commands import Open
from stepstream.contract.ids import step_hash
from stepstream.contract.kinds import StepKind
from stepstream.contract.outcomes import Value
from stepstream.sdk.replay.calls import CALL_LIFE, Call, CallEvent, CallState, CallTable, IllegalCallMove
from tests.fakes.waiting import iterate, until
from tests.sdk.runs import Run, memo
from tests.states import find_moves

Play = Callable[[], Awaitable[object]]
CASES: dict[str, tuple[Play, str]] = {}
A = step_hash("a", 0)


def moves(expected: str) -> Callable[[Play], Play]:
    """Register a case: the events of step `a`, each with the state that it leads to."""

    def register(play: Play) -> Play:
        CASES[play.__name__] = (play, expected)
        return play

    return register


def one() -> int:
    """Return 1."""
    return 1


async def sequential(ctx: Context) -> Any:
    """Run step `a` alone."""
    return await ctx.step.run("a", one)


async def nap(ctx: Context) -> Any:
    """Sleep as step `a`."""
    return await ctx.step.sleep("a", "1h")


async def in_parallel(ctx: Context) -> Any:
    """Run step `a` beside another body."""
    return await asyncio.gather(ctx.step.run("a", one), ctx.step.run("b", one))


async def beside_a_wait(ctx: Context) -> Any:
    """Run step `a` beside a wait, which must be registered first."""
    return await asyncio.gather(ctx.step.run("a", one), ctx.step.wait_for_event("w", event="e", timeout="1h"))


def cancelled_by(signal: asyncio.Event, start: Callable[[Context], Awaitable[Any]]) -> Callable[[Context], Any]:
    """Return code that cancels step `a` when a signal is set, and sleeps for good."""

    async def code(ctx: Context) -> Any:
        task = asyncio.ensure_future(start(ctx))
        await signal.wait()
        task.cancel()
        await ctx.step.sleep("end", "1h")

    return code


@moves("discover new, begin running, report reporting, give resolved")
async def a_body_that_runs_alone() -> None:
    await Run(sequential).start()


@moves("discover new, begin running, report reporting, appended durable, give resolved")
async def a_body_beside_another() -> None:
    await Run(in_parallel).start()


@moves("discover new, give resolved")
async def a_memoized_result() -> None:
    await Run(sequential, [memo("a", 1)]).start()


@moves("discover new, plan open, give resolved")
async def a_step_of_the_engine() -> None:
    run = await Run(nap).start()
    await run.resume(memo("a", None, seen=1, kind="sleep"))


@moves("discover open, give resolved")
async def a_step_that_the_engine_has_open() -> None:
    run = await Run(nap, opened=[Open(A, kind=StepKind.SLEEP)]).start()
    await run.resume(memo("a", None, seen=1, kind="sleep"))


@moves("discover due, begin running, report reporting, give resolved")
async def an_attempt_that_is_due_when_the_code_starts() -> None:
    await Run(sequential, opened=[Open(A, 1, ready=True)]).start()


@moves("discover new, hold held, begin running, report reporting, appended durable, give resolved")
async def a_body_that_waits_for_the_waits() -> None:
    run = await Run(beside_a_wait).start()
    await run.until_idle()


@moves("discover due, hold held, begin running, report reporting, appended durable, give resolved")
async def an_attempt_that_waits_for_the_waits() -> None:
    run = await Run(beside_a_wait, opened=[Open(A, 1, ready=True)]).start()
    await run.until_idle()


@moves("discover new, begin running, retry open, due due, begin running, report reporting, give resolved")
async def a_body_that_fails_once() -> None:
    run = await Run(sequential, failing={"a": 1}).start()
    run.replay.resume((), [Open(A, 1, ready=True)], acknowledged=False)
    await run.until_idle()


@moves("discover new, begin running, due running, retry due, begin running, report reporting, give resolved")
async def an_attempt_that_is_due_before_its_worker_knows() -> None:
    run = Run(sequential, failing={"a": 1}, hold=["a"])
    starting = asyncio.ensure_future(run.start())
    await until(lambda: run.bodies)
    run.replay.resume((), [Open(A, 1, ready=True)], acknowledged=False)
    run.gates["a"].set()
    await starting


@moves("discover open, due due, due due, begin running, report reporting, give resolved")
async def an_attempt_that_is_due_twice() -> None:
    run = await Run(sequential, opened=[Open(A, 1)]).start()
    run.replay.resume((), [Open(A, 1, ready=True)], acknowledged=False)
    run.replay.resume((), [Open(A, 2, ready=True)], acknowledged=False)
    await run.until_idle()


@moves("discover open, due due, give resolved")
async def a_result_that_comes_with_a_due_attempt() -> None:
    run = await Run(sequential, opened=[Open(A, 1)]).start()
    run.replay.resume([memo("a", 1)], [Open(A, 1, ready=True)], acknowledged=False)
    await run.until_idle()
    assert (run.bodies, run.output) == ([], 1)


@moves("discover new, abandon abandoned")
async def a_step_that_is_abandoned_at_once() -> None:
    async def code(ctx: Context) -> Any:
        task = asyncio.ensure_future(ctx.step.run("a", one))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    await Run(code).start()


@moves("discover new, plan open, abandon abandoned")
async def a_wait_that_loses_a_race() -> None:
    async def code(ctx: Context) -> Any:
        await ctx.group.race(ctx.step.sleep("a", "2h"), ctx.step.sleep("b", "1h"))
        await ctx.step.sleep("end", "1h")

    run = await Run(code).start()
    await run.resume(memo("b", None, seen=1, kind="sleep"))
    assert run.cancelled == [A]


@moves("discover open, due due, abandon abandoned")
async def an_attempt_that_is_abandoned_when_it_is_due() -> None:
    signal = asyncio.Event()
    code = cancelled_by(signal, lambda ctx: ctx.step.run("a", one))
    run = await Run(code, opened=[Open(A, 1)]).start()
    signal.set()
    run.replay.resume((), [Open(A, 1, ready=True)], acknowledged=False)
    await run.until_idle()
    assert (run.bodies, run.cancelled) == ([], [A])


@moves("discover new, hold held, abandon abandoned")
async def a_held_body_that_is_abandoned() -> None:
    signal = asyncio.Event()
    run = await Run(cancelled_by(signal, beside_a_wait), acknowledges=False).start()
    signal.set()
    await run.until_idle()
    run.replay.resume((), (), acknowledged=True)
    await iterate(20)
    assert run.bodies == []


async def abandoned_body(run: Run, signal: asyncio.Event) -> None:
    """Start a run, and abandon step `a` when its body is held at its gate."""
    starting = asyncio.ensure_future(run.start())
    await until(lambda: run.bodies)
    await iterate(20)
    signal.set()
    await starting


@moves("discover new, begin running, abandon abandoned")
async def a_running_body_that_is_abandoned() -> None:
    signal = asyncio.Event()
    code = cancelled_by(signal, lambda ctx: ctx.step.run("a", one))
    await abandoned_body(Run(code, failing={"a": 1}, hold=["a"]), signal)


@moves("discover new, begin running, report reporting, abandon abandoned")
async def a_body_that_is_abandoned_while_its_report_is_written() -> None:
    signal = asyncio.Event()
    code = cancelled_by(signal, lambda ctx: ctx.step.run("a", one))
    await abandoned_body(Run(code, hold=["a"]), signal)


@moves("discover new, begin running, report reporting, appended durable, abandon abandoned")
async def a_durable_result_that_loses_a_race() -> None:
    async def code(ctx: Context) -> Any:
        await ctx.group.race(ctx.step.run("b", one), ctx.step.run("a", one))
        await ctx.step.sleep("end", "1h")

    run = Run(code, hold=["b", "a"])
    starting = asyncio.ensure_future(run.start())
    await until(lambda: len(run.reports) == 2)
    for gate in run.gates.values():
        gate.set()
    await starting


@pytest.mark.parametrize("name", CASES)
async def test_a_call_makes_the_moves_of_its_case(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each case takes step `a` through exactly these states."""
    play, expected = CASES[name]
    made: list[str] = []
    move = CallTable.move

    def record(table: CallTable, call: Call, event: CallEvent, to: CallState) -> None:
        move(table, call, event, to)
        if call.id == "a":
            made.append(f"{event} {to}")

    monkeypatch.setattr(CallTable, "move", record)
    await play()
    assert ", ".join(made) == expected


def test_every_move_of_the_life_cycle_has_a_case() -> None:
    """The cases together make each move that CALL_LIFE allows, and no other."""
    shown = set[tuple[str, str, str]]()
    for _, expected in CASES.values():
        state = str(CallState.ABSENT)
        for move in expected.split(", "):
            event, to = move.split()
            shown.add((state, event, to))
            state = to
    assert shown == set(find_moves(CALL_LIFE))


def test_an_illegal_move_is_an_error_that_names_it() -> None:
    """A runner that reports a step twice is a bug, and not silently a second result."""
    table, call = CallTable(), Call(A, "a", StepKind.RUN, outcome=Value())
    table.move(call, CallEvent.DISCOVER, CallState.NEW)
    with pytest.raises(IllegalCallMove, match="appended may not take step 'a' from new to durable"):
        table.move(call, CallEvent.APPENDED, CallState.DURABLE)
    assert call.state is CallState.NEW


def test_an_attempt_that_failed_is_not_started_a_second_time() -> None:
    """The engine may call for an attempt before it knows that the attempt ran by the permit of its run, and failed."""
    calls, call = CallTable(), Call(A, "a", StepKind.RUN)
    for event, to in (
        (CallEvent.DISCOVER, CallState.NEW),
        (CallEvent.PLAN, CallState.OPEN),
        (CallEvent.DUE, CallState.DUE),
        (CallEvent.BEGIN, CallState.RUNNING),
    ):
        calls.move(call, event, to)
    assert not calls.retry(call)
    assert not calls.call_for(call, 0)
    assert (call.state, call.attempt) == (CallState.OPEN, 1)
    assert calls.call_for(call, 1)
    assert call.state is CallState.DUE
