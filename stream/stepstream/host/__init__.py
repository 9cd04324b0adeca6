"""The composition roots: what puts an engine, its runtime and its interface together in one process."""
