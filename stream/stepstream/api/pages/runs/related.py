"""The runs that the page of a run links to: those that it invoked, by their step, and the others of its event."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stepstream.api.pages.parts.context import Site
from stepstream.contract.kinds import StepKind
from stepstream.runtime.readmodel.search.filters import Filter
from stepstream.runtime.readmodel.views import RunSummary, RunView

_INVOKED_MAX = 1_000
_OTHERS_MAX = 50


@dataclass(frozen=True, slots=True)
class Related:
    """The runs that a run invoked, by the hash of their step, and the other runs of its first event."""

    invoked: Mapping[str, Sequence[RunSummary]]
    others: Sequence[RunSummary]


async def related_runs(site: Site, run: RunView) -> Related:
    """Return the runs that are related to a run."""
    ids = event_ids(run)
    others = await _search(site, "event_id", ids[0], _OTHERS_MAX) if ids else []
    return Related(await _invoked(site, run), [other for other in others if other.run_id != run.run_id])


def event_ids(run: RunSummary) -> list[str]:
    """Return the ids of the events that started a run."""
    events = run.events if isinstance(run.events, list) else []
    return [str(event["id"]) for event in events if isinstance(event, dict) and event.get("id")]


async def _invoked(site: Site, run: RunView) -> Mapping[str, Sequence[RunSummary]]:
    found: dict[str, list[RunSummary]] = {}
    if any(step.kind == StepKind.INVOKE for step in run.steps):
        for invoked in await _search(site, "caller", run.run_id, _INVOKED_MAX):
            # The event that starts an invoked run has the id of the step that invoked it.
            for event_id in event_ids(invoked):
                found.setdefault(event_id.removeprefix(f"{run.run_id}:"), []).append(invoked)
    return found


async def _search(site: Site, key: str, value: str, limit: int) -> list[RunSummary]:
    return (await site.runs.queries.search(Filter().having(key, value), limit=limit)).runs
