"""The route that starts one function, and the requests that wait for the ends of runs."""

import asyncio
from typing import Any

import msgspec
from fastapi import FastAPI, HTTPException, Request

from stepstream.api.bodies import decode_body
from stepstream.api.routes.control import OperatorRoutes
from stepstream.api.streams import NOTHING, Streams
from stepstream.api.waits import parse_wait
from stepstream.contract.codec import EMPTY_OBJECT, NULL, Raw
from stepstream.contract.errors import Conflict, InvalidInput
from stepstream.contract.events import INVOKED, EventRecord, check_event
from stepstream.contract.kinds import ENDED_RUN_STATUSES
from stepstream.contract.limits import REQUEST_ID_CHARACTERS_MAX
from stepstream.runtime.readmodel.index import RunIndex

WAIT_MS_MAX = 30_000
WAITING_MAX = 256
# A run is listed a moment after it was started; an id that is unknown for longer is wrong.
_UNKNOWN_S_MAX = 5.0
# A wait notices within this time that the process stops.
_PORTION_S = 1.0
_INVOKE_BODY = {
    "requestBody": {
        "description": "{data?, user?, v?, request_id?}",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}


class InvokeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request to start a function: what its event has, and the id of the request."""

    data: Raw = EMPTY_OBJECT
    user: Raw = NULL
    v: str = ""
    request_id: str = ""


def parse_invocation(body: bytes) -> EventRecord:
    """Return the event of a request to start a function, whose id is that of the request; raise InvalidInput."""
    asked = decode_body(body.strip() or b"{}", InvokeBody)
    if len(asked.request_id) > REQUEST_ID_CHARACTERS_MAX:
        raise InvalidInput(f"expected at most {REQUEST_ID_CHARACTERS_MAX} characters", "request_id")
    event = EventRecord(INVOKED, asked.data, asked.request_id, user=asked.user, v=asked.v)
    try:
        check_event(event, own=True)
    except InvalidInput as error:
        raise type(error)(error.reason, "request_id" if error.field == "id" else error.field) from None
    return event


def add_invocations(api: FastAPI, routes: OperatorRoutes) -> None:
    """Add the route that starts a function."""
    guarded: dict[str, Any] = {"dependencies": routes.dependencies, "openapi_extra": _INVOKE_BODY}

    @api.post("/v1/functions/{function_id:path}/invoke", **guarded, summary="Start one function")
    async def invoke(function_id: str, request: Request) -> dict[str, str]:
        async with routes.bodies.body(request, routes.limits.request_bytes_max) as body:
            event = parse_invocation(body)
            try:
                return {"run_id": await routes.operator.invoke(function_id, event)}
            except Conflict as error:
                raise HTTPException(404, str(error)) from None


class RunEnds:
    """Lets requests wait for the ends of runs: at most WAITING_MAX at a time, any further one returns at once."""

    def __init__(self, index: RunIndex, streams: Streams) -> None:
        self._index = index
        self._streams = streams
        self._waiting = 0

    async def wait(self, run_id: str, duration: str) -> None:
        """Return once a run has ended, at the latest after a duration; raise InvalidInput for one above 30 s."""
        within_s = parse_wait(duration, WAIT_MS_MAX)
        if self._waiting >= WAITING_MAX:
            return
        self._waiting += 1
        try:
            with self._index.changes.watched():
                await self._until_ended(run_id, within_s)
        finally:
            self._waiting -= 1

    async def _until_ended(self, run_id: str, within_s: float) -> None:
        loop, changes, since, is_known = asyncio.get_running_loop(), self._index.changes, NOTHING, False
        started = loop.time()
        while not self._streams.is_closing:
            version = changes.version
            if changes.among([run_id], since):
                found = await self._index.queries.find_runs([run_id])
                is_known = bool(found)
                if any(run.status in ENDED_RUN_STATUSES for run in found):
                    return
            since = version
            left_s = (within_s if is_known else min(within_s, _UNKNOWN_S_MAX)) - (loop.time() - started)
            if left_s <= 0:
                return
            await changes.after(version, min(left_s, _PORTION_S))
