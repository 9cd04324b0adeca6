"""Looking through dead letters and sending them again, on topics in memory."""

import json
from collections.abc import Sequence
from typing import Any, cast

import pytest

from stepstream.contract.topics import DEAD_LETTERS, EVENTS, commands_topic
from stepstream.host.deadletters.redrive import Ways, dead_letters_among, dead_letters_at, redrive
from stepstream.host.deadletters.store import DeadLetter, DeadLetterError, dead_letter_at, dead_letter_of, survey
from stepstream.runtime.dead_letters import FailedSources, dead_letter_record
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.settings import KafkaSettings
from stepstream.runtime.ports import Headers, LogError, LogRecord, NewRecord
from stepstream.sdk.source import Source

GROUP = "sources-shop"
POISON = LogRecord(EVENTS, 1, 7, b"k", b"poison", (("trace", b"t"),), 5)
ORDER = LogRecord("orders", 2, 9, b"", b'{"n":1}', (), 1_000, ("key",))


class Topics:
    """A cluster whose topics are lists of records; its readers read one record at once."""

    def __init__(self, *letters: NewRecord, topics: dict[str, int] | None = None, first: int = 0) -> None:
        self.settings = KafkaSettings()
        self.counts = {EVENTS: 2, DEAD_LETTERS: 1} if topics is None else topics
        self.first = first
        self.letters: list[LogRecord] = []
        self.sent: list[NewRecord] = []
        self.closed = 0
        self.written: list[NewRecord] | None = None
        self.broken = False
        self._at: dict[tuple[str, int], int] = {}
        self.keep(letters)

    def keep(self, letters: Sequence[NewRecord]) -> None:
        """Append to the one partition of `dead-letters`."""
        for letter in letters:
            offset = self.first + len(self.letters)
            nulls = tuple(name for name in letter.nulls if not getattr(letter, name))
            self.letters.append(
                LogRecord(DEAD_LETTERS, 0, offset, letter.key, letter.value, letter.headers, offset, nulls)
            )

    async def topics(self) -> dict[str, int]:
        """Return the topics."""
        return self.counts

    async def reader(self) -> "Topics":
        """Return what reads."""
        return self

    async def producer(self, transactional_id: str) -> "Topics":
        """Return what writes, in transactions."""
        assert transactional_id
        return self

    def assign(self, places: Sequence[tuple[str, int]]) -> None:
        """Read these partitions, which must be there."""
        assert all(partition < self.counts[topic] for topic, partition in places)

    async def beginnings(self, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return the first offsets."""
        return dict.fromkeys(places, self.first)

    async def ends(self, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return the last offsets."""
        return dict.fromkeys(places, self.first + len(self.letters))

    def seek(self, positions: dict[tuple[str, int], int]) -> None:
        """Go to offsets that are there."""
        assert all(self.first <= offset <= self.first + len(self.letters) for offset in positions.values())
        self._at = dict(positions)

    async def position(self, at: tuple[str, int]) -> int:
        """Return the offset of the next record."""
        return self._at[at]

    async def read(self, _limit: int, _wait_ms: int) -> list[LogRecord]:
        """Return the next record."""
        ((at, offset),) = self._at.items()
        self._at[at] = offset + 1
        return [self.letters[offset - self.first]]

    async def begin(self) -> None:
        """Open a transaction."""
        assert self.written is None
        self.written = []

    async def send(self, records: Sequence[NewRecord]) -> None:
        """Write."""
        assert self.written is not None
        self.written += records

    async def commit(self) -> None:
        """Keep what is written, or fail."""
        if self.broken:
            raise LogError("committing: no broker answers")
        assert self.written is not None
        self.sent += self.written
        self.keep([record for record in self.written if record.topic == DEAD_LETTERS])
        self.written = None

    async def close(self) -> None:
        """Count, and abort what is open."""
        self.closed += 1
        self.written = None

    @property
    def cluster(self) -> Cluster:
        """This, as what asks for a cluster takes it."""
        return cast(Cluster, self)


def kept(record: LogRecord, *names: str) -> DeadLetter:
    """Return the letter of a record, that of a source with the names of those that failed."""
    letter = dead_letter_record(record, "why", FailedSources(GROUP, names) if names else None)
    return dead_letter_of(LogRecord(DEAD_LETTERS, 0, 3, letter.key, letter.value, letter.headers, 0))


async def send_again(topics: Topics, *places: str, sources: Sequence[Source] = ()) -> list[str]:
    """Redrive some places; return those that were sent."""
    told: list[str] = []
    ways = Ways(topics.counts, {GROUP: sources} if sources else {})
    await redrive(
        topics.cluster, dead_letters_at(topics.cluster, places, ways), lambda letter: told.append(letter.place)
    )
    return told


async def send_all(topics: Topics, *, sources: Sequence[Source] = ()) -> tuple[list[str], list[str]]:
    """Redrive all that were not sent; return the places that were, and why others were not."""
    told: list[str] = []
    refused: list[str] = []
    waiting = (await survey(topics.cluster)).waiting
    ways = Ways(topics.counts, {GROUP: sources} if sources else {})
    found = dead_letters_among(topics.cluster, waiting, ways, lambda error: refused.append(str(error)))
    await redrive(topics.cluster, found, lambda letter: told.append(letter.place))
    return told, refused


async def test_what_a_colleague_sent_meanwhile_is_not_sent_again() -> None:
    """Two operators looked, one after the other sends all: the second sends only what is left, be it nothing."""
    topics = Topics(*(dead_letter_record(POISON._replace(offset=offset), "why") for offset in range(4)), first=10)
    seen = (await survey(topics.cluster)).waiting
    await send_again(topics, "0-11")
    assert (await send_all(topics))[0] == ["0-10", "0-12", "0-13"]
    late = dead_letters_among(topics.cluster, seen, Ways(topics.counts), print)
    assert [letter.place async for letter, _ in late] == []


@pytest.mark.parametrize("nulls", [(), ("key",), ("value",), ("key", "value")])
@pytest.mark.parametrize("empty", [b"", b"x"])
def test_what_was_null_is_null_again(nulls: tuple[str, ...], empty: bytes) -> None:
    """A null key, a null value and a header without a value are neither empty ones nor left out."""
    headers: Headers = (("a", None), ("a", b""), ("b", b"1"))
    key, value = (b"" if name in nulls else empty for name in ("key", "value"))
    again = kept(LogRecord(EVENTS, 1, 7, key, value, headers, 5, nulls)).again()
    assert (again.topic, again.partition, again.key, again.value, again.nulls) == (EVENTS, 1, key, value, nulls)
    assert again.headers == (*headers, ("stepstream-redriven", b"1"))


def test_a_letter_is_shown_with_what_was_null() -> None:
    """As JSON: null, and not an empty text; several values of a header are a list."""
    record = LogRecord(EVENTS, 1, 7, b"", b"", (("a", None), ("b", b"1"), ("b", b"\xff")), 5, ("key",))
    shown = json.loads(json.dumps(kept(record).whole()))
    assert (shown["key"], shown["value"], shown["headers"]) == (None, "", {"a": None, "b": ["1", {"base64": "/w=="}]})
    assert (shown["topic"], shown["partition"], shown["offset"], shown["reason"]) == (EVENTS, 1, 7, "why")


@pytest.mark.parametrize("header", ["stepstream-from", "stepstream-sources", "stepstream-redriven", "stepstream-time"])
@pytest.mark.parametrize("value", [None, b"", b"\xff", b"[1]", b"9" * 5_000, "\u00b2".encode()])
def test_no_header_breaks_a_list(header: str, value: bytes | None) -> None:
    """A header of a name of ours without a value, or with another than we write, is as none."""
    letter = dead_letter_of(LogRecord(DEAD_LETTERS, 0, 3, b"", b"", ((header, value),), 0))
    assert letter.summary()["topic"] == "?"
    assert (letter.sources, letter.redriven, letter.timestamp) == ((), 0, 0)


async def test_letters_are_listed_and_marked_once_they_are_sent() -> None:
    """The latest so many, the oldest first; what was sent again is told, and sent by --all no more."""
    topics = Topics(*(dead_letter_record(POISON._replace(offset=offset), "why") for offset in range(4)), first=10)
    assert await send_again(topics, "0-11") == ["0-11"]
    found = await survey(topics.cluster, limit=3)
    assert [(each["place"], each["offset"], each["sent"]) for each in found.latest] == [
        ("0-11", 1, True),
        ("0-12", 2, False),
        ("0-13", 3, False),
    ]
    assert (found.total, list(found.waiting)) == (4, ["0-10", "0-12", "0-13"])
    assert (await survey(topics.cluster, "orders")).total == 0
    assert await send_all(topics) == (["0-10", "0-12", "0-13"], [])
    assert (await survey(topics.cluster)).waiting == {}
    assert topics.closed == 8


async def test_places_that_name_no_letter_are_refused() -> None:
    """Beyond the end, before the beginning, a partition that is not there, a mark, and no place at all."""
    topics = Topics(dead_letter_record(POISON, "why"), first=10)
    await send_again(topics, "0-10")
    assert (await dead_letter_at(topics.cluster, "0-10")).record.value == b"poison"
    for place in ("0-12", "0-9", "1-0", "0-11", "", "a-b", "0-1-2", "0-" + "9" * 19):
        with pytest.raises(DeadLetterError, match="there is no dead letter"):
            await dead_letter_at(topics.cluster, place)


async def test_a_cluster_without_the_topic_says_so() -> None:
    """Under a wrong namespace there are not none, but no topic of ours."""
    topics = Topics(topics={})
    topics.settings = KafkaSettings(namespace="nope")
    with pytest.raises(DeadLetterError, match=r"there is no topic 'nope\.dead-letters'"):
        await survey(topics.cluster)


async def test_what_was_cut_short_is_sent_once() -> None:
    """A record and its mark are there together or not at all: the same command goes on, and sends nothing twice."""
    topics = Topics(dead_letter_record(POISON, "why"))
    topics.broken = True
    with pytest.raises(LogError):
        await send_all(topics)
    assert (topics.sent, len(topics.letters)) == ([], 1)
    topics.broken = False
    assert await send_all(topics) == (["0-0"], [])
    assert await send_all(topics) == ([], [])
    assert [record.topic for record in topics.sent] == [EVENTS, DEAD_LETTERS]


async def test_a_place_that_is_named_twice_is_sent_once() -> None:
    """As once."""
    topics = Topics(dead_letter_record(POISON, "why"))
    assert await send_again(topics, "0-0", "0-0") == ["0-0"]
    assert [record.topic for record in topics.sent] == [EVENTS, DEAD_LETTERS]
    assert topics.sent[0] == kept(POISON).again()


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (POISON._replace(partition=2), "partition 2 of topic 'events', where it was, is not there any more"),
        (
            POISON._replace(topic=commands_topic("gone")),
            "of topic 'commands.gone', where it was, is not there",
        ),
        (POISON._replace(key=b"", value=b"", nulls=("key", "value")), "its record has neither key nor value"),
        (POISON._replace(topic="orders"), "its topic 'orders' is none of ours"),
        (POISON._replace(value=b"x" * 49 * 2**20), "of its 51,380,231 bytes only a part was kept"),
        (POISON._replace(topic=""), "does not say where it came from"),
    ],
    ids=range(6),
)
async def test_what_has_no_way_back_is_refused(record: LogRecord, reason: str) -> None:
    """A letter whose topic or partition is gone, or that is not whole, is not sent and holds up no other."""
    topics = Topics(dead_letter_record(POISON, "why"), dead_letter_record(record, "why"))
    with pytest.raises(DeadLetterError, match=reason):
        await send_again(topics, "0-0", "0-1")
    assert topics.sent == []
    sent, refused = await send_all(topics)
    assert sent == ["0-0"]
    assert [reason in told for told in refused] == [True]


