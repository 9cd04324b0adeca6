"""What an app asks for, as plans of the engine."""

from collections.abc import Mapping

from stepstream.contract.events import INVOKED, EventRecord, check_batch
from stepstream.contract.kinds import StepKind
from stepstream.contract.limits import SDK_LIMITS
from stepstream.contract.plans import InvokePlan, RunPlan, SignalPlan, SleepPlan, StepPlan, WaitPlan
from stepstream.gateway.wire.ops import InvokeOp, Op, PlannedOp, SignalOp, SleepOp, WaitOp

KINDS: Mapping[type[Op], StepKind] = {
    SleepOp: StepKind.SLEEP,
    WaitOp: StepKind.WAIT,
    SignalOp: StepKind.SIGNAL,
    InvokeOp: StepKind.INVOKE,
}


def plan_of(op: Op, now_ms: int, group: str, *, limited: bool) -> StepPlan | None:
    """Return the plan of an op, None for what a call executes; raise InvalidInput for too long a time or too much data.

    Limits on the steps of the function delay calls for steps: then the engine says when they are due.
    """
    match op:
        case SleepOp(step, id):
            return SleepPlan(step, id, op.until.at(now_ms), group)
        case WaitOp(step, id):
            left = op.timeout.at(now_ms) - now_ms
            return WaitPlan(step, id, op.event, left, condition=op.condition, group=group)
        case SignalOp(step, id):
            left = op.timeout.at(now_ms) - now_ms
            return SignalPlan(step, id, op.signal, left, op.replace, group)
        case InvokeOp(step, id):
            check_batch([EventRecord(INVOKED, op.data, user=op.user, v=op.v, meta=op.meta)], SDK_LIMITS)
            left = op.timeout.at(now_ms) - now_ms
            return InvokePlan(step, id, op.function, left, op.data, group, user=op.user, v=op.v, meta=op.meta)
        case PlannedOp(step, id) if limited:
            return RunPlan(step, id, "", group)
    return None
