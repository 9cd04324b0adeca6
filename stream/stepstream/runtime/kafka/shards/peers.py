"""What an engine knows of the others by their heartbeats: which are silent, and which of their shards to take over.

Time is counted in own heartbeats that were read from the log, each sent after the last one was acknowledged. So no
engine is suspected because a broker stalls, or because this process itself was suspended.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from zlib import crc32

from stepstream.contract.heartbeats import EngineHeartbeat

# A copy that is this many offsets behind the freshest one is used only if that one's engine does not take the shard.
_FRESH_OFFSETS = 1_000
# The engine that is next in order waits for this many heartbeats more.
_NEXT_BEATS = 2
# After this many heartbeats without a false suspicion, an engine is suspected as early as at first.
_STEADY_BEATS = 3_000
# After this many heartbeats an engine that is silent is forgotten.
_FORGET_BEATS = 10_000


def _positions(beat: EngineHeartbeat) -> dict[int, int]:
    return {copied.shard: copied.position for copied in beat.copies}


@dataclass(slots=True)
class _Peer:
    """Another engine. It is silent once `missed` own heartbeats followed its last one, and `allowed` were allowed."""

    allowed: int
    missed: int = 0
    steady: int = 0
    leaving: bool = False
    serving: dict[int, int] = field(default_factory=dict)
    copies: dict[int, int] = field(default_factory=dict)

    @property
    def silent(self) -> bool:
        return self.leaving or self.missed >= self.allowed


class Peers:
    """The engines whose heartbeats were read; `own` is the name of this one.

    An engine is silent after `allowed` own heartbeats. If it returns, it was suspected falsely, and twice as many are
    allowed from then on, up to `allowed_max`.
    """

    def __init__(self, own: str, allowed: int, allowed_max: int) -> None:
        self._own = own
        self._allowed = allowed
        self._allowed_max = max(allowed, allowed_max)
        self._copies: Mapping[int, int] = {}
        self._serving = set[int]()
        self._peers: dict[str, _Peer] = {}
        self._own_beats = 0

    def note(self, beat: EngineHeartbeat) -> None:
        """Note the next heartbeat of the log."""
        if beat.engine == self._own:
            self._own_beats += 1
            self._copies = _positions(beat)
            self._serving = {served.shard for served in beat.serving}
            for peer in self._peers.values():
                peer.missed += 1
            self._peers = {name: peer for name, peer in self._peers.items() if peer.missed < _FORGET_BEATS}
        else:
            self._note_other(beat, self._peers.setdefault(beat.engine, _Peer(self._allowed)))
        for name, peer in self._peers.items():
            if name != beat.engine:
                # The owner of a shard is the engine with the highest epoch, or the only one that is not silent.
                for served in beat.serving:
                    if peer.silent or peer.serving.get(served.shard, served.epoch) < served.epoch:
                        peer.serving.pop(served.shard, None)

    def _note_other(self, beat: EngineHeartbeat, peer: _Peer) -> None:
        if peer.silent and not peer.leaving and not beat.leaving:
            peer.allowed, peer.steady = min(2 * peer.allowed, self._allowed_max), 0
        peer.steady += 1
        if peer.steady > _STEADY_BEATS:
            peer.allowed = self._allowed
        peer.missed, peer.leaving, peer.copies = 0, beat.leaving, _positions(beat)
        peer.serving = {served.shard: served.epoch for served in beat.serving}

    def owners(self) -> dict[int, str] | None:
        """Return the engine that serves each shard, of those that run; None until each had time for a heartbeat."""
        if self._own_beats < self._allowed:
            return None
        found = {shard: name for name, peer in self._peers.items() if not peer.silent for shard in peer.serving}
        return found | dict.fromkeys(self._serving, self._own)

    def superseded(self, serving: Mapping[int, int]) -> set[int]:
        """Return the shards, each with the epoch of this engine, that another engine serves with a higher epoch."""
        others = [peer.serving for peer in self._peers.values()]
        return {shard for shard, epoch in serving.items() for other in others if other.get(shard, epoch) > epoch}

    def abandoned(self) -> dict[int, str]:
        """Return the shards whose owner is silent, each with the name of the owner."""
        others = [peer.serving.keys() for peer in self._peers.values() if not peer.silent]
        served = self._serving.union(*others)
        silent = {name: peer for name, peer in self._peers.items() if peer.silent}
        return {shard: name for name, peer in silent.items() for shard in peer.serving.keys() - served}

    def takes(self, shard: int) -> bool:
        """Return whether this engine is the next in order to take over an abandoned shard from its warm copy."""
        return self._is_next(shard, self._with_fresh_copies(shard))

    def fences(self, shard: int) -> bool:
        """Return whether this engine is the next in order to end the open transaction of an abandoned shard.

        That is so if no engine has a copy of the shard. The group assigns it later; until then the transaction would
        delay the readers of commands, whichever shard wrote them.
        """
        owner = self._peers[self.abandoned()[shard]]
        return not owner.leaving and not self._with_fresh_copies(shard) and self._is_next(shard, self._running())

    def _is_next(self, shard: int, engines: Mapping[str, object]) -> bool:
        if self._own not in engines:
            return False
        order = sorted(engines, key=lambda name: crc32(f"{name}/{shard}".encode()))
        owner = self._peers[self.abandoned()[shard]]
        return owner.missed >= (0 if owner.leaving else owner.allowed) + _NEXT_BEATS * order.index(self._own)

    def _running(self) -> dict[str, Mapping[int, int]]:
        """Return the copies of each engine that is not silent."""
        running = {name: peer.copies for name, peer in self._peers.items() if not peer.silent}
        return {self._own: self._copies, **running}

    def _with_fresh_copies(self, shard: int) -> dict[str, int]:
        positions = {name: copies[shard] for name, copies in self._running().items() if shard in copies}
        freshest = max(positions.values(), default=0)
        return {name: at for name, at in positions.items() if freshest - at <= _FRESH_OFFSETS}
