"""What producers in other languages may write is read: every compression, and names of headers that are no UTF-8."""

from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchBuilderPy

from stepstream.runtime.kafka.parsing import Batches

AT = TopicPartition("events", 0)
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


class Odd(str):
    """A name that a client writes in Latin-1."""

    __slots__ = ()

    def encode(self, *_: str) -> bytes:
        """Return its bytes."""
        return b"caf\xe9"


def batch(codec: int, *names: str) -> bytes:
    """Return a batch with a record for each name, which one of its headers has."""
    builder = _DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, -1, 1 << 20)
    for offset, name in enumerate(names):
        builder.append(offset, 1, b"key", b"value" * 20, [(name, b"1"), ("after", None)])
    return bytes(builder.build())


def read(data: bytes, offset: int = 0) -> list[Any]:
    """Return what a consumer has of a partition from an offset on."""
    records = Batches(data)
    return list(PartitionRecords(AT, records, None, offset, None, None, True, 0))


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_names_that_are_no_utf_8_hold_nothing_up(codec: int) -> None:
    """The name is shown as far as it is text; all records of the batch are read, each once, and those after it."""
    data = batch(codec, "a", Odd("x"), "b")
    with pytest.raises(UnicodeDecodeError):
        list(DefaultRecordBatch(data))
    found = read(data)
    assert [record.offset for record in found] == [0, 1, 2]
    assert [record.headers for record in found] == [((name, b"1"), ("after", None)) for name in ("a", "caf\\xe9", "b")]
    assert {(record.key, record.value) for record in found} == {(b"key", b"value" * 20)}
    assert [record.offset for record in read(data, 1)] == [1, 2]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_all_compressions_are_read(codec: int) -> None:
    """Whatever a producer is set to."""
    assert [record.value for record in read(batch(codec, "a", "b"))] == [b"value" * 20] * 2
