"""How aiokafka parses the batches that brokers send, so that no batch of any producer stops its reader.

Three kinds of batches would: one that inflates to more than the memory of the process, one whose compressed data is
corrupt, and one with a header name that is not UTF-8, which aiokafka refuses each time that it reads the batch.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.legacy_records import LegacyRecordBatch
from aiokafka.record.util import decode_varint_py

from stepstream.contract.limits import BATCH_INFLATED_BYTES_MAX
from stepstream.runtime.kafka.client.inflating import CODECS, CorruptData, InflatedTooLarge, inflate
from stepstream.runtime.ports import Unreadable

# The layout of a batch: its length is at 8, its version (magic) at 16. Version 2 has a header of 61 bytes, with the low
# byte of its attributes at 22. Legacy batches, of version 0 or 1, are messages with a key, and attributes at 17.
_LENGTH, _LENGTH_END, _MAGIC_AT = struct.Struct(">i"), 12, 16
_HEADER_BYTES, _ATTRIBUTES_AT = 61, 22
_LEGACY_BYTES_MIN, _LEGACY_ATTRIBUTES_AT, _LEGACY_KEY_AT = 26, 17, {0: 18, 1: 26}
_CODEC_BITS = 7
# Compressed data up to this size is inflated on the event loop: a thread would cost more.
_INLINE_BYTES_MAX = 1_024


class UnreadableHeader(str):
    """The name of the only header of a record that replaces the records of an unreadable batch.

    It is recognised by its type, so no producer can send it. aiokafka and Faust pass header names on unchanged.
    """

    __slots__ = ("unreadable",)
    unreadable: Unreadable

    def __new__(cls, unreadable: Unreadable) -> "UnreadableHeader":
        """Return a name that carries the description of the batch."""
        name = super().__new__(cls, "stepstream-unreadable")
        name.unreadable = unreadable
        return name


def unreadable_of(headers: Sequence[tuple[str, Any]]) -> Unreadable | None:
    """Return what a record with these headers replaces; None for a record of a producer."""
    name = headers[0][0] if headers else ""
    return name.unreadable if isinstance(name, UnreadableHeader) else None


@dataclass(frozen=True, slots=True)
class _Replacement:
    """A record in the shape of aiokafka's, in place of those that cannot be read."""

    offset: int
    timestamp: int
    headers: list[tuple[UnreadableHeader, bytes]]
    timestamp_type: int = 0
    key: bytes | None = None
    value: bytes | None = None
    checksum: int | None = None


class _Lenient(bytearray):
    """Bytes whose slices always decode to text: a byte that is not UTF-8 becomes an escape, `caf\\xe9`."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _Lenient(found) if isinstance(at, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        """Return the text."""
        return super().decode(encoding, errors)


class _Batch:
    """A batch: attributes are those of aiokafka's parser, and iterating yields its records or a replacement."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        magic = data[_MAGIC_AT]
        self.codec = data[_ATTRIBUTES_AT if magic >= 2 else _LEGACY_ATTRIBUTES_AT] & _CODEC_BITS
        self._batch = DefaultRecordBatch(data) if magic >= 2 else LegacyRecordBatch(data, magic)
        self._magic = magic
        self._crc_is_valid: bool | None = None
        self._reason = ""
        self._too_large = False
        self.inflated = not self.codec

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    @property
    def wire_bytes(self) -> int:
        """The size of a batch as the broker sent it, if it is compressed and not inflated yet."""
        return 0 if self.inflated else len(self._data)

    def validate_crc(self) -> bool:
        """Return whether the checksum is right; that of a compressed batch is checked before it is inflated."""
        if self._crc_is_valid is None:
            self._crc_is_valid = bool(self._batch.validate_crc())
        return self._crc_is_valid

    def inflate(self) -> int:
        """Inflate the batch once; return how many bytes that took."""
        if self.inflated or not self.validate_crc():
            return 0
        self.inflated = True
        start = _HEADER_BYTES if self._magic >= 2 else self._legacy_value_at()
        try:
            found = inflate(self.codec, self._data[start:], BATCH_INFLATED_BYTES_MAX)
        except InflatedTooLarge:
            self._too_large = True
            self._reason = f"inflates to more than {BATCH_INFLATED_BYTES_MAX:,} bytes"
            return BATCH_INFLATED_BYTES_MAX
        except CorruptData as error:
            self._reason = f"cannot be inflated: {error}"
            return len(self._data)
        if self._magic >= 2:
            header = bytearray(self._data[:_HEADER_BYTES])
            _LENGTH.pack_into(header, _LENGTH_END - _LENGTH.size, _HEADER_BYTES + len(found) - _LENGTH_END)
            header[_ATTRIBUTES_AT] &= ~_CODEC_BITS & 0xFF
            self._data = memoryview(bytes(header) + found)
            self._batch = DefaultRecordBatch(self._data)
        return len(found)

    def _legacy_value_at(self) -> int:
        """Return where the value of a legacy message starts, which has the compressed messages."""
        at = _LEGACY_KEY_AT[self._magic]
        (key_bytes,) = _LENGTH.unpack_from(self._data, at)
        return at + 2 * _LENGTH.size + max(int(key_bytes), 0)

    def __iter__(self) -> Iterator[Any]:
        self.inflate()
        if self._reason:
            yield self._replacement(self._first, self._reason)
            return
        last = self._first - 1
        try:
            for record in self._batch:
                last = record.offset
                yield record
        except (UnicodeDecodeError, CorruptRecordException, ValueError) as error:
            if self._magic < 2:
                raise
            yield from self._reread(last + 1, error)

    def _reread(self, first: int, error: Exception) -> Iterator[Any]:
        """Yield the records from an offset on that aiokafka refuses, as far as their bytes are those of records."""
        batch = _DefaultRecordBatchPy(self._data)
        batch._buffer = _Lenient(batch._buffer)
        # The compiled decode_varint reads past the end of the bytes, which can crash the process.
        batch._read_msg = partial(batch._read_msg, decode_varint_py)
        try:
            for record in batch:
                if record.offset >= first:
                    first = record.offset + 1
                    yield record
        except (CorruptRecordException, ValueError, IndexError):
            yield self._replacement(first, f"cannot be parsed: {error}")

    @property
    def _first(self) -> int:
        return int(self._batch.base_offset) if self._magic >= 2 else self._last

    @property
    def _last(self) -> int:
        return int(self._batch.next_offset) - 1

    def _replacement(self, first: int, reason: str) -> _Replacement:
        """Return the record that replaces those from `first` to the end; it has the last offset."""
        codec = f"{CODECS[self.codec][0]} " if self.codec in CODECS else ""
        text = f"the {codec}batch with the offsets {first} to {self._last} {reason}"
        unreadable = Unreadable(text, first, self._last, len(self._data), self._too_large)
        timestamp = int(self._batch.max_timestamp) if self._magic >= 2 else 0
        return _Replacement(self._last, timestamp, [(UnreadableHeader(unreadable), b"")])


