"""One site for SDKs and people: the SDKs' paths, our own API below /api, and our page and probes where they were."""

from collections.abc import Sequence

from fastapi import APIRouter, FastAPI
from fastapi.responses import Response
from starlette.exceptions import HTTPException as AnyHttpException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp

from stepstream.contract.errors import StepstreamError
from stepstream.gateway.rest.replies import error_reply

OWN_API = "/api"


def sdk_site(own: ASGIApp, routers: Sequence[APIRouter]) -> FastAPI:
    """Return a site with the routes of SDKs, and our own API and page.

    A few paths of the API, such as /v1/runs/{id}, have another form in the SDKs' protocol, which they have here. The
    whole API is below /api, and at the root what of it no SDK uses: /ui, /metrics, /ready, /v1/bulk.
    """
    site = FastAPI(openapi_url=None, redirect_slashes=False)
    for kind in (StepstreamError, AnyHttpException, Exception):
        site.add_exception_handler(kind, _on_error)
    site.add_exception_handler(ClientDisconnect, _on_disconnect)
    site.mount(OWN_API, own)
    for router in routers:
        site.include_router(router)
    site.mount("/", own)
    return site


async def _on_error(_request: Request, error: Exception) -> Response:
    return error_reply(error)


async def _on_disconnect(_request: Request, _error: Exception) -> Response:
    # No client receives this answer; without it the server would log a traceback for each client that disconnects.
    return Response(status_code=408)
