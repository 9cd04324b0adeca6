"""Apps whose workers connect: the real SDK against `stepstream dev`, and when a gateway on Kafka serves them."""

import asyncio
import contextlib
import datetime
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import inngest
import pytest
from inngest.connect import connect

from stepstream.contract.codec import load_json
from stepstream.contract.functions import FunctionRegistered
from stepstream.gateway.connect import frames_pb2 as pb
from stepstream.gateway.runs.app import RemoteApp
from stepstream.gateway.runs.function import RemoteFunction
from stepstream.host.connect_port import listen_for_workers
from stepstream.host.connected_apps import keep_serving_app
from stepstream.host.settings import Settings, SettingsError
from tests.fakes.waiting import iterate, until
from tests.gateway.connect.worker import NoHttp
from tests.gateway.connect.worker import serving as serving_workers
from tests.host.developing import Reporter, serving

GO = inngest.TriggerEvent(event="demo/go")


def client_at(url: str) -> inngest.Inngest:
    """Return the client of an app in development mode."""
    return inngest.Inngest(app_id="demo", is_production=False, api_base_url=url, event_api_base_url=url)


@asynccontextmanager
async def connected(client: inngest.Inngest, reporter: Reporter, *functions: Any) -> AsyncIterator[None]:
    """Connect a worker of the SDK while the block runs."""
    worker = connect([(client, list(functions))], instance_id="mine", shutdown_signals=[])
    running = asyncio.ensure_future(worker.start())
    try:
        while not (line := await reporter.lines.get()).startswith("worker mine of demo (py:v"):
            assert not running.done(), line
        yield
    finally:
        await worker.close()
        await running


def functions_of(client: inngest.Inngest, http: httpx.AsyncClient, ran: list[str]) -> list[Any]:
    """Return a function with steps of most kinds, which sends the event that it waits for, and one that fails."""

    async def body(name: str) -> str:
        ran.append(name)
        return name.upper()

    async def send() -> None:
        await http.post("/e/key", json={"name": "demo/reply", "data": {"n": 1}})

    async def fail() -> None:
        raise ValueError("no use")

    @client.create_function(fn_id="work", trigger=GO, retries=0)
    async def work(ctx: inngest.Context) -> Any:
        first = await ctx.step.run("first", body, "a")
        await ctx.step.sleep("nap", datetime.timedelta(milliseconds=10))
        hour = datetime.timedelta(hours=1)
        found: Any = await ctx.group.parallel(
            (
                lambda: ctx.step.run("b", body, "b"),
                lambda: ctx.step.run("c", body, "c"),
                lambda: ctx.step.wait_for_event("reply", event="demo/reply", timeout=hour),
                lambda: ctx.step.run("send", send),
            )
        )
        try:
            await ctx.step.run("fail", fail)
        except inngest.StepError as error:
            return [first, *found[:2], found[2] and found[2].data, error.message]

    @client.create_function(fn_id="broken", trigger=GO, retries=0)
    async def broken(ctx: inngest.Context) -> None:
        raise inngest.NonRetriableError("broken for good")

    return [work, broken]


@pytest.mark.slow
async def test_functions_of_the_sdk_run_over_connect(tmp_path: Path, monkeypatch: Any) -> None:
    """Steps, parallel steps, a sleep, a wait and failures: each run ends as with an app that is called over HTTP."""
    ran = list[str]()
    async with serving(tmp_path, [], monkeypatch) as reporter, asyncio.timeout(120):
        url = f"http://127.0.0.1:{await reporter.port}"
        client = client_at(url)
        async with httpx.AsyncClient(base_url=url) as http:
            # Nothing has registered yet, so this event starts no run.
            await http.post("/e/key", json={"name": "demo/go", "data": {}})
            async with connected(client, reporter, *functions_of(client, http, ran)):
                path = "/v0/connect/envs/any/conns"
                (shown,) = (await http.get(path)).json()["data"]
                # The number of READY in the frames.
                assert (shown["instance_id"], shown["status"]) == ("mine", 1)
                await http.post("/e/key", json={"name": "demo/go", "data": {}})
                ends = {end.function: end for end in [await reporter.ends.get(), await reporter.ends.get()]}
            assert (await http.get(path)).json()["data"] == []
    assert load_json(ends["demo-work"].output) == ["A", "B", "C", {"n": 1}, "no use"]
    assert sorted(ran) == ["a", "b", "c"]
    error = ends["demo-broken"].error
    assert error is not None
    assert (error.name, error.message) == ("NonRetriableError", "broken for good")


