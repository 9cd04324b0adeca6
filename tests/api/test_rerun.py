"""Reruns over HTTP: the new run, the errors of bad requests, and who asked."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from stepstream import App, Context, Event, on
from stepstream.api.guards import Keys
from stepstream.api.http import make_api
from stepstream.api.page_options import DEFAULT_PAGE, PageOptions, networks_of
from stepstream.contract.limits import REASON_CHARACTERS_MAX
from stepstream.testing import VirtualEngine
from tests.fakes.facades import facade_of

app = App("api")


@app.function(on("go"))
async def work(ctx: Context) -> Any:
    """Return a value of a step and of the event."""
    return [await ctx.step.run("first", lambda: "first"), ctx.event.data.get("n")]


@app.function(on("wait"))
async def wait(ctx: Context) -> None:
    """Wait for a signal."""
    await ctx.step.wait_for_signal("wait", signal="approval", timeout="1h")


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """An engine with a run that has ended and one that is open."""
    async with VirtualEngine(app) as made:
        await made.send(Event("go", {"n": 1}), Event("wait"))
        yield made


def client_of(
    engine: VirtualEngine, keys: Keys | None = None, options: PageOptions = DEFAULT_PAGE
) -> httpx.AsyncClient:
    """Return a client of the API over an engine."""
    api = make_api(facade_of(engine.engine), engine.index, bytes, keys=keys, page=options)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://localhost")


async def test_a_rerun_answers_with_the_new_run(engine: VirtualEngine) -> None:
    """Its event and its results are edited as the body says; the same request id returns the same run."""
    run_id = engine.run("work").run_id
    body = {"from_failure": False, "data": {"n": 2}, "why": "a test", "request_id": "r1"}
    async with client_of(engine) as client:
        first, again = [(await client.post(f"/v1/runs/{run_id}/rerun", json=body)).json() for _ in range(2)]
        assert first == again
        await engine.until_idle()
        shown = (await client.get(f"/v1/runs/{first['run_id']}")).json()
        assert (shown["output"], shown["origin"]) == (["first", 2], run_id)
        assert shown["rerun"] == {"origin": run_id, "by": "local", "why": "a test", "edited_data": True}
        assert (await client.get(f"/v1/runs/{run_id}")).json()["reruns"] == [first["run_id"]]


@pytest.mark.parametrize(
    ("headers", "user_header", "proxies", "by"),
    [
        ({}, "", "", "API key"),
        ({"X-Forwarded-User": "ann"}, "", "127.0.0.1", "API key"),
        ({"X-Forwarded-User": "ann"}, "x-forwarded-user", "127.0.0.1", "ann"),
        ({"X-Forwarded-User": "ann"}, "x-forwarded-user", "10.0.0.0/8", "API key"),
        ({}, "x-forwarded-user", "127.0.0.1", "API key"),
    ],
)
async def test_history_names_who_asked(
    engine: VirtualEngine, headers: dict[str, str], user_header: str, proxies: str, by: str
) -> None:
    """A user name counts only in the configured header of a trusted proxy."""
    options = PageOptions(user_header=user_header, proxies=networks_of(proxies))
    async with client_of(engine, Keys("event", "secret"), options) as client:
        path, key = f"/v1/runs/{engine.run('work').run_id}/rerun", {"Authorization": "Bearer secret"}
        answer = await client.post(path, headers={**headers, **key})
    await engine.until_idle()
    run = engine.index.show(answer.json()["run_id"])
    assert run is not None
    assert isinstance(run.rerun, dict)
    assert run.rerun["by"] == by


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("{", "body"),
        ("[]", "body"),
        ('{"from": "first"}', "body"),
        ('{"from_step": "other"}', "from_step"),
        ('{"from_step": "first", "from_failure": true}', "from_failure"),
        ('{"data": [1]}', "data"),
        ('{"data": {"n": 1e999}}', "data"),
        ('{"results": {"first": 1}}', "results.first"),
        (f'{{"why": "{"x" * (REASON_CHARACTERS_MAX + 1)}"}}', "why"),
        (f'{{"request_id": "{"x" * 200}"}}', "request_id"),
    ],
)
async def test_a_bad_request_names_the_field(engine: VirtualEngine, body: str, field: str) -> None:
    """It is answered with 400, and starts no run."""
    async with client_of(engine) as client:
        answer = await client.post(f"/v1/runs/{engine.run('work').run_id}/rerun", content=body)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field), answer.text
    await engine.until_idle()
    assert len(engine.runs("work")) == 1


async def test_what_cannot_be_rerun_is_a_conflict(engine: VirtualEngine) -> None:
    """An open run, and a completed one from its failure, are answered with 409; an unknown run with 404."""
    async with client_of(engine) as client:
        open_run = await client.post(f"/v1/runs/{engine.run('wait').run_id}/rerun")
        assert (open_run.status_code, open_run.json()["error"]["code"]) == (409, "conflict")
        body = {"from_failure": True}
        completed = await client.post(f"/v1/runs/{engine.run('work').run_id}/rerun", json=body)
        assert completed.status_code == 409
        assert (await client.post(f"/v1/runs/{'0' * 26}/rerun")).status_code == 404
