"""Sends requests to runs, each of which a run takes once, and waits for the replies."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from stepstream.contract.codec import Json, Raw, load_json
from stepstream.contract.errors import Conflict, InvalidInput, StepstreamError
from stepstream.contract.limits import REQUESTS_WAITING_MAX
from stepstream.contract.operators.run_requests import RunRequest, encode_request, request_signal
from stepstream.runtime.decisions import Signal
from stepstream.runtime.readmodel.changes import RunChanges
from stepstream.runtime.readmodel.queries import RunQueries
from stepstream.runtime.readmodel.tables.run_requests import RequestState
from stepstream.runtime.schema_check import check_schema

# Another process may fold what this one waits for.
_LOOK_S = 1.0


class UnfitRequest(InvalidInput):
    """The data of a request does not fit what the step accepts, which continues to wait."""

    code = "unfit-request"


class TooManyRequests(StepstreamError):
    """As many senders as a process allows wait for replies."""

    code = "overloaded"


@dataclass(frozen=True, slots=True)
class RequestRef:
    """A request of a run: the `name` that its step has as its id, and the `id` that its sender chose."""

    run_id: str
    name: str
    id: str

    def __str__(self) -> str:
        return f"request {self.name!r} of run {self.run_id}"


@dataclass(frozen=True, slots=True)
class RequestAnswer:
    """The answer to the sender of a request: the `reply` if `is_replied`, else the run has only taken the request."""

    is_replied: bool
    reply: Json = None


class RunRequests:
    """Requests to the runs of an engine. A request is a signal to one step, and the reply the result of another one.

    The signal has the name of that one use of the step, so a request that is sent again is not taken twice: either the
    step has taken it, as the read model shows, or the signal finds no step.
    """

    def __init__(self, signal: Signal, queries: RunQueries, changes: RunChanges, now_ms: Callable[[], int]) -> None:
        self._signal = signal
        self._queries = queries
        self._changes = changes
        self._now_ms = now_ms
        self._waiting = 0

    async def ask(self, ref: RequestRef, data: Raw, by: str, wait_s: float) -> RequestAnswer | None:
        """Send a request unless the run has taken it, and wait for the reply; the same request may be sent again.

        Returns None if there is no such run. Raises UnfitRequest for data that the step does not accept, and Conflict
        if the run has ended, or does not wait for a request of this name within `wait_s`.
        """
        return await self._follow(ref, wait_s, RunRequest(ref.id, data, by, self._now_ms()))

    async def reply(self, ref: RequestRef, wait_s: float) -> RequestAnswer | None:
        """Wait for the reply to a request that was sent; return and raise as `ask` does."""
        return await self._follow(ref, wait_s, None)

    async def _follow(self, ref: RequestRef, wait_s: float, request: RunRequest | None) -> RequestAnswer | None:
        if self._waiting >= REQUESTS_WAITING_MAX:
            raise TooManyRequests(f"{self._waiting} senders wait for replies, the limit of this engine; send it again")
        self._waiting += 1
        try:
            with self._changes.watched():
                return await self._until_replied(ref, asyncio.get_running_loop().time() + wait_s, request)
        finally:
            self._waiting -= 1

    async def _until_replied(
        self, ref: RequestRef, deadline: float, request: RunRequest | None
    ) -> RequestAnswer | None:
        is_taken, tried = False, ""
        while True:
            version = self._changes.version
            found = await self._queries.run_request(ref.run_id, ref.name, ref.id)
            if found is None:
                return None
            is_taken = is_taken or found.is_taken
            if found.has_reply:
                return RequestAnswer(is_replied=True, reply=found.reply)
            if found.has_ended:
                reason = "without a reply" if is_taken else "and takes no requests"
                raise Conflict(f"{ref}: the run has ended ({found.status}) {reason}")
            if request and not is_taken and found.step not in ("", tried):
                # The read model may not have yet that the step has ended; then no step takes the signal.
                tried = found.step
                is_taken = await self._send(ref, found, request)
            if not await self._changed(ref.run_id, version, deadline):
                break
        if is_taken:
            return RequestAnswer(is_replied=False)
        remedy = "send it again later" if request else "send it first"
        raise Conflict(f"{ref}: no step of the run waits for it, and none has taken it; {remedy}")

    async def _send(self, ref: RequestRef, found: RequestState, request: RunRequest) -> bool:
        """Send a request to the step that waits; return whether the step has taken it."""
        if found.form is not None:
            try:
                check_schema(found.form, load_json(request.data), "data")
            except InvalidInput as error:
                raise UnfitRequest(error.reason, error.field) from None
        return await self._signal(request_signal(ref.run_id, found.step), encode_request(request), request.by)

    async def _changed(self, run_id: str, version: int, deadline: float) -> bool:
        """Wait until the run may have changed since a version; return whether that was before the deadline."""
        loop = asyncio.get_running_loop()
        look_at = min(loop.time() + _LOOK_S, deadline)
        while not self._changes.among([run_id], version) and (left := look_at - loop.time()) > 0:
            await self._changes.after(self._changes.version, left)
        return loop.time() < deadline
