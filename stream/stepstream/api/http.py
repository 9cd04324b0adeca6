"""The HTTP API: events and signals in, runs out; bad input is answered with the field and the reason."""

import dataclasses
import http
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException as AnyHttpException
from starlette.requests import ClientDisconnect

from stepstream.api.approval_links import ApprovalLinks
from stepstream.api.bodies import BodyBudget
from stepstream.api.facade import EngineFacade
from stepstream.api.guards import NO_KEY, Keys, foreign_reason, knows_key, same_key
from stepstream.api.page_options import DEFAULT_PAGE, ROOT, PageMode, PageOptions
from stepstream.api.pages.gate import access_of
from stepstream.api.pages.parts.context import Site
from stepstream.api.pages.site import make_site
from stepstream.api.responses import json_response
from stepstream.api.routes.approvals import add_approval_links, add_approvals
from stepstream.api.routes.bulk import add_bulk
from stepstream.api.routes.control import Actor, OperatorRoutes, actors, add_control
from stepstream.api.routes.dead_letters import add_dead_letters
from stepstream.api.routes.functions import add_functions
from stepstream.api.routes.invocations import RunEnds, add_invocations
from stepstream.api.routes.limits import add_limits
from stepstream.api.routes.live_streams import add_live_streams, add_stream_tokens
from stepstream.api.routes.logs import add_logs
from stepstream.api.routes.pauses import add_pauses
from stepstream.api.routes.probes import ready_response
from stepstream.api.routes.run_requests import add_run_requests
from stepstream.api.routes.timings import add_timings
from stepstream.api.routes.workers import add_workers
from stepstream.api.stream_tokens import stream_tokens
from stepstream.api.streams import Streams
from stepstream.api.summaries import add_summaries
from stepstream.contract.codec import Json, Raw, dump_json, load_json
from stepstream.contract.errors import Conflict, InvalidInput, StepstreamError, TooLarge
from stepstream.contract.events import EventRecord, decode_event
from stepstream.contract.ids import is_run_id
from stepstream.contract.kinds import RunStatus
from stepstream.contract.limits import DEFAULT_LIMITS, MIB, Limits
from stepstream.contract.text.names import check_signal_name
from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.metrics import CONTENT_TYPE
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.search.filters import TAIL_CHARACTERS, Filter
from stepstream.runtime.readmodel.views import RunView
from stepstream.runtime.readmodel.why import why_open
from stepstream.runtime.requests import UnfitRequest

SIGNAL_BYTES_MAX = MIB
_split_events = msgspec.json.Decoder(list[msgspec.Raw]).decode
_JSON = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}}
_EVENTS = {
    "requestBody": {
        "required": True,
        "description": 'one event {"name", "data", "id"?, "ts"?, "user"?, "v"?, "meta"?}, or an array of them',
        "content": {"application/json": {"schema": {"anyOf": [{"type": "object"}, {"type": "array"}]}}},
    }
}
_LISTS = "the newest first, with their first events, without outputs and the data of events"
_BEFORE = Query("", description="the `next` of the previous page")
_WAIT = Query("", description="answer when the run has ended, at the latest after this time, such as 20s")
_LIMIT = Query(50, ge=1, le=1_000)


