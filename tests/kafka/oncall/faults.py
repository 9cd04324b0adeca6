"""The faults of the on-call trial as tables: what strikes, what probes, logs and alerts say, and how it ends.

Those of FAULTS strike a cluster under load and lose nothing. Those of MISTAKES strike another cluster, alone and with
one engine and one worker: they destroy records, as the runbook says, or last until someone is paged.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from stepstream.contract.limits import DAY_MS
from stepstream.contract.topics import EVENTS, INBOX
from stepstream.runtime.kafka.topics.layout import expected_topics
from tests.disk import limit_files_of, unlimit_files_of
from tests.kafka.cluster.fleet import Member
from tests.kafka.cluster.hostile import send_batches
from tests.kafka.oncall.stage import NO_ANSWER, Stage
from tests.kafka.operators.faults import (
    ALL_DELETED,
    CHANGELOG_RECREATED,
    EVENTS_RECREATED,
    INBOX_DELETED,
    OperatorFault,
    commands_recreated,
    partitions_added,
)

APP = "orders"
_AHEAD_S, _HOUR_BACK_S, _WEEK_BACK_S = 60.0, -3_600.0, -7 * 86_400.0
# How long the clock stays as it was set, so that its engine uses it for many batches.
_CLOCK_S = 5.0
_ROW_BYTES = 100_000
# For an engine with a standby that starts or ends beside the load of the trial; the benchmark `failover` has the times
# of a machine that does nothing else. Without a standby, it would take the 10 s of a session.
TAKEOVER_S_MAX = 9.0

Hits = list[Member]
Strike = Callable[[Stage], Awaitable[Hits]]
Remedy = Callable[[Stage, Hits], Awaitable[None]]


async def _nothing(_stage: Stage, _hits: Hits) -> None:
    """Do nothing: the processes recover by themselves."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, and what an operator must see of it.

    `strike` returns the processes that it hits. While it lasts, `hit` is a part of what their /ready answers, and
    `others` of what that of all other processes does; empty means ready. An engine that takes `over` shards, copies
    them first or starts them again is not ready for a moment. `logged` is in the log of one process.
    `alerts` fire, and no other page does. It lasts `seconds`, all processes must be ready `recovered_s` later, and
    meanwhile a shard under load may make no progress for `silent_s`. It strikes `again` in later turns. Orders that are
    sent to an idle cluster while it lasts end as all others, unless it `loses` records.
    """

    strike: Strike
    remedy: Remedy = _nothing
    hit: str = ""
    others: str = ""
    over: bool = False
    logged: str = ""
    alerts: frozenset[str] = frozenset()
    seconds: float = 15.0
    recovered_s: float = 60.0
    silent_s: float = 10.0
    again: bool = True
    loses: bool = False


def _kill(role: str) -> Strike:
    async def strike(stage: Stage) -> Hits:
        member = stage.pick(role)
        member.kill()
        stage.workers_died |= role == "worker"
        return [member]

    return strike


def _stop(role: str) -> Strike:
    async def strike(stage: Stage) -> Hits:
        member = stage.pick(role)
        await asyncio.to_thread(member.stop)
        return [member]

    return strike


async def _start(_stage: Stage, hits: Hits) -> None:
    for member in hits:
        member.start()


def _freeze(role: str) -> Strike:
    async def strike(stage: Stage) -> Hits:
        member = stage.pick(role)
        member.freeze()
        # The group gives its partitions to another worker, whose bodies run beside those of this one.
        stage.workers_died |= role == "worker"
        return [member]

    return strike


async def _thaw(_stage: Stage, hits: Hits) -> None:
    for member in hits:
        member.thaw()


async def _join(stage: Stage) -> Hits:
    # A member without a static name leaves the group when it stops.
    return [stage.add_engine("--standby", STEPSTREAM_INSTANCE="")]


async def _leave(stage: Stage, hits: Hits) -> None:
    for member in hits:
        stage.held.append(member)
        await asyncio.to_thread(member.stop)
        member.wipe()
        stage.fleet.engines.remove(member)


async def _kill_broker(stage: Stage) -> Hits:
    await asyncio.to_thread(stage.broker.kill)
    # A step whose result could not be written may run again on another worker.
    stage.workers_died = True
    return []


async def _start_broker(stage: Stage, _hits: Hits) -> None:
    await asyncio.to_thread(stage.broker.start)


def _set_clock(*offsets_s: float) -> Strike:
    async def strike(stage: Stage) -> Hits:
        member = stage.pick("engine")
        for seconds in offsets_s:
            member.set_clock(seconds)
            await asyncio.sleep(_CLOCK_S)
        return [member]

    return strike


async def _correct_clock(_stage: Stage, hits: Hits) -> None:
    for member in hits:
        member.set_clock(0)


async def _send_hostile(stage: Stage) -> Hits:
    await send_batches(stage.fleet.bootstrap, "gzip", [stage.site.cluster.settings.name(EVENTS)])
    return []


async def _fill_disk(stage: Stage) -> Hits:
    member = stage.pick("engine")
    limit_files_of(member.pid)
    # Small rows may still fit.
    await stage.produce("x" * _ROW_BYTES)
    return [member]


async def _free_disk(_stage: Stage, hits: Hits) -> None:
    for member in hits:
        unlimit_files_of(member.pid)


async def _damage_tables(stage: Stage) -> Hits:
    member = stage.pick("engine")
    member.kill()
    for manifest in member.disk.glob("shard-*/MANIFEST-*"):
        os.truncate(manifest, manifest.stat().st_size // 2)
    await _start(stage, [member])
    return [member]


async def _set_retention(stage: Stage, milliseconds: int) -> None:
    site = stage.site
    # This request replaces all settings of a topic.
    config = expected_topics([site.app], site.shards)[EVENTS].config | {"retention.ms": str(milliseconds)}
    async with site.cluster.admin() as admin:
        name = site.cluster.settings.name(EVENTS)
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs=config)])


async def _shorten_retention(stage: Stage) -> Hits:
    await _set_retention(stage, DAY_MS)
    hits = await _stop("engine")(stage)
    await _start(stage, hits)
    return hits


async def _restore_retention(stage: Stage, _hits: Hits) -> None:
    await _set_retention(stage, 7 * DAY_MS)


def _mistake(fault: OperatorFault, **others: object) -> Fault:
    """Return a mistake with topics as a fault; it hits no single process."""

    async def strike(stage: Stage) -> Hits:
        await asyncio.to_thread(fault.strike, stage.site)
        return []

    async def remedy(stage: Stage, _hits: Hits) -> None:
        await asyncio.to_thread(fault.remedy, stage.site)

    return Fault(strike, remedy, others=fault.unready, logged=fault.logged, **others)  # type: ignore[arg-type]


FAULTS = {
    "engine-killed": Fault(_kill("engine"), _start, hit=NO_ANSWER, over=True, silent_s=TAKEOVER_S_MAX),
    "engine-stopped": Fault(_stop("engine"), _start, hit=NO_ANSWER, over=True, silent_s=TAKEOVER_S_MAX),
    "engine-frozen": Fault(_freeze("engine"), _thaw, hit=NO_ANSWER, over=True, silent_s=TAKEOVER_S_MAX),
    # It copies the tables of its shard while the load takes most of both cores; the other engines serve it meanwhile.
    "engine-joins": Fault(_join, _leave, over=True, logged="recovered", seconds=60.0, silent_s=TAKEOVER_S_MAX),
    "worker-killed": Fault(_kill("worker"), _start, hit=NO_ANSWER, silent_s=20),
    "worker-stopped": Fault(_stop("worker"), _start, hit=NO_ANSWER),
    "worker-frozen": Fault(_freeze("worker"), _thaw, hit=NO_ANSWER, silent_s=20),
    "broker-away": Fault(
        _kill_broker,
        _start_broker,
        others="no broker has answered",
        logged="no broker has answered",
        seconds=30,
        silent_s=90,
    ),
    "clock-set": Fault(_set_clock(_AHEAD_S, _HOUR_BACK_S), _correct_clock, logged="the system clock stepped back by"),
    "clock-a-week-back": Fault(_set_clock(_WEEK_BACK_S), _correct_clock, logged="the system clock stepped back by"),
    "hostile-batch": Fault(_send_hostile, logged="to dead-letters", alerts=frozenset({"StepstreamDeadLetters"})),
    "partitions-added": _mistake(partitions_added(INBOX), again=False),
    "partitions-added-to-events": _mistake(partitions_added(EVENTS), over=True, again=False),
}
MISTAKES = {
    "commands-recreated": _mistake(commands_recreated(APP)),
    "events-recreated": _mistake(EVENTS_RECREATED, loses=True),
    "changelog-recreated": _mistake(CHANGELOG_RECREATED, loses=True),
    "retention-changed": Fault(
        _shorten_retention, _restore_retention, logged=f"retention.ms is {DAY_MS} instead of {7 * DAY_MS}"
    ),
    "disk-full": Fault(_fill_disk, _free_disk, hit="cannot be used ("),
    "tables-damaged": Fault(_damage_tables, logged="are corrupt; they are deleted and rebuilt from the changelog"),
    "all-topics-deleted": _mistake(ALL_DELETED, seconds=15, loses=True),
    "no-worker": Fault(
        _kill("worker"),
        _start,
        hit=NO_ANSWER,
        seconds=200,
        alerts=frozenset({"StepstreamCommandsWithoutWorkers"}),
    ),
    "no-engine": Fault(
        _kill("engine"),
        _start,
        hit=NO_ANSWER,
        seconds=340,
        alerts=frozenset({"StepstreamDown", "StepstreamShardNotServed"}),
    ),
    "topic-deleted": _mistake(
        INBOX_DELETED,
        seconds=340,
        alerts=frozenset({"StepstreamNotReady", "StepstreamShardNotServed"}),
        loses=True,
    ),
}
# Each strikes some seconds after the one before, so these say what many faults one after the other say.
OF_MANY = frozenset({"StepstreamShardRecoversRepeatedly", "StepstreamRebalances"})
