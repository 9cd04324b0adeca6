"""What a run's code asks for, and who does it: the words between Replay and its runner."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from stepstream.contract.codec import Raw
from stepstream.contract.ids import StepHash
from stepstream.contract.inbox import StepPlan, StepsPlanned
from stepstream.contract.kinds import StepKind
from stepstream.contract.outcomes import Outcome
from stepstream.sdk.function import RetryPolicy
from stepstream.sdk.quiet import StepFuture
from stepstream.sdk.values import PLAIN_JSON, ReturnType

RUN, SLEEP, WAIT, SIGNAL, SEND, INVOKE = StepKind


@dataclass(slots=True, eq=False)
class Call:
    """A step that the code has asked for and that has no result yet; `member` is its task when a group waits for it."""

    step: StepHash
    id: str
    kind: StepKind
    body: Callable[[], Any] | None = None
    returns: ReturnType = PLAIN_JSON
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    plan: Callable[["Call"], StepPlan] | None = None
    attempt: int = 0
    group: str = ""
    planned: bool = False
    waiting: StepFuture | None = None
    member: asyncio.Task[Any] | None = None

    @property
    def is_own(self) -> bool:
        """Tell whether the worker that holds the run runs the body of this step itself."""
        return self.kind == RUN and self.plan is None


@dataclass(frozen=True, slots=True)
class Finished:
    """How the code ended: `error` None and its output, or the error."""

    output: Raw | None = None
    error: BaseException | None = None


class RunHandle(Protocol):
    """A run whose code is running, under one claim (`epoch`); `seen` counts the engine results that it was given."""

    run_id: str
    epoch: int
    seen: int
    over: bool

    def begin_report(self, call: Call) -> int:
        """Fix the place of the result of `call` among all results, and return the `seen` of its report.

        The runner calls this before it writes the report. Until the code has this result, it gets none of the engine.
        """


class Runner(Protocol):
    """Who does what the code asks for."""

    async def execute(self, run: "RunHandle", call: Call) -> Outcome | None:
        """Run a step's body and have its result kept; None when another attempt comes later."""

    def plan(self, run: "RunHandle", planned: StepsPlanned) -> None:
        """Ask the engine for steps."""

    def warn(self, run: "RunHandle", warning: str) -> None:
        """Have it recorded that the run's code and its history disagree."""

    def suspended(self, run: "RunHandle") -> None:
        """The code can do nothing more until something comes from the engine, which has a step open that it awaits."""

    def detached(self, run: "RunHandle") -> None:
        """The code waits on external work, such as a socket or a lock of another run; may be called repeatedly."""

    def finished(self, run: "RunHandle", end: Finished) -> None:
        """The code has ended."""
