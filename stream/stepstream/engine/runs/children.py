"""Runs that are cancelled when the run that invoked them ends, or with it at the request of a caller.

The row of a child lasts until the child has answered. A step that no longer waits for it, because it timed out or lost
a race, leaves the row.
"""

from msgspec.structs import replace

from stepstream.contract.inbox import CancelRequested, ChildContinued
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.rows import Child, Run
from stepstream.engine.state.tables import CHILDREN, STEPS, child_key, run_part


def add_child(draft: Draft, run: Run, step: str, child: str) -> None:
    """Note the run that a step invoked."""
    draft.put(child_key(run.run_id, step), Child(child))
    draft.put_run(replace(run, children=run.children + 1))


def forget_child(draft: Draft, run_id: str, step: str) -> None:
    """Delete the run that a step invoked, if it is noted: it has ended."""
    run = draft.run(run_id)
    if run is None or not run.children or draft.get(child_key(run_id, step)) is None:
        return
    draft.delete(child_key(run_id, step))
    draft.put_run(replace(run, children=run.children - 1))


def continue_child(draft: Draft, continued: ChildContinued) -> None:
    """Let a step wait for the successor of the run that it invoked; cancel that one if it must end with this run."""
    run_id, step, child = continued.run_id, continued.step, continued.child
    if draft.run(run_id) is None:
        if continued.ends_with_parent:
            draft.route_to_run(child, CancelRequested(child, parent=run_id))
        return
    if draft.get(child_key(run_id, step)):
        draft.put(child_key(run_id, step), Child(child))
    opened = draft.step(run_id, step)
    if opened and opened.child:
        draft.put_step(run_id, step, opened, replace(opened, child=child))


def cancel_children(draft: Draft, run: Run) -> None:
    """Cancel the open children of a run that ends; each has begun, since its request was sent by the same way."""
    if not run.children:
        return
    for key, child in draft.scan(CHILDREN, run_part(run.run_id)):
        draft.delete(key)
        draft.route_to_run(child.run_id, CancelRequested(child.run_id, parent=run.run_id))


def cancel_awaited(draft: Draft, run: Run) -> None:
    """Cancel the runs that the steps of a run wait for, and the runs that those wait for."""
    for _, opened in draft.scan(STEPS, run_part(run.run_id)):
        if opened.child:
            draft.route_to_run(opened.child, CancelRequested(opened.child, parent=run.run_id, children=True))
