"""The routes of requests to runs: the reply, an answer in time without one, refusals, and keys of senders."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pydantic
import pytest

from stepstream import App, Context, Event, on
from stepstream.api.guards import Keys
from stepstream.api.http import make_api
from stepstream.contract.limits import REQUEST_DATA_BYTES_MAX, REQUESTS_WAITING_MAX
from stepstream.runtime.metrics import Metrics
from stepstream.testing import VirtualEngine
from tests.fakes.facades import facade_of
from tests.fakes.waiting import until

app = App("counter")


class Change(pydantic.BaseModel):
    """What a sender asks for."""

    amount: int


@app.function(on("open"))
async def count(ctx: Context) -> int:
    """Add what requests say; a large one is replied to later, and a negative one ends the run without a reply."""
    total = 0
    while request := await ctx.step.wait_for_request("orders/add", schema=Change, timeout="1d"):
        if request.data.amount < 0:
            return total
        if request.data.amount > 100:
            await ctx.step.sleep("check", "1h")
        total += request.data.amount
        await request.reply(total)
    return total


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """An engine with a run that waits."""
    async with VirtualEngine(app) as made:
        await made.send(Event("open"))
        yield made


def client_of(engine: VirtualEngine, keys: Keys | None = None) -> httpx.AsyncClient:
    """Return a client of the API over an engine."""
    metrics = Metrics("engine").text
    api = make_api(facade_of(engine.engine), engine.index, metrics, keys=keys, now_ms=lambda: engine.now_ms)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://localhost")


def path_of(engine: VirtualEngine, more: str = "") -> str:
    """Return the path of the requests of the run."""
    return f"/v1/runs/{engine.run().run_id}/requests/orders/add{more}"


async def test_the_sender_waits_for_the_reply_of_its_request(engine: VirtualEngine) -> None:
    """The response has the reply; sent again with its key, it has the same one, and the run adds nothing."""
    async with client_of(engine) as client:
        key = {"Idempotency-Key": "order-7"}
        answer = await client.post(path_of(engine), json={"amount": 2}, headers=key)
        assert (answer.status_code, answer.json()) == (200, {"id": "order-7", "reply": 2})
        assert (await client.post(path_of(engine), json={"amount": 2}, headers=key)).json()["reply"] == 2
        assert (await client.post(path_of(engine), json={"amount": 3})).json()["reply"] == 5
        assert (await client.get(path_of(engine, "/order-7"))).json() == {"id": "order-7", "reply": 2}


async def test_the_same_request_sent_at_the_same_time_is_taken_once(engine: VirtualEngine) -> None:
    """All senders with one key get one reply, whatever each of them knew of the run."""
    async with client_of(engine) as client:
        key = {"Idempotency-Key": "once"}
        posts = (client.post(path_of(engine), json={"amount": 2}, headers=key) for _ in range(5))
        assert [each.json() for each in await asyncio.gather(*posts)] == [{"id": "once", "reply": 2}] * 5
        assert len([step for step in engine.run().steps if step.status == "completed"]) == 2


async def test_different_requests_at_the_same_time_have_their_replies(engine: VirtualEngine) -> None:
    """Each waits until the run takes it."""
    async with client_of(engine) as client:
        posts = (client.post(path_of(engine), json={"amount": 1}) for _ in range(5))
        assert sorted(each.json()["reply"] for each in await asyncio.gather(*posts)) == [1, 2, 3, 4, 5]


async def test_a_late_reply_is_read_by_its_path(engine: VirtualEngine) -> None:
    """Without a reply in time the status is 202, with a path that has the reply later; the request is not repeated."""
    async with client_of(engine) as client:
        sent = await client.post(path_of(engine, "?wait=0s"), json={"amount": 500}, headers={"Idempotency-Key": "big"})
        assert (sent.status_code, sent.json()["id"]) == (202, "big")
        assert sent.headers["Location"] == sent.json()["path"] == path_of(engine, "/big")
        await engine.until_idle()
        waiting = await client.get(sent.json()["path"], params={"wait": "0s"})
        assert (waiting.status_code, waiting.json()) == (202, sent.json())
        reading = asyncio.create_task(client.get(sent.json()["path"]))
        await engine.advance("1h")
        assert (await reading).json() == {"id": "big", "reply": 500}


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b'{"amount": "x"}', 422, "data.amount"),
        (b"{}", 422, "data.amount: a value is required"),
        (b"", 422, "data"),
        (b"{", 400, "body: not valid JSON"),
        (b'"' + b"x" * REQUEST_DATA_BYTES_MAX + b'"', 413, "1,048,576 are allowed"),
    ],
)
async def test_unfit_data_is_refused_and_the_run_waits(
    engine: VirtualEngine, body: bytes, status: int, words: str
) -> None:
    """The response names the field; the next request of the same key is taken."""
    async with client_of(engine) as client:
        key = {"Idempotency-Key": "k"}
        answer = await client.post(path_of(engine), content=body, headers=key)
        assert (answer.status_code, words in answer.text) == (status, True)
        assert (await client.post(path_of(engine), json={"amount": 1}, headers=key)).json()["reply"] == 1


async def test_a_run_that_takes_no_request_is_a_conflict(engine: VirtualEngine) -> None:
    """The reason is in the response: the run waits for something else, has ended, or ended without a reply."""
    async with client_of(engine) as client:
        path = path_of(engine)
        other = await client.post(path.replace("add", "other") + "?wait=0s", json=1)
        assert (other.status_code, "no step of the run waits for it" in other.text) == (409, True)
        unknown = await client.post("/v1/runs/01ARZ3NDEKTSV4RRFFQ69G5FAV/requests/add", json=1)
        assert (unknown.status_code, "there is no run" in unknown.text) == (404, True)
        unsent = await client.get(f"{path}/never?wait=0s")
        assert (unsent.status_code, "send it first" in unsent.text) == (409, True)
        ended = await client.post(path, json={"amount": -1})
        assert (ended.status_code, "ended (completed) without a reply" in ended.text) == (409, True)
        late = await client.post(path, json={"amount": 1})
        assert (late.status_code, "ended (completed) and takes no requests" in late.text) == (409, True)


async def test_keys_waits_and_strangers_are_checked(engine: VirtualEngine) -> None:
    """A key that a path cannot have, a long wait, an unknown parameter and a missing API key are refused."""
    async with client_of(engine) as client:
        wrong: dict[str, Any] = {"json": {"amount": 1}}
        assert (await client.post(path_of(engine), headers={"Idempotency-Key": "a/b"}, **wrong)).status_code == 400
        for wait in ("61s", "soon"):
            answer = await client.post(path_of(engine), params={"wait": wait}, **wrong)
            assert (answer.status_code, answer.json()["error"]["field"]) == (400, "wait")
        assert (await client.post(path_of(engine, "?waits=1s"), **wrong)).status_code == 400
    async with client_of(engine, Keys("event", "api")) as client:
        assert (await client.post(path_of(engine), **wrong)).status_code == 401


async def test_a_process_has_a_bounded_number_of_waiting_senders(engine: VirtualEngine) -> None:
    """One more is 503 at once, and may be sent again."""
    async with client_of(engine) as client:
        path = path_of(engine).replace("add", "other")
        senders = [asyncio.create_task(client.post(path, json=1)) for _ in range(REQUESTS_WAITING_MAX)]
        await until(lambda: engine.index.changes._watchers == REQUESTS_WAITING_MAX)
        refused = await client.post(path_of(engine), json={"amount": 1})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
        assert (await client.post(path_of(engine), json={"amount": 1})).json()["reply"] == 1
