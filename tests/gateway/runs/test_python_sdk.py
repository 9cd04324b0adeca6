"""Functions of the official Python SDK, served in this process: every kind of step against the engine."""

import datetime
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import fastapi
import httpx
import inngest
import inngest.fast_api
from aiohttp import web

from stepstream import Event
from stepstream.contract.functions import EventTrigger, FunctionRegistered
from stepstream.gateway.runs.app import RemoteApp
from stepstream.gateway.runs.function import RemoteFunction
from stepstream.gateway.runs.transport import Request, Response
from stepstream.testing import VirtualEngine
from tests.gateway.runs.server import served

GO = Event("demo/go", {"n": 7})
HOUR, MINUTE = datetime.timedelta(hours=1), datetime.timedelta(minutes=1)
SAME = "event.data.n == async.data.n"
TRIGGER = inngest.TriggerEvent(event="demo/go")


class InProcess:
    """Calls an ASGI application without a socket."""

    def __init__(self, app: Any) -> None:
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app))
        self.calls = 0

    async def request(self, request: Request) -> Response:
        """Make no request: no test needs one."""
        raise NotImplementedError(request.url)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Send a call."""
        self.calls += 1
        found = await self._client.post(url, headers=dict(headers), content=body)
        return Response(found.status_code, found.headers, found.content)


class World:
    """An engine that runs functions of the SDK."""

    def __init__(self, engine: VirtualEngine, calls: InProcess) -> None:
        self.engine, self.calls = engine, calls


def client_of(**more: Any) -> inngest.Inngest:
    """Return the client of an app in development mode."""
    return inngest.Inngest(app_id="demo", is_production=False, **more)


def remote(id: str, retries: int, *, starts: bool) -> RemoteFunction:
    """Return a function as it would be registered."""
    triggers = (EventTrigger("demo/go"),) if starts else ()
    endpoint = f"http://app.test/api/inngest?fnId={id}&stepId=step"
    return RemoteFunction(
        FunctionRegistered(id, "demo", triggers, retries=retries, endpoint=endpoint, sdk="py:v0.5.19")
    )


@asynccontextmanager
async def world(client: inngest.Inngest, *functions: Any, retries: int = 4) -> AsyncIterator[World]:
    """Run functions of the SDK in an engine in memory; those without the trigger are invoked."""
    api = fastapi.FastAPI()
    inngest.fast_api.serve(api, client, list(functions))
    transport = InProcess(api)
    app = RemoteApp("demo", transport)
    app.replace(remote(function.id, retries, starts=function is functions[0]) for function in functions)
    # The SDK sends the end of a sleep as a date of its own clock.
    async with VirtualEngine(app, now_ms=time.time_ns() // 1_000_000) as engine:
        yield World(engine, transport)


async def test_three_steps() -> None:
    """Each step runs once, and the function returns their results."""
    client, ran = client_of(), list[str]()

    @client.create_function(fn_id="f", trigger=TRIGGER)
    async def function(ctx: inngest.Context) -> dict[str, Any]:
        async def body(name: str) -> str:
            ran.append(name)
            return name.upper()

        a = await ctx.step.run("a", body, "a")
        b = await ctx.step.run("b", body, "b")
        c = await ctx.step.run("c", body, "c")
        return {"all": a + b + c, "n": ctx.event.data["n"], "attempt": ctx.attempt}

    async with world(client, function) as found:
        await found.engine.send(GO)
        run = found.engine.run("demo-f")
    assert (run.status, run.output) == ("completed", {"all": "ABC", "n": 7, "attempt": 0})
    assert ran == ["a", "b", "c"]
    assert found.calls.calls == 4


async def test_a_step_is_retried_and_its_last_error_can_be_caught() -> None:
    """The second attempt succeeds; a step that always raises is an error of the SDK in the code."""
    client, attempts = client_of(), list[int]()

    @client.create_function(fn_id="f", trigger=TRIGGER)
    async def function(ctx: inngest.Context) -> list[str]:
        async def flaky() -> str:
            attempts.append(ctx.attempt)
            if len(attempts) == 1:
                raise ValueError("first")
            return "second"

        async def broken() -> None:
            raise KeyError("always")

        first = await ctx.step.run("flaky", flaky)
        try:
            await ctx.step.run("broken", broken)
        except inngest.StepError as error:
            return [first, error.name, error.message]
        return []

    async with world(client, function, retries=1) as found:
        await found.engine.send(GO)
        await found.engine.advance("1h")
        run = found.engine.run("demo-f")
    assert run.output == ["second", "KeyError", "'always'"]
    assert attempts == [0, 1]


async def test_parallel_steps_with_a_sleep_and_a_wait() -> None:
    """They are one group: the code continues once, with all results."""
    client = client_of()

    @client.create_function(fn_id="f", trigger=TRIGGER)
    async def function(ctx: inngest.Context) -> Any:
        async def number(value: int) -> int:
            return value

        results = await ctx.group.parallel(
            (
                lambda: ctx.step.run("one", number, 1),
                lambda: ctx.step.run("two", number, 2),
                lambda: ctx.step.wait_for_event("w", event="demo/reply", if_exp=SAME, timeout=HOUR),
            )
        )
        await ctx.step.sleep("nap", MINUTE)
        return [getattr(each, "data", each) for each in results]

    async with world(client, function) as found:
        await found.engine.send(GO)
        await found.engine.send(Event("demo/reply", {"n": 8}))
        await found.engine.send(Event("demo/reply", {"n": 7}))
        await found.engine.advance("2m")
        run = found.engine.run("demo-f")
    assert (run.status, run.output) == ("completed", [1, 2, {"n": 7}])


async def test_invoke_and_the_error_of_the_invoked_function() -> None:
    """The code gets the result of a function, and the error of one that fails for good."""
    client = client_of()

    @client.create_function(fn_id="double", trigger=inngest.TriggerEvent(event="x"))
    async def double(ctx: inngest.Context) -> Any:
        return [ctx.event.data["x"]] * 2

    @client.create_function(fn_id="bad", trigger=inngest.TriggerEvent(event="x"))
    async def bad(ctx: inngest.Context) -> None:
        raise inngest.NonRetriableError("no use")

    @client.create_function(fn_id="f", trigger=TRIGGER)
    async def function(ctx: inngest.Context) -> Any:
        pair = await ctx.step.invoke("double", function=double, data={"x": 2})
        try:
            await ctx.step.invoke("bad", function=bad)
        except inngest.StepError as error:
            return [pair, error.message]

    async with world(client, function, double, bad) as found:
        await found.engine.send(GO)
        run = found.engine.run("demo-f")
    assert run.output == [[2, 2], "no use"]


async def test_send_event() -> None:
    """The SDK sends the event itself, and its ids are the result of the step."""
    received: list[Any] = []

    async def events(request: web.Request) -> web.Response:
        received.append(await request.json())
        return web.json_response({"ids": ["01J"], "status": 200})

    async with served(events) as url:
        client = client_of(event_api_base_url=url)

        @client.create_function(fn_id="f", trigger=TRIGGER)
        async def function(ctx: inngest.Context) -> Any:
            return await ctx.step.send_event("send", inngest.Event(name="demo/other", data={"k": 1}))

        async with world(client, function) as found:
            await found.engine.send(GO)
            run = found.engine.run("demo-f")
        # The SDK has no way to close it.
        await client._http_client._http_client.aclose()
    assert run.output == ["01J"]
    assert received[0][0]["name"] == "demo/other"


async def test_code_that_raises_fails_the_run_after_its_attempts() -> None:
    """The run has the error of the last attempt."""
    client = client_of()

    @client.create_function(fn_id="f", trigger=TRIGGER)
    async def function(ctx: inngest.Context) -> None:
        raise ValueError(f"attempt {ctx.attempt}")

    async with world(client, function, retries=1) as found:
        await found.engine.send(GO)
        await found.engine.advance("1h")
        run = found.engine.run("demo-f")
    assert run.status == "failed"
    assert isinstance(run.error, dict)
    assert (run.error["name"], run.error["message"]) == ("ValueError", "attempt 1")
