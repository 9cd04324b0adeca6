"""One HTTP server for our own API and for SDKs, which have some paths in common."""

import re
from collections.abc import Callable, Sequence

from fastapi import APIRouter
from starlette.types import ASGIApp, Receive, Scope, Send

from stepstream.contract.text.names import CLIENT_NAME
from stepstream.gateway.rest.site import sdk_site

# Paths that both have, in another form.
_SHARED = re.compile(r"/(e/[^/]+|v1/signals|v1/runs/[^/]+|v1/events/.+/runs|health)")
_OWN_CLIENT, _SDK = f"{CLIENT_NAME}/".encode(), b"x-inngest-sdk"


def shared_site(own: ASGIApp, routers: Sequence[APIRouter], has_sdk_apps: Callable[[], bool]) -> ASGIApp:
    """Return a site with our own API and the routes of SDKs.

    A path that both have is answered in the form of SDKs to a request of an SDK, and, as some SDKs do not say what they
    are, to all requests except those of our commands once the process has apps of SDKs.
    """
    sdk = sdk_site(own, routers)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        is_shared = scope["type"] == "http" and _SHARED.fullmatch(scope["path"])
        is_ours = headers.get(b"user-agent", b"").startswith(_OWN_CLIENT) or not has_sdk_apps()
        site = own if is_shared and is_ours and _SDK not in headers else sdk
        await site(scope, receive, send)

    return answer
