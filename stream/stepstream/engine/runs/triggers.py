"""Events start the functions that they trigger, as many at a time as one transition may examine."""

from collections.abc import Iterable

from msgspec.structs import replace

from stepstream.contract.events import OWN_PREFIX
from stepstream.contract.functions import FunctionRegistered, trigger_names
from stepstream.contract.ids import is_sent_event_id
from stepstream.contract.inbox import TriggersContinued
from stepstream.contract.matching import EventRouted
from stepstream.engine.matching.match_budget import Candidate, MatchBudget
from stepstream.engine.runs.admission import request_run, within
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.records import EventReceived
from stepstream.engine.state.tables import triggers_key
from stepstream.expressions.limits import EVALUATION_VISITS_MAX


def receive_event(draft: Draft, received: EventReceived) -> None:
    """Start the functions that the event triggers, and send it to the shard of its name, where waits are matched."""
    derived = received.own and (received.event.name.startswith(OWN_PREFIX) or is_sent_event_id(received.event.id))
    explicit = bool(received.event.id) and not derived
    event = replace(
        received.event,
        id=received.event.id or received.position,
        ts=received.event.ts or within(received.arrived_at, draft.now),
    )
    arrived_at = received.arrived_at if explicit else 0
    continue_triggers(draft, TriggersContinued(event, "", explicit, received.chain, arrived_at))
    draft.route_in_order(event.name, EventRouted(event, received.arrived_at))


def continue_triggers(draft: Draft, due: TriggersContinued) -> None:
    """Start the next functions that an event triggers, until their expressions and their events reach the budget."""
    budget, candidate, last = MatchBudget(draft), Candidate(due.event), due.after
    for function_id, conditions in _conditions(draft, due.event.name, due.after):
        if budget.full:
            draft.continue_later(due.event.name, replace(due, after=last))
            return
        last = function_id
        if _triggers(budget, candidate, conditions) and (function := draft.function(function_id)):
            _start(draft, function, due, budget)


def _conditions(draft: Draft, event: str, after: str) -> Iterable[tuple[str, list[str]]]:
    """Return the functions that events of a name may trigger, with their conditions, in the order of their ids."""
    conditions: dict[str, list[str]] = {}
    for name in trigger_names(event):
        row = draft.get(triggers_key(name))
        for function_id, condition in row.functions if row else ():
            if function_id > after:
                conditions.setdefault(function_id, []).append(condition)
    return sorted(conditions.items())


def _triggers(budget: MatchBudget, candidate: Candidate, conditions: list[str]) -> bool:
    """Return whether one of the conditions of a function holds; an empty one always does."""
    if "" in conditions:
        return True
    fields = {"event": candidate.fields}
    return any(budget.holds(condition, fields, "condition_errors") for condition in conditions)


def _start(draft: Draft, function: FunctionRegistered, due: TriggersContinued, budget: MatchBudget) -> None:
    request_run(
        draft,
        function,
        due.event,
        deduplicated=due.deduplicated,
        chain=due.chain,
        arrived_at=due.arrived_at,
        meter=budget,
    )
    # Each run gets a copy of the event. When it begins, often in this batch, conditions that cancel it are evaluated.
    budget.charge(len(due.event.data))
    for rule in function.cancel_on:
        budget.visits += EVALUATION_VISITS_MAX if rule.condition else 0
