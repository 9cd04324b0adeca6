"""Inject faults into gateways and the app that they call: python -m tests.kafka.chaos.sdk_run KILLS=50 SEED=7."""

import asyncio
import functools
import random
import sys
from collections.abc import Callable
from pathlib import Path

import httpx

from stepstream.contract.topics import CHANGELOG
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from tests.kafka.chaos.load import APP, Load
from tests.kafka.chaos.run import NAMESPACE, Plan, Verdict, endure, killed, main, plan_from
from tests.kafka.chaos.scene import UP, UP_S_MAX, Effects, Scene, until
from tests.kafka.chaos.sdk_judging import EVIDENCE, judge_all, judge_evidence, repeated
from tests.kafka.cluster.balancer import balanced
from tests.kafka.cluster.broker import Broker, Brokers, free_port
from tests.kafka.cluster.fleet import Fleet
from tests.kafka.cluster.history import Ledger, Runs, until_registered

FAULTS = tuple(EVIDENCE)
_MODULE = "tests.kafka.chaos"


def figures_of(scene: Scene) -> dict[str, int]:
    """Return what was done and observed."""
    lines = scene.effects.lines()
    return {
        "events": scene.load.sent,
        "runs": len(scene.ledger.runs),
        "engines killed": killed(scene.fleet, "engine"),
        "gateways killed": killed(scene.fleet, "worker"),
        "app processes killed": sum(member.kills for member in scene.fleet.apps),
        "brokers killed": scene.struck["broker-killed"],
        "transactions aborted": len(scene.broker.aborted(f"{NAMESPACE}.{CHANGELOG}")),
        "runs moved to another gateway": scene.ledger.moves(),
        "bodies run": len(lines),
        "bodies run again": repeated(lines),
    }


async def act(broker: Broker | Brokers, folder: Path, plan: Plan, report: Callable[[str], None]) -> Verdict:
    """Start engines, gateways and an app in a folder, execute the plan, and judge."""
    cluster = Cluster(KafkaSettings(broker.bootstrap, NAMESPACE))
    fleet = Fleet(broker.bootstrap, NAMESPACE, folder)
    fleet.effects.touch()
    load, ledger = Load(cluster, plan.shards), Ledger(cluster)
    scene = Scene(broker, fleet, load, ledger, Effects(fleet.effects), random.Random(plan.seed))
    fleet.command("topics", "apply", "--shards", str(plan.shards), "--replicas", str(plan.brokers), "--app", APP)
    beside = [asyncio.ensure_future(code) for code in (ledger.follow(), scene.tend())]
    ports = [free_port() for _ in range(plan.workers)]
    try:
        async with balanced(ports) as url:
            await _start(scene, plan, ports, url)
            await until_registered(cluster, plan.shards)
            if stuck := await endure(scene, plan, report, beside):
                return Verdict(stuck, figures_of(scene))
        runs, figures = await _histories(cluster), figures_of(scene)
        broken = judge_all(runs, scene.effects.lines(), load.sent)
        return Verdict([*broken, *judge_evidence(scene.struck, figures)], figures)
    finally:
        for task in (*beside, *scene.lasting):
            task.cancel()
        await asyncio.gather(*beside, *scene.lasting, return_exceptions=True)
        fleet.kill()
        await load.close()
        await ledger.close()


async def _histories(cluster: Cluster) -> Runs:
    """Return the history of each run, read again from its beginning."""
    ledger = Ledger(cluster)
    try:
        await ledger.catch_up()
        return ledger.runs
    finally:
        await ledger.close()


async def _start(scene: Scene, plan: Plan, ports: list[int], url: str) -> None:
    """Start all processes, and register the app; it sends its events through the load balancer at `url`."""
    fleet, port = scene.fleet, free_port()
    for _ in range(plan.engines):
        fleet.add_engine(module=f"{_MODULE}.zombie_engine")
    for each in ports:
        fleet.add_gateway("--port", str(each), "--connect-port", "0", module=f"{_MODULE}.hasty_gateway")
    fleet.add_app(f"{_MODULE}.sdk_app", str(port), INNGEST_DEV=url)
    for role in UP.keys() - {"worker"}:
        if not await until(functools.partial(_are_up, scene, role), UP_S_MAX):
            raise TimeoutError(f"not every {role} has started:\n{fleet.logs()}")
    # The app registers itself, at the gateway that the load balancer chooses.
    async with httpx.AsyncClient(trust_env=False, timeout=UP_S_MAX) as client:
        (await client.put(f"http://127.0.0.1:{port}/api/inngest")).raise_for_status()


def _are_up(scene: Scene, role: str) -> bool:
    return all(member.said(UP[role]) for member in scene.members(role))


if __name__ == "__main__":
    sys.exit(main(plan_from(sys.argv[1:], FAULTS), act))
