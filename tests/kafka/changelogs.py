"""What tests read from the changelog of a shard."""

from stepstream.runtime.kafka.shard_log import KafkaLog
from stepstream.runtime.ports import StoredRow


async def rows_of(log: KafkaLog) -> list[StoredRow]:
    """Return all committed rows of a shard's changelog."""
    return [row async for rows, _ in log.changelog(0) for row in rows]
