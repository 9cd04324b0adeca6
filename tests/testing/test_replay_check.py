"""replay_check=True finds code that does something else in a replay than it did live, and nothing else."""

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from stepstream import App, Context, Event, StepError, ThreadedContext, on
from stepstream.sdk.replay import replay
from stepstream.testing import Crash, ReplayMismatch, VirtualEngine


def app_of(handler: Callable[[Any], Any]) -> App:
    """Make an app with one function that the event `go` starts."""
    app = App("checked")
    app.function(on("go"), id="function", retries=0)(handler)
    return app


async def ship(order: dict[str, Any]) -> str:
    """Be the body of a step."""
    return f"shipped {order['id']}"


async def changed_argument(ctx: Context) -> str:
    """Let a body change its argument, and pass it on."""
    order = dict(ctx.event.data)
    await ctx.step.run("charge", order.update, {"state": "charged"})
    return await ctx.step.run("ship", ship, order)


async def changed_event(ctx: Context) -> None:
    """Let a body change the data of the event, and send it on."""
    await ctx.step.run("charge", ctx.event.data.update, {"state": "charged"})
    await ctx.step.send_event("announce", Event("charged", ctx.event.data))


async def changed_closure(ctx: Context) -> int:
    """Let a body change a variable of the code around it."""
    done: list[str] = []
    await ctx.step.run("charge", done.append, "charged")
    return len(done)


async def changed_branch(ctx: Context) -> None:
    """Take another branch after a body has changed a variable."""
    done: list[str] = []
    await ctx.step.run("charge", done.append, "charged")
    await ctx.step.sleep("short" if done else "long", "1h")


async def changed_condition(ctx: Context) -> None:
    """Wait only after a body has changed a variable."""
    done: list[str] = []
    await ctx.step.run("charge", done.append, "charged")
    if done:
        await ctx.step.sleep("nap", "1h")


async def changed_error(ctx: Context) -> None:
    """Fail differently after a body has changed a variable."""
    done: list[str] = []
    await ctx.step.run("charge", done.append, "charged")
    raise ValueError(f"{len(done)} charged")


def changed_in_thread(ctx: ThreadedContext) -> str:
    """Let a body of a plain function change its argument."""
    order = dict(ctx.event.data)
    ctx.step.run("charge", order.update, {"state": "charged"})
    return ctx.step.run("ship", ship, order)


_numbers = count()


async def drawn_number(ctx: Context) -> None:
    """Draw a number between steps."""
    await ctx.step.sleep("nap", f"{60 + next(_numbers)}s")


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (changed_argument, "args[0].state of step 'ship' is 'charged' live and missing in the replay"),
        (changed_event, "events[0].data.state of step 'announce' is 'charged' live and missing in the replay"),
        (changed_closure, "the end of the code is output 1 live and output 0 in the replay"),
        (changed_branch, "the replay awaits step 'long', which the live run did not await"),
        (changed_condition, "the live run awaited step 'nap', which the replay does not await"),
        (changed_error, "is error ValueError: 1 charged live and error ValueError: 0 charged in the replay"),
        (changed_in_thread, "args[0].state of step 'ship' is 'charged' live and missing in the replay"),
        (drawn_number, "duration_ms of step 'nap' is 6"),
    ],
)
async def test_code_that_is_not_deterministic_is_found(handler: Callable[[Any], Any], words: str) -> None:
    """The error has the run, the first step that differs, and the live and the replayed value."""
    with pytest.raises(ReplayMismatch, match="return what a body computes") as found:
        async with VirtualEngine(app_of(handler), replay_check=True) as engine:
            await engine.send(Event("go", {"id": 7}))
    assert words in str(found.value)
    assert "of function 'function'" in str(found.value)


async def test_the_same_code_passes_without_the_check() -> None:
    """Without replay_check a live run sees what its bodies have changed, so the mistake stays hidden."""
    async with VirtualEngine(app_of(changed_argument)) as engine:
        await engine.send(Event("go", {"id": 7}))
        assert engine.run().output == "shipped 7"


