"""TopicWatch: how it connects, and what it reports."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from stepstream.contract.topics import INBOX
from stepstream.runtime.kafka import topic_watch
from stepstream.runtime.kafka.answers import Extent
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.settings import KafkaSettings
from stepstream.runtime.kafka.topic_watch import TopicWatch
from stepstream.runtime.ports import LogError

_INBOX = {INBOX: Extent(4, 1, "id")}


class _Cluster(Cluster):
    """Gives one answer after the other, and counts the connections."""

    def __init__(self, *answers: Mapping[str, Extent] | LogError) -> None:
        super().__init__(KafkaSettings())
        self.answers = list(answers)
        self.connections = 0
        self.done = asyncio.Event()

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[Any]:
        self.connections += 1
        yield self.connections

    async def extents_by(self, _admin: Any, _topics: Sequence[str] | None) -> dict[str, Extent]:
        if not self.answers:
            self.done.set()
            await asyncio.get_running_loop().create_future()
        answer = self.answers.pop(0)
        if isinstance(answer, LogError):
            raise answer
        return dict(answer)


async def _watched(monkeypatch: pytest.MonkeyPatch, cluster: _Cluster) -> tuple[TopicWatch, list[Mapping[str, Extent]]]:
    """Return a watch that has looked at all answers, and what it gave to its observer."""
    monkeypatch.setattr(topic_watch, "WATCH_S", 0)
    seen: list[Mapping[str, Extent]] = []
    watch = TopicWatch(cluster, [INBOX], 4, [seen.append])
    watching = asyncio.ensure_future(watch.serve())
    await cluster.done.wait()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return watch, seen


async def test_watch_stays_connected_until_a_request_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = _Cluster(_INBOX, _INBOX, _INBOX, LogError("no broker answers"), _INBOX, _INBOX)
    watch, seen = await _watched(monkeypatch, cluster)
    assert cluster.connections == 2
    assert seen == [_INBOX] * 5
    assert not watch.unready


async def test_topic_is_missing_only_after_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    once, _ = await _watched(monkeypatch, _Cluster(_INBOX, {}))
    twice, _ = await _watched(monkeypatch, _Cluster(_INBOX, {}, {}))
    back, _ = await _watched(monkeypatch, _Cluster({}, {}, _INBOX))
    assert not once.unready
    assert "topic 'inbox' is missing" in twice.unready
    assert not back.unready
