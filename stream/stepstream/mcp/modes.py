"""Whether an engine serves agents."""

from enum import StrEnum


class McpMode(StrEnum):
    """Whether an engine serves agents by MCP, and whether its tools act."""

    OFF = "off"
    READ_ONLY = "read-only"
    ON = "on"
