"""The server by which agents see and control runs (MCP)."""
