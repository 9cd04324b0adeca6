"""A process among others on Kafka: it serves the shards that the group gives it, and lets go of those it takes."""

import asyncio
import functools
import logging
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from stepstream.contract.codec import encode
from stepstream.contract.ids import shard_of
from stepstream.contract.inbox import Answered, decode_answer
from stepstream.contract.limits import DEFAULT_LIMITS, Limits
from stepstream.contract.names import workers_name
from stepstream.contract.topics import INBOX, REPLIES
from stepstream.runtime.callers import Callers
from stepstream.runtime.kafka.backbone import STALE_MS, KafkaBackbone
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.reader import Membership, Reader
from stepstream.runtime.kafka.shard_log import KafkaLog
from stepstream.runtime.kafka.standby import Standby
from stepstream.runtime.ports import Clock, LogError, NewRecord
from stepstream.runtime.shard.loop import Observer, Shard, ShardOptions
from stepstream.runtime.storage.rocks import RocksStore
from stepstream.runtime.supervision import keep_serving

logger = logging.getLogger(__name__)
_IDLE_READ_MS = 1_000
# Less than callers.REPLY_S_MAX, so that whoever asks hears what is wrong.
_APPEND_S_MAX = 8.0


_TOLD_MAX = 3


class ShardState(NamedTuple):
    """How a shard of this process is: while it recovers, some offsets of its changelog are left."""

    shard: int
    serving: bool
    rows_read: int
    offsets_left: int

    @property
    def unready(self) -> str:
        """Why it does not serve; empty when it does."""
        if self.serving:
            return ""
        left = f"recovers, {self.offsets_left:,} rows left" if self.offsets_left else "comes up"
        return f"shard {self.shard} {left}"


