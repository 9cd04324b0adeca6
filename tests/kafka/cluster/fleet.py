"""Real processes of a cluster for tests: engines and workers that are killed and restarted."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[3]
# The folder of the apps that fleets run.
APPS = Path(__file__).parents[1]
# The variable with the file that says by how many seconds the clock of a process is wrong, if its module reads it.
CLOCK_FILE = "SHIFTED_CLOCK_FILE"
_ASSIGNED = re.compile(r"^(\S+Z) .*: shards \[(.*)\] assigned", re.MULTILINE)


# Later than any time.
NEVER_NS = 2**63 - 1


@dataclass(slots=True)
class Life:
    """A process of a member: when it began and ended, and from when to when it was frozen (monotonic ns)."""

    pid: int
    began_ns: int
    ended_ns: int = NEVER_NS
    frozen: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Member:
    """A process that can be killed and restarted under the same name, on the same disk."""

    name: str
    arguments: list[str]
    environment: dict[str, str]
    log: Path
    disk: Path
    module: str = "stepstream"
    process: subprocess.Popen[bytes] | None = None
    kills: int = 0
    lives: list[Life] = field(default_factory=list)
    _log_start: int = 0

    def start(self) -> None:
        """Start the process."""
        self._note_end()
        began_ns = time.monotonic_ns()
        command = [sys.executable, "-m", self.module, *self.arguments]
        environment = {**os.environ, **self.environment}
        with self.log.open("ab") as log:
            self._log_start = os.fstat(log.fileno()).st_size
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=ROOT)
        self.lives.append(Life(self.process.pid, began_ns))

    def _note_end(self) -> None:
        """Note that the last process has ended, if that was not known."""
        if self.lives:
            self.lives[-1].ended_ns = min(self.lives[-1].ended_ns, time.monotonic_ns())

    @property
    def pid(self) -> int:
        """The id of the process, which was started."""
        assert self.process is not None
        return self.process.pid

    def said(self, words: str) -> int:
        """Return how often the process has logged some words since its last start."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().count(words.encode())

    @property
    def assigned(self) -> str:
        """The shards of an engine by its last assignment since it started; empty if there are none."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            found = _ASSIGNED.findall(log.read().decode(errors="replace"))
        return found[-1][1] if found else ""

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self._note_end()
            self.kills += 1

    def wipe(self) -> None:
        """Delete the disk of a killed process."""
        shutil.rmtree(self.disk, ignore_errors=True)

    def keep_copy(self) -> None:
        """Copy the disk of a killed process, and replace an older copy."""
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self.disk, self._copy)

    def put_back(self) -> bool:
        """Replace the disk of a killed process by the copy; return False when there is no copy."""
        if not self._copy.is_dir():
            return False
        self.wipe()
        shutil.copytree(self._copy, self.disk)
        return True

    @property
    def _copy(self) -> Path:
        return self.disk.with_suffix(".old")

    @property
    def stop_file(self) -> Path:
        """The file that makes a process suspend itself."""
        return self.disk.with_suffix(".stop")

    def set_clock(self, seconds: float) -> None:
        """Set the wall clock of a process whose module allows that ahead of the right time, or behind it."""
        Path(self.environment[CLOCK_FILE]).write_text(str(seconds))

    def freeze(self) -> None:
        """Suspend the process."""
        if self.process is not None:
            self.lives[-1].frozen.append((time.monotonic_ns(), NEVER_NS))
            self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume the process."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            # A process may have suspended itself.
            if frozen := self.lives[-1].frozen:
                frozen[-1] = (frozen[-1][0], time.monotonic_ns())

    def stop(self) -> None:
        """Stop the process with SIGTERM, as an operator does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self._note_end()

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self.process is not None and self.process.poll() is not None


