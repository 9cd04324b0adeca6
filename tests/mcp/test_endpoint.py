"""Agents over HTTP: an engine serves them at /mcp, and the client of the official package calls it."""

import io
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from mcp import Client as Agent
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from stepstream.api.guards import Keys
from stepstream.host.agents import own_url
from stepstream.host.settings import SettingsError
from stepstream.mcp.endpoint import REQUEST_BYTES_MAX
from stepstream.mcp.modes import McpMode
from stepstream.mcp.tools import ACTING, READING
from stepstream.testing import VirtualEngine
from tests.client.serving import engine_served
from tests.client.shop import app
from tests.mcp.calling import called, refused

NO_KEYS = Keys()
_LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
_ACCEPT = {"Accept": "application/json, text/event-stream", "Authorization": "Bearer api-key"}


@asynccontextmanager
async def agent_over_http(mode: McpMode, api_key: str = "api-key") -> AsyncIterator[tuple[Agent, VirtualEngine]]:
    """Open an agent at the address of an engine."""
    headers = {"Authorization": f"Bearer {api_key}"}
    async with (
        engine_served(app, mcp=mode) as (engine, url),
        create_mcp_http_client(headers) as http,
        Agent(streamable_http_client(f"{url}/mcp", http_client=http)) as agent,
    ):
        yield agent, engine


async def status_of(url: str, body: bytes | dict[str, object], **headers: str) -> tuple[int, str]:
    """Return how an engine answers a request to /mcp."""
    data: dict[str, Any] = {"data": io.BytesIO(body)} if isinstance(body, bytes) else {"json": body}
    async with (
        aiohttp.ClientSession(headers=_ACCEPT) as session,
        session.post(f"{url}/mcp", headers=headers, **data) as response,
    ):
        return response.status, await response.text()


@pytest.mark.slow
async def test_an_agent_over_http_sends_and_reads_why_a_run_waits() -> None:
    """An engine serves the same tools as the command."""
    async with agent_over_http(McpMode.ON) as (agent, engine):
        assert {tool.name for tool in (await agent.list_tools()).tools} == {*READING, *ACTING}
        await called(agent, "send_event", name="order", data={"total": 2}, id="o")
        started = await called(agent, "invoke_function", function="approve", data={"order": 7}, timeout_s=0)
        await engine.until_idle()
        why = await called(agent, "why_run_waits", run_id=started["run_id"])
        assert (why["status"], why["why"][0]["code"]) == ("running", "signal")
        (charged,) = (await called(agent, "list_runs", filter="function:charge"))["runs"]
        assert (await called(agent, "wait_for_run", run_id=charged["run_id"]))["output"] == {"total": 4}


@pytest.mark.slow
async def test_a_read_only_engine_has_no_tool_that_acts() -> None:
    """The mode `read-only` serves what only reads."""
    async with agent_over_http(McpMode.READ_ONLY) as (agent, engine):
        assert {tool.name for tool in (await agent.list_tools()).tools} == {*READING}
        assert "Unknown tool" in await refused(agent, "send_event", name="order")
        await engine.until_idle()
        assert not engine.runs()


@pytest.mark.slow
async def test_agents_need_the_key_of_the_api() -> None:
    """A wrong key is refused; so are large requests, other methods, and every request while the mode is off."""
    async with engine_served(app, mcp=McpMode.ON) as (_, url):
        assert (await status_of(url, _LIST))[0] == 200
        status, text = await status_of(url, _LIST, Authorization="Bearer read-key")
        assert (status, "send the API key" in text) == (401, True)
        status, text = await status_of(url, b" " * (REQUEST_BYTES_MAX + 1))
        assert (status, "at most 1,048,576 are allowed" in text) == (413, True)
        assert (await status_of(url, b"{"))[0] == 400
        async with aiohttp.ClientSession(headers=_ACCEPT) as session, session.get(f"{url}/mcp") as response:
            assert response.status == 405
    async with engine_served(app) as (_, url):
        assert (await status_of(url, _LIST))[0] == 404


@pytest.mark.slow
async def test_without_keys_only_programs_of_this_machine_are_served() -> None:
    """A page of a site, and a name that was rebound to the loopback, are refused."""
    async with engine_served(app, mcp=McpMode.ON, keys=NO_KEYS) as (_, url):
        assert (await status_of(url, _LIST))[0] == 200
        assert (await status_of(url, _LIST, Origin="https://example.com"))[0] == 403
        assert (await status_of(url, _LIST, Host="example.com"))[0] == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 - the test connects to its own socket
def test_the_tools_reach_the_engine_wherever_it_listens(host: str) -> None:
    """All addresses include the loopback."""
    with socket.create_server((host, 0)) as listener:
        assert own_url(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


async def test_an_engine_says_that_the_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, an engine that should serve agents does not start, and says what to install."""
    monkeypatch.delitem(sys.modules, "stepstream.mcp.endpoint", raising=False)
    monkeypatch.setitem(sys.modules, "mcp.server.transport_security", None)
    with pytest.raises(SettingsError, match=r"pip install 'stepstream\[mcp\]'`, or set --mcp off"):
        async with engine_served(app, mcp=McpMode.ON):
            raise AssertionError
