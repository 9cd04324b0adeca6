"""Inject faults into gateways and their app: python -m tests.kafka.chaos.sdk_run KILLS=50 SEED=7 CONNECTED=1.

Gateways call one process of the app by HTTP. With CONNECTED=1 two processes connect to them instead, and with
CHECKPOINTS=1 the process reports its steps while a call is open.
"""

import asyncio
import functools
import shutil
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import httpx

from stepstream.contract.topics import CHANGELOG
from tests.gateway.sdks.processes import install
from tests.kafka.chaos.run import NAMESPACE, Plan, Verdict, endure, killed, main, plan_from, staged
from tests.kafka.chaos.scene import UP, UP_S_MAX, Scene, until
from tests.kafka.chaos.sdk_judging import (
    EVIDENCE,
    REPORTED,
    STEPS,
    Steps,
    acknowledged,
    effects_of,
    judge_all,
    judge_evidence,
    repeated,
)
from tests.kafka.cluster.balancer import balanced
from tests.kafka.cluster.broker import Broker, Brokers, free_port
from tests.kafka.cluster.fleet import ROOT, Fleet
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
        "bodies run": len(effects_of(lines)),
        "steps acknowledged": len(acknowledged(lines)),
        "bodies run again": repeated(lines),
    }


StartApp = Callable[[Scene, str], Coroutine[None, None, None]]


async def start_served(scene: Scene, url: str) -> None:
    """Start the app that gateways call; it registers itself, at the gateway that the load balancer chooses."""
    port = free_port()
    scene.fleet.add_app(f"{_MODULE}.sdk_app", str(port), INNGEST_DEV=url)
    await _register(scene, port)


async def _register(scene: Scene, port: int) -> None:
    await _until_up(scene, "app")
    async with httpx.AsyncClient(trust_env=False, timeout=UP_S_MAX) as client:
        (await client.put(f"http://127.0.0.1:{port}/api/inngest")).raise_for_status()


async def start_connected(scene: Scene, url: str) -> None:
    """Start two processes of the app that connect, each to the gateway that the load balancer chooses."""
    for _ in range(2):
        scene.fleet.add_app(f"{_MODULE}.connected_app", INNGEST_DEV=url)
    await _until_up(scene, "app")


async def start_reporting(scene: Scene, url: str) -> None:
    """Start the app that gateways call, and that reports each step to the gateway that the load balancer chooses."""
    folder, port = scene.fleet.folder / "program", free_port()
    shutil.copytree(ROOT / "tests" / "gateway" / "sdks" / "javascript", folder)
    shutil.copy(ROOT / "tests" / "kafka" / "chaos" / "checkpoint_app.mjs", folder)
    await asyncio.to_thread(install, folder, "npm", "ci")
    variables = {"PORT": str(port), "INNGEST_DEV": url, "CHAOS_UP": UP["app"]}
    scene.fleet.add_app(f"{_MODULE}.node_app", str(folder / "checkpoint_app.mjs"), **variables)
    await _register(scene, port)


async def act(
    broker: Broker | Brokers,
    folder: Path,
    plan: Plan,
    report: Callable[[str], None],
    start_app: StartApp = start_served,
    steps: Steps = STEPS,
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
        broken = judge_all(runs, scene.effects.lines(), scene.load.sent, steps)
        return Verdict([*broken, *judge_evidence(scene.struck, figures)], figures)


async def _start(scene: Scene, plan: Plan, ports: list[int]) -> None:
    """Start engines and gateways."""
    fleet = scene.fleet
    for _ in range(plan.engines):
        fleet.add_engine(module=f"{_MODULE}.zombie_engine")
    for each in ports:
        options = ("--port", str(each), "--connect-port", "0", "--peer-url", f"http://127.0.0.1:{each}")
        fleet.add_gateway(*options, module=f"{_MODULE}.hasty_gateway")
    for role in ("engine", "gateway"):
        await _until_up(scene, role)


async def _until_up(scene: Scene, role: str) -> None:
    if not await until(lambda: all(member.said(UP[role]) for member in scene.members(role)), UP_S_MAX):
        raise TimeoutError(f"not every {role} has started:\n{scene.fleet.logs()}")


act_connected = functools.partial(act, start_app=start_connected)
act_reporting = functools.partial(act, start_app=start_reporting, steps=REPORTED)
_ACTS = {"CONNECTED=1": act_connected, "CHECKPOINTS=1": act_reporting}


if __name__ == "__main__":
    given = sys.argv[1:]
    chosen = next((found for name, found in _ACTS.items() if name in given), act)
    numbers = [each for each in given if not each.startswith(("CONNECTED=", "CHECKPOINTS="))]
    sys.exit(main(plan_from(numbers, FAULTS), chosen))
