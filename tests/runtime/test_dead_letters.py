"""A record that cannot be read is kept with its bytes and the reason, and the shard goes on."""

import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.topics import DEAD_LETTERS, EVENTS, FUNCTIONS, INBOX
from stepstream.runtime.journal import JournalWrite
from stepstream.runtime.ports import NewRecord
from stepstream.testing import VirtualEngine

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
    (FUNCTIONS, b'{"id":5}', "id"),
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
        kept = dict(letter.headers)
        assert kept["trace"] == b"1"
        assert reason in kept["stepstream-reason"].decode()
        assert kept["stepstream-from"].decode().startswith(f"{topic}-0-")
