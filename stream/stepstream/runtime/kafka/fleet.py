"""The shards of one process: those that the group of engines assigns to it, and warm copies of the others."""

import asyncio
import functools
import logging
import socket
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from stepstream.contract.codec import encode
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.heartbeats import EngineHeartbeat, ShardCopied, ShardServed
from stepstream.contract.ids import shard_of
from stepstream.contract.limits import DEFAULT_LIMITS, FUNCTIONS_LABELLED_MAX, Limits
from stepstream.contract.text.names import workers_name
from stepstream.contract.text.wording import counted
from stepstream.contract.topics import INBOX
from stepstream.runtime.kafka.backbone import STALE_MS
from stepstream.runtime.kafka.client.answers import Extent
from stepstream.runtime.kafka.client.assignors import Placed
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.reader import Membership, Reader
from stepstream.runtime.kafka.shards.heartbeats import Heartbeats
from stepstream.runtime.kafka.shards.peers import Peers
from stepstream.runtime.kafka.shards.placement import (
    Claim,
    Placement,
    decode_claim,
    decode_placement,
    place,
)
from stepstream.runtime.kafka.shards.shard_log import KafkaLog
from stepstream.runtime.kafka.shards.standby import Standby
from stepstream.runtime.overview import ScopeChangeView, ScopePauseView, ShardView
from stepstream.runtime.ports import Clock, Fenced, LogError, TopicPartition
from stepstream.runtime.shard.gate_waits import oldest_of
from stepstream.runtime.shard.loop import Observer, Shard, ShardOptions
from stepstream.runtime.storage.rocks_store import RocksStore
from stepstream.runtime.supervision import RESTART_S, keep_serving

logger = logging.getLogger(__name__)
_IDLE_READ_MS = 1_000
_REASONS_MAX = 3


class ShardState(NamedTuple):
    """The state of a shard of this process; `offsets_left` of its changelog remain while it recovers."""

    shard: int
    serving: bool
    rows_read: int
    offsets_left: int

    @property
    def unready(self) -> str:
        """Why it does not serve; empty if it does."""
        if self.serving:
            return ""
        return f"recovers, {counted(self.offsets_left, 'row')} left" if self.offsets_left else "is starting"


@dataclass(frozen=True, slots=True)
class ShardGroupOptions:
    """How a process serves shards of a cluster that has `shards` of them; its tables are in `data_dir`.

    `instance` is the static member id in the group, "" for none. With `standby` the process keeps warm copies of the
    tables of all shards that it does not serve. `answer` and `observer` are those of ShardOptions. A shard of another
    engine that is silent for `failover_s` is taken over if there is a copy of it; 0 leaves that to the group.
    """

    shards: int
    data_dir: Path
    limits: Limits = DEFAULT_LIMITS
    answer: Callable[[str, str], object] | None = None
    observer: Observer | None = None
    instance: str = ""
    standby: bool = False
    failover_s: float = 0.0


