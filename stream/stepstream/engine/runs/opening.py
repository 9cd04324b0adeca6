"""Opens the steps that the code plans."""

from msgspec.structs import replace

from stepstream.contract.history import StepPlanned
from stepstream.contract.operators.approvals import ApprovalRequest
from stepstream.contract.operators.run_requests import AcceptedRequest
from stepstream.contract.plans import StepPlan
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.rows import OpenStep, Run, Timer, TimerKind


def open_run(draft: Draft, run_id: str) -> Run:
    """Return the run whose plans are being applied."""
    run = draft.run(run_id)
    assert run is not None, "a plan that ends its run raises LimitExceeded"
    return run


def open_step(
    draft: Draft,
    run_id: str,
    plan: StepPlan,
    opened: OpenStep,
    detail: str = "",
    approval: ApprovalRequest | None = None,
    request: AcceptedRequest | None = None,
) -> Run:
    """Open a planned step; return its run."""
    run = open_run(draft, run_id)
    if plan.fingerprint:
        opened = replace(opened, fingerprint=plan.fingerprint)
    run = replace(run, steps=run.steps + 1, opened_steps=True)
    run = draft.record(run, StepPlanned, plan.step, plan.id, opened.kind, detail, opened.due, approval, request)
    draft.put_step(run_id, plan.step, None, opened)
    if opened.due:
        draft.arm(opened.due, Timer(TimerKind.STEP, run_id, plan.step))
    return run
