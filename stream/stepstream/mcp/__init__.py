"""MCP: tools by which agents see and control runs, over standard input and output or at /mcp of an engine."""
