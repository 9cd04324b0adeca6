"""One program of 60 functions in each official SDK, whose runs end alike: every kind of step, error and limit."""

import itertools
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway.sdks.expected import Case, Ending, cases_of
from tests.gateway.sdks.processes import READY_S_MAX, Processes, Server, install, running, start_dev
from tests.kafka.cluster.broker import free_port
from tests.kafka.cluster.fleet import Fleet
from tests.kafka.cluster.observed import Observed
from tests.polling import until, within
from tests.tidy_rules import ROOT

pytestmark = pytest.mark.long
PROGRAMS = ROOT / "tests" / "gateway" / "sdks"
END_S_MAX = 240.0
SHARDS = 4
# Three runs start in three seconds.
THROTTLED_MS = 2_000
OPEN = ("scheduled", "queued", "running")
# Steps that an app reports during a call need no further ones.
CALLS_FOR_THREE_STEPS = {
    "javascript-4": 1,
    "javascript-4-plain": 4,
    "javascript-3": 4,
    "javascript-3-checkpoints": 1,
    "go": 4,
    "go-checkpoints": 1,
}


COMMANDS = {
    "javascript": ["node", "program.mjs"],
    "python": [sys.executable, "-m", "tests.gateway.sdks.python.program"],
    "go": ["./program"],
}
# What prepares a program in a copy of its folder.
INSTALLATIONS = {"javascript": ["npm", "ci"], "go": ["go", "build", "."]}


@dataclass(frozen=True, slots=True)
class App:
    """The program in an SDK: its name, the variables that select the SDK, and the app that it calls."""

    name: str
    port: int
    foreign: str
    variables: Mapping[str, str]

    @property
    def url(self) -> str:
        """Where it is served."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, processes: Processes, server: Server, programs: Mapping[str, Path]) -> None:
        """Start its process and register it."""
        language = self.name.partition("-")[0]
        variables = {"APP": self.name, "FOREIGN": self.foreign, "PORT": str(self.port), "INNGEST_DEV": server.url}
        if language == "python":
            variables["PYTHONPATH"] = os.pathsep.join(sys.path)
        processes.start(self.name, COMMANDS[language], programs.get(language, ROOT), **variables, **self.variables)
        until(self._registers, READY_S_MAX, f"{self.name} did not register")

    def _registers(self) -> bool:
        try:
            return httpx.put(f"{self.url}/api/inngest").is_success
        except httpx.TransportError:
            return False


def apps() -> list[App]:
    """Return the apps, each of which calls the next one."""
    variables = {
        "javascript-4": {"SDK": "inngest"},
        "javascript-4-plain": {"SDK": "inngest", "CLIENT": '{"checkpointing": false}'},
        "python": {},
        "javascript-3": {"SDK": "inngest-v3"},
        "javascript-3-checkpoints": {"SDK": "inngest-v3", "CLIENT": '{"checkpointing": true}'},
        "go": {},
        "go-checkpoints": {"CHECKPOINTS": "on"},
    }
    names = list(variables)
    return [App(name, free_port(), names[at - 1], variables[name]) for at, name in enumerate(names)]


def ending(run: Mapping[str, Any]) -> Ending:
    """Return how a run ended."""
    match run["status"]:
        case "completed":
            return "completed", run["output"]
        case "failed":
            return "failed", run["error"]["message"]
        case "skipped":
            return "skipped", run["error"]["code"]
        case status:
            return status, None


def differences(server: Server, app: App, *, shards: int) -> list[str]:
    """Return what differs from the table of expected ends."""
    runs = [server.run(each["run_id"]) for each in server.runs(filter=f"app:{app.name}")]
    found = []
    for case in cases_of(app.name):
        ends = [ending(run) for run in runs if run["function"] == f"{app.name}-{case.function}"]
        compared = of_unordered if case.is_ordered and shards > 1 else in_order
        if compared(ends) != compared(case.expected(app.name, app.name)):
            found.append(f"{app.name}: {case.function} ended as {ends}")
    throttled = [run for run in runs if run["function"] == f"{app.name}-throttle"]
    if max(run["ended_at"] for run in throttled) - min(run["started_at"] for run in throttled) < THROTTLED_MS:
        found.append(f"{app.name}: the throttle had no effect")
    return found


def in_order(ends: Sequence[Ending]) -> list[str]:
    """Return ends in an order that does not depend on that of the runs."""
    return sorted(json.dumps(end, sort_keys=True) for end in ends)


def of_unordered(ends: Sequence[Ending]) -> list[str]:
    """Return what does not depend on the order of events: outputs do."""
    return in_order([(status, None if status == "completed" else value) for status, value in ends])


def send(server: Server, app: App, cases: Sequence[Case]) -> None:
    """Send the events: those of a function with several ones each by itself, so that they have an order."""
    named = [[{"name": f"{app.name}/{case.function}", **event} for event in case.events] for case in cases]
    server.send(*itertools.chain.from_iterable(events for events in named if len(events) == 1))
    for event in itertools.chain.from_iterable(events for events in named if len(events) > 1):
        server.send(event)


def check(server: Server, apps: Sequence[App], *, shards: int = 1) -> None:
    """Run the program in each app, and compare how all runs end."""
    expected = {app.name: cases_of(app.name) for app in apps}
    functions = {f"{name}-{case.function}" for name, cases in expected.items() for case in cases}
    until(lambda: functions <= server.functions(), READY_S_MAX, "not all functions were registered")
    for app in apps:
        send(server, app, expected[app.name])
    count = sum(len(case.expected(name, name)) for name, cases in expected.items() for case in cases)
    within(END_S_MAX, lambda: ended(server, apps) >= count)
    found = [line for app in apps for line in differences(server, app, shards=shards)]
    assert not found, "\n".join(found)


def ended(server: Server, apps: Sequence[App]) -> int:
    """Return how many runs have ended."""
    return sum(run["status"] not in OPEN for app in apps for run in server.runs(filter=f"app:{app.name}"))


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Folders with the programs by language, and with the packages that they need, from the registries."""
    folders = {language: tmp_path_factory.mktemp(language) for language in INSTALLATIONS}
    for language, folder in folders.items():
        for file in (PROGRAMS / language).iterdir():
            if file.is_file():
                shutil.copy(file, folder)
        install(folder, *INSTALLATIONS[language])
    return folders


