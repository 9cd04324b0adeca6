"""Workers of the official SDK connect to two gateways on real Kafka; one gateway is killed in the middle of calls."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import inngest
import pytest
from inngest.connect import connect

from tests.kafka.cluster.fleet import Fleet
from tests.kafka.cluster.observed import Observed
from tests.polling import WAIT_S_MAX, until

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.alone]
RUNS = 6


@asynccontextmanager
async def worker_at(url: str, step: Callable[[], Awaitable[str]]) -> AsyncIterator[None]:
    """Connect a worker to a gateway while the block runs."""
    client = inngest.Inngest(app_id="demo", is_production=False, api_base_url=url, event_api_base_url=url)

    @client.create_function(fn_id="f", trigger=inngest.TriggerEvent(event="demo/go"))
    async def function(ctx: inngest.Context) -> list[str]:
        return [await ctx.step.run("one", step), await ctx.step.run("two", step)]

    worker = connect([(client, [function])], instance_id=url, shutdown_signals=[])
    running = asyncio.ensure_future(worker.start())
    try:
        await asyncio.to_thread(until, lambda: connections_of(url) == [url])
        yield
    finally:
        await worker.close()
        # Its gateway may be gone.
        await asyncio.gather(running, return_exceptions=True)


def connections_of(url: str) -> list[str]:
    """Return the instances that are connected to a gateway."""
    return [each["instance_id"] for each in httpx.get(f"{url}/v0/connect/envs/any/conns").json()["data"]]


async def send(url: str) -> list[str]:
    """Send events, and return their ids."""
    async with httpx.AsyncClient() as client:
        events = [{"name": "demo/go", "data": {"n": number}} for number in range(RUNS)]
        ids: list[str] = (await client.post(f"{url}/e/key", json=events)).json()["ids"]
        return ids


def outputs(url: str, ids: list[str]) -> list[Any]:
    """Return the outputs of the runs that events started, None while they are open."""
    runs = [run for id in ids for run in httpx.get(f"{url}/v1/events/{id}/runs").json()["data"]]
    return [run["output"] if run["status"] == "Completed" else None for run in runs]


async def test_runs_follow_the_workers_of_their_app(bootstrap: str, tmp_path: Path) -> None:
    """They wait while none is connected, go to the gateway that has one, and to another one when it is killed."""
    fleet = Fleet(bootstrap, "connected", tmp_path)
    hanging, begun, release = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def first() -> str:
        if hanging.is_set():
            begun.set()
            await release.wait()
        return "first"

    async def second() -> str:
        return "second"

    with fleet, Observed(fleet) as observed:
        fleet.variables["STEPSTREAM_KAFKA_SESSION_S"] = "6"
        fleet.command("topics", "apply", "--shards", "2")
        fleet.add_engine()
        gateways = [fleet.add_gateway(), fleet.add_gateway()]
        await asyncio.to_thread(until, lambda: observed.answers("/ready") == {200})
        urls = [observed.url(each) for each in gateways]
        async with worker_at(urls[0], first):
            ids = await send(urls[1])
            await asyncio.to_thread(until, lambda: outputs(urls[1], ids) == [["first"] * 2] * RUNS)
            hanging.set()
            ids = await send(urls[1])
            async with asyncio.timeout(WAIT_S_MAX):
                await begun.wait()
            gateways[0].kill()
            fleet.workers.remove(gateways[0])
            release.set()
        async with worker_at(urls[1], second):
            await asyncio.to_thread(until, lambda: outputs(urls[1], ids) == [["second"] * 2] * RUNS)