class Batches:
    """The batches that a broker sent of one partition, as aiokafka's MemoryRecords."""

    def __init__(self, data: bytes) -> None:
        self._bytes = len(data)
        self._batches: deque[_Batch | None] = deque()
        view, at = memoryview(data), 0
        while at + _LENGTH_END <= len(view):
            (length,) = _LENGTH.unpack_from(view, at + _LENGTH_END - _LENGTH.size)
            end = at + _LENGTH_END + length
            if length >= 0 and end > len(view):
                break  # The broker cuts the last batch at the size of the answer.
            if end - at < _LEGACY_BYTES_MIN or (view[at + _MAGIC_AT] >= 2 and end - at < _HEADER_BYTES):
                self._batches.append(None)
                break
            self._batches.append(_Batch(view[at:end]))
            at = end

    def size_in_bytes(self) -> int:
        """Return the size of all batches; 0 if none is left, for a partition that did not fit into the response."""
        return self._bytes

    def has_next(self) -> bool:
        """Return whether there is another batch."""
        return bool(self._batches)

    def next_batch(self) -> _Batch | None:
        """Return the next batch, or None."""
        batch = self._batches.popleft() if self._batches else None
        if batch is None:
            raise CorruptRecordException("a record is shorter than the shortest possible one")
        return batch

    @property
    def wire_bytes(self) -> int:
        """The size of the compressed batches that are not inflated yet."""
        return sum(batch.wire_bytes for batch in self._batches if batch)

    def inflate(self, budget: int) -> int:
        """Inflate the compressed batches until `budget` is used, and drop the rest; return how much was used.

        aiokafka continues after the last record that it has read, so it fetches what was dropped again.
        """
        used = 0
        for index, batch in enumerate(self._batches):
            if batch and batch.wire_bytes:
                if used >= budget:
                    self._batches = deque(list(self._batches)[:index])
                    # aiokafka treats bytes without a batch as a record that is too large.
                    self._bytes = self._bytes if index else 0
                    break
                used += batch.inflate()
        return used


def batches_of(data: "bytes | Batches") -> Batches:
    """Return the batches of a partition in a fetch response, which parse_fetched() may have parsed already."""
    return data if isinstance(data, Batches) else Batches(data)


async def parse_fetched(answer: Any) -> None:
    """Replace the data of each partition in a fetch response by its batches, inflated in a thread.

    All batches of a response together inflate to little more than BATCH_INFLATED_BYTES_MAX.
    """
    answer.topics = [
        (topic, [(*partition[:-1], batches_of(partition[-1] or b"")) for partition in partitions])
        for topic, partitions in answer.topics
    ]
    found = [partition[-1] for _, partitions in answer.topics for partition in partitions]
    wire_bytes = sum(batches.wire_bytes for batches in found)
    if wire_bytes > _INLINE_BYTES_MAX:
        await asyncio.to_thread(_inflate_all, found)
    elif wire_bytes:
        _inflate_all(found)


def _inflate_all(found: Sequence[Batches]) -> None:
    budget = BATCH_INFLATED_BYTES_MAX
    for batches in found:
        budget -= batches.inflate(budget)
