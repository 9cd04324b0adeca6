"""Checkpoints as apps send them."""

import asyncio

from stepstream.contract.history import StepEnded
from stepstream.gateway.rest.parts import RestOptions
from stepstream.testing import VirtualEngine
from tests.fakes.waiting import until
from tests.gateway.rest.sites import SdkClient
from tests.gateway.runs.endpoint import FakeEndpoint, app_of, ran, returned


async def test_a_checkpoint_is_answered_when_it_is_durable() -> None:
    """Fields that the app leaks are ignored; a checkpoint of another call, or of an unknown run, is refused."""
    answer = asyncio.Event()
    endpoint = FakeEndpoint(returned(1, after=answer))
    app = app_of(endpoint)
    async with VirtualEngine(app) as engine:
        client = SdkClient(engine, RestOptions(), checkpoints=app.runs)
        sending = asyncio.ensure_future(client.send({"name": "demo/go", "data": {}}))
        await until(lambda: len(endpoint.asked) == 1)
        context = endpoint.asked[0].body["ctx"]
        path = f"/v1/checkpoint/{context['run_id']}/async"
        body = {"generation_id": context["generation_id"], "steps": [ran("a", 1, promise={}, handled=True)]}
        replies = [
            await client.http.post(path, json=body),
            await client.http.post(path, json=body | {"generation_id": 1}),
            await client.http.post("/v1/checkpoint/unknown/async", json=body),
            await client.http.post(path, json={"steps": [{"op": "Sleep", "id": "x", "name": "1s"}]}),
        ]
        await until(lambda: [each.id for each in engine.history if isinstance(each, StepEnded)] == ["a"])
        answer.set()
        await sending
        assert engine.run("demo-f").status == "completed"
    assert [reply.status_code for reply in replies] == [200, 409, 404, 400]
    assert (replies[0].content, replies[1].json()["status"]) == (b"", 409)
