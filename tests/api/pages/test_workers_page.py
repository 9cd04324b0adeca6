"""The page of workers and shards: which run, what waits, and what this process cannot see."""

import dataclasses
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import httpx
import pytest

from stepstream import App, Context, Event, __version__, on
from stepstream.api.guards import Keys
from stepstream.api.http import make_api
from stepstream.api.pages.runs.run_forms import UNTIL
from stepstream.contract.functions import FunctionRegistered
from stepstream.host.monitoring.gauges import EmbeddedGauges
from stepstream.runtime.metrics import Reading
from stepstream.runtime.overview import RunningWorker, ScopeChangeView, ScopePauseView, ShardView
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import Browser, Page, browser_of
from tests.fakes.facades import facade_of

app = App("shop", queues=["gpu"])


@app.function(on("order"))
async def fulfil(ctx: Context) -> None:
    """Wait for a parcel."""
    await ctx.step.wait_for_event("parcel", event="parcel/left", timeout="2h")


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """Yield the engine of the shop."""
    async with VirtualEngine(app, shards=2) as made:
        yield made


async def shown(engine: VirtualEngine, keys: Keys | None = None, **changes: Any) -> Page:
    """Return the page of an engine, with changes of what it knows."""
    facade = dataclasses.replace(facade_of(engine.engine), **changes)
    return await Browser(make_api(facade, engine.index, bytes, keys=keys)).open("/ui/workers")


async def test_a_laptop_shows_its_workers_and_shards(engine: VirtualEngine) -> None:
    """Each app and queue has its running workers and commands that wait, each shard its lag and its owner."""
    await engine.send(Event("order"))
    page = await shown(engine, readings=EmbeddedGauges(engine.engine, engine.embedded).read)
    workers, shards = (page.texts(f"[aria-label='{label}'] tbody tr") for label in LABELS)
    assert [words.split()[:4] for words in workers] == [["shop", "1", "0", "1"], ["shop.gpu", "1", "0", "1"]]
    assert shards == [f"{at} this process serves 0 rows 0 0.0 s" for at in range(2)]
    assert "Standby lag" not in page.texts("th")
    assert "App or queue" in page.texts("th")
    assert "This process serves all shards." in page.text
    assert "The list of runs is up to date." in page.text
    assert page.texts("nav[aria-label=Pages] [aria-current=page]") == ["Workers"]
    assert len(page.all("tr[data-row] a")) == 2


LABELS = ("Table of workers", "Table of shards")


class _Engine:
    """An engine of a cluster with four shards: it serves one, recovers one, and knows of the others by heartbeats."""

    def __init__(self, **others: ShardView) -> None:
        self._others = others

    def functions(self) -> Sequence[FunctionRegistered]:
        """Return an app with a queue."""
        return [FunctionRegistered("fulfil", "shop", queues=("gpu",), release="r1")]

    def pauses(self) -> Sequence[ScopePauseView]:
        """Return no pause."""
        return ()

    def pause_changes(self, scope: str) -> Sequence[ScopeChangeView]:  # noqa: ARG002 - the port names it
        """Return none."""
        return ()

    def shards(self) -> Sequence[ShardView]:
        """Return all shards."""
        return [
            ShardView(0, "engine-a", "", is_own=True),
            ShardView(1, "engine-a", "recovers, 1,234 rows left", is_own=True),
            self._others.get("third", ShardView(2, "engine-b", "")),
            self._others.get("fourth", ShardView(3, "", "no running engine serves it")),
        ]

    def readings(self) -> Iterator[Reading]:
        """Return what it measures."""
        yield Reading("input_lag_records", ("0", "events"), 5)
        yield Reading("input_lag_records", ("0", "inbox"), 7)
        yield Reading("input_lag_records", ("2", "history"), 9)
        yield Reading("input_oldest_seconds", ("0",), 3.21)
        yield Reading("recovery_left_rows", ("0",), 0)
        yield Reading("recovery_left_rows", ("1",), 1_234)
        yield Reading("standby_lag_rows", ("2",), 42)
        yield Reading("commands_lag_records", ("shop.gpu", "0"), 30)
        yield Reading("commands_lag_records", ("shop.gpu", "1"), 3)


async def _running(_names: Sequence[str]) -> dict[str, list[RunningWorker]]:
    return {"shop": [RunningWorker(release) for release in ("r1", "r1", "")], "shop.gpu": []}


async def _unknown(_names: Sequence[str]) -> dict[str, list[RunningWorker]]:
    return {}


