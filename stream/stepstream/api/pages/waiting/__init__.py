"""Pages about what waits, and approvals."""
