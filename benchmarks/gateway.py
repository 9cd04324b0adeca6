"""Apps of an official SDK beside a Python worker: three-step runs by one `stepstream dev`, over HTTP and a connection.

HTTP is measured with the SDK for TypeScript 4, from its registry, and a connection with the one for Python: Node 20
has no WebSocket. Each app is a process. All times are those in the records of the engine: from the acceptance of an
event to the end of its run.
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.functions import Figure
from tests.gateway.sdks.processes import READY_S_MAX, Processes, Server, install, running
from tests.kafka.cluster.broker import free_port
from tests.polling import until
from tests.tidy_rules import ROOT

APPS = ROOT / "benchmarks" / "sdk"
PACKAGES = ROOT / "tests" / "gateway" / "sdks" / "javascript"
WARM_RUNS = 200
RUNS = 1_000
IDLE_RUNS = 100
_END_S_MAX = 120.0
# Between two runs of an idle engine.
_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Case:
    """One way to run code: what it is, its event, its function, and what it aims at."""

    name: str
    event: str
    function: str
    rate_aim: str = ""
    idle_aim: str = ""


PYTHON = Case("Python worker", "bench/three", "three-steps")
SERVED = {
    "serve": Case("serve, TypeScript, a call for each step", "serve/three", "serve-three-steps", ">= 300", "< 25"),
    "checkpoints": Case("serve, TypeScript, checkpoints", "checkpoints/three", "checkpoints-three-steps", "", "< 25"),
    "connect": Case("Connect, Python", "connect/three", "connect-three-steps", "", "< 25"),
}
CASES = (PYTHON, *SERVED.values())


def _runs(server: Server, case: Case, count: int) -> list[dict[str, Any]]:
    """Return the latest runs of a function."""
    runs: list[dict[str, Any]] = server.get("/v1/runs", filter=f"function:{case.function}", limit=count)["runs"]
    return runs


def _metric(server: Server, start: str) -> float:
    """Return the sum of a metric of the process."""
    lines = server.client.get(f"{server.url}/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))


def _ended(server: Server, case: Case) -> float:
    """Return how many runs of a function have ended."""
    return _metric(server, f'stepstream_runs_ended_total{{function="{case.function}"')


def _cpu_s(server: Server) -> float:
    return _metric(server, "process_cpu_seconds_total ")


def _run(server: Server, case: Case, count: int) -> None:
    """Send so many events, and return when their runs have ended."""
    before = _ended(server, case)
    server.send(*({"name": case.event, "data": {"n": number}} for number in range(count)))
    deadline = time.monotonic() + _END_S_MAX
    while _ended(server, case) < before + count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{case.name}: the runs did not end in {_END_S_MAX:.0f} s")
        time.sleep(_PAUSE_S)


def _rate(server: Server, case: Case) -> Iterator[Figure]:
    _run(server, case, WARM_RUNS)
    before_s = _cpu_s(server)
    _run(server, case, RUNS)
    used_s = _cpu_s(server) - before_s
    runs = _runs(server, case, RUNS)
    took_ms = max(run["ended_at"] for run in runs) - min(run["accepted_at"] for run in runs)
    yield Figure(f"{case.name}: three-step runs", len(runs) * 1_000 / took_ms, "runs/s", case.rate_aim)
    yield Figure(f"{case.name}: CPU of stepstream for a run", used_s * 1_000 / len(runs), "ms")


def _idle(server: Server, case: Case) -> Figure:
    for _ in range(IDLE_RUNS):
        _run(server, case, 1)
    took_ms = [run["ended_at"] - run["accepted_at"] for run in _runs(server, case, IDLE_RUNS)]
    return Figure(f"{case.name}: idle run, median", statistics.median(took_ms), "ms", case.idle_aim)


def _start_apps(processes: Processes, server: Server, folder: Path) -> None:
    """Start the apps, and return when their functions are registered."""
    for name in SERVED:
        port = free_port()
        variables: Mapping[str, str] = {"APP": name, "PORT": str(port), "INNGEST_DEV": server.url}
        if name == "connect":
            command, path = [sys.executable, str(APPS / "connected.py")], os.pathsep.join(sys.path)
            processes.start(name, command, folder, **variables, PYTHONPATH=path)
        else:
            url = f"http://127.0.0.1:{port}/api/inngest"
            processes.start(name, ["node", "app.mjs"], folder, **variables)
            until(lambda at=url: _registers(at), READY_S_MAX, f"{name} did not register")  # type: ignore[misc]
    functions = {case.function for case in CASES}
    until(lambda: functions <= server.functions(), READY_S_MAX, "not all functions were registered")


def _registers(url: str) -> bool:
    try:
        return httpx.put(url).is_success
    except httpx.TransportError:
        return False


def _start(processes: Processes) -> Server:
    port = free_port()
    command = [sys.executable, "-m", "stepstream", "dev", "benchmarks/functions.py", "--port", str(port), "--no-reload"]
    data = ["--data-dir", str(processes.folder / "data")]
    processes.start("dev", [*command, *data], ROOT, PYTHONPATH=os.pathsep.join(sys.path))
    url = f"http://127.0.0.1:{port}"
    until(lambda: _answers(f"{url}/ready"), READY_S_MAX, "stepstream dev did not start")
    return Server(processes.client, url, f"{url}/api")


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def gateway() -> Iterator[Figure]:
    """Yield the rate, the CPU time and the idle latency of each case, all by the same process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in (APPS / "app.mjs", PACKAGES / "package.json", PACKAGES / "package-lock.json"):
            shutil.copy(file, folder)
        install(folder, "npm", "ci")
        with running(folder) as processes:
            server = _start(processes)
            _start_apps(processes, server, folder)
            for case in CASES:
                yield from _rate(server, case)
            for case in CASES:
                yield _idle(server, case)


ALL = (gateway,)


def main(_chosen: set[str]) -> Iterator[Figure]:
    """Run the benchmark."""
    yield from gateway()
