"""512 KiB for one event, 5,000 events in one request, names up to 255 characters, none under `stream/`."""

import pytest

from stepstream import App, Context, Event, StepstreamError, on
from stepstream.contract.limits import Limits
from tests.scenarios.apps import counting_app
from tests.scenarios.conftest import EngineOf

KIB_512 = 512 * 1024


async def test_an_event_over_the_limit_is_refused(engine_of: EngineOf) -> None:
    """512 KiB for one event by default: app.send raises at once, and sends nothing of the batch."""
    app = counting_app()
    async with engine_of(app) as engine:
        with pytest.raises(StepstreamError, match="524,288"):
            await app.send(Event("go"), Event("go", {"text": "x" * KIB_512}))
        await engine.until_idle()
        assert engine.runs() == []
        await engine.send(Event("go", {"text": "x" * (KIB_512 - 100)}))
        assert engine.run().status == "completed"


async def test_too_many_events_in_one_request_are_refused(engine_of: EngineOf) -> None:
    """5,000 events in one request; the limit is a setting."""
    app = counting_app()
    async with engine_of(app, limits=Limits(events_per_request_max=3)) as engine:
        with pytest.raises(StepstreamError, match="at most 3"):
            await app.send(*[Event("go") for _ in range(4)])
        await engine.send(*[Event("go") for _ in range(3)])
        assert len(engine.runs()) == 3


async def test_a_large_event_of_a_step_is_a_catchable_error(engine_of: EngineOf) -> None:
    """step.send_event refuses an event that is too large; the function may catch the error and continue."""
    app = App("limits")

    @app.function(on("go"), retries=0)
    async def function(ctx: Context) -> str:
        try:
            await ctx.step.send_event("send", Event("other", {"text": "x" * KIB_512}))
        except StepstreamError as error:
            return error.code
        return "sent"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == "too-large"


@pytest.mark.parametrize("name", ["x" * 256, "", "stream/mine", "a\nb"], ids=["long", "empty", "own", "control"])
async def test_an_invalid_event_name_is_refused(engine_of: EngineOf, name: str) -> None:
    """Event names have up to 255 characters; names under `stream/` are the engine's own."""
    app = counting_app()
    async with engine_of(app) as engine:
        with pytest.raises(StepstreamError, match="name"):
            await app.send(Event("go"), Event(name))
        await engine.until_idle()
        assert engine.runs() == []


async def test_a_name_of_255_characters_is_accepted(engine_of: EngineOf) -> None:
    """The limit itself is allowed."""
    app = App("limits")

    @app.function(on("x" * 255))
    async def function(ctx: Context) -> int:
        return len(ctx.event.name)

    async with engine_of(app) as engine:
        await engine.send(Event("x" * 255))
        assert engine.run().output == 255


async def test_a_batch_over_the_total_limit_is_refused(engine_of: EngineOf) -> None:
    """The events of one request have a limit in all, so that they fit into one record of the log."""
    app = counting_app()
    async with engine_of(app, limits=Limits(request_bytes_max=1_000)) as engine:
        with pytest.raises(StepstreamError, match="one request has at most 1,000"):
            await app.send(*[Event("go", {"text": "x" * 300}) for _ in range(4)])
        await engine.send(Event("go", {"text": "x" * 300}))
        assert len(engine.runs()) == 1
