"""Which engine serves which shard: decided at each rebalance by one engine, from what all engines claim.

A shard that is served stays with its engine until the engine that should have it has a copy of its tables. Otherwise
the shard would be silent while that engine, which may have an empty disk, reads the whole changelog.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec


class Claim(msgspec.Struct, frozen=True, omit_defaults=True):
    """The shards that an engine has.

    It serves `serving`, each with the epoch of its producer, and `starting`, which do not serve yet. It has copies of
    others: those in `copied` are at the end of the changelog, and those in `copying` are not.
    """

    serving: dict[int, int] = {}
    starting: dict[int, int] = {}
    copied: tuple[int, ...] = ()
    copying: tuple[int, ...] = ()


class Placement(msgspec.Struct, omit_defaults=True):
    """The shards that an engine serves from now on, and those that it gets once it has copied their tables."""

    serves: list[int] = []
    copies: list[int] = []


decode_placement = msgspec.json.Decoder(Placement).decode


def decode_claim(data: bytes) -> Claim:
    """Return the claim of an engine; one that cannot be read claims nothing."""
    try:
        return msgspec.json.decode(data, type=Claim)
    except (msgspec.MsgspecError, UnicodeError):
        return Claim()


class _Move(NamedTuple):
    """A shard and the engine that gets it, at once or `later`. The least one is made first.

    `missing` is 0 if that engine has copied the shard, 1 if it is copying it, and else 2; `load` is that of the engine.
    """

    later: bool
    missing: int
    load: int
    shard: int
    engine: str


class _Placing:
    """The placements so far. The `load` of an engine is what it will serve when all copies are made; `room` bounds it.

    If the shards cannot be divided evenly, the engines that have most keep one more, so that fewer move. A shard does
    not count for this if an engine with too few shards has copied it, because it can move at once.
    """

    def __init__(self, claims: Mapping[str, Claim], shards: int) -> None:
        self._claims = claims
        self._owned = _owned(claims, shards)
        self._free = set(range(shards)).difference(*self._owned.values())
        self._load = {engine: len(owned) for engine, owned in self._owned.items()}
        each, more = divmod(shards, len(claims))
        kept = self._kept(each)
        by_load = sorted(claims, key=lambda engine: (-kept[engine], -self._load[engine], engine))
        self._room = {engine: each + (rank < more) for rank, engine in enumerate(by_load)}
        self.placements = {engine: Placement(list(owned)) for engine, owned in self._owned.items()}

    def _kept(self, each: int) -> dict[str, int]:
        """Return how many shards each engine keeps when those with fewer than `each` get what they have copied."""
        lacking = {engine: each - load for engine, load in self._load.items() if load < each}
        copied = set[int]().union(*(self._claims[engine].copied for engine in lacking))
        given_max = sum(lacking.values())
        return {
            engine: len(owned) - min(len(copied.intersection(owned)), given_max)
            for engine, owned in self._owned.items()
        }

    def _moves(self, shard: int, served: bool) -> Iterator[_Move]:
        """Yield the moves of a shard to engines that have room; one that is served moves once it is copied."""
        for engine, claim in self._claims.items():
            if self._load[engine] < self._room[engine]:
                missing = 0 if shard in claim.copied else 1 if shard in claim.copying else 2
                yield _Move(served and missing > 0, missing, self._load[engine], shard, engine)

    def give_free(self) -> None:
        """Give the shards that no engine has, those first of which there are copies."""
        for *_, shard, _ in sorted(min(self._moves(shard, served=False)) for shard in self._free):
            move = min(self._moves(shard, served=False))
            self._load[move.engine] += 1
            self.placements[move.engine].serves.append(shard)

    def balance(self) -> None:
        """Move shards from engines that have too many."""
        for engine, owned in self._owned.items():
            serving = self._claims[engine].serving
            while self._load[engine] > self._room[engine]:
                move = min(move for shard in owned for move in self._moves(shard, shard in serving))
                owned.remove(move.shard)
                self._load[engine] -= 1
                self._load[move.engine] += 1
                if move.later:
                    self.placements[move.engine].copies.append(move.shard)
                else:
                    self.placements[engine].serves.remove(move.shard)
                    self.placements[move.engine].serves.append(move.shard)


def _owned(claims: Mapping[str, Claim], shards: int) -> dict[str, list[int]]:
    """Return the shards of each engine; of several that claim a shard, the one with the highest epoch has it."""
    owned: dict[str, list[int]] = {engine: [] for engine in sorted(claims)}
    for shard in range(shards):
        epochs = [
            (held[shard], engine)
            for engine, claim in claims.items()
            for held in (claim.serving, claim.starting)
            if shard in held
        ]
        if epochs:
            owned[max(epochs)[1]].append(shard)
    return owned


def place(claims: Mapping[str, Claim], shards: int) -> dict[str, Placement]:
    """Return the placement of each engine; each shard is served by exactly one of them."""
    placing = _Placing(claims, shards)
    placing.give_free()
    placing.balance()
    return placing.placements
