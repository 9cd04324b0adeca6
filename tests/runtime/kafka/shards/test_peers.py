"""Engines suspect others by their heartbeats, agree on the one that takes over a shard, and believe newer owners."""

from collections.abc import Mapping

import pytest

from stepstream.contract.heartbeats import EngineHeartbeat, ShardCopied, ShardServed
from stepstream.runtime.kafka.shards.peers import Peers

ALLOWED = 6
NONE: Mapping[int, int] = {}


def beat(
    engine: str, serving: Mapping[int, int] = NONE, copies: Mapping[int, int] = NONE, *, leaving: bool = False
) -> EngineHeartbeat:
    """Return a heartbeat."""
    served = tuple(ShardServed(*each) for each in serving.items())
    return EngineHeartbeat(engine, served, tuple(ShardCopied(*each) for each in copies.items()), leaving)


def peers_of(engine: str) -> Peers:
    """Return what an engine knows before it has read anything."""
    return Peers(engine, ALLOWED, 4 * ALLOWED)


def read(peers: Peers, *beats: EngineHeartbeat, times: int = 1) -> None:
    """Read heartbeats from the log, in this order, several times."""
    for _ in range(times):
        for each in beats:
            peers.note(each)


def test_engine_that_misses_heartbeats_is_silent() -> None:
    """Its shards are abandoned after as many heartbeats of the reader as are allowed, and no earlier."""
    peers = peers_of("b")
    read(peers, beat("a", {0: 1, 1: 1}), beat("b", {2: 1}, {0: 5, 1: 5}))
    read(peers, beat("b", {2: 1}, {0: 5, 1: 5}), times=ALLOWED - 2)
    assert peers.abandoned() == {}
    read(peers, beat("b", {2: 1}, {0: 5, 1: 5}))
    assert peers.abandoned() == {0: "a", 1: "a"}
    assert peers.takes(0)
    assert peers.takes(1)


def test_engine_that_reads_no_own_heartbeats_suspects_no_other() -> None:
    """The broker is slow, or the reader was suspended: the silence of others means nothing."""
    peers = peers_of("b")
    read(peers, beat("a", {0: 1}), beat("c"), times=1)
    read(peers, beat("c"), times=100)
    assert peers.abandoned() == {}


def test_leaving_engine_is_replaced_at_once() -> None:
    """It closes its shards, so the first standby need not wait."""
    peers = peers_of("b")
    read(peers, beat("b", {}, {0: 5}), beat("a", {0: 1}), beat("a", {0: 1}, leaving=True))
    assert peers.takes(0)
    assert not peers.fences(0)


@pytest.mark.parametrize("leaving", [False, True])
def test_standbys_take_over_in_turn(leaving: bool) -> None:
    """All of them compute one order; the second waits longer, in case the first one does not take the shard."""
    beats = {name: beat(name, {}, {0: 5}) for name in ("b", "c")}
    known = {name: peers_of(name) for name in beats}
    for peers in known.values():
        read(peers, *beats.values(), beat("a", {0: 1}, leaving=leaving))
        read(peers, *beats.values(), times=0 if leaving else ALLOWED)
    first = [name for name, peers in known.items() if peers.takes(0)]
    assert len(first) == 1
    for peers in known.values():
        read(peers, *beats.values(), times=2)
    assert all(peers.takes(0) for peers in known.values())


def test_shards_of_a_silent_engine_are_spread() -> None:
    """Not one standby takes all of them."""
    copies = dict.fromkeys(range(32), 5)
    found = dict[str, int]()
    for name in ("b", "c"):
        peers = peers_of(name)
        read(peers, beat("a", dict.fromkeys(range(32), 1)))
        read(peers, beat("b", {}, copies), beat("c", {}, copies), times=ALLOWED)
        found[name] = sum(peers.takes(shard) for shard in range(32))
    assert sum(found.values()) == 32
    assert min(found.values()) > 8


