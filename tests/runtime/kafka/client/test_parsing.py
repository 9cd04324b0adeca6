"""Batches of any producer are read, whatever their compression, names and data, and stop no reader."""

import gzip
import random
import threading
import tracemalloc
import zlib
from types import SimpleNamespace
from typing import Any

import cramjam
import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchBuilderPy
from aiokafka.record.legacy_records import _LegacyRecordBatchBuilderPy
from aiokafka.record.util import calc_crc32c

from stepstream.contract.limits import MIB
from stepstream.runtime.kafka.client import parsing
from stepstream.runtime.kafka.client.answers import records_in
from stepstream.runtime.kafka.client.inflating import CorruptData, InflatedTooLarge, inflate
from stepstream.runtime.kafka.client.parsing import Batches, batches_of, parse_fetched
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.ports import LogRecord, Unreadable

AT = TopicPartition("events", 0)
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
COMPRESSED = {name: codec for name, codec in CODECS.items() if codec}
CAP = 256 * 1024


@pytest.fixture(autouse=True)
def _small_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "BATCH_INFLATED_BYTES_MAX", CAP)


class Latin(str):
    """A header name that a producer encodes in Latin-1."""

    __slots__ = ()

    def encode(self, *_: str) -> bytes:
        """Return its bytes."""
        return b"caf\xe9"


def batch(codec: int, *values: bytes, first: int = 0, name: str = "name") -> bytes:
    """Return a batch with a record for each value, whose offsets start at `first`."""
    builder = _DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, -1, 1 << 30)
    for offset, value in enumerate(values):
        builder.append(offset, 1, b"key", value, [(name, b"1"), ("after", None)])
    data = bytearray(builder.build())
    data[:8] = first.to_bytes(8, "big")
    return bytes(data)


def bomb(codec: int, first: int = 0) -> bytes:
    """Return a batch of three records whose size on the wire is far below the cap, and inflated far above it."""
    return batch(codec, *[bytes(2 * CAP)] * 3, first=first)


def corrupt(codec: int) -> bytes:
    """Return a batch with a correct checksum whose data is not that of its codec."""
    data = bytearray(batch(codec, b"value" * 20, b"value" * 20))
    data[61:] = b"\xa5" * len(data[61:])
    data[17:21] = calc_crc32c(data[21:]).to_bytes(4, "big")
    return bytes(data)


def read(*batches: bytes, offset: int = 0) -> list[LogRecord]:
    """Return what a consumer reads of a partition from an offset on."""
    return read_batches(batches_of(b"".join(batches)), offset)


def read_batches(batches: Batches, offset: int = 0) -> list[LogRecord]:
    """Return what a consumer reads of parsed batches."""
    found = list(PartitionRecords(AT, batches, None, offset, None, None, True, 1))
    return records_in({AT: found}, KafkaSettings())


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_every_compression_is_read(codec: int) -> None:
    """Producers may use any."""
    assert [record.value for record in read(batch(codec, b"a" * 500, b"b"))] == [b"a" * 500, b"b"]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_header_name_that_is_not_utf_8_is_escaped(codec: int) -> None:
    """All records of the batch are read, each once, also from the middle of it."""
    odd = batch(codec, b"a", b"b", first=1, name=Latin("x"))
    with pytest.raises(UnicodeDecodeError):
        list(DefaultRecordBatch(odd))
    data = (batch(codec, b"first"), odd, batch(codec, b"last", first=3))
    found = read(*data)
    assert [record.offset for record in found] == [0, 1, 2, 3]
    assert [record.headers[0][0] for record in found] == ["name", "caf\\xe9", "caf\\xe9", "name"]
    assert {record.key for record in found} == {b"key"}
    assert [record.offset for record in read(*data[1:], offset=2)] == [2, 3]


@pytest.mark.parametrize("codec", COMPRESSED.values(), ids=COMPRESSED)
def test_batch_that_inflates_beyond_the_cap_is_replaced(codec: int) -> None:
    """One record describes it; the batches before and after it are read."""
    name = next(name for name, number in CODECS.items() if number == codec)
    hostile = bomb(codec, first=1)
    found = read(batch(codec, b"before"), hostile, batch(codec, b"after", first=4))
    assert [record.value for record in found] == [b"before", b"", b"after"]
    reason = f"the {name} batch with the offsets 1 to 3 inflates to more than {CAP:,} bytes"
    assert found[1].unreadable == Unreadable(reason, 1, 3, len(hostile), True)
    assert (found[1].offset, found[1].headers, found[1].nulls) == (3, (), ("key", "value"))
    assert [record.offset for record in read(hostile, offset=2)] == [3]


