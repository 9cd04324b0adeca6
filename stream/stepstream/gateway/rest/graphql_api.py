"""Answers GraphQL queries of the test suites of SDKs; other modules load it at the first query."""

import functools
import logging
from collections.abc import Mapping
from typing import Any

from ariadne import MutationType, QueryType, graphql, make_executable_schema
from graphql import DocumentNode, GraphQLError, GraphQLSchema, specified_rules, validate
from graphql.validation import VariablesInAllowedPositionRule

from stepstream.contract.codec import Json, encode
from stepstream.contract.errors import StepstreamError
from stepstream.contract.events import CRON
from stepstream.contract.ids import run_ms
from stepstream.gateway.rest.event_lookups import filtered_events, listed_events
from stepstream.gateway.rest.function_routes import live_functions, start_function
from stepstream.gateway.rest.graphql_fields import (
    app_fields,
    connection,
    event_forms,
    find_event,
    function_fields,
    run_fields,
    run_terms,
    run_trace,
)
from stepstream.gateway.rest.graphql_limits import check_cost, parse_query
from stepstream.gateway.rest.graphql_schema import SCHEMA
from stepstream.gateway.rest.parts import RestParts
from stepstream.gateway.rest.replies import iso
from stepstream.gateway.rest.run_order import RunOrder, listed_runs
from stepstream.gateway.rest.run_routes import find_run
from stepstream.gateway.rest.sdk_shapes import events_of
from stepstream.gateway.rest.spans import json_text, output_of
from stepstream.gateway.rest.step_infos import ulid_of
from stepstream.gateway.wire.internal_events import sdk_name

logger = logging.getLogger(__name__)
# The library would log each query that is refused, with its text and a traceback.
_unlogged = logging.Logger("unlogged")
_unlogged.disabled = True
_PAGE_MAX = 400
# The runs of each event may be asked for.
_STREAM_MAX = 100
_query, _mutation = QueryType(), MutationType()
# Suites write the type of an id as ID, ULID or String, whichever the field has.
_RULES = [rule for rule in specified_rules if rule is not VariablesInAllowedPositionRule]


def _validate(
    items: Mapping[str, int], schema: GraphQLSchema, document_ast: DocumentNode, *_: Any, **_options: Any
) -> list[GraphQLError]:
    check_cost(document_ast, items)
    return validate(schema, document_ast, _RULES)


@functools.cache
def _schema() -> GraphQLSchema:
    return make_executable_schema(SCHEMA, _query, _mutation)


async def answer(parts: RestParts, query: Json) -> dict[str, Any]:
    """Return the answer to a query, with its errors; an operation without a name is the only one of its document."""
    if isinstance(query, dict) and not query.get("operationName"):
        query = {**query, "operationName": None}
    live = live_functions(parts)
    items = {"functions": len(live), "apps": len({each.app for each in live})}
    _, result = await graphql(
        _schema(),
        query,
        context_value=parts,
        query_parser=parse_query,
        query_validator=functools.partial(_validate, items),
        error_formatter=_error,
        logger=_unlogged,
    )
    return result


def _error(error: GraphQLError, _debug: bool) -> dict[str, Any]:
    original = error.original_error
    if original is None or isinstance(original, StepstreamError | GraphQLError):
        return dict(error.formatted)
    logger.error("a field of a GraphQL query failed: %s", error.path, exc_info=original)
    return {**error.formatted, "message": "the server failed to answer this query; see its log"}


@_query.field("run")
async def _run(_: Any, info: Any, runID: str) -> dict[str, Any] | None:
    run = await find_run(info.context, runID)
    return run_fields(run, info.context) if run else None


@_query.field("functionRun")
async def _function_run(_: Any, info: Any, query: dict[str, str]) -> dict[str, Any] | None:
    run = await find_run(info.context, query["functionRunId"])
    return run_fields(run, info.context) if run else None


@_query.field("runTrace")
async def _run_trace(_: Any, info: Any, runID: str) -> dict[str, Any] | None:
    run = await find_run(info.context, runID)
    return await run_trace(info.context, run) if run else None


