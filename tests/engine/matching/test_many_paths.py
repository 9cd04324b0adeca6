"""Waits that use a path each: the row of an event name is bounded, and all waits are found."""

import pytest

from stepstream.contract.limits import PATHS_PER_NAME_MAX
from stepstream.engine.state.keys import parse_texts
from stepstream.engine.state.rows import EventName
from stepstream.engine.state.tables import EVENT_NAMES, WAITS, encode_row, event_name_key
from tests.engine.tables import SHARDS, Line, World

RUNS = PATHS_PER_NAME_MAX + 8


def opened(shards: int, stem: str = "k") -> World:
    """Return a world in which each run waits for `come` where its own field is 1."""
    world = World(shards)
    world.play(Line(10, "function f on=go", ""))
    for number in range(RUNS):
        world.play(Line(10, "event go", ""))
        world.play(Line(11, f"plan r{number + 1} wait:a:come:500:?async.data.{stem}{number}==1", ""))
    return world


def paths(world: World) -> list[str]:
    """Return the paths in the row of the name."""
    rows = [tables.get(key) for tables in world.tables for key in tables.rows if key.table == EVENT_NAMES.prefix]
    return [path for row in rows if isinstance(row, EventName) for path in row.paths]


def scanned(world: World) -> int:
    """Return how many waits are in the scan bucket."""
    keys = [key for tables in world.tables for key in tables.rows if key.table == WAITS.prefix]
    return sum(parse_texts(key.part)[1] == "" for key in keys)


@pytest.mark.parametrize("shards", SHARDS)
def test_many_paths_of_one_name_are_not_all_indexed(shards: int) -> None:
    """Beyond a number of paths, waits are in the scan bucket; an event ends those that it satisfies, and no other."""
    world = opened(shards)
    assert len(paths(world)) == PATHS_PER_NAME_MAX + 1
    assert scanned(world) == RUNS - PATHS_PER_NAME_MAX
    for number in range(RUNS):
        assert world.play(Line(12, f'event come {{"k{number}":2}}', "")) == []
        words = world.play(Line(12, f'event come {{"k{number}":1}} e{number}', ""))
        assert sorted(words) == [f"kept a=come:e{number}", f"resume r{number + 1} a=come:e{number}"]
    assert world.play(Line(12, "rows Wait", "")) == ["0"]


@pytest.mark.parametrize("shards", SHARDS)
def test_a_wait_is_removed_from_its_actual_bucket(shards: int) -> None:
    """The run does not know in which bucket its wait is; its end removes the wait anyway."""
    world = opened(shards)
    for number in range(RUNS):
        world.play(Line(13, f"return r{number + 1} =1", ""))
    assert world.play(Line(13, "rows Wait", "")) == ["0"]


def test_an_unused_path_is_replaced() -> None:
    """A new path takes the place of one whose waits have ended."""
    world = opened(1)
    world.play(Line(600, "event go", ""))
    world.play(Line(600, f"plan r{RUNS + 1} wait:a:come:500:?async.data.other==1", ""))
    assert paths(world) == ["data.other"]


def test_a_long_path_is_not_indexed() -> None:
    """The row of a name is written for each wait, so it must be small."""
    world = opened(1, stem="k" * 300)
    assert paths(world) == [""]
    assert scanned(world) == RUNS


def test_a_name_with_more_paths_keeps_them() -> None:
    """With tables from before the bound existed, waits by these paths are found, and new ones join them."""
    world = World(1)
    world.play(Line(10, "function f on=go", ""))
    world.tables[0].rows[event_name_key("come")] = encode_row(EventName({f"data.k{at}": 500 for at in range(100)}))
    world.play(Line(10, "event go", ""))
    world.play(Line(11, "plan r1 wait:a:come:500:?async.data.k99==1", ""))
    assert (len(paths(world)), scanned(world)) == (100, 0)
    assert len(world.play(Line(12, 'event come {"k99":1}', ""))) == 2