@pytest.mark.parametrize("codec", COMPRESSED.values(), ids=COMPRESSED)
def test_batch_of_the_size_of_the_cap_is_read(codec: int) -> None:
    """The cap counts the data of all records, with a few bytes for each."""
    found = read(batch(codec, bytes(CAP - 100)))
    assert [(len(record.value), record.unreadable) for record in found] == [(CAP - 100, None)]


@pytest.mark.parametrize("codec", COMPRESSED.values(), ids=COMPRESSED)
def test_corrupt_compressed_data_is_replaced(codec: int) -> None:
    """Its checksum is right, so reading it again would not help."""
    first, second = read(corrupt(codec), batch(codec, b"after", first=2))
    assert first.unreadable
    assert "cannot be inflated" in first.unreadable.reason
    assert (first.unreadable.too_large, second.value) == (False, b"after")


def test_records_that_cannot_be_parsed_are_replaced() -> None:
    """Those before them are read, and nothing past the end of the batch: that crashed some processes."""
    data = bytearray(batch(0, b"a", b"b", b"c"))
    second = data.index(b"key", data.index(b"key") + 1)
    data[second - 1] = 0x7E  # The length of the key: beyond the record.
    data[17:21] = calc_crc32c(data[21:]).to_bytes(4, "big")
    found = read(bytes(data), batch(0, b"after", first=3))
    assert [record.value for record in found] == [b"a", b"", b"after"]
    assert found[1].unreadable
    assert (found[1].unreadable.first, found[1].unreadable.last) == (1, 2)


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [1, 2])
def test_legacy_batches_have_the_cap_too(magic: int, codec: int) -> None:
    """Old clients wrote a message whose value has the compressed messages."""
    found = []
    for value in (b"a" * 1_000, bytes(2 * CAP)):
        builder = _LegacyRecordBatchBuilderPy(magic, codec, 1 << 30)
        builder.append(0, 1, b"key", value)
        found += read(bytes(builder.build()))
    assert [(len(record.value), bool(record.unreadable)) for record in found] == [(1_000, False), (0, True)]


def test_no_producer_can_send_a_replacement() -> None:
    """A header with that name is like any other."""
    (record,) = read(batch(0, b"a", name="stepstream-unreadable"))
    assert (record.value, record.unreadable) == (b"a", None)


def test_inflating_uses_no_more_memory_than_the_cap() -> None:
    """64 MiB of zeros are 64 KiB on the wire."""
    deflater = zlib.compressobj(wbits=31)
    data = b"".join(deflater.compress(bytes(MIB)) for _ in range(64)) + deflater.flush()
    whole = bytearray(batch(1, b"a")[:61]) + data
    whole[8:12] = (len(whole) - 12).to_bytes(4, "big")
    whole[17:21] = calc_crc32c(whole[21:]).to_bytes(4, "big")
    wire = bytes(whole)
    # Python may trace already, and has then seen the 64 MiB.
    traced = tracemalloc.is_tracing()
    tracemalloc.start()
    tracemalloc.reset_peak()
    before_bytes, _ = tracemalloc.get_traced_memory()
    (found,) = read(wire)
    _, peak_bytes = tracemalloc.get_traced_memory()
    if not traced:
        tracemalloc.stop()
    assert found.unreadable
    assert peak_bytes - before_bytes < len(wire) + 4 * CAP + MIB


def answer_of(*partitions: bytes) -> Any:
    """Return a fetch response with one topic."""
    return SimpleNamespace(topics=[("events", [(at, 0, 9, 9, [], data) for at, data in enumerate(partitions)])])


async def fetched(*partitions: bytes) -> list[Batches]:
    """Return the batches of each partition in a fetch response."""
    answer = answer_of(*partitions)
    await parse_fetched(answer)
    return [partition[-1] for partition in answer.topics[0][1]]


