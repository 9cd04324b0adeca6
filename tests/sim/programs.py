"""Programs for the simulation: each an app, and what happens to it."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from stepstream import App, Context, Event, StepError, on
from stepstream.contract.history import HistoryEntry, StepEnded
from stepstream.runtime.engine import AnswerLostError
from stepstream.testing import VirtualEngine


@dataclass(slots=True)
class Program:
    """An app with its script; `effects` counts how often each step body ran, by run and step.

    `repeated` are bodies that ran although the engine had applied their report.
    """

    app: App
    script: Callable[[VirtualEngine], Awaitable[None]]
    effects: Counter[tuple[str, str]] = field(default_factory=Counter)
    repeated: list[str] = field(default_factory=list)
    history: list[HistoryEntry] = field(default_factory=list)


def sequence() -> Program:
    """Three steps and a nap."""
    app = App("sim")
    program = Program(app, lambda engine: _send_and_wait(engine, Event("go", {"n": 1})))

    @app.function(on("go"))
    async def sequence(ctx: Context) -> int:
        first = await ctx.step.run("a", _effect, program, ctx.run_id, "a")
        await ctx.step.sleep("nap", "1m")
        second = await ctx.step.run("b", _effect, program, ctx.run_id, "b")
        return first + second

    return program


async def _effect(program: Program, run_id: str, step: str) -> int:
    program.effects[run_id, step] += 1
    for entry in program.history:
        if isinstance(entry, StepEnded) and (entry.run_id, entry.id) == (run_id, step):
            program.repeated.append(f"{run_id}: the body of {step} ran after its report was applied")
    return 1


async def _send_and_wait(engine: VirtualEngine, *events: Event) -> None:
    await engine.send(*events)
    await engine.advance("3h")


def parallel() -> Program:
    """A fan-out in which one step fails once, beside a nap."""
    app = App("sim")
    program = Program(app, lambda engine: _send_and_wait(engine, Event("go"), Event("go")))

    async def flaky(run_id: str) -> str:
        await _effect(program, run_id, "flaky")
        if program.effects[run_id, "flaky"] < 2:
            raise ValueError("once")
        return "ok"

    @app.function(on("go"), backoff="5s")
    async def parallel(ctx: Context) -> list[object]:
        return list(
            await asyncio.gather(
                ctx.step.run("flaky", flaky, ctx.run_id),
                ctx.step.run("steady", _effect, program, ctx.run_id, "steady"),
                ctx.step.sleep("nap", "1m"),
            )
        )

    return program


def conversation() -> Program:
    """Waits, a time-out, a signal, a race, and an answer that the run sends to itself."""
    app = App("sim")

    async def script(engine: VirtualEngine) -> None:
        await engine.send(Event("go", {"id": 7}))
        await engine.send(Event("answer", {"id": 8}), Event("answer", {"id": 7, "n": 1}))
        with contextlib.suppress(AnswerLostError):
            await engine.signal("bell", "ring")
        await engine.until_idle()
        await engine.advance("3h")

    program = Program(app, script)

    @app.function(on("go"))
    async def conversation(ctx: Context) -> list[object]:
        answer = await ctx.step.wait_for_event("answer", event="answer", match="data.id", timeout="1h")
        bell = await ctx.step.wait_for_signal("bell", signal="bell", timeout="1h")
        nobody = await ctx.step.wait_for_event("nobody", event="nobody", timeout="10m")
        echo, _ = await asyncio.gather(
            ctx.step.wait_for_event("echo", event="echo", timeout="1h"),
            ctx.step.send_event("send", Event("echo", {"n": 2})),
        )
        await ctx.group.race(ctx.step.sleep("short", "1m"), ctx.step.sleep("long", "1h"))
        await ctx.step.run("end", _effect, program, ctx.run_id, "end")
        return [answer and answer.data, bell, nobody, echo and echo.data]

    return program


def family() -> Program:
    """Invoked functions, one of which fails, and a handler of failure."""
    app = App("sim")
    events = (Event("go", {"n": 5}, id="once"), Event("go", id="once"))
    program = Program(app, lambda engine: _send_and_wait(engine, *events))

    async def on_failure(ctx: Context) -> object:
        return ctx.event.data["error"]["message"]

    @app.function()
    async def double(ctx: Context) -> int:
        await ctx.step.run("work", _effect, program, ctx.run_id, "work")
        return int(ctx.event.data["n"]) * 2

    @app.function(on_failure=on_failure, retries=0)
    async def broken(ctx: Context) -> None:
        await ctx.step.sleep("nap", "1s")
        raise ValueError("broken")

    @app.function(on("go"))
    async def family(ctx: Context) -> list[object]:
        found: list[object] = [await ctx.step.invoke("double", function=double, data={"n": 4})]
        try:
            await ctx.step.invoke("broken", function=broken)
        except StepError as error:
            found.append(error.code)
        return found

    return program


PROGRAMS: dict[str, Callable[[], Program]] = {
    "sequence": sequence,
    "parallel": parallel,
    "conversation": conversation,
    "family": family,
}
