"""The ports of a shard, over other ones, with their transactions kept and with calls that a test has wait or fail."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

from stepstream.runtime.ports import LogRecord, NewRecord, StoredRow
from tests.fakes.calls import Calls


class Transaction(NamedTuple):
    """What one transaction writes."""

    records: list[NewRecord]
    rows: list[StoredRow]

    @property
    def size(self) -> int:
        """How many records and rows it has."""
        return len(self.records) + len(self.rows)

    @property
    def bytes(self) -> int:
        """The size of keys and values."""
        records = sum(len(record.key) + len(record.value) for record in self.records)
        return records + sum(len(key) + len(value or b"") for key, value in self.rows)


class FakeLog:
    """A `Log` over another one; `calls` has changelog, poll, send and close."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self.calls = Calls()
        self.transactions: list[Transaction] = []
        # Whether batches are delayed until there are more records, as where a commit is expensive.
        self.delays_batches = False
        # A broker refuses a transaction if this raises.
        self.check: Callable[[Transaction], None] = lambda _: None
        self.closed = False
        # As the log on Kafka has, for a shard that does not recover.
        self.changelog_left = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def changelog(self, position: int) -> AsyncIterator[tuple[list[StoredRow], int]]:
        """Yield the rows."""
        await self.calls.made("changelog")
        async for found in self._log.changelog(position):
            yield found

    async def poll(self, limit: int, until_ms: int | None) -> list[LogRecord]:
        """Return the next records."""
        await self.calls.made("poll")
        found: list[LogRecord] = await self._log.poll(limit, until_ms)
        return found

    async def more(self, limit: int, until_ms: int | None) -> list[LogRecord]:
        """Return the next records, or none if batches are not delayed."""
        more = self._log.poll if self.delays_batches else self._log.more
        found: list[LogRecord] = await more(limit, until_ms)
        return found

    async def send(self, records: Sequence[NewRecord], rows: Sequence[StoredRow]) -> None:
        """Keep the transaction, and write it."""
        await self.calls.made("send")
        transaction = Transaction(list(records), list(rows))
        self.check(transaction)
        self.transactions.append(transaction)
        await self._log.send(records, rows)

    async def close(self) -> None:
        """Close."""
        await self.calls.made("close")
        self.closed = True
        await self._log.close()


class FakeStore:
    """A `Store` over another one; `calls` has open and close."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.calls = Calls()
        self.closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def open(self) -> int:
        """Open the tables."""
        self.calls.count["open"] += 1
        self.calls.check("open")
        position: int = self._store.open()
        return position

    def close(self) -> None:
        """Close the tables."""
        self.calls.check("close")
        self.closed = True
        self._store.close()


class FakeLogs:
    """Wraps the logs of an engine's shards, as the `wrap` of VirtualEngine."""

    def __init__(self, *, delays_batches: bool = False, check: Callable[[Transaction], None] = lambda _: None) -> None:
        self._delays_batches = delays_batches
        self._check = check
        self.logs: list[FakeLog] = []

    def __call__(self, name: str, port: Any) -> Any:
        """Return a fake log in place of a shard's log."""
        if not name.startswith("log-"):
            return port
        log = FakeLog(port)
        log.delays_batches, log.check = self._delays_batches, self._check
        self.logs.append(log)
        return log

    @property
    def sizes(self) -> list[int]:
        """The sizes of all transactions."""
        return [transaction.size for log in self.logs for transaction in log.transactions]
