"""A shard writes no record larger than its topic accepts, so no input can stop it."""

from typing import Any

import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.codec import Raw, encode
from stepstream.contract.errors import InvalidInput, TooLarge
from stepstream.contract.ids import Bucket, StepRef
from stepstream.contract.inbox import InboxRecord, RunRequested, SignalSent
from stepstream.contract.limits import MIB, SIGNAL_NAME_CHARACTERS_MAX
from stepstream.contract.matching import Predicate, WaitOpened
from stepstream.contract.topics import CHANGELOG, DEAD_LETTERS, HISTORY, INBOX, TOPICS, payload_bytes_max
from stepstream.engine.state.tables import EVENT_NAMES, SIGNALS
from stepstream.engine.transition import transition
from stepstream.runtime.ports import LogError, NewRecord
from stepstream.runtime.shard import loop as shard
from stepstream.runtime.storage.journal import JournalWrite
from stepstream.testing import VirtualEngine
from tests.fakes.shard_log import FakeLogs, Transaction


def check_sizes(transaction: Transaction) -> None:
    """Refuse a record that is larger than its topic accepts, as a broker does."""
    sizes = [(record.topic, len(record.key) + len(record.value)) for record in transaction.records]
    sizes += [(CHANGELOG, len(key) + len(value or b"")) for key, value in transaction.rows]
    for topic, size in sizes:
        if size > payload_bytes_max(topic):
            raise LogError(f"{topic} accepts no record of {size:,} bytes")


def strict() -> FakeLogs:
    """Return the wrap of an engine whose logs refuse large records."""
    return FakeLogs(check=check_sizes)


def waiting_app() -> App:
    """Return an app with a function that waits for a signal, and one that does not."""
    app = App("shop")

    @app.function(on("go"))
    async def function(ctx: Context) -> int:
        return len(await ctx.step.wait_for_signal("answer", signal="answer", timeout="1h"))

    @app.function(on("other"))
    async def other(ctx: Context) -> str:
        return "fine"

    return app


async def test_signal_is_no_larger_than_a_result() -> None:
    """Its data become the result of a step; a larger one is refused when it is sent, and the run keeps waiting."""
    app = waiting_app()
    async with VirtualEngine(app, wrap=strict()) as engine:
        await engine.send(Event("go"))
        with pytest.raises(TooLarge, match=r"data: the signal's data has 4,194,307 bytes; at most 4,194,304"):
            await app.signal("answer", "x" * (4 * MIB + 1))
        assert await app.signal("answer", "x" * (4 * MIB - 2))
        await engine.until_idle()
        assert engine.run().output == 4 * MIB - 2


@pytest.mark.parametrize("name", ["", "x" * (SIGNAL_NAME_CHARACTERS_MAX + 1)], ids=["empty", "long"])
async def test_signal_name_must_be_valid(name: str) -> None:
    """A run could not wait for an empty or longer one."""
    app = waiting_app()
    async with VirtualEngine(app) as engine:
        assert not await engine.signal("unmatched")
        with pytest.raises(InvalidInput, match="1 to 1024 characters"):
            await app.signal(name)


LARGE = "x" * 14 * MIB
RECORDS = [
    (SignalSent("answer", Raw(f'"{LARGE}"'.encode())), HISTORY),
    (WaitOpened(StepRef("01", "s"), Bucket("come"), Predicate(residual=LARGE), 2**48), CHANGELOG),
]


@pytest.mark.parametrize(("record", "topic"), RECORDS, ids=["output", "row"])
async def test_input_with_too_large_a_result_becomes_a_dead_letter(record: InboxRecord, topic: str) -> None:
    """It changes nothing: the run still waits for the signal, and other inputs are processed."""
    async with VirtualEngine(waiting_app(), wrap=strict()) as engine:
        await engine.send(Event("go"))
        large = encode(record)
        engine.journal.write(JournalWrite([NewRecord(INBOX, 0, b"key", large)]), engine.now_ms)
        await engine.send(Event("other"))
        assert engine.run("other").output == "fine"
        (found,) = engine.journal.read(DEAD_LETTERS, 0, 0, 10)
        assert found.value == large
        assert f"and {topic} accepts 12,581,888" in (dict(found.headers)["stepstream-reason"] or b"").decode()
        tables = engine.embedded.store_of(0)
        assert (len(tables.scan(SIGNALS.prefix, 0)), tables.scan(EVENT_NAMES.prefix, 0)) == (1, [])
        assert await engine.signal("answer", "late")
        assert engine.run("function").output == 4


async def test_input_is_applied_completely_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event starts two functions, and the start of the second fails: the first does not start either.

    Otherwise a redrive of the dead letter would start it twice.
    """
    app = waiting_app()

    @app.function(on("other"))
    async def second(ctx: Context) -> None:
        pass

    def failing(view: Any, record: Any, now: int, **place: Any) -> Any:
        if isinstance(record, RunRequested) and record.function == "second":
            raise ValueError("a bug")
        return transition(view, record, now, **place)

    async with VirtualEngine(app, wrap=strict()) as engine:
        monkeypatch.setattr(shard, "transition", failing)
        await engine.send(Event("other"))
        assert engine.runs() == []
        (found,) = engine.journal.read(DEAD_LETTERS, 0, 0, 10)
        assert dict(found.headers)["stepstream-reason"] == b"ValueError: a bug"
        monkeypatch.undo()
        await engine.send(Event("other"))
        assert {run.function for run in engine.runs()} == {"other", "second"}


def test_each_topic_has_a_bound() -> None:
    """The topics of commands of all apps share one."""
    for topic in TOPICS:
        assert 0 < topic.message_bytes_max - payload_bytes_max(topic.name.replace("<app>", "a.queue")) <= 1_024
