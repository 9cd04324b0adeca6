"""What a rerun took over from the run that it reruns, and what was edited for it."""

from collections.abc import Mapping, Sequence

import htpy as h

from stepstream.api.pages.parts.components import note, run_link, text, url
from stepstream.contract.codec import Json
from stepstream.runtime.readmodel.views import RunView, StepView

_LINKED_MAX = 20


def edited_values(run: RunView) -> h.Node:
    """Return what was edited for a rerun, each with a link to its value in the run that it reruns; None if nothing."""
    ids, steps = {step.step: step.id for step in run.steps}, _edited_steps(run)
    edited: list[h.Node] = [["the data of the event, ", _before_event(run)]] if _rerun(run).get("edited_data") else []
    edited += [["the result of ", text(ids.get(step, step)), ", ", _before(run, step)] for step in steps[:_LINKED_MAX]]
    if len(steps) > _LINKED_MAX:
        edited.append(f"{len(steps) - _LINKED_MAX:,} more results")
    return h.ul(".plain")[[h.li[each] for each in edited]] if edited else None


def edited_event(run: RunView) -> h.Element | None:
    """Return the line above an event whose data was edited for a rerun."""
    if not _rerun(run).get("edited_data"):
        return None
    return note(["The data was edited for this rerun; ", _before_event(run)])


def taken_over(step: StepView, run: RunView) -> h.Node:
    """Return from where the result of a step was taken over, and whether it was edited; None if the step was executed.

    The link leads to the step in the run that has its former result.
    """
    if not step.copied or not run.origin:
        return None
    if step.step in _edited_steps(run):
        return ["edited for this rerun, ", _before(run, step.step)]
    return ["taken over from ", run_link(run.origin)]


def _rerun(run: RunView) -> Mapping[str, Json]:
    return run.rerun if isinstance(run.rerun, dict) else {}


def _edited_steps(run: RunView) -> Sequence[str]:
    steps = _rerun(run).get("edited_steps")
    return [str(step) for step in steps] if isinstance(steps, list) else []


def _before(run: RunView, step: str) -> h.Element:
    return h.a(href=f"{url('runs', run.origin, query=[('step', step)])}#step-{step}")["its former result"]


def _before_event(run: RunView) -> h.Element:
    return h.a(href=f"{url('runs', run.origin)}#input")["its former data"]
