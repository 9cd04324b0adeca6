"""The HTTP of a process without an API: whether it is alive, whether it is ready, and its metrics."""

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stepstream.api.guards import NO_KEY, knows_key
from stepstream.runtime.metrics import CONTENT_TYPE


def ready_response(unready: str) -> Response:
    """Return the answer of /ready: 200, or 503 with the reason why the process is not ready."""
    if not unready:
        return JSONResponse({"status": "ok"})
    return JSONResponse({"status": "not ready", "reason": unready}, 503)


def make_probes(
    alive: Callable[[], bool], unready: Callable[[], str], metrics: Callable[[], bytes], *, api_key: str = ""
) -> Starlette:
    """Return /health and /ready, which answer 200 or 503, and /metrics, which needs the API key if there is one.

    `unready` says why the process is not ready, and is empty when it is.
    """

    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "ok"}) if alive() else JSONResponse({"status": "lost"}, 503)

    async def ready(_request: Request) -> Response:
        return ready_response(unready())

    async def show_metrics(request: Request) -> Response:
        if not knows_key(request.headers, api_key):
            return JSONResponse({"status": NO_KEY}, 401)
        return Response(metrics(), media_type=CONTENT_TYPE)

    probes = Starlette(
        routes=[Route("/health", health), Route("/ready", ready), Route("/metrics", show_metrics)],
    )
    probes.router.redirect_slashes = False
    return probes
