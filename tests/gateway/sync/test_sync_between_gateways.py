"""An app that is asked by one gateway registers at another one, which a load balancer chooses."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from stepstream.contract.errors import Conflict
from stepstream.gateway.sync.app_client import AppClient, SyncError
from tests.gateway.exchanges import KEY
from tests.gateway.sync.registering import Gateway, app_at, registration

SENT = registration("py-dev-registration")
HEADERS = {"Authorization": "Bearer x", "X-Inngest-Expected-Server-Kind": "dev"}
OTHER = "http://127.0.0.1:1"


@asynccontextmanager
async def reached(gateway: Gateway) -> AsyncIterator[AppClient]:
    """Run a gateway that others reach, and yield its client of apps."""
    port = unused_port()
    async with gateway.running(f"http://127.0.0.1:{port}") as (client, http):

        async def relay(request: web.Request) -> web.Response:
            body, query = await request.read(), request.query
            answer = await http.post(request.path, params=query, content=body, headers=dict(request.headers))
            return web.Response(status=answer.status_code, body=answer.content, content_type="application/json")

        application = web.Application()
        application.router.add_post("/fn/register", relay)
        async with TestServer(application, port=port):
            yield client


def registering_at(
    http: httpx.AsyncClient, answers: list[httpx.Response]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return the handler of an app that registers through a gateway, and answers with 200 in any case."""

    async def answer(request: web.Request) -> web.Response:
        answers.append(await http.post("/fn/register", params=request.query, json=SENT.body, headers=HEADERS))
        return web.json_response({})

    return answer


async def test_the_gateway_that_asked_gets_the_registration() -> None:
    """Else its command fails, although the app has registered; the app gets the answer of that gateway."""
    first, balanced, answers = Gateway(), Gateway(), list[httpx.Response]()
    async with (
        reached(first) as client,
        balanced.running(OTHER) as (_, http),
        app_at(registering_at(http, answers)) as url,
    ):
        assert (await client.sync(url)).functions == len(SENT.body["functions"])
    assert [(each.status_code, each.json()["ok"]) for each in answers] == [(200, True)]
    assert first.serving
    assert not balanced.serving


async def test_a_refusal_reaches_the_command_and_the_app() -> None:
    """The reason is that of the gateway that asked."""
    first, balanced, answers = Gateway(python={"demo"}), Gateway(), list[httpx.Response]()
    first.registry.fold([b'{"id":"demo-py","app":"demo","triggers":[{"type":"event","event":"go"}]}'])
    async with (
        reached(first) as client,
        balanced.running(OTHER) as (_, http),
        app_at(registering_at(http, answers)) as url,
    ):
        with pytest.raises(Conflict, match="workers that run Python code serve an app 'demo'"):
            await client.sync(url)
    assert answers[0].status_code == 400
    assert "workers that run Python code" in answers[0].json()["error"]


async def test_a_registration_counts_if_the_gateway_that_asked_is_gone() -> None:
    """The app registers at the one that the load balancer chose."""
    balanced = Gateway()
    async with (
        Gateway().running("http://127.0.0.1:9") as (gone, _),
        balanced.running(OTHER) as (_, http),
        app_at(registering_at(http, [])) as url,
    ):
        with pytest.raises(SyncError, match="give each one --peer-url"):
            await gone.sync(url)
    assert balanced.serving


async def test_an_app_cannot_name_a_gateway() -> None:
    """The URL of a gateway is signed: nothing is passed to another one."""
    forged, gateway = f"x-{f'|http://127.0.0.1:9|{KEY}'.encode().hex()}", Gateway()
    async with gateway.running(OTHER) as (_, http):
        for deploy in (forged, "", "x", "x-zz"):
            answer = await http.post("/fn/register", params={"deployId": deploy}, json=SENT.body, headers=HEADERS)
            assert answer.status_code == 200