def test_copy_that_is_far_behind_is_not_used() -> None:
    """The engine with the freshest copy takes over."""
    for name, expected in (("b", False), ("c", True)):
        peers = peers_of(name)
        read(peers, beat("a", {0: 1}))
        read(peers, beat("b", {}, {0: 5}), beat("c", {}, {0: 50_000}), times=10 * ALLOWED)
        assert peers.takes(0) == expected


def test_transaction_of_a_silent_engine_ends_without_a_copy() -> None:
    """One of the others fences the shard; the group assigns it later."""
    found = list[str]()
    for name in ("b", "c"):
        peers = peers_of(name)
        read(peers, beat("a", {0: 1}))
        read(peers, beat("b"), beat("c"), times=ALLOWED)
        assert not peers.takes(0)
        found += [name] * peers.fences(0)
    assert len(found) == 1


def test_shard_with_a_new_owner_is_not_abandoned() -> None:
    """Another engine took it over; the silent one returns with its old epoch and learns that it was fenced."""
    peers = peers_of("b")
    read(peers, beat("a", {0: 1}), beat("c", {}, {0: 5}))
    read(peers, beat("b", {}, {0: 5}), times=ALLOWED)
    read(peers, beat("c", {0: 2}))
    assert peers.abandoned() == {}
    read(peers, beat("b", {}, {0: 5}), times=4 * ALLOWED)
    old = peers_of("a")
    read(old, beat("a", {0: 1}), beat("c", {0: 2}))
    assert old.superseded({0: 1}) == {0}
    assert old.superseded({0: 3}) == set()


def test_shard_that_is_being_taken_over_is_not_abandoned() -> None:
    """The engine that takes it over has closed its copy and not opened the log; if it ends, the next one takes over."""
    peers = peers_of("b")
    read(peers, beat("a", {0: 1}), beat("c", {}, {0: 5}))
    read(peers, beat("b"), beat("c", {}, {0: 5}), times=ALLOWED)
    assert peers.abandoned() == {0: "a"}
    read(peers, beat("c", {0: -1}), beat("b"))
    assert peers.abandoned() == {}
    assert peers.superseded({0: 1}) == set()
    read(peers, beat("b"), times=ALLOWED)
    assert peers.abandoned() == {0: "c"}


def test_returning_engine_is_suspected_later_the_next_time() -> None:
    """A process that is suspended again and again would otherwise lose its shards each time."""
    peers = peers_of("b")
    own = beat("b", {}, {0: 5})
    for allowed in (ALLOWED, 2 * ALLOWED, 4 * ALLOWED, 4 * ALLOWED):
        read(peers, beat("a", {0: 1}))
        read(peers, own, times=allowed - 1)
        assert peers.abandoned() == {}
        read(peers, own)
        assert peers.abandoned() == {0: "a"}
    read(peers, beat("a", {0: 1}), own, times=3_500)
    read(peers, own, times=ALLOWED)
    assert peers.abandoned() == {0: "a"}


def test_engine_that_ended_long_ago_is_forgotten() -> None:
    """The names of processes are never used again, so their number must be bounded."""
    peers = peers_of("b")
    read(peers, beat("a", {0: 1}))
    read(peers, beat("b"), times=20_000)
    assert peers.abandoned() == {}


def test_owners_are_known_after_each_engine_had_time_for_a_heartbeat() -> None:
    """Until then an engine that runs may not have sent one; a silent one owns nothing."""
    peers = peers_of("b")
    read(peers, beat("a", {0: 1}), beat("b", {2: 1}), times=ALLOWED - 1)
    assert peers.owners() is None
    read(peers, beat("a", {0: 1}), beat("b", {2: 1}))
    assert peers.owners() == {0: "a", 2: "b"}
    read(peers, beat("b", {2: 1}), times=ALLOWED)
    assert peers.owners() == {2: "b"}
