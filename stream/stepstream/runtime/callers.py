"""Those who ask from outside: they send events, signal and cancel, and some wait for an answer."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from stepstream.contract.codec import Raw, dump_json, encode
from stepstream.contract.errors import InvalidInput, StepstreamError, TooLarge
from stepstream.contract.events import EventRecord, encode_batch
from stepstream.contract.ids import run_routing, shard_of
from stepstream.contract.inbox import CancelRequested, InboxRecord, SignalSent
from stepstream.contract.limits import SIGNAL_NAME_CHARACTERS_MAX, Limits
from stepstream.contract.topics import EVENTS, INBOX
from stepstream.runtime.ports import LogError, NewRecord

REPLY_S_MAX = 10.0


class UnavailableError(StepstreamError):
    """The log did not say that it took what a caller sent: it may have taken it, and it may not."""

    code = "unavailable"


class AnswerLostError(StepstreamError):
    """A request is durable and will be carried out, but its answer was lost with a shard's restart."""

    code = "answer-lost"


class Callers:
    """Appends what callers ask for, and gives each the answer that comes under the name that went with it."""

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

    async def send(self, events: Sequence[EventRecord]) -> list[str]:
        """Send events; return their ids once they are durable. UnavailableError when that is not known."""
        values = encode_batch(events, self._limits)
        records = [NewRecord(EVENTS, -1, event.id.encode(), value) for event, value in zip(events, values, strict=True)]
        try:
            places = await self._append(records)
        except LogError as error:
            remedy = "send them again, with an id each: one that was taken then starts nothing twice"
            raise UnavailableError(f"{error}; the events may have been taken all the same: {remedy}") from error
        return [
            event.id or f"{EVENTS}-{partition}-{offset}"
            for event, (partition, offset) in zip(events, places, strict=True)
        ]

    async def signal(self, name: str, data: Any = None) -> bool:
        """Send a signal; return whether a run waited for it. UnavailableError when it is not known to be durable.

        Its data become the result of a step, and may be as large as one: else TooLarge is raised. InvalidInput is for a
        name that no run can wait for.
        """
        if not 0 < len(name) <= SIGNAL_NAME_CHARACTERS_MAX:
            raise InvalidInput(f"1 to {SIGNAL_NAME_CHARACTERS_MAX} characters are wanted", "signal")
        raw = data if isinstance(data, Raw) else dump_json(data, "signal's data")
        size, most = len(bytes(raw)), self._limits.step_output_bytes_max
        if size > most:
            raise TooLarge(f"the signal's data have {size:,} bytes, at most {most:,} are allowed", "data")
        return await self._ask(name, lambda to: SignalSent(name, raw, to)) == "delivered"

    async def cancel(self, run_id: str) -> bool:
        """Cancel a run; return whether it was there and had not ended."""
        return await self._ask(run_routing(run_id), lambda to: CancelRequested(run_id, to)) == "cancelled"

    async def _ask(self, routing_key: str, record_of: Callable[[str], InboxRecord]) -> str:
        self._count += 1
        to = f"{self._name}-{self._count}"
        reply: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._replies[to] = reply
        partition = shard_of(routing_key, self._shards)
        record = NewRecord(INBOX, partition, routing_key.encode(), encode(record_of(to)))
        try:
            async with asyncio.timeout(REPLY_S_MAX):
                await self._append([record])
                return await reply
        except LogError as error:
            words = "the request may have been taken all the same, and is carried out then"
            raise UnavailableError(f"{error}; {words}") from error
        except TimeoutError:
            raise AnswerLostError(
                f"no answer within {REPLY_S_MAX:g} s; the request is not lost: it is carried out when its shard serves"
            ) from None
        finally:
            self._replies.pop(to, None)

    def answer(self, to: str, status: str) -> bool:
        """Give an answer to whoever waits for it here; return False when nobody does."""
        reply = self._replies.get(to)
        if reply is None or reply.done():
            return False
        reply.set_result(status)
        return True

    def lose(self) -> None:
        """Tell all who wait that a shard began again, and their answers may be lost with it."""
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(AnswerLostError("the shard began again; the request itself is not lost"))