class ShardGroup:
    """A member of the group of engines. It serves each assigned shard separately: failures are isolated per shard."""

    def __init__(self, cluster: Cluster, clock: Clock, options: ShardGroupOptions) -> None:
        self._cluster = cluster
        self._clock = clock
        self._options = options
        self._copies: dict[int, Standby] = {}
        self._copying: dict[int, asyncio.Task[None]] = {}
        self._served: dict[int, Shard] = {}
        self._failed: dict[int, str] = {}
        self._logs: dict[int, KafkaLog] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._reader: Reader | None = None
        self._assigned = set[int]()
        # What the leader of the group has decided for this engine.
        self._placement = Placement()
        # Shards that are served although the group assigns them to an engine that is silent.
        self._taken = set[int]()
        # Shards of silent engines, each with its owner, whose open transaction this engine has tried to abort.
        self._fenced = set[tuple[int, str]]()
        self._changes = set[asyncio.Task[None]]()
        self._name = f"{options.instance or socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        self._heartbeats: Heartbeats | None = None
        if options.failover_s:
            heartbeats = Heartbeats(cluster, self._name, options.failover_s, self._heartbeat, self._consider)
            self._heartbeats = heartbeats
        self._joined = False
        # Set while no rebalance is in progress.
        self._settled = asyncio.Event()
        # Held while shards and copies are ended and started.
        self._changing = asyncio.Lock()
        self.assignments = 0
        # How often this engine took over each shard before the group assigned it.
        self.takeovers = Counter[int]()

    @property
    def assigned(self) -> list[int]:
        """The shards that this process serves, or tries to."""
        return sorted(self._tasks)

    @property
    def unready(self) -> str:
        """Why the process is not ready; empty if it is in the group and serves every shard that it should have."""
        if not self._joined:
            return "the group has not assigned shards yet"
        states = {state.shard: state for state in self.states()}
        unready = {shard: self._unready(shard, states) for shard in self.assigned}
        if not self._tasks:
            # An engine that serves other shards stays ready: it must not leave the API for the time of a copy.
            unready |= {shard: self._uncopied(shard) for shard in sorted(self._placement.copies)}
        reasons = [f"shard {shard} {reason}" for shard, reason in unready.items() if reason]
        more = f"; and {len(reasons) - _REASONS_MAX} more" if len(reasons) > _REASONS_MAX else ""
        return "; ".join(reasons[:_REASONS_MAX]) + more

    def _unready(self, shard: int, states: Mapping[int, ShardState]) -> str:
        """Return why a shard of this process does not serve; empty if it does."""
        reason, error = states.get(shard, ShardState(shard, False, 0, 0)).unready, self._failed.get(shard)
        return f"{reason} (last failure: {error})" if reason and error else reason

    def _uncopied(self, shard: int) -> str:
        """Return why a shard that this process should have is not assigned to it; empty if its copy is warm."""
        return self._copies[shard].unready if shard in self._copying and shard in self._copies else "is copied first"

    def states(self) -> list[ShardState]:
        """Return the state of each assigned shard that was started."""
        served = {shard: self._served[shard] for shard in self.assigned if shard in self._served}
        return [ShardState(at, it.serving, it.rows_read, self._logs[at].changelog_left) for at, it in served.items()]

    def functions(self) -> list[FunctionRegistered]:
        """Return all registered functions, retired ones included; none while this process serves no shard."""
        return next((self._served[state.shard].functions() for state in self.states() if state.serving), [])

    def pauses(self) -> list[ScopePauseView]:
        """Return the pauses of functions and queues; none while this process serves no shard."""
        return next((self._served[state.shard].pauses() for state in self.states() if state.serving), [])

    def pause_changes(self, scope: str) -> list[ScopeChangeView]:
        """Return the latest pauses and resumptions of a function or a queue; none while it serves no shard."""
        return next((self._served[each.shard].pause_changes(scope) for each in self.states() if each.serving), [])

    def oldest_waits(self) -> dict[str, float]:
        """Return the age of the oldest wait for each limit of its shards (seconds), of a bounded number of limits."""
        waits = [self._served[state.shard].oldest_waits() for state in self.states() if state.serving]
        return oldest_of(waits, self._clock.now_ms(), FUNCTIONS_LABELLED_MAX)

    def shards(self) -> list[ShardView]:
        """Return all shards, in order. Without heartbeats nothing is known of those of other engines."""
        owners = self._heartbeats.owners() if self._heartbeats else None
        states = {state.shard: state for state in self.states()}
        known = range(self._options.shards)
        own = {at: ShardView(at, self._name, self._unready(at, states), is_own=True) for at in self._tasks}
        if owners is None:
            return [own.get(at, ShardView(at, "", "")) for at in known]
        others = {at: ShardView(at, name, "") for at, name in owners.items()}
        return [own.get(at) or others.get(at) or ShardView(at, "", "no running engine serves it") for at in known]

    def copies(self) -> dict[int, int]:
        """Return the changelog position of each warm copy, by shard."""
        found = {shard: self._copies[shard].position for shard in self._copying if shard in self._copies}
        return {shard: position for shard, position in found.items() if position is not None}

    def inputs(self) -> dict[TopicPartition, list[int]]:
        """Return the inputs that are read, each with the shards that read it."""
        found: dict[TopicPartition, list[int]] = {}
        for state in self.states():
            for at in self._logs[state.shard].inputs if state.serving else ():
                found.setdefault(at, []).append(state.shard)
        return found

    def workers(self) -> list[str]:
        """Return the names of the workers whose backlogs this process exports: their hash is one of its shards."""
        found = set[str]()
        for shard in (state.shard for state in self.states() if state.serving):
            for function in self._served[shard].functions():
                names = (workers_name(function.app, queue) for queue in ("", *function.queues))
                found |= {name for name in names if shard_of(name, self._options.shards) == shard}
        return sorted(found)

    def check(self, topics: Mapping[str, Extent]) -> None:
        """Let shards restart whose topics were created again, or have further partitions to read."""
        for shard in self._tasks.keys() & self._logs.keys():
            self._logs[shard].check(topics)

    async def lag(self, shard: int, at: TopicPartition, end: int) -> int:
        """Return how many records of an input that ends at `end` a shard has not processed and committed."""
        return await self._logs[shard].lag(at, end)

    async def serve(self) -> None:
        """Be a member of the group until cancelled."""
        reader = self._reader = await self._cluster.reader(group="engine", instance=self._options.instance)
        self._settled.clear()
        beating: asyncio.Task[None] | None = None
        try:
            assign = functools.partial(self._assign, reader)
            reader.join(INBOX, Membership(assign, self._rebalance, self))
            if self._heartbeats:
                beating = asyncio.ensure_future(keep_serving("exchange of heartbeats", self._heartbeats.serve))
            while True:
                # The membership only assigns the shards; each shard has a separate reader.
                reader.pause()
                await reader.read(1, _IDLE_READ_MS)
        finally:
            # A rebalance in progress must start no shard from here on: nothing would stop it.
            self._joined, self._reader, self._placement = False, None, Placement()
            if self._heartbeats and beating:
                # A standby that fences a shard before it is closed does no harm, and saves the time.
                await asyncio.gather(self._heartbeats.leave(), self._reconcile())
                beating.cancel()
                await asyncio.gather(beating, return_exceptions=True)
            await self._reconcile()
            await reader.close()

    def claim(self) -> bytes:
        """Return what this engine has, for the leader of the group."""
        held = dict.fromkeys(self._tasks, -1) | self._epochs()
        serving = {state.shard for state in self.states() if state.serving}
        warm = {shard for shard in self._copying if not self._uncopied(shard)}
        return encode(
            Claim(
                {shard: epoch for shard, epoch in held.items() if shard in serving},
                {shard: epoch for shard, epoch in held.items() if shard not in serving},
                tuple(warm),
                tuple(self._copying.keys() - warm),
            )
        )

    def place(self, claims: Mapping[str, bytes]) -> dict[str, Placed]:
        """Return what each engine gets, as the leader of the group."""
        placements = place({name: decode_claim(claim) for name, claim in claims.items()}, self._options.shards)
        return {name: Placed(placement.serves, encode(placement)) for name, placement in placements.items()}

    def placed(self, data: bytes) -> None:
        """Note what the leader has decided for this engine."""
        self._placement = decode_placement(data)

    def _join_with_copies(self) -> None:
        """Join again once the shards that this engine should have are copied; one whose copy fails delays no other."""
        copies = [self._copies[at] for at in self._placement.copies if at in self._copies and at in self._copying]
        reading = [copy for copy in copies if copy.position is not None]
        if self._reader and reading and not any(copy.unready for copy in reading):
            self._reader.join_again()

    async def _rebalance(self, _: list[int]) -> None:
        """Keep serving during a rebalance: it revokes all shards, and assigns most of them to their owner again.

        The next owner of a shard fences this one, whether or not it has closed the shard.
        """
        self._settled.clear()

    async def _assign(self, reader: Reader, shards: list[int]) -> None:
        reader.pause()
        self.assignments += 1
        logger.info("shards %s assigned", shards)
        if self._placement.copies:
            logger.info("shards %s are copied before they move to this engine", sorted(self._placement.copies))
        self._assigned, self._taken = set(shards), set()
        await self._reconcile()
        if self._reader is reader:
            self._joined = True
            self._settled.set()
            self._join_with_copies()  # A copy that ended during the rebalance was not in the claim.

    async def _reconcile(self) -> None:
        """Serve the assigned shards and copy the others; a shard's tables are closed before they are opened again."""
        async with self._changing:
            serving, copying = self._targets()
            await self._end(self._tasks, self._tasks.keys() - serving)
            await self._end(self._copying, self._copying.keys() - copying)
            # Meanwhile the process may have left the group: then nothing would end what is started now.
            serving, copying = (before & now for before, now in zip((serving, copying), self._targets(), strict=True))
            for shard in serving - self._tasks.keys():
                task = keep_serving(f"shard {shard}", functools.partial(self._serve, shard))
                self._tasks[shard] = asyncio.ensure_future(task)
            for shard in copying - self._copying.keys():
                task = keep_serving(f"warm copy of shard {shard}", functools.partial(self._follow, shard))
                self._copying[shard] = asyncio.ensure_future(task)

    def _targets(self) -> tuple[set[int], set[int]]:
        """Return the shards to serve, and those to copy: first the ones that will be served here."""
        if self._reader is None:
            return set(), set()
        serving, first = self._assigned | self._taken, self._placement.copies
        others = self._copying if first else range(self._options.shards)
        return serving, {*first, *(others if self._options.standby else ())} - serving

    def _heartbeat(self) -> EngineHeartbeat:
        copies = tuple(ShardCopied(shard, position) for shard, position in self.copies().items())
        # A shard that is being taken over has no epoch here yet, but no other engine must take it over too.
        epochs = dict.fromkeys(self._taken, -1) | self._epochs()
        return EngineHeartbeat(self._name, tuple(ShardServed(*each) for each in epochs.items()), copies)

    def _epochs(self) -> dict[int, int]:
        """Return the epoch of each shard whose log is open."""
        epochs = {shard: self._logs[shard].epoch for shard in self._tasks if shard in self._logs}
        return {shard: epoch for shard, epoch in epochs.items() if epoch is not None}

    def _consider(self, peers: Peers) -> None:
        """Release shards that a newer owner serves, and take over those whose owner is silent."""
        for shard in peers.superseded(self._epochs()):
            self._logs[shard].supersede()
        if not self._joined:
            return
        abandoned = peers.abandoned()
        self._fenced &= set(abandoned.items())
        taken = {shard for shard in abandoned if shard in self._copying and peers.takes(shard)} - self._taken
        if taken:
            owners = sorted({abandoned[shard] for shard in taken})
            logger.warning("engine %s is silent or has left; taking over shards %s", ", ".join(owners), sorted(taken))
            self._taken |= taken
            self.takeovers.update(taken)
            self._begin(self._reconcile())
        for shard, owner in abandoned.items():
            if (shard, owner) not in self._fenced and shard not in self._tasks and peers.fences(shard):
                self._fenced.add((shard, owner))
                self._begin(self._fence(shard, owner))

    def _begin(self, change: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)

    async def _fence(self, shard: int, owner: str) -> None:
        """Abort the open transaction of a shard that this engine does not serve."""
        try:
            await (await self._cluster.producer(f"shard-{shard}")).close()
        except LogError as error:
            logger.warning("the transaction of shard %d of engine %s cannot be aborted: %s", shard, owner, error)
        else:
            logger.warning(
                "engine %s is silent or has left; any open transaction of its shard %d is aborted", owner, shard
            )

    async def _end(self, tasks: dict[int, asyncio.Task[None]], shards: Collection[int]) -> None:
        """Abort transactions, close tables and release their locks."""
        ending = [tasks.pop(shard) for shard in list(shards)]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        for shard in shards if tasks is self._tasks else ():
            self._served.pop(shard, None)
            self._failed.pop(shard, None)

    def _tables(self, shard: int) -> RocksStore:
        return RocksStore(self._options.data_dir / f"shard-{shard}", self._clock.now_ms, STALE_MS)

    async def _follow(self, shard: int) -> None:
        tables, shards = self._tables(shard), self._options.shards
        copy = self._copies[shard] = Standby(self._cluster, tables, self._clock, shard, shards, STALE_MS)
        await copy.serve(self._join_with_copies)

    async def _serve(self, shard: int) -> None:
        if shard not in self._taken:
            # Until the rebalance has ended, the shard may be assigned to another engine.
            await self._settled.wait()
            if self._reader is None:
                raise LogError("this process has left the group of engines")
            # A process that missed a rebalance would fence the current owner of the shard, over and over.
            await self._reader.confirm()
        log = self._logs[shard] = KafkaLog(self._cluster, self._clock, shard, self._options.shards)
        own = self._options
        options = ShardOptions(shard, own.shards, own.limits, own.answer, own.observer)
        served = self._served[shard] = Shard(log, self._tables(shard), self._clock, options)
        try:
            await served.serve()
        except Fenced as error:
            logger.info("shard %d is closed: %s", shard, error, extra={"shard": shard})
            if shard in self._taken:
                self._taken.discard(shard)
                self._begin(self._reconcile())
            # The newer owner serves it meanwhile; if the group assigns it to this process, it will be served here.
            await asyncio.sleep(RESTART_S)
        except Exception as error:
            self._failed[shard] = str(error) or type(error).__name__
            raise
