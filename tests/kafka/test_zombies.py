"""A process that is frozen is given up by the others; when it goes on, without knowing, it does no harm."""

import asyncio
from pathlib import Path

import pytest

from stepstream.runtime.kafka import Cluster, KafkaSettings
from tests.kafka.broker import running_broker
from tests.kafka.fleet import Fleet
from tests.kafka.judging import judge
from tests.kafka.test_kill import feed, unended, until_effects, until_ended, until_registered

EVENTS = 20
pytestmark = [pytest.mark.kafka, pytest.mark.slow]


async def freeze_and_thaw(bootstrap: str, folder: Path) -> list[str]:
    """Freeze an engine, then a worker, in the middle of their work until others have ended it; return what broke."""
    cluster = Cluster(KafkaSettings(bootstrap, "zombies"))
    effects = folder / "effects.txt"
    effects.touch()
    fleet = Fleet(bootstrap, "zombies", folder, Path(__file__).with_name("chaos_app.py"), effects)
    fleet.command("topics", "apply", "--shards", "2", "--app", "chaos")
    try:
        members = [fleet.add_engine(), fleet.add_worker(), fleet.add_engine(), fleet.add_worker()]
        await until_registered(cluster, 2)
        sent = 0
        for member in members[:2]:
            await feed(cluster, sent, EVENTS)
            until_effects(effects, EVENTS)
            member.freeze()
            await feed(cluster, sent + EVENTS, EVENTS)
            sent += 2 * EVENTS
            await until_ended(cluster, 2 * sent)
            member.thaw()
            await feed(cluster, sent, EVENTS)
            sent += EVENTS
            await until_ended(cluster, 2 * sent)
        wanted = {f"go-{number}": ["first", "left", "right", "echo", "last"] for number in range(sent)}
        return await judge(cluster, wanted, effects, worker_kills=1)
    except TimeoutError:
        return [*await unended(cluster), fleet.logs()]
    finally:
        fleet.stop()


def test_frozen_engines_and_workers_do_no_harm(tmp_path: Path) -> None:
    """Others take over when a member is silent for too long; each run ends once, with each result once."""
    with running_broker() as bootstrap:
        broken = asyncio.run(freeze_and_thaw(bootstrap, tmp_path))
    assert not broken, "\n".join(broken[:20])
