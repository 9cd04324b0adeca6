"""Messages about a run and its steps, for clients that subscribe to the topics `$run` and `$step` of its channel."""

import asyncio
from collections.abc import Collection, Iterator
from typing import Any

import msgspec

from stepstream.contract.codec import NULL, Raw, encode
from stepstream.contract.ids import is_run_id
from stepstream.contract.kinds import ENDED_RUN_STATUSES, OPEN_STEP_STATUSES, RunStatus
from stepstream.gateway.rest.replies import iso
from stepstream.gateway.rest.sdk_shapes import error_object
from stepstream.gateway.wire.calls import function_uuid
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.views import RunView, StepView

RUN_TOPIC, STEP_TOPIC = "$run", "$step"
_NEVER = -1
_QUERY_S_MIN = 0.25


class RealtimeMessage(msgspec.Struct, omit_defaults=True):
    """A message as the SDKs read it; `metadata` is null if there is none."""

    kind: str
    channel: str
    topic: str
    data: Raw
    created_at: str
    run_id: str = ""
    stream_id: str = ""
    fn_id: str = ""
    metadata: Raw = NULL


class RunWatch:
    """What a subscriber does not know yet of a run: that it is running, its steps that have ended, and its end.

    The read model is queried only when the run has changed, at most four times in a second. A step that ended before
    `since_ms` is left out.
    """

    def __init__(self, index: RunIndex, run_id: str, topics: Collection[str], since_ms: int) -> None:
        self._index, self._run_id, self._since_ms = index, run_id, since_ms
        self._topics = {RUN_TOPIC, STEP_TOPIC} & set(topics)
        self._version = _NEVER
        self._known: set[str] = set()
        self._status = ""
        self._loop = asyncio.get_running_loop()
        self._next_s = 0.0

    @property
    def is_over(self) -> bool:
        """Whether there are no further news."""
        return self._status in ENDED_RUN_STATUSES or not self._topics or not is_run_id(self._run_id)

    async def news(self) -> list[RealtimeMessage]:
        """Return the messages about what has happened since the last call."""
        changes, now_s = self._index.changes, self._loop.time()
        if self.is_over or now_s < self._next_s or not changes.among([self._run_id], self._version):
            return []
        self._version, self._next_s = changes.version, now_s + _QUERY_S_MIN
        run = await self._index.queries.show(self._run_id)
        return list(self._messages(run)) if run else []

    def _messages(self, run: RunView) -> Iterator[RealtimeMessage]:
        for step in sorted(run.steps, key=lambda each: each.ended_at) if STEP_TOPIC in self._topics else ():
            if step.status not in OPEN_STEP_STATUSES and step.step not in self._known:
                self._known.add(step.step)
                if step.ended_at >= self._since_ms:
                    yield self._message(run, "step", step.id, _step_data(step), step.ended_at, step.status)
        before, self._status = self._status, run.status
        if RUN_TOPIC in self._topics and run.status != before and run.status in _SHOWN:
            at = run.ended_at or run.started_at
            yield self._message(run, "run", RUN_TOPIC, _run_data(run), at)

    def _message(
        self, run: RunView, kind: str, topic: str, data: object, at_ms: int, status: str = ""
    ) -> RealtimeMessage:
        metadata = Raw(encode({"status": status})) if status else NULL
        shown = (kind, self._run_id, topic, Raw(encode(data)), iso(at_ms) or "", self._run_id, "")
        return RealtimeMessage(*shown, function_uuid(run.function), metadata)


_SHOWN = {RunStatus.RUNNING, *ENDED_RUN_STATUSES}


def _step_data(step: StepView) -> object:
    return error_object(step.error) if step.error else step.output


def _run_data(run: RunView) -> dict[str, Any]:
    match run.status:
        case RunStatus.RUNNING:
            return {"status": run.status}
        case RunStatus.COMPLETED:
            return {"status": run.status, "result": run.output}
    return {"status": run.status, "error": error_object(run.error)}
