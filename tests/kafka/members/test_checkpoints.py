"""An app sends what belongs to a call to two gateways on real Kafka: reports of steps, and requests for its input."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from stepstream.contract.limits import MIB
from tests.gateway.runs.server import served
from tests.kafka.cluster.broker import free_port
from tests.kafka.cluster.fleet import Fleet
from tests.kafka.cluster.observed import Observed
from tests.polling import until

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.alone]
SDK = {"X-Inngest-Sdk": "inngest-js:v4.24.0", "X-Inngest-Req-Version": "2"}
STEPS = 5
# Three results are more than a call has room for.
LARGE = "x" * (3 * MIB // 2)
EVENTS = ("go", "large")
WAIT_S_MAX = 180.0


class Reporting:
    """An app whose function reports each of its steps, to one gateway after the other; its first call hangs."""

    def __init__(self, gateways: list[str]) -> None:
        self.gateways = gateways
        self.statuses: list[int] = []
        # How many results each call brought, and the gateway that the first one named.
        self.memos: list[int] = []
        self.caller: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def registration(self, base: str) -> dict[str, Any]:
        """Return what the SDK sends to register the function."""
        runtime = {"type": "http", "url": f"{base}/api/inngest?fnId=demo&stepId=step"}
        steps = {"step": {"runtime": runtime}}
        functions = [{"id": f"demo-{name}", "triggers": [{"event": f"demo/{name}"}], "steps": steps} for name in EVENTS]
        return {"appName": "demo", "url": f"{base}/api/inngest", "sdk": "js:v4.24.0", "functions": functions}

    async def answer(self, request: web.Request) -> web.Response:
        """Run a function, as a call asks."""
        called = await request.json()
        if called["event"]["name"] == "demo/large":
            return await self._answer_large(called)
        self.memos.append(len(called["steps"]))
        for number in range(len(called["steps"]), STEPS):
            await self._report(called["ctx"], int(request.headers["X-Inngest-Generation-ID"]), number)
            if len(self.memos) == 1 and number == 2:
                self.caller.set_result(next(url for url in self.gateways if url in called["ctx"]["qi_id"]))
                await asyncio.get_running_loop().create_future()
        return web.json_response([{"op": "RunComplete", "id": "complete", "data": STEPS}], status=206, headers=SDK)

    async def _answer_large(self, called: dict[str, Any]) -> web.Response:
        """Run one step; the call that has no room for the results ends the run with those that another gateway has."""
        done = len(called["ctx"]["stack"]["stack"])
        if not called["use_api"]:
            step = {"op": "StepRun", "id": f"{done:040}", "name": f"step {done}", "data": LARGE}
            return web.json_response([step], status=206, headers=SDK)
        (other,) = (url for url in self.gateways if url not in called["ctx"]["qi_id"])
        run = f"{other}/v0/runs/{called['ctx']['run_id']}"
        async with httpx.AsyncClient() as client:
            events, memos = (await client.get(f"{run}/batch")).json(), (await client.get(f"{run}/actions")).json()
        is_whole = sorted(memos) == sorted(called["ctx"]["stack"]["stack"])
        found = [events[0]["data"], is_whole and all(memo == {"data": LARGE} for memo in memos.values())]
        return web.json_response([{"op": "RunComplete", "id": "complete", "data": found}], status=206, headers=SDK)

    async def _report(self, context: dict[str, Any], generation: int, number: int) -> None:
        known = {"generation_id": generation, **{name: context[name] for name in ("run_id", "fn_id", "qi_id")}}
        step = {"op": "StepRun", "id": f"{number:040}", "name": f"step {number}", "data": number}
        path = f"{self.gateways[number % len(self.gateways)]}/v1/checkpoint/{context['run_id']}/async"
        async with httpx.AsyncClient() as client:
            self.statuses.append((await client.post(path, json={**known, "steps": [step]})).status_code)


async def test_apps_may_ask_any_gateway(bootstrap: str, tmp_path: Path) -> None:
    """The input of a call comes from the gateway that made it. All reports of a call are acknowledged; when its gateway
    is killed in the middle, the next call continues after the last one.
    """
    fleet, urls = Fleet(bootstrap, "checkpoints", tmp_path), [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    app = Reporting(list(urls))
    with fleet, Observed(fleet) as observed:
        fleet.variables["STEPSTREAM_KAFKA_SESSION_S"] = "6"
        fleet.command("topics", "apply", "--shards", "1")
        fleet.add_engine()
        gateways = {url: fleet.add_gateway("--port", url.rpartition(":")[2], "--peer-url", url) for url in urls}
        await asyncio.to_thread(until, lambda: observed.answers("/ready") == {200})
        async with served(app.answer) as base, httpx.AsyncClient() as client, asyncio.timeout(WAIT_S_MAX):
            registered = await client.post(f"{urls[0]}/fn/register", json=app.registration(base))
            assert registered.status_code == 200, registered.text
            large = await client.post(f"{urls[0]}/e/key", json={"name": "demo/large", "data": {"n": 1}})
            address = f"{urls[1]}/v1/events/{large.json()['ids'][0]}/runs"
            await asyncio.to_thread(until, lambda: [run["output"] for run in runs_at(address)] == [[{"n": 1}, True]])
            sent = await client.post(f"{urls[1]}/e/key", json={"name": "demo/go", "data": {}})
            killed = await app.caller
            gateways[killed].kill()
            fleet.workers.remove(gateways[killed])
            app.gateways.remove(killed)
            address = f"{app.gateways[0]}/v1/events/{sent.json()['ids'][0]}/runs"
            await asyncio.to_thread(until, lambda: [run["output"] for run in runs_at(address)] == [STEPS])
    assert app.statuses == [200] * STEPS
    assert app.memos == [0, 3]


def runs_at(url: str) -> list[dict[str, Any]]:
    """Return the runs of an event."""
    runs: list[dict[str, Any]] = httpx.get(url).json()["data"]
    return runs
