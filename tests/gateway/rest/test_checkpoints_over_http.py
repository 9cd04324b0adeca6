"""What apps send and fetch while a call is open: checkpoints, and the input of its run."""

import asyncio
from dataclasses import dataclass

import pytest

from stepstream.contract.history import StepEnded
from stepstream.gateway.rest.parts import RestOptions
from stepstream.gateway.runs.open_runs import OpenRuns
from stepstream.gateway.runs.peers import RunInput
from stepstream.gateway.runs.transport import Unreachable
from stepstream.testing import VirtualEngine
from tests.fakes.waiting import until
from tests.gateway.rest.sites import SdkClient
from tests.gateway.runs.endpoint import FakeEndpoint, app_of, ops, ran, returned


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
        body = {"generation_id": endpoint.asked[0].generation, "steps": [ran("a", 1, promise={}, handled=True)]}
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


@dataclass
class Others:
    """Gateways by their URLs; those of calls are the ends of queue items."""

    gateways: dict[str, SdkClient]

    def of(self, item: str) -> str:
        """Return the URL of the gateway that has made a call."""
        return item.partition("@")[2]

    async def pass_on(self, url: str, path: str, body: bytes, _authorization: str) -> int:
        """Send a checkpoint to another gateway."""
        if url not in self.gateways:
            raise Unreachable("it is gone")
        found = await self.gateways[url].http.post(path, content=body, headers={"X-Stepstream-Passed-On": "1"})
        return found.status_code

    async def fetch(self, path: str, _authorization: str) -> RunInput | None:
        """Return what one of the gateways has at a path; None if none has the run."""
        for gateway in self.gateways.values():
            found = await gateway.http.get(path, headers={"X-Stepstream-Passed-On": "1"})
            if found.status_code == 200:
                return RunInput(found.content, int(found.headers["X-Stepstream-Epoch"]))
            assert found.status_code == 410
        return None


@pytest.mark.parametrize(("gateway_url", "status"), [("@first", 200), ("@gone", 502), ("", 404)])
async def test_a_checkpoint_reaches_the_gateway_of_its_call(gateway_url: str, status: int) -> None:
    """A load balancer may send it to another one, which answers as the one that has made the call does."""
    answer = asyncio.Event()
    endpoint = FakeEndpoint(returned(1, after=answer))
    app = app_of(endpoint, gateway_url=gateway_url)
    async with VirtualEngine(app) as engine:
        others = Others({})
        first, second = (
            SdkClient(engine, RestOptions(), checkpoints=each, peers=others) for each in (app.runs, OpenRuns())
        )
        others.gateways["first"] = first
        sending = asyncio.ensure_future(first.send({"name": "demo/go", "data": {}}))
        await until(lambda: len(endpoint.asked) == 1)
        context = endpoint.asked[0].body["ctx"]
        path = f"/v1/checkpoint/{context['run_id']}/async"
        body = {"generation_id": endpoint.asked[0].generation, "qi_id": context["qi_id"], "steps": [ran("a", 1)]}
        assert (await second.http.post(path, json=body)).status_code == status
        stale = body | {"generation_id": endpoint.asked[0].generation - 1}
        assert (await second.http.post(path, json=stale)).status_code == (409 if status == 200 else status)
        passed_on = {"X-Stepstream-Passed-On": "1"}
        assert (await second.http.post(path, json=body, headers=passed_on)).status_code == 404
        answer.set()
        await sending
        assert engine.run("demo-f").status == "completed"
        steps = [each.id for each in engine.history if isinstance(each, StepEnded)]
    assert steps == (["a"] if status == 200 else [])


async def test_input_of_a_run_is_fetched_from_any_gateway() -> None:
    """The app asks the one that its configuration names, which has it from the one that calls the app."""
    answer = asyncio.Event()
    endpoint = FakeEndpoint(ops(ran("a", 1)), returned(2, after=answer))
    app = app_of(endpoint)
    async with VirtualEngine(app) as engine:
        others = Others({})
        others.gateways["first"] = SdkClient(engine, RestOptions(), inputs=app.runs)
        second = SdkClient(engine, RestOptions(), inputs=OpenRuns(), peers=others)
        sending = asyncio.ensure_future(second.send({"name": "demo/go", "data": {"n": 1}}))
        await until(lambda: len(endpoint.asked) == 2)
        body = endpoint.asked[1].body
        run = f"/v0/runs/{body['ctx']['run_id']}"
        events, memos = await second.http.get(f"{run}/batch"), await second.http.get(f"{run}/actions")
        assert (events.json(), memos.json()) == (body["events"], body["steps"])
        answer.set()
        await sending
        assert [(await second.http.get(f"{run}/{path}")).status_code for path in ("batch", "actions")] == [410, 410]
