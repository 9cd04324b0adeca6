"""The endpoints of Connect over HTTP: where a worker starts, and where it leaves a reply that was not acknowledged."""

from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response

from stepstream.api.bodies import BodyBudget
from stepstream.contract.limits import MIB
from stepstream.gateway.connect import frames_pb2 as pb
from stepstream.gateway.connect.connect_server import PATH, ConnectServer
from stepstream.gateway.connect.frames import FRAME_BYTES_MAX, read
from stepstream.gateway.connect.worker_connection import CONNECTION_STATUSES, WorkerConnection
from stepstream.gateway.rest.access import guard, refuse_foreign
from stepstream.gateway.rest.parts import RestOptions
from stepstream.gateway.rest.replies import not_found, route_class
from stepstream.gateway.wire.calls import app_uuid
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

    if options.kind == ServerKind.DEV:
        _add_lists(router, server)
    return router


def _add_lists(router: APIRouter, server: ConnectServer) -> None:
    """Add what only test suites ask for: the connected workers, and those that serve one version of an app."""

    @router.get("/v0/connect/envs/{environment}/conns")
    async def list_connections(environment: str) -> dict[str, Any]:  # noqa: ARG001 - there is one environment
        return {"data": [_shown(each) for each in server.calls.connections]}

    @router.get("/v0/connect/envs/{environment}/groups/{group}")
    async def show_group(environment: str, group: str) -> dict[str, Any]:  # noqa: ARG001 - there is one environment
        found = [each for each in server.calls.connections if group in _groups(each).values()]
        if not found:
            raise not_found(f"group of workers {group!r}")
        app = next(name for name, each in _groups(found[0]).items() if each == group)
        # A worker is connected once its functions are registered.
        return {"data": {"hash": group, "app_name": app, "synced": True, "conns": [each.id for each in found]}}


def _groups(connection: WorkerConnection) -> dict[str, str]:
    """Return the groups of a worker: those that serve the same version of an app are one group."""
    return {app.name: app_uuid(f"{app.name}@{app.version}") for app in connection.apps.values()}


def _shown(connection: WorkerConnection) -> dict[str, Any]:
    groups = _groups(connection)
    return {
        "id": connection.id,
        "instance_id": connection.instance,
        # As a number, which test suites in Go read.
        "status": CONNECTION_STATUSES.index(connection.status),
        "all_worker_groups": groups,
        "synced_worker_groups": groups,
    }


def _protobuf(message: pb.StartResponse | pb.FlushResponse) -> Response:
    return Response(message.SerializeToString(), media_type=PROTOBUF)


def _url(host: str, port: int) -> str:
    return f"ws://[{host}]:{port}{PATH}" if ":" in host else f"ws://{host}:{port}{PATH}"
