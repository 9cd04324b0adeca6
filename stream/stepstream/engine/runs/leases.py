"""Leases: a worker that left its group keeps the runs and dispatched steps that it still executes."""

from stepstream.contract.ids import run_routing
from stepstream.contract.inbox import Claim, StepClaimed
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.rows import Lease, Timer, TimerKind
from stepstream.engine.state.tables import lease_key


def grant(draft: Draft, run_id: str, step: str, for_ms: int) -> None:
    """Lease a step, or the whole run when no step is given: its claims are not answered until the lease ends."""
    key = lease_key(run_id, step)
    before = draft.get(key)
    timer = Timer(TimerKind.LEASE, run_id, step)
    if before:
        draft.disarm(before.until, timer)
    until = max(draft.now + for_ms, 1)
    draft.put(key, Lease(until, before.claims if before else ()))
    draft.arm(until, timer)


def defer_claim(draft: Draft, claim: Claim) -> bool:
    """Keep a claim for later if its run or step is leased; return whether it is."""
    key = lease_key(claim.run_id, claim.step if isinstance(claim, StepClaimed) else "")
    lease = draft.get(key)
    if lease is not None and claim not in lease.claims:
        draft.put(key, Lease(lease.until, (*lease.claims, claim)))
    return lease is not None


def release(draft: Draft, run_id: str, step: str = "") -> None:
    """End a lease, if there is one, and answer the claims that arrived meanwhile, each by the state at that time.

    They go through the log, because each answer may be as large as its run.
    """
    key = lease_key(run_id, step)
    lease = draft.get(key)
    if lease is None:
        return
    draft.delete(key)
    draft.disarm(lease.until, Timer(TimerKind.LEASE, run_id, step))
    for claim in lease.claims:
        draft.continue_later(run_routing(run_id), claim)
