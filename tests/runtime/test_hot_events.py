"""The busiest event names of a shard are found in bounded memory, whatever names producers choose."""

from collections import Counter

import pytest

from stepstream import App, Event
from stepstream.contract.ids import shard_of
from stepstream.runtime.hot_events import LABEL_CHARACTERS_MAX, WINDOW_S, HotEvents
from stepstream.runtime.metrics import Metrics
from stepstream.runtime.shard.loop import BatchStats
from stepstream.testing import VirtualEngine
from tests.fakes.clock import Now
from tests.runtime.exposition import Scrape, observe


def test_names_are_reported_by_their_share() -> None:
    """Names with at least a tenth of the inputs are reported, and others are not."""
    hot = HotEvents()
    hot.add(2_000, {"order": 1_600, "payment": 300, "refund": 100})
    assert dict(hot.shares()) == {"order": 0.8, "payment": 0.15}


def test_few_events_report_nothing() -> None:
    """A shard that applies less than a hundred inputs a minute has no hot name."""
    hot = HotEvents()
    hot.add(99, {"order": 99})
    assert not dict(hot.shares())


@pytest.mark.parametrize(("later_s", "left"), [(WINDOW_S - 1, 1.0), (WINDOW_S + 1, 1.0), (2 * WINDOW_S + 1, None)])
def test_a_name_cools_down_within_a_minute(later_s: float, left: float | None) -> None:
    """The share is of the last minute at most, even if no event follows."""
    now = Now()
    hot = HotEvents(now)
    hot.add(1_000, {"order": 1_000})
    now.s += later_s
    assert dict(hot.shares()).get("order") == left


def test_a_hot_name_is_found_among_any_number_of_names() -> None:
    """Names that differ in each event take bounded memory, and hide no name that is hot."""
    hot = HotEvents()
    for batch in range(100):
        hot.add(500, Counter({f"random-{batch}-{number}": 1 for number in range(250)} | {"order": 250}))
    shares = dict(hot.shares())
    assert shares.keys() == {"order"}
    assert shares["order"] == pytest.approx(0.5, abs=0.02)
    assert len(hot._current.counts) <= 100


def test_labels_are_bounded_and_printable() -> None:
    """Control characters, line ends and direction marks are escaped, and long names are cut."""
    hot = HotEvents()
    hot.add(300, {"évènement": 100, "a\x1b[31m\u202e\n": 100, "x" * 255: 100})
    names = [name for name, _ in hot.shares()]
    assert names == ["évènement", "a\\u001b[31m\\u202e\\n", "x" * (LABEL_CHARACTERS_MAX - 1) + "…"]


def test_metrics_name_the_shard_and_its_hot_events() -> None:
    """Fifty equally frequent names are not hot; a shard that leaves takes its names with it."""
    metrics = Metrics("engine")
    names = {f"event-{number}": 100 for number in range(50)}
    for shard, events in ((3, {"order": 900, **{f"event-{n}": 10 for n in range(10)}}), (4, names)):
        metrics.committed(shard, BatchStats(1_000, {}, (), 0.1, 0.1, sum(events.values()), events))
    assert Scrape(metrics.text().decode()).values("stepstream_hot_event_share") == [
        ({"shard": "3", "event": "order"}, 0.9)
    ]
    metrics.left(3)
    assert not Scrape(metrics.text().decode()).values("stepstream_hot_event_share")


async def test_the_shard_of_a_name_reports_it() -> None:
    """All events of a name are matched by one shard, wherever producers send them, and only that shard reports it."""
    metrics = Metrics("engine")
    engine = VirtualEngine(App("shop"), shards=4)
    observe(engine, metrics)
    async with engine:
        await engine.send(*(Event("order", id=f"o-{number}") for number in range(2_000)))
        shares = Scrape(metrics.text().decode()).values("stepstream_hot_event_share")
    assert [labels for labels, _ in shares] == [{"shard": str(shard_of("order", 4)), "event": "order"}]
    assert shares[0][1] > 0.7
