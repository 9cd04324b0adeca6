"""Plans of waits for events: for one event, for the first of several, or for all of them."""

from collections.abc import Sequence

from msgspec.structs import replace

from stepstream.contract.ids import StepRef, branch_waiter
from stepstream.contract.kinds import StepKind
from stepstream.contract.matching import Predicate, WaitOpened
from stepstream.contract.outcomes import ErrorInfo, Failure, Outcome, TimedOut
from stepstream.contract.plans import WaitBranch, WaitPlan
from stepstream.contract.text.waits import wait_text
from stepstream.engine.matching.wait_compiler import ExpressionBudgetExceeded, WaitCompiler
from stepstream.engine.matching.waits import bucket_of
from stepstream.engine.runs.branches import branches_text
from stepstream.engine.runs.opening import open_step
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.rows import Branch, OpenStep
from stepstream.expressions.predicates import EvaluationError, ExpressionError


def plan_wait(draft: Draft, run_id: str, plan: WaitPlan, compiler: WaitCompiler) -> Outcome | None:
    """Open a wait and register it with its matchers; return its result when it has one at once."""
    asked = plan.branches or (WaitBranch("", plan.event, plan.match, plan.condition, plan.lookback_ms),)
    predicates = _predicates(asked, compiler)
    if isinstance(predicates, Failure):
        return predicates
    waits = list(zip(asked, predicates, strict=True))
    if plan.timeout_ms <= 0 and not any(predicate and each.lookback_ms > 0 for each, predicate in waits):
        return TimedOut()
    # With a timeout of 0 the timer fires in the next batch, and the look-back alone decides.
    due = draft.now + plan.timeout_ms
    opened = OpenStep(
        plan.id, StepKind.WAIT, due, group=plan.group, looking_back=any(each.lookback_ms > 0 for each in asked)
    )
    branches = tuple(_branch(each, predicate) for each, predicate in waits)
    if plan.branches:
        opened = replace(opened, branches=branches, every=plan.every)
        detail = branches_text(opened)
    else:
        opened = replace(opened, bucket=branches[0].bucket)
        detail = branches[0].text
    open_step(draft, run_id, plan, opened, detail)
    for number, (each, predicate) in enumerate(waits):
        if predicate:
            waiter = branch_waiter(run_id, plan.step, number) if plan.branches else StepRef(run_id, plan.step)
            _register(draft, waiter, each, predicate, due, compiler)
    return None


def _predicates(asked: Sequence[WaitBranch], compiler: WaitCompiler) -> list[Predicate | None] | Failure:
    try:
        return [compiler.predicate(each.match, each.condition) for each in asked]
    except ExpressionBudgetExceeded as error:
        return Failure(ErrorInfo("ExpressionLimitError", str(error), code=error.code))
    except (ExpressionError, EvaluationError) as error:
        return Failure(ErrorInfo("ExpressionError", str(error), code="invalid-expression"))


def _branch(asked: WaitBranch, predicate: Predicate | None) -> Branch:
    bucket = bucket_of(asked.event, predicate) if predicate else None
    text = wait_text(asked.event, asked.match or asked.condition)
    return Branch(asked.name, text, bucket, looking_back=asked.lookback_ms > 0)


def _register(
    draft: Draft, waiter: StepRef, asked: WaitBranch, predicate: Predicate, due: int, compiler: WaitCompiler
) -> None:
    looking_back, trigger = asked.lookback_ms > 0, compiler.trigger
    lookback_from = max(draft.now - asked.lookback_ms, 1) if looking_back else 0
    trigger_id = trigger.id if looking_back and trigger.name == asked.event else ""
    bucket = bucket_of(asked.event, predicate)
    draft.route(asked.event, WaitOpened(waiter, bucket, predicate, due, lookback_from, trigger_id))
