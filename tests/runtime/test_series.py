"""The number of series is bounded, whatever the records contain, and metrics are updated once per batch."""

from typing import Any

import pytest

from stepstream import App, Context, Event, NonRetriableError, on
from stepstream.contract.codec import dump_json, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.ids import StepRef
from stepstream.contract.inbox import RunClaimed, RunRequested, SignalSent, StepReported
from stepstream.contract.outcomes import Value
from stepstream.contract.topics import EVENTS, FUNCTIONS, INBOX, commands_topic
from stepstream.runtime import metrics as module
from stepstream.runtime.metrics import Metrics
from stepstream.runtime.ports import NewRecord
from stepstream.runtime.shard.loop import BatchStats
from stepstream.runtime.storage.journal import JournalWrite
from stepstream.testing import VirtualEngine
from tests.runtime.exposition import Scrape, observe

FUNCTIONS_MAX = 8


class Counting(Metrics):
    """Metrics that note the number of records of each batch."""

    def __init__(self) -> None:
        super().__init__("engine", "worker")
        self.batches: list[int] = []

    def committed(self, shard: int, batch: BatchStats) -> None:
        """Note a batch."""
        self.batches.append(batch.records)
        super().committed(shard, batch)

    def series(self) -> set[tuple[str, ...]]:
        """Return the name and the labels of each sample."""
        families = Scrape(self.text().decode()).families.values()
        return {
            (sample.name, *(f"{label}={value}" for label, value in sorted(sample.labels.items())))
            for family in families
            for sample in family.samples
        }


def odd(what: str, number: int) -> str:
    """Return an unusual name, a different one for each number."""
    return f'{what} "{number}" {{évènement}}\\ 🦊'


def shop() -> App:
    """Return an app whose code makes odd names from its events."""
    app = App("shop")

    def fail(name: str) -> None:
        raise type(name, (NonRetriableError,), {})(name)

    @app.function(on("order", if_="event.data.n >= 0"))
    async def work(ctx: Context) -> None:
        name = odd("step", ctx.event.data["n"])
        await ctx.step.run(name, str)
        await ctx.step.send_event(f"{name} sent", Event(odd("sent", ctx.event.data["n"])))
        await ctx.step.wait_for_event(f"{name} wait", event=odd("paid", ctx.event.data["n"]), timeout="1h")
        await ctx.step.wait_for_signal(f"{name} signal", signal=odd("signal", ctx.event.data["n"]), timeout="1h")
        await ctx.step.run(f"{name} fails", fail, odd("Error", ctx.event.data["n"]))

    return app


def records(number: int) -> list[NewRecord]:
    """Return records of all kinds with odd names, some invalid and some about unknown runs."""
    function, run, event = odd("function", number), odd("run", number), odd("event", number)
    inbox = [
        RunRequested(run, function, "shop", (EventRecord(event),)),
        RunRequested(f"{run} late", function, "shop", (EventRecord(event),), caller=StepRef(run, "step")),
        StepReported(run, 0, odd("hash", number), odd("step", number), Value(dump_json(1, "value"))),
        StepReported(
            run, 0, odd("hash", number), odd("step", number), Value(dump_json(1, "value")), queue=odd("queue", number)
        ),
        RunClaimed(run, odd("claim", number), odd("app", number)),
        SignalSent(odd("signal", number)),
    ]
    found = [NewRecord(INBOX, 0, run.encode(), encode(record)) for record in inbox]
    found += [NewRecord(topic, 0, b"", odd("poison", number).encode()) for topic in (EVENTS, INBOX, FUNCTIONS)]
    found += [NewRecord(commands_topic("shop"), 0, b"", odd("poison", number).encode())]
    events: list[Any] = [(event, {}), ("order", {"n": number}), ("order", {"n": odd("data", number)})]
    found += [NewRecord(EVENTS, 0, b"", encode(EventRecord(name, dump_json(data, "data")))) for name, data in events]
    return found


@pytest.mark.long
@pytest.mark.slow
async def test_number_of_series_does_not_grow_with_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few odd names, data, errors and unregistered functions, more of them add no series."""
    monkeypatch.setattr(module, "FUNCTIONS_LABELLED_MAX", FUNCTIONS_MAX)
    metrics = Counting()
    engine = VirtualEngine(shop())
    observe(engine, metrics)
    seen: list[set[tuple[str, ...]]] = []
    async with engine:
        for numbers in (range(2 * FUNCTIONS_MAX), range(100, 100 + 8 * FUNCTIONS_MAX)):
            engine.journal.write(JournalWrite([each for number in numbers for each in records(number)]), engine.now_ms)
            await engine.until_idle()
            await engine.advance("3h")
            seen.append(metrics.series())
    hot = {series for series in seen[1] if series[0] == "stepstream_hot_event_share"}
    # The only series with a label that producers choose: names with a tenth of the work of a shard.
    assert len(hot) <= 10
    assert seen[1] - seen[0] - hot == set()
    scrape = Scrape(metrics.text().decode())
    assert scrape.sum("stepstream_runs_started_total", function="work") == 10 * FUNCTIONS_MAX
    assert scrape.sum("stepstream_dead_letters_total") == 4 * 10 * FUNCTIONS_MAX
    functions = {labels["function"] for labels, _ in scrape.values("stepstream_runs_started_total")}
    assert len(functions) == FUNCTIONS_MAX + 1
    # Functions beyond the maximum are counted together.
    assert scrape.sum("stepstream_runs_started_total") == 3 * 10 * FUNCTIONS_MAX
    assert scrape.sum("stepstream_runs_open") == 0


def test_number_of_limits_in_labels_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A label names a limit, which is code; further ones are counted together."""
    monkeypatch.setattr(module, "FUNCTIONS_LABELLED_MAX", 2)
    metrics = Counting()
    for number in range(9):
        metrics.count("gate_waits", f"limit {number}")
    scrape = Scrape(metrics.text().decode())
    found = {labels["gate"]: value for labels, value in scrape.values("stepstream_gate_waits_total")}
    assert found == {"limit 0": 1, "limit 1": 1, "(other)": 7}


async def test_metrics_are_updated_once_per_batch() -> None:
    """A backlog is processed in batches of hundreds of records, and each record is counted."""
    metrics = Counting()
    engine = VirtualEngine(shop())
    observe(engine, metrics)
    async with engine:
        metrics.batches.clear()
        waiting = [NewRecord(EVENTS, 0, b"", encode(EventRecord(odd("event", number)))) for number in range(1_000)]
        engine.journal.write(JournalWrite(waiting), engine.now_ms)
        await engine.until_idle()
    assert sum(metrics.batches) >= len(waiting)
    assert len(metrics.batches) < len(waiting) / 100
