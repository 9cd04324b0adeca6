"""The page of the endpoints has each of them, and no other."""

import re

from fastapi import FastAPI

from stepstream import App
from stepstream.api.bodies import BodyBudget
from stepstream.gateway.connect.connect_routes import connect_routes
from stepstream.gateway.connect.connect_server import ConnectServer
from stepstream.gateway.rest.parts import RestOptions, RestParts
from stepstream.gateway.rest.realtime_routes import SOCKET_PATH
from stepstream.gateway.rest.routes import rest_routes
from stepstream.gateway.sync.signing_keys import SigningKeys
from stepstream.testing import VirtualEngine
from tests.docs.pages import DOCS
from tests.fakes.facades import facade_of


async def test_each_endpoint_is_documented() -> None:
    """The table of requests has the methods and the paths of the routes."""
    async with VirtualEngine(App("empty")) as engine:
        site = FastAPI()
        site.include_router(rest_routes(RestParts(facade_of(engine.engine), engine.index)))
        async with ConnectServer(SigningKeys(), lambda _: "") as server:
            site.include_router(connect_routes(server, RestOptions(), BodyBudget()))
        paths = site.openapi()["paths"]
    page = (DOCS / "sdk-endpoints.md").read_text("utf-8")
    table = page.partition("## Requests")[2].partition("## Beside")[0]
    firsts = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    documented = {tuple(each.split()) for first in firsts for each in re.findall(r"`([A-Z]+ [^`]+)`", first)}
    over_http = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert documented == over_http | {("GET", SOCKET_PATH)}
