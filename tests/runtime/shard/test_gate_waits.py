"""The oldest wait for each limit, which is read from the tables in portions."""

import pytest

from stepstream.runtime.shard import gate_waits
from stepstream.runtime.shard.gate_waits import OldestWaits, oldest_of
from tests.engine.tables import Line, World


def test_the_oldest_wait_of_all_keys_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits are read in turn; those for which no run waits are left out, and a wait that ended is not listed again."""
    monkeypatch.setattr(gate_waits, "_GATES_MAX", 2)
    world = World(1)
    world.play(Line(10, "function f on=go concurrency=1:event.data.t:one", ""))
    for at, tenant in ((11, "a"), (12, "b"), (13, "c"), (14, "c"), (15, "b"), (16, "b")):
        world.play(Line(at, f'event go {{"t":"{tenant}"}}', ""))
    world.play(Line(20, "function g on=too concurrency=1::other", ""))
    world.play(Line(21, "event too", ""))
    waits = OldestWaits(world.tables[0])
    assert [dict(waits.read()) for _ in range(3)] == [{}, {}, {"one": 14}]
    world.play(Line(30, "return r3 =1", ""))
    assert [dict(waits.read()) for _ in range(3)] == [{"one": 14}, {"one": 14}, {"one": 15}]


def test_the_oldest_wait_of_all_sub_queues_counts() -> None:
    """The run that passes next is not the one that waits longest."""
    world = World(1)
    world.play(Line(10, "function f on=go concurrency=1::one fair=event.data.t", ""))
    for at, tenant in ((11, "a"), (12, "a"), (13, "b"), (14, "a")):
        world.play(Line(at, f'event go {{"t":"{tenant}"}}', ""))
    waits = OldestWaits(world.tables[0])
    assert dict(waits.read()) == {"one": 12}
    world.play(Line(20, "cancel r2", ""))
    assert dict(waits.read()) == {"one": 13}


def test_the_longest_waits_of_all_shards_are_exported() -> None:
    """At most so many limits, each with its oldest wait."""
    waits: list[dict[str, int]] = [{"a": 5_000, "b": 1_000}, {"a": 3_000, "c": 9_000}]
    assert oldest_of(waits, 10_000, 2) == {"b": 9.0, "a": 7.0}
    assert oldest_of(waits, 4_000, 9) == {"b": 3.0, "a": 1.0, "c": 0.0}
