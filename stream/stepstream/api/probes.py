"""The HTTP of a process without an API: is it alive, is it ready, and its metrics."""

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stepstream.api.guards import NO_KEY, knows_key
from stepstream.runtime.metrics import CONTENT_TYPE


def show_ready(unready: str) -> Response:
    """Return the answer of /ready: 200, or 503 with the reason where there is one."""
    if not unready:
        return JSONResponse({"status": "ok"})
    return JSONResponse({"status": "not ready", "reason": unready}, 503)


def make_probes(
    alive: Callable[[], bool], unready: Callable[[], str], metrics: Callable[[], bytes], *, api_key: str = ""
) -> Starlette:
    """Return /health and /ready, which answer 200 or 503, and /metrics, guarded by `api_key` where there is one.

    `unready` says why the process is not ready, and nothing when it is.
    """

    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "ok"}) if alive() else JSONResponse({"status": "lost"}, 503)

    async def ready(_request: Request) -> Response:
        return show_ready(unready())

    async def show_metrics(request: Request) -> Response:
        if not knows_key(request.headers, api_key):
            return JSONResponse({"status": NO_KEY}, 401)
        return Response(metrics(), media_type=CONTENT_TYPE)

    return Starlette(
        routes=[Route("/health", health), Route("/ready", ready), Route("/metrics", show_metrics)],
    )
