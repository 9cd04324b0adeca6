"""Bulk operations under random delays and repeats: each run is acted on once, and counts once, in any order."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepstream.contract.history import RunBegan
from stepstream.contract.inbox import CancelRequested
from stepstream.contract.limits import DAY_MS, DEFAULT_LIMITS, PATH_USED_MS
from stepstream.contract.operators.bulk import OPEN_BULK_STATES, BulkChanged, BulkItem, BulkItemEnded
from stepstream.engine.state.changes import Send
from stepstream.engine.state.records import Input
from stepstream.engine.state.rows import Bulk
from tests.engine.delayed import Delayed
from tests.engine.tables import Line

SHARDS, RUNS = 3, 5
# Two clients upload the same operation, in pages that may be lost, repeated and reordered.
PAGES = {
    upload: (
        f"bulk start b rerun {upload} rate=20",
        f"bulk page b {upload} 0 old0:f old1:f",
        f"bulk page b {upload} 2 old2:f",
        f"bulk page b {upload} 3 old3:f old4:f last",
    )
    for upload in ("u", "v")
}
RECORDS = [*PAGES["u"], *PAGES["v"], *PAGES["u"], "tick", "tick", "tick"]


class Operated(Delayed):
    """Shards whose logs may deliver a request or an outcome of a bulk operation again."""

    def begin(self) -> None:
        """Start with a function."""
        super().begin()
        self.requests: list[tuple[Input, int]] = []
        self.begun: Counter[str] = Counter()
        self.shown: list[BulkChanged] = []

    def fold(self, record: Input, shard: int, now: int) -> None:
        """Fold a record at a shard, and note it if it may be repeated."""
        if isinstance(record, BulkItemEnded) or getattr(record, "bulk", None):
            self.requests.append((record, shard))
        super().fold(record, shard, now)

    def repeat(self, choice: int, now: int) -> None:
        """Deliver a request or an outcome again."""
        if self.requests:
            self.fold(*self.requests[choice % len(self.requests)], now)

    def leave(self, change: Send, shard: int) -> str:
        """Note what is repeated, and the states of the operation."""
        if isinstance(change.record, RunBegan) and change.record.rerun:
            self.begun[change.record.rerun.origin] += 1
        if isinstance(change.record, BulkChanged):
            self.shown.append(change.record)
        return super().leave(change, shard)

    def rows(self, kind: type) -> list[object]:
        """Return the rows of a type."""
        return [row for tables in self.tables for key in tables.rows if isinstance(row := tables.get(key), kind)]

    def finish(self, now: int) -> int:
        """Deliver and fire what is left; return the time at which nothing is."""
        self.deliver_all(now)
        while self.shown and self.shown[-1].state in OPEN_BULK_STATES:
            now += 100
            self.take(self.ticks(now), now)
            self.deliver_all(now)
        return now


Actions = Sequence[tuple[str, int, list[int], int | None]]
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from([*RECORDS, "bulk cancel b"]),
        st.integers(0, 60),
        st.lists(st.integers(0, 99), max_size=4),
        st.none() | st.integers(0, 99),
    ),
    max_size=25,
)


def operate(actions: Actions) -> tuple[Operated, int]:
    """Play actions, and then a whole upload; return the shards and the time at which the operation has ended."""
    world, now = Operated(SHARDS, DEFAULT_LIMITS), 10
    world.begin()
    ending: Actions = [(record, 1, [], None) for record in PAGES["v"]]
    for record, passed, arrivals, again in [*actions, *ending]:
        now += passed
        world.play(Line(now, record, ""))
        for choice in arrivals:
            world.deliver(choice, now)
        if again is not None:
            world.repeat(again, now)
    return world, world.finish(now)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(ACTIONS)
def test_each_run_counts_once_in_any_order(actions: Actions) -> None:
    """Whatever is delayed or repeated, all runs are rerun once, or after a cancellation those that were sent."""
    world, now = operate(actions)
    shown = world.shown[-1]
    assert shown.state == ("cancelled" if shown.ended_by else "completed")
    assert shown.sent == RUNS or shown.ended_by
    assert dict(shown.outcomes) == ({"started": shown.sent} if shown.sent else {})
    assert world.begun == Counter(f"old{number}" for number in range(shown.sent))
    assert [each.seq for each in world.shown] == list(range(1, len(world.shown) + 1))
    world.take(world.ticks(now), now)
    assert not world.rows(BulkItem)
    later = now + 8 * DAY_MS
    while ticks := world.ticks(later):
        world.take(ticks, later)
    assert not world.rows(Bulk)
    world.take([CancelRequested(run) for kind, run in world.lives if kind == "RunBegan"], later)
    world.deliver_all(later)
    later += PATH_USED_MS + DAY_MS
    while ticks := world.ticks(later):
        world.take(ticks, later)
        world.deliver_all(later)
    assert world.left() == []
