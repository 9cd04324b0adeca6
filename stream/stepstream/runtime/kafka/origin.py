"""The origin of a shard's changelog: its first row, whose random key identifies it."""

import uuid

from stepstream.contract.topics import CHANGELOG
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.reader import Reader
from stepstream.runtime.ports import LogError, NewRecord

# No table of the engine has this prefix. Each origin has a different key, so compaction never removes the first one,
# even if two processes have written one.
_ORIGIN = b"\x00origin"
_READ_MS = 200


async def origin_of(cluster: Cluster, shard: int, position: int = 0) -> bytes:
    """Return the key of the origin of a shard's changelog; write one to an empty changelog.

    Return b"" for a changelog that starts with another row. Raise LogError if it ends before `position`.
    """
    reader = await cluster.reader(known=True)
    try:
        first, end = await _first(reader, shard)
        if position > end:
            raise LogError(
                f"the tables are at position {position} of a changelog that ends at {end}: remove the tables"
            )
        if not first:
            await _write(cluster, shard)
            first, _ = await _first(reader, shard)
        return first if first.startswith(_ORIGIN) else b""
    finally:
        await reader.close()


async def _first(reader: Reader, shard: int) -> tuple[bytes, int]:
    """Return the key of the first committed row, or b"" if there is none, and the end of the changelog."""
    at = (CHANGELOG, shard)
    reader.assign([at])
    reader.seek(await reader.beginnings([at]))
    end = (await reader.ends([at]))[at]
    while await reader.position(at) < end:
        if records := await reader.read(1, _READ_MS):
            return records[0].key, end
    return b"", end


async def _write(cluster: Cluster, shard: int) -> None:
    producer = await cluster.producer()
    try:
        await producer.send([NewRecord(CHANGELOG, shard, _ORIGIN + uuid.uuid4().bytes, b"1")])
    finally:
        await producer.close()
