"""A record that cannot be read is kept with its bytes and the reason, and the shard goes on."""

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
    (EVENTS, b'{"name":"go","data":{"text":"' + b"x" * 600_000 + b'"}}', "524,288"),
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
async def test_poison_is_put_aside(topic: str, value: bytes, reason: str) -> None:
    """Its original bytes, key and headers are kept with the reason and where it came from; later records are taken."""
    app = App("shop")

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        return "fine"

    async with VirtualEngine(app) as engine:
        headers = (("trace", b"1"),)
        engine.journal.write(JournalWrite([NewRecord(topic, 0, b"key", value, headers)]), engine.now_ms)
        await engine.send(Event("go"))
        assert engine.run().output == "fine"
        (letter,) = engine.journal.read(DEAD_LETTERS, 0, 0, 10)
        assert (letter.key, letter.value) == (b"key", value)
        kept = {name: value or b"" for name, value in letter.headers}
        assert kept["trace"] == b"1"
        assert reason in kept["stepstream-reason"].decode()
        assert len(kept["stepstream-reason"]) <= ERROR_MESSAGE_CHARACTERS_MAX
        assert kept["stepstream-from"].decode().startswith(f"{topic}-0-")


async def test_a_shard_says_what_it_put_aside(caplog: pytest.LogCaptureFixture) -> None:
    """One line a batch has the first places and reasons, cut, and how many more there are."""
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


async def test_a_function_that_cannot_be_read_keeps_no_app_from_starting() -> None:
    """What others left in `functions` is passed over when an app announces its own."""
    app = App("shop")

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        return "fine"

    engine = VirtualEngine(app)
    engine.journal.write(JournalWrite([NewRecord(FUNCTIONS, 0, b"key", b"poison")]), 1)
    async with engine:
        await engine.send(Event("go"))
        assert engine.run().output == "fine"


def test_every_record_has_room_among_the_letters() -> None:
    """The largest record that any topic takes fits with why it is here, so that no poison is too large to put aside."""
    (letters,) = [topic for topic in TOPICS if topic.name == DEAD_LETTERS]
    largest = max(topic.message_bytes_max for topic in TOPICS if topic is not letters)
    assert largest <= DEAD_LETTER_BYTES_MAX
    record = LogRecord(EVENTS, 0, 7, b"k", b"v" * (DEAD_LETTER_BYTES_MAX - 10), (("h", b"1"),), 0)
    letter = dead_letter_record(record, "x" * 10**6)
    assert letter.value == record.value
    whole = len(letter.value) + len(letter.key) + sum(len(name) + len(value or b"") for name, value in letter.headers)
    assert whole < letters.message_bytes_max


def test_what_is_larger_than_any_record_is_cut() -> None:
    """A record that came compressed may be larger than what can be written; its letter says how large it was."""
    record = LogRecord(EVENTS, 0, 7, b"k" * 5_000, b"v" * DEAD_LETTER_BYTES_MAX, (("h", b"1"),), 0)
    letter = dead_letter_record(record, "too large")
    assert len(letter.value) + len(letter.key) <= DEAD_LETTER_BYTES_MAX
    kept = dict(letter.headers)
    assert kept["stepstream-cut-from"] == str(5_000 + DEAD_LETTER_BYTES_MAX + 2).encode()
    assert kept["stepstream-from"] == b"events-0-7"


def test_a_letter_is_measured_in_bytes() -> None:
    """A name of a header may come compressed, and have more bytes than characters: such a record is cut, too."""
    name = "\u20ac" * (DEAD_LETTER_BYTES_MAX // 3 + 1)
    letter = dead_letter_record(LogRecord(EVENTS, 0, 7, b"k", b"v", ((name, b""),), 0), "no JSON")
    assert dict(letter.headers)["stepstream-cut-from"] == str(len(name.encode()) + 2).encode()
    assert letter.value == b"v"


@pytest.mark.parametrize("origin", [b"", b"orders", b"orders-x-1", b"orders-1", b"\xff-1-"])
def test_a_letter_of_somebody_else_is_listed(origin: bytes) -> None:
    """Whoever writes to the topic: a place that cannot be read is none, and breaks no list."""
    told = dead_letter_of(LogRecord("dead-letters", 0, 3, b"", b"", (("stepstream-from", origin),), 0))
    assert (told.topic, told.partition, told.offset) == ("?", -1, -1)


def test_a_record_cannot_say_what_is_told_of_its_letter() -> None:
    """Headers of our own names that a record came with are left out, and one that counts nothing harms nobody."""
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
    letter = dead_letter_record(record, "why")
    told = dead_letter_of(LogRecord("dead-letters", 0, 3, letter.key, letter.value, letter.headers, 0))
    assert (told.topic, told.partition, told.offset, told.reason) == (EVENTS, 1, 7, "why")
    assert (told.group, told.sources, told.nulls, told.timestamp) == ("", (), (), 0)
    assert (told.cut_from, told.redriven, told.headers) == (0, 0, (("trace", b"t"),))