@_query.field("runTrigger")
async def _run_trigger(_: Any, info: Any, runID: str) -> dict[str, Any] | None:
    parts: RestParts = info.context
    run = await find_run(parts, runID)
    if run is None:
        return None
    events = events_of(run)
    first: dict[str, Any] = next(iter(events), {})
    return {
        # Events of the engine itself, as those of cron, have no ULID.
        "IDs": [ulid_of(parts.recent.internal_id(event["id"])) or run.run_id for event in events],
        "eventName": first.get("name"),
        "payloads": [json_text(event) for event in events],
        # The time in the id of a run is that of its event, and suites expect the event to be earlier.
        "timestamp": iso(run_ms(run.run_id) - 1),
        "isBatch": len(events) > 1,
        "batchID": None,
        "cron": first["data"].get("cron") if first.get("name") == sdk_name(CRON) else None,
    }


@_query.field("runTraceSpanOutputByID")
async def _output(_: Any, info: Any, outputID: str) -> dict[str, Any] | None:
    run_id, _dot, step = outputID.partition(".")
    run = await find_run(info.context, run_id)
    return output_of(run, step) if run else None


@_query.field("event")
async def _event(_: Any, info: Any, query: dict[str, str]) -> dict[str, Any] | None:
    return await find_event(info.context, query["eventId"])


@_query.field("eventV2")
async def _event_v2(_: Any, info: Any, id: str) -> dict[str, Any]:
    found = await find_event(info.context, id)
    if found is None:
        # Suites in Go take null for an event without fields.
        raise GraphQLError(f"there is no event {id!r}")
    return found


@_query.field("events")
async def _latest_events(_: Any, info: Any, **_query: Any) -> list[dict[str, Any]]:
    found = await listed_events(info.context, "", "", _STREAM_MAX)
    return [event_forms(info.context, event) for _at, event in found]


@_query.field("stream")
async def _stream(_: Any, info: Any, query: dict[str, Any]) -> list[dict[str, Any]]:
    found = await listed_events(info.context, "", "", min(max(query["limit"], 1), _STREAM_MAX))
    forms = [event_forms(info.context, event) for _at, event in found]
    return [{**form, "trigger": form["name"], "type": "EVENT", "inBatch": False} for form in forms]


@_query.field("eventsV2")
async def _events(_: Any, info: Any, first: int, after: str | None = None, filter: Any = None) -> dict[str, Any]:
    parts: RestParts = info.context
    found = await filtered_events(parts, filter or {})
    ids = [event["internal_id"] for event in found]
    start = ids.index(after) + 1 if after in ids else 0
    page = found[start : start + min(max(first, 1), _PAGE_MAX)]
    nodes = [event_forms(parts, event) for event in page]
    return connection([(node["id"], node) for node in nodes], len(found), has_more=start + len(page) < len(found))


@_query.field("runs")
async def _runs(
    _: Any, info: Any, orderBy: list[RunOrder], first: int, after: str = "", filter: Any = None, **_preview: Any
) -> dict[str, Any]:
    parts: RestParts = info.context
    terms = run_terms(parts, filter or {})
    page = await listed_runs(parts.index.queries, terms, orderBy, after or "", min(max(first, 1), _PAGE_MAX))
    edges = [(run.run_id, run_fields(run, parts)) for run in page.runs]
    counted = await parts.index.queries.count(terms)
    return connection(edges, counted.runs, has_more=bool(page.next))


@_query.field("functions")
def _functions(_: Any, info: Any) -> list[dict[str, Any]]:
    return [function_fields(info.context, each) for each in live_functions(info.context)]


@_query.field("functionBySlug")
def _function_by_slug(_: Any, info: Any, query: dict[str, str]) -> dict[str, Any] | None:
    found = (each for each in live_functions(info.context) if each.id == query["functionSlug"])
    return next((function_fields(info.context, each) for each in found), None)


@_query.field("apps")
def _apps(_: Any, info: Any, **_filter: Any) -> list[dict[str, Any]]:
    parts: RestParts = info.context
    failing = [each.app for each in parts.failures.all() if each.app] if parts.failures else []
    names = dict.fromkeys([*(each.app for each in live_functions(parts)), *failing])
    return [app_fields(parts, name) for name in names]


@_mutation.field("cancelRun")
async def _cancel_run(_: Any, info: Any, runID: str) -> dict[str, Any] | None:
    parts: RestParts = info.context
    await parts.engine.operator.cancel(runID, by="Inngest API")
    run = await find_run(parts, runID)
    return run_fields(run, parts) if run else None


@_mutation.field("invokeFunction")
async def _invoke(_: Any, info: Any, functionSlug: str, data: Any = None, user: Any = None, **_more: Any) -> bool:
    await start_function(info.context, functionSlug, encode({"data": data, "user": user}))
    return True
