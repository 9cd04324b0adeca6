"""The order in which code gets results is the same live and replayed, so that a race has one winner."""

import asyncio
import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepstream import Context
from tests.fakes.waiting import iterate, until
from tests.sdk.runs import Run, memo


def one() -> int:
    """Return 1."""
    return 1


async def race_run_and_wait(ctx: Context) -> Any:
    """Race a body against an event."""
    body: Any = ctx.step.run("body", one)
    event: Any = ctx.step.wait_for_event("event", event="e", timeout="1h")
    return "body" if await ctx.group.race(body, event) == 1 else "event"


EVENT = memo("event", {"name": "e", "data": {}}, seen=1, kind="wait")


async def test_a_report_keeps_its_place_before_later_results() -> None:
    """A body whose report is being written wins against an event that arrives meanwhile, live and replayed."""
    run = Run(race_run_and_wait, hold=["body"])
    starting = asyncio.ensure_future(run.start())
    await until(lambda: bool(run.reports))
    run.replay.resume([EVENT], (), acknowledged=False)
    await iterate(20)
    assert run.end is None, "the event must wait for the report"
    run.gates["body"].set()
    await starting
    await until(lambda: run.end is not None)
    assert run.output == "body"
    replayed = await Run(race_run_and_wait, [memo("body", 1, seen=0, own=1), EVENT]).start()
    assert replayed.output == "body"


async def test_two_results_of_one_write_are_given_one_at_a_time() -> None:
    """Of two reports that become durable together, only one is the first."""

    async def code(ctx: Context) -> list[str]:
        tasks = {asyncio.ensure_future(ctx.step.run(name, one)): name for name in ("a", "b")}
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait(tasks)
        return sorted(tasks[task] for task in done)

    run = Run(code, hold=["a", "b"])
    starting = asyncio.ensure_future(run.start())
    await until(lambda: len(run.reports) == 2)
    for gate in run.gates.values():
        gate.set()
    await starting
    await until(lambda: run.end is not None)
    first = run.reports[0][0]
    assert run.output == [first]
    places = {step: own for own, (step, _) in enumerate(run.reports, 1)}
    memos = [memo(step, 1, own=own) for step, own in places.items()]
    assert (await Run(code, memos).start()).output == [first]


async def test_cancelled_body_blocks_no_result_while_its_report_is_written() -> None:
    """Code that abandons a step whose report is being written gets the results of the engine as before."""

    async def code(ctx: Context) -> Any:
        task = asyncio.ensure_future(ctx.step.run("body", one))
        await ctx.step.sleep("first", "1s")
        task.cancel()
        await ctx.step.sleep("second", "1s")
        return "done"

    run = Run(code, hold=["body"])
    starting = asyncio.ensure_future(run.start())
    await until(lambda: bool(run.reports))
    run.gates["body"].set()
    await starting
    await run.resume(memo("first", None, seen=1, kind="sleep"))
    await run.resume(memo("second", None, seen=2, kind="sleep"))
    assert run.output == "done"


async def test_the_result_of_an_abandoned_step_is_not_a_change_of_code() -> None:
    """The loser of a race may have a result, early or late: it causes no warning, and logging stays on."""
    memos = [memo("a", None, seen=1, kind="sleep"), memo("b", None, seen=2, kind="sleep")]
    silent: list[bool] = []

    async def code(ctx: Context) -> Any:
        await ctx.group.race(ctx.step.sleep("a", "1s"), ctx.step.sleep("b", "1s"))
        await ctx.step.sleep("c", "1s")
        silent.append(ctx.logger.isEnabledFor(logging.CRITICAL))
        return await ctx.step.run("end", one)

    for first, later in ((memos, []), (memos[:1], memos[1:])):
        run = await Run(code, first).start()
        await run.resume(*later, memo("c", None, seen=3, kind="sleep"))
        assert (run.output, run.warnings) == (1, [])
    assert silent == [True, True]


@pytest.mark.parametrize("depth", [1, 3, 4, 9])
async def test_a_result_behind_nested_gathers_keeps_its_place(depth: int) -> None:
    """The code behind many gathers sees its result before a later result reaches the code that awaits it directly."""

    async def code(ctx: Context) -> list[str]:
        seen: list[str] = []

        async def branch(name: str, gathers: int) -> None:
            step: Any = ctx.step.sleep(name, "1s")
            for _ in range(gathers):
                step = asyncio.gather(step)
            await step
            seen.append(name)

        await asyncio.gather(branch("first", depth), branch("second", 0))
        return seen

    memos = [memo(name, None, seen=seen, kind="sleep") for seen, name in enumerate(("first", "second"), 1)]
    assert (await Run(code, memos).start()).output == ["first", "second"]


Step = tuple[str, str]
BRANCHES = st.lists(st.lists(st.sampled_from(["run", "sleep"]), min_size=1, max_size=3), min_size=1, max_size=4)


async def trace_of(branches: list[list[str]], memos: list[Any]) -> Run:
    """Run branches of steps side by side; the output is the order in which the code saw each result."""

    async def code(ctx: Context) -> list[str]:
        seen: list[str] = []

        async def branch(number: int, kinds: list[str]) -> None:
            for place, kind in enumerate(kinds):
                name = f"{number}.{place}"
                await (ctx.step.run(name, one) if kind == "run" else ctx.step.sleep(name, "1s"))
                seen.append(name)

        await asyncio.gather(*[branch(number, kinds) for number, kinds in enumerate(branches)])
        return seen

    return await Run(code, memos).start()


async def play(branches: list[list[str]], choose: st.DataObject) -> None:
    """Play a program live with sleeps that end in a drawn order, then replay it from each prefix of its memos."""
    run = await trace_of(branches, [])
    sleeps: list[Any] = []
    while run.end is None:
        open_sleeps = [plan.id for plan in run.plans if plan.id not in {kept.id for kept in sleeps}]
        chosen = choose.draw(st.sampled_from(sorted(open_sleeps)))
        sleeps.append(memo(chosen, None, seen=len(sleeps) + 1, kind="sleep"))
        await run.resume(sleeps[-1])
    own = [memo(step, 1, seen=seen, own=number) for number, (step, seen) in enumerate(run.reports, 1)]
    memos = sorted([*sleeps, *own], key=lambda kept: (kept.seen, kept.own))
    assert (await trace_of(branches, memos)).output == run.output
    for length in range(len(memos)):
        partial = await trace_of(branches, memos[:length])
        for kept in sleeps:
            if partial.end is None and kept not in memos[:length]:
                await partial.resume(kept)
        assert sorted(partial.output) == sorted(run.output)


@settings(max_examples=60, deadline=None)
@given(branches=BRANCHES, choose=st.data())
def test_a_replay_sees_what_the_live_code_saw(branches: list[list[str]], choose: st.DataObject) -> None:
    """Whatever the branches and the order of events: a full replay sees the results in the live order, and a run that
    is taken over after any number of memos comes to the same end."""
    asyncio.run(play(branches, choose))
