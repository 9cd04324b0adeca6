"""Each dead letter is counted once it is durable; counters start at 0, so that alerts see the first increase."""

from pathlib import Path

import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.codec import encode
from stepstream.contract.commands import RunStarted, StepDispatched
from stepstream.contract.events import EventRecord
from stepstream.contract.topics import EVENTS, commands_topic
from stepstream.runtime.dead_letters import DEAD_LETTER_KINDS, CommandDeadLetters
from stepstream.runtime.metrics import Component, Metrics
from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import LogError, LogRecord, NewRecord
from stepstream.runtime.storage.journal import JournalWrite
from stepstream.runtime.worker.commands.outbox import Outbox
from stepstream.runtime.worker.commands.positions import Positions
from stepstream.runtime.worker.memory import MemoryBudget
from stepstream.testing import VirtualEngine
from tests.fakes.worker_log import FakeWorkerLog
from tests.runtime.exposition import Scrape, observe

RUNS_TOPIC, STEPS_TOPIC = commands_topic("shop"), commands_topic("shop", "gpu")
STARTED = encode(RunStarted("run", "function", 1, (EventRecord("go"),), 1))
DISPATCHED = encode(StepDispatched("run", "function", "1", "work", (EventRecord("go"),), 1))
COMMAND = LogRecord(RUNS_TOPIC, 0, 7, b"k", b"\xff", (), 0)


def counts_of(metrics: Metrics) -> dict[tuple[str, str], float]:
    """Return the counts of dead letters by topic and reason."""
    found = Scrape(metrics.text().decode()).values("stepstream_dead_letters_total")
    return {(labels["topic"], labels["reason"]): value for labels, value in found}


@pytest.mark.parametrize(
    ("topic", "value", "reason"),
    [
        (RUNS_TOPIC, b"\xff", "invalid"),
        (RUNS_TOPIC, DISPATCHED, "not-applicable"),
        (STEPS_TOPIC, b"\xff", "invalid"),
        (STEPS_TOPIC, STARTED, "not-applicable"),
        (EVENTS, b"\xff", "invalid"),
    ],
)
async def test_dead_letter_counts_once(topic: str, value: bytes, reason: str) -> None:
    """Of a worker, a worker of a queue or a shard, by topic and reason; all other counts stay 0."""
    app, metrics = App("shop", queues=["gpu"]), Metrics("engine", "worker")

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        return "fine"

    engine = VirtualEngine(app)
    observe(engine, metrics)
    async with engine:
        before = counts_of(metrics)
        assert {EVENTS, RUNS_TOPIC, STEPS_TOPIC} < {topic for topic, _ in before}
        assert not any(before.values())
        engine.journal.write(JournalWrite([NewRecord(topic, 0, b"key", value)]), engine.now_ms)
        await engine.send(Event("go"))
        assert engine.run().output == "fine"
        assert counts_of(metrics) == before | {(topic, reason): 1}


@pytest.mark.parametrize("component", ["engine", "worker"])
def test_every_process_exports_its_dead_letters(component: Component) -> None:
    """Also a worker, which has none of the engine's metrics."""
    metrics = Metrics(component)
    metrics.reads("orders")
    assert counts_of(metrics) == dict.fromkeys([("orders", kind) for kind in DEAD_LETTER_KINDS], 0)
    metrics.dead_letter("orders", "invalid")
    assert counts_of(metrics)["orders", "invalid"] == 1


async def test_dead_letter_that_was_not_written_is_not_counted() -> None:
    """Its command is read again, and counted once the dead letter is durable."""
    log, metrics, changed, positions = FakeWorkerLog(), Metrics("worker"), Notification(), Positions()
    outbox = Outbox(log, changed, CommandDeadLetters(log, RUNS_TOPIC, metrics), MemoryBudget())
    log.calls.fail("dead_letter", LogError("no broker answers"))
    for counted in (0, 1):
        positions.begin(COMMAND.topic, COMMAND.partition, COMMAND.offset)
        outbox.dead_letter(COMMAND, "why", "invalid", positions)
        assert await changed.until(lambda: not outbox, 5)
        assert counts_of(metrics)[RUNS_TOPIC, "invalid"] == counted
        log.calls.allow("dead_letter")


def test_only_modules_that_count_create_dead_letters() -> None:
    """The tests here, and those of the sources, show that these count."""
    root = Path(__file__).parents[2] / "stream" / "stepstream"
    makers = {path.name for path in root.rglob("*.py") if "dead_letter_record(" in path.read_text("utf-8")}
    assert makers == {"agent.py", "batch.py", "dead_letters.py"}