async def test_large_batches_are_inflated_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop runs meanwhile; small batches are not worth a thread."""
    threads = list[bool]()

    def watched(*arguments: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return inflate(*arguments)

    monkeypatch.setattr(parsing, "inflate", watched)
    noise = random.Random(1).randbytes(4_096) + bytes(4_096)
    for data, expected in ((batch(3, noise), False), (batch(3, b"a" * 100), True), (batch(0, noise), None)):
        threads.clear()
        (batches,) = await fetched(data)
        assert threads == ([] if expected is None else [expected])
        assert len(read_batches(batches)) == 1
        assert len(threads) == (expected is not None)


@pytest.mark.parametrize("hostile", [False, True])
async def test_batches_beyond_the_budget_are_fetched_again(hostile: bool) -> None:
    """What one answer inflates to is bounded; the rest is dropped, and a consumer fetches it from its position on."""
    size = 2 * CAP if hostile else CAP // 6
    log = [batch(1, *[bytes(size)] * 3, first=3 * number) for number in range(6)]
    read_to, answers = [0, 0], 0
    while min(read_to) < 18:
        answers += 1
        assert answers < 20
        batches = await fetched(*(b"".join(log[at // 3 :]) for at in read_to))
        for partition, each in enumerate(batches):
            assert each.has_next() == bool(each.size_in_bytes())
            records = read_batches(each, read_to[partition])
            assert sum(len(record.value) for record in records) <= 2 * CAP
            read_to[partition] = records[-1].offset + 1 if records else read_to[partition]
    assert answers > 5


async def test_answer_without_compression_is_unchanged() -> None:
    """A batch that the broker cut off is left for the next fetch."""
    (batches,) = await fetched(batch(0, b"a", b"b") + batch(0, b"c", first=2)[:70])
    assert [record.value for record in read_batches(batches)] == [b"a", b"b"]


@pytest.mark.parametrize("padding", [0, 1, 40_000])
def test_gzip_members_and_padding_are_joined(padding: int) -> None:
    """A gzip stream has any number of members, and zeros may follow each of them."""
    parts = [b"", b"a" * 100_000, random.Random(1).randbytes(50_000), b"b"]
    data = b"".join(gzip.compress(part) + bytes(padding) for part in parts)
    whole = b"".join(parts)
    assert inflate(COMPRESSED["gzip"], memoryview(data), len(whole)) == whole
    with pytest.raises(InflatedTooLarge):
        inflate(COMPRESSED["gzip"], memoryview(data), len(whole) - 1)


def test_small_snappy_blocks_have_a_limit() -> None:
    """Java's clients write a block for each flush; a batch of a block for each byte took 422 MiB of memory."""
    header, block = b"\x82SNAPPY\x00" + bytes(8), b"\x00\x00\x00\x03\x01\x00A"
    codec, most = COMPRESSED["snappy"], 10_000
    assert inflate(codec, memoryview(header + block * most), most) == b"A" * most
    with pytest.raises(InflatedTooLarge):
        inflate(codec, memoryview(header + block * most), most - 1)
    with pytest.raises(CorruptData, match="too many small blocks"):
        inflate(codec, memoryview(header + block * 2 * most), 2 * most)
    page = cramjam.snappy.compress_raw(bytes(512))
    pages = (len(page).to_bytes(4, "big") + bytes(page)) * 2 * most
    assert len(inflate(codec, memoryview(header + pages), 2 * most * 512)) == 2 * most * 512


def test_many_gzip_members_are_inflated_in_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of a member for each byte would otherwise occupy the process for minutes."""
    given: list[int] = []
    make = zlib.decompressobj

    def counting(wbits: int) -> Any:
        real = make(wbits)

        class Counting:
            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

            def decompress(self, data: bytes, most: int) -> bytes:
                given.append(len(data))
                return real.decompress(data, most)

        return Counting()

    monkeypatch.setattr(zlib, "decompressobj", counting)
    member, sizes = gzip.compress(b"x"), []
    for members in (2_000, 8_000):
        given.clear()
        assert inflate(COMPRESSED["gzip"], memoryview(member * members), members) == b"x" * members
        sizes.append(sum(given))
    assert sizes[1] < 5 * sizes[0]
