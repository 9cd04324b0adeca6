"""Runs, events, functions and apps in the forms of the GraphQL schema.

A value that costs a query of the read model is a function, which GraphQL calls only if a client asks for the field.
"""

import functools
from collections.abc import Sequence
from typing import Any

from stepstream.contract.events import CRON, EVENT_FIELDS
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.kinds import RunStatus, StepKind
from stepstream.gateway.rest.event_lookups import find_event_json, runs_of_event
from stepstream.gateway.rest.executions import with_executions
from stepstream.gateway.rest.function_routes import function_json, live_functions
from stepstream.gateway.rest.parts import RestParts
from stepstream.gateway.rest.replies import iso
from stepstream.gateway.rest.sdk_shapes import events_of
from stepstream.gateway.rest.spans import Span, json_text, run_output, run_state, spans_of
from stepstream.gateway.rest.step_infos import children_of, step_info
from stepstream.gateway.wire.calls import app_uuid, function_uuid
from stepstream.gateway.wire.internal_events import sdk_name
from stepstream.gateway.wire.registration import without_query
from stepstream.runtime.readmodel.search.filters import Filter
from stepstream.runtime.readmodel.views import RunSummary, RunView

_RUNS_OF_EVENT_MAX = 100
_RUNS_INVOKED_MAX = 1_000


async def find_event(parts: RestParts, id: str) -> dict[str, Any] | None:
    """Return an event by its ULID; None if it is not known."""
    found = await find_event_json(parts, id)
    return event_forms(parts, found) if found else None


def event_forms(parts: RestParts, event: dict[str, Any]) -> dict[str, Any]:
    """Return an event of /v1/events in the forms of Event and EventV2."""

    async def runs(_info: Any) -> list[dict[str, Any]]:
        return [run_fields(run, parts) for run in await runs_of_event(parts, event["id"], _RUNS_OF_EVENT_MAX)]

    # The form of Inngest's dev server: empty fields are missing, except for the version.
    given = {name: event[name] for name in EVENT_FIELDS if event.get(name) or name == "data"}
    payload: dict[str, Any] = dict(sorted({"v": None, **given}.items()))
    return {
        "id": event["internal_id"],
        "idempotencyKey": event["id"],
        "name": event["name"],
        "createdAt": event["received_at"],
        "receivedAt": event["received_at"],
        "occurredAt": iso(event["ts"]),
        "payload": json_text(event["data"]),
        "raw": json_text(payload),
        "version": event.get("v"),
        "functionRuns": runs,
        "runs": runs,
    }


def run_terms(parts: RestParts, given: dict[str, Any]) -> Filter:
    """Return the filter of runs that the fields of RunsFilter describe."""
    requested = set(given.get("functionIDs") or ())
    functions = [each.id for each in parts.engine.overview.functions() if function_uuid(each.id) in requested]
    states = {state.lower() for state in given.get("status") or ()}
    terms = {"after": given.get("from"), "before": given.get("until")}
    found = Filter().having_all({name: str(value) for name, value in terms.items() if value})
    # Each line is an expression, and a run matches all of them.
    for line in filter(None, map(str.strip, str(given.get("query") or "").splitlines())):
        found = found.having_all({"cel": line})
    if requested:
        found = found.having("function", *(functions or ["-"]))
    # Apps do not know of the runs that a limit refused, nor of those whose event a batch has.
    shown = states or set(RunStatus) - {RunStatus.SKIPPED}
    found = found.having("status", *sorted(shown | ({RunStatus.SCHEDULED} if RunStatus.QUEUED in shown else set())))
    return Filter.parse(str(found))


def connection(edges: Sequence[tuple[str, dict[str, Any]]], total: int, *, has_more: bool) -> dict[str, Any]:
    """Return a page of a list, of which each node has its cursor."""
    cursors = [cursor for cursor, _ in edges]
    ends = {"startCursor": cursors[0], "endCursor": cursors[-1]} if cursors else {}
    return {
        "edges": [{"cursor": cursor, "node": node} for cursor, node in edges],
        "pageInfo": {"hasNextPage": has_more, "hasPreviousPage": False, **ends},
        "totalCount": total,
    }


