"""The test kit: crashes where a user asks for them, stubs, virtual days, and the fixture."""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Literal

import pytest

from stepstream import App, Context, Event, cron, on
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
async def test_a_function_survives_a_crash_where_the_test_asks(
    part: Literal["worker", "engine"], when: Literal["before", "after"], durable: bool, tmp_path: Path
) -> None:
    """A body runs twice only when its worker died before the report was durable; the run ends as if nothing was."""
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


async def test_a_crash_that_never_comes_fails_the_test() -> None:
    """A test that asks for a crash at a step that its function has not cannot pass by mistake."""
    with pytest.raises(AssertionError, match="never came"):
        async with VirtualEngine(Shop().app, crashes=[Crash("worker", "before", "no-such-step")]) as engine:
            await engine.send(Event("order"))


async def test_a_stub_takes_the_place_of_a_body() -> None:
    """A stub by (function id, step id) is called instead of the user's body."""
    shop = Shop()
    async with VirtualEngine(shop.app, stubs={("fulfil", "charge"): lambda: "stubbed"}) as engine:
        await engine.send(Event("order"))
        await engine.advance("1h")
        assert engine.run().output == ["stubbed", "ship"]
    assert shop.ran == {"ship": 1}


async def test_a_stub_that_no_run_called_is_warned_of() -> None:
    """A stub of a wrong step lets the real body run: the test is told which did. Where none did, all is well."""
    order = ("fulfil", "chrage")
    with pytest.warns(UserWarning, match=r"the stub of \('fulfil', 'chrage'\), and these ran as they are: 'charge'$"):
        async with VirtualEngine(Shop().app, stubs={order: lambda: "stubbed"}) as engine:
            await engine.send(Event("order"))
    stubs = {("fulfil", step): lambda: "stubbed" for step in ("charge", "ship")}
    async with VirtualEngine(Shop().app, stubs=stubs) as engine:
        await engine.send(Event("order"))
    async with VirtualEngine(Shop().app, stubs={order: lambda: "stubbed"}):
        pass


async def test_a_stub_for_no_function_is_refused() -> None:
    """A stub that would never be called is told with the names that there are."""
    with pytest.raises(ValueError, match=r"there is no function 'fulfill', only 'fulfil'"):
        VirtualEngine(Shop().app, stubs={("fulfill", "charge"): lambda: "stubbed"})


async def test_a_wrong_name_is_told_the_right_ones() -> None:
    """A function that is not there, and an event that nobody has heard, are named where a test looks for its run."""
    async with VirtualEngine(Shop().app) as engine:
        await engine.send(Event("odrer"), Event("odrer"))
        for look in (engine.run, engine.runs):
            with pytest.raises(LookupError, match=r"no function 'fulfill', only 'fulfil'; no .* heard 'odrer'$"):
                look("fulfill")
        with pytest.raises(LookupError, match=r"0 runs, one is wanted: \[\]; no function has heard 'odrer'"):
            engine.run("fulfil")
        assert engine.runs("fulfil") == []
        await engine.send(Event("order"), Event("order"))
        with pytest.raises(LookupError, match=r"2 runs, .*'running'\)\]$"):
            engine.run()


async def test_a_thousand_days_pass() -> None:
    """A daily function runs on each of a thousand virtual days, at its own hour."""
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


async def test_the_fixture_makes_engines(
    stepstream_engine: Callable[..., AbstractAsyncContextManager[VirtualEngine]],
) -> None:
    """The plugin's fixture is there without an import, and makes a running engine."""
    shop = Shop()
    async with stepstream_engine(shop.app) as engine:
        await engine.send(Event("order"))
        assert [step.id for step in engine.run().steps] == ["charge", "cool-off"]
