"""The latest dead letters of a cluster, as the page and the API read and redrive them."""

import pytest

from stepstream.contract.errors import Conflict
from stepstream.contract.topics import DEAD_LETTERS, EVENTS
from stepstream.host.deadletters import latest
from stepstream.host.deadletters.latest import ClusterDeadLetterLog, LatestDeadLetters
from stepstream.runtime.callers import UnavailableError
from stepstream.runtime.dead_letters import FailedSources, dead_letter_record
from stepstream.runtime.ports import Fenced, LogError, LogRecord
from tests.fakes.dead_letters import DeadLetterTopics

POISON = LogRecord(EVENTS, 1, 7, b"k", b"poison", (("trace", b"t"),), 5)
ORDER = LogRecord("orders", 2, 9, b"", b'{"n":1}', (), 1_000, ("key",))


def poisoned(count: int) -> tuple[DeadLetterTopics, LatestDeadLetters]:
    """Return topics with some dead letters, the first of them at offset 10."""
    records = (dead_letter_record(POISON._replace(offset=offset), "why") for offset in range(count))
    topics = DeadLetterTopics(*records, first=10)
    return topics, LatestDeadLetters(ClusterDeadLetterLog(topics.cluster, []))


async def test_only_the_end_of_the_topic_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many dead letters there are; what is redriven is marked with the user, and sent once."""
    monkeypatch.setattr(latest, "EXAMINED_MAX", 3)
    topics, log = poisoned(20)
    assert [view.place for view in await log.latest(50)] == ["0-29", "0-28", "0-27"]
    assert [view.place for view in await log.latest(1)] == ["0-29"]
    assert await log.show("0-20") is None
    await log.redrive("0-28", "ann")
    assert [(record.topic, record.value) for record in topics.sent[:1]] == [(EVENTS, b"poison")]
    assert [(view.place, view.is_sent, view.by) for view in await log.latest(50)] == [
        ("0-29", False, ""),
        ("0-28", True, "ann"),
    ]
    with pytest.raises(Conflict, match="was redriven before"):
        await log.redrive("0-28", "bob")
    with pytest.raises(Conflict, match="not among the latest"):
        await log.redrive("0-20", "bob")
    assert len(topics.sent) == 2


async def test_engines_that_redrive_at_the_same_time_send_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that finds the mark of a faster one once it may write sends nothing, nor does one that is fenced."""
    topics, log = poisoned(2)
    producer = topics.producer

    async def slow(transactional_id: str) -> DeadLetterTopics:
        monkeypatch.undo()
        await LatestDeadLetters(ClusterDeadLetterLog(topics.cluster, [])).redrive("0-10", "bob")
        return await producer(transactional_id)

    monkeypatch.setattr(topics, "producer", slow)
    with pytest.raises(Conflict, match="0-10 was redriven before"):
        await log.redrive("0-10", "ann")

    async def fenced() -> None:
        raise Fenced("committing: fenced by a newer owner")

    monkeypatch.setattr(topics, "commit", fenced)
    with pytest.raises(Conflict, match="0-11 was not sent: another request sends one"):
        await log.redrive("0-11", "ann")
    assert [record.topic for record in topics.sent] == [EVENTS, DEAD_LETTERS]


async def test_content_is_read_for_one_only() -> None:
    """A list has no bytes; one dead letter has its key, value and headers."""
    _, log = poisoned(1)
    (listed,) = await log.latest(50)
    assert (listed.key, listed.value, listed.headers, listed.size) == (None, None, (), 6)
    shown = await log.show("0-10")
    assert shown is not None
    assert (shown.key, shown.value, shown.headers) == (b"k", b"poison", (("trace", b"t"),))


async def test_a_record_of_a_source_is_left_to_the_command() -> None:
    """This engine does not have the mapping of a worker's source; the answer names the option."""
    failed = FailedSources("sources-shop", ["orders"])
    log = LatestDeadLetters(ClusterDeadLetterLog(DeadLetterTopics(dead_letter_record(ORDER, "no", failed)).cluster, []))
    with pytest.raises(Conflict, match="--code FILE"):
        await log.redrive("0-0", "ann")


async def test_a_cluster_that_does_not_answer_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer in time, and not an internal error."""
    topics, log = poisoned(1)

    async def fail(_names: object) -> None:
        raise LogError("no broker answers")

    monkeypatch.setattr(topics, "topics", fail)
    with pytest.raises(UnavailableError, match="no broker answers"):
        await log.latest(50)
