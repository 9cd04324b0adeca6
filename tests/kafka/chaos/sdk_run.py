"""Inject faults into gateways and the app that they call: python -m tests.kafka.chaos.sdk_run KILLS=50 SEED=7."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path

import httpx

from stepstream.contract.topics import CHANGELOG
from tests.kafka.chaos.run import NAMESPACE, Plan, Verdict, endure, killed, main, plan_from, staged
from tests.kafka.chaos.scene import UP, UP_S_MAX, Scene, until
from tests.kafka.chaos.sdk_judging import EVIDENCE, judge_all, judge_evidence, repeated
from tests.kafka.cluster.balancer import balanced
from tests.kafka.cluster.broker import Broker, Brokers, free_port
from tests.kafka.cluster.fleet import Fleet
from tests.kafka.cluster.history import read_histories, until_registered

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
    fleet = Fleet(broker.bootstrap, NAMESPACE, folder)
    ports = [free_port() for _ in range(plan.workers)]
    async with staged(broker, fleet, plan) as (scene, beside), balanced(ports) as url:
        await _start(scene, plan, ports, url)
        await until_registered(scene.cluster, plan.shards)
        if stuck := await endure(scene, plan, report, beside):
            return Verdict(stuck, figures_of(scene))
        runs, figures = await read_histories(scene.cluster), figures_of(scene)
        broken = judge_all(runs, scene.effects.lines(), scene.load.sent)
        return Verdict([*broken, *judge_evidence(scene.struck, figures)], figures)


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
