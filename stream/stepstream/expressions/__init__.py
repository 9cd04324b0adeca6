"""The expressions of triggers, waits and sources: CEL, with bounds on size and on work."""
