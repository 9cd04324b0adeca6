"""Two gateways on real Kafka serve an app of an official SDK; one is killed in the middle of a call."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway.runs.server import served
from tests.gateway.sdk_server import Endpoint, adding_app
from tests.kafka.cluster.fleet import Fleet, Member
from tests.kafka.cluster.observed import Observed
from tests.polling import until

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.alone]
WAIT_S_MAX = 180.0


class Steps:
    """The step of the app: its first call does not return, and its fourth one waits for `release`."""

    def __init__(self) -> None:
        self.calls = 0
        self.called = [asyncio.Event() for _ in range(5)]
        self.release = asyncio.Event()

    async def one(self) -> int:
        """Return 1."""
        self.calls += 1
        self.called[self.calls].set()
        if self.calls == 1:
            await asyncio.get_running_loop().create_future()
        if self.calls == 4:
            await self.release.wait()
        return 1


async def test_killed_gateway_loses_no_run(bootstrap: str, tmp_path: Path) -> None:
    """The first registration creates the topic of the app; another gateway repeats the call of the killed one."""
    fleet, endpoint, steps = Fleet(bootstrap, "gateway", tmp_path), Endpoint(), Steps()
    with fleet, Observed(fleet) as observed:
        fleet.variables["STEPSTREAM_KAFKA_SESSION_S"] = "6"
        fleet.command("topics", "apply", "--shards", "1")
        fleet.add_engine()
        first = fleet.add_gateway()
        async with served(endpoint.answer) as base:
            await asyncio.to_thread(until, lambda: observed.answers("/ready") == {200})
            # Later its log has other URLs.
            url = observed.url(first)
            endpoint.serve(adding_app(url, steps.one))
            synced = await asyncio.to_thread(fleet.command, "gateway", "sync", f"{base}/api/inngest", "--url", url)
            assert synced == "app demo: 1 function, changed\n"
            async with httpx.AsyncClient() as client:
                sent = await client.post(f"{url}/e/key", json={"name": "demo/add", "data": {"n": 40}})
            async with asyncio.timeout(WAIT_S_MAX):
                await steps.called[1].wait()
            second = fleet.add_gateway("--drain-s", "120")
            first.kill()
            fleet.workers.remove(first)
            await asyncio.to_thread(until, lambda: observed.answers("/ready") == {200})
            address = f"{observed.url(second)}/v1/events/{sent.json()['ids'][0]}/runs"
            await asyncio.to_thread(until, lambda: [run["status"] for run in runs_at(address)] == ["Completed"])
            assert [run["output"] for run in runs_at(address)] == [42]
            assert steps.calls == 3
            await drain(second, observed.url(second), steps)


async def drain(gateway: Member, url: str, steps: Steps) -> None:
    """Stop a gateway during a call: it still answers the app, and ends once the call has ended."""
    assert gateway.process is not None
    async with httpx.AsyncClient(base_url=url) as client, asyncio.timeout(WAIT_S_MAX):
        await client.post("/e/key", json={"name": "demo/add", "data": {"n": 1}})
        await steps.called[4].wait()
        gateway.process.terminate()
        await asyncio.to_thread(until, lambda: bool(gateway.said("running calls have")))
        assert (await client.get("/ready")).status_code == 503
        assert (await client.post("/e/key", json={"name": "demo/other"})).status_code == 200
        steps.release.set()
        assert await asyncio.to_thread(gateway.process.wait) == 0
    assert not gateway.said("did not finish")


def runs_at(url: str) -> list[dict[str, Any]]:
    """Return the runs of an event."""
    runs: list[dict[str, Any]] = httpx.get(url).json()["data"]
    return runs