def test_program_ends_alike_in_each_sdk(programs: Mapping[str, Path], tmp_path: Path) -> None:
    """`stepstream dev` runs the program, and a run with checkpoints costs one call."""
    served = apps()
    with running(tmp_path) as processes:
        server = start_dev(processes, [f"{app.url}/api/inngest" for app in served])
        for app in served:
            app.start(processes, server, programs)
        check(server, served)
        calls = {app.name: processes.client.get(f"{app.url}/calls").json() for app in served if app.name != "python"}
        three_steps = {name: counts[f"{name}-three-steps"] for name, counts in calls.items()}
        assert three_steps == CALLS_FOR_THREE_STEPS


@pytest.mark.kafka
def test_program_ends_alike_on_kafka(programs: Mapping[str, Path], bootstrap: str, tmp_path: Path) -> None:
    """A gateway and an engine of four shards run the program."""
    served, fleet = apps(), Fleet(bootstrap, "sdks", tmp_path)
    with fleet, Observed(fleet) as observed, running(tmp_path) as processes:
        fleet.command("topics", "apply", "--shards", str(SHARDS))
        engine, gateway = fleet.add_engine(), fleet.add_gateway()
        until(lambda: observed.answers("/ready") == {200}, READY_S_MAX, "the processes were not ready")
        # Later their logs have other URLs.
        server = Server(processes.client, observed.url(gateway), observed.url(engine))
        for app in served:
            app.start(processes, server, programs)
        check(server, served, shards=SHARDS)
