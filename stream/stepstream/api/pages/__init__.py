"""The page: HTML that operators read, rendered on the server, one module per page."""
