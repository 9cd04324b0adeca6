"""What a client does with runs: it finds them, waits for their ends, reads their streams and controls them."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload
from urllib.parse import quote

from stepstream.client.connected import Connected
from stepstream.client.errors import EngineUnreachable, NoReply, RequestRefused, RunFailed, RunNotEnded
from stepstream.client.requests import Request
from stepstream.client.results import Run, RunPage
from stepstream.client.sent import json_body, object_of
from stepstream.client.stream_client import AnyChannel, LiveStream
from stepstream.contract.codec import dump_json
from stepstream.contract.kinds import RunStatus
from stepstream.contract.text.durations import Duration, duration_ms
from stepstream.sdk.channels import Channel
from stepstream.sdk.values import PLAIN_JSON, ReturnType, load_value, to_json

T = TypeVar("T")
D = TypeVar("D")
# For how long an engine may wait for the end of a run before it answers.
_WAIT_S = 20.0
# The pause before a client asks for a run again that an engine did not wait for.
_PAUSE_S = 0.5
# An engine lists what happens to a run with a delay.
_LISTED_S_MAX = 10.0
_PAGE = 100
_NOT_FOUND, _CONFLICT = 404, 409


class Runs(Connected):
    """The methods of a client that are about runs."""

    async def run(self, run_id: str) -> Run:
        """Return a run with its steps, and why it does not continue; raise `RequestRefused` if there is none."""
        return await self._run(run_id)

    async def wait(self, run_id: str, timeout: Duration = "1m") -> Run:
        """Return a run once it has ended, or the last of the runs as which it continued.

        While no engine answers it asks again; raises `RunNotEnded` after `timeout`.
        """
        waiting = _waiting_for(run_id, timeout)
        while True:
            run, lost = await self._ended(waiting)
            if run and run.has_ended and not run.successor:
                return run
            if run and run.successor:
                waiting.run_id = run.successor
            elif waiting.left_s() <= 0:
                raise RunNotEnded(waiting.run_id, waiting.within_s) from lost

    async def _ended(self, waiting: "_Waiting") -> tuple[Run | None, Exception | None]:
        """Ask for a run and wait a while for its end; return the run, or the error after which to ask again."""
        asked_at, wait_s = waiting.now(), waiting.portion_s()
        run: Run | None = None
        lost: Exception | None = None
        try:
            run = await self._run(waiting.run_id, wait_s)
        except EngineUnreachable as error:
            lost = error
        except RequestRefused as error:
            if error.status != _NOT_FOUND or waiting.now() - waiting.started_at > _LISTED_S_MAX:
                raise
            lost = error
        if not (run and run.has_ended) and waiting.now() - asked_at < wait_s / 2:
            await self._pause(min(_PAUSE_S, waiting.left_s()))
        return run, lost

    async def runs(self, filter: str = "", *, limit: int = 0, before: str = "") -> AsyncGenerator[Run, None]:
        """Yield the runs that a [filter](search.md) finds, the newest first, page by page, at most `limit` (0: all).

        They have no steps and no output; `run` returns these. `before` is the id of a run, after which a list
        continues.
        """
        left = limit
        while True:
            size = min(left, _PAGE) if limit else _PAGE
            query = {"filter": filter, "before": before, "limit": str(size)}
            page = await self._decoded(Request("GET", "/v1/runs", query=query), RunPage)
            for run in page.runs:
                yield run
            left, before = left - len(page.runs), page.next
            if not before or (limit and left <= 0):
                return

    @overload
    def stream(self, run_id: str, channel: Channel[D], /, *, after: str = "") -> LiveStream[D]: ...
    @overload
    def stream(self, run_id: str, /, *channels: AnyChannel, after: str = "") -> LiveStream[Any]: ...
    def stream(self, run_id: str, /, *channels: AnyChannel, after: str = "") -> LiveStream[Any]:
        """Return the [live stream](streams.md) of a run on these channels, or on all, as `StreamClient.run` does."""
        return self._streams.run(run_id, *channels, after=after)

    async def request(
        self, run_id: str, name: str, data: Any = None, *, timeout: Duration = "1m", request_id: str = ""
    ) -> Any:
        """Send a [request](waiting.md#answer-a-request-stepwait_for_request) to a run, and return its reply, as JSON.

        The run takes a request with the same `request_id` once, and its reply is the same; without one, an id is drawn
        here, so an attempt is safe to repeat. Raises `RequestRefused`, with the status 409 if the run has ended or does
        not wait for the request, and with 422 for data that does not fit, and `NoReply` after `timeout`.
        """
        waiting, id = _waiting_for(run_id, timeout), request_id or uuid.uuid4().hex
        path = _path(run_id, f"/requests/{quote(name)}")
        body, headers = bytes(dump_json(to_json(data), "data")), {"Idempotency-Key": id}
        while True:
            wait_s = waiting.portion_s()
            query = {"wait": _wait_text(wait_s)}
            answer = await self._ask(Request("POST", path, query=query, body=body, wait_s=wait_s, headers=headers))
            if "reply" in answer:
                return answer["reply"]
            if waiting.left_s() <= 0:
                raise NoReply(run_id, name, id, waiting.within_s)

    async def cancel(self, run_id: str, *, why: str = "", children: bool = False) -> bool:
        """Cancel a run; return whether it is cancelled, also by an earlier call; False if it ended in another way.

        `children` also cancels the runs that it invoked and waits for. Raises `RequestRefused` if there is no such run.
        It is safe to repeat.
        """
        query = {"why": why, "children": "true" if children else "false"}
        try:
            await self._ask(Request("DELETE", _path(run_id), query=query))
        except RequestRefused as error:
            if error.status != _CONFLICT:
                raise
            # An earlier attempt, whose answer was lost, may have cancelled it.
            return (await self._run(run_id, _LISTED_S_MAX)).status == RunStatus.CANCELLED
        return True

    async def rerun(
        self,
        run_id: str,
        *,
        from_step: str = "",
        from_failure: bool = False,
        data: Any = None,
        results: Mapping[str, Any] | None = None,
        why: str = "",
        request_id: str = "",
    ) -> str:
        """[Rerun](functions.md#rerun-a-run) an ended run; return the id of the new run.

        The same `request_id` starts one run in 24 hours; without one, an id is drawn here, so it is safe to repeat an
        attempt.
        """
        body: dict[str, Any] = {"from_step": from_step, "from_failure": from_failure, "why": why}
        body["request_id"] = request_id or uuid.uuid4().hex
        body["results"] = {step: to_json(result) for step, result in (results or {}).items()}
        if data is not None:
            body["data"] = object_of(data, "data")
        answer = await self._ask(Request("POST", _path(run_id, "/rerun"), body=json_body(body)))
        return str(answer["run_id"])

    async def pause(self, run_id: str, *, until: str = "", why: str = "") -> None:
        """[Pause](functions.md#pause-a-run) a run until a time, a duration such as `"2h"`, or until it is resumed."""
        body = json_body({"until": until, "why": why})
        await self._ask(Request("POST", _path(run_id, "/pause"), body=body))

    async def resume(self, run_id: str, *, why: str = "") -> bool:
        """Resume a paused run; return False if it is not paused, which an earlier attempt may have caused."""
        try:
            await self._ask(Request("POST", _path(run_id, "/resume"), body=json_body({"why": why})))
        except RequestRefused as error:
            if error.status == _CONFLICT:
                return False
            raise
        return True

    async def _run(self, run_id: str, wait_s: float = 0.0) -> Run:
        query = {"wait": _wait_text(wait_s)} if wait_s else {}
        return await self._decoded(Request("GET", _path(run_id), query=query, wait_s=wait_s), Run)


def _path(run_id: str, more: str = "") -> str:
    return f"/v1/runs/{quote(run_id, safe='')}{more}"


def _wait_text(wait_s: float) -> str:
    return f"{round(wait_s * 1_000)}ms"


@dataclass
class _Waiting:
    """A wait for a run: since when, and for how long (s)."""

    run_id: str
    started_at: float
    within_s: float

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def left_s(self) -> float:
        return self.started_at + self.within_s - self.now()

    def portion_s(self) -> float:
        """Return for how long the next request may wait."""
        return min(max(self.left_s(), 0.0), _WAIT_S)


def _waiting_for(run_id: str, timeout: Duration) -> _Waiting:
    return _Waiting(run_id, asyncio.get_running_loop().time(), duration_ms(timeout) / 1_000)


def output_of(run: Run, returns: ReturnType) -> Any:
    """Return the output of a run that has ended; raise RunFailed if it has not completed."""
    if run.status != RunStatus.COMPLETED:
        raise RunFailed(run)
    return load_value(dump_json(run.output), returns)


@dataclass(frozen=True, slots=True)
class RunHandle(Generic[T]):
    """A run that a client started, or knows by its id.

    Attributes:
        run_id: The id of the run, by which another process can make a handle.
    """

    client: Runs
    run_id: str
    returns: ReturnType = PLAIN_JSON

    async def result(self, timeout: Duration = "1m") -> T:
        """Wait for the end of the run and return its output, as `Client.invoke` does."""
        output: T = output_of(await self.client.wait(self.run_id, timeout), self.returns)
        return output

    async def run(self) -> Run:
        """Return the run as it is now."""
        return await self.client.run(self.run_id)

    async def cancel(self, why: str = "") -> bool:
        """Cancel the run, as `Client.cancel` does."""
        return await self.client.cancel(self.run_id, why=why)

    async def request(self, name: str, data: Any = None, *, timeout: Duration = "1m", request_id: str = "") -> Any:
        """Send a request to the run and return its reply, as `Client.request` does."""
        return await self.client.request(self.run_id, name, data, timeout=timeout, request_id=request_id)

    def stream(self, *channels: AnyChannel, after: str = "") -> LiveStream[Any]:
        """Return the live stream of the run, as `Client.stream` does."""
        return self.client.stream(self.run_id, *channels, after=after)