async def _rolling(_names: Sequence[str]) -> dict[str, list[RunningWorker]]:
    return {
        "shop": [RunningWorker(release, __version__, "3.12.1") for release in ("r0", "r1", "r0", "<r2>")],
        "shop.gpu": [RunningWorker("r1", __version__, "3.12.1")],
    }


async def _mixed(_names: Sequence[str]) -> dict[str, list[RunningWorker]]:
    new, old = RunningWorker("r1", __version__, "3.12.1"), RunningWorker("r1", "0.0.9", "3.11.7")
    return {"shop": [new, new, old, RunningWorker("r1")], "shop.gpu": [new]}


async def test_different_versions_in_a_cluster_are_noticed(engine: VirtualEngine) -> None:
    """The page says which of stepstream and Python run, and in how many workers; so does the API."""
    page = await shown(engine, overview=_Engine(), workers=_rolling)
    assert "Different versions" not in page.text
    assert page.texts("tbody tr td:nth-child(6) div") == [f"stepstream {__version__}, Python 3.12.1"] * 2
    page = await shown(engine, overview=_Engine(), workers=_mixed)
    versions = ", ".join(sorted(("0.0.9", __version__)))
    (notice,) = page.texts(".note.is-warn")
    assert notice == f"Different versions run in this cluster: stepstream {versions}; Python 3.11.7, 3.12.1"
    assert page.texts("tbody tr:first-child td:nth-child(6) div")[:3] == [
        "1 worker: unknown",
        "1 worker: stepstream 0.0.9, Python 3.11.7",
        f"2 workers: stepstream {__version__}, Python 3.12.1",
    ]
    facade = dataclasses.replace(facade_of(engine.engine), overview=_Engine(), workers=_mixed)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=make_api(facade, engine.index, bytes)), base_url="http://localhost"
    ) as client:
        shop, _ = (await client.get("/v1/workers")).json()["workers"]
    assert shop["running_versions"][1] == {"stepstream": "0.0.9", "python": "3.11.7", "workers": 1}


async def test_an_engine_of_a_cluster_says_what_it_sees(engine: VirtualEngine) -> None:
    """What it does not measure is named as such; a queue without a worker has the command, a shard the reason."""
    seen = _Engine()
    page = await shown(engine, overview=seen, readings=seen.readings, workers=_running)
    workers, shards = (page.texts(f"[aria-label='{label}'] tbody tr") for label in LABELS)
    assert workers == [
        "shop 3 not measured by this engine 1 r1 unknown",
        "shop.gpu none; start one with stepstream worker FILE --queue gpu 33 1 r1 "
        f"Pause {UNTIL} Reason (optional) Pause",
    ]
    assert shards == [
        "0 engine-a (this engine) serves 0 rows 12 3.2 s",
        "1 engine-a (this engine) recovers, 1,234 rows left 1,234 rows",
        "2 engine-b serves 42 rows",
        "3 no running engine serves it",
    ]
    assert "Each engine measures its own shards" in page.text
    assert "9 records of history behind" in page.text
    assert len(page.texts(".bad")) == 3


