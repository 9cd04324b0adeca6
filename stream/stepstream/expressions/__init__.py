"""The expressions of triggers and waits: CEL, bounded in size and in work."""
