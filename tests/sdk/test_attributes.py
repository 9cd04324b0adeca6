"""When attributes that code sets are reported: each change once live, and the last state of a replay."""

import asyncio

from stepstream import Context
from stepstream.contract.commands import Open
from stepstream.contract.ids import step_hash
from stepstream.contract.kinds import StepKind
from tests.fakes.waiting import until
from tests.sdk.runs import Run, memo


async def stages(ctx: Context) -> str:
    """Set attributes before, between and after three steps."""
    ctx.set_attributes(stage="a", first=1)
    await ctx.step.run("a", lambda: 1)
    ctx.set_attributes(stage="b")
    await ctx.step.sleep("b", "1m")
    ctx.set_attributes(stage="c")
    await ctx.step.run("c", lambda: 3)
    ctx.set_attributes(stage="d")
    return "done"


async def test_live_changes_are_reported_at_once() -> None:
    """A change is reported while the step that follows it runs, and not later than the end of the code."""
    run = Run(stages, hold=["a"])
    started = asyncio.create_task(run.start())
    await until(lambda: run.attributes)
    assert run.attributes == [{"stage": "a", "first": 1}]
    run.gates["a"].set()
    await started
    assert run.attributes[1:] == [{"stage": "b"}]
    await run.resume(memo("b", None, seen=1, kind=StepKind.SLEEP))
    assert {name: value for changes in run.attributes[2:] for name, value in changes.items()} == {"stage": "d"}


async def test_many_changes_between_steps_are_one_report() -> None:
    """Code that sets attributes in a loop sends one report for each iteration of the event loop."""

    async def code(ctx: Context) -> None:
        for number in range(10_000):
            ctx.set_attributes(number=number, **{f"a{number % 10}": number})
        await ctx.step.sleep("rest", "1m")

    run = await Run(code).start()
    assert [changes["number"] for changes in run.attributes] == [9_999]
    assert len(run.attributes[0]) == 11


async def test_a_replay_reports_the_state_that_it_reached() -> None:
    """What the code sets while results are left is collected, since a later part of the code changed it already."""
    memos = [memo("a", 1, own=1), memo("b", None, seen=1, kind=StepKind.SLEEP)]
    run = await Run(stages, memos).start()
    assert run.attributes == [{"stage": "b", "first": 1}, {"stage": "d"}]


async def test_a_result_that_nothing_awaits_holds_nothing_back() -> None:
    """When the code is idle, its attributes are reported, even if a stored result is for a step it has not reached."""
    opened = [Open(step_hash("b", 0), kind=StepKind.SLEEP)]
    run = await Run(stages, [memo("a", 1, own=1), memo("never", 1, own=2)], opened).start()
    assert run.attributes == [{"stage": "b", "first": 1}]


async def test_attributes_set_right_before_the_end_are_reported() -> None:
    """Code that ends while results are left, which it no longer requests, has reported its attributes by then."""

    async def code(ctx: Context) -> str:
        ctx.set_attributes(stage="end")
        return "done"

    run = await Run(code, [memo("old", 1, own=1)]).start()
    assert (run.attributes, run.output) == ([{"stage": "end"}], "done")


async def test_branches_set_attributes_in_their_order() -> None:
    """Parallel branches report each change, in the order in which they get their results."""

    async def branch(ctx: Context, name: str) -> None:
        await ctx.step.run(name, lambda: name)
        ctx.set_attributes(last=name)

    async def code(ctx: Context) -> str:
        await asyncio.gather(*(branch(ctx, name) for name in ("x", "y", "z")))
        return "done"

    run = await Run(code).start()
    assert run.attributes == [{"last": "x"}, {"last": "y"}, {"last": "z"}]


async def test_the_worker_of_a_queue_reports_no_attributes() -> None:
    """A dispatched step is for another worker than the one that has the run; that one reports."""
    run = await Run(stages, [memo("a", 1, own=1)], [Open(step_hash("c", 0), ready=True)], dispatched=True).start()
    assert run.attributes == []
