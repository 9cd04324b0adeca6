"""A run's code without an engine: a runner that records what the code requests, and answers when the test says so."""

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from stepstream.contract.attributes import AttributeChanges
from stepstream.contract.codec import Json, load_json
from stepstream.contract.commands import Memo, Open
from stepstream.contract.events import event_record
from stepstream.contract.ids import step_hash
from stepstream.contract.inbox import StepsPlanned
from stepstream.contract.kinds import StepKind
from stepstream.contract.limits import DEFAULT_LIMITS, Limits
from stepstream.contract.outcomes import Outcome, Value
from stepstream.contract.plans import StepPlan
from stepstream.contract.run_state import StateValues
from stepstream.sdk.context import Context, make_context
from stepstream.sdk.event import from_record
from stepstream.sdk.function import RetryPolicy
from stepstream.sdk.replay.calls import Call, Finished, RunHandle
from stepstream.sdk.replay.replay import Replay, Snapshot
from stepstream.sdk.replay.tasks import task_factory
from stepstream.sdk.steps.step import Step
from stepstream.sdk.steps.waits import StepOptions
from stepstream.sdk.values import PLAIN_JSON, dump_value

RUN_ID = "01HN4Q5V80ZZZZZZZZZZZZZZZZ"
NOW_MS = 1_767_225_600_000
Code = Callable[[Context], Awaitable[Any]]


def value(given: Any) -> Value:
    """Return a JSON value as the outcome of a step."""
    return Value(dump_value(given, PLAIN_JSON, "value"))


def memo(step_id: str, given: Any, *, seen: int = 0, own: int = 0, kind: str = StepKind.RUN, use: int = 0) -> Memo:
    """Return the kept result of a step."""
    outcome = given if isinstance(given, Outcome) else value(given)
    return Memo(step_hash(step_id, use), step_id, StepKind(kind), outcome, seen, own)


_RUNS: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, list["Run"]] = weakref.WeakKeyDictionary()


class Run:
    """A running function. `bodies` are the steps whose body was started, in order; `plans` the requests to the engine.

    The report of a step in `hold` becomes durable when its gate is open. So many first attempts of a step in `failing`
    fail. The engine acknowledges waits at once, unless `acknowledges` is false. A `dispatched` run serves the one step
    that is `opened`.
    """

    def __init__(
        self,
        code: Code,
        memos: Sequence[Memo] = (),
        opened: Sequence[Open] = (),
        *,
        limits: Limits = DEFAULT_LIMITS,
        hold: Sequence[str] = (),
        failing: Mapping[str, int] | None = None,
        acknowledges: bool = True,
        dispatched: bool = False,
        state: StateValues | None = None,
    ) -> None:
        self.bodies: list[str] = []
        self.reports: list[tuple[str, int]] = []
        self.fingerprints: dict[str, int] = {}
        self.plans: list[StepPlan] = []
        self.cancelled: list[str] = []
        self.ungrouped: list[str] = []
        self.warnings: list[str] = []
        self.attributes: list[AttributeChanges] = []
        self.states: list[dict[str, Json]] = []
        self.detached_count = 0
        self.end: Finished | None = None
        self.gates = {step_id: asyncio.Event() for step_id in hold}
        self._code = code
        self._limits = limits
        self._failing = dict(failing or {})
        self._acknowledges = acknowledges
        self._idle = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.set_task_factory(task_factory)
        # As a worker does, the test keeps a run until the event loop ends, which cancels the tasks of the run.
        _RUNS.setdefault(loop, []).append(self)
        snapshot = Snapshot(RUN_ID, 1, memos, opened, dispatched, state=state or {})
        self.replay = Replay(snapshot, self, limits, now_ms=lambda: NOW_MS)

    async def start(self) -> "Run":
        """Start the code, and return when it is suspended or has ended."""
        event = from_record(event_record("go", {}))
        context = make_context(
            self.replay, Step(self.replay, self._limits, StepOptions(RetryPolicy())), "function", [event], 0
        )
        self.replay.start(lambda: self._code(context), self._code)
        return await self.until_idle()

    @property
    def is_suspended(self) -> bool:
        """Whether the code is suspended or has ended, and no test has waited for that yet."""
        return self._idle.is_set()

    async def until_idle(self) -> "Run":
        """Return when the code is suspended or has ended."""
        await asyncio.wait_for(self._idle.wait(), 60)
        self._idle.clear()
        return self

    async def resume(self, *memos: Memo) -> "Run":
        """Give results of the engine, and return when the code is suspended again or has ended."""
        self.replay.resume(memos, (), acknowledged=True)
        return await self.until_idle()

    @property
    def output(self) -> Any:
        """What the code returned; raises what it raised."""
        assert self.end is not None, "the code has not ended"
        if self.end.error:
            raise self.end.error
        assert self.end.output is not None
        return load_json(self.end.output)

    # The Runner.

    async def execute(self, handle: RunHandle, call: Call) -> Outcome | None:
        """Run a body, and make its report durable."""
        self.bodies.append(call.id)
        assert call.body is not None
        if self._failing.get(call.id, 0) > call.attempt:
            if call.id in self.gates:
                await self.gates[call.id].wait()
            return None
        result = call.body()
        outcome = value(await result if asyncio.iscoroutine(result) else result)
        self.reports.append((call.id, handle.begin_report(call)))
        self.fingerprints[call.step] = call.fingerprint
        if call.id in self.gates:
            await self.gates[call.id].wait()
        return outcome

    async def report(self, handle: RunHandle, call: Call, outcome: Outcome) -> None:
        """Record a result whose body has run elsewhere."""
        self.reports.append((call.id, handle.begin_report(call)))

    def plan(self, handle: RunHandle, planned: StepsPlanned) -> None:
        """Record what is requested of the engine."""
        self.plans += planned.plans
        self.cancelled += planned.cancelled
        self.ungrouped += planned.ungrouped
        if planned.acknowledge and self._acknowledges:
            asyncio.get_running_loop().call_soon(self.replay.resume, (), (), True)

    def warn(self, handle: RunHandle, warning: str) -> None:
        """Record a warning."""
        self.warnings.append(warning)

    def set_attributes(self, handle: RunHandle, changes: AttributeChanges) -> None:
        """Record a change of attributes."""
        self.attributes.append(changes)

    def set_state(self, handle: RunHandle, values: StateValues) -> None:
        """Record a new state."""
        self.states.append({name: load_json(value) for name, value in values.items()})

    def suspended(self, handle: RunHandle) -> None:
        """Record that the code is suspended."""
        self._idle.set()

    def detached(self, handle: RunHandle) -> None:
        """Count how often the code was found to wait on external work."""
        self.detached_count += 1

    def finished(self, handle: RunHandle, end: Finished) -> None:
        """Record how the code ended."""
        self.end = end
        self._idle.set()
