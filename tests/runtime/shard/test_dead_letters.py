"""A record that cannot be decoded becomes a dead letter with its bytes and the reason, and the shard continues."""

import logging

import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.limits import DEAD_LETTER_BYTES_MAX, ERROR_MESSAGE_CHARACTERS_MAX
from stepstream.contract.topics import DEAD_LETTERS, EVENTS, FUNCTIONS, INBOX, TOPICS, commands_topic
from stepstream.host.deadletters.dead_letter import dead_letter_of
from stepstream.runtime.dead_letters import dead_letter_record
from stepstream.runtime.ports import LogRecord, NewRecord
from stepstream.runtime.storage.journal import JournalWrite
from stepstream.testing import VirtualEngine

COMMANDS = commands_topic("shop")
POISON = [
    (EVENTS, b"", "truncated"),
    (EVENTS, b"\xff\xfe", "malformed"),
    (EVENTS, b"[]", "Expected `object`"),
    (EVENTS, b'{"data":{}}', "name"),
    (EVENTS, b'{"name":"go","data":[1]}', "data"),
    (EVENTS, b'{"name":"go","ts":-5}', "ts"),
    (EVENTS, b'{"name":"stream/function.finished"}', "engine's own"),
    (EVENTS, b'{"name":"go","data":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"}", ""),
    (EVENTS, b'{"name":"go","data":{"text":"' + b"x" * 3_200_000 + b'"}}', "3,145,728"),
    (INBOX, b'{"type":"none.such"}', "none.such"),
    (INBOX, b'{"type":"run.claimed"}', "run_id"),
    (INBOX, b'{"type":"run.returned","output":' + b"[" * 20_000 + b"]" * 20_000 + b"}", "recursion"),
    (INBOX, b'{"type":"' + b"x" * 100_000 + b'"}', "Invalid value 'xxx"),
    (INBOX, b'{"type":"run.claimed","run_id":"x","claim":"c","app":"my shop"}', "letters a to z"),
    (
        INBOX,
        b'{"type":"step.claimed","run_id":"x","step":"s","queue":"' + b"q" * 240 + b'","claim":"c","app":"shop"}',
        "179",
    ),
    (FUNCTIONS, b'{"id":5}', "id"),
    (FUNCTIONS, b'{"id":"f","app":"shop","lookback_ms":18446744073709551616}', "lookback_ms"),
    (FUNCTIONS, b'{"id":"f","app":"' + b"a" * 240 + b'"}', "179"),
    (FUNCTIONS, b'{"retry":' + b"[" * 20_000 + b"]" * 20_000 + b"}", "recursion"),
    (COMMANDS, b"\xff", "malformed"),
    (COMMANDS, b'{"type":"run.started","run_id":"x"}', "function"),
    (COMMANDS, b'{"retry":' + b"[" * 20_000 + b"]" * 20_000 + b',"type":"run.stopped"}', "recursion"),
]


@pytest.mark.parametrize(("topic", "value", "reason"), POISON, ids=range(len(POISON)))
async def test_poison_becomes_a_dead_letter(topic: str, value: bytes, reason: str) -> None:
    """The dead letter has the key, value, headers, reason and origin of the record; later records are processed."""
    app = App("shop")

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        return "fine"

    async with VirtualEngine(app) as engine:
        headers = (("trace", b"1"),)
        engine.journal.write(JournalWrite([NewRecord(topic, 0, b"key", value, headers)]), engine.now_ms)
        await engine.send(Event("go"))
        assert engine.run().output == "fine"
        (record,) = engine.journal.read(DEAD_LETTERS, 0, 0, 10)
        assert (record.key, record.value) == (b"key", value)
        kept = {name: value or b"" for name, value in record.headers}
        assert kept["trace"] == b"1"
        assert reason in kept["stepstream-reason"].decode()
        assert len(kept["stepstream-reason"]) <= ERROR_MESSAGE_CHARACTERS_MAX
        assert kept["stepstream-from"].decode().startswith(f"{topic}-0-")


async def test_shard_logs_its_dead_letters(caplog: pytest.LogCaptureFixture) -> None:
    """One line per batch has the first origins and reasons, cut, and how many more there are."""
    values = [b"{", b'{"data":{}}', b'{"name":"' + b"x" * 5_000 + b'","what":1}', b"[]", b"5"]
    async with VirtualEngine(App("shop")) as engine:
        first = engine.journal.end(EVENTS, 0)
        engine.journal.write(JournalWrite([NewRecord(EVENTS, 0, b"", value) for value in values]), engine.now_ms)
        await engine.until_idle()
    (line,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (line.name, line.__dict__["shard"]) == ("stepstream.runtime.shard.loop", 0)
    text = line.getMessage()
    assert text.startswith(f"shard 0 moved 5 records to dead-letters: events-0-{first}: ")
    assert f"; events-0-{first + 2}: " in text
    assert f"events-0-{first + 3}" not in text
    assert text.endswith("; and 2 more")
    assert len(text) < 1_100


async def test_undecodable_function_keeps_no_app_from_starting() -> None:
    """An app skips it when it registers its own functions."""
    app = App("shop")

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        return "fine"

    engine = VirtualEngine(app)
    engine.journal.write(JournalWrite([NewRecord(FUNCTIONS, 0, b"key", b"poison")]), 1)
    async with engine:
        await engine.send(Event("go"))
        assert engine.run().output == "fine"


def test_largest_record_fits_into_a_dead_letter() -> None:
    """With the reason and the origin, so that no poison is too large."""
    (own,) = [topic for topic in TOPICS if topic.name == DEAD_LETTERS]
    largest = max(topic.message_bytes_max for topic in TOPICS if topic is not own)
    assert largest <= DEAD_LETTER_BYTES_MAX
    record = LogRecord(EVENTS, 0, 7, b"k", b"v" * (DEAD_LETTER_BYTES_MAX - 10), (("h", b"1"),), 0)
    written = dead_letter_record(record, "x" * 10**6)
    assert written.value == record.value
    whole = (
        len(written.value) + len(written.key) + sum(len(name) + len(value or b"") for name, value in written.headers)
    )
    assert whole < own.message_bytes_max


def test_record_larger_than_any_topic_accepts_is_cut() -> None:
    """A record in a compressed batch may be; the dead letter has its original size."""
    record = LogRecord(EVENTS, 0, 7, b"k" * 5_000, b"v" * DEAD_LETTER_BYTES_MAX, (("h", b"1"),), 0)
    written = dead_letter_record(record, "too large")
    assert len(written.value) + len(written.key) <= DEAD_LETTER_BYTES_MAX
    kept = dict(written.headers)
    assert kept["stepstream-cut-from"] == str(5_000 + DEAD_LETTER_BYTES_MAX + 2).encode()
    assert kept["stepstream-from"] == b"events-0-7"


def test_size_of_a_dead_letter_counts_bytes() -> None:
    """The name of a header may have more bytes than characters."""
    name = "\u20ac" * (DEAD_LETTER_BYTES_MAX // 3 + 1)
    written = dead_letter_record(LogRecord(EVENTS, 0, 7, b"k", b"v", ((name, b""),), 0), "no JSON")
    assert dict(written.headers)["stepstream-cut-from"] == str(len(name.encode()) + 2).encode()
    assert written.value == b"v"


@pytest.mark.parametrize("origin", [b"", b"orders", b"orders-x-1", b"orders-1", b"\xff-1-"])
def test_dead_letter_of_another_producer_is_listed(origin: bytes) -> None:
    """An invalid origin is shown as unknown."""
    found = dead_letter_of(LogRecord("dead-letters", 0, 3, b"", b"", (("stepstream-from", origin),), 0))
    assert (found.topic, found.partition, found.offset) == ("?", -1, -1)


def test_record_cannot_forge_the_headers_of_its_dead_letter() -> None:
    """Headers with these names are removed from the record, and an invalid count is ignored."""
    forged = (
        ("stepstream-cut-from", b"x"),
        ("stepstream-foreign", b"sources"),
        ("stepstream-sources", b'["a"]'),
        ("stepstream-null", b"key,value"),
        ("stepstream-time", b"7"),
        ("stepstream-from", b"a-0-0"),
        ("trace", b"t"),
    )
    record = LogRecord(EVENTS, 1, 7, b"k", b"v", (*forged, ("stepstream-redriven", b"often")), 0)
    written = dead_letter_record(record, "why")
    found = dead_letter_of(LogRecord("dead-letters", 0, 3, written.key, written.value, written.headers, 0))
    assert (found.topic, found.partition, found.offset, found.reason) == (EVENTS, 1, 7, "why")
    assert (found.group, found.sources, found.nulls, found.timestamp) == ("", (), (), 0)
    assert (found.cut_from, found.redriven, found.headers) == (0, 0, (("trace", b"t"),))
