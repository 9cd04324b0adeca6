"""Watches the topics that a process needs, while it runs: whether they exist, and with which ids and partitions."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress

from stepstream.runtime.kafka.client.answers import Extent
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.kafka.topics.layout import growth_effect, topic_problems
from stepstream.runtime.ports import LogError
from stepstream.runtime.recurrence import Recurrence

logger = logging.getLogger(__name__)
# From the start of one look to the start of the next. A broker that has just started may not know all topics yet, so a
# topic is missing only if two looks agree. Then the process is not ready 10 s after a topic was deleted at the latest:
# a look that began before, and its period; the two looks that follow, each as long as an answer may take.
WATCH_S = 3.0
ANSWER_S_MAX = 3.0


class TopicHealth:
    """Whether some topics can be used: `unready` says why not, once two looks agree, and how to create them.

    `apps` are those whose topics are among them; lines of the log start with `where`.
    """

    def __init__(
        self, settings: KafkaSettings, topics: Sequence[str], shards: int, apps: Sequence[str] = (), where: str = ""
    ) -> None:
        self._settings = settings
        self.topics = topics
        self._shards = shards
        self._apps = apps
        self._where = where
        self._recurrence = Recurrence()
        self._seen = ""
        self.unready = ""

    def look(self, extents: Mapping[str, Extent], *, logged: bool = True) -> None:
        """Take in the extents of the topics that exist."""
        problems = topic_problems(self._settings, extents, self.topics, self._shards, self._apps)
        self.unready, self._seen = problems if problems == self._seen else "", problems
        if logged and self.unready and (more := self._recurrence.occurs(self.unready)) is not None:
            logger.error("%snot ready: %s%s", self._where, self.unready, more)
        if not problems and (lasted_s := self._recurrence.ends()) is not None:
            logger.info("%sall topics exist again after %.0f s", self._where, lasted_s)


class TopicWatch:
    """Looks at some topics periodically, by one client, and gives the extents of those that exist to observers.

    The observers get those of `others` too, topics whose problems do not make the process unready.
    """

    def __init__(
        self,
        cluster: Cluster,
        topics: Sequence[str],
        shards: int,
        observers: Sequence[Callable[[Mapping[str, Extent]], None]],
        apps: Sequence[str] = (),
        others: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._cluster = cluster
        self._health = TopicHealth(cluster.settings, topics, shards, apps)
        self._observers = observers
        self._others = others
        self._partitions: dict[str, int] = {}

    @property
    def unready(self) -> str:
        """Why the process is not ready; empty if it is."""
        return self._health.unready

    async def serve(self) -> None:
        """Look until cancelled. While no broker answers, nothing is known, and nothing changes."""
        while True:
            with suppress(LogError, TimeoutError):
                await self._watch()
            await asyncio.sleep(WATCH_S)

    async def _watch(self) -> None:
        """Look by one client, which stays connected, until a request fails."""
        async with AsyncExitStack() as connected:
            async with asyncio.timeout(ANSWER_S_MAX):
                admin = await connected.enter_async_context(self._cluster.admin())
            while True:
                began = time.monotonic()
                async with asyncio.timeout(ANSWER_S_MAX):
                    extents = await self._cluster.extents_by(admin, [*self._health.topics, *self._others()])
                self._look(extents)
                await asyncio.sleep(max(began + WATCH_S - time.monotonic(), 0))

    def _look(self, extents: Mapping[str, Extent]) -> None:
        self._health.look(extents)
        self._warn_of_growth(extents)
        for observe in self._observers:
            observe(extents)

    def _warn_of_growth(self, extents: Mapping[str, Extent]) -> None:
        for topic, extent in extents.items():
            before = self._partitions.setdefault(topic, extent.partitions)
            if extent.partitions > before:
                name = self._cluster.settings.name(topic)
                grown = "topic %r has %d partitions instead of %d, and Kafka cannot remove them: %s"
                logger.warning(grown, name, extent.partitions, before, growth_effect(topic))
            self._partitions[topic] = extent.partitions
