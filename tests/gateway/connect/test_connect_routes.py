"""The endpoints of Connect over HTTP: starting, leaving a reply, and the list of connections."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from stepstream.api.bodies import BodyBudget
from stepstream.gateway.connect import connect_server
from stepstream.gateway.connect import frames_pb2 as pb
from stepstream.gateway.connect.connect_routes import PROTOBUF, connect_routes
from stepstream.gateway.rest.parts import RestOptions
from stepstream.gateway.wire.signing import ServerKind, SigningKey
from tests.gateway.connect.worker import Server, serving

KEY = SigningKey("signkey-prod-00ff")
CLOUD = RestOptions(ServerKind.CLOUD, signing_keys=[KEY], any_host=True)


@asynccontextmanager
async def clients(
    options: RestOptions | None = None, host: str = "127.0.0.1", url: str = ""
) -> AsyncIterator[tuple[Server, httpx.AsyncClient]]:
    """Yield a server, and a client of its endpoints that names this host."""
    async with serving() as server:
        site = FastAPI()
        site.include_router(connect_routes(server.connect, options or RestOptions(), BodyBudget(), url))
        transport = httpx.ASGITransport(site)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}:8288") as http:
            yield server, http


@pytest.mark.parametrize(
    ("host", "url", "endpoint"),
    [
        ("127.0.0.1", "", "ws://127.0.0.1:{port}/v0/connect"),
        ("[::1]", "", "ws://[::1]:{port}/v0/connect"),
        ("localhost", "wss://connect.example.com/v0/connect", "wss://connect.example.com/v0/connect"),
    ],
)
async def test_worker_gets_the_url_of_the_socket(host: str, url: str, endpoint: str) -> None:
    """At the host that it knows already, unless the settings name a URL; the tokens open a connection."""
    async with clients(host=host, url=url) as (server, http):
        body = pb.StartRequest(exclude_gateways=["stepstream"]).SerializeToString()
        for content in (b"", body):
            answer = await http.post("/v0/connect/start", content=content, headers={"content-type": PROTOBUF})
            assert (answer.status_code, answer.headers["content-type"]) == (200, PROTOBUF)
            started = pb.StartResponse.FromString(answer.content)
            assert started.gateway_endpoint == endpoint.format(port=server.connect.port)
            assert started.gateway_group
            tokens = pb.AuthData(session_token=started.session_token, sync_token=started.sync_token)
            assert server.connect.tokens.accept(started.connection_id, tokens)


async def test_worker_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key, from another site, while the gateway stops or is full, and with a malformed request."""
    found = []
    async with clients(CLOUD) as (_, http):
        for token in ("", f"Bearer {KEY.bearer}", "Bearer 00"):
            answer = await http.post("/v0/connect/start", headers={"authorization": token})
            found.append(answer.status_code)
    async with clients() as (server, http):
        for content, headers in ((b"\xff", {}), (b"", {"origin": "https://example.com"})):
            answer = await http.post("/v0/connect/start", content=content, headers=headers)
            found.append(answer.status_code)
        monkeypatch.setattr(connect_server, "CONNECTIONS_MAX", 0)
        found.append((await http.post("/v0/connect/start")).status_code)
        server.connect.drain()
        answer = await http.post("/v0/connect/start")
    assert found == [401, 200, 401, 400, 403, 429]
    assert (answer.status_code, answer.json()["status"]) == (503, 503)
    assert answer.headers["x-inngest-server-kind"] == "dev"


async def test_reply_that_was_not_acknowledged_is_taken_once() -> None:
    """A reply to a call of another gateway, or a second one, is acknowledged and dropped."""
    async with clients() as (server, http):
        async with server.worker() as worker:
            call = server.call()
            asked = await worker.asked()
            await worker.acknowledge(asked)
            await worker.heartbeat()
        for request in (asked.request_id, asked.request_id, "UNKNOWN"):
            reply = pb.SDKResponse(request_id=request, status=pb.DONE, body=b"42", sdk_version="inngest-js:v4.24.0")
            answer = await http.post("/v0/connect/flush", content=reply.SerializeToString())
            assert pb.FlushResponse.FromString(answer.content).request_id == request
        assert (await call).body == b"42"
        assert (await http.post("/v0/connect/flush", content=b"\xff")).status_code == 400


async def test_connections_are_listed_in_dev_mode() -> None:
    """Test suites of SDKs look for their worker there."""
    path = "/v0/connect/envs/00000000-0000-0000-0000-000000000002/conns"
    mine: dict[str, Any] = {"instance_id": "mine", "worker_manual_readiness_ack": True}
    async with clients() as (server, http), server.worker(**mine) as worker:
        await worker.heartbeat()
        (shown,) = (await http.get(path)).json()["data"]
        assert (shown["id"], shown["instance_id"]) == (worker.started.connection_id, "mine")
        (group,) = shown["all_worker_groups"].values()
        assert shown["synced_worker_groups"] == shown["all_worker_groups"]
        found_group = (await http.get(path.replace("conns", f"groups/{group}"))).json()["data"]
        assert (found_group["synced"], found_group["conns"]) == (True, [shown["id"]])
        assert (await http.get(path.replace("conns", "groups/unknown"))).status_code == 404
        found = [shown["status"]]
        for kind in (pb.WORKER_READY, pb.WORKER_PAUSE):
            await worker.say(kind)
            await worker.heartbeat()
            found += [each["status"] for each in (await http.get(path)).json()["data"]]
    # Suites in Go read the status as a number: connected, ready, draining.
    assert found == [0, 1, 2]
    async with clients(CLOUD) as (_, http):
        assert (await http.get(path, headers={"authorization": f"Bearer {KEY.bearer}"})).status_code == 404
