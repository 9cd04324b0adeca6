"""The test kit: crashes, stubs, virtual time, finding runs, and the fixture."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Literal

import pytest

from stepstream import App, CancelOn, Context, Event, cron, on
from stepstream.runtime.embedded.process import EmbeddedEngine
from stepstream.testing import Crash, VirtualEngine

PLACES = list(product(("worker", "engine"), ("before", "after")))


class Shop:
    """An app that charges, waits and ships, and counts how often each body ran."""

    def __init__(self) -> None:
        self.ran: Counter[str] = Counter()
        self.app = App("shop")

        @self.app.function(on("order"))
        async def fulfil(ctx: Context) -> list[str]:
            charged = await ctx.step.run("charge", self._body, "charge")
            await ctx.step.sleep("cool-off", "1h")
            return [charged, await ctx.step.run("ship", self._body, "ship")]

    async def _body(self, name: str) -> str:
        self.ran[name] += 1
        return name


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize(("part", "when"), PLACES)
async def test_a_run_survives_a_crash_at_a_step(
    part: Literal["worker", "engine"], when: Literal["before", "after"], durable: bool, tmp_path: Path
) -> None:
    """A body runs twice only if its worker died before the report was durable; the output is the same."""
    shop, crash = Shop(), Crash(part, when, "charge")
    async with VirtualEngine(shop.app, crashes=[crash], data_dir=tmp_path if durable else None) as engine:
        await engine.send(Event("order"))
        await engine.advance("1h")
        assert engine.run().output == ["charge", "ship"]
    assert crash.happened
    assert shop.ran == {"charge": 2 if (part, when) == ("worker", "before") else 1, "ship": 1}


@pytest.mark.parametrize(("part", "when"), PLACES)
async def test_a_waiting_step_survives_a_crash(
    part: Literal["worker", "engine"], when: Literal["before", "after"]
) -> None:
    """A sleep that is planned while its worker or engine dies ends once, at its time."""
    shop = Shop()
    async with VirtualEngine(shop.app, crashes=[Crash(part, when, "cool-off")]) as engine:
        await engine.send(Event("order"))
        await engine.advance("59m59s")
        assert engine.run().status == "running"
        await engine.advance("1s")
        assert engine.run().status == "completed"
    assert shop.ran == {"charge": 1, "ship": 1}


async def test_a_crash_that_never_happens_fails_the_test() -> None:
    """A test that asks for a crash at a step that its function does not have cannot pass by mistake."""
    with pytest.raises(AssertionError, match="never happened"):
        async with VirtualEngine(Shop().app, crashes=[Crash("worker", "before", "no-such-step")]) as engine:
            await engine.send(Event("order"))


async def test_a_stub_replaces_a_body() -> None:
    """A stub by (function id, step id) is called instead of the user's body."""
    shop = Shop()
    async with VirtualEngine(shop.app, stubs={("fulfil", "charge"): lambda: "stubbed"}) as engine:
        await engine.send(Event("order"))
        await engine.advance("1h")
        assert engine.run().output == ["stubbed", "ship"]
    assert shop.ran == {"ship": 1}


async def test_a_stub_that_no_run_called_is_a_warning() -> None:
    """A stub of a wrong step lets the real body run, which the warning names; without such a body there is none."""
    order = ("fulfil", "chrage")
    with pytest.warns(
        UserWarning, match=r"the stub of \('fulfil', 'chrage'\); these bodies ran without one: 'charge'$"
    ):
        async with VirtualEngine(Shop().app, stubs={order: lambda: "stubbed"}) as engine:
            await engine.send(Event("order"))
    stubs = {("fulfil", step): lambda: "stubbed" for step in ("charge", "ship")}
    async with VirtualEngine(Shop().app, stubs=stubs) as engine:
        await engine.send(Event("order"))
    async with VirtualEngine(Shop().app, stubs={order: lambda: "stubbed"}):
        pass


async def test_a_stub_of_an_unknown_function_is_refused() -> None:
    """A stub of an unknown function would never be called; the error lists the functions."""
    with pytest.raises(ValueError, match=r"there is no function 'fulfill', only 'fulfil'"):
        VirtualEngine(Shop().app, stubs={("fulfill", "charge"): lambda: "stubbed"})