def parse_events(body: bytes, limits: Limits) -> list[EventRecord]:
    """Return the events of a request if all are valid; else raise InvalidInput that names the event and the field."""
    if not body.lstrip().startswith(b"["):
        return [decode_event(body, limits.event_bytes_max, strict=True)]
    try:
        parts = _split_events(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInput(str(error), "body") from None
    if not 0 < len(parts) <= limits.events_per_request_max:
        raise InvalidInput(f"expected 1 to {limits.events_per_request_max:,} events, got {len(parts):,}", "body")
    events: list[EventRecord] = []
    for index, part in enumerate(parts):
        try:
            events.append(decode_event(bytes(part), limits.event_bytes_max, strict=True))
        except InvalidInput as error:
            raise type(error)(error.reason, f"[{index}].{error.field}") from None
    return events


def parse_signal(body: bytes) -> tuple[str, Raw, tuple[str, Json] | None]:
    """Return the name and the data of a signal, and the function that it may start with the data of its event."""
    value = load_json(body)
    if not isinstance(value, dict):
        raise InvalidInput("expected a JSON object", "body")
    if unknown := sorted(value.keys() - {"signal", "data", "start"}):
        raise InvalidInput("unknown field; a signal has only signal, data and start", unknown[0])
    start = parse_start(value["start"]) if "start" in value else None
    return check_signal_name(value.get("signal")), dump_json(value.get("data")), start


def parse_start(value: Json) -> tuple[str, Json]:
    """Return the function that a signal may start, and the data of its event."""
    function = value.get("function") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(function, str) or value.keys() - {"function", "data"}:
        raise InvalidInput('give {"function": ID, "data": {…}}', "start")
    return function, value.get("data")


def _error(status: int, code: str, message: str, field: str = "") -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message, "field": field}}, status)


async def _on_invalid(_request: Request, error: Exception) -> Response:
    if not isinstance(error, InvalidInput):
        raise error
    match error:
        case TooLarge():
            status = 413
        case UnfitRequest():
            status = 422
        case _:
            status = 400
    return _error(status, error.code, str(error), error.field)


async def _on_own(_request: Request, error: Exception) -> Response:
    if not isinstance(error, StepstreamError):
        raise error
    return _error(409 if isinstance(error, Conflict) else 503, error.code, str(error))


async def _on_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, AnyHttpException):
        raise error
    phrase = http.HTTPStatus(error.status_code).phrase
    message = str(error.detail)
    if message == phrase:
        # The messages of the router only repeat the status.
        message = f"{request.method} {request.url.path}: {phrase.lower()}; see /openapi.json for all routes"
    code = "unavailable" if error.status_code == http.HTTPStatus.SERVICE_UNAVAILABLE else phrase.lower()
    answer = _error(error.status_code, code.replace(" ", "-"), message)
    answer.headers.update(error.headers or {})
    return answer


async def _on_bug(_request: Request, _error_of_ours: Exception) -> Response:
    # The server logs the error.
    return _error(500, "internal", "the engine failed to process this request; see its log")


async def _on_disconnect(_request: Request, _error: Exception) -> Response:
    # No client receives this answer; without it the server would log a traceback for each client that disconnects.
    return Response(status_code=http.HTTPStatus.REQUEST_TIMEOUT)