async def test_workers_of_other_releases_are_shown(engine: VirtualEngine) -> None:
    """Beside the registered release, also those that are left of a rollout, or that wait to take over."""
    page = await shown(engine, overview=_Engine(), workers=_rolling)
    first, second = page.texts(f"[aria-label='{LABELS[0]}'] tbody tr")
    assert first.startswith("shop 4 not measured by this engine 1 r1 1 worker of <r2> 2 workers of r0 stepstream")
    assert second.startswith("shop.gpu 1 not measured by this engine 1 r1 stepstream")
    facade = dataclasses.replace(facade_of(engine.engine), overview=_Engine(), workers=_rolling)
    api = make_api(facade, engine.index, bytes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://localhost") as client:
        shop, gpu = (await client.get("/v1/workers")).json()["workers"]
    assert (shop["releases"], shop["running_releases"]) == (["r1"], {"<r2>": 1, "r0": 2, "r1": 1})
    assert gpu["running_releases"] == {"r1": 1}


async def test_running_workers_are_listed_with_their_hosts(engine: VirtualEngine) -> None:
    """The page has their client ids and addresses, by host; so does the API. Without a broker there are none."""
    running = [RunningWorker("r1", client=f"stepstream-r1-{n}", host=f"10.0.0.{n}") for n in (8, 7)]

    async def found(_names: Sequence[str]) -> dict[str, list[RunningWorker]]:
        return {"shop": [*running, RunningWorker("r1")], "shop.gpu": [RunningWorker("r1")]}

    page = await shown(engine, overview=_Engine(), workers=found)
    assert page.texts("tbody td:nth-child(2)")[:2] == [
        "3 which stepstream-r1-7 on 10.0.0.7 stepstream-r1-8 on 10.0.0.8 1 more",
        "1",
    ]
    facade = dataclasses.replace(facade_of(engine.engine), overview=_Engine(), workers=found)
    api = make_api(facade, engine.index, bytes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://localhost") as client:
        shop, gpu = (await client.get("/v1/workers")).json()["workers"]
    assert [each["host"] for each in shop["members"]] == ["10.0.0.7", "10.0.0.8"]
    assert gpu["members"] == []


async def test_what_is_unknown_is_not_guessed(engine: VirtualEngine) -> None:
    """Without heartbeats the owners of other shards are unknown, without a broker the number of workers."""
    seen = _Engine(third=ShardView(2, "", ""), fourth=ShardView(3, "", ""))
    page = await shown(engine, overview=seen, workers=_unknown, unready=lambda: "no broker has answered")
    workers, shards = (page.texts(f"[aria-label='{label}'] tbody tr") for label in LABELS)
    assert workers[0] == "shop unknown: no broker answered not measured by this engine 1 r1"
    assert shards[3] == "3 unknown"
    assert "This engine knows its own shards only" in page.text
    assert "This engine is not ready: no broker has answered" in page.text
    assert "The list of runs" not in page.text


async def test_readers_see_workers_and_an_empty_engine_says_so() -> None:
    """The page has no form, so the read key suffices."""
    async with VirtualEngine() as empty:
        facade = facade_of(empty.engine)
        browser = Browser(make_api(facade, empty.index, bytes, keys=Keys("event", "api", "read")))
        browser.client.headers["Authorization"] = "Bearer read"
        page = await browser.open("/ui/workers")
        assert "No function is registered yet" in page.text
        assert "A worker is a process that runs the code of an app" in page.text
        assert "A shard is a part of the runs" in page.text
        assert "or throttle=, is listed while runs hold it or wait" in (await browser.open("/ui/limits")).text
        assert (await browser.open("/ui/workers?page=2")).status == 400


async def test_workers_and_shards_are_answered_by_the_api(engine: VirtualEngine) -> None:
    """With null for what this engine does not measure."""
    seen = _Engine()
    facade = dataclasses.replace(facade_of(engine.engine), overview=seen, readings=seen.readings, workers=_running)
    api = make_api(facade, engine.index, bytes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://localhost") as client:
        workers = (await client.get("/v1/workers")).json()["workers"]
        assert [(each["name"], each["running"], each["waiting"]) for each in workers] == [
            ("shop", 3, None),
            ("shop.gpu", 0, 33),
        ]
        answer = (await client.get("/v1/shards")).json()
        assert answer["history"] == 9
        assert answer["shards"][2] == {
            "view": {"shard": 2, "owner": "engine-b", "unready": "", "is_own": False},
            "left_rows": None,
            "waiting": None,
            "oldest_s": None,
            "copy_rows": 42,
        }


async def test_a_queue_is_paused_and_resumed_by_its_form(engine: VirtualEngine) -> None:
    """The row says who paused it, until when and why; what is wrong stays entered; readers have no form."""
    browser = browser_of(engine, Keys("event", "api", "read"))
    browser.client.headers["Authorization"] = "Bearer api"
    form = "form[aria-label='Pause the queue shop.gpu']"
    page = await browser.open("/ui/workers")
    wrong = await browser.submit(page, form, until="soon", why="the <GPUs> are hot")
    assert wrong.status == 400
    assert wrong.all("[aria-invalid=true]")[0].attributes["value"] == "soon"
    page = await browser.submit(wrong, form, until="2h")
    assert page.path.startswith("/ui/workers?done=paused.")
    assert "the <GPUs> are hot" in page.texts("tbody tr")[1]
    assert not page.all(form)
    (pause,) = engine.engine.pauses()
    assert (pause.scope, pause.until) == ("queue:shop.gpu", engine.now_ms + 7_200_000)
    page = await browser.submit(page, "form[aria-label='Resume the queue shop.gpu']", why="they are <cool>")
    assert "It is resumed." in page.text
    assert "by API key : they are <cool>" in page.texts("tbody tr")[1]
    assert not engine.engine.pauses()
    assert (await browser.client.post("/ui/queue/pause?name=shop", data={"why": ""})).status_code == 404
    browser.client.headers["Authorization"] = "Bearer read"
    assert not (await browser.open("/ui/workers")).all("main form")
    assert (await browser.client.post("/ui/queue/pause?name=shop.gpu", data={"why": ""})).status_code == 403