async def test_a_run_that_is_not_found_says_why() -> None:
    """The error lists the functions for an unknown one, and the events that no function received."""
    async with VirtualEngine(Shop().app) as engine:
        await engine.send(Event("odrer"), Event("odrer"))
        for look in (engine.run, engine.runs):
            with pytest.raises(LookupError, match=r"no function 'fulfill', only 'fulfil'; no .* received 'odrer'$"):
                look("fulfill")
        with pytest.raises(LookupError, match=r"0 runs instead of one: \[\]; no function received 'odrer'"):
            engine.run("fulfil")
        assert engine.runs("fulfil") == []
        await engine.send(Event("order"), Event("order"))
        with pytest.raises(LookupError, match=r"2 runs instead of one: .*'running'\)\]$"):
            engine.run()


async def test_an_event_that_only_cancelled_was_received() -> None:
    """The error does not list it."""
    app = App("shop")

    @app.function(on("order"), cancel_on=[CancelOn("order/withdrawn")])
    async def fulfil(ctx: Context) -> None:
        await ctx.step.sleep("nap", "1d")

    @app.function(on("parcel"))
    async def ship(ctx: Context) -> None:
        await ctx.step.sleep("nap", "1d")

    async with VirtualEngine(app) as engine:
        await engine.send(Event("order"))
        await engine.send(Event("order/withdrawn"), Event("odrer"))
        with pytest.raises(LookupError, match=r"no function received 'odrer'$"):
            engine.run(ship)


@pytest.mark.parametrize("shards", [1, 5])
async def test_runs_are_in_the_order_of_their_events(shards: int) -> None:
    """Runs that were accepted in the same millisecond are listed as their events were sent, not by run id."""
    app = App("numbers")

    @app.function(on("number"))
    async def number(ctx: Context) -> int:
        return int(ctx.event.data["n"])

    async with VirtualEngine(app, shards=shards) as engine:
        await engine.send(*(Event("number", {"n": n}) for n in range(20)))
        await engine.send(*(Event("number", {"n": n}) for n in range(20, 40)))
        assert len({run.accepted_at for run in engine.runs()}) == 1
        assert [run.output for run in engine.runs()] == list(range(40))


@pytest.mark.long
@pytest.mark.slow
async def test_a_thousand_virtual_days_pass() -> None:
    """A daily function runs on each of a thousand days, at its own hour."""
    app = App("calendar")

    @app.function(cron("0 6 * * *", tz="UTC"))
    async def report(ctx: Context) -> str:
        await ctx.step.sleep("settle", "30m")
        return datetime.fromtimestamp(ctx.event.ts / 1_000, UTC).isoformat()

    async with VirtualEngine(app) as engine:
        await engine.advance("1000d")
        outputs = [run.output for run in engine.runs()]
    assert len(outputs) == len(set(outputs)) == 1_000
    assert all(str(output).endswith("T06:00:00+00:00") for output in outputs)


async def test_the_fixture_is_the_class(
    stepstream_engine: Callable[..., AbstractAsyncContextManager[VirtualEngine]],
) -> None:
    """The fixture of the plugin needs no import, and makes running engines."""
    shop = Shop()
    async with stepstream_engine(shop.app) as engine:
        await engine.send(Event("order"))
        assert [step.id for step in engine.run().steps] == ["charge", "cool-off"]


async def test_waiting_for_a_thread_leaves_it_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a plain body runs, the engine checks a bounded number of times whether all is idle."""
    app, released, checks = App("shop"), threading.Event(), 0
    is_idle = EmbeddedEngine.is_idle

    async def counting(engine: EmbeddedEngine) -> bool:
        nonlocal checks
        checks += 1
        return await is_idle(engine)

    @app.function(on("order"))
    async def pack(ctx: Context) -> bool:
        return await ctx.step.run("wait", released.wait)

    async with VirtualEngine(app) as engine:
        monkeypatch.setattr(EmbeddedEngine, "is_idle", counting)
        asyncio.get_running_loop().call_later(0.1, released.set)
        await engine.send(Event("order"))
        assert engine.run().output is True
    # With one check in each iteration of the event loop there are thousands.
    assert checks < 200
