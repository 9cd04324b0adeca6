"""Plain functions and plain bodies in threads."""
