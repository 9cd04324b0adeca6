"""Which gateway has made a call, by what the app returns, and how a report reaches it."""

from contextlib import AsyncExitStack

import aiohttp
import pytest
from aiohttp import web

from stepstream.gateway.runs.peers import EPOCH, PASSED_ON, Peers, RunInput, client_at
from stepstream.gateway.runs.transport import Unreachable
from stepstream.gateway.wire.signing import SigningKey
from tests.gateway.runs.server import Handler, served

OLD, NEW = SigningKey("signkey-test-00ff"), SigningKey("signkey-test-11ff")
HERE, THERE = "http://10.0.0.1:8288", "http://10.0.0.2:8288"


async def test_the_gateway_of_a_call_is_in_its_queue_item() -> None:
    """It is known there by either key, and nowhere if it is this one, has no URL, or the seal is not ours."""
    async with aiohttp.ClientSession() as session:
        here, there = Peers(session, HERE, [NEW, OLD]), Peers(session, THERE, [OLD])
        assert here.of("run.3" + there.signed_url) == THERE
        assert here.of("run.3" + Peers(session, THERE, [NEW, OLD]).signed_url) == THERE
        assert Peers(session, HERE).of("run.3" + Peers(session, THERE).signed_url) == THERE
        assert Peers(session, keys=[NEW]).signed_url == ""
        assert Peers(session, keys=[OLD]).of("run.3" + Peers(session, THERE, [OLD]).signed_url) == ""
        forged = there.signed_url.replace("10.0.0.2", "10.0.0.3")
        for item in ("run.3" + here.signed_url, "run.3", "", forged, "run.3" + Peers(session, THERE).signed_url):
            assert here.of(item) == ""


async def test_a_report_is_passed_on_with_its_authorization() -> None:
    """The status of the answer is returned; no answer is an error, after which the app reports again."""
    seen: list[tuple[str, bytes, str, str]] = []

    async def handler(request: web.Request) -> web.Response:
        headers = request.headers
        seen.append((request.path, await request.read(), headers["Authorization"], headers[PASSED_ON]))
        return web.Response(status=409)

    async with served(handler) as url, aiohttp.ClientSession() as session:
        peers = Peers(session)
        assert await peers.pass_on(url, "/v1/checkpoint/R/async", b"{}", "Bearer x") == 409
        with pytest.raises(Unreachable, match=r"the gateway at http://127\.0\.0\.1:9 does not answer"):
            await peers.pass_on("http://127.0.0.1:9", "/v1/checkpoint/R/async", b"{}", "")
    assert seen == [("/v1/checkpoint/R/async", b"{}", "Bearer x", "1")]


PATH = "/v0/runs/R/actions"


def having(body: str, epoch: int, status: int = 200) -> Handler:
    """Return a gateway that has a run under an epoch."""

    async def handler(request: web.Request) -> web.Response:
        assert (request.path, request.headers["Authorization"], request.headers[PASSED_ON]) == (PATH, "Bearer x", "1")
        return web.Response(status=status, text=body, headers={EPOCH: str(epoch)})

    return handler


async def fetched(*gateways: Handler, gone: bool = False) -> RunInput | None:
    """Return what one more gateway finds at these; with `gone`, another one does not answer."""
    async with AsyncExitStack() as stack, aiohttp.ClientSession() as session:
        urls = [await stack.enter_async_context(served(each)) for each in gateways]
        urls += ["http://127.0.0.1:9"] if gone else []
        clients = [client_at("stepstream-gateway-1-3", Peers(session, url, [OLD]).signed_url) for url in urls]

        async def members() -> list[str]:
            return ["stepstream-0123456789ab-1-3", *clients]

        return await Peers(session, HERE, [NEW, OLD], members).fetch(PATH, "Bearer x")


async def test_input_of_a_run_comes_from_the_gateway_with_the_latest_claim() -> None:
    """One that lost the run may still have less of it; those that do not have it, or are gone, do not matter then."""
    absent, old, new = having("", 0, 410), having('{"a":1}', 1), having('{"a":1,"b":2}', 2)
    assert await fetched(absent, new, old, gone=True) == RunInput(b'{"a":1,"b":2}', 2)
    assert await fetched(absent) is None
    for handlers, gone in (((absent,), True), ((absent, having("", 1, 503)), False)):
        with pytest.raises(Unreachable, match="does not answer"):
            await fetched(*handlers, gone=gone)