def function_fields(parts: RestParts, function: FunctionRegistered) -> dict[str, Any]:
    """Return a function in the form of Function."""
    shown = function_json(function)
    triggers = [
        {
            "type": "CRON" if "cron" in each else "EVENT",
            "value": each.get("cron") or each.get("event"),
            "condition": each.get("expression"),
        }
        for each in shown["triggers"]
    ]
    app = {"appID": app_uuid(function.app), "app": lambda _info: app_fields(parts, function.app)}
    return {**shown, **app, "triggers": triggers, "concurrency": 0, "url": ""}


def app_fields(parts: RestParts, name: str) -> dict[str, Any]:
    """Return an app in the form of App."""
    functions = [each for each in live_functions(parts) if each.app == name]
    failure = parts.failures.of(name) if parts.failures else None
    return {
        "id": app_uuid(name),
        "externalID": name,
        "name": name,
        "functions": lambda _info: [function_fields(parts, each) for each in functions],
        "functionCount": len(functions),
        "url": without_query(functions[0].endpoint) if functions else failure.url if failure else None,
        "connected": failure is None,
        "error": failure.error if failure else None,
    }


async def run_trace(parts: RestParts, run: RunView, *, preview: bool = True) -> Span:
    """Return the trace of a run, with the metadata of its steps; without `preview` also with its executions."""
    queries = parts.index.queries
    invoked: list[str] = []
    if any(step.kind == StepKind.INVOKE for step in run.steps):
        page = await queries.search(Filter().having("caller", run.run_id), limit=_RUNS_INVOKED_MAX)
        invoked = [child.run_id for child in page.runs]
    info = functools.partial(step_info, run, children=children_of(invoked), recent=parts.recent)
    root, steps = spans_of(run, await queries.logs(run.run_id), info)
    return root if preview else with_executions(run, root, steps)


def run_fields(run: RunSummary, parts: RestParts) -> dict[str, Any]:
    """Return a run in the forms of Run and FunctionRun; what lists of runs do not have is read when it is asked for."""

    async def whole() -> RunView | None:
        return run if isinstance(run, RunView) else await parts.index.queries.show(run.run_id)

    async def output(_info: Any) -> str | None:
        return run_output(found) if (found := await whole()) else None

    async def trace(_info: Any, preview: bool | None = None) -> Span | None:
        return await run_trace(parts, found, preview=preview is not False) if (found := await whole()) else None

    # Suites expect a run to be queued until a worker is connected that can run its code.
    is_queued = (
        isinstance(run, RunView) and run.status == RunStatus.RUNNING and not run.steps and parts.waits(run.run_id)
    )
    events = events_of(run)
    first: dict[str, Any] = next(iter(events), {"id": "", "name": "", "data": {}})
    function = next((each for each in parts.engine.overview.functions() if each.id == run.function), None)
    registered = function or FunctionRegistered(run.function, run.app)
    return {
        "id": run.run_id,
        "name": registered.name or run.function,
        "appID": app_uuid(run.app),
        "app": lambda _info: app_fields(parts, run.app),
        "functionID": function_uuid(run.function),
        "function": lambda _info: function_fields(parts, registered),
        "traceID": run.run_id,
        "queuedAt": iso(run.accepted_at),
        "startedAt": iso(run.started_at),
        "endedAt": iso(run.ended_at),
        "finishedAt": iso(run.ended_at),
        "status": run_state(RunStatus.QUEUED if is_queued else run.status),
        "eventID": first["id"],
        "eventName": first["name"],
        "event": lambda _info: find_event(parts, first["id"]),
        "isBatch": len(events) > 1,
        "batchCreatedAt": iso(run.accepted_at) if len(events) > 1 else None,
        "cronSchedule": first["data"].get("cron") if first["name"] == sdk_name(CRON) else None,
        "hasAI": False,
        "history": [],
        "output": output,
        "trace": trace,
    }