class Place:
    """Notes whether an app is served."""

    def __init__(self) -> None:
        self.served: list[str] = []

    def start(self, app: RemoteApp) -> None:
        """Serve an app."""
        self.served.append(app.name)

    async def leave(self, name: str, _seconds: float) -> None:
        """Serve it no longer."""
        self.served.remove(name)


def app_at(endpoint: str) -> RemoteApp:
    """Return an app with one function at this URL."""
    app = RemoteApp("demo", NoHttp())
    app.replace([RemoteFunction(FunctionRegistered("demo-f", "demo", endpoint=endpoint))])
    return app


async def test_gateway_serves_an_app_while_a_worker_is_connected() -> None:
    """Runs go to gateways that can call the app; one that is called over HTTP is served everywhere."""
    place: Any = Place()
    async with serving_workers() as server:
        app = app_at("wss://connect?fnId=demo-f")
        keeping = asyncio.ensure_future(keep_serving_app(app, place, server.connect, 1.0, gone_s=0.01))
        await iterate()
        assert place.served == []
        async with server.worker(worker_manual_readiness_ack=True) as worker:
            await worker.heartbeat()
            assert place.served == []
            await worker.say(pb.WORKER_READY)
            await until(lambda: place.served == ["demo"])
        await until(lambda: place.served == [])
        app.replace(app_at("http://app.test/?fnId=demo-f"))
        server.connect.calls.changed.notify()
        await until(lambda: place.served == ["demo"])
        app.replace(())
        server.connect.calls.changed.notify()
        await until(lambda: place.served == [])
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_gateway_stays_while_workers_connect_again() -> None:
    """The group of the app is not rebalanced for a moment without a worker."""
    place: Any = Place()
    async with serving_workers() as server:
        keeping = asyncio.ensure_future(keep_serving_app(app_at("wss://connect"), place, server.connect, 1.0))
        for _ in range(2):
            async with server.worker():
                await until(lambda: place.served == ["demo"])
            await until(lambda: not server.connect.calls.connections)
            await iterate()
            assert place.served == ["demo"]
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


def test_port_for_workers_follows_the_other_one() -> None:
    """A port that is taken is replaced, unless the settings name it."""
    with contextlib.ExitStack() as sockets:
        first = sockets.enter_context(socket.create_server(("127.0.0.1", 0)))
        taken = first.getsockname()[1]
        for settings in (Settings(port=taken - 1), Settings(port=0), Settings(port=taken, metrics_port=taken + 1)):
            listener = listen_for_workers(settings)
            assert listener is not None
            sockets.enter_context(listener)
            assert listener.getsockname()[1] not in (taken, taken + 1)
        with pytest.raises(SettingsError, match="--connect-port"):
            listen_for_workers(Settings(connect_port=taken))
        assert listen_for_workers(Settings(api_key="secret")) is None


@pytest.mark.parametrize("url", ["10.0.0.7:8288", "http://10.0.0.7:8288/", "http://a|b"])
def test_url_for_other_gateways_has_no_path(url: str) -> None:
    """The message says what is expected."""
    with pytest.raises(SettingsError, match=r"peer_url .*, such as http://10\.0\.0\.7:8288"):
        Settings(peer_url=url)
    assert Settings(peer_url="http://10.0.0.7:8288").peer_url


def test_url_for_workers_is_one_of_a_web_socket() -> None:
    """The message says what is expected."""
    with pytest.raises(SettingsError, match=r"wss://connect\.example\.com/v0/connect"):
        Settings(connect_url="https://connect.example.com")
