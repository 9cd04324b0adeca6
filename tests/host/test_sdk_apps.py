"""A process without Python code serves an app of an official SDK that registers with it, and after a restart too."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import structs

from stepstream import App
from stepstream.api.bodies import BodyBudget
from stepstream.api.http import make_api
from stepstream.contract.codec import encode, load_json
from stepstream.contract.functions import FunctionRegistered
from stepstream.gateway.runs.app import RemoteApp
from stepstream.host.sdk_apps import Hosting, Polling, SdkApps, connections_of
from stepstream.host.settings import Settings
from stepstream.testing import VirtualEngine
from tests.fakes.facades import facade_of
from tests.gateway.exchanges import KEY
from tests.gateway.runs.server import served
from tests.gateway.sdk_server import Endpoint, adding_app
from tests.host.developing import serving


async def _refuse(_: Any) -> Any:
    raise AssertionError("no app registers")


HOSTING = Hosting(_refuse, _refuse, _refuse, _refuse, lambda _: None, lambda _: None)


async def one() -> int:
    """Be a step of the app."""
    return 1


@pytest.mark.slow
async def test_app_registers_and_runs_also_after_a_restart(tmp_path: Path, monkeypatch: Any) -> None:
    """The URL of an app is enough; the next process knows the app from the log, before it registers again."""
    endpoint = Endpoint()
    async with served(endpoint.answer) as base:
        url = f"{base}/api/inngest"
        for urls in ([url], []):
            async with serving(tmp_path, urls, monkeypatch) as reporter, asyncio.timeout(120):
                server = f"http://127.0.0.1:{await reporter.port}"
                if urls:
                    endpoint.serve(adding_app(server, one))
                    while await reporter.lines.get() != f"app demo at {url} is registered: 1 function":
                        pass
                async with httpx.AsyncClient(base_url=server) as client:
                    event = {"name": "demo/add", "data": {"n": 40}}
                    answer = (await client.post("/e/key", json=event)).json()
                    ended = await reporter.ends.get()
                    assert (ended.function, load_json(ended.output)) == ("demo-add", 42)
                    runs = (await client.get(f"/v1/events/{answer['ids'][0]}/runs")).json()["data"]
                    assert [run["status"] for run in runs] == ["Completed"]
                    assert (await client.get("/api/v1/runs")).json()["runs"][0]["status"] == "completed"


@pytest.mark.parametrize(
    ("settings", "statuses"),
    [
        (Settings(), [200, 200, 404]),
        (Settings(api_key="api"), [404, 401, 401]),
        (Settings(event_key="event", api_key="api", signing_key=KEY), [401, 401, 401]),
    ],
    ids=["no keys", "API key only", "signing key"],
)
async def test_keys_protect_runs_from_requests_of_sdks(settings: Settings, statuses: list[int]) -> None:
    """Who does not know a key reads nothing by the paths of SDKs that the API key protects elsewhere."""
    sdk = {"x-inngest-sdk": "js:v4"}
    async with VirtualEngine(App("empty")) as engine, connections_of(settings) as connections:
        own = make_api(facade_of(engine.engine), engine.index, bytes, keys=settings.keys)
        apps = SdkApps(settings, connections, HOSTING, Polling())
        publisher, bodies = engine.engine.publisher, BodyBudget()
        site: Any = apps.site(own, facade_of(engine.engine), engine.index, bodies, publisher, is_python=True)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(site), base_url="http://localhost") as client:
            answers = [
                await client.post("/v0/gql", json={"query": "{ apps { id } }"}, headers=sdk),
                await client.get("/v1/events", headers=sdk),
                await client.get("/v1/runs/01M8MW4B2VG100Q5XKED901QHM", headers=sdk),
            ]
    assert [each.status_code for each in answers] == statuses


async def test_own_app_is_not_served_twice() -> None:
    """Of an app that an SDK registered before the process had code of the same name, only the code is served."""
    started = list[str]()
    hosting = Hosting(
        _refuse, _refuse, _refuse, _refuse, lambda app: started.append(app.name), lambda _: None, own="shop"
    )
    records = [encode(FunctionRegistered(f"{app}-a", app, endpoint="http://example.com/")) for app in ("shop", "demo")]
    async with connections_of(Settings()) as connections:
        SdkApps(Settings(), connections, hosting, Polling()).restore(records)
    assert started == ["demo"]


@pytest.mark.parametrize("moved", [{"endpoint": ""}, {"app": "other", "endpoint": ""}, {"app": "other"}])
async def test_function_leaves_the_app_of_an_sdk(moved: dict[str, str]) -> None:
    """An app that has moved to workers with Python code, in the log or while it is served, stops no process."""
    started = dict[str, RemoteApp]()
    hosting = replace(HOSTING, start=lambda app: started.update({app.name: app}))
    before = FunctionRegistered("shop-a", "shop", endpoint="http://example.com/")
    records = [encode(before), encode(structs.replace(before, **moved))]
    async with connections_of(Settings()) as connections:
        SdkApps(Settings(), connections, hosting, Polling()).restore(records)
        assert "shop" not in started
        apps = SdkApps(Settings(), connections, hosting, Polling())
        for record in records:
            apps.restore([record])
        assert not started["shop"].functions
        assert ("other" in started) == bool(moved.get("app") and "endpoint" not in moved)
