"""The endpoints of events and signals."""

from typing import Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import JSONResponse

from stepstream.contract.codec import dump_json, load_json
from stepstream.contract.errors import InvalidInput, TooLarge
from stepstream.contract.events import EventRecord
from stepstream.contract.limits import MIB
from stepstream.gateway.rest.access import check_event_key
from stepstream.gateway.rest.event_lookups import find_event_json, listed_events, runs_of_event
from stepstream.gateway.rest.parts import RestParts
from stepstream.gateway.rest.replies import enveloped, not_found
from stepstream.gateway.rest.sdk_shapes import moment_of, run_json
from stepstream.gateway.rest.sent_events import event_ids, read_event, split_events

SEED_HEADER = "X-Inngest-Event-Id-Seed"
SIGNAL_BYTES_MAX = MIB
_LIMIT = Query(20, ge=1, le=100)


def add_sending(router: APIRouter, parts: RestParts) -> None:
    """Add the endpoint that accepts events, in the order of which those before an invalid one are accepted.

    They are JSON whatever the Content-Type: `curl --data` says that it sends a form.
    """

    @router.post("/e/{key}")
    async def send_events(key: str, request: Request) -> JSONResponse:
        check_event_key(parts.options, key)
        async with parts.bodies.body(request, parts.limits.request_bytes_max) as body:
            return await _accept(parts, body, request.headers.get(SEED_HEADER, ""))


async def _accept(parts: RestParts, body: bytes, seed: str) -> JSONResponse:
    now, found = parts.now_ms(), split_events(body, parts.limits)
    ids = event_ids(seed, len(found), now)
    records: list[EventRecord] = []
    failure: dict[str, Any] = {}
    for position, (part, id) in enumerate(zip(found, ids, strict=True)):
        try:
            records.append(read_event(part, id, now, parts.limits))
        except InvalidInput as error:
            status = 413 if isinstance(error, TooLarge) else 400
            failure = {"status": status, "error": f"event {position}: {error}", "code": error.code}
            break
    if records:
        await parts.engine.send(records, limits=parts.limits)
    for id, record in zip(ids, records, strict=False):
        parts.recent.add(id, record, now)
    answer: dict[str, Any] = {"ids": ids[: len(records)], "status": 200, **failure}
    return JSONResponse(answer, answer["status"])


def add_signals(router: APIRouter, parts: RestParts) -> None:
    """Add the endpoint that sends a signal to the run that waits for it."""

    @router.post("/v1/signals")
    async def send_signal(request: Request) -> dict[str, Any]:
        async with parts.bodies.body(request, SIGNAL_BYTES_MAX) as body:
            value = load_json(body, field="body")
        if not isinstance(value, dict) or not isinstance(value.get("signal"), str):
            raise InvalidInput('give {"signal": NAME, "data": …}', "signal")
        name = str(value["signal"])
        run_id = await parts.engine.operator.signal_run(name, dump_json(value.get("data")))
        if not run_id:
            raise HTTPException(404, f"no run waits for the signal {name!r}; signals are not stored")
        return enveloped({"run_id": run_id}, parts.now_ms())


def add_events(router: APIRouter, parts: RestParts) -> None:
    """Add the endpoints that read events."""

    @router.get("/v1/events")
    async def list_events(
        name: str = "", cursor: str = "", received_after: str = "", received_before: str = "", limit: int = _LIMIT
    ) -> dict[str, Any]:
        after = moment_of(received_after, "received_after") if received_after else 0
        before = moment_of(received_before, "received_before") if received_before else 0
        listed = await listed_events(parts, name, cursor, limit)
        within = (each for at, each in listed if after <= at and (not before or at < before))
        return enveloped(list(within), parts.now_ms())

    @router.get("/v1/events/{event_id}")
    async def show_event(event_id: str) -> dict[str, Any]:
        found = await find_event_json(parts, event_id)
        if found is None:
            raise not_found(f"event {event_id!r}")
        return enveloped(found, parts.now_ms())

    @router.get("/v1/events/{event_id:path}/runs")
    async def list_event_runs(event_id: str, limit: int = _LIMIT) -> dict[str, Any]:
        runs = await runs_of_event(parts, parts.recent.engine_id(event_id), limit)
        results = await parts.index.queries.results([run.run_id for run in runs])
        shown = [run_json(run, results.get(run.run_id, (None, None)), parts.recent) for run in runs]
        return enveloped(shown, parts.now_ms())
