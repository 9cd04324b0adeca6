"""The routes of the page, with the headers that keep hostile values from running in a browser."""

import logging
from collections.abc import Awaitable, Callable

import htpy as h
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stepstream.api.guards import foreign_reason, knows_key
from stepstream.api.pages.actions import cancel_run
from stepstream.api.pages.assets import ROOT, asset
from stepstream.api.pages.components import note, url
from stepstream.api.pages.context import PageError, Site, html, see
from stepstream.api.pages.layout import document
from stepstream.api.pages.raw import show_raw
from stepstream.api.pages.run_page import show_run
from stepstream.api.pages.runs_page import find_run, show_runs
from stepstream.contract.errors import StepstreamError

logger = logging.getLogger(__name__)
Handler = Callable[[Site, Request], Awaitable[Response]]
HEADERS = {
    # All scripts and styles are files of the page; nothing inline runs, nothing is evaluated, no other site frames it.
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # A browser that sends no referrer would send forms with the origin "null".
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/runs", show_runs),
    ("GET", "/runs/{run_id}", show_run),
    ("GET", "/runs/{run_id}/raw", show_raw),
    ("POST", "/runs/{run_id}/cancel", cancel_run),
    ("GET", "/find", find_run),
)


class _Headers:
    """Adds the headers of every response; a response that says nothing about caching is not cached."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)


def make_site(site: Site, api_key: str, *, is_loopback_only: bool) -> ASGIApp:
    """Return the page, to be mounted at ROOT. While a key is missing, it refuses requests from elsewhere."""

    def handle(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                _check(request, api_key, is_loopback_only=is_loopback_only)
                return await handler(site, request)
            except PageError as error:
                return _error_page(error)
            except StepstreamError as error:
                return _error_page(PageError(503, str(error)))
            except Exception:
                logger.exception("the page failed to answer %s %s", request.method, request.url.path)
                return _error_page(PageError(500, "The engine failed to render this page; see its log."))

        return answer

    async def show_asset(request: Request) -> Response:
        return asset(request.path_params["digest"], request.path_params["name"])

    async def show_first(_site: Site, _request: Request) -> Response:
        return see(url("runs"))

    async def show_missing(_site: Site, request: Request) -> Response:
        raise PageError(404, f"There is no page {request.url.path}.")

    routes = [Route(path, handle(handler), methods=[method]) for method, path, handler in _ROUTES]
    routes += [
        Route("/static/{digest}/{name:path}", show_asset),
        Route("/", handle(show_first)),
        Route("/{path:path}", handle(show_missing)),
    ]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return _Headers(app)


def _check(request: Request, api_key: str, *, is_loopback_only: bool) -> None:
    """Raise PageError for a request that may not see the page."""
    if is_loopback_only and (reason := foreign_reason(request.headers)):
        raise PageError(403, reason)
    if not knows_key(request.headers, api_key):
        raise PageError(401, "This page needs the API key of the engine.")


def _error_page(error: PageError) -> Response:
    content = [h.h1[f"{error.status}"], note(error.message, "bad"), h.p[h.a(href=url("runs"))["All runs"]]]
    return html(document(f"Error {error.status}", "", {}, *content), error.status)


__all__ = ["HEADERS", "ROOT", "make_site"]
