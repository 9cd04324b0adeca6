"""A batch has an end, whatever the log holds: what is left over is taken by the next ones."""

import itertools
from typing import Any

import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.topics import EVENTS
from stepstream.runtime import shard
from stepstream.runtime.ports import Offsets
from stepstream.testing import VirtualEngine


class Watched:
    """A shard's log that notes up to which event each commit goes."""

    def __init__(self, log: Any, notes: list[int]) -> None:
        self._log = log
        self._notes = notes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def send_offsets(self, offsets: Offsets) -> None:
        """Note, and go on."""
        self._notes += [offset for (topic, _), offset in offsets.items() if topic == EVENTS]
        await self._log.send_offsets(offsets)


async def test_a_batch_that_is_full_leaves_records_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for ten changes a batch, a pile of events that came together is taken by many, each event once."""
    monkeypatch.setattr(shard, "CHANGES_PER_BATCH_MAX", 10)
    app = App("shop")

    @app.function(on("go"))
    async def function(ctx: Context) -> int:
        return await ctx.step.run("number", lambda: int(ctx.event.data["n"]))

    commits: list[int] = []
    wrap = lambda name, port: Watched(port, commits) if name.startswith("log") else port  # noqa: E731
    async with VirtualEngine(app, wrap=wrap) as engine:
        await engine.send(*[Event("go", {"n": number}) for number in range(100)])
        assert {run.output for run in engine.runs()} == set(range(100))
    assert commits == sorted(commits)
    assert len(commits) >= 20
    assert max(after - before for before, after in itertools.pairwise(commits)) <= 10
