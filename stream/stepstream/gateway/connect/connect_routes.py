"""The endpoints of Connect over HTTP: where a worker starts, and where it leaves a reply that was not acknowledged."""

from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response

from stepstream.api.bodies import BodyBudget
from stepstream.contract.limits import MIB
from stepstream.gateway.connect import frames_pb2 as pb
from stepstream.gateway.connect.connect_server import PATH, ConnectServer
from stepstream.gateway.connect.frames import FRAME_BYTES_MAX, read
from stepstream.gateway.connect.worker_connection import WorkerConnection
from stepstream.gateway.rest.access import guard, refuse_foreign
from stepstream.gateway.rest.parts import RestOptions
from stepstream.gateway.rest.replies import not_found, route_class
from stepstream.gateway.wire.signing import ServerKind

PROTOBUF = "application/protobuf"
START_BYTES_MAX = MIB


def connect_routes(server: ConnectServer, options: RestOptions, bodies: BodyBudget, url: str = "") -> APIRouter:
    """Return the endpoints; workers connect at `url`, by default on the port of the server at the host they name."""
    checks = [Depends(refuse_foreign(options)), Depends(guard(options))]
    router = APIRouter(route_class=route_class(options.kind), dependencies=checks)

    @router.post("/v0/connect/start")
    async def start(request: Request) -> Response:
        async with bodies.body(request, START_BYTES_MAX) as body:
            # It may name gateways to avoid; all of them have one name.
            read(pb.StartRequest, body)
        if not server.port or server.draining:
            raise HTTPException(503, "this gateway takes no workers now; try again")
        if server.is_full:
            raise HTTPException(429, "too many workers are connected to this gateway")
        return _protobuf(server.tokens.start(url or _url(request.url.hostname or "", server.port)))

    @router.post("/v0/connect/flush")
    async def flush(request: Request) -> Response:
        async with bodies.body(request, FRAME_BYTES_MAX) as body:
            reply = read(pb.SDKResponse, body)
        server.calls.reply(reply)
        return _protobuf(pb.FlushResponse(request_id=reply.request_id))

    @router.get("/v0/connect/envs/{environment}/conns")
    async def list_connections(environment: str) -> dict[str, Any]:
        if options.kind != ServerKind.DEV:
            raise not_found(f"list of connections in {environment!r}")
        return {"data": [_shown(each) for each in server.calls.connections]}

    return router


def _shown(connection: WorkerConnection) -> dict[str, Any]:
    apps = [{"name": app.name, "version": app.version} for app in connection.apps.values()]
    status = connection.status.upper()
    return {"id": connection.id, "instance_id": connection.instance, "status": status, "apps": apps}


def _protobuf(message: pb.StartResponse | pb.FlushResponse) -> Response:
    return Response(message.SerializeToString(), media_type=PROTOBUF)


def _url(host: str, port: int) -> str:
    return f"ws://[{host}]:{port}{PATH}" if ":" in host else f"ws://{host}:{port}{PATH}"