@dataclass(slots=True)
class Fleet:
    """Some engines and workers on one cluster, with a folder each, and the processes of apps that gateways call."""

    bootstrap: str
    namespace: str
    folder: Path
    app: Path | None = None
    engines: list[Member] = field(default_factory=list)
    workers: list[Member] = field(default_factory=list)
    apps: list[Member] = field(default_factory=list)
    # Further variables of each process, such as its Kafka user.
    variables: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        """Return it; all processes are stopped afterwards."""
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Stop all processes, and add their logs to an error."""
        if error is not None:
            error.add_note(self.logs())
        self.stop()

    @property
    def effects(self) -> Path:
        """The file to which step bodies append what they do."""
        return self.folder / "effects.txt"

    @property
    def bodies(self) -> Path:
        """The file to which bodies that a limit counts append when they start and end."""
        return self.effects.with_name("bodies.txt")

    @property
    def environment(self) -> dict[str, str]:
        """The variables of each process."""
        return {
            "STEPSTREAM_KAFKA_BOOTSTRAP": self.bootstrap,
            "STEPSTREAM_KAFKA_NAMESPACE": self.namespace,
            "CHAOS_EFFECTS": str(self.effects),
            "CHAOS_BODIES": str(self.bodies),
            **self.variables,
        }

    def command(self, *arguments: str) -> str:
        """Run a command of stepstream, which must succeed, and return its output."""
        command = [sys.executable, "-m", "stepstream", *arguments]
        environment = {**os.environ, **self.environment}
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def add_engine(self, *options: str, module: str = "stepstream", **environment: str) -> Member:
        """Start another engine, or a module that wraps one."""
        name = f"engine-{len(self.engines)}"
        arguments = ["engine", "--data-dir", str(self.folder / name), "--port", "0", *options]
        return self._add(self.engines, name, arguments, environment, module)

    def add_worker(self, *options: str, module: str = "stepstream", **environment: str) -> Member:
        """Start another worker, or a module that wraps one."""
        name = f"worker-{len(self.workers)}"
        return self._add(self.workers, name, ["worker", str(self.app), *options], environment, module)

    def add_gateway(self, *options: str, module: str = "stepstream", **environment: str) -> Member:
        """Start another gateway, or a module that wraps one."""
        name = f"gateway-{len(self.workers)}"
        arguments = ["gateway", "--data-dir", str(self.folder / name), "--port", "0", *options]
        return self._add(self.workers, name, arguments, environment, module)

    def add_app(self, module: str, *arguments: str, **environment: str) -> Member:
        """Start a process of an app that gateways call."""
        return self._add(self.apps, f"app-{len(self.apps)}", [*arguments], environment, module)

    def _add(
        self,
        members: list[Member],
        name: str,
        arguments: list[str],
        environment: Mapping[str, str],
        module: str,
    ) -> Member:
        # With a static name a restarted member keeps its partitions in the group.
        files = {"ZOMBIE_STOP_FILE": str(self.folder / f"{name}.stop"), CLOCK_FILE: str(self.folder / f"{name}.clock")}
        own = {**self.environment, **files, "STEPSTREAM_INSTANCE": name, **environment}
        member = Member(name, arguments, own, self.folder / f"{name}.log", self.folder / name, module)
        member.start()
        members.append(member)
        return member

    @property
    def members(self) -> list[Member]:
        """All processes."""
        return [*self.workers, *self.engines, *self.apps]

    def stop(self) -> None:
        """Stop all processes with SIGTERM."""
        for member in self.members:
            member.stop()

    def kill(self) -> None:
        """Kill all processes with SIGKILL."""
        for member in self.members:
            if not member.ended:
                member.kill()

    def moves(self) -> int:
        """Return how often a shard was assigned to another engine than before, from the logs of the engines."""
        assignments = [
            (at, shard, engine.name)
            for engine in self.engines
            for at, shards in _ASSIGNED.findall(engine.log.read_text())
            for shard in filter(None, shards.split(", "))
        ]
        owners: dict[str, str] = {}
        moved = 0
        for _, shard, name in sorted(assignments):
            moved += owners.setdefault(shard, name) != name
            owners[shard] = name
        return moved

    def logs(self) -> str:
        """Return the ends of all logs."""
        return "\n".join(f"== {m.name}\n{m.log.read_text()[-3_000:]}" for m in self.members)
