"""TopicWatch: how it connects, and what it reports."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from stepstream.contract.topics import INBOX
from stepstream.runtime.kafka.client.answers import Extent
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.kafka.topics import topic_watch
from stepstream.runtime.kafka.topics.topic_watch import TopicWatch
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


@pytest.mark.parametrize("answer_s", [0.0, 1.5, topic_watch.ANSWER_S_MAX])
async def test_process_is_not_ready_10_s_after_a_deletion(answer_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the broker takes as long for each answer as it may, and the deletion follows the start of a look."""
    now, deleted_at, reported_at = 100.0, 0.0, 0.0

    class Slow(_Cluster):
        async def extents_by(self, _admin: Any, _topics: Sequence[str] | None) -> dict[str, Extent]:
            nonlocal now, deleted_at
            extents = dict(_INBOX) if not deleted_at else {}
            deleted_at = deleted_at or now
            now += answer_s
            return extents

    async def sleep(seconds: float) -> None:
        nonlocal now, reported_at
        now += seconds
        if watch.unready:
            reported_at = now - seconds
            raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(topic_watch, "time", SimpleNamespace(monotonic=lambda: now))
    watch = TopicWatch(Slow(), [INBOX], 4, [])
    with pytest.raises(asyncio.CancelledError):
        await watch.serve()
    assert 0 < reported_at - deleted_at <= 10


async def test_topic_is_missing_only_after_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    once, _ = await _watched(monkeypatch, _Cluster(_INBOX, {}))
    twice, _ = await _watched(monkeypatch, _Cluster(_INBOX, {}, {}))
    back, _ = await _watched(monkeypatch, _Cluster({}, {}, _INBOX))
    assert not once.unready
    assert "topic 'inbox' is missing" in twice.unready
    assert not back.unready