def deterministic_app(ran: Counter[str]) -> App:
    """Make an app that uses every kind of step, parallel steps, a queue, a race and failures as it should."""
    app = App("sound", queues=["gpu"])

    def body(name: str) -> str:
        ran[name] += 1
        if name == "flaky" and ran[name] < 3:
            raise ValueError("again")
        return name

    @app.function()
    async def double(ctx: Context) -> int:
        return 2 * int(ctx.event.data["n"])

    @app.function(on("go"), backoff="1m")
    async def everything(ctx: Context) -> list[object]:
        run = ctx.step.run
        found: list[object] = [await run("first", body, "first"), await run("flaky", body, "flaky")]
        found += await asyncio.gather(run("left", body, "left"), run("right", body, "right"))
        found += await ctx.group.parallel(
            ctx.step.options(queue="gpu").run("gpu", body, "gpu"), run("cpu", body, "cpu")
        )
        won = ctx.group.race(ctx.step.sleep("nap", "1h"), ctx.step.wait_for_event("come", event="come", timeout="1d"))
        found.append(await won is None)
        found.append(await ctx.step.wait_for_signal("signal", signal="s", timeout="1h"))
        found.append(await ctx.step.invoke("double", function=double, data={"n": 21}))
        try:
            await ctx.step.options(retries=0).run("broken", int, "no number")
        except StepError as error:
            found.append(error.name)
        await ctx.step.send_event("send", Event("plain"))
        return found

    @app.function(on("plain"))
    def plain(ctx: ThreadedContext) -> str:
        ctx.step.sleep("nap", "1h")
        return ctx.step.run("threaded", body, "threaded")

    return app


@pytest.mark.parametrize("live_cache", [True, False])
@pytest.mark.parametrize("shards", [1, 5])
async def test_deterministic_code_passes(shards: int, live_cache: bool) -> None:
    """Every kind of step passes, and no body runs again because of the check."""
    ran: Counter[str] = Counter()
    app = deterministic_app(ran)
    async with VirtualEngine(app, replay_check=True, shards=shards, live_cache=live_cache) as engine:
        await engine.send(Event("go"))
        await engine.advance("2h")
        assert await engine.signal("s", "signalled")
        await engine.advance("2h")
        expected = ["first", "flaky", "left", "right", "gpu", "cpu", True, "signalled", 42, "ValueError"]
        assert engine.run("everything").output == expected
        assert engine.run("plain").output == "threaded"
    assert ran == {"flaky": 3, **dict.fromkeys(("first", "left", "right", "gpu", "cpu", "threaded"), 1)}


@pytest.mark.parametrize("crash", [Crash("worker", "before", "left"), Crash("engine", "after", "left")], ids=str)
async def test_the_check_follows_a_crash(crash: Crash) -> None:
    """A run that another activation continues from its memos is still compared, and passes."""
    ran: Counter[str] = Counter()
    async with VirtualEngine(deterministic_app(ran), crashes=[crash], replay_check=True) as engine:
        await engine.send(Event("go"))
        await engine.advance("2h")
        assert engine.run("everything").status == "running"


async def test_a_cancelled_run_is_not_compared() -> None:
    """A run that was cancelled has no end that a replay could have."""
    async with VirtualEngine(deterministic_app(Counter()), replay_check=True) as engine:
        await engine.send(Event("plain"))
        assert await engine.cancel(engine.run("plain").run_id)
        await engine.advance("2h")


@pytest.mark.parametrize("wait", ["lock", "future"])
async def test_code_that_waits_for_other_than_steps_is_checked(wait: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the live run knows when a lock or other work lets the code continue, so the replay ends there."""
    monkeypatch.setattr(replay, "DETACH_AFTER_S", 0.0)
    app, lock = App("shop"), asyncio.Lock()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        async def other() -> None:
            async with lock:
                await ctx.step.sleep("other", "1h")
            if wait == "future":
                await asyncio.get_running_loop().create_future()

        async with lock:
            task = asyncio.create_task(other())
            await ctx.step.sleep("nap", "1h")
        if wait == "lock":
            await task
        else:
            await ctx.step.sleep("after", "1h")
            task.cancel()

    async with VirtualEngine(app, replay_check=True) as engine:
        await asyncio.wait_for(engine.send(Event("go")), 60)
        await asyncio.wait_for(engine.advance("3h"), 60)
        assert engine.run().status == "completed"
