"""The faults of an operator who changes topics of a running cluster."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from stepstream.contract.topics import CHANGELOG, COMMANDS, DEAD_LETTERS, EVENTS, FUNCTIONS, HISTORY, INBOX
from stepstream.runtime.kafka.topics.layout import expected_topics, survey
from stepstream.runtime.ports import LogError
from tests.kafka.chaos.load import APP
from tests.kafka.chaos.scene import (
    PARTITIONS_NOTICED,
    POLL_S,
    RECREATION_NOTICED,
    SETTINGS_NOTICED,
    Scene,
    until,
)
from tests.kafka.cluster.topics import configure_topic, grow_topic, recreate_topic

COMMANDS_TOPIC = f"{COMMANDS}.{APP}"
# A process looks at its topics every 3 s, if the machine lets it.
_NOTICED_S_MAX = 60.0
_TRIES = 50
_GROWING = (EVENTS, INBOX, HISTORY, CHANGELOG, COMMANDS_TOPIC)
_PARTITIONS_MORE_MAX = 4
# Settings whose default differs. The producer of the run itself could not write to its topics with a smaller limit.
_REMOVED = (
    (CHANGELOG, "cleanup.policy"),
    (CHANGELOG, "max.message.bytes"),
    (FUNCTIONS, "cleanup.policy"),
    (HISTORY, "max.message.bytes"),
    (HISTORY, "retention.ms"),
    (DEAD_LETTERS, "max.message.bytes"),
)
# How many events follow the removal of a setting.
_EVENTS = 8
_RECREATED = "was deleted and created again"
_T = TypeVar("_T")


async def insist(act: Callable[[], Awaitable[_T]]) -> _T:
    """Return the result of a request to the broker, which is repeated while it fails: the broker may be starting."""
    for _ in range(_TRIES):
        try:
            return await act()
        except LogError:
            await asyncio.sleep(POLL_S)
    return await act()


def _said(scene: Scene, words: str) -> int:
    return sum(member.said(words) for member in (*scene.fleet.engines, *scene.fleet.workers))


@dataclass(frozen=True, slots=True)
class AddPartition:
    """A topic gets one more partition, up to a few."""

    async def strike(self, scene: Scene) -> None:
        """Add it; processes notice it while other faults strike."""
        async with scene.calm:
            topic = scene.draw.choice(_GROWING)
            partitions = (await insist(scene.cluster.topics))[topic] + 1
            if partitions > scene.load.shards + _PARTITIONS_MORE_MAX:
                return
            await insist(lambda: grow_topic(scene.cluster, topic, partitions))
            scene.continue_beside(self._notice(scene, topic, partitions))

    async def _notice(self, scene: Scene, topic: str, partitions: int) -> None:
        words = f"topic '{scene.fleet.namespace}.{topic}' has {partitions} partitions"
        scene.noticed[PARTITIONS_NOTICED] += await until(lambda: _said(scene, words) > 0, _NOTICED_S_MAX)


@dataclass(frozen=True, slots=True)
class RemoveSetting:
    """A setting of a topic is removed, and put back after a while."""

    async def strike(self, scene: Scene) -> None:
        """Remove it, look whether the check reports it, and put it back when more bodies have run."""
        topic, key = scene.draw.choice(_REMOVED)
        expected = expected_topics([APP], scene.load.shards)[topic].config
        remaining = {name: value for name, value in expected.items() if name != key}
        async with scene.calm:
            try:
                await insist(lambda: configure_topic(scene.cluster, topic, remaining))
                found = await insist(lambda: survey(scene.cluster, [APP]))
                scene.noticed[SETTINGS_NOTICED] += any(key == each.key for each in found.configs)
                await scene.load.send(_EVENTS)
                await scene.some_work()
            finally:
                await insist(lambda: configure_topic(scene.cluster, topic, expected))


@dataclass(frozen=True, slots=True)
class RecreateCommands:
    """The topic of commands is deleted and created again: all commands in it are lost."""

    async def strike(self, scene: Scene) -> None:
        """Recreate it; workers notice it while other faults strike."""
        async with scene.calm:
            spec = expected_topics([APP], scene.load.shards)[COMMANDS_TOPIC]
            extents = await insist(scene.cluster.extents)
            before = _said(scene, _RECREATED)
            scene.load.lose(COMMANDS_TOPIC)
            replicas = extents[COMMANDS_TOPIC].replicas
            await insist(lambda: recreate_topic(scene.cluster, COMMANDS_TOPIC, spec, replicas))
            scene.continue_beside(self._notice(scene, before))

    async def _notice(self, scene: Scene, before: int) -> None:
        noticed = await until(lambda: _said(scene, _RECREATED) > before, _NOTICED_S_MAX)
        scene.noticed[RECREATION_NOTICED] += noticed
