"""Starting one function over HTTP, and waiting for the end of a run."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from stepstream import App, Context
from stepstream.api.http import make_api
from stepstream.api.routes import invocations
from stepstream.api.streams import Streams
from stepstream.contract.limits import REQUEST_ID_CHARACTERS_MAX
from stepstream.testing import VirtualEngine
from tests.fakes.facades import facade_of

app = App("api")
PATH = "/v1/functions/wait/invoke"


@app.function()
async def wait(ctx: Context) -> Any:
    """Wait for a signal."""
    await ctx.step.wait_for_signal("wait", signal="go", timeout="1h")
    return ctx.event.data


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """An engine in memory."""
    async with VirtualEngine(app) as made:
        yield made


@pytest.fixture
def closing() -> asyncio.Event:
    """What is set when the process stops."""
    return asyncio.Event()


@pytest.fixture
async def client(engine: VirtualEngine, closing: asyncio.Event) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API over the engine."""
    api = make_api(facade_of(engine.engine), engine.index, bytes, streams=Streams(engine.index.changes, closing))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://localhost") as made:
        yield made


async def test_a_request_starts_one_function_once(engine: VirtualEngine, client: httpx.AsyncClient) -> None:
    """The same request id returns the same run, whatever else differs; the event has the data and the user."""
    body = {"data": {"n": 1}, "user": "ann", "v": "2", "request_id": "r"}
    first, again = [(await client.post(PATH, json=body)).json() for _ in range(2)]
    other = (await client.post(PATH)).json()
    await engine.until_idle()
    assert first == again != other
    shown = (await client.get(f"/v1/runs/{first['run_id']}")).json()
    (event,) = shown["events"]
    assert (event["data"], event["user"], event["v"], event["id"]) == ({"n": 1}, "ann", "2", "r:invoke")
    assert len(engine.runs()) == 2


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"data": [1]}, "data"),
        ({"dat": {}}, "body"),
        ({"request_id": "x" * (REQUEST_ID_CHARACTERS_MAX + 1)}, "request_id"),
        ({"request_id": "\n"}, "request_id"),
    ],
    ids=str,
)
async def test_bad_requests_name_the_field(
    engine: VirtualEngine, client: httpx.AsyncClient, body: Any, field: str
) -> None:
    """Nothing is started."""
    answer = await client.post(PATH, json=body)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)
    assert not engine.runs()


async def test_an_unknown_function_is_not_found(client: httpx.AsyncClient) -> None:
    """The error says what to do."""
    answer = await client.post("/v1/functions/none/invoke", json={})
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "no function 'none' is registered; start a worker that has it"


async def test_a_request_waits_for_the_end_of_a_run(
    engine: VirtualEngine, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is answered when the run ends, after its time, or at once if too many requests wait."""
    run_id = (await client.post(PATH, json={"data": {"n": 1}})).json()["run_id"]
    path = f"/v1/runs/{run_id}"
    assert (await client.get(path, params={"wait": "1ms"})).json()["status"] == "running"
    waiting = asyncio.ensure_future(client.get(path, params={"wait": "30s"}))
    await engine.until_idle()
    assert not waiting.done()
    await engine.signal("go")
    assert (await waiting).json()["output"] == {"n": 1}
    monkeypatch.setattr(invocations, "WAITING_MAX", 0)
    other = (await client.post(PATH)).json()["run_id"]
    await engine.until_idle()
    assert (await client.get(f"/v1/runs/{other}", params={"wait": "30s"})).json()["status"] == "running"


async def test_a_wait_ends_when_the_process_stops(
    engine: VirtualEngine, client: httpx.AsyncClient, closing: asyncio.Event
) -> None:
    """A shutdown does not wait for a client that waits for a run."""
    run_id = (await client.post(PATH)).json()["run_id"]
    await engine.until_idle()
    closing.set()
    assert (await client.get(f"/v1/runs/{run_id}", params={"wait": "30s"})).json()["status"] == "running"


async def test_a_wait_has_bounds(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes 30 s at most, and a moment for a run that is unknown."""
    for wrong in ("31s", "soon"):
        answer = await client.get("/v1/runs/x", params={"wait": wrong})
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, "wait")
    monkeypatch.setattr(invocations, "_UNKNOWN_S_MAX", 0.01)
    assert (await client.get("/v1/runs/x", params={"wait": "30s"})).status_code == 404
