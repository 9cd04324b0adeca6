"""Calls the tools of an MCP server."""

import json
from typing import Any

from mcp import Client as Agent


async def called(agent: Agent, tool: str, **arguments: Any) -> Any:
    """Return the result of a tool, as an object."""
    result = await agent.call_tool(tool, arguments)
    assert not result.is_error, result.content
    (text,) = result.content
    assert json.loads(getattr(text, "text", "")) == result.structured_content
    return result.structured_content


async def refused(agent: Agent, tool: str, **arguments: Any) -> str:
    """Return the error of a tool."""
    result = await agent.call_tool(tool, arguments)
    assert result.is_error
    return str(getattr(result.content[0], "text", ""))
