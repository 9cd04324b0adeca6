"""Who may send requests: in dev mode any program on this machine, otherwise clients with a signing or an event key."""

from collections.abc import Awaitable, Callable, Mapping

from fastapi import HTTPException, Request

from stepstream.api.guards import foreign_reason, same_key
from stepstream.gateway.rest.parts import RestOptions
from stepstream.gateway.wire.signing import ServerKind


def guard(options: RestOptions) -> Callable[[Request], Awaitable[None]]:
    """Return the check of requests that are not events: SDKs try their fallback key after a 401."""

    async def check(request: Request) -> None:
        if options.kind == ServerKind.DEV:
            return
        authorization = request.headers.get("authorization", "")
        if not any(key.accepts(authorization) for key in options.signing_keys):
            raise HTTPException(401, "the signing key is wrong; set INNGEST_SIGNING_KEY to a key of this server")

    return check


def check_event_key(options: RestOptions, key: str) -> None:
    """Raise a 401 if an event key is not one of those of the server."""
    if options.event_keys and not any(same_key(key, each) for each in options.event_keys):
        raise HTTPException(401, "the event key is wrong; set INNGEST_EVENT_KEY to a key of this server")
    if options.kind == ServerKind.CLOUD and not options.event_keys:
        raise HTTPException(503, "this server has no event keys; give it one")


def refuse_foreign(options: RestOptions) -> Callable[[Request], Awaitable[None]]:
    """Return the check that refuses pages of other sites, and other machines, on a server without authentication."""

    async def check(request: Request) -> None:
        if reason := refusal_of_foreign(options, request.headers):
            raise HTTPException(403, reason)

    return check


def refusal_of_foreign(options: RestOptions, headers: Mapping[str, str]) -> str:
    """Return why a request must not come from where it does; empty if it may."""
    return "" if options.any_host or options.kind == ServerKind.CLOUD else foreign_reason(headers)
