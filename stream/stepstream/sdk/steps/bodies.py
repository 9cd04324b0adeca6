"""Steps with a body: the code that a worker runs in an attempt, and what the engine is asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stepstream.contract.ids import StepHash
from stepstream.contract.outcomes import Outcome
from stepstream.contract.plans import RunPlan
from stepstream.sdk.errors import StepUsageError
from stepstream.sdk.function import name_of
from stepstream.sdk.replay.calls import RUN, Call
from stepstream.sdk.replay.replay import Replay
from stepstream.sdk.steps.step_call import StepCall, plain_value
from stepstream.sdk.steps.waits import StepOptions
from stepstream.sdk.values import ReturnType


@dataclass(frozen=True, slots=True)
class StepBody:
    """The body of a step, the type of its results, and what the code passes to it."""

    id: str
    run: Callable[[], Any]
    returns: ReturnType
    arguments: Mapping[str, Any]


def body_step(
    replay: Replay, options: StepOptions, body: StepBody, value_of: Callable[[Call, Outcome], Any] = plain_value
) -> StepCall[Any]:
    """Return the step that runs a body; `value_of` makes what the code gets of its outcome."""

    def call_of(step: StepHash) -> Call:
        def plan(call: Call) -> RunPlan:
            known = step, body.id, options.queue, call.group
            covered = call.covered and not call.shares
            return RunPlan(*known, limits=options.limits, units=options.units, covered=covered)

        planned = plan if options.queue or options.limited or options.limits else None
        limited = options.limited and not options.queue
        return Call(
            step,
            body.id,
            RUN,
            body=body.run,
            returns=body.returns,
            policy=options.policy,
            plan=planned,
            limited=limited,
            shares=limited and not options.limits,
        )

    return StepCall(replay, body.id, call_of, value_of, body.arguments)


def check_body(method: str, id: Any, fn: Any) -> None:
    """Raise StepUsageError unless a step was called with an id and a callable."""
    if callable(id):
        raise StepUsageError(
            f"the first argument of {method} is the step's id: {method}('{name_of(id)}', {name_of(id)}, …)"
        )
    if not callable(fn):
        raise StepUsageError(
            f"step {id!r}: the second argument is the callable itself, not its result: {method}(id, f, x)"
        )
