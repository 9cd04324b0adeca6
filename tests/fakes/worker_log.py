"""A worker's log in memory: a test appends commands, reads reports, and decides which calls fail or wait."""

import asyncio
from typing import Any

from stepstream.contract.codec import encode
from stepstream.contract.commands import Command
from stepstream.contract.inbox import decode_inbox
from stepstream.contract.topics import commands_topic
from stepstream.runtime.ports import LogRecord, NewRecord, Offsets, RebalanceListener
from tests.fakes.calls import Calls

TOPIC = commands_topic("shop")


class FakeWorkerLog:
    """A `WorkerLog` with one partition, number 0, of `topic`.

    Commands before the offset `fresh_from` may have been started by another worker. Like the log on Kafka, a poll
    returns no records when there are none to read. `calls` has poll, until_member, append, acknowledge, dead_letter and
    commit: a report whose acknowledgement is blocked is in `reports` already.
    """

    def __init__(self, *commands: Command, topic: str = TOPIC, fresh_from: int = 0) -> None:
        self.topic = topic
        self.fresh_from = fresh_from
        self.commands: list[LogRecord] = []
        self.unread: list[LogRecord] = []
        self.reports: list[Any] = []
        self.dead_letters: list[NewRecord] = []
        self.committed: Offsets = {}
        self.left = self.closed = False
        self.listener: RebalanceListener | None = None
        self.calls = Calls()
        self.give(*commands)

    def give(self, *commands: Command) -> None:
        """Append commands."""
        self.give_bytes(*map(encode, commands))

    def give_bytes(self, *values: bytes) -> None:
        """Append the bytes of commands, which need not be valid."""
        first = len(self.commands)
        new = [LogRecord(self.topic, 0, first + index, b"k", value, (), 0) for index, value in enumerate(values)]
        self.commands += new
        self.unread += new

    def redeliver(self) -> None:
        """Deliver every command again from the first: the partition was revoked and assigned again."""
        self.unread = list(self.commands)

    async def rebalance(self, *kept: int, lost: bool = False) -> None:
        """Revoke all partitions but `kept`; with `lost` the group had expired the worker's membership."""
        assert self.listener
        await self.listener.moving()
        await self.listener.moved(kept, lost=lost)

    def reports_of(self, kind: type) -> list[Any]:
        """Return the reports of a type, in their order."""
        return [report for report in self.reports if isinstance(report, kind)]

    @property
    def kinds(self) -> list[type]:
        """The types of the reports, in their order."""
        return [type(report) for report in self.reports]

    async def open(self, listener: RebalanceListener) -> None:
        """Keep the listener for `rebalance` and `leave`."""
        self.listener = listener

    def is_fresh(self, record: LogRecord) -> bool:
        """Return whether a command was appended after this worker opened its log."""
        return record.offset >= self.fresh_from

    async def until_member(self) -> None:
        """Return at once, unless blocked."""
        await self.calls.made("until_member")

    async def poll(self, limit: int) -> list[LogRecord]:
        """Return unread commands, at most `limit`."""
        await self.calls.made("poll")
        await asyncio.sleep(0)
        found, self.unread = self.unread[:limit], self.unread[limit:]
        return found

    async def append(self, _routing_key: str, value: bytes) -> None:
        """Keep a report; return when it is acknowledged."""
        await self.calls.made("append")
        self.reports.append(decode_inbox(value))
        await self.calls.made("acknowledge")

    async def dead_letter(self, record: NewRecord) -> None:
        """Keep a dead letter."""
        await self.calls.made("dead_letter")
        self.dead_letters.append(record)

    async def commit(self, offsets: Offsets) -> None:
        """Keep the committed offsets, as long as the log is open."""
        await self.calls.made("commit")
        if not self.closed:
            self.committed |= offsets

    async def leave(self) -> None:
        """Give all partitions to other workers."""
        self.left = True
        if self.listener:
            await self.listener.moved((), lost=False)

    async def close(self) -> None:
        """Refuse further commits."""
        self.closed = True
