"""Requests from outside: events, signals and cancellations, some of which are answered."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import uuid4

from msgspec.structs import replace

from stepstream.contract.codec import Raw, dump_json, encode, object_json
from stepstream.contract.errors import Conflict, StepstreamError, TooLarge
from stepstream.contract.events import CHAIN_HEADER, INVOKED, EventRecord, encode_batch
from stepstream.contract.gates import gate_id
from stepstream.contract.ids import is_run_id, run_routing, shard_of
from stepstream.contract.inbox import CancelRequested, InboxRecord, SignalSent, SignalWithStart
from stepstream.contract.limits import Limits
from stepstream.contract.operators.bulk import BulkRequest
from stepstream.contract.operators.control import (
    InvokeRequested,
    Pause,
    PauseRequested,
    RerunRequested,
    ScopePauseRequested,
    UnpauseRequested,
)
from stepstream.contract.operators.limit_settings import LimitChangeRequested
from stepstream.contract.operators.limit_views import (
    LimitAnswer,
    LimitRequested,
    LimitsPage,
    LimitsRequested,
    LimitView,
    RunLimitRequested,
    decode_limit,
)
from stepstream.contract.receipts import SignalReceipt
from stepstream.contract.text.names import check_signal_name
from stepstream.contract.topics import EVENTS, INBOX
from stepstream.runtime.limit_pages import merged
from stepstream.runtime.ports import LogError, NewRecord

REPLY_S_MAX = 10.0
# A question changes nothing, and a page that asks it is shown without the answer.
_QUESTION_S_MAX = 2.0


class UnavailableError(StepstreamError):
    """The log did not confirm a request; it may still have been written."""

    code = "unavailable"


class AnswerLostError(StepstreamError):
    """A request is durable and will be processed, but its answer was lost when a shard restarted."""

    code = "answer-lost"


class Callers:
    """Appends the requests of callers, and passes each answer to the caller by its address.

    `name` identifies this process in the addresses: answers are sent to all processes.
    """

    def __init__(
        self,
        append: Callable[[Sequence[NewRecord]], Awaitable[list[tuple[int, int]]]],
        shards: int,
        limits: Limits,
        name: str = "here",
    ) -> None:
        self._append = append
        self._shards = shards
        self._limits = limits
        self._name = name
        self._count = 0
        self._replies: dict[str, asyncio.Future[str]] = {}

    async def send(self, events: Sequence[EventRecord], chain: int = 0, *, limits: Limits | None = None) -> list[str]:
        """Send events; return their ids once they are durable. Raise UnavailableError if that is unknown.

        `chain` counts the runs that precede the events in a chain of runs that started one another. `limits` replace
        those of this process.
        """
        headers = ((CHAIN_HEADER, b"%d" % chain),) if chain else ()
        values = encode_batch(events, limits or self._limits)
        pairs = zip(events, values, strict=True)
        records = [NewRecord(EVENTS, -1, event.id.encode(), value, headers) for event, value in pairs]
        try:
            written = await self._append(records)
        except LogError as error:
            remedy = "send them again with the same ids: an event that was already written starts nothing twice"
            raise UnavailableError(f"{error}; the events may still have been written: {remedy}") from error
        return [
            event.id or f"{EVENTS}-{partition}-{offset}"
            for event, (partition, offset) in zip(events, written, strict=True)
        ]

    async def signal(self, name: str, data: Any = None, by: str = "") -> bool:
        """Send a signal; return whether a run waited for it. `by` is who sends it, for the history of the run.

        Raise UnavailableError if it is unknown whether the signal is durable, TooLarge for data larger than the result
        of a step, and InvalidInput for a name that no run can wait for.
        """
        return await self.signal_run(name, data, by) != ""

    async def signal_run(self, name: str, data: Any = None, by: str = "") -> str:
        """Send a signal as `signal` does; return the id of the run that waited for it, "" if none did."""
        raw = self._signal_data(name, data)
        answer = await self._ask(name, lambda to: SignalSent(name, raw, to, by))
        status, _, run_id = answer.partition(" ")
        return run_id if status == "delivered" else ""

    async def signal_with_start(
        self, name: str, data: Any, function: str, start: Any = None, chain: int = 0, *, by: str = ""
    ) -> SignalReceipt:
        """Send a signal to the run that waits for it, or start `function` with it; `start` is the data of its event.

        `chain` counts the runs that precede that one in a chain of runs that started one another, and `by` is that of
        `signal`. Raise as it does, and Conflict if the function is not registered, or too many signals wait for a run.
        """
        raw = self._signal_data(name, data)
        event = EventRecord(INVOKED, object_json(start, "start"), f"{uuid4().hex}:signal")
        encode_batch([event], self._limits)
        answer = await self._ask(name, lambda to: SignalWithStart(name, raw, function, event, to, chain, by))
        status, _, run_id = answer.partition(" ")
        if run_id:
            return SignalReceipt(run_id, started=status == "started")
        if answer == "full":
            raise Conflict(f"too many signals {name!r} wait for a run; send it again later")
        raise Conflict(f"no function {function!r} is registered; start a worker that has it")

    async def invoke(self, function: str, event: EventRecord) -> str:
        """Start `function`, and no other one, by an event; return the id of its run, even if it was started before.

        Of the event count the id, the data, `user`, `v` and `meta`; the same id starts the function once in 24 h. Raise
        UnavailableError and AnswerLostError as `rerun` does, and Conflict if the function is not registered.
        """
        # Another event may have this id, and may have started the function.
        event = replace(event, name=INVOKED, id=f"{event.id or uuid4().hex}:invoke", ts=0)
        encode_batch([event], self._limits)
        request = InvokeRequested(function, event)
        answer = await self._ask(request.routing_key, lambda to: replace(request, reply_to=to))
        if is_run_id(answer):
            return answer
        raise Conflict(f"no function {function!r} is registered; start a worker that has it")

    def _signal_data(self, name: str, data: Any) -> Raw:
        check_signal_name(name)
        raw = data if isinstance(data, Raw) else dump_json(data, "signal's data")
        size, most = len(bytes(raw)), self._limits.step_output_bytes_max
        if size > most:
            raise TooLarge(f"the signal's data has {size:,} bytes; at most {most:,} are allowed", "data")
        return raw

    async def cancel(self, run_id: str, by: str = "", why: str = "", *, children: bool = False) -> bool:
        """Cancel a run, also the runs that it waits for if asked; return whether it existed and had not ended."""
        answer = await self._ask(
            run_routing(run_id), lambda to: CancelRequested(run_id, to, by, why, children=children)
        )
        return answer == "cancelled"

    async def rerun(self, request: RerunRequested) -> str:
        """Rerun a run; return the id of the new run, even if the request was sent before.

        Raise Conflict if its function is not registered, and for results beyond the limits of a run.
        """
        answer = await self._ask(request.routing_key, lambda to: replace(request, reply_to=to))
        if is_run_id(answer):
            return answer
        if answer == "function_not_found":
            raise Conflict(f"no function {request.function!r} is registered; start a worker that has it")
        raise Conflict(f"{answer}; rerun from an earlier step, or from the start")

    async def pause(self, run_id: str, pause: Pause) -> bool:
        """Pause a run, or change its pause; return whether it existed and had not ended."""
        return await self._ask(run_routing(run_id), lambda to: PauseRequested(run_id, pause, to)) == "paused"

    async def unpause(self, run_id: str, by: str = "", why: str = "") -> bool:
        """End the pause of a run; return whether it was paused."""
        return await self._ask(run_routing(run_id), lambda to: UnpauseRequested(run_id, by, why, to)) == "unpaused"

    async def bulk(self, request: BulkRequest) -> str:
        """Send a request about a bulk operation; return the state of the operation, `absent` if there is none."""
        return await self._ask(request.operation, lambda to: replace(request, reply_to=to))

    async def pause_scope(self, scope: str, pause: Pause | None, by: str = "", why: str = "") -> bool:
        """Pause a function or a queue, or resume it without a pause; return whether it is paused now, or was.

        `by` and `why` say who resumes it, and the reason.
        """
        answer = await self._ask(scope, lambda to: ScopePauseRequested(scope, pause, to, by, why))
        return answer != "not_paused"

    async def limits(self, name: str, after: str, count: int) -> LimitsPage:
        """Return a part of the limits of all shards, as LimitsRequested; raise the error if no shard answers."""
        question = functools.partial(LimitsRequested, count=count, name=name, after=after)
        asked = (self._ask_shard(shard, "", question, _QUESTION_S_MAX) for shard in range(self._shards))
        return merged(await asyncio.gather(*asked, return_exceptions=True), count)

    async def limit(self, name: str, key: str) -> LimitAnswer:
        """Return a limit for a value of its key."""
        gate = gate_id(name, key)
        return decode_limit(await self._ask(gate, lambda to: LimitRequested(gate, to), _QUESTION_S_MAX))

    async def limit_of(self, run_id: str) -> LimitView | None:
        """Return the limit for which a run waits, with its place in the queue; None if it waits for none."""
        asked = self._ask(run_routing(run_id), lambda to: RunLimitRequested(run_id, to), _QUESTION_S_MAX)
        return decode_limit(await asked).limit

    async def change_limit(self, request: LimitChangeRequested) -> bool:
        """Change a limit; return whether there was something to change."""
        return await self._ask(request.gate, lambda to: replace(request, reply_to=to)) == "changed"

    async def _ask(
        self, routing_key: str, record_of: Callable[[str], InboxRecord], within_s: float = REPLY_S_MAX
    ) -> str:
        return await self._ask_shard(shard_of(routing_key, self._shards), routing_key, record_of, within_s)

    async def _ask_shard(
        self, shard: int, routing_key: str, record_of: Callable[[str], InboxRecord], within_s: float
    ) -> str:
        self._count += 1
        to = f"{self._name}-{self._count}"
        reply: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._replies[to] = reply
        record = NewRecord(INBOX, shard, routing_key.encode(), encode(record_of(to)))
        try:
            async with asyncio.timeout(within_s):
                await self._append([record])
                return await reply
        except LogError as error:
            raise UnavailableError(f"{error}; the request may still have been written") from error
        except TimeoutError:
            raise AnswerLostError(
                f"no answer within {within_s:g} s; the request is durable and is processed once its shard serves"
            ) from None
        finally:
            self._replies.pop(to, None)

    def answer(self, to: str, status: str) -> bool:
        """Pass an answer to the caller that waits for it; return False if there is none in this process."""
        reply = self._replies.get(to)
        if reply is None or reply.done():
            return False
        reply.set_result(status)
        return True

    def lose(self) -> None:
        """Fail all waiting callers: a shard restarted, and their answers may be lost."""
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(
                    AnswerLostError("a shard restarted before it answered; the request is durable and is processed")
                )
