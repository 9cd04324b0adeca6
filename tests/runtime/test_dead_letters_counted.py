"""Whoever puts a record aside counts it, once it is durable; the count begins at 0, so that alerts see the first."""

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
from stepstream.runtime.worker.outbox import Outbox
from stepstream.runtime.worker.positions import Positions
from stepstream.testing import VirtualEngine
from tests.fakes.worker_log import FakeWorkerLog
from tests.runtime.exposition import Scrape, observe

RUNS_TOPIC, STEPS_TOPIC = commands_topic("shop"), commands_topic("shop", "gpu")
STARTED = encode(RunStarted("run", "function", 1, (EventRecord("go"),), 1))
LENT = encode(StepDispatched("run", "function", "1", "work", (EventRecord("go"),), 1))
COMMAND = LogRecord(RUNS_TOPIC, 0, 7, b"k", b"\xff", (), 0)


def letters_of(metrics: Metrics) -> dict[tuple[str, str], float]:
    """Return what is counted, by topic and reason."""
    found = Scrape(metrics.text().decode()).values("stepstream_dead_letters_total")
    return {(labels["topic"], labels["reason"]): value for labels, value in found}


@pytest.mark.parametrize(
    ("topic", "value", "reason"),
    [
        (RUNS_TOPIC, b"\xff", "invalid"),
        (RUNS_TOPIC, LENT, "not-applicable"),
        (STEPS_TOPIC, b"\xff", "invalid"),
        (STEPS_TOPIC, STARTED, "not-applicable"),
        (EVENTS, b"\xff", "invalid"),
    ],
)
async def test_a_record_put_aside_counts_once(topic: str, value: bytes, reason: str) -> None:
    """By the worker of runs, by that of a queue, by a shard: under topic and reason, beside zeros for all others."""
    app, metrics = App("shop", queues=["gpu"]), Metrics("engine", "worker")

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        return "fine"

    engine = VirtualEngine(app)
    observe(engine, metrics)
    async with engine:
        before = letters_of(metrics)
        assert {EVENTS, RUNS_TOPIC, STEPS_TOPIC} < {topic for topic, _ in before}
        assert not any(before.values())
        engine.journal.write(JournalWrite([NewRecord(topic, 0, b"key", value)]), engine.now_ms)
        await engine.send(Event("go"))
        assert engine.run().output == "fine"
        assert letters_of(metrics) == before | {(topic, reason): 1}


@pytest.mark.parametrize("part", ["engine", "worker"])
def test_every_process_shows_its_letters(part: Component) -> None:
    """Also a worker, which has none of the engine's metrics."""
    metrics = Metrics(part)
    metrics.reads("orders")
    assert letters_of(metrics) == dict.fromkeys([("orders", kind) for kind in DEAD_LETTER_KINDS], 0)
    metrics.dead_letter("orders", "invalid")
    assert letters_of(metrics)["orders", "invalid"] == 1


async def test_a_letter_that_could_not_be_written_is_not_counted() -> None:
    """Its command is read again, and counted when its letter is there."""
    log, metrics, changed, positions = FakeWorkerLog(), Metrics("worker"), Notification(), Positions()
    outbox = Outbox(log, changed, CommandDeadLetters(log, RUNS_TOPIC, metrics))
    log.calls.fail("dead_letter", LogError("no broker answers"))
    for counted in (0, 1):
        positions.begin(COMMAND.topic, COMMAND.partition, COMMAND.offset)
        outbox.dead_letter(COMMAND, "why", "invalid", positions)
        assert await changed.until(lambda: not outbox, 5)
        assert letters_of(metrics)[RUNS_TOPIC, "invalid"] == counted
        log.calls.allow("dead_letter")


def test_no_other_way_leads_to_a_letter() -> None:
    """Who makes a letter counts it: these modules do, and the tests here and of the sources show it."""
    root = Path(__file__).parents[2] / "stream" / "stepstream"
    makers = {path.name for path in root.rglob("*.py") if "dead_letter_record(" in path.read_text("utf-8")}
    assert makers == {"batch.py", "dead_letters.py", "service.py"}
