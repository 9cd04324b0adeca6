"""Which runs changed since a version, for live pages."""

import asyncio

from stepstream.runtime.readmodel.changes import RunChanges


def test_changes_are_known_since_each_version() -> None:
    """A run changed since a version if a later batch changed it, however often."""
    changes = RunChanges()
    with changes.watched():
        changes.add(["a", "b"])
        changes.add(["b", "c"])
        assert [changes.among("abcd", since) for since in (0, 1, 2)] == [["a", "b", "c"], ["b", "c"], []]


def test_all_runs_changed_if_it_is_not_known() -> None:
    """What happened without a watcher, what exceeds the bound, and what another process counted is not known."""
    changes = RunChanges(runs_max=3)
    changes.add(["a"])
    with changes.watched():
        assert changes.among("xy", 0) == ["x", "y"]
        assert changes.among("xy", 1) == []
        changes.add("abcd")
        assert changes.among("xy", 1) == ["x", "y"]
        assert changes.among("xyd", 2) == []
        changes.add("d")
        assert changes.among("xyd", 2) == ["d"]
        assert changes.among("xy", 9) == ["x", "y"]
    changes.add("d")
    assert changes.among("xy", 3) == ["x", "y"]


def test_marks_are_of_one_process() -> None:
    """The mark of a version is understood by the process that made it; any other text means that all has changed."""
    changes = RunChanges()
    changes.add(["a"])
    assert changes.version_of(changes.mark()) == changes.version == 1
    assert changes.version_of(changes.mark(7)) == 7
    for text in ("", "1", RunChanges().mark(1), changes.mark() + "x", changes.mark()[:-1] + "²", "a-b-c"):
        assert changes.version_of(text) == -1


async def test_watchers_wait_for_a_later_version() -> None:
    """All watchers see a later version; those that come after it do not wait, and a wait has a limit."""
    changes = RunChanges()
    with changes.watched():
        waiting = [asyncio.ensure_future(changes.after(0, 60)) for _ in range(3)]
        await asyncio.sleep(0)
        changes.add(["a"])
        assert await asyncio.gather(*waiting) == [True, True, True]
        assert await changes.after(0, 60)
        assert not await changes.after(1, 0)
