"""Several matching triggers of one function on one event start it once."""

import pytest

from stepstream import App, Context, DefinitionError, Event, on
from tests.scenarios.conftest import EngineOf


async def test_several_matching_triggers_start_once(engine_of: EngineOf) -> None:
    """A trigger whose condition is an error does not match."""
    app = App("starting")

    @app.function(on("go", if_="event.data.n > 1"), on("go", if_="event.data.n > 2"), on("other"))
    async def function(ctx: Context) -> object:
        return ctx.event.data["n"]

    async with engine_of(app) as engine:
        await engine.send(*[Event("go", {"n": n}) for n in (1, 2, 3)], Event("go", {"n": "text"}), Event("go"))
        assert sorted(str(run.output) for run in engine.runs()) == ["2", "3"]


async def test_a_wildcard_matches_all_names_below_it(engine_of: EngineOf) -> None:
    """`app/*` and `app/user.*` match every name that begins with the part before the star, once for each event."""
    app = App("starting")

    @app.function(on("app/*"), on("app/user.created", if_="event.data.n > 0"))
    async def whole(ctx: Context) -> str:
        return ctx.event.name

    @app.function(on("app/user.*", if_="event.data.n > 1"))
    async def part(ctx: Context) -> object:
        return ctx.event.data["n"]

    names = ["app/user.created", "app/user.created.twice", "app/order", "app/", "app", "application/x", "x/app/y"]
    async with engine_of(app) as engine:
        await engine.send(*[Event(name, {"n": number}) for number, name in enumerate(names, 1)])
        assert {run.output for run in engine.runs("whole")} == set(names[:4])
        assert [run.output for run in engine.runs("part")] == [2]


@pytest.mark.parametrize("name", ["*", "a*", "*/a", "a/*/b", "a/**"])
def test_a_star_in_another_place_is_refused(name: str) -> None:
    """A star that would match nothing is refused at the definition."""
    with pytest.raises(DefinitionError, match="only at the end"):
        on(name)


async def test_a_wildcard_in_a_wait_is_refused(engine_of: EngineOf) -> None:
    """A wait is for one name; the run fails with the reason."""
    app = App("starting")

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.step.wait_for_event("any", event="app/*", timeout="1h")

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert "a wait takes one event name" in str(engine.run().error)
