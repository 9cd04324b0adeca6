"""Reads the commands of a worker, and commits those that it has acknowledged."""

from collections.abc import Callable, Collection

import msgspec

from stepstream.contract.commands import Command, decode_command
from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import LogRecord, WorkerLog
from stepstream.runtime.worker.commands.outbox import Outbox
from stepstream.runtime.worker.commands.positions import Positions

_COMMANDS_PER_POLL_MAX = 64


class CommandReader:
    """Passes each command to `process`. One for which `refuse` returns a reason becomes a dead letter.

    It reads while `may_read` holds, which it checks again after each notification of `changed`.
    """

    def __init__(
        self,
        log: WorkerLog,
        outbox: Outbox,
        changed: Notification,
        may_read: Callable[[], bool],
        refuse: Callable[[Command], str],
        process: Callable[[LogRecord, Command], None],
    ) -> None:
        self._log = log
        self._outbox = outbox
        self._changed = changed
        self._may_read = may_read
        self._refuse = refuse
        self._process = process
        self._positions = Positions()
        self.stopped = False

    async def read(self) -> None:
        """Read until `stopped` is set."""
        while not self.stopped:
            await self._changed.until(self._may_read)
            records = await self._log.poll(_COMMANDS_PER_POLL_MAX)
            for record in () if self.stopped else records:
                self._positions.begin(record.topic, record.partition, record.offset)
                self._read(record)
            await self.commit()

    def _read(self, record: LogRecord) -> None:
        try:
            command = decode_command(record.value)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            self._outbox.dead_letter(record, str(error), "invalid", self._positions)
            return
        if refusal := self._refuse(command):
            self._outbox.dead_letter(record, refusal, "not-applicable", self._positions)
            return
        self._process(record, command)

    def end(self, record: LogRecord) -> None:
        """Acknowledge a command."""
        self._positions.end(record.topic, record.partition, record.offset)

    def keep(self, partitions: Collection[int]) -> None:
        """Acknowledge no commands of other partitions any longer: other workers read them."""
        self._positions.keep(partitions)

    async def commit(self) -> None:
        """Commit the acknowledged commands."""
        if offsets := self._positions.advance():
            await self._log.commit(offsets)