async def _on_validation(_request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    return _error(400, "invalid-input", first["msg"], ".".join(map(str, first["loc"][1:])))


def _add_errors(api: FastAPI) -> None:
    api.add_exception_handler(StepstreamError, _on_own)
    for kind, handler in (
        (InvalidInput, _on_invalid),
        (AnyHttpException, _on_http),
        (RequestValidationError, _on_validation),
        (ClientDisconnect, _on_disconnect),
        (Exception, _on_bug),
    ):
        api.add_exception_handler(kind, handler)


def _guard(key: str) -> Callable[[Request], Awaitable[None]]:
    async def check(request: Request) -> None:
        if not knows_key(request.headers, key):
            raise HTTPException(401, NO_KEY)

    return check


async def _refuse_foreign(request: Request) -> None:
    if reason := foreign_reason(request.headers):
        raise HTTPException(403, reason)


async def _refuse_unknown(request: Request) -> None:
    """Refuse an unknown parameter: a misspelled filter would otherwise list all runs."""
    dependant = request.scope["route"].dependant
    known = {parameter.alias for each in (dependant, *dependant.dependencies) for parameter in each.query_params}
    if unknown := sorted(request.query_params.keys() - known):
        raise InvalidInput(f"unknown parameter; this route takes {', '.join(sorted(known)) or 'none'}", unknown[0])


async def _page(
    index: RunIndex, filter: Filter, *, function: str = "", status: str = "", tail: str = "", before: str, limit: int
) -> Response:
    if status and status not in list(RunStatus):
        raise InvalidInput(f"{status!r} is not one of {', '.join(RunStatus)}", "status")
    if 0 < len(tail) < TAIL_CHARACTERS:
        raise InvalidInput(f"give at least {TAIL_CHARACTERS} characters of the run id", "tail")
    if before and not is_run_id(before):
        raise InvalidInput(f"{before!r} is not a run id", "before")
    more = {"function": function, "status": status, "run_id": tail}
    return json_response(await index.queries.search(filter.having_all(more), before=before, limit=limit))


async def _explained(run: RunView, engine: EngineFacade, now_ms: int) -> dict[str, object]:
    """Return a run with its running workers, and why it does not continue."""
    known = await engine.surroundings(run)
    values = {each.name: getattr(run, each.name) for each in dataclasses.fields(run)}
    return {**values, "workers": known.workers, "why": list(why_open(run, now_ms, known))}


def _new_api(keys: Keys) -> FastAPI:
    # While a key is missing, only programs on this machine may send requests.
    everywhere = [] if keys.event and keys.api else [Depends(_refuse_foreign)]
    api = FastAPI(
        title="stepstream",
        version="1",
        openapi_url=None,
        dependencies=everywhere,
        # A redirect would repeat the event key, which is in the path, in the clear.
        redirect_slashes=False,
    )
    _add_errors(api)
    return api


def make_api(
    engine: EngineFacade,
    index: RunIndex,
    metrics: Callable[[], bytes],
    *,
    keys: Keys | None = None,
    limits: Limits = DEFAULT_LIMITS,
    bodies: BodyBudget | None = None,
    page: PageOptions = DEFAULT_PAGE,
    now_ms: Callable[[], int] | None = None,
    streams: Streams | None = None,
) -> FastAPI:
    """Return the API over an engine and its read model, with the page below /ui, which `streams` keeps current.

    `now_ms` returns the time (Unix ms) by which relative times count, by default that of the wall clock.
    """
    keys, now_ms = keys or Keys(), now_ms or SystemClock().now_ms
    api = _new_api(keys)
    bodies = bodies or BodyBudget()
    _add_events(api, engine, keys.event, limits, bodies)
    actor, streams = actors(page, keys.api), streams or Streams(index.changes)
    _add_runs(api, engine, index, _guard(keys.api), bodies, now_ms, actor, RunEnds(index, streams))
    guarded = [Depends(_guard(keys.api)), Depends(_refuse_unknown)]
    links = ApprovalLinks(keys.api, page.mode == PageMode.ON)
    add_approval_links(api, links, index, guarded, bodies, now_ms)
    routes = OperatorRoutes(engine, index.queries, guarded, bodies, limits, actor, now_ms)
    for add_routes in (add_control, add_invocations, add_bulk, add_pauses, add_limits):
        add_routes(api, routes)
    add_run_requests(api, routes, index.changes)
    add_summaries(api, index, guarded, now_ms)
    add_dead_letters(api, engine, guarded, actor)
    add_workers(api, engine, guarded)
    add_functions(api, engine, index, guarded, now_ms)
    add_timings(api, index, guarded, now_ms)
    add_logs(api, index, guarded)
    tokens = stream_tokens(keys.api, now_ms)
    add_stream_tokens(api, tokens, guarded, bodies)
    add_live_streams(api, engine, index, tokens, [Depends(_refuse_unknown)], streams)
    _add_operations(api, engine, metrics, _guard(keys.api))
    if page.mode != PageMode.OFF:
        site = Site(engine, index, bodies, now_ms, streams, limits, links)
        api.mount(ROOT, make_site(site, access_of(keys, page)))
    return api


def _add_events(api: FastAPI, engine: EngineFacade, event_key: str, limits: Limits, bodies: BodyBudget) -> None:
    @api.post("/e/{key}", openapi_extra=_EVENTS, summary="Send one event or an array of events")
    async def send_events(key: str, request: Request) -> dict[str, Any]:
        if not same_key(key, event_key):
            raise HTTPException(401, "the event key is wrong")
        async with bodies.body(request, limits.request_bytes_max) as body:
            return {"ids": await engine.send(parse_events(body, limits)), "status": 200}


def _add_runs(
    api: FastAPI,
    engine: EngineFacade,
    index: RunIndex,
    guard: Callable[[Request], Awaitable[None]],
    bodies: BodyBudget,
    now_ms: Callable[[], int],
    actor: Actor,
    ends: RunEnds,
) -> None:
    guarded = [Depends(guard), Depends(_refuse_unknown)]
    add_approvals(api, engine.signal, index, guarded, bodies, now_ms)

    @api.post("/v1/signals", openapi_extra=_JSON, dependencies=guarded, summary="Send a signal to the run that waits")
    async def send_signal(request: Request) -> dict[str, bool | str]:
        async with bodies.body(request, SIGNAL_BYTES_MAX) as body:
            name, data, start = parse_signal(body)
        if start:
            receipt = await engine.operator.signal_with_start(name, data, *start, by=actor(request))
            return {"delivered": not receipt.started, "started": receipt.started, "run_id": receipt.run_id}
        if not await engine.signal(name, data, actor(request)):
            raise HTTPException(404, f"no run waits for the signal {name!r}; signals are not stored")
        return {"delivered": True}

    @api.get("/v1/runs", dependencies=guarded, summary=f"List runs, {_LISTS}")
    async def list_runs(
        filter: str = Query("", description="as in docs/search.md, such as function:orders.charge status:failed"),
        function: str = "",
        status: str = Query("", description=f"one of {', '.join(RunStatus)}"),
        tail: str = Query("", description="the last 6 characters or more of the run id"),
        before: str = _BEFORE,
        limit: int = _LIMIT,
    ) -> Response:
        found = Filter.parse(filter).at(now_ms())
        return await _page(index, found, function=function, status=status, tail=tail, before=before, limit=limit)

    @api.get("/v1/runs/{run_id}", dependencies=guarded, summary="Show a run with its steps")
    async def show_run(run_id: str, wait: str = _WAIT) -> Response:
        if wait:
            await ends.wait(run_id, wait)
        run = await index.queries.show(run_id)
        if run is None:
            raise HTTPException(404, f"there is no run {run_id!r}")
        return json_response(await _explained(run, engine, now_ms()))

    @api.get("/v1/events/{event_id:path}/runs", dependencies=guarded, summary=f"List the runs of an event, {_LISTS}")
    async def list_event_runs(event_id: str, before: str = _BEFORE, limit: int = _LIMIT) -> Response:
        found = Filter().having_all({"event_id": event_id})
        return await _page(index, found, before=before, limit=limit)


def _add_operations(
    api: FastAPI, engine: EngineFacade, metrics: Callable[[], bytes], guard: Callable[[Request], Awaitable[None]]
) -> None:
    @api.get("/metrics", dependencies=[Depends(guard)], summary="Prometheus metrics")
    async def show_metrics() -> Response:
        return Response(metrics(), media_type=CONTENT_TYPE)

    @api.get("/openapi.json", dependencies=[Depends(guard)], include_in_schema=False)
    async def describe() -> dict[str, Any]:
        return api.openapi()

    # The page is mounted below its address, which itself is often typed.
    @api.get(ROOT, include_in_schema=False)
    @api.get("/", include_in_schema=False)
    async def show_page() -> Response:
        return RedirectResponse(f"{ROOT}/")

    @api.get("/health", summary="200 while the process is alive")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @api.get("/ready", summary="200 when every shard of the process serves, else 503 and the reason")
    async def ready() -> Response:
        return ready_response(engine.unready())
