"""Reservations: a run, or a step that was lent, that a worker still has at work although it has left its group."""

from stepstream.contract.ids import run_routing
from stepstream.contract.inbox import RunClaimed, StepClaimed
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.keys import RESERVED, lease_key, run_part
from stepstream.engine.state.rows import Lease

_TIMER = "reserved:"


def reserve(draft: Draft, run_id: str, step: str, for_ms: int) -> None:
    """Answer no claim of a step, or of the whole run without one, until it is released or the time is over."""
    key = lease_key(run_id, step)
    before = draft.get(Lease, key)
    if before:
        draft.disarm(before.until, run_id, _TIMER + step)
    until = max(draft.now + for_ms, 1)
    draft.put(key, Lease(until, before.claims if before else ()))
    draft.arm(until, "reserved", run_id, _TIMER + step)


def defer(draft: Draft, claim: RunClaimed | StepClaimed) -> bool:
    """Keep a claim for later if what it asks for is reserved; return whether it is."""
    key = lease_key(claim.run_id, claim.step if isinstance(claim, StepClaimed) else "")
    row = draft.get(Lease, key)
    if row is not None and claim not in row.claims:
        draft.put(key, Lease(row.until, (*row.claims, claim)))
    return row is not None


def release(draft: Draft, run_id: str, step: str = "") -> None:
    """Answer the claims that came meanwhile, each by what holds then.

    They go by the log: each answer may be as large as its run, and there may be many.
    """
    key = lease_key(run_id, step)
    row = draft.get(Lease, key)
    if row is None:
        return
    draft.delete(key)
    draft.disarm(row.until, run_id, _TIMER + step)
    for claim in row.claims:
        draft.go_on_later(run_routing(run_id), claim)


def release_all(draft: Draft, run_id: str) -> None:
    """Answer all claims of a run and of its steps: it has ended."""
    for key, _ in draft.scan(Lease, RESERVED, run_part(run_id)):
        release(draft, run_id, key.sort.decode())


def expire(draft: Draft, run_id: str, name: str) -> None:
    """Release what a timer of this name was armed for: its worker has not come to an end."""
    release(draft, run_id, name.removeprefix(_TIMER))
