"""A run in the memory of a worker."""

from dataclasses import dataclass, field

from stepstream.contract.codec import encode
from stepstream.contract.commands import RunLoaded, RunResumed, RunStarted
from stepstream.contract.inbox import RunLeased
from stepstream.runtime.worker.options import WorkerOptions
from stepstream.runtime.worker.runs.work_item import WorkItem
from stepstream.sdk.replay.calls import Runner
from stepstream.sdk.replay.replay import Snapshot
from stepstream.sdk.served import ServedApp


@dataclass(slots=True, eq=False)
class LiveRun(WorkItem):
    """A run, which this worker has under the claim with the number `epoch`.

    `attempt` counts the attempts of the code between steps. `given` is the state from which the code will start.
    `incoming` is the command that is being processed, and `results` are commands that the code gets when it has a slot.
    `news` is the number of the last RunResumed that was read. With `reports_parked` the worker reports that the code
    waits for the engine.
    """

    epoch: int = 0
    attempt: int = 0
    started_at: int = 0
    given: RunStarted | RunLoaded | None = None
    incoming: RunResumed | None = None
    results: list[RunResumed] = field(default_factory=list)
    news: int = 0
    reports_parked: bool = False

    @property
    def key(self) -> str:
        """What identifies it in its worker."""
        return self.run_id

    @property
    def code(self) -> str:
        """The id of its function."""
        return self.given.function if self.given else self.function

    def lease(self, for_ms: int) -> bytes:
        """Return the report of a lease; with 0 it is released."""
        return encode(RunLeased(self.run_id, self.epoch, for_ms))

    def accept(self, command: RunStarted | RunLoaded) -> None:
        """Keep the state from which the code starts."""
        self.given, self.epoch, self.claim = command, command.epoch, ""
        self.started_at = command.started_at
        self.news, self.reports_parked = 0, command.report_parked

    def forget_state(self, claim: str) -> None:
        """Forget what is known of the run: it is claimed again."""
        self.given, self.claim = None, claim
        self.results.clear()

    def start(self, runner: Runner, app: ServedApp, options: WorkerOptions) -> None:
        """Start the code from the state that was given."""
        given, self.given = self.given, None
        if given is None:
            raise RuntimeError(f"run {self.run_id} has no state to start from")
        self.function = given.function
        self.attempt = given.attempt if isinstance(given, RunLoaded) else 0
        memos, opened = (given.memos, given.open) if isinstance(given, RunLoaded) else ((), ())
        state = given.state if isinstance(given, RunLoaded) else {}
        snapshot = Snapshot(
            given.run_id,
            given.epoch,
            memos,
            opened,
            chain=given.chain,
            state=state,
            covers_body=given.covers_body,
        )
        self._start_code(snapshot, runner, app, given.events, options, self.attempt)

    def keep_results(self) -> None:
        """Keep the results of the command that is being processed."""
        if self.incoming:
            self.results.append(self.incoming)

    def resume(self) -> None:
        """Pass the results that were kept to the code."""
        results, self.results = self.results, []
        for command in results:
            if command.memos:
                self.attempt = 0
            if self.running:
                self.running.resume(command.memos, command.retries, command.acknowledged)