class ShardGroup:
    """The shards of one process, each served by itself: the trouble of one is nothing to another.

    With `standby` it also keeps warm copies of the tables of all others.
    """

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        shards: int,
        data_dir: Path,
        *,
        limits: Limits = DEFAULT_LIMITS,
        answer: Callable[[str, str], object] | None = None,
        observer: Observer | None = None,
        instance: str = "",
        standby: bool = False,
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._shards = shards
        self._data_dir = data_dir
        self._limits = limits
        self._answer = answer
        self._observer = observer
        self._instance = instance
        self._standby = standby
        self._copies: dict[int, Standby] = {}
        self._copying: dict[int, asyncio.Task[None]] = {}
        self._served: dict[int, Shard] = {}
        self._failed: dict[int, str] = {}
        self._logs: dict[int, KafkaLog] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._reader: Reader | None = None
        self._joined = False
        self.assignments = 0

    @property
    def assigned(self) -> list[int]:
        """The shards that are ours now."""
        return sorted(self._tasks)

    @property
    def unready(self) -> str:
        """Why we are not ready; empty when we are in the group and every shard of ours serves."""
        if not self._joined:
            return "the group has not given it its shards yet"
        states = {state.shard: state for state in self.states()}
        waits = [states.get(shard, ShardState(shard, False, 0, 0)).unready for shard in self.assigned]
        told = [f"{words}{self._trouble(shard)}" for shard, words in zip(self.assigned, waits, strict=True) if words]
        more = f"; and {len(told) - _TOLD_MAX} more" if len(told) > _TOLD_MAX else ""
        return "; ".join(told[:_TOLD_MAX]) + more

    def _trouble(self, shard: int) -> str:
        error = self._failed.get(shard)
        return f" (it failed: {error})" if error else ""

    def states(self) -> list[ShardState]:
        """Return how each shard of ours is, as far as it has begun."""
        served = {shard: self._served[shard] for shard in self.assigned if shard in self._served}
        return [ShardState(at, it.serving, it.rows_read, self._logs[at].changelog_left) for at, it in served.items()]

    def copies(self) -> dict[int, int]:
        """Return up to where of its changelog each warm copy is, by shard."""
        found = {shard: self._copies[shard].position for shard in self._copying if shard in self._copies}
        return {shard: position for shard, position in found.items() if position is not None}

    def inputs(self) -> dict[tuple[str, int], list[int]]:
        """Return the inputs that are read, each with the shards that read it."""
        found: dict[tuple[str, int], list[int]] = {}
        for state in self.states():
            for at in self._logs[state.shard].inputs if state.serving else ():
                found.setdefault(at, []).append(state.shard)
        return found

    def workers(self) -> list[str]:
        """Return the names of workers whose topics of commands are ours to watch: each is some shard's, by its name."""
        found = set[str]()
        for shard in (state.shard for state in self.states() if state.serving):
            for function in self._served[shard].functions():
                names = (workers_name(function.app, queue) for queue in ("", *function.queues))
                found |= {name for name in names if shard_of(name, self._shards) == shard}
        return sorted(found)

    async def lag(self, shard: int, at: tuple[str, int], end: int) -> int:
        """Return how many records of an input that ends at `end` a shard has not committed as taken."""
        return await self._logs[shard].lag(at, end)

    async def serve(self) -> None:
        """Be a member of the group until cancelled."""
        reader = self._reader = await self._cluster.reader(group="engine", instance=self._instance)
        try:
            reader.join(INBOX, Membership(functools.partial(self._assign, reader), self._revoke))
            while True:
                # The membership only says which shards are ours; each shard reads for itself.
                reader.pause()
                await reader.read(1, _IDLE_READ_MS)
        finally:
            # From here on nothing is begun, though a rebalance may be under way: nobody would end it.
            self._joined, self._reader = False, None
            await self._revoke(self.assigned)
            await self._end(self._copying, list(self._copying))
            await reader.close()

    async def _assign(self, reader: Reader, shards: list[int]) -> None:
        reader.pause()
        self.assignments += 1
        logger.info("shards %s are ours", shards)
        await self._end(self._copying, shards)
        if self._reader is not reader:
            return
        for shard in shards:
            if shard not in self._tasks:
                serving = keep_serving(f"shard {shard}", functools.partial(self._serve, shard))
                self._tasks[shard] = asyncio.ensure_future(serving)
        self._joined = True
        for shard in set(range(self._shards)) - self._tasks.keys() - self._copying.keys() if self._standby else ():
            following = keep_serving(f"copy of shard {shard}", functools.partial(self._follow, shard))
            self._copying[shard] = asyncio.ensure_future(following)

    async def _revoke(self, shards: list[int]) -> None:
        """Abort, close the tables and let go of their lock, before anybody else is given the shards.

        At each change of the group all shards go, and come back when every member has let go of its own.
        """
        self._joined = False
        await self._end(self._tasks, shards)
        for shard in shards:
            self._served.pop(shard, None)
            self._failed.pop(shard, None)

    async def _end(self, tasks: dict[int, asyncio.Task[None]], shards: Sequence[int]) -> None:
        going = [tasks.pop(shard) for shard in shards if shard in tasks]
        for task in going:
            task.cancel()
        await asyncio.gather(*going, return_exceptions=True)

    def _tables(self, shard: int) -> RocksStore:
        return RocksStore(self._data_dir / f"shard-{shard}", self._clock.now_ms, STALE_MS)

    async def _follow(self, shard: int) -> None:
        copy = self._copies[shard] = Standby(self._cluster, self._tables(shard), self._clock, shard, STALE_MS)
        await copy.serve()

    async def _serve(self, shard: int) -> None:
        if self._reader is None:
            raise LogError("the group of engines is left")
        # Who was given up and does not hear of it would fence the shard's owner again and again.
        await self._reader.confirm()
        log = self._logs[shard] = KafkaLog(self._cluster, self._clock, shard)
        options = ShardOptions(shard, self._shards, self._limits, self._answer, self._observer)
        served = self._served[shard] = Shard(log, self._tables(shard), self._clock, options)
        try:
            await served.serve()
        except Exception as error:
            self._failed[shard] = str(error) or type(error).__name__
            raise


class KafkaCallers(Callers):
    """Callers whose answers come by the topic `replies`, from whichever process has the shard."""

    def __init__(self, cluster: Cluster, backbone: KafkaBackbone, shards: int, limits: Limits = DEFAULT_LIMITS) -> None:
        append = functools.partial(backbone.append, within_s=_APPEND_S_MAX)
        super().__init__(append, shards, limits, uuid.uuid4().hex)
        self._cluster = cluster
        self._backbone = backbone
        self._sending: set[asyncio.Task[list[tuple[int, int]]]] = set()

    def pass_on(self, to: str, status: str) -> None:
        """Give an answer to a caller of this process, or send it to the one where the caller is."""
        if not self.answer(to, status):
            record = NewRecord(REPLIES, 0, to.encode(), encode(Answered(to, status)))
            task = asyncio.ensure_future(self._backbone.append([record]))
            self._sending.add(task)
            task.add_done_callback(self._sent)

    def _sent(self, task: "asyncio.Task[list[tuple[int, int]]]") -> None:
        self._sending.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.warning("an answer could not be sent: %s", error)

    async def serve(self) -> None:
        """Hear the answers from now on, until cancelled."""
        at = (REPLIES, 0)
        reader = await self._cluster.reader()
        try:
            reader.assign([at])
            reader.seek(await reader.ends([at]))
            while True:
                for record in await reader.read(500, _IDLE_READ_MS):
                    reply = decode_answer(record.value)
                    self.answer(reply.to, reply.status)
        finally:
            await reader.close()
