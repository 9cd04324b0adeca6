"""Listing dead letters and redriving them, on topics in memory."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from stepstream.contract.topics import DEAD_LETTERS, EVENTS, commands_topic
from stepstream.host.deadletters.dead_letter import DeadLetterError
from stepstream.host.deadletters.redrive import RedrivePlanner, plan_many, plan_some, redrive
from stepstream.host.deadletters.topic import dead_letter_at, survey
from stepstream.runtime.dead_letters import FailedSources, dead_letter_record
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.ports import LogError, LogRecord
from stepstream.sdk.source import Source
from tests.fakes.dead_letters import DeadLetterTopics

GROUP = "sources-shop"
POISON = LogRecord(EVENTS, 1, 7, b"k", b"poison", (("trace", b"t"),), 5)
ORDER = LogRecord("orders", 2, 9, b"", b'{"n":1}', (), 1_000, ("key",))


async def redrive_some(topics: DeadLetterTopics, *places: str, sources: Sequence[Source] = ()) -> list[str]:
    """Redrive some places; return those that were sent."""
    sent: list[str] = []
    planner = RedrivePlanner(topics.counts, {GROUP: sources} if sources else {})
    await redrive(topics.cluster, plan_some(topics.cluster, places, planner), lambda each: sent.append(each.place))
    return sent


async def redrive_all(topics: DeadLetterTopics, *, sources: Sequence[Source] = ()) -> tuple[list[str], list[str]]:
    """Redrive all that were not redriven; return the places that were sent, and why others were not."""
    sent: list[str] = []
    refused: list[str] = []
    waiting = (await survey(topics.cluster)).waiting
    planner = RedrivePlanner(topics.counts, {GROUP: sources} if sources else {})
    planned = plan_many(topics.cluster, waiting, planner, lambda error: refused.append(str(error)))
    await redrive(topics.cluster, planned, lambda each: sent.append(each.place))
    return sent, refused


def poisoned(count: int) -> DeadLetterTopics:
    """Return topics with some dead letters, the first of them at offset 10."""
    records = (dead_letter_record(POISON._replace(offset=offset), "why") for offset in range(count))
    return DeadLetterTopics(*records, first=10)


async def test_two_operators_redrive_each_dead_letter_once() -> None:
    """Both have listed all; what the first one redrives meanwhile, the second one skips."""
    topics = poisoned(4)
    listed = (await survey(topics.cluster)).waiting
    await redrive_some(topics, "0-11")
    assert (await redrive_all(topics))[0] == ["0-10", "0-12", "0-13"]
    late = plan_many(topics.cluster, listed, RedrivePlanner(topics.counts), print)
    assert [each.dead_letter.place async for each in late] == []


async def test_the_list_marks_what_was_redriven() -> None:
    """It has the latest ones, the oldest first; what was redriven is marked, and --all skips it."""
    topics = poisoned(4)
    assert await redrive_some(topics, "0-11") == ["0-11"]
    found = await survey(topics.cluster, limit=3)
    assert [(each["place"], each["offset"], each["sent"]) for each in found.latest] == [
        ("0-11", 1, True),
        ("0-12", 2, False),
        ("0-13", 3, False),
    ]
    assert (found.total, list(found.waiting)) == (4, ["0-10", "0-12", "0-13"])
    assert (await survey(topics.cluster, "orders")).total == 0
    assert await redrive_all(topics) == (["0-10", "0-12", "0-13"], [])
    assert (await survey(topics.cluster)).waiting == {}
    assert topics.closed == 8


async def test_places_without_a_dead_letter_are_refused() -> None:
    """Past the end, before the beginning, in an unknown partition, a mark, and text that is not a place."""
    topics = poisoned(1)
    await redrive_some(topics, "0-10")
    assert (await dead_letter_at(topics.cluster, "0-10")).record.value == b"poison"
    for place in ("0-12", "0-9", "1-0", "0-11", "", "a-b", "0-1-2", "0-" + "9" * 19):
        with pytest.raises(DeadLetterError, match="there is no dead letter"):
            await dead_letter_at(topics.cluster, place)


async def test_a_cluster_without_the_topic_is_reported() -> None:
    """Under a wrong namespace the list is not empty, it does not exist."""
    topics = DeadLetterTopics(topics={})
    topics.settings = KafkaSettings(namespace="nope")
    with pytest.raises(DeadLetterError, match=r"there is no topic 'nope\.dead-letters'; check --kafka and --namespace"):
        await survey(topics.cluster)


async def test_a_redrive_that_failed_can_be_repeated() -> None:
    """A record and its mark are written in one transaction, so the same command sends nothing twice."""
    topics = DeadLetterTopics(dead_letter_record(POISON, "why"))
    topics.broken = True
    with pytest.raises(LogError):
        await redrive_all(topics)
    assert (topics.sent, len(topics.records)) == ([], 1)
    topics.broken = False
    assert await redrive_all(topics) == (["0-0"], [])
    assert await redrive_all(topics) == ([], [])
    assert [record.topic for record in topics.sent] == [EVENTS, DEAD_LETTERS]


async def test_a_place_that_is_given_twice_is_sent_once() -> None:
    """The record and its mark are written once."""
    topics = DeadLetterTopics(dead_letter_record(POISON, "why"))
    assert await redrive_some(topics, "0-0", "0-0") == ["0-0"]
    assert [record.topic for record in topics.sent] == [EVENTS, DEAD_LETTERS]
    assert topics.sent[0] == (await dead_letter_at(topics.cluster, "0-0")).redriven_record()


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (POISON._replace(partition=2), "partition 2 of topic 'events' no longer exists"),
        (POISON._replace(topic=commands_topic("gone")), "partition 1 of topic 'commands.gone' no longer exists"),
        (POISON._replace(key=b"", value=b"", nulls=("key", "value")), "its record has neither key nor value"),
        (POISON._replace(topic="orders"), "its topic 'orders' is not one of stepstream's"),
        (POISON._replace(value=b"x" * 49 * 2**20), "only a part of its 51,380,231 bytes was stored"),
        (POISON._replace(topic=""), "does not say where its record came from"),
    ],
    ids=range(6),
)
async def test_what_cannot_be_redriven_is_refused(record: LogRecord, reason: str) -> None:
    """A dead letter whose topic or partition is gone, or that is not complete, does not block others."""
    topics = DeadLetterTopics(dead_letter_record(POISON, "why"), dead_letter_record(record, "why"))
    with pytest.raises(DeadLetterError, match=reason):
        await redrive_some(topics, "0-0", "0-1")
    assert topics.sent == []
    sent, refused = await redrive_all(topics)
    assert sent == ["0-0"]
    assert [reason in each for each in refused] == [True]


async def test_a_fixed_source_maps_its_record_alone() -> None:
    """The event has the identity and time of the original position; the foreign topic and other sources get nothing."""
    topics = DeadLetterTopics(dead_letter_record(ORDER, "why", FailedSources(GROUP, ["shop/broken"])))
    sources = [Source("orders", "shop/fine"), Source("orders", "shop/broken"), Source("payments", "shop/broken")]
    assert await redrive_some(topics, "0-0", sources=sources) == ["0-0"]
    event, mark = topics.sent
    assert (event.topic, event.partition, event.key) == (EVENTS, -1, b"orders-2-9")
    assert json.loads(event.value) == {"name": "shop/broken", "data": {"n": 1}, "id": "orders-2-9", "ts": 1_000}
    assert mark.topic == DEAD_LETTERS
    assert (await survey(topics.cluster)).waiting == {}


async def test_a_source_that_skips_the_record_settles_it() -> None:
    """Only the mark is written."""
    topics = DeadLetterTopics(dead_letter_record(ORDER, "why", FailedSources(GROUP, ["shop/broken"])))
    assert await redrive_all(topics, sources=[Source("orders", "shop/broken", if_="value.n > 1")]) == (["0-0"], [])
    assert [record.topic for record in topics.sent] == [DEAD_LETTERS]


def fail(_: Any) -> Any:
    """Fail as a mapping may."""
    raise KeyError("n")


@pytest.mark.parametrize(
    ("sources", "reason"),
    [
        ([], "pass their app as --code FILE, or the engines' file as --sources FILE"),
        ([Source("payments", "shop/broken")], "topic 'orders' no longer has a source 'shop/broken'"),
        ([Source("orders", "shop/fine")], "topic 'orders' no longer has a source 'shop/broken'"),
        ([Source("orders", "shop/broken", data=fail)], "source 'shop/broken' fails again: data: KeyError: 'n'"),
    ],
    ids=range(4),
)
async def test_a_source_that_still_fails_is_reported(sources: list[Source], reason: str) -> None:
    """Its dead letter stays in the list as it is, and no second one is written."""
    topics = DeadLetterTopics(dead_letter_record(ORDER, "why", FailedSources(GROUP, ["shop/broken"])))
    sent, refused = await redrive_all(topics, sources=sources)
    assert sent == []
    assert [reason in each for each in refused] == [True]
    assert (topics.sent, list((await survey(topics.cluster)).waiting)) == ([], ["0-0"])
