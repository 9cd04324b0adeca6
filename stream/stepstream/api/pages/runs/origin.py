"""What a rerun took over from the run that it reruns, and which values were edited for it."""

from collections.abc import Mapping, Sequence

import htpy as h

from stepstream.api.pages.parts.components import note, run_link, text, url
from stepstream.api.pages.parts.context import Site
from stepstream.api.pages.parts.json_changes import json_changes
from stepstream.contract.codec import Json
from stepstream.runtime.readmodel.views import RunView, StepView

_LINKED_MAX = 20


async def former_run(site: Site, run: RunView) -> RunView | None:
    """Return the run that a run with edited values reruns; None for other runs, and if it was dropped."""
    is_edited = _rerun(run).get("edited_data") or _edited_steps(run)
    return await site.runs.queries.show(run.origin) if is_edited else None


def edited_values(run: RunView, former: RunView | None) -> h.Node:
    """Return what was edited for a rerun, each with its changes and a link to the former value; None if nothing.

    `former` is the run that it reruns, None if that was dropped.
    """
    ids, steps = {step.step: step.id for step in run.steps}, _edited_steps(run)
    edited: list[h.Node] = []
    if _rerun(run).get("edited_data"):
        edited.append(["the data of the event, ", _before_event(run), _changed_data(run, former)])
    for step in steps[:_LINKED_MAX]:
        link = _before(run, step)
        edited.append(["the result of ", text(ids.get(step, step)), ", ", link, _changed_result(run, former, step)])
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


def _changed_data(run: RunView, former: RunView | None) -> h.Element | None:
    return json_changes(_data(former), _data(run), "data") if former else None


def _data(run: RunView) -> Json:
    event = run.events[0] if isinstance(run.events, list) and run.events else None
    return event.get("data") if isinstance(event, dict) else None


def _changed_result(run: RunView, former: RunView | None, step: str) -> h.Element | None:
    results = [each.output for of in (former, run) if of for each in of.steps if each.step == step]
    return json_changes(results[0], results[1], "result") if len(results) == 2 else None


def _before(run: RunView, step: str) -> h.Element:
    return h.a(href=f"{url('runs', run.origin, query=[('step', step)])}#step-{step}")["its former result"]


def _before_event(run: RunView) -> h.Element:
    return h.a(href=f"{url('runs', run.origin)}#input")["its former data"]
