"""The routes of approvals: what waits, and a decision that counts once."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pydantic
import pytest

from stepstream import App, Context, Event, on
from stepstream.api.guards import Keys
from stepstream.api.http import make_api
from stepstream.runtime.metrics import Metrics
from stepstream.testing import VirtualEngine
from tests.fakes.facades import facade_of

app = App("shop")


class Amount(pydantic.BaseModel):
    """What the person fills in; the pattern takes exponential time where patterns backtrack."""

    amount: int
    reference: str = pydantic.Field("", pattern="^(a+)+$")


@app.function(on("refund.asked"))
async def refund(ctx: Context) -> Any:
    """Wait for a person."""
    decision = await ctx.step.wait_for_approval("refund", title="Refund?", form=Amount, timeout="3d")
    return decision and [decision.by, decision.values and decision.values.amount]


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """An engine with a run that waits."""
    async with VirtualEngine(app) as made:
        await made.send(Event("refund.asked"))
        yield made


def client_of(engine: VirtualEngine, keys: Keys | None = None) -> httpx.AsyncClient:
    """Return a client of the API over an engine."""
    metrics = Metrics("engine").text
    api = make_api(facade_of(engine.engine), engine.index, metrics, keys=keys, now_ms=lambda: engine.now_ms)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://localhost")


async def test_a_decision_counts_once(engine: VirtualEngine) -> None:
    """The first answer resumes the run; the second is refused with 409."""
    async with client_of(engine) as client:
        (asked,) = (await client.get("/v1/approvals")).json()["approvals"]
        assert (asked["title"], asked["form"]["required"]) == ("Refund?", ["amount"])
        path = f"/v1/approvals/{asked['run_id']}/{asked['step']}"
        decision = {"approved": True, "by": "ann", "values": {"amount": 12, "reference": "aa"}}
        assert (await client.post(path, json=decision)).json() == {"accepted": True}
        await engine.until_idle()
        (run,) = engine.runs()
        assert run.output == ["ann", 12]
        answer: Any = run.steps[0].output
        assert answer["at"] == engine.now_ms
        again = await client.post(path, json={"approved": False, "by": "bob"})
        assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
        assert (await client.get("/v1/approvals")).json() == {"approvals": []}


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ([], 400, "JSON object"),
        ({"approved": True}, 400, "by"),
        ({"approved": True, "by": " "}, 400, "name the person"),
        ({"approved": "yes", "by": "ann"}, 400, "bool"),
        ({"approved": True, "by": "ann", "extra": 1}, 400, "extra"),
        ({"approved": True, "by": "ann", "values": {"amount": "x"}}, 400, "values.amount"),
        ({"approved": True, "by": "ann", "values": {"amount": 1, "reference": "a" * 60 + "b"}}, 400, "reference"),
        ({"approved": False, "by": "ann", "comment": "x" * 10_001}, 400, "10,000"),
    ],
)
async def test_bad_decisions_are_refused(engine: VirtualEngine, body: object, status: int, words: str) -> None:
    """The answer names the field, a hostile value takes no time, and the step still waits."""
    (asked,) = engine.index.open_approvals()
    async with client_of(engine) as client:
        answer = await client.post(f"/v1/approvals/{asked.run_id}/{asked.step}", json=body)
        assert answer.status_code == status
        assert words in answer.text
    assert len(engine.index.open_approvals()) == 1


async def test_unknown_steps_and_missing_keys_are_refused(engine: VirtualEngine) -> None:
    """A step that asks nothing is 404; without the API key nothing is listed or decided."""
    async with client_of(engine) as client:
        answer = await client.post("/v1/approvals/nope/nope", json={"approved": True, "by": "ann"})
        assert answer.status_code == 404
    async with client_of(engine, Keys(event="e", api="secret")) as client:
        assert (await client.get("/v1/approvals")).status_code == 401
        assert (await client.post("/v1/approvals/a/b", json={})).status_code == 401
