"""Sends the heartbeats of an engine, and reads those of all engines."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import msgspec

from stepstream.contract.codec import encode
from stepstream.contract.heartbeats import EngineHeartbeat, decode_heartbeat
from stepstream.contract.topics import ENGINES
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.producer import Producer
from stepstream.runtime.kafka.shards.peers import Peers
from stepstream.runtime.ports import LogError, NewRecord

logger = logging.getLogger(__name__)
_AT = (ENGINES, 0)
_READ_MS = 1_000
_RECORDS_PER_READ = 500
# How many heartbeats an engine misses before it is suspected.
_BEATS = 6
_LEAVE_S_MAX = 1.0


class Heartbeats:
    """The heartbeats of the engine `name`, as `describe` returns them.

    Other engines are suspected after `failover_s` seconds, or up to a session after false suspicions. `consider` is
    called with what is known of them after each read.
    """

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        failover_s: float,
        describe: Callable[[], EngineHeartbeat],
        consider: Callable[[Peers], None],
    ) -> None:
        self._cluster = cluster
        self._interval_s = failover_s / _BEATS
        self._describe = describe
        self._consider = consider
        self._producer: Producer | None = None
        self._paused = False
        self._peers = Peers(name, _BEATS, round(cluster.settings.session_s / self._interval_s))

    def owners(self) -> dict[int, str] | None:
        """Return the running engine that serves each shard; None while that is unknown."""
        return self._peers.owners()

    async def serve(self) -> None:
        """Send and read until cancelled, or until the log fails."""
        self._paused = False
        reader = await self._cluster.reader(committed=False)
        sending: asyncio.Task[None] | None = None
        try:
            producer = self._producer = await self._cluster.producer()
            reader.assign([_AT])
            # Heartbeats from before say nothing about the engines that run now.
            reader.seek(await reader.ends([_AT]))
            sending = asyncio.ensure_future(self._send(producer))
            while self._paused or not sending.done():
                for record in await reader.read(_RECORDS_PER_READ, _READ_MS):
                    self._note(record.value)
                self._consider(self._peers)
            sending.result()
        finally:
            if sending is not None:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
            if self._producer is not None:
                await self._producer.close()
                self._producer = None
            await reader.close()

    def _note(self, value: bytes) -> None:
        try:
            self._peers.note(decode_heartbeat(value))
        except (msgspec.MsgspecError, UnicodeError) as error:
            logger.warning("a record of topic %s is not a heartbeat, and is skipped: %s", ENGINES, error)

    async def _send(self, producer: Producer) -> None:
        while not self._paused:
            await self._write(producer, self._describe())
            await asyncio.sleep(self._interval_s)

    async def _write(self, producer: Producer, beat: EngineHeartbeat) -> None:
        await producer.send([NewRecord(ENGINES, 0, beat.engine.encode(), encode(beat))])

    async def leave(self) -> None:
        """Send a last heartbeat: this engine closes its shards, so that others take them over at once."""
        self._paused, last = True, self._describe()
        if self._producer is not None:
            with suppress(LogError, TimeoutError):
                async with asyncio.timeout(_LEAVE_S_MAX):
                    await self._write(self._producer, msgspec.structs.replace(last, leaving=True))
