"""Inject faults into gateways and their app: python -m tests.kafka.chaos.sdk_run KILLS=50 SEED=7 CONNECTED=1.

With CONNECTED=1 two processes of the app connect to the gateways, else gateways call one process by HTTP.
"""

import functools
import sys
from collections.abc import Callable, Coroutine
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


StartApp = Callable[[Scene, str], Coroutine[None, None, None]]


async def start_served(scene: Scene, url: str) -> None:
    """Start the app that gateways call; it registers itself, at the gateway that the load balancer chooses."""
    port = free_port()
    scene.fleet.add_app(f"{_MODULE}.sdk_app", str(port), INNGEST_DEV=url)
    await _until_up(scene, "app")
    async with httpx.AsyncClient(trust_env=False, timeout=UP_S_MAX) as client:
        (await client.put(f"http://127.0.0.1:{port}/api/inngest")).raise_for_status()


async def start_connected(scene: Scene, url: str) -> None:
    """Start two processes of the app that connect, each to the gateway that the load balancer chooses."""
    for _ in range(2):
        scene.fleet.add_app(f"{_MODULE}.connected_app", INNGEST_DEV=url)
    await _until_up(scene, "app")


async def act(
    broker: Broker | Brokers,
    folder: Path,
    plan: Plan,
    report: Callable[[str], None],
    start_app: StartApp = start_served,
) -> Verdict:
    """Start engines, gateways and an app in a folder, execute the plan, and judge."""
    fleet = Fleet(broker.bootstrap, NAMESPACE, folder)
    ports = [free_port() for _ in range(plan.workers)]
    async with staged(broker, fleet, plan) as (scene, beside), balanced(ports) as url:
        await _start(scene, plan, ports)
        await start_app(scene, url)
        await until_registered(scene.cluster, plan.shards)
        if stuck := await endure(scene, plan, report, beside):
            return Verdict(stuck, figures_of(scene))
        runs, figures = await read_histories(scene.cluster), figures_of(scene)
        broken = judge_all(runs, scene.effects.lines(), scene.load.sent)
        return Verdict([*broken, *judge_evidence(scene.struck, figures)], figures)


async def _start(scene: Scene, plan: Plan, ports: list[int]) -> None:
    """Start engines and gateways."""
    fleet = scene.fleet
    for _ in range(plan.engines):
        fleet.add_engine(module=f"{_MODULE}.zombie_engine")
    for each in ports:
        fleet.add_gateway("--port", str(each), "--connect-port", "0", module=f"{_MODULE}.hasty_gateway")
    for role in ("engine", "gateway"):
        await _until_up(scene, role)


async def _until_up(scene: Scene, role: str) -> None:
    if not await until(lambda: all(member.said(UP[role]) for member in scene.members(role)), UP_S_MAX):
        raise TimeoutError(f"not every {role} has started:\n{scene.fleet.logs()}")


act_connected = functools.partial(act, start_app=start_connected)


if __name__ == "__main__":
    given = sys.argv[1:]
    connected = "CONNECTED=1" in given
    plan = plan_from([each for each in given if not each.startswith("CONNECTED=")], FAULTS)
    sys.exit(main(plan, act_connected if connected else act))
