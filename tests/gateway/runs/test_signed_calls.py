"""Calls over HTTP to a server of the official Python SDK that only accepts signed ones."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import fastapi
import inngest
import inngest.fast_api
import uvicorn

from stepstream import Event
from stepstream.contract.functions import EventTrigger, FunctionRegistered
from stepstream.contract.history import RunAttemptFailed
from stepstream.gateway.runs.app import RemoteApp
from stepstream.gateway.runs.client import ClientOptions, HttpTransport
from stepstream.gateway.runs.function import RemoteFunction
from stepstream.gateway.wire.signing import SigningKey
from stepstream.testing import VirtualEngine
from tests.fakes.waiting import until
from tests.gateway.exchanges import KEY


@asynccontextmanager
async def server(api: Any) -> AsyncIterator[str]:
    """Serve an application on a free port, and yield the URL of the server."""
    serving = uvicorn.Server(uvicorn.Config(api, port=0, log_config=None, lifespan="off"))
    task = asyncio.ensure_future(serving.serve())
    await until(lambda: serving.started)
    try:
        yield f"http://127.0.0.1:{serving.servers[0].sockets[0].getsockname()[1]}"
    finally:
        serving.should_exit = True
        await task


async def test_an_sdk_in_production_accepts_the_signature() -> None:
    """It verifies the bytes that it reads; a call without a signature is a failed attempt."""
    client = inngest.Inngest(app_id="demo", is_production=True, signing_key=KEY, event_key="key")

    @client.create_function(fn_id="f", trigger=inngest.TriggerEvent(event="demo/go"))
    async def function(ctx: inngest.Context) -> Any:
        async def body() -> Any:
            return ctx.event.data

        return await ctx.step.run("é", body)

    api = fastapi.FastAPI()
    inngest.fast_api.serve(api, client, [function])
    signing, plain = HttpTransport(ClientOptions(SigningKey(KEY))), HttpTransport()
    data = {"number": 1.0, "large": 1e21, "text": "ünï\u2028"}
    async with server(api) as url:
        endpoint = f"{url}/api/inngest?fnId=demo-f&stepId=step"
        registered = FunctionRegistered("demo-f", "demo", (EventTrigger("demo/go"),), endpoint=endpoint)
        app = RemoteApp("demo", plain)
        app.replace([RemoteFunction(registered, server_kind="cloud")])
        async with VirtualEngine(app) as engine:
            await engine.send(Event("demo/go", data))
            assert [each.error.code for each in engine.history if isinstance(each, RunAttemptFailed)] == [
                "unauthorized"
            ]
            app.transport = signing
            await engine.advance("1m")
            assert engine.run("demo-f").output == data
        await signing.close()
        await plain.close()
