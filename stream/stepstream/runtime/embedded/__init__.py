"""The runtime of one process: its log, and the engine with its workers."""
