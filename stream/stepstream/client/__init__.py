"""The clients of an engine over HTTP: they send events, start functions, control runs, and read live streams."""
