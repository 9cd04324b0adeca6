"""The endpoints for SDKs: rest_routes has those over HTTP, and sdk_site serves them beside the API and the page."""

from fastapi import APIRouter, Depends

from stepstream.gateway.rest.access import guard, refuse_foreign
from stepstream.gateway.rest.cancel_routes import add_cancellations
from stepstream.gateway.rest.checkpoint_routes import add_checkpoints
from stepstream.gateway.rest.event_routes import add_events, add_sending, add_signals
from stepstream.gateway.rest.function_routes import add_functions, add_probes
from stepstream.gateway.rest.graphql_routes import add_graphql
from stepstream.gateway.rest.input_routes import add_inputs
from stepstream.gateway.rest.parts import RestParts
from stepstream.gateway.rest.realtime_routes import add_realtime
from stepstream.gateway.rest.replies import route_class
from stepstream.gateway.rest.run_routes import add_runs
from stepstream.gateway.rest.suite_routes import add_test_endpoints

_OPEN = (add_sending, add_probes)
_GUARDED = (
    *(add_signals, add_events, add_runs, add_inputs, add_cancellations, add_functions, add_realtime, add_graphql),
    *(add_checkpoints, add_test_endpoints),
)


def rest_routes(parts: RestParts) -> APIRouter:
    """Return the endpoints that SDKs and their test suites ask, beside those of registration and Connect.

    Their errors have the form that SDKs parse, also those of routes of other rooms that use `replies.route_class`.
    """
    routes = route_class(parts.options.kind)
    everywhere = [Depends(refuse_foreign(parts.options))]
    router = APIRouter(route_class=routes, dependencies=everywhere)
    for add in _OPEN:
        add(router, parts)
    guarded = APIRouter(route_class=routes, dependencies=[Depends(guard(parts.options))])
    for add in _GUARDED:
        add(guarded, parts)
    router.include_router(guarded)
    return router
