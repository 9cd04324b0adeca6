"""The tables of one shard on disk, and the batches that change them: an engine without a log."""

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec

from stepstream.contract.codec import encode
from stepstream.contract.inbox import InboxRecord, StepResolved, decode_inbox
from stepstream.contract.limits import HOUR_MS
from stepstream.contract.matching import EventMatched, LookBackTruncated
from stepstream.contract.topics import INBOX
from stepstream.engine.state.changes import Delete, Put, Send
from stepstream.engine.state.records import Input, Tick
from stepstream.engine.state.tables import encode_row
from stepstream.engine.state.view import Layer
from stepstream.engine.transition import due_timers, transition
from stepstream.runtime.shard.tables import StoreView
from stepstream.runtime.storage.rocks_store import RocksStore


class BareShard:
    """One shard of several. Its records to itself are applied, and those to runs and other shards encoded and dropped.

    `longest_ms` is the CPU of the longest batch that it applied by itself: to continue a record, or because a timer
    was due.
    """

    def __init__(self, folder: Path, now_ms: int, shard: int = 0, shards: int = 1) -> None:
        self._store = RocksStore(folder, lambda: now_ms, HOUR_MS)
        self._store.open()
        self.view = StoreView(self._store)
        self._later: deque[Input] = deque()
        self._shard, self._shards = shard, shards
        self.now_ms = now_ms
        self.longest_ms = 0.0

    def apply(self, *records: Input) -> None:
        """Apply records in one batch, and those that continue them in further batches."""
        self._commit(records)
        while self._later:
            self._commit_alone([self._later.popleft()])

    def tick(self) -> int:
        """Fire the timers that are due, in batches, until none is; return the number of batches."""
        batches = 0
        while due := [Tick(key) for key, _ in due_timers(self.view, self.now_ms)]:
            self._commit_alone(due)
            batches += 1
        return batches

    def _commit_alone(self, records: Sequence[Input]) -> None:
        begun = time.thread_time()
        self._commit(records)
        self.longest_ms = max(self.longest_ms, (time.thread_time() - begun) * 1e3)

    def _commit(self, records: Sequence[Input]) -> None:
        layer = Layer(self.view)
        queue: deque[Input] = deque(records)
        while queue:
            changes = transition(layer, queue.popleft(), self.now_ms, shard=self._shard, shards=self._shards).changes
            for change in changes:
                match change:
                    case Put(key, row):
                        layer.put(key, row)
                    case Delete(key):
                        layer.put(key, None)
                    case Send():
                        self._send(change, queue)
        rows = {key: None if row is None else encode_row(row) for key, row in layer.items()}
        self._store.write([(key.encode(), value) for key, value in rows.items()], 0)
        self.view.note(rows)

    def _send(self, sent: Send, queue: deque[Input]) -> None:
        value = encode(sent.record)
        if sent.topic != INBOX or sent.partition != self._shard or _to_run(sent.record):
            return
        record: InboxRecord = decode_inbox(value)
        (self._later if sent.later else queue).append(record)

    def close(self) -> None:
        """Close the tables."""
        self._store.close()


def _to_run(record: msgspec.Struct) -> bool:
    return isinstance(record, EventMatched | StepResolved | LookBackTruncated)
