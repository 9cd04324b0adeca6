"""What `ctx.state` reports and reads: the whole state after a change, and nothing that the run has already."""

import asyncio
from collections.abc import Callable

import pydantic
import pytest

from stepstream import Context
from stepstream.contract.codec import Raw
from stepstream.contract.commands import Open
from stepstream.contract.errors import InvalidInput
from stepstream.contract.ids import step_hash
from stepstream.contract.kinds import StepKind
from stepstream.contract.limits import STATE_BYTES_MAX, STATE_NAMES_PER_RUN_MAX
from tests.fakes.waiting import until
from tests.sdk.runs import Run, memo

SLEPT = memo("b", None, seen=1, kind=StepKind.SLEEP)


async def stages(ctx: Context) -> str:
    """Set the state before, between and after three steps."""
    ctx.state["stage"] = "a"
    ctx.state["first"] = 1
    await ctx.step.run("a", lambda: 1)
    ctx.state["stage"] = "b"
    await ctx.step.sleep("b", "1m")
    ctx.state["stage"] = "c"
    del ctx.state["first"]
    await ctx.step.run("c", lambda: 3)
    ctx.state["stage"] = "d"
    return "done"


async def test_live_changes_are_reported_as_the_whole_state() -> None:
    """What is set in one iteration of the event loop is one report, while the step that follows it runs."""
    run = Run(stages, hold=["a"])
    started = asyncio.create_task(run.start())
    await until(lambda: run.states)
    assert run.states == [{"stage": "a", "first": 1}]
    run.gates["a"].set()
    await started
    assert run.states[1:] == [{"stage": "b", "first": 1}]
    await run.resume(SLEPT)
    assert run.states[-1] == {"stage": "d"}


async def test_a_replay_reports_only_what_the_run_does_not_have() -> None:
    """A replay passes through earlier states; it reports nothing until it sets what the engine does not know."""
    memos, known = [memo("a", 1, own=1)], {"stage": Raw(b'"b"'), "first": Raw(b"1")}
    opened = [Open(step_hash("b", 0), kind=StepKind.SLEEP)]
    run = await Run(stages, memos, opened, state=known).start()
    assert run.states == []
    await run.resume(SLEPT)
    assert run.states[-1] == {"stage": "d"}


async def test_a_replay_reports_what_was_lost() -> None:
    """A worker that was killed before its report was written had set a state that the run lacks."""
    run = await Run(stages, [memo("a", 1, own=1), SLEPT], state={"stage": Raw(b'"a"')}).start()
    assert run.states == [{"stage": "c"}, {"stage": "d"}]


async def test_the_code_reads_what_it_has_set() -> None:
    """The state is a dict of JSON copies; what other code of the run has set before is not in it."""

    class Progress(pydantic.BaseModel):
        done: int

    async def code(ctx: Context) -> list[object]:
        found: list[object] = [dict(ctx.state), ctx.state.get("progress")]
        ctx.state["progress"] = Progress(done=1)
        ctx.state["progress"]["done"] = 2
        ctx.state.update(pages=[1], none=None)
        return [*found, *ctx.state, ctx.state["progress"], len(ctx.state), repr(ctx.state), "old" in ctx.state]

    run = await Run(code, state={"old": Raw(b"1")}).start()
    shown = "RunState({'progress': {'done': 1}, 'pages': [1], 'none': None})"
    assert run.output == [{}, None, "progress", "pages", "none", {"done": 1}, 3, shown, False]


def _fill(ctx: Context, count: int) -> None:
    for number in range(count):
        ctx.state[f"n{number}"] = number


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda ctx: ctx.state.update({"a b": 1}), "use 1 to 64 of"),
        (lambda ctx: ctx.state.update(when={1, 2}), "state 'when' is not JSON: .* of type set"),
        (lambda ctx: _fill(ctx, STATE_NAMES_PER_RUN_MAX + 1), "33 names exceed the 32"),
        (lambda ctx: ctx.state.update(kept="x" * STATE_BYTES_MAX), "would have 65,542 bytes, at most 65,536 are kept"),
    ],
)
async def test_a_state_out_of_bounds_is_refused(change: Callable[[Context], None], reason: str) -> None:
    """The error says what is wrong, and the state stays as it was."""

    async def code(ctx: Context) -> object:
        ctx.state["kept"] = 1
        with pytest.raises(InvalidInput, match=reason):
            change(ctx)
        return ctx.state["kept"]

    run = await Run(code).start()
    assert run.output == 1


async def test_a_name_that_is_not_set_is_a_key_error() -> None:
    """Reading and deleting behave as those of a dict."""

    async def code(ctx: Context) -> None:
        with pytest.raises(KeyError, match="progress"):
            ctx.state["progress"]
        with pytest.raises(KeyError, match="progress"):
            del ctx.state["progress"]

    run = await Run(code).start()
    assert (run.output, run.states) == (None, [])


async def test_the_worker_of_a_queue_reports_no_state() -> None:
    """A dispatched step is for another worker than the one that has the run; that one reports."""
    run = await Run(stages, [memo("a", 1, own=1)], [Open(step_hash("c", 0), ready=True)], dispatched=True).start()
    assert run.states == []
