"""The origin of a shard's changelog: its first row, whose random key identifies it.

The value of the row records the number of shards of the cluster, once and for all: a hash modulo this number says which
shard owns a row. Partitions that are added to a topic later do not change it.
"""

import uuid

import msgspec

from stepstream.contract.topics import CHANGELOG
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.reader import Reader
from stepstream.runtime.ports import LogRecord, NewRecord, Origin

# No table of the engine has this prefix. Each origin has a different key, so compaction never removes the first one,
# even if two processes have written one.
_ORIGIN = b"\x00origin"
_READ_MS = 200


class _Recorded(msgspec.Struct):
    """The value of an origin."""

    shards: int


async def origin_of(cluster: Cluster, shard: int, shards: int) -> Origin:
    """Return the origin of a shard's changelog; write one that records `shards` to an empty changelog.

    The key is b"" if the changelog starts with another row.
    """
    reader = await cluster.reader(known=True)
    try:
        first, end = await _first(reader, shard)
        if first is None:
            await _write(cluster, shard, shards)
            first, end = await _first(reader, shard)
        return _origin(first, end)
    finally:
        await reader.close()


async def recorded_origin(cluster: Cluster) -> Origin:
    """Return the origin of shard 0's changelog; its key is b"" if the changelog is empty or starts with another row."""
    reader = await cluster.reader(known=True)
    try:
        return _origin(*await _first(reader, 0))
    finally:
        await reader.close()


def _origin(first: LogRecord | None, end: int) -> Origin:
    key = first.key if first and first.key.startswith(_ORIGIN) else b""
    return Origin(key, end, _shards_in(first))


def _shards_in(first: LogRecord | None) -> int:
    if first is None or not first.key.startswith(_ORIGIN):
        return 0
    try:
        return msgspec.json.decode(first.value, type=_Recorded).shards
    except msgspec.MsgspecError:
        return 0


async def _first(reader: Reader, shard: int) -> tuple[LogRecord | None, int]:
    """Return the first committed row, or None if there is none, and the end of the changelog."""
    at = (CHANGELOG, shard)
    reader.assign([at])
    reader.seek(await reader.beginnings([at]))
    end = (await reader.ends([at]))[at]
    while await reader.position(at) < end:
        if records := await reader.read(1, _READ_MS):
            return records[0], end
    return None, end


async def _write(cluster: Cluster, shard: int, shards: int) -> None:
    producer = await cluster.producer()
    try:
        value = msgspec.json.encode(_Recorded(shards))
        await producer.send([NewRecord(CHANGELOG, shard, _ORIGIN + uuid.uuid4().bytes, value)])
    finally:
        await producer.close()
