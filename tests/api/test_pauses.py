"""Pausing and resuming runs over HTTP: who, why and until when, and the errors of bad requests."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from stepstream import App, Context, Event, on
from stepstream.api.http import make_api
from stepstream.contract.history import RunPaused, RunUnpaused
from stepstream.contract.limits import REASON_CHARACTERS_MAX
from stepstream.testing import VirtualEngine
from tests.fakes.facades import facade_of

app = App("api", queues=["gpu"])


@app.function(on("wait"))
async def wait(ctx: Context) -> object:
    """Wait for a signal."""
    return await ctx.step.wait_for_signal("wait", signal="approval", timeout="1d")


@app.function(on("go"))
async def ended(ctx: Context) -> None:
    """End at once."""


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """An engine with a run that is open and one that has ended."""
    async with VirtualEngine(app) as made:
        await made.send(Event("wait"), Event("go"))
        yield made


@pytest.fixture
async def client(engine: VirtualEngine) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API over the engine, with the clock of the engine."""
    api = make_api(facade_of(engine.engine), engine.index, bytes, now_ms=lambda: engine.now_ms)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://localhost") as made:
        yield made


async def test_a_run_is_paused_and_resumed(engine: VirtualEngine, client: httpx.AsyncClient) -> None:
    """The run says so, the filter finds it, and its history has who asked and why."""
    run_id, paused_at = engine.run("wait").run_id, engine.now_ms
    until = paused_at + 7_200_000
    answer = await client.post(f"/v1/runs/{run_id}/pause", json={"until": "2h", "why": "bank is down"})
    assert answer.json() == {"paused": True, "until": until}
    await engine.until_idle()
    shown = (await client.get(f"/v1/runs/{run_id}")).json()
    assert shown["paused"] == {"since": paused_at, "until": until, "by": "local", "why": "bank is down"}
    listed = (await client.get("/v1/runs", params={"filter": "paused:true"})).json()["runs"]
    assert [run["run_id"] for run in listed] == [run_id]
    answer = await client.post(f"/v1/runs/{run_id}/resume", json={"why": "bank is back"})
    assert answer.json() == {"resumed": True}
    await engine.until_idle()
    assert (await client.get(f"/v1/runs/{run_id}")).json()["paused"] is None
    entries = [entry for entry in engine.history if isinstance(entry, RunPaused | RunUnpaused)]
    assert [type(entry).__name__ for entry in entries] == ["RunPaused", "RunUnpaused"]
    assert isinstance(entries[1], RunUnpaused)
    assert (entries[1].by, entries[1].why) == ("local", "bank is back")


async def test_an_empty_body_pauses_without_an_end(engine: VirtualEngine, client: httpx.AsyncClient) -> None:
    """An ISO time is an end as well, and replaces the pause."""
    run_id = engine.run("wait").run_id
    assert (await client.post(f"/v1/runs/{run_id}/pause")).json() == {"paused": True, "until": 0}
    answer = await client.post(f"/v1/runs/{run_id}/pause", json={"until": "2026-01-01T01:00:00Z"})
    assert answer.json()["until"] == engine.now_ms + 3_600_000
    assert (await client.post(f"/v1/runs/{run_id}/resume")).json() == {"resumed": True}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("{", "body"),
        ("[]", "body"),
        ('{"till": "2h"}', "body"),
        ('{"until": 5}', "body"),
        ('{"until": "soon"}', "until"),
        ('{"until": "0s"}', "until"),
        ('{"until": "2020-01-01"}', "until"),
        ('{"until": "367d"}', "until"),
        (json.dumps({"why": "x" * (REASON_CHARACTERS_MAX + 1)}), "why"),
    ],
)
async def test_a_bad_request_names_the_field(
    engine: VirtualEngine, client: httpx.AsyncClient, body: str, field: str
) -> None:
    """It is answered with 400, and pauses nothing."""
    answer = await client.post(f"/v1/runs/{engine.run('wait').run_id}/pause", content=body)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field), answer.text
    await engine.until_idle()
    assert engine.run("wait").paused is None


async def test_what_cannot_be_paused_or_resumed_is_refused(engine: VirtualEngine, client: httpx.AsyncClient) -> None:
    """An ended run and one that is not paused are answered with 409, an unknown run with 404."""
    over, still = engine.run("ended").run_id, engine.run("wait").run_id
    answers = [
        await client.post(f"/v1/runs/{run_id}/{verb}")
        for run_id, verb in ((over, "pause"), (over, "resume"), (still, "resume"), ("0" * 26, "pause"))
    ]
    messages = [answer.json()["error"]["message"] for answer in answers]
    assert [answer.status_code for answer in answers] == [409, 409, 409, 404]
    assert messages[0] == messages[1] == f"run {over} has ended already"
    assert messages[2:] == [f"run {still} is not paused", f"there is no run {'0' * 26!r}"]


async def test_a_function_and_a_queue_are_paused_and_resumed(
    engine: VirtualEngine, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """They are listed with who and why, which the log keeps, and the run of the function says why it does not start."""
    caplog.set_level("INFO", "stepstream")
    answer = await client.post("/v1/functions/wait/pause", json={"until": "2h", "why": "bank is down"})
    assert answer.json() == {"paused": True, "until": engine.now_ms + 7_200_000}
    assert (await client.post("/v1/queues/api/gpu/pause")).json() == {"paused": True, "until": 0}
    await engine.until_idle()
    listed = (await client.get("/v1/pauses")).json()["pauses"]
    assert [(each["scope"], each["by"], each["why"]) for each in listed] == [
        ("function:wait", "local", "bank is down"),
        ("queue:api.gpu", "local", ""),
    ]
    shown = (await client.get(f"/v1/runs/{engine.run('wait').run_id}")).json()
    assert shown["why"][0]["text"].startswith("The function wait was paused by local at 20")
    for path in ("/v1/functions/wait", "/v1/queues/api/gpu"):
        assert (await client.post(f"{path}/resume", json={"why": "bank is back"})).json() == {"resumed": True}
        again = await client.post(f"{path}/resume")
        assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
    await engine.until_idle()
    assert (await client.get("/v1/pauses")).json() == {"pauses": []}
    assert "local paused function:wait: bank is down" in caplog.messages
    assert "local resumed queue:api.gpu: bank is back" in caplog.messages


@pytest.mark.parametrize("path", ["/v1/functions/none", "/v1/queues/api/cpu", "/v1/queues/none/gpu"])
async def test_an_unknown_function_or_queue_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    """A misspelled name pauses nothing."""
    for verb in ("pause", "resume"):
        assert (await client.post(f"{path}/{verb}")).status_code == 404
