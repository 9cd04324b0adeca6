"""Heartbeats: the records of the topic `engines`, by which an engine notices that another one has stopped."""

import msgspec


class ShardServed(msgspec.Struct, frozen=True):
    """A shard that an engine serves, with the epoch of its transactional producer: a lower epoch is fenced.

    The epoch is -1 while the engine starts to serve a shard that it takes over.
    """

    shard: int
    epoch: int


class ShardCopied(msgspec.Struct, frozen=True):
    """A shard of which an engine has a warm copy, with the position of the copy in the changelog."""

    shard: int
    position: int


class EngineHeartbeat(msgspec.Struct, frozen=True, omit_defaults=True):
    """An engine runs; `engine` identifies the process. One that is `leaving` closes its shards and ends."""

    engine: str
    serving: tuple[ShardServed, ...] = ()
    copies: tuple[ShardCopied, ...] = ()
    leaving: bool = False


decode_heartbeat = msgspec.json.Decoder(EngineHeartbeat).decode
