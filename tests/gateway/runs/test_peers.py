"""Which gateway has made a call, by what the app returns, and how a report reaches it."""

import aiohttp
import pytest
from aiohttp import web

from stepstream.gateway.runs.peers import PASSED_ON, Peers
from stepstream.gateway.runs.transport import Unreachable
from stepstream.gateway.wire.signing import SigningKey
from tests.gateway.runs.server import served

OLD, NEW = SigningKey("signkey-test-00ff"), SigningKey("signkey-test-11ff")
HERE, THERE = "http://10.0.0.1:8288", "http://10.0.0.2:8288"


async def test_the_gateway_of_a_call_is_in_its_queue_item() -> None:
    """It is known there by either key, and nowhere if it is this one, has no URL, or the seal is not ours."""
    async with aiohttp.ClientSession() as session:
        here, there = Peers(session, HERE, [NEW, OLD]), Peers(session, THERE, [OLD])
        assert here.of("run.3" + there.place) == THERE
        assert here.of("run.3" + Peers(session, THERE, [NEW, OLD]).place) == THERE
        assert Peers(session, HERE).of("run.3" + Peers(session, THERE).place) == THERE
        assert Peers(session, keys=[NEW]).place == ""
        assert Peers(session, keys=[OLD]).of("run.3" + Peers(session, THERE, [OLD]).place) == ""
        forged = there.place.replace("10.0.0.2", "10.0.0.3")
        for item in ("run.3" + here.place, "run.3", "", forged, "run.3" + Peers(session, THERE).place):
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
