"""How aiokafka reads what brokers send: header names that are no UTF-8 do not keep it from all that comes after them.

Some producers write names of headers as they are given, in any bytes. The client refuses the whole batch each time.
"""

from collections.abc import Iterator
from typing import Any

from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy


class _Lenient(bytearray):
    """Bytes whose parts become text whatever they are: what is no UTF-8 is shown by its numbers, as in `caf\\xe9`."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _Lenient(found) if isinstance(at, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        """Return the text."""
        return super().decode(encoding, errors)


class _Batch:
    """A batch as the client parses it, of which records that it refuses are read once more."""

    def __init__(self, batch: Any, data: memoryview) -> None:
        self._batch = batch
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        last = -1
        try:
            for record in self._batch:
                last = record.offset
                yield record
        except (UnicodeDecodeError, CorruptRecordException):
            if self._batch.magic < 2:
                raise
            again = _DefaultRecordBatchPy(self._data)
            iter(again)  # Decompresses it.
            again._buffer = _Lenient(again._buffer)
            yield from (record for record in again if record.offset > last)


class Batches(_MemoryRecordsPy):  # type: ignore[misc]  # aiokafka's classes have no types.
    """The batches in what a broker sent of a partition."""

    def next_batch(self) -> _Batch | None:
        """Return the next batch, if there is one."""
        data = self._next_slice
        batch = super().next_batch()
        return None if batch is None else _Batch(batch, data)
