"""The routes of the page, with the headers that keep hostile values from running in a browser."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

import htpy as h
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stepstream.api.page_options import ROOT
from stepstream.api.pages.dead_letters_page import redrive_dead_letter, show_dead_letter, show_dead_letters
from stepstream.api.pages.events_page import send_event, show_event, show_events
from stepstream.api.pages.functions_page import pause_function, show_function, show_functions, start_function
from stepstream.api.pages.gate import COOKIE, Access, check_origin, is_link_from_elsewhere
from stepstream.api.pages.limits_page import act_on_limit, show_limit, show_limits
from stepstream.api.pages.login_page import log_in, login_page, next_page
from stepstream.api.pages.parts.assets import asset
from stepstream.api.pages.parts.components import note, prose, text, url
from stepstream.api.pages.parts.context import PageError, Site, Visit, html, known_counts, see
from stepstream.api.pages.parts.forms import FORM_TOKEN, read_form
from stepstream.api.pages.parts.layout import document
from stepstream.api.pages.parts.sessions import Role
from stepstream.api.pages.performance_page import show_performance
from stepstream.api.pages.runs.actions import cancel_run, pause_run, resume_run, send_signal
from stepstream.api.pages.runs.bulk_page import cancel_bulk, list_bulks, show_bulk, show_preview, start_bulk
from stepstream.api.pages.runs.errors_page import show_errors
from stepstream.api.pages.runs.raw import show_raw
from stepstream.api.pages.runs.rerun_page import rerun, show_rerun
from stepstream.api.pages.runs.run_page import show_run, stream_run
from stepstream.api.pages.runs.runs_page import find_run, show_runs, stream_runs
from stepstream.api.pages.waiting.approval_page import answer_approval, show_approval
from stepstream.api.pages.waiting.link_page import answer_link, show_link
from stepstream.api.pages.waiting.request_page import send_request, show_request
from stepstream.api.pages.waiting.waiting_page import show_waiting, stream_waiting
from stepstream.api.pages.workers_page import pause_queue, show_workers
from stepstream.contract.errors import Conflict, InvalidInput, StepstreamError
from stepstream.runtime.ports import StoreError

logger = logging.getLogger(__name__)
_MESSAGE_CHARACTERS_MAX = 2_000
Show = Callable[[Site, Visit], Awaitable[Response]]
Act = Callable[[Site, Visit, Mapping[str, str]], Awaitable[Response]]
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


async def _show_first(_site: Site, _visit: Visit) -> Response:
    return see(url("runs"))


async def _show_missing(_site: Site, visit: Visit) -> Response:
    raise PageError(404, f"There is no page {visit.request.url.path}.")


PAGES: Mapping[str, Show] = {
    "/": _show_first,
    "/runs": show_runs,
    "/runs/{run_id}": show_run,
    "/runs/{run_id}/raw": show_raw,
    "/runs/{run_id}/rerun": show_rerun,
    "/live/runs": stream_runs,
    "/live/runs/{run_id}": stream_run,
    "/live/waiting": stream_waiting,
    "/find": find_run,
    "/waiting": show_waiting,
    "/approvals/{run_id}/{step}": show_approval,
    "/requests/{run_id}/{step}": show_request,
    "/errors": show_errors,
    "/events": show_events,
    "/event": show_event,
    "/workers": show_workers,
    "/dead-letters": show_dead_letters,
    "/dead-letter": show_dead_letter,
    "/functions": show_functions,
    "/function": show_function,
    "/performance": show_performance,
    "/limits": show_limits,
    "/limit": show_limit,
    "/bulk": list_bulks,
    "/bulk-preview": show_preview,
    "/bulk/{operation}": show_bulk,
}
ACTIONS: Mapping[str, Act] = {
    "/runs/{run_id}/cancel": cancel_run,
    "/runs/{run_id}/pause": pause_run,
    "/runs/{run_id}/resume": resume_run,
    "/runs/{run_id}/rerun": rerun,
    "/runs/{run_id}/signal": send_signal,
    "/approvals/{run_id}/{step}": answer_approval,
    "/requests/{run_id}/{step}": send_request,
    "/function": start_function,
    "/function/pause": pause_function,
    "/queue/pause": pause_queue,
    "/limit": act_on_limit,
    "/events": send_event,
    "/dead-letter": redrive_dead_letter,
    "/bulk": start_bulk,
    "/bulk/{operation}/cancel": cancel_bulk,
}


# What visitors with a signed link may see and do, whatever their role.
LINK_PAGES: Mapping[str, Show] = {"/approve/{token}": show_link}
LINK_ACTIONS: Mapping[str, Act] = {"/approve/{token}": answer_link}


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


def make_site(site: Site, access: Access) -> ASGIApp:
    """Return the page, to be mounted at ROOT."""

    async def show_asset(request: Request) -> Response:
        return asset(request.path_params["digest"], request.path_params["name"])

    reception = _Reception(site, access)
    routes = [Route(path, reception.page(show), methods=["GET"]) for path, show in PAGES.items()]
    routes += [Route(path, reception.action(act), methods=["POST"]) for path, act in ACTIONS.items()]
    for path in LINK_PAGES:
        routes.append(Route(path, reception.page(LINK_PAGES[path], is_public=True), methods=["GET"]))
        routes.append(Route(path, reception.action(LINK_ACTIONS[path], is_public=True), methods=["POST"]))
    routes += [
        Route("/login", reception.login, methods=["GET", "POST"]),
        Route("/logout", reception.logout, methods=["POST"]),
        Route("/static/{digest}/{name:path}", show_asset),
        Route("/{path:path}", reception.page(_show_missing)),
    ]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return _Headers(app)


class _Reception:
    """Lets visitors in, and answers every failure with a page."""

    def __init__(self, site: Site, access: Access) -> None:
        self._site = site
        self._access = access

    def page(self, show: Show, *, is_public: bool = False) -> Callable[[Request], Awaitable[Response]]:
        """Return the route of a page, which asks for a login first if it must."""

        async def answer(visit: Visit) -> Response:
            if visit.role == Role.NONE and is_link_from_elsewhere(visit.request):
                # The same request from this page has the cookie, if there is one.
                return html(h.html[h.head[h.meta(http_equiv="refresh", content="0")]])
            if visit.role != Role.NONE or is_public:
                return self._keep(visit, await show(self._site, visit))
            query = visit.request.url.query
            target = visit.request.url.path + (f"?{query}" if query else "")
            return self._keep(visit, await login_page(self._site, visit, target, status=401))

        return self._answering(answer)

    def action(self, act: Act, *, is_public: bool = False) -> Callable[[Request], Awaitable[Response]]:
        """Return the route of a form that acts; it answers 403 to visitors who may only read."""

        async def answer(visit: Visit) -> Response:
            form = await self._form(visit)
            if not visit.may_operate and not is_public:
                raise PageError(403, "You may read this page only; log in with the API key to act.")
            return await act(self._site, visit, form)

        return self._answering(answer)

    async def login(self, request: Request) -> Response:
        """Show the login, or exchange a key for a session."""

        async def answer(visit: Visit) -> Response:
            if request.method != "POST":
                return self._keep(visit, await login_page(self._site, visit, next_page(visit.param("next"))))
            form = await self._form(visit)
            response, session = await log_in(self._site, visit, form, self._access.keys)
            self._access.keep(response, session or visit.session, request)
            return response

        return await self._answering(answer)(request)

    async def logout(self, request: Request) -> Response:
        """End the session in this browser."""

        async def answer(visit: Visit) -> Response:
            await self._form(visit)
            response = see(url("login"))
            response.delete_cookie(COOKIE, path=ROOT, httponly=True, samesite="strict")
            return response

        return await self._answering(answer)(request)

    async def _form(self, visit: Visit) -> Mapping[str, str]:
        """Return the fields of a form that the page itself sent in this session."""
        if "authorization" in visit.request.headers:
            # No other site can let a browser send the key.
            return await read_form(self._site, visit)
        check_origin(visit.request)
        form = await read_form(self._site, visit)
        if not self._access.keys.is_form_token(form.get(FORM_TOKEN, ""), visit.session):
            raise PageError(403, "The form is of an earlier session; go back, reload the page and send it again.")
        return form

    def _keep(self, visit: Visit, response: Response) -> Response:
        """Give a browser that has none the session to which the tokens of its forms belong."""
        known = self._access.keys.session(visit.request.cookies.get(COOKIE, ""), self._site.now_ms())
        if known != visit.session and "authorization" not in visit.request.headers:
            self._access.keep(response, visit.session, visit.request)
        return response

    def _answering(self, answer: Callable[[Visit], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            visit: Visit | None = None
            try:
                visit = self._access.visit(request, self._site.now_ms())
                return await answer(visit)
            except PageError as error:
                return await self._error_page(visit, error.status, error.message, error.requested)
            except InvalidInput as error:
                return await self._error_page(visit, 400, str(error))
            except Conflict as error:
                return await self._error_page(visit, 409, str(error))
            except (StepstreamError, StoreError) as error:
                return await self._error_page(visit, 503, str(error))
            except ClientDisconnect:
                # No client receives this answer.
                return Response(status_code=HTTPStatus.REQUEST_TIMEOUT)
            except Exception:
                logger.exception("the page failed to answer %s %s", request.method, request.url.path)
                return await self._error_page(visit, 500, "The engine failed to render this page; see its log.")

        return handle

    async def _error_page(self, visit: Visit | None, status: int, message: str, requested: str = "") -> Response:
        content = [
            h.h1[f"{status}"],
            note(prose(message, _MESSAGE_CHARACTERS_MAX), "bad"),
            h.p[h.a(href=url("find", query=[("id", requested)]))["Search the runs for ", text(requested)]]
            if requested
            else None,
            h.p[h.a(href=url("runs"))["All runs"]],
        ]
        # What has just failed may take long to fail again.
        counts = await known_counts(self._site, visit) if status < HTTPStatus.INTERNAL_SERVER_ERROR else {}
        return html(document(visit, f"Error {status}", "", counts, *content), status)