async def test_a_source_that_was_mended_maps_its_record_alone() -> None:
    """The event has the identity and the time of the old place; the foreign topic and other sources get nothing."""
    topics = Topics(dead_letter_record(ORDER, "why", FailedSources(GROUP, ["shop/broken"])))
    sources = [Source("orders", "shop/fine"), Source("orders", "shop/broken"), Source("payments", "shop/broken")]
    assert await send_again(topics, "0-0", sources=sources) == ["0-0"]
    event, mark = topics.sent
    assert (event.topic, event.partition, event.key) == (EVENTS, -1, b"orders-2-9")
    assert json.loads(event.value) == {"name": "shop/broken", "data": {"n": 1}, "id": "orders-2-9", "ts": 1_000}
    assert mark.topic == DEAD_LETTERS
    assert (await survey(topics.cluster)).waiting == {}


async def test_a_source_that_passes_the_record_over_is_done_with_it() -> None:
    """Nothing is written but that the letter was dealt with."""
    topics = Topics(dead_letter_record(ORDER, "why", FailedSources(GROUP, ["shop/broken"])))
    assert await send_all(topics, sources=[Source("orders", "shop/broken", if_="value.n > 1")]) == (["0-0"], [])
    assert [record.topic for record in topics.sent] == [DEAD_LETTERS]


def fail(_: Any) -> Any:
    """Fail as a mapping may."""
    raise KeyError("n")


@pytest.mark.parametrize(
    ("sources", "reason"),
    [
        ([], "give their app by --code FILE, or the engines' file by --sources FILE"),
        ([Source("payments", "shop/broken")], "there is no source 'shop/broken' of topic 'orders' any more"),
        ([Source("orders", "shop/fine")], "there is no source 'shop/broken' of topic 'orders' any more"),
        ([Source("orders", "shop/broken", data=fail)], "source 'shop/broken' fails again: data: KeyError: 'n'"),
    ],
    ids=range(4),
)
async def test_a_source_that_is_not_mended_is_told(sources: list[Source], reason: str) -> None:
    """Its letter stays in the list as it is, without another one."""
    topics = Topics(dead_letter_record(ORDER, "why", FailedSources(GROUP, ["shop/broken"])))
    sent, refused = await send_all(topics, sources=sources)
    assert sent == []
    assert [reason in told for told in refused] == [True]
    assert (topics.sent, list((await survey(topics.cluster)).waiting)) == ([], ["0-0"])
