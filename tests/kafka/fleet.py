"""Real processes of a cluster for tests: engines and workers that are killed and started again."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(slots=True)
class Member:
    """A process that can be killed and comes back under the same name, on the same disk."""

    name: str
    arguments: list[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    kills: int = 0

    def start(self) -> None:
        """Start the process."""
        command = [sys.executable, "-m", "stepstream", *self.arguments]
        environment = {**os.environ, **self.environment, "STEPSTREAM_INSTANCE": self.name}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=ROOT)

    def kill(self) -> None:
        """Kill the process where it is."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.kills += 1

    def freeze(self) -> None:
        """Stop the process without its knowing."""
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a stopped process go on."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the process as an operator does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @property
    def ended(self) -> bool:
        """Tell whether the process is gone by itself."""
        return self.process is not None and self.process.poll() is not None


@dataclass(slots=True)
class Fleet:
    """Some engines and workers on one cluster, with a folder each."""

    bootstrap: str
    namespace: str
    folder: Path
    app: Path
    effects: Path
    engines: list[Member] = field(default_factory=list)
    workers: list[Member] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What each process finds in its environment."""
        return {
            "STEPSTREAM_KAFKA_BOOTSTRAP": self.bootstrap,
            "STEPSTREAM_KAFKA_NAMESPACE": self.namespace,
            "CHAOS_EFFECTS": str(self.effects),
        }

    def command(self, *arguments: str) -> str:
        """Run a command of stepstream and return what it prints."""
        command = [sys.executable, "-m", "stepstream", *arguments]
        environment = {**os.environ, **self.environment}
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def add_engine(self, *options: str) -> Member:
        """Start another engine."""
        name = f"engine-{len(self.engines)}"
        arguments = ["engine", "--data-dir", str(self.folder / name), "--port", "0", *options]
        return self._add(self.engines, name, arguments)

    def add_worker(self, *options: str, **environment: str) -> Member:
        """Start another worker."""
        name = f"worker-{len(self.workers)}"
        return self._add(self.workers, name, ["worker", str(self.app), *options], environment)

    def _add(
        self, members: list[Member], name: str, arguments: list[str], environment: Mapping[str, str] | None = None
    ) -> Member:
        own = {**self.environment, **(environment or {})}
        member = Member(name, arguments, own, self.folder / f"{name}.log")
        member.start()
        members.append(member)
        return member

    def stop(self) -> None:
        """End all."""
        for member in [*self.workers, *self.engines]:
            member.stop()

    def logs(self) -> str:
        """Return the ends of all logs."""
        return "\n".join(f"== {m.name}\n{m.log.read_text()[-3_000:]}" for m in [*self.engines, *self.workers])
