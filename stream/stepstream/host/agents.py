"""Serves agents by MCP at the HTTP port of an engine."""

import importlib
import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette

from stepstream.api.bodies import BodyBudget
from stepstream.host.serving import address_of
from stepstream.host.settings import Settings, SettingsError
from stepstream.mcp.modes import McpMode


@asynccontextmanager
async def agents_served(
    api: Starlette, settings: Settings, listener: socket.socket, bodies: BodyBudget
) -> AsyncIterator[None]:
    """Add `POST /mcp` to an API for a block, if the settings ask for it; raise SettingsError without the package.

    Its tools send requests to the API itself, at `listener`.
    """
    if settings.mcp is McpMode.OFF:
        yield
        return
    is_read_only = settings.mcp is McpMode.READ_ONLY
    route = _load().mcp_route(own_url(listener), settings.keys, bodies, is_read_only=is_read_only)
    async with route as added:
        api.router.routes.append(added)
        yield


def own_url(listener: socket.socket) -> str:
    """Return the URL at which this process reaches what it listens on, which may be all addresses."""
    host, port = listener.getsockname()[:2]
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        host = "127.0.0.1" if address.version == 4 else "::1"
    return address_of(host, port)


def _load() -> Any:
    # The package is an extra: only engines that serve agents need it.
    try:
        return importlib.import_module("stepstream.mcp.endpoint")
    except ImportError as error:
        missing = f"mcp: the package mcp is not installed ({error})"
        raise SettingsError(f"{missing}; install it by `pip install 'stepstream[mcp]'`, or set --mcp off") from None
