"""kill -9 of engines and workers on a real broker, under load: nothing is lost, nothing is there twice."""

import asyncio
import os
import random
import time
from pathlib import Path

import pytest

from stepstream.contract.codec import encode
from stepstream.contract.events import event_record
from stepstream.contract.history import RunEnded
from stepstream.contract.topics import CHANGELOG, COMMANDS, EVENTS, FUNCTIONS, HISTORY, INBOX
from stepstream.runtime.kafka import Cluster, KafkaSettings
from stepstream.runtime.ports import NewRecord
from tests.kafka.broker import running_broker
from tests.kafka.fleet import Fleet
from tests.kafka.judging import aborted_records, history_of, judge

KILLS = int(os.environ.get("KILLS", "24"))
EVENTS_PER_KILL = 8
END_S_MAX = 120.0
EFFECTS_S_MAX = 5.0

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


async def feed(cluster: Cluster, first: int, count: int) -> None:
    """Send events with ids of their own."""
    producer = await cluster.producer()
    numbers = range(first, first + count)
    events = [event_record("chaos/go", {"n": number}, id=f"go-{number}") for number in numbers]
    await producer.send([NewRecord(EVENTS, -1, event.id.encode(), encode(event)) for event in events])
    await producer.close()


async def until_ended(cluster: Cluster, runs: int) -> None:
    """Return when so many runs have ended."""
    async with asyncio.timeout(END_S_MAX):
        while True:
            by_run = await history_of(cluster)
            if sum(isinstance(entries[-1], RunEnded) for entries in by_run.values()) >= runs:
                return


async def until_registered(cluster: Cluster, shards: int) -> None:
    """Return when every shard knows the functions: what comes before that starts nothing."""
    at = (FUNCTIONS, 0)
    async with asyncio.timeout(END_S_MAX):
        for shard in range(shards):
            reader = await cluster.reader(group=f"shard-{shard}")
            reader.assign([at])
            while (await reader.committed([at]))[at] < max((await reader.ends([at]))[at], 2):
                pass
            await reader.close()


def until_effects(effects: Path, more: int) -> None:
    """Return when so many more bodies have run, or when none runs for a while."""
    wanted = len(effects.read_bytes().splitlines()) + more
    deadline = time.monotonic() + EFFECTS_S_MAX
    while len(effects.read_bytes().splitlines()) < wanted and time.monotonic() < deadline:
        pass


async def unended(cluster: Cluster) -> list[str]:
    """Say of each run that has not ended what happened last."""
    return [
        f"{run_id} has not ended: {[(type(entry).__name__, getattr(entry, 'id', '')) for entry in entries]}"
        for run_id, entries in (await history_of(cluster)).items()
        if not isinstance(entries[-1], RunEnded)
    ]


async def chaos(bootstrap: str, folder: Path, kills: int) -> tuple[list[str], int, str]:
    """Kill and feed; return what is wrong, how many records were really aborted, and what was done."""
    cluster = Cluster(KafkaSettings(bootstrap, "chaos"))
    effects = folder / "effects.txt"
    effects.touch()
    fleet = Fleet(bootstrap, "chaos", folder, Path(__file__).with_name("chaos_app.py"), effects)
    draw = random.Random(7)
    fleet.command("topics", "apply", "--shards", "3", "--app", "chaos")
    try:
        members = [fleet.add_engine(), fleet.add_engine(), fleet.add_worker(), fleet.add_worker()]
        await until_registered(cluster, 3)
        for number in range(kills):
            await feed(cluster, number * EVENTS_PER_KILL, EVENTS_PER_KILL)
            until_effects(effects, draw.randrange(4 * EVENTS_PER_KILL))
            # Two of three kills strike an engine.
            victim = draw.choice([*members[:2], *members[:2], *members[2:]])
            victim.kill()
            victim.start()
        sent = kills * EVENTS_PER_KILL
        await until_ended(cluster, 2 * sent)
        wanted = {f"go-{number}": ["first", "left", "right", "echo", "last"] for number in range(sent)}
        worker_kills = sum(member.kills for member in fleet.workers)
        broken = await judge(cluster, wanted, effects, worker_kills)
        aborted = await aborted_records(cluster, (CHANGELOG, INBOX, HISTORY, f"{COMMANDS}.chaos"))
        engine_kills = sum(member.kills for member in fleet.engines)
        done = f"{sent} runs, {engine_kills} kills of engines, {worker_kills} of workers, {aborted} records aborted"
        return broken, aborted, done
    except TimeoutError:
        return [*await unended(cluster), fleet.logs()], 0, ""
    finally:
        fleet.stop()


def test_killing_engines_and_workers_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every accepted event gives one run that ends once, with each result once; some transactions really aborted."""
    with running_broker() as bootstrap:
        broken, aborted, done = asyncio.run(chaos(bootstrap, tmp_path, KILLS))
    with capsys.disabled():
        print(f"\n{done}")
    assert not broken, "\n".join(broken[:20])
    assert aborted > 0, "no transaction was aborted: this run is no evidence"
