"""What the API says about an open run: its workers, and why it does not continue."""

import dataclasses
import platform

import httpx

from stepstream import App, Context, Event, __version__, on
from stepstream.api.http import make_api
from stepstream.runtime.overview import RunningWorker
from stepstream.runtime.registrations import release_of
from stepstream.testing import VirtualEngine
from tests.fakes.facades import facade_of

app = App("posts", queues=["gpu"])


@app.function(on("hold"))
async def hold(ctx: Context) -> None:
    """Wait for an event."""
    await ctx.step.wait_for_event("word", event="word", timeout="1h")


def client_of(engine: VirtualEngine) -> httpx.AsyncClient:
    """Return a client of an engine's API."""
    api = make_api(facade_of(engine.engine), engine.index, bytes, now_ms=lambda: engine.now_ms)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://localhost")


async def test_an_open_run_shows_the_number_of_its_workers() -> None:
    """It counts the workers of its app and of the queues of its open steps; an ended run shows none."""
    async with VirtualEngine(app) as held, client_of(held) as client:
        await held.send(Event("hold"))
        run = held.run()
        assert (await client.get(f"/v1/runs/{run.run_id}")).json()["workers"] == {"posts": 1}
        own = [RunningWorker(release_of(app), __version__, platform.python_version())]
        found = await held.engine.workers(["posts", "posts.gpu", "other"])
        assert found == {"posts": own, "posts.gpu": own, "other": []}
        await held.send(Event("word"))
        assert (await client.get(f"/v1/runs/{run.run_id}")).json()["workers"] == {}


async def test_an_open_run_says_why_it_does_not_continue() -> None:
    """The API has the reasons of the page, and so has the engine for tests; an ended run has none."""
    async with VirtualEngine(app) as held, client_of(held) as client:
        await held.send(Event("hold"))
        path = f"/v1/runs/{held.run().run_id}"
        (why,) = (await client.get(path)).json()["why"]
        assert [why] == [dataclasses.asdict(each) for each in await held.why()]
        assert (why["code"], why["step"], why["remedy"]) == ("event", "word", "")
        assert why["until"] == why["since"] + 3_600_000
        held.engine._shards.clear()
        assert [each["code"] for each in (await client.get(path)).json()["why"]] == ["shard", "event"]
