"""The HTTP of a process without an API: is it alive, is it ready, and its metrics."""

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stepstream.api.guards import NO_KEY, knows_key
from stepstream.runtime.metrics import CONTENT_TYPE


def make_probes(
    alive: Callable[[], bool], ready: Callable[[], bool], metrics: Callable[[], bytes], *, api_key: str = ""
) -> Starlette:
    """Return /health and /ready, which answer 200 or 503, and /metrics, guarded by `api_key` where there is one."""

    async def show(_request: Request, holds: Callable[[], bool], no: str) -> Response:
        return JSONResponse({"status": "ok"}) if holds() else JSONResponse({"status": no}, 503)

    async def health(request: Request) -> Response:
        return await show(request, alive, "lost")

    async def show_ready(request: Request) -> Response:
        return await show(request, ready, "not ready")

    async def show_metrics(request: Request) -> Response:
        if not knows_key(request.headers, api_key):
            return JSONResponse({"status": NO_KEY}, 401)
        return Response(metrics(), media_type=CONTENT_TYPE)

    return Starlette(
        routes=[Route("/health", health), Route("/ready", show_ready), Route("/metrics", show_metrics)],
    )
